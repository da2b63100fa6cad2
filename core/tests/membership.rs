//! Topologies, and the window of those in use.

use std::net::SocketAddr;

use slotcast::id::NodeId;
use slotcast::membership::{Membership, Overlay, Topology, TopologyError, VERSIONS_MAX};

fn id(at: u8) -> NodeId {
    NodeId([at; 32])
}

fn address(port: u16) -> SocketAddr {
    ([192, 0, 2, 1], port).into()
}

/// Members by their numbers, each at a port of that number.
fn topology(version: u64, members: &[u8]) -> Topology {
    let members = members.iter().map(|at| (id(*at), vec![address((*at).into())]));
    Topology::new(version, members).unwrap()
}

fn ids(members: &[u8]) -> Vec<NodeId> {
    members.iter().map(|at| id(*at)).collect()
}

fn members(window: &Membership) -> Vec<NodeId> {
    window.members().collect()
}

fn peers(window: &Membership, key: u8) -> Vec<NodeId> {
    window.peers_of(&id(key), Overlay::FullMesh).into_iter().collect()
}

#[test]
fn a_key_belongs_to_one_member_and_a_member_has_one_or_two() {
    let three = topology(1, &[1, 2, 3]);
    assert_eq!((three.keys_of(&id(1)), three.owner(&id(1))), (&ids(&[1])[..], Some(id(1))));
    assert_eq!((three.keys_of(&id(9)), three.owner(&id(9))), (&[][..], None));

    let both = three.clone().keys(id(1), ids(&[9, 1])).unwrap();
    assert_eq!(both.keys_of(&id(1)), ids(&[1, 9]));
    assert_eq!([1, 9].map(|key| both.owner(&id(key))), [Some(id(1)); 2]);
    let new = both.clone().keys(id(1), ids(&[9])).unwrap();
    assert_eq!([1, 9].map(|key| new.owner(&id(key))), [None, Some(id(1))]);
    // The name that nobody proves himself by any more may be another's key.
    assert_eq!(new.clone().keys(id(2), ids(&[1])).unwrap().owner(&id(1)), Some(id(2)));
    assert_ne!(both, three);

    let error = |node: u8, keys: &[u8]| both.clone().keys(id(node), ids(keys)).unwrap_err();
    assert_eq!(error(4, &[5]), TopologyError::NoMember(id(4)));
    for keys in [&[][..], &[4, 5, 6], &[4, 4]] {
        assert_eq!(error(2, keys), TopologyError::Keys(id(2)));
    }
    assert_eq!(error(2, &[3]), TopologyError::KeyTaken(id(3)));
    assert_eq!(error(2, &[4, 9]), TopologyError::KeyTaken(id(9)));
}

#[test]
fn members_have_places_in_the_order_of_their_ids() {
    let four = topology(1, &[7, 1, 9, 3]);
    let placed: Vec<_> = [1, 3, 7, 9, 2].map(|at| four.index_of(&id(at))).into();
    assert_eq!(placed, [Some(0), Some(1), Some(2), Some(3), None]);
    for (index, (member, _)) in four.members().enumerate() {
        assert_eq!((four.index_of(&member), four.member_at(index)), (Some(index), Some(member)));
    }
    assert_eq!(four.member_at(4), None);
    // Another key is another proof, and no other member.
    let keyed = four.keys(id(3), ids(&[200])).unwrap();
    assert_eq!((keyed.index_of(&id(3)), keyed.index_of(&id(200))), (Some(1), None));
}

#[test]
fn t3_members_of_any_version_in_use_are_members() {
    let mut window = Membership::new(topology(5, &[1, 2]));
    window.add(topology(7, &[2, 3])).unwrap();
    window.add(topology(8, &[2])).unwrap();
    assert_eq!(members(&window), ids(&[1, 2, 3]));
    assert_eq!(window.latest().version(), 8);
    assert_eq!(peers(&window, 3), ids(&[1, 2]), "also of a version that it is not in");
    window.retire(5);
    assert_eq!(members(&window), ids(&[1, 2, 3]), "5 is not below 5");
    window.retire(7);
    assert_eq!((members(&window), window.addresses(&id(1))), (ids(&[2, 3]), None));
    window.retire(100);
    assert_eq!(members(&window), ids(&[2]), "the latest stays");
    window.retire(0);
    assert_eq!(window, Membership::new(topology(8, &[2])));
}

#[test]
fn versions_do_not_go_back_nor_change_nor_grow_without_bound() {
    let mut window = Membership::new(topology(5, &[1, 2]));
    window.add(topology(7, &[1, 3])).unwrap();
    let before = window.clone();
    for same in [topology(5, &[1, 2]), topology(7, &[1, 3])] {
        assert_eq!(window.add(same), Ok(()));
    }
    assert_eq!(window.add(topology(6, &[1])), Err(TopologyError::VersionBackwards));
    assert_eq!(window.add(topology(4, &[1])), Err(TopologyError::VersionBackwards));
    for version in [5, 7] {
        assert_eq!(window.add(topology(version, &[1])), Err(TopologyError::VersionReused));
    }
    assert_eq!(window.replace(topology(6, &[1])), Err(TopologyError::VersionBackwards));
    assert_eq!(window, before, "what is refused changes nothing");
    for version in 8..8 + VERSIONS_MAX as u64 - 2 {
        window.add(topology(version, &[1])).unwrap();
    }
    let full = window.clone();
    assert_eq!(window.add(topology(99, &[1, 9])), Err(TopologyError::WindowFull));
    assert_eq!(window, full);
    window.retire(6);
    window.add(topology(99, &[1, 9])).unwrap();
    assert_eq!(window.versions().len(), VERSIONS_MAX);

    // In place of all, with the number of the latest even.
    window.replace(topology(99, &[1, 2])).unwrap();
    assert_eq!(window, Membership::new(topology(99, &[1, 2])));
}

#[test]
fn newer_addresses_win_and_keys_are_united() {
    let at = |version, port| Topology::new(version, [(id(1), vec![address(port)])]).unwrap();
    let mut window = Membership::new(at(1, 10));
    window.add(at(2, 20).keys(id(1), ids(&[1, 9])).unwrap()).unwrap();
    window.add(at(3, 30).keys(id(1), ids(&[9])).unwrap()).unwrap();
    assert_eq!(window.addresses(&id(1)), Some(&[address(30)][..]));
    assert_eq!(window.keys_of(&id(1)), ids(&[1, 9]));
    assert_eq!([1, 9].map(|key| window.owner(&id(key))), [Some(id(1)); 2]);
    window.retire(3);
    assert_eq!((window.keys_of(&id(1)), window.owner(&id(1))), (&ids(&[9])[..], None));

    // A key changes hands only once no version in use gives it to the one before.
    let mut window = Membership::new(topology(1, &[1, 2]));
    window.add(topology(2, &[1])).unwrap();
    let handed = topology(3, &[1]).keys(id(1), ids(&[1, 2])).unwrap();
    assert_eq!(window.add(handed.clone()), Err(TopologyError::KeyTaken(id(2))));
    window.retire(2);
    assert_eq!(window.add(handed), Ok(()));
}

#[test]
fn p1_who_is_alone_not_named_or_retired_has_no_peers() {
    assert_eq!(peers(&Membership::new(topology(1, &[1])), 1), []);
    assert_eq!(peers(&Membership::new(topology(1, &[])), 1), []);
    assert_eq!(peers(&Membership::new(topology(1, &[2, 3])), 1), []);
    // A name is not a key any more once the member has another.
    let rotated = topology(1, &[1, 2, 3]).keys(id(1), ids(&[9])).unwrap();
    let window = Membership::new(rotated);
    assert_eq!((peers(&window, 1), peers(&window, 9)), (vec![], ids(&[2, 3])));
}
