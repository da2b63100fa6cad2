//! A wanted artifact: what is held of it, what has been asked for, and by whom it is offered.

use alloc::boxed::Box;
use alloc::vec::Vec;
use bytes::Bytes;
use core::time::Duration;

use super::backlog::{Rank, Ranked};
use super::chunk_set::ChunkSet;
use super::offer::TransferChain;
use super::queue::Segment;
use super::spreading::Spreading;
use crate::arena::{Chain, Links, List};
use crate::artifact::{Advert, Artifact, Hash, PartialTree, Proof};
use crate::id::{ArtifactId, PeerIndex};
use crate::time::Time;

/// Bytes that have to come within `fetch_timeout` for an artifact to be making progress, unless a chunk
/// comes whole.
const PROGRESS_BYTES_MIN: u64 = 2 << 10;

/// Losses beyond this one do not double the time given any more: with the default timeout, that is
/// 36 hours.
const LOSSES_MAX: u8 = 16;

/// How far an artifact is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// Nobody can be asked for it at present.
    Unavailable,
    /// Waits for room in its channel.
    Waiting,
    /// Room has been taken for it.
    Begun,
}

/// The chunks that are here, and what proves them.
#[derive(Debug)]
pub(super) struct Held {
    chunks: Vec<Bytes>,
    tree: PartialTree,
    pub(super) bytes: u64,
}

impl Held {
    pub(super) fn new(advert: &Advert) -> Self {
        let chunks = alloc::vec![Bytes::new(); advert.chunks() as usize];
        Self { chunks, tree: PartialTree::new(advert), bytes: 0 }
    }

    fn take(&mut self, index: u32, proof: &[Hash], chunk: &[u8]) -> bool {
        let is_right = self.tree.check(index, proof, chunk);
        if is_right {
            self.chunks[index as usize] = Bytes::copy_from_slice(chunk);
            self.bytes += chunk.len() as u64;
        }
        is_right
    }

    /// A chunk that is here, and what proves it.
    pub(super) fn chunk(&self, index: u32) -> (Bytes, Proof) {
        (self.chunks[index as usize].clone(), self.tree.proof(index))
    }

    /// The artifact, all chunks of which are here.
    fn into_artifact(mut self, id: ArtifactId, advert: Advert) -> Artifact {
        let bytes = match &mut self.chunks[..] {
            [only] => core::mem::take(only),
            chunks => {
                let mut bytes = Vec::with_capacity(advert.length as usize);
                for chunk in chunks {
                    // Each is freed at once, so that the memory is not needed twice.
                    bytes.extend_from_slice(&core::mem::take(chunk));
                }
                bytes.into()
            }
        };
        Artifact::of_checked_chunks(id, advert, bytes, self.tree)
    }
}

/// See the module's head.
#[derive(Debug)]
pub(super) struct Wanted {
    /// What the caller calls it.
    pub(super) known: u32,
    pub(super) channel: u16,
    pub(super) class: usize,
    pub(super) priority: usize,
    pub(super) rank: Option<Rank>,
    pub(super) advert: Advert,
    pub(super) stage: Stage,
    pub(super) offers: List<TransferChain>,
    /// The number of these.
    pub(super) offered: u16,
    /// While [`Stage::Begun`].
    pub(super) held: Option<Box<Held>>,
    pub(super) have: ChunkSet,
    /// The chunks that somebody was asked for and that are still expected in time, and those that are
    /// here.
    pub(super) asked: ChunkSet,
    /// Chunks that are not in this set.
    pub(super) unasked: u32,
    /// Chunks that are missing.
    pub(super) missing: u32,
    /// Requests under way.
    pub(super) live: u16,
    /// The member in whose name room was taken.
    pub(super) answerable: Option<PeerIndex>,
    /// Since when it waits to be asked for; `None` until the time is told.
    pub(super) wanted_at: Option<Time>,
    /// When it made progress last, or room was taken.
    pub(super) progress_at: Time,
    /// When the first byte came of what is here.
    pub(super) first_byte_at: Option<Time>,
    /// Bytes that have come since.
    progress_bytes: u64,
    /// How often it has lost its room. Progress does not reset this: on a path that pauses longer than
    /// the timeout, two artifacts would take the room of one from each other for ever.
    pub(super) losses: u8,
    /// Others are told of the chunks that are here.
    pub(super) is_passed_on: bool,
    /// Others were to be told of them.
    pub(super) was_told: bool,
    /// While its chunks are expected unasked.
    pub(super) spreading: Option<Spreading>,
    /// The first chunk that has come of this node's stripe.
    pub(super) stripe: Option<u32>,
    /// Chunks of others' stripes that are being repaired, or have been.
    pub(super) lost: ChunkSet,
    room_links: Links,
}

impl Wanted {
    pub(super) fn new(
        known: u32,
        channel: u16,
        (class, priority, rank): (usize, usize, Option<Rank>),
        advert: Advert,
    ) -> Self {
        Self {
            known,
            channel,
            class,
            priority,
            rank,
            advert,
            stage: Stage::Unavailable,
            offers: List::default(),
            offered: 0,
            held: None,
            have: ChunkSet::default(),
            asked: ChunkSet::default(),
            unasked: 0,
            missing: 0,
            live: 0,
            answerable: None,
            wanted_at: None,
            progress_at: Time::ZERO,
            first_byte_at: None,
            progress_bytes: 0,
            losses: 0,
            is_passed_on: false,
            was_told: false,
            spreading: None,
            stripe: None,
            lost: ChunkSet::default(),
            room_links: Links::UNLINKED,
        }
    }

    /// Room has been taken in the name of a member.
    pub(super) fn begin(&mut self, now: Time, answerable: PeerIndex) {
        let chunks = self.advert.chunks();
        self.have.reset(chunks);
        self.asked.reset(chunks);
        self.lost.reset(chunks);
        (self.unasked, self.missing) = (chunks, chunks);
        self.held = Some(Box::new(Held::new(&self.advert)));
        self.answerable = Some(answerable);
        self.note_progress(now);
        self.stage = Stage::Begun;
    }

    /// Nothing is here any more.
    pub(super) fn forget(&mut self) {
        self.held = None;
        self.have.reset(self.advert.chunks());
        (self.missing, self.stripe) = (self.advert.chunks(), None);
        self.first_byte_at = None;
    }

    /// The artifact, all chunks of which are here.
    pub(super) fn into_artifact(self, id: ArtifactId) -> Artifact {
        self.held.expect("begun").into_artifact(id, self.advert)
    }

    /// Where offers of it stand in the queues of their holders.
    pub(super) fn segment(&self) -> Segment {
        let chunks = self.advert.chunks();
        match self.live == 0 && self.missing == chunks {
            true => Segment::Fresh,
            false => Segment::begun(self.left()),
        }
    }

    /// Bytes that are left to be asked for, give or take a chunk.
    pub(super) fn left(&self) -> u64 {
        u64::from(self.unasked) * self.advert.chunk_size() as u64
    }

    /// A chunk is asked for.
    pub(super) fn note_asked(&mut self, chunk: u32) {
        debug_assert!(!self.have.contains(chunk) && !self.asked.contains(chunk));
        self.asked.insert(chunk);
        self.unasked -= 1;
    }

    /// Chunks are not expected in time any more, or not at all.
    pub(super) fn note_unasked(&mut self, chunks: &ChunkSet) {
        for chunk in chunks.iter() {
            if self.asked.contains(chunk) && !self.have.contains(chunk) {
                self.asked.remove(chunk);
                self.unasked += 1;
            }
        }
    }

    /// Takes a chunk that is missing, if it is what it is said to be.
    pub(super) fn take(&mut self, now: Time, index: u32, proof: &[Hash], chunk: &[u8]) -> bool {
        let held = self.held.as_mut().expect("begun");
        let is_right = held.take(index, proof, chunk);
        if is_right {
            if !self.asked.contains(index) {
                self.asked.insert(index);
                self.unasked -= 1;
            }
            self.have.insert(index);
            self.missing -= 1;
            self.first_byte_at.get_or_insert(now);
            self.note_progress(now);
        }
        is_right
    }

    fn note_progress(&mut self, now: Time) {
        (self.progress_at, self.progress_bytes) = (now, 0);
    }

    /// Bytes of a chunk have come. Whether that is progress.
    pub(super) fn note_partial(&mut self, now: Time, bytes: u64) -> bool {
        self.progress_bytes += bytes;
        if bytes > 0 {
            self.first_byte_at.get_or_insert(now);
        }
        let is_progress = self.progress_bytes >= PROGRESS_BYTES_MIN;
        if is_progress {
            self.note_progress(now);
        }
        is_progress
    }

    /// From then on, it counts as making no progress. One that loses its room again and again is given
    /// ever more time: its holder may be just late.
    pub(super) fn stalls_at(&self, timeout: Duration) -> Time {
        self.progress_at + timeout.saturating_mul(1 << self.losses.min(LOSSES_MAX))
    }
}

impl Ranked for Wanted {
    fn rank(&self) -> Option<Rank> {
        self.rank
    }
}

/// The list of a channel's artifacts that wait for room, or have it.
#[derive(Debug)]
pub(super) struct RoomChain;

impl Chain<Wanted> for RoomChain {
    fn links(wanted: &mut Wanted) -> &mut Links {
        &mut wanted.room_links
    }
}
