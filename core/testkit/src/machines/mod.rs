//! Test support: artifacts, configurations, what is on the wire in a form that compares, and two
//! ways to drive machines: [`Net`], several of them with streams in memory, and [`Solo`], one whose
//! peers are played by the test.

mod net;
mod solo;

pub use net::{Net, Order, StreamId};
pub use solo::{Solo, advert, push};

use std::sync::{Arc, Mutex};
use std::time::Duration;

use slotcast::artifact::{Artifact, CHUNK_BYTES_MAX, CHUNK_BYTES_MIN};
use slotcast::broadcast::{Candidate, Decision, Event, Filter, SendBuffer};
use slotcast::config::{ChannelConfig, Config};
use slotcast::id::{ArtifactId, ChannelId, NodeId, PeerIndex};
use slotcast::wire::{Chunk, Item, Ranges, Refusal, Request, StreamDecoder, StreamHead, Update};

/// The channel that tests use unless they need a second one.
pub const CHANNEL: ChannelId = ChannelId(1);

/// A second one.
pub const OTHER: ChannelId = ChannelId(2);

/// A bound for the body of any frame of the tests' channels.
pub const BODY_MAX: usize = CHUNK_BYTES_MAX + 4096;

/// The member at a place, as all machines of a test know it.
pub const fn peer(at: usize) -> PeerIndex {
    PeerIndex(at as u16)
}

/// The id of the member at a place.
pub const fn node(at: usize) -> NodeId {
    NodeId([at as u8; 32])
}

/// The defaults, with one channel as `edit` leaves it.
pub fn config(edit: impl FnOnce(&mut ChannelConfig)) -> Config {
    let mut channel = ChannelConfig::new(CHANNEL);
    edit(&mut channel);
    Config::new([channel])
}

/// An artifact that differs from those with other numbers.
pub fn artifact(number: u64, length: usize) -> Artifact {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = vec![0; length];
    for piece in bytes.chunks_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        piece.copy_from_slice(&state.to_le_bytes()[..piece.len()]);
    }
    Artifact::new(bytes.into(), &number.to_be_bytes()).expect("within the format's limits")
}

/// One that is pushed.
pub fn small(number: u64) -> Artifact {
    artifact(number, 200)
}

/// The number of chunks of a [`large`] artifact.
pub const LARGE_CHUNKS: u32 = 13;

/// One of several chunks, that is fetched. The last chunk is short.
pub fn large(number: u64) -> Artifact {
    artifact(number, (LARGE_CHUNKS as usize - 1) * CHUNK_BYTES_MIN + 5)
}

/// A filter that answers what the test has last put into the cell.
pub fn steered(decision: Decision) -> (Arc<Mutex<Decision>>, Box<dyn Filter>) {
    let cell = Arc::new(Mutex::new(decision));
    let shared = cell.clone();
    (cell, Box::new(move |_: &Candidate<'_>| *shared.lock().unwrap()))
}

/// One range of chunks.
pub fn range(chunks: std::ops::Range<u32>) -> Ranges {
    Ranges::from_iter([chunks.into()])
}

/// The ids of the artifacts that events deliver, in order.
pub fn delivered(events: &[Event]) -> Vec<ArtifactId> {
    let id = |event: &Event| match event {
        Event::Delivered { artifact, .. } => Some(artifact.id()),
        _ => None,
    };
    events.iter().filter_map(id).collect()
}

pub const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// A frame on the wire.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Frame {
    Clear { slot: u32, version: u64 },
    Push { slot: u32, version: u64, id: ArtifactId },
    Advert { slot: u32, version: u64, hops: u8, streamed: bool, id: ArtifactId },
    Snapshot(Vec<u32>),
    Partial { slot: u32, version: u64, hops: u8, id: ArtifactId, have: Vec<u32> },
    Fetch { request: u64, id: ArtifactId, chunks: Vec<u32> },
    Cancel(u64),
    Refuse(u64, Refusal),
    Chunk(u32),
}

impl Frame {
    pub fn is_update(&self) -> bool {
        use Frame::*;
        matches!(self, Clear { .. } | Push { .. } | Advert { .. } | Partial { .. })
    }

    /// The index of a chunk.
    pub fn chunk(&self) -> Option<u32> {
        if let Self::Chunk(index) = self { Some(*index) } else { None }
    }

    /// The artifact that a push or an advert tells of.
    pub fn told(&self) -> Option<ArtifactId> {
        match self {
            Self::Push { id, .. } | Self::Advert { id, .. } | Self::Partial { id, .. } => Some(*id),
            _ => None,
        }
    }

    fn of_update(update: &Update<'_>) -> Self {
        match update {
            Update::Clear { slot, version } => Self::Clear { slot: slot.0, version: version.0 },
            Update::Push { slot, version, key, metadata, bytes, .. } => {
                let artifact = Artifact::keyed(*key, bytes.to_vec().into(), metadata).unwrap();
                Self::Push { slot: slot.0, version: version.0, id: artifact.id() }
            }
            Update::Advert { slot, version, hops, streamed, advert, .. } => Self::Advert {
                slot: slot.0,
                version: version.0,
                hops: *hops,
                streamed: *streamed,
                id: advert.id(),
            },
            Update::Partial { slot, version, hops, advert, have, .. } => {
                let (slot, version, hops, id) = (slot.0, version.0, *hops, advert.id());
                Self::Partial { slot, version, hops, id, have: have.iter().collect() }
            }
            Update::Snapshot { live, .. } => {
                Self::Snapshot(live.iter().map(|slot| slot.0).collect())
            }
            Update::Unknown { .. } => panic!("not sent: {update:?}"),
        }
    }

    fn of_request(request: &Request) -> Self {
        match *request {
            Request::Fetch { request, id, ref ranges, .. } => {
                let chunks = ranges.iter().flat_map(|range| range.first..range.first + range.count);
                Self::Fetch { request, id, chunks: chunks.collect() }
            }
            Request::Cancel { request } => Self::Cancel(request),
            Request::Refuse { request, refusal } => Self::Refuse(request, refusal),
            Request::Unknown { .. } | Request::Receipt { .. } => panic!("not asked: {request:?}"),
        }
    }
}

/// Reads along what is written to a stream.
pub struct Tap {
    decoder: StreamDecoder,
    pub head: Option<StreamHead>,
}

impl Default for Tap {
    fn default() -> Self {
        Self { decoder: StreamDecoder::new(BODY_MAX), head: None }
    }
}

impl Tap {
    pub fn read(&mut self, mut bytes: &[u8]) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(item) = self.decoder.next(&mut bytes).expect("well-formed") {
            match (item, self.head) {
                (Item::Head(head), _) => self.head = Some(head),
                (Item::Frame { kind, body }, Some(StreamHead::Requests)) => {
                    let request = Request::decode(kind, body).expect("well-formed");
                    // What receipts are for shows in the coverage.
                    match request.expect("of a known kind") {
                        Request::Receipt { .. } => {}
                        request => frames.push(Frame::of_request(&request)),
                    }
                }
                (Item::Frame { kind, body }, Some(StreamHead::Updates(_))) => {
                    frames.push(match Update::decode(kind, body) {
                        Ok(update) => Frame::of_update(&update.expect("of a known kind")),
                        Err(_) => Self::chunk(kind, body),
                    });
                }
                (Item::Frame { kind, body }, Some(StreamHead::Chunks(_))) => {
                    frames.push(Self::chunk(kind, body));
                }
                (Item::Frame { .. }, head) => panic!("frames in a stream with head {head:?}"),
            }
        }
        frames
    }

    fn chunk(kind: u64, body: &[u8]) -> Frame {
        Frame::Chunk(Chunk::decode(kind, body).expect("well-formed").expect("a chunk").index)
    }
}

/// The bytes of a buffer, both ways of taking them compared.
pub fn bytes_of(out: &mut SendBuffer) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(out.len());
    out.for_each_piece(|piece| bytes.extend_from_slice(piece));
    assert_eq!(bytes.len(), out.len());
    let mut pieces = Vec::new();
    out.take_pieces(&mut pieces);
    assert!(pieces.concat() == bytes && out.is_empty());
    bytes
}
