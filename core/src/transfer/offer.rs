//! Offers: what a member can be asked for of a wanted artifact.

use super::backlog::{Rank, Ranked};
use super::chunk_set::ChunksTold;
use super::queue::Segment;
use crate::arena::{Chain, Links};
use crate::id::PeerIndex;
use crate::time::Time;

/// The chunks that a member holds of an artifact; `None` if all.
pub(crate) type Have = Option<ChunksTold>;

/// Where an offer is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// In no list: there is nothing to be asked for, or the member is not connected.
    Idle,
    /// In a queue of its holder.
    Queued { priority: usize, segment: Segment },
    /// Not to be asked before this time.
    Resting(Time),
    /// Waits until its holder is answerable for less.
    HeldBack,
}

/// See the module's head.
#[derive(Debug)]
pub(super) struct Offer {
    pub(super) transfer: u32,
    pub(super) peer: PeerIndex,
    pub(super) have: Have,
    pub(super) place: Place,
    /// Requests to the member for the artifact that are under way.
    pub(super) live: u16,
    /// The first chunk that the member has sent unasked.
    pub(super) stripe: Option<u32>,
    /// That of the artifact.
    rank: Option<Rank>,
    place_links: Links,
    transfer_links: Links,
}

impl Offer {
    pub(super) const fn new(
        (transfer, rank): (u32, Option<Rank>),
        peer: PeerIndex,
        have: Have,
    ) -> Self {
        let (place_links, transfer_links) = (Links::UNLINKED, Links::UNLINKED);
        let (place, live, stripe) = (Place::Idle, 0, None);
        Self { transfer, peer, have, place, live, stripe, rank, place_links, transfer_links }
    }
}

impl Ranked for Offer {
    fn rank(&self) -> Option<Rank> {
        self.rank
    }
}

/// The list that an offer is in because of its [`Place`].
#[derive(Debug)]
pub(super) struct PlaceChain;

impl Chain<Offer> for PlaceChain {
    fn links(offer: &mut Offer) -> &mut Links {
        &mut offer.place_links
    }
}

/// The offers of one artifact.
#[derive(Debug)]
pub(super) struct TransferChain;

impl Chain<Offer> for TransferChain {
    fn links(offer: &mut Offer) -> &mut Links {
        &mut offer.transfer_links
    }
}
