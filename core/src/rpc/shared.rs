//! What the caller and the callee side share: the streams and whose they are, what has something to send, the timers.

use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec::Vec;
use foldhash::quality::FixedState;
use hashbrown::HashMap;

use super::transfer::Sending;
use super::{CallStream, Output, StreamEvent};
use crate::config::RouteConfig;
use crate::id::{PeerIndex, RouteId};
use crate::sched::ReadyFlows;
use crate::time::Time;

/// The low bits of an id, which hold the index of the call or request in its table. The bits above
/// hold a serial number, which distinguishes calls that had the same index.
const INDEX_BITS: u32 = 24;

/// The index of the call or request with this id.
pub(super) const fn index_of(id: u64) -> u32 {
    (id & ((1 << INDEX_BITS) - 1)) as u32
}

/// What a stream belongs to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum StreamOwner {
    /// A call of this node, by its index.
    Call(u32),
    /// A request of a peer, by its index.
    Request(u32),
}

/// The state of a peer and of the connection to it.
#[derive(Debug)]
pub(super) struct PeerLink {
    pub(super) is_up: bool,
    /// Bounded by the calls that this node may have to the peer plus the streams that the peer may
    /// open.
    pub(super) streams: HashMap<CallStream, StreamOwner, FixedState>,
    /// By route, the calls and requests that have something to send, each once.
    pub(super) sendable: Vec<VecDeque<StreamOwner>>,
    /// By route, whether the last piece sent was the start of a call.
    pub(super) has_begun: Vec<bool>,
}

/// The state that the caller and the callee side share.
#[derive(Debug)]
pub(super) struct SharedState {
    pub(super) routes: Vec<RouteConfig>,
    pub(super) peer_links: Vec<Option<PeerLink>>,
    /// When to check which call or request. Each has one entry.
    pub(super) timers: BTreeSet<(Time, StreamOwner)>,
    /// Bounded by the number of streams.
    pub(super) outputs: VecDeque<Output>,
    /// What happens to bodies in parts. Bounded by the bodies that the application gives or reads so.
    pub(super) stream_events: VecDeque<StreamEvent>,
    /// The flows with something to send. A flow is a route.
    pub(super) ready: ReadyFlows,
    /// The number of calls and requests so far.
    serial: u64,
    /// The number of times that a connection came up or went down.
    pub(super) links: u64,
}

impl SharedState {
    pub(super) fn new(routes: &[RouteConfig]) -> Self {
        Self {
            routes: routes.to_vec(),
            peer_links: Vec::new(),
            timers: BTreeSet::new(),
            outputs: VecDeque::new(),
            stream_events: VecDeque::new(),
            ready: ReadyFlows::default(),
            serial: 0,
            links: 0,
        }
    }

    pub(super) fn link(&self, peer: PeerIndex) -> Option<&PeerLink> {
        self.peer_links.get(peer.at())?.as_ref()
    }

    pub(super) fn link_mut(&mut self, peer: PeerIndex) -> &mut PeerLink {
        self.peer_links[peer.at()].as_mut().expect("a member")
    }

    pub(super) fn is_up(&self, peer: PeerIndex) -> bool {
        self.link(peer).is_some_and(|link| link.is_up)
    }

    pub(super) fn route_index(&self, route: RouteId) -> Option<u16> {
        let index = self.routes.iter().position(|config| config.id == route)?;
        Some(index as u16)
    }

    /// A new id for the call or request with this index.
    pub(super) fn next_id(&mut self, index: u32) -> u64 {
        assert!(index < 1 << INDEX_BITS, "bounded by the credit of all peers");
        self.serial += 1;
        self.serial << INDEX_BITS | u64::from(index)
    }

    /// Sets or moves a timer; what it was set to before, if it was, is in `timer`.
    pub(super) fn set_timer(&mut self, owner: StreamOwner, timer: &mut Time, at: Time) {
        self.timers.remove(&(*timer, owner));
        self.timers.insert((at, owner));
        *timer = at;
    }

    /// Ensures that a timer fires at `at` or earlier. A timer that fires too early is set again.
    /// Timers are not moved to later times, since most are removed before they fire and moving them
    /// would be most of their cost.
    pub(super) fn hasten_timer(&mut self, owner: StreamOwner, timer: &mut Time, at: Time) {
        if at < *timer {
            self.set_timer(owner, timer, at);
        }
    }

    /// Queues a call or request if it has something to send.
    pub(super) fn note_due(
        &mut self,
        peer: PeerIndex,
        route: u16,
        owner: StreamOwner,
        sending: &mut Sending,
    ) {
        if sending.is_due() && !sending.is_queued {
            sending.is_queued = true;
            self.link_mut(peer).sendable[route as usize].push_back(owner);
            self.ready.mark(peer, route.into());
        }
    }

    /// Removes a call or request that has ended from the queue.
    pub(super) fn unqueue(
        &mut self,
        peer: PeerIndex,
        route: u16,
        owner: StreamOwner,
        sending: &Sending,
    ) {
        if sending.is_queued
            && let Some(link) = &mut self.peer_links[peer.at()]
        {
            link.sendable[route as usize].retain(|other| *other != owner);
        }
    }
}
