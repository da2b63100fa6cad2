//! Whole subnets in one thread.

mod application;
mod clock;
mod fault;
mod hostile;
mod network;
mod process;
mod subnet;
mod trace;

pub use crate::node::crypto::Crypto;
pub use crate::random::Random;
pub use application::{Application, Context, Sent};
pub use clock::Clock;
pub use fault::{FaultCounts, FaultKind};
pub use hostile::{Byzantine, Tally, Trick};
pub use network::{Bursts, Chance, Latency, Link, Network};
pub use process::Process;
pub use subnet::{Setup, Subnet};
pub use trace::{Entry, Trace, What};
