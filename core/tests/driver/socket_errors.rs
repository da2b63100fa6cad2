//! Which errors of a socket end a node, and what is told of the others.

use std::io::ErrorKind;
use std::time::Duration;

use slotcast::driver::DriverError;
use slotcast::error::CallError;
use slotcast::node::{NodeEvent, SocketBuffers, SocketOperation};

use crate::network::Network;
use crate::subnet::{Subnet, config, ms};

const SECOND: Duration = Duration::from_secs(1);

fn events(subnet: &Subnet, at: usize) -> Vec<NodeEvent> {
    std::iter::from_fn(|| subnet.node(at).try_event()).collect()
}

fn publish(subnet: &Subnet, text: &'static str) {
    subnet.channel(0).publish(text, b"").unwrap();
}

#[test]
fn a_send_that_fails_is_lost_told_and_repaired() {
    let mut subnet = Subnet::connected(2, &config());
    events(&subnet, 0);
    let kinds =
        [ErrorKind::NetworkUnreachable, ErrorKind::PermissionDenied, ErrorKind::InvalidInput];
    for kind in kinds {
        subnet.network.socket(0).send_errors.push_back(kind);
    }
    publish(&subnet, "some of it is lost");
    let inbox = subnet.channel(1);
    subnet.until_within(2 * SECOND, "delivered", |_| inbox.try_event().is_some());
    let told: Vec<ErrorKind> = events(&subnet, 0).iter().map(kind_of).collect();
    assert_eq!(told, kinds);
    let stats = subnet.node(0).stats();
    assert_eq!(stats.send_errors, 3);
    assert!(stats.unsent_datagrams >= 3);

    fn kind_of(event: &NodeEvent) -> ErrorKind {
        match event {
            NodeEvent::SocketErrors { operation: SocketOperation::Send, kind, count: 1 } => *kind,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn receive_errors_that_pass_are_counted_and_told_at_intervals() {
    let mut subnet = Subnet::connected(2, &config());
    events(&subnet, 0);
    // More in succession than would end it if they could not pass.
    let bounced = std::iter::repeat_n(ErrorKind::ConnectionReset, 500);
    subnet.network.socket(0).receive_errors.extend(bounced);
    publish(&subnet, "wakes the driver");
    let inbox = subnet.channel(1);
    subnet.until_within(SECOND, "delivered", |_| inbox.try_event().is_some());
    subnet.elapse(15 * SECOND);
    assert_eq!(subnet.node(0).stats().receive_errors, 500);
    let counts: Vec<u64> = events(&subnet, 0)
        .into_iter()
        .map(|event| match event {
            NodeEvent::SocketErrors {
                operation: SocketOperation::Receive,
                kind: ErrorKind::ConnectionReset,
                count,
            } => count,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(counts.iter().sum::<u64>(), 500);
    assert!(counts.len() <= 2, "{counts:?}");
}

#[test]
fn errors_that_cannot_pass_end_the_node_with_their_kind() {
    let kinds = [
        ErrorKind::InvalidInput,
        ErrorKind::NotConnected,
        ErrorKind::BrokenPipe,
        ErrorKind::UnexpectedEof,
        ErrorKind::Unsupported,
    ];
    for kind in kinds {
        let mut subnet = Subnet::connected(2, &config());
        subnet.network.socket(0).receive_errors.push_back(kind);
        publish(&subnet, "wakes the driver");
        subnet.until_within(SECOND, "ended", |subnet| subnet.result(0).is_some());
        let Some(Err(DriverError::Socket(error))) = subnet.result(0) else { panic!("{kind:?}") };
        assert_eq!(error.kind(), kind);
        assert!(subnet.network.socket(0).is_dropped);
    }
}

#[test]
fn an_error_that_does_not_stop_ends_the_node_and_one_that_does_not() {
    for (count, ends) in [(63, false), (64, true)] {
        let mut subnet = Subnet::connected(2, &config());
        let unknown = std::iter::repeat_n(ErrorKind::Other, count);
        subnet.network.socket(0).receive_errors.extend(unknown);
        publish(&subnet, "wakes the driver");
        subnet.elapse(SECOND);
        assert_eq!(subnet.result(0).is_some(), ends, "{count} in succession");
    }
}

#[test]
fn errors_between_which_something_is_received_are_not_in_succession() {
    let mut subnet = Subnet::connected(2, &config());
    for _ in 0..100 {
        subnet.network.socket(0).receive_errors.push_back(ErrorKind::Other);
        let channel = subnet.channel(0);
        let id = channel.publish("wakes the driver, and is acknowledged", b"").unwrap();
        subnet.elapse(SECOND / 10);
        channel.abort(&id);
        subnet.elapse(SECOND / 10);
    }
    assert!(subnet.result(0).is_none());
    assert_eq!(subnet.node(0).stats().receive_errors, 100);
}

/// Nothing comes of the socket for long: either an error that may pass, or that it has received,
/// without anything that it hands over.
#[test]
fn a_socket_that_gives_nothing_is_asked_seldom_and_holds_up_no_deadline() {
    for error in [Some(ErrorKind::NetworkDown), None] {
        let mut subnet = Subnet::connected(2, &config());
        let _server = subnet.serve(1);
        let call = subnet.route(0).call_within(subnet.id(1), "x", SECOND);
        subnet.network.socket(0).receive_error = error;
        subnet.network.socket(0).is_hollow = error.is_none();
        let begun = subnet.network.elapsed();
        assert_eq!(subnet.run(call), Err(CallError::DeadlinePassed));
        let took = subnet.network.elapsed() - begun;
        assert!((SECOND..SECOND + ms(10)).contains(&took), "{took:?}");
        let stats = subnet.node(0).stats();
        assert_eq!(stats.receive_errors > 0, error.is_some());
        let asked = subnet.network.socket(0).receive_calls;
        subnet.elapse(SECOND);
        let asked = subnet.network.socket(0).receive_calls - asked;
        assert!((64..=101 * 64).contains(&asked), "{asked} times in a second");
        // It gives something again, and nobody is woken for it.
        subnet.network.socket(0).receive_error = None;
        subnet.network.socket(0).is_hollow = false;
        subnet.channel(1).publish("arrives", b"").unwrap();
        let inbox = subnet.channel(0);
        subnet.until_within(ms(20), "delivered", |_| inbox.try_event().is_some());
    }
}

/// So a socket reports what was bounced by a router, where the peer that would send is not reached.
#[test]
fn errors_with_a_second_in_between_are_not_in_succession() {
    let mut subnet = Subnet::connected(2, &config());
    subnet.stop(1);
    subnet.elapse(30 * SECOND);
    let received = subnet.node(0).stats().received_batches;
    let channel = subnet.channel(0);
    for number in 0..100 {
        subnet.network.socket(0).receive_errors.push_back(ErrorKind::Other);
        channel.publish(vec![number], b"wakes the driver").unwrap();
        subnet.elapse(SECOND);
    }
    assert!(subnet.result(0).is_none());
    let stats = subnet.node(0).stats();
    assert_eq!((stats.receive_errors, stats.received_batches), (100, received));
}

#[test]
fn buffers_that_the_kernel_clamps_are_told_once() {
    let clamped = SocketBuffers { wanted: 4 << 20, send: 4 << 20, receive: 425_984 };
    let granted = SocketBuffers { wanted: 4 << 20, send: 4 << 20, receive: 8 << 20 };
    for (buffers, told) in [(clamped, true), (granted, false)] {
        let network = Network::new(2);
        network.socket(0).buffers = Some(buffers);
        let mut subnet = Subnet::new(&network, &config());
        subnet.elapse(SECOND);
        let events = events(&subnet, 0);
        assert_eq!(events.contains(&NodeEvent::SocketBuffers(buffers)), told, "{events:?}");
        assert_eq!(events.len(), 1 + usize::from(told), "and that the other node is up");
    }
}

/// The stage of events about peers fills up. What is left in the node wakes nobody.
#[test]
fn errors_that_nobody_asks_for_do_not_keep_the_driver_awake() {
    use ErrorKind::*;
    let mut subnet = Subnet::connected(2, &config());
    let kinds = [AddrNotAvailable, NetworkDown, NetworkUnreachable, HostUnreachable, Other];
    let channel = subnet.channel(0);
    for _ in 0..60 {
        for kind in kinds {
            subnet.network.socket(0).send_errors.push_back(kind);
        }
        let id = channel.publish("some of it is lost", b"").unwrap();
        subnet.elapse(6 * SECOND);
        channel.abort(&id);
        subnet.elapse(6 * SECOND);
    }
    assert!(events(&subnet, 0).len() >= 256, "the stage was full");
    subnet.settle();
    assert!(!events(&subnet, 0).is_empty(), "and what was left follows");
}
