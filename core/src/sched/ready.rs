//! The flows that have something to send, as a machine reports them.

use alloc::vec::Vec;

use crate::id::PeerIndex;

/// By peer, the flows that have something to send. Each is reported when it has something more, also
/// if it had something before: that may be what can be sent at present. The memory is three bits for
/// each flow and peer, and four bytes for each that is to be reported, now or in the next turn.
#[derive(Debug, Default)]
pub(crate) struct ReadyFlows {
    peers: Vec<PeerFlows>,
    /// To be reported, unless the flow has nothing more to send. Each flow of a peer at most once.
    news: Vec<(PeerIndex, u16)>,
    /// The same in the next turn.
    deferred: Vec<(PeerIndex, u16)>,
}

#[derive(Clone, Debug, Default)]
struct PeerFlows {
    /// Bit set: the flow has something to send.
    ready: Vec<u64>,
    /// Bit set: it is to be reported.
    news: Vec<u64>,
    /// Bit set: it is to be reported in the next turn.
    deferred: Vec<u64>,
}

impl ReadyFlows {
    pub(crate) fn add_peer(&mut self, peer: PeerIndex, flows: usize) {
        if self.peers.len() <= peer.at() {
            self.peers.resize_with(peer.at() + 1, PeerFlows::default);
        }
        let words = flows.div_ceil(64);
        self.peers[peer.at()].ready.resize(words, 0);
        self.peers[peer.at()].news.resize(words, 0);
        self.peers[peer.at()].deferred.resize(words, 0);
    }

    /// Nothing is to be sent to a peer any more.
    pub(crate) fn clear(&mut self, peer: PeerIndex) {
        self.peers[peer.at()].ready.fill(0);
        self.peers[peer.at()].news.fill(0);
        self.peers[peer.at()].deferred.fill(0);
        self.news.retain(|(of, _)| *of != peer);
        self.deferred.retain(|(of, _)| *of != peer);
    }

    /// A flow has something more to send.
    pub(crate) fn mark(&mut self, peer: PeerIndex, flow: usize) {
        let (word, bit) = (flow / 64, 1 << (flow % 64));
        let flows = &mut self.peers[peer.at()];
        flows.ready[word] |= bit;
        if flows.news[word] & bit == 0 {
            flows.news[word] |= bit;
            self.news.push((peer, flow as u16));
        }
    }

    /// A flow has something more to send, which takes more work than is done in one turn.
    pub(crate) fn defer(&mut self, peer: PeerIndex, flow: usize) {
        let (word, bit) = (flow / 64, 1 << (flow % 64));
        let deferred = &mut self.peers[peer.at()].deferred[word];
        if *deferred & bit == 0 {
            *deferred |= bit;
            self.deferred.push((peer, flow as u16));
        }
    }

    /// Whether a flow is to be reported in the next turn.
    pub(crate) fn is_deferred(&self, peer: PeerIndex, flow: usize) -> bool {
        self.peers[peer.at()].deferred[flow / 64] >> (flow % 64) & 1 == 1
    }

    /// The next turn begins: what was [deferred](Self::defer) is to be reported. Whether there is any.
    pub(crate) fn resume_deferred(&mut self) -> bool {
        let was_any = !self.deferred.is_empty();
        while let Some((peer, flow)) = self.deferred.pop() {
            let flow = usize::from(flow);
            self.peers[peer.at()].deferred[flow / 64] &= !(1 << (flow % 64));
            self.mark(peer, flow);
        }
        was_any
    }

    /// A flow has nothing more to send.
    pub(crate) fn settle(&mut self, peer: PeerIndex, flow: usize) {
        self.peers[peer.at()].ready[flow / 64] &= !(1 << (flow % 64));
    }

    /// Whether a flow has something to send.
    pub(crate) fn is_ready(&self, peer: PeerIndex, flow: usize) -> bool {
        self.peers[peer.at()].ready[flow / 64] >> (flow % 64) & 1 == 1
    }

    /// The next flow to be reported.
    pub(crate) fn pop(&mut self) -> Option<(PeerIndex, usize)> {
        loop {
            let (peer, flow) = self.news.pop()?;
            let flow = usize::from(flow);
            self.peers[peer.at()].news[flow / 64] &= !(1 << (flow % 64));
            if self.is_ready(peer, flow) {
                return Some((peer, flow));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: PeerIndex = PeerIndex(3);

    #[test]
    fn a_flow_is_reported_when_it_has_something_more() {
        let mut flows = ReadyFlows::default();
        flows.add_peer(PEER, 130);
        flows.mark(PEER, 129);
        flows.mark(PEER, 129);
        assert_eq!((flows.pop(), flows.pop()), (Some((PEER, 129)), None));
        flows.mark(PEER, 129);
        assert_eq!((flows.pop(), flows.pop()), (Some((PEER, 129)), None));
        flows.settle(PEER, 129);
        assert!(!flows.is_ready(PEER, 129));
    }

    #[test]
    fn what_is_not_taken_does_not_pile_up() {
        let mut flows = ReadyFlows::default();
        flows.add_peer(PEER, 1);
        for _ in 0..100 {
            flows.mark(PEER, 0);
            flows.settle(PEER, 0);
        }
        assert_eq!((flows.news.len(), flows.pop()), (1, None));
        flows.mark(PEER, 0);
        flows.clear(PEER);
        assert_eq!(flows.pop(), None);
    }

    #[test]
    fn what_is_deferred_is_reported_in_the_next_turn_once() {
        let mut flows = ReadyFlows::default();
        flows.add_peer(PEER, 130);
        flows.mark(PEER, 129);
        assert_eq!(flows.pop(), Some((PEER, 129)));
        flows.defer(PEER, 129);
        flows.defer(PEER, 129);
        assert_eq!(flows.pop(), None);
        assert!(flows.resume_deferred());
        assert_eq!((flows.pop(), flows.pop()), (Some((PEER, 129)), None));
        assert!(!flows.resume_deferred());
        flows.defer(PEER, 129);
        flows.clear(PEER);
        assert!(!flows.resume_deferred() && flows.pop().is_none());
    }
}
