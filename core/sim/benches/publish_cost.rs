//! What it costs a node to publish an artifact of 200 bytes to idle peers.
//!
//! `cargo bench -p slotcast-sim --bench publish_cost`
//!
//! One publisher, 13 to 400 peers, 1 to 64 channels; all are real nodes, in memory, with null crypto. The
//! peers are connected to the publisher only. What counts is CPU time of the thread from the command
//! until [`Node::poll`] has handed out all datagrams and is idle. Neither the peers nor the network have a
//! part in it, nor have acknowledgements and the later abort of the artifact. The artifact is published
//! on the last channel.
//!
//! All cases take turns, and the figures are medians. `of linear` is the cost per peer by that with 13
//! peers; the last column is the cost with 64 channels by that with one.

#![allow(clippy::disallowed_methods, reason = "it measures, and needs an origin of time")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use slotcast::artifact::Artifact;
use slotcast::config::{ChannelConfig, Config};
use slotcast::id::ChannelId;
use slotcast::membership::Topology;
use slotcast::node::{Node, NodeKey, Output};
use slotcast::time::Time;
use slotcast_sim::{Crypto, address};

const PEERS: [usize; 4] = [13, 40, 100, 400];
const CHANNELS: [u16; 3] = [1, 8, 64];

const ARTIFACT_BYTES: usize = 200;

/// The cases take turns of so many publications.
const PUBLISHES: u64 = 5;
const TURNS: usize = 10;

/// Datagrams in a batch that a node hands to its socket, as adapters have it.
const SEGMENTS_MAX: usize = 10;

/// How long a datagram is on its way, and time passes from one look at all nodes to the next.
const STEP: Duration = Duration::from_millis(1);

/// All is acknowledged within so many steps: acknowledgements wait for 25 ms at most.
const STEPS_TO_QUIET: u32 = 60;

/// The publisher, at place 0, its peers, and what is on its way between them.
struct Star {
    nodes: Vec<Node>,
    places: BTreeMap<SocketAddr, usize>,
    wake_at: Vec<Time>,
    now: Time,
    /// Who they are from, who they are for, and where they end in `bytes`.
    in_flight: Vec<(usize, usize, usize)>,
    bytes: Vec<u8>,
    buffer: Vec<u8>,
    channel: ChannelId,
    /// Published so far; makes each artifact another one.
    count: u64,
}

impl Star {
    /// All nodes, connected and quiet.
    fn new(peers: usize, channels: u16) -> Self {
        let start = Instant::now();
        let mut keys: Vec<NodeKey> = (0..=peers).map(key).collect();
        keys.sort_by_key(NodeKey::id);
        let topology = |places: &[usize]| {
            let members = places.iter().map(|at| (keys[*at].id(), vec![address(*at)]));
            Topology::new(1, members).expect("each once, with an address")
        };
        let mut config = Config::new((1..=channels).map(|id| ChannelConfig::new(ChannelId(id))));
        config.peers_max = peers as u16;
        let node = |at: usize| {
            let topology = match at {
                0 => topology(&(0..=peers).collect::<Vec<_>>()),
                _ => topology(&[0, at]),
            };
            let mut seed = [1; 32];
            seed[..8].copy_from_slice(&(at as u64).to_le_bytes());
            let crypto = Crypto::Null.of_node(&keys[at], &seed);
            let node =
                Node::simulated(config.clone(), keys[at].clone(), topology, seed, start, crypto);
            node.expect("a valid setup")
        };
        let mut star = Self {
            nodes: (0..=peers).map(node).collect(),
            places: (0..=peers).map(|at| (address(at), at)).collect(),
            wake_at: vec![Time::ZERO; peers + 1],
            now: Time::ZERO,
            in_flight: Vec::new(),
            bytes: Vec::new(),
            buffer: Vec::new(),
            channel: ChannelId(channels),
            count: 0,
        };
        while star.nodes[0].peers_up().count() < peers {
            star.step();
            assert!(star.now < Time::ZERO + Duration::from_secs(60), "all are connected");
        }
        // Handshakes are over, and so is path MTU discovery.
        (0..2_000).for_each(|_| star.step());
        star
    }

    /// What a publication costs the publisher.
    fn publish(&mut self) -> Duration {
        self.count += 1;
        let mut bytes = vec![0; ARTIFACT_BYTES];
        bytes[..8].copy_from_slice(&self.count.to_be_bytes());
        let artifact = Artifact::new(bytes.into(), &[]).expect("within the format's limits");
        let id = artifact.id();
        assert!(self.in_flight.is_empty(), "it is quiet");

        let begun = thread_time();
        self.nodes[0].publish(self.channel, artifact).expect("there is room");
        self.drain(0);
        let cost = thread_time() - begun;

        assert_eq!(self.in_flight.len(), self.nodes.len() - 1, "a datagram for each peer");
        (0..STEPS_TO_QUIET).for_each(|_| self.step());
        assert!(self.nodes[0].abort(self.channel, &id), "it was published");
        self.wake_at[0] = self.now;
        (0..STEPS_TO_QUIET).for_each(|_| self.step());
        cost
    }

    /// Puts on its way what a node has to send.
    fn drain(&mut self, at: usize) {
        loop {
            match self.nodes[at].poll(self.now, SEGMENTS_MAX, &mut self.buffer) {
                Output::Transmit(transmit) => {
                    let to = self.places[&transmit.destination];
                    for datagram in self.buffer.chunks(transmit.datagram_size()) {
                        self.bytes.extend_from_slice(datagram);
                        self.in_flight.push((at, to, self.bytes.len()));
                    }
                }
                Output::Idle { wake_at, .. } => {
                    self.wake_at[at] = wake_at;
                    return;
                }
            }
        }
    }

    /// Delivers what is on its way, and has all nodes polled that have something to do.
    fn step(&mut self) {
        self.now = self.now + STEP;
        let (in_flight, bytes) =
            (std::mem::take(&mut self.in_flight), std::mem::take(&mut self.bytes));
        let mut begin = 0;
        for (from, to, end) in in_flight {
            let datagram = &bytes[begin..end];
            let from = address(from);
            self.nodes[to].handle_datagrams(self.now, from, None, None, datagram.len(), datagram);
            self.wake_at[to] = self.now;
            begin = end;
        }
        for at in 0..self.nodes.len() {
            while self.wake_at[at] <= self.now {
                self.drain(at);
                self.take_events(at);
            }
        }
    }

    /// An application that wants to know nothing.
    fn take_events(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        if !node.has_output() {
            return;
        }
        while node.poll_node_event().is_some() {}
        for channel in 1..=self.channel.0 {
            while node.poll_event(ChannelId(channel)).is_some() {}
        }
        self.wake_at[at] = self.now;
    }
}

fn key(at: usize) -> NodeKey {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&(at as u64 + 1).to_le_bytes());
    NodeKey::from_seed(seed)
}

/// CPU time of this thread.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// In microseconds.
fn median(costs: &mut [Duration]) -> f64 {
    costs.sort_unstable();
    costs[costs.len() / 2].as_secs_f64() * 1e6
}

fn main() {
    let mut stars = Vec::new();
    for peers in PEERS {
        for channels in CHANNELS {
            eprintln!("{peers} peers, {channels} channels: connecting");
            let mut star = Star::new(peers, channels);
            // Buffers have their size.
            for _ in 0..PUBLISHES {
                star.publish();
            }
            stars.push(star);
        }
    }
    let mut costs = vec![Vec::new(); stars.len()];
    for turn in 1..=TURNS {
        eprintln!("turn {turn} of {TURNS}");
        for (star, costs) in stars.iter_mut().zip(&mut costs) {
            costs.extend((0..PUBLISHES).map(|_| star.publish()));
        }
    }
    let medians: Vec<f64> = costs.iter_mut().map(|costs| median(costs)).collect();
    print(&medians);
}

/// `medians` are those of all channels with the least peers first.
fn print(medians: &[f64]) {
    println!("one publication of {ARTIFACT_BYTES} bytes, at the publisher");
    print!("{:>5}", "peers");
    for channels in CHANNELS {
        print!("  {:>11} {:>8} {:>9}", format!("{channels} ch: us"), "per peer", "of linear");
    }
    println!("  {:>10}", "64 ch by 1");
    let least = &medians[..CHANNELS.len()];
    for (peers, of_peers) in PEERS.iter().zip(medians.chunks(CHANNELS.len())) {
        print!("{peers:>5}");
        for (cost, least) in of_peers.iter().zip(least) {
            let per_peer = cost / *peers as f64;
            let of_linear = per_peer / (least / PEERS[0] as f64);
            print!("  {cost:>11.1} {per_peer:>8.2} {of_linear:>9.2}");
        }
        println!("  {:>10.2}", of_peers[CHANNELS.len() - 1] / of_peers[0]);
    }
}
