//! Runs of whole subnets under faults, with hostile members, against all invariants.

mod calls;
mod content;
mod oracle;
mod paths;
mod picture;
mod plan;
mod report;
mod run;

pub use calls::CallCounts;
pub use paths::Paths;
pub use plan::{Plan, Workload, byzantine_max};
pub use report::{Bytes, Failure, Latencies, Report};

use core::time::Duration;

/// Virtual time after the last fault within which everything has to be where it should be: the
/// connections that a fault has ended notice it (idle timeout), clocks that were set back catch up,
/// the pauses between dials pass, and what was missed is fetched. Where [`Paths`] have rates or
/// losses, the time that these make the bytes take comes on top.
pub const CONVERGED_WITHIN: Duration = Duration::from_secs(30);

/// Tells whose memory is allocated: functions of a counting allocator.
#[derive(Clone, Copy, Debug)]
pub struct MemoryMeter {
    /// From now on memory is the node's at this place, or nobody's.
    pub enter: fn(Option<usize>),
    /// The most bytes that a node has held since this was last asked.
    pub held: fn(usize) -> u64,
}
