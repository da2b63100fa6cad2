//! One run: what is done when, and what is looked at.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::content::Kind;
use super::oracle::{Oracle, Violation};
use super::plan::Plan;
use super::report::{Failure, Latencies, Report};
use super::{CONVERGED_WITHIN, MemoryMeter};
use crate::{Byzantine, FaultKind, Setup, Subnet, Tally, Trick};
use slotcast::broadcast::Priority;
use slotcast::config::ChannelConfig;
use slotcast::error::FlushError;
use slotcast::internals::Random;
use slotcast::membership::Topology;
use slotcast::node::Node;
use slotcast::time::Time;

/// Nodes are looked at this often.
const INSPECT_EVERY: Duration = Duration::from_millis(500);

/// In runs with members that pass nothing on, something is spread this often.
const SPREAD_EVERY: Duration = Duration::from_secs(2);

/// How much longer the phase with faults may last, until each of them has acted.
const OVERTIME_MAX: Duration = Duration::from_secs(30);

/// In the end, the subnet is looked at this often.
const CONVERGED_STEP: Duration = Duration::from_millis(50);

/// How long a flush may take in a converged subnet.
const FLUSH_WITHIN: Duration = Duration::from_secs(1);

/// How long a converged subnet is watched while there is nothing to do.
const QUIET_FOR: Duration = Duration::from_secs(5);

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

    /// Each kind that befalls nodes comes once in the first half, and as often again at any time as
    /// the faults are strong.
    fn schedule_faults(&mut self) {
        let span = u64::try_from(self.plan.faulty_for.as_millis()).expect("not that long");
        let is_in_links = |kind: &FaultKind| {
            use FaultKind as F;
            matches!(
                kind,
                F::Loss
                    | F::BurstLoss
                    | F::QueueDrop
                    | F::Reorder
                    | F::Duplicate
                    | F::Corrupt
                    | F::Mtu
            )
        };
        for kind in self.plan.faults.iter().copied().filter(|kind| !is_in_links(kind)) {
            let first = self.span(span / 8, span / 2);
            self.schedule(Time::ZERO + first, Action::Fault(kind, None));
            for _ in 0..self.random.below(u64::from(self.plan.strength) / 15 + 1) {
                let at = self.span(span / 8, span);
                self.schedule(Time::ZERO + at, Action::Fault(kind, None));
            }
        }
        for (after, kind, place) in self.plan.script.iter().copied() {
            self.schedule(Time::ZERO + after, Action::Fault(kind, Some(place)));
        }
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

    /// The honest nodes whose applications can do something.
    fn able(&self) -> Vec<usize> {
        let now = self.subnet.now();
        let is_able = |at: &usize| self.stalled_until[*at] <= now && !self.left.contains(at);
        self.subnet.application.running().filter(is_able).collect()
    }

    /// One of them.
    fn anyone(&mut self) -> Option<usize> {
        let able = self.able();
        let place = self.random.below(able.len() as u64) as usize;
        able.get(place).copied()
    }

    fn percent(&mut self, percent: u32) -> bool {
        self.random.below(100) < u64::from(percent)
    }

    fn work(&mut self) {
        let Some(at) = self.anyone() else { return };
        let workload = self.plan.workload;
        let active = self.subnet.application.active(at).count() as u64;
        let aborts = self.random.below(100 + u64::from(workload.aborted_percent)) >= 100;
        if aborts && active > 0 {
            let place = self.random.below(active) as usize;
            let serial = self.subnet.application.active(at).nth(place).expect("below their number");
            self.subnet.command(at, |oracle, node| oracle.abort(node, serial));
        } else if self.percent(workload.shared_percent) && self.share(at) {
        } else {
            self.publish(at);
        }
        // As many as there are hundreds, and one more with the chance of what is left.
        let (hundreds, rest) = (workload.calls_percent / 100, workload.calls_percent % 100);
        let calls = hundreds + u32::from(rest > 0 && self.percent(rest));
        (0..calls).for_each(|_| self.call());
        if workload.filtered && self.percent(10) {
            let height = self.random.below(1_000) as u32;
            self.subnet.command(at, |oracle, node| oracle.advance(node, height));
        }
    }

    /// Has a node call another, and answer what it kept.
    fn call(&mut self) {
        let Some(at) = self.anyone() else { return };
        let to = self.random.below(self.plan.nodes as u64) as usize;
        let routes = &self.plan.config.routes;
        let place = self.random.below(routes.len() as u64) as usize;
        if let Some(route) = routes.get(place)
            && at != to
        {
            let random = &mut self.random;
            self.subnet.command(at, |oracle, node| {
                oracle.work_on_calls(node, to, route, random);
                oracle.let_go_of_all(node);
            });
        }
    }

    /// Publishes what another has active. False if there is no such thing.
    fn share(&mut self, at: usize) -> bool {
        let Some(other) = self.anyone() else { return false };
        let Some(serial) = self.subnet.application.active(other).next_back() else { return false };
        self.subnet.command(at, |oracle, node| oracle.publish(node, serial));
        true
    }

    fn publish(&mut self, at: usize) {
        let channels = &self.plan.config.channels;
        let channel = &channels[self.random.below(channels.len() as u64) as usize];
        let push = u64::from(channel.push_bytes_max);
        let length = if self.percent(self.plan.workload.large_percent) {
            push + self.random.below(channel.artifact_bytes_max - push + 1)
        } else if self.percent(20) {
            self.random.below(push + 1)
        } else {
            self.random.below(push.min(1_000) + 1)
        };
        let kind = match self.random.below(10) {
            0 => Kind::Wanted(Priority::High),
            1 => Kind::Wanted(Priority::Low),
            2 => Kind::At(self.random.below(1_000) as u32),
            3 => Kind::NotAt(self.random.bits() as u16),
            _ => Kind::Wanted(Priority::Normal),
        };
        let (channel, length) = (channel.id, length as usize);
        self.subnet.command(at, |oracle, node| oracle.publish_new(node, channel, kind, length));
    }

    fn publish_longest(&mut self, channel: &ChannelConfig) {
        let Some(at) = self.anyone() else { return };
        let (channel, length) = (channel.id, channel.artifact_bytes_max as usize);
        let kind = Kind::Wanted(Priority::Normal);
        self.subnet.command(at, |oracle, node| oracle.publish_new(node, channel, kind, length));
    }

    fn befall(&mut self, kind: FaultKind, place: Option<usize>) {
        let now = self.subnet.now();
        let able = self.able();
        let at = match place {
            Some(place) if !able.is_empty() => Some(able[place % able.len()]),
            _ => self.anyone(),
        };
        let Some(at) = at else {
            return self.schedule(now + Duration::from_millis(200), Action::Fault(kind, None));
        };
        match kind {
            FaultKind::Crash | FaultKind::CrashAndForget => {
                let down_for = self.span(20, 3_000);
                self.subnet.crash(at, kind);
                let forgets = kind == FaultKind::CrashAndForget;
                self.subnet.application.crashed(at, forgets);
                self.schedule(now + down_for, Action::Restart(at));
            }
            FaultKind::Stall => {
                let span = self.span(50, 3_000);
                self.stalled_until[at] = now + span;
                self.subnet.stall(at, span);
            }
            FaultKind::Deaf => {
                let span = self.span(50, 4_000);
                self.deaf_until[at] = now + span;
                self.subnet.deafen(at, span);
            }
            FaultKind::ClockForward => {
                let by = self.span(10, 20_000);
                self.subnet.jump_clock(at, by.as_nanos() as i64);
            }
            FaultKind::ClockBack => {
                let by = self.span(10, 3_000);
                self.subnet.jump_clock(at, -(by.as_nanos() as i64));
            }
            FaultKind::ClockDrift => {
                let drift = self.random.below(200_000) as i32 - 100_000;
                self.subnet.drift_clock(at, drift.max(-99_999) | 1);
            }
            FaultKind::Leave => self.dismiss(at),
            FaultKind::Cut => self.cut(),
            FaultKind::CutOneWay => self.cut_one_way(at),
            _ => {}
        }
    }

    fn restart(&mut self, at: usize) {
        if self.subnet.node(at).is_none() {
            self.stalled_until[at] = Time::ZERO;
            self.deaf_until[at] = Time::ZERO;
            self.subnet.start(at);
        }
    }

    fn topology(&mut self) -> Topology {
        let members: Vec<usize> =
            (0..self.plan.nodes).filter(|at| !self.left.contains(at)).collect();
        self.subnet.topology(members)
    }

    fn follow(&mut self) {
        let topology = self.topology();
        let honest: Vec<usize> = self.subnet.application.honest().collect();
        honest.into_iter().for_each(|at| self.subnet.follow(at, &topology));
    }

    fn dismiss(&mut self, at: usize) {
        let away_for = self.span(100, 3_000);
        self.left.insert(at);
        self.subnet.application.part(at, self.subnet.now());
        self.follow();
        self.schedule(self.subnet.now() + away_for, Action::Return(at));
    }

    fn bring_back(&mut self, at: usize) {
        if self.left.remove(&at) {
            self.subnet.application.part(at, self.subnet.now());
            self.follow();
        }
    }

    /// Parts the members into two groups.
    fn cut(&mut self) {
        let lasts = self.span(1_500, 5_000);
        let mut a: Vec<usize> = (0..self.plan.nodes).collect();
        let mut b = Vec::new();
        for _ in 0..=self.random.below(self.plan.nodes as u64 / 2) {
            b.push(a.swap_remove(self.random.below(a.len() as u64) as usize));
        }
        self.subnet.cut(&a, &b);
        self.heal_in(lasts);
    }

    /// Cuts that overlap end together, when the last of them ends.
    fn heal_in(&mut self, span: Duration) {
        self.cut_until = self.cut_until.max(self.subnet.now() + span);
        self.schedule(self.cut_until, Action::Heal);
    }

    /// Some members do not hear from one any more.
    fn cut_one_way(&mut self, from: usize) {
        let lasts = self.span(1_500, 5_000);
        let next = (from + 1) % self.plan.nodes;
        for to in (0..self.plan.nodes).filter(|to| *to != from) {
            if to == next || self.percent(50) {
                self.subnet.cut_one_way(from, to);
            }
        }
        self.heal_in(lasts);
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

    // After that.

    fn heal(&mut self) {
        let plan = self.plan;
        self.healed_at = Some(self.subnet.now());
        self.subnet.network.each_link(|from, to, link| *link = plan.whole_link(from, to));
        self.subnet.heal();
        let honest: Vec<usize> = self.subnet.application.honest().collect();
        for at in honest {
            self.restart(at);
            self.bring_back(at);
            if plan.has(FaultKind::ClockDrift) {
                self.subnet.drift_clock(at, 0);
            }
            self.subnet.command(at, |oracle, node| {
                oracle.advance(node, u32::MAX);
                oracle.let_go_of_all(node);
            });
        }
        if plan.byzantine_leave && plan.byzantine > 0 {
            self.left.extend(self.hostile.iter().copied());
            for at in self.hostile.clone() {
                self.subnet.application.part(at, self.subnet.now());
            }
            self.follow();
        }
        self.actions.clear();
    }

    fn has_hostile_members(&self) -> bool {
        self.plan.byzantine > 0 && !self.plan.byzantine_leave
    }

    /// Everything that is active comes to everyone who wants it (invariants 11 and 12).
    fn converge(&mut self) {
        let begun = self.subnet.now();
        let mut limit = CONVERGED_WITHIN + self.transfer_time();
        let limit_max = limit + self.plan.quota_time();
        let mut problem = Some(String::new());
        while let Some(unsolved) = &problem
            && !self.has_failed()
        {
            // Time in which quotas hold something up does not count, as far as they may.
            if self.is_any_held() {
                limit = limit_max.min(limit + CONVERGED_STEP);
            }
            if self.subnet.now().since(begun) > limit {
                let state = self.subnet.state();
                let what = format!("not converged after {limit:?}: {unsolved}\n{state}");
                self.missing = self.subnet.application.missing().count() as u64;
                return self.check(12, false, || what);
            }
            self.run_to(self.subnet.now() + CONVERGED_STEP);
            problem = self.problem();
        }
        if !self.has_failed() {
            self.converged_in = Some(self.subnet.now().since(begun));
            let due = self.subnet.application.due();
            self.subnet.application.counts.checks[12] += due;
            if self.has_hostile_members() {
                self.subnet.application.counts.checks[11] += due;
            }
            self.inspect();
        }
    }

    /// Whether something of an honest member waits for another one's quota.
    fn is_any_held(&self) -> bool {
        let oracle = &self.subnet.application;
        let nodes = || oracle.running().filter_map(|at| self.subnet.node(at));
        self.plan.config.channels.iter().any(|channel| channel.quota.is_some())
            && nodes().any(|node| oracle.holds_up(node))
    }

    /// How long it takes at most to bring what is missing to all who want it, by the rates of the paths.
    fn transfer_time(&self) -> Duration {
        let missing = self.subnet.application.missing_bytes();
        self.plan.paths.time_for(self.plan.seed, &missing)
    }

    /// What keeps the subnet from being as it should.
    fn problem(&mut self) -> Option<String> {
        let now = self.subnet.now();
        let late = |until: &Vec<Time>| until.iter().any(|until| *until > now);
        if late(&self.stalled_until) || late(&self.deaf_until) {
            return Some("a node still does nothing".to_string());
        }
        let oracle = &self.subnet.application;
        let honest: Vec<usize> = oracle.honest().collect();
        if oracle.calls_open() > 0 {
            return Some(format!("{} calls have not ended", oracle.calls_open()));
        }
        let pairs = honest.iter().flat_map(|a| honest.iter().map(move |b| (*a, *b)));
        let pairs: Vec<(usize, usize)> = pairs.filter(|(a, b)| a != b).collect();
        if let Some((a, b)) = pairs.iter().find(|(a, b)| !self.subnet.is_up(*a, *b)) {
            return Some(format!("{a} and {b} are not connected"));
        }
        if let Some((receiver, sender, (channel, id))) = oracle.missing().next() {
            let node = self.subnet.node(receiver);
            let why = node.map(|node| node.machine().explain(channel, &id)).unwrap_or_default();
            return Some(format!("{receiver} lacks {id:#} of {sender}: {why}"));
        }
        if !self.has_hostile_members()
            && let Some((at, (_, id))) = oracle.left_over().next()
        {
            return Some(format!("{at} has {id:#}, which is nobody's"));
        }
        let node = |at: usize| (at, self.subnet.node(at).expect("all honest ones run"));
        let oracle = &self.subnet.application;
        let tables = pairs.iter().map(|(a, b)| oracle.table_difference(node(*a), node(*b)));
        let unknown = pairs.iter().map(|(a, b)| oracle.coverage_missing(node(*a), *b));
        let difference = tables.chain(unknown).flatten().next();
        self.subnet.application.counts.checks[4] += pairs.len() as u64;
        difference
    }

    /// A flush is complete at once if all members are known to have everything, and else at no time.
    fn check_flushes(&mut self) {
        let honest: Vec<usize> = self.subnet.application.honest().collect();
        for at in honest.iter().copied() {
            self.subnet.command(at, |_, node| {
                let now = node.node_mut().now();
                node.node_mut().flush(now, FLUSH_WITHIN).expect("the only one")
            });
        }
        self.run_to(self.subnet.now() + 2 * FLUSH_WITHIN);
        for at in honest {
            let members = (0..self.plan.nodes).filter(|other| *other != at);
            let up: Vec<usize> = members.filter(|other| self.subnet.is_up(at, *other)).collect();
            let oracle = &self.subnet.application;
            let node = self.subnet.node(at).expect("all honest ones run");
            let is_settled = up.iter().all(|other| oracle.is_settled((at, node), *other));
            let ended = self.subnet.command(at, |_, node| node.node_mut().poll_flushed());
            let result = ended.flatten().map(|(_, result)| result);
            let expected = if is_settled { Ok(()) } else { Err(FlushError::DeadlinePassed) };
            // A hostile member may say so late, or lose its connection.
            let is_good =
                result == Some(expected) || result.is_some() && self.has_hostile_members();
            self.check(0, is_good, || format!("flush at {at}: {result:?} instead of {expected:?}"));
        }
    }

    /// Once all calls have ended, no node has anything left of them.
    fn check_calls(&mut self) {
        let honest: Vec<usize> = self.subnet.application.honest().collect();
        // Requests that nobody waits for go when their deadlines pass.
        self.run_to(self.subnet.now() + Duration::from_secs(6));
        for at in honest.iter().copied() {
            self.subnet.command(at, |oracle, node| oracle.let_go_of_all(node));
        }
        self.run_to(self.subnet.now() + Duration::from_secs(1));
        for at in honest {
            let left = self.subnet.node(at).map_or(0, Node::calls);
            self.check(13, left == 0, || format!("{at} has {left} calls and requests left"));
        }
    }

    /// With nothing to do, nodes do nothing but keep connections alive (invariants 2 and 9).
    fn stay_quiet(&mut self) {
        if self.has_hostile_members() {
            return;
        }
        self.run_to(self.subnet.now() + Duration::from_secs(2));
        let polls: Vec<u64> = (0..self.plan.nodes).map(|at| self.subnet.polls(at)).collect();
        let content = self.subnet.application.counts.bytes;
        self.run_to(self.subnet.now() + QUIET_FOR);
        let after = self.subnet.application.counts.bytes;
        self.check(
            2,
            (after.useful, after.duplicate) == (content.useful, content.duplicate),
            || "content is sent although nothing has changed".to_string(),
        );
        let periods = QUIET_FOR.as_millis() / self.plan.config.transport.keep_alive.as_millis() + 1;
        let polls_max = 100 + 16 * periods as u64 * self.plan.nodes as u64;
        let honest: Vec<usize> = self.subnet.application.honest().collect();
        for at in honest {
            let polls = self.subnet.polls(at) - polls[at];
            self.check(9, polls <= polls_max, || {
                format!("{at} was woken {polls} times in {QUIET_FOR:?} with nothing to do")
            });
        }
    }

    /// Everything is aborted, and forgotten by everyone (invariant 5).
    fn expire_all(&mut self) {
        let honest: Vec<usize> = self.subnet.application.honest().collect();
        for at in honest.iter().copied() {
            for serial in self.subnet.application.active(at).collect::<Vec<u32>>() {
                self.subnet.command(at, |oracle, node| oracle.abort(node, serial));
            }
        }
        let hostile = self.has_hostile_members();
        let end = self.subnet.now() + CONVERGED_WITHIN + self.plan.quota_time();
        let is_forgotten = |subnet: &Subnet<Oracle>| {
            let known = honest
                .iter()
                .find(|at| subnet.node(**at).is_some_and(|node| node.machine().known_count() > 0));
            let left = subnet.application.left_over().next();
            known.is_none() && left.is_none()
        };
        while !hostile && !is_forgotten(&self.subnet) && self.subnet.now() < end {
            self.run_to(self.subnet.now() + Duration::from_millis(50));
        }
        self.run_to(self.subnet.now() + Duration::from_millis(500));
        let is_good = hostile || is_forgotten(&self.subnet);
        let state = if is_good { String::new() } else { self.subnet.state() };
        self.check(5, is_good, || format!("aborted by all and not expired\n{state}"));
        self.inspect();
    }

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
