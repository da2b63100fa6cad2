//! Queues of items by peer, served round robin: one item of each peer, however many it has.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::id::PeerIndex;

/// Items by peer, first come first served within a peer, round robin between peers.
#[derive(Debug)]
pub(crate) struct Turns<T> {
    queues: Vec<VecDeque<T>>,
    /// The index of the peer whose turn is next, if it has an item.
    next: usize,
    len: usize,
}

impl<T> Turns<T> {
    pub(crate) const fn new() -> Self {
        Self { queues: Vec::new(), next: 0, len: 0 }
    }

    pub(crate) fn push(&mut self, peer: PeerIndex, item: T) {
        if self.queues.len() <= peer.at() {
            self.queues.resize_with(peer.at() + 1, VecDeque::new);
        }
        self.queues[peer.at()].push_back(item);
        self.len += 1;
    }

    /// The first item of the next peer whose first item `suits`.
    pub(crate) fn pop(&mut self, mut suits: impl FnMut(PeerIndex, &T) -> bool) -> Option<T> {
        if self.len == 0 {
            return None;
        }
        let peers = self.queues.len();
        let next = self.next.min(peers);
        let turn = (next..peers).chain(0..next).find(|at| {
            let first = self.queues[*at].front();
            first.is_some_and(|first| suits(PeerIndex(*at as u16), first))
        })?;
        // This may be the index of a peer without a queue.
        self.next = turn + 1;
        self.len -= 1;
        self.queues[turn].pop_front()
    }

    /// The first item of a peer, out of its turn.
    pub(crate) fn pop_of(&mut self, peer: PeerIndex) -> Option<T> {
        let item = self.queues.get_mut(peer.at())?.pop_front()?;
        self.len -= 1;
        Some(item)
    }

    /// Removes an item of a peer, at any position.
    pub(crate) fn remove(&mut self, peer: PeerIndex, is_it: impl FnMut(&T) -> bool) -> Option<T> {
        let queue = self.queues.get_mut(peer.at())?;
        let at = queue.iter().position(is_it)?;
        self.len -= 1;
        queue.remove(at)
    }

    /// The same for the items of all peers.
    #[cfg_attr(not(feature = "driver"), allow(dead_code, reason = "for drivers"))]
    pub(crate) fn remove_any(&mut self, mut is_it: impl FnMut(&T) -> bool) -> Option<T> {
        let mut peers = 0..self.queues.len();
        peers.find_map(|at| self.remove(PeerIndex(at as u16), &mut is_it))
    }

    /// Items of all peers.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Items of a peer.
    pub(crate) fn count(&self, peer: PeerIndex) -> usize {
        self.queues.get(peer.at()).map_or(0, VecDeque::len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_take_turns_however_much_one_of_them_has() {
        let mut turns = Turns::new();
        (0..6).for_each(|n| turns.push(PeerIndex(0), n));
        (10..12).for_each(|n| turns.push(PeerIndex(2), n));
        turns.push(PeerIndex(1), 20);
        let mut order = Vec::new();
        while let Some(item) = turns.pop(|_, item| *item != 3) {
            order.push(item);
        }
        assert_eq!(order, [0, 20, 10, 1, 11, 2], "3 does not suit, and what is behind it waits");
        assert_eq!(turns.remove(PeerIndex(0), |item| *item == 4), Some(4));
        assert_eq!(turns.count(PeerIndex(0)), 2);
    }

    #[test]
    fn the_turn_of_a_peer_that_is_new_comes_as_that_of_others() {
        let mut turns = Turns::new();
        (0..2).for_each(|n| turns.push(PeerIndex(0), n));
        assert_eq!(turns.pop(|_, _| true), Some(0));
        turns.push(PeerIndex(1), 10);
        assert_eq!([turns.pop(|_, _| true), turns.pop(|_, _| true)], [Some(10), Some(1)]);
    }
}
