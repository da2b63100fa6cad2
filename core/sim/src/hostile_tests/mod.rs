//! Members that break the rules: a bare QUIC endpoint with a member's key, which writes into its
//! streams whatever a test wants, against a node that has an honest peer beside it.
//!
//! `arena` is where the three meet, and `desk` where they call each other. `hello` is about a
//! connection's first stream and `streams` about those behind it, `answers` about holders that are
//! asked, `callers`, `callees` and `noise` about calls, `connections` about who is let in and who is
//! cut off, `side_connections`, `pending` and `handshake_places` about several connections of one
//! member or address, `dial_pause` about one that does not stay, `load`, `aborts` and `responses`
//! about peers that take much and give nothing, `floods`, `full_packets` and `quotas` about those that keep a node busy,
//! `uplink` about those that would have more of what it sends than their share, and `twins` about those that claim to be
//! several processes.

mod aborts;
mod answers;
mod arena;
mod callees;
mod callers;
mod connections;
mod desk;
mod dial_pause;
mod floods;
mod full_packets;
mod handshake_places;
mod hello;
mod load;
mod noise;
mod pending;
mod quotas;
mod responses;
mod side_connections;
mod streams;
mod twins;
mod uplink;

use std::time::Duration;

use crate::hostile::frames::{self, reply};
use slotcast::artifact::Artifact;
use slotcast::config::{ChannelConfig, Config, RouteConfig};
use slotcast::id::{ChannelId, RouteId};
use slotcast::wire::{CallHead, ChannelHello, RouteHello, StreamHead};

const CHANNEL: ChannelId = ChannelId(1);
const ROUTE: RouteId = RouteId(7);

fn config() -> Config {
    let mut channel = ChannelConfig::new(CHANNEL);
    channel.slots_max = 16;
    channel.artifact_bytes_max = 1 << 20;
    channel.push_bytes_max = 1000;
    let mut route = RouteConfig::new(ROUTE, "pieces").bytes_max(1 << 20, 256 << 10);
    route.in_flight_max = 512;
    route.body_bytes_max = 16 << 20;
    Config::new([channel]).routes([route])
}

fn artifact(number: u8, length: usize) -> Artifact {
    Artifact::new(vec![number; length].into(), &[number]).unwrap()
}

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

// What is written, right or wrong, beside what `frames` has.

fn hello() -> Vec<u8> {
    hello_of(1)
}

/// The hello of the process with this incarnation.
fn hello_of(incarnation: u64) -> Vec<u8> {
    let channel = ChannelHello {
        id: CHANNEL,
        slots_max: 16,
        artifact_bytes_max: 1 << 20,
        push_bytes_max: 1000,
        relay_hops_max: 4,
        sender_matters: false,
    };
    let route = RouteHello {
        id: ROUTE,
        request_bytes_max: u32::MAX,
        response_bytes_max: u32::MAX,
        in_flight_max: 512,
        in_flight_bytes_max: u64::MAX,
        knows_grants: true,
    };
    frames::hello(incarnation, vec![channel], vec![route])
}

fn head(head: StreamHead) -> Vec<u8> {
    frames::stream(head, &[])
}

fn updates(frames: &[&[u8]]) -> Vec<u8> {
    frames::updates(CHANNEL, frames)
}

fn push(slot: u32, version: u64, bytes: &[u8]) -> Vec<u8> {
    frames::push(slot, version, b"", bytes)
}

/// The first advert of a publisher's slot.
fn advert(slot: u32, artifact: &Artifact) -> Vec<u8> {
    frames::advert(slot, 1, 0, false, &artifact.advert())
}

/// A stream that is cut off in the middle of a frame.
fn cut(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.pop();
    bytes
}

/// The head of a request of `length` bytes, with an answer of any length paid for.
fn asks(length: u32, timeout: Duration) -> Vec<u8> {
    let timeout_ms = timeout.as_millis() as u32;
    frames::call(&CallHead {
        route: ROUTE,
        timeout_ms,
        prepaid: u32::MAX,
        length,
        wants_answer: true,
    })
}

/// A request for an answer of so many bytes.
fn asking_for(answer: usize, length: usize, timeout: Duration) -> Vec<u8> {
    [asks(length as u32, timeout), question(answer, length)].concat()
}

/// A body that asks for an answer of so many bytes.
fn question(answer: usize, length: usize) -> Vec<u8> {
    let mut body = vec![0x5a; length];
    body[..8].copy_from_slice(&(answer as u64).to_be_bytes());
    body
}
