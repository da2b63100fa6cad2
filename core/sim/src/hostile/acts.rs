//! The tricks, one function each: what is written for it.

use super::bare::LineId;
use super::byzantine::Byzantine;
use super::forge;
use super::frames;
use super::offers::Manner;
use super::trick::Trick;
use slotcast::id::{ArtifactId, ChannelId, NodeId};
use slotcast::internals::kind;
use slotcast::time::Time;
use slotcast::wire::{Request, StreamHead};

/// Bytes of pushes in one burst.
const FLOOD_BYTES: u64 = 64 << 10;

/// Requests in one burst.
const REQUESTS_MAX: u64 = 32;

/// Connections to one member that it makes of its own accord.
const LINES_MAX: usize = 4;

impl Byzantine {
    /// Plays a trick, on the peer behind `line` or on all. False if it is not played (yet): what is
    /// only prepared here is counted when a peer falls for it.
    pub(super) fn play(&mut self, now: Time, trick: Trick, line: Option<LineId>) -> bool {
        match trick {
            Trick::RestartLoop => return self.begin_restarts(now),
            Trick::HandshakeFlood => return self.begin_handshakes(now),
            Trick::GarbageDatagrams => return self.throw_garbage(),
            // Said at the beginning of a connection; here, once more.
            Trick::HugeHello => {
                let hello = self.hello();
                return line.is_some_and(|line| self.say(line, hello));
            }
            _ => {}
        }
        let Some(line) = line else { return false };
        match trick {
            Trick::EquivocatingAdverts => self.equivocate(),
            Trick::ForgedAdvert => self.forge_advert(),
            Trick::WrongChunks => self.offer_wrong(now, line),
            Trick::SlotBeyondBound => self.exceed_slots(line),
            Trick::VersionRegress => self.regress(line),
            Trick::ClearPushChurn => self.churn(line),
            Trick::HalfOpenStreams => self.half_open(now, line),
            Trick::OneBytePerSecond => self.drip_update(now, line),
            Trick::NeverRead => self.go_deaf(now, line),
            Trick::AckNeverFinish => self.never_finish(now, line),
            Trick::UnknownKinds => self.speak_of_the_future(line),
            Trick::AdvertNeverServe => self.offer_nothing(now),
            Trick::CrawlingHolder => self.offer_to_crawl(now),
            Trick::Flood => self.flood(line),
            Trick::FetchFlood => self.flood_requests(line),
            Trick::GarbageStreams => self.babble(line),
            Trick::Malformed => self.malform(line),
            Trick::RepeatedSnapshot => self.repeat_snapshot(line),
            Trick::ResetStorm => self.storm(now, line),
            Trick::StopEverything => self.stop_everything(now, line),
            Trick::ManyConnections => self.connect_again(now, line),
            Trick::FalsePartial => self.claim_parts(now, true),
            Trick::WithholdStripes => self.withhold_stripes(now),
            // Played when a stripe comes.
            Trick::WithholdRelay => false,
            Trick::HugeHello
            | Trick::RestartLoop
            | Trick::HandshakeFlood
            | Trick::GarbageDatagrams => unreachable!("above"),
        }
    }

    fn equivocate(&mut self) -> bool {
        let channel = self.any_channel();
        let (slot, version) = (self.any_slot(channel), self.next_version(channel));
        let mut said = false;
        for line in self.greeted() {
            let mut told = Vec::new();
            for _ in 0..2 {
                let is_long = self.one_in(3);
                let artifact = self.fresh(channel, is_long);
                told.extend(self.tell(channel, slot, version, &artifact, Manner::Honest));
            }
            let bytes = frames::updates(self.channel(channel), &[&told]);
            said |= self.say(line, bytes);
        }
        said
    }

    fn exceed_slots(&mut self, line: LineId) -> bool {
        let channel = self.any_channel();
        let slots_max = self.channels[channel].slots_max;
        let beyond = u64::from(u32::MAX - slots_max) + 1;
        let slot = match self.random.below(3) {
            0 => slots_max,
            1 => u32::MAX,
            _ => slots_max + self.random.below(beyond) as u32,
        };
        let version = self.next_version(channel);
        let artifact = self.fresh(channel, true);
        let told = match self.random.below(5) {
            0 => frames::clear(slot, version),
            1 => frames::push(slot, version, b"", b"nowhere"),
            2 => frames::advert(slot, version, 0, false, &artifact.advert()),
            3 => {
                // A slot that is no slot number at all.
                let mut body = Vec::new();
                [forge::VARINT_MAX, version]
                    .iter()
                    .for_each(|field| frames::put_varint(&mut body, *field));
                frames::frame(kind::CLEAR, &body)
            }
            _ => {
                let mut bitmap = vec![0; slots_max as usize / 8 + 1];
                bitmap[slots_max as usize / 8] = 0x80;
                frames::snapshot(version, &bitmap)
            }
        };
        self.say(line, frames::updates(self.channel(channel), &[&told]))
    }

    fn regress(&mut self, line: LineId) -> bool {
        let channel = self.any_channel();
        let slot = self.any_slot(channel);
        let version = self.next_version(channel);
        // The last slot alone is taken to the end of all versions: it is of no use afterwards.
        let last = self.channels[channel].slots_max - 1;
        let older = version.saturating_sub(self.random.below(20)).max(1);
        let told = [
            frames::push(slot, version, b"", &self.random.bits().to_le_bytes()),
            frames::push(slot, older, b"older", &self.random.bits().to_le_bytes()),
            frames::clear(slot, older),
            frames::push(last, forge::VARINT_MAX, b"", &self.random.bits().to_le_bytes()),
            frames::push(last, 1, b"again", &self.random.bits().to_le_bytes()),
            frames::clear(last, 0),
        ];
        self.say(line, frames::updates(self.channel(channel), &[&told.concat()]))
    }

    fn churn(&mut self, line: LineId) -> bool {
        let channel = self.any_channel();
        let rounds = 50 + self.random.below(500);
        let first = self.any_slot(channel);
        let slots = self.channels[channel].slots_max;
        let mut told = Vec::new();
        for round in 0..rounds {
            let slot = (first + (round % 4) as u32) % slots;
            let (version, next) = (self.next_version(channel), self.next_version(channel));
            told.extend(frames::push(slot, version, b"", &self.random.bits().to_le_bytes()));
            if !self.one_in(4) {
                told.extend(frames::clear(slot, next));
            }
        }
        self.say(line, frames::updates(self.channel(channel), &[&told]))
    }

    /// Beginnings of streams, each cut off where it still makes sense.
    fn beginning(&mut self) -> Vec<u8> {
        let channel = self.any_channel();
        let id = self.channel(channel);
        let (slot, version) = (self.any_slot(channel), self.next_version(channel));
        let mut bytes = match self.random.below(5) {
            0 => frames::stream(StreamHead::Updates(id), &[]),
            1 => frames::updates(id, &[&frames::push(slot, version, b"", &[1; 100])]),
            2 => frames::requests(&[Request::Cancel { request: version }]),
            3 => frames::stream(StreamHead::Chunks(1 << 40), &[&[16, 0x80]]),
            _ => frames::stream(StreamHead::Unknown(forge::VARINT_MAX), &[]),
        };
        bytes.pop();
        bytes
    }

    fn half_open(&mut self, now: Time, line: LineId) -> bool {
        if self.talk(line).held() > 0 {
            return false;
        }
        let until = now + self.span(1_000, 10_000);
        loop {
            let bytes = self.beginning();
            if !self.hold(until, line, bytes) {
                return self.talk(line).held() > 0;
            }
        }
    }

    fn storm(&mut self, now: Time, line: LineId) -> bool {
        let count = 1 + self.random.below(64);
        let mut resets = 0;
        for _ in 0..count {
            let bytes = self.beginning();
            // Some before anything has left, some after.
            let opened = if self.one_in(2) {
                self.hold(now, line, bytes)
            } else if let Some(stream) = self.bare.open(line) {
                self.bare.write(line, stream, bytes, false);
                self.bare.reset(line, stream);
                true
            } else {
                false
            };
            resets += u32::from(opened);
        }
        resets > 0
    }

    fn drip_update(&mut self, now: Time, line: LineId) -> bool {
        if self.one_in(3) {
            self.claim_any(now, Manner::Drip);
            return false;
        }
        let channel = self.any_channel();
        let (slot, version) = (self.any_slot(channel), self.next_version(channel));
        if self.one_in(2) {
            let artifact = self.fresh(channel, true);
            let told = self.tell(channel, slot, version, &artifact, Manner::Drip);
            self.say(line, frames::updates(self.channel(channel), &[&told]));
            return false;
        }
        let told = frames::push(slot, version, b"slow", &[1; 20]);
        self.drip(now, line, frames::updates(self.channel(channel), &[&told]))
    }

    fn go_deaf(&mut self, now: Time, line: LineId) -> bool {
        if now < self.talk(line).deaf_until || !self.may_spoil(Trick::NeverRead) {
            return false;
        }
        // At times for good: only a new connection ends it.
        let until = if self.one_in(4) { Time::NEVER } else { now + self.span(2_000, 20_000) };
        self.talk(line).deaf_until = until;
        true
    }

    fn never_finish(&mut self, now: Time, line: LineId) -> bool {
        if now >= self.talk(line).endless_until {
            self.talk(line).endless_until = now + self.span(1_000, 15_000);
            return true;
        }
        if self.talk(line).held() > 16 {
            return false;
        }
        if self.one_in(3) {
            self.claim_any(now, Manner::AllButLast);
            return false;
        }
        let channel = self.any_channel();
        let (slot, version) = (self.any_slot(channel), self.next_version(channel));
        let artifact = self.fresh(channel, true);
        if self.one_in(3) {
            let chunks = 0..artifact.advert().chunks();
            let chunks: Vec<_> = chunks.map(|chunk| frames::chunk(&artifact, chunk)).collect();
            let told = frames::advert(slot, version, 0, true, &artifact.advert());
            let bytes = frames::updates(self.channel(channel), &[&told, &chunks.concat()]);
            return self.all_but_last(now, line, bytes);
        }
        let told = self.tell(channel, slot, version, &artifact, Manner::AllButLast);
        self.say(line, frames::updates(self.channel(channel), &[&told]));
        false
    }

    /// Says hello as no node would, in one way or another. It is not greeted by it.
    pub(super) fn forge_hello(&mut self, line: LineId) {
        let good = self.hello();
        match self.random.below(4) {
            0 => {
                // What should come behind it comes first.
                let id = self.channel(0);
                self.say(line, frames::updates(id, &[&frames::push(0, 1, b"", b"early")]));
                self.say(line, good);
            }
            1 => {
                // All is well but that it comes again.
                self.greet(line);
                self.say(line, good);
            }
            _ => {
                let hello = forge::hello(&mut self.random, &good);
                self.say(line, hello);
            }
        }
    }

    /// A few frames of kinds that nobody knows, each up to so many bytes.
    pub(super) fn unknown_frames(&mut self, longest: u64) -> Vec<u8> {
        let mut frames = Vec::new();
        for _ in 0..=self.random.below(4) {
            let length = self.random.below(longest) as usize;
            let kind = forge::unknown_kind(&mut self.random);
            frames.extend(frames::frame(kind, &forge::garbage(&mut self.random, length)));
        }
        frames
    }

    fn speak_of_the_future(&mut self, line: LineId) -> bool {
        let channel = self.any_channel();
        let id = self.channel(channel);
        let longest = if self.one_in(8) { 70_000 } else { 300 };
        let unknown = self.unknown_frames(longest);
        let bytes = match self.random.below(4) {
            0 => {
                let head = 4 + self.random.below(forge::VARINT_MAX - 4);
                frames::stream(StreamHead::Unknown(head), &[&unknown])
            }
            1 => frames::stream(StreamHead::Requests, &[&unknown]),
            2 => {
                // A channel that nobody has.
                let strange = (0..).map(ChannelId).find(|id| self.place_of(*id).is_none());
                frames::updates(strange.expect("64 channels at most"), &[&unknown])
            }
            _ => {
                let (slot, version) = (self.any_slot(channel), self.next_version(channel));
                let artifact = self.fresh(channel, false);
                let told = self.tell(channel, slot, version, &artifact, Manner::Honest);
                frames::updates(id, &[&unknown, &told])
            }
        };
        self.say(line, bytes)
    }

    fn flood(&mut self, line: LineId) -> bool {
        let channel = self.any_channel();
        let burst = 1 + self.random.below(FLOOD_BYTES);
        let mut written = 0;
        while written < burst {
            let mut told = Vec::new();
            for _ in 0..=self.random.below(20) {
                let (slot, version) = (self.any_slot(channel), self.next_version(channel));
                let artifact = self.fresh(channel, false);
                told.extend(self.tell(channel, slot, version, &artifact, Manner::Honest));
            }
            written += told.len() as u64;
            if !self.say(line, frames::updates(self.channel(channel), &[&told])) {
                break;
            }
        }
        written > 0
    }

    fn flood_requests(&mut self, line: LineId) -> bool {
        let mut requests = Vec::new();
        for _ in 0..=self.random.below(REQUESTS_MAX) {
            let request = self.talk(line).next_request();
            let (channel, id) = match self.pool.len() as u64 {
                count if count > 0 && !self.one_in(4) => {
                    let heard = self.pool.at(self.random.below(count) as usize);
                    (heard.channel, heard.id)
                }
                _ => (self.channel(0), ArtifactId([self.random.bits() as u8; 32])),
            };
            let first = if self.one_in(4) { self.random.bits() as u32 } else { 0 };
            let ranges = frames::ranges(first, 1 + self.random.below(4) as u32);
            let request = match self.random.below(6) {
                0 => Request::Cancel { request: self.random.below(request + 1) },
                1 => Request::Fetch { request: self.random.below(request), channel, id, ranges },
                _ => Request::Fetch { request, channel, id, ranges },
            };
            requests.push(request);
        }
        self.say(line, frames::requests(&requests))
    }

    fn begin_restarts(&mut self, now: Time) -> bool {
        if self.restarts == 0 && self.may_spoil(Trick::RestartLoop) {
            self.restarts = 2 + self.random.below(8) as u32;
            self.restart_at = now + self.span(100, 5_000);
        }
        false
    }

    fn any_other(&mut self) -> Option<NodeId> {
        let others: Vec<NodeId> = self.bare.others().collect();
        others.get(self.random.below(others.len() as u64) as usize).copied()
    }

    fn throw_garbage(&mut self) -> bool {
        let Some(node) = self.any_other() else { return false };
        for _ in 0..=self.random.below(16) {
            let datagram = forge::datagram(&mut self.random);
            self.bare.throw(node, &datagram);
        }
        true
    }

    fn begin_handshakes(&mut self, now: Time) -> bool {
        let Some(node) = self.any_other() else { return false };
        let count = 8 + self.random.below(64);
        // Half of them leave the member waiting, the others leave it with something to clear away.
        let mut begun = 0;
        for _ in 0..count {
            begun += u32::from(match self.one_in(2) {
                true => self.bare.dial_hollow(now, node).is_some(),
                false => self.bare.ring(now, node),
            });
        }
        begun > 0
    }

    fn connect_again(&mut self, now: Time, line: LineId) -> bool {
        let node = self.talk(line).node;
        let lines = self.talks.values().filter(|talk| talk.node == node).count();
        lines < LINES_MAX && self.bare.dial(now, node).is_some()
    }

    fn babble(&mut self, line: LineId) -> bool {
        let channel = self.any_channel();
        let bytes = forge::garbage_stream(&mut self.random, &self.channels[channel]);
        self.say(line, bytes)
    }

    fn malform(&mut self, line: LineId) -> bool {
        let channel = self.any_channel();
        let bytes = forge::malformed(&mut self.random, &self.channels[channel]);
        self.say(line, bytes)
    }

    fn repeat_snapshot(&mut self, line: LineId) -> bool {
        let channel = self.any_channel();
        let version = self.next_version(channel);
        let slot = self.any_slot(channel);
        // Names a slot, too, that it may never speak of.
        let mut bitmap = vec![0; slot as usize / 8 + 1];
        bitmap[slot as usize / 8] = 1 << (slot % 8);
        let snapshot = frames::snapshot(version, &bitmap);
        self.say(line, frames::updates(self.channel(channel), &[&snapshot]))
    }

    fn stop_everything(&mut self, now: Time, line: LineId) -> bool {
        self.talk(line).stopping_until = now + self.span(500, 5_000);
        true
    }
}
