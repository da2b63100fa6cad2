//! The receiving side: what peers advertise, what the filter says of it, and what the application
//! is told.
//!
//! Events are not queued: an artifact with something to report is in its channel's list once, and
//! what there is to report is read off the tables when the application takes it. So an application
//! that stops taking events costs nothing but the tables, and what has become untrue meanwhile is
//! never reported. Invariants 5, 6, 7.
//!
//! With loopback, this node counts among those that advertise what it publishes, so that its application is
//! told of that as of what others publish: delivered, from this node and at once, withdrawn, expired. The bytes
//! are those of the outbox, which counts them.

mod reports;

use alloc::boxed::Box;
use alloc::vec::Vec;
use foldhash::quality::FixedState;

use super::catalogue::{Age, Catalogue, EventChain, Known, OrderChain, PendingChain, State};
use super::peers::PeerTable;
use super::receipts::Receipts;
use super::tables::{Applied, Tables};
use super::{Candidate, Decision, Filter, Priority, RequestId};
use crate::arena::List;
use crate::artifact::{Advert, Artifact, Blocks, Hash, Metadata};
use crate::config::{ChannelConfig, Config};
use crate::error::Fault;
use crate::id::{Arrival, ArtifactId, NodeId, PeerIndex, Slot};
use crate::snapshot::{EventCounts, Histogram, InboxSnapshot, KnownSnapshot};
use crate::time::Time;
use crate::trace;
use crate::transfer::{Have, Received, Transfers};
use crate::wire::{Chunk, LiveSlots};

struct Channel {
    config: ChannelConfig,
    /// Without one, all is fetched.
    filter: Option<Box<dyn Filter>>,
    events: List<EventChain>,
    pending: List<PendingChain>,
    taken: EventCounts,
    /// Times from the first byte of an artifact until it was complete.
    fetched: Histogram,
}

pub(super) struct Inbox {
    pub(super) catalogue: Catalogue,
    pub(super) tables: Tables,
    pub(super) transfers: Transfers,
    pub(super) receipts: Receipts,
    channels: Vec<Channel>,
    /// All artifacts with something to report, in the order in which they came to have it.
    reports: List<OrderChain>,
    /// Bit set: the channel has some of them.
    with_events: u64,
    /// The present input.
    pub(super) arrival: Arrival,
    /// Artifacts that the peer of the input has ceased to advertise, each once, and that are still to
    /// be looked at. Empty between inputs.
    unlinked: Vec<u32>,
    /// For what is pushed.
    blocks: Blocks,
}

/// An artifact that has left the catalogue, as far as the sending side must know.
pub(super) struct Forgotten {
    pub(super) own_slot: Option<Slot>,
}

/// What a slot of a peer is said to hold.
pub(super) struct Content<'a> {
    pub(super) id: ArtifactId,
    pub(super) told: Told<'a>,
    pub(super) hops: u8,
    /// Chunks follow behind it.
    pub(super) streamed: bool,
    /// This node is to pass on what the peer sends, and others do the same.
    pub(super) spread: bool,
    /// The chunks that the peer has.
    pub(super) have: Have,
}

/// What is said of an artifact.
#[derive(Clone, Copy)]
pub(super) enum Told<'a> {
    Advert(&'a Advert),
    /// The bytes came along. They are a single chunk.
    Push {
        key: Option<u64>,
        publisher: Option<NodeId>,
        metadata: &'a [u8],
        root: Hash,
        bytes: &'a [u8],
    },
}

impl Told<'_> {
    fn advert(&self) -> Advert {
        match *self {
            Self::Advert(advert) => advert.clone(),
            Self::Push { key, publisher, metadata, root, bytes } => Advert {
                length: bytes.len() as u64,
                key,
                publisher,
                metadata: Metadata::from_slice(metadata).expect("checked when it was decoded"),
                root,
            },
        }
    }
}

/// What became of a slot's content.
pub(super) struct ContentOutcome {
    pub(super) known: u32,
    /// The bytes are complete by this input.
    pub(super) is_complete: bool,
    /// The peer says something that it has not said before.
    pub(super) is_news: bool,
    /// The request under which streamed chunks are taken.
    pub(super) request: Option<RequestId>,
}

impl Inbox {
    pub(super) fn new(config: &Config, hasher: &FixedState, seed: u64) -> Self {
        let channel = |config: &ChannelConfig| Channel {
            config: config.clone(),
            filter: None,
            events: List::default(),
            pending: List::default(),
            taken: EventCounts::default(),
            fetched: Histogram::default(),
        };
        Self {
            catalogue: Catalogue::new(config.channels.len(), hasher),
            tables: Tables::new(config.channels.len(), hasher),
            transfers: Transfers::new(config, hasher, seed),
            receipts: Receipts::default(),
            channels: config.channels.iter().map(channel).collect(),
            reports: List::default(),
            with_events: 0,
            arrival: Arrival::default(),
            unlinked: Vec::new(),
            blocks: Blocks::received(),
        }
    }

    pub(super) fn set_filter(&mut self, channel: u16, filter: Box<dyn Filter>) {
        self.channels[channel as usize].filter = Some(filter);
    }

    pub(super) fn peer_up(&mut self, peer: PeerIndex) {
        self.transfers.peer_up(peer);
        self.receipts.clear(peer);
        for channel in 0..self.channels.len() as u16 {
            let at = (peer, channel);
            self.tables.begin_epoch(&mut self.catalogue, at, &mut self.unlinked);
            for known in self.tables.advertised(peer, channel) {
                if let State::Wanted(at) = self.catalogue.items[known].state {
                    self.transfers.offer(at, peer, self.tables.have(known, peer));
                }
            }
        }
    }

    pub(super) fn peer_down(&mut self, peer: PeerIndex) {
        self.transfers.peer_down(peer);
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
        self.receipts.clear(peer);
        // Artifacts that it withdrew earlier, and not yet reported: a walk through the pending events
        // for each member that leaves. A list of them by member would cost a multiple of the sets.
        for channel in &mut self.channels {
            let mut next = channel.events.front();
            while let Some(known) = next {
                self.catalogue.forget_withdrawn(known, peer);
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
        let (known, was_known) = self.catalogue.find_or_insert(channel, content.id);
        let is_reborn = was_known && self.catalogue.items[known].is_gone();
        let held = Some((known, content.hops, content.have));
        // An artifact that has just become known cannot be in another slot.
        let applied =
            self.tables.apply(&mut self.catalogue, (peer, channel, slot), version, held)?;
        let is_news = match applied {
            Applied::Changed { unlinked, .. } => {
                self.unlinked.extend(unlinked);
                true
            }
            Applied::Same { is_news } => is_news,
            Applied::Stale => unreachable!("the caller has looked"),
        };
        self.catalogue.forget_withdrawn(known, peer);
        if is_reborn {
            self.rebear(known);
        }
        let mut outcome = ContentOutcome { known, is_complete: false, is_news, request: None };
        let item = &mut self.catalogue.items[known];
        if !was_known || is_reborn {
            item.own_slot = own_slot;
            item.state = State::Done;
            if own_slot.is_none() {
                let advert = || content.told.advert();
                let decision = self.ask_filter(peers, known, advert, peer);
                trace::if_traced(|| {
                    let id = self.channels[channel as usize].config.id;
                    trace::first_told(id, &content.id, peers.node(peer), decision);
                });
                let is_wanted = matches!(decision, Decision::Fetch(_));
                if is_wanted && self.take_pushed(known, peers.node(peer), content.told) {
                    outcome.is_complete = true;
                } else {
                    if decision != Decision::Drop {
                        self.catalogue.details_mut(known).advert = Some(advert());
                    }
                    self.decide(known, decision);
                }
            }
        } else if let State::Wanted(at) = item.state {
            if self.take_pushed(known, peers.node(peer), content.told) {
                outcome.is_complete = true;
                self.owe_receipts(known);
            } else {
                self.transfers.offer(at, peer, self.tables.have(known, peer));
            }
        }
        if let State::Wanted(at) = self.catalogue.items[known].state {
            let is_part = content.spread || content.hops > 0 || content.have.is_some();
            outcome.request = match (content.streamed, is_part) {
                (true, false) => self.transfers.take_stream(now, at, peer),
                (true, true) => self.transfers.take_part(now, at, peer, content.spread),
                (false, _) => None,
            };
            if content.spread && !content.streamed {
                self.transfers.expect_parts(now, at, peer);
            }
        }
        self.update_pending(known);
        // What was pushed counts as come when QUIC has acknowledged it. But this node may have asked the peer for
        // it before: the request may come later than that, and then it does not count.
        let is_advert = matches!(content.told, Told::Advert(_)) && content.have.is_none();
        if (is_advert || was_known) && content.hops == 0 {
            self.owe_receipt((peer, channel, slot));
        }
        Ok(outcome)
    }

    /// An artifact that has expired is advertised again before that was reported.
    fn rebear(&mut self, known: u32) {
        let item = &mut self.catalogue.items[known];
        (item.delivered, item.expiry_due) = (false, true);
        self.catalogue.forget_all_withdrawn(known);
    }

    /// Whether a peer advertises all chunks of an artifact.
    pub(super) fn holds_whole(&self, known: u32, peer: PeerIndex) -> bool {
        self.catalogue.holds(known, peer) && self.tables.have(known, peer).is_none()
    }

    /// Whether a peer tells of a chunk of an artifact.
    pub(super) fn holds_chunk(&self, known: u32, peer: PeerIndex, chunk: u32) -> bool {
        let has = |have: Have| have.is_none_or(|have| have.contains(chunk));
        self.catalogue.holds(known, peer) && has(self.tables.have(known, peer))
    }

    fn ask_filter(
        &mut self,
        peers: &PeerTable,
        known: u32,
        advert: impl FnOnce() -> Advert,
        from: PeerIndex,
    ) -> Decision {
        let item = &self.catalogue.items[known];
        let channel = &mut self.channels[item.channel as usize];
        let Some(filter) = &mut channel.filter else {
            return Decision::Fetch(Priority::Normal);
        };
        filter.decide(&Candidate {
            channel: channel.config.id,
            id: &item.id,
            advert: &advert(),
            from: peers.node(from),
        })
    }

    /// Does with an artifact what the filter says.
    fn decide(&mut self, known: u32, decision: Decision) {
        match decision {
            Decision::Fetch(priority) => self.want(known, priority),
            Decision::Later => self.stop_fetching(known, State::Later),
            Decision::Drop => self.stop_fetching(known, State::Dropped),
        }
    }

    fn want(&mut self, known: u32, priority: Priority) {
        let item = &self.catalogue.items[known];
        if let State::Wanted(at) = item.state {
            return self.transfers.set_priority(at, priority);
        }
        let channel = item.channel;
        let advert = self.catalogue.advert(known).clone();
        let at = self.transfers.want(known, channel, priority, advert);
        self.catalogue.items[known].state = State::Wanted(at);
        for holder in self.catalogue.holders(known).iter() {
            self.transfers.offer(at, holder, self.tables.have(known, holder));
        }
    }

    /// An artifact is not to be fetched (any more); it is in `state` from then on.
    fn stop_fetching(&mut self, known: u32, state: State) {
        let was = core::mem::replace(&mut self.catalogue.items[known].state, state);
        if let State::Wanted(at) = was {
            self.transfers.give_up(at);
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

    /// Takes pushed bytes, if there are some and there is room for them; else they will be fetched.
    fn take_pushed(&mut self, known: u32, from: NodeId, told: Told<'_>) -> bool {
        let Told::Push { key, publisher, metadata, root, bytes } = told else { return false };
        let item = &self.catalogue.items[known];
        if !self.transfers.can_push(item.channel, bytes.len() as u64) {
            return false;
        }
        let (id, blocks) = (item.id, &mut self.blocks);
        let artifact = Artifact::of_push(id, &root, key, publisher, metadata, bytes, blocks);
        self.complete(known, from, artifact);
        true
    }

    fn complete(&mut self, known: u32, from: NodeId, artifact: Artifact) {
        self.stop_fetching(known, State::Ready);
        let item = &self.catalogue.items[known];
        debug_assert_eq!(item.id, artifact.advert().id(), "invariant 6");
        let (channel, bytes) = (item.channel, artifact.bytes().len() as u64);
        trace::if_traced(|| {
            trace::complete(self.channels[channel as usize].config.id, &item.id, from, bytes);
        });
        self.transfers.note_ready(channel, bytes);
        let details = self.catalogue.details_mut(known);
        (details.artifact, details.from) = (Some(artifact), Some(from));
        details.is_of_outbox = false;
        self.report(known);
    }

    /// This node has an artifact of its own accord: it is neither fetched nor delivered.
    pub(super) fn own(&mut self, known: u32, slot: Slot) {
        self.drop_bytes(known);
        self.catalogue.items[known].own_slot = Some(slot);
        self.owe_receipts(known);
    }

    /// The same, and the application is to be told of it as of an artifact that a member advertises. Its
    /// index in the catalogue.
    pub(super) fn tell_own(
        &mut self,
        peers: &PeerTable,
        (channel, slot): (u16, Slot),
        artifact: &Artifact,
    ) -> u32 {
        let (known, was_known) = self.catalogue.find_or_insert(channel, artifact.id());
        if was_known && self.catalogue.items[known].is_gone() {
            self.rebear(known);
        }
        self.catalogue.forget_withdrawn_here(known);
        let item = &mut self.catalogue.items[known];
        (item.own_slot, item.is_told_own) = (Some(slot), true);
        if item.state != State::Ready && !item.delivered {
            self.stop_fetching(known, State::Ready);
            self.update_pending(known);
            let details = self.catalogue.details_mut(known);
            (details.artifact, details.from) = (Some(artifact.clone()), Some(peers.own));
            details.is_of_outbox = true;
            self.report(known);
            self.owe_receipts(known);
        }
        known
    }

    /// This node does not publish an artifact any more, and tells itself so if it has told itself of it.
    pub(super) fn end_own(&mut self, known: u32) {
        let item = &mut self.catalogue.items[known];
        item.own_slot = None;
        if let State::Wanted(transfer) = item.state {
            self.transfers.set_passed_on(transfer, false);
        }
        if core::mem::take(&mut item.is_told_own) {
            self.keep_bytes(known);
            let forgotten = self.after_withdrawal(known, None, true);
            debug_assert!(forgotten.is_none_or(|forgotten| forgotten.own_slot.is_none()));
        }
    }

    /// The bytes of an artifact that others advertise have left the outbox before the application took
    /// them. They count as received from now on, or without room for them are fetched.
    fn keep_bytes(&mut self, known: u32) {
        let item = &self.catalogue.items[known];
        let (channel, is_waiting) = (item.channel, item.state == State::Ready && !item.is_gone());
        let details = self.catalogue.details_mut(known);
        if !is_waiting || !details.is_of_outbox {
            return;
        }
        let artifact = details.artifact.as_ref().expect("it is ready");
        let (bytes, advert) = (artifact.bytes().len() as u64, artifact.advert());
        if self.transfers.can_push(channel, bytes) {
            details.is_of_outbox = false;
            self.transfers.note_ready(channel, bytes);
        } else {
            self.drop_bytes(known);
            self.catalogue.details_mut(known).advert = Some(advert);
            self.want(known, Priority::Normal);
            self.update_pending(known);
        }
    }

    /// Gives up what is here of an artifact, and what was to come.
    fn drop_bytes(&mut self, known: u32) {
        let item = &self.catalogue.items[known];
        if item.state == State::Ready {
            let channel = item.channel;
            let details = self.catalogue.details_mut(known);
            let artifact = details.artifact.take().expect("it is ready");
            if !details.is_of_outbox {
                self.transfers.note_taken(channel, artifact.bytes().len() as u64);
            }
        }
        self.stop_fetching(known, State::Done);
        self.update_pending(known);
    }

    /// A slot of a peer is empty now. Whether it held something, or its snapshot had named it.
    pub(super) fn clear(&mut self, at: (PeerIndex, u16, Slot), version: u64) -> bool {
        let applied = self.tables.apply(&mut self.catalogue, at, version, None);
        match applied.expect("an empty slot contradicts none") {
            Applied::Changed { unlinked, was_awaited } => {
                self.unlinked.extend(unlinked);
                unlinked.is_some() || was_awaited
            }
            Applied::Same { .. } | Applied::Stale => false,
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
        known: u32,
        peer: PeerIndex,
        is_member: bool,
    ) -> Option<Forgotten> {
        debug_assert!(!self.catalogue.holds(known, peer), "an artifact is in one slot of a peer");
        let forgotten = self.after_withdrawal(known, Some(peer), is_member);
        if forgotten.is_none()
            && let State::Wanted(at) = self.catalogue.items[known].state
        {
            self.transfers.withdraw_offer(at, peer);
        }
        forgotten
    }

    /// The same for a peer or, without one, this node, but for what is still to come from it.
    fn after_withdrawal(
        &mut self,
        known: u32,
        by: Option<PeerIndex>,
        is_member: bool,
    ) -> Option<Forgotten> {
        let item = &mut self.catalogue.items[known];
        if item.delivered && !self.channels[item.channel as usize].config.tells_withdrawals {
            return item.is_gone().then(|| self.forget(known));
        }
        if item.delivered {
            if item.is_gone() {
                self.catalogue.forget_all_withdrawn(known);
                self.report(known);
            } else if is_member {
                self.catalogue.note_withdrawn(known, by);
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
        None
    }

    /// Removes an artifact that nobody advertises and the application knows nothing of.
    fn forget(&mut self, known: u32) -> Forgotten {
        self.drop_bytes(known);
        if self.catalogue.items[known].has_event {
            self.unreport(known);
        }
        Forgotten { own_slot: self.catalogue.remove(known) }
    }

    pub(super) fn handle_chunk(
        &mut self,
        now: Time,
        peers: &PeerTable,
        peer: PeerIndex,
        request: RequestId,
        chunk: &Chunk<'_>,
    ) -> Result<Option<Received>, Fault> {
        let received = self.transfers.handle_chunk(now, peer, request, chunk)?;
        if let Some(Received { transfer, known, is_complete: true, .. }) = received {
            let item = &mut self.catalogue.items[known];
            let began_at = self.transfers.first_byte_at(transfer).unwrap_or(now);
            self.channels[item.channel as usize].fetched.note(now.since(began_at));
            let artifact = self.transfers.take_complete(transfer, item.id);
            item.state = State::Done;
            self.complete(known, peers.node(peer), artifact);
            self.update_pending(known);
            self.owe_receipts(known);
        }
        Ok(received)
    }

    /// Asks the filter again about everything that is pending, in the order in which it became so.
    pub(super) fn reconsider(&mut self, peers: &PeerTable, channel: u16) {
        let mut next = self.channels[channel as usize].pending.front();
        while let Some(known) = next {
            // Before the artifact may leave the list.
            let pending = &self.channels[channel as usize].pending;
            next = pending.next(&mut self.catalogue.items, known);
            let holder = self.catalogue.holders(known).first();
            let holder = holder.expect("what is pending is advertised");
            let advert = self.catalogue.advert(known).clone();
            let decision = self.ask_filter(peers, known, || advert, holder);
            trace::if_traced(|| {
                let id = &self.catalogue.items[known].id;
                trace::decided(self.channels[channel as usize].config.id, id, decision);
            });
            self.decide(known, decision);
            self.update_pending(known);
            if decision == Decision::Drop {
                self.owe_receipts(known);
            }
        }
    }

    /// Artifacts that peers advertise, by channel. A walk over all of them.
    pub(super) fn known_counts(&self) -> Vec<KnownSnapshot> {
        let mut counts = alloc::vec![KnownSnapshot::default(); self.channels.len()];
        for known in self.catalogue.items.indices() {
            let item = &self.catalogue.items[known];
            let counts = &mut counts[item.channel as usize];
            counts.all += u64::from(!item.is_gone());
            match item.state {
                State::Wanted(at) => {
                    counts.fetching += 1;
                    counts.partial += u64::from(self.transfers.is_partial(at));
                }
                State::Ready => counts.waiting += 1,
                State::Later => counts.postponed += 1,
                State::Dropped => counts.rejected += 1,
                State::Done => {}
            }
        }
        counts
    }

    /// Bytes of a channel that are received, or for which room is taken.
    pub(super) fn usage(&self, channel: u16) -> InboxSnapshot {
        let (waiting_bytes, fetching_bytes) = self.transfers.room_used(channel);
        let bytes_max = self.channels[channel as usize].config.inbox_bytes_max;
        InboxSnapshot { waiting_bytes, fetching_bytes, bytes_max, ..InboxSnapshot::default() }
    }

    /// Events of a channel that were taken, and times from the first byte of an artifact until it was
    /// complete.
    pub(super) fn counted(&self, channel: u16) -> (EventCounts, Histogram) {
        let channel = &self.channels[channel as usize];
        (channel.taken, channel.fetched)
    }

    #[cfg(feature = "internals")]
    pub(super) fn explain(&self, channel: u16, known: u32) -> alloc::string::String {
        let item = &self.catalogue.items[known];
        let holders: Vec<u16> = self.catalogue.holders(known).iter().map(|peer| peer.0).collect();
        let (ready, begun) = self.transfers.room_used(channel);
        let max = self.channels[channel as usize].config.inbox_bytes_max;
        let transfer = match item.state {
            State::Wanted(at) => self.transfers.explain(at),
            _ => alloc::string::String::new(),
        };
        let others = self.transfers.begun(channel).into_iter().map(|at| self.transfers.explain(at));
        let others: Vec<_> = others.collect();
        alloc::format!(
            "{:?}, held by {holders:?}; {ready} bytes ready and {begun} begun of {max}; {transfer}; \
             begun are {others:#?}",
            item.state,
        )
    }

    pub(super) fn assert_invariants(&self) {
        self.tables.assert_invariants(&self.catalogue);
        self.transfers.assert_invariants();
        let mut wanted = 0;
        assert!(self.unlinked.is_empty());
        for (at, channel) in self.channels.iter().enumerate() {
            let mut ready = 0;
            for known in self.catalogue.items.indices() {
                let item = &self.catalogue.items[known];
                if item.channel as usize != at {
                    continue;
                }
                let details = self.catalogue.details(known);
                assert_eq!(details.artifact.is_some(), item.state == State::Ready);
                assert!(details.advert.is_some() || !item.is_pending);
                assert!(!item.is_orphan(), "invariant 5: known iff advertised");
                if let State::Wanted(at) = item.state {
                    wanted += 1;
                    let offered = |peer: &PeerIndex| self.transfers.is_offered(at, *peer);
                    assert!(
                        self.catalogue.holders(known).iter().all(|peer| offered(&peer)),
                        "holders are asked"
                    );
                    assert_eq!(self.transfers.known(at), known);
                }
                let is_withdrawn = !details.withdrawn.is_empty() || details.is_withdrawn_here;
                assert!(!item.has_withdrawn || item.has_event && is_withdrawn);
                assert!(!item.is_told_own || item.own_slot.is_some() && !item.is_relayed);
                assert_eq!(item.is_pending, item.state.is_pending());
                assert!(!item.is_pending || !item.is_gone(), "what is pending is advertised");
                let is_silent = item.state != State::Ready && !item.expiry_due;
                assert!(is_silent || item.has_event, "invariant 7");
                let bytes = |artifact: &Artifact| artifact.bytes().len() as u64;
                let received = details.artifact.as_ref().filter(|_| !details.is_of_outbox);
                ready += received.map_or(0, bytes);
            }
            let (ready_bytes, begun) = self.transfers.room_used(at as u16);
            assert_eq!(ready, ready_bytes);
            let max = channel.config.inbox_bytes_max;
            assert!(begun <= max && ready + begun <= 2 * max, "invariant 8");
        }
        assert_eq!(wanted, self.transfers.len());
    }
}

impl Known {
    fn has_report(&self) -> bool {
        let was_delivered = self.delivered && (self.has_withdrawn || self.is_gone());
        self.state == State::Ready || self.expiry_due || was_delivered
    }

    /// Neither advertised nor still to be reported as expired.
    fn is_orphan(&self) -> bool {
        self.is_gone() && !(self.delivered && self.has_event)
    }
}
