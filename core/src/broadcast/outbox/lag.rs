//! Who is behind for good.
//!
//! It is looked at when changes are encoded for a peer, and once a second if none are: the transport may
//! have no room for them.

use super::Outbox;
use super::views::Walk;
use crate::id::PeerIndex;
use crate::sched::End;
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
    /// Since then, its oldest change has always waited too long when it was looked at.
    late_since: Option<Time>,
    is_behind: bool,
    /// Whether it was told that it is.
    was_told: bool,
    /// It is named in `lags`.
    is_named: bool,
}

impl Outbox {
    /// Looks at whether the oldest change that a peer is to be sent has waited too long. It is the next one
    /// on the way from then on. `None` if the way is spent before.
    pub(super) fn look_at_oldest(
        &mut self,
        now: Time,
        peer: PeerIndex,
        walk: &mut Walk,
    ) -> Option<bool> {
        let oldest = self.oldest_unserved(peer, walk);
        if oldest.is_none() && walk.is_spent() {
            return None;
        }
        let freshness = self.config.freshness;
        let view = self.view(peer);
        let is_late = |changed_at: Time| freshness.is_late(now, changed_at.max(view.up_since));
        let is_late = oldest.is_some_and(is_late);
        self.note_late(now, peer, is_late);
        Some(is_late)
    }

    fn note_late(&mut self, now: Time, peer: PeerIndex, is_late: bool) {
        let behind_after = self.config.freshness.behind_after;
        let lateness = &mut self.view(peer).lateness;
        let late_since = is_late.then(|| lateness.late_since.unwrap_or(now));
        let is_behind = late_since.is_some_and(|since| now.since(since) >= behind_after);
        lateness.late_since = late_since;
        lateness.is_behind = is_behind;
        if is_behind != lateness.was_told && !core::mem::replace(&mut lateness.is_named, true) {
            self.lags.push(peer);
        }
    }

    /// A peer has been served all that there is.
    pub(in crate::broadcast) fn note_up_to_date(&mut self, peer: PeerIndex) {
        if self.has_view(peer) && self.view(peer).lateness.late_since.is_some() {
            self.note_late(Time::ZERO, peer, false);
        }
    }

    /// The same as when something is encoded for a peer, for which there is no room. Where there is much to be looked
    /// at, the next time goes on.
    pub(in crate::broadcast) fn look_at_backlog(&mut self, now: Time, peer: PeerIndex) {
        let mut walk = Walk::from(End::Oldest);
        self.look_at_oldest(now, peer, &mut walk);
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
}
