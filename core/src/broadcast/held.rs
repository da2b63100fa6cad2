//! Clears that need not be sent at once.
//!
//! Of a short artifact that was pushed, a peer has all that it will ever have. That it is not active any
//! more is of little use to the peer, and by itself costs a datagram and an acknowledgement. So the
//! clear waits for updates to go along with, for a while. It does not go along with an acknowledgement,
//! which would have to be acknowledged then.
//!
//! Held back is only that a flow has something to send. What it sends is chosen when it is asked, as
//! always.

use alloc::vec::Vec;

use super::outbox::Outbox;
use crate::bits::ones;
use crate::config::ChannelConfig;
use crate::deadlines::Deadlines;
use crate::id::{PeerIndex, Version};
use crate::time::Time;

#[derive(Debug)]
pub(super) struct HeldClears {
    /// By peer, the channels of which it may still have to be sent clears. Bit set.
    channels: Vec<u64>,
    /// Channels that have clears for somebody, and no deadline yet. Bit set.
    news: u64,
    /// When a channel's clears are sent, up to the version that it had when this was set. Later ones get
    /// another deadline then. So none waits for longer than two of these spans.
    deadlines: Deadlines,
    /// By channel, the version for the deadline, if there is one.
    versions: Vec<Option<Version>>,
}

impl HeldClears {
    pub(super) fn new(channels: usize) -> Self {
        let (deadlines, versions) = (Deadlines::new(), alloc::vec![None; channels]);
        Self { channels: Vec::new(), news: 0, deadlines, versions }
    }

    /// A peer has to be sent a clear of a channel, some time.
    pub(super) fn hold(&mut self, peer: PeerIndex, channel: u16) {
        if self.channels.len() <= peer.at() {
            self.channels.resize(peer.at() + 1, 0);
        }
        self.channels[peer.at()] |= 1 << channel;
        self.news |= 1 << channel;
    }

    /// Whether a peer may still have to be sent clears of a channel.
    pub(super) fn holds(&self, peer: PeerIndex, channel: u16) -> bool {
        self.channels.get(peer.at()).is_some_and(|channels| channels >> channel & 1 == 1)
    }

    /// The channels of which a peer may have to be sent clears. From now on it counts as told.
    pub(super) fn release(&mut self, peer: PeerIndex) -> impl Iterator<Item = u16> + use<> {
        let channels = self.channels.get_mut(peer.at()).map_or(0, core::mem::take);
        ones(channels).map(|channel| channel as u16)
    }

    /// Names the peers and channels whose clears were held for long enough: one pass over the peers for
    /// each channel that is due.
    pub(super) fn for_each_due(
        &mut self,
        now: Time,
        outboxes: &[Outbox],
        mut tell: impl FnMut(PeerIndex, u16),
    ) {
        while let Some(channel) = self.deadlines.due(now) {
            self.deadlines.set(channel, Time::NEVER);
            let version = self.versions[channel].take().expect("it has a deadline");
            let (outbox, bit) = (&outboxes[channel], 1 << channel);
            let held = self.channels.iter_mut().enumerate();
            for (at, channels) in held.filter(|(_, channels)| **channels & bit != 0) {
                let peer = PeerIndex(at as u16);
                if outbox.has_changes_until(peer, version) {
                    *channels &= !bit;
                    tell(peer, channel as u16);
                } else if outbox.has_changes(peer) {
                    // What it has to be told is newer.
                    self.news |= bit;
                } else {
                    *channels &= !bit;
                }
            }
        }
    }

    /// Sets the deadlines of channels that have come to need one.
    pub(super) fn advance(&mut self, now: Time, configs: &[ChannelConfig], outboxes: &[Outbox]) {
        for channel in ones(core::mem::take(&mut self.news)) {
            if self.versions[channel].is_none() {
                self.versions[channel] = Some(outboxes[channel].version());
                self.deadlines.set(channel, now + configs[channel].clear_delay / 2);
            }
        }
    }

    pub(super) fn earliest(&self) -> Time {
        self.deadlines.earliest()
    }
}
