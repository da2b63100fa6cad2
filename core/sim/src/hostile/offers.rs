//! What a hostile member has advertised, and how it answers those who ask for it.

use std::collections::VecDeque;

use super::bare::LineId;
use super::byzantine::Byzantine;
use super::frames;
use super::trick::Trick;
use slotcast::artifact::{Advert, Artifact, Hash, Proof};
use slotcast::id::ArtifactId;
use slotcast::time::Time;
use slotcast::wire::{Chunk, Refusal, Request, StreamHead};

/// Offers that are remembered: the latest. What was forgotten is refused.
const OFFERS_MAX: usize = 32;

/// How requests for an artifact are answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Manner {
    Honest,
    /// With a wrong chunk, once.
    Wrong,
    /// The same, if the last breach is long enough ago; else refused.
    WrongIfDue,
    Silent,
    Refuse,
    Busy,
    AllButLast,
    Drip,
    Crawl,
}

#[derive(Clone, Debug)]
enum Content {
    Whole(Artifact),
    /// Only what was said about it is known: another member's artifact, or a forged one.
    Claimed(Advert),
}

#[derive(Debug)]
struct Offer {
    id: ArtifactId,
    content: Content,
    manner: Manner,
    /// What is counted when it is asked for and not served at all.
    denied_by: Trick,
}

/// The latest offers.
#[derive(Debug, Default)]
pub(super) struct Offers(VecDeque<Offer>);

impl Offers {
    pub(super) fn insert(&mut self, artifact: Artifact, manner: Manner) {
        self.push(artifact.id(), Content::Whole(artifact), manner, Trick::AdvertNeverServe);
    }

    /// An artifact whose bytes are not known.
    pub(super) fn claim(&mut self, advert: Advert, manner: Manner) {
        self.claim_for(Trick::AdvertNeverServe, advert, manner);
    }

    /// The same; `denied_by` is counted when it is asked for and not served at all.
    pub(super) fn claim_for(&mut self, denied_by: Trick, advert: Advert, manner: Manner) {
        self.push(advert.id(), Content::Claimed(advert), manner, denied_by);
    }

    fn push(&mut self, id: ArtifactId, content: Content, manner: Manner, denied_by: Trick) {
        self.remove(&id);
        if self.0.len() == OFFERS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(Offer { id, content, manner, denied_by });
    }

    fn find(&self, id: &ArtifactId) -> Option<&Offer> {
        self.0.iter().find(|offer| offer.id == *id)
    }

    fn remove(&mut self, id: &ArtifactId) {
        self.0.retain(|offer| offer.id != *id);
    }
}

impl Byzantine {
    /// Answers a request, in the manner that was decided when it was provoked.
    pub(super) fn answer(&mut self, now: Time, line: LineId, request: &Request) {
        let Request::Fetch { request, id, ref ranges, .. } = *request else { return };
        let asked = ranges.iter().flat_map(|r| (r.first..r.first.saturating_add(r.count)).take(64));
        let asked: Vec<u32> = asked.collect();
        let Some(Offer { content, manner, denied_by, .. }) = self.offers.find(&id) else {
            return self.refuse(line, request, Refusal::NotHeld);
        };
        let (content, manner, denied_by) = (content.clone(), *manner, *denied_by);
        let whole = |artifact: &Artifact| {
            let chunks = asked.iter().copied().filter(|chunk| *chunk < artifact.advert().chunks());
            let chunks: Vec<_> = chunks.map(|chunk| frames::chunk(artifact, chunk)).collect();
            frames::stream(StreamHead::Chunks(request), &[&chunks.concat()])
        };
        match (manner, content) {
            (Manner::Honest, Content::Whole(artifact)) => drop(self.say(line, whole(&artifact))),
            (Manner::AllButLast, Content::Whole(artifact)) => {
                if self.all_but_last(now, line, whole(&artifact)) {
                    self.played(now, Trick::AckNeverFinish);
                }
            }
            (Manner::Drip, Content::Whole(artifact)) => {
                if self.drip(now, line, whole(&artifact)) {
                    self.played(now, Trick::OneBytePerSecond);
                }
            }
            (Manner::Crawl, Content::Whole(artifact)) => {
                let head = frames::stream(StreamHead::Chunks(request), &[]);
                if self.crawl(now, line, head, &artifact, &asked) {
                    self.played(now, Trick::CrawlingHolder);
                }
            }
            (Manner::WrongIfDue, _) if !self.may_breach(now) => {
                self.refuse(line, request, Refusal::NotHeld);
            }
            (Manner::Wrong | Manner::WrongIfDue, content) => {
                let bytes = match content {
                    Content::Whole(artifact) => self.wrong_chunks(&artifact, &asked),
                    Content::Claimed(advert) => self.made_up_chunk(&advert, asked[0]),
                };
                let bytes = frames::stream(StreamHead::Chunks(request), &[&bytes]);
                self.answer_wrongly(now, line, &id, bytes);
            }
            (Manner::Silent, _) => self.played(now, denied_by),
            (Manner::Busy, _) => {
                self.refuse(line, request, Refusal::Busy);
                self.played(now, denied_by);
            }
            (Manner::Refuse, _) => {
                let reason = self.random.below(1 << 62);
                let refusals = [Refusal::NotHeld, Refusal::Other(reason)];
                self.refuse(line, request, refusals[reason as usize % 2]);
                self.played(now, denied_by);
            }
            (
                Manner::Honest | Manner::AllButLast | Manner::Drip | Manner::Crawl,
                Content::Claimed(_),
            ) => {
                self.refuse(line, request, Refusal::NotHeld);
            }
        }
    }

    fn answer_wrongly(&mut self, now: Time, line: LineId, id: &ArtifactId, bytes: Vec<u8>) {
        if !self.say(line, bytes) {
            return;
        }
        // Once: who asks again would see a fault each time.
        self.offers.remove(id);
        match self.plays(Trick::WrongChunks) {
            true => self.played(now, Trick::WrongChunks),
            // What was forged cannot be served otherwise.
            false => self.pause_breaches(now),
        }
    }

    fn refuse(&mut self, line: LineId, request: u64, refusal: Refusal) {
        self.say(line, frames::requests(&[Request::Refuse { request, refusal }]));
    }

    /// A chunk that is not the artifact's, maybe behind one that is.
    pub(super) fn wrong_chunks(&mut self, artifact: &Artifact, asked: &[u32]) -> Vec<u8> {
        let chunks = artifact.advert().chunks();
        let mut frames = Vec::new();
        let mut index = asked[0].min(chunks - 1);
        if let Some(next) = asked.get(1).filter(|next| **next < chunks)
            && self.one_in(2)
        {
            frames.extend(frames::chunk(artifact, index));
            index = *next;
        }
        let (bytes, mut proof) = artifact.chunk(index);
        let mut bytes = bytes.to_vec();
        let way = self.random.below(5);
        match way {
            0 if !bytes.is_empty() => {
                let at = self.random.below(bytes.len() as u64) as usize;
                bytes[at] ^= 1 << self.random.below(8);
            }
            1 => bytes.push(7),
            2 => index += chunks + self.random.below(3) as u32,
            3 if !proof.is_empty() => drop(proof.pop()),
            _ => proof.push([self.random.bits() as u8; 32]).expect("a short proof"),
        }
        Chunk { index, proof, bytes: &bytes }.encode(&mut frames);
        frames
    }

    /// A chunk of the right length for an artifact whose bytes are not known.
    fn made_up_chunk(&mut self, advert: &Advert, first: u32) -> Vec<u8> {
        let index = first.min(advert.chunks() - 1);
        let bytes = vec![self.random.bits() as u8; advert.chunk_bytes(index)];
        let mut proof = Proof::new();
        for _ in 0..advert.chunks().next_power_of_two().ilog2() {
            let hash: Hash = [self.random.bits() as u8; 32];
            proof.push(hash).expect("a proof as long as it should be");
        }
        let mut frames = Vec::new();
        Chunk { index, proof, bytes: &bytes }.encode(&mut frames);
        frames
    }
}
