//! Room for bodies: a request or an answer that the application has not taken, or does not want any
//! more, takes its room until then, and no longer.

use slotcast::config::Config;
use slotcast::driver::Server;
use slotcast::error::CallError;

use crate::subnet::{Subnet, config, ms};

/// The longest answer.
const ANSWER: usize = 100_000;

/// There is room for one answer.
fn narrow() -> Config {
    let mut config = config();
    let route = &mut config.routes[0];
    (route.request_bytes_max, route.response_bytes_max) = (8, ANSWER as u32);
    route.body_bytes_max = ANSWER as u64;
    config
}

/// Answers whatever has been asked, at its longest.
fn answer_all(server: &Server) -> usize {
    let requests = std::iter::from_fn(|| server.try_request());
    requests.map(|request| request.answer(vec![7; ANSWER]).expect("it waits")).count()
}

/// Credit is of calls and of bytes; who does not wait is told before anything is queued.
#[test]
fn a_call_that_does_not_wait_is_pushed_back_for_want_of_bytes() {
    let mut config = config();
    // A peer has room for 2,000 bytes.
    (config.routes[0].request_bytes_max, config.routes[0].body_bytes_max) = (1000, 16_000);
    config.routes[0].response_bytes_max = 16;
    let mut subnet = Subnet::connected(2, &config);
    let (route, callee) = (subnet.route(0), subnet.id(1));
    let server = subnet.serve(1);
    let long = || vec![0; 1000];
    let calls = [0, 1].map(|_| route.try_call(callee, long()).expect("there is credit"));
    assert_eq!(route.try_call(callee, "x").err(), Some(CallError::Pushback));
    let waiting = route.call(callee, "x");
    subnet.elapse(ms(100));
    for call in calls {
        subnet.run(server.next_request()).expect("a request").answer("y").expect("it waits");
        assert_eq!(subnet.run(call), Ok("y".into()));
    }
    route.try_call(callee, vec![0; 999]).expect("there is credit").detach();
    subnet.run(server.next_request()).expect("the one that waited").answer("z").expect("it waits");
    assert_eq!(subnet.run(waiting), Ok("z".into()));
}

/// The bytes of requests to all members are bounded, too, and free when they have arrived.
#[test]
fn a_call_that_does_not_wait_is_pushed_back_for_want_of_this_nodes_room() {
    let mut config = config();
    (config.routes[0].request_bytes_max, config.routes[0].body_bytes_max) = (1000, 1000);
    config.routes[0].response_bytes_max = 16;
    let mut subnet = Subnet::connected(3, &config);
    let route = subnet.route(0);
    let [one, two] = [1, 2].map(|at| subnet.id(at));
    let _calls = [one, two].map(|to| route.try_call(to, vec![0; 500]).expect("there is room"));
    assert_eq!(route.try_call(two, "x").err(), Some(CallError::Pushback));
    subnet.elapse(ms(100));
    let _more = route.try_call(two, vec![0; 500]).expect("the others have arrived");
}

#[test]
fn an_answer_that_is_taken_makes_room_for_the_next_at_once() {
    let mut subnet = Subnet::connected(2, &narrow());
    let server = subnet.serve(1);
    let (route, callee) = (subnet.route(0), subnet.id(1));
    let (first, second) = (route.call(callee, "x"), route.call(callee, "y"));
    for _ in 0..10 {
        subnet.elapse(ms(100));
        answer_all(&server);
    }
    let before = subnet.node(0).stats().received_bytes as usize;
    assert!(before < 2 * ANSWER, "only one answer has come: {before}");
    assert_eq!(subnet.run(first).map(|answer| answer.len()), Ok(ANSWER));
    // Time stands still: taking the first one is what wakes the driver.
    let sent = subnet.node(0).stats().sent_datagrams;
    subnet.settle();
    assert!(subnet.node(0).stats().sent_datagrams > sent, "the callee may go on");
    for _ in 0..10 {
        subnet.elapse(ms(100));
        answer_all(&server);
    }
    assert_eq!(subnet.run(second).map(|answer| answer.len()), Ok(ANSWER));
}

#[test]
fn an_answer_that_is_dropped_unread_gives_its_room_back() {
    let mut subnet = Subnet::connected(2, &narrow());
    let server = subnet.serve(1);
    let (route, callee) = (subnet.route(0), subnet.id(1));
    for number in 0..3 {
        let call = route.call(callee, "x");
        subnet.elapse(ms(200));
        assert_eq!(answer_all(&server), 1, "call {number} has come through");
        let before = subnet.node(0).stats().received_bytes as usize;
        subnet.elapse(ms(200));
        let came = subnet.node(0).stats().received_bytes as usize - before;
        assert!(came > ANSWER, "answer {number} has come: {came} bytes");
        drop(call);
    }
}

/// Another thread drops the call while the driver takes in its answer: with each of the datagrams that
/// bring it, the last one among them.
#[test]
fn an_answer_that_meets_a_dropped_call_gives_its_room_back() {
    const LENGTH: usize = 20_000;
    let mut config = config();
    let route = &mut config.routes[0];
    (route.request_bytes_max, route.response_bytes_max) = (8, LENGTH as u32);
    route.body_bytes_max = LENGTH as u64;
    let mut subnet = Subnet::connected(2, &config);
    let server = subnet.serve(1);
    let (route, callee) = (subnet.route(0), subnet.id(1));
    let mut was_late = false;
    for others in 0..60 {
        let call = route.call(callee, "x");
        let request = subnet.run(server.next_request()).expect("a request");
        subnet.elapse(ms(100));
        let give_up: Box<dyn FnOnce()> = Box::new(move || drop(call));
        subnet.network.socket(0).meanwhile = Some((others, give_up));
        request.answer(vec![7; LENGTH]).expect("the caller waits");
        subnet.elapse(ms(200));
        let late = subnet.network.socket(0).meanwhile.take();
        was_late |= late.is_some();
    }
    assert!(was_late, "the last datagram was among them");
    let call = route.call(callee, "x");
    let request = subnet.run(server.next_request()).expect("a request");
    request.answer(vec![7; LENGTH]).expect("the caller waits");
    assert_eq!(subnet.run(call).map(|answer| answer.len()), Ok(LENGTH));
}

#[test]
fn a_request_that_is_given_up_on_the_stage_gives_its_room_back() {
    let mut narrow = narrow();
    (narrow.routes[0].request_bytes_max, narrow.routes[0].response_bytes_max) = (ANSWER as u32, 8);
    let mut subnet = Subnet::connected(2, &narrow);
    let server = subnet.serve(1);
    let (route, callee) = (subnet.route(0), subnet.id(1));
    for _ in 0..3 {
        let call = route.call(callee, vec![1; ANSWER]);
        subnet.elapse(ms(200));
        drop(call);
        subnet.elapse(ms(200));
        assert!(server.try_request().is_none());
    }
    let call = route.call(callee, vec![2; ANSWER]);
    subnet.elapse(ms(200));
    assert_eq!(server.try_request().map(|request| request.body()[0]), Some(2));
    drop(call);
}

#[test]
fn a_request_that_is_taken_makes_room_for_the_next_at_once() {
    let mut narrow = narrow();
    (narrow.routes[0].request_bytes_max, narrow.routes[0].response_bytes_max) = (ANSWER as u32, 8);
    let mut subnet = Subnet::connected(3, &narrow);
    let server = subnet.serve(1);
    let callee = subnet.id(1);
    let first = subnet.route(0).call(callee, vec![1; ANSWER]);
    subnet.elapse(ms(500));
    let second = subnet.route(2).call(callee, vec![2; 20_000]);
    subnet.elapse(ms(500));
    let request = server.try_request().expect("the first one");
    assert!(server.try_request().is_none(), "there is room for one");
    // Time stands still: taking it is what wakes the driver.
    let sent = subnet.node(1).stats().sent_datagrams;
    subnet.settle();
    assert!(subnet.node(1).stats().sent_datagrams > sent, "the caller may go on");
    subnet.elapse(ms(500));
    assert_eq!(server.try_request().map(|request| request.body().len()), Some(20_000));
    drop((request, first, second));
}
