//! What a peer asks this node for.

use super::{Run, channel_id, index, through_wire};
use crate::fuzz::pool::{self, Art};
use slotcast::wire::{Ranges, Request, StreamHead};

/// What a peer has asked this node for.
pub(super) struct Want {
    pub(super) channel: usize,
    pub(super) art: Art,
    /// In the order in which they are to be sent.
    pub(super) chunks: Vec<u32>,
    /// They were here when they were asked for, and the slot has not been cleared since.
    pub(super) is_held: bool,
}

impl Run {
    pub(in crate::fuzz) fn fetch(&mut self, peer: usize, channel: usize, art: Art, ranges: Ranges) {
        if !self.peers[peer].up {
            return;
        }
        self.count += 1;
        let (request, artifact) = (self.count, pool::artifact(art));
        let (id, count) = (artifact.id(), artifact.advert().chunks());
        let is_within = ranges.iter().all(|range| range.is_within(count));
        let chunks = ranges.iter().flat_map(|range| range.first..range.first + range.count);
        let chunks: Vec<u32> = chunks.collect();
        let is_here = |chunk: &u32| self.chunks.is_here((channel, art), *chunk);
        let is_active = self.model[channel].own_slot(art).is_some();
        let is_held = is_active && is_within && chunks.iter().all(is_here);
        self.peers[peer].wants.insert(request, Want { channel, art, chunks, is_held });
        let fetch = Request::Fetch { request, channel: channel_id(channel), id, ranges };
        through_wire(
            &StreamHead::Requests,
            |bytes| fetch.encode(bytes),
            |kind, body| {
                let decoded = Request::decode(kind, body).expect("well-formed").expect("known");
                assert_eq!(decoded, fetch);
                self.machine.handle_request(self.now, index(peer), &decoded).expect("no fault");
            },
        );
        self.check();
    }

    pub(in crate::fuzz) fn cancel(&mut self, peer: usize, nth: usize) {
        let wants = &self.peers[peer].wants;
        let Some(request) = wants.keys().nth(nth % wants.len().max(1)).copied() else { return };
        let cancel = Request::Cancel { request };
        self.machine.handle_request(self.now, index(peer), &cancel).expect("no fault");
        self.check();
    }
}
