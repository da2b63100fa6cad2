//! One artifact to all members, some of which crawl: their stripes come to the others at their pace. The
//! others should have it about as soon as if all were as fast as they are.

use std::fmt;
use std::time::Duration;

use slotcast::config::Config;
use slotcast_sim::{Link, Setup};

use crate::content::artifact;
use crate::figure::Report;
use crate::world::{Passing, World, access, config, ms};

/// Of the uplink and the downlink of a member that does not crawl. All know the rate of their uplink.
const RATE: u64 = 2_000_000;

const LATENCY: Duration = ms(5);

const LENGTH: usize = 3 << 20;

/// A subnet whose last members crawl.
#[derive(Clone, Copy)]
struct Case {
    nodes: usize,
    crawling: usize,
    /// Of their uplinks.
    rate: u64,
    /// Their downlinks are as slow.
    both_ways: bool,
    spreads: bool,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { nodes, crawling, rate, both_ways, .. } = self;
        let how = if *both_ways { "" } else { " up" };
        write!(f, "{crawling} of {nodes} at {} kB/s{how}", rate / 1_000)
    }
}

pub(crate) fn run(report: &mut Report, seed: u64) {
    for (nodes, crawling, goal) in [(5, 1, 1.3), (13, 1, 1.3), (13, 4, 2.25)] {
        let alone = Case { nodes, crawling: 0, rate: RATE, both_ways: true, spreads: true };
        let without = alone.run(seed);
        report.scenario(format!("none of {nodes} crawls"));
        report.at_most("last member, by S/B", without.last * RATE as f64 / LENGTH as f64, 1.25);
        report.at_most("publisher's upload, copies of S", without.publisher, 1.15);
        for rate in [50_000, 100_000, 200_000] {
            for both_ways in [true, false] {
                let case = Case { crawling, rate, both_ways, ..alone };
                report.scenario(case.to_string());
                let with = case.run(seed);
                report.at_most("last other, by the last without", with.last / without.last, goal);
                report.note("publisher's upload, copies of S", with.publisher);
                report.at_most("received twice by others, %", with.twice, 3.0);
                let pulled = Case { spreads: false, ..case }.run(seed);
                report.note("without spreading, by the last without", pulled.last / without.last);
            }
        }
    }
}

impl Case {
    fn crawls(&self, at: usize) -> bool {
        at >= self.nodes - self.crawling
    }

    fn configs(&self) -> Vec<Config> {
        let configs = (0..self.nodes).map(|at| {
            let mut config = config(Passing::Relays);
            config.transport.uplink = Some(if self.crawls(at) { self.rate } else { RATE });
            if !self.spreads {
                config.channels[0].spread_bytes_min = u64::MAX;
            }
            config
        });
        configs.collect()
    }

    fn run(&self, seed: u64) -> Spread {
        let setup = Setup::with_configs(self.configs()).link(Link::new(LATENCY)).seed(seed);
        let mut world = World::connected(setup.uplink(access(RATE)).downlink(access(RATE)));
        for at in (0..self.nodes).filter(|at| self.crawls(*at)) {
            *world.subnet.network.uplink(at) = access(self.rate);
            if self.both_ways {
                *world.subnet.network.downlink(at) = access(self.rate);
            }
        }
        world.subnet.application.watches_words = true;
        let (block, before) = (artifact(1, LENGTH), world.sent_by(0));
        world.publish(0, &block);
        let others: Vec<usize> = (1..self.nodes).filter(|at| !self.crawls(*at)).collect();
        let last = world.deliver(&others, &block, ms(1_000_000));
        // What is still on its way counts, too.
        world.subnet.elapse(ms(1_000));
        let (mut first, mut again) = (0, 0);
        for at in &others {
            let words = &world.subnet.application.words[&(*at, 1)];
            (first, again) = (first + words.first, again + words.again);
        }
        Spread {
            last: last.map_or(f64::INFINITY, |last| last.as_secs_f64()),
            publisher: (world.sent_by(0) - before) as f64 / LENGTH as f64,
            twice: 100.0 * again as f64 / (first + again) as f64,
        }
    }
}

/// What became of the artifact.
struct Spread {
    /// The time of the last member that does not crawl, in seconds.
    last: f64,
    /// In copies of the artifact.
    publisher: f64,
    /// In percent.
    twice: f64,
}
