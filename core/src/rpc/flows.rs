//! What each peer is sent: by flow, when it has room.

use super::parts::{Stream, StreamEvent};
use super::shared::StreamOwner;
use super::{CallStream, Rpc, SendBuffer};
use crate::config::Class;
use crate::id::PeerIndex;
use crate::time::Time;

/// What to do with the bytes of a [`Rpc::poll_flow`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Piece {
    /// The stream. `None`: open a new one.
    pub stream: Option<CallStream>,
    /// This node's direction of the stream ends behind them.
    pub finish: bool,
    /// How urgent they are.
    pub class: Class,
}

impl Rpc {
    /// The classes of this machine's flows, one for each route.
    pub fn flows(&self) -> impl Iterator<Item = Class> {
        self.shared.routes.iter().map(|route| route.class)
    }

    /// The next flow of a peer that has something more to send. It has to be polled with
    /// [`Rpc::poll_flow`] until it is not [ready](Rpc::is_ready) any more.
    pub fn poll_ready(&mut self) -> Option<(PeerIndex, usize)> {
        self.shared.ready.pop()
    }

    /// Whether a flow that was reported may have more to send.
    pub fn is_ready(&self, peer: PeerIndex, flow: usize) -> bool {
        self.shared.ready.is_ready(peer, flow)
    }

    /// Whether [`Rpc::poll_flow`] has something for a peer. `can_open`, if the transport can open
    /// another stream to it.
    pub fn has_flow_backlog(&self, peer: PeerIndex, flow: usize, can_open: bool) -> bool {
        self.shared.link(peer).is_some_and(|link| {
            let opens = || can_open && self.caller.can_open(peer, flow as u16);
            link.is_up && (!link.sendable[flow].is_empty() || opens())
        })
    }

    /// Whether there may be something for a peer.
    pub fn has_backlog(&self, peer: PeerIndex) -> bool {
        (0..self.shared.routes.len()).any(|flow| self.has_flow_backlog(peer, flow, true))
    }

    /// Whether a call to a peer on the route of a flow could be opened, were there a stream.
    pub fn is_calling(&self, peer: PeerIndex, flow: usize) -> bool {
        self.shared.is_up(peer) && self.caller.can_open(peer, flow as u16)
    }

    /// What a flow has for a peer, up to `room` bytes. `None`, and nothing in `out`, if there is
    /// nothing to send or no room. The caller reports the result with [`Rpc::handle_written`]
    /// before any other call.
    pub fn poll_flow(
        &mut self,
        now: Time,
        peer: PeerIndex,
        flow: usize,
        room: usize,
        can_open: bool,
        out: &mut SendBuffer,
    ) -> Option<Piece> {
        let now = self.clamp(now);
        assert!(self.offered.is_none(), "the last piece comes first");
        out.clear();
        if room == 0 || !self.shared.is_up(peer) {
            return None;
        }
        if !self.has_flow_backlog(peer, flow, true) {
            self.shared.ready.settle(peer, flow);
            return None;
        }
        let route = flow as u16;
        // New calls alternate with calls and requests that have begun, so that a small call does
        // not wait for large ones, nor an answer for a flood of calls. Among those that have begun,
        // each goes to the end of the queue after it has sent a piece.
        let link = self.shared.link_mut(peer);
        let can_open = can_open && (!link.has_begun[flow] || link.sendable[flow].is_empty());
        let opened = can_open.then(|| self.caller.open(&self.shared, now, peer, route)).flatten();
        self.shared.link_mut(peer).has_begun[flow] = opened.is_some();
        let owner = match opened {
            Some(index) => StreamOwner::Call(index),
            None => self.shared.link_mut(peer).sendable[flow].pop_front()?,
        };
        let (stream, sending) = match owner {
            StreamOwner::Call(index) => (self.caller.stream(index), self.caller.sending(index).1),
            StreamOwner::Request(index) => {
                (Some(self.callee.stream(index)), self.callee.sending(index).1)
            }
        };
        sending.is_queued = false;
        let offer = sending.offer(room, out);
        self.offered = Some((peer, route, owner, offer));
        let class = self.shared.routes[flow].class;
        Some(Piece { stream, finish: offer.ends, class })
    }

    /// The transport has taken so many bytes of the last piece, and its end, if they are all. `stream`
    /// is the piece's, or was opened for it.
    ///
    /// # Panics
    /// If there was no piece.
    pub fn handle_written(&mut self, stream: CallStream, bytes: usize) {
        let (peer, route, owner, offer) = self.offered.take().expect("a piece was polled");
        let (stream_of, sending) = match owner {
            StreamOwner::Call(index) => {
                (Stream::Call(self.caller.id(index)), self.caller.sending(index).1)
            }
            StreamOwner::Request(index) => {
                (Stream::Request(self.callee.id(index)), self.callee.sending(index).1)
            }
        };
        sending.written(offer, bytes);
        if offer.has_body() && sending.is_given() && sending.wants() > 0 {
            self.shared.stream_events.push_back(StreamEvent::Writable(stream_of));
        }
        self.shared.note_due(peer, route, owner, sending);
        match owner {
            StreamOwner::Call(index) => {
                self.caller.written(&mut self.shared, self.now, index, stream);
            }
            StreamOwner::Request(index) => {
                self.callee.grant_part(&mut self.shared, self.now, index);
                self.callee.written(&mut self.shared, index);
            }
        }
        if !self.has_flow_backlog(peer, route.into(), true) {
            self.shared.ready.settle(peer, route.into());
        }
    }
}
