//! Deadlines: what a head says, what a callee makes of it, and what happens at one instant. That a
//! deadline holds in each phase, [`crate::phases`] shows.

use std::time::Duration;

use slotcast::error::{AnswerError, CallError};
use slotcast::time::Time;
use slotcast::wire::{CallReset, Reply};

use crate::solo::{Solo, close, close_for, head_in, head_of, reply};
use crate::web::{ROUTE, Web, body, config, ms, peer};

/// What the head of a call says, that is sent when `waited` of its timeout has passed.
fn told(timeout: Duration, waited: Duration) -> u32 {
    let mut solo = Solo::new(&config(|_| {}), 1);
    let call = solo.machine.call(solo.now, peer(0), ROUTE, body(0), Some(timeout), true);
    call.expect("there is credit");
    solo.settle();
    solo.elapse(waited);
    let [sent] = &solo.sent()[..] else { panic!("one stream") };
    head_in(&sent.bytes).0.timeout_ms
}

#[test]
fn a_head_says_what_is_left_rounded_up() {
    let (ns, none) = (Duration::from_nanos, Duration::ZERO);
    assert_eq!(told(ms(1), none), 1);
    assert_eq!(told(ms(1) + ns(1), none), 2);
    assert_eq!(told(ns(1), none), 1);
    assert_eq!(told(ms(10_000), ms(2500)), 7500);
    assert_eq!(told(ms(10_000), ms(2500) + ns(1)), 7500);
    assert_eq!(told(ms(10_000), ms(9999) + ns(999_999)), 1);
    assert_eq!(told(ms(u64::from(u32::MAX)), none), u32::MAX);
    assert_eq!(told(ms(1 << 32), none), u32::MAX);
}

#[test]
fn a_callee_works_on_no_request_for_longer_than_it_is_willing_to() {
    let config = config(|route| route.deadline_max = ms(20_000));
    for (timeout_ms, ends) in [(0, 0), (1, 1), (20_000, 20_000), (20_001, 20_000)] {
        let is_capped = timeout_ms > 20_000;
        let mut solo = Solo::new(&config, 1);
        let stream = solo.open(0);
        let head = head_of(ROUTE, timeout_ms, 0);
        assert_eq!(solo.data(0, stream, &head), Ok(head.len()));
        if ends > 0 {
            let asked = solo.request();
            assert_eq!(asked.deadline, Time(1) + ms(ends));
            solo.elapse(ms(ends) - ms(1));
            assert_eq!(solo.outputs(), []);
            solo.elapse(ms(1));
            assert_eq!(solo.cancelled(), Some(asked.id));
            let late = solo.machine.answer(solo.now, asked.id, body(0));
            let why =
                if is_capped { AnswerError::DeadlineMaxPassed } else { AnswerError::Cancelled };
            assert_eq!(late, Err(why));
            solo.settle();
        }
        let why = if is_capped { CallReset::DeadlineMax } else { CallReset::Unneeded };
        assert_eq!(solo.outputs(), [close_for(0, stream, why)]);
        solo.assert_quiet();
    }
}

/// At the instant of the deadline it counts which came first; there is one outcome either way.
#[test]
fn an_answer_and_the_deadline_at_the_same_instant() {
    for is_polled_first in [false, true] {
        let mut solo = Solo::new(&config(|_| {}), 1);
        let (call, stream) = solo.call(0, 10);
        solo.elapse(ms(9999));
        let bytes = [reply(Reply::Answer { length: 4 }), body(4).to_vec()].concat();
        solo.now = solo.now + ms(1);
        let (now, peer) = (solo.now, peer(0));
        if is_polled_first {
            solo.settle();
        }
        for byte in &bytes {
            let data = solo.machine.handle_data(now, peer, stream, &[*byte]);
            assert_eq!(data, Ok(()), "ignored, if it comes too late");
        }
        assert_eq!(solo.machine.handle_end(peer, stream), Ok(()));
        solo.settle();
        let (outcome, permit) = solo.machine.poll_outcome().expect("one");
        solo.machine.release(permit);
        let late = Err(CallError::DeadlinePassed);
        assert_eq!(outcome.result, if is_polled_first { late } else { Ok(body(4)) });
        assert_eq!(outcome.call, call);
        assert!(solo.machine.poll_outcome().is_none());
        assert_eq!(solo.outputs(), [close(0, stream)], "its direction did not end");
        solo.assert_quiet();
    }
}

/// A callee gives up at the deadline, too: the caller may hear of that before its own timer.
#[test]
fn a_reset_at_the_deadline_is_the_deadline() {
    for (before, error) in [(1, CallError::Dropped), (0, CallError::DeadlinePassed)] {
        let mut solo = Solo::new(&config(|_| {}), 1);
        let (_, stream) = solo.call(0, 10);
        solo.elapse(ms(9999));
        solo.now = solo.now + ms(1 - before);
        solo.reset(0, stream);
        let (outcome, permit) = solo.machine.poll_outcome().expect("one");
        solo.machine.release(permit);
        assert_eq!(outcome.result, Err(error));
    }
}

/// Whatever has become of a request, its caller is told why there is no answer.
#[test]
fn a_caller_is_told_that_the_callee_works_on_no_request_for_so_long() {
    let unwilling = config(|route| (route.deadline, route.deadline_max) = (ms(2000), ms(2000)));
    for (is_taken, is_answered) in [(false, false), (true, false), (true, true)] {
        let mut web = Web::new(&[config(|_| {}), unwilling.clone()]);
        let call = web.call(0, 1, body(1));
        web.run();
        let taken = is_taken.then(|| web.request(1).expect("it has come"));
        if is_answered {
            // The transport takes nothing of it.
            web.window = 0;
            web.answer(1, taken.expect("taken").id, body(100));
        }
        web.elapse(ms(1999));
        assert_eq!(web.outcome(0), None);
        web.elapse(ms(1));
        assert_eq!(web.result(0, call), Err(CallError::DeadlineMaxPassed));
    }
}

/// A callee that gives up says why.
#[test]
fn a_reset_says_why_there_is_no_answer() {
    for (why, error) in [
        (CallReset::DeadlineMax, CallError::DeadlineMaxPassed),
        (CallReset::TooSlow, CallError::TooSlow),
        (CallReset::Unneeded, CallError::Dropped),
    ] {
        let mut solo = Solo::new(&config(|_| {}), 1);
        let (_, stream) = solo.call(0, 10);
        solo.reset_for(0, stream, why);
        let (outcome, permit) = solo.machine.poll_outcome().expect("one");
        solo.machine.release(permit);
        assert_eq!(outcome.result, Err(error));
    }
}

#[test]
fn a_call_that_waits_for_credit_in_vain_is_never_sent() {
    let config = config(|route| route.in_flight_max = 1);
    let mut web = Web::pair(&config);
    let first = web.call(0, 1, body(1));
    let second = web.try_call(0, 1, body(2), Some(ms(100)), true).expect("it may wait");
    let third = web.try_call(0, 1, body(3), None, true).expect("it may wait");
    web.run();
    let asked = web.request(1).expect("the first");
    web.elapse(ms(100));
    assert_eq!(web.result(0, second), Err(CallError::DeadlinePassed));
    web.answer(1, asked.id, body(1));
    web.run();
    assert_eq!(web.result(0, first), Ok(body(1)));
    let asked = web.request(1).expect("the third");
    assert_eq!(asked.body.len(), 3);
    assert_eq!(asked.deadline, Time(1) + ms(10_000), "not from when it was sent");
    web.answer(1, asked.id, body(1));
    web.run();
    assert_eq!(web.result(0, third), Ok(body(1)));
    web.assert_quiet();
}

#[test]
fn time_that_goes_backwards_stands_still() {
    let mut solo = Solo::new(&config(|_| {}), 1);
    solo.now = Time::ZERO + ms(5000);
    solo.settle();
    let early = Time::ZERO + ms(1);
    let call = solo.machine.call(early, peer(0), ROUTE, body(0), Some(ms(1000)), true);
    call.expect("there is credit");
    solo.settle();
    assert_eq!(solo.wake_at, Time::ZERO + ms(6000));
}

#[test]
fn a_call_may_wait_for_ever() {
    assert_eq!(told(Duration::MAX, ms(1)), u32::MAX);
    let mut solo = Solo::new(&config(|_| {}), 1);
    let timeout = Some(Duration::MAX);
    let call = solo.machine.call(solo.now, peer(0), ROUTE, body(9), timeout, true);
    let call = call.expect("there is credit");
    solo.settle();
    solo.sent();
    solo.elapse(Duration::from_secs(1 << 30));
    assert_eq!(solo.machine.len(), 1);
    assert!(solo.machine.cancel(call));
    solo.settle();
    solo.assert_quiet();
}
