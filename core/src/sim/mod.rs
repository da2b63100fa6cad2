//! Whole subnets in one thread.

mod hostile;
mod process;

pub use crate::random::Random;
pub use hostile::{Byzantine, Tally, Trick};
pub use process::Process;
