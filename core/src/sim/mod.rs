//! Whole subnets in one thread.

mod application;
mod clock;
mod fault;
mod hostile;
mod network;
mod process;
mod subnet;
mod swarm;
mod trace;

pub use crate::node::crypto::Crypto;
pub use crate::random::Random;
pub use application::{Application, Context, Sent, address};
pub use clock::Clock;
pub use fault::{FaultCounts, FaultKind};
pub use hostile::{Byzantine, Tally, Trick};
pub use network::{Bursts, Chance, Latency, Link, Network};
pub use process::Process;
pub use subnet::{Setup, Subnet};
pub use swarm::{
    Bytes, CONVERGED_WITHIN, Failure, Latencies, MemoryMeter, Plan, Report, Workload, byzantine_max,
};
pub use trace::{Entry, Trace, What};
