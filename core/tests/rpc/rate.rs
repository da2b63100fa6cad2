//! The minimum rate: what comes more slowly is given up after five seconds' grace; waiting for this
//! node's own room does not count.

use std::time::Duration;

use slotcast::error::CallError;
use slotcast::rpc::{CallStream, Output};
use slotcast::wire::{CallReset, Reply};

use crate::solo::{Solo, close, close_for, head, reply};
use crate::web::{ROUTE, body, config, ms, peer};

const SECOND: Duration = Duration::from_secs(1);

/// A machine that waits for long, and for 100 bytes a second.
fn patient() -> Solo {
    let config = config(|route| {
        (route.rate_min, route.deadline) = (100, 300 * SECOND);
        route.body_bytes_max = route.request_bytes_max.into();
    });
    Solo::new(&config, 2)
}

/// Bytes come at a rate, each second, until the machine closes the stream or the time is over: in
/// which second.
fn trickle(solo: &mut Solo, stream: CallStream, rate: usize, seconds: u32) -> Option<u32> {
    for second in 0..seconds {
        assert_eq!(solo.data(0, stream, &vec![0; rate]), Ok(rate), "after {second} s");
        solo.elapse(SECOND);
        match &solo.outputs()[..] {
            [] => {}
            [Output::Close { peer: of, stream: closed, .. }]
                if (*of, *closed) == (peer(0), stream) =>
            {
                return Some(second);
            }
            outputs => panic!("{outputs:?}"),
        }
    }
    None
}

/// A request of which nothing but the head has come.
fn begun(solo: &mut Solo, length: usize) -> CallStream {
    let stream = solo.open(0);
    let head = [head(length)].concat();
    let timeout = [0x80, 0x04, 0x93, 0xe0];
    // Ten seconds, in the third field, become five minutes.
    let head = [&[head[0], head[1] + 2, head[2]][..], &timeout, &head[5..]].concat();
    assert_eq!(solo.data(0, stream, &head), Ok(head.len()));
    stream
}

/// The same for an answer.
fn answering(solo: &mut Solo, length: u32) -> CallStream {
    let (_, stream) = solo.call(0, 10);
    let bytes = reply(Reply::Answer { length });
    assert_eq!(solo.data(0, stream, &bytes), Ok(bytes.len()));
    stream
}

#[test]
fn a_request_that_comes_too_slowly_is_given_up() {
    // At half the rate, each second earns another half.
    for (rate, closed) in [(1, Some(5)), (50, Some(9)), (99, None), (100, None)] {
        let mut solo = patient();
        let stream = begun(&mut solo, 100_000);
        let slow = trickle(&mut solo, stream, rate, 60);
        assert_eq!(slow, closed, "at {rate} bytes per second");
        if slow.is_some() {
            solo.assert_quiet();
        }
    }
}

#[test]
fn an_answer_that_comes_too_slowly_is_given_up() {
    for (rate, closed) in [(1, Some(5)), (50, Some(9)), (99, None), (100, None)] {
        let mut solo = patient();
        let stream = answering(&mut solo, 10_000);
        let slow = trickle(&mut solo, stream, rate, 60);
        assert_eq!(slow, closed, "at {rate} bytes per second");
        if slow.is_some() {
            let (outcome, _) = solo.machine.poll_outcome().expect("it has ended");
            assert_eq!(outcome.result, Err(CallError::TooSlow));
            solo.assert_quiet();
        }
    }
}

#[test]
fn a_body_of_which_nothing_comes_is_given_up_after_the_grace() {
    let mut solo = patient();
    let stream = begun(&mut solo, 1);
    solo.elapse(5 * SECOND - ms(1));
    assert_eq!(solo.outputs(), []);
    solo.elapse(ms(1));
    assert_eq!(solo.outputs(), [close_for(0, stream, CallReset::TooSlow)]);
    solo.assert_quiet();
}

/// A request that waits for room is not slow, and has its grace once there is some.
#[test]
fn a_request_that_waits_for_room_is_not_slow() {
    let mut solo = patient();
    solo.ask(1, 1 << 20);
    let (_, permit) = solo.machine.poll_request(ROUTE, |_| true).expect("it has come");
    let stream = begun(&mut solo, 1000);
    solo.elapse(100 * SECOND);
    let closed: Vec<_> = solo.outputs();
    assert_eq!(closed.len(), 1, "the request of the other, after its ten seconds: {closed:?}");
    assert_eq!(solo.wants(0, stream), 0);
    let late = solo.cancelled().expect("the other");
    assert!(!solo.machine.refuse(solo.now, late, slotcast::rpc::Refusal::Dropped));
    solo.machine.release(permit);
    solo.settle();
    assert_eq!(solo.outputs(), [Output::Read { peer: peer(0), stream }]);
    assert_eq!(solo.wants(0, stream), 1000);
    solo.elapse(5 * SECOND - ms(1));
    assert_eq!(solo.outputs(), []);
    solo.elapse(ms(1));
    assert_eq!(solo.outputs(), [close_for(0, stream, CallReset::TooSlow)]);
    solo.assert_quiet();
}

/// The same of an answer: neither its start, which was prepaid, nor the time that it waits count.
#[test]
fn an_answer_that_waits_for_room_is_not_slow() {
    let mut solo = patient();
    let first = answering(&mut solo, 1 << 20);
    assert_eq!(solo.data(0, first, &body(1 << 20)), Ok(1 << 20));
    solo.end(0, first).expect("complete");
    let (outcome, permit) = solo.machine.poll_outcome().expect("answered");
    assert!(outcome.result.is_ok());
    solo.outputs();
    solo.sent();
    let stream = answering(&mut solo, 100_000);
    let prepaid = 16 << 10;
    assert_eq!(solo.data(0, stream, &body(100_000)), Ok(prepaid));
    assert!(solo.machine.awaits_budget());
    solo.elapse(200 * SECOND);
    assert_eq!(solo.outputs(), []);
    solo.machine.release(permit);
    solo.settle();
    assert_eq!(solo.outputs(), [Output::Read { peer: peer(0), stream }]);
    assert_eq!(solo.wants(0, stream), 100_000 - prepaid);
    solo.elapse(5 * SECOND - ms(1));
    assert_eq!(solo.outputs(), []);
    solo.elapse(ms(1));
    assert_eq!(solo.outputs(), [close(0, stream)]);
    let (outcome, _) = solo.machine.poll_outcome().expect("it has ended");
    assert_eq!(outcome.result, Err(CallError::TooSlow));
    solo.assert_quiet();
}

/// What has come completely is not slow, however long its end takes.
#[test]
fn only_the_deadline_ends_what_is_complete_but_for_its_end() {
    let mut solo = patient();
    let stream = begun(&mut solo, 3);
    assert_eq!(solo.data(0, stream, &body(3)), Ok(3));
    let asked = solo.request();
    let (_, own) = solo.call(1, 10);
    let bytes = [reply(Reply::Answer { length: 2 }), body(2).to_vec()].concat();
    assert_eq!(solo.data(1, own, &bytes), Ok(bytes.len()));
    solo.elapse(299 * SECOND);
    assert_eq!(solo.outputs(), []);
    solo.elapse(SECOND);
    assert_eq!(solo.outputs().len(), 2);
    assert_eq!(solo.cancelled(), Some(asked.id));
    let (outcome, _) = solo.machine.poll_outcome().expect("it has ended");
    assert_eq!(outcome.result, Err(CallError::DeadlinePassed));
}
