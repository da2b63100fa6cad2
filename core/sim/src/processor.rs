//! The processor of a node: the work that the node counts takes time.
//!
//! What arrives meanwhile waits in the socket, and what is due is done when the processor is free. As in a driver, a
//! slice of what waits in the socket is received before the node is polled.

use core::time::Duration;

use slotcast::node::Node;

/// Bytes that the socket holds of what arrives while the processor is busy: what drivers ask for by default.
pub(super) const SOCKET_BYTES_MAX: usize = 4 << 20;

/// Work in a slice: half of what a driver does at a time by default, if a unit takes 100 ns.
const SLICE_WORK: u64 = 1000;

#[derive(Debug)]
pub(super) struct Processor {
    /// What a thousand units of work take.
    per_thousand: Duration,
    /// The node's work that has been taken into account.
    seen: u64,
}

impl Processor {
    pub(super) const fn new(per_thousand: Duration) -> Self {
        Self { per_thousand, seen: 0 }
    }

    /// Whether a node has received a whole slice since the last work was taken into account.
    pub(super) fn has_slice(&self, node: &Node) -> bool {
        node.stats().work.saturating_sub(self.seen) >= SLICE_WORK
    }

    /// How long the work takes that a node has done since the last call.
    pub(super) fn take(&mut self, node: &Node) -> Duration {
        let work = node.stats().work;
        // It may have been started anew.
        let done = work.checked_sub(self.seen).unwrap_or(work);
        self.seen = work;
        self.per_thousand.mul_f64(done as f64 / 1000.0)
    }
}
