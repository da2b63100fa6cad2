//! A simulated subnet whose applications write down what they are told: [`Recorded`] is what tests
//! ask of it beside what the simulator offers.

use std::collections::BTreeMap;

use slotcast::artifact::Artifact;
use slotcast::broadcast::Event;
use slotcast::config::Config;
use slotcast::id::{ArtifactId, ChannelId};
use slotcast::node::{Closed, Node, NodeEvent, NodeStats};
use slotcast::time::Time;
use slotcast_sim::{self as sim, Application, Context, Link, Sent, Setup};

use slotcast_testkit::machines::{CHANNEL, ms};

pub(crate) type Subnet = sim::Subnet<Log>;

/// What the applications of all nodes were told, in order, until the test takes it.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) events: Vec<Vec<(ChannelId, Event)>>,
    pub(crate) node_events: Vec<Vec<NodeEvent>>,
    /// Reports of refusals, with their times.
    pub(crate) refused: Vec<Vec<(Time, NodeEvent)>>,
    /// Ids of what `events` say was delivered.
    pub(crate) delivered: Vec<Vec<ArtifactId>>,
    /// Bytes that one participant has sent to another, whether they arrived or not.
    sent: BTreeMap<(usize, usize), u64>,
}

impl Application for Log {
    fn handle_event(&mut self, node: &mut Context<'_>, channel: ChannelId, event: Event) {
        if let Event::Delivered { artifact, .. } = &event {
            self.delivered[node.at()].push(artifact.id());
        }
        self.events[node.at()].push((channel, event));
    }

    fn handle_node_event(&mut self, node: &mut Context<'_>, event: NodeEvent) {
        match event {
            NodeEvent::Refused { .. } => self.refused[node.at()].push((node.now(), event)),
            _ => self.node_events[node.at()].push(event),
        }
    }

    fn handle_sent(&mut self, sent: &Sent<'_>) {
        *self.sent.entry((sent.from, sent.to)).or_default() += sent.bytes.len() as u64;
    }
}

/// An event, artifacts by their ids.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Told {
    Delivered(ArtifactId),
    Withdrawn(ArtifactId),
    Expired(ArtifactId),
}

/// `count` nodes that are members to each other, 20 ms apart, at time zero.
pub(crate) fn started(config: &Config, count: usize) -> Subnet {
    of(Setup::new(config, count))
}

/// The same with real TLS.
pub(crate) fn secured(config: &Config, count: usize) -> Subnet {
    of(Setup::new(config, count).tls())
}

/// The same as [`started`], when all of them are connected and have no more to say.
pub(crate) fn connected(config: &Config, count: usize) -> Subnet {
    let mut subnet = started(config, count);
    subnet.connect();
    subnet
}

pub(crate) fn of(setup: Setup) -> Subnet {
    let count = setup.configs.len();
    let log = Log {
        events: vec![Vec::new(); count],
        node_events: vec![Vec::new(); count],
        refused: vec![Vec::new(); count],
        delivered: vec![Vec::new(); count],
        sent: BTreeMap::new(),
    };
    Subnet::new(setup, log)
}

/// Bytes per second, with a queue of 100 ms before it.
pub(crate) fn limit(link: &mut Link, bytes_per_second: u64) {
    link.bytes_per_second = bytes_per_second;
    link.queue_bytes_max = bytes_per_second / 10;
}

pub(crate) trait Recorded {
    fn connect(&mut self);
    /// Half a second: all that was begun is done, on links without loss.
    fn settle(&mut self);
    /// Ends a node without a word.
    fn kill(&mut self, at: usize);
    fn with<T>(&mut self, at: usize, command: impl FnOnce(&mut Node) -> T) -> T;
    fn publish(&mut self, at: usize, artifact: &Artifact);
    fn abort(&mut self, at: usize, artifact: &Artifact);

    /// Whether all nodes are connected to each other.
    fn is_mesh(&mut self) -> bool;
    fn is_closed(&self, at: usize) -> bool;
    fn stats(&self, at: usize) -> NodeStats;
    fn peers_up(&self, at: usize) -> usize;
    fn up(&self, at: usize) -> NodeEvent;
    fn down(&self, at: usize, why: Closed) -> NodeEvent;
    /// Bytes that one participant has sent to another.
    fn sent(&self, from: usize, to: usize) -> u64;

    /// Ids delivered to a node, in order, until the test takes its events.
    fn delivered(&self, at: usize) -> Vec<ArtifactId>;
    fn has(&self, at: usize, artifact: &Artifact) -> bool;
    /// Takes what a node was told of the channel that tests use.
    fn told(&mut self, at: usize) -> Vec<Told>;
    fn node_told(&mut self, at: usize) -> Vec<NodeEvent>;
    /// Nobody broke a rule, or was taken for a stranger.
    fn assert_peace(&self);
    /// Nobody broke a rule.
    fn assert_no_faults(&self);
}

impl Recorded for Subnet {
    fn connect(&mut self) {
        self.run_until("all are connected", ms(2000), Self::is_mesh);
        self.settle();
        self.application.node_events.iter_mut().for_each(Vec::clear);
    }

    fn settle(&mut self) {
        self.elapse(ms(500));
    }

    fn kill(&mut self, at: usize) {
        self.crash(at, sim::FaultKind::CrashAndForget);
    }

    fn with<T>(&mut self, at: usize, command: impl FnOnce(&mut Node) -> T) -> T {
        self.command(at, |_, node| command(node.node_mut())).expect("a running node")
    }

    fn publish(&mut self, at: usize, artifact: &Artifact) {
        let published = self.command(at, |_, node| node.publish(CHANNEL, artifact.clone()));
        published.expect("a running node").expect("room to publish");
    }

    fn abort(&mut self, at: usize, artifact: &Artifact) {
        let aborted = self.command(at, |_, node| node.abort(CHANNEL, &artifact.id()));
        assert!(aborted.expect("a running node"), "published before");
    }

    fn is_mesh(&mut self) -> bool {
        let pairs = (0..self.members()).flat_map(|a| (0..a).map(move |b| (a, b)));
        pairs.into_iter().all(|(a, b)| self.is_up(a, b))
    }

    fn is_closed(&self, at: usize) -> bool {
        self.node(at).is_some_and(Node::is_closed)
    }

    fn stats(&self, at: usize) -> NodeStats {
        self.node(at).expect("a running node").stats()
    }

    fn peers_up(&self, at: usize) -> usize {
        self.node(at).map_or(0, |node| node.peers_up().count())
    }

    fn up(&self, at: usize) -> NodeEvent {
        NodeEvent::Up { peer: self.id(at) }
    }

    fn down(&self, at: usize, why: Closed) -> NodeEvent {
        NodeEvent::Down { peer: self.id(at), why }
    }

    fn sent(&self, from: usize, to: usize) -> u64 {
        self.application.sent.get(&(from, to)).copied().unwrap_or(0)
    }

    fn delivered(&self, at: usize) -> Vec<ArtifactId> {
        self.application.delivered[at].clone()
    }

    fn has(&self, at: usize, artifact: &Artifact) -> bool {
        self.application.delivered[at].contains(&artifact.id())
    }

    fn told(&mut self, at: usize) -> Vec<Told> {
        let told = |(_, event)| match event {
            Event::Delivered { artifact, .. } => Told::Delivered(artifact.id()),
            Event::Withdrawn { id, .. } => Told::Withdrawn(id),
            Event::Expired { id } => Told::Expired(id),
            event => panic!("{event:?}"),
        };
        self.application.delivered[at].clear();
        self.application.events[at].drain(..).map(told).collect()
    }

    fn node_told(&mut self, at: usize) -> Vec<NodeEvent> {
        std::mem::take(&mut self.application.node_events[at])
    }

    fn assert_peace(&self) {
        for stats in (0..self.members()).filter_map(|at| Some(self.node(at)?.stats())) {
            assert_eq!(stats.strangers, 0, "{stats:?}");
        }
        self.assert_no_faults();
    }

    fn assert_no_faults(&self) {
        for stats in (0..self.members()).filter_map(|at| Some(self.node(at)?.stats())) {
            assert_eq!(stats.faults, 0, "{stats:?}");
        }
        let is_fault = |event: &&NodeEvent| matches!(event, NodeEvent::Fault { .. });
        let events = self.application.node_events.iter().flatten();
        let faults: Vec<_> = events.filter(is_fault).collect();
        assert!(faults.is_empty(), "{faults:?}");
    }
}
