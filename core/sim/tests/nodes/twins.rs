//! Two processes with the same key.

use slotcast::node::{Closed, NodeEvent};
use slotcast_sim::{Chance, Setup};

use crate::subnet::{Recorded, Subnet, of};
use slotcast_testkit::machines::{config, ms};

/// Three members, and at the last place, elsewhere, a second process with the key of the one at `twin`.
fn with_twin(twin: usize) -> Subnet {
    with_twin_behind(twin, 0)
}

/// The same, over links that lose so many of a hundred datagrams once the three are connected.
fn with_twin_behind(twin: usize, loss: u32) -> Subnet {
    let mut open = config(|_| {});
    open.transport.filter_addresses = false;
    let mut subnet = of(Setup::new(&open, 4));
    subnet.kill(3);
    let three = subnet.topology(0..3);
    (0..4).for_each(|at| subnet.follow(at, &three));
    subnet.run_until("three", ms(20_000), |subnet| {
        subnet.is_up(0, 1) && subnet.is_up(0, 2) && subnet.is_up(1, 2)
    });
    subnet.settle();
    (0..3).for_each(|at| subnet.application.node_events[at].clear());
    subnet.network.each_link(|_, _, link| link.loss = Chance::percent(loss));
    let key = subnet.key(twin).clone();
    subnet.start_as(3, key);
    subnet
}

fn count(told: &[NodeEvent], is_it: impl Fn(&NodeEvent) -> bool) -> usize {
    told.iter().filter(|event| is_it(event)).count()
}

#[test]
fn f11_a_twin_is_told_on_all_sides_and_nothing_flaps() {
    for twin in 0..3 {
        let mut subnet = with_twin(twin);
        let before: Vec<u64> = (0..3).map(|at| subnet.stats(at).connections).collect();
        subnet.elapse(ms(60_000));
        for at in (0..3).filter(|at| *at != twin) {
            let changes = subnet.stats(at).connections - before[at];
            assert!((1..=2).contains(&changes), "{changes} at {at} of twin {twin}");
            let peer = subnet.id(twin);
            assert!(subnet.stats(at).twins >= 3, "it tries again: {:?}", subnet.stats(at));
            let told = subnet.node_told(at);
            let reports = count(&told, |event| *event == NodeEvent::Twin { peer });
            assert!((3..=6).contains(&reports), "once in 10 s: {told:?}");
            assert_eq!(count(&told, |event| matches!(event, NodeEvent::Down { .. })), 0);
        }
        // One of them is connected to both members, and the other one to none.
        assert_eq!((subnet.peers_up(twin), subnet.peers_up(3)), (0, 2));
        // Nor was it for a moment.
        assert_eq!(subnet.stats(twin).connections, before[twin]);
        for at in [twin, 3] {
            let told = subnet.node_told(at);
            let reports = count(&told, |event| matches!(event, NodeEvent::KeyInUse { .. }));
            assert!((3..=6).contains(&reports), "once in 10 s: {told:?}");
            let downs = count(&told, |event| matches!(event, NodeEvent::Down { .. }));
            assert_eq!(downs, if at == twin { 2 } else { 0 }, "{told:?}");
        }
    }
}

/// Its hello may come later than the rest of its handshake. The member's own one is not on its way by then.
#[test]
fn f11_a_twin_that_is_refused_was_not_up_for_a_moment() {
    for twin in 0..3 {
        let mut subnet = with_twin_behind(twin, 4);
        subnet.run_until("replaced", ms(30_000), |subnet| subnet.peers_up(3) == 2);
        subnet.elapse(ms(5_000));
        let before = subnet.stats(twin).connections;
        subnet.elapse(ms(120_000));
        assert!((0..3).any(|at| subnet.stats(at).twins > 0));
        assert_eq!(subnet.stats(twin).connections, before, "{twin}");
    }
}

/// A process that restarts is another one each time, and is never taken for a twin.
#[test]
fn f11_a_process_that_restarts_ten_times_is_no_twin() {
    let mut subnet = with_twin(0);
    subnet.kill(3);
    for round in 0..10 {
        let at = round % 3;
        subnet.kill(at);
        subnet.start(at);
        subnet.elapse(ms(700 * (1 + round as u64 % 3)));
    }
    subnet.elapse(ms(20_000));
    for at in 0..3 {
        assert_eq!((subnet.peers_up(at), subnet.stats(at).twins), (2, 0), "{at}");
    }
}

/// When the process that had replaced another one is gone without a word, the other one is taken as soon as
/// that is silent.
#[test]
fn f11_of_twins_the_one_that_is_left_is_taken() {
    let mut subnet = with_twin(1);
    subnet.elapse(ms(30_000));
    assert_eq!((subnet.peers_up(1), subnet.peers_up(3)), (0, 2));
    let lost = subnet.down(0, Closed::Twin);
    assert!(!subnet.node_told(1).contains(&lost), "it was not up");
    subnet.kill(3);
    let took = subnet.run_until("taken", ms(15_000), |subnet| subnet.peers_up(1) == 2);
    assert!(took <= ms(6_500), "the longest pause between two dials, and silence: {took:?}");
}
