//! What channels that are configured and quiet cost: CPU time per delivery with 1 and with 64 channels.
//!
//! `cargo bench -p slotcast-bench --bench many_channels [-- --runtime R --seconds S --mtu BYTES --rounds N]`
//!
//! 41 nodes. One artifact of 200 bytes is published every 10 ms, always on the first channel, by each node
//! in turn, and aborted once all others have it. The CPU time is that of all nodes and of the bench, and
//! the time that keeps connections alive is part of it. The two numbers of channels take turns; the ratio
//! is the median of those of each round.

use std::time::{Duration, Instant};

use slotcast_bench::in_flight::InFlight;
use slotcast_bench::latencies::Latencies;
use slotcast_bench::options::Options;
use slotcast_bench::runtime::{self, Runtime};
use slotcast_bench::system::{Shape, System};
use slotcast_bench::{cpu_time, median, subnet::Subnet};

const NODES: usize = 41;
const CHANNELS: [u16; 2] = [1, 64];

const ARTIFACT_BYTES: usize = 200;
const PUBLISH_EVERY: Duration = Duration::from_millis(10);

/// Before anything counts: buffers have their size, and path MTU discovery is over.
const WARM_UP: Duration = Duration::from_secs(1);

/// Nothing here takes so long, unless it is broken.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a run came to.
struct Figures {
    latencies: Latencies,
    cpu: Duration,
    elapsed: Duration,
}

impl Figures {
    /// In microseconds.
    fn cpu_each(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.latencies.count() as f64
    }
}

/// Publishes until `end`, then waits for what is on its way.
async fn publish_until<R: Runtime, S: System>(
    system: &S,
    in_flight: &mut InFlight<'_, S>,
    end: Instant,
) -> Latencies {
    let mut latencies = Latencies::default();
    let mut arrived = Vec::new();
    let mut next = Instant::now();
    loop {
        let now = Instant::now();
        while next <= now && next < end {
            in_flight.publish_in_turn(ARTIFACT_BYTES);
            next += PUBLISH_EVERY;
        }
        let is_publishing = next < end;
        if !is_publishing && in_flight.count() == 0 {
            return latencies;
        }
        arrived.clear();
        let deadline = if is_publishing { next } else { now + PATIENCE };
        let more = R::timeout_at(deadline, system.deliveries(&mut arrived)).await;
        assert!(more.is_some() || is_publishing, "stuck");
        for delivery in &arrived {
            let arrival = in_flight.arrived(delivery).expect("active until it is everywhere");
            latencies.record(arrival.latency);
            if arrival.is_last {
                in_flight.abort(&delivery.id);
            }
        }
    }
}

async fn run<R: Runtime>(channels: u16, seconds: f64, mtu: u16) -> Figures {
    let system =
        Subnet::<R>::start(Shape { nodes: NODES, channels, has_classes: false, mtu }).await;
    let mut in_flight = InFlight::new(&system, NODES);
    publish_until::<R, _>(&system, &mut in_flight, Instant::now() + WARM_UP).await;
    let (begun, cpu) = (Instant::now(), cpu_time::of_process());
    let end = begun + Duration::from_secs_f64(seconds);
    let latencies = publish_until::<R, _>(&system, &mut in_flight, end).await;
    let (cpu, elapsed) = (cpu_time::of_process() - cpu, begun.elapsed());
    system.shutdown().await;
    Figures { latencies, cpu, elapsed }
}

struct ManyChannels;

impl runtime::Bench for ManyChannels {
    async fn run<R: Runtime>(options: Options) {
        let (seconds, rounds) = (options.seconds.unwrap_or(5.0), options.rounds.unwrap_or(5));
        println!("{NODES} nodes, one artifact of {ARTIFACT_BYTES} bytes per {PUBLISH_EVERY:?}");
        println!(
            "{:<6} {:>8} {:>10} {:>8} {:>8} {:>8} {:>12}",
            "round", "channels", "deliveries", "p50 ms", "p99 ms", "CPU s/s", "CPU us each"
        );
        let mut each = CHANNELS.map(|_| Vec::new());
        for round in 1..=rounds {
            for (channels, each) in CHANNELS.into_iter().zip(&mut each) {
                eprintln!("round {round} of {rounds}: {channels} channels");
                let figures = run::<R>(channels, seconds, options.mtu).await;
                each.push(figures.cpu_each());
                println!(
                    "{round:<6} {channels:>8} {:>10} {:>8.2} {:>8.2} {:>8.2} {:>12.2}",
                    figures.latencies.count(),
                    figures.latencies.percentile(50.0),
                    figures.latencies.percentile(99.0),
                    figures.cpu.as_secs_f64() / figures.elapsed.as_secs_f64(),
                    figures.cpu_each(),
                );
            }
        }
        let [few, many] = each;
        let ratio = median(few.iter().zip(&many).map(|(few, many)| many / few));
        let [few, many] = [few, many].map(median);
        println!(
            "medians: {few:.2} us with {} channel, {many:.2} us with {}; ratio {ratio:.2}\n",
            CHANNELS[0], CHANNELS[1]
        );
    }
}

fn main() {
    runtime::main::<ManyChannels>();
}
