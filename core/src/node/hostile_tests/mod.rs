//! Members that break the rules: a bare QUIC endpoint with a member's key, which writes into its
//! streams whatever a test wants, against a node that has an honest peer beside it.
//!
//! `arena` is where the three meet. `hello` is about a connection's first stream and `streams` about
//! those behind it, `answers` about holders that are asked, `connections` about who is let in and
//! who is cut off, and `load` about peers that take much and give nothing.

mod answers;
mod arena;
mod connections;
mod hello;
mod load;
mod streams;

use std::time::Duration;
use std::vec;
use std::vec::Vec;

use crate::artifact::Artifact;
use crate::config::{ChannelConfig, Config};
use crate::id::ChannelId;
use crate::sim::hostile::frames;
use crate::wire::{ChannelHello, Hello, StreamHead};

const CHANNEL: ChannelId = ChannelId(1);

fn config() -> Config {
    let mut channel = ChannelConfig::new(CHANNEL);
    channel.slots_max = 16;
    channel.artifact_bytes_max = 1 << 20;
    channel.push_bytes_max = 1000;
    Config::new([channel])
}

fn artifact(number: u8, length: usize) -> Artifact {
    Artifact::new(vec![number; length].into(), &[number]).unwrap()
}

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

// What is written, right or wrong, beside what `frames` has.

fn hello() -> Vec<u8> {
    let channel = ChannelHello {
        id: CHANNEL,
        slots_max: 16,
        artifact_bytes_max: 1 << 20,
        push_bytes_max: 1000,
        relay_hops_max: 4,
    };
    let mut bytes = Vec::new();
    let channels = vec![channel];
    Hello { incarnation: 1, channels, ..Hello::default() }.encode(&mut bytes);
    bytes
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
    frames::advert(slot, 1, 0, false, artifact.advert())
}

/// A stream that is cut off in the middle of a frame.
fn cut(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.pop();
    bytes
}
