//! Flushes of a node whose application does not take their ends.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use slotcast::config::{ChannelConfig, Config};
use slotcast::error::FlushError;
use slotcast::id::ChannelId;
use slotcast::membership::Topology;
use slotcast::node::{FLUSHES_MAX, Node, NodeKey, Output};
use slotcast::time::Time;

#[test]
fn ends_that_are_not_taken_count() {
    let key = NodeKey::from_seed([1; 32]);
    let own = SocketAddr::from(([10, 0, 0, 1], 4000));
    let topology = Topology::new(1, [(key.id(), vec![own])]).expect("one member");
    let config = Config::new([ChannelConfig::new(ChannelId(1))]);
    #[allow(clippy::disallowed_methods, reason = "an origin that nothing depends on")]
    let start = Instant::now();
    let mut node = Node::new(config, key, topology, [7; 32], start).expect("a sound setup");
    let now = Time::ZERO + Duration::from_secs(1);
    let flush = |node: &mut Node| node.flush(now, Duration::from_secs(1));
    let ids: Vec<_> = (0..FLUSHES_MAX).map(|_| flush(&mut node).expect("there is room")).collect();
    assert!(matches!(node.poll(now, 1, &mut Vec::new()), Output::Idle { .. }));
    assert!(node.has_output(), "nobody is waited for");
    assert_eq!(flush(&mut node), Err(FlushError::TooMany));
    assert_eq!(node.poll_flushed(), Some((ids[0], Ok(()))));
    assert!(node.cancel_flush(ids[1]) && !node.cancel_flush(ids[0]));
    assert!(flush(&mut node).is_ok() && flush(&mut node).is_ok());
    assert_eq!(flush(&mut node), Err(FlushError::TooMany));
}
