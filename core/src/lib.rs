#![no_std]
#![forbid(unsafe_code)]
#![doc = "placeholder"]
extern crate alloc;
#[cfg(feature = "quic")]
extern crate std;

mod arena;
pub mod artifact;
pub mod broadcast;
pub mod config;
pub mod error;
pub mod id;
pub mod membership;
#[cfg(feature = "quic")]
pub mod node;
mod sched;
pub mod time;
pub mod wire;
