//! What follows when a slot of this node has changed.

use super::{Broadcast, Output};
use crate::id::{PeerIndex, Slot};
use crate::time::Time;

impl Broadcast {
    /// What peers were sent of the slot is obsolete. Streams without any other current update are
    /// reset.
    pub(super) fn slot_changed(&mut self, channel_index: u16, slot: Slot) {
        self.note_change(channel_index, slot, false);
    }

    /// The same. Those that were sent the slot's content need not be told of the change at once, if it
    /// `may_wait`.
    pub(super) fn note_change(&mut self, channel_index: u16, slot: Slot, may_wait: bool) {
        let outbox = &mut self.outboxes[channel_index as usize];
        for at in 0..outbox.peers_end() {
            let peer = PeerIndex(at);
            if !outbox.has_view(peer) {
                continue;
            }
            let outdated = outbox.outdate(peer, slot);
            match may_wait && outdated.is_some() {
                true => self.sender.held.hold(peer, channel_index),
                false => self.sender.mark_updates(peer, channel_index),
            }
            if let Some(outdated) = outdated
                && let Some(stream) = self.sender.update_obsolete(peer, slot, outdated)
            {
                self.outputs.push_back(Output::Reset { peer, stream });
            }
        }
        self.undate(channel_index, slot);
        self.forgo_holders(channel_index, slot);
    }

    /// A slot has changed. Commands do not tell the time: it is told before anything else happens.
    pub(super) fn undate(&mut self, channel_index: u16, slot: Slot) {
        let outbox = &mut self.outboxes[channel_index as usize];
        if outbox.changed_at(slot) != Time::NEVER {
            outbox.set_changed_at(slot, Time::NEVER);
            self.undated.push((channel_index, slot));
        }
        self.changed |= 1 << channel_index;
    }
}
