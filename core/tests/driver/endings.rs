//! The end of a node: who waits for anything is woken and told.

use std::panic::{AssertUnwindSafe, catch_unwind};

use slotcast::broadcast::{Candidate, Decision};
use slotcast::driver::{DriverError, Setup};
use slotcast::error::CallError;

use crate::network::Network;
use crate::subnet::{CHANNEL, Subnet, Waiting, config, ms};

#[test]
fn whoever_waits_when_the_node_shuts_down_is_woken() {
    let mut subnet = Subnet::connected(2, &config());
    let server = subnet.serve(1);
    let route = subnet.route(1);
    let incoming = subnet.route(0).call(subnet.id(1), "x");
    let request = subnet.run(server.next_request()).expect("a request");
    let node = subnet.node(1).clone();
    let channel = subnet.channel(1);
    while node.try_event().is_some() {}

    let mut cancelled = Waiting::new(async { request.cancelled().await });
    let mut next = Waiting::new(async { server.next_request().await.is_none() });
    let mut event = Waiting::new(async { channel.next_event().await });
    let mut node_event = Waiting::new(async { node.next_event().await });
    let mut closed = Waiting::new(async { node.closed().await.is_ok() });
    let mut call = Waiting::new(route.call(subnet.id(0), "x"));
    subnet.elapse(ms(100));
    assert_eq!((cancelled.poll(), next.poll(), event.poll()), (None, None, None));
    assert_eq!((node_event.poll(), closed.poll(), call.poll()), (None, None, None));

    let mut shutdown = Waiting::new(async { node.shutdown().await.is_ok() });
    assert_eq!(shutdown.poll(), None);
    subnet.until("it has ended", |subnet| subnet.has_ended(1));
    assert_eq!((shutdown.poll(), closed.poll()), (Some(true), Some(true)));
    assert_eq!((cancelled.poll(), next.poll(), event.poll()), (Some(()), Some(true), Some(None)));
    assert!(node_event.poll().is_some());
    assert!(matches!(call.poll(), Some(Err(CallError::Closed | CallError::Disconnected))));
    subnet.elapse(ms(100));
    assert!(matches!(subnet.run(incoming), Err(CallError::Disconnected)));
}

#[test]
fn a_node_ends_with_its_last_handle() {
    let mut subnet = Subnet::connected(2, &config());
    let (channel, server) = (subnet.channel(1), subnet.serve(1));
    subnet.nodes[1] = None;
    subnet.elapse(ms(1000));
    assert!(!subnet.has_ended(1), "a channel and a server are handles, too");
    drop(channel);
    subnet.elapse(ms(1000));
    assert!(!subnet.has_ended(1));
    drop(server);
    subnet.until("it has ended", |subnet| subnet.has_ended(1));
    subnet.until("its peer has heard of it", |subnet| subnet.node(0).peers_up().is_empty());
}

/// As with its runtime.
#[test]
fn a_driver_that_is_dropped_leaves_no_handle_waiting() {
    let mut subnet = Subnet::connected(2, &config());
    let server = subnet.serve(1);
    let _unanswered = subnet.route(0).call(subnet.id(1), "x");
    let request = subnet.run(server.next_request()).expect("a request");
    let (node, channel) = (subnet.node(1).clone(), subnet.channel(1));
    while node.try_event().is_some() {}

    let mut cancelled = Waiting::new(async { request.cancelled().await });
    let mut next = Waiting::new(async { server.next_request().await.is_none() });
    let mut event = Waiting::new(async { channel.next_event().await });
    let mut node_event = Waiting::new(async { node.next_event().await });
    let mut closed = Waiting::new(node.closed());
    let mut call = Waiting::new(subnet.route(1).call(subnet.id(0), "x"));
    subnet.elapse(ms(100));
    assert_eq!((cancelled.poll(), next.poll(), event.poll()), (None, None, None));
    assert!(node_event.poll().is_none() && closed.poll().is_none() && call.poll().is_none());

    subnet.drop_driver(1);
    assert_eq!((cancelled.poll(), next.poll(), event.poll()), (Some(()), Some(true), Some(None)));
    assert_eq!(node_event.poll(), Some(None));
    assert!(matches!(closed.poll(), Some(Err(DriverError::Dropped))));
    assert_eq!(call.poll(), Some(Err(CallError::Closed)));
}

#[test]
fn a_panic_in_a_filter_is_told_with_its_message() {
    let network = Network::new(2);
    let mut subnet = Subnet::with(&network, &config(), |_, key, config, topology| {
        let setup = Setup::new(key, config, topology);
        setup.filter(CHANNEL, |_: &Candidate<'_>| -> Decision { panic!("out of luck") })
    });
    let both_are_up = |subnet: &Subnet| (0..2).all(|at| subnet.node(at).peers_up().len() == 1);
    subnet.until("connected", both_are_up);
    subnet.channel(0).publish("x", b"").expect("there is room");
    let panicked = catch_unwind(AssertUnwindSafe(|| subnet.elapse(ms(100))));
    assert!(panicked.is_err(), "the runtime sees the panic, too");
    subnet.drop_driver(1);
    let ended = subnet.run(subnet.node(1).clone().closed());
    assert!(
        matches!(&ended, Err(DriverError::Panic(text)) if **text == *"out of luck"),
        "{ended:?}"
    );
}

/// A node that has ended has no peers, and takes nothing that nobody would ever look at.
#[test]
fn what_an_ended_node_says() {
    let mut subnet = Subnet::connected(2, &config());
    let (channel, route) = (subnet.channel(1), subnet.route(1));
    channel.publish("x", b"").expect("there is room");
    subnet.settle();
    drop(subnet.node(1).shutdown());
    subnet.until("it has ended", |subnet| subnet.has_ended(1));
    assert!(subnet.node(1).peers_up().is_empty());
    assert!(subnet.node(1).stats().connections > 0, "as it was at the end");
    let server = route.serve().expect("it is configured to serve");
    assert!(subnet.run(server.next_request()).is_none());
    drop(server);
    let id = channel.publish("y", b"").expect_err("it has ended");
    assert_eq!(id, slotcast::error::PublishError::Closed);
}

#[test]
fn a_weak_handle_does_not_keep_a_node_running() {
    let mut subnet = Subnet::connected(2, &config());
    let weak = subnet.node(1).downgrade();
    assert_eq!(weak.upgrade().map(|node| node.key_id()), Some(subnet.id(1)));
    subnet.nodes[1] = None;
    subnet.until("it has ended", |subnet| subnet.has_ended(1));
    assert!(weak.upgrade().is_none());
}

/// The runtime may be dropped while the socket is being closed.
#[test]
fn how_a_node_has_ended_is_known_while_its_socket_is_closed() {
    let mut subnet = Subnet::connected(2, &config());
    subnet.network.socket(1).hangs_at_close = true;
    drop(subnet.node(1).shutdown());
    subnet.until("closing", |subnet| subnet.network.socket(1).close_was_polled);
    assert!(!subnet.has_ended(1));
    let refused = subnet.channel(1).publish("x", b"");
    assert_eq!(refused, Err(slotcast::error::PublishError::Closed));
    subnet.drop_driver(1);
    assert!(subnet.run(subnet.node(1).clone().closed()).is_ok());
}
