//! Deadlines of things with small indices, of which the earliest is known at once.

use alloc::vec;
use alloc::vec::Vec;

use crate::time::Time;

/// A tournament: a binary tree whose leaves are the deadlines by index, and whose nodes are the
/// earlier of the two below. A change costs its height at most, and no allocation but for a higher
/// index than before.
#[derive(Debug)]
pub(crate) struct Deadlines {
    /// The root is at 1, the two below `n` at `2 n` and `2 n + 1`, the leaves are the second half.
    tree: Vec<Time>,
}

impl Deadlines {
    pub(crate) fn new() -> Self {
        Self { tree: vec![Time::NEVER; 2] }
    }

    fn leaves(&self) -> usize {
        self.tree.len() / 2
    }

    fn grow(&mut self, index: usize) {
        let leaves = (index + 1).next_power_of_two();
        let old = core::mem::replace(&mut self.tree, vec![Time::NEVER; 2 * leaves]);
        let deadlines = old[old.len() / 2..].iter().enumerate();
        deadlines.for_each(|(index, deadline)| self.set(index, *deadline));
    }

    /// Sets the deadline of an index. [`Time::NEVER`]: it has none.
    pub(crate) fn set(&mut self, index: usize, deadline: Time) {
        if index >= self.leaves() {
            self.grow(index);
        }
        let mut at = self.leaves() + index;
        self.tree[at] = deadline;
        while at > 1 {
            at /= 2;
            let earlier = self.tree[2 * at].min(self.tree[2 * at + 1]);
            if core::mem::replace(&mut self.tree[at], earlier) == earlier {
                break;
            }
        }
    }

    /// Has the deadline of an index be no later than this.
    pub(crate) fn bring_forward(&mut self, index: usize, deadline: Time) {
        if self.tree.get(self.leaves() + index).is_none_or(|present| deadline < *present) {
            self.set(index, deadline);
        }
    }

    /// The deadline of an index.
    pub(crate) fn get(&self, index: usize) -> Time {
        self.tree.get(self.leaves() + index).copied().unwrap_or(Time::NEVER)
    }

    /// The earliest deadline.
    pub(crate) fn earliest(&self) -> Time {
        self.tree[1]
    }

    /// The index with the earliest deadline, if that has come; of several the lowest one.
    pub(crate) fn due(&self, now: Time) -> Option<usize> {
        let is_due = self.earliest() <= now && self.earliest() < Time::NEVER;
        is_due.then(|| self.first())
    }

    fn first(&self) -> usize {
        let mut at = 1;
        while at < self.leaves() {
            at *= 2;
            at += usize::from(self.tree[at + 1] < self.tree[at]);
        }
        at - self.leaves()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_deadline_comes_first_whatever_changes() {
        let mut deadlines = Deadlines::new();
        let mut plain = vec![Time::NEVER; 100];
        let mut state = 7_u64;
        for step in 0..10_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            // The indices come one after the other.
            let at = (state >> 33) as usize % (1 + step / 100);
            let time = Time(state >> 40 & 0xff);
            match state >> 60 {
                0..6 => {
                    deadlines.set(at, time);
                    plain[at] = time;
                }
                6..8 => {
                    deadlines.set(at, Time::NEVER);
                    plain[at] = Time::NEVER;
                }
                _ => {
                    deadlines.bring_forward(at, time);
                    plain[at] = plain[at].min(time);
                }
            }
            let earliest = *plain.iter().min().expect("not empty");
            assert_eq!(deadlines.earliest(), earliest);
            let first = plain.iter().position(|time| *time == earliest);
            assert_eq!(deadlines.due(earliest), first.filter(|_| earliest < Time::NEVER));
            let before = earliest.0.checked_sub(1).map(Time);
            assert!(before.is_none_or(|before| deadlines.due(before).is_none()));
        }
    }
}
