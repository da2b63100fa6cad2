//! Any path (W1): rates, round trips, losses, jitter and sizes. Everything arrives, and little is sent
//! more than once.

use std::fmt;
use std::time::Duration;

use slotcast_sim::{Chance, Latency, Link, Setup};

use crate::content::artifact;
use crate::figure::Report;
use crate::world::{Passing, World, config, limited, mbit, ms};

const KIB: u64 = 1 << 10;

/// 16 kB/s to 10 Gbit/s.
const RATES: [u64; 5] = [16 * KIB, 128 * KIB, mbit(10), mbit(300), mbit(10_000)];

const ROUND_TRIPS: [Duration; 3] = [ms(1), ms(40), ms(400)];

const LOSSES: [u32; 3] = [0, 2, 5];

const LENGTHS: [u64; 3] = [20 * KIB, KIB * KIB, 8 * KIB * KIB];

/// Below it, what is sent for an artifact is not much more than what is sent in any case.
const COUNTED_LENGTH: u64 = KIB * KIB;

/// The time counts where the rate makes it, and not the number of round trips.
const ROUND_TRIPS_COUNTED: u32 = 10;

/// A path and an artifact.
#[derive(Clone, Copy)]
struct Case {
    rate: u64,
    round_trip: Duration,
    loss: u32,
    /// As large as the latency, without loss.
    jitters: bool,
    length: u64,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rate, round_trip, loss, jitters, length } = self;
        write!(f, "{} KiB at {} kB/s, {round_trip:?}", length / KIB, rate / 1_000)?;
        if *loss > 0 {
            write!(f, ", {loss} %")?;
        }
        if *jitters {
            f.write_str(", jitter")?;
        }
        Ok(())
    }
}

/// The worst case, and how bad it is.
struct Worst {
    value: f64,
    case: Option<Case>,
}

impl Worst {
    const fn new() -> Self {
        Self { value: 0.0, case: None }
    }

    fn note(&mut self, value: f64, case: Case) {
        if value > self.value {
            (self.value, self.case) = (value, Some(case));
        }
    }

    fn report(&self, report: &mut Report, what: &str, goal: f64) {
        let case = self.case.map_or(String::new(), |case| format!("({case})"));
        report.at_most(format!("{what} {case}"), self.value, goal);
    }
}

pub(crate) fn run(report: &mut Report, seed: u64) {
    let mut never = 0;
    for loss in LOSSES {
        let (mut sent, mut time) = (Worst::new(), Worst::new());
        each(loss, false, |case| {
            let Some((took, times)) = case.run(seed) else {
                println!("  never arrives: {case}");
                return never += 1;
            };
            if case.length >= COUNTED_LENGTH {
                sent.note(times, case);
            }
            if case.ideal() >= ROUND_TRIPS_COUNTED * case.round_trip {
                time.note(took.as_secs_f64() / case.ideal().as_secs_f64(), case);
            }
        });
        report.scenario(format!("paths, {loss} % loss"));
        sent.report(report, "sent, by S", if loss == 5 { 1.5 } else { 1.3 });
        if loss == 0 {
            time.report(report, "time, by the ideal", 1.25);
        }
    }
    let mut sent = Worst::new();
    each(0, true, |case| match case.run(seed) {
        Some((_, times)) if case.length >= COUNTED_LENGTH => sent.note(times, case),
        Some(_) => {}
        None => {
            println!("  never arrives: {case}");
            never += 1;
        }
    });
    report.scenario("paths, jitter");
    sent.report(report, "sent, by S", 1.3);
    report.scenario("paths");
    report.at_most("cases in which it never arrives", f64::from(never), 0.0);
}

fn each(loss: u32, jitters: bool, mut run: impl FnMut(Case)) {
    for rate in RATES {
        for round_trip in ROUND_TRIPS {
            for length in LENGTHS {
                // With jitter, the window stays so small that long paths take hours.
                let is_long = jitters && round_trip * 2 > ms(100) && length > KIB * KIB;
                if !is_long {
                    run(Case { rate, round_trip, loss, jitters, length });
                }
            }
        }
    }
}

impl Case {
    /// What a sender that knows the path would need: an advert, a request, and the bytes.
    fn ideal(&self) -> Duration {
        Duration::from_secs_f64(self.length as f64 / self.rate as f64) + self.round_trip * 3 / 2
    }

    /// How long it takes, and how many times its length is sent.
    fn run(&self, seed: u64) -> Option<(Duration, f64)> {
        let mut link = limited(self.rate, self.round_trip / 2, ms(200));
        link.loss = Chance::percent(self.loss);
        if self.jitters {
            link.latency = Latency::Jitter(self.round_trip / 4, self.round_trip / 2);
        }
        // No queue is shorter than a few packets.
        let link = Link { queue_bytes_max: link.queue_bytes_max.max(15_000), ..link };
        let setup = Setup::new(&config(Passing::PullOnly), 2).link(link).seed(seed);
        let mut world = World::connected(setup);
        let block = artifact(0, self.length as usize);
        let before = world.sent_by(0);
        world.publish(0, &block);
        // An hour, and thrice what the bytes take.
        let limit = ms(3_600_000) + self.ideal() * 3;
        let took = world.deliver(&[1], &block, limit)?;
        Some((took, (world.sent_by(0) - before) as f64 / self.length as f64))
    }
}
