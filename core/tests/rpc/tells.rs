//! Messages: they wait for the connection and for credit, and for no answer; what cannot be sent in time
//! is dropped, and its outcome says so.

use bytes::Bytes;
use slotcast::error::{AnswerError, CallError};
use slotcast::rpc::ANSWER_BYTES_KEPT;
use slotcast::rpc::Output;
use slotcast::wire::{CallReset, Reply};

use crate::solo::{Solo, head_in, reply};
use crate::web::{ROUTE, Web, body, config, ms, peer};

#[test]
fn a_message_is_over_when_the_application_has_it() {
    let mut web = Web::pair(&config(|_| {}));
    for length in [0, 5, 100_000] {
        let told = web.tell(0, 1, body(length));
        web.run();
        assert_eq!(web.outcome(0), None, "nobody has it");
        let message = web.request(1).expect("it has come");
        assert_eq!(message.body, body(length));
        assert_eq!((message.wants_answer, message.answer_bytes_max), (false, 0));
        let answered = web.nodes[1].answer(web.now, message.id, Bytes::new());
        assert_eq!(answered, Err(AnswerError::Cancelled));
        web.run();
        assert_eq!(web.result(0, told), Ok(Bytes::new()));
        web.assert_quiet();
    }
}

/// The room for answers has nothing to do with it.
#[test]
fn no_room_is_kept_for_the_answer_to_a_message() {
    let mut web = Web::pair(&config(|_| {}));
    web.tell(0, 1, body(3));
    web.run();
    assert_eq!(web.nodes[1].body_bytes(), 3);
    web.call(0, 1, body(3));
    web.run();
    assert_eq!(web.nodes[1].body_bytes(), 6 + u64::from(ANSWER_BYTES_KEPT));
}

#[test]
fn messages_wait_for_the_connection() {
    let mut web = Web::pair(&config(|_| {}));
    web.down(0, 1);
    assert_eq!(web.try_call(0, 1, body(1), None, true), Err(CallError::NotConnected));
    let told = [1, 2].map(|length| web.tell(0, 1, body(length)));
    web.elapse(ms(5000));
    assert_eq!(web.outcome(0), None);
    web.up(0, 1);
    web.run();
    for (at, told) in told.into_iter().enumerate() {
        assert_eq!(web.request(1).expect("it has come").body, body(at + 1), "in order");
        web.run();
        assert_eq!(web.result(0, told), Ok(Bytes::new()));
    }
    web.assert_quiet();
}

#[test]
fn messages_and_calls_wait_for_credit_in_order() {
    let mut web = Web::pair(&config(|route| route.in_flight_max = 1));
    let call = web.call(0, 1, body(1));
    web.tell(0, 1, body(2));
    web.call(0, 1, body(3));
    web.run();
    let asked = web.request(1).expect("the first");
    web.answer(1, asked.id, body(1));
    web.run();
    assert_eq!(web.result(0, call), Ok(body(1)));
    assert_eq!(web.request(1).expect("the message").body, body(2));
    web.run();
    assert_eq!(web.request(1).expect("the next call").body, body(3));
}

#[test]
fn a_message_is_dropped_at_its_deadline() {
    let mut web = Web::pair(&config(|route| route.in_flight_max = 1));
    let call = web.call(0, 1, body(1));
    let without_credit = web.try_tell(0, 1, body(2), Some(ms(100))).expect("it waits");
    web.elapse(ms(100));
    assert_eq!(web.result(0, without_credit), Err(CallError::DeadlinePassed));
    web.down(0, 1);
    assert_eq!(web.result(0, call), Err(CallError::Disconnected));
    let without_connection = web.tell(0, 1, body(2));
    web.elapse(ms(10_000));
    assert_eq!(web.result(0, without_connection), Err(CallError::DeadlinePassed));
    assert_eq!(web.try_tell(0, 1, body(2), Some(ms(0))), Err(CallError::DeadlinePassed));
    web.up(0, 1);
    web.assert_quiet();
}

/// It may have come, and is not sent twice. What has not been sent waits for the next connection.
#[test]
fn a_message_under_way_is_dropped_with_its_connection() {
    let mut web = Web::pair(&config(|route| route.in_flight_max = 1));
    web.held.insert((0, 1));
    let [under_way, waiting] = [1, 2].map(|length| web.tell(0, 1, body(length)));
    web.run();
    web.down(0, 1);
    assert_eq!(web.result(0, under_way), Err(CallError::Disconnected));
    web.held.clear();
    web.up(0, 1);
    web.run();
    assert_eq!(web.request(1).expect("the other").body, body(2));
    web.run();
    assert_eq!(web.result(0, waiting), Ok(Bytes::new()));
    web.assert_quiet();
}

#[test]
fn a_message_that_the_peer_does_not_take_is_dropped_when_that_is_known() {
    let short = config(|route| route.request_bytes_max = 10);
    let silent = config(|route| route.serves = false);
    let mut web = Web::new(&[config(|_| {}), short, silent]);
    for (to, error) in [(1, CallError::TooLong), (2, CallError::NotServed)] {
        assert_eq!(web.try_tell(0, to, body(11), None), Err(error));
        web.down(0, to);
        let told = web.tell(0, to, body(11));
        web.up(0, to);
        assert_eq!(web.result(0, told), Err(error));
    }
    web.down(0, 1);
    let told = web.tell(0, 1, body(1));
    web.nodes[0].remove_peer(peer(1));
    web.settle(0);
    assert_eq!(web.result(0, told), Err(CallError::NotMember));
    assert_eq!((web.nodes[0].len(), web.nodes[0].body_bytes()), (0, 0));
}

#[test]
fn messages_that_wait_are_bounded_in_number_and_bytes() {
    let config = config(|route| {
        (route.in_flight_max, route.waiting_max) = (2, 3);
        (route.request_bytes_max, route.response_bytes_max) = (1000, 0);
        route.body_bytes_max = 8000;
    });
    for (length, fit) in [(0, 5), (1000, 2)] {
        let mut web = Web::pair(&config);
        web.down(0, 1);
        for _ in 0..fit {
            web.tell(0, 1, body(length));
        }
        assert_eq!(web.try_tell(0, 1, body(length), None), Err(CallError::Pushback));
    }
}

/// An older node does not know messages: it answers.
#[test]
fn what_is_answered_to_a_message_is_not_read() {
    let mut solo = Solo::new(&config(|_| {}), 1);
    let told = solo.machine.tell(solo.now, peer(0), ROUTE, body(5), None).expect("there is credit");
    solo.settle();
    let [sent] = &solo.sent()[..] else { panic!("one stream") };
    let (head, rest) = head_in(&sent.bytes);
    assert!(!head.wants_answer && sent.finish && rest == body(5));
    let answer = reply(Reply::Answer { length: 3 });
    assert_eq!(solo.data(0, sent.stream, &answer), Ok(answer.len()));
    let (outcome, permit) = solo.machine.poll_outcome().expect("over");
    solo.machine.release(permit);
    assert_eq!((outcome.call, outcome.result), (told, Ok(Bytes::new())));
    let why = CallReset::Unneeded;
    assert_eq!(solo.outputs(), [Output::Close { peer: peer(0), stream: sent.stream, why }]);
    solo.assert_quiet();
}
