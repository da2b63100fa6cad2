//! Whole subnets in one thread.

mod process;

pub use crate::random::Random;
pub use process::Process;
