//! Random histories, then peace: after the last fault heals, every active artifact has reached every
//! member, and nothing else is left (I4 to I8 in small, invariants 5, 7 and 12). A failure names its
//! seed.

use std::collections::BTreeSet;

use slotcast::artifact::Artifact;
use slotcast::broadcast::Event;
use slotcast::config::{ChannelConfig, Relay};
use slotcast::id::ArtifactId;
use slotcast_testkit::machines::{CHANNEL, Net, Order, artifact, config, ms};

const NODES: usize = 4;

struct History {
    net: Net,
    state: u64,
    /// What each application has and was not told to be expired.
    present: Vec<BTreeSet<ArtifactId>>,
    active: Vec<Vec<Artifact>>,
    /// What each node ever published since its restart: not delivered to it.
    own: Vec<BTreeSet<ArtifactId>>,
}

impl History {
    fn new(seed: u64) -> Self {
        let kind = |channel: &mut ChannelConfig| {
            channel.slots_max = 12;
            if seed & 1 == 1 {
                *channel = channel.clone().relaying(Relay::Automatic, 40);
            }
            channel.latency_sensitive = seed & 2 == 2;
            if seed & 4 == 4 {
                (channel.artifact_bytes_max, channel.inbox_bytes_max) = (150_000, 150_000);
            }
        };
        let mut config = config(kind);
        (config.fetches_per_peer_max, config.serves_per_peer_max) = (2, 3);
        let mut net = Net::new(config, NODES);
        net.order = Order::Shuffled(seed);
        net.cut = 70_000;
        let present = vec![BTreeSet::new(); NODES];
        Self {
            net,
            state: seed,
            present,
            active: vec![Vec::new(); NODES],
            own: vec![BTreeSet::new(); NODES],
        }
    }

    fn below(&mut self, end: usize) -> usize {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.state >> 33) as usize % end
    }

    fn pair(&mut self) -> (usize, usize) {
        let a = self.below(NODES);
        (a, (a + 1 + self.below(NODES - 1)) % NODES)
    }

    fn take_events(&mut self, at: usize) {
        for event in self.net.events(at) {
            let present = &mut self.present[at];
            match event {
                Event::Delivered { artifact, .. } => {
                    assert!(present.insert(artifact.id()), "invariant 7: delivered twice");
                }
                Event::Withdrawn { id, .. } => assert!(present.contains(&id)),
                Event::Expired { id } => assert!(present.remove(&id), "delivered before"),
                _ => unreachable!("no other events"),
            }
        }
    }

    fn step(&mut self) {
        let (a, b) = self.pair();
        match self.below(16) {
            0..5 if self.active[a].len() < 12 => {
                // Some are published by several nodes, and some are large.
                let number = self.below(40) as u64;
                let block = artifact(number, [200, 40_000, 140_000][number as usize % 3]);
                if !self.active[a].contains(&block) {
                    self.net.publish(a, &block);
                    self.own[a].insert(block.id());
                    self.active[a].push(block);
                }
            }
            5..8 if !self.active[a].is_empty() => {
                let at = self.below(self.active[a].len());
                let block = self.active[a].swap_remove(at);
                self.net.abort(a, &block);
            }
            8 if self.net.is_connected(a, b) => self.net.disconnect(a, b),
            8 | 9 if !self.net.is_connected(a, b) => self.net.connect(a, b),
            10 if self.below(4) == 0 => {
                self.net.restart(a);
                self.present[a].clear();
                self.active[a].clear();
                self.own[a].clear();
            }
            11 => self.net.hold(a, b),
            12 => self.net.choke(a, b),
            13 => {
                self.net.release(a, b);
                self.net.unchoke(a, b);
            }
            14 => self.take_events(a),
            15 => self.net.elapse(ms(500)),
            _ => {
                let room = 1 + self.below(100_000);
                if self.net.is_connected(a, b)
                    && let Some((id, _)) = self.net.send(a, b, room)
                {
                    let length = self.below(80_000);
                    self.net.deliver(id, length);
                }
            }
        }
    }

    fn heal(&mut self) {
        for a in 0..NODES {
            for b in 0..NODES {
                self.net.release(a, b);
                self.net.unchoke(a, b);
                if a < b && !self.net.is_connected(a, b) {
                    self.net.connect(a, b);
                }
            }
        }
        for _ in 0..100 {
            self.net.run();
            (0..NODES).for_each(|at| self.take_events(at));
            self.net.run();
            if !self.net.wake() {
                return;
            }
        }
        panic!("never quiet");
    }

    fn check(&self) {
        for at in 0..NODES {
            let others = (0..NODES).filter(|other| *other != at);
            let active: BTreeSet<ArtifactId> =
                others.flat_map(|other| self.active[other].iter().map(Artifact::id)).collect();
            let missing = active.difference(&self.present[at]);
            let missing: Vec<_> = missing.filter(|id| !self.own[at].contains(*id)).collect();
            assert!(missing.is_empty(), "node {at} misses {missing:?}");
            // A relay may still advertise what this node itself publishes.
            let own: BTreeSet<_> = self.active[at].iter().map(Artifact::id).collect();
            let left =
                self.present[at].iter().filter(|id| !active.contains(id) && !own.contains(id));
            assert_eq!(left.count(), 0, "node {at} was not told of an end");
            for id in &active {
                assert!(self.net.nodes[at].is_advertised(CHANNEL, id));
            }
        }
    }
}

#[test]
fn i4_to_i8_after_any_history_all_that_is_active_is_everywhere_and_nothing_else() {
    let only = std::env::var("SEED").ok().map(|seed| seed.parse().expect("a number"));
    for seed in only.map_or(0..100, |seed: u64| seed..seed + 1) {
        let told = std::panic::catch_unwind(|| {
            let mut history = History::new(seed);
            for _ in 0..3 {
                (0..150).for_each(|_| history.step());
                history.heal();
                history.check();
            }
        });
        assert!(told.is_ok(), "SEED={seed}");
    }
}
