//! Waiting until members are connected, with a deadline that the driver keeps.

use std::future::poll_fn;
use std::time::Duration;
use std::vec::Vec;

use super::node_handle::NodeHandle;
use super::shared::{Shared, State};
use super::waiters::{Source, Waiting};
use crate::arena::Arena;
use crate::deadlines::Deadlines;
use crate::id::NodeId;
use crate::time::Time;

/// Whom [`NodeHandle::wait_connected`] waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Who {
    /// All members that the node is to be connected to by the topologies in use at the time. With a
    /// topology that gives it no peers, there is nothing to wait for.
    All,
    /// So many members, whichever they are.
    AtLeast(usize),
    /// This member. It need not be one yet.
    Member(NodeId),
}

/// Why members are not waited for any longer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// They have not been connected in time.
    #[error("not connected before the deadline")]
    DeadlinePassed,
    /// The node has shut down.
    #[error("the node has shut down")]
    Closed,
}

impl NodeHandle {
    /// Done when a member is connected, or the node has shut down: whether it is connected. It waits
    /// without a deadline: see [`NodeHandle::wait_connected`].
    pub async fn connected(&self, member: &NodeId) -> bool {
        let who = Who::Member(*member);
        self.wait(|state| who.outcome(self.shared(), state)).await.is_ok()
    }

    /// Done when all of these members are connected at the same time. `timeout` counts from when the
    /// future is first polled, by the driver's clock: no runtime is needed.
    ///
    /// # Errors
    /// If they are not connected in time, or the node has shut down.
    pub async fn wait_connected(&self, who: Who, timeout: Duration) -> Result<(), WaitError> {
        let shared = self.shared();
        let index = shared.command(|state| state.waits.insert(timeout));
        let deadline = Deadline { shared, index };
        self.wait(|state| {
            let outcome = who.outcome(shared, state);
            let is_over = state.waits.is_over(deadline.index);
            outcome.or(is_over.then_some(Err(WaitError::DeadlinePassed)))
        })
        .await
    }

    async fn wait(
        &self,
        outcome: impl Fn(&State) -> Option<Result<(), WaitError>>,
    ) -> Result<(), WaitError> {
        let mut waiting = Waiting::new(self.shared(), Source::Links);
        poll_fn(|cx| waiting.poll(cx, |state| Some((outcome(state)?, false)))).await
    }
}

impl Who {
    /// How waiting has ended, unless it goes on.
    fn outcome(self, shared: &Shared, state: &State) -> Option<Result<(), WaitError>> {
        if state.is_closed() {
            return Some(Err(WaitError::Closed));
        }
        let is_connected = match self {
            // Only peers are up, so that it is enough to count them.
            Self::All => shared.peers_wanted(state) == Some(state.peers_up.len()),
            Self::AtLeast(count) => state.peers_up.len() >= count,
            Self::Member(member) => state.peers_up.contains(&member),
        };
        is_connected.then_some(Ok(()))
    }
}

/// The deadline of one future that waits.
struct Deadline<'a> {
    shared: &'a Shared,
    index: u32,
}

impl Drop for Deadline<'_> {
    fn drop(&mut self) {
        self.shared.lock().waits.remove(self.index);
    }
}

enum Wait {
    /// The driver has not seen it yet.
    New(Duration),
    Running,
    Over,
}

/// The deadlines of futures that wait for members. There are as many as the application holds.
pub(super) struct Waits {
    waits: Arena<Wait>,
    /// Those that the driver has not seen yet, each once.
    new: Vec<u32>,
    deadlines: Deadlines,
}

impl Waits {
    pub(super) fn new() -> Self {
        Self { waits: Arena::new(), new: Vec::new(), deadlines: Deadlines::new() }
    }

    fn insert(&mut self, timeout: Duration) -> u32 {
        let index = self.waits.insert(Wait::New(timeout));
        self.new.push(index);
        index
    }

    fn remove(&mut self, index: u32) {
        if matches!(self.waits.remove(index), Wait::New(_)) {
            self.new.retain(|other| *other != index);
        }
        self.deadlines.set(index as usize, Time::NEVER);
    }

    fn is_over(&self, index: u32) -> bool {
        matches!(self.waits[index], Wait::Over)
    }

    /// The time of those begins that the driver sees for the first time.
    pub(super) fn begin(&mut self, now: Time) {
        for index in self.new.drain(..) {
            if let Wait::New(timeout) = std::mem::replace(&mut self.waits[index], Wait::Running) {
                self.deadlines.set(index as usize, now + timeout);
            }
        }
    }

    /// The time of some is over. True if there are any.
    pub(super) fn expire(&mut self, now: Time) -> bool {
        let mut any = false;
        while let Some(index) = self.deadlines.due(now) {
            self.deadlines.set(index, Time::NEVER);
            self.waits[index as u32] = Wait::Over;
            any = true;
        }
        any
    }

    /// When the next one is over.
    pub(super) fn next_deadline(&self) -> Time {
        self.deadlines.earliest()
    }
}
