//! All that channels, routes and peers have to say, in one order.
//!
//! Nothing is queued for this: what is staged for the other handles is compared by the inputs that made it
//! known. A taker has a selection of what it takes. Something new wakes one that waits: a future for that one
//! thing if there is one, or else one of a taker that has selected it.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};
use std::vec::Vec;

use futures_core::Stream;

use super::calls::{OnlyCalls, Request, Server, UnknownRoute};
use super::node_handle::{NodeHandle, UnknownChannel};
use super::shared::Shared;
use super::waiters::{Source, Waiters, Waiting};
use crate::arena::Arena;
use crate::id::{ChannelId, RouteId};
use crate::node;

/// Something that a node tells its application.
pub type Occurrence = node::Occurrence<Request>;

/// What of a node is taken in one order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Select {
    /// All of them, if there is no list.
    channels: Option<Vec<ChannelId>>,
    /// All that this node serves, if there is no list.
    routes: Option<Vec<RouteId>>,
    has_node_events: bool,
}

impl Select {
    /// The events of all channels, requests of all routes that the node serves, and events about peers.
    pub fn all() -> Self {
        Self { channels: None, routes: None, has_node_events: true }
    }

    /// Of the channels, only these.
    pub fn channels(mut self, ids: impl IntoIterator<Item = ChannelId>) -> Self {
        self.channels = Some(ids.into_iter().collect());
        self
    }

    /// Of the routes, only these.
    pub fn routes(mut self, ids: impl IntoIterator<Item = RouteId>) -> Self {
        self.routes = Some(ids.into_iter().collect());
        self
    }

    /// Whether there are events about peers.
    pub fn node_events(mut self, has_node_events: bool) -> Self {
        self.has_node_events = has_node_events;
        self
    }
}

impl Default for Select {
    fn default() -> Self {
        Self::all()
    }
}

/// Why there is nothing to be taken of what was selected.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SelectError {
    /// There is no such channel.
    #[error(transparent)]
    Channel(#[from] UnknownChannel),
    /// There is no such route.
    #[error(transparent)]
    Route(#[from] UnknownRoute),
    /// A route has no requests here.
    #[error(transparent)]
    OnlyCalls(#[from] OnlyCalls),
}

/// What a taker takes: sets of indices in the configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Selection {
    pub(super) channels: u64,
    pub(super) routes: u64,
    pub(super) has_node_events: bool,
}

impl Selection {
    pub(super) fn without(&self, other: &Self) -> Self {
        Self {
            channels: self.channels & !other.channels,
            routes: self.routes & !other.routes,
            has_node_events: self.has_node_events & !other.has_node_events,
        }
    }

    fn has(&self, source: Source) -> bool {
        match source {
            Source::Channel(index) => self.channels & 1 << index != 0,
            Source::Route(index) => self.routes & 1 << index != 0,
            Source::Peers => self.has_node_events,
            _ => false,
        }
    }
}

struct Taker {
    selection: Selection,
    waiters: Waiters,
    /// When it looked last, it could not know what comes next.
    lacks_some: bool,
}

/// Those who take in one order: as many as the application has made.
pub(super) struct Takers {
    takers: Arena<Taker>,
}

impl Takers {
    pub(super) const fn new() -> Self {
        Self { takers: Arena::new() }
    }

    fn insert(&mut self, selection: Selection) -> u32 {
        self.takers.insert(Taker { selection, waiters: Waiters::default(), lacks_some: false })
    }

    pub(super) fn selection(&self, taker: u32) -> Selection {
        self.takers[taker].selection
    }

    pub(super) fn lacks_some(&self, taker: u32) -> bool {
        self.takers[taker].lacks_some
    }

    pub(super) fn set_lacks_some(&mut self, taker: u32, lacks_some: bool) {
        self.takers[taker].lacks_some = lacks_some;
    }

    pub(super) fn waiters(&mut self, taker: u32) -> &mut Waiters {
        &mut self.takers[taker].waiters
    }

    /// Takes out one that waits for something, to be woken.
    pub(super) fn pop(&mut self, source: Source) -> Option<Waker> {
        let takers = &self.takers;
        let is_it = |taker: &u32| {
            takers[*taker].selection.has(source) && !takers[*taker].waiters.is_empty()
        };
        let taker = takers.indices().find(is_it)?;
        self.takers[taker].waiters.pop()
    }

    /// The first that waits, from an index on.
    pub(super) fn next_waiting(&self, from: u32) -> Option<u32> {
        let is_waiting = |taker: &u32| *taker >= from && !self.takers[*taker].waiters.is_empty();
        self.takers.indices().find(is_waiting)
    }

    /// Takes all out, to be woken.
    pub(super) fn drain(&mut self) -> Vec<Waker> {
        let takers: Vec<u32> = self.takers.indices().collect();
        takers
            .into_iter()
            .flat_map(|at| self.takers[at].waiters.drain().collect::<Vec<_>>())
            .collect()
    }
}

impl NodeHandle {
    /// What the selected channels, routes and peers have to say, in the order of arrival: see
    /// [`Occurrences`].
    ///
    /// # Errors
    /// If the configuration does not have a channel or route, or says that the node only calls on it.
    pub fn events(&self, select: &Select) -> Result<Occurrences, SelectError> {
        let mut selection =
            Selection { has_node_events: select.has_node_events, ..Selection::default() };
        match &select.channels {
            Some(ids) => {
                for id in ids {
                    selection.channels |= 1 << self.channel(*id)?.index;
                }
            }
            None => {
                let count = self.shared().lock().channels.len();
                (0..count).for_each(|index| selection.channels |= 1 << index);
            }
        }
        let mut servers = Vec::new();
        match &select.routes {
            Some(ids) => {
                for id in ids {
                    servers.push(self.route(*id)?.serve()?);
                }
            }
            None => {
                for id in self.served_routes() {
                    servers.push(self.route(id)?.serve()?);
                }
            }
        }
        servers.iter().for_each(|server| selection.routes |= 1 << server.index());
        let taker = self.shared().lock().takers.insert(selection);
        let waiting = Waiting::new(self.shared_arc(), Source::Any(taker));
        Ok(Occurrences { place: Place { node: self.clone(), taker }, waiting, _servers: servers })
    }
}

/// What channels, routes and peers have to say, in the order in which the datagrams arrived that made it
/// known, whichever members sent them: [`NodeHandle::events`]. Invariant 18.
///
/// What was published because of an artifact comes after it, though another member sent it on another
/// channel; what a member sends comes after the event that it is up. An event is as old as the first that is
/// to be told of its artifact or peer, and a request as its last byte, which is read when there is room
/// for it. [`Event::Covered`](crate::broadcast::Event::Covered) comes before all others, and reports of the
/// socket come last. Requests come as they arrive, and not in turns of members: what one member may have
/// here before others is bounded by [`in_flight_max`](crate::config::RouteConfig::in_flight_max) of its
/// route.
///
/// There may be others that take the same, for example
/// [`Channel::next_event`](super::Channel::next_event) or another one of these: each event goes to the one
/// that takes it first, and wakes one of those that wait for it. The order holds for what each of them
/// takes.
///
/// It serves the selected routes as a [`Server`] does, and keeps the node running. As a [`Stream`] it ends
/// once the node has shut down and what was staged by then is taken. An application that stops taking costs
/// what is [staged](crate::config::DriverConfig::staged_events_max), and the node's tables.
#[must_use = "streams do nothing unless they are polled"]
pub struct Occurrences {
    // Given up before the place, which it uses.
    waiting: Waiting<Arc<Shared>>,
    place: Place,
    _servers: Vec<Server>,
}

/// A taker's place among them, which ends with this.
struct Place {
    node: NodeHandle,
    taker: u32,
}

impl Drop for Place {
    fn drop(&mut self) {
        // Nobody waits here any more: futures that do borrow this.
        self.node.shared().lock().takers.takers.remove(self.taker);
    }
}

impl fmt::Debug for Occurrences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Occurrences").field("node", &self.place.node).finish_non_exhaustive()
    }
}

impl Occurrences {
    /// What comes next; `None` once the node has shut down and what was staged by then is taken.
    pub async fn next_event(&self) -> Option<Occurrence> {
        let mut waiting = self.waiting();
        poll_fn(|cx| self.poll(&mut waiting, cx)).await
    }

    /// What comes next, if it is there. `None`, too, for a moment in which it is not known what comes next.
    pub fn try_next(&self) -> Option<Occurrence> {
        let Place { node, taker } = &self.place;
        node.shared().take(|state| state.take_occurrence(*taker, node))
    }

    /// What comes next, for applications on threads: waits for it on this thread, which must not be one that
    /// a runtime needs, by the system's clock.
    ///
    /// # Errors
    /// If nothing has come within the span, or the node has shut down and what was staged by then is taken.
    pub fn next_timeout(&self, timeout: Duration) -> Result<Occurrence, RecvTimeoutError> {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let cx = Context::from_waker(&waker);
        let mut waiting = self.waiting();
        #[allow(clippy::disallowed_methods, reason = "the application's thread waits, no node")]
        let now = Instant::now;
        let started = now();
        loop {
            if let Poll::Ready(next) = self.poll(&mut waiting, &cx) {
                return next.ok_or(RecvTimeoutError::Disconnected);
            }
            let left = timeout.checked_sub(now().saturating_duration_since(started));
            let left = left.filter(|left| !left.is_zero()).ok_or(RecvTimeoutError::Timeout)?;
            thread::park_timeout(left);
        }
    }

    fn waiting(&self) -> Waiting<&Shared> {
        Waiting::new(self.place.node.shared(), Source::Any(self.place.taker))
    }

    fn poll(&self, waiting: &mut Waiting<&Shared>, cx: &Context<'_>) -> Poll<Option<Occurrence>> {
        let Place { node, taker } = &self.place;
        waiting.poll_next(cx, |state| state.take_occurrence(*taker, node))
    }
}

impl Stream for Occurrences {
    type Item = Occurrence;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Occurrence>> {
        let Self { waiting, place: Place { node, taker }, .. } = self.get_mut();
        waiting.poll_next(cx, |state| state.take_occurrence(*taker, node))
    }
}

/// Wakes a thread that waits.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
