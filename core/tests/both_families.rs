//! A socket for both families names IPv4 peers as IPv6 addresses (`::ffff:10.0.0.1`), and so may a
//! topology: either way they are the same members.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use slotcast::config::{ChannelConfig, Config};
use slotcast::id::ChannelId;
use slotcast::membership::Topology;
use slotcast::node::{Node, NodeKey, Output};
use slotcast::time::Time;

const PLAIN: [&str; 2] = ["10.0.0.1:4000", "10.0.0.2:4000"];
const MAPPED: [&str; 2] = ["[::ffff:10.0.0.1]:4000", "[::ffff:10.0.0.2]:4000"];

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// As a host sees them whose interface is number 7; the kernel tells it with what it receives.
const LINK_LOCAL: [&str; 2] = ["[fe80::1%7]:4000", "[fe80::2%7]:4000"];

/// Two nodes by this topology, in whose sockets datagrams come from these addresses.
fn get_connected(listed: [&str; 2], received: [&str; 2], sent: [&str; 2]) -> bool {
    let mut keys = [1, 2].map(|seed| NodeKey::from_seed([seed; 32]));
    keys.sort_by_key(NodeKey::id);
    let members = [0, 1].map(|at: usize| (keys[at].id(), vec![address(listed[at])]));
    let topology = Topology::new(1, members).expect("each once");
    let config = Config::new([ChannelConfig::new(ChannelId(1))]);
    #[allow(clippy::disallowed_methods, reason = "an origin that nothing depends on")]
    let start = Instant::now();
    let mut nodes = keys.map(|key| {
        Node::new(config.clone(), key, topology.clone(), [7; 32], start).expect("a sound setup")
    });
    let mut buffer = Vec::new();
    for now in (0..200).map(|ms| Time::ZERO + Duration::from_millis(ms)) {
        for at in 0..2 {
            while let Output::Transmit(transmit) = nodes[at].poll(now, 1, &mut buffer) {
                assert_eq!(transmit.destination, address(sent[1 - at]));
                let from = address(received[at]);
                let length = transmit.size;
                nodes[1 - at].handle_datagrams(now, from, None, None, length, &buffer[..length]);
            }
        }
    }
    nodes.iter().all(|node| node.peers_up().count() == 1)
}

#[test]
fn ipv4_members_are_known_by_either_name() {
    for listed in [PLAIN, MAPPED] {
        for received in [PLAIN, MAPPED] {
            assert!(get_connected(listed, received, PLAIN), "{listed:?}, {received:?}");
        }
    }
}

/// F6: nothing can be sent to a link-local address without its scope.
#[test]
fn f6_link_local_members_are_dialled_and_known_with_their_scope() {
    assert!(get_connected(LINK_LOCAL, LINK_LOCAL, LINK_LOCAL));
}
