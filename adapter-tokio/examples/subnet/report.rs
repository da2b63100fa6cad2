//! What came out of a run: a table for people, an object for programs.

use std::fmt::{self, Write};
use std::time::Duration;

use slotcast::node::NodeStats;

use crate::catchup::CaughtUp;
use crate::ledger::{Book, End};
use crate::load::{LANES, Load, Name};

/// Missing deliveries listed in the table.
const MISSING_SHOWN: usize = 10;

/// What happened on one channel, or on all.
#[derive(Clone, Default)]
struct Tally {
    published: usize,
    aborted: usize,
    expected: usize,
    missing: usize,
    delivered: usize,
    expired: usize,
    expired_missing: usize,
    payload_bytes: u64,
    /// In milliseconds, ascending.
    latencies: Vec<f64>,
}

/// The result of a run.
pub(crate) struct Report {
    nodes: usize,
    lanes: Vec<(Tally, usize)>,
    total: Tally,
    /// What is missing, and in which life.
    missing: Vec<(Name, usize)>,
    /// For want of room that never came.
    unpublished: usize,
    duplicates: usize,
    corrupt: usize,
    unexpected: usize,
    caught_up: CaughtUp,
    /// What the nodes keep to together: the sum of their [`slotcast::config::Config::memory_bound`].
    memory_bound: u64,
    /// The most that the process has taken, where the system tells.
    memory_peak: Option<u64>,
    udp_bytes: u64,
    /// At both ends.
    connections: u64,
    faults: u64,
    seconds: f64,
}

impl Report {
    /// Sums up what is in the book after a run that took so long.
    pub(crate) fn new(
        nodes: usize,
        planned: usize,
        load: Load,
        book: &Book,
        caught_up: CaughtUp,
        memory_bound: u64,
        took: Duration,
    ) -> Self {
        let mut lanes: Vec<_> =
            (0..LANES.len()).map(|lane| (Tally::default(), load.size(lane))).collect();
        let mut missing = Vec::new();
        for record in book.records.values() {
            let (tally, size) = &mut lanes[record.name.lane];
            tally.published += 1;
            tally.aborted += usize::from(record.end == Some(End::Aborted));
            for (at, (receipt, life)) in record.receipts.iter().zip(&book.lives).enumerate() {
                let is_here = receipt.delivered.is_some();
                tally.expected += usize::from(receipt.owed);
                if receipt.owed && !is_here {
                    tally.missing += 1;
                    missing.push((record.name, at));
                }
                tally.delivered += usize::from(is_here);
                tally.expired += usize::from(receipt.expired);
                tally.expired_missing += usize::from(is_here && life.is_up && !receipt.expired);
                let Some(delivered) = receipt.delivered else { continue };
                tally.payload_bytes += *size as u64;
                if life.connected.is_some_and(|connected| connected <= record.published) {
                    let latency = delivered.duration_since(record.published);
                    tally.latencies.push(latency.as_secs_f64() * 1e3);
                }
            }
        }
        let mut total = Tally::default();
        for (tally, _) in &mut lanes {
            tally.latencies.sort_by(f64::total_cmp);
            total.add(tally);
        }
        total.latencies.sort_by(f64::total_cmp);
        let Book { duplicates, corrupt, unexpected, .. } = *book;
        let seconds = took.as_secs_f64();
        let unpublished = planned - total.published;
        let (udp_bytes, connections, faults) = (0, 0, 0);
        Self {
            nodes,
            lanes,
            total,
            missing,
            unpublished,
            duplicates,
            corrupt,
            unexpected,
            caught_up,
            memory_bound,
            memory_peak: memory_peak(),
            udp_bytes,
            connections,
            faults,
            seconds,
        }
    }

    /// Adds what a node has counted in one life.
    pub(crate) fn add(&mut self, stats: &NodeStats) {
        self.udp_bytes += stats.sent_bytes;
        self.connections += stats.connections;
        self.faults += stats.faults;
    }

    /// Everything arrived once, unharmed, and every abort was seen.
    pub(crate) fn is_good(&self) -> bool {
        let Tally { missing, expired_missing, .. } = self.total;
        let Self { unpublished, duplicates, corrupt, unexpected, .. } = *self;
        let corrupt = corrupt + self.caught_up.corrupt;
        missing + expired_missing + unpublished + duplicates + corrupt + unexpected == 0
    }

    /// The result as a JSON object in one line.
    pub(crate) fn json(&self) -> String {
        let Tally { published, aborted, expected, delivered, missing, .. } = self.total;
        let Tally { expired, expired_missing, payload_bytes, .. } = self.total;
        let Self { nodes, unpublished, duplicates, corrupt, unexpected, .. } = self;
        let Self { udp_bytes, connections, faults, seconds, .. } = self;
        let [p50, p99, max] = self.total.quantiles();
        let (tokio_nodes, smol_nodes) = (nodes.div_ceil(2), nodes / 2);
        let mut json = String::from("{");
        let mut member = |name: &str, value: &dyn fmt::Display| {
            let comma = if json.len() > 1 { "," } else { "" };
            write!(json, "{comma}\"{name}\":{value}").expect("a string takes all");
        };
        member("nodes", nodes);
        member("tokio_nodes", &tokio_nodes);
        member("smol_nodes", &smol_nodes);
        member("published", &published);
        member("unpublished", unpublished);
        member("aborted", &aborted);
        member("expected", &expected);
        member("delivered", &delivered);
        member("missing", &missing);
        member("duplicates", duplicates);
        member("corrupt", corrupt);
        member("unexpected", unexpected);
        member("expired", &expired);
        member("expired_missing", &expired_missing);
        let latency = format!("{{\"p50\":{p50:.3},\"p99\":{p99:.3},\"max\":{max:.3}}}");
        member("latency_ms", &latency);
        let CaughtUp { artifacts, bytes, corrupt, missing, took } = &self.caught_up;
        let took = took.as_secs_f64() * 1e3;
        let caught_up = format!(
            "{{\"artifacts\":{artifacts},\"bytes\":{bytes},\"corrupt\":{corrupt},\"missing\":{missing},\"ms\":{took:.3}}}"
        );
        member("caught_up", &caught_up);
        member("memory_bound", &self.memory_bound);
        if let Some(peak) = &self.memory_peak {
            member("memory_peak", peak);
        }
        member("payload_bytes", &payload_bytes);
        member("udp_bytes", udp_bytes);
        member("connections", &(connections / 2));
        member("faults", faults);
        member("seconds", &format_args!("{seconds:.3}"));
        json + "}"
    }
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.published += other.published;
        self.aborted += other.aborted;
        self.expected += other.expected;
        self.missing += other.missing;
        self.delivered += other.delivered;
        self.expired += other.expired;
        self.expired_missing += other.expired_missing;
        self.payload_bytes += other.payload_bytes;
        self.latencies.extend(&other.latencies);
    }

    /// Latency at the median, at 99 % and at most, by nearest rank.
    fn quantiles(&self) -> [f64; 3] {
        [0.5, 0.99, 1.0].map(|share| {
            let rank = (self.latencies.len() as f64 * share).ceil() as usize;
            self.latencies.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
        })
    }

    fn row(&self, f: &mut fmt::Formatter<'_>, name: &str, size: &str) -> fmt::Result {
        let Self { published, aborted, delivered, expired, .. } = self;
        let [p50, p99, max] = self.quantiles();
        writeln!(
            f,
            "{name:<8}{size:>9} {published:>10}{aborted:>9}{delivered:>11}{expired:>9} \
             {p50:>10.2}{p99:>10.2}{max:>10.2}"
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [published, aborted, delivered, expired] =
            ["published", "aborted", "delivered", "expired"];
        writeln!(f, "{:>88}", "publish to delivery, ms")?;
        writeln!(
            f,
            "{:<8}{:>9} {published:>10}{aborted:>9}{delivered:>11}{expired:>9} \
             {:>10}{:>10}{:>10}",
            "channel", "size", "p50", "p99", "max"
        )?;
        for ((tally, size), lane) in self.lanes.iter().zip(&LANES) {
            tally.row(f, lane.name, &bytes(*size as u64))?;
        }
        self.total.row(f, "all", "")?;
        let payload = self.total.payload_bytes;
        writeln!(
            f,
            "\nnetwork   {} over UDP for {} of payload ({:+.1} %), {} connections, {} faults",
            bytes(self.udp_bytes),
            bytes(payload),
            (self.udp_bytes as f64 / payload.max(1) as f64 - 1.0) * 100.0,
            self.connections / 2,
            self.faults,
        )?;
        let caught_up = &self.caught_up;
        writeln!(
            f,
            "catch-up  after its restart the node called for {} finished artifacts, {}, in {:.1} ms;\n          \
             {} that the first one named were with nobody any more",
            caught_up.artifacts,
            bytes(caught_up.bytes),
            caught_up.took.as_secs_f64() * 1e3,
            caught_up.missing,
        )?;
        write!(f, "memory    the nodes keep to {} together", bytes(self.memory_bound))?;
        match self.memory_peak {
            Some(peak) => writeln!(f, "; the process took {} at most", bytes(peak))?,
            None => writeln!(f)?,
        }
        let Tally { expected, missing, expired_missing, .. } = self.total;
        let Self { duplicates, corrupt, unexpected, seconds, .. } = self;
        writeln!(
            f,
            "verdict   {}: of {expected} deliveries owed {missing} missing; {duplicates} doubled, \
             {corrupt} corrupt,\n          {expired_missing} not expired, {unexpected} unexpected; \
             in {seconds:.1} s",
            if self.is_good() { "good" } else { "BAD" },
        )?;
        // The life behind the last node's is the second one of the node that restarted.
        for (name, life) in self.missing.iter().take(MISSING_SHOWN) {
            let Name { life: publisher, lane, number } = name;
            let lane = LANES[*lane].name;
            writeln!(f, "          missing in life {life}: {lane} {number} of life {publisher}")?;
        }
        Ok(())
    }
}

/// The most memory that this process has taken, in bytes. Linux tells.
fn memory_peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = peak.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// A number of bytes as a person reads it.
fn bytes(number: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = (number.max(1).ilog2() / 10) as usize;
    let value = number as f64 / (1_u64 << (10 * unit)) as f64;
    let digits = usize::from(!number.is_multiple_of(1 << (10 * unit)));
    format!("{value:.digits$} {}", units[unit])
}
