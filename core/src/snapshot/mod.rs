//! What a node knows of itself at one moment, as plain values: for metrics, logs and operators.
//!
//! A snapshot is made on request, in one walk over peers, channels and routes. What it counts is counted
//! where it happens, in plain integers. Counters only grow while the node, or the connection where a field
//! says so, exists; everything else is a level at the moment of the snapshot.

mod channel;
mod histogram;
#[cfg(feature = "quic")]
mod node;
mod peer;
mod route;

pub use channel::{ChannelSnapshot, EventCounts, InboxSnapshot, KnownSnapshot, OutboxSnapshot};
pub use histogram::{HISTOGRAM_BUCKETS, Histogram};
#[cfg(feature = "quic")]
pub use node::{DriverSnapshot, MemorySnapshot, NodeSnapshot};
pub use peer::{Backlog, LinkSnapshot, PeerSnapshot, ReceivedBytes, SentBytes};
pub use route::{CallCounts, CallsSnapshot, RequestCounts, RequestsSnapshot, RouteSnapshot};

#[cfg(feature = "quic")]
use alloc::vec::Vec;
#[cfg(feature = "quic")]
use core::time::Duration;

/// All of it. The order of peers is that of the node's table; it may change when members do.
#[cfg(feature = "quic")]
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Snapshot {
    /// The time since the node's start.
    pub uptime: Duration,
    /// The node as a whole.
    pub node: NodeSnapshot,
    /// The members that it is to be connected to.
    pub peers: Vec<PeerSnapshot>,
    /// The channels, in the order of the configuration.
    pub channels: Vec<ChannelSnapshot>,
    /// The routes, in the order of the configuration.
    pub routes: Vec<RouteSnapshot>,
}
