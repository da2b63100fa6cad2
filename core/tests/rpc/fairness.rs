//! A peer waits for its turn, and not for the floods of others.

use slotcast::config::Config;
use slotcast::rpc::{CallStream, Output, Refusal};
use slotcast::wire::Reply;

use crate::solo::{Solo, reply};
use crate::web::{ROUTE, body, config, peer};

/// Peers in the order in which streams are read.
fn readers(solo: &mut Solo) -> Vec<u16> {
    let read = |output| match output {
        Output::Read { peer, .. } => Some(peer.0),
        _ => None,
    };
    solo.outputs().into_iter().filter_map(read).collect()
}

#[test]
fn the_application_is_given_requests_of_peers_in_turns() {
    let mut solo = Solo::new(&config(|_| {}), 3);
    for at in [0, 0, 0, 0, 0, 2, 2, 1] {
        solo.ask(at, 5);
    }
    let from: Vec<_> = (0..6).map(|_| solo.request().from.0).collect();
    assert_eq!(from, [0, 1, 2, 0, 2, 0]);
    solo.ask(1, 5);
    assert_eq!(solo.request().from.0, 1, "its turn is next");
}

#[test]
fn the_application_may_pass_over_peers() {
    let mut solo = Solo::new(&config(|_| {}), 2);
    for at in [0, 1] {
        solo.ask(at, 5);
    }
    assert!(solo.machine.poll_request(ROUTE, |_| false).is_none());
    let (request, permit) = solo.machine.poll_request(ROUTE, |of| of == peer(1)).expect("one");
    assert_eq!(request.from, peer(1));
    solo.machine.release(permit);
    solo.settle();
    assert_eq!(solo.request().from, peer(0), "it has lost nothing");
}

/// Room for one request at a time.
fn one_at_a_time() -> Config {
    config(|route| {
        (route.request_bytes_max, route.response_bytes_max) = (1000, 1000);
        route.body_bytes_max = 1000;
    })
}

#[test]
fn room_for_requests_is_granted_to_peers_in_turns() {
    let mut solo = Solo::new(&one_at_a_time(), 3);
    let (_, mut asked) = solo.asked(2, 1000);
    let streams: Vec<(usize, CallStream)> =
        [0, 0, 0, 0, 0, 1, 1, 2].map(|at| (at, solo.ask(at, 1000))).to_vec();
    solo.outputs();
    let mut order = Vec::new();
    for _ in &streams {
        assert!(solo.machine.refuse(solo.now, asked.id, Refusal::Dropped));
        solo.settle();
        solo.sent();
        let [at] = readers(&mut solo)[..] else { panic!("room for one") };
        let has_room = |(of, s): &&(usize, CallStream)| solo.wants(*of, *s) == 1000;
        let (at, stream) =
            *streams.iter().filter(has_room).find(|(of, _)| *of == usize::from(at)).expect("one");
        assert_eq!(solo.data(at, stream, &body(1000)), Ok(1000));
        asked = solo.request();
        order.push(at);
    }
    assert_eq!(order, [0, 1, 2, 0, 1, 0, 0, 0]);
}

#[test]
fn room_for_answers_is_granted_to_peers_in_turns() {
    let config = config(|route| {
        (route.response_bytes_max, route.body_bytes_max) = (100_000, 1 << 20);
    });
    // Eight peers have their shares, and the ninth and tenth wait.
    let mut solo = Solo::new(&config, 11);
    let answer = reply(Reply::Answer { length: 100_000 });
    let mut permits = Vec::new();
    for at in 0..10 {
        let (_, stream) = solo.call(at, 1);
        solo.data(at, stream, &[answer.clone(), body(100_000).to_vec()].concat())
            .expect("no fault");
        solo.end(at, stream).expect("complete");
        solo.sent();
        let (outcome, permit) = solo.machine.poll_outcome().expect("answered");
        assert!(outcome.result.is_ok());
        permits.push(permit);
    }
    solo.outputs();
    for at in [8, 8, 8, 9, 10] {
        let (_, stream) = solo.call(at, 1);
        solo.data(at, stream, &answer).expect("no fault");
    }
    assert!(readers(&mut solo).is_empty());
    // Those of peers 8 and 9 stay as they are.
    let mut order = Vec::new();
    for permit in permits.drain(..5) {
        solo.machine.release(permit);
        solo.settle();
        order.extend(readers(&mut solo));
    }
    assert_eq!(order, [10], "its share is its own");
    permits.drain(3..).rev().for_each(|permit| solo.machine.release(permit));
    solo.settle();
    assert_eq!(readers(&mut solo), [8, 9]);
}

/// The first of a peer that has no room does not keep others from theirs.
#[test]
fn who_waits_for_much_room_does_not_hold_up_others() {
    let config = config(|route| {
        (route.request_bytes_max, route.response_bytes_max) = (1000, 0);
        route.body_bytes_max = 2000;
    });
    let mut solo = Solo::new(&config, 3);
    solo.ask(0, 1000);
    solo.ask(1, 500);
    let large = solo.ask(2, 1000);
    let behind = solo.ask(2, 1);
    assert_eq!((solo.wants(2, large), solo.wants(2, behind)), (0, 0), "in order");
    let small = solo.ask(1, 500);
    assert_eq!(solo.wants(1, small), 1, "read");
}

/// Long bodies wait for room in the budget of all peers. Short ones that come again and again do not
/// take it from them without end.
#[test]
fn a_long_request_is_not_passed_by_ever_new_short_ones() {
    let config = config(|route| {
        (route.request_bytes_max, route.response_bytes_max) = (1000, 0);
        route.body_bytes_max = 2000;
    });
    let mut solo = Solo::new(&config, 5);
    let mut held = Vec::new();
    for at in 0..4 {
        solo.ask(at, 500);
        held.push(solo.machine.poll_request(ROUTE, |_| true).expect("it is read").1);
    }
    let long = solo.ask(4, 1000);
    let mut passed = 0;
    while solo.wants(4, long) == 0 {
        passed += 1;
        assert!(passed < 100, "passed without end");
        // A short one comes, and the oldest ends.
        solo.ask(passed % 4, 500);
        solo.machine.release(held.remove(0));
        solo.settle();
        for output in solo.outputs() {
            let Output::Read { peer, stream } = output else { continue };
            if stream != long {
                solo.data(peer.0.into(), stream, &body(500)).expect("no fault");
                held.push(solo.machine.poll_request(ROUTE, |_| true).expect("it is read").1);
            }
        }
    }
    assert_eq!(passed, 18);
}

/// The same of answers to this node's calls.
#[test]
fn a_long_answer_is_not_passed_by_ever_new_short_ones() {
    let config = config(|route| {
        (route.request_bytes_max, route.response_bytes_max) = (10, 160_000);
        route.body_bytes_max = 160_000;
    });
    let mut solo = Solo::new(&config, 5);
    let begin = |solo: &mut Solo, at: usize, length: usize| {
        let (_, stream) = solo.call(at, 1);
        let bytes = reply(Reply::Answer { length: length as u32 });
        solo.data(at, stream, &bytes).expect("no fault");
        solo.sent();
        stream
    };
    let mut open: Vec<_> = (0..4).map(|at| (at, begin(&mut solo, at, 40_000))).collect();
    let long = begin(&mut solo, 4, 160_000);
    let mut passed = 0;
    while solo.wants(4, long) <= 16 << 10 {
        passed += 1;
        assert!(passed < 100, "passed without end");
        let at = passed % 4;
        open.push((at, begin(&mut solo, at, 40_000)));
        let (at, stream) = open.remove(0);
        solo.reset(at, stream);
        while let Some((_, permit)) = solo.machine.poll_outcome() {
            solo.machine.release(permit);
        }
        solo.settle();
        solo.sent();
    }
    assert_eq!(passed, 20);
}

/// What is sent takes turns piece by piece: a small answer is not behind a large one.
#[test]
fn pieces_of_large_answers_let_small_ones_pass() {
    let mut solo = Solo::new(&config(|_| {}), 1);
    let [(large, first), (small, second)] = [0, 1].map(|_| solo.asked(0, 5));
    for stream in [large, small] {
        solo.end(0, stream).expect("no fault");
    }
    solo.machine.answer(solo.now, first.id, body(1 << 20)).expect("somebody waits");
    solo.machine.answer(solo.now, second.id, body(100)).expect("somebody waits");
    solo.settle();
    let mut pieces = Vec::new();
    while let Some(sent) = solo.send(0, 1 << 20, usize::MAX) {
        assert!(sent.bytes.len() <= 64 << 10);
        pieces.push(sent.stream);
    }
    assert_eq!(pieces[..2], [large, small]);
    assert!(pieces.len() == 18 && pieces[2..].iter().all(|stream| *stream == large));
    solo.assert_quiet();
}

/// So many requests of a peer are read ahead of the application, and no more.
#[test]
fn few_requests_are_read_ahead_of_the_application() {
    let mut solo = Solo::new(&config(|route| route.response_bytes_max = 0), 2);
    let streams: Vec<_> = (0..40).map(|_| solo.ask(0, 5)).collect();
    let read = |solo: &Solo| streams.iter().filter(|s| solo.wants(0, **s) > 0).count();
    assert_eq!(read(&solo), 16);
    solo.request();
    assert_eq!(read(&solo), 17);
    solo.asked(1, 5);
    assert_eq!(read(&solo), 17, "of one peer");
}

/// Who has taken a request need not let go of its body for the next to be read.
#[test]
fn what_the_application_keeps_is_not_ahead_of_it() {
    let mut solo = Solo::new(&config(|route| route.response_bytes_max = 0), 1);
    let streams: Vec<_> = (0..17).map(|_| solo.ask(0, 5)).collect();
    assert_eq!(solo.wants(0, streams[16]), 0);
    let kept = solo.machine.poll_request(ROUTE, |_| true);
    solo.settle();
    assert_eq!(solo.outputs(), [Output::Read { peer: peer(0), stream: streams[16] }]);
    assert_eq!(solo.wants(0, streams[16]), 5);
    drop(kept);
}
