//! Figures of a run, and how they are printed.

use std::fmt;
use std::time::Duration;

/// What a run came to.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    seconds: f64,
    cpu: Duration,
    udp_bytes: u64,
    payload_bytes: u64,
    latencies: Vec<Duration>,
}

impl Figures {
    pub(crate) fn new(
        elapsed: Duration,
        cpu: Duration,
        udp_bytes: u64,
        size: usize,
        mut latencies: Vec<Duration>,
    ) -> Self {
        latencies.sort_unstable();
        let payload_bytes = latencies.len() as u64 * size as u64;
        Self { seconds: elapsed.as_secs_f64(), cpu, udp_bytes, payload_bytes, latencies }
    }

    /// Deliveries per second.
    pub(crate) fn per_second(&self) -> f64 {
        self.latencies.len() as f64 / self.seconds
    }

    /// A latency that so many of a hundred deliveries did not exceed, in milliseconds.
    fn percentile(&self, percent: usize) -> f64 {
        let last = self.latencies.len().saturating_sub(1);
        let at = last * percent / 100;
        self.latencies.get(at).map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e3)
    }

    fn udp_over_payload(&self) -> f64 {
        self.udp_bytes as f64 / self.payload_bytes as f64
    }

    /// CPU time of all nodes per delivery, in microseconds.
    fn cpu_each(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.latencies.len() as f64
    }

    /// Ours by theirs, as a line of the table.
    pub(crate) fn ratios(&self, theirs: &Self) -> String {
        format!(
            "{:<24}  {:<18} {:>12.2} {:>10.2} {:>10.2} {:>12.2} {:>12.2}\n",
            "",
            "ratio",
            self.per_second() / theirs.per_second(),
            self.percentile(50) / theirs.percentile(50),
            self.percentile(99) / theirs.percentile(99),
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
            "{:<24}  {:<18} {:>12} {:>10} {:>10} {:>12} {:>12}",
            "load", "system", "deliveries/s", "p50 ms", "p99 ms", "UDP/payload", "CPU us each"
        )
    }
}

impl fmt::Display for Row<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let figures = self.figures;
        write!(
            f,
            "{:<24}  {:<18} {:>12.0} {:>10.2} {:>10.2} {:>12.3} {:>12.2}",
            self.name,
            self.system,
            figures.per_second(),
            figures.percentile(50),
            figures.percentile(99),
            figures.udp_over_payload(),
            figures.cpu_each(),
        )
    }
}
