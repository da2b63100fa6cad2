//! The end of a run: faults end, everything arrives, nothing happens any more, and everything is forgotten.

use core::time::Duration;

use super::Run;
use crate::swarm::CONVERGED_WITHIN;
use crate::swarm::oracle::Oracle;
use crate::{FaultKind, Subnet};
use slotcast::error::FlushError;
use slotcast::node::Node;
use slotcast::time::Time;

/// In the end, the subnet is looked at this often.
const CONVERGED_STEP: Duration = Duration::from_millis(50);

/// How long a flush may take in a converged subnet.
const FLUSH_WITHIN: Duration = Duration::from_secs(1);

/// How long a converged subnet is watched while there is nothing to do.
const QUIET_FOR: Duration = Duration::from_secs(5);

impl Run<'_> {
    pub(super) fn heal(&mut self) {
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
    pub(super) fn converge(&mut self) {
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
    pub(super) fn check_flushes(&mut self) {
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
    pub(super) fn check_calls(&mut self) {
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
    pub(super) fn stay_quiet(&mut self) {
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
    pub(super) fn expire_all(&mut self) {
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
}
