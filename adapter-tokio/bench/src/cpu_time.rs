//! CPU time, user and system together.

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

fn read(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}
