//! Connections that break, peers that restart, members that come and go: what stays, what is told
//! again, and what is gone.

use slotcast::broadcast::Event;
use slotcast::error::Fault;
use slotcast_testkit::machines::{
    CHANNEL, Frame, LARGE_CHUNKS, Net, Solo, config, delivered, large, node, small,
};

#[test]
fn s2_a_new_epoch_repeats_what_is_active_to_that_peer_only() {
    let mut net = Net::new(config(|_| {}), 3);
    let (kept, aborted) = (small(1), small(2));
    net.publish(0, &aborted);
    net.publish(0, &kept);
    net.run();
    net.abort(0, &aborted);
    net.run();
    net.disconnect(0, 1);
    net.forget_sent();
    net.connect(0, 1);
    net.run();
    let push = Frame::Push { slot: 1, version: 2, id: kept.id() };
    assert_eq!(net.frames(0, 1), [Frame::Snapshot(vec![1]), push]);
    assert_eq!(net.frames(0, 2), []);
}

/// A machine does not see failed sends, only connections that break before anything has arrived.
#[test]
fn s3_what_was_lost_with_five_connections_arrives_over_the_sixth() {
    let mut net = Net::new(config(|_| {}), 2);
    let block = small(1);
    net.publish(0, &block);
    for _ in 0..5 {
        net.send(0, 1, 1000).expect("something to send");
        net.disconnect(0, 1);
        net.connect(0, 1);
    }
    assert_eq!(net.delivered(1), []);
    net.run();
    assert_eq!(net.delivered(1), [block.id()]);
}

#[test]
fn i1_i2_a_node_that_joins_later_receives_what_is_still_active() {
    let mut net = Net::apart(config(|_| {}), 3);
    net.connect(0, 1);
    let (kept, aborted) = (small(1), small(2));
    net.publish(0, &kept);
    net.publish(0, &aborted);
    net.run();
    assert_eq!(net.delivered(1), [kept.id(), aborted.id()]);
    net.abort(0, &aborted);
    net.connect(0, 2);
    net.connect(1, 2);
    net.run();
    assert_eq!(net.delivered(2), [kept.id()]);
}

#[test]
fn i3_a_flapping_link_causes_no_second_download_and_no_second_delivery() {
    let mut net = Net::new(config(|_| {}), 2);
    let block = large(1);
    net.publish(0, &block);
    net.run();
    assert_eq!(net.delivered(1), [block.id()]);
    net.forget_sent();
    for _ in 0..5 {
        net.disconnect(0, 1);
        net.connect(0, 1);
        net.run();
    }
    assert!(net.chunks(0, 1).is_empty());
    assert_eq!(net.events(1), []);
    // Nor when the link breaks again before the epoch has been heard of whole.
    for length in [1, 3, 20, 50] {
        net.disconnect(0, 1);
        net.connect(0, 1);
        net.hold(0, 1);
        net.run();
        let first = net.streams(0, 1)[0];
        net.deliver(first, length);
        net.release(0, 1);
    }
    net.run();
    assert_eq!(net.events(1), []);
    net.abort(0, &block);
    net.run();
    assert_eq!(net.events(1), [Event::Expired { id: block.id() }]);
}

#[test]
fn i9_a_restarted_peer_receives_what_is_active_and_the_others_receive_nothing() {
    let mut net = Net::new(config(|_| {}), 3);
    let (small, large) = (small(1), large(2));
    net.publish(0, &small);
    net.publish(0, &large);
    net.run();
    for at in [1, 2] {
        assert_eq!(net.delivered(at), [small.id(), large.id()]);
    }
    net.restart(1);
    net.forget_sent();
    net.connect(0, 1);
    net.connect(1, 2);
    net.run();
    assert_eq!(net.delivered(1), [small.id(), large.id()]);
    assert_eq!(net.events(2), []);
    assert!(net.chunks(0, 2).is_empty());
}

#[test]
fn i10_what_was_published_during_a_partition_arrives_after_it() {
    let mut net = Net::new(config(|_| {}), 3);
    net.disconnect(0, 1);
    let block = small(1);
    net.publish(0, &block);
    net.run();
    assert_eq!(net.delivered(1), []);
    assert_eq!(net.delivered(2), [block.id()]);
    net.connect(0, 1);
    net.run();
    assert_eq!(net.delivered(1), [block.id()]);
    assert_eq!(net.events(2), []);
}

#[test]
fn l3_a_restarted_peer_with_fewer_slots_leaves_nothing_stale_behind() {
    let mut net = Net::new(config(|_| {}), 2);
    let blocks: Vec<_> = (0..5).map(small).collect();
    blocks.iter().for_each(|block| net.publish(0, block));
    net.run();
    assert_eq!(net.delivered(1).len(), 5);
    net.restart(0);
    net.publish(0, &blocks[4]);
    net.connect(0, 1);
    net.run();
    assert_eq!(net.heard(1, 0), [(0, blocks[4].id())]);
    let events = net.events(1);
    for block in &blocks[..4] {
        assert!(events.contains(&Event::Expired { id: block.id() }));
    }
    assert_eq!(events.len(), 4, "and nothing of the one that is active again: {events:?}");
    assert_eq!(net.nodes[1].known_count(), 1);
}

#[test]
fn l3_a_restarted_peer_with_no_slots_at_all_leaves_nothing_behind() {
    let mut net = Net::new(config(|_| {}), 2);
    net.publish(0, &small(1));
    net.run();
    assert_eq!(net.delivered(1), [small(1).id()]);
    net.restart(0);
    net.connect(0, 1);
    net.run();
    assert_eq!(net.events(1), [Event::Expired { id: small(1).id() }]);
    assert_eq!(net.nodes[1].known_count(), 0);
}

#[test]
fn old_entries_stay_until_the_last_slot_of_the_snapshot_is_heard_of() {
    let mut solo = Solo::new(&config(|_| {}), 1);
    let (gone, first, second) = (small(1), small(2), small(3));
    solo.push(0, 7, 1, &gone);
    solo.expect_delivered([&gone]);
    solo.down(0);
    assert!(solo.machine.is_advertised(CHANNEL, &gone.id()));
    solo.up(0);
    solo.push(0, 0, 1, &first);
    assert!(solo.snapshot(0, &[0, 1]).is_ok());
    assert!(solo.machine.is_advertised(CHANNEL, &gone.id()), "slot 1 is awaited");
    solo.expect_delivered([&first]);
    solo.push(0, 1, 2, &second);
    assert!(!solo.machine.is_advertised(CHANNEL, &gone.id()));
    let mut events = solo.events();
    events.retain(|event| !matches!(event, Event::Delivered { .. }));
    assert_eq!(events, [Event::Expired { id: gone.id() }]);
}

/// A slot named by the snapshot may be cleared before its content was ever sent.
#[test]
fn a_slot_of_the_snapshot_that_is_cleared_is_heard_of_by_the_clear() {
    let mut net = Net::new(config(|channel| channel.push_bytes_max = 1000), 2);
    net.publish(0, &small(1));
    net.publish(0, &small(2));
    net.run();
    net.disconnect(0, 1);
    net.abort(0, &small(1));
    net.publish(0, &small(3));
    net.connect(0, 1);
    // Room for the snapshot and one update: the other slot is only named.
    net.send(0, 1, 100);
    net.abort(0, &small(2));
    net.run();
    assert_eq!(net.heard(1, 0), [(0, small(3).id())]);
    assert_eq!(net.nodes[1].known_count(), 1);
}

#[test]
fn a_snapshot_repeated_in_one_epoch_is_a_fault_and_changes_nothing() {
    let mut solo = Solo::new(&config(|_| {}), 1);
    solo.push(0, 0, 1, &small(1));
    solo.down(0);
    solo.up(0);
    assert!(solo.snapshot(0, &[0]).is_ok());
    assert_eq!(solo.snapshot(0, &[]), Err(Fault::SnapshotRepeated));
    assert!(solo.machine.is_advertised(CHANNEL, &small(1).id()), "slot 0 is still awaited");
}

#[test]
fn r7_r8_members_that_leave_take_their_tables_and_their_fetches_with_them() {
    let mut solo = Solo::new(&config(|channel| channel.push_bytes_max = 0), 2);
    let (one, both) = (small(1), small(2));
    solo.advert(0, 0, 1, &one);
    solo.advert(0, 1, 2, &both);
    solo.advert(1, 0, 1, &both);
    assert_eq!(solo.sent(0).len() + solo.sent(1).len(), 2);
    solo.remove(0);
    assert!(!solo.machine.is_advertised(CHANNEL, &one.id()));
    assert_eq!(solo.machine.known_count(), 1);
    solo.remove(1);
    assert_eq!(solo.machine.known_count(), 0);
    assert!(solo.events().is_empty());
}

#[test]
fn r8_what_a_former_member_alone_advertised_expires_and_is_not_withdrawn() {
    let mut solo = Solo::new(&config(|_| {}), 2);
    let (one, both) = (small(1), small(2));
    solo.push(0, 0, 1, &one);
    solo.push(0, 1, 2, &both);
    solo.push(1, 0, 1, &both);
    solo.expect_delivered([&one, &both]);
    solo.remove(0);
    assert_eq!(solo.events(), [Event::Expired { id: one.id() }]);
}

#[test]
fn l1_two_members_leave_at_once() {
    let mut net = Net::new(config(|_| {}), 4);
    let (one, both, other) = (small(1), small(2), small(3));
    for at in [0, 1] {
        net.publish(at, &both);
    }
    net.publish(0, &one);
    net.publish(2, &other);
    net.run();
    assert_eq!(net.delivered(3).len(), 3);
    net.remove(3, 0);
    net.remove(3, 1);
    net.run();
    let events = net.events(3);
    assert_eq!(events.len(), 2);
    for id in [one.id(), both.id()] {
        assert!(events.contains(&Event::Expired { id }), "{events:?}");
    }
    assert_eq!(net.nodes[3].known_count(), 1);
}

#[test]
fn l2_an_id_in_two_slots_of_a_member_that_leaves() {
    let mut solo = Solo::new(&config(|_| {}), 2);
    let twice = small(1);
    solo.push(0, 0, 1, &twice);
    solo.push(0, 9, 3, &twice);
    solo.push(1, 3, 1, &twice);
    solo.expect_delivered([&twice]);
    solo.remove(0);
    assert!(solo.machine.is_advertised(CHANNEL, &twice.id()) && solo.events().is_empty());
    solo.remove(1);
    assert_eq!(solo.events(), [Event::Expired { id: twice.id() }]);
    assert_eq!(solo.machine.known_count(), 0);
}

#[test]
fn bytes_of_a_member_that_left_are_delivered_under_its_name() {
    let mut solo = Solo::new(&config(|_| {}), 2);
    let block = small(1);
    solo.push(0, 0, 1, &block);
    solo.push(1, 0, 1, &block);
    solo.remove(0);
    // Its place goes to another member.
    solo.machine.add_peer(slotcast_testkit::machines::peer(0), node(77));
    let events = solo.events();
    assert_eq!(delivered(&events), [block.id()]);
    assert!(matches!(events[0], Event::Delivered { from, .. } if from == node(0)));
}

#[test]
fn l21_the_only_holder_leaves_while_the_fetch_runs_and_another_comes_later() {
    let mut solo = Solo::new(&config(|_| {}), 2);
    let block = large(1);
    solo.advert(0, 0, 1, &block);
    let request = solo.asked(0, &block, 0..LARGE_CHUNKS);
    solo.chunks(0, request, &block, 0..2);
    solo.remove(0);
    assert_eq!(solo.machine.known_count(), 0);
    solo.advert(1, 0, 1, &block);
    let request = solo.asked(1, &block, 0..LARGE_CHUNKS);
    solo.chunks(1, request, &block, 0..LARGE_CHUNKS);
    solo.expect_delivered([&block]);
}
