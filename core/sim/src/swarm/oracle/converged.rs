//! What must be where once all faults have ended.

use core::sync::atomic::Ordering::Relaxed;
use std::collections::{BTreeMap, BTreeSet};

use super::{Name, Oracle};
use slotcast::broadcast::Decision;
use slotcast::id::ArtifactId;
use slotcast::node::Node;

impl Oracle {
    /// What honest members have active and another honest one should have been brought and was not:
    /// receiver, sender and artifact.
    pub(in crate::swarm) fn missing(&self) -> impl Iterator<Item = (usize, usize, Name)> {
        let pairs = self.running().flat_map(|a| self.running().map(move |b| (a, b)));
        let pairs = pairs.filter(|(sender, receiver)| sender != receiver);
        pairs.flat_map(move |(sender, receiver)| {
            let active = self.replicas[sender].active.keys().copied();
            let missing = active.filter(move |serial| !self.has_or_refuses(receiver, *serial));
            missing.map(move |serial| {
                let made = &self.made[serial as usize];
                (receiver, sender, (made.channel, made.id))
            })
        })
    }

    /// Bytes of what is [`missing`](Self::missing), by sender and receiver.
    pub(in crate::swarm) fn missing_bytes(&self) -> BTreeMap<(usize, usize), u64> {
        let mut bytes = BTreeMap::new();
        for (receiver, sender, name) in self.missing() {
            let made = &self.made[self.serials[&name] as usize];
            *bytes.entry((sender, receiver)).or_default() += made.artifact.bytes().len() as u64;
        }
        bytes
    }

    fn has_or_refuses(&self, at: usize, serial: u32) -> bool {
        let (made, replica) = (&self.made[serial as usize], &self.replicas[at]);
        let decision = made.kind.decision(at, replica.height.load(Relaxed));
        replica.live.contains_key(&(made.channel, made.id))
            || replica.owned.contains(&serial)
            || !matches!(decision, Decision::Fetch(_))
    }

    /// Deliveries that are due now.
    pub(in crate::swarm) fn due(&self) -> u64 {
        let active: usize = self.running().map(|at| self.replicas[at].active.len()).sum();
        (active * self.running().count().saturating_sub(1)) as u64
    }

    /// What members were brought that no honest one has active.
    pub(in crate::swarm) fn left_over(&self) -> impl Iterator<Item = (usize, Name)> {
        self.running().flat_map(move |at| {
            let live = self.replicas[at].live.keys();
            live.filter(|name| !self.is_active(name)).map(move |name| (at, *name))
        })
    }

    fn is_active(&self, name: &Name) -> bool {
        let serial = self.serials.get(name);
        serial.is_some_and(|serial| {
            self.running().any(|at| self.replicas[at].active.contains_key(serial))
        })
    }

    /// Whether a receiver's table of a sender says what the sender's slots hold, relays that the
    /// receiver need not hear of aside (invariant 4).
    pub(in crate::swarm) fn table_difference(
        &self,
        (sender, sending): (usize, &Node),
        (receiver, receiving): (usize, &Node),
    ) -> Option<String> {
        let peer = receiving.peer_index(&self.ids[sender])?;
        for config in &self.channels {
            let heard: BTreeMap<_, _> = receiving.machine().peer_slots(peer, config.id).collect();
            for (slot, id) in &heard {
                if sending.machine().own_slot(config.id, *slot) != Some(*id) {
                    return Some(format!(
                        "{receiver} believes {id:#} in {slot:?} of {sender}, channel {}",
                        config.id.0
                    ));
                }
            }
            let held: BTreeSet<ArtifactId> = heard.into_values().collect();
            for serial in self.replicas[sender].active.keys() {
                let made = &self.made[*serial as usize];
                if made.channel == config.id && !held.contains(&made.id) {
                    return Some(format!("{receiver} has not heard of {:#} of {sender}", made.id));
                }
            }
        }
        None
    }
}
