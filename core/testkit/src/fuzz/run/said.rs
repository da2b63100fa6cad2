//! What a peer says of its slots.

use core::ops::Range;

use super::asked::Asked;
use super::{Run, TIGHT, channel_id, index, through_wire};
use crate::fuzz::model::Content;
use crate::fuzz::pool::{self, ARTS, Art};
use slotcast::broadcast::{RequestId, Taken};
use slotcast::error::Fault;
use slotcast::id::{Slot, Version};
use slotcast::wire::{ChunkBits, LiveSlots, Malformed, StreamHead, Update};

/// What a peer says of an artifact beside its slot and version.
#[derive(Clone, Copy, Debug)]
pub(in crate::fuzz) struct Told<'a> {
    pub(in crate::fuzz) art: Art,
    pub(in crate::fuzz) hops: u8,
    pub(in crate::fuzz) streamed: bool,
    pub(in crate::fuzz) spread: bool,
    /// The set of chunks that it has, as on the wire, if not all.
    pub(in crate::fuzz) have: Option<&'a [u8]>,
}

/// Whether bits are the one encoding of a set of some of so many chunks.
fn is_set_of(ChunkBits(bits): ChunkBits<'_>, chunks: u32) -> bool {
    bits.last() != Some(&0) && ChunkBits(bits).iter().all(|chunk| chunk < chunks)
}

fn assert_malformed(update: &Update<'_>) {
    let mut bytes = Vec::new();
    update.encode(&mut bytes);
    // Kind and length of the frame: one byte each, the length two above 63.
    let start = if bytes[1] < 64 { 2 } else { 3 };
    let decoded = Update::decode(bytes[0].into(), &bytes[start..]);
    assert_eq!(decoded, Err(Malformed::OutOfRange));
}

impl Run {
    fn model_update(
        &mut self,
        (peer, channel, slot): (usize, usize, u32),
        version: u64,
        content: Option<Content>,
    ) {
        let decide = self.decide(channel);
        self.model[channel].update(peer, slot, version, content, decide);
        self.note_had(peer);
    }

    /// Remembers which chunks a peer has told of.
    pub(super) fn note_had(&mut self, peer: usize) {
        for (channel, model) in self.model.iter().enumerate() {
            for art in (0..ARTS).filter(|art| model.heard[peer].holds(*art)) {
                let had = self.peers[peer].had.entry((channel, art)).or_default();
                let chunks = 0..pool::artifact(art).advert().chunks();
                had.extend(chunks.filter(|chunk| model.heard[peer].has_chunk(art, *chunk)));
            }
        }
    }

    pub(in crate::fuzz) fn clear(&mut self, peer: usize, channel: usize, slot: u32, version: u64) {
        if !self.peers[peer].up || version == 0 {
            return;
        }
        let update = Update::Clear { slot: Slot(slot), version: Version(version) };
        let taken = self.update(peer, channel, &update);
        if slot >= self.model[channel].config.slots_max {
            assert_eq!(taken, Err(Fault::SlotBeyondBound));
        } else {
            assert_eq!(taken, Ok(Taken::Done));
            self.model_update((peer, channel, slot), version, None);
        }
        self.check();
    }

    pub(in crate::fuzz) fn push(
        &mut self,
        (peer, channel, slot): (usize, usize, u32),
        version: u64,
        art: Art,
        hops: u8,
    ) {
        if !self.peers[peer].up || version == 0 {
            return;
        }
        let (artifact, config) = (pool::artifact(art), &self.model[channel].config);
        let is_too_long = artifact.bytes().len() > config.push_bytes_max as usize;
        let is_beyond = slot >= config.slots_max;
        let is_too_far = hops > config.relay_hops_max;
        let is_twice = self.model[channel].is_in_two_slots(peer, slot, version, art);
        let (slot_id, version_id) = (Slot(slot), Version(version));
        let (key, metadata) = (artifact.key(), artifact.metadata());
        let bytes = artifact.bytes();
        let push = Update::Push { slot: slot_id, version: version_id, hops, key, metadata, bytes };
        match self.update(peer, channel, &push) {
            Ok(taken) => {
                assert_eq!(taken, Taken::Done);
                assert!(!is_too_long && !is_too_far && !is_beyond && !is_twice);
                let pushed = self.peers[peer].node.filter(|_| channel != TIGHT);
                let content = Content { art, hops, have: None, pushed };
                self.model_update((peer, channel, slot), version, Some(content));
            }
            Err(Fault::PushTooLong) => assert!(is_too_long),
            Err(Fault::HopsBeyondBound) => assert!(is_too_far),
            Err(Fault::ArtifactInTwoSlots) => assert!(is_twice),
            Err(fault) => assert_eq!((fault, is_beyond), (Fault::SlotBeyondBound, true)),
        }
        if channel == TIGHT {
            self.take_events(TIGHT, usize::MAX, Some(art));
        }
        self.check();
    }

    pub(in crate::fuzz) fn told(
        &mut self,
        (peer, channel, slot): (usize, usize, u32),
        version: u64,
        told: Told<'_>,
    ) -> Option<RequestId> {
        if !self.peers[peer].up || version == 0 {
            return None;
        }
        let mut taken_as = None;
        let Told { art, hops, streamed, spread, have } = told;
        let (advert, config) = (pool::artifact(art).advert(), &self.model[channel].config);
        let rules = [
            (Fault::ArtifactTooLong, advert.length > config.artifact_bytes_max),
            (Fault::HopsBeyondBound, hops > config.relay_hops_max),
            (Fault::SlotBeyondBound, slot >= config.slots_max),
            (
                Fault::ArtifactInTwoSlots,
                self.model[channel].is_in_two_slots(peer, slot, version, art),
            ),
        ];
        let (chunks, have) = (advert.chunks(), have.map(ChunkBits));
        let (slot_id, version_id) = (Slot(slot), Version(version));
        let update = match have {
            Some(have) => Update::Partial {
                slot: slot_id,
                version: version_id,
                hops,
                streamed,
                spread,
                advert,
                have,
            },
            None => Update::Advert {
                slot: slot_id,
                version: version_id,
                hops,
                streamed,
                spread,
                advert,
            },
        };
        if have.is_some_and(|have| !is_set_of(have, chunks)) {
            assert_malformed(&update);
            return None;
        }
        match self.update(peer, channel, &update) {
            Ok(taken) => {
                assert!(rules.iter().all(|(_, is_broken)| !is_broken));
                let is_news = self.model[channel].version(peer, slot) < version;
                let is_open = spread || hops > 0 || have.is_some();
                let have = have.map(|have| have.iter().collect());
                let content = Content { art, hops, have, pushed: None };
                self.model_update((peer, channel, slot), version, Some(content));
                match taken {
                    Taken::Done => assert!(!streamed),
                    Taken::Unwanted => assert!(streamed),
                    Taken::Chunks(request) => {
                        assert!(streamed && is_news);
                        taken_as = Some(request);
                        let asked = Asked::new(channel, art, 0..chunks);
                        let asked = Asked { is_open, is_stripe: spread, ..asked };
                        self.ask(peer, request.0, asked);
                    }
                }
            }
            Err(fault) => assert!(rules.contains(&(fault, true)), "{fault}"),
        }
        self.check();
        taken_as
    }

    /// An honest peer tells of an artifact in a slot's next version and sends chunks behind that, as far
    /// as they are wanted; then maybe the end of the stream.
    pub(in crate::fuzz) fn stream(
        &mut self,
        at: (usize, usize, u32),
        told: Told<'_>,
        chunks: Range<u32>,
        is_ended: bool,
    ) {
        let (peer, channel, slot) = at;
        // Behind the last version there is none.
        let version = (self.model[channel].version(peer, slot) + 1).min((1 << 62) - 1);
        let Some(RequestId(request)) = self.told(at, version, told) else { return };
        let nth = |run: &Self| run.peers[peer].asked.keys().position(|asked| *asked == request);
        for chunk in chunks {
            let Some(nth) = nth(self) else { return };
            self.chunk(peer, nth, Some(chunk), 0);
        }
        if let Some(nth) = nth(self).filter(|_| is_ended) {
            self.fail(peer, nth, false);
        }
    }

    pub(in crate::fuzz) fn snapshot(&mut self, peer: usize, channel: usize, bits: &[u8]) {
        if !self.peers[peer].up {
            return;
        }
        let (live, model) = (LiveSlots(bits), &mut self.model[channel]);
        let is_beyond = live.iter().any(|slot| slot.0 >= model.config.slots_max);
        let is_repeated = model.has_snapshot(peer);
        let taken = self.update(peer, channel, &Update::Snapshot { version: Version(9), live });
        match taken {
            Ok(taken) => {
                assert_eq!((taken, is_beyond, is_repeated), (Taken::Done, false, false));
                self.model[channel].snapshot(peer, live.iter().map(|slot| slot.0));
            }
            Err(Fault::SlotBeyondBound) => assert!(is_beyond),
            Err(fault) => assert_eq!((fault, is_repeated), (Fault::SnapshotRepeated, true)),
        }
        self.check();
    }

    /// Hands an update to the machine, through the wire.
    fn update(&mut self, peer: usize, channel: usize, update: &Update<'_>) -> Result<Taken, Fault> {
        let id = channel_id(channel);
        through_wire(
            &StreamHead::Updates(id),
            |bytes| update.encode(bytes),
            |kind, body| {
                let decoded = Update::decode(kind, body).expect("well-formed").expect("known");
                assert_eq!(decoded, *update);
                self.machine.handle_update(self.now, index(peer), id, &decoded)
            },
        )
    }
}
