//! Freshness under pressure: a slow peer gets the newest content of each slot, and no backlog.

use slotcast::artifact::Artifact;

use crate::subnet::{Recorded, Subnet, Told, connected, limit};
use slotcast_testkit::machines::{artifact, config, ms, small};

/// Pushed, and a little less than a window in number.
const PUSH: usize = 10_000;

/// Publishes generation after generation of 4 artifacts, each in place of the one before.
fn turn(subnet: &mut Subnet, generation: u64) {
    for slot in 0..4 {
        if generation > 0 {
            subnet.abort(0, &content(generation - 1, slot));
        }
        subnet.publish(0, &content(generation, slot));
    }
}

fn content(generation: u64, slot: u64) -> Artifact {
    artifact(10 * generation + slot, PUSH)
}

#[test]
fn after_a_partition_only_the_newest_content_is_sent() {
    let mut config = config(|_| {});
    config.transport.initial_window = 14_720;
    let mut subnet = connected(&config, 2);
    subnet.cut(&[0], &[1]);
    let before = subnet.sent(0, 1);
    for generation in 0..300 {
        turn(&mut subnet, generation);
        // One that stays keeps what was encoded with it: no reset would save the rest.
        subnet.publish(0, &small(5000 + generation));
        subnet.elapse(ms(10));
    }
    let during = subnet.sent(0, 1) - before;
    assert!(during < 60_000, "a window, and probes: {during}");
    subnet.heal();
    let newest = [0, 1, 2, 3].map(|slot| content(299, slot));
    subnet.run_until("the newest", ms(6000), |subnet| {
        newest.iter().all(|block| subnet.has(1, block))
    });
    subnet.settle();
    let after = subnet.sent(0, 1) - before - during;
    // 12 MB have been published; 130 KB are what stays.
    assert!(after < 200_000, "{after}");
    let stays = (0..300).map(|generation| small(5000 + generation));
    let stays: Vec<_> = stays.chain((0..4).map(|slot| content(299, slot))).collect();
    let mut told = subnet.told(1);
    for block in &stays {
        let at = told.iter().position(|told| *told == Told::Delivered(block.id()));
        told.remove(at.expect("delivered"));
    }
    assert!(told.len() <= 8, "what had left before, and its end: {told:?}");
    subnet.assert_peace();
}

#[test]
fn after_much_that_was_aborted_the_next_takes_one_way() {
    let mut subnet = connected(&config(|_| {}), 2);
    subnet.cut(&[0], &[1]);
    (0..100).for_each(|generation| {
        turn(&mut subnet, generation);
        subnet.elapse(ms(10));
    });
    (0..4).for_each(|slot| subnet.abort(0, &content(99, slot)));
    subnet.heal();
    subnet.elapse(ms(2500));
    for number in 0..10 {
        subnet.publish(0, &small(number));
        let took = subnet.run_until("heard", ms(5000), |subnet| subnet.has(1, &small(number)));
        assert!(took <= ms(20), "{took:?}");
        subnet.elapse(ms(100));
    }
    subnet.assert_peace();
}

#[test]
fn on_a_slow_link_what_arrives_is_new() {
    let mut subnet = connected(&config(|_| {}), 2);
    // 125 KB/s, and 400 KB/s to be published: the excess must not queue up.
    subnet.network.each_link(|_, _, link| limit(link, 125_000));
    let before = subnet.sent(0, 1);
    for generation in 0..100 {
        turn(&mut subnet, generation);
        subnet.elapse(ms(100));
    }
    let arrived = subnet.delivered(1).len();
    assert!(arrived > 30, "{arrived}");
    let newest = [0, 1, 2, 3].map(|slot| content(99, slot));
    let took = subnet.run_until("the newest", ms(6000), |subnet| {
        newest.iter().all(|block| subnet.has(1, block))
    });
    // Window and slack at this rate, the newest 40 KB themselves, and a loss.
    assert!(took <= ms(1200), "{took:?}");
    subnet.settle();
    let sent = subnet.sent(0, 1) - before;
    assert!(sent < 125_000 * 12, "{sent}");
    subnet.assert_peace();
}

#[test]
fn l10_one_slow_reader_slows_nobody_else_down() {
    let mut subnet = connected(&config(|_| {}), 4);
    limit(subnet.network.link(0, 3), 20_000);
    for generation in 0..50 {
        turn(&mut subnet, generation);
        let newest = [0, 1, 2, 3].map(|slot| content(generation, slot));
        subnet.run_until("the fast ones have it", ms(80), |subnet| {
            [1, 2].iter().all(|at| newest.iter().all(|block| subnet.has(*at, block)))
        });
        subnet.elapse(ms(20));
    }
    assert_eq!(subnet.peers_up(3), 3);
    let newest = [0, 1, 2, 3].map(|slot| content(49, slot));
    subnet.run_until("the slow one has the newest", ms(20_000), |subnet| {
        newest.iter().all(|block| subnet.has(3, block))
    });
    subnet.assert_peace();
}
