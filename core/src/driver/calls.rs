//! Calls and requests for applications: futures that any thread may await.
//!
//! The handles check new calls against a copy of the peers' credit, so that `try_call` returns at
//! once. Answers and requests occupy their room in the node's budgets until the application has
//! taken them. Requests are staged by peer, a few of each, and handed out round robin.

use std::fmt;
use std::future::{Future, poll_fn};
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use std::vec::Vec;

use bytes::Bytes;
use foldhash::quality::FixedState;
use futures_core::Stream;
use hashbrown::HashMap;

use super::node_handle::NodeHandle;
use super::shared::{Command, Shared, State};
use super::waiters::{Source, Waiters, Waiting};
use crate::arena::Arena;
use crate::config::RouteConfig;
use crate::error::{AnswerError, CallError};
use crate::id::{NodeId, RouteId};
use crate::node::{self, Node};
use crate::rpc::turns::Turns;
use crate::rpc::{CallId, Outcome, Permit, Refusal, RequestId};
use crate::time::Time;

/// Requests of one peer and route that are staged for the application.
const STAGED_MAX: usize = 16;

/// Ids are consecutive numbers, so a peer cannot choose ids that collide in the hash table.
type Map<K, V> = HashMap<K, V, FixedState>;

/// A command of the application for the node.
pub(super) enum CallCommand {
    Call { slot: u32, peer: NodeId, route: RouteId, body: Bytes, timeout: Option<Duration> },
    Cancel { slot: u32 },
    Answer { request: RequestId, body: Bytes },
    Refuse { request: RequestId, refusal: Refusal },
    Serve { route: RouteId, is_wanted: bool },
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
    state: SlotState,
}

/// The credit that a peer grants on one route, and how much of it is used.
#[derive(Clone, Copy, Default)]
struct Credit {
    /// The number of calls at once, and of calls that wait. `None` if the peer does not serve the
    /// route.
    limits: Option<(u32, u32)>,
    used: u32,
}

#[derive(Default)]
struct Peer {
    is_up: bool,
    /// By route.
    credits: Vec<Credit>,
}

impl Peer {
    fn is_of_interest(&self) -> bool {
        self.is_up || self.credits.iter().any(|credit| credit.used > 0)
    }
}

struct RouteState {
    config: RouteConfig,
    servers: usize,
    staged: Turns<(node::Request, Permit)>,
    /// Requests were left in the node, since their stage was full.
    is_full: bool,
    waiters: Waiters,
}

/// A request in the application's hands.
#[derive(Default)]
struct Taken {
    is_cancelled: bool,
    waiters: Waiters,
}

/// The state of calls that the handles and the driver share.
pub(super) struct Calls {
    routes: Vec<RouteState>,
    slots: Arena<Slot>,
    peers: Map<NodeId, Peer>,
    taken: Map<RequestId, Taken>,
    /// Room that the application has given back.
    released: Vec<Permit>,
    /// The node waits for room.
    awaits_budget: bool,
    start: Option<Instant>,
}

impl Calls {
    pub(super) fn new(node: &Node) -> Self {
        let route = |config: &RouteConfig| RouteState {
            config: config.clone(),
            servers: 0,
            staged: Turns::new(),
            is_full: false,
            waiters: Waiters::default(),
        };
        Self {
            routes: node.config().routes.iter().map(route).collect(),
            slots: Arena::new(),
            peers: Map::default(),
            taken: Map::default(),
            released: Vec::new(),
            awaits_budget: false,
            start: None,
        }
    }

    pub(super) fn take_released(&mut self) -> Vec<Permit> {
        std::mem::take(&mut self.released)
    }

    /// The futures that wait for requests on a route.
    pub(super) fn waiters(&mut self, route: usize) -> &mut Waiters {
        &mut self.routes[route].waiters
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
    pub(super) fn close(&mut self, wakers: &mut Vec<Waker>) -> Vec<Turns<(node::Request, Permit)>> {
        let slots: Vec<u32> = self.slots.indices().collect();
        for at in slots {
            let slot = &mut self.slots[at];
            match &mut slot.state {
                SlotState::Waiting(waker) => {
                    wakers.extend(waker.take());
                    slot.state = SlotState::Done(Err(CallError::Closed), None);
                }
                SlotState::Done(..) => {}
                SlotState::Dropped => drop(self.slots.remove(at)),
            }
        }
        wakers.extend(self.taken.drain().flat_map(|(_, mut taken)| {
            let waiting: Vec<Waker> = taken.waiters.drain().collect();
            waiting
        }));
        let of_route = |route: &mut RouteState| {
            wakers.extend(route.waiters.drain());
            std::mem::replace(&mut route.staged, Turns::new())
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
                self.free(at);
                Err(result)
            }
        }
    }

    /// Nobody awaits a call any more. Gives its state, with what is to be dropped without the lock.
    fn drop_call(&mut self, at: u32) -> SlotState {
        let mut before = std::mem::replace(&mut self.slots[at].state, SlotState::Dropped);
        if let SlotState::Done(_, permit) = &mut before {
            self.released.extend(permit.take());
            self.free(at);
        }
        before
    }

    /// A call has ended, and its credit is free.
    fn free(&mut self, at: u32) -> Slot {
        let slot = self.slots.remove(at);
        let peer = self.peers.get_mut(&slot.peer).expect("it had credit");
        peer.credits[slot.route].used -= 1;
        if !peer.is_of_interest() {
            self.peers.remove(&slot.peer);
        }
        slot
    }
}

/// The state of calls that only the driver uses.
#[derive(Default)]
pub(super) struct CallTable {
    slots: Map<CallId, u32>,
    calls: Map<u32, CallId>,
    /// Outcomes of calls that are handed to the handles with the next events.
    ended: Vec<(u32, Result<Bytes, CallError>, Option<Permit>)>,
    /// Slots that the application has dropped.
    freed: Vec<u32>,
    /// The value of `Node::links` when the credit was copied.
    links: Option<u64>,
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
            CallCommand::Call { slot, peer, route, body, timeout } => {
                match node.call(now, &peer, route, body, timeout, true) {
                    Ok(call) => {
                        self.slots.insert(call, slot);
                        self.calls.insert(slot, call);
                    }
                    Err(error) => self.ended.push((slot, Err(error), None)),
                }
            }
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
            // told.
            CallCommand::Answer { request, body } => drop(node.answer(now, request, body)),
            CallCommand::Refuse { request, refusal } => {
                node.refuse(now, request, refusal);
            }
            CallCommand::Serve { route, is_wanted } => {
                node.serve(now, route, is_wanted);
            }
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
    ) -> bool {
        calls.start = Some(start);
        let mut any = false;
        while let Some((Outcome { call, result }, permit)) = node.poll_held_outcome() {
            let slot = self.slots.remove(&call).expect("each call has one");
            self.calls.remove(&slot);
            self.ended.push((slot, result, Some(permit)));
        }
        for (slot, result, permit) in self.ended.drain(..) {
            match calls.end(slot, result, permit) {
                Ok(waker) => wakers.extend(waker),
                Err(result) => self.garbage.extend(result),
            }
            any = true;
        }
        self.freed.drain(..).for_each(|slot| drop(calls.free(slot)));
        while let Some(request) = node.poll_cancelled() {
            any = true;
            match calls.taken.get_mut(&request) {
                Some(taken) => {
                    taken.is_cancelled = true;
                    wakers.extend(taken.waiters.drain());
                }
                None => {
                    self.garbage.extend(calls.unstage(request));
                    node.refuse(now, request, Refusal::Dropped);
                }
            }
        }
        // What was staged for the last server is refused when it is dropped.
        for route in calls.routes.iter_mut().filter(|route| route.servers > 0) {
            let id = route.config.id;
            let staged = &mut route.staged;
            let before = staged.len();
            while let Some((peer, request, permit)) =
                node.poll_held_request(id, |peer| staged.count(peer) < STAGED_MAX)
            {
                staged.push(peer, (request, permit));
                any = true;
            }
            if staged.len() > before {
                wakers.extend(route.waiters.pop());
            }
            route.is_full = node.has_requests(id);
        }
        calls.awaits_budget = node.awaits_budget();
        let links = node.links();
        if self.links.replace(links) != Some(links) {
            calls.update_credit(node);
        }
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
    fn update_credit(&mut self, node: &Node) {
        let routes = self.routes.len();
        self.peers.values_mut().for_each(|peer| peer.is_up = false);
        for id in node.peers_up() {
            let peer = self.peers.entry(id).or_default();
            peer.is_up = true;
            peer.credits.resize(routes, Credit::default());
            for (credit, route) in peer.credits.iter_mut().zip(&self.routes) {
                credit.limits = node.credit(&id, route.config.id);
            }
        }
        self.peers.retain(|_, peer| peer.is_of_interest());
    }

    fn admit(&mut self, peer: &NodeId, route: usize, waits: bool) -> Result<u32, CallError> {
        let up = self.peers.get_mut(peer).filter(|peer| peer.is_up);
        let credit = &mut up.ok_or(CallError::NotConnected)?.credits[route];
        let (at_once, waiting) = credit.limits.ok_or(CallError::NotServed)?;
        let limit = if waits { at_once + waiting } else { at_once };
        if credit.used >= limit {
            return Err(CallError::Pushback);
        }
        credit.used += 1;
        let state = SlotState::Waiting(None);
        Ok(self.slots.insert(Slot { peer: *peer, route, state }))
    }
}

/// The configuration has no such route.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("route {} is not configured", .0.0)]
pub struct UnknownRoute(pub RouteId);

/// The configuration says that this node only calls on the route: see
/// [`RouteConfig::serves`](crate::config::RouteConfig::serves).
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("route {} is configured for calls only: set `serves`", .0.0)]
pub struct OnlyCalls(pub RouteId);

impl NodeHandle {
    /// A handle to one route, to call members and to serve their requests.
    ///
    /// # Errors
    /// If the configuration does not have it.
    pub fn route(&self, id: RouteId) -> Result<Route, UnknownRoute> {
        let state = self.shared().lock();
        let mut routes = state.calls.routes.iter();
        let index = routes.position(|route| route.config.id == id).ok_or(UnknownRoute(id))?;
        let request_bytes_max = state.calls.routes[index].config.request_bytes_max;
        Ok(Route { node: self.clone(), id, index, request_bytes_max })
    }
}

/// One route of a running node. Clones are handles to the same route.
#[must_use = "a handle does nothing by itself"]
#[derive(Clone)]
pub struct Route {
    node: NodeHandle,
    id: RouteId,
    index: usize,
    request_bytes_max: u32,
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route").field("node", &self.node.key_id()).field("id", &self.id).finish()
    }
}

impl Route {
    /// The route's id.
    pub fn id(&self) -> RouteId {
        self.id
    }

    /// Calls a member. The call begins at once; await it for the answer, drop it to give it up. The
    /// bytes are taken without a copy.
    ///
    /// When the member's credit is used up, the call waits for it, in order, up to the route's
    /// deadline. When too many wait already, it ends with [`CallError::Pushback`].
    pub fn call(&self, to: NodeId, body: impl Into<Bytes>) -> Call {
        self.begin(to, body.into(), None, true).unwrap_or_else(|error| self.failed(error))
    }

    /// The same with a deadline of its own.
    pub fn call_within(&self, to: NodeId, body: impl Into<Bytes>, timeout: Duration) -> Call {
        let call = self.begin(to, body.into(), Some(timeout), true);
        call.unwrap_or_else(|error| self.failed(error))
    }

    /// Calls a member if it has credit left: never waits.
    ///
    /// # Errors
    /// [`CallError::Pushback`] if there is no credit, or what else forbids the call.
    pub fn try_call(&self, to: NodeId, body: impl Into<Bytes>) -> Result<Call, CallError> {
        self.begin(to, body.into(), None, false)
    }

    fn failed(&self, error: CallError) -> Call {
        Call { node: self.node.clone(), slot: Err(Some(error)) }
    }

    fn begin(
        &self,
        peer: NodeId,
        body: Bytes,
        timeout: Option<Duration>,
        waits: bool,
    ) -> Result<Call, CallError> {
        if body.len() > self.request_bytes_max as usize {
            return Err(CallError::TooLong);
        }
        // Dropped when the lock is released, if the call cannot be made.
        let mut body = Some(body);
        let slot = self.node.shared().command(|state| {
            if state.is_ending() {
                return Err(CallError::Closed);
            }
            if state.commands.len() >= state.commands_max {
                return Err(CallError::Pushback);
            }
            let slot = state.calls.admit(&peer, self.index, waits)?;
            let body = body.take().expect("taken once");
            let call = CallCommand::Call { slot, peer, route: self.id, body, timeout };
            state.commands.push_back(Command::Call(call));
            Ok(slot)
        })?;
        Ok(Call { node: self.node.clone(), slot: Ok(slot) })
    }

    /// Takes requests of members from now on, as long as there is a server. Until the first one,
    /// requests wait; after the last one, they are refused.
    ///
    /// # Errors
    /// If the configuration says that this node only calls on the route.
    pub fn serve(&self) -> Result<Server, OnlyCalls> {
        let serves = self.node.shared().lock().calls.routes[self.index].config.serves;
        if serves { Ok(self.server()) } else { Err(OnlyCalls(self.id)) }
    }

    fn server(&self) -> Server {
        self.node.shared().command(|state| {
            let is_closed = state.is_closed();
            let route = &mut state.calls.routes[self.index];
            route.servers += 1;
            if route.servers == 1 && !is_closed {
                let serve = CallCommand::Serve { route: self.id, is_wanted: true };
                state.commands.push_back(Command::Call(serve));
            }
        });
        Server { route: self.clone() }
    }
}

/// A call in progress: a future of the answer. Dropping it cancels the call: no more bytes are
/// sent, and the callee is notified.
#[must_use = "a call is given up when it is dropped"]
pub struct Call {
    node: NodeHandle,
    /// The slot of its state, or the error to return if the call could not be made.
    slot: Result<u32, Option<CallError>>,
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("node", &self.node.key_id()).finish_non_exhaustive()
    }
}

impl Call {
    /// Lets the call go on to its end, or its deadline, without anybody who awaits the answer.
    pub fn detach(mut self) {
        let Ok(at) = std::mem::replace(&mut self.slot, Err(None)) else { return };
        // The answer or the waker is dropped when the lock is released.
        let _garbage = self.node.shared().command(|state| state.calls.drop_call(at));
    }
}

/// As [`Future::poll`].
const ENDED: &str = "a call is not polled after its end";

impl Future for Call {
    type Output = Result<Bytes, CallError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let slot = match &mut self.slot {
            Ok(slot) => *slot,
            Err(error) => return Poll::Ready(Err(error.take().expect(ENDED))),
        };
        let mut waker = None;
        let (result, driver) = loop {
            let mut state = self.node.shared().lock();
            let calls = &mut state.calls;
            if let SlotState::Waiting(registered) = &mut calls.slots[slot].state {
                if registered.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                    return Poll::Pending;
                }
                let Some(waker) = waker.take() else {
                    // Cloned without the lock.
                    drop(state);
                    waker = Some(cx.waker().clone());
                    continue;
                };
                let old = registered.replace(waker);
                drop(state);
                drop(old);
                return Poll::Pending;
            }
            let SlotState::Done(result, permit) = calls.free(slot).state else {
                unreachable!("it is not dropped")
            };
            calls.released.extend(permit);
            break (result, state.wake_if_starved());
        };
        self.slot = Err(None);
        if let Some(driver) = driver {
            driver.wake();
        }
        Poll::Ready(result)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let Ok(at) = self.slot else { return };
        // The answer or the waker is dropped when the lock is released.
        let _garbage = self.node.shared().command(|state| {
            let before = state.calls.drop_call(at);
            if !matches!(before, SlotState::Done(..)) {
                let cancel = CallCommand::Cancel { slot: at };
                state.commands.push_back(Command::Call(cancel));
            }
            before
        });
    }
}

/// Takes the requests of a route.
#[must_use = "requests are not taken when their server is dropped"]
pub struct Server {
    route: Route,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("route", &self.route).finish()
    }
}

impl Clone for Server {
    fn clone(&self) -> Self {
        self.route.server()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Route { node, id, index, .. } = &self.route;
        // What nobody takes is dropped when the lock is released.
        let _garbage = node.shared().command(|state| {
            let State { calls, commands, .. } = state;
            let Calls { routes, released, .. } = calls;
            let route = &mut routes[*index];
            route.servers -= 1;
            let mut garbage = Vec::new();
            if route.servers > 0 || state.end.is_some() {
                return garbage;
            }
            while let Some((request, permit)) = route.staged.pop(|_, _| true) {
                let refuse = CallCommand::Refuse { request: request.id, refusal: Refusal::Dropped };
                commands.push_back(Command::Call(refuse));
                released.push(permit);
                garbage.push(request.body);
            }
            let serve = CallCommand::Serve { route: *id, is_wanted: false };
            commands.push_back(Command::Call(serve));
            garbage
        });
    }
}

impl Server {
    /// The next request, members taking turns; `None` once the node has shut down.
    pub async fn next_request(&self) -> Option<Request> {
        let mut waiting = Waiting::new(self.route.node.shared(), Source::Route(self.route.index));
        poll_fn(|cx| poll_request(&mut waiting, &self.route, cx)).await
    }

    /// The requests as a stream, which ends once the node has shut down. It serves the route as this does.
    pub fn requests(self) -> Requests {
        let source = Source::Route(self.route.index);
        Requests { waiting: Waiting::new(self.route.node.shared_arc(), source), server: self }
    }

    /// A request, if there is one.
    pub fn try_request(&self) -> Option<Request> {
        self.route.node.shared().take(|state| state.take_request(&self.route))
    }
}

/// The requests of a route: [`Server::requests`].
#[must_use = "streams do nothing unless they are polled"]
pub struct Requests {
    waiting: Waiting<Arc<Shared>>,
    server: Server,
}

impl fmt::Debug for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Requests").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Stream for Requests {
    type Item = Request;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Request>> {
        let Self { waiting, server } = self.get_mut();
        poll_request(waiting, &server.route, cx)
    }
}

fn poll_request<S: Deref<Target = Shared>>(
    waiting: &mut Waiting<S>,
    route: &Route,
    cx: &Context<'_>,
) -> Poll<Option<Request>> {
    waiting.poll(cx, |state| match state.take_request(route) {
        Some((request, refill)) => Some((Some(request), refill)),
        None => state.is_closed().then_some((None, false)),
    })
}

impl State {
    /// Takes a request, and says whether the driver is to stage more.
    fn take_request(&mut self, of: &Route) -> Option<(Request, bool)> {
        let calls = &mut self.calls;
        let (request, permit) = calls.routes[of.index].staged.pop(|_, _| true)?;
        calls.released.push(permit);
        calls.taken.insert(request.id, Taken::default());
        let start = calls.start.expect("set before anything is staged");
        let route = &calls.routes[of.index];
        let refill = calls.awaits_budget || route.is_full && route.staged.len() < STAGED_MAX;
        let request = Request {
            node: of.node.clone(),
            id: request.id,
            from: request.from,
            deadline: start + Duration::from_nanos(request.deadline.0),
            answer_bytes_max: request.answer_bytes_max,
            body: request.body,
            is_over: false,
        };
        Some((request, refill))
    }

    fn wake_if_starved(&mut self) -> Option<Waker> {
        if self.calls.awaits_budget { self.driver.take() } else { None }
    }
}

/// A member's request. If it is dropped without an answer, the caller is notified.
#[must_use = "a request that is dropped is not answered"]
pub struct Request {
    node: NodeHandle,
    id: RequestId,
    from: NodeId,
    deadline: Instant,
    answer_bytes_max: u32,
    body: Bytes,
    is_over: bool,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("from", &self.from)
            .field("bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

impl Request {
    /// Who asks.
    pub fn from(&self) -> NodeId {
        self.from
    }

    /// What is asked.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Until when the caller waits, on the runtime's clock.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Bytes that the answer may have: what both sides allow.
    pub fn answer_bytes_max(&self) -> u32 {
        self.answer_bytes_max
    }

    /// Answers. The bytes are taken without a copy.
    ///
    /// # Errors
    /// If the answer is too long (the caller is told that there is none), or the caller does not
    /// wait any more.
    pub fn answer(mut self, body: impl Into<Bytes>) -> Result<(), AnswerError> {
        let body = body.into();
        if body.len() > self.answer_bytes_max as usize {
            return Err(AnswerError::TooLong);
        }
        let request = self.id;
        self.finish(CallCommand::Answer { request, body })
    }

    /// Refuses the request because the application is overloaded. The caller is told when to try
    /// again.
    ///
    /// # Errors
    /// If the caller does not wait any more.
    pub fn busy(mut self, retry_after: Duration) -> Result<(), AnswerError> {
        let refusal = Refusal::Busy { retry_after };
        let request = self.id;
        self.finish(CallCommand::Refuse { request, refusal })
    }

    fn finish(&mut self, command: CallCommand) -> Result<(), AnswerError> {
        self.is_over = true;
        let request = self.id;
        // Dropped when the lock is released, if it is of no use; and so are those that wait.
        let mut command = Some(command);
        let (result, _garbage) = self.node.shared().command(|state| {
            // A driver that has ended has removed all of them.
            let Some(taken) = state.calls.taken.remove(&request) else {
                return (Err(AnswerError::Closed), None);
            };
            let (command, result) = match taken.is_cancelled {
                true => {
                    let refuse = CallCommand::Refuse { request, refusal: Refusal::Dropped };
                    (refuse, Err(AnswerError::Cancelled))
                }
                false => (command.take().expect("taken once"), Ok(())),
            };
            state.commands.push_back(Command::Call(command));
            (result, Some(taken))
        });
        result
    }

    /// Whether the caller does not wait for the answer any more.
    pub fn is_cancelled(&self) -> bool {
        self.node.shared().lock().calls.taken.get(&self.id).is_none_or(|taken| taken.is_cancelled)
    }

    /// Completes when the caller does not wait for the answer any more: the caller has given up,
    /// its deadline has passed, or the connection is gone.
    pub async fn cancelled(&self) {
        let mut waiting = Waiting::new(self.node.shared(), Source::Cancellation(self.id));
        let over = poll_fn(|cx| {
            waiting.poll(cx, |state| {
                let taken = state.calls.taken.get(&self.id);
                taken.is_none_or(|taken| taken.is_cancelled).then_some(((), false))
            })
        });
        over.await;
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        if !self.is_over {
            let refusal = Refusal::Dropped;
            // Whether the caller still waited does not matter here.
            let _ = self.finish(CallCommand::Refuse { request: self.id, refusal });
        }
    }
}
