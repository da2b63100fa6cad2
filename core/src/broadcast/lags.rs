//! Which members are behind in a channel for good.

use core::time::Duration;

use super::{Broadcast, Lag};
use crate::bits::ones;
use crate::id::PeerIndex;
use crate::time::Time;

/// How often it is looked at who is behind.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_secs(1);

impl Broadcast {
    /// Who is behind is seen when it is told something. Where the transport has no room for that, it is looked
    /// at from time to time: a pass over the members. Nothing wakes up for that: a node is polled for each
    /// keep-alive.
    pub(super) fn look_for_lags(&mut self, now: Time) {
        if now < self.look_at {
            return;
        }
        let mut is_any_ready = false;
        for at in 0..self.peers.up.len() {
            if self.peers.up[at] {
                let peer = PeerIndex(at as u16);
                is_any_ready |= self.sender.look_at_backlog(now, peer, &mut self.outboxes);
            }
        }
        self.look_at = if is_any_ready { now + LOOK_INTERVAL } else { Time::NEVER };
        (0..self.channels.len()).for_each(|at| self.note_lags(at));
    }

    pub(super) fn note_lags(&mut self, channel_index: usize) {
        self.lags |= u64::from(self.outboxes[channel_index].has_lags()) << channel_index;
    }

    /// The next member that has come to be behind in a channel, or is not behind any more: see
    /// [`Freshness::behind_after`](crate::config::Freshness::behind_after). Who is down is not behind.
    pub fn poll_lag(&mut self) -> Option<Lag> {
        loop {
            let channel = ones(self.lags).next()?;
            if let Some((peer, is_behind)) = self.outboxes[channel].take_lag() {
                return Some(Lag { peer, channel, is_behind });
            }
            self.lags &= !(1 << channel);
        }
    }
}
