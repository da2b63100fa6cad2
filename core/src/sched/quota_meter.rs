//! How much of a quota is used up. (Virtual scheduling, the form of a leaky bucket in ITU-T I.371: what is noted is
//! when all that has passed would have been due.)

use core::time::Duration;

use crate::config::Quota;
use crate::time::Time;

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// What has passed of the updates and bytes that a quota allows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QuotaMeter {
    pub(crate) quota: Quota,
    /// Nanoseconds in which as much may pass as the quota allows in a second.
    second: u64,
    /// When all updates that have passed would have been due, and all bytes.
    updates_due: Time,
    bytes_due: Time,
}

impl QuotaMeter {
    pub(crate) const fn new(quota: Quota) -> Self {
        let second = NANOS_PER_SECOND;
        Self { quota, second, updates_due: Time::ZERO, bytes_due: Time::ZERO }
    }

    /// The same, where all takes such a part longer: for who keeps to a quota that another one measures, whose clock
    /// may be slower.
    pub(crate) const fn slower(quota: Quota, part: u64) -> Self {
        Self { second: NANOS_PER_SECOND + NANOS_PER_SECOND / part, ..Self::new(quota) }
    }

    /// When all that has passed would have been due.
    pub(crate) fn due(&self) -> Time {
        self.updates_due.max(self.bytes_due)
    }

    /// So many updates have passed, and so many bytes.
    pub(crate) fn charge(&mut self, now: Time, updates: u32, bytes: usize) {
        let updates = self.span(updates.into(), self.quota.updates_per_second);
        let bytes = self.span(bytes as u64, self.quota.bytes_per_second);
        self.updates_due = self.updates_due.max(now) + updates;
        self.bytes_due = self.bytes_due.max(now) + bytes;
    }

    /// The time between two updates.
    pub(crate) fn update_span(&self) -> Duration {
        self.span(1, self.quota.updates_per_second)
    }

    fn span(&self, count: u64, per_second: u32) -> Duration {
        Duration::from_nanos((count * self.second).div_ceil(per_second.max(1).into()))
    }

    /// The updates and bytes that may pass before all of it would be due at a time.
    pub(crate) fn allowance(&self, now: Time, due: Time) -> (u64, u64) {
        let count = |from: Time, per_second: u32| {
            let nanos = u128::from(due.0.saturating_sub(from.max(now).0));
            (nanos * u128::from(per_second) / u128::from(self.second)) as u64
        };
        let updates = count(self.updates_due, self.quota.updates_per_second);
        (updates, count(self.bytes_due, self.quota.bytes_per_second))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allowed_is_due_by_then_and_one_more_is_not() {
        let now = Time::ZERO + Duration::from_secs(5);
        let until = now + Duration::from_millis(250);
        let mut meter = QuotaMeter::new(Quota::per_second(100, 10_000));
        assert_eq!(meter.allowance(now, until), (25, 2500));
        meter.charge(now, 10, 1000);
        assert_eq!(meter.allowance(now, until), (15, 1500));
        meter.charge(now, 15, 100);
        assert_eq!((meter.due(), meter.allowance(now, until)), (until, (0, 1400)));
        meter.charge(now, 0, 1401);
        assert!(meter.due() > until);
        let later = now + Duration::from_secs(1);
        assert_eq!(meter.allowance(later, later + Duration::from_secs(1)), (100, 10_000));
    }

    #[test]
    fn a_slower_one_allows_the_same_in_a_longer_time() {
        let now = Time::ZERO + Duration::from_secs(5);
        let mut meter = QuotaMeter::slower(Quota::per_second(10, 1 << 20), 100);
        let until = now + Duration::from_millis(10_100);
        assert_eq!(meter.allowance(now, until).0, 100);
        meter.charge(now, 100, 0);
        assert_eq!(meter.due(), until);
    }
}
