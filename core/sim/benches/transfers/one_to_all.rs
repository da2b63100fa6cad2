//! One artifact to all members, whose uplinks and downlinks are equal.

use std::time::Duration;

use slotcast_sim::{Chance, Link, Setup};

use crate::content::artifact;
use crate::figure::Report;
use crate::world::{Passing, World, access, config, mbit, ms};

const RATE: u64 = mbit(300);

const LATENCY: Duration = ms(50);

/// The number of the artifact that finds the connections warm.
const WARM: u32 = 4;

/// Whoever has nothing by then will not have it.
const PATIENCE: Duration = ms(1_000_000);

/// A subnet to spread an artifact in, and what is asked of it.
struct Case {
    name: &'static str,
    nodes: usize,
    length: usize,
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

const SMALL: Case = Case {
    name: "one to all, 40 x 4 MB",
    nodes: 40,
    length: 4_000_000,
    loss: 0,
    passing: all_relay,
    warm: 1.3,
    cold: Some(2.2),
};

const CASES: [Case; 5] = [
    SMALL,
    Case { name: "one to all, 40, 2 % loss", loss: 2, warm: 2.0, cold: None, ..SMALL },
    Case {
        name: "one to all, 40, third silent",
        passing: a_third_is_silent,
        warm: 2.2,
        cold: None,
        ..SMALL
    },
    LARGE,
    Case { name: "one to all, 13, 2 % loss", loss: 2, warm: 2.0, cold: None, ..LARGE },
];

const LARGE: Case = Case {
    name: "one to all, 13 x 16 MB",
    nodes: 13,
    length: 16_000_000,
    loss: 0,
    passing: all_relay,
    warm: 1.25,
    cold: None,
};

pub(crate) fn run(report: &mut Report, seed: u64) {
    CASES.iter().for_each(|case| case.run(report, seed));
}

impl Case {
    fn run(&self, report: &mut Report, seed: u64) {
        report.scenario(self.name);
        let link = Link { loss: Chance::percent(self.loss), ..Link::new(LATENCY) };
        let configs = (0..self.nodes).map(|at| config((self.passing)(at))).collect();
        let setup = Setup::with_configs(configs).link(link).seed(seed);
        let setup = setup.uplink(access(RATE)).downlink(access(RATE));
        let mut world = World::connected(setup);
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
        report.at_most("received twice, % of what is received", warm.twice, 3.0);
        if world.subnet.application.faults > 0 {
            report.note("faults", world.subnet.application.faults as f64);
        }
    }

    fn spread(&self, world: &mut World, number: u32) -> Spread {
        let block = artifact(number, self.length);
        let before: Vec<u64> = (0..self.nodes).map(|at| world.sent_by(at)).collect();
        let begun = world.subnet.now();
        world.publish(0, &block);
        let others: Vec<usize> = (1..self.nodes).collect();
        let last = world.deliver(&others, &block, PATIENCE);
        // What is still on its way counts, too.
        world.subnet.elapse(ms(1_000));
        let ideal = self.length as f64 / RATE as f64 + 2.0 * LATENCY.as_secs_f64();
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
