//! L13: what links share of windows and streams. Many peers, a third of which take all that they can.

#[path = "../examples/simulate/meter.rs"]
mod meter;

use std::any::Any;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use meter::METER;
use quinn_proto::congestion::{Controller, ControllerFactory};
use quinn_proto::{RttEstimator, StreamId, TransportConfig};
use slotcast::artifact::Artifact;
use slotcast::broadcast::Event;
use slotcast::config::{ChannelConfig, Config};
use slotcast::id::{ArtifactId, ChannelId};
use slotcast::internals::channel_hello;
use slotcast::node::Ecn;
use slotcast::time::Time;
use slotcast::wire::StreamHead;
use slotcast_sim::hostile::bare::{BareEvent, BarePeer, LineId};
use slotcast_sim::hostile::frames;
use slotcast_sim::{Application, Context, Link, Process, Setup, Subnet};

const CHANNEL: ChannelId = ChannelId(1);

/// The node whose memory is measured, and which all are connected to.
const VICTIM: usize = 0;

/// Members, the victim among them: as many as the allocator tells apart.
const MEMBERS: usize = 64;

/// A third of its peers.
const HOGS: usize = 21;

const LATENCY: Duration = Duration::from_millis(25);

/// Bytes in flight to the victim, whatever it loses.
const HOG_WINDOW: u64 = 1 << 20;

/// Of so many datagrams of a hog one is lost, so that its streams always have gaps.
const LOST_OF: u64 = 3;

/// The kind of an update that no version knows: it is passed over, however long it is.
const UNKNOWN_KIND: u64 = 7_001;

/// The application's part: which member has what.
#[derive(Default)]
struct Delivered(Vec<(usize, ArtifactId, Time)>);

impl Application for Delivered {
    fn handle_event(&mut self, context: &mut Context<'_>, _: ChannelId, event: Event) {
        if let Event::Delivered { artifact, .. } = event {
            self.0.push((context.at(), artifact.id(), context.time()));
        }
    }
}

/// Sends at the same rate whatever is lost.
#[derive(Debug)]
struct Stubborn;

impl Controller for Stubborn {
    fn on_congestion_event(&mut self, _: Instant, _: Instant, _: bool, _: u64) {}

    fn on_ack(&mut self, _: Instant, _: Instant, _: u64, _: bool, _: &RttEstimator) {}

    fn on_mtu_update(&mut self, _: u16) {}

    fn window(&self) -> u64 {
        HOG_WINDOW
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self)
    }

    fn initial_window(&self) -> u64 {
        HOG_WINDOW
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

impl ControllerFactory for Stubborn {
    fn build(self: Arc<Self>, _: Instant, _: u16) -> Box<dyn Controller> {
        Box::new(Self)
    }
}

/// Fills each stream that it may open with the body of an update that never ends, and loses a part of it.
struct Hog {
    bare: BarePeer,
    hello: Vec<u8>,
    line: Option<LineId>,
    streams: VecDeque<StreamId>,
    sent: u64,
}

impl Hog {
    fn install(subnet: &mut Subnet<Delivered>, config: &Config, at: usize) {
        let (members, start) = (subnet.members(), subnet.start_instant());
        let mut transport = TransportConfig::default();
        transport
            .max_concurrent_uni_streams(128_u32.into())
            .congestion_controller_factory(Arc::new(Stubborn))
            .mtu_discovery_config(None);
        let key = subnet.key(at).clone();
        let (topology, crypto) = (subnet.topology(0..members), subnet.crypto());
        let mut bare =
            BarePeer::new(key, &topology, &config.transport, transport, crypto, at as u64, start);
        bare.stop_dialling();
        let hello = config.channels.iter().map(channel_hello).collect();
        let hello = frames::hello(1, hello, Vec::new());
        let hog = Self { bare, hello, line: None, streams: VecDeque::new(), sent: 0 };
        subnet.install(at, Box::new(hog));
    }

    fn speak(&mut self, line: LineId) {
        self.bare.read(line, None, |_, _| {});
        while let Some(stream) = self.bare.open(line) {
            let mut start = frames::stream(StreamHead::Updates(CHANNEL), &[]);
            frames::put_varint(&mut start, UNKNOWN_KIND);
            frames::put_varint(&mut start, 1 << 40);
            self.bare.write(line, stream, start, false);
            self.streams.push_back(stream);
        }
        for _ in 0..self.streams.len() {
            let Some(stream) = self.streams.front().copied() else { break };
            if !self.bare.write(line, stream, vec![0; 2_000], false) {
                break;
            }
            self.streams.rotate_left(1);
        }
    }
}

impl Process for Hog {
    fn handle_datagram(&mut self, now: Time, from: SocketAddr, ecn: Option<Ecn>, datagram: &[u8]) {
        self.bare.handle_datagram(now, from, ecn, datagram);
    }

    fn poll(&mut self, now: Time, send: &mut dyn FnMut(SocketAddr, &[u8])) -> Time {
        loop {
            self.bare.serve(now);
            while let Some(event) = self.bare.next_event() {
                if let BareEvent::Connected { line, .. } = event {
                    let hello = self.hello.clone();
                    let stream = self.bare.open(line).expect("the first");
                    self.bare.write(line, stream, hello, true);
                    self.line = Some(line);
                }
            }
            if let Some(line) = self.line {
                self.speak(line);
            }
            let (sent, is_up) = (&mut self.sent, self.line.is_some());
            let mut lossy = |to: SocketAddr, datagram: &[u8]| {
                *sent += 1;
                if !is_up || *sent < 20 || *sent % LOST_OF > 0 {
                    send(to, datagram);
                }
            };
            if !self.bare.transmit(now, &mut lossy) {
                return self.bare.wake_at().min(now + Duration::from_secs(1));
            }
        }
    }
}

/// The default windows and pool, and little beside.
fn config() -> Config {
    let mut channel = ChannelConfig::new(CHANNEL);
    (channel.slots_max, channel.artifact_bytes_max) = (64, 1 << 20);
    (channel.active_bytes_max, channel.inbox_bytes_max) = (1 << 20, 16 << 20);
    let mut config = Config::new([channel]);
    config.peers_max = MEMBERS as u16 - 1;
    config
}

fn artifact(of: usize, number: u8, length: usize) -> Artifact {
    let mut bytes = vec![of as u8; length];
    bytes[0] = number;
    Artifact::new(bytes.into(), b"").expect("within the limits")
}

#[test]
fn l13_peers_that_take_all_they_can_keep_neither_memory_nor_honest_ones_from_the_others() {
    meter::reset();
    let config = config();
    let setup = Setup::new(&config, MEMBERS).link(Link::new(LATENCY));
    let mut subnet = Subnet::stopped(setup, Delivered::default());
    subnet.set_scope(METER.enter);
    let hogs = 1..=HOGS;
    let honest = HOGS + 1..MEMBERS;
    hogs.clone().for_each(|at| Hog::install(&mut subnet, &config, at));
    subnet.start(VICTIM);
    for at in honest.clone() {
        // Honest members have links to the victim alone.
        let pair = subnet.topology([VICTIM, at]);
        subnet.follow(at, &pair);
        subnet.start(at);
    }
    let (bound, pool) = (config.memory_bound(), config.transport.window_pool);
    let (mut most, mut most_held) = (0, 0);
    let mut check = |subnet: &mut Subnet<Delivered>| {
        let held = (METER.held)(VICTIM);
        most = most.max(held);
        assert!(held <= bound, "{held} bytes, of at most {bound}");
        let of_pool = subnet.node(VICTIM).expect("it runs").window_pool_held();
        most_held = most_held.max(of_pool);
        assert!(of_pool <= pool);
    };
    for _ in 0..20 {
        subnet.elapse(Duration::from_millis(100));
        check(&mut subnet);
    }
    let is_up = |subnet: &Subnet<Delivered>, at| subnet.is_up(VICTIM, at);
    assert!(honest.clone().all(|at| is_up(&subnet, at)));

    // Everybody publishes while the hogs go on, to the victim and from it.
    let begun = subnet.now();
    for at in honest.clone().chain([VICTIM]) {
        let published = artifact(at, 1, 200_000);
        let published = subnet.command(at, |_, context| context.publish(CHANNEL, published));
        assert_eq!(published, Some(Ok(())));
    }
    for _ in 0..20 {
        subnet.elapse(Duration::from_millis(100));
        check(&mut subnet);
    }
    let honest_count = honest.len();
    let delivered = &subnet.application.0;
    let at_victim = delivered.iter().filter(|(at, ..)| *at == VICTIM).count();
    let of_victim = delivered.iter().filter(|(at, ..)| *at != VICTIM).count();
    let took = delivered.iter().map(|(.., when)| when.since(begun)).max();
    println!("{most} bytes, {} % of the bound of {bound}", 100 * most / bound);
    println!("{most_held} bytes of the pool of {pool}; all took {took:?}");
    assert_eq!((at_victim, of_victim), (honest_count, honest_count));
    assert!(most_held > pool / 2, "the hogs take what they can: {most_held}");
    assert!(took.is_some_and(|took| took < Duration::from_secs(1)), "{took:?}");
}
