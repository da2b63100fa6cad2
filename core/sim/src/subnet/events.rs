//! What nodes have to say, on its way to the application and to the trace.

use super::{Resident, Subnet};
use crate::application::Application;
use crate::trace::What;
use slotcast::broadcast::Event;
use slotcast::id::{ChannelId, NodeId};
use slotcast::node::{Node, NodeEvent};

impl<A: Application> Subnet<A> {
    /// Hands the application all there is to be told. Whether that was anything, or led to
    /// commands.
    pub(super) fn take_events(&mut self, at: usize) -> bool {
        let mut any = false;
        let channels = self.config(at).channels.len();
        for channel in 0..channels {
            let channel = self.config(at).channels[channel].id;
            while let Some(event) = self.next_event(at, channel) {
                any = true;
                self.note_event(at, channel, &event);
                self.call(at, |application, context| {
                    application.handle_event(context, channel, event);
                });
            }
        }
        any |= self.take_calls(at);
        while let Some(event) = self.next_node_event(at) {
            self.note_node_event(at, event);
            any |= self
                .call(at, |application, context| {
                    application.handle_node_event(context, event);
                    *context.touched
                })
                .unwrap_or(false);
        }
        any
    }

    /// Hands the application requests, and what became of calls. Whether there was anything.
    fn take_calls(&mut self, at: usize) -> bool {
        let mut any = false;
        for route in 0..self.config(at).routes.len() {
            let route = self.config(at).routes[route].id;
            while self.application.takes_requests(at, route)
                && let Some(request) = self.pull(at, |node| node.poll_request(route))
            {
                any = true;
                self.call(at, |application, context| {
                    application.handle_request(context, route, request);
                });
            }
        }
        while let Some(cancelled) = self.pull(at, Node::poll_cancelled) {
            any = true;
            self.call(at, |application, context| {
                application.handle_cancelled(context, cancelled.request);
            });
        }
        while let Some(request) = self.pull(at, Node::poll_reserved) {
            any = true;
            self.call(at, |application, context| application.handle_reserved(context, request));
        }
        while let Some(outcome) = self.pull(at, Node::poll_outcome) {
            any = true;
            self.call(at, |application, context| application.handle_outcome(context, outcome));
        }
        any
    }

    fn next_event(&mut self, at: usize, channel: ChannelId) -> Option<Event> {
        self.pull(at, |node| node.poll_event(channel))
    }

    fn next_node_event(&mut self, at: usize) -> Option<NodeEvent> {
        self.pull(at, Node::poll_node_event)
    }

    /// Takes something from a node that runs.
    fn pull<T>(&mut self, at: usize, pull: impl FnOnce(&mut Node) -> Option<T>) -> Option<T> {
        self.enter(Some(at));
        let pulled = match &mut self.places[at].resident {
            Resident::Node(node) => pull(node),
            _ => None,
        };
        self.enter(None);
        pulled
    }

    fn note_event(&mut self, at: usize, channel: ChannelId, event: &Event) {
        let place = |node: &NodeId| self.place_of(node).map_or(u16::MAX, |at| at as u16);
        let what = match event {
            Event::Delivered { artifact, from } => {
                What::Delivered(channel, artifact.id(), place(from))
            }
            Event::Withdrawn { id, by } => What::Withdrawn(channel, *id, place(by)),
            Event::Expired { id } => What::Expired(channel, *id),
            Event::Covered { id, by } => What::Covered(channel, *id, *by),
            event => panic!("not known to traces: {event:?}"),
        };
        self.trace.note(self.now, at, what);
    }

    fn note_node_event(&mut self, at: usize, event: NodeEvent) {
        let place = |node: &NodeId| self.place_of(node).map_or(u16::MAX, |at| at as u16);
        let what = match &event {
            NodeEvent::Up { peer } => What::Up(place(peer)),
            NodeEvent::Down { peer, .. } => What::Down(place(peer)),
            NodeEvent::Fault { peer, fault, .. } => What::Breach(place(peer), *fault),
            NodeEvent::Refused { .. }
            | NodeEvent::Behind { .. }
            | NodeEvent::CaughtUp { .. }
            | NodeEvent::Twin { .. }
            | NodeEvent::KeyInUse { .. } => {
                return;
            }
            event => panic!("not known to traces: {event:?}"),
        };
        self.trace.note(self.now, at, what);
    }
}
