//! Making calls, and the wait for credit.

use alloc::vec::Vec;
use core::time::Duration;

use super::{Call, Caller, PeerRoute};
use crate::config::RouteConfig;
use crate::error::CallError;
use crate::id::{PeerIndex, RouteId};
use crate::rpc::transfer::Sending;
use crate::rpc::{Body, CallId, Credit, SharedState, StreamOwner};
use crate::time::Time;
use crate::wire::{CallHead, EAGER_BYTES_MAX, FrameReader};

/// What a call waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Manner {
    /// An answer. It fails unless there is credit.
    Try,
    /// Credit, and an answer.
    Wait,
    /// The connection and credit, and for no answer: a message.
    Tell,
}

const _: () = assert!(EAGER_BYTES_MAX <= u32::MAX as usize);

impl Manner {
    /// Bytes of an answer that a callee may send at once. There is room for as many for each call.
    pub(super) fn prepaid(self, config: &RouteConfig) -> u32 {
        match self {
            Self::Try | Self::Wait => config.response_bytes_max.min(EAGER_BYTES_MAX as u32),
            Self::Tell => 0,
        }
    }
}

impl Caller {
    #[allow(clippy::too_many_arguments, reason = "the machine's command")]
    pub(in crate::rpc) fn call(
        &mut self,
        shared: &mut SharedState,
        now: Time,
        peer: PeerIndex,
        route: RouteId,
        body: Body,
        timeout: Option<Duration>,
        manner: Manner,
    ) -> Result<CallId, CallError> {
        let route = shared.route_index(route).ok_or(CallError::UnknownRoute)?;
        let config = &shared.routes[route as usize];
        let is_up = shared.is_up(peer);
        if shared.link(peer).is_none() {
            return Err(CallError::NotConnected);
        }
        let length = body.length();
        let peer_route = self.peer_route(peer, route);
        let credit = match peer_route.credit {
            Some(credit) => credit,
            None if is_up => return Err(CallError::NotServed),
            None if manner == Manner::Tell => Credit::most(config),
            None => return Err(CallError::NotConnected),
        };
        if length > credit.request_bytes_max.into() {
            return Err(CallError::TooLong);
        }
        let timeout = timeout.unwrap_or(config.deadline);
        if timeout.is_zero() {
            return Err(CallError::DeadlinePassed);
        }
        let bytes = peer_route.open_bytes + peer_route.waiting_bytes + length;
        if !credit.admits(peer_route.outstanding, bytes, manner != Manner::Try) {
            return Err(CallError::Pushback);
        }
        let is_in_parts = matches!(body, Body::InParts(_));
        let request_bytes = body.room();
        if !self.routes[route as usize].requests.take(peer, request_bytes) {
            return Err(CallError::Pushback);
        }
        let deadline = now + timeout;
        let mut request = Sending::default();
        match body {
            Body::Whole(body) => request.body(body, EAGER_BYTES_MAX),
            Body::InParts(length) => request.body_in_parts(length as usize, EAGER_BYTES_MAX),
        }
        let index = self.calls.insert(Call {
            id: CallId(0),
            peer,
            route,
            made_at: now,
            deadline,
            manner,
            timer: Time::NEVER,
            stream: None,
            request,
            request_bytes,
            is_acked: false,
            reader: FrameReader::default(),
            answer: None,
            is_in_parts,
            awaits_answer: false,
            has_ended: false,
            answer_bytes: 0,
        });
        let id = CallId(shared.next_id(index));
        let call = &mut self.calls[index];
        call.id = id;
        shared.set_timer(StreamOwner::Call(index), &mut call.timer, deadline);
        let peer_route = self.peer_route(peer, route);
        peer_route.waiting.push_back(index);
        peer_route.waiting_bytes += length;
        peer_route.outstanding += 1;
        if is_up {
            shared.ready.mark(peer, route.into());
        }
        self.routes[route as usize].counts.begun += 1;
        Ok(id)
    }

    pub(in crate::rpc) fn cancel(&mut self, shared: &mut SharedState, id: CallId) -> bool {
        let Some(index) = self.find(id) else { return false };
        let (peer, route) = (self.calls[index].peer, self.calls[index].route);
        self.close(shared, index);
        self.remove(shared, index);
        self.peer_route(peer, route).outstanding -= 1;
        self.routes[route as usize].counts.cancelled += 1;
        true
    }

    /// The messages that have waited for a connection are sent, those that the peer takes.
    pub(super) fn send_waiting(&mut self, shared: &mut SharedState, peer: PeerIndex) {
        for at in 0..self.routes.len() {
            let PeerRoute { credit, waiting, .. } = &self.routes[at].by_peer[peer.at()];
            let refusal = |index: &u32| match credit {
                None => Some((*index, CallError::NotServed)),
                Some(credit) => {
                    let length = self.calls[*index].request.body_length();
                    let is_long = length > credit.request_bytes_max.into();
                    is_long.then_some((*index, CallError::TooLong))
                }
            };
            let refused: Vec<_> = waiting.iter().filter_map(refusal).collect();
            for (index, error) in refused {
                self.complete(shared, index, Err(error));
            }
            if !self.routes[at].by_peer[peer.at()].waiting.is_empty() {
                shared.ready.mark(peer, at);
            }
        }
    }

    pub(in crate::rpc) fn credit(&self, peer: PeerIndex, route: u16) -> Option<Credit> {
        self.routes[route as usize].by_peer[peer.at()].credit
    }

    /// Whether the first of the calls that wait can be opened.
    pub(in crate::rpc) fn can_open(&self, peer: PeerIndex, route: u16) -> bool {
        let peer_route = &self.routes[route as usize].by_peer[peer.at()];
        let first = peer_route.waiting.front();
        first.zip(peer_route.credit).is_some_and(|(first, credit)| {
            let bytes = peer_route.open_bytes + self.calls[*first].request.body_length();
            credit.admits(peer_route.open.into(), bytes, false)
        })
    }

    /// Takes the first of the calls that wait: its head is ready to be sent.
    pub(in crate::rpc) fn open(
        &mut self,
        shared: &SharedState,
        now: Time,
        peer: PeerIndex,
        route: u16,
    ) -> Option<u32> {
        if !self.can_open(peer, route) {
            return None;
        }
        let config = &shared.routes[route as usize];
        let peer_route = self.peer_route(peer, route);
        let index = peer_route.waiting.pop_front()?;
        let bytes = self.calls[index].request.body_length();
        let peer_route = self.peer_route(peer, route);
        peer_route.open += 1;
        peer_route.open_bytes += bytes;
        peer_route.waiting_bytes -= bytes;
        let call = &mut self.calls[index];
        let left = call.deadline.since(now).as_nanos().div_ceil(1_000_000);
        let (length, wants_answer) =
            (call.request.body_length() as u32, call.manner != Manner::Tell);
        let prepaid = call.manner.prepaid(config);
        let head = CallHead {
            route: config.id,
            timeout_ms: left.try_into().unwrap_or(u32::MAX),
            prepaid,
            length,
            wants_answer,
        };
        call.request.frame(|frames| head.encode(frames));
        if !wants_answer || config.response_bytes_max <= prepaid {
            call.request.end();
        }
        Some(index)
    }
}
