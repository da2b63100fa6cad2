//! Random histories of a publisher whose members take little at a time, so that the changes are served from both
//! ends. A failure names its seed.

use std::collections::{BTreeMap, BTreeSet};

use slotcast::artifact::Artifact;
use slotcast::config::{ChannelConfig, Order as ServingOrder, Relay};
use slotcast::id::ArtifactId;
use slotcast_testkit::machines::{
    CHANNEL, Frame, Net, Order, StreamId, artifact, config, ms, small,
};

const NODES: usize = 3;

fn keyed(key: Option<u64>, artifact: &Artifact) -> Artifact {
    Artifact::keyed(key, artifact.to_bytes(), b"").expect("within the limits")
}

struct History {
    net: Net,
    state: u64,
    /// By which keys rise in each step.
    rise: u64,
    active: Vec<Artifact>,
}

impl History {
    fn new(seed: u64) -> Self {
        let mut config = config(|channel: &mut ChannelConfig| {
            if seed & 1 == 1 {
                *channel = channel.clone().relaying(Relay::Automatic, 200);
            }
            channel.slots_max = 400;
            // Clears count as late no earlier than they may be held back.
            channel.clear_delay = ms(0);
            channel.freshness.oldest_first_until = ms(seed >> 1 & 3);
            channel.freshness.oldest_percent = [1, 12, 50][(seed % 3) as usize];
            if seed >> 3 & 1 == 1 {
                channel.order = ServingOrder::HighestKeyFirst;
            }
        });
        config.batch_bytes_max = 1024;
        let mut net = Net::new(config, NODES);
        net.order = Order::Shuffled(seed);
        Self { net, state: seed, rise: seed >> 4 & 1, active: Vec::new() }
    }

    fn below(&mut self, end: usize) -> usize {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.state >> 33) as usize % end
    }

    /// The publisher and a member lose their connection, and get another one.
    fn reconnect(&mut self, member: usize) {
        self.net.disconnect(0, member);
        self.check_pushes(member);
        self.net.sent.retain(|(from, to, ..)| (*from, *to) != (0, member));
        self.net.connect(0, member);
    }

    /// In one connection, nothing is pushed twice, unless it was reset.
    fn check_pushes(&self, member: usize) {
        let mut pushes = BTreeMap::<(u32, u64), u32>::new();
        for frame in self.net.frames(0, member) {
            if let Frame::Push { slot, version, .. } = frame {
                *pushes.entry((slot, version)).or_default() += 1;
            }
        }
        assert!(pushes.values().all(|count| *count == 1), "{pushes:?}");
    }

    fn step(&mut self, number: u64) {
        let member = 1 + self.below(NODES - 1);
        match self.below(100) {
            0..40 => {
                for burst in 0..1 + self.below(6) as u64 {
                    let length = if self.below(10) == 0 { 20_000 } else { 100 + self.below(300) };
                    let artifact = artifact(number << 8 | burst, length);
                    // In every other run, later ones have higher keys.
                    let key = self.below(50) as u64 + self.rise * number;
                    let key = Some(key).filter(|_| self.below(4) > 0);
                    let artifact = keyed(key, &artifact);
                    if self.active.len() < 150 {
                        self.net.publish(0, &artifact);
                        self.active.push(artifact);
                    }
                }
            }
            40..50 if !self.active.is_empty() => {
                let at = self.below(self.active.len());
                let artifact = self.active.swap_remove(at);
                self.net.abort(0, &artifact);
            }
            50..70 => {
                self.net.now = self.net.now + ms(self.below(4) as u64);
                (0..NODES).for_each(|at| self.net.settle(at));
            }
            70..90 => {
                let room = 200 + self.below(1000);
                for _ in 0..1 + self.below(2) {
                    self.net.send(0, member, room);
                }
                self.net.send(member, 0, 5000);
                self.net.send(member, 3 - member, 5000);
            }
            90..98 => {
                for _ in 0..1 + self.below(4) {
                    let (from, to) =
                        [(0, member), (member, 0), (member, 3 - member)][self.below(3)];
                    let streams = self.net.streams(from, to);
                    if !streams.is_empty() {
                        let stream = streams[self.below(streams.len())];
                        self.net.deliver(stream, usize::MAX);
                    }
                }
            }
            98 => self.net.hold_acks = !self.net.hold_acks,
            _ if self.below(4) == 0 => self.reconnect(member),
            _ => {}
        }
    }

    fn check(&mut self) {
        self.net.hold_acks = false;
        self.net.ack();
        self.net.run();
        for _ in 0..100 {
            if !self.net.wake() {
                break;
            }
        }
        let active: BTreeSet<ArtifactId> = self.active.iter().map(Artifact::id).collect();
        for member in 1..NODES {
            self.check_pushes(member);
            let heard: BTreeSet<ArtifactId> =
                self.net.heard(member, 0).into_iter().map(|(_, id)| id).collect();
            assert_eq!(heard, active);
            let arrived: BTreeSet<ArtifactId> =
                slotcast_testkit::machines::delivered(&self.net.events(member))
                    .into_iter()
                    .collect();
            assert!(arrived.is_superset(&active));
        }
        for artifact in &self.active {
            let coverage = self.net.nodes[0].coverage(CHANNEL, &artifact.id()).expect("active");
            assert_eq!(
                (coverage.told, coverage.acknowledged),
                (2, 2),
                "{:?}",
                artifact.bytes().len()
            );
        }
    }
}

#[test]
fn whatever_is_served_first_all_that_is_active_arrives_once() {
    for seed in 0..48 {
        let told = std::panic::catch_unwind(|| {
            let mut history = History::new(seed);
            (0..400).for_each(|number| history.step(number));
            history.check();
        });
        assert!(told.is_ok(), "seed {seed}");
    }
}

/// The oldest that are left come with what has been made since, and without what was served before.
#[test]
fn what_was_served_out_of_turn_is_not_sent_again() {
    let immediate = config(|channel| {
        (channel.freshness.oldest_first_until, channel.clear_delay) = (ms(0), ms(0));
    });
    let mut net = Net::new(immediate, 2);
    let publish = |net: &mut Net, numbers: std::ops::Range<u64>| {
        numbers.for_each(|number| net.publish(0, &small(number)));
        net.now = net.now + ms(1);
        net.settle(0);
    };
    publish(&mut net, 0..4);
    net.send(0, 1, 300).expect("the newest");
    publish(&mut net, 4..6);
    while net.send(0, 1, 60_000).is_some() {}
    let mut pushes = BTreeMap::<StreamId, Vec<u64>>::new();
    for (_, _, stream, frame) in &net.sent {
        if let Frame::Push { version, .. } = frame {
            pushes.entry(*stream).or_default().push(*version);
        }
    }
    let pushes: Vec<Vec<u64>> = pushes.into_values().collect();
    assert_eq!(pushes, [vec![4], vec![1, 2, 3, 5, 6]]);
}
