//! Calls and requests: what their handles and the driver share. The handles are in `route`, `member` and
//! `server`.
//!
//! The handles check new calls against a copy of the peers' credit, so that `try_call` returns at
//! once. Answers and requests occupy their room in the node's budgets until the application has
//! taken them. Requests are staged by peer, a few of each, and handed out round robin.

mod member;
mod parts;
mod route;
mod server;
#[cfg(feature = "tower")]
mod tower;

use std::boxed::Box;
use std::task::Waker;
use std::time::{Duration, Instant};
use std::vec::Vec;

use bytes::Bytes;
use foldhash::quality::FixedState;
use hashbrown::HashMap;

use super::occurrences::Selection;
use super::shared::Command;
use super::waiters::Waiters;
use crate::arena::Arena;
use crate::bits::ones;
use crate::config::RouteConfig;
use crate::error::{AnswerError, CallError};
use crate::id::{Arrival, NodeId, RouteId};
use crate::node::{self, HeldRequest, Node};
use crate::rpc::Manner;
use crate::rpc::arrivals::Arrivals;
use crate::rpc::{Body, CallId, Cancelled, Credit, Outcome, Part, Permit, Refusal, RequestId};
use crate::time::Time;

pub use member::Member;
pub(super) use parts::Key;
use parts::Parts;
pub use parts::{AnswerInParts, CallInParts, RequestParts};
pub use route::{Call, OnlyCalls, Route, UnknownRoute};
pub use server::{Request, Requests, Server};
#[cfg(feature = "tower")]
pub use tower::Asked;

/// Requests of one peer and route that are staged for the application: as many as the node reads ahead
/// of it, so that it does not wait for the driver between two. It is no setting, since it bounds no memory:
/// what is staged keeps its room in the route's `body_bytes_max`.
const STAGED_MAX: usize = 16;

/// When a caller is to try again whose answer has found no room: what answers take is free again a few
/// round trips later, if their callers read them.
const NO_ROOM_RETRY: Duration = Duration::from_millis(500);

/// Ids are consecutive numbers, so a peer cannot choose ids that collide in the hash table.
type Map<K, V> = HashMap<K, V, FixedState>;

/// What a route counts since the node's start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct RouteStats {
    /// Messages that members have: see [`Route::tell`].
    pub tells: u64,
    /// Messages that were dropped: since their deadline passed before there was a connection and credit,
    /// or since the connection was lost, the member does not serve the route or is none any more.
    pub tells_dropped: u64,
}

/// A command of the application for the node.
pub(super) enum CallCommand {
    Call {
        slot: u32,
        peer: NodeId,
        route: RouteId,
        /// The route's index.
        index: usize,
        body: Body,
        timeout: Option<Duration>,
        is_tell: bool,
    },
    AnswerInParts {
        request: RequestId,
        length: u32,
    },
    /// An answer in parts is not given to its end.
    BreakOff {
        request: RequestId,
    },
    /// The next part.
    Give {
        key: Key,
        part: Bytes,
    },
    Read {
        key: Key,
    },
    Cancel {
        slot: u32,
    },
    Answer {
        request: RequestId,
        body: Bytes,
    },
    Refuse {
        request: RequestId,
        refusal: Refusal,
    },
    /// Wait for room for an answer.
    Reserve {
        request: RequestId,
        bytes: u32,
    },
    Serve {
        route: RouteId,
        is_wanted: bool,
    },
}

enum SlotState {
    /// In progress, with the waker of the future that awaits it.
    Waiting(Option<Waker>),
    Done(Result<Bytes, CallError>, Option<Permit>),
    /// Nobody awaits it any more: it was detached, or it was dropped and the command for the node is
    /// queued.
    Dropped,
}

struct Slot {
    peer: NodeId,
    route: usize,
    /// Bytes of the request.
    bytes: u64,
    is_tell: bool,
    state: SlotState,
    /// If its bodies are given and read in parts.
    parts: Option<Box<Parts>>,
}

/// The credit that a peer grants on one route, and how much of it is used.
#[derive(Default)]
struct PeerCredit {
    /// `None` if the peer does not serve the route.
    granted: Option<Credit>,
    /// Calls whose outcome has not been taken, and bytes of their requests.
    calls: u32,
    bytes: u64,
    /// Those who wait for a place among the calls.
    waiters: Waiters,
}

impl PeerCredit {
    /// Whether another call would not have to wait.
    fn has_place(&self) -> bool {
        self.granted.is_some_and(|granted| granted.admits(self.calls, self.bytes, false))
    }

    /// Those to be woken when there is room for another call: the first who waits for it.
    fn next_waiter(&mut self) -> Option<Waker> {
        if self.has_place() { self.waiters.pop() } else { None }
    }
}

#[derive(Default)]
struct Peer {
    is_up: bool,
    /// By route.
    credits: Vec<PeerCredit>,
}

impl Peer {
    fn is_of_interest(&self) -> bool {
        self.is_up || self.credits.iter().any(|credit| credit.calls > 0)
    }
}

struct RouteState {
    config: RouteConfig,
    stats: RouteStats,
    /// Bytes of requests that had not arrived when the driver looked last, and of those that it has not
    /// handed to the node since.
    unsent_bytes: u64,
    queued_bytes: u64,
    servers: usize,
    staged: Arrivals<StagedRequest>,
    /// Requests were left in the node, since their stage was full.
    is_full: bool,
    /// They may have come before all that is staged: a member's last one was taken while the node had more.
    lacks_some: bool,
    waiters: Waiters,
}

/// A request that waits for the application, and the room that it takes.
type StagedRequest = (node::Request, Permit);

/// A request in the application's hands.
#[derive(Default)]
struct Taken {
    /// Why it needs no answer any more.
    cancelled: Option<AnswerError>,
    /// Bytes of an answer that has room for sure, and of one for which it was asked for last.
    room: u32,
    room_wanted: u32,
    /// If it is read, or its answer given, in parts.
    parts: Option<Box<Parts>>,
    waiters: Waiters,
}

impl Taken {
    /// Whether all of the request was read, if it is read in parts.
    fn is_read(&self) -> bool {
        self.parts.as_ref().is_none_or(|parts| parts.is_read())
    }
}

/// What the caller of a request is told that cannot be answered.
fn refusal_of(error: AnswerError) -> Refusal {
    match error {
        AnswerError::NoRoom => Refusal::Busy { retry_after: NO_ROOM_RETRY },
        _ => Refusal::Dropped,
    }
}

/// The state of calls that the handles and the driver share.
pub(super) struct Calls {
    routes: Vec<RouteState>,
    slots: Arena<Slot>,
    peers: Map<NodeId, Peer>,
    taken: Map<RequestId, Taken>,
    /// Room that the application has given back.
    released: Vec<Permit>,
    /// Whom the driver wakes, since there is credit for them.
    woken: Vec<Waker>,
    /// The node waits for room.
    awaits_budget: bool,
    start: Option<Instant>,
}

impl Calls {
    pub(super) fn new(node: &Node) -> Self {
        let route = |config: &RouteConfig| RouteState {
            config: config.clone(),
            stats: RouteStats::default(),
            unsent_bytes: 0,
            queued_bytes: 0,
            servers: 0,
            staged: Arrivals::new(),
            is_full: false,
            lacks_some: false,
            waiters: Waiters::default(),
        };
        Self {
            routes: node.config().routes.iter().map(route).collect(),
            slots: Arena::new(),
            peers: Map::default(),
            taken: Map::default(),
            released: Vec::new(),
            woken: Vec::new(),
            awaits_budget: false,
            start: None,
        }
    }

    pub(super) fn take_released(&mut self) -> Vec<Permit> {
        std::mem::take(&mut self.released)
    }

    pub(super) fn has_released(&self) -> bool {
        !self.released.is_empty()
    }

    /// The futures that wait for requests on a route.
    pub(super) fn waiters(&mut self, route: usize) -> &mut Waiters {
        &mut self.routes[route].waiters
    }

    /// Whether the node may have requests on some of these routes (bit set) that came before all that is
    /// staged.
    pub(super) fn lacks_some(&self, routes: u64) -> bool {
        ones(routes).any(|route| self.routes[route].lacks_some)
    }

    /// The request that came first of those that are staged on some of these routes (bit set), and its
    /// route.
    pub(super) fn first_staged(&self, routes: u64) -> Option<(Arrival, usize)> {
        ones(routes)
            .filter_map(|route| Some((self.routes[route].staged.first_arrival()?, route)))
            .min()
    }

    /// Whether there are requests on a route to be taken.
    pub(super) fn has_staged(&self, route: usize) -> bool {
        self.routes[route].staged.len() > 0
    }

    /// The futures that wait until the caller of a request waits no longer; `None` once it is so.
    pub(super) fn cancellation_waiters(&mut self, request: RequestId) -> Option<&mut Waiters> {
        self.taken.get_mut(&request).map(|taken| &mut taken.waiters)
    }

    /// All calls in progress have failed, because the node has shut down. Gives what is to be dropped
    /// when the lock is released.
    pub(super) fn close(&mut self, wakers: &mut Vec<Waker>) -> Vec<Arrivals<StagedRequest>> {
        let slots: Vec<u32> = self.slots.indices().collect();
        for at in slots {
            let slot = &mut self.slots[at];
            wakers.extend(slot.parts.iter_mut().flat_map(|parts| parts.waiters.drain()));
            match &mut slot.state {
                SlotState::Waiting(waker) => {
                    wakers.extend(waker.take());
                    slot.state = SlotState::Done(Err(CallError::Closed), None);
                }
                SlotState::Done(..) => {}
                SlotState::Dropped => {
                    let slot = self.slots.remove(at);
                    self.routes[slot.route].stats.tells_dropped += u64::from(slot.is_tell);
                }
            }
        }
        for (_, mut taken) in self.taken.drain() {
            wakers.extend(taken.waiters.drain());
        }
        wakers.append(&mut self.woken);
        for credit in self.peers.values_mut().flat_map(|peer| &mut peer.credits) {
            wakers.extend(credit.waiters.drain());
        }
        let of_route = |route: &mut RouteState| {
            wakers.extend(route.waiters.drain());
            (route.is_full, route.lacks_some) = (false, false);
            std::mem::replace(&mut route.staged, Arrivals::new())
        };
        self.routes.iter_mut().map(of_route).collect()
    }

    /// A call has ended. Gives its result back if nobody awaits it any more.
    fn end(
        &mut self,
        at: u32,
        result: Result<Bytes, CallError>,
        permit: Option<Permit>,
    ) -> Result<Option<Waker>, Result<Bytes, CallError>> {
        let slot = &mut self.slots[at];
        match &mut slot.state {
            SlotState::Waiting(waker) => {
                let waker = waker.take();
                slot.state = SlotState::Done(result, permit);
                Ok(waker)
            }
            SlotState::Done(..) => unreachable!("a call ends once"),
            SlotState::Dropped => {
                self.released.extend(permit);
                let slot = self.free(at);
                if slot.is_tell {
                    let stats = &mut self.routes[slot.route].stats;
                    let count =
                        if result.is_ok() { &mut stats.tells } else { &mut stats.tells_dropped };
                    *count += 1;
                }
                Err(result)
            }
        }
    }

    /// Nobody awaits a call any more. Gives its state, with what is to be dropped without the lock.
    fn drop_call(&mut self, at: u32) -> (SlotState, Option<Box<Parts>>) {
        let parts = self.slots[at].parts.take();
        let mut before = std::mem::replace(&mut self.slots[at].state, SlotState::Dropped);
        if let SlotState::Done(_, permit) = &mut before {
            self.released.extend(permit.take());
            self.free(at);
        }
        (before, parts)
    }

    /// A call has ended, and its credit is free.
    fn free(&mut self, at: u32) -> Slot {
        let slot = self.slots.remove(at);
        let peer = self.peers.get_mut(&slot.peer).expect("it had credit");
        let credit = &mut peer.credits[slot.route];
        credit.calls -= 1;
        credit.bytes -= slot.bytes;
        self.woken.extend(credit.next_waiter());
        if !peer.is_of_interest() {
            self.peers.remove(&slot.peer);
        }
        slot
    }
}

impl Calls {
    /// The futures that wait for a place among the calls to a member.
    pub(super) fn credit_waiters(&mut self, route: usize, peer: &NodeId) -> Option<&mut Waiters> {
        self.peers.get_mut(peer).map(|peer| &mut peer.credits[route].waiters)
    }

    /// Whether there is a place among the calls to a member.
    pub(super) fn has_place(&self, route: usize, peer: &NodeId) -> bool {
        self.peers.get(peer).is_some_and(|peer| peer.credits[route].has_place())
    }

    /// A place among the calls to a member is free again.
    fn give_place_back(&mut self, to: &NodeId, route: usize) {
        let peer = self.peers.get_mut(to).expect("a place of its calls is taken");
        let credit = &mut peer.credits[route];
        credit.calls -= 1;
        self.woken.extend(credit.next_waiter());
        if !peer.is_of_interest() {
            self.peers.remove(to);
        }
    }
}

/// The state of calls that only the driver uses.
#[derive(Default)]
pub(super) struct CallTable {
    slots: Map<CallId, u32>,
    calls: Map<u32, CallId>,
    /// Outcomes of calls that are handed to the handles with the next events.
    ended: Vec<(u32, Result<Bytes, CallError>, Option<Permit>)>,
    /// Parts of bodies that were read, and answers in parts that are over: handed over in the same way.
    read: Vec<(Key, Part)>,
    over: Vec<(RequestId, Result<(), AnswerError>)>,
    /// Slots that the application has dropped.
    freed: Vec<u32>,
    /// The value of `Node::links` when the credit was copied.
    links: Option<u64>,
    /// By route, bytes of requests that the node was handed since the last look at them.
    begun_bytes: Vec<u64>,
    /// Commands of this turn, and whom it wakes. Kept to reuse their memory.
    pub(super) commands: Vec<Command>,
    pub(super) wakers: Vec<Waker>,
    /// Answers and requests that nobody takes, to be dropped when the lock is released.
    pub(super) garbage: Vec<Bytes>,
}

impl CallTable {
    /// Hands the node a command.
    pub(super) fn command(&mut self, now: Time, node: &mut Node, command: CallCommand) {
        match command {
            CallCommand::Call { slot, peer, route, index, body, timeout, is_tell } => {
                self.note_begun(index, body.room());
                let called = match body {
                    Body::Whole(body) if is_tell => node.tell(now, &peer, route, body, timeout),
                    body => node.call(now, &peer, route, body, timeout, true),
                };
                self.note_called(slot, called);
            }
            CallCommand::AnswerInParts { request, length } => {
                self.answer_in_parts(now, node, request, length);
            }
            CallCommand::BreakOff { request } => {
                node.break_off(request);
            }
            CallCommand::Give { key, part } => self.give(now, node, key, part),
            CallCommand::Read { key } => self.read(now, node, key),
            CallCommand::Cancel { slot } => {
                // The call may have ended before, and its outcome may wait to be handed over.
                if let Some(call) = self.calls.get(&slot)
                    && node.cancel(*call)
                {
                    self.slots.remove(call);
                    self.calls.remove(&slot);
                    self.freed.push(slot);
                }
            }
            // If it was cancelled in the meantime, the node has dropped it and the handle has been
            // told. There may be no room.
            CallCommand::Answer { request, body } => {
                if let Err(error) = node.answer(now, request, body) {
                    node.refuse(now, request, refusal_of(error));
                }
            }
            // The handle has checked the length. If it was cancelled, it is told.
            CallCommand::Reserve { request, bytes } => drop(node.reserve(now, request, bytes)),
            CallCommand::Refuse { request, refusal } => {
                node.refuse(now, request, refusal);
            }
            CallCommand::Serve { route, is_wanted } => {
                node.serve(now, route, is_wanted);
            }
        }
    }

    fn note_begun(&mut self, index: usize, bytes: u64) {
        if self.begun_bytes.len() <= index {
            self.begun_bytes.resize(index + 1, 0);
        }
        self.begun_bytes[index] += bytes;
    }

    fn note_called(&mut self, slot: u32, called: Result<CallId, CallError>) {
        match called {
            Ok(call) => {
                self.slots.insert(call, slot);
                self.calls.insert(slot, call);
            }
            Err(error) => self.ended.push((slot, Err(error), None)),
        }
    }

    /// Hands over outcomes of calls and stages requests. True if there were any.
    pub(super) fn stage(
        &mut self,
        now: Time,
        start: Instant,
        node: &mut Node,
        calls: &mut Calls,
        wakers: &mut Vec<Waker>,
        unclaimed: &mut Selection,
    ) -> bool {
        calls.start = Some(start);
        let mut any = self.stage_parts(now, node, calls, wakers);
        while let Some((Outcome { call, result }, permit)) = node.poll_held_outcome() {
            let slot = self.slots.remove(&call).expect("each call has one");
            self.calls.remove(&slot);
            self.ended.push((slot, result, Some(permit)));
        }
        for (slot, result, permit) in self.ended.drain(..) {
            wakers.extend(calls.part_waiters(slot).into_iter().flat_map(Waiters::drain));
            match calls.end(slot, result, permit) {
                Ok(waker) => wakers.extend(waker),
                Err(result) => self.garbage.extend(result),
            }
            any = true;
        }
        self.freed.drain(..).for_each(|slot| drop(calls.free(slot)));
        while let Some(Cancelled { request, why }) = node.poll_cancelled() {
            any = true;
            match calls.taken.get_mut(&request) {
                Some(taken) => {
                    taken.cancelled = Some(why);
                    wakers.extend(taken.waiters.drain());
                }
                None => {
                    self.garbage.extend(calls.unstage(request));
                    node.refuse(now, request, Refusal::Dropped);
                }
            }
        }
        while let Some(request) = node.poll_reserved() {
            if let Some(taken) = calls.taken.get_mut(&request) {
                any = true;
                taken.room = taken.room.max(taken.room_wanted);
                wakers.extend(taken.waiters.drain());
            }
        }
        // What was staged for the last server is refused when it is dropped.
        let routes = calls.routes.iter_mut().enumerate();
        for (index, route) in routes.filter(|(_, route)| route.servers > 0) {
            let id = route.config.id;
            let staged = &mut route.staged;
            let before = staged.len();
            while let Some(HeldRequest { peer, arrival, request, permit }) =
                node.poll_held_request(id, |peer| staged.count(peer) < STAGED_MAX)
            {
                staged.push(peer, arrival, (request, permit));
                any = true;
            }
            if staged.len() > before {
                match route.waiters.pop() {
                    Some(waker) => wakers.push(waker),
                    None => unclaimed.routes |= 1 << index,
                }
            }
            route.is_full = node.has_requests(id);
            route.lacks_some = false;
        }
        for (index, begun) in self.begun_bytes.iter_mut().enumerate() {
            let route = &mut calls.routes[index];
            route.queued_bytes -= std::mem::take(begun);
            route.unsent_bytes = node.request_bytes(index);
        }
        calls.awaits_budget = node.awaits_budget();
        let links = node.links();
        if self.links.replace(links) != Some(links) {
            calls.update_credit(node, wakers);
        }
        wakers.append(&mut calls.woken);
        any
    }
}

impl Calls {
    /// Takes back a request that the application has not seen. Gives its body, if it was staged.
    fn unstage(&mut self, request: RequestId) -> Option<Bytes> {
        self.routes.iter_mut().find_map(|route| {
            let (staged, permit) = route.staged.remove_any(|(staged, _)| staged.id == request)?;
            self.released.push(permit);
            Some(staged.body)
        })
    }

    /// Copies the peers' credit from the node.
    fn update_credit(&mut self, node: &Node, wakers: &mut Vec<Waker>) {
        let routes = self.routes.len();
        self.peers.values_mut().for_each(|peer| peer.is_up = false);
        for id in node.peers_up() {
            let peer = self.peers.entry(id).or_default();
            peer.is_up = true;
            peer.credits.resize_with(routes, PeerCredit::default);
            for (credit, route) in peer.credits.iter_mut().zip(&self.routes) {
                credit.granted = node.credit(&id, route.config.id);
            }
        }
        // Who waits for credit learns that there is none, or another.
        for credit in self.peers.values_mut().flat_map(|peer| &mut peer.credits) {
            wakers.extend(credit.waiters.drain());
        }
        self.peers.retain(|_, peer| peer.is_of_interest());
    }

    /// Takes credit for a call, and room for its request.
    fn admit(
        &mut self,
        peer: &NodeId,
        route: usize,
        body: &Body,
        manner: Manner,
    ) -> Result<u32, CallError> {
        let (routes, bytes, room) = (self.routes.len(), body.length(), body.room());
        let RouteState { config, unsent_bytes, queued_bytes, .. } = &mut self.routes[route];
        let is_tell = manner == Manner::Tell;
        let (is_up, granted, calls, used_bytes) = match self.peers.get(peer) {
            Some(Peer { is_up, credits }) => {
                let credit = &credits[route];
                (*is_up, credit.granted, credit.calls, credit.bytes)
            }
            None => (false, None, 0, 0),
        };
        let granted = match is_up {
            true => granted.ok_or(CallError::NotServed)?,
            false if is_tell => Credit::most(config),
            false => return Err(CallError::NotConnected),
        };
        if bytes > granted.request_bytes_max.into() {
            return Err(CallError::TooLong);
        }
        let has_credit = granted.admits(calls, used_bytes + bytes, manner != Manner::Try);
        if !has_credit || *unsent_bytes + *queued_bytes + room > config.body_bytes_max {
            return Err(CallError::Pushback);
        }
        *queued_bytes += room;
        let peer_state = self.peers.entry(*peer).or_default();
        peer_state.credits.resize_with(routes, PeerCredit::default);
        let credit = &mut peer_state.credits[route];
        credit.calls += 1;
        credit.bytes += bytes;
        let state = if is_tell { SlotState::Dropped } else { SlotState::Waiting(None) };
        let parts = None;
        Ok(self.slots.insert(Slot { peer: *peer, route, bytes, is_tell, state, parts }))
    }
}
