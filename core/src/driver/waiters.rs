//! Futures that wait for the same sort of thing: events of a channel, requests of a route, the end.
//!
//! All of this is under the lock of the node's handles, under which nothing foreign may run: wakers
//! are cloned before it is taken, and woken and dropped after it is released. A place ends with its
//! future. When there is something to take, one future is woken; the one that takes something and
//! leaves more wakes the next, and so does one that is dropped after it was woken. (Crate
//! `event-listener` does the same with a lock of its own and an allocation for each wait.)

use std::collections::VecDeque;
use std::mem;
use std::ops::Deref;
use std::task::{Context, Poll, Waker};

use super::shared::{Shared, State};
use crate::rpc::RequestId;

/// The futures that wait, in the order in which they came.
#[derive(Default)]
pub(super) struct Waiters {
    queue: VecDeque<(u64, Waker)>,
    /// The place of the one that came last: none is used twice.
    last: u64,
}

impl Waiters {
    fn find(&self, place: u64) -> Result<usize, usize> {
        self.queue.binary_search_by_key(&place, |(place, _)| *place)
    }

    /// The waker at a place, unless it has been taken out.
    fn waker(&self, place: u64) -> Option<&Waker> {
        self.find(place).ok().map(|at| &self.queue[at].1)
    }

    /// Puts a waker at a place, the last one if there is none yet. Gives the one that was there.
    fn register(&mut self, place: &mut Option<u64>, waker: Waker) -> Option<Waker> {
        let place = *place.get_or_insert_with(|| {
            self.last += 1;
            self.last
        });
        match self.find(place) {
            Ok(at) => Some(mem::replace(&mut self.queue[at].1, waker)),
            Err(at) => {
                self.queue.insert(at, (place, waker));
                None
            }
        }
    }

    fn remove(&mut self, place: u64) -> Option<Waker> {
        let at = self.find(place).ok()?;
        self.queue.remove(at).map(|(_, waker)| waker)
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
    /// Room in the outbox of a channel, by its index.
    Room(usize),
    /// That peers come up or go down.
    Links,
    /// Requests on a route, by its index.
    Route(usize),
    /// That the caller of a request waits no longer.
    Cancellation(RequestId),
    /// The end of the driver.
    End,
}

/// A future's place among those that wait. It ends with this.
pub(super) struct Waiting<S: Deref<Target = Shared>> {
    shared: S,
    source: Source,
    place: Option<u64>,
}

impl<S: Deref<Target = Shared>> Waiting<S> {
    pub(super) const fn new(shared: S, source: Source) -> Self {
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
                let old = leave(&mut state, self.source, self.place.take());
                let next = state.pop_waiter(self.source);
                let driver = if wakes_driver { state.driver.take() } else { None };
                drop(state);
                drop(old);
                next.into_iter().chain(driver).for_each(Waker::wake);
                return Poll::Ready(taken);
            }
            let waiters = state.waiters(self.source).expect("it would have been taken");
            let registered = self.place.and_then(|place| waiters.waker(place));
            if registered.is_some_and(|registered| registered.will_wake(cx.waker())) {
                return Poll::Pending;
            }
            let Some(waker) = waker.take() else {
                drop(state);
                waker = Some(cx.waker().clone());
                continue;
            };
            let old = waiters.register(&mut self.place, waker);
            drop(state);
            drop(old);
            return Poll::Pending;
        }
    }
}

impl<S: Deref<Target = Shared>> Drop for Waiting<S> {
    fn drop(&mut self) {
        let Some(place) = self.place else { return };
        let (waker, next) = {
            let mut state = self.shared.lock();
            // It may have been woken without having taken anything, or been the first one for whom there
            // was not enough.
            (leave(&mut state, self.source, Some(place)), state.pop_waiter(self.source))
        };
        drop(waker);
        next.into_iter().for_each(Waker::wake);
    }
}

/// Gives up a place. The waker, if it was not woken, is to be dropped after the lock is released.
fn leave(state: &mut State, source: Source, place: Option<u64>) -> Option<Waker> {
    state.waiters(source)?.remove(place?)
}
