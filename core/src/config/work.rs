//! The share that each peer has of a node's work.

use super::ConfigError;
use super::error::within;

/// How much of a node's work a peer may cause: used by [`Node`](crate::node) only.
///
/// Work is counted, not timed, so that a simulated node does what a real one does. Its unit is about 100 ns of
/// a server's core: a datagram counts as 30, a stream that is read as 10, an update or a piece of a chunk as 5,
/// and so does each KiB.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct WorkConfig {
    /// What one peer's streams may cost in a turn, which is from one time at which a node has nothing to do to
    /// the next; and as much each for chunks that it was asked for, and for those of [`Class::Bulk`](super::Class).
    /// What is beyond that stays unread until the other peers have been served, and QUIC's flow control pushes
    /// back; where nobody else has anything to say, it is read at once. A peer that connects again goes on with
    /// what it had left. Default 1,000, about 100 us: what others wait for it is less than a datagram takes on
    /// most paths, and the way around a driver's loop costs a few percent of it. While others send something and at
    /// most a third of them are beyond their share, it is a quarter of this. Between 100 and 1,000,000.
    pub turn_max: u32,
    /// Pieces of work in a second that may bring nothing: a datagram with nothing in it, a frame of stream data
    /// that is here already, an update of a version that has passed or of a slot that stays empty, a chunk that is
    /// here already, a stream that was reset. A connection that the peer makes counts as 100. A piece that does
    /// bring something makes up for one that does not. Default 10,000: far above what honest members were seen to
    /// cause. At least 1.
    pub fruitless_per_second: u32,
    /// So many of them beyond those are a fault, [`WorkWithoutProgress`](crate::error::Fault::WorkWithoutProgress).
    /// Default 100,000: far more than what a member causes that was cut off for a while, whose packets are repeated or
    /// overtake each other, or that aborts most of what it sends, all of which bring something, too. At least 1,000.
    pub fruitless_max: u32,
}

impl Default for WorkConfig {
    fn default() -> Self {
        Self { turn_max: 1000, fruitless_per_second: 10_000, fruitless_max: 100_000 }
    }
}

impl WorkConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        within("work.turn_max", self.turn_max, 100..=1_000_000, "")?;
        let per_second = self.fruitless_per_second;
        within("work.fruitless_per_second", per_second, 1..=u32::MAX, "")?;
        within("work.fruitless_max", self.fruitless_max, 1000..=u32::MAX, "")
    }
}
