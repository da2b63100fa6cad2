//! What is to happen in a run: drawn from its seed, or set by hand.

use core::time::Duration;

use super::paths::Paths;
use crate::Crypto;
use crate::FaultKind;
use crate::Trick;
use crate::{Bursts, Chance, Latency, Link};
use slotcast::artifact::SINGLE_CHUNK_BYTES_MAX;
use slotcast::config::{ChannelConfig, Class, Config, Order, Quota, Relay, RouteConfig};
use slotcast::id::{ChannelId, RouteId};
use slotcast::internals::Random;

/// What the applications do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Workload {
    /// Artifacts published per second, by all nodes together.
    pub artifacts_per_second: u32,
    /// Of a hundred artifacts, so many are aborted while things go wrong; the others in the end.
    pub aborted_percent: u32,
    /// Of a hundred, so many are published by another node that has them active as well.
    pub shared_percent: u32,
    /// Of a hundred, so many are larger than a push.
    pub large_percent: u32,
    /// Whether filters postpone and drop some of them.
    pub filtered: bool,
    /// For a hundred artifacts and aborts, so many calls are made.
    pub calls_percent: u32,
}

/// A run: which subnet, which faults, for how long.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Plan {
    /// What everything that happens is drawn from.
    pub seed: u64,
    /// Members, hostile ones included.
    pub nodes: usize,
    /// Hostile members, at most a third of the others.
    pub byzantine: usize,
    /// What those do.
    pub tricks: Vec<Trick>,
    /// Whether they leave the topology when the faults end; else they go on.
    pub byzantine_leave: bool,
    /// The configuration of all members.
    pub config: Config,
    /// How connections are protected.
    pub crypto: Crypto,
    /// What members can send and receive, and the paths between them, when nothing goes wrong.
    pub paths: Paths,
    /// The faults that there are. A run in which one of them never acts has failed.
    pub faults: Vec<FaultKind>,
    /// Faults at given times, beside those that are drawn: of those that befall nodes, with the
    /// place among the running honest ones, counted round.
    pub script: Vec<(Duration, FaultKind, usize)>,
    /// Whether a run has failed in which a fault or a trick never acts. Default true.
    pub all_must_act: bool,
    /// How strong they are, from 1 to 100.
    pub strength: u32,
    /// What the applications do.
    pub workload: Workload,
    /// How long the phase with faults lasts.
    pub faulty_for: Duration,
    /// Keep every entry of the trace, to draw a picture.
    pub keep_trace: bool,
}

/// Byzantine members that a subnet of so many bears.
pub const fn byzantine_max(nodes: usize) -> usize {
    nodes.saturating_sub(1) / 3
}

/// So many of [`Trick::ALL`] are drawn where they always were; the others behind everything else, so
/// that a seed goes on meaning what it meant before there were these.
const TRICKS_DRAWN_FIRST: usize = 25;

pub(super) const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(super) fn between(random: &mut Random, low: u64, high: u64) -> u64 {
    low + random.below(high - low + 1)
}

/// Each with a chance of a third.
fn third_of<T: Copy>(random: &mut Random, all: &[T]) -> Vec<T> {
    all.iter().copied().filter(|_| random.below(3) == 0).collect()
}

impl Plan {
    /// What the seed says: 4 to 13 nodes, up to a third of them hostile, each kind of fault and of
    /// hostile behaviour with a chance of a third, small tables and budgets. Members keep back what they
    /// are to relay only where a channel spreads artifacts.
    pub fn draw(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x736c_6f74_6361_7374);
        let nodes = between(&mut random, 4, 13) as usize;
        let byzantine = random.below(byzantine_max(nodes) as u64 + 1) as usize;
        let faults = third_of(&mut random, &FaultKind::ALL);
        let (first, later) = Trick::ALL.split_at(TRICKS_DRAWN_FIRST);
        let mut tricks = third_of(&mut random, first);
        if tricks.is_empty() {
            tricks.push(first[random.below(first.len() as u64) as usize]);
        }
        let mut plan = Self {
            seed,
            nodes,
            byzantine,
            tricks,
            byzantine_leave: random.below(2) == 0,
            config: config(&mut random, byzantine),
            crypto: Crypto::Null,
            paths: Paths::draw(seed),
            faults,
            script: Vec::new(),
            all_must_act: true,
            strength: between(&mut random, 1, 100) as u32,
            workload: Workload {
                artifacts_per_second: between(&mut random, 5, 40) as u32,
                aborted_percent: between(&mut random, 0, 100) as u32,
                shared_percent: between(&mut random, 0, 20) as u32,
                large_percent: between(&mut random, 0, 10) as u32,
                filtered: random.below(2) == 0,
                calls_percent: 0,
            },
            faulty_for: ms(between(&mut random, 8_000, 15_000)),
            keep_trace: false,
        };
        plan.workload.calls_percent = between(&mut random, 0, 200) as u32;
        plan.config.routes = routes(&mut random);
        let Self { paths, config, workload, .. } = &mut plan;
        paths.fit(&mut random, nodes, config, workload);
        plan.tricks.extend(third_of(&mut random, later));
        for channel in &mut plan.config.channels {
            channel.order = [Order::Age, Order::HighestKeyFirst][random.below(2) as usize];
            let freshness = &mut channel.freshness;
            freshness.oldest_first_until = ms(between(&mut random, 0, 300));
        }
        if plan.spreading_channel().is_none() {
            plan.tricks.retain(|trick| *trick != Trick::WithholdRelay);
        }
        plan.config.channels.iter_mut().for_each(|channel| channel.quota = quota(&mut random));
        plan
    }

    /// A run without faults, hostile members and filters, in roomy tables: to be changed into what
    /// a test needs.
    pub fn calm(seed: u64, nodes: usize) -> Self {
        let mut channel = ChannelConfig::new(ChannelId(1));
        channel.slots_max = 2_048;
        let mut config = Config::new([channel]);
        config.peers_max = config.peers_max.max(nodes as u16);
        Self {
            seed,
            nodes,
            byzantine: 0,
            tricks: Vec::new(),
            byzantine_leave: false,
            config,
            crypto: Crypto::Null,
            paths: Paths::OPEN,
            faults: Vec::new(),
            script: Vec::new(),
            all_must_act: true,
            strength: 1,
            workload: Workload {
                artifacts_per_second: 20,
                aborted_percent: 50,
                shared_percent: 0,
                large_percent: 0,
                filtered: false,
                calls_percent: 0,
            },
            faulty_for: ms(10_000),
            keep_trace: false,
        }
    }

    /// The same with so many members, as many of them hostile as before if they bear it.
    #[must_use]
    pub fn with_nodes(mut self, nodes: usize) -> Self {
        self.nodes = nodes;
        self.config.peers_max = self.config.peers_max.max(nodes as u16);
        let byzantine = self.byzantine.min(byzantine_max(nodes));
        self.with_byzantine(byzantine)
    }

    /// The same with so many hostile members. Inboxes have room for an artifact of each, beside
    /// what they had room for.
    #[must_use]
    pub fn with_byzantine(mut self, byzantine: usize) -> Self {
        let before = std::mem::replace(&mut self.byzantine, byzantine) as u64;
        for channel in &mut self.config.channels {
            let longest = channel.artifact_bytes_max;
            let others = channel.inbox_bytes_max.saturating_sub(before * longest).max(longest);
            channel.inbox_bytes_max = others + byzantine as u64 * longest;
        }
        self
    }

    /// A channel whose longest artifacts are spread, if there is one.
    pub(super) fn spreading_channel(&self) -> Option<&ChannelConfig> {
        self.config.channels.iter().find(|channel| {
            let shortest = channel.spread_bytes_min.max(SINGLE_CHUNK_BYTES_MAX as u64 + 1);
            channel.relay == Relay::Automatic && channel.artifact_bytes_max >= shortest
        })
    }

    /// How long quotas may hold up what is active when the faults end: on its way are the slots of a member as
    /// they are, and as they were, in an epoch that has ended and in the present one; and chunks of all that it
    /// publishes and relays, and others that were asked for before.
    pub(super) fn quota_time(&self) -> Duration {
        let time = |channel: &ChannelConfig| {
            let quota = channel.quota?;
            let updates = 4 * channel.slots_max / quota.updates_per_second + 1;
            let pushes = 4 * u64::from(channel.slots_max) * u64::from(channel.push_bytes_max);
            let bytes = pushes + 3 * channel.active_bytes_max;
            let bytes = bytes / u64::from(quota.bytes_per_second) + 1;
            Some(quota.burst + Duration::from_secs(bytes.max(updates.into())))
        };
        self.config.channels.iter().filter_map(time).max().unwrap_or_default()
    }

    /// Whether a kind of fault is part of it.
    pub fn has(&self, kind: FaultKind) -> bool {
        self.faults.contains(&kind)
    }

    /// From `mild` to `severe`, by strength.
    fn scaled(&self, mild: u32, severe: u32) -> u32 {
        let strength = i64::from(self.strength.min(100));
        let (mild, severe) = (i64::from(mild), i64::from(severe));
        (mild + (severe - mild) * strength / 100) as u32
    }

    /// The link from one place to another once nothing goes wrong any more.
    pub(super) fn whole_link(&self, from: usize, to: usize) -> Link {
        self.paths.link(self.seed, from, to)
    }

    /// The link from one place to another while things go wrong.
    pub(super) fn faulty_link(&self, from: usize, to: usize, random: &mut Random) -> Link {
        let mut link = self.whole_link(from, to);
        if self.faults.is_empty() {
            return link;
        }
        if let Latency::Fixed(base) = link.latency {
            link.latency = match random.below(3) {
                0 => Latency::Fixed(base),
                1 => Latency::Jitter(base, base / 2),
                _ => Latency::HeavyTail(base, ms(1)),
            };
        }
        let chance = |mild, severe| Chance(self.scaled(mild, severe));
        for kind in self.faults.iter().copied() {
            if random.below(4) == 0 {
                continue;
            }
            match kind {
                FaultKind::Loss => link.loss = link.loss.max(chance(10_000, 80_000)),
                FaultKind::BurstLoss => {
                    let loss = Chance(1_000_000);
                    link.bursts =
                        Some(Bursts { begin: chance(4_000, 15_000), end: Chance(150_000), loss });
                }
                FaultKind::QueueDrop => {
                    let rate = u64::from(self.scaled(300_000, 50_000));
                    link.bytes_per_second = match link.bytes_per_second {
                        0 => rate,
                        slower => slower.min(rate),
                    };
                    link.queue_bytes_max = 4_500;
                }
                FaultKind::Reorder => {
                    link.reorder = chance(10_000, 300_000);
                    link.reorder_by = ms(self.scaled(10, 150).into());
                }
                FaultKind::Duplicate => link.duplicate = chance(10_000, 200_000),
                FaultKind::Corrupt => link.corrupt = chance(10_000, 60_000),
                FaultKind::Mtu => link.mtu = 1_210 + random.below(200) as usize,
                _ => {}
            }
        }
        link
    }
}

/// Small tables, so that every bound is met; budgets for one artifact of each hostile holder and
/// one of an honest one.
fn config(random: &mut Random, byzantine: usize) -> Config {
    let channels = between(random, 1, 3);
    let channel = |random: &mut Random, at: u64| {
        let artifact_bytes_max = between(random, 66, 512) << 10;
        let mut channel = ChannelConfig::new(ChannelId(at as u16 + 1));
        channel.class = [Class::Urgent, Class::Normal, Class::Bulk][random.below(3) as usize];
        channel.slots_max = between(random, 4, 60) as u32;
        channel.artifact_bytes_max = artifact_bytes_max;
        channel.active_bytes_max = artifact_bytes_max * between(random, 2, 8);
        channel.push_bytes_max = between(random, 200, 30_000) as u32;
        channel.latency_sensitive = random.below(3) == 0;
        // From two chunks on, and up to most of what is drawn.
        channel.spread_bytes_min = (10 * u64::from(channel.push_bytes_max)).max(65_537);
        channel.inbox_bytes_max = artifact_bytes_max * (byzantine as u64 + between(random, 1, 4));
        match random.below(4) {
            0 => channel.relaying(Relay::Automatic, between(random, 8, 60) as u32),
            1 => channel.relaying(Relay::Confirmed, between(random, 8, 60) as u32),
            _ => channel,
        }
    };
    let mut config = Config::new((0..channels).map(|at| channel(random, at)));
    config.peers_max = 16;
    config.batch_bytes_max = between(random, 2, 64) as u32 * 1024;
    config.fetches_per_peer_max = between(random, 1, 8) as u16;
    config.serves_per_peer_max = between(random, 4, 32) as u16;
    config.fetch_timeout = ms(between(random, 500, 2_000));
    config.fetch_retry = ms(between(random, 200, 1_000));
    let transport = &mut config.transport;
    transport.idle_timeout = ms(between(random, 2_000, 6_000));
    transport.keep_alive = ms(between(random, 300, 1_000));
    transport.streams_max = between(random, 16, 128) as u32;
    transport.stream_window = between(random, 128, 1_024) as u32 * 1024;
    transport.receive_window = transport.stream_window * between(random, 1, 4) as u32;
    transport.send_window = between(random, 128, 4_096) as u32 * 1024;
    transport.dial_pause_max = ms(between(random, 200, 2_000));
    transport.cut_off = ms(between(random, 500, 3_000));
    transport.hello_timeout = ms(between(random, 2_000, 4_000));
    config
}

/// For a third of the channels, often too little for all that is told anew when a connection begins.
fn quota(random: &mut Random) -> Option<Quota> {
    let mut quota = Quota::default();
    quota.updates_per_second = between(random, 20, 500) as u32;
    quota.bytes_per_second = between(random, 256 << 10, 8 << 20) as u32;
    quota.burst = ms(between(random, 20, 1_000));
    (random.below(3) == 0).then_some(quota)
}

/// Small bounds, so that they are met.
fn routes(random: &mut Random) -> Vec<RouteConfig> {
    let route = |random: &mut Random, at: u64| {
        let mut route = RouteConfig::new(RouteId(at as u16 + 1), "drawn");
        route.class = [Class::Urgent, Class::Normal, Class::Bulk][random.below(3) as usize];
        route.request_bytes_max = between(random, 100, 100_000) as u32;
        route.response_bytes_max = between(random, 100, 100_000) as u32;
        route.in_flight_max = between(random, 1, 16) as u16;
        route.waiting_max = between(random, 0, 8) as u16;
        let longest = route.request_bytes_max.max(route.response_bytes_max);
        route.body_bytes_max = u64::from(longest) * between(random, 1, 16);
        route
    };
    (0..between(random, 1, 3)).map(|at| route(random, at)).collect()
}
