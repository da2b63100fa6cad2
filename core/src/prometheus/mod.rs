//! Snapshots as metrics for Prometheus, through a registry of `prometheus_client`.
//!
//! Names begin with `slotcast_`, and have units and suffixes as Prometheus has them
//! (<https://prometheus.io/docs/practices/naming/>): seconds, bytes, `_total` for what only grows. Labels are
//! `peer` (the member's id), `channel`, `route` with `name`, and what the values of one metric are sorted by.
//! What is counted of a connection begins with zero for each, which `rate()` allows for.
//!
//! ```no_run
//! # async fn metrics(node: slotcast::driver::NodeHandle) {
//! use prometheus_client::{encoding::text::encode, registry::Registry};
//! use slotcast::prometheus::Metrics;
//!
//! let metrics = Metrics::new(&node);
//! let mut registry = Registry::default();
//! registry.register_collector(Box::new(metrics.clone()));
//!
//! // For each scrape:
//! metrics.refresh().await;
//! let mut text = String::new();
//! encode(&mut text, &registry).expect("a string takes everything");
//! # }
//! ```

mod channels;
mod family;
mod node;
mod peers;
mod routes;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use crate::driver::{NodeHandle, WeakNodeHandle};
use crate::snapshot::Snapshot;
use family::Families;

/// What a node was when it was [looked at](Metrics::refresh) last. Clones show the same. It does not keep the
/// node running.
#[derive(Clone, Debug)]
pub struct Metrics {
    node: WeakNodeHandle,
    latest: Arc<Mutex<Option<Arc<Snapshot>>>>,
}

impl Metrics {
    /// Nothing of a node, until it is looked at.
    pub fn new(node: &NodeHandle) -> Self {
        Self { node: node.downgrade(), latest: Arc::default() }
    }

    /// Looks at the node. A registry encodes on the spot, and a snapshot has to be waited for, so this is
    /// called before, for each scrape. Once the node has shut down, nothing is shown: false.
    pub async fn refresh(&self) -> bool {
        let snapshot = match self.node.upgrade() {
            Some(node) => node.snapshot().await,
            None => None,
        };
        let is_there = snapshot.is_some();
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = snapshot.map(Arc::new);
        is_there
    }
}

impl Collector for Metrics {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner).clone();
        latest.map_or(Ok(()), |snapshot| snapshot.encode(encoder))
    }
}

/// For nodes that are driven by hand.
impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families::new(encoder);
        node::encode(self, &mut families)?;
        peers::encode(&self.peers, &mut families)?;
        channels::encode(&self.channels, &mut families)?;
        routes::encode(&self.routes, &mut families)
    }
}
