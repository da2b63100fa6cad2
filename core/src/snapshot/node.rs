//! The node as a whole, and its driver.

use super::Histogram;
use crate::node::NodeStats;

/// The node as a whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct NodeSnapshot {
    /// What it has counted.
    pub stats: NodeStats,
    /// What it holds.
    pub memory: MemorySnapshot,
    /// Connections whose handshake or hello is not over.
    pub handshakes: u64,
    /// How its driver does. `None` for a node that is driven by hand.
    pub driver: Option<DriverSnapshot>,
}

/// Memory, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct MemorySnapshot {
    /// [`Config::memory_bound`](crate::config::Config::memory_bound).
    pub bound: u64,
    /// What budgets say that is held: bytes of active artifacts, of those that are being fetched or wait for
    /// the application, of bodies of calls, and what links hold of the pool of windows. Tables and what
    /// QUIC holds within each link's least windows are not among it.
    pub budgeted: u64,
}

/// The loop that drives a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct DriverSnapshot {
    /// How long it has kept its thread at a time.
    pub polls: Histogram,
    /// Commands of the application that it has not executed yet.
    pub commands: u64,
}
