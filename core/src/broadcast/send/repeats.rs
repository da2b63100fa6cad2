//! What a peer is served of an artifact again and again.
//!
//! Whoever asks for chunks has them at the level of the channel. An honest member asks for a chunk a second time if the
//! answer was late or wrong, if it had to drop what it had, or if it has restarted. One that asks for an urgent artifact
//! over and over would leave others of this node's uplink what is left to the levels below. So of each artifact in a
//! slot, a peer is served twice its length at the level of the channel. More than that is a *repeat*, and goes as
//! bulk: the member waits longer for it, and has it all the same.

use alloc::vec::Vec;

use crate::id::PeerIndex;

/// How often a peer is served the length of an artifact at the level of the channel.
const COPIES_MAX: u64 = 2;

/// Chunks that were encoded to answer requests, of the artifact in a slot, by peer. They count over connections: who
/// connects again has no more of it.
#[derive(Debug, Default)]
pub(in crate::broadcast) struct Answered(Vec<u32>);

impl Answered {
    /// So many more were encoded for a peer. The memory is four bytes for each peer up to the highest that has asked.
    pub(super) fn note(&mut self, peer: PeerIndex, chunks: u32) {
        let missing = (peer.at() + 1).saturating_sub(self.0.len());
        self.0.reserve_exact(missing);
        self.0.resize(self.0.len() + missing, 0);
        let count = &mut self.0[peer.at()];
        *count = count.saturating_add(chunks);
    }

    /// Whether it is a repeat to encode so many chunks more for a peer, of an artifact of `length` chunks.
    pub(super) fn is_repeat(&self, peer: PeerIndex, more: u64, length: u32) -> bool {
        let count = self.0.get(peer.at()).copied().unwrap_or_default();
        u64::from(count) + more > COPIES_MAX * u64::from(length)
    }

    /// The peer is no member any more: its index may become that of another one.
    pub(in crate::broadcast) fn forget(&mut self, peer: PeerIndex) {
        if let Some(count) = self.0.get_mut(peer.at()) {
            *count = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: PeerIndex = PeerIndex(3);

    #[test]
    fn the_third_copy_is_a_repeat() {
        let mut answered = Answered::default();
        assert!(!answered.is_repeat(PEER, 10, 10) && answered.is_repeat(PEER, 21, 10));
        answered.note(PEER, 10);
        assert!(!answered.is_repeat(PEER, 10, 10) && answered.is_repeat(PEER, 11, 10));
        answered.note(PEER, u32::MAX);
        assert!(answered.is_repeat(PEER, 1, 10));
        let other = PeerIndex(2);
        assert!(!answered.is_repeat(other, 20, 10), "each for itself");
        answered.forget(PEER);
        answered.forget(PeerIndex(500));
        assert!(!answered.is_repeat(PEER, 20, 10));
        assert_eq!(answered.0.capacity(), 4);
    }
}
