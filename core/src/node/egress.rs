//! Sending: which link may send next, and what the machines encode for it.
//!
//! The machines report flows that have come to have something to send. A flow is put into the
//! schedule of its peer's link, and the link into the queue of ready links of that level. A link
//! whose turn it is gets one piece of what is most urgent for its peer, and sends until QUIC has
//! nothing more that may be sent now, or it has sent its share. So what is urgent goes before what is
//! not, over all links, and the content is chosen as late as possible.

use quinn_proto::ConnectionHandle;
use std::vec::Vec;

use super::{BATCH_BYTES_MAX, Node};
use crate::id::PeerIndex;
use crate::node::transmit::Transmit;
use crate::sched::{Level, Schedule};
use crate::time::Time;
use crate::trace;

impl Node {
    /// The next datagrams to be sent, if there are any and the uplink is free.
    pub(super) fn poll_links(
        &mut self,
        now: Time,
        segments_max: usize,
        buffer: &mut Vec<u8>,
    ) -> Option<Transmit> {
        let instant = self.instant(now);
        loop {
            self.activate_flows();
            if self.uplink.free_at() > now {
                return None;
            }
            buffer.clear();
            if let Some(transmit) = self.closing.poll_transmit(buffer) {
                self.uplink.charge(now, transmit.size, 1);
                return Some(transmit);
            }
            let (handle, level) = self.ready.front()?;
            self.feed(now, handle, level);
            let link = self.links[handle.0].as_deref_mut().expect("a ready link");
            let mtu = usize::from(link.quic.current_mtu());
            let fitting = (BATCH_BYTES_MAX / mtu).min(self.uplink.segments(now, mtu));
            let segments = segments_max.min(fitting).max(1);
            if let Some(transmit) = link.quic.poll_transmit(instant, segments, buffer) {
                let transmit = Transmit::from_quic(transmit);
                let (bytes, datagrams) = (transmit.size, transmit.datagrams());
                let is_spent = self.ready.charge(link, level, bytes);
                self.uplink.charge(now, bytes, datagrams);
                link.note_sent(bytes, datagrams);
                let pending = link.pending_level();
                if pending > level {
                    // What is left is less urgent, and waits for a turn of its level.
                    self.ready.pop(link, level);
                    self.ready.push(handle, link, pending);
                } else if is_spent {
                    self.ready.end_turn(link, level);
                }
                if pending > level || is_spent {
                    // Others may have many turns before its next, and what it has sent may have set timers.
                    self.set_deadline(handle);
                }
                return Some(transmit);
            }
            link.is_fed = false;
            link.note_drained();
            match link.next_level(&self.config) {
                Some(next) if next == level => self.ready.end_turn(link, level),
                next => {
                    self.ready.pop(link, level);
                    if let Some(next) = next {
                        self.ready.push(handle, link, next);
                    }
                }
            }
            self.set_deadline(handle);
        }
    }

    /// Puts the flows that have come to have something to send into the schedules of their links.
    fn activate_flows(&mut self) {
        while let Some((peer, flow)) = self.machine.poll_ready() {
            self.activate(peer, flow);
        }
        while let Some((peer, flow)) = self.rpc.poll_ready() {
            self.activate(peer, self.broadcast_flows + flow);
        }
    }

    fn activate(&mut self, peer: PeerIndex, flow: usize) {
        let Some(handle) = self.peers.peer(peer).connection else { return };
        let link = self.links[handle.0].as_deref_mut().expect("it is up");
        link.schedule().activate(flow);
        if let Some(level) = link.next_level(&self.config) {
            self.ready.push(handle, link, level);
        }
    }

    /// Lets the machines encode and write one piece of what is most urgent for a link's peer, if it
    /// has not got one in this turn.
    fn feed(&mut self, now: Time, handle: ConnectionHandle, turn: Level) {
        let link = self.links[handle.0].as_deref_mut().expect("a ready link");
        let Some(peer) = link.peer() else { return };
        let sending = std::mem::replace(&mut link.is_fed, true).then(|| link.pending_level());
        loop {
            let link = self.links[handle.0].as_deref_mut().expect("a ready link");
            let Some(level) = link.next_level(&self.config) else {
                return trace::if_traced(|| link.note_window(now));
            };
            if sending.is_some_and(|sending| level >= sending) {
                return;
            }
            // On a turn that came for other reasons, data goes along if it does not delay any.
            let is_in_order = level <= turn || !self.ready.has_more_urgent(level);
            if !is_in_order || level > turn && self.uplink.is_shaped() {
                return;
            }
            let flow = link.schedule().next_flow().expect("it has a level");
            let is_done = match flow.checked_sub(self.broadcast_flows) {
                None => self.feed_broadcast(handle, peer, flow),
                Some(route) => self.feed_call(now, handle, peer, route),
            };
            if is_done {
                self.has_changed = true;
                return;
            }
        }
    }

    /// True if something was written.
    fn feed_broadcast(&mut self, handle: ConnectionHandle, peer: PeerIndex, flow: usize) -> bool {
        let Self { machine, out, encoded, .. } = self;
        let link = self.links[handle.0].as_deref_mut().expect("a ready link");
        let room = link.room();
        let send = machine.poll_flow(peer, flow, room.bytes, room.has_stream, out);
        if let Some(send) = send {
            link.schedule().charge(flow, out.len());
            #[cfg(feature = "internals")]
            self.written.note(link.node, out);
            if let Some(blocked) = link.send(send, out, encoded) {
                machine.handle_blocked(peer, blocked);
            }
        }
        settle(link.schedule(), flow, machine.is_ready(peer, flow), send.is_some());
        send.is_some()
    }

    /// True if something was written.
    fn feed_call(
        &mut self,
        now: Time,
        handle: ConnectionHandle,
        peer: PeerIndex,
        route: usize,
    ) -> bool {
        let Self { rpc, out, encoded, .. } = self;
        let flow = self.broadcast_flows + route;
        let link = self.links[handle.0].as_deref_mut().expect("a ready link");
        if rpc.is_calling(peer, route) {
            link.want_call_stream(&self.config);
        }
        let room = link.room();
        let piece = rpc.poll_flow(now, peer, route, room.bytes, room.has_call_stream, out);
        if let Some(piece) = piece {
            link.schedule().charge(flow, out.len());
            let (stream, written) = link.send_piece(piece, out, encoded);
            rpc.handle_written(stream, written);
        }
        settle(link.schedule(), flow, rpc.is_ready(peer, route), piece.is_some());
        piece.is_some()
    }
}

/// What becomes of a flow after its turn.
fn settle(schedule: &mut Schedule, flow: usize, is_ready: bool, has_sent: bool) {
    match (is_ready, has_sent) {
        (false, _) => schedule.idle(flow),
        // It has something to send, and could not.
        (true, false) => schedule.stall(flow),
        (true, true) => {}
    }
}
