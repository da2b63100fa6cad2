//! Each trick alone, against two honest nodes: it is played, it is seen if it is a breach, and it
//! does no harm to what the two do for each other.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Byzantine, Tally, Trick};
use crate::{Application, Context, FaultKind, Link, Sent, Setup, Subnet};
use slotcast::artifact::Artifact;
use slotcast::broadcast::Event;
use slotcast::config::{ChannelConfig, Config, Relay};
use slotcast::id::{ArtifactId, ChannelId, NodeId};
use slotcast::internals::Random;
use slotcast::node::NodeEvent;

const CHANNELS: [ChannelId; 2] = [ChannelId(1), ChannelId(2)];

fn config() -> Config {
    let mut plain = ChannelConfig::new(CHANNELS[0]);
    plain.slots_max = 16;
    let mut relayed = ChannelConfig::new(CHANNELS[1]).relaying(Relay::Automatic, 16);
    relayed.slots_max = 64;
    for channel in [&mut plain, &mut relayed] {
        channel.artifact_bytes_max = 1 << 20;
        channel.push_bytes_max = 1000;
        channel.spread_bytes_min = 100_000;
    }
    Config::new([plain, relayed])
}

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// What the honest nodes have been told, and a hash of all datagrams.
struct Ledger {
    hostile: NodeId,
    delivered: [BTreeSet<ArtifactId>; 3],
    faults: u64,
    honest_faults: u64,
    bytes: u64,
}

impl Application for Ledger {
    fn handle_event(&mut self, node: &mut Context<'_>, _: ChannelId, event: Event) {
        if let Event::Delivered { artifact, .. } = event {
            self.delivered[node.at()].insert(artifact.id());
        }
    }

    fn handle_node_event(&mut self, _: &mut Context<'_>, event: NodeEvent) {
        if let NodeEvent::Fault { peer, .. } = event {
            let is_hostile = peer == self.hostile;
            *(if is_hostile { &mut self.faults } else { &mut self.honest_faults }) += 1;
        }
    }

    fn handle_sent(&mut self, sent: &Sent<'_>) {
        let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        self.bytes = sent.bytes.iter().fold(self.bytes, mix);
    }
}

/// A hostile member and two honest ones, in the order of their ids: of two, the first dials.
struct Arena {
    subnet: Subnet<Ledger>,
    honest: [usize; 2],
    random: Random,
    published: Vec<(usize, ChannelId, ArtifactId)>,
    tally: Tally,
}

impl Arena {
    fn new(tricks: &[Trick], place: usize, seed: u64) -> Self {
        Self::with(&config(), tricks, place, seed)
    }

    fn with(config: &Config, tricks: &[Trick], place: usize, seed: u64) -> Self {
        let setup = Setup::new(config, 3).seed(seed).link(Link::new(ms(10)));
        let ledger = Ledger {
            hostile: setup.ids()[place],
            delivered: Default::default(),
            faults: 0,
            honest_faults: 0,
            bytes: 0,
        };
        let mut subnet = Subnet::stopped(setup, ledger);
        let (key, topology) = (subnet.key(place).clone(), subnet.topology(0..3));
        let (crypto, start) = (subnet.crypto(), subnet.start_instant());
        let hostile = Byzantine::new(key, &topology, config, tricks, crypto, seed, start);
        let tally = hostile.tally();
        subnet.install(place, Box::new(hostile));
        let honest = [[1, 2], [0, 2], [0, 1]][place];
        honest.into_iter().for_each(|at| subnet.start(at));
        Self { subnet, honest, random: Random::new(seed), published: Vec::new(), tally }
    }

    fn publish(&mut self, at: usize, channel: ChannelId, length: usize) -> ArtifactId {
        let mut bytes = vec![at as u8; length];
        bytes.iter_mut().zip(self.random.bits().to_le_bytes()).for_each(|(byte, new)| *byte = new);
        let artifact = Artifact::new(bytes.into(), b"honest").unwrap();
        let id = artifact.id();
        self.subnet.command(at, |_, node| node.publish(channel, artifact).unwrap());
        self.published.push((at, channel, id));
        if self.published.len() > 12 {
            let (at, channel, id) = self.published.remove(0);
            self.subnet.command(at, |_, node| assert!(node.abort(channel, &id)));
        }
        id
    }

    /// Both publish short and long artifacts now and then.
    fn live(&mut self, span: Duration) {
        let end = self.subnet.now() + span;
        while self.subnet.now() < end {
            let at = self.honest[self.random.below(2) as usize];
            let (channel, is_long) = (self.random.below(2), self.random.below(2));
            self.publish(at, CHANNELS[channel as usize], 300 + is_long as usize * 150_000);
            let pause = self.random.duration_below(ms(600));
            self.subnet.run((self.subnet.now() + pause).min(end), |_| false);
        }
    }

    /// How long an artifact takes from one to the other, if not longer than `limit`.
    fn delay(
        &mut self,
        from: usize,
        channel: ChannelId,
        length: usize,
        limit: Duration,
    ) -> Duration {
        let to = self.honest[usize::from(self.honest[0] == from)];
        let id = self.publish(from, channel, length);
        let begun = self.subnet.now();
        self.subnet.run(begun + limit, |subnet| subnet.application.delivered[to].contains(&id));
        self.subnet.now().since(begun)
    }

    /// A short and a long artifact of each arrive at the other within a second.
    fn assert_unharmed(&mut self, what: &str) {
        for at in self.honest {
            for channel in CHANNELS {
                for length in [400, 200_000] {
                    let took = self.delay(at, channel, length, ms(1000));
                    assert!(took < ms(1000), "{what}: {length} bytes of {at}, {channel:?}");
                }
            }
        }
        assert_eq!(self.subnet.application.honest_faults, 0, "{what}");
    }
}

#[test]
fn each_trick_is_played_and_harms_no_one() {
    for trick in Trick::ALL {
        let mut faults = 0;
        for (place, seed) in [(1, 1), (0, 2), (2, 3)] {
            let what = format!("{}, place {place}", trick.name());
            let mut arena = Arena::new(&[trick], place, seed);
            arena.live(ms(8_000));
            assert!(arena.tally.of(trick) > 0, "{what} is never played");
            arena.assert_unharmed(&what);
            faults += arena.subnet.application.faults;
        }
        assert_eq!(faults > 0, trick.is_breach(), "{}", trick.name());
    }
}

#[test]
fn equal_seeds_make_equal_datagrams() {
    for trick in Trick::ALL {
        let run = |seed| {
            let mut arena = Arena::new(&[trick], 1, seed);
            arena.live(ms(4_000));
            (arena.subnet.application.bytes, arena.subnet.trace().hash())
        };
        assert_eq!(run(7), run(7), "{}", trick.name());
        assert_ne!(run(7), run(8), "{}", trick.name());
    }
}

#[test]
fn a_flood_of_handshakes_keeps_no_honest_members_apart() {
    for seed in 1..=5 {
        let mut arena = Arena::new(&[Trick::HandshakeFlood], seed as usize % 3, seed);
        arena.live(ms(3_000));
        let [dialler, listener] = arena.honest;
        for _ in 0..3 {
            arena.published.clear();
            arena.subnet.crash(dialler, FaultKind::Crash);
            arena.subnet.start(dialler);
            let limit = ms(2_000);
            arena.subnet.run_until("they meet again", limit, |subnet| {
                let node = subnet.node(dialler).expect("it runs");
                node.peers_up().any(|peer| peer == subnet.id(listener))
            });
            arena.subnet.elapse(ms(2_000));
        }
    }
}
