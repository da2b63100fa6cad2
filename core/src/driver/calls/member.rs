//! Calls to one member, for those who wait for credit before they have a request.

use std::fmt;
use std::future::poll_fn;
use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::{Call, Route};
use crate::driver::shared::{Shared, State};
use crate::driver::waiters::{Source, Waiting};
use crate::error::CallError;
use crate::id::NodeId;

/// Calls to one member on a route: [`Route::to`]. A clone has no place of its own yet.
#[must_use = "a handle does nothing by itself"]
pub struct Member {
    waiting: Waiting<Arc<Shared>>,
    route: Route,
    to: NodeId,
    /// It counts as a call of which the request is not known yet.
    has_place: bool,
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member").field("route", &self.route).field("to", &self.to).finish()
    }
}

impl Clone for Member {
    fn clone(&self) -> Self {
        Self::new(self.route.clone(), self.to)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.give_place_back();
    }
}

impl Member {
    pub(super) fn new(route: Route, to: NodeId) -> Self {
        let source = Source::Credit(route.index, to);
        Self { waiting: Waiting::new(route.node.shared_arc(), source), route, to, has_place: false }
    }

    /// Takes a place among the calls that the member accepts at once, first come first served. The next
    /// [`call`](Self::call) uses it; until then, the place is not free for others.
    ///
    /// # Errors
    /// If the member is not connected or does not serve the route, or the node has shut down.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        let Self { waiting, route, to, has_place } = self;
        if *has_place {
            return Poll::Ready(Ok(()));
        }
        let polled = waiting.poll(cx, |state| Some((state.take_place(to, route.index)?, false)));
        *has_place = polled == Poll::Ready(Ok(()));
        polled
    }

    /// The same as a future.
    ///
    /// # Errors
    /// As for [`Member::poll_ready`].
    pub async fn ready(&mut self) -> Result<(), CallError> {
        poll_fn(|cx| self.poll_ready(cx)).await
    }

    /// Calls the member: see [`Route::call`].
    pub fn call(&mut self, body: impl Into<Bytes>) -> Call {
        let has_place = mem::take(&mut self.has_place);
        self.route.call_in_place(self.to, body.into(), has_place)
    }

    fn give_place_back(&mut self) {
        if mem::take(&mut self.has_place) {
            let (to, index) = (self.to, self.route.index);
            self.route.node.shared().command(|state| state.calls.give_place_back(&to, index));
        }
    }
}

impl State {
    /// Takes a place among the calls to a member. `None` if all are taken.
    fn take_place(&mut self, to: &NodeId, route: usize) -> Option<Result<(), CallError>> {
        if self.is_ending() {
            return Some(Err(CallError::Closed));
        }
        let Some(peer) = self.calls.peers.get_mut(to).filter(|peer| peer.is_up) else {
            return Some(Err(CallError::NotConnected));
        };
        let credit = &mut peer.credits[route];
        if credit.granted.is_none() {
            return Some(Err(CallError::NotServed));
        }
        credit.has_place().then(|| {
            credit.calls += 1;
            Ok(())
        })
    }
}
