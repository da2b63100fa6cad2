//! What a peer has room for.

use crate::config::RouteConfig;

/// What a peer has room for on a route, and how many calls may wait for that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Credit {
    /// Calls under way at once.
    pub in_flight_max: u16,
    /// Bytes of requests under way at once, but for one request of any length that the peer accepts.
    pub bytes_max: u64,
    /// Bytes of one request.
    pub request_bytes_max: u32,
    /// Calls that may wait for credit.
    pub waiting_max: u16,
}

impl Credit {
    /// What this node would use at most.
    pub(crate) fn most(config: &RouteConfig) -> Self {
        Self {
            in_flight_max: config.in_flight_max,
            bytes_max: config.request_bytes_share(),
            request_bytes_max: config.request_bytes_max,
            waiting_max: config.waiting_max,
        }
    }

    /// Whether there is credit for one more call, beside so many, if their requests and its own have so
    /// many bytes. If it `waits`, it needs none yet.
    pub(crate) fn admits(&self, calls: u32, bytes: u64, waits: bool) -> bool {
        let in_flight_max = u32::from(self.in_flight_max);
        match waits {
            true => calls < in_flight_max + u32::from(self.waiting_max),
            false => calls < in_flight_max && bytes <= self.bytes_max,
        }
    }
}
