//! Scheduling of the flows of both machines, on every connection with room.

use quinn_proto::ConnectionHandle;
use std::vec::Vec;

use super::Node;
use crate::broadcast::Broadcast;
use crate::config::Class;
use crate::id::PeerIndex;
use crate::rpc::Rpc;
use crate::sched::Schedule;
use crate::time::Time;

/// The schedules of all peers. Those flows of the broadcast machine come first.
#[derive(Debug)]
pub(super) struct Egress {
    classes: Vec<Class>,
    broadcast_flows: usize,
    schedules: Vec<Schedule>,
}

impl Egress {
    pub(super) fn new(machine: &Broadcast, rpc: &Rpc) -> Self {
        let broadcast_flows = machine.flows().count();
        let classes = machine.flows().chain(rpc.flows()).collect();
        Self { classes, broadcast_flows, schedules: Vec::new() }
    }

    pub(super) fn add_peer(&mut self, peer: PeerIndex) {
        let schedule = || Schedule::new(self.classes.iter().copied());
        if self.schedules.len() <= peer.at() {
            self.schedules.resize_with(peer.at() + 1, schedule);
        } else {
            self.schedules[peer.at()] = schedule();
        }
    }
}

impl Node {
    /// Lets the machines encode for every peer that has room.
    pub(super) fn fill_send_buffers(&mut self, now: Time) {
        if !std::mem::take(&mut self.fill_due) {
            return;
        }
        for at in 0..self.connections.len() {
            let Some(peer) = self.connections[at].as_ref().and_then(|connection| connection.up)
            else {
                continue;
            };
            let mut wrote = false;
            while self.fill_send_buffer(now, at, peer) {
                wrote = true;
            }
            if wrote {
                self.mark_ready(ConnectionHandle(at));
                self.fill_due = true;
            }
        }
    }

    /// Encodes and writes the most urgent data for a peer. False if there was nothing to send, or
    /// no room.
    fn fill_send_buffer(&mut self, now: Time, at: usize, peer: PeerIndex) -> bool {
        let Self { machine, rpc, egress, out, .. } = self;
        if !machine.has_backlog(peer) && !rpc.has_backlog(peer) {
            return false;
        }
        let connection = self.connections[at].as_mut().expect("it is up");
        let room = connection.room(&self.config, rpc.is_calling(peer));
        if room.bytes == 0 {
            return false;
        }
        let mut send = None;
        if room.has_stream {
            send = machine.poll_requests(now, peer, room.bytes, out);
        }
        let split = egress.broadcast_flows;
        let schedule = &mut egress.schedules[peer.at()];
        while send.is_none() {
            let has_backlog = |flow: usize| match flow.checked_sub(split) {
                None => machine.has_flow_backlog(peer, flow, room.has_stream),
                Some(flow) => rpc.has_flow_backlog(peer, flow, room.has_call_stream),
            };
            let Some(flow) = schedule.next(has_backlog) else { return false };
            let Some(call_flow) = flow.checked_sub(split) else {
                send = machine.poll_flow(peer, flow, room.bytes, room.has_stream, out);
                schedule.charge(flow, out.len(), send.is_none());
                continue;
            };
            let piece = rpc.poll_flow(now, peer, call_flow, room.bytes, room.has_call_stream, out);
            let bytes = out.len();
            if let Some(piece) = piece {
                let (stream, written) = connection.send_piece(piece, out);
                rpc.handle_written(stream, written);
            }
            schedule.charge(flow, bytes, piece.is_none());
            if piece.is_some() {
                return true;
            }
        }
        let Some(send) = send else { return false };
        #[cfg(feature = "internals")]
        self.written.note(connection.node, out);
        connection.send(send, out);
        true
    }
}
