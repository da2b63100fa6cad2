//! Bodies of all lengths, there and back; how a stream's two directions end.

use slotcast::error::AnswerError;
use slotcast::rpc::Refusal;
use slotcast::wire::EAGER_BYTES_MAX;

use crate::web::{Web, body, config, peer};

const LENGTHS: [usize; 9] =
    [0, 1, 100, EAGER_BYTES_MAX - 1, EAGER_BYTES_MAX, EAGER_BYTES_MAX + 1, 65_536, 70_000, 1 << 20];

/// Calls with each of the lengths for each of the others, as the web is set up.
fn all_lengths(web: &mut Web, lengths: &[usize], answer_bytes_max: usize) {
    for (request, answer) in lengths.iter().flat_map(|r| lengths.iter().map(move |a| (*r, *a))) {
        if answer > answer_bytes_max {
            continue;
        }
        let call = web.call(0, 1, body(request));
        web.run();
        assert_eq!(web.outcome(0), None);
        let asked = web.request(1).expect("it has come");
        assert!(asked.body == body(request) && asked.from == peer(0));
        assert_eq!(asked.answer_bytes_max as usize, answer_bytes_max);
        web.answer(1, asked.id, body(answer));
        web.run();
        assert!(web.result(0, call) == Ok(body(answer)), "{request} for {answer}");
        web.assert_quiet();
    }
}

/// Where no answer is longer than what is prepaid, the caller's direction ends with the request;
/// else when there is room for the answer.
#[test]
fn bodies_of_all_lengths_come_as_they_were_sent() {
    for answer_bytes_max in [0, 1, EAGER_BYTES_MAX, EAGER_BYTES_MAX + 1, 1 << 20] {
        let config = config(|route| route.response_bytes_max = answer_bytes_max as u32);
        all_lengths(&mut Web::pair(&config), &LENGTHS, answer_bytes_max);
    }
}

#[test]
fn it_does_not_matter_how_the_bytes_are_cut() {
    for answer_bytes_max in [EAGER_BYTES_MAX, EAGER_BYTES_MAX + 100] {
        for (cut, window, room) in [(1, usize::MAX, 1 << 16), (7, 100, 33), (usize::MAX, 1, 2)] {
            let config = config(|route| route.response_bytes_max = answer_bytes_max as u32);
            let mut web = Web::pair(&config);
            (web.cut, web.window, web.room) = (cut, window, room);
            let lengths = [0, 1, EAGER_BYTES_MAX, EAGER_BYTES_MAX + 1];
            all_lengths(&mut web, &lengths, answer_bytes_max);
        }
    }
}

#[test]
fn many_calls_at_once_both_ways_each_get_their_own_answer() {
    let mut web = Web::pair(&config(|_| {}));
    let mut calls = Vec::new();
    for n in 0..40 {
        let from = n % 2;
        calls.push((from, web.call(from, 1 - from, body(n * 997)), n * 997));
    }
    web.run();
    for at in [0, 1] {
        while let Some(asked) = web.request(at) {
            let length = asked.body.len() + 1;
            web.answer(at, asked.id, body(length));
            web.run();
        }
    }
    for (from, call, length) in calls {
        let result = web.result(from, call);
        assert!(result == Ok(body(length + 1)), "in the order in which they were answered");
    }
    web.assert_quiet();
}

/// Nothing of a long request but its start, and nothing of a long answer but its start, is sent
/// before the other side has said that it has room.
#[test]
fn what_is_long_waits_for_room_at_the_other_end() {
    let mut web = Web::pair(&config(|_| {}));
    web.held.insert((0, 1));
    let call = web.call(0, 1, body(100_000));
    web.run();
    assert!((1..64).contains(&(web.carried[&(0, 1)] - EAGER_BYTES_MAX)), "a head beside it");
    web.held.clear();
    web.held.insert((1, 0));
    web.run();
    assert!((1..64).contains(&(web.carried[&(0, 1)] - EAGER_BYTES_MAX)), "nobody has answered");
    web.held.clear();
    web.run();
    assert!((1..64).contains(&(web.carried[&(0, 1)] - 100_000)));
    let asked = web.request(1).expect("complete");
    let before = web.carried[&(1, 0)];
    web.held.insert((0, 1));
    web.answer(1, asked.id, body(200_000));
    web.run();
    assert!((1..64).contains(&(web.carried[&(1, 0)] - before - EAGER_BYTES_MAX)));
    web.held.clear();
    web.run();
    assert!(web.result(0, call) == Ok(body(200_000)));
    web.assert_quiet();
}

#[test]
fn an_answer_is_given_once() {
    let mut web = Web::pair(&config(|_| {}));
    let call = web.call(0, 1, body(3));
    web.run();
    let asked = web.request(1).expect("it has come");
    web.answer(1, asked.id, body(5));
    let again = web.nodes[1].answer(web.now, asked.id, body(6));
    assert_eq!(again, Err(AnswerError::Cancelled));
    assert!(!web.refuse(1, asked.id, Refusal::Dropped));
    web.run();
    assert_eq!(web.result(0, call), Ok(body(5)));
    assert!(!web.cancel(0, call), "it has ended");
    let late = web.nodes[1].answer(web.now, asked.id, body(6));
    assert_eq!(late, Err(AnswerError::Cancelled));
    web.assert_quiet();
}

#[test]
fn an_answer_that_is_too_long_leaves_the_request_to_be_answered() {
    let [small, large] = [100, 200].map(|max| config(|route| route.response_bytes_max = max));
    // The narrower bound holds, whosever it is.
    for configs in [[small.clone(), large.clone()], [large, small]] {
        let mut web = Web::new(&configs);
        let call = web.call(0, 1, body(3));
        web.run();
        let asked = web.request(1).expect("it has come");
        assert_eq!(asked.answer_bytes_max, 100);
        let too_long = web.nodes[1].answer(web.now, asked.id, body(101));
        assert_eq!(too_long, Err(AnswerError::TooLong));
        web.settle(1);
        web.answer(1, asked.id, body(100));
        web.run();
        assert_eq!(web.result(0, call), Ok(body(100)));
        web.assert_quiet();
    }
}
