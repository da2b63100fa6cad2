//! What the applications of a web do, and what they find at the end.

use std::time::Duration;

use bytes::Bytes;
use slotcast::error::CallError;
use slotcast::rpc::{CallId, Outcome, Refusal, Request, RequestId};
use slotcast::time::Time;

use super::{ROUTE, Web, peer};

impl Web {
    #[track_caller]
    pub(crate) fn call(&mut self, from: usize, to: usize, body: Bytes) -> CallId {
        self.try_call(from, to, body, None, true).expect("there is credit")
    }

    #[track_caller]
    pub(crate) fn tell(&mut self, from: usize, to: usize, body: Bytes) -> CallId {
        self.try_tell(from, to, body, None).expect("there is room")
    }

    pub(crate) fn try_tell(
        &mut self,
        from: usize,
        to: usize,
        body: Bytes,
        timeout: Option<Duration>,
    ) -> Result<CallId, CallError> {
        let told = self.nodes[from].tell(self.now, peer(to), ROUTE, body, timeout);
        self.settle(from);
        told
    }

    pub(crate) fn try_call(
        &mut self,
        from: usize,
        to: usize,
        body: Bytes,
        timeout: Option<Duration>,
        waits: bool,
    ) -> Result<CallId, CallError> {
        let called = self.nodes[from].call(self.now, peer(to), ROUTE, body, timeout, waits);
        self.settle(from);
        called
    }

    /// The next request, whose room is given back at once.
    pub(crate) fn request(&mut self, at: usize) -> Option<Request> {
        let (request, permit) = self.nodes[at].poll_request(ROUTE, |_| true)?;
        self.nodes[at].release(permit);
        self.settle(at);
        Some(request)
    }

    #[track_caller]
    pub(crate) fn answer(&mut self, at: usize, request: RequestId, body: Bytes) {
        self.nodes[at].answer(self.now, request, body).expect("somebody waits");
        self.settle(at);
    }

    pub(crate) fn refuse(&mut self, at: usize, request: RequestId, refusal: Refusal) -> bool {
        let refused = self.nodes[at].refuse(self.now, request, refusal);
        self.settle(at);
        refused
    }

    pub(crate) fn cancel(&mut self, at: usize, call: CallId) -> bool {
        let cancelled = self.nodes[at].cancel(call);
        self.settle(at);
        cancelled
    }

    /// The next outcome, whose room is given back at once.
    pub(crate) fn outcome(&mut self, at: usize) -> Option<Outcome> {
        let (outcome, permit) = self.nodes[at].poll_outcome()?;
        self.nodes[at].release(permit);
        self.settle(at);
        Some(outcome)
    }

    /// The one outcome that there is: this call's.
    #[track_caller]
    pub(crate) fn result(&mut self, at: usize, call: CallId) -> Result<Bytes, CallError> {
        let outcome = self.outcome(at).expect("it has ended");
        assert_eq!(outcome.call, call);
        outcome.result
    }

    /// Nothing is left, in no machine, and in no transport.
    #[track_caller]
    pub(crate) fn assert_quiet(&mut self) {
        self.run();
        for at in 0..self.nodes.len() {
            assert_eq!(self.outcome(at), None);
            assert_eq!(self.request(at), None);
            let node = &self.nodes[at];
            assert_eq!((node.len(), node.body_bytes()), (0, 0), "of node {at}");
            assert_eq!(node.next_deadline(), Time::NEVER);
            assert!(!node.awaits_budget());
            for other in (0..self.nodes.len()).filter(|other| *other != at) {
                assert!(!node.has_backlog(peer(other)));
            }
        }
        for (key, way) in &self.ways {
            assert!(way.is_over(), "the transport has to keep {key:?}: {way:?}");
        }
        assert_eq!(self.faults, []);
    }
}
