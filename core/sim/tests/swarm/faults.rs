//! One kind of fault at a time, and those that belong together: no artifact is lost to it.

use slotcast_sim::{FaultKind, Report};

use crate::subnet::{Recorded, connected};
use crate::{mixed, run};
use slotcast_testkit::machines::{config, ms, small};

/// Runs with these faults alone.
fn under(faults: &[FaultKind], seed: u64) -> Report {
    let mut plan = mixed(seed, 5);
    plan.faults = faults.to_vec();
    let report = run(&plan);
    for (kind, count) in report.faults.iter() {
        assert_eq!(count > 0, faults.contains(&kind), "{kind}: {count}, seed {seed}");
    }
    report
}

#[test]
fn i9_who_crashes_and_comes_back_receives_what_is_active_and_the_others_nothing() {
    for seed in 1..=3 {
        under(&[FaultKind::Crash], seed);
        under(&[FaultKind::CrashAndForget], seed);
    }
}

#[test]
fn i10_what_is_published_during_partitions_arrives_after_them() {
    for seed in 1..=3 {
        under(&[FaultKind::Cut], seed);
        under(&[FaultKind::CutOneWay], seed);
    }
}

#[test]
fn l14_no_fault_of_the_network_costs_an_artifact() {
    let kinds = [
        FaultKind::Loss,
        FaultKind::BurstLoss,
        FaultKind::QueueDrop,
        FaultKind::Reorder,
        FaultKind::Duplicate,
        FaultKind::Corrupt,
        FaultKind::Mtu,
    ];
    for (seed, kind) in (1..).zip(kinds) {
        under(&[kind], seed);
    }
    for seed in 1..=2 {
        under(&kinds, seed);
    }
}

#[test]
fn l15_clocks_that_jump_and_drift_cost_no_artifact() {
    let kinds = [FaultKind::ClockForward, FaultKind::ClockBack, FaultKind::ClockDrift];
    for seed in 1..=2 {
        for kind in kinds {
            under(&[kind], seed);
        }
        under(&kinds, seed);
    }
}

#[test]
fn l15_a_clock_that_jumps_costs_a_handshake_at_most() {
    // On links without loss, a clock that stands still for long is not even noticed; one that jumps
    // over the idle timeout ends connections.
    for (jump_ms, is_lost) in
        [(1_000, false), (8_000, false), (20_000, true), (-1_000, false), (-3_600_000, false)]
    {
        let mut subnet = connected(&config(|_| {}), 3);
        subnet.elapse(ms(4000));
        subnet.jump_clock(1, jump_ms * 1_000_000);
        let (from, to) = (small(1), small(2));
        subnet.publish(1, &from);
        subnet.publish(0, &to);
        let took = subnet.run_until("both are everywhere", ms(1000), |subnet| {
            subnet.has(0, &from) && subnet.has(2, &from) && subnet.has(1, &to)
        });
        assert!(took <= if is_lost { ms(300) } else { ms(20) }, "{took:?} after {jump_ms} ms");
        assert_eq!(subnet.node_told(1).is_empty(), !is_lost, "{jump_ms} ms");
        subnet.settle();
        assert!([0, 1, 2].map(|at| subnet.delivered(at).len()) == [1, 1, 2]);
        subnet.assert_peace();
    }
}

#[test]
fn l22_applications_that_take_no_events_for_a_while_miss_nothing() {
    for seed in 1..=3 {
        under(&[FaultKind::Deaf], seed);
    }
}
