//! How far a published artifact has come, as its publisher knows it: never more than is so.

use slotcast::artifact::Artifact;
use slotcast::broadcast::{Broadcast, Coverage, Decision, Event, Threshold};
use slotcast::config::{ChannelConfig, Relay};
use slotcast::id::{Slot, Version};
use slotcast::wire::Request;
use slotcast_testkit::machines::{
    CHANNEL, Net, Solo, artifact, config, large, peer, range, small, steered,
};

fn coverage(machine: &Broadcast, artifact: &Artifact) -> Option<Coverage> {
    machine.coverage(CHANNEL, &artifact.id())
}

/// Told, acknowledged, declined, and members.
fn counts(machine: &Broadcast, artifact: &Artifact) -> [u16; 4] {
    let coverage = coverage(machine, artifact).expect("it is active");
    [coverage.told, coverage.acknowledged, coverage.declined, coverage.members]
}

fn plain() -> slotcast::config::Config {
    config(|_: &mut ChannelConfig| {})
}

#[test]
fn a_push_has_come_when_its_stream_is_acknowledged() {
    let mut net = Net::new(plain(), 4);
    let block = small(1);
    assert_eq!(coverage(&net.nodes[0], &block), None);
    net.hold_acks = true;
    net.choke(0, 3);
    net.publish(0, &block);
    assert_eq!(counts(&net.nodes[0], &block), [0, 0, 0, 3]);
    net.run();
    assert_eq!(counts(&net.nodes[0], &block), [2, 0, 0, 3]);
    net.hold_acks = false;
    net.ack();
    assert_eq!(counts(&net.nodes[0], &block), [2, 2, 0, 3]);
    net.unchoke(0, 3);
    net.run();
    assert_eq!(counts(&net.nodes[0], &block), [3, 3, 0, 3]);
    assert_eq!(coverage(&net.nodes[1], &block), None, "it is not its publisher");
    net.remove(0, 3);
    assert_eq!(counts(&net.nodes[0], &block), [2, 2, 0, 2]);
    net.abort(0, &block);
    assert_eq!(coverage(&net.nodes[0], &block), None);
}

/// Some in each batch are overwritten before it is acknowledged.
#[test]
fn of_a_batch_that_is_acknowledged_what_is_still_active_has_come() {
    let mut net = Net::new(plain(), 2);
    net.choke(0, 1);
    net.hold_acks = true;
    let blocks: Vec<Artifact> = (0..20).map(small).collect();
    blocks.iter().for_each(|block| net.publish(0, block));
    net.unchoke(0, 1);
    net.run();
    let others: Vec<Artifact> = (20..30).map(small).collect();
    for (old, new) in blocks.iter().step_by(2).zip(&others) {
        net.abort(0, old);
        net.publish(0, new);
    }
    net.ack();
    for block in blocks.iter().skip(1).step_by(2) {
        assert_eq!(counts(&net.nodes[0], block), [1, 1, 0, 1]);
    }
    for other in &others {
        assert_eq!(counts(&net.nodes[0], other), [0, 0, 0, 1]);
    }
}

/// In a slot that the batch told of.
#[test]
fn of_a_batch_that_is_acknowledged_what_was_pushed_since_has_not_come() {
    let mut solo = Solo::new(&plain(), 1);
    let push = |solo: &mut Solo| {
        let (send, _) = solo.send(0, 10_000).expect("something was published");
        send.stream.expect("it is tracked")
    };
    let [old, other, new] = [1, 2, 3].map(small);
    solo.publish(&old);
    solo.publish(&other);
    let first = push(&mut solo);
    solo.abort(&old);
    solo.publish(&new);
    let second = push(&mut solo);
    solo.acked(0, first);
    assert_eq!(counts(&solo.machine, &other), [1, 1, 0, 1]);
    assert_eq!(counts(&solo.machine, &new), [1, 0, 0, 1]);
    solo.acked(0, second);
    assert_eq!(counts(&solo.machine, &new), [1, 1, 0, 1]);
}

#[test]
fn whatever_is_aborted_of_a_batch_the_others_have_come_when_it_is_acknowledged() {
    for aborted in 0..1 << 4 {
        let is_aborted = |number: &usize| aborted >> number & 1 == 1;
        let mut net = Net::new(plain(), 2);
        net.choke(0, 1);
        net.hold_acks = true;
        let blocks: Vec<Artifact> = (0..4).map(small).collect();
        blocks.iter().for_each(|block| net.publish(0, block));
        net.unchoke(0, 1);
        net.run();
        (0..4).filter(is_aborted).for_each(|number| net.abort(0, &blocks[number]));
        net.ack();
        for number in (0..4).filter(|number| !is_aborted(number)) {
            assert_eq!(counts(&net.nodes[0], &blocks[number]), [1, 1, 0, 1], "{aborted:b}");
        }
    }
}

#[test]
fn what_is_fetched_has_come_when_the_member_says_so() {
    let mut net = Net::new(plain(), 3);
    let block = large(1);
    net.choke(2, 0);
    net.publish(0, &block);
    net.run();
    assert_eq!(net.delivered(1), [block.id()]);
    assert_eq!(counts(&net.nodes[0], &block), [2, 1, 0, 2], "the other cannot ask");
    net.unchoke(2, 0);
    net.run();
    assert_eq!(counts(&net.nodes[0], &block), [2, 2, 0, 2]);
}

#[test]
fn what_is_streamed_or_spread_has_come_when_all_of_it_has() {
    let streamed = config(|channel: &mut ChannelConfig| channel.latency_sensitive = true);
    let spread = config(|channel: &mut ChannelConfig| {
        (channel.relay, channel.relay_slots_max) = (Relay::Automatic, 100);
        channel.spread_bytes_min = 1;
    });
    for config in [streamed, spread] {
        let mut net = Net::new(config, 4);
        let block = large(1);
        net.publish(0, &block);
        net.run();
        assert!((1..4).all(|at| net.delivered(at) == [block.id()]));
        assert_eq!(counts(&net.nodes[0], &block), [3, 3, 0, 3]);
    }
}

#[test]
fn a_filter_that_does_not_want_it_declines_what_is_advertised() {
    let mut net = Net::new(plain(), 3);
    let (_, drop) = steered(Decision::Drop);
    let (later, filter) = steered(Decision::Later);
    net.nodes[1].set_filter(CHANNEL, drop);
    net.nodes[2].set_filter(CHANNEL, filter);
    let block = large(1);
    net.publish(0, &block);
    net.run();
    assert_eq!(counts(&net.nodes[0], &block), [2, 0, 1, 2]);
    *later.lock().unwrap() = Decision::Drop;
    net.reconsider(2);
    net.run();
    assert_eq!(counts(&net.nodes[0], &block), [2, 0, 2, 2]);
}

/// What was put off is asked for again: until it has come, it does not count.
#[test]
fn a_member_that_asks_for_what_was_pushed_does_not_have_it() {
    let mut net = Net::new(plain(), 2);
    let (decision, filter) = steered(Decision::Later);
    net.nodes[1].set_filter(CHANNEL, filter);
    let block = small(1);
    net.publish(0, &block);
    net.run();
    assert_eq!(counts(&net.nodes[0], &block), [1, 1, 0, 1], "all bytes have come");
    *decision.lock().unwrap() = Decision::Fetch(Default::default());
    net.reconsider(1);
    net.hold(0, 1);
    net.run();
    assert_eq!(counts(&net.nodes[0], &block), [1, 0, 0, 1]);
    net.release(0, 1);
    net.run();
    assert_eq!(counts(&net.nodes[0], &block), [1, 1, 0, 1]);
}

#[test]
fn a_member_that_connects_again_counts_again_when_it_has_heard_of_it() {
    let mut net = Net::new(plain(), 2);
    let (block, long) = (small(1), large(2));
    net.publish(0, &block);
    net.publish(0, &long);
    net.run();
    for restarts in [false, true] {
        match restarts {
            true => net.restart(1),
            false => net.disconnect(0, 1),
        }
        for artifact in [&block, &long] {
            assert_eq!(counts(&net.nodes[0], artifact), [1, 1, 0, 1], "in its last connection");
        }
        net.connect(0, 1);
        for artifact in [&block, &long] {
            assert_eq!(counts(&net.nodes[0], artifact), [0, 0, 0, 1]);
        }
        net.run();
        for artifact in [&block, &long] {
            assert_eq!(counts(&net.nodes[0], artifact), [1, 1, 0, 1]);
        }
    }
}

/// It said that it had all of it, and may have restarted since.
#[test]
fn a_receipt_counts_in_its_connection_only() {
    let mut solo = Solo::new(&plain(), 1);
    let block = small(1);
    solo.publish(&block);
    solo.sent(0);
    let (slot, version, is_declined) = (Slot(0), Version(1), false);
    solo.request(0, Request::Receipt { channel: CHANNEL, slot, version, is_declined });
    assert_eq!(counts(&solo.machine, &block), [1, 1, 0, 1]);
    solo.down(0);
    solo.up(0);
    let (send, _) = solo.send(0, 10_000).expect("all is told anew");
    solo.acked(0, send.stream.expect("it is tracked"));
    assert_eq!(counts(&solo.machine, &block), [1, 1, 0, 1]);
    let (id, ranges) = (block.id(), range(0..1));
    solo.request(0, Request::Fetch { request: 1, channel: CHANNEL, id, ranges });
    assert_eq!(counts(&solo.machine, &block), [1, 0, 0, 1]);
}

/// The member publishes it as well, and so has it without having fetched it.
#[test]
fn a_member_that_publishes_it_itself_has_it() {
    let mut net = Net::new(plain(), 2);
    let block = large(1);
    net.hold(0, 1);
    net.publish(0, &block);
    net.run();
    net.publish(1, &block);
    net.release(0, 1);
    net.run();
    for at in [0, 1] {
        assert_eq!(counts(&net.nodes[at], &block), [1, 1, 0, 1]);
    }
}

#[test]
fn receipts_that_make_no_sense_change_nothing() {
    let mut solo = Solo::new(&plain(), 2);
    let block = large(1);
    solo.machine.publish(CHANNEL, block.clone()).expect("there is room");
    let receipt = |slot: u32, version: u64| {
        let (slot, version) = (Slot(slot), Version(version));
        Request::Receipt { channel: CHANNEL, slot, version, is_declined: false }
    };
    solo.request(0, receipt(0, 1));
    assert_eq!(counts(&solo.machine, &block), [0, 0, 0, 2], "it has not been told");
    solo.sent(0);
    for (slot, version) in [(0, 0), (0, 2), (1, 1), (u32::MAX, 1)] {
        solo.request(0, receipt(slot, version));
    }
    solo.request(1, receipt(0, 1));
    assert_eq!(counts(&solo.machine, &block), [1, 0, 0, 2]);
    solo.request(0, receipt(0, 1));
    assert_eq!(counts(&solo.machine, &block), [1, 1, 0, 2]);
    // A request that the receipt has overtaken.
    let (id, ranges) = (block.id(), range(0..1));
    solo.request(0, Request::Fetch { request: 1, channel: CHANNEL, id, ranges });
    assert_eq!(counts(&solo.machine, &block), [1, 1, 0, 2]);
}

/// However often a member advertises what is here, it is owed one receipt for each slot.
#[test]
fn i8_receipts_that_a_member_does_not_take_do_not_pile_up() {
    let mut solo = Solo::new(&plain(), 1);
    let block = artifact(1, 100_000);
    solo.machine.publish(CHANNEL, block.clone()).expect("there is room");
    solo.sent(0);
    for version in 1..1000 {
        solo.advert(0, 3, version, &block);
    }
    let mut out = slotcast::broadcast::SendBuffer::new();
    let send = solo.machine.poll_send(solo.now, peer(0), 100_000, &mut out);
    assert!(send.is_some() && out.len() < 20, "one receipt: {} bytes", out.len());
    assert!(!solo.machine.has_backlog(peer(0)));
}

fn publish_covered(net: &mut Net, artifact: &Artifact, threshold: Threshold) {
    net.nodes[0].publish_covered(CHANNEL, artifact.clone(), threshold).expect("there is room");
}

fn covered(artifact: &Artifact, by: u16) -> Event {
    Event::Covered { id: artifact.id(), by }
}

#[test]
fn the_application_is_told_once_when_enough_members_have_an_artifact() {
    for block in [small(1), large(1)] {
        let mut net = Net::new(plain(), 4);
        net.choke(0, 2);
        net.choke(0, 3);
        publish_covered(&mut net, &block, Threshold::AllBut(1));
        net.run();
        assert_eq!(net.events(0), []);
        net.unchoke(0, 2);
        net.run();
        assert!(net.nodes[0].has_any_event() && net.nodes[0].has_events(CHANNEL));
        assert_eq!(net.events(0), [covered(&block, 2)]);
        net.unchoke(0, 3);
        net.run();
        assert_eq!(net.events(0), []);
        assert!(!net.nodes[0].has_any_event());
        // It is published again, with another threshold, which is reached already.
        publish_covered(&mut net, &block, Threshold::Count(2));
        let event = net.nodes[0].poll_any_event();
        assert_eq!(event, Some((CHANNEL, covered(&block, 3))));
        publish_covered(&mut net, &block, Threshold::Count(4));
        net.run();
        assert_eq!(net.events(0), [], "there are three");
    }
}

#[test]
fn a_member_that_leaves_is_not_waited_for() {
    let mut net = Net::new(plain(), 3);
    net.choke(0, 2);
    let block = small(1);
    publish_covered(&mut net, &block, Threshold::All);
    net.run();
    assert_eq!(net.events(0), []);
    net.remove(0, 2);
    assert_eq!(net.events(0), [covered(&block, 1)]);
}

/// What is not taken is told of only while it is true, and does not pile up.
#[test]
fn what_was_aborted_is_not_said_to_have_come() {
    let mut net = Net::new(plain(), 2);
    for number in 0..100 {
        publish_covered(&mut net, &small(number), Threshold::All);
        net.run();
        net.abort(0, &small(number));
    }
    assert_eq!(net.events(0), []);
    publish_covered(&mut net, &small(7), Threshold::All);
    net.run();
    publish_covered(&mut net, &small(8), Threshold::All);
    net.run();
    net.abort(0, &small(7));
    // It takes the slot of the other.
    net.publish(0, &small(9));
    assert_eq!(net.events(0), [covered(&small(8), 1)]);
}

/// The request is heard of before the acknowledgement of the push, for which the member had no room.
#[test]
fn a_push_that_is_acknowledged_after_it_was_asked_for_has_not_come() {
    let mut net = Net::new(plain(), 2);
    let (decision, filter) = steered(Decision::Later);
    net.nodes[1].set_filter(CHANNEL, filter);
    let block = small(1);
    net.hold_acks = true;
    net.publish(0, &block);
    net.run();
    *decision.lock().unwrap() = Decision::Fetch(Default::default());
    net.reconsider(1);
    net.hold(0, 1);
    net.run();
    net.hold_acks = false;
    net.ack();
    assert_eq!(counts(&net.nodes[0], &block), [1, 0, 0, 1]);
    net.release(0, 1);
    net.run();
    assert_eq!(counts(&net.nodes[0], &block), [1, 1, 0, 1]);
}

/// With loopback, it has the artifact as well without having fetched it.
#[test]
fn a_member_that_tells_itself_of_what_it_publishes_has_it() {
    for is_dropped in [false, true] {
        let mut net = Net::new(plain(), 2);
        net.nodes[1].set_loopback(true);
        if is_dropped {
            net.nodes[1].set_filter(CHANNEL, steered(Decision::Drop).1);
        }
        let block = large(1);
        net.publish(0, &block);
        if is_dropped {
            net.run();
            assert_eq!(counts(&net.nodes[0], &block), [1, 0, 1, 1]);
        } else {
            net.choke(1, 0);
            net.run();
            net.unchoke(1, 0);
        }
        net.publish(1, &block);
        net.run();
        for at in [0, 1] {
            assert_eq!(counts(&net.nodes[at], &block), [1, 1, 0, 1], "{at} {is_dropped}");
        }
    }
}

/// The member may have asked for it over the connection before, or when another one told of it: a request that
/// comes after the acknowledgement of a push says that the push was in vain.
#[test]
fn a_push_of_what_was_known_is_owed_a_receipt() {
    let mut solo = Solo::new(&config(|_| {}), 2);
    solo.push(0, 0, 1, &small(1));
    assert!(solo.send(0, 1000).is_none(), "QUIC acknowledges it");
    solo.push(1, 0, 1, &small(1));
    assert!(solo.send(1, 1000).is_some());
}
