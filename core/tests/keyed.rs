//! Artifacts with keys: what is published under the same key and name, and what is below a key.

use std::sync::{Arc, Mutex};

use slotcast::artifact::Artifact;
use slotcast::broadcast::{Candidate, Decision, Event, Priority};
use slotcast::config::Relay;
use slotcast::error::PublishError;
use slotcast::id::ArtifactId;
use slotcast_testkit::machines::{
    CHANNEL, Frame, LARGE_CHUNKS, Net, Solo, config, delivered, large, node, push, small,
};

/// The same artifact under a key.
fn under(key: u64, artifact: &Artifact) -> Artifact {
    Artifact::keyed(key, artifact.to_bytes(), artifact.metadata()).expect("within the limits")
}

fn publish(solo: &mut Solo, name: u32, artifact: &Artifact) -> Result<(), PublishError> {
    let published = solo.machine.publish_keyed(CHANNEL, name, artifact.clone());
    solo.settle();
    published
}

fn abort_below(solo: &mut Solo, key: u64) -> usize {
    let count = solo.machine.abort_below(CHANNEL, key);
    solo.settle();
    count
}

fn pushed(slot: u32, version: u64, artifact: &Artifact) -> Frame {
    Frame::Push { slot, version, id: artifact.id() }
}

#[test]
fn under_the_same_key_and_name_an_artifact_takes_the_slot_in_one_version() {
    let mut solo = Solo::new(&config(|_| {}), 1);
    let [first, second, other] = [1, 2, 3].map(|number| under(7, &small(number)));
    publish(&mut solo, 0, &first).expect("there is room");
    publish(&mut solo, 1, &other).expect("there is room");
    assert_eq!(solo.sent(0), [pushed(0, 1, &first), pushed(1, 2, &other)]);
    publish(&mut solo, 0, &second).expect("there is room");
    assert_eq!(solo.sent(0), [pushed(0, 3, &second)]);
    assert_eq!(solo.machine.active_count(CHANNEL), 2);
    assert!(!solo.machine.abort(CHANNEL, &first.id()), "it counts as aborted");
    // Again the same: nothing has changed.
    publish(&mut solo, 0, &second).expect("it is published");
    assert_eq!(solo.sent(0), []);
    // The same name under another key is another one.
    publish(&mut solo, 0, &under(8, &small(1))).expect("there is room");
    assert_eq!(solo.sent(0), [pushed(2, 4, &under(8, &small(1)))]);
}

#[test]
fn what_is_overwritten_before_it_is_sent_is_never_sent() {
    let mut net = Net::new(config(|_| {}), 2);
    net.choke(0, 1);
    for number in 1..=5 {
        let proposal = under(7, &small(number));
        net.nodes[0].publish_keyed(CHANNEL, 0, proposal).expect("it takes the place");
        net.settle(0);
    }
    net.unchoke(0, 1);
    net.run();
    assert_eq!(net.frames(0, 1), [pushed(0, 5, &under(7, &small(5)))]);
    assert_eq!(net.delivered(1), [under(7, &small(5)).id()]);
}

#[test]
fn members_learn_that_the_former_artifact_expired() {
    let mut net = Net::new(config(|_| {}), 2);
    let (first, second) = (under(7, &small(1)), under(7, &large(2)));
    let mut told = |artifact: &Artifact| {
        net.nodes[0].publish_keyed(CHANNEL, 3, artifact.clone()).expect("there is room");
        net.settle(0);
        net.run();
        net.events(1)
    };
    let events = told(&first);
    let [Event::Delivered { artifact, .. }] = &events[..] else { panic!("{events:?}") };
    assert_eq!((artifact.key(), artifact.advert()), (Some(7), first.advert()));
    let events = told(&second);
    assert!(events.contains(&Event::Expired { id: first.id() }), "{events:?}");
    assert_eq!((events.len(), delivered(&events)), (2, vec![second.id()]));
    assert_eq!(net.chunks(0, 1).len() as u32, LARGE_CHUNKS);
    assert_eq!(net.heard(1, 0), [(0, second.id())]);
}

#[test]
fn the_same_bytes_under_two_keys_are_two_artifacts_and_filters_see_the_keys() {
    let mut net = Net::new(config(|_| {}), 2);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let keys = seen.clone();
    let filter = move |candidate: &Candidate<'_>| {
        assert_eq!(candidate.advert.id(), *candidate.id);
        keys.lock().unwrap().push(candidate.advert.key);
        match candidate.advert.key {
            Some(key) if key < 8 => Decision::Drop,
            _ => Decision::Fetch(Priority::Normal),
        }
    };
    net.nodes[1].set_filter(CHANNEL, Box::new(filter));
    let blocks = [under(7, &small(1)), under(8, &small(1)), small(1), under(7, &large(1))];
    blocks.iter().for_each(|block| net.publish(0, block));
    net.run();
    assert_eq!(net.delivered(1), [blocks[1].id(), blocks[2].id()]);
    assert_eq!(*seen.lock().unwrap(), [Some(7), Some(8), None, Some(7)]);
}

#[test]
fn all_own_artifacts_below_a_key_are_aborted_and_no_others() {
    let relaying = config(|channel| *channel = channel.clone().relaying(Relay::Confirmed, 16));
    let mut solo = Solo::new(&relaying, 1);
    let relayed = under(1, &small(50));
    solo.push(0, 0, 1, &relayed);
    solo.expect_delivered([&relayed]);
    solo.machine.relay(CHANNEL, &relayed).expect("it is advertised");
    let plain = small(51);
    solo.publish(&plain);
    // Named and not, in no order.
    for key in [5, 2, 9, 0, u64::MAX, 7] {
        publish(&mut solo, 0, &under(key, &small(key))).expect("there is room");
        solo.publish(&under(key, &small(100)));
    }
    assert_eq!(solo.machine.active_count(CHANNEL), 14);
    assert_eq!(abort_below(&mut solo, 0), 0);
    assert_eq!(abort_below(&mut solo, 7), 6);
    assert_eq!(abort_below(&mut solo, 7), 0);
    assert_eq!(solo.machine.active_count(CHANNEL), 8);
    for key in [0, 2, 5] {
        assert!(!solo.machine.abort(CHANNEL, &under(key, &small(100)).id()));
    }
    assert_eq!(abort_below(&mut solo, u64::MAX), 4);
    for kept in [under(u64::MAX, &small(u64::MAX)), under(u64::MAX, &small(100)), plain, relayed] {
        assert!(solo.machine.abort(CHANNEL, &kept.id()));
    }
    assert_eq!(solo.machine.active_count(CHANNEL), 0);
}

#[test]
fn a_replacement_needs_no_slot_and_only_the_bytes_that_the_former_leaves() {
    let narrow = config(|channel| {
        (channel.slots_max, channel.active_bytes_max) = (2, 1000);
        channel.artifact_bytes_max = 1000;
    });
    let mut solo = Solo::new(&narrow, 1);
    let of = |number: u8, length| Artifact::keyed(7, vec![number; length].into(), b"").unwrap();
    publish(&mut solo, 0, &of(1, 600)).expect("there is room");
    publish(&mut solo, 1, &of(2, 400)).expect("there is room");
    assert_eq!(publish(&mut solo, 2, &of(3, 0)), Err(PublishError::OutboxFull));
    assert_eq!(publish(&mut solo, 1, &of(4, 401)), Err(PublishError::ActiveBytesExceeded));
    assert_eq!(solo.machine.own_slot(CHANNEL, slotcast::id::Slot(1)), Some(of(2, 400).id()));
    assert_eq!(publish(&mut solo, 0, &of(5, 500)), Ok(()));
    assert_eq!(publish(&mut solo, 1, &of(6, 500)), Ok(()));
    assert_eq!(publish(&mut solo, 1, &of(7, 501)), Err(PublishError::ActiveBytesExceeded));
    let nameless = Artifact::new(vec![8].into(), b"").unwrap();
    assert_eq!(publish(&mut solo, 1, &nameless), Err(PublishError::NoKey));
    assert_eq!(solo.sent(0).len(), 2);
}

#[test]
fn an_artifact_has_the_name_under_which_it_was_published_last() {
    let mut solo = Solo::new(&config(|_| {}), 1);
    let [first, second, third] = [1, 2, 3].map(|number| under(7, &small(number)));
    solo.publish(&first);
    publish(&mut solo, 1, &first).expect("it is published");
    publish(&mut solo, 2, &second).expect("there is room");
    assert_eq!(solo.sent(0), [pushed(0, 1, &first), pushed(1, 2, &second)]);
    // What was there gives way.
    publish(&mut solo, 2, &first).expect("it is published");
    assert_eq!(solo.sent(0), [Frame::Clear { slot: 1, version: 3 }]);
    // Its former name is free, and the present one is its own.
    publish(&mut solo, 1, &second).expect("there is room");
    publish(&mut solo, 2, &third).expect("it takes the place");
    assert_eq!(solo.sent(0), [pushed(1, 4, &second), pushed(0, 5, &third)]);
    assert_eq!(solo.machine.active_count(CHANNEL), 2);
}

#[test]
fn what_this_node_relays_takes_a_name_too() {
    let relaying = config(|channel| {
        channel.slots_max = 1;
        *channel = channel.clone().relaying(Relay::Confirmed, 1);
    });
    let mut solo = Solo::new(&relaying, 2);
    let (own, shared) = (under(7, &small(1)), under(7, &small(2)));
    publish(&mut solo, 0, &own).expect("there is room");
    assert_eq!(solo.update(0, &push(0, 1, &shared)), Ok(slotcast::broadcast::Taken::Done));
    solo.expect_delivered([&shared]);
    solo.machine.relay(CHANNEL, &shared).expect("it is advertised");
    solo.settle();
    // The only slot is taken, by what gives way.
    publish(&mut solo, 0, &shared).expect("it takes the place");
    assert_eq!(solo.machine.active_count(CHANNEL), 1);
    assert_eq!(abort_below(&mut solo, 8), 1);
    assert_eq!(solo.machine.active_count(CHANNEL), 0);
}

/// Its chunks are reset, and those of the new one come from the same slot.
#[test]
fn an_artifact_is_replaced_while_it_is_fetched() {
    let mut net = Net::new(config(|_| {}), 2);
    let (first, second) = (under(7, &large(1)), under(7, &large(2)));
    net.room = 1000;
    net.nodes[0].publish_keyed(CHANNEL, 0, first.clone()).expect("there is room");
    net.settle(0);
    net.run_until_chunk(0, 1);
    net.nodes[0].publish_keyed(CHANNEL, 0, second.clone()).expect("it takes the place");
    net.settle(0);
    net.run();
    assert_eq!(net.resets, [(0, 1)]);
    assert_eq!(net.delivered(1), [second.id()]);
    assert!(net.chunks(0, 1).len() as u32 <= LARGE_CHUNKS + 2);
}

/// The former artifact stays known where another member advertises it.
#[test]
fn only_the_publisher_withdraws_what_it_replaces() {
    let mut net = Net::new(config(|_| {}), 3);
    let (shared, next) = (under(7, &small(1)), under(7, &small(2)));
    for at in [0, 1] {
        net.nodes[at].publish_keyed(CHANNEL, 0, shared.clone()).expect("there is room");
        net.settle(at);
    }
    net.run();
    assert_eq!(net.delivered(2), [shared.id()]);
    net.nodes[0].publish_keyed(CHANNEL, 0, next.clone()).expect("it takes the place");
    net.settle(0);
    net.run();
    let events = net.events(2);
    assert!(events.contains(&Event::Withdrawn { id: shared.id(), by: node(0) }), "{events:?}");
    assert_eq!((events.len(), delivered(&events)), (2, vec![next.id()]));
    // Node 1 still has it itself, so that it is told of the next one only.
    assert_eq!(net.delivered(1), [next.id()] as [ArtifactId; 1]);
}
