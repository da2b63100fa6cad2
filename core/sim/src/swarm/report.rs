//! What a run came to.

use core::fmt;
use core::time::Duration;

use super::calls::CallCounts;
use super::oracle::INVARIANTS;
use crate::Entry;
use crate::FaultCounts;
use crate::Trick;
use slotcast::time::Time;

/// Bytes of UDP payload that members have sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Bytes {
    /// Content of artifacts, sent to a receiver for the first time.
    pub useful: u64,
    /// Content sent to a receiver again: retransmissions, and new epochs.
    pub duplicate: u64,
    /// Content that left after the sender had aborted it, since QUIC held it already.
    pub aborted: u64,
    /// Everything else of honest members: headers, updates, proofs, acknowledgements. With real TLS
    /// all that they send is counted here, since nothing else can be told apart.
    pub control: u64,
    /// All that hostile members have sent.
    pub hostile: u64,
}

impl Bytes {
    /// Adds those of another run.
    pub const fn add(&mut self, other: &Self) {
        self.useful += other.useful;
        self.duplicate += other.duplicate;
        self.aborted += other.aborted;
        self.control += other.control;
        self.hostile += other.hostile;
    }
}

/// From publishing to delivery, by those who wanted the artifact at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Latencies {
    /// Half of the deliveries took no longer.
    pub p50: Duration,
    /// 90 of a hundred took no longer.
    pub p90: Duration,
    /// 99 of a hundred took no longer.
    pub p99: Duration,
    /// The longest.
    pub max: Duration,
}

impl Latencies {
    pub(super) fn of(mut nanoseconds: Vec<u64>) -> Self {
        nanoseconds.sort_unstable();
        let at = |percent: usize| {
            let place = (nanoseconds.len() * percent / 100).min(nanoseconds.len().max(1) - 1);
            Duration::from_nanos(nanoseconds.get(place).copied().unwrap_or(0))
        };
        Self { p50: at(50), p90: at(90), p99: at(99), max: at(100) }
    }
}

/// Why a run has failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// The invariant that did not hold, 1 to 15; 0 if the run itself went wrong.
    pub invariant: usize,
    /// What was found.
    pub what: String,
    /// The simulator's time.
    pub time: Time,
    /// What had happened before, oldest first.
    pub last: Vec<Entry>,
}

/// What a run came to.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Members, hostile ones included.
    pub nodes: usize,
    /// The places of the hostile members.
    pub hostile: Vec<usize>,
    /// What went wrong, if anything did.
    pub failure: Option<Failure>,
    /// How often each kind of fault has acted.
    pub faults: FaultCounts,
    /// How often hostile members have done what.
    pub tricks: Vec<(Trick, u64)>,
    /// Artifacts published.
    pub published: u64,
    /// Artifacts aborted.
    pub aborted: u64,
    /// Artifacts brought to honest members.
    pub delivered: u64,
    /// Deliveries that were due in the end and had not come. Above 0 only in a failed run.
    pub missing: u64,
    /// Deliveries of what had been delivered. Above 0 only in a failed run.
    pub duplicates: u64,
    /// What publishers knew of artifacts at members that was held against what is so.
    pub covered: u64,
    /// How often each invariant was checked, by number; 0 counts what is the run's own.
    pub checks: [u64; INVARIANTS],
    /// How long deliveries took.
    pub latencies: Latencies,
    /// What was sent.
    pub bytes: Bytes,
    /// What became of calls.
    pub calls: CallCounts,
    /// Highest heap use of an honest node, in bytes, if it was measured.
    pub memory_max: u64,
    /// What [`Config::memory_bound`](slotcast::config::Config::memory_bound) says to that.
    pub memory_bound: u64,
    /// The most pieces of work of an honest member at another one, at a time, that brought nothing.
    pub fruitless_peak: u64,
    /// So many of them would be a fault: see
    /// [`WorkConfig::fruitless_max`](slotcast::config::WorkConfig::fruitless_max).
    pub fruitless_max: u64,
    /// When faults ended, if the run came that far.
    pub healed_at: Option<Time>,
    /// How long it took after the last fault until everything was where it should be.
    pub converged_in: Option<Duration>,
    /// A hash of everything that happened.
    pub trace_hash: u64,
    /// How much time passed in the simulation.
    pub virtual_time: Duration,
    /// Everything that happened, if it was to be kept.
    pub trace: Vec<Entry>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.time.0 as f64 / 1e9;
        match self.invariant {
            0 => write!(f, "the run, at {seconds:.6} s: {}", self.what)?,
            invariant => write!(f, "invariant {invariant}, at {seconds:.6} s: {}", self.what)?,
        }
        self.last.iter().try_for_each(|entry| write!(f, "\n{entry}"))
    }
}

impl Report {
    /// # Panics
    /// If the run has failed, with the seed, the time, the invariant and what had happened before.
    pub fn assert_good(&self) {
        if let Some(failure) = &self.failure {
            panic!("seed {}, {} nodes: {failure}", self.seed, self.nodes);
        }
    }

    /// How often anything was checked.
    pub fn checks_total(&self) -> u64 {
        self.checks.iter().sum()
    }
}
