//! What a channel may cost, and how it treats its artifacts.

use core::time::Duration;

use super::error::{invalid, within};
use super::{BUDGET_BYTES_LIMIT, Class, ConfigError, Freshness, Order, Quota, SPAN_LIMIT};
use crate::artifact::{
    ARTIFACT_BYTES_LIMIT, METADATA_BYTES_MAX, SINGLE_CHUNK_BYTES_MAX, longest_chunk_bytes,
};
use crate::id::ChannelId;
use crate::wire::{CHUNK_BITS_MAX, Chunk, FRAME_OVERHEAD_MAX, FURTHER_BYTES_MAX};

/// Slots that a channel can have.
pub const SLOTS_LIMIT: u32 = 1 << 16;

const BUDGET: &str = "it has to hold the longest artifact";

/// Whether a node passes on what it received.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum Relay {
    /// Never: publishers reach every member themselves.
    #[default]
    Off,
    /// When the application says so, after it has validated the artifact.
    Confirmed,
    /// As soon as the artifact has come; of one that is spread, each chunk once it is checked, before the
    /// application has seen anything of it.
    Automatic,
}

/// One channel. All members of a subnet should agree on its bounds; a channel is inert towards a
/// peer that takes less than this node may send.
///
/// ```
/// use slotcast::config::{ChannelConfig, Class, Config};
/// use slotcast::id::ChannelId;
///
/// let mut votes = ChannelConfig::new(ChannelId(1)).class(Class::Urgent);
/// votes.slots_max = 4096;
/// votes.artifact_bytes_max = 4096;
/// assert_eq!(Config::new([votes]).check(), Ok(()));
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ChannelConfig {
    /// The channel.
    pub id: ChannelId,
    /// How urgent it is.
    pub class: Class,
    /// Artifacts active at once per sender, relayed ones included. Default 1,024: an order of
    /// magnitude above what a consensus round keeps alive.
    pub slots_max: u32,
    /// Of those, slots for relayed artifacts. Default 0, without relaying. An artifact for which
    /// none is free is not passed on.
    pub relay_slots_max: u32,
    /// Bytes of the artifacts that this node has published, and again of those that it relays.
    /// Default 64 MiB.
    pub active_bytes_max: u64,
    /// Bytes in one artifact. Default 16 MiB.
    pub artifact_bytes_max: u64,
    /// Up to this many bytes an artifact is pushed with its advert, beyond it is fetched. Default
    /// 16 KiB: below it, a round trip costs more than the bytes. At most 64 KiB, since a
    /// longer artifact has several chunks.
    pub push_bytes_max: u32,
    /// Push larger artifacts, too, as a stream behind the advert: saves a round trip where latency
    /// counts more than doubled bytes. Default false.
    pub latency_sensitive: bool,
    /// Bytes received but not yet taken by the application, and again bytes being fetched: pushes do
    /// not wait for fetches, which can be made to last. An eighth of it, or one artifact, is what one
    /// holder may be asked for at a time. Default 128 MiB: eight of the longest artifacts, so that it
    /// takes eight silent holders to delay what the others have; set it to f + 1 of them.
    pub inbox_bytes_max: u64,
    /// Whether received artifacts are passed on.
    pub relay: Relay,
    /// Hops from the publisher over which artifacts are passed on. Default 4; a full mesh needs 1.
    pub relay_hops_max: u8,
    /// Artifacts of at least so many bytes are *spread*: the publisher sends each member another part
    /// of them, unasked, and each passes its part on to all others while it comes. So all have it in
    /// little more than the time in which the publisher sends it once. Only with [`Relay::Automatic`],
    /// in a full mesh, and up to 256 MiB; without effect otherwise. A member whose filter does not want an
    /// artifact passes nothing of it on. Default 256 KiB: below, a part would be less than a chunk in a
    /// subnet of 16. `u64::MAX` for never.
    pub spread_bytes_min: u64,
    /// What goes first when a member cannot be served, or asked, as fast as the channel changes.
    pub freshness: Freshness,
    /// Whether that is the newest, or what has the highest key. Default [`Order::Age`].
    pub order: Order,
    /// How long at most a member that was pushed an artifact may not yet be told that it was aborted, if
    /// there is nothing else to tell it meanwhile: by itself that takes a datagram, and another one
    /// that acknowledges it. What is still to be sent of the artifact is not sent in any case. Default
    /// 100 ms: with 20 artifacts a second, aborts cost no datagrams. Zero to tell it at once.
    #[cfg_attr(feature = "serde", serde(with = "super::span"))]
    pub clear_delay: Duration,
    /// Whether the application is told when members withdraw what was delivered to it
    /// ([`Event::Withdrawn`](crate::broadcast::Event::Withdrawn),
    /// [`Event::Expired`](crate::broadcast::Event::Expired)). Default true. Where artifacts are used up
    /// when they are delivered, it costs an event each for nothing. Without it, an artifact that is gone
    /// and comes back is delivered again, with no event in between.
    pub tells_withdrawals: bool,
    /// Whether it matters who publishes: an artifact's id then covers the key of its publisher
    /// (`Node::key_id`), so that the same bytes from two members are two
    /// artifacts. The publisher is the member at the other end of the connection, which nobody else can
    /// claim to be. A relay could not prove whose artifact it passes on, so that such a channel does not
    /// relay, and reaches the members that are connected to the publisher. Members that do not agree
    /// do not hear each other in the channel. Default false: equal bytes, metadata and key are one artifact.
    pub sender_matters: bool,
    /// What each member may send in it. Default `None`: no more than its [share](super::WorkConfig) of this node's
    /// work. It is this node's own choice, which members are told and need not agree on.
    pub quota: Option<Quota>,
}

impl ChannelConfig {
    /// A channel with the defaults.
    pub const fn new(id: ChannelId) -> Self {
        Self {
            id,
            class: Class::Normal,
            slots_max: 1024,
            relay_slots_max: 0,
            active_bytes_max: 64 << 20,
            artifact_bytes_max: 16 << 20,
            push_bytes_max: 16 << 10,
            latency_sensitive: false,
            inbox_bytes_max: 128 << 20,
            relay: Relay::Off,
            relay_hops_max: 4,
            spread_bytes_min: 256 << 10,
            freshness: Freshness::DEFAULT,
            order: Order::Age,
            clear_delay: Duration::from_millis(100),
            tells_withdrawals: true,
            sender_matters: false,
            quota: None,
        }
    }

    /// The same channel in another class.
    #[must_use]
    pub const fn class(self, class: Class) -> Self {
        Self { class, ..self }
    }

    /// The same channel, passing on what it received in up to `slots_max` slots, which are added to
    /// those for its own artifacts.
    #[must_use]
    pub const fn relaying(self, relay: Relay, slots_max: u32) -> Self {
        let all = self.publish_slots_max().saturating_add(slots_max);
        Self { relay, relay_slots_max: slots_max, slots_max: all, ..self }
    }

    /// Slots for artifacts that this node publishes.
    pub const fn publish_slots_max(&self) -> u32 {
        self.slots_max.saturating_sub(self.relay_slots_max)
    }

    /// Bytes of the longest frame of updates in this channel, streamed chunks aside.
    pub(crate) fn update_bytes_max(&self) -> usize {
        let push = METADATA_BYTES_MAX + self.push_bytes_max as usize;
        let snapshot = self.slots_max as usize / 8 + 1;
        let partial = METADATA_BYTES_MAX + 32 + CHUNK_BITS_MAX;
        FRAME_OVERHEAD_MAX + FURTHER_BYTES_MAX + push.max(snapshot).max(partial)
    }

    /// Bytes of the longest frame that a peer may begin in this channel: an update, or a chunk with
    /// its proof.
    pub(super) fn frame_bytes_max(&self) -> usize {
        let chunk = longest_chunk_bytes(self.artifact_bytes_max) + Chunk::OVERHEAD_MAX;
        chunk.max(self.update_bytes_max())
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        const RELAYING: &str = "with relaying, some slots are for it, and some for the node's own";
        let budget = self.artifact_bytes_max..=BUDGET_BYTES_LIMIT;
        let is_relaying = self.relay != Relay::Off;
        let slots_min = 1 + u32::from(is_relaying);
        within("slots_max", self.slots_max, slots_min..=SLOTS_LIMIT, "")?;
        let (relayed, why) = match is_relaying {
            true => (1..=self.slots_max - 1, RELAYING),
            false => (0..=0, "the channel does not relay"),
        };
        within("relay_slots_max", self.relay_slots_max, relayed, why)?;
        if self.sender_matters && is_relaying {
            let why = "is set in a channel that relays: a relay cannot prove who has published";
            return Err(invalid("sender_matters", 1_u8, why));
        }
        let hops_min = u8::from(is_relaying);
        within("relay_hops_max", self.relay_hops_max, hops_min..=u8::MAX, "")?;
        self.freshness.check()?;
        within("clear_delay", self.clear_delay, Duration::ZERO..=SPAN_LIMIT, "")?;
        self.quota.map_or(Ok(()), |quota| quota.check())?;
        within("artifact_bytes_max", self.artifact_bytes_max, 0..=ARTIFACT_BYTES_LIMIT, "")?;
        let push = 0..=SINGLE_CHUNK_BYTES_MAX as u32;
        within("push_bytes_max", self.push_bytes_max, push, "a push is a single chunk")?;
        within("active_bytes_max", self.active_bytes_max, budget.clone(), BUDGET)?;
        within("inbox_bytes_max", self.inbox_bytes_max, budget, BUDGET)
    }
}
