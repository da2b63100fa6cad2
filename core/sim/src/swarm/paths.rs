//! The network of a plan once nothing goes wrong any more: rates of members, and paths between two of
//! them that are slow, long, lossy or jittery. What belongs to a place or a pair of places is drawn from
//! the plan's seed, so that it stays the same whatever else happens.

use core::time::Duration;
use std::collections::BTreeMap;

use crate::{Bottleneck, Chance, Latency, Link};
use slotcast::config::{Config, RouteConfig};
use slotcast::internals::Random;

use super::plan::{Workload, between, ms};

/// Bytes of the longest artifact, at least: more than one chunk.
const LONGEST_MIN: u64 = 66 << 10;

/// Bytes of the longest artifact, at most, so that runs stay short.
const LONGEST_MAX: u64 = 1 << 20;

/// Datagrams in flight at least, whatever the loss (RFC 9002, section 7.2).
const WINDOW_MIN: f64 = 2.0;

/// Datagrams in flight on a path whose jitter is as large as its latency. An estimate:
/// with it, no run of 400 drawn ones needed more than half the time that it was allowed.
const JITTER_WINDOW: f64 = 8.0;

/// Bytes of an artifact in a datagram, at least.
const DATAGRAM: f64 = 1_100.0;

/// Overhead of IPv4 and UDP in datagrams, updates and proofs beside an artifact's bytes, and what is lost
/// and sent again: in total less than as much again. And calls and what hostile members send take as much
/// as that once more.
const OVERHEAD: u32 = 3;

/// Slow, long and lossy paths, and what members can send and receive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Paths {
    /// Bytes per second of the slowest uplinks and downlinks of honest members; others have up to
    /// four times that. 0 for no bounds.
    pub access_min: u64,
    /// Bytes per second of the slowest path between two members; other slow ones have up to eight
    /// times that.
    pub path_min: u64,
    /// Of a hundred pairs of members, so many have a slow path.
    pub slow_percent: u32,
    /// How long datagrams wait at most for an uplink, a downlink or a slow path.
    pub queue: Duration,
    /// Latency of the longest path.
    pub latency_max: Duration,
    /// Loss on the worst path. A third of the pairs have some.
    pub loss_max: Chance,
    /// Of a hundred pairs, so many have a path with a jitter as large as its latency.
    pub jitter_percent: u32,
}

/// What differs between draws about the same places.
#[derive(Clone, Copy)]
enum Topic {
    Latency = 0,
    Path = 1,
    Access = 2,
}

impl Paths {
    /// No bounds, no loss, up to 80 ms.
    pub const OPEN: Self = Self {
        access_min: 0,
        path_min: 0,
        slow_percent: 0,
        queue: ms(200),
        latency_max: ms(80),
        loss_max: Chance::NEVER,
        jitter_percent: 0,
    };

    /// Half of all seeds have open paths, the others any mixture of what there is.
    pub(super) fn draw(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x7061_7468_735f_6f66);
        if random.below(2) == 0 {
            return Self::OPEN;
        }
        let third = |random: &mut Random| random.below(3) == 0;
        let has_slow_paths = random.below(2) == 0;
        Self {
            // Powers of two: as many slow ones as fast ones.
            access_min: if third(&mut random) { 0 } else { 64_000 << random.below(5) },
            path_min: 16_000 << random.below(4),
            slow_percent: if has_slow_paths { between(&mut random, 10, 50) as u32 } else { 0 },
            queue: ms(between(&mut random, 50, 400)),
            latency_max: if third(&mut random) { ms(200) } else { ms(80) },
            loss_max: Chance(if third(&mut random) { 50_000 } else { 0 }),
            jitter_percent: if third(&mut random) { 20 } else { 0 },
        }
    }

    fn has_rates(&self) -> bool {
        self.access_min > 0 || self.slow_percent > 0
    }

    /// Cuts sizes and numbers down to what the rates let through within seconds, and has more large
    /// artifacts among them.
    pub(super) fn fit(
        &self,
        random: &mut Random,
        nodes: usize,
        config: &mut Config,
        workload: &mut Workload,
    ) {
        if !self.has_rates() {
            return;
        }
        let others = nodes as u64 - 1;
        // How long the longest artifact takes, to all others over an uplink, or over a slow path.
        let seconds = between(random, 2, 8);
        let mut longest = LONGEST_MAX;
        if self.access_min > 0 {
            longest = longest.min(seconds * self.access_min / others);
        }
        if self.slow_percent > 0 {
            longest = longest.min(seconds * self.path_min);
        }
        let longest = longest.max(LONGEST_MIN);
        for channel in &mut config.channels {
            let inbox = channel.inbox_bytes_max / channel.artifact_bytes_max;
            channel.artifact_bytes_max = longest;
            channel.active_bytes_max = longest * between(random, 1, 3);
            channel.inbox_bytes_max = longest * inbox;
            channel.push_bytes_max = channel.push_bytes_max.min(longest as u32 / 16);
        }
        for route in &mut config.routes {
            shorten(route, longest as u32 / 16);
        }
        workload.calls_percent = workload.calls_percent.min(50);
        workload.large_percent = between(random, 10, 50) as u32;
        // A handshake with each of the others takes its time, too.
        let transport = &mut config.transport;
        transport.hello_timeout = transport.hello_timeout.max(ms(5_000));
        transport.idle_timeout = transport.idle_timeout.max(ms(4_000));

        // All members together, in percent of what uplinks or slow paths let through.
        let load = between(random, 30, 150);
        let capacity = match self.access_min {
            0 => others * nodes as u64 * self.path_min,
            uplink => nodes as u64 * uplink,
        };
        let push = u64::from(config.channels[0].push_bytes_max);
        let large = u64::from(workload.large_percent);
        let mean = (large * longest / 2 + (100 - large) * push / 10) / 100;
        let rate = capacity * load / 100 / (mean * others);
        workload.artifacts_per_second = rate.clamp(1, workload.artifacts_per_second.into()) as u32;
    }

    /// The uplink of a member, and its downlink.
    pub(super) fn access(&self, seed: u64, at: usize, is_hostile: bool) -> [Bottleneck; 2] {
        if self.access_min == 0 {
            return [Bottleneck::default(); 2];
        }
        let mut random = draw_for(seed, Topic::Access, at, at);
        let rates = [(); 2].map(|()| self.access_min * between(&mut random, 1, 4));
        let [uplink, downlink] = rates.map(|rate| Bottleneck::new(rate, self.queue));
        // What hostile members send leaves honest ones something of their downlinks.
        let half = Bottleneck::new(self.access_min / 2, self.queue);
        [if is_hostile { half } else { uplink }, downlink]
    }

    /// The link from one place to another.
    pub(super) fn link(&self, seed: u64, from: usize, to: usize) -> Link {
        // The same in both directions.
        let (low, high) = (from.min(to), from.max(to));
        let mut latencies = draw_for(seed, Topic::Latency, low, high);
        let latency = ms(between(&mut latencies, 1, self.latency_max.as_millis() as u64));
        let mut link = Link::new(latency);
        let mut random = draw_for(seed, Topic::Path, low, high);
        let mut has = |percent: u32| random.below(100) < u64::from(percent);
        let (is_slow, jitters, is_lossy) =
            (has(self.slow_percent), has(self.jitter_percent), has(33));
        if is_slow {
            let rate = self.path_min * between(&mut random, 1, 8);
            let queue = Bottleneck::new(rate, self.queue);
            link.bytes_per_second = rate;
            link.queue_bytes_max = queue.queue_bytes_max.max(6_000);
        }
        if is_lossy {
            link.loss = Chance(random.below(u64::from(self.loss_max.0) + 1) as u32);
        }
        if jitters {
            link.latency = Latency::Jitter(latency, latency);
        }
        link
    }

    /// The time within which so many bytes get from members (first) to members (second): that of the
    /// uplink, downlink or path that takes longest.
    pub(super) fn time_for(&self, seed: u64, bytes: &BTreeMap<(usize, usize), u64>) -> Duration {
        let mut by_uplink = BTreeMap::<usize, u64>::new();
        let mut by_downlink = BTreeMap::<usize, u64>::new();
        let mut longest = 0_f64;
        let mut note = |bytes: u64, rate: f64| {
            if rate > 0.0 {
                longest = longest.max(bytes as f64 / rate);
            }
        };
        for ((from, to), bytes) in bytes {
            *by_uplink.entry(*from).or_default() += bytes;
            *by_downlink.entry(*to).or_default() += bytes;
            note(*bytes, self.path_rate(seed, *from, *to));
        }
        let rates = |at| self.access(seed, at, false).map(|access| access.bytes_per_second as f64);
        by_uplink.into_iter().for_each(|(at, bytes)| note(bytes, rates(at)[0]));
        by_downlink.into_iter().for_each(|(at, bytes)| note(bytes, rates(at)[1]));
        Duration::from_secs_f64(longest) * OVERHEAD
    }

    /// What a path lets through, in bytes per second; 0 for no bound. Losses p hold a window at about
    /// 1.2 / sqrt(p) datagrams (Mathis et al., 1997); packets that overtake each other are taken for lost.
    fn path_rate(&self, seed: u64, from: usize, to: usize) -> f64 {
        let link = self.link(seed, from, to);
        let (latency, jitters) = match link.latency {
            Latency::Fixed(base) => (base, false),
            Latency::Jitter(base, span) | Latency::HeavyTail(base, span) => (base + span, true),
        };
        let rate = link.bytes_per_second as f64;
        if !jitters && link.loss == Chance::NEVER {
            return rate;
        }
        let loss = f64::from(link.loss.0) / 1e6;
        let by_loss = if loss > 0.0 { WINDOW_MIN.max(1.2 / loss.sqrt()) } else { f64::INFINITY };
        let datagrams = if jitters { by_loss.min(JITTER_WINDOW) } else { by_loss };
        let round_trip = 2 * latency + self.queue;
        let by_window = datagrams * DATAGRAM / round_trip.as_secs_f64();
        if rate > 0.0 { by_window.min(rate) } else { by_window }
    }
}

fn shorten(route: &mut RouteConfig, longest: u32) {
    let longest_was = route.request_bytes_max.max(route.response_bytes_max);
    let bodies = route.body_bytes_max / u64::from(longest_was);
    route.request_bytes_max = route.request_bytes_max.min(longest);
    route.response_bytes_max = route.response_bytes_max.min(longest);
    let longest = route.request_bytes_max.max(route.response_bytes_max);
    route.body_bytes_max = u64::from(longest) * bodies;
}

/// What things that belong to a pair of places are drawn from.
fn draw_for(seed: u64, topic: Topic, low: usize, high: usize) -> Random {
    let place = (topic as u64) << 62 | (low as u64) << 32 | high as u64;
    Random::new(seed ^ place.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}
