//! Which slots a stream has pushed to a peer.
//!
//! The slots of a stream are in a ring, so that any of them leads to the others, and each can leave it when it changes.
//! A slot is in one ring at most. So what is kept for a peer is two numbers for each slot, however many streams there are
//! and in whatever order they were filled.

use alloc::vec::Vec;

use crate::id::Slot;

#[derive(Clone, Copy, Debug)]
struct Neighbours {
    before: Slot,
    after: Slot,
}

#[derive(Debug, Default)]
pub(super) struct Pushes {
    /// By slot, up to the highest that was pushed. A slot that is in no ring is its own neighbour.
    slots: Vec<Neighbours>,
}

impl Pushes {
    /// A slot that is in no ring joins that of another one; without one, it is alone.
    pub(super) fn join(&mut self, slot: Slot, other: Option<Slot>) {
        while self.slots.len() <= slot.0 as usize {
            let alone = Slot(self.slots.len() as u32);
            self.slots.push(Neighbours { before: alone, after: alone });
        }
        debug_assert_eq!(self.of(slot).after, slot, "it has left the former one");
        let Some(before) = other else { return };
        let after = self.of(before).after;
        *self.of(slot) = Neighbours { before, after };
        self.of(before).after = slot;
        self.of(after).before = slot;
    }

    /// A slot leaves its ring. One of the others, if there is any.
    pub(super) fn leave(&mut self, slot: Slot) -> Option<Slot> {
        let alone = Neighbours { before: slot, after: slot };
        let state = self.slots.get_mut(slot.0 as usize)?;
        let Neighbours { before, after } = core::mem::replace(state, alone);
        if after == slot {
            return None;
        }
        self.of(before).after = after;
        self.of(after).before = before;
        Some(after)
    }

    fn of(&mut self, slot: Slot) -> &mut Neighbours {
        &mut self.slots[slot.0 as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use alloc::collections::{BTreeMap, BTreeSet};

    /// Against plain sets: what is left of a ring is found from any of its slots.
    #[test]
    fn a_ring_leads_to_all_that_has_not_left_it() {
        for seed in 0..100 {
            let (mut random, mut pushes) = (Random::new(seed), Pushes::default());
            let mut rings = BTreeMap::<u64, BTreeSet<u32>>::new();
            for _ in 0..300 {
                let (slot, stream) = (random.below(40) as u32, random.below(5));
                for ring in rings.values_mut() {
                    if ring.remove(&slot) {
                        let other = pushes.leave(Slot(slot));
                        assert!(other.map_or(ring.is_empty(), |other| ring.contains(&other.0)));
                    }
                }
                assert_eq!(pushes.leave(Slot(slot)), None);
                let ring = rings.entry(stream).or_default();
                let at = random.below(ring.len() as u64 + 1) as usize;
                let other = ring.iter().nth(at.min(ring.len().saturating_sub(1))).copied();
                pushes.join(Slot(slot), other.map(Slot));
                ring.insert(slot);
            }
            for mut ring in rings.into_values() {
                let mut next = ring.first().copied().map(Slot);
                while let Some(slot) = next {
                    assert!(ring.remove(&slot.0));
                    next = pushes.leave(slot);
                }
                assert!(ring.is_empty());
            }
        }
    }
}
