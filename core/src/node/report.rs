//! What a node reports about itself and its peers.

use std::io;
use std::time::Duration;

use super::socket::{SocketBuffers, SocketOperation};
use crate::config::ConfigError;
use crate::error::Fault;
use crate::id::{ChannelId, NodeId};
use crate::membership::TopologyError;

/// What happens between nodes. At most one event of each kind waits per peer. If a connection goes
/// up and down several times before the events are taken, only its last state is reported.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum NodeEvent {
    /// A member is connected.
    Up {
        /// The member.
        peer: NodeId,
    },
    /// A member is not connected any more.
    Down {
        /// The member.
        peer: NodeId,
        /// Why.
        why: Closed,
    },
    /// A member is [behind](crate::config::Freshness::behind_after) in a channel, and it does not pass: of artifacts and
    /// aborts, it is told the newest first, or those of the highest keys, and what is aborted soon it may never hear
    /// of. The cause may be its link, or its [`Quota`](crate::config::Quota). What it has still to be told of all channels
    /// together, and how old that is, is its [`backlog`](crate::snapshot::PeerSnapshot::backlog).
    Behind {
        /// The member.
        peer: NodeId,
        /// The channel.
        channel: ChannelId,
    },
    /// A member is not behind in a channel any more. A member that is not connected is not behind, either;
    /// that is not told.
    CaughtUp {
        /// The member.
        peer: NodeId,
        /// The channel.
        channel: ChannelId,
    },
    /// A member broke a rule.
    Fault {
        /// The member.
        peer: NodeId,
        /// The last fault.
        fault: Fault,
        /// The number of faults since the last report.
        count: u32,
    },
    /// Two processes use the key of a member at the same time. The one that was replaced has connected again,
    /// and was refused. At most once in [`TWIN_INTERVAL`](super::TWIN_INTERVAL) for each member.
    Twin {
        /// The member.
        peer: NodeId,
    },
    /// Another process uses the key of this node, as a member says which has refused one of the two. Until
    /// one of them is stopped, some members are connected to this node and others to that one. At most once
    /// in [`TWIN_INTERVAL`](super::TWIN_INTERVAL).
    KeyInUse {
        /// The first member that has said so since the last report. It may be wrong, or lie.
        told_by: NodeId,
    },
    /// Attempts to connect were refused or failed. At most once in [`REFUSED_INTERVAL`].
    Refused {
        /// Handshakes since the last report that were refused or failed: with another key than a
        /// member's or none, with another protocol, too many at a time, or of a member that is cut off.
        handshakes: u64,
        /// Datagrams since the last report from addresses that no member has.
        datagrams: u64,
    },
    /// The socket has failed to do something. The first error of a kind is reported at once, others
    /// at most once in [`SOCKET_ERRORS_INTERVAL`](super::SOCKET_ERRORS_INTERVAL).
    SocketErrors {
        /// What it was asked to do.
        operation: SocketOperation,
        /// Why it has failed.
        kind: io::ErrorKind,
        /// How often since the last report.
        count: u64,
    },
    /// The kernel grants the socket smaller buffers than were asked for, so that datagrams get lost
    /// under load. On Linux, raise `net.core.rmem_max` and `net.core.wmem_max`.
    SocketBuffers(SocketBuffers),
}

/// Refused attempts are reported at most once in this interval, since strangers can make many.
pub const REFUSED_INTERVAL: Duration = Duration::from_secs(10);

/// Why a connection has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Closed {
    /// The peer, or this node, has shut down.
    Shutdown,
    /// The peer has lost its state: a restart.
    Reset,
    /// Nothing was received from it for the idle timeout, or its packets were invalid.
    Lost,
    /// The peer has closed the connection.
    ByPeer,
    /// Another connection to the same member has replaced it.
    Superseded,
    /// Another process with the same key is connected.
    Twin,
    /// It was cut off for its faults.
    CutOff,
    /// It left the topologies in use, is no neighbour of this node in them any more, or was banned.
    Left,
    /// The application of this node has [disconnected](super::Node::disconnect) it.
    Disconnected,
}

/// What a node counts since its start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct NodeStats {
    /// Bytes of UDP payload handed to the socket.
    pub sent_bytes: u64,
    /// Datagrams handed to the socket.
    pub sent_datagrams: u64,
    /// Bytes of UDP payload received.
    pub received_bytes: u64,
    /// Batches of datagrams received.
    pub received_batches: u64,
    /// Work done, as [`WorkConfig`](crate::config::WorkConfig) counts it: datagrams in both directions, and what
    /// was read.
    pub work: u64,
    /// Handshake datagrams dropped since they came from no member's address.
    pub strangers: u64,
    /// Handshakes refused, failed, or from a key that is no member's. Not those that the dialler itself has given up:
    /// of two connections that members dial to each other at the same time, one is.
    pub refused: u64,
    /// Connections that came up.
    pub connections: u64,
    /// Connections refused since another process with the same member's key is connected.
    pub twins: u64,
    /// Rules broken by members.
    pub faults: u64,
    /// Times that the socket failed to send.
    pub send_errors: u64,
    /// Datagrams that were lost by it.
    pub unsent_datagrams: u64,
    /// Times that the socket failed to receive.
    pub receive_errors: u64,
}

/// Why there is no node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// The configuration is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The topology does not fit the configuration.
    #[error(transparent)]
    Topology(#[from] TopologyError),
}
