//! What a route may cost.

use alloc::borrow::Cow;
use core::time::Duration;

use super::error::{within, within_span};
use super::{BUDGET_BYTES_LIMIT, Class, ConfigError};
use crate::id::RouteId;

/// Bytes that a request or answer can have.
pub const BODY_BYTES_LIMIT: u32 = 128 << 20;

/// What one peer may take of a budget of bodies is the budget divided by this number.
const SHARES: u64 = 8;

/// Requests of one peer, on all routes together, that can be in flight.
pub const IN_FLIGHT_LIMIT: u32 = 4096;

/// One route: a kind of request, and what it may cost. Members agree on the number and the meaning
/// of a route; each has its own bounds, and a caller is held to the narrower ones.
///
/// ```
/// use slotcast::config::{ChannelConfig, Config, RouteConfig};
/// use slotcast::id::{ChannelId, RouteId};
///
/// // A request has at most 8 bytes, its answer at most 4 MiB.
/// let block_at = RouteConfig::new(RouteId(1), "block at height").bytes_max(8, 4 << 20);
/// let config = Config::new([ChannelConfig::new(ChannelId(1))]).routes([block_at]);
/// assert_eq!(config.check(), Ok(()));
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct RouteConfig {
    /// The route.
    pub id: RouteId,
    /// Its name, for people.
    pub name: Cow<'static, str>,
    /// How urgent its requests and answers are, among the channels and other routes.
    pub class: Class,
    /// Bytes in one request. Default 256 KiB, of which one peer may have the default of 64 in flight;
    /// at most [`BODY_BYTES_LIMIT`].
    pub request_bytes_max: u32,
    /// Bytes in one answer. Default 256 KiB, at most [`BODY_BYTES_LIMIT`].
    pub response_bytes_max: u32,
    /// Whether this node takes requests, too, or only calls. Default true.
    pub serves: bool,
    /// Whether requests are handed out as soon as it is their turn, and their bodies are read in parts while
    /// they arrive. Messages are not. Default false: a request is handed out when all of it is there.
    pub reads_in_parts: bool,
    /// Requests of one peer that are being received, dealt with and answered at once; further ones
    /// stay in their streams. As many of this node's calls may be under way to one peer, if their
    /// requests have no more bytes than the peer has [room](Self::body_bytes_max) for. Default 64: two
    /// thousand calls per second and peer over 30 ms. Each counts with a MiB for each peer in
    /// [`memory_bound`](super::Config::memory_bound).
    pub in_flight_max: u16,
    /// Calls to one peer that wait for its credit. Default 64: as many again.
    pub waiting_max: u16,
    /// How long a call waits that does not say so itself. Default 10 s.
    #[cfg_attr(feature = "serde", serde(with = "super::span"))]
    pub deadline: Duration,
    /// The longest that a request is worked on for a caller, whatever it asks for. Then the caller is told
    /// so: [`DeadlineMaxPassed`](crate::error::CallError::DeadlineMaxPassed). Default 5 min.
    #[cfg_attr(feature = "serde", serde(with = "super::span"))]
    pub deadline_max: Duration,
    /// Bytes of requests received and not yet taken by the application; again of answers received;
    /// again of requests that have not arrived or, on a route with long answers, not been answered;
    /// and of answers until they have arrived, for which room is kept from when a request is taken up, but
    /// not for more than [`ANSWER_BYTES_KEPT`](crate::rpc::ANSWER_BYTES_KEPT) bytes. An eighth of it, or one body, is what one peer may take of each, and twice as much of the
    /// requests that have not arrived. Callers are told: calls wait for it as they do for `in_flight_max`.
    /// Default 128 MiB: an eighth of it holds 64 bodies of the default length.
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
            reads_in_parts: false,
            request_bytes_max: 256 << 10,
            response_bytes_max: 256 << 10,
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

    /// The same route for requests that are read in parts.
    #[must_use]
    pub fn reads_in_parts(self) -> Self {
        Self { reads_in_parts: true, ..self }
    }

    /// The same route for requests and answers of up to so many bytes.
    #[must_use]
    pub fn bytes_max(self, request: u32, response: u32) -> Self {
        Self { request_bytes_max: request, response_bytes_max: response, ..self }
    }

    /// Bytes of requests that one peer may take of [`body_bytes_max`](Self::body_bytes_max).
    pub fn request_bytes_share(&self) -> u64 {
        self.share(self.request_bytes_max)
    }

    /// The same of answers.
    pub(crate) fn response_bytes_share(&self) -> u64 {
        self.share(self.response_bytes_max)
    }

    fn share(&self, longest: u32) -> u64 {
        (self.body_bytes_max / SHARES).max(longest.into())
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        const BUDGET: &str = "it has to hold the longest body";
        const DEADLINE: &str = "it ends at deadline_max";
        let longest = u64::from(self.request_bytes_max.max(self.response_bytes_max));
        let deadline = Duration::from_nanos(1)..=self.deadline_max;
        within("request_bytes_max", self.request_bytes_max, 0..=BODY_BYTES_LIMIT, "")?;
        within("response_bytes_max", self.response_bytes_max, 0..=BODY_BYTES_LIMIT, "")?;
        within("body_bytes_max", self.body_bytes_max, longest..=BUDGET_BYTES_LIMIT, BUDGET)?;
        within_span("deadline_max", self.deadline_max)?;
        within("deadline", self.deadline, deadline, DEADLINE)?;
        within("rate_min", self.rate_min, 1..=u32::MAX, "")?;
        within("in_flight_max", self.in_flight_max, 1..=u16::MAX, "")
    }
}
