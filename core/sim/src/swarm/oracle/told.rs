//! What the applications are told of artifacts.

use core::sync::atomic::Ordering::Relaxed;

use super::{Name, Oracle};
use crate::Context;
use crate::swarm::content::Kind;
use slotcast::artifact::Artifact;
use slotcast::broadcast::Decision;
use slotcast::config::Relay;
use slotcast::id::{ChannelId, NodeId};
use slotcast::time::Time;

impl Oracle {
    pub(super) fn delivered(
        &mut self,
        node: &mut Context<'_>,
        channel: ChannelId,
        artifact: Artifact,
        from: NodeId,
    ) {
        let (at, time, id) = (node.at(), node.time(), artifact.id());
        self.counts.delivered += 1;
        let anew = Artifact::keyed(artifact.key(), artifact.to_bytes(), artifact.metadata());
        let is_true = anew.is_ok_and(|anew| anew.id() == id);
        self.check(6, time, is_true, || format!("{at} is brought bytes that are not {id:#}"));
        let is_first = self.replicas[at].live.insert((channel, id), from).is_none();
        self.counts.duplicates += u64::from(!is_first);
        self.check(7, time, is_first, || format!("{at} is brought {id:#} twice"));
        if let Some(serial) = self.serials.get(&(channel, id)).copied() {
            self.check_delivery(at, time, serial, from);
            // It may relay from now on what it has aborted as its own.
            self.made[serial as usize].aborted_by.remove(&at);
        }
        let relays = self.config(channel).relay == Relay::Confirmed;
        if relays && id.0[0] & 1 == 0 {
            let _ = node.relay(channel, &artifact);
        }
    }

    /// A delivery of what a member has made.
    fn check_delivery(&mut self, at: usize, time: Time, serial: u32, from: NodeId) {
        let made = &self.made[serial as usize];
        let (id, kind, replica) = (made.id, made.kind, &self.replicas[at]);
        let decision = kind.decision(at, replica.height.load(Relaxed));
        let is_wanted = matches!(decision, Decision::Fetch(_));
        let since = made
            .publishers
            .iter()
            .filter_map(|publisher| Some(self.replicas[*publisher].active.get(&serial)?.since));
        let since = since.min();
        let is_prompt = matches!(kind, Kind::Wanted(_));
        // What was cleared does not come back: it had one publisher, once, who has aborted it, and
        // this node was told so.
        let is_relayed = self.config(made.channel).relay != Relay::Off;
        let publisher = made.publishers.first();
        let publisher = publisher.filter(|_| made.publishers.len() == 1 && !is_relayed);
        let is_back = publisher.is_some_and(|publisher| {
            let ended = self.replicas[*publisher].ended.get(&serial);
            let is_active = self.replicas[*publisher].active.contains_key(&serial);
            let told = self.replicas[at].withdrawn.get(&serial);
            let apart = self.joined(*publisher, at);
            !is_active
                && self.ids[*publisher] == from
                && told.zip(ended).is_some_and(|(told, ended)| {
                    // What is told in one breath may have happened long before.
                    ended <= told && apart < *ended && *told < time
                })
        });
        self.check(4, time, !is_back, || format!("{at} is brought {id:#} after its clear"));
        self.check(5, time, is_wanted, || format!("{at} is brought {id:#}, which it refused"));
        if let Some(since) = since.filter(|_| is_prompt) {
            self.counts.latencies.push(time.0 - since.0);
        }
    }

    /// Whether a member has had an artifact active all the time that another could hear of it: it
    /// made it, and has not aborted it since.
    fn is_constant(&self, publisher: &NodeId, at: usize, serial: u32) -> bool {
        let place = self.made[serial as usize].maker;
        let replica = &self.replicas[place];
        let active = replica.active.get(&serial).filter(|_| replica.is_running);
        let active = active.filter(|_| self.ids[place] == *publisher);
        active.is_some_and(|active| !active.again && self.joined(place, at) < active.since)
    }

    pub(super) fn withdrawn(&mut self, at: usize, time: Time, name: Name, by: &NodeId) {
        let id = name.1;
        let is_live = self.replicas[at].live.contains_key(&name);
        self.check(7, time, is_live, || format!("{at} is told of {id:#}, which it has not"));
        let Some(serial) = self.serials.get(&name).copied() else { return };
        if self.ids[self.made[serial as usize].maker] == *by {
            self.replicas[at].withdrawn.insert(serial, time);
        }
        let is_constant = self.is_constant(by, at, serial);
        self.check(5, time, !is_constant, || {
            format!("{at} is told that {by:#} withdrew {id:#}, which it did not")
        });
    }

    pub(super) fn expired(&mut self, at: usize, time: Time, name: Name) {
        let id = name.1;
        let from = self.replicas[at].live.remove(&name);
        self.check(7, time, from.is_some(), || {
            format!("{at} is told that {id:#} expired, which it has not")
        });
        let Some(serial) = self.serials.get(&name).copied() else { return };
        // Its maker has withdrawn it, as all others have; unless it was never heard of from its maker.
        if from == Some(self.ids[self.made[serial as usize].maker]) {
            self.replicas[at].withdrawn.insert(serial, time);
        }
        let is_constant = from.is_some_and(|from| self.is_constant(&from, at, serial));
        self.check(5, time, !is_constant, || {
            format!("{at} is told that {id:#} expired, which {from:?} advertises")
        });
    }
}
