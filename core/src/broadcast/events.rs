//! What the application is told.

use super::Broadcast;
use crate::artifact::Artifact;
use crate::bits::ones;
use crate::id::{Arrival, ArtifactId, ChannelId, NodeId};

/// An event of a channel, for the application.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Event {
    /// An artifact, once while any member advertises it.
    Delivered {
        /// The artifact. Its bytes match its id.
        artifact: Artifact,
        /// Who sent the bytes.
        from: NodeId,
    },
    /// A member does not advertise a delivered artifact any more, and others do. In a channel that relays,
    /// that may be no abort: a relay does not go on telling a member of what it has itself.
    Withdrawn {
        /// The artifact.
        id: ArtifactId,
        /// The member.
        by: NodeId,
    },
    /// No member advertises a delivered artifact any more. Who has withdrawn it since the last event is
    /// not told one by one.
    Expired {
        /// The artifact.
        id: ArtifactId,
    },
    /// An artifact that this node has published has come as far as was asked for
    /// ([`Broadcast::publish_covered`], or that of a driver's `Channel`), and was not aborted since. Once. An
    /// acknowledgement of something short may take some 25 ms longer than the round trip (RFC 9000, section 13.2.1).
    Covered {
        /// The artifact.
        id: ArtifactId,
        /// The members that have acknowledged it by now: see
        /// [`Coverage::acknowledged`](super::Coverage::acknowledged). Fewer than when it was reached, if some have
        /// connected anew meanwhile.
        by: u16,
    },
}

impl Broadcast {
    /// Whether [`Broadcast::poll_event`] may have an event of a channel.
    pub fn has_events(&self, channel: ChannelId) -> bool {
        self.channel_index(channel).is_some_and(|channel_index| {
            self.outboxes[channel_index as usize].has_covered()
                || self.inbox.has_events(channel_index)
        })
    }

    /// Whether [`Broadcast::poll_any_event`] may have an event.
    pub fn has_any_event(&self) -> bool {
        self.with_events() != 0
    }

    /// The channels with events: bit set.
    fn with_events(&self) -> u64 {
        self.inbox.with_events() | self.covered
    }

    fn take_covered(&mut self, channel_index: u16) -> Option<Event> {
        let outbox = &mut self.outboxes[channel_index as usize];
        let covered = outbox.take_covered();
        if !outbox.has_covered() {
            self.covered &= !(1 << channel_index);
        }
        covered.map(|(id, by)| Event::Covered { id, by })
    }

    /// Something has come to a member, or fewer members are enough.
    pub(super) fn note_covered(&mut self, channel_index: u16) {
        let has_covered = self.outboxes[channel_index as usize].has_covered();
        self.covered |= u64::from(has_covered) << channel_index;
    }

    /// The channels for which [`Broadcast::has_events`] holds, as indices in the configuration.
    pub fn channels_with_events(&self) -> impl Iterator<Item = usize> + use<> {
        ones(self.with_events())
    }

    /// Takes the next event of any channel: of the artifact that has waited longest with something
    /// to be reported. Otherwise as [`Broadcast::poll_event`].
    pub fn poll_any_event(&mut self) -> Option<(ChannelId, Event)> {
        while let Some(channel_index) = ones(self.covered).next() {
            if let Some(event) = self.take_covered(channel_index as u16) {
                return Some((self.channels[channel_index].id, event));
            }
        }
        let (channel_index, event, forgotten) = self.inbox.poll_any_event(&self.peers)?;
        if let Some(forgotten) = forgotten {
            self.detach_own_slot(channel_index, &forgotten);
        }
        Some((self.channels[channel_index as usize].id, event))
    }

    /// Takes the next event of a channel. Events of one artifact come in order. An event that has
    /// ceased to be true before it was taken is left out.
    pub fn poll_event(&mut self, channel: ChannelId) -> Option<Event> {
        let channel_index = self.channel_index(channel)?;
        self.poll_event_at(channel_index).map(|(_, event)| event)
    }

    /// The same by the channel's index, with the input that made it known: the first one for what comes
    /// before all others.
    pub(crate) fn poll_event_at(&mut self, channel_index: u16) -> Option<(Arrival, Event)> {
        if let Some(event) = self.take_covered(channel_index) {
            return Some((Arrival::default(), event));
        }
        let (arrival, event, forgotten) = self.inbox.poll_event(&self.peers, channel_index)?;
        if let Some(forgotten) = forgotten {
            self.detach_own_slot(channel_index, &forgotten);
        }
        Some((arrival, event))
    }

    /// The input that made known what [`Broadcast::poll_any_event`] gives next.
    #[cfg_attr(not(feature = "quic"), allow(dead_code, reason = "for nodes"))]
    pub(crate) fn next_arrival(&mut self) -> Option<Arrival> {
        if self.covered != 0 { Some(Arrival::default()) } else { self.inbox.next_arrival() }
    }
}
