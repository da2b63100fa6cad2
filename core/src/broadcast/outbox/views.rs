//! What each peer was sent of a channel, and what it is served next.

use alloc::vec::Vec;

use super::key_order::Passed;
use super::lag::Lateness;
use super::pushes::Pushes;
use super::unserved::{LastSent, Unserved};
use super::{Active, Outbox, SlotState};
use crate::broadcast::work;
use crate::id::{PeerIndex, Slot, Version};
use crate::sched::{End, Ends};
use crate::time::Time;

/// Changes that are looked at in one turn of a peer, and that come into the order of keys in one. Some need not be
/// sent: relays of what the peer advertises itself, and in the order of keys what was sent out of its turn. Looking at
/// one takes about a hundredth of encoding an update, so that so many take no longer than a batch of short ones.
/// What is left is looked at in the next turn.
const LOOKS_MAX: u32 = 4096;

/// What one peer has been sent of this channel in its present epoch.
#[derive(Debug)]
pub(super) struct View {
    pub(super) unserved: Unserved,
    /// What was passed in the order of keys.
    passed: Passed,
    pub(super) ends: Ends,
    /// When it came up: of what was published before, it has been told nothing for so long.
    pub(super) up_since: Time,
    pub(super) lateness: Lateness,
    /// Of what this node has published.
    pub(super) pushes: Pushes,
    pub(super) snapshot_due: bool,
}

/// What a peer was sent of a slot is not the present content any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::broadcast) struct Outdated {
    /// The stream that carried it.
    pub(in crate::broadcast) stream: u64,
    /// Another slot that was pushed in that stream, if the slot was.
    pub(in crate::broadcast) pushed: Option<Slot>,
}

/// A way through the changes that a peer is to be served. Valid until the next change.
#[derive(Debug)]
pub(in crate::broadcast) struct Walk {
    pub(in crate::broadcast) end: End,
    /// Changes that may still be looked at.
    looks: u32,
}

impl Walk {
    /// Whether it has ended since enough was looked at. The next one goes on where it has come to.
    pub(in crate::broadcast) fn is_spent(&self) -> bool {
        self.looks == 0
    }

    /// One more is looked at, unless it is spent.
    fn look(&mut self) -> Option<()> {
        self.looks = self.looks.checked_sub(1)?;
        work::count();
        Some(())
    }
}

impl Outbox {
    /// The number of changes that a peer has still to be sent, and when the oldest of them was made.
    pub(in crate::broadcast) fn backlog(&self, peer: PeerIndex) -> (u64, Time) {
        let view = self.views.get(peer.at()).and_then(Option::as_ref);
        let Some(view) = view else { return (0, Time::NEVER) };
        let oldest = view.unserved.oldest();
        let changed_at = oldest.map_or(Time::NEVER, |slot| self.changed_at(slot));
        (view.unserved.count().into(), changed_at)
    }

    /// A peer's new epoch begins: it has been sent nothing yet. A walk over the log, once in a connection.
    pub(in crate::broadcast) fn peer_up(&mut self, now: Time, peer: PeerIndex) {
        if self.views.len() <= peer.at() {
            self.views.resize_with(peer.at() + 1, || None);
        }
        self.up.insert(peer);
        self.settled = 0;
        self.forget_progress(peer);
        let mut unserved = Unserved::default();
        for (version, slot) in &self.log {
            let state = &self.slots[slot.0 as usize];
            if state.version == *version && !state.is_clear() {
                unserved.push(*slot);
            }
        }
        self.views[peer.at()] = Some(View {
            unserved,
            passed: Passed::default(),
            ends: Ends::default(),
            up_since: now,
            lateness: Lateness::default(),
            pushes: Pushes::default(),
            snapshot_due: true,
        });
        self.look_at_oldest(now, peer);
    }

    pub(in crate::broadcast) fn peer_down(&mut self, peer: PeerIndex) {
        if let Some(view) = self.views.get_mut(peer.at()) {
            *view = None;
        }
        self.forget_lateness(peer);
        self.up.remove(peer);
    }

    pub(super) fn view(&mut self, peer: PeerIndex) -> &mut View {
        self.views[peer.at()].as_mut().expect("the peer is up")
    }

    /// Whether there are changes to send. Some need not be: relays of what the peer advertises itself.
    pub(in crate::broadcast) fn has_changes(&self, peer: PeerIndex) -> bool {
        let view = self.views.get(peer.at()).and_then(Option::as_ref);
        view.is_some_and(|view| view.snapshot_due || !view.unserved.is_empty())
    }

    /// Whether there are changes to send that are no newer than `version`.
    pub(in crate::broadcast) fn has_changes_until(
        &self,
        peer: PeerIndex,
        version: Version,
    ) -> bool {
        let view = self.views.get(peer.at()).and_then(Option::as_ref);
        view.is_some_and(|view| view.served_up_to(&self.slots, self.version) < version.0)
    }

    /// Begins a way through the changes that a peer is to be served: from the oldest, unless that has waited
    /// too long and it is the turn of the newest.
    pub(in crate::broadcast) fn begin_walk(&mut self, now: Time, peer: PeerIndex) -> Walk {
        let is_late = self.is_late(now, peer);
        self.complete_key_order();
        Walk { end: self.view(peer).ends.turn(is_late), looks: LOOKS_MAX }
    }

    /// The changes since the last time come into the order of keys, the oldest of them first.
    fn complete_key_order(&mut self) {
        let Some(order) = &mut self.key_order else { return };
        let position = self.log.partition_point(|(version, _)| *version <= order.until);
        for (version, slot) in self.log.range(position..).take(LOOKS_MAX as usize) {
            work::count();
            let state = &self.slots[slot.0 as usize];
            if state.version == *version {
                order.insert(*slot, state.position());
            }
            order.until = *version;
        }
    }

    /// The highest change, in the order of keys, that a peer has still to be served.
    fn next_by_key(&mut self, peer: PeerIndex, walk: &mut Walk) -> Option<(Version, Slot)> {
        let order = self.key_order.as_ref().expect("in the order of keys");
        let view = self.views[peer.at()].as_mut().expect("the peer is up");
        loop {
            walk.look()?;
            let floor = view.served_up_to(&self.slots, self.version);
            let Some((position, slot)) = view.passed.next(order, floor) else {
                view.passed.clear();
                if !view.unserved.is_empty() {
                    debug_assert!(
                        order.until < self.version,
                        "the others are not in the order yet"
                    );
                    walk.looks = 0;
                }
                return None;
            };
            // It may have changed since, which is not in the order yet, or have been served.
            if self.slots[slot.0 as usize].version == position.version
                && view.unserved.contains(slot)
            {
                return Some((Version(position.version), slot));
            }
            view.passed.pass(order.until, position, floor);
        }
    }

    /// The next change on the way. Without one, the peer is up to date, or the way is [spent](Walk::is_spent).
    pub(in crate::broadcast) fn next_change(
        &mut self,
        peer: PeerIndex,
        walk: &mut Walk,
    ) -> Option<(Version, Slot)> {
        if walk.end == End::Newest && self.key_order.is_some() {
            return self.next_by_key(peer, walk);
        }
        let slot = self.view(peer).unserved.end(walk.end)?;
        walk.look()?;
        Some((Version(self.slots[slot.0 as usize].version), slot))
    }

    /// So many bytes were encoded on a way, which ends here.
    pub(in crate::broadcast) fn note_served(
        &mut self,
        now: Time,
        peer: PeerIndex,
        walk: &Walk,
        bytes: usize,
    ) {
        let freshness = self.config.freshness;
        self.view(peer).ends.note(walk.end, bytes, &freshness);
        self.look_at_oldest(now, peer);
    }

    /// What the peer was last sent of a slot.
    pub(in crate::broadcast) fn last_sent(&self, peer: PeerIndex, slot: Slot) -> LastSent {
        self.views[peer.at()].as_ref().expect("the peer is up").unserved.last_sent(slot)
    }

    /// The next change on a way, that of this slot, was sent or need not be.
    pub(in crate::broadcast) fn set_last_sent(
        &mut self,
        peer: PeerIndex,
        slot: Slot,
        walk: &Walk,
        last_sent: LastSent,
    ) {
        let limit = self.config.freshness.oldest_first_until;
        let view = self.views[peer.at()].as_mut().expect("the peer is up");
        view.remove(&self.slots, slot, limit);
        view.unserved.set_last_sent(slot, last_sent);
        if walk.end == End::Newest
            && let Some(order) = &self.key_order
        {
            let position = self.slots[slot.0 as usize].position();
            let floor = view.served_up_to(&self.slots, self.version);
            view.passed.pass(order.until, position, floor);
        }
    }

    /// Whether a peer knows nothing of a slot.
    pub(in crate::broadcast) fn knows_nothing_of(&self, peer: PeerIndex, slot: Slot) -> bool {
        self.has_view(peer) && self.last_sent(peer, slot).is_nothing()
    }

    /// Whether a peer has still to be served the last change of a slot.
    pub(in crate::broadcast) fn awaits(&self, peer: PeerIndex, slot: Slot) -> bool {
        let view = self.views[peer.at()].as_ref().expect("the peer is up");
        view.unserved.contains(slot)
    }

    /// A peer was skipped when the content of a slot was sent, and has to be told now: a change of the slot, of which
    /// those need not hear that were sent the content. For those that wait for it, it comes behind all else. So it is
    /// made once for a peer, which could keep it from them otherwise. A walk over the peers.
    pub(in crate::broadcast) fn renew(&mut self, peer: PeerIndex, slot: Slot) {
        self.bump_version(slot);
        if let Some(active) = self.active_mut(slot) {
            active.renewed.insert(peer);
        }
        for at in 0..self.views.len() {
            let other = PeerIndex(at as u16);
            if self.has_view(other) && (other == peer || self.awaits(other, slot)) {
                self.requeue(other, slot, true);
            }
        }
    }

    /// A peer that knows nothing of a relay need not hear of it.
    pub(in crate::broadcast) fn forgo_relay(&mut self, peer: PeerIndex, slot: Slot) {
        let is_needless = |active: &Active| active.is_needless_for_holder(peer);
        if self.active(slot).is_some_and(is_needless)
            && self.knows_nothing_of(peer, slot)
            && self.awaits(peer, slot)
        {
            self.requeue(peer, slot, false);
        }
    }

    /// Whether a peer is sent this channel's changes.
    pub(in crate::broadcast) fn has_view(&self, peer: PeerIndex) -> bool {
        self.up.contains(peer)
    }

    /// The slot has changed, so what the peer was last sent of it is not the present content any more, and the
    /// peer is to be served the change, unless it need not hear of it. `None`, if the former content was not sent.
    pub(in crate::broadcast) fn outdate(
        &mut self,
        peer: PeerIndex,
        slot: Slot,
    ) -> Option<Outdated> {
        let is_clear = self.slots[slot.0 as usize].is_clear();
        let view = self.views.get_mut(peer.at())?.as_mut()?;
        let last_sent = view.unserved.last_sent(slot);
        let outdated = last_sent.stream().map(|stream| {
            view.unserved.set_last_sent(slot, LastSent::OTHER);
            Outdated { stream, pushed: view.pushes.leave(slot) }
        });
        self.requeue(peer, slot, !is_clear || !last_sent.is_nothing());
        outdated
    }

    /// A slot's last change is the newest that a peer is to be served, if it `is_needed`.
    fn requeue(&mut self, peer: PeerIndex, slot: Slot, is_needed: bool) {
        let limit = self.config.freshness.oldest_first_until;
        let view = self.views[peer.at()].as_mut().expect("the peer is up");
        let was_oldest = view.remove(&self.slots, slot, limit);
        if is_needed {
            view.unserved.push(slot);
        }
        if was_oldest || view.is_unwatched() {
            self.moved.insert(peer);
        }
    }

    /// What a slot holds was pushed in the same stream as `other`, or is the first in its stream.
    pub(in crate::broadcast) fn note_pushed(
        &mut self,
        peer: PeerIndex,
        slot: Slot,
        other: Option<Slot>,
    ) {
        self.view(peer).pushes.join(slot, other);
    }

    /// A stream is acknowledged in which a slot was pushed. Another one that was and is not taken yet.
    pub(super) fn take_pushed(&mut self, peer: PeerIndex, slot: Slot) -> Option<Slot> {
        self.view(peer).pushes.leave(slot)
    }

    /// What the stream that held all of a slot's content says by its end is not that the peer has it.
    pub(super) fn forget_push(&mut self, peer: PeerIndex, slot: Slot) {
        let Some(Some(view)) = self.views.get_mut(peer.at()) else { return };
        if let Some(stream) = view.unserved.last_sent(slot).pushed_in() {
            view.unserved.set_last_sent(slot, LastSent::in_stream(stream, false));
        }
    }

    pub(super) fn assert_views(&self) {
        for view in self.views.iter().flatten() {
            let mut before = 0;
            for slot in view.unserved.iter() {
                let version = self.slots[slot.0 as usize].version;
                assert!(before < version, "in the order of the changes");
                before = version;
            }
            for (state, at) in self.slots.iter().zip(0..) {
                let last_sent = view.unserved.last_sent(Slot(at));
                let is_skipped = state.active.as_ref().is_some_and(|active| active.hops > 0);
                let is_nothing = last_sent.is_nothing();
                let is_right =
                    last_sent.is_present() || is_nothing && (state.is_clear() || is_skipped);
                let is_listed = view.unserved.contains(Slot(at));
                assert!(is_listed || is_right, "invariant 2: what differs is to be sent");
                let is_needless = last_sent.is_present() || is_nothing && state.is_clear();
                assert!(!is_listed || !is_needless, "invariant 2: and nothing else");
            }
        }
    }

    /// Whether the peer's snapshot is still to be sent; from now on it counts as sent.
    pub(in crate::broadcast) fn take_snapshot_due(&mut self, peer: PeerIndex) -> bool {
        core::mem::take(&mut self.view(peer).snapshot_due)
    }

    /// Writes a snapshot of the live slots for a peer. From now on the peer is sent a clear when
    /// one of them is cleared. Slots for which `skip` holds are left out. Appends the bit map to
    /// `bitmap`, without trailing zeros. A pass over all slots, once for each connection.
    pub(in crate::broadcast) fn snapshot(
        &mut self,
        peer: PeerIndex,
        bitmap: &mut Vec<u8>,
        skip: impl Fn(&Active) -> bool,
    ) {
        let start = bitmap.len();
        for at in 0..self.slots.len() {
            let Some(active) = &self.slots[at].active else { continue };
            if skip(active) {
                continue;
            }
            if bitmap.len() - start <= at / 8 {
                bitmap.resize(start + at / 8 + 1, 0);
            }
            bitmap[start + at / 8] |= 1 << (at % 8);
            let view = self.views[peer.at()].as_mut().expect("the peer is up");
            view.unserved.set_last_sent(Slot(at as u32), LastSent::OTHER);
        }
    }
}

impl View {
    /// Every change up to this version was served, or need not be. `version` is the latest one.
    fn served_up_to(&self, slots: &[SlotState], version: u64) -> u64 {
        let oldest = self.unserved.oldest();
        oldest.map_or(version, |slot| slots[slot.0 as usize].version - 1)
    }
}
