//! Configurations of extreme values: what passes the check has a memory bound, makes a node, and the node
//! dials; what does not pass is refused without a panic. Sums overflow with a panic in this build.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::sample::select;
use slotcast::config::{ChannelConfig, Config, Order, Quota, Relay, RouteConfig};
use slotcast::id::{ChannelId, RouteId};
use slotcast::membership::Topology;
use slotcast::node::{Node, NodeKey, Output};
use slotcast::time::Time;

const U32: u64 = u32::MAX as u64;
const SPAN_MAX: u64 = U32;

/// One of the ends of a range, or something in between.
fn ends<T: Copy + std::fmt::Debug + 'static>(
    range: RangeInclusive<T>,
    middle: T,
) -> BoxedStrategy<T> {
    select(vec![*range.start(), middle, middle, *range.end()]).boxed()
}

fn spans(milliseconds: RangeInclusive<u64>, middle: u64) -> BoxedStrategy<Duration> {
    ends(milliseconds, middle).prop_map(Duration::from_millis).boxed()
}

fn channel() -> impl Strategy<Value = ChannelConfig> {
    let budget = || ends(1 << 40..=1 << 48, 1 << 41);
    let artifact = ends(0..=1 << 40, 16 << 20);
    let relay = select(vec![Relay::Off, Relay::Confirmed, Relay::Automatic]);
    let numbers = (ends(2..=1 << 16, 1024), ends(0..=1 << 16, 16 << 10), ends(1..=u8::MAX, 4));
    let rest =
        (any::<(bool, bool, bool)>(), ends(0..=u64::MAX, 256 << 10), spans(0..=SPAN_MAX, 100));
    (relay, artifact, budget(), budget(), numbers, rest).prop_map(
        |(relay, artifact, active, inbox, (slots, push, hops), (switches, spread, clear))| {
            let mut channel = ChannelConfig::new(ChannelId(0));
            (channel.relay, channel.relay_slots_max) = (relay, u32::from(relay != Relay::Off));
            (channel.artifact_bytes_max, channel.active_bytes_max) = (artifact, active);
            (channel.inbox_bytes_max, channel.slots_max) = (inbox, slots);
            (channel.push_bytes_max, channel.relay_hops_max) = (push, hops);
            let sender_matters;
            (channel.latency_sensitive, channel.tells_withdrawals, sender_matters) = switches;
            channel.sender_matters = sender_matters && relay == Relay::Off;
            (channel.spread_bytes_min, channel.clear_delay) = (spread, clear);
            channel
        },
    )
}

fn route() -> impl Strategy<Value = RouteConfig> {
    let body = || ends(0..=128 << 20, 1 << 20);
    let calls = (ends(1..=64, 64), ends(0..=u16::MAX, 64), any::<bool>());
    let spans = (spans(1..=SPAN_MAX, 5000), ends(0..=1, 1));
    let rest = (ends(128 << 20..=1 << 48, 256 << 20), ends(1..=u32::MAX, 4096));
    (body(), body(), calls, spans, rest).prop_map(
        |(request, response, (flying, waiting, serves), (longest, early), (bytes, rate))| {
            let mut route = RouteConfig::new(RouteId(0), "").bytes_max(request, response);
            (route.in_flight_max, route.waiting_max, route.serves) = (flying, waiting, serves);
            if !serves {
                route.in_flight_max = u16::MAX;
            }
            route.deadline_max = longest;
            route.deadline = if early == 0 { Duration::from_nanos(1) } else { longest };
            (route.body_bytes_max, route.rate_min) = (bytes, rate);
            route
        },
    )
}

/// A change of a node's own numbers, or of its connections, for one of three values.
type Change = ([u64; 3], fn(&mut Config, u64));

const MS: fn(u64) -> Duration = Duration::from_millis;

fn each_quota(config: &mut Config, change: impl Fn(&mut Quota)) {
    config.channels.iter_mut().for_each(|channel| change(channel.quota.get_or_insert_default()));
}

const CHANGES: &[Change] = &[
    ([1, 64, 512], |c, v| c.peers_max = v as u16),
    ([1024, 65_536, 1 << 20], |c, v| c.batch_bytes_max = v as u32),
    ([1, 8, 256], |c, v| c.fetches_per_peer_max = v as u16),
    ([1, 8, 4096], |c, v| c.serves_per_peer_max = v as u16),
    ([1, 8, 4096], |c, v| c.streamed_per_peer_max = v as u16),
    ([1, 2000, SPAN_MAX], |c, v| c.fetch_timeout = MS(v)),
    ([1, 2000, SPAN_MAX], |c, v| c.fetch_retry = MS(v)),
    ([1200, 1452, 65_507], |c, v| c.transport.mtu_max = v as u16),
    ([8, 128, 4096], |c, v| c.transport.streams_max = v as u32),
    ([2 << 20, 8 << 20, U32], |c, v| {
        (c.transport.stream_window, c.transport.receive_window) = (v as u32, v as u32);
    }),
    ([8 << 20, 16 << 20, U32], |c, v| c.transport.receive_window = v as u32),
    ([2 << 20, 8 << 20, U32], |c, v| c.transport.send_window = v as u32),
    ([14_720, 48 << 10, U32], |c, v| c.transport.initial_window = v as u32),
    ([16_000, 1 << 30, u64::MAX], |c, v| c.transport.uplink = Some(v)),
    ([1, 64, 65_535], |c, v| c.transport.handshakes_max = v as u16),
    ([1, 64, 65_535], |c, v| c.transport.handshakes_per_address_max = v as u16),
    ([1, 3, U32], |c, v| c.transport.faults_max = v as u32),
    ([1, 10_000, U32], |c, v| each_quota(c, |quota| quota.updates_per_second = v as u32)),
    ([1024, 16 << 20, U32], |c, v| each_quota(c, |quota| quota.bytes_per_second = v as u32)),
    ([10, 1000, 60_000], |c, v| each_quota(c, |quota| quota.burst = MS(v))),
    ([0, 0, 1], |c, v| {
        let order = if v > 0 { Order::HighestKeyFirst } else { Order::Age };
        c.channels.iter_mut().for_each(|channel| channel.order = order);
    }),
    ([0, 0, 1], |c, v| c.routes.iter_mut().for_each(|route| route.reads_in_parts = v > 0)),
    ([100, 1000, 1_000_000], |c, v| c.work.turn_max = v as u32),
    ([1, 10_000, U32], |c, v| c.work.fruitless_per_second = v as u32),
    ([1000, 100_000, U32], |c, v| c.work.fruitless_max = v as u32),
    ([100, 10_000, SPAN_MAX], |c, v| {
        (c.transport.idle_timeout, c.transport.keep_alive) = (MS(v), MS(v / 10));
    }),
    ([1, 5000, SPAN_MAX / 2], |c, v| {
        (c.transport.dial_pause_min, c.transport.dial_pause_max) = (MS(v), MS(v));
        c.transport.dial_pause_higher = MS(SPAN_MAX);
    }),
    ([1, 600_000, SPAN_MAX], |c, v| c.transport.fault_decay = MS(v)),
    ([0, 60_000, SPAN_MAX], |c, v| c.transport.cut_off = MS(v)),
    ([100, 5000, SPAN_MAX], |c, v| c.transport.hello_timeout = MS(v)),
    ([1, 500, SPAN_MAX], |c, v| c.transport.shutdown_timeout = MS(v)),
];

fn config() -> impl Strategy<Value = Config> {
    let channels = prop_oneof![8 => 1..4_usize, 1 => Just(64)];
    let routes = prop_oneof![8 => 0..4_usize, 1 => Just(64)];
    let changes = prop::collection::vec((0..CHANGES.len(), 0..3_usize), 0..24);
    (channel(), channels, route(), routes, changes).prop_map(
        |(channel, channels, route, routes, changes)| {
            let channel = |at| {
                let mut channel = channel.clone();
                channel.id = ChannelId(at as u16);
                channel
            };
            let route = |at| {
                let mut route = route.clone();
                route.id = RouteId(at as u16);
                route
            };
            let mut config = Config::new((0..channels).map(channel)).routes((0..routes).map(route));
            for (at, which) in changes {
                let (values, change) = CHANGES[at];
                change(&mut config, values[which]);
            }
            config
        },
    )
}

/// Has a node of this configuration dial its only peer.
#[expect(clippy::disallowed_methods, reason = "any instant does as the start")]
fn dial(config: Config) {
    let keys = [1, 2].map(|n| NodeKey::from_seed([n; 32]));
    let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let members = keys.iter().zip(1000..).map(|(key, port)| (key.id(), vec![address(port)]));
    let topology = Topology::new(1, members).expect("each once");
    for key in keys {
        let (config, topology) = (config.clone(), topology.clone());
        let mut node = Node::new(config, key, topology, [3; 32], Instant::now()).expect("sound");
        let (mut buffer, mut now) = (Vec::new(), Time::ZERO);
        for _ in 0..8 {
            if let Output::Idle { wake_at, .. } = node.poll(now, 1, &mut buffer) {
                now = wake_at.min(Time::ZERO + Duration::from_secs(1 << 23));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..Default::default() })]

    #[test]
    fn what_passes_the_check_has_a_memory_bound_and_makes_a_node(config in config()) {
        // Too many rejected cases fail the test.
        prop_assume!(config.check().is_ok());
        prop_assert!(config.memory_bound() > 8 << 20);
        dial(config);
    }

    #[test]
    fn no_value_makes_the_check_panic(
        mut config in config(),
        numbers in prop::collection::vec(select(vec![0, 1, u64::MAX / 2, u64::MAX]), 12),
        routes in select(vec![0, 1, 64, 40_000_usize]),
        span in select(vec![Duration::ZERO, Duration::from_nanos(1), Duration::MAX]),
    ) {
        let channel = &mut config.channels[0];
        channel.slots_max = numbers[0] as u32;
        channel.relay_slots_max = numbers[1] as u32;
        (channel.artifact_bytes_max, channel.active_bytes_max) = (numbers[2], numbers[3]);
        channel.inbox_bytes_max = numbers[4];
        channel.clear_delay = span;
        let quota = channel.quota.insert(Quota::per_second(numbers[8] as u32, numbers[9] as u32));
        quota.burst = span;
        let relaying = channel.clone().relaying(Relay::Confirmed, numbers[5] as u32);
        prop_assert!(relaying.publish_slots_max() <= relaying.slots_max);
        let mut route = RouteConfig::new(RouteId(1), "");
        route.in_flight_max = u16::MAX;
        route.deadline = span;
        config.routes = vec![route; routes];
        let t = &mut config.transport;
        (t.stream_window, t.receive_window) = (numbers[6] as u32, numbers[7] as u32);
        (t.idle_timeout, t.dial_pause_min, t.keep_alive) = (span, span, span);
        let refused = config.check().is_err();
        prop_assert!(refused, "a span is wrong");
    }
}
