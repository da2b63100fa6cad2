//! The requests that peers have asked this node. How they arrive is in `arriving`, how the application gets them
//! in `serving`, and how it answers in `answering`.

mod answering;
mod arriving;
mod serving;

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::mem;
use core::time::Duration;

use super::arrivals::Arrivals;
use super::ledger::Ledger;
use super::parts::StreamEvent;
use super::room_queue::RoomQueue;
use super::shared::{SharedState, StreamOwner, index_of};
use super::transfer::{Receiving, Sending};
use super::{CallStream, Cancelled, Output, RequestId};
use crate::arena::Arena;
use crate::config::RouteConfig;
use crate::error::AnswerError;
use crate::id::{Arrival, PeerIndex};
use crate::snapshot::{Histogram, RequestCounts, RequestsSnapshot};
use crate::time::Time;
use crate::wire::{CallReset, FrameReader, RouteHello};

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

    fn find(&self, id: RequestId) -> Option<u32> {
        let index = index_of(id.0);
        self.inbound.get(index).is_some_and(|request| request.id == id).then_some(index)
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

    pub(super) fn stream(&self, index: u32) -> CallStream {
        self.inbound[index].stream
    }

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
