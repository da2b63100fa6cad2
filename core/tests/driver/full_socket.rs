//! F4, invariant 19: no deadline waits for a socket that takes nothing.

use std::task::Poll;
use std::time::Duration;

use slotcast::error::CallError;

use crate::memory::{CHANNEL, ROUTE, Subnet, config, poll_once};

#[test]
fn a_call_ends_by_its_deadline() {
    let mut subnet = Subnet::connected();
    let _server = subnet.nodes[1].route(ROUTE).unwrap().serve().unwrap();
    subnet.network.socket(0).is_full = true;
    let route = subnet.nodes[0].route(ROUTE).unwrap();
    let begun = subnet.network.elapsed();
    let mut call = route.call_within(subnet.id(1), "x", Duration::from_secs(1));
    let mut result = Poll::Pending;
    subnet.run_until("ended", Duration::from_secs(2), |_| {
        result = poll_once(&mut call);
        result.is_ready()
    });
    assert_eq!(result, Poll::Ready(Err(CallError::DeadlinePassed)));
    let took = subnet.network.elapsed() - begun;
    assert!(took < Duration::from_millis(1_010), "{took:?}");
}

#[test]
fn a_node_shuts_down() {
    let mut subnet = Subnet::connected();
    subnet.network.socket(0).is_full = true;
    subnet.network.socket(1).is_full = true;
    let channel = subnet.nodes[0].channel(CHANNEL).unwrap();
    channel.publish("to be sent", b"").unwrap();
    subnet.elapse(Duration::from_secs(12)); // timers that were set before have fired by now
    drop(subnet.nodes[0].shutdown());
    subnet.run_until("shut down", Duration::from_millis(510), |subnet| subnet.results[0].is_some());
    assert!(subnet.results[0].take().unwrap().is_ok());
}

/// Nothing is heard of a peer that has stopped, and that is noticed.
#[test]
fn a_connection_times_out() {
    let mut subnet = Subnet::connected();
    subnet.network.socket(0).is_full = true;
    subnet.stop(1);
    let idle_timeout = config().transport.idle_timeout;
    subnet.run_until("given up", idle_timeout + Duration::from_secs(1), |subnet| {
        subnet.nodes[0].peers_up().is_empty()
    });
}

/// What comes in is looked at, and told, too.
#[test]
fn artifacts_are_delivered() {
    let mut subnet = Subnet::connected();
    subnet.network.socket(0).is_full = true;
    subnet.nodes[1].channel(CHANNEL).unwrap().publish("arrives", b"").unwrap();
    let inbox = subnet.nodes[0].channel(CHANNEL).unwrap();
    subnet.run_until("delivered", Duration::from_secs(1), |_| inbox.try_event().is_some());
}

/// When the socket takes something again, it all goes on.
#[test]
fn a_short_stop_is_made_up_for() {
    let mut subnet = Subnet::connected();
    subnet.network.socket(0).is_full = true;
    let outbox = subnet.nodes[0].channel(CHANNEL).unwrap();
    outbox.publish(vec![1; 500_000], b"").unwrap();
    subnet.elapse(Duration::from_secs(4));
    let inbox = subnet.nodes[1].channel(CHANNEL).unwrap();
    assert!(inbox.try_event().is_none());
    subnet.network.socket(0).empty();
    subnet.run_until("delivered", Duration::from_secs(2), |_| inbox.try_event().is_some());
    assert_eq!(subnet.nodes[0].stats().connections, 1, "it was the same connection all the time");
}
