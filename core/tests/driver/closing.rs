//! What happens to the socket before the end of a node is told.

use std::pin::pin;
use std::time::Duration;

use slotcast::driver::CLOSE_MAX;

use crate::memory::{Subnet, poll_once};

#[test]
fn the_socket_is_flushed_and_dropped_before_the_end_is_told() {
    let mut subnet = Subnet::connected();
    let node = subnet.nodes[0].clone();
    let network = subnet.network.clone();
    let mut shutdown = pin!(node.shutdown());
    subnet.run_until("shut down", Duration::from_secs(1), |_| {
        let is_done = poll_once(&mut shutdown).is_ready();
        let socket = network.socket(0);
        assert!(!is_done || socket.is_dropped);
        assert!(!socket.is_dropped || socket.close_was_polled);
        is_done
    });
    // What it took to be sent has left: the other node knows at once.
    subnet.run_until("told", Duration::from_millis(1), |subnet| {
        subnet.nodes[1].peers_up().is_empty()
    });
}

#[test]
fn a_socket_that_does_not_close_is_given_up() {
    let mut subnet = Subnet::connected();
    subnet.network.socket(0).hangs_at_close = true;
    drop(subnet.nodes[0].shutdown());
    subnet.run_until("closing", Duration::from_secs(1), |subnet| {
        subnet.network.socket(0).close_was_polled
    });
    subnet.elapse(CLOSE_MAX - Duration::from_millis(1));
    assert!(subnet.results[0].is_none(), "it waits");
    subnet.run_until("ended", Duration::from_millis(2), |subnet| subnet.results[0].is_some());
    assert!(subnet.network.socket(0).is_dropped);
}

#[test]
fn a_driver_that_is_dropped_tells_the_end_and_drops_the_socket() {
    let mut subnet = Subnet::connected();
    let node = subnet.nodes[0].clone();
    subnet.drop_driver(0);
    assert!(subnet.network.socket(0).is_dropped);
    assert!(poll_once(&mut pin!(node.closed())).is_ready());
}
