//! Spreading, at the receiving end: chunks come unasked, some from the publisher, this node's *stripe*,
//! and the others from those that pass their stripes on.
//!
//! The publisher sends all stripes at the same time. So once this node's stripe is complete, the others
//! are nearly so. A member whose stripe can by its pace be expected much later than the rest could be
//! sent again is *overdue*: its stripe is *repaired*. Everybody asks the publisher for another part of
//! it, and passes that on as if it belonged to its own stripe. Of n members whose stripes come in time,
//! the one whose stripe is the k-th asks for the k-th part. The same is done a little later with stripes
//! of which nothing has come, and with all that is missing once no chunk comes any more. If that does not
//! bring everything, each asks for itself, as for any other artifact.

use core::ops::Range;
use core::time::Duration;

use super::asking::put;
use super::chunk_set::ChunkSet;
use super::holder::{Phase, Request};
use super::offer::Offer;
use super::wanted;
use super::{Transfers, key};
use crate::broadcast::RequestId;
use crate::id::PeerIndex;
use crate::time::Time;
use crate::wire::Ranges;

/// The shortest time without a chunk after which something counts as missing: above what a busy host
/// takes for a turn.
const QUIET_MIN: Duration = Duration::from_millis(20);

/// The longest: about the longest round trip on earth.
const QUIET_MAX: Duration = Duration::from_secs(1);

/// The time in which the first chunk comes: adverts are short, and the stripes of all others may wait before
/// it in the publisher's uplink. 40 of them, of 2 MB in all, take 160 ms at 100 Mbit/s.
const QUIET_FIRST: Duration = Duration::from_millis(250);

/// If hardly anything has come, so many times what it took counts as the time for the rest.
const QUIET_TIMES_MAX: u32 = 4;

/// A member may send so many streams of parts of an artifact at the same time: what it passes on later comes in
/// another one.
const PARTS_MAX: usize = 2;

/// A member sends all others the same chunks, in the same order. So many of them may just be on their way,
/// and have come to some of the others only.
const UNDER_WAY_CHUNKS: u32 = 2;

/// The stripe of one of so many members, of an artifact of so many chunks.
pub(crate) fn stripe(chunks: u32, members: u32, place: u32) -> Range<u32> {
    let start = |place: u32| (u64::from(chunks) * u64::from(place) / u64::from(members)) as u32;
    start(place)..start(place + 1)
}

/// The stripe that begins with a chunk; `None` if there are not so many members.
fn stripe_from(chunks: u32, members: u32, first: u32) -> Option<Range<u32>> {
    // With fewer chunks than members, those without any come before.
    let place = ((u64::from(first) + 1) * u64::from(members)).div_ceil(chunks.into()) as u32 - 1;
    Some(stripe(chunks, members, place)).filter(|stripe| stripe.start == first)
}

/// That an artifact is being spread.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spreading {
    /// The round trip to a member that spreads it.
    round_trip: Duration,
    begun: Time,
    stage: Stage,
    /// Nothing counts as missing before this time.
    quiet_from: Time,
    /// Then what has not come does, even if something still comes: a member may pass on its stripe as
    /// slowly as it likes.
    limit: Time,
}

/// How far it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// Chunks of this node's stripe are still to come.
    Fresh,
    /// The stripe is complete, and has so many chunks. Those that are overdue are to be repaired; from the
    /// time on, if there is one, also those of which nothing has come.
    Complete(u32, Option<Time>),
    /// All that is missing has been asked for as a part of the stripe.
    Repaired,
}

/// What is repaired.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Repair {
    /// Stripes that have come to be overdue. This node's own has so many chunks.
    Overdue(u32),
    /// Those, and the ones of which nothing has come.
    Absent(u32),
    /// All that is missing.
    All,
}

impl Repair {
    /// The number of chunks in this node's stripe, as far as it matters.
    const fn own_stripe(self) -> u32 {
        match self {
            Self::Overdue(own) | Self::Absent(own) => own,
            Self::All => 0,
        }
    }
}

/// What is lost of an artifact, and who repairs it.
struct Survey {
    /// The chunks to be repaired.
    lost: ChunkSet,
    /// Stripes that come in time, this node's among them, and how many of these are before it.
    stripes: u32,
    rank: u32,
    /// The offer of a member that has all.
    whole: Option<u32>,
}

impl Spreading {
    /// The time in which what is missing can be expected if it comes at the pace of what has come.
    fn rest(&self, now: Time, have: u32, chunks: u32) -> Duration {
        let elapsed = now.since(self.begun);
        elapsed.saturating_mul(chunks - have) / have.max(1) + 2 * self.round_trip
    }

    /// When to look for stripes that are overdue again: after an eighth of the time that it took so far,
    /// so that this is done about a dozen times until the limit.
    fn next_review_at(&self, now: Time) -> Time {
        now + (now.since(self.begun) / 8).max(self.round_trip).max(QUIET_MIN)
    }
}

impl Transfers {
    /// The round trip on the connection to a member, as QUIC has it.
    pub(crate) fn note_round_trip(&mut self, now: Time, peer: PeerIndex, round_trip: Duration) {
        self.holder(peer).note_round_trip(now, round_trip);
    }

    /// Whether chunks of an artifact are expected unasked.
    pub(crate) fn is_spreading(&self, at: u32) -> bool {
        self.wanted[at].spreading.is_some()
    }

    /// Makes a request of chunks that a member sends unasked, without saying which ones: those of this
    /// node's stripe, or of its own. `None` if they are of no use, if there is no room, or if too much
    /// comes from the member already.
    pub(crate) fn take_part(
        &mut self,
        now: Time,
        at: u32,
        peer: PeerIndex,
        is_stripe: bool,
    ) -> Option<RequestId> {
        let place = self.free_stream(peer)?;
        let offer = *self.by_key.get(&key(at, peer))?;
        let is_same = |request: &Request| {
            let is_open = request.phase == Phase::Open && request.is_stripe == is_stripe;
            is_open && request.offer == offer
        };
        let same = self.holder(peer).requests.iter().filter(|request| is_same(request)).count();
        if same >= PARTS_MAX || !self.expect_parts(now, at, peer) {
            return None;
        }
        let wanted = &mut self.wanted[at];
        wanted.live += 1;
        self.offers[offer].live += 1;
        let (chunks, span) = (wanted.advert.chunks(), (now, self.timeout));
        let holder = self.holder(peer);
        let request = holder.begin(span, place, Phase::Open, (at, offer), chunks);
        request.expected.fill(chunks);
        (request.is_counted_on, request.is_stripe) = (false, is_stripe);
        Some(RequestId::new(place, request.generation))
    }

    /// An artifact is being spread: its chunks will come unasked. False if they are of no use, or there
    /// is no room for it.
    pub(crate) fn expect_parts(&mut self, now: Time, at: u32, peer: PeerIndex) -> bool {
        let wanted = &self.wanted[at];
        if wanted.stage == wanted::Stage::Begun {
            return wanted.unasked > 0;
        }
        if !self.begin_at_once(now, at, peer) {
            return false;
        }
        let round_trip = self.holder(peer).round_trip();
        let quiet_from = now + round_trip + round_trip / 2;
        let (begun, stage, limit) = (now, Stage::Fresh, Time::NEVER);
        let spreading = Spreading { round_trip, begun, stage, quiet_from, limit };
        self.wanted[at].spreading = Some(spreading);
        self.quiets.set(at as usize, quiet_from);
        true
    }

    /// All chunks of this node's stripe have come. By now those of others are on their way, too. A little
    /// later something of each has come, if a round trip has passed.
    pub(super) fn note_stripe_end(&mut self, now: Time, at: u32, chunks: u32) {
        if let Some(spreading) = &mut self.wanted[at].spreading
            && spreading.stage == Stage::Fresh
        {
            // Where much is to be sent beside it, others take longer, too.
            let span = now.since(spreading.begun);
            spreading.limit = now + 3 * span + 8 * spreading.round_trip;
            // Each chunk of a stripe takes about as long as this node's did.
            let absent_from = now + (span / 4).min(2 * span / chunks);
            let absent_from = absent_from.max(spreading.begun + spreading.round_trip);
            spreading.stage = Stage::Complete(chunks, Some(absent_from));
            self.quiets.bring_forward(at as usize, now);
        }
    }

    /// Looks whether chunks of an artifact that is being spread still come, from everybody.
    pub(super) fn review_spreading(&mut self, now: Time, at: u32) {
        let Some(mut spreading) = self.wanted[at].spreading else {
            return self.quiets.set(at as usize, Time::NEVER);
        };
        let is_quiet = self.quiet_at(at, &spreading) <= now;
        let rest = spreading.rest(now, self.have_count(at), self.wanted[at].advert.chunks());
        let elapsed = now.since(spreading.begun);
        let mut next_review_at = Time::NEVER;
        match spreading.stage {
            Stage::Complete(stripe, absent_from) if !is_quiet => {
                let is_absent = absent_from.is_some_and(|from| from <= now);
                let what = if is_absent { Repair::Absent(stripe) } else { Repair::Overdue(stripe) };
                if self.repair(now, at, what, &spreading) {
                    spreading.quiet_from = now + 2 * spreading.round_trip;
                    spreading.limit = spreading.limit.min(now + rest + elapsed / 4);
                }
                let absent_from = absent_from.filter(|_| !is_absent);
                spreading.stage = Stage::Complete(stripe, absent_from);
                next_review_at =
                    spreading.next_review_at(now).min(absent_from.unwrap_or(Time::NEVER));
            }
            Stage::Fresh if !is_quiet => {}
            Stage::Fresh | Stage::Complete(..) if self.repair(now, at, Repair::All, &spreading) => {
                spreading.stage = Stage::Repaired;
                spreading.quiet_from = now + 2 * spreading.round_trip;
                spreading.limit = now + (8 * spreading.round_trip).max(rest + elapsed / 8);
            }
            Stage::Repaired if !is_quiet => {}
            _ => {
                self.end_spreading(at);
                self.spread.push(self.wanted[at].known);
                return self.queue_all(at);
            }
        }
        self.wanted[at].spreading = Some(spreading);
        let quiet_at = self.quiet_at(at, &spreading);
        self.quiets.set(at as usize, quiet_at.min(next_review_at));
    }

    /// When an artifact that is being spread counts as not coming any more, unless a chunk comes.
    fn quiet_at(&self, at: u32, spreading: &Spreading) -> Time {
        let wanted = &self.wanted[at];
        let (have, chunks) = (self.have_count(at), wanted.advert.chunks());
        let progress_at = wanted.progress_at.max(spreading.begun);
        // A connection that is slow to start brings something in each round trip. Where queues are longer
        // than that, what is missing takes in proportion to what has come. Of that, half or more is
        // missing only at first: a third of the members may be silent.
        let missing =
            (chunks - have).checked_div(have).map(|times| times.clamp(1, QUIET_TIMES_MAX));
        let quiet = missing.map_or(QUIET_FIRST, |times| progress_at.since(spreading.begun) * times);
        let quiet = quiet.max(spreading.round_trip * 3 / 2).clamp(QUIET_MIN, QUIET_MAX);
        spreading.quiet_from.max(progress_at + quiet).min(spreading.limit)
    }

    pub(super) fn end_spreading(&mut self, at: u32) {
        if self.wanted[at].spreading.take().is_some() {
            self.quiets.set(at as usize, Time::NEVER);
        }
    }

    /// Asks a member that has all of an artifact for this node's part of what is to be repaired. False if
    /// nothing is, or nobody can be asked.
    fn repair(&mut self, now: Time, at: u32, what: Repair, spreading: &Spreading) -> bool {
        let Survey { lost, stripes, rank, whole } = self.survey(now, at, what, spreading);
        let is_shared = !lost.is_empty() && stripes > 1;
        let Some(offer) = whole.filter(|_| is_shared) else { return false };
        let (peer, class) = (self.offers[offer].peer, self.wanted[at].class);
        let Some(place) = self.free_request(peer, class) else { return false };
        if self.wanted[at].stripe.is_none() {
            // This node passes nothing on, and leaves it to others.
            return true;
        }
        // What is overdue is asked of others, too, but not of the same member again.
        let holder = self.holders[peer.at()].as_ref().expect("a member");
        let is_asked_for =
            |chunk: u32| holder.asked_word(at, chunk as usize / 64) >> (chunk % 64) & 1 == 1;
        let wanted = &mut self.wanted[at];
        // A chunk is in the same member's part whatever else is lost: not all find out at the same time.
        let block = (wanted.advert.chunks() / self.members_up).div_ceil(stripes).max(1);
        let mut ranges = Ranges::new();
        for chunk in lost.iter() {
            wanted.lost.insert(chunk);
            let is_mine = chunk / block % stripes == rank;
            if is_mine && !wanted.asked.contains(chunk) && !is_asked_for(chunk) {
                // What there is no place for is asked for with all that is missing in the end.
                put(&mut ranges, chunk);
            }
        }
        if ranges.is_empty() {
            return true;
        }
        let chosen = ranges.iter().flat_map(|range| range.chunks());
        self.begin_request(now, offer, (place, Phase::Unsent), chosen);
        let request = &mut self.holder(peer).requests[place];
        (request.ranges, request.is_stripe) = (ranges, true);
        self.asking.push(peer);
        true
    }

    /// Looks at all who offer an artifact: see [`Spreading::next_review_at`].
    fn survey(&mut self, now: Time, at: u32, what: Repair, spreading: &Spreading) -> Survey {
        let wanted = &self.wanted[at];
        let (own, members, chunks) = (wanted.stripe, self.members_up, wanted.advert.chunks());
        let (mut coming, mut lost) = (wanted.asked.clone(), ChunkSet::default());
        lost.reset(chunks);
        let (mut stripes, mut rank, mut whole) = (u32::from(own.is_some()), 0, None);
        let mut next = wanted.offers.front();
        while let Some(offer) = next {
            let wanted = &self.wanted[at];
            next = wanted.offers.next(&mut self.offers, offer);
            let Offer { peer, stripe, have, .. } = self.offers[offer];
            if let Some(first) = stripe {
                let exact = (members > 0).then(|| stripe_from(chunks, members, first)).flatten();
                // With fewer or more members at the publisher, it is about as long as this node's.
                let similar = |own: u32| first..chunks.min(first + own + 1);
                let stripe = exact.unwrap_or_else(|| similar(what.own_stripe()));
                let was_lost = wanted.lost.contains(stripe.end - 1);
                let is_overdue = !was_lost && self.is_overdue(now, at, &stripe, spreading);
                if !was_lost && !is_overdue {
                    stripes += 1;
                    rank += u32::from(Some(first) < own);
                }
                let set = if is_overdue { &mut lost } else { &mut coming };
                stripe.filter(|_| what != Repair::All).for_each(|chunk| set.insert(chunk));
            }
            // Rather one that is not asked for anything of it yet.
            let is_better = whole.is_none_or(|whole: u32| self.offers[whole].live > 0);
            if have.is_none() && is_better && self.holder(peer).up {
                whole = Some(offer);
            }
        }
        if !matches!(what, Repair::Overdue(_)) {
            (0..chunks)
                .filter(|chunk| !coming.contains(*chunk))
                .for_each(|chunk| lost.insert(chunk));
        }
        Survey { lost, stripes, rank, whole }
    }

    /// Whether the rest of a stripe can, by its pace, be expected much later than all that is missing
    /// could be sent again. Of a stripe of two or three chunks that cannot be said.
    fn is_overdue(&self, now: Time, at: u32, stripe: &Range<u32>, spreading: &Spreading) -> bool {
        let wanted = &self.wanted[at];
        let come = stripe.clone().filter(|chunk| wanted.have.contains(*chunk)).count() as u32;
        let come = come + UNDER_WAY_CHUNKS;
        let left = (stripe.len() as u32).saturating_sub(come);
        let elapsed = now.since(spreading.begun);
        let rest = spreading.rest(now, self.have_count(at), wanted.advert.chunks());
        elapsed.saturating_mul(left) / come > 2 * rest + elapsed / 4
    }
}
