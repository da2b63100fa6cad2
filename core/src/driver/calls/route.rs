//! The handle of a route, and calls.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use std::vec::Vec;

use bytes::Bytes;

use super::parts::Parts;
use super::{CallCommand, Member, RouteStats, Server, SlotState};
use crate::driver::node_handle::NodeHandle;
use crate::driver::shared::Command;
use crate::error::CallError;
use crate::id::{NodeId, RouteId};
use crate::rpc::{Body, Manner};

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

impl NodeHandle {
    /// The routes on which requests are served.
    pub(in crate::driver) fn served_routes(&self) -> Vec<RouteId> {
        let state = self.shared().lock();
        let serving = state.calls.routes.iter().filter(|route| route.config.serves);
        serving.map(|route| route.config.id).collect()
    }
}

/// One route of a running node. Clones are handles to the same route.
///
/// ```
/// use std::time::Duration;
///
/// use slotcast::driver::Route;
/// use slotcast::error::CallError;
/// use slotcast::id::NodeId;
///
/// async fn block_at(route: &Route, member: NodeId, height: u64) -> Result<Vec<u8>, CallError> {
///     let request = height.to_be_bytes().to_vec();
///     let answer = route.call_within(member, request, Duration::from_secs(2)).await?;
///     Ok(Vec::from(answer))
/// }
/// ```
#[must_use = "a handle does nothing by itself"]
#[derive(Clone)]
pub struct Route {
    pub(super) node: NodeHandle,
    pub(super) id: RouteId,
    pub(super) index: usize,
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
    /// When the member's [credit](crate::rpc::Credit) of calls or of bytes is used up, the call waits for
    /// it, in order, up to the route's deadline. When too many wait already, or their requests have too
    /// many bytes ([`body_bytes_max`](crate::config::RouteConfig::body_bytes_max)), it ends with
    /// [`CallError::Pushback`].
    pub fn call(&self, to: NodeId, body: impl Into<Bytes>) -> Call {
        self.call_of(to, Body::Whole(body.into()), None)
    }

    /// The same with a deadline of its own.
    pub fn call_within(&self, to: NodeId, body: impl Into<Bytes>, timeout: Duration) -> Call {
        self.call_of(to, Body::Whole(body.into()), Some(timeout))
    }

    /// Calls a member if it has credit left, of calls and of bytes: never waits.
    ///
    /// # Errors
    /// [`CallError::Pushback`] if there is no credit, or what else forbids the call.
    pub fn try_call(&self, to: NodeId, body: impl Into<Bytes>) -> Result<Call, CallError> {
        self.begin(to, Body::Whole(body.into()), None, Manner::Try)
    }

    /// Sends a member a message that wants no answer. It waits until the member is connected and has
    /// credit, in order with calls, up to the route's deadline. Then it is dropped, and so it is when the
    /// connection is lost while it is under way: [`Route::stats`] counts both.
    ///
    /// # Errors
    /// If it is too long, too much waits for the member already, or what else forbids it.
    pub fn tell(&self, to: NodeId, body: impl Into<Bytes>) -> Result<(), CallError> {
        self.take(to, Body::Whole(body.into()), None, Manner::Tell, false).map(drop)
    }

    /// The same with a deadline of its own.
    ///
    /// # Errors
    /// As for [`Route::tell`].
    pub fn tell_within(
        &self,
        to: NodeId,
        body: impl Into<Bytes>,
        timeout: Duration,
    ) -> Result<(), CallError> {
        self.take(to, Body::Whole(body.into()), Some(timeout), Manner::Tell, false).map(drop)
    }

    /// Calls to one member, for those who wait for credit before they have a request.
    pub fn to(&self, member: NodeId) -> Member {
        Member::new(self.clone(), member)
    }

    /// What the route has counted.
    pub fn stats(&self) -> RouteStats {
        self.node.shared().lock().calls.routes[self.index].stats
    }

    fn failed(&self, error: CallError) -> Call {
        Call { node: self.node.clone(), slot: Err(Some(error)) }
    }

    /// A call that waits for credit, and has ended already if it cannot be made.
    pub(super) fn call_of(&self, to: NodeId, body: Body, timeout: Option<Duration>) -> Call {
        let call = self.begin(to, body, timeout, Manner::Wait);
        call.unwrap_or_else(|error| self.failed(error))
    }

    pub(super) fn begin(
        &self,
        peer: NodeId,
        body: Body,
        timeout: Option<Duration>,
        manner: Manner,
    ) -> Result<Call, CallError> {
        let slot = self.take(peer, body, timeout, manner, false)?;
        Ok(Call { node: self.node.clone(), slot: Ok(slot) })
    }

    /// Calls a member, and uses a place that was taken for it.
    pub(super) fn call_in_place(&self, to: NodeId, body: Bytes, has_place: bool) -> Call {
        match self.take(to, Body::Whole(body), None, Manner::Wait, has_place) {
            Ok(slot) => Call { node: self.node.clone(), slot: Ok(slot) },
            Err(error) => self.failed(error),
        }
    }

    /// Takes a call, if there is credit for it and room. If it `has_place`, that is given back first.
    fn take(
        &self,
        peer: NodeId,
        body: Body,
        timeout: Option<Duration>,
        manner: Manner,
        has_place: bool,
    ) -> Result<u32, CallError> {
        let length = body.length();
        // Dropped when the lock is released, if the call cannot be made.
        let mut body = Some(body);
        self.node.shared().command(|state| {
            if has_place {
                state.calls.give_place_back(&peer, self.index);
            }
            if length > self.request_bytes_max.into() {
                return Err(CallError::TooLong);
            }
            if state.is_ending() {
                return Err(CallError::Closed);
            }
            if state.commands.len() >= state.commands_max {
                return Err(CallError::Pushback);
            }
            let is_tell = manner == Manner::Tell;
            if is_tell && state.membership.addresses(&peer).is_none() {
                return Err(CallError::NotMember);
            }
            let of_call = body.as_ref().expect("taken below");
            let slot = state.calls.admit(&peer, self.index, of_call, manner)?;
            let body = body.take().expect("taken once");
            if let Body::InParts(length) = body {
                state.calls.slots[slot].parts = Some(Parts::giving(length));
            }
            let (route, index) = (self.id, self.index);
            let call = CallCommand::Call { slot, peer, route, index, body, timeout, is_tell };
            state.commands.push_back(Command::Call(call));
            Ok(slot)
        })
    }

    /// Takes requests of members from now on, as long as there is a server. Until the first one,
    /// requests wait; after the last one, they are refused.
    ///
    /// # Errors
    /// If the configuration says that this node only calls on the route.
    pub fn serve(&self) -> Result<Server, OnlyCalls> {
        let serves = self.node.shared().lock().calls.routes[self.index].config.serves;
        if serves { Ok(Server::new(self.clone())) } else { Err(OnlyCalls(self.id)) }
    }
}

/// A call in progress: a future of the answer. Dropping it cancels the call: no more bytes are
/// sent, and the callee is notified.
#[must_use = "a call is given up when it is dropped"]
pub struct Call {
    pub(super) node: NodeHandle,
    /// The slot of its state, or the error to return if the call could not be made.
    pub(super) slot: Result<u32, Option<CallError>>,
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
            let wakes_driver = calls.awaits_budget || !calls.woken.is_empty();
            let driver = if wakes_driver { state.driver.take() } else { None };
            break (result, driver);
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
            if !matches!(before.0, SlotState::Done(..)) {
                let cancel = CallCommand::Cancel { slot: at };
                state.commands.push_back(Command::Call(cancel));
            }
            before
        });
    }
}
