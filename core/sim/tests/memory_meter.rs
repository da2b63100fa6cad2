//! The allocator that tells one node's memory from another's, and what it says of whole runs.

#[path = "../examples/simulate/meter.rs"]
mod meter;

use std::net::SocketAddr;
use std::time::Duration;

use meter::METER;
use slotcast::broadcast::Event;
use slotcast::config::{ChannelConfig, Config, Relay, RouteConfig};
use slotcast::id::{ChannelId, NodeId, RouteId};
use slotcast::node::Ecn;
use slotcast::time::Time;
use slotcast_sim::hostile::bare::BarePeer;
use slotcast_sim::{Application, Context, Crypto, FaultKind, Plan, Process, Setup, Subnet, Trick};

fn held(node: usize) -> u64 {
    // Asked twice: the first answer is the most since the last time.
    (METER.held)(node);
    (METER.held)(node)
}

#[test]
fn a_block_is_counted_for_whoever_allocated_it() {
    meter::reset();
    (METER.enter)(Some(1));
    let mut of_one = vec![1_u8; 1_000];
    (METER.enter)(Some(2));
    let of_two = vec![0_u64; 500];
    assert_eq!((held(0), held(1), held(2)), (0, 1_000, 4_000));
    of_one.reserve_exact(9_000);
    assert_eq!((held(1), held(2)), (10_000, 4_000));
    drop(of_one);
    (METER.enter)(None);
    let of_nobody = vec![0_u8; 100];
    drop((of_two, of_nobody));
    assert_eq!((held(1), held(2)), (0, 0));
}

#[test]
fn the_most_since_the_last_question_is_told() {
    meter::reset();
    (METER.enter)(Some(3));
    drop(vec![0_u8; 5_000]);
    let kept = vec![0_u8; 10];
    (METER.enter)(None);
    assert_eq!((METER.held)(3), 5_000);
    assert_eq!((METER.held)(3), 10);
    drop(kept);
}

#[test]
fn blocks_are_aligned_and_zeroed_as_asked() {
    #[repr(align(256))]
    struct Wide([u8; 512]);

    meter::reset();
    (METER.enter)(Some(0));
    let wide: Vec<Wide> = (0..3).map(|n| Wide([n; 512])).collect();
    let zeroed = vec![0_u128; 1_000];
    (METER.enter)(None);
    assert_eq!(wide.as_ptr().addr() % 256, 0);
    assert_eq!(wide[2].0, [2; 512]);
    assert_eq!(zeroed.as_ptr().addr() % 16, 0);
    assert!(zeroed.iter().all(|n| *n == 0));
    assert!(held(0) >= 3 * 512 + 16_000);
}

#[test]
fn nodes_stay_within_their_bound_among_hostile_members() {
    for seed in 1..=3 {
        meter::reset();
        let plan = Plan::draw(seed).with_nodes(7).with_byzantine(2);
        let report = plan.run_metered(Some(METER));
        report.assert_good();
        assert!(report.memory_max > 100_000, "{} bytes are not all", report.memory_max);
        assert!(report.memory_max <= report.memory_bound);
    }
}

/// Budgets that a run of a few seconds can use, and little beside them: small windows and tables, and
/// room for no more peers than there are.
fn tight(plan: Plan, byzantine: usize) -> Plan {
    let mut plan = plan;
    plan.config.peers_max = plan.nodes as u16 - 1;
    let channel = &mut plan.config.channels[0];
    channel.slots_max = 64;
    (channel.artifact_bytes_max, channel.push_bytes_max) = (512 << 10, 64 << 10);
    (channel.active_bytes_max, channel.inbox_bytes_max) = (4 << 20, 16 << 20);
    channel.latency_sensitive = true;
    // Members tell of parts, and pass on stripes.
    (channel.relay, channel.relay_slots_max) = (Relay::Automatic, 16);
    channel.spread_bytes_min = 256 << 10;
    let mut route = RouteConfig::new(RouteId(1), "tight").bytes_max(256 << 10, 256 << 10);
    (route.in_flight_max, route.waiting_max, route.body_bytes_max) = (8, 8, 1 << 20);
    plan.config.routes = vec![route];
    let transport = &mut plan.config.transport;
    transport.streams_max = 8;
    (transport.stream_window, transport.receive_window) = (128 << 10, 128 << 10);
    transport.send_window = 128 << 10;
    (transport.handshakes_max, transport.handshakes_per_address_max) = (4, 4);
    plan.with_byzantine(byzantine)
}

/// The bytes that are published are not among what is counted: they belong to the application.
#[test]
fn l13_a_node_under_every_attack_at_once_stays_within_its_bound() {
    for seed in 1..=3 {
        meter::reset();
        let mut plan = tight(Plan::calm(seed, 7), 2);
        plan.tricks = Trick::ALL.to_vec();
        (plan.faults, plan.strength) = (vec![FaultKind::Deaf], 100);
        // Not all come about in so short a time.
        plan.all_must_act = false;
        plan.workload.artifacts_per_second = 200;
        (plan.workload.large_percent, plan.workload.aborted_percent) = (100, 60);
        plan.workload.calls_percent = 100;
        let report = plan.run_metered(Some(METER));
        report.assert_good();
        let acted = report.tricks.iter().filter(|(_, count)| *count > 0).count();
        assert!(acted > Trick::ALL.len() / 2, "{:?}", report.tricks);
        let percent = 100 * report.memory_max / report.memory_bound;
        println!("{} bytes, {percent} % of the bound", report.memory_max);
        assert!((4..=100).contains(&percent), "{percent} % of the bound");
    }
}

struct Nothing;

impl Application for Nothing {
    fn handle_event(&mut self, _: &mut Context<'_>, _: ChannelId, _: Event) {}
}

/// Begins handshakes with `victim`, proves its address if that is asked for, and goes no further.
struct Caller {
    peer: BarePeer,
    victim: NodeId,
    handshakes: u16,
}

impl Process for Caller {
    fn handle_datagram(&mut self, now: Time, from: SocketAddr, ecn: Option<Ecn>, datagram: &[u8]) {
        self.peer.handle_datagram(now, from, ecn, datagram);
    }

    fn poll(&mut self, now: Time, send: &mut dyn FnMut(SocketAddr, &[u8])) -> Time {
        while self.handshakes > 0 {
            self.handshakes -= 1;
            self.peer.dial_hollow(now, self.victim).expect("not too many");
        }
        loop {
            self.peer.serve(now);
            while self.peer.next_event().is_some() {}
            if !self.peer.transmit(now, send) {
                return self.peer.wake_at();
            }
        }
    }
}

/// What a node holds while so many handshakes are in progress. The connections' own: the cryptography
/// allocates a few KiB more for each, which are not seen.
fn held_with_handshakes(config: &Config, crypto: Crypto, handshakes: u16) -> u64 {
    const CALLER: usize = 0;
    const VICTIM: usize = 1;
    meter::reset();
    let mut setup = Setup::new(config, 2);
    setup.crypto = crypto;
    let mut subnet = Subnet::stopped(setup, Nothing);
    subnet.set_scope(METER.enter);
    let (topology, victim) = (subnet.topology([CALLER, VICTIM]), subnet.id(VICTIM));
    let (key, crypto, start) =
        (subnet.key(CALLER).clone(), subnet.crypto(), subnet.start_instant());
    let transport = quinn_proto::TransportConfig::default();
    let mut peer = BarePeer::new(key, &topology, &config.transport, transport, crypto, 1, start);
    peer.stop_dialling();
    subnet.start(VICTIM);
    subnet.install(CALLER, Box::new(Caller { peer, victim, handshakes }));
    subnet.elapse(Duration::from_millis(200));
    let node = subnet.node(VICTIM).expect("it runs");
    let in_progress = node.open_connections().filter(|connection| !connection.is_dialled);
    assert_eq!(in_progress.count(), usize::from(handshakes));
    held(VICTIM)
}

#[test]
fn handshakes_in_progress_take_no_more_than_their_term_of_the_bound() {
    const HANDSHAKES: u16 = 64;
    let mut config = Config::new([ChannelConfig::new(ChannelId(1))]);
    config.transport.handshakes_per_address_max = HANDSHAKES;
    let bound_for = |handshakes| {
        let mut config = config.clone();
        config.transport.handshakes_max = handshakes;
        config.memory_bound()
    };
    let term = bound_for(2 * HANDSHAKES) - bound_for(HANDSHAKES);
    for crypto in [Crypto::Tls, Crypto::HybridTls] {
        let held = |handshakes| held_with_handshakes(&config, crypto, handshakes);
        let taken = held(HANDSHAKES) - held(0);
        let each = taken / u64::from(HANDSHAKES);
        println!("{crypto:?}: {each} bytes each, of {}", term / u64::from(HANDSHAKES));
        assert!(each > 10_000, "{each} bytes are not all");
        assert!(taken <= term, "{taken} of {term}");
    }
}
