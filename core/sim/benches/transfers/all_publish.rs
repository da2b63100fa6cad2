//! All nodes publish, at rising rates (W8): how much of the downlinks is used for something.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use slotcast::artifact::Artifact;
use slotcast::time::Time;
use slotcast_sim::{Link, Setup};

use crate::content::{WORD, artifact};
use crate::figure::Report;
use crate::world::{Passing, World, access, config, mbit, ms};

const RATE: u64 = mbit(300);

const LATENCY: Duration = ms(50);

/// An artifact is aborted when it is so old. What has not arrived by then is lost.
const LIFE: Duration = ms(2_000);

/// How much is published.
#[derive(Clone, Copy)]
struct Load {
    /// Of what downlinks take, headers included.
    percent: u64,
    /// From when on artifacts are counted, after the first was published. Before it, windows open, and
    /// less arrives than is published; after it, for a while, more does.
    counted_from: Duration,
    /// When the last is published.
    ends: Duration,
}

/// At the first, everything has to arrive; at the second, the goodput counts.
const LOADS: [Load; 2] = [
    Load { percent: 60, counted_from: ms(600), ends: ms(1_800) },
    Load { percent: 100, counted_from: ms(1_800), ends: ms(3_000) },
];

/// Of the downlink.
const GOODPUT: f64 = 0.85;

pub(crate) fn run(report: &mut Report, seed: u64) {
    for (nodes, length) in [(21, 1_000_000), (31, 500_000)] {
        report.scenario(format!("all publish, {nodes} x {} kB", length / 1000));
        for load in LOADS {
            let outcome = publish_at(load, nodes, length, seed);
            let of = format!("load of {} %", load.percent);
            let delivered = format!("{of}: delivered, of all");
            if load.percent < 100 {
                report.at_least(delivered, outcome.delivered, 1.0);
            } else {
                let what = format!("{of}: goodput, of the downlinks");
                report.at_least(what, outcome.goodput, GOODPUT);
                report.note(delivered, outcome.delivered);
            }
            report.note(format!("{of}: p50, s"), outcome.p50);
            report.note(format!("{of}: p99, s"), outcome.p99);
        }
    }
}

struct Outcome {
    goodput: f64,
    delivered: f64,
    /// In seconds, of what was delivered.
    p50: f64,
    p99: f64,
}

struct Published {
    at: usize,
    time: Time,
    artifact: Artifact,
}

fn publish_at(load: Load, nodes: usize, length: usize, seed: u64) -> Outcome {
    let setup = Setup::new(&config(Passing::Relays), nodes).link(Link::new(LATENCY)).seed(seed);
    let setup = setup.uplink(access(RATE)).downlink(access(RATE));
    let mut world = World::connected(setup);
    // A node receives what all others publish.
    let others = nodes as u64 - 1;
    let period =
        Duration::from_nanos(others * length as u64 * 100_000_000_000 / (RATE * load.percent));
    let begun = world.subnet.now();
    let mut published: Vec<Published> = Vec::new();
    let mut active = VecDeque::new();
    for number in 0.. {
        // Nodes publish one after the other, evenly.
        let time = begun + period * number / nodes as u32;
        if time.since(begun) >= load.ends {
            break;
        }
        world.abort_all_before(&published, &mut active, time);
        world.subnet.application.watches_words = time.since(begun) >= load.counted_from;
        let at = number as usize % nodes;
        let artifact = artifact(number, length);
        world.publish(at, &artifact);
        active.push_back(published.len());
        published.push(Published { at, time, artifact });
    }
    let end = begun + load.ends;
    world.abort_all_before(&published, &mut active, end);
    world.subnet.application.watches_words = false;
    world.abort_all_before(&published, &mut active, end + LIFE);
    measure(&world, begun + load.counted_from..end, &published)
}

impl World {
    /// Goes on until `time`, and aborts on the way what has lived for long enough.
    fn abort_all_before(
        &mut self,
        published: &[Published],
        active: &mut VecDeque<usize>,
        time: Time,
    ) {
        while let Some(oldest) = active.front().map(|place| &published[*place])
            && oldest.time + LIFE <= time
        {
            self.subnet.run(oldest.time + LIFE, |_| false);
            self.abort(oldest.at, &oldest.artifact);
            active.pop_front();
        }
        self.subnet.run(time, |_| false);
    }
}

/// What was received while artifacts were counted is of use if the whole artifact came in the end.
fn measure(world: &World, counted: Range<Time>, published: &[Published]) -> Outcome {
    let nodes = world.subnet.members();
    let (mut latencies, mut due, mut bytes) = (Vec::new(), 0, 0);
    let words = &world.subnet.application.words;
    for (number, Published { at, time, artifact }) in (0..).zip(published) {
        for to in (0..nodes).filter(|to| to != at) {
            let had_at = world.had_at(to, artifact);
            let received = had_at.and_then(|_| words.get(&(to, number)));
            bytes += received.map_or(0, |words| words.first * WORD as u64);
            if counted.contains(time) {
                due += 1;
                latencies.extend(had_at.map(|had_at| had_at.since(*time).as_secs_f64()));
            }
        }
    }
    latencies.sort_by(f64::total_cmp);
    let percentile = |percent: usize| {
        let place = (latencies.len() * percent / 100).min(latencies.len().max(1) - 1);
        latencies.get(place).copied().unwrap_or(f64::INFINITY)
    };
    let span = counted.end.since(counted.start).as_secs_f64();
    Outcome {
        goodput: bytes as f64 / (nodes as f64 * RATE as f64 * span),
        delivered: latencies.len() as f64 / due as f64,
        p50: percentile(50),
        p99: percentile(99),
    }
}
