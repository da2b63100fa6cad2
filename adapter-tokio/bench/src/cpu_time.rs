//! CPU time, user and system together, and the time that all processes have in common.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// What all threads of this process have used.
pub fn of_process() -> Duration {
    read(ClockId::ProcessCPUTime)
}

/// What the calling thread has used.
pub fn of_thread() -> Duration {
    read(ClockId::ThreadCPUTime)
}

/// The time since the machine was started, which is the same in all processes.
pub fn of_machine() -> Duration {
    read(ClockId::Monotonic)
}

fn read(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}
