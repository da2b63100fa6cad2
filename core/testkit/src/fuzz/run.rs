//! One [`Broadcast`] machine with two peers played by hand, and its model: each step is done to
//! both, then they are compared.

use core::ops::Range;
use core::sync::atomic::{AtomicU8, Ordering};
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::chunks::{ChunkModel, Source};
use super::model::{Channel, Content, PEERS, Step};
use super::pool::{self, ARTS, Art};
use slotcast::artifact::Artifact;
use slotcast::broadcast::{
    Broadcast, Candidate, ChunkTaken, Decision, Event, OutStream, Output, Priority, RequestId,
    SendBuffer, Taken, Wake,
};
use slotcast::config::{ChannelConfig, Config, Order, Relay};
use slotcast::error::Fault;
use slotcast::id::{ChannelId, NodeId, PeerIndex, Slot, Version};
use slotcast::membership::Overlay;
use slotcast::time::Time;
use slotcast::wire::{
    Chunk, ChunkBits, Item, LiveSlots, Malformed, Ranges, Refusal, Request, StreamDecoder,
    StreamHead, Update,
};

pub(super) const CHANNELS: usize = 2;

/// Artifacts of which a peer may send chunks unasked at the same time.
const STREAMED: usize = 2;

/// So many chunks that are here already are taken of a stream that comes unasked.
const REPEATED_MAX: u8 = 4;

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

/// A request of the machine that a peer may answer.
#[derive(Clone, Debug)]
struct Asked {
    channel: usize,
    art: Art,
    /// The chunks still to come.
    chunks: VecDeque<u32>,
    /// They come unasked, and may be asked for all the same.
    is_open: bool,
    /// They belong to this node's stripe.
    is_stripe: bool,
    /// Chunks of them that were here already when they came.
    repeated: u8,
}

/// What a peer says of an artifact beside its slot and version.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told<'a> {
    pub(super) art: Art,
    pub(super) hops: u8,
    pub(super) streamed: bool,
    pub(super) spread: bool,
    /// The set of chunks that it has, as on the wire, if not all.
    pub(super) have: Option<&'a [u8]>,
}

/// What a peer has asked this node for.
struct Want {
    channel: usize,
    art: Art,
    /// In the order in which they are to be sent.
    chunks: Vec<u32>,
    /// They were here when they were asked for, and the slot has not been cleared since.
    is_held: bool,
}

/// What this node says of a slot: the artifact, and whether it has a part of it only.
type Said = (Art, bool);

/// A stream that the machine has begun to a peer.
struct OutgoingStream {
    stream: Option<OutStream>,
    decoder: StreamDecoder,
    head: Option<StreamHead>,
    /// The updates in it, not yet applied at the peer: channel, slot, version, content.
    updates: Vec<(usize, u32, u64, Option<Said>)>,
    /// The chunks that come next: channel, artifact, which ones.
    chunks: Option<(usize, Art, Source)>,
    finished: bool,
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

impl Asked {
    /// Chunks that are asked for with a request.
    fn new(channel: usize, art: Art, chunks: impl IntoIterator<Item = u32>) -> Self {
        let chunks = chunks.into_iter().collect();
        Self { channel, art, chunks, is_open: false, is_stripe: false, repeated: 0 }
    }
}

/// Whether bits are the one encoding of a set of some of so many chunks.
fn is_set_of(ChunkBits(bits): ChunkBits<'_>, chunks: u32) -> bool {
    bits.last() != Some(&0) && ChunkBits(bits).iter().all(|chunk| chunk < chunks)
}

fn assert_malformed(update: &Update<'_>) {
    let mut bytes = Vec::new();
    update.encode(&mut bytes);
    // Kind and length of the frame: one byte each, the length two above 63.
    let start = if bytes[1] < 64 { 2 } else { 3 };
    let decoded = Update::decode(bytes[0].into(), &bytes[start..]);
    assert_eq!(decoded, Err(Malformed::OutOfRange));
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

    // What a peer says.

    fn model_update(
        &mut self,
        (peer, channel, slot): (usize, usize, u32),
        version: u64,
        content: Option<Content>,
    ) {
        let decide = self.decide(channel);
        self.model[channel].update(peer, slot, version, content, decide);
        self.note_had(peer);
    }

    /// Remembers which chunks a peer has told of.
    fn note_had(&mut self, peer: usize) {
        for (channel, model) in self.model.iter().enumerate() {
            for art in (0..ARTS).filter(|art| model.heard[peer].holds(*art)) {
                let had = self.peers[peer].had.entry((channel, art)).or_default();
                let chunks = 0..pool::artifact(art).advert().chunks();
                had.extend(chunks.filter(|chunk| model.heard[peer].has_chunk(art, *chunk)));
            }
        }
    }

    pub(super) fn clear(&mut self, peer: usize, channel: usize, slot: u32, version: u64) {
        if !self.peers[peer].up || version == 0 {
            return;
        }
        let update = Update::Clear { slot: Slot(slot), version: Version(version) };
        let taken = self.update(peer, channel, &update);
        if slot >= self.model[channel].config.slots_max {
            assert_eq!(taken, Err(Fault::SlotBeyondBound));
        } else {
            assert_eq!(taken, Ok(Taken::Done));
            self.model_update((peer, channel, slot), version, None);
        }
        self.check();
    }

    pub(super) fn push(
        &mut self,
        (peer, channel, slot): (usize, usize, u32),
        version: u64,
        art: Art,
        hops: u8,
    ) {
        if !self.peers[peer].up || version == 0 {
            return;
        }
        let (artifact, config) = (pool::artifact(art), &self.model[channel].config);
        let is_too_long = artifact.bytes().len() > config.push_bytes_max as usize;
        let is_beyond = slot >= config.slots_max;
        let is_too_far = hops > config.relay_hops_max;
        let is_twice = self.model[channel].is_in_two_slots(peer, slot, version, art);
        let (slot_id, version_id) = (Slot(slot), Version(version));
        let (key, metadata) = (artifact.key(), artifact.metadata());
        let bytes = artifact.bytes();
        let push = Update::Push { slot: slot_id, version: version_id, hops, key, metadata, bytes };
        match self.update(peer, channel, &push) {
            Ok(taken) => {
                assert_eq!(taken, Taken::Done);
                assert!(!is_too_long && !is_too_far && !is_beyond && !is_twice);
                let pushed = self.peers[peer].node.filter(|_| channel != TIGHT);
                let content = Content { art, hops, have: None, pushed };
                self.model_update((peer, channel, slot), version, Some(content));
            }
            Err(Fault::PushTooLong) => assert!(is_too_long),
            Err(Fault::HopsBeyondBound) => assert!(is_too_far),
            Err(Fault::ArtifactInTwoSlots) => assert!(is_twice),
            Err(fault) => assert_eq!((fault, is_beyond), (Fault::SlotBeyondBound, true)),
        }
        if channel == TIGHT {
            self.take_events(TIGHT, usize::MAX, Some(art));
        }
        self.check();
    }

    pub(super) fn told(
        &mut self,
        (peer, channel, slot): (usize, usize, u32),
        version: u64,
        told: Told<'_>,
    ) -> Option<RequestId> {
        if !self.peers[peer].up || version == 0 {
            return None;
        }
        let mut taken_as = None;
        let Told { art, hops, streamed, spread, have } = told;
        let (advert, config) = (pool::artifact(art).advert(), &self.model[channel].config);
        let rules = [
            (Fault::ArtifactTooLong, advert.length > config.artifact_bytes_max),
            (Fault::HopsBeyondBound, hops > config.relay_hops_max),
            (Fault::SlotBeyondBound, slot >= config.slots_max),
            (
                Fault::ArtifactInTwoSlots,
                self.model[channel].is_in_two_slots(peer, slot, version, art),
            ),
        ];
        let (chunks, have) = (advert.chunks(), have.map(ChunkBits));
        let (slot_id, version_id) = (Slot(slot), Version(version));
        let update = match have {
            Some(have) => Update::Partial {
                slot: slot_id,
                version: version_id,
                hops,
                streamed,
                spread,
                advert,
                have,
            },
            None => Update::Advert {
                slot: slot_id,
                version: version_id,
                hops,
                streamed,
                spread,
                advert,
            },
        };
        if have.is_some_and(|have| !is_set_of(have, chunks)) {
            assert_malformed(&update);
            return None;
        }
        match self.update(peer, channel, &update) {
            Ok(taken) => {
                assert!(rules.iter().all(|(_, is_broken)| !is_broken));
                let is_news = self.model[channel].version(peer, slot) < version;
                let is_open = spread || hops > 0 || have.is_some();
                let have = have.map(|have| have.iter().collect());
                let content = Content { art, hops, have, pushed: None };
                self.model_update((peer, channel, slot), version, Some(content));
                match taken {
                    Taken::Done => assert!(!streamed),
                    Taken::Unwanted => assert!(streamed),
                    Taken::Chunks(request) => {
                        assert!(streamed && is_news);
                        taken_as = Some(request);
                        let asked = Asked::new(channel, art, 0..chunks);
                        let asked = Asked { is_open, is_stripe: spread, ..asked };
                        self.ask(peer, request.0, asked);
                    }
                }
            }
            Err(fault) => assert!(rules.contains(&(fault, true)), "{fault}"),
        }
        self.check();
        taken_as
    }

    /// An honest peer tells of an artifact in a slot's next version and sends chunks behind that, as far
    /// as they are wanted; then maybe the end of the stream.
    pub(super) fn stream(
        &mut self,
        at: (usize, usize, u32),
        told: Told<'_>,
        chunks: Range<u32>,
        is_ended: bool,
    ) {
        let (peer, channel, slot) = at;
        // Behind the last version there is none.
        let version = (self.model[channel].version(peer, slot) + 1).min((1 << 62) - 1);
        let Some(RequestId(request)) = self.told(at, version, told) else { return };
        let nth = |run: &Self| run.peers[peer].asked.keys().position(|asked| *asked == request);
        for chunk in chunks {
            let Some(nth) = nth(self) else { return };
            self.chunk(peer, nth, Some(chunk), 0);
        }
        if let Some(nth) = nth(self).filter(|_| is_ended) {
            self.fail(peer, nth, false);
        }
    }

    pub(super) fn snapshot(&mut self, peer: usize, channel: usize, bits: &[u8]) {
        if !self.peers[peer].up {
            return;
        }
        let (live, model) = (LiveSlots(bits), &mut self.model[channel]);
        let is_beyond = live.iter().any(|slot| slot.0 >= model.config.slots_max);
        let is_repeated = model.has_snapshot(peer);
        let taken = self.update(peer, channel, &Update::Snapshot { version: Version(9), live });
        match taken {
            Ok(taken) => {
                assert_eq!((taken, is_beyond, is_repeated), (Taken::Done, false, false));
                self.model[channel].snapshot(peer, live.iter().map(|slot| slot.0));
            }
            Err(Fault::SlotBeyondBound) => assert!(is_beyond),
            Err(fault) => assert_eq!((fault, is_repeated), (Fault::SnapshotRepeated, true)),
        }
        self.check();
    }

    /// Hands an update to the machine, through the wire.
    fn update(&mut self, peer: usize, channel: usize, update: &Update<'_>) -> Result<Taken, Fault> {
        let id = channel_id(channel);
        through_wire(
            &StreamHead::Updates(id),
            |bytes| update.encode(bytes),
            |kind, body| {
                let decoded = Update::decode(kind, body).expect("well-formed").expect("known");
                assert_eq!(decoded, *update);
                self.machine.handle_update(self.now, index(peer), id, &decoded)
            },
        )
    }

    // What the machine has asked a peer for.

    fn ask(&mut self, peer: usize, request: u64, asked: Asked) {
        let model = &self.model[asked.channel];
        assert!(model.heard[peer].holds(asked.art), "only holders are asked");
        assert_eq!(model.known[&asked.art].step, Step::Wanted, "only what is wanted is asked for");
        let same = self.peers[peer].asked.values();
        let same = same.filter(|other| (other.channel, other.art) == (asked.channel, asked.art));
        let mut same = same.filter(|other| !other.is_open && !asked.is_open);
        let is_asked = |chunk: &u32| asked.chunks.contains(chunk);
        assert!(same.all(|other| !other.chunks.iter().any(is_asked)), "asked of a holder once");
        assert!(self.peers[peer].asked.insert(request, asked).is_none());
        assert!(self.peers[peer].asked.len() <= 3 * 2 + STREAMED, "invariant 8");
    }

    fn nth_asked(&self, peer: usize, nth: usize) -> Option<(u64, Asked)> {
        let asked = &self.peers[peer].asked;
        asked.iter().nth(nth % asked.len().max(1)).map(|(request, asked)| (*request, asked.clone()))
    }

    /// A peer sends a chunk in the stream of what it was asked for, or sends unasked: the next one, or
    /// the one given. With a lie, a wrong one.
    pub(super) fn chunk(&mut self, peer: usize, nth: usize, index_sent: Option<u32>, lie: u8) {
        let Some((request, asked)) = self.nth_asked(peer, nth) else { return };
        let key = (asked.channel, asked.art);
        let artifact = pool::artifact(asked.art);
        let count = artifact.advert().chunks();
        let next = index_sent.map_or(asked.chunks[0], |chunk| chunk % count);
        let (bytes, proof) = artifact.chunk(next);
        let mut wrong = bytes.to_vec();
        let mut chunk = Chunk { index: next, proof, bytes: &bytes };
        match lie {
            1 => chunk.index += count,
            2 => drop(chunk.proof.push([9; 32])),
            3 => {
                match wrong.first_mut() {
                    Some(first) => *first ^= 1,
                    None => wrong.push(1),
                }
                chunk.bytes = &wrong;
            }
            _ => {}
        }
        let is_lie = (1..=3).contains(&lie);
        let was_here = self.chunks.has_come(key, next);
        // Room may have been taken from what is here of it, and the model does not know.
        let is_known = asked.channel != TIGHT || !was_here;
        let id = RequestId(request);
        let taken = self.machine.handle_chunk(self.now, index(peer), id, &chunk);
        let is_expected = asked.chunks.contains(&chunk.index);
        match taken {
            Err(Fault::UnrequestedChunk) => assert!(!is_expected),
            Err(fault) => {
                assert_eq!(fault, Fault::WrongChunk);
                assert!(is_expected && is_lie && !(was_here && is_known));
            }
            // Of what is here already, nothing is looked at.
            Ok(_) => assert!(is_expected && (!is_lie || was_here)),
        }
        if taken.is_ok() {
            self.take_right_chunk(peer, (request, &asked), next, taken == Ok(ChunkTaken::More));
        } else {
            self.peers[peer].asked.remove(&request);
        }
        self.check();
        // What comes late is neither needed nor a fault.
        if !self.peers[peer].asked.contains_key(&request) {
            let late = self.machine.handle_chunk(self.now, index(peer), id, &chunk);
            assert_eq!(late, Ok(ChunkTaken::Done));
        }
    }

    /// The machine has taken a chunk, and says whether more of its stream is wanted.
    fn take_right_chunk(
        &mut self,
        peer: usize,
        (request, asked): (u64, &Asked),
        chunk: u32,
        goes_on: bool,
    ) {
        let key = (asked.channel, asked.art);
        let (id, count) =
            (pool::artifact(asked.art).id(), pool::artifact(asked.art).advert().chunks());
        let is_new = self.chunks.take(key, chunk);
        let mut asked = asked.clone();
        asked.chunks.retain(|expected| *expected != chunk);
        asked.repeated += u8::from(!is_new);
        let has_come = |chunk: &u32| self.chunks.has_come(key, *chunk);
        let is_complete = (0..count).all(|chunk| has_come(&chunk));
        let is_useless = match asked.is_open {
            true => asked.repeated >= REPEATED_MAX,
            false => !is_new && asked.chunks.iter().all(has_come),
        };
        if asked.channel != TIGHT {
            let is_over = is_complete || is_useless || asked.chunks.is_empty();
            assert_eq!(goes_on, !is_over);
            assert_eq!(self.machine.is_complete(channel_id(asked.channel), &id), is_complete);
        }
        let model = &mut self.model[asked.channel];
        if self.machine.is_complete(channel_id(asked.channel), &id) {
            assert!(is_complete, "invariant 6");
            model.ready(asked.art, self.peers[peer].node.expect("a member"));
            self.chunks.whole(key);
        }
        let mut slots = (0..model.config.slots_max).map(Slot);
        let is_told =
            slots.any(|slot| self.machine.own_slot(channel_id(asked.channel), slot) == Some(id));
        let passes_on = asked.is_stripe || !asked.is_open;
        if is_new && is_told && passes_on && model.config.relay == Relay::Automatic {
            self.chunks.pass_on(key, chunk, asked.is_stripe);
        }
        if goes_on {
            self.peers[peer].asked.insert(request, asked);
        } else {
            self.peers[peer].asked.remove(&request);
        }
    }

    /// A peer ends an answer early, or refuses.
    pub(super) fn fail(&mut self, peer: usize, nth: usize, refuse: bool) {
        let Some((request, _)) = self.nth_asked(peer, nth) else { return };
        self.peers[peer].asked.remove(&request);
        if refuse {
            let refuse = Request::Refuse { request, refusal: Refusal::NotHeld };
            self.machine.handle_request(self.now, index(peer), &refuse).expect("no fault");
        } else {
            self.machine.handle_answer_end(self.now, index(peer), RequestId(request));
        }
        self.check();
    }

    // What a peer asks for.

    pub(super) fn fetch(&mut self, peer: usize, channel: usize, art: Art, ranges: Ranges) {
        if !self.peers[peer].up {
            return;
        }
        self.count += 1;
        let (request, artifact) = (self.count, pool::artifact(art));
        let (id, count) = (artifact.id(), artifact.advert().chunks());
        let is_within = ranges.iter().all(|range| range.is_within(count));
        let chunks = ranges.iter().flat_map(|range| range.first..range.first + range.count);
        let chunks: Vec<u32> = chunks.collect();
        let is_here = |chunk: &u32| self.chunks.is_here((channel, art), *chunk);
        let is_active = self.model[channel].own_slot(art).is_some();
        let is_held = is_active && is_within && chunks.iter().all(is_here);
        self.peers[peer].wants.insert(request, Want { channel, art, chunks, is_held });
        let fetch = Request::Fetch { request, channel: channel_id(channel), id, ranges };
        through_wire(
            &StreamHead::Requests,
            |bytes| fetch.encode(bytes),
            |kind, body| {
                let decoded = Request::decode(kind, body).expect("well-formed").expect("known");
                assert_eq!(decoded, fetch);
                self.machine.handle_request(self.now, index(peer), &decoded).expect("no fault");
            },
        );
        self.check();
    }

    pub(super) fn cancel(&mut self, peer: usize, nth: usize) {
        let wants = &self.peers[peer].wants;
        let Some(request) = wants.keys().nth(nth % wants.len().max(1)).copied() else { return };
        let cancel = Request::Cancel { request };
        self.machine.handle_request(self.now, index(peer), &cancel).expect("no fault");
        self.check();
    }

    // Commands.

    /// Publishes an artifact, in place of what has its key and the name if there is one.
    pub(super) fn publish(&mut self, channel: usize, name: Option<u32>, art: Art) {
        let (id, artifact) = (channel_id(channel), pool::artifact(art).clone());
        let was_active = self.model[channel].has_slot(art);
        let model = &mut self.model[channel];
        let (published, expected) = match name {
            None => (self.machine.publish(id, artifact), model.publish(art)),
            Some(name) => {
                let published = self.machine.publish_keyed(id, name, artifact);
                (published, model.publish_keyed(name, art))
            }
        };
        assert_eq!(published, expected);
        if published.is_ok() {
            if self.chunks.is_part((channel, art)) {
                // The rest of it is not needed any more.
                self.model[channel].own(art);
            }
            self.chunks.whole((channel, art));
            let config = &self.model[channel].config;
            let is_spread =
                config.relay == Relay::Automatic && pool::len(art) >= config.spread_bytes_min;
            if is_spread && !was_active {
                let members = (0..PEERS).filter(|peer| self.peers[*peer].is_up(channel));
                self.chunks.spread((channel, art), members);
            }
        }
        self.check();
    }

    pub(super) fn relay(&mut self, channel: usize, art: Art) {
        let relayed = self.machine.relay(channel_id(channel), pool::artifact(art));
        assert_eq!(relayed, self.model[channel].relay(art));
        if relayed.is_ok() {
            self.model[channel].set_is_part(art, false);
            self.chunks.whole((channel, art));
        }
        self.check();
    }

    pub(super) fn abort(&mut self, channel: usize, art: Art) {
        let aborted = self.machine.abort(channel_id(channel), &pool::artifact(art).id());
        assert_eq!(aborted, self.model[channel].abort(art));
        self.check();
    }

    pub(super) fn abort_below(&mut self, channel: usize, key: u64) {
        let aborted = self.machine.abort_below(channel_id(channel), key);
        assert_eq!(aborted, self.model[channel].abort_below(key));
        self.check();
    }

    pub(super) fn reconsider(&mut self, channel: usize, view: u8) {
        self.view.store(view, Ordering::Relaxed);
        assert!(self.machine.reconsider(self.now, channel_id(channel)));
        self.model[channel].reconsider(self.decide(channel));
        self.check();
    }

    pub(super) fn advance(&mut self, span: Duration) {
        self.now = self.now + span;
        self.check();
    }

    // What the machine gives.

    /// Takes up to `limit` events of a channel. Of `pushed`, the bytes may have been taken.
    pub(super) fn take_events(&mut self, channel: usize, limit: usize, pushed: Option<Art>) {
        for _ in 0..limit {
            let Some(event) = self.machine.poll_event(channel_id(channel)) else {
                assert!(!self.model[channel].has_event(), "not all was told");
                break;
            };
            let model = &mut self.model[channel];
            if let Event::Delivered { artifact, from } = &event
                && let art = pool::art(&artifact.id())
                && Some(art) == pushed
                && model.known[&art].step == Step::Wanted
            {
                model.ready(art, *from);
            }
            model.event(&event, |peer| self.peers[peer].node);
        }
        self.check();
    }

    /// Encodes once for a peer; false if there was nothing.
    pub(super) fn send(&mut self, peer: usize, room: usize) -> bool {
        if self.peers[peer].node.is_none() {
            return false;
        }
        let mut out = core::mem::take(&mut self.out);
        let backlog = self.machine.has_backlog(index(peer));
        let sent = self.machine.poll_send(self.now, index(peer), room, &mut out);
        let Some(send) = sent else {
            assert!(out.is_empty());
            assert!(room == 0 || !self.machine.has_backlog(index(peer)), "nothing, yet a backlog");
            self.out = out;
            self.check();
            return false;
        };
        assert!(backlog && self.peers[peer].up && (!out.is_empty() || send.finish));
        assert!(out.len() <= room.max(1024) + 2 * 65_536 + Chunk::OVERHEAD_MAX);
        let mut bytes = Vec::new();
        out.for_each_piece(|piece| bytes.extend_from_slice(piece));
        assert_eq!(bytes.len(), out.len());
        self.out = out;
        let streams = &mut self.peers[peer].streams;
        let mut stream = if send.open {
            assert!(
                !streams.iter().any(|other| send.stream.is_some() && other.stream == send.stream)
            );
            OutgoingStream {
                stream: send.stream,
                decoder: StreamDecoder::new(1 << 20),
                head: None,
                updates: Vec::new(),
                chunks: None,
                finished: false,
            }
        } else {
            let at = streams.iter().position(|other| other.stream == send.stream);
            streams.swap_remove(at.expect("a stream that was not reset"))
        };
        assert!(!stream.finished);
        stream.finished = send.finish;
        self.take_sent(peer, &mut stream, &bytes);
        if stream.finished {
            assert_eq!(stream.decoder.finish(), Ok(()));
            if let Some((_, _, source)) = &stream.chunks {
                source.assert_ended();
            }
        }
        if stream.stream.is_some() {
            self.peers[peer].streams.push(stream);
        }
        self.check();
        true
    }

    fn take_sent(&mut self, peer: usize, stream: &mut OutgoingStream, bytes: &[u8]) {
        let mut input = bytes;
        let mut decoder = core::mem::replace(&mut stream.decoder, StreamDecoder::new(0));
        while let Some(item) = decoder.next(&mut input).expect("well-formed") {
            match item {
                Item::Head(head) => {
                    stream.head = Some(head);
                    if let StreamHead::Chunks(request) = head {
                        let want = self.peers[peer].wants.remove(&request).expect("asked for");
                        assert!(want.is_held, "what is not here cannot be sent");
                        let source = Source::Listed(want.chunks.into());
                        stream.chunks = Some((want.channel, want.art, source));
                    }
                }
                Item::Frame { kind, body } => match stream.head.expect("comes first") {
                    StreamHead::Requests => {
                        let request = Request::decode(kind, body).expect("well-formed");
                        self.take_request(peer, request.expect("known"));
                    }
                    StreamHead::Updates(id) if stream.chunks.is_none() => {
                        let update = Update::decode(kind, body).expect("well-formed");
                        let channel = usize::from(id != channel_id(0));
                        self.take_update(peer, channel, stream, &update.expect("known"));
                    }
                    _ => self.take_chunk(peer, stream, kind, body),
                },
            }
        }
        stream.decoder = decoder;
    }

    fn take_request(&mut self, peer: usize, request: Request) {
        match request {
            Request::Fetch { request, channel, id, ranges } => {
                let channel = usize::from(channel != channel_id(0));
                let art = pool::art(&id);
                let count = pool::artifact(art).advert().chunks();
                assert!(ranges.iter().all(|range| range.is_within(count)));
                let chunks = ranges.iter().flat_map(|range| range.first..range.first + range.count);
                let asked = Asked::new(channel, art, chunks);
                let had = &self.peers[peer].had[&(channel, art)];
                assert!(asked.chunks.iter().all(|chunk| had.contains(chunk)), "it has them");
                let distinct: BTreeSet<&u32> = asked.chunks.iter().collect();
                assert_eq!(distinct.len(), asked.chunks.len(), "each is asked for once");
                self.ask(peer, request, asked);
            }
            Request::Cancel { request } => assert!(!self.peers[peer].asked.contains_key(&request)),
            Request::Refuse { request, refusal } => {
                let want = self.peers[peer].wants.remove(&request).expect("asked for");
                match refusal {
                    Refusal::NotHeld => assert!(!want.is_held, "it is here"),
                    refusal => assert_eq!(refusal, Refusal::Busy),
                }
            }
            Request::Receipt { .. } => {}
            Request::Unknown { .. } => unreachable!("a node knows what it asks for"),
        }
    }

    fn take_update(
        &mut self,
        peer: usize,
        channel: usize,
        stream: &mut OutgoingStream,
        update: &Update<'_>,
    ) {
        let (model, state) = (&self.model[channel], &mut self.peers[peer]);
        assert!(state.channels[channel], "inert towards the peer");
        let have = match update {
            Update::Partial { have, .. } => Some(*have),
            _ => None,
        };
        let (slot, version, art) = match update {
            Update::Snapshot { live, .. } => {
                let live: BTreeSet<u32> = live.iter().map(|slot| slot.0).collect();
                assert!(live.iter().all(|slot| model.own.contains_key(slot)));
                assert!(state.snapshots.insert(channel, live).is_none(), "one in an epoch");
                return;
            }
            Update::Clear { slot, version } => (slot.0, version.0, None),
            Update::Push { slot, version, hops, key, metadata, bytes } => {
                assert!(bytes.len() <= model.config.push_bytes_max as usize);
                let artifact = Artifact::keyed(*key, bytes.to_vec().into(), metadata);
                let art = pool::art(&artifact.expect("short").id());
                assert!(*hops == 0 || model.config.relay == Relay::Confirmed, "in an overlay");
                assert!(!model.heard[peer].holds_whole(art), "it has it");
                (slot.0, version.0, Some((art, *hops)))
            }
            Update::Advert { slot, version, hops, streamed, spread, advert }
            | Update::Partial { slot, version, hops, streamed, spread, advert, .. } => {
                let art = pool::art(&advert.id());
                let key = (channel, art);
                if *streamed {
                    let source = self.chunks.begin_stream(key, peer, *hops, *spread);
                    stream.chunks = Some((channel, art, source));
                }
                assert!(!spread || self.chunks.is_spread_to(key, peer) && *hops == 0);
                (slot.0, version.0, Some((art, *hops)))
            }
            Update::Unknown { .. } => unreachable!("a node knows what it says"),
        };
        assert!(state.snapshots.contains_key(&channel), "the snapshot comes first");
        match art {
            Some((held, _)) => {
                assert_eq!(model.own.get(&slot).copied(), art, "invariant 3");
                assert_eq!(self.chunks.is_part((channel, held)), have.is_some());
                let is_here = |chunk: u32| self.chunks.is_here((channel, held), chunk);
                assert!(have.is_none_or(|have| have.iter().all(is_here)), "it is here");
            }
            None => {
                let held = model.own.get(&slot);
                let is_relay_of_own =
                    |(art, hops): &(Art, u8)| *hops > 0 && model.heard[peer].holds_whole(*art);
                assert!(held.is_none_or(is_relay_of_own), "invariant 3");
                let was_told = state.encoded.contains_key(&(channel, slot))
                    || state.snapshots[&channel].contains(&slot);
                assert!(was_told, "it never heard of the slot");
            }
        }
        let last = state.encoded.insert((channel, slot), version);
        assert!(last.is_none_or(|last| last < version), "invariant 2");
        let said = art.map(|(art, _)| (art, have.is_some()));
        stream.updates.push((channel, slot, version, said));
    }

    fn take_chunk(&mut self, peer: usize, stream: &mut OutgoingStream, kind: u64, body: &[u8]) {
        let chunk = Chunk::decode(kind, body).expect("well-formed").expect("known");
        let (channel, art, source) = stream.chunks.as_mut().expect("a stream of chunks");
        let key = (*channel, *art);
        assert!(self.model[*channel].own_slot(*art).is_some(), "no byte leaves after the abort");
        assert!(self.chunks.is_here(key, chunk.index));
        self.chunks.take_sent(key, source, (peer, self.peers[peer].had.get(&key)), chunk.index);
        let (bytes, proof) = pool::artifact(*art).chunk(chunk.index);
        assert_eq!(chunk.proof, proof);
        assert!(chunk.bytes == bytes);
    }

    /// A stream arrives: the peer applies its updates, whatever came before.
    pub(super) fn arrive(&mut self, peer: usize, nth: usize, fate: Fate) {
        let state = &mut self.peers[peer];
        let at = nth % state.streams.len().max(1);
        let Some(stream) = state.streams.get_mut(at) else { return };
        for (channel, slot, version, art) in stream.updates.drain(..) {
            let heard = state.heard.entry((channel, slot)).or_default();
            if heard.0 < version {
                *heard = (version, art);
            }
        }
        let Some(id) = stream.stream else { return };
        match fate {
            Fate::Read => return,
            Fate::Acked if stream.finished => self.machine.handle_acked(index(peer), id),
            Fate::Stopped if stream.chunks.is_some() => {
                self.machine.handle_stopped(index(peer), id);
            }
            Fate::Acked | Fate::Stopped => return,
        }
        state.streams.swap_remove(at);
        self.check();
    }

    // Comparison.

    /// Drains what the machine wants done.
    fn poll(&mut self) {
        for _ in 0..1000 {
            match self.machine.poll(self.now) {
                Output::Idle { wake_at, why } => {
                    assert!(wake_at > self.now);
                    assert_eq!(why == Wake::Input, wake_at == Time::NEVER);
                    return;
                }
                Output::Reset { peer, stream } => {
                    let streams = &mut self.peers[usize::from(peer.0) / 3].streams;
                    let at = streams.iter().position(|other| other.stream == Some(stream));
                    streams.swap_remove(at.expect("a stream that has not ended"));
                }
                Output::Stop { peer, request } => {
                    self.peers[usize::from(peer.0) / 3].asked.remove(&request.0);
                    assert!(!self.machine.is_awaited(peer, request));
                }
            }
        }
        panic!("the machine does not come to rest");
    }

    /// The model does not know which chunks are here, and so not when this node advertises a part of
    /// an artifact. It may, as long as the artifact is wanted.
    fn follow_parts(&mut self) {
        for (at, model) in self.model.iter_mut().enumerate() {
            let is_partial = |step: Step| !matches!(step, Step::Ready(_) | Step::Done);
            let wanted = model.known.iter().filter(|(_, known)| is_partial(known.step));
            let wanted: Vec<Art> = wanted.map(|(art, _)| *art).collect();
            for art in wanted {
                let id = Some(pool::artifact(art).id());
                let mut slots = 0..model.config.slots_max;
                let is_told =
                    slots.any(|slot| self.machine.own_slot(channel_id(at), Slot(slot)) == id);
                match (model.own_slot(art), is_told) {
                    (None, true) => {
                        assert_eq!(model.config.relay, Relay::Automatic);
                        assert_eq!(model.relay(art), Ok(()));
                        model.set_is_part(art, true);
                        self.chunks.part((at, art));
                    }
                    (Some(slot), false) => {
                        let (_, hops) = model.own.remove(&slot).expect("by artifact");
                        assert!(hops > 0, "what this node published stays");
                        model.set_is_part(art, false);
                    }
                    _ => {}
                }
            }
        }
    }

    /// What is not wanted any more is not here, and what left its slot is not sent.
    fn forget_chunks(&mut self) {
        let model = &self.model;
        self.chunks.forget(
            |(channel, art)| {
                model[channel].known.get(&art).is_some_and(|known| known.step == Step::Wanted)
            },
            |(channel, art)| model[channel].own_slot(art).is_some(),
        );
        for want in self.peers.iter_mut().flat_map(|peer| peer.wants.values_mut()) {
            want.is_held &= model[want.channel].own_slot(want.art).is_some();
        }
    }

    /// What follows each step.
    fn check(&mut self) {
        self.poll();
        self.follow_parts();
        self.forget_chunks();
        if self.is_quick {
            return;
        }
        self.compare();
    }

    /// Machine and model say the same.
    pub(super) fn compare(&mut self) {
        self.machine.assert_invariants();
        let mut known = 0;
        for (at, model) in self.model.iter().enumerate() {
            let channel = channel_id(at);
            known += model.known.len();
            for slot in 0..model.config.slots_max {
                let own = model.own.get(&slot).map(|(art, _)| pool::artifact(*art).id());
                assert_eq!(self.machine.own_slot(channel, Slot(slot)), own);
            }
            assert_eq!(self.machine.active_count(channel) as usize, model.own.len());
            for art in 0..ARTS {
                let id = pool::artifact(art).id();
                assert_eq!(self.machine.is_advertised(channel, &id), model.is_advertised(art));
            }
            for (peer, state) in self.peers.iter().enumerate() {
                if state.node.is_some() {
                    let slots = self.machine.peer_slots(index(peer), channel);
                    let slots: Vec<_> = slots.map(|(slot, id)| (slot, pool::art(&id))).collect();
                    assert_eq!(slots, model.peer_slots(peer), "invariant 4");
                }
            }
            assert!(self.machine.has_events(channel) || !model.has_event());
        }
        assert_eq!(self.machine.known_count(), known, "invariant 5");
        for (peer, state) in self.peers.iter().enumerate() {
            for (request, asked) in &state.asked {
                assert!(self.machine.is_awaited(index(peer), RequestId(*request)));
                assert_eq!(self.model[asked.channel].known[&asked.art].step, Step::Wanted);
            }
        }
    }

    /// Once all was sent and has arrived, a peer knows this node's slots.
    pub(super) fn drain(&mut self, peer: usize) {
        if !self.peers[peer].up {
            return;
        }
        let sends = (0..1000).find(|_| !self.send(peer, 1 << 20));
        assert!(sends.is_some(), "there is no end of sending");
        for nth in 0..self.peers[peer].streams.len() {
            self.arrive(peer, nth, Fate::Read);
        }
        let state = &self.peers[peer];
        for (at, model) in self.model.iter().enumerate().filter(|(at, _)| state.channels[*at]) {
            for slot in 0..model.config.slots_max {
                let told = state.heard.get(&(at, slot)).and_then(|(_, held)| *held);
                match model.own.get(&slot) {
                    // What a peer has itself it need not hear from a relay.
                    Some((art, hops)) if *hops > 0 && told.is_none() => {
                        assert!(model.heard[peer].holds_whole(*art), "peer {peer} misses a relay");
                    }
                    own => {
                        let is_part = |art: Art| self.chunks.is_part((at, art));
                        assert_eq!(told, own.map(|(art, _)| (*art, is_part(*art))));
                    }
                }
                if state.snapshots[&at].contains(&slot) {
                    assert!(state.heard.contains_key(&(at, slot)), "announced and never told");
                }
            }
        }
    }

    /// All faults end: connected peers confirm what they said and answer what they are asked. What
    /// is wanted and held by one of them must come (invariant 12), however often the view moves.
    pub(super) fn heal(&mut self) {
        for (peer, channel) in (0..PEERS).flat_map(|peer| (0..CHANNELS).map(move |c| (peer, c))) {
            if !self.model[channel].has_snapshot(peer) {
                self.snapshot(peer, channel, &[]);
            }
        }
        for _ in 0..100 {
            self.advance(Duration::from_millis(300));
            for peer in 0..PEERS {
                self.drain(peer);
                while let Some((_, asked)) = self.nth_asked(peer, 0) {
                    let had = self.peers[peer].had.get(&(asked.channel, asked.art));
                    let has = |chunk: &&u32| had.is_some_and(|had| had.contains(*chunk));
                    match asked.chunks.iter().find(has) {
                        Some(chunk) => self.chunk(peer, 0, Some(*chunk), 0),
                        None => self.fail(peer, 0, false),
                    }
                }
            }
            for channel in 0..CHANNELS {
                self.take_events(channel, usize::MAX, None);
                self.reconsider(channel, self.view.load(Ordering::Relaxed));
            }
            if !self.is_hungry() {
                return;
            }
        }
        let mut wanted = Vec::new();
        for (channel, model) in self.model.iter().enumerate() {
            let known = model.known.iter().filter(|(_, known)| known.step == Step::Wanted);
            let id = |art: &Art| pool::artifact(*art).id();
            let explain = |art: &Art| self.machine.explain(channel_id(channel), &id(art));
            wanted.extend(known.map(|(art, _)| explain(art)));
        }
        panic!("a wanted artifact does not come: {wanted:#?}");
    }

    /// Whether something is wanted, and connected peers hold all that is missing of it.
    fn is_hungry(&self) -> bool {
        let is_held = |channel: usize, art: Art, chunk: u32| {
            let heard = &self.model[channel].heard;
            (0..PEERS).any(|peer| self.peers[peer].up && heard[peer].has_chunk(art, chunk))
        };
        let can_come = |channel: usize, art: Art| {
            // Of what has come on the tight channel, the room may have been taken.
            let is_here =
                |chunk: u32| channel != TIGHT && self.chunks.has_come((channel, art), chunk);
            let mut chunks = 0..pool::artifact(art).advert().chunks();
            chunks.all(|chunk| is_here(chunk) || is_held(channel, art, chunk))
        };
        self.model.iter().enumerate().any(|(channel, model)| {
            let mut known = model.known.iter();
            known.any(|(art, known)| known.step == Step::Wanted && can_come(channel, *art))
        })
    }
}

/// What becomes of a stream that a peer has read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    Read,
    Acked,
    Stopped,
}
