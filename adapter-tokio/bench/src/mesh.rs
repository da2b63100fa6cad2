//! Nodes of plain quinn, each connected to all others, and what they have received.

use std::{
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use quinn::{Connection, Endpoint, TransportConfig, VarInt};
use rustls::sign::CertifiedKey;
use tokio::sync::Notify;

use crate::plain::{self, client_config, endpoint, node_key, peer_index, transport_config};
use crate::runtime::Runtime;
use crate::system::{Delivery, Id, Shape};

const SHUTDOWN_MAX: Duration = Duration::from_secs(5);

/// A connection between any two nodes of this process, over 127.0.0.1.
#[derive(Debug)]
pub struct Mesh {
    endpoints: Vec<Endpoint>,
    /// By node: its connections to all others, in their order.
    pub peers: Vec<Vec<Connection>>,
    /// What all of them have received.
    pub log: Arc<DeliveryLog>,
}

impl Mesh {
    /// Connects all nodes. They use the given datagram length from the start and never probe beyond.
    pub async fn connect<R: Runtime>(shape: Shape) -> Self {
        let keys: Vec<Arc<CertifiedKey>> = (0..shape.nodes).map(node_key).collect();
        let transport = transport_config(shape.mtu);
        let endpoint =
            |key: &Arc<CertifiedKey>| endpoint(key, &keys, &transport, shape.mtu, R::quinn());
        let endpoints: Vec<Endpoint> = keys.iter().map(endpoint).collect();
        let peers = connect_all::<R>(&endpoints, &keys, &transport).await;
        Self { endpoints, peers, log: Arc::new(DeliveryLog::default()) }
    }

    /// UDP payload bytes that all nodes have sent so far.
    pub fn udp_bytes(&self) -> u64 {
        self.peers.iter().flatten().map(|connection| connection.stats().udp_tx.bytes).sum()
    }

    /// Closes all connections, and waits, for a bounded time, until the peers know.
    pub async fn shutdown<R: Runtime>(&self) {
        self.log.closing.store(true, Ordering::Relaxed);
        for endpoint in &self.endpoints {
            endpoint.close(VarInt::from_u32(0), b"");
        }
        let idle = async {
            for endpoint in &self.endpoints {
                endpoint.wait_idle().await;
            }
        };
        let _ = R::timeout_at(Instant::now() + SHUTDOWN_MAX, idle).await;
    }
}

/// What all nodes have received and nobody has asked for yet.
#[derive(Debug, Default)]
pub struct DeliveryLog {
    pending: Mutex<Vec<Delivery>>,
    changed: Notify,
    closing: AtomicBool,
    failure: OnceLock<String>,
}

impl DeliveryLog {
    /// A node has received something.
    pub fn push(&self, node: u16, ids: impl IntoIterator<Item = Id>) {
        let at = Instant::now();
        let mut pending = self.pending.lock().expect("no holder panics");
        let was_empty = pending.is_empty();
        pending.extend(ids.into_iter().map(|id| Delivery { node, id, at }));
        let is_first = was_empty && !pending.is_empty();
        drop(pending);
        if is_first {
            self.changed.notify_one();
        }
    }

    /// A node cannot go on with a peer: the run is void, unless it is over.
    pub fn fail(&self, node: u16, peer: usize, why: &str) {
        if !self.closing.load(Ordering::Relaxed) {
            let _ = self.failure.set(format!("node {node}, its peer number {peer}: {why}"));
            self.changed.notify_one();
        }
    }

    /// Waits until something was received, then moves all of it to the end of `into`.
    ///
    /// # Panics
    /// When a connection was lost or a peer sent nonsense: such a run measures nothing.
    pub async fn drain(&self, into: &mut Vec<Delivery>) {
        loop {
            if let Some(failure) = self.failure.get() {
                panic!("the run is void: {failure}");
            }
            {
                let mut pending = self.pending.lock().expect("no holder panics");
                if !pending.is_empty() {
                    into.append(&mut pending);
                    return;
                }
            }
            self.changed.notified().await;
        }
    }
}

/// Every pair once, dialled by the lower index. Row `i` has the connections of node `i` to all others, in their order.
async fn connect_all<R: Runtime>(
    endpoints: &[Endpoint],
    keys: &[Arc<CertifiedKey>],
    transport: &Arc<TransportConfig>,
) -> Vec<Vec<Connection>> {
    let mut tasks = Vec::new();
    for (callee, endpoint) in endpoints.iter().cloned().enumerate() {
        let keys = keys.to_vec();
        tasks.push(R::spawn(async move {
            let mut accepted = Vec::new();
            for _ in 0..callee {
                let connection =
                    endpoint.accept().await.expect("open").await.expect("handshake on loopback");
                accepted.push((callee, peer_index(&connection, &keys), connection));
            }
            accepted
        }));
    }
    for (caller, endpoint) in endpoints.iter().cloned().enumerate() {
        let config = client_config(&keys[caller], keys, transport, plain::ALPN);
        let callees: Vec<_> =
            endpoints.iter().map(|endpoint| endpoint.local_addr().expect("bound")).collect();
        let keys = keys.to_vec();
        tasks.push(R::spawn(async move {
            let mut dialled = Vec::new();
            for (callee, address) in callees.into_iter().enumerate().skip(caller + 1) {
                let connecting =
                    endpoint.connect_with(config.clone(), address, "node").expect("valid address");
                let connection = connecting.await.expect("handshake on loopback");
                assert_eq!(peer_index(&connection, &keys), callee);
                dialled.push((caller, callee, connection));
            }
            dialled
        }));
    }
    let mut ends = Vec::new();
    for task in tasks {
        ends.extend(task.await);
    }
    ends.sort_by_key(|&(node, peer, _)| (node, peer));
    let mut table = vec![Vec::new(); endpoints.len()];
    for (node, _, connection) in ends {
        table[node].push(connection);
    }
    table
}
