//! The handle of a channel.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::vec::Vec;

use bytes::Bytes;
use futures_core::Stream;

use super::node_handle::NodeHandle;
use super::questions::{Answer, Question, ask};
use super::shared::{Command, Manner, Shared, State};
use super::waiters::{Source, Waiting};
use crate::artifact::{Artifact, ArtifactError};
use crate::broadcast::{Coverage, Event, Threshold};
use crate::config::Relay;
use crate::error::{PublishError, RelayError};
use crate::id::{ArtifactId, ChannelId, NodeId};

/// One channel of a running node. Clones are handles to the same channel, and share its events.
///
/// ```
/// use slotcast::broadcast::Event;
/// use slotcast::driver::Channel;
///
/// async fn run(blocks: &Channel) -> Result<(), slotcast::error::PublishError> {
///     let own = blocks.publish("a block", b"height 7")?;
///     while let Some(event) = blocks.next_event().await {
///         if let Event::Delivered { artifact, from } = event {
///             println!("{} bytes from {from:#}", artifact.bytes().len());
///             // The own one is over.
///             blocks.abort(&own);
///         }
///     }
///     Ok(())
/// }
/// ```
#[must_use = "a handle does nothing by itself"]
#[derive(Clone)]
pub struct Channel {
    pub(super) node: NodeHandle,
    pub(super) id: ChannelId,
    pub(super) index: usize,
    pub(super) artifact_bytes_max: u64,
    /// Of what is published here, if it matters.
    pub(super) publisher: Option<NodeId>,
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").field("node", &self.node.key_id()).field("id", &self.id).finish()
    }
}

impl Channel {
    /// The channel's id.
    pub fn id(&self) -> ChannelId {
        self.id
    }

    /// Publishes an artifact to all members, until it is aborted. The bytes are hashed here and now (about
    /// 0.6 ms for a megabyte), if there is room; above 1 KiB they are taken without a copy. Publishing what
    /// is published already changes nothing. Equal bytes, metadata and key are one artifact, whoever
    /// publishes them: it is not delivered to a member that publishes it, too, unless that has
    /// [loopback](super::Setup::loopback).
    ///
    /// # Errors
    /// If the artifact is too long or the channel has no room for it ([`Channel::room`]); nothing has
    /// changed then.
    pub fn publish(
        &self,
        bytes: impl Into<Bytes>,
        metadata: &[u8],
    ) -> Result<ArtifactId, PublishError> {
        let bytes = bytes.into();
        self.check_length(bytes.len() as u64)?;
        self.node.shared().lock().room(self.index, bytes.len() as u64)?;
        self.publish_owned(self.make(None, bytes, metadata)?, Manner::Plain)
    }

    /// Publishes an artifact under a key, the round or height to which it belongs, and a name of your choice,
    /// in place of what was published under the same key and name: that counts as aborted, as if by
    /// [`Channel::abort`]. The key is part of the artifact's identity, and filters and members see it; the
    /// name stays here. Otherwise as [`Channel::publish`].
    ///
    /// # Errors
    /// As for [`Channel::publish`], where what is to be replaced leaves its room to the artifact.
    pub fn publish_keyed(
        &self,
        key: u64,
        name: u32,
        bytes: impl Into<Bytes>,
        metadata: &[u8],
    ) -> Result<ArtifactId, PublishError> {
        let bytes = bytes.into();
        let length = bytes.len() as u64;
        self.check_length(length)?;
        self.node.shared().lock().room_under(self.index, length, (key, name))?;
        self.publish_owned(self.make(Some(key), bytes, metadata)?, Manner::Named(name))
    }

    /// An artifact that nobody else has is passed on as it is: a second handle to a short one would cost an
    /// allocation.
    fn publish_owned(
        &self,
        artifact: Artifact,
        manner: Manner,
    ) -> Result<ArtifactId, PublishError> {
        let id = artifact.id();
        let mut given = Some(artifact);
        let (published, next) = self.node.shared().command(|state| {
            let published = state.publish(self.index, &mut given, manner);
            // What it took the place of may have been longer.
            let leaves_room = published.is_ok() && matches!(manner, Manner::Named(_));
            let room = Source::Room(self.index);
            (published, if leaves_room { state.pop_waiter(room) } else { None })
        });
        next.into_iter().for_each(Waker::wake);
        published.map(|()| id)
    }

    /// An artifact as it is published here.
    fn make(
        &self,
        key: Option<u64>,
        bytes: Bytes,
        metadata: &[u8],
    ) -> Result<Artifact, ArtifactError> {
        let join = |parts: &[&[u8]]| self.node.shared().copy_short(parts);
        Artifact::joined(key, self.publisher, bytes, metadata, join)
    }

    /// Publishes an artifact that was made before, as [`Channel::publish`] does. Where the sender
    /// [matters](crate::config::ChannelConfig::sender_matters), it has to be [by](Artifact::by)
    /// [`NodeHandle::key_id`].
    ///
    /// # Errors
    /// As for [`Channel::publish`].
    pub fn publish_artifact(&self, artifact: &Artifact) -> Result<(), PublishError> {
        self.check_length(artifact.bytes().len() as u64)?;
        self.publish_owned(artifact.clone(), Manner::Plain).map(|_| ())
    }

    /// As [`Channel::publish_artifact`], and tells once, by [`Event::Covered`], when so many members have
    /// [acknowledged](crate::broadcast::Coverage::acknowledged) it, unless it is aborted before. Of a push, that does not say that
    /// their filters wanted it: make it longer than `push_bytes_max`, or ask by a call. For what is published already, this
    /// takes the place of an earlier threshold.
    ///
    /// # Errors
    /// As for [`Channel::publish`].
    pub fn publish_covered(
        &self,
        artifact: &Artifact,
        threshold: Threshold,
    ) -> Result<(), PublishError> {
        self.check_length(artifact.bytes().len() as u64)?;
        self.publish_owned(artifact.clone(), Manner::Covered(threshold)).map(|_| ())
    }

    fn check_length(&self, bytes: u64) -> Result<(), PublishError> {
        if bytes > self.artifact_bytes_max { Err(ArtifactError::TooLong.into()) } else { Ok(()) }
    }

    /// Done when the channel has room for an artifact of so many bytes, because others have been
    /// [aborted](Channel::abort), and the driver has taken what it was told. Who waits longest comes first. The room is not kept: publish at once, and
    /// wait again if somebody else was faster.
    ///
    /// # Errors
    /// If no artifact of that length can be published, or the node has shut down.
    pub async fn room(&self, bytes: usize) -> Result<(), PublishError> {
        self.check_length(bytes as u64)?;
        let mut waiting = Waiting::new(self.node.shared(), Source::Room(self.index));
        let room = poll_fn(|cx| {
            waiting.poll(cx, |state| Some((state.poll_room(self.index, bytes as u64)?, false)))
        });
        room.await
    }

    /// Publishes artifacts that were made before, as [`Channel::publish`] does: all of them or none. The
    /// driver is woken once.
    ///
    /// # Errors
    /// If one of them is too long, or the channel, or the queue to the driver
    /// ([`DriverConfig::commands_max`](crate::config::DriverConfig::commands_max)), has no room
    /// for all; nothing has changed then.
    pub fn publish_all(&self, artifacts: &[Artifact]) -> Result<(), PublishError> {
        artifacts
            .iter()
            .try_for_each(|artifact| self.check_length(artifact.bytes().len() as u64))?;
        self.node.shared().command(|state| {
            let before = state.commands.len();
            let publish = |artifact: &Artifact| {
                state.publish(self.index, &mut Some(artifact.clone()), Manner::Plain)
            };
            let published = artifacts.iter().try_for_each(publish);
            if published.is_err() {
                for command in state.commands.split_off(before) {
                    let Command::Publish(_, artifact, _) = command else {
                        unreachable!("just added")
                    };
                    state.channels[self.index].remove(&artifact.id());
                }
            }
            published
        })
    }

    /// Withdraws a published artifact: nothing of it is sent any more, and the members learn of it.
    /// False if it was not active.
    pub fn abort(&self, id: &ArtifactId) -> bool {
        self.abort_by(|state| usize::from(state.abort(self.index, id))) > 0
    }

    /// Withdraws published artifacts, as [`Channel::abort`] does, and says how many of them were active. The
    /// driver is woken once.
    pub fn abort_all(&self, ids: &[ArtifactId]) -> usize {
        self.abort_by(|state| ids.iter().filter(|id| state.abort(self.index, id)).count())
    }

    /// Withdraws all artifacts that were published under keys below `key`, and says how many: what belongs to
    /// rounds that are over. Takes time for each of them, and none for others.
    pub fn abort_below(&self, key: u64) -> usize {
        self.abort_by(|state| state.abort_below(self.index, key))
    }

    /// Withdraws as many artifacts as it says, which leave their room to who waits for it.
    fn abort_by(&self, abort: impl FnOnce(&mut State) -> usize) -> usize {
        let (count, next) = self.node.shared().command(|state| {
            let count = abort(state);
            let next = if count > 0 { state.pop_waiter(Source::Room(self.index)) } else { None };
            (count, next)
        });
        next.into_iter().for_each(Waker::wake);
        count
    }

    /// How many members have received an artifact that this node has published, after all commands so far.
    /// `None` if it is not active, or the node has shut down.
    pub async fn coverage(&self, id: &ArtifactId) -> Option<Coverage> {
        match ask(self.node.shared(), Question::Coverage(self.index, *id)).await {
            Some(Answer::Coverage(coverage)) => coverage,
            _ => None,
        }
    }

    /// Passes on a delivered artifact, on a channel that relays, as long as members nearer to its
    /// publisher advertise it. Best effort: without room for it, it is not passed on.
    ///
    /// # Errors
    /// If the channel does not relay, or the node does not keep up.
    pub fn relay(&self, artifact: &Artifact) -> Result<(), RelayError> {
        self.node.shared().command(|state| {
            if state.is_ending() {
                return Err(RelayError::Closed);
            }
            if state.channels[self.index].config.relay == Relay::Off {
                return Err(RelayError::Off);
            }
            if state.commands.len() >= state.commands_max {
                return Err(RelayError::Busy);
            }
            state.commands.push_back(Command::Relay(self.index, artifact.clone()));
            Ok(())
        })
    }

    /// Asks the channel's filter again about everything not yet delivered or dropped.
    pub fn reconsider(&self) {
        self.node.shared().command(|state| state.reconsider |= 1 << self.index);
    }

    /// The next event; `None` once the node has shut down and the events staged by then are taken
    /// ([`DriverConfig::staged_events_max`](crate::config::DriverConfig::staged_events_max)).
    pub async fn next_event(&self) -> Option<Event> {
        let mut waiting = Waiting::new(self.node.shared(), Source::Channel(self.index));
        poll_fn(|cx| waiting.poll_next(cx, |state| state.take_event(self.index))).await
    }

    /// Waits for events, and moves all that are staged to the end of `events`: cheaper than one by one.
    /// Returns how many; 0 once the node has shut down and all are taken.
    pub async fn next_events(&self, events: &mut Vec<Event>) -> usize {
        let mut waiting = Waiting::new(self.node.shared(), Source::Channel(self.index));
        let taken =
            poll_fn(|cx| waiting.poll_next(cx, |state| state.take_events(self.index, events)));
        taken.await.unwrap_or(0)
    }

    /// Moves the events that are staged to the end of `events`. Returns how many.
    pub fn try_events(&self, events: &mut Vec<Event>) -> usize {
        self.node.shared().take(|state| state.take_events(self.index, events)).unwrap_or(0)
    }

    /// An event, if there is one.
    pub fn try_event(&self) -> Option<Event> {
        self.node.shared().take(|state| state.take_event(self.index))
    }

    /// The same events as a stream, which does not keep the node running. It ends once the node has shut
    /// down and the events staged by then are taken.
    pub fn events(&self) -> ChannelEvents {
        let waiting = Waiting::new(self.node.shared_arc(), Source::Channel(self.index));
        ChannelEvents { waiting, index: self.index }
    }
}

/// The events of a channel: [`Channel::events`].
#[must_use = "streams do nothing unless they are polled"]
pub struct ChannelEvents {
    waiting: Waiting<Arc<Shared>>,
    index: usize,
}

impl fmt::Debug for ChannelEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelEvents").finish_non_exhaustive()
    }
}

impl Stream for ChannelEvents {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let Self { waiting, index } = self.get_mut();
        waiting.poll_next(cx, |state| state.take_event(*index))
    }
}
