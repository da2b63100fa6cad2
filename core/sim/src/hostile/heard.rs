//! What a hostile member learns by reading its peers' streams.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use quinn_proto::StreamId;

use slotcast::artifact::{Advert, Artifact, CHUNK_BYTES_MAX, SINGLE_CHUNK_BYTES_MAX};
use slotcast::id::{ArtifactId, ChannelId, NodeId};
use slotcast::wire::{Chunk, Item, Request, StreamDecoder, StreamHead, Update};

/// Adverts of other members that are remembered: the latest.
const HEARD_MAX: usize = 64;

/// Of those, long artifacts whose bytes are remembered.
const LONG_MAX: usize = 8;

/// Bytes in the longest artifact that it fetches.
pub(super) const LESSON_BYTES_MAX: u64 = 1 << 20;

/// Artifacts that it fetches from one peer at once.
const LESSONS_MAX: usize = 2;

/// Bytes of a frame that it listens to: longer than any update or chunk.
const FRAME_MAX: usize = 2 * CHUNK_BYTES_MAX;

/// An artifact that a member advertises.
#[derive(Clone, Debug)]
pub(super) struct Heard {
    pub(super) channel: ChannelId,
    pub(super) id: ArtifactId,
    pub(super) advert: Advert,
    pub(super) from: NodeId,
    /// The artifact itself, if it was pushed or fetched.
    pub(super) artifact: Option<Artifact>,
}

/// The latest adverts of all members, each artifact once.
#[derive(Debug, Default)]
pub(super) struct Pool(VecDeque<Heard>);

impl Pool {
    /// Whether it is new.
    pub(super) fn insert(&mut self, heard: Heard) -> bool {
        if let Some(known) = self.0.iter_mut().find(|known| known.id == heard.id) {
            known.artifact = known.artifact.take().or(heard.artifact);
            self.forget_long_ones();
            return false;
        }
        if self.0.len() == HEARD_MAX {
            self.0.pop_front();
        }
        self.0.push_back(heard);
        true
    }

    fn forget_long_ones(&mut self) {
        let is_long = |heard: &&mut Heard| {
            heard.artifact.is_some() && heard.advert.length > SINGLE_CHUNK_BYTES_MAX as u64
        };
        let count = self.0.iter_mut().filter(is_long).count();
        for heard in self.0.iter_mut().filter(is_long).take(count.saturating_sub(LONG_MAX)) {
            heard.artifact = None;
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn at(&self, at: usize) -> &Heard {
        &self.0[at]
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Role {
    Unknown,
    Updates(ChannelId),
    Requests,
    Chunks(u64),
    /// Nothing to be learnt from it.
    Ignored,
}

/// The first chunk of the stripe that a publisher has sent.
#[derive(Clone, Debug)]
pub(super) struct Stripe {
    pub(super) channel: ChannelId,
    pub(super) advert: Advert,
    pub(super) chunk: u32,
    /// The frame with its bytes and proof.
    pub(super) frame: Bytes,
}

/// One stream of a peer.
#[derive(Debug)]
struct Incoming {
    role: Role,
    /// The artifact of which a stripe follows.
    spread: Option<Advert>,
    decoder: StreamDecoder,
}

/// An artifact that is being fetched.
#[derive(Debug)]
struct Lesson {
    channel: ChannelId,
    advert: Advert,
    bytes: Vec<u8>,
    /// Chunks of which the bytes are here.
    chunks: u32,
}

/// The streams of a peer that have begun, and what has been said in them.
#[derive(Debug, Default)]
pub(super) struct Ears {
    streams: BTreeMap<StreamId, Incoming>,
    /// By request.
    lessons: BTreeMap<u64, Lesson>,
    heard: Vec<(ChannelId, Advert, Option<Artifact>)>,
    requests: Vec<Request>,
    stripes: Vec<Stripe>,
}

impl Ears {
    /// What was advertised since the last call, with the bytes if they are known.
    pub(super) fn take_heard(&mut self) -> Vec<(ChannelId, Advert, Option<Artifact>)> {
        std::mem::take(&mut self.heard)
    }

    /// What was asked since the last call.
    pub(super) fn take_requests(&mut self) -> Vec<Request> {
        std::mem::take(&mut self.requests)
    }

    /// The stripes that have begun to come since the last call.
    pub(super) fn take_stripes(&mut self) -> Vec<Stripe> {
        std::mem::take(&mut self.stripes)
    }

    /// Listens for the answer to a request for all of an artifact.
    pub(super) fn learn(&mut self, request: u64, channel: ChannelId, advert: Advert) {
        if self.lessons.len() == LESSONS_MAX {
            self.lessons.pop_first();
        }
        let (bytes, chunks) = (Vec::new(), 0);
        self.lessons.insert(request, Lesson { channel, advert, bytes, chunks });
    }

    /// Takes what has arrived of a stream; `None` is its end.
    pub(super) fn take(&mut self, stream: StreamId, bytes: Option<&[u8]>) {
        let Some(mut bytes) = bytes else {
            self.streams.remove(&stream);
            return;
        };
        let new = || Incoming {
            role: Role::Unknown,
            spread: None,
            decoder: StreamDecoder::new(FRAME_MAX),
        };
        let mut incoming = self.streams.remove(&stream).unwrap_or_else(new);
        while incoming.role != Role::Ignored {
            match incoming.decoder.next(&mut bytes) {
                Ok(Some(Item::Head(head))) => {
                    incoming.role = match head {
                        StreamHead::Updates(channel) => Role::Updates(channel),
                        StreamHead::Requests => Role::Requests,
                        StreamHead::Chunks(request) if self.lessons.contains_key(&request) => {
                            Role::Chunks(request)
                        }
                        _ => Role::Ignored,
                    };
                }
                Ok(Some(Item::Frame { kind, body })) => {
                    self.take_stripe(&mut incoming.spread, incoming.role, kind, body);
                    self.take_frame(incoming.role, kind, body);
                }
                Ok(None) => break,
                Err(_) => incoming.role = Role::Ignored,
            }
        }
        self.streams.insert(stream, incoming);
    }

    fn take_frame(&mut self, role: Role, kind: u64, body: &[u8]) {
        match role {
            Role::Updates(channel) => match Update::decode(kind, body) {
                Ok(Some(Update::Advert { advert, .. })) => {
                    self.heard.push((channel, advert, None));
                }
                // Another hostile member may push anything.
                Ok(Some(Update::Push { key, metadata, bytes, .. }))
                    if bytes.len() <= SINGLE_CHUNK_BYTES_MAX =>
                {
                    let bytes = Bytes::copy_from_slice(bytes);
                    let artifact = Artifact::keyed(key, bytes, metadata).expect("within bounds");
                    self.heard.push((channel, artifact.advert(), Some(artifact)));
                }
                _ => {}
            },
            Role::Requests => self.requests.extend(Request::decode(kind, body).ok().flatten()),
            Role::Chunks(request) => {
                if let Ok(Some(chunk)) = Chunk::decode(kind, body) {
                    self.take_chunk(request, &chunk);
                }
            }
            Role::Unknown | Role::Ignored => {}
        }
    }

    /// Notes the first chunk behind an advert whose artifact is to be passed on.
    fn take_stripe(&mut self, spread: &mut Option<Advert>, role: Role, kind: u64, body: &[u8]) {
        let Role::Updates(channel) = role else { return };
        if let Ok(Some(Chunk { index: chunk, proof, bytes })) = Chunk::decode(kind, body) {
            let Some(advert) = spread.take() else { return };
            let mut frame = Vec::new();
            Chunk { index: chunk, proof, bytes }.encode(&mut frame);
            self.stripes.push(Stripe { channel, advert, chunk, frame: frame.into() });
        } else if let Ok(Some(Update::Advert { spread: true, streamed: true, advert, .. })) =
            Update::decode(kind, body)
        {
            *spread = Some(advert);
        }
    }

    fn take_chunk(&mut self, request: u64, chunk: &Chunk<'_>) {
        let Some(lesson) = self.lessons.get_mut(&request) else { return };
        let next = lesson.chunks;
        let is_right = lesson.advert.check_chunk(next, &chunk.proof, chunk.bytes);
        if !is_right || chunk.index != next {
            return;
        }
        lesson.bytes.extend_from_slice(chunk.bytes);
        lesson.chunks += 1;
        if lesson.chunks == lesson.advert.chunks() {
            let Lesson { channel, advert, bytes, .. } =
                self.lessons.remove(&request).expect("just found");
            let artifact = Artifact::new(bytes.into(), &advert.metadata);
            let artifact = artifact.expect("every chunk was checked");
            self.heard.push((channel, advert, Some(artifact)));
        }
    }
}
