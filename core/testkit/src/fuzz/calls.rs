//! Three machines that call each other over streams in memory, against what a call may come to: it
//! ends once, with what the callee said or with a reason that holds; a request is handed over once;
//! bodies in parts are read as they are given, and their ends are told what they wait for; and when all
//! has been said nothing is left.

use bytes::Bytes;
use core::time::Duration;
use std::collections::BTreeMap;

use super::bodies::{Giver, Reader};
use super::feed::Feed;
use super::joined::{Joined, NODES, index, node};
use slotcast::config::{ChannelConfig, Config, RouteConfig};
use slotcast::error::{AnswerError, CallError, PartError};
use slotcast::id::{ChannelId, RouteId};
use slotcast::rpc::{
    ANSWER_BYTES_KEPT, Body, CallId, PART_BYTES_MAX, Part, Permit, Refusal, Request, RequestId,
    Stream, StreamEvent,
};
use slotcast::time::Time;

/// Route 0 has long answers, of which one peer may have one at a time; route 1 only short ones, so
/// that the caller's direction ends at once; and requests of route 2 are read in parts.
const ROUTES: [RouteId; 3] = [RouteId(3), RouteId(500), RouteId(70)];

/// The longest body that is read in parts: longer than the room for it.
const LONGEST: u32 = 700_000;

/// Bytes in requests and answers: none, short, what is sent at once, more, the longest, too many.
const LENGTHS: [usize; 8] = [0, 8, 100, 16_384, 16_385, 20_000, 40_000, 40_001];

/// The same of bodies in parts: around what is sent at once, what arrives ahead of a reader, and the longest.
const LONG_LENGTHS: [usize; 8] =
    [0, 100, 16_385, 40_000, 262_144, 262_145, LONGEST as usize, LONGEST as usize + 1];

/// Bytes in a part that is given, up to too many.
const PART_LENGTHS: [usize; 4] = [0, 1, 5_000, PART_BYTES_MAX + 1];

/// Node 1 has narrower bounds than the others, and node 2 does not serve route 1 and reads nothing in parts.
fn config(at: usize) -> Config {
    let mut long = RouteConfig::new(ROUTES[0], "long").bytes_max(40_000, 40_000);
    (long.in_flight_max, long.waiting_max, long.body_bytes_max) = (2, 2, 60_000);
    (long.rate_min, long.deadline) = (1000, Duration::from_secs(8));
    let mut short = RouteConfig::new(ROUTES[1], "short").bytes_max(20_000, 100);
    (short.in_flight_max, short.waiting_max, short.body_bytes_max) = (3, 0, 20_000);
    let mut parts = RouteConfig::new(ROUTES[2], "parts").bytes_max(LONGEST, LONGEST);
    (parts.in_flight_max, parts.waiting_max, parts.body_bytes_max) = (2, 1, 800_000);
    (parts.rate_min, parts.reads_in_parts) = (1000, at != 2);
    for route in [&mut long, &mut short, &mut parts] {
        route.deadline_max = Duration::from_secs(20);
    }
    if at == 1 {
        (long.request_bytes_max, long.response_bytes_max) = (30_000, 20_000);
        (parts.request_bytes_max, parts.response_bytes_max) = (600_000, 300_000);
        long.in_flight_max = 1;
    }
    short.serves = at != 2;
    Config::new([ChannelConfig::new(ChannelId(1))]).routes([long, short, parts])
}

/// A body may lag behind for so long.
const SLOW: Duration = Duration::from_secs(5);

/// An answer, or why there is none.
type Said = Result<Bytes, CallError>;

/// A call as its caller knows it, until its outcome has been taken.
struct Made {
    from: usize,
    to: usize,
    route: usize,
    /// What is asked: its first bytes are the call's number.
    body: Bytes,
    at: Time,
    deadline: Time,
    /// What the callee's application has said.
    said: Option<Said>,
    was_handed: bool,
    /// The connection has been lost.
    is_lost: bool,
    /// Requests were not wanted at some time since.
    was_unwanted: bool,
    is_cancelled: bool,
    /// A message, which wants no answer.
    is_tell: bool,
    /// If the request is given, and the answer read, in parts.
    in_parts: Option<(Giver, Reader)>,
    /// The callee has broken the answer off when it had given all of it.
    is_broken_off: bool,
}

/// A request in an application's hands.
struct Held {
    at: usize,
    route: usize,
    request: Request,
    /// The call; of requests without a body, or of which not enough was read, nobody knows.
    number: Option<u64>,
    was_told: bool,
    /// If it is read in parts.
    reader: Option<Reader>,
}

/// A request that is answered in parts.
struct Answering {
    held: Held,
    giver: Giver,
    is_broken_off: bool,
}

impl Made {
    /// The callee's application knows which call it has.
    fn hand_over(&mut self, place: (usize, usize, usize), wants_answer: bool) {
        assert_eq!((self.from, self.to, self.route), place);
        assert_ne!(self.is_tell, wants_answer);
        assert!(!core::mem::replace(&mut self.was_handed, true), "a request is handed over once");
    }
}

/// What a callee's application says.
#[derive(Clone, Copy)]
enum Say {
    /// An answer of so many bytes.
    Whole(usize),
    InParts(usize),
    Refusal(Refusal),
}

struct Run {
    net: Joined,
    configs: [Config; NODES],
    /// By number.
    calls: BTreeMap<u64, Made>,
    ids: BTreeMap<(usize, CallId), u64>,
    held: Vec<Held>,
    answering: Vec<Answering>,
    permits: Vec<(usize, Permit)>,
    wanted: [[bool; ROUTES.len()]; NODES],
    /// Answers to requests of which the number is not known, by caller, callee and route.
    blind: Vec<((usize, usize, usize), Said)>,
    count: u64,
}

/// Bytes that begin with a number, if they are as many, and differ from place to place.
fn numbered(number: u64, length: usize) -> Bytes {
    let byte = |at: usize| (at ^ at >> 8 ^ at >> 15) as u8 ^ number as u8 ^ 0x5a;
    let mut bytes: Vec<u8> = (0..length).map(byte).collect();
    if let Some(start) = bytes.first_chunk_mut() {
        *start = number.to_be_bytes();
    }
    bytes.into()
}

impl Run {
    fn new() -> Self {
        let configs = core::array::from_fn(config);
        let mut run = Self {
            net: Joined::new(configs.clone()),
            configs,
            calls: BTreeMap::new(),
            ids: BTreeMap::new(),
            held: Vec::new(),
            answering: Vec::new(),
            permits: Vec::new(),
            wanted: [[true; ROUTES.len()]; NODES],
            blind: Vec::new(),
            count: 0,
        };
        for at in 0..NODES {
            (0..at).for_each(|other| run.net.connect(at, other));
            (0..ROUTES.len()).for_each(|route| run.serve(at, route, true));
        }
        run
    }

    fn bound(&self, from: usize, to: usize, route: usize, of: fn(&RouteConfig) -> u32) -> usize {
        let [ours, theirs] = [from, to].map(|at| of(&self.configs[at].routes[route]));
        ours.min(theirs) as usize
    }

    // The caller.

    fn call(
        &mut self,
        (from, to, route): (usize, usize, usize),
        length: usize,
        timeout: Option<Duration>,
        (waits, is_tell): (bool, bool),
        is_in_parts: bool,
    ) {
        self.count += 1;
        let (number, now) = (self.count, self.net.now);
        let body = numbered(number, length);
        let machine = &mut self.net.machines[from];
        let given = match is_in_parts {
            true => Body::InParts(length as u32),
            false => Body::Whole(body.clone()),
        };
        let called = match is_tell {
            true => machine.tell(now, index(to), ROUTES[route], body.clone(), timeout),
            false => machine.call(now, index(to), ROUTES[route], given, timeout, waits),
        };
        self.net.settle(from);
        let config = &self.configs[from].routes[route];
        let of_desk = |made: &&Made| (made.from, made.to, made.route) == (from, to, route);
        let unsettled = self.calls.values().filter(of_desk).filter(|made| !made.is_cancelled);
        let unsettled = unsettled.count();
        // As long as there is no connection, the peer's bounds are not known.
        let other = if self.net.is_up(from, to) { to } else { from };
        let credit = self.bound(from, other, route, |config| config.in_flight_max.into());
        let limit = credit + if waits || is_tell { config.waiting_max.into() } else { 0 };
        let is_long = length > self.bound(from, other, route, |config| config.request_bytes_max);
        // What the transport has not taken yet is not known here.
        let of_route = |made: &&Made| (made.from, made.route) == (from, route);
        let bodies = self.calls.values().filter(of_route).map(|made| made.body.len());
        let share = self.bound(from, other, route, |config| config.request_bytes_share() as u32);
        let may_be_full = bodies.sum::<usize>() + length > share;
        let expected = if !self.net.is_up(from, to) && !is_tell {
            Err(CallError::NotConnected)
        } else if !self.configs[other].routes[route].serves && other == to {
            Err(CallError::NotServed)
        } else if is_long {
            Err(CallError::TooLong)
        } else if timeout == Some(Duration::ZERO) {
            Err(CallError::DeadlinePassed)
        } else if unsettled >= limit || may_be_full && called == Err(CallError::Pushback) {
            Err(CallError::Pushback)
        } else {
            Ok(())
        };
        assert_eq!(called.map(|_| ()), expected);
        let Ok(id) = called else { return };
        let stream = Stream::Call(id);
        let in_parts = is_in_parts
            .then(|| (Giver::new(from, stream, body.clone()), Reader::new(from, stream)));
        let made = Made {
            from,
            to,
            route,
            body,
            in_parts,
            is_broken_off: false,
            at: now,
            deadline: now + timeout.unwrap_or(config.deadline),
            said: None,
            was_handed: false,
            is_lost: false,
            was_unwanted: !self.wanted[to][route],
            is_cancelled: false,
            is_tell,
        };
        self.calls.insert(number, made);
        assert_eq!(self.ids.insert((from, id), number), None, "ids are not used twice");
    }

    fn cancel(&mut self, nth: usize) {
        let open = self.ids.iter().filter(|(_, number)| !self.calls[number].is_cancelled);
        let open: Vec<_> = open.map(|(id, number)| (*id, *number)).collect();
        let Some(((from, id), number)) = open.get(nth % open.len().max(1)).copied() else { return };
        // It may have ended: its outcome is to be had then.
        self.calls.get_mut(&number).expect("open").is_cancelled =
            self.net.machines[from].cancel(id);
        self.net.settle(from);
        assert!(!self.calls[&number].is_cancelled || !self.net.machines[from].cancel(id));
    }

    fn take_outcome(&mut self, at: usize, keeps: bool) -> bool {
        let Some((outcome, permit)) = self.net.machines[at].poll_outcome() else { return false };
        self.give(at, permit, keeps);
        let number = self.ids.remove(&(at, outcome.call)).expect("a call that has not ended");
        let made = self.calls.remove(&number).expect("the same");
        assert!(!made.is_cancelled, "nothing comes of what was cancelled");
        let elapsed = self.net.now.since(made.at);
        let is_slow = elapsed >= SLOW;
        if let Some((giver, _)) = &made.in_parts {
            self.assert_over(at, giver.stream);
            // Else there would be an end of a request that has none.
            assert!(outcome.result.is_err() || giver.is_done());
        }
        match outcome.result {
            Err(CallError::DeadlinePassed) => assert!(self.net.now >= made.deadline),
            Err(CallError::Disconnected) => assert!(made.is_lost),
            Err(CallError::NotServed) => {
                let serves = self.configs[made.to].routes[made.route].serves;
                assert!(made.was_unwanted || made.is_tell && !serves);
            }
            // A message waits without a connection, and may then be for nobody.
            Err(CallError::NotMember) => assert!(made.is_tell && made.is_lost),
            // Of a message, this may become known later.
            Err(CallError::TooLong) => {
                let longest = |config: &RouteConfig| config.request_bytes_max;
                assert!(made.is_tell);
                assert!(made.body.len() > self.bound(made.from, made.to, made.route, longest));
            }
            Ok(answer) if made.is_tell => {
                assert!(answer.is_empty());
                assert!(made.was_handed || made.body.len() < 8, "somebody has it");
            }
            Err(CallError::TooSlow) => assert!(is_slow),
            Err(CallError::DeadlineMaxPassed) => {
                let config = &self.configs[made.to].routes[made.route];
                assert!(made.deadline.since(made.at) > config.deadline_max);
                assert!(elapsed >= config.deadline_max);
            }
            // The callee has not read the head in time.
            Err(CallError::Dropped) if elapsed >= Duration::from_secs(10) => {}
            Err(CallError::Dropped) if made.is_broken_off => {}
            result => {
                let result = match &made.in_parts {
                    Some((_, reader)) => result.map(|answer| {
                        assert!(answer.is_empty(), "it was read");
                        Bytes::copy_from_slice(&reader.got)
                    }),
                    None => result,
                };
                let is_blind = made.said.is_none();
                assert!(
                    !is_blind || made.body.is_empty() || self.reads_in_parts(made.to, made.route)
                );
                if !is_blind {
                    assert!(made.said == Some(result));
                    return true;
                }
                let place = (made.from, made.to, made.route);
                let said = self.blind.iter().position(|said| *said == (place, result.clone()));
                let said = said.expect("the callee has said that");
                drop(self.blind.swap_remove(said));
            }
        }
        true
    }

    fn reads_in_parts(&self, at: usize, route: usize) -> bool {
        self.configs[at].routes[route].reads_in_parts
    }

    // The callee.

    fn take_request(&mut self, at: usize, route: usize, keeps: bool) -> bool {
        let machine = &mut self.net.machines[at];
        let taken = machine.poll_request(ROUTES[route], |_| true);
        assert!(taken.is_none() || self.wanted[at][route], "unwanted ones are refused");
        let Some((request, permit)) = taken else { return false };
        self.give(at, permit, keeps);
        let from = node(request.from);
        let config = &self.configs[at].routes[route];
        assert!(request.deadline <= self.net.now + config.deadline_max);
        let longest = self.bound(at, from, route, |config| config.response_bytes_max);
        assert_eq!(
            request.answer_bytes_max as usize,
            if request.wants_answer { longest } else { 0 }
        );
        let number = request.body.first_chunk().map(|start| u64::from_be_bytes(*start));
        let is_in_parts = config.reads_in_parts && request.wants_answer;
        assert_eq!(request.in_parts.is_some(), is_in_parts);
        assert!(request.body.is_empty() || !is_in_parts, "it is to be read");
        if let Some(number) = number
            && let Some(made) = self.calls.get_mut(&number)
        {
            assert!(made.body == request.body);
            made.hand_over((from, at, route), request.wants_answer);
        }
        if !request.wants_answer {
            return true;
        }
        let reader = is_in_parts.then(|| Reader::new(at, Stream::Request(request.id)));
        self.held.push(Held { at, route, request, number, was_told: false, reader });
        let is_same =
            |held: &&Held| (held.at, node(held.request.from), held.route) == (at, from, route);
        let in_flight = self.held.iter().filter(is_same).count();
        assert!(in_flight <= config.in_flight_max.into(), "no more than are taken at once");
        true
    }

    /// Whether somebody surely waits for the answer.
    fn is_awaited(&self, held: &Held) -> bool {
        let Some(made) = held.number.and_then(|number| self.calls.get(&number)) else {
            return false;
        };
        let until = made.deadline.min(held.request.deadline);
        !made.is_cancelled && !made.is_lost && self.net.now < until
    }

    fn say(&mut self, nth: usize, what: Say) {
        if self.held.is_empty() {
            return;
        }
        let held = self.held.swap_remove(nth % self.held.len());
        let (at, id, now) = (held.at, held.request.id, self.net.now);
        let machine = &mut self.net.machines[at];
        self.count += 1;
        let answer = match what {
            Say::Whole(length) | Say::InParts(length) => numbered(self.count, length),
            Say::Refusal(_) => Bytes::new(),
        };
        let (length, is_in_parts) = (answer.len(), matches!(what, Say::InParts(_)));
        let given = match is_in_parts {
            true => Body::InParts(length as u32),
            false => Body::Whole(answer.clone()),
        };
        let (is_taken, said) = match what {
            Say::Whole(_) | Say::InParts(_) => match machine.answer(now, id, given) {
                Err(AnswerError::DeadlineMaxPassed) => {
                    assert!(now >= held.request.deadline);
                    (false, Ok(answer.clone()))
                }
                Err(AnswerError::TooLong) => {
                    assert!(length > held.request.answer_bytes_max as usize);
                    return self.held.push(held);
                }
                Err(AnswerError::NotRead) => {
                    let reader = held.reader.as_ref().expect("it is read in parts");
                    assert!(!reader.has_ended);
                    return self.held.push(held);
                }
                Err(AnswerError::NoRoom) => {
                    assert!(length > ANSWER_BYTES_KEPT as usize && !is_in_parts);
                    return self.held.push(held);
                }
                answered => (answered.is_ok(), Ok(answer.clone())),
            },
            Say::Refusal(refusal) => {
                let error = match refusal {
                    Refusal::Busy { retry_after } => CallError::Busy { retry_after },
                    Refusal::Dropped => CallError::Dropped,
                };
                (machine.refuse(now, id, refusal), Err(error))
            }
        };
        let again = machine.answer(now, id, Bytes::new());
        assert_eq!(again, Err(AnswerError::Cancelled), "once");
        self.net.settle(at);
        assert!(is_taken || !self.is_awaited(&held), "somebody waits for it");
        if !is_taken {
            return self.assert_over(at, Stream::Request(id));
        }
        match held.number {
            Some(number) => {
                if let Some(made) = self.calls.get_mut(&number) {
                    made.said = Some(said);
                }
            }
            None => {
                let place = (node(held.request.from), at, held.route);
                self.blind.push((place, said));
            }
        }
        if is_in_parts {
            let giver = Giver::new(at, Stream::Request(id), answer);
            self.answering.push(Answering { held, giver, is_broken_off: false });
        } else {
            self.assert_over(at, Stream::Request(id));
        }
    }

    fn take_cancelled(&mut self, at: usize) -> bool {
        let Some(cancelled) = self.net.machines[at].poll_cancelled() else { return false };
        let is_it = |held: &Held| (held.at, held.request.id) == (at, cancelled.request);
        let nth = self.held.iter().position(is_it).expect("a request that is held");
        assert!(!self.is_awaited(&self.held[nth]), "somebody waits for it");
        assert!(!core::mem::replace(&mut self.held[nth].was_told, true), "told once");
        true
    }

    fn serve(&mut self, at: usize, route: usize, is_wanted: bool) {
        let served = self.net.machines[at].serve(self.net.now, ROUTES[route], is_wanted);
        assert_eq!(served, self.configs[at].routes[route].serves);
        self.net.settle(at);
        self.wanted[at][route] = is_wanted;
        if !is_wanted {
            let calls = self.calls.values_mut().filter(|made| (made.to, made.route) == (at, route));
            calls.for_each(|made| made.was_unwanted = true);
        }
    }

    // Bodies in parts.

    /// What an application gives to, or reads from, that is over gives and takes nothing.
    fn assert_over(&mut self, at: usize, stream: Stream) {
        let (machine, now) = (&mut self.net.machines[at], self.net.now);
        assert_eq!(machine.give(now, stream, Bytes::new()), Err(PartError::NotWanted));
        assert_eq!(machine.read(now, stream), Part::End);
    }

    fn givers(&mut self) -> Vec<&mut Giver> {
        let of_calls = self.calls.values_mut().filter(|made| !made.is_cancelled);
        let of_calls = of_calls.filter_map(|made| Some(&mut made.in_parts.as_mut()?.0));
        of_calls.chain(self.answering.iter_mut().map(|answering| &mut answering.giver)).collect()
    }

    fn give_part(&mut self, nth: usize, length: usize) {
        let mut givers = self.givers();
        let count = givers.len().max(1);
        let Some(giver) = givers.get_mut(nth % count) else { return };
        let (at, stream, part) = (giver.at, giver.stream, giver.part(length));
        let result = self.net.machines[at].give(self.net.now, stream, part);
        let mut givers = self.givers();
        givers[nth % count].gave(length, result);
        self.net.settle(at);
    }

    fn readers(&mut self) -> Vec<&mut Reader> {
        let of_calls = self.calls.values_mut().filter(|made| !made.is_cancelled);
        let of_calls = of_calls.filter_map(|made| Some(&mut made.in_parts.as_mut()?.1));
        of_calls.chain(self.held.iter_mut().filter_map(|held| held.reader.as_mut())).collect()
    }

    fn read_part(&mut self, nth: usize) {
        let mut readers = self.readers();
        let count = readers.len().max(1);
        let Some(reader) = readers.get_mut(nth % count) else { return };
        let (at, stream) = (reader.at, reader.stream);
        let part = self.net.machines[at].read(self.net.now, stream);
        let mut readers = self.readers();
        readers[nth % count].read(part);
        self.net.settle(at);
        match stream {
            Stream::Call(id) => self.check_answer(self.ids[&(at, id)]),
            Stream::Request(id) => self.check_request(at, id),
        }
    }

    /// What a caller has read is what the callee has said, as far as it is known.
    fn check_answer(&self, number: u64) {
        let made = &self.calls[&number];
        let (_, reader) = made.in_parts.as_ref().expect("it is read");
        match &made.said {
            Some(Ok(answer)) => assert!(answer.starts_with(&reader.got)),
            // Broken off, or refused.
            Some(Err(_)) => {}
            None => assert!(
                reader.got.is_empty()
                    || made.body.is_empty()
                    || self.reads_in_parts(made.to, made.route)
            ),
        }
    }

    /// What a callee has read is what the caller has given.
    fn check_request(&mut self, at: usize, id: RequestId) {
        let mut held = self.held.iter_mut();
        let held = held.find(|held| (held.at, held.request.id) == (at, id)).expect("it is held");
        let reader = held.reader.as_ref().expect("it is read");
        let length = held.request.in_parts.expect("it is read") as usize;
        assert!(reader.got.len() <= length);
        let is_new = held.number.is_none();
        held.number = reader.got.first_chunk().map(|start| u64::from_be_bytes(*start));
        let made = held.number.and_then(|number| self.calls.get_mut(&number));
        if let Some(made) = made {
            assert!(made.body.len() == length && made.body.starts_with(&reader.got));
            if is_new {
                made.hand_over((node(held.request.from), at, held.route), true);
            }
        }
        let is_cut = reader.has_ended && reader.got.len() < length;
        let held = self.held.iter().find(|held| (held.at, held.request.id) == (at, id));
        assert!(!is_cut || !self.is_awaited(held.expect("it is held")), "somebody waits for it");
    }

    fn break_off(&mut self, nth: usize) {
        let count = self.answering.len().max(1);
        let Some(answering) = self.answering.get_mut(nth % count) else { return };
        let (at, Stream::Request(id)) = (answering.giver.at, answering.giver.stream) else {
            unreachable!("of a request");
        };
        answering.is_broken_off = true;
        let (is_done, number) = (answering.giver.is_done(), answering.held.number);
        assert!(self.net.machines[at].break_off(id), "it is not over");
        if let Some(made) = number.and_then(|number| self.calls.get_mut(&number)) {
            match is_done {
                true => made.is_broken_off = true,
                false => made.said = Some(Err(CallError::Dropped)),
            }
        } else {
            let held = &self.answering[nth % count].held;
            let place = (node(held.request.from), at, held.route);
            self.blind.push((place, Err(CallError::Dropped)));
        }
        self.net.settle(at);
        self.take_stream_events();
        assert!(!self.net.machines[at].break_off(id), "once");
        self.assert_over(at, Stream::Request(id));
    }

    /// Applications are told at once what happens to bodies in parts.
    fn take_stream_events(&mut self) {
        for at in 0..NODES {
            while let Some(event) = self.net.machines[at].poll_stream() {
                match event {
                    StreamEvent::Writable(stream) => {
                        // Of what is over by now, nobody wants to know.
                        let mut givers = self.givers().into_iter();
                        let is_it = |giver: &&mut Giver| (giver.at, giver.stream) == (at, stream);
                        givers.find(is_it).into_iter().for_each(|giver| giver.writable());
                    }
                    StreamEvent::Readable(stream) => {
                        let mut readers = self.readers().into_iter();
                        let is_it =
                            |reader: &&mut Reader| (reader.at, reader.stream) == (at, stream);
                        readers.find(is_it).into_iter().for_each(|reader| reader.readable());
                    }
                    StreamEvent::Over { request, has_arrived } => {
                        let stream = Stream::Request(request);
                        let is_it = |of: &Answering| (of.giver.at, of.giver.stream) == (at, stream);
                        let nth = self.answering.iter().position(is_it).expect("told once");
                        let Answering { held, giver, is_broken_off } =
                            self.answering.swap_remove(nth);
                        assert!(giver.is_done() || !has_arrived);
                        let made = held.number.and_then(|number| self.calls.get(&number));
                        let is_slow = made.is_some_and(|made| self.net.now.since(made.at) >= SLOW);
                        let is_excused = has_arrived || is_broken_off || is_slow;
                        assert!(is_excused || !self.is_awaited(&held), "somebody waits for it");
                        self.assert_over(at, stream);
                    }
                }
            }
        }
    }

    // Both.

    fn give(&mut self, at: usize, permit: Permit, keeps: bool) {
        match keeps {
            true => self.permits.push((at, permit)),
            false => self.net.machines[at].release(permit),
        }
        self.net.settle(at);
    }

    fn release(&mut self, nth: usize) {
        if !self.permits.is_empty() {
            let (at, permit) = self.permits.swap_remove(nth % self.permits.len());
            self.give(at, permit, false);
        }
    }

    fn lose(&mut self, a: usize, b: usize) {
        let is_between = |made: &&mut Made| [(a, b), (b, a)].contains(&(made.from, made.to));
        self.calls.values_mut().filter(is_between).for_each(|made| made.is_lost = true);
    }

    fn elapse(&mut self, span: Duration) {
        self.net.now = self.net.now + span;
        (0..NODES).for_each(|at| self.net.settle(at));
    }

    fn check(&self) {
        for (at, machine) in self.net.machines.iter().enumerate() {
            let bound = self.configs[at].routes.iter().map(|route| 4 * route.body_bytes_max);
            assert!(machine.body_bytes() <= bound.sum());
        }
    }

    /// Each gives and reads what it has been told that it can. Whether anybody did.
    fn move_parts(&mut self) -> bool {
        let mut any = false;
        for nth in 0..self.givers().len() {
            let giver = &*self.givers()[nth];
            if giver.wants_to_give() {
                any = true;
                let length = giver.next_length();
                self.give_part(nth, length);
            }
        }
        for nth in 0..self.readers().len() {
            while self.readers()[nth].wants_to_read() {
                any = true;
                self.read_part(nth);
            }
        }
        self.take_stream_events();
        any
    }

    /// Applications do their work, and nothing is in the way: each call ends, without waiting.
    fn end(&mut self) {
        for (a, b) in [(0, 1), (0, 2), (1, 2)] {
            if !self.net.is_up(a, b) {
                self.net.connect(a, b);
            }
        }
        for turn in 0..1000 {
            self.net.run();
            self.take_stream_events();
            let mut any = self.move_parts();
            for at in 0..NODES {
                while self.take_cancelled(at) {}
                for route in 0..ROUTES.len() {
                    any |= self.take_request(at, route, false);
                }
                any |= self.take_outcome(at, false);
            }
            any |= !self.permits.is_empty();
            self.release(0);
            // What has not been read to its end is not answered, unless nobody waits for the answer.
            let is_read = |held: &Held| held.reader.as_ref().is_none_or(|reader| reader.has_ended);
            let is_due = |held: &Held| held.was_told || is_read(held);
            if let Some(nth) = self.held.iter().position(is_due) {
                any = true;
                self.say(nth, if turn & 1 == 0 { Say::Whole(50) } else { Say::InParts(50) });
            }
            if !any {
                break;
            }
        }
        self.net.run();
        self.take_stream_events();
        self.calls.retain(|_, made| !made.is_cancelled);
        assert!(self.calls.is_empty(), "{} calls go nowhere", self.calls.len());
        assert!(self.held.is_empty() && self.answering.is_empty());
        self.net.assert_quiet();
    }
}

/// Bytes drive three machines: each operation is a byte and its arguments.
pub(super) fn calls(data: &[u8]) {
    let (mut run, mut feed) = (Run::new(), Feed(data));
    while !feed.0.is_empty() {
        step(&mut run, &mut feed);
        run.take_stream_events();
        run.check();
    }
    run.end();
}

fn step(run: &mut Run, feed: &mut Feed<'_>) {
    let op = feed.below(41);
    // Two different nodes and a route.
    let byte = usize::from(feed.byte());
    let (at, route) = (byte % NODES, [0, 2, 1, 2][byte >> 6]);
    let other = (at + 1 + (byte >> 4) % (NODES - 1)) % NODES;
    match op {
        0..=5 | 32 | 33 => {
            let is_in_parts = op > 5;
            let lengths = if is_in_parts { LONG_LENGTHS } else { LENGTHS };
            let (length, how) = (lengths[feed.below(lengths.len())], feed.byte());
            let timeout = match how >> 1 & 7 {
                0 => Some(Duration::ZERO),
                1 => Some(Duration::from_millis(how.into())),
                2 => Some(Duration::MAX),
                3 => Some(Duration::from_secs(30)),
                _ => None,
            };
            let is_tell = how >> 4 == 0 && !is_in_parts;
            run.call((at, other, route), length, timeout, (how & 1 == 0, is_tell), is_in_parts);
        }
        6..=9 => {
            let (room, limit) = (usize::from(feed.byte()), usize::from(feed.byte()));
            let limit = if limit < 64 { limit } else { usize::MAX };
            run.net.send((at, other, route), room * room, limit, byte & 8 == 0);
        }
        10..=14 => {
            let streams = run.net.streams(at, other);
            let (nth, limit) = (usize::from(feed.byte()), usize::from(feed.byte()));
            if let Some(stream) = streams.get(nth % streams.len().max(1)) {
                run.net.deliver(at, other, *stream, limit * limit);
            }
        }
        15..=17 => drop(run.take_request(at, route, byte & 8 == 0)),
        18..=20 => {
            run.say(byte, Say::Whole(LENGTHS[feed.below(LENGTHS.len())]));
        }
        21 => run.say(byte, Say::Refusal(Refusal::Dropped)),
        22 => {
            let retry_after = Duration::from_millis(byte as u64);
            run.say(byte, Say::Refusal(Refusal::Busy { retry_after }));
        }
        23 => drop(run.take_outcome(at, byte & 8 == 0)),
        24 => run.release(byte),
        25 => run.cancel(byte),
        26 => drop(run.take_cancelled(at)),
        // Mostly short, and sometimes beyond grace and deadline.
        27 => run.elapse(Duration::from_millis(match byte >> 4 {
            0 => 6000,
            1 => 1500,
            _ => byte as u64,
        })),
        28 => run.serve(at, route, feed.byte() & 15 != 0),
        29 if byte & 0x38 == 0 => {
            run.lose(at, other);
            run.net.connect(at, other);
        }
        29 if byte & 0x38 == 8 => {
            run.lose(at, other);
            run.net.disconnect(at, other);
        }
        29 if byte & 0x38 == 16 => {
            run.lose(at, other);
            run.net.replace(at, other);
        }
        29 | 30 if !run.net.is_up(at, other) => run.net.connect(at, other),
        34 | 35 => {
            let what = LONG_LENGTHS[feed.below(LONG_LENGTHS.len())];
            run.say(byte, if op == 34 { Say::InParts(what) } else { Say::Whole(what) });
        }
        36 => run.give_part(byte, PART_LENGTHS[feed.below(PART_LENGTHS.len())]),
        37 | 38 => run.read_part(byte),
        39 if byte & 1 == 0 => run.break_off(byte >> 1),
        39 => drop(run.move_parts()),
        _ => run.net.run(),
    }
}
