#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]
// docs.rs says with each item which feature it needs.
#![cfg_attr(docsrs, feature(doc_cfg))]

extern crate alloc;
#[cfg(any(feature = "quic", test))]
extern crate std;
// Unit tests of the driver share what is in `tests/driver`.
#[cfg(all(test, feature = "driver"))]
extern crate self as slotcast;

mod arena;
pub mod artifact;
mod bits;
pub mod broadcast;
pub mod config;
mod deadlines;
#[cfg(feature = "driver")]
pub mod driver;
pub mod error;
#[cfg(feature = "driver")]
pub mod guide;
pub mod id;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod internals;
mod key_index;
pub mod membership;
#[cfg(feature = "quic")]
pub mod node;
#[cfg(feature = "prometheus")]
pub mod prometheus;
#[cfg_attr(not(feature = "internals"), allow(unreachable_pub, reason = "public in `internals`"))]
mod random;
pub mod rpc;
pub mod sched;
mod send_buffer;
mod shortest;
pub mod snapshot;
pub mod time;
mod trace;
mod transfer;
pub mod wire;
