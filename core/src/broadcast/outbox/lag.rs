//! Who is behind for good.
//!
//! What a peer is to be served next is known at any time, and so is since when it has always waited too long: it
//! changes when the oldest change is served or replaced. Commands do not tell the time, so what they change is looked
//! at when the time is told next.

use core::time::Duration;

use super::views::View;
use super::{Outbox, SlotState};
use crate::id::{PeerIndex, Slot};
use crate::time::Time;

/// That a member is behind in a channel, or is not any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lag {
    /// The member.
    pub peer: PeerIndex,
    /// The channel, as an index in the configuration.
    pub channel: usize,
    /// Whether it is behind.
    pub is_behind: bool,
}

/// How a peer has been served of late.
#[derive(Debug, Default)]
pub(super) struct Lateness {
    /// Since when its oldest change has always waited too long, if an older one was the oldest at that time.
    late_since: Option<Time>,
    is_behind: bool,
    /// Whether it was told that it is.
    was_told: bool,
    /// It is named in `lags`.
    is_named: bool,
    /// There is a time at which it is looked at, no later than it can be behind.
    is_watched: bool,
}

impl SlotState {
    /// Since when its last change has waited for a peer that is up since then.
    fn waits_since(&self, up_since: Time) -> Time {
        self.changed_at.max(up_since)
    }
}

impl View {
    /// Takes a slot out of those that are to be served. Whether it was the oldest.
    pub(super) fn remove(&mut self, slots: &[SlotState], slot: Slot, limit: Duration) -> bool {
        let is_oldest = self.unserved.oldest() == Some(slot);
        if is_oldest {
            let late_from = slots[slot.0 as usize].waits_since(self.up_since) + limit;
            self.lateness.late_since.get_or_insert(late_from);
        }
        self.unserved.remove(slot);
        is_oldest
    }

    /// From when on the oldest change has waited too long, however late the older ones were.
    fn oldest_late_from(&self, slots: &[SlotState], limit: Duration) -> Time {
        let oldest = self.unserved.oldest();
        let since = oldest.map(|slot| slots[slot.0 as usize].waits_since(self.up_since));
        since.unwrap_or(Time::NEVER) + limit
    }

    /// Whether it has to be looked at once the time is told.
    pub(super) fn is_unwatched(&self) -> bool {
        let Lateness { is_watched, is_behind, .. } = self.lateness;
        !is_watched && !is_behind && !self.unserved.is_empty()
    }
}

impl Outbox {
    /// Whether the oldest change that a peer is to be served has waited too long.
    pub(super) fn is_late(&self, now: Time, peer: PeerIndex) -> bool {
        let view = self.views[peer.at()].as_ref().expect("the peer is up");
        view.oldest_late_from(&self.slots, self.config.freshness.oldest_first_until) < now
    }

    /// Looks at since when a peer has been late. To be called at each time at which another change may have become the
    /// oldest.
    pub(super) fn look_at_oldest(&mut self, now: Time, peer: PeerIndex) {
        let freshness = self.config.freshness;
        // Even without a span it has to be late.
        let behind_after = freshness.behind_after.max(Duration::from_nanos(1));
        let view = self.views[peer.at()].as_mut().expect("the peer is up");
        let late_from = view.oldest_late_from(&self.slots, freshness.oldest_first_until);
        let lateness = &mut view.lateness;
        // There was a break if the one before was not late yet, or this one is not.
        lateness.late_since.take_if(|since| *since >= now || late_from >= now);
        let behind_at = lateness.late_since.unwrap_or(late_from) + behind_after;
        lateness.is_behind = behind_at <= now;
        if lateness.is_behind != lateness.was_told
            && !core::mem::replace(&mut lateness.is_named, true)
        {
            self.lags.push(peer);
        }
        let is_watchable = !lateness.is_behind && behind_at < Time::NEVER;
        if is_watchable && !core::mem::replace(&mut lateness.is_watched, true) {
            self.watched.push((peer, behind_at));
        }
    }

    /// The time is told at which commands have changed what is the oldest change for some peers.
    pub(in crate::broadcast) fn look_at_moved(&mut self, now: Time) {
        while let Some(peer) = self.moved.first() {
            self.moved.remove(peer);
            self.look_at_oldest(now, peer);
        }
    }

    /// A peer that is to be [looked at](Self::look_at_watched) from now on, and when.
    pub(in crate::broadcast) fn take_watched(&mut self) -> Option<(PeerIndex, Time)> {
        self.watched.pop()
    }

    /// Whether it is worth while to look at a peer: it may be behind by then.
    pub(in crate::broadcast) fn is_worth_watching(&mut self, peer: PeerIndex) -> bool {
        let Some(Some(view)) = self.views.get_mut(peer.at()) else { return false };
        view.lateness.is_watched &= !view.unserved.is_empty();
        view.lateness.is_watched
    }

    /// The time at which a peer is to be looked at has come. When to look again, if it is not behind.
    pub(in crate::broadcast) fn look_at_watched(&mut self, now: Time, peer: PeerIndex) -> Time {
        if !self.is_worth_watching(peer) {
            return Time::NEVER;
        }
        self.view(peer).lateness.is_watched = false;
        self.look_at_oldest(now, peer);
        self.take_watched().map_or(Time::NEVER, |(_, at)| at)
    }

    pub(in crate::broadcast) fn has_lags(&self) -> bool {
        !self.lags.is_empty()
    }

    /// The next peer that has come to be behind, or is not any more, and whether it is.
    pub(in crate::broadcast) fn take_lag(&mut self) -> Option<(PeerIndex, bool)> {
        loop {
            let peer = self.lags.pop()?;
            let lateness = &mut self.view(peer).lateness;
            lateness.is_named = false;
            if core::mem::replace(&mut lateness.was_told, lateness.is_behind) != lateness.is_behind
            {
                return Some((peer, lateness.is_behind));
            }
        }
    }

    /// A peer is down.
    pub(super) fn forget_lateness(&mut self, peer: PeerIndex) {
        self.moved.remove(peer);
        self.lags.retain(|of| *of != peer);
        self.watched.retain(|(of, _)| *of != peer);
    }
}
