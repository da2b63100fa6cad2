//! What the handles of a node and its driver share: the state under the lock.
//!
//! The handles check commands against a small copy of the outbox's state, so that their result is
//! known at once, and queue them for the driver. The driver stages a bounded number of events per
//! channel: see `turn`. Other events stay in the node's tables, where they can still become obsolete.

mod turn;

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::PoisonError;
use std::task::Waker;
use std::time::Duration;
use std::vec::Vec;

use bytes::Bytes;
use foldhash::quality::FixedState;
use hashbrown::HashMap;

pub(super) use self::turn::Staged;
use super::calls::{CallCommand, Calls};
use super::connected::Waits;
use super::node_handle::{DriverError, NodeHandle};
use super::occurrences::{Occurrence, Selection, Takers};
use super::questions::{Question, Questions};
use super::snapshots::Snapshots;
use super::sync::{Mutex, MutexGuard};
use super::waiters::{Source, Waiters};
use crate::artifact::{Artifact, Blocks};
use crate::bits::ones;
use crate::broadcast::{Event, Threshold};
use crate::config::ChannelConfig;
use crate::error::PublishError;
use crate::id::{Arrival, ArtifactId, ChannelId, NodeId};
use crate::key_index::KeyIndex;
use crate::membership::{Membership, Overlay, Topology, TopologyError};
use crate::node::{Node, NodeEvent, NodeStats};

pub(super) enum Command {
    Publish(usize, Artifact, Manner),
    Abort(usize, ArtifactId),
    Relay(usize, Artifact),
    Call(CallCommand),
    /// A question, by its number.
    Ask(u64, Question),
}

/// How an artifact is published.
#[derive(Clone, Copy)]
pub(super) enum Manner {
    Plain,
    /// Under its key and this name, in place of what was there.
    Named(u32),
    /// The application is told when so many members have it.
    Covered(Threshold),
}

/// An artifact that is published.
#[derive(Clone, Copy)]
struct Published {
    bytes: u64,
    key: Option<u64>,
    name: Option<u32>,
}

pub(super) struct ChannelState {
    pub(super) config: ChannelConfig,
    /// The artifacts that are active once the node has executed all commands.
    active: HashMap<ArtifactId, Published, FixedState>,
    active_bytes: u64,
    /// Those of them that have keys.
    keyed: KeyIndex<ArtifactId>,
    /// The publisher that artifacts of this channel have to name, if it matters.
    pub(super) publisher: Option<NodeId>,
    /// With the inputs that made them known.
    pub(super) events: VecDeque<(Arrival, Event)>,
    event_bytes: usize,
    /// Events, and bytes in them, that are staged.
    staged_max: usize,
    staged_bytes_max: usize,
    waiters: Waiters,
    room_waiters: Waiters,
}

pub(super) struct State {
    pub(super) channels: Vec<ChannelState>,
    /// Bit per channel: events are staged.
    staged_channels: u64,
    /// Bit per channel: the driver left events in the node, since the stage was full.
    full_channels: u64,
    pub(super) calls: Calls,
    /// Who takes everything in one order.
    pub(super) takers: Takers,
    pub(super) commands: VecDeque<Command>,
    pub(super) commands_max: usize,
    /// Bit per channel: somebody may wait for its room until the driver has taken commands.
    busy_channels: u64,
    /// Bit per channel: its filter is to be asked again.
    pub(super) reconsider: u64,
    /// The membership once the node has applied all changes.
    pub(super) membership: Membership,
    /// If the node has not applied all: those that it is connected to by each since the last one that it
    /// has. It drops all others, even if they are members again.
    stayed: Option<BTreeSet<NodeId>>,
    pub(super) shutdown: bool,
    /// It shuts down once it has flushed, or this span has passed. Set for the driver.
    pub(super) shutdown_within: Option<Duration>,
    /// No more is published or called, since it is going to shut down.
    is_draining: bool,
    pub(super) questions: Questions,
    /// How the driver has ended.
    pub(super) end: Option<Result<(), DriverError>>,
    end_waiters: Waiters,
    /// The last ticket that a future was given.
    last_ticket: u64,
    /// The driver's waker, if it is waiting.
    pub(super) driver: Option<Waker>,
    node_events: VecDeque<(Arrival, NodeEvent)>,
    node_staged_max: usize,
    node_waiters: Waiters,
    /// The driver left events about peers in the node, since their stage was full.
    is_full: bool,
    pub(super) stats: NodeStats,
    pub(super) peers_up: Vec<NodeId>,
    /// The node has applied a change of the membership since `peers_up` was copied.
    peers_changed: bool,
    /// The changes of who is connected that `peers_up` shows.
    changes_seen: u64,
    link_waiters: Waiters,
    pub(super) waits: Waits,
    /// Members whose connections are to be ended. At most those that were up.
    pub(super) disconnects: BTreeSet<NodeId>,
    pub(super) snapshots: Snapshots,
}

impl State {
    /// Whether no more commands are taken.
    pub(super) fn is_ending(&self) -> bool {
        self.end.is_some() || self.shutdown || self.is_draining
    }

    /// Has the node shut down once it has flushed, or this span has passed.
    pub(super) fn shut_down_within(&mut self, timeout: Duration) {
        self.is_draining = true;
        let earlier = self.shutdown_within.map_or(timeout, |other| other.min(timeout));
        self.shutdown_within = Some(earlier);
    }

    /// The last handle is gone.
    pub(super) fn abandon(&mut self) {
        self.shutdown |= !self.is_draining;
    }

    /// Whether the driver has ended.
    pub(super) fn is_closed(&self) -> bool {
        self.end.is_some()
    }

    /// Whether a channel has room for an artifact of so many bytes.
    ///
    /// # Errors
    /// If it has none.
    pub(super) fn room(&self, index: usize, bytes: u64) -> Result<(), PublishError> {
        self.room_in_place(index, bytes, None)
    }

    /// Whether there is room, or never will be. `None`: there may be later, and who waits for it is woken then.
    pub(super) fn poll_room(
        &mut self,
        index: usize,
        bytes: u64,
    ) -> Option<Result<(), PublishError>> {
        match self.room(index, bytes) {
            Err(PublishError::OutboxFull | PublishError::ActiveBytesExceeded) => None,
            Err(PublishError::Busy) => {
                self.busy_channels |= 1 << index;
                None
            }
            room => Some(room),
        }
    }

    /// The same for one that takes the place of `former`, if there is one.
    fn room_in_place(
        &self,
        index: usize,
        bytes: u64,
        former: Option<ArtifactId>,
    ) -> Result<(), PublishError> {
        let channel = &self.channels[index];
        if self.is_ending() {
            return Err(PublishError::Closed);
        }
        let former = former.map(|former| channel.active[&former].bytes);
        let others = channel.active.len() - usize::from(former.is_some());
        if others >= channel.config.publish_slots_max() as usize {
            return Err(PublishError::OutboxFull);
        }
        if channel.active_bytes - former.unwrap_or(0) + bytes > channel.config.active_bytes_max {
            return Err(PublishError::ActiveBytesExceeded);
        }
        if self.commands.len() >= self.commands_max {
            return Err(PublishError::Busy);
        }
        Ok(())
    }

    /// Whether a channel has room for an artifact of so many bytes in place of what is published under a
    /// key and a name, if something is.
    ///
    /// # Errors
    /// If it has none.
    pub(super) fn room_under(
        &self,
        index: usize,
        bytes: u64,
        (key, name): (u64, u32),
    ) -> Result<(), PublishError> {
        self.room_in_place(index, bytes, self.channels[index].keyed.find(key, name))
    }

    /// Has the node publish an artifact, if there is room for it. It is taken only then, so that it is dropped
    /// outside of the lock otherwise.
    pub(super) fn publish(
        &mut self,
        index: usize,
        given: &mut Option<Artifact>,
        manner: Manner,
    ) -> Result<(), PublishError> {
        let artifact = given.as_ref().expect("not taken before");
        let (id, bytes) = (artifact.id(), artifact.bytes().len() as u64);
        let name = if let Manner::Named(name) = manner { Some(name) } else { None };
        let mut new = Published { bytes, key: artifact.key(), name };
        let channel = &self.channels[index];
        if artifact.publisher() != channel.publisher {
            return Err(PublishError::WrongPublisher);
        }
        let present = channel.active.get(&id).copied();
        let former = match (new.key, name) {
            (Some(key), Some(name)) => channel.keyed.find(key, name),
            (None, Some(_)) => return Err(PublishError::NoKey),
            (_, None) => None,
        };
        let former = former.filter(|former| *former != id);
        let changes_nothing = |present: Published| match manner {
            Manner::Plain => true,
            Manner::Named(name) => present.name == Some(name),
            Manner::Covered(_) => false,
        };
        match present {
            None => self.room_in_place(index, bytes, former)?,
            Some(_) if self.is_ending() => return Err(PublishError::Closed),
            Some(present) if changes_nothing(present) => return Ok(()),
            Some(_) if self.commands.len() >= self.commands_max => return Err(PublishError::Busy),
            Some(_) => {}
        }
        new.name = name.or(present.and_then(|present| present.name));
        let channel = &mut self.channels[index];
        for gone in former.into_iter().chain(present.map(|_| id)) {
            channel.remove(&gone);
        }
        channel.insert(id, new);
        let artifact = given.take().expect("just seen");
        self.commands.push_back(Command::Publish(index, artifact, manner));
        Ok(())
    }

    /// Withdraws an artifact. False if it was not active.
    pub(super) fn abort(&mut self, index: usize, id: &ArtifactId) -> bool {
        let was_active = self.channels[index].remove(id);
        if was_active && !self.is_closed() {
            self.commands.push_back(Command::Abort(index, *id));
        }
        was_active
    }

    /// Withdraws all artifacts that were published under lower keys. How many.
    pub(super) fn abort_below(&mut self, index: usize, key: u64) -> usize {
        let mut count = 0;
        while let Some(id) = self.channels[index].keyed.lowest_below(key) {
            self.abort(index, &id);
            count += 1;
        }
        count
    }

    /// Takes an event of a channel, and says whether the driver is to stage more.
    pub(super) fn take_event(&mut self, index: usize) -> Option<(Event, bool)> {
        let channel = &mut self.channels[index];
        let (_, event) = channel.events.pop_front()?;
        channel.event_bytes -= event_bytes(&event);
        let is_full = self.full_channels & 1 << index != 0;
        if channel.events.is_empty() {
            self.staged_channels &= !(1 << index);
        }
        Some((event, is_full && channel.events.len() <= channel.staged_max / 2))
    }

    /// The same for all that there are, of which it gives the number.
    pub(super) fn take_events(
        &mut self,
        index: usize,
        events: &mut Vec<Event>,
    ) -> Option<(usize, bool)> {
        let channel = &mut self.channels[index];
        let count = Some(channel.events.len()).filter(|count| *count > 0)?;
        events.extend(channel.events.drain(..).map(|(_, event)| event));
        channel.event_bytes = 0;
        self.staged_channels &= !(1 << index);
        Some((count, self.full_channels & 1 << index != 0))
    }

    /// Takes an event about peers, and says whether the driver is to stage more.
    pub(super) fn take_node_event(&mut self) -> Option<(NodeEvent, bool)> {
        let (_, event) = self.node_events.pop_front()?;
        Some((event, self.is_full && self.node_events.len() <= self.node_staged_max / 2))
    }

    /// A ticket for a future that begins to wait.
    pub(super) fn new_ticket(&mut self) -> u64 {
        self.last_ticket += 1;
        self.last_ticket
    }

    /// The futures that wait for something. `None` if it cannot come any more.
    pub(super) fn waiters(&mut self, source: Source) -> Option<&mut Waiters> {
        match source {
            Source::Channel(index) => Some(&mut self.channels[index].waiters),
            Source::Peers => Some(&mut self.node_waiters),
            Source::Route(index) => Some(self.calls.waiters(index)),
            Source::Any(taker) => Some(self.takers.waiters(taker)),
            Source::Credit(route, member) => self.calls.credit_waiters(route, &member),
            Source::Cancellation(request) => self.calls.cancellation_waiters(request),
            Source::Parts(slot) => self.calls.part_waiters(slot),
            Source::Room(index) => Some(&mut self.channels[index].room_waiters),
            Source::Links => Some(&mut self.link_waiters),
            Source::QuestionRoom => Some(&mut self.questions.room_waiters),
            Source::Answers => Some(&mut self.questions.waiters),
            Source::Snapshot => Some(&mut self.snapshots.waiters),
            Source::End => Some(&mut self.end_waiters),
        }
    }

    /// Takes out those that wait for what is left of something, to be woken: one, or one for each kind of
    /// what a taker has selected.
    pub(super) fn pop_next(&mut self, source: Source) -> impl Iterator<Item = Waker> + use<> {
        let (mut next, mut others) = (None, Vec::new());
        match source {
            Source::Any(taker) => self.pop_selected(taker, &mut others),
            _ => next = self.pop_waiter(source),
        }
        next.into_iter().chain(others)
    }

    fn pop_selected(&mut self, taker: u32, wakers: &mut Vec<Waker>) {
        let Selection { channels, routes, has_node_events } = self.takers.selection(taker);
        let channels = ones(channels & self.staged_channels).map(Source::Channel);
        let routes = ones(routes).map(Source::Route);
        let peers = has_node_events.then_some(Source::Peers);
        for source in channels.chain(routes).chain(peers) {
            wakers.extend(self.pop_waiter(source));
        }
    }

    /// Takes out a future that waits for something that there is, to be woken.
    pub(super) fn pop_waiter(&mut self, source: Source) -> Option<Waker> {
        let has_some = match source {
            Source::Channel(index) => !self.channels[index].events.is_empty(),
            Source::Peers => !self.node_events.is_empty(),
            Source::Route(index) => self.calls.has_staged(index),
            Source::Room(index) => self.poll_room(index, 0).is_some(),
            Source::Credit(route, member) => self.calls.has_place(route, &member),
            Source::QuestionRoom => self.has_question_room(),
            // All are woken when it comes.
            Source::Cancellation(_)
            | Source::Parts(_)
            | Source::Links
            | Source::Answers
            | Source::Snapshot
            | Source::End => false,
            Source::Any(_) => unreachable!("it waits for several things"),
        };
        if !has_some {
            return None;
        }
        self.waiters(source)?.pop().or_else(|| self.takers.pop(source))
    }

    /// Whether there may be something of a selection in the node, since there was no room for it, that came
    /// before all that is staged.
    fn lacks_some(&self, selection: &Selection) -> bool {
        let Selection { channels, routes, has_node_events } = *selection;
        let lacks_channel = channels & self.full_channels & !self.staged_channels != 0;
        let lacks_node_event = has_node_events && self.is_full && self.node_events.is_empty();
        lacks_channel || lacks_node_event || self.calls.lacks_some(routes)
    }

    /// What is staged of a selection, and came first. `None` if there is nothing, or it is not known.
    fn first_staged(&self, selection: &Selection) -> Option<Source> {
        if self.lacks_some(selection) {
            return None;
        }
        let Selection { channels, routes, has_node_events } = *selection;
        // Of one input, what happens to a connection comes before what happens on it.
        let of_peers = self.node_events.front().filter(|_| has_node_events);
        let of_peers = of_peers.map(|(arrival, _)| (*arrival, 0, Source::Peers));
        let of_channels = ones(channels & self.staged_channels).map(|index| {
            let (arrival, _) = self.channels[index].events.front().expect("it has some");
            (*arrival, 1, Source::Channel(index))
        });
        let of_routes =
            self.calls.first_staged(routes).map(|(arrival, at)| (arrival, 2, Source::Route(at)));
        let staged = of_peers.into_iter().chain(of_channels).chain(of_routes);
        staged.min_by_key(|(arrival, kind, _)| (*arrival, *kind)).map(|(_, _, source)| source)
    }

    /// Takes what came first of all that a taker has selected.
    pub(super) fn take_occurrence(
        &mut self,
        taker: u32,
        node: &NodeHandle,
    ) -> Option<(Occurrence, bool)> {
        let selection = self.takers.selection(taker);
        self.takers.set_lacks_some(taker, self.lacks_some(&selection));
        Some(match self.first_staged(&selection)? {
            Source::Channel(index) => {
                let channel = self.channels[index].config.id;
                let (event, refill) = self.take_event(index)?;
                (Occurrence::Artifact { channel, event }, refill)
            }
            Source::Route(index) => {
                let (route, request, refill) = self.take_first_request(index, node)?;
                (Occurrence::Request { route, request }, refill)
            }
            _ => {
                let (event, refill) = self.take_node_event()?;
                (Occurrence::Node(event), refill)
            }
        })
    }
}

pub(super) struct Shared {
    pub(super) id: NodeId,
    channels: Vec<ChannelId>,
    pub(super) local: SocketAddr,
    peers_max: usize,
    overlay: Overlay,
    /// For short artifacts that are published. By itself, so that nobody waits while they are copied.
    blocks: Mutex<Blocks>,
    state: Mutex<State>,
    /// How often the lock has been taken.
    #[cfg(test)]
    locks: std::sync::atomic::AtomicU64,
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
            keyed: KeyIndex::default(),
            publisher: config.sender_matters.then(|| node.key_id()),
            events: VecDeque::new(),
            event_bytes: 0,
            staged_max: driver.staged_events_max as usize,
            staged_bytes_max: driver.staged_bytes_max as usize,
            waiters: Waiters::default(),
            room_waiters: Waiters::default(),
        };
        Self {
            id: node.key_id(),
            channels: node.config().channels.iter().map(|channel| channel.id).collect(),
            local,
            peers_max: node.config().peers_max.into(),
            overlay: node.config().transport.overlay,
            blocks: Mutex::new(Blocks::published()),
            state: Mutex::new(State {
                channels: node.config().channels.iter().map(channel).collect(),
                staged_channels: 0,
                full_channels: 0,
                calls: Calls::new(node),
                takers: Takers::new(),
                commands: VecDeque::new(),
                commands_max: driver.commands_max as usize,
                busy_channels: 0,
                reconsider: 0,
                membership: node.membership().clone(),
                stayed: None,
                shutdown: false,
                shutdown_within: None,
                is_draining: false,
                questions: Questions::default(),
                end: None,
                end_waiters: Waiters::default(),
                last_ticket: 0,
                driver: None,
                node_events: VecDeque::new(),
                node_staged_max: driver.staged_events_max as usize,
                node_waiters: Waiters::default(),
                is_full: false,
                stats: NodeStats::default(),
                peers_up: Vec::new(),
                peers_changed: false,
                changes_seen: 0,
                link_waiters: Waiters::default(),
                waits: Waits::new(),
                disconnects: BTreeSet::new(),
                snapshots: Snapshots::default(),
            }),
            #[cfg(test)]
            locks: std::sync::atomic::AtomicU64::default(),
        }
    }

    /// How often the lock has been taken so far.
    #[cfg(test)]
    pub(super) fn locks(&self) -> u64 {
        self.locks.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// The guard is held for moments, in which nothing foreign runs: no waker and no filter, and no
    /// destructor of the application's bytes, which may use a handle.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        #[cfg(test)]
        self.locks.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        // No code that holds the lock panics in the middle of a change, so a poisoned lock guards
        // consistent state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy of the parts of a short artifact, in a block that others share.
    pub(super) fn copy_short(&self, parts: &[&[u8]]) -> Bytes {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner).copy(parts)
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

    /// Changes the membership, if the change is valid.
    pub(super) fn change_membership(
        &self,
        change: impl FnOnce(&mut Membership) -> Result<(), TopologyError>,
    ) -> Result<(), TopologyError> {
        self.command(|state| {
            if state.is_closed() {
                return Err(TopologyError::Closed);
            }
            let mut membership = state.membership.clone();
            change(&mut membership)?;
            let peers = membership.peers_of(&self.id, self.overlay);
            if peers.len() > self.peers_max {
                return Err(TopologyError::TooManyMembers);
            }
            let former = state.stayed.take();
            let former =
                former.unwrap_or_else(|| state.membership.peers_of(&self.id, self.overlay));
            state.stayed = Some(&former & &peers);
            state.membership = membership;
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

    /// The number of members that the node is to be connected to. `None` while the node has not told
    /// who is connected since the last change of the membership.
    pub(super) fn peers_wanted(&self, state: &State) -> Option<usize> {
        let is_current = state.stayed.is_none() && !state.peers_changed;
        is_current.then(|| state.membership.peers_of(&self.id, self.overlay).len())
    }

    /// The driver takes nothing more.
    pub(super) fn begin_end(&self) {
        self.lock().shutdown = true;
    }

    /// The driver has ended.
    pub(super) fn close(&self, end: Result<(), DriverError>) {
        let mut wakers = Vec::new();
        // Dropped when the lock is released.
        let _garbage = {
            let mut state = self.lock();
            if state.is_closed() {
                return;
            }
            state.end = Some(end);
            state.peers_up.clear();
            wakers.extend(state.end_waiters.drain());
            // Nothing comes any more before what is staged.
            (state.full_channels, state.is_full) = (0, false);
            wakers.extend(state.takers.drain());
            wakers.extend(state.node_waiters.drain());
            wakers.extend(state.link_waiters.drain());
            wakers.extend(state.questions.waiters.drain());
            wakers.extend(state.questions.room_waiters.drain());
            wakers.extend(state.snapshots.waiters.drain());
            for channel in &mut state.channels {
                wakers.extend(channel.waiters.drain());
                wakers.extend(channel.room_waiters.drain());
            }
            let of_calls = state.calls.close(&mut wakers);
            (of_calls, std::mem::take(&mut state.commands), state.driver.take())
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl ChannelState {
    /// An artifact is not active any more. False if it was not.
    pub(super) fn remove(&mut self, id: &ArtifactId) -> bool {
        let Some(Published { bytes, key, name }) = self.active.remove(id) else { return false };
        self.active_bytes -= bytes;
        if let Some(key) = key {
            self.keyed.remove(key, name, *id);
        }
        true
    }

    fn insert(&mut self, id: ArtifactId, published: Published) {
        self.active_bytes += published.bytes;
        if let Some(key) = published.key {
            self.keyed.insert(key, published.name, id);
        }
        self.active.insert(id, published);
    }
}

/// The bytes that a staged event takes.
fn event_bytes(event: &Event) -> usize {
    let bytes = match event {
        Event::Delivered { artifact, .. } => artifact.bytes().len(),
        Event::Withdrawn { .. } | Event::Expired { .. } | Event::Covered { .. } => 0,
    };
    bytes + size_of::<(Arrival, Event)>()
}
