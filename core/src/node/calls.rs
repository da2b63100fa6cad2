//! Calls to members and requests of theirs, as a node's application sees them.

use bytes::Bytes;
use std::time::Duration;

use super::Node;
use super::link::Unread;
use crate::config::RouteConfig;
use crate::error::{AnswerError, CallError, PartError};
use crate::id::{Arrival, NodeId, PeerIndex, RouteId};
use crate::rpc::{
    self, Body, CallId, Cancelled, Credit, Outcome, Output, Part, Permit, Refusal, RequestId,
    Stream, StreamEvent,
};
use crate::time::Time;
use crate::trace;
use crate::wire::RouteHello;

/// A member's request.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Request {
    /// The id by which it is answered.
    pub id: RequestId,
    /// Who asks.
    pub from: NodeId,
    /// What is asked; empty, if it is read in parts.
    pub body: Bytes,
    /// If it is [read in parts](RouteConfig::reads_in_parts), how many bytes it has.
    pub in_parts: Option<u32>,
    /// The time until which the caller waits.
    pub deadline: Time,
    /// The longest answer that is allowed, in bytes.
    pub answer_bytes_max: u32,
    /// Whether there is somebody who waits for an answer. If not, the request is over.
    pub wants_answer: bool,
}

/// A request that occupies its room in the budget.
pub(crate) struct HeldRequest {
    #[cfg_attr(not(feature = "driver"), allow(dead_code, reason = "for drivers"))]
    pub(crate) peer: PeerIndex,
    /// The input that made it complete.
    #[cfg_attr(not(feature = "driver"), allow(dead_code, reason = "for drivers"))]
    pub(crate) arrival: Arrival,
    pub(crate) request: Request,
    pub(crate) permit: Permit,
}

impl Node {
    // Commands.

    /// Calls a member: see [`Rpc::call`](crate::rpc::Rpc::call).
    ///
    /// # Errors
    /// If the call cannot be made; nothing has changed then.
    pub fn call(
        &mut self,
        now: Time,
        peer: &NodeId,
        route: RouteId,
        body: impl Into<Body>,
        timeout: Option<Duration>,
        waits: bool,
    ) -> Result<CallId, CallError> {
        let (now, body) = (self.clamp(now), body.into());
        let (index, bytes) = (self.callee(peer)?, body.length());
        let called = self.rpc.call(now, index, route, body, timeout, waits);
        traced(called, *peer, route, bytes, true)
    }

    /// The member to be called, unless this node is shutting down.
    fn callee(&self, peer: &NodeId) -> Result<PeerIndex, CallError> {
        if self.closing_since.is_some() || self.flushes.is_ending() {
            return Err(CallError::Closed);
        }
        self.peers.find(peer).ok_or(CallError::NotMember)
    }

    /// Sends a member a message: see [`Rpc::tell`](crate::rpc::Rpc::tell).
    ///
    /// # Errors
    /// If it cannot be sent; nothing has changed then.
    pub fn tell(
        &mut self,
        now: Time,
        peer: &NodeId,
        route: RouteId,
        body: Bytes,
        timeout: Option<Duration>,
    ) -> Result<CallId, CallError> {
        let now = self.clamp(now);
        if self.closing_since.is_some() {
            return Err(CallError::Closed);
        }
        let index = self.peers.find(peer).ok_or(CallError::NotMember)?;
        let bytes = body.len() as u64;
        let called = self.rpc.tell(now, index, route, body, timeout);
        traced(called, *peer, route, bytes, false)
    }

    /// Cancels a call, and notifies the callee. False if the call has ended.
    pub fn cancel(&mut self, call: CallId) -> bool {
        self.rpc.cancel(call)
    }

    /// Answers a request: see [`Rpc::answer`](crate::rpc::Rpc::answer).
    ///
    /// # Errors
    /// If the answer is too long, there is no room for it, or the caller does not wait for it any more.
    pub fn answer(
        &mut self,
        now: Time,
        request: RequestId,
        body: impl Into<Body>,
    ) -> Result<(), AnswerError> {
        let (now, body) = (self.clamp(now), body.into());
        let bytes = body.length();
        self.rpc.answer(now, request, body)?;
        trace::request_answered(request, bytes);
        Ok(())
    }

    /// Breaks off an answer that was given in parts. False if it was over.
    pub fn break_off(&mut self, request: RequestId) -> bool {
        self.rpc.break_off(request)
    }

    /// Gives the next part of a body: see [`Rpc::give`](crate::rpc::Rpc::give).
    ///
    /// # Errors
    /// If it cannot be sent; nothing has changed then.
    pub fn give(&mut self, now: Time, stream: Stream, part: Bytes) -> Result<(), PartError> {
        let now = self.clamp(now);
        self.rpc.give(now, stream, part)
    }

    /// Takes what has arrived of a body: see [`Rpc::read`](crate::rpc::Rpc::read).
    pub fn read(&mut self, now: Time, stream: Stream) -> Part {
        let now = self.clamp(now);
        self.rpc.read(now, stream)
    }

    /// What has happened to a body in parts.
    pub fn poll_stream(&mut self) -> Option<StreamEvent> {
        self.rpc.poll_stream()
    }

    /// Waits for room for an answer of so many bytes: see [`Rpc::reserve`](crate::rpc::Rpc::reserve).
    ///
    /// # Errors
    /// As for [`Node::answer`].
    pub fn reserve(
        &mut self,
        now: Time,
        request: RequestId,
        bytes: u32,
    ) -> Result<(), AnswerError> {
        let now = self.clamp(now);
        self.rpc.reserve(now, request, bytes)
    }

    /// Ends a request without an answer, and notifies the caller. False if the caller did not wait
    /// for it any more.
    pub fn refuse(&mut self, now: Time, request: RequestId, refusal: Refusal) -> bool {
        let now = self.clamp(now);
        let is_refused = self.rpc.refuse(now, request, refusal);
        if is_refused {
            trace::request_refused(request, &refusal);
        }
        is_refused
    }

    /// Says whether requests of a route are wanted. At first they wait until they are; once they are
    /// not any more, they are refused. False if this node does not serve the route.
    pub fn serve(&mut self, now: Time, route: RouteId, is_wanted: bool) -> bool {
        let now = self.clamp(now);
        self.rpc.serve(now, route, is_wanted && !self.flushes.is_ending())
    }

    // Outputs.

    /// Takes the outcome of a call. Call [`Node::poll`] afterwards.
    pub fn poll_outcome(&mut self) -> Option<Outcome> {
        let (outcome, permit) = self.poll_held_outcome()?;
        self.release(permit);
        Some(outcome)
    }

    /// Takes the next request of a route, members taking turns. Call [`Node::poll`] afterwards.
    pub fn poll_request(&mut self, route: RouteId) -> Option<Request> {
        let held = self.poll_held_request(route, |_| true)?;
        self.release(held.permit);
        Some(held.request)
    }

    /// The next request that was taken and whose caller does not wait any more. It counts as in
    /// flight until it is [refused](Node::refuse).
    pub fn poll_cancelled(&mut self) -> Option<Cancelled> {
        self.rpc.poll_cancelled()
    }

    /// The next request that has got the room for its answer for which it waited.
    pub fn poll_reserved(&mut self) -> Option<RequestId> {
        self.rpc.poll_reserved()
    }

    /// The same as [`Node::poll_outcome`], but the answer occupies its room in the budget until
    /// that is released.
    pub(crate) fn poll_held_outcome(&mut self) -> Option<(Outcome, Permit)> {
        let held = self.rpc.poll_outcome()?;
        trace::call_ended(&held.0);
        Some(held)
    }

    /// The same as [`Node::poll_request`] for members that `suits` accepts, but the request
    /// occupies its room in the budget until that is released.
    pub(crate) fn poll_held_request(
        &mut self,
        route: RouteId,
        suits: impl FnMut(PeerIndex) -> bool,
    ) -> Option<HeldRequest> {
        let (arrival, request, permit) = self.rpc.poll_request_at(route, suits)?;
        let peer = request.from;
        let request = self.named(request);
        trace::request_taken(request.from, route, request.id, request.body.len() as u64);
        Some(HeldRequest { peer, arrival, request, permit })
    }

    /// The request with the member that a peer is.
    pub(super) fn named(&self, request: rpc::Request) -> Request {
        let rpc::Request { id, from, body, in_parts, deadline, answer_bytes_max, wants_answer } =
            request;
        let from = self.peers.peer(from).node;
        Request { id, from, body, in_parts, deadline, answer_bytes_max, wants_answer }
    }

    // Getters.

    /// What a member accepts at once on a route. `None` if it is not connected or does not serve the
    /// route.
    pub fn credit(&self, peer: &NodeId, route: RouteId) -> Option<Credit> {
        self.rpc.credit(self.peers.find(peer)?, route)
    }

    /// Bytes of requests on a route, by its index, that have not arrived.
    #[cfg(feature = "driver")]
    pub(crate) fn request_bytes(&self, route: usize) -> u64 {
        self.rpc.request_bytes(route)
    }

    /// Whether there are requests of a route to be taken.
    #[cfg(feature = "driver")]
    pub(crate) fn has_requests(&self, route: RouteId) -> bool {
        self.rpc.has_requests(route)
    }

    /// Whether something waits for room in a budget.
    #[cfg(feature = "driver")]
    pub(crate) fn awaits_budget(&self) -> bool {
        self.rpc.awaits_budget()
    }

    /// Changes whenever a connection has come up or gone down.
    #[cfg(feature = "driver")]
    pub(crate) fn links(&self) -> u64 {
        self.rpc.links()
    }

    pub(crate) fn release(&mut self, permit: Permit) {
        self.rpc.release(permit);
    }

    /// Performs the stream operations that the machine asks for.
    pub(super) fn poll_rpc(&mut self, now: Time) {
        loop {
            let peer = match self.rpc.poll(now) {
                Output::Idle { .. } => return,
                Output::Read { peer, stream } => {
                    let Some(handle) = self.peers.peer(peer).connection else { continue };
                    self.note_unread(now, handle, Unread::of_call(stream));
                    self.handle_notices(now, handle);
                    self.touch(handle);
                    peer
                }
                Output::Close { peer, stream, why } => {
                    if let Some(link) = self.link_to(peer) {
                        link.close_call(stream, why);
                    }
                    peer
                }
                Output::Stop { peer, stream } => {
                    if let Some(link) = self.link_to(peer) {
                        link.stop_call(stream);
                    }
                    peer
                }
            };
            self.wake(peer);
        }
    }
}

/// What became of a call at its beginning, traced.
fn traced(
    called: Result<CallId, CallError>,
    peer: NodeId,
    route: RouteId,
    bytes: u64,
    wants_answer: bool,
) -> Result<CallId, CallError> {
    match &called {
        Ok(call) => trace::called(peer, route, *call, bytes, wants_answer),
        Err(why) => trace::call_refused(peer, route, why),
    }
    called
}

pub(super) fn route_hello(config: &RouteConfig) -> RouteHello {
    RouteHello {
        id: config.id,
        request_bytes_max: config.request_bytes_max,
        response_bytes_max: config.response_bytes_max,
        in_flight_max: if config.serves { config.in_flight_max } else { 0 },
        in_flight_bytes_max: config.request_bytes_share(),
        knows_grants: true,
    }
}
