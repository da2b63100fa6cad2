//! Distributions of durations.

use std::time::Duration;

use hdrhistogram::Histogram;

/// Durations, to a thousandth of each.
#[derive(Clone, Debug)]
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        Self(Histogram::new(3).expect("three digits are allowed"))
    }
}

impl Latencies {
    /// Adds one.
    pub fn record(&mut self, latency: Duration) {
        self.0 += u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
    }

    /// Adds all of another distribution.
    pub fn add(&mut self, other: &Self) {
        self.0 += &other.0;
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// What this percentage did not exceed, in milliseconds; NaN without any.
    pub fn percentile(&self, percent: f64) -> f64 {
        match self.count() {
            0 => f64::NAN,
            _ => self.0.value_at_percentile(percent) as f64 / 1e6,
        }
    }
}
