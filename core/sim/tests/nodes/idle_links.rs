//! Links on which nothing is published: what keep-alives cost, and that connections last.

use std::net::SocketAddr;

use slotcast::membership::Topology;
use slotcast_sim::{Chance, Latency, Link, Setup, address};

use crate::subnet::{Recorded, Subnet, connected, of, secured};
use slotcast_testkit::machines::{config, ms, small};

/// A pair that is idle for so long behind links that lose so much: their connections since they met.
fn connections(percent: u64, minutes: u64) -> [u64; 2] {
    let link = Link {
        latency: Latency::Jitter(ms(20), ms(30)),
        loss: Chance::percent(percent as u32),
        ..Link::new(ms(20))
    };
    let mut subnet = of(Setup::new(&config(|_| {}), 2).seed(percent).link(link));
    subnet.run_until("they meet", ms(60_000), Recorded::is_mesh);
    subnet.elapse(ms(5_000));
    let before = [0, 1].map(|at| subnet.stats(at).connections);
    subnet.elapse(ms(60_000 * minutes));
    assert!(subnet.is_mesh(), "{percent} %");
    let after = [0, 1].map(|at| subnet.stats(at).connections);
    println!("{percent} % lost: {before:?}, then {after:?}");
    [after[0] - before[0], after[1] - before[1]]
}

/// A keep-alive is repeated several times before its peer is taken for silent, and a dial is given up if the
/// connection is heard meanwhile.
#[test]
fn w9_an_idle_link_that_loses_datagrams_keeps_its_connection() {
    for percent in [0, 5, 10, 20] {
        assert_eq!(connections(percent, 10), [0, 0], "{percent} % are lost");
    }
}

/// What one side of an idle connection sends in a minute: datagrams and bytes.
fn sent_in_a_minute(subnet: &mut Subnet) -> (u64, u64) {
    subnet.elapse(ms(60_000));
    let before = subnet.stats(0);
    subnet.elapse(ms(60_000));
    let after = subnet.stats(0);
    (after.sent_datagrams - before.sent_datagrams, after.sent_bytes - before.sent_bytes)
}

/// The figures in the documentation of `keep_alive`.
#[test]
fn keep_alives_cost_what_their_documentation_says() {
    let mut subnet = secured(&config(|_| {}), 2);
    subnet.connect();
    let (datagrams, bytes) = sent_in_a_minute(&mut subnet);
    println!("one peer: {datagrams} datagrams, {bytes} bytes");
    // One in each interval and round trip, of 39 bytes.
    assert!((55..=60).contains(&datagrams) && bytes.div_ceil(datagrams) == 39);
}

/// Others take a process that pauses for silent, and dial it; but it is there again, so nothing is replaced.
#[test]
fn w9_a_pause_of_one_of_thirteen_costs_no_connection() {
    let mut subnet = connected(&config(|_| {}), 13);
    subnet.elapse(ms(10_000));
    for (round, at) in [0, 6, 12].into_iter().enumerate() {
        let before: Vec<u64> = (0..13).map(|at| subnet.stats(at).connections).collect();
        subnet.stall(at, ms(3_000));
        subnet.publish((at + 1) % 13, &small(round as u64));
        subnet.elapse(ms(10_000));
        let after: Vec<u64> = (0..13).map(|at| subnet.stats(at).connections).collect();
        println!("{at} pauses: {before:?} {after:?}");
        assert_eq!(before, after, "{at} pauses");
        assert!(
            (0..13)
                .filter(|to| *to != (at + 1) % 13)
                .all(|to| subnet.has(to, &small(round as u64)))
        );
    }
    (0..13).for_each(|at| assert_eq!(subnet.node_told(at), [], "{at}"));
    subnet.assert_peace();
}

/// An address that is dialled when the connection has been heard again does not cost it either: of two addresses,
/// the first one does not answer, and the second one is dialled a moment later.
#[test]
fn w9_a_connection_that_is_heard_between_two_dials_stays() {
    let setup = Setup::new(&config(|_| {}), 2);
    let ids = setup.ids();
    let mut subnet = of(setup);
    let nobody = SocketAddr::new(address(1).ip(), address(1).port() + 9);
    let members = [(ids[0], vec![address(0)]), (ids[1], vec![nobody, address(1)])];
    let topology = Topology::new(2, members).unwrap();
    (0..2).for_each(|at| subnet.follow(at, &topology));
    subnet.connect();
    let before = [0, 1].map(|at| subnet.stats(at).connections);
    for pause in (1_400..2_400).step_by(50) {
        subnet.elapse(ms(10_000 + pause % 700));
        subnet.stall(1, ms(pause));
        subnet.elapse(ms(5_000));
        let after = [0, 1].map(|at| subnet.stats(at).connections);
        assert_eq!(after, before, "a pause of {pause} ms");
    }
}
