//! Futures that wait for the same sort of thing: events of a channel, requests of a route, the end.
//!
//! All of this is under the lock of the node's handles, under which nothing foreign may run: wakers
//! are cloned before it is taken, and woken and dropped after it is released. A place ends with its
//! future. When there is something to take, one future is woken; the one that takes something and
//! leaves more wakes the next, and so does one that is dropped after it was woken. (Crate
//! `event-listener` does the same with a lock of its own and an allocation for each wait.)

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use super::shared::{Shared, State};
use crate::rpc::RequestId;

/// The futures that wait, in the order in which they came.
#[derive(Default)]
pub(super) struct Waiters {
    queue: VecDeque<(u64, Waker)>,
    /// The place of the next one: never used twice.
    next: u64,
}

impl Waiters {
    fn find(&self, place: u64) -> Option<usize> {
        self.queue.binary_search_by_key(&place, |(place, _)| *place).ok()
    }

    /// Takes the first one out, to be woken.
    pub(super) fn pop(&mut self) -> Option<Waker> {
        self.queue.pop_front().map(|(_, waker)| waker)
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
    /// Requests on a route, by its index.
    Route(usize),
    /// That the caller of a request waits no longer.
    Cancellation(RequestId),
    /// The end of the driver.
    End,
}

/// A future's place among those that wait. It ends with this.
pub(super) struct Waiting<'a> {
    shared: &'a Shared,
    source: Source,
    place: Option<u64>,
}

impl<'a> Waiting<'a> {
    pub(super) const fn new(shared: &'a Shared, source: Source) -> Self {
        Self { shared, source, place: None }
    }

    /// What `take` gives, as soon as it gives something. It is called under the lock, and says as well
    /// whether the driver is to be woken.
    pub(super) fn poll<T>(
        &mut self,
        cx: &Context<'_>,
        mut take: impl FnMut(&mut State) -> Option<(T, bool)>,
    ) -> Poll<T> {
        let mut waker = None;
        loop {
            let mut state = self.shared.lock();
            if let Some((taken, wakes_driver)) = take(&mut state) {
                let old = self.leave(&mut state);
                let next = state.pop_waiter(self.source);
                let driver = if wakes_driver { state.driver.take() } else { None };
                drop(state);
                drop(old);
                next.into_iter().chain(driver).for_each(Waker::wake);
                return Poll::Ready(taken);
            }
            let waiters = state.waiters(self.source).expect("it would have been taken");
            let at = self.place.and_then(|place| waiters.find(place));
            if let Some(at) = at
                && waiters.queue[at].1.will_wake(cx.waker())
            {
                return Poll::Pending;
            }
            let Some(waker) = waker.take() else {
                drop(state);
                waker = Some(cx.waker().clone());
                continue;
            };
            let old = at.map(|at| waiters.queue.remove(at));
            let place = waiters.next;
            waiters.next += 1;
            waiters.queue.push_back((place, waker));
            self.place = Some(place);
            drop(state);
            drop(old);
            return Poll::Pending;
        }
    }

    /// Gives up the place. The waker, if it was not woken, is to be dropped after the lock is released.
    fn leave(&mut self, state: &mut State) -> Option<Waker> {
        let place = self.place.take()?;
        let waiters = state.waiters(self.source)?;
        let at = waiters.find(place)?;
        waiters.queue.remove(at).map(|(_, waker)| waker)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.place.is_none() {
            return;
        }
        let (waker, next) = {
            let mut state = self.shared.lock();
            let waker = self.leave(&mut state);
            // It was woken, and has taken nothing.
            let next = if waker.is_none() { state.pop_waiter(self.source) } else { None };
            (waker, next)
        };
        drop(waker);
        next.into_iter().for_each(Waker::wake);
    }
}
