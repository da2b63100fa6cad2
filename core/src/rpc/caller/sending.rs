//! What a call sends: its request, whole or in parts.

use super::Caller;
use crate::id::PeerIndex;
use crate::rpc::transfer::Sending;
use crate::rpc::{CallId, CallStream, SharedState, StreamOwner};
use crate::time::Time;

impl Caller {
    pub(in crate::rpc) fn stream(&self, index: u32) -> Option<CallStream> {
        self.calls[index].stream
    }

    pub(in crate::rpc) fn sending(&mut self, index: u32) -> (u16, &mut Sending) {
        let call = &mut self.calls[index];
        (call.route, &mut call.request)
    }

    /// A piece of the request was handed to the transport.
    pub(in crate::rpc) fn written(
        &mut self,
        shared: &mut SharedState,
        now: Time,
        index: u32,
        stream: CallStream,
    ) {
        let call = &mut self.calls[index];
        if call.stream.is_none() {
            call.stream = Some(stream);
            let before =
                shared.link_mut(call.peer).streams.insert(stream, StreamOwner::Call(index));
            assert!(before.is_none(), "streams are not used twice");
        }
        self.grant_part(shared, now, index);
    }

    /// The request of a call that is given in parts, and its owner if it has a stream.
    pub(in crate::rpc) fn giving(
        &mut self,
        id: CallId,
    ) -> Option<(Option<StreamOwner>, PeerIndex, u16, &mut Sending)> {
        let index = self.find(id).filter(|index| self.calls[*index].is_in_parts)?;
        let call = &mut self.calls[index];
        let owner = call.stream.map(|_| StreamOwner::Call(index));
        Some((owner, call.peer, call.route, &mut call.request))
    }

    /// The request has arrived.
    pub(in crate::rpc) fn acked(&mut self, index: u32) {
        let call = &mut self.calls[index];
        call.is_acked = true;
        let bytes = core::mem::take(&mut call.request_bytes);
        self.routes[call.route as usize].requests.give_back(call.peer, bytes);
    }

    /// The callee does not want the rest of the request. Its reply gives the reason.
    pub(in crate::rpc) fn stopped(&mut self, shared: &mut SharedState, index: u32) {
        let call = &mut self.calls[index];
        shared.unqueue(call.peer, call.route, StreamOwner::Call(index), &call.request);
        call.request.abandon();
        let bytes = core::mem::take(&mut call.request_bytes);
        self.routes[call.route as usize].requests.give_back(call.peer, bytes);
    }
}
