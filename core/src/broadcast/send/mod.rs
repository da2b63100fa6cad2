//! Encoding of what is sent to a peer next, from the content that the slots have at this moment.
//!
//! One stream holds requests, a batch of updates of one channel, or the answer to one request.
//! Streams that are open go on while no other can be opened: they may be the reason, and each of them
//! comes to its end without any other. The state of a stream with updates is kept until the stream is
//! acknowledged. When all updates in it have become obsolete, the stream is reset. A clear becomes obsolete
//! when something newer of its slot is encoded: before that, it is all that the peer is told. An answer is
//! reset when the slot that it is served from is cleared. Invariants 3, 8, 11.

mod job;
mod pacing;
mod repeats;
#[cfg(test)]
mod tests;

use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;

use super::Output;
use super::held::HeldClears;
use super::inbox::Inbox;
use super::outbox::{Active, Body, LastSent, Outbox, Outdated};
use super::peer_set::PeerSet;
use super::receipts::Receipt;
use super::traffic::Sent;
use crate::config::{ChannelConfig, Config, FETCHES_LIMIT};
use crate::id::{ChannelId, PeerIndex, Slot};
use crate::membership::Overlay;
use crate::sched::{Level, ReadyFlows};
use crate::send_buffer::SendBuffer;
use crate::snapshot::Histogram;
use crate::time::Time;
use crate::transfer::Unsent;
use crate::wire::{
    self, ChunkBits, FRAME_OVERHEAD_MAX, Ranges, Refusal, Request, StreamHead, Told, count_chunks,
};
use job::{Job, Source};
use pacing::Pacing;
pub(super) use repeats::Answered;

/// The number of streams to one peer that may be unacknowledged. A node has a bound of its own, which
/// is lower unless its `streams_max` is near the highest that there may be. This one is for machines
/// that are used without a node.
const STREAMS_LIMIT: usize = 4096;

/// Bytes of the longest artifact that a relay in an overlay pushes. To push takes half a round trip, to
/// advertise and answer one and a half. About half the neighbours advertise the artifact themselves before
/// it is pushed to them. Who does not relay it is pushed a copy by each neighbour: so it has to be short.
const PUSHED_ON_BYTES_MAX: usize = 4 << 10;

/// A stream that this machine fills, among those of its peer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct OutStream(u64);

impl OutStream {
    const fn new(at: usize, generation: u64) -> Self {
        Self(generation << 16 | at as u64)
    }

    /// Its index: small, dense, and reused once the stream is acknowledged, reset or stopped.
    pub const fn index(self) -> usize {
        (self.0 & 0xffff) as usize
    }

    /// Distinguishes streams that had the same index. [`LastSent`](super::outbox::LastSent) still
    /// names a stream long after it has ended, so the generation must not wrap.
    const fn generation(self) -> u64 {
        self.0 >> 16
    }
}

/// What to do with the bytes of a [`Broadcast::poll_send`](super::Broadcast::poll_send).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Send {
    /// The stream, if the machine tracks it: the caller then reports when it is acknowledged or
    /// stopped.
    pub stream: Option<OutStream>,
    /// Open a unidirectional stream for them; else they continue `stream`.
    pub open: bool,
    /// The stream ends behind them.
    pub finish: bool,
    /// How urgent they are.
    pub level: Level,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Use {
    Free,
    Updates(Batch),
    Answer,
}

/// Updates in one stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Batch {
    channel: u16,
    /// The number of them that are still current.
    current: u32,
    /// One of the slots that are pushed in it and have not changed since, of what this node has published.
    pushed: Option<Slot>,
    /// When the first of what this node has published was, or [`Time::NEVER`].
    published_at: Time,
}

#[derive(Clone, Copy, Debug)]
struct StreamState {
    generation: u64,
    used: Use,
}

/// Refusals that wait for a peer: as many as it may have requests, whatever its configuration is. One that is not
/// told of a refusal may wait for ever, if nobody else has the artifact.
const REFUSALS_MAX: usize = 3 * FETCHES_LIMIT as usize;

#[derive(Debug)]
struct Peer {
    streams: Vec<StreamState>,
    /// Indices of the free ones.
    free: Vec<u16>,
    jobs: Vec<Job>,
    /// Counts the turns that were taken.
    turn: u64,
    refusals: Vec<(u64, Refusal)>,
    sent: Sent,
}

#[derive(Debug)]
pub(super) struct Sender {
    channels: Vec<ChannelConfig>,
    batch_bytes_max: usize,
    serves_max: usize,
    streamed_max: usize,
    /// Longest artifact that is pushed on, in bytes; `None`, if members hear of it from its publisher.
    pushed_on_bytes_max: Option<usize>,
    peers: Vec<Option<Peer>>,
    /// The flows with something to send. See [`Sender::flows`].
    pub(super) ready: ReadyFlows,
    pub(super) held: HeldClears,
    pub(super) pacing: Pacing,
    /// By channel: times from publications until they were acknowledged.
    acknowledged: Vec<Histogram>,
}

impl Sender {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            channels: config.channels.clone(),
            batch_bytes_max: config.batch_bytes_max as usize,
            serves_max: config.serves_per_peer_max.into(),
            streamed_max: config.streamed_per_peer_max.into(),
            pushed_on_bytes_max: match config.transport.overlay {
                Overlay::FullMesh => None,
                Overlay::Regular { .. } => Some(PUSHED_ON_BYTES_MAX),
            },
            peers: Vec::new(),
            ready: ReadyFlows::default(),
            held: HeldClears::new(config.channels.len()),
            pacing: Pacing::new(config.channels.len()),
            acknowledged: vec![Histogram::default(); config.channels.len()],
        }
    }

    pub(super) fn add_peer(&mut self, peer: PeerIndex) {
        if self.peers.len() <= peer.at() {
            self.peers.resize_with(peer.at() + 1, || None);
        }
        self.peers[peer.at()] = Some(Peer {
            streams: Vec::new(),
            free: Vec::new(),
            jobs: Vec::new(),
            turn: 0,
            refusals: Vec::new(),
            sent: Sent::default(),
        });
        self.ready.add_peer(peer, self.flows_count());
    }

    pub(super) fn remove_peer(&mut self, peer: PeerIndex) {
        self.peers[peer.at()] = None;
        self.pacing.remove(peer);
    }

    fn peer(&mut self, peer: PeerIndex) -> &mut Peer {
        self.peers[peer.at()].as_mut().expect("a member")
    }

    pub(super) fn peer_up(&mut self, peer: PeerIndex) {
        let peer = self.peer(peer);
        assert!(peer.jobs.is_empty() && peer.refusals.is_empty(), "peer_down comes first");
    }

    pub(super) fn peer_down(&mut self, peer: PeerIndex, outboxes: &mut [Outbox]) {
        self.ready.clear(peer);
        self.pacing.pause(peer);
        drop(self.held.release(peer));
        let state = self.peer(peer);
        (0..state.streams.len()).for_each(|at| state.release(at));
        state.refusals.clear();
        state.jobs.drain(..).for_each(|job| job.end(peer, outboxes));
    }

    /// The update of a slot in a stream has become obsolete. Returns the stream if no other update in it is
    /// current.
    pub(super) fn update_obsolete(
        &mut self,
        peer: PeerIndex,
        slot: Slot,
        outdated: Outdated,
    ) -> Option<OutStream> {
        let stream = OutStream(outdated.stream);
        let is_obsolete = self.peer(peer).update_obsolete(stream, |batch| {
            if batch.pushed == Some(slot) {
                batch.pushed = outdated.pushed;
            }
        });
        if is_obsolete {
            self.release(peer, stream);
        }
        is_obsolete.then_some(stream)
    }

    /// A stream has ended. If all were in use, each flow may have something that waits for one. That
    /// marks all flows of the peer, and comes about at `STREAMS_LIMIT` only.
    fn release(&mut self, peer: PeerIndex, stream: OutStream) {
        let was_full = self.is_full(peer);
        self.peer(peer).release(stream.index());
        if was_full {
            (0..self.flows_count()).for_each(|flow| self.ready.mark(peer, flow));
        }
    }

    /// A stream was acknowledged as a whole. The channel, if there were pushes in it.
    pub(super) fn acked(
        &mut self,
        now: Time,
        peer: PeerIndex,
        stream: OutStream,
        outboxes: &mut [Outbox],
    ) -> Option<u16> {
        let used = self.peer(peer).stream(stream).map(|state| state.used);
        self.ended(peer, stream, outboxes);
        let Some(Use::Updates(Batch { channel, pushed, published_at, .. })) = used else {
            return None;
        };
        if published_at < Time::NEVER {
            self.acknowledged[channel as usize].note(now.since(published_at));
        }
        outboxes[channel as usize].note_acked(peer, stream.0, pushed?);
        Some(channel)
    }

    /// Times from publications in a channel until they were acknowledged.
    pub(super) fn acknowledged(&self, channel: usize) -> Histogram {
        self.acknowledged[channel]
    }

    /// A stream has ended: it was acknowledged, or the peer stopped it.
    pub(super) fn ended(&mut self, peer: PeerIndex, stream: OutStream, outboxes: &mut [Outbox]) {
        if self.peer(peer).stream(stream).is_some() {
            self.release(peer, stream);
            let state = self.peer(peer);
            if let Some(at) = state.jobs.iter().position(|job| job.stream == Some(stream)) {
                state.end_job(peer, at, outboxes);
            }
        }
    }

    /// Accepts a request for chunks of the artifact in a slot.
    pub(super) fn serve(
        &mut self,
        peer: PeerIndex,
        request: u64,
        (channel, slot): (u16, Slot),
        active: &mut Active,
        chunks: Ranges,
    ) {
        let serves_max = self.serves_max;
        let state = self.peer(peer);
        let jobs = &state.jobs;
        let served = jobs.iter().filter(|job| job.request.is_some()).count();
        if served >= serves_max || jobs.iter().any(|job| job.request == Some(request)) {
            return self.refuse(peer, request, Refusal::Busy);
        }
        let ahead = jobs.iter().filter(|job| job.request.is_some() && job.is_of(channel, slot));
        let ahead: u64 = ahead.map(Job::chunks_left).sum();
        let asked = count_chunks(&chunks);
        let flow = match active.answered.is_repeat(peer, ahead + asked, active.body.chunks()) {
            true => self.repeats_flow(),
            false => chunks_flow(channel),
        };
        let at = (channel, slot, flow);
        self.peer(peer).begin_job(at, Some(request), None, Source::Ranges(chunks));
        active.serving.insert(peer);
        self.ready.mark(peer, flow);
    }

    /// Refuses a request. If more refusals are waiting than the peer may have requests, nothing is
    /// sent.
    pub(super) fn refuse(&mut self, peer: PeerIndex, request: u64, refusal: Refusal) {
        let refusals = &mut self.peer(peer).refusals;
        if refusals.len() < REFUSALS_MAX {
            refusals.push((request, refusal));
            self.ready.mark(peer, self.requests_flow());
        }
    }

    /// The peer does not need the answer to a request any more.
    pub(super) fn cancel(
        &mut self,
        peer: PeerIndex,
        request: u64,
        outboxes: &mut [Outbox],
        outputs: &mut VecDeque<Output>,
    ) {
        let state = self.peer(peer);
        let is_meant = |job: &Job| job.request == Some(request);
        let Some(at) = state.jobs.iter().position(is_meant) else { return };
        let stream = state.end_job(peer, at, outboxes);
        self.reset(peer, stream, outputs);
    }

    fn reset(
        &mut self,
        peer: PeerIndex,
        stream: Option<OutStream>,
        outputs: &mut VecDeque<Output>,
    ) {
        if let Some(stream) = stream
            && self.peer(peer).stream(stream).is_some()
        {
            self.release(peer, stream);
            outputs.push_back(Output::Reset { peer, stream });
        }
    }

    /// The slot has been cleared: nothing is sent from it any more to the peers that were `served`.
    pub(super) fn stop_serving(
        &mut self,
        served: &PeerSet,
        (channel, slot): (u16, Slot),
        outputs: &mut VecDeque<Output>,
    ) {
        for index in served.iter() {
            while let peer = self.peer(index)
                && let Some(job) = peer.jobs.iter().position(|job| job.is_of(channel, slot))
            {
                let job = peer.jobs.remove(job);
                match (job.stream, job.request) {
                    (None, Some(request)) => self.refuse(index, request, Refusal::NotHeld),
                    (stream, _) => self.reset(index, stream, outputs),
                }
            }
        }
    }

    /// Whether there are requests for a peer, refusals, or receipts.
    pub(super) fn has_requests(&self, peer: PeerIndex, inbox: &Inbox) -> bool {
        let state = self.peers[peer.at()].as_ref().expect("a member");
        let has_receipts = inbox.receipts.has_some(peer);
        !state.refusals.is_empty() || has_receipts || inbox.transfers.has_unsent(peer)
    }

    /// The levels of the flows: flow `2 c` is the updates of channel `c`, flow `2 c + 1` the
    /// chunks. Behind them come the requests, and the chunks of all channels that are
    /// [repeats](repeats).
    pub(super) fn flows(&self) -> impl Iterator<Item = Level> {
        (0..self.flows_count()).map(|flow| self.level(flow))
    }

    pub(super) fn flows_count(&self) -> usize {
        self.repeats_flow() + 1
    }

    pub(super) fn level(&self, flow: usize) -> Level {
        match self.channels.get(flow / 2) {
            Some(config) => config.class.into(),
            None if flow == self.requests_flow() => Level::Control,
            None => Level::Bulk,
        }
    }

    fn requests_flow(&self) -> usize {
        2 * self.channels.len()
    }

    fn repeats_flow(&self) -> usize {
        self.requests_flow() + 1
    }

    fn is_updates(&self, flow: usize) -> bool {
        flow.is_multiple_of(2) && flow != self.requests_flow()
    }

    /// There are requests for a peer.
    pub(super) fn mark_requests(&mut self, peer: PeerIndex) {
        self.ready.mark(peer, self.requests_flow());
    }

    /// There are updates of a channel for a peer.
    pub(super) fn mark_updates(&mut self, peer: PeerIndex, channel: u16) {
        self.ready.mark(peer, updates_flow(channel));
    }

    /// Clears for a peer are not held back any more: something else goes to it.
    fn release_clears(&mut self, peer: PeerIndex, outboxes: &[Outbox]) {
        for channel in self.held.release(peer) {
            if outboxes[channel as usize].has_changes(peer) {
                self.mark_updates(peer, channel);
            }
        }
    }

    /// Clears that were held back for long enough are not any more.
    pub(super) fn release_due_clears(&mut self, now: Time, outboxes: &[Outbox]) {
        let ready = &mut self.ready;
        let tell = |peer, channel| ready.mark(peer, updates_flow(channel));
        self.held.for_each_due(now, outboxes, tell);
        self.held.advance(now, &self.channels, outboxes);
    }

    /// Updates that have waited for a peer's quota go on.
    pub(super) fn resume_paced(&mut self, now: Time) {
        while let Some((peer, channel)) = self.pacing.pop_due(now) {
            self.mark_updates(peer, channel);
        }
    }

    /// There are chunks of a channel for a peer.
    pub(super) fn mark_chunks(&mut self, peer: PeerIndex, channel: u16) {
        self.ready.mark(peer, chunks_flow(channel));
    }

    /// The transport has not taken all that it was given of a stream, so that it takes no more of it
    /// until it says so, or takes more of it again.
    pub(super) fn set_blocked(&mut self, peer: PeerIndex, stream: OutStream, is_blocked: bool) {
        let jobs = &mut self.peers[peer.at()].as_mut().expect("a member").jobs;
        let Some(job) = jobs.iter_mut().find(|job| job.stream == Some(stream)) else { return };
        job.is_blocked = is_blocked;
        if !is_blocked {
            self.ready.mark(peer, job.flow);
        }
    }

    /// Whether too many streams to a peer are unacknowledged.
    fn is_full(&self, peer: PeerIndex) -> bool {
        let peer = self.peers[peer.at()].as_ref().expect("a member");
        peer.streams.len() >= STREAMS_LIMIT && peer.free.is_empty()
    }

    pub(super) fn has_backlog(
        &self,
        peer: PeerIndex,
        flow: usize,
        can_open: bool,
        (outboxes, inbox): (&[Outbox], &Inbox),
    ) -> bool {
        let can_open = can_open && !self.is_full(peer);
        if flow == self.requests_flow() {
            return can_open && self.has_requests(peer, inbox);
        }
        if flow.is_multiple_of(2) {
            return can_open && outboxes[flow / 2].has_changes(peer);
        }
        let state = self.peers[peer.at()].as_ref().expect("a member");
        state.jobs.iter().any(|job| job.is_sendable(flow, can_open, outboxes))
    }

    pub(super) fn poll_flow(
        &mut self,
        now: Time,
        (peer, flow): (PeerIndex, usize),
        (room, can_open): (usize, bool),
        out: &mut SendBuffer,
        (outboxes, inbox): (&mut [Outbox], &mut Inbox),
        outputs: &mut VecDeque<Output>,
    ) -> Option<Send> {
        if !self.has_backlog(peer, flow, true, (outboxes, inbox)) {
            self.ready.settle(peer, flow);
            return None;
        }
        if !self.has_backlog(peer, flow, can_open, (outboxes, inbox)) {
            return None;
        }
        let can_open = can_open && !self.is_full(peer);
        let is_held = self.is_updates(flow) && self.held.holds(peer, (flow / 2) as u16);
        let was_ready = self.ready.is_ready(peer, flow) || is_held;
        let send = if flow == self.requests_flow() {
            self.send_requests(now, peer, room, out, inbox)
        } else if self.is_updates(flow) {
            let (channel, outbox) = ((flow / 2) as u16, &mut outboxes[flow / 2]);
            self.send_updates(now, (peer, channel), room, out, (outbox, inbox), outputs)
        } else {
            self.send_chunks(now, (peer, flow), (room, can_open), out, (outboxes, inbox))
        };
        debug_assert!(was_ready || send.is_none(), "what has something to send was reported");
        if !self.has_backlog(peer, flow, true, (outboxes, inbox)) {
            self.ready.settle(peer, flow);
        }
        if send.is_some() && self.is_updates(flow) {
            self.release_clears(peer, outboxes);
        }
        send
    }

    /// The next flow that has something more to send now.
    pub(super) fn poll_ready(&mut self) -> Option<(PeerIndex, usize)> {
        loop {
            let (peer, flow) = self.ready.pop()?;
            if self.is_ready(peer, flow) {
                return Some((peer, flow));
            }
        }
    }

    /// Whether a flow may have something to send now. What was deferred, or waits for the peer's quota, is reported when
    /// it goes on.
    pub(super) fn is_ready(&self, peer: PeerIndex, flow: usize) -> bool {
        let is_paced = || self.pacing.is_waiting(peer, (flow / 2) as u16);
        self.ready.is_ready(peer, flow)
            && !self.ready.is_deferred(peer, flow)
            && !(self.is_updates(flow) && is_paced())
    }

    /// So many bytes were encoded for a peer.
    pub(super) fn note_encoded(&mut self, peer: PeerIndex, bytes: usize) {
        self.peer(peer).sent.all += bytes as u64;
    }

    /// What was encoded for a peer.
    pub(super) fn sent(&self, peer: PeerIndex) -> Sent {
        self.peers[peer.at()].as_ref().expect("a member").sent
    }

    /// Encodes requests, refusals and receipts.
    fn send_requests(
        &mut self,
        now: Time,
        peer: PeerIndex,
        room: usize,
        out: &mut SendBuffer,
        inbox: &mut Inbox,
    ) -> Option<Send> {
        let refusals = &mut self.peers[peer.at()].as_mut().expect("a member").refusals;
        let limit = room.min(self.batch_bytes_max);
        while out.is_empty() || out.len() + Request::ENCODED_MAX <= limit {
            let request = if let Some((request, refusal)) = refusals.pop() {
                Request::Refuse { request, refusal }
            } else if let Some(receipt) = inbox.take_receipt(peer) {
                let Receipt { channel, slot, version, is_declined } = receipt;
                let channel = self.channels[channel as usize].id;
                Request::Receipt { channel, slot, version, is_declined }
            } else {
                match inbox.transfers.take_unsent(now, peer) {
                    Some(Unsent::Fetch { request, known, ranges }) => {
                        let known = &inbox.catalogue.items[known];
                        let channel = self.channels[known.channel as usize].id;
                        Request::Fetch { request: request.0, channel, id: known.id, ranges }
                    }
                    Some(Unsent::Cancel { request }) => Request::Cancel { request: request.0 },
                    None => break,
                }
            };
            if out.is_empty() {
                StreamHead::Requests.encode(&mut out.inline);
            }
            request.encode(&mut out.inline);
        }
        let send = Send { stream: None, open: true, finish: true, level: Level::Control };
        (!out.is_empty()).then_some(send)
    }

    fn send_updates(
        &mut self,
        now: Time,
        (index, channel_index): (PeerIndex, u16),
        room: usize,
        out: &mut SendBuffer,
        (outbox, inbox): (&mut Outbox, &Inbox),
        outputs: &mut VecDeque<Output>,
    ) -> Option<Send> {
        let config = &self.channels[channel_index as usize];
        let allowance = self.pacing.allowance(now, index, channel_index)?;
        let is_allowed = |batch: &Batch| u64::from(batch.current) < allowance.updates;
        let limit = room.min(self.batch_bytes_max).min(allowance.bytes);
        let streamed_max = self.streamed_max;
        let (id, class) = (config.id, config.class);
        let peer = self.peers[index.at()].as_mut().expect("a member");
        let streamed_now = peer.jobs.iter().filter(|job| job.request.is_none()).count();
        let holds =
            |active: &Active| active.known.is_some_and(|known| inbox.holds_whole(known, index));
        // A relay does not repeat what the peer advertises itself.
        let is_left_out = |active: &Active| {
            active.is_dormant() || active.is_needless_for_holder(index) && holds(active)
        };
        let (current, pushed, published_at) = (0, None, Time::NEVER);
        let mut batch = Batch { channel: channel_index, current, pushed, published_at };
        let stream = peer.open_stream(Use::Updates(batch));
        let mut finish = true;
        if outbox.take_snapshot_due(index) {
            begin(out, id);
            put_snapshot(out, index, outbox, is_left_out);
            // The snapshot is needed whatever happens to the updates, so it never becomes obsolete.
            batch.current += 1;
        }
        let mut walk = outbox.begin_walk(now, index);
        while let Some((version, slot)) = outbox.next_change(index, &mut walk) {
            let last_sent = outbox.last_sent(index, slot);
            let was_sent = !last_sent.is_nothing();
            let Some(active) = outbox.active(slot).filter(|active| !is_left_out(active)) else {
                let mut now_sent = last_sent;
                if was_sent {
                    let is_over = out.len() + FRAME_OVERHEAD_MAX > limit || !is_allowed(&batch);
                    if !out.is_empty() && is_over {
                        break;
                    }
                    begin(out, id);
                    wire::put_clear(&mut out.inline, slot, version);
                    batch.current += 1;
                    now_sent = LastSent::cleared_in(stream.0);
                }
                outbox.set_last_sent(index, slot, &walk, now_sent);
                continue;
            };
            let body = &active.body;
            let bytes = body.length() as usize;
            let may_push = active.hops == 0 && !holds(active);
            let is_short = self.pushed_on_bytes_max.is_some_and(|max| bytes <= max);
            // What the peer may have had, or heard of, is only advertised.
            let is_eager = is_short && active.hops > 0 && active.is_new(version) && !was_sent;
            let pushed = match body {
                Body::Whole(artifact)
                    if bytes <= config.push_bytes_max as usize && (may_push || is_eager) =>
                {
                    Some(artifact)
                }
                _ => None,
            };
            let is_pushed = pushed.is_some();
            let (chunks, hops) = (body.chunks(), active.hops);
            let spread = active.spread.as_ref().filter(|spread| spread.is_due(index));
            let source = match (spread, hops) {
                (Some(spread), 0) => Some(spread.stripe(index, &body.id(), chunks))
                    .filter(|stripe| !stripe.is_empty())
                    .map(Source::Ranges),
                (Some(spread), _) => Some(Source::Passed(spread.passing(index))),
                (None, _) => (may_push && !is_pushed && config.latency_sensitive)
                    .then(|| Source::Ranges(Ranges::from_iter([(0..chunks).into()]))),
            };
            let source = source.filter(|_| streamed_now < streamed_max);
            let changed_at = if hops == 0 { outbox.changed_at(slot) } else { Time::NEVER };
            let (streamed, is_spread) = (source.is_some(), spread.is_some());
            let length = body.metadata().len() + if is_pushed { bytes } else { 64 };
            let is_over = out.len() + length + FRAME_OVERHEAD_MAX > limit || !is_allowed(&batch);
            if !out.is_empty() && (is_over || streamed) {
                break;
            }
            begin(out, id);
            let told = Told { hops, streamed, spread: is_spread && hops == 0 };
            if let Some(artifact) = pushed {
                let (at, key, metadata) = ((slot, version), artifact.key(), artifact.metadata());
                peer.sent.content += bytes as u64;
                wire::put_push_start(&mut out.inline, at, hops, key, metadata, bytes);
                out.payload(artifact.bytes(), || artifact.to_bytes());
            } else {
                let told_of = |transfer| inbox.transfers.have(transfer).encoded();
                let bits = body.transfer().map(told_of);
                let have = bits.as_ref().map(|(bits, length)| ChunkBits(&bits[..*length]));
                let advert = &body.advert();
                wire::put_told(&mut out.inline, (slot, version), told, advert, have);
            }
            let now_sent = LastSent::in_stream(stream.0, is_pushed);
            outbox.set_last_sent(index, slot, &walk, now_sent);
            outbox.note_told(index, slot);
            if let Some(stream) = last_sent.clear().map(OutStream)
                && peer.update_obsolete(stream, |_| ())
            {
                peer.release(stream.index());
                outputs.push_back(Output::Reset { peer: index, stream });
            }
            batch.current += 1;
            batch.published_at = batch.published_at.min(changed_at);
            if is_pushed && hops == 0 {
                outbox.note_pushed(index, slot, batch.pushed);
                batch.pushed = Some(slot);
            }
            let active = outbox.active_mut(slot).expect("told of");
            if let Some(spread) = active.spread.as_mut().filter(|_| is_spread) {
                spread.note_told(index);
            }
            if let Some(source) = source {
                active.serving.insert(index);
                let flow = chunks_flow(channel_index);
                peer.begin_job((channel_index, slot, flow), None, Some(stream), source);
                self.ready.mark(index, flow);
                finish = false;
                break;
            }
        }
        outbox.note_served(now, index, &walk, out.len());
        self.pacing.charge(now, index, channel_index, batch.current, out.len());
        let state = peer.stream(stream).expect("just opened");
        state.used = Use::Updates(batch);
        if out.is_empty() {
            peer.release(stream.index());
            if walk.is_spent() {
                self.ready.defer(index, updates_flow(channel_index));
            }
            return None;
        }
        Some(Send { stream: Some(stream), open: true, finish, level: class.into() })
    }

    fn send_chunks(
        &mut self,
        now: Time,
        (index, flow): (PeerIndex, usize),
        (room, can_open): (usize, bool),
        out: &mut SendBuffer,
        (outboxes, inbox): (&mut [Outbox], &Inbox),
    ) -> Option<Send> {
        loop {
            let peer = self.peers[index.at()].as_ref().expect("a member");
            let jobs = peer.jobs.iter().enumerate();
            let jobs = jobs.filter(|(_, job)| job.is_sendable(flow, can_open, outboxes));
            // Artifacts take turns, so that a short one does not wait for a long one.
            let (at, job) = jobs.min_by_key(|(at, job)| (job.turn, *at))?;
            let channel = job.channel;
            let outbox = &mut outboxes[channel as usize];
            // All that it had to pass on may have come to the peer from others.
            let send = self.send_job(index, (at, room), out, (outbox, inbox));
            if send.is_some() {
                self.pacing.charge(now, index, channel, 0, out.len());
                return send;
            }
        }
    }

    /// Encodes chunks of the job at `at`, or its end. `None` if there is neither.
    fn send_job(
        &mut self,
        index: PeerIndex,
        (at, room): (usize, usize),
        out: &mut SendBuffer,
        (outbox, inbox): (&mut Outbox, &Inbox),
    ) -> Option<Send> {
        let flow = self.peer(index).jobs[at].flow;
        let level = self.level(flow);
        let peer = self.peer(index);
        peer.take_turn(at);
        let open = peer.jobs[at].stream.is_none();
        let opened = open.then(|| peer.open_stream(Use::Answer));
        let job = &mut peer.jobs[at];
        if open {
            StreamHead::Chunks(job.request.expect("an answer")).encode(&mut out.inline);
            job.stream = opened;
        }
        let active = outbox.active_mut(job.slot).expect("jobs end with their slot");
        let known = active.known;
        let has = |chunk| known.is_some_and(|known| inbox.holds_chunk(known, index, chunk));
        // Members take turns with each chunk, so that all of them soon have something to pass on.
        let is_spread = active.spread.is_some();
        let mut chunks = 0;
        while let Some(chunk) = job.next_chunk(active, has) {
            chunks += 1;
            let (bytes, proof) = match &active.body {
                Body::Whole(artifact) => artifact.chunk(chunk),
                Body::Part(part) => inbox.transfers.chunk(part.transfer, chunk),
            };
            peer.sent.content += bytes.len() as u64;
            wire::put_chunk_start(&mut out.inline, chunk, &proof, bytes.len());
            out.share(bytes);
            if out.len() >= room || is_spread {
                break;
            }
        }
        let finish = job.take_end(active);
        if job.request.is_some() {
            active.answered.note(index, chunks);
        }
        let send = Send { stream: job.stream, open, finish, level };
        (finish || !out.is_empty()).then_some(send)
    }

    pub(super) fn assert_invariants(&self, outboxes: &[Outbox]) {
        let peers = self.peers.iter().enumerate();
        for (at, peer) in peers.filter_map(|(at, peer)| Some((at, peer.as_ref()?))) {
            assert!(peer.jobs.len() <= self.serves_max + self.streamed_max, "invariant 8");
            assert!(peer.refusals.len() <= REFUSALS_MAX, "invariant 8");
            for job in &peer.jobs {
                let active = outboxes[job.channel as usize].active(job.slot);
                let served = &active.expect("jobs end with their slot").serving;
                assert!(served.contains(PeerIndex(at as u16)));
            }
        }
    }
}

impl Peer {
    fn open_stream(&mut self, used: Use) -> OutStream {
        let at = self.free.pop().map_or(self.streams.len(), usize::from);
        if at == self.streams.len() {
            self.streams.push(StreamState { generation: 0, used });
        }
        self.streams[at].used = used;
        OutStream::new(at, self.streams[at].generation)
    }

    /// One update in a stream has become obsolete, which is noted of its batch. Whether nothing in it is current any
    /// more.
    fn update_obsolete(&mut self, stream: OutStream, note: impl FnOnce(&mut Batch)) -> bool {
        let Some(state) = self.stream(stream) else { return false };
        let Use::Updates(batch) = &mut state.used else { unreachable!("told of in updates") };
        batch.current -= 1;
        note(batch);
        // The chunks behind an advert stay what they are when there is more to be told.
        batch.current == 0 && !self.jobs.iter().any(|job| job.stream == Some(stream))
    }

    /// A stream has ended: its index is free for another one.
    fn release(&mut self, at: usize) {
        let state = &mut self.streams[at];
        if state.used != Use::Free {
            let generation = state.generation + 1;
            *state = StreamState { generation, used: Use::Free };
            self.free.push(at as u16);
        }
    }

    /// Begins a job, whose artifact has its next turn behind all others, unless it has one already.
    fn begin_job(
        &mut self,
        (channel, slot, flow): (u16, Slot, usize),
        request: Option<u64>,
        stream: Option<OutStream>,
        source: Source,
    ) {
        let same = self.jobs.iter().find(|job| job.is_of(channel, slot));
        let turn = same.map_or(self.turn, |job| job.turn);
        self.turn += 1;
        let is_blocked = false;
        self.jobs.push(Job { channel, slot, flow, request, stream, source, turn, is_blocked });
    }

    /// It is the turn of the job at `at`, and so of its artifact.
    fn take_turn(&mut self, at: usize) {
        let (channel, slot) = (self.jobs[at].channel, self.jobs[at].slot);
        let turn = self.turn;
        self.jobs.iter_mut().filter(|job| job.is_of(channel, slot)).for_each(|job| job.turn = turn);
        self.turn += 1;
    }

    /// Ends the job at `at` of this peer, which is `index` to others. The stream that it filled.
    fn end_job(
        &mut self,
        index: PeerIndex,
        at: usize,
        outboxes: &mut [Outbox],
    ) -> Option<OutStream> {
        let job = self.jobs.remove(at);
        let stream = job.stream;
        if !self.jobs.iter().any(|other| other.is_of(job.channel, job.slot)) {
            job.end(index, outboxes);
        }
        stream
    }

    /// The state of a stream that has not ended.
    fn stream(&mut self, stream: OutStream) -> Option<&mut StreamState> {
        let state = self.streams.get_mut(stream.index())?;
        let is_alive = state.used != Use::Free && state.generation == stream.generation();
        is_alive.then_some(state)
    }
}

const fn updates_flow(channel: u16) -> usize {
    2 * channel as usize
}

const fn chunks_flow(channel: u16) -> usize {
    2 * channel as usize + 1
}

fn begin(out: &mut SendBuffer, channel: ChannelId) {
    if out.is_empty() {
        StreamHead::Updates(channel).encode(&mut out.inline);
    }
}

fn put_snapshot(
    out: &mut SendBuffer,
    peer: PeerIndex,
    outbox: &mut Outbox,
    skip: impl Fn(&Active) -> bool,
) {
    let mut bitmap = Vec::new();
    outbox.snapshot(peer, &mut bitmap, skip);
    wire::put_snapshot_start(&mut out.inline, outbox.version(), bitmap.len());
    out.inline.extend_from_slice(&bitmap);
}
