//! What goes wrong in a run, when, and how it ends.

use core::time::Duration;

use super::{Action, Run};
use crate::FaultKind;
use slotcast::membership::Topology;
use slotcast::time::Time;

impl Run<'_> {
    /// Each kind that befalls nodes comes once in the first half, and as often again at any time as
    /// the faults are strong.
    pub(super) fn schedule_faults(&mut self) {
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

    pub(super) fn befall(&mut self, kind: FaultKind, place: Option<usize>) {
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

    pub(super) fn restart(&mut self, at: usize) {
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

    pub(super) fn follow(&mut self) {
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

    pub(super) fn bring_back(&mut self, at: usize) {
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
}
