//! Transfers that something comes in the way of: larger ones before, holders that vanish.

use std::time::Duration;

use slotcast_sim::{FaultKind, Setup};

use crate::content::artifact;
use crate::figure::Report;
use crate::world::{Passing, World, config, limited, ms};

const LATENCY: Duration = ms(20);

/// 100 KB that are published 200 ms after 15 MiB in the same channel (W5).
pub(crate) fn small_behind_large(report: &mut Report, seed: u64) {
    report.scenario("small behind large");
    for rate in [2_000_000, 4_000_000, 8_000_000] {
        let link = limited(rate, LATENCY, ms(100));
        let setup = Setup::new(&config(Passing::PullOnly), 2).link(link).seed(seed);
        let mut world = World::connected(setup);
        let large = artifact(0, 15 << 20);
        let limit = ms(60_000 + 2 * (15 << 20) * 1_000 / rate);
        // First alone, on a connection whose window is open.
        world.publish(0, &artifact(1, 2 << 20));
        world.deliver(&[1], &artifact(1, 2 << 20), limit);
        world.subnet.elapse(ms(1_000));
        let small = artifact(2, 100_000);
        world.publish(0, &small);
        let alone = world.deliver(&[1], &small, limit).expect("it arrives");
        world.publish(0, &large);
        world.subnet.elapse(ms(200));
        let small = artifact(3, 100_000);
        world.publish(0, &small);
        let behind = world.deliver(&[1], &small, limit).map_or(f64::INFINITY, |t| t.as_secs_f64());
        report.note(format!("{} MB/s: alone, s", rate / 1_000_000), alone.as_secs_f64());
        let what = format!("{} MB/s: behind 15 MiB, by alone", rate / 1_000_000);
        report.at_most(what, behind / alone.as_secs_f64(), 2.0);
    }
}

/// The only holder vanishes for a while, and returns (W3): its path breaks, or it starts anew.
pub(crate) fn vanishing_holder(report: &mut Report, seed: u64) {
    const LENGTH: usize = 8 << 20;
    const RATE: u64 = 2_000_000;
    report.scenario("the only holder vanishes");
    for (what, restarts, away_ms) in [
        ("path cut for 9 s", false, 9_000),
        ("path cut for 30 s", false, 30_000),
        ("killed for 9 s", true, 9_000),
    ] {
        let link = limited(RATE, LATENCY, ms(100));
        let mut world =
            World::connected(Setup::new(&config(Passing::PullOnly), 2).link(link).seed(seed));
        let block = artifact(0, LENGTH);
        let (begun, before) = (world.subnet.now(), world.sent_by_all());
        world.publish(0, &block);
        world.subnet.elapse(ms(2_000));
        if restarts {
            world.subnet.crash(0, FaultKind::CrashAndForget);
        } else {
            world.subnet.cut(&[0], &[1]);
        }
        world.subnet.elapse(ms(away_ms));
        if restarts {
            world.subnet.start(0);
            world.publish(0, &block);
        } else {
            world.subnet.heal();
        }
        let arrives = world.deliver(&[1], &block, ms(300_000)).is_some();
        let took = world.subnet.now().since(begun).as_secs_f64();
        let away = f64::from(away_ms as u32) / 1_000.0;
        let took = if arrives { took - away } else { f64::INFINITY };
        let ideal = LENGTH as f64 / RATE as f64;
        report.note(format!("{what}: time beside it, by S/B"), took / ideal);
        let times = (world.sent_by_all() - before) as f64 / LENGTH as f64;
        report.at_most(format!("{what}: sent in all, by S"), times, 1.3);
    }
}
