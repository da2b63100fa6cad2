//! More is published than an uplink takes, and aborted after a second (scenario W6): what arrives before that, and
//! how old it is then.
//!
//! `cargo bench -p slotcast-bench --bench overload [-- --runtime R --seconds S --rounds N --only LOAD]`
//!
//! Two nodes on loopback. The publisher has an uplink of 1 MB/s (`transport.uplink`) and publishes, evenly spaced,
//! artifacts of 200 bytes or 25 kB at 100, 150, 300 and 1000 % of that. Each is aborted a second later, or when it
//! has arrived.
//!
//! Figures: bytes of artifacts delivered within their life, as a part of the uplink's rate, of which headers of
//! datagrams and updates take some, too; their age at delivery; deliveries that came later; artifacts that were not
//! published, since the channel had no room; CPU time of both per second. Each row is a run.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use slotcast::broadcast::Event;
use slotcast::config::{ChannelConfig, Config};
use slotcast::driver::Channel;
use slotcast::id::{ArtifactId, ChannelId};
use slotcast_bench::cpu_time;
use slotcast_bench::latencies::Latencies;
use slotcast_bench::options::Options;
use slotcast_bench::runtime::{self, Runtime};
use slotcast_bench::subnet::{all_connected, start_nodes};

const CHANNEL: ChannelId = ChannelId(1);

/// Bytes per second, headers included.
const UPLINK: u64 = 1_000_000;

const LIFE: Duration = Duration::from_secs(1);

/// As parts of the uplink's rate, in percent.
const LOADS: [u32; 4] = [100, 150, 300, 1000];

const BYTES: [usize; 2] = [200, 25_000];

/// Before anything counts: the backlog has become what it stays.
const WARM_UP: Duration = Duration::from_secs(2);

/// Between two times at which what is due is published.
const STEP: Duration = Duration::from_millis(1);

/// What is active, and what has come of it.
#[derive(Default)]
struct Log {
    published: HashMap<ArtifactId, Instant>,
    /// Arrived, and to be aborted.
    arrived: Vec<ArtifactId>,
    ages: Latencies,
    late: usize,
}

/// What a run came to.
struct Figures {
    goodput: f64,
    ages: Latencies,
    late: usize,
    refused: usize,
    cpu_per_second: f64,
}

struct Publisher {
    channel: Channel,
    log: Arc<Mutex<Log>>,
    bytes: usize,
    /// In a step.
    artifacts: f64,
    due: f64,
    count: u64,
    active: VecDeque<(Instant, ArtifactId)>,
    refused: usize,
}

impl Publisher {
    /// Publishes what is due in one step, and aborts what is over.
    fn step(&mut self) {
        let now = Instant::now();
        let mut log = self.log.lock().expect("nobody panics");
        let mut over = std::mem::take(&mut log.arrived);
        while let Some((published, id)) = self.active.front().copied()
            && now - published >= LIFE
        {
            self.active.pop_front();
            if log.published.remove(&id).is_some() {
                over.push(id);
            }
        }
        drop(log);
        for id in over {
            self.channel.abort(&id);
        }
        self.due += self.artifacts;
        while self.due >= 1.0 {
            (self.due, self.count) = (self.due - 1.0, self.count + 1);
            let mut content = vec![0; self.bytes];
            content[..8].copy_from_slice(&self.count.to_be_bytes());
            // Under the lock, so that it is known when it arrives.
            let mut log = self.log.lock().expect("nobody panics");
            let Ok(id) = self.channel.publish(content, &[]) else {
                self.refused += 1;
                continue;
            };
            self.active.push_back((now, id));
            log.published.insert(id, now);
        }
    }

    async fn until<R: Runtime>(&mut self, next: &mut Instant, end: Instant) {
        while *next < end {
            self.step();
            *next += STEP;
            R::sleep_until(*next).await;
        }
    }
}

async fn collect(channel: Channel, log: Arc<Mutex<Log>>) {
    let mut events = Vec::new();
    while channel.next_events(&mut events).await > 0 {
        let now = Instant::now();
        let mut log = log.lock().expect("nobody panics");
        for event in events.drain(..) {
            let Event::Delivered { artifact, .. } = event else { continue };
            let id = artifact.id();
            match log.published.remove(&id) {
                Some(published) => {
                    log.ages.record(now - published);
                    log.arrived.push(id);
                }
                None => log.late += 1,
            }
        }
    }
}

async fn run<R: Runtime>(load: u32, bytes: usize, seconds: f64) -> Figures {
    let mut channel = ChannelConfig::new(CHANNEL);
    (channel.slots_max, channel.active_bytes_max) = (1 << 16, 256 << 20);
    let mut config = Config::new([channel]);
    config.transport.uplink = Some(UPLINK);
    let nodes = start_nodes(2, &config, R::bind);
    all_connected(&nodes).await;
    let log = Arc::new(Mutex::new(Log::default()));
    let receiver = nodes[1].channel(CHANNEL).expect("configured");
    drop(R::spawn(collect(receiver, log.clone())));
    let per_second = f64::from(load) / 100.0 * UPLINK as f64 / bytes as f64;
    let mut publisher = Publisher {
        channel: nodes[0].channel(CHANNEL).expect("configured"),
        log: log.clone(),
        bytes,
        artifacts: per_second * STEP.as_secs_f64(),
        due: 0.0,
        count: 0,
        active: VecDeque::new(),
        refused: 0,
    };
    let mut next = Instant::now();
    publisher.until::<R>(&mut next, Instant::now() + WARM_UP).await;
    {
        let mut log = log.lock().expect("nobody panics");
        (log.ages, log.late) = (Latencies::default(), 0);
    }
    publisher.refused = 0;
    let (start, cpu) = (Instant::now(), cpu_time::of_process());
    publisher.until::<R>(&mut next, start + Duration::from_secs_f64(seconds)).await;
    let elapsed = start.elapsed().as_secs_f64();
    let cpu_per_second = (cpu_time::of_process() - cpu).as_secs_f64() / elapsed;
    let (ages, late) = {
        let log = log.lock().expect("nobody panics");
        (log.ages.clone(), log.late)
    };
    for node in &nodes {
        node.shutdown().await.expect("sockets are sound");
    }
    let goodput = ages.count() as f64 * bytes as f64 / elapsed / UPLINK as f64;
    Figures { goodput, ages, late, refused: publisher.refused, cpu_per_second }
}

struct Overload;

impl runtime::Bench for Overload {
    async fn run<R: Runtime>(options: Options) {
        let (seconds, rounds) = (options.seconds.unwrap_or(6.0), options.rounds.unwrap_or(1));
        println!(
            "{:<16} {:>8} {:>9} {:>9} {:>9} {:>7} {:>9} {:>8}",
            "load", "goodput", "in time", "p50 ms", "p99 ms", "late", "refused", "CPU s/s"
        );
        for (bytes, load) in BYTES.into_iter().flat_map(|b| LOADS.map(|load| (b, load))) {
            let name = format!("{bytes} B {load} %");
            if !name.contains(&options.only) {
                continue;
            }
            for _ in 0..rounds {
                let figures = run::<R>(load, bytes, seconds).await;
                let Figures { goodput, ages, late, refused, cpu_per_second } = figures;
                let [p50, p99] = [50.0, 99.0].map(|percent| ages.percentile(percent));
                println!(
                    "{name:<16} {goodput:>8.2} {:>9} {p50:>9.1} {p99:>9.1} {late:>7} {refused:>9} {cpu_per_second:>8.2}",
                    ages.count(),
                );
            }
        }
        println!();
    }
}

fn main() {
    runtime::main::<Overload>();
}
