//! The calls of this node.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use bytes::Bytes;
use core::time::Duration;

use super::ledger::Ledger;
use super::parts::{Part, READ_AHEAD, Stream, StreamEvent};
use super::room_queue::RoomQueue;
use super::shared::{INDEX_BITS, SharedState, StreamOwner};
use super::transfer::{Receiving, Sending};
use super::{Body, CallId, CallStream, Credit, Outcome, Output, Permit};
use crate::arena::Arena;
use crate::config::RouteConfig;
use crate::error::{CallError, Fault};
use crate::id::{PeerIndex, RouteId};
use crate::snapshot::{CallCounts, CallsSnapshot, Histogram};
use crate::time::Time;
use crate::wire::{
    CallHead, CallRefusal, CallReset, EAGER_BYTES_MAX, FrameReader, Malformed, Reply, RouteHello,
};

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

#[derive(Debug)]
struct Call {
    id: CallId,
    peer: PeerIndex,
    route: u16,
    made_at: Time,
    deadline: Time,
    manner: Manner,
    /// The time that its timer is set to.
    timer: Time,
    /// `None` while it waits for credit.
    stream: Option<CallStream>,
    request: Sending,
    /// Bytes of the request that are in the ledger.
    request_bytes: u64,
    /// The request has arrived, and its end.
    is_acked: bool,
    reader: FrameReader,
    answer: Option<Receiving>,
    /// The request is given, and the answer read, in parts.
    is_in_parts: bool,
    /// The reader waits for the answer to begin.
    awaits_answer: bool,
    /// The end of the answer has arrived.
    has_ended: bool,
    /// Bytes of the answer that are in the ledger: all of them, if it is longer than what was prepaid.
    answer_bytes: u64,
}

/// The calls to one peer on one route.
#[derive(Debug, Default)]
struct PeerRoute {
    /// The peer understands credit for a part of an answer.
    knows_grants: bool,
    /// What the peer has room for. `None` if it does not serve the route.
    credit: Option<Credit>,
    /// Calls that wait for credit, in order.
    waiting: VecDeque<u32>,
    /// Calls with a stream, and bytes of their requests.
    open: u16,
    open_bytes: u64,
    /// Bytes of the requests of calls that wait.
    waiting_bytes: u64,
    /// Calls whose outcome has not been taken.
    outstanding: u32,
}

#[derive(Debug)]
struct Route {
    requests: Ledger,
    answers: Ledger,
    /// Calls whose answer waits for room.
    waiting: RoomQueue,
    /// By peer.
    by_peer: Vec<PeerRoute>,
    counts: CallCounts,
    /// Times from a call to its answer.
    latencies: Histogram,
}

#[derive(Debug)]
pub(super) struct Caller {
    calls: Arena<Call>,
    routes: Vec<Route>,
    /// Outcomes that have not been taken. Bounded like the calls, since each call is either in
    /// progress or here.
    outcomes: VecDeque<(Outcome, Permit)>,
    /// Room has come free, so that answers may be granted it.
    has_room: bool,
}

impl Call {
    /// When it has to be checked next if nothing happens before.
    fn next_check_at(&self, config: &RouteConfig) -> Time {
        let overdue_at = self.answer.as_ref().map_or(Time::NEVER, |a| a.overdue_at(config));
        overdue_at.min(self.deadline)
    }
}

impl Manner {
    /// Bytes of an answer that a callee may send at once. There is room for as many for each call.
    fn prepaid(self, config: &RouteConfig) -> u32 {
        match self {
            Self::Try | Self::Wait => config.response_bytes_max.min(EAGER_BYTES_MAX as u32),
            Self::Tell => 0,
        }
    }
}

impl Caller {
    pub(super) fn new(routes: &[RouteConfig]) -> Self {
        let route = |config: &RouteConfig| Route {
            // As many bytes may wait for a peer's credit as may be under way to it.
            requests: Ledger::new(config.body_bytes_max, 2 * config.request_bytes_share()),
            answers: Ledger::new(config.body_bytes_max, config.response_bytes_share()),
            waiting: RoomQueue::new(),
            by_peer: Vec::new(),
            counts: CallCounts::default(),
            latencies: Histogram::default(),
        };
        Self {
            calls: Arena::new(),
            routes: routes.iter().map(route).collect(),
            outcomes: VecDeque::new(),
            has_room: false,
        }
    }

    pub(super) fn add_peer(&mut self, peer: PeerIndex) {
        for route in &mut self.routes {
            route.requests.add_peer(peer);
            route.answers.add_peer(peer);
            if route.by_peer.len() <= peer.at() {
                route.by_peer.resize_with(peer.at() + 1, PeerRoute::default);
            }
        }
    }

    pub(super) fn peer_up(
        &mut self,
        shared: &mut SharedState,
        peer: PeerIndex,
        theirs: &[RouteHello],
    ) {
        for (route, config) in self.routes.iter_mut().zip(&shared.routes) {
            let theirs = theirs.iter().find(|theirs| theirs.id == config.id);
            route.by_peer[peer.at()].knows_grants = theirs.is_some_and(|t| t.knows_grants);
            route.by_peer[peer.at()].credit =
                theirs.filter(|t| t.in_flight_max > 0).map(|theirs| {
                    // A peer's limits cannot raise the bounds of this node.
                    let request_bytes_max = theirs.request_bytes_max.min(config.request_bytes_max);
                    let bytes_max = theirs.in_flight_bytes_max.min(config.request_bytes_share());
                    Credit {
                        in_flight_max: theirs.in_flight_max.min(config.in_flight_max),
                        bytes_max: bytes_max.max(request_bytes_max.into()),
                        request_bytes_max,
                        ..Credit::most(config)
                    }
                });
        }
        self.send_waiting(shared, peer);
    }

    /// The messages that have waited for a connection are sent, those that the peer takes.
    fn send_waiting(&mut self, shared: &mut SharedState, peer: PeerIndex) {
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

    pub(super) fn peer_down(&mut self, shared: &mut SharedState, peer: PeerIndex) {
        let ends = |index: &u32| {
            let call = &self.calls[*index];
            call.peer == peer && (call.manner != Manner::Tell || call.stream.is_some())
        };
        let indices: Vec<u32> = self.calls.indices().filter(ends).collect();
        for index in indices {
            self.complete(shared, index, Err(CallError::Disconnected));
        }
        self.routes.iter_mut().for_each(|route| route.by_peer[peer.at()].credit = None);
    }

    /// The peer is no member any more: nothing waits for a connection to it.
    pub(super) fn remove_peer(&mut self, shared: &mut SharedState, peer: PeerIndex) {
        let of_peer = |index: &u32| self.calls[*index].peer == peer;
        let indices: Vec<u32> = self.calls.indices().filter(of_peer).collect();
        for index in indices {
            self.complete(shared, index, Err(CallError::NotMember));
        }
    }

    fn peer_route(&mut self, peer: PeerIndex, route: u16) -> &mut PeerRoute {
        &mut self.routes[route as usize].by_peer[peer.at()]
    }

    #[allow(clippy::too_many_arguments, reason = "the machine's command")]
    pub(super) fn call(
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

    pub(super) fn cancel(&mut self, shared: &mut SharedState, id: CallId) -> bool {
        let index = (id.0 & ((1 << INDEX_BITS) - 1)) as u32;
        if self.calls.get(index).is_none_or(|call| call.id != id) {
            return false;
        }
        let (peer, route) = (self.calls[index].peer, self.calls[index].route);
        self.close(shared, index);
        self.remove(shared, index);
        self.peer_route(peer, route).outstanding -= 1;
        self.routes[route as usize].counts.cancelled += 1;
        true
    }

    pub(super) fn release(&mut self, permit: Permit) {
        self.routes[permit.route as usize].answers.give_back(permit.peer, permit.bytes);
        self.has_room = true;
    }

    // Opening.

    pub(super) fn credit(&self, peer: PeerIndex, route: u16) -> Option<Credit> {
        self.routes[route as usize].by_peer[peer.at()].credit
    }

    pub(super) fn request_bytes(&self, route: usize) -> u64 {
        self.routes[route].requests.committed()
    }

    /// Whether the first of the calls that wait can be opened.
    pub(super) fn can_open(&self, peer: PeerIndex, route: u16) -> bool {
        let peer_route = &self.routes[route as usize].by_peer[peer.at()];
        let first = peer_route.waiting.front();
        first.zip(peer_route.credit).is_some_and(|(first, credit)| {
            let bytes = peer_route.open_bytes + self.calls[*first].request.body_length();
            credit.admits(peer_route.open.into(), bytes, false)
        })
    }

    /// Takes the first of the calls that wait: its head is ready to be sent.
    pub(super) fn open(
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

    pub(super) fn stream(&self, index: u32) -> Option<CallStream> {
        self.calls[index].stream
    }

    pub(super) fn sending(&mut self, index: u32) -> (u16, &mut Sending) {
        let call = &mut self.calls[index];
        (call.route, &mut call.request)
    }

    /// A piece of the request was handed to the transport.
    pub(super) fn written(
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

    // In parts.

    pub(super) fn id(&self, index: u32) -> CallId {
        self.calls[index].id
    }

    fn find(&self, id: CallId) -> Option<u32> {
        let index = (id.0 & ((1 << INDEX_BITS) - 1)) as u32;
        self.calls.get(index).is_some_and(|call| call.id == id).then_some(index)
    }

    /// The request of a call that is given in parts, and its owner if it has a stream.
    pub(super) fn giving(
        &mut self,
        id: CallId,
    ) -> Option<(Option<StreamOwner>, PeerIndex, u16, &mut Sending)> {
        let index = self.find(id).filter(|index| self.calls[*index].is_in_parts)?;
        let call = &mut self.calls[index];
        let owner = call.stream.map(|_| StreamOwner::Call(index));
        Some((owner, call.peer, call.route, &mut call.request))
    }

    pub(super) fn read(&mut self, shared: &mut SharedState, now: Time, id: CallId) -> Part {
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

    /// Grants the callee room for more of an answer that is read in parts.
    fn grant_part(&mut self, shared: &mut SharedState, now: Time, index: u32) {
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

    /// The request has arrived.
    pub(super) fn acked(&mut self, index: u32) {
        let call = &mut self.calls[index];
        call.is_acked = true;
        let bytes = core::mem::take(&mut call.request_bytes);
        self.routes[call.route as usize].requests.give_back(call.peer, bytes);
    }

    /// The callee does not want the rest of the request. Its reply gives the reason.
    pub(super) fn stopped(&mut self, shared: &mut SharedState, index: u32) {
        let call = &mut self.calls[index];
        shared.unqueue(call.peer, call.route, StreamOwner::Call(index), &call.request);
        call.request.abandon();
        let bytes = core::mem::take(&mut call.request_bytes);
        self.routes[call.route as usize].requests.give_back(call.peer, bytes);
    }

    // The answer.

    pub(super) fn wants(&self, index: u32) -> usize {
        let call = &self.calls[index];
        match &call.answer {
            Some(answer) => answer.wants(),
            None => call.reader.missing().expect("checked when it was taken"),
        }
    }

    pub(super) fn handle_data(
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
    pub(super) fn grant_all(&mut self, shared: &mut SharedState, now: Time) {
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

    pub(super) fn handle_end(
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
    pub(super) fn handle_reset(
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

    /// Ends a call without an answer, from this side.
    pub(super) fn give_up(&mut self, shared: &mut SharedState, index: u32, error: CallError) {
        self.close(shared, index);
        self.complete(shared, index, Err(error));
    }

    pub(super) fn expire(&mut self, shared: &mut SharedState, now: Time, index: u32) {
        let call = &mut self.calls[index];
        let at = call.next_check_at(&shared.routes[call.route as usize]);
        if call.deadline <= now {
            self.give_up(shared, index, CallError::DeadlinePassed);
        } else if at <= now {
            self.give_up(shared, index, CallError::TooSlow);
        } else {
            shared.set_timer(StreamOwner::Call(index), &mut call.timer, at);
        }
    }

    fn close(&mut self, shared: &mut SharedState, index: u32) {
        let call = &self.calls[index];
        if let Some(stream) = call.stream {
            let (peer, why) = (call.peer, CallReset::Unneeded);
            shared.outputs.push_back(Output::Close { peer, stream, why });
        }
    }

    fn complete(&mut self, shared: &mut SharedState, index: u32, result: Result<Bytes, CallError>) {
        let call = &mut self.calls[index];
        let (id, peer, route) = (call.id, call.peer, call.route);
        let counts = &mut self.routes[route as usize].counts;
        match &result {
            Ok(_) => counts.answered += 1,
            Err(error) => counts.note_error(error),
        }
        // The permit takes over the answer's room in the budget. What is read in parts has left it.
        let bytes = match &result {
            Ok(_) if call.is_in_parts => 0,
            Ok(_) => core::mem::take(&mut call.answer_bytes),
            Err(_) => 0,
        };
        self.remove(shared, index);
        let permit = Permit { route, peer, bytes, of_answer: true };
        self.outcomes.push_back((Outcome { call: id, result }, permit));
    }

    /// Removes a call and releases its room in the budgets.
    fn remove(&mut self, shared: &mut SharedState, index: u32) {
        let call = self.calls.remove(index);
        let (peer, owner) = (call.peer, StreamOwner::Call(index));
        shared.timers.remove(&(call.timer, owner));
        shared.unqueue(peer, call.route, owner, &call.request);
        let route = &mut self.routes[call.route as usize];
        let Route { requests, answers, waiting, by_peer, .. } = route;
        requests.give_back(peer, call.request_bytes);
        answers.give_back(peer, call.answer_bytes);
        waiting.remove(peer, index);
        let peer_route = &mut by_peer[peer.at()];
        match call.stream {
            Some(stream) => {
                shared.link_mut(peer).streams.remove(&stream);
                peer_route.open -= 1;
                peer_route.open_bytes -= call.request.body_length();
            }
            None => {
                peer_route.waiting.retain(|other| *other != index);
                peer_route.waiting_bytes -= call.request.body_length();
            }
        }
        // The next may have credit now, and be shorter than the one that was first.
        if !peer_route.waiting.is_empty() && shared.is_up(peer) {
            shared.ready.mark(peer, call.route.into());
        }
        self.has_room = true;
    }

    pub(super) fn poll_outcome(&mut self) -> Option<(Outcome, Permit)> {
        let (outcome, permit) = self.outcomes.pop_front()?;
        self.peer_route(permit.peer, permit.route).outstanding -= 1;
        Some((outcome, permit))
    }

    // Getters.

    /// The calls on a route. A walk over its peers.
    pub(super) fn snapshot(&self, route: usize) -> CallsSnapshot {
        let route = &self.routes[route];
        let peers = || route.by_peer.iter();
        let credit = peers().filter_map(|peer| peer.credit);
        CallsSnapshot {
            counts: route.counts,
            latencies: route.latencies,
            in_flight: peers().map(|peer| u32::from(peer.open)).sum(),
            credit: credit.map(|credit| u32::from(credit.in_flight_max)).sum(),
            waiting: peers().map(|peer| peer.waiting.len() as u32).sum(),
            request_bytes: route.requests.committed(),
            answer_bytes: route.answers.committed(),
        }
    }

    pub(super) fn has_outcomes(&self) -> bool {
        !self.outcomes.is_empty()
    }

    pub(super) fn awaits_budget(&self) -> bool {
        self.routes.iter().any(|route| route.waiting.len() > 0)
    }

    pub(super) fn len(&self) -> usize {
        self.calls.len()
    }

    pub(super) fn body_bytes(&self) -> u64 {
        self.routes.iter().map(|route| route.requests.committed() + route.answers.committed()).sum()
    }

    pub(super) fn assert_invariants(&self, shared: &SharedState) {
        for (at, route) in self.routes.iter().enumerate() {
            route.requests.assert_invariants();
            route.answers.assert_invariants();
            for (peer, peer_route) in route.by_peer.iter().enumerate() {
                let of_peer_route =
                    |call: &&Call| (call.route as usize, call.peer.at()) == (at, peer);
                let calls =
                    || self.calls.indices().map(|index| &self.calls[index]).filter(of_peer_route);
                let open = calls().filter(|call| call.stream.is_some()).count();
                assert_eq!(
                    (open, calls().count()),
                    (peer_route.open.into(), open + peer_route.waiting.len())
                );
                let bytes = |is_open: bool| {
                    let calls = calls().filter(|call| call.stream.is_some() == is_open);
                    calls.map(|call| call.request.body_length()).sum::<u64>()
                };
                assert_eq!(
                    (bytes(true), bytes(false)),
                    (peer_route.open_bytes, peer_route.waiting_bytes)
                );
                assert!(peer_route.credit.is_none_or(|credit| {
                    peer_route.open <= credit.in_flight_max
                        && peer_route.open_bytes <= credit.bytes_max
                }));
                let mut waiting_for_peer = calls().filter(|_| peer_route.credit.is_none());
                assert!(waiting_for_peer.all(|call| call.manner == Manner::Tell));
                assert!(calls().count() <= peer_route.outstanding as usize);
            }
        }
        for index in self.calls.indices() {
            let call = &self.calls[index];
            assert!(shared.timers.contains(&(call.timer, StreamOwner::Call(index))));
            if let Some(stream) = call.stream {
                let streams = &shared.link(call.peer).expect("a member").streams;
                assert_eq!(streams.get(&stream), Some(&StreamOwner::Call(index)));
            }
        }
    }
}
