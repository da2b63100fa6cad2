//! Small artifacts beside large ones on loopback, and the same load over plain quinn with a stream per
//! update, in the same run.
//!
//! `cargo bench -p slotcast-bench --bench mixed [-- --runtime R --seconds S --mtu BYTES --rounds N]`
//!
//! 13 nodes. On one channel each node publishes 20 artifacts of 200 bytes a second, evenly spaced over
//! all nodes, each aborted after a second. On another channel two artifacts of 1 MiB are always on
//! their way to everyone: once all nodes have one, it is aborted, and the next node publishes the next.
//! The channel of the small ones is urgent and the other one bulk, which plain quinn does not know. Both
//! systems have the same congestion controller, initial window and datagram length.
//!
//! Figures: from publishing to delivery of the small ones, over all receivers; how much later than
//! planned they were published; bytes of the large ones that were delivered, over all receivers, per
//! second; CPU time of all nodes per second. The two systems take turns; the ratios are the medians of
//! those of each round, ours by theirs.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use slotcast_bench::in_flight::InFlight;
use slotcast_bench::latencies::Latencies;
use slotcast_bench::options::Options;
use slotcast_bench::runtime::{self, Runtime};
use slotcast_bench::system::{Id, Shape, System};
use slotcast_bench::{cpu_time, median, reference::Subnet as Theirs, subnet::Subnet as Ours};

const NODES: usize = 13;

const SMALL: u16 = 0;
const SMALL_BYTES: usize = 200;
const SMALL_PER_SECOND: u32 = 20 * NODES as u32;
/// How long a small one is active.
const SMALL_LIFE: Duration = Duration::from_secs(1);

const LARGE: u16 = 1;
const LARGE_BYTES: usize = 1 << 20;
const LARGE_IN_FLIGHT: usize = 2;

/// Before anything counts: congestion windows open, buffers have their size.
const WARM_UP: Duration = Duration::from_secs(1);

/// What a run came to.
struct Figures {
    small: Latencies,
    /// How much later than planned small ones were published: the task that does so waits for its turn on
    /// the runtime, as any task does.
    late: Latencies,
    /// Deliveries of small ones that did not happen within their life.
    missed: usize,
    large_bytes_per_second: f64,
    cpu_per_second: f64,
}

impl Figures {
    /// As columns.
    fn values(&self) -> [f64; 5] {
        [
            self.small.percentile(50.0),
            self.small.percentile(99.0),
            self.late.percentile(99.0),
            self.large_bytes_per_second / 1e6,
            self.cpu_per_second,
        ]
    }

    /// Ours by theirs, for each column.
    fn ratios(&self, theirs: &Self) -> [f64; 5] {
        let theirs = theirs.values();
        let mut ratios = self.values();
        for (ours, theirs) in ratios.iter_mut().zip(theirs) {
            *ours /= theirs;
        }
        ratios
    }
}

/// One run: what is active, and what has been counted.
struct Run<'a, S> {
    in_flight: InFlight<'a, S>,
    /// Small ones, and when they are to be aborted; oldest first.
    small: VecDeque<(Instant, Id)>,
    small_count: usize,
    next_small: Instant,
    large: usize,
    large_count: usize,
    figures: Figures,
    large_bytes: u64,
    is_counting: bool,
}

impl<'a, S: System> Run<'a, S> {
    fn new(system: &'a S) -> Self {
        let figures = Figures {
            small: Latencies::default(),
            late: Latencies::default(),
            missed: 0,
            large_bytes_per_second: 0.0,
            cpu_per_second: 0.0,
        };
        Self {
            in_flight: InFlight::new(system, NODES),
            small: VecDeque::new(),
            small_count: 0,
            next_small: Instant::now(),
            large: 0,
            large_count: 0,
            figures,
            large_bytes: 0,
            is_counting: false,
        }
    }

    /// Does what is due, and tells when the next is.
    fn keep_up(&mut self) -> Instant {
        let now = Instant::now();
        while self.large < LARGE_IN_FLIGHT {
            self.in_flight.publish(self.large_count % NODES, LARGE, LARGE_BYTES);
            self.large += 1;
            self.large_count += 1;
        }
        while self.next_small <= now {
            if self.is_counting {
                self.figures.late.record(Instant::now() - self.next_small);
            }
            let id = self.in_flight.publish(self.small_count % NODES, SMALL, SMALL_BYTES);
            self.small.push_back((now + SMALL_LIFE, id));
            self.small_count += 1;
            self.next_small += Duration::from_secs(1) / SMALL_PER_SECOND;
        }
        while let Some((end, id)) = self.small.front()
            && *end <= now
        {
            let missed = self.in_flight.abort(id);
            self.small.pop_front();
            if self.is_counting {
                self.figures.missed += missed;
            }
        }
        // Small ones end within a step of this, too.
        self.next_small
    }

    /// Goes on until `end`.
    async fn until<R: Runtime>(&mut self, system: &S, end: Instant) {
        let mut arrived = Vec::new();
        while Instant::now() < end {
            let deadline = self.keep_up().min(end);
            arrived.clear();
            R::timeout_at(deadline, system.deliveries(&mut arrived)).await;
            for delivery in &arrived {
                let Some(arrival) = self.in_flight.arrived(delivery) else { continue };
                match arrival.channel {
                    LARGE => self.large_bytes += LARGE_BYTES as u64,
                    _ if self.is_counting => self.figures.small.record(arrival.latency),
                    _ => {}
                }
                if arrival.channel == LARGE && arrival.is_last {
                    self.in_flight.abort(&delivery.id);
                    self.large -= 1;
                }
            }
        }
    }
}

async fn run<S: System, R: Runtime>(seconds: f64, mtu: u16) -> Figures {
    let system = S::start(Shape { nodes: NODES, channels: 2, has_classes: true, mtu }).await;
    let mut run = Run::new(&system);
    run.until::<R>(&system, Instant::now() + WARM_UP).await;
    run.is_counting = true;
    run.large_bytes = 0;
    let (start, cpu) = (Instant::now(), cpu_time::of_process());
    run.until::<R>(&system, start + Duration::from_secs_f64(seconds)).await;
    let elapsed = start.elapsed().as_secs_f64();
    let mut figures = run.figures;
    figures.large_bytes_per_second = run.large_bytes as f64 / elapsed;
    figures.cpu_per_second = (cpu_time::of_process() - cpu).as_secs_f64() / elapsed;
    system.shutdown().await;
    figures
}

fn print(round: usize, system: &str, figures: &Figures) {
    let [p50, p99, late, large, cpu] = figures.values();
    println!(
        "{round:>5}  {system:<18} {:>8} {:>8} {p50:>8.2} {p99:>8.2} {late:>8.2} {large:>10.1} {cpu:>8.2}",
        figures.small.count(),
        figures.missed,
    );
}

struct Mixed;

impl runtime::Bench for Mixed {
    async fn run<R: Runtime>(options: Options) {
        let (seconds, rounds) = (options.seconds.unwrap_or(4.0), options.rounds.unwrap_or(5));
        println!(
            "{:<5}  {:<18} {:>8} {:>8} {:>8} {:>8} {:>8} {:>10} {:>8}",
            "round",
            "system",
            "small",
            "missed",
            "p50 ms",
            "p99 ms",
            "late p99",
            "large MB/s",
            "CPU s/s"
        );
        let mut ratios: [Vec<f64>; 5] = Default::default();
        for round in 1..=rounds {
            let ours = run::<Ours<R>, R>(seconds, options.mtu).await;
            print(round, Ours::<R>::NAME, &ours);
            let theirs = run::<Theirs<R>, R>(seconds, options.mtu).await;
            print(round, Theirs::<R>::NAME, &theirs);
            for (of_all, ratio) in ratios.iter_mut().zip(ours.ratios(&theirs)) {
                of_all.push(ratio);
            }
        }
        let [p50, p99, late, large, cpu] = ratios.map(median);
        println!(
            "{:<5}  {:<18} {:>8} {:>8} {p50:>8.2} {p99:>8.2} {late:>8.2} {large:>10.2} {cpu:>8.2}\n",
            "", "median of ratios", "", ""
        );
    }
}

fn main() {
    runtime::main::<Mixed>();
}
