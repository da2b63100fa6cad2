//! Fetching: which artifact is asked of which holder, and the chunks that come back.
//!
//! A wanted artifact waits in the queue of the holder that is expected to have sent it first. When
//! the holder has a request to spare and the channel has room for the bytes, the request goes out;
//! each chunk is checked when it arrives. A refusal, a broken stream, a wrong chunk or an overdue
//! one moves the artifact on to the next holder at once, and what was received stays. When all have
//! failed, the part received is given up (it would hold the channel's budget) and they are asked
//! again after a pause. Invariants 6, 8, 9.

use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;
use core::time::Duration;

use super::RequestId;
use super::catalogue::{Catalogue, FetchChain, State};
use super::tables::Tables;
use crate::arena::{Arena, List};
use crate::artifact::{Artifact, CHUNK_BYTES, Hash};
use crate::config::Config;
use crate::error::Fault;
use crate::id::PeerIndex;
use crate::time::Time;
use crate::wire::Chunk;

use super::Priority;

/// What is expected of a holder that has not sent anything yet, in bytes per second.
const RATE_DEFAULT: u64 = 16 << 20;

/// Each request that a holder fails halves what is expected of it, down to this many bytes per
/// second: who is good for nothing is soon asked last.
const RATE_FLOOR: u64 = 1 << 10;

/// What each request costs that waits at a holder for others to be answered, in microseconds,
/// however short it is: part of a round trip. A silent holder's queue is long in this.
const WAITING_COST: u64 = 10_000;

/// Below this rate a transfer is overdue, even if chunks keep coming, in bytes per second.
const RATE_MIN: u64 = 128 << 10;

/// Of a channel's room for fetching, one holder gets this part (or one artifact): so many silent
/// holders are needed to stop the others.
const HOLDER_SHARE: u64 = 8;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Free,
    /// The request is still to be sent.
    Unsent,
    /// The answer is awaited.
    Sent,
    /// The chunks come unasked, behind a streamed advert.
    Streamed,
    /// Given up; the cancellation is still to be sent.
    Cancelled,
}

#[derive(Debug)]
struct Request {
    /// Tells requests in the same place apart.
    generation: u32,
    phase: Phase,
    known: u32,
    first: u32,
    next: u32,
    end: u32,
    begun: Time,
    /// Without a further chunk until then, the request has failed.
    deadline: Time,
    /// Without the last chunk until then, the request has failed.
    last_deadline: Time,
}

/// The artifact bytes received so far: a prefix, all of it checked.
#[derive(Debug)]
pub(super) struct Assembly {
    buffer: Vec<u8>,
    leaves: Vec<Hash>,
}

#[derive(Debug)]
struct Holder {
    up: bool,
    requests: Vec<Request>,
    /// By channel, then by priority.
    waiting: Vec<[List<FetchChain>; Priority::ALL.len()]>,
    waiting_count: u32,
    /// Bytes waiting and under way.
    load: u64,
    /// By channel: bytes under way.
    under_way: Vec<u64>,
    /// Measured, in bytes per second.
    rate: u64,
    /// It takes no requests, so that what waits for it has failed then; never, while it takes some.
    stuck_at: Time,
}

impl Holder {
    /// When it can be expected to have sent `more` bytes behind all it is to send already, in
    /// microseconds from now.
    fn expected(&self, more: u64) -> u64 {
        let sending = (self.load + more).saturating_mul(1_000_000) / self.rate;
        sending.saturating_add(u64::from(self.waiting_count) * WAITING_COST)
    }

    /// Whether it is not even told which requests were given up, since it reads nothing.
    fn is_stuck(&self, requests_max: u16) -> bool {
        let is_cancelled = |request: &Request| request.phase == Phase::Cancelled;
        self.requests.len() == usize::from(requests_max) && self.requests.iter().all(is_cancelled)
    }

    fn first_waiting(&self) -> Option<u32> {
        self.waiting.iter().flatten().find_map(List::front)
    }
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

pub(super) struct Fetch {
    holders: Vec<Option<Holder>>,
    assemblies: Arena<Assembly>,
    /// [`State::Parked`] with a time, earliest first (the pause is the same for all).
    parked: List<FetchChain>,
    wanted: u64,
    /// No request is overdue, and no pause over, before this.
    wake_at: Time,
    /// Something changed, so that a request may be possible now.
    pub(super) dispatch_due: bool,
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
    fn new(at: usize, generation: u32) -> Self {
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
            assemblies: Arena::new(),
            parked: List::default(),
            wanted: 0,
            wake_at: Time::NEVER,
            dispatch_due: false,
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
        self.holders[peer.at()] = Some(Holder {
            up: false,
            requests: Vec::new(),
            waiting: (0..self.channels).map(|_| Default::default()).collect(),
            waiting_count: 0,
            load: 0,
            under_way: vec![0; self.channels],
            rate: RATE_DEFAULT,
            stuck_at: Time::NEVER,
        });
    }

    pub(super) fn remove_peer(&mut self, peer: PeerIndex) {
        let holder = self.holders[peer.at()].take().expect("a member is removed once");
        assert!(!holder.up && holder.waiting_count == 0, "peer_down comes first");
    }

    fn holder(&mut self, peer: PeerIndex) -> &mut Holder {
        self.holders[peer.at()].as_mut().expect("a member")
    }

    pub(super) fn peer_up(&mut self, peer: PeerIndex) {
        self.holder(peer).up = true;
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
        holder.up = false;
        holder.load = 0;
        holder.under_way.fill(0);
        for request in &mut holder.requests {
            if !matches!(request.phase, Phase::Free | Phase::Cancelled) {
                orphans.push(request.known);
            }
            request.release();
        }
        for list in holder.waiting.iter_mut().flatten() {
            while let Some(known) = list.front() {
                list.remove(&mut catalogue.knowns, known);
                orphans.push(known);
            }
        }
        holder.waiting_count = 0;
        self.stops.retain(|(stopped, _)| *stopped != peer);
        for known in orphans {
            catalogue.knowns[*known].state = State::Parked(None);
        }
    }

    /// Puts a wanted artifact that is in no queue into that of its best holder.
    pub(super) fn want(
        &mut self,
        now: Time,
        catalogue: &mut Catalogue,
        tables: &Tables,
        known: u32,
    ) {
        let best = self.best_holder(catalogue, tables, known);
        let item = &mut catalogue.knowns[known];
        // Once another has failed, a long queue is not waited in: after a pause all are asked again.
        let pause = u64::try_from(self.retry.as_micros()).unwrap_or(u64::MAX);
        let is_prompt = |peer: &PeerIndex| {
            let holder = self.holders[peer.at()].as_ref();
            item.tried.is_empty() || holder.is_some_and(|holder| holder.expected(0) <= pause)
        };
        let best = best.filter(is_prompt);
        if item.wanted == 0 {
            self.wanted += 1;
            item.wanted = self.wanted;
        }
        match best {
            Some(peer) => {
                item.state = State::Waiting(peer);
                let (channel, priority, length) = (item.channel, item.priority, item.advert.length);
                let is_begun = item.assembly.is_some();
                let holder = self.holder(peer);
                holder.load += length;
                holder.waiting_count += 1;
                let list = &mut holder.waiting[channel as usize][priority as usize];
                // What was begun holds room that those before it may wait for.
                match is_begun {
                    true => list.push_front(&mut catalogue.knowns, known),
                    false => list.push_back(&mut catalogue.knowns, known),
                }
                self.dispatch_due = true;
            }
            None => {
                let retry_at = (!item.tried.is_empty()).then(|| now + self.retry);
                item.state = State::Parked(retry_at);
                if let Some(retry_at) = retry_at {
                    self.parked.push_back(&mut catalogue.knowns, known);
                    self.wake_at = self.wake_at.min(retry_at);
                }
            }
        }
    }

    /// Whether a connected holder has not failed yet.
    pub(super) fn has_holder(&self, catalogue: &Catalogue, tables: &Tables, known: u32) -> bool {
        self.best_holder(catalogue, tables, known).is_some()
    }

    /// The connected holder that can be expected to have sent the artifact first.
    fn best_holder(&self, catalogue: &Catalogue, tables: &Tables, known: u32) -> Option<PeerIndex> {
        let item = &catalogue.knowns[known];
        let expected = |(peer, _): (PeerIndex, u8)| {
            let holder = self.holders[peer.at()].as_ref()?;
            let usable = holder.up && !item.tried.contains(peer);
            usable.then(|| (holder.expected(item.advert.length), peer))
        };
        let usable = tables.holders(catalogue, known).filter_map(expected);
        usable.min_by_key(|(expected, peer)| (*expected, peer.0)).map(|(_, peer)| peer)
    }

    /// Whether `peer`, which advertises a waiting artifact as well, can be expected to have sent it
    /// before the one that it waits for: who is slow or silent is not waited for any longer then.
    pub(super) fn is_sooner(&self, catalogue: &Catalogue, known: u32, peer: PeerIndex) -> bool {
        let item = &catalogue.knowns[known];
        let State::Waiting(at) = item.state else { return false };
        let (Some(now), Some(new)) = (&self.holders[at.at()], &self.holders[peer.at()]) else {
            return false;
        };
        let is_usable = at != peer && new.up && !item.tried.contains(peer);
        is_usable && new.expected(item.advert.length) < now.expected(0)
    }

    /// Takes an artifact out of every queue and ends its request. What was received stays.
    pub(super) fn withdraw(&mut self, catalogue: &mut Catalogue, known: u32) {
        let item = &catalogue.knowns[known];
        let (channel, priority, length) = (item.channel, item.priority, item.advert.length);
        match item.state {
            State::Waiting(peer) => {
                let holder = self.holders[peer.at()].as_mut().expect("a member");
                holder.load -= length;
                holder.waiting_count -= 1;
                holder.waiting[channel as usize][priority as usize]
                    .remove(&mut catalogue.knowns, known);
            }
            State::Parked(Some(_)) => self.parked.remove(&mut catalogue.knowns, known),
            State::Fetching(peer, at) => self.cancel(peer, at as usize, channel, length),
            _ => {}
        }
        catalogue.knowns[known].state = State::Parked(None);
    }

    fn cancel(&mut self, peer: PeerIndex, at: usize, channel: u16, length: u64) {
        let holder = self.holders[peer.at()].as_mut().expect("a member");
        holder.load -= length;
        holder.under_way[channel as usize] -= length;
        // With this one, it may have no place left for a request: to be looked at.
        self.wake_at = Time::ZERO;
        let request = &mut holder.requests[at];
        let id = RequestId::new(at, request.generation);
        match request.phase {
            Phase::Unsent => request.release(),
            Phase::Sent => {
                request.phase = Phase::Cancelled;
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
        tables: &Tables,
        known: u32,
        failed: PeerIndex,
    ) {
        self.withdraw(catalogue, known);
        let holder = self.holder(failed);
        holder.rate = (holder.rate / 2).max(RATE_FLOOR);
        // Who has waited behind it goes first now.
        catalogue.knowns[known].wanted = 0;
        catalogue.knowns[known].tried.insert(failed);
        self.want(now, catalogue, tables, known);
    }

    /// Gives up what was received of an artifact; the bytes of budget that this frees.
    pub(super) fn drop_assembly(&mut self, catalogue: &mut Catalogue, known: u32) -> u64 {
        let item = &mut catalogue.knowns[known];
        item.assembly.take().map_or(0, |assembly| {
            self.assemblies.remove(assembly);
            self.dispatch_due = true;
            item.advert.length
        })
    }

    /// The waiting artifact that a request can be made for: highest priority first, then the one
    /// wanted longest, of channels with room for it.
    pub(super) fn next_start<'a>(
        &'a self,
        catalogue: &Catalogue,
        has_room: impl Fn(u16, u64) -> bool,
    ) -> Option<(u32, PeerIndex)> {
        let ready = |(at, holder): (usize, &'a Option<Holder>)| {
            let holder = holder.as_ref()?;
            let can_ask =
                holder.up && holder.waiting_count > 0 && self.free_request(holder).is_some();
            can_ask.then_some((PeerIndex(at as u16), holder))
        };
        // A channel without room for its first artifact lets none overtake it, or large ones would
        // starve. Only what was begun goes on: it has its room, and others wait for that.
        let mut full = 0_u64;
        (0..Priority::ALL.len()).rev().find_map(|priority| {
            let first_of = |channel: usize| {
                let holders = self.holders.iter().enumerate().filter_map(ready);
                let fronts = holders.filter_map(|(peer, holder)| {
                    let known = holder.waiting[channel][priority].front()?;
                    let length = catalogue.knowns[known].advert.length;
                    self.is_within_share(holder, channel, length).then_some((known, peer))
                });
                fronts.min_by_key(|(known, _)| {
                    let item = &catalogue.knowns[*known];
                    (item.assembly.is_none(), item.wanted)
                })
            };
            let mut best: Option<(u32, PeerIndex)> = None;
            for channel in 0..self.channels {
                let Some((known, peer)) = first_of(channel) else { continue };
                let item = &catalogue.knowns[known];
                let is_full = full >> channel & 1 == 1;
                let fits = || !is_full && has_room(channel as u16, item.advert.length);
                if item.assembly.is_none() && !fits() {
                    full |= 1 << channel;
                } else if best.is_none_or(|(best, _)| item.wanted < catalogue.knowns[best].wanted) {
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
        let item = &mut catalogue.knowns[known];
        let length = item.advert.length;
        let is_new = item.assembly.is_none();
        let assembly = *item.assembly.get_or_insert_with(|| {
            let buffer = Vec::with_capacity(length as usize);
            let leaves = Vec::with_capacity(item.advert.chunks() as usize);
            self.assemblies.insert(Assembly { buffer, leaves })
        });
        item.state = State::Fetching(peer, at as u16);
        let next = self.assemblies[assembly].leaves.len() as u32;
        let deadline = now + self.timeout;
        let holder = self.holders[peer.at()].as_mut().expect("a member");
        if at == holder.requests.len() {
            holder.requests.push(Request::FREE);
        }
        holder.under_way[item.channel as usize] += length;
        holder.load += length;
        let request = &mut holder.requests[at];
        *request = Request {
            generation: request.generation,
            phase: if streamed { Phase::Streamed } else { Phase::Unsent },
            known,
            first: next,
            next,
            end: item.advert.chunks(),
            begun: now,
            deadline,
            last_deadline: deadline + Duration::from_millis(length * 1000 / RATE_MIN),
        };
        self.wake_at = self.wake_at.min(deadline);
        Some((RequestId::new(at, request.generation), is_new))
    }

    /// Takes a request of a peer that is to be put on the wire.
    pub(super) fn take_unsent(&mut self, now: Time, peer: PeerIndex) -> Option<Unsent> {
        let timeout = self.timeout;
        let holder = self.holders[peer.at()].as_mut().expect("a member");
        holder.requests.iter_mut().enumerate().find_map(|(at, request)| {
            let id = RequestId::new(at, request.generation);
            match request.phase {
                Phase::Unsent => {
                    request.phase = Phase::Sent;
                    // The holder's time begins now: it does not pay for our wait.
                    let span = request.last_deadline.since(request.deadline);
                    request.begun = now;
                    request.deadline = now + timeout;
                    request.last_deadline = request.deadline + span;
                    let (first, count) = (request.next, request.end - request.next);
                    Some(Unsent::Fetch { request: id, known: request.known, first, count })
                }
                Phase::Cancelled => {
                    request.release();
                    self.dispatch_due = true;
                    Some(Unsent::Cancel { request: id })
                }
                _ => None,
            }
        })
    }

    pub(super) fn has_unsent(&self, peer: PeerIndex) -> bool {
        let requests = &self.holders[peer.at()].as_ref().expect("a member").requests;
        requests.iter().any(|request| matches!(request.phase, Phase::Unsent | Phase::Cancelled))
    }

    /// The request that an answer belongs to, if it is still under way.
    fn under_way(&mut self, peer: PeerIndex, id: RequestId) -> Option<&mut Request> {
        let (at, generation) = id.parts();
        let request = self.holder(peer).requests.get_mut(at)?;
        let answers = matches!(request.phase, Phase::Sent | Phase::Streamed);
        (answers && u64::from(request.generation) == generation).then_some(request)
    }

    pub(super) fn is_under_way(&mut self, peer: PeerIndex, id: RequestId) -> bool {
        self.under_way(peer, id).is_some()
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
        let timeout = self.timeout;
        let Some(request) = self.under_way(peer, id) else { return Ok(Progress::Unneeded) };
        let known = request.known;
        if chunk.index != request.next {
            return Err((Fault::UnrequestedChunk, known));
        }
        let item = &catalogue.knowns[known];
        let Some(leaf) = item.advert.check_chunk(chunk.index, &chunk.proof, chunk.bytes) else {
            return Err((Fault::WrongChunk, known));
        };
        request.next += 1;
        request.deadline = now + timeout;
        let is_complete = request.next == request.end;
        let fetched = u64::from(request.end - request.first) * CHUNK_BYTES as u64;
        let begun = request.begun;
        let assembly = &mut self.assemblies[item.assembly.expect("allocated at the start")];
        assembly.buffer.extend_from_slice(chunk.bytes);
        assembly.leaves.push(leaf);
        if !is_complete {
            return Ok(Progress::More);
        }
        let (length, channel) = (item.advert.length, item.channel as usize);
        let holder = self.holder(peer);
        holder.requests[id.parts().0].release();
        holder.load -= length;
        holder.under_way[channel] -= length;
        let spent = now.since(begun).as_micros().max(1) as u64;
        let rate =
            (fetched.min(length).max(1) * 1_000_000 / spent).clamp(RATE_MIN, u64::from(u32::MAX));
        holder.rate = (7 * holder.rate + rate) / 8;
        self.dispatch_due = true;
        Ok(Progress::Complete(known))
    }

    /// The artifact of a complete assembly, which ends.
    pub(super) fn take_complete(&mut self, catalogue: &mut Catalogue, known: u32) -> Artifact {
        let item = &mut catalogue.knowns[known];
        item.state = State::Parked(None);
        let assembly = self.assemblies.remove(item.assembly.take().expect("complete"));
        let bytes = Bytes::from(assembly.buffer);
        Artifact::of_checked_chunks(item.id, item.advert.clone(), bytes, assembly.leaves)
    }

    pub(super) fn wake_at(&self) -> Time {
        self.wake_at
    }

    /// Collects what is overdue: artifacts whose request has failed, or is never taken, with the
    /// peer, and artifacts whose pause is over, without. Each call gives one.
    pub(super) fn next_overdue(
        &mut self,
        now: Time,
        catalogue: &Catalogue,
    ) -> Option<(u32, Option<PeerIndex>)> {
        if now < self.wake_at {
            return None;
        }
        if let Some(known) = self.parked.front()
            && matches!(catalogue.knowns[known].state, State::Parked(Some(at)) if at <= now)
        {
            return Some((known, None));
        }
        let mut wake_at = match self.parked.front().map(|known| catalogue.knowns[known].state) {
            Some(State::Parked(Some(at))) => at,
            _ => Time::NEVER,
        };
        for (at, holder) in self.holders.iter_mut().enumerate() {
            let (Some(holder), peer) = (holder, PeerIndex(at as u16)) else { continue };
            let is_live = |phase| !matches!(phase, Phase::Free | Phase::Cancelled);
            for request in holder.requests.iter().filter(|request| is_live(request.phase)) {
                let deadline = request.deadline.min(request.last_deadline);
                if deadline <= now {
                    return Some((request.known, Some(peer)));
                }
                wake_at = wake_at.min(deadline);
            }
            if !holder.is_stuck(self.requests_max) {
                holder.stuck_at = Time::NEVER;
            } else if let Some(known) = holder.first_waiting() {
                holder.stuck_at = holder.stuck_at.min(now + self.timeout);
                if holder.stuck_at <= now {
                    return Some((known, Some(peer)));
                }
                wake_at = wake_at.min(holder.stuck_at);
            }
        }
        self.wake_at = wake_at;
        None
    }

    #[cfg(feature = "internals")]
    pub(super) fn explain(&self, channel: u16) -> alloc::string::String {
        let holder = |(at, holder): (usize, &Option<Holder>)| {
            let holder = holder.as_ref()?;
            let phases: Vec<Phase> = holder.requests.iter().map(|request| request.phase).collect();
            let (waiting, under_way) = (holder.waiting_count, holder.under_way[channel as usize]);
            let rate = holder.rate;
            Some(alloc::format!(
                "peer {at}: {waiting} waiting, {under_way} bytes of {phases:?}, {rate} B/s"
            ))
        };
        let holders: Vec<_> = self.holders.iter().enumerate().filter_map(holder).collect();
        holders.join("; ")
    }

    pub(super) fn assert_invariants(&self, catalogue: &Catalogue) {
        let waiting = |known: &u32| matches!(catalogue.knowns[*known].state, State::Waiting(_));
        let waiting = catalogue.knowns.indices().filter(waiting).count();
        let counted: u32 = self.holders.iter().flatten().map(|holder| holder.waiting_count).sum();
        assert_eq!(waiting as u32, counted);
        let mut assembled = 0;
        for known in catalogue.knowns.indices() {
            let item = &catalogue.knowns[known];
            assembled += usize::from(item.assembly.is_some());
            match item.state {
                State::Fetching(peer, at) => {
                    let holder = self.holders[peer.at()].as_ref().expect("a member");
                    let request = &holder.requests[at as usize];
                    assert!(holder.up && request.known == known && item.assembly.is_some());
                    assert!(!matches!(request.phase, Phase::Free | Phase::Cancelled));
                }
                State::Waiting(peer) => {
                    assert!(self.holders[peer.at()].as_ref().is_some_and(|holder| holder.up));
                }
                State::Later | State::Dropped | State::Parked(_) | State::Ready | State::Done => {
                    assert!(item.assembly.is_none(), "parts are kept only while they grow");
                }
            }
        }
        assert_eq!(assembled, self.assemblies.len());
    }
}

impl Request {
    const FREE: Self = Self {
        generation: 0,
        phase: Phase::Free,
        known: u32::MAX,
        first: 0,
        next: 0,
        end: 0,
        begun: Time::ZERO,
        deadline: Time::NEVER,
        last_deadline: Time::NEVER,
    };

    fn release(&mut self) {
        if self.phase != Phase::Free {
            *self = Self { generation: self.generation.wrapping_add(1), ..Self::FREE };
        }
    }
}
