//! What a node is at one moment, read off its tables.

use super::Node;
use super::peers::Peer;
use crate::id::PeerIndex;
use crate::snapshot::{LinkSnapshot, MemorySnapshot, NodeSnapshot, PeerSnapshot, Snapshot};
use crate::time::Time;

impl Node {
    /// What the node knows of itself and its peers. Walks through all of its tables, so it is for a few
    /// times in a second at most. It changes nothing.
    pub fn snapshot(&self, now: Time) -> Snapshot {
        let now = self.now.max(now);
        let peers = self.peers.iter().map(|(index, peer)| self.peer_snapshot(now, index, peer));
        Snapshot {
            uptime: now.since(Time::ZERO),
            node: self.node_snapshot(),
            peers: peers.collect(),
            channels: self.machine.channel_snapshots(),
            routes: self.rpc.route_snapshots(),
        }
    }

    fn node_snapshot(&self) -> NodeSnapshot {
        let links = self.links.iter().flatten();
        let memory = MemorySnapshot {
            bound: self.config.memory_bound(),
            budgeted: self.machine.budgeted_bytes()
                + self.rpc.body_bytes()
                + self.window_pool.held(),
        };
        let handshakes = links.filter(|link| link.is_coming_up()).count() as u64;
        NodeSnapshot { stats: self.stats, memory, handshakes, driver: None }
    }

    fn peer_snapshot(&self, now: Time, index: PeerIndex, peer: &Peer) -> PeerSnapshot {
        let link = peer.connection.and_then(|handle| self.links[handle.0].as_deref());
        let uptime = now.since(peer.up_since);
        let (received, sent) = self.machine.traffic(index);
        PeerSnapshot {
            id: peer.node,
            link: link.map(|link| LinkSnapshot { uptime, ..link.snapshot(now) }),
            received,
            sent,
            backlog: self.machine.backlog(now, index),
            faults: peer.faults_total,
            is_cut_off: peer.cut_off_until > now,
            fruitless_peak: peer.fruitless.peak(),
            paced_channels: self.machine.paced_channels(index),
        }
    }
}
