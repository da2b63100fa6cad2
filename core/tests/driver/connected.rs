//! Who is connected by the application's will: waiting for members, disconnecting and banning them.

use slotcast::driver::{NodeHandle, WaitError, Who};
use slotcast::id::NodeId;
use slotcast::membership::{Topology, TopologyError};
use slotcast::node::{Closed, NodeEvent};

use crate::network::{Network, address};
use crate::subnet::{Subnet, Waiting, config, ms};

fn topology(subnet: &Subnet, version: u64, places: &[usize]) -> Topology {
    let members = places.iter().map(|at| (subnet.id(*at), vec![address(*at)]));
    Topology::new(version, members).expect("each once")
}

fn events(node: &NodeHandle) -> Vec<NodeEvent> {
    std::iter::from_fn(|| node.try_event()).collect()
}

fn are_up(subnet: &Subnet, at: usize, others: &[usize]) -> bool {
    let up = subnet.node(at).peers_up();
    up.len() == others.len() && others.iter().all(|other| up.contains(&subnet.id(*other)))
}

#[test]
fn all_some_or_one_of_the_members_are_waited_for() {
    let mut subnet = Subnet::new(&Network::new(3), &config());
    subnet.stop(2);
    let (node, last) = (subnet.node(0).clone(), subnet.id(2));
    let wait = |who| {
        let node = node.clone();
        let mut waiting = Waiting::new(async move { node.wait_connected(who, ms(60_000)).await });
        assert_eq!(waiting.poll(), None);
        waiting
    };
    let mut waits = [Who::AtLeast(1), Who::All, Who::AtLeast(2), Who::Member(last)].map(wait);
    subnet.until("the first is connected", |subnet| are_up(subnet, 0, &[1]));
    assert_eq!(waits.each_mut().map(Waiting::poll), [Some(Ok(())), None, None, None]);
    subnet.go_on(2);
    subnet.until("the last is connected", |subnet| are_up(subnet, 0, &[1, 2]));
    assert_eq!(waits[1..].iter_mut().filter_map(Waiting::poll).collect::<Vec<_>>(), [Ok(()); 3]);
}

/// F8: by the clock of the driver, without a timer of the application.
#[test]
fn waiting_for_members_ends_at_its_deadline() {
    let mut subnet = Subnet::connected(2, &config());
    let node = subnet.node(0).clone();
    let wait = |ms_count| {
        let node = node.clone();
        let mut waiting = Waiting::new(async move {
            node.wait_connected(Who::Member(NodeId([7; 32])), ms(ms_count)).await
        });
        assert_eq!(waiting.poll(), None);
        waiting
    };
    let (mut short, mut long) = (wait(250), wait(40_000));
    drop(wait(100));
    subnet.elapse(ms(249));
    assert_eq!((short.poll(), long.poll()), (None, None));
    subnet.elapse(ms(1));
    assert_eq!((short.poll(), long.poll()), (Some(Err(WaitError::DeadlinePassed)), None));
    drop(node.shutdown());
    subnet.until("it has ended", |subnet| subnet.has_ended(0));
    assert_eq!(long.poll(), Some(Err(WaitError::Closed)));
}

#[test]
fn all_are_connected_when_the_missing_one_is_no_member_any_more() {
    let mut subnet = Subnet::new(&Network::new(3), &config());
    subnet.stop(2);
    let node = subnet.node(0).clone();
    let mut all = Waiting::new(async { node.wait_connected(Who::All, ms(60_000)).await });
    assert_eq!(all.poll(), None);
    subnet.until("the first is connected", |subnet| are_up(subnet, 0, &[1]));
    assert_eq!(all.poll(), None);
    node.set_topology(topology(&subnet, 2, &[0, 1])).expect("a newer one");
    subnet.settle();
    assert_eq!(all.poll(), Some(Ok(())));
}

#[test]
fn a_member_that_is_disconnected_is_connected_again() {
    for (by, other) in [(0, 1), (1, 0)] {
        let mut subnet = Subnet::connected(2, &config());
        subnet.elapse(ms(10_000));
        (0..2).for_each(|at| drop(events(subnet.node(at))));
        let (own, peer) = (subnet.id(by), subnet.id(other));
        assert!(subnet.node(by).disconnect(&peer));
        subnet.settle();
        let down = |peer, why| NodeEvent::Down { peer, why };
        assert_eq!(events(subnet.node(by))[0], down(peer, Closed::Disconnected));
        assert_eq!(events(subnet.node(other))[0], down(own, Closed::ByPeer));
        subnet.until_within(ms(1000), "connected", |subnet| are_up(subnet, by, &[other]));
    }
}

#[test]
fn who_is_not_connected_is_not_disconnected() {
    let mut subnet = Subnet::new(&Network::new(2), &config());
    let (node, other) = (subnet.node(0).clone(), subnet.id(1));
    assert!(!node.disconnect(&other));
    subnet.until("connected", |subnet| are_up(subnet, 0, &[1]));
    assert!(!node.disconnect(&node.key_id()));
    drop(node.shutdown());
    subnet.until("it has ended", |subnet| subnet.has_ended(0));
    assert!(!node.disconnect(&other));
}

#[test]
fn a_banned_member_stays_away_until_it_is_unbanned() {
    for (by, other) in [(0, 1), (1, 0)] {
        let mut subnet = Subnet::connected(3, &config());
        let (node, peer) = (subnet.node(by).clone(), subnet.id(other));
        // What it advertises is dropped with it.
        subnet.channel(other).publish("x", b"").expect("there is room");
        subnet.settle();
        drop(events(&node));
        node.ban(peer).expect("a member");
        subnet.settle();
        assert_eq!(events(&node), [NodeEvent::Down { peer, why: Closed::Left }]);
        assert!(are_up(&subnet, by, &[2]) && are_up(&subnet, other, &[2]));
        // However the topology changes, and whoever dials.
        node.set_topology(topology(&subnet, 2, &[0, 1, 2])).expect("a newer one");
        subnet.elapse(ms(60_000));
        assert_eq!(node.membership().banned().collect::<Vec<_>>(), [peer]);
        assert!(are_up(&subnet, by, &[2]) && are_up(&subnet, other, &[2]));

        node.unban(&peer).expect("there is room");
        subnet.until_within(ms(10_000), "connected", |subnet| are_up(subnet, by, &[other, 2]));
    }
}

#[test]
fn a_ban_ends_with_the_membership() {
    let mut subnet = Subnet::connected(2, &config());
    let (node, peer) = (subnet.node(0).clone(), subnet.id(1));
    node.ban(peer).expect("a member");
    node.set_topology(topology(&subnet, 2, &[0])).expect("a newer one");
    assert_eq!(node.ban(peer), Err(TopologyError::NoMember(peer)));
    node.set_topology(topology(&subnet, 3, &[0, 1])).expect("a newer one");
    assert_eq!(node.membership().banned().len(), 0);
    subnet.until("connected", |subnet| are_up(subnet, 0, &[1]));
}

#[test]
fn events_that_nobody_takes_wake_nobody_who_waits_for_members() {
    let mut config = config();
    config.driver.staged_events_max = 1;
    let mut subnet = Subnet::connected(3, &config);
    let node = subnet.node(0).clone();
    let stranger = Who::Member(NodeId([7; 32]));
    let mut waiting = Waiting::new(async { node.wait_connected(stranger, ms(60_000)).await });
    subnet.settle();
    assert_eq!(waiting.poll(), None);
    for at in 0..10_u8 {
        subnet.channel(0).publish(vec![at], b"").expect("there is room");
        subnet.elapse(ms(10));
        assert!(!waiting.is_woken(), "nobody came or went");
    }
    drop(subnet.node(2).shutdown());
    subnet.until("one has gone", |subnet| are_up(subnet, 0, &[1]));
    assert!(waiting.is_woken());
}

/// Between two turns of the driver.
#[test]
fn who_was_no_member_for_a_moment_is_disconnected() {
    for is_banned in [true, false] {
        let mut subnet = Subnet::connected(3, &config());
        let (node, peer) = (subnet.node(0).clone(), subnet.id(1));
        drop(events(&node));
        if is_banned {
            node.ban(peer).expect("a member");
            node.unban(&peer).expect("there is room");
        } else {
            node.set_topology(topology(&subnet, 2, &[0, 2])).expect("a newer one");
            node.set_topology(topology(&subnet, 3, &[0, 1, 2])).expect("a newer one");
        }
        subnet.settle();
        let events = events(&node);
        assert_eq!(events.first(), Some(&NodeEvent::Down { peer, why: Closed::Left }));
        subnet.until("connected again", |subnet| are_up(subnet, 0, &[1, 2]));
        assert!(
            events.iter().all(
                |event| !matches!(event, NodeEvent::Down { peer: other, .. } if *other != peer)
            )
        );
    }
}

/// [`NodeHandle::set_topology`]: in place of all others, and not back to an older one.
#[test]
fn a_topology_takes_the_place_of_the_latest_and_an_older_one_does_not() {
    let mut subnet = Subnet::connected(3, &config());
    let node = subnet.node(0).clone();
    node.set_topology(topology(&subnet, 5, &[0, 1, 2])).expect("a newer one");
    let older = node.set_topology(topology(&subnet, 4, &[0, 1]));
    assert_eq!(older, Err(TopologyError::VersionBackwards));
    subnet.settle();
    assert!(are_up(&subnet, 0, &[1, 2]), "nothing has changed");
    node.set_topology(topology(&subnet, 5, &[0, 1])).expect("the version of the latest");
    subnet.settle();
    assert!(are_up(&subnet, 0, &[1]), "former ones are dropped at once");
}

/// [`NodeHandle::set_topology`], [`Who::All`].
#[test]
fn who_is_no_member_keeps_no_connections_and_has_nobody_to_wait_for() {
    let mut subnet = Subnet::connected(3, &config());
    let node = subnet.node(0).clone();
    node.set_topology(topology(&subnet, 2, &[1, 2])).expect("a newer one");
    subnet.settle();
    assert!(are_up(&subnet, 0, &[]));
    assert_eq!(subnet.run(node.wait_connected(Who::All, ms(0))), Ok(()));
    subnet.elapse(ms(10_000));
    assert!(are_up(&subnet, 0, &[]) && are_up(&subnet, 1, &[2]));
}

/// [`NodeHandle::add_topology`], [`NodeHandle::retire_topologies`].
#[test]
fn a_member_of_any_topology_in_use_stays_until_that_is_retired() {
    let mut subnet = Subnet::connected(3, &config());
    let node = subnet.node(0).clone();
    node.add_topology(topology(&subnet, 2, &[0, 2])).expect("a newer one");
    subnet.elapse(ms(10_000));
    assert!(are_up(&subnet, 0, &[1, 2]));
    let again = node.add_topology(topology(&subnet, 2, &[0, 1]));
    assert_eq!(again, Err(TopologyError::VersionReused));
    // The latest is not retired.
    node.retire_topologies(9).expect("it runs");
    subnet.settle();
    assert!(are_up(&subnet, 0, &[2]));
    assert_eq!(node.membership().latest().version(), 2);
    drop(node.shutdown());
    subnet.until("it has ended", |subnet| subnet.has_ended(0));
    assert_eq!(node.retire_topologies(9), Err(TopologyError::Closed));
}

/// [`NodeHandle::ban`], [`NodeHandle::unban`]: what they refuse.
#[test]
fn bans_that_cannot_be_change_nothing() {
    let mut config = config();
    config.peers_max = 2;
    let mut subnet = Subnet::connected(3, &config);
    let (node, peer) = (subnet.node(0).clone(), subnet.id(1));
    let stranger = NodeId([7; 32]);
    assert_eq!(node.ban(stranger), Err(TopologyError::NoMember(stranger)));
    node.ban(peer).expect("a member");
    // In its place there is another one.
    let members = [0, 1, 2].map(|at| (subnet.id(at), vec![address(at)]));
    let members = members.into_iter().chain([(stranger, vec![address(9)])]);
    node.set_topology(Topology::new(2, members).expect("each once")).expect("there is room");
    assert_eq!(node.unban(&peer), Err(TopologyError::TooManyMembers));
    assert_eq!(node.membership().banned().collect::<Vec<_>>(), [peer]);
    drop(node.shutdown());
    subnet.until("it has ended", |subnet| subnet.has_ended(0));
    assert_eq!(node.ban(subnet.id(2)), Err(TopologyError::Closed));
    assert_eq!(node.unban(&peer), Err(TopologyError::Closed));
}

/// [`NodeHandle::wait_connected`]: the time counts from the first poll.
#[test]
fn a_wait_that_is_polled_late_has_all_of_its_time() {
    let mut subnet = Subnet::connected(2, &config());
    let node = subnet.node(0).clone();
    let stranger = Who::Member(NodeId([7; 32]));
    let mut waiting = Waiting::new(async { node.wait_connected(stranger, ms(250)).await });
    subnet.elapse(ms(1_000));
    assert_eq!(waiting.poll(), None);
    subnet.elapse(ms(249));
    assert_eq!(waiting.poll(), None);
    subnet.elapse(ms(1));
    assert_eq!(waiting.poll(), Some(Err(WaitError::DeadlinePassed)));
}
