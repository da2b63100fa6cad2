//! Room for long answers: waited for, or the caller is told that the callee is busy.

use slotcast::config::Config;
use slotcast::error::{AnswerError, CallError};

use crate::subnet::{Subnet, Waiting, config, ms};

const LONG: u32 = 1 << 20;

/// Room for one long answer of each member, and for one other.
fn config_of_long() -> Config {
    let mut config = config();
    let route = &mut config.routes[0];
    (route.request_bytes_max, route.response_bytes_max) = (100, LONG);
    route.body_bytes_max = 10 * u64::from(LONG);
    config
}

fn answer() -> Vec<u8> {
    vec![7; LONG as usize]
}

#[test]
fn who_waits_for_room_gets_it_when_another_answer_has_arrived() {
    let mut subnet = Subnet::connected(2, &config_of_long());
    let server = subnet.serve(1);
    let (route, callee) = (subnet.route(0), subnet.id(1));
    let mut calls = [(); 2].map(|()| Waiting::new(route.call(callee, "x")));
    let requests = [(); 2].map(|()| subnet.run(server.next_request()).expect("a request"));
    let [first, second] = requests;
    assert_eq!(subnet.run(first.room(LONG)), Ok(()));
    let mut room = Waiting::new(second.room(LONG));
    assert_eq!(room.poll(), None);
    subnet.elapse(ms(100));
    assert_eq!(room.poll(), None, "the first one has it");
    assert_eq!(first.answer(answer()), Ok(()));
    subnet.elapse(ms(1000));
    assert_eq!(calls[0].poll(), Some(Ok(answer().into())));
    assert_eq!(room.poll(), Some(Ok(())));
    drop(room);
    assert_eq!(second.answer(answer()), Ok(()));
    subnet.elapse(ms(1000));
    assert_eq!(calls[1].poll(), Some(Ok(answer().into())));
}

#[test]
fn the_caller_of_an_answer_without_room_is_told_that_the_callee_is_busy() {
    let mut subnet = Subnet::connected(2, &config_of_long());
    let server = subnet.serve(1);
    let (route, callee) = (subnet.route(0), subnet.id(1));
    let mut calls = [(); 2].map(|()| Waiting::new(route.call(callee, "x")));
    let requests = [(); 2].map(|()| subnet.run(server.next_request()).expect("a request"));
    subnet.run(requests[0].room(LONG)).expect("there is room");
    for request in requests {
        assert_eq!(request.answer(answer()), Ok(()));
    }
    subnet.elapse(ms(1000));
    assert_eq!(calls[0].poll(), Some(Ok(answer().into())));
    assert!(matches!(calls[1].poll(), Some(Err(CallError::Busy { .. }))));
}

#[test]
fn who_waits_for_room_is_told_that_nobody_waits_for_the_answer() {
    let mut subnet = Subnet::connected(2, &config_of_long());
    let server = subnet.serve(1);
    let (route, callee) = (subnet.route(0), subnet.id(1));
    let (_first, second) = (route.call(callee, "x"), route.call(callee, "x"));
    let requests = [(); 2].map(|()| subnet.run(server.next_request()).expect("a request"));
    assert_eq!(subnet.run(requests[0].room(LONG)), Ok(()));
    let mut room = Waiting::new(requests[1].room(LONG));
    assert_eq!(room.poll(), None);
    drop(second);
    subnet.elapse(ms(100));
    assert_eq!(room.poll(), Some(Err(AnswerError::Cancelled)));
    assert_eq!(subnet.run(requests[0].room(LONG + 1)), Err(AnswerError::TooLong));
}
