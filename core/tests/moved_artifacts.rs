//! Artifacts that a member advertises in one slot after the other, or in several at once. (What an
//! update costs then: `broadcast::tables`, unit tests.)

use slotcast::artifact::Artifact;
use slotcast::broadcast::Taken;
use slotcast::error::Fault;
use slotcast::id::Slot;
use slotcast_testkit::machines::{CHANNEL, Net, Solo, advert, config, push, small};

/// Every change takes a version, and a move takes two of them.
#[test]
fn f16_an_artifact_in_two_slots_at_once_is_a_fault_and_changes_nothing() {
    let mut solo = Solo::new(&config(|_| {}), 2);
    let (block, other) = (small(1), small(2));
    solo.push(0, 3, 10, &block);
    solo.push(0, 4, 1, &other);
    solo.expect_delivered([&block, &other]);
    for version in [9, 10, 11] {
        for update in [push(4, version, &block), advert(4, version, 0, false, &block)] {
            assert_eq!(solo.update(0, &update), Err(Fault::ArtifactInTwoSlots));
        }
        assert_eq!(solo.heard(0), [(3, block.id()), (4, other.id())]);
        assert!(solo.events().is_empty());
    }
    // The same slot, another peer, an overtaken update and another epoch contradict nothing.
    solo.push(0, 3, 11, &block);
    solo.push(1, 4, 11, &block);
    solo.push(0, 4, 1, &block);
    solo.up(0);
    solo.push(0, 4, 11, &block);
    assert_eq!(solo.heard(0), [(4, block.id())]);
}

/// All slots of a member that names one artifact in each of them, with versions that it can have.
#[test]
fn f16_only_the_newest_of_many_slots_with_one_artifact_counts() {
    let mut solo = Solo::new(&config(|_| {}), 1);
    let block = small(1);
    // Each other slot is overtaken by the one before it.
    for slot in 0..1000_u32 {
        solo.push(0, slot ^ 1, 1 + 2 * u64::from(slot ^ 1), &block);
        let newest = slot | 1;
        assert_eq!(solo.heard(0), [(newest, block.id())]);
    }
    solo.expect_delivered([&block]);
    (0..999).for_each(|slot| solo.clear(0, slot, 5000));
    assert!(solo.machine.is_advertised(CHANNEL, &block.id()) && solo.events().is_empty());
    solo.clear(0, 999, 5000);
    assert_eq!(solo.machine.known_count(), 1, "until its end was told");
    assert_eq!(solo.events().len(), 1);
    assert_eq!(solo.machine.known_count(), 0);
}

/// An artifact that is stale in one slot and is advertised in another one has moved.
#[test]
fn f16_an_artifact_of_an_earlier_epoch_is_not_kept_beside_its_new_slot() {
    let mut solo = Solo::new(&config(|_| {}), 1);
    let block = small(1);
    for slot in 0..10 {
        solo.up(0);
        solo.push(0, slot, 1, &block);
    }
    solo.expect_delivered([&block]);
    solo.clear(0, 9, 2);
    assert!(!solo.machine.is_advertised(CHANNEL, &block.id()));
}

const SLOTS: u32 = 32;

/// A member that publishes an artifact in each of its slots in turn, while the slots that it left
/// change again before their changes can be sent: its peer is sent the artifact `SLOTS` times, and
/// nothing else.
fn moved_through_all_slots(moved: &Artifact) -> Net {
    let mut net = Net::new(config(|channel| channel.slots_max = SLOTS), 2);
    net.choke(0, 1);
    let others: Vec<_> = (1..u64::from(SLOTS)).map(small).collect();
    for slot in 0..SLOTS as usize {
        others[..slot].iter().for_each(|other| net.publish(0, other));
        net.publish(0, moved);
        others[..slot].iter().for_each(|other| net.abort(0, other));
        assert_eq!(net.nodes[0].own_slot(CHANNEL, Slot(slot as u32)), Some(moved.id()));
        // The slots below change again behind the artifact.
        others[..slot].iter().for_each(|other| net.publish(0, other));
        let (id, _) = net.send(0, 1, 1).expect("the oldest change");
        net.deliver(id, usize::MAX);
        others[..slot].iter().for_each(|other| net.abort(0, other));
        net.abort(0, moved);
    }
    net.publish(0, moved);
    net
}

/// So no number of slots with one artifact proves anything against a member.
#[test]
fn f16_an_honest_member_may_show_an_artifact_in_all_of_its_slots() {
    let moved = small(100);
    let mut net = moved_through_all_slots(&moved);
    let told = net.frames(0, 1).iter().filter(|frame| frame.told() == Some(moved.id())).count();
    assert_eq!(told, SLOTS as usize, "and no fault: deliveries are without");
    assert_eq!(net.heard(1, 0), [(SLOTS - 1, moved.id())]);
    net.unchoke(0, 1);
    net.run();
    assert_eq!(net.heard(1, 0), [(0, moved.id())]);
}

/// The updates of an honest member in any order are no fault, and lead to its table.
#[test]
fn f16_moves_that_overtake_each_other_are_no_fault() {
    for seed in 0..200_u64 {
        let mut net = Net::new(config(|channel| channel.slots_max = SLOTS), 2);
        (net.hold_acks, net.cut) = (true, 1 + seed as usize * 7);
        let (mut state, mut active) = (seed, Vec::new());
        let mut below = |end: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as usize % end
        };
        for _ in 0..100 {
            let block = small(below(6) as u64);
            match active.iter().position(|active| *active == block) {
                Some(at) => net.abort(0, &active.swap_remove(at)),
                None => {
                    net.publish(0, &block);
                    active.push(block);
                }
            }
            if below(3) > 0 {
                net.send(0, 1, 1 + below(400));
            }
            let streams = net.streams(0, 1);
            if below(3) == 0 && !streams.is_empty() {
                net.deliver(streams[below(streams.len())], usize::MAX);
            }
        }
        while let streams = net.streams(0, 1)
            && !streams.is_empty()
        {
            net.deliver(streams[below(streams.len())], usize::MAX);
        }
        net.hold_acks = false;
        net.run();
        let slots = |slot| Some((slot, net.nodes[0].own_slot(CHANNEL, Slot(slot))?));
        let own: Vec<_> = (0..SLOTS).filter_map(slots).collect();
        assert_eq!(net.heard(1, 0), own, "seed {seed}");
    }
}

/// An overtaken push still brings its bytes.
#[test]
fn a_push_into_a_slot_that_the_artifact_has_left_is_good_for_its_bytes() {
    let mut solo = Solo::new(&config(|_| {}), 1);
    let block = small(1);
    solo.advert(0, 5, 9, &block);
    solo.asked(0, &block, 0..1);
    assert_eq!(solo.update(0, &push(2, 3, &block)), Ok(Taken::Done));
    assert_eq!(solo.heard(0), [(5, block.id())]);
    solo.expect_delivered([&block]);
}
