//! Small artifacts beside large ones on loopback, each of both alone, and the same load over plain quinn with a stream
//! per update and with one stream per peer, in the same run.
//!
//! `cargo bench -p slotcast-bench --bench mixed [-- --runtime R --seconds S --mtu BYTES --rounds N]`
//!
//! 13 nodes. On one channel each node publishes 20 artifacts of 200 bytes a second, evenly spaced over
//! all nodes, each aborted after a second. On another channel two artifacts of 1 MiB are always on
//! their way to everyone: once all nodes have one, it is aborted, and the next node publishes the next.
//! The channel of the small ones is urgent and the other one bulk, which plain quinn does not know. All
//! systems have the same congestion controller, initial window and datagram length.
//!
//! Figures: from publishing to delivery of the small ones, over all receivers; how much later than
//! planned they were published; bytes of the large ones that were delivered, over all receivers, per
//! second; CPU time of all nodes per second. The runs of a round take turns; the ratios are the medians of
//! those of each round: slotcast under both loads by slotcast under one alone, and by the others under both.

use std::collections::VecDeque;
use std::fmt::Display;
use std::time::{Duration, Instant};

use slotcast_bench::in_flight::InFlight;
use slotcast_bench::latencies::Latencies;
use slotcast_bench::options::Options;
use slotcast_bench::runtime::{self, Runtime};
use slotcast_bench::system::{Id, Shape, System};
use slotcast_bench::{
    cpu_time, median, one_stream::OneStream, reference::Subnet as Theirs, subnet::Subnet as Ours,
};

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

/// What is published in a run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Load {
    Both,
    Small,
    Large,
}

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

    /// These by those, for each column.
    fn ratios(&self, those: &Self) -> [f64; 5] {
        let mut ratios = self.values();
        for (these, those) in ratios.iter_mut().zip(those.values()) {
            *these /= those;
        }
        ratios
    }
}

/// One run: what is active, and what has been counted.
struct Run<'a, S> {
    load: Load,
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
    fn new(system: &'a S, load: Load) -> Self {
        let figures = Figures {
            small: Latencies::default(),
            late: Latencies::default(),
            missed: 0,
            large_bytes_per_second: 0.0,
            cpu_per_second: 0.0,
        };
        Self {
            load,
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
        while self.load != Load::Small && self.large < LARGE_IN_FLIGHT {
            self.in_flight.publish(self.large_count % NODES, LARGE, LARGE_BYTES);
            self.large += 1;
            self.large_count += 1;
        }
        while self.next_small <= now {
            if self.is_counting {
                self.figures.late.record(Instant::now() - self.next_small);
            }
            if self.load != Load::Large {
                let id = self.in_flight.publish(self.small_count % NODES, SMALL, SMALL_BYTES);
                self.small.push_back((now + SMALL_LIFE, id));
                self.small_count += 1;
            }
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

async fn run<S: System, R: Runtime>(load: Load, seconds: f64, mtu: u16) -> Figures {
    let system = S::start(Shape { nodes: NODES, channels: 2, has_classes: true, mtu }).await;
    let mut run = Run::new(&system, load);
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

const COLUMNS: [&str; 5] = ["p50 ms", "p99 ms", "late p99", "large MB/s", "CPU s/s"];

fn print(round: &dyn Display, name: &str, counts: [&dyn Display; 2], values: [f64; 5]) {
    let [small, missed] = counts;
    print!("{round:>5}  {name:<30} {small:>8} {missed:>8}");
    for value in values {
        // Of what was not published there is none.
        match value.is_finite() && value > 0.0 {
            true => print!(" {value:>10.2}"),
            false => print!(" {:>10}", ""),
        }
    }
    println!();
}

/// One run, in a row of its own.
async fn measure<S: System, R: Runtime>(round: usize, load: Load, options: &Options) -> Figures {
    let figures = run::<S, R>(load, options.seconds.unwrap_or(4.0), options.mtu).await;
    let alone = match load {
        Load::Both => "",
        Load::Small => ", small alone",
        Load::Large => ", large alone",
    };
    let counts: [&dyn Display; 2] = [&figures.small.count(), &figures.missed];
    print(&round, &format!("{}{alone}", S::NAME), counts, figures.values());
    figures
}

struct Mixed;

impl runtime::Bench for Mixed {
    async fn run<R: Runtime>(options: Options) {
        print!("{:<5}  {:<30} {:>8} {:>8}", "round", "system", "small", "missed");
        COLUMNS.iter().for_each(|column| print!(" {column:>10}"));
        println!();
        let mut ratios = [
            ("by small alone", Vec::new()),
            ("by large alone", Vec::new()),
            ("by a stream per update", Vec::new()),
            ("by one stream", Vec::new()),
        ];
        for round in 1..=options.rounds.unwrap_or(5) {
            let ours = measure::<Ours<R>, R>(round, Load::Both, &options).await;
            let others = [
                measure::<Ours<R>, R>(round, Load::Small, &options).await,
                measure::<Ours<R>, R>(round, Load::Large, &options).await,
                measure::<Theirs<R>, R>(round, Load::Both, &options).await,
                measure::<OneStream<R>, R>(round, Load::Both, &options).await,
            ];
            for ((_, of_all), other) in ratios.iter_mut().zip(&others) {
                of_all.push(ours.ratios(other));
            }
        }
        println!("medians of ratios:");
        for (name, ratios) in ratios {
            let of_column = |column| median(ratios.iter().map(|round| round[column]));
            print(&"", name, [&"", &""], std::array::from_fn(of_column));
        }
        println!();
    }
}

fn main() {
    runtime::main::<Mixed>();
}
