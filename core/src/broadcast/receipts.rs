//! Receipts that are owed to publishers: that this node has all of what one of them advertises, or that
//! it does not want it. See [`Coverage`](super::Coverage).
//!
//! Noted is only of which slot something has to be said. What that is, is read off the tables when it is
//! sent: a slot that has changed meanwhile is owed nothing. Invariant 8.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::catalogue::State;
use super::inbox::Inbox;
use crate::id::{PeerIndex, Slot, Version};

/// Channels and slots of a peer, each at most once: that is kept in its table.
type Queue = VecDeque<(u16, Slot)>;

#[derive(Debug, Default)]
pub(super) struct Receipts {
    /// By peer.
    queues: Vec<Queue>,
}

impl Receipts {
    fn push(&mut self, peer: PeerIndex, channel: u16, slot: Slot) {
        if self.queues.len() <= peer.at() {
            self.queues.resize_with(peer.at() + 1, Queue::new);
        }
        self.queues[peer.at()].push_back((channel, slot));
    }

    /// A peer's tables begin anew.
    pub(super) fn clear(&mut self, peer: PeerIndex) {
        if let Some(queue) = self.queues.get_mut(peer.at()) {
            queue.clear();
        }
    }

    /// Whether a peer may have to be sent some.
    pub(super) fn has_some(&self, peer: PeerIndex) -> bool {
        self.queues.get(peer.at()).is_some_and(|queue| !queue.is_empty())
    }
}

/// What is said of a slot.
pub(super) struct Receipt {
    pub(super) channel: u16,
    pub(super) slot: Slot,
    pub(super) version: Version,
    pub(super) is_declined: bool,
}

impl Inbox {
    /// A peer that publishes an artifact has advertised it in a slot: it is owed a receipt if nothing more
    /// of it is needed.
    pub(super) fn owe_receipt(&mut self, (peer, channel, slot): (PeerIndex, u16, Slot)) {
        let Some(held) = self.tables.held(peer, channel, slot) else { return };
        if self.is_settled(held.known).is_some() && self.tables.set_receipt_due(peer, channel, slot)
        {
            self.receipts.push(peer, channel, slot);
            self.transfers.asking.push(peer);
        }
    }

    /// An artifact has become complete, or is not wanted any more: all who publish it are owed a receipt.
    /// Looks at each holder, once for an artifact that was fetched.
    pub(super) fn owe_receipts(&mut self, known: u32) {
        for peer in self.catalogue.holders(known).iter() {
            let slot = self.tables.published_in(&self.catalogue, known, peer);
            if let Some(slot) = slot.filter(|_| self.tables.have(known, peer).is_none()) {
                self.owe_receipt((peer, self.catalogue.items[known].channel, slot));
            }
        }
    }

    /// Whether nothing more is needed of an artifact; then whether that is because it is not wanted.
    fn is_settled(&self, known: u32) -> Option<bool> {
        match self.catalogue.items[known].state {
            State::Ready | State::Done => Some(false),
            State::Dropped => Some(true),
            State::Later | State::Wanted(_) => None,
        }
    }

    /// The next receipt for a peer.
    pub(super) fn take_receipt(&mut self, peer: PeerIndex) -> Option<Receipt> {
        loop {
            let (channel, slot) = self.receipts.queues.get_mut(peer.at())?.pop_front()?;
            let Some(held) = self.tables.take_receipt_due(peer, channel, slot) else { continue };
            if let Some(is_declined) = self.is_settled(held.known) {
                return Some(Receipt { channel, slot, version: held.version, is_declined });
            }
        }
    }
}
