//! A small BFT engine on slotcast: four validators on loopback, two under tokio and two under smol. One is
//! stopped and comes back with an empty store, a fifth one joins and leaves. Beside it, the same engine over
//! channels in memory. `engine` is the consensus, `block` its data, `glue` its network, `memory` the other one.
//! `--help` lists the options.

mod block;
mod engine;
mod glue;
mod memory;

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use aws_lc_rs::signature::Ed25519KeyPair;
use slotcast::driver::random_bytes;
use slotcast::id::NodeId;
use slotcast::membership::Topology;
use slotcast::node::NodeKey;
use slotcast_tokio::{NodeHandle, Setup};

use engine::{Engine, Net, Settings, View};
use glue::Slotcast;
use memory::Memory;

/// Printed by `--help`, and after a mistake.
const USAGE: &str = "\
Four validators of a small BFT engine over slotcast on loopback, half of them under tokio, half under smol:
one is killed and comes back with an empty store, a fifth one joins and leaves. Then the same engine over
channels in memory, for comparison. Exits with 0 if all went on and agree, with 1 if not, with 2 if the
options are wrong.

usage: cargo run --release -p slotcast-tokio --example engine -- [OPTIONS]

  --seconds S  how long each of the parts is watched, 1 to 60 (default 4)
  --pause MS   a leader waits so long before it proposes, up to 10000 (default 100)
  --bytes B    length of blocks, up to 2000000 (default: one run with 200, one with 1000000)
  --help       this text";

type Failure = Box<dyn std::error::Error>;

/// Validators at first, and with the one that joins.
const FIRST: usize = 4;
const ALL: usize = 5;

/// The validator that is stopped.
const RESTARTED: usize = 1;

struct Validator {
    seen: Arc<Mutex<View>>,
    thread: JoinHandle<()>,
    node: Option<NodeHandle>,
}

struct Story {
    keys: Vec<NodeKey>,
    payload_bytes: usize,
    pause: Duration,
}

impl Story {
    fn ids(&self) -> Vec<NodeId> {
        self.keys.iter().map(NodeKey::id).collect()
    }

    fn run_engine(&self, own: usize, net: impl Net + Send + 'static) -> Validator {
        let seed = self.keys[own].seed().expect("kept here");
        let settings = Settings {
            own: own as u8,
            pair: Ed25519KeyPair::from_seed_unchecked(seed).expect("32 bytes"),
            keys: self.ids(),
            genesis_validators: FIRST as u8,
            payload_bytes: self.payload_bytes,
            pause: self.pause,
            timeout: Duration::from_millis(500),
        };
        let seen = Arc::new(Mutex::new(View {
            wanted: FIRST as u8,
            validators: FIRST as u8,
            ..View::default()
        }));
        let engine = Engine::new(net, settings, seen.clone());
        Validator { seen, thread: thread::spawn(|| engine.run()), node: None }
    }

    fn bind(&self, at: usize, topology: &Topology, to: SocketAddr) -> Result<NodeHandle, Failure> {
        let setup = Setup::new(self.keys[at].clone(), glue::config(), topology.clone());
        Ok(match at % 2 {
            0 => slotcast_tokio::bind(setup, to)?,
            _ => slotcast_smol::bind(setup, to)?,
        })
    }

    fn start(&self, at: usize, node: NodeHandle) -> Validator {
        let mut validator = self.run_engine(at, Slotcast::new(node.clone(), self.ids()));
        validator.node = Some(node);
        validator
    }

    /// Blocks per second in memory.
    fn in_memory(&self, span: Duration) -> f64 {
        let nets = Memory::new(FIRST).into_iter().enumerate();
        let all: Vec<_> = nets.map(|(own, net)| self.run_engine(own, net)).collect();
        let rate = watch("in memory", &all, span);
        all.into_iter().for_each(Validator::stop);
        rate
    }

    /// Blocks per second over slotcast, and whether all came out well.
    fn over_slotcast(&self, span: Duration) -> Result<(f64, bool), Failure> {
        let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let nodes = (0..ALL).map(|at| self.bind(at, &Topology::default(), anywhere));
        let mut nodes = nodes.collect::<Result<Vec<_>, _>>()?;
        let addresses: Vec<_> = nodes.iter().map(NodeHandle::local_address).collect();
        let topology = |version, count| {
            let members = self.keys.iter().zip(&addresses).take(count);
            Topology::new(version, members.map(|(key, address)| (key.id(), vec![*address])))
        };
        let fifth = nodes.pop().expect("five");
        nodes
            .iter()
            .try_for_each(|node| Ok::<_, Failure>(node.set_topology(topology(1, FIRST)?)?))?;
        let starting = nodes.into_iter().enumerate();
        let mut all: Vec<_> = starting.map(|(at, node)| self.start(at, node)).collect();
        let rate = watch("four validators", &all, span);

        let mut is_good = wait("they go on", || all.iter().all(|one| one.height() > 5));
        let stopped = all.remove(RESTARTED);
        stopped.stop();
        watch("one is stopped", &all, span / 2);
        let node = self.bind(RESTARTED, &topology(1, FIRST)?, addresses[RESTARTED])?;
        let missed = all[0].height();
        all.insert(RESTARTED, self.start(RESTARTED, node));
        watch("it is back, with an empty store", &all, span / 2);
        is_good &= wait("it has caught up", || all[RESTARTED].height() >= missed);

        let nodes = || all.iter().filter_map(|validator| validator.node.as_ref());
        nodes()
            .chain([&fifth])
            .try_for_each(|node| Ok::<_, Failure>(node.set_topology(topology(2, ALL)?)?))?;
        all.push(self.start(ALL - 1, fifth));
        all.iter().for_each(|validator| validator.seen().wanted = ALL as u8);
        watch("a fifth one joins", &all, span / 2);
        is_good &=
            wait("it has joined", || all.iter().all(|one| one.seen().validators == ALL as u8));
        all.iter().for_each(|validator| validator.seen().wanted = FIRST as u8);
        watch("and leaves", &all, span / 2);
        is_good &=
            wait("it has left", || all.iter().all(|one| one.seen().validators == FIRST as u8));
        let fifth = all.pop().expect("five");
        for validator in &all {
            validator.node.as_ref().expect("it has one").set_topology(topology(3, FIRST)?)?;
        }
        let others = all[0].height();
        watch("without it", &all, span / 2);
        let go_on = || all.iter().all(|validator| validator.height() > others);
        is_good &= wait("they go on", go_on);
        fifth.stop();

        let chains: Vec<_> = all.iter().map(|validator| validator.seen().chain.clone()).collect();
        let shortest = chains.iter().map(Vec::len).min().unwrap_or(0);
        let agree = chains.iter().all(|chain| chain[..shortest] == chains[0][..shortest]);
        println!(
            "  {shortest} blocks, on which all {}; {} were fetched by the one that came back",
            if agree { "agree" } else { "DO NOT AGREE" },
            all[RESTARTED].seen().fetched,
        );
        all.into_iter().for_each(Validator::stop);
        Ok((rate, is_good && agree))
    }
}

impl Validator {
    fn seen(&self) -> std::sync::MutexGuard<'_, View> {
        self.seen.lock().expect("no panic")
    }

    fn height(&self) -> usize {
        self.seen().chain.len()
    }

    /// As if it were killed: nothing is stored.
    fn stop(self) {
        self.seen().is_stopped = true;
        self.thread.join().expect("no panic");
        if let Some(node) = self.node {
            let _ = smol::block_on(node.shutdown());
        }
    }
}

/// Tells once a second how far they are. Blocks per second.
fn watch(what: &str, all: &[Validator], span: Duration) -> f64 {
    let heights = || all.iter().map(Validator::height).collect::<Vec<_>>();
    let (begun, first) = (Instant::now(), heights().into_iter().max().unwrap_or(0));
    loop {
        let left = span.saturating_sub(begun.elapsed());
        thread::sleep(left.min(Duration::from_secs(1)));
        let (view, timeouts) = {
            let seen = all[0].seen();
            (seen.view, seen.timeouts)
        };
        println!("  {what}: heights {:?}, view {view}, {timeouts} timeouts", heights());
        if begun.elapsed() >= span {
            let last = heights().into_iter().max().unwrap_or(0);
            return (last - first) as f64 / begun.elapsed().as_secs_f64();
        }
    }
}

/// Whether it comes true in a minute.
fn wait(what: &str, is_it: impl Fn() -> bool) -> bool {
    let until = Instant::now() + Duration::from_secs(60);
    while !is_it() && Instant::now() < until {
        thread::sleep(Duration::from_millis(20));
    }
    println!("  {what}: {}", if is_it() { "yes" } else { "NO" });
    is_it()
}

/// The numbers behind `--seconds`, `--pause` and `--bytes`. `None` for anything else.
fn options() -> Option<(Duration, Duration, Vec<usize>)> {
    let (mut seconds, mut pause, mut bytes) = (4, 100, vec![200, 1_000_000]);
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let number: u64 = arguments.next()?.parse().ok()?;
        match name.as_str() {
            "--seconds" if (1..=60).contains(&number) => seconds = number,
            "--pause" if number <= 10_000 => pause = number,
            "--bytes" if number <= 2_000_000 => bytes = vec![number as usize],
            _ => return None,
        }
    }
    Some((Duration::from_secs(seconds), Duration::from_millis(pause), bytes))
}

#[tokio::main]
async fn main() -> ExitCode {
    let Some((span, pause, lengths)) = options() else {
        println!("{USAGE}");
        let is_asked = std::env::args().nth(1).is_some_and(|it| it == "--help");
        return if is_asked { ExitCode::SUCCESS } else { ExitCode::from(2) };
    };
    let story = move || {
        let mut is_good = true;
        for payload_bytes in lengths {
            println!("blocks of {payload_bytes} bytes, {pause:?} between them");
            let keys = (0..ALL).map(|_| NodeKey::from_seed(random_bytes())).collect();
            let story = Story { keys, payload_bytes, pause };
            let memory = story.in_memory(span);
            let (slotcast, is_well) = story.over_slotcast(span).unwrap_or_else(|failure| {
                eprintln!("it has failed: {failure}");
                (0.0, false)
            });
            let ratio = slotcast / memory;
            println!("  {slotcast:.1} blocks/s; in memory {memory:.1}; {ratio:.2} times\n");
            is_good &= is_well;
        }
        println!("{}", if is_good { "GOOD" } else { "BAD" });
        is_good
    };
    // Engines are threads that wait. The runtime keeps its own.
    match tokio::task::spawn_blocking(story).await {
        Ok(true) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}
