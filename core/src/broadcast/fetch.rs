//! Fetching: which artifact is asked of which holder, and the chunks that come back.
//!
//! A wanted artifact waits in the queue of the holder that is expected to have sent it first. When
//! the holder has a request to spare and the channel has room for the bytes, the request goes out;
//! each chunk is checked when it arrives. A refusal, a broken stream or a wrong chunk moves the
//! artifact on to the next holder at once; when all have failed, they are asked again after a pause.
//!
//! However slow a holder is, what it was asked for is not given up while there is nobody better to
//! ask. A request is reviewed every `fetch_timeout`. The artifact moves on if another connected
//! holder, which was not left or failed in this round, can be expected to have sent the rest in half
//! the time, as far as what both have sent says; from a holder of which next to nothing has come, it
//! moves on to any other. When there is none, the request stays and a new round begins, in which all
//! may be asked again. Each round without a chunk doubles the time between reviews, so that a chunk
//! comes from an honest holder at any rate, whatever others promise and do not keep. A member that
//! begins to advertise the artifact or comes back takes over from a silent holder at once.
//!
//! What was received stays, whatever happens to the holder: until the artifact is delivered or
//! unwanted, or until the channel's room is needed for another that can make progress, and this one
//! makes none. Invariants 6, 8, 9, 12, 17 (as far as a prefix goes).

use alloc::vec::Vec;
use bytes::Bytes;
use core::time::Duration;

use super::catalogue::{Catalogue, FetchChain, State};
use super::holder::{Holder, NEVER, Phase, ROUNDS_MAX, Request};
use super::queued::Queued;
use super::{Priority, RequestId, work};
use crate::arena::{Arena, List};
use crate::artifact::{Artifact, PartialTree};
use crate::config::Config;
use crate::deadlines::Deadlines;
use crate::error::Fault;
use crate::id::PeerIndex;
use crate::time::Time;
use crate::wire::Chunk;

/// Of a channel's room for fetching, one holder gets this part (or one artifact): so many silent
/// holders are needed to stop the others.
const HOLDER_SHARE: u64 = 8;

/// The artifact bytes received so far: a prefix, all of it checked.
#[derive(Debug)]
pub(super) struct Assembly {
    known: u32,
    buffer: Vec<u8>,
    tree: PartialTree,
}

/// A request to be put on the wire.
pub(super) enum Unsent {
    Fetch { request: RequestId, known: u32, first: u32, count: u32 },
    Cancel { request: RequestId },
}

/// What a chunk has brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Progress {
    /// The request has been given up: the rest is not needed.
    Unneeded,
    /// More chunks are to come.
    More,
    /// The artifact is complete.
    Complete(u32),
}

/// What is due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Due {
    /// The pause of an artifact is over.
    Retry(u32),
    /// The request for an artifact is to be reviewed.
    Review(u32),
    /// The holder reads nothing, so that what waits for it has failed.
    Stuck(u32, PeerIndex),
    /// What waits for the holder is to look for another, since it is slower than expected or silent.
    Requeue(PeerIndex),
}

pub(super) struct Fetch {
    holders: Vec<Option<Holder>>,
    queued: Queued,
    assemblies: Arena<Assembly>,
    /// [`State::Parked`] with a time, earliest first (the pause is the same for all).
    parked: List<FetchChain>,
    wanted: u64,
    /// No pause is over before this.
    retry_at: Time,
    /// Nothing is due at a holder before this.
    deadlines: Deadlines,
    /// Something changed, so that a request may be possible now.
    pub(super) dispatch_due: bool,
    /// Peers for which there are requests to be sent since this was last looked at.
    pub(super) asking: Vec<PeerIndex>,
    /// Requests whose answers are to be stopped.
    pub(super) stops: Vec<(PeerIndex, RequestId)>,
    channels: usize,
    /// By channel: bytes that may be under way from one holder.
    shares: Vec<u64>,
    requests_max: u16,
    timeout: Duration,
    retry: Duration,
}

impl RequestId {
    pub(super) fn new(at: usize, generation: u32) -> Self {
        Self(u64::from(generation) << 16 | at as u64)
    }

    fn parts(self) -> (usize, u64) {
        ((self.0 & 0xffff) as usize, self.0 >> 16)
    }
}

impl Fetch {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            holders: Vec::new(),
            queued: Queued::new(config.channels.len()),
            assemblies: Arena::new(),
            parked: List::default(),
            wanted: 0,
            retry_at: Time::NEVER,
            deadlines: Deadlines::new(),
            dispatch_due: false,
            asking: Vec::new(),
            stops: Vec::new(),
            channels: config.channels.len(),
            shares: config.channels.iter().map(|c| c.inbox_bytes_max / HOLDER_SHARE).collect(),
            requests_max: config.fetches_per_peer_max,
            timeout: config.fetch_timeout,
            retry: config.fetch_retry,
        }
    }

    pub(super) fn add_peer(&mut self, peer: PeerIndex) {
        if self.holders.len() <= peer.at() {
            self.holders.resize_with(peer.at() + 1, || None);
        }
        self.holders[peer.at()] = Some(Holder::new(self.channels));
    }

    pub(super) fn remove_peer(&mut self, peer: PeerIndex) {
        let holder = self.holders[peer.at()].take().expect("a member is removed once");
        assert!(!holder.up && holder.waiting_count == 0, "peer_down comes first");
        self.deadlines.set(peer.at(), Time::NEVER);
    }

    fn holder(&mut self, peer: PeerIndex) -> &mut Holder {
        self.holders[peer.at()].as_mut().expect("a member")
    }

    pub(super) fn peer_up(&mut self, peer: PeerIndex) {
        let holder = self.holder(peer);
        (holder.up, holder.is_silent) = (true, false);
        self.dispatch_due = true;
    }

    /// Ends all requests to a peer, and empties its queues; their artifacts go to `orphans`.
    pub(super) fn peer_down(
        &mut self,
        catalogue: &mut Catalogue,
        peer: PeerIndex,
        orphans: &mut Vec<u32>,
    ) {
        let holder = self.holders[peer.at()].as_mut().expect("a member");
        (holder.up, holder.stuck_at) = (false, Time::NEVER);
        holder.load = 0;
        holder.under_way.fill(0);
        for request in &mut holder.requests {
            if request.is_live() {
                orphans.push(request.known);
            }
            request.release();
        }
        self.take_waiting(catalogue, peer, orphans);
        self.stops.retain(|(stopped, _)| *stopped != peer);
        for known in orphans {
            catalogue.items[*known].state = State::Parked(None);
        }
    }

    /// Empties the queues of a holder; their artifacts go to `taken`, and are to be queued anew.
    pub(super) fn take_waiting(
        &mut self,
        catalogue: &mut Catalogue,
        peer: PeerIndex,
        taken: &mut Vec<u32>,
    ) {
        let holder = self.holders[peer.at()].as_mut().expect("a member");
        for (channel, lists) in holder.waiting.iter_mut().enumerate() {
            for (priority, list) in lists.iter_mut().enumerate() {
                while let Some(known) = list.front() {
                    list.remove(&mut catalogue.items, known);
                    let item = &mut catalogue.items[known];
                    item.state = State::Parked(None);
                    holder.load = holder.load.saturating_sub(item.advert.length);
                    taken.push(known);
                }
                self.queued.set(peer, channel, priority, false);
            }
        }
        holder.waiting_count = 0;
    }

    /// Puts a wanted artifact that is in no queue into that of its best holder.
    pub(super) fn want(&mut self, now: Time, catalogue: &mut Catalogue, known: u32) {
        let best = self.best_holder(catalogue, known, None).map(|(_, peer)| peer);
        self.want_from(now, catalogue, known, best);
    }

    /// Puts a wanted artifact that is in no queue into that of `best`; parks it without one.
    pub(super) fn want_from(
        &mut self,
        now: Time,
        catalogue: &mut Catalogue,
        known: u32,
        best: Option<PeerIndex>,
    ) {
        let item = &mut catalogue.items[known];
        if item.wanted == 0 {
            self.wanted += 1;
            item.wanted = self.wanted;
        }
        match best {
            Some(peer) => {
                item.state = State::Waiting(peer);
                let (channel, priority, length) = (item.channel, item.priority, item.advert.length);
                let is_begun = item.assembly.is_some();
                let holder = self.holders[peer.at()].as_mut().expect("a member");
                holder.load += length;
                holder.waiting_count += 1;
                // What waits at a holder without a free request may have to leave it again.
                let is_stuck = holder.is_stuck(self.requests_max);
                let deadline = if is_stuck { Time::ZERO } else { holder.requeue_at() };
                self.deadlines.bring_forward(peer.at(), deadline);
                let list = &mut holder.waiting[channel as usize][priority as usize];
                // What was begun holds room that those before it may wait for.
                match is_begun {
                    true => list.push_front(&mut catalogue.items, known),
                    false => list.push_back(&mut catalogue.items, known),
                }
                // Behind others it makes no request possible that was not possible before.
                self.dispatch_due |= list.front() == Some(known);
                self.queued.set(peer, channel as usize, priority as usize, true);
            }
            None => self.park(now, catalogue, known),
        }
    }

    /// Nobody is to be asked: after a pause, if that is because all have failed.
    fn park(&mut self, now: Time, catalogue: &mut Catalogue, known: u32) {
        let item = &mut catalogue.items[known];
        let retry_at = (!item.tried.is_empty()).then(|| now + self.retry);
        item.state = State::Parked(retry_at);
        if let Some(retry_at) = retry_at {
            self.parked.push_back(&mut catalogue.items, known);
            self.retry_at = self.retry_at.min(retry_at);
        }
    }

    /// Whether a connected holder has not failed yet.
    pub(super) fn has_holder(&self, catalogue: &Catalogue, known: u32) -> bool {
        self.best_holder(catalogue, known, None).is_some()
    }

    /// Whether a holder of an artifact is connected and has not failed yet.
    pub(super) fn is_usable(&self, catalogue: &Catalogue, known: u32, peer: PeerIndex) -> bool {
        let is_up = self.holders[peer.at()].as_ref().is_some_and(|holder| holder.up);
        is_up && !catalogue.items[known].tried.contains(peer)
    }

    /// The connected holder, other than `but`, that can be expected to have sent the rest of the
    /// artifact first: whether it is silent, and in how many microseconds.
    fn best_holder(
        &self,
        catalogue: &Catalogue,
        known: u32,
        but: Option<PeerIndex>,
    ) -> Option<((bool, u64), PeerIndex)> {
        let item = &catalogue.items[known];
        let rest = self.rest(catalogue, known);
        let expected = |peer: PeerIndex| {
            let holder = self.holders[peer.at()].as_ref()?;
            let usable = holder.up && !item.tried.contains(peer) && Some(peer) != but;
            usable.then(|| (holder.expected(rest), peer))
        };
        let usable = item.holders.iter().filter_map(expected);
        usable.min_by_key(|(expected, peer)| (*expected, peer.0))
    }

    /// Bytes of an artifact that have not been received yet.
    fn rest(&self, catalogue: &Catalogue, known: u32) -> u64 {
        let item = &catalogue.items[known];
        let received = |at: u32| self.assemblies[at].buffer.len() as u64;
        item.advert.length - item.assembly.map_or(0, received)
    }

    /// Whether `peer`, which advertises a wanted artifact as well, can be expected to have sent it
    /// before the one that it waits for, or is asked while that one is silent: who is slow or silent
    /// is not waited for any longer then.
    pub(super) fn is_sooner(&self, catalogue: &Catalogue, known: u32, peer: PeerIndex) -> bool {
        let item = &catalogue.items[known];
        let (State::Waiting(at) | State::Fetching(at, _)) = item.state else { return false };
        let (Some(now), Some(new)) = (&self.holders[at.at()], &self.holders[peer.at()]) else {
            return false;
        };
        let is_usable = at != peer && new.up && !item.tried.contains(peer);
        is_usable
            && match item.state {
                State::Waiting(_) => new.expected(item.advert.length) < now.expected(0),
                _ => now.is_silent && !new.is_silent,
            }
    }

    /// Takes an artifact out of every queue and ends its request. What was received stays.
    pub(super) fn withdraw(&mut self, catalogue: &mut Catalogue, known: u32) {
        let item = &catalogue.items[known];
        let (channel, priority, length) = (item.channel, item.priority, item.advert.length);
        match item.state {
            State::Waiting(peer) => {
                let holder = self.holders[peer.at()].as_mut().expect("a member");
                holder.load -= length;
                holder.waiting_count -= 1;
                let list = &mut holder.waiting[channel as usize][priority as usize];
                // The one behind it may be shorter, and fit.
                self.dispatch_due |= list.front() == Some(known);
                list.remove(&mut catalogue.items, known);
                let is_queued = list.front().is_some();
                self.queued.set(peer, channel as usize, priority as usize, is_queued);
            }
            State::Parked(Some(_)) => self.parked.remove(&mut catalogue.items, known),
            State::Fetching(peer, at) => self.cancel(peer, at as usize, channel, length),
            _ => {}
        }
        catalogue.items[known].state = State::Parked(None);
    }

    fn cancel(&mut self, peer: PeerIndex, at: usize, channel: u16, length: u64) {
        let holder = self.holders[peer.at()].as_mut().expect("a member");
        holder.load -= length;
        holder.under_way[channel as usize] -= length;
        // With this one, it may have no place left for a request: to be looked at.
        self.deadlines.set(peer.at(), Time::ZERO);
        let request = &mut holder.requests[at];
        let id = RequestId::new(at, request.generation);
        match request.phase {
            Phase::Unsent => request.release(),
            Phase::Sent => {
                request.phase = Phase::Cancelled;
                self.asking.push(peer);
                self.stops.push((peer, id));
            }
            Phase::Streamed => {
                request.release();
                self.stops.push((peer, id));
            }
            Phase::Free | Phase::Cancelled => unreachable!("only requests under way are cancelled"),
        }
        self.dispatch_due = true;
    }

    /// A holder has failed: on to the next.
    pub(super) fn move_on(
        &mut self,
        now: Time,
        catalogue: &mut Catalogue,
        known: u32,
        failed: PeerIndex,
    ) {
        self.leave(catalogue, known, failed);
        self.holder(failed).note_failure();
        let best = self.best_holder(catalogue, known, None);
        // A long queue is not waited in: after a pause all are asked again.
        let queue = best.map(|(_, peer)| self.holder(peer).expected(0).1);
        let is_prompt = queue.is_some_and(|queue| Duration::from_micros(queue) <= self.retry);
        match is_prompt {
            true => self.want(now, catalogue, known),
            false => self.park(now, catalogue, known),
        }
    }

    /// Ends what is under way at a holder, which is not asked again in this round.
    pub(super) fn leave(&mut self, catalogue: &mut Catalogue, known: u32, peer: PeerIndex) {
        self.withdraw(catalogue, known);
        let item = &mut catalogue.items[known];
        // Who has waited behind it goes first now.
        item.wanted = 0;
        item.tried.insert(peer);
    }

    /// Looks at what has come of a request since the last time, see the module's head. The holder, if
    /// the artifact moves on.
    pub(super) fn review(
        &mut self,
        now: Time,
        catalogue: &mut Catalogue,
        known: u32,
    ) -> Option<PeerIndex> {
        let State::Fetching(peer, at) = catalogue.items[known].state else {
            unreachable!("only requests under way are reviewed");
        };
        let (rest, timeout) = (self.rest(catalogue, known), self.timeout);
        let holder = self.holder(peer);
        let pace = holder.review(at as usize, now, timeout, rest);
        // What is silent may have to make room for others.
        let is_silent = holder.is_silent;
        self.dispatch_due |= is_silent;
        let window = self.window(catalogue.items[known].rounds);
        let is_better = |((is_silent, expected), _): ((bool, u64), PeerIndex)| {
            let is_slow = Duration::from_micros(pace) > window;
            let is_sooner = !is_silent && expected < pace / 2;
            pace == NEVER || is_slow && is_sooner
        };
        let better = self.best_holder(catalogue, known, Some(peer)).filter(|b| is_better(*b));
        if better.is_none() {
            let rounds = begin_round(catalogue, known);
            let review_at = now + self.window(rounds);
            self.holder(peer).requests[at as usize].review_at = review_at;
        }
        better.map(|_| peer)
    }

    /// Empties the queues of a holder, so that what waited there can look for another. What nobody else
    /// can be asked for in this round begins another one, if the holder is silent: it may never be
    /// asked for it.
    pub(super) fn requeue(
        &mut self,
        now: Time,
        catalogue: &mut Catalogue,
        peer: PeerIndex,
        taken: &mut Vec<u32>,
    ) {
        let timeout = self.timeout;
        let is_silent = self.holder(peer).note_requeued(now, timeout);
        self.take_waiting(catalogue, peer, taken);
        for known in taken.iter().copied().filter(|_| is_silent) {
            if self.best_holder(catalogue, known, Some(peer)).is_none() {
                begin_round(catalogue, known);
            }
        }
        self.dispatch_due = true;
    }

    /// The time between two reviews of a request.
    fn window(&self, rounds: u8) -> Duration {
        self.timeout.saturating_mul(1 << rounds)
    }

    /// Whether an artifact that was begun makes no progress: nobody is there to be asked, or the
    /// holder that it waits for is silent.
    fn is_stalled(&self, state: State) -> bool {
        match state {
            State::Waiting(peer) | State::Fetching(peer, _) => {
                self.holders[peer.at()].as_ref().expect("a member").is_silent
            }
            _ => true,
        }
    }

    /// Bytes of room that artifacts of a channel hold which make no progress. Looks at all that were
    /// begun: taken only when a channel has no room for an artifact that could be.
    fn stalled_bytes(&self, catalogue: &Catalogue, channel: u16) -> u64 {
        let lengths = self.stalled(catalogue, channel);
        lengths.map(|(known, _)| catalogue.items[known].advert.length).sum()
    }

    fn stalled(&self, catalogue: &Catalogue, channel: u16) -> impl Iterator<Item = (u32, usize)> {
        let begun = self.assemblies.indices().map(|at| &self.assemblies[at]);
        begun.filter_map(move |begun| {
            let item = &catalogue.items[begun.known];
            let is_stalled = item.channel == channel && self.is_stalled(item.state);
            is_stalled.then_some((begun.known, begun.buffer.len()))
        })
    }

    /// Of the artifacts of a channel that make no progress, the one of which least has come.
    pub(super) fn least_stalled(&self, catalogue: &Catalogue, channel: u16) -> Option<u32> {
        self.stalled(catalogue, channel).min_by_key(|(known, bytes)| (*bytes, *known)).map(|s| s.0)
    }

    /// Gives up what was received of an artifact; the bytes of budget that this frees.
    pub(super) fn drop_assembly(&mut self, catalogue: &mut Catalogue, known: u32) -> u64 {
        let item = &mut catalogue.items[known];
        item.assembly.take().map_or(0, |assembly| {
            self.assemblies.remove(assembly);
            self.dispatch_due = true;
            item.advert.length
        })
    }

    /// The waiting artifact that a request can be made for: highest priority first, then the one
    /// wanted longest, of channels with room for it, or room that others hold and make no progress.
    ///
    /// Looks at the holders with queues that are not empty: those that wait for room or a request.
    pub(super) fn next_start(
        &self,
        catalogue: &Catalogue,
        room: impl Fn(u16, u64) -> u64,
    ) -> Option<(u32, PeerIndex)> {
        let ready = |peer: PeerIndex| {
            let holder = self.holders[peer.at()].as_ref()?;
            let can_ask = holder.up && self.free_request(holder).is_some();
            can_ask.then_some((peer, holder))
        };
        // A channel without room for its first artifact lets none overtake it, or large ones would
        // starve. Only what was begun goes on: it has its room, and others wait for that.
        let mut full = 0_u64;
        let fits = |channel: usize, length: u64| {
            let channel = channel as u16;
            let stalled = || self.stalled_bytes(catalogue, channel);
            length <= room(channel, 0) || length <= room(channel, stalled())
        };
        (0..Priority::ALL.len()).rev().find_map(|priority| {
            let first_of = |channel: usize| {
                let holders = self.queued.holders(channel, priority).iter().filter_map(ready);
                let fronts = holders.filter_map(|(peer, holder)| {
                    let known = holder.waiting[channel][priority].front()?;
                    let length = catalogue.items[known].advert.length;
                    // One that would make no progress takes no room from others, nor keeps them from it.
                    let is_begun = catalogue.items[known].assembly.is_some();
                    let may_begin =
                        is_begun || !holder.is_silent || length <= room(channel as u16, 0);
                    let may_begin = may_begin && self.is_within_share(holder, channel, length);
                    may_begin.then_some((known, peer))
                });
                fronts.min_by_key(|(known, _)| {
                    let item = &catalogue.items[*known];
                    (item.assembly.is_none(), item.wanted)
                })
            };
            let mut best: Option<(u32, PeerIndex)> = None;
            for channel in self.queued.channels(priority) {
                let Some((known, peer)) = first_of(channel) else { continue };
                let item = &catalogue.items[known];
                let is_full = full >> channel & 1 == 1;
                let fits = || !is_full && fits(channel, item.advert.length);
                if item.assembly.is_none() && !fits() {
                    full |= 1 << channel;
                } else if best.is_none_or(|(best, _)| item.wanted < catalogue.items[best].wanted) {
                    best = Some((known, peer));
                }
            }
            best
        })
    }

    fn is_within_share(&self, holder: &Holder, channel: usize, length: u64) -> bool {
        let under_way = holder.under_way[channel];
        under_way == 0 || under_way + length <= self.shares[channel]
    }

    /// Whether a holder may send so many bytes of a channel unasked.
    pub(super) fn may_stream(&self, peer: PeerIndex, channel: u16, length: u64) -> bool {
        let holder = self.holders[peer.at()].as_ref().expect("a member");
        self.is_within_share(holder, channel as usize, length)
    }

    fn free_request(&self, holder: &Holder) -> Option<usize> {
        let free = holder.requests.iter().position(|request| request.phase == Phase::Free);
        let grown = holder.requests.len();
        free.or_else(|| (grown < usize::from(self.requests_max)).then_some(grown))
    }

    /// Begins a request for an artifact that is in no queue; `None` if the peer has none to spare.
    /// True in the answer: room for the artifact's bytes was taken.
    pub(super) fn start(
        &mut self,
        now: Time,
        catalogue: &mut Catalogue,
        known: u32,
        peer: PeerIndex,
        streamed: bool,
    ) -> Option<(RequestId, bool)> {
        let holder = self.holders[peer.at()].as_ref().expect("a member");
        let at = self.free_request(holder)?;
        let item = &mut catalogue.items[known];
        let length = item.advert.length;
        let is_new = item.assembly.is_none();
        let assembly = *item.assembly.get_or_insert_with(|| {
            let buffer = Vec::with_capacity(length as usize);
            let tree = PartialTree::new(&item.advert);
            self.assemblies.insert(Assembly { known, buffer, tree })
        });
        item.state = State::Fetching(peer, at as u16);
        let next = self.assemblies[assembly].buffer.len() / item.advert.chunk_size();
        let chunks = (next as u32, item.advert.chunks());
        let (channel, window) = (item.channel as usize, self.window(item.rounds));
        let phase = if streamed { Phase::Streamed } else { Phase::Unsent };
        if !streamed {
            self.asking.push(peer);
        }
        let holder = self.holders[peer.at()].as_mut().expect("a member");
        holder.under_way[channel] += length;
        holder.load += length;
        let request = holder.begin(at, (now, window), phase, known, chunks);
        self.deadlines.bring_forward(peer.at(), now + window);
        Some((request, is_new))
    }

    /// Takes a request of a peer that is to be put on the wire.
    pub(super) fn take_unsent(&mut self, now: Time, peer: PeerIndex) -> Option<Unsent> {
        let holder = self.holders[peer.at()].as_mut().expect("a member");
        let is_due = |phase| matches!(phase, Phase::Unsent | Phase::Cancelled);
        let at = holder.requests.iter().position(|request| is_due(request.phase))?;
        let request = &mut holder.requests[at];
        let id = RequestId::new(at, request.generation);
        if request.phase == Phase::Cancelled {
            request.release();
            holder.stuck_at = Time::NEVER;
            self.dispatch_due = true;
            return Some(Unsent::Cancel { request: id });
        }
        let (known, first, count) = (request.known, request.next, request.end - request.next);
        holder.note_sent(at, now);
        Some(Unsent::Fetch { request: id, known, first, count })
    }

    pub(super) fn has_unsent(&self, peer: PeerIndex) -> bool {
        let requests = &self.holders[peer.at()].as_ref().expect("a member").requests;
        requests.iter().any(|request| matches!(request.phase, Phase::Unsent | Phase::Cancelled))
    }

    /// The request that an answer belongs to, if it is still under way.
    fn under_way(&self, peer: PeerIndex, id: RequestId) -> Option<&Request> {
        let (at, generation) = id.parts();
        let holder = self.holders[peer.at()].as_ref().expect("a member");
        let request = holder.requests.get(at)?;
        let answers = matches!(request.phase, Phase::Sent | Phase::Streamed);
        (answers && u64::from(request.generation) == generation).then_some(request)
    }

    pub(super) fn is_under_way(&mut self, peer: PeerIndex, id: RequestId) -> bool {
        self.under_way(peer, id).is_some()
    }

    /// Bytes in the longest chunk of an answer, if it is still needed.
    pub(super) fn chunk_bytes_max(
        &self,
        catalogue: &Catalogue,
        peer: PeerIndex,
        id: RequestId,
    ) -> Option<usize> {
        let known = self.under_way(peer, id)?.known;
        Some(catalogue.items[known].advert.chunk_bytes(0))
    }

    /// The artifact of a request whose answer has ended early or was refused.
    pub(super) fn known_of(&mut self, peer: PeerIndex, id: RequestId) -> Option<u32> {
        self.under_way(peer, id).map(|request| request.known)
    }

    /// Checks a chunk and puts it in its place.
    pub(super) fn handle_chunk(
        &mut self,
        now: Time,
        catalogue: &mut Catalogue,
        peer: PeerIndex,
        id: RequestId,
        chunk: &Chunk<'_>,
    ) -> Result<Progress, (Fault, u32)> {
        let Some(request) = self.under_way(peer, id) else { return Ok(Progress::Unneeded) };
        let (known, next, end) = (request.known, request.next, request.end);
        if chunk.index != next {
            return Err((Fault::UnrequestedChunk, known));
        }
        let item = &mut catalogue.items[known];
        let assembly = &mut self.assemblies[item.assembly.expect("allocated at the start")];
        if !assembly.tree.check(chunk.index, &chunk.proof, chunk.bytes) {
            return Err((Fault::WrongChunk, known));
        }
        item.rounds = 0;
        assembly.buffer.extend_from_slice(chunk.bytes);
        let (at, timeout) = (id.parts().0, self.timeout);
        let holder = self.holder(peer);
        let was_silent = holder.note_verified(at, chunk.bytes.len() as u64, now, timeout);
        if next + 1 == end {
            let (length, channel) = (item.advert.length, item.channel as usize);
            holder.note_complete(at, now);
            holder.load -= length;
            holder.under_way[channel] -= length;
        }
        self.deadlines.bring_forward(peer.at(), now + timeout);
        self.dispatch_due |= was_silent || next + 1 == end;
        Ok(if next + 1 == end { Progress::Complete(known) } else { Progress::More })
    }

    /// So many bytes of the next chunk of an answer are here.
    pub(super) fn handle_partial(&mut self, peer: PeerIndex, id: RequestId, bytes: usize) {
        if self.under_way(peer, id).is_some() {
            let was_silent = self.holder(peer).note_partial(id.parts().0, bytes as u64);
            self.dispatch_due |= was_silent;
        }
    }

    /// The artifact of a complete assembly, which ends.
    pub(super) fn take_complete(&mut self, catalogue: &mut Catalogue, known: u32) -> Artifact {
        let item = &mut catalogue.items[known];
        item.state = State::Parked(None);
        let assembly = self.assemblies.remove(item.assembly.take().expect("complete"));
        let bytes = Bytes::from(assembly.buffer);
        Artifact::of_checked_chunks(item.id, item.advert.clone(), bytes, assembly.tree)
    }

    pub(super) fn wake_at(&self) -> Time {
        self.retry_at.min(self.deadlines.earliest())
    }

    /// What is due now. Each call gives one.
    pub(super) fn next_due(&mut self, now: Time, catalogue: &Catalogue) -> Option<Due> {
        if self.retry_at <= now {
            let front = self.parked.front().map(|known| (known, catalogue.items[known].state));
            match front {
                Some((known, State::Parked(Some(at)))) if at <= now => {
                    return Some(Due::Retry(known));
                }
                Some((_, State::Parked(Some(at)))) => self.retry_at = at,
                _ => self.retry_at = Time::NEVER,
            }
        }
        while let Some(at) = self.deadlines.due(now) {
            let peer = PeerIndex(at as u16);
            match self.next_due_of(now, peer) {
                Ok(due) => return Some(due),
                Err(next) => self.deadlines.set(peer.at(), next),
            }
        }
        None
    }

    /// What is due at a holder; else when something will be. Looks at each of its requests.
    fn next_due_of(&mut self, now: Time, peer: PeerIndex) -> Result<Due, Time> {
        work::count();
        let Some(holder) = &mut self.holders[peer.at()] else { return Err(Time::NEVER) };
        let mut next = holder.requeue_at();
        for request in holder.requests.iter().filter(|request| request.is_live()) {
            if request.review_at <= now {
                return Ok(Due::Review(request.known));
            }
            next = next.min(request.review_at);
        }
        if !holder.is_stuck(self.requests_max) {
            holder.stuck_at = Time::NEVER;
        } else if let Some(known) = holder.first_waiting() {
            holder.stuck_at = holder.stuck_at.min(now + self.timeout);
            if holder.stuck_at <= now {
                return Ok(Due::Stuck(known, peer));
            }
            next = next.min(holder.stuck_at);
        }
        if holder.requeue_at() <= now { Ok(Due::Requeue(peer)) } else { Err(next) }
    }

    #[cfg(feature = "internals")]
    pub(super) fn explain(&self, channel: u16) -> alloc::string::String {
        let holder = |(at, holder): (usize, &Option<Holder>)| {
            let holder = holder.as_ref()?;
            let phases: Vec<Phase> = holder.requests.iter().map(|request| request.phase).collect();
            let (waiting, under_way) = (holder.waiting_count, holder.under_way[channel as usize]);
            let (rate, is_silent) = (holder.rate, holder.is_silent);
            Some(alloc::format!(
                "peer {at}: {waiting} waiting, {under_way} bytes of {phases:?}, {rate} B/s, silent: \
                 {is_silent}"
            ))
        };
        let holders: Vec<_> = self.holders.iter().enumerate().filter_map(holder).collect();
        holders.join("; ")
    }

    pub(super) fn assert_invariants(&self, catalogue: &Catalogue) {
        let waiting = |known: &u32| matches!(catalogue.items[*known].state, State::Waiting(_));
        let waiting = catalogue.items.indices().filter(waiting).count();
        let counted: u32 = self.holders.iter().flatten().map(|holder| holder.waiting_count).sum();
        assert_eq!(waiting as u32, counted);
        let peers = self.holders.len() as u16;
        self.queued.assert_invariants(peers, |peer, channel, priority| {
            let holder = self.holders[peer.at()].as_ref();
            holder.and_then(|holder| holder.waiting[channel][priority].front()).is_some()
        });
        let mut assembled = 0;
        for known in catalogue.items.indices() {
            let item = &catalogue.items[known];
            assembled += usize::from(item.assembly.is_some());
            match item.state {
                State::Fetching(peer, at) => {
                    let holder = self.holders[peer.at()].as_ref().expect("a member");
                    let request = &holder.requests[at as usize];
                    assert!(holder.up && request.known == known && item.assembly.is_some());
                    assert!(request.is_live());
                }
                State::Waiting(peer) => {
                    assert!(self.holders[peer.at()].as_ref().is_some_and(|holder| holder.up));
                }
                State::Parked(_) => {}
                State::Later | State::Dropped | State::Ready | State::Done => {
                    assert!(item.assembly.is_none(), "parts are kept only while they are wanted");
                }
            }
        }
        assert_eq!(assembled, self.assemblies.len());
    }
}

/// Whoever was left or has failed may be asked again; the number of such rounds since the last chunk.
fn begin_round(catalogue: &mut Catalogue, known: u32) -> u8 {
    let item = &mut catalogue.items[known];
    if !item.tried.is_empty() {
        item.tried = Default::default();
        item.rounds = (item.rounds + 1).min(ROUNDS_MAX);
    }
    item.rounds
}
