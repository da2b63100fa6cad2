//! The artifacts that this node knows of: advertised by some member, or expired but not yet
//! reported as such. One arena for all channels, so that lists may run through all of them.

use alloc::vec::Vec;
use foldhash::quality::FixedState;

use super::IdMap;
use super::peer_set::PeerSet;
use super::{Filter, Priority};
use crate::arena::{Arena, Chain, Links};
use crate::artifact::{Advert, Artifact};
use crate::id::{ArtifactId, NodeId, PeerIndex, Slot};

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

#[derive(Debug)]
pub(super) struct Known {
    pub(super) id: ArtifactId,
    pub(super) advert: Advert,
    /// The channel's index in the configuration.
    pub(super) channel: u16,
    pub(super) state: State,
    /// The peers that advertise it, see [`tables`](super::tables).
    pub(super) holders: PeerSet,
    /// The hops of this node's relay of it; 0 if there is none.
    pub(super) relay_hops: u8,
    /// The number of holders nearer to the publisher than this node's relay. Counting them again
    /// would cost a look at all holders for each update.
    pub(super) nearer: u16,
    /// The bytes, while [`State::Ready`].
    pub(super) artifact: Option<Artifact>,
    /// The member that sent the bytes. It may have left since.
    pub(super) from: Option<NodeId>,
    /// This node's own slot with it.
    pub(super) own_slot: Option<Slot>,
    /// The application has taken its delivery.
    pub(super) delivered: bool,
    /// It had expired and is advertised again. The first expiry is still to be reported to the
    /// application.
    pub(super) expiry_due: bool,
    /// Who withdrew it since it was delivered, not yet reported.
    pub(super) withdrawn: PeerSet,
    /// In the channel's list of events.
    pub(super) has_event: bool,
    /// In the channel's list of pending artifacts.
    pub(super) is_pending: bool,
    event_links: Links,
    order_links: Links,
    pending_links: Links,
}

impl Known {
    /// This node does not relay it any more.
    pub(super) fn end_relay(&mut self) {
        (self.relay_hops, self.nearer) = (0, 0);
    }
}

/// The list of a channel's artifacts with something to report.
#[derive(Debug)]
pub(super) struct EventChain;

impl Chain<Known> for EventChain {
    fn links(known: &mut Known) -> &mut Links {
        &mut known.event_links
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

/// The list of all artifacts with something to report, of all channels.
#[derive(Debug)]
pub(super) struct OrderChain;

impl Chain<Known> for OrderChain {
    fn links(known: &mut Known) -> &mut Links {
        &mut known.order_links
    }
}

pub(super) struct Catalogue {
    pub(super) items: Arena<Known>,
    by_id: Vec<IdMap<u32>>,
}

impl Catalogue {
    pub(super) fn new(channels: usize, hasher: &FixedState) -> Self {
        let by_id = (0..channels).map(|_| IdMap::with_hasher(hasher.clone())).collect();
        Self { items: Arena::new(), by_id }
    }

    pub(super) fn find(&self, channel: u16, id: &ArtifactId) -> Option<u32> {
        self.by_id[channel as usize].get(id).copied()
    }

    pub(super) fn insert(&mut self, channel: u16, id: ArtifactId, advert: Advert) -> u32 {
        let known = self.items.insert(Known {
            id,
            advert,
            channel,
            state: State::Later,
            holders: PeerSet::default(),
            relay_hops: 0,
            nearer: 0,
            artifact: None,
            from: None,
            own_slot: None,
            delivered: false,
            expiry_due: false,
            withdrawn: PeerSet::default(),
            has_event: false,
            is_pending: false,
            event_links: Links::UNLINKED,
            order_links: Links::UNLINKED,
            pending_links: Links::UNLINKED,
        });
        let was_free = self.by_id[channel as usize].insert(id, known).is_none();
        assert!(was_free, "an artifact is known once");
        known
    }

    /// Whether a peer advertises an artifact.
    pub(super) fn holds(&self, known: u32, peer: PeerIndex) -> bool {
        self.items[known].holders.contains(peer)
    }

    pub(super) fn remove(&mut self, known: u32) -> Known {
        let known = self.items.remove(known);
        self.by_id[known.channel as usize].remove(&known.id);
        known
    }
}

/// The default filter: everything is wanted.
pub(super) struct FetchAll;

impl Filter for FetchAll {
    fn decide(&mut self, _: &super::Candidate<'_>) -> super::Decision {
        super::Decision::Fetch(Priority::Normal)
    }
}
