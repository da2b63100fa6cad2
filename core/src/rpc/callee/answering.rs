//! How requests are answered: room for answers, and what is sent of them.

use core::mem;

use super::{ANSWER_BYTES_KEPT, Callee, Phase, Route};
use crate::error::AnswerError;
use crate::id::PeerIndex;
use crate::rpc::transfer::Sending;
use crate::rpc::{Body, Output, Refusal, RequestId, SharedState, StreamOwner};
use crate::time::Time;
use crate::wire::{CallRefusal, Reply};

impl Callee {
    /// Bytes that the answer to a request may have.
    pub(super) fn answer_bytes_max(&self, index: u32) -> u32 {
        let request = &self.inbound[index];
        let peer_route = &self.routes[request.route as usize].by_peer[request.peer.at()];
        if request.wants_answer { peer_route.answer_bytes_max } else { 0 }
    }

    /// Takes room for an answer of so many bytes, beside what the request has. False if there is none.
    fn take_room(&mut self, index: u32, bytes: u64) -> bool {
        let request = &mut self.inbound[index];
        let missing = bytes.saturating_sub(request.answer_bytes);
        let has_room = self.routes[request.route as usize].answers.take(request.peer, missing);
        if has_room {
            request.answer_bytes += missing;
        }
        has_room
    }

    /// It does not wait for room for an answer any more.
    pub(super) fn stop_reserving(&mut self, index: u32) {
        let request = &mut self.inbound[index];
        if request.room_wanted.take().is_some() {
            self.routes[request.route as usize].reserving.remove(request.peer, index);
        }
        let id = request.id;
        self.reserved.retain(|other| *other != id);
    }

    /// Takes room for an answer of so many bytes, or waits for it: see [`Rpc::reserve`](super::Rpc::reserve).
    pub(in crate::rpc) fn reserve(&mut self, id: RequestId, bytes: u32) -> Result<(), AnswerError> {
        let index = self.find(id).ok_or(AnswerError::Cancelled)?;
        match self.inbound[index].phase {
            Phase::Taken => {}
            Phase::Cancelled(why) => return Err(why),
            _ => return Err(AnswerError::Cancelled),
        }
        if bytes > self.answer_bytes_max(index) {
            return Err(AnswerError::TooLong);
        }
        self.stop_reserving(index);
        let request = &mut self.inbound[index];
        let route = &mut self.routes[request.route as usize];
        // What waits keeps nothing: requests that all kept some would wait for each other.
        if u64::from(bytes) > request.answer_bytes {
            route.answers.give_back(request.peer, mem::take(&mut request.answer_bytes));
        }
        request.room_wanted = Some(bytes.into());
        route.reserving.push(request.peer, index);
        route.is_due = true;
        Ok(())
    }

    /// Grants answers the room that they wait for, peers taking turns.
    pub(super) fn grant_answers(&mut self, at: u16) {
        loop {
            let Route { answers, reserving, .. } = &mut self.routes[at as usize];
            let inbound = &self.inbound;
            let next = reserving.pop(answers, |index| inbound[index].room_missing(), |_| true);
            let Some(index) = next else { return };
            let wanted = self.inbound[index].room_wanted.take().expect("it waits for room");
            assert!(self.take_room(index, wanted), "there was room");
            self.reserved.push_back(self.inbound[index].id);
        }
    }

    /// The request that is to be answered.
    fn find_unanswered(
        &mut self,
        shared: &mut SharedState,
        id: RequestId,
    ) -> Result<u32, AnswerError> {
        let Some(index) = self.find(id) else {
            self.forget_cancelled(id);
            return Err(AnswerError::Cancelled);
        };
        match self.inbound[index].phase {
            Phase::Cancelled(why) => {
                self.remove(shared, index);
                Err(why)
            }
            Phase::Taken => Ok(index),
            _ => Err(AnswerError::Cancelled),
        }
    }

    pub(in crate::rpc) fn answer(
        &mut self,
        shared: &mut SharedState,
        now: Time,
        id: RequestId,
        answer: Body,
    ) -> Result<(), AnswerError> {
        let index = self.find_unanswered(shared, id)?;
        let length = answer.length();
        if length > self.answer_bytes_max(index).into() {
            return Err(AnswerError::TooLong);
        }
        if self.inbound[index].body.as_ref().is_some_and(|body| !body.is_complete()) {
            return Err(AnswerError::NotRead);
        }
        let is_in_parts = matches!(answer, Body::InParts(_));
        let room = answer.room();
        let request = &self.inbound[index];
        let reserving = &self.routes[request.route as usize].reserving;
        // A long answer does not pass those that wait.
        let is_long = room > request.answer_bytes.max(ANSWER_BYTES_KEPT.into());
        let is_passing = is_long && reserving.count(request.peer) > 0;
        if is_passing || !self.take_room(index, room) {
            return Err(AnswerError::NoRoom);
        }
        self.stop_reserving(index);
        let request = &mut self.inbound[index];
        let (peer, route) = (request.peer, request.route);
        let unneeded = request.answer_bytes - room;
        let of_route = &mut self.routes[route as usize];
        of_route.answers.give_back(peer, unneeded);
        of_route.counts.answered += 1;
        of_route.latencies.note(now.since(request.taken_at));
        request.answer_bytes = room;
        request.is_answered_in_parts = is_in_parts;
        let allowed = if request.has_ended { length as usize } else { request.prepaid as usize };
        let reply = Reply::Answer { length: length as u32 };
        request.answer.frame(|frames| reply.encode(frames));
        match answer {
            Body::Whole(body) => request.answer.body(body, allowed),
            Body::InParts(length) => request.answer.body_in_parts(length as usize, allowed),
        }
        self.begin_reply(shared, index, Phase::Answering);
        Ok(())
    }

    pub(in crate::rpc) fn refuse(
        &mut self,
        shared: &mut SharedState,
        id: RequestId,
        refusal: Refusal,
    ) -> bool {
        let Some(index) = self.find(id) else {
            self.forget_cancelled(id);
            return false;
        };
        match self.inbound[index].phase {
            Phase::Taken => {}
            Phase::Cancelled(_) => {
                self.remove(shared, index);
                return false;
            }
            _ => return false,
        }
        let reply = match refusal {
            Refusal::Busy { retry_after } => Reply::Busy {
                retry_after_ms: retry_after.as_millis().try_into().unwrap_or(u32::MAX),
            },
            Refusal::Dropped => Reply::Refused(CallRefusal::Dropped),
        };
        self.routes[self.inbound[index].route as usize].counts.refused += 1;
        self.reply(shared, index, reply);
        true
    }

    /// Sends a reply that is not an answer.
    pub(super) fn reply(&mut self, shared: &mut SharedState, index: u32, reply: Reply) {
        let request = &mut self.inbound[index];
        request.answer.frame(|frames| reply.encode(frames));
        if !request.has_ended {
            shared.outputs.push_back(Output::Stop { peer: request.peer, stream: request.stream });
            request.has_ended = true;
        }
        let bytes = mem::take(&mut request.answer_bytes);
        self.routes[request.route as usize].answers.give_back(request.peer, bytes);
        self.stop_reserving(index);
        self.begin_reply(shared, index, Phase::Refusing);
    }

    pub(super) fn begin_reply(&mut self, shared: &mut SharedState, index: u32, phase: Phase) {
        self.set_phase(index, phase);
        let request = &mut self.inbound[index];
        request.answer.end();
        // The rest of the request is not needed any more.
        request.body = None;
        let bytes = mem::take(&mut request.request_bytes);
        let route = &mut self.routes[request.route as usize];
        route.requests.give_back(request.peer, bytes);
        route.is_due = true;
        shared.note_due(
            request.peer,
            request.route,
            StreamOwner::Request(index),
            &mut request.answer,
        );
    }

    /// An answer that is given in parts, and its owner.
    pub(in crate::rpc) fn giving(
        &mut self,
        id: RequestId,
    ) -> Option<(Option<StreamOwner>, PeerIndex, u16, &mut Sending)> {
        let index = self.find(id)?;
        let request = &mut self.inbound[index];
        let is_given = request.is_answered_in_parts && request.phase == Phase::Answering;
        let owner = Some(StreamOwner::Request(index));
        is_given.then_some((owner, request.peer, request.route, &mut request.answer))
    }

    pub(in crate::rpc) fn break_off(&mut self, shared: &mut SharedState, id: RequestId) -> bool {
        let Some(index) = self.find(id).filter(|index| {
            let request = &self.inbound[*index];
            request.is_answered_in_parts && request.phase == Phase::Answering
        }) else {
            return false;
        };
        self.cancelled(shared, index);
        true
    }

    pub(in crate::rpc) fn sending(&mut self, index: u32) -> (u16, &mut Sending) {
        let request = &mut self.inbound[index];
        (request.route, &mut request.answer)
    }

    /// A piece of the answer was handed to the transport. Once the transport has all of it and the
    /// caller's direction has ended, the request only waits for the acknowledgement.
    pub(in crate::rpc) fn written(&mut self, shared: &mut SharedState, index: u32) {
        let request = &self.inbound[index];
        if request.answer.has_ended() && request.has_ended {
            match request.phase {
                Phase::Answering if !request.is_acked => self.set_phase(index, Phase::Answered),
                _ => self.remove(shared, index),
            }
        }
    }

    /// The answer has arrived.
    pub(in crate::rpc) fn acked(&mut self, shared: &mut SharedState, index: u32) {
        let request = &mut self.inbound[index];
        request.is_acked = true;
        match request.phase {
            Phase::Answered => self.remove(shared, index),
            // Its room is released although the caller's direction has not ended.
            _ => {
                let bytes = mem::take(&mut request.answer_bytes);
                let route = &mut self.routes[request.route as usize];
                route.answers.give_back(request.peer, bytes);
                route.is_due = true;
            }
        }
    }
}
