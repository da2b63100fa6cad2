//! Requests that nobody waits for any more, before the application has them and after.

use slotcast::error::{AnswerError, CallError};

use crate::subnet::{Subnet, Waiting, config, ms};

#[test]
fn a_staged_request_that_its_caller_gives_up_is_not_handed_out() {
    let mut subnet = Subnet::connected(2, &config());
    let server = subnet.serve(1);
    let (route, callee) = (subnet.route(0), subnet.id(1));
    let (first, second) = (route.call(callee, "first"), route.call(callee, "second"));
    subnet.elapse(ms(100));
    drop(first);
    subnet.elapse(ms(100));
    let request = server.try_request().expect("the second");
    assert_eq!(request.body(), "second");
    assert!(server.try_request().is_none());
    request.answer("answer").expect("it waits");
    assert_eq!(subnet.run(second), Ok("answer".into()));
}

#[test]
fn who_holds_a_request_is_told_that_its_caller_has_given_it_up() {
    let mut subnet = Subnet::connected(2, &config());
    let server = subnet.serve(1);
    let call = subnet.route(0).call(subnet.id(1), "x");
    let request = subnet.run(server.next_request()).expect("a request");
    let mut told = Waiting::new(async { request.cancelled().await });
    assert_eq!(told.poll(), None);
    let mut told_too = Waiting::new(async { request.cancelled().await });
    assert_eq!(told_too.poll(), None);
    drop(call);
    subnet.elapse(ms(100));
    assert_eq!((told.poll(), told_too.poll()), (Some(()), Some(())));
}

#[test]
fn both_ends_are_told_that_the_callee_works_on_no_request_for_so_long() {
    let mut config = config();
    (config.routes[0].deadline, config.routes[0].deadline_max) = (ms(2000), ms(2000));
    let mut subnet = Subnet::connected(2, &config);
    let server = subnet.serve(1);
    let mut call = Waiting::new(subnet.route(0).call_within(subnet.id(1), "x", ms(9000)));
    let request = subnet.run(server.next_request()).expect("a request");
    subnet.run(request.cancelled());
    assert_eq!(request.answer("late"), Err(AnswerError::DeadlineMaxPassed));
    subnet.elapse(ms(100));
    assert_eq!(call.poll(), Some(Err(CallError::DeadlineMaxPassed)));
}

#[test]
fn after_the_last_server_callers_are_told_at_once() {
    let mut subnet = Subnet::connected(2, &config());
    let server = subnet.serve(1);
    let (route, callee) = (subnet.route(0), subnet.id(1));
    let again = server.clone();
    drop(server);
    let call = route.call(callee, "x");
    let request = subnet.run(again.next_request()).expect("there is a server left");
    request.answer("y").expect("it waits");
    assert_eq!(subnet.run(call), Ok("y".into()));
    drop(again);
    subnet.settle();
    let begun = subnet.network.elapsed();
    assert_eq!(subnet.run(route.call(callee, "x")), Err(CallError::NotServed));
    assert!(subnet.network.elapsed() - begun < ms(100));
}

#[test]
fn requests_that_wait_for_the_last_server_are_refused_when_it_is_dropped() {
    let mut subnet = Subnet::connected(2, &config());
    let server = subnet.serve(1);
    let (route, callee) = (subnet.route(0), subnet.id(1));
    let mut calls: Vec<_> = (0..40).map(|_| Waiting::new(route.call(callee, "x"))).collect();
    subnet.elapse(ms(100));
    assert!(calls.iter_mut().all(|call| call.poll().is_none()));
    drop(server);
    subnet.elapse(ms(100));
    for call in &mut calls {
        let ended = call.poll();
        assert!(matches!(ended, Some(Err(CallError::Dropped | CallError::NotServed))), "{ended:?}");
    }
}

/// [`Server::next_request`](slotcast::driver::Server::next_request): members take turns.
#[test]
fn requests_are_handed_out_in_turns_of_members() {
    let mut subnet = Subnet::connected(3, &config());
    let server = subnet.serve(0);
    let to = subnet.id(0);
    // The first has asked often before the other one asks.
    let mut calls: Vec<_> = (0..10).map(|_| subnet.route(1).call(to, "x")).collect();
    subnet.elapse(ms(100));
    calls.extend((0..3).map(|_| subnet.route(2).call(to, "x")));
    subnet.elapse(ms(100));
    let from: Vec<_> = std::iter::from_fn(|| server.try_request()).map(|it| it.from()).collect();
    let of_other = |count| from[..count].iter().filter(|from| **from == subnet.id(2)).count();
    assert_eq!((of_other(2), of_other(4), of_other(6)), (1, 2, 3), "{from:?}");
    assert_eq!(from.len(), 13);
}

/// [`Request`](slotcast::driver::Request): what becomes of one that is not answered, and
/// [`Request::answer`](slotcast::driver::Request::answer) and
/// [`Request::busy`](slotcast::driver::Request::busy), which are told to who waits.
#[test]
fn callers_are_told_why_there_is_no_answer() {
    let mut subnet = Subnet::connected(2, &config());
    let server = subnet.serve(1);
    let (route, to) = (subnet.route(0), subnet.id(1));
    let dropped = route.call(to, "x");
    drop(subnet.run(server.next_request()).expect("a request"));
    assert_eq!(subnet.run(dropped), Err(CallError::Dropped));
    let refused = route.call(to, "x");
    let retry_after = ms(700);
    subnet.run(server.next_request()).expect("a request").busy(retry_after).expect("it waits");
    assert_eq!(subnet.run(refused), Err(CallError::Busy { retry_after }));
    let too_long = route.call(to, "x");
    let request = subnet.run(server.next_request()).expect("a request");
    let longest = request.answer_bytes_max() as usize;
    assert_eq!(request.answer(vec![7; longest + 1]), Err(AnswerError::TooLong));
    assert_eq!(subnet.run(too_long), Err(CallError::Dropped));
}
