//! How requests arrive: their heads, room for their bodies, and the bodies.

use core::mem;
use core::time::Duration;

use super::{
    AHEAD_MAX, ANSWER_BYTES_KEPT, Callee, HEAD_TIMEOUT, InboundRequest, Phase, Route, Wanted,
};
use crate::error::{AnswerError, Fault};
use crate::id::PeerIndex;
use crate::rpc::parts::{Part, READ_AHEAD, Stream, StreamEvent};
use crate::rpc::transfer::{Receiving, Sending};
use crate::rpc::{CallStream, Output, RequestId, SharedState, StreamOwner, parts};
use crate::time::Time;
use crate::wire::{CallHead, CallRefusal, EAGER_BYTES_MAX, FrameReader, Malformed, Reply};

impl Callee {
    /// A peer has opened a stream.
    pub(in crate::rpc) fn open(
        &mut self,
        shared: &mut SharedState,
        now: Time,
        peer: PeerIndex,
        stream: CallStream,
    ) {
        let deadline = now + HEAD_TIMEOUT;
        let index = self.inbound.insert(InboundRequest {
            id: RequestId(0),
            peer,
            stream,
            route: 0,
            phase: Phase::Head,
            deadline,
            is_capped: false,
            timer: Time::NEVER,
            taken_at: Time::ZERO,
            reader: FrameReader::default(),
            length: 0,
            prepaid: 0,
            wants_answer: true,
            body: None,
            is_read_in_parts: false,
            is_answered_in_parts: false,
            has_ended: false,
            answer: Sending::default(),
            is_acked: false,
            request_bytes: 0,
            answer_bytes: 0,
            room_wanted: None,
        });
        let id = RequestId(shared.next_id(index));
        let request = &mut self.inbound[index];
        request.id = id;
        shared.set_timer(StreamOwner::Request(index), &mut request.timer, deadline);
        let before = shared.link_mut(peer).streams.insert(stream, StreamOwner::Request(index));
        assert!(before.is_none(), "streams are not used twice");
    }

    pub(in crate::rpc) fn wants(&self, index: u32) -> usize {
        let request = &self.inbound[index];
        match request.phase {
            Phase::Head => request.reader.missing().expect("checked when it was taken"),
            Phase::Waiting => 0,
            Phase::Body => request.body.as_ref().expect("it is being read").wants(),
            Phase::Ready | Phase::Taken | Phase::Answering => match &request.body {
                Some(body) if !body.is_complete() => body.wants(),
                // Credit for an answer, or the end of the stream, may follow.
                _ => usize::from(!request.has_ended),
            },
            Phase::Cancelled(_) | Phase::Answered | Phase::Refusing => 0,
        }
    }

    pub(in crate::rpc) fn handle_data(
        &mut self,
        shared: &mut SharedState,
        now: Time,
        index: u32,
        bytes: &[u8],
    ) -> Result<(), Fault> {
        let result = self.take(shared, now, index, bytes);
        result.inspect_err(|_| self.abandon(shared, index, AnswerError::Cancelled))
    }

    fn take(
        &mut self,
        shared: &mut SharedState,
        now: Time,
        index: u32,
        bytes: &[u8],
    ) -> Result<(), Fault> {
        let request = &mut self.inbound[index];
        match request.phase {
            Phase::Head => {
                request.reader.push(bytes)?;
                if request.reader.missing()? > 0 {
                    return Ok(());
                }
                let (kind, body) = request.reader.frame();
                let head = CallHead::decode(kind, body)?;
                self.begin(shared, now, index, &head)
            }
            Phase::Body => {
                let body = request.body.as_mut().expect("it is being read");
                if !body.push(bytes) {
                    return Err(Malformed::Trailing.into());
                }
                if body.is_complete() {
                    self.complete(index);
                }
                Ok(())
            }
            Phase::Waiting | Phase::Cancelled(_) | Phase::Answered | Phase::Refusing => Ok(()),
            Phase::Ready | Phase::Taken | Phase::Answering => match &mut request.body {
                Some(body) if !body.is_complete() => {
                    if !body.push(bytes) {
                        return Err(Malformed::Trailing.into());
                    }
                    if body.wakes_reader() {
                        let event = StreamEvent::Readable(Stream::Request(request.id));
                        shared.stream_events.push_back(event);
                    }
                    Ok(())
                }
                _ => self.take_grant(shared, index, bytes),
            },
        }
    }

    /// Takes bytes behind a request: the caller has room for more of the answer.
    fn take_grant(
        &mut self,
        shared: &mut SharedState,
        index: u32,
        bytes: &[u8],
    ) -> Result<(), Fault> {
        let request = &mut self.inbound[index];
        let is_grant = |bytes: &[u8]| bytes.first().is_none_or(|kind| *kind == Reply::GRANT_KIND);
        if request.reader.is_empty() && !is_grant(bytes) {
            return Err(Malformed::Trailing.into());
        }
        request.reader.push(bytes)?;
        if request.reader.missing()? > 0 {
            return Ok(());
        }
        let (kind, body) = request.reader.frame();
        let Reply::Grant { until } = Reply::decode(kind, body)? else {
            return Err(Fault::ReplyMisplaced);
        };
        request.reader.clear();
        // Each is for more than the last, so that their number is bounded.
        if until <= request.prepaid {
            return Err(Fault::ReplyMisplaced);
        }
        request.prepaid = until;
        if request.phase == Phase::Answering {
            request.answer.allow(until as usize);
            let owner = StreamOwner::Request(index);
            shared.note_due(request.peer, request.route, owner, &mut request.answer);
        }
        Ok(())
    }

    // In parts.

    pub(in crate::rpc) fn id(&self, index: u32) -> RequestId {
        self.inbound[index].id
    }

    pub(in crate::rpc) fn read(
        &mut self,
        shared: &mut SharedState,
        now: Time,
        id: RequestId,
    ) -> Part {
        let Some(index) = self.find(id) else { return Part::End };
        let request = &mut self.inbound[index];
        let Some(body) = &mut request.body else { return Part::End };
        match body.take() {
            Some(part) => {
                self.grant_part(shared, now, index);
                Part::Bytes(part)
            }
            None if body.is_complete() => {
                let bytes = mem::take(&mut request.request_bytes);
                let route = &mut self.routes[request.route as usize];
                route.requests.give_back(request.peer, bytes);
                route.is_due = true;
                Part::End
            }
            None => Part::None,
        }
    }

    /// Grants the caller room for more of a request that is read in parts.
    pub(in crate::rpc) fn grant_part(&mut self, shared: &mut SharedState, now: Time, index: u32) {
        let request = &mut self.inbound[index];
        let is_read = matches!(request.phase, Phase::Ready | Phase::Taken);
        let Some(body) = request.body.as_mut().filter(|_| is_read) else { return };
        if !request.answer.has_frame_room() {
            return;
        }
        let Some(until) = body.grant_more(now) else { return };
        let (peer, stream) = (request.peer, request.stream);
        let grant = Reply::Grant { until: until as u32 };
        request.answer.frame(|frames| grant.encode(frames));
        let owner = StreamOwner::Request(index);
        shared.note_due(peer, request.route, owner, &mut request.answer);
        shared.outputs.push_back(Output::Read { peer, stream });
        let at = request.next_check_at(&shared.routes[request.route as usize]);
        shared.hasten_timer(owner, &mut request.timer, at);
    }

    /// The head has been read.
    fn begin(
        &mut self,
        shared: &mut SharedState,
        now: Time,
        index: u32,
        head: &CallHead,
    ) -> Result<(), Fault> {
        let request = &mut self.inbound[index];
        let Some(at) = shared.route_index(head.route) else {
            self.reply(shared, index, Reply::Refused(CallRefusal::NotServed));
            return Ok(());
        };
        let config = &shared.routes[at as usize];
        if head.length > config.request_bytes_max {
            return Err(Fault::RequestTooLong);
        }
        request.route = at;
        (request.length, request.prepaid) = (head.length, head.prepaid);
        request.wants_answer = head.wants_answer;
        request.is_read_in_parts = config.reads_in_parts && head.wants_answer;
        request.reader.clear();
        let timeout = Duration::from_millis(head.timeout_ms.into());
        request.deadline = now + timeout.min(config.deadline_max);
        request.is_capped = timeout > config.deadline_max;
        request.phase = Phase::Waiting;
        shared.hasten_timer(StreamOwner::Request(index), &mut request.timer, request.deadline);
        if self.routes[at as usize].wanted == Wanted::NoMore {
            self.reply(shared, index, Reply::Refused(CallRefusal::NotServed));
            return Ok(());
        }
        let peer = request.peer;
        self.routes[at as usize].waiting.push(peer, index);
        self.grant(shared, now, at, Some(index));
        Ok(())
    }

    /// Grants requests room, where there may be some.
    pub(in crate::rpc) fn grant_all(&mut self, shared: &mut SharedState, now: Time) {
        for at in 0..self.routes.len() {
            if mem::take(&mut self.routes[at].is_due) {
                self.grant(shared, now, at as u16, None);
            }
        }
    }

    /// Grants requests of a route the room that they wait for, peers taking turns. `present` is
    /// being read at the moment, so it needs no [`Output::Read`].
    fn grant(&mut self, shared: &mut SharedState, now: Time, at: u16, present: Option<u32>) {
        self.grant_answers(at);
        let config = &shared.routes[at as usize];
        let in_flight_max = config.in_flight_max;
        loop {
            let Route { requests, answers, waiting, reserving, by_peer, .. } =
                &mut self.routes[at as usize];
            // What waits for room for its answer is not passed by new requests.
            let inbound = &self.inbound;
            if reserving.is_lacking_room(answers, |index| inbound[index].room_missing()) {
                return;
            }
            let may = |peer: PeerIndex| {
                let peer_route = &by_peer[peer.at()];
                let answer_bytes = peer_route.answer_bytes_max.min(ANSWER_BYTES_KEPT).into();
                peer_route.in_flight < in_flight_max
                    && peer_route.ahead < AHEAD_MAX
                    && reserving.count(peer) == 0
                    && answers.has_room(answer_bytes)
                    && answers.has_share(peer, answer_bytes)
            };
            let room = |index: u32| {
                let request = &inbound[index];
                match request.is_read_in_parts && by_peer[request.peer.at()].knows_grants {
                    true => parts::reading_room(request.length),
                    false => request.length.into(),
                }
            };
            let index = waiting.pop(requests, room, may);
            let Some(index) = index else { return };
            let room = room(index);
            let knows_grants = by_peer[inbound[index].peer.at()].knows_grants;
            let answer_bytes = self.answer_bytes_max(index).min(ANSWER_BYTES_KEPT);
            let Route { requests, answers, .. } = &mut self.routes[at as usize];
            let request = &mut self.inbound[index];
            let (peer, length) = (request.peer, request.length as usize);
            (request.request_bytes, request.answer_bytes) = (room, answer_bytes.into());
            let has_room = requests.take(peer, request.request_bytes);
            assert!(has_room && answers.take(peer, request.answer_bytes), "there was room");
            let granted = match request.is_read_in_parts && knows_grants {
                true => length.min(READ_AHEAD),
                false => length,
            };
            request.body = Some(match request.is_read_in_parts {
                true => Receiving::in_parts(now, length, granted, granted),
                false => Receiving::new(now, length, length),
            });
            self.set_phase(index, Phase::Body);
            let request = &mut self.inbound[index];
            if length > EAGER_BYTES_MAX {
                let reply = match granted == length {
                    true => Reply::Continue,
                    false => Reply::Grant { until: granted as u32 },
                };
                request.answer.frame(|frames| reply.encode(frames));
                shared.note_due(peer, at, StreamOwner::Request(index), &mut request.answer);
            }
            let next_check_at = request.next_check_at(&shared.routes[at as usize]);
            shared.hasten_timer(StreamOwner::Request(index), &mut request.timer, next_check_at);
            if present != Some(index) {
                let stream = request.stream;
                shared.outputs.push_back(Output::Read { peer, stream });
            }
            if length == 0 || self.inbound[index].is_read_in_parts {
                self.complete(index);
            }
        }
    }

    fn complete(&mut self, index: u32) {
        self.set_phase(index, Phase::Ready);
        let request = &mut self.inbound[index];
        self.routes[request.route as usize].ready.push(request.peer, self.arrival, index);
    }

    /// The caller's direction has come to its end: all of the answer may be sent.
    pub(in crate::rpc) fn handle_end(
        &mut self,
        shared: &mut SharedState,
        index: u32,
    ) -> Result<(), Fault> {
        let request = &mut self.inbound[index];
        match request.phase {
            Phase::Head | Phase::Body => {
                self.abandon(shared, index, AnswerError::Cancelled);
                return Err(Malformed::Truncated.into());
            }
            Phase::Ready | Phase::Taken
                if request.body.as_ref().is_some_and(|body| !body.is_complete()) =>
            {
                self.abandon(shared, index, AnswerError::Cancelled);
                return Err(Malformed::Truncated.into());
            }
            // Bytes before the end have not been read, so the end cannot have been seen.
            Phase::Waiting | Phase::Cancelled(_) | Phase::Answered | Phase::Refusing => {}
            Phase::Ready | Phase::Taken => request.has_ended = true,
            Phase::Answering => {
                request.has_ended = true;
                request.answer.allow_all();
                shared.note_due(
                    request.peer,
                    request.route,
                    StreamOwner::Request(index),
                    &mut request.answer,
                );
                self.written(shared, index);
            }
        }
        Ok(())
    }
}
