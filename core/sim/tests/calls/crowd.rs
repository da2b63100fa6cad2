//! Many calls at once, between many nodes, over bad links.

use std::collections::VecDeque;
use std::time::Duration;

use slotcast::error::CallError;
use slotcast::time::Time;
use slotcast_sim::{Chance, FaultKind, Link, Random, Setup};

use crate::office::{Subnet, asking_for, assert_all_over, config, connected, limited, try_call};

const NODES: usize = 13;

/// A number of bytes, its logarithm evenly distributed.
fn length(random: &mut Random, from: usize, to: usize) -> usize {
    let steps = (to / from).ilog2();
    let base = from << random.below(steps.into());
    base + random.below(base as u64) as usize
}

/// Makes so many calls, all at once but for those that are pushed back; how many were under way at
/// once.
fn run(subnet: &mut Subnet, seed: u64, calls: usize, longest: usize) -> usize {
    let mut random = Random::new(seed);
    let mut waiting: VecDeque<_> = (0..calls)
        .map(|n| {
            let (from, to) = (n % NODES, (n % NODES + 1 + n / NODES % (NODES - 1)) % NODES);
            let mut bodies = [longest, 64 << 10].map(|to| length(&mut random, 1 << 10, to));
            // The long one is a request as often as an answer.
            bodies.rotate_left(random.below(2) as usize);
            (from, to, bodies[0], bodies[1])
        })
        .collect();
    let (mut under_way, mut made) = (0, 0);
    let ended = |subnet: &Subnet| {
        let desks = subnet.application.desks.iter();
        desks.map(|desk| desk.outcomes.len()).sum::<usize>()
    };
    while ended(subnet) < calls {
        for _ in 0..waiting.len() {
            let (from, to, request, answer) = waiting.pop_front().expect("as many");
            let timeout = Some(Duration::from_secs(300));
            match try_call(subnet, from, to, asking_for(answer, request), timeout) {
                Ok(_) => made += 1,
                Err(CallError::Pushback) => {
                    waiting.push_back((from, to, request, answer));
                }
                Err(error) => panic!("{error}"),
            }
        }
        under_way = under_way.max(made - ended(subnet));
        subnet.elapse(Duration::from_millis(500));
        assert!(subnet.now().0 < 400_000_000_000, "{} of {calls} have ended", ended(subnet));
    }
    under_way
}

/// The subnet after so many calls under loss, all of them answered.
fn crowd(change: impl FnOnce(Setup) -> Setup, calls: usize, longest: usize) -> Subnet {
    let config = config(|route| {
        (route.request_bytes_max, route.response_bytes_max) = (8 << 20, 8 << 20);
    });
    let link = limited(Duration::from_millis(15), 12_500_000);
    let link = Link { loss: Chance::percent(2), ..link };
    let mut subnet = connected(change(Setup::new(&config, NODES).link(link).seed(11)));
    subnet.application.is_forgetful = true;
    let under_way = run(&mut subnet, 12, calls, longest);
    let outcomes = subnet.application.desks.iter().flat_map(|desk| &desk.outcomes);
    let bad: Vec<_> = outcomes
        .filter(|(_, _, r)| r.is_err())
        .map(|(c, t, r)| (*c, *t, r.clone().err()))
        .collect();
    assert!(bad.is_empty(), "{bad:?}");
    assert!(under_way > calls * 9 / 10, "{under_way} at once");
    assert_all_over(&mut subnet);
    subnet
}

#[test]
fn a_thousand_calls_of_all_sizes_come_through_lossy_links() {
    let subnet = crowd(|setup| setup, 1_000, 8 << 20);
    assert!(subnet.faults().count(FaultKind::Loss) > 1_000);
    assert!(subnet.now() < Time(120_000_000_000), "{:?}", subnet.now());
}

#[test]
fn calls_are_the_same_with_real_tls() {
    crowd(Setup::tls, 300, 128 << 10);
}

#[test]
fn the_same_seed_takes_the_same_course_and_another_does_not() {
    let [first, again, other] = [1, 1, 2].map(|seed| {
        let subnet = crowd(|setup| setup.seed(seed), 200, 128 << 10);
        let desks = subnet.application.desks.iter();
        let ended = |(_, time, _): &(_, Time, _)| *time;
        let times: Vec<_> = desks.flat_map(|desk| desk.outcomes.iter().map(ended)).collect();
        (subnet.trace().hash(), times)
    });
    assert!(first == again);
    assert!(first != other);
}
