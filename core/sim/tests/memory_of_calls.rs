//! L13: what QUIC keeps of calls. A member sends pieces of one byte in the streams of its calls, and leaves a byte out
//! before each, so that nothing can be read.

#[path = "../examples/simulate/meter.rs"]
mod meter;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use meter::METER;
use quinn_proto::TransportConfig;
use slotcast::broadcast::Event;
use slotcast::config::{ChannelConfig, Config, RouteConfig};
use slotcast::id::{ChannelId, NodeId, RouteId};
use slotcast::internals::channel_hello;
use slotcast::node::Ecn;
use slotcast::time::Time;
use slotcast_sim::hostile::bare::{BareEvent, BarePeer, LineId};
use slotcast_sim::hostile::frames;
use slotcast_sim::{Application, Context, Crypto, Link, Process, Setup, Subnet};

/// It dials the one whose memory is measured.
const HOSTILE: usize = 0;
const VICTIM: usize = 1;

const IN_FLIGHT: u16 = 4;
/// Streams that it may open: what is ended lingers.
const STREAMS: u64 = 2 * IN_FLIGHT as u64;

/// Pieces in a packet, which has room for them, and packets for each stream: fewer pieces than QUIC puts in order.
const PIECES: u64 = 100;
const PACKETS: u64 = 20;
const PACE: Duration = Duration::from_millis(5);

/// A STREAM frame with an offset and a length (RFC 9000, section 19.8).
const STREAM: u8 = 0x0e;

struct Nothing;

impl Application for Nothing {
    fn handle_event(&mut self, _: &mut Context<'_>, _: ChannelId, _: Event) {}
}

/// Sends a packet of pieces in each of a few milliseconds.
struct Piecer {
    bare: BarePeer,
    victim: NodeId,
    hello: Vec<u8>,
    line: Option<LineId>,
    sent: u64,
    sends_at: Time,
}

impl Piecer {
    fn send(&mut self, line: LineId) {
        let (stream, packet) = (self.sent % STREAMS, self.sent / STREAMS);
        let mut packed = Vec::new();
        for piece in packet * PIECES..(packet + 1) * PIECES {
            packed.push(STREAM);
            // The client's streams in both directions are every fourth.
            frames::put_varint(&mut packed, 4 * stream);
            frames::put_varint(&mut packed, 1 + 2 * piece);
            packed.extend([1, 0]);
        }
        self.bare.insert_frames(line, packed);
        self.bare.ping(line);
        self.sent += 1;
    }
}

/// The simulator polls it, and the test looks at it.
#[derive(Clone)]
struct Shared(Rc<RefCell<Piecer>>);

impl Process for Shared {
    fn handle_datagram(&mut self, now: Time, from: SocketAddr, ecn: Option<Ecn>, datagram: &[u8]) {
        self.0.borrow_mut().bare.handle_datagram(now, from, ecn, datagram);
    }

    fn poll(&mut self, now: Time, send: &mut dyn FnMut(SocketAddr, &[u8])) -> Time {
        let piecer = &mut *self.0.borrow_mut();
        if piecer.line.is_none() {
            piecer.line = Some(piecer.bare.dial(now, piecer.victim).expect("a member"));
        }
        loop {
            piecer.bare.serve(now);
            while let Some(event) = piecer.bare.next_event() {
                if let BareEvent::Connected { line, .. } = event {
                    let stream = piecer.bare.open(line).expect("the first");
                    let hello = piecer.hello.clone();
                    piecer.bare.write(line, stream, hello, true);
                    // There is no credit for calls before it has been read.
                    piecer.sends_at = now + Duration::from_millis(100);
                }
            }
            if piecer.sends_at <= now && piecer.sent < STREAMS * PACKETS {
                piecer.sends_at = now + PACE;
                piecer.send(piecer.line.expect("dialled"));
            }
            if !piecer.bare.transmit(now, send) {
                let is_done = piecer.sent == STREAMS * PACKETS;
                let sends_at = if is_done { Time::NEVER } else { piecer.sends_at };
                return piecer.bare.wake_at().min(sends_at);
            }
        }
    }
}

fn config(in_flight: u16) -> Config {
    let channel = ChannelConfig::new(ChannelId(1));
    let mut route = RouteConfig::new(RouteId(1), "many");
    route.in_flight_max = in_flight;
    let mut config = Config::new([channel]).routes([route]);
    config.peers_max = 1;
    config.transport.window_pool = 0;
    // It does not dial itself.
    config.transport.dial_pause_higher = Duration::from_secs(600);
    config
}

#[test]
fn l13_pieces_of_calls_take_no_more_than_calls_count_in_the_bound() {
    let config = config(IN_FLIGHT);
    let of_one = self::config(IN_FLIGHT + 1).memory_bound() - config.memory_bound();
    let term = u64::from(IN_FLIGHT) * of_one;
    meter::reset();
    let mut setup = Setup::new(&config, 2).link(Link::new(Duration::from_millis(5)));
    setup.crypto = Crypto::Null;
    let mut subnet = Subnet::stopped(setup, Nothing);
    subnet.set_scope(METER.enter);
    let (topology, victim) = (subnet.topology([VICTIM, HOSTILE]), subnet.id(VICTIM));
    let (key, crypto, start) =
        (subnet.key(HOSTILE).clone(), subnet.crypto(), subnet.start_instant());
    let transport = TransportConfig::default();
    let mut bare = BarePeer::new(key, &topology, &config.transport, transport, crypto, 1, start);
    bare.stop_dialling();
    let channels = config.channels.iter().map(channel_hello).collect();
    let hello = frames::hello(1, channels, Vec::new());
    let (line, sent, sends_at) = (None, 0, Time::NEVER);
    let piecer = Piecer { bare, victim, hello, line, sent, sends_at };
    let piecer = Shared(Rc::new(RefCell::new(piecer)));
    subnet.install(HOSTILE, Box::new(piecer.clone()));
    subnet.start(VICTIM);
    subnet.elapse(Duration::from_millis(90));
    let held = || (METER.held)(VICTIM);
    // The most since the last question.
    held();
    let before = held();
    subnet.elapse(Duration::from_secs(2));
    let most = held() - before;
    assert_eq!(piecer.0.borrow().sent, STREAMS * PACKETS);
    assert_eq!(subnet.node(VICTIM).expect("it runs").stats().faults, 0);
    println!("{most} bytes, of {term}");
    // A third is for answers, and QUIC copies pieces out of the datagrams around them before these take what they may.
    assert!((term / 5..=term).contains(&most), "{most} bytes, of {term}");
}
