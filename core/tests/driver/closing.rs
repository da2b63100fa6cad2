//! What happens to the socket before the end of a node is told.

use slotcast::driver::CLOSE_MAX;

use crate::subnet::{Subnet, Waiting, config, ms};

#[test]
fn the_socket_is_flushed_and_dropped_before_the_end_is_told() {
    let mut subnet = Subnet::connected(2, &config());
    let node = subnet.node(0).clone();
    let mut shutdown = Waiting::new(node.shutdown());
    subnet.until("shut down", |subnet| {
        let is_done = shutdown.poll().is_some();
        let socket = subnet.network.socket(0);
        assert!(!is_done || socket.is_dropped);
        assert!(!socket.is_dropped || socket.close_was_polled);
        is_done
    });
    // What it took to be sent has left: the other node knows at once.
    subnet.settle();
    assert_eq!(subnet.node(1).peers_up(), []);
}

#[test]
fn a_socket_that_does_not_close_is_given_up() {
    let mut subnet = Subnet::connected(2, &config());
    subnet.network.socket(0).hangs_at_close = true;
    drop(subnet.node(0).shutdown());
    subnet.until("closing", |subnet| subnet.network.socket(0).close_was_polled);
    subnet.elapse(CLOSE_MAX - ms(1));
    assert!(!subnet.has_ended(0), "it waits");
    subnet.elapse(ms(1));
    assert!(subnet.has_ended(0) && subnet.network.socket(0).is_dropped);
}

#[test]
fn a_driver_that_is_dropped_tells_the_end_and_drops_the_socket() {
    let mut subnet = Subnet::connected(2, &config());
    let node = subnet.node(0).clone();
    let mut closed = Waiting::new(node.closed());
    assert!(closed.poll().is_none());
    subnet.drop_driver(0);
    assert!(subnet.network.socket(0).is_dropped);
    assert!(closed.poll().is_some());
}
