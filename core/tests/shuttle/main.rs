//! Wake-ups of the handles under many schedules of the threads that use them, by `shuttle`. What somebody
//! waits for and is not told of is a deadlock, which shuttle reports with the schedule that leads to it.
//!
//! Threads are switched wherever one of them takes or releases the lock that handles and driver share
//! (`driver::sync`), which is all that they share: so between a change under the lock and the wake-ups that
//! follow from it, and between a look and the registration of a waker if they were two steps. What is not
//! seen: `Occurrences::next_timeout`, which parks a thread of the system, the runtimes' own wakers, and
//! orderings of memory, of which there are none beside the lock's.
//!
//! ```sh
//! RUSTFLAGS="--cfg slotcast_shuttle" cargo test -p slotcast --features shuttle --test shuttle --target-dir target/shuttle
//! ```
#![cfg(slotcast_shuttle)]

mod calls;
mod events;
mod nodes;

use shuttle::scheduler::{
    PctScheduler, RandomScheduler, Scheduler, UncontrolledNondeterminismCheckScheduler,
};
use shuttle::{Config, Runner};

/// Nodes need more of a stack than shuttle gives by default.
const STACK_BYTES: usize = 1 << 20;

/// Points at which a thread is overtaken in the schedules by priority: the faults that are looked for need one
/// or two.
const DEPTH: usize = 3;

const SEED: u64 = 14;

fn run(scheduler: impl Scheduler + 'static, test: impl Fn() + Send + Sync + 'static) {
    let mut config = Config::new();
    config.stack_size = STACK_BYTES;
    Runner::new(scheduler, config).run(test);
}

/// Runs a test under so many schedules, the same each time: half of them choose who goes on at each step, the
/// others by priorities that change at a few points (Burckhardt et al., ASPLOS 2010).
fn check(schedules: usize, test: impl Fn() + Clone + Send + Sync + 'static) {
    run(RandomScheduler::new_from_seed(SEED, schedules / 2), test.clone());
    run(PctScheduler::new_from_seed(SEED, DEPTH, schedules / 2), test);
}

/// A schedule that fails can be repeated: what the threads do depends on nothing else.
#[test]
fn a_schedule_decides_all() {
    for test in [events::two_events, calls::two_calls] {
        let random = RandomScheduler::new_from_seed(SEED, 10);
        run(UncontrolledNondeterminismCheckScheduler::new(random), test);
    }
}
