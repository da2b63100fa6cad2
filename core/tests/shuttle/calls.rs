//! Calls, requests and their ends.

use bytes::Bytes;
use shuttle::future::block_on;
use shuttle::thread::{self, JoinHandle};
use slotcast::config::RouteConfig;
use slotcast::driver::{Request, Server};
use slotcast::error::{AnswerError, CallError};

use crate::check;
use crate::nodes::{Node, pair, poll_twice, route_config};

const SCHEDULES: usize = 800;

fn join<T>(threads: impl IntoIterator<Item = JoinHandle<T>>) -> Vec<T> {
    threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
}

/// A thread that answers one request with its body, if there is one before the end.
fn answers_one(server: Server) -> JoinHandle<bool> {
    thread::spawn(move || {
        let Some(request) = block_on(server.next_request()) else { return false };
        let body = request.body().clone();
        request.answer(body).is_ok()
    })
}

fn serve(node: &Node) -> Server {
    node.route().serve().expect("it serves")
}

fn call(from: &Node, to: &Node, body: &'static str) -> JoinHandle<Result<Bytes, CallError>> {
    let (route, to) = (from.route(), to.id());
    thread::spawn(move || block_on(route.call(to, body)))
}

pub(crate) fn two_calls() {
    let [caller, callee] = pair(route_config());
    let server = serve(&callee);
    let servers = [answers_one(server.clone()), answers_one(server)];
    let calls = [call(&caller, &callee, "a"), call(&caller, &callee, "b")];
    assert_eq!(join(calls), [Ok("a".into()), Ok("b".into())]);
    assert_eq!(join(servers), [true, true]);
}

#[test]
fn two_servers_get_a_call_each() {
    check(SCHEDULES, two_calls);
}

#[test]
fn a_server_that_is_dropped_leaves_its_request_to_the_next() {
    check(SCHEDULES, || {
        let [caller, callee] = pair(route_config());
        let server = serve(&callee);
        let patient = answers_one(server.clone());
        let impatient = thread::spawn(move || {
            if let Some(request) = poll_twice(server.next_request()).flatten() {
                request.answer("taken").expect("it waits");
            }
        });
        let called = call(&caller, &callee, "a");
        if join([called])[0] == Ok("taken".into()) {
            assert_eq!(join([call(&caller, &callee, "b")]), [Ok("b".into())]);
        }
        join([impatient]);
        assert_eq!(join([patient]), [true]);
    });
}

/// One call at a time.
fn one_at_a_time() -> RouteConfig {
    let mut route = route_config();
    route.in_flight_max = 1;
    route
}

#[test]
fn a_call_that_is_dropped_while_it_is_answered_leaves_its_credit_to_the_next() {
    check(SCHEDULES, || {
        let [caller, callee] = pair(one_at_a_time());
        let server = serve(&callee);
        thread::spawn(move || {
            while let Some(request) = block_on(server.next_request()) {
                let _ = request.answer("answer");
            }
        });
        let (route, to) = (caller.route(), callee.id());
        let impatient = thread::spawn(move || drop(poll_twice(route.call(to, "a"))));
        let mut member = caller.route().to(callee.id());
        let patient = thread::spawn(move || {
            block_on(member.ready()).expect("it is connected");
            block_on(member.call("b"))
        });
        assert_eq!(join([patient]), [Ok("answer".into())]);
        join([impatient]);
    });
}

#[test]
fn places_among_the_calls_go_from_one_to_the_next() {
    check(SCHEDULES, || {
        let [caller, callee] = pair(one_at_a_time());
        let server = serve(&callee);
        let servers = [answers_one(server.clone()), answers_one(server)];
        let member = caller.route().to(callee.id());
        let calls = [0, 1].map(|_| {
            let mut member = member.clone();
            thread::spawn(move || {
                block_on(member.ready()).expect("it is connected");
                block_on(member.call("a"))
            })
        });
        let mut other = member.clone();
        // It may have taken the place, and been woken for it.
        let impatient = thread::spawn(move || {
            let _ = poll_twice(other.ready());
        });
        assert_eq!(join(calls), [Ok("a".into()), Ok("a".into())]);
        join([impatient]);
        assert_eq!(join(servers), [true, true]);
    });
}

#[test]
fn a_cancelled_call_is_told_to_all_who_wait_for_it() {
    check(SCHEDULES, || {
        let [caller, callee] = pair(route_config());
        let (server, mut call) = (serve(&callee), Some(caller.route().call(callee.id(), "a")));
        let request = std::sync::Arc::new(block_on(server.next_request()).expect("a request"));
        let waiting = [0, 1].map(|_| {
            let request = request.clone();
            thread::spawn(move || block_on(request.cancelled()))
        });
        drop(call.take());
        join(waiting);
        let request = std::sync::Arc::into_inner(request).expect("the others are gone");
        assert_eq!(request.answer("late"), Err(AnswerError::Cancelled));
    });
}

#[test]
fn servers_learn_of_the_end_and_so_do_callers() {
    check(SCHEDULES, || {
        let [caller, callee] = pair(route_config());
        let server = serve(&callee);
        let servers = [answers_one(server.clone()), answers_one(server)];
        let calls = [call(&caller, &callee, "a"), call(&caller, &callee, "b")];
        callee.drop_driver();
        let served = join(servers).into_iter().filter(|has_answered| *has_answered).count();
        caller.drop_driver();
        let answered = join(calls).into_iter().filter(Result::is_ok).count();
        assert!(answered <= served);
    });
}

#[test]
fn a_request_that_comes_as_the_last_server_goes_is_refused() {
    check(SCHEDULES, || {
        let [caller, callee] = pair(route_config());
        let server = serve(&callee);
        let called = call(&caller, &callee, "a");
        let impatient = thread::spawn(move || drop(poll_twice(server.next_request())));
        let ended = join([called]);
        assert!(matches!(ended[0], Err(CallError::Dropped | CallError::NotServed)), "{ended:?}");
        join([impatient]);
    });
}

async fn read_all(request: &Request) -> Result<usize, AnswerError> {
    let (mut parts, mut bytes) = (request.parts(), 0);
    while let Some(part) = parts.next_part().await {
        bytes += part?.len();
    }
    Ok(bytes)
}

/// As short as they are, no timer of QUIC is needed to send them.
const PIECES: [&str; 3] = ["some", "more", "last"];

#[test]
fn parts_are_given_and_read_to_their_end() {
    check(SCHEDULES, || {
        let [caller, callee] = pair(route_config().reads_in_parts());
        let server = serve(&callee);
        let serving = thread::spawn(move || {
            let request = block_on(server.next_request()).expect("a request");
            let bytes = block_on(read_all(&request)).expect("it waits");
            let mut answer = request.answer_in_parts(bytes as u32).expect("it waits");
            for piece in PIECES {
                block_on(answer.write(piece)).expect("it waits");
            }
            block_on(answer.arrived())
        });
        let mut call = caller.route().call_in_parts(callee.id(), 12);
        for piece in PIECES {
            block_on(call.write(piece)).expect("it goes on");
        }
        let mut bytes = 0;
        while let Some(part) = block_on(call.next_part()) {
            bytes += part.expect("it goes on").len();
        }
        assert_eq!(bytes, 12);
        assert_eq!(join([serving]), [Ok(())]);
    });
}

#[test]
fn who_reads_a_call_in_parts_that_is_dropped_is_told() {
    check(SCHEDULES, || {
        let [caller, callee] = pair(route_config().reads_in_parts());
        let server = serve(&callee);
        let mut call = caller.route().call_in_parts(callee.id(), 10);
        let request = block_on(server.next_request()).expect("a request");
        let reading = thread::spawn(move || {
            let read = block_on(read_all(&request));
            block_on(request.cancelled());
            read
        });
        block_on(call.write("some")).expect("it goes on");
        let _ = poll_twice(call.next_part());
        drop(call);
        assert_eq!(join([reading]), [Err(AnswerError::Cancelled)]);
    });
}
