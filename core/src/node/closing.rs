//! Connections that have ended, as long as QUIC has them kept (RFC 9000, section 10.2).
//!
//! What is kept is the packet with the close frame: if the peer goes on sending, it has not arrived, and is sent again.
//! The endpoint keeps the ids by which datagrams are known to belong to the connection. All else is let go of at once,
//! since the peer may have filled whatever it was given credit for. Nothing is decrypted any more. Invariant 8.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use std::vec::Vec;

use quinn_proto::{ConnectionHandle, EndpointEvent};

use super::Node;
use super::transmit::Transmit;
use crate::id::NodeId;
use crate::time::Time;

/// How many are kept of those that one member made, or that were up with it. If a member reconnects more often, the
/// oldest are forgotten at once. What still comes for them is answered with a stateless reset.
const CLOSING_MAX: usize = 2;

/// How many of all others are kept: dials that failed, and connections of nobody that is a member.
const FAILED_MAX: usize = 32;

/// The longest time that one is kept. QUIC asks for three probe timeouts, in which there is a delay of which the peer
/// has told: of up to 16 s.
const CLOSING_SPAN_MAX: Duration = Duration::from_secs(3);

#[derive(Debug)]
struct Closing {
    /// What tells the peer. `None` if nothing can be sent.
    packet: Option<(Transmit, Vec<u8>)>,
    /// The packet is to be sent (again).
    is_unsent: bool,
    /// The peer has closed the connection itself, or has lost it: it is told once.
    is_known: bool,
    /// Of this member.
    node: Option<NodeId>,
    /// It counts among those of the member.
    is_of_member: bool,
    was_up: bool,
    /// Datagrams that have come since.
    datagrams: u32,
}

/// By handle, each of which is free again when its connection is forgotten.
#[derive(Debug, Default)]
pub(super) struct ClosingConnections {
    by_handle: BTreeMap<usize, Closing>,
    /// Those with a packet to be sent, each once.
    unsent: VecDeque<ConnectionHandle>,
    /// Those of no member, the oldest first.
    failed: VecDeque<ConnectionHandle>,
}

impl ClosingConnections {
    #[cfg(feature = "internals")]
    pub(super) fn count(&self) -> usize {
        self.by_handle.len()
    }

    /// Whether a member that was connected may not have heard of the end yet.
    pub(super) fn has_peers(&self) -> bool {
        !self.unsent.is_empty() || self.by_handle.values().any(|closing| closing.was_up)
    }

    fn is_of_member(&self, handle: ConnectionHandle) -> bool {
        self.by_handle.get(&handle.0).is_some_and(|closing| closing.is_of_member)
    }

    fn insert(&mut self, handle: ConnectionHandle, closing: Closing) {
        if closing.is_unsent {
            self.unsent.push_back(handle);
        }
        if !closing.is_of_member {
            self.failed.push_back(handle);
        }
        let before = self.by_handle.insert(handle.0, closing);
        assert!(before.is_none(), "handles are unique");
    }

    fn remove(&mut self, handle: ConnectionHandle) -> Option<Closing> {
        let closing = self.by_handle.remove(&handle.0)?;
        self.unsent.retain(|other| *other != handle);
        self.failed.retain(|other| *other != handle);
        Some(closing)
    }

    /// A datagram has come on one of them, whose peer has not heard of its end. It is told again after 1, 2, 4, 8 and so
    /// on of them, so that nobody is answered for long (RFC 9000, section 10.2.1).
    pub(super) fn note_datagram(&mut self, handle: ConnectionHandle) {
        let Some(closing) = self.by_handle.get_mut(&handle.0) else { return };
        closing.datagrams = closing.datagrams.saturating_add(1);
        let is_told = closing.packet.is_some() && !closing.is_known;
        if is_told && closing.datagrams.is_power_of_two() && !closing.is_unsent {
            closing.is_unsent = true;
            self.unsent.push_back(handle);
        }
    }

    /// The next packet to be sent.
    pub(super) fn next_packet(&mut self) -> Option<(Transmit, &[u8])> {
        let handle = self.unsent.pop_front()?;
        let closing = self.by_handle.get_mut(&handle.0).expect("removed with it");
        closing.is_unsent = false;
        closing.packet.as_ref().map(|(transmit, packet)| (*transmit, packet.as_slice()))
    }
}

impl Node {
    /// A link has ended: keeps what QUIC requires of it, and lets go of all else.
    pub(super) fn keep_closing(&mut self, now: Time, handle: ConnectionHandle) {
        let instant = self.instant(now);
        let link = self.links[handle.0].as_mut().expect("it has just ended");
        let mut packet = Vec::new();
        let transmit = link.quic.poll_transmit(instant, 1, &mut packet);
        let packet = transmit.map(|transmit| (Transmit::from_quic(transmit), packet));
        let ends_at = link.deadline(self.start, self.config.transport.keep_alive);
        let (was_up, is_client, is_known) = (link.was_up(), link.is_client, link.lost.is_some());
        let node = link.node;
        let peer = node.and_then(|node| self.peers.find(&node));
        let peer = peer.filter(|_| was_up || !is_client);
        self.detach(handle);
        let closing = Closing {
            is_unsent: packet.is_some(),
            packet,
            is_known,
            node,
            is_of_member: peer.is_some(),
            was_up,
            datagrams: 0,
        };
        self.closing.insert(handle, closing);
        self.deadlines.set(handle.0, ends_at.min(now + CLOSING_SPAN_MAX));
        let oldest = match peer {
            Some(peer) => {
                // They are in the order in which they were made.
                let links = self.peers.peer(peer).links.iter().copied();
                let mut kept = links.filter(|handle| self.closing.is_of_member(*handle));
                let oldest = kept.next();
                oldest.filter(|_| kept.count() >= CLOSING_MAX)
            }
            None => {
                let failed = &self.closing.failed;
                failed.front().copied().filter(|_| failed.len() > FAILED_MAX)
            }
        };
        if let Some(oldest) = oldest {
            self.forget(oldest);
        }
    }

    /// Forgets a connection that has ended. Its handle is free for another one.
    pub(super) fn forget(&mut self, handle: ConnectionHandle) {
        let Some(closing) = self.closing.remove(handle) else { return };
        if let Some((transmit, packet)) = closing.packet.filter(|_| closing.is_unsent) {
            self.respond(transmit, packet);
        }
        self.deadlines.set(handle.0, Time::NEVER);
        let _ = self.endpoint.handle_event(handle, EndpointEvent::drained());
        if let Some(peer) = closing.node.and_then(|node| self.peers.find(&node)) {
            self.peers.remove_link(peer, handle);
        }
    }
}
