//! Spreading, at the receiving end: chunks come unasked, some from the publisher, this node's *stripe*,
//! and the others from those that pass their stripes on.
//!
//! Once this node's stripe is complete, all others have passed on something. Stripes of which nothing
//! has come are then *repaired*: everybody asks the publisher for another part of what is missing, as if
//! it belonged to its own stripe. Of n members that pass something on, the one whose stripe is the k-th
//! asks for the k-th part. The same happens once no chunk comes any more. If that does not bring
//! everything, each asks for itself, as for any other artifact.

use core::ops::Range;
use core::time::Duration;

use super::asking::put;
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

/// The stripe of one of so many members, of an artifact of so many chunks.
pub(crate) fn stripe(chunks: u32, members: u32, place: u32) -> Range<u32> {
    let start = |place: u32| (u64::from(chunks) * u64::from(place) / u64::from(members)) as u32;
    start(place)..start(place + 1)
}

/// The stripe that begins with a chunk; `None` if there are not so many members.
fn stripe_from(chunks: u32, members: u32, first: u32) -> Option<Range<u32>> {
    let place = (u64::from(first) * u64::from(members)).div_ceil(chunks.into()) as u32;
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
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Stage {
    /// Chunks of this node's stripe are still to come.
    Fresh,
    /// The stripe is complete, and has so many chunks. What of others has not begun is to be repaired.
    Complete(u32),
    /// That has been done.
    Begun,
    /// All that is missing has been asked for as a part of the stripe.
    Repaired,
}

impl Transfers {
    /// The round trip on the connection to a member, as QUIC has it.
    pub(crate) fn note_round_trip(&mut self, peer: PeerIndex, round_trip: Duration) {
        self.holder(peer).note_round_trip(round_trip);
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
        if self.holder(peer).requests.iter().any(is_same) || !self.expect_parts(now, at, peer) {
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

    /// All chunks of this node's stripe have come. By now something of each other one is here, too, if a
    /// round trip has passed.
    pub(super) fn note_stripe_end(&mut self, now: Time, at: u32, chunks: u32) {
        if let Some(spreading) = &mut self.wanted[at].spreading
            && spreading.stage == Stage::Fresh
        {
            spreading.stage = Stage::Complete(chunks);
            // Where much is to be sent beside it, others take longer, too.
            let span = now.since(spreading.begun);
            spreading.limit = now + 3 * span + 8 * spreading.round_trip;
            let review_at = now + span / 4;
            let review_at = review_at.max(spreading.begun + spreading.round_trip);
            self.quiets.bring_forward(at as usize, review_at);
        }
    }

    /// Looks whether chunks of an artifact that is being spread still come, from everybody.
    pub(super) fn review_spreading(&mut self, now: Time, at: u32) {
        let wanted = &self.wanted[at];
        let Some(mut spreading) = wanted.spreading else {
            return self.quiets.set(at as usize, Time::NEVER);
        };
        let (have, chunks) = (self.have_count(at), wanted.advert.chunks());
        let progress_at = wanted.progress_at.max(spreading.begun);
        // A connection that is slow to start brings something in each round trip. Where queues are longer
        // than that, what is missing takes in proportion to what has come. Of that, half or more is
        // missing only at first: a third of the members may be silent.
        let missing =
            (chunks - have).checked_div(have).map(|times| times.clamp(1, QUIET_TIMES_MAX));
        let quiet = missing.map_or(QUIET_FIRST, |times| progress_at.since(spreading.begun) * times);
        let quiet = quiet.max(spreading.round_trip * 3 / 2).clamp(QUIET_MIN, QUIET_MAX);
        let quiet_at = spreading.quiet_from.max(progress_at + quiet).min(spreading.limit);
        let is_quiet = quiet_at <= now;
        if let Stage::Complete(stripe) = spreading.stage
            && !is_quiet
        {
            spreading.stage = Stage::Begun;
            if self.repair(now, at, Some(stripe)) {
                spreading.quiet_from = now + 2 * spreading.round_trip;
            }
        } else if is_quiet && spreading.stage < Stage::Repaired && self.repair(now, at, None) {
            spreading.stage = Stage::Repaired;
            spreading.quiet_from = now + 2 * spreading.round_trip;
            spreading.limit = now + 8 * spreading.round_trip;
        } else if is_quiet {
            self.end_spreading(at);
            self.spread.push(self.wanted[at].known);
            return self.queue_all(at);
        }
        self.wanted[at].spreading = Some(spreading);
        let quiet_at = spreading.quiet_from.max(progress_at + quiet);
        self.quiets.set(at as usize, quiet_at.min(spreading.limit));
    }

    pub(super) fn end_spreading(&mut self, at: u32) {
        if self.wanted[at].spreading.take().is_some() {
            self.quiets.set(at as usize, Time::NEVER);
        }
    }

    /// Asks a member that has all of an artifact for this node's part of what is missing; with the
    /// length of a stripe, only of those of which nothing has come. False if nothing is missing, or
    /// nobody can be asked. Looks at all who offer it, twice for each artifact at most.
    fn repair(&mut self, now: Time, at: u32, stripe_chunks: Option<u32>) -> bool {
        let own = self.wanted[at].stripe;
        let members = self.members_up;
        if members == 0 {
            return false;
        }
        let (mut stripes, mut rank, mut whole) = (u32::from(own.is_some()), 0, None);
        let mut coming = self.wanted[at].asked.clone();
        let chunks = self.wanted[at].advert.chunks();
        let mut next = self.wanted[at].offers.front();
        while let Some(offer) = next {
            next = self.wanted[at].offers.next(&mut self.offers, offer);
            let Offer { peer, stripe, have, .. } = self.offers[offer];
            if let Some(first) = stripe {
                stripes += 1;
                rank += u32::from(stripe < own);
                // With fewer or more members at the publisher, it is about as long as this node's.
                let similar = |own: u32| first..chunks.min(first + own + 1);
                let exact = || stripe_from(chunks, members, first);
                let left = stripe_chunks.map_or(0..0, |own| exact().unwrap_or(similar(own)));
                left.for_each(|chunk| coming.insert(chunk));
            }
            // Rather one that is not asked for anything of it yet.
            let is_better = whole.is_none_or(|whole: u32| self.offers[whole].live > 0);
            if have.is_none() && is_better && self.holder(peer).up {
                whole = Some(offer);
            }
        }
        let missing = chunks - coming.count();
        let is_shared = missing > 0 && stripes > 1;
        let Some(offer) = whole.filter(|_| is_shared) else { return false };
        let (peer, class) = (self.offers[offer].peer, self.wanted[at].class);
        let Some(place) = self.free_request(peer, class) else { return false };
        if own.is_none() {
            // This node passes nothing on, and leaves it to others.
            return true;
        }
        let part = missing * rank / stripes..missing * (rank + 1) / stripes;
        let all = (0..chunks).filter(|chunk| !coming.contains(*chunk));
        let mut ranges = Ranges::new();
        // What is overdue is asked of others, too, but not of the same member again.
        let holder = self.holders[peer.at()].as_ref().expect("a member");
        let is_asked_for =
            |chunk: u32| holder.asked_word(at, chunk as usize / 64) >> (chunk % 64) & 1 == 1;
        for chunk in all.skip(part.start as usize).take(part.len()) {
            if is_asked_for(chunk) {
                continue;
            }
            if !put(&mut ranges, chunk) {
                break;
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
}
