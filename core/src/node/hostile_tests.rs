//! Members that break the rules: a bare QUIC endpoint with a member's key, which writes into its
//! streams whatever a test wants, against a node that has an honest peer beside it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use std::vec;
use std::vec::Vec;

use bytes::{Bytes, BytesMut};
use quinn_proto::{Dir, StreamId, TransportConfig as QuicTransport};

use super::crypto::Crypto;
use super::{Closed, Node, NodeEvent, NodeKey, Output};
use crate::artifact::{Advert, Artifact, CHUNK_BYTES};
use crate::broadcast::Event;
use crate::config::{ChannelConfig, Config};
use crate::error::Fault;
use crate::id::{ChannelId, NodeId};
use crate::membership::Topology;
use crate::sim::hostile::bare::{BareEvent, BarePeer, LineId};
use crate::sim::hostile::frames::{self, chunk, frame, stream};
use crate::time::Time;
use crate::wire::{
    ChannelHello, HELLO_BYTES_MAX, Hello, Item, Malformed, Refusal, Request, StreamDecoder,
    StreamHead, put_varint,
};

const CHANNEL: ChannelId = ChannelId(1);
const LATENCY: Duration = Duration::from_millis(10);

/// What is done wrong, as bytes of a stream, and the rule that it breaks.
type Breach = (&'static str, Vec<u8>, Fault);

/// What the hostile member does.
type Act = fn(&mut Arena);

/// What it answers when asked for one artifact, having another one, too.
type Answer = fn(&Artifact, &Artifact) -> Vec<u8>;

fn config() -> Config {
    let mut channel = ChannelConfig::new(CHANNEL);
    channel.slots_max = 16;
    channel.artifact_bytes_max = 1 << 20;
    channel.push_bytes_max = 1000;
    Config::new([channel])
}

fn artifact(number: u8, length: usize) -> Artifact {
    Artifact::new(vec![number; length].into(), &[number]).unwrap()
}

fn address(at: usize) -> SocketAddr {
    ([10, 0, 0, at as u8], 4000).into()
}

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// The member that breaks the rules. One connection at a time.
struct Hostile {
    bare: BarePeer,
    line: Option<LineId>,
    /// Of each stream of the victim, what has arrived.
    read: BTreeMap<StreamId, Vec<u8>>,
    reads: bool,
    is_lost: bool,
}

impl Hostile {
    fn new(bare: BarePeer) -> Self {
        Self { bare, line: None, read: BTreeMap::new(), reads: true, is_lost: false }
    }

    fn id(&self) -> NodeId {
        self.bare.id()
    }

    fn forget(&mut self) {
        self.line = None;
        self.read.clear();
        self.is_lost = false;
    }

    fn line(&self) -> LineId {
        self.line.expect("connected")
    }

    fn open(&mut self) -> Option<StreamId> {
        self.bare.open(self.line())
    }

    /// Writes into a stream, as far as credit goes, and ends it if that is wanted.
    fn write(&mut self, stream: StreamId, bytes: &[u8], finish: bool) {
        self.bare.write(self.line(), stream, Bytes::copy_from_slice(bytes), finish);
    }

    fn reset(&mut self, stream: StreamId) {
        self.bare.reset(self.line(), stream);
    }

    fn poll(&mut self, now: Time, send: &mut dyn FnMut(SocketAddr, &[u8])) -> Time {
        loop {
            self.bare.serve(now);
            while let Some(event) = self.bare.next_event() {
                match event {
                    BareEvent::Connected { line, .. } => {
                        self.forget();
                        self.line = Some(line);
                    }
                    BareEvent::Lost { line } => self.is_lost |= self.line == Some(line),
                    BareEvent::Stopped { .. } => {}
                }
            }
            if let Some(line) = self.line.filter(|_| self.reads) {
                self.bare.read(line, None, |stream, bytes| {
                    self.read.entry(stream).or_default().extend(bytes.unwrap_or_default());
                });
            }
            if !self.bare.transmit(now, send) {
                return self.bare.wake_at();
            }
        }
    }

    /// The requests of the victim, in no particular order.
    fn requests(&self) -> Vec<Request> {
        let mut requests = Vec::new();
        for mut bytes in self.read.values().map(Vec::as_slice) {
            let mut decoder = StreamDecoder::new(1 << 20);
            let mut is_requests = false;
            while let Some(item) = decoder.next(&mut bytes).unwrap() {
                match item {
                    Item::Head(head) => is_requests = head == StreamHead::Requests,
                    Item::Frame { kind, body } if is_requests => {
                        requests.extend(Request::decode(kind, body).unwrap());
                    }
                    Item::Frame { .. } => {}
                }
            }
        }
        requests
    }
}

/// Places and addresses of the three.
const VICTIM: usize = 0;
const HONEST: usize = 1;
const HOSTILE: usize = 2;

struct Arena {
    now: Time,
    nodes: [Node; 2],
    wake_at: [Time; 2],
    hostile: Hostile,
    hostile_wake_at: Time,
    in_flight: BTreeMap<(Time, u64), (usize, usize, BytesMut)>,
    sequence: u64,
    /// What the victim has reported of the hostile peer, since the test took it.
    told: Vec<NodeEvent>,
    /// Artifacts delivered to the victim and to its honest peer, with their senders.
    delivered: [Vec<(Artifact, NodeId)>; 2],
    number: u8,
}

impl Arena {
    /// The hostile member dials the victim, when the test says so.
    fn new() -> Self {
        Self::with(true, QuicTransport::default())
    }

    fn with(dials: bool, transport: QuicTransport) -> Self {
        #[allow(clippy::disallowed_methods, reason = "an arbitrary origin")]
        let start = Instant::now();
        let mut keys: Vec<_> = (1..=3).map(|seed| NodeKey::from_seed([seed; 32])).collect();
        keys.sort_by_key(NodeKey::id);
        let hostile = keys.remove(if dials { 0 } else { 2 });
        let ids = [keys[VICTIM].id(), keys[HONEST].id(), hostile.id()];
        let members = ids.iter().enumerate().map(|(at, id)| (*id, vec![address(at)]));
        let topology = Topology::new(1, members).unwrap();
        let node = |at: usize| {
            let (key, topology) = (keys[at].clone(), topology.clone());
            Node::new(config(), key, topology, [at as u8 + 1; 32], start).unwrap()
        };
        let (settings, crypto) = (config().transport, Crypto::Tls);
        let mut bare = BarePeer::new(hostile, &topology, &settings, transport, crypto, 9, start);
        bare.stop_dialling();
        let mut arena = Self {
            now: Time::ZERO,
            nodes: [node(VICTIM), node(HONEST)],
            wake_at: [Time::ZERO; 2],
            hostile: Hostile::new(bare),
            hostile_wake_at: Time::NEVER,
            in_flight: BTreeMap::new(),
            sequence: 0,
            told: Vec::new(),
            delivered: [Vec::new(), Vec::new()],
            number: 200,
        };
        arena.run_until("the honest ones meet", |arena| {
            arena.nodes.iter().all(|node| node.peers_up().count() > 0)
        });
        arena
    }

    /// A connected hostile member that has said hello like any other, and nothing more.
    fn greeted() -> Self {
        let mut arena = Self::new();
        arena.dial();
        arena.write(&hello());
        arena.run_until("it is up", Self::is_up);
        arena.elapse(ms(100));
        assert_eq!(arena.take_told(), [NodeEvent::Up { peer: arena.hostile.id() }]);
        arena
    }

    fn dial(&mut self) {
        // As a restarted process would, without a word to the connection before.
        self.hostile.bare.restart(self.now);
        self.dial_again();
    }

    /// Makes one more connection, which is the one from then on.
    fn dial_again(&mut self) {
        self.hostile.forget();
        let victim = self.nodes[VICTIM].id();
        self.hostile.bare.dial(self.now, victim).expect("a member");
        self.run_until("the handshake is over", |arena| arena.hostile.line.is_some());
    }

    /// Writes a whole stream.
    fn write(&mut self, bytes: &[u8]) -> StreamId {
        let stream = self.hostile.open().expect("stream credit");
        self.hostile.write(stream, bytes, true);
        stream
    }

    fn is_up(&self) -> bool {
        let id = self.hostile.id();
        self.nodes[VICTIM].peers_up().any(|peer| peer == id)
    }

    fn take_told(&mut self) -> Vec<NodeEvent> {
        std::mem::take(&mut self.told)
    }

    fn fault(&self, fault: Fault) -> NodeEvent {
        NodeEvent::Fault { peer: self.hostile.id(), fault, count: 1 }
    }

    fn down(&self, why: Closed) -> NodeEvent {
        NodeEvent::Down { peer: self.hostile.id(), why }
    }

    fn faults(&self) -> u64 {
        self.nodes[VICTIM].stats().faults
    }

    fn send(&mut self, from: usize, to: SocketAddr, bytes: BytesMut) {
        let to = (0..3).find(|at| address(*at) == to).expect("a member's address");
        // The honest peer and the hostile one have nothing to do with each other.
        if from == VICTIM || to == VICTIM {
            self.sequence += 1;
            self.in_flight.insert((self.now + LATENCY, self.sequence), (from, to, bytes));
        }
    }

    fn poll_node(&mut self, at: usize) {
        let mut buffer = Vec::new();
        loop {
            match self.nodes[at].poll(self.now, 1, &mut buffer) {
                Output::Transmit(transmit) => {
                    self.send(at, transmit.destination, BytesMut::from(&buffer[..]));
                }
                Output::Idle { wake_at, .. } => {
                    self.wake_at[at] = wake_at;
                    let mut any = false;
                    while let Some(event) = self.nodes[at].poll_event(CHANNEL) {
                        any = true;
                        if let Event::Delivered { artifact, from } = event {
                            self.delivered[at].push((artifact, from));
                        }
                    }
                    if !any {
                        break;
                    }
                }
            }
        }
        let honest = self.nodes[HONEST].id();
        while let Some(event) = self.nodes[at].poll_node_event() {
            if at == VICTIM && event != (NodeEvent::Up { peer: honest }) {
                self.told.push(event);
            }
        }
    }

    fn step(&mut self) {
        while let Some(entry) = self.in_flight.first_entry()
            && entry.key().0 <= self.now
        {
            let (from, to, bytes) = entry.remove();

            match to {
                HOSTILE => self.hostile.bare.handle_datagram(self.now, address(from), None, &bytes),
                at => {
                    let length = bytes.len();
                    self.nodes[at].handle_datagrams(
                        self.now,
                        address(from),
                        None,
                        None,
                        length,
                        &bytes,
                    );
                }
            }
        }
        (0..2).for_each(|at| self.poll_node(at));
        let mut sent = Vec::new();
        let mut send = |to, bytes: &[u8]| sent.push((to, BytesMut::from(bytes)));
        self.hostile_wake_at = self.hostile.poll(self.now, &mut send);
        sent.into_iter().for_each(|(to, bytes)| self.send(HOSTILE, to, bytes));
    }

    fn run(&mut self, end: Time, is_done: impl Fn(&Self) -> bool) -> bool {
        let mut steps = 0;
        loop {
            self.step();
            if is_done(self) {
                return true;
            }
            let arrival = self.in_flight.first_key_value().map_or(Time::NEVER, |(key, _)| key.0);
            let wake_at = self.wake_at[0].min(self.wake_at[1]).min(self.hostile_wake_at);
            let next = arrival.min(wake_at);
            if next > end {
                return false;
            }
            steps = if next <= self.now { steps + 1 } else { 0 };
            assert!(steps < 10_000, "time stands still at {:?}", self.now);
            self.now = self.now.max(next);
        }
    }

    fn run_until(&mut self, what: &str, is_done: impl Fn(&Self) -> bool) -> Duration {
        let begun = self.now;
        assert!(self.run(begun + ms(10_000), is_done), "not within 10 s: {what}, {:?}", self.told);
        self.now.since(begun)
    }

    fn elapse(&mut self, span: Duration) {
        let end = self.now + span;
        self.run(end, |_| false);
        self.now = end;
    }

    /// Victim and honest peer still do for each other what they are there for, at once.
    fn assert_unharmed(&mut self) {
        for at in [VICTIM, HONEST] {
            self.number += 1;
            for block in [artifact(self.number, 500), artifact(self.number, 200_000)] {
                self.nodes[at].publish(CHANNEL, block.clone()).unwrap();
                let took = self.run_until("delivered", |arena| {
                    arena.delivered[1 - at].iter().any(|(artifact, _)| artifact.id() == block.id())
                });
                assert!(took < ms(150), "{took:?}");
                assert!(self.nodes[at].abort(CHANNEL, &block.id()));
            }
        }
        self.elapse(ms(100));
        let stats = self.nodes[HONEST].stats();
        assert_eq!((stats.faults, stats.connections), (0, 1));
    }

    /// Whether the victim was brought the artifact, and by whom.
    fn bringer(&self, block: &Artifact) -> Option<NodeId> {
        let mut delivered = self.delivered[VICTIM].iter();
        delivered.find(|(artifact, _)| artifact.id() == block.id()).map(|(_, from)| *from)
    }
}

fn hello() -> Vec<u8> {
    let channel = ChannelHello {
        id: CHANNEL,
        slots_max: 16,
        artifact_bytes_max: 1 << 20,
        push_bytes_max: 1000,
        relay_hops_max: 4,
    };
    let mut bytes = Vec::new();
    let channels = vec![channel];
    Hello { incarnation: 1, channels, ..Hello::default() }.encode(&mut bytes);
    bytes
}

fn head(head: StreamHead) -> Vec<u8> {
    let mut bytes = Vec::new();
    head.encode(&mut bytes);
    bytes
}

fn updates(frames: &[&[u8]]) -> Vec<u8> {
    frames::updates(CHANNEL, frames)
}

fn request(request: &Request) -> Vec<u8> {
    let mut bytes = Vec::new();
    request.encode(&mut bytes);
    bytes
}

fn push(slot: u32, version: u64, bytes: &[u8]) -> Vec<u8> {
    frames::push(slot, version, b"", bytes)
}

fn advert_of(slot: u32, hops: u8, streamed: bool, advert: &Advert) -> Vec<u8> {
    frames::advert(slot, 1, hops, streamed, advert)
}

fn snapshot(live: &[u8]) -> Vec<u8> {
    frames::snapshot(1, live)
}

/// A stream that is cut off in the middle of a frame.
fn cut(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.pop();
    bytes
}

fn long_advert(length: u64, metadata: usize) -> Vec<u8> {
    let mut body = vec![0, 1, 0, 0];
    put_varint(&mut body, length);
    put_varint(&mut body, metadata as u64);
    body.resize(body.len() + metadata + 32, 7);
    frame(2, &body)
}

/// What breaks a rule in a stream after the hello.
fn breaches() -> Vec<Breach> {
    use Malformed::{FrameTooLong, Misplaced, OutOfRange, Trailing, Truncated};
    let block = artifact(1, 3 * CHUNK_BYTES);
    let id = block.id();
    let fetch = Request::Fetch { request: 1, channel: CHANNEL, id, first: 0, count: 1 };
    let requests = |frames: &[&[u8]]| stream(StreamHead::Requests, frames);
    let malformed = Fault::Malformed;
    vec![
        ("another hello", hello(), Fault::HelloMisplaced),
        ("an empty stream", vec![], malformed(Truncated)),
        ("half a head", vec![1], malformed(Truncated)),
        ("a channel beyond 16 bits", vec![1, 0x80, 1, 0, 0], malformed(OutOfRange)),
        ("half a frame", cut(updates(&[&push(0, 1, &[1])])), malformed(Truncated)),
        ("a clear without version", updates(&[&frame(0, &[0])]), malformed(Truncated)),
        ("a clear of version 0", updates(&[&frame(0, &[0, 0])]), malformed(OutOfRange)),
        ("a clear and more", updates(&[&frame(0, &[0, 1, 1])]), malformed(Trailing)),
        (
            "a push of long metadata",
            updates(&[&frame(1, &[[0, 1, 0x40, 129].as_slice(), &[0; 200]].concat())]),
            malformed(OutOfRange),
        ),
        (
            "a push of less metadata than said",
            updates(&[&frame(1, &[0, 1, 9, 1])]),
            malformed(Truncated),
        ),
        (
            "an advert without root",
            updates(&[&frame(2, &[0, 1, 0, 0, 9, 0])]),
            malformed(Truncated),
        ),
        (
            "an advert beyond a tebibyte",
            updates(&[&long_advert((1 << 40) + 1, 0)]),
            malformed(OutOfRange),
        ),
        ("an advert of long metadata", updates(&[&long_advert(9, 129)]), malformed(OutOfRange)),
        ("a frame too long", updates(&[&push(0, 1, &[1; 5000])]), malformed(FrameTooLong)),
        ("a request among updates", updates(&[&request(&fetch)]), malformed(Misplaced)),
        ("a chunk among updates", updates(&[&chunk(&block, 0)[..8]]), malformed(FrameTooLong)),
        ("a small chunk among updates", updates(&[&frame(16, &[0, 0])]), malformed(Misplaced)),
        ("a field of hello among updates", updates(&[&frame(32, &[0])]), malformed(Misplaced)),
        ("an update among requests", requests(&[&frame(0, &[0, 1])]), malformed(Misplaced)),
        (
            "a fetch of no chunk",
            requests(&[&frame(8, &[[1, 1, 0, 0].as_slice(), &[0; 32]].concat())]),
            malformed(OutOfRange),
        ),
        ("a fetch without id", requests(&[&frame(8, &[1, 1, 0, 1])]), malformed(Truncated)),
        ("a long request", requests(&[&frame(9, &[0; 200])]), malformed(FrameTooLong)),
        ("a slot beyond the bound", updates(&[&push(16, 1, &[1])]), Fault::SlotBeyondBound),
        ("a clear beyond the bound", updates(&[&frame(0, &[16, 1])]), Fault::SlotBeyondBound),
        ("a snapshot beyond the bound", updates(&[&snapshot(&[0, 0, 1])]), Fault::SlotBeyondBound),
        ("a long push", updates(&[&push(0, 1, &[1; 1001])]), Fault::PushTooLong),
        ("a long artifact", updates(&[&long_advert((1 << 20) + 1, 0)]), Fault::ArtifactTooLong),
        (
            "a second snapshot",
            updates(&[&snapshot(&[0]), &snapshot(&[0])]),
            Fault::SnapshotRepeated,
        ),
        (
            "too many hops",
            updates(&[&advert_of(0, 5, false, block.advert())]),
            Fault::HopsBeyondBound,
        ),
        (
            "a streamed relay",
            updates(&[&advert_of(0, 1, true, block.advert())]),
            Fault::StreamedRelay,
        ),
        (
            "a streamed lie",
            updates(&[
                &advert_of(0, 0, true, block.advert()),
                &chunk(&artifact(2, 3 * CHUNK_BYTES), 0),
            ]),
            Fault::WrongChunk,
        ),
        (
            "a streamed chunk out of turn",
            updates(&[&advert_of(0, 0, true, block.advert()), &chunk(&block, 1)]),
            Fault::UnrequestedChunk,
        ),
    ]
}

#[test]
fn each_breach_is_one_fault_that_names_the_rule_and_harms_no_one() {
    for (what, bytes, fault) in breaches() {
        let mut arena = Arena::greeted();
        arena.write(&bytes);
        arena.elapse(ms(100));
        assert_eq!(arena.take_told(), [arena.fault(fault)], "{what}");
        assert_eq!(arena.faults(), 1, "{what}");
        // One is forgiven: what it sends afterwards counts.
        assert!(arena.is_up(), "{what}");
        arena.write(&updates(&[&push(7, 99, b"all right")]));
        arena.elapse(ms(100));
        assert_eq!(arena.delivered[VICTIM].len(), 1, "{what}");
    }
    let mut arena = Arena::greeted();
    arena.write(&breaches()[4].1);
    arena.assert_unharmed();
}

#[test]
fn nothing_of_a_stream_after_the_breach_is_applied_and_all_before_it_is() {
    let mut arena = Arena::greeted();
    let bad = frame(0, &[0, 0]);
    arena.write(&updates(&[&push(1, 1, b"before"), &bad, &push(2, 2, b"after")]));
    arena.elapse(ms(100));
    let delivered: Vec<_> =
        arena.delivered[VICTIM].iter().map(|(artifact, _)| artifact.bytes().clone()).collect();
    assert_eq!(delivered, [Bytes::from_static(b"before")]);
}

#[test]
fn l12_what_a_later_version_may_bring_is_passed_over() {
    let none = Request::Fetch {
        request: 1,
        channel: ChannelId(9),
        id: artifact(1, 10).id(),
        first: 0,
        count: 1,
    };
    let unknown = [frame(3, &[1; 40]), frame(99, &[]), frame(1 << 40, &[1; 70_000])].concat();
    let harmless = [
        ("an unknown stream", stream(StreamHead::Unknown(77), &[&[0xff; 5000]])),
        ("unknown frames among updates", updates(&[&unknown, &push(1, 1, b"after")])),
        ("unknown frames among requests", stream(StreamHead::Requests, &[&unknown])),
        (
            "a channel that there is not",
            stream(StreamHead::Updates(ChannelId(9)), &[&[0xff; 5000]]),
        ),
        (
            "chunks that nobody asked for",
            stream(StreamHead::Chunks(5), &[&chunk(&artifact(1, 10), 0)]),
        ),
        ("what is not held", stream(StreamHead::Requests, &[&request(&none)])),
        (
            "the end of nothing",
            stream(StreamHead::Requests, &[&request(&Request::Cancel { request: 3 })]),
        ),
        (
            "no to nothing",
            stream(
                StreamHead::Requests,
                &[&request(&Request::Refuse { request: 3, refusal: Refusal::Other(50) })],
            ),
        ),
        ("only a head", head(StreamHead::Updates(CHANNEL))),
        ("a clear of what never was", updates(&[&frame(0, &[3, 5])])),
    ];
    let mut arena = Arena::greeted();
    for (what, bytes) in harmless {
        arena.write(&bytes);
        arena.elapse(ms(100));
        assert_eq!((arena.take_told(), arena.faults()), (vec![], 0), "{what}");
        assert!(arena.is_up(), "{what}");
    }
    assert_eq!(arena.delivered[VICTIM].len(), 1, "behind the unknown frames");
    let refused = Request::Refuse { request: 1, refusal: Refusal::NotHeld };
    assert_eq!(arena.hostile.requests(), [refused]);
    arena.assert_unharmed();
}

#[test]
fn a_bad_first_stream_ends_the_connection_at_once() {
    use Malformed::{FrameTooLong, Misplaced, Repeated, Truncated};
    let malformed = Fault::Malformed;
    let field = |frames: &[&[u8]]| stream(StreamHead::Hello, frames);
    let channel = frame(34, &[1, 16, 16, 16, 4]);
    let many: Vec<_> = (0..65_u16)
        .map(|at| {
            let mut body = Vec::new();
            put_varint(&mut body, at.into());
            body.extend_from_slice(&[1, 1, 1, 1]);
            frame(34, &body)
        })
        .collect();
    let padding = frame(77, &[0; 1000]).repeat(HELLO_BYTES_MAX / 1000 + 1);
    for (what, bytes, fault) in [
        ("updates", updates(&[&push(0, 1, b"early")]), Fault::HelloMisplaced),
        ("requests", head(StreamHead::Requests), Fault::HelloMisplaced),
        ("chunks", head(StreamHead::Chunks(1)), Fault::HelloMisplaced),
        ("an unknown stream", vec![77, 1, 2, 3], Fault::HelloMisplaced),
        ("nothing", vec![], malformed(Truncated)),
        ("half a hello", cut(hello()), malformed(Truncated)),
        ("a huge hello", field(&[&padding]), malformed(FrameTooLong)),
        ("a huge field", field(&[&frame(34, &[1; 1100])]), malformed(FrameTooLong)),
        ("a channel twice", field(&[&channel, &channel]), malformed(Repeated)),
        ("65 channels", field(&[&many.concat()]), malformed(Repeated)),
        ("an update in it", field(&[&push(0, 1, b"")]), malformed(Misplaced)),
        ("half a number", field(&[&frame(32, &[0x40])]), malformed(Truncated)),
    ] {
        let mut arena = Arena::new();
        arena.dial();
        arena.write(&bytes);
        // What comes behind it is not looked at.
        arena.write(&updates(&[&push(1, 1, b"late")]));
        arena.run_until(what, |arena| arena.hostile.is_lost);
        assert_eq!(arena.take_told(), [arena.fault(fault)], "{what}");
        assert_eq!((arena.faults(), arena.nodes[VICTIM].stats().refused), (1, 1), "{what}");
        assert_eq!(arena.delivered[VICTIM].len(), 0, "{what}");
        // It may try again, and do better.
        arena.dial();
        arena.write(&hello());
        arena.run_until("it is up", Arena::is_up);
    }
}

#[test]
fn without_a_complete_hello_a_connection_ends_after_a_while() {
    let unfinished: [(&str, Act); 4] = [
        ("nothing at all", |_| {}),
        ("a hello without end", |arena| {
            let stream = arena.hostile.open().unwrap();
            arena.hostile.write(stream, &hello(), false);
        }),
        ("a hello that is reset", |arena| {
            let stream = arena.hostile.open().unwrap();
            arena.hostile.write(stream, &hello(), false);
            arena.elapse(ms(50));
            arena.hostile.reset(stream);
        }),
        ("everything but a hello", |arena| {
            let first = arena.hostile.open().unwrap();
            arena.hostile.write(first, &hello()[..3], false);
            while let Some(stream) = arena.hostile.open() {
                let frames = updates(&[&push(1, stream.index(), &[1; 900])]);
                arena.hostile.write(stream, &frames, true);
            }
        }),
    ];
    for (what, act) in unfinished {
        let mut arena = Arena::new();
        arena.dial();
        act(&mut arena);
        arena.assert_unharmed();
        let took = arena.run_until(what, |arena| arena.hostile.is_lost);
        assert!(took > ms(4000) && took < ms(5100), "{what}: {took:?}");
        assert_eq!(arena.take_told(), [], "{what}");
        let stats = arena.nodes[VICTIM].stats();
        assert_eq!((stats.faults, stats.refused, stats.connections), (0, 1, 1), "{what}");
        assert!(arena.delivered[VICTIM].iter().all(|(artifact, _)| artifact.bytes().len() != 900));
    }
}

#[test]
fn streams_that_overtake_the_hello_are_read_after_it() {
    let mut arena = Arena::new();
    arena.dial();
    let first = arena.hostile.open().unwrap();
    arena.write(&updates(&[&push(1, 1, b"early")]));
    let open = arena.hostile.open().unwrap();
    arena.hostile.write(open, &updates(&[&push(2, 2, b"in pieces")])[..5], false);
    arena.elapse(ms(200));
    assert!(!arena.is_up() && arena.delivered[VICTIM].is_empty());
    arena.hostile.write(open, &updates(&[&push(2, 2, b"in pieces")])[5..], true);
    arena.elapse(ms(200));
    arena.hostile.write(first, &hello(), true);
    arena.elapse(ms(100));
    assert!(arena.is_up());
    assert_eq!((arena.delivered[VICTIM].len(), arena.faults()), (2, 0));
}

#[test]
fn after_three_faults_a_member_is_cut_off_for_a_minute() {
    let mut arena = Arena::greeted();
    for _ in 0..2 {
        arena.write(&hello());
        arena.elapse(ms(100));
        assert_eq!(arena.take_told(), [arena.fault(Fault::HelloMisplaced)]);
    }
    arena.write(&hello());
    arena.elapse(ms(100));
    let expected = [arena.fault(Fault::HelloMisplaced), arena.down(Closed::CutOff)];
    assert_eq!(arena.take_told(), expected);
    assert_eq!((arena.faults(), arena.hostile.is_lost), (3, true));
    arena.assert_unharmed();

    // It comes back at once, and again, and is refused as long as that.
    for _ in 0..5 {
        arena.dial();
        arena.write(&hello());
        arena.write(&updates(&[&push(1, 1, b"let me in")]));
        arena.run_until("refused", |arena| arena.hostile.is_lost);
        arena.elapse(ms(11_000));
    }
    assert_eq!((arena.take_told(), arena.faults()), (vec![], 3));
    assert_eq!(arena.nodes[VICTIM].stats().refused, 5);
    arena.elapse(ms(6000));
    arena.dial();
    arena.write(&hello());
    arena.run_until("it is up", Arena::is_up);
    assert_eq!(arena.take_told(), [NodeEvent::Up { peer: arena.hostile.id() }]);
    arena.write(&hello());
    arena.elapse(ms(100));
    assert!(arena.is_up(), "the count begins anew");
}

#[test]
fn faults_in_one_burst_cut_off_once_and_are_not_held_against_it_afterwards() {
    let mut arena = Arena::greeted();
    for _ in 0..10 {
        arena.write(&hello());
    }
    arena.elapse(ms(100));
    let peer = arena.hostile.id();
    let fault = NodeEvent::Fault { peer, fault: Fault::HelloMisplaced, count: 3 };
    assert_eq!(arena.take_told(), [fault, arena.down(Closed::CutOff)]);
    assert_eq!(arena.faults(), 3);
    arena.elapse(ms(61_000));
    arena.dial();
    arena.write(&hello());
    arena.run_until("it is up", Arena::is_up);
    for _ in 0..2 {
        arena.write(&hello());
    }
    arena.elapse(ms(100));
    assert!(arena.is_up());
}

#[test]
fn a_listener_that_was_cut_off_is_not_dialled_for_a_minute() {
    let mut arena = Arena::with(false, QuicTransport::default());
    arena.run_until("it is dialled", |arena| arena.hostile.line.is_some());
    arena.write(&hello());
    arena.run_until("it is up", Arena::is_up);
    for _ in 0..3 {
        arena.write(&hello());
    }
    arena.run_until("it is cut off", |arena| arena.hostile.is_lost);
    assert_eq!(arena.take_told().last(), Some(&arena.down(Closed::CutOff)));
    arena.hostile.forget();
    arena.elapse(ms(59_000));
    assert!(arena.hostile.line.is_none());
    arena.run_until("it is dialled again", |arena| arena.hostile.line.is_some());
    arena.assert_unharmed();
}

/// An artifact that the hostile member advertises first and the honest one has, too; and the
/// victim's request to the hostile one.
fn asked(arena: &mut Arena) -> (Artifact, u64) {
    let block = artifact(1, 3 * CHUNK_BYTES);
    arena.write(&updates(&[&advert_of(0, 0, false, block.advert())]));
    arena.run_until("it is asked", |arena| !arena.hostile.requests().is_empty());
    let Request::Fetch { request, channel, id, first: 0, count: 3 } = arena.hostile.requests()[0]
    else {
        panic!("{:?}", arena.hostile.requests())
    };
    assert_eq!((channel, id), (CHANNEL, block.id()));
    arena.nodes[HONEST].publish(CHANNEL, block.clone()).unwrap();
    arena.elapse(ms(100));
    assert_eq!(arena.bringer(&block), None, "one at a time is asked");
    (block, request)
}

#[test]
fn l17_a_wrong_answer_is_a_fault_and_the_next_holder_is_asked_at_once() {
    let other = artifact(9, 3 * CHUNK_BYTES);
    let wrong: [(&str, Answer, Fault); 4] = [
        ("another artifact's", |_, other| chunk(other, 0), Fault::WrongChunk),
        ("out of turn", |block, _| chunk(block, 2), Fault::UnrequestedChunk),
        (
            "right, then wrong",
            |block, other| [chunk(block, 0), chunk(other, 1)].concat(),
            Fault::WrongChunk,
        ),
        ("no chunk", |_, _| frame(16, &[0]), Fault::Malformed(Malformed::Truncated)),
    ];
    for (what, answer, fault) in wrong {
        let mut arena = Arena::greeted();
        let (block, request) = asked(&mut arena);
        arena.write(&stream(StreamHead::Chunks(request), &[&answer(&block, &other)]));
        let took = arena.run_until(what, |arena| arena.bringer(&block).is_some());
        assert_eq!(arena.bringer(&block), Some(arena.nodes[HONEST].id()), "{what}");
        assert!(took < ms(250), "{what}: {took:?}");
        assert_eq!(arena.take_told(), [arena.fault(fault)], "{what}");
        arena.assert_unharmed();
    }
}

#[test]
fn a_holder_that_does_not_answer_is_passed_over_without_a_fault() {
    // Nothing; a bit and nothing more; the end too soon; a reset.
    for way in 0..4 {
        let mut arena = Arena::greeted();
        let (block, request) = asked(&mut arena);
        let begun = arena.now;
        if way > 0 {
            let stream = arena.hostile.open().unwrap();
            let bytes = frames::stream(StreamHead::Chunks(request), &[&chunk(&block, 0)]);
            arena.hostile.write(stream, &bytes, way == 2);
            if way == 3 {
                arena.elapse(ms(50));
                arena.hostile.reset(stream);
            }
        }
        arena.run_until("delivered", |arena| arena.bringer(&block).is_some());
        let took = arena.now.since(begun);
        assert_eq!(arena.bringer(&block), Some(arena.nodes[HONEST].id()));
        match way {
            0 | 1 => assert!(took > ms(1800) && took < ms(2200), "{way} {took:?}"),
            _ => assert!(took < ms(250), "{way} {took:?}"),
        }
        assert_eq!((arena.take_told(), arena.faults()), (vec![], 0));
        arena.elapse(ms(100));
        let cancel = Request::Cancel { request };
        assert!(way > 1 || arena.hostile.requests().contains(&cancel), "it need not go on");
    }
}

#[test]
fn what_is_never_served_is_not_waited_for_before_what_others_hold() {
    let mut arena = Arena::greeted();
    let block = artifact(1, 3 * CHUNK_BYTES);
    for slot in 1..16 {
        let never = artifact(100 + slot, 1);
        arena.write(&updates(&[&advert_of(slot.into(), 0, false, never.advert())]));
    }
    arena.elapse(ms(20));
    arena.write(&updates(&[&advert_of(0, 0, false, block.advert())]));
    arena.elapse(ms(20));
    arena.nodes[HONEST].publish(CHANNEL, block.clone()).unwrap();
    let took = arena.run_until("delivered", |arena| arena.bringer(&block).is_some());
    assert!(took < ms(2200), "{took:?}");
}

#[test]
fn an_answer_after_its_time_is_no_fault_and_not_taken() {
    let mut arena = Arena::greeted();
    let (block, request) = asked(&mut arena);
    arena.run_until("delivered", |arena| arena.bringer(&block).is_some());
    arena.write(&stream(StreamHead::Chunks(request), &[&chunk(&block, 0), &[0xff; 5000]]));
    arena.elapse(ms(200));
    assert_eq!((arena.take_told(), arena.faults()), (vec![], 0));
    assert!(arena.is_up());
}

#[test]
fn more_behind_a_complete_answer_is_stopped() {
    let mut arena = Arena::greeted();
    let (block, request) = asked(&mut arena);
    let all = (0..3).map(|at| chunk(&block, at)).collect::<Vec<_>>().concat();
    arena.write(&stream(StreamHead::Chunks(request), &[&all, &chunk(&block, 0)]));
    arena.elapse(ms(300));
    assert_eq!(arena.bringer(&block), Some(arena.hostile.id()));
    assert_eq!((arena.take_told(), arena.faults()), (vec![], 0));
}

#[test]
fn a_peer_that_allows_no_streams_is_not_taken_on() {
    let mut transport = QuicTransport::default();
    transport.max_concurrent_uni_streams(0_u32.into());
    let mut arena = Arena::with(true, transport);
    arena.dial();
    arena.run_until("it is refused", |arena| arena.hostile.is_lost);
    assert_eq!((arena.take_told(), arena.nodes[VICTIM].stats().refused), (vec![], 1));
    arena.assert_unharmed();
}

#[test]
fn bidirectional_streams_are_not_allowed() {
    let mut arena = Arena::greeted();
    let line = arena.hostile.line();
    let quic = arena.hostile.bare.quic(line).expect("connected");
    assert_eq!(quic.streams().open(Dir::Bi), None);
}

#[test]
fn l7_l20_a_peer_that_takes_nothing_is_given_nothing_more() {
    // Its credit: one stream; next to no bytes; or all there is, but it does not read.
    for way in 0..3 {
        let mut transport = QuicTransport::default();
        match way {
            0 => drop(transport.max_concurrent_uni_streams(1_u32.into())),
            1 => drop(transport.receive_window(300_u32.into())),
            _ => {}
        }
        let mut arena = Arena::with(true, transport);
        arena.hostile.reads = false;
        arena.dial();
        arena.write(&hello());
        arena.run_until("it is up", Arena::is_up);
        for round in 0..100 {
            let blocks = (0..8).map(|at| artifact(round, 700 + at));
            blocks.clone().for_each(|block| arena.nodes[VICTIM].publish(CHANNEL, block).unwrap());
            let begun = arena.delivered[HONEST].len();
            let took =
                arena.run_until("delivered", |arena| arena.delivered[HONEST].len() == begun + 8);
            assert!(took < ms(20), "{took:?}");
            for block in blocks {
                assert!(arena.nodes[VICTIM].abort(CHANNEL, &block.id()));
            }
        }
        assert!(arena.is_up(), "it may be slow");
        arena.assert_unharmed();
    }
}

#[test]
fn l8_half_open_streams_are_bounded_and_bother_no_one() {
    let mut arena = Arena::greeted();
    let starts = [
        head(StreamHead::Updates(CHANNEL)),
        vec![1],
        cut(updates(&[&push(1, 1, &[1; 900])])),
        cut(stream(StreamHead::Requests, &[&frame(9, &[1])])),
    ];
    let mut open = 0;
    for start in starts.iter().cycle() {
        let Some(stream) = arena.hostile.open() else { break };
        arena.hostile.write(stream, start, false);
        open += 1;
    }
    assert!((100..=128).contains(&open), "{open}");
    arena.elapse(ms(1000));
    assert_eq!(arena.hostile.open(), None);
    arena.assert_unharmed();
    assert_eq!((arena.take_told(), arena.faults(), arena.is_up()), (vec![], 0, true));
}

#[test]
fn storms_of_resets_bother_no_one() {
    let mut arena = Arena::greeted();
    let starts = [
        updates(&[&push(1, 1, &[1; 900])]),
        stream(StreamHead::Requests, &[&frame(9, &[1])]),
        stream(StreamHead::Chunks(3), &[&[16, 0x80]]),
        stream(StreamHead::Unknown(9), &[&[7; 100]]),
    ];
    let mut resets = 0;
    for round in 0..100 {
        let mut streams = Vec::new();
        while let Some(stream) = arena.hostile.open() {
            arena.hostile.write(stream, &cut(starts[streams.len() % 4].clone()), false);
            streams.push(stream);
        }
        // Some before anything has left, some after.
        if round % 2 == 0 {
            arena.elapse(ms(7));
        }
        for stream in streams {
            arena.hostile.reset(stream);
            resets += 1;
        }
        arena.elapse(ms(13));
    }
    assert!(resets > 1000, "{resets}");
    arena.assert_unharmed();
    assert_eq!((arena.take_told(), arena.faults(), arena.is_up()), (vec![], 0, true));
}

#[test]
#[ignore = "connections that never came up are kept for 3 s, any number of them"]
fn who_dials_and_hangs_up_leaves_nothing_behind() {
    let mut arena = Arena::new();
    let victim = arena.nodes[VICTIM].id();
    let limit = usize::from(config().transport.handshakes_max);
    for _ in 0..100 {
        for _ in 0..10 {
            assert!(arena.hostile.bare.ring(arena.now, victim));
        }
        arena.elapse(ms(20));
        let held = arena.nodes[VICTIM].connections.iter().flatten().count();
        assert!(held <= 1 + limit, "{held} connections at {:?}", arena.now);
    }
    arena.assert_unharmed();
}

#[test]
fn a_member_with_many_connections_has_one() {
    let mut arena = Arena::greeted();
    for round in 0..20 {
        arena.dial_again();
        arena.write(&hello());
        let version = 1 + round;
        arena.write(&updates(&[&snapshot(&[2]), &push(1, version, b"always the same")]));
        arena.elapse(ms(50));
        assert_eq!(arena.nodes[VICTIM].peers_up().count(), 2);
    }
    assert_eq!(arena.delivered[VICTIM].len(), 1);
    assert_eq!(arena.nodes[VICTIM].stats().connections, 22);
    assert_eq!(arena.take_told(), []);
    arena.assert_unharmed();
    let open = arena.nodes[VICTIM].connections.iter().flatten().filter(|c| c.is_open()).count();
    assert_eq!(open, 2, "{:?}", arena.nodes[VICTIM].stats());
}
