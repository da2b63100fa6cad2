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
///
/// What is passed on goes in *rounds*, each a stream to each member. The first one ends with this node's stripe:
/// a stream that waited for what may be passed on later would keep others waiting, since a member allows
/// so many. Parts of other stripes that are repaired make further rounds.
#[derive(Debug)]
pub(super) struct Spread {
    /// The members to which chunks are sent unasked: those that were connected when it began.
    members: PeerSet,
    /// Those of them that have been told of the artifact in this round.
    told: PeerSet,
    /// The chunks that are passed on, in the order in which they came. None at the publisher.
    passed: Vec<u16>,
    /// By peer: how many of them belong to the rounds in which it has been told, and those before.
    /// Whoever was not told in a round gets it with the next one.
    passed_to: Vec<u16>,
    round: usize,
    /// How many of the chunks belong to the rounds until the end of each. This one is over if it has an end.
    ends: Vec<u16>,
}

/// What a stream passes on to a member.
#[derive(Clone, Copy, Debug)]
pub(super) struct Passing {
    /// The place in the order of the chunk that is next.
    next: usize,
    round: usize,
}

impl Spread {
    pub(super) fn new(members: PeerSet) -> Self {
        Self {
            members,
            told: PeerSet::default(),
            passed: Vec::new(),
            passed_to: Vec::new(),
            round: 0,
            ends: Vec::new(),
        }
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

    /// Another chunk is to be passed on. True if that begins another round, of which members are to be told.
    pub(super) fn pass_on(&mut self, chunk: u32) -> bool {
        let is_first = self.is_over(self.round);
        if is_first {
            let end = self.ends[self.round];
            for peer in core::mem::take(&mut self.told).iter() {
                if self.passed_to.len() <= peer.at() {
                    self.passed_to.resize(peer.at() + 1, 0);
                }
                self.passed_to[peer.at()] = end;
            }
            self.round += 1;
        }
        self.passed.push(chunk as u16);
        is_first
    }

    /// What a member that is due is passed on.
    pub(super) fn passing(&self, peer: PeerIndex) -> Passing {
        let next = self.passed_to.get(peer.at()).map_or(0, |passed| usize::from(*passed));
        Passing { next, round: self.round }
    }

    /// The next chunk of what is passed on, if it is here.
    pub(super) fn next(&self, passing: Passing) -> Option<u32> {
        let end = self.ends.get(passing.round).map_or(self.passed.len(), |end| usize::from(*end));
        self.passed[..end].get(passing.next).map(|chunk| u32::from(*chunk))
    }

    /// Takes it.
    pub(super) fn take_next(&self, passing: &mut Passing) -> Option<u32> {
        let chunk = self.next(*passing)?;
        passing.next += 1;
        Some(chunk)
    }

    /// Whether nothing is left of what is passed on, and nothing will be added.
    pub(super) fn is_finished(&self, passing: Passing) -> bool {
        self.is_over(passing.round) && self.next(passing).is_none()
    }

    fn is_over(&self, round: usize) -> bool {
        self.ends.len() > round
    }

    /// All of this round has come.
    pub(super) fn end_round(&mut self) {
        if !self.is_over(self.round) {
            self.ends.push(self.passed.len() as u16);
        }
    }

    /// Members that have not been told of the artifact yet are not sent chunks unasked any more, either.
    pub(super) fn cut_short(&mut self) {
        self.end_round();
        self.told = self.members;
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

    #[test]
    fn each_round_is_a_stream_to_each_member() {
        let [early, late] = [PeerIndex(1), PeerIndex(2)];
        let mut members = PeerSet::default();
        [early, late].into_iter().for_each(|peer| members.insert(peer));
        let mut spread = Spread::new(members);
        let take_all = |spread: &Spread, passing: &mut Passing| {
            let chunks = core::iter::from_fn(|| spread.take_next(passing));
            (chunks.collect::<Vec<u32>>(), spread.is_finished(*passing))
        };
        assert!(!spread.pass_on(5));
        spread.note_told(early);
        let mut first = spread.passing(early);
        assert_eq!(take_all(&spread, &mut first), ([5].into(), false));
        assert!(!spread.pass_on(6));
        spread.end_round();
        assert!(spread.pass_on(9), "another round");
        assert_eq!(take_all(&spread, &mut first), ([6].into(), true));
        assert!(spread.is_due(early) && spread.is_due(late));
        let [mut second, mut all] = [early, late].map(|peer| spread.passing(peer));
        assert_eq!(take_all(&spread, &mut second), ([9].into(), false));
        spread.end_round();
        assert_eq!(take_all(&spread, &mut second), ([].into(), true));
        assert_eq!(take_all(&spread, &mut all), ([5, 6, 9].into(), true));
    }

    /// A member that could not be told in some rounds gets what it has missed, and nothing twice.
    #[test]
    fn whoever_was_not_told_in_a_round_goes_on_where_its_last_one_ended() {
        let peer = PeerIndex(3);
        let mut spread = Spread::new(PeerSet::of(peer));
        let mut sent = Vec::new();
        for (chunk, is_told) in (0..).zip([true, false, false, true, true, false, true]) {
            assert_eq!(spread.pass_on(chunk), chunk > 0);
            spread.end_round();
            if is_told {
                let mut passing = spread.passing(peer);
                spread.note_told(peer);
                sent.extend(core::iter::from_fn(|| spread.take_next(&mut passing)));
                assert!(spread.is_finished(passing));
            }
        }
        assert!(sent.into_iter().eq(0..7));
    }
}
