//! Dials of a member's new address beside the connection to the old one.

use std::net::SocketAddr;

use slotcast::membership::Topology;
use slotcast::sim::address;

use crate::common::{config, ms, small};
use crate::subnet::{Recorded, Subnet, connected};

fn placed(subnet: &Subnet, version: u64, places: &[(usize, SocketAddr)]) -> Topology {
    let members = places.iter().map(|(at, address)| (subnet.id(*at), vec![*address]));
    Topology::new(version, members).expect("each once")
}

/// A dial of the old address, where nobody answers any more, is under way and gives way to the new
/// one. The connection to another member is up throughout.
#[test]
fn a_dial_of_the_old_address_is_superseded_when_the_member_moves() {
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
    // The silence has not been noticed yet, and it is thought to be connected.
    subnet.elapse(ms(7000));
    assert_eq!(subnet.peers_up(0), 2);
    subnet.follow_too(0, &moved);
    subnet.publish(0, &small(1));
    let took = subnet.run_until("it is found", ms(30_000), |subnet| subnet.has(3, &small(1)));
    assert!(took <= ms(200), "a handshake and a little more: {took:?}");
}
