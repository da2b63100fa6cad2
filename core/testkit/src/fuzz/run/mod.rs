//! One [`Broadcast`] machine with two peers played by hand, and its model: each step is done to
//! both, then they are compared (`compare`). The steps are `commands`, what a peer says (`said`) and asks for (`wants`),
//! what it sends of what it was asked for (`asked`), and the taking of what the machine gives (`given`).

mod asked;
mod commands;
mod compare;
mod given;
mod said;
mod wants;

pub(super) use given::Fate;
pub(super) use said::Told;

use core::sync::atomic::{AtomicU8, Ordering};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::chunks::ChunkModel;
use super::model::{Channel, PEERS};
use super::pool::{self, Art};
use asked::Asked;
use given::{OutgoingStream, Said};
use slotcast::broadcast::{Broadcast, Candidate, Decision, Priority, SendBuffer};
use slotcast::config::{ChannelConfig, Config, Order, Relay};
use slotcast::id::{ChannelId, NodeId, PeerIndex};
use slotcast::membership::Overlay;
use slotcast::time::Time;
use slotcast::wire::{Item, StreamDecoder, StreamHead};
use wants::Want;

pub(super) const CHANNELS: usize = 2;

/// Artifacts of which a peer may send chunks unasked at the same time.
const STREAMED: usize = 2;

/// Channel 0 has room for whatever comes, relays, and its events wait for their turn; channel 1 has
/// room for one long artifact, streams what is long, and its events are taken at once after a push
/// (so that the model need not know what had room).
const TIGHT: usize = 1;

const fn channel_id(at: usize) -> ChannelId {
    ChannelId(7 * at as u16)
}

fn config(relay: Relay, orders: [Order; CHANNELS]) -> Config {
    let mut plain = ChannelConfig::new(channel_id(0));
    plain.slots_max = 5;
    plain.push_bytes_max = 8;
    plain.artifact_bytes_max = 80_000;
    plain.active_bytes_max = 80_020;
    plain.inbox_bytes_max = 1 << 20;
    plain.relay_hops_max = 2;
    plain.spread_bytes_min = 65_000;
    if relay != Relay::Off {
        plain = plain.relaying(relay, 2);
    }
    let mut tight = plain.clone();
    tight.id = channel_id(TIGHT);
    (tight.relay, tight.relay_slots_max) = (Relay::Off, 0);
    tight.slots_max = 3;
    tight.inbox_bytes_max = 80_000;
    tight.latency_sensitive = true;
    [plain.order, tight.order] = orders;
    let mut config = Config::new([plain, tight]);
    config.batch_bytes_max = 1024;
    config.fetches_per_peer_max = 2;
    config.serves_per_peer_max = 2;
    config.streamed_per_peer_max = STREAMED as u16;
    if relay == Relay::Confirmed {
        // Relays push.
        config.transport.overlay = Overlay::Regular { degree: 4 };
    }
    config
}

/// Reads the frame that `put` writes into a stream, as the receiver does.
fn through_wire<T>(
    head: &StreamHead,
    put: impl FnOnce(&mut Vec<u8>),
    read: impl FnOnce(u64, &[u8]) -> T,
) -> T {
    let mut bytes = Vec::new();
    head.encode(&mut bytes);
    put(&mut bytes);
    let (mut decoder, mut input) = (StreamDecoder::new(1 << 20), &bytes[..]);
    let _ = decoder.next(&mut input).expect("well-formed");
    match decoder.next(&mut input).expect("well-formed") {
        Some(Item::Frame { kind, body }) => read(kind, body),
        _ => unreachable!("a frame follows the head"),
    }
}

/// What the filter says of an artifact in each view of the application.
fn decide(view: u8, channel: usize, art: Art) -> Decision {
    match (view as usize + art + channel) % 5 {
        0 => Decision::Later,
        1 => Decision::Drop,
        2 => Decision::Fetch(Priority::High),
        _ => Decision::Fetch(Priority::Normal),
    }
}

/// A peer, as far as it must be played.
#[derive(Default)]
struct Peer {
    node: Option<NodeId>,
    up: bool,
    channels: [bool; CHANNELS],
    asked: BTreeMap<u64, Asked>,
    streams: Vec<OutgoingStream>,
    /// The last version encoded for it, by channel and slot.
    encoded: BTreeMap<(usize, u32), u64>,
    /// What it has heard of this node, by channel and slot.
    heard: BTreeMap<(usize, u32), (u64, Option<Said>)>,
    /// The slots that each channel's snapshot named.
    snapshots: BTreeMap<usize, BTreeSet<u32>>,
    /// Its own requests.
    wants: BTreeMap<u64, Want>,
    /// The chunks that it told of in this epoch, by channel and artifact.
    had: BTreeMap<(usize, Art), BTreeSet<u32>>,
}

impl Peer {
    fn is_up(&self, channel: usize) -> bool {
        self.up && self.channels[channel]
    }
}

pub(super) struct Run {
    machine: Broadcast,
    model: [Channel; CHANNELS],
    peers: [Peer; PEERS],
    chunks: ChunkModel,
    now: Time,
    view: Arc<AtomicU8>,
    /// Steps are done without comparing: only [`Run::drain`] and [`Run::compare`] look.
    is_quick: bool,
    /// Gives nodes and requests their numbers.
    count: u64,
    out: SendBuffer,
}

const fn index(peer: usize) -> PeerIndex {
    // Not next to each other, so that a mix-up shows.
    PeerIndex(3 * peer as u16)
}

impl Run {
    /// A machine with two members, both of them up.
    pub(super) fn new(relay: Relay, orders: [Order; CHANNELS]) -> Self {
        let mut run = Self::quick(relay, orders);
        run.is_quick = false;
        run.compare();
        run
    }

    /// One that is compared only when told.
    pub(super) fn quick(relay: Relay, orders: [Order; CHANNELS]) -> Self {
        let config = config(relay, orders);
        let view = Arc::new(AtomicU8::new(2));
        let mut run = Self {
            machine: Broadcast::new(&config, NodeId([0xff; 32]), 7).expect("holds together"),
            model: [0, 1].map(|at| Channel::new(config.channels[at].clone())),
            peers: Default::default(),
            now: Time::ZERO,
            chunks: ChunkModel::default(),
            view: Arc::clone(&view),
            is_quick: true,
            count: 0,
            out: SendBuffer::new(),
        };
        for at in 0..CHANNELS {
            let view = Arc::clone(&view);
            let filter = move |candidate: &Candidate<'_>| {
                assert_eq!(candidate.advert.id(), *candidate.id);
                decide(view.load(Ordering::Relaxed), at, pool::art(candidate.id))
            };
            assert!(run.machine.set_filter(channel_id(at), Box::new(filter)));
        }
        for peer in 0..PEERS {
            run.add_or_remove(peer);
            run.peer_up(peer, [true; CHANNELS]);
        }
        run
    }

    fn decide(&self, channel: usize) -> impl Fn(Art) -> Decision + use<> {
        let view = self.view.load(Ordering::Relaxed);
        move |art| decide(view, channel, art)
    }

    // Members and connections.

    pub(super) fn add_or_remove(&mut self, peer: usize) {
        match self.peers[peer].node {
            None => {
                self.count += 1;
                let node = NodeId([self.count as u8; 32]);
                self.machine.add_peer(index(peer), node);
                self.peers[peer].node = Some(node);
            }
            Some(_) => {
                self.machine.remove_peer(self.now, index(peer));
                self.peers[peer] = Peer::default();
                self.model.iter_mut().for_each(|model| model.remove_peer(peer));
            }
        }
        self.check();
    }

    pub(super) fn peer_up(&mut self, peer: usize, channels: [bool; CHANNELS]) {
        let Some(node) = self.peers[peer].node else { return };
        let at = |config: &ChannelConfig| usize::from(config.id != channel_id(0));
        self.machine.peer_up(self.now, index(peer), |config| channels[at(config)]);
        self.peers[peer] = Peer { node: Some(node), up: true, channels, ..Peer::default() };
        self.model.iter_mut().for_each(|model| model.begin_epoch(peer));
        self.note_had(peer);
        self.check();
    }

    pub(super) fn peer_down(&mut self, peer: usize) {
        let Some(node) = self.peers[peer].node else { return };
        self.machine.peer_down(self.now, index(peer));
        self.peers[peer] = Peer { node: Some(node), ..Peer::default() };
        self.check();
    }
}
