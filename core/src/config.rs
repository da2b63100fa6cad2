//! Every bound, rate and timeout, with unit, default and reason, and the memory bound that follows
//! from them.

use alloc::borrow::Cow;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use crate::artifact::{
    ARTIFACT_BYTES_LIMIT, BLOCKS_BYTES_MAX, METADATA_BYTES_MAX, SINGLE_CHUNK_BYTES_MAX,
    longest_chunk_bytes,
};
use crate::id::{ChannelId, RouteId};
use crate::membership::{Overlay, VERSIONS_MAX};
use crate::wire::{
    CALL_FRAME_MAX, CHANNELS_MAX, CHUNK_BITS_MAX, Chunk, EAGER_BYTES_MAX, FRAME_OVERHEAD_MAX,
    FURTHER_BYTES_MAX, HELLO_BYTES_MAX, ROUTES_MAX,
};

/// Members beside this node that the tables can hold: sets of peers are fixed bit fields.
pub const PEERS_LIMIT: u16 = 512;

/// Slots that a channel can have.
pub const SLOTS_LIMIT: u32 = 1 << 16;

/// Bytes of datagrams that QUIC keeps of a handshake before the node has accepted it.
pub(crate) const INCOMING_BYTES: u64 = 64 << 10;

/// Bytes that QUIC keeps of a stream beside the stream's own data, when its pieces come out of order:
/// of the datagrams around them, and for each piece.
const STREAM_BYTES: u64 = 192 << 10;

/// Bytes that QUIC and TLS keep of an accepted handshake: less than 48 KiB in any case (the simulator
/// measures 36 KiB, and does not see what cryptography in C allocates), and a stream of handshake data
/// for each of the two levels of encryption, of which quinn-proto takes 16 KiB out of order.
const HANDSHAKE_BYTES: u64 = (48 << 10) + 2 * ((16 << 10) + STREAM_BYTES);

/// The shortest span of time that a timer can be set to again and again: shorter ones would only keep
/// a processor and the network busy.
pub const SPAN_MIN: Duration = Duration::from_millis(1);

/// The longest span of time that a value can be, about 49 days: timeouts of calls are 32 bits of
/// milliseconds on the wire, and clocks can be added to without an overflow.
pub const SPAN_LIMIT: Duration = Duration::from_millis(u32::MAX as u64);

/// The highest budget of bytes, 256 TiB: more than a machine has, and low enough that the sum over
/// all channels and routes does not overflow.
pub const BUDGET_BYTES_LIMIT: u64 = 1 << 48;

/// The name of a value, and what holds for it.
type Rule = (&'static str, &'static str);

/// The first rule that does not hold.
fn first_broken(rules: impl IntoIterator<Item = (bool, Rule)>) -> Result<(), Rule> {
    let broken = rules.into_iter().find(|(holds, _)| !holds);
    broken.map_or(Ok(()), |(_, rule)| Err(rule))
}

/// A number of requests: each has a place in a table, whose index has 16 bits.
fn is_count(count: u16) -> bool {
    (1..=4096).contains(&count)
}

fn is_span(span: Duration) -> bool {
    (SPAN_MIN..=SPAN_LIMIT).contains(&span)
}

/// The least rate of an uplink, in bytes per second: 128 kbit/s. At a lower one, a single datagram takes
/// longer than a tenth of a second.
const UPLINK_MIN: u64 = 16_000;

/// The least initial window, in bytes (RFC 9002, section 7.2).
const INITIAL_WINDOW_MIN: u32 = 14_720;

const SPAN: &str = "must lie between 1 ms and 2^32 - 1 ms (49 days)";

const COUNT: &str = "must lie between 1 and 4,096";

const BUDGET: &str = "must hold the longest artifact, and not exceed 256 TiB";

/// How urgent a channel is. A class goes before all lower ones to the same peer, except for a small
/// guaranteed share; between peers, connections take turns.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Class {
    /// Consensus messages that a round waits for.
    Urgent,
    /// Everything else.
    #[default]
    Normal,
    /// Large transfers that are not urgent: state, archives.
    Bulk,
}

/// Whether a node passes on what it received.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Relay {
    /// Never: publishers reach every member themselves.
    #[default]
    Off,
    /// When the application says so, after it has validated the artifact.
    Confirmed,
    /// As soon as the artifact has come; of one that is spread, each chunk once it is checked, before the
    /// application has seen anything of it.
    Automatic,
}

/// One channel. All members of a subnet should agree on its bounds; a channel is inert towards a
/// peer that takes less than this node may send.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ChannelConfig {
    /// The channel.
    pub id: ChannelId,
    /// How urgent it is.
    pub class: Class,
    /// Artifacts active at once per sender, relayed ones included. Default 1,024: an order of
    /// magnitude above what a consensus round keeps alive.
    pub slots_max: u32,
    /// Of those, slots for relayed artifacts. Default 0, without relaying. An artifact for which
    /// none is free is not passed on.
    pub relay_slots_max: u32,
    /// Bytes of the artifacts that this node has published, and again of those that it relays.
    /// Default 64 MiB.
    pub active_bytes_max: u64,
    /// Bytes in one artifact. Default 16 MiB.
    pub artifact_bytes_max: u64,
    /// Up to this many bytes an artifact is pushed with its advert, beyond it is fetched. Default
    /// 16 KiB: below it, a round trip costs more than the bytes. At most 64 KiB, since a
    /// longer artifact has several chunks.
    pub push_bytes_max: u32,
    /// Push larger artifacts, too, as a stream behind the advert: saves a round trip where latency
    /// counts more than doubled bytes. Default false.
    pub latency_sensitive: bool,
    /// Bytes received but not yet taken by the application, and again bytes being fetched: pushes do
    /// not wait for fetches, which can be made to last. An eighth of it, or one artifact, is what one
    /// holder may be asked for at a time. Default 128 MiB: eight of the longest artifacts, so that it
    /// takes eight silent holders to delay what the others have; set it to f + 1 of them.
    pub inbox_bytes_max: u64,
    /// Whether received artifacts are passed on.
    pub relay: Relay,
    /// Hops from the publisher over which artifacts are passed on. Default 4; a full mesh needs 1.
    pub relay_hops_max: u8,
    /// Artifacts of at least so many bytes are *spread*: the publisher sends each member another part
    /// of them, unasked, and each passes its part on to all others while it comes. So all have it in
    /// little more than the time in which the publisher sends it once. Only with [`Relay::Automatic`],
    /// in a full mesh, and up to 256 MiB; without effect otherwise. A member whose filter does not want an
    /// artifact passes nothing of it on. Default 256 KiB: below, a part would be less than a chunk in a
    /// subnet of 16. `u64::MAX` for never.
    pub spread_bytes_min: u64,
    /// How long at most a member that was pushed an artifact may not yet be told that it was aborted, if
    /// there is nothing else to tell it meanwhile: by itself that takes a datagram, and another one
    /// that acknowledges it. What is still to be sent of the artifact is not sent in any case. Default
    /// 100 ms: after half of it, acknowledgements that were due have gone out, within 25 ms each. Zero to
    /// tell it at once.
    pub clear_delay: Duration,
    /// Whether the application is told when members withdraw what was delivered to it
    /// ([`Event::Withdrawn`](crate::broadcast::Event::Withdrawn),
    /// [`Event::Expired`](crate::broadcast::Event::Expired)). Default true. Where artifacts are used up
    /// when they are delivered, it costs an event each for nothing. Without it, an artifact that is gone
    /// and comes back is delivered again, with no event in between.
    pub tells_withdrawals: bool,
}

impl ChannelConfig {
    /// A channel with the defaults.
    pub const fn new(id: ChannelId) -> Self {
        Self {
            id,
            class: Class::Normal,
            slots_max: 1024,
            relay_slots_max: 0,
            active_bytes_max: 64 << 20,
            artifact_bytes_max: 16 << 20,
            push_bytes_max: 16 << 10,
            latency_sensitive: false,
            inbox_bytes_max: 128 << 20,
            relay: Relay::Off,
            relay_hops_max: 4,
            spread_bytes_min: 256 << 10,
            clear_delay: Duration::from_millis(100),
            tells_withdrawals: true,
        }
    }

    /// The same channel in another class.
    #[must_use]
    pub const fn class(self, class: Class) -> Self {
        Self { class, ..self }
    }

    /// The same channel, passing on what it received in up to `slots_max` slots, which are added to
    /// those for its own artifacts.
    #[must_use]
    pub const fn relaying(self, relay: Relay, slots_max: u32) -> Self {
        let own = self.slots_max - self.relay_slots_max;
        Self { relay, relay_slots_max: slots_max, slots_max: own + slots_max, ..self }
    }

    /// Slots for artifacts that this node publishes.
    pub const fn publish_slots_max(&self) -> u32 {
        self.slots_max - self.relay_slots_max
    }

    /// Bytes of the longest frame of updates in this channel, streamed chunks aside.
    pub(crate) fn update_bytes_max(&self) -> usize {
        let push = METADATA_BYTES_MAX + self.push_bytes_max as usize;
        let snapshot = self.slots_max as usize / 8 + 1;
        let partial = METADATA_BYTES_MAX + 32 + CHUNK_BITS_MAX;
        FRAME_OVERHEAD_MAX + FURTHER_BYTES_MAX + push.max(snapshot).max(partial)
    }

    /// Bytes of the longest frame that a peer may begin in this channel: an update, or a chunk with
    /// its proof.
    fn frame_bytes_max(&self) -> usize {
        let chunk = longest_chunk_bytes(self.artifact_bytes_max) + Chunk::OVERHEAD_MAX;
        chunk.max(self.update_bytes_max())
    }

    fn check(&self) -> Result<(), Rule> {
        let is_relaying = self.relay != Relay::Off;
        let budget = self.artifact_bytes_max..=BUDGET_BYTES_LIMIT;
        let push_bytes_max = self.push_bytes_max as usize;
        first_broken([
            (
                (1..=SLOTS_LIMIT).contains(&self.slots_max),
                ("slots_max", "must lie between 1 and 65,536"),
            ),
            (
                self.relay_slots_max < self.slots_max,
                ("relay_slots_max", "must leave slots for the node's own artifacts"),
            ),
            (
                is_relaying == (self.relay_slots_max > 0),
                ("relay_slots_max", "must be 0 without relaying, and above with it"),
            ),
            (
                !is_relaying || self.relay_hops_max > 0,
                ("relay_hops_max", "must be at least 1 with relaying"),
            ),
            (
                self.clear_delay <= SPAN_LIMIT,
                ("clear_delay", "must not exceed 2^32 - 1 ms (49 days)"),
            ),
            (
                self.artifact_bytes_max <= ARTIFACT_BYTES_LIMIT,
                ("artifact_bytes_max", "must not exceed 1 TiB"),
            ),
            (
                push_bytes_max <= SINGLE_CHUNK_BYTES_MAX,
                ("push_bytes_max", "must not exceed a single chunk (65,536)"),
            ),
            (budget.contains(&self.active_bytes_max), ("active_bytes_max", BUDGET)),
            (budget.contains(&self.inbox_bytes_max), ("inbox_bytes_max", BUDGET)),
        ])
    }
}

/// Bytes that a request or answer can have.
pub const BODY_BYTES_LIMIT: u32 = 128 << 20;

/// Requests of one peer, on all routes together, that can be in flight.
pub const IN_FLIGHT_LIMIT: u32 = 4096;

/// One route: a kind of request, and what it may cost. Members agree on the number and the meaning
/// of a route; each has its own bounds, and a caller is held to the narrower ones.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct RouteConfig {
    /// The route.
    pub id: RouteId,
    /// Its name, for people.
    pub name: Cow<'static, str>,
    /// How urgent its requests and answers are, among the channels and other routes.
    pub class: Class,
    /// Bytes in one request. Default 1 MiB, at most [`BODY_BYTES_LIMIT`].
    pub request_bytes_max: u32,
    /// Bytes in one answer. Default 1 MiB, at most [`BODY_BYTES_LIMIT`].
    pub response_bytes_max: u32,
    /// Whether this node takes requests, too, or only calls. Default true.
    pub serves: bool,
    /// Requests of one peer that are being received, dealt with and answered at once; further ones
    /// stay in their streams. As many of this node's calls may be under way to one peer. Default
    /// 64: two thousand calls per second and peer over 30 ms.
    pub in_flight_max: u16,
    /// Calls to one peer that wait for its credit. Default 64: as many again.
    pub waiting_max: u16,
    /// How long a call waits that does not say so itself. Default 10 s.
    pub deadline: Duration,
    /// The longest that a request is worked on for a caller, whatever it asks for. Default 5 min.
    pub deadline_max: Duration,
    /// Bytes of requests received and not yet taken by the application; again of answers received;
    /// again of requests that have not arrived or, on a route with long answers, not been answered;
    /// and of answers, for which room is kept from when a request is taken up until they have
    /// arrived. An eighth of it, or one body, is what one peer may take of each. Default 128 MiB.
    pub body_bytes_max: u64,
    /// The slowest rate of a body, in bytes per second. A slower body is given up after five
    /// seconds' grace. Default 4 KiB: what is left of a poor link shared by a hundred transfers.
    pub rate_min: u32,
}

impl RouteConfig {
    /// A route with the defaults.
    pub fn new(id: RouteId, name: impl Into<Cow<'static, str>>) -> Self {
        Self {
            id,
            name: name.into(),
            class: Class::Normal,
            serves: true,
            request_bytes_max: 1 << 20,
            response_bytes_max: 1 << 20,
            in_flight_max: 64,
            waiting_max: 64,
            deadline: Duration::from_secs(10),
            deadline_max: Duration::from_secs(300),
            body_bytes_max: 128 << 20,
            rate_min: 4 << 10,
        }
    }

    /// The same route in another class.
    #[must_use]
    pub fn class(self, class: Class) -> Self {
        Self { class, ..self }
    }

    /// The same route for requests and answers of up to so many bytes.
    #[must_use]
    pub fn bytes_max(self, request: u32, response: u32) -> Self {
        Self { request_bytes_max: request, response_bytes_max: response, ..self }
    }

    fn check(&self) -> Result<(), Rule> {
        const BODY: &str = "must not exceed 128 MiB";
        let longest = u64::from(self.request_bytes_max.max(self.response_bytes_max));
        first_broken([
            (self.request_bytes_max <= BODY_BYTES_LIMIT, ("request_bytes_max", BODY)),
            (self.response_bytes_max <= BODY_BYTES_LIMIT, ("response_bytes_max", BODY)),
            (
                (longest..=BUDGET_BYTES_LIMIT).contains(&self.body_bytes_max),
                ("body_bytes_max", "must hold the longest body, and not exceed 256 TiB"),
            ),
            (is_span(self.deadline_max), ("deadline_max", SPAN)),
            (
                !self.deadline.is_zero() && self.deadline <= self.deadline_max,
                ("deadline", "must lie above 0, and not above deadline_max"),
            ),
            (self.rate_min > 0, ("rate_min", "must be above 0")),
            (self.in_flight_max > 0, ("in_flight_max", "must be above 0")),
        ])
    }
}

/// A node. `Config::new(channels)` gives the defaults; [`Config::check`] is called where a node or
/// machine is made of it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Config {
    /// The channels, each id once.
    pub channels: Vec<ChannelConfig>,
    /// The routes, each id once. Default none.
    pub routes: Vec<RouteConfig>,
    /// Members that this node keeps connections to: all others, or those beside it in the
    /// [`overlay`](TransportConfig::overlay). Default 64, at most [`PEERS_LIMIT`].
    pub peers_max: u16,
    /// Bytes of updates put into one stream. Default 64 KiB: large enough that a stream's cost
    /// vanishes, small enough to be reset as a whole.
    pub batch_bytes_max: u32,
    /// Fetch requests under way to one peer, in each class. Default 8: a holder has enough to send
    /// while the next ones travel.
    pub fetches_per_peer_max: u16,
    /// Fetch requests of one peer being served; more are refused as busy. Default 64: twice what a
    /// peer has under way in three classes, since an answer counts until it is acknowledged.
    pub serves_per_peer_max: u16,
    /// Artifacts of which a peer may send chunks unasked at the same time, behind their adverts; of
    /// more, they are asked for. Default 64: two of each member, in a subnet of 32 that all publish.
    pub streamed_per_peer_max: u16,
    /// The longest time until a request is reviewed. In a review, others are asked for what has not come
    /// if one of them is expected to be faster, or if nothing has come at all; whatever comes first is
    /// taken. The request is not given up, however slow its holder is. Default 2 s: above any round
    /// trip time on earth with one or two losses.
    pub fetch_timeout: Duration,
    /// When all holders have refused or failed, they are asked again after this. Default 1 s.
    pub fetch_retry: Duration,
    /// Connections.
    pub transport: TransportConfig,
}

/// How a node connects: used by [`Node`](crate::node) only.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct TransportConfig {
    /// Which members keep connections to each other: the same at all. Default the full mesh.
    pub overlay: Overlay,
    /// Largest UDP payload that path MTU discovery may find, in bytes. Default 1,452 (Ethernet,
    /// IPv6); 9,000 and loopback's 65,507 work, too. At least 1,200.
    pub mtu_max: u16,
    /// A peer silent for so long, and up to one `keep_alive` longer, is down. Default 10 s.
    pub idle_timeout: Duration,
    /// An idle connection is kept alive at this interval. Default 3 s.
    pub keep_alive: Duration,
    /// Streams that a peer may have open at once. Default 128: one batch each.
    pub streams_max: u32,
    /// Bytes of one stream that a peer may send ahead of what was read. Default 2 MiB: two of the
    /// longest chunks that there are.
    pub stream_window: u32,
    /// Bytes of all streams that a peer may send ahead of what was read. Default 8 MiB.
    pub receive_window: u32,
    /// Bytes that may be unacknowledged to one peer, whatever the congestion window. Default 8 MiB.
    pub send_window: u32,
    /// Bytes that may be in flight on a new connection before anything has been acknowledged. Default
    /// 48 KiB, 32 packets: the part of an artifact of 2 MB that each of 40 members is sent when it is
    /// spread. They are paced over a round trip. Where links are slower than 1 Mbit/s, use the 14,720
    /// bytes of RFC 9002, section 7.2: what is more than their queues hold is lost and sent again.
    pub initial_window: u32,
    /// The rate of this node's uplink, in bytes per second, headers of IPv6 and UDP included. With it,
    /// what leaves the node is shaped to the rate, so that it queues here, where what is urgent goes
    /// first and what became obsolete is dropped, and not in a router. It should be a few percent
    /// below the real rate. At least 16,000. Default none: as fast as QUIC's congestion control
    /// allows.
    pub uplink: Option<u64>,
    /// Handshakes of dialling peers in progress. Default 64.
    pub handshakes_max: u16,
    /// Of those, with one IP address. Default 32: half. When all are taken, the address with most of
    /// them makes room for one with fewer.
    pub handshakes_per_address_max: u16,
    /// Handshakes are only begun with IP addresses of members. Default true; false behind NAT.
    pub filter_addresses: bool,
    /// First pause of the member with the lower id before dialling a peer again. Default 50 ms;
    /// doubles, with jitter.
    pub dial_pause_min: Duration,
    /// Longest pause of the member with the lower id before dialling a peer again. Default 5 s.
    pub dial_pause_max: Duration,
    /// Pause of the member with the higher id before dialling a peer (again), less up to half of it
    /// as jitter. It dials only in case the other one cannot reach it. Default 3 s: the other one has
    /// dialled several times by then, so that connections seldom cross, and a member that only this
    /// one can reach is missed for a few seconds at most.
    pub dial_pause_higher: Duration,
    /// Faults of a peer until it is cut off. Default 3: one may be a broken build being replaced.
    pub faults_max: u32,
    /// How long a peer stays cut off. Default 60 s.
    pub cut_off: Duration,
    /// How long a connection may take from its first datagram to its hello. Default 5 s.
    pub hello_timeout: Duration,
}

impl Default for TransportConfig {
    fn default() -> Self {
        Self {
            overlay: Overlay::FullMesh,
            mtu_max: 1452,
            idle_timeout: Duration::from_secs(10),
            keep_alive: Duration::from_secs(3),
            streams_max: 128,
            stream_window: 2 << 20,
            receive_window: 8 << 20,
            send_window: 8 << 20,
            initial_window: 48 << 10,
            uplink: None,
            handshakes_max: 64,
            handshakes_per_address_max: 32,
            filter_addresses: true,
            dial_pause_min: Duration::from_millis(50),
            dial_pause_max: Duration::from_secs(5),
            dial_pause_higher: Duration::from_secs(3),
            faults_max: 3,
            cut_off: Duration::from_secs(60),
            hello_timeout: Duration::from_secs(5),
        }
    }
}

impl Config {
    /// The defaults, with these channels.
    pub fn new(channels: impl IntoIterator<Item = ChannelConfig>) -> Self {
        Self {
            channels: channels.into_iter().collect(),
            routes: Vec::new(),
            peers_max: 64,
            batch_bytes_max: 64 << 10,
            fetches_per_peer_max: 8,
            serves_per_peer_max: 64,
            streamed_per_peer_max: 64,
            fetch_timeout: Duration::from_secs(2),
            fetch_retry: Duration::from_secs(1),
            transport: TransportConfig::default(),
        }
    }

    /// The same with these routes.
    #[must_use]
    pub fn routes(self, routes: impl IntoIterator<Item = RouteConfig>) -> Self {
        Self { routes: routes.into_iter().collect(), ..self }
    }

    /// Bidirectional streams that a peer may have open at once: twice the requests in flight, since
    /// a stream ends for the caller before it does for the callee, and cancelled ones linger.
    pub(crate) fn calls_max(&self) -> u32 {
        let served = self.routes.iter().filter(|route| route.serves);
        2 * served.map(|route| u32::from(route.in_flight_max)).sum::<u32>()
    }

    /// Bidirectional streams to one peer, in both roles, that this node keeps track of.
    #[cfg_attr(not(feature = "quic"), allow(dead_code, reason = "for nodes"))]
    pub(crate) fn call_streams_max(&self) -> u32 {
        4 * self.routes.iter().map(|route| u32::from(route.in_flight_max)).sum::<u32>()
    }

    /// Bytes that a peer may send ahead of what was read, beside
    /// [`TransportConfig::receive_window`]: the most that unread requests may occupy. So they never
    /// block updates, fetches and answers.
    #[cfg_attr(not(feature = "quic"), allow(dead_code, reason = "for nodes"))]
    pub(crate) fn unread_bytes_max(&self) -> u64 {
        u64::from(self.calls_max()) * (CALL_FRAME_MAX + EAGER_BYTES_MAX) as u64
    }

    /// Checks every value, relations included.
    ///
    /// # Errors
    /// Names the first value that is wrong, and why.
    pub fn check(&self) -> Result<(), ConfigError> {
        let of_node = |(value, why)| ConfigError { channel: None, route: None, value, why };
        for channel in &self.channels {
            let of_channel = |rule| ConfigError { channel: Some(channel.id), ..of_node(rule) };
            channel.check().map_err(of_channel)?;
        }
        for route in &self.routes {
            let of_route = |rule| ConfigError { route: Some(route.id), ..of_node(rule) };
            route.check().map_err(of_route)?;
        }
        let transport = || self.transport.check(self.peers_max, self.chunk_bytes_max());
        self.check_numbers().and_then(|()| transport()).map_err(of_node)
    }

    /// Bytes in the longest chunk of any channel.
    fn chunk_bytes_max(&self) -> usize {
        let longest = |channel: &ChannelConfig| longest_chunk_bytes(channel.artifact_bytes_max);
        self.channels.iter().map(longest).max().unwrap_or(0)
    }

    /// Bytes of the longest frame that a peer may begin.
    fn frame_bytes_max(&self) -> usize {
        let longest = self.channels.iter().map(ChannelConfig::frame_bytes_max).max();
        longest.unwrap_or(0).max(HELLO_BYTES_MAX)
    }

    /// What holds for the node as a whole, connections aside.
    fn check_numbers(&self) -> Result<(), Rule> {
        let (channels, routes) = (&self.channels, &self.routes);
        let mut pairs = channels.iter().enumerate();
        let has_twins = pairs.any(|(at, one)| channels[..at].iter().any(|two| two.id == one.id));
        let mut pairs = routes.iter().enumerate();
        let has_twin_routes =
            pairs.any(|(at, one)| routes[..at].iter().any(|two| two.id == one.id));
        first_broken([
            (
                (1..=CHANNELS_MAX).contains(&channels.len()),
                ("channels", "must number between 1 and 64"),
            ),
            (!has_twins, ("channels", "must not name a channel twice")),
            (routes.len() <= ROUTES_MAX, ("routes", "must number at most 64")),
            (!has_twin_routes, ("routes", "must not name a route twice")),
            (
                self.calls_max() <= 2 * IN_FLIGHT_LIMIT,
                ("routes", "must not have in_flight_max above 4,096 together"),
            ),
            (
                (1..=PEERS_LIMIT).contains(&self.peers_max),
                ("peers_max", "must lie between 1 and 512"),
            ),
            (self.batch_bytes_max >= 1024, ("batch_bytes_max", "must be at least 1,024")),
            (is_count(self.fetches_per_peer_max), ("fetches_per_peer_max", COUNT)),
            (is_count(self.serves_per_peer_max), ("serves_per_peer_max", COUNT)),
            (is_count(self.streamed_per_peer_max), ("streamed_per_peer_max", COUNT)),
            (is_span(self.fetch_timeout), ("fetch_timeout", SPAN)),
            (is_span(self.fetch_retry), ("fetch_retry", SPAN)),
        ])
    }

    /// An upper bound of the heap bytes that a node holds, whatever its peers do, by a configuration
    /// that passes [`Config::check`] (the sum of others may overflow): 8 MiB (socket
    /// buffers, blocks that short artifacts share, small things) + base + peers x budgets. Base is what this node published, fetches
    /// and has not handed to the application, and handshakes; a peer's budget is its tables, what it
    /// is being told, and what QUIC holds for it.
    ///
    /// | term | bytes |
    /// | --- | --- |
    /// | outbox, per channel | `active_bytes_max` (twice with relaying) `+ 1536 x slots_max` |
    /// | inbox, per channel | `2 x inbox_bytes_max`: waiting for the application, being fetched |
    /// | chunks and their Merkle trees, per channel | a 128th of those bytes of outbox and inbox |
    /// | events staged by the driver, per channel | `1 MiB + artifact_bytes_max` |
    /// | handshakes | `handshakes_max x (464 KiB + 64 KiB)`: in progress, and not accepted yet |
    /// | tables, per peer and channel | `(2 x 56 + 8 + 2 x 2880) x slots_max`: entries and artifacts of two epochs, what is told of them and fetched, what was sent |
    /// | requests, per peer | `512 x (3 x fetches_per_peer_max + serves_per_peer_max + 2 x streamed_per_peer_max)`: in each class, in both directions, and what is sent unasked |
    /// | unfinished frames, per peer | `streams_max x` longest frame of any channel: mostly a chunk of its longest artifact, with its proof |
    /// | bodies, per route | `4 x body_bytes_max`: requests and answers, coming and going |
    /// | calls, per peer and route | `1 KiB x 2 x in_flight_max + 17 KiB x (in_flight_max + waiting_max)`: requests in flight and unread; calls in flight and waiting, with short answers |
    /// | QUIC, per peer | `receive_window + 2 x send_window + 192 KiB x streams_max + 64 KiB`: windows, and what pieces of a stream that came out of order keep of the datagrams around them; and for unread requests, `24 KiB` for each of `2 x in_flight_max` of all routes |
    pub fn memory_bound(&self) -> u64 {
        // Less than two hashes of 32 bytes for each chunk of 16 KiB, and where it is: 32 bytes.
        let with_tree = |bytes: u64| bytes + bytes / 128;
        let sum =
            |bytes: &dyn Fn(&ChannelConfig) -> u64| self.channels.iter().map(bytes).sum::<u64>();
        let outbox = sum(&|c| {
            let shares = if c.relay == Relay::Off { 1 } else { 2 };
            with_tree(shares * c.active_bytes_max) + 1536 * u64::from(c.slots_max)
        });
        let inbox = sum(&|c| with_tree(2 * c.inbox_bytes_max) + c.artifact_bytes_max + (1 << 20));
        let tables = sum(&|c| (2 * 56 + 8 + 2 * 2880) * u64::from(c.slots_max));
        let t = &self.transport;
        let frames = u64::from(t.streams_max) * self.frame_bytes_max() as u64;
        let quic = u64::from(t.receive_window)
            + 2 * u64::from(t.send_window)
            + STREAM_BYTES * u64::from(t.streams_max)
            + (24 << 10) * u64::from(self.calls_max())
            + (64 << 10);
        let bodies = self.routes.iter().map(|route| 4 * route.body_bytes_max).sum::<u64>();
        let calls = |route: &RouteConfig| {
            let (flying, waiting) = (u64::from(route.in_flight_max), u64::from(route.waiting_max));
            1024 * 2 * flying + (1024 + EAGER_BYTES_MAX as u64) * (flying + waiting)
        };
        let calls = self.routes.iter().map(calls).sum::<u64>();
        let (asked, streamed) = (self.fetches_per_peer_max, self.streamed_per_peer_max);
        let requests = 3 * u64::from(asked) + 2 * u64::from(streamed);
        let requests = 512 * (requests + u64::from(self.serves_per_peer_max));
        let peer = tables + requests + frames + calls + quic;
        let handshakes = u64::from(t.handshakes_max) * (HANDSHAKE_BYTES + INCOMING_BYTES);
        let base = outbox + inbox + bodies + handshakes;
        (4 << 20) + BLOCKS_BYTES_MAX + base + u64::from(self.peers_max) * peer
    }
}

impl TransportConfig {
    fn check(&self, peers_max: u16, chunk_bytes_max: usize) -> Result<(), Rule> {
        const SOME: &str = "must be at least 1";
        const CHUNKS: &str =
            "must hold two of the longest chunks of any channel, and 131,072 bytes";
        let chunks_min = 2 * chunk_bytes_max.max(SINGLE_CHUNK_BYTES_MAX) as u32;
        self.check_overlay(peers_max)?;
        let limits = first_broken([
            (
                (1200..=65_507).contains(&self.mtu_max),
                ("transport.mtu_max", "must lie between 1,200 and 65,507"),
            ),
            (
                self.initial_window >= INITIAL_WINDOW_MIN,
                ("transport.initial_window", "must be at least 14,720 bytes"),
            ),
            (
                (8..=4096).contains(&self.streams_max),
                ("transport.streams_max", "must lie between 8 and 4,096"),
            ),
            (self.stream_window >= chunks_min, ("transport.stream_window", CHUNKS)),
            (
                self.stream_window <= self.receive_window,
                ("transport.receive_window", "must not be below stream_window"),
            ),
            (self.send_window >= chunks_min, ("transport.send_window", CHUNKS)),
            (
                self.uplink.is_none_or(|rate| rate >= UPLINK_MIN),
                ("transport.uplink", "must be at least 16,000 bytes per second"),
            ),
            (self.handshakes_max > 0, ("transport.handshakes_max", SOME)),
            (self.handshakes_per_address_max > 0, ("transport.handshakes_per_address_max", SOME)),
            (self.faults_max > 0, ("transport.faults_max", SOME)),
        ]);
        limits.and_then(|()| self.check_spans())
    }

    fn check_overlay(&self, peers_max: u16) -> Result<(), Rule> {
        let Overlay::Regular { degree } = self.overlay else { return Ok(()) };
        first_broken([
            (
                degree >= 4 && degree % 2 == 0,
                ("transport.overlay", "must have an even degree of at least 4"),
            ),
            (
                usize::from(degree) * VERSIONS_MAX <= peers_max.into(),
                ("peers_max", "must be 8 times the overlay's degree, for 8 versions"),
            ),
        ])
    }

    fn check_spans(&self) -> Result<(), Rule> {
        first_broken([
            // QUIC takes less than a millisecond for none at all (RFC 9000, section 18.2).
            (is_span(self.idle_timeout), ("transport.idle_timeout", SPAN)),
            (
                (SPAN_MIN..self.idle_timeout).contains(&self.keep_alive),
                ("transport.keep_alive", "must be 1 ms at least, and shorter than idle_timeout"),
            ),
            (is_span(self.dial_pause_max), ("transport.dial_pause_max", SPAN)),
            (
                (SPAN_MIN..=self.dial_pause_max).contains(&self.dial_pause_min),
                ("transport.dial_pause_min", "must be 1 ms at least, and not above dial_pause_max"),
            ),
            (
                (self.dial_pause_min.saturating_mul(2)..=SPAN_LIMIT)
                    .contains(&self.dial_pause_higher),
                (
                    "transport.dial_pause_higher",
                    "must be twice dial_pause_min at least, and 49 days at most",
                ),
            ),
            (
                self.cut_off <= SPAN_LIMIT,
                ("transport.cut_off", "must not exceed 2^32 - 1 ms (49 days)"),
            ),
            (is_span(self.hello_timeout), ("transport.hello_timeout", SPAN)),
        ])
    }
}

/// An invalid value of the configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ConfigError {
    /// The channel, if the value is one of a channel's.
    pub channel: Option<ChannelId>,
    /// The route, if the value is one of a route's.
    pub route: Option<RouteId>,
    /// The field's name.
    pub value: &'static str,
    /// What holds for it.
    pub why: &'static str,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(channel) = self.channel {
            write!(f, "channel {}: ", channel.0)?;
        }
        if let Some(route) = self.route {
            write!(f, "route {}: ", route.0)?;
        }
        write!(f, "{} {}", self.value, self.why)
    }
}

impl core::error::Error for ConfigError {}
