//! What an attacker says, beside what all hostile peers have words for: the configuration, and what goes
//! with it.

use slotcast_testkit::hostile::frames;
use slotcast_tokio::slotcast::artifact::Artifact;
use slotcast_tokio::slotcast::config::{ChannelConfig, Config, RouteConfig};
use slotcast_tokio::slotcast::id::{ChannelId, RouteId};
use slotcast_tokio::slotcast::wire::{CallHead, ChannelHello, RouteHello, StreamHead};

pub(crate) use frames::{clear, frame, reply, request, snapshot, stream};

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
        sender_matters: false,
    };
    let route = RouteHello {
        id: ROUTE,
        request_bytes_max: BODY_MAX,
        response_bytes_max: BODY_MAX,
        in_flight_max: IN_FLIGHT_MAX,
        in_flight_bytes_max: u64::MAX,
        knows_grants: true,
    };
    let channels = CHANNELS.map(channel).to_vec();
    frames::hello(1, channels, vec![route])
}

/// A stream of updates in the first channel.
pub(crate) fn updates(frames: &[&[u8]]) -> Vec<u8> {
    stream(StreamHead::Updates(CHANNELS[0]), frames)
}

pub(crate) fn push(slot: u32, version: u64, bytes: &[u8]) -> Vec<u8> {
    frames::push(slot, version, b"", bytes)
}

/// An advert with all of its artifact behind it: a small one, of one chunk.
pub(crate) fn streamed(slot: u32, version: u64, artifact: &Artifact) -> [Vec<u8>; 2] {
    [frames::advert(slot, version, 0, true, &artifact.advert()), frames::chunk(artifact, 0)]
}

pub(crate) fn artifact(number: u64) -> Artifact {
    Artifact::new(number.to_be_bytes().to_vec().into(), b"").expect("it is short")
}

/// The head of a call, for a request of so many bytes.
pub(crate) fn call(length: u32) -> Vec<u8> {
    call_to(ROUTE, length)
}

pub(crate) fn call_to(route: RouteId, length: u32) -> Vec<u8> {
    frames::call(&CallHead { route, timeout_ms: 60_000, prepaid: 0, length, wants_answer: true })
}
