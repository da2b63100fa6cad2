//! Each reason for which a call has no answer, but for those that only a node knows (`NotMember`,
//! `Closed`).

use std::time::Duration;

use bytes::Bytes;
use slotcast::error::{CallError, Fault};
use slotcast::id::RouteId;
use slotcast::rpc::Refusal;
use slotcast::wire::{CallRefusal, Malformed, Reply};

use crate::solo::{Solo, close, reply};
use crate::web::{ROUTE, Web, body, config, ms, peer};

#[test]
fn a_call_that_cannot_be_made_is_an_error_and_changes_nothing() {
    let config = config(|route| {
        (route.request_bytes_max, route.response_bytes_max) = (100, 100);
        (route.in_flight_max, route.waiting_max) = (1, 0);
    });
    let mut web = Web::pair(&config);
    let mut try_call = |route, to, length, timeout| {
        let called = web.nodes[0].call(web.now, peer(to), route, body(length), timeout, true);
        called.expect_err("it cannot be made")
    };
    assert_eq!(try_call(RouteId(8), 1, 0, None), CallError::UnknownRoute);
    assert_eq!(try_call(ROUTE, 5, 0, None), CallError::NotConnected);
    assert_eq!(try_call(ROUTE, 0, 0, None), CallError::NotConnected, "itself");
    assert_eq!(try_call(ROUTE, 1, 101, None), CallError::TooLong);
    assert_eq!(try_call(ROUTE, 1, 0, Some(Duration::ZERO)), CallError::DeadlinePassed);
    web.assert_quiet();
    let call = web.call(0, 1, body(100));
    assert_eq!(web.try_call(0, 1, body(0), None, true), Err(CallError::Pushback));
    assert!(web.cancel(0, call));
    web.down(0, 1);
    assert_eq!(web.try_call(0, 1, body(0), None, true), Err(CallError::NotConnected));
    web.assert_quiet();
}

#[test]
fn a_request_is_held_to_the_narrower_bound() {
    let [small, large] = [10, 20].map(|max| config(|route| route.request_bytes_max = max));
    for configs in [[small.clone(), large.clone()], [large, small]] {
        let mut web = Web::new(&configs);
        assert_eq!(web.try_call(0, 1, body(11), None, true), Err(CallError::TooLong));
        web.call(0, 1, body(10));
    }
}

#[test]
fn a_peer_that_does_not_serve_a_route_is_not_called() {
    let only_calls = config(|route| route.serves = false);
    let mut web = Web::new(&[config(|_| {}), only_calls]);
    assert_eq!(web.try_call(0, 1, Bytes::new(), None, true), Err(CallError::NotServed));
    let call = web.call(1, 0, Bytes::new());
    web.run();
    let asked = web.request(0).expect("the other way it is");
    web.answer(0, asked.id, body(3));
    web.run();
    assert_eq!(web.result(1, call), Ok(body(3)));
    // Nor is one that does not know it.
    let mut solo = Solo::new(&config(|_| {}), 1);
    solo.machine.peer_up(peer(0), &[]);
    solo.settle();
    let called = solo.machine.call(solo.now, peer(0), ROUTE, Bytes::new(), None, true);
    assert_eq!(called, Err(CallError::NotServed));
}

#[test]
fn a_callee_that_is_busy_or_drops_the_request_says_so() {
    let mut web = Web::pair(&config(|_| {}));
    let busy = |span| Refusal::Busy { retry_after: span };
    let longest = ms(u32::MAX.into());
    for (refusal, error) in [
        (busy(ms(1234)), CallError::Busy { retry_after: ms(1234) }),
        (busy(Duration::ZERO), CallError::Busy { retry_after: Duration::ZERO }),
        (busy(Duration::MAX), CallError::Busy { retry_after: longest }),
        (Refusal::Dropped, CallError::Dropped),
    ] {
        for length in [0, 100_000] {
            let call = web.call(0, 1, body(length));
            web.run();
            let asked = web.request(1).expect("it has come");
            assert!(web.refuse(1, asked.id, refusal));
            assert!(!web.refuse(1, asked.id, refusal), "once");
            web.run();
            assert_eq!(web.result(0, call), Err(error));
            web.assert_quiet();
        }
    }
}

#[test]
fn unknown_reasons_and_resets_are_as_good_as_dropped() {
    for length in [10, 100_000] {
        for why in [CallRefusal::Dropped, CallRefusal::Other(7), CallRefusal::Other(1 << 61)] {
            let mut solo = Solo::new(&config(|_| {}), 1);
            let (_, stream) = solo.call(0, length);
            let bytes = reply(Reply::Refused(why));
            assert_eq!(solo.data(0, stream, &bytes), Ok(bytes.len()), "no fault");
            ended(&mut solo, stream, CallError::Dropped);
        }
        let mut solo = Solo::new(&config(|_| {}), 1);
        let (_, stream) = solo.call(0, length);
        solo.reset(0, stream);
        ended(&mut solo, stream, CallError::Dropped);
    }
}

/// The one call has ended with this, and its stream is closed.
#[track_caller]
fn ended(solo: &mut Solo, stream: slotcast::rpc::CallStream, error: CallError) {
    let (outcome, permit) = solo.machine.poll_outcome().expect("it has ended");
    solo.machine.release(permit);
    assert_eq!(outcome.result, Err(error));
    assert!(solo.machine.poll_outcome().is_none());
    solo.settle();
    assert_eq!(solo.outputs(), [close(0, stream)]);
    assert_eq!(solo.sent(), []);
    solo.assert_quiet();
}

/// A refusal may overtake the request, whose rest is not sent then.
#[test]
fn a_call_that_is_refused_before_it_was_sent_ends_at_once() {
    let mut solo = Solo::new(&config(|_| {}), 1);
    let called = solo.machine.call(solo.now, peer(0), ROUTE, body(100_000), None, true);
    called.expect("there is credit");
    let sent = solo.send(0, 5, 5).expect("its start");
    let bytes = reply(Reply::Refused(CallRefusal::NotServed));
    assert_eq!(solo.data(0, sent.stream, &bytes), Ok(bytes.len()));
    ended(&mut solo, sent.stream, CallError::NotServed);
}

/// Why a callee stops a request, its reply says: until it comes, the call goes on.
#[test]
fn a_call_that_is_stopped_waits_for_the_reason() {
    for length in [10, 100_000] {
        let mut solo = Solo::new(&config(|_| {}), 1);
        let called = solo.machine.call(solo.now, peer(0), ROUTE, body(length), None, true);
        called.expect("there is credit");
        let sent = solo.send(0, 5, 5).expect("its start");
        solo.stopped(0, sent.stream);
        assert_eq!((solo.sent(), solo.machine.body_bytes()), (vec![], 0), "no more of it");
        solo.writable(0, sent.stream);
        assert_eq!(solo.sent(), []);
        assert!(solo.machine.poll_outcome().is_none());
        let bytes = reply(Reply::Busy { retry_after_ms: 5 });
        assert_eq!(solo.data(0, sent.stream, &bytes), Ok(bytes.len()));
        ended(&mut solo, sent.stream, CallError::Busy { retry_after: ms(5) });
    }
}

#[test]
fn a_callee_that_breaks_the_protocol_ends_the_call() {
    let mut solo = Solo::new(&config(|_| {}), 1);
    let (call, stream) = solo.call(0, 10);
    let fault = solo.data(0, stream, &[63, 0]);
    assert_eq!(fault, Err(Fault::Malformed(Malformed::UnknownKind)));
    let (outcome, permit) = solo.machine.poll_outcome().expect("it has ended");
    solo.machine.release(permit);
    assert_eq!((outcome.call, outcome.result), (call, Err(CallError::Fault)));
    assert_eq!(solo.outputs(), [], "who hands it in closes the stream");
    solo.assert_quiet();
}
