//! Scenarios of `tests/README.md` with whole subnets: as plans, which check every invariant of the
//! crate while they run, and, where a scenario asks for something in particular, over a subnet whose
//! applications write down what they are told.

#[path = "../nodes/subnet.rs"]
#[allow(dead_code, reason = "shared with the tests of nodes")]
mod subnet;

mod bulk;
mod determinism;
mod faults;
mod hostile;
mod scenarios;

use slotcast_sim::{Plan, Report};

/// A run in small tables, with some artifacts that have to be fetched.
fn mixed(seed: u64, nodes: usize) -> Plan {
    let mut plan = Plan::calm(seed, nodes);
    let channel = &mut plan.config.channels[0];
    channel.slots_max = 64;
    channel.artifact_bytes_max = 256 << 10;
    channel.active_bytes_max = 4 << 20;
    channel.inbox_bytes_max = 1 << 20;
    plan.workload.large_percent = 10;
    plan.strength = 80;
    plan
}

fn run(plan: &Plan) -> Report {
    let report = plan.run();
    report.assert_good();
    assert!(report.published > 0 && report.delivered >= report.published, "{report:#?}");
    assert!(report.covered > 0, "{report:#?}");
    report
}
