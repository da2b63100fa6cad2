//! Streams put together by hand: what the wire format has words for, right or wrong.

use quinn_proto::VarInt;
use quinn_proto::coding::Codec;

use slotcast::artifact::{Advert, Artifact, METADATA_BYTES_MAX, Metadata};
use slotcast::id::{ChannelId, Slot, Version};
use slotcast::wire::{
    CallHead, ChannelHello, Chunk, ChunkBits, ChunkRange, Hello, LiveSlots, MINOR, Ranges, Reply,
    Request, RouteHello, StreamHead, Update,
};

/// A stream with this head and these frames.
pub fn stream(head: StreamHead, frames: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    head.encode(&mut bytes);
    bytes.extend_from_slice(&frames.concat());
    bytes
}

/// A stream of updates.
pub fn updates(channel: ChannelId, frames: &[&[u8]]) -> Vec<u8> {
    stream(StreamHead::Updates(channel), frames)
}

/// A stream of requests.
pub fn requests(requests: &[Request]) -> Vec<u8> {
    let requests: Vec<_> = requests.iter().flat_map(request).collect();
    stream(StreamHead::Requests, &[&requests])
}

/// The first stream of a connection.
pub fn hello(incarnation: u64, channels: Vec<ChannelHello>, routes: Vec<RouteHello>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let quotas = Vec::new();
    Hello { minor: MINOR, incarnation, channels, routes, quotas }.encode(&mut bytes);
    bytes
}

/// Appends a number below 2^62.
pub fn put_varint(bytes: &mut Vec<u8>, number: u64) {
    VarInt::from_u64(number).expect("below 2^62").encode(bytes);
}

/// A frame of any kind.
pub fn frame(kind: u64, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_varint(&mut bytes, kind);
    put_varint(&mut bytes, body.len() as u64);
    bytes.extend_from_slice(body);
    bytes
}

/// One range of chunks.
pub fn ranges(first: u32, count: u32) -> Ranges {
    Ranges::from_iter([ChunkRange { first, count }])
}

/// A request, or what cancels or refuses one.
pub fn request(request: &Request) -> Vec<u8> {
    let mut bytes = Vec::new();
    request.encode(&mut bytes);
    bytes
}

/// What a call begins with.
pub fn call(head: &CallHead) -> Vec<u8> {
    // Bounded, as the encoder wants it.
    let mut frame = Metadata::new();
    head.encode(&mut frame);
    frame.to_vec()
}

/// What an answer begins with, or what stands in its place.
pub fn reply(reply: Reply) -> Vec<u8> {
    let mut frame = Metadata::new();
    reply.encode(&mut frame);
    frame.to_vec()
}

fn update(update: &Update<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    update.encode(&mut bytes);
    bytes
}

pub fn clear(slot: u32, version: u64) -> Vec<u8> {
    update(&Update::Clear { slot: Slot(slot), version: Version(version) })
}

pub fn push(slot: u32, version: u64, metadata: &[u8], bytes: &[u8]) -> Vec<u8> {
    assert!(metadata.len() <= METADATA_BYTES_MAX, "short metadata");
    let (slot, version) = (Slot(slot), Version(version));
    update(&Update::Push { slot, version, hops: 0, key: None, metadata, bytes })
}

/// The push of an artifact as it is, with its key if it has one.
pub fn push_of(slot: u32, version: u64, artifact: &Artifact) -> Vec<u8> {
    let (key, metadata, bytes) = (artifact.key(), artifact.metadata(), artifact.bytes());
    let (slot, version) = (Slot(slot), Version(version));
    update(&Update::Push { slot, version, hops: 0, key, metadata, bytes })
}

pub fn advert(slot: u32, version: u64, hops: u8, streamed: bool, advert: &Advert) -> Vec<u8> {
    let (slot, version, advert) = (Slot(slot), Version(version), advert.clone());
    update(&Update::Advert { slot, version, hops, streamed, spread: false, advert })
}

/// An advert of an artifact that is spread: whoever reads it is to pass on the chunks behind it.
pub fn spread_advert(slot: u32, version: u64, streamed: bool, advert: &Advert) -> Vec<u8> {
    let (slot, version, advert) = (Slot(slot), Version(version), advert.clone());
    update(&Update::Advert { slot, version, hops: 0, streamed, spread: true, advert })
}

/// That a member has these chunks of an artifact. `have` must not name one that there is not; the
/// artifact has at most [`CHUNKS_PREFERRED_MAX`](slotcast::artifact::CHUNKS_PREFERRED_MAX).
pub fn partial(
    slot: u32,
    version: u64,
    hops: u8,
    (streamed, spread): (bool, bool),
    advert: &Advert,
    have: impl IntoIterator<Item = u32>,
) -> Vec<u8> {
    let mut bits = Vec::new();
    for chunk in have {
        let at = chunk as usize / 8;
        bits.resize(bits.len().max(at + 1), 0);
        bits[at] |= 1 << (chunk % 8);
    }
    let (slot, version, advert) = (Slot(slot), Version(version), advert.clone());
    let have = ChunkBits(&bits);
    update(&Update::Partial { slot, version, hops, streamed, spread, advert, have })
}

pub fn snapshot(version: u64, live: &[u8]) -> Vec<u8> {
    update(&Update::Snapshot { version: Version(version), live: LiveSlots(live) })
}

/// A chunk with its proof, as an honest holder would send it.
pub fn chunk(artifact: &Artifact, index: u32) -> Vec<u8> {
    let (bytes, proof) = artifact.chunk(index);
    let mut frame = Vec::new();
    Chunk { index, proof, bytes: &bytes }.encode(&mut frame);
    frame
}
