//! What a bench has published, and where it has arrived.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::system::{Delivery, Id, System};

/// The artifacts that are published and not aborted.
#[derive(Debug)]
pub struct InFlight<'a, S> {
    system: &'a S,
    nodes: usize,
    artifacts: HashMap<Id, Artifact>,
    /// Published so far; makes each artifact another one.
    count: u64,
}

#[derive(Debug)]
struct Artifact {
    node: usize,
    channel: u16,
    published: Instant,
    /// Bit per node that has it.
    delivered: u64,
}

/// A delivery of what is in flight.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// The artifact's channel.
    pub channel: u16,
    /// From publishing to this delivery.
    pub latency: Duration,
    /// No node has yet to get it.
    pub is_last: bool,
}

impl<'a, S: System> InFlight<'a, S> {
    /// Nothing, in a system of so many nodes.
    pub fn new(system: &'a S, nodes: usize) -> Self {
        Self { system, nodes, artifacts: HashMap::new(), count: 0 }
    }

    /// Publishes an artifact of `size` bytes, 8 at least.
    pub fn publish(&mut self, node: usize, channel: u16, size: usize) -> Id {
        let mut bytes = vec![0; size];
        bytes[..8].copy_from_slice(&self.count.to_be_bytes());
        self.count += 1;
        let published = Instant::now();
        let id = self.system.publish(node, channel, bytes.into());
        let artifact = Artifact { node, channel, published, delivered: 1 << node };
        self.artifacts.insert(id, artifact);
        id
    }

    /// Publishes at the next node: they take turns.
    pub fn publish_in_turn(&mut self, size: usize) -> Id {
        self.publish(self.count as usize % self.nodes, 0, size)
    }

    /// Takes note of a delivery. `None` if the artifact was aborted.
    ///
    /// # Panics
    /// If it was delivered there before.
    pub fn arrived(&mut self, delivery: &Delivery) -> Option<Arrival> {
        let artifact = self.artifacts.get_mut(&delivery.id)?;
        assert!(artifact.delivered >> delivery.node & 1 == 0, "{}: delivered twice", S::NAME);
        artifact.delivered |= 1 << delivery.node;
        Some(Arrival {
            channel: artifact.channel,
            latency: delivery.at.saturating_duration_since(artifact.published),
            is_last: artifact.delivered.count_ones() as usize == self.nodes,
        })
    }

    /// Ends the broadcast of an artifact. Returns how many nodes have not got it.
    pub fn abort(&mut self, id: &Id) -> usize {
        let Some(artifact) = self.artifacts.remove(id) else { return 0 };
        self.system.abort(artifact.node, artifact.channel, id);
        self.nodes - artifact.delivered.count_ones() as usize
    }

    /// How many artifacts there are.
    pub fn count(&self) -> usize {
        self.artifacts.len()
    }
}
