//! What a node answers to strangers leaves by its uplink, too.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use slotcast::config::{ChannelConfig, Config};
use slotcast::id::ChannelId;
use slotcast::membership::Topology;
use slotcast::node::{Node, NodeKey, Output};
use slotcast::time::Time;

/// 1,200 bytes with a version that is none, which are answered with the versions that there are.
fn of_unknown_version() -> [u8; 1200] {
    let mut datagram = [0; 1200];
    datagram[..6].copy_from_slice(&[0xc0, 0x0a, 0x0a, 0x0a, 0x1a, 8]);
    datagram[14] = 8;
    datagram
}

#[test]
fn a_dial_waits_until_what_strangers_were_answered_has_left() {
    let keys = [1, 2].map(|seed| NodeKey::from_seed([seed; 32]));
    let [low, high] = if keys[0].id() < keys[1].id() { [0, 1] } else { [1, 0] };
    let address = |host| SocketAddr::from(([10, 0, 0, host], 4000));
    let members = [(keys[low].id(), vec![address(1)]), (keys[high].id(), vec![address(2)])];
    let topology = Topology::new(1, members).expect("each once");
    let mut config = Config::new([ChannelConfig::new(ChannelId(1))]);
    config.transport.filter_addresses = false;
    config.transport.uplink = Some(16_000);
    #[allow(clippy::disallowed_methods, reason = "an origin that nothing depends on")]
    let start = Instant::now();
    let key = keys[low].clone();
    let mut node = Node::new(config, key, topology, [7; 32], start).expect("a sound setup");
    let now = Time::ZERO + Duration::from_secs(1);
    for _ in 0..20 {
        node.handle_datagrams(now, address(9), None, None, 1200, &of_unknown_version());
    }
    let (mut answered, mut buffer) = (0, Vec::new());
    loop {
        match node.poll(now, 1, &mut buffer) {
            Output::Transmit(transmit) if transmit.destination == address(9) => {
                answered += transmit.size + 48;
            }
            Output::Transmit(transmit) => panic!("the uplink is busy: {transmit:?}"),
            Output::Idle { wake_at, .. } => {
                let span = Duration::from_nanos(answered as u64 * 1_000_000_000 / 16_000);
                assert!(answered >= 20 * 60, "{answered}");
                assert!(wake_at.since(now) > span - Duration::from_millis(3), "{wake_at:?}");
                assert!(wake_at.since(now) <= span, "{wake_at:?}");
                break;
            }
        }
    }
}
