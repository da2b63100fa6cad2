//! slotcast, as the benches of broadcasts use it.

use std::marker::PhantomData;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::Bytes;
use slotcast::broadcast::Event;
use slotcast::config::{ChannelConfig, Class, Config};
use slotcast::driver::{Channel, NodeHandle, Setup};
use slotcast::id::{ArtifactId, ChannelId};
use slotcast::membership::Topology;
use slotcast::node::NodeKey;
use tokio::sync::Notify;

use crate::free_addresses;
use crate::runtime::Runtime;
use crate::system::{Delivery, Id, Shape, System};

#[derive(Default)]
struct Log {
    arrived: Mutex<Vec<Delivery>>,
    more: Notify,
}

/// Nodes of slotcast, of which each is connected to all others.
#[allow(missing_debug_implementations, reason = "nobody prints it")]
pub struct Subnet<R> {
    nodes: Vec<NodeHandle>,
    /// By node, then by channel.
    channels: Vec<Vec<Channel>>,
    log: Arc<Log>,
    runtime: PhantomData<R>,
}

impl<R: Runtime> System for Subnet<R> {
    const NAME: &str = "slotcast";

    async fn start(shape: Shape) -> Self {
        let ids = (1..=shape.channels).map(ChannelId);
        let channel = |id: ChannelId| match (shape.has_classes, id.0) {
            (false, _) => ChannelConfig::new(id),
            (true, 1) => ChannelConfig::new(id).class(Class::Urgent),
            (true, _) => ChannelConfig::new(id).class(Class::Bulk),
        };
        let mut config = Config::new(ids.clone().map(channel));
        config.transport.mtu_max = shape.mtu;
        let nodes = start_nodes(shape.nodes, &config, R::bind);
        all_connected(&nodes).await;
        let channel = |node: &NodeHandle, id| node.channel(id).expect("configured");
        let channels = nodes.iter().map(|node| ids.clone().map(|id| channel(node, id)).collect());
        let channels: Vec<Vec<Channel>> = channels.collect();
        let log = Arc::new(Log::default());
        for (node, channels) in channels.iter().enumerate() {
            for channel in channels {
                drop(R::spawn(collect(node as u16, channel.clone(), log.clone())));
            }
        }
        Self { nodes, channels, log, runtime: PhantomData }
    }

    fn publish(&self, node: usize, channel: u16, bytes: Bytes) -> Id {
        let channel = &self.channels[node][usize::from(channel)];
        channel.publish(bytes, &[]).expect("far below the bounds").0
    }

    fn abort(&self, node: usize, channel: u16, id: &Id) {
        self.channels[node][usize::from(channel)].abort(&ArtifactId(*id));
    }

    async fn deliveries(&self, into: &mut Vec<Delivery>) {
        loop {
            let more = self.log.more.notified();
            into.append(&mut self.log.arrived.lock().expect("nobody panics"));
            if !into.is_empty() {
                return;
            }
            more.await;
        }
    }

    fn udp_bytes(&self) -> u64 {
        self.nodes.iter().map(|node| node.stats().sent_bytes).sum()
    }

    async fn shutdown(self) {
        for node in &self.nodes {
            node.shutdown().await.expect("sockets are sound");
        }
    }
}

/// Starts the members of one subnet with `bind`, in the order of their keys, which the numbers from
/// 0 make.
pub fn start_nodes(
    count: usize,
    config: &Config,
    mut bind: impl FnMut(Setup, std::net::SocketAddr) -> NodeHandle,
) -> Vec<NodeHandle> {
    let keys: Vec<NodeKey> = (0..count).map(|n| NodeKey::from_seed([n as u8; 32])).collect();
    let addresses = free_addresses(count);
    let members = keys.iter().zip(&addresses);
    let members = members.map(|(key, address)| (key.id(), vec![*address]));
    let topology = Topology::new(1, members).expect("distinct keys");
    let setup = |key: &NodeKey| Setup::new(key.clone(), config.clone(), topology.clone());
    keys.iter().zip(addresses).map(|(key, address)| bind(setup(key), address)).collect()
}

/// Waits until each node is connected to all others.
pub async fn all_connected(nodes: &[NodeHandle]) {
    all_up(nodes, nodes.len() - 1).await;
}

/// Waits until each node is connected to so many members.
pub async fn all_up(nodes: &[NodeHandle], members: usize) {
    for node in nodes {
        while node.peers_up().len() < members {
            node.next_event().await.expect("the node runs");
        }
    }
}

async fn collect(node: u16, channel: Channel, log: Arc<Log>) {
    let mut events = Vec::new();
    while channel.next_events(&mut events).await > 0 {
        let at = Instant::now();
        let mut arrived = log.arrived.lock().expect("nobody panics");
        for event in events.drain(..) {
            if let Event::Delivered { artifact, .. } = event {
                arrived.push(Delivery { node, id: artifact.id().0, at });
            }
        }
        drop(arrived);
        log.more.notify_one();
    }
}
