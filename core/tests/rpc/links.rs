//! Connections that come and go under requests in the application's hands. That each phase of a
//! call survives its connection, [`crate::phases`] shows.

use slotcast::error::AnswerError;
use slotcast::rpc::Output;

use crate::solo::Solo;
use crate::web::{ROUTE, Web, body, config, peer};

#[test]
fn the_application_is_told_of_each_request_for_whose_answer_nobody_waits() {
    let mut solo = Solo::new(&config(|_| {}), 2);
    let [(one, first), (_, second), (_, third)] = [0, 0, 1].map(|at| solo.asked(at, 10));
    solo.reset(0, one);
    assert_eq!(solo.machine.poll_cancelled(), Some(first.id));
    assert_eq!(solo.machine.poll_cancelled(), None);
    solo.down(0);
    assert_eq!(solo.machine.poll_cancelled(), Some(second.id));
    assert_eq!(solo.machine.poll_cancelled(), None, "the first was told");
    solo.machine.answer(solo.now, third.id, body(1)).expect("the other peer waits");
}

/// Streams of a new connection bear the numbers of the old one's.
#[test]
fn a_late_answer_does_not_go_into_a_stream_of_the_next_connection() {
    let mut solo = Solo::new(&config(|_| {}), 1);
    let (stream, old) = solo.asked(0, 10);
    solo.down(0);
    solo.up(0);
    solo.machine.handle_opened(solo.now, peer(0), stream);
    let bytes = [crate::solo::head(20), body(20).to_vec()].concat();
    assert_eq!(solo.data(0, stream, &bytes), Ok(bytes.len()));
    let new = solo.request();
    let late = solo.machine.answer(solo.now, old.id, body(1));
    assert_eq!(late, Err(AnswerError::Cancelled));
    solo.settle();
    assert_eq!(solo.sent(), []);
    solo.machine.answer(solo.now, new.id, body(2)).expect("somebody waits");
    solo.settle();
    assert_eq!(solo.sent()[0].stream, stream);
    solo.end(0, stream).expect("no fault");
    solo.assert_quiet();
}

/// What was wanted of a connection is not wanted of the next.
#[test]
fn outputs_go_with_their_connection() {
    let mut solo = Solo::new(&config(|_| {}), 2);
    let calls = [0, 1].map(|at| solo.call(at, 10).0);
    assert!(calls.into_iter().all(|call| solo.machine.cancel(call)));
    solo.machine.peer_down(peer(0));
    solo.settle();
    let [Output::Close { peer: of, .. }] = solo.outputs()[..] else { panic!("one is up") };
    assert_eq!(of, peer(1));
}

#[test]
fn what_an_application_keeps_outlives_the_member() {
    let mut web = Web::pair(&config(|_| {}));
    let call = web.call(0, 1, body(5000));
    web.run();
    let (asked, permit) = web.nodes[1].poll_request(ROUTE, |_| true).expect("it has come");
    web.answer(1, asked.id, body(7));
    web.run();
    let (outcome, room) = web.nodes[0].poll_outcome().expect("answered");
    assert_eq!((outcome.call, outcome.result), (call, Ok(body(7))));
    web.down(0, 1);
    web.nodes[0].remove_peer(peer(1));
    web.nodes[1].remove_peer(peer(0));
    assert_eq!(web.nodes[1].body_bytes(), 5000);
    web.nodes[0].release(room);
    web.nodes[1].release(permit);
    web.assert_quiet();
}

#[test]
fn streams_that_are_over_want_nothing_and_say_nothing() {
    let mut solo = Solo::new(&config(|_| {}), 1);
    let (call, stream) = solo.call(0, 10);
    assert!(solo.machine.cancel(call));
    solo.settle();
    solo.outputs();
    for stream in [stream, slotcast::rpc::CallStream(77)] {
        assert_eq!(solo.wants(0, stream), 0);
        assert_eq!(solo.machine.handle_data(solo.now, peer(0), stream, &[1]), Ok(()));
        assert_eq!(solo.machine.handle_end(peer(0), stream), Ok(()));
        solo.reset(0, stream);
        solo.stopped(0, stream);
        solo.writable(0, stream);
    }
    assert_eq!(solo.machine.wants(peer(8), stream), 0);
    assert_eq!(solo.outputs(), []);
    solo.assert_quiet();
}
