//! A sender's slots and versions, and what a receiver makes of them in whatever order they come.

use slotcast::broadcast::{Event, Taken};
use slotcast::error::Fault;
use slotcast::id::{ArtifactId, Slot, Version};
use slotcast::wire::{ChunkBits, Update};
use slotcast_testkit::machines::{
    CHANNEL, Frame, Net, Order, Solo, artifact, config, delivered, node, small,
};

#[test]
fn s1_an_artifact_reaches_all_peers_in_one_stream_each() {
    let mut net = Net::new(config(|_| {}), 6);
    let block = small(1);
    net.publish(0, &block);
    net.run();
    for at in 1..6 {
        assert_eq!(net.delivered(at), [block.id()]);
        let push = Frame::Push { slot: 0, version: 1, id: block.id() };
        assert_eq!(net.frames(0, at), [push]);
        assert_eq!(net.heard(at, 0), [(0, block.id())]);
    }
    assert_eq!(net.sent.len(), 5, "and nobody else says anything");
}

#[test]
fn s4_the_version_grows_by_one_with_each_publish_and_each_abort() {
    let mut solo = Solo::new(&config(|_| {}), 1);
    let (first, second) = (small(1), small(2));
    solo.publish(&first);
    let push = |slot, version, id| Frame::Push { slot, version, id };
    assert_eq!(solo.sent(0), [push(0, 1, first.id())]);
    solo.publish(&second);
    assert_eq!(solo.sent(0), [push(1, 2, second.id())]);
    solo.abort(&first);
    assert_eq!(solo.sent(0), [Frame::Clear { slot: 0, version: 3 }]);
    solo.publish(&first);
    assert_eq!(solo.sent(0), [push(0, 4, first.id())]);
}

/// Unlike in the reference, where the commit id grows: here nothing has changed, so nothing does.
#[test]
fn s5_an_artifact_published_twice_is_sent_once() {
    let mut solo = Solo::new(&config(|_| {}), 1);
    let (block, other) = (small(1), small(2));
    solo.publish(&block);
    solo.publish(&block);
    assert_eq!(solo.machine.active_count(CHANNEL), 1);
    assert_eq!(solo.sent(0), [Frame::Push { slot: 0, version: 1, id: block.id() }]);
    solo.publish(&block);
    solo.publish(&other);
    assert_eq!(solo.sent(0), [Frame::Push { slot: 1, version: 2, id: other.id() }]);
    solo.abort(&block);
    assert!(!solo.machine.abort(CHANNEL, &block.id()), "once is enough");
}

/// The reference reuses the slot that was freed last. The lowest one keeps the tables short.
#[test]
fn s7_the_lowest_free_slot_is_used_first_over_many_words_of_slots() {
    let mut solo = Solo::new(&config(|channel| channel.slots_max = 200), 1);
    let blocks: Vec<_> = (0..200).map(|number| artifact(number, 10)).collect();
    blocks.iter().for_each(|block| solo.publish(block));
    for (at, block) in blocks.iter().enumerate() {
        assert_eq!(solo.machine.own_slot(CHANNEL, Slot(at as u32)), Some(block.id()));
    }
    for at in [130, 3, 64, 199] {
        solo.abort(&blocks[at]);
    }
    for (number, at) in [(300, 3), (301, 64), (302, 130), (303, 199)] {
        let block = artifact(number, 10);
        solo.publish(&block);
        assert_eq!(solo.machine.own_slot(CHANNEL, Slot(at)), Some(block.id()));
    }
    assert_eq!(solo.machine.active_count(CHANNEL), 200);
}

#[test]
fn a_slot_changed_many_times_before_it_is_sent_is_sent_once_at_its_newest_content() {
    let mut net = Net::new(config(|_| {}), 2);
    let kept = small(0);
    net.publish(0, &kept);
    for number in 1..1000 {
        net.publish(0, &small(number));
        net.abort(0, &small(number));
    }
    net.publish(0, &small(1000));
    net.run();
    let push = |slot, version, number| Frame::Push { slot, version, id: small(number).id() };
    assert_eq!(net.frames(0, 1), [push(0, 1, 0), push(1, 2000, 1000)]);
}

#[test]
fn r1_only_a_higher_version_changes_a_slot() {
    let mut solo = Solo::new(&config(|_| {}), 1);
    let (held, late) = (small(1), small(2));
    solo.push(0, 3, 10, &held);
    solo.push(0, 3, 9, &late);
    solo.push(0, 3, 10, &late);
    solo.clear(0, 3, 9);
    solo.clear(0, 3, 10);
    assert_eq!(solo.heard(0), [(3, held.id())]);
    assert_eq!(solo.machine.known_count(), 1);
    solo.expect_delivered([&held]);
    solo.push(0, 3, 11, &late);
    assert_eq!(solo.heard(0), [(3, late.id())]);
    assert_eq!(delivered(&solo.events()), [late.id()]);
}

/// The reference compares connection ids. Here streams end with their connection, and the versions
/// of a new epoch begin anew: what counts is that lower ones are accepted then.
#[test]
fn r1_a_new_epoch_accepts_lower_versions() {
    let mut solo = Solo::new(&config(|_| {}), 1);
    let (before, after) = (small(1), small(2));
    solo.push(0, 0, 1000, &before);
    solo.down(0);
    solo.up(0);
    solo.push(0, 0, 1, &after);
    assert_eq!(solo.heard(0), [(0, after.id())]);
    solo.expect_delivered([&before, &after]);
}

/// The reference's order of the two may vary; here what is new comes in its artifact's order.
#[test]
fn r3_r4_an_overwritten_slot_ends_the_old_artifact_and_reports_both() {
    let mut solo = Solo::new(&config(|_| {}), 1);
    let (old, new) = (small(1), small(2));
    solo.push(0, 0, 1, &old);
    solo.expect_delivered([&old]);
    solo.push(0, 0, 2, &new);
    let events = solo.events();
    assert_eq!(delivered(&events), [new.id()]);
    assert!(events.contains(&Event::Expired { id: old.id() }) && events.len() == 2, "{events:?}");
    assert_eq!(solo.machine.known_count(), 1);
}

#[test]
fn r5_two_peers_with_one_artifact_make_one_fetch_and_one_delivery() {
    let mut solo = Solo::new(&config(|channel| channel.push_bytes_max = 0), 2);
    let block = small(1);
    solo.advert(0, 0, 1, &block);
    solo.advert(1, 0, 1, &block);
    let request = solo.asked(0, &block, 0..1);
    assert_eq!(solo.sent(1), []);
    assert_eq!(solo.machine.known_count(), 1);
    solo.chunks(0, request, &block, 0..1);
    solo.advert(1, 1, 3, &block);
    solo.expect_delivered([&block]);
    assert_eq!(solo.sent(0), []);
    assert_eq!(solo.sent(1), []);
}

#[test]
fn r5_two_peers_that_push_one_artifact_make_one_delivery() {
    let mut solo = Solo::new(&config(|_| {}), 2);
    let block = small(1);
    solo.push(0, 0, 1, &block);
    solo.push(1, 5, 1, &block);
    solo.expect_delivered([&block]);
    solo.clear(0, 0, 2);
    assert_eq!(solo.events(), [Event::Withdrawn { id: block.id(), by: node(0) }]);
    solo.clear(1, 5, 2);
    assert_eq!(solo.events(), [Event::Expired { id: block.id() }]);
}

/// The request's end is still to be sent when the artifact is wanted again.
#[test]
fn r6_an_advert_that_comes_while_its_fetch_ends_starts_another() {
    let mut solo = Solo::new(&config(|channel| channel.push_bytes_max = 0), 1);
    let block = small(1);
    solo.advert(0, 0, 1, &block);
    let first = solo.asked(0, &block, 0..1);
    solo.clear(0, 0, 2);
    solo.advert(0, 0, 3, &block);
    let frames = solo.sent(0);
    let [Frame::Cancel(cancelled), Frame::Fetch { request, .. }] = frames[..] else {
        panic!("cancelled, then asked again: {frames:?}");
    };
    assert_eq!(cancelled, first.0);
    solo.chunks(0, slotcast::broadcast::RequestId(request), &block, 0..1);
    solo.expect_delivered([&block]);
}

fn has_expired(solo: &mut Solo, id: ArtifactId) -> bool {
    solo.events().contains(&Event::Expired { id })
}

/// Unlike in the reference, which waits for both: a member has an artifact in one slot at a time, so
/// the newer of two has taken it over, and the older one counts no more.
/// What a later version says of a slot is not understood, but that the slot holds something else now is.
#[test]
fn l12_an_unknown_update_or_a_part_of_another_artifact_ends_what_a_slot_held() {
    let (whole, part) = (small(1), artifact(2, 100_000));
    let version = Version(5);
    let unknown = |slot, version| Update::Unknown { kind: 6, slot: Slot(slot), version };
    let partial = |streamed| Update::Partial {
        slot: Slot(0),
        version,
        hops: 0,
        streamed,
        spread: false,
        advert: part.advert(),
        have: ChunkBits(&[1]),
    };
    let updates = [(unknown(0, version), false), (partial(false), false), (partial(true), true)];
    for (update, is_streamed) in updates {
        let mut solo = Solo::new(&config(|_| {}), 1);
        solo.push(0, 0, 4, &whole);
        solo.expect_delivered([&whole]);
        assert_eq!(solo.update(0, &unknown(0, Version(3))), Ok(Taken::Done));
        assert_eq!(solo.events(), [], "it is older");
        let taken = solo.update(0, &update).expect("no fault");
        assert_eq!(matches!(taken, Taken::Chunks(_)), is_streamed);
        assert!(has_expired(&mut solo, whole.id()));
        solo.push(0, 0, 4, &whole);
        assert_eq!(solo.events(), [], "overtaken");
        assert_eq!(solo.update(0, &unknown(1024, version)), Err(Fault::SlotBeyondBound));
    }
}

#[test]
fn r9_one_id_in_two_slots_expires_after_the_newer_is_overwritten() {
    for newer_first in [false, true] {
        let mut solo = Solo::new(&config(|_| {}), 1);
        let moved = small(1);
        let pushes = [(0, 1), (1, 3)];
        for (slot, version) in if newer_first { [pushes[1], pushes[0]] } else { pushes } {
            solo.push(0, slot, version, &moved);
        }
        solo.expect_delivered([&moved]);
        assert_eq!(solo.heard(0), [(1, moved.id())]);
        solo.push(0, 0, 4, &small(2));
        solo.expect_delivered([&small(2)]);
        assert!(solo.machine.is_advertised(CHANNEL, &moved.id()));
        solo.push(0, 1, 5, &small(3));
        assert!(!solo.machine.is_advertised(CHANNEL, &moved.id()));
        assert!(has_expired(&mut solo, moved.id()));
    }
}

#[test]
fn r10_a_slot_overwritten_with_an_id_of_another_slot_ends_only_what_it_held() {
    let mut solo = Solo::new(&config(|_| {}), 1);
    let (kept, replaced) = (small(1), small(2));
    solo.push(0, 0, 1, &kept);
    solo.push(0, 1, 2, &replaced);
    solo.expect_delivered([&kept, &replaced]);
    solo.push(0, 1, 4, &kept);
    assert_eq!(solo.heard(0), [(1, kept.id())]);
    assert!(has_expired(&mut solo, replaced.id()));
    solo.clear(0, 0, 3);
    assert!(solo.events().is_empty(), "the other slot still holds it");
    solo.clear(0, 1, 5);
    assert!(has_expired(&mut solo, kept.id()));
}

#[test]
fn r11_the_same_id_in_the_same_slot_only_moves_the_version() {
    let mut solo = Solo::new(&config(|_| {}), 1);
    let block = small(1);
    solo.push(0, 0, 1, &block);
    solo.expect_delivered([&block]);
    solo.push(0, 0, 5, &block);
    assert!(solo.events().is_empty());
    solo.clear(0, 0, 4);
    assert_eq!(solo.heard(0), [(0, block.id())], "overtaken by version 5");
    solo.clear(0, 0, 6);
    assert_eq!(solo.heard(0), []);
}

#[test]
fn l6_a_cleared_slot_stays_clear_when_the_overtaken_push_arrives() {
    let mut net = Net::new(config(|_| {}), 2);
    let block = small(1);
    net.hold(0, 1);
    net.hold_acks = true;
    net.publish(0, &block);
    net.publish(0, &small(2));
    net.run();
    // In one batch with another artifact, so that the abort does not reset it.
    net.abort(0, &block);
    net.order = Order::Reversed;
    net.run();
    let [push, clear] = net.streams(0, 1)[..] else { panic!("two streams") };
    net.deliver(clear, usize::MAX);
    assert_eq!(net.heard(1, 0), []);
    net.deliver(push, usize::MAX);
    assert_eq!(net.heard(1, 0), [(1, small(2).id())]);
    assert_eq!(net.delivered(1), [small(2).id()]);
}

#[test]
fn any_order_of_delivery_in_any_pieces_leads_to_the_senders_table() {
    for seed in 0..40 {
        let mut net = Net::new(config(|channel| channel.push_bytes_max = 150), 3);
        net.order = Order::Shuffled(seed);
        net.cut = 1 + seed as usize * 7;
        for number in 0..40 {
            // Every other one is pushed, and every third is aborted some time later.
            let block = |number: u64| artifact(number, 100 + number as usize % 2 * 100);
            net.publish(0, &block(number));
            if number % 3 == 2 {
                net.abort(0, &block(number - 2));
            }
            if (number + seed) % 4 == 0 {
                net.send(0, 1, 300);
                net.streams(0, 1).last().copied().inspect(|id| net.deliver(*id, 90));
            }
        }
        net.run();
        for at in [1, 2] {
            let slots = |slot| Some((slot, net.nodes[0].own_slot(CHANNEL, Slot(slot))?));
            let own: Vec<_> = (0..100).filter_map(slots).collect();
            assert_eq!(net.heard(at, 0), own, "seed {seed}");
            let mut ids: Vec<_> = own.into_iter().map(|(_, id)| id).collect();
            let mut seen = net.delivered(at);
            ids.sort();
            seen.sort();
            assert_eq!(seen, ids, "seed {seed}");
        }
    }
}
