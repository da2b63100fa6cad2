//! A route: calls of this node, and requests of its peers.

use alloc::string::String;

use super::Histogram;
use crate::error::CallError;
use crate::id::RouteId;

/// A route.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct RouteSnapshot {
    /// The route.
    pub id: RouteId,
    /// Its name in the configuration.
    pub name: String,
    /// Calls of this node.
    pub calls: CallsSnapshot,
    /// Requests of its peers.
    pub requests: RequestsSnapshot,
    /// The bound of bytes of bodies, of each of the four sorts: `body_bytes_max`.
    pub body_bytes_max: u64,
}

/// Calls of this node on a route.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct CallsSnapshot {
    /// Calls so far, by outcome.
    pub counts: CallCounts,
    /// Times from a call to its answer, of those that were answered.
    pub latencies: Histogram,
    /// Calls that are under way.
    pub in_flight: u32,
    /// Calls that all connected peers together allow to be under way: this node's credit.
    pub credit: u32,
    /// Calls that wait for credit.
    pub waiting: u32,
    /// Bytes of requests that the callees have not acknowledged.
    pub request_bytes: u64,
    /// Bytes of answers that are being received, or were not taken by the application.
    pub answer_bytes: u64,
}

/// Calls of this node since its start, by outcome.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct CallCounts {
    /// Calls that were begun. Those that no outcome is counted of are under way.
    pub begun: u64,
    /// Answered.
    pub answered: u64,
    /// The callee was busy.
    pub busy: u64,
    /// The callee dropped the request.
    pub dropped: u64,
    /// The callee does not serve the route.
    pub not_served: u64,
    /// The deadline has passed.
    pub deadline_passed: u64,
    /// The answer came too slowly.
    pub too_slow: u64,
    /// The connection was lost.
    pub disconnected: u64,
    /// The callee broke a rule.
    pub fault: u64,
    /// This node's application has given the call up.
    pub cancelled: u64,
}

impl CallCounts {
    /// A call has ended without an answer.
    pub(crate) fn note_error(&mut self, error: &CallError) {
        let count = match error {
            CallError::Busy { .. } => &mut self.busy,
            CallError::NotServed => &mut self.not_served,
            CallError::DeadlinePassed => &mut self.deadline_passed,
            CallError::TooSlow => &mut self.too_slow,
            CallError::Disconnected => &mut self.disconnected,
            CallError::Fault => &mut self.fault,
            // The others refuse a call before it begins.
            _ => &mut self.dropped,
        };
        *count += 1;
    }

    /// The outcomes, each with its name.
    pub fn outcomes(&self) -> [(&'static str, u64); 9] {
        [
            ("answered", self.answered),
            ("busy", self.busy),
            ("dropped", self.dropped),
            ("not_served", self.not_served),
            ("deadline_passed", self.deadline_passed),
            ("too_slow", self.too_slow),
            ("disconnected", self.disconnected),
            ("fault", self.fault),
            ("cancelled", self.cancelled),
        ]
    }
}

/// Requests of peers since the node's start, by outcome.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct RequestCounts {
    /// Requests that were handed to the application, or its driver.
    pub taken: u64,
    /// Requests among them that it has answered.
    pub answered: u64,
    /// Requests among them that it has refused or dropped.
    pub refused: u64,
    /// Requests among them whose callers gave them up before there was an answer, or whose deadline has
    /// passed.
    pub cancelled: u64,
}

/// Requests of peers on a route.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct RequestsSnapshot {
    /// Requests so far, by outcome.
    pub counts: RequestCounts,
    /// Times from when a request was handed out until it was answered.
    pub latencies: Histogram,
    /// Requests that are being received, worked on or answered.
    pub in_flight: u32,
    /// Requests that wait in their streams for room or for their turn.
    pub waiting: u32,
    /// Bytes of requests for which room is taken.
    pub request_bytes: u64,
    /// Bytes of answers for which room is taken.
    pub answer_bytes: u64,
}
