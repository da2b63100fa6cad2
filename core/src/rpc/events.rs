//! What the application is told: requests, outcomes of calls, and what happens to bodies in parts.

use bytes::Bytes;

use super::{CallId, RequestId, Rpc, StreamEvent};
use crate::error::{AnswerError, CallError};
use crate::id::{Arrival, PeerIndex, RouteId};
use crate::time::Time;

/// A request for the application.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// The id by which it is answered.
    pub id: RequestId,
    /// Who asks.
    pub from: PeerIndex,
    /// What is asked; empty, if it is read in parts.
    pub body: Bytes,
    /// If it is [read in parts](crate::config::RouteConfig::reads_in_parts), how many bytes it has.
    pub in_parts: Option<u32>,
    /// The time until which the caller waits.
    pub deadline: Time,
    /// The longest answer that is allowed, in bytes.
    pub answer_bytes_max: u32,
    /// Whether there is somebody who waits for an answer. If not, the request is over.
    pub wants_answer: bool,
}

/// How a call ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// The call.
    pub call: CallId,
    /// The answer.
    pub result: Result<Bytes, CallError>,
}

/// A request that the application has and that needs no answer any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cancelled {
    /// The request.
    pub request: RequestId,
    /// Why: what [`Rpc::answer`] would say.
    pub why: AnswerError,
}

/// Room in a budget that the body of a request or an answer occupies, until it is handed to the
/// application.
#[derive(Debug)]
#[must_use = "the room stays taken until it is given back with `Rpc::release`"]
pub struct Permit {
    pub(super) route: u16,
    pub(super) peer: PeerIndex,
    pub(super) bytes: u64,
    pub(super) of_answer: bool,
}

impl Rpc {
    /// The next outcome of a call, and the room that an answer takes until it is
    /// [released](Rpc::release).
    pub fn poll_outcome(&mut self) -> Option<(Outcome, Permit)> {
        self.caller.poll_outcome()
    }

    /// The next request of a route, peers taking turns, of a peer that `suits`; and the room that it
    /// takes until it is [released](Rpc::release).
    pub fn poll_request(
        &mut self,
        route: RouteId,
        suits: impl FnMut(PeerIndex) -> bool,
    ) -> Option<(Request, Permit)> {
        let (_, request, permit) = self.poll_request_at(route, suits)?;
        Some((request, permit))
    }

    /// The same with the input that made the request complete.
    pub(crate) fn poll_request_at(
        &mut self,
        route: RouteId,
        suits: impl FnMut(PeerIndex) -> bool,
    ) -> Option<(Arrival, Request, Permit)> {
        self.callee.poll_request(&mut self.shared, self.now, route, suits)
    }

    /// The request that was complete first, and its route, of routes whose requests are
    /// [wanted](Rpc::serve).
    #[cfg_attr(not(feature = "quic"), allow(dead_code, reason = "for nodes"))]
    pub(crate) fn poll_first_request(&mut self) -> Option<(RouteId, Request, Permit)> {
        let (_, at) = self.callee.next_arrival()?;
        let route = self.shared.routes[at as usize].id;
        let (_, request, permit) =
            self.callee.poll_first_request(&mut self.shared, self.now, at)?;
        Some((route, request, permit))
    }

    /// The input that made the request complete that [`Rpc::poll_first_request`] gives.
    #[cfg_attr(not(feature = "quic"), allow(dead_code, reason = "for nodes"))]
    pub(crate) fn next_arrival(&self) -> Option<Arrival> {
        self.callee.next_arrival().map(|(arrival, _)| arrival)
    }

    /// The next request that the application has and whose caller does not wait any more. The
    /// application still has to end it with [`Rpc::refuse`].
    pub fn poll_cancelled(&mut self) -> Option<Cancelled> {
        self.callee.poll_cancelled()
    }

    /// The next request that has got the room for its answer for which it waited ([`Rpc::reserve`]).
    pub fn poll_reserved(&mut self) -> Option<RequestId> {
        self.callee.poll_reserved()
    }

    /// What has happened to a body that is given or read in parts.
    pub fn poll_stream(&mut self) -> Option<StreamEvent> {
        self.shared.stream_events.pop_front()
    }
}
