//! Budgets: not a byte of a body is taken before there is room for all of it, in total and in the
//! peer's share; what is given back lets others go on.

use slotcast::config::Config;
use slotcast::rpc::{CallStream, Output, Permit, Refusal, Request};
use slotcast::wire::{EAGER_BYTES_MAX, Reply};

use crate::solo::{Solo, close, head, reply};
use crate::web::{ROUTE, Web, body, config, ms, peer};

/// Room for 8,000 bytes of requests, 1,000 of which for one peer; none is needed for answers.
fn narrow() -> Config {
    config(|route| {
        (route.request_bytes_max, route.response_bytes_max) = (1000, 0);
        route.body_bytes_max = 8000;
    })
}

fn held(solo: &mut Solo) -> (Request, Permit) {
    let held = solo.machine.poll_request(ROUTE, |_| true).expect("a request");
    solo.settle();
    held
}

#[test]
fn nothing_of_a_request_is_read_before_there_is_room_for_all_of_it() {
    let mut solo = Solo::new(&narrow(), 1);
    solo.ask(0, 600);
    let (first, permit) = held(&mut solo);
    let stream = solo.open(0);
    let bytes = [head(500), body(500).to_vec()].concat();
    let head = bytes.len() - 500;
    assert_eq!(solo.data(0, stream, &bytes), Ok(head), "the head only");
    assert_eq!(solo.wants(0, stream), 0);
    assert!(solo.machine.refuse(solo.now, first.id, Refusal::Dropped));
    solo.settle();
    assert_eq!(solo.wants(0, stream), 0, "the body is still the application's");
    solo.outputs();
    solo.machine.release(permit);
    solo.settle();
    assert_eq!(solo.outputs(), [Output::Read { peer: peer(0), stream }]);
    assert_eq!(solo.wants(0, stream), 500);
    assert_eq!(solo.machine.body_bytes(), 500);
    assert_eq!(solo.data(0, stream, &bytes[head..]), Ok(500));
    assert_eq!(held(&mut solo).0.body, body(500));
}

#[test]
fn one_peer_takes_no_more_than_its_share() {
    let mut solo = Solo::new(&narrow(), 9);
    let shares: Vec<_> = (0..8)
        .map(|at| {
            solo.ask(at, 1000);
            let second = solo.ask(at, 1);
            assert_eq!(solo.wants(at, second), 0, "its share is used up");
            second
        })
        .collect();
    assert_eq!(solo.machine.body_bytes(), 8000);
    let last = solo.ask(8, 1);
    assert_eq!(solo.wants(8, last), 0, "all is used up");
    assert_eq!(solo.outputs(), []);
    let (first, permit) = held(&mut solo);
    solo.machine.release(permit);
    solo.settle();
    // Room for both: of the peer whose request it was, and of the one that has none.
    let mut read = solo.outputs();
    read.sort_by_key(|output| format!("{output:?}"));
    let at = usize::from(first.from.0);
    let wanted = [(at, shares[at]), (8, last)];
    assert_eq!(read, wanted.map(|(at, stream)| Output::Read { peer: peer(at), stream }));
}

#[test]
fn a_request_without_a_body_needs_no_room() {
    let mut solo = Solo::new(&narrow(), 1);
    solo.ask(0, 1000);
    let stream = solo.open(0);
    let head = head(0);
    assert_eq!(solo.data(0, stream, &head), Ok(head.len()));
    assert_eq!(held(&mut solo).0.body.len(), 1000);
    assert_eq!(held(&mut solo).0.body.len(), 0);
}

/// Room for the longest answer is kept from when a request is taken up; what the answer does not
/// need is given back with it, and the rest when it has arrived.
#[test]
fn room_for_an_answer_is_kept_for_each_request() {
    let config = config(|route| {
        (route.request_bytes_max, route.response_bytes_max) = (10, 1000);
        route.body_bytes_max = 16_000;
    });
    let mut solo = Solo::new(&config, 1);
    solo.holds_acks = true;
    let streams: Vec<CallStream> = (0..4).map(|_| solo.ask(0, 0)).collect();
    assert_eq!(solo.machine.body_bytes(), 2000, "of a share of 2,000");
    let wants = |solo: &Solo| -> Vec<usize> {
        streams.iter().map(|stream| solo.wants(0, *stream)).collect()
    };
    assert_eq!(wants(&solo), [1, 1, 0, 0]);
    let [first, second] = [solo.request(), solo.request()];
    solo.machine.answer(solo.now, first.id, body(1)).expect("somebody waits");
    solo.settle();
    assert_eq!(solo.machine.body_bytes(), 1001);
    assert_eq!(wants(&solo), [1, 1, 0, 0], "999 are not enough");
    solo.machine.answer(solo.now, second.id, body(999)).expect("somebody waits");
    solo.settle();
    assert_eq!(wants(&solo), [1, 1, 1, 0]);
    solo.sent();
    for (at, wanted, held) in [(0, [0, 1, 1, 0], 1999), (1, [0, 0, 1, 1], 2000)] {
        solo.end(0, streams[at]).expect("no fault");
        assert_eq!(solo.machine.body_bytes(), if at == 0 { 2000 } else { 1999 }, "not arrived");
        solo.machine.handle_acked(peer(0), streams[at]);
        solo.settle();
        assert_eq!((wants(&solo), solo.machine.body_bytes()), (wanted.to_vec(), held));
    }
}

/// The transport takes nothing of it: the room is taken as long as the answer is there.
#[test]
fn an_answer_that_is_not_read_takes_its_room_until_the_deadline() {
    let config = config(|route| {
        (route.request_bytes_max, route.response_bytes_max) = (10, 1000);
        route.body_bytes_max = 1000;
    });
    let mut solo = Solo::new(&config, 2);
    let (lazy, asked) = solo.asked(0, 5);
    solo.machine.answer(solo.now, asked.id, body(1000)).expect("somebody waits");
    solo.settle();
    let sent = solo.send(0, 1 << 16, 10).expect("an answer");
    assert_eq!((sent.stream, sent.bytes.len(), sent.finish), (lazy, 10, false));
    assert_eq!(solo.sent(), [], "the transport takes no more");
    let stream = solo.ask(1, 0);
    assert_eq!((solo.wants(1, stream), solo.machine.body_bytes()), (0, 1000));
    solo.writable(0, lazy);
    let sent = solo.send(0, 1 << 16, 100).expect("the rest");
    assert_eq!((sent.bytes.len(), sent.finish), (100, false));
    solo.elapse(std::time::Duration::from_secs(10));
    assert!(solo.outputs().contains(&close(0, lazy)));
    solo.assert_quiet();
}

#[test]
fn an_answer_waits_for_the_callers_room_and_goes_on_when_others_have_been_taken() {
    let config = config(|route| {
        (route.response_bytes_max, route.body_bytes_max) = (100_000, 1 << 20);
    });
    let mut solo = Solo::new(&config, 1);
    let calls = [0; 3].map(|_| solo.call(0, 1).1);
    let answer = [reply(Reply::Answer { length: 60_000 }), body(60_000).to_vec()].concat();
    // The share of one peer is 131,072 bytes.
    let taken = calls.map(|stream| solo.data(0, stream, &answer).expect("no fault"));
    let start = answer.len() - 60_000 + EAGER_BYTES_MAX;
    assert_eq!(taken, [answer.len(), answer.len(), start]);
    assert_eq!(solo.machine.body_bytes(), 120_003, "and three requests that have not ended");
    let ends = |sent: Vec<crate::solo::Sent>| -> Vec<_> {
        assert!(sent.iter().all(|sent| sent.finish && sent.bytes.is_empty()));
        sent.iter().map(|sent| sent.stream).collect()
    };
    assert_eq!(ends(solo.sent()), calls[..2], "which says that there is room");
    solo.end(0, calls[0]).expect("complete");
    assert_eq!(solo.wants(0, calls[2]), 0, "the application has not taken it");
    let (_, permit) = solo.machine.poll_outcome().expect("answered");
    assert_eq!(solo.wants(0, calls[2]), 0, "the application has not let go of it");
    solo.outputs();
    solo.machine.release(permit);
    solo.settle();
    assert_eq!(solo.outputs(), [Output::Read { peer: peer(0), stream: calls[2] }]);
    assert_eq!(solo.wants(0, calls[2]), 60_000 - EAGER_BYTES_MAX);
    assert_eq!(ends(solo.sent()), calls[2..]);
}

/// Each direction of each end has its own budget: requests never wait for answers.
#[test]
fn bytes_are_bounded_at_both_ends_whatever_they_do() {
    let config = config(|route| {
        (route.request_bytes_max, route.response_bytes_max) = (50_000, 50_000);
        (route.body_bytes_max, route.in_flight_max) = (100_000, 64);
    });
    let mut web = Web::pair(&config);
    for from in [0, 1] {
        while web.try_call(from, 1 - from, body(20_000), None, true).is_ok() {}
    }
    let (mut answered, mut ended) = (0, 0);
    for _ in 0..100 {
        for at in [0, 1] {
            web.run();
            assert!(web.nodes[at].body_bytes() <= 400_000);
            if let Some(asked) = web.request(at) {
                web.answer(at, asked.id, body(50_000));
                answered += 1;
            }
            ended += usize::from(web.outcome(at).is_some_and(|outcome| outcome.result.is_ok()));
        }
    }
    assert_eq!(
        (answered, ended),
        (10, 10),
        "five each: 50,000 bytes are under way, and as many wait"
    );
    web.assert_quiet();
}

/// A refusal needs no room: who waits for it does not wait for the refusal to be sent.
#[test]
fn what_a_refusal_gives_back_lets_others_go_on_at_once() {
    let config = config(|route| {
        (route.request_bytes_max, route.response_bytes_max) = (10, 1000);
        (route.body_bytes_max, route.in_flight_max) = (1000, 1);
    });
    // Another peer waits for room, or the same one for its turn.
    for at in [1, 0] {
        let mut solo = Solo::new(&config, 2);
        let (_, asked) = solo.asked(0, 5);
        let stream = solo.ask(at, 5);
        assert_eq!(solo.wants(at, stream), 0);
        solo.outputs();
        assert!(solo.machine.refuse(solo.now, asked.id, Refusal::Dropped));
        solo.settle();
        assert!(solo.outputs().contains(&Output::Read { peer: peer(at), stream }));
        assert_eq!(solo.wants(at, stream), 5);
    }
}

/// The transport keeps what has not arrived, and of a body all of it as long as any of it.
#[test]
fn what_has_not_arrived_takes_its_room() {
    let mut solo = Solo::new(&config(|_| {}), 1);
    solo.holds_acks = true;
    let (_, called) = solo.call(0, 5_000);
    assert_eq!(solo.machine.body_bytes(), 5_000, "all of it is sent");
    solo.machine.handle_acked(peer(0), called);
    solo.settle();
    assert_eq!(solo.machine.body_bytes(), 0);

    let (stream, asked) = solo.asked(0, 100);
    assert_eq!(solo.end(0, stream), Ok(()));
    solo.machine.answer(solo.now, asked.id, body(7_000)).expect("it is waited for");
    solo.settle();
    assert!(solo.sent().last().is_some_and(|sent| sent.finish));
    assert_eq!((solo.machine.body_bytes(), solo.machine.len()), (7_000, 2));
    // Until its deadline passes, and the stream is reset with what is in it.
    solo.elapse(ms(300_000));
    assert!(solo.outputs().contains(&close(0, stream)));
    let (_, permit) = solo.machine.poll_outcome().expect("too late");
    solo.machine.release(permit);
    assert_eq!((solo.machine.body_bytes(), solo.machine.len()), (0, 0));
}

/// An acknowledged request is not reset when its answer comes; another is, since the transport would
/// keep it.
#[test]
fn an_answer_to_what_was_not_acknowledged_ends_the_stream() {
    for holds_acks in [false, true] {
        let mut solo = Solo::new(&config(|route| route.response_bytes_max = 100), 1);
        solo.holds_acks = holds_acks;
        let (_, stream) = solo.call(0, 10);
        let bytes = reply(Reply::Answer { length: 0 });
        assert_eq!(solo.data(0, stream, &bytes), Ok(bytes.len()));
        assert_eq!(solo.end(0, stream), Ok(()));
        assert_eq!(solo.outputs(), if holds_acks { vec![close(0, stream)] } else { vec![] });
        assert!(solo.machine.poll_outcome().is_some_and(|(outcome, _)| outcome.result.is_ok()));
    }
}

/// Room that was granted to an answer goes to the next, when its call is given up.
#[test]
fn a_call_that_ends_lets_the_answers_of_others_go_on() {
    let config = config(|route| {
        (route.request_bytes_max, route.response_bytes_max) = (1000, 100_000);
        route.body_bytes_max = 100_000;
    });
    let mut solo = Solo::new(&config, 2);
    let [(first, one), (_, two)] = [0, 1].map(|at| solo.call(at, 1));
    let answer = reply(Reply::Answer { length: 60_000 });
    for (at, stream) in [(0, one), (1, two)] {
        solo.data(at, stream, &answer).expect("no fault");
    }
    assert_eq!((solo.wants(0, one), solo.wants(1, two)), (60_000, EAGER_BYTES_MAX));
    solo.outputs();
    assert!(solo.machine.cancel(first));
    solo.settle();
    assert!(solo.outputs().contains(&Output::Read { peer: peer(1), stream: two }));
    assert_eq!(solo.wants(1, two), 60_000);
}
