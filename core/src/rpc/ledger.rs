//! Bytes that bodies of one sort may take: in total, and for one peer.

use alloc::vec::Vec;

use crate::id::PeerIndex;

#[derive(Debug)]
pub(super) struct Ledger {
    max: u64,
    /// The bytes that one peer may use.
    share: u64,
    committed: u64,
    /// By peer. An entry outlives the peer until its bytes have been released.
    by_peer: Vec<u64>,
}

impl Ledger {
    /// A ledger of `max` bytes, of which one peer may use `share`.
    pub(super) fn new(max: u64, share: u64) -> Self {
        Self { max, share, committed: 0, by_peer: Vec::new() }
    }

    pub(super) fn add_peer(&mut self, peer: PeerIndex) {
        if self.by_peer.len() <= peer.at() {
            self.by_peer.resize(peer.at() + 1, 0);
        }
    }

    /// Whether there is room in the budget of all peers.
    pub(super) fn has_room(&self, bytes: u64) -> bool {
        self.committed + bytes <= self.max
    }

    /// Whether there is room in the share of a peer.
    pub(super) fn has_share(&self, peer: PeerIndex, bytes: u64) -> bool {
        self.by_peer[peer.at()] + bytes <= self.share
    }

    /// Takes bytes for a peer, if there is room.
    pub(super) fn take(&mut self, peer: PeerIndex, bytes: u64) -> bool {
        let has_room = self.has_room(bytes) && self.has_share(peer, bytes);
        if has_room {
            self.committed += bytes;
            self.by_peer[peer.at()] += bytes;
        }
        has_room
    }

    pub(super) fn give_back(&mut self, peer: PeerIndex, bytes: u64) {
        self.committed -= bytes;
        self.by_peer[peer.at()] -= bytes;
    }

    pub(super) fn committed(&self) -> u64 {
        self.committed
    }

    pub(super) fn assert_invariants(&self) {
        assert_eq!(self.committed, self.by_peer.iter().sum::<u64>());
        assert!(
            self.committed <= self.max && self.by_peer.iter().all(|bytes| *bytes <= self.share)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_peer_takes_its_share_and_all_together_no_more_than_there_is() {
        let mut ledger = Ledger::new(800, 100);
        (0..10).for_each(|at| ledger.add_peer(PeerIndex(at)));
        assert!(ledger.take(PeerIndex(0), 100) && !ledger.take(PeerIndex(0), 1));
        for at in 1..8 {
            assert!(ledger.take(PeerIndex(at), 100));
        }
        assert!(!ledger.take(PeerIndex(9), 1), "all is taken");
        ledger.give_back(PeerIndex(0), 60);
        assert!(ledger.take(PeerIndex(9), 60) && !ledger.take(PeerIndex(9), 1));
        ledger.assert_invariants();
    }
}
