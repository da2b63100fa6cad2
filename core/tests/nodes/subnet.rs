//! A network of whole nodes without sockets. Nothing happens but by a call of the test: `settle`
//! and `run_until` deliver datagrams in the order of their arrival and let time jump from one
//! arrival or wake-up to the next. Every node is polled to idle after each input and command.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use slotcast::artifact::Artifact;
use slotcast::broadcast::Event;
use slotcast::config::Config;
use slotcast::id::{ArtifactId, ChannelId, NodeId};
use slotcast::membership::Topology;
use slotcast::node::{Closed, Node, NodeEvent, NodeKey, Output, Transmit};
use slotcast::time::Time;

use crate::common::{CHANNEL, ms};

/// What happens to datagrams on their way, in each direction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    pub(crate) latency: Duration,
    /// Up to so much later a datagram may come, so that others overtake it.
    pub(crate) jitter: Duration,
    /// Of a thousand datagrams, so many are lost, and so many come twice.
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    /// Bytes per second, with a queue of 100 ms before it; 0 for no bound.
    pub(crate) rate: u32,
}

/// Steps at one point in time beyond which a node spins.
const STEPS_MAX: u32 = 20_000;

struct Datagram {
    from: SocketAddr,
    to: usize,
    bytes: BytesMut,
}

pub(crate) struct Subnet {
    pub(crate) now: Time,
    pub(crate) link: Link,
    /// Directions that differ.
    pub(crate) links: BTreeMap<(usize, usize), Link>,
    /// Directions in which nothing gets through.
    pub(crate) cut: BTreeSet<(usize, usize)>,
    /// Nodes whose application takes no events.
    pub(crate) deaf: BTreeSet<usize>,
    /// Bytes that one node has sent to another, whether they arrived or not.
    pub(crate) sent: BTreeMap<(usize, usize), u64>,
    /// What the applications were told, in order, until the test takes it.
    pub(crate) events: Vec<Vec<(ChannelId, Event)>>,
    pub(crate) node_events: Vec<Vec<NodeEvent>>,
    configs: Vec<Config>,
    pub(crate) keys: Vec<NodeKey>,
    nodes: Vec<Option<Node>>,
    wake_at: Vec<Time>,
    start: Instant,
    version: u64,
    starts: u8,
    in_flight: BTreeMap<(Time, u64), Datagram>,
    sequence: u64,
    /// When a direction has put on the wire what it was given.
    busy_until: BTreeMap<(usize, usize), Time>,
    dice: u64,
}

/// Where the node at a place listens.
pub(crate) fn address(at: usize) -> SocketAddr {
    ([10, 0, 0, at as u8], 4000).into()
}

fn place(address: SocketAddr) -> Option<usize> {
    (0..256).find(|at| self::address(*at) == address)
}

/// `count` keys in the order of their ids: of two nodes, the one at the lower place dials.
pub(crate) fn keys(count: usize) -> Vec<NodeKey> {
    let mut keys: Vec<_> = (1..=count).map(|at| NodeKey::from_seed([at as u8; 32])).collect();
    keys.sort_by_key(NodeKey::id);
    keys
}

impl Subnet {
    /// `count` nodes that are members to each other, 20 ms apart, at time zero.
    pub(crate) fn new(config: Config, count: usize) -> Self {
        Self::with_configs(vec![config; count])
    }

    pub(crate) fn with_configs(configs: Vec<Config>) -> Self {
        let count = configs.len();
        #[allow(clippy::disallowed_methods, reason = "an arbitrary origin")]
        let start = Instant::now();
        let mut subnet = Self {
            now: Time::ZERO,
            link: Link { latency: ms(20), jitter: ms(0), lost: 0, doubled: 0, rate: 0 },
            links: BTreeMap::new(),
            cut: BTreeSet::new(),
            deaf: BTreeSet::new(),
            sent: BTreeMap::new(),
            events: vec![Vec::new(); count],
            node_events: vec![Vec::new(); count],
            configs,
            keys: keys(count),
            nodes: (0..count).map(|_| None).collect(),
            wake_at: vec![Time::NEVER; count],
            start,
            version: 1,
            starts: 0,
            in_flight: BTreeMap::new(),
            sequence: 0,
            busy_until: BTreeMap::new(),
            dice: 1,
        };
        (0..count).for_each(|at| subnet.start(at));
        subnet
    }

    /// The same, when all of them are connected and have no more to say.
    pub(crate) fn connected(config: Config, count: usize) -> Self {
        let mut subnet = Self::new(config, count);
        subnet.connect();
        subnet
    }

    pub(crate) fn connect(&mut self) {
        self.run_until("all are connected", ms(2000), Self::is_mesh);
        self.settle();
        self.node_events.iter_mut().for_each(Vec::clear);
    }

    // Nodes and members.

    pub(crate) fn id(&self, at: usize) -> NodeId {
        self.keys[at].id()
    }

    /// A topology of the nodes at these places, with the next version.
    pub(crate) fn topology(&mut self, members: impl IntoIterator<Item = usize>) -> Topology {
        self.version += 1;
        let member = |at: usize| (self.keys[at].id(), vec![address(at)]);
        Topology::new(self.version, members.into_iter().map(member)).expect("members once each")
    }

    /// Starts a node that knows all others, in the place of whatever runs there.
    pub(crate) fn start(&mut self, at: usize) {
        self.start_as(at, self.keys[at].clone());
    }

    pub(crate) fn start_as(&mut self, at: usize, key: NodeKey) {
        self.starts += 1;
        let mut seed = [self.starts; 32];
        seed[0] = at as u8;
        let topology = self.topology(0..self.nodes.len());
        let config = self.configs[at].clone();
        let node = Node::new(config, key, topology, seed, self.start).expect("a valid setup");
        self.nodes[at] = Some(node);
        self.wake_at[at] = self.now;
    }

    /// Ends a node without a word, as a crash does.
    pub(crate) fn crash(&mut self, at: usize) {
        self.nodes[at] = None;
        self.wake_at[at] = Time::NEVER;
    }

    /// A node, which is polled at the next step.
    pub(crate) fn node(&mut self, at: usize) -> &mut Node {
        self.wake_at[at] = self.now;
        self.nodes[at].as_mut().expect("a running node")
    }

    pub(crate) fn follow(&mut self, at: usize, topology: &Topology) {
        let now = self.now;
        self.node(at).set_topology(now, topology.clone()).expect("a topology that fits");
    }

    pub(crate) fn publish(&mut self, at: usize, artifact: &Artifact) {
        self.node(at).publish(CHANNEL, artifact.clone()).expect("room to publish");
    }

    pub(crate) fn abort(&mut self, at: usize, artifact: &Artifact) {
        assert!(self.node(at).abort(CHANNEL, &artifact.id()), "published before");
    }

    /// Whether each of two nodes takes the other as connected.
    pub(crate) fn is_up(&self, a: usize, b: usize) -> bool {
        let sees = |a: usize, b: usize| {
            self.nodes[a].as_ref().is_some_and(|node| node.peers_up().any(|id| id == self.id(b)))
        };
        sees(a, b) && sees(b, a)
    }

    pub(crate) fn is_mesh(&self) -> bool {
        let pairs = (0..self.nodes.len()).flat_map(|a| (0..a).map(move |b| (a, b)));
        pairs.into_iter().all(|(a, b)| self.is_up(a, b))
    }

    pub(crate) fn peers_up(&self, at: usize) -> usize {
        self.nodes[at].as_ref().map_or(0, |node| node.peers_up().count())
    }

    pub(crate) fn connections(&self, at: usize) -> u64 {
        self.nodes[at].as_ref().map_or(0, |node| node.stats().connections)
    }

    pub(crate) fn is_closed(&self, at: usize) -> bool {
        self.nodes[at].as_ref().is_some_and(Node::is_closed)
    }

    /// Cuts all there is between two groups.
    pub(crate) fn part(&mut self, a: &[usize], b: &[usize]) {
        let both = |(a, b): (usize, usize)| [(a, b), (b, a)];
        self.cut.extend(a.iter().flat_map(|a| b.iter().flat_map(move |b| both((*a, *b)))));
    }

    // Datagrams and time.

    fn roll(&mut self) -> u64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        self.dice >> 11
    }

    /// Another course of the same weather.
    pub(crate) fn seed(&mut self, seed: u64) {
        self.dice = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    }

    fn send(&mut self, at: usize, transmit: &Transmit, datagrams: &[u8]) {
        let Some(to) = place(transmit.destination) else { return };
        assert_eq!(transmit.size, datagrams.len());
        for datagram in datagrams.chunks(transmit.segment_size.unwrap_or(transmit.size)) {
            self.inject(address(at), to, datagram);
        }
    }

    /// Puts a datagram on the wire, whoever it is from.
    pub(crate) fn inject(&mut self, from: SocketAddr, to: usize, bytes: &[u8]) {
        let way = (place(from).unwrap_or(usize::MAX), to);
        let link = self.links.get(&way).copied().unwrap_or(self.link);
        *self.sent.entry(way).or_default() += bytes.len() as u64;
        if self.cut.contains(&way) || self.roll() % 1000 < link.lost {
            return;
        }
        let mut leaves_at = self.now;
        if link.rate > 0 {
            leaves_at = leaves_at.max(self.busy_until.get(&way).copied().unwrap_or(self.now));
            if leaves_at.since(self.now) > ms(100) {
                return;
            }
            leaves_at = leaves_at + ms(1000) * bytes.len() as u32 / link.rate;
            self.busy_until.insert(way, leaves_at);
        }
        let copies = if self.roll() % 1000 < link.doubled { 2 } else { 1 };
        for _ in 0..copies {
            let late = self.roll() % (link.jitter.as_nanos() as u64 + 1);
            let arrival = leaves_at + link.latency + Duration::from_nanos(late);
            self.sequence += 1;
            let datagram = Datagram { from, to, bytes: bytes.into() };
            self.in_flight.insert((arrival, self.sequence), datagram);
        }
    }

    /// Polls a node to idle and takes its events.
    fn poll(&mut self, at: usize) {
        let mut buffer = Vec::new();
        loop {
            let Some(node) = self.nodes[at].as_mut() else { return };
            match node.poll(self.now, 10, &mut buffer) {
                Output::Transmit(transmit) => self.send(at, &transmit, &buffer),
                Output::Idle { wake_at, .. } => {
                    self.wake_at[at] = if node.is_closed() { Time::NEVER } else { wake_at };
                    if self.deaf.contains(&at) || !self.take_events(at) {
                        return;
                    }
                }
            }
        }
    }

    /// Whether there were any events of channels.
    fn take_events(&mut self, at: usize) -> bool {
        let node = self.nodes[at].as_mut().expect("just polled");
        let before = self.events[at].len();
        for channel in &self.configs[at].channels {
            while let Some(event) = node.poll_event(channel.id) {
                self.events[at].push((channel.id, event));
            }
        }
        while let Some(event) = node.poll_node_event() {
            self.node_events[at].push(event);
        }
        self.events[at].len() > before
    }

    fn next_at(&self) -> Time {
        let arrival = self.in_flight.first_key_value().map_or(Time::NEVER, |((at, _), _)| *at);
        self.wake_at.iter().copied().fold(arrival, Time::min)
    }

    /// Everything that is due by now.
    fn step(&mut self) {
        while let Some(entry) = self.in_flight.first_entry()
            && entry.key().0 <= self.now
        {
            let Datagram { from, to, bytes } = entry.remove();
            if let Some(node) = self.nodes[to].as_mut() {
                node.handle_datagrams(self.now, from, None, None, bytes.len(), &bytes);
                self.wake_at[to] = self.now;
            }
        }
        for at in 0..self.nodes.len() {
            if self.wake_at[at] <= self.now {
                self.poll(at);
            }
        }
    }

    /// Lets things take their course until `is_done`, or `end`. Whether it is done.
    fn run(&mut self, end: Time, is_done: impl Fn(&Self) -> bool) -> bool {
        let mut steps = 0;
        loop {
            self.step();
            if is_done(self) {
                return true;
            }
            let next = self.next_at();
            if next > end {
                return false;
            }
            steps = if next <= self.now { steps + 1 } else { 0 };
            assert!(steps < STEPS_MAX, "time stands still\n{}", self.state());
            self.now = self.now.max(next);
        }
    }

    /// Lets things take their course until `is_done`; the time that took.
    ///
    /// # Panics
    /// After `limit`.
    pub(crate) fn run_until(
        &mut self,
        what: &str,
        limit: Duration,
        is_done: impl Fn(&Self) -> bool,
    ) -> Duration {
        let begun = self.now;
        let in_time = self.run(begun + limit, is_done);
        assert!(in_time, "not within {limit:?}: {what}\n{}", self.state());
        self.now.since(begun)
    }

    /// Lets so much time pass.
    pub(crate) fn elapse(&mut self, span: Duration) {
        let end = self.now + span;
        self.run(end, |_| false);
        self.now = end;
    }

    /// Half a second: all that was begun is done, on links without loss.
    pub(crate) fn settle(&mut self) {
        self.elapse(ms(500));
    }

    fn state(&self) -> String {
        let node = |(at, node): (usize, &Option<Node>)| {
            let Some(node) = node else { return format!("{at}: crashed\n") };
            let (up, wake) = (node.peers_up().count(), self.wake_at[at]);
            format!("{at}: {up} up, wakes at {wake:?}, {:?}\n", node.stats())
        };
        let nodes: String = self.nodes.iter().enumerate().map(node).collect();
        format!("{:?}, {} datagrams in flight\n{nodes}", self.now, self.in_flight.len())
    }

    // What the applications were told.

    /// Ids delivered to a node, in order, until the test takes its events.
    pub(crate) fn delivered(&self, at: usize) -> Vec<ArtifactId> {
        let id = |(_, event): &(_, Event)| match event {
            Event::Delivered { artifact, .. } => Some(artifact.id()),
            _ => None,
        };
        self.events[at].iter().filter_map(id).collect()
    }

    pub(crate) fn has(&self, at: usize, artifact: &Artifact) -> bool {
        self.delivered(at).contains(&artifact.id())
    }

    /// What a node was told of the channel that tests use; delivered artifacts by their ids.
    pub(crate) fn told(&mut self, at: usize) -> Vec<Told> {
        let told = |(_, event)| match event {
            Event::Delivered { artifact, .. } => Told::Delivered(artifact.id()),
            Event::Withdrawn { id, .. } => Told::Withdrawn(id),
            Event::Expired { id } => Told::Expired(id),
            event => panic!("{event:?}"),
        };
        self.events[at].drain(..).map(told).collect()
    }

    pub(crate) fn node_told(&mut self, at: usize) -> Vec<NodeEvent> {
        std::mem::take(&mut self.node_events[at])
    }

    /// Nobody broke a rule.
    pub(crate) fn assert_peace(&self) {
        for node in self.nodes.iter().flatten() {
            let stats = node.stats();
            assert_eq!((stats.faults, stats.strangers), (0, 0), "{stats:?}");
        }
        let is_fault = |event: &&NodeEvent| matches!(event, NodeEvent::Fault { .. });
        let faults: Vec<_> = self.node_events.iter().flatten().filter(is_fault).collect();
        assert!(faults.is_empty(), "{faults:?}");
    }

    pub(crate) fn up(&self, at: usize) -> NodeEvent {
        NodeEvent::Up { peer: self.id(at) }
    }

    pub(crate) fn down(&self, at: usize, why: Closed) -> NodeEvent {
        NodeEvent::Down { peer: self.id(at), why }
    }

    pub(crate) fn sent(&self, from: usize, to: usize) -> u64 {
        self.sent.get(&(from, to)).copied().unwrap_or(0)
    }
}

/// An event, artifacts by their ids.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Told {
    Delivered(ArtifactId),
    Withdrawn(ArtifactId),
    Expired(ArtifactId),
}
