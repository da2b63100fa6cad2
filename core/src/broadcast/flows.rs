//! What each peer is sent: by flow, when it has room, and what becomes of it.

use super::{Broadcast, OutStream, Send, SendBuffer};
use crate::id::PeerIndex;
use crate::sched::Level;
use crate::time::Time;
use crate::trace;

impl Broadcast {
    /// The levels of this machine's flows, in the order of their numbers: what a
    /// [`Schedule`](crate::sched::Schedule) of a peer is made of.
    pub fn flows(&self) -> impl Iterator<Item = Level> {
        self.sender.flows()
    }

    /// The next flow of a peer that has something more to send. It has to be polled with
    /// [`Broadcast::poll_flow`] until it is not [ready](Broadcast::is_ready) any more.
    pub fn poll_ready(&mut self) -> Option<(PeerIndex, usize)> {
        self.mark_requests();
        self.sender.poll_ready()
    }

    /// The next turn begins: flows for which more was to be looked at than is in one turn are [reported
    /// again](Broadcast::poll_ready). Whether there are any. To be called when there is nothing else to do, or others
    /// have had their turns, so that they do not keep other peers waiting.
    pub fn resume_deferred(&mut self) -> bool {
        self.sender.ready.resume_deferred()
    }

    pub(super) fn mark_requests(&mut self) {
        while let Some(peer) = self.inbox.transfers.asking.pop() {
            if self.peers.up[peer.at()] {
                self.sender.mark_requests(peer);
            }
        }
    }

    /// Whether a flow that was reported may have more to send now. While that is
    /// [deferred](Broadcast::resume_deferred), or waits for the peer's [quota](Broadcast::set_quotas), the flow is not ready
    /// and not reported; it is reported when it goes on.
    pub fn is_ready(&self, peer: PeerIndex, flow: usize) -> bool {
        self.sender.is_ready(peer, flow)
    }

    /// Whether [`Broadcast::poll_flow`] may have something for a peer. `can_open`, if the transport
    /// can open another stream to it.
    pub fn has_flow_backlog(&self, peer: PeerIndex, flow: usize, can_open: bool) -> bool {
        let content = (&self.outboxes[..], &self.inbox);
        self.peers.up[peer.at()] && self.sender.has_backlog(peer, flow, can_open, content)
    }

    /// Encodes what a flow has for a peer into `out`, up to about `room` bytes (the last frame may
    /// exceed it by up to a chunk and its proof). `None`, and nothing in `out`, if there is nothing
    /// to send or no room; if so much need not be sent that the next turn goes on
    /// ([`Broadcast::resume_deferred`]); or if the peer's [quota](Broadcast::set_quotas) is used up for
    /// now. Unless the transport `can_open` another stream, only streams that are open already are
    /// continued: all that there are may be waiting for this.
    ///
    /// The content of updates is read from the slots here and not earlier, so content that was
    /// overwritten or aborted by now is not sent. What is encoded can make others obsolete:
    /// [poll](Broadcast::poll) for streams to reset before the next input.
    pub fn poll_flow(
        &mut self,
        peer: PeerIndex,
        flow: usize,
        room: usize,
        can_open: bool,
        out: &mut SendBuffer,
    ) -> Option<Send> {
        out.clear();
        if room == 0 || !self.peers.up[peer.at()] {
            return None;
        }
        let content = (&mut self.outboxes[..], &mut self.inbox);
        let (at, room, outputs) = ((peer, flow), (room, can_open), &mut self.outputs);
        let send = self.sender.poll_flow(self.now, at, room, out, content, outputs);
        self.sender.note_encoded(peer, out.len());
        if flow / 2 < self.channels.len() {
            self.note_lags(flow / 2);
        }
        self.trace_requests();
        send
    }

    /// Whether [`Broadcast::poll_send`] may have something for a peer.
    pub fn has_backlog(&self, peer: PeerIndex) -> bool {
        let mut flows = 0..self.sender.flows_count();
        flows.any(|flow| self.has_flow_backlog(peer, flow, true))
    }

    /// Encodes what is most urgent for a peer into `out`: requests, then the flows by class. For a
    /// machine without a [`Schedule`](crate::sched::Schedule), which is fairer; otherwise like
    /// [`Broadcast::poll_flow`].
    pub fn poll_send(
        &mut self,
        now: Time,
        peer: PeerIndex,
        room: usize,
        out: &mut SendBuffer,
    ) -> Option<Send> {
        self.clamp(now);
        Level::ALL.into_iter().find_map(|level| {
            (0..self.sender.flows_count()).find_map(|flow| {
                let is_due = self.sender.level(flow) == level;
                is_due.then(|| self.poll_flow(peer, flow, room, true, out)).flatten()
            })
        })
    }

    /// The transport has not taken all of what was encoded last for a stream that goes on. No more
    /// is encoded for it until [`Broadcast::handle_writable`].
    pub fn handle_blocked(&mut self, peer: PeerIndex, stream: OutStream) {
        trace::if_traced(|| trace::blocked(self.peers.node(peer)));
        self.sender.set_blocked(peer, stream, true);
    }

    /// The transport takes more of a stream that was [blocked](Broadcast::handle_blocked).
    pub fn handle_writable(&mut self, peer: PeerIndex, stream: OutStream) {
        trace::if_traced(|| trace::unblocked(self.peers.node(peer)));
        self.sender.set_blocked(peer, stream, false);
    }

    /// A stream was acknowledged as a whole.
    pub fn handle_acked(&mut self, peer: PeerIndex, stream: OutStream) {
        if let Some(channel_index) = self.sender.acked(self.now, peer, stream, &mut self.outboxes) {
            self.note_covered(channel_index);
        }
    }

    /// The peer does not want the rest of a stream; the caller resets it.
    pub fn handle_stopped(&mut self, peer: PeerIndex, stream: OutStream) {
        self.sender.ended(peer, stream, &mut self.outboxes);
    }
}
