//! Turns of flows that turn out to have nothing to send.

use slotcast::config::Class;
use slotcast::sched::Schedule;

#[test]
fn a_flow_that_has_nothing_after_all_gives_its_turn_away() {
    let mut schedule = Schedule::new([Class::Normal; 2]);
    (0..2).for_each(|flow| schedule.activate(flow));
    let first = schedule.next_flow().expect("both have something");
    schedule.idle(first);
    let other = schedule.next_flow().expect("one has something");
    assert_ne!(first, other);
    schedule.activate(first);
    schedule.charge(other, 1000);
    assert_eq!(schedule.next_flow(), Some(other), "its turn is not used up");
}

#[test]
fn a_flow_that_has_nothing_after_all_keeps_no_debt() {
    let mut schedule = Schedule::new([Class::Normal; 2]);
    schedule.activate(0);
    assert_eq!(schedule.next_flow(), Some(0));
    schedule.charge(0, 10 << 20);
    schedule.activate(1);
    assert_eq!(schedule.next_flow(), Some(1), "the other one's turn, since this one has a debt");
    schedule.idle(1);
    assert_eq!(schedule.next_flow(), Some(0));
    schedule.idle(0);
    // Both begin anew: each has its turn again.
    (0..2).for_each(|flow| schedule.activate(flow));
    assert_eq!(schedule.next_flow(), Some(0));
    schedule.charge(0, 64 << 10);
    assert_eq!(schedule.next_flow(), Some(1));
    schedule.charge(1, 64 << 10);
    assert_eq!(schedule.next_flow(), Some(0));
}
