//! Bounds: what this node refuses to its application, what it holds against its peers, and what it
//! does while either has no room.

use slotcast::artifact::{ARTIFACT_BYTES_LIMIT, ArtifactError};
use slotcast::config::{ChannelConfig, Config};
use slotcast::error::{Fault, PublishError};
use slotcast::id::{Slot, Version};
use slotcast::wire::{LiveSlots, Update};
use slotcast_testkit::machines::{
    CHANNEL, Frame, LARGE_CHUNKS, Net, OTHER, Solo, advert, artifact, config, delivered, large,
    push, small,
};

#[test]
fn publish_beyond_a_bound_is_an_error_and_changes_nothing() {
    let bounds = |channel: &mut ChannelConfig| {
        (channel.slots_max, channel.artifact_bytes_max, channel.active_bytes_max) = (3, 500, 1000);
    };
    let mut solo = Solo::new(&config(bounds), 1);
    let publish = |solo: &mut Solo, block| {
        let done = solo.machine.publish(CHANNEL, block);
        solo.settle();
        done
    };
    let error = publish(&mut solo, artifact(1, 501));
    assert_eq!(error, Err(PublishError::Artifact(ArtifactError::TooLong)));
    assert_eq!(publish(&mut solo, artifact(1, 500)), Ok(()));
    assert_eq!(publish(&mut solo, artifact(2, 500)), Ok(()));
    assert_eq!(publish(&mut solo, artifact(3, 1)), Err(PublishError::ActiveBytesExceeded));
    assert_eq!(publish(&mut solo, artifact(4, 0)), Ok(()));
    assert_eq!(publish(&mut solo, artifact(5, 0)), Err(PublishError::OutboxFull));
    assert_eq!(publish(&mut solo, artifact(2, 500)), Ok(()), "it is active already");
    let unknown = solo.machine.publish(OTHER, small(1));
    assert_eq!(unknown, Err(PublishError::UnknownChannel));
    assert_eq!(solo.sent(0).len(), 3);
    solo.abort(&artifact(4, 0));
    assert_eq!(publish(&mut solo, artifact(5, 0)), Ok(()));
    let push = Frame::Push { slot: 2, version: 5, id: artifact(5, 0).id() };
    assert_eq!(solo.sent(0), [push], "refused ones took no version");
}

#[test]
fn r2_l16_updates_beyond_a_bound_are_faults_and_change_nothing() {
    let bounds = |channel: &mut ChannelConfig| {
        (channel.slots_max, channel.push_bytes_max, channel.artifact_bytes_max) = (10, 100, 1000);
    };
    let mut solo = Solo::new(&config(bounds), 1);
    let (short, long, longer) = (artifact(1, 100), artifact(2, 101), artifact(3, 1001));
    let clear = Update::Clear { slot: Slot(10), version: Version(1) };
    let live = LiveSlots(&[0, 4]);
    let snapshot = Update::Snapshot { version: Version(1), live };
    let mut forged = longer.advert();
    forged.length = ARTIFACT_BYTES_LIMIT;
    let slot = Slot(0);
    let endless = Update::Advert {
        slot,
        version: Version(1),
        hops: 0,
        streamed: true,
        spread: false,
        advert: forged,
    };
    let breaches = [
        (push(10, 1, &short), Fault::SlotBeyondBound),
        (push(u32::MAX, 1, &short), Fault::SlotBeyondBound),
        (advert(10, 1, 0, false, &long), Fault::SlotBeyondBound),
        (clear, Fault::SlotBeyondBound),
        (snapshot, Fault::SlotBeyondBound),
        (push(0, 1, &long), Fault::PushTooLong),
        (advert(0, 1, 0, false, &longer), Fault::ArtifactTooLong),
        (endless, Fault::ArtifactTooLong),
        (advert(0, 1, 200, false, &long), Fault::HopsBeyondBound),
    ];
    for (update, fault) in &breaches {
        assert_eq!(solo.update(0, update), Err(*fault));
        assert_eq!((solo.machine.known_count(), solo.heard(0)), (0, vec![]), "{update:?}");
        assert_eq!(solo.sent(0), []);
    }
    // All of it could still be said rightly.
    assert!(solo.snapshot(0, &[9]).is_ok());
    solo.push(0, 9, 1, &short);
    solo.advert(0, 0, 1, &long);
    assert_eq!(solo.heard(0), [(0, long.id()), (9, short.id())]);
}

#[test]
fn an_update_of_a_channel_that_this_node_does_not_have_is_passed_over() {
    let mut solo = Solo::new(&config(|_| {}), 1);
    let block = small(1);
    let update = push(0, 1, &block);
    let taken =
        solo.machine.handle_update(solo.now, slotcast_testkit::machines::peer(0), OTHER, &update);
    assert_eq!(taken, Ok(slotcast::broadcast::Taken::Done));
    assert_eq!(solo.machine.known_count(), 0);
}

/// Room for one large artifact at a time.
fn narrow(channel: &mut ChannelConfig) {
    (channel.artifact_bytes_max, channel.inbox_bytes_max) = (300_000, 300_000);
}

#[test]
fn l22_fetches_wait_while_the_application_takes_no_events_and_go_on_when_it_does() {
    let mut net = Net::new(config(narrow), 2);
    let blocks: Vec<_> = (0..5).map(large).collect();
    blocks.iter().for_each(|block| net.publish(0, block));
    for (at, block) in blocks.iter().enumerate() {
        net.run();
        assert_eq!(net.chunks(0, 1).len(), LARGE_CHUNKS as usize * (at + 1), "one at a time");
        assert_eq!(net.delivered(1), [block.id()]);
    }
}

#[test]
fn l22_pushes_without_room_are_fetched_later_and_aborted_ones_never() {
    let mut net = Net::new(
        config(|channel| (channel.artifact_bytes_max, channel.inbox_bytes_max) = (1000, 1000)),
        2,
    );
    let blocks: Vec<_> = (0..8).map(small).collect();
    blocks.iter().for_each(|block| net.publish(0, block));
    net.run();
    net.abort(0, &blocks[6]);
    net.run();
    assert!(net.chunks(0, 1).is_empty(), "five fill the room");
    let mut seen = net.delivered(1);
    assert_eq!(seen.len(), 5);
    net.run();
    seen.extend(net.delivered(1));
    let ids: Vec<_> =
        blocks.iter().map(|block| block.id()).filter(|id| *id != blocks[6].id()).collect();
    assert_eq!(seen, ids);
    assert_eq!(net.chunks(0, 1), [0, 0]);
}

#[test]
fn l22_what_expires_before_it_is_taken_makes_room() {
    let mut net = Net::new(config(narrow), 2);
    net.publish(0, &large(1));
    net.publish(0, &large(2));
    net.run();
    net.abort(0, &large(1));
    net.run();
    assert_eq!(net.delivered(1), [large(2).id()]);
}

#[test]
fn l22_what_the_node_publishes_itself_makes_room() {
    let mut net = Net::new(config(narrow), 2);
    net.publish(0, &large(1));
    net.publish(0, &large(2));
    net.run();
    net.publish(1, &large(1));
    net.run();
    assert_eq!(net.delivered(1), [large(2).id()]);
}

#[test]
fn l22_a_channel_without_room_holds_up_no_other() {
    let mut channel = ChannelConfig::new(CHANNEL);
    narrow(&mut channel);
    let mut net = Net::new(Config::new([channel, ChannelConfig::new(OTHER)]), 2);
    net.publish(0, &large(1));
    net.publish(0, &large(2));
    net.run();
    net.nodes[0].publish(OTHER, large(3)).unwrap();
    net.run();
    assert_eq!(net.chunks(0, 1).len(), 2 * LARGE_CHUNKS as usize, "one of each channel");
    let event = net.nodes[1].poll_event(OTHER).expect("a delivery");
    assert_eq!(delivered(&[event]), [large(3).id()]);
    net.settle(1);
}

#[test]
fn l9_slots_used_up_on_every_channel_at_once() {
    let channel = |id| {
        let mut channel = ChannelConfig::new(id);
        channel.slots_max = 70;
        channel
    };
    let channels = [CHANNEL, OTHER];
    let mut net = Net::new(Config::new(channels.map(channel)), 3);
    for at in 0..3 {
        for (number, id) in (0..140).map(|number| (number, channels[number as usize % 2])) {
            net.nodes[at].publish(id, artifact(1000 * at as u64 + number, 50)).unwrap();
        }
        for id in channels {
            assert_eq!(net.nodes[at].publish(id, small(9)), Err(PublishError::OutboxFull));
        }
        net.settle(at);
    }
    net.run();
    for at in 0..3 {
        assert_eq!(net.delivered(at).len(), 140);
        assert_eq!(net.nodes[at].known_count(), 280);
    }
    net.abort(0, &artifact(0, 50));
    net.publish(0, &small(9));
    net.run();
    assert_eq!(net.heard(1, 0)[0], (0, small(9).id()));
}

/// What a machine can show of it: no backlog, and the newest content at last.
#[test]
fn l7_l10_a_peer_that_does_not_read_costs_no_one_else_anything_and_gets_the_newest() {
    let mut net = Net::new(config(|channel| channel.slots_max = 8), 3);
    net.choke(0, 1);
    for number in 0..1000 {
        net.publish(0, &small(number));
        if number >= 8 {
            net.abort(0, &small(number - 8 + 1));
        } else if number == 7 {
            net.abort(0, &small(0));
        }
        net.run();
        assert!(net.delivered_at_last(2, &small(number)));
    }
    net.unchoke(0, 1);
    net.run();
    let newest: Vec<_> = (993..1000).map(|number| small(number).id()).collect();
    let mut told: Vec<_> = net.frames(0, 1).iter().filter_map(Frame::told).collect();
    assert_eq!(told, newest);
    told.sort();
    let mut heard: Vec<_> = net.heard(1, 0).into_iter().map(|(_, id)| id).collect();
    heard.sort();
    assert_eq!(heard, told);
}
