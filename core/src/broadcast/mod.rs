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
//! Inside, `outbox` is what this node advertises, `publish` the commands that change it, `relay` what it passes
//! on of what others publish,
//! `spread` who is sent which part of a long artifact unasked, and `send` turns that into frames;
//! `tables` is what the peers advertise, `catalogue` the artifacts in them, and `inbox` composes these
//! and tells the application. The bytes of what is wanted are brought by the module `transfer` of this
//! crate. None of them knows of QUIC, sockets or clocks.

mod catalogue;
mod filter;
mod free_slots;
mod held;
mod inbox;
mod inspect;
mod lags;
mod outbox;
mod peer_set;
mod publish;
mod receipts;
mod relay;
mod send;
mod spread;
mod tables;
mod traffic;
mod work;

pub(crate) use peer_set::PeerSet;

pub use crate::send_buffer::SendBuffer;
pub use filter::{Candidate, Decision, Filter, Priority};
pub use outbox::{Coverage, Lag, Threshold};
pub use send::{OutStream, Send};

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;
use foldhash::quality::FixedState;
use hashbrown::HashMap;

use crate::artifact::{self, Advert, Artifact};
use crate::bits::ones;
use crate::config::{ChannelConfig, Config, ConfigError, Quota};
use crate::deadlines::Deadlines;
use crate::error::Fault;
use crate::id::{Arrival, ArtifactId, ChannelId, NodeId, PeerIndex, Slot, Version};
use crate::membership::Overlay;
use crate::sched::Level;
use crate::time::Time;
use crate::trace::{self, Note};
use crate::transfer::ChunksTold;
use crate::wire::{Chunk, ChunkRange, Ranges, Refusal, Request, Update};
use catalogue::State;
use inbox::{Content, Forgotten, Inbox, Told};
use outbox::Outbox;
use send::Sender;

/// Adversaries can choose ids, so the hash is seeded. Maps are never iterated, so the seed does not
/// affect behaviour.
type IdMap<V> = HashMap<ArtifactId, V, FixedState>;

/// An event of a channel, for the application.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Event {
    /// An artifact, once while any member advertises it.
    Delivered {
        /// The artifact. Its bytes match its id.
        artifact: Artifact,
        /// Who sent the bytes.
        from: NodeId,
    },
    /// A member does not advertise a delivered artifact any more, and others do. In a channel that relays,
    /// that may be no abort: a relay does not go on telling a member of what it has itself.
    Withdrawn {
        /// The artifact.
        id: ArtifactId,
        /// The member.
        by: NodeId,
    },
    /// No member advertises a delivered artifact any more. Who has withdrawn it since the last event is
    /// not told one by one.
    Expired {
        /// The artifact.
        id: ArtifactId,
    },
    /// An artifact that this node has published has come as far as was asked for
    /// ([`Broadcast::publish_covered`]), and was not aborted since. Once.
    Covered {
        /// The artifact.
        id: ArtifactId,
        /// The members that have acknowledged it by now: see [`Coverage::acknowledged`]. Fewer than when it
        /// was reached, if some have connected anew meanwhile.
        by: u16,
    },
}

/// Names a fetch request between two nodes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RequestId(pub u64);

/// What the machine wants done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Output {
    /// Reset a stream to a peer: nothing in it is current any more.
    Reset {
        /// The peer.
        peer: PeerIndex,
        /// The stream.
        stream: OutStream,
    },
    /// Stop the stream that answers this request, if there is one: it is not needed any more.
    Stop {
        /// The peer.
        peer: PeerIndex,
        /// The request.
        request: RequestId,
    },
    /// Nothing more to do until the next input, or until `wake_at`.
    Idle {
        /// When to call [`Broadcast::poll`] again, [`Time::NEVER`] if only for inputs.
        wake_at: Time,
        /// What is due then.
        why: Wake,
    },
}

/// What a machine waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Wake {
    /// The next input.
    Input,
    /// A holder that has to have sent a chunk, or may be asked again.
    Fetch,
    /// A peer that has still to be told what is not active any more.
    Update,
    /// A peer that is [behind](Lag) unless it is told more until then.
    Lag,
    /// A call or request whose deadline passes, or whose body is too slow.
    Call,
    /// The deadline of a flush.
    Flush,
    /// A timer of a connection, or the next dial.
    Connection,
}

/// What became of an update.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Taken {
    /// The update is dealt with.
    Done,
    /// Chunks follow in the update's stream: hand them in under this request.
    Chunks(RequestId),
    /// Chunks follow in the update's stream, but are not wanted (now): stop it.
    Unwanted,
}

/// What became of a chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChunkTaken {
    /// More are to come.
    More,
    /// The request is answered, or has been given up: stop the stream if it goes on.
    Done,
}

/// The members that this node has tables for.
#[derive(Debug)]
struct PeerTable {
    /// The member that this node is.
    own: NodeId,
    nodes: Vec<Option<NodeId>>,
    /// The keys under which they were last connected.
    keys: Vec<NodeId>,
    up: Vec<bool>,
    /// Members.
    count: u16,
    received: Vec<traffic::Received>,
}

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
            peers: PeerTable {
                own,
                nodes: Vec::new(),
                keys: Vec::new(),
                up: Vec::new(),
                count: 0,
                received: Vec::new(),
            },
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

    // Members and connections.

    /// Makes tables for a member. `peer` must be free.
    ///
    /// # Panics
    /// If it is not: indices are the caller's to keep.
    pub fn add_peer(&mut self, peer: PeerIndex, node: NodeId) {
        if self.peers.nodes.len() <= peer.at() {
            self.peers.nodes.resize(peer.at() + 1, None);
            self.peers.keys.resize(peer.at() + 1, node);
            self.peers.up.resize(peer.at() + 1, false);
            self.peers.received.resize(peer.at() + 1, traffic::Received::default());
        }
        self.peers.received[peer.at()] = traffic::Received::default();
        assert!(self.peers.nodes[peer.at()].replace(node).is_none(), "a peer is added once");
        self.peers.keys[peer.at()] = node;
        self.set_members(self.peers.count + 1);
        self.inbox.tables.add_peer(peer);
        self.inbox.transfers.add_peer(peer, node < self.own);
        self.sender.add_peer(peer);
    }

    fn set_members(&mut self, count: u16) {
        self.peers.count = count;
        for at in 0..self.outboxes.len() {
            self.outboxes[at].set_members(count);
            self.note_covered(at as u16);
        }
    }

    /// The key of a member, if it is another one than its id. It is the publisher of what the member
    /// publishes over its next connection, where that [matters](ChannelConfig::sender_matters).
    pub fn set_peer_key(&mut self, peer: PeerIndex, key: NodeId) {
        self.peers.keys[peer.at()] = key;
    }

    /// Drops a former member's tables. What only it advertised expires.
    pub fn remove_peer(&mut self, now: Time, peer: PeerIndex) {
        if self.peers.up[peer.at()] {
            self.peer_down(now, peer);
        }
        self.clamp(now);
        self.inbox.remove_peer(peer);
        self.after_unlinks(peer, false);
        self.sender.remove_peer(peer);
        self.outboxes.iter_mut().for_each(|outbox| {
            outbox.forget_progress(peer);
            outbox.forget_answered(peer);
        });
        self.set_members(self.peers.count - 1);
        let node = self.peers.nodes[peer.at()].take().expect("a member");
        self.inbox.transfers.remove_peer(peer, node < self.own);
    }

    /// A connection to a member is ready, and with it a new epoch begins. `channels` says which
    /// channels the peer has with bounds that suit ours; the others are inert towards it.
    pub fn peer_up(
        &mut self,
        now: Time,
        peer: PeerIndex,
        channels: impl Fn(&ChannelConfig) -> bool,
    ) {
        if core::mem::replace(&mut self.peers.up[peer.at()], true) {
            self.peer_down(now, peer);
            self.peers.up[peer.at()] = true;
        }
        let now = self.clamp(now);
        self.sender.peer_up(peer);
        for (at, (outbox, config)) in self.outboxes.iter_mut().zip(&self.channels).enumerate() {
            if channels(config) {
                outbox.peer_up(now, peer);
                self.sender.mark_updates(peer, at as u16);
            }
        }
        (0..self.channels.len()).for_each(|at| self.note_lags(at));
        self.inbox.peer_up(peer);
        self.after_unlinks(peer, true);
    }

    /// A peer that has just come [up](Broadcast::peer_up) takes so much in these channels ([`ChannelConfig::quota`] of its
    /// own): what it is sent keeps to that, as far as it was not asked for. Channels that are not there here are passed
    /// over; in all others it takes whatever there is. What it was sent over earlier connections counts, unless it
    /// `has_restarted` since, or tells another quota.
    pub fn set_quotas(
        &mut self,
        peer: PeerIndex,
        quotas: impl IntoIterator<Item = (ChannelId, Quota)>,
        has_restarted: bool,
    ) {
        let by_index = |(channel, quota)| Some((self.channel_index(channel)?, quota));
        let quotas: BTreeMap<u16, Quota> = quotas.into_iter().filter_map(by_index).collect();
        self.sender.pacing.set(peer, quotas.into_iter(), !has_restarted);
    }

    /// Channels in which updates wait, since a peer takes no more of them for now.
    #[cfg(feature = "quic")]
    pub(crate) fn paced_channels(&self, peer: PeerIndex) -> u64 {
        self.sender.pacing.waiting(peer)
    }

    /// The connection is lost. What the peer advertised stays in its tables until a new epoch
    /// replaces it.
    pub fn peer_down(&mut self, now: Time, peer: PeerIndex) {
        self.clamp(now);
        if !core::mem::replace(&mut self.peers.up[peer.at()], false) {
            return;
        }
        for outbox in &mut self.outboxes {
            outbox.peer_down(peer);
        }
        self.sender.peer_down(peer, &mut self.outboxes);
        self.inbox.peer_down(peer);
        self.outputs.retain(|output| match output {
            Output::Reset { peer: of, .. } | Output::Stop { peer: of, .. } => *of != peer,
            Output::Idle { .. } => true,
        });
    }

    /// What peers were sent of the slot is obsolete. Streams without any other current update are
    /// reset.
    fn slot_changed(&mut self, channel_index: u16, slot: Slot) {
        self.note_change(channel_index, slot, false);
    }

    /// The same. Those that were sent the slot's content need not be told of the change at once, if it
    /// `may_wait`.
    fn note_change(&mut self, channel_index: u16, slot: Slot, may_wait: bool) {
        let outbox = &mut self.outboxes[channel_index as usize];
        for at in 0..outbox.peers_end() {
            let peer = PeerIndex(at);
            if !outbox.has_view(peer) {
                continue;
            }
            let outdated = outbox.outdate(peer, slot);
            match may_wait && outdated.is_some() {
                true => self.sender.held.hold(peer, channel_index),
                false => self.sender.mark_updates(peer, channel_index),
            }
            if let Some(outdated) = outdated
                && let Some(stream) = self.sender.update_obsolete(peer, slot, outdated)
            {
                self.outputs.push_back(Output::Reset { peer, stream });
            }
        }
        self.undate(channel_index, slot);
        self.forgo_holders(channel_index, slot);
    }

    /// A slot has changed. Commands do not tell the time: it is told before anything else happens.
    fn undate(&mut self, channel_index: u16, slot: Slot) {
        let outbox = &mut self.outboxes[channel_index as usize];
        if outbox.changed_at(slot) != Time::NEVER {
            outbox.set_changed_at(slot, Time::NEVER);
            self.undated.push((channel_index, slot));
        }
        self.changed |= 1 << channel_index;
    }

    /// All that is published now, by channel.
    #[cfg_attr(not(feature = "quic"), allow(dead_code, reason = "for nodes"))]
    pub(crate) fn marks(&self) -> Box<[Version]> {
        self.outboxes.iter().map(Outbox::version).collect()
    }

    /// Whether everything up to these marks that is still published has come to all who are up.
    #[cfg_attr(not(feature = "quic"), allow(dead_code, reason = "for nodes"))]
    pub(crate) fn is_flushed(&mut self, marks: &[Version]) -> bool {
        self.outboxes.iter_mut().zip(marks).all(|(outbox, mark)| outbox.is_flushed(*mark))
    }

    // Inputs.

    /// An update of a peer's table. `Ok` for a channel that this node does not have.
    ///
    /// # Errors
    /// If the peer broke a rule; the update is not applied then.
    pub fn handle_update(
        &mut self,
        now: Time,
        peer: PeerIndex,
        channel: ChannelId,
        update: &Update<'_>,
    ) -> Result<Taken, Fault> {
        let now = self.clamp(now);
        let Some(channel_index) = self.channel_index(channel) else { return Ok(Taken::Done) };
        let config = &self.channels[channel_index as usize];
        let (artifact_max, push_max) = (config.artifact_bytes_max, config.push_bytes_max);
        let (hops_max, slots_max) = (config.relay_hops_max, config.slots_max);
        let publisher = config.sender_matters.then(|| self.peers.keys[peer.at()]);
        // Only the publisher itself is believed.
        let hops_max = if publisher.is_some() { 0 } else { hops_max };
        let is_news = |slot: &Slot, version: u64| {
            let is_within = slot.0 < slots_max;
            let is_news = || self.inbox.tables.is_news(peer, channel_index, *slot, version);
            if is_within { Ok(is_news()) } else { Err(Fault::SlotBeyondBound) }
        };
        let taken = match update {
            Update::Snapshot { live, .. } => {
                self.inbox.take_snapshot(peer, channel_index, *live)?;
                Taken::Done
            }
            Update::Clear { slot, version } | Update::Unknown { slot, version, .. } => {
                let is_clear = matches!(update, Update::Clear { .. });
                let is_newer = is_news(slot, version.0)?;
                let is_news = is_newer && self.inbox.clear((peer, channel_index, *slot), version.0);
                // What a peer of a newer version of this protocol says of a slot may be news for others.
                if is_clear || is_news || !is_newer {
                    self.peers.received[peer.at()].note_piece(is_news);
                }
                Taken::Done
            }
            Update::Push { slot, version, hops, key, metadata, bytes } => {
                if bytes.len() > push_max as usize || bytes.len() as u64 > artifact_max {
                    return Err(Fault::PushTooLong);
                }
                if *hops > hops_max {
                    return Err(Fault::HopsBeyondBound);
                }
                if !is_news(slot, version.0)? {
                    let received = &mut self.peers.received[peer.at()];
                    received.aborted += bytes.len() as u64;
                    received.note_piece(false);
                } else {
                    let root = artifact::root_of_chunk(bytes);
                    let length = bytes.len() as u64;
                    let id = artifact::id(length, *key, publisher.as_ref(), metadata, &root);
                    let told = Told::Push { key: *key, publisher, metadata, root, bytes };
                    let content = Content {
                        id,
                        told,
                        hops: *hops,
                        streamed: false,
                        spread: false,
                        have: None,
                    };
                    self.fill(now, (peer, channel_index, *slot), version.0, &content)?;
                }
                Taken::Done
            }
            Update::Advert { slot, version, hops, streamed, spread, advert }
            | Update::Partial { slot, version, hops, streamed, spread, advert, .. } => {
                if advert.length > artifact_max {
                    return Err(Fault::ArtifactTooLong);
                }
                if *hops > hops_max {
                    return Err(Fault::HopsBeyondBound);
                }
                let unwanted = if *streamed { Taken::Unwanted } else { Taken::Done };
                if is_news(slot, version.0)? {
                    let have = match update {
                        Update::Partial { have, .. } => Some(ChunksTold::new(*have)),
                        _ => None,
                    };
                    let own = publisher.map(|_| Advert { publisher, ..advert.clone() });
                    let advert = own.as_ref().unwrap_or(advert);
                    let (id, hops, streamed, spread) = (advert.id(), *hops, *streamed, *spread);
                    let told = Told::Advert(advert);
                    let content = Content { id, told, hops, streamed, spread, have };
                    let at = (peer, channel_index, *slot);
                    let request = self.fill(now, at, version.0, &content)?;
                    request.map_or(unwanted, Taken::Chunks)
                } else {
                    self.peers.received[peer.at()].note_piece(false);
                    unwanted
                }
            }
        };
        self.inbox.drop_stale_if_confirmed(peer, channel_index);
        self.after_unlinks(peer, true);
        Ok(taken)
    }

    fn fill(
        &mut self,
        now: Time,
        at: (PeerIndex, u16, Slot),
        version: u64,
        content: &Content<'_>,
    ) -> Result<Option<RequestId>, Fault> {
        let channel_index = at.1 as usize;
        let own_slot = self.outboxes[channel_index].slot_of(&content.id);
        let outcome = self.inbox.set_content(now, &self.peers, at, version, content, own_slot)?;
        let received = &mut self.peers.received[at.0.at()];
        received.note_piece(outcome.is_news);
        if let Told::Push { bytes, .. } = content.told {
            let count = match self.inbox.catalogue.items[outcome.known].state {
                _ if outcome.is_complete => &mut received.useful,
                State::Ready | State::Done => &mut received.duplicate,
                State::Wanted(_) | State::Later | State::Dropped => &mut received.aborted,
            };
            *count += bytes.len() as u64;
        }
        if let Some(slot) = own_slot {
            let active = self.outboxes[channel_index].active_mut(slot).expect("by id");
            active.known = Some(outcome.known);
            self.check_relay(outcome.known);
            self.repeat_relay(outcome.known, at.0);
        }
        if outcome.is_complete {
            self.relay_automatically(outcome.known);
        }
        Ok(outcome.request)
    }

    fn after_unlinks(&mut self, peer: PeerIndex, is_member: bool) {
        let mut unlinked = self.inbox.take_unlinked();
        for known in unlinked.drain(..) {
            let channel_index = self.inbox.catalogue.items[known].channel;
            self.check_relay(known);
            self.repeat_relay(known, peer);
            if let Some(forgotten) = self.inbox.after_unlink(known, peer, is_member) {
                self.detach_own_slot(channel_index, &forgotten);
            }
        }
        self.inbox.give_back(unlinked);
    }

    /// An artifact has left the catalogue; this node may still have it in a slot.
    fn detach_own_slot(&mut self, channel_index: u16, forgotten: &Forgotten) {
        if let Some(slot) = forgotten.own_slot {
            let active = self.outboxes[channel_index as usize].active_mut(slot).expect("own slot");
            assert_eq!(active.hops, 0, "a relay ends before its last holder");
            active.known = None;
        }
    }

    /// A peer's request for chunks, cancellation, refusal of a request of ours, or receipt.
    ///
    /// # Errors
    /// None at present: requests that make no sense (any more) are refused or ignored, since
    /// messages may overtake each other.
    pub fn handle_request(
        &mut self,
        now: Time,
        peer: PeerIndex,
        request: &Request,
    ) -> Result<(), Fault> {
        let now = self.clamp(now);
        match request {
            Request::Fetch { request, channel, id, ranges } => {
                self.serve(peer, *request, (*channel, id), ranges);
            }
            Request::Cancel { request } => {
                self.sender.cancel(peer, *request, &mut self.outboxes, &mut self.outputs);
            }
            Request::Refuse { request, .. } => {
                self.inbox.transfers.handle_end(now, peer, RequestId(*request));
            }
            Request::Unknown { request, .. } => {
                self.sender.refuse(peer, *request, Refusal::UnknownRequest);
            }
            Request::Receipt { channel, slot, version, is_declined } => {
                if let Some(channel_index) = self.channel_index(*channel) {
                    let outbox = &mut self.outboxes[channel_index as usize];
                    outbox.note_receipt(peer, *slot, *version, *is_declined);
                    self.note_covered(channel_index);
                }
            }
        }
        Ok(())
    }

    /// Answers a request for chunks, if they are here.
    fn serve(
        &mut self,
        peer: PeerIndex,
        request: u64,
        (channel, id): (ChannelId, &ArtifactId),
        ranges: &Ranges,
    ) {
        let slot = self.channel_index(channel).and_then(|channel_index| {
            let outbox = &self.outboxes[channel_index as usize];
            let slot = outbox.slot_of(id)?;
            let body = &outbox.active(slot).filter(|active| !active.is_dormant())?.body;
            let chunks = body.chunks();
            let is_here = |range: &ChunkRange| match body.transfer() {
                Some(transfer) => self.inbox.transfers.has_all(transfer, *range),
                None => true,
            };
            let is_held = |range: &ChunkRange| range.is_within(chunks) && is_here(range);
            ranges.iter().all(is_held).then_some((channel_index, slot))
        });
        let Some((channel_index, slot)) = slot else {
            return self.sender.refuse(peer, request, Refusal::NotHeld);
        };
        let outbox = &mut self.outboxes[channel_index as usize];
        outbox.note_asked(peer, slot);
        let active = outbox.active_mut(slot).expect("by id");
        self.sender.serve(peer, request, (channel_index, slot), active, ranges.clone());
    }

    /// Whether the answer to a request is still needed; if not, its stream is to be stopped.
    pub fn is_awaited(&mut self, peer: PeerIndex, request: RequestId) -> bool {
        self.inbox.transfers.is_under_way(peer, request)
    }

    /// Bytes in the longest chunk of the answer to a request, if it is still needed.
    pub fn chunk_bytes_max(&self, peer: PeerIndex, request: RequestId) -> Option<usize> {
        self.inbox.transfers.chunk_bytes_max(peer, request)
    }

    /// The channel of a request, if its answer is still needed.
    #[cfg(feature = "quic")]
    pub(crate) fn channel_of(&self, peer: PeerIndex, request: RequestId) -> Option<ChannelId> {
        let channel_index = self.inbox.transfers.channel_of(peer, request)?;
        Some(self.channels[channel_index as usize].id)
    }

    /// A chunk, in the answer to a request or behind a streamed advert.
    ///
    /// # Errors
    /// If the chunk is not the artifact's. The artifact is fetched from another holder then.
    pub fn handle_chunk(
        &mut self,
        now: Time,
        peer: PeerIndex,
        request: RequestId,
        chunk: &Chunk<'_>,
    ) -> Result<ChunkTaken, Fault> {
        let now = self.clamp(now);
        let received = self.inbox.handle_chunk(now, &self.peers, peer, request, chunk)?;
        let counts = &mut self.peers.received[peer.at()];
        let count = match &received {
            None => &mut counts.aborted,
            Some(received) if received.is_new => &mut counts.useful,
            Some(_) => &mut counts.duplicate,
        };
        *count += chunk.bytes.len() as u64;
        counts.note_piece(received.as_ref().is_some_and(|received| received.is_new));
        let Some(received) = received else { return Ok(ChunkTaken::Done) };
        if received.is_new {
            self.pass_on(chunk.index, &received);
        }
        Ok(if received.is_answered { ChunkTaken::Done } else { ChunkTaken::More })
    }

    /// So many bytes of a peer's streams were read, of which so many belong to a chunk that does not come
    /// to its end.
    #[cfg(feature = "quic")]
    pub(crate) fn note_read(&mut self, peer: PeerIndex, bytes: u64, aborted: u64) {
        let received = &mut self.peers.received[peer.at()];
        received.all += bytes;
        received.aborted += aborted;
    }

    /// Updates and chunks of a peer that have brought nothing new since the last call, less those that have.
    #[cfg(feature = "quic")]
    pub(crate) fn take_fruitless(&mut self, peer: PeerIndex) -> i64 {
        core::mem::take(&mut self.peers.received[peer.at()].fruitless)
    }

    /// The round trip on the connection to a peer, which says when chunks are late.
    pub fn handle_round_trip(&mut self, now: Time, peer: PeerIndex, round_trip: Duration) {
        let now = self.clamp(now);
        self.inbox.transfers.note_round_trip(now, peer, round_trip);
    }

    /// This many bytes of the next chunk have arrived, in the answer to a request or behind a
    /// streamed advert. This distinguishes a slow holder from a silent one.
    pub fn handle_partial_chunk(
        &mut self,
        now: Time,
        peer: PeerIndex,
        request: RequestId,
        bytes: usize,
    ) {
        let now = self.clamp(now);
        self.inbox.transfers.handle_partial(now, peer, request, bytes);
    }

    /// The stream with the answer to a request has ended or was reset. Without effect if the answer
    /// was complete.
    pub fn handle_answer_end(&mut self, now: Time, peer: PeerIndex, request: RequestId) {
        let now = self.clamp(now);
        self.inbox.transfers.handle_end(now, peer, request);
    }

    /// A stream was acknowledged as a whole.
    pub fn handle_acked(&mut self, peer: PeerIndex, stream: OutStream) {
        if let Some(channel_index) = self.sender.acked(self.now, peer, stream, &mut self.outboxes) {
            self.note_covered(channel_index);
        }
    }

    /// The peer does not want the rest of a stream; the caller resets it.
    pub fn handle_stopped(&mut self, peer: PeerIndex, stream: OutStream) {
        self.sender.ended(peer, stream, &mut self.outboxes);
    }

    // Outputs.

    /// What is to be done next. Call after every input and command, and at `wake_at`, until it is
    /// [`Output::Idle`].
    pub fn poll(&mut self, now: Time) -> Output {
        let now = self.clamp(now);
        self.sender.release_due_clears(now, &self.outboxes);
        self.sender.resume_paced(now);
        self.look_for_lags(now);
        self.inbox.transfers.advance(now);
        self.trace_requests();
        self.end_lost();
        self.end_rounds();
        self.tell_spread();
        self.mark_requests();
        for (peer, request) in self.inbox.transfers.stops.drain(..) {
            self.outputs.push_back(Output::Stop { peer, request });
        }
        self.outputs.pop_front().unwrap_or_else(|| {
            let fetch_at = self.inbox.transfers.wake_at();
            let update_at = self.sender.held.earliest().min(self.sender.pacing.earliest());
            let lag_at = self.lag_at();
            let wake_at = fetch_at.min(update_at).min(lag_at);
            let why = match wake_at {
                Time::NEVER => Wake::Input,
                _ if fetch_at == wake_at => Wake::Fetch,
                _ if update_at == wake_at => Wake::Update,
                _ => Wake::Lag,
            };
            Output::Idle { wake_at, why }
        })
    }

    /// The levels of this machine's flows, in the order of their numbers: what a
    /// [`Schedule`](crate::sched::Schedule) of a peer is made of.
    pub fn flows(&self) -> impl Iterator<Item = Level> {
        self.sender.flows()
    }

    /// The next flow of a peer that has something more to send. It has to be polled with
    /// [`Broadcast::poll_flow`] until it is not [ready](Broadcast::is_ready) any more.
    pub fn poll_ready(&mut self) -> Option<(PeerIndex, usize)> {
        self.mark_requests();
        self.sender.poll_ready()
    }

    /// The next turn begins: flows for which more was to be looked at than is in one turn are [reported
    /// again](Broadcast::poll_ready). Whether there are any. To be called when there is nothing else to do, or others
    /// have had their turns, so that they do not keep other peers waiting.
    pub fn resume_deferred(&mut self) -> bool {
        self.sender.ready.resume_deferred()
    }

    /// Traces what has become of requests, now that names are at hand.
    fn trace_requests(&mut self) {
        let (items, channels, peers) = (&self.inbox.catalogue.items, &self.channels, &self.peers);
        self.inbox.transfers.notes.drain(|(known, peer, note)| {
            // Each is told in the step in which it was noted: nothing has left since.
            let (item, peer) = (&items[known], peers.node(peer));
            let channel = channels[item.channel as usize].id;
            match note {
                Note::Asked { chunks } => trace::asked(channel, &item.id, peer, chunks),
                Note::Overdue => trace::overdue(channel, &item.id, peer),
            }
        });
    }

    fn mark_requests(&mut self) {
        while let Some(peer) = self.inbox.transfers.asking.pop() {
            if self.peers.up[peer.at()] {
                self.sender.mark_requests(peer);
            }
        }
    }

    /// Whether a flow that was reported may have more to send now. While that is
    /// [deferred](Broadcast::resume_deferred), or waits for the peer's [quota](Broadcast::set_quotas), the flow is not ready
    /// and not reported; it is reported when it goes on.
    pub fn is_ready(&self, peer: PeerIndex, flow: usize) -> bool {
        self.sender.is_ready(peer, flow)
    }

    /// The transport has not taken all of what was encoded last for a stream that goes on. No more
    /// is encoded for it until [`Broadcast::handle_writable`].
    pub fn handle_blocked(&mut self, peer: PeerIndex, stream: OutStream) {
        trace::if_traced(|| trace::blocked(self.peers.node(peer)));
        self.sender.set_blocked(peer, stream, true);
    }

    /// The transport takes more of a stream that was [blocked](Broadcast::handle_blocked).
    pub fn handle_writable(&mut self, peer: PeerIndex, stream: OutStream) {
        trace::if_traced(|| trace::unblocked(self.peers.node(peer)));
        self.sender.set_blocked(peer, stream, false);
    }

    /// Whether [`Broadcast::poll_flow`] may have something for a peer. `can_open`, if the transport
    /// can open another stream to it.
    pub fn has_flow_backlog(&self, peer: PeerIndex, flow: usize, can_open: bool) -> bool {
        let content = (&self.outboxes[..], &self.inbox);
        self.peers.up[peer.at()] && self.sender.has_backlog(peer, flow, can_open, content)
    }

    /// Encodes what a flow has for a peer into `out`, up to about `room` bytes (the last frame may
    /// exceed it by up to a chunk and its proof). `None`, and nothing in `out`, if there is nothing
    /// to send or no room; if so much need not be sent that the next turn goes on
    /// ([`Broadcast::resume_deferred`]); or if the peer's [quota](Broadcast::set_quotas) is used up for
    /// now. Unless the transport `can_open` another stream, only streams that are open already are
    /// continued: all that there are may be waiting for this.
    ///
    /// The content of updates is read from the slots here and not earlier, so content that was
    /// overwritten or aborted by now is not sent. What is encoded can make others obsolete:
    /// [poll](Broadcast::poll) for streams to reset before the next input.
    pub fn poll_flow(
        &mut self,
        peer: PeerIndex,
        flow: usize,
        room: usize,
        can_open: bool,
        out: &mut SendBuffer,
    ) -> Option<Send> {
        out.clear();
        if room == 0 || !self.peers.up[peer.at()] {
            return None;
        }
        let content = (&mut self.outboxes[..], &mut self.inbox);
        let (at, room, outputs) = ((peer, flow), (room, can_open), &mut self.outputs);
        let send = self.sender.poll_flow(self.now, at, room, out, content, outputs);
        self.sender.note_encoded(peer, out.len());
        if flow / 2 < self.channels.len() {
            self.note_lags(flow / 2);
        }
        self.trace_requests();
        send
    }

    /// Whether [`Broadcast::poll_send`] may have something for a peer.
    pub fn has_backlog(&self, peer: PeerIndex) -> bool {
        let mut flows = 0..self.sender.flows_count();
        flows.any(|flow| self.has_flow_backlog(peer, flow, true))
    }

    /// Encodes what is most urgent for a peer into `out`: requests, then the flows by class. For a
    /// machine without a [`Schedule`](crate::sched::Schedule), which is fairer; otherwise like
    /// [`Broadcast::poll_flow`].
    pub fn poll_send(
        &mut self,
        now: Time,
        peer: PeerIndex,
        room: usize,
        out: &mut SendBuffer,
    ) -> Option<Send> {
        self.clamp(now);
        Level::ALL.into_iter().find_map(|level| {
            (0..self.sender.flows_count()).find_map(|flow| {
                let is_due = self.sender.level(flow) == level;
                is_due.then(|| self.poll_flow(peer, flow, room, true, out)).flatten()
            })
        })
    }

    /// Whether [`Broadcast::poll_event`] may have an event of a channel.
    pub fn has_events(&self, channel: ChannelId) -> bool {
        self.channel_index(channel).is_some_and(|channel_index| {
            self.outboxes[channel_index as usize].has_covered()
                || self.inbox.has_events(channel_index)
        })
    }

    /// Whether [`Broadcast::poll_any_event`] may have an event.
    pub fn has_any_event(&self) -> bool {
        self.with_events() != 0
    }

    /// The channels with events: bit set.
    fn with_events(&self) -> u64 {
        self.inbox.with_events() | self.covered
    }

    fn take_covered(&mut self, channel_index: u16) -> Option<Event> {
        let outbox = &mut self.outboxes[channel_index as usize];
        let covered = outbox.take_covered();
        if !outbox.has_covered() {
            self.covered &= !(1 << channel_index);
        }
        covered.map(|(id, by)| Event::Covered { id, by })
    }

    /// Something has come to a member, or fewer members are enough.
    fn note_covered(&mut self, channel_index: u16) {
        let has_covered = self.outboxes[channel_index as usize].has_covered();
        self.covered |= u64::from(has_covered) << channel_index;
    }

    /// The channels for which [`Broadcast::has_events`] holds, as indices in the configuration.
    pub fn channels_with_events(&self) -> impl Iterator<Item = usize> + use<> {
        ones(self.with_events())
    }

    /// Takes the next event of any channel: of the artifact that has waited longest with something
    /// to be reported. Otherwise as [`Broadcast::poll_event`].
    pub fn poll_any_event(&mut self) -> Option<(ChannelId, Event)> {
        while let Some(channel_index) = ones(self.covered).next() {
            if let Some(event) = self.take_covered(channel_index as u16) {
                return Some((self.channels[channel_index].id, event));
            }
        }
        let (channel_index, event, forgotten) = self.inbox.poll_any_event(&self.peers)?;
        if let Some(forgotten) = forgotten {
            self.detach_own_slot(channel_index, &forgotten);
        }
        Some((self.channels[channel_index as usize].id, event))
    }

    /// Takes the next event of a channel. Events of one artifact come in order. An event that has
    /// ceased to be true before it was taken is left out.
    pub fn poll_event(&mut self, channel: ChannelId) -> Option<Event> {
        let channel_index = self.channel_index(channel)?;
        self.poll_event_at(channel_index).map(|(_, event)| event)
    }

    /// The same by the channel's index, with the input that made it known: the first one for what comes
    /// before all others.
    pub(crate) fn poll_event_at(&mut self, channel_index: u16) -> Option<(Arrival, Event)> {
        if let Some(event) = self.take_covered(channel_index) {
            return Some((Arrival::default(), event));
        }
        let (arrival, event, forgotten) = self.inbox.poll_event(&self.peers, channel_index)?;
        if let Some(forgotten) = forgotten {
            self.detach_own_slot(channel_index, &forgotten);
        }
        Some((arrival, event))
    }

    /// The input that made known what [`Broadcast::poll_any_event`] gives next.
    #[cfg_attr(not(feature = "quic"), allow(dead_code, reason = "for nodes"))]
    pub(crate) fn next_arrival(&mut self) -> Option<Arrival> {
        if self.covered != 0 { Some(Arrival::default()) } else { self.inbox.next_arrival() }
    }
}
