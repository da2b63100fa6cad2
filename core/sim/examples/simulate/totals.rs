//! What all runs came to.

use std::collections::BTreeMap;
use std::time::Duration;

use slotcast_sim::{Bytes, CallCounts, FaultCounts, Latencies, Report, Trick};

use crate::report::CHECKED;

/// A run that has failed.
pub(crate) struct Failed {
    pub(crate) seed: u64,
    pub(crate) invariant: usize,
    pub(crate) virtual_seconds: f64,
    pub(crate) what: String,
}

/// What all runs came to.
#[derive(Default)]
pub(crate) struct Totals {
    /// The course of each run, by seed.
    pub(crate) hashes: BTreeMap<u64, u64>,
    pub(crate) failed: Vec<Failed>,
    /// The fewest and the most members, and hostile ones.
    pub(crate) nodes: Option<(usize, usize)>,
    pub(crate) hostile: Option<(usize, usize)>,
    pub(crate) faults: FaultCounts,
    pub(crate) tricks: BTreeMap<Trick, u64>,
    pub(crate) published: u64,
    pub(crate) aborted: u64,
    pub(crate) delivered: u64,
    pub(crate) missing: u64,
    pub(crate) duplicates: u64,
    pub(crate) calls: CallCounts,
    pub(crate) checks: [u64; CHECKED.len()],
    pub(crate) bytes: Bytes,
    latencies: Vec<Latencies>,
    converged: Vec<Duration>,
    /// Of the run that came nearest to the bound.
    pub(crate) memory: Extreme,
    /// Pieces of work without progress of an honest member, of the same.
    pub(crate) fruitless: Extreme,
    pub(crate) virtual_time: Duration,
    pub(crate) wall_time: Duration,
}

/// The most that there was of something, and what there may be.
#[derive(Clone, Copy, Default)]
pub(crate) struct Extreme {
    pub(crate) max: u64,
    pub(crate) bound: u64,
}

impl Extreme {
    pub(crate) fn share(&self) -> f64 {
        self.max as f64 / self.bound.max(1) as f64
    }

    fn add(&mut self, max: u64, bound: u64) {
        let other = Self { max, bound };
        if self.bound == 0 || other.share() > self.share() {
            *self = other;
        }
    }
}

impl Totals {
    pub(crate) fn add(&mut self, report: &Report) {
        self.hashes.insert(report.seed, report.trace_hash);
        if let Some(failure) = &report.failure {
            self.failed.push(Failed {
                seed: report.seed,
                invariant: failure.invariant,
                virtual_seconds: failure.time.0 as f64 / 1e9,
                what: failure.what.clone(),
            });
        }
        let widen = |range: &mut Option<(usize, usize)>, value: usize| {
            let (low, high) = range.unwrap_or((value, value));
            *range = Some((low.min(value), high.max(value)));
        };
        widen(&mut self.nodes, report.nodes);
        widen(&mut self.hostile, report.hostile.len());
        self.faults.add(&report.faults);
        for (trick, count) in &report.tricks {
            *self.tricks.entry(*trick).or_default() += count;
        }
        self.published += report.published;
        self.aborted += report.aborted;
        self.delivered += report.delivered;
        self.missing += report.missing;
        self.duplicates += report.duplicates;
        for (total, count) in self.checks.iter_mut().zip(report.checks) {
            *total += count;
        }
        self.calls.add(&report.calls);
        self.bytes.add(&report.bytes);
        self.latencies.push(report.latencies);
        self.converged.extend(report.converged_in);
        self.memory.add(report.memory_max, report.memory_bound);
        self.fruitless.add(report.fruitless_peak, report.fruitless_max);
        self.virtual_time += report.virtual_time;
    }

    pub(crate) fn runs(&self) -> usize {
        self.hashes.len()
    }

    pub(crate) fn is_good(&self) -> bool {
        self.failed.is_empty()
    }

    pub(crate) fn checks_total(&self) -> u64 {
        self.checks.iter().sum()
    }

    /// The course of the run; of several runs, one number that tells whether any took another.
    pub(crate) fn trace_hash(&self) -> u64 {
        let mut hashes = self.hashes.values().copied();
        let first = hashes.next().unwrap_or(0);
        hashes.fold(first, |all, hash| {
            (all.rotate_left(5) ^ hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        })
    }

    /// Latencies of the run. Of several runs: of each percentile the run's in the middle, and the
    /// longest of all.
    pub(crate) fn latencies(&self) -> Latencies {
        let middle = |percentile: fn(&Latencies) -> Duration| {
            median(self.latencies.iter().map(percentile).collect())
        };
        Latencies {
            p50: middle(|latencies| latencies.p50),
            p90: middle(|latencies| latencies.p90),
            p99: middle(|latencies| latencies.p99),
            max: self.latencies.iter().map(|latencies| latencies.max).max().unwrap_or_default(),
        }
    }

    /// How long convergence took, in the middle and at most, if any run came that far.
    pub(crate) fn converged(&self) -> Option<(Duration, Duration)> {
        let longest = self.converged.iter().max()?;
        Some((median(self.converged.clone()), *longest))
    }

    /// Virtual seconds in a second.
    pub(crate) fn speed(&self) -> f64 {
        self.virtual_time.as_secs_f64() / self.wall_time.as_secs_f64().max(1e-9)
    }
}

fn median(mut durations: Vec<Duration>) -> Duration {
    durations.sort_unstable();
    durations.get(durations.len() / 2).copied().unwrap_or_default()
}
