//! Members that would have more of a node's uplink than their share. The victim shapes what it sends, so that the queue
//! is in the victim.

use std::time::Duration;

use quinn_proto::TransportConfig as QuicTransport;

use super::arena::{Arena, DIALLER, HONEST, VICTIM};
use super::{CHANNEL, ms};
use crate::hostile::frames::{self, ranges};
use crate::{Chance, Latency};
use slotcast::artifact::Artifact;
use slotcast::config::{ChannelConfig, Class, Config};
use slotcast::id::ChannelId;
use slotcast::wire::{ChannelHello, Request};

/// A second channel, which the hostile member does not have.
const OTHER: ChannelId = ChannelId(2);

const ARTIFACT_BYTES: usize = 1 << 20;

/// Artifacts that are under way to the honest member at once.
const LIVE: usize = 4;

fn channel(id: ChannelId, class: Class) -> ChannelConfig {
    let mut channel = ChannelConfig::new(id).class(class);
    (channel.slots_max, channel.artifact_bytes_max) = (16, ARTIFACT_BYTES as u64);
    channel
}

/// A hostile member that has `CHANNEL`, an honest one that has all channels, and uplinks of so many bytes per second.
fn arena(channels: impl IntoIterator<Item = ChannelConfig>, rate: u64) -> Arena {
    let mut config = Config::new(channels);
    config.transport.uplink = Some(rate);
    let first = &config.channels[0];
    let hello = ChannelHello {
        id: CHANNEL,
        slots_max: first.slots_max,
        artifact_bytes_max: first.artifact_bytes_max,
        push_bytes_max: first.push_bytes_max,
        relay_hops_max: first.relay_hops_max,
        sender_matters: false,
    };
    let mut arena = Arena::of(&config, DIALLER, QuicTransport::default());
    arena.dial();
    arena.write(&frames::hello(1, vec![hello], Vec::new()));
    arena.until("it is up", Arena::is_taken_on);
    arena.take_told();
    arena
}

fn number(number: u64) -> Artifact {
    let mut bytes = vec![0; ARTIFACT_BYTES];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    Artifact::new(bytes.into(), &[]).expect("within the limits")
}

fn publish(arena: &mut Arena, channel: ChannelId, block: &Artifact) {
    let published = arena.command(VICTIM, |_, node| node.publish(channel, block.clone()));
    published.expect("it runs").expect("there is room");
}

/// What the honest member is brought, without a pause.
struct Feed {
    channel: ChannelId,
    live: Vec<Artifact>,
    published: u64,
}

impl Feed {
    fn of(channel: ChannelId) -> Self {
        Self { channel, live: Vec::new(), published: 0 }
    }

    fn keep_up(&mut self, arena: &mut Arena) {
        let (done, live) = std::mem::take(&mut self.live).into_iter().partition(|block| {
            let mut delivered = arena.delivered(HONEST).iter().rev().take(2 * LIVE);
            delivered.any(|(artifact, _)| artifact.id() == block.id())
        });
        self.live = live;
        let done: Vec<Artifact> = done;
        for block in done {
            arena.command(VICTIM, |_, node| node.abort(self.channel, &block.id()));
        }
        while self.live.len() < LIVE {
            self.published += 1;
            let block = number(self.published);
            publish(arena, self.channel, &block);
            self.live.push(block);
        }
    }
}

/// The hostile member asks for all of an artifact, over and over, so that something is always under way to it.
struct Pull {
    block: Artifact,
    asked: u64,
}

impl Pull {
    /// Of an artifact that the honest member has.
    fn begin(arena: &mut Arena) -> Self {
        let block = number(0);
        publish(arena, CHANNEL, &block);
        arena.until("the honest member has it", |arena| !arena.delivered(HONEST).is_empty());
        Self { block, asked: 0 }
    }

    fn ask(&mut self, arena: &mut Arena, times: u64) {
        let (id, chunks) = (self.block.id(), self.block.advert().chunks());
        let requests: Vec<Request> = (self.asked..self.asked + times)
            .map(|request| Request::Fetch {
                request,
                channel: CHANNEL,
                id,
                ranges: ranges(0, chunks),
            })
            .collect();
        self.asked += times;
        arena.write(&frames::requests(&requests));
    }
}

fn received(arena: &Arena) -> u64 {
    arena.node(HONEST).expect("it runs").stats().received_bytes
}

/// Of what is lost, all is due to be sent again at once.
#[test]
fn a_peer_that_acknowledges_only_the_last_packets_does_not_keep_others_waiting() {
    const STEP: Duration = ms(10);
    // Some rounds of turns are in 100 ms.
    const RATE: u64 = 10_000_000;
    let mut arena = arena([channel(CHANNEL, Class::Bulk), channel(OTHER, Class::Bulk)], RATE);
    for (from, to) in [(VICTIM, DIALLER), (DIALLER, VICTIM)] {
        arena.network.link(from, to).latency = Latency::Fixed(ms(100));
    }
    let mut pull = Pull::begin(&mut arena);
    // It has the uplink for itself, and a long window.
    pull.ask(&mut arena, 60);
    arena.elapse(ms(3_000));
    let mut feed = Feed::of(OTHER);
    let mut counts = Vec::new();
    for step in 0..300 {
        // It does not hear most of what comes in a round trip.
        let is_deaf = step >= 30 && step % 40 < 19;
        arena.network.link(VICTIM, DIALLER).loss =
            if is_deaf { Chance::percent(100) } else { Chance::NEVER };
        if step % 20 == 0 {
            pull.ask(&mut arena, 3);
        }
        feed.keep_up(&mut arena);
        arena.elapse(STEP);
        counts.push(received(&arena));
    }
    let bytes = counts[30..].windows(11).map(|counts| counts[10] - counts[0]);
    let shares: Vec<f64> = bytes.map(|bytes| bytes as f64 / (RATE / 10) as f64).collect();
    let least = shares.iter().copied().fold(1.0, f64::min);
    let mean = shares.iter().sum::<f64>() / shares.len() as f64;
    println!("in 100 ms, the honest member has {mean:.3} of the uplink, at least {least:.3}");
    // About a third: a turn of 160 KiB may come between two of 64 KiB, and 100 ms have six turns.
    assert!(least > 0.28, "{least}");
    // The other one did take its share, or this shows nothing.
    assert!(mean < 0.7, "{mean}");
}

/// What it is served beyond twice the length of the artifact goes as bulk, however urgent the artifact is.
#[test]
fn a_peer_that_asks_for_an_urgent_artifact_over_and_over_leaves_others_the_uplink() {
    const RATE: u64 = 4_000_000;
    let mut arena = arena([channel(CHANNEL, Class::Urgent), channel(OTHER, Class::Normal)], RATE);
    let mut pull = Pull::begin(&mut arena);
    pull.ask(&mut arena, 100);
    // Twice it has it as anyone would.
    arena.elapse(ms(1_500));
    let mut feed = Feed::of(OTHER);
    feed.keep_up(&mut arena);
    arena.elapse(ms(500));
    let pulled = |arena: &Arena| arena.hostile().read.values().map(Vec::len).sum::<usize>() as u64;
    let before = [received(&arena), pulled(&arena)];
    for _ in 0..200 {
        pull.ask(&mut arena, 1);
        feed.keep_up(&mut arena);
        arena.elapse(ms(10));
    }
    let bytes = [received(&arena) - before[0], pulled(&arena) - before[1]];
    let [honest, hostile] = bytes.map(|bytes| bytes as f64 / (2 * RATE) as f64);
    println!("of the uplink, the honest member has {honest:.3}, and the other one {hostile:.3}");
    assert!(honest > 0.85, "{honest}");
    // As all bulk has.
    assert!(hostile > 0.03, "{hostile}");
    arena.assert_not_noticed("it is no fault");
}
