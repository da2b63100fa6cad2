//! The end of a node: who waits for anything is woken and told.

use slotcast::error::CallError;

use crate::subnet::{Subnet, Waiting, config, ms};

#[test]
fn whoever_waits_when_the_node_shuts_down_is_woken() {
    let mut subnet = Subnet::connected(2, &config());
    let server = subnet.serve(1);
    let route = subnet.route(1);
    let incoming = subnet.route(0).call(subnet.id(1), "x");
    let request = subnet.run(server.next()).expect("a request");
    let node = subnet.node(1).clone();
    let channel = subnet.channel(1);
    while node.try_event().is_some() {}

    let mut cancelled = Waiting::new(async { request.cancelled().await });
    let mut next = Waiting::new(async { server.next().await.is_none() });
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

/// It may be dropped with its runtime, or panic in a filter.
#[test]
fn a_driver_that_is_dropped_leaves_no_handle_waiting() {
    let mut subnet = Subnet::connected(2, &config());
    let server = subnet.serve(1);
    let _unanswered = subnet.route(0).call(subnet.id(1), "x");
    let request = subnet.run(server.next()).expect("a request");
    let (node, channel) = (subnet.node(1).clone(), subnet.channel(1));
    while node.try_event().is_some() {}

    let mut cancelled = Waiting::new(async { request.cancelled().await });
    let mut next = Waiting::new(async { server.next().await.is_none() });
    let mut event = Waiting::new(async { channel.next_event().await });
    let mut node_event = Waiting::new(async { node.next_event().await });
    let mut closed = Waiting::new(async { node.closed().await.is_ok() });
    let mut call = Waiting::new(subnet.route(1).call(subnet.id(0), "x"));
    subnet.elapse(ms(100));
    assert_eq!((cancelled.poll(), next.poll(), event.poll()), (None, None, None));
    assert_eq!((node_event.poll(), closed.poll(), call.poll()), (None, None, None));

    subnet.drop_driver(1);
    assert_eq!((cancelled.poll(), next.poll(), event.poll()), (Some(()), Some(true), Some(None)));
    assert_eq!((node_event.poll(), closed.poll()), (Some(None), Some(true)));
    assert_eq!(call.poll(), Some(Err(CallError::Closed)));
}
