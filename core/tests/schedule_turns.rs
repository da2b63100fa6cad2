//! Turns of flows that turn out to have nothing to send.

use slotcast::config::Class;
use slotcast::sched::Schedule;

#[test]
fn a_flow_that_has_nothing_after_all_gives_its_turn_away() {
    let mut schedule = Schedule::new([Class::Normal; 2]);
    let first = schedule.next(|_| true).expect("both have something");
    schedule.charge(first, 0, true);
    let other = schedule.next(|_| true).expect("both have something");
    assert_ne!(first, other);
    schedule.charge(other, 1000, false);
    assert_eq!(schedule.next(|_| true), Some(other), "its turn is not used up");
}

#[test]
fn a_flow_that_has_nothing_after_all_keeps_no_debt() {
    let mut schedule = Schedule::new([Class::Normal; 2]);
    assert_eq!(schedule.next(|flow| flow == 0), Some(0));
    schedule.charge(0, 10 << 20, false);
    schedule.charge(0, 0, true);
    // Both begin anew: the next turn is the other's, and then its own again.
    assert_eq!(schedule.next(|_| true), Some(1));
    schedule.charge(1, 64 << 10, false);
    assert_eq!(schedule.next(|_| true), Some(0));
}
