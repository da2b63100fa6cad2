//! What each peer was sent of a channel, and what it is served next.

use alloc::vec::Vec;

use super::key_order::Passed;
use super::lag::Lateness;
use super::pushes::Pushes;
use super::unserved::{Gap, Unserved};
use super::{Active, Outbox, Position, SlotState};
use crate::broadcast::work;
use crate::id::{PeerIndex, Slot, Version};
use crate::sched::{End, Ends};
use crate::time::Time;

/// Changes that are looked at in one turn of a peer, and that come into the order of keys in one. Some need not be
/// sent: they were overwritten, or aborted before the peer heard of them, or were sent out of their turn. Looking at
/// one takes about a hundredth of encoding an update, so that so many take no longer than a batch of short ones.
/// What is left is looked at in the next turn.
const LOOKS_MAX: u32 = 4096;

/// What a peer was last sent of a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::broadcast) struct LastSent(u64);

impl LastSent {
    /// Nothing.
    pub(in crate::broadcast) const NOTHING: Self = Self(u64::MAX);
    /// An artifact, but not the present one.
    pub(in crate::broadcast) const OTHER: Self = Self(u64::MAX - 1);

    /// Marks a stream that holds all of the artifact. Generations of streams do not come as far.
    const PUSHED: u64 = 1 << 63;
    /// Marks a stream that holds a clear.
    const CLEARED: u64 = 1 << 62;

    /// The present artifact, in this stream: all of it, or an advert.
    pub(in crate::broadcast) const fn in_stream(stream: u64, is_pushed: bool) -> Self {
        Self(if is_pushed { stream | Self::PUSHED } else { stream })
    }

    /// A clear, in this stream.
    pub(in crate::broadcast) const fn cleared_in(stream: u64) -> Self {
        Self(stream | Self::CLEARED)
    }

    /// Whether it is nothing, or a clear: a further clear need not be sent.
    pub(in crate::broadcast) fn is_nothing(self) -> bool {
        self == Self::NOTHING || self.clear().is_some()
    }

    /// The stream that holds a clear.
    pub(in crate::broadcast) fn clear(self) -> Option<u64> {
        let is_clear = self.0 & (Self::PUSHED | Self::CLEARED) == Self::CLEARED;
        is_clear.then_some(self.0 & !Self::CLEARED)
    }

    /// The stream that holds the present artifact.
    pub(in crate::broadcast) fn stream(self) -> Option<u64> {
        (self.0 & Self::CLEARED == 0).then_some(self.0 & !Self::PUSHED)
    }

    /// The stream that holds all of the artifact.
    pub(in crate::broadcast) fn pushed_in(self) -> Option<u64> {
        self.stream().filter(|_| self.0 & Self::PUSHED != 0)
    }

    /// Whether it is the present content of the slot, which need not be sent again.
    pub(in crate::broadcast) fn is_present(self) -> bool {
        self.stream().is_some()
    }
}

/// What one peer has been sent of this channel in its present epoch.
#[derive(Debug)]
pub(super) struct View {
    /// The changes that have neither been served nor become obsolete.
    pub(super) unserved: Unserved,
    /// Of these, what was served in the order of keys.
    passed: Passed,
    pub(super) ends: Ends,
    /// When it came up: of what was published before, it has been told nothing for so long.
    pub(super) up_since: Time,
    pub(super) lateness: Lateness,
    /// By slot, up to the highest slot that this peer was sent.
    pub(super) last_sent: Vec<LastSent>,
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
    /// Where it is: in this gap, before or behind this place in the log.
    gap: Option<Gap>,
    position: usize,
    /// Changes that may still be looked at.
    looks: u32,
}

impl Walk {
    pub(super) const fn from(end: End) -> Self {
        Self { end, gap: None, position: 0, looks: LOOKS_MAX }
    }

    /// Whether it has ended since enough was looked at. It goes on where it has come to.
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
    /// The number of changes that a peer has still to be sent, and when the oldest of them was made. A walk
    /// over the log, which is at most twice as long as the table.
    pub(in crate::broadcast) fn backlog(&self, peer: PeerIndex) -> (u64, Time) {
        let view = self.views.get(peer.at()).and_then(Option::as_ref);
        let Some(view) = view else { return (0, Time::NEVER) };
        let position = self.log.partition_point(|(version, _)| *version <= view.unserved.floor());
        let mut oldest = Time::NEVER;
        let mut count = 0;
        for (version, slot) in self.log.range(position..).copied() {
            if is_needed(&self.slots, view, version, slot) {
                count += 1;
                oldest = oldest.min(self.slots[slot.0 as usize].changed_at);
            }
        }
        (count, oldest)
    }

    /// A peer's new epoch begins: it has been sent nothing yet.
    pub(in crate::broadcast) fn peer_up(&mut self, now: Time, peer: PeerIndex) {
        if self.views.len() <= peer.at() {
            self.views.resize_with(peer.at() + 1, || None);
        }
        let mut last_sent =
            self.views[peer.at()].take().map_or_else(Vec::new, |view| view.last_sent);
        last_sent.clear();
        self.up.insert(peer);
        self.settled = 0;
        self.forget_progress(peer);
        let view = View {
            unserved: Unserved::default(),
            passed: Passed::default(),
            ends: Ends::default(),
            up_since: now,
            lateness: Lateness::default(),
            last_sent,
            pushes: Pushes::default(),
            snapshot_due: true,
        };
        self.views[peer.at()] = Some(view);
    }

    pub(in crate::broadcast) fn peer_down(&mut self, peer: PeerIndex) {
        if let Some(view) = self.views.get_mut(peer.at()) {
            *view = None;
        }
        self.lags.retain(|of| *of != peer);
        self.up.remove(peer);
    }

    pub(super) fn view(&mut self, peer: PeerIndex) -> &mut View {
        self.views[peer.at()].as_mut().expect("the peer is up")
    }

    /// Whether there may be changes to send. False positives are possible: those that were not served may
    /// be outdated.
    pub(in crate::broadcast) fn has_changes(&self, peer: PeerIndex) -> bool {
        let view = self.views.get(peer.at()).and_then(Option::as_ref);
        view.is_some_and(|view| view.snapshot_due || !view.unserved.is_empty(self.version))
    }

    /// Whether there may be changes to send that are no newer than `version`.
    pub(in crate::broadcast) fn has_changes_until(
        &self,
        peer: PeerIndex,
        version: Version,
    ) -> bool {
        let view = self.views.get(peer.at()).and_then(Option::as_ref);
        view.is_some_and(|view| view.unserved.floor() < version.0)
    }

    /// Begins a way through the changes that a peer is to be served: from the oldest, unless that has waited
    /// too long and it is the turn of the newest.
    pub(in crate::broadcast) fn begin_walk(&mut self, now: Time, peer: PeerIndex) -> Walk {
        let mut walk = Walk::from(End::Oldest);
        let Some(is_late) = self.look_at_oldest(now, peer, &mut walk) else { return walk };
        self.complete_key_order();
        if self.view(peer).ends.turn(is_late) == End::Newest {
            walk = Walk { looks: walk.looks, ..Walk::from(End::Newest) };
        }
        walk
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
            let floor = view.unserved.floor();
            let Some((position, slot)) = view.passed.next(order, floor) else {
                view.unserved.serve_up_to(order.until);
                view.passed.clear();
                if order.until < self.version {
                    walk.looks = 0;
                }
                return None;
            };
            if self.slots[slot.0 as usize].version == position.version {
                return Some((Version(position.version), slot));
            }
            // It has changed since, and that is not in the order yet.
            view.passed.pass(order.until, position, floor);
        }
    }

    /// When the oldest change was made that a peer is to be sent. What lies before it counts as served, and
    /// it is the next one on the way. `None` if there is none, or the way is spent.
    pub(super) fn oldest_unserved(&mut self, peer: PeerIndex, walk: &mut Walk) -> Option<Time> {
        loop {
            let (version, slot) = self.next_change(peer, walk)?;
            let view = self.views[peer.at()].as_mut().expect("the peer is up");
            if is_needed(&self.slots, view, version.0, slot) {
                walk.position -= 1;
                return Some(self.changed_at(slot));
            }
            view.unserved.serve_up_to(version.0);
        }
    }

    /// The next current change on the way, which may have been served. Without one, the peer is up to date, or the
    /// way is [spent](Walk::is_spent).
    pub(in crate::broadcast) fn next_change(
        &mut self,
        peer: PeerIndex,
        walk: &mut Walk,
    ) -> Option<(Version, Slot)> {
        if walk.end == End::Newest && self.key_order.is_some() {
            return self.next_by_key(peer, walk);
        }
        let (log, slots) = (&self.log, &self.slots);
        let unserved = &mut self.views[peer.at()].as_mut().expect("the peer is up").unserved;
        loop {
            let Some(gap) = walk.gap else {
                let gap = unserved.gap(walk.end, self.version)?;
                let start = match walk.end {
                    End::Oldest => gap.after,
                    End::Newest => gap.until,
                };
                walk.gap = Some(gap);
                walk.position = log.partition_point(|(version, _)| *version <= start);
                continue;
            };
            let at = match walk.end {
                End::Oldest => Some(walk.position),
                End::Newest => walk.position.checked_sub(1),
            };
            let entry = at.and_then(|at| log.get(at)).copied();
            let is_within = |version: &u64| (gap.after + 1..=gap.until).contains(version);
            walk.look()?;
            let Some((version, slot)) = entry.filter(|(version, _)| is_within(version)) else {
                match walk.end {
                    End::Oldest => unserved.serve_up_to(gap.until),
                    End::Newest => unserved.serve_down_to(gap.after + 1),
                }
                walk.gap = None;
                continue;
            };
            match walk.end {
                End::Oldest => walk.position += 1,
                End::Newest => walk.position -= 1,
            }
            if slots[slot.0 as usize].version == version {
                return Some((Version(version), slot));
            }
            // All before it on the way was served.
            match walk.end {
                End::Oldest => unserved.serve_up_to(version),
                End::Newest => unserved.serve_down_to(version),
            }
        }
    }

    /// So many bytes were encoded on a way.
    pub(in crate::broadcast) fn note_served(&mut self, peer: PeerIndex, walk: &Walk, bytes: usize) {
        let freshness = self.config.freshness;
        self.view(peer).ends.note(walk.end, bytes, &freshness);
    }

    /// What the peer was last sent of a slot.
    pub(in crate::broadcast) fn last_sent(&self, peer: PeerIndex, slot: Slot) -> LastSent {
        self.views[peer.at()].as_ref().expect("the peer is up").last_sent(slot)
    }

    /// The change of `version`, and all before it on the way, was sent or need not be.
    pub(in crate::broadcast) fn set_last_sent(
        &mut self,
        peer: PeerIndex,
        slot: Slot,
        (walk, version): (&Walk, Version),
        last_sent: LastSent,
    ) {
        let position = self.slots[slot.0 as usize].position();
        let key_order_until = self.key_order.as_ref().map(|order| order.until);
        let view = self.view(peer);
        match walk.end {
            End::Oldest => view.unserved.serve_up_to(version.0),
            End::Newest => match key_order_until {
                Some(until) => view.passed.pass(until, position, view.unserved.floor()),
                None => view.unserved.serve_down_to(version.0),
            },
        }
        view.set(slot, last_sent);
    }

    /// Makes a slot dirty again if a peer was skipped when its content was sent. For the other
    /// peers nothing is sent again, see [`LastSent::is_present`]. True if there is something to be
    /// sent to the peer, which may not have come to the slot yet: it may have been made dirty for
    /// another peer.
    pub(in crate::broadcast) fn mark_if_skipped(&mut self, peer: PeerIndex, slot: Slot) -> bool {
        let Some(Some(view)) = self.views.get(peer.at()) else { return false };
        let was_passed = !view.awaits(self.slots[slot.0 as usize].position());
        let was_skipped = self.last_sent(peer, slot).is_nothing();
        if was_passed && was_skipped {
            self.bump_version(slot);
        }
        was_skipped
    }

    /// Whether a peer is sent this channel's changes.
    pub(in crate::broadcast) fn has_view(&self, peer: PeerIndex) -> bool {
        self.up.contains(peer)
    }

    /// The slot has changed, so what the peer was last sent of it is not the present content any
    /// more. `None`, if it was not sent.
    pub(in crate::broadcast) fn outdate(
        &mut self,
        peer: PeerIndex,
        slot: Slot,
    ) -> Option<Outdated> {
        let view = self.views.get_mut(peer.at())?.as_mut()?;
        let last_sent = view.last_sent.get_mut(slot.0 as usize)?;
        let stream = last_sent.stream()?;
        *last_sent = LastSent::OTHER;
        Some(Outdated { stream, pushed: view.pushes.leave(slot) })
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
        let view = self.views.get_mut(peer.at()).and_then(Option::as_mut);
        if let Some(last_sent) = view.and_then(|view| view.last_sent.get_mut(slot.0 as usize))
            && let Some(stream) = last_sent.pushed_in()
        {
            *last_sent = LastSent::in_stream(stream, false);
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
            view.set(Slot(at as u32), LastSent::OTHER);
        }
    }
}

/// Whether a change is to be sent to a peer: it is current, was not passed, and the peer knows something else.
fn is_needed(slots: &[SlotState], view: &View, version: u64, slot: Slot) -> bool {
    let state = &slots[slot.0 as usize];
    let is_clear = || state.active.as_ref().is_none_or(Active::is_dormant);
    state.version == version
        && view.awaits(state.position())
        && match view.last_sent(slot) {
            last_sent if last_sent.is_nothing() => !is_clear(),
            last_sent => !last_sent.is_present(),
        }
}

impl View {
    /// Whether it has still to be served the change at a position.
    fn awaits(&self, position: Position) -> bool {
        self.unserved.contains(position.version) && !self.passed.contains(position)
    }

    fn last_sent(&self, slot: Slot) -> LastSent {
        self.last_sent.get(slot.0 as usize).copied().unwrap_or(LastSent::NOTHING)
    }

    fn set(&mut self, slot: Slot, last_sent: LastSent) {
        let at = slot.0 as usize;
        if self.last_sent.len() <= at {
            if last_sent == LastSent::NOTHING {
                return;
            }
            self.last_sent.resize(at + 1, LastSent::NOTHING);
        }
        self.last_sent[at] = last_sent;
    }
}
