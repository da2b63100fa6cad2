//! A channel of broadcast.

use super::Histogram;
use crate::id::ChannelId;

/// A channel of broadcast.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ChannelSnapshot {
    /// The channel.
    pub id: ChannelId,
    /// What this node advertises.
    pub outbox: OutboxSnapshot,
    /// What its peers advertise, by how far it is here.
    pub known: KnownSnapshot,
    /// What is fetched and not taken by the application.
    pub inbox: InboxSnapshot,
    /// What the application has taken.
    pub events: EventCounts,
    /// Times from a publication until a peer has acknowledged all of the stream that told it: of the oldest
    /// publication in each stream. What is pushed has arrived then; of what is advertised the peer has
    /// heard.
    pub acknowledged: Histogram,
    /// Times from the first byte of an artifact until it was complete, of those that were fetched or
    /// streamed in chunks.
    pub fetched: Histogram,
}

/// What this node advertises in a channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct OutboxSnapshot {
    /// Artifacts that it advertises: published and relayed ones.
    pub active: u32,
    /// The bound of that: `slots_max`.
    pub active_max: u32,
    /// Bytes of the artifacts that it has published, and not withdrawn.
    pub published_bytes: u64,
    /// Bytes of the artifacts that it relays.
    pub relayed_bytes: u64,
    /// The bound of each of the two: `active_bytes_max`.
    pub bytes_max: u64,
}

/// Artifacts that peers advertise in a channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct KnownSnapshot {
    /// All of them.
    pub all: u64,
    /// Wanted and not complete.
    pub fetching: u64,
    /// Chunks of so many of these are here.
    pub partial: u64,
    /// Complete, and not yet taken by the application or its driver.
    pub waiting: u64,
    /// The filter is to be asked again about them.
    pub postponed: u64,
    /// The filter has rejected them.
    pub rejected: u64,
}

/// Bytes of a channel that are received, or for which room is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct InboxSnapshot {
    /// Bytes of complete artifacts that wait for the application or its driver.
    pub waiting_bytes: u64,
    /// Bytes of artifacts that are being fetched, missing chunks included.
    pub fetching_bytes: u64,
    /// The bound of each of the two: `inbox_bytes_max`.
    pub bytes_max: u64,
    /// Events that the driver has staged for the application.
    pub staged_events: u64,
    /// Bytes of the artifacts in them, and of the events themselves.
    pub staged_bytes: u64,
}

/// Events of a channel that were taken, by the application or by the driver, which stages them for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct EventCounts {
    /// Deliveries.
    pub delivered: u64,
    /// Bytes in these artifacts.
    pub delivered_bytes: u64,
    /// Withdrawals by single members.
    pub withdrawn: u64,
    /// Expirations.
    pub expired: u64,
}
