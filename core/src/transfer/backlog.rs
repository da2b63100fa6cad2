//! What waits, in the order in which it came; and of channels with [`Order::HighestKeyFirst`], by key.
//!
//! [`Order::HighestKeyFirst`]: crate::config::Order::HighestKeyFirst

use alloc::collections::BTreeSet;

use crate::arena::{Arena, Chain, List};

/// Where an artifact stands in the order of keys of its channel: of equal keys, what came later is higher.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Rank {
    pub(super) channel: u16,
    pub(super) key: u64,
    pub(super) serial: u64,
}

pub(super) trait Ranked {
    /// `None` in a channel whose order is that of age.
    fn rank(&self) -> Option<Rank>;
}

/// Items of an [`Arena`] that wait. Keys are compared in one channel only: the newest item says which.
#[derive(Debug)]
pub(super) struct Backlog<C> {
    /// Oldest first.
    pub(super) list: List<C>,
    /// Those that have a rank.
    by_rank: BTreeSet<(Rank, u32)>,
}

impl<C> Default for Backlog<C> {
    fn default() -> Self {
        Self { list: List::default(), by_rank: BTreeSet::new() }
    }
}

impl<C> Backlog<C> {
    pub(super) fn push<T: Ranked>(&mut self, arena: &mut Arena<T>, at: u32)
    where
        C: Chain<T>,
    {
        self.list.push_back(arena, at);
        if let Some(rank) = arena[at].rank() {
            self.by_rank.insert((rank, at));
        }
    }

    pub(super) fn remove<T: Ranked>(&mut self, arena: &mut Arena<T>, at: u32)
    where
        C: Chain<T>,
    {
        self.list.remove(arena, at);
        if let Some(rank) = arena[at].rank() {
            self.by_rank.remove(&(rank, at));
        }
    }

    pub(super) fn oldest(&self) -> Option<u32> {
        self.list.front()
    }

    /// The newest, or in a channel with that order the one that has the highest key.
    pub(super) fn first<T: Ranked>(&self, arena: &Arena<T>) -> Option<u32> {
        let newest = self.list.back()?;
        let Some(Rank { channel, .. }) = arena[newest].rank() else { return Some(newest) };
        let most = Rank { channel, key: u64::MAX, serial: u64::MAX };
        self.by_rank.range(..=(most, u32::MAX)).next_back().map(|(_, at)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena::Links;

    struct Item(Option<Rank>, Links);
    struct Only;
    impl Chain<Item> for Only {
        fn links(item: &mut Item) -> &mut Links {
            &mut item.1
        }
    }
    impl Ranked for Item {
        fn rank(&self) -> Option<Rank> {
            self.0
        }
    }

    #[test]
    fn keys_decide_in_the_channel_of_the_newest() {
        let (mut arena, mut backlog) = (Arena::new(), Backlog::<Only>::default());
        let mut push = |channel, key| {
            let rank = Rank { channel, key, serial: arena.len() as u64 };
            let at = arena.insert(Item((channel > 0).then_some(rank), Links::UNLINKED));
            backlog.push(&mut arena, at);
            at
        };
        let plain = push(0, 9);
        let [low, high, same] = [(1, 3), (1, 5), (1, 5)].map(|(channel, key)| push(channel, key));
        let other = push(2, 4);
        assert_eq!((backlog.oldest(), backlog.first(&arena)), (Some(plain), Some(other)));
        backlog.remove(&mut arena, other);
        for highest in [same, high, low, plain] {
            assert_eq!(backlog.first(&arena), Some(highest));
            backlog.remove(&mut arena, highest);
        }
        assert_eq!((backlog.oldest(), backlog.first(&arena)), (None, None));
        assert!(backlog.by_rank.is_empty());
    }
}
