//! Several versions of the topology in use at once: who goes when, who takes another key, and where
//! members are looked for.

use std::net::SocketAddr;

use slotcast::config::{ChannelConfig, Relay};
use slotcast::id::NodeId;
use slotcast::membership::{Overlay, Topology, TopologyError, VERSIONS_MAX};
use slotcast::node::{Closed, NodeEvent, NodeKey};
use slotcast_sim::{Random, address};

use crate::subnet::{Recorded, Subnet, Told, connected, secured, started};
use slotcast_testkit::machines::{artifact, config, large, ms, small};

fn relaying(channel: &mut ChannelConfig) {
    channel.relay = Relay::Automatic;
    channel.relay_slots_max = channel.slots_max / 2;
}

fn ups(subnet: &Subnet) -> Vec<usize> {
    (0..subnet.members()).map(|at| subnet.peers_up(at)).collect()
}

/// All nodes follow a topology beside those that they follow.
fn all_follow_too(subnet: &mut Subnet, topology: &Topology) {
    (0..subnet.members()).for_each(|at| subnet.follow_too(at, topology));
}

fn all_retire(subnet: &mut Subnet, oldest: u64) {
    (0..subnet.members()).for_each(|at| subnet.retire(at, oldest));
}

/// The topology of all, where one member proves itself by other keys.
fn with_keys(subnet: &mut Subnet, at: usize, keys: &[NodeId]) -> Topology {
    let all = subnet.topology(0..subnet.members());
    all.keys(subnet.id(at), keys.iter().copied()).expect("nobody else's")
}

#[test]
fn p4_a_member_that_is_removed_goes_when_the_last_version_that_has_it_is_retired() {
    let mut subnet = connected(&config(|_| {}), 10);
    let rest = subnet.topology((0..10).filter(|at| *at != 4));
    all_follow_too(&mut subnet, &rest);
    subnet.publish(4, &small(4));
    subnet.elapse(ms(15_000));
    assert!(subnet.is_mesh(), "still connected");
    assert!((0..10).all(|at| at == 4 || subnet.has(at, &small(4))));
    // Not even a restart keeps it out before its time.
    subnet.kill(4);
    subnet.start(4);
    subnet.run_until("back", ms(15_000), Recorded::is_mesh);
    subnet.settle();
    (0..10).for_each(|at| drop((subnet.told(at), subnet.node_told(at))));

    all_retire(&mut subnet, rest.version());
    subnet.settle();
    assert_eq!(ups(&subnet), [8, 8, 8, 8, 0, 8, 8, 8, 8, 8]);
    for at in (0..10).filter(|at| *at != 4) {
        assert_eq!(subnet.node_told(at), [subnet.down(4, Closed::Left)]);
    }
    subnet.assert_peace();
}

#[test]
fn t3_versions_that_nodes_learn_of_one_after_the_other_part_nobody() {
    let mut subnet = started(&config(|_| {}), 4);
    let three = subnet.topology(0..3);
    (0..4).for_each(|at| subnet.follow(at, &three));
    subnet.elapse(ms(1000));
    assert_eq!(ups(&subnet), [2, 2, 2, 0]);
    // 3 comes and 0 goes; each learns of it by itself, and retires at its own time.
    let next = subnet.topology(1..4);
    for at in [3, 1, 0, 2] {
        subnet.follow_too(at, &next);
        subnet.elapse(ms(2000));
    }
    subnet.run_until("all are connected", ms(12_000), Recorded::is_mesh);
    (0..4).for_each(|at| drop(subnet.node_told(at)));
    for at in [2, 0, 1, 3] {
        subnet.retire(at, next.version());
        subnet.elapse(ms(2000));
    }
    assert_eq!(ups(&subnet), [0, 2, 2, 2]);
    for at in 1..4 {
        let told = subnet.node_told(at);
        assert!(told.iter().all(|event| format!("{event:?}").contains("Down")), "{told:?}");
        assert_eq!(told.len(), 1, "only 0 has gone: {told:?}");
    }
}

#[test]
fn t6_who_is_removed_while_parted_is_let_in_until_its_version_is_retired() {
    let mut subnet = connected(&config(|_| {}), 3);
    let rest = subnet.topology([0, 1]);
    subnet.cut(&[2], &[0, 1]);
    (0..2).for_each(|at| subnet.follow_too(at, &rest));
    subnet.elapse(ms(20_000));
    assert_eq!(ups(&subnet), [1, 1, 0]);
    subnet.heal();
    subnet.run_until("2 is let in", ms(12_000), Recorded::is_mesh);
    subnet.cut(&[2], &[0, 1]);
    subnet.elapse(ms(20_000));
    (0..2).for_each(|at| subnet.retire(at, rest.version()));
    subnet.heal();
    subnet.publish(0, &small(1));
    subnet.elapse(ms(20_000));
    assert_eq!(ups(&subnet), [1, 1, 0]);
    assert_eq!([1, 2].map(|at| subnet.has(at, &small(1))), [true, false]);
}

#[test]
fn p3_several_come_at_once_and_p1_who_is_alone_sends_nothing() {
    let mut subnet = started(&config(|_| {}), 6);
    let alone = subnet.topology([0]);
    (0..6).for_each(|at| subnet.follow(at, &alone));
    subnet.publish(0, &small(1));
    subnet.elapse(ms(20_000));
    assert_eq!(ups(&subnet), [0; 6]);
    assert!((1..6).all(|at| subnet.sent(0, at) == 0));
    let all = subnet.topology(0..6);
    all_follow_too(&mut subnet, &all);
    let took = subnet.run_until("all are connected", ms(1000), Recorded::is_mesh);
    assert!(took < ms(200), "{took:?}");
    subnet.settle();
    assert!((1..6).all(|at| subnet.has(at, &small(1))));
    subnet.assert_peace();
}

/// Both hold what is being fetched, and both serve others.
#[test]
fn l1_two_members_that_leave_at_once_leave_nothing_behind() {
    for (stay, gone) in [(0, [1, 2]), (3, [0, 1]), (1, [0, 3])] {
        let mut subnet = connected(&config(|_| {}), 4);
        let (one, both) = (artifact(1, 4 << 20), artifact(2, 4 << 20));
        let rest: Vec<usize> = (0..4).filter(|at| !gone.contains(at)).collect();
        let other = *rest.iter().find(|at| **at != stay).expect("two of four");
        gone.iter().for_each(|at| subnet.publish(*at, &both));
        subnet.publish(gone[0], &one);
        subnet.publish(gone[1], &small(3));
        subnet.publish(other, &small(4));
        subnet.elapse(ms(70));
        assert!(subnet.sent(gone[0], stay) + subnet.sent(gone[1], stay) > 20_000, "begun");
        subnet.told(stay);
        let topology = subnet.topology(rest.iter().copied());
        all_follow_too(&mut subnet, &topology);
        subnet.retire(stay, topology.version());
        assert_eq!(subnet.peers_up(stay), 1, "at once");
        rest.iter().chain(&gone).for_each(|at| subnet.retire(*at, topology.version()));
        subnet.settle();
        assert_eq!(subnet.told(stay), [Told::Expired(small(3).id())]);
        assert_eq!([stay, other].map(|at| subnet.peers_up(at)), [1, 1]);

        // They come back as if they had never been there.
        subnet.node_told(stay);
        let all = subnet.topology(0..4);
        all_follow_too(&mut subnet, &all);
        subnet.run_until("delivered", ms(10_000), |subnet| {
            [&one, &both, &small(3)].iter().all(|artifact| subnet.has(stay, artifact))
        });
        subnet.elapse(ms(5000));
        assert_eq!(subnet.delivered(stay).len(), 3, "once each");
        let told = subnet.node_told(stay);
        assert_eq!(told, gone.map(|at| subnet.up(at)));
        subnet.assert_peace();
    }
}

/// With a relay, two members hold one artifact in a slot each; one of them leaves, then the other.
#[test]
fn l2_what_two_slots_hold_expires_with_the_later_of_two_that_leave() {
    let mut subnet = connected(&config(relaying), 3);
    subnet.publish(0, &large(1));
    subnet.elapse(ms(2000));
    assert_eq!(subnet.told(2), [Told::Delivered(large(1).id())]);
    for (left, expected) in [(0, None), (1, Some(Told::Expired(large(1).id())))] {
        let rest = subnet.topology(left + 1..3);
        subnet.follow(2, &rest);
        subnet.settle();
        assert_eq!(subnet.told(2), Vec::from_iter(expected));
    }
}

#[test]
fn l21_the_only_holder_leaves_while_it_serves_and_returns() {
    let mut subnet = connected(&config(|_| {}), 3);
    let block = artifact(1, 4 << 20);
    subnet.publish(1, &block);
    subnet.elapse(ms(70));
    assert!(subnet.sent(1, 0) > 10_000, "begun");
    let rest = subnet.topology([0, 2]);
    (0..3).for_each(|at| subnet.follow(at, &rest));
    subnet.elapse(ms(200));
    let before = subnet.sent(1, 0);
    subnet.elapse(ms(20_000));
    assert_eq!((subnet.told(0), subnet.sent(1, 0)), (vec![], before), "given up in silence");
    let all = subnet.topology(0..3);
    (0..3).for_each(|at| subnet.follow(at, &all));
    subnet.run_until("delivered", ms(10_000), |subnet| subnet.has(0, &block));
    subnet.elapse(ms(5000));
    assert_eq!(subnet.told(0), [Told::Delivered(block.id())]);
    subnet.assert_peace();
}

/// The member's name stays when its key changes, and with it all that is known of it.
#[test]
fn a_member_takes_another_key_over_an_overlap_of_versions_and_stays_who_it_is() {
    // In the role of who dials, and of who is dialled.
    for at in [0, 2] {
        let other = 2 - at;
        let mut subnet = secured(&config(|_| {}), 3);
        subnet.connect();
        // By its new key it would be on the other side of the others: its name says who dials.
        let mut keys = (100..).map(|seed| NodeKey::from_seed([seed; 32]));
        let is_across = |key: &NodeKey| (0..3).all(|of| (key.id() > subnet.id(of)) == (at == 0));
        let (old, new) = (subnet.key(at).clone(), keys.find(is_across).expect("every third"));
        let block = artifact(1, 1 << 20);
        subnet.publish(at, &block);
        subnet.run_until("delivered", ms(5000), |subnet| subnet.has(other, &block));
        subnet.settle();
        (0..3).for_each(|at| drop((subnet.told(at), subnet.node_told(at))));
        let first = subnet.node(at).expect("it runs").topology().version();

        let both = with_keys(&mut subnet, at, &[old.id(), new.id()]);
        all_follow_too(&mut subnet, &both);
        subnet.elapse(ms(5000));
        assert_eq!(subnet.stats(other).connections, 2, "nothing has happened");
        subnet.kill(at);
        subnet.start(at);
        subnet.publish(at, &block);
        let took = subnet.run_until("back", ms(5000), Recorded::is_mesh);
        assert!(took <= ms(3300), "the old key is good still: {took:?}");
        subnet.settle();
        subnet.node_told(other);

        let before = subnet.sent(at, other);
        subnet.kill(at);
        subnet.start_as(at, new.clone());
        subnet.publish(at, &block);
        // Resets are signed with the key: who is dialled and has another one now cannot send them,
        // and is found out by the idle timeout.
        let took = subnet.run_until("back", ms(15_000), Recorded::is_mesh);
        assert!(took <= ms(if at == 0 { 200 } else { 13_500 }), "{took:?}");
        subnet.elapse(ms(5000));
        assert_eq!(subnet.with(at, |node| (node.key_id(), node.member_id())), (new.id(), old.id()));
        assert_eq!(subnet.told(other), [], "what it advertises was known of this member");
        let sent = subnet.sent(at, other) - before;
        assert!(sent < 50_000, "no second download: {sent}");
        subnet.publish(other, &small(2));
        subnet.settle();
        assert!(subnet.has(at, &small(2)));

        // Its end: who has only the old key is nobody, and the new one is not disturbed.
        let last = with_keys(&mut subnet, at, &[new.id()]);
        all_follow_too(&mut subnet, &last);
        all_retire(&mut subnet, last.version());
        subnet.node_told(other);
        subnet.elapse(ms(15_000));
        assert!(subnet.is_mesh() && subnet.node_told(other).is_empty());
        assert!(subnet.with(other, |node| node.membership().owner(&old.id())).is_none());
        subnet.kill(at);
        subnet.start_as(at, old.clone());
        subnet.elapse(ms(20_000));
        assert_eq!(subnet.peers_up(at), 0, "it knows that itself");
        let stale = subnet.topology(0..3);
        subnet.kill(at);
        subnet.follow(at, &stale);
        subnet.start_as(at, old);
        subnet.elapse(ms(20_000));
        assert_eq!((subnet.peers_up(at), subnet.peers_up(other)), (0, 1), "and if it does not");
        assert!(last.version() > first);
    }
}

#[test]
fn a_connection_under_a_key_that_is_retired_is_closed_at_once() {
    for at in [0, 2] {
        let other = 2 - at;
        let mut subnet = connected(&config(|_| {}), 3);
        let new = NodeKey::from_seed([77; 32]);
        subnet.publish(at, &small(1));
        subnet.settle();
        let last = with_keys(&mut subnet, at, &[new.id()]);
        subnet.follow_too(other, &last);
        subnet.settle();
        assert_eq!(subnet.peers_up(other), 2);
        subnet.node_told(other);
        subnet.retire(other, last.version());
        assert_eq!(subnet.peers_up(other), 1, "at once");
        subnet.elapse(ms(20_000));
        assert_eq!((subnet.peers_up(other), subnet.peers_up(at)), (1, 1));
        assert_eq!(subnet.node_told(other), [subnet.down(at, Closed::Lost)]);

        // It is a member all the same, only not by this key. With a new one it is let in.
        subnet.kill(at);
        subnet.follow(at, &last);
        subnet.start_as(at, new);
        subnet.publish(at, &small(1));
        subnet.run_until("back", ms(6000), |subnet| subnet.is_up(at, other));
        subnet.settle();
        assert_eq!(subnet.told(other), [Told::Delivered(small(1).id())], "and nothing else");
    }
}

/// Under another name a node is another member, to the others and in its own eyes.
#[test]
fn a_node_whose_key_is_given_to_another_member_begins_anew_as_that_one() {
    for at in [0, 2] {
        let other = 2 - at;
        let mut subnet = connected(&config(|_| {}), 3);
        (0..3).for_each(|of| subnet.publish(of, &small(of as u64)));
        subnet.settle();
        (0..3).for_each(|of| drop((subnet.told(of), subnet.node_told(of))));
        let name = NodeId([0x80; 32]);
        let member = |of: usize| (if of == at { name } else { subnet.id(of) }, vec![address(of)]);
        let named = Topology::new(1000, [0, 1, 2].map(member)).unwrap();
        let named = named.keys(name, [subnet.id(at)]).unwrap();
        (0..3).for_each(|of| subnet.follow(of, &named));
        assert_eq!(subnet.with(at, |node| node.member_id()), name);
        assert_eq!(ups(&subnet).iter().sum::<usize>(), 2, "only the others know each other");
        let took = subnet.run_until("again", ms(1000), |subnet| ups(subnet) == [2, 2, 2]);
        assert!(took <= ms(200), "{took:?}");
        subnet.settle();
        assert!(subnet.with(other, |node| node.peers_up().any(|peer| peer == name)));
        // What it has is the same, and gone in between for whoever knew it from the other.
        let again = small(at as u64).id();
        assert_eq!(subnet.told(other), [Told::Expired(again), Told::Delivered(again)]);
        assert_eq!(subnet.told(at).len(), 4);
        let told = subnet.node_told(other);
        assert_eq!(told[0], subnet.down(at, Closed::Left));
        assert_eq!(told[1..], [NodeEvent::Up { peer: name }]);
        subnet.assert_peace();
    }
}

/// With no key to prove itself by, a key that is another's for the time being, or no part in the
/// subnet, a node has no members.
#[test]
fn a_node_that_is_named_nowhere_or_by_an_empty_topology_keeps_no_connections() {
    let mut subnet = connected(&config(|_| {}), 3);
    let nobody = subnet.topology([]);
    subnet.follow_too(0, &nobody);
    subnet.settle();
    assert_eq!(ups(&subnet), [2, 2, 2], "the empty one is in use beside the full one");
    subnet.retire(0, nobody.version());
    subnet.settle();
    assert_eq!(ups(&subnet), [0, 1, 1]);
    let others = subnet.topology([1, 2]);
    subnet.follow_too(0, &others);
    subnet.publish(0, &small(1));
    let sent = subnet.stats(0).sent_bytes;
    subnet.elapse(ms(20_000));
    assert_eq!((ups(&subnet), subnet.stats(0).sent_bytes), (vec![0, 1, 1], sent));
    let all = subnet.topology(0..3);
    all_follow_too(&mut subnet, &all);
    subnet.run_until("all are connected", ms(12_000), Recorded::is_mesh);
    subnet.settle();
    assert!(subnet.has(1, &small(1)));
}

#[test]
fn versions_that_go_back_are_reused_or_too_many_change_nothing() {
    let mut subnet = connected(&config(|_| {}), 3);
    let before = subnet.with(1, |node| node.membership().clone());
    let now = subnet.now();
    let latest = before.latest().version();
    let alone = |version| Topology::new(version, [(NodeId([1; 32]), vec![address(0)])]).unwrap();
    for (version, error) in
        [(latest - 1, TopologyError::VersionBackwards), (latest, TopologyError::VersionReused)]
    {
        let added = subnet.with(1, |node| node.add_topology(now, alone(version)));
        assert_eq!(added, Err(error));
    }
    for version in latest + 1..latest + VERSIONS_MAX as u64 {
        subnet.with(1, |node| node.add_topology(now, alone(version))).unwrap();
    }
    let full = subnet.with(1, |node| node.add_topology(now, alone(1000)));
    assert_eq!(full, Err(TopologyError::WindowFull));
    subnet.settle();
    assert!(subnet.is_mesh());
    subnet.with(1, |node| node.retire_topologies(now, latest + 1));
    subnet.settle();
    assert_eq!(ups(&subnet), [1, 0, 1]);
}

fn placed(subnet: &Subnet, version: u64, places: &[(usize, &[SocketAddr])]) -> Topology {
    let members = places.iter().map(|(at, addresses)| (subnet.id(*at), addresses.to_vec()));
    Topology::new(version, members).unwrap()
}

/// The addresses of the newest version count, and are tried at once: before the connection to the
/// old one is missed, and while a dial of the old one is under way.
#[test]
fn a_member_that_moves_is_dialled_at_once_where_the_newest_version_says() {
    // What is at place 2 goes on at place 1, whose own node is gone for good. 0 dials.
    let here = address(0);
    for (silent, limit) in [(0, 200), (14_000, 200)] {
        let mut subnet = connected(&config(|_| {}), 3);
        subnet.kill(1);
        subnet.kill(2);
        subnet.elapse(ms(silent));
        assert_eq!(
            subnet.peers_up(0),
            if silent == 0 { 2 } else { 0 },
            "before, and while dialling"
        );
        let moved = placed(&subnet, 1000, &[(0, &[here]), (2, &[address(1)])]);
        subnet.follow(1, &moved);
        subnet.start_as(1, subnet.key(2).clone());
        let begun = subnet.now();
        subnet.follow_too(0, &moved);
        subnet.publish(0, &small(1));
        subnet.run_until("found", ms(20_000), |subnet| subnet.has(1, &small(1)));
        let took = subnet.now().since(begun);
        assert!(took <= ms(limit), "{took:?}");
        // An older version has nothing to say about it.
        subnet.retire(0, 0);
        subnet.elapse(ms(15_000));
        assert!(subnet.with(0, |node| node.peers_up().count()) == 1);
    }
}

/// A new address that is no good does not cost the connection to the old one.
#[test]
fn a_member_that_has_not_moved_yet_keeps_its_connection() {
    let mut subnet = connected(&config(|_| {}), 3);
    subnet.kill(1);
    subnet.elapse(ms(15_000));
    let before = subnet.stats(0).connections;
    let moved = placed(&subnet, 1000, &[(0, &[address(0)]), (2, &[address(1)])]);
    subnet.follow(0, &moved);
    let dials = subnet.sent(0, 1);
    subnet.elapse(ms(60_000));
    assert!(subnet.is_up(0, 2) && subnet.stats(0).connections == before);
    let dials = subnet.sent(0, 1) - dials;
    assert!((1200..20_000).contains(&dials), "one dial: {dials}");
}

#[test]
fn p2_addresses_that_lead_nowhere_are_passed_over() {
    let nowhere: SocketAddr = ([0, 0, 0, 0], 0).into();
    for (dead, limit) in [(address(2), 5200), (nowhere, 200)] {
        let mut subnet = started(&config(|_| {}), 3);
        subnet.kill(2);
        let addresses = [dead, address(1)];
        let topology = placed(&subnet, 1000, &[(0, &[address(0)]), (1, &addresses)]);
        (0..2).for_each(|at| subnet.follow(at, &topology));
        subnet.kill(1);
        subnet.elapse(ms(20_000));
        // From the first address on.
        subnet.kill(0);
        subnet.start(0);
        subnet.start(1);
        subnet.publish(0, &small(1));
        let took = subnet.run_until("found", ms(12_000), |subnet| subnet.has(1, &small(1)));
        assert!(took <= ms(limit), "a dial that fails, a pause, a handshake: {took:?}");
    }
}

/// Invariant 10, whoever follows what when; and in the end all are connected who should be.
#[test]
fn windows_at_random_connect_members_only_and_agree_in_the_end() {
    for seed in 0..12 {
        let mut random = Random::new(seed);
        let mut draw = move |end: usize| random.below(end as u64) as usize;
        let mut config = config(|_| {});
        if seed % 2 == 1 {
            config.transport.overlay = Overlay::Regular { degree: 4 };
        }
        let mut subnet = started(&config, 8);
        let keys: Vec<_> = (0..8).map(|at| NodeKey::from_seed([100 + at; 32])).collect();
        let mut known = vec![subnet.topology(0..8)];
        (0..8).for_each(|at| subnet.follow(at, &known[0]));
        for step in 0..60 {
            let at = draw(8);
            let window = subnet.with(at, |node| node.membership().clone());
            let latest = window.latest().version();
            match draw(6) {
                0 => {
                    let members: Vec<usize> = (0..8).filter(|_| draw(4) > 0).collect();
                    let rotated = members.iter().copied().find(|_| draw(4) == 0);
                    let mut next = subnet.topology(members);
                    if let Some(at) = rotated {
                        next = next.keys(subnet.id(at), [subnet.id(at), keys[at].id()]).unwrap();
                    }
                    known.push(next);
                }
                1 | 2 => {
                    let later = known.iter().find(|topology| topology.version() > latest);
                    if let Some(later) = later
                        && window.versions().len() < VERSIONS_MAX
                    {
                        subnet.follow_too(at, later);
                    }
                }
                3 => subnet.retire(at, latest - draw(2) as u64),
                4 => subnet.follow(at, known.last().expect("the first")),
                _ => {
                    let key = if draw(2) == 0 { subnet.key(at).clone() } else { keys[at].clone() };
                    subnet.kill(at);
                    subnet.start_as(at, key);
                    subnet.publish(at, &large(step % 8));
                }
            }
            subnet.elapse(ms(draw(400) as u64));
            for at in 0..8 {
                subnet.with(at, |node| {
                    let overlay = node.config().transport.overlay;
                    let peers = node.membership().peers_of(&node.key_id(), overlay);
                    let stranger = node.peers_up().find(|peer| !peers.contains(peer));
                    assert_eq!(stranger, None, "seed {seed}, step {step}, {at}");
                });
            }
        }
        let all = subnet.topology(0..8);
        for at in 0..8 {
            subnet.kill(at);
            subnet.start(at);
            subnet.follow(at, &all);
            subnet.publish(at, &small(at as u64));
        }
        subnet.run_until("all have all of their peers", ms(20_000), |subnet| {
            (0..8).all(|at| {
                let node = subnet.node(at).expect("it runs");
                let peers =
                    node.membership().peers_of(&node.key_id(), node.config().transport.overlay);
                node.peers_up().count() == peers.len() && !peers.is_empty()
            })
        });
        subnet.elapse(ms(2000));
        for (at, of) in (0..8).flat_map(|at| (0..8).map(move |of| (at, of))) {
            if subnet.is_up(at, of) {
                assert!(subnet.has(at, &small(of as u64)), "seed {seed}, {at} of {of}");
            }
        }
    }
}
