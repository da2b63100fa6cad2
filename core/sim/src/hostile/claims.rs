//! Tricks with artifacts that a hostile member advertises: those of others, which it claims to hold
//! or forges, and its own, which it does not serve as it should.

use super::bare::LineId;
use super::byzantine::Byzantine;
use super::frames;
use super::heard::{Heard, LESSON_BYTES_MAX};
use super::offers::Manner;
use super::trick::Trick;
use slotcast::artifact::{Advert, METADATA_BYTES_MAX, Metadata};
use slotcast::config::Relay;
use slotcast::id::{ChannelId, NodeId};
use slotcast::time::Time;
use slotcast::wire::Request;

impl Byzantine {
    /// The place of a channel, if there is one.
    pub(super) fn place_of(&self, channel: ChannelId) -> Option<usize> {
        self.channels.iter().position(|config| config.id == channel)
    }

    /// Something that it has heard of.
    pub(super) fn any_heard(&mut self) -> Option<Heard> {
        let count = self.pool.len() as u64;
        let at = self.random.below(count) as usize;
        (count > 0).then(|| self.pool.at(at).clone())
    }

    /// As the publisher, or as a relay where there are such.
    pub(super) fn hops(&mut self, channel: usize) -> u8 {
        let config = &self.channels[channel];
        let hops_max = if config.relay == Relay::Off { 0 } else { config.relay_hops_max };
        self.random.below(u64::from(hops_max) + 1) as u8
    }

    /// An advert to all but those who know better.
    fn advertise(&mut self, channel: usize, advert: &Advert, but: Option<NodeId>) -> bool {
        let (slot, version) = (self.any_slot(channel), self.next_version(channel));
        let hops = self.hops(channel);
        let told = frames::advert(slot, version, hops, false, advert);
        let bytes = frames::updates(self.channel(channel), &[&told]);
        let mut said = false;
        for line in self.greeted() {
            if Some(self.talk(line).node) != but {
                said |= self.say(line, bytes.clone());
            }
        }
        said
    }

    /// The same, as if the bytes were to follow at once.
    fn advertise_streamed(&mut self, now: Time, channel: usize, advert: &Advert, but: NodeId) {
        let (slot, version) = (self.any_slot(channel), self.next_version(channel));
        let told = frames::advert(slot, version, 0, true, advert);
        let bytes = frames::updates(self.channel(channel), &[&told]);
        let until = now + self.span(1_000, 10_000);
        for line in self.greeted() {
            if self.talk(line).node != but {
                self.hold(until, line, bytes.clone());
            }
        }
    }

    /// Claims to hold what another member has published, and answers in this manner.
    fn claim(&mut self, now: Time, heard: &Heard, manner: Manner) {
        let Some(channel) = self.place_of(heard.channel) else { return };
        match &heard.artifact {
            Some(artifact) => self.offers.insert(artifact.clone(), manner),
            None => self.offers.claim(heard.advert.clone(), manner),
        }
        if manner == Manner::Silent && self.one_in(4) {
            self.advertise_streamed(now, channel, &heard.advert, heard.from);
        } else {
            self.advertise(channel, &heard.advert, Some(heard.from));
        }
    }

    pub(super) fn claim_any(&mut self, now: Time, manner: Manner) {
        if let Some(heard) = self.any_heard() {
            self.claim(now, &heard, manner);
        }
    }

    /// The tricks that it plays with what it claims to hold.
    fn any_manner(&mut self) -> Option<Manner> {
        let manners = [
            (Trick::WrongChunks, Manner::WrongIfDue),
            (Trick::AdvertNeverServe, Manner::Silent),
            (Trick::OneBytePerSecond, Manner::Drip),
            (Trick::AckNeverFinish, Manner::AllButLast),
            (Trick::CrawlingHolder, Manner::Crawl),
        ];
        let (trick, manner) = manners[self.random.below(manners.len() as u64) as usize];
        self.plays(trick).then_some(manner)
    }

    /// Claims to hold what it has just heard of, before its peers have got it from elsewhere.
    pub(super) fn claim_at_once(&mut self, now: Time) {
        if let Some(manner) = self.any_manner() {
            let heard = self.pool.at(self.pool.len() - 1).clone();
            self.claim(now, &heard, manner);
        }
    }

    /// Fetches what others have published, to be able to serve a part of it.
    pub(super) fn learn(&mut self) {
        if self.any_manner().is_none() {
            return;
        }
        let heard = self
            .any_heard()
            .filter(|heard| heard.artifact.is_none() && heard.advert.length <= LESSON_BYTES_MAX);
        let Some(Heard { channel, id, advert, from, .. }) = heard else { return };
        let lines = self.greeted();
        let Some(line) = lines.into_iter().find(|line| self.talk(*line).node == from) else {
            return;
        };
        let (request, count) = (self.talk(line).next_request(), advert.chunks());
        let fetch = Request::Fetch { request, channel, id, ranges: frames::ranges(0, count) };
        if self.say(line, frames::requests(&[fetch])) {
            self.talk(line).ears.learn(request, channel, advert);
        }
    }

    pub(super) fn forge_advert(&mut self) -> bool {
        let Some(Heard { channel, mut advert, .. }) = self.any_heard() else { return false };
        let Some(channel) = self.place_of(channel) else { return false };
        let longest = self.channels[channel].artifact_bytes_max;
        match self.random.below(4) {
            0 => advert.length = (advert.length + 1).min(longest),
            1 => advert.length = (2 * advert.length + 1).min(longest),
            2 if advert.metadata.len() < METADATA_BYTES_MAX => {
                advert.metadata.push(7).expect("room for one byte");
            }
            _ => advert.root[self.random.below(32) as usize] ^= 1,
        }
        self.offers.claim(advert.clone(), Manner::Wrong);
        self.advertise(channel, &advert, None)
    }

    pub(super) fn offer_wrong(&mut self, now: Time, line: LineId) -> bool {
        if self.one_in(2) {
            self.claim_any(now, Manner::WrongIfDue);
            return false;
        }
        let channel = self.any_channel();
        let (slot, version) = (self.any_slot(channel), self.next_version(channel));
        let artifact = self.fresh(channel, true);
        if self.one_in(3) {
            let told = frames::advert(slot, version, 0, true, &artifact.advert());
            let chunks: Vec<u32> = (0..artifact.advert().chunks()).collect();
            let wrong = self.wrong_chunks(&artifact, &chunks);
            let bytes = frames::updates(self.channel(channel), &[&told, &wrong]);
            return self.say(line, bytes);
        }
        let told = self.tell(channel, slot, version, &artifact, Manner::Wrong);
        self.say(line, frames::updates(self.channel(channel), &[&told]));
        false
    }

    pub(super) fn offer_to_crawl(&mut self, now: Time) -> bool {
        if self.one_in(2) {
            self.claim_any(now, Manner::Crawl);
            return false;
        }
        let channel = self.any_channel();
        let (slot, version) = (self.any_slot(channel), self.next_version(channel));
        let artifact = self.fresh(channel, true);
        let told = self.tell(channel, slot, version, &artifact, Manner::Crawl);
        self.say_to_all(&frames::updates(self.channel(channel), &[&told]));
        false
    }

    pub(super) fn offer_nothing(&mut self, now: Time) -> bool {
        let manners = [Manner::Silent, Manner::Refuse, Manner::Busy];
        let manner = manners[self.random.below(3) as usize];
        if self.one_in(2) {
            self.claim_any(now, manner);
            return false;
        }
        let channel = self.any_channel();
        let (slot, version) = (self.any_slot(channel), self.next_version(channel));
        // As long as it may be: so much room is set aside for it.
        let length = match self.one_in(2) {
            true => self.channels[channel].artifact_bytes_max,
            false => self.random.below(self.channels[channel].artifact_bytes_max + 1),
        };
        let root = core::array::from_fn(|_| self.random.bits() as u8);
        let advert = Advert { length, key: None, publisher: None, metadata: Metadata::new(), root };
        let told = frames::advert(slot, version, 0, false, &advert);
        self.offers.claim(advert, manner);
        self.say_to_all(&frames::updates(self.channel(channel), &[&told]));
        false
    }
}
