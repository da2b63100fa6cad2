//! The arrival of answers.

use alloc::vec::Vec;
use bytes::Bytes;
use core::time::Duration;

use super::{Call, Caller, Manner, Route};
use crate::error::{CallError, Fault};
use crate::rpc::parts::{Part, READ_AHEAD, Stream, StreamEvent};
use crate::rpc::transfer::Receiving;
use crate::rpc::{CallId, Output, SharedState, StreamOwner};
use crate::time::Time;
use crate::wire::{CallRefusal, CallReset, Malformed, Reply};

impl Caller {
    pub(in crate::rpc) fn wants(&self, index: u32) -> usize {
        let call = &self.calls[index];
        match &call.answer {
            Some(answer) => answer.wants(),
            None => call.reader.missing().expect("checked when it was taken"),
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
        result.inspect_err(|_| self.complete(shared, index, Err(CallError::Fault)))
    }

    fn take(
        &mut self,
        shared: &mut SharedState,
        now: Time,
        index: u32,
        bytes: &[u8],
    ) -> Result<(), Fault> {
        let call = &mut self.calls[index];
        if let Some(answer) = &mut call.answer {
            if !answer.push(bytes) {
                return Err(Malformed::Trailing.into());
            }
            if answer.wakes_reader() {
                shared.stream_events.push_back(StreamEvent::Readable(Stream::Call(call.id)));
            }
            return Ok(());
        }
        call.reader.push(bytes)?;
        if call.reader.missing()? > 0 {
            return Ok(());
        }
        let (kind, body) = call.reader.frame();
        let reply = Reply::decode(kind, body)?;
        call.reader.clear();
        let error = match reply {
            Reply::Continue => {
                if !call.request.is_waiting() {
                    return Err(Fault::ReplyMisplaced);
                }
                call.request.allow_all();
                shared.note_due(call.peer, call.route, StreamOwner::Call(index), &mut call.request);
                return Ok(());
            }
            Reply::Grant { until } => {
                if !call.request.allow_more(until as usize) {
                    return Err(Fault::ReplyMisplaced);
                }
                shared.note_due(call.peer, call.route, StreamOwner::Call(index), &mut call.request);
                return Ok(());
            }
            Reply::Answer { length } => return self.begin_answer(shared, now, index, length),
            Reply::Busy { retry_after_ms } => {
                CallError::Busy { retry_after: Duration::from_millis(retry_after_ms.into()) }
            }
            Reply::Refused(CallRefusal::NotServed) => CallError::NotServed,
            Reply::Refused(_) => CallError::Dropped,
        };
        self.give_up(shared, index, error);
        Ok(())
    }

    fn begin_answer(
        &mut self,
        shared: &mut SharedState,
        now: Time,
        index: u32,
        length: u32,
    ) -> Result<(), Fault> {
        let call = &mut self.calls[index];
        let (peer, route) = (call.peer, call.route as usize);
        if !call.request.is_sent() {
            return Err(Fault::ReplyMisplaced);
        }
        if length > shared.routes[route].response_bytes_max {
            return Err(Fault::AnswerTooLong);
        }
        if call.manner == Manner::Tell && length > 0 {
            // An older node answers; nobody wants to know.
            self.close(shared, index);
            self.complete(shared, index, Ok(Bytes::new()));
            return Ok(());
        }
        let prepaid = call.manner.prepaid(&shared.routes[route]);
        let knows_grants = self.routes[route].by_peer[peer.at()].knows_grants;
        let ahead_max = if knows_grants { READ_AHEAD } else { length as usize };
        let (bytes, granted) = (length as usize, prepaid as usize);
        let mut answer = match call.is_in_parts {
            true => Receiving::in_parts(now, bytes, granted, ahead_max),
            false => Receiving::new(now, bytes, granted),
        };
        if call.awaits_answer {
            answer.await_more();
        }
        call.answer = Some(answer);
        let at = call.next_check_at(&shared.routes[route]);
        shared.hasten_timer(StreamOwner::Call(index), &mut call.timer, at);
        if length > prepaid {
            self.routes[route].waiting.push(peer, index);
            self.has_room = true;
        }
        Ok(())
    }

    /// Grants answers the room that they wait for, peers taking turns.
    pub(in crate::rpc) fn grant_all(&mut self, shared: &mut SharedState, now: Time) {
        if !core::mem::take(&mut self.has_room) {
            return;
        }
        let mut in_parts = Vec::new();
        for route in &mut self.routes {
            let Route { answers, waiting, .. } = route;
            let calls = &mut self.calls;
            let room = |call: &Call| call.answer.as_ref().expect("it has begun").room();
            while let Some(index) = waiting.pop(answers, |index| room(&calls[index]), |_| true) {
                let call = &mut calls[index];
                call.answer_bytes = room(call);
                assert!(answers.take(call.peer, call.answer_bytes), "there was room");
                let answer = call.answer.as_mut().expect("it has begun");
                if answer.is_in_parts() {
                    in_parts.push(index);
                    continue;
                }
                answer.grant_all(now);
                call.request.end();
                shared.note_due(call.peer, call.route, StreamOwner::Call(index), &mut call.request);
                let stream = call.stream.expect("it has been answered");
                shared.outputs.push_back(Output::Read { peer: call.peer, stream });
                let at = call.next_check_at(&shared.routes[call.route as usize]);
                shared.hasten_timer(StreamOwner::Call(index), &mut call.timer, at);
            }
        }
        for index in in_parts {
            self.grant_part(shared, now, index);
        }
    }

    /// Grants the callee room for more of an answer that is read in parts.
    pub(super) fn grant_part(&mut self, shared: &mut SharedState, now: Time, index: u32) {
        let call = &mut self.calls[index];
        let Some(answer) = &mut call.answer else { return };
        if call.answer_bytes == 0 || !call.request.has_frame_room() {
            return;
        }
        let Some(until) = answer.grant_more(now) else { return };
        if until == answer.length() {
            call.request.end();
        } else {
            call.request.frame(|frames| Reply::Grant { until: until as u32 }.encode(frames));
        }
        shared.note_due(call.peer, call.route, StreamOwner::Call(index), &mut call.request);
        let (peer, stream) = (call.peer, call.stream.expect("it has been answered"));
        shared.outputs.push_back(Output::Read { peer, stream });
        let at = call.next_check_at(&shared.routes[call.route as usize]);
        shared.hasten_timer(StreamOwner::Call(index), &mut call.timer, at);
    }

    pub(in crate::rpc) fn read(&mut self, shared: &mut SharedState, now: Time, id: CallId) -> Part {
        let Some(index) = self.find(id) else { return Part::End };
        let call = &mut self.calls[index];
        let Some(answer) = &mut call.answer else {
            call.awaits_answer = call.is_in_parts;
            return if call.is_in_parts { Part::None } else { Part::End };
        };
        if !answer.is_in_parts() {
            return Part::End;
        }
        match answer.take() {
            Some(part) => {
                self.grant_part(shared, now, index);
                Part::Bytes(part)
            }
            None if call.has_ended => {
                self.complete(shared, index, Ok(Bytes::new()));
                Part::End
            }
            None => Part::None,
        }
    }

    pub(in crate::rpc) fn handle_end(
        &mut self,
        shared: &mut SharedState,
        now: Time,
        index: u32,
    ) -> Result<(), Fault> {
        let call = &mut self.calls[index];
        if !call.answer.as_ref().is_some_and(Receiving::is_complete) {
            self.complete(shared, index, Err(CallError::Fault));
            return Err(Malformed::Truncated.into());
        }
        let latencies = &mut self.routes[call.route as usize].latencies;
        latencies.note(now.since(call.made_at));
        if !call.is_acked {
            // The callee does not need the end of the request, and the transport can drop what it keeps
            // of it.
            shared.unqueue(call.peer, call.route, StreamOwner::Call(index), &call.request);
            call.request.abandon();
            call.request.is_queued = false;
            self.close(shared, index);
        }
        let call = &mut self.calls[index];
        if call.is_in_parts {
            // It is over when it has been read.
            call.has_ended = true;
            if call.answer.as_mut().is_some_and(Receiving::wakes_reader) {
                shared.stream_events.push_back(StreamEvent::Readable(Stream::Call(call.id)));
            }
        } else {
            let answer = call.answer.take().expect("it is complete");
            self.complete(shared, index, Ok(answer.into_body()));
        }
        Ok(())
    }

    /// The callee has reset its direction. The deadline may have passed, which the callee may notice
    /// first.
    pub(in crate::rpc) fn handle_reset(
        &mut self,
        shared: &mut SharedState,
        now: Time,
        index: u32,
        why: CallReset,
    ) {
        let error = match why {
            _ if self.calls[index].deadline <= now => CallError::DeadlinePassed,
            CallReset::DeadlineMax => CallError::DeadlineMaxPassed,
            CallReset::TooSlow => CallError::TooSlow,
            CallReset::Unneeded => CallError::Dropped,
        };
        self.give_up(shared, index, error);
    }
}
