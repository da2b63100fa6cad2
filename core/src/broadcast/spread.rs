//! Spreading, at the sending end. The publisher sends each member another part of a long artifact, its
//! stripe, and each member passes its stripe on to all others while it comes. So an artifact of S bytes
//! has reached everybody after little more than the time in which its publisher sends S bytes, and
//! everybody has sent about as many.

use alloc::vec::Vec;

use super::peer_set::PeerSet;
use crate::id::{ArtifactId, PeerIndex};
use crate::transfer::stripe;
use crate::wire::{ChunkRange, Ranges};

/// How far an artifact in a slot has been spread.
#[derive(Debug)]
pub(super) struct Spread {
    /// The members to which chunks are sent unasked: those that were connected when it began.
    members: PeerSet,
    /// Those of them that have been told of the artifact.
    told: PeerSet,
    /// The chunks that are passed on, in the order in which they came. None at the publisher.
    passed: Vec<u16>,
    /// No more chunks will be passed on.
    is_over: bool,
}

impl Spread {
    pub(super) fn new(members: PeerSet) -> Self {
        Self { members, told: PeerSet::default(), passed: Vec::new(), is_over: false }
    }

    /// Whether a member is still to be sent chunks unasked.
    pub(super) fn is_due(&self, peer: PeerIndex) -> bool {
        self.members.contains(peer) && !self.told.contains(peer)
    }

    pub(super) fn note_told(&mut self, peer: PeerIndex) {
        self.told.insert(peer);
    }

    /// The part of a member, of an artifact of so many chunks. The id decides which member has the
    /// first one, so that with few chunks it is not always the same members that have some.
    pub(super) fn stripe(&self, peer: PeerIndex, id: &ArtifactId, chunks: u32) -> Ranges {
        let count = self.members.count();
        let [a, b, c, d, ..] = id.0;
        let first = u32::from_be_bytes([a, b, c, d]) % count;
        let place = (self.members.rank(peer) + first) % count;
        let stripe = ChunkRange::from(stripe(chunks, count, place));
        Some(stripe).filter(|stripe| stripe.count > 0).into_iter().collect()
    }

    pub(super) fn pass_on(&mut self, chunk: u32) {
        self.passed.push(chunk as u16);
    }

    /// The chunk that is passed on as number `at`.
    pub(super) fn passed(&self, at: usize) -> Option<u32> {
        self.passed.get(at).map(|chunk| u32::from(*chunk))
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    pub(super) fn end(&mut self) {
        self.is_over = true;
    }

    /// Members that have not been told of the artifact yet are not sent chunks unasked any more, either.
    pub(super) fn cut_short(&mut self) {
        (self.is_over, self.told) = (true, self.members);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stripes_are_disjoint_and_make_the_whole() {
        for (members, chunks) in [(1, 5), (3, 16), (12, 256), (39, 16), (39, 256)] {
            let mut set = PeerSet::default();
            let peers: Vec<PeerIndex> = (0..members).map(|at| PeerIndex(2 * at + 1)).collect();
            peers.iter().for_each(|peer| set.insert(*peer));
            let spread = Spread::new(set);
            for seed in 0..5 {
                let id = ArtifactId([seed; 32]);
                let stripes = peers.iter().map(|peer| spread.stripe(*peer, &id, chunks));
                let stripes: Vec<Vec<u32>> = stripes
                    .map(|ranges| ranges.iter().flat_map(|range| range.chunks()).collect())
                    .collect();
                let longest = stripes.iter().map(Vec::len).max();
                assert_eq!(longest, Some((chunks as usize).div_ceil(members.into())));
                let mut all = stripes.concat();
                all.sort_unstable();
                assert!(all.into_iter().eq(0..chunks));
            }
        }
    }
}
