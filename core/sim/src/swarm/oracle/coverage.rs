//! How far what is published has come, as its publishers know it, against what is so.

use core::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::{Name, Oracle};
use slotcast::broadcast::{Decision, Threshold};
use slotcast::id::NodeId;
use slotcast::node::Node;
use slotcast::time::Time;

/// After this time, members that were away have connected anew, or not at all.
const AWAY: Duration = Duration::from_secs(2);

/// When the publisher of an artifact is to be told how far it has come.
pub(super) const fn threshold(serial: u32) -> Option<Threshold> {
    match serial % 4 {
        0 => Some(Threshold::All),
        1 => Some(Threshold::AllBut(1)),
        2 => Some(Threshold::Count(1)),
        _ => None,
    }
}

impl Oracle {
    pub(super) fn covered(&mut self, at: usize, time: Time, name: Name) {
        let id = name.1;
        let serial = self.serials.get(&name).copied();
        let replica = &mut self.replicas[at];
        let is_active = serial.is_some_and(|serial| replica.active.contains_key(&serial));
        let is_first = serial.is_some_and(|serial| replica.covered.insert(serial));
        self.check(0, time, is_active && is_first, || {
            format!(
                "{at} is told that {id:#} has come far enough: active {is_active}, first {is_first}"
            )
        });
    }

    /// Whether a receiver has what its sender counts it as having received, or as not wanting, while they
    /// are connected, and neither has restarted, or was away lately. How many artifacts were compared, and what is wrong.
    pub(in crate::swarm) fn coverage_difference(
        &self,
        time: Time,
        (sender, sending): (usize, &Node),
        (receiver, receiving): (usize, &Node),
    ) -> (u64, Option<String>) {
        let (from, to) = (&self.ids[sender], &self.ids[receiver]);
        let knows = |node: &Node, other: &Node, id: &NodeId| {
            node.incarnation_of(id) == Some(other.incarnation())
        };
        // One that was away may have dropped its tables while the other did nothing.
        let was_away = time.since(self.joined(sender, receiver)) < AWAY;
        if was_away || !knows(sending, receiving, to) || !knows(receiving, sending, from) {
            return (0, None);
        }
        let mut compared = 0;
        let Some(peer) = sending.peer_index(to) else { return (0, None) };
        for serial in self.replicas[sender].active.keys() {
            let made = &self.made[*serial as usize];
            let settled = sending.machine().is_settled_by(made.channel, &made.id, peer);
            let (is_counted, is_declined) = match settled {
                Some([false, false]) | None => continue,
                Some([acknowledged, declined]) => (acknowledged, declined),
            };
            compared += 1;
            let height = self.replicas[receiver].height.load(Relaxed);
            let decision = made.kind.decision(receiver, height);
            let is_pushed =
                made.artifact.bytes().len() <= self.config(made.channel).push_bytes_max as usize;
            // A push that has come counts, whether it has been read or is held for a quota.
            let is_unread = || {
                let has_quota = self.config(made.channel).quota.is_some();
                is_counted && is_pushed && has_quota && self.is_held(receiving, sender)
            };
            let is_true = match receiving.machine().has_bytes(made.channel, &made.id) {
                // It may have declined what it then published itself.
                Some(true) => is_counted || self.replicas[receiver].owned.contains(serial),
                // Pushes come whether they are wanted or not, and whether there is room for them or not.
                Some(false) if is_counted => is_pushed,
                Some(false) => is_declined && decision == Decision::Drop,
                None => self.replicas[receiver].owned.contains(serial) || is_unread(),
            };
            if !is_true {
                let has = receiving.machine().explain(made.channel, &made.id);
                let (id, length) = (made.id, made.artifact.bytes().len());
                let what = if is_counted { "acknowledged" } else { "declined" };
                return (
                    compared,
                    Some(format!(
                        "{sender} counts {id:#} ({length} bytes) as {what} by {receiver}, where it is {has}"
                    )),
                );
            }
        }
        (compared, None)
    }

    /// Whether a receiver is counted as having received, or not wanting, all that a sender has published.
    pub(in crate::swarm) fn is_settled(
        &self,
        (sender, sending): (usize, &Node),
        receiver: usize,
    ) -> bool {
        let Some(peer) = sending.peer_index(&self.ids[receiver]) else { return true };
        self.replicas[sender].active.keys().all(|serial| {
            let made = &self.made[*serial as usize];
            let settled = sending.machine().is_settled_by(made.channel, &made.id, peer);
            settled.is_some_and(|sets| sets.contains(&true))
        })
    }

    /// What a receiver is not counted as having received, or as not wanting, although it has it, or does not
    /// want it.
    pub(in crate::swarm) fn coverage_missing(
        &self,
        (sender, sending): (usize, &Node),
        receiver: usize,
    ) -> Option<String> {
        let peer = sending.peer_index(&self.ids[receiver])?;
        let height = self.replicas[receiver].height.load(Relaxed);
        self.replicas[sender].active.keys().find_map(|serial| {
            let made = &self.made[*serial as usize];
            let coverage = sending.machine().coverage(made.channel, &made.id).unwrap_or_default();
            let is_reached = match threshold(*serial) {
                None => false,
                Some(Threshold::All) => coverage.acknowledged >= coverage.members,
                Some(Threshold::AllBut(but)) => coverage.acknowledged + but >= coverage.members,
                Some(Threshold::Count(count)) => coverage.acknowledged >= count,
            };
            if is_reached && !self.replicas[sender].covered.contains(serial) {
                return Some(format!("{sender} was not told how far {:#} has come", made.id));
            }
            let is_open = made.kind.decision(receiver, height) == Decision::Later;
            let settled = sending.machine().is_settled_by(made.channel, &made.id, peer);
            let is_settled = settled.is_some_and(|sets| sets.contains(&true));
            (!is_open && !is_settled).then(|| {
                format!("{sender} does not know that {receiver} has {:#}, or refuses it", made.id)
            })
        })
    }
}
