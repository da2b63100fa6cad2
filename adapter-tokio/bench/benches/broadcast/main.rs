//! Broadcast on loopback, beside systems over plain quinn in the same run: the reference's rule, and one stream
//! to each peer, which knows neither aborts nor hashes and is the bound of what QUIC can do here; and the same with a
//! stream for each batch, as slotcast has it.
//!
//! `cargo bench -p slotcast-bench --bench broadcast [-- --runtime R --seconds S --mtu BYTES
//! --rounds N --only NAME --system NAME]`
//!
//! - *flood*: at most 1,000 artifacts that are not yet delivered everywhere, each aborted once it is.
//! - *paced*: each node publishes 20 artifacts a second, each aborted once it is delivered everywhere.
//! - *large*: one artifact after the other, each aborted when it is delivered everywhere.
//!
//! The machine is shared and noisy: the systems take turns, the better round of each counts,
//! and what matters is the ratio.

mod measure;

use std::time::{Duration, Instant};

use measure::{Figures, Row};
use slotcast_bench::in_flight::InFlight;
use slotcast_bench::latencies::Latencies;
use slotcast_bench::options::Options;
use slotcast_bench::runtime::{self, Runtime};
use slotcast_bench::system::{Shape, System};
use slotcast_bench::{cpu_time, one_stream, reference, subnet};

const OUTSTANDING_MAX: usize = 1_000;
const PACED_PER_SECOND: u64 = 20;

/// Nothing here takes so long, unless it is broken.
const PATIENCE: Duration = Duration::from_secs(20);

/// What is published, and how fast.
#[derive(Clone, Copy, Debug)]
enum Load {
    Flood,
    Paced,
    OneByOne,
}

#[derive(Clone, Copy, Debug)]
struct Case {
    load: Load,
    nodes: usize,
    size: usize,
}

impl Case {
    const ALL: [Self; 10] = [
        Self { load: Load::Flood, nodes: 4, size: 200 },
        Self { load: Load::Flood, nodes: 13, size: 200 },
        Self { load: Load::Flood, nodes: 4, size: 4 << 10 },
        Self { load: Load::Flood, nodes: 13, size: 4 << 10 },
        Self { load: Load::Paced, nodes: 4, size: 200 },
        Self { load: Load::Paced, nodes: 13, size: 200 },
        Self { load: Load::OneByOne, nodes: 4, size: 1 << 20 },
        Self { load: Load::OneByOne, nodes: 13, size: 1 << 20 },
        Self { load: Load::OneByOne, nodes: 4, size: 4 << 20 },
        Self { load: Load::OneByOne, nodes: 13, size: 4 << 20 },
    ];

    fn name(&self) -> String {
        let load = match self.load {
            Load::Flood => "flood",
            Load::Paced => "paced",
            Load::OneByOne => "large",
        };
        let size = if self.size < 1 << 20 {
            format!("{} B", self.size)
        } else {
            format!("{} MiB", self.size >> 20)
        };
        format!("{load}, {} nodes, {size}", self.nodes)
    }
}

async fn run<S: System, R: Runtime>(case: Case, seconds: f64, mtu: u16) -> Figures {
    let system = S::start(Shape { nodes: case.nodes, channels: 1, has_classes: false, mtu }).await;
    let mut in_flight = InFlight::new(&system, case.nodes);
    let mut arrived = Vec::new();
    let mut latencies = Latencies::default();
    let (start, cpu, udp) = (Instant::now(), cpu_time::of_process(), system.udp_bytes());
    let end = start + Duration::from_secs_f64(seconds);
    let mut next_paced = start;
    let step = Duration::from_secs(1) / (PACED_PER_SECOND as u32 * case.nodes as u32);
    let limit = match case.load {
        Load::Flood => OUTSTANDING_MAX,
        Load::OneByOne => 1,
        Load::Paced => 0,
    };
    loop {
        let now = Instant::now();
        if now >= end && in_flight.count() == 0 {
            break;
        }
        if now < end {
            while in_flight.count() < limit {
                in_flight.publish_in_turn(case.size);
            }
            while matches!(case.load, Load::Paced) && next_paced <= now {
                in_flight.publish_in_turn(case.size);
                next_paced += step;
            }
        }
        arrived.clear();
        let is_pacing = matches!(case.load, Load::Paced) && now < end;
        let deadline = if is_pacing { next_paced } else { now + PATIENCE };
        let more = R::timeout_at(deadline, system.deliveries(&mut arrived)).await;
        assert!(more.is_some() || is_pacing, "{}: stuck in {case:?}", S::NAME);
        for delivery in &arrived {
            let arrival = in_flight.arrived(delivery).expect("active until it is everywhere");
            latencies.record(arrival.latency);
            if arrival.is_last {
                in_flight.abort(&delivery.id);
            }
        }
    }
    let figures = Figures {
        elapsed: start.elapsed(),
        cpu: cpu_time::of_process() - cpu,
        udp_bytes: system.udp_bytes() - udp,
        payload_bytes: latencies.count() * case.size as u64,
        latencies,
    };
    system.shutdown().await;
    figures
}

/// A system, and the better of its runs of a case.
struct Best {
    name: &'static str,
    figures: Option<Figures>,
}

impl Best {
    async fn improve<S: System, R: Runtime>(
        &mut self,
        case: Case,
        seconds: f64,
        options: &Options,
    ) {
        if !S::NAME.contains(&options.system) {
            return;
        }
        self.name = S::NAME;
        let figures = run::<S, R>(case, seconds, options.mtu).await;
        let is_better = |best: &Figures| figures.per_second() > best.per_second();
        if self.figures.as_ref().is_none_or(is_better) {
            self.figures = Some(figures);
        }
    }
}

struct Broadcast;

impl runtime::Bench for Broadcast {
    async fn run<R: Runtime>(options: Options) {
        let (seconds, rounds) = (options.seconds.unwrap_or(2.0), options.rounds.unwrap_or(2));
        println!("{}", Row::head());
        for case in Case::ALL.into_iter().filter(|case| case.name().contains(&options.only)) {
            let [mut ours, mut rule, mut bound, mut batches] =
                [(); 4].map(|()| Best { name: "", figures: None });
            for round in 0..rounds {
                eprintln!("{}: round {} of {rounds}", case.name(), round + 1);
                ours.improve::<subnet::Subnet<R>, R>(case, seconds, &options).await;
                rule.improve::<reference::Subnet<R>, R>(case, seconds, &options).await;
                bound.improve::<one_stream::OneStream<R>, R>(case, seconds, &options).await;
                batches.improve::<one_stream::StreamPerBatch<R>, R>(case, seconds, &options).await;
            }
            let mut name = case.name();
            for Best { name: system, figures } in [&ours, &rule, &bound, &batches] {
                if let Some(figures) = figures {
                    println!("{}", Row { name: &name, system, figures });
                    name.clear();
                }
            }
            for theirs in [&rule, &bound, &batches] {
                if let (Some(ours), Some(figures)) = (&ours.figures, &theirs.figures) {
                    println!("{}", ours.ratios(theirs.name, figures));
                }
            }
            println!();
        }
    }
}

fn main() {
    runtime::main::<Broadcast>();
}
