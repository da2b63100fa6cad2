//! The artifacts that this node knows of: advertised by some member, or expired but not yet
//! reported as such. One arena for all channels, so that lists may run through all of them.
//!
//! An artifact is in two parts. [`Known`] is what every update and event looks at, and short. What is
//! needed of some artifacts, or once in a life, is in its [`Details`] at the same index, which are
//! not touched when an artifact leaves.

use alloc::vec::Vec;
use core::hash::BuildHasher;
use foldhash::quality::FixedState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::peer_set::PeerSet;
use crate::arena::{Arena, Chain, Links, grow_by_quarter};
use crate::artifact::{Advert, Artifact};
use crate::id::{Arrival, ArtifactId, NodeId, PeerIndex, Slot};

/// The state of a known artifact on its way to the application.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// The filter has postponed its decision and is asked again.
    Later,
    /// The filter has rejected it.
    Dropped,
    /// To be fetched: the transfer with this index.
    Wanted(u32),
    /// The bytes are complete and wait for the application.
    Ready,
    /// The application has the bytes.
    Done,
}

impl State {
    /// Neither complete nor rejected: the filter may decide about it again.
    pub(super) fn is_pending(self) -> bool {
        matches!(self, Self::Later | Self::Wanted(_))
    }
}

/// The place of an artifact in a peer's table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Position {
    pub(super) age: Age,
    pub(super) slot: Slot,
}

/// Which epoch of the peer an entry was heard in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Age {
    Current,
    Stale,
}

/// The peers that advertise an artifact, see [`tables`](super::tables).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Holders {
    Nobody,
    /// One peer, as on every channel that does not relay.
    One(PeerIndex, Position),
    /// Those in [`Details::holders`]. There were several once, and there is one at least.
    Several,
}

/// What is looked at for every update and event.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) id: ArtifactId,
    pub(super) state: State,
    pub(super) holders: Holders,
    /// This node's own slot with it.
    pub(super) own_slot: Option<Slot>,
    event_links: Links,
    order_links: Links,
    pending_links: Links,
    /// The channel's index in the configuration.
    pub(super) channel: u16,
    /// The application has taken its delivery.
    pub(super) delivered: bool,
    /// It had expired and is advertised again. The first expiry is still to be reported to the
    /// application.
    pub(super) expiry_due: bool,
    /// Some of those that withdrew it are not reported yet: [`Details::withdrawn`].
    pub(super) has_withdrawn: bool,
    /// In the channel's list of events.
    pub(super) has_event: bool,
    /// In the channel's list of pending artifacts.
    pub(super) is_pending: bool,
    /// This node relays it: [`Details::relay_hops`].
    pub(super) is_relayed: bool,
    /// This node publishes it, and tells itself so: it counts among those that advertise it.
    pub(super) is_told_own: bool,
}

const _: () = assert!(size_of::<Option<Known>>() <= 96, "an update looks at two cache lines of it");

impl Known {
    /// Nobody advertises it.
    pub(super) fn is_gone(&self) -> bool {
        self.holders == Holders::Nobody && !self.is_told_own
    }
}

/// What is looked at less often. It means something only as far as [`Known`] says so.
#[derive(Debug, Default)]
pub(super) struct Details {
    /// What is advertised, while it is pending, and until it is complete. An artifact that was pushed
    /// is complete at once.
    pub(super) advert: Option<Advert>,
    /// The bytes, while [`State::Ready`].
    pub(super) artifact: Option<Artifact>,
    /// The member that sent the bytes. It may have left since.
    pub(super) from: Option<NodeId>,
    /// The input since which there is something to report. With [`Known::has_event`].
    pub(super) reported_at: Arrival,
    /// The bytes are those of this node's outbox, which counts them. With `artifact`.
    pub(super) is_of_outbox: bool,
    /// With [`Holders::Several`].
    pub(super) holders: PeerSet,
    /// Who withdrew it since it was delivered, not yet reported. With [`Known::has_withdrawn`].
    pub(super) withdrawn: PeerSet,
    /// This node did, too.
    pub(super) is_withdrawn_here: bool,
    /// The hops of this node's relay of it. With [`Known::is_relayed`].
    pub(super) relay_hops: u8,
    /// The number of holders nearer to the publisher than this node's relay. Counting them again
    /// would cost a look at all holders for each update.
    pub(super) nearer: u16,
}

/// The list of a channel's artifacts with something to report.
#[derive(Debug)]
pub(super) struct EventChain;

impl Chain<Known> for EventChain {
    fn links(known: &mut Known) -> &mut Links {
        &mut known.event_links
    }
}

/// The list of all artifacts with something to report, of all channels.
#[derive(Debug)]
pub(super) struct OrderChain;

impl Chain<Known> for OrderChain {
    fn links(known: &mut Known) -> &mut Links {
        &mut known.order_links
    }
}

/// The list of a channel's pending artifacts: neither complete nor rejected, so that the filter may
/// decide about them again.
#[derive(Debug)]
pub(super) struct PendingChain;

impl Chain<Known> for PendingChain {
    fn links(known: &mut Known) -> &mut Links {
        &mut known.pending_links
    }
}

pub(super) struct Catalogue {
    pub(super) items: Arena<Known>,
    /// At the indices of `items`.
    details: Vec<Details>,
    /// Per channel: the items, by their ids, which are read where they are.
    by_id: Vec<HashTable<u32>>,
    hasher: FixedState,
}

impl Catalogue {
    pub(super) fn new(channels: usize, hasher: &FixedState) -> Self {
        Self {
            items: Arena::new(),
            details: Vec::new(),
            by_id: (0..channels).map(|_| HashTable::new()).collect(),
            hasher: hasher.clone(),
        }
    }

    pub(super) fn find(&self, channel: u16, id: &ArtifactId) -> Option<u32> {
        let hash = self.hasher.hash_one(id);
        self.by_id[channel as usize].find(hash, |known| self.items[*known].id == *id).copied()
    }

    /// The artifact of this id, and whether it was known before.
    pub(super) fn find_or_insert(&mut self, channel: u16, id: ArtifactId) -> (u32, bool) {
        let (items, hasher) = (&mut self.items, &self.hasher);
        let is_it = |known: &u32| items[*known].id == id;
        let rehash = |known: &u32| hasher.hash_one(items[*known].id);
        let place = match self.by_id[channel as usize].entry(hasher.hash_one(id), is_it, rehash) {
            Entry::Occupied(found) => return (*found.get(), true),
            Entry::Vacant(place) => place,
        };
        let known = items.insert(Known {
            id,
            state: State::Later,
            holders: Holders::Nobody,
            own_slot: None,
            event_links: Links::UNLINKED,
            order_links: Links::UNLINKED,
            pending_links: Links::UNLINKED,
            channel,
            delivered: false,
            expiry_due: false,
            has_withdrawn: false,
            has_event: false,
            is_pending: false,
            is_relayed: false,
            is_told_own: false,
        });
        place.insert(known);
        if self.details.len() <= known as usize {
            grow_by_quarter(&mut self.details);
            self.details.resize_with(known as usize + 1, Details::default);
        }
        (known, false)
    }

    pub(super) fn details(&self, known: u32) -> &Details {
        &self.details[known as usize]
    }

    pub(super) fn details_mut(&mut self, known: u32) -> &mut Details {
        &mut self.details[known as usize]
    }

    /// What is advertised of an artifact that is pending, or was completed by a chunk just now.
    pub(super) fn advert(&self, known: u32) -> &Advert {
        self.details(known).advert.as_ref().expect("told of, and not pushed")
    }

    /// Whether a peer advertises an artifact.
    pub(super) fn holds(&self, known: u32, peer: PeerIndex) -> bool {
        match self.items[known].holders {
            Holders::Nobody => false,
            Holders::One(holder, _) => holder == peer,
            Holders::Several => self.details(known).holders.contains(peer),
        }
    }

    /// The peers that advertise an artifact.
    pub(super) fn holders(&self, known: u32) -> PeerSet {
        match self.items[known].holders {
            Holders::Nobody => PeerSet::default(),
            Holders::One(holder, _) => PeerSet::of(holder),
            Holders::Several => self.details(known).holders,
        }
    }

    /// The hops of this node's relay of an artifact; 0 if there is none.
    pub(super) fn relay_hops(&self, known: u32) -> u8 {
        if self.items[known].is_relayed { self.details(known).relay_hops } else { 0 }
    }

    /// This node relays an artifact at `hops` from now on; `nearer` holders are nearer to its publisher.
    pub(super) fn begin_relay(&mut self, known: u32, hops: u8, nearer: u16) {
        self.items[known].is_relayed = true;
        let details = self.details_mut(known);
        (details.relay_hops, details.nearer) = (hops, nearer);
    }

    /// This node does not relay it any more.
    pub(super) fn end_relay(&mut self, known: u32) {
        self.items[known].is_relayed = false;
    }

    /// Counts a holder at `hops` in, or out, if it is nearer to the publisher than this node's relay.
    pub(super) fn note_hops(&mut self, known: u32, hops: u8, is_in: bool) {
        if !self.items[known].is_relayed {
            return;
        }
        let details = self.details_mut(known);
        if hops < details.relay_hops {
            match is_in {
                true => details.nearer += 1,
                false => details.nearer -= 1,
            }
        }
    }

    /// A peer does not count any more among those that withdrew an artifact and are to be reported.
    pub(super) fn forget_withdrawn(&mut self, known: u32, peer: PeerIndex) {
        if self.items[known].has_withdrawn {
            let details = self.details_mut(known);
            details.withdrawn.remove(peer);
            let has_more = details.is_withdrawn_here || !details.withdrawn.is_empty();
            self.items[known].has_withdrawn = has_more;
        }
    }

    /// This node does not count any more among those that withdrew an artifact. True if it did.
    pub(super) fn forget_withdrawn_here(&mut self, known: u32) -> bool {
        if !self.items[known].has_withdrawn {
            return false;
        }
        let details = self.details_mut(known);
        let was_withdrawn = core::mem::take(&mut details.is_withdrawn_here);
        let has_more = !details.withdrawn.is_empty();
        self.items[known].has_withdrawn = has_more;
        was_withdrawn
    }

    /// Those that withdrew an artifact are not to be reported one by one.
    pub(super) fn forget_all_withdrawn(&mut self, known: u32) {
        if core::mem::take(&mut self.items[known].has_withdrawn) {
            let details = self.details_mut(known);
            (details.withdrawn, details.is_withdrawn_here) = (PeerSet::default(), false);
        }
    }

    /// A peer that withdrew an artifact is to be reported; without one, this node.
    pub(super) fn note_withdrawn(&mut self, known: u32, by: Option<PeerIndex>) {
        self.items[known].has_withdrawn = true;
        let details = self.details_mut(known);
        match by {
            Some(peer) => details.withdrawn.insert(peer),
            None => details.is_withdrawn_here = true,
        }
    }

    /// Takes out an artifact, and names this node's own slot with it.
    pub(super) fn remove(&mut self, known: u32) -> Option<Slot> {
        let Known { id, channel, own_slot, .. } = self.items.remove(known);
        let hash = self.hasher.hash_one(id);
        let found = self.by_id[channel as usize].find_entry(hash, |at| *at == known);
        let Ok(found) = found else { unreachable!("an item is in its channel's index") };
        found.remove();
        own_slot
    }
}
