//! One artifact to all members, whose uplinks and downlinks are equal.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use slotcast::config::Config;
use slotcast::id::NodeId;
use slotcast_sim::{Bottleneck, Chance, Link, Setup, Subnet};

use crate::content::artifact;
use crate::corrupting::{Corrupting, Corruptions};
use crate::figure::Report;
use crate::world::{Log, Passing, World, access, config, mbit, ms};

/// The number of the artifact that finds the connections warm.
const WARM: u32 = 4;

/// Whoever has nothing by then will not have it.
const PATIENCE: Duration = ms(1_000_000);

/// A subnet to spread an artifact in, and what is asked of it.
struct Case {
    name: &'static str,
    nodes: usize,
    length: usize,
    /// Of every uplink and downlink.
    access: Bottleneck,
    /// One way.
    latency: Duration,
    loss: u32,
    /// How a member behaves. The publisher is at place 0.
    passing: fn(usize) -> Passing,
    /// The time of the last member over S/B + 2L, on connections that were used before.
    warm: f64,
    /// The same for the first artifact of all.
    cold: Option<f64>,
}

fn all_relay(_: usize) -> Passing {
    Passing::Relays
}

fn a_third_is_silent(at: usize) -> Passing {
    if at % 3 == 2 { Passing::Silent } else { Passing::Relays }
}

fn a_third_corrupts(at: usize) -> Passing {
    if at % 3 == 2 { Passing::Corrupts } else { Passing::Relays }
}

const SMALL: Case = Case {
    name: "one to all, 40 x 4 MB",
    nodes: 40,
    length: 4_000_000,
    access: access(mbit(300)),
    latency: ms(50),
    loss: 0,
    passing: all_relay,
    warm: 1.3,
    cold: Some(2.2),
};

const CASES: [Case; 8] = [
    SMALL,
    Case { name: "one to all, 40, 2 % loss", loss: 2, warm: 2.0, cold: None, ..SMALL },
    Case {
        name: "one to all, 40, third silent",
        passing: a_third_is_silent,
        warm: 2.2,
        cold: None,
        ..SMALL
    },
    Case {
        name: "one to all, 40, third corrupting",
        passing: a_third_corrupts,
        warm: 2.2,
        cold: None,
        ..SMALL
    },
    LARGE,
    Case { name: "one to all, 13, 2 % loss", loss: 2, warm: 2.0, cold: None, ..LARGE },
    LOCAL,
    Case {
        name: "one to all, 13 x 4 MiB, 25 Mbit/s, no latency",
        access: Bottleneck::new(mbit(25), ms(50)),
        ..LOCAL
    },
];

const LARGE: Case = Case {
    name: "one to all, 13 x 16 MB",
    nodes: 13,
    length: 16_000_000,
    warm: 1.25,
    cold: None,
    ..SMALL
};

/// What `adapter-tokio/bench/shaped/spread.py` does with real sockets.
const LOCAL: Case = Case {
    name: "one to all, 13 x 4 MiB, 100 Mbit/s, no latency",
    nodes: 13,
    length: 4 << 20,
    access: Bottleneck::new(mbit(100), ms(50)),
    latency: Duration::from_micros(100),
    warm: 1.35,
    cold: None,
    ..SMALL
};

pub(crate) fn run(report: &mut Report, seed: u64) {
    CASES.iter().for_each(|case| case.run(report, seed));
}

impl Case {
    fn run(&self, report: &mut Report, seed: u64) {
        report.scenario(self.name);
        let link = Link { loss: Chance::percent(self.loss), ..Link::new(self.latency) };
        let setup = Setup::with_configs(self.configs()).link(link).seed(seed);
        let setup = setup.uplink(self.access).downlink(self.access);
        let mut world = World { subnet: Subnet::stopped(setup, Log::default()) };
        let corruptions = Corruptions::default();
        let corrupts = |at: &usize| (self.passing)(*at) == Passing::Corrupts;
        let accomplices = (0..self.nodes).filter(corrupts).map(|at| world.subnet.id(at));
        let accomplices: BTreeSet<NodeId> = accomplices.collect();
        for at in 0..self.nodes {
            let subnet = &mut world.subnet;
            match corrupts(&at) {
                true => Corrupting::install(subnet, at, accomplices.clone(), &corruptions),
                false => subnet.start(at),
            }
        }
        world.connect();
        world.subnet.application.watches_words = true;
        let cold = self.spread(&mut world, 1);
        match self.cold {
            Some(goal) => report.at_most("cold: last member, by S/B + 2L", cold.last, goal),
            None => report.note("cold: last member, by S/B + 2L", cold.last),
        }
        let warm = (2..=WARM).map(|number| self.spread(&mut world, number)).last();
        let warm = warm.expect("several");
        report.at_most("warm: last member, by S/B + 2L", warm.last, self.warm);
        report.note("warm: median member, by S/B + 2L", warm.median);
        report.at_most("publisher's upload, copies of S", warm.publisher, 1.15);
        report.at_most("most that a relay uploads, copies of S", warm.relay, 1.15);
        let (faults, corruptions) = (world.subnet.application.faults, corruptions.load(Relaxed));
        if corruptions > 0 {
            // Wrong chunks are among what comes twice: all but a byte of each is right.
            report.note("received twice or wrong, % of what is received", warm.twice);
            report.note("streams with wrong chunks", corruptions as f64);
            report.at_least("faults, by those", faults as f64 / corruptions as f64, 1.0);
        } else {
            report.at_most("received twice, % of what is received", warm.twice, 3.0);
            report.at_most("faults", faults as f64, 0.0);
        }
    }

    /// Members that break rules are not cut off: the last artifact is to meet them, too.
    fn configs(&self) -> Vec<Config> {
        let configs = (0..self.nodes).map(|at| {
            let mut config = config((self.passing)(at));
            config.transport.faults_max = u32::MAX;
            config
        });
        configs.collect()
    }

    /// S/B + 2L, in seconds.
    fn ideal(&self) -> f64 {
        let span = self.length as f64 / self.access.bytes_per_second as f64;
        span + 2.0 * self.latency.as_secs_f64()
    }

    fn spread(&self, world: &mut World, number: u32) -> Spread {
        let block = artifact(number, self.length);
        let before: Vec<u64> = (0..self.nodes).map(|at| world.sent_by(at)).collect();
        let begun = world.subnet.now();
        world.publish(0, &block);
        let is_honest = |at: &usize| (self.passing)(*at) != Passing::Corrupts;
        let others: Vec<usize> = (1..self.nodes).filter(is_honest).collect();
        let last = world.deliver(&others, &block, PATIENCE);
        // What is still on its way counts, too.
        world.subnet.elapse(ms(1_000));
        let ideal = self.ideal();
        let mut times: Vec<f64> = others
            .iter()
            .filter_map(|at| world.had_at(*at, &block))
            .map(|time| time.since(begun).as_secs_f64() / ideal)
            .collect();
        times.sort_by(f64::total_cmp);
        let copies = |at: usize| (world.sent_by(at) - before[at]) as f64 / self.length as f64;
        let (mut first, mut again) = (0, 0);
        for at in &others {
            let words = &world.subnet.application.words[&(*at, number)];
            (first, again) = (first + words.first, again + words.again);
        }
        let spread = Spread {
            last: last.map_or(f64::INFINITY, |last| last.as_secs_f64() / ideal),
            median: times.get(others.len() / 2).copied().unwrap_or(f64::INFINITY),
            publisher: copies(0),
            relay: others.iter().map(|at| copies(*at)).fold(0.0, f64::max),
            twice: 100.0 * again as f64 / (first + again) as f64,
        };
        world.abort(0, &block);
        world.subnet.elapse(ms(2_000));
        world.subnet.application.words.clear();
        spread
    }
}

/// What became of one artifact.
struct Spread {
    /// By S/B + 2L.
    last: f64,
    median: f64,
    /// In copies of the artifact.
    publisher: f64,
    relay: f64,
    /// In percent.
    twice: f64,
}
