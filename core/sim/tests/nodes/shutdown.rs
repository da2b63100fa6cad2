//! The end of a node.

use slotcast::node::Closed;

use crate::subnet::{Recorded, Subnet, connected, started};
use slotcast_testkit::machines::{artifact, config, ms, small};

fn shut_down(subnet: &mut Subnet, at: usize) -> std::time::Duration {
    let now = subnet.now();
    subnet.with(at, |node| node.shutdown(now));
    subnet.run_until("closed", ms(600), |subnet| subnet.is_closed(at))
}

#[test]
fn peers_are_told_and_the_node_is_closed_within_half_a_second() {
    for at in 0..3 {
        let mut subnet = connected(&config(|_| {}), 3);
        subnet.publish(at, &small(1));
        subnet.settle();
        let took = shut_down(&mut subnet, at);
        assert!(took <= ms(500), "{took:?}");
        let others: Vec<_> = (0..3).filter(|other| *other != at).collect();
        for other in &others {
            assert_eq!(subnet.node_told(*other), [subnet.down(at, Closed::Shutdown)]);
        }
        subnet.kill(at);
        assert!(subnet.is_up(others[0], others[1]));

        subnet.start(at);
        subnet.run_until("back", ms(12_000), Recorded::is_mesh);
    }
}

#[test]
fn a_member_that_cannot_be_reached_holds_nothing_up() {
    for gone in [0, 2] {
        let mut subnet = connected(&config(|_| {}), 3);
        // One was connected, and is silent now; for 0 it is being dialled, too, later.
        subnet.kill(gone);
        subnet.publish(1, &small(1));
        subnet.settle();
        let took = shut_down(&mut subnet, 1);
        assert!(took <= ms(500), "{took:?}");

        // Never connected at all.
        let mut subnet = started(&config(|_| {}), 3);
        subnet.kill(gone);
        subnet.elapse(ms(300));
        let took = shut_down(&mut subnet, 1);
        assert!(took <= ms(500), "{took:?}");
    }
}

#[test]
fn a_node_without_connections_is_closed_at_once() {
    let mut subnet = started(&config(|_| {}), 2);
    subnet.kill(0);
    assert_eq!(shut_down(&mut subnet, 1), ms(0));
    // The dialler has a handshake that goes nowhere.
    let mut subnet = started(&config(|_| {}), 2);
    subnet.kill(1);
    subnet.elapse(ms(10));
    assert_eq!(shut_down(&mut subnet, 0), ms(0));
}

#[test]
fn a_node_that_ends_in_the_middle_of_a_transfer_sends_no_more_of_it() {
    let mut subnet = connected(&config(|_| {}), 2);
    subnet.publish(0, &artifact(1, 4 << 20));
    subnet.elapse(ms(130));
    let before = subnet.sent(0, 1);
    assert!(before > 10_000, "{before}");
    let took = shut_down(&mut subnet, 0);
    assert!(took <= ms(500), "{took:?}");
    assert!(subnet.sent(0, 1) - before < 5000, "{}", subnet.sent(0, 1) - before);
    assert_eq!(subnet.node_told(1), [subnet.down(0, Closed::Shutdown)]);
}

#[test]
fn a_node_that_ends_takes_no_one_new() {
    let mut subnet = started(&config(|_| {}), 2);
    let now = subnet.now();
    subnet.with(1, |node| node.shutdown(now));
    subnet.elapse(ms(3000));
    assert_eq!((subnet.peers_up(0), subnet.peers_up(1)), (0, 0));
    assert!(subnet.is_closed(1));
}
