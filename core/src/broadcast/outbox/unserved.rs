//! The changes that a peer has still to be served: a list through the slots, the oldest change first.
//!
//! A slot is in it once, at its last change, so that each change, abort and update that is sent takes the same few
//! steps whatever else there is. Beside its neighbours stands what the peer was last sent of the slot: what is
//! looked at together lies together.

use alloc::vec::Vec;

use crate::id::Slot;
use crate::sched::End;

/// What a peer was last sent of a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::broadcast) struct LastSent(u64);

impl LastSent {
    /// Nothing.
    pub(in crate::broadcast) const NOTHING: Self = Self(u64::MAX);
    /// An artifact, but not the present one.
    pub(in crate::broadcast) const OTHER: Self = Self(u64::MAX - 1);

    /// Marks a stream that holds all of the artifact. Generations of streams do not come as far.
    const PUSHED: u64 = 1 << 63;
    /// Marks a stream that holds a clear.
    const CLEARED: u64 = 1 << 62;

    /// The present artifact, in this stream: all of it, or an advert.
    pub(in crate::broadcast) const fn in_stream(stream: u64, is_pushed: bool) -> Self {
        Self(if is_pushed { stream | Self::PUSHED } else { stream })
    }

    /// A clear, in this stream.
    pub(in crate::broadcast) const fn cleared_in(stream: u64) -> Self {
        Self(stream | Self::CLEARED)
    }

    /// Whether it is nothing, or a clear: a further clear need not be sent.
    pub(in crate::broadcast) fn is_nothing(self) -> bool {
        self == Self::NOTHING || self.clear().is_some()
    }

    /// The stream that holds a clear.
    pub(in crate::broadcast) fn clear(self) -> Option<u64> {
        let is_clear = self.0 & (Self::PUSHED | Self::CLEARED) == Self::CLEARED;
        is_clear.then_some(self.0 & !Self::CLEARED)
    }

    /// The stream that holds the present artifact.
    pub(in crate::broadcast) fn stream(self) -> Option<u64> {
        (self.0 & Self::CLEARED == 0).then_some(self.0 & !Self::PUSHED)
    }

    /// The stream that holds all of the artifact.
    pub(in crate::broadcast) fn pushed_in(self) -> Option<u64> {
        self.stream().filter(|_| self.0 & Self::PUSHED != 0)
    }

    /// Whether it is the present content of the slot, which need not be sent again.
    pub(in crate::broadcast) fn is_present(self) -> bool {
        self.stream().is_some()
    }
}

/// No slot: there are at most 65,536.
const NONE: u32 = u32::MAX;

/// Instead of the older neighbour: the slot is not in the list.
const SERVED: u32 = u32::MAX - 1;

#[derive(Clone, Copy, Debug)]
struct PeerSlot {
    last_sent: LastSent,
    /// Its neighbours in the list.
    older: u32,
    newer: u32,
}

#[derive(Debug)]
pub(super) struct Unserved {
    /// Up to the highest slot that the peer had to be served.
    slots: Vec<PeerSlot>,
    /// The ends of the list.
    oldest: u32,
    newest: u32,
    count: u32,
}

impl Default for Unserved {
    fn default() -> Self {
        Self { slots: Vec::new(), oldest: NONE, newest: NONE, count: 0 }
    }
}

impl Unserved {
    /// The number of slots whose change has not been served.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The slot at one end.
    pub(super) fn end(&self, end: End) -> Option<Slot> {
        let at = match end {
            End::Oldest => self.oldest,
            End::Newest => self.newest,
        };
        (at != NONE).then_some(Slot(at))
    }

    pub(super) fn oldest(&self) -> Option<Slot> {
        self.end(End::Oldest)
    }

    pub(super) fn contains(&self, slot: Slot) -> bool {
        self.slots.get(slot.0 as usize).is_some_and(|state| state.older != SERVED)
    }

    /// The slots in the list, oldest change first.
    pub(super) fn iter(&self) -> impl Iterator<Item = Slot> + use<'_> {
        let newer = |slot: &Slot| {
            let newer = self.slots[slot.0 as usize].newer;
            (newer != NONE).then_some(Slot(newer))
        };
        core::iter::successors(self.oldest(), newer)
    }

    /// A slot that is not in the list has the newest change.
    pub(super) fn push(&mut self, slot: Slot) {
        debug_assert!(!self.contains(slot), "it was removed");
        self.reach(slot);
        let older = core::mem::replace(&mut self.newest, slot.0);
        match self.slots.get_mut(older as usize) {
            Some(older) => older.newer = slot.0,
            None => self.oldest = slot.0,
        }
        let state = &mut self.slots[slot.0 as usize];
        (state.older, state.newer) = (older, NONE);
        self.count += 1;
    }

    /// A slot's change was served, or need not be, or there is another one.
    pub(super) fn remove(&mut self, slot: Slot) {
        if !self.contains(slot) {
            return;
        }
        let state = &mut self.slots[slot.0 as usize];
        let (older, newer) = (core::mem::replace(&mut state.older, SERVED), state.newer);
        match self.slots.get_mut(older as usize) {
            Some(older) => older.newer = newer,
            None => self.oldest = newer,
        }
        match self.slots.get_mut(newer as usize) {
            Some(newer) => newer.older = older,
            None => self.newest = older,
        }
        self.count -= 1;
    }

    pub(super) fn last_sent(&self, slot: Slot) -> LastSent {
        self.slots.get(slot.0 as usize).map_or(LastSent::NOTHING, |state| state.last_sent)
    }

    pub(super) fn set_last_sent(&mut self, slot: Slot, last_sent: LastSent) {
        if self.last_sent(slot) != last_sent {
            self.reach(slot);
            self.slots[slot.0 as usize].last_sent = last_sent;
        }
    }

    fn reach(&mut self, slot: Slot) {
        let at = slot.0 as usize;
        if self.slots.len() <= at {
            let last_sent = LastSent::NOTHING;
            self.slots.resize(at + 1, PeerSlot { last_sent, older: SERVED, newer: NONE });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// Against a plain list.
    #[test]
    fn each_slot_is_in_it_once_at_its_last_change() {
        for seed in 0..50 {
            let mut random = Random::new(seed);
            let (mut unserved, mut plain) = (Unserved::default(), Vec::<Slot>::new());
            for number in 0..1000 {
                let slot = Slot(random.below(20) as u32);
                match random.below(8) {
                    0..4 => {
                        unserved.remove(slot);
                        unserved.push(slot);
                        plain.retain(|other| *other != slot);
                        plain.push(slot);
                    }
                    4..6 => {
                        unserved.remove(slot);
                        plain.retain(|other| *other != slot);
                    }
                    6 => {
                        let served = unserved.end(End::Oldest).inspect(|at| unserved.remove(*at));
                        let expected = (!plain.is_empty()).then(|| plain.remove(0));
                        assert_eq!(served, expected);
                    }
                    _ => {
                        let served = unserved.end(End::Newest).inspect(|at| unserved.remove(*at));
                        assert_eq!(served, plain.pop());
                    }
                }
                let last_sent = LastSent::in_stream(number, false);
                unserved.set_last_sent(slot, last_sent);
                assert_eq!(unserved.last_sent(slot), last_sent);
                assert!(unserved.iter().eq(plain.iter().copied()));
                assert_eq!(unserved.count() as usize, plain.len());
                assert_eq!(unserved.contains(slot), plain.contains(&slot));
            }
        }
    }
}
