//! What the application publishes and withdraws: the commands of the machine.

use alloc::boxed::Box;

use super::Broadcast;
use super::outbox::{Active, Body, Full, Outbox, Threshold};
use crate::artifact::{Artifact, ArtifactError, CHUNKS_PREFERRED_MAX};
use crate::error::PublishError;
use crate::id::{ArtifactId, ChannelId, Slot, Version};
use crate::time::Time;
use crate::trace;

impl From<Full> for PublishError {
    fn from(full: Full) -> Self {
        match full {
            Full::Slots => Self::OutboxFull,
            Full::Bytes => Self::ActiveBytesExceeded,
        }
    }
}

impl Broadcast {
    /// Makes an artifact active: it is advertised to every member that is connected now or later.
    /// Publishing what is published already changes nothing.
    ///
    /// # Errors
    /// If the channel has no room for it; nothing has changed then.
    pub fn publish(&mut self, channel: ChannelId, artifact: Artifact) -> Result<(), PublishError> {
        let channel_index = self.check_artifact(channel, &artifact)?;
        let outbox = &mut self.outboxes[channel_index as usize];
        let id = artifact.id();
        if let Some(slot) = outbox.slot_of(&id) {
            let active = outbox.active(slot).expect("by id");
            if active.hops > 0 {
                let is_part = active.is_part();
                outbox.adopt(slot, artifact)?;
                if let Some(known) = self.inbox.catalogue.find(channel_index, &id) {
                    self.inbox.catalogue.end_relay(known);
                }
                if is_part || self.has_loopback {
                    self.note_own(channel_index, slot);
                }
                self.slot_changed(channel_index, slot);
                self.mark_chunks(channel_index, slot);
            }
            return Ok(());
        }
        let known = self.inbox.catalogue.find(channel_index, &id);
        let slot = outbox.insert(Body::Whole(artifact), 0, known)?;
        self.begin_publication(channel_index, slot);
        Ok(())
    }

    /// Makes an artifact with a key active as [`Broadcast::publish`] does, in place of what was
    /// published under the same key and this `name`: that counts as aborted, and the artifact takes its
    /// slot in one change. Names are this node's own: peers do not learn of them. An artifact has the
    /// name under which it was published last.
    ///
    /// # Errors
    /// If it has no key, or the channel has no room for it in that place; nothing has changed then.
    pub fn publish_keyed(
        &mut self,
        channel: ChannelId,
        name: u32,
        artifact: Artifact,
    ) -> Result<(), PublishError> {
        let key = artifact.key().ok_or(PublishError::NoKey)?;
        let channel_index = self.check_artifact(channel, &artifact)?;
        let outbox = &self.outboxes[channel_index as usize];
        let (id, bytes) = (artifact.id(), artifact.bytes().len() as u64);
        let slot = outbox.slot_of(&id);
        let former = outbox.named(key, name).filter(|former| Some(*former) != slot);
        if let Some(former) = former {
            let is_published =
                slot.and_then(|slot| outbox.active(slot)).is_some_and(|active| active.hops == 0);
            if !is_published {
                outbox.check_replacing(former, bytes)?;
            }
            if slot.is_none() {
                self.replace(channel_index, former, artifact);
                return Ok(());
            }
            self.clear(channel_index, former);
        }
        self.publish(channel, artifact)?;
        let outbox = &mut self.outboxes[channel_index as usize];
        let slot = outbox.slot_of(&id).expect("just published");
        outbox.set_name(slot, name);
        Ok(())
    }

    /// Makes an artifact active as [`Broadcast::publish`] does, and tells the application once when so many
    /// members have it: [`Event::Covered`](super::Event::Covered). For what is published already, this takes
    /// the place of an earlier threshold.
    ///
    /// # Errors
    /// As [`Broadcast::publish`].
    pub fn publish_covered(
        &mut self,
        channel: ChannelId,
        artifact: Artifact,
        threshold: Threshold,
    ) -> Result<(), PublishError> {
        let id = artifact.id();
        self.publish(channel, artifact)?;
        let channel_index = self.channel_index(channel).expect("just published to");
        let outbox = &mut self.outboxes[channel_index as usize];
        let slot = outbox.slot_of(&id).expect("just published");
        outbox.set_threshold(slot, threshold);
        self.note_covered(channel_index);
        Ok(())
    }

    /// The index of the channel, if the artifact can be published there.
    fn check_artifact(&self, channel: ChannelId, artifact: &Artifact) -> Result<u16, PublishError> {
        let channel_index = self.channel_index(channel).ok_or(PublishError::UnknownChannel)?;
        let config = &self.channels[channel_index as usize];
        if artifact.bytes().len() as u64 > config.artifact_bytes_max {
            return Err(ArtifactError::TooLong.into());
        }
        if artifact.publisher() != config.sender_matters.then_some(self.own) {
            return Err(PublishError::WrongPublisher);
        }
        Ok(channel_index)
    }

    /// An artifact has just come into a slot as this node's own.
    fn begin_publication(&mut self, channel_index: u16, slot: Slot) {
        let outbox = &mut self.outboxes[channel_index as usize];
        let active = outbox.active(slot).expect("just published");
        trace::if_traced(|| {
            let channel = self.channels[channel_index as usize].id;
            trace::published(channel, &active.body.id(), active.body.length());
        });
        let chunks = active.body.chunks();
        let is_long = active.body.length() >= outbox.spread_bytes_min();
        if self.may_spread && is_long && (2..=CHUNKS_PREFERRED_MAX).contains(&chunks) {
            outbox.spread(slot);
        }
        self.slot_changed(channel_index, slot);
        self.note_own(channel_index, slot);
    }

    /// This node has an artifact of its own accord, and is told so with loopback.
    fn note_own(&mut self, channel_index: u16, slot: Slot) {
        let outbox = &mut self.outboxes[channel_index as usize];
        let active = outbox.active_mut(slot).expect("just published");
        if let Body::Whole(artifact) = &active.body
            && self.has_loopback
        {
            let known = self.inbox.tell_own(&self.peers, (channel_index, slot), artifact);
            active.known = Some(known);
        } else if let Some(known) = active.known {
            self.inbox.own(known, slot);
        }
    }

    /// An artifact takes the slot of one that was published under the same key and name.
    fn replace(&mut self, channel_index: u16, slot: Slot, artifact: Artifact) {
        let known = self.inbox.catalogue.find(channel_index, &artifact.id());
        let outbox = &mut self.outboxes[channel_index as usize];
        let former = outbox.replace(slot, artifact, known);
        self.end_own(channel_index, &former);
        self.begin_publication(channel_index, slot);
        self.sender.stop_serving(&former.serving, (channel_index, slot), &mut self.outputs);
    }

    /// Withdraws an artifact that was published or relayed. False if it was not active, nor waiting to be
    /// relayed again.
    pub fn abort(&mut self, channel: ChannelId, id: &ArtifactId) -> bool {
        let Some(channel_index) = self.channel_index(channel) else { return false };
        let Some(slot) = self.outboxes[channel_index as usize].slot_of(id) else { return false };
        self.clear(channel_index, slot);
        true
    }

    /// Withdraws all artifacts of a channel that this node published under keys below `key`, and says how
    /// many. Takes as long as to abort these one by one. Relayed ones end with their publishers'.
    pub fn abort_below(&mut self, channel: ChannelId, key: u64) -> usize {
        let Some(channel_index) = self.channel_index(channel) else { return 0 };
        let mut count = 0;
        while let Some(slot) = self.outboxes[channel_index as usize].lowest_below(key) {
            self.clear(channel_index, slot);
            count += 1;
        }
        count
    }

    /// Asks the channel's filter again about everything not yet delivered or dropped. What is no
    /// longer wanted is cancelled. False if there is no such channel.
    pub fn reconsider(&mut self, now: Time, channel: ChannelId) -> bool {
        self.clamp(now);
        let Some(channel_index) = self.channel_index(channel) else { return false };
        self.inbox.reconsider(&self.peers, channel_index);
        self.end_lost();
        true
    }

    pub(super) fn clear(&mut self, channel_index: u16, slot: Slot) {
        let active = self.outboxes[channel_index as usize].clear(slot);
        self.end_own(channel_index, &active);
        let config = &self.channels[channel_index as usize];
        let is_push = active.body.length() <= config.push_bytes_max.into();
        let may_wait = active.hops == 0 && active.spread.is_none() && is_push;
        let may_wait = may_wait && !config.clear_delay.is_zero();
        self.note_change(channel_index, slot, may_wait);
        self.sender.stop_serving(&active.serving, (channel_index, slot), &mut self.outputs);
    }

    /// This node does not advertise an artifact any more.
    fn end_own(&mut self, channel_index: u16, ended: &Active) {
        trace::if_traced(|| {
            let channel = self.channels[channel_index as usize].id;
            trace::aborted(channel, &ended.body.id(), ended.hops > 0);
        });
        if let Some(known) = ended.known {
            self.inbox.catalogue.end_relay(known);
            self.inbox.end_own(known);
        }
    }

    /// All that is published now, by channel.
    #[cfg_attr(not(feature = "quic"), allow(dead_code, reason = "for nodes"))]
    pub(crate) fn marks(&self) -> Box<[Version]> {
        self.outboxes.iter().map(Outbox::version).collect()
    }

    /// Whether everything up to these marks that is still published has come to all who are up.
    #[cfg_attr(not(feature = "quic"), allow(dead_code, reason = "for nodes"))]
    pub(crate) fn is_flushed(&mut self, marks: &[Version]) -> bool {
        self.outboxes.iter_mut().zip(marks).all(|(outbox, mark)| outbox.is_flushed(*mark))
    }
}
