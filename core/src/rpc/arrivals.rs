//! Items by peer that are taken in either of two orders: peers taking turns, or by the inputs that brought
//! them.

use alloc::collections::VecDeque;

use super::turns::Turns;
use crate::id::{Arrival, PeerIndex};

/// When an item came; items of one input by their number.
type Key = (Arrival, u64);

/// Items by peer. Those of one peer are pushed in the order of their arrival.
#[derive(Debug)]
pub(crate) struct Arrivals<T> {
    turns: Turns<(Key, T)>,
    /// Each item, in the order of their arrival. Most are pushed at its end, and taken near its front.
    order: VecDeque<(Key, PeerIndex)>,
    /// The number of the last item.
    last: u64,
}

/// An item that was taken.
pub(crate) struct Arrived<T> {
    #[cfg_attr(not(feature = "driver"), allow(dead_code, reason = "for drivers"))]
    pub(crate) peer: PeerIndex,
    pub(crate) arrival: Arrival,
    pub(crate) item: T,
}

impl<T> Arrivals<T> {
    pub(crate) const fn new() -> Self {
        Self { turns: Turns::new(), order: VecDeque::new(), last: 0 }
    }

    pub(crate) fn push(&mut self, peer: PeerIndex, arrival: Arrival, item: T) {
        self.last += 1;
        let key = (arrival, self.last);
        let at = self.order.partition_point(|(other, _)| *other < key);
        self.order.insert(at, (key, peer));
        self.turns.push(peer, (key, item));
    }

    /// The first item of the next peer that `suits`, peers taking turns.
    pub(crate) fn pop(&mut self, mut suits: impl FnMut(PeerIndex) -> bool) -> Option<Arrived<T>> {
        let item = self.turns.pop(|peer, _| suits(peer))?;
        Some(self.taken(item))
    }

    /// The item that came first.
    pub(crate) fn pop_first(&mut self) -> Option<Arrived<T>> {
        let (_, peer) = *self.order.front()?;
        let item = self.turns.pop_of(peer).expect("it is in both");
        Some(self.taken(item))
    }

    /// When the item came that [`Arrivals::pop_first`] gives.
    pub(crate) fn first_arrival(&self) -> Option<Arrival> {
        self.order.front().map(|((arrival, _), _)| *arrival)
    }

    /// Removes an item of a peer, at any position.
    pub(crate) fn remove(
        &mut self,
        peer: PeerIndex,
        mut is_it: impl FnMut(&T) -> bool,
    ) -> Option<T> {
        let item = self.turns.remove(peer, |(_, item)| is_it(item))?;
        Some(self.taken(item).item)
    }

    /// The same for the items of all peers.
    #[cfg_attr(not(feature = "driver"), allow(dead_code, reason = "for drivers"))]
    pub(crate) fn remove_any(&mut self, mut is_it: impl FnMut(&T) -> bool) -> Option<T> {
        let item = self.turns.remove_any(|(_, item)| is_it(item))?;
        Some(self.taken(item).item)
    }

    /// Items of all peers.
    pub(crate) const fn len(&self) -> usize {
        self.turns.len()
    }

    /// Items of a peer.
    pub(crate) fn count(&self, peer: PeerIndex) -> usize {
        self.turns.count(peer)
    }

    fn taken(&mut self, (key, item): (Key, T)) -> Arrived<T> {
        let at = self.order.binary_search_by_key(&key, |(key, _)| *key).expect("it is in both");
        let (_, peer) = self.order.remove(at).expect("just found");
        Arrived { peer, arrival: key.0, item }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn both_orders_are_of_the_same_items() {
        let mut items = Arrivals::new();
        for (arrival, peer) in [(3, 1), (1, 0), (1, 0), (2, 2), (4, 0), (5, 2)] {
            items.push(PeerIndex(peer), Arrival(arrival), (arrival, peer));
        }
        assert_eq!(items.first_arrival(), Some(Arrival(1)));
        // In turns.
        let taken = items.pop(|_| true).expect("one");
        assert_eq!((taken.item, taken.peer, taken.arrival), ((1, 0), PeerIndex(0), Arrival(1)));
        assert_eq!(items.pop(|peer| peer.0 == 2).expect("one").item, (2, 2));
        assert_eq!(items.remove(PeerIndex(0), |item| item.0 == 4), Some((4, 0)));
        let rest: Vec<_> = core::iter::from_fn(|| items.pop_first()).map(|it| it.item).collect();
        assert_eq!(rest, [(1, 0), (3, 1), (5, 2)]);
        assert_eq!((items.len(), items.first_arrival()), (0, None));
    }
}
