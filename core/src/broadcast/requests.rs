//! Requests for chunks: those of peers, which are served, and what comes in answer to those of this node or unasked.

use core::time::Duration;

use super::Broadcast;
use crate::error::Fault;
use crate::id::{ArtifactId, ChannelId, PeerIndex};
use crate::time::Time;
use crate::wire::{Chunk, ChunkRange, Ranges, Refusal, Request};

/// Names a fetch request between two nodes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RequestId(pub u64);

/// What became of a chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChunkTaken {
    /// More are to come.
    More,
    /// The request is answered, or has been given up: stop the stream if it goes on.
    Done,
}

impl Broadcast {
    /// A peer's request for chunks, cancellation, refusal of a request of ours, or receipt.
    ///
    /// # Errors
    /// None at present: requests that make no sense (any more) are refused or ignored, since
    /// messages may overtake each other.
    pub fn handle_request(
        &mut self,
        now: Time,
        peer: PeerIndex,
        request: &Request,
    ) -> Result<(), Fault> {
        let now = self.clamp(now);
        match request {
            Request::Fetch { request, channel, id, ranges } => {
                self.serve(peer, *request, (*channel, id), ranges);
            }
            Request::Cancel { request } => {
                self.sender.cancel(peer, *request, &mut self.outboxes, &mut self.outputs);
            }
            Request::Refuse { request, .. } => {
                self.inbox.transfers.handle_end(now, peer, RequestId(*request));
            }
            Request::Unknown { request, .. } => {
                self.sender.refuse(peer, *request, Refusal::UnknownRequest);
            }
            Request::Receipt { channel, slot, version, is_declined } => {
                if let Some(channel_index) = self.channel_index(*channel) {
                    let outbox = &mut self.outboxes[channel_index as usize];
                    outbox.note_receipt(peer, *slot, *version, *is_declined);
                    self.note_covered(channel_index);
                }
            }
        }
        Ok(())
    }

    /// Answers a request for chunks, if they are here.
    fn serve(
        &mut self,
        peer: PeerIndex,
        request: u64,
        (channel, id): (ChannelId, &ArtifactId),
        ranges: &Ranges,
    ) {
        let slot = self.channel_index(channel).and_then(|channel_index| {
            let outbox = &self.outboxes[channel_index as usize];
            let slot = outbox.slot_of(id)?;
            let body = &outbox.active(slot).filter(|active| !active.is_dormant())?.body;
            let chunks = body.chunks();
            let is_here = |range: &ChunkRange| match body.transfer() {
                Some(transfer) => self.inbox.transfers.has_all(transfer, *range),
                None => true,
            };
            let is_held = |range: &ChunkRange| range.is_within(chunks) && is_here(range);
            ranges.iter().all(is_held).then_some((channel_index, slot))
        });
        let Some((channel_index, slot)) = slot else {
            return self.sender.refuse(peer, request, Refusal::NotHeld);
        };
        let outbox = &mut self.outboxes[channel_index as usize];
        outbox.note_asked(peer, slot);
        let active = outbox.active_mut(slot).expect("by id");
        self.sender.serve(peer, request, (channel_index, slot), active, ranges.clone());
    }

    /// Whether the answer to a request is still needed; if not, its stream is to be stopped.
    pub fn is_awaited(&mut self, peer: PeerIndex, request: RequestId) -> bool {
        self.inbox.transfers.is_under_way(peer, request)
    }

    /// Bytes in the longest chunk of the answer to a request, if it is still needed.
    pub fn chunk_bytes_max(&self, peer: PeerIndex, request: RequestId) -> Option<usize> {
        self.inbox.transfers.chunk_bytes_max(peer, request)
    }

    /// The channel of a request, if its answer is still needed.
    #[cfg(feature = "quic")]
    pub(crate) fn channel_of(&self, peer: PeerIndex, request: RequestId) -> Option<ChannelId> {
        let channel_index = self.inbox.transfers.channel_of(peer, request)?;
        Some(self.channels[channel_index as usize].id)
    }

    /// A chunk, in the answer to a request or behind a streamed advert.
    ///
    /// # Errors
    /// If the chunk is not the artifact's. The artifact is fetched from another holder then.
    pub fn handle_chunk(
        &mut self,
        now: Time,
        peer: PeerIndex,
        request: RequestId,
        chunk: &Chunk<'_>,
    ) -> Result<ChunkTaken, Fault> {
        let now = self.clamp(now);
        let received = self.inbox.handle_chunk(now, &self.peers, peer, request, chunk)?;
        let counts = &mut self.peers.received[peer.at()];
        let count = match &received {
            None => &mut counts.aborted,
            Some(received) if received.is_new => &mut counts.useful,
            Some(_) => &mut counts.duplicate,
        };
        *count += chunk.bytes.len() as u64;
        counts.note_piece(received.as_ref().is_some_and(|received| received.is_new));
        let Some(received) = received else { return Ok(ChunkTaken::Done) };
        if received.is_new {
            self.pass_on(chunk.index, &received);
        }
        Ok(if received.is_answered { ChunkTaken::Done } else { ChunkTaken::More })
    }

    /// The round trip on the connection to a peer, which says when chunks are late.
    pub fn handle_round_trip(&mut self, now: Time, peer: PeerIndex, round_trip: Duration) {
        let now = self.clamp(now);
        self.inbox.transfers.note_round_trip(now, peer, round_trip);
    }

    /// This many bytes of the next chunk have arrived, in the answer to a request or behind a
    /// streamed advert. This distinguishes a slow holder from a silent one.
    pub fn handle_partial_chunk(
        &mut self,
        now: Time,
        peer: PeerIndex,
        request: RequestId,
        bytes: usize,
    ) {
        let now = self.clamp(now);
        self.inbox.transfers.handle_partial(now, peer, request, bytes);
    }

    /// The stream with the answer to a request has ended or was reset. Without effect if the answer
    /// was complete.
    pub fn handle_answer_end(&mut self, now: Time, peer: PeerIndex, request: RequestId) {
        let now = self.clamp(now);
        self.inbox.transfers.handle_end(now, peer, request);
    }
}
