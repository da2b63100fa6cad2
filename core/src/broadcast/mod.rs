//! Abortable broadcast as a pure state machine: updates, requests, chunks, commands and time in;
//! frames, events and the next deadline out. ("A New Broadcast Primitive for BFT Protocols",
//! arXiv 2410.22080.)
//!
//! What calls there are on [`Broadcast`]:
//! - *inputs* are `handle_*`, and [`Broadcast::peer_up`], [`Broadcast::peer_down`];
//! - *commands* are verbs (`publish`, `publish_keyed`, `abort`, `abort_below`, `relay`, `reconsider`) and answer
//!   at once;
//! - *outputs* are drained with [`Broadcast::poll`] after every input or command, until it gives
//!   [`Output::Idle`]; what may be large is pulled when there is room for it, by peer with
//!   [`Broadcast::poll_send`] and by channel with [`Broadcast::poll_event`].
//!
//! These calls are in the files `peers`, `updates` and `requests` (inputs), `publish` and `relay` (commands), `poll`,
//! `flows`, `events` and `lags` (outputs), and `inspect`; `changes` is what follows when a slot of this node has
//! changed.
//!
//! Below them, `outbox` is what this node advertises, `spread` who is sent which part of a long artifact unasked, and
//! `send` turns that into frames; `tables` is what the peers advertise, `catalogue` the artifacts in them, and `inbox`
//! composes these and tells the application. The bytes of what is wanted are brought by the module `transfer` of this
//! crate. None of them knows of QUIC, sockets or clocks.

mod catalogue;
mod changes;
mod events;
mod filter;
mod flows;
mod free_slots;
mod held;
mod inbox;
mod inspect;
mod lags;
mod outbox;
mod peer_set;
mod peers;
mod poll;
mod publish;
mod receipts;
mod relay;
mod requests;
mod send;
mod spread;
mod tables;
mod traffic;
mod updates;
mod work;

pub(crate) use peer_set::PeerSet;

pub use crate::send_buffer::SendBuffer;
pub use events::Event;
pub use filter::{Candidate, Decision, Filter, Priority};
pub use outbox::{Coverage, Lag, Threshold};
pub use poll::{Output, Wake};
pub use requests::{ChunkTaken, RequestId};
pub use send::{OutStream, Send};
pub use updates::Taken;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::fmt;
use foldhash::quality::FixedState;
use hashbrown::HashMap;

use crate::config::{ChannelConfig, Config, ConfigError};
use crate::deadlines::Deadlines;
use crate::id::{Arrival, ArtifactId, ChannelId, NodeId, Slot};
use crate::membership::Overlay;
use crate::time::Time;
use inbox::Inbox;
use outbox::Outbox;
use peers::PeerTable;
use send::Sender;

/// Adversaries can choose ids, so the hash is seeded. Maps are never iterated, so the seed does not
/// affect behaviour.
type IdMap<V> = HashMap<ArtifactId, V, FixedState>;

/// The machine: all channels of one node, all peers.
pub struct Broadcast {
    channels: Vec<ChannelConfig>,
    /// The channels' indices, by id.
    channel_indices: Vec<(ChannelId, u16)>,
    /// This node: its key.
    own: NodeId,
    peers: PeerTable,
    outboxes: Vec<Outbox>,
    inbox: Inbox,
    sender: Sender,
    /// Bounded by the number of streams and requests, since each can be ended once.
    outputs: VecDeque<Output>,
    /// The channels with artifacts that have come as far as was asked for: bit set.
    covered: u64,
    /// Each member is connected to each.
    may_spread: bool,
    /// This node is told of what it publishes.
    has_loopback: bool,
    now: Time,
    /// Slots that have changed since the time was told last, each once.
    undated: Vec<(u16, Slot)>,
    /// The channels with members that have come to be behind, or are not any more: bit set.
    lags: u64,
    /// When it is looked at whether a member is behind, by member and channel.
    behind_at: Deadlines,
    /// The channels in which slots have changed since the time was told last: bit set.
    changed: u64,
}

impl fmt::Debug for Broadcast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broadcast").field("now", &self.now).finish_non_exhaustive()
    }
}

impl Broadcast {
    /// The machine of the node with the key `own`, without peers. `seed` must be unpredictable for the peers: it keys
    /// hash tables.
    ///
    /// # Errors
    /// If the configuration is invalid.
    pub fn new(config: &Config, own: NodeId, seed: u64) -> Result<Self, ConfigError> {
        config.check()?;
        let hasher = FixedState::with_seed(seed);
        let outbox = |config: &ChannelConfig| {
            Outbox::new(config.clone(), IdMap::with_hasher(hasher.clone()))
        };
        let ids = config.channels.iter().map(|channel| channel.id);
        let mut channel_indices: Vec<_> = ids.zip(0..).collect();
        channel_indices.sort_unstable();
        Ok(Self {
            channels: config.channels.clone(),
            channel_indices,
            own,
            peers: PeerTable::new(own),
            outboxes: config.channels.iter().map(outbox).collect(),
            inbox: Inbox::new(config, &hasher, seed),
            sender: Sender::new(config),
            outputs: VecDeque::new(),
            covered: 0,
            may_spread: config.transport.overlay == Overlay::FullMesh,
            has_loopback: false,
            now: Time::ZERO,
            undated: Vec::new(),
            lags: 0,
            behind_at: Deadlines::new(),
            changed: 0,
        })
    }

    /// Sets what decides about a channel's artifacts. Without a filter, all are fetched. False if
    /// there is no such channel.
    pub fn set_filter(&mut self, channel: ChannelId, filter: Box<dyn Filter>) -> bool {
        let channel_index = self.channel_index(channel);
        channel_index
            .inspect(|channel_index| self.inbox.set_filter(*channel_index, filter))
            .is_some()
    }

    /// Whether what this node publishes from now on is told to itself as well, before it is sent:
    /// delivered, from this node, and withdrawn or expired. Filters are not asked about it, and its bytes
    /// count as published, not as received. Off at first.
    pub fn set_loopback(&mut self, has_loopback: bool) {
        self.has_loopback = has_loopback;
    }

    /// Whether this node is told of what it publishes.
    pub fn has_loopback(&self) -> bool {
        self.has_loopback
    }

    /// The member that this node is, in its own events from now on. At first the node's id.
    pub fn set_member_id(&mut self, member: NodeId) {
        self.peers.own = member;
    }

    fn channel_index(&self, channel: ChannelId) -> Option<u16> {
        let at = self.channel_indices.binary_search_by_key(&channel, |(id, _)| *id).ok()?;
        Some(self.channel_indices[at].1)
    }

    /// What becomes known from now on is by this input.
    #[cfg_attr(not(feature = "quic"), allow(dead_code, reason = "for nodes"))]
    pub(crate) fn begin_input(&mut self, arrival: Arrival) {
        self.inbox.arrival = arrival;
    }

    /// Clamps `now`, so that the machine's time never goes backwards.
    pub(crate) fn clamp(&mut self, now: Time) -> Time {
        self.now = self.now.max(now);
        while let Some((channel_index, slot)) = self.undated.pop() {
            self.outboxes[channel_index as usize].set_changed_at(slot, self.now);
        }
        self.look_at_moved(self.now);
        self.now
    }
}
