//! A run depends on its seed alone.

use std::time::Duration;

use slotcast_sim::Plan;

#[test]
fn the_same_seed_takes_the_same_course() {
    let run = |seed| {
        let mut plan = Plan::draw(seed);
        plan.faulty_for = Duration::from_secs(4);
        plan.run()
    };
    let mut hashes: Vec<u64> = Vec::new();
    for seed in 0..10 {
        let (first, second) = (run(seed), run(seed));
        assert!(first == second, "seed {seed}: {first:#?}\n{second:#?}");
        hashes.push(first.trace_hash);
    }
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), 10, "each seed takes a course of its own");
}
