//! F8: nodes take tokio's clock, which a test can pause.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use slotcast_tokio::slotcast::config::{ChannelConfig, Config, RouteConfig};
use slotcast_tokio::slotcast::error::CallError;
use slotcast_tokio::slotcast::id::{ChannelId, RouteId};
use slotcast_tokio::slotcast::membership::Topology;
use slotcast_tokio::slotcast::node::NodeKey;
use slotcast_tokio::{NodeHandle, Setup};

const ROUTE: RouteId = RouteId(7);

/// Two nodes on loopback, which learn of each other's address once both listen.
fn two_nodes() -> [NodeHandle; 2] {
    let keys = [1, 2].map(|n| NodeKey::from_seed([n; 32]));
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let config = Config::new([ChannelConfig::new(ChannelId(1))]);
    let config = config.routes([RouteConfig::new(ROUTE, "route")]);
    let nodes = [0, 1].map(|at: usize| {
        let alone = Topology::new(1, [(keys[at].id(), vec![any])]).unwrap();
        slotcast_tokio::bind(Setup::new(keys[at].clone(), config.clone(), alone), any).unwrap()
    });
    let members = nodes.each_ref().map(|node| (node.key_id(), vec![node.local_address()]));
    let topology = Topology::new(2, members).unwrap();
    nodes.iter().for_each(|node| node.set_topology(topology.clone()).unwrap());
    nodes
}

/// Once all tasks wait, a paused clock jumps to the next deadline: ten seconds pass at once.
#[tokio::test(start_paused = true)]
async fn a_deadline_passes_when_the_clock_is_advanced() {
    let [a, b] = two_nodes();
    while a.peers_up().is_empty() || b.peers_up().is_empty() {
        tokio::task::yield_now().await;
    }
    let _server = b.route(ROUTE).unwrap().serve().unwrap();
    let (real, virtual_time) = (Instant::now(), tokio::time::Instant::now());
    let result = a.route(ROUTE).unwrap().call(b.key_id(), "x").await;
    assert_eq!(result, Err(CallError::DeadlinePassed));
    assert!(virtual_time.elapsed() >= Duration::from_secs(10));
    assert!(real.elapsed() < virtual_time.elapsed() / 2, "it took {:?}", real.elapsed());
}
