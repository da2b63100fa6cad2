//! The result for programs: a JSON object in one line.

use std::fmt::{Display, Write};
use std::time::Duration;

use slotcast_sim::FaultKind;

use crate::options::Options;
use crate::report::CHECKED;
use crate::totals::{Failed, Totals};

/// An object to which members are added.
struct Object(String);

impl Object {
    const fn new() -> Self {
        Self(String::new())
    }

    /// Adds a member whose value is JSON already.
    fn member(mut self, name: &str, value: impl Display) -> Self {
        let comma = if self.0.is_empty() { "" } else { "," };
        write!(self.0, "{comma}{}:{value}", string(name)).expect("a string takes all");
        self
    }

    fn members<N: AsRef<str>, V: Display>(self, all: impl Iterator<Item = (N, V)>) -> Self {
        all.fold(self, |object, (name, value)| object.member(name.as_ref(), value))
    }

    fn end(self) -> String {
        format!("{{{}}}", self.0)
    }
}

/// The result of all runs.
pub(crate) fn json(options: &Options, totals: &Totals) -> String {
    let Totals { published, aborted, delivered, missing, duplicates, bytes, .. } = totals;
    let object = match options.is_one_run() {
        true => Object::new().member("seed", options.seeds.start()),
        false => Object::new().member("seeds", string(&options.to_string())),
    };
    let (nodes, hostile) = (totals.nodes.unwrap_or_default(), totals.hostile.unwrap_or_default());
    let range = |(low, high): (usize, usize)| match low == high {
        true => low.to_string(),
        false => format!("[{low},{high}]"),
    };
    let faults = FaultKind::ALL.iter().map(|kind| (kind.name(), totals.faults.count(*kind)));
    let tricks = totals.tricks.iter().map(|(trick, count)| (trick.name(), count));
    let checks = CHECKED.iter().zip(totals.checks).skip(1).map(|(name, count)| (*name, count));
    let latencies = totals.latencies();
    let latency = Object::new()
        .member("p50", milliseconds(latencies.p50))
        .member("p90", milliseconds(latencies.p90))
        .member("p99", milliseconds(latencies.p99))
        .member("max", milliseconds(latencies.max));
    let bytes = Object::new()
        .member("useful", bytes.useful)
        .member("duplicate", bytes.duplicate)
        .member("aborted", bytes.aborted)
        .member("control", bytes.control)
        .member("hostile", bytes.hostile);
    let converged = totals.converged().map(|(_, longest)| longest.as_secs_f64());
    let failed: Vec<String> = totals.failed.iter().map(failure).collect();
    object
        .member("runs", totals.runs())
        .member("failures", totals.failed.len())
        .member("failed", format_args!("[{}]", failed.join(",")))
        .member("nodes", range(nodes))
        .member("byzantine", range(hostile))
        .member("faults_fired", Object::new().members(faults).end())
        .member("tricks", Object::new().members(tricks).end())
        .member("published", published)
        .member("aborted", aborted)
        .member("delivered", delivered)
        .member("missing", missing)
        .member("duplicates", duplicates)
        .member("calls_made", totals.calls.made)
        .member("calls_answered", totals.calls.answered)
        .member("latency_ms", latency.end())
        .member("bytes", bytes.end())
        .member("invariant_checks", totals.checks_total())
        .member("checks", Object::new().members(checks).end())
        .member("memory_max", totals.memory.max)
        .member("memory_bound", totals.memory.bound)
        .member("fruitless_peak", totals.fruitless.max)
        .member("fruitless_max", totals.fruitless.bound)
        .member("converged_seconds", converged.map_or("null".into(), |s| format!("{s:.3}")))
        .member("trace_hash", string(&format!("{:016x}", totals.trace_hash())))
        .member("virtual_seconds", format_args!("{:.3}", totals.virtual_time.as_secs_f64()))
        .member("wall_seconds", format_args!("{:.3}", totals.wall_time.as_secs_f64()))
        .end()
}

fn failure(failed: &Failed) -> String {
    Object::new()
        .member("seed", failed.seed)
        .member("invariant", failed.invariant)
        .member("virtual_seconds", format_args!("{:.6}", failed.virtual_seconds))
        .member("what", string(&failed.what))
        .end()
}

fn milliseconds(duration: Duration) -> String {
    format!("{:.3}", 1e3 * duration.as_secs_f64())
}

/// A text in quotes.
fn string(text: &str) -> String {
    let mut string = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => string.push_str("\\\""),
            '\\' => string.push_str("\\\\"),
            '\n' => string.push_str("\\n"),
            control if control < ' ' => {
                write!(string, "\\u{:04x}", control as u32).expect("a string takes all");
            }
            other => string.push(other),
        }
    }
    string.push('"');
    string
}
