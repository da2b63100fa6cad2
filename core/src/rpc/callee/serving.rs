//! How the application gets requests, and is told what has become of them.

use alloc::vec::Vec;
use bytes::Bytes;
use core::mem;

use super::{Callee, Phase, Route, Wanted};
use crate::id::{Arrival, PeerIndex, RouteId};
use crate::rpc::arrivals::Arrived;
use crate::rpc::{Cancelled, Permit, Request, RequestId, SharedState};
use crate::time::Time;
use crate::wire::{CallRefusal, Reply};

impl Callee {
    pub(in crate::rpc) fn serve(
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

    pub(in crate::rpc) fn poll_request(
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
    pub(in crate::rpc) fn poll_first_request(
        &mut self,
        shared: &mut SharedState,
        now: Time,
        at: u16,
    ) -> Option<(Arrival, Request, Permit)> {
        let taken = self.routes[at as usize].ready.pop_first()?;
        Some(self.hand_out(shared, now, at, taken))
    }

    /// The request that came first on the routes whose requests are wanted: when, and the route's index.
    pub(in crate::rpc) fn next_arrival(&self) -> Option<(Arrival, u16)> {
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

    pub(in crate::rpc) fn release(&mut self, permit: Permit) {
        let route = &mut self.routes[permit.route as usize];
        route.requests.give_back(permit.peer, permit.bytes);
        route.is_due = true;
    }

    pub(in crate::rpc) fn poll_cancelled(&mut self) -> Option<Cancelled> {
        self.cancelled.pop_front()
    }

    pub(in crate::rpc) fn poll_reserved(&mut self) -> Option<RequestId> {
        self.reserved.pop_front()
    }

    /// The application has ended a request before it was told of the cancellation.
    pub(super) fn forget_cancelled(&mut self, id: RequestId) {
        self.cancelled.retain(|cancelled| cancelled.request != id);
    }

    pub(in crate::rpc) fn has_requests(&self, route: u16) -> bool {
        self.routes[route as usize].ready.len() > 0
    }

    pub(in crate::rpc) fn has_output(&self) -> bool {
        let has_request = |route: &Route| route.wanted == Wanted::Yes && route.ready.len() > 0;
        !self.cancelled.is_empty()
            || !self.reserved.is_empty()
            || self.routes.iter().any(has_request)
    }
}
