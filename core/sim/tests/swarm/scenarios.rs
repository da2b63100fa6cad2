//! Load without faults, as the tests of the reference implementation have it: all nodes publish and
//! abort, and in the end all know the same.

use std::collections::BTreeSet;
use std::time::Duration;

use slotcast::time::Time;
use slotcast_sim::{Plan, Report, What};

/// A subnet in which each node publishes `events` artifacts, a few more or less, and takes back
/// `purged` of a hundred.
fn load(nodes: usize, events: u32, purged: u32) -> Plan {
    let mut plan = Plan::calm(1, nodes);
    plan.faulty_for = Duration::from_secs(10);
    // A fifth more than asked for: who publishes next is drawn.
    plan.workload.artifacts_per_second = events * nodes as u32 * 12 / 100;
    plan.workload.aborted_percent = purged;
    plan.keep_trace = true;
    plan
}

/// Runs it, and looks whether it was the load that it should be.
fn run(plan: &Plan, events: u32, purged: u64) -> Report {
    let report = plan.run();
    report.assert_good();
    let under_load = report.trace.iter().filter(|entry| entry.time < Time::ZERO + plan.faulty_for);
    let (mut published, mut aborted) = (vec![0; plan.nodes], 0);
    for entry in under_load {
        match entry.what {
            What::Published(..) => published[usize::from(entry.at)] += 1,
            What::Aborted(..) => aborted += 1,
            _ => {}
        }
    }
    assert!(published.iter().all(|count| *count >= events), "{published:?}");
    let total: u32 = published.iter().sum();
    let percent = 100 * aborted / u64::from(total);
    assert!(percent.abs_diff(purged) <= 5, "{aborted} of {total}");
    report
}

/// Artifacts, and those of them that more than one node has published.
fn overlaps(report: &Report) -> (usize, usize) {
    let published = report.trace.iter().filter_map(|entry| match entry.what {
        What::Published(_, id) => Some((id, entry.at)),
        _ => None,
    });
    let published: BTreeSet<_> = published.collect();
    let ids: BTreeSet<_> = published.iter().map(|(id, _)| *id).collect();
    let shared = |id: &&_| published.iter().filter(|(of, _)| of == *id).count() > 1;
    (ids.len(), ids.iter().filter(shared).count())
}

fn assert_distinct(report: &Report) {
    assert_eq!(overlaps(report).1, 0);
    assert_eq!(report.published, overlaps(report).0 as u64);
}

#[test]
fn i4_four_nodes_with_overlapping_artifacts_half_of_them_purged() {
    let mut plan = load(4, 100, 50);
    plan.workload.shared_percent = 30;
    let report = run(&plan, 100, 50);
    let (ids, shared) = overlaps(&report);
    assert!(shared * 5 > ids, "{shared} of {ids}");
}

#[test]
fn i5_eight_nodes_with_distinct_artifacts_half_of_them_purged() {
    assert_distinct(&run(&load(8, 100, 50), 100, 50));
}

#[test]
fn i6_five_nodes_most_of_whose_artifacts_are_purged() {
    run(&load(5, 200, 80), 200, 80);
}

#[test]
fn i7_four_nodes_with_a_thousand_artifacts_each_that_stay() {
    let report = run(&load(4, 1000, 0), 1000, 0);
    assert!(report.delivered >= 3 * 4000, "{}", report.delivered);
}

#[test]
fn i8_four_nodes_with_a_thousand_distinct_artifacts_each_a_tenth_of_them_purged() {
    assert_distinct(&run(&load(4, 1000, 10), 1000, 10));
}
