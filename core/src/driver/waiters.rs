//! Futures that wait for the same sort of thing: events of a channel, requests of a route, the end.
//!
//! All of this is under the lock of the node's handles, under which nothing foreign may run: wakers
//! are cloned before it is taken, and woken and dropped after it is released.
//!
//! A future has a ticket from when it begins to wait until it has taken something or is dropped. No other one of the
//! node ever has the same: what it waits for may end and begin anew meanwhile, as a connection does. When
//! there is something to take, the one with the lowest ticket is woken; who takes something and leaves
//! more wakes the next, and so does who is dropped. (Crate `event-listener` wakes in the same way, with
//! a lock of its own and an allocation for each wait.)

use std::collections::VecDeque;
use std::mem;
use std::ops::Deref;
use std::task::{Context, Poll, Waker};

use super::shared::{Shared, State};
use crate::id::NodeId;
use crate::rpc::RequestId;

/// The futures that wait and have not been woken, by ticket.
#[derive(Default)]
pub(super) struct Waiters {
    queue: VecDeque<(u64, Waker)>,
}

impl Waiters {
    fn find(&self, ticket: u64) -> Result<usize, usize> {
        self.queue.binary_search_by_key(&ticket, |(ticket, _)| *ticket)
    }

    /// The waker of a ticket, unless it has been taken out.
    fn waker(&self, ticket: u64) -> Option<&Waker> {
        self.find(ticket).ok().map(|at| &self.queue[at].1)
    }

    /// Notes the waker of a ticket. Returns the waker that was there.
    fn register(&mut self, ticket: u64, waker: Waker) -> Option<Waker> {
        match self.find(ticket) {
            Ok(at) => Some(mem::replace(&mut self.queue[at].1, waker)),
            Err(at) => {
                self.queue.insert(at, (ticket, waker));
                None
            }
        }
    }

    fn remove(&mut self, ticket: u64) -> Option<Waker> {
        let at = self.find(ticket).ok()?;
        self.queue.remove(at).map(|(_, waker)| waker)
    }

    /// Takes the first one out, to be woken.
    pub(super) fn pop(&mut self) -> Option<Waker> {
        self.queue.pop_front().map(|(_, waker)| waker)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Takes all out, to be woken.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Waker> {
        self.queue.drain(..).map(|(_, waker)| waker)
    }
}

/// What a future may wait for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Source {
    /// Events of a channel, by its index.
    Channel(usize),
    /// Events about peers.
    Peers,
    /// Room in the outbox of a channel, by its index.
    Room(usize),
    /// That peers come up or go down.
    Links,
    /// Requests on a route, by its index.
    Route(usize),
    /// What a taker has selected, in one order.
    Any(u32),
    /// Credit for a call on a route, by its index, to a member.
    Credit(usize, NodeId),
    /// That the caller of a request waits no longer.
    Cancellation(RequestId),
    /// Parts of a call, by its slot: to be given or read.
    Parts(u32),
    /// Room for a question about progress.
    QuestionRoom,
    /// Answers to such questions.
    Answers,
    /// A snapshot of the node.
    Snapshot,
    /// The end of the driver.
    End,
}

/// A future's part among those that wait. Its ticket ends with this.
pub(super) struct Waiting<S: Deref<Target = Shared>> {
    shared: S,
    source: Source,
    ticket: Option<u64>,
}

impl<S: Deref<Target = Shared>> Waiting<S> {
    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    pub(super) const fn new(shared: S, source: Source) -> Self {
        Self { shared, source, ticket: None }
    }

    /// What `take` gives, as soon as it gives something. It is called under the lock, and says as well
    /// whether the driver is to be woken.
    pub(super) fn poll<T>(
        &mut self,
        cx: &Context<'_>,
        mut take: impl FnMut(&mut State) -> Option<(T, bool)>,
    ) -> Poll<T> {
        // Who begins to wait is likely to go on, and takes the lock once.
        let mut waker = self.ticket.is_none().then(|| cx.waker().clone());
        loop {
            let mut state = self.shared.lock();
            if let Some((taken, wakes_driver)) = take(&mut state) {
                let old = leave(&mut state, self.source, self.ticket.take());
                let next = state.pop_next(self.source);
                let driver = if wakes_driver { state.driver.take() } else { None };
                drop(state);
                drop(old);
                next.into_iter().chain(driver).for_each(Waker::wake);
                return Poll::Ready(taken);
            }
            let ticket = self.ticket.unwrap_or_else(|| state.new_ticket());
            let waiters = state.waiters(self.source).expect("it would have been taken");
            let registered = self.ticket.and_then(|ticket| waiters.waker(ticket));
            if registered.is_some_and(|registered| registered.will_wake(cx.waker())) {
                return Poll::Pending;
            }
            let Some(waker) = waker.take() else {
                drop(state);
                waker = Some(cx.waker().clone());
                continue;
            };
            let old = waiters.register(ticket, waker);
            self.ticket = Some(ticket);
            drop(state);
            drop(old);
            return Poll::Pending;
        }
    }

    /// What `take` gives; `None` once the driver has ended and there is nothing left to take.
    pub(super) fn poll_next<T>(
        &mut self,
        cx: &Context<'_>,
        mut take: impl FnMut(&mut State) -> Option<(T, bool)>,
    ) -> Poll<Option<T>> {
        self.poll(cx, |state| match take(state) {
            Some((taken, wakes_driver)) => Some((Some(taken), wakes_driver)),
            None => state.is_closed().then_some((None, false)),
        })
    }
}

impl<S: Deref<Target = Shared>> Drop for Waiting<S> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        let (waker, next) = {
            let mut state = self.shared.lock();
            // It may have been woken without having taken anything, or been the first one for whom there
            // was not enough.
            let waker = leave(&mut state, self.source, Some(ticket));
            (waker, state.pop_next(self.source))
        };
        drop(waker);
        next.into_iter().for_each(Waker::wake);
    }
}

/// Gives up a ticket. Its waker, if it was not woken, is to be dropped after the lock is released.
fn leave(state: &mut State, source: Source, ticket: Option<u64>) -> Option<Waker> {
    state.waiters(source)?.remove(ticket?)
}
