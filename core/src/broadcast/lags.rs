//! Which members are behind in a channel for good.

use super::{Broadcast, Lag};
use crate::bits::ones;
use crate::id::PeerIndex;
use crate::time::Time;

impl Broadcast {
    /// Looks at those who may be behind by now.
    pub(super) fn look_for_lags(&mut self, now: Time) {
        while let Some(index) = self.behind_at.due(now) {
            let (peer, channel) = self.watched(index);
            let next = self.outboxes[channel].look_at_watched(now, peer);
            self.behind_at.set(index, next);
            self.note_lags(channel);
        }
    }

    /// When somebody may be behind next.
    pub(super) fn lag_at(&mut self) -> Time {
        while let Some(index) = self.behind_at.due(Time::NEVER) {
            let (peer, channel) = self.watched(index);
            if self.outboxes[channel].is_worth_watching(peer) {
                break;
            }
            self.behind_at.set(index, Time::NEVER);
        }
        self.behind_at.earliest()
    }

    fn watched(&self, index: usize) -> (PeerIndex, usize) {
        let channels = self.channels.len();
        (PeerIndex((index / channels) as u16), index % channels)
    }

    /// The time was told after commands.
    pub(super) fn look_at_moved(&mut self, now: Time) {
        for channel in ones(core::mem::take(&mut self.changed)) {
            self.outboxes[channel].look_at_moved(now);
            self.note_lags(channel);
        }
    }

    pub(super) fn note_lags(&mut self, channel: usize) {
        let (outbox, channels) = (&mut self.outboxes[channel], self.channels.len());
        while let Some((peer, at)) = outbox.take_watched() {
            self.behind_at.set(peer.at() * channels + channel, at);
        }
        self.lags |= u64::from(outbox.has_lags()) << channel;
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
