//! A whole node behind null crypto, with an honest peer and one whose every frame, stream, pause
//! and restart is read off the data.

use core::cell::Cell;
use core::time::Duration;
use std::net::SocketAddr;
use std::rc::Rc;

use quinn_proto::{StreamId, TransportConfig};

use super::feed::Feed;
use super::pool::{ARTS, Art, LONG, artifact};
use crate::machines::range;
use slotcast::artifact::Artifact;
use slotcast::broadcast::Event;
use slotcast::config::{ChannelConfig, Config, Order, Quota, Relay};
use slotcast::id::{ArtifactId, ChannelId, NodeId, Slot, Version};
use slotcast::internals::channel_hello;
use slotcast::node::{Ecn, NodeEvent};
use slotcast::time::Time;
use slotcast::wire::{
    ChunkBits, ChunkRange, RANGES_MAX, Ranges, Refusal, Request, StreamHead, Update,
};
use slotcast_sim::hostile::bare::{BareEvent, BarePeer, LineId};
use slotcast_sim::hostile::frames;
use slotcast_sim::{Application, Context, Crypto, Link, Process, Setup, Subnet};

const CHANNEL: ChannelId = ChannelId(1);
const HOSTILE: usize = 2;

/// Streams that are kept open at most, so that a run has an end.
const OPEN_MAX: usize = 32;

/// What there may be beside: the order of keys, and a quota.
fn config(how: u8) -> Config {
    let mut channel = ChannelConfig::new(CHANNEL).relaying(Relay::Automatic, 8);
    channel.slots_max = 16;
    channel.artifact_bytes_max = 80_000;
    channel.active_bytes_max = 400_000;
    channel.inbox_bytes_max = 400_000;
    channel.push_bytes_max = 30;
    channel.spread_bytes_min = 65_000;
    channel.order = [Order::Age, Order::HighestKeyFirst][usize::from(how & 1)];
    channel.quota = (how & 2 != 0).then(|| Quota::per_second(200, 256 << 10));
    let mut config = Config::new([channel]);
    config.fetch_timeout = Duration::from_millis(500);
    config.fetch_retry = Duration::from_millis(200);
    config.transport.cut_off = Duration::from_millis(100);
    config
}

/// The peer that does what the data says.
struct Scripted {
    bare: BarePeer,
    data: Vec<u8>,
    at: usize,
    /// The next operation waits for this.
    next_at: Time,
    lines: Vec<(LineId, NodeId)>,
    open: Vec<(LineId, StreamId)>,
    is_reading: bool,
    is_done: Rc<Cell<bool>>,
}

impl Process for Scripted {
    fn handle_datagram(&mut self, now: Time, from: SocketAddr, ecn: Option<Ecn>, datagram: &[u8]) {
        self.bare.handle_datagram(now, from, ecn, datagram);
    }

    fn poll(&mut self, now: Time, send: &mut dyn FnMut(SocketAddr, &[u8])) -> Time {
        loop {
            self.bare.serve(now);
            self.take_events();
            while self.next_at <= now && !self.is_done.get() {
                self.step(now);
            }
            if !self.bare.transmit(now, send) {
                break;
            }
        }
        let next_at = if self.is_done.get() { Time::NEVER } else { self.next_at };
        self.bare.wake_at().min(next_at)
    }
}

impl Scripted {
    fn take_events(&mut self) {
        while let Some(event) = self.bare.next_event() {
            match event {
                BareEvent::Connected { line, node } => self.lines.push((line, node)),
                BareEvent::Lost { line } => self.lines.retain(|(known, _)| *known != line),
                BareEvent::Stopped { line, stream } => self.bare.reset(line, stream),
            }
        }
        if self.is_reading {
            for (line, _) in self.lines.clone() {
                self.bare.read(line, None, |_, _| ());
            }
        }
    }

    fn step(&mut self, now: Time) {
        let data = core::mem::take(&mut self.data);
        let mut feed = Feed(&data[self.at..]);
        if feed.0.is_empty() {
            self.is_done.set(true);
        } else {
            self.act(now, &mut feed);
        }
        self.at = data.len() - feed.0.len();
        self.data = data;
    }

    fn act(&mut self, now: Time, feed: &mut Feed<'_>) {
        let operation = feed.below(19);
        let line = match self.lines.len() {
            0 => None,
            count => Some(self.lines[feed.below(count)]),
        };
        let Some((line, node)) = line else {
            self.next_at = now + Duration::from_millis(50);
            return;
        };
        match operation {
            0 => self.say(line, &hello(feed.byte()), feed),
            1 | 2 => {
                let length = feed.below(64);
                let raw: Vec<u8> = (0..length).map(|_| feed.byte()).collect();
                self.say(line, &raw, feed);
            }
            3..=7 => {
                let mut all = Vec::new();
                for _ in 0..=feed.below(4) {
                    all.extend(update(feed));
                }
                let channel = if feed.byte() == 255 { ChannelId(9) } else { CHANNEL };
                self.say(line, &frames::updates(channel, &[&all]), feed);
            }
            8 => {
                let requests: Vec<Request> = (0..=feed.below(4)).map(|_| request(feed)).collect();
                self.say(line, &frames::requests(&requests), feed);
            }
            9 | 10 => {
                let head = StreamHead::Chunks(feed.byte().into());
                self.say(line, &frames::stream(head, &[&chunk(feed)]), feed);
            }
            11 => self.next_at = now + Duration::from_millis(u64::from(feed.byte()) * 4),
            12 => {
                if !self.open.is_empty() {
                    let (line, stream) = self.open.swap_remove(feed.below(self.open.len()));
                    match feed.byte() & 1 {
                        0 => self.bare.reset(line, stream),
                        _ => drop(self.bare.write(line, stream, vec_of(feed), true)),
                    }
                }
            }
            13 => self.is_reading = feed.byte() & 1 == 0,
            14 => {
                self.bare.throw(node, &vec_of(feed));
                if feed.byte() == 0 {
                    self.bare.dial(now, node);
                }
            }
            16 => {
                let (told, art) = told(feed);
                let mut all = told;
                for _ in 0..feed.below(6) {
                    all.extend(chunk_of(art, feed));
                }
                self.say(line, &frames::updates(CHANNEL, &[&all]), feed);
            }
            17 => {
                let requests: Vec<Request> = (0..=feed.below(3)).map(|_| fetch(feed)).collect();
                self.say(line, &frames::requests(&requests), feed);
            }
            // A stream that was kept open goes on.
            18 => {
                if !self.open.is_empty() {
                    let (line, stream) = self.open[feed.below(self.open.len())];
                    let chunk = chunk_of(art_of(feed), feed);
                    self.bare.write(line, stream, chunk, false);
                }
            }
            _ => {
                if feed.byte() & 1 == 0 {
                    self.bare.close(now, line);
                    self.lines.retain(|(known, _)| *known != line);
                } else {
                    self.bare.restart(now);
                    self.lines.clear();
                    self.open.clear();
                }
                self.next_at = now + Duration::from_millis(100);
            }
        }
    }

    /// Writes a stream; whether it is ended, cut short or kept open, the data says.
    fn say(&mut self, line: LineId, bytes: &[u8], feed: &mut Feed<'_>) {
        let Some(stream) = self.bare.open(line) else { return };
        match feed.byte() {
            0..=199 => drop(self.bare.write(line, stream, bytes.to_vec(), true)),
            cut @ 200..=229 => {
                let length = bytes.len() * usize::from(cut - 200) / 30;
                self.bare.write(line, stream, bytes[..length].to_vec(), true);
            }
            _ if self.open.len() < OPEN_MAX => {
                self.bare.write(line, stream, bytes.to_vec(), false);
                self.open.push((line, stream));
            }
            _ => self.bare.reset(line, stream),
        }
    }
}

fn vec_of(feed: &mut Feed<'_>) -> Vec<u8> {
    (0..feed.below(40)).map(|_| feed.byte()).collect()
}

/// A hello as everybody says it, or with one number changed.
fn hello(how: u8) -> Vec<u8> {
    let mut channel = channel_hello(&config(0).channels[0]);
    match how {
        0 => channel.slots_max -= 1,
        1 => channel.push_bytes_max += 1,
        2 => channel.id = ChannelId(2),
        _ => {}
    }
    frames::hello(how.into(), vec![channel], Vec::new())
}

/// One update: right in itself, but with any slot, version and artifact.
fn update(feed: &mut Feed<'_>) -> Vec<u8> {
    let (slot, version) = (u32::from(feed.byte() & 31), u64::from(feed.byte()));
    let art = artifact(feed.below(ARTS));
    match feed.below(8) {
        0 => frames::clear(slot, version),
        1 => frames::snapshot(version, &vec_of(feed)),
        2 => frames::frame(feed.byte().into(), &vec_of(feed)),
        3 if art.bytes().len() < 100 => frames::push_of(slot, version, art),
        6 | 7 => told(feed).0,
        _ => {
            let flags = feed.byte();
            let mut advert = art.advert();
            if flags & 0x40 != 0 {
                advert.length = advert.length.wrapping_add(feed.byte().into());
            }
            frames::advert(slot, version, flags & 7, flags & 0x80 != 0, &advert)
        }
    }
}

fn request(feed: &mut Feed<'_>) -> Request {
    let request = u64::from(feed.byte() & 15);
    match feed.below(6) {
        0 => Request::Cancel { request },
        1 => Request::Refuse { request, refusal: Refusal::NotHeld },
        4 | 5 => fetch(feed),
        _ => {
            let id = artifact(feed.below(ARTS)).id();
            let (first, count) = (u32::from(feed.byte() & 3), u32::from(feed.byte()).max(1));
            Request::Fetch { request, channel: CHANNEL, id, ranges: range(first..first + count) }
        }
    }
}

/// Half of the time the artifact of several chunks.
fn art_of(feed: &mut Feed<'_>) -> Art {
    match feed.byte() {
        128.. => LONG,
        byte => usize::from(byte) % ARTS,
    }
}

/// An advert, or a partial, with any flags. The artifact, too.
fn told(feed: &mut Feed<'_>) -> (Vec<u8>, Art) {
    let (slot, version) = (u32::from(feed.byte() & 15), u64::from(feed.byte()).max(1));
    let (art, how, bits) = (art_of(feed), feed.byte(), feed.byte());
    let (hops, streamed, spread) = (how & 3, how & 4 == 0, how & 8 != 0);
    let advert = artifact(art).advert();
    // At times with a chunk that there is not, or an empty byte at the end.
    let bits = [if how >> 4 == 15 { bits } else { bits & ((1 << advert.chunks()) - 1) as u8 }];
    let (slot, version) = (Slot(slot), Version(version));
    let update = match how >> 4 {
        0..=7 => Update::Advert { slot, version, hops, streamed, spread, advert },
        kind => {
            let is_empty = kind < 15 && bits[0] == 0;
            let have = ChunkBits(if is_empty { &[] } else { &bits });
            Update::Partial { slot, version, hops, streamed, spread, advert, have }
        }
    };
    let mut frame = Vec::new();
    update.encode(&mut frame);
    (frame, art)
}

/// A request of several ranges, which may overlap, be repeated, or reach beyond the end.
fn fetch(feed: &mut Feed<'_>) -> Request {
    let request = u64::from(feed.byte() & 15);
    let id = artifact(art_of(feed)).id();
    let count = 1 + feed.below(RANGES_MAX);
    let range = |byte: u8| ChunkRange {
        first: u32::from(byte & 7) % 6,
        count: 1 + u32::from(byte >> 3 & 3) * u32::from(byte >> 5 & 1),
    };
    let ranges: Ranges = (0..count).map(|_| range(feed.byte())).collect();
    Request::Fetch { request, channel: CHANNEL, id, ranges }
}

/// A chunk of an artifact, true or with one byte changed.
fn chunk(feed: &mut Feed<'_>) -> Vec<u8> {
    chunk_of(feed.below(ARTS), feed)
}

fn chunk_of(art: Art, feed: &mut Feed<'_>) -> Vec<u8> {
    let art = artifact(art);
    let chunks = art.advert().chunks() as usize;
    let mut frame = frames::chunk(art, feed.below(chunks) as u32);
    if feed.byte() > 200 {
        let at = (usize::from(feed.byte()) << 8 | usize::from(feed.byte())) % frame.len();
        frame[at] ^= feed.byte();
    }
    frame
}

/// What the honest two were brought, and that they do not accuse each other.
#[derive(Default)]
struct Told {
    honest: Vec<NodeId>,
    delivered: Vec<(usize, ArtifactId)>,
}

impl Application for Told {
    fn handle_event(&mut self, node: &mut Context<'_>, _: ChannelId, event: Event) {
        if let Event::Delivered { artifact, .. } = event {
            let anew = Artifact::keyed(artifact.key(), artifact.to_bytes(), artifact.metadata());
            assert_eq!(anew.expect("as long as it is").id(), artifact.id(), "invariant 6");
            self.delivered.push((node.at(), artifact.id()));
        }
    }

    fn handle_node_event(&mut self, _: &mut Context<'_>, event: NodeEvent) {
        if let NodeEvent::Fault { peer, fault, .. } = event {
            assert!(!self.honest.contains(&peer), "an honest peer is accused: {fault}");
        }
    }
}

pub(super) fn node_frames(data: &[u8]) {
    // At the end of the data, so that what stands before means what it always meant.
    let config = config(data.last().copied().unwrap_or(0));
    let setup = Setup::new(&config, 3).link(Link::new(Duration::from_millis(5)));
    let mut subnet = Subnet::stopped(setup, Told::default());
    subnet.application.honest = [0, 1].map(|at| subnet.id(at)).to_vec();
    [0, 1].into_iter().for_each(|at| subnet.start(at));
    let topology = subnet.topology(0..3);
    let transport = TransportConfig::default();
    let (key, start) = (subnet.key(HOSTILE).clone(), subnet.start_instant());
    let bare = BarePeer::new(key, &topology, &config.transport, transport, Crypto::Null, 7, start);
    let is_done = Rc::new(Cell::new(false));
    let scripted = Scripted {
        bare,
        data: data.to_vec(),
        at: 0,
        next_at: Time::ZERO + Duration::from_millis(100),
        lines: Vec::new(),
        open: Vec::new(),
        is_reading: true,
        is_done: is_done.clone(),
    };
    subnet.install(HOSTILE, Box::new(scripted));
    let end = subnet.now() + Duration::from_secs(20);
    subnet.run(end, |_| is_done.get());
    subnet.elapse(Duration::from_millis(50));
    // The last one is spread, and the hostile member is sent a stripe.
    for (from, to, length) in [(0, 1, 25), (1, 0, 65), (0, 1, 70_000)] {
        let content: Vec<u8> = std::vec![from as u8 + 100; length];
        let block = Artifact::new(content.into(), b"after").expect("short");
        let id = block.id();
        let published = subnet.command(from, |_, node| node.publish(CHANNEL, block));
        published.expect("it runs").expect("room to publish");
        subnet.run_until("the honest two go on", Duration::from_secs(5), |subnet| {
            subnet.application.delivered.contains(&(to, id))
        });
    }
    for at in [0, 1] {
        subnet.inspect(at, |_, node| node.machine().assert_invariants());
    }
}
