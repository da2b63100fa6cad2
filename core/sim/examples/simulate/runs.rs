//! Runs the seeds, on all cores, and tells how far that is.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::num::NonZero;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};
use std::{panic, thread};

use slotcast::time::Time;
use slotcast_sim::{Failure, Plan, Report};

use crate::meter;
use crate::options::Options;

/// How often progress is told: in a terminal, where each line takes the place of the one before,
/// and elsewhere.
const REDRAWN_EVERY: Duration = Duration::from_millis(100);
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// So many runs say how long the others will take.
const TELLING: u64 = 10;

/// What runs longer is named.
const LONG: Duration = Duration::from_secs(5);

/// Runs all seeds; `take` is handed the reports as they come, in any order.
pub(crate) fn run_all(options: &Options, mut take: impl FnMut(Report)) {
    keep_panics();
    let first = *options.seeds.start();
    let count = (options.seeds.end() - first).saturating_add(1);
    let threads = thread::available_parallelism().map_or(1, NonZero::get) as u64;
    let next = AtomicU64::new(0);
    let under_way = UnderWay::default();
    let (sender, reports) = mpsc::sync_channel(64);
    let mut progress = Progress::new(count, &under_way);
    thread::scope(|scope| {
        for _ in 0..threads.min(count) {
            let (sender, next, under_way) = (sender.clone(), &next, &under_way);
            scope.spawn(move || {
                IS_RUN.set(true);
                loop {
                    let place = next.fetch_add(1, Relaxed);
                    if place >= count {
                        return;
                    }
                    let seed = first + place;
                    under_way.lock().expect("held shortly").insert(seed, Instant::now());
                    let report = run(options, seed);
                    under_way.lock().expect("held shortly").remove(&seed);
                    if sender.send(report).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        loop {
            match reports.recv_timeout(progress.pause()) {
                Ok(report) => {
                    progress.note(&report);
                    take(report);
                }
                Err(RecvTimeoutError::Timeout) => progress.tell(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    });
    progress.clear();
}

/// Runs a seed, once or twice.
fn run(options: &Options, seed: u64) -> Report {
    let plan = options.plan(seed);
    let mut report = run_once(&plan);
    if options.twice {
        let again = run_once(&plan);
        let (first, second) = (report.trace_hash, again.trace_hash);
        if first != second {
            report.failure.get_or_insert(Failure {
                invariant: 0,
                what: format!("run again it takes another course: {second:016x}, not {first:016x}"),
                time: Time::ZERO + again.virtual_time,
                last: Vec::new(),
            });
        }
    }
    report
}

fn run_once(plan: &Plan) -> Report {
    meter::reset();
    let mut report = plan.run_metered(Some(meter::METER));
    if let (Some(failure), Some(place)) = (&mut report.failure, PANICKED_AT.take()) {
        failure.what = format!("{}, {place}", failure.what);
    }
    report
}

thread_local! {
    static IS_RUN: Cell<bool> = const { Cell::new(false) };
    static PANICKED_AT: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Panics in a run are told with the failure, not when they happen.
fn keep_panics() {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if !IS_RUN.get() {
            return usual(panic);
        }
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        // Captured if the environment asks for it.
        let calls = Backtrace::capture();
        let calls = match calls.status() {
            BacktraceStatus::Captured => format!("\n{calls}"),
            _ => String::new(),
        };
        PANICKED_AT.set(Some(format!("at {place}{calls}")));
    }));
}

/// Seeds that are being run, and since when.
type UnderWay = Mutex<BTreeMap<u64, Instant>>;

/// How far the runs are.
struct Progress<'a> {
    under_way: &'a UnderWay,
    count: u64,
    done: u64,
    failed: u64,
    begun: Instant,
    told: Instant,
    is_terminal: bool,
}

impl<'a> Progress<'a> {
    fn new(count: u64, under_way: &'a UnderWay) -> Self {
        let begun = Instant::now();
        let is_terminal = std::io::stderr().is_terminal();
        Self { under_way, count, done: 0, failed: 0, begun, told: begun, is_terminal }
    }

    fn every(&self) -> Duration {
        if self.is_terminal { REDRAWN_EVERY } else { TOLD_EVERY }
    }

    /// How long nothing need be told.
    fn pause(&self) -> Duration {
        self.every().saturating_sub(self.told.elapsed())
    }

    fn note(&mut self, report: &Report) {
        self.done += 1;
        self.failed += u64::from(report.failure.is_some());
        if report.failure.is_some() {
            // What is printed about it takes the place of the line.
            self.clear();
        } else if self.pause().is_zero() {
            self.tell();
        }
    }

    fn tell(&mut self) {
        self.told = Instant::now();
        let Self { count, done, failed, .. } = *self;
        let seconds = self.begun.elapsed().as_secs_f64();
        let mut line = format!("{seconds:.1} s: {done} of {count} runs, {failed} failed");
        let under_way = self.under_way.lock().expect("held shortly");
        let long: Vec<_> =
            under_way.iter().filter(|(_, since)| since.elapsed() > LONG).take(4).collect();
        for (seed, since) in &long {
            let seconds = since.elapsed().as_secs();
            line.push_str(&format!(", seed {seed} has run for {seconds} s"));
        }
        if done >= TELLING && long.is_empty() {
            let rest = seconds * (count - done) as f64 / done as f64;
            line.push_str(&format!(", {rest:.0} s to go"));
        }
        drop(under_way);
        let mut stderr = std::io::stderr();
        // Nobody there to read it: not a reason to fail.
        let _ = if self.is_terminal {
            write!(stderr, "\r\x1b[2K{line}").and_then(|()| stderr.flush())
        } else {
            writeln!(stderr, "{line}")
        };
    }

    fn clear(&self) {
        if self.is_terminal {
            eprint!("\r\x1b[2K");
        }
    }
}
