//! The requests that peers have asked this node.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use bytes::Bytes;
use core::mem;
use core::time::Duration;

use super::arrivals::{Arrivals, Arrived};
use super::ledger::Ledger;
use super::parts::{self, Part, READ_AHEAD, Stream, StreamEvent};
use super::room_queue::RoomQueue;
use super::transfer::{Receiving, Sending};
use super::{
    Body, CallStream, Cancelled, INDEX_BITS, Output, Permit, Refusal, Request, RequestId,
    SharedState, StreamOwner,
};
use crate::arena::Arena;
use crate::config::RouteConfig;
use crate::error::{AnswerError, Fault};
use crate::id::{Arrival, PeerIndex, RouteId};
use crate::snapshot::{Histogram, RequestCounts, RequestsSnapshot};
use crate::time::Time;
use crate::wire::{
    CallHead, CallRefusal, CallReset, EAGER_BYTES_MAX, FrameReader, Malformed, Reply, RouteHello,
};

/// A request whose head has not been received after this time is closed. The first packet of a call
/// contains the whole head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// The number of requests of one peer and route that are read before the application takes them:
/// enough that it does not wait for the network between two requests.
const AHEAD_MAX: u16 = 16;

/// Bytes of an answer for which room is kept from when its request is taken up, so that the application
/// need not wait for it. A longer answer takes the rest when it is given. 64 of these are what one peer
/// may take of the default budget.
pub const ANSWER_BYTES_KEPT: u32 = 256 << 10;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// The head has not been read.
    Head,
    /// The head has been read. The rest stays in the stream until there is room.
    Waiting,
    /// The body is being read.
    Body,
    /// It is complete, and the application has not taken it.
    Ready,
    /// The application has it.
    Taken,
    /// The application has it, and it needs no answer any more, for this reason.
    Cancelled(AnswerError),
    /// The answer is being sent.
    Answering,
    /// The transport has the whole answer, and the caller has not acknowledged all of it.
    Answered,
    /// A refusal is being sent.
    Refusing,
}

#[derive(Debug)]
struct InboundRequest {
    id: RequestId,
    peer: PeerIndex,
    stream: CallStream,
    route: u16,
    phase: Phase,
    deadline: Time,
    /// The deadline is this node's `deadline_max`, and before the caller's.
    is_capped: bool,
    /// The time that its timer is set to.
    timer: Time,
    /// When the application has taken it.
    taken_at: Time,
    reader: FrameReader,
    /// Bytes in the request, and of the answer that may be sent at once.
    length: u32,
    prepaid: u32,
    wants_answer: bool,
    body: Option<Receiving>,
    /// Its body is read, or its answer given, in parts.
    is_read_in_parts: bool,
    is_answered_in_parts: bool,
    /// The caller's direction has ended.
    has_ended: bool,
    answer: Sending,
    /// The answer has arrived, and its end.
    is_acked: bool,
    /// Bytes in the ledgers.
    request_bytes: u64,
    answer_bytes: u64,
    /// Bytes of an answer for which the application waits for room; it is in `reserving`.
    room_wanted: Option<u64>,
}

impl InboundRequest {
    /// When it has to be checked next if nothing happens before.
    fn next_check_at(&self, config: &RouteConfig) -> Time {
        let overdue_at = self.body.as_ref().map_or(Time::NEVER, |body| body.overdue_at(config));
        overdue_at.min(self.deadline)
    }

    /// Bytes of the answer that waits for room that it has no room for.
    fn room_missing(&self) -> u64 {
        self.room_wanted.expect("it waits for room").saturating_sub(self.answer_bytes)
    }

    /// Whether it counts as in flight.
    fn is_in_flight(&self) -> bool {
        !matches!(self.phase, Phase::Head | Phase::Waiting | Phase::Answered | Phase::Refusing)
    }

    /// Whether it is read ahead of the application.
    fn is_ahead(&self) -> bool {
        matches!(self.phase, Phase::Body | Phase::Ready)
    }
}

/// The requests of one peer on one route.
#[derive(Clone, Copy, Debug, Default)]
struct PeerRoute {
    in_flight: u16,
    ahead: u16,
    answer_bytes_max: u32,
    /// The peer understands credit for a part of a request.
    knows_grants: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wanted {
    NotYet,
    Yes,
    NoMore,
}

#[derive(Debug)]
struct Route {
    requests: Ledger,
    answers: Ledger,
    wanted: Wanted,
    /// Requests that wait, unread.
    waiting: RoomQueue,
    /// Requests that the application has, and that wait for room for their answers.
    reserving: RoomQueue,
    /// Requests for the application.
    ready: Arrivals<u32>,
    /// By peer.
    by_peer: Vec<PeerRoute>,
    /// Something has changed, so that waiting requests may now be granted room.
    is_due: bool,
    counts: RequestCounts,
    /// Times from when a request was taken until it was answered.
    latencies: Histogram,
}

#[derive(Debug)]
pub(super) struct Callee {
    inbound: Arena<InboundRequest>,
    routes: Vec<Route>,
    /// Cancelled requests that the application has and has not been told of. Bounded by the
    /// requests that it has.
    cancelled: VecDeque<Cancelled>,
    /// Requests that the application has, and that have got room for their answers. Each once.
    reserved: VecDeque<RequestId>,
    /// The present input.
    pub(super) arrival: Arrival,
}

impl Callee {
    pub(super) fn new(routes: &[RouteConfig]) -> Self {
        let route = |config: &RouteConfig| Route {
            requests: Ledger::new(config.body_bytes_max, config.request_bytes_share()),
            answers: Ledger::new(config.body_bytes_max, config.response_bytes_share()),
            wanted: if config.serves { Wanted::NotYet } else { Wanted::NoMore },
            waiting: RoomQueue::new(),
            reserving: RoomQueue::new(),
            ready: Arrivals::new(),
            by_peer: Vec::new(),
            is_due: false,
            counts: RequestCounts::default(),
            latencies: Histogram::default(),
        };
        Self {
            inbound: Arena::new(),
            routes: routes.iter().map(route).collect(),
            arrival: Arrival::default(),
            cancelled: VecDeque::new(),
            reserved: VecDeque::new(),
        }
    }

    pub(super) fn add_peer(&mut self, peer: PeerIndex) {
        for route in &mut self.routes {
            route.requests.add_peer(peer);
            route.answers.add_peer(peer);
            if route.by_peer.len() <= peer.at() {
                route.by_peer.resize(peer.at() + 1, PeerRoute::default());
            }
        }
    }

    pub(super) fn peer_up(
        &mut self,
        configs: &[RouteConfig],
        peer: PeerIndex,
        theirs: &[RouteHello],
    ) {
        for (route, config) in self.routes.iter_mut().zip(configs) {
            let theirs = theirs.iter().find(|theirs| theirs.id == config.id);
            let peer_route = &mut route.by_peer[peer.at()];
            peer_route.knows_grants = theirs.is_some_and(|theirs| theirs.knows_grants);
            let theirs = theirs.map_or(u32::MAX, |theirs| theirs.response_bytes_max);
            peer_route.answer_bytes_max = theirs.min(config.response_bytes_max);
        }
    }

    pub(super) fn peer_down(&mut self, shared: &mut SharedState, peer: PeerIndex) {
        let of_peer = |index: &u32| self.inbound[*index].peer == peer;
        let indices: Vec<u32> = self.inbound.indices().filter(of_peer).collect();
        for index in indices {
            self.abandon(shared, index, AnswerError::Cancelled);
        }
    }

    /// Requests of a former member that the application still has do not count against the member
    /// that gets its index.
    pub(super) fn remove_peer(&mut self, shared: &mut SharedState, peer: PeerIndex) {
        let of_peer = |index: &u32| self.inbound[*index].peer == peer;
        let indices: Vec<u32> = self.inbound.indices().filter(of_peer).collect();
        for index in indices {
            let id = self.inbound[index].id;
            let untold = self.cancelled.iter().find(|cancelled| cancelled.request == id).copied();
            self.remove(shared, index);
            // The application is still told of the cancellation.
            self.cancelled.extend(untold);
        }
    }

    /// Bytes that the answer to a request may have.
    fn answer_bytes_max(&self, index: u32) -> u32 {
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
    fn stop_reserving(&mut self, index: u32) {
        let request = &mut self.inbound[index];
        if request.room_wanted.take().is_some() {
            self.routes[request.route as usize].reserving.remove(request.peer, index);
        }
        let id = request.id;
        self.reserved.retain(|other| *other != id);
    }

    fn find(&self, id: RequestId) -> Option<u32> {
        let index = (id.0 & ((1 << INDEX_BITS) - 1)) as u32;
        self.inbound.get(index).is_some_and(|request| request.id == id).then_some(index)
    }

    // The application.

    pub(super) fn serve(
        &mut self,
        shared: &mut SharedState,
        route: RouteId,
        is_wanted: bool,
    ) -> bool {
        let Some(at) = shared.route_index(route) else { return false };
        if !shared.routes[at as usize].serves {
            return false;
        }
        let route = &mut self.routes[at as usize];
        route.wanted = if is_wanted { Wanted::Yes } else { Wanted::NoMore };
        if !is_wanted {
            while let Some(index) = self.routes[at as usize].waiting.pop_any() {
                self.reply(shared, index, Reply::Refused(CallRefusal::NotServed));
            }
            while let Some(index) = self.routes[at as usize].ready.pop_first() {
                let index = index.item;
                self.reply(shared, index, Reply::Refused(CallRefusal::NotServed));
            }
            let is_coming = |index: &u32| {
                let request = &self.inbound[*index];
                (request.route, request.phase) == (at, Phase::Body)
            };
            let coming: Vec<u32> = self.inbound.indices().filter(is_coming).collect();
            for index in coming {
                self.reply(shared, index, Reply::Refused(CallRefusal::NotServed));
            }
        }
        true
    }

    pub(super) fn poll_request(
        &mut self,
        shared: &mut SharedState,
        now: Time,
        route: RouteId,
        suits: impl FnMut(PeerIndex) -> bool,
    ) -> Option<(Arrival, Request, Permit)> {
        let at = shared.route_index(route)?;
        let taken = self.routes[at as usize].ready.pop(suits)?;
        Some(self.hand_out(shared, now, at, taken))
    }

    /// The same for the route with so many before it, for the request that came first.
    pub(super) fn poll_first_request(
        &mut self,
        shared: &mut SharedState,
        now: Time,
        at: u16,
    ) -> Option<(Arrival, Request, Permit)> {
        let taken = self.routes[at as usize].ready.pop_first()?;
        Some(self.hand_out(shared, now, at, taken))
    }

    /// The request that came first on the routes whose requests are wanted: when, and the route's index.
    pub(super) fn next_arrival(&self) -> Option<(Arrival, u16)> {
        let wanted = self.routes.iter().zip(0..).filter(|(route, _)| route.wanted == Wanted::Yes);
        wanted.filter_map(|(route, at)| Some((route.ready.first_arrival()?, at))).min()
    }

    /// The application takes a request.
    fn hand_out(
        &mut self,
        shared: &mut SharedState,
        now: Time,
        at: u16,
        Arrived { arrival, item: index, .. }: Arrived<u32>,
    ) -> (Arrival, Request, Permit) {
        self.set_phase(index, Phase::Taken);
        let route = &mut self.routes[at as usize];
        route.is_due = true;
        route.counts.taken += 1;
        let answer_bytes_max = self.answer_bytes_max(index);
        let request = &mut self.inbound[index];
        request.taken_at = now;
        let wants_answer = request.wants_answer;
        let in_parts = request.is_read_in_parts.then_some(request.length);
        // What is read in parts keeps its room until it has been read.
        let (body, bytes) = match in_parts {
            Some(_) => (Bytes::new(), 0),
            None => {
                let body = request.body.take().expect("it is complete");
                (body.into_body(), mem::take(&mut request.request_bytes))
            }
        };
        let permit = Permit { route: at, peer: request.peer, bytes, of_answer: false };
        let request = Request {
            id: request.id,
            from: request.peer,
            body,
            in_parts,
            deadline: request.deadline,
            answer_bytes_max,
            wants_answer,
        };
        if !wants_answer {
            self.inbound[index].answer.frame(|frames| Reply::Answer { length: 0 }.encode(frames));
            self.begin_reply(shared, index, Phase::Answering);
        }
        (arrival, request, permit)
    }

    pub(super) fn release(&mut self, permit: Permit) {
        let route = &mut self.routes[permit.route as usize];
        route.requests.give_back(permit.peer, permit.bytes);
        route.is_due = true;
    }

    pub(super) fn poll_cancelled(&mut self) -> Option<Cancelled> {
        self.cancelled.pop_front()
    }

    pub(super) fn poll_reserved(&mut self) -> Option<RequestId> {
        self.reserved.pop_front()
    }

    /// Takes room for an answer of so many bytes, or waits for it: see [`Rpc::reserve`](super::Rpc::reserve).
    pub(super) fn reserve(&mut self, id: RequestId, bytes: u32) -> Result<(), AnswerError> {
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
    fn grant_answers(&mut self, at: u16) {
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

    pub(super) fn answer(
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

    pub(super) fn refuse(
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
    fn reply(&mut self, shared: &mut SharedState, index: u32, reply: Reply) {
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

    fn begin_reply(&mut self, shared: &mut SharedState, index: u32, phase: Phase) {
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

    // Receiving.

    /// A peer has opened a stream.
    pub(super) fn open(
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

    pub(super) fn wants(&self, index: u32) -> usize {
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

    pub(super) fn handle_data(
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

    pub(super) fn id(&self, index: u32) -> RequestId {
        self.inbound[index].id
    }

    /// An answer that is given in parts, and its owner.
    pub(super) fn giving(
        &mut self,
        id: RequestId,
    ) -> Option<(Option<StreamOwner>, PeerIndex, u16, &mut Sending)> {
        let index = self.find(id)?;
        let request = &mut self.inbound[index];
        let is_given = request.is_answered_in_parts && request.phase == Phase::Answering;
        let owner = Some(StreamOwner::Request(index));
        is_given.then_some((owner, request.peer, request.route, &mut request.answer))
    }

    pub(super) fn break_off(&mut self, shared: &mut SharedState, id: RequestId) -> bool {
        let Some(index) = self.find(id).filter(|index| {
            let request = &self.inbound[*index];
            request.is_answered_in_parts && request.phase == Phase::Answering
        }) else {
            return false;
        };
        self.cancelled(shared, index);
        true
    }

    pub(super) fn read(&mut self, shared: &mut SharedState, now: Time, id: RequestId) -> Part {
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
    pub(super) fn grant_part(&mut self, shared: &mut SharedState, now: Time, index: u32) {
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
    pub(super) fn grant_all(&mut self, shared: &mut SharedState, now: Time) {
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
    pub(super) fn handle_end(&mut self, shared: &mut SharedState, index: u32) -> Result<(), Fault> {
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

    /// The caller has ended the call. It does so when it has the whole answer, too.
    pub(super) fn ended_by_caller(&mut self, shared: &mut SharedState, index: u32) {
        let request = &mut self.inbound[index];
        request.is_acked |= request.answer.has_ended();
        self.cancelled(shared, index);
    }

    /// The caller does not wait for the answer any more.
    pub(super) fn cancelled(&mut self, shared: &mut SharedState, index: u32) {
        self.close(shared, index, CallReset::Unneeded, AnswerError::Cancelled);
    }

    /// Ends a request without an answer or a refusal, and says why to the caller and to the application.
    fn close(&mut self, shared: &mut SharedState, index: u32, reset: CallReset, why: AnswerError) {
        let InboundRequest { peer, stream, .. } = self.inbound[index];
        shared.outputs.push_back(Output::Close { peer, stream, why: reset });
        self.abandon(shared, index, why);
    }

    pub(super) fn expire(&mut self, shared: &mut SharedState, now: Time, index: u32) {
        let request = &mut self.inbound[index];
        let at = request.next_check_at(&shared.routes[request.route as usize]);
        if at > now {
            shared.set_timer(StreamOwner::Request(index), &mut request.timer, at);
        } else if request.deadline > now {
            self.close(shared, index, CallReset::TooSlow, AnswerError::Cancelled);
        } else if request.is_capped {
            self.close(shared, index, CallReset::DeadlineMax, AnswerError::DeadlineMaxPassed);
        } else {
            self.cancelled(shared, index);
        }
    }

    // Answering.

    pub(super) fn stream(&self, index: u32) -> CallStream {
        self.inbound[index].stream
    }

    pub(super) fn sending(&mut self, index: u32) -> (u16, &mut Sending) {
        let request = &mut self.inbound[index];
        (request.route, &mut request.answer)
    }

    /// A piece of the answer was handed to the transport. Once the transport has all of it and the
    /// caller's direction has ended, the request only waits for the acknowledgement.
    pub(super) fn written(&mut self, shared: &mut SharedState, index: u32) {
        let request = &self.inbound[index];
        if request.answer.has_ended() && request.has_ended {
            match request.phase {
                Phase::Answering if !request.is_acked => self.set_phase(index, Phase::Answered),
                _ => self.remove(shared, index),
            }
        }
    }

    /// The answer has arrived.
    pub(super) fn acked(&mut self, shared: &mut SharedState, index: u32) {
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

    // The end.

    fn set_phase(&mut self, index: u32, phase: Phase) {
        let request = &mut self.inbound[index];
        let peer_route = &mut self.routes[request.route as usize].by_peer[request.peer.at()];
        peer_route.in_flight -= u16::from(request.is_in_flight());
        peer_route.ahead -= u16::from(request.is_ahead());
        request.phase = phase;
        peer_route.in_flight += u16::from(request.is_in_flight());
        peer_route.ahead += u16::from(request.is_ahead());
    }

    /// The stream is not needed any more. A request that the application has stays in flight until
    /// the application ends it. A peer that calls and cancels therefore cannot make the application
    /// work on more requests at a time.
    fn abandon(&mut self, shared: &mut SharedState, index: u32, why: AnswerError) {
        match self.inbound[index].phase {
            Phase::Taken => {}
            // It was cancelled before, on this or an earlier connection to the peer.
            Phase::Cancelled(_) => return,
            _ => return self.remove(shared, index),
        }
        self.routes[self.inbound[index].route as usize].counts.cancelled += 1;
        self.set_phase(index, Phase::Cancelled(why));
        let request = &mut self.inbound[index];
        self.cancelled.push_back(Cancelled { request: request.id, why });
        // The caller may cancel before `Continue` was sent, which is then still queued.
        shared.unqueue(request.peer, request.route, StreamOwner::Request(index), &request.answer);
        request.answer.is_queued = false;
        shared.set_timer(StreamOwner::Request(index), &mut request.timer, Time::NEVER);
        shared.link_mut(request.peer).streams.remove(&request.stream);
        request.body = None;
        let bytes = mem::take(&mut request.request_bytes);
        self.routes[request.route as usize].requests.give_back(request.peer, bytes);
        // There will be no answer.
        self.stop_reserving(index);
        let request = &mut self.inbound[index];
        let bytes = mem::take(&mut request.answer_bytes);
        let route = &mut self.routes[request.route as usize];
        route.answers.give_back(request.peer, bytes);
        route.is_due = true;
    }

    /// Removes a request and releases its room in the budgets.
    fn remove(&mut self, shared: &mut SharedState, index: u32) {
        let was_cancelled = matches!(self.inbound[index].phase, Phase::Cancelled(_));
        self.set_phase(index, Phase::Head);
        self.stop_reserving(index);
        let request = self.inbound.remove(index);
        if was_cancelled {
            self.forget_cancelled(request.id);
        }
        let (peer, owner) = (request.peer, StreamOwner::Request(index));
        shared.timers.remove(&(request.timer, owner));
        shared.unqueue(peer, request.route, owner, &request.answer);
        // A request that the application has may outlive its connection and the peer's membership.
        if let Some(link) = &mut shared.peer_links[peer.at()]
            && link.streams.get(&request.stream) == Some(&owner)
        {
            link.streams.remove(&request.stream);
        }
        if request.is_answered_in_parts {
            let (request, has_arrived) = (request.id, request.is_acked);
            shared.stream_events.push_back(StreamEvent::Over { request, has_arrived });
        }
        let route = &mut self.routes[request.route as usize];
        route.requests.give_back(peer, request.request_bytes);
        route.answers.give_back(peer, request.answer_bytes);
        route.waiting.remove(peer, index);
        route.ready.remove(peer, |other| *other == index);
        route.is_due = true;
    }

    /// The application has ended a request before it was told of the cancellation.
    fn forget_cancelled(&mut self, id: RequestId) {
        self.cancelled.retain(|cancelled| cancelled.request != id);
    }

    // Getters.

    pub(super) fn has_requests(&self, route: u16) -> bool {
        self.routes[route as usize].ready.len() > 0
    }

    pub(super) fn has_output(&self) -> bool {
        let has_request = |route: &Route| route.wanted == Wanted::Yes && route.ready.len() > 0;
        !self.cancelled.is_empty()
            || !self.reserved.is_empty()
            || self.routes.iter().any(has_request)
    }

    pub(super) fn awaits_budget(&self) -> bool {
        self.routes.iter().any(|route| route.waiting.len() + route.reserving.len() > 0)
    }

    pub(super) fn len(&self) -> usize {
        self.inbound.len()
    }

    /// The requests on a route. A walk over its peers.
    pub(super) fn snapshot(&self, route: usize) -> RequestsSnapshot {
        let route = &self.routes[route];
        RequestsSnapshot {
            counts: route.counts,
            latencies: route.latencies,
            in_flight: route.by_peer.iter().map(|peer| u32::from(peer.in_flight)).sum(),
            waiting: route.waiting.len() as u32,
            request_bytes: route.requests.committed(),
            answer_bytes: route.answers.committed(),
        }
    }

    pub(super) fn body_bytes(&self) -> u64 {
        self.routes.iter().map(|route| route.requests.committed() + route.answers.committed()).sum()
    }

    pub(super) fn assert_invariants(&self, shared: &SharedState) {
        for (at, route) in self.routes.iter().enumerate() {
            route.requests.assert_invariants();
            route.answers.assert_invariants();
            for (peer, peer_route) in route.by_peer.iter().enumerate() {
                let count = |is_it: &dyn Fn(&InboundRequest) -> bool| {
                    let of_peer_route = |request: &&InboundRequest| {
                        (request.route as usize, request.peer.at()) == (at, peer)
                    };
                    let requests = self.inbound.indices().map(|index| &self.inbound[index]);
                    requests.filter(of_peer_route).filter(|request| is_it(request)).count()
                };
                assert_eq!(count(&InboundRequest::is_in_flight), usize::from(peer_route.in_flight));
                assert_eq!(count(&InboundRequest::is_ahead), usize::from(peer_route.ahead));
                assert!(peer_route.ahead <= AHEAD_MAX);
                assert!(peer_route.in_flight <= shared.routes[at].in_flight_max);
                let peer = PeerIndex(peer as u16);
                let reserving = count(&|request| request.room_wanted.is_some());
                assert_eq!(reserving, route.reserving.count(peer));
                assert_eq!(
                    count(&|request| request.phase == Phase::Waiting),
                    route.waiting.count(peer)
                );
                assert_eq!(
                    count(&|request| request.phase == Phase::Ready),
                    route.ready.count(peer)
                );
            }
        }
        for index in self.inbound.indices() {
            let request = &self.inbound[index];
            assert!(shared.timers.contains(&(request.timer, StreamOwner::Request(index))));
            if !matches!(request.phase, Phase::Cancelled(_)) {
                let streams = &shared.link(request.peer).expect("a member").streams;
                assert_eq!(streams.get(&request.stream), Some(&StreamOwner::Request(index)));
            }
        }
    }
}
