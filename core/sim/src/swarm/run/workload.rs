//! What the applications of a run do.

use super::Run;
use crate::swarm::content::Kind;
use slotcast::broadcast::Priority;
use slotcast::config::ChannelConfig;

impl Run<'_> {
    pub(super) fn work(&mut self) {
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

    pub(super) fn publish_longest(&mut self, channel: &ChannelConfig) {
        let Some(at) = self.anyone() else { return };
        let (channel, length) = (channel.id, channel.artifact_bytes_max as usize);
        let kind = Kind::Wanted(Priority::Normal);
        self.subnet.command(at, |oracle, node| oracle.publish_new(node, channel, kind, length));
    }

    /// The honest nodes whose applications can do something.
    pub(super) fn able(&self) -> Vec<usize> {
        let now = self.subnet.now();
        let is_able = |at: &usize| self.stalled_until[*at] <= now && !self.left.contains(at);
        self.subnet.application.running().filter(is_able).collect()
    }

    /// One of them.
    pub(super) fn anyone(&mut self) -> Option<usize> {
        let able = self.able();
        let place = self.random.below(able.len() as u64) as usize;
        able.get(place).copied()
    }
}
