//! What each peer advertises: its slot table of each channel, as far as it has been received.
//!
//! A member has an artifact in one slot at a time, so a peer's table holds an artifact in one entry
//! at most. Of two slots that a peer names for one artifact, that with the newer version counts, and
//! the other one has been emptied, even if the update that says so has not been received yet. So an
//! artifact's holders are a set of peers. Where a single one has it is noted with the artifact; of
//! several, a map leads from artifact and peer to the entry. An update costs the same whatever the
//! peer, or all peers together, advertise.
//!
//! When a peer's new epoch begins, its entries become *stale*: they count as advertised until the
//! epoch's snapshot has named the live slots and an update of each of those has been received, or
//! until the artifact is advertised in another slot. Invariants 4, 5, 8, 9.

use alloc::vec::Vec;
use foldhash::quality::FixedState;
use hashbrown::HashMap;

use super::catalogue::{Age, Catalogue, Holders, Position};
use super::peer_set::PeerSet;
use super::work;
use crate::error::Fault;
use crate::id::{PeerIndex, Slot, Version};
use crate::transfer::{ChunksTold, Have};
use crate::wire::LiveSlots;

/// No artifact.
const NOBODY: u32 = u32::MAX;

/// The versions that it takes to move an artifact to another slot: one change takes it out of the
/// first slot, and a later one puts it into the second. Every change takes a version, so two slots
/// for one artifact whose versions are closer than this contradict each other.
///
/// No number of slots would prove anything. However often an honest member moves an artifact, the
/// changes of the slots that it left may all be overtaken on their way, or be still to be sent,
/// because those slots have changed again meanwhile.
const MOVE_VERSIONS: u64 = 2;

#[derive(Clone, Copy, Debug)]
struct Entry {
    version: u64,
    /// The artifact in the slot, or `NOBODY`.
    known: u32,
    hops: u8,
    /// The snapshot named the slot, and no update of it has been received yet.
    awaited: bool,
    /// The peer is owed a receipt of the slot.
    receipt_due: bool,
}

impl Entry {
    const EMPTY: Self =
        Self { version: 0, known: NOBODY, hops: 0, awaited: false, receipt_due: false };
}

/// What a slot of a peer holds in its present epoch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Held {
    pub(super) known: u32,
    pub(super) version: Version,
}

impl Held {
    fn of(entry: &Entry) -> Option<Self> {
        let version = Version(entry.version);
        (entry.known != NOBODY).then_some(Self { known: entry.known, version })
    }
}

/// One peer's table of one channel.
#[derive(Debug, Default)]
struct Table {
    current: Vec<Entry>,
    stale: Vec<Entry>,
    /// The number of slots in the snapshot of which no update has been received yet.
    awaited: u32,
    snapshot_seen: bool,
}

impl Table {
    fn entries(&mut self, age: Age) -> &mut Vec<Entry> {
        match age {
            Age::Current => &mut self.current,
            Age::Stale => &mut self.stale,
        }
    }

    /// The entry of a slot. The table grows to hold it.
    fn entry(&mut self, slot: Slot) -> &mut Entry {
        let at = slot.0 as usize;
        if self.current.len() <= at {
            self.current.resize(at + 1, Entry::EMPTY);
        }
        &mut self.current[at]
    }
}

/// What became of a change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Applied {
    /// The slot has a newer version: the change was overtaken.
    Stale,
    /// The slot holds what it held, only the version grew: and the hops, or the chunks that the peer has, if that
    /// `is_news`.
    Same { is_news: bool },
    /// The slot has changed; the peer does not advertise the artifact that it held any more. If it `was_awaited`, it
    /// is one of the peer's snapshot, and this the first update of it since.
    Changed { unlinked: Option<u32>, was_awaited: bool },
}

#[derive(Debug)]
pub(super) struct Tables {
    channels: usize,
    /// Per peer, then per channel; empty for a peer that is no member.
    peers: Vec<Vec<Table>>,
    /// By artifact and peer, see [`key`], of artifacts with [`Holders::Several`].
    positions: HashMap<u64, Position, FixedState>,
    /// By artifact and peer, what those have that do not have all of it.
    partial: HashMap<u64, ChunksTold, FixedState>,
}

fn key(known: u32, peer: PeerIndex) -> u64 {
    u64::from(known) << 16 | u64::from(peer.0)
}

impl Tables {
    pub(super) fn new(channels: usize, hasher: &FixedState) -> Self {
        Self {
            channels,
            peers: Vec::new(),
            positions: HashMap::with_hasher(hasher.clone()),
            partial: HashMap::with_hasher(hasher.clone()),
        }
    }

    pub(super) fn add_peer(&mut self, peer: PeerIndex) {
        if self.peers.len() <= peer.at() {
            self.peers.resize_with(peer.at() + 1, Vec::new);
        }
        assert!(self.peers[peer.at()].is_empty(), "a peer is added once");
        self.peers[peer.at()].resize_with(self.channels, Table::default);
    }

    pub(super) fn remove_peer(&mut self, peer: PeerIndex) {
        self.peers[peer.at()] = Vec::new();
    }

    fn table(&mut self, peer: PeerIndex, channel: u16) -> &mut Table {
        work::count();
        &mut self.peers[peer.at()][channel as usize]
    }

    /// Where a peer advertises an artifact.
    fn position(&self, catalogue: &Catalogue, known: u32, peer: PeerIndex) -> Option<Position> {
        match catalogue.items[known].holders {
            Holders::Nobody => None,
            Holders::One(holder, position) => (holder == peer).then_some(position),
            Holders::Several => {
                let is_holder = catalogue.details(known).holders.contains(peer);
                is_holder.then(|| self.positions[&key(known, peer)])
            }
        }
    }

    /// Whether a change of `version` is newer than the slot's entry. Only then its artifact has to
    /// be examined.
    pub(super) fn is_news(&self, peer: PeerIndex, channel: u16, slot: Slot, version: u64) -> bool {
        let table = &self.peers[peer.at()][channel as usize].current;
        table.get(slot.0 as usize).is_none_or(|entry| entry.version < version)
    }

    /// Applies a change: the slot now holds `content`, an artifact and its hops, or nothing.
    ///
    /// # Errors
    /// If the artifact is in another slot, and the versions leave no room for its move. Nothing has
    /// changed then.
    pub(super) fn apply(
        &mut self,
        catalogue: &mut Catalogue,
        (peer, channel, slot): (PeerIndex, u16, Slot),
        version: u64,
        mut content: Option<(u32, u8, Have)>,
    ) -> Result<Applied, Fault> {
        let here = Position { age: Age::Current, slot };
        let held = content.and_then(|(known, ..)| self.position(catalogue, known, peer));
        let elsewhere = held.filter(|held| *held != here);
        let table = self.table(peer, channel);
        if table.entry(slot).version >= version {
            return Ok(Applied::Stale);
        }
        if let Some(Position { age: Age::Current, slot }) = elsewhere {
            let other = table.entry(slot).version;
            if other.abs_diff(version) < MOVE_VERSIONS {
                return Err(Fault::ArtifactInTwoSlots);
            }
            if other > version {
                // The artifact has left this slot meanwhile.
                content = None;
            }
        }
        let entry = table.entry(slot);
        entry.version = version;
        let was = entry.known;
        let was_awaited = core::mem::take(&mut entry.awaited);
        table.awaited -= u32::from(was_awaited);
        if let Some((known, hops, have)) = content
            && known == was
        {
            let has_changed = self.set_have(known, peer, have);
            let entry = self.table(peer, channel).entry(slot);
            let is_news = has_changed || entry.hops != hops;
            catalogue.note_hops(known, entry.hops, false);
            catalogue.note_hops(known, hops, true);
            entry.hops = hops;
            return Ok(Applied::Same { is_news });
        }
        let unlinked = (was != NOBODY).then(|| self.unlink(catalogue, (peer, channel), here));
        if let Some((known, hops, have)) = content {
            if let Some(elsewhere) = elsewhere {
                self.unlink(catalogue, (peer, channel), elsewhere);
            }
            self.link(catalogue, (peer, channel), slot, known, hops);
            self.set_have(known, peer, have);
        }
        Ok(Applied::Changed { unlinked, was_awaited })
    }

    fn link(
        &mut self,
        catalogue: &mut Catalogue,
        (peer, channel): (PeerIndex, u16),
        slot: Slot,
        known: u32,
        hops: u8,
    ) {
        let entry = self.table(peer, channel).entry(slot);
        (entry.known, entry.hops) = (known, hops);
        let position = Position { age: Age::Current, slot };
        let holders = &mut catalogue.items[known].holders;
        match *holders {
            Holders::Nobody => *holders = Holders::One(peer, position),
            Holders::One(first, its_position) => {
                *holders = Holders::Several;
                self.positions.insert(key(known, first), its_position);
                self.positions.insert(key(known, peer), position);
                let mut both = PeerSet::of(first);
                both.insert(peer);
                catalogue.details_mut(known).holders = both;
            }
            Holders::Several => {
                self.positions.insert(key(known, peer), position);
                catalogue.details_mut(known).holders.insert(peer);
            }
        }
        catalogue.note_hops(known, hops, true);
    }

    /// Empties an entry, and names the artifact that it held, which the peer does not advertise any
    /// more.
    fn unlink(
        &mut self,
        catalogue: &mut Catalogue,
        (peer, channel): (PeerIndex, u16),
        Position { age, slot }: Position,
    ) -> u32 {
        let entry = &mut self.table(peer, channel).entries(age)[slot.0 as usize];
        let (known, hops) = (core::mem::replace(&mut entry.known, NOBODY), entry.hops);
        self.set_have(known, peer, None);
        let holders = &mut catalogue.items[known].holders;
        let is_last = if *holders == Holders::Several {
            self.positions.remove(&key(known, peer));
            let several = &mut catalogue.details_mut(known).holders;
            several.remove(peer);
            several.is_empty()
        } else {
            true
        };
        if is_last {
            catalogue.items[known].holders = Holders::Nobody;
        }
        catalogue.note_hops(known, hops, false);
        known
    }

    /// The hops at which a holder advertises an artifact.
    fn hops(&self, catalogue: &Catalogue, known: u32, peer: PeerIndex) -> u8 {
        work::count();
        let Position { age, slot } = self.position(catalogue, known, peer).expect("a holder");
        let table = &self.peers[peer.at()][catalogue.items[known].channel as usize];
        let entries = if age == Age::Stale { &table.stale } else { &table.current };
        entries[slot.0 as usize].hops
    }

    /// What a slot of a peer holds in its present epoch.
    pub(super) fn held(&self, peer: PeerIndex, channel: u16, slot: Slot) -> Option<Held> {
        let table = &self.peers[peer.at()][channel as usize];
        table.current.get(slot.0 as usize).and_then(Held::of)
    }

    /// The slot in which a holder says in its present epoch that it publishes an artifact.
    pub(super) fn published_in(
        &self,
        catalogue: &Catalogue,
        known: u32,
        peer: PeerIndex,
    ) -> Option<Slot> {
        let position = self.position(catalogue, known, peer);
        let slot = position.filter(|position| position.age == Age::Current)?.slot;
        let table = &self.peers[peer.at()][catalogue.items[known].channel as usize];
        (table.current[slot.0 as usize].hops == 0).then_some(slot)
    }

    /// A peer is owed a receipt of a slot. False if it was already.
    pub(super) fn set_receipt_due(&mut self, peer: PeerIndex, channel: u16, slot: Slot) -> bool {
        let entry = self.table(peer, channel).entry(slot);
        !core::mem::replace(&mut entry.receipt_due, true)
    }

    /// What a slot holds of which a peer was owed a receipt.
    pub(super) fn take_receipt_due(
        &mut self,
        peer: PeerIndex,
        channel: u16,
        slot: Slot,
    ) -> Option<Held> {
        let entry = self.table(peer, channel).entry(slot);
        entry.receipt_due = false;
        Held::of(entry)
    }

    /// The chunks that a holder of an artifact tells of.
    pub(super) fn have(&self, known: u32, peer: PeerIndex) -> Have {
        self.partial.get(&key(known, peer)).copied()
    }

    /// Whether that is something else than before.
    fn set_have(&mut self, known: u32, peer: PeerIndex, have: Have) -> bool {
        match have {
            Some(have) => self.partial.insert(key(known, peer), have) != Some(have),
            // Most of the time nobody has a part.
            None if self.partial.is_empty() => false,
            None => self.partial.remove(&key(known, peer)).is_some(),
        }
    }

    /// The fewest hops from the publisher at which an artifact is advertised. Looks at each holder:
    /// for the one decision whether the artifact is relayed, not for updates.
    pub(super) fn nearest(&self, catalogue: &Catalogue, known: u32) -> Option<u8> {
        catalogue.holders(known).iter().map(|peer| self.hops(catalogue, known, peer)).min()
    }

    /// This node begins to relay an artifact at `hops`. Looks at each holder, as
    /// [`Tables::nearest`].
    pub(super) fn begin_relay(&self, catalogue: &mut Catalogue, known: u32, hops: u8) {
        catalogue.begin_relay(known, hops, self.count_nearer(catalogue, known, hops));
    }

    fn count_nearer(&self, catalogue: &Catalogue, known: u32, hops: u8) -> u16 {
        let is_nearer = |peer: &PeerIndex| self.hops(catalogue, known, *peer) < hops;
        catalogue.holders(known).iter().filter(is_nearer).count() as u16
    }

    /// A peer's new epoch begins: what it advertised becomes stale. Entries that were stale
    /// already, because the previous epoch ended too early to confirm them, stay stale where
    /// nothing newer was received. The artifacts of the others go to `unlinked`.
    pub(super) fn begin_epoch(
        &mut self,
        catalogue: &mut Catalogue,
        (peer, channel): (PeerIndex, u16),
        unlinked: &mut Vec<u32>,
    ) {
        let table = self.table(peer, channel);
        (table.awaited, table.snapshot_seen) = (0, false);
        let length = table.current.len().max(table.stale.len());
        table.stale.resize(length, Entry::EMPTY);
        for at in 0..table.current.len() {
            let stale = Position { age: Age::Stale, slot: Slot(at as u32) };
            let table = self.table(peer, channel);
            let was = core::mem::replace(&mut table.current[at], Entry::EMPTY);
            if was.version > 0 && table.stale[at].known != NOBODY {
                unlinked.push(self.unlink(catalogue, (peer, channel), stale));
            }
            if was.known != NOBODY {
                self.table(peer, channel).stale[at] = was;
                let holders = &mut catalogue.items[was.known].holders;
                match holders {
                    Holders::One(_, position) => *position = stale,
                    Holders::Several => {
                        self.positions.insert(key(was.known, peer), stale);
                    }
                    Holders::Nobody => unreachable!("this peer holds it"),
                }
            }
        }
    }

    /// Takes the snapshot of a peer's epoch. False if there was one already.
    pub(super) fn take_snapshot(
        &mut self,
        peer: PeerIndex,
        channel: u16,
        live: LiveSlots<'_>,
    ) -> bool {
        let table = self.table(peer, channel);
        if core::mem::replace(&mut table.snapshot_seen, true) {
            return false;
        }
        for slot in live.iter() {
            let entry = table.entry(slot);
            if entry.version == 0 {
                entry.awaited = true;
                table.awaited += 1;
            }
        }
        true
    }

    /// Whether an update of every slot in the snapshot has been received, so that the remaining
    /// stale entries are obsolete.
    pub(super) fn is_confirmed(&self, peer: PeerIndex, channel: u16) -> bool {
        let table = &self.peers[peer.at()][channel as usize];
        table.snapshot_seen && table.awaited == 0
    }

    /// Takes all entries of an age out of a peer's table; their artifacts go to `unlinked`.
    pub(super) fn sweep(
        &mut self,
        catalogue: &mut Catalogue,
        (peer, channel): (PeerIndex, u16),
        age: Age,
        unlinked: &mut Vec<u32>,
    ) {
        for at in 0..self.table(peer, channel).entries(age).len() {
            if self.table(peer, channel).entries(age)[at].known != NOBODY {
                let position = Position { age, slot: Slot(at as u32) };
                unlinked.push(self.unlink(catalogue, (peer, channel), position));
            }
        }
        self.table(peer, channel).entries(age).clear();
    }

    /// Whether a peer has stale entries of a channel.
    pub(super) fn has_stale(&self, peer: PeerIndex, channel: u16) -> bool {
        !self.peers[peer.at()][channel as usize].stale.is_empty()
    }

    /// The artifacts that a peer advertises in a channel.
    pub(super) fn advertised(&self, peer: PeerIndex, channel: u16) -> impl Iterator<Item = u32> {
        let table = &self.peers[peer.at()][channel as usize];
        let entries = table.current.iter().chain(&table.stale);
        entries.map(|entry| entry.known).filter(|known| *known != NOBODY)
    }

    /// The slots of a peer that hold an artifact, as received in its present epoch.
    pub(super) fn slots(&self, peer: PeerIndex, channel: u16) -> impl Iterator<Item = (Slot, u32)> {
        let entries = self.peers[peer.at()][channel as usize].current.iter().enumerate();
        let filled = entries.filter(|(_, entry)| entry.known != NOBODY);
        filled.map(|(at, entry)| (Slot(at as u32), entry.known))
    }

    pub(super) fn assert_invariants(&self, catalogue: &Catalogue) {
        let mut linked = 0;
        for (at, tables) in self.peers.iter().enumerate() {
            let peer = PeerIndex(at as u16);
            for (channel, table) in tables.iter().enumerate() {
                let awaited = table.current.iter().filter(|entry| entry.awaited).count();
                assert_eq!(awaited as u32, table.awaited);
                for known in self.advertised(peer, channel as u16) {
                    assert_eq!(catalogue.items[known].channel as usize, channel);
                    assert!(catalogue.holds(known, peer));
                    linked += 1;
                }
                if self.is_confirmed(peer, channel as u16) {
                    assert!(table.stale.iter().all(|entry| entry.known == NOBODY), "invariant 4");
                }
            }
        }
        let (mut held, mut mapped, mut partial) = (0, 0, 0);
        for known in catalogue.items.indices() {
            let item = &catalogue.items[known];
            let holders = catalogue.holders(known);
            mapped += if item.holders == Holders::Several { holders.count() as usize } else { 0 };
            for peer in holders.iter() {
                let position = self.position(catalogue, known, peer);
                let Position { age, slot } = position.expect("where a holder has it");
                let table = &self.peers[peer.at()][item.channel as usize];
                let entries = if age == Age::Stale { &table.stale } else { &table.current };
                assert_eq!(entries[slot.0 as usize].known, known);
                let is_partial = self.partial.contains_key(&key(known, peer));
                partial += usize::from(is_partial);
                held += 1;
            }
            let relay_hops = catalogue.relay_hops(known);
            let nearer = self.count_nearer(catalogue, known, relay_hops);
            assert!(!item.is_relayed || nearer == catalogue.details(known).nearer);
        }
        assert_eq!(mapped, self.positions.len(), "an artifact is in one entry of a peer");
        assert_eq!(partial, self.partial.len(), "who has a part advertises it");
        assert_eq!(linked, held, "sets hold what tables hold");
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::work;
    use crate::artifact::Artifact;
    use crate::broadcast::{Broadcast, Output, SendBuffer};
    use crate::config::{ChannelConfig, Config, Relay};
    use crate::id::{ChannelId, NodeId, PeerIndex, Slot, Version};
    use crate::time::Time;
    use crate::wire::Update;

    const CHANNEL: ChannelId = ChannelId(1);
    const NOW: Time = Time(1);

    fn machine(slots: u32, peers: u16) -> Broadcast {
        let mut channel = ChannelConfig::new(CHANNEL).relaying(Relay::Automatic, 4);
        (channel.slots_max, channel.relay_hops_max) = (slots, 9);
        let mut config = Config::new([channel]);
        config.peers_max = peers;
        let mut machine =
            Broadcast::new(&config, NodeId([0; 32]), 7).expect("a valid configuration");
        for peer in (0..peers).map(PeerIndex) {
            machine.add_peer(peer, NodeId([peer.0 as u8; 32]));
            machine.peer_up(NOW, peer, |_| true);
        }
        machine
    }

    fn settle(machine: &mut Broadcast) {
        while !matches!(machine.poll(NOW), Output::Idle { .. }) {}
    }

    /// The steps that an update takes.
    fn cost(machine: &mut Broadcast, peer: u16, update: &Update<'_>) -> u64 {
        work::of(|| {
            let taken = machine.handle_update(NOW, PeerIndex(peer), CHANNEL, update);
            taken.expect("no fault");
            settle(machine);
        })
    }

    fn advert(artifact: &Artifact, slot: u32, version: u64, hops: u8) -> Update<'static> {
        let (slot, version, advert) = (Slot(slot), Version(version), artifact.advert());
        Update::Advert { slot, version, hops, streamed: false, spread: false, advert }
    }

    fn clear(slot: u32, version: u64) -> Update<'static> {
        Update::Clear { slot: Slot(slot), version: Version(version) }
    }

    fn artifact(length: usize) -> Artifact {
        Artifact::new(vec![7; length].into(), b"f16").expect("within the limits")
    }

    /// One member advertises one artifact in all of its slots, upwards, downwards and upwards again,
    /// and clears them: the most that one of the updates took.
    fn dearest_of(slots: u32) -> u64 {
        let (mut machine, block) = (machine(slots, 2), artifact(100_000));
        let mut version = 0;
        let mut dearest = 0;
        let up_and_down = (0..slots).chain((0..slots).rev()).chain(0..slots);
        for slot in up_and_down {
            version += 2;
            dearest = dearest.max(cost(&mut machine, 0, &advert(&block, slot, version, 0)));
        }
        for slot in 0..slots {
            version += 1;
            dearest = dearest.max(cost(&mut machine, 0, &clear(slot, version)));
        }
        assert_eq!(machine.known_count(), 0);
        dearest
    }

    #[test]
    fn f16_an_update_costs_the_same_however_many_slots_have_its_artifact() {
        assert_eq!(dearest_of(8), dearest_of(4096));
        assert!(dearest_of(8) < 20);
    }

    /// What the updates of the last of so many holders take, of an artifact that is being fetched, or
    /// was delivered and is relayed.
    fn costs_of_last(peers: u16, is_relayed: bool) -> [u64; 5] {
        let (mut machine, last) = (machine(16, peers), peers - 1);
        let block = artifact(if is_relayed { 100 } else { 100_000 });
        let (slot, version) = (Slot(0), Version(1));
        let (metadata, bytes) = (block.metadata(), block.bytes());
        let push = Update::Push { slot, version, hops: 0, key: None, metadata, bytes };
        let first = if is_relayed { push } else { advert(&block, 0, 1, 0) };
        cost(&mut machine, 0, &first);
        let request = machine.poll_send(NOW, PeerIndex(0), 1000, &mut SendBuffer::new());
        assert!(request.is_some(), "the request, or a snapshot");
        for peer in 1..last {
            cost(&mut machine, peer, &advert(&block, 0, 1, 0));
        }
        let mut cost = |update| cost(&mut machine, last, &update);
        let costs = [
            cost(advert(&block, 0, 1, 0)),
            cost(advert(&block, 0, 2, 7)),
            cost(advert(&block, 0, 3, 0)),
            cost(advert(&block, 1, 5, 0)),
            cost(clear(1, 6)),
        ];
        assert_eq!(machine.active_count(CHANNEL), u32::from(is_relayed));
        costs
    }

    #[test]
    fn f16_an_update_costs_the_same_however_many_peers_have_its_artifact() {
        for is_relayed in [false, true] {
            assert_eq!(costs_of_last(4, is_relayed), costs_of_last(400, is_relayed));
            assert!(costs_of_last(4, is_relayed).iter().all(|cost| *cost < 20));
        }
    }
}
