//! What the machine tells of its state.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::{Credit, Rpc};
use crate::config::RouteConfig;
use crate::id::{PeerIndex, RouteId};
use crate::snapshot::RouteSnapshot;

impl Rpc {
    /// What a peer accepts over its connection. `None` if it does not serve the route.
    pub fn credit(&self, peer: PeerIndex, route: RouteId) -> Option<Credit> {
        let route = self.shared.route_index(route)?;
        self.shared.is_up(peer).then(|| self.caller.credit(peer, route))?
    }

    /// Bytes of this node's requests on a route, to all peers, that have not arrived.
    #[cfg_attr(not(feature = "driver"), allow(dead_code, reason = "for drivers"))]
    pub(crate) fn request_bytes(&self, route: usize) -> u64 {
        self.caller.request_bytes(route)
    }

    /// Whether [`Rpc::poll_request`] may have a request.
    pub fn has_requests(&self, route: RouteId) -> bool {
        self.shared.route_index(route).is_some_and(|route| self.callee.has_requests(route))
    }

    /// Whether there is an outcome or a cancellation to be taken, or a request on a route whose
    /// requests are [wanted](Rpc::serve).
    pub fn has_output(&self) -> bool {
        let has_events = !self.shared.stream_events.is_empty();
        has_events || self.caller.has_outcomes() || self.callee.has_output()
    }

    /// Whether a request or an answer waits for room, so that it matters when some is released.
    pub fn awaits_budget(&self) -> bool {
        self.caller.awaits_budget() || self.callee.awaits_budget()
    }

    /// Changes whenever a connection has come up or gone down, and with it [`Rpc::credit`].
    pub fn links(&self) -> u64 {
        self.shared.links
    }

    /// The routes, in the order of the configuration. Walks through all peers of each.
    pub fn route_snapshots(&self) -> Vec<RouteSnapshot> {
        let routes = self.shared.routes.iter().enumerate();
        let route = |(at, config): (usize, &RouteConfig)| RouteSnapshot {
            id: config.id,
            name: config.name.clone().into_owned(),
            calls: self.caller.snapshot(at),
            requests: self.callee.snapshot(at),
            body_bytes_max: config.body_bytes_max,
        };
        routes.map(route).collect()
    }

    /// Bytes of bodies, coming and going, of all peers: at most four times the sum of all routes'
    /// `body_bytes_max`.
    pub fn body_bytes(&self) -> u64 {
        self.caller.body_bytes() + self.callee.body_bytes()
    }

    /// Calls that have not ended and requests that are not over.
    pub fn len(&self) -> usize {
        self.caller.len() + self.callee.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Checks all state and panics if it is inconsistent. For tests and fuzzing.
    #[doc(hidden)]
    pub fn assert_invariants(&self) {
        self.caller.assert_invariants(&self.shared);
        self.callee.assert_invariants(&self.shared);
        let streams = self.shared.peer_links.iter().flatten().map(|link| link.streams.len());
        assert!(streams.sum::<usize>() <= self.len());
        assert_eq!(self.shared.timers.len(), self.len(), "one timer each");
        for link in self.shared.peer_links.iter().flatten().filter(|link| !link.is_up) {
            assert!(link.streams.is_empty() && link.sendable.iter().all(VecDeque::is_empty));
        }
    }
}
