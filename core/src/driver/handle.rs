//! The application's side of a node: handles that any thread may use, without waiting.
//!
//! The handles check commands against a small copy of the outbox's state, so that their result is
//! known at once, and queue them for the driver. The driver stages a bounded number of events per
//! channel. Other events stay in the node's tables, where they can still become obsolete.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;
use std::vec::Vec;

use bytes::Bytes;
use foldhash::quality::FixedState;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use super::calls::{CallCommand, CallTable, Calls};
use crate::artifact::{Artifact, ArtifactError};
use crate::bits::ones;
use crate::broadcast::Event;
use crate::config::{ChannelConfig, Relay};
use crate::error::{PublishError, RelayError};
use crate::id::{ArtifactId, ChannelId, NodeId};
use crate::membership::{Membership, Overlay, Topology, TopologyError};
use crate::node::{Node, NodeEvent, NodeStats};
use crate::time::Time;

/// The number of commands that the driver takes in one turn: some ten microseconds of work.
const COMMANDS_PER_TURN: usize = 128;

/// Futures that may wait for events of one sort.
const WAITERS_MAX: usize = 1024;

pub(super) enum Command {
    Publish(usize, Artifact),
    Abort(usize, ArtifactId),
    Relay(usize, Artifact),
    Call(CallCommand),
}

struct ChannelState {
    config: ChannelConfig,
    /// The artifacts, and their bytes, that are active once the node has executed all commands.
    active: HashMap<ArtifactId, u64, FixedState>,
    active_bytes: u64,
    events: VecDeque<Event>,
    event_bytes: usize,
    /// Events, and bytes in them, that are staged.
    staged_max: usize,
    staged_bytes_max: usize,
    /// The driver left events in the node, since the stage was full.
    is_full: bool,
    waiters: Vec<Waker>,
}

pub(super) struct State {
    channels: Vec<ChannelState>,
    pub(super) calls: Calls,
    pub(super) commands: VecDeque<Command>,
    pub(super) commands_max: usize,
    /// Bit per channel: its filter is to be asked again.
    reconsider: u64,
    /// The membership once the node has applied all changes.
    membership: Membership,
    membership_changed: bool,
    shutdown: bool,
    /// The driver has ended.
    closed: Option<Option<io::ErrorKind>>,
    closed_waiters: Vec<Waker>,
    /// The driver's waker, if it is waiting.
    pub(super) driver: Option<Waker>,
    node_events: VecDeque<NodeEvent>,
    node_staged_max: usize,
    node_waiters: Vec<Waker>,
    /// The driver left events about peers in the node, since their stage was full.
    is_full: bool,
    stats: NodeStats,
    peers_up: Vec<NodeId>,
}

impl State {
    /// Whether no more commands are taken.
    pub(super) fn is_ending(&self) -> bool {
        self.closed.is_some() || self.shutdown
    }

    /// Whether the driver has ended.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.is_some()
    }

    /// Has the node publish an artifact, if there is room for it.
    fn publish(&mut self, index: usize, artifact: Artifact) -> Result<(), PublishError> {
        if self.is_ending() {
            return Err(PublishError::Closed);
        }
        let is_busy = self.commands.len() >= self.commands_max;
        let channel = &mut self.channels[index];
        let is_full = channel.active.len() >= channel.config.publish_slots_max() as usize;
        let bytes = artifact.bytes().len() as u64;
        let Entry::Vacant(place) = channel.active.entry(artifact.id()) else { return Ok(()) };
        if is_full {
            return Err(PublishError::OutboxFull);
        }
        if channel.active_bytes + bytes > channel.config.active_bytes_max {
            return Err(PublishError::ActiveBytesExceeded);
        }
        if is_busy {
            return Err(PublishError::Busy);
        }
        place.insert(bytes);
        channel.active_bytes += bytes;
        self.commands.push_back(Command::Publish(index, artifact));
        Ok(())
    }
}

pub(super) struct Shared {
    id: NodeId,
    channels: Vec<ChannelId>,
    local: SocketAddr,
    peers_max: usize,
    overlay: Overlay,
    state: Mutex<State>,
}

impl Shared {
    pub(super) fn new(node: &Node, local: SocketAddr) -> Self {
        let hasher = FixedState::with_seed(u64::from_le_bytes(
            *node.key_id().0.first_chunk().expect("32 bytes"),
        ));
        let driver = &node.config().driver;
        let channel = |config: &ChannelConfig| ChannelState {
            config: config.clone(),
            active: HashMap::with_hasher(hasher.clone()),
            active_bytes: 0,
            events: VecDeque::new(),
            event_bytes: 0,
            staged_max: driver.staged_events_max as usize,
            staged_bytes_max: driver.staged_bytes_max as usize,
            is_full: false,
            waiters: Vec::new(),
        };
        Self {
            id: node.key_id(),
            channels: node.config().channels.iter().map(|channel| channel.id).collect(),
            local,
            peers_max: node.config().peers_max.into(),
            overlay: node.config().transport.overlay,
            state: Mutex::new(State {
                channels: node.config().channels.iter().map(channel).collect(),
                calls: Calls::new(node),
                commands: VecDeque::new(),
                commands_max: driver.commands_max as usize,
                reconsider: 0,
                membership: node.membership().clone(),
                membership_changed: false,
                shutdown: false,
                closed: None,
                closed_waiters: Vec::new(),
                driver: None,
                node_events: VecDeque::new(),
                node_staged_max: driver.staged_events_max as usize,
                node_waiters: Vec::new(),
                is_full: false,
                stats: NodeStats::default(),
                peers_up: Vec::new(),
            }),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // No code that holds the lock panics in the middle of a change, so a poisoned lock guards
        // consistent state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, then wakes the driver if it sleeps.
    pub(super) fn command<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let (result, driver) = {
            let mut state = self.lock();
            (change(&mut state), state.driver.take())
        };
        if let Some(driver) = driver {
            driver.wake();
        }
        result
    }

    /// Takes a staged event, and wakes the driver if it sleeps on events for which there is room
    /// again, as `take` says.
    pub(super) fn take<T>(&self, take: impl FnOnce(&mut State) -> Option<(T, bool)>) -> Option<T> {
        let (event, driver) = {
            let mut state = self.lock();
            let (event, refill) = take(&mut state)?;
            (event, if refill { state.driver.take() } else { None })
        };
        if let Some(driver) = driver {
            driver.wake();
        }
        Some(event)
    }

    /// Passes commands of the application to the node, as many as fit into a turn. True if none are
    /// left.
    pub(super) fn take_commands(
        &self,
        now: Time,
        node: &mut Node,
        call_table: &mut CallTable,
        waker: &Waker,
    ) -> bool {
        let mut commands = std::mem::take(&mut call_table.commands);
        let (is_all, released, membership, shutdown, reconsider) = {
            let mut state = self.lock();
            if !state.driver.as_ref().is_some_and(|driver| driver.will_wake(waker)) {
                state.driver = Some(waker.clone());
            }
            let reconsider = std::mem::take(&mut state.reconsider);
            let count = state.commands.len().min(COMMANDS_PER_TURN);
            commands.extend(state.commands.drain(..count));
            let is_all = state.commands.is_empty();
            let released = state.calls.take_released();
            let membership_changed = std::mem::take(&mut state.membership_changed);
            let membership = membership_changed.then(|| state.membership.clone());
            // The last command is given before the shutdown.
            (is_all, released, membership, state.shutdown && is_all, reconsider)
        };
        released.into_iter().for_each(|permit| node.release(permit));
        for command in commands.drain(..) {
            match command {
                Command::Publish(channel, artifact) => {
                    let published = node.publish(self.channels[channel], artifact);
                    published.expect("the handle has checked against the same bounds");
                }
                Command::Abort(channel, id) => {
                    node.abort(self.channels[channel], &id);
                }
                // There is no room, or the artifact was withdrawn in the meantime. It is not passed
                // on.
                Command::Relay(channel, artifact) => {
                    let _ = node.relay(self.channels[channel], &artifact);
                }
                Command::Call(command) => call_table.command(now, node, command),
            }
        }
        call_table.commands = commands;
        for index in ones(reconsider) {
            node.reconsider(now, self.channels[index]);
        }
        if let Some(membership) = membership {
            node.set_membership(now, membership).expect("the handle has checked it");
        }
        if shutdown {
            node.shutdown(now);
        }
        is_all
    }

    /// Changes the membership, if the change is valid.
    fn change_membership(
        &self,
        change: impl FnOnce(&mut Membership) -> Result<(), TopologyError>,
    ) -> Result<(), TopologyError> {
        self.command(|state| {
            if state.closed.is_some() {
                return Err(TopologyError::Closed);
            }
            let mut membership = state.membership.clone();
            change(&mut membership)?;
            if membership.peers_of(&self.id, self.overlay).len() > self.peers_max {
                return Err(TopologyError::TooManyMembers);
            }
            state.membership = membership;
            state.membership_changed = true;
            Ok(())
        })
    }

    /// Follows a topology in place of all others. True if it was not in use yet.
    pub(super) fn replace_topology(&self, topology: &Topology) -> Result<bool, TopologyError> {
        let mut is_new = true;
        self.change_membership(|membership| {
            let latest = membership.latest();
            is_new = latest != topology || membership.versions().len() > 1;
            if is_new && latest != topology && latest.version() == topology.version() {
                return Err(TopologyError::VersionReused);
            }
            membership.replace(topology.clone())
        })?;
        Ok(is_new)
    }

    /// How the driver has ended.
    pub(super) fn poll_closed(&self, cx: &Context<'_>) -> Poll<Option<io::ErrorKind>> {
        let mut state = self.lock();
        if let Some(closed) = state.closed {
            return Poll::Ready(closed);
        }
        wait(&mut state.closed_waiters, cx);
        Poll::Pending
    }

    /// Stages outputs of the node, as far as there is room. True if there were any, in which case
    /// the node has to be polled again.
    pub(super) fn stage_events(
        &self,
        now: Time,
        start: Instant,
        node: &mut Node,
        call_table: &mut CallTable,
    ) -> bool {
        let mut wakers = std::mem::take(&mut call_table.wakers);
        let mut has_staged = false;
        {
            let mut state = self.lock();
            state.stats = node.stats();
            has_staged |= call_table.stage(now, start, node, &mut state.calls, &mut wakers);
            for index in node.channels_with_events() {
                let (id, channel) = (self.channels[index], &mut state.channels[index]);
                channel.is_full = false;
                while node.has_events(id) {
                    if !channel.has_stage() {
                        channel.is_full = true;
                        break;
                    }
                    let Some(event) = node.poll_event(id) else { break };
                    channel.event_bytes += event_bytes(&event);
                    channel.events.push_back(event);
                    wakers.append(&mut channel.waiters);
                    has_staged = true;
                }
            }
            state.is_full = false;
            if node.has_node_events() {
                state.peers_up = node.peers_up().collect();
            }
            while node.has_node_events() {
                if state.node_events.len() >= state.node_staged_max {
                    state.is_full = true;
                    break;
                }
                let Some(event) = node.poll_node_event() else { break };
                state.node_events.push_back(event);
                wakers.append(&mut state.node_waiters);
            }
        }
        wakers.drain(..).for_each(Waker::wake);
        call_table.wakers = wakers;
        has_staged
    }

    /// The driver has ended.
    pub(super) fn close(&self, error: Option<io::ErrorKind>) {
        let mut wakers = Vec::new();
        {
            let mut state = self.lock();
            if state.closed.is_some() {
                return;
            }
            state.closed = Some(error);
            wakers.append(&mut state.closed_waiters);
            wakers.append(&mut state.node_waiters);
            for channel in &mut state.channels {
                wakers.append(&mut channel.waiters);
            }
            state.calls.close(&mut wakers);
            state.commands.clear();
        }
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl ChannelState {
    /// An artifact is not active any more. False if it was not.
    fn remove(&mut self, id: &ArtifactId) -> bool {
        let bytes = self.active.remove(id);
        self.active_bytes -= bytes.unwrap_or(0);
        bytes.is_some()
    }

    fn has_stage(&self) -> bool {
        self.events.len() < self.staged_max && self.event_bytes < self.staged_bytes_max
    }
}

/// The bytes that a staged event takes.
fn event_bytes(event: &Event) -> usize {
    let bytes = match event {
        Event::Delivered { artifact, .. } => artifact.bytes().len(),
        Event::Withdrawn { .. } | Event::Expired { .. } => 0,
    };
    bytes + size_of::<Event>()
}

/// Arranges for a wake-up. The waker of a dropped future stays in the list until the next event. If
/// the list is full, all wakers are woken, and futures that still wait register again.
pub(super) fn wait(waiters: &mut Vec<Waker>, cx: &Context<'_>) {
    if waiters.iter().any(|waiter| waiter.will_wake(cx.waker())) {
        return;
    }
    if waiters.len() >= WAITERS_MAX {
        waiters.drain(..).for_each(Waker::wake);
    }
    waiters.push(cx.waker().clone());
}

/// The application has dropped its last handle: the node shuts down.
struct Owner(Arc<Shared>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.command(|state| state.shutdown = true);
    }
}

/// A running node. Clones are handles to the same node; it shuts down when the last handle, channel
/// handles included, is dropped.
///
/// Commands never wait and may be used from any thread. Awaiting works under any runtime.
#[must_use = "a node shuts down when its last handle is dropped"]
#[derive(Clone)]
pub struct NodeHandle {
    owner: Arc<Owner>,
}

impl fmt::Debug for NodeHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeHandle").field("id", &self.key_id()).finish_non_exhaustive()
    }
}

/// The configuration has no such channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("channel {} is not configured", .0.0)]
pub struct UnknownChannel(pub ChannelId);

impl NodeHandle {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { owner: Arc::new(Owner(shared)) }
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.owner.0
    }

    /// The node, without keeping it running.
    pub(super) fn shared_arc(&self) -> Arc<Shared> {
        self.owner.0.clone()
    }

    /// The public half of the node's key.
    pub fn key_id(&self) -> NodeId {
        self.shared().id
    }

    /// The id of the member that the node is, which is the member that has its key. Equal to
    /// [`NodeHandle::key_id`] if no member has the key.
    pub fn member_id(&self) -> NodeId {
        let id = self.key_id();
        self.shared().lock().membership.owner(&id).unwrap_or(id)
    }

    /// The address that the node listens on.
    pub fn local_address(&self) -> SocketAddr {
        self.shared().local
    }

    /// A handle to one channel.
    ///
    /// # Errors
    /// If the configuration does not have it.
    pub fn channel(&self, id: ChannelId) -> Result<Channel, UnknownChannel> {
        let state = self.shared().lock();
        let index = state.channels.iter().position(|channel| channel.config.id == id);
        let index = index.ok_or(UnknownChannel(id))?;
        let artifact_bytes_max = state.channels[index].config.artifact_bytes_max;
        Ok(Channel { node: self.clone(), id, index, artifact_bytes_max })
    }

    /// Follows a new topology in place of all that are in use: connects to new members, and drops
    /// former ones at once. A node whose key belongs to no member of it keeps no connections. A
    /// topology with the version of the latest takes its place, even with other members.
    ///
    /// # Errors
    /// If its version is lower than the latest, or it has too many members; nothing has changed
    /// then.
    pub fn set_topology(&self, topology: Topology) -> Result<(), TopologyError> {
        self.shared().change_membership(|membership| membership.replace(topology))
    }

    /// Follows a topology in addition to those that are in use, and connects to new members. A
    /// member of any topology in use stays a member until that topology is
    /// [retired](NodeHandle::retire_topologies).
    ///
    /// # Errors
    /// As [`Membership::add`], or if there are too many members; nothing has changed then.
    pub fn add_topology(&self, topology: Topology) -> Result<(), TopologyError> {
        self.shared().change_membership(|membership| membership.add(topology))
    }

    /// Stops following topologies with a version below `oldest`, except for the latest. Former
    /// members are dropped at once.
    ///
    /// # Errors
    /// If the node has shut down.
    pub fn retire_topologies(&self, oldest: u64) -> Result<(), TopologyError> {
        self.shared().change_membership(|membership| {
            membership.retire(oldest);
            Ok(())
        })
    }

    /// The topologies in use, and the members by them.
    pub fn membership(&self) -> Membership {
        self.shared().lock().membership.clone()
    }

    /// The next event about peers; `None` once the node has shut down.
    pub async fn next_event(&self) -> Option<NodeEvent> {
        poll_fn(|cx| self.poll_event(cx)).await
    }

    /// An event about peers, if there is one.
    pub fn try_event(&self) -> Option<NodeEvent> {
        self.shared().take(|state| {
            let event = state.node_events.pop_front()?;
            Some((event, state.is_full && state.node_events.len() <= state.node_staged_max / 2))
        })
    }

    fn poll_event(&self, cx: &Context<'_>) -> Poll<Option<NodeEvent>> {
        if let Some(event) = self.try_event() {
            return Poll::Ready(Some(event));
        }
        let mut state = self.shared().lock();
        if !state.node_events.is_empty() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if state.closed.is_some() {
            return Poll::Ready(None);
        }
        wait(&mut state.node_waiters, cx);
        Poll::Pending
    }

    /// The members that are connected.
    pub fn peers_up(&self) -> Vec<NodeId> {
        self.shared().lock().peers_up.clone()
    }

    /// What the node has counted so far.
    pub fn stats(&self) -> NodeStats {
        self.shared().lock().stats
    }

    /// Shuts the node down: peers are told, waiting calls end. Done when the driver has ended: at the
    /// latest after `shutdown_timeout`, and [`CLOSE_MAX`](super::CLOSE_MAX) more if the socket takes that
    /// long to close. Dropping the future does not take the shutdown back.
    ///
    /// # Errors
    /// If the driver has ended for a broken socket, before or now.
    pub fn shutdown(&self) -> impl Future<Output = io::Result<()>> + use<'_> {
        self.shared().command(|state| state.shutdown = true);
        self.closed()
    }

    /// Done when the driver has ended.
    ///
    /// # Errors
    /// If it has ended for a broken socket, or a panic (of a filter, say).
    pub async fn closed(&self) -> io::Result<()> {
        let closed = poll_fn(|cx| self.shared().poll_closed(cx)).await;
        closed.map_or(Ok(()), |kind| Err(kind.into()))
    }
}

/// One channel of a running node. Clones are handles to the same channel, and share its events.
#[must_use = "a handle does nothing by itself"]
#[derive(Clone)]
pub struct Channel {
    node: NodeHandle,
    id: ChannelId,
    index: usize,
    artifact_bytes_max: u64,
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
    /// 0.6 ms for a megabyte); above 1 KiB they are taken without a copy. Publishing what is published
    /// already changes nothing. Equal bytes and metadata are one artifact, whoever publishes them: it
    /// is not delivered to a member that publishes it, too.
    ///
    /// # Errors
    /// If the artifact is too long or the channel has no room for it; nothing has changed then.
    pub fn publish(
        &self,
        bytes: impl Into<Bytes>,
        metadata: &[u8],
    ) -> Result<ArtifactId, PublishError> {
        let bytes = bytes.into();
        if bytes.len() as u64 > self.artifact_bytes_max {
            return Err(ArtifactError::TooLong.into());
        }
        let artifact = Artifact::new(bytes, metadata)?;
        let id = artifact.id();
        self.node.shared().command(|state| state.publish(self.index, artifact))?;
        Ok(id)
    }

    /// Publishes artifacts that were made before, as [`Channel::publish`] does: all of them or none. The
    /// driver is woken once.
    ///
    /// # Errors
    /// If one of them is too long, or the channel, or the queue to the driver (65,536 commands), has no room
    /// for all; nothing has changed then.
    pub fn publish_all(&self, artifacts: &[Artifact]) -> Result<(), PublishError> {
        if artifacts.iter().any(|artifact| artifact.bytes().len() as u64 > self.artifact_bytes_max)
        {
            return Err(ArtifactError::TooLong.into());
        }
        self.node.shared().command(|state| {
            let before = state.commands.len();
            let publish = |artifact: &Artifact| state.publish(self.index, artifact.clone());
            let published = artifacts.iter().try_for_each(publish);
            if published.is_err() {
                for command in state.commands.split_off(before) {
                    let Command::Publish(_, artifact) = command else { unreachable!("just added") };
                    state.channels[self.index].remove(&artifact.id());
                }
            }
            published
        })
    }

    /// Withdraws a published artifact: nothing of it is sent any more, and the members learn of it.
    /// False if it was not active.
    pub fn abort(&self, id: &ArtifactId) -> bool {
        self.node.shared().command(|state| {
            let was_active = state.channels[self.index].remove(id);
            if was_active {
                state.commands.push_back(Command::Abort(self.index, *id));
            }
            was_active
        })
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

    /// The next event; `None` once the node has shut down and the events staged by then (up to 256)
    /// are taken.
    pub async fn next_event(&self) -> Option<Event> {
        poll_fn(|cx| self.poll_take(cx, Self::try_event)).await
    }

    /// Waits for events, and moves all that there are (up to 256) to the end of `events`: cheaper than one
    /// by one. Returns how many; 0 once the node has shut down and all are taken.
    pub async fn next_events(&self, events: &mut Vec<Event>) -> usize {
        let mut take = || Some(self.try_events(events)).filter(|count| *count > 0);
        poll_fn(|cx| self.poll_take(cx, |_| take())).await.unwrap_or(0)
    }

    /// Moves the events that there are (up to 256) to the end of `events`. Returns how many.
    pub fn try_events(&self, events: &mut Vec<Event>) -> usize {
        let taken = self.node.shared().take(|state| {
            let channel = &mut state.channels[self.index];
            let count = Some(channel.events.len()).filter(|count| *count > 0)?;
            events.extend(channel.events.drain(..));
            channel.event_bytes = 0;
            Some((count, std::mem::take(&mut channel.is_full)))
        });
        taken.unwrap_or(0)
    }

    /// An event, if there is one.
    pub fn try_event(&self) -> Option<Event> {
        self.node.shared().take(|state| {
            let channel = &mut state.channels[self.index];
            let event = channel.events.pop_front()?;
            channel.event_bytes -= event_bytes(&event);
            let is_due = channel.is_full && channel.events.len() <= channel.staged_max / 2;
            channel.is_full &= !is_due;
            Some((event, is_due))
        })
    }

    /// What `take` gives, once there is an event for it.
    fn poll_take<T>(
        &self,
        cx: &Context<'_>,
        mut take: impl FnMut(&Self) -> Option<T>,
    ) -> Poll<Option<T>> {
        if let Some(taken) = take(self) {
            return Poll::Ready(Some(taken));
        }
        let mut state = self.node.shared().lock();
        let is_closed = state.closed.is_some();
        let channel = &mut state.channels[self.index];
        if !channel.events.is_empty() {
            // An event was staged in between.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if is_closed {
            return Poll::Ready(None);
        }
        wait(&mut channel.waiters, cx);
        Poll::Pending
    }
}
