//! How far what this node has published has come.
//!
//! A member is *told of* an artifact when the update is encoded for it. Then it *acknowledges* the
//! artifact, when it has received all of its bytes, or *declines* it, when its filter does not want it:
//!
//! - Of a push, all bytes have come to the member when QUIC has acknowledged the stream. What the
//!   member's filter decides about a push is not known here.
//! - Of what is advertised, the bytes may come from anybody, so the member says when it has all of them,
//!   or that it declines: [`Request::Receipt`](crate::wire::Request::Receipt). An older member does not.
//! - A member that asks for chunks does not have the artifact, whatever it has acknowledged: it had no
//!   room for a push, or it had put it off.
//!
//! When a member connects again, it may have restarted. It is told of everything anew, and what it has
//! acknowledged before does not count any more.

use super::{Active, Outbox, SlotState};
use crate::broadcast::peer_set::PeerSet;
use crate::broadcast::work;
use crate::id::{ArtifactId, PeerIndex, Slot, Version};

/// How many members an artifact has come to: [`Broadcast::coverage`](crate::broadcast::Broadcast::coverage).
/// None is counted as having received more than is certain, if it is honest: a member can claim to have what it has not.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Coverage {
    /// Members for which it has been encoded, or its advert, in their present or last connection. It may
    /// still be on its way.
    pub told: u16,
    /// Those of them that have received all of its bytes. Of a push, the member's filter may have refused
    /// them, or put them off, or there was no room for them. A member that has crashed since counts until it
    /// connects again.
    pub acknowledged: u16,
    /// Those of them whose filter does not want it, so that it was not fetched.
    pub declined: u16,
    /// All members that this node has a link with, or is to have one: the others of the topologies in use,
    /// or this node's neighbours in an overlay.
    pub members: u16,
}

/// How many members have to have acknowledged an artifact for
/// [`Event::Covered`](crate::broadcast::Event::Covered). Counted are members as in
/// [`Coverage::members`], without this node. A member that declines an artifact, or is down, never counts: then `All` does
/// not come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Threshold {
    /// All of them.
    All,
    /// All but so many: with `f`, this node and they are n - f of n.
    AllBut(u16),
    /// So many.
    Count(u16),
}

impl Threshold {
    const fn is_reached(self, acknowledged: u16, members: u16) -> bool {
        match self {
            Self::All => acknowledged >= members,
            Self::AllBut(missing) => acknowledged >= members.saturating_sub(missing),
            Self::Count(count) => acknowledged >= count,
        }
    }
}

/// The members that an artifact in a slot has come to.
#[derive(Debug, Default)]
pub(super) struct Progress {
    told: PeerSet,
    /// Disjoint subsets of `told`.
    acknowledged: PeerSet,
    declined: PeerSet,
    /// Who has sent a receipt. Requests that it overtook say nothing any more.
    confirmed: PeerSet,
    /// When the application is to be told.
    threshold: Option<Threshold>,
    /// It is to be told now.
    is_due: bool,
}

impl Progress {
    fn settle(&mut self, peer: PeerIndex, is_declined: bool) {
        let (in_set, other) = match is_declined {
            true => (&mut self.declined, &mut self.acknowledged),
            false => (&mut self.acknowledged, &mut self.declined),
        };
        in_set.insert(peer);
        other.remove(peer);
    }

    /// True if it was acknowledged.
    fn reopen(&mut self, peer: PeerIndex) -> bool {
        let is_open = self.acknowledged.contains(peer) && !self.confirmed.contains(peer);
        if is_open {
            self.acknowledged.remove(peer);
        }
        is_open
    }

    fn forget(&mut self, peer: PeerIndex) {
        self.acknowledged.remove(peer);
        self.declined.remove(peer);
        self.confirmed.remove(peer);
        self.told.remove(peer);
    }
}

impl Outbox {
    /// The artifact in a slot, if this node has published it.
    fn published_mut(&mut self, slot: Slot) -> Option<&mut Active> {
        self.active_mut(slot).filter(|active| active.hops == 0)
    }

    /// How far a published artifact has come.
    pub(in crate::broadcast) fn coverage(&self, id: &ArtifactId) -> Option<Coverage> {
        let active = self.active(self.slot_of(id)?).filter(|active| active.hops == 0)?;
        let Progress { told, acknowledged, declined, .. } = &active.progress;
        let [told, acknowledged, declined] =
            [told, acknowledged, declined].map(|set| set.count() as u16);
        Some(Coverage { told, acknowledged, declined, members: self.members })
    }

    /// There are so many members beside this node. Fewer may be enough for what waits: a walk over the
    /// slots, for each member that leaves.
    pub(in crate::broadcast) fn set_members(&mut self, members: u16) {
        if core::mem::replace(&mut self.members, members) > members {
            (0..self.slots.len()).for_each(|at| self.check_threshold(Slot(at as u32)));
        }
    }

    /// The application is to be told when a published artifact has come so far.
    pub(in crate::broadcast) fn set_threshold(&mut self, slot: Slot, threshold: Threshold) {
        if let Some(active) = self.published_mut(slot) {
            active.progress.threshold = Some(threshold);
            self.check_threshold(slot);
        }
    }

    fn check_threshold(&mut self, slot: Slot) {
        let members = self.members;
        let Some(active) = self.published_mut(slot) else { return };
        let inserted = active.inserted;
        let Progress { acknowledged, threshold, is_due, .. } = &mut active.progress;
        let is_reached =
            |threshold: &mut Threshold| threshold.is_reached(acknowledged.count() as u16, members);
        if threshold.take_if(is_reached).is_none() || core::mem::replace(is_due, true) {
            return;
        }
        if self.covered.len() >= 2 * self.slots.len() {
            let slots = &self.slots;
            self.covered.retain(|covered| is_due_at(slots, *covered));
        }
        self.covered.push_back((inserted, slot));
    }

    /// Whether there may be something to tell of artifacts that have come far enough.
    pub(in crate::broadcast) fn has_covered(&self) -> bool {
        !self.covered.is_empty()
    }

    /// The next artifact that has come far enough, and how many members have acknowledged it by now.
    pub(in crate::broadcast) fn take_covered(&mut self) -> Option<(ArtifactId, u16)> {
        loop {
            let covered = self.covered.pop_front()?;
            if is_due_at(&self.slots, covered) {
                let active = self.active_mut(covered.1).expect("it is due");
                active.progress.is_due = false;
                return Some((active.body.id(), active.progress.acknowledged.count() as u16));
            }
        }
    }

    /// What a slot holds was encoded for a peer.
    pub(in crate::broadcast) fn note_told(&mut self, peer: PeerIndex, slot: Slot) {
        if let Some(active) = self.published_mut(slot) {
            active.progress.told.insert(peer);
        }
    }

    /// A peer has received all of a stream in which a slot was pushed, and others.
    pub(in crate::broadcast) fn note_acked(&mut self, peer: PeerIndex, stream: u64, pushed: Slot) {
        let mut next = Some(pushed);
        while let Some(slot) = next {
            next = self.take_pushed(peer, slot);
            // It may have been asked for since.
            if self.last_sent(peer, slot).pushed_in() == Some(stream)
                && let Some(active) = self.published_mut(slot)
            {
                active.progress.settle(peer, false);
                self.check_threshold(slot);
            }
        }
    }

    /// A peer says that it has all of what a slot held at this version, or that it does not want it.
    /// Without effect if the slot has changed since, or the peer was not told of it.
    pub(in crate::broadcast) fn note_receipt(
        &mut self,
        peer: PeerIndex,
        slot: Slot,
        version: Version,
        is_declined: bool,
    ) {
        let is_current =
            self.slots.get(slot.0 as usize).is_some_and(|state| state.version == version.0);
        if is_current
            && let Some(active) = self.published_mut(slot)
            && active.progress.told.contains(peer)
        {
            active.progress.settle(peer, is_declined);
            active.progress.confirmed.insert(peer);
            self.check_threshold(slot);
        }
    }

    /// A peer asks for chunks of what a slot holds. If it was pushed, an acknowledgement of the stream
    /// that comes later does not say that the peer has it, so that this happens once for each push.
    pub(in crate::broadcast) fn note_asked(&mut self, peer: PeerIndex, slot: Slot) {
        let Some(active) = self.published_mut(slot) else { return };
        if active.progress.reopen(peer) {
            self.settled = self.settled.min(self.slots[slot.0 as usize].version - 1);
        }
        self.forget_push(peer, slot);
    }

    /// A peer is told of everything anew, or is no member any more. A walk over the slots, once in a
    /// connection, as that for its snapshot.
    pub(in crate::broadcast) fn forget_progress(&mut self, peer: PeerIndex) {
        let active = self.slots.iter_mut().filter_map(|state| state.active.as_mut());
        active.for_each(|active| active.progress.forget(peer));
    }

    /// Whether everything up to a version that is still published has been acknowledged or declined by all
    /// who are up. What was found to be so is not looked at again: but for what is behind a push that a member
    /// has asked for, and for all of it when a member has come up.
    pub(in crate::broadcast) fn is_flushed(&mut self, until: Version) -> bool {
        let start = self.log.partition_point(|(version, _)| *version <= self.settled);
        for (version, slot) in self.log.range(start..) {
            if *version > until.0 {
                break;
            }
            work::count();
            let state = &self.slots[slot.0 as usize];
            let active = state.active.as_ref().filter(|active| active.hops == 0);
            let is_open = active.is_some_and(|active| {
                let Progress { acknowledged, declined, .. } = &active.progress;
                state.version == *version && !self.up.is_within(acknowledged, declined)
            });
            if is_open {
                return false;
            }
            self.settled = *version;
        }
        true
    }

    #[cfg(feature = "internals")]
    pub(in crate::broadcast) fn is_settled_by(
        &self,
        id: &ArtifactId,
        peer: PeerIndex,
    ) -> Option<[bool; 2]> {
        let active = self.active(self.slot_of(id)?).filter(|active| active.hops == 0)?;
        let Progress { acknowledged, declined, .. } = &active.progress;
        Some([acknowledged, declined].map(|set| set.contains(peer)))
    }

    pub(super) fn assert_progress(&self) {
        for active in self.slots.iter().filter_map(|state| state.active.as_ref()) {
            let Progress { told, acknowledged, declined, .. } = &active.progress;
            assert!(acknowledged.iter().all(|peer| !declined.contains(peer)));
            assert!(acknowledged.is_within(told, told) && declined.is_within(told, told));
        }
        for (at, view) in self.views.iter().enumerate() {
            assert_eq!(view.is_some(), self.up.contains(PeerIndex(at as u16)));
        }
    }
}

/// Whether the application is still to be told of the artifact that came into a slot at this version.
fn is_due_at(slots: &[SlotState], (inserted, slot): (u64, Slot)) -> bool {
    let active = slots[slot.0 as usize].active.as_ref();
    active.is_some_and(|active| active.inserted == inserted && active.progress.is_due)
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use crate::artifact::Artifact;
    use crate::broadcast::{Broadcast, OutStream, Output, SendBuffer, work};
    use crate::config::{ChannelConfig, Config};
    use crate::id::{ChannelId, NodeId, PeerIndex, Slot, Version};
    use crate::time::Time;
    use crate::wire::{Ranges, Request};

    const CHANNEL: ChannelId = ChannelId(1);
    const NOW: Time = Time(1);
    const PEER: PeerIndex = PeerIndex(0);

    fn settle(machine: &mut Broadcast) {
        while !matches!(machine.poll(NOW), Output::Idle { .. }) {}
        machine.assert_invariants();
    }

    /// The stream in which it is pushed.
    fn push(machine: &mut Broadcast, artifact: &Artifact) -> OutStream {
        machine.publish(CHANNEL, artifact.clone()).expect("there is room");
        settle(machine);
        let send = machine.poll_send(NOW, PEER, 10_000, &mut SendBuffer::new());
        send.expect("a push").stream.expect("its stream is tracked")
    }

    fn machine() -> Broadcast {
        let config = Config::new([ChannelConfig::new(CHANNEL)]);
        let mut machine =
            Broadcast::new(&config, NodeId([9; 32]), 7).expect("a valid configuration");
        machine.add_peer(PEER, NodeId([0; 32]));
        machine.peer_up(NOW, PEER, |_| true);
        machine
    }

    fn artifact(number: u8) -> Artifact {
        Artifact::new(alloc::vec![number; 100].into(), b"").expect("within the limits")
    }

    fn ask(machine: &mut Broadcast, artifact: &Artifact) {
        let (channel, id, ranges) = (CHANNEL, artifact.id(), Ranges::from_iter([(0..1).into()]));
        let asked = Request::Fetch { request: artifact.bytes()[0].into(), channel, id, ranges };
        machine.handle_request(NOW, PEER, &asked).expect("no fault");
    }

    /// The flush had come past it when it was acknowledged.
    #[test]
    fn a_flush_waits_for_what_is_asked_for_after_it_was_acknowledged() {
        let mut machine = machine();
        let [first, second] = [1, 2].map(artifact);
        let streams = [&first, &second].map(|artifact| push(&mut machine, artifact));
        let marks = machine.marks();
        machine.handle_acked(PEER, streams[0]);
        assert!(!machine.is_flushed(&marks));
        ask(&mut machine, &first);
        machine.handle_acked(PEER, streams[1]);
        assert!(!machine.is_flushed(&marks), "the first is asked for");
        let (slot, version, is_declined) = (Slot(0), Version(1), false);
        let receipt = Request::Receipt { channel: CHANNEL, slot, version, is_declined };
        machine.handle_request(NOW, PEER, &receipt).expect("no fault");
        assert!(machine.is_flushed(&marks));
    }

    /// A member asks for all that it was pushed, the newest first. Invariant 9.
    #[test]
    fn i9_a_flush_does_not_look_again_at_what_is_older_than_what_is_asked_for() {
        let mut machine = machine();
        let artifacts: Vec<Artifact> = (0..200).map(artifact).collect();
        for artifact in &artifacts {
            let stream = push(&mut machine, artifact);
            machine.handle_acked(PEER, stream);
        }
        push(&mut machine, &artifact(200));
        let marks = [machine.marks(), machine.marks()];
        let looks = |machine: &mut Broadcast| {
            work::of(|| marks.iter().for_each(|marks| assert!(!machine.is_flushed(marks))))
        };
        assert_eq!(looks(&mut machine), 201 + 1, "what one has found holds for the other");
        for artifact in artifacts.iter().rev() {
            ask(&mut machine, artifact);
            assert_eq!(looks(&mut machine), 2);
        }
    }
}
