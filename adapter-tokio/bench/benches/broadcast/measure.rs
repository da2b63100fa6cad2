//! Figures of a run, and how they are printed.

use std::fmt;
use std::time::Duration;

use slotcast_bench::latencies::Latencies;

/// What a run came to.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    pub(crate) elapsed: Duration,
    pub(crate) cpu: Duration,
    pub(crate) udp_bytes: u64,
    pub(crate) payload_bytes: u64,
    pub(crate) latencies: Latencies,
}

impl Figures {
    /// Deliveries per second.
    pub(crate) fn per_second(&self) -> f64 {
        self.latencies.count() as f64 / self.elapsed.as_secs_f64()
    }

    fn udp_over_payload(&self) -> f64 {
        self.udp_bytes as f64 / self.payload_bytes as f64
    }

    /// CPU time of all nodes per delivery, in microseconds.
    fn cpu_each(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.latencies.count() as f64
    }

    /// Ours by those of `system`, as a line of the table.
    pub(crate) fn ratios(&self, system: &str, theirs: &Self) -> String {
        format!(
            "{:<24}  {:<20} {:>12.2} {:>10.2} {:>10.2} {:>12.2} {:>12.2}",
            "",
            format!("by {system}"),
            self.per_second() / theirs.per_second(),
            self.latencies.percentile(50.0) / theirs.latencies.percentile(50.0),
            self.latencies.percentile(99.0) / theirs.latencies.percentile(99.0),
            self.udp_over_payload() / theirs.udp_over_payload(),
            self.cpu_each() / theirs.cpu_each(),
        )
    }
}

/// A line of the table.
pub(crate) struct Row<'a> {
    pub(crate) name: &'a str,
    pub(crate) system: &'a str,
    pub(crate) figures: &'a Figures,
}

impl Row<'_> {
    pub(crate) fn head() -> String {
        format!(
            "{:<24}  {:<20} {:>12} {:>10} {:>10} {:>12} {:>12}",
            "load", "system", "deliveries/s", "p50 ms", "p99 ms", "UDP/payload", "CPU us each"
        )
    }
}

impl fmt::Display for Row<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let figures = self.figures;
        write!(
            f,
            "{:<24}  {:<20} {:>12.0} {:>10.2} {:>10.2} {:>12.3} {:>12.2}",
            self.name,
            self.system,
            figures.per_second(),
            figures.latencies.percentile(50.0),
            figures.latencies.percentile(99.0),
            figures.udp_over_payload(),
            figures.cpu_each(),
        )
    }
}
