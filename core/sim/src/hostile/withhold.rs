//! Tricks with parts of artifacts: sets of chunks that are not there, and stripes that are not given or
//! not passed on.

use std::time::Duration;

use bytes::Bytes;

use super::byzantine::Byzantine;
use super::frames;
use super::heard::Stripe;
use super::offers::Manner;
use super::trick::Trick;
use slotcast::artifact::{Advert, CHUNKS_PREFERRED_MAX, Metadata, SINGLE_CHUNK_BYTES_MAX};
use slotcast::id::NodeId;
use slotcast::time::Time;

/// Bytes of the longest artifact with stripes.
const SPREAD_BYTES_MAX: u64 = 6 * SINGLE_CHUNK_BYTES_MAX as u64;

/// Pieces of a chunk that is passed on slowly, and the pause between two: the rate is what a slow path
/// might have.
const PIECES: usize = 8;
const PIECE_PAUSE: Duration = Duration::from_millis(350);

impl Byzantine {
    fn denial(&mut self) -> Manner {
        [Manner::Silent, Manner::Refuse, Manner::Busy][self.random.below(3) as usize]
    }

    /// Some chunks of so many: all, one, each with a chance of a half, or none.
    fn any_chunks(&mut self, chunks: u32) -> Vec<u32> {
        match self.random.below(8) {
            0 => Vec::new(),
            1 => vec![self.random.below(chunks.into()) as u32],
            2 | 3 => (0..chunks).filter(|_| self.one_in(2)).collect(),
            _ => (0..chunks).collect(),
        }
    }

    /// Tells of parts of an artifact, of which it has nothing: of another member's, or if
    /// `may_invent` maybe of one that there is not. False: it is counted when somebody asks for them.
    pub(super) fn claim_parts(&mut self, now: Time, may_invent: bool) -> bool {
        let heard = match may_invent && self.one_in(2) {
            true => None,
            false => self.any_heard(),
        };
        let heard = heard.and_then(|heard| Some((self.place_of(heard.channel)?, heard)));
        let (channel, advert, publisher) = match heard {
            Some((channel, heard)) => (channel, heard.advert, Some(heard.from)),
            None if may_invent => {
                let channel = self.any_channel();
                (channel, self.invented(channel), None)
            }
            None => return false,
        };
        if advert.chunks() > CHUNKS_PREFERRED_MAX {
            return false;
        }
        let manner = self.denial();
        self.offers.claim_for(Trick::FalsePartial, advert.clone(), manner);
        let (slot, hops) = (self.any_slot(channel), self.hops(channel));
        let flags = (self.one_in(4), self.one_in(4));
        let until = now + self.span(1_000, 10_000);
        // Then other chunks than those that it told of first.
        for _ in 0..=self.random.below(2) {
            let version = self.next_version(channel);
            let have = self.any_chunks(advert.chunks());
            let told = frames::partial(slot, version, hops, flags, &advert, have);
            let bytes = frames::updates(self.channel(channel), &[&told]);
            for line in self.greeted() {
                if Some(self.talk(line).node) == publisher {
                    continue;
                }
                match flags.0 {
                    true => self.hold(until, line, bytes.clone()),
                    false => self.say(line, bytes.clone()),
                };
            }
        }
        false
    }

    /// What is said of an artifact that there is not, of any length that can be told of in parts.
    fn invented(&mut self, channel: usize) -> Advert {
        let longest = self.channels[channel].artifact_bytes_max.min(u64::from(u32::MAX) >> 4);
        let length = match self.one_in(2) {
            true => longest,
            false => self.random.below(longest + 1),
        };
        let root = core::array::from_fn(|_| self.random.bits() as u8);
        Advert { length, key: None, publisher: None, metadata: Metadata::new(), root }
    }

    /// Publishes an artifact of several chunks as if it spread it, and keeps back stripes or members'
    /// knowledge of it. What is asked for it serves, or not.
    pub(super) fn withhold_stripes(&mut self, now: Time) -> bool {
        let channel = self.any_channel();
        let (shortest, longest) = (
            SINGLE_CHUNK_BYTES_MAX as u64 + 1,
            self.channels[channel].artifact_bytes_max.min(SPREAD_BYTES_MAX),
        );
        let lines = self.greeted();
        if longest < shortest || lines.is_empty() {
            return false;
        }
        let length = shortest + self.random.below(longest - shortest + 1);
        let artifact = self.fresh_of(length);
        let (slot, version) = (self.any_slot(channel), self.next_version(channel));
        let manner = if self.one_in(2) { Manner::Honest } else { self.denial() };
        self.offers.insert(artifact.clone(), manner);
        let (way, until) = (self.random.below(4), now + self.span(1_000, 10_000));
        let (chunks, count) = (artifact.advert().chunks(), lines.len() as u32);
        let mut said = false;
        for (place, line) in (0..count).zip(lines) {
            let is_left_out = self.one_in(2);
            let place = if way == 0 { 0 } else { place };
            let mut stripe = chunks * place / count..chunks * (place + 1) / count;
            match way {
                1 if is_left_out => stripe = 0..0,
                2 if is_left_out => continue,
                _ => {}
            }
            let is_streamed = !stripe.is_empty();
            let told = frames::spread_advert(slot, version, is_streamed, &artifact.advert());
            let stripe: Vec<_> = stripe.map(|chunk| frames::chunk(&artifact, chunk)).collect();
            let mut bytes = frames::updates(self.channel(channel), &[&told, &stripe.concat()]);
            said |= match way {
                3 if is_streamed => {
                    bytes.truncate(bytes.len() - stripe.concat().len() / 2);
                    self.hold(until, line, bytes)
                }
                _ => self.say(line, bytes),
            };
        }
        said
    }

    /// A publisher has given it a stripe. It passes nothing on, with or without saying so, or does it
    /// slowly.
    pub(super) fn withhold_relay(&mut self, now: Time, publisher: NodeId, stripe: &Stripe) {
        self.played(now, Trick::WithholdRelay);
        let Stripe { channel, advert, chunk, frame } = stripe;
        let Some(channel) = self.place_of(*channel) else { return };
        if advert.chunks() > CHUNKS_PREFERRED_MAX || self.one_in(3) {
            return;
        }
        let (crawls, until) = (self.one_in(2), now + self.span(1_000, 10_000));
        let (slot, version) = (self.any_slot(channel), self.next_version(channel));
        let manner = self.denial();
        self.offers.claim_for(Trick::WithholdRelay, advert.clone(), manner);
        let hops = u8::from(self.channels[channel].relay_hops_max > 0);
        let told = frames::partial(slot, version, hops, (true, false), advert, [*chunk]);
        let bytes = frames::updates(self.channel(channel), &[&told]);
        for line in self.greeted() {
            if self.talk(line).node == publisher {
                continue;
            }
            if crawls {
                let pieces = (0..PIECES).map(|at| {
                    let start = |at: usize| frame.len() * at / PIECES;
                    frame.slice(start(at)..start(at + 1))
                });
                let mut rest: Vec<Bytes> = pieces.rev().collect();
                rest.push(bytes.clone().into());
                self.write_slowly(now, line, rest, true, PIECE_PAUSE);
            } else {
                self.hold(until, line, bytes.clone());
            }
        }
    }
}
