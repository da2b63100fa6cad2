//! The result for people.

use std::collections::BTreeMap;
use std::fmt::{Display, Formatter, Result};
use std::time::Duration;

use crate::totals::Totals;

/// What is checked, in short, by number of the invariant in `core/DESIGN.md`. The first is what
/// the run itself has to hold.
pub(crate) const CHECKED: [&str; 16] = [
    "all that was planned acted",
    "outbox within its limits",
    "changes are sent once",
    "nothing stale is sent",
    "the newest version counts",
    "known if advertised",
    "bytes match their id",
    "delivered once",
    "memory within its bound",
    "work within its bound",
    "members only",
    "nobody holds up others",
    "everything arrives",
    "calls end once, as answered",
    "bodies within their budgets",
    "requests within their credit",
];

/// Width of the words before the lines, of a column with a head, and of all.
const MARGIN: usize = 11;
const COLUMN: usize = 12;
const WIDTH: usize = 100;

/// Seeds of failed runs named in the verdict, by invariant.
const SEEDS_SHOWN: usize = 8;

impl Display for Totals {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let acted = self.faults.iter().filter(|(_, count)| *count > 0);
        list(f, "faults", 3, acted.map(|(fault, count)| (fault.name().to_string(), count)))?;
        let played = self.tricks.iter();
        list(f, "tricks", 3, played.map(|(trick, count)| (trick.name().to_string(), *count)))?;
        self.numbers(f)?;
        let checks = (1..CHECKED.len()).chain([0]).map(|at| (at, CHECKED[at], self.checks[at]));
        let named =
            |at, name| if at == 0 { format!("   {name}") } else { format!("{at:2} {name}") };
        list(f, "checks", 2, checks.map(|(at, name, count)| (named(at, name), count)))?;
        self.times(f)?;
        self.verdict(f)
    }
}

impl Totals {
    fn numbers(&self, f: &mut Formatter<'_>) -> Result {
        let Self { published, aborted, delivered, missing, duplicates, bytes, .. } = self;
        let heads = ["published", "aborted", "delivered", "missing", "duplicates"];
        row(f, "artifacts", heads)?;
        row(f, "", [published, aborted, delivered, missing, duplicates].map(|n| grouped(*n)))?;
        let latencies = self.latencies();
        let durations = [latencies.p50, latencies.p90, latencies.p99, latencies.max];
        row(f, "latency", ["p50", "p90", "p99", "max"])?;
        row(f, "", durations.map(readable_duration))?;
        let calls = self.calls;
        let counts = [calls.made, calls.answered, calls.failed, calls.cancelled, calls.not_made];
        row(f, "calls", ["made", "answered", "failed", "cancelled", "not made"])?;
        row(f, "", counts.map(grouped))?;
        let parts = [bytes.useful, bytes.duplicate, bytes.aborted, bytes.control, bytes.hostile];
        let total: u64 = parts.iter().sum();
        let share = |part| format!("{:.1} %", 100.0 * part as f64 / total.max(1) as f64);
        row(f, "bytes", ["useful", "duplicate", "aborted", "control", "hostile"])?;
        row(f, "", parts.map(readable_bytes))?;
        row(f, "", parts.map(share))?;
        writeln!(f)
    }

    fn times(&self, f: &mut Formatter<'_>) -> Result {
        let memory = self.memory;
        line(f, "memory")?;
        writeln!(
            f,
            "a node held at most {}, {:.1} % of its bound of {}",
            readable_bytes(memory.max),
            100.0 * memory.share(),
            readable_bytes(memory.bound)
        )?;
        line(f, "idle work")?;
        writeln!(
            f,
            "of an honest member at most {} pieces without progress, {:.2} % of what is a fault",
            grouped(self.fruitless.max),
            100.0 * self.fruitless.share()
        )?;
        line(f, "converged")?;
        match self.converged() {
            Some((typical, longest)) if self.runs() > 1 => writeln!(
                f,
                "{} after the last fault, {} at most",
                readable_duration(typical),
                readable_duration(longest)
            )?,
            Some((_, longest)) => {
                writeln!(f, "{} after the last fault", readable_duration(longest))?;
            }
            None => writeln!(f, "the run did not come that far")?,
        }
        line(f, "time")?;
        writeln!(
            f,
            "{:.1} s simulated in {:.2} s: {:.1} times as fast as the clock",
            self.virtual_time.as_secs_f64(),
            self.wall_time.as_secs_f64(),
            self.speed()
        )?;
        line(f, "trace")?;
        writeln!(f, "{:016x}", self.trace_hash())
    }

    fn verdict(&self, f: &mut Formatter<'_>) -> Result {
        line(f, "verdict")?;
        if self.is_good() {
            return writeln!(f, "good: {} checks held", grouped(self.checks_total()));
        }
        let (failed, runs) = (self.failed.len(), self.runs());
        writeln!(f, "BAD: {failed} of {runs} {} failed", if runs == 1 { "run" } else { "runs" })?;
        let mut by_invariant = BTreeMap::<usize, Vec<u64>>::new();
        for failed in &self.failed {
            by_invariant.entry(failed.invariant).or_default().push(failed.seed);
        }
        for (invariant, mut seeds) in by_invariant {
            seeds.sort_unstable();
            line(f, "")?;
            match invariant {
                0 => write!(f, "the run itself")?,
                _ => write!(f, "invariant {invariant}, {}", CHECKED[invariant])?,
            }
            let shown: Vec<_> = seeds.iter().take(SEEDS_SHOWN).map(u64::to_string).collect();
            let dots = if seeds.len() > SEEDS_SHOWN { ", ..." } else { "" };
            let word = if seeds.len() == 1 { "seed" } else { "seeds" };
            writeln!(f, ": {word} {}{dots} ({})", shown.join(", "), seeds.len())?;
        }
        Ok(())
    }
}

/// The margin of a line, with a word in it.
fn line(f: &mut Formatter<'_>, word: &str) -> Result {
    write!(f, "{word:<MARGIN$}")
}

/// A word, and cells below each other.
fn row<T: Display, const N: usize>(f: &mut Formatter<'_>, word: &str, cells: [T; N]) -> Result {
    line(f, word)?;
    cells.iter().try_for_each(|cell| write!(f, "{cell:>COLUMN$}"))?;
    writeln!(f)
}

/// A word, and names with numbers in so many columns, to be read downwards.
fn list(
    f: &mut Formatter<'_>,
    word: &str,
    columns: usize,
    items: impl Iterator<Item = (String, u64)>,
) -> Result {
    let items: Vec<(String, String)> = items.map(|(name, n)| (name, grouped(n))).collect();
    let width = (WIDTH - MARGIN) / columns;
    let rows = items.len().div_ceil(columns);
    for first in 0..rows {
        line(f, if first == 0 { word } else { "" })?;
        let mut gap = 0;
        for (name, number) in items[first..].iter().step_by(rows) {
            let space = width - number.len() - 3;
            write!(f, "{:gap$}{name:<space$}{number}", "")?;
            gap = 3;
        }
        writeln!(f)?;
    }
    if rows > 0 { writeln!(f) } else { Ok(()) }
}

/// A number with its thousands apart.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

fn readable_duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 1.0 { format!("{:.1} ms", 1e3 * seconds) } else { format!("{seconds:.2} s") }
}

fn readable_bytes(number: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = (number.max(1).ilog2() / 10).min(4) as usize;
    let value = number as f64 / (1_u64 << (10 * unit)) as f64;
    let digits = usize::from(unit > 0);
    format!("{value:.digits$} {}", units[unit])
}
