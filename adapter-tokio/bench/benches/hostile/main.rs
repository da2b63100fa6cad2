//! What an attack costs honest members: the latency of their broadcasts, undisturbed and under
//! attack, in the same run.
//!
//! `cargo bench -p slotcast-bench --bench hostile [-- --runtime R --seconds S --rounds N]`
//!
//! Three members broadcast in turn, one artifact of 200 bytes every two milliseconds; a
//! latency is that from publishing to the delivery at one other member. One of them is attacked:
//!
//! - *initials*: a stranger sends it 10,000 first datagrams of handshakes a second, from no member's
//!   address; and again, with the filter of addresses off.
//! - *member*: a fourth member, in a process of its own, floods it with updates and clears of all its slots, with
//!   streams that are reset, and with calls, as fast as it is let. With `taskset`, the honest members share one
//!   core, and the attacker has another one.
//!
//! The machine is shared and noisy: what matters is
//! the ratio to the undisturbed stretches between the attacks. What is delivered to the victim has to
//! pass its one socket behind what the attacker sends; what is delivered to others has not.

mod attack;

use std::time::{Duration, Instant};

use slotcast::broadcast::Event;
use slotcast::driver::{NodeHandle, Setup};
use slotcast::id::NodeId;
use slotcast::membership::Topology;
use slotcast::node::NodeKey;
use slotcast_bench::free_addresses;
use slotcast_bench::latencies::Latencies;
use slotcast_bench::options::Options;
use slotcast_bench::runtime::{self, Runtime, Task};
use slotcast_bench::subnet::all_connected;

use attack::{Attacker, CHANNELS, ROUTE};

const HONEST: usize = 3;
const PACE: Duration = Duration::from_millis(2);

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

    /// What the flood is made of.
    fn unit(self) -> &'static str {
        match self {
            Self::Member => "batches, streams and calls",
            _ => "datagrams",
        }
    }
}

/// From publishing to delivery: at the victim, and at the others.
type AtBoth = [Latencies; 2];

/// The attacker's, which is no node, and then those of the nodes, of which the first is the victim.
fn keys() -> [NodeKey; HONEST + 1] {
    let mut keys = [1, 2, 3, 4].map(|n| NodeKey::from_seed([n; 32]));
    // The attacker's id is the lowest: it is not the others who dial it.
    keys.sort_by_key(NodeKey::id);
    keys
}

struct Subnet {
    nodes: Vec<NodeHandle>,
}

impl Subnet {
    async fn start<R: Runtime>(filter_addresses: bool) -> Self {
        let keys = keys();
        let addresses = free_addresses(keys.len());
        let members = keys.iter().zip(&addresses);
        let members = members.map(|(key, address)| (key.id(), vec![*address]));
        let topology = Topology::new(1, members).expect("distinct keys");
        let mut config = attack::config();
        config.transport.filter_addresses = filter_addresses;
        let start = |at: usize| {
            let setup = Setup::new(keys[at].clone(), config.clone(), topology.clone());
            R::bind(setup, addresses[at])
        };
        let nodes: Vec<NodeHandle> = (1..=HONEST).map(start).collect();
        all_connected(&nodes).await;
        for node in &nodes {
            let server = node.route(ROUTE).expect("configured").serve().expect("served");
            drop(R::spawn(async move {
                while let Some(request) = server.next_request().await {
                    let answer = request.body().clone();
                    // The attacker may have given up.
                    let _ = request.answer(answer);
                }
            }));
        }
        Self { nodes }
    }

    /// Who attacks.
    fn begin(&self, attack: Attack) -> Option<Attacker> {
        let to = self.nodes[0].local_address();
        match attack {
            Attack::None => None,
            Attack::Filtered | Attack::Unfiltered => Some(attack::initials(to)),
            Attack::Member => Some(attack::member(to)),
        }
    }

    /// Latencies of all broadcasts in so many seconds.
    async fn measure<R: Runtime>(&self, seconds: f64) -> AtBoth {
        let begun = Instant::now();
        let (told, latencies) = smol::channel::unbounded();
        let honest: Vec<NodeId> = self.nodes.iter().map(NodeHandle::key_id).collect();
        let channel = |node: &NodeHandle| node.channel(CHANNELS[0]).expect("configured");
        let listeners = self.nodes.iter().enumerate().map(|(at, node)| {
            let (channel, told, honest) = (channel(node), told.clone(), honest.clone());
            R::spawn(async move {
                while let Some(event) = channel.next_event().await {
                    if let Event::Delivered { artifact, from } = event
                        && honest.contains(&from)
                    {
                        let (sent, _) = artifact.bytes().split_first_chunk().expect("a time");
                        let sent = Duration::from_nanos(u64::from_be_bytes(*sent));
                        let _ = told.try_send((at, begun.elapsed().saturating_sub(sent)));
                    }
                }
            })
        });
        let listeners: Vec<_> = listeners.collect();
        let channels: Vec<_> = self.nodes.iter().map(channel).collect();
        let (mut taken, mut published) = (AtBoth::default(), 0);
        let mut next = begun;
        while begun.elapsed().as_secs_f64() < seconds {
            R::sleep_until(next).await;
            next += PACE;
            let channel = &channels[published % HONEST];
            let mut bytes = (begun.elapsed().as_nanos() as u64).to_be_bytes().to_vec();
            bytes.extend((published as u64).to_be_bytes());
            bytes.resize(200, 7);
            let id = channel.publish(bytes, b"").expect("there is room");
            published += 1;
            // Kept until it has arrived: none is ever replaced by a newer one.
            for _ in 0..HONEST - 1 {
                let (at, latency) = latencies.recv().await.expect("listeners go on");
                taken[usize::from(at != 0)].record(latency);
            }
            channel.abort(&id);
        }
        listeners.into_iter().for_each(Task::abort);
        taken
    }
}

async fn run<R: Runtime>(attack: Attack, seconds: f64) -> AtBoth {
    let subnet = Subnet::start::<R>(attack != Attack::Unfiltered).await;
    let attacker = subnet.begin(attack);
    let latencies = subnet.measure::<R>(seconds).await;
    if let Some(attacker) = attacker {
        let rate = attacker.stop().await as f64 / seconds;
        println!("  {}: {rate:.0} {} a second", attack.name(), attack.unit());
    }
    for node in &subnet.nodes {
        node.shutdown().await.expect("sockets are sound");
    }
    latencies
}

struct Hostile;

impl runtime::Bench for Hostile {
    async fn run<R: Runtime>(options: Options) {
        let (seconds, rounds) = (options.seconds.unwrap_or(1.5), options.rounds.unwrap_or(4));
        let mut all = Attack::ALL.map(|_| AtBoth::default());
        for _ in 0..rounds {
            for (attack, all) in Attack::ALL.into_iter().zip(&mut all) {
                let latencies = run::<R>(attack, seconds).await;
                for (all, latencies) in all.iter_mut().zip(latencies) {
                    all.add(&latencies);
                }
            }
        }
        print(&all, rounds);
    }
}

fn print(all: &[AtBoth; 4], rounds: usize) {
    println!("latency of broadcasts of 200 B between {HONEST} members, {rounds} rounds");
    println!(
        "{:<24} {:<12} {:>10} {:>8} {:>8} {:>10} {:>10}",
        "attack", "delivered", "deliveries", "p50 ms", "p99 ms", "p50 ratio", "p99 ratio"
    );
    for (attack, latencies) in Attack::ALL.into_iter().zip(all) {
        for (at, name) in ["to victim", "to others"].into_iter().enumerate() {
            let percentiles = |of: &AtBoth| [50.0, 99.0].map(|percent| of[at].percentile(percent));
            let ([p50, p99], base) = (percentiles(latencies), percentiles(&all[0]));
            println!(
                "{:<24} {name:<12} {:>10} {p50:>8.3} {p99:>8.3} {:>10.2} {:>10.2}",
                attack.name(),
                latencies[at].count(),
                p50 / base[0],
                p99 / base[1]
            );
        }
    }
}

fn main() {
    if attack::run_member(&keys()[0]) {
        return;
    }
    attack::pin();
    runtime::main::<Hostile>();
}
