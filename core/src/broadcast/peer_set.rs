//! A set of peers as a fixed bit field.

use super::work;
use crate::bits::ones;
use crate::config::PEERS_LIMIT;
use crate::id::PeerIndex;

const WORDS: usize = PEERS_LIMIT as usize / 64;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct PeerSet([u64; WORDS]);

impl PeerSet {
    /// The set of one peer.
    pub(crate) fn of(peer: PeerIndex) -> Self {
        let mut set = Self::default();
        set.insert(peer);
        set
    }

    pub(crate) fn insert(&mut self, peer: PeerIndex) {
        self.0[peer.at() / 64] |= 1 << (peer.0 % 64);
    }

    pub(crate) fn remove(&mut self, peer: PeerIndex) {
        self.0[peer.at() / 64] &= !(1 << (peer.0 % 64));
    }

    pub(crate) fn contains(&self, peer: PeerIndex) -> bool {
        self.0[peer.at() / 64] >> (peer.0 % 64) & 1 == 1
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    pub(crate) fn first(&self) -> Option<PeerIndex> {
        let word = self.0.iter().position(|word| *word != 0)?;
        Some(PeerIndex(word as u16 * 64 + self.0[word].trailing_zeros() as u16))
    }

    /// Whether each of its members is in one of two other sets.
    pub(crate) fn is_within(&self, one: &Self, other: &Self) -> bool {
        let outside = |at: usize| self.0[at] & !(one.0[at] | other.0[at]);
        (0..WORDS).all(|at| outside(at) == 0)
    }

    pub(crate) fn count(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    /// The number of members below a peer.
    pub(crate) fn rank(&self, peer: PeerIndex) -> u32 {
        let (at, below) = (peer.at() / 64, (1 << (peer.0 % 64)) - 1);
        let lower: u32 = self.0[..at].iter().map(|word| word.count_ones()).sum();
        lower + (self.0[at] & below).count_ones()
    }

    /// The members, lowest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = PeerIndex> + use<> {
        let words = self.0;
        (0..WORDS).flat_map(move |at| {
            ones(words[at]).map(move |bit| {
                work::count();
                PeerIndex((at * 64 + bit) as u16)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_come_lowest_first() {
        let mut set = PeerSet::default();
        for at in [511, 3, 64] {
            set.insert(PeerIndex(at));
        }
        set.remove(PeerIndex(3));
        assert!(!set.contains(PeerIndex(3)) && set.contains(PeerIndex(511)));
        assert_eq!(set.first(), Some(PeerIndex(64)));
        assert!(set.iter().eq([64, 511].map(PeerIndex)));
        assert_eq!([64, 65, 511].map(|at| set.rank(PeerIndex(at))), [0, 1, 1]);
        assert_eq!(set.count(), 2);
        let [one, other] = [64, 511].map(|at| PeerSet::of(PeerIndex(at)));
        assert!(set.is_within(&one, &other) && set.is_within(&set, &other));
        assert!(!set.is_within(&other, &other) && !set.is_within(&one, &PeerSet::default()));
        set.remove(PeerIndex(64));
        set.remove(PeerIndex(511));
        assert!(set.is_empty() && set.first().is_none());
    }
}
