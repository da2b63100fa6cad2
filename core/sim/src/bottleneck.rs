//! Points that datagrams pass one after the other, at a bounded rate, with a queue before each.

use core::time::Duration;

use slotcast::time::Time;

/// Overhead of IPv4 and UDP, which takes time to send, too, in bytes.
const HEADERS: usize = 28;

/// A rate, and the queue before it.
///
/// As the uplink or downlink of a participant it is shared by all links of that participant, in one
/// direction. The default is no bound.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Bottleneck {
    /// Bytes per second, headers included; 0 for no bound.
    pub bytes_per_second: u64,
    /// Bytes that may wait; a datagram that finds more than these waiting is lost (tail drop).
    /// Without meaning where there is no bound.
    pub queue_bytes_max: u64,
}

impl Bottleneck {
    /// A rate in bytes per second, and a queue that the rate empties in so much time.
    pub const fn new(bytes_per_second: u64, queue: Duration) -> Self {
        let queue_bytes_max = bytes_per_second as u128 * queue.as_nanos() / 1_000_000_000;
        Self { bytes_per_second, queue_bytes_max: queue_bytes_max as u64 }
    }

    fn span(&self, bytes: u64) -> Duration {
        Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / self.bytes_per_second)
    }
}

/// What waits at a bottleneck.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Queue {
    /// When everything before has left.
    busy_until: Time,
}

impl Queue {
    /// When a datagram of `length` bytes that comes at `now` has left; `None` if it is lost.
    pub(crate) fn pass(
        &mut self,
        now: Time,
        bottleneck: &Bottleneck,
        length: usize,
    ) -> Option<Time> {
        if bottleneck.bytes_per_second == 0 {
            return Some(now);
        }
        let begins_at = self.busy_until.max(now);
        if begins_at.since(now) > bottleneck.span(bottleneck.queue_bytes_max) {
            return None;
        }
        self.busy_until = begins_at + bottleneck.span((length + HEADERS) as u64);
        Some(self.busy_until)
    }
}
