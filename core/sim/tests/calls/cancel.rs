//! Calls that are given up, at each point of their lives.

use std::time::Duration;

use slotcast::error::{AnswerError, CallError};
use slotcast::rpc::CallId;
use slotcast_sim::Setup;

use crate::office::{
    Manner, Subnet, answer, asking_for, assert_all_over, call, cancel, config, connected, limited,
    outcome, try_call,
};

const LATENCY: Duration = Duration::from_millis(20);
/// 100 Mbit/s, so that what is under way within a round trip is half a megabyte.
const RATE: u64 = 12_500_000;
const LONG: usize = 8 << 20;
/// What is under way when a call is given up, with what stands in the queue before the link.
const ROUND_TRIP_BYTES: u64 = RATE * 40 / 1000 + RATE / 10;

const CALLER: usize = 0;
const CALLEE: usize = 1;

/// Two nodes whose route allows for one call at a time, and for another one that waits.
fn pair() -> Subnet {
    let config = config(|route| {
        (route.request_bytes_max, route.response_bytes_max) = (8 << 20, 8 << 20);
        (route.in_flight_max, route.waiting_max) = (1, 1);
    });
    connected(Setup::new(&config, 2).link(limited(LATENCY, RATE)))
}

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Gives the call up, and calls again at once: the credit is free.
fn give_up(subnet: &mut Subnet, id: CallId) {
    assert!(cancel(subnet, CALLER, id));
    assert!(!cancel(subnet, CALLER, id), "it has ended");
    subnet.application.desks[CALLEE].manner = Manner::Answer;
    let begun = subnet.now();
    let next = call(subnet, CALLER, CALLEE, asking_for(50, 50));
    let last = call(subnet, CALLER, CALLEE, asking_for(60, 60));
    assert!(outcome(subnet, CALLER, next).is_ok());
    assert!(outcome(subnet, CALLER, last).is_ok());
    // The link's queue may be full of what was sent before.
    let took = subnet.now().since(begun);
    assert!(took < ms(2 * 40 + 40 + 200), "{took:?}");
    assert!(subnet.application.outcome(CALLER, id).is_none(), "it was told when it was given up");
    assert_all_over(subnet);
}

#[test]
fn a_call_that_waits_for_credit_is_never_heard_of() {
    let mut subnet = pair();
    subnet.application.desks[CALLEE].manner = Manner::Keep;
    let first = call(&mut subnet, CALLER, CALLEE, asking_for(10, 10));
    let second = call(&mut subnet, CALLER, CALLEE, asking_for(20, 20));
    let third = try_call(&mut subnet, CALLER, CALLEE, asking_for(30, 30), None);
    assert_eq!(third, Err(CallError::Pushback));
    subnet.elapse(ms(100));
    assert!(cancel(&mut subnet, CALLER, second));
    // Its place is free for another one.
    let third = call(&mut subnet, CALLER, CALLEE, asking_for(30, 30));
    assert!(cancel(&mut subnet, CALLER, third));
    subnet.elapse(ms(100));
    let desk = &subnet.application.desks[CALLEE];
    assert_eq!((desk.requests.len(), desk.cancelled.len()), (1, 0));
    give_up(&mut subnet, first);
    let desk = &subnet.application.desks[CALLEE];
    let lengths: Vec<_> = desk.requests.iter().map(|(_, request)| request.body.len()).collect();
    assert_eq!(lengths, [10, 50, 60]);
}

#[test]
fn a_call_whose_head_is_under_way_comes_to_nothing() {
    for span in [0, 1, 10, 19] {
        let mut subnet = pair();
        let id = call(&mut subnet, CALLER, CALLEE, asking_for(10, LONG));
        subnet.elapse(ms(span));
        give_up(&mut subnet, id);
        let desk = &subnet.application.desks[CALLEE];
        assert_eq!((desk.requests.len(), desk.cancelled.len()), (2, 0), "after {span} ms");
    }
}

#[test]
fn a_request_that_is_given_up_stops_within_a_round_trip() {
    for span in [25, 50, 75, 150, 400] {
        let mut subnet = pair();
        let before = subnet.application.sent(CALLER, CALLEE);
        let id = call(&mut subnet, CALLER, CALLEE, asking_for(10, LONG));
        subnet.elapse(ms(span));
        assert!(cancel(&mut subnet, CALLER, id));
        let sent = subnet.application.sent(CALLER, CALLEE);
        assert!(sent - before < LONG as u64, "{span} ms are too few for all of it");
        subnet.elapse(ms(1000));
        let more = subnet.application.sent(CALLER, CALLEE) - sent;
        assert!(more < 5_000, "{more} bytes after {span} ms and {}", sent - before);
        assert!(subnet.application.desks[CALLEE].requests.is_empty());
        assert_all_over(&mut subnet);
    }
    let mut subnet = pair();
    let id = call(&mut subnet, CALLER, CALLEE, asking_for(10, LONG));
    subnet.elapse(ms(300));
    give_up(&mut subnet, id);
}

#[test]
fn an_application_is_told_that_nobody_waits() {
    for length in [10, 100_000] {
        let mut subnet = pair();
        subnet.application.desks[CALLEE].manner = Manner::Keep;
        let id = call(&mut subnet, CALLER, CALLEE, asking_for(10, length));
        subnet.elapse(ms(500));
        let (_, request) = subnet.application.desks[CALLEE].requests[0].clone();
        let begun = subnet.now();
        give_up(&mut subnet, id);
        let desk = &subnet.application.desks[CALLEE];
        let [(told, id)] = desk.cancelled[..] else { panic!("{:?}", desk.cancelled) };
        assert!(id == request.id && told.since(begun) < LATENCY + ms(1));
        let late = answer(&mut subnet, CALLEE, &request);
        assert_eq!(late, Err(AnswerError::Cancelled));
    }
}

#[test]
fn an_answer_that_is_given_up_stops_within_a_round_trip() {
    for span in [45, 70, 100, 150, 400] {
        let mut subnet = pair();
        let id = call(&mut subnet, CALLER, CALLEE, asking_for(LONG, 10));
        subnet.elapse(ms(span));
        assert_eq!(subnet.application.desks[CALLEE].requests.len(), 1);
        let before = subnet.application.sent(CALLEE, CALLER);
        assert!(cancel(&mut subnet, CALLER, id));
        subnet.elapse(ms(1000));
        let more = subnet.application.sent(CALLEE, CALLER) - before;
        assert!(more < ROUND_TRIP_BYTES, "{more} bytes after {span} ms and {before}");
        assert_all_over(&mut subnet);
    }
    let mut subnet = pair();
    let id = call(&mut subnet, CALLER, CALLEE, asking_for(LONG, 10));
    subnet.elapse(ms(300));
    give_up(&mut subnet, id);
    // The application had done its part.
    assert_eq!(subnet.application.desks[CALLEE].cancelled, []);
}
