//! How long the driver of a node keeps its thread to itself: CPU time of single polls while 12 artifacts of
//! 16 MiB go from one node to four others, all in this process on loopback.
//!
//! `cargo bench -p slotcast-bench --bench polls [-- --runtime R --rounds N]`
//!
//! What else runs on a thread waits for a poll to return. The time is the thread's CPU time, so that what the
//! machine does besides does not count. `over 1 ms` is the share of the time in polls that goes in polls longer
//! than that. Throughput counts all receivers; the clock runs from the first publish to the last delivery.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use slotcast::broadcast::Event;
use slotcast::config::{ChannelConfig, Config};
use slotcast::driver::{Channel, DriverError, NodeHandle};
use slotcast::id::ChannelId;
use slotcast_bench::latencies::Latencies;
use slotcast_bench::options::Options;
use slotcast_bench::runtime::{self, Runtime};
use slotcast_bench::subnet::{all_connected, start_nodes};
use slotcast_bench::{cpu_time, median};

const NODES: usize = 5;
const ARTIFACTS: usize = 12;
const ARTIFACT_BYTES: usize = 16 << 20;
const CHANNEL: ChannelId = ChannelId(1);

/// Polls that are called long.
const LONG: Duration = Duration::from_millis(1);

/// The polls of some drivers.
#[derive(Clone, Default)]
struct Polls {
    times: Latencies,
    total: Duration,
    /// In polls longer than [`LONG`].
    long: Duration,
}

impl Polls {
    fn record(&mut self, time: Duration) {
        self.times.record(time);
        self.total += time;
        if time > LONG {
            self.long += time;
        }
    }

    fn add(&mut self, other: &Self) {
        self.times.add(&other.times);
        self.total += other.total;
        self.long += other.long;
    }
}

/// A driver whose polls are measured.
struct Measured<D> {
    driver: D,
    polls: Arc<Mutex<Polls>>,
}

impl<D: Future<Output = Result<(), DriverError>> + Unpin> Future for Measured<D> {
    type Output = Result<(), DriverError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let begun = cpu_time::of_thread();
        let result = Pin::new(&mut this.driver).poll(cx);
        let time = cpu_time::of_thread() - begun;
        this.polls.lock().expect("nobody panics").record(time);
        result
    }
}

async fn run<R: Runtime>(publisher: &mut Polls, receivers: &mut Polls) -> f64 {
    let polls = [(); NODES].map(|()| Arc::new(Mutex::new(Polls::default())));
    let mut channel = ChannelConfig::new(CHANNEL);
    // All of them at once.
    channel.active_bytes_max = (ARTIFACTS * ARTIFACT_BYTES) as u64;
    let mut measured = polls.iter();
    let nodes = start_nodes(NODES, &Config::new([channel]), |setup, address| {
        let (node, driver) = R::bind_unspawned(setup, address);
        let polls = measured.next().expect("as many as nodes").clone();
        drop(R::spawn(Measured { driver, polls }));
        node
    });
    all_connected(&nodes).await;
    let channel = |node: &NodeHandle| node.channel(CHANNEL).expect("configured");
    // How the nodes came together does not count.
    for polls in &polls {
        *polls.lock().expect("nobody panics") = Polls::default();
    }
    let begun = Instant::now();
    let receiving: Vec<_> =
        nodes[1..].iter().map(|node| R::spawn(receive(channel(node)))).collect();
    for number in 0..ARTIFACTS {
        let bytes = vec![number as u8; ARTIFACT_BYTES];
        channel(&nodes[0]).publish(bytes, b"").expect("there is room");
    }
    for receiving in receiving {
        receiving.await;
    }
    let seconds = begun.elapsed().as_secs_f64();
    for (at, polls) in polls.iter().enumerate() {
        let of_all = if at == 0 { &mut *publisher } else { &mut *receivers };
        of_all.add(&polls.lock().expect("nobody panics"));
    }
    for node in &nodes {
        node.shutdown().await.expect("sockets are sound");
    }
    ((NODES - 1) * ARTIFACTS * ARTIFACT_BYTES) as f64 / seconds
}

/// Waits for all artifacts.
async fn receive(channel: Channel) {
    let mut delivered = 0;
    while delivered < ARTIFACTS {
        let event = channel.next_event().await.expect("the node runs");
        delivered += usize::from(matches!(event, Event::Delivered { .. }));
    }
}

fn print(name: &str, polls: &Polls) {
    let [p50, p99, p999, max] =
        [50.0, 99.0, 99.9, 100.0].map(|percent| polls.times.percentile(percent) * 1e3);
    println!(
        "{name:<12} {:>8} {:>10.2} {p50:>8.1} {p99:>8.1} {p999:>8.1} {max:>8.1} {:>10.3}",
        polls.times.count(),
        polls.total.as_secs_f64(),
        polls.long.as_secs_f64() / polls.total.as_secs_f64(),
    );
}

struct DriverPolls;

impl runtime::Bench for DriverPolls {
    async fn run<R: Runtime>(options: Options) {
        let rounds = options.rounds.unwrap_or(5);
        let (mut publisher, mut receivers) = (Polls::default(), Polls::default());
        let mut throughput = Vec::new();
        for _ in 0..rounds {
            throughput.push(run::<R>(&mut publisher, &mut receivers).await / 1e6);
        }
        println!("12 x 16 MiB from one node to four others, {rounds} rounds");
        println!(
            "{:<12} {:>8} {:>10} {:>8} {:>8} {:>8} {:>8} {:>10}",
            "driver", "polls", "CPU s", "p50 us", "p99 us", "p99.9 us", "max us", "over 1 ms"
        );
        print("publisher", &publisher);
        print("receivers", &receivers);
        let each: Vec<_> = throughput.iter().map(|rate| format!("{rate:.0}")).collect();
        println!("MB/s: {}; median {:.0}\n", each.join(" "), median(throughput));
    }
}

fn main() {
    runtime::main::<DriverPolls>();
}
