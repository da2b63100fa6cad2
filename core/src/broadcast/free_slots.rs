//! Which slots of a table are free, as bit fields in three levels, so that the lowest free slot is
//! found by three steps however many are in use.

use alloc::vec::Vec;

use crate::config::SLOTS_LIMIT;
use crate::id::Slot;

const BITS: usize = u64::BITS as usize;
const LEVELS: usize = 3;
const _: () = assert!(SLOTS_LIMIT as usize <= BITS.pow(LEVELS as u32));

/// Slots in use. Bits that are not stored count as free.
#[derive(Debug, Default)]
pub(super) struct FreeSlots {
    /// Lowest level: bit set, the slot is in use. Above: bit set, the word below is full.
    levels: [Vec<u64>; LEVELS],
}

impl FreeSlots {
    /// The lowest free slot.
    pub(super) fn lowest(&self) -> Slot {
        let word = |level: usize, at: usize| self.levels[level].get(at).copied().unwrap_or(0);
        let descend = |at, level| at * BITS + word(level, at).trailing_ones() as usize;
        Slot((0..LEVELS).rev().fold(0, descend) as u32)
    }

    pub(super) fn take(&mut self, slot: Slot) {
        let mut at = slot.0 as usize;
        for level in &mut self.levels {
            let (word, bit) = (at / BITS, at % BITS);
            if level.len() <= word {
                level.resize(word + 1, 0);
            }
            level[word] |= 1 << bit;
            if level[word] != u64::MAX {
                break;
            }
            at = word;
        }
    }

    pub(super) fn give_back(&mut self, slot: Slot) {
        let mut at = slot.0 as usize;
        for level in &mut self.levels {
            let (word, bit) = (at / BITS, at % BITS);
            let was_full = level[word] == u64::MAX;
            level[word] &= !(1 << bit);
            if !was_full {
                break;
            }
            at = word;
        }
    }

    pub(super) fn is_free(&self, slot: Slot) -> bool {
        let at = slot.0 as usize;
        self.levels[0].get(at / BITS).is_none_or(|word| word >> (at % BITS) & 1 == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_slot_is_found_over_all_levels() {
        let mut free = FreeSlots::default();
        for at in 0..SLOTS_LIMIT {
            assert_eq!(free.lowest(), Slot(at));
            free.take(Slot(at));
        }
        for at in [65_535, 4_096, 4_095, 130, 64, 3] {
            free.give_back(Slot(at));
            assert_eq!(free.lowest(), Slot(at));
            assert!(free.is_free(Slot(at)) && !free.is_free(Slot(at - 1)));
        }
        for at in [3, 64, 130, 4_095, 4_096, 65_535] {
            assert_eq!(free.lowest(), Slot(at));
            free.take(Slot(at));
        }
    }
}
