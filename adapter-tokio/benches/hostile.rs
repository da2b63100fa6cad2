//! What an attack costs honest members: the latency of their broadcasts, undisturbed and under
//! attack, in the same run.
//!
//! `cargo bench -p slotcast-tokio --bench hostile [-- --seconds S --rounds R]`
//!
//! Three members under tokio broadcast in turn, one artifact of 200 bytes every two milliseconds; a
//! latency is that from publishing to the delivery at one other member. One of them is attacked:
//!
//! - *initials*: a stranger sends it 10,000 first datagrams of handshakes a second, from no member's
//!   address; and again, with the filter of addresses off.
//! - *member*: a fourth member floods it with updates of all its slots, with streams that are reset,
//!   and with calls, as fast as it is let.
//!
//! The machine is shared and noisy, and the attackers share it with the members: what matters is
//! the ratio to the undisturbed stretches between the attacks. What is delivered to the victim has to
//! pass its one socket behind what the attacker sends; what is delivered to others has not.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use slotcast_tokio::slotcast::broadcast::Event;
use slotcast_tokio::slotcast::id::NodeId;
use slotcast_tokio::slotcast::membership::Topology;
use slotcast_tokio::slotcast::node::{NodeEvent, NodeKey};
use slotcast_tokio::slotcast::wire::StreamHead;
use slotcast_tokio::{NodeHandle, Setup};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use flood::Flood;
use foe::{ALPN, Credentials, Foe, Transport};
use words::{CHANNELS, ROUTE, SLOTS_MAX};

// The attackers of the test of that name.
#[allow(dead_code, reason = "shared with the test")]
#[path = "../tests/hostile/flood.rs"]
mod flood;
#[allow(dead_code, reason = "shared with the test")]
#[path = "../tests/hostile/foe.rs"]
mod foe;
#[allow(dead_code, reason = "shared with the test")]
#[path = "../tests/hostile/words.rs"]
mod words;

const HONEST: usize = 3;
const PACE: Duration = Duration::from_millis(2);
const PER_SECOND: u64 = 10_000;

/// What happens meanwhile.
#[derive(Clone, Copy, PartialEq)]
enum Attack {
    None,
    Filtered,
    Unfiltered,
    Member,
}

impl Attack {
    const ALL: [Self; 4] = [Self::None, Self::Filtered, Self::Unfiltered, Self::Member];

    fn name(self) -> &'static str {
        match self {
            Self::None => "undisturbed",
            Self::Filtered => "initials, filtered",
            Self::Unfiltered => "initials, not filtered",
            Self::Member => "member",
        }
    }
}

/// From publishing to delivery: at the victim, and at the others.
#[derive(Default)]
struct Latencies([Vec<Duration>; 2]);

struct Subnet {
    nodes: Vec<NodeHandle>,
    foe_key: NodeKey,
}

impl Subnet {
    async fn start(filter_addresses: bool) -> Self {
        let mut keys = [1, 2, 3, 4].map(|n| NodeKey::from_seed([n; 32]));
        // The attacker's id is the lowest: it is not the others who dial it.
        keys.sort_by_key(NodeKey::id);
        let sockets = [(); 4].map(|()| UdpSocket::bind("127.0.0.1:0").expect("a free port"));
        let addresses = sockets.map(|socket| socket.local_addr().expect("bound"));
        let members = (0..4).map(|at| (keys[at].id(), vec![addresses[at]]));
        let topology = Topology::new(1, members).expect("distinct keys");
        let mut config = words::config();
        config.transport.filter_addresses = filter_addresses;
        let start = |at: usize| {
            let setup = Setup::new(keys[at].clone(), config.clone(), topology.clone());
            slotcast_tokio::bind(setup, addresses[at]).expect("the port is free")
        };
        let nodes: Vec<NodeHandle> = (1..=HONEST).map(start).collect();
        for node in &nodes {
            while node.peers_up().len() < HONEST - 1 {
                let event = node.next_event().await;
                assert!(matches!(event, Some(NodeEvent::Up { .. })), "{event:?}");
            }
            let server = node.route(ROUTE).expect("configured").serve().expect("served");
            tokio::spawn(async move {
                while let Some(request) = server.next().await {
                    let answer = request.body().clone();
                    // The attacker may have given up.
                    let _ = request.answer(answer);
                }
            });
        }
        let [foe_key, ..] = keys;
        Self { nodes, foe_key }
    }

    fn victim(&self) -> SocketAddr {
        self.nodes[0].local_address()
    }

    /// Latencies of all broadcasts in so many seconds.
    async fn measure(&self, seconds: f64) -> Latencies {
        let begun = Instant::now();
        let (told, mut latencies) = mpsc::unbounded_channel();
        let honest: Vec<NodeId> = self.nodes.iter().map(NodeHandle::id).collect();
        let listeners = self.nodes.iter().enumerate().map(|(at, node)| {
            let channel = node.channel(CHANNELS[0]).expect("configured");
            let (told, honest) = (told.clone(), honest.clone());
            tokio::spawn(async move {
                while let Some(event) = channel.next_event().await {
                    if let Event::Delivered { artifact, from } = event
                        && honest.contains(&from)
                    {
                        let (sent, _) = artifact.bytes().split_first_chunk().expect("a time");
                        let sent = Duration::from_nanos(u64::from_be_bytes(*sent));
                        let _ = told.send((at, begun.elapsed().saturating_sub(sent)));
                    }
                }
            })
        });
        let listeners: Vec<JoinHandle<()>> = listeners.collect();
        let channel = |at: usize| self.nodes[at].channel(CHANNELS[0]).expect("configured");
        let channels: Vec<_> = (0..HONEST).map(channel).collect();
        let mut ticks = tokio::time::interval(PACE);
        let (mut taken, mut published) = (Latencies::default(), 0);
        while begun.elapsed().as_secs_f64() < seconds {
            ticks.tick().await;
            let channel = &channels[published % HONEST];
            let mut bytes = (begun.elapsed().as_nanos() as u64).to_be_bytes().to_vec();
            bytes.extend(channel.id().0.to_be_bytes());
            bytes.extend((published as u64).to_be_bytes());
            bytes.resize(200, 7);
            let id = channel.publish(bytes, b"").expect("there is room");
            published += 1;
            // Kept until it has arrived: none is ever replaced by a newer one.
            for _ in 0..HONEST - 1 {
                let (at, latency) = latencies.recv().await.expect("listeners go on");
                taken.0[usize::from(at != 0)].push(latency);
            }
            channel.abort(&id);
        }
        listeners.iter().for_each(JoinHandle::abort);
        taken
    }

    async fn stop(self) {
        for node in &self.nodes {
            node.shutdown().await.expect("sockets are sound");
        }
    }
}

/// Floods until it is told to stop; tells how much it has done.
async fn attack(key: NodeKey, to: SocketAddr, stop: Arc<AtomicBool>) -> u64 {
    let foe = Foe::new(Credentials::Raw(key), ALPN, Transport::default());
    let line = foe.connect(to).await.expect("it is a member");
    line.write(&words::hello()).await;
    let done = Arc::new(AtomicU64::new(0));
    let spawn = |kind: usize| {
        let (line, stop, done) = (line.clone(), stop.clone(), done.clone());
        tokio::spawn(async move {
            for round in 1.. {
                if stop.load(Relaxed) {
                    return;
                }
                match kind {
                    0 => {
                        let content = [&[7; 100][..], &u64::to_be_bytes(round)].concat();
                        let pushes = (0..SLOTS_MAX).map(|slot| words::push(slot, round, &content));
                        let pushes = pushes.collect::<Vec<_>>().concat();
                        let head = StreamHead::Updates(CHANNELS[1]);
                        line.write(&words::stream(head, &[&pushes])).await;
                    }
                    1 => {
                        let mut stream = line.open().await;
                        let _ = stream.write_all(&words::stream(StreamHead::Requests, &[])).await;
                        let _ = stream.reset(0_u32.into());
                    }
                    _ => {
                        let request = [words::call(1000), vec![7; 1000]].concat();
                        let (_, mut answer) = line.ask(&request).await;
                        let _ = answer.read_to_end(2000).await;
                    }
                }
                done.fetch_add(1, Relaxed);
                tokio::task::yield_now().await;
            }
        })
    };
    // A call at a time is no flood.
    for task in (0..16).map(spawn).collect::<Vec<_>>() {
        task.await.expect("it does not panic");
    }
    line.hang_up();
    done.load(Relaxed)
}

async fn run(attacked: Attack, seconds: f64) -> Latencies {
    let subnet = Subnet::start(attacked != Attack::Unfiltered).await;
    let stop = Arc::new(AtomicBool::new(false));
    let latencies = match attacked {
        Attack::None => subnet.measure(seconds).await,
        Attack::Filtered | Attack::Unfiltered => {
            let (flood, to) = (Flood::new().await, subnet.victim());
            let socket = UdpSocket::bind("127.0.0.2:0").expect("loopback");
            let is_over = stop.clone();
            let flood = tokio::task::spawn_blocking(move || {
                flood.run(&socket, to, u64::MAX, PER_SECOND, || !is_over.load(Relaxed))
            });
            let latencies = subnet.measure(seconds).await;
            stop.store(true, Relaxed);
            let echo = flood.await.expect("it does not panic");
            let rate = echo.sent as f64 / seconds;
            println!("  {}: {rate:.0} datagrams a second", attacked.name());
            latencies
        }
        Attack::Member => {
            let (key, to, is_over) = (subnet.foe_key.clone(), subnet.victim(), stop.clone());
            // It has a runtime, and a thread, of its own.
            let flood = tokio::task::spawn_blocking(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.expect("a runtime").block_on(attack(key, to, is_over))
            });
            let latencies = subnet.measure(seconds).await;
            stop.store(true, Relaxed);
            let done = flood.await.expect("it does not panic");
            let rate = done as f64 / seconds;
            println!("  {}: {rate:.0} batches, streams and calls a second", attacked.name());
            latencies
        }
    };
    subnet.stop().await;
    latencies
}

fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    let at = sorted.len().saturating_sub(1) * percent / 100;
    sorted.get(at).map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e3)
}

#[tokio::main]
async fn main() {
    let (seconds, rounds) = (option("--seconds", 1.5), option("--rounds", 4.0) as usize);
    // In a task: the main thread's future is polled less eagerly.
    tokio::spawn(bench(seconds, rounds)).await.expect("the bench does not panic");
}

async fn bench(seconds: f64, rounds: usize) {
    let mut all = Attack::ALL.map(|_| Latencies::default());
    for _ in 0..rounds {
        for (attack, all) in Attack::ALL.into_iter().zip(&mut all) {
            let Latencies(latencies) = run(attack, seconds).await;
            for (all, latencies) in all.0.iter_mut().zip(latencies) {
                all.extend(latencies);
            }
        }
    }
    all.iter_mut().flat_map(|all| &mut all.0).for_each(|latencies| latencies.sort_unstable());
    println!("latency of broadcasts of 200 B between {HONEST} members, {rounds} rounds");
    println!(
        "{:<24} {:<12} {:>10} {:>8} {:>8} {:>10} {:>10}",
        "attack", "delivered", "deliveries", "p50 ms", "p99 ms", "p50 ratio", "p99 ratio"
    );
    for (attack, latencies) in Attack::ALL.into_iter().zip(&all) {
        for (at, name) in ["to victim", "to others"].into_iter().enumerate() {
            let percentiles =
                |of: &Latencies| [50, 99].map(|percent| percentile(&of.0[at], percent));
            let ([p50, p99], base) = (percentiles(latencies), percentiles(&all[0]));
            println!(
                "{:<24} {name:<12} {:>10} {p50:>8.3} {p99:>8.3} {:>10.2} {:>10.2}",
                attack.name(),
                latencies.0[at].len(),
                p50 / base[0],
                p99 / base[1]
            );
        }
    }
}

fn option(name: &str, default: f64) -> f64 {
    let value = std::env::args().skip_while(|argument| argument != name).nth(1);
    value.map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name} takes a number")))
}
