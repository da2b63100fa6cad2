//! A run of the swarm whose plan and faults are read off the data.

use core::time::Duration;

use super::feed::Feed;
use slotcast_sim::{FaultKind, Plan, Trick, byzantine_max};

/// Faults that a script may hold.
const SCRIPT_MAX: usize = 24;

pub(super) fn sim_swarm(data: &[u8]) {
    let mut feed = Feed(data);
    let mut plan = plan(&mut feed);
    while !feed.0.is_empty() && plan.script.len() < SCRIPT_MAX {
        let after = Duration::from_millis(u64::from(feed.byte()) * 12);
        let kind = FaultKind::ALL[feed.below(FaultKind::ALL.len())];
        plan.script.push((after, kind, feed.byte().into()));
    }
    plan.run().assert_good();
}

/// A short run of few nodes; what the seed draws, and what the data says instead.
fn plan(feed: &mut Feed<'_>) -> Plan {
    let seed = u64::from(feed.byte()) << 8 | u64::from(feed.byte());
    let nodes = 4 + feed.below(4);
    let byzantine = feed.below(byzantine_max(nodes) + 1);
    let mut plan = Plan::draw(seed).with_nodes(nodes).with_byzantine(byzantine);
    let chosen =
        u32::from(feed.byte()) | u32::from(feed.byte()) << 8 | u32::from(feed.byte()) << 16;
    let faults = FaultKind::ALL.into_iter().enumerate();
    plan.faults = faults.filter(|(at, _)| chosen >> at & 1 == 1).map(|(_, kind)| kind).collect();
    let chosen =
        u32::from(feed.byte()) | u32::from(feed.byte()) << 8 | u32::from(feed.byte()) << 16;
    let tricks = Trick::ALL.into_iter().enumerate();
    plan.tricks = tricks.filter(|(at, _)| chosen >> at & 1 == 1).map(|(_, trick)| trick).collect();
    plan.strength = 1 + u32::from(feed.byte()) % 100;
    plan.workload.artifacts_per_second = 1 + u32::from(feed.byte() & 63);
    plan.workload.aborted_percent = u32::from(feed.byte()) % 101;
    plan.workload.large_percent = u32::from(feed.byte()) % 20;
    plan.byzantine_leave = feed.byte() & 1 == 0;
    plan.faulty_for = Duration::from_secs(3);
    plan.all_must_act = false;
    plan
}
