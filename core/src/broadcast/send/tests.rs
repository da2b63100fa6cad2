//! No call looks at all slots of a channel, whatever has changed and was sent before. Invariant 9.

use core::time::Duration;

use alloc::format;
use alloc::vec::Vec;

use crate::artifact::Artifact;
use crate::broadcast::{Broadcast, Output, Send, SendBuffer, work};
use crate::config::{ChannelConfig, Config, Order, Quota};
use crate::id::{ArtifactId, ChannelId, NodeId, PeerIndex};
use crate::time::Time;

const CHANNEL: ChannelId = ChannelId(1);
const PEER: PeerIndex = PeerIndex(0);
const SLOTS: u32 = 1 << 16;

/// Looks in one call, at most: in the order of keys those of a walk, and as many changes that come into it. Otherwise
/// nothing is looked at but what is sent, in 4,000 bytes: a clear takes 20.
fn looks_max(order: Order) -> u64 {
    match order {
        Order::HighestKeyFirst => 2 * 4096,
        Order::Age => 4_000 / 20 + 1,
    }
}

struct World {
    machine: Broadcast,
    now: Time,
    /// Streams that were not acknowledged.
    streams: Vec<Send>,
    published: u64,
    calls: u64,
    most_looks: u64,
    sent_bytes: usize,
}

impl World {
    fn new(order: Order) -> Self {
        let mut channel = ChannelConfig::new(CHANNEL);
        (channel.slots_max, channel.order) = (SLOTS, order);
        channel.clear_delay = Duration::ZERO;
        channel.freshness.oldest_first_until = Duration::ZERO;
        let config = Config::new([channel]);
        let machine = Broadcast::new(&config, NodeId([0; 32]), 7).expect("a valid configuration");
        let now = Time::ZERO + Duration::from_secs(1);
        let (streams, calls) = (Vec::new(), 0);
        let mut world =
            Self { machine, now, streams, published: 0, calls, most_looks: 0, sent_bytes: 0 };
        world.machine.add_peer(PEER, NodeId([1; 32]));
        world.machine.peer_up(now, PEER, |_| true);
        world.send(usize::MAX);
        world.sent_bytes = 0;
        world
    }

    fn publish(&mut self, count: u64) -> Vec<ArtifactId> {
        let publish = |number: u64| {
            let key = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let artifact = Artifact::keyed(key, format!("{number}").into(), b"");
            let artifact = artifact.expect("within the limits");
            let id = artifact.id();
            self.machine.publish(CHANNEL, artifact).expect("there is room");
            id
        };
        let ids = (self.published..self.published + count).map(publish).collect();
        self.published += count;
        self.now = self.now + Duration::from_millis(1);
        ids
    }

    fn abort(&mut self, ids: &[ArtifactId]) {
        ids.iter().for_each(|id| assert!(self.machine.abort(CHANNEL, id)));
        self.now = self.now + Duration::from_millis(1);
    }

    fn settle(&mut self) {
        while !matches!(self.machine.poll(self.now), Output::Idle { .. }) {}
    }

    /// Sends so many streams, each at most a few kilobytes long; fewer, if all is sent. Each is acknowledged. How many
    /// there were.
    fn send(&mut self, streams: usize) -> usize {
        let (mut out, mut sent) = (SendBuffer::new(), 0);
        self.settle();
        loop {
            while let Some((peer, flow)) = self.machine.poll_ready() {
                while sent < streams && self.machine.is_ready(peer, flow) {
                    let mut send = None;
                    self.calls += 1;
                    let looks = work::of(|| {
                        send = self.machine.poll_flow(peer, flow, 4_000, true, &mut out);
                    });
                    self.most_looks = self.most_looks.max(looks);
                    let Some(send) = send else { break };
                    self.sent_bytes += out.len();
                    sent += 1;
                    self.streams.push(send);
                    // There may be 4,096 to a peer.
                    if sent.is_multiple_of(1_000) {
                        self.acknowledge();
                    }
                }
            }
            if !self.machine.resume_deferred() {
                break;
            }
        }
        self.acknowledge();
        self.settle();
        sent
    }

    fn acknowledge(&mut self) {
        for stream in self.streams.drain(..).filter_map(|send| send.stream) {
            self.machine.handle_acked(PEER, stream);
        }
    }
}

fn each_order(test: impl Fn(&mut World)) {
    for order in [Order::Age, Order::HighestKeyFirst] {
        let mut world = World::new(order);
        test(&mut world);
        world.machine.assert_invariants();
        let (looks, looks_max) = (world.most_looks, looks_max(order));
        assert!(looks <= looks_max, "{order:?}: {looks} looks in one call");
        assert!(!world.machine.has_backlog(PEER), "{order:?}");
    }
}

#[test]
fn what_was_aborted_unheard_of_is_passed_over_in_several_turns() {
    each_order(|world| {
        let ids = world.publish(SLOTS.into());
        world.abort(&ids[1..]);
        world.calls = 0;
        world.send(usize::MAX);
        assert!(world.calls < 100, "{} calls", world.calls);
        // Nothing but what is active.
        assert!(world.sent_bytes < 100, "{} bytes", world.sent_bytes);
    });
}

#[test]
fn what_was_overwritten_is_passed_over_in_several_turns() {
    each_order(|world| {
        for _ in 0..3 {
            let ids = world.publish(u64::from(SLOTS) - 1);
            world.send(1);
            world.abort(&ids);
        }
        world.publish(1);
        world.send(usize::MAX);
    });
}

/// Newer ones are served in bursts, so that what was served lies among what was not.
#[test]
fn what_was_served_out_of_turn_is_passed_over_in_several_turns() {
    each_order(|world| {
        for _ in 0..150 {
            world.publish(400);
            world.send(20);
        }
        world.send(usize::MAX);
        // Each is sent once, in about 26 bytes.
        let published = world.published as usize;
        assert!(
            (24 * published..28 * published).contains(&world.sent_bytes),
            "{}",
            world.sent_bytes
        );
    });
}

/// Or it would be asked again for each stream that is opened for other flows, and for each publication.
#[test]
fn what_waits_for_a_quota_is_not_ready_until_it_is_reported_again() {
    let mut world = World::new(Order::Age);
    world.machine.set_quotas(PEER, [(CHANNEL, Quota::per_second(1, 1 << 20))], true);
    world.publish(3);
    world.send(usize::MAX);
    assert!(world.machine.has_backlog(PEER) && !world.machine.is_ready(PEER, 0));
    world.publish(1);
    world.settle();
    assert_eq!(world.machine.poll_ready(), None);
    world.now = world.now + Duration::from_secs(10);
    world.settle();
    assert_eq!(world.machine.poll_ready(), Some((PEER, 0)));
    assert!(world.machine.is_ready(PEER, 0));
}

/// Or it would be looked at again in the same turn, whenever something is published.
#[test]
fn what_is_deferred_is_not_reported_before_the_next_turn() {
    let mut world = World::new(Order::HighestKeyFirst);
    let ids = world.publish(u64::from(SLOTS) / 2);
    world.abort(&ids);
    world.publish(1);
    world.settle();
    assert_eq!(world.machine.poll_ready(), Some((PEER, 0)));
    // It is late, and not in the order of keys yet, into which more comes before it than in a turn.
    world.now = world.now + Duration::from_millis(1);
    world.settle();
    let mut out = SendBuffer::new();
    assert!(world.machine.poll_flow(PEER, 0, 4_000, true, &mut out).is_none());
    assert!(world.machine.has_backlog(PEER) && !world.machine.is_ready(PEER, 0));
    world.publish(1);
    world.settle();
    assert_eq!(world.machine.poll_ready(), None);
    assert!(world.machine.resume_deferred());
    assert_eq!(world.machine.poll_ready(), Some((PEER, 0)));
    assert!(world.machine.is_ready(PEER, 0));
}

/// In the order of keys, what is sent together was published at any time.
#[test]
fn what_is_sent_in_any_order_shares_streams_and_is_acknowledged_with_them() {
    each_order(|world| {
        world.publish(SLOTS.into());
        let marks = world.machine.marks();
        let streams = world.send(usize::MAX);
        // About 150 artifacts fit into 4,000 bytes.
        assert!(streams < SLOTS as usize / 100, "{streams} streams");
        assert!(world.machine.is_flushed(&marks));
    });
}

/// When the order of keys is behind, what changes meanwhile is sent as it is then, once.
#[test]
fn what_changes_before_it_is_in_the_order_of_keys_is_sent_once() {
    each_order(|world| {
        let ids = world.publish(40_000);
        world.send(3);
        world.abort(&ids[..20_000]);
        world.publish(30_000);
        world.send(3);
        world.abort(&ids[30_000..]);
        world.send(usize::MAX);
        assert!(world.sent_bytes < 60 * 50_000, "{}", world.sent_bytes);
    });
}
