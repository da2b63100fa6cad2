//! Connections that come and go under requests in the application's hands. That each phase of a
//! call survives its connection, [`crate::phases`] shows.

use slotcast::error::AnswerError;
use slotcast::rpc::{Output, Refusal};

use crate::solo::{Solo, close};
use crate::web::{ROUTE, Web, body, config, peer};

#[test]
fn the_application_is_told_of_each_request_for_whose_answer_nobody_waits() {
    let mut solo = Solo::new(&config(|_| {}), 2);
    let [(one, first), (_, second), (_, third)] = [0, 0, 1].map(|at| solo.asked(at, 10));
    solo.reset(0, one);
    assert_eq!(solo.cancelled(), Some(first.id));
    assert_eq!(solo.cancelled(), None);
    solo.down(0);
    assert_eq!(solo.cancelled(), Some(second.id));
    assert_eq!(solo.cancelled(), None, "the first was told");
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

/// Who asks, goes and comes back does not have the application do more at a time.
#[test]
fn what_the_application_has_counts_until_it_lets_go_of_it() {
    let config = config(|route| route.in_flight_max = 2);
    for ends in 0..4 {
        let mut solo = Solo::new(&config, 1);
        let [(stream, first), (_, second)] = [0, 1].map(|_| solo.asked(0, 10));
        match ends {
            0 => solo.reset(0, stream),
            1 => solo.stopped(0, stream),
            _ => {}
        }
        for _ in 0..ends {
            solo.down(0);
            solo.up(0);
        }
        let next = solo.ask(0, 10);
        assert_eq!(solo.wants(0, next), 0, "both are still being worked on");
        if ends > 0 {
            let late = solo.machine.answer(solo.now, second.id, body(1));
            assert_eq!(late, Err(AnswerError::Cancelled));
            solo.settle();
        }
        assert!(!solo.machine.refuse(solo.now, first.id, Refusal::Dropped));
        solo.settle();
        assert!(solo.outputs().contains(&Output::Read { peer: peer(0), stream: next }));
        assert_eq!(solo.wants(0, next), 10);
        solo.down(0);
        if ends == 0 {
            assert!(!solo.machine.refuse(solo.now, second.id, Refusal::Dropped));
            solo.settle();
        }
        solo.assert_quiet();
    }
}

/// A caller that does not wait for `Continue` may go before it was sent.
#[test]
fn nothing_is_sent_to_a_caller_that_has_gone() {
    let mut solo = Solo::new(&config(|_| {}), 1);
    let stream = solo.ask(0, 100_000);
    let taken = solo.request();
    solo.reset(0, stream);
    assert_eq!(solo.outputs(), [close(0, stream)]);
    assert!(!solo.machine.has_backlog(peer(0)));
    assert_eq!(solo.sent(), []);
    assert!(!solo.machine.refuse(solo.now, taken.id, Refusal::Dropped));
    solo.settle();
    solo.assert_quiet();
}

/// What it was not told yet it need not be told once it has let go of it: else, who never asks would
/// be kept a list without end.
#[test]
fn who_lets_go_of_a_request_is_not_told_of_it() {
    let mut solo = Solo::new(&config(|_| {}), 1);
    for _ in 0..3 {
        let [(one, first), (two, second), (three, third)] = [0; 3].map(|_| solo.asked(0, 10));
        [one, two, three].into_iter().for_each(|stream| solo.reset(0, stream));
        let late = solo.machine.answer(solo.now, first.id, body(1));
        assert_eq!(late, Err(AnswerError::Cancelled));
        assert!(!solo.machine.refuse(solo.now, third.id, Refusal::Dropped));
        assert_eq!(solo.cancelled(), Some(second.id));
        assert_eq!(solo.cancelled(), None);
        assert!(!solo.machine.refuse(solo.now, second.id, Refusal::Dropped));
        solo.settle();
        solo.assert_quiet();
    }
}

/// Places are used again, names are not.
#[test]
fn a_name_means_one_call_or_request_only() {
    let mut solo = Solo::new(&config(|_| {}), 1);
    let (stream, old) = solo.asked(0, 10);
    solo.machine.answer(solo.now, old.id, body(1)).expect("somebody waits");
    solo.settle();
    solo.sent();
    solo.end(0, stream).expect("no fault");
    let (_, new) = solo.asked(0, 20);
    assert_ne!(new.id, old.id);
    assert_eq!(solo.machine.answer(solo.now, old.id, body(1)), Err(AnswerError::Cancelled));
    assert!(!solo.machine.refuse(solo.now, old.id, Refusal::Dropped));
    solo.machine.answer(solo.now, new.id, body(1)).expect("somebody waits");
    solo.settle();
    solo.sent();
    let (first, _) = solo.call(0, 1);
    assert!(solo.machine.cancel(first));
    let (second, _) = solo.call(0, 1);
    assert_ne!(first, second);
    assert!(!solo.machine.cancel(first) && solo.machine.cancel(second));
}

/// What an application has of a former member is no burden for who gets its place.
#[test]
fn who_takes_the_place_of_a_former_member_starts_clean() {
    let config = config(|route| route.in_flight_max = 2);
    let mut solo = Solo::new(&config, 1);
    let kept = [solo.asked(0, 5).1, solo.asked(0, 5).1];
    solo.machine.remove_peer(peer(0));
    solo.machine.add_peer(peer(0));
    solo.up(0);
    let told = [(); 3].map(|()| solo.cancelled());
    assert_eq!(told, [Some(kept[0].id), Some(kept[1].id), None]);
    let newer = [solo.asked(0, 5).1, solo.asked(0, 5).1];
    for request in kept {
        let late = solo.machine.answer(solo.now, request.id, body(1));
        assert_eq!(late, Err(AnswerError::Cancelled));
    }
    for request in newer {
        solo.machine.answer(solo.now, request.id, body(1)).expect("somebody waits");
    }
    solo.settle();
}
