//! Who is behind in a channel. Pure machines, no sockets.

use core::time::Duration;

use slotcast::broadcast::Lag;
use slotcast::config::ChannelConfig;
use slotcast_testkit::machines::{Solo, config, peer, small};

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

const fn lag(at: usize, is_behind: bool) -> Option<Lag> {
    Some(Lag { peer: peer(at), channel: 0, is_behind })
}

fn solo() -> Solo {
    Solo::new(&config(|channel: &mut ChannelConfig| channel.freshness.behind_after = seconds(3)), 2)
}

/// Nothing is sent for so long. A node is polled at least once in a second.
fn wait(solo: &mut Solo, count: u64) {
    (0..count).for_each(|_| solo.elapse(seconds(1)));
}

/// The transport has no room for one of two members.
#[test]
fn a_member_that_is_sent_nothing_is_behind_until_it_was_sent_all() {
    let mut solo = solo();
    for number in 0..40 {
        solo.publish(&small(number));
        solo.sent(1);
        solo.elapse(Duration::from_millis(100));
        // Late from the first look on at which the first change is older than 250 ms.
        assert!(number > 30 || solo.machine.poll_lag().is_none());
    }
    solo.elapse(seconds(1));
    assert_eq!(solo.machine.poll_lag(), lag(0, true));
    assert_eq!(solo.machine.poll_lag(), None, "told once");
    solo.elapse(seconds(5));
    assert_eq!(solo.machine.poll_lag(), None);
    solo.sent(0);
    assert_eq!(solo.machine.poll_lag(), lag(0, false));
    assert_eq!(solo.machine.poll_lag(), None);
}

#[test]
fn what_passes_before_it_was_told_is_not_told() {
    let mut solo = solo();
    solo.publish(&small(1));
    wait(&mut solo, 6);
    solo.sent(0);
    solo.sent(1);
    assert_eq!(solo.machine.poll_lag(), None);
}

#[test]
fn who_is_down_is_not_behind_and_begins_anew() {
    let mut solo = solo();
    solo.publish(&small(1));
    wait(&mut solo, 6);
    solo.sent(1);
    solo.down(0);
    assert_eq!(solo.machine.poll_lag(), None);
    solo.up(0);
    wait(&mut solo, 2);
    assert_eq!(solo.machine.poll_lag(), None, "it has not been up for so long");
    wait(&mut solo, 4);
    assert_eq!(solo.machine.poll_lag(), lag(0, true));
}
