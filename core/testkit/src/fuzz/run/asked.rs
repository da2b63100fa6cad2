//! What the machine has asked a peer for, or takes of it unasked: the peer sends it, or does not.

use std::collections::VecDeque;

use super::{Run, STREAMED, TIGHT, channel_id, index};
use crate::fuzz::model::Step;
use crate::fuzz::pool::{self, Art};
use slotcast::broadcast::{ChunkTaken, RequestId};
use slotcast::config::Relay;
use slotcast::error::Fault;
use slotcast::id::Slot;
use slotcast::wire::{Chunk, Refusal, Request};

/// So many chunks that are here already are taken of a stream that comes unasked.
const REPEATED_MAX: u8 = 4;

/// A request of the machine that a peer may answer.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) channel: usize,
    pub(super) art: Art,
    /// The chunks still to come.
    pub(super) chunks: VecDeque<u32>,
    /// They come unasked, and may be asked for all the same.
    pub(super) is_open: bool,
    /// They belong to this node's stripe.
    pub(super) is_stripe: bool,
    /// Chunks of them that were here already when they came.
    pub(super) repeated: u8,
}

impl Asked {
    /// Chunks that are asked for with a request.
    pub(super) fn new(channel: usize, art: Art, chunks: impl IntoIterator<Item = u32>) -> Self {
        let chunks = chunks.into_iter().collect();
        Self { channel, art, chunks, is_open: false, is_stripe: false, repeated: 0 }
    }
}

impl Run {
    pub(super) fn ask(&mut self, peer: usize, request: u64, asked: Asked) {
        let model = &self.model[asked.channel];
        assert!(model.heard[peer].holds(asked.art), "only holders are asked");
        assert_eq!(model.known[&asked.art].step, Step::Wanted, "only what is wanted is asked for");
        let same = self.peers[peer].asked.values();
        let same = same.filter(|other| (other.channel, other.art) == (asked.channel, asked.art));
        let mut same = same.filter(|other| !other.is_open && !asked.is_open);
        let is_asked = |chunk: &u32| asked.chunks.contains(chunk);
        assert!(same.all(|other| !other.chunks.iter().any(is_asked)), "asked of a holder once");
        assert!(self.peers[peer].asked.insert(request, asked).is_none());
        assert!(self.peers[peer].asked.len() <= 3 * 2 + STREAMED, "invariant 8");
    }

    pub(super) fn nth_asked(&self, peer: usize, nth: usize) -> Option<(u64, Asked)> {
        let asked = &self.peers[peer].asked;
        asked.iter().nth(nth % asked.len().max(1)).map(|(request, asked)| (*request, asked.clone()))
    }

    /// A peer sends a chunk in the stream of what it was asked for, or sends unasked: the next one, or
    /// the one given. With a lie, a wrong one.
    pub(in crate::fuzz) fn chunk(
        &mut self,
        peer: usize,
        nth: usize,
        index_sent: Option<u32>,
        lie: u8,
    ) {
        let Some((request, asked)) = self.nth_asked(peer, nth) else { return };
        let key = (asked.channel, asked.art);
        let artifact = pool::artifact(asked.art);
        let count = artifact.advert().chunks();
        let next = index_sent.map_or(asked.chunks[0], |chunk| chunk % count);
        let (bytes, proof) = artifact.chunk(next);
        let mut wrong = bytes.to_vec();
        let mut chunk = Chunk { index: next, proof, bytes: &bytes };
        match lie {
            1 => chunk.index += count,
            2 => drop(chunk.proof.push([9; 32])),
            3 => {
                match wrong.first_mut() {
                    Some(first) => *first ^= 1,
                    None => wrong.push(1),
                }
                chunk.bytes = &wrong;
            }
            _ => {}
        }
        let is_lie = (1..=3).contains(&lie);
        let was_here = self.chunks.has_come(key, next);
        // Room may have been taken from what is here of it, and the model does not know.
        let is_known = asked.channel != TIGHT || !was_here;
        let id = RequestId(request);
        let taken = self.machine.handle_chunk(self.now, index(peer), id, &chunk);
        let is_expected = asked.chunks.contains(&chunk.index);
        match taken {
            Err(Fault::UnrequestedChunk) => assert!(!is_expected),
            Err(fault) => {
                assert_eq!(fault, Fault::WrongChunk);
                assert!(is_expected && is_lie && !(was_here && is_known));
            }
            // Of what is here already, nothing is looked at.
            Ok(_) => assert!(is_expected && (!is_lie || was_here)),
        }
        if taken.is_ok() {
            self.take_right_chunk(peer, (request, &asked), next, taken == Ok(ChunkTaken::More));
        } else {
            self.peers[peer].asked.remove(&request);
        }
        self.check();
        // What comes late is neither needed nor a fault.
        if !self.peers[peer].asked.contains_key(&request) {
            let late = self.machine.handle_chunk(self.now, index(peer), id, &chunk);
            assert_eq!(late, Ok(ChunkTaken::Done));
        }
    }

    /// The machine has taken a chunk, and says whether more of its stream is wanted.
    fn take_right_chunk(
        &mut self,
        peer: usize,
        (request, asked): (u64, &Asked),
        chunk: u32,
        goes_on: bool,
    ) {
        let key = (asked.channel, asked.art);
        let (id, count) =
            (pool::artifact(asked.art).id(), pool::artifact(asked.art).advert().chunks());
        let is_new = self.chunks.take(key, chunk);
        let mut asked = asked.clone();
        asked.chunks.retain(|expected| *expected != chunk);
        asked.repeated += u8::from(!is_new);
        let has_come = |chunk: &u32| self.chunks.has_come(key, *chunk);
        let is_complete = (0..count).all(|chunk| has_come(&chunk));
        let is_useless = match asked.is_open {
            true => asked.repeated >= REPEATED_MAX,
            false => !is_new && asked.chunks.iter().all(has_come),
        };
        if asked.channel != TIGHT {
            let is_over = is_complete || is_useless || asked.chunks.is_empty();
            assert_eq!(goes_on, !is_over);
            assert_eq!(self.machine.is_complete(channel_id(asked.channel), &id), is_complete);
        }
        let model = &mut self.model[asked.channel];
        if self.machine.is_complete(channel_id(asked.channel), &id) {
            assert!(is_complete, "invariant 6");
            model.ready(asked.art, self.peers[peer].node.expect("a member"));
            self.chunks.whole(key);
        }
        let mut slots = (0..model.config.slots_max).map(Slot);
        let is_told =
            slots.any(|slot| self.machine.own_slot(channel_id(asked.channel), slot) == Some(id));
        let passes_on = asked.is_stripe || !asked.is_open;
        if is_new && is_told && passes_on && model.config.relay == Relay::Automatic {
            self.chunks.pass_on(key, chunk, asked.is_stripe);
        }
        if goes_on {
            self.peers[peer].asked.insert(request, asked);
        } else {
            self.peers[peer].asked.remove(&request);
        }
    }

    /// A peer ends an answer early, or refuses.
    pub(in crate::fuzz) fn fail(&mut self, peer: usize, nth: usize, refuse: bool) {
        let Some((request, _)) = self.nth_asked(peer, nth) else { return };
        self.peers[peer].asked.remove(&request);
        if refuse {
            let refuse = Request::Refuse { request, refusal: Refusal::NotHeld };
            self.machine.handle_request(self.now, index(peer), &refuse).expect("no fault");
        } else {
            self.machine.handle_answer_end(self.now, index(peer), RequestId(request));
        }
        self.check();
    }
}
