//! All that a node tells its application, in one order.

use super::{Node, NodeEvent, Request};
use crate::broadcast::Event;
use crate::id::{ChannelId, RouteId};

/// Something that a node tells its application.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Occurrence<R = Request> {
    /// An event of a channel.
    Artifact {
        /// The channel.
        channel: ChannelId,
        /// The event.
        event: Event,
    },
    /// A member's request.
    Request {
        /// The route.
        route: RouteId,
        /// The request.
        request: R,
    },
    /// An event about peers, or the node itself.
    Node(NodeEvent),
}

/// Whose turn it is. Of one input, what happens to a connection comes before what happens on it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Node,
    Artifact,
    Request,
}

impl Node {
    /// Takes what has waited longest of the events of all channels, requests on routes that are
    /// [served](Node::serve), and events about peers: in the order in which the datagrams arrived that
    /// made them known, whichever members sent them. An event is as old as the first that is to be told
    /// of its artifact or peer. A request that had to wait for room is as old as its last byte, which is
    /// read when there is. [`Event::Covered`] comes before all others. Outcomes of calls, which somebody
    /// awaits, are not among them. Call [`Node::poll`] afterwards. Invariant 18.
    pub fn poll_occurrence(&mut self) -> Option<Occurrence> {
        loop {
            let of_peers = self.peers.next_arrival().map(|arrival| (arrival, Kind::Node));
            let of_channels = self.machine.next_arrival().map(|arrival| (arrival, Kind::Artifact));
            let of_routes = self.rpc.next_arrival().map(|arrival| (arrival, Kind::Request));
            let first = of_peers.into_iter().chain(of_channels).chain(of_routes).min();
            // What is due by the clock comes last.
            let Some((_, kind)) = first else { return self.poll_report().map(Occurrence::Node) };
            let taken = match kind {
                Kind::Node => self.peers.next_event().map(|(_, event)| Occurrence::Node(event)),
                Kind::Artifact => self
                    .machine
                    .poll_any_event()
                    .map(|(channel, event)| Occurrence::Artifact { channel, event }),
                Kind::Request => self.rpc.poll_first_request().map(|(route, request, permit)| {
                    self.rpc.release(permit);
                    Occurrence::Request { route, request: self.named(request) }
                }),
            };
            // What has become untrue meanwhile is left out.
            if taken.is_some() {
                return taken;
            }
        }
    }
}
