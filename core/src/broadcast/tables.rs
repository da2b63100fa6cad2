//! What each peer advertises: its slot table of each channel, as far as it has been received.
//!
//! The entries that hold the same artifact form a ring-free doubly linked list that starts at the
//! artifact, so holders are found, added and removed without a table of their own. When a peer's
//! new epoch begins, its entries become *stale*: they count as advertised until the epoch's
//! snapshot has named the live slots and an update of each of those has been received. Invariants
//! 4, 5, 8.

use alloc::vec::Vec;

use super::catalogue::Catalogue;
use super::link::{Age, Link};
use crate::id::{PeerIndex, Slot};
use crate::wire::LiveSlots;

/// No artifact.
const NOBODY: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Entry {
    version: u64,
    /// The artifact in the slot, or `NOBODY`.
    known: u32,
    prev: Link,
    next: Link,
    hops: u8,
    /// The snapshot named the slot, and no update of it has been received yet.
    awaited: bool,
}

impl Entry {
    const EMPTY: Self = Self {
        version: 0,
        known: NOBODY,
        prev: Link::NONE,
        next: Link::NONE,
        hops: 0,
        awaited: false,
    };
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
    /// The slot holds what it held, only the version grew.
    Same,
    /// The slot has changed; the artifact that it held has one entry less.
    Changed { unlinked: Option<u32> },
}

#[derive(Debug)]
pub(super) struct Tables {
    channels: usize,
    /// Per peer, then per channel; empty for a peer that is no member.
    peers: Vec<Vec<Table>>,
}

impl Tables {
    pub(super) fn new(channels: usize) -> Self {
        Self { channels, peers: Vec::new() }
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
        &mut self.peers[peer.at()][channel as usize]
    }

    fn entry(&mut self, channel: u16, link: Link) -> &mut Entry {
        let (peer, age, slot) = link.parts();
        &mut self.table(peer, channel).entries(age)[slot.0 as usize]
    }

    /// Whether a change of `version` is newer than the slot's entry. Only then its artifact has to
    /// be examined.
    pub(super) fn is_news(&self, peer: PeerIndex, channel: u16, slot: Slot, version: u64) -> bool {
        let table = &self.peers[peer.at()][channel as usize].current;
        table.get(slot.0 as usize).is_none_or(|entry| entry.version < version)
    }

    /// Applies a change: the slot now holds `content`, an artifact and its hops, or nothing.
    pub(super) fn apply(
        &mut self,
        catalogue: &mut Catalogue,
        (peer, channel, slot): (PeerIndex, u16, Slot),
        version: u64,
        content: Option<(u32, u8)>,
    ) -> Applied {
        let table = self.table(peer, channel);
        let entry = table.entry(slot);
        if entry.version >= version {
            return Applied::Stale;
        }
        entry.version = version;
        let was = entry.known;
        let awaited = core::mem::take(&mut entry.awaited);
        if let Some((known, hops)) = content
            && known == was
        {
            entry.hops = hops;
            table.awaited -= u32::from(awaited);
            return Applied::Same;
        }
        table.awaited -= u32::from(awaited);
        let link = Link::new(peer, Age::Current, slot);
        let unlinked = (was != NOBODY).then(|| self.unlink(catalogue, channel, link));
        if let Some((known, hops)) = content {
            self.link(catalogue, channel, link, known, hops);
        }
        Applied::Changed { unlinked }
    }

    fn link(&mut self, catalogue: &mut Catalogue, channel: u16, link: Link, known: u32, hops: u8) {
        let next = core::mem::replace(&mut catalogue.items[known].entries, link);
        let entry = self.entry(channel, link);
        (entry.known, entry.hops, entry.prev, entry.next) = (known, hops, Link::NONE, next);
        if next != Link::NONE {
            self.entry(channel, next).prev = link;
        }
    }

    /// Takes an entry out of its artifact's list, and names the artifact.
    fn unlink(&mut self, catalogue: &mut Catalogue, channel: u16, link: Link) -> u32 {
        let entry = self.entry(channel, link);
        let known = core::mem::replace(&mut entry.known, NOBODY);
        let (prev, next) = (entry.prev, entry.next);
        (entry.prev, entry.next) = (Link::NONE, Link::NONE);
        match prev {
            Link::NONE => catalogue.items[known].entries = next,
            prev => self.entry(channel, prev).next = next,
        }
        if next != Link::NONE {
            self.entry(channel, next).prev = prev;
        }
        known
    }

    /// The peers that advertise an artifact, with their hops. A peer with the artifact in several
    /// slots is returned once for each.
    pub(super) fn holders(
        &self,
        catalogue: &Catalogue,
        known: u32,
    ) -> impl Iterator<Item = (PeerIndex, u8)> {
        let known = &catalogue.items[known];
        let (channel, mut link) = (known.channel as usize, known.entries);
        core::iter::from_fn(move || {
            if link == Link::NONE {
                return None;
            }
            let (peer, age, slot) = link.parts();
            let table = &self.peers[peer.at()][channel];
            let entries = if age == Age::Stale { &table.stale } else { &table.current };
            let entry = &entries[slot.0 as usize];
            link = entry.next;
            Some((peer, entry.hops))
        })
    }

    pub(super) fn holds(&self, catalogue: &Catalogue, known: u32, peer: PeerIndex) -> bool {
        self.holders(catalogue, known).any(|(holder, _)| holder == peer)
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
            let slot = Slot(at as u32);
            let current = Link::new(peer, Age::Current, slot);
            let stale = Link::new(peer, Age::Stale, slot);
            let table = self.table(peer, channel);
            let Entry { version, known, hops, .. } = table.current[at];
            (table.current[at].version, table.current[at].awaited) = (0, false);
            if version > 0 && table.stale[at].known != NOBODY {
                unlinked.push(self.unlink(catalogue, channel, stale));
            }
            if known != NOBODY {
                self.unlink(catalogue, channel, current);
                self.link(catalogue, channel, stale, known, hops);
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
                let link = Link::new(peer, age, Slot(at as u32));
                unlinked.push(self.unlink(catalogue, channel, link));
            }
        }
        self.table(peer, channel).entries(age).clear();
    }

    /// Whether a peer has stale entries of a channel.
    pub(super) fn has_stale(&self, peer: PeerIndex, channel: u16) -> bool {
        !self.peers[peer.at()][channel as usize].stale.is_empty()
    }

    /// The artifacts that a peer advertises in a channel. One in several slots is returned once for
    /// each.
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
                    assert!(self.holds(catalogue, known, peer));
                    linked += 1;
                }
                if self.is_confirmed(peer, channel as u16) {
                    assert!(table.stale.iter().all(|entry| entry.known == NOBODY), "invariant 4");
                }
            }
        }
        let listed: usize =
            catalogue.items.indices().map(|known| self.holders(catalogue, known).count()).sum();
        assert_eq!(linked, listed, "lists hold what tables hold");
    }
}
