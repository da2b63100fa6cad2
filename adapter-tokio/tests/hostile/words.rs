//! What an attacker says: streams put together by hand, right or wrong.

use slotcast_tokio::slotcast::artifact::{Artifact, Metadata};
use slotcast_tokio::slotcast::config::{ChannelConfig, Config, RouteConfig};
use slotcast_tokio::slotcast::id::{ChannelId, RouteId, Slot, Version};
use slotcast_tokio::slotcast::wire::{
    CallHead, ChannelHello, Chunk, Hello, LiveSlots, Reply, Request, RouteHello, StreamHead, Update,
};

/// What pushes go through, and what does not fit into one.
pub(crate) const CHANNELS: [ChannelId; 2] = [ChannelId(1), ChannelId(2)];
pub(crate) const ROUTE: RouteId = RouteId(1);
pub(crate) const SLOTS_MAX: u32 = 64;
pub(crate) const PUSH_MAX: u32 = 4096;
pub(crate) const BODY_MAX: u32 = 1 << 16;
pub(crate) const IN_FLIGHT_MAX: u16 = 16;

/// How the honest members are configured.
pub(crate) fn config() -> Config {
    let channels = CHANNELS.map(|id| {
        let mut channel = ChannelConfig::new(id);
        channel.slots_max = SLOTS_MAX;
        channel.artifact_bytes_max = 1 << 20;
        channel.push_bytes_max = PUSH_MAX;
        channel
    });
    let mut route = RouteConfig::new(ROUTE, "reverse").bytes_max(BODY_MAX, BODY_MAX);
    route.in_flight_max = IN_FLIGHT_MAX;
    Config::new(channels).routes([route])
}

/// The hello of a member like the others.
pub(crate) fn hello() -> Vec<u8> {
    let channel = |id: ChannelId| ChannelHello {
        id,
        slots_max: SLOTS_MAX,
        artifact_bytes_max: 1 << 20,
        push_bytes_max: PUSH_MAX,
        relay_hops_max: 4,
    };
    let route = RouteHello {
        id: ROUTE,
        request_bytes_max: BODY_MAX,
        response_bytes_max: BODY_MAX,
        in_flight_max: IN_FLIGHT_MAX,
    };
    let channels = CHANNELS.map(channel).to_vec();
    let mut bytes = Vec::new();
    Hello { incarnation: 1, channels, routes: vec![route], ..Hello::default() }.encode(&mut bytes);
    bytes
}

/// A variable-length integer (RFC 9000, section 16), of two bytes or eight.
pub(crate) fn varint(value: u64) -> Vec<u8> {
    match value {
        0..0x4000 => (value as u16 | 0x4000).to_be_bytes().to_vec(),
        _ => (value | 0xc000_0000_0000_0000).to_be_bytes().to_vec(),
    }
}

/// A frame of any kind.
pub(crate) fn frame(kind: u64, body: &[u8]) -> Vec<u8> {
    [varint(kind), varint(body.len() as u64), body.to_vec()].concat()
}

/// A stream with this head and these frames.
pub(crate) fn stream(head: StreamHead, frames: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    head.encode(&mut bytes);
    bytes.extend(frames.concat());
    bytes
}

/// A stream of updates in the first channel.
pub(crate) fn updates(frames: &[&[u8]]) -> Vec<u8> {
    stream(StreamHead::Updates(CHANNELS[0]), frames)
}

fn update(update: &Update<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    update.encode(&mut bytes);
    bytes
}

pub(crate) fn clear(slot: u32, version: u64) -> Vec<u8> {
    update(&Update::Clear { slot: Slot(slot), version: Version(version) })
}

pub(crate) fn push(slot: u32, version: u64, bytes: &[u8]) -> Vec<u8> {
    let (slot, version, metadata) = (Slot(slot), Version(version), Metadata::new());
    update(&Update::Push { slot, version, metadata, bytes })
}

pub(crate) fn snapshot(version: u64, live: &[u8]) -> Vec<u8> {
    update(&Update::Snapshot { version: Version(version), live: LiveSlots(live) })
}

/// An advert with all of its artifact behind it: a small one, of one chunk.
pub(crate) fn streamed(slot: u32, version: u64, artifact: &Artifact) -> [Vec<u8>; 2] {
    let advert = artifact.advert().clone();
    let (slot, version) = (Slot(slot), Version(version));
    let advert = update(&Update::Advert { slot, version, hops: 0, streamed: true, advert });
    let (bytes, proof) = artifact.chunk(0);
    let mut chunk = Vec::new();
    Chunk { index: 0, proof, bytes: &bytes }.encode(&mut chunk);
    [advert, chunk]
}

pub(crate) fn artifact(number: u64) -> Artifact {
    Artifact::new(number.to_be_bytes().to_vec().into(), b"").expect("it is short")
}

pub(crate) fn request(request: &Request) -> Vec<u8> {
    let mut bytes = Vec::new();
    request.encode(&mut bytes);
    bytes
}

/// The head of a call, for a request of so many bytes.
pub(crate) fn call(length: u32) -> Vec<u8> {
    call_to(ROUTE, length)
}

pub(crate) fn call_to(route: RouteId, length: u32) -> Vec<u8> {
    let head = CallHead { route, timeout_ms: 60_000, prepaid: 0, length };
    // Any bounded vector will do.
    let mut frame = Metadata::new();
    head.encode(&mut frame);
    frame.to_vec()
}

pub(crate) fn reply(reply: Reply) -> Vec<u8> {
    let mut frame = Metadata::new();
    reply.encode(&mut frame);
    frame.to_vec()
}
