//! What the tests and the fuzz targets of slotcast share.
//!
//! [`machines`] are ways to drive the state machines without QUIC; [`fuzz`] has the bodies of the
//! fuzz targets and the models that they compare with. Attackers over real sockets are `foe`, which
//! connects with any credentials, and `flood`, which only begins handshakes.

#![allow(missing_docs, reason = "only our own tests see it")]
#![forbid(unsafe_code)]

#[cfg(feature = "quinn")]
pub mod flood;
#[cfg(feature = "quinn")]
pub mod foe;
#[cfg(feature = "sim")]
pub mod fuzz;
pub mod machines;
#[cfg(feature = "tls")]
pub mod tls;

/// Hostile peers. The simulator has them, since its users put them into their subnets; what speaks
/// over other transports takes its words from there.
#[cfg(feature = "sim")]
pub use slotcast_sim::hostile;
