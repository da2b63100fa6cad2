//! Every bound, rate and timeout, with unit, default and reason, and the memory bound that follows
//! from them.

mod channel;
mod memory;
mod route;
mod transport;

use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use crate::artifact::longest_chunk_bytes;
use crate::id::{ChannelId, RouteId};
use crate::wire::{CALL_FRAME_MAX, CHANNELS_MAX, EAGER_BYTES_MAX, HELLO_BYTES_MAX, ROUTES_MAX};

pub use channel::{ChannelConfig, Relay, SLOTS_LIMIT};
#[cfg(feature = "quic")]
pub(crate) use memory::INCOMING_BYTES;
pub use route::{BODY_BYTES_LIMIT, IN_FLIGHT_LIMIT, RouteConfig};
pub use transport::TransportConfig;

/// Members beside this node that the tables can hold: sets of peers are fixed bit fields.
pub const PEERS_LIMIT: u16 = 512;

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

const SPAN: &str = "must lie between 1 ms and 2^32 - 1 ms (49 days)";

const COUNT: &str = "must lie between 1 and 4,096";

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
