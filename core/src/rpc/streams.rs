//! What the transport tells of streams.

use super::shared::StreamOwner;
use super::{CallStream, Rpc};
use crate::error::Fault;
use crate::id::PeerIndex;
use crate::time::Time;
use crate::wire::CallReset;

impl Rpc {
    /// A peer that is up has opened a stream: a request begins.
    ///
    /// # Panics
    /// If there are no routes: a peer may open no streams then.
    pub fn handle_opened(&mut self, now: Time, peer: PeerIndex, stream: CallStream) {
        let now = self.clamp(now);
        assert!(!self.shared.routes.is_empty() && self.shared.is_up(peer));
        self.callee.open(&mut self.shared, now, peer, stream);
    }

    /// How many bytes of a stream the machine accepts now. Further bytes have to stay in the
    /// stream.
    pub fn wants(&self, peer: PeerIndex, stream: CallStream) -> usize {
        match self.owner_of(peer, stream) {
            Some(StreamOwner::Call(index)) => self.caller.wants(index),
            Some(StreamOwner::Request(index)) => self.callee.wants(index),
            None => 0,
        }
    }

    fn owner_of(&self, peer: PeerIndex, stream: CallStream) -> Option<StreamOwner> {
        self.shared.link(peer)?.streams.get(&stream).copied()
    }

    /// Bytes of a stream, no more than it [wants](Rpc::wants).
    ///
    /// # Errors
    /// If the peer broke a rule. The call or request is over then, and the stream is to be closed.
    pub fn handle_data(
        &mut self,
        now: Time,
        peer: PeerIndex,
        stream: CallStream,
        bytes: &[u8],
    ) -> Result<(), Fault> {
        let now = self.clamp(now);
        match self.owner_of(peer, stream) {
            Some(StreamOwner::Call(index)) => {
                self.caller.handle_data(&mut self.shared, now, index, bytes)
            }
            Some(StreamOwner::Request(index)) => {
                self.callee.handle_data(&mut self.shared, now, index, bytes)
            }
            None => Ok(()),
        }
    }

    /// The peer's direction of a stream has come to its end.
    ///
    /// # Errors
    /// If the peer broke a rule. The call or request is over then, and the stream is to be closed.
    pub fn handle_end(&mut self, peer: PeerIndex, stream: CallStream) -> Result<(), Fault> {
        let now = self.now;
        match self.owner_of(peer, stream) {
            Some(StreamOwner::Call(index)) => self.caller.handle_end(&mut self.shared, now, index),
            Some(StreamOwner::Request(index)) => self.callee.handle_end(&mut self.shared, index),
            None => Ok(()),
        }
    }

    /// The peer has reset its direction of a stream, and says why.
    pub fn handle_reset(&mut self, now: Time, peer: PeerIndex, stream: CallStream, why: CallReset) {
        let now = self.clamp(now);
        match self.owner_of(peer, stream) {
            Some(StreamOwner::Call(index)) => {
                self.caller.handle_reset(&mut self.shared, now, index, why)
            }
            Some(StreamOwner::Request(index)) => {
                self.callee.ended_by_caller(&mut self.shared, index);
            }
            None => {}
        }
    }

    /// The peer does not want the rest of what this node sends in a stream; the transport resets it.
    pub fn handle_stopped(&mut self, peer: PeerIndex, stream: CallStream) {
        match self.owner_of(peer, stream) {
            // The reason follows in the callee's direction.
            Some(StreamOwner::Call(index)) => self.caller.stopped(&mut self.shared, index),
            Some(StreamOwner::Request(index)) => {
                self.callee.ended_by_caller(&mut self.shared, index);
            }
            None => {}
        }
    }

    /// All that this node has sent in a stream has arrived, its end included: the transport keeps none
    /// of it any more.
    pub fn handle_acked(&mut self, peer: PeerIndex, stream: CallStream) {
        match self.owner_of(peer, stream) {
            Some(StreamOwner::Call(index)) => self.caller.acked(index),
            Some(StreamOwner::Request(index)) => self.callee.acked(&mut self.shared, index),
            None => {}
        }
    }

    /// The transport accepts more bytes of this node's direction of a stream.
    pub fn handle_writable(&mut self, peer: PeerIndex, stream: CallStream) {
        let Some(owner) = self.owner_of(peer, stream) else { return };
        let (route, sending) = match owner {
            StreamOwner::Call(index) => self.caller.sending(index),
            StreamOwner::Request(index) => self.callee.sending(index),
        };
        sending.unblock();
        self.shared.note_due(peer, route, owner, sending);
    }
}
