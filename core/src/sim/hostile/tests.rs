//! Each trick alone, against two honest nodes: it is played, it is seen if it is a breach, and it
//! does no harm to what the two do for each other.

use core::hash::BuildHasher;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use std::vec;
use std::vec::Vec;

use foldhash::fast::FixedState;

use super::{Byzantine, Trick};
use crate::artifact::Artifact;
use crate::broadcast::Event;
use crate::config::{ChannelConfig, Config, Relay};
use crate::id::{ArtifactId, ChannelId, NodeId};
use crate::membership::Topology;
use crate::node::crypto::Crypto;
use crate::node::{Node, NodeEvent, NodeKey, Output};
use crate::random::Random;
use crate::sim::Process;
use crate::time::Time;

const LATENCY: Duration = Duration::from_millis(10);
const CHANNELS: [ChannelId; 2] = [ChannelId(1), ChannelId(2)];

/// The place of the hostile member, behind the two honest ones.
const HOSTILE: usize = 2;

fn config() -> Config {
    let mut plain = ChannelConfig::new(CHANNELS[0]);
    plain.slots_max = 16;
    let mut relayed = ChannelConfig::new(CHANNELS[1]).relaying(Relay::Automatic, 16);
    relayed.slots_max = 64;
    for channel in [&mut plain, &mut relayed] {
        channel.artifact_bytes_max = 1 << 20;
        channel.push_bytes_max = 1000;
    }
    Config::new([plain, relayed])
}

fn address(at: usize) -> SocketAddr {
    ([10, 0, 0, at as u8], 4000).into()
}

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

struct Arena {
    now: Time,
    nodes: [Node; 2],
    hostile: Byzantine,
    wake_at: [Time; 3],
    in_flight: BTreeMap<(Time, u64), (usize, usize, Vec<u8>)>,
    sequence: u64,
    random: Random,
    /// Of each datagram, when it was sent, by whom to whom, and a hash of its bytes.
    timeline: Vec<(Time, usize, usize, u64)>,
    delivered: [BTreeMap<ArtifactId, NodeId>; 2],
    published: [Vec<(ChannelId, ArtifactId)>; 2],
    faults: Vec<NodeEvent>,
    honest_faults: u64,
}

impl Arena {
    /// `place` is that of the hostile member's id among the three: the lowest dials both others, the
    /// highest is dialled by both.
    fn new(tricks: &[Trick], place: usize, seed: u64, crypto: Crypto) -> Self {
        #[allow(clippy::disallowed_methods, reason = "an arbitrary origin")]
        let start = Instant::now();
        let mut keys: Vec<_> = (1..=3).map(|seed| NodeKey::from_seed([seed; 32])).collect();
        keys.sort_by_key(NodeKey::id);
        let hostile = keys.remove(place);
        let ids = [keys[0].id(), keys[1].id(), hostile.id()];
        let members = ids.iter().enumerate().map(|(at, id)| (*id, vec![address(at)]));
        let topology = Topology::new(1, members).unwrap();
        let node = |at: usize| {
            let seed = [seed as u8 ^ at as u8; 32];
            Node::with_crypto(config(), keys[at].clone(), topology.clone(), seed, start, crypto)
                .unwrap()
        };
        Self {
            now: Time::ZERO,
            nodes: [node(0), node(1)],
            hostile: Byzantine::new(hostile, &topology, &config(), tricks, crypto, seed, start),
            wake_at: [Time::ZERO; 3],
            in_flight: BTreeMap::new(),
            sequence: 0,
            random: Random::new(seed),
            timeline: Vec::new(),
            delivered: [BTreeMap::new(), BTreeMap::new()],
            published: [Vec::new(), Vec::new()],
            faults: Vec::new(),
            honest_faults: 0,
        }
    }

    fn send(&mut self, from: usize, to: SocketAddr, bytes: &[u8]) {
        let to = (0..3).find(|at| address(*at) == to).expect("a member's address");
        self.timeline.push((self.now, from, to, FixedState::default().hash_one(bytes)));
        self.sequence += 1;
        self.in_flight.insert((self.now + LATENCY, self.sequence), (from, to, bytes.into()));
    }

    fn poll_node(&mut self, at: usize) {
        let mut buffer = Vec::new();
        loop {
            match self.nodes[at].poll(self.now, 1, &mut buffer) {
                Output::Transmit(transmit) => self.send(at, transmit.destination, &buffer),
                Output::Idle { wake_at, .. } => {
                    self.wake_at[at] = wake_at;
                    let mut any = false;
                    for channel in CHANNELS {
                        while let Some(event) = self.nodes[at].poll_event(channel) {
                            any = true;
                            if let Event::Delivered { artifact, from } = event {
                                self.delivered[at].insert(artifact.id(), from);
                            }
                        }
                    }
                    if !any {
                        break;
                    }
                }
            }
        }
        while let Some(event) = self.nodes[at].poll_node_event() {
            if let NodeEvent::Fault { peer, .. } = event {
                match peer == self.hostile.id() {
                    true => self.faults.push(event),
                    false => self.honest_faults += 1,
                }
            }
        }
    }

    fn step(&mut self) {
        while let Some(entry) = self.in_flight.first_entry()
            && entry.key().0 <= self.now
        {
            let (from, to, bytes) = entry.remove();
            match to {
                HOSTILE => self.hostile.handle_datagram(self.now, address(from), None, &bytes),
                at => {
                    let (from, length) = (address(from), bytes.len());
                    self.nodes[at].handle_datagrams(self.now, from, None, None, length, &bytes);
                }
            }
        }
        (0..2).for_each(|at| self.poll_node(at));
        let mut sent = Vec::new();
        let wake_at = self.hostile.poll(self.now, &mut |to, bytes| sent.push((to, bytes.to_vec())));
        assert!(wake_at > self.now, "it would be called for ever");
        self.wake_at[HOSTILE] = wake_at;
        sent.into_iter().for_each(|(to, bytes)| self.send(HOSTILE, to, &bytes));
    }

    fn run(&mut self, end: Time, is_done: impl Fn(&Self) -> bool) -> bool {
        let mut steps = 0;
        loop {
            self.step();
            if is_done(self) {
                return true;
            }
            let arrival = self.in_flight.first_key_value().map_or(Time::NEVER, |(key, _)| key.0);
            let next = self.wake_at.into_iter().fold(arrival, Time::min);
            if next > end {
                self.now = end;
                return false;
            }
            steps = if next <= self.now { steps + 1 } else { 0 };
            assert!(steps < 10_000, "time stands still at {:?}", self.now);
            self.now = self.now.max(next);
        }
    }

    fn publish(&mut self, at: usize, channel: ChannelId, length: usize) -> ArtifactId {
        let mut bytes = vec![at as u8; length];
        bytes.iter_mut().zip(self.random.bits().to_le_bytes()).for_each(|(byte, new)| *byte = new);
        let artifact = Artifact::new(bytes.into(), b"honest").unwrap();
        let id = artifact.id();
        self.nodes[at].publish(channel, artifact).unwrap();
        self.published[at].push((channel, id));
        if self.published[at].len() > 6 {
            let (channel, id) = self.published[at].remove(0);
            assert!(self.nodes[at].abort(channel, &id));
        }
        id
    }

    /// Both publish short and long artifacts now and then.
    fn live(&mut self, span: Duration) {
        let end = self.now + span;
        while self.now < end {
            let (at, length) = (self.random.below(2), self.random.below(2) * 150_000 + 300);
            let channel = CHANNELS[self.random.below(2) as usize];
            self.publish(at as usize, channel, length as usize);
            let pause = self.random.duration_below(ms(600));
            self.run((self.now + pause).min(end), |_| false);
        }
    }

    /// A short and a long artifact of each arrive at the other within a second.
    fn assert_unharmed(&mut self, what: &str) {
        for at in [0, 1] {
            for channel in CHANNELS {
                for length in [400, 200_000] {
                    let id = self.publish(at, channel, length);
                    let is_there = |arena: &Self| arena.delivered[1 - at].contains_key(&id);
                    let end = self.now + ms(1000);
                    assert!(self.run(end, is_there), "{what}: {length} bytes of {at}, {channel:?}");
                }
            }
        }
        assert_eq!(self.honest_faults, 0, "{what}");
    }
}

#[test]
fn each_trick_is_played_and_harms_no_one() {
    for trick in Trick::ALL {
        let mut harmed = 0;
        for (place, seed) in [(1, 1), (0, 2), (2, 3)] {
            let what = std::format!("{}, place {place}", trick.name());
            let mut arena = Arena::new(&[trick], place, seed, Crypto::Null);
            arena.live(ms(8_000));
            let fired = arena.hostile.fired()[trick as usize];
            let faults = arena.faults.len();
            assert!(fired > 0, "{what} is never played");
            arena.assert_unharmed(&what);
            assert!(trick.is_breach() || faults == 0, "{what}: {:?}", arena.faults);
            harmed += faults;
        }
        assert_eq!(harmed > 0, trick.is_breach(), "{}", trick.name());
    }
}

#[test]
fn equal_seeds_make_equal_timelines() {
    for trick in Trick::ALL {
        let run = |seed| {
            let mut arena = Arena::new(&[trick], 1, seed, Crypto::Null);
            arena.live(ms(4_000));
            arena.timeline
        };
        assert_eq!(run(7), run(7), "{}", trick.name());
    }
}
