//! Members that move: dials of the new address, beside what there is to the old one.

use std::net::SocketAddr;

use slotcast::membership::Topology;
use slotcast::node::{Closed, NodeEvent};
use slotcast_sim::address;

use crate::subnet::{Recorded, Subnet, connected, started};
use slotcast_testkit::machines::{config, ms, small};

fn placed(subnet: &Subnet, version: u64, places: &[(usize, SocketAddr)]) -> Topology {
    let members = places.iter().map(|(at, address)| (subnet.id(*at), vec![*address]));
    Topology::new(version, members).expect("each once")
}

/// Before the connection to the old address, where nobody is any more, is missed. The member that had
/// the new address before is gone as well.
#[test]
fn a_dial_of_the_new_address_takes_the_place_of_the_connection_to_the_old_one() {
    let mut subnet = connected(&config(|_| {}), 4);
    (1..4).for_each(|at| subnet.kill(at));
    let here = [(0, address(0)), (1, address(1)), (2, address(2))];
    let before = placed(&subnet, 999, &here);
    subnet.follow(0, &before);
    // What was at place 2 goes on at place 3.
    let moved = placed(&subnet, 1000, &[(0, address(0)), (2, address(3))]);
    subnet.follow(3, &moved);
    let key = subnet.key(2).clone();
    subnet.start_as(3, key);
    // The silence has not been noticed yet.
    subnet.elapse(ms(7000));
    assert_eq!(subnet.peers_up(0), 2);
    subnet.follow_too(0, &moved);
    subnet.publish(0, &small(1));
    let took = subnet.run_until("it is found", ms(30_000), |subnet| subnet.has(3, &small(1)));
    assert!(took <= ms(200), "a handshake and a little more: {took:?}");
}

#[test]
fn a_dial_of_the_old_address_gives_way_to_one_of_the_new() {
    let mut subnet = started(&config(|_| {}), 3);
    (1..3).for_each(|at| subnet.kill(at));
    // The address that it will have is nobody's.
    let before = placed(&subnet, 999, &[(0, address(0)), (1, address(1))]);
    subnet.follow(0, &before);
    subnet.elapse(ms(1000));
    let moved = placed(&subnet, 1000, &[(0, address(0)), (1, address(2))]);
    subnet.follow(2, &moved);
    let key = subnet.key(1).clone();
    subnet.start_as(2, key);
    // It has made itself known in vain, and a dial that nobody answers is under way, for seconds more.
    subnet.elapse(ms(7000));
    subnet.follow(0, &moved);
    subnet.publish(0, &small(1));
    let took = subnet.run_until("it is found", ms(30_000), |subnet| subnet.has(2, &small(1)));
    assert!(took <= ms(200), "a handshake and a little more: {took:?}");
}

/// W9: a NAT rebinds, whichever side had dialled and whether the one behind it or the other one publishes
/// next. Both find out by keep-alives that are not answered, and dial; only one of them is reached.
#[test]
fn w9_an_address_that_changes_is_found_within_two_seconds() {
    for (moved, publisher) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let mut subnet = connected(&config(|_| {}), 3);
        for round in 0..5 {
            subnet.elapse(ms(10_000 + 300 * round));
            let connections = subnet.stats(moved).connections;
            subnet.rebind(moved);
            subnet.publish(publisher, &small(round));
            let others = (0..3).filter(|at| *at != publisher);
            let took = subnet.run_until("it is found", ms(9_000), |subnet| {
                others.clone().all(|at| subnet.has(at, &small(round)))
            });
            assert!(took <= ms(2_000), "{moved} moves, {publisher} publishes: {took:?}");
            subnet.elapse(ms(5_000));
            assert_eq!(subnet.stats(moved).connections, connections + 2, "one anew with each");
        }
        for at in 0..3 {
            let delivered = subnet.delivered(at).len();
            assert_eq!(delivered, if at == publisher { 0 } else { 5 }, "each once");
            let is_down = |event: &NodeEvent| matches!(event, NodeEvent::Down { .. });
            let told = subnet.node_told(at);
            assert!(!told.iter().any(is_down), "one takes the place of the other: {told:?}");
        }
        subnet.assert_peace();
    }
}

/// A peer that is silent and heard again keeps its connection: the dial beside it is given up.
#[test]
fn w9_an_outage_of_three_seconds_costs_no_connection() {
    let mut subnet = connected(&config(|_| {}), 2);
    for round in 0..5 {
        subnet.elapse(ms(10_000 + 300 * round));
        subnet.stall(1, ms(3_000));
        subnet.publish(0, &small(round));
        subnet.run_until("it is back", ms(4_000), |subnet| subnet.has(1, &small(round)));
    }
    subnet.elapse(ms(10_000));
    assert_eq!((subnet.stats(0).connections, subnet.stats(1).connections), (1, 1));
    assert_eq!((subnet.node_told(0), subnet.node_told(1)), (vec![], vec![]));
    // And one that is not there is down after the idle timeout as ever.
    subnet.kill(1);
    subnet.run_until("down", ms(12_000), |subnet| subnet.peers_up(0) == 0);
    assert_eq!(subnet.node_told(0), [subnet.down(1, Closed::Lost)]);
}
