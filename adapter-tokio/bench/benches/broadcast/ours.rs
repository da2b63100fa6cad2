//! slotcast, as the benchmark uses it.

use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::Bytes;
use slotcast_tokio::slotcast::broadcast::Event;
use slotcast_tokio::slotcast::config::{ChannelConfig, Config};
use slotcast_tokio::slotcast::id::{ArtifactId, ChannelId};
use slotcast_tokio::slotcast::membership::Topology;
use slotcast_tokio::slotcast::node::NodeKey;
use slotcast_tokio::{Channel, NodeHandle, Setup, bind};
use tokio::sync::Notify;

use crate::System;
use crate::reference::{Delivery, Id};

const CHANNEL: ChannelId = ChannelId(1);

#[derive(Default)]
struct Log {
    arrived: Mutex<Vec<Delivery>>,
    more: Notify,
}

pub(crate) struct Subnet {
    nodes: Vec<NodeHandle>,
    channels: Vec<Channel>,
    log: Arc<Log>,
}

impl System for Subnet {
    const NAME: &str = "slotcast";

    async fn start(nodes: usize, mtu: u16) -> Self {
        let keys: Vec<NodeKey> = (0..nodes).map(|n| NodeKey::from_seed([n as u8; 32])).collect();
        let sockets: Vec<UdpSocket> =
            (0..nodes).map(|_| UdpSocket::bind("127.0.0.1:0").expect("a free port")).collect();
        let addresses: Vec<SocketAddr> =
            sockets.iter().map(|socket| socket.local_addr().expect("bound")).collect();
        drop(sockets);
        let members = keys.iter().zip(&addresses);
        let members = members.map(|(key, address)| (key.id(), vec![*address]));
        let topology = Topology::new(1, members).expect("distinct keys");
        let mut config = Config::new([ChannelConfig::new(CHANNEL)]);
        config.transport.mtu_max = mtu;
        let start = |(key, address): (&NodeKey, &SocketAddr)| {
            let setup = Setup::new(key.clone(), config.clone(), topology.clone());
            bind(setup, *address).expect("the port is free")
        };
        let handles: Vec<NodeHandle> = keys.iter().zip(&addresses).map(start).collect();
        for handle in &handles {
            while handle.peers_up().len() < nodes - 1 {
                handle.next_event().await.expect("the node runs");
            }
        }
        let channels: Vec<Channel> =
            handles.iter().map(|handle| handle.channel(CHANNEL).expect("configured")).collect();
        let log = Arc::new(Log::default());
        for (node, channel) in channels.iter().enumerate() {
            tokio::spawn(collect(node as u16, channel.clone(), log.clone()));
        }
        Self { nodes: handles, channels, log }
    }

    fn publish(&self, node: usize, bytes: Bytes) -> Id {
        self.channels[node].publish(bytes, &[]).expect("far below the bounds").0
    }

    fn abort(&self, node: usize, id: &Id) {
        self.channels[node].abort(&ArtifactId(*id));
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

async fn collect(node: u16, channel: Channel, log: Arc<Log>) {
    while let Some(event) = channel.next_event().await {
        let at = Instant::now();
        let waiting = std::iter::from_fn(|| channel.try_event());
        let mut arrived = log.arrived.lock().expect("nobody panics");
        for event in std::iter::once(event).chain(waiting) {
            if let Event::Delivered { artifact, .. } = event {
                arrived.push(Delivery { node, id: artifact.id().0, at });
            }
        }
        drop(arrived);
        log.more.notify_one();
    }
}
