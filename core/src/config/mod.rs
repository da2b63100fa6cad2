//! Every bound, rate and timeout, with unit, default and reason, and the memory bound that follows
//! from them.
//!
//! A bound is a field where there is a reason to choose it: what an application keeps, how urgent it is,
//! what its machines and networks can do. The rest are constants beside the code that they bound, each
//! with its reason there:
//!
//! - What the wire or QUIC decides: lengths of frames, packets of a few hundred bytes, retransmission.
//! - Shares (an eighth of a budget for one peer, a sixteenth of the rate for lower classes): who needs
//!   more of something raises the budget.
//! - What is measured at run time (rates of holders, round trips, queues): constants are where the
//!   measurement starts, and the ends of what is believed.
//! - Intervals of reports to the application, 10 s: they bound the events that strangers can cause.
//! - Buffers of a few kilobytes for what may be dropped without loss, such as responses without a
//!   connection, which are repeated.
//! - Counts within one poll of a driver, which only matter if its clock stands still.
//!
//! # Files
//!
//! With the feature `serde`, configurations can be read from files. What is not given has its default; what is
//! unknown is refused. Only ids of channels, and ids and names of routes, have to be given. [`Config::check`]
//! is not part of reading, but of making a node. In TOML:
//!
//! ```
//! let config: slotcast::config::Config = toml::from_str(r#"
//!     peers_max = 100
//!
//!     [[channels]]
//!     id = 1
//!     class = "urgent"
//!     relay = "automatic"
//!     relay_slots_max = 512
//!     clear_delay = "50ms"
//!
//!     [[routes]]
//!     id = 1
//!     name = "blocks"
//!     response_bytes_max = 4194304
//!     deadline = "30s"
//!
//!     [transport]
//!     overlay = { regular = { degree = 8 } }
//!     idle_timeout = "5s"
//!
//!     [driver]
//!     staged_events_max = 64
//! "#)?;
//! assert_eq!(config.check(), Ok(()));
//! # Ok::<(), toml::de::Error>(())
//! ```
//!
//! Numbers in TOML go up to 2^63 - 1, which does for `u64::MAX`, too, where that means never.

mod channel;
mod driver;
mod error;
mod freshness;
mod memory;
mod order;
mod quota;
#[cfg(feature = "serde")]
mod read;
mod route;
#[cfg(feature = "serde")]
mod span;
mod transport;
mod work;

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::time::Duration;

use crate::artifact::longest_chunk_bytes;
use crate::wire::{CALL_FRAME_MAX, CHANNELS_MAX, EAGER_BYTES_MAX, HELLO_BYTES_MAX, ROUTES_MAX};

use error::{invalid, within, within_count, within_span};

pub use channel::{ChannelConfig, Relay, SLOTS_LIMIT};
pub use driver::DriverConfig;
pub use error::{ConfigError, Value};
pub use freshness::Freshness;
pub(crate) use memory::PACED_BYTES;
#[cfg(feature = "quic")]
pub(crate) use memory::{
    CLOSED_PER_PEER_MAX, CLOSED_UNKNOWN_MAX, EARLY_BYTES, EARLY_STREAMS, ENCODED_BYTES,
    INCOMING_BYTES, QUOTA_BYTES, RECEIVED_BYTES, Windows,
};
pub use order::Order;
pub use quota::Quota;
pub use route::{BODY_BYTES_LIMIT, IN_FLIGHT_LIMIT, RouteConfig};
pub use transport::TransportConfig;
pub use work::WorkConfig;

/// Fetch requests under way to one peer in each class, at most: a holder keeps its refusals of as many, in all
/// classes, until they are sent.
pub const FETCHES_LIMIT: u16 = 256;

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

/// Bytes of updates that may be put into one stream: more would hardly ever be reset in time.
pub const BATCH_BYTES_LIMIT: u32 = 1 << 20;

/// How urgent a channel is. A class goes before all lower ones to the same peer, except for a small
/// guaranteed share; between peers, connections take turns.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
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
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
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
    /// vanishes, small enough to be reset as a whole. Between 1,024 and [`BATCH_BYTES_LIMIT`].
    pub batch_bytes_max: u32,
    /// Fetch requests under way to one peer, in each class. Default 32: artifacts that are just too long to be
    /// pushed, of 16 KiB, fill a path of 5 MB/s and 100 ms. What a holder is asked for ahead is bounded in bytes.
    /// At most [`FETCHES_LIMIT`].
    pub fetches_per_peer_max: u16,
    /// Fetch requests of one peer being served; more are refused as busy. Default 128: what a peer
    /// has under way in two classes, twice, since an answer counts until it is acknowledged.
    pub serves_per_peer_max: u16,
    /// Artifacts of which a peer may send chunks unasked at the same time, behind their adverts; of
    /// more, they are asked for. Default 64: two of each member, in a subnet of 32 that all publish.
    pub streamed_per_peer_max: u16,
    /// The longest time until a request is reviewed. In a review, others are asked for what has not come
    /// if one of them is expected to be faster, or if nothing has come at all; whatever comes first is
    /// taken. The request is not given up, however slow its holder is. Default 2 s: above any round
    /// trip time on earth with one or two losses.
    #[cfg_attr(feature = "serde", serde(with = "span"))]
    pub fetch_timeout: Duration,
    /// When all holders have refused or failed, they are asked again after this. Default 1 s.
    #[cfg_attr(feature = "serde", serde(with = "span"))]
    pub fetch_retry: Duration,
    /// Connections.
    pub transport: TransportConfig,
    /// The share that each peer has of this node's work.
    pub work: WorkConfig,
    /// What a driver does at a time.
    pub driver: DriverConfig,
}

impl Default for Config {
    /// The defaults, without any channel: it needs one at least.
    fn default() -> Self {
        Self::new([])
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
            fetches_per_peer_max: 32,
            serves_per_peer_max: 128,
            streamed_per_peer_max: 64,
            fetch_timeout: Duration::from_secs(2),
            fetch_retry: Duration::from_secs(1),
            transport: TransportConfig::default(),
            work: WorkConfig::default(),
            driver: DriverConfig::default(),
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
        let in_flight = served.map(|route| u32::from(route.in_flight_max));
        // Saturating for what does not pass the check.
        in_flight.fold(0, u32::saturating_add).saturating_mul(2)
    }

    /// Bidirectional streams to one peer, in both roles, that this node keeps track of.
    #[cfg_attr(not(feature = "quic"), allow(dead_code, reason = "for nodes"))]
    pub(crate) fn call_streams_max(&self) -> u32 {
        4 * self.routes.iter().map(|route| u32::from(route.in_flight_max)).sum::<u32>()
    }

    /// Bytes that a peer may send ahead of what was read, beside
    /// [`TransportConfig::receive_window`]: the most that unread requests may occupy. So they never
    /// block updates, fetches and answers.
    pub(crate) fn unread_bytes_max(&self) -> u64 {
        u64::from(self.calls_max()) * (CALL_FRAME_MAX + EAGER_BYTES_MAX) as u64
    }

    /// Checks every value, relations included. What passes has a [`memory_bound`](Config::memory_bound)
    /// without an overflow.
    ///
    /// # Errors
    /// Names the first field that is wrong, its value, and what it may be.
    pub fn check(&self) -> Result<(), ConfigError> {
        for channel in &self.channels {
            let of_channel = |error| ConfigError { channel: Some(channel.id), ..error };
            channel.check().map_err(of_channel)?;
        }
        for route in &self.routes {
            let of_route = |error| ConfigError { route: Some(route.id), ..error };
            route.check().map_err(of_route)?;
        }
        self.check_numbers()?;
        self.transport.check(self.peers_max, self.chunk_bytes_max())?;
        self.work.check()?;
        self.driver.check()
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
    fn check_numbers(&self) -> Result<(), ConfigError> {
        let (channels, routes) = (&self.channels, &self.routes);
        within("channels", channels.len() as u64, 1..=CHANNELS_MAX as u64, "so many of them")?;
        if let Some(twin) = first_twin(channels.iter().map(|channel| channel.id)) {
            return Err(invalid("channels", twin.0, "is named twice"));
        }
        within("routes", routes.len() as u64, 0..=ROUTES_MAX as u64, "so many of them")?;
        if let Some(twin) = first_twin(routes.iter().map(|route| route.id)) {
            return Err(invalid("routes", twin.0, "is named twice"));
        }
        let in_flight = self.calls_max() / 2;
        within("routes", in_flight, 0..=IN_FLIGHT_LIMIT, "in_flight_max of all that are served")?;
        within("peers_max", self.peers_max, 1..=PEERS_LIMIT, "")?;
        within("batch_bytes_max", self.batch_bytes_max, 1024..=BATCH_BYTES_LIMIT, "")?;
        within("fetches_per_peer_max", self.fetches_per_peer_max, 1..=FETCHES_LIMIT, "")?;
        within_count("serves_per_peer_max", self.serves_per_peer_max)?;
        within_count("streamed_per_peer_max", self.streamed_per_peer_max)?;
        within_span("fetch_timeout", self.fetch_timeout)?;
        within_span("fetch_retry", self.fetch_retry)
    }
}

/// The first id that was there before.
fn first_twin<T: Ord + Copy>(ids: impl Iterator<Item = T>) -> Option<T> {
    let mut known = BTreeSet::new();
    ids.into_iter().find(|id| !known.insert(*id))
}
