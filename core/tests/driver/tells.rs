//! Messages: sent once there is a connection, or dropped and counted.

use slotcast::error::{AnswerError, CallError};
use slotcast::id::NodeId;

use crate::network::Network;
use crate::subnet::{Subnet, config, ms};

/// Messages that members have, and that were dropped.
fn stats(subnet: &Subnet) -> (u64, u64) {
    let stats = subnet.route(0).stats();
    (stats.tells, stats.tells_dropped)
}

#[test]
fn a_message_is_sent_as_soon_as_there_is_a_connection() {
    let mut subnet = Subnet::new(&Network::new(2), &config());
    subnet.route(0).tell(subnet.id(1), "before").expect("it waits");
    let server = subnet.serve(1);
    let message = subnet.run(server.next_request()).expect("a message");
    assert_eq!(message.body(), "before");
    assert!(!message.wants_answer() && message.is_cancelled());
    assert_eq!(message.answer("x"), Err(AnswerError::NotWanted));
    subnet.until("it is known to have come", |subnet| stats(subnet) == (1, 0));
    subnet.route(0).tell(subnet.id(1), "after").expect("it is sent");
    drop(subnet.run(server.next_request()).expect("another"));
    subnet.until("it is known to have come", |subnet| stats(subnet) == (2, 0));
}

#[test]
fn a_message_that_cannot_be_sent_is_dropped_and_counted() {
    let mut subnet = Subnet::connected(2, &config());
    let (route, to) = (subnet.route(0), subnet.id(1));
    assert_eq!(route.tell(NodeId([9; 32]), "x"), Err(CallError::NotMember));
    // Nobody takes it.
    route.tell_within(to, "x", ms(1000)).expect("it is sent");
    subnet.elapse(ms(999));
    assert_eq!(stats(&subnet), (0, 0));
    subnet.elapse(ms(100));
    assert_eq!(stats(&subnet), (0, 1));
    // Nobody is there.
    drop(subnet.node(1).shutdown());
    subnet.until("it has gone", |subnet| subnet.node(0).peers_up().is_empty());
    let max = config().routes[0].in_flight_max + config().routes[0].waiting_max;
    for _ in 0..max {
        route.tell_within(to, "x", ms(1000)).expect("it waits");
    }
    assert_eq!(route.tell(to, "x"), Err(CallError::Pushback));
    subnet.elapse(ms(1100));
    assert_eq!(stats(&subnet), (0, 1 + u64::from(max)));
    // The node ends.
    route.tell(to, "x").expect("it waits");
    subnet.drop_driver(0);
    assert_eq!(stats(&subnet), (0, 2 + u64::from(max)));
    assert_eq!(route.tell(to, "x"), Err(CallError::Closed));
}
