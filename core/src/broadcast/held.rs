//! Clears that need not be sent at once.
//!
//! Of a short artifact that was pushed, a peer has all that it will ever have. That it is not active any
//! more is of little use to the peer, and by itself costs a datagram and an acknowledgement. So the
//! clear waits for something to go along with, for a while: for other changes of the channel, or for
//! what QUIC sends of its own accord.
//!
//! Held back is only that a flow has something to send. What it sends is chosen when it is asked, as
//! always.

use alloc::vec::Vec;

use crate::bits::ones;
use crate::deadlines::Deadlines;
use crate::id::PeerIndex;
use crate::time::Time;

#[derive(Debug)]
pub(super) struct HeldClears {
    /// By peer, the channels of which it is still to be sent clears. Bit set.
    channels: Vec<u64>,
    /// When those of a channel are sent at the latest.
    deadlines: Deadlines,
}

impl HeldClears {
    pub(super) fn new() -> Self {
        Self { channels: Vec::new(), deadlines: Deadlines::new() }
    }

    pub(super) fn hold(&mut self, peer: PeerIndex, channel: u16, until: Time) {
        if self.channels.len() <= peer.at() {
            self.channels.resize(peer.at() + 1, 0);
        }
        self.channels[peer.at()] |= 1 << channel;
        self.deadlines.bring_forward(channel.into(), until);
    }

    /// Whether a peer is still to be sent clears of a channel.
    pub(super) fn holds(&self, peer: PeerIndex, channel: u16) -> bool {
        self.channels.get(peer.at()).is_some_and(|channels| channels >> channel & 1 == 1)
    }

    /// The channels of which a peer is to be sent clears now.
    pub(super) fn release(&mut self, peer: PeerIndex) -> impl Iterator<Item = u16> + use<> {
        let channels = self.channels.get_mut(peer.at()).map_or(0, core::mem::take);
        ones(channels).map(|channel| channel as u16)
    }

    /// A channel whose clears are due.
    pub(super) fn due(&mut self, now: Time) -> Option<u16> {
        let channel = self.deadlines.due(now)?;
        self.deadlines.set(channel, Time::NEVER);
        Some(channel as u16)
    }

    /// The peers that are to be sent clears of a channel now.
    pub(super) fn release_channel(&mut self, channel: u16) -> impl Iterator<Item = PeerIndex> {
        let peers = self.channels.iter_mut().enumerate();
        peers.filter_map(move |(at, channels)| {
            let is_held = *channels >> channel & 1 == 1;
            *channels &= !(1 << channel);
            is_held.then_some(PeerIndex(at as u16))
        })
    }

    pub(super) fn earliest(&self) -> Time {
        self.deadlines.earliest()
    }
}
