//! A member beside this node, and the connection to it.

use core::time::Duration;

use crate::id::NodeId;

/// A member that this node is to be connected to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PeerSnapshot {
    /// The member.
    pub id: NodeId,
    /// The connection to it, if it is up.
    pub link: Option<LinkSnapshot>,
    /// What has come from it on the streams of broadcast.
    pub received: ReceivedBytes,
    /// What was encoded for it on the streams of broadcast.
    pub sent: SentBytes,
    /// What it has still to be sent.
    pub backlog: Backlog,
    /// Channels in which updates for it wait, since it takes no more for now: its
    /// [`Quota`](crate::config::Quota) is used up.
    pub paced_channels: u64,
    /// Rules that it has broken since it became a member.
    pub faults: u64,
    /// It is cut off for its faults at present.
    pub is_cut_off: bool,
    /// The most pieces of its work at a time that had brought nothing: see
    /// [`WorkConfig::fruitless_max`](crate::config::WorkConfig::fruitless_max). Up to 100 too high or too low.
    pub fruitless_peak: u64,
}

/// Bytes that a peer has sent on the streams of broadcast, by what became of them. Calls are counted by
/// route. A stream of which the rest is discarded unread counts as far as it was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ReceivedBytes {
    /// Bytes of artifacts that were missing here.
    pub useful: u64,
    /// Bytes of artifacts that were here already.
    pub duplicate: u64,
    /// Bytes of artifacts that were not wanted (any more), or had no room; and of chunks that did not come
    /// to their end.
    pub aborted: u64,
    /// Everything else: adverts, clears, requests, proofs, heads.
    pub control: u64,
}

/// Bytes that were encoded for a peer on the streams of broadcast.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SentBytes {
    /// Bytes of artifacts.
    pub content: u64,
    /// Everything else: adverts, clears, requests, proofs, heads.
    pub control: u64,
}

/// Changes of this node's slots, over all channels, that a peer has still to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Backlog {
    /// Their number.
    pub updates: u64,
    /// How long ago the oldest of them was made; zero without any.
    pub age: Duration,
}

/// A connection that is up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct LinkSnapshot {
    /// For how long it has been up.
    pub uptime: Duration,
    /// Estimated round trip.
    pub round_trip: Duration,
    /// Bytes that congestion control allows to be in flight.
    pub congestion_window: u64,
    /// Bytes in packets that are neither acknowledged nor lost.
    pub in_flight_bytes: u64,
    /// Bytes that QUIC has still to send, or that are in flight.
    pub unacked_bytes: u64,
    /// Bytes that the peer may send ahead of what was read.
    pub receive_window: u64,
    /// Bytes that may be unacknowledged.
    pub send_window: u64,
    /// Unidirectional streams that the peer may have open.
    pub streams_max: u64,
    /// Channels on which one of the two keeps silent, since the other one does not take all that it may
    /// send. With the feature `tracing` it is told which, and why.
    pub silent_channels: u64,
    /// Channels in which the peer is held back, since it has sent more than its
    /// [`Quota`](crate::config::Quota).
    pub held_channels: u64,
    /// For how long it was held back on this connection, in all channels together.
    pub held_for: Duration,
    /// Bytes of UDP payload that the path carries.
    pub mtu: u16,
    /// Times that congestion was noticed on this connection.
    pub congestion_events: u64,
    /// Packets sent on this connection.
    pub sent_packets: u64,
    /// Packets among them that were lost.
    pub lost_packets: u64,
    /// Bytes in lost packets. What is still current of them is sent again.
    pub lost_bytes: u64,
    /// Bytes given to QUIC in streams of broadcast that were reset, since all that they held had become
    /// obsolete or was not wanted.
    pub aborted_bytes: u64,
    /// Bytes of UDP payload sent on this connection.
    pub sent_bytes: u64,
    /// Datagrams among them.
    pub sent_datagrams: u64,
    /// Bytes of UDP payload received on this connection.
    pub received_bytes: u64,
    /// Datagrams among them. A peer's part of those of all peers is its part of the node's work.
    pub received_datagrams: u64,
}
