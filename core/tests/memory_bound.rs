//! The published formula of the memory bound, term by term: by how many bytes it changes when a
//! value of the configuration does.

use slotcast::artifact::SINGLE_CHUNK_BYTES_MAX;
use slotcast::config::{
    BODY_BYTES_LIMIT, BUDGET_BYTES_LIMIT, ChannelConfig, Config, PEERS_LIMIT, Quota, Relay,
    RouteConfig, SLOTS_LIMIT,
};
use slotcast::id::{ChannelId, RouteId};
use slotcast::wire::{CHANNELS_MAX, Chunk, FRAME_OVERHEAD_MAX, FURTHER_BYTES_MAX, ROUTES_MAX};

const KIB: i64 = 1 << 10;
const MIB: i64 = 1 << 20;

const PEERS: i64 = 10;

fn config() -> Config {
    let channels = [ChannelConfig::new(ChannelId(1)), ChannelConfig::new(ChannelId(2))];
    let routes = [RouteConfig::new(RouteId(1), "one"), RouteConfig::new(RouteId(2), "two")];
    let mut config = Config::new(channels).routes(routes);
    config.peers_max = PEERS as u16;
    config.transport.streams_max = 100;
    config
}

fn bound(config: &Config) -> i64 {
    assert_eq!(config.check(), Ok(()));
    config.memory_bound().try_into().expect("far from it")
}

/// The bytes that a change adds to the bound.
fn added(change: impl Fn(&mut Config)) -> i64 {
    let mut changed = config();
    change(&mut changed);
    bound(&changed) - bound(&config())
}

/// What one channel takes of each peer per slot: entries and artifacts of two epochs, and what was
/// and is to be sent, which pushes are in one stream, receipts.
const PER_SLOT: i64 = 2 * 56 + 16 + 8 + 16 + 4 + 2 * 2048;

/// What is noted of a channel for a peer's quotas, and for those of this node.
const PACED: i64 = 104;
const QUOTA: i64 = 272;

/// The requests to and from a peer, by default.
const REQUESTS: i64 = 512 * (3 * 32 + 128 + 2 * 64) + 16 * KIB;

/// The longest frame of artifacts of up to 16 MiB: a chunk with its proof.
const FRAME: i64 = (SINGLE_CHUNK_BYTES_MAX + Chunk::OVERHEAD_MAX) as i64;

/// What a stream takes beside its part of a window, an unfinished frame aside.
const STREAM: i64 = 288 * KIB;

/// For each call in flight: two streams of unread requests with their part of the window, and that of an answer.
const UNREAD_CALLS: i64 = 2 * (STREAM + (64 + 16 * KIB) * 5 / 2);
const CALL: i64 = UNREAD_CALLS + STREAM;

/// The windows of a link that has nothing of the pool, its streams aside.
const WINDOWS: i64 = 256 * KIB * 5 / 2 + 2 * 256 * KIB;

/// In progress, and not accepted yet.
const HANDSHAKE: i64 = (464 + 64) * KIB;

/// What is kept of a connection that is over, by default: its last datagram, and what is noted of it.
const CLOSED: i64 = 1452 + 2 * KIB;

#[test]
fn each_value_counts_by_the_published_formula() {
    type Row = (&'static str, fn(&mut Config), i64);
    let rows: [Row; 25] = [
        ("active bytes", |c| c.channels[1].active_bytes_max += 1280, 1290),
        ("inbox", |c| c.channels[1].inbox_bytes_max += 1280, 2 * 1290),
        ("a staged event", |c| c.channels[1].artifact_bytes_max -= 1000, -1000),
        // One byte more makes chunks of 128 KiB instead of 64.
        (
            "longer chunks",
            |c| c.channels[1].artifact_bytes_max = (16 << 20) + 1,
            1 + PEERS * 8 * 64 * KIB,
        ),
        ("slots", |c| c.channels[1].slots_max += 10, 10 * (2496 + PEERS * PER_SLOT)),
        // A snapshot has a bit for each slot, which is no longer than a chunk with its proof.
        (
            "all slots",
            |c| c.channels[1].slots_max = SLOTS_LIMIT,
            (65_536 - 1024) * (2496 + PEERS * PER_SLOT),
        ),
        ("a quota", |c| c.channels[1].quota = Some(Quota::default()), PEERS * QUOTA),
        ("pushes", |c| c.channels[1].push_bytes_max = 64_000, 0),
        ("bodies", |c| c.routes[1].body_bytes_max += 1000, 4 * 1000),
        // Requests in flight and unread, calls in flight; and all of these in QUIC.
        ("in flight", |c| c.routes[1].in_flight_max += 1, PEERS * ((2 + 17) * KIB + CALL)),
        ("waiting", |c| c.routes[1].waiting_max += 1, PEERS * 17 * KIB),
        ("only calls", |c| c.routes[1].serves = false, -PEERS * 64 * UNREAD_CALLS),
        ("fetches", |c| c.fetches_per_peer_max += 1, PEERS * 3 * 512),
        ("serves", |c| c.serves_per_peer_max += 1, PEERS * 512),
        ("streamed", |c| c.streamed_per_peer_max += 1, PEERS * 2 * 512),
        // What is more than the least comes from the pool.
        ("receive window", |c| c.transport.receive_window += 1000, 0),
        ("send window", |c| c.transport.send_window += 1000, 0),
        ("stream window", |c| c.transport.stream_window += 1000, 0),
        ("streams", |c| c.transport.streams_max += 1, 0),
        ("pool", |c| c.transport.window_pool += 1000, 1000),
        ("handshakes", |c| c.transport.handshakes_max += 1, HANDSHAKE),
        ("longer datagrams", |c| c.transport.mtu_max += 10, 10 * (2 * PEERS + 32)),
        ("of one address", |c| c.transport.handshakes_per_address_max += 1, 0),
        ("bodies that fit", |c| c.routes[0].request_bytes_max *= 2, 0),
        ("other names", |c| c.channels[0].id = ChannelId(9), 0),
    ];
    for (what, change, expected) in rows {
        assert_eq!(added(change), expected, "{what}");
    }
}

#[test]
fn without_need_of_a_pool_each_peer_adds_its_own_windows() {
    let roomy = || {
        let mut config = config();
        config.transport.window_pool = 1 << 40;
        config
    };
    type Row = (&'static str, fn(&mut Config), i64);
    let rows: [Row; 4] = [
        ("receive window", |c| c.transport.receive_window += 1000, 2500),
        ("send window", |c| c.transport.send_window += 1000, 2 * 1000),
        ("streams", |c| c.transport.streams_max += 1, STREAM + FRAME),
        ("pool", |c| c.transport.window_pool += 1000, 0),
    ];
    for (what, change, expected) in rows {
        let mut changed = roomy();
        change(&mut changed);
        assert_eq!(bound(&changed) - bound(&roomy()), PEERS * expected, "{what}");
    }
}

#[test]
fn a_node_with_the_defaults_and_one_channel_needs_less_than_a_gibibyte() {
    let bound = bound(&Config::new([ChannelConfig::new(ChannelId(1))]));
    println!("{} MiB", bound / MIB);
    assert!(bound <= 1024 * MIB, "{} MiB", bound / MIB);
}

#[test]
fn active_bytes_count_twice_with_relaying() {
    let relays = |config: &mut Config| {
        (config.channels[0].relay, config.channels[0].relay_slots_max) = (Relay::Confirmed, 7);
    };
    let active = config().channels[0].active_bytes_max as i64;
    assert_eq!(added(relays), active + active / 128, "the slots are among the channel's");
}

#[test]
fn a_channel_a_route_and_a_peer_add_all_that_is_theirs() {
    let channel = ChannelConfig::new(ChannelId(3));
    let (outbox, inbox) = (64 * MIB + 2496 * 1024, 2 * 128 * MIB + 16 * MIB + MIB);
    let trees = (64 * MIB + 2 * 128 * MIB) / 128;
    let tables = PEERS * (1024 * PER_SLOT + PACED);
    assert_eq!(
        added(|config| config.channels.push(channel.clone())),
        outbox + inbox + trees + tables
    );

    let route = RouteConfig::new(RouteId(3), "three");
    let (bodies, calls) = (4 * 128 * MIB, 64 * 2 * KIB + 128 * 17 * KIB + 64 * CALL);
    assert_eq!(added(|config| config.routes.push(route.clone())), bodies + PEERS * calls);

    let per_peer = |config: &mut Config| config.peers_max += 1;
    let quic = WINDOWS + 8 * (STREAM + FRAME) + 64 * KIB;
    let tables = 2 * (1024 * PER_SLOT + PACED);
    assert_eq!(added(per_peer), tables + REQUESTS + 2 * calls + quic + 2 * CLOSED);
}

#[test]
fn the_smallest_configuration_has_a_base() {
    let mut channel = ChannelConfig::new(ChannelId(1));
    channel.slots_max = 1;
    (channel.artifact_bytes_max, channel.push_bytes_max) = (0, 0);
    (channel.active_bytes_max, channel.inbox_bytes_max) = (0, 0);
    let mut config = Config::new([channel]);
    config.peers_max = 1;
    let t = &mut config.transport;
    (t.streams_max, t.stream_window) = (8, 128 << 10);
    (t.receive_window, t.send_window) = (128 << 10, 128 << 10);
    t.handshakes_max = 1;
    // The longest frame is a hello, or else a push.
    let windows = 128 * KIB * 5 / 2 + 2 * 128 * KIB;
    let of_peer = PER_SLOT + PACED + REQUESTS + windows + 8 * (STREAM + 16 * KIB) + 64 * KIB;
    let base = 8 * MIB + 2496 + MIB + HANDSHAKE + (2 + 32) * CLOSED;
    assert_eq!(bound(&config), base + of_peer);
    config.channels[0].push_bytes_max =
        16_384 - 128 - (FRAME_OVERHEAD_MAX + FURTHER_BYTES_MAX) as u32;
    assert_eq!(bound(&config), base + of_peer);
    config.channels[0].push_bytes_max += 10;
    assert_eq!(bound(&config), base + of_peer + 8 * 10);
}

#[test]
fn the_largest_configuration_has_a_bound() {
    let channel = |at: usize| {
        let mut channel = ChannelConfig::new(ChannelId(at as u16));
        (channel.relay, channel.relay_slots_max) = (Relay::Automatic, 1);
        channel.slots_max = SLOTS_LIMIT;
        channel.artifact_bytes_max = 1 << 40;
        channel.push_bytes_max = SINGLE_CHUNK_BYTES_MAX as u32;
        channel.active_bytes_max = BUDGET_BYTES_LIMIT;
        channel.inbox_bytes_max = BUDGET_BYTES_LIMIT;
        channel
    };
    let route = |at: usize| {
        let mut route = RouteConfig::new(RouteId(at as u16), "the largest");
        route.serves = at == 0;
        route.in_flight_max = if at == 0 { 4096 } else { u16::MAX };
        route.waiting_max = u16::MAX;
        route.body_bytes_max = BUDGET_BYTES_LIMIT;
        (route.request_bytes_max, route.response_bytes_max) = (BODY_BYTES_LIMIT, BODY_BYTES_LIMIT);
        route
    };
    let mut config = Config::new((0..CHANNELS_MAX).map(channel));
    config.routes = (0..ROUTES_MAX).map(route).collect();
    config.peers_max = PEERS_LIMIT;
    let t = &mut config.transport;
    t.streams_max = 4096;
    (t.stream_window, t.receive_window, t.send_window) = (u32::MAX, u32::MAX, u32::MAX);
    t.window_pool = BUDGET_BYTES_LIMIT;
    assert_eq!(config.check(), Ok(()));
    let budgets = 8 * (CHANNELS_MAX as u64) * (BUDGET_BYTES_LIMIT);
    let bound = config.memory_bound();
    assert!(bound > budgets && bound < budgets + budgets / 100, "{bound} beside {budgets}");
}
