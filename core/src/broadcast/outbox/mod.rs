//! The sending side of one channel: the slot table, and which changes each peer has still to be
//! sent.
//!
//! Every change of a slot takes the channel's next version and is appended to a log. An entry of
//! the log is *current* while its slot has that version, so a slot has one current entry, wherever
//! it was changed last. A peer's dirty set is a [list](unserved) of slots in the same order. They are served
//! oldest change first; or newest first, or [by keys](key_order), if the oldest has [waited too
//! long](crate::config::Freshness). A slot that changes again moves to the end of the list, or leaves it if the peer
//! need not hear of it: content that was overwritten is not sent any more, nor looked at.
//!
//! Published artifacts with keys are in an index by key and name as well. One that is published under the key
//! and name of another takes its slot, with one change: peers hear of the former as of any slot that was
//! overwritten. What is below a key is found without a look at any other slot. Names are this node's own:
//! peers do not learn of them.
//!
//! The log is cut back to its current entries when it is twice as long as the table, so the memory
//! is O(slots) whatever peers do. Knows nothing of bytes on the wire. Invariants 1, 2, 3.

mod coverage;
mod key_order;
mod lag;
mod pushes;
mod unserved;
mod views;

pub use coverage::{Coverage, Threshold};
pub use lag::Lag;
pub(super) use unserved::LastSent;
pub(super) use views::Outdated;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;
use core::hash::BuildHasher;

use super::IdMap;
use super::free_slots::FreeSlots;
use super::peer_set::PeerSet;
use super::send::Answered;
use super::spread::Spread;
use crate::artifact::{Advert, Artifact};
use crate::config::{ChannelConfig, Order, Relay};
use crate::id::{ArtifactId, PeerIndex, Slot, Version};
use crate::key_index::KeyIndex;
use crate::snapshot::OutboxSnapshot;
use crate::time::Time;
use coverage::Progress;
use key_order::{KeyOrder, Position};
use views::View;

/// What this node has of an artifact that it advertises.
#[derive(Debug)]
pub(super) enum Body {
    Whole(Artifact),
    Part(Box<Part>),
}

/// The chunks that have come so far, of a transfer.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) transfer: u32,
    pub(super) id: ArtifactId,
    pub(super) advert: Advert,
}

impl Body {
    pub(super) fn id(&self) -> ArtifactId {
        match self {
            Self::Whole(artifact) => artifact.id(),
            Self::Part(part) => part.id,
        }
    }

    pub(super) fn advert(&self) -> Advert {
        match self {
            Self::Whole(artifact) => artifact.advert(),
            Self::Part(part) => part.advert.clone(),
        }
    }

    fn key(&self) -> Option<u64> {
        match self {
            Self::Whole(artifact) => artifact.key(),
            Self::Part(part) => part.advert.key,
        }
    }

    /// Bytes of the artifact.
    pub(super) fn length(&self) -> u64 {
        match self {
            Self::Whole(artifact) => artifact.bytes().len() as u64,
            Self::Part(part) => part.advert.length,
        }
    }

    pub(super) fn metadata(&self) -> &[u8] {
        match self {
            Self::Whole(artifact) => artifact.metadata(),
            Self::Part(part) => &part.advert.metadata,
        }
    }

    /// Chunks of the artifact.
    pub(super) fn chunks(&self) -> u32 {
        match self {
            Self::Whole(artifact) => artifact.chunks(),
            Self::Part(part) => part.advert.chunks(),
        }
    }

    /// The transfer, if this node has a part.
    pub(super) fn transfer(&self) -> Option<u32> {
        match self {
            Self::Whole(_) => None,
            Self::Part(part) => Some(part.transfer),
        }
    }
}

/// What a slot holds.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) body: Body,
    /// Distance from the publisher; 0: this node published it.
    pub(super) hops: u8,
    /// The artifact in the inbox's catalogue, while some member advertises it.
    pub(super) known: Option<u32>,
    /// The peers that are being sent chunks from this slot.
    pub(super) serving: PeerSet,
    /// What peers that have asked for chunks were sent of it.
    pub(super) answered: Answered,
    /// Peers for which the slot has been [renewed](Outbox::renew): they hear of the relay whatever they advertise.
    renewed: PeerSet,
    /// If it is sent to others unasked.
    pub(super) spread: Option<Box<Spread>>,
    /// How far it has come, of what this node has published.
    progress: Progress,
    /// The version since which no member nearer to the publisher advertises it. It is kept for the case
    /// that one does again, as long as anyone advertises it and no other relay needs the room. To peers,
    /// the slot is clear.
    dormant_since: Option<u64>,
    /// How often it has become dormant.
    suspensions: u8,
    /// The version with which it came into the slot.
    inserted: u64,
    /// The name under which it was published, beside its key.
    name: Option<u32>,
}

/// A relay becomes dormant so often at most, then it ends: a member that takes back what it advertises,
/// again and again, is not to make everybody behind it do the same for ever.
const SUSPENSIONS_MAX: u8 = 4;

impl Active {
    fn new(body: Body, hops: u8, known: Option<u32>, inserted: u64) -> Self {
        Self {
            body,
            hops,
            known,
            serving: PeerSet::default(),
            answered: Answered::default(),
            renewed: PeerSet::default(),
            spread: None,
            progress: Progress::default(),
            dormant_since: None,
            suspensions: 0,
            inserted,
            name: None,
        }
    }

    /// This node has a part of it only.
    pub(super) fn is_part(&self) -> bool {
        self.body.transfer().is_some()
    }

    /// A relay that is not advertised for now.
    pub(super) fn is_dormant(&self) -> bool {
        self.dormant_since.is_some()
    }

    /// Whether a relay may become dormant.
    pub(super) fn may_wait(&self) -> bool {
        !self.is_part() && self.suspensions < SUSPENSIONS_MAX
    }

    /// Whether a peer need not hear of it as long as it has all of it: a relay.
    pub(super) fn is_needless_for_holder(&self, peer: PeerIndex) -> bool {
        self.hops > 0 && !self.renewed.contains(peer)
    }

    /// Whether its slot has not changed since it came there.
    pub(super) fn is_new(&self, version: Version) -> bool {
        self.inserted == version.0
    }
}

#[derive(Debug, Default)]
struct SlotState {
    version: u64,
    /// When it took that version; [`Time::NEVER`], until the time is told.
    changed_at: Time,
    active: Option<Active>,
}

impl SlotState {
    /// Whether there is nothing in it, as far as peers are concerned.
    fn is_clear(&self) -> bool {
        self.active.as_ref().is_none_or(Active::is_dormant)
    }

    /// Where its last change stands in the order of keys.
    fn position(&self) -> Position {
        let told = self.active.as_ref().filter(|active| !active.is_dormant());
        let rank = told.map_or(u64::MAX, |active| active.body.key().unwrap_or(0));
        Position { rank, version: self.version }
    }
}

#[derive(Debug)]
pub(super) struct Outbox {
    config: ChannelConfig,
    slots: Vec<SlotState>,
    free: FreeSlots,
    by_id: IdMap<Slot>,
    /// Slots of what is published under keys.
    keyed: KeyIndex<Slot>,
    log: VecDeque<(u64, Slot)>,
    /// With [`Order::HighestKeyFirst`].
    key_order: Option<KeyOrder>,
    version: u64,
    published: Share,
    relayed: Share,
    /// Relays that became dormant, with the versions at which they did, oldest first. Some may have been
    /// resumed or cleared since.
    dormant: VecDeque<(u64, Slot)>,
    /// The part of `relayed` that is dormant.
    waiting: Share,
    views: Vec<Option<View>>,
    /// The peers that have a view.
    up: PeerSet,
    /// Every change up to this version is obsolete, or has come to all who are up, as far as is known.
    settled: u64,
    /// Members beside this node.
    members: u16,
    /// Artifacts that have come as far as the application wants to be told of: the versions with which they
    /// came into their slots. Some may have been cleared since.
    covered: VecDeque<(u64, Slot)>,
    /// Peers for which another change has become the oldest since the time was told last.
    moved: PeerSet,
    /// Peers that are to be looked at, each once, and when.
    watched: Vec<(PeerIndex, Time)>,
    /// Peers that have come to be behind, or are not any more: each once in an epoch.
    lags: Vec<PeerIndex>,
}

/// The part of the outbox that published, or relayed, artifacts use. Each kind has limits of its
/// own, so neither can use up the room of the other.
#[derive(Debug, Default)]
struct Share {
    slots: u32,
    bytes: u64,
}

impl Share {
    /// Whether another one has room.
    fn check(&self, bytes: u64, slots_max: u32, bytes_max: u64) -> Result<(), Full> {
        if self.slots == slots_max {
            return Err(Full::Slots);
        }
        if self.bytes + bytes > bytes_max {
            return Err(Full::Bytes);
        }
        Ok(())
    }

    fn take(&mut self, bytes: u64, slots_max: u32, bytes_max: u64) -> Result<(), Full> {
        self.check(bytes, slots_max, bytes_max)?;
        self.add(bytes);
        Ok(())
    }

    fn add(&mut self, bytes: u64) {
        self.slots += 1;
        self.bytes += bytes;
    }

    fn give_back(&mut self, bytes: u64) {
        self.slots -= 1;
        self.bytes -= bytes;
    }
}

/// Why there is no slot for an artifact.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Full {
    Slots,
    Bytes,
}

impl Outbox {
    pub(super) fn new(mut config: ChannelConfig, by_id: IdMap<Slot>) -> Self {
        // Clears may be held back for so long.
        let freshness = &mut config.freshness;
        freshness.oldest_first_until = freshness.oldest_first_until.max(config.clear_delay);
        let seed = || by_id.hasher().hash_one(config.id.0);
        let key_order = match config.order {
            Order::Age => None,
            Order::HighestKeyFirst => Some(KeyOrder::new(seed())),
        };
        Self {
            config,
            slots: Vec::new(),
            free: FreeSlots::default(),
            by_id,
            keyed: KeyIndex::default(),
            log: VecDeque::new(),
            key_order,
            version: 0,
            published: Share::default(),
            relayed: Share::default(),
            dormant: VecDeque::new(),
            waiting: Share::default(),
            views: Vec::new(),
            up: PeerSet::default(),
            settled: 0,
            members: 0,
            covered: VecDeque::new(),
            moved: PeerSet::default(),
            watched: Vec::new(),
            lags: Vec::new(),
        }
    }

    pub(super) fn slot_of(&self, id: &ArtifactId) -> Option<Slot> {
        self.by_id.get(id).copied()
    }

    pub(super) fn active(&self, slot: Slot) -> Option<&Active> {
        self.slots.get(slot.0 as usize)?.active.as_ref()
    }

    pub(super) fn active_mut(&mut self, slot: Slot) -> Option<&mut Active> {
        self.slots.get_mut(slot.0 as usize)?.active.as_mut()
    }

    /// The number of artifacts that are advertised.
    pub(super) fn active_count(&self) -> u32 {
        self.published.slots + self.relayed.slots - self.waiting.slots
    }

    pub(super) fn version(&self) -> Version {
        Version(self.version)
    }

    /// The relay that has to give way before there is room for another one of so many bytes, if one has.
    ///
    /// # Errors
    /// If there is no room beside those that are advertised.
    pub(super) fn in_the_way(&mut self, bytes: u64) -> Result<Option<Slot>, Full> {
        let (slots_max, bytes_max) = (self.config.relay_slots_max, self.config.active_bytes_max);
        let advertised = Share {
            slots: self.relayed.slots - self.waiting.slots,
            bytes: self.relayed.bytes - self.waiting.bytes,
        };
        advertised.check(bytes, slots_max, bytes_max)?;
        Ok(match self.relayed.check(bytes, slots_max, bytes_max) {
            Ok(()) => None,
            Err(_) => Some(self.oldest_dormant()),
        })
    }

    /// The relay that has been dormant for longest, of those that there are.
    fn oldest_dormant(&mut self) -> Slot {
        loop {
            let (version, slot) = self.dormant.pop_front().expect("some are dormant");
            if is_dormant_since(&self.slots, slot, version) {
                return slot;
            }
        }
    }

    /// Puts an artifact that is not active yet into the lowest free slot.
    pub(super) fn insert(
        &mut self,
        body: Body,
        hops: u8,
        known: Option<u32>,
    ) -> Result<Slot, Full> {
        let bytes = body.length();
        let (share, slots_max) = match hops {
            0 => (&mut self.published, self.config.publish_slots_max()),
            _ => (&mut self.relayed, self.config.relay_slots_max),
        };
        share.take(bytes, slots_max, self.config.active_bytes_max)?;
        let slot = self.lowest_free();
        let was_free = self.by_id.insert(body.id(), slot).is_none();
        assert!(was_free, "an artifact is active in one slot");
        self.free.take(slot);
        if let (0, Some(key)) = (hops, body.key()) {
            self.keyed.insert(key, None, slot);
        }
        self.bump_version(slot);
        let active = Active::new(body, hops, known, self.version);
        self.slots[slot.0 as usize].active = Some(active);
        Ok(slot)
    }

    /// Whether there is room for an artifact of so many bytes in place of what is published in a slot.
    pub(super) fn check_replacing(&self, slot: Slot, bytes: u64) -> Result<(), Full> {
        let former = self.active(slot).expect("the slot is active").body.length();
        let others =
            Share { slots: self.published.slots - 1, bytes: self.published.bytes - former };
        others.check(bytes, self.config.publish_slots_max(), self.config.active_bytes_max)
    }

    /// Puts an artifact that is not active yet in the place of one that is published under the same key
    /// and name. The caller has checked that there is room.
    pub(super) fn replace(&mut self, slot: Slot, artifact: Artifact, known: Option<u32>) -> Active {
        self.bump_version(slot);
        let body = Body::Whole(artifact);
        let (id, bytes, key) = (body.id(), body.length(), body.key());
        let active = self.slots[slot.0 as usize].active.as_mut().expect("the slot is active");
        let new = Active::new(body, 0, known, self.version);
        let former = core::mem::replace(active, new);
        active.name = former.name;
        assert!(former.hops == 0 && former.body.key() == key, "published under the same key");
        self.by_id.remove(&former.body.id());
        let was_free = self.by_id.insert(id, slot).is_none();
        assert!(was_free, "an artifact is active in one slot");
        self.published.give_back(former.body.length());
        self.published.add(bytes);
        former
    }

    /// The slot of what is published under a key and a name.
    pub(super) fn named(&self, key: u64, name: u32) -> Option<Slot> {
        self.keyed.find(key, name)
    }

    /// A slot of what is published under the lowest key, if that is below `key`.
    pub(super) fn lowest_below(&self, key: u64) -> Option<Slot> {
        self.keyed.lowest_below(key)
    }

    /// What is published in a slot under a key has this name from now on, which nothing else has.
    pub(super) fn set_name(&mut self, slot: Slot, name: u32) {
        let active = self.slots[slot.0 as usize].active.as_mut().expect("the slot is active");
        let key = active.body.key().expect("published under a key");
        let former = active.name.replace(name);
        self.keyed.remove(key, former, slot);
        self.keyed.insert(key, Some(name), slot);
    }

    /// A relay is not advertised any more, until it is [resumed](Self::resume). The peers that were being
    /// sent chunks of it.
    pub(super) fn suspend(&mut self, slot: Slot) -> PeerSet {
        self.bump_version(slot);
        let (version, slots) = (self.version, &mut self.slots);
        if self.dormant.len() >= 2 * slots.len() {
            self.dormant.retain(|(version, slot)| is_dormant_since(slots, *slot, *version));
        }
        let active = slots[slot.0 as usize].active.as_mut().expect("the slot is active");
        assert!(active.hops > 0 && active.may_wait(), "a relay of all of it");
        let was_dormant = active.dormant_since.replace(version).is_some();
        assert!(!was_dormant, "it was advertised");
        self.waiting.add(active.body.length());
        (active.spread, active.suspensions) = (None, active.suspensions + 1);
        self.dormant.push_back((version, slot));
        core::mem::take(&mut active.serving)
    }

    /// A relay is advertised again, if it was not.
    pub(super) fn resume(&mut self, slot: Slot) -> bool {
        let active = self.slots[slot.0 as usize].active.as_mut().expect("the slot is active");
        let was_dormant = active.dormant_since.take().is_some();
        if was_dormant {
            self.waiting.give_back(active.body.length());
            self.bump_version(slot);
        }
        was_dormant
    }

    /// Makes a relayed artifact this node's own.
    pub(super) fn adopt(&mut self, slot: Slot, artifact: Artifact) -> Result<(), Full> {
        let active = self.slots[slot.0 as usize].active.as_mut().expect("the slot is active");
        assert!(active.hops > 0, "relayed so far");
        let bytes = artifact.bytes().len() as u64;
        let slots_max = self.config.publish_slots_max();
        self.published.take(bytes, slots_max, self.config.active_bytes_max)?;
        self.relayed.give_back(bytes);
        if let Some(key) = artifact.key() {
            self.keyed.insert(key, None, slot);
        }
        (active.hops, active.body) = (0, Body::Whole(artifact));
        active.progress = Progress::default();
        if active.dormant_since.take().is_some() {
            self.waiting.give_back(bytes);
        }
        if let Some(spread) = &mut active.spread {
            spread.cut_short();
        }
        self.bump_version(slot);
        Ok(())
    }

    /// The rest of an artifact has come of which this node had a part.
    pub(super) fn complete(&mut self, slot: Slot, artifact: Artifact) {
        let active = self.slots[slot.0 as usize].active.as_mut().expect("the slot is active");
        active.body = Body::Whole(artifact);
        self.bump_version(slot);
    }

    /// Artifacts of at least so many bytes are to be spread.
    pub(super) fn spread_bytes_min(&self) -> u64 {
        match self.config.relay {
            Relay::Automatic => self.config.spread_bytes_min,
            Relay::Off | Relay::Confirmed => u64::MAX,
        }
    }

    /// The members that are connected are to be sent chunks from a slot, unasked.
    pub(super) fn spread(&mut self, slot: Slot) -> &mut Spread {
        let active = self.slots[slot.0 as usize].active.as_mut().expect("the slot is active");
        active.spread.get_or_insert_with(|| {
            let mut members = PeerSet::default();
            let views = self.views.iter().enumerate().filter(|(_, view)| view.is_some());
            views.for_each(|(at, _)| members.insert(PeerIndex(at as u16)));
            Box::new(Spread::new(members))
        })
    }

    /// There is something new to be told of a slot.
    pub(super) fn repeat(&mut self, slot: Slot) {
        self.bump_version(slot);
    }

    pub(super) fn clear(&mut self, slot: Slot) -> Active {
        let active = self.slots[slot.0 as usize].active.take().expect("the slot is active");
        self.free.give_back(slot);
        self.by_id.remove(&active.body.id());
        let bytes = active.body.length();
        if active.is_dormant() {
            self.waiting.give_back(bytes);
        }
        match active.hops {
            0 => self.published.give_back(bytes),
            _ => self.relayed.give_back(bytes),
        }
        if let (0, Some(key)) = (active.hops, active.body.key()) {
            self.keyed.remove(key, active.name, slot);
        }
        self.bump_version(slot);
        active
    }

    fn lowest_free(&mut self) -> Slot {
        let slot = self.free.lowest();
        if slot.0 as usize == self.slots.len() {
            self.slots.push(SlotState::default());
        }
        assert!(slot.0 < self.config.slots_max, "publish and relay have their limits");
        slot
    }

    /// A peer is no member any more: what it was sent does not count for another one with its index. A walk over the
    /// slots, once for each member that leaves.
    pub(super) fn forget_member(&mut self, peer: PeerIndex) {
        for active in self.slots.iter_mut().filter_map(|state| state.active.as_mut()) {
            active.answered.forget(peer);
            active.renewed.remove(peer);
        }
    }

    /// Gives the slot a new version.
    fn bump_version(&mut self, slot: Slot) {
        self.version += 1;
        self.slots[slot.0 as usize].version = self.version;
        if self.log.len() >= 2 * self.slots.len().max(32) {
            let slots = &self.slots;
            self.log.retain(|(version, slot)| slots[slot.0 as usize].version == *version);
        }
        self.log.push_back((self.version, slot));
    }

    /// The last change of a slot was made at this time.
    pub(super) fn set_changed_at(&mut self, slot: Slot, now: Time) {
        self.slots[slot.0 as usize].changed_at = now;
    }

    /// When the last change of a slot was made.
    pub(super) fn changed_at(&self, slot: Slot) -> Time {
        self.slots[slot.0 as usize].changed_at
    }

    /// How much of its bounds is used.
    pub(super) fn usage(&self) -> OutboxSnapshot {
        OutboxSnapshot {
            active: self.active_count(),
            active_max: self.config.slots_max,
            published_bytes: self.published.bytes,
            relayed_bytes: self.relayed.bytes,
            bytes_max: self.config.active_bytes_max,
        }
    }

    /// One more than the highest index of a peer that was ever up.
    pub(super) fn peers_end(&self) -> u16 {
        self.views.len() as u16
    }

    pub(super) fn assert_invariants(&self) {
        assert!(self.slots.len() <= self.config.slots_max as usize, "invariant 1");
        for share in [&self.published, &self.relayed] {
            assert!(share.bytes <= self.config.active_bytes_max, "invariant 1");
        }
        self.assert_progress();
        self.assert_views();
        let active: Vec<&Active> =
            self.slots.iter().filter_map(|slot| slot.active.as_ref()).collect();
        assert_eq!(active.len(), self.by_id.len());
        let dormant = active.iter().filter(|active| active.is_dormant()).count();
        assert_eq!(dormant as u32, self.waiting.slots);
        assert_eq!((active.len() - dormant) as u32, self.active_count());
        let bytes: u64 = active.iter().map(|active| active.body.length()).sum();
        assert_eq!(bytes, self.published.bytes + self.relayed.bytes);
        let has_key = |active: &&&Active| active.hops == 0 && active.body.key().is_some();
        assert_eq!(active.iter().filter(has_key).count(), self.keyed.len());
        let mut current = vec![0; self.slots.len()];
        for (version, slot) in &self.log {
            current[slot.0 as usize] += u32::from(self.slots[slot.0 as usize].version == *version);
        }
        assert!(current.iter().all(|count| *count == 1), "invariant 2: each changed slot once");
        for (at, slot) in self.slots.iter().enumerate() {
            assert_eq!(self.free.is_free(Slot(at as u32)), slot.active.is_none());
        }
    }
}

fn is_dormant_since(slots: &[SlotState], slot: Slot, version: u64) -> bool {
    let active = slots[slot.0 as usize].active.as_ref();
    active.is_some_and(|active| active.dormant_since == Some(version))
}
