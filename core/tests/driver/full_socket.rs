//! F4, invariant 19: no deadline waits for a socket that takes nothing.

use slotcast::broadcast::Event;
use slotcast::error::CallError;

use crate::subnet::{Subnet, config, ms};

#[test]
fn a_call_ends_by_its_deadline() {
    let mut subnet = Subnet::connected(2, &config());
    let _server = subnet.serve(1);
    subnet.network.socket(0).is_full = true;
    let begun = subnet.network.elapsed();
    let call = subnet.route(0).call_within(subnet.id(1), "x", ms(1000));
    assert_eq!(subnet.run(call), Err(CallError::DeadlinePassed));
    let took = subnet.network.elapsed() - begun;
    assert!(took < ms(1010), "{took:?}");
}

#[test]
fn a_node_shuts_down() {
    let mut subnet = Subnet::connected(2, &config());
    subnet.network.socket(0).is_full = true;
    subnet.network.socket(1).is_full = true;
    subnet.channel(0).publish("to be sent", b"").unwrap();
    subnet.elapse(ms(12_000)); // timers that were set before have fired by now
    drop(subnet.node(0).shutdown());
    subnet.elapse(ms(510));
    assert!(subnet.result(0).is_some_and(Result::is_ok));
}

/// Nothing is heard of a peer that has stopped, and that is noticed.
#[test]
fn a_connection_times_out() {
    let mut subnet = Subnet::connected(2, &config());
    subnet.network.socket(0).is_full = true;
    subnet.stop(1);
    // Of what it was last given to send, QUIC waits for an acknowledgement.
    subnet.elapse(2 * config().transport.idle_timeout);
    assert_eq!(subnet.node(0).peers_up(), []);
}

/// What comes in is looked at, and told, too.
#[test]
fn artifacts_are_delivered() {
    let mut subnet = Subnet::connected(2, &config());
    subnet.network.socket(0).is_full = true;
    subnet.channel(1).publish("arrives", b"").unwrap();
    subnet.elapse(ms(1000));
    assert!(matches!(subnet.channel(0).try_event(), Some(Event::Delivered { .. })));
}

/// Without loss: what the node has handed out once, it takes for sent.
#[test]
fn what_was_not_taken_is_sent_when_there_is_room() {
    let mut subnet = Subnet::connected(2, &config());
    subnet.elapse(ms(1000));
    subnet.network.socket(0).is_full = true;
    let (from, to) = (subnet.channel(0), subnet.channel(1));
    from.publish("to be sent", b"").unwrap();
    subnet.settle();
    assert_eq!(to.try_event(), None);
    subnet.network.socket(0).empty();
    // No time passes in which it could be sent again.
    subnet.settle();
    assert!(matches!(to.try_event(), Some(Event::Delivered { .. })));
    subnet.elapse(ms(1000));
    let sent = subnet.network.socket(0).sent_bytes;
    assert_eq!(sent as u64, subnet.node(0).stats().sent_bytes);
}

#[test]
fn some_seconds_without_room_end_no_connection() {
    let mut subnet = Subnet::connected(2, &config());
    subnet.network.socket(0).is_full = true;
    subnet.channel(0).publish(vec![1; 500_000], b"").unwrap();
    subnet.elapse(ms(4000));
    assert!(subnet.channel(1).try_event().is_none());
    subnet.network.socket(0).empty();
    subnet.elapse(ms(2000));
    assert!(subnet.channel(1).try_event().is_some());
    assert_eq!(subnet.node(0).stats().connections, 1, "it was the same one all the time");
}
