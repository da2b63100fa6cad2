//! When a node reports what strangers sent, even if nothing else happens at that time.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use slotcast::config::{ChannelConfig, Config};
use slotcast::id::ChannelId;
use slotcast::membership::Topology;
use slotcast::node::{Node, NodeEvent, NodeKey, Output, REFUSED_INTERVAL};
use slotcast::time::Time;

#[test]
fn what_comes_soon_after_a_report_is_reported_in_time_and_by_itself() {
    let key = NodeKey::from_seed([1; 32]);
    let [own, stranger] = [1, 2].map(|host| SocketAddr::from(([10, 0, 0, host], 4000)));
    let topology = Topology::new(1, [(key.id(), vec![own])]).expect("one member");
    let mut config = Config::new([ChannelConfig::new(ChannelId(1))]);
    config.transport.filter_addresses = true;
    #[allow(clippy::disallowed_methods, reason = "an origin that nothing depends on")]
    let start = Instant::now();
    let mut node = Node::new(config, key, topology, [7; 32], start).expect("a sound setup");
    let begun = Time::ZERO + Duration::from_secs(1);
    // When to poll again, and the reports there are.
    let mut at = |now: Time, datagrams: usize| {
        for _ in 0..datagrams {
            node.handle_datagrams(now, stranger, None, None, 1200, &[0xc0; 1200]);
        }
        let Output::Idle { wake_at, .. } = node.poll(now, 1, &mut Vec::new()) else {
            panic!("strangers get no answer")
        };
        let reports = std::iter::from_fn(|| node.poll_node_event());
        (wake_at, reports.collect::<Vec<NodeEvent>>())
    };
    let report = |datagrams| vec![NodeEvent::Refused { handshakes: 0, datagrams }];
    assert_eq!(at(begun, 1), (Time::NEVER, report(1)));
    let due = begun + REFUSED_INTERVAL;
    assert_eq!(at(begun + Duration::from_secs(1), 2), (due, vec![]));
    assert_eq!(at(due, 0), (Time::NEVER, report(2)));
}
