//! The receiving side: what peers advertise, what the filter says of it, and what the application
//! is told.
//!
//! Events are not queued: an artifact with something to report is in its channel's list once, and
//! what there is to report is read off the tables when the application takes it. So an application
//! that stops taking events costs nothing but the tables, and what has become untrue meanwhile is
//! never reported. Invariants 5, 6, 7.

use alloc::boxed::Box;
use alloc::vec::Vec;
use bytes::Bytes;
use foldhash::quality::FixedState;

use super::catalogue::{Catalogue, EventChain, FetchAll, Known, OrderChain, PendingChain, State};
use super::fetch::{Due, Fetch, Progress};
use super::tables::{Age, Applied, Tables};
use super::{Candidate, Decision, Event, Filter, PeerTable, RequestId};
use crate::arena::List;
use crate::artifact::{Advert, Artifact};
use crate::config::{ChannelConfig, Config};
use crate::error::Fault;
use crate::id::{ArtifactId, NodeId, PeerIndex, Slot};
use crate::time::Time;
use crate::wire::{Chunk, LiveSlots};

struct Channel {
    config: ChannelConfig,
    filter: Box<dyn Filter>,
    events: List<EventChain>,
    pending: List<PendingChain>,
    /// Bytes waiting for the application.
    ready_bytes: u64,
    /// Room taken for artifacts that are being fetched.
    fetching_bytes: u64,
}

impl Channel {
    /// Fetches must not keep pushes out: they can be made to last.
    fn can_push(&self, bytes: u64) -> bool {
        self.ready_bytes + bytes <= self.config.inbox_bytes_max
    }

    /// Room for bytes to be fetched, once so many of those being fetched are given up.
    fn room(&self, freed: u64) -> u64 {
        let used = self.ready_bytes + self.fetching_bytes - freed;
        self.config.inbox_bytes_max.saturating_sub(used)
    }
}

pub(super) struct Inbox {
    pub(super) catalogue: Catalogue,
    pub(super) tables: Tables,
    pub(super) fetch: Fetch,
    channels: Vec<Channel>,
    /// All artifacts with something to report, in the order in which they came to have it.
    reports: List<OrderChain>,
    /// Bit set: the channel has some of them.
    with_events: u64,
    /// Artifacts that the peer of the input has ceased to advertise, each once, and that are still to
    /// be looked at. Empty between inputs.
    unlinked: Vec<u32>,
}

/// An artifact that has left the catalogue, as far as the sending side must know.
pub(super) struct Forgotten {
    pub(super) own_slot: Option<Slot>,
}

/// What a slot of a peer is said to hold.
pub(super) struct Content<'a> {
    pub(super) id: ArtifactId,
    pub(super) advert: &'a Advert,
    pub(super) hops: u8,
    /// The bytes, if they came along.
    pub(super) pushed: Option<&'a [u8]>,
    pub(super) streamed: bool,
}

/// What became of a slot's content.
pub(super) struct ContentOutcome {
    pub(super) known: u32,
    /// The bytes are complete by this input.
    pub(super) is_complete: bool,
    /// The request under which streamed chunks are taken.
    pub(super) request: Option<RequestId>,
}

impl Inbox {
    pub(super) fn new(config: &Config, hasher: &FixedState) -> Self {
        let channel = |config: &ChannelConfig| Channel {
            config: config.clone(),
            filter: Box::new(FetchAll),
            events: List::default(),
            pending: List::default(),
            ready_bytes: 0,
            fetching_bytes: 0,
        };
        Self {
            catalogue: Catalogue::new(config.channels.len(), hasher),
            tables: Tables::new(config.channels.len(), hasher),
            fetch: Fetch::new(config),
            channels: config.channels.iter().map(channel).collect(),
            reports: List::default(),
            with_events: 0,
            unlinked: Vec::new(),
        }
    }

    pub(super) fn set_filter(&mut self, channel: u16, filter: Box<dyn Filter>) {
        self.channels[channel as usize].filter = filter;
    }

    pub(super) fn peer_up(&mut self, now: Time, peer: PeerIndex) {
        self.fetch.peer_up(peer);
        for channel in 0..self.channels.len() as u16 {
            let at = (peer, channel);
            self.tables.begin_epoch(&mut self.catalogue, at, &mut self.unlinked);
            let mut parked = core::mem::take(&mut self.unlinked);
            let from_here = parked.len();
            parked.extend(self.tables.advertised(peer, channel));
            for known in parked.drain(from_here..) {
                self.catalogue.items[known].tried.remove(peer);
                self.want_if_parked(now, known, peer);
                self.take_over_if_sooner(now, known, peer);
            }
            self.unlinked = parked;
        }
    }

    pub(super) fn peer_down(&mut self, now: Time, peer: PeerIndex) {
        let mut orphans = core::mem::take(&mut self.unlinked);
        self.fetch.peer_down(&mut self.catalogue, peer, &mut orphans);
        for known in orphans.drain(..) {
            self.want(now, known);
        }
        self.unlinked = orphans;
    }

    /// Forgets all that a peer advertised. Its artifacts are to be looked at with
    /// [`Inbox::take_unlinked`]; nobody is told that it withdrew them.
    pub(super) fn remove_peer(&mut self, peer: PeerIndex) {
        for channel in 0..self.channels.len() as u16 {
            for age in [Age::Current, Age::Stale] {
                self.tables.sweep(&mut self.catalogue, (peer, channel), age, &mut self.unlinked);
            }
        }
        self.tables.remove_peer(peer);
        self.fetch.remove_peer(peer);
        // Artifacts that it withdrew earlier, and not yet reported: a walk through the pending events
        // for each member that leaves. A list of them by member would cost a multiple of the sets.
        for channel in &mut self.channels {
            let mut next = channel.events.front();
            while let Some(known) = next {
                self.catalogue.items[known].withdrawn.remove(peer);
                next = channel.events.next(&mut self.catalogue.items, known);
            }
        }
    }

    /// A slot of a peer now holds `content`.
    ///
    /// # Errors
    /// If that contradicts another slot of the peer. Nothing has changed then.
    pub(super) fn set_content(
        &mut self,
        now: Time,
        peers: &PeerTable,
        (peer, channel, slot): (PeerIndex, u16, Slot),
        version: u64,
        content: &Content<'_>,
        own_slot: Option<Slot>,
    ) -> Result<ContentOutcome, Fault> {
        let found = self.catalogue.find(channel, &content.id);
        let is_reborn = found.is_some_and(|known| self.catalogue.items[known].is_gone());
        let known = found
            .unwrap_or_else(|| self.catalogue.insert(channel, content.id, content.advert.clone()));
        let held = Some((known, content.hops));
        // An artifact that has just become known cannot be in another slot.
        match self.tables.apply(&mut self.catalogue, (peer, channel, slot), version, held)? {
            Applied::Changed { unlinked } => self.unlinked.extend(unlinked),
            Applied::Same => {}
            Applied::Stale => unreachable!("the caller has looked"),
        }
        let item = &mut self.catalogue.items[known];
        item.tried.remove(peer);
        item.withdrawn.remove(peer);
        if is_reborn {
            (item.delivered, item.expiry_due) = (false, true);
        }
        if found.is_none() || is_reborn {
            item.own_slot = own_slot;
            item.state = State::Done;
            if own_slot.is_none() {
                self.decide(peers, known, peer);
            }
        }
        let mut outcome = ContentOutcome { known, is_complete: false, request: None };
        if let State::Parked(_) | State::Waiting(_) | State::Fetching(..) =
            self.catalogue.items[known].state
        {
            match content.pushed {
                Some(bytes) if self.take_pushed(known, peers.node(peer), bytes) => {
                    outcome.is_complete = true;
                }
                _ if content.streamed => outcome.request = self.take_stream(now, known, peer),
                _ => {}
            }
            self.want_if_parked(now, known, peer);
            self.take_over_if_sooner(now, known, peer);
        }
        self.update_pending(known);
        Ok(outcome)
    }

    /// Asks the filter. What it wants is parked: the caller looks for the bytes.
    fn decide(&mut self, peers: &PeerTable, known: u32, from: PeerIndex) {
        let item = &mut self.catalogue.items[known];
        let channel = &mut self.channels[item.channel as usize];
        let decision = channel.filter.decide(&Candidate {
            channel: channel.config.id,
            id: &item.id,
            advert: &item.advert,
            from: peers.node(from),
        });
        match decision {
            Decision::Fetch(priority) => {
                let in_queue = matches!(item.state, State::Waiting(_) | State::Parked(Some(_)));
                if in_queue && item.priority != priority {
                    self.fetch.withdraw(&mut self.catalogue, known);
                }
                let item = &mut self.catalogue.items[known];
                item.priority = priority;
                if !matches!(item.state, State::Waiting(_) | State::Parked(_) | State::Fetching(..))
                {
                    item.state = State::Parked(None);
                }
            }
            Decision::Later => self.stop_fetching(known, State::Later),
            Decision::Drop => self.stop_fetching(known, State::Dropped),
        }
    }

    /// Takes an artifact out of the fetching part; it is in `state` from then on.
    fn stop_fetching(&mut self, known: u32, state: State) {
        self.fetch.withdraw(&mut self.catalogue, known);
        let freed = self.fetch.drop_assembly(&mut self.catalogue, known);
        let item = &mut self.catalogue.items[known];
        self.channels[item.channel as usize].fetching_bytes -= freed;
        item.state = state;
        item.wanted = 0;
    }

    /// Has an artifact that waits for a holder wait for `peer`, which advertises it. The other holders
    /// are not looked at: if one of them could be asked, the artifact would not be parked, or the
    /// queues of all are long.
    fn want_if_parked(&mut self, now: Time, known: u32, peer: PeerIndex) {
        if matches!(self.catalogue.items[known].state, State::Parked(_))
            && self.fetch.is_usable(&self.catalogue, known, peer)
        {
            self.fetch.withdraw(&mut self.catalogue, known);
            self.fetch.want_from(now, &mut self.catalogue, known, Some(peer));
        }
    }

    /// Puts an artifact into its channel's list of pending ones, or takes it out.
    fn update_pending(&mut self, known: u32) {
        let item = &mut self.catalogue.items[known];
        let (channel, is_pending) = (item.channel as usize, item.state.is_pending());
        if core::mem::replace(&mut item.is_pending, is_pending) != is_pending {
            let pending = &mut self.channels[channel].pending;
            match is_pending {
                true => pending.push_back(&mut self.catalogue.items, known),
                false => pending.remove(&mut self.catalogue.items, known),
            }
        }
    }

    fn requeue(&mut self, now: Time, known: u32) {
        self.fetch.withdraw(&mut self.catalogue, known);
        self.want(now, known);
    }

    fn want(&mut self, now: Time, known: u32) {
        self.fetch.want(now, &mut self.catalogue, known);
    }

    /// A member that holds an artifact is here, maybe a better one than that which it waits for.
    fn take_over_if_sooner(&mut self, now: Time, known: u32, peer: PeerIndex) {
        if self.fetch.is_sooner(&self.catalogue, known, peer) {
            if let State::Fetching(silent, _) = self.catalogue.items[known].state {
                self.fetch.leave(&mut self.catalogue, known, silent);
            }
            self.requeue(now, known);
        }
    }

    /// Takes pushed bytes, if there is room for them; else they will be fetched.
    fn take_pushed(&mut self, known: u32, from: NodeId, bytes: &[u8]) -> bool {
        let item = &self.catalogue.items[known];
        let channel = item.channel as usize;
        if !self.channels[channel].can_push(bytes.len() as u64) {
            return false;
        }
        let artifact = Artifact::of_chunk(item.advert.clone(), Bytes::copy_from_slice(bytes));
        self.stop_fetching(known, State::Ready);
        self.complete(known, from, artifact);
        true
    }

    /// Takes the chunks that come unasked from `peer`, if there is room for them.
    fn take_stream(&mut self, now: Time, known: u32, peer: PeerIndex) -> Option<RequestId> {
        let item = &self.catalogue.items[known];
        let channel = item.channel as usize;
        let (channel_index, length) = (item.channel, item.advert.length);
        let is_possible = item.assembly.is_none()
            && length <= self.channels[channel].room(0)
            && self.fetch.may_stream(peer, channel_index, length);
        if !is_possible {
            return None;
        }
        self.fetch.withdraw(&mut self.catalogue, known);
        self.start(now, known, peer, true)
    }

    fn start(
        &mut self,
        now: Time,
        known: u32,
        peer: PeerIndex,
        streamed: bool,
    ) -> Option<RequestId> {
        let (request, takes_room) =
            self.fetch.start(now, &mut self.catalogue, known, peer, streamed)?;
        if takes_room {
            let item = &self.catalogue.items[known];
            self.channels[item.channel as usize].fetching_bytes += item.advert.length;
        }
        Some(request)
    }

    fn complete(&mut self, known: u32, from: NodeId, artifact: Artifact) {
        let item = &mut self.catalogue.items[known];
        debug_assert_eq!(item.id, artifact.id(), "invariant 6");
        self.channels[item.channel as usize].ready_bytes += artifact.bytes().len() as u64;
        item.state = State::Ready;
        item.artifact = Some(artifact);
        item.from = Some(from);
        self.report(known);
    }

    fn report(&mut self, known: u32) {
        let item = &mut self.catalogue.items[known];
        if !core::mem::replace(&mut item.has_event, true) {
            let channel = item.channel as usize;
            self.channels[channel].events.push_back(&mut self.catalogue.items, known);
            self.reports.push_back(&mut self.catalogue.items, known);
            self.with_events |= 1 << channel;
        }
    }

    /// There is nothing more to report of an artifact.
    fn unreport(&mut self, known: u32) {
        let item = &mut self.catalogue.items[known];
        item.has_event = false;
        let channel = item.channel as usize;
        let events = &mut self.channels[channel].events;
        events.remove(&mut self.catalogue.items, known);
        if events.front().is_none() {
            self.with_events &= !(1 << channel);
        }
        self.reports.remove(&mut self.catalogue.items, known);
    }

    /// This node has an artifact of its own accord: it is neither fetched nor delivered.
    pub(super) fn own(&mut self, known: u32, slot: Slot) {
        self.drop_bytes(known);
        self.catalogue.items[known].own_slot = Some(slot);
    }

    /// Gives up what is here of an artifact, and what was to come.
    fn drop_bytes(&mut self, known: u32) {
        let item = &mut self.catalogue.items[known];
        if let Some(artifact) = item.artifact.take() {
            self.channels[item.channel as usize].ready_bytes -= artifact.bytes().len() as u64;
            self.fetch.dispatch_due = true;
        }
        self.stop_fetching(known, State::Done);
        self.update_pending(known);
    }

    /// A slot of a peer is empty now.
    pub(super) fn clear(&mut self, at: (PeerIndex, u16, Slot), version: u64) {
        let applied = self.tables.apply(&mut self.catalogue, at, version, None);
        if let Applied::Changed { unlinked } = applied.expect("an empty slot contradicts none") {
            self.unlinked.extend(unlinked);
        }
    }

    pub(super) fn take_snapshot(
        &mut self,
        peer: PeerIndex,
        channel: u16,
        live: LiveSlots<'_>,
    ) -> Result<(), Fault> {
        let slots_max = self.channels[channel as usize].config.slots_max;
        if live.iter().any(|slot| slot.0 >= slots_max) {
            return Err(Fault::SlotBeyondBound);
        }
        let is_first = self.tables.take_snapshot(peer, channel, live);
        if is_first { Ok(()) } else { Err(Fault::SnapshotRepeated) }
    }

    /// Drops what is left of a peer's earlier epoch, if the present one has been heard of whole.
    pub(super) fn drop_stale_if_confirmed(&mut self, peer: PeerIndex, channel: u16) {
        if self.tables.has_stale(peer, channel) && self.tables.is_confirmed(peer, channel) {
            let at = (peer, channel);
            self.tables.sweep(&mut self.catalogue, at, Age::Stale, &mut self.unlinked);
        }
    }

    /// The artifacts that the peer of this input has ceased to advertise, each once, to be given back
    /// empty.
    pub(super) fn take_unlinked(&mut self) -> Vec<u32> {
        core::mem::take(&mut self.unlinked)
    }

    pub(super) fn give_back(&mut self, emptied: Vec<u32>) {
        debug_assert!(emptied.is_empty() && self.unlinked.is_empty());
        self.unlinked = emptied;
    }

    /// Looks at an artifact that `peer` has ceased to advertise. Gone for good if the answer says so.
    pub(super) fn after_unlink(
        &mut self,
        now: Time,
        known: u32,
        peer: PeerIndex,
        is_member: bool,
    ) -> Option<Forgotten> {
        let item = &mut self.catalogue.items[known];
        debug_assert!(!item.holders.contains(peer), "an artifact is in one slot of a peer");
        item.tried.remove(peer);
        if item.delivered {
            if is_member {
                item.withdrawn.insert(peer);
            }
            if is_member || item.is_gone() {
                self.report(known);
            }
        } else if item.is_gone() {
            if !item.expiry_due {
                return Some(self.forget(known));
            }
            // The artifact was advertised again and withdrawn before the application took the
            // event. Only the first expiry is still to be reported.
            (item.delivered, item.expiry_due) = (true, false);
            self.drop_bytes(known);
        }
        let item = &self.catalogue.items[known];
        match item.state {
            State::Waiting(at) | State::Fetching(at, _) if at == peer => {
                self.fetch.withdraw(&mut self.catalogue, known);
                self.want(now, known);
            }
            _ => {}
        }
        None
    }

    /// Removes an artifact that nobody advertises and the application knows nothing of.
    fn forget(&mut self, known: u32) -> Forgotten {
        self.drop_bytes(known);
        if self.catalogue.items[known].has_event {
            self.unreport(known);
        }
        Forgotten { own_slot: self.catalogue.remove(known).own_slot }
    }

    pub(super) fn handle_chunk(
        &mut self,
        now: Time,
        peers: &PeerTable,
        peer: PeerIndex,
        request: RequestId,
        chunk: &Chunk<'_>,
    ) -> Result<Progress, Fault> {
        match self.fetch.handle_chunk(now, &mut self.catalogue, peer, request, chunk) {
            Ok(Progress::Complete(known)) => {
                let artifact = self.fetch.take_complete(&mut self.catalogue, known);
                let channel = self.catalogue.items[known].channel as usize;
                self.channels[channel].fetching_bytes -= artifact.bytes().len() as u64;
                self.complete(known, peers.node(peer), artifact);
                self.update_pending(known);
                Ok(Progress::Complete(known))
            }
            Ok(progress) => Ok(progress),
            Err((fault, known)) => {
                self.move_on(now, known, peer);
                Err(fault)
            }
        }
    }

    fn move_on(&mut self, now: Time, known: u32, failed: PeerIndex) {
        self.fetch.move_on(now, &mut self.catalogue, known, failed);
    }

    /// Looks at what has come of a request, and moves on from its holder if there is a better one.
    fn review(&mut self, now: Time, known: u32) {
        let left = self.fetch.review(now, &mut self.catalogue, known);
        if let Some(peer) = left {
            self.fetch.leave(&mut self.catalogue, known, peer);
            self.want(now, known);
        }
    }

    /// Has what waits for a holder look for another one.
    fn requeue_waiting(&mut self, now: Time, peer: PeerIndex) {
        let mut waiting = core::mem::take(&mut self.unlinked);
        self.fetch.requeue(now, &mut self.catalogue, peer, &mut waiting);
        for known in waiting.drain(..) {
            self.want(now, known);
        }
        self.unlinked = waiting;
    }

    /// Gives up parts of artifacts that make no progress, until there is room for so many bytes.
    fn make_room(&mut self, now: Time, channel: u16, bytes: u64) {
        while self.channels[channel as usize].room(0) < bytes {
            let stalled = self.fetch.least_stalled(&self.catalogue, channel);
            let stalled = stalled.expect("next_start has counted them");
            let was_asked = matches!(self.catalogue.items[stalled].state, State::Fetching(..));
            if was_asked {
                self.fetch.withdraw(&mut self.catalogue, stalled);
            }
            let freed = self.fetch.drop_assembly(&mut self.catalogue, stalled);
            self.channels[channel as usize].fetching_bytes -= freed;
            if was_asked {
                // Behind those that could not begin.
                self.catalogue.items[stalled].wanted = 0;
                self.want(now, stalled);
            }
        }
    }

    /// The answer to a request has ended early, or was refused.
    pub(super) fn request_failed(&mut self, now: Time, peer: PeerIndex, request: RequestId) {
        if let Some(known) = self.fetch.known_of(peer, request) {
            self.move_on(now, known, peer);
        }
    }

    /// Lets time pass, and begins the requests that are possible now.
    pub(super) fn advance(&mut self, now: Time) {
        loop {
            while let Some(due) = self.fetch.next_due(now, &self.catalogue) {
                match due {
                    Due::Review(known) => self.review(now, known),
                    Due::Stuck(known, peer) => self.move_on(now, known, peer),
                    Due::Requeue(peer) => self.requeue_waiting(now, peer),
                    Due::Retry(known) => {
                        self.catalogue.items[known].tried = Default::default();
                        self.requeue(now, known);
                    }
                }
            }
            self.dispatch(now);
            // Making room ends requests, after which something may be due.
            if self.fetch.wake_at() > now {
                break;
            }
        }
    }

    fn dispatch(&mut self, now: Time) {
        while core::mem::take(&mut self.fetch.dispatch_due) {
            let channels = &self.channels;
            let room = |channel: u16, freed| channels[channel as usize].room(freed);
            let Some((known, peer)) = self.fetch.next_start(&self.catalogue, room) else {
                break;
            };
            let item = &self.catalogue.items[known];
            if item.assembly.is_none() {
                self.make_room(now, item.channel, item.advert.length);
            }
            self.fetch.withdraw(&mut self.catalogue, known);
            self.start(now, known, peer, false).expect("a request is free");
            self.fetch.dispatch_due = true;
        }
    }

    /// Asks the filter again about everything that is pending, in the order in which it became so.
    pub(super) fn reconsider(&mut self, now: Time, peers: &PeerTable, channel: u16) {
        let mut next = self.channels[channel as usize].pending.front();
        while let Some(known) = next {
            // Before the artifact may leave the list.
            let pending = &self.channels[channel as usize].pending;
            next = pending.next(&mut self.catalogue.items, known);
            let holder = self.catalogue.items[known].holders.first();
            self.decide(peers, known, holder.expect("what is pending is advertised"));
            let is_due = match self.catalogue.items[known].state {
                State::Parked(None) => true,
                // Without a holder to ask the pause goes on: it must not begin anew each time.
                State::Parked(Some(_)) => self.fetch.has_holder(&self.catalogue, known),
                _ => false,
            };
            if is_due {
                self.requeue(now, known);
            }
            self.update_pending(known);
        }
    }

    pub(super) fn has_events(&self, channel: u16) -> bool {
        self.channels[channel as usize].events.front().is_some()
    }

    /// The channels with events: bit set.
    pub(super) fn with_events(&self) -> u64 {
        self.with_events
    }

    /// Takes the next event of a channel; with it the slot of an artifact that has left the
    /// catalogue.
    pub(super) fn poll_event(
        &mut self,
        peers: &PeerTable,
        channel: u16,
    ) -> Option<(Event, Option<Forgotten>)> {
        loop {
            let known = self.channels[channel as usize].events.front()?;
            if let Some(report) = self.take_report(peers, known) {
                return Some(report);
            }
        }
    }

    /// The same for the artifact that has waited longest with something to report, and its channel.
    pub(super) fn poll_any_event(
        &mut self,
        peers: &PeerTable,
    ) -> Option<(u16, Event, Option<Forgotten>)> {
        loop {
            let known = self.reports.front()?;
            let channel = self.catalogue.items[known].channel;
            if let Some((event, forgotten)) = self.take_report(peers, known) {
                return Some((channel, event, forgotten));
            }
        }
    }

    /// What there is to report of an artifact first, unless it has become untrue.
    fn take_report(&mut self, peers: &PeerTable, known: u32) -> Option<(Event, Option<Forgotten>)> {
        let item = &mut self.catalogue.items[known];
        let event = next_event(item, peers);
        let (is_gone, channel) = (item.is_gone(), item.channel as usize);
        if !item.has_report() {
            self.unreport(known);
        }
        match &event {
            Some(Event::Expired { .. }) if is_gone => {
                let forgotten = self.forget(known);
                return Some((event?, Some(forgotten)));
            }
            Some(Event::Delivered { artifact, .. }) => {
                self.channels[channel].ready_bytes -= artifact.bytes().len() as u64;
                self.fetch.dispatch_due = true;
            }
            _ => {}
        }
        Some((event?, None))
    }

    #[cfg(feature = "internals")]
    pub(super) fn explain(&self, channel: u16, known: u32) -> alloc::string::String {
        let item = &self.catalogue.items[known];
        let holders: Vec<u16> = item.holders.iter().map(|peer| peer.0).collect();
        let Channel { ready_bytes, fetching_bytes, config, .. } = &self.channels[channel as usize];
        alloc::format!(
            "{:?}, {} bytes, begun: {}, held by {holders:?}; {ready_bytes} bytes ready and \
             {fetching_bytes} being fetched of {}; {}",
            item.state,
            item.advert.length,
            item.assembly.is_some(),
            config.inbox_bytes_max,
            self.fetch.explain(channel),
        )
    }

    pub(super) fn assert_invariants(&self) {
        self.tables.assert_invariants(&self.catalogue);
        self.fetch.assert_invariants(&self.catalogue);
        assert!(self.unlinked.is_empty());
        for (at, channel) in self.channels.iter().enumerate() {
            let (mut ready, mut fetching) = (0, 0);
            for known in self.catalogue.items.indices() {
                let item = &self.catalogue.items[known];
                if item.channel as usize != at {
                    continue;
                }
                assert_eq!(item.artifact.is_some(), item.state == State::Ready);
                assert!(!item.is_orphan(), "invariant 5: known iff advertised");
                assert!(item.tried.is_subset(&item.holders), "holders are asked");
                assert!(item.withdrawn.is_empty() || item.has_event);
                assert_eq!(item.is_pending, item.state.is_pending());
                assert!(!item.is_pending || !item.is_gone(), "what is pending is advertised");
                let is_silent = item.state != State::Ready && !item.expiry_due;
                assert!(is_silent || item.has_event, "invariant 7");
                ready += item.artifact.as_ref().map_or(0, |artifact| artifact.bytes().len() as u64);
                fetching += item.assembly.map_or(0, |_| item.advert.length);
            }
            assert_eq!((ready, fetching), (channel.ready_bytes, channel.fetching_bytes));
            let max = channel.config.inbox_bytes_max;
            assert!(fetching <= max && ready + fetching <= 2 * max, "invariant 8");
        }
    }
}

impl Known {
    fn is_gone(&self) -> bool {
        self.holders.is_empty()
    }

    fn has_report(&self) -> bool {
        let was_delivered = self.delivered && (!self.withdrawn.is_empty() || self.is_gone());
        self.artifact.is_some() || self.expiry_due || was_delivered
    }

    /// Neither advertised nor still to be reported as expired.
    fn is_orphan(&self) -> bool {
        self.is_gone() && !(self.delivered && self.has_event)
    }
}

/// Takes what there is to report of an artifact now.
fn next_event(item: &mut Known, peers: &PeerTable) -> Option<Event> {
    if !item.has_report() {
        return None;
    }
    if let Some(peer) = item.withdrawn.first() {
        item.withdrawn.remove(peer);
        return Some(Event::Withdrawn { id: item.id, by: peers.node(peer) });
    }
    if item.expiry_due || item.delivered {
        (item.delivered, item.expiry_due) = (false, false);
        return Some(Event::Expired { id: item.id });
    }
    let artifact = item.artifact.take().expect("nothing else is to be reported");
    (item.state, item.delivered) = (State::Done, true);
    Some(Event::Delivered { artifact, from: item.from.expect("set with the bytes") })
}

impl PeerTable {
    pub(super) fn node(&self, peer: PeerIndex) -> NodeId {
        self.nodes[peer.at()].expect("a member")
    }
}
