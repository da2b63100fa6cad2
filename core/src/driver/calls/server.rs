//! The requests of a route.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use std::vec::Vec;

use bytes::Bytes;
use futures_core::Stream;

use super::{CallCommand, Calls, Parts, Route, STAGED_MAX, StagedRequest, Taken};
use crate::driver::node_handle::NodeHandle;
use crate::driver::shared::{Command, Shared, State};
use crate::driver::waiters::{Source, Waiting};
use crate::error::AnswerError;
use crate::id::{NodeId, RouteId};
use crate::rpc::arrivals::Arrived;
use crate::rpc::{ANSWER_BYTES_KEPT, Refusal, RequestId};

/// Takes the requests of a route.
///
/// ```
/// use slotcast::driver::NodeHandle;
/// use slotcast::id::RouteId;
///
/// async fn serve(node: &NodeHandle) -> Result<(), Box<dyn std::error::Error>> {
///     let server = node.route(RouteId(1))?.serve()?;
///     while let Some(request) = server.next_request().await {
///         // An error: the caller does not wait any more.
///         let _ = request.answer("a block");
///     }
///     Ok(())
/// }
/// ```
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
        Self::new(self.route.clone())
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
            (route.is_full, route.lacks_some) = (false, false);
            while let Some(Arrived { item: (request, permit), .. }) = route.staged.pop_first() {
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
    pub(super) fn new(route: Route) -> Self {
        let (id, index) = (route.id, route.index);
        route.node.shared().command(|state| {
            let is_closed = state.is_closed();
            let route = &mut state.calls.routes[index];
            route.servers += 1;
            if route.servers == 1 && !is_closed {
                let serve = CallCommand::Serve { route: id, is_wanted: true };
                state.commands.push_back(Command::Call(serve));
            }
        });
        Self { route }
    }

    /// The route's index.
    pub(in crate::driver) fn index(&self) -> usize {
        self.route.index
    }

    /// The next request, members taking turns; `None` once the node has shut down.
    pub async fn next_request(&self) -> Option<Request> {
        let mut waiting = Waiting::new(self.route.node.shared(), Source::Route(self.route.index));
        poll_fn(|cx| waiting.poll_next(cx, |state| state.take_request(&self.route))).await
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
        waiting.poll_next(cx, |state| state.take_request(&server.route))
    }
}

impl State {
    /// Takes a request, members taking turns, and says whether the driver is to stage more.
    fn take_request(&mut self, of: &Route) -> Option<(Request, bool)> {
        let arrived = self.calls.routes[of.index].staged.pop(|_| true)?;
        Some(self.hand_out(of.index, &of.node, arrived))
    }

    /// Takes the request of a route that came first. With it the route, and whether the driver is to stage
    /// more.
    pub(in crate::driver) fn take_first_request(
        &mut self,
        index: usize,
        node: &NodeHandle,
    ) -> Option<(RouteId, Request, bool)> {
        let arrived = self.calls.routes[index].staged.pop_first()?;
        let (request, refill) = self.hand_out(index, node, arrived);
        Some((self.calls.routes[index].config.id, request, refill))
    }

    fn hand_out(
        &mut self,
        index: usize,
        node: &NodeHandle,
        Arrived { peer, item: (request, permit), .. }: Arrived<StagedRequest>,
    ) -> (Request, bool) {
        let calls = &mut self.calls;
        calls.released.push(permit);
        if request.wants_answer {
            let room = request.answer_bytes_max.min(ANSWER_BYTES_KEPT);
            let parts = request.in_parts.map(Parts::reading);
            calls.taken.insert(request.id, Taken { room, parts, ..Taken::default() });
        }
        let start = calls.start.expect("set before anything is staged");
        let route = &mut calls.routes[index];
        route.lacks_some |= route.is_full && route.staged.count(peer) == 0;
        let is_due = route.is_full && route.staged.len() < STAGED_MAX;
        let refill = calls.awaits_budget || is_due || route.lacks_some;
        let request = Request {
            node: node.clone(),
            id: request.id,
            from: request.from,
            deadline: start + Duration::from_nanos(request.deadline.0),
            answer_bytes_max: request.answer_bytes_max,
            body: request.body,
            in_parts: request.in_parts,
            wants_answer: request.wants_answer,
            is_over: !request.wants_answer,
        };
        (request, refill)
    }
}

/// A member's request. If it is dropped without an answer, the caller is notified.
#[must_use = "a request that is dropped is not answered"]
pub struct Request {
    pub(super) node: NodeHandle,
    pub(super) id: RequestId,
    from: NodeId,
    deadline: Instant,
    pub(super) answer_bytes_max: u32,
    pub(super) body: Bytes,
    /// Its length, if it is read in parts.
    pub(super) in_parts: Option<u32>,
    pub(super) wants_answer: bool,
    pub(super) is_over: bool,
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

    /// What is asked; empty on a route that [reads in parts](crate::config::RouteConfig::reads_in_parts), where
    /// [`parts`](Self::parts) gives it.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Bytes of the body.
    pub fn length(&self) -> usize {
        self.in_parts.map_or(self.body.len(), |length| length as usize)
    }

    /// Until when the caller waits, on the runtime's clock.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Bytes that the answer may have: what both sides allow.
    pub fn answer_bytes_max(&self) -> u32 {
        self.answer_bytes_max
    }

    /// Whether the member waits for an answer. A message ([`Route::tell`]) wants none.
    pub fn wants_answer(&self) -> bool {
        self.wants_answer
    }

    /// Waits until there is room for an answer of so many bytes, and keeps it. For [`ANSWER_BYTES_KEPT`] bytes
    /// there is in any case, unless more has been waited for in vain: what waits keeps none.
    ///
    /// Answers take their room in the route's
    /// [`body_bytes_max`](crate::config::RouteConfig::body_bytes_max), of which one member may have an eighth,
    /// until they have arrived. While an answer waits for it, no more requests of the member on the route
    /// are taken up. Who takes requests one by one should wait elsewhere, since a member that does not
    /// read its answers lets others of it wait until their deadlines.
    ///
    /// # Errors
    /// If such an answer is too long, or the caller does not wait any more.
    pub async fn room(&self, bytes: u32) -> Result<(), AnswerError> {
        if !self.wants_answer {
            return Err(AnswerError::NotWanted);
        }
        if bytes > self.answer_bytes_max {
            return Err(AnswerError::TooLong);
        }
        let mut waiting = Waiting::new(self.node.shared(), Source::Cancellation(self.id));
        let room = poll_fn(|cx| {
            waiting.poll(cx, |state| {
                let Some(taken) = state.calls.taken.get_mut(&self.id) else {
                    return Some((Err(AnswerError::Closed), false));
                };
                if let Some(why) = taken.cancelled {
                    return Some((Err(why), false));
                }
                (taken.room >= bytes).then_some((Ok(()), false))
            })
        });
        self.node.shared().command(|state| {
            if let Some(taken) = state.calls.taken.get_mut(&self.id)
                && taken.room.max(taken.room_wanted) < bytes
            {
                // While it waits, it keeps none.
                (taken.room, taken.room_wanted) = (0, bytes);
                let reserve = CallCommand::Reserve { request: self.id, bytes };
                state.commands.push_back(Command::Call(reserve));
            }
        });
        room.await
    }

    /// Answers. The bytes are taken without a copy. An answer of up to [`ANSWER_BYTES_KEPT`] bytes has room
    /// for sure, unless more was waited for in vain, and a longer one if it was [waited for](Self::room). If
    /// there is none, the caller is told that this node is [`Busy`](crate::error::CallError::Busy).
    ///
    /// # Errors
    /// If the answer is too long or the request is read [in parts](Self::parts) and was not read to its end (the
    /// caller is told that there is none), or the caller does not wait any more.
    pub fn answer(mut self, body: impl Into<Bytes>) -> Result<(), AnswerError> {
        let body = body.into();
        if !self.wants_answer {
            return Err(AnswerError::NotWanted);
        }
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
        if !self.wants_answer {
            return Err(AnswerError::NotWanted);
        }
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
            let is_answer = matches!(command, Some(CallCommand::Answer { .. }));
            let is_early = is_answer && !taken.is_read();
            let (command, result) = match taken
                .cancelled
                .or(is_early.then_some(AnswerError::NotRead))
            {
                Some(why) => (CallCommand::Refuse { request, refusal: Refusal::Dropped }, Err(why)),
                None => (command.take().expect("taken once"), Ok(())),
            };
            state.commands.push_back(Command::Call(command));
            (result, Some(taken))
        });
        result
    }

    /// Whether the caller does not wait for the answer any more.
    pub fn is_cancelled(&self) -> bool {
        self.node
            .shared()
            .lock()
            .calls
            .taken
            .get(&self.id)
            .is_none_or(|taken| taken.cancelled.is_some())
    }

    /// Completes when the caller does not wait for the answer any more: the caller has given up,
    /// its deadline has passed, or the connection is gone.
    pub async fn cancelled(&self) {
        let mut waiting = Waiting::new(self.node.shared(), Source::Cancellation(self.id));
        let over = poll_fn(|cx| {
            waiting.poll(cx, |state| {
                let taken = state.calls.taken.get(&self.id);
                taken.is_none_or(|taken| taken.cancelled.is_some()).then_some(((), false))
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
