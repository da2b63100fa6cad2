//! Hostile members, each with one kind of lie: what the others do for each other is as it would be
//! without them, and who can be proven to have broken a rule is accused of it.

use std::collections::{BTreeMap, BTreeSet};

use slotcast::config::Relay;
use slotcast::error::Fault;
use slotcast::id::ChannelId;
use slotcast::node::NodeEvent;
use slotcast_sim::{Byzantine, Plan, Report, Setup, Tally, Trick, What};

use crate::subnet::{Recorded, Subnet, Told, limit, of};
use crate::{mixed, run};
use slotcast_testkit::machines::{artifact, config, ms};

/// A run with two hostile members of seven, who know these tricks and stay to the end.
fn with_liars(tricks: &[Trick], seed: u64) -> Plan {
    let mut plan = mixed(seed, 7);
    plan.byzantine = 2;
    plan.tricks = tricks.to_vec();
    plan.keep_trace = true;
    plan
}

/// What hostile members were accused of. (That honest ones are not is the run's to check.)
fn accusations(report: &Report) -> Vec<Fault> {
    let faults = report.trace.iter().filter_map(|entry| match entry.what {
        What::Breach(peer, fault) if report.hostile.contains(&peer.into()) => Some(fault),
        _ => None,
    });
    faults.collect()
}

fn relaying(plan: &mut Plan, relay: Relay) {
    let channel = &mut plan.config.channels[0];
    *channel = channel.clone().relaying(relay, 64);
}

#[test]
fn l9_slots_used_up_on_every_channel_at_once() {
    let tricks =
        [Trick::Flood, Trick::ClearPushChurn, Trick::SlotBeyondBound, Trick::AdvertNeverServe];
    for seed in 1..=2 {
        let mut plan = with_liars(&tricks, seed);
        plan.config.channels[0].slots_max = 8;
        for id in 2..=3 {
            let mut channel = plan.config.channels[0].clone();
            channel.id = ChannelId(id);
            plan.config.channels.push(channel);
        }
        plan.workload.artifacts_per_second = 100;
        plan.workload.aborted_percent = 20;
        let report = run(&plan);
        assert!(accusations(&report).contains(&Fault::SlotBeyondBound));

        // The honest ones use theirs up, too.
        let mut active = BTreeMap::<_, BTreeSet<_>>::new();
        let mut full_max = 0;
        for entry in &report.trace {
            match entry.what {
                What::Published(on, id) => active.entry((entry.at, on)).or_default().insert(id),
                What::Aborted(on, id) => active.entry((entry.at, on)).or_default().remove(&id),
                _ => continue,
            };
            full_max = full_max.max(active.values().filter(|active| active.len() == 8).count());
        }
        assert_eq!(full_max, 3 * 5, "all slots of all channels of all honest members");
    }
}

#[test]
fn l16_lies_about_length_metadata_and_root_deceive_no_one() {
    for seed in 1..=3 {
        let faults = accusations(&run(&with_liars(&[Trick::ForgedAdvert], seed)));
        assert!(!faults.is_empty() && faults.iter().all(|fault| *fault == Fault::WrongChunk));
    }
}

#[test]
fn l17_wrong_chunks_are_faults_and_cost_no_artifact() {
    for seed in 1..=3 {
        let faults = accusations(&run(&with_liars(&[Trick::WrongChunks], seed)));
        assert!(faults.contains(&Fault::WrongChunk), "{faults:?}");
    }
}

#[test]
fn l18_relays_that_corrupt_are_found_out_and_cost_no_artifact() {
    for (seed, relay) in [(1, Relay::Automatic), (2, Relay::Confirmed), (3, Relay::Automatic)] {
        let mut plan = with_liars(&[Trick::WrongChunks, Trick::ForgedAdvert], seed);
        relaying(&mut plan, relay);
        let faults = accusations(&run(&plan));
        assert!(faults.contains(&Fault::WrongChunk), "{faults:?}");
    }
}

/// A plan in which artifacts of two chunks and more are spread, and many are.
fn spreading(tricks: &[Trick], seed: u64) -> Plan {
    let mut plan = with_liars(tricks, seed);
    relaying(&mut plan, Relay::Automatic);
    plan.config.channels[0].spread_bytes_min = 100_000;
    plan.workload.large_percent = 30;
    plan
}

#[test]
fn l18_chunks_that_members_only_say_they_have_cost_no_artifact() {
    for seed in 1..=3 {
        let tricks = [Trick::FalsePartial];
        // Where nobody relays, a publisher may still tell of a part.
        let plan = if seed == 2 { with_liars(&tricks, seed) } else { spreading(&tricks, seed) };
        let faults = accusations(&run(&plan));
        assert!(faults.is_empty(), "it breaks no rule: {faults:?}");
    }
}

#[test]
fn l18_stripes_that_are_not_given_or_not_passed_on_cost_no_artifact() {
    for seed in 1..=3 {
        let plan = spreading(&[Trick::WithholdStripes, Trick::WithholdRelay], seed);
        let faults = accusations(&run(&plan));
        assert!(faults.is_empty(), "it breaks no rule: {faults:?}");
    }
}

/// Invariant 12: what one honest member has whole reaches the others, however its publisher spread it.
#[test]
fn l18_what_a_publisher_withholds_from_some_they_get_from_those_who_have_it() {
    let mut shared = 0;
    for seed in 1..=4 {
        let spreads = config(|channel| *channel = channel.clone().relaying(Relay::Automatic, 64));
        let mut subnet = of(Setup::new(&spreads, 7).seed(seed));
        let tally = install(&mut subnet, 3, &[Trick::WithholdStripes], seed);
        let honest = [0, 1, 2, 4, 5, 6];
        subnet.elapse(ms(6_000));
        assert!(tally.of(Trick::WithholdStripes) > 5, "seed {seed}");
        // It is silenced: from now on there is only what the others have of each other.
        subnet.cut(&[3], &honest);
        subnet.elapse(ms(1_000));
        let had = honest.map(|at| subnet.delivered(at));
        let had_by_one: BTreeSet<_> = had.iter().flatten().copied().collect();
        for (at, had) in honest.into_iter().zip(&had) {
            let lacking = had_by_one.iter().filter(|id| !had.contains(id)).count();
            assert_eq!(lacking, 0, "seed {seed}: {at} lacks {lacking} of {}", had_by_one.len());
        }
        shared += had_by_one.len();
    }
    assert!(shared > 20, "{shared}");
}

#[test]
fn l20_streams_that_never_end_hold_nobody_up() {
    for seed in 1..=3 {
        let faults = accusations(&run(&with_liars(&[Trick::AckNeverFinish], seed)));
        assert!(faults.is_empty(), "it breaks no rule: {faults:?}");
    }
}

/// A hostile member in the place of an honest one.
fn install(subnet: &mut Subnet, at: usize, tricks: &[Trick], seed: u64) -> Tally {
    let topology = subnet.topology(0..subnet.members());
    let (key, crypto, start) = (subnet.key(at).clone(), subnet.crypto(), subnet.start_instant());
    let config = subnet.config(at);
    let hostile = Byzantine::new(key, &topology, config, tricks, crypto, seed, start);
    let tally = hostile.tally();
    subnet.install(at, Box::new(hostile));
    tally
}

#[test]
fn y8_one_holder_crashes_and_the_other_lies_and_a_third_can_begin_anew() {
    let mut lied = 0;
    for seed in 1..=6 {
        let mut subnet = of(Setup::new(&config(|_| {}), 4).seed(seed));
        let tally = install(&mut subnet, 3, &[Trick::WrongChunks], seed);
        subnet.network.each_link(|_, _, link| limit(link, 1_000_000));
        subnet.elapse(ms(1000));
        let block = artifact(1, 2 << 20);
        subnet.publish(1, &block);
        subnet.elapse(ms(600));
        assert!(subnet.sent(1, 0) > 100_000, "it is under way");
        subnet.kill(1);
        subnet.elapse(ms(20_000));
        // Whatever the liar has invented was delivered under its own name, if at all.
        assert!([0, 2].iter().all(|at| !subnet.has(*at, &block)), "seed {seed}");
        lied += tally.of(Trick::WrongChunks);
        let is_accused = |event: &NodeEvent| match event {
            NodeEvent::Fault { peer, fault, .. } => {
                assert_eq!(*peer, subnet.id(3));
                // Of a chunk with another's number, it cannot be said that it is wrong.
                matches!(fault, Fault::WrongChunk | Fault::UnrequestedChunk)
            }
            _ => false,
        };
        let events = [0, 2].iter().flat_map(|at| &subnet.application.node_events[*at]);
        let accused = events.filter(|event| is_accused(event)).count();
        assert_eq!(accused > 0, tally.of(Trick::WrongChunks) > 0, "seed {seed}");

        subnet.publish(2, &block);
        subnet.run_until("delivered", ms(8000), |subnet| subnet.has(0, &block));
        subnet.elapse(ms(2000));
        let told = subnet.told(0);
        let of_block = |told: &&Told| **told == Told::Delivered(block.id());
        assert_eq!(told.iter().filter(of_block).count(), 1, "seed {seed}: {told:?}");
    }
    assert!(lied > 0);
}
