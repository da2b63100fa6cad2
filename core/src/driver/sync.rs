//! The lock that the handles of a node share: that of `std`, or in tests of wake-ups that of `shuttle`.

#[cfg(slotcast_shuttle)]
pub(super) use shuttle::sync::{Mutex, MutexGuard};
#[cfg(not(slotcast_shuttle))]
pub(super) use std::sync::{Mutex, MutexGuard};
