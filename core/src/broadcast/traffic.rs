//! Bytes that came from a peer and were encoded for it, by what became of them.

#[cfg(feature = "quic")]
use super::Broadcast;
#[cfg(feature = "quic")]
use crate::id::PeerIndex;
use crate::snapshot::{ReceivedBytes, SentBytes};

/// What has come from one peer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Received {
    /// All that was read of its streams.
    pub(super) all: u64,
    /// Bytes of artifacts among it.
    pub(super) useful: u64,
    pub(super) duplicate: u64,
    pub(super) aborted: u64,
    /// Updates and chunks that brought nothing new, less those that did, since that was last taken.
    pub(super) fruitless: i64,
}

impl Received {
    /// An update or a chunk has brought something new, or not.
    pub(super) fn note_piece(&mut self, is_news: bool) {
        self.fruitless += if is_news { -1 } else { 1 };
    }

    pub(super) fn snapshot(&self) -> ReceivedBytes {
        let Self { all, useful, duplicate, aborted, .. } = *self;
        // Pieces are counted when they are complete, and all when it is read.
        let control = all.saturating_sub(useful + duplicate + aborted);
        ReceivedBytes { useful, duplicate, aborted, control }
    }
}

/// What was encoded for one peer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sent {
    pub(super) all: u64,
    /// Bytes of artifacts among it.
    pub(super) content: u64,
}

impl Sent {
    pub(super) fn snapshot(&self) -> SentBytes {
        SentBytes { content: self.content, control: self.all - self.content }
    }
}

#[cfg(feature = "quic")]
impl Broadcast {
    /// So many bytes of a peer's streams were read, of which so many belong to a chunk that does not come
    /// to its end.
    pub(crate) fn note_read(&mut self, peer: PeerIndex, bytes: u64, aborted: u64) {
        let received = &mut self.peers.received[peer.at()];
        received.all += bytes;
        received.aborted += aborted;
    }

    /// Updates and chunks of a peer that have brought nothing new since the last call, less those that have.
    pub(crate) fn take_fruitless(&mut self, peer: PeerIndex) -> i64 {
        core::mem::take(&mut self.peers.received[peer.at()].fruitless)
    }
}
