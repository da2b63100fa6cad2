//! Which holders have artifacts in their queues, so that the empty ones are not looked at when a
//! request is begun.

use alloc::vec;
use alloc::vec::Vec;

use super::Priority;
use super::peer_set::PeerSet;
use crate::bits::ones;
use crate::id::PeerIndex;
use crate::wire::CHANNELS_MAX;

const _: () = assert!(CHANNELS_MAX <= u64::BITS as usize, "a bit for each channel");

/// See the module's head.
pub(super) struct Queued {
    /// By priority: bit set, some holder's queue of the channel is not empty.
    channels: [u64; Priority::ALL.len()],
    /// By channel, then by priority: the holders whose queue is not empty.
    holders: Vec<[PeerSet; Priority::ALL.len()]>,
}

impl Queued {
    pub(super) fn new(channels: usize) -> Self {
        let holders = vec![Default::default(); channels];
        Self { channels: [0; Priority::ALL.len()], holders }
    }

    /// The holders with artifacts of a channel and priority in their queues.
    pub(super) fn holders(&self, channel: usize, priority: usize) -> &PeerSet {
        &self.holders[channel][priority]
    }

    pub(super) fn set(
        &mut self,
        peer: PeerIndex,
        channel: usize,
        priority: usize,
        is_queued: bool,
    ) {
        let holders = &mut self.holders[channel][priority];
        match is_queued {
            true => holders.insert(peer),
            false => holders.remove(peer),
        }
        let is_used = !holders.is_empty();
        let bit = 1 << channel;
        self.channels[priority] = self.channels[priority] & !bit | if is_used { bit } else { 0 };
    }

    /// The channels with artifacts of a priority, ascending.
    pub(super) fn channels(&self, priority: usize) -> impl Iterator<Item = usize> + use<> {
        ones(self.channels[priority])
    }

    pub(super) fn assert_invariants(
        &self,
        peers: u16,
        is_queued: impl Fn(PeerIndex, usize, usize) -> bool,
    ) {
        for (channel, by_priority) in self.holders.iter().enumerate() {
            for (priority, holders) in by_priority.iter().enumerate() {
                for peer in (0..peers).map(PeerIndex) {
                    assert_eq!(holders.contains(peer), is_queued(peer, channel, priority));
                }
                let is_used = self.channels[priority] >> channel & 1 == 1;
                assert_eq!(is_used, !holders.is_empty());
            }
        }
    }
}
