//! Transfers: the bytes of wanted artifacts, chunk by chunk, from the members that offer them.
//!
//! An artifact that is wanted waits for room in its channel, oldest of the highest priority first. Once
//! it has room it is *begun*: it stands in the queue of every connected member that offers it. Each
//! holder is asked for as much as it can be expected to send in a few round trips; so several holders
//! of an artifact send different chunks of it at the same time, each as many as it can. A holder is asked
//! for those first that fewest others offer, and each member begins at another one of these.
//!
//! A request that takes longer than expected is *overdue*, if another member can be expected to be
//! faster: what has not come is asked of others too, and whatever comes first is taken. The request
//! itself is not given up before all of it is here, so that a chunk comes from an honest holder at any
//! rate, and slowness is a failure only where there is somebody better to ask. A refusal, a stream that
//! ends too early or a wrong chunk lets the holder rest for `fetch_retry`, and its chunks are asked of
//! others at once.
//!
//! What was verified stays until the artifact is delivered or unwanted, or until the channel's room is
//! needed for another that can make progress, and this one has made none for a while. Invariants 6, 8,
//! 9, 11, 12, 17.

mod asking;
mod backlog;
mod chunk_set;
mod holder;
mod offer;
mod order;
mod queue;
mod room;
mod spreading;
mod wanted;
mod yielding;

pub(crate) use chunk_set::ChunksTold;
pub(crate) use offer::Have;
pub(crate) use spreading::stripe;

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use bytes::Bytes;
use core::time::Duration;
use foldhash::quality::FixedState;
use hashbrown::HashMap;

use crate::arena::{Arena, List};
use crate::artifact::{Advert, Artifact, Proof};
use crate::bits::ones;
use crate::broadcast::{Priority, RequestId};
use crate::config::{Config, Order};
use crate::deadlines::Deadlines;
use crate::id::{ArtifactId, PeerIndex};
use crate::random::Random;
use crate::time::Time;
use crate::trace::Notes;
use crate::wire::{ChunkRange, Ranges};
use backlog::Rank;
use holder::{Holder, Phase, Request};
use offer::{Offer, Place, PlaceChain};
use room::Room;
use wanted::{Stage, Wanted};
use yielding::Yielding;

/// Classes of channels: requests of one leave those of another alone.
const CLASSES: usize = 3;

/// Offers of an artifact that are looked at for a decision, so that it costs the same however many
/// members offer it.
const OFFERS_LOOKED_AT: usize = 8;

/// A request to be put on the wire.
pub(crate) enum Unsent {
    Fetch { request: RequestId, known: u32, ranges: Ranges },
    Cancel { request: RequestId },
}

/// What a chunk has brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Received {
    pub(crate) transfer: u32,
    pub(crate) known: u32,
    /// The chunk was missing.
    pub(crate) is_new: bool,
    /// It belongs to this node's stripe: to be passed on.
    pub(crate) is_of_stripe: bool,
    /// Nothing more is needed of this answer.
    pub(crate) is_answered: bool,
    /// All chunks of the artifact are here.
    pub(crate) is_complete: bool,
}

/// See the module's head.
pub(crate) struct Transfers {
    wanted: Arena<Wanted>,
    /// Artifacts that were wanted so far.
    serial: u64,
    offers: Arena<Offer>,
    /// Offers by artifact and member.
    by_key: HashMap<u64, u32, FixedState>,
    holders: Vec<Option<Holder>>,
    /// The number of those that are connected.
    members_up: u32,
    /// Members, this node included, and how many of them have a lower id.
    members: u32,
    rank: u32,
    /// By channel.
    rooms: Vec<Room>,
    /// Bit set: something may begin in the channel.
    rooms_due: u64,
    /// When room may be taken from what makes no progress, by channel.
    room_checks: Deadlines,
    yielding: Yielding,
    /// Holders that may have to be asked for more, each once.
    due: VecDeque<PeerIndex>,
    /// [`Place::Resting`], in the order in which it ends (the pause is the same for all).
    resting: List<PlaceChain>,
    /// When requests are to be reviewed, by member.
    reviews: Deadlines,
    /// When chunks of what is being spread may be missing, by transfer.
    quiets: Deadlines,
    /// Members for which there are requests to be sent since this was last looked at.
    pub(crate) asking: Vec<PeerIndex>,
    /// Requests whose answers are to be stopped.
    pub(crate) stops: Vec<(PeerIndex, RequestId)>,
    /// What has become of requests, to be traced: empty between inputs.
    pub(crate) notes: Notes,
    /// Artifacts of which chunks were here and were told of, and are not here any more.
    pub(crate) lost: Vec<u32>,
    /// Artifacts that have not come whole by being spread: others are to be told of what has come.
    pub(crate) spread: Vec<u32>,
    /// Artifacts of which this node has been sent what is to come of its stripe for now.
    pub(crate) stripe_ends: Vec<u32>,
    random: Random,
    /// Requests to a holder in each class, and what it may send unasked at the same time.
    requests_max: usize,
    streams_max: usize,
    timeout: Duration,
    retry: Duration,
}

fn key(wanted: u32, peer: PeerIndex) -> u64 {
    u64::from(wanted) << 16 | u64::from(peer.0)
}

impl Transfers {
    pub(crate) fn new(config: &Config, hasher: &FixedState, seed: u64) -> Self {
        Self {
            wanted: Arena::new(),
            serial: 0,
            offers: Arena::new(),
            by_key: HashMap::with_hasher(hasher.clone()),
            holders: Vec::new(),
            members_up: 0,
            members: 1,
            rank: 0,
            rooms: config.channels.iter().map(Room::new).collect(),
            rooms_due: 0,
            room_checks: Deadlines::new(),
            yielding: Yielding::default(),
            due: VecDeque::new(),
            resting: List::default(),
            reviews: Deadlines::new(),
            quiets: Deadlines::new(),
            asking: Vec::new(),
            stops: Vec::new(),
            notes: Notes::default(),
            lost: Vec::new(),
            spread: Vec::new(),
            stripe_ends: Vec::new(),
            random: Random::new(seed),
            requests_max: config.fetches_per_peer_max.into(),
            streams_max: config.streamed_per_peer_max.into(),
            timeout: config.fetch_timeout,
            retry: config.fetch_retry,
        }
    }

    // Members.

    pub(crate) fn add_peer(&mut self, peer: PeerIndex, is_lower: bool) {
        self.members += 1;
        self.rank += u32::from(is_lower);
        if self.holders.len() <= peer.at() {
            self.holders.resize_with(peer.at() + 1, || None);
        }
        self.holders[peer.at()] = Some(Holder::new(self.rooms.len()));
    }

    /// A former member, which is down and whose offers have been withdrawn.
    pub(crate) fn remove_peer(&mut self, peer: PeerIndex, is_lower: bool) {
        self.members -= 1;
        self.rank -= u32::from(is_lower);
        let holder = self.holders[peer.at()].take().expect("a member is removed once");
        assert!(!holder.up, "peer_down comes first");
        let is_answerable = holder.answerable.iter().any(|bytes| *bytes > 0);
        assert!(!is_answerable, "its offers have been withdrawn");
        self.rooms.iter_mut().for_each(|room| room.holding_back.remove(peer));
        self.due.retain(|due| *due != peer);
        self.reviews.set(peer.at(), Time::NEVER);
    }

    /// Its offers are to be handed in again with [`Transfers::offer`].
    pub(crate) fn peer_up(&mut self, peer: PeerIndex) {
        self.holder(peer).up = true;
        self.members_up += 1;
    }

    /// Ends all requests to a member, which is asked for nothing until it is up again.
    pub(crate) fn peer_down(&mut self, peer: PeerIndex) {
        self.holder(peer).up = false;
        self.members_up -= 1;
        for at in 0..self.holder(peer).requests.len() {
            let Request { phase, transfer, .. } = self.holder(peer).requests[at];
            match phase {
                Phase::Free => {}
                Phase::Cancelled => self.holder(peer).end(at),
                Phase::Unsent | Phase::Sent | Phase::Streamed | Phase::Open => {
                    self.end_request(peer, at);
                    self.queue_all(transfer);
                }
            }
        }
        while let Some(offer) = self.holder(peer).first_placed() {
            self.displace(offer);
        }
        // What only this member was to bring holds up nothing any more.
        (0..self.rooms.len()).for_each(|channel| self.rooms_due |= 1 << channel);
        self.reviews.set(peer.at(), Time::NEVER);
        self.forget_late(peer);
        self.stops.retain(|(stopped, _)| *stopped != peer);
    }

    fn holder(&mut self, peer: PeerIndex) -> &mut Holder {
        self.holders[peer.at()].as_mut().expect("a member")
    }

    // What is wanted, and who offers it.

    /// An artifact is wanted. `known` is what the caller calls it. Those who offer it are to be told of
    /// with [`Transfers::offer`].
    pub(crate) fn want(
        &mut self,
        known: u32,
        channel: u16,
        priority: Priority,
        advert: Advert,
    ) -> u32 {
        let Room { class, order, .. } = self.rooms[channel as usize];
        let (key, serial) = (advert.key.unwrap_or(0), self.serial);
        let rank = (order == Order::HighestKeyFirst).then_some(Rank { channel, key, serial });
        self.serial += 1;
        self.wanted.insert(Wanted::new(known, channel, (class, priority as usize, rank), advert))
    }

    pub(crate) fn set_priority(&mut self, at: u32, priority: Priority) {
        let wanted = &mut self.wanted[at];
        let was = core::mem::replace(&mut wanted.priority, priority as usize);
        if was == wanted.priority {
            return;
        }
        if wanted.stage == Stage::Waiting {
            let (room, new) = (&mut self.rooms[wanted.channel as usize], wanted.priority);
            room.waiting[was].remove(&mut self.wanted, at);
            room.waiting[new].push(&mut self.wanted, at);
        }
        let mut next = self.wanted[at].offers.front();
        while let Some(offer) = next {
            next = self.wanted[at].offers.next(&mut self.offers, offer);
            if let Place::Queued { .. } = self.offers[offer].place {
                self.displace(offer);
                self.queue(offer);
            }
        }
    }

    /// A member offers chunks of an artifact: for the first time, or others than before, or again.
    pub(crate) fn offer(&mut self, at: u32, peer: PeerIndex, have: Have) {
        let offer = match self.by_key.get(&key(at, peer)) {
            Some(offer) => *offer,
            None => {
                let rank = self.wanted[at].rank;
                let offer = self.offers.insert(Offer::new((at, rank), peer, have));
                self.wanted[at].offers.push_back(&mut self.offers, offer);
                self.wanted[at].offered += 1;
                self.by_key.insert(key(at, peer), offer);
                offer
            }
        };
        self.offers[offer].have = have;
        if let Place::Resting(_) = self.offers[offer].place {
            self.displace(offer);
        }
        self.open(offer);
    }

    /// A member does not offer an artifact any more.
    pub(crate) fn withdraw_offer(&mut self, at: u32, peer: PeerIndex) {
        let Some(offer) = self.by_key.get(&key(at, peer)).copied() else { return };
        self.remove_offer(offer);
        if self.wanted[at].answerable == Some(peer) {
            self.hand_over(at);
        }
        self.queue_all(at);
    }

    fn remove_offer(&mut self, offer: u32) {
        self.displace(offer);
        self.cancel_all(offer);
        let Offer { transfer, peer, .. } = self.offers[offer];
        self.wanted[transfer].offers.remove(&mut self.offers, offer);
        self.wanted[transfer].offered -= 1;
        self.by_key.remove(&key(transfer, peer));
        self.offers.remove(offer);
    }

    /// An artifact is not wanted any more: ends its requests, and frees what was received.
    pub(crate) fn give_up(&mut self, at: u32) {
        let Wanted { known, is_passed_on, .. } = self.end_wanted(at);
        if is_passed_on {
            self.lost.push(known);
        }
    }

    /// Whether this node tells others of the chunks that it has of an artifact. If so, and they are lost,
    /// the artifact is named in `lost`.
    pub(crate) fn set_passed_on(&mut self, at: u32, is_passed_on: bool) {
        self.wanted[at].is_passed_on = is_passed_on;
    }

    /// Whether others have not been told of an artifact's chunks before. From now on they have.
    pub(crate) fn take_first_telling(&mut self, at: u32) -> bool {
        !core::mem::replace(&mut self.wanted[at].was_told, true)
    }

    /// The number of chunks that are here.
    pub(crate) fn have_count(&self, at: u32) -> u32 {
        self.wanted[at].advert.chunks() - self.wanted[at].missing
    }

    /// The chunks that are here, of an artifact that has at most
    /// [`CHUNKS_PREFERRED_MAX`](crate::artifact::CHUNKS_PREFERRED_MAX).
    pub(crate) fn have(&self, at: u32) -> ChunksTold {
        self.wanted[at].have.told()
    }

    pub(crate) fn has_all(&self, at: u32, range: ChunkRange) -> bool {
        range.chunks().all(|chunk| self.wanted[at].have.contains(chunk))
    }

    /// A chunk that is here, and what proves it.
    pub(crate) fn chunk(&self, at: u32, chunk: u32) -> (Bytes, Proof) {
        self.wanted[at].held.as_ref().expect("begun").chunk(chunk)
    }

    /// When the first byte came of what is here of an artifact.
    pub(crate) fn first_byte_at(&self, at: u32) -> Option<Time> {
        self.wanted[at].first_byte_at
    }

    /// Whether some chunks of an artifact are here.
    pub(crate) fn is_partial(&self, at: u32) -> bool {
        self.wanted[at].held.as_ref().is_some_and(|held| held.bytes > 0)
    }

    /// The artifact all chunks of which are here. It is not wanted any more.
    pub(crate) fn take_complete(&mut self, at: u32, id: ArtifactId) -> Artifact {
        self.end_wanted(at).into_artifact(id)
    }

    fn end_wanted(&mut self, at: u32) -> Wanted {
        while let Some(offer) = self.wanted[at].offers.front() {
            self.remove_offer(offer);
        }
        self.leave_room(at);
        self.wanted.remove(at)
    }

    /// An offer may have become one that can be used.
    fn open(&mut self, offer: u32) {
        let Offer { transfer, peer, place, .. } = self.offers[offer];
        if place != Place::Idle || !self.holder(peer).up {
            return;
        }
        match self.wanted[transfer].stage {
            Stage::Unavailable => self.wait_for_room(transfer),
            Stage::Waiting => {}
            Stage::Begun if self.wanted[transfer].unasked == 0 => {}
            Stage::Begun if self.is_spreading(transfer) => {}
            Stage::Begun => self.queue(offer),
        }
    }

    /// Puts an idle offer of a begun artifact into the queue of its holder.
    fn queue(&mut self, offer: u32) {
        let Offer { transfer, peer, .. } = self.offers[offer];
        let wanted = &self.wanted[transfer];
        let (class, priority, segment) = (wanted.class, wanted.priority, wanted.segment());
        let holder = self.holders[peer.at()].as_mut().expect("a member");
        holder.queues[class][priority].push(&mut self.offers, segment, offer);
        self.offers[offer].place = Place::Queued { priority, segment };
        self.note_due(peer);
    }

    /// Chunks of an artifact are to be asked for (again): of whoever has them.
    fn queue_all(&mut self, at: u32) {
        if self.wanted[at].stage != Stage::Begun || self.wanted[at].unasked == 0 {
            return;
        }
        let mut next = self.wanted[at].offers.front();
        while let Some(offer) = next {
            next = self.wanted[at].offers.next(&mut self.offers, offer);
            if self.offers[offer].place == Place::HeldBack {
                // Room has been taken in the name of another one.
                self.displace(offer);
            }
            self.open(offer);
        }
    }

    /// Takes an offer out of the list that it is in.
    fn displace(&mut self, offer: u32) {
        let Offer { transfer, peer, place, .. } = self.offers[offer];
        let Wanted { channel, class, .. } = self.wanted[transfer];
        let holder = self.holders[peer.at()].as_mut().expect("a member");
        match place {
            Place::Idle => return,
            Place::Queued { priority, segment } => {
                holder.queues[class][priority].remove(&mut self.offers, segment, offer);
                self.recheck_late(peer, class);
            }
            Place::Resting(_) => self.resting.remove(&mut self.offers, offer),
            Place::HeldBack => {
                holder.held_back[channel as usize].offers.remove(&mut self.offers, offer);
            }
        }
        self.offers[offer].place = Place::Idle;
    }

    /// An offer is not used for a while.
    fn rest(&mut self, now: Time, offer: u32) {
        self.displace(offer);
        self.offers[offer].place = Place::Resting(now + self.retry);
        self.resting.push_back(&mut self.offers, offer);
    }

    fn note_due(&mut self, peer: PeerIndex) {
        if !core::mem::replace(&mut self.holder(peer).is_due, true) {
            self.due.push_back(peer);
        }
    }

    // Time.

    pub(crate) fn wake_at(&self) -> Time {
        let rested = self.resting.front().map(|offer| self.offers[offer].place);
        let rested_at = match rested {
            Some(Place::Resting(at)) => at,
            _ => Time::NEVER,
        };
        let review_at = self.reviews.earliest().min(self.quiets.earliest());
        rested_at.min(review_at).min(self.room_checks.earliest()).min(self.next_turn_at())
    }

    /// Lets time pass, and makes the requests that are possible now.
    pub(crate) fn advance(&mut self, now: Time) {
        loop {
            while let Some(offer) = self.resting.front()
                && let Place::Resting(at) = self.offers[offer].place
                && at <= now
            {
                self.displace(offer);
                self.open(offer);
            }
            while let Some(channel) = self.room_checks.due(now) {
                self.room_checks.set(channel, Time::NEVER);
                self.rooms_due |= 1 << channel;
            }
            while let Some(peer) = self.reviews.due(now) {
                self.review_holder(now, PeerIndex(peer as u16));
            }
            while let Some(at) = self.quiets.due(now) {
                self.review_spreading(now, at as u32);
            }
            self.make_requests(now);
            if self.wake_at() > now {
                break;
            }
        }
    }

    fn make_requests(&mut self, now: Time) {
        loop {
            if let Some(channel) = ones(self.rooms_due).next() {
                self.rooms_due &= !(1 << channel);
                self.begin_waiting(now, channel);
            } else if let Some(peer) = self.due.pop_front() {
                self.holder(peer).is_due = false;
                if self.holder(peer).up {
                    self.ask_more(now, peer);
                }
            } else if let Some(peer) = self.next_passed_over(now) {
                self.ask_more(now, peer);
            } else {
                break;
            }
        }
    }

    // For tests.

    pub(crate) fn len(&self) -> usize {
        self.wanted.len()
    }

    pub(crate) fn known(&self, at: u32) -> u32 {
        self.wanted[at].known
    }

    pub(crate) fn is_offered(&self, at: u32, peer: PeerIndex) -> bool {
        self.by_key.contains_key(&key(at, peer))
    }

    #[cfg(feature = "internals")]
    pub(crate) fn explain(&self, at: u32) -> alloc::string::String {
        let wanted = &self.wanted[at];
        let offers = self.offers.indices().map(|offer| &self.offers[offer]);
        let offers = offers.filter(|offer| offer.transfer == at).map(|offer| {
            let holder = self.holders[offer.peer.at()].as_ref().expect("a member");
            let phases = holder.requests.iter().filter(|request| request.is_live_for(at));
            let phases: Vec<Phase> = phases.map(|request| request.phase).collect();
            let Offer { peer, place, .. } = offer;
            alloc::format!("peer {} {place:?} {phases:?}, up: {}", peer.0, holder.up)
        });
        let offers: Vec<_> = offers.collect();
        let Wanted { missing, unasked, spreading, answerable, .. } = wanted;
        alloc::format!(
            "{:?}, {missing} missing, {unasked} unasked, {answerable:?} answerable, {spreading:?}; \
             {offers:?}",
            wanted.stage
        )
    }

    /// What is begun in a channel.
    #[cfg(feature = "internals")]
    pub(crate) fn begun(&self, channel: u16) -> Vec<u32> {
        let begun = self.wanted.indices().filter(|at| {
            self.wanted[*at].channel == channel && self.wanted[*at].stage == Stage::Begun
        });
        begun.collect()
    }

    pub(crate) fn assert_invariants(&self) {
        let mut answerable = alloc::collections::BTreeMap::<(u16, usize), u64>::new();
        let mut begun_bytes = alloc::vec![0; self.rooms.len()];
        for at in self.wanted.indices() {
            let wanted = &self.wanted[at];
            assert_eq!(wanted.held.is_some(), wanted.stage == Stage::Begun);
            if wanted.stage != Stage::Begun {
                assert_eq!(wanted.live, 0);
                continue;
            }
            let length = wanted.advert.length;
            begun_bytes[wanted.channel as usize] += length;
            if let Some(peer) = wanted.answerable {
                *answerable.entry((peer.0, wanted.channel as usize)).or_default() += length;
            }
            let chunks = wanted.advert.chunks();
            assert!(wanted.have.is_subset(&wanted.asked));
            assert_eq!(wanted.missing, chunks - wanted.have.count());
            assert_eq!(wanted.unasked, chunks - wanted.asked.count());
        }
        for (room, begun) in self.rooms.iter().zip(begun_bytes) {
            assert_eq!(room.begun_bytes, begun, "invariant 8");
        }
        for offer in self.offers.indices() {
            let Offer { transfer, peer, place, live, .. } = self.offers[offer];
            assert_eq!(self.by_key.get(&key(transfer, peer)), Some(&offer));
            let holder = self.holders[peer.at()].as_ref().expect("a member");
            let requests = holder.requests.iter().filter(|request| request.is_live_for(transfer));
            assert_eq!(requests.count(), usize::from(live));
            let wanted = &self.wanted[transfer];
            match place {
                Place::Queued { .. } => assert!(holder.up && wanted.stage == Stage::Begun),
                Place::Idle if holder.up && wanted.stage == Stage::Begun => {}
                _ => {}
            }
        }
        for (at, holder) in self.holders.iter().enumerate() {
            let Some(holder) = holder else { continue };
            holder.assert_outstanding();
            for (channel, bytes) in holder.answerable.iter().enumerate() {
                let own = answerable.get(&(at as u16, channel)).copied().unwrap_or(0);
                assert_eq!(*bytes, own, "invariant 8");
            }
        }
    }
}
