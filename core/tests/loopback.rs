//! Loopback: a node is told of what it publishes as of what others do, and first.

use slotcast::artifact::Artifact;
use slotcast::broadcast::Event;
use slotcast::config::{ChannelConfig, Config, Relay};
use slotcast::id::NodeId;
use slotcast_testkit::machines::{
    CHANNEL, LARGE_CHUNKS, Solo, artifact, config, delivered, large, node, small,
};

/// The machine of a [`Solo`].
const OWN: NodeId = NodeId([0xff; 32]);

fn solo(config: &Config, peers: usize) -> Solo {
    let mut solo = Solo::new(config, peers);
    solo.machine.set_loopback(true);
    solo
}

fn delivery(artifact: &Artifact, from: NodeId) -> Event {
    Event::Delivered { artifact: artifact.clone(), from }
}

fn expiry(artifact: &Artifact) -> Event {
    Event::Expired { id: artifact.id() }
}

#[test]
fn it_is_off_at_first() {
    let mut solo = Solo::new(&config(|_| {}), 1);
    solo.publish(&small(1));
    assert_eq!((solo.events(), solo.machine.known_count()), (vec![], 0));
}

#[test]
fn own_artifacts_are_told_before_they_are_sent_and_expire_when_they_are_aborted() {
    let mut solo = solo(&config(|_| {}), 1);
    for block in [small(1), large(2)] {
        solo.publish(&block);
        assert_eq!(solo.events(), [delivery(&block, OWN)]);
        assert_eq!(solo.sent(0).len(), 1);
        solo.publish(&block);
        assert_eq!(solo.events(), [], "once");
        solo.abort(&block);
        assert_eq!(solo.events(), [expiry(&block)]);
        assert_eq!(solo.machine.known_count(), 0);
    }
}

#[test]
fn what_is_aborted_before_it_was_taken_is_never_told() {
    let mut solo = solo(&config(|_| {}), 1);
    solo.publish(&small(1));
    solo.abort(&small(1));
    assert_eq!((solo.events(), solo.machine.known_count()), (vec![], 0));
    // Nor is what came back and went again, but that it expired.
    solo.publish(&small(1));
    assert_eq!(solo.events().len(), 1);
    for _ in 0..3 {
        solo.abort(&small(1));
        solo.publish(&small(1));
    }
    solo.abort(&small(1));
    assert_eq!(solo.events(), [expiry(&small(1))]);
    solo.publish(&small(1));
    solo.abort(&small(1));
    solo.publish(&small(1));
    assert_eq!(solo.events(), [delivery(&small(1), OWN)]);
}

/// The application had it, and has not heard yet that it expired.
#[test]
fn what_is_published_again_expires_and_is_delivered_again() {
    let mut solo = solo(&config(|_| {}), 1);
    solo.publish(&small(1));
    assert_eq!(solo.events(), [delivery(&small(1), OWN)]);
    solo.abort(&small(1));
    solo.publish(&small(1));
    assert_eq!(solo.events(), [expiry(&small(1)), delivery(&small(1), OWN)]);
}

#[test]
fn once_it_is_off_only_the_end_of_what_was_told_is() {
    let mut solo = solo(&config(|_| {}), 1);
    solo.publish(&small(1));
    solo.machine.set_loopback(false);
    solo.publish(&small(2));
    assert_eq!(solo.events(), [delivery(&small(1), OWN)]);
    solo.abort(&small(1));
    solo.abort(&small(2));
    assert_eq!((solo.events(), solo.machine.known_count()), (vec![expiry(&small(1))], 0));
}

#[test]
fn this_node_is_one_of_those_that_advertise_an_artifact() {
    let mut solo = solo(&config(|_| {}), 2);
    let block = small(1);
    solo.push(0, 0, 1, &block);
    assert_eq!(solo.events(), [delivery(&block, node(0))]);
    solo.publish(&block);
    assert_eq!(solo.events(), [], "it was delivered");
    solo.clear(0, 0, 2);
    assert_eq!(solo.events(), [Event::Withdrawn { id: block.id(), by: node(0) }]);
    solo.push(1, 0, 1, &block);
    solo.abort(&block);
    assert_eq!(solo.events(), [Event::Withdrawn { id: block.id(), by: OWN }]);
    // Published again before that was told, it was not withdrawn.
    solo.publish(&block);
    solo.abort(&block);
    solo.publish(&block);
    assert_eq!(solo.events(), []);
    solo.abort(&block);
    solo.clear(1, 0, 2);
    assert_eq!(solo.events(), [expiry(&block)], "not told one by one");
    assert_eq!(solo.machine.known_count(), 0);
}

#[test]
fn what_is_being_fetched_is_delivered_at_once_when_this_node_publishes_it() {
    let mut solo = solo(&config(|_| {}), 1);
    solo.advert(0, 0, 1, &large(1));
    solo.asked(0, &large(1), 0..LARGE_CHUNKS);
    solo.publish(&large(1));
    assert_eq!(solo.events(), [delivery(&large(1), OWN)]);
    solo.clear(0, 0, 2);
    assert_eq!(solo.events(), [Event::Withdrawn { id: large(1).id(), by: node(0) }]);
}

#[test]
fn own_bytes_take_no_room_from_what_is_received() {
    let narrow = |channel: &mut ChannelConfig| {
        (channel.artifact_bytes_max, channel.inbox_bytes_max) = (1000, 1000);
    };
    let mut solo = solo(&config(narrow), 1);
    let [first, second, received] = [1, 2, 3].map(|number| artifact(number, 900));
    solo.publish(&first);
    solo.publish(&second);
    solo.push(0, 0, 1, &received);
    solo.expect_delivered([&first, &second, &received]);
}

/// Others still advertise it: its bytes count as received, or without room for them come from others.
#[test]
fn what_is_aborted_before_it_was_taken_and_others_have_is_delivered_from_them() {
    let narrow = |channel: &mut ChannelConfig| {
        (channel.artifact_bytes_max, channel.inbox_bytes_max) = (1000, 1000);
    };
    let mut solo = solo(&config(narrow), 1);
    let blocks = [1, 2].map(|number| artifact(number, 900));
    for (slot, block) in (0..).zip(&blocks) {
        solo.publish(block);
        solo.advert(0, slot, u64::from(slot) + 1, block);
    }
    blocks.iter().for_each(|block| solo.abort(block));
    assert_eq!(solo.events(), [delivery(&blocks[0], OWN)]);
    let request = solo.asked(0, &blocks[1], 0..1);
    solo.chunks(0, request, &blocks[1], 0..1);
    assert_eq!(solo.events(), [delivery(&blocks[1], node(0))]);
}

#[test]
fn a_replaced_artifact_expires_and_the_new_one_is_delivered() {
    let mut solo = solo(&config(|_| {}), 1);
    let [first, second, third] =
        [1, 2, 3].map(|number| Artifact::keyed(7, vec![number; 10].into(), b"").unwrap());
    let mut publish = |artifact: &Artifact| {
        solo.machine.publish_keyed(CHANNEL, 0, artifact.clone()).expect("there is room");
        solo.settle();
        solo.events()
    };
    assert_eq!(publish(&first), [delivery(&first, OWN)]);
    let events = publish(&second);
    assert_eq!(delivered(&events), [second.id()]);
    assert!(events.len() == 2 && events.contains(&expiry(&first)), "{events:?}");
    assert!(publish(&third).contains(&expiry(&second)));
}

#[test]
fn a_relay_that_this_node_publishes_itself_lasts_until_it_aborts_it() {
    let relaying = config(|channel| *channel = channel.clone().relaying(Relay::Automatic, 16));
    let mut solo = solo(&relaying, 2);
    for block in [small(1), large(2)] {
        match block == small(1) {
            true => solo.push(0, 0, 1, &block),
            false => solo.advert(0, 1, 2, &block),
        }
        solo.publish(&block);
        let events = solo.events();
        assert_eq!(delivered(&events), [block.id()]);
    }
    solo.clear(0, 0, 3);
    solo.clear(0, 1, 4);
    assert_eq!(solo.machine.active_count(CHANNEL), 2);
    let withdrawn = |block: &Artifact| Event::Withdrawn { id: block.id(), by: node(0) };
    assert_eq!(solo.events(), [withdrawn(&small(1)), withdrawn(&large(2))]);
    solo.abort(&small(1));
    solo.abort(&large(2));
    assert_eq!(solo.events(), [expiry(&small(1)), expiry(&large(2))]);
}

#[test]
fn where_withdrawals_are_not_told_own_ones_are_not_either() {
    let mut solo = solo(&config(|channel| channel.tells_withdrawals = false), 1);
    solo.publish(&small(1));
    assert_eq!(solo.events(), [delivery(&small(1), OWN)]);
    solo.abort(&small(1));
    assert_eq!((solo.events(), solo.machine.known_count()), (vec![], 0));
}

#[test]
fn events_name_the_member_that_this_node_is() {
    let mut solo = solo(&config(|_| {}), 1);
    solo.machine.set_member_id(node(9));
    solo.publish(&small(1));
    assert_eq!(solo.events(), [delivery(&small(1), node(9))]);
}
