//! A member that completes handshakes and speaks the protocol, wrongly on purpose.
//!
//! It acts at ticks that its seed decides, a few to a few hundred milliseconds apart: something
//! honest, or one of its tricks towards one peer or all. Breaches are some seconds apart, since a
//! member that is cut off shows nothing more for a while.
//!
//! Invariants:
//! 1. What it holds is bounded: the latest of what it heard and of what it offered, and per
//!    connection the streams that it may open.
//! 2. What it writes in one tick is bounded, so that long simulations stay fast.
//! 3. Equal seeds and inputs make equal outputs.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use quinn_proto::{TransportConfig as QuicTransport, VarInt};

use super::bare::{BareEvent, BarePeer, LineId};
use super::frames;
use super::heard::{Heard, Pool};
use super::offers::{Manner, Offers};
use super::talk::Talk;
use super::trick::{Tally, Trick};
use crate::Crypto;
use crate::Process;
use slotcast::artifact::{Artifact, SINGLE_CHUNK_BYTES_MAX};
use slotcast::config::{ChannelConfig, Config};
use slotcast::id::{ChannelId, NodeId};
use slotcast::internals::Random;
use slotcast::internals::channel_hello;
use slotcast::membership::Topology;
use slotcast::node::{Ecn, NodeKey};
use slotcast::time::Time;

/// The shortest and the longest time between two acts.
const TICK_MIN: Duration = Duration::from_millis(5);
const TICK_SPREAD: Duration = Duration::from_millis(300);

/// Artifacts that it publishes like anybody, at once.
const PUBLISHED_MAX: usize = 6;

/// An artifact that it advertises as anybody would.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) channel: usize,
    pub(super) slot: u32,
    pub(super) version: u64,
    pub(super) artifact: Artifact,
}

/// A hostile member. What it does with its peers is decided by its seed and the [`Trick`]s it is
/// given; it is driven as any other [`Process`].
pub struct Byzantine {
    pub(super) bare: BarePeer,
    pub(super) channels: Vec<ChannelConfig>,
    pub(super) random: Random,
    tricks: Vec<Trick>,
    tally: Tally,
    pub(super) talks: BTreeMap<LineId, Talk>,
    pub(super) pool: Pool,
    pub(super) offers: Offers,
    pub(super) published: Vec<Published>,
    /// By channel: the version of its latest change.
    versions: Vec<u64>,
    incarnation: u64,
    tick_at: Time,
    /// No breach before.
    breach_at: Time,
    /// How many restarts are to come, and when the next is due.
    pub(super) restarts: u32,
    pub(super) restart_at: Time,
}

impl fmt::Debug for Byzantine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Byzantine")
            .field("id", &self.id())
            .field("tricks", &self.tricks)
            .finish_non_exhaustive()
    }
}

impl Byzantine {
    /// The member of `topology` with this key. `config` is what the honest members have: their
    /// channels and how they connect. `start` is the instant of [`Time::ZERO`] on its clock.
    pub fn new(
        key: NodeKey,
        topology: &Topology,
        config: &Config,
        tricks: &[Trick],
        crypto: Crypto,
        seed: u64,
        start: Instant,
    ) -> Self {
        let mut random = Random::new(seed);
        let transport = transport(config, &mut random);
        let seed = random.bits();
        Self {
            bare: BarePeer::new(key, topology, &config.transport, transport, crypto, seed, start),
            channels: config.channels.clone(),
            tricks: tricks.to_vec(),
            tally: Tally::default(),
            talks: BTreeMap::new(),
            pool: Pool::default(),
            offers: Offers::default(),
            published: Vec::new(),
            versions: vec![0; config.channels.len()],
            incarnation: random.bits(),
            tick_at: Time::ZERO,
            breach_at: Time::ZERO,
            restarts: 0,
            restart_at: Time::NEVER,
            random,
        }
    }

    /// Its id.
    pub fn id(&self) -> NodeId {
        self.bare.id()
    }

    /// How often it has played each trick, now and later on.
    pub fn tally(&self) -> Tally {
        self.tally.clone()
    }

    /// How often it has played each trick so far, in the order of [`Trick::ALL`].
    pub fn fired(&self) -> [u64; Trick::COUNT] {
        self.tally.counts()
    }

    // What tricks are made of.

    pub(super) fn plays(&self, trick: Trick) -> bool {
        self.tricks.contains(&trick)
    }

    /// Whether the last breach is long enough ago.
    pub(super) fn may_breach(&self, now: Time) -> bool {
        now >= self.breach_at
    }

    /// Counts a trick.
    pub(super) fn played(&mut self, now: Time, trick: Trick) {
        self.tally.note(trick);
        if trick.is_breach() {
            self.pause_breaches(now);
        }
    }

    /// The next breach comes later: each is to be played, but after that there is to be time for
    /// the other tricks, too.
    pub(super) fn pause_breaches(&mut self, now: Time) {
        let is_mixed = self.tricks.iter().any(|trick| !trick.is_breach());
        let (from, to) = match self.unplayed().next() {
            Some(_) => (50, 500),
            None if is_mixed => (2_000, 20_000),
            None => (300, 6_000),
        };
        self.breach_at = now + self.span(from, to);
    }

    /// True once in `count` times.
    pub(super) fn one_in(&mut self, count: u64) -> bool {
        self.random.below(count) == 0
    }

    /// A span between two ends, in milliseconds.
    pub(super) fn span(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.random.below(to - from))
    }

    pub(super) fn any_channel(&mut self) -> usize {
        self.random.below(self.channels.len() as u64) as usize
    }

    pub(super) fn channel(&self, at: usize) -> ChannelId {
        self.channels[at].id
    }

    pub(super) fn any_slot(&mut self, channel: usize) -> u32 {
        self.random.below(self.channels[channel].slots_max.into()) as u32
    }

    /// Leaves room for a clear, so that an artifact that was claimed in another slot may have moved.
    pub(super) fn next_version(&mut self, channel: usize) -> u64 {
        self.versions[channel] += 2;
        self.versions[channel]
    }

    /// An artifact that nobody has seen before; a long one has to be fetched.
    pub(super) fn fresh(&mut self, channel: usize, is_long: bool) -> Artifact {
        let (artifact_max, push_max) = {
            let config = &self.channels[channel];
            (config.artifact_bytes_max, u64::from(config.push_bytes_max))
        };
        let length = if is_long {
            let shortest = (push_max + 1).min(artifact_max);
            let longest = artifact_max.min(shortest + 3 * SINGLE_CHUNK_BYTES_MAX as u64);
            shortest + self.random.below(longest - shortest + 1)
        } else {
            self.random.below(artifact_max.min(push_max).min(900) + 1)
        };
        self.fresh_of(length)
    }

    /// An artifact of this length that nobody has seen before.
    pub(super) fn fresh_of(&mut self, length: u64) -> Artifact {
        let mut bytes = vec![self.random.bits() as u8; length as usize];
        let mut metadata = self.random.bits().to_le_bytes().to_vec();
        metadata.truncate(self.random.below(9) as usize);
        let mark = self.random.bits().to_le_bytes();
        bytes.iter_mut().zip(mark).for_each(|(byte, mark)| *byte = mark);
        Artifact::new(bytes.into(), &metadata).expect("within the limits")
    }

    /// What is written about an artifact in a slot: a push, or an advert that is answered in a
    /// manner.
    pub(super) fn tell(
        &mut self,
        channel: usize,
        slot: u32,
        version: u64,
        artifact: &Artifact,
        manner: Manner,
    ) -> Vec<u8> {
        let pushed = artifact.bytes().len() <= self.channels[channel].push_bytes_max as usize;
        if pushed && manner == Manner::Honest {
            return frames::push_of(slot, version, artifact);
        }
        self.offers.insert(artifact.clone(), manner);
        frames::advert(slot, version, 0, false, &artifact.advert())
    }

    /// Writes a whole stream. False if the peer allows no more.
    pub(super) fn say(&mut self, line: LineId, bytes: Vec<u8>) -> bool {
        match self.bare.open(line) {
            Some(stream) => self.bare.write(line, stream, bytes, true),
            None => false,
        }
    }

    /// Writes the same stream to everybody who listens.
    pub(super) fn say_to_all(&mut self, bytes: &[u8]) -> bool {
        let mut said = false;
        for line in self.greeted() {
            said |= self.say(line, bytes.to_vec());
        }
        said
    }

    /// The connections over which it can speak.
    pub(super) fn greeted(&self) -> Vec<LineId> {
        let greeted = self.talks.iter().filter(|(_, talk)| talk.is_greeted);
        greeted.map(|(line, _)| *line).collect()
    }

    pub(super) fn talk(&mut self, line: LineId) -> &mut Talk {
        self.talks.get_mut(&line).expect("a connection that is up")
    }

    // What happens.

    fn connected(&mut self, now: Time, line: LineId, node: NodeId) {
        self.talks.insert(line, Talk::new(node));
        if self.may_spoil(Trick::HugeHello) && self.may_breach(now) && self.one_in(2) {
            self.played(now, Trick::HugeHello);
            self.forge_hello(line);
        } else if self.may_spoil(Trick::HalfOpenStreams) && self.one_in(4) {
            // Half a hello, or none: the peer waits for it.
            self.played(now, Trick::HalfOpenStreams);
            let hello = self.hello();
            let half = self.random.below(hello.len() as u64) as usize;
            self.hold(Time::NEVER, line, hello[..half].into());
        } else {
            self.greet(line);
        }
    }

    /// Says hello as anybody would.
    pub(super) fn greet(&mut self, line: LineId) {
        let mut hello = self.hello();
        if self.plays(Trick::UnknownKinds) && self.one_in(2) {
            hello.extend(self.unknown_frames(300));
        }
        self.talk(line).is_greeted = true;
        self.say(line, hello);
        for channel in 0..self.channels.len() {
            let bytes = self.opening(channel);
            self.say(line, bytes);
        }
    }

    /// Its hello: what the honest members say.
    pub(super) fn hello(&self) -> Vec<u8> {
        let channels = self.channels.iter().map(channel_hello).collect();
        frames::hello(self.incarnation, channels, Vec::new())
    }

    /// The snapshot of a channel, and what it names.
    fn opening(&mut self, channel: usize) -> Vec<u8> {
        let published = std::mem::take(&mut self.published);
        let mut bitmap = vec![0; self.channels[channel].slots_max.div_ceil(8) as usize];
        let mut told = Vec::new();
        for Published { slot, version, artifact, .. } in
            published.iter().filter(|published| published.channel == channel)
        {
            bitmap[*slot as usize / 8] |= 1 << (slot % 8);
            told.extend(self.tell(channel, *slot, *version, artifact, Manner::Honest));
        }
        self.published = published;
        let version = self.versions[channel];
        frames::updates(self.channel(channel), &[&frames::snapshot(version, &bitmap), &told])
    }

    /// Reads what it wants to read.
    fn listen(&mut self, now: Time) {
        let lines: Vec<LineId> = self.talks.keys().copied().collect();
        for line in lines {
            let talk = self.talks.get_mut(&line).expect("just listed");
            if now < talk.deaf_until {
                continue;
            }
            // The head of a stream is shorter than this, its frames are longer.
            let limit = (now < talk.endless_until).then_some(4);
            let mut unwanted = Vec::new();
            let (ears, stops) = (&mut talk.ears, now < talk.stopping_until);
            self.bare.read(line, limit, |stream, bytes| match bytes {
                Some(_) if stops => unwanted.push(stream),
                bytes => ears.take(stream, bytes),
            });
            let (requests, heard) = (talk.ears.take_requests(), talk.ears.take_heard());
            let stripes = talk.ears.take_stripes();
            let from = talk.node;
            unwanted.dedup();
            unwanted.into_iter().for_each(|stream| self.bare.stop(line, stream));
            requests.iter().for_each(|request| self.answer(now, line, request));
            for stripe in stripes {
                if self.plays(Trick::WithholdRelay) {
                    self.withhold_relay(now, from, &stripe);
                }
            }
            for (channel, advert, artifact) in heard {
                let id = advert.id();
                if self.pool.insert(Heard { channel, id, advert, from, artifact }) {
                    self.claim_at_once(now);
                    if self.plays(Trick::FalsePartial) && self.one_in(2) {
                        self.claim_parts(now, false);
                    }
                }
            }
        }
    }

    fn tick(&mut self, now: Time) {
        self.tick_at = now + TICK_MIN + self.random.duration_below(TICK_SPREAD);
        self.go_on(now);
        self.learn();
        if self.restart_at <= now {
            return self.restart(now);
        }
        let greeted = self.greeted();
        let trick = self.next_trick();
        let Some(trick) = trick.filter(|_| !self.random.bits().is_multiple_of(4)) else {
            return self.behave();
        };
        let line = match greeted.len() {
            0 => None,
            count => Some(greeted[self.random.below(count as u64) as usize]),
        };
        if trick.is_breach() && !self.may_breach(now) {
            return;
        }
        if self.play(now, trick, line) {
            self.played(now, trick);
        }
    }

    /// Those that are still to be played for the first time.
    fn unplayed(&self) -> impl Iterator<Item = Trick> {
        self.tricks.iter().copied().filter(|trick| self.tally.of(*trick) == 0)
    }

    /// Whether it plays a trick that leaves no room for others in the same connection: once, and
    /// again when all others have been played.
    pub(super) fn may_spoil(&self, trick: Trick) -> bool {
        let is_first = self.tally.of(trick) == 0;
        self.plays(trick) && (is_first || self.unplayed().next().is_none())
    }

    /// Any of its tricks; those that it has not played yet come to their turn soon.
    fn next_trick(&mut self) -> Option<Trick> {
        let unplayed: Vec<Trick> = self.unplayed().collect();
        let tricks = match self.one_in(2) && !unplayed.is_empty() {
            true => &unplayed,
            false => &self.tricks,
        };
        let place = self.random.below(tricks.len() as u64) as usize;
        tricks.get(place).copied()
    }

    /// Something honest: publishes, or clears what it has published.
    fn behave(&mut self) {
        if self.published.len() == PUBLISHED_MAX || (!self.published.is_empty() && self.one_in(3)) {
            let Published { channel, slot, .. } = self.published.remove(0);
            let version = self.next_version(channel);
            let bytes = frames::updates(self.channel(channel), &[&frames::clear(slot, version)]);
            self.say_to_all(&bytes);
            return;
        }
        let channel = self.any_channel();
        let (slot, version) = (self.any_slot(channel), self.next_version(channel));
        let is_long = self.one_in(4);
        let artifact = self.fresh(channel, is_long);
        let told = self.tell(channel, slot, version, &artifact, Manner::Honest);
        self.published.retain(|known| (known.channel, known.slot) != (channel, slot));
        self.published.push(Published { channel, slot, version, artifact });
        let bytes = frames::updates(self.channel(channel), &[&told]);
        self.say_to_all(&bytes);
    }

    fn restart(&mut self, now: Time) {
        self.played(now, Trick::RestartLoop);
        self.bare.restart(now);
        self.talks.clear();
        self.incarnation = self.random.bits();
        self.restarts -= 1;
        self.restart_at = match self.restarts {
            0 => Time::NEVER,
            _ => now + self.span(100, 400),
        };
    }
}

impl Process for Byzantine {
    fn handle_datagram(&mut self, now: Time, from: SocketAddr, ecn: Option<Ecn>, datagram: &[u8]) {
        self.bare.handle_datagram(now, from, ecn, datagram);
    }

    fn poll(&mut self, now: Time, send: &mut dyn FnMut(SocketAddr, &[u8])) -> Time {
        loop {
            self.bare.serve(now);
            while let Some(event) = self.bare.next_event() {
                match event {
                    BareEvent::Connected { line, node } => self.connected(now, line, node),
                    BareEvent::Lost { line } => drop(self.talks.remove(&line)),
                    BareEvent::Stopped { .. } => {}
                }
            }
            self.listen(now);
            if self.tick_at <= now {
                self.tick(now);
            }
            if !self.bare.transmit(now, send) {
                return self.bare.wake_at().min(self.tick_at);
            }
        }
    }
}

/// What QUIC tells the peers: often as generous as they are, sometimes with next to no credit.
fn transport(config: &Config, random: &mut Random) -> QuicTransport {
    let credits: [(u32, u32); 4] = [(128, 2 << 20), (128, 2 << 20), (16, 64 << 10), (128, 4 << 10)];
    let (streams, window) = credits[random.below(4) as usize];
    let idle = config.transport.idle_timeout.try_into().unwrap_or(VarInt::MAX.into());
    let mut transport = QuicTransport::default();
    transport
        .max_concurrent_bidi_streams(0_u32.into())
        .max_concurrent_uni_streams(streams.into())
        .stream_receive_window(window.into())
        .receive_window((2 * window).into())
        .send_window(1 << 20)
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(Some(config.transport.keep_alive))
        .mtu_discovery_config(None)
        .datagram_receive_buffer_size(None);
    transport
}
