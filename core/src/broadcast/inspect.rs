//! What the machine tells of its state.

use alloc::vec::Vec;

#[cfg(feature = "internals")]
use super::catalogue::State;
use super::outbox::Outbox;
use super::{Broadcast, Coverage};
use crate::id::{ArtifactId, ChannelId, PeerIndex, Slot};
use crate::snapshot::{Backlog, ChannelSnapshot, KnownSnapshot, ReceivedBytes, SentBytes};
use crate::time::Time;

impl Broadcast {
    /// What has come from a peer, and what was encoded for it.
    pub fn traffic(&self, peer: PeerIndex) -> (ReceivedBytes, SentBytes) {
        (self.peers.received[peer.at()].snapshot(), self.sender.sent(peer).snapshot())
    }

    /// What a peer has still to be sent, in all channels.
    pub fn backlog(&self, now: Time, peer: PeerIndex) -> Backlog {
        let backlogs = self.outboxes.iter().map(|outbox| outbox.backlog(peer));
        let none = (0, Time::NEVER);
        let (updates, oldest) = backlogs.fold(none, |sum, of| (sum.0 + of.0, sum.1.min(of.1)));
        Backlog { updates, age: now.since(oldest) }
    }

    /// Bytes of artifacts, in all channels: active ones, and those that are being fetched or wait for the
    /// application.
    pub fn budgeted_bytes(&self) -> u64 {
        let channels = self.outboxes.iter().zip(0..).map(|(outbox, channel)| {
            let (waiting, fetching) = self.inbox.transfers.room_used(channel);
            let usage = outbox.usage();
            usage.published_bytes + usage.relayed_bytes + waiting + fetching
        });
        channels.sum()
    }

    /// The channels, in the order of the configuration. Walks through all known artifacts.
    pub fn channel_snapshots(&self) -> Vec<ChannelSnapshot> {
        let known = self.inbox.known_counts();
        let channel = |(at, known): (usize, KnownSnapshot)| {
            let (events, fetched) = self.inbox.counted(at as u16);
            ChannelSnapshot {
                id: self.channels[at].id,
                outbox: self.outboxes[at].usage(),
                known,
                inbox: self.inbox.usage(at as u16),
                events,
                acknowledged: self.sender.acknowledged(at),
                fetched,
            }
        };
        known.into_iter().enumerate().map(channel).collect()
    }

    /// Artifacts that this node advertises in a channel.
    pub fn active_count(&self, channel: ChannelId) -> u32 {
        self.channel_index(channel)
            .map_or(0, |channel_index| self.outboxes[channel_index as usize].active_count())
    }

    /// How many members have received an artifact that this node has published. `None` if it is not
    /// active. Costs the same whatever the number of members and artifacts.
    pub fn coverage(&self, channel: ChannelId, id: &ArtifactId) -> Option<Coverage> {
        let channel_index = self.channel_index(channel)?;
        self.outboxes[channel_index as usize].coverage(id)
    }

    /// What this node advertises in a slot.
    pub fn own_slot(&self, channel: ChannelId, slot: Slot) -> Option<ArtifactId> {
        let channel_index = self.channel_index(channel)?;
        let active = self.outboxes[channel_index as usize].active(slot)?;
        (!active.is_dormant()).then(|| active.body.id())
    }

    /// The artifacts in a peer's slots, as received in its present epoch, in the order of the
    /// slots.
    pub fn peer_slots(
        &self,
        peer: PeerIndex,
        channel: ChannelId,
    ) -> impl Iterator<Item = (Slot, ArtifactId)> {
        let slots = self
            .channel_index(channel)
            .map(|channel_index| self.inbox.tables.slots(peer, channel_index));
        let items = &self.inbox.catalogue.items;
        slots.into_iter().flatten().map(|(slot, known)| (slot, items[known].id))
    }

    /// Artifacts known in all channels: advertised by a member, or to be reported as expired.
    pub fn known_count(&self) -> usize {
        self.inbox.catalogue.items.len()
    }

    /// Whether a member advertises the artifact.
    pub fn is_advertised(&self, channel: ChannelId, id: &ArtifactId) -> bool {
        let known = self
            .channel_index(channel)
            .and_then(|channel_index| self.inbox.catalogue.find(channel_index, id));
        known.is_some_and(|known| !self.inbox.catalogue.items[known].is_gone())
    }

    /// Whether the bytes of an artifact are complete, and wait for the application.
    #[cfg(feature = "internals")]
    #[doc(hidden)]
    pub fn is_complete(&self, channel: ChannelId, id: &ArtifactId) -> bool {
        let channel_index = self.channel_index(channel);
        let known = channel_index.and_then(|at| self.inbox.catalogue.find(at, id));
        known.is_some_and(|known| self.inbox.catalogue.items[known].state == State::Ready)
    }

    /// Whether a peer is counted as having acknowledged an artifact that this node has published, and as
    /// having declined it.
    #[cfg(feature = "internals")]
    #[doc(hidden)]
    pub fn is_settled_by(
        &self,
        channel: ChannelId,
        id: &ArtifactId,
        peer: PeerIndex,
    ) -> Option<[bool; 2]> {
        self.outboxes[self.channel_index(channel)? as usize].is_settled_by(id, peer)
    }

    /// Whether this node has, or had, all bytes of an artifact that a member advertises.
    #[cfg(feature = "internals")]
    #[doc(hidden)]
    pub fn has_bytes(&self, channel: ChannelId, id: &ArtifactId) -> Option<bool> {
        let known = self.inbox.catalogue.find(self.channel_index(channel)?, id)?;
        let state = self.inbox.catalogue.items[known].state;
        Some(matches!(state, State::Ready | State::Done))
    }

    /// Where an artifact stands on its way to the application, in words for a person.
    #[cfg(feature = "internals")]
    #[doc(hidden)]
    pub fn explain(&self, channel: ChannelId, id: &ArtifactId) -> alloc::string::String {
        let channel_index = self.channel_index(channel);
        let known = channel_index.and_then(|channel_index| {
            Some((channel_index, self.inbox.catalogue.find(channel_index, id)?))
        });
        known.map_or("not known".into(), |(channel_index, known)| {
            self.inbox.explain(channel_index, known)
        })
    }

    /// Walks through all state and panics where it contradicts itself. For tests and fuzzing.
    #[doc(hidden)]
    pub fn assert_invariants(&self) {
        self.outboxes.iter().for_each(Outbox::assert_invariants);
        self.inbox.assert_invariants();
        self.sender.assert_invariants(&self.outboxes);
        for known in self.inbox.catalogue.items.indices() {
            let item = &self.inbox.catalogue.items[known];
            if let Some(slot) = item.own_slot {
                let active = self.outboxes[item.channel as usize].active(slot).expect("own slot");
                assert_eq!((active.known, active.body.id()), (Some(known), item.id));
                assert_eq!(active.hops, self.inbox.catalogue.relay_hops(known));
            }
        }
    }
}
