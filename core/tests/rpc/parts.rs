//! Bodies in parts: given piece by piece, read while they arrive, and never more of them held than the
//! window, however long they are.

use bytes::Bytes;
use slotcast::config::Config;
use slotcast::error::{AnswerError, CallError, Fault, PartError};
use slotcast::rpc::{
    ANSWER_BYTES_KEPT, Body, CallId, Outcome, Output, PART_BYTES_MAX, Part, Refusal, Request,
    RequestId, STREAM_BYTES_KEPT, Stream, StreamEvent,
};
use slotcast::wire::{Malformed, Reply, RouteHello};

use crate::solo::{Solo, head, reply};
use crate::web::{ROUTE, Web, body, config, hello, ms, peer};

const LONG: usize = 8 << 20;
/// Bytes that arrive ahead of a reader.
const AHEAD: usize = STREAM_BYTES_KEPT as usize / 2;

fn in_parts() -> Config {
    config(|route| {
        *route = route.clone().bytes_max(LONG as u32, LONG as u32).reads_in_parts();
    })
}

/// Two machines; 0 calls 1.
struct Pair {
    web: Web,
    events: [Vec<StreamEvent>; 2],
    /// The most bytes of bodies that each has held.
    most: [u64; 2],
}

impl Pair {
    fn new() -> Self {
        Self::of(&in_parts())
    }

    fn of(config: &Config) -> Self {
        Self { web: Web::pair(config), events: Default::default(), most: [0; 2] }
    }

    fn run(&mut self) {
        self.web.run();
        for at in 0..2 {
            while let Some(event) = self.web.nodes[at].poll_stream() {
                self.events[at].push(event);
            }
            self.most[at] = self.most[at].max(self.web.nodes[at].body_bytes());
        }
    }

    fn told(&mut self, at: usize, event: StreamEvent) -> bool {
        let before = self.events[at].len();
        self.events[at].retain(|other| *other != event);
        before > self.events[at].len()
    }

    fn call(&mut self, length: usize) -> CallId {
        let web = &mut self.web;
        let call =
            web.nodes[0].call(web.now, peer(1), ROUTE, Body::InParts(length as u32), None, true);
        self.run();
        call.expect("there is credit")
    }

    #[track_caller]
    fn request(&mut self) -> Request {
        let (request, permit) = self.web.nodes[1].poll_request(ROUTE, |_| true).expect("a request");
        self.web.nodes[1].release(permit);
        request
    }

    fn give(&mut self, at: usize, stream: Stream, part: Bytes) -> Result<(), PartError> {
        let given = self.web.nodes[at].give(self.web.now, stream, part);
        self.run();
        given
    }

    fn read(&mut self, at: usize, stream: Stream) -> Part {
        let part = self.web.nodes[at].read(self.web.now, stream);
        self.run();
        part
    }

    /// Gives all of a body from one end, and reads it at the other, each as soon as it can. How often the
    /// giver had to wait for the reader.
    #[track_caller]
    fn carry(&mut self, from: usize, give: Stream, read: Stream, bytes: &Bytes) -> usize {
        let (mut given, mut got, mut waits) = (0, Vec::new(), 0);
        while got.len() < bytes.len() {
            let end = bytes.len().min(given + PART_BYTES_MAX);
            match self.give(from, give, bytes.slice(given..end)) {
                Ok(()) => given = end,
                Err(PartError::NotYet | PartError::NotWanted) => waits += 1,
                Err(error) => panic!("{error}"),
            }
            if let Part::Bytes(part) = self.read(1 - from, read) {
                assert!(part.len() <= 2 * AHEAD);
                got.extend_from_slice(&part);
            }
        }
        assert!(got == bytes[..], "as it was given");
        assert_eq!(self.read(1 - from, read), Part::End);
        waits
    }

    fn answer(&mut self, request: RequestId, length: usize) -> Result<(), AnswerError> {
        let web = &mut self.web;
        let answered = web.nodes[1].answer(web.now, request, Body::InParts(length as u32));
        self.run();
        answered
    }

    fn outcome(&mut self) -> Option<Result<Bytes, CallError>> {
        let (Outcome { result, .. }, permit) = self.web.nodes[0].poll_outcome()?;
        self.web.nodes[0].release(permit);
        Some(result)
    }

    #[track_caller]
    fn assert_quiet(&self) {
        for node in &self.web.nodes {
            assert_eq!((node.len(), node.body_bytes()), (0, 0));
        }
        assert_eq!(self.web.faults, []);
    }
}

#[test]
fn long_bodies_both_ways_take_no_more_room_than_the_window() {
    let mut pair = Pair::new();
    let (ask, answer) = (body(LONG), body(LONG - 1));
    let call = pair.call(LONG);
    let request = pair.request();
    assert_eq!((request.in_parts, request.body.len()), (Some(LONG as u32), 0));
    let (caller, callee) = (Stream::Call(call), Stream::Request(request.id));
    pair.carry(0, caller, callee, &ask);
    assert_eq!(pair.answer(request.id, answer.len()), Ok(()));
    pair.carry(1, callee, caller, &answer);
    assert_eq!(pair.outcome(), Some(Ok(Bytes::new())));
    let kept = u64::from(STREAM_BYTES_KEPT + ANSWER_BYTES_KEPT);
    assert!(pair.most.iter().all(|most| *most <= kept), "{:?}", pair.most);
    let over = StreamEvent::Over { request: request.id, has_arrived: true };
    assert!(pair.told(1, over));
    pair.assert_quiet();
}

#[test]
fn who_does_not_read_lets_the_giver_wait() {
    let mut pair = Pair::new();
    let (bytes, call) = (body(LONG), pair.call(LONG));
    let request = pair.request();
    let (caller, callee) = (Stream::Call(call), Stream::Request(request.id));
    let mut given = 0;
    while pair.give(0, caller, bytes.slice(given..given + PART_BYTES_MAX)).is_ok() {
        given += PART_BYTES_MAX;
        assert!(given < LONG, "nobody reads");
    }
    assert!(pair.web.carried[&(0, 1)] <= AHEAD + 64, "what there is room for, and the head");
    assert!(pair.told(0, StreamEvent::Writable(caller)), "for the parts that went");
    pair.run();
    assert!(!pair.told(0, StreamEvent::Writable(caller)));
    let Part::Bytes(part) = pair.read(1, callee) else { panic!("some has arrived") };
    assert_eq!(part, bytes[..AHEAD]);
    assert!(pair.told(0, StreamEvent::Writable(caller)), "there is room again");
}

#[test]
fn a_reader_that_waits_is_told_once_when_there_is_more() {
    let mut pair = Pair::new();
    let call = pair.call(200);
    let request = pair.request();
    let (caller, callee) = (Stream::Call(call), Stream::Request(request.id));
    assert_eq!(pair.read(1, callee), Part::None);
    assert_eq!(pair.read(0, caller), Part::None);
    for half in [0..100, 100..200] {
        assert_eq!(pair.read(1, callee), Part::None);
        assert_eq!(pair.give(0, caller, body(200).slice(half.clone())), Ok(()));
        assert!(pair.told(1, StreamEvent::Readable(callee)));
        assert_eq!(pair.read(1, callee), Part::Bytes(body(200).slice(half)));
        assert!(!pair.told(1, StreamEvent::Readable(callee)));
    }
    assert_eq!(pair.read(1, callee), Part::End);
    assert_eq!(pair.answer(request.id, 3), Ok(()));
    assert!(!pair.told(0, StreamEvent::Readable(caller)), "nothing is there yet");
    assert_eq!(pair.give(1, callee, body(3)), Ok(()));
    assert!(pair.told(0, StreamEvent::Readable(caller)));
    assert_eq!(pair.read(0, caller), Part::Bytes(body(3)));
    assert_eq!(pair.read(0, caller), Part::End);
    assert_eq!(pair.outcome(), Some(Ok(Bytes::new())));
    pair.assert_quiet();
}

#[test]
fn bodies_without_bytes_come_to_their_end() {
    let mut pair = Pair::new();
    let call = pair.call(0);
    let request = pair.request();
    assert_eq!(pair.read(1, Stream::Request(request.id)), Part::End);
    assert_eq!(pair.read(0, Stream::Call(call)), Part::None);
    assert_eq!(pair.answer(request.id, 0), Ok(()));
    assert!(pair.told(0, StreamEvent::Readable(Stream::Call(call))));
    assert_eq!(pair.read(0, Stream::Call(call)), Part::End);
    assert_eq!(pair.outcome(), Some(Ok(Bytes::new())));
    pair.assert_quiet();
}

#[test]
fn a_whole_answer_can_be_read_in_parts_and_a_whole_request_too() {
    let mut pair = Pair::new();
    pair.web.call(0, 1, body(LONG));
    pair.run();
    let request = pair.request();
    let mut got = Vec::new();
    while let Part::Bytes(part) = pair.read(1, Stream::Request(request.id)) {
        got.extend_from_slice(&part);
    }
    assert!(got == body(LONG));
    pair.web.nodes[1].answer(pair.web.now, request.id, body(9)).expect("it is read");
    pair.run();
    assert_eq!(pair.outcome(), Some(Ok(body(9))));

    let call = pair.call(0);
    let request = pair.request();
    pair.web.nodes[1].answer(pair.web.now, request.id, body(LONG)).expect("there is room");
    pair.run();
    assert_eq!(pair.web.nodes[0].body_bytes(), u64::from(STREAM_BYTES_KEPT));
    let mut got = Vec::new();
    while let Part::Bytes(part) = pair.read(0, Stream::Call(call)) {
        got.extend_from_slice(&part);
    }
    assert!(got == body(LONG));
    assert_eq!(pair.outcome(), Some(Ok(Bytes::new())));
    pair.assert_quiet();
}

/// An older node does not know credit for a part: for its bodies there is room as for whole ones.
#[test]
fn an_older_peer_is_given_room_for_all_of_its_body() {
    let config = in_parts();
    let mut pair = Pair::of(&config);
    let older: Vec<RouteHello> =
        hello(&config).iter().map(|route| RouteHello { knows_grants: false, ..*route }).collect();
    for at in 0..2 {
        pair.web.nodes[at].peer_up(peer(1 - at), &older);
        pair.web.settle(at);
    }
    let call = pair.call(1 << 20);
    let request = pair.request();
    assert_eq!(pair.web.nodes[1].body_bytes(), (1 << 20) + u64::from(ANSWER_BYTES_KEPT));
    let (caller, callee) = (Stream::Call(call), Stream::Request(request.id));
    pair.carry(0, caller, callee, &body(1 << 20));
    assert_eq!(pair.answer(request.id, 1 << 20), Ok(()));
    assert_eq!(pair.web.nodes[0].body_bytes(), 1 << 20);
    pair.carry(1, callee, caller, &body(1 << 20));
    assert_eq!(pair.outcome(), Some(Ok(Bytes::new())));
    pair.assert_quiet();
}

#[test]
fn parts_that_are_too_long_or_not_wanted_change_nothing() {
    let mut pair = Pair::new();
    let call = pair.call(100);
    let caller = Stream::Call(call);
    assert_eq!(pair.give(0, caller, body(101)), Err(PartError::TooLong));
    assert_eq!(pair.give(0, caller, Bytes::new()), Ok(()));
    assert!(pair.told(0, StreamEvent::Writable(caller)));
    assert_eq!(pair.give(0, caller, body(60)), Ok(()));
    assert_eq!(pair.give(0, caller, body(41)), Err(PartError::TooLong));
    let request = pair.request();
    let callee = Stream::Request(request.id);
    assert_eq!(pair.give(1, callee, body(1)), Err(PartError::NotWanted), "nothing was answered");
    assert_eq!(pair.answer(request.id, 5), Err(AnswerError::NotRead));
    assert_eq!(pair.give(0, caller, body(40)), Ok(()));
    assert_eq!(pair.answer(request.id, LONG + 1), Err(AnswerError::TooLong));
    assert_eq!(pair.answer(request.id, LONG), Ok(()));
    let long = pair.call(PART_BYTES_MAX + 1);
    let too_long = pair.give(0, Stream::Call(long), body(PART_BYTES_MAX + 1));
    assert_eq!(too_long, Err(PartError::TooLong));
    pair.web.call(0, 1, body(5));
    assert_eq!(pair.give(0, Stream::Request(request.id), body(1)), Err(PartError::NotWanted));
}

#[test]
fn a_caller_that_gives_up_ends_what_is_read() {
    let mut pair = Pair::new();
    let call = pair.call(LONG);
    let request = pair.request();
    pair.give(0, Stream::Call(call), body(1000)).expect("the first part");
    assert!(pair.web.nodes[0].cancel(call));
    pair.run();
    assert_eq!(pair.give(0, Stream::Call(call), body(1)), Err(PartError::NotWanted));
    let cancelled = pair.web.nodes[1].poll_cancelled().expect("it is told");
    assert_eq!(cancelled.request, request.id);
    assert_eq!(pair.read(1, Stream::Request(request.id)), Part::End);
    assert!(!pair.web.nodes[1].refuse(pair.web.now, request.id, Refusal::Dropped));
    pair.run();
    pair.assert_quiet();
}

#[test]
fn an_answer_that_is_broken_off_ends_the_call() {
    let mut pair = Pair::new();
    let call = pair.call(0);
    let request = pair.request();
    assert_eq!(pair.answer(request.id, 1000), Ok(()));
    pair.give(1, Stream::Request(request.id), body(10)).expect("the first part");
    assert!(pair.web.nodes[1].break_off(request.id));
    pair.run();
    assert!(pair.told(1, StreamEvent::Over { request: request.id, has_arrived: false }));
    assert!(!pair.web.nodes[1].break_off(request.id));
    assert_eq!(pair.outcome(), Some(Err(CallError::Dropped)));
    assert_eq!(pair.read(0, Stream::Call(call)), Part::End);
    pair.assert_quiet();
}

#[test]
fn a_giver_that_is_too_slow_is_given_up_and_a_slow_reader_is_not_its_fault() {
    let mut pair = Pair::new();
    let call = pair.call(LONG);
    let request = pair.request();
    let (caller, callee) = (Stream::Call(call), Stream::Request(request.id));
    let mut given = 0;
    while pair.give(0, caller, body(LONG).slice(given..given + PART_BYTES_MAX)).is_ok() {
        given += PART_BYTES_MAX;
    }
    pair.web.elapse(ms(8000));
    assert_eq!(pair.web.nodes[1].poll_cancelled(), None, "the window is full");
    while let Part::Bytes(_) = pair.read(1, callee) {}
    pair.web.elapse(ms(1000));
    assert_eq!(pair.web.nodes[1].poll_cancelled(), None);

    let mut pair = Pair::new();
    let call = pair.call(LONG);
    let request = pair.request();
    pair.give(0, Stream::Call(call), body(10)).expect("the first part");
    pair.web.elapse(ms(6000));
    assert_eq!(pair.outcome(), Some(Err(CallError::TooSlow)));
    assert!(pair.web.nodes[1].poll_cancelled().is_some_and(|c| c.request == request.id));
}

/// From when there is room again.
#[test]
fn a_giver_that_does_not_go_on_when_it_can_is_given_up() {
    let mut solo = Solo::new(&in_parts(), 1);
    let stream = solo.open(0);
    solo.data(0, stream, &head(LONG)).expect("no fault");
    let request = solo.request();
    assert_eq!(solo.data(0, stream, &body(LONG)), Ok(AHEAD), "then it waits for the reader");
    solo.elapse(ms(3000));
    solo.outputs();
    let part = solo.machine.read(solo.now, Stream::Request(request.id));
    assert_eq!(part, Part::Bytes(body(LONG).slice(..AHEAD)));
    solo.settle();
    assert_eq!(solo.outputs(), [Output::Read { peer: peer(0), stream }], "more may be there");
    solo.elapse(ms(4999));
    assert_eq!(solo.cancelled(), None);
    solo.elapse(ms(1));
    assert_eq!(solo.cancelled(), Some(request.id));
}

/// Room that it has not used up is no reason to wait.
#[test]
fn a_giver_that_lags_behind_the_rate_is_given_up_however_much_is_granted() {
    let config = config(|route| {
        *route = route.clone().bytes_max(LONG as u32, LONG as u32).reads_in_parts();
        route.rate_min = 1 << 20;
    });
    let mut solo = Solo::new(&config, 1);
    let stream = solo.open(0);
    solo.data(0, stream, &head(LONG)).expect("no fault");
    let request = solo.request();
    for _ in 0..5 {
        assert_eq!(solo.data(0, stream, &body(150_000)), Ok(150_000));
        let part = solo.machine.read(solo.now, Stream::Request(request.id));
        assert_eq!(part, Part::Bytes(body(150_000)));
        assert_eq!(solo.cancelled(), None);
        solo.elapse(ms(1000));
    }
    solo.elapse(ms(1000));
    assert_eq!(solo.cancelled(), Some(request.id), "750,000 bytes in six seconds");
}

/// A member may send what it was not told that there is room for, and take nothing.
#[test]
fn credit_that_the_transport_does_not_take_is_bounded() {
    let mut solo = Solo::new(&in_parts(), 1);
    let stream = solo.open(0);
    solo.data(0, stream, &head(LONG)).expect("no fault");
    let request = solo.request();
    let mut given = 0;
    let mut fill = |solo: &mut Solo| {
        let before = given;
        while given < LONG {
            let taken = solo.data(0, stream, &body(LONG)[given..]).expect("no fault");
            if taken == 0 {
                break;
            }
            given += taken;
            let part = solo.machine.read(solo.now, Stream::Request(request.id));
            assert!(matches!(part, Part::Bytes(bytes) if bytes.len() == taken));
            solo.settle();
        }
        given - before
    };
    let at_first = fill(&mut solo);
    assert!((AHEAD..16 * AHEAD).contains(&at_first), "{at_first}");
    assert_eq!(solo.sent().len(), 1, "what it was granted");
    assert!(fill(&mut solo) >= AHEAD / 2);
}

#[test]
fn a_request_that_breaks_off_while_it_is_read_is_a_fault() {
    let mut solo = Solo::new(&in_parts(), 1);
    let stream = solo.ask(0, 1000);
    let whole = solo.request();
    let broken = solo.open(0);
    solo.data(0, broken, &[head(1000), body(10).to_vec()].concat()).expect("no fault");
    let request = solo.request();
    assert_eq!(solo.end(0, broken), Err(Fault::Malformed(Malformed::Truncated)));
    assert_eq!(solo.cancelled(), Some(request.id));
    assert_eq!(solo.end(0, stream), Ok(()));
    assert_eq!(solo.machine.read(solo.now, Stream::Request(whole.id)), Part::Bytes(body(1000)));
}

#[test]
fn what_was_read_to_its_end_makes_room_before_it_is_answered() {
    let config = config(|route| {
        *route = route.clone().bytes_max(300_000, 10).reads_in_parts();
        route.body_bytes_max = 300_000;
    });
    let mut solo = Solo::new(&config, 1);
    solo.ask(0, 200_000);
    let request = solo.request();
    let second = solo.ask(0, 200_000);
    assert_eq!(solo.wants(0, second), 0);
    let read = |solo: &mut Solo| solo.machine.read(solo.now, Stream::Request(request.id));
    assert_eq!(read(&mut solo), Part::Bytes(body(200_000)));
    solo.settle();
    assert_eq!(solo.wants(0, second), 0, "it may be in the reader's hands");
    assert_eq!(read(&mut solo), Part::End);
    solo.settle();
    assert_eq!(solo.wants(0, second), 200_000);
}

#[test]
fn the_deadline_ends_an_answer_that_is_not_read() {
    let mut pair = Pair::new();
    let call = pair.call(0);
    let request = pair.request();
    assert_eq!(pair.answer(request.id, LONG), Ok(()));
    let mut given = 0;
    while pair.give(1, Stream::Request(request.id), body(LONG).slice(given..given + 1000)).is_ok() {
        given += 1000;
    }
    pair.web.elapse(ms(10_000));
    pair.run();
    assert_eq!(pair.outcome(), Some(Err(CallError::DeadlinePassed)));
    assert_eq!(pair.read(0, Stream::Call(call)), Part::End);
    assert!(pair.told(1, StreamEvent::Over { request: request.id, has_arrived: false }));
    pair.assert_quiet();
}

#[test]
fn a_lost_connection_ends_both_ends() {
    let mut pair = Pair::new();
    let call = pair.call(LONG);
    let request = pair.request();
    pair.give(0, Stream::Call(call), body(10)).expect("the first part");
    pair.web.down(0, 1);
    pair.run();
    assert_eq!(pair.outcome(), Some(Err(CallError::Disconnected)));
    assert_eq!(pair.web.nodes[1].poll_cancelled().map(|c| c.request), Some(request.id));
    assert!(!pair.web.nodes[1].refuse(pair.web.now, request.id, Refusal::Dropped));
    pair.assert_quiet();
}

/// Else a peer could send them without end.
#[test]
fn a_grant_of_nothing_more_is_a_fault() {
    let grant = |until| reply(Reply::Grant { until });
    let mut solo = Solo::new(&in_parts(), 1);
    let stream = solo.ask(0, 0);
    assert!(solo.data(0, stream, &grant(20_000)).is_ok());
    assert!(solo.data(0, stream, &grant(20_001)).is_ok());
    assert_eq!(solo.data(0, stream, &grant(20_001)), Err(Fault::ReplyMisplaced));
    // The same for a request.
    let (_, stream) = solo.call(0, LONG);
    assert!(solo.data(0, stream, &grant(20_000)).is_ok());
    assert_eq!(solo.data(0, stream, &grant(20_000)), Err(Fault::ReplyMisplaced));
}

/// It comes in pieces, as in packets.
#[test]
fn a_part_holds_no_more_memory_than_its_bytes() {
    let mut solo = Solo::new(&in_parts(), 1);
    let stream = solo.open(0);
    solo.data(0, stream, &head(LONG)).expect("no fault");
    let request = solo.request();
    for piece in body(AHEAD).chunks(1_200) {
        assert_eq!(solo.data(0, stream, piece), Ok(piece.len()));
    }
    let Part::Bytes(part) = solo.machine.read(solo.now, Stream::Request(request.id)) else {
        panic!("there is something");
    };
    let buffer = part.try_into_mut().expect("nobody else has it");
    assert_eq!((buffer.len(), buffer.capacity()), (AHEAD, AHEAD));
}
