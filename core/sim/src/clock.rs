//! The clock of one node: it may be off, run too fast or too slow, and jump.

use core::time::Duration;

use slotcast::time::Time;

const MILLION: i128 = 1_000_000;

/// Maps the simulator's time to a node's.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    /// The simulator's time of the last change, and what the clock showed then.
    changed_at: Time,
    shown: Time,
    /// Millionths by which it runs faster.
    drift: i32,
}

impl Clock {
    /// What the clock shows at a time of the simulator's.
    pub fn at(&self, time: Time) -> Time {
        let passed = i128::from(time.0.saturating_sub(self.changed_at.0));
        let passed = passed * (MILLION + i128::from(self.drift)) / MILLION;
        Time(self.shown.0.saturating_add(u64::try_from(passed).unwrap_or(u64::MAX)))
    }

    /// When the clock will show `shown`, at the earliest; at once if it has.
    pub fn when(&self, shown: Time) -> Time {
        if shown == Time::NEVER {
            return shown;
        }
        let rest = i128::from(shown.0.saturating_sub(self.shown.0)) * MILLION;
        let speed = MILLION + i128::from(self.drift);
        let passed = (rest + speed - 1) / speed;
        Time(self.changed_at.0.saturating_add(u64::try_from(passed).unwrap_or(u64::MAX)))
    }

    /// From now on it runs so many millionths faster, or slower.
    ///
    /// # Panics
    /// If it would run backwards.
    pub fn drift(&mut self, now: Time, drift: i32) {
        assert!(i128::from(drift) > -MILLION, "a clock runs forwards");
        *self = Self { changed_at: now, shown: self.at(now), drift };
    }

    /// Jumps forwards.
    pub fn forward(&mut self, now: Time, by: Duration) {
        *self = Self { changed_at: now, shown: self.at(now) + by, drift: self.drift };
    }

    /// Jumps backwards, to zero at most.
    pub fn back(&mut self, now: Time, by: Duration) {
        *self = Self { changed_at: now, shown: self.at(now) - by, drift: self.drift };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_when_agrees_with_when_it_is_shown() {
        let mut clock = Clock::default();
        let second = Duration::from_secs(1);
        clock.drift(Time(1_000), 333_333);
        clock.forward(Time(5_000_000_000), second);
        clock.drift(Time(6_000_000_000), -200_000);
        clock.back(Time(7_000_000_001), 2 * second);
        let from = clock.at(Time(7_000_000_001));
        for later in [0, 1, 2, 3, 999, 1_000_003, 77_777_777_777] {
            let shown = Time(from.0 + later);
            let when = clock.when(shown);
            assert!(clock.at(when) >= shown, "{later}");
            assert!(when.0 <= 7_000_000_001 || clock.at(Time(when.0 - 1)) < shown, "{later}");
        }
        assert_eq!(clock.when(Time::NEVER), Time::NEVER);
    }
}
