//! How many faults of a peer count.

use std::time::Duration;

use crate::time::Time;

/// Faults of a peer, of which one is forgiven in each `fault_decay` (a leaky bucket).
#[derive(Clone, Copy, Debug)]
pub(super) struct FaultCount {
    count: u32,
    /// When the last one was forgiven; without any that count, when the first of them came.
    forgiven_at: Time,
}

impl FaultCount {
    pub(super) const fn new() -> Self {
        Self { count: 0, forgiven_at: Time::ZERO }
    }

    /// Counts a fault. True if there are `faults_max` now, which are forgotten then.
    pub(super) fn note(&mut self, now: Time, faults_max: u32, decay: Duration) -> bool {
        let spans = now.since(self.forgiven_at).as_nanos() / decay.as_nanos().max(1);
        let forgiven = u32::try_from(spans).unwrap_or(u32::MAX).min(self.count);
        self.count -= forgiven;
        self.forgiven_at = if self.count == 0 { now } else { self.forgiven_at + decay * forgiven };
        self.count += 1;
        let is_over = self.count >= faults_max;
        if is_over {
            self.count = 0;
        }
        is_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DECAY: Duration = Duration::from_secs(600);
    const FAULTS_MAX: u32 = 3;

    /// Whether a peer is cut off that commits a fault at each of these times, in units of the decay.
    fn is_cut_off(times: impl IntoIterator<Item = f64>) -> bool {
        let mut faults = FaultCount::new();
        let mut times = times.into_iter().map(|time| Time::ZERO + DECAY.mul_f64(1000.0 + time));
        times.any(|time| faults.note(time, FAULTS_MAX, DECAY))
    }

    #[test]
    fn faults_that_come_together_count() {
        assert!(is_cut_off([0.0, 0.0, 0.0]));
        assert!(is_cut_off([0.0, 0.5, 0.9]));
        assert!(!is_cut_off([0.0, 0.5, 1.1]));
    }

    #[test]
    fn faults_now_and_then_are_forgiven() {
        assert!(!is_cut_off((0..1000).map(f64::from)));
        assert!(!is_cut_off([0.0, 0.0, 2.0, 2.0, 4.0, 4.0]));
        // Twice as often as they are forgiven.
        assert!(is_cut_off((0..10).map(|at| f64::from(at) / 2.0)));
    }

    #[test]
    fn who_was_cut_off_begins_anew() {
        let mut faults = FaultCount::new();
        let now = Time::ZERO + DECAY;
        let notes = [(); 6].map(|()| faults.note(now, FAULTS_MAX, DECAY));
        assert_eq!(notes, [false, false, true, false, false, true]);
    }
}
