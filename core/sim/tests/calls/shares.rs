//! Who goes before whom: peers take turns, urgent routes and channels pass bulk, and bulk has its
//! share.

use std::time::Duration;

use slotcast::config::{BODY_BYTES_LIMIT, Class, RouteConfig};
use slotcast::error::CallError;
use slotcast::id::RouteId;
use slotcast::rpc::CallId;
use slotcast::time::Time;
use slotcast_sim::Setup;

use crate::office::{
    ROUTE, Subnet, asking_for, assert_all_over, call_route, config, connected, limited, outcome,
    publish, publish_long, try_call,
};

const URGENT: RouteId = RouteId(8);
const BULK: RouteId = RouteId(9);

/// 100 Mbit/s.
const RATE: u64 = 12_500_000;
const ROUND_TRIP: Duration = Duration::from_millis(40);
/// What a full queue before the link adds.
const QUEUE: Duration = Duration::from_millis(20);

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// How long calls took, sorted.
fn latencies(subnet: &Subnet, at: usize, calls: &[(CallId, Time)]) -> Vec<Duration> {
    let took = |(id, begun): &(CallId, Time)| {
        let (time, result) = subnet.application.outcome(at, *id).expect("it has ended");
        assert!(result.is_ok(), "{result:?}");
        time.since(*begun)
    };
    let mut latencies: Vec<Duration> = calls.iter().map(took).collect();
    latencies.sort();
    latencies
}

fn part(latencies: &[Duration], percent: usize) -> Duration {
    latencies[(latencies.len() * percent / 100).min(latencies.len() - 1)]
}

#[test]
fn a_peer_that_floods_a_route_does_not_delay_one_that_calls_now_and_then() {
    const PACE: Duration = Duration::from_millis(5);
    for length in [100, 200_000] {
        let mut subnet = connected(Setup::new(&config(|_| {}), 3));
        // There is credit for calls a round trip after the hello.
        subnet.elapse(ROUND_TRIP);
        subnet.application.is_forgetful = true;
        let (mut calls, mut floods) = (Vec::new(), Vec::new());
        // The callee takes a request every 5 ms: 200 per second.
        subnet.application.desks[0].budget = Some(0);
        for step in 0..1_000 {
            loop {
                match try_call(&mut subnet, 1, 0, asking_for(10, length), None) {
                    Ok(id) => floods.push((id, subnet.now())),
                    Err(CallError::Pushback) => break,
                    Err(error) => panic!("{error}"),
                }
            }
            if step % 40 == 0 && step < 900 {
                let id = try_call(&mut subnet, 2, 0, asking_for(10, 100), None).expect("credit");
                calls.push((id, subnet.now()));
            }
            subnet.application.desks[0].budget = Some(1);
            subnet.command(0, |_, _| {});
            subnet.elapse(PACE);
        }
        subnet.application.desks[0].budget = None;
        subnet.command(0, |_, _| {});
        subnet.elapse(ms(9_000));
        let (calls, floods) = (latencies(&subnet, 2, &calls), latencies(&subnet, 1, &floods));
        // The one before it, and its own turn.
        assert!(part(&calls, 99) <= ROUND_TRIP + 2 * PACE + ms(1), "{:?}", part(&calls, 99));
        assert!(part(&floods, 50) > ms(300), "{:?}", part(&floods, 50));
        assert_all_over(&mut subnet);
    }
}

/// Two nodes with an urgent channel, and routes of all classes.
fn pair(rate: u64) -> Subnet {
    let mut config = config(|_| {});
    config.routes.push(RouteConfig::new(URGENT, "urgent").class(Class::Urgent));
    let mut bulk = RouteConfig::new(BULK, "bulk").class(Class::Bulk);
    bulk = bulk.bytes_max(BODY_BYTES_LIMIT, BODY_BYTES_LIMIT);
    bulk.deadline = bulk.deadline_max;
    config.routes.push(bulk);
    let mut link = limited(ROUND_TRIP / 2, rate);
    link.queue_bytes_max = rate / 50;
    let mut subnet = connected(Setup::new(&config, 2).link(link).seed(3));
    subnet.application.is_forgetful = true;
    subnet
}

#[test]
fn what_is_urgent_passes_128_mib_of_bulk() {
    let mut subnet = pair(RATE);
    let begun = subnet.now();
    let body = asking_for(10, BODY_BYTES_LIMIT as usize);
    let bulk = call_route(&mut subnet, 0, 1, BULK, body, None).expect("credit");
    let (mut urgent, mut normal) = (Vec::new(), Vec::new());
    let mut number = 0;
    while subnet.application.outcome(0, bulk).is_none() {
        for (route, calls) in [(URGENT, &mut urgent), (ROUTE, &mut normal)] {
            let id = call_route(&mut subnet, 0, 1, route, asking_for(1000, 1000), None);
            calls.push((id.expect("credit"), subnet.now()));
        }
        publish(&mut subnet, 0, number);
        number += 1;
        subnet.elapse(ms(20));
    }
    let took = subnet.now().since(begun);
    assert!(outcome(&mut subnet, 0, bulk).is_ok());
    subnet.elapse(ms(1_000));
    let (urgent, normal) = (latencies(&subnet, 0, &urgent), latencies(&subnet, 0, &normal));
    let mut told: Vec<_> = subnet.application.desks[1].delivered.iter().map(|d| d.1).collect();
    told.sort();
    assert!(took < ms(13_000), "the link takes 10.8 s for it: {took:?}");
    // About one of a hundred takes longer, in some runs a few more.
    for latencies in [urgent, normal] {
        assert!(part(&latencies, 98) < ROUND_TRIP + QUEUE + ms(5), "{:?}", part(&latencies, 98));
    }
    assert!(part(&told, 99) < ROUND_TRIP / 2 + QUEUE + ms(5), "{:?}", part(&told, 99));
    assert_eq!(told.len() as u64, number);
    assert_all_over(&mut subnet);
}

#[test]
fn bulk_has_its_share_under_constant_urgent_broadcast() {
    const SLOW: u64 = RATE / 10;
    const LENGTH: usize = 2 << 20;
    // What is published, in percent of what the link takes.
    for load in [80, 150] {
        let mut subnet = pair(SLOW);
        let begun = subnet.now();
        let body = asking_for(10, LENGTH);
        let bulk = call_route(&mut subnet, 0, 1, BULK, body, None).expect("credit");
        let mut number = 0;
        while subnet.application.outcome(0, bulk).is_none() {
            publish_long(&mut subnet, 0, number, SLOW as usize / 200 * load / 100);
            number += 1;
            subnet.elapse(ms(5));
            assert!(subnet.now().since(begun) < ms(60_000));
        }
        let took = subnet.now().since(begun);
        assert!(outcome(&mut subnet, 0, bulk).is_ok());
        // One byte of each 17, or what is left.
        let share = LENGTH as f64 / took.as_secs_f64() / SLOW as f64;
        assert!((0.055..0.2).contains(&share), "{share}");
        let mut told: Vec<_> = subnet.application.desks[1].delivered.iter().map(|d| d.1).collect();
        told.sort();
        if load < 100 {
            assert!(told.len() as u64 > number * 98 / 100, "{} of {number}", told.len());
            assert!(part(&told, 50) < ROUND_TRIP / 2 + QUEUE, "{:?}", part(&told, 50));
            // One that is lost in the full queue is sent again.
            assert!(part(&told, 99) < 3 * ROUND_TRIP, "{:?}", part(&told, 99));
        }
        assert_all_over(&mut subnet);
    }
}

#[test]
fn calls_that_share_a_slow_link_are_not_taken_for_slow() {
    const CALLS: usize = 64;
    // Each has its `rate_min`, and a third beside.
    let rate = CALLS as u64 * (4 << 10) * 4 / 3;
    for (answer, request) in [(120_000, 10), (10, 120_000)] {
        let config = config(|route| {
            (route.request_bytes_max, route.response_bytes_max) = (128 << 10, 128 << 10);
            route.deadline = ms(120_000);
        });
        let link = limited(ROUND_TRIP / 2, rate);
        let mut subnet = connected(Setup::new(&config, 2).link(link).seed(3));
        for _ in 0..CALLS {
            let body = asking_for(answer, request);
            try_call(&mut subnet, 0, 1, body, None).expect("credit");
        }
        subnet.elapse(ms(60_000));
        let desk = &subnet.application.desks[0];
        let answered = desk.outcomes.iter().filter(|(_, _, result)| result.is_ok()).count();
        assert_eq!(answered, CALLS, "{:?}", desk.outcomes.last());
        assert_all_over(&mut subnet);
    }
}
