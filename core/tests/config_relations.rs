//! What a configuration must fulfil: for each value the last one that passes and the first one that
//! does not, which is refused by its name.

use std::time::Duration;

use slotcast::config::{
    BATCH_BYTES_LIMIT, BODY_BYTES_LIMIT, BUDGET_BYTES_LIMIT, ChannelConfig, Config, DriverConfig,
    FETCHES_LIMIT, PEERS_LIMIT, Quota, Relay, RouteConfig, SLOTS_LIMIT, SPAN_LIMIT, SPAN_MIN,
    WorkConfig,
};
use slotcast::id::{ChannelId, RouteId};
use slotcast::membership::Overlay;
use slotcast::wire::{CHANNELS_MAX, ROUTES_MAX};

const CHANNEL: ChannelId = ChannelId(5);
const ROUTE: RouteId = RouteId(6);
const NS: Duration = Duration::from_nanos(1);

/// A value's name, a change to the last value that passes, and one to the first that does not.
type Row<T> = (&'static str, fn(&mut T), fn(&mut T));

fn sound() -> Config {
    let channel = ChannelConfig::new(CHANNEL);
    Config::new([channel]).routes([RouteConfig::new(ROUTE, "route")])
}

fn with_burst(ms: u64) -> Quota {
    let mut quota = Quota::default();
    quota.burst = Duration::from_millis(ms);
    quota
}

#[track_caller]
fn assert_rows<T>(rows: &[Row<T>], of: fn(&mut Config) -> &mut T, has_owner: fn(&Config) -> bool) {
    for (at, (name, last_right, first_wrong)) in rows.iter().enumerate() {
        let mut right = sound();
        last_right(of(&mut right));
        assert_eq!(right.check(), Ok(()), "row {at}: {name}");
        let mut wrong = sound();
        first_wrong(of(&mut wrong));
        let error = wrong.check().expect_err(&format!("row {at}: {name}"));
        assert_eq!(error.field, *name, "row {at}");
        assert!(has_owner(&wrong), "row {at}");
        assert!(error.to_string().contains(name), "row {at}: {error}");
    }
}

#[test]
fn each_value_of_a_channel_has_its_bounds() {
    let rows: &[Row<ChannelConfig>] = &[
        ("slots_max", |c| c.slots_max = 1, |c| c.slots_max = 0),
        ("slots_max", |c| c.slots_max = SLOTS_LIMIT, |c| c.slots_max = SLOTS_LIMIT + 1),
        (
            "relay_slots_max",
            |c| (c.relay, c.relay_slots_max) = (Relay::Automatic, c.slots_max - 1),
            |c| (c.relay, c.relay_slots_max) = (Relay::Automatic, c.slots_max),
        ),
        (
            "relay_slots_max",
            |c| (c.relay, c.relay_slots_max) = (Relay::Automatic, 1),
            |c| (c.relay, c.relay_slots_max) = (Relay::Automatic, 0),
        ),
        ("relay_slots_max", |c| c.relay_slots_max = 0, |c| c.relay_slots_max = 1),
        (
            "clear_delay",
            |c| c.clear_delay = Duration::from_millis(u32::MAX.into()),
            |c| c.clear_delay = Duration::from_millis(1 << 32),
        ),
        (
            "relay_hops_max",
            |c| (c.relay, c.relay_slots_max, c.relay_hops_max) = (Relay::Confirmed, 1, 1),
            |c| (c.relay, c.relay_slots_max, c.relay_hops_max) = (Relay::Confirmed, 1, 0),
        ),
        ("artifact_bytes_max", |c| all_bytes(c, 1 << 40), |c| all_bytes(c, (1 << 40) + 1)),
        (
            "quota.updates_per_second",
            |c| c.quota = Some(Quota::per_second(1, 1024)),
            |c| c.quota = Some(Quota::per_second(0, 1024)),
        ),
        (
            "quota.bytes_per_second",
            |c| c.quota = Some(Quota::per_second(1, 1024)),
            |c| c.quota = Some(Quota::per_second(1, 1023)),
        ),
        ("quota.burst", |c| c.quota = Some(with_burst(10)), |c| c.quota = Some(with_burst(9))),
        (
            "quota.burst",
            |c| c.quota = Some(with_burst(60_000)),
            |c| c.quota = Some(with_burst(60_001)),
        ),
        ("push_bytes_max", |c| c.push_bytes_max = 65_536, |c| c.push_bytes_max = 65_537),
        (
            "active_bytes_max",
            |c| c.active_bytes_max = c.artifact_bytes_max,
            |c| c.active_bytes_max = c.artifact_bytes_max - 1,
        ),
        (
            "active_bytes_max",
            |c| c.active_bytes_max = BUDGET_BYTES_LIMIT,
            |c| c.active_bytes_max = BUDGET_BYTES_LIMIT + 1,
        ),
        (
            "inbox_bytes_max",
            |c| c.inbox_bytes_max = c.artifact_bytes_max,
            |c| c.inbox_bytes_max = c.artifact_bytes_max - 1,
        ),
        (
            "inbox_bytes_max",
            |c| c.inbox_bytes_max = BUDGET_BYTES_LIMIT,
            |c| c.inbox_bytes_max = BUDGET_BYTES_LIMIT + 1,
        ),
    ];
    let is_channels = |config: &Config| {
        config.check().is_err_and(|error| (error.channel, error.route) == (Some(CHANNEL), None))
    };
    assert_rows(rows, |config| &mut config.channels[0], is_channels);
}

fn all_bytes(channel: &mut ChannelConfig, bytes: u64) {
    channel.artifact_bytes_max = bytes;
    (channel.active_bytes_max, channel.inbox_bytes_max) = (bytes, bytes);
}

#[test]
fn each_value_of_a_route_has_its_bounds() {
    let rows: &[Row<RouteConfig>] = &[
        (
            "request_bytes_max",
            |r| r.request_bytes_max = BODY_BYTES_LIMIT,
            |r| r.request_bytes_max = BODY_BYTES_LIMIT + 1,
        ),
        (
            "response_bytes_max",
            |r| r.response_bytes_max = BODY_BYTES_LIMIT,
            |r| r.response_bytes_max = BODY_BYTES_LIMIT + 1,
        ),
        (
            "body_bytes_max",
            |r| (r.request_bytes_max, r.body_bytes_max) = (2 << 20, 2 << 20),
            |r| (r.request_bytes_max, r.body_bytes_max) = (2 << 20, (2 << 20) - 1),
        ),
        (
            "body_bytes_max",
            |r| (r.response_bytes_max, r.body_bytes_max) = (2 << 20, 2 << 20),
            |r| (r.response_bytes_max, r.body_bytes_max) = (2 << 20, (2 << 20) - 1),
        ),
        (
            "body_bytes_max",
            |r| r.body_bytes_max = BUDGET_BYTES_LIMIT,
            |r| r.body_bytes_max = BUDGET_BYTES_LIMIT + 1,
        ),
        ("deadline_max", |r| r.deadline_max = SPAN_LIMIT, |r| r.deadline_max = SPAN_LIMIT + NS),
        ("deadline_max", |r| r.deadline_max = r.deadline, |r| r.deadline_max = Duration::ZERO),
        ("deadline", |r| r.deadline = r.deadline_max, |r| r.deadline = r.deadline_max + NS),
        ("deadline", |r| r.deadline = NS, |r| r.deadline = Duration::ZERO),
        ("rate_min", |r| r.rate_min = 1, |r| r.rate_min = 0),
        ("in_flight_max", |r| r.in_flight_max = 1, |r| r.in_flight_max = 0),
    ];
    let is_routes = |config: &Config| {
        config.check().is_err_and(|error| (error.channel, error.route) == (None, Some(ROUTE)))
    };
    assert_rows(rows, |config| &mut config.routes[0], is_routes);
}

fn is_nodes(config: &Config) -> bool {
    config.check().is_err_and(|error| (error.channel, error.route) == (None, None))
}

fn channels(count: usize) -> Vec<ChannelConfig> {
    (0..count).map(|at| ChannelConfig::new(ChannelId(at as u16))).collect()
}

fn routes(in_flight: &[u16]) -> Vec<RouteConfig> {
    let route = |(at, in_flight_max): (usize, &u16)| {
        let mut route = RouteConfig::new(RouteId(at as u16), "one of many");
        route.in_flight_max = *in_flight_max;
        route
    };
    in_flight.iter().enumerate().map(route).collect()
}

#[test]
fn each_value_of_a_node_has_its_bounds() {
    let rows: &[Row<Config>] = &[
        ("channels", |c| c.channels = channels(1), |c| c.channels.clear()),
        (
            "channels",
            |c| c.channels = channels(CHANNELS_MAX),
            |c| c.channels = channels(CHANNELS_MAX + 1),
        ),
        (
            "channels",
            |c| c.channels = channels(3),
            |c| c.channels = [channels(3), channels(1)].concat(),
        ),
        (
            "routes",
            |c| c.routes = routes(&[1; ROUTES_MAX]),
            |c| c.routes = routes(&[1; ROUTES_MAX + 1]),
        ),
        (
            "routes",
            |c| c.routes = routes(&[1; 3]),
            |c| c.routes = [routes(&[1; 3]), routes(&[1])].concat(),
        ),
        ("routes", |c| c.routes = routes(&[4000, 96]), |c| c.routes = routes(&[4000, 97])),
        ("peers_max", |c| c.peers_max = 1, |c| c.peers_max = 0),
        ("peers_max", |c| c.peers_max = PEERS_LIMIT, |c| c.peers_max = PEERS_LIMIT + 1),
        (
            "peers_max",
            |c| (c.transport.overlay, c.peers_max) = (Overlay::Regular { degree: 4 }, 32),
            |c| (c.transport.overlay, c.peers_max) = (Overlay::Regular { degree: 4 }, 31),
        ),
        ("batch_bytes_max", |c| c.batch_bytes_max = 1024, |c| c.batch_bytes_max = 1023),
        (
            "batch_bytes_max",
            |c| c.batch_bytes_max = BATCH_BYTES_LIMIT,
            |c| c.batch_bytes_max = BATCH_BYTES_LIMIT + 1,
        ),
        ("fetches_per_peer_max", |c| c.fetches_per_peer_max = 1, |c| c.fetches_per_peer_max = 0),
        (
            "fetches_per_peer_max",
            |c| c.fetches_per_peer_max = FETCHES_LIMIT,
            |c| c.fetches_per_peer_max = FETCHES_LIMIT + 1,
        ),
        ("serves_per_peer_max", |c| c.serves_per_peer_max = 1, |c| c.serves_per_peer_max = 0),
        ("serves_per_peer_max", |c| c.serves_per_peer_max = 4096, |c| c.serves_per_peer_max = 4097),
        (
            "streamed_per_peer_max",
            |c| c.streamed_per_peer_max = 4096,
            |c| c.streamed_per_peer_max = 4097,
        ),
        ("streamed_per_peer_max", |c| c.streamed_per_peer_max = 1, |c| c.streamed_per_peer_max = 0),
        ("fetch_timeout", |c| c.fetch_timeout = SPAN_MIN, |c| c.fetch_timeout = SPAN_MIN - NS),
        ("fetch_timeout", |c| c.fetch_timeout = SPAN_LIMIT, |c| c.fetch_timeout = SPAN_LIMIT + NS),
        ("fetch_retry", |c| c.fetch_retry = SPAN_MIN, |c| c.fetch_retry = SPAN_MIN - NS),
        ("fetch_retry", |c| c.fetch_retry = SPAN_LIMIT, |c| c.fetch_retry = Duration::MAX),
    ];
    assert_rows(rows, |config| config, is_nodes);
}

#[test]
fn requests_in_flight_are_bounded_over_the_routes_that_are_served() {
    let mut config = sound();
    config.routes = routes(&[4000, 97]);
    config.routes[1].serves = false;
    assert_eq!(config.check(), Ok(()));
}

/// With a channel whose longest artifact has chunks of a megabyte.
fn long_chunks(config: &mut Config) -> &mut Config {
    all_bytes(&mut config.channels[0], (128 << 20) + 1);
    config
}

#[test]
fn each_value_of_the_transport_has_its_bounds() {
    const CHUNKS: u32 = 128 << 10;
    let rows: &[Row<Config>] = &[
        ("transport.mtu_max", |c| c.transport.mtu_max = 1200, |c| c.transport.mtu_max = 1199),
        ("transport.mtu_max", |c| c.transport.mtu_max = 65_507, |c| c.transport.mtu_max = 65_508),
        (
            "transport.overlay",
            |c| c.transport.overlay = Overlay::Regular { degree: 4 },
            |c| c.transport.overlay = Overlay::Regular { degree: 2 },
        ),
        (
            "transport.overlay",
            |c| c.transport.overlay = Overlay::Regular { degree: 6 },
            |c| c.transport.overlay = Overlay::Regular { degree: 5 },
        ),
        (
            "transport.overlay",
            |c| (c.transport.overlay, c.peers_max) = (Overlay::Regular { degree: 64 }, PEERS_LIMIT),
            |c| c.transport.overlay = Overlay::Regular { degree: u16::MAX - 1 },
        ),
        ("transport.streams_max", |c| c.transport.streams_max = 8, |c| c.transport.streams_max = 7),
        (
            "transport.streams_max",
            |c| c.transport.streams_max = 4096,
            |c| c.transport.streams_max = 4097,
        ),
        (
            "transport.stream_window",
            |c| c.transport.stream_window = CHUNKS,
            |c| c.transport.stream_window = CHUNKS - 1,
        ),
        (
            "transport.stream_window",
            |c| (long_chunks(c).transport.stream_window) = 2 << 20,
            |c| (long_chunks(c).transport.stream_window) = (2 << 20) - 1,
        ),
        (
            "transport.send_window",
            |c| (long_chunks(c).transport.send_window) = 2 << 20,
            |c| (long_chunks(c).transport.send_window) = (2 << 20) - 1,
        ),
        (
            "transport.receive_window",
            |c| c.transport.receive_window = c.transport.stream_window,
            |c| c.transport.receive_window = c.transport.stream_window - 1,
        ),
        (
            "transport.send_window",
            |c| c.transport.send_window = CHUNKS,
            |c| c.transport.send_window = CHUNKS - 1,
        ),
        (
            "transport.window_pool",
            |c| c.transport.window_pool = BUDGET_BYTES_LIMIT,
            |c| c.transport.window_pool = BUDGET_BYTES_LIMIT + 1,
        ),
        (
            "transport.initial_window",
            |c| c.transport.initial_window = 14_720,
            |c| c.transport.initial_window = 14_719,
        ),
        (
            "transport.handshakes_max",
            |c| c.transport.handshakes_max = 1,
            |c| c.transport.handshakes_max = 0,
        ),
        (
            "transport.handshakes_per_address_max",
            |c| c.transport.handshakes_per_address_max = 1,
            |c| c.transport.handshakes_per_address_max = 0,
        ),
        ("transport.faults_max", |c| c.transport.faults_max = 1, |c| c.transport.faults_max = 0),
    ];
    assert_rows(rows, |config| config, is_nodes);
}

#[test]
fn each_span_of_the_transport_has_its_bounds() {
    const MIN: Duration = SPAN_MIN;
    const TEN: Duration = Duration::from_millis(10);
    let rows: &[Row<Config>] = &[
        (
            "transport.idle_timeout",
            |c| (c.transport.idle_timeout, c.transport.keep_alive) = (10 * TEN, TEN),
            |c| (c.transport.idle_timeout, c.transport.keep_alive) = (10 * TEN - NS, TEN),
        ),
        (
            "transport.idle_timeout",
            |c| c.transport.idle_timeout = SPAN_LIMIT,
            |c| c.transport.idle_timeout = SPAN_LIMIT + NS,
        ),
        (
            "transport.keep_alive",
            |c| c.transport.keep_alive = TEN,
            |c| c.transport.keep_alive = TEN - NS,
        ),
        (
            "transport.keep_alive",
            |c| c.transport.keep_alive = c.transport.idle_timeout - NS,
            |c| c.transport.keep_alive = c.transport.idle_timeout,
        ),
        (
            "transport.dial_pause_min",
            |c| c.transport.dial_pause_min = MIN,
            |c| c.transport.dial_pause_min = MIN - NS,
        ),
        (
            "transport.dial_pause_min",
            |c| {
                c.transport.dial_pause_min = c.transport.dial_pause_max;
                c.transport.dial_pause_higher = SPAN_LIMIT;
            },
            |c| c.transport.dial_pause_min = c.transport.dial_pause_max + NS,
        ),
        (
            "transport.dial_pause_higher",
            |c| c.transport.dial_pause_higher = 2 * c.transport.dial_pause_min,
            |c| c.transport.dial_pause_higher = 2 * c.transport.dial_pause_min - NS,
        ),
        (
            "transport.dial_pause_higher",
            |c| c.transport.dial_pause_higher = SPAN_LIMIT,
            |c| c.transport.dial_pause_higher = SPAN_LIMIT + NS,
        ),
        (
            "transport.dial_pause_max",
            |c| c.transport.dial_pause_max = SPAN_LIMIT,
            |c| c.transport.dial_pause_max = SPAN_LIMIT + NS,
        ),
        (
            "transport.dial_pause_max",
            |c| (c.transport.dial_pause_min, c.transport.dial_pause_max) = (MIN, MIN),
            |c| (c.transport.dial_pause_min, c.transport.dial_pause_max) = (MIN, MIN - NS),
        ),
        (
            "transport.fault_decay",
            |c| c.transport.fault_decay = MIN,
            |c| c.transport.fault_decay = MIN - NS,
        ),
        (
            "transport.fault_decay",
            |c| c.transport.fault_decay = SPAN_LIMIT,
            |c| c.transport.fault_decay = SPAN_LIMIT + NS,
        ),
        (
            "transport.cut_off",
            |c| c.transport.cut_off = SPAN_LIMIT,
            |c| c.transport.cut_off = Duration::MAX,
        ),
        (
            "transport.cut_off",
            |c| c.transport.cut_off = Duration::ZERO,
            |c| c.transport.cut_off = SPAN_LIMIT + NS,
        ),
        (
            "transport.hello_timeout",
            |c| c.transport.hello_timeout = 10 * TEN,
            |c| c.transport.hello_timeout = 10 * TEN - NS,
        ),
        (
            "transport.hello_timeout",
            |c| c.transport.hello_timeout = SPAN_LIMIT,
            |c| c.transport.hello_timeout = Duration::MAX,
        ),
        (
            "transport.shutdown_timeout",
            |c| c.transport.shutdown_timeout = MIN,
            |c| c.transport.shutdown_timeout = MIN - NS,
        ),
        (
            "transport.shutdown_timeout",
            |c| c.transport.shutdown_timeout = SPAN_LIMIT,
            |c| c.transport.shutdown_timeout = SPAN_LIMIT + NS,
        ),
    ];
    assert_rows(rows, |config| config, is_nodes);
}

#[test]
fn each_value_of_the_share_of_work_has_its_bounds() {
    let rows: &[Row<WorkConfig>] = &[
        ("work.turn_max", |w| w.turn_max = 100, |w| w.turn_max = 99),
        ("work.turn_max", |w| w.turn_max = 1_000_000, |w| w.turn_max = 1_000_001),
        (
            "work.fruitless_per_second",
            |w| w.fruitless_per_second = 1,
            |w| w.fruitless_per_second = 0,
        ),
        ("work.fruitless_max", |w| w.fruitless_max = 1000, |w| w.fruitless_max = 999),
    ];
    assert_rows(rows, |config| &mut config.work, is_nodes);
}

#[test]
fn each_value_of_the_driver_has_its_bounds() {
    const US: Duration = Duration::from_micros(1);
    let rows: &[Row<DriverConfig>] = &[
        ("driver.commands_max", |d| d.commands_max = 1, |d| d.commands_max = 0),
        ("driver.commands_max", |d| d.commands_max = 65_536, |d| d.commands_max = 65_537),
        ("driver.staged_events_max", |d| d.staged_events_max = 1, |d| d.staged_events_max = 0),
        (
            "driver.staged_events_max",
            |d| d.staged_events_max = 4096,
            |d| d.staged_events_max = 4097,
        ),
        ("driver.staged_bytes_max", |d| d.staged_bytes_max = 1, |d| d.staged_bytes_max = 0),
        (
            "driver.staged_bytes_max",
            |d| d.staged_bytes_max = 1 << 20,
            |d| d.staged_bytes_max = (1 << 20) + 1,
        ),
        ("driver.poll_max", |d| d.poll_max = 10 * US, |d| d.poll_max = 10 * US - NS),
        ("driver.poll_max", |d| d.poll_max = 10_000 * US, |d| d.poll_max = 10_000 * US + NS),
        (
            "driver.socket_buffer_bytes",
            |d| d.socket_buffer_bytes = 64 << 10,
            |d| d.socket_buffer_bytes = (64 << 10) - 1,
        ),
        (
            "driver.socket_buffer_bytes",
            |d| d.socket_buffer_bytes = 64 << 20,
            |d| d.socket_buffer_bytes = (64 << 20) + 1,
        ),
    ];
    assert_rows(rows, |config| &mut config.driver, is_nodes);
}

#[test]
fn an_error_tells_the_value_and_what_is_allowed() {
    let text = |change: fn(&mut Config)| {
        let mut config = sound();
        change(&mut config);
        config.check().expect_err("it is wrong").to_string()
    };
    let idle = text(|c| c.transport.idle_timeout = Duration::from_secs(u64::MAX));
    assert_eq!(
        idle,
        "transport.idle_timeout: 18446744073709551615s does not lie between 100ms and 4294967.295s"
    );
    assert_eq!(
        text(|c| c.channels[0].inbox_bytes_max = 5),
        "channel 5: inbox_bytes_max: 5 does not lie between 16777216 and 281474976710656 (it has to \
         hold the longest artifact)"
    );
    assert_eq!(
        text(|c| c.routes[0].in_flight_max = 0),
        "route 6: in_flight_max: 0 does not lie between 1 and 65535"
    );
    assert_eq!(
        text(|c| c.channels = [channels(3), channels(2)].concat()),
        "channels: 0 is named twice"
    );
    let degree: fn(&mut Config) = |c| c.transport.overlay = Overlay::Regular { degree: 7 };
    assert_eq!(text(degree), "transport.overlay: 7 is no even degree");
}
