//! Three machines that call each other over streams in memory, against what a call may come to: it
//! ends once, with what the callee said or with a reason that holds; a request is handed over once;
//! and when all has been said nothing is left.

use bytes::Bytes;
use core::time::Duration;
use std::collections::BTreeMap;

use super::feed::Feed;
use super::joined::{Joined, NODES, index, node};
use slotcast::config::{ChannelConfig, Config, RouteConfig};
use slotcast::error::{AnswerError, CallError};
use slotcast::id::{ChannelId, RouteId};
use slotcast::rpc::{CallId, Permit, Refusal, Request};
use slotcast::time::Time;

/// Route 0 has long answers, of which one peer may have one at a time; route 1 only short ones, so
/// that the caller's direction ends at once.
const ROUTES: [RouteId; 2] = [RouteId(3), RouteId(500)];

/// Bytes in requests and answers: none, short, what is sent at once, more, the longest, too many.
const LENGTHS: [usize; 8] = [0, 8, 100, 16_384, 16_385, 20_000, 40_000, 40_001];

/// Node 1 has narrower bounds than the others, and node 2 does not serve route 1.
fn config(at: usize) -> Config {
    let mut long = RouteConfig::new(ROUTES[0], "long").bytes_max(40_000, 40_000);
    (long.in_flight_max, long.waiting_max, long.body_bytes_max) = (2, 2, 60_000);
    (long.rate_min, long.deadline) = (1000, Duration::from_secs(8));
    let mut short = RouteConfig::new(ROUTES[1], "short").bytes_max(20_000, 100);
    (short.in_flight_max, short.waiting_max, short.body_bytes_max) = (3, 0, 20_000);
    for route in [&mut long, &mut short] {
        route.deadline_max = Duration::from_secs(20);
    }
    if at == 1 {
        (long.request_bytes_max, long.response_bytes_max) = (30_000, 20_000);
        long.in_flight_max = 1;
    }
    short.serves = at != 2;
    Config::new([ChannelConfig::new(ChannelId(1))]).routes([long, short])
}

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
}

/// A request in an application's hands.
struct Held {
    at: usize,
    request: Request,
    /// The call; of requests without a body nobody knows.
    number: Option<u64>,
    was_told: bool,
}

struct Run {
    net: Joined,
    configs: [Config; NODES],
    /// By number.
    calls: BTreeMap<u64, Made>,
    ids: BTreeMap<(usize, CallId), u64>,
    held: Vec<Held>,
    permits: Vec<(usize, Permit)>,
    wanted: [[bool; 2]; NODES],
    /// Answers to requests without a body, by caller, callee and route.
    blind: Vec<((usize, usize, usize), Said)>,
    count: u64,
}

/// Bytes that begin with a number, if they are as many.
fn numbered(number: u64, length: usize) -> Bytes {
    let mut bytes = vec![number as u8 ^ 0x5a; length];
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
            permits: Vec::new(),
            wanted: [[true; 2]; NODES],
            blind: Vec::new(),
            count: 0,
        };
        for at in 0..NODES {
            (0..at).for_each(|other| run.net.connect(at, other));
            (0..2).for_each(|route| run.serve(at, route, true));
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
    ) {
        self.count += 1;
        let (number, now) = (self.count, self.net.now);
        let body = numbered(number, length);
        let machine = &mut self.net.machines[from];
        let called = match is_tell {
            true => machine.tell(now, index(to), ROUTES[route], body.clone(), timeout),
            false => machine.call(now, index(to), ROUTES[route], body.clone(), timeout, waits),
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
        let made = Made {
            from,
            to,
            route,
            body,
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
        let is_slow = elapsed >= Duration::from_secs(5);
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
            result if made.body.is_empty() => {
                let place = (made.from, made.to, made.route);
                let said = self.blind.iter().position(|said| *said == (place, result.clone()));
                let said = said.expect("the callee has said that");
                drop(self.blind.swap_remove(said));
            }
            result => assert_eq!(made.said, Some(result)),
        }
        true
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
        if let Some(number) = number
            && let Some(made) = self.calls.get_mut(&number)
        {
            assert_eq!((made.from, made.to, made.route), (from, at, route));
            assert!(made.body == request.body && made.is_tell != request.wants_answer);
            assert!(
                !core::mem::replace(&mut made.was_handed, true),
                "a request is handed over once"
            );
        }
        if !request.wants_answer {
            return true;
        }
        self.held.push(Held { at, request, number, was_told: false });
        let is_same = |held: &&Held| {
            let of = self.route_of(held);
            (held.at, node(held.request.from), of) == (at, from, route)
        };
        let in_flight = self.held.iter().filter(is_same).count();
        assert!(in_flight <= config.in_flight_max.into(), "no more than are taken at once");
        true
    }

    /// By the answers that it allows: each pair of nodes has another bound on each route.
    fn route_of(&self, held: &Held) -> usize {
        usize::from(held.request.answer_bytes_max <= 100)
    }

    /// Whether somebody surely waits for the answer.
    fn is_awaited(&self, held: &Held) -> bool {
        let Some(made) = held.number.and_then(|number| self.calls.get(&number)) else {
            return false;
        };
        let until = made.deadline.min(held.request.deadline);
        !made.is_cancelled && !made.is_lost && self.net.now < until
    }

    fn say(&mut self, nth: usize, length: usize, refusal: Option<Refusal>) {
        if self.held.is_empty() {
            return;
        }
        let held = self.held.swap_remove(nth % self.held.len());
        let (at, id, now) = (held.at, held.request.id, self.net.now);
        let machine = &mut self.net.machines[at];
        self.count += 1;
        let answer = numbered(self.count, length);
        let (is_taken, said) = match refusal {
            None => match machine.answer(now, id, answer.clone()) {
                Err(AnswerError::DeadlineMaxPassed) => {
                    assert!(now >= held.request.deadline);
                    (false, Ok(answer))
                }
                Err(AnswerError::TooLong) => {
                    assert!(length > held.request.answer_bytes_max as usize);
                    return self.held.push(held);
                }
                answered => (answered.is_ok(), Ok(answer)),
            },
            Some(refusal) => {
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
            return;
        }
        match held.number {
            Some(number) => {
                if let Some(made) = self.calls.get_mut(&number) {
                    made.said = Some(said);
                }
            }
            None => {
                let place = (node(held.request.from), at, self.route_of(&held));
                self.blind.push((place, said));
            }
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

    /// Applications do their work, and nothing is in the way: each call ends, without waiting.
    fn end(&mut self) {
        for (a, b) in [(0, 1), (0, 2), (1, 2)] {
            if !self.net.is_up(a, b) {
                self.net.connect(a, b);
            }
        }
        for _ in 0..100 {
            self.net.run();
            let mut any = false;
            for at in 0..NODES {
                while self.take_cancelled(at) {}
                for route in 0..2 {
                    any |= self.take_request(at, route, false);
                }
                any |= self.take_outcome(at, false);
            }
            any |= !self.held.is_empty() || !self.permits.is_empty();
            self.release(0);
            self.say(0, 50, None);
            if !any {
                break;
            }
        }
        self.net.run();
        self.calls.retain(|_, made| !made.is_cancelled);
        assert!(self.calls.is_empty(), "{} calls go nowhere", self.calls.len());
        self.net.assert_quiet();
    }
}

/// Bytes drive three machines: each operation is a byte and its arguments.
pub(super) fn calls(data: &[u8]) {
    let (mut run, mut feed) = (Run::new(), Feed(data));
    while !feed.0.is_empty() {
        step(&mut run, &mut feed);
        run.check();
    }
    run.end();
}

fn step(run: &mut Run, feed: &mut Feed<'_>) {
    let op = feed.below(32);
    // Two different nodes and a route.
    let byte = usize::from(feed.byte());
    let (at, route) = (byte % NODES, byte >> 7);
    let other = (at + 1 + (byte >> 4) % (NODES - 1)) % NODES;
    match op {
        0..=5 => {
            let (length, how) = (LENGTHS[feed.below(LENGTHS.len())], feed.byte());
            let timeout = match how >> 1 & 7 {
                0 => Some(Duration::ZERO),
                1 => Some(Duration::from_millis(how.into())),
                2 => Some(Duration::MAX),
                3 => Some(Duration::from_secs(30)),
                _ => None,
            };
            run.call((at, other, route), length, timeout, (how & 1 == 0, how >> 4 == 0));
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
            let length = LENGTHS[feed.below(LENGTHS.len())];
            run.say(byte, length, None);
        }
        21 => run.say(byte, 0, Some(Refusal::Dropped)),
        22 => {
            let retry_after = Duration::from_millis(byte as u64);
            run.say(byte, 0, Some(Refusal::Busy { retry_after }));
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
        _ => run.net.run(),
    }
}
