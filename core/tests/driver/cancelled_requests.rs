//! Requests that nobody waits for any more, before the application has them and after.

use slotcast::error::CallError;

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
    let request = server.try_next().expect("the second");
    assert_eq!(request.body(), "second");
    assert!(server.try_next().is_none());
    request.answer("answer").expect("it waits");
    assert_eq!(subnet.run(second), Ok("answer".into()));
}

#[test]
fn who_holds_a_request_is_told_that_its_caller_has_given_it_up() {
    let mut subnet = Subnet::connected(2, &config());
    let server = subnet.serve(1);
    let call = subnet.route(0).call(subnet.id(1), "x");
    let request = subnet.run(server.next()).expect("a request");
    let mut told = Waiting::new(async { request.cancelled().await });
    assert_eq!(told.poll(), None);
    drop(call);
    subnet.elapse(ms(100));
    assert_eq!(told.poll(), Some(()));
}

#[test]
fn after_the_last_server_callers_are_told_at_once() {
    let mut subnet = Subnet::connected(2, &config());
    let server = subnet.serve(1);
    let (route, callee) = (subnet.route(0), subnet.id(1));
    let again = server.clone();
    drop(server);
    let call = route.call(callee, "x");
    let request = subnet.run(again.next()).expect("there is a server left");
    request.answer("y").expect("it waits");
    assert_eq!(subnet.run(call), Ok("y".into()));
    drop(again);
    subnet.settle();
    let begun = subnet.network.elapsed();
    assert_eq!(subnet.run(route.call(callee, "x")), Err(CallError::NotServed));
    assert!(subnet.network.elapsed() - begun < ms(100));
}
