//! Shaping of what leaves this node to the rate of its uplink.

use std::time::Duration;

use crate::time::Time;

/// How far ahead of the rate a node may send: short enough that urgent data hardly waits for it in
/// the router, and long enough that a timer that is late by a millisecond costs no throughput.
const BURST: Duration = Duration::from_millis(2);

/// Headers that the uplink carries with each datagram, in bytes: IPv6 and UDP.
const HEADERS: usize = 48;

/// The uplink as a queue that drains at a fixed rate (a leaky bucket as a meter, ITU-T I.371).
#[derive(Debug)]
pub(super) struct Uplink {
    /// Bytes per second. `None`: not shaped.
    rate: Option<u64>,
    /// When all that was sent has left.
    busy_until: Time,
}

impl Uplink {
    pub(super) fn new(rate: Option<u64>) -> Self {
        Self { rate, busy_until: Time::ZERO }
    }

    /// Whether it has a rate.
    pub(super) fn is_shaped(&self) -> bool {
        self.rate.is_some()
    }

    /// When more may be sent.
    pub(super) fn free_at(&self) -> Time {
        match self.rate {
            Some(_) => self.busy_until - BURST,
            None => Time::ZERO,
        }
    }

    /// Datagrams of `mtu` bytes that may be sent at once, at least one.
    pub(super) fn segments(&self, now: Time, mtu: usize) -> usize {
        let Some(rate) = self.rate else { return usize::MAX };
        let ahead = self.busy_until.since(now);
        let bytes = u128::from(rate) * BURST.saturating_sub(ahead).as_nanos() / 1_000_000_000;
        (bytes as usize / (mtu + HEADERS)).max(1)
    }

    /// Datagrams were sent.
    pub(super) fn charge(&mut self, now: Time, bytes: usize, datagrams: usize) {
        let Some(rate) = self.rate else { return };
        let bytes = (bytes + datagrams * HEADERS) as u128;
        let span = bytes * 1_000_000_000 / u128::from(rate.max(1));
        let span = Duration::from_nanos(u64::try_from(span).unwrap_or(u64::MAX));
        self.busy_until = self.busy_until.max(now) + span;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leaves_keeps_to_the_rate_but_for_a_burst() {
        let mut uplink = Uplink::new(Some(1_000_000));
        let (mut now, mut sent) = (Time::ZERO, 0);
        while now < Time::ZERO + Duration::from_secs(1) {
            if uplink.free_at() <= now {
                let segments = uplink.segments(now, 952).min(10);
                assert!((1..=3).contains(&segments));
                uplink.charge(now, 952 * segments, segments);
                sent += 1000 * segments;
            }
            now = now + Duration::from_micros(100);
        }
        assert!((1_000_000..1_004_000).contains(&sent), "{sent}");
    }

    #[test]
    fn time_that_was_not_used_is_not_made_up_for() {
        let mut uplink = Uplink::new(Some(1_000_000));
        let later = Time::ZERO + Duration::from_secs(10);
        assert_eq!(uplink.segments(later, 952), 2);
        uplink.charge(later, 1904, 2);
        assert_eq!(uplink.free_at(), later);
        uplink.charge(later, 952, 1);
        assert!(uplink.free_at() > later);
    }

    #[test]
    fn without_a_rate_nothing_waits() {
        let mut uplink = Uplink::new(None);
        uplink.charge(Time::ZERO, 1 << 40, 1);
        assert_eq!((uplink.free_at(), uplink.segments(Time::ZERO, 1452)), (Time::ZERO, usize::MAX));
    }
}
