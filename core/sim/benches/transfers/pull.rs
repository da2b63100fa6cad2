//! A member that joins fetches what the others hold: many holders for one, and one for many.

use std::time::Duration;

use slotcast_sim::{Bottleneck, Link, Setup, Subnet};

use crate::content::artifact;
use crate::figure::Report;
use crate::world::{Log, Passing, World, access, config, mbit, ms};

/// Of what a joiner's downlink takes.
const RATE: u64 = mbit(100);

const LATENCY: Duration = ms(20);

pub(crate) fn run(report: &mut Report, seed: u64) {
    for holders in [1, 4, 10] {
        one_joiner(report, seed, holders);
    }
    twelve_joiners(report, seed);
}

/// Three artifacts of 15 MB, from holders that together send as fast as the joiner can receive.
fn one_joiner(report: &mut Report, seed: u64, holders: usize) {
    const ARTIFACTS: u32 = 3;
    const LENGTH: usize = 15_000_000;
    report.scenario(format!("joiner, {holders} holders of B/{holders}"));
    let setup = Setup::new(&config(Passing::PullOnly), holders + 1).seed(seed);
    let setup = setup.link(Link::new(LATENCY)).downlink(access(RATE));
    let setup = setup.uplink(access(RATE / holders as u64));
    let mut world = World { subnet: Subnet::stopped(setup, Log::default()) };
    (0..holders).for_each(|at| world.subnet.start(at));
    let blocks: Vec<_> = (0..ARTIFACTS).map(|number| artifact(number, LENGTH)).collect();
    for at in 0..holders {
        blocks.iter().for_each(|block| world.publish(at, block));
    }
    let all = u64::from(ARTIFACTS) * LENGTH as u64;
    let joiner = holders;
    let took = world.join(&[joiner], &blocks, ms(10_000 + 20_000 * all / RATE));
    report.at_least("goodput, of B", all as f64 / (took * RATE as f64), 0.9);
    let sent: u64 = (0..holders).map(|at| world.sent_by(at)).sum();
    report.at_most("sent by holders, by the bytes", sent as f64 / all as f64, 1.3);
}

/// They may pass on to each other what they have. All links have the same rate.
fn twelve_joiners(report: &mut Report, seed: u64) {
    const LENGTH: usize = 8_000_000;
    report.scenario("12 joiners, 1 holder");
    let setup = Setup::new(&config(Passing::Relays), 13).seed(seed).link(Link::new(LATENCY));
    let setup = setup.uplink(access(RATE)).downlink(access(RATE));
    let mut world = World { subnet: Subnet::stopped(setup, Log::default()) };
    world.subnet.start(0);
    let block = artifact(0, LENGTH);
    world.publish(0, &block);
    let joiners: Vec<usize> = (1..13).collect();
    let ideal = LENGTH as f64 / RATE as f64;
    let took = world.join(&joiners, &[block], ms(10_000 + 60_000 * LENGTH as u64 / RATE));
    report.at_most("last joiner, by S/B", took / ideal, 1.6);
    report.note("sent by the holder, copies of S", world.sent_by(0) as f64 / LENGTH as f64);
}

impl World {
    /// Starts nodes; the seconds from when the first of them was connected until all of them had
    /// everything.
    fn join(
        &mut self,
        joiners: &[usize],
        blocks: &[slotcast::artifact::Artifact],
        limit: Duration,
    ) -> f64 {
        joiners.iter().for_each(|at| self.subnet.start(*at));
        let end = self.subnet.now() + limit;
        for block in blocks {
            let left = end.since(self.subnet.now());
            if self.deliver(joiners, block, left).is_none() {
                return f64::INFINITY;
            }
        }
        let connected = joiners.iter().map(|at| self.subnet.application.connected[at]);
        let connected = connected.min().expect("there are joiners");
        self.subnet.now().since(connected).as_secs_f64()
    }
}

/// A holder whose uplink is slow costs nothing while others are fast (W7). It is heard of first.
pub(crate) fn crawling_holder(report: &mut Report, seed: u64) {
    const LENGTH: usize = 8_000_000;
    const CRAWL: u64 = 16 << 10;
    const GOOD: [usize; 3] = [1, 2, 3];
    report.scenario("one crawling holder of four");
    let time = |crawls: bool| {
        let setup = Setup::new(&config(Passing::PullOnly), 5).seed(seed);
        let setup = setup.link(Link::new(LATENCY)).uplink(access(RATE / 4)).downlink(access(RATE));
        let mut world = World::connected(setup);
        *world.subnet.network.uplink(0) = Bottleneck::new(CRAWL, ms(500));
        let block = artifact(0, LENGTH);
        if crawls {
            world.publish(0, &block);
            world.subnet.elapse(ms(100));
        }
        GOOD.iter().for_each(|at| world.publish(*at, &block));
        let took = world.deliver(&[4], &block, ms(1_000_000));
        took.map_or(f64::INFINITY, |took| took.as_secs_f64())
    };
    let (without, with) = (time(false), time(true));
    report.note("three good holders, s", without);
    report.note("and the crawling one, s", with);
    report.at_most("with it, by without it", with / without, 1.25);
}
