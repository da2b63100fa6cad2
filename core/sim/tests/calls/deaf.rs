//! A callee that takes no requests for a while.

use std::time::Duration;

use slotcast::config::Config;
use slotcast::error::CallError;
use slotcast_sim::Setup;

use crate::meter;
use crate::office::{
    Desk, Manner, Subnet, asking_for, assert_all_over, call, config, connected, limited, outcome,
    publish, try_call,
};

const CALLEE: usize = 0;
const NODES: usize = 5;
const SPAN: Duration = Duration::from_secs(30);

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// What became of it.
struct Run {
    /// The latency below which 99 of 100 artifacts from and to the callee stayed.
    p99: Duration,
    pushed_back: usize,
    too_late: usize,
    /// The most bytes of bodies that the callee had.
    body_bytes: u64,
    /// The most memory that it had.
    memory: u64,
}

/// All publish every 20 ms, and all but the callee call it as often as they may, for as long as it
/// does not listen; or not at all.
fn run(config: &Config, manner: Option<Manner>, waits: Duration) -> Run {
    meter::reset();
    let link = limited(Duration::from_millis(20), 1_250_000);
    let mut subnet = connected(Setup::new(config, NODES).link(link).seed(5));
    subnet.set_scope(meter::METER.enter);
    subnet.application.is_forgetful = true;
    let mut run = Run { p99: SPAN, pushed_back: 0, too_late: 0, body_bytes: 0, memory: 0 };
    if let Some(manner) = manner {
        subnet.application.desks[CALLEE].manner = manner;
    }
    (meter::METER.held)(CALLEE);
    let begun = subnet.now();
    let mut number = 0;
    while subnet.now().since(begun) < SPAN {
        (0..NODES).for_each(|at| publish(&mut subnet, at, number));
        if manner.is_some() {
            for at in 1..NODES {
                let body = asking_for(100, 8 << (number % 18));
                match try_call(&mut subnet, at, CALLEE, body, Some(waits)) {
                    Ok(_) => {}
                    Err(CallError::Pushback) => run.pushed_back += 1,
                    Err(error) => panic!("{error}"),
                }
            }
        }
        number += 1;
        subnet.elapse(Duration::from_millis(20));
        let bytes = subnet.node(CALLEE).expect("it runs").body_bytes();
        run.body_bytes = run.body_bytes.max(bytes);
    }
    run.memory = (meter::METER.held)(CALLEE);
    subnet.node(CALLEE).expect("it runs").assert_calls_sound();
    listen(&mut subnet);
    run.too_late = too_late(&subnet);
    run.p99 = p99(&subnet, number as usize);
    run
}

fn too_late(subnet: &Subnet) -> usize {
    let outcomes = subnet.application.desks.iter().flat_map(|desk| &desk.outcomes);
    outcomes.filter(|(_, _, result)| *result == Err(CallError::DeadlinePassed)).count()
}

/// The callee lets go of what it kept and listens again: calls are answered as before.
fn listen(subnet: &mut Subnet) {
    subnet.application.desks[CALLEE].manner = Manner::Answer;
    subnet.elapse(Duration::from_secs(11));
    for at in 1..NODES {
        let body = asking_for(100_000, 100_000);
        let id = call(subnet, at, CALLEE, body);
        let begun = subnet.now();
        assert!(outcome(subnet, at, id).is_ok());
        assert!(subnet.now().since(begun) < Duration::from_millis(500));
    }
    assert_all_over(subnet);
}

fn p99(subnet: &Subnet, rounds: usize) -> Duration {
    let told = |(at, desk): (usize, &Desk)| {
        let concerns = |publisher: usize| at == CALLEE || publisher == CALLEE;
        let told = desk.delivered.iter().filter(|(publisher, _)| concerns(*publisher));
        told.map(|(_, took)| *took).collect::<Vec<_>>()
    };
    let mut latencies: Vec<_> =
        subnet.application.desks.iter().enumerate().flat_map(told).collect();
    // Some were aborted before they were sent.
    assert!(latencies.len() > rounds * 2 * (NODES - 1) * 9 / 10, "{}", latencies.len());
    latencies.sort();
    latencies[latencies.len() * 99 / 100]
}

#[test]
fn callers_of_a_callee_that_does_not_listen_are_told_and_nothing_else_suffers() {
    let config = config(|route| {
        route.body_bytes_max = 8 << 20;
        // More bodies at once fill the queues of the links, which delays everything.
        route.in_flight_max = 1;
    });
    let patience = Duration::from_secs(4);
    let quiet = run(&config, None, patience);
    for manner in [Manner::Keep, Manner::Ignore] {
        let run = run(&config, Some(manner), patience);
        assert!(run.pushed_back > 100 && run.too_late > 100);
        assert!(run.body_bytes <= 4 * (8 << 20));
        // What it holds is what it has taken up, and what QUIC has of the rest.
        assert!(run.memory <= config.memory_bound() && run.memory < 16 << 20, "{}", run.memory);
        assert!(run.p99 <= quiet.p99 * 12 / 10, "{:?} for {:?}", run.p99, quiet.p99);
    }
}

#[test]
fn a_caller_that_takes_no_answers_is_given_its_share_and_others_are_served_as_before() {
    const ANSWER: usize = 200_000;
    let config = config(|route| {
        route.response_bytes_max = 256 << 10;
        route.body_bytes_max = 8 << 20;
        route.deadline = SPAN;
    });
    let mut subnet = connected(Setup::new(&config, 3).link(limited(ms(20), 12_500_000)).seed(5));
    meter::reset();
    subnet.set_scope(meter::METER.enter);
    subnet.application.is_forgetful = true;
    let (deaf, other) = (1, 2);
    subnet.deafen(deaf, SPAN);
    let (begun, mut longest, mut most) = (subnet.now(), Duration::ZERO, 0);
    while subnet.now().since(begun) < SPAN - ms(1_000) {
        while try_call(&mut subnet, deaf, CALLEE, asking_for(ANSWER, 1000), None).is_ok() {}
        let called = subnet.now();
        let id = call(&mut subnet, other, CALLEE, asking_for(ANSWER, 1000));
        assert!(outcome(&mut subnet, other, id).is_ok());
        longest = longest.max(subnet.now().since(called));
        most = most.max(subnet.node(CALLEE).expect("it runs").body_bytes());
        for at in [CALLEE, deaf] {
            let held = (meter::METER.held)(at);
            // A caller's share of what it asked for, and what its connections hold.
            assert!(held < 4 << 20, "{held} at {at}");
        }
        subnet.elapse(ms(100));
    }
    let desk = &subnet.application.desks[CALLEE];
    let asked = desk.requests.iter().filter(|(_, request)| request.from == subnet.id(deaf)).count();
    assert!((8..16).contains(&asked), "{asked} of {} have been answered", desk.requests.len());
    // Of all its peers together: the shares of two for answers, and of one for requests.
    assert!(most <= 3 << 20, "{most}");
    assert!(longest < ms(250), "{longest:?}");
    subnet.elapse(SPAN);
    assert_all_over(&mut subnet);
}
