//! What becomes of calls and requests.

use std::time::Duration;

use slotcast::error::CallError;
use slotcast_sim::Setup;

use crate::collector::{Lines, by, enter};
use crate::office::{Manner, ROUTE, asking_for, call, config, connected, outcome, try_call};

/// Number `n` of a line such as `called peer=... call=n`.
fn number(line: &str, name: &str) -> String {
    let (_, rest) = line.split_once(&format!(" {name}=")).expect(name);
    format!("{name}={}", rest.split(' ').next().expect("there is one"))
}

#[test]
fn a_person_sees_what_becomes_of_calls_and_requests_and_no_byte_of_them() {
    let (lines, _guard) = Lines::begin();
    let mut subnet = connected(Setup::new(&config(|_| {}), 2));
    subnet.set_scope(enter);
    let [caller, callee] = [0, 1].map(|at| format!("peer={}", subnet.id(at)));
    let retry_after = Duration::from_millis(1234);
    let manners = [Manner::Answer, Manner::Busy(retry_after), Manner::Drop, Manner::Keep];
    for manner in manners {
        subnet.application.desks[1].manner = manner;
        let id = by(0, || call(&mut subnet, 0, 1, asking_for(10, 300)));
        let _ = outcome(&mut subnet, 0, id);
    }
    let route = format!("route={}", ROUTE.0);
    let called = lines.of(0, &["called", &callee, &route, "bytes=300", "wants_answer=true"]);
    assert_eq!(called.len(), manners.len(), "{:#?}", lines.all());
    let ends = [
        "call answered bytes=10".to_owned(),
        format!("call failed why={}", CallError::Busy { retry_after }),
        format!("call failed why={}", CallError::Dropped),
        format!("call failed why={}", CallError::DeadlinePassed),
    ];
    for (called, end) in called.iter().zip(&ends) {
        let call = number(called, "call");
        let ended = lines.of(0, &["call ", &format!(" {call} ")]);
        let ended: Vec<_> =
            ended.iter().map(|line| line.replace(&format!(" {call}"), "")).collect();
        assert!(ended.contains(end), "{end}: {:#?}", lines.all());
    }
    let taken = lines.of(1, &["request taken", &caller, &route, "bytes=300"]);
    assert_eq!(taken.len(), manners.len(), "{:#?}", lines.all());
    let parts = ["request answered", "request refused", "request refused"];
    for (taken, part) in taken.iter().zip(parts) {
        // By the application, outside of what is noted as the node's.
        let end = format!("{part} {} ", number(taken, "request"));
        let ends = lines.all().iter().filter(|line| line.contains(&end)).count();
        assert_eq!(ends, 1, "{:#?}", lines.all());
    }
}

#[test]
fn a_call_that_cannot_be_made_is_refused_with_the_reason() {
    let (lines, _guard) = Lines::begin();
    let mut subnet = connected(Setup::new(&config(|_| {}), 2));
    subnet.set_scope(enter);
    let long = vec![0; (1 << 20) + 1].into();
    let refused = by(0, || try_call(&mut subnet, 0, 1, long, None));
    let why = refused.expect_err("it is too long");
    assert_eq!(
        lines.of(0, &["call refused", &format!("why={why}")]).len(),
        1,
        "{:#?}",
        lines.all()
    );
}
