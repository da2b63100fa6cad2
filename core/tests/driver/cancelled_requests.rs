//! Requests that nobody waits for any more, before the application has them and after.

use slotcast::error::CallError;

use crate::bench::{Bench, Waiting, config, ms};

#[test]
fn a_staged_request_that_its_caller_gives_up_is_not_handed_out() {
    let mut bench = Bench::new(2, &config());
    let server = bench.serve(1);
    let (route, callee) = (bench.route(0), bench.id(1));
    let (first, second) = (route.call(callee, "first"), route.call(callee, "second"));
    bench.elapse(ms(100));
    drop(first);
    bench.elapse(ms(100));
    let request = server.try_next().expect("the second");
    assert_eq!(request.body(), "second");
    assert!(server.try_next().is_none());
    request.answer("answer").expect("it waits");
    assert_eq!(bench.run(second), Ok("answer".into()));
}

#[test]
fn who_holds_a_request_is_told_that_its_caller_has_given_it_up() {
    let mut bench = Bench::new(2, &config());
    let server = bench.serve(1);
    let call = bench.route(0).call(bench.id(1), "x");
    let request = bench.run(server.next()).expect("a request");
    let mut told = Waiting::new(async { request.cancelled().await });
    assert_eq!(told.poll(), None);
    drop(call);
    bench.elapse(ms(100));
    assert_eq!(told.poll(), Some(()));
}

#[test]
fn after_the_last_server_callers_are_told_at_once() {
    let mut bench = Bench::new(2, &config());
    let server = bench.serve(1);
    let (route, callee) = (bench.route(0), bench.id(1));
    let again = server.clone();
    drop(server);
    let call = route.call(callee, "x");
    let request = bench.run(again.next()).expect("there is a server left");
    request.answer("y").expect("it waits");
    assert_eq!(bench.run(call), Ok("y".into()));
    drop(again);
    bench.settle();
    let begun = bench.network.lock().unwrap().now;
    assert_eq!(bench.run(route.call(callee, "x")), Err(CallError::NotServed));
    assert!(bench.network.lock().unwrap().now - begun < ms(100));
}
