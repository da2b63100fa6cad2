//! What an attack costs honest members: the latency of their broadcasts, undisturbed and under
//! attack, in the same run.
//!
//! `cargo bench -p slotcast-bench --bench hostile [-- --runtime R --seconds S --rounds N]`
//!
//! Three members broadcast in turn, one artifact of 200 bytes every two milliseconds; a
//! latency is that from publishing to the delivery at one other member. As often, another member calls the one
//! that is attacked, with 200 bytes there and back:
//!
//! - *initials*: a stranger sends it 10,000 first datagrams of handshakes a second, from no member's
//!   address; and again, with the filter of addresses off.
//! - *member*: a fourth member floods it with updates and clears of all its slots, with
//!   chunks that nobody asked for, with streams that are reset, with calls, and with QUIC frames without use, as
//!   fast as it is let.
//!
//! The victim is a process of its own, with a core for itself; who attacks is another one, and shares a core with the
//! other honest members, after whom it comes. The machine is shared and noisy: what matters is
//! the ratio to the undisturbed stretches between the attacks. What is delivered to the victim has to
//! pass its one socket behind what the attacker sends; what is delivered to others has not, but a third of it is
//! published by the victim.

mod attack;
mod process;
mod victim;

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use slotcast::broadcast::Event;
use slotcast::driver::{Channel, NodeHandle, Setup};
use slotcast::id::ArtifactId;
use slotcast::membership::Topology;
use slotcast::node::NodeKey;
use slotcast_bench::cpu_time::of_machine;
use slotcast_bench::free_addresses;
use slotcast_bench::latencies::Latencies;
use slotcast_bench::options::Options;
use slotcast_bench::runtime::{self, Runtime};
use slotcast_bench::subnet::all_up;
use smol::channel::Receiver;

use attack::{Attacker, CHANNELS, ROUTE};
use process::{Other, Role};
use victim::Victim;

const HONEST: usize = 3;
const BYTES: usize = 200;
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

/// From publishing to delivery, at the victim and at the others, and from calling the victim to its answer.
type Measured = [Latencies; 3];

/// What they are called.
const MEASURED: [&str; 3] = ["to victim", "to others", "calls"];
const TO_VICTIM: usize = 0;
const TO_OTHERS: usize = 1;
const CALLS: usize = 2;

/// The attacker's, which is no node, and then those of the nodes, of which the first is the victim.
fn keys() -> [NodeKey; HONEST + 1] {
    let mut keys = [1, 2, 3, 4].map(|n| NodeKey::from_seed([n; 32]));
    // The attacker's id is the lowest: it is not the others who dial it.
    keys.sort_by_key(NodeKey::id);
    keys
}

/// Of the victim among all members.
const VICTIM: usize = 1;

/// Starts a node of the subnet.
fn start<R: Runtime>(at: usize, addresses: &[SocketAddr], filter_addresses: bool) -> NodeHandle {
    let keys = keys();
    let members = keys.iter().zip(addresses);
    let members = members.map(|(key, address)| (key.id(), vec![*address]));
    let topology = Topology::new(1, members).expect("distinct keys");
    let mut config = attack::config();
    config.transport.filter_addresses = filter_addresses;
    R::bind(Setup::new(keys[at].clone(), config, topology), addresses[at])
}

/// Publishes an artifact of 200 bytes, which tells when that was.
fn publish(channel: &Channel, number: u64) -> ArtifactId {
    let mut bytes = (of_machine().as_nanos() as u64).to_be_bytes().to_vec();
    bytes.extend(number.to_be_bytes());
    bytes.resize(BYTES, 7);
    channel.publish(bytes, b"").expect("there is room")
}

/// Hands over the latency of each delivery from honest members.
async fn listen(channel: Channel, mut told: impl FnMut(Duration)) {
    let attacker = keys()[0].id();
    while let Some(event) = channel.next_event().await {
        if let Event::Delivered { artifact, from } = event
            && from != attacker
        {
            let (sent, _) = artifact.bytes().split_first_chunk().expect("a time");
            told(of_machine().saturating_sub(Duration::from_nanos(u64::from_be_bytes(*sent))));
        }
    }
}

/// The honest members: the victim, which is a process, and the others.
struct Subnet {
    victim: Other,
    addresses: Vec<SocketAddr>,
    nodes: Vec<NodeHandle>,
    /// What was delivered where, and when.
    latencies: Receiver<(usize, Duration)>,
}

impl Subnet {
    async fn start<R: Runtime>(filter_addresses: bool) -> Self {
        let addresses = free_addresses(keys().len());
        let mut victim = Other::start(Role::Victim, R::NAME, &addresses, filter_addresses);
        let others = VICTIM + 1..addresses.len();
        let nodes: Vec<_> = others.map(|at| start::<R>(at, &addresses, filter_addresses)).collect();
        let (told, latencies) = smol::channel::unbounded();
        for node in &nodes {
            let (channel, told) = (node.channel(CHANNELS[0]).expect("configured"), told.clone());
            drop(R::spawn(listen(channel, move |latency| {
                let _ = told.try_send((TO_OTHERS, latency));
            })));
        }
        let lines = victim.lines();
        let (is_up, up) = smol::channel::bounded(1);
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                match line.parse() {
                    Ok(nanos) => drop(told.try_send((TO_VICTIM, Duration::from_nanos(nanos)))),
                    Err(_) if line == victim::UP => drop(is_up.try_send(())),
                    // The name of its runtime.
                    Err(_) => {}
                }
            }
        });
        up.recv().await.expect("it starts");
        all_up(&nodes, HONEST - 1).await;
        Self { victim, addresses, nodes, latencies }
    }

    /// Who attacks.
    fn begin(&self, attack: Attack) -> Option<Attacker> {
        let role = match attack {
            Attack::None => return None,
            Attack::Filtered | Attack::Unfiltered => Role::Stranger,
            Attack::Member => Role::Member,
        };
        Some(attack::begin(role, &self.addresses))
    }

    /// Latencies of all broadcasts and calls in so many seconds.
    async fn measure<R: Runtime>(&mut self, seconds: f64) -> Measured {
        let begun = Instant::now();
        let victim = keys()[VICTIM].id();
        let channels: Vec<_> =
            self.nodes.iter().map(|node| node.channel(CHANNELS[0]).expect("configured")).collect();
        let routes: Vec<_> =
            self.nodes.iter().map(|node| node.route(ROUTE).expect("configured")).collect();
        let (mut taken, mut published) = (Measured::default(), 0);
        let mut next = begun;
        while begun.elapsed().as_secs_f64() < seconds {
            R::sleep_until(next).await;
            next += PACE;
            let route = routes[published % routes.len()].clone();
            let call = R::spawn(async move {
                let called = Instant::now();
                route.call(victim, vec![7; BYTES]).await.expect("answered");
                called.elapsed()
            });
            let channel = channels.get(published % HONEST);
            let id = channel.map(|channel| publish(channel, published as u64));
            if channel.is_none() {
                self.victim.say("");
            }
            published += 1;
            // Kept until it has arrived: none is ever replaced by a newer one.
            for _ in 0..HONEST - 1 {
                let (at, latency) = self.latencies.recv().await.expect("listeners go on");
                taken[at].record(latency);
            }
            if let (Some(channel), Some(id)) = (channel, id) {
                channel.abort(&id);
            }
            taken[CALLS].record(call.await);
        }
        taken
    }
}

async fn run<R: Runtime>(attack: Attack, seconds: f64) -> Measured {
    let mut subnet = Subnet::start::<R>(attack != Attack::Unfiltered).await;
    let attacker = subnet.begin(attack);
    let latencies = subnet.measure::<R>(seconds).await;
    if let Some(attacker) = attacker {
        let rate = attacker.stop().await as f64 / seconds;
        println!("  {}: {rate:.0} {} a second", attack.name(), attack.unit());
    }
    subnet.victim.end();
    for node in &subnet.nodes {
        node.shutdown().await.expect("sockets are sound");
    }
    latencies
}

struct Hostile;

impl runtime::Bench for Hostile {
    async fn run<R: Runtime>(options: Options) {
        let (seconds, rounds) = (options.seconds.unwrap_or(1.5), options.rounds.unwrap_or(4));
        let mut all = Attack::ALL.map(|_| Measured::default());
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

fn print(all: &[Measured; 4], rounds: usize) {
    println!("latency of broadcasts and calls of 200 B between {HONEST} members, {rounds} rounds");
    println!(
        "{:<24} {:<12} {:>10} {:>8} {:>8} {:>10} {:>10}",
        "attack", "what", "count", "p50 ms", "p99 ms", "p50 ratio", "p99 ratio"
    );
    for (attack, latencies) in Attack::ALL.into_iter().zip(all) {
        for (at, name) in MEASURED.into_iter().enumerate() {
            let percentiles =
                |of: &Measured| [50.0, 99.0].map(|percent| of[at].percentile(percent));
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
    let role = Role::own();
    role.take_core();
    match role {
        Role::Member => attack::run_member(keys()[0].clone(), process::addresses()[VICTIM]),
        Role::Stranger => attack::run_stranger(process::addresses()[VICTIM]),
        Role::Victim => runtime::main::<Victim>(),
        Role::Honest => runtime::main::<Hostile>(),
    }
}
