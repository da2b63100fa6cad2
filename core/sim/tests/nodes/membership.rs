//! Topologies: who comes, who goes, who comes back.

use slotcast::id::NodeId;
use slotcast::membership::{Topology, TopologyError};
use slotcast::node::{Closed, Node};
use slotcast_sim::address;

use crate::subnet::{Recorded, Subnet, Told, connected, secured, started};
use slotcast_testkit::machines::{artifact, config, ms, small};

fn follow_all(subnet: &mut Subnet, members: &[usize]) {
    let topology = subnet.topology(members.iter().copied());
    for at in 0..subnet.members() {
        subnet.follow(at, &topology);
    }
}

#[test]
fn t3_members_are_added_removed_and_come_back() {
    let mut subnet = started(&config(|_| {}), 4);
    follow_all(&mut subnet, &[0, 1]);
    (0..4).for_each(|at| subnet.publish(at, &small(at as u64)));
    subnet.elapse(ms(1000));
    let ups = |subnet: &Subnet| (0..4).map(|at| subnet.peers_up(at)).collect::<Vec<_>>();
    assert_eq!(ups(&subnet), [1, 1, 0, 0]);

    // Two come at once.
    follow_all(&mut subnet, &[0, 1, 2, 3]);
    let took = subnet.run_until("all are connected", ms(1000), Recorded::is_mesh);
    assert!(took < ms(200), "{took:?}");
    subnet.settle();
    assert!((0..4).all(|at| subnet.delivered(at).len() == 3));

    // One goes: at once, and what only it had expires.
    (0..4).for_each(|at| drop((subnet.told(at), subnet.node_told(at))));
    follow_all(&mut subnet, &[0, 1, 3]);
    assert_eq!(ups(&subnet), [2, 2, 0, 2]);
    subnet.settle();
    for at in [0, 1, 3] {
        assert_eq!(subnet.told(at), [Told::Expired(small(2).id())]);
        assert_eq!(subnet.node_told(at), [subnet.down(2, Closed::Left)]);
    }
    let mut expected: Vec<_> = [0, 1, 3].map(|at| Told::Expired(small(at).id())).into();
    let mut told = subnet.told(2);
    let key = |told: &Told| format!("{told:?}");
    expected.sort_by_key(key);
    told.sort_by_key(key);
    assert_eq!(told, expected, "who is no member itself has no members");

    // It comes back.
    follow_all(&mut subnet, &[0, 1, 2, 3]);
    let took = subnet.run_until("all are connected", ms(1000), Recorded::is_mesh);
    assert!(took < ms(200), "{took:?}");
    subnet.settle();
    for at in [0, 1, 3] {
        assert_eq!(subnet.told(at), [Told::Delivered(small(2).id())]);
    }
    assert_eq!(subnet.told(2).len(), 3);

    // All go.
    follow_all(&mut subnet, &[]);
    subnet.settle();
    assert_eq!(ups(&subnet), [0, 0, 0, 0]);
    assert!((0..4).all(|at| subnet.stats(at).refused == 0), "they were welcome once");
    subnet.assert_peace();
}

#[test]
fn a_former_member_that_does_not_know_yet_is_told_and_kept_out() {
    let mut subnet = connected(&config(|_| {}), 3);
    // 0 dials 2, and 1 listens to 0: both roles.
    for (gone, by) in [(0, 1), (2, 1)] {
        let rest = subnet.topology((0..3).filter(|at| *at != gone));
        subnet.follow(by, &rest);
        subnet.run_until("it has heard", ms(100), |subnet| subnet.peers_up(gone) == 1);
        assert_eq!(subnet.node_told(gone), [subnet.down(by, Closed::ByPeer)]);
        subnet.publish(by, &small(gone as u64));
        subnet.elapse(ms(3000));
        assert!(!subnet.has(gone, &small(gone as u64)));
        let all = subnet.topology(0..3);
        subnet.follow(by, &all);
        subnet.run_until("it is back", ms(12_000), Recorded::is_mesh);
        subnet.settle();
        assert!(subnet.has(gone, &small(gone as u64)));
        assert_eq!(subnet.node_told(gone), [subnet.up(by)]);
    }
}

#[test]
fn l21_a_member_that_is_removed_while_it_serves_is_replaced() {
    let mut subnet = connected(&config(|_| {}), 3);
    let block = artifact(1, 4 << 20);
    subnet.publish(1, &block);
    subnet.elapse(ms(70));
    let begun = subnet.sent(1, 0);
    assert!(begun > 10_000 && begun < 4 << 20, "{begun}");
    let rest = subnet.topology([0, 2]);
    subnet.follow(0, &rest);
    subnet.elapse(ms(100));
    assert!(!subnet.has(0, &block));
    let all = subnet.topology([0, 1, 2]);
    subnet.follow(0, &all);
    subnet.publish(2, &block);
    subnet.run_until("delivered", ms(5000), |subnet| subnet.has(0, &block));
    subnet.elapse(ms(5000));
    assert_eq!(subnet.delivered(0), [block.id()]);
    assert_eq!(subnet.stats(0).faults, 0);
}

#[test]
fn topologies_that_cannot_be_change_nothing() {
    let mut small_subnet = config(|_| {});
    small_subnet.peers_max = 2;
    let mut subnet = connected(&small_subnet, 3);
    let topology_of = |subnet: &Subnet| subnet.node(0).expect("it runs").topology().clone();
    let before = topology_of(&subnet);
    let now = subnet.now();
    let own = subnet.id(0);
    let topology = |version, others: u8| {
        let others = (0..others).map(|at| (NodeId([at; 32]), vec![address(at.into())]));
        Topology::new(version, others.chain([(own, vec![address(0)])])).unwrap()
    };
    let stale = topology(before.version() - 1, 0);
    let answer = subnet.with(0, |node| node.set_topology(now, stale));
    assert_eq!(answer, Err(TopologyError::VersionBackwards));
    let wide = topology(before.version() + 1, 3);
    for add in [Node::set_topology, Node::add_topology] {
        let answer = subnet.with(0, |node| add(node, now, wide.clone()));
        assert_eq!(answer, Err(TopologyError::TooManyMembers));
    }
    assert_eq!(topology_of(&subnet), before);
    subnet.elapse(ms(5000));
    assert!(subnet.is_mesh());
    assert_eq!(subnet.node_told(0), []);

    // The same version again is no step backwards.
    subnet.follow(0, &before);
    assert_eq!(
        Topology::new(1, [(subnet.id(0), vec![])]),
        Err(TopologyError::Addresses(subnet.id(0)))
    );
}

/// Invariant 10. A node that has itself been removed remembers by which version.
#[test]
fn an_older_topology_brings_no_former_member_back() {
    let mut subnet = connected(&config(|_| {}), 3);
    let with_it = subnet.node(0).expect("it runs").topology().clone();
    follow_all(&mut subnet, &[0, 1]);
    subnet.settle();
    for at in 0..3 {
        let (now, older) = (subnet.now(), with_it.clone());
        let answer = subnet.with(at, |node| node.set_topology(now, older));
        assert_eq!(answer, Err(TopologyError::VersionBackwards), "{at}");
    }
    subnet.publish(0, &small(1));
    subnet.elapse(ms(12_000));
    assert_eq!([0, 1, 2].map(|at| subnet.peers_up(at)), [1, 1, 0]);
    assert_eq!([0, 1, 2].map(|at| subnet.has(at, &small(1))), [false, true, false]);
}

#[test]
fn a_member_that_moves_is_found_at_its_new_address() {
    let mut subnet = secured(&config(|_| {}), 3);
    subnet.connect();
    // What runs at place 2 crashes, and comes back at place 1, whose node is gone for good.
    subnet.kill(1);
    subnet.kill(2);
    let moved = [(0, 0), (2, 1)];
    let members = moved.map(|(key, at)| (subnet.id(key), vec![address(at)]));
    let topology = Topology::new(1000, members).unwrap();
    subnet.start_as(1, subnet.key(2).clone());
    subnet.follow(1, &topology);
    subnet.follow(0, &topology);
    subnet.publish(0, &small(1));
    subnet.run_until("found", ms(12_000), |subnet| subnet.has(1, &small(1)));
    subnet.settle();
    assert_eq!((subnet.peers_up(0), subnet.peers_up(1)), (1, 1));
}
