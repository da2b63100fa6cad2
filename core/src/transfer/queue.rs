//! What a holder can be asked for, in one class and priority, and what of it goes first.
//!
//! Short artifacts that nobody was asked for yet go first, so that a short one does not wait for a long one.
//! Of all others, the one with the fewest bytes left to be asked for ("shortest remaining processing time",
//! L. Schrage, Operations Research 16, 1968): so what is begun comes to its end before more is begun, and when
//! less comes than is wanted, most of it is of use. When the oldest has waited too long, or what is begun for its
//! next request, the oldest have their [share](crate::config::Freshness) of the bytes.

use super::backlog::Backlog;
use super::offer::{Offer, PlaceChain};
use crate::arena::{Arena, List};
use crate::sched::Ends;

/// Powers of two of bytes left that are told apart: up to 64 KiB, 128 KiB, and so on; 64 MiB and more.
const LEVELS: usize = 12;
const LEVEL_SHIFT: u32 = 16;

/// A part of a queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Segment {
    /// Nobody has been asked for it yet, and nothing of it is here.
    Fresh,
    /// Of what is begun, by the bytes that are left to be asked for.
    Begun { level: u8 },
}

impl Segment {
    /// Of what is begun and has so many bytes left to be asked for.
    pub(super) fn begun(left: u64) -> Self {
        let level = (left >> LEVEL_SHIFT).checked_ilog2().map_or(0, |log| log as usize + 1);
        Self::Begun { level: level.min(LEVELS - 1) as u8 }
    }
}

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) fresh: Backlog<PlaceChain>,
    /// By level: the one that was asked for last is in front.
    begun: [List<PlaceChain>; LEVELS],
    pub(super) ends: Ends,
}

impl Queue {
    pub(super) fn push(&mut self, offers: &mut Arena<Offer>, segment: Segment, offer: u32) {
        match segment {
            Segment::Fresh => self.fresh.push(offers, offer),
            Segment::Begun { level } => self.begun[usize::from(level)].push_front(offers, offer),
        }
    }

    pub(super) fn remove(&mut self, offers: &mut Arena<Offer>, segment: Segment, offer: u32) {
        match segment {
            Segment::Fresh => self.fresh.remove(offers, offer),
            Segment::Begun { level } => self.begun[usize::from(level)].remove(offers, offer),
        }
    }

    /// Of what is begun, the one with the fewest bytes left, and where it is.
    pub(super) fn shortest(&self) -> Option<u32> {
        self.begun.iter().find_map(List::front)
    }

    /// The one of each level that has waited longest in it. Nothing comes behind it, so that who serves the
    /// oldest of these serves all some time.
    pub(super) fn waiting(&self) -> impl Iterator<Item = u32> {
        self.begun.iter().filter_map(List::back)
    }

    pub(super) fn first(&self) -> Option<u32> {
        self.fresh.oldest().or_else(|| self.shortest())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::PeerIndex;

    #[test]
    fn what_is_left_is_told_apart_by_powers_of_two() {
        let level = |left| match Segment::begun(left) {
            Segment::Begun { level } => level,
            Segment::Fresh => unreachable!(),
        };
        let lefts = [0, 65_535, 65_536, 131_072, 600_000, 64 << 20, u64::MAX];
        assert_eq!(lefts.map(level), [0, 0, 1, 2, 4, 11, 11]);
    }

    #[test]
    fn the_shortest_goes_on_and_the_oldest_of_each_level_waits() {
        let mut offers = Arena::new();
        let mut queue = Queue::default();
        let mut push = |left| {
            let offer = offers.insert(Offer::new((0, None), PeerIndex(0), None));
            queue.push(&mut offers, Segment::begun(left), offer);
            offer
        };
        let [long, longer, short] = [900_000, 1_000_000, 100_000].map(&mut push);
        assert_eq!(queue.shortest(), Some(short));
        assert_eq!(queue.waiting().collect::<alloc::vec::Vec<_>>(), [short, long]);
        queue.remove(&mut offers, Segment::begun(100_000), short);
        assert_eq!(queue.shortest(), Some(longer));
    }
}
