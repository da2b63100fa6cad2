//! One deadline per peer, of which the earliest is known at once.

use alloc::vec;
use alloc::vec::Vec;

use crate::id::PeerIndex;
use crate::time::Time;

/// A tournament: a binary tree whose leaves are the peers' deadlines, and whose nodes are the earlier
/// of the two below. A change costs its height, at most ten steps, and no allocation.
#[derive(Debug)]
pub(super) struct Deadlines {
    /// The root is at 1, the two below `n` at `2 n` and `2 n + 1`, the leaves are the second half.
    tree: Vec<Time>,
}

impl Deadlines {
    pub(super) fn new() -> Self {
        Self { tree: vec![Time::NEVER; 2] }
    }

    fn leaves(&self) -> usize {
        self.tree.len() / 2
    }

    /// Makes room for a peer.
    pub(super) fn add_peer(&mut self, peer: PeerIndex) {
        let leaves = (peer.at() + 1).next_power_of_two();
        if leaves > self.leaves() {
            let old = core::mem::replace(&mut self.tree, vec![Time::NEVER; 2 * leaves]);
            let deadlines = old[old.len() / 2..].iter().enumerate();
            deadlines.for_each(|(at, deadline)| self.set(PeerIndex(at as u16), *deadline));
        }
    }

    pub(super) fn set(&mut self, peer: PeerIndex, deadline: Time) {
        let mut at = self.leaves() + peer.at();
        self.tree[at] = deadline;
        while at > 1 {
            at /= 2;
            let earlier = self.tree[2 * at].min(self.tree[2 * at + 1]);
            if core::mem::replace(&mut self.tree[at], earlier) == earlier {
                break;
            }
        }
    }

    /// Has the peer's deadline be no later than this.
    pub(super) fn bring_forward(&mut self, peer: PeerIndex, deadline: Time) {
        if deadline < self.tree[self.leaves() + peer.at()] {
            self.set(peer, deadline);
        }
    }

    /// The earliest deadline.
    pub(super) fn earliest(&self) -> Time {
        self.tree[1]
    }

    /// The peer with the earliest deadline; of several that with the lowest index.
    pub(super) fn first(&self) -> PeerIndex {
        let mut at = 1;
        while at < self.leaves() {
            at *= 2;
            at += usize::from(self.tree[at + 1] < self.tree[at]);
        }
        PeerIndex((at - self.leaves()) as u16)
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
            // The peers come one after the other.
            let at = (state >> 33) as usize % (1 + step / 100);
            let time = Time(state >> 40 & 0xff);
            let peer = PeerIndex(at as u16);
            deadlines.add_peer(peer);
            match state >> 60 {
                0..8 => deadlines.set(peer, time),
                _ => deadlines.bring_forward(peer, time),
            }
            plain[at] = if state >> 60 < 8 { time } else { plain[at].min(time) };
            let earliest = plain.iter().min().expect("not empty");
            assert_eq!(deadlines.earliest(), *earliest);
            let first = plain.iter().position(|time| time == earliest);
            assert_eq!(Some(deadlines.first().at()), first);
        }
    }
}
