//! The allocator that tells one node's memory from another's, and what it says of whole runs.

#[path = "../examples/simulate/meter.rs"]
mod meter;

use meter::METER;
use slotcast_sim::{Plan, Trick};

fn held(node: usize) -> u64 {
    // Asked twice: the first answer is the most since the last time.
    (METER.held)(node);
    (METER.held)(node)
}

#[test]
fn a_block_is_counted_for_whoever_allocated_it() {
    meter::reset();
    (METER.enter)(Some(1));
    let mut of_one = vec![1_u8; 1_000];
    (METER.enter)(Some(2));
    let of_two = vec![0_u64; 500];
    assert_eq!((held(0), held(1), held(2)), (0, 1_000, 4_000));
    of_one.reserve_exact(9_000);
    assert_eq!((held(1), held(2)), (10_000, 4_000));
    drop(of_one);
    (METER.enter)(None);
    let of_nobody = vec![0_u8; 100];
    drop((of_two, of_nobody));
    assert_eq!((held(1), held(2)), (0, 0));
}

#[test]
fn the_most_since_the_last_question_is_told() {
    meter::reset();
    (METER.enter)(Some(3));
    drop(vec![0_u8; 5_000]);
    let kept = vec![0_u8; 10];
    (METER.enter)(None);
    assert_eq!((METER.held)(3), 5_000);
    assert_eq!((METER.held)(3), 10);
    drop(kept);
}

#[test]
fn blocks_are_aligned_and_zeroed_as_asked() {
    #[repr(align(256))]
    struct Wide([u8; 512]);

    meter::reset();
    (METER.enter)(Some(0));
    let wide: Vec<Wide> = (0..3).map(|n| Wide([n; 512])).collect();
    let zeroed = vec![0_u128; 1_000];
    (METER.enter)(None);
    assert_eq!(wide.as_ptr().addr() % 256, 0);
    assert_eq!(wide[2].0, [2; 512]);
    assert_eq!(zeroed.as_ptr().addr() % 16, 0);
    assert!(zeroed.iter().all(|n| *n == 0));
    assert!(held(0) >= 3 * 512 + 16_000);
}

#[test]
fn nodes_stay_within_their_bound_among_hostile_members() {
    for seed in 1..=3 {
        meter::reset();
        let plan = Plan::draw(seed).with_nodes(7).with_byzantine(2);
        let report = plan.run_metered(Some(METER));
        report.assert_good();
        assert!(report.memory_max > 100_000, "{} bytes are not all", report.memory_max);
        assert!(report.memory_max <= report.memory_bound);
    }
}

#[test]
fn l13_a_node_under_every_attack_at_once_stays_within_its_bound() {
    for seed in 1..=3 {
        meter::reset();
        let mut plan = Plan::calm(seed, 7).with_byzantine(2);
        plan.config = Plan::draw(seed).with_byzantine(2).config;
        plan.tricks = Trick::ALL.to_vec();
        // Not all come about in so short a time.
        plan.all_must_act = false;
        plan.workload.calls_percent = 100;
        let report = plan.run_metered(Some(METER));
        report.assert_good();
        let acted = report.tricks.iter().filter(|(_, count)| *count > 0).count();
        assert!(acted > Trick::ALL.len() / 2, "{:?}", report.tricks);
        assert!(report.memory_max > 100_000, "{} bytes are not all", report.memory_max);
        assert!(report.memory_max <= report.memory_bound);
        println!("{} bytes of at most {}", report.memory_max, report.memory_bound);
    }
}
