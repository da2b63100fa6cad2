//! L13: members that fill the tables and budgets of transfers, and never complete one.

#[path = "../examples/simulate/meter.rs"]
mod meter;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use meter::METER;
use quinn_proto::{StreamId, TransportConfig};
use slotcast::artifact::{Advert, Artifact, CHUNKS_PREFERRED_MAX, Metadata};
use slotcast::broadcast::Event;
use slotcast::config::{ChannelConfig, Config, Relay};
use slotcast::id::ChannelId;
use slotcast::internals::channel_hello;
use slotcast::node::Ecn;
use slotcast::time::Time;
use slotcast::wire::{Item, Request, StreamDecoder, StreamHead};
use slotcast_sim::hostile::bare::{BareEvent, BarePeer, LineId};
use slotcast_sim::hostile::frames;
use slotcast_sim::{Application, Context, Link, Process, Setup, Subnet};

const CHANNEL: ChannelId = ChannelId(1);

/// The member whose memory is measured. It dials all others.
const VICTIM: usize = 0;

/// As many as share the room for what is being fetched.
const HOARDERS: usize = 8;

/// Bytes of an artifact of as many chunks as members tell each other of.
const LENGTH: usize = CHUNKS_PREFERRED_MAX as usize * (16 << 10);

/// Artifacts of a hoarder of which there are bytes: more than it can be answerable for.
const ARTIFACTS: u32 = 3;

const SLOTS: u32 = 128;

/// Slots of a hoarder with something that is pushed.
const PUSHES: u32 = 64;

/// Until then hoarders send what they are asked for: long enough for all that they have.
const SENDS_FOR: Duration = Duration::from_secs(15);

const PUSH_BYTES: u32 = 64_000;

/// Room for an artifact of each hoarder, and as much again for what waits for the application; and little
/// beside that.
fn config() -> Config {
    let mut channel = ChannelConfig::new(CHANNEL);
    channel.slots_max = SLOTS;
    (channel.artifact_bytes_max, channel.push_bytes_max) = (LENGTH as u64, PUSH_BYTES);
    (channel.active_bytes_max, channel.inbox_bytes_max) =
        (LENGTH as u64, (HOARDERS * LENGTH) as u64);
    let mut config = Config::new([channel.relaying(Relay::Automatic, 32)]);
    config.peers_max = HOARDERS as u16;
    // Nothing is given up while the rest comes.
    config.fetch_timeout = Duration::from_secs(600);
    let transport = &mut config.transport;
    transport.streams_max = 8;
    (transport.stream_window, transport.receive_window) = (128 << 10, 128 << 10);
    transport.send_window = 128 << 10;
    (transport.handshakes_max, transport.handshakes_per_address_max) = (4, 4);
    config
}

struct Nothing;

impl Application for Nothing {
    fn handle_event(&mut self, _: &mut Context<'_>, _: ChannelId, _: Event) {}
}

/// Chunks that were asked for.
struct Answer {
    request: u64,
    /// Once there is one.
    stream: Option<StreamId>,
    artifact: usize,
    chunks: VecDeque<u32>,
}

/// Tells of all chunks but one of as many artifacts as there are slots, sends what it is asked for, pushes
/// what else there is room for, and leaves the beginning of a frame in each stream that is left.
struct Hoarder {
    bare: BarePeer,
    hello: Vec<u8>,
    artifacts: Vec<Artifact>,
    line: Option<LineId>,
    streams: Vec<(StreamId, StreamDecoder)>,
    answers: Vec<Answer>,
    /// Streams of updates to be written, in this order.
    unsaid: VecDeque<Vec<u8>>,
    /// The last of them, for when there is nothing more to be sent of what is there.
    inventions: Option<Vec<u8>>,
}

impl Hoarder {
    fn install(subnet: &mut Subnet<Nothing>, config: &Config, at: usize) {
        let (members, start) = (subnet.members(), subnet.start_instant());
        let mut transport = TransportConfig::default();
        transport.max_concurrent_uni_streams(128_u32.into()).mtu_discovery_config(None);
        let mut bare = BarePeer::new(
            subnet.key(at).clone(),
            &subnet.topology(0..members),
            &config.transport,
            transport,
            subnet.crypto(),
            at as u64,
            start,
        );
        bare.stop_dialling();
        let artifact = |number| {
            let mut bytes = vec![at as u8; LENGTH];
            bytes[0] = number as u8;
            Artifact::new(bytes.into(), b"hoarded").expect("within the limits")
        };
        let artifacts: Vec<Artifact> = (0..ARTIFACTS).map(artifact).collect();
        let hello = config.channels.iter().map(channel_hello).collect();
        let hoarder = Self {
            bare,
            hello: frames::hello(1, hello, Vec::new()),
            unsaid: updates(at, &artifacts),
            inventions: Some(inventions(at)),
            artifacts,
            line: None,
            streams: Vec::new(),
            answers: Vec::new(),
        };
        subnet.install(at, Box::new(hoarder));
    }

    fn say(&mut self, line: LineId, bytes: Vec<u8>, finish: bool) -> Option<StreamId> {
        let stream = self.bare.open(line)?;
        self.bare.write(line, stream, bytes, finish);
        Some(stream)
    }

    fn listen(&mut self, line: LineId) {
        let (streams, mut requests) = (&mut self.streams, Vec::new());
        self.bare.read(line, None, |stream, bytes| {
            let Some(mut bytes) = bytes else {
                return streams.retain(|(known, _)| *known != stream);
            };
            if !streams.iter().any(|(known, _)| *known == stream) {
                streams.push((stream, StreamDecoder::new(1 << 20)));
            }
            let decoder = streams.iter_mut().find(|(known, _)| *known == stream);
            let (_, decoder) = decoder.expect("it is here by now");
            while let Ok(Some(item)) = decoder.next(&mut bytes) {
                let Item::Frame { kind, body } = item else { continue };
                requests.extend(Request::decode(kind, body).ok().flatten());
            }
        });
        for request in requests {
            let Request::Fetch { request, id, ranges, .. } = request else { continue };
            let found = self.artifacts.iter().position(|artifact| artifact.id() == id);
            let Some(artifact) = found else { continue };
            let chunks = ranges.iter().flat_map(|range| range.first..range.first + range.count);
            let chunks = chunks.collect();
            self.answers.push(Answer { request, stream: None, artifact, chunks });
        }
    }

    /// Goes on with the answers, then with the updates, then with what stays unfinished.
    fn speak(&mut self, now: Time, line: LineId) {
        for answer in &mut self.answers {
            answer.stream = answer.stream.or_else(|| {
                let stream = self.bare.open(line)?;
                let head = frames::stream(StreamHead::Chunks(answer.request), &[]);
                self.bare.write(line, stream, head, false);
                Some(stream)
            });
            let Some(stream) = answer.stream else { break };
            while let Some(chunk) = answer.chunks.front() {
                let frame = frames::chunk(&self.artifacts[answer.artifact], *chunk);
                let is_last = answer.chunks.len() == 1;
                if !self.bare.write(line, stream, frame, is_last) {
                    break;
                }
                answer.chunks.pop_front();
            }
        }
        self.answers.retain(|answer| !answer.chunks.is_empty());
        let has_sent_all = now >= Time::ZERO + SENDS_FOR;
        self.unsaid.extend(self.inventions.take_if(|_| has_sent_all));
        while let Some(bytes) = self.unsaid.front().cloned() {
            if self.say(line, bytes, true).is_none() {
                break;
            }
            self.unsaid.pop_front();
        }
        if self.unsaid.is_empty() && has_sent_all {
            let mut push = frames::push(0, 1 << 20, b"", &vec![7; PUSH_BYTES as usize]);
            push.pop();
            let begun = frames::updates(CHANNEL, &[&push]);
            while self.say(line, begun.clone(), false).is_some() {}
        }
    }
}

/// That this member has all chunks but the last of artifacts, in slots from `first` on.
fn parts(first: u32, adverts: impl Iterator<Item = Advert>) -> Vec<u8> {
    let have = || 0..CHUNKS_PREFERRED_MAX - 1;
    let told: Vec<_> = (first..)
        .zip(adverts)
        .map(|(slot, advert)| frames::partial(slot, 1, 1, (false, false), &advert, have()))
        .collect();
    told.concat()
}

/// What a hoarder says at first: of artifacts that are there, and what it pushes.
fn updates(at: usize, artifacts: &[Artifact]) -> VecDeque<Vec<u8>> {
    let snapshot = frames::snapshot(0, &[]);
    let there = parts(0, artifacts.iter().map(|artifact| artifact.advert()));
    let pushes = (SLOTS - PUSHES..SLOTS).map(|slot| {
        let mut bytes = vec![slot as u8; PUSH_BYTES as usize];
        bytes[0] = at as u8;
        frames::updates(CHANNEL, &[&frames::push(slot, 1, b"", &bytes)])
    });
    core::iter::once(frames::updates(CHANNEL, &[&snapshot, &there])).chain(pushes).collect()
}

/// What it says once it has sent what there was room for: of artifacts that are not there.
fn inventions(at: usize) -> Vec<u8> {
    let advert = |number: u32| {
        let mut root = [number as u8; 32];
        root[0] = at as u8;
        Advert {
            length: LENGTH as u64,
            key: None,
            publisher: None,
            metadata: Metadata::new(),
            root,
        }
    };
    frames::updates(CHANNEL, &[&parts(ARTIFACTS, (ARTIFACTS..SLOTS - PUSHES).map(advert))])
}

impl Process for Hoarder {
    fn handle_datagram(&mut self, now: Time, from: SocketAddr, ecn: Option<Ecn>, datagram: &[u8]) {
        self.bare.handle_datagram(now, from, ecn, datagram);
    }

    fn poll(&mut self, now: Time, send: &mut dyn FnMut(SocketAddr, &[u8])) -> Time {
        loop {
            self.bare.serve(now);
            while let Some(event) = self.bare.next_event() {
                if let BareEvent::Connected { line, .. } = event {
                    let hello = self.hello.clone();
                    self.say(line, hello, true);
                    self.line = Some(line);
                }
            }
            if let Some(line) = self.line {
                self.listen(line);
                self.speak(now, line);
            }
            if !self.bare.transmit(now, send) {
                return self.bare.wake_at().min(now + Duration::from_secs(1));
            }
        }
    }
}

/// The application takes nothing meanwhile.
#[test]
fn l13_transfers_that_lack_one_chunk_each_stay_within_the_bound() {
    meter::reset();
    let config = config();
    let setup = Setup::new(&config, 1 + HOARDERS).link(Link::new(Duration::from_millis(5)));
    let mut subnet = Subnet::stopped(setup, Nothing);
    subnet.set_scope(METER.enter);
    (1..=HOARDERS).for_each(|at| Hoarder::install(&mut subnet, &config, at));
    subnet.start(VICTIM);
    subnet.deafen(VICTIM, Duration::from_secs(600));
    let bound = config.memory_bound();
    let mut most = 0;
    for _ in 0..60 {
        subnet.elapse(Duration::from_millis(500));
        most = most.max((METER.held)(VICTIM));
        assert!(most <= bound, "{most} bytes, of at most {bound}");
    }
    let percent = 100 * most / bound;
    println!("{most} bytes, {percent} % of the bound of {bound}");
    assert!(percent >= 55, "{most} bytes, {percent} % of the bound of {bound}");
}
