//! The calls of this node. How they are made is in `calling`, what they send in `sending`, and how their answers arrive
//! in `arriving`.

mod arriving;
mod calling;
mod sending;

pub(crate) use calling::Manner;

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use bytes::Bytes;

use super::ledger::Ledger;
use super::room_queue::RoomQueue;
use super::shared::{SharedState, StreamOwner, index_of};
use super::transfer::{Receiving, Sending};
use super::{CallId, CallStream, Credit, Outcome, Output, Permit};
use crate::arena::Arena;
use crate::config::RouteConfig;
use crate::error::CallError;
use crate::id::PeerIndex;
use crate::snapshot::{CallCounts, CallsSnapshot, Histogram};
use crate::time::Time;
use crate::wire::{CallReset, FrameReader, RouteHello};

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

    pub(super) fn release(&mut self, permit: Permit) {
        self.routes[permit.route as usize].answers.give_back(permit.peer, permit.bytes);
        self.has_room = true;
    }

    pub(super) fn request_bytes(&self, route: usize) -> u64 {
        self.routes[route].requests.committed()
    }

    pub(super) fn id(&self, index: u32) -> CallId {
        self.calls[index].id
    }

    fn find(&self, id: CallId) -> Option<u32> {
        let index = index_of(id.0);
        self.calls.get(index).is_some_and(|call| call.id == id).then_some(index)
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
