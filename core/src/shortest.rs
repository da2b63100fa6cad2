//! The shortest of what was measured lately.

use core::time::Duration;

use crate::time::Time;

/// The shortest of the durations that were measured in the present span, and in the one before. So what is
/// older than two spans does not count any more, and nothing has to be kept but these two.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shortest {
    present: Duration,
    before: Duration,
}

impl Shortest {
    /// Nothing was measured yet.
    pub(crate) const fn new() -> Self {
        Self { present: Duration::MAX, before: Duration::MAX }
    }

    pub(crate) fn note(&mut self, measured: Duration) {
        self.present = self.present.min(measured);
    }

    /// The present span ends, and another one begins.
    pub(crate) fn next_span(&mut self) {
        *self = Self { present: Duration::MAX, before: self.present };
    }

    /// [`Duration::MAX`] if nothing was measured.
    pub(crate) fn get(&self) -> Duration {
        self.present.min(self.before)
    }
}

/// How long a shortest round trip counts after it was measured, and again as long at most: by then, the path
/// may have become another one. Queues that several connections fill are shorter now and then, too.
const FLOOR_SPAN: Duration = Duration::from_secs(30);

/// The shortest round trip of a path in the last minute. What is beyond it is taken for queues.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Floor {
    shortest: Shortest,
    span_began: Time,
}

impl Floor {
    pub(crate) const fn new(now: Time) -> Self {
        Self { shortest: Shortest::new(), span_began: now }
    }

    pub(crate) fn note(&mut self, now: Time, round_trip: Duration) {
        let age = now.since(self.span_began);
        if age >= FLOOR_SPAN {
            self.shortest.next_span();
            self.span_began = now;
        }
        if age >= 2 * FLOOR_SPAN {
            // After a longer silence, neither counts.
            self.shortest.next_span();
        }
        self.shortest.note(round_trip);
    }

    /// The path has become a longer one.
    #[cfg(feature = "quic")]
    pub(crate) fn raise(&mut self, round_trip: Duration) {
        self.shortest = Shortest::new();
        self.shortest.note(round_trip);
    }

    /// [`Duration::MAX`] if no round trip was measured.
    pub(crate) fn get(&self) -> Duration {
        self.shortest.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_millis(100);

    #[test]
    fn a_round_trip_counts_for_30_to_60_seconds() {
        for began in [0, 29] {
            let mut floor = Floor::new(Time::ZERO);
            let at = |seconds| Time::ZERO + Duration::from_secs(seconds);
            floor.note(at(began), SHORT);
            let mut seconds = began;
            while floor.get() == SHORT {
                seconds += 1;
                floor.note(at(seconds), LONG);
            }
            assert!((30..=60).contains(&(seconds - began)), "{seconds} - {began}");
            assert_eq!(floor.get(), LONG);
        }
    }

    #[test]
    fn after_an_hour_of_silence_only_what_is_measured_then_counts() {
        let mut floor = Floor::new(Time::ZERO);
        floor.note(Time::ZERO, SHORT);
        floor.note(Time::ZERO + Duration::from_secs(3_600), LONG);
        assert_eq!(floor.get(), LONG);
    }
}
