//! One run: what is done when, and what is looked at. What applications do is in `workload`, what goes wrong in
//! `faults`, and what has to come of it in `ending`.

mod ending;
mod faults;
mod workload;

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::MemoryMeter;
use super::oracle::{Oracle, Violation};
use super::plan::Plan;
use super::report::{Failure, Latencies, Report};
use crate::{Byzantine, FaultKind, Setup, Subnet, Tally, Trick};
use slotcast::internals::Random;
use slotcast::time::Time;

/// Nodes are looked at this often.
const INSPECT_EVERY: Duration = Duration::from_millis(500);

/// In runs with members that pass nothing on, something is spread this often.
const SPREAD_EVERY: Duration = Duration::from_secs(2);

/// How much longer the phase with faults may last, until each of them has acted.
const OVERTIME_MAX: Duration = Duration::from_secs(30);

/// What is to be done at a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Action {
    Work,
    /// Something is published that is spread.
    Spread,
    Inspect,
    /// To any honest node, or to the one at this place among them.
    Fault(FaultKind, Option<usize>),
    Restart(usize),
    Heal,
    Return(usize),
}

struct Run<'a> {
    plan: &'a Plan,
    memory: Option<MemoryMeter>,
    subnet: Subnet<Oracle>,
    random: Random,
    hostile: Vec<usize>,
    tallies: Vec<Tally>,
    actions: BTreeMap<(Time, u64), Action>,
    sequence: u64,
    /// Nodes that do nothing before these times: their applications do nothing either.
    stalled_until: Vec<Time>,
    deaf_until: Vec<Time>,
    left: BTreeSet<usize>,
    cut_until: Time,
    memory_max: u64,
    healed_at: Option<Time>,
    converged_in: Option<Duration>,
    missing: u64,
}

impl Plan {
    /// Runs it. What goes wrong, panics included, is in the report.
    pub fn run(&self) -> Report {
        self.run_metered(None)
    }

    /// The same, and measures the memory of each node.
    pub fn run_metered(&self, memory: Option<MemoryMeter>) -> Report {
        let mut run = Run::new(self, memory);
        let course = catch_unwind(AssertUnwindSafe(|| run.course()));
        if let Err(panic) = course {
            let message = panic.downcast_ref::<String>().cloned();
            let message = message.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            let what = format!("panic: {}", message.unwrap_or_default());
            let time = run.subnet.now();
            let violation = Violation { invariant: 0, what, time };
            run.subnet.application.violation.get_or_insert(violation);
        }
        run.report()
    }
}

impl<'a> Run<'a> {
    fn new(plan: &'a Plan, memory: Option<MemoryMeter>) -> Self {
        let mut random = Random::new(plan.seed);
        let mut setup = Setup::new(&plan.config, plan.nodes).seed(random.bits());
        setup.crypto = plan.crypto;
        let mut hostile: Vec<usize> = (0..plan.nodes).collect();
        while hostile.len() > plan.byzantine {
            hostile.swap_remove(random.below(hostile.len() as u64) as usize);
        }
        hostile.sort_unstable();
        let oracle = Oracle::new(plan, setup.ids(), &hostile);
        let mut subnet = Subnet::stopped(setup, oracle);
        if let Some(memory) = memory {
            subnet.set_scope(memory.enter);
        }
        if plan.keep_trace {
            subnet.trace_mut().keep_all();
        }
        Self {
            plan,
            memory,
            subnet,
            random,
            hostile,
            tallies: Vec::new(),
            actions: BTreeMap::new(),
            sequence: 0,
            stalled_until: std::vec![Time::ZERO; plan.nodes],
            deaf_until: std::vec![Time::ZERO; plan.nodes],
            left: BTreeSet::new(),
            cut_until: Time::ZERO,
            memory_max: 0,
            healed_at: None,
            converged_in: None,
            missing: 0,
        }
    }

    fn course(&mut self) {
        self.begin();
        self.faulty_phase();
        if !self.has_failed() {
            self.heal();
            self.converge();
        }
        if !self.has_failed() {
            self.check_flushes();
            self.check_calls();
            self.stay_quiet();
            self.expire_all();
            self.check_that_all_acted();
        }
    }

    fn has_failed(&self) -> bool {
        self.subnet.application.violation.is_some()
    }

    fn check(&mut self, invariant: usize, holds: bool, what: impl FnOnce() -> String) {
        let now = self.subnet.now();
        self.subnet.application.check(invariant, now, holds, what);
    }

    fn span(&mut self, low_ms: u64, high_ms: u64) -> Duration {
        Duration::from_millis(low_ms + self.random.below(high_ms - low_ms + 1))
    }

    fn percent(&mut self, percent: u32) -> bool {
        self.random.below(100) < u64::from(percent)
    }

    fn schedule(&mut self, at: Time, action: Action) {
        self.sequence += 1;
        self.actions.insert((at, self.sequence), action);
    }

    // The beginning.

    fn begin(&mut self) {
        let (plan, random) = (self.plan, &mut self.random);
        self.subnet.network.each_link(|from, to, link| *link = plan.faulty_link(from, to, random));
        for at in 0..plan.nodes {
            let is_hostile = self.hostile.contains(&at);
            let [uplink, downlink] = plan.paths.access(plan.seed, at, is_hostile);
            *self.subnet.network.uplink(at) = uplink;
            *self.subnet.network.downlink(at) = downlink;
            if is_hostile {
                self.install_hostile(at);
            } else {
                self.subnet.start(at);
            }
        }
        self.schedule(self.subnet.now(), Action::Inspect);
        self.schedule(self.subnet.now(), Action::Work);
        if plan.has(FaultKind::QueueDrop) {
            // Whatever the workload is, something must be longer than the queues.
            self.publish_longest(&plan.config.channels[0]);
        }
        if plan.tricks.contains(&Trick::WithholdRelay) && plan.byzantine > 0 {
            self.schedule(self.subnet.now() + SPREAD_EVERY, Action::Spread);
        }
        self.schedule_faults();
    }

    fn install_hostile(&mut self, at: usize) {
        let topology = self.subnet.topology(0..self.plan.nodes);
        let byzantine = Byzantine::new(
            self.subnet.key(at).clone(),
            &topology,
            &self.plan.config,
            &self.plan.tricks,
            self.plan.crypto,
            self.random.bits(),
            self.subnet.start_instant(),
        );
        self.tallies.push(byzantine.tally());
        self.subnet.install(at, Box::new(byzantine));
    }

    // While things go wrong.

    /// Lasts as long as planned, and until everything has acted if that takes a little longer.
    fn faulty_phase(&mut self) {
        let end = Time::ZERO + self.plan.faulty_for;
        let mut limit = end;
        while let Some(((at, sequence), action)) =
            self.actions.first_key_value().map(|(at, action)| (*at, *action))
            && !self.has_failed()
        {
            if at > limit {
                if at > end + OVERTIME_MAX || self.idle_ones().next().is_none() {
                    break;
                }
                limit = at;
            }
            self.run_to(at);
            self.actions.remove(&(at, sequence));
            self.act(action);
        }
        self.run_to(limit);
    }

    /// What was to act, and has not.
    fn idle_ones(&self) -> impl Iterator<Item = &'static str> {
        let faults = self.subnet.faults();
        let idle = self.plan.faults.iter().filter(move |kind| faults.count(**kind) == 0);
        let unplayed = self.tricks().into_iter().filter(|(_, count)| *count == 0);
        let names = idle.map(|kind| kind.name()).chain(unplayed.map(|(trick, _)| trick.name()));
        names.filter(|_| self.plan.all_must_act)
    }

    fn run_to(&mut self, end: Time) {
        self.subnet.run(end, |subnet| subnet.application.violation.is_some());
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Work => {
                self.work();
                let rate = u64::from(self.plan.workload.artifacts_per_second.max(1));
                // Publishing and aborting take turns, more or less.
                let pause = 1_000_000 * 100
                    / (rate * (100 + u64::from(self.plan.workload.aborted_percent)));
                let pause = Duration::from_micros(self.random.below(2 * pause + 1));
                self.schedule(self.subnet.now() + pause, Action::Work);
            }
            Action::Spread => {
                // However rare long artifacts are in the workload: some have to be withheld.
                if let Some(channel) = self.plan.spreading_channel() {
                    self.publish_longest(channel);
                }
                self.schedule(self.subnet.now() + SPREAD_EVERY, Action::Spread);
            }
            Action::Inspect => {
                self.inspect();
                self.schedule(self.subnet.now() + INSPECT_EVERY, Action::Inspect);
            }
            Action::Fault(kind, place) => self.befall(kind, place),
            Action::Restart(at) => self.restart(at),
            Action::Heal if self.cut_until <= self.subnet.now() => self.subnet.heal(),
            Action::Heal => {}
            Action::Return(at) => self.bring_back(at),
        }
    }

    /// Looks at every node (invariants 4, 5, 8 and 10, and what the machine says of itself).
    fn inspect(&mut self) {
        let now = self.subnet.now();
        let running: Vec<usize> = self.subnet.application.running().collect();
        for at in running {
            let may_be_deaf = self.deaf_until[at] >= now || self.stalled_until[at] >= now;
            self.subnet.inspect(at, |oracle, node| {
                oracle.inspect(now, at, node, may_be_deaf);
                oracle.inspect_calls(now, at, node);
            });
            if let Some(memory) = self.memory {
                let (held, bound) = ((memory.held)(at), self.plan.config.memory_bound());
                self.memory_max = self.memory_max.max(held);
                self.check(8, held <= bound, || {
                    format!("{at} holds {held} bytes, of at most {bound}")
                });
            }
        }
        self.inspect_coverage();
    }

    /// What members know of how far their artifacts have come is so.
    fn inspect_coverage(&mut self) {
        let now = self.subnet.now();
        let running: Vec<usize> = self.subnet.application.running().collect();
        for (sender, receiver) in running.iter().flat_map(|a| running.iter().map(move |b| (*a, *b)))
        {
            let nodes = self.subnet.node(sender).zip(self.subnet.node(receiver));
            let Some((sending, receiving)) = nodes.filter(|_| sender != receiver) else { continue };
            let oracle = &self.subnet.application;
            let (compared, difference) =
                oracle.coverage_difference(now, (sender, sending), (receiver, receiving));
            self.subnet.application.counts.covered += compared;
            if let Some(difference) = difference {
                return self.check(0, false, || difference);
            }
        }
    }

    // In the end.

    /// A run that was to have a fault has shown nothing about it if the fault never was.
    fn check_that_all_acted(&mut self) {
        let idle = self.idle_ones().next();
        self.check(0, idle.is_none(), || format!("{} never happened", idle.unwrap_or_default()));
    }

    fn tricks(&self) -> Vec<(Trick, u64)> {
        if self.plan.byzantine == 0 {
            return Vec::new();
        }
        let count = |trick| self.tallies.iter().map(|tally| tally.of(trick)).sum();
        self.plan.tricks.iter().map(|trick| (*trick, count(*trick))).collect()
    }

    fn report(self) -> Report {
        let tricks = self.tricks();
        let (faults, trace) = (self.subnet.faults(), self.subnet.trace().clone());
        let virtual_time = self.subnet.now().since(Time::ZERO);
        let oracle = self.subnet.application;
        let counts = oracle.counts;
        let failure = oracle.violation.map(|violation| Failure {
            invariant: violation.invariant,
            what: violation.what,
            time: violation.time,
            last: trace.last().copied().collect(),
        });
        Report {
            seed: self.plan.seed,
            nodes: self.plan.nodes,
            hostile: self.hostile,
            failure,
            faults,
            tricks,
            published: counts.published,
            aborted: counts.aborted,
            delivered: counts.delivered,
            missing: self.missing,
            duplicates: counts.duplicates,
            covered: counts.covered,
            checks: counts.checks,
            latencies: Latencies::of(counts.latencies),
            bytes: counts.bytes,
            calls: oracle.calls.counts,
            memory_max: self.memory_max,
            memory_bound: self.plan.config.memory_bound(),
            fruitless_peak: counts.fruitless_peak,
            fruitless_max: self.plan.config.work.fruitless_max.into(),
            healed_at: self.healed_at,
            converged_in: self.converged_in,
            trace_hash: trace.hash(),
            virtual_time,
            trace: trace.all().to_vec(),
        }
    }
}
