//! Members that claim to be several processes, or that another process uses the victim's key: told, at most
//! once in an interval, and nothing else follows.

use super::arena::Arena;
use super::{head, hello_of, ms};
use crate::hostile::frames::{frame, stream};
use slotcast::error::Fault;
use slotcast::node::{Closed, NodeEvent, TWIN_INTERVAL};
use slotcast::wire::{Malformed, StreamHead};

fn count(told: &[NodeEvent], is_it: impl Fn(&NodeEvent) -> bool) -> usize {
    told.iter().filter(|event| is_it(event)).count()
}

#[test]
fn f11_false_warnings_are_told_once_in_an_interval() {
    let mut arena = Arena::greeted();
    let mut sent = 0;
    for _ in 0..300 {
        while let Some(stream) = arena.open() {
            arena.write_to(stream, &head(StreamHead::Twin), true);
            sent += 1;
        }
        arena.elapse(ms(100));
    }
    assert!(sent > 1_000, "{sent}");
    let told = arena.take_told();
    let told_by = arena.hostile_id();
    assert!(told.iter().all(|event| *event == NodeEvent::KeyInUse { told_by }), "{told:?}");
    assert!((3..=4).contains(&told.len()), "once in {TWIN_INTERVAL:?}: {told:?}");
    assert_eq!(arena.stats().faults, 0);
    assert!(arena.is_taken_on());
    arena.assert_unharmed();
}

/// A later minor version may say more behind the head. What has its place elsewhere is a fault.
#[test]
fn l12_frames_behind_a_warning_are_passed_over() {
    let mut arena = Arena::greeted();
    let warning = |frames: &[&[u8]]| stream(StreamHead::Twin, frames);
    arena.write(&warning(&[&frame(77, b"more"), &frame(78, &[0; 5_000])]));
    arena.elapse(ms(100));
    let told_by = arena.hostile_id();
    assert_eq!(arena.take_told(), [NodeEvent::KeyInUse { told_by }]);
    for (what, kind, body, fault) in [
        ("a request", 9, &b""[..], Malformed::Misplaced),
        ("an unknown update", 7, &[0; 100], Malformed::Misplaced),
        ("a long clear", 0, &[0; 100], Malformed::FrameTooLong),
    ] {
        let mut arena = Arena::greeted();
        arena.write(&warning(&[&frame(kind, body)]));
        arena.elapse(ms(100));
        assert_eq!(arena.take_told(), [arena.fault(Fault::Malformed(fault))], "{what}");
    }
}

/// It takes turns as more processes than are remembered, or as two.
#[test]
fn f11_a_member_of_many_incarnations_harms_itself_only() {
    for processes in [2, 4, 5, 20] {
        let mut arena = Arena::greeted();
        let rounds = 100;
        for round in 0..rounds {
            arena.dial_again();
            arena.write(&hello_of(100 + round % processes));
            arena.elapse(ms(300));
        }
        let told = arena.take_told();
        let peer = arena.hostile_id();
        let twins = count(&told, |event| *event == NodeEvent::Twin { peer });
        assert!(twins <= 4, "once in {TWIN_INTERVAL:?}, of {processes}: {told:?}");
        assert_eq!(twins > 0, processes <= 4, "so many are remembered: {processes}");
        // One takes the place of another without a word; of those that are refused, one is connected.
        let is_of_links = |event: &NodeEvent| {
            matches!(event, NodeEvent::Up { .. } | NodeEvent::Down { why: Closed::Superseded, .. })
        };
        assert_eq!(count(&told, |event| !is_of_links(event)), twins, "{told:?}");
        assert_eq!(arena.stats().faults, 0);
        arena.assert_unharmed();
    }
}
