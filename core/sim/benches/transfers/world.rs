//! A simulated subnet whose nodes take all that they are told of, and what is measured of it. How the
//! channels are configured is said here, once.

use std::collections::BTreeMap;
use std::time::Duration;

use slotcast::artifact::Artifact;
use slotcast::broadcast::Event;
use slotcast::config::{ChannelConfig, Config, Relay};
use slotcast::id::{ArtifactId, ChannelId};
use slotcast::node::NodeEvent;
use slotcast::time::Time;
use slotcast_sim::{Application, Bottleneck, Context, Link, Sent, Setup, Subnet};

use crate::content::{Words, words};

pub(crate) const CHANNEL: ChannelId = ChannelId(1);

/// Overhead of IPv4 and UDP, in bytes: it fills links, too.
const HEADERS: u64 = 28;

/// How members pass on what they receive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Passing {
    /// As soon as they have it.
    Relays,
    /// Not at all, while others do: their slots are as many.
    Silent,
    /// Not at all, and nor does anyone else.
    PullOnly,
    /// With every chunk changed. Not a node, but [`Corrupting`](crate::corrupting::Corrupting).
    Corrupts,
}

/// The configuration of a member.
pub(crate) fn config(passing: Passing) -> Config {
    const RELAY_SLOTS: u32 = 256;
    let mut channel = ChannelConfig::new(CHANNEL);
    match passing {
        Passing::Relays | Passing::Corrupts => {
            channel = channel.relaying(Relay::Automatic, RELAY_SLOTS)
        }
        Passing::Silent => channel.slots_max += RELAY_SLOTS,
        Passing::PullOnly => {}
    }
    Config::new([channel])
}

pub(crate) const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Bytes per second of so many megabits per second.
pub(crate) const fn mbit(count: u64) -> u64 {
    count * 1_000_000 / 8
}

/// An uplink or downlink, whose queue holds 100 ms: half a round trip to a full one around the earth,
/// as routers have it.
pub(crate) const fn access(bytes_per_second: u64) -> Bottleneck {
    Bottleneck::new(bytes_per_second, ms(100))
}

/// A link of this rate, whose queue holds `queue` of time.
pub(crate) fn limited(bytes_per_second: u64, latency: Duration, queue: Duration) -> Link {
    let Bottleneck { queue_bytes_max, .. } = Bottleneck::new(bytes_per_second, queue);
    Link { bytes_per_second, queue_bytes_max, ..Link::new(latency) }
}

/// Who was told what, when, and what was sent and received.
#[derive(Default)]
pub(crate) struct Log {
    pub(crate) delivered: BTreeMap<(usize, ArtifactId), Time>,
    /// When each node was connected to another first.
    pub(crate) connected: BTreeMap<usize, Time>,
    /// Bytes of datagrams that each node has sent, headers included.
    pub(crate) sent: BTreeMap<usize, u64>,
    pub(crate) faults: u64,
    /// By receiver and number of the artifact, while `watches_words`.
    pub(crate) words: BTreeMap<(usize, u32), Words>,
    pub(crate) watches_words: bool,
}

impl Application for Log {
    fn handle_event(&mut self, context: &mut Context<'_>, _: ChannelId, event: Event) {
        if let Event::Delivered { artifact, .. } = event {
            let (at, time) = (context.at(), context.time());
            self.delivered.entry((at, artifact.id())).or_insert(time);
        }
    }

    fn handle_node_event(&mut self, context: &mut Context<'_>, event: NodeEvent) {
        match event {
            NodeEvent::Up { .. } => {
                self.connected.entry(context.at()).or_insert(context.time());
            }
            NodeEvent::Fault { .. } => self.faults += 1,
            _ => {}
        }
    }

    fn handle_sent(&mut self, sent: &Sent<'_>) {
        *self.sent.entry(sent.from).or_default() += sent.bytes.len() as u64 + HEADERS;
    }

    fn handle_received(&mut self, received: &Sent<'_>) {
        if !self.watches_words {
            return;
        }
        for (number, word) in words(received.bytes) {
            self.words.entry((received.to, number)).or_default().note(word);
        }
    }
}

/// A subnet, and what was measured of it so far.
pub(crate) struct World {
    pub(crate) subnet: Subnet<Log>,
}

impl World {
    /// Nodes that have been started.
    pub(crate) fn new(setup: Setup) -> Self {
        Self { subnet: Subnet::new(setup, Log::default()) }
    }

    /// The same, connected: each with each.
    pub(crate) fn connected(setup: Setup) -> Self {
        let mut world = Self::new(setup);
        world.connect();
        world
    }

    pub(crate) fn connect(&mut self) {
        let members = self.subnet.members();
        self.subnet.run_until("all are connected", ms(60_000), |subnet| {
            (0..members)
                .all(|at| subnet.node(at).is_none_or(|node| node.peers_up().count() == members - 1))
        });
        // The hellos' acknowledgements, and snapshots.
        self.subnet.elapse(ms(500));
    }

    pub(crate) fn publish(&mut self, at: usize, artifact: &Artifact) {
        let published = self.subnet.command(at, |_, node| node.publish(CHANNEL, artifact.clone()));
        published.expect("it runs").expect("there is room");
    }

    pub(crate) fn abort(&mut self, at: usize, artifact: &Artifact) {
        self.subnet.command(at, |_, node| node.abort(CHANNEL, &artifact.id()));
    }

    /// When a node had an artifact.
    pub(crate) fn had_at(&self, at: usize, artifact: &Artifact) -> Option<Time> {
        self.subnet.application.delivered.get(&(at, artifact.id())).copied()
    }

    /// Lets all of them have an artifact; the time that took from now on, or `None` after `limit`.
    pub(crate) fn deliver(
        &mut self,
        to: &[usize],
        artifact: &Artifact,
        limit: Duration,
    ) -> Option<Duration> {
        let (begun, id) = (self.subnet.now(), artifact.id());
        let mut waiting = to.to_vec();
        self.subnet
            .run(begun + limit, |subnet| {
                let delivered = &subnet.application.delivered;
                while waiting.last().is_some_and(|at| delivered.contains_key(&(*at, id))) {
                    waiting.pop();
                }
                waiting.is_empty()
            })
            .then(|| self.subnet.now().since(begun))
    }

    pub(crate) fn sent_by(&self, at: usize) -> u64 {
        self.subnet.application.sent.get(&at).copied().unwrap_or(0)
    }

    pub(crate) fn sent_by_all(&self) -> u64 {
        self.subnet.application.sent.values().sum()
    }
}
