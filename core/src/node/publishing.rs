//! What the application says to the channels.

use std::boxed::Box;

use super::Node;
use crate::artifact::Artifact;
#[cfg(doc)]
use crate::broadcast::Broadcast;
use crate::broadcast::{Coverage, Filter, Threshold};
use crate::error::{PublishError, RelayError};
use crate::id::{ArtifactId, ChannelId};
use crate::time::Time;

impl Node {
    /// Sets what decides about a channel's artifacts. Without a filter, all are fetched. False if
    /// there is no such channel.
    pub fn set_filter(&mut self, channel: ChannelId, filter: Box<dyn Filter>) -> bool {
        self.machine.set_filter(channel, filter)
    }

    /// See [`Broadcast::set_loopback`]. The events are from [`Node::member_id`].
    pub fn set_loopback(&mut self, has_loopback: bool) {
        self.machine.set_loopback(has_loopback);
    }

    /// See [`Broadcast::has_loopback`].
    pub fn has_loopback(&self) -> bool {
        self.machine.has_loopback()
    }

    /// See [`Broadcast::publish`].
    ///
    /// # Errors
    /// If the channel has no room for it; nothing has changed then.
    pub fn publish(&mut self, channel: ChannelId, artifact: Artifact) -> Result<(), PublishError> {
        self.begin_input();
        self.machine.publish(channel, artifact)
    }

    /// See [`Broadcast::publish_keyed`].
    ///
    /// # Errors
    /// If it has no key, or the channel has no room for it; nothing has changed then.
    pub fn publish_keyed(
        &mut self,
        channel: ChannelId,
        name: u32,
        artifact: Artifact,
    ) -> Result<(), PublishError> {
        self.begin_input();
        self.machine.publish_keyed(channel, name, artifact)
    }

    /// See [`Broadcast::publish_covered`].
    ///
    /// # Errors
    /// As [`Node::publish`].
    pub fn publish_covered(
        &mut self,
        channel: ChannelId,
        artifact: Artifact,
        threshold: Threshold,
    ) -> Result<(), PublishError> {
        self.begin_input();
        self.machine.publish_covered(channel, artifact, threshold)
    }

    /// See [`Broadcast::coverage`].
    pub fn coverage(&self, channel: ChannelId, id: &ArtifactId) -> Option<Coverage> {
        self.machine.coverage(channel, id)
    }

    /// See [`Broadcast::abort`].
    pub fn abort(&mut self, channel: ChannelId, id: &ArtifactId) -> bool {
        self.begin_input();
        self.machine.abort(channel, id)
    }

    /// See [`Broadcast::abort_below`].
    pub fn abort_below(&mut self, channel: ChannelId, key: u64) -> usize {
        self.begin_input();
        self.machine.abort_below(channel, key)
    }

    /// See [`Broadcast::relay`].
    ///
    /// # Errors
    /// If no member nearer to the publisher advertises it, or there is no room. Nothing has changed
    /// then.
    pub fn relay(&mut self, channel: ChannelId, artifact: &Artifact) -> Result<(), RelayError> {
        self.begin_input();
        self.machine.relay(channel, artifact)
    }

    /// See [`Broadcast::reconsider`].
    pub fn reconsider(&mut self, now: Time, channel: ChannelId) -> bool {
        let now = self.clamp(now);
        self.machine.reconsider(now, channel)
    }
}
