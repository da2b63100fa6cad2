//! The requests that peers have asked this node.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use bytes::Bytes;
use core::mem;
use core::time::Duration;

use super::ledger::Ledger;
use super::transfer::{Receiving, Sending};
use super::turns::Turns;
use super::{CallStream, Common, End, Output, PLACE_BITS, Permit, Refusal, Request, RequestId};
use crate::arena::Arena;
use crate::config::RouteConfig;
use crate::error::{AnswerError, Fault};
use crate::id::{PeerIndex, RouteId};
use crate::time::Time;
use crate::wire::{
    CallHead, CallRefusal, EAGER_BYTES_MAX, FrameReader, Malformed, Reply, RouteHello,
};

/// A request whose head has not come by then is closed: its first packet holds all of it.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Requests of one peer that are read ahead of the application on a route: enough that it does not
/// wait for the network between two.
const AHEAD_MAX: u16 = 16;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// The head has not been read.
    Head,
    /// The rest stays in the stream.
    Waiting,
    /// The body is being read.
    Body,
    /// It is complete, and the application has not taken it.
    Ready,
    /// The application has it.
    Taken,
    /// The application has it, and nobody waits for the answer.
    Cancelled,
    /// The answer is being sent.
    Answering,
    /// The transport has all of it, and the caller has not acknowledged all.
    Answered,
    /// A refusal is being sent.
    Refusing,
}

#[derive(Debug)]
struct Asked {
    id: RequestId,
    peer: PeerIndex,
    stream: CallStream,
    route: u16,
    phase: Phase,
    deadline: Time,
    /// What its timer is set to.
    timer: Time,
    reader: FrameReader,
    /// Bytes in the request, and of the answer that may be sent at once.
    length: u32,
    prepaid: u32,
    body: Option<Receiving>,
    /// The caller's direction has come to its end.
    has_ended: bool,
    answer: Sending,
    /// The answer has arrived, and its end.
    is_acked: bool,
    /// Bytes in the ledgers.
    request_bytes: u64,
    answer_bytes: u64,
}

impl Asked {
    /// When it has to be looked at, if nothing happens.
    fn looked_at(&self, config: &RouteConfig) -> Time {
        let overdue_at = self.body.as_ref().map_or(Time::NEVER, |body| body.overdue_at(config));
        overdue_at.min(self.deadline)
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
struct Desk {
    in_flight: u16,
    ahead: u16,
    answer_bytes_max: u32,
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
    waiting: Turns<u32>,
    /// Requests for the application.
    ready: Turns<u32>,
    /// By peer.
    desks: Vec<Desk>,
    /// Something has changed by which requests may be granted room.
    is_due: bool,
}

#[derive(Debug)]
pub(super) struct Callee {
    asked: Arena<Asked>,
    routes: Vec<Route>,
    /// What the application has and may let go of. Bounded by what it has.
    cancelled: VecDeque<RequestId>,
}

impl Callee {
    pub(super) fn new(routes: &[RouteConfig]) -> Self {
        let route = |config: &RouteConfig| Route {
            requests: Ledger::new(config.body_bytes_max, config.request_bytes_max),
            answers: Ledger::new(config.body_bytes_max, config.response_bytes_max),
            wanted: if config.serves { Wanted::NotYet } else { Wanted::NoMore },
            waiting: Turns::new(),
            ready: Turns::new(),
            desks: Vec::new(),
            is_due: false,
        };
        Self {
            asked: Arena::new(),
            routes: routes.iter().map(route).collect(),
            cancelled: VecDeque::new(),
        }
    }

    pub(super) fn add_peer(&mut self, peer: PeerIndex) {
        for route in &mut self.routes {
            route.requests.add_peer(peer);
            route.answers.add_peer(peer);
            if route.desks.len() <= peer.at() {
                route.desks.resize(peer.at() + 1, Desk::default());
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
            let theirs = theirs.map_or(u32::MAX, |theirs| theirs.response_bytes_max);
            route.desks[peer.at()].answer_bytes_max = theirs.min(config.response_bytes_max);
        }
    }

    pub(super) fn peer_down(&mut self, common: &mut Common, peer: PeerIndex) {
        let of_peer = |place: &u32| self.asked[*place].peer == peer;
        let places: Vec<u32> = self.asked.indices().filter(of_peer).collect();
        for place in places {
            self.abandon(common, place);
        }
    }

    /// What the application has of a former member does not count against who gets its place.
    pub(super) fn remove_peer(&mut self, common: &mut Common, peer: PeerIndex) {
        let of_peer = |place: &u32| self.asked[*place].peer == peer;
        let places: Vec<u32> = self.asked.indices().filter(of_peer).collect();
        for place in places {
            let id = self.asked[place].id;
            let is_untold = self.cancelled.contains(&id);
            self.remove(common, place);
            // The application is told nevertheless.
            self.cancelled.extend(is_untold.then_some(id));
        }
    }

    fn desk(&mut self, peer: PeerIndex, route: u16) -> &mut Desk {
        &mut self.routes[route as usize].desks[peer.at()]
    }

    fn find(&self, id: RequestId) -> Option<u32> {
        let place = (id.0 & ((1 << PLACE_BITS) - 1)) as u32;
        self.asked.get(place).is_some_and(|asked| asked.id == id).then_some(place)
    }

    // The application.

    pub(super) fn serve(&mut self, common: &mut Common, route: RouteId, is_wanted: bool) -> bool {
        let Some(at) = common.place_of(route) else { return false };
        if !common.routes[at as usize].serves {
            return false;
        }
        let route = &mut self.routes[at as usize];
        route.wanted = if is_wanted { Wanted::Yes } else { Wanted::NoMore };
        if !is_wanted {
            while let Some(place) = self.routes[at as usize].waiting.pop(|_, _| true) {
                self.reply(common, place, Reply::Refused(CallRefusal::NotServed));
            }
            while let Some(place) = self.routes[at as usize].ready.pop(|_, _| true) {
                self.reply(common, place, Reply::Refused(CallRefusal::NotServed));
            }
            let is_coming = |place: &u32| {
                let asked = &self.asked[*place];
                (asked.route, asked.phase) == (at, Phase::Body)
            };
            let coming: Vec<u32> = self.asked.indices().filter(is_coming).collect();
            for place in coming {
                self.reply(common, place, Reply::Refused(CallRefusal::NotServed));
            }
        }
        true
    }

    pub(super) fn poll_request(
        &mut self,
        common: &Common,
        route: RouteId,
        mut suits: impl FnMut(PeerIndex) -> bool,
    ) -> Option<(Request, Permit)> {
        let at = common.place_of(route)?;
        let place = self.routes[at as usize].ready.pop(|peer, _| suits(peer))?;
        self.set_phase(place, Phase::Taken);
        let route = &mut self.routes[at as usize];
        route.is_due = true;
        let asked = &mut self.asked[place];
        let desk = &route.desks[asked.peer.at()];
        let bytes = mem::take(&mut asked.request_bytes);
        let permit = Permit { route: at, peer: asked.peer, bytes, of_answer: false };
        let body = asked.body.take().expect("it is complete").into_body();
        let request = Request {
            id: asked.id,
            from: asked.peer,
            body,
            deadline: asked.deadline,
            answer_bytes_max: desk.answer_bytes_max,
        };
        Some((request, permit))
    }

    pub(super) fn release(&mut self, permit: Permit) {
        let route = &mut self.routes[permit.route as usize];
        route.requests.give_back(permit.peer, permit.bytes);
        route.is_due = true;
    }

    pub(super) fn poll_cancelled(&mut self) -> Option<RequestId> {
        self.cancelled.pop_front()
    }

    pub(super) fn answer(
        &mut self,
        common: &mut Common,
        id: RequestId,
        body: Bytes,
    ) -> Result<(), AnswerError> {
        let Some(place) = self.find(id) else {
            self.forget_cancelled(id);
            return Err(AnswerError::Cancelled);
        };
        let Asked { phase, peer, route, .. } = self.asked[place];
        match phase {
            Phase::Cancelled => {
                self.remove(common, place);
                return Err(AnswerError::Cancelled);
            }
            Phase::Taken => {}
            _ => return Err(AnswerError::Cancelled),
        }
        let length = body.len();
        if length > self.desk(peer, route).answer_bytes_max as usize {
            return Err(AnswerError::TooLong);
        }
        let asked = &mut self.asked[place];
        let unneeded = asked.answer_bytes - length as u64;
        self.routes[route as usize].answers.give_back(peer, unneeded);
        asked.answer_bytes = length as u64;
        let allowed = if asked.has_ended { length } else { asked.prepaid as usize };
        let reply = Reply::Answer { length: length as u32 };
        asked.answer.frame(|frames| reply.encode(frames));
        asked.answer.body(body, allowed);
        self.begin_reply(common, place, Phase::Answering);
        Ok(())
    }

    pub(super) fn refuse(&mut self, common: &mut Common, id: RequestId, refusal: Refusal) -> bool {
        let Some(place) = self.find(id) else {
            self.forget_cancelled(id);
            return false;
        };
        match self.asked[place].phase {
            Phase::Taken => {}
            Phase::Cancelled => {
                self.remove(common, place);
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
        self.reply(common, place, reply);
        true
    }

    /// Sends a reply that is not an answer.
    fn reply(&mut self, common: &mut Common, place: u32, reply: Reply) {
        let asked = &mut self.asked[place];
        asked.answer.frame(|frames| reply.encode(frames));
        if !asked.has_ended {
            common.outputs.push_back(Output::Stop { peer: asked.peer, stream: asked.stream });
            asked.has_ended = true;
        }
        let bytes = mem::take(&mut asked.answer_bytes);
        self.routes[asked.route as usize].answers.give_back(asked.peer, bytes);
        self.begin_reply(common, place, Phase::Refusing);
    }

    fn begin_reply(&mut self, common: &mut Common, place: u32, phase: Phase) {
        self.set_phase(place, phase);
        let asked = &mut self.asked[place];
        asked.answer.end();
        // What is left of the request does not matter any more.
        asked.body = None;
        let bytes = mem::take(&mut asked.request_bytes);
        let route = &mut self.routes[asked.route as usize];
        route.requests.give_back(asked.peer, bytes);
        route.is_due = true;
        common.note_due(asked.peer, asked.route, End::Request(place), &mut asked.answer);
    }

    // Receiving.

    /// A peer has opened a stream.
    pub(super) fn open(
        &mut self,
        common: &mut Common,
        now: Time,
        peer: PeerIndex,
        stream: CallStream,
    ) {
        let deadline = now + HEAD_TIMEOUT;
        let place = self.asked.insert(Asked {
            id: RequestId(0),
            peer,
            stream,
            route: 0,
            phase: Phase::Head,
            deadline,
            timer: Time::NEVER,
            reader: FrameReader::default(),
            length: 0,
            prepaid: 0,
            body: None,
            has_ended: false,
            answer: Sending::default(),
            is_acked: false,
            request_bytes: 0,
            answer_bytes: 0,
        });
        let id = RequestId(common.next_id(place));
        let asked = &mut self.asked[place];
        asked.id = id;
        common.set_timer(End::Request(place), &mut asked.timer, deadline);
        let before = common.line_mut(peer).streams.insert(stream, End::Request(place));
        assert!(before.is_none(), "streams are not used twice");
    }

    pub(super) fn wants(&self, place: u32) -> usize {
        let asked = &self.asked[place];
        match asked.phase {
            Phase::Head => asked.reader.missing().expect("checked when it was taken"),
            Phase::Waiting => 0,
            Phase::Body => asked.body.as_ref().expect("it is being read").wants(),
            // Nothing but the end may follow.
            Phase::Ready | Phase::Taken | Phase::Answering => usize::from(!asked.has_ended),
            Phase::Cancelled | Phase::Answered | Phase::Refusing => 0,
        }
    }

    pub(super) fn handle_data(
        &mut self,
        common: &mut Common,
        now: Time,
        place: u32,
        bytes: &[u8],
    ) -> Result<(), Fault> {
        let taken = self.take(common, now, place, bytes);
        taken.inspect_err(|_| self.abandon(common, place))
    }

    fn take(
        &mut self,
        common: &mut Common,
        now: Time,
        place: u32,
        bytes: &[u8],
    ) -> Result<(), Fault> {
        let asked = &mut self.asked[place];
        match asked.phase {
            Phase::Head => {
                asked.reader.push(bytes)?;
                if asked.reader.missing()? > 0 {
                    return Ok(());
                }
                let (kind, body) = asked.reader.frame();
                let head = CallHead::decode(kind, body)?;
                self.begin(common, now, place, &head)
            }
            Phase::Body => {
                let body = asked.body.as_mut().expect("it is being read");
                if !body.push(bytes) {
                    return Err(Malformed::Trailing.into());
                }
                if body.is_complete() {
                    self.complete(place);
                }
                Ok(())
            }
            Phase::Waiting | Phase::Cancelled | Phase::Answered | Phase::Refusing => Ok(()),
            Phase::Ready | Phase::Taken | Phase::Answering => Err(Malformed::Trailing.into()),
        }
    }

    /// The head has been read.
    fn begin(
        &mut self,
        common: &mut Common,
        now: Time,
        place: u32,
        head: &CallHead,
    ) -> Result<(), Fault> {
        let asked = &mut self.asked[place];
        let Some(at) = common.place_of(head.route) else {
            self.reply(common, place, Reply::Refused(CallRefusal::NotServed));
            return Ok(());
        };
        let config = &common.routes[at as usize];
        if head.length > config.request_bytes_max {
            return Err(Fault::RequestTooLong);
        }
        asked.route = at;
        (asked.length, asked.prepaid) = (head.length, head.prepaid);
        let timeout = Duration::from_millis(head.timeout_ms.into()).min(config.deadline_max);
        asked.deadline = now + timeout;
        asked.phase = Phase::Waiting;
        common.hasten_timer(End::Request(place), &mut asked.timer, asked.deadline);
        if self.routes[at as usize].wanted == Wanted::NoMore {
            self.reply(common, place, Reply::Refused(CallRefusal::NotServed));
            return Ok(());
        }
        let peer = asked.peer;
        self.routes[at as usize].waiting.push(peer, place);
        self.grant(common, now, at, Some(place));
        Ok(())
    }

    /// Grants requests room, where there may be some.
    pub(super) fn grant_all(&mut self, common: &mut Common, now: Time) {
        for at in 0..self.routes.len() {
            if mem::take(&mut self.routes[at].is_due) {
                self.grant(common, now, at as u16, None);
            }
        }
    }

    /// Grants requests of a route the room that they wait for, peers taking turns. `present` is
    /// being read already.
    fn grant(&mut self, common: &mut Common, now: Time, at: u16, present: Option<u32>) {
        let config = &common.routes[at as usize];
        let in_flight_max = config.in_flight_max;
        loop {
            let Route { requests, answers, waiting, desks, .. } = &mut self.routes[at as usize];
            let asked = &self.asked;
            let place = waiting.pop(|peer, place| {
                let desk = &desks[peer.at()];
                desk.in_flight < in_flight_max
                    && desk.ahead < AHEAD_MAX
                    && requests.has_room(peer, asked[*place].length.into())
                    && answers.has_room(peer, desk.answer_bytes_max.into())
            });
            let Some(place) = place else { return };
            let asked = &mut self.asked[place];
            let (peer, length) = (asked.peer, asked.length as usize);
            let desk = &desks[peer.at()];
            (asked.request_bytes, asked.answer_bytes) =
                (length as u64, desk.answer_bytes_max.into());
            let has_room = requests.take(peer, asked.request_bytes);
            assert!(has_room && answers.take(peer, asked.answer_bytes), "there was room");
            asked.body = Some(Receiving::new(now, length, length));
            self.set_phase(place, Phase::Body);
            let asked = &mut self.asked[place];
            if length > EAGER_BYTES_MAX {
                asked.answer.frame(|frames| Reply::Continue.encode(frames));
                common.note_due(peer, at, End::Request(place), &mut asked.answer);
            }
            let looked_at = asked.looked_at(&common.routes[at as usize]);
            common.hasten_timer(End::Request(place), &mut asked.timer, looked_at);
            if present != Some(place) {
                let stream = asked.stream;
                common.outputs.push_back(Output::Read { peer, stream });
            }
            if length == 0 {
                self.complete(place);
            }
        }
    }

    fn complete(&mut self, place: u32) {
        self.set_phase(place, Phase::Ready);
        let asked = &mut self.asked[place];
        self.routes[asked.route as usize].ready.push(asked.peer, place);
    }

    /// The caller's direction has come to its end: all of the answer may be sent.
    pub(super) fn handle_end(&mut self, common: &mut Common, place: u32) -> Result<(), Fault> {
        let asked = &mut self.asked[place];
        match asked.phase {
            Phase::Head | Phase::Body => {
                self.abandon(common, place);
                return Err(Malformed::Truncated.into());
            }
            // Of what has not been read, the end has not been seen.
            Phase::Waiting | Phase::Cancelled | Phase::Answered | Phase::Refusing => {}
            Phase::Ready | Phase::Taken => asked.has_ended = true,
            Phase::Answering => {
                asked.has_ended = true;
                asked.answer.allow_all();
                common.note_due(asked.peer, asked.route, End::Request(place), &mut asked.answer);
                self.written(common, place);
            }
        }
        Ok(())
    }

    /// Nobody waits for the answer any more: the caller has gone.
    pub(super) fn cancelled(&mut self, common: &mut Common, place: u32) {
        let asked = &self.asked[place];
        common.outputs.push_back(Output::Close { peer: asked.peer, stream: asked.stream });
        self.abandon(common, place);
    }

    pub(super) fn expire(&mut self, common: &mut Common, now: Time, place: u32) {
        let asked = &mut self.asked[place];
        let at = asked.looked_at(&common.routes[asked.route as usize]);
        if at <= now {
            self.cancelled(common, place);
        } else {
            common.set_timer(End::Request(place), &mut asked.timer, at);
        }
    }

    // Answering.

    pub(super) fn stream(&self, place: u32) -> CallStream {
        self.asked[place].stream
    }

    pub(super) fn sending(&mut self, place: u32) -> (u16, &mut Sending) {
        let asked = &mut self.asked[place];
        (asked.route, &mut asked.answer)
    }

    /// A piece of the answer was handed to the transport: once that has all, and the caller has said
    /// all, it is over but for what the transport keeps.
    pub(super) fn written(&mut self, common: &mut Common, place: u32) {
        let asked = &self.asked[place];
        if asked.answer.has_ended() && asked.has_ended {
            match asked.phase {
                Phase::Answering if !asked.is_acked => self.set_phase(place, Phase::Answered),
                _ => self.remove(common, place),
            }
        }
    }

    /// The answer has arrived.
    pub(super) fn acked(&mut self, common: &mut Common, place: u32) {
        let asked = &mut self.asked[place];
        asked.is_acked = true;
        match asked.phase {
            Phase::Answered => self.remove(common, place),
            // Its room is free, although the caller has not said all.
            _ => {
                let bytes = mem::take(&mut asked.answer_bytes);
                let route = &mut self.routes[asked.route as usize];
                route.answers.give_back(asked.peer, bytes);
                route.is_due = true;
            }
        }
    }

    // The end.

    fn set_phase(&mut self, place: u32, phase: Phase) {
        let asked = &mut self.asked[place];
        let desk = &mut self.routes[asked.route as usize].desks[asked.peer.at()];
        desk.in_flight -= u16::from(asked.is_in_flight());
        desk.ahead -= u16::from(asked.is_ahead());
        asked.phase = phase;
        desk.in_flight += u16::from(asked.is_in_flight());
        desk.ahead += u16::from(asked.is_ahead());
    }

    /// The stream is of no use any more. What the application has stays in flight until it lets go
    /// of it: a peer that calls and cancels does not make it do more at a time.
    fn abandon(&mut self, common: &mut Common, place: u32) {
        match self.asked[place].phase {
            Phase::Taken => {}
            // Its connection went, and now another one of the peer's.
            Phase::Cancelled => return,
            _ => return self.remove(common, place),
        }
        self.set_phase(place, Phase::Cancelled);
        let asked = &mut self.asked[place];
        self.cancelled.push_back(asked.id);
        // A caller that did not wait for `Continue` may go before it was sent.
        common.unqueue(asked.peer, asked.route, End::Request(place), &asked.answer);
        asked.answer.is_queued = false;
        common.set_timer(End::Request(place), &mut asked.timer, Time::NEVER);
        common.line_mut(asked.peer).streams.remove(&asked.stream);
        // There will be no answer.
        let bytes = mem::take(&mut asked.answer_bytes);
        let route = &mut self.routes[asked.route as usize];
        route.answers.give_back(asked.peer, bytes);
        route.is_due = true;
    }

    /// Forgets a request, and gives back what it took.
    fn remove(&mut self, common: &mut Common, place: u32) {
        let was_cancelled = self.asked[place].phase == Phase::Cancelled;
        self.set_phase(place, Phase::Head);
        let asked = self.asked.remove(place);
        if was_cancelled {
            self.forget_cancelled(asked.id);
        }
        let (peer, end) = (asked.peer, End::Request(place));
        common.timers.remove(&(asked.timer, end));
        common.unqueue(peer, asked.route, end, &asked.answer);
        // What the application kept may outlive its connection, and the peer.
        if let Some(line) = &mut common.lines[peer.at()]
            && line.streams.get(&asked.stream) == Some(&end)
        {
            line.streams.remove(&asked.stream);
        }
        let route = &mut self.routes[asked.route as usize];
        route.requests.give_back(peer, asked.request_bytes);
        route.answers.give_back(peer, asked.answer_bytes);
        route.waiting.remove(peer, |other| *other == place);
        route.ready.remove(peer, |other| *other == place);
        route.is_due = true;
    }

    /// The application has let go of a request before it was told that nobody waits.
    fn forget_cancelled(&mut self, id: RequestId) {
        self.cancelled.retain(|other| *other != id);
    }

    // Getters.

    pub(super) fn has_requests(&self, route: u16) -> bool {
        self.routes[route as usize].ready.len() > 0
    }

    pub(super) fn has_output(&self) -> bool {
        let has_request = |route: &Route| route.wanted == Wanted::Yes && route.ready.len() > 0;
        !self.cancelled.is_empty() || self.routes.iter().any(has_request)
    }

    pub(super) fn is_starved(&self) -> bool {
        self.routes.iter().any(|route| route.waiting.len() > 0)
    }

    pub(super) fn len(&self) -> usize {
        self.asked.len()
    }

    pub(super) fn body_bytes(&self) -> u64 {
        self.routes.iter().map(|route| route.requests.taken() + route.answers.taken()).sum()
    }

    pub(super) fn assert_invariants(&self, common: &Common) {
        for (at, route) in self.routes.iter().enumerate() {
            route.requests.assert_invariants();
            route.answers.assert_invariants();
            for (peer, desk) in route.desks.iter().enumerate() {
                let count = |is_it: &dyn Fn(&Asked) -> bool| {
                    let of_desk =
                        |asked: &&Asked| (asked.route as usize, asked.peer.at()) == (at, peer);
                    let asked = self.asked.indices().map(|place| &self.asked[place]);
                    asked.filter(of_desk).filter(|asked| is_it(asked)).count()
                };
                assert_eq!(count(&Asked::is_in_flight), desk.in_flight.into());
                assert_eq!(count(&Asked::is_ahead), desk.ahead.into());
                assert!(desk.ahead <= AHEAD_MAX);
                assert!(desk.in_flight <= common.routes[at].in_flight_max);
                let peer = PeerIndex(peer as u16);
                assert_eq!(
                    count(&|asked| asked.phase == Phase::Waiting),
                    route.waiting.count(peer)
                );
                assert_eq!(count(&|asked| asked.phase == Phase::Ready), route.ready.count(peer));
            }
        }
        for place in self.asked.indices() {
            let asked = &self.asked[place];
            assert!(common.timers.contains(&(asked.timer, End::Request(place))));
            if asked.phase != Phase::Cancelled {
                let streams = &common.line(asked.peer).expect("a member").streams;
                assert_eq!(streams.get(&asked.stream), Some(&End::Request(place)));
            }
        }
    }
}
