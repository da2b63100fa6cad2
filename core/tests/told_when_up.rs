//! What a member that has just come up is told first.

use slotcast_testkit::machines::{Frame, Solo, config, ms, small};

/// What was published while it was away has not waited for it.
#[test]
fn who_comes_up_is_told_the_oldest_first_unless_it_waits_then() {
    for (waits_ms, is_oldest_first) in [(0, true), (250, true), (251, false)] {
        let mut solo = Solo::new(&config(|_| {}), 1);
        solo.down(0);
        let mut ids: Vec<_> = (0..20).map(|number| small(number).id()).collect();
        (0..20).for_each(|number| solo.publish(&small(number)));
        solo.elapse(ms(10_000));
        solo.up(0);
        solo.elapse(ms(waits_ms));
        let told: Vec<_> = solo.sent(0).iter().filter_map(Frame::told).collect();
        if !is_oldest_first {
            ids.reverse();
        }
        assert_eq!(told, ids, "{waits_ms} ms");
    }
}
