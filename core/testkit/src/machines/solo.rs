//! One machine whose peers are played by the test, frame by frame.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use slotcast::artifact::Artifact;
use slotcast::broadcast::{
    Broadcast, ChunkTaken, Event, OutStream, Output, RequestId, Send, SendBuffer, Taken,
};
use slotcast::config::Config;
use slotcast::error::Fault;
use slotcast::id::{ArtifactId, PeerIndex, Slot, Version};
use slotcast::time::Time;
use slotcast::wire::{Chunk, LiveSlots, Refusal, Request, Update};

use super::{CHANNEL, Frame, Tap, bytes_of, node, peer};

pub struct Solo {
    pub machine: Broadcast,
    pub now: Time,
    pub wake_at: Time,
    /// Resets and stops, in order, until the test takes them.
    pub outputs: Vec<Output>,
}

impl Solo {
    /// A machine with `peers` connected members that have said nothing, and been told all.
    pub fn new(config: &Config, peers: usize) -> Self {
        let machine = Broadcast::new(config, slotcast::id::NodeId([0xff; 32]), 7)
            .expect("a valid configuration");
        let mut solo = Self { machine, now: Time(1), wake_at: Time::NEVER, outputs: Vec::new() };
        for at in 0..peers {
            solo.machine.add_peer(peer(at), node(at));
            solo.up(at);
            solo.sent(at);
        }
        solo
    }

    // Connections and time.

    pub fn up(&mut self, at: usize) {
        self.machine.peer_up(self.now, peer(at), |_| true);
        self.settle();
    }

    pub fn down(&mut self, at: usize) {
        self.machine.peer_down(self.now, peer(at));
        self.settle();
    }

    pub fn remove(&mut self, at: usize) {
        self.machine.remove_peer(self.now, peer(at));
        self.settle();
    }

    pub fn elapse(&mut self, span: Duration) {
        self.now = self.now + span;
        self.settle();
    }

    /// Time jumps to the next deadline.
    pub fn wake(&mut self) {
        assert_ne!(self.wake_at, Time::NEVER, "the machine waits for something");
        self.now = self.wake_at;
        self.settle();
    }

    pub fn settle(&mut self) {
        loop {
            match self.machine.poll(self.now) {
                Output::Idle { wake_at, .. } => {
                    assert!(wake_at > self.now, "what is due is done");
                    self.wake_at = wake_at;
                    break;
                }
                output => self.outputs.push(output),
            }
        }
        self.machine.assert_invariants();
    }

    // What peers say.

    pub fn update(&mut self, at: usize, update: &Update<'_>) -> Result<Taken, Fault> {
        let taken = self.machine.handle_update(self.now, peer(at), CHANNEL, update);
        self.settle();
        taken
    }

    pub fn push(&mut self, at: usize, slot: u32, version: u64, artifact: &Artifact) {
        assert_eq!(self.update(at, &push(slot, version, artifact)), Ok(Taken::Done));
    }

    pub fn advert(&mut self, at: usize, slot: u32, version: u64, artifact: &Artifact) {
        assert_eq!(self.update(at, &advert(slot, version, 0, false, artifact)), Ok(Taken::Done));
    }

    /// An advert behind which chunks follow.
    pub fn stream(&mut self, at: usize, slot: u32, version: u64, artifact: &Artifact) -> Taken {
        self.update(at, &advert(slot, version, 0, true, artifact)).expect("no fault")
    }

    pub fn clear(&mut self, at: usize, slot: u32, version: u64) {
        let update = Update::Clear { slot: Slot(slot), version: Version(version) };
        assert_eq!(self.update(at, &update), Ok(Taken::Done));
    }

    pub fn snapshot(&mut self, at: usize, live: &[u32]) -> Result<Taken, Fault> {
        let mut bitmap = vec![0; live.iter().max().map_or(0, |slot| *slot as usize / 8 + 1)];
        live.iter().for_each(|slot| bitmap[*slot as usize / 8] |= 1 << (slot % 8));
        self.update(at, &Update::Snapshot { version: Version(9), live: LiveSlots(&bitmap) })
    }

    pub fn chunk(
        &mut self,
        at: usize,
        request: RequestId,
        artifact: &Artifact,
        index: u32,
    ) -> Result<ChunkTaken, Fault> {
        let (bytes, proof) = artifact.chunk(index);
        self.raw_chunk(at, request, &Chunk { index, proof, bytes: &bytes })
    }

    pub fn raw_chunk(
        &mut self,
        at: usize,
        request: RequestId,
        chunk: &Chunk<'_>,
    ) -> Result<ChunkTaken, Fault> {
        let taken = self.machine.handle_chunk(self.now, peer(at), request, chunk);
        self.settle();
        taken
    }

    /// Answers with chunks, none of which may be amiss.
    pub fn chunks(
        &mut self,
        at: usize,
        request: RequestId,
        artifact: &Artifact,
        range: Range<u32>,
    ) {
        for index in range {
            let is_last = index + 1 == artifact.advert().chunks();
            let taken = if is_last { ChunkTaken::Done } else { ChunkTaken::More };
            assert_eq!(self.chunk(at, request, artifact, index), Ok(taken));
        }
    }

    pub fn request(&mut self, at: usize, request: Request) {
        assert_eq!(self.machine.handle_request(self.now, peer(at), &request), Ok(()));
        self.settle();
    }

    pub fn refuse(&mut self, at: usize, request: RequestId, refusal: Refusal) {
        self.request(at, Request::Refuse { request: request.0, refusal });
    }

    pub fn answer_end(&mut self, at: usize, request: RequestId) {
        self.machine.handle_answer_end(self.now, peer(at), request);
        self.settle();
    }

    pub fn acked(&mut self, at: usize, stream: OutStream) {
        self.machine.handle_acked(peer(at), stream);
        self.settle();
    }

    pub fn stopped(&mut self, at: usize, stream: OutStream) {
        self.machine.handle_stopped(peer(at), stream);
        self.settle();
    }

    // What the machine says.

    /// The next stream, or piece of one, to a peer.
    pub fn send(&mut self, at: usize, room: usize) -> Option<(Send, Vec<u8>)> {
        let mut out = SendBuffer::new();
        let send = self.machine.poll_send(self.now, peer(at), room, &mut out);
        self.settle();
        send.map(|send| (send, bytes_of(&mut out)))
    }

    /// All frames that there are for a peer. Streams that are of interest stay unacknowledged.
    pub fn sent(&mut self, at: usize) -> Vec<Frame> {
        let mut frames = Vec::new();
        let mut taps: Vec<(Option<OutStream>, Tap)> = Vec::new();
        while let Some((send, bytes)) = self.send(at, 256 << 10) {
            if send.open {
                taps.push((send.stream, Tap::default()));
            }
            let tap = taps.iter_mut().rfind(|(stream, _)| *stream == send.stream);
            frames.extend(tap.expect("an open stream").1.read(&bytes));
        }
        assert!(!self.machine.has_backlog(peer(at)), "all is sent");
        frames
    }

    /// The peers with flows that the machine has reported since the last time: it reports no others
    /// to a node.
    pub fn reported(&mut self) -> BTreeSet<PeerIndex> {
        core::iter::from_fn(|| self.machine.poll_ready()).map(|(peer, _)| peer).collect()
    }

    /// The one request that there is for a peer, for these chunks of an artifact.
    pub fn asked(&mut self, at: usize, artifact: &Artifact, range: Range<u32>) -> RequestId {
        let frames = self.sent(at);
        let [Frame::Fetch { request, id, chunks }] = &frames[..] else {
            panic!("one request: {frames:?}");
        };
        let mut chunks = chunks.clone();
        chunks.sort_unstable();
        assert_eq!((*id, chunks), (artifact.id(), range.collect()));
        RequestId(*request)
    }

    pub fn events(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(event) = self.machine.poll_event(CHANNEL) {
            events.push(event);
            self.settle();
        }
        events
    }

    /// Takes all events, which must be these deliveries.
    pub fn expect_delivered<'a>(&mut self, wanted: impl IntoIterator<Item = &'a Artifact>) {
        let events = self.events();
        let ids: Vec<ArtifactId> = wanted.into_iter().map(Artifact::id).collect();
        assert_eq!(super::delivered(&events), ids);
        assert_eq!(events.len(), ids.len(), "only deliveries: {events:?}");
    }

    pub fn publish(&mut self, artifact: &Artifact) {
        self.machine.publish(CHANNEL, artifact.clone()).expect("there is room");
        self.settle();
    }

    pub fn abort(&mut self, artifact: &Artifact) {
        assert!(self.machine.abort(CHANNEL, &artifact.id()), "it was active");
        self.settle();
    }

    pub fn reconsider(&mut self) {
        assert!(self.machine.reconsider(self.now, CHANNEL));
        self.settle();
    }

    pub fn heard(&self, of: usize) -> Vec<(u32, ArtifactId)> {
        let slots = self.machine.peer_slots(peer(of), CHANNEL);
        slots.map(|(slot, id)| (slot.0, id)).collect()
    }
}

pub fn push<'a>(slot: u32, version: u64, artifact: &'a Artifact) -> Update<'a> {
    let (key, metadata, bytes) = (artifact.key(), artifact.metadata(), artifact.bytes());
    let (slot, version) = (Slot(slot), Version(version));
    Update::Push { slot, version, hops: 0, key, metadata, bytes }
}

pub fn advert(
    slot: u32,
    version: u64,
    hops: u8,
    streamed: bool,
    artifact: &Artifact,
) -> Update<'static> {
    let (slot, version) = (Slot(slot), Version(version));
    Update::Advert { slot, version, hops, streamed, spread: false, advert: artifact.advert() }
}
