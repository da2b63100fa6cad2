//! Requests for snapshots: the driver makes one at the end of a turn for all that asked before.

use std::sync::Arc;

use super::waiters::Waiters;
use crate::snapshot::Snapshot;

#[derive(Default)]
pub(super) struct Snapshots {
    /// The number of requests so far, and of those that have an answer.
    requested: u64,
    answered: u64,
    /// The last answer, for those who have not taken it. It stays until the next one.
    latest: Option<Arc<Snapshot>>,
    pub(super) waiters: Waiters,
}

impl Snapshots {
    /// A request: the ticket with which its answer is taken.
    pub(super) fn request(&mut self) -> u64 {
        self.requested += 1;
        self.requested
    }

    /// The last request that has no answer, if there is one.
    pub(super) fn pending(&self) -> Option<u64> {
        (self.requested > self.answered).then_some(self.requested)
    }

    /// The answer to all requests up to this one.
    pub(super) fn answer(&mut self, requested: u64, snapshot: Snapshot) {
        self.answered = requested;
        self.latest = Some(Arc::new(snapshot));
    }

    /// The answer to a request, or a later one.
    pub(super) fn answered(&self, ticket: u64) -> Option<Arc<Snapshot>> {
        if self.answered < ticket { None } else { self.latest.clone() }
    }
}
