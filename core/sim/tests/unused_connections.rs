//! L13: connections that are not in use: those that are over, and those whose hello has not come. A member fills the
//! windows of one after the other, and hangs up.

#[path = "../examples/simulate/meter.rs"]
mod meter;

use std::any::Any;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use meter::METER;
use quinn_proto::congestion::{Controller, ControllerFactory};
use quinn_proto::{RttEstimator, TransportConfig};
use slotcast::broadcast::Event;
use slotcast::config::{ChannelConfig, Config, RouteConfig};
use slotcast::id::{ChannelId, NodeId, RouteId};
use slotcast::internals::channel_hello;
use slotcast::node::Ecn;
use slotcast::time::Time;
use slotcast::wire::StreamHead;
use slotcast_sim::hostile::bare::{BareEvent, BarePeer, LineId};
use slotcast_sim::hostile::frames;
use slotcast_sim::{Application, Context, Crypto, Link, Process, Setup, Subnet};

const CHANNEL: ChannelId = ChannelId(1);
/// It dials the one whose memory is measured.
const HOSTILE: usize = 0;
const VICTIM: usize = 1;

const LATENCY: Duration = Duration::from_millis(50);

/// As long as a connection is kept, once the handshake is over.
const SPAN: Duration = Duration::from_millis(180);

const CONNECTIONS: usize = 30;

/// The kind of an update that no version knows: it is passed over, however long it is.
const UNKNOWN_KIND: u64 = 7_001;

/// No window holds back what there is credit for, or the end of a connection.
#[derive(Debug)]
struct Unbounded;

impl Controller for Unbounded {
    fn on_congestion_event(&mut self, _: Instant, _: Instant, _: bool, _: u64) {}

    fn on_ack(&mut self, _: Instant, _: Instant, _: u64, _: bool, _: &RttEstimator) {}

    fn on_mtu_update(&mut self, _: u16) {}

    fn window(&self) -> u64 {
        1 << 40
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self)
    }

    fn initial_window(&self) -> u64 {
        1 << 40
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

impl ControllerFactory for Unbounded {
    fn build(self: Arc<Self>, _: Instant, _: u16) -> Box<dyn Controller> {
        Box::new(Self)
    }
}

struct Nothing;

impl Application for Nothing {
    fn handle_event(&mut self, _: &mut Context<'_>, _: ChannelId, _: Event) {}
}

/// Fills what it may of each connection, and closes it.
struct Filler {
    bare: BarePeer,
    victim: NodeId,
    /// `None`: it never says hello, so that nothing is read.
    hello: Option<Vec<u8>>,
    /// Time between one dial and the next.
    pause: Duration,
    dials: usize,
    dials_at: Time,
    /// Handshakes in progress.
    dialling: Vec<LineId>,
    /// Connections, and when they are to end.
    lines: Vec<(LineId, Time)>,
    /// So many full datagrams are lost, with the beginnings of streams: what is behind waits.
    to_lose: usize,
}

impl Filler {
    fn greet(&mut self, line: LineId) {
        let first = self.bare.open(line).expect("the first");
        match self.hello.clone() {
            Some(hello) => self.bare.write(line, first, hello, true),
            None => self.bare.write(line, first, vec![0], false),
        };
    }

    /// Opens as many streams as there is credit for, and writes as much into each. False if there is none.
    fn fill(&mut self, line: LineId) -> bool {
        let before = self.to_lose;
        while let Some(stream) = self.bare.open(line) {
            let mut start = frames::stream(StreamHead::Updates(CHANNEL), &[]);
            frames::put_varint(&mut start, UNKNOWN_KIND);
            frames::put_varint(&mut start, 1 << 40);
            self.bare.write(line, stream, start, false);
            self.bare.write(line, stream, vec![0; 100_000], false);
            self.to_lose += 3;
        }
        while let Some(stream) = self.bare.open_call(line) {
            self.bare.write(line, stream, vec![0; 20_000], false);
            self.to_lose += 3;
        }
        self.to_lose > before
    }

    fn is_done(&self) -> bool {
        self.dials == 0 && self.dialling.is_empty() && self.lines.is_empty()
    }
}

/// The simulator polls it, and the test looks at it.
#[derive(Clone)]
struct Shared(Rc<RefCell<Filler>>);

impl Process for Shared {
    fn handle_datagram(&mut self, now: Time, from: SocketAddr, ecn: Option<Ecn>, datagram: &[u8]) {
        self.0.borrow_mut().bare.handle_datagram(now, from, ecn, datagram);
    }

    fn poll(&mut self, now: Time, send: &mut dyn FnMut(SocketAddr, &[u8])) -> Time {
        let filler = &mut *self.0.borrow_mut();
        loop {
            if filler.dials > 0 && filler.dials_at <= now {
                filler.dials -= 1;
                filler.dials_at = now + filler.pause;
                let line = filler.bare.dial(now, filler.victim).expect("a member");
                filler.dialling.push(line);
            }
            filler.bare.serve(now);
            while let Some(event) = filler.bare.next_event() {
                match event {
                    BareEvent::Connected { line, .. } => {
                        filler.dialling.retain(|other| *other != line);
                        filler.greet(line);
                        filler.lines.push((line, now + SPAN));
                    }
                    BareEvent::Lost { line } => {
                        filler.dialling.retain(|other| *other != line);
                        filler.lines.retain(|(other, _)| *other != line);
                    }
                    BareEvent::Stopped { .. } => {}
                }
            }
            let Filler { bare, lines, to_lose, .. } = filler;
            lines.retain(|(line, closes_at)| {
                if *closes_at <= now {
                    bare.close(now, *line);
                }
                *closes_at > now
            });
            // Handshakes and the ends of connections are short.
            let mut lossy = |to: SocketAddr, datagram: &[u8]| {
                let is_full = datagram[0] & 0x80 == 0 && datagram.len() > 1_000;
                if is_full && *to_lose > 0 {
                    *to_lose -= 1;
                } else {
                    send(to, datagram);
                }
            };
            if bare.transmit(now, &mut lossy) {
                continue;
            }
            let open: Vec<_> = lines.iter().map(|(line, _)| *line).collect();
            if !open.into_iter().fold(false, |fills, line| filler.fill(line) | fills) {
                let closes_at = filler.lines.iter().map(|(_, closes_at)| *closes_at);
                let dials_at = if filler.dials > 0 { filler.dials_at } else { Time::NEVER };
                let wake_at = filler.bare.wake_at().min(dials_at);
                return closes_at.min().unwrap_or(Time::NEVER).min(wake_at);
            }
        }
    }
}

/// What is held since the last question at most, and now.
fn held() -> (u64, u64) {
    ((METER.held)(VICTIM), (METER.held)(VICTIM))
}

/// Small budgets, and the windows that each link has in any case.
fn config() -> Config {
    let mut channel = ChannelConfig::new(CHANNEL);
    (channel.slots_max, channel.artifact_bytes_max) = (64, 64 << 10);
    channel.push_bytes_max = 16 << 10;
    (channel.active_bytes_max, channel.inbox_bytes_max) = (1 << 20, 1 << 20);
    let mut config = Config::new([channel]);
    config.peers_max = 1;
    config.transport.handshakes_max = 4;
    config.transport.handshakes_per_address_max = 4;
    config.transport.window_pool = 0;
    // It does not dial itself.
    config.transport.dial_pause_higher = Duration::from_secs(600);
    config
}

/// What all connections that are over take by the published formula.
fn term(config: &Config) -> u64 {
    (2 * u64::from(config.peers_max) + 32) * (u64::from(config.transport.mtu_max) + (2 << 10))
}

/// What the hostile member has made the victim hold.
struct Taken {
    /// Connections that are kept at their end.
    kept: usize,
    /// Bytes at that time, and at most, beside what there was before.
    after: u64,
    most: u64,
}

/// Has the hostile member make so many connections, one after the other with a pause in between.
fn take(config: &Config, crypto: Crypto, says_hello: bool, dials: usize, pause: Duration) -> Taken {
    meter::reset();
    let mut setup = Setup::new(config, 2).link(Link::new(LATENCY));
    setup.crypto = crypto;
    let mut subnet = Subnet::stopped(setup, Nothing);
    subnet.set_scope(METER.enter);
    let (topology, victim) = (subnet.topology([VICTIM, HOSTILE]), subnet.id(VICTIM));
    let (key, crypto, start) =
        (subnet.key(HOSTILE).clone(), subnet.crypto(), subnet.start_instant());
    let mut transport = TransportConfig::default();
    transport.mtu_discovery_config(None).congestion_controller_factory(Arc::new(Unbounded));
    let mut bare = BarePeer::new(key, &topology, &config.transport, transport, crypto, 1, start);
    bare.stop_dialling();
    let channels = config.channels.iter().map(channel_hello).collect();
    let hello = says_hello.then(|| frames::hello(1, channels, Vec::new()));
    let filler = Filler {
        bare,
        victim,
        hello,
        pause,
        dials: 1,
        dials_at: Time::ZERO,
        dialling: Vec::new(),
        lines: Vec::new(),
        to_lose: 0,
    };
    let filler = Shared(Rc::new(RefCell::new(filler)));
    subnet.install(HOSTILE, Box::new(filler.clone()));
    subnet.start(VICTIM);
    // Buffers that are used again are there after the first one.
    subnet.elapse(Duration::from_secs(10));
    assert!(filler.0.borrow().is_done());
    let (_, before) = held();
    {
        let mut filler = filler.0.borrow_mut();
        (filler.dials, filler.dials_at) = (dials, subnet.now());
    }
    subnet.install(HOSTILE, Box::new(filler.clone()));
    let end = subnet.now() + Duration::from_secs(60);
    assert!(subnet.run(end, |_| filler.0.borrow().is_done()));
    subnet.elapse(LATENCY + Duration::from_millis(5));
    let (most, after) = held();
    let node = subnet.node(VICTIM).expect("it runs");
    let connections = if says_hello { dials as u64 + 1 } else { 0 };
    assert_eq!((node.stats().connections, node.stats().faults), (connections, 0));
    let open: Vec<_> = node.open_connections().collect();
    assert!(open.is_empty(), "{open:?}");
    let bound = config.memory_bound();
    println!("{most} bytes at most, of {bound}");
    assert!(most <= bound, "{most} bytes, of {bound}");
    let (after, most) = (after.saturating_sub(before), most.saturating_sub(before));
    Taken { kept: node.connections(), after, most }
}

#[test]
fn l13_of_connections_that_are_over_no_more_is_kept_than_their_term_of_the_bound() {
    let config = config();
    let term = term(&config);
    for crypto in [Crypto::Null, Crypto::Tls] {
        for (says_hello, pause, least) in [(true, SPAN + 4 * LATENCY, 2), (false, LATENCY / 2, 20)]
        {
            let Taken { kept, after, .. } = take(&config, crypto, says_hello, CONNECTIONS, pause);
            println!("{crypto:?}, hello {says_hello}: {kept} kept, {after} bytes, of {term}");
            assert!(kept >= least && after <= term, "{kept} kept, {after} bytes of {term}");
        }
    }
}

#[test]
fn l13_before_the_hello_a_connection_takes_no_more_than_a_handshake_in_the_bound() {
    let route = RouteConfig::new(RouteId(1), "many").bytes_max(64 << 10, 64 << 10);
    let config = config().routes([route]);
    let mut more = config.clone();
    more.transport.handshakes_max += 1;
    let term = more.memory_bound() - config.memory_bound();
    for crypto in [Crypto::Null, Crypto::Tls] {
        let before_hello = take(&config, crypto, false, 1, SPAN).most;
        let after_hello = take(&config, crypto, true, 1, SPAN).most;
        println!("{crypto:?}: {before_hello} bytes before, {after_hello} after, of {term}");
        assert!(before_hello <= term && after_hello > 2 * term, "{before_hello}, {after_hello}");
    }
}
