//! What a delivery costs in whole nodes with their drivers, counted: allocations, streams and datagrams.
//!
//! `cargo bench -p slotcast --bench delivery [-- --nodes N --bytes B --outstanding N --deliveries N --sites EACH]`
//!
//! Nodes on one thread flood each other over sockets in memory, with real QUIC and TLS: so many artifacts
//! are outstanding, and each is aborted once it is delivered everywhere, as in the bench `broadcast`. The clock
//! moves by what is counted only, so that two runs are the same. With `--sites`, one allocation in so many is
//! traced, and the most frequent sites are listed. Under `valgrind --tool=callgrind`, the difference of two runs with other
//! `--deliveries` is what a delivery takes: a run makes half as many before it counts.

mod allocations;
#[path = "../../tests/driver/network.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod network;
#[path = "../../tests/driver/subnet.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod subnet;

use std::collections::BTreeMap;
use std::env;
use std::time::Duration;

use slotcast::broadcast::Event;
use slotcast::config::{ChannelConfig, Config};
use slotcast::driver::Channel;
use slotcast::id::ArtifactId;
use slotcast::node::NodeStats;

use allocations::counted;
use subnet::{CHANNEL, Subnet};

/// How far the clock moves whenever a driver reads it: about what it does in between, as far as that is known
/// of the bench `broadcast`.
const TICK: Duration = Duration::from_micros(40);

struct Options {
    nodes: usize,
    bytes: usize,
    outstanding: usize,
    deliveries: u64,
    sites: u64,
}

impl Options {
    fn read() -> Self {
        let mut options =
            Self { nodes: 13, bytes: 200, outstanding: 1_000, deliveries: 100_000, sites: 0 };
        let mut arguments = env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut number = || arguments.next().and_then(|value| value.parse().ok());
            match &argument[..] {
                "--bench" => {}
                "--nodes" => options.nodes = number().expect("a number"),
                "--bytes" => options.bytes = number().expect("a number"),
                "--outstanding" => options.outstanding = number().expect("a number"),
                "--deliveries" => options.deliveries = number().expect("a number") as u64,
                "--sites" => options.sites = number().expect("a number") as u64,
                other => panic!("no such option: {other}"),
            }
        }
        options
    }
}

struct Flood {
    subnet: Subnet,
    channels: Vec<Channel>,
    bytes: usize,
    outstanding: usize,
    /// Where each came from, and how many have it.
    active: BTreeMap<ArtifactId, (usize, usize)>,
    published: u64,
    delivered: u64,
    events: Vec<Event>,
}

impl Flood {
    fn new(options: &Options) -> Self {
        let config = Config::new([ChannelConfig::new(CHANNEL)]);
        let subnet = Subnet::connected(options.nodes, &config);
        subnet.network.tick.set(TICK);
        Self {
            channels: (0..options.nodes).map(|at| subnet.channel(at)).collect(),
            subnet,
            bytes: options.bytes,
            outstanding: options.outstanding,
            active: BTreeMap::new(),
            published: 0,
            delivered: 0,
            events: Vec::new(),
        }
    }

    /// Artifacts are published at the nodes in turn.
    fn publish(&mut self) {
        while self.active.len() < self.outstanding {
            let at = self.published as usize % self.channels.len();
            let mut bytes = vec![0; self.bytes];
            bytes[..8].copy_from_slice(&self.published.to_be_bytes());
            let id = counted(|| self.channels[at].publish(bytes, &[])).expect("there is room");
            self.active.insert(id, (at, 0));
            self.published += 1;
        }
    }

    fn take_events(&mut self, at: usize) {
        let others = self.channels.len() - 1;
        let mut events = std::mem::take(&mut self.events);
        counted(|| self.channels[at].try_events(&mut events));
        for event in events.drain(..) {
            let Event::Delivered { artifact, .. } = event else { continue };
            self.delivered += 1;
            let id = artifact.id();
            let (publisher, count) =
                self.active.get_mut(&id).expect("active until it is everywhere");
            *count += 1;
            if *count == others {
                counted(|| self.channels[*publisher].abort(&id));
                self.active.remove(&id);
            }
        }
        self.events = events;
    }

    fn run(&mut self, deliveries: u64) {
        let end = self.delivered + deliveries;
        while self.delivered < end {
            for at in 0..self.channels.len() {
                self.publish();
                counted(|| self.subnet.poll(at));
                self.subnet.network.complete();
                self.take_events(at);
            }
        }
    }

    /// Streams of updates that were acknowledged so far: not those of which all was withdrawn before.
    fn streams(&mut self) -> u64 {
        let mut sum = 0;
        for at in 0..self.channels.len() {
            let node = self.subnet.node(at).clone();
            let snapshot = self.subnet.run(node.snapshot()).expect("it runs");
            sum += snapshot.channels[0].acknowledged.count();
        }
        sum
    }

    fn stats(&self) -> NodeStats {
        let mut sum = NodeStats::default();
        for at in 0..self.channels.len() {
            let stats = self.subnet.node(at).stats();
            sum.sent_bytes += stats.sent_bytes;
            sum.sent_datagrams += stats.sent_datagrams;
            sum.received_batches += stats.received_batches;
        }
        sum
    }
}

fn main() {
    let options = Options::read();
    let mut flood = Flood::new(&options);
    // What tables and buffers grow to.
    flood.run(options.deliveries / 2);
    let (before, clock) = (flood.stats(), flood.subnet.network.elapsed());
    let (delivered, (count, bytes)) = (flood.delivered, allocations::so_far());
    allocations::trace_each(options.sites);
    flood.run(options.deliveries);
    allocations::trace_each(0);
    let (after, clock) = (flood.stats(), flood.subnet.network.elapsed() - clock);
    let (count, bytes) = (allocations::so_far().0 - count, allocations::so_far().1 - bytes);
    let deliveries = (flood.delivered - delivered) as f64;
    // Of all deliveries, since this settles what is under way.
    let streams = flood.streams() as f64 / flood.delivered as f64;
    let each = |count: u64| count as f64 / deliveries;
    println!("deliveries                {deliveries:>10}");
    println!("clock, us each            {:>10.3}", clock.as_secs_f64() * 1e6 / deliveries);
    println!("allocations each          {:>10.3}", each(count));
    println!("bytes allocated each      {:>10.1}", each(bytes));
    println!("streams acknowledged each {:>10.4}", streams);
    println!(
        "datagrams each            {:>10.3}",
        each(after.sent_datagrams - before.sent_datagrams)
    );
    println!(
        "batches received each     {:>10.3}",
        each(after.received_batches - before.received_batches)
    );
    println!("bytes sent each           {:>10.1}", each(after.sent_bytes - before.sent_bytes));
    if options.sites > 0 {
        println!("{:>10} {:>10}  site", "each", "bytes each");
        for (site, count, bytes) in allocations::sites().into_iter().take(60) {
            println!(
                "{:>10.4} {:>10.2}  {site}",
                each(count * options.sites),
                each(bytes * options.sites)
            );
        }
    }
}
