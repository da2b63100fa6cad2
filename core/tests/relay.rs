//! Relaying: an artifact reaches members that its publisher has no connection to, and is gone from
//! everywhere once its publisher has aborted it.

use slotcast::artifact::Artifact;
use slotcast::broadcast::Event;
use slotcast::config::{Config, Relay};
use slotcast::error::{Fault, RelayError};
use slotcast::id::{Slot, Version};
use slotcast::membership::Overlay;
use slotcast::wire::{Refusal, Request, Update};
use slotcast_testkit::machines::{
    CHANNEL, Frame, LARGE_CHUNKS, Net, Order, Solo, advert, artifact, config, large, peer, small,
};

fn relaying(relay: Relay) -> Config {
    config(|channel| *channel = channel.clone().relaying(relay, 16))
}

/// `count` nodes in a row: each is connected to the ones beside it.
fn row(config: Config, count: usize) -> Net {
    let mut net = Net::apart(config, count);
    (1..count).for_each(|at| net.connect(at - 1, at));
    net.run();
    net.forget_sent();
    net
}

#[test]
fn an_artifact_goes_down_a_row_of_relays_and_so_does_its_end() {
    for block in [small(1), large(2)] {
        let mut net = row(relaying(Relay::Automatic), 4);
        net.publish(0, &block);
        net.run();
        for at in 1..4 {
            assert_eq!(net.delivered(at), [block.id()]);
            let told = net.frames(at - 1, at).into_iter().find(Frame::is_update);
            match told {
                Some(Frame::Push { .. }) => assert_eq!(at, 1, "only the publisher pushes"),
                Some(Frame::Advert { hops, .. }) => assert_eq!(hops as usize, at - 1),
                other => panic!("{other:?}"),
            }
        }
        net.abort(0, &block);
        net.run();
        for at in 1..4 {
            let expired = Event::Expired { id: block.id() };
            assert_eq!(net.events(at).last(), Some(&expired), "node {at}");
            assert_eq!(net.nodes[at].active_count(CHANNEL), 0);
        }
    }
}

#[test]
fn relays_go_no_further_than_the_channels_hops() {
    let mut config = relaying(Relay::Automatic);
    config.channels[0].relay_hops_max = 2;
    let mut net = row(config, 5);
    net.publish(0, &small(1));
    net.run();
    assert_eq!(net.delivered(3), [small(1).id()]);
    assert_eq!(net.delivered(4), []);
}

#[test]
fn relays_do_not_keep_each_other_alive_when_the_publisher_aborts() {
    for seed in 0..30 {
        let mut net = Net::new(relaying(Relay::Automatic), 5);
        net.order = Order::Shuffled(seed);
        net.cut = 100;
        net.publish(0, &small(seed));
        // Now and then the abort meets the first wave half way.
        match seed % 3 {
            0 => net.run(),
            _ => {
                for to in 1..5 {
                    net.send(0, to, 1000);
                    net.streams(0, to).first().copied().inspect(|id| net.deliver(*id, 1000));
                }
            }
        }
        net.abort(0, &small(seed));
        net.run();
        for at in 0..5 {
            assert_eq!(net.nodes[at].active_count(CHANNEL), 0, "seed {seed}, node {at}");
            net.events(at);
            assert_eq!(net.nodes[at].known_count(), 0, "seed {seed}, node {at}");
        }
    }
}

#[test]
fn relays_do_not_keep_each_other_alive_when_the_publisher_leaves() {
    let mut net = Net::new(relaying(Relay::Automatic), 3);
    net.publish(0, &small(1));
    net.run();
    assert_eq!(net.nodes[1].active_count(CHANNEL) + net.nodes[2].active_count(CHANNEL), 2);
    for at in [1, 2] {
        net.remove(at, 0);
    }
    net.run();
    for at in [1, 2] {
        assert_eq!(net.nodes[at].active_count(CHANNEL), 0);
        assert_eq!(net.events(at).last(), None, "delivered to nobody yet");
    }
}

#[test]
fn a_relay_is_not_repeated_to_members_that_show_the_artifact_themselves() {
    let mut net = Net::new(relaying(Relay::Confirmed), 4);
    let block = small(1);
    net.publish(0, &block);
    net.run();
    (1..4).for_each(|at| assert_eq!(net.delivered(at), [block.id()]));
    net.forget_sent();
    net.relay(1, &block);
    net.run();
    assert_eq!(net.frames(1, 0), [], "the publisher");
    let told = Frame::Advert { slot: 0, version: 1, hops: 1, streamed: false, id: block.id() };
    assert_eq!([net.frames(1, 2), net.frames(1, 3)], [[told.clone()], [told.clone()]]);
    net.relay(2, &block);
    net.run();
    assert_eq!(net.frames(2, 1), [], "it has said so");
    assert_eq!(net.frames(2, 3), [told]);
    net.relay(2, &block);
    net.run();
    assert_eq!(net.frames(2, 3).len(), 1, "once");
}

/// Both cease to show it before a node would ask the machine for what is to be sent to either.
#[test]
fn a_relay_is_announced_to_all_members_that_cease_to_show_the_artifact_at_once() {
    let mut solo = Solo::new(&relaying(Relay::Confirmed), 3);
    let block = small(1);
    solo.push(0, 0, 1, &block);
    (1..3).for_each(|at| assert!(solo.update(at, &advert(0, 1, 1, false, &block)).is_ok()));
    solo.expect_delivered([&block]);
    solo.machine.relay(CHANNEL, &block).unwrap();
    (0..3).for_each(|at| assert_eq!(solo.sent(at), []));
    solo.reported();
    (1..3).for_each(|at| solo.clear(at, 0, 2));
    assert_eq!(solo.reported(), [peer(1), peer(2)].into());
    for at in 1..3 {
        assert!(matches!(solo.sent(at)[..], [Frame::Advert { hops: 1, .. }]), "to {at}");
    }
}

#[test]
fn a_confirmed_relay_needs_a_holder_near_enough_and_room() {
    let mut solo =
        Solo::new(&config(|channel| *channel = channel.clone().relaying(Relay::Confirmed, 1)), 1);
    let blocks = [small(1), small(2), small(3)];
    let relay = |solo: &mut Solo, block| {
        let done = solo.machine.relay(CHANNEL, block);
        solo.settle();
        done
    };
    assert_eq!(relay(&mut solo, &blocks[0]), Err(RelayError::NotAdvertised));
    assert_eq!(
        solo.machine.relay(slotcast_testkit::machines::OTHER, &blocks[0]),
        Err(RelayError::UnknownChannel)
    );
    solo.push(0, 0, 1, &blocks[0]);
    solo.push(0, 1, 2, &blocks[1]);
    solo.update(0, &advert(2, 3, 4, false, &blocks[2])).unwrap();
    solo.expect_delivered(&blocks[..2]);
    assert_eq!(relay(&mut solo, &blocks[2]), Err(RelayError::NotAdvertised), "4 hops away");
    assert_eq!(solo.machine.active_count(CHANNEL), 0);
    assert_eq!(relay(&mut solo, &blocks[0]), Ok(()));
    assert_eq!(relay(&mut solo, &blocks[0]), Ok(()));
    assert_eq!(relay(&mut solo, &blocks[1]), Err(RelayError::OutboxFull));
    assert_eq!(solo.machine.active_count(CHANNEL), 1);
    solo.clear(0, 0, 4);
    assert_eq!(solo.machine.active_count(CHANNEL), 0);
    assert_eq!(relay(&mut solo, &blocks[1]), Ok(()));
}

#[test]
fn an_expired_artifact_cannot_be_relayed_however_many_hops_are_allowed() {
    let mut config = relaying(Relay::Confirmed);
    config.channels[0].relay_hops_max = u8::MAX;
    let mut solo = Solo::new(&config, 1);
    solo.push(0, 0, 1, &small(1));
    solo.expect_delivered([&small(1)]);
    solo.clear(0, 0, 2);
    assert_eq!(solo.machine.relay(CHANNEL, &small(1)), Err(RelayError::NotAdvertised));
    solo.events();
    assert_eq!(solo.machine.active_count(CHANNEL), 0);
}

#[test]
fn a_relayed_artifact_that_the_node_publishes_itself_outlives_the_first_publisher() {
    let mut net = row(relaying(Relay::Automatic), 3);
    let block = small(1);
    net.publish(0, &block);
    net.run();
    net.publish(1, &block);
    net.run();
    net.abort(0, &block);
    net.run();
    assert_eq!(net.nodes[1].active_count(CHANNEL), 1);
    assert_eq!(net.delivered(2), [block.id()]);
    net.abort(1, &block);
    net.run();
    assert_eq!(net.events(2), [Event::Expired { id: block.id() }]);
}

/// The relay remembers that the peer showed the artifact before it restarted.
#[test]
fn i9_a_restarted_member_receives_from_a_relay_what_it_once_showed_itself() {
    let mut net = Net::new(relaying(Relay::Automatic), 3);
    let block = small(1);
    net.publish(0, &block);
    net.run();
    assert_eq!(net.heard(1, 2), [(0, block.id())]);
    net.restart(2);
    net.connect(1, 2);
    net.run();
    assert_eq!(net.delivered(2), [block.id()]);
}

#[test]
fn l16_a_relay_beyond_the_hops_is_a_fault_and_changes_nothing() {
    let mut solo = Solo::new(&relaying(Relay::Confirmed), 1);
    let too_far = advert(0, 1, 5, false, &large(1));
    assert_eq!(solo.update(0, &too_far), Err(Fault::HopsBeyondBound));
    assert_eq!(solo.update(0, &pushed_from(5, 1, &small(1))), Err(Fault::HopsBeyondBound));
    assert_eq!((solo.machine.known_count(), solo.heard(0)), (0, vec![]));
}

fn pushed_from(hops: u8, version: u64, artifact: &Artifact) -> Update<'_> {
    let (key, metadata, bytes) = (artifact.key(), artifact.metadata(), artifact.bytes());
    let (slot, version) = (Slot(0), Version(version));
    Update::Push { slot, version, hops, key, metadata, bytes }
}

/// A relay in an overlay has neighbours that their artifact's publisher does not reach.
#[test]
fn relays_in_an_overlay_push_what_is_short_and_new() {
    let mut config = relaying(Relay::Automatic);
    config.transport.overlay = Overlay::Regular { degree: 4 };
    let how_told = |solo: &mut Solo| {
        let frames = solo.sent(1);
        frames.iter().find_map(|frame| match frame {
            Frame::Push { .. } => Some("push"),
            Frame::Advert { .. } => Some("advert"),
            _ => None,
        })
    };
    for (length, told) in [(0, "push"), (4 << 10, "push"), ((4 << 10) + 1, "advert")] {
        let mut solo = Solo::new(&config, 2);
        let block = artifact(1, length);
        solo.sent(1);
        solo.update(0, &pushed_from(1, 1, &block)).unwrap();
        solo.expect_delivered([&block]);
        assert_eq!(how_told(&mut solo), Some(told), "{length} bytes");
        solo.up(1);
        assert_eq!(how_told(&mut solo), Some("advert"), "it may have it from others by now");
    }
    // Who shows it is not told of it.
    let mut solo = Solo::new(&config, 2);
    solo.update(0, &pushed_from(0, 1, &small(1))).unwrap();
    solo.update(1, &pushed_from(1, 1, &small(1))).unwrap();
    assert_eq!(how_told(&mut solo), None);
    solo.clear(1, 0, 2);
    assert_eq!(how_told(&mut solo), Some("advert"), "it has had it");
    let mut solo = Solo::new(&config, 2);
    solo.update(1, &pushed_from(1, 1, &small(1))).unwrap();
    solo.publish(&small(1));
    assert_eq!(how_told(&mut solo), Some("advert"), "it has it, whoever publishes it");
    // In a mesh, members have it from its publisher.
    let mut solo = Solo::new(&relaying(Relay::Automatic), 2);
    solo.push(0, 0, 1, &small(1));
    assert_eq!(how_told(&mut solo), Some("advert"));
}

#[test]
fn relays_serve_what_they_hold() {
    let mut net = Net::new(relaying(Relay::Automatic), 3);
    net.publish(0, &large(1));
    net.run();
    assert_eq!([net.delivered(1), net.delivered(2)], [[large(1).id()], [large(1).id()]]);
    // The publisher's connection to one breaks: who joins now asks a relay.
    net.isolate(0);
    net.restart(2);
    net.forget_sent();
    net.connect(1, 2);
    net.run();
    let mut chunks = net.chunks(1, 2);
    chunks.sort_unstable();
    assert!(chunks.into_iter().eq(0..LARGE_CHUNKS));
    assert_eq!(net.delivered(2), [large(1).id()]);
}

/// Invariant 12: the relay needs the bytes again, although its application has seen them.
#[test]
fn what_expired_and_comes_back_before_the_application_looked_is_relayed_again() {
    let mut net = row(relaying(Relay::Automatic), 3);
    let block = large(2);
    net.publish(0, &block);
    net.run();
    assert_eq!(net.delivered(1), [block.id()]);
    net.abort(0, &block);
    net.run();
    assert!(net.nodes[1].has_events(CHANNEL), "the application has not looked");
    net.publish(0, &block);
    net.run();
    assert_eq!(net.delivered(2), [block.id()]);
}

/// Peer 0 publishes, peer 1 relays, and peer 2 only listens.
fn relay_of_what_another_relays_too(relay_slots_max: u32) -> (Solo, [Artifact; 2]) {
    let relaying =
        config(|channel| *channel = channel.clone().relaying(Relay::Automatic, relay_slots_max));
    let mut solo = Solo::new(&relaying, 3);
    let blocks = [small(1), small(2)];
    for (slot, block) in (0..).zip(&blocks[..relay_slots_max.min(2) as usize]) {
        solo.push(0, slot, 1, block);
        solo.update(1, &advert(slot, 1, 1, false, block)).unwrap();
    }
    solo.expect_delivered(&blocks[..relay_slots_max.min(2) as usize]);
    (0..3).for_each(|at| drop(solo.sent(at)));
    (solo, blocks)
}

/// The application has taken the bytes, so only the relay has them here.
#[test]
fn f15_a_relay_resumes_when_its_publisher_publishes_again() {
    let (mut solo, [block, other]) = relay_of_what_another_relays_too(16);
    let of_block = |frames: Vec<Frame>| {
        let told = |frame: &Frame| frame.told() == Some(block.id());
        frames.iter().filter(|frame| told(frame)).count()
    };
    for round in 1..4 {
        solo.clear(0, 0, 2 * round);
        assert_eq!(solo.machine.active_count(CHANNEL), 1, "the other one");
        assert!(matches!(solo.sent(2)[..], [Frame::Clear { .. }]));
        solo.up(2);
        assert_eq!(of_block(solo.sent(2)), 0, "nothing is told of it meanwhile");
        solo.push(0, 0, 2 * round + 1, &block);
        assert_eq!(of_block(solo.sent(2)), 1);
        assert_eq!(solo.machine.active_count(CHANNEL), 2);
        assert!(!solo.events().iter().any(|event| matches!(event, Event::Delivered { .. })));
    }
    // It ends with the last holder, with an abort, and when its publisher has gone too often.
    solo.clear(0, 0, 20);
    solo.clear(1, 0, 20);
    assert_eq!(solo.events().last(), Some(&Event::Expired { id: block.id() }));
    solo.clear(0, 1, 20);
    assert!(solo.machine.abort(CHANNEL, &other.id()));
    solo.push(0, 1, 21, &other);
    assert_eq!(solo.machine.active_count(CHANNEL), 0);
    let (mut solo, [block, _]) = relay_of_what_another_relays_too(16);
    let resumed = (1..10).filter(|round| {
        solo.clear(0, 0, 2 * round);
        solo.push(0, 0, 2 * round + 1, &block);
        solo.machine.active_count(CHANNEL) == 2
    });
    assert_eq!(resumed.count(), 4);
}

/// A relay that would have no room beside what is advertised takes none from those that wait.
#[test]
fn a_relay_that_finds_no_room_changes_nothing() {
    let relaying = config(|channel| {
        *channel = channel.clone().relaying(Relay::Automatic, 16);
        (channel.artifact_bytes_max, channel.active_bytes_max) = (1000, 1000);
    });
    let mut solo = Solo::new(&relaying, 3);
    let blocks = [artifact(1, 400), artifact(2, 400), artifact(3, 700)];
    for (slot, block) in (0..).zip(&blocks[..2]) {
        solo.push(0, slot, 1, block);
        solo.update(1, &advert(slot, 1, 1, false, block)).unwrap();
    }
    solo.expect_delivered(&blocks[..2]);
    solo.clear(0, 0, 2);
    solo.events();
    solo.push(0, 2, 3, &blocks[2]);
    solo.expect_delivered(&blocks[2..]);
    assert_eq!(solo.machine.active_count(CHANNEL), 1, "700 bytes have no room beside 400");
    solo.push(0, 0, 4, &blocks[0]);
    assert_eq!(solo.machine.active_count(CHANNEL), 2, "the one that waited has kept its room");
}

#[test]
fn a_relay_that_waits_for_its_publisher_is_not_served_and_can_be_published() {
    let (mut solo, [block, _]) = relay_of_what_another_relays_too(16);
    solo.clear(0, 0, 2);
    solo.sent(2);
    let ranges = [(0..1).into()].into_iter().collect();
    solo.request(2, Request::Fetch { request: 1, channel: CHANNEL, id: block.id(), ranges });
    assert!(matches!(solo.sent(2)[..], [Frame::Refuse(1, Refusal::NotHeld)]));
    solo.publish(&block);
    assert!(matches!(solo.sent(2)[..], [Frame::Push { .. }]));
    solo.clear(1, 0, 2);
    assert_eq!(solo.machine.active_count(CHANNEL), 2);
}

#[test]
fn a_relay_that_waits_for_its_publisher_gives_way_to_another() {
    let (mut solo, [block, other]) = relay_of_what_another_relays_too(1);
    solo.clear(0, 0, 2);
    assert_eq!(solo.machine.active_count(CHANNEL), 0);
    solo.events();
    solo.push(0, 1, 3, &other);
    solo.expect_delivered([&other]);
    assert_eq!(solo.machine.active_count(CHANNEL), 1, "the other one has its room");
    // What gave way does not come back, and does not take its room.
    solo.push(0, 0, 4, &block);
    assert_eq!(solo.machine.own_slot(CHANNEL, Slot(0)), Some(other.id()));
    assert_eq!(solo.machine.active_count(CHANNEL), 1);
}

#[test]
fn a_relay_that_waits_for_its_publisher_can_be_relayed_from_further_away() {
    let (mut solo, [block, _]) = relay_of_what_another_relays_too(16);
    solo.clear(0, 0, 2);
    solo.sent(2);
    solo.machine.relay(CHANNEL, &block).unwrap();
    let told = solo.sent(2);
    assert!(told.iter().any(|frame| matches!(frame, Frame::Advert { hops: 2, .. })), "{told:?}");
}
