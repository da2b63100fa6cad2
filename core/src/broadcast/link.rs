//! Addresses of entries in the peers' tables, by which the entries of one artifact form a linked
//! list.

use crate::config::{PEERS_LIMIT, SLOTS_LIMIT};
use crate::id::{PeerIndex, Slot};

/// The address of an entry in a peer's table (of the channel in question), or none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Link(u32);

const STALE: u32 = 1 << 31;
const _: () = assert!(PEERS_LIMIT.is_power_of_two() && SLOTS_LIMIT <= 1 << 16);

impl Link {
    pub(super) const NONE: Self = Self(u32::MAX);

    pub(super) fn new(peer: PeerIndex, age: Age, slot: Slot) -> Self {
        let age = if age == Age::Stale { STALE } else { 0 };
        Self(age | u32::from(peer.0) << 16 | slot.0)
    }

    pub(super) fn parts(self) -> (PeerIndex, Age, Slot) {
        let age = if self.0 & STALE != 0 { Age::Stale } else { Age::Current };
        (PeerIndex((self.0 >> 16) as u16 & (PEERS_LIMIT - 1)), age, Slot(self.0 & 0xffff))
    }
}

/// Which epoch of the peer an entry was heard in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Age {
    Current,
    Stale,
}
