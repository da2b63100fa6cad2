//! What a [`Broadcast`](slotcast::broadcast::Broadcast) must be after any inputs, said as plainly as
//! possible: maps and sets, no cleverness (DESIGN, sections 4 and 5). One value is one channel.

use std::collections::{BTreeMap, BTreeSet};

use super::pool::{self, Art};
use slotcast::artifact::ArtifactError;
use slotcast::broadcast::{Decision, Event};
use slotcast::config::{ChannelConfig, Relay};
use slotcast::error::{PublishError, RelayError};
use slotcast::id::{NodeId, Slot};

/// Peers that take part.
pub(super) const PEERS: usize = 2;

/// A relay waits so often at most.
const WAITS_MAX: u8 = 4;

/// What a slot holds: an artifact and its hops.
pub(super) type Held = Option<(Art, u8)>;

/// What a slot of a peer is said to hold.
#[derive(Clone, Debug)]
pub(super) struct Content {
    pub(super) art: Art,
    pub(super) hops: u8,
    /// The chunks that the peer has, if not all.
    pub(super) have: Option<BTreeSet<u32>>,
    /// The bytes came along, from this node, and there is room for them.
    pub(super) pushed: Option<NodeId>,
}

/// What a peer said of its slots.
#[derive(Clone, Default, Debug)]
pub(super) struct Heard {
    /// What the peer has of the artifacts of which it said that it has a part.
    parts: BTreeMap<Art, BTreeSet<u32>>,
    /// Slot: version and content, as heard in the present epoch.
    pub(super) slots: BTreeMap<u32, (u64, Held)>,
    /// Slot: content, as heard before and not yet confirmed.
    stale: BTreeMap<u32, (Art, u8)>,
    /// Slots of the snapshot, if there was one, that have not been heard of.
    awaited: Option<BTreeSet<u32>>,
}

impl Heard {
    fn entries(&self) -> impl Iterator<Item = (Art, u8)> {
        self.slots.values().filter_map(|(_, held)| *held).chain(self.stale.values().copied())
    }

    pub(super) fn holds(&self, art: Art) -> bool {
        self.entries().any(|(held, _)| held == art)
    }

    pub(super) fn holds_whole(&self, art: Art) -> bool {
        self.holds(art) && !self.parts.contains_key(&art)
    }

    pub(super) fn has_chunk(&self, art: Art, chunk: u32) -> bool {
        self.holds(art) && self.parts.get(&art).is_none_or(|part| part.contains(&chunk))
    }

    fn set_part(&mut self, art: Art, have: Option<BTreeSet<u32>>) {
        match have {
            Some(have) => drop(self.parts.insert(art, have)),
            None => drop(self.parts.remove(&art)),
        }
    }

    /// Forgets what was said of artifacts that are in no slot any more.
    fn forget_parts(&mut self) {
        let held: BTreeSet<Art> = self.entries().map(|(art, _)| art).collect();
        self.parts.retain(|art, _| held.contains(art));
    }
}

/// Where an artifact stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// The filter said so.
    Later,
    /// The bytes are to be got.
    Wanted,
    /// The filter said so.
    Dropped,
    /// The bytes are there, from this node, and must be delivered.
    Ready(NodeId),
    /// Delivered, or this node's own.
    Done,
}

#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) step: Step,
    pub(super) delivered: bool,
    /// It had expired, and the application was not told, when it was advertised again.
    expiry_due: bool,
    /// Who withdrew it since, and the application was not told.
    withdrawn: BTreeSet<usize>,
}

#[derive(Debug)]
pub(super) struct Channel {
    pub(super) config: ChannelConfig,
    pub(super) heard: [Heard; PEERS],
    pub(super) known: BTreeMap<Art, Known>,
    /// What this node advertises in its slots, with the hops.
    pub(super) own: BTreeMap<u32, (Art, u8)>,
    /// Relays in slots that wait for a holder nearer to the publisher, those first that have waited longest.
    dormant: Vec<(u32, (Art, u8))>,
    /// How often the relays have waited.
    waits: BTreeMap<Art, u8>,
    /// Relays of which only a part is here.
    parts: BTreeSet<Art>,
    /// The names of published artifacts that have some.
    names: BTreeMap<Art, u32>,
}

impl Channel {
    pub(super) fn new(config: ChannelConfig) -> Self {
        Self {
            config,
            heard: Default::default(),
            known: BTreeMap::new(),
            own: BTreeMap::new(),
            dormant: Vec::new(),
            waits: BTreeMap::new(),
            parts: BTreeSet::new(),
            names: BTreeMap::new(),
        }
    }

    /// The slot's newest version in this epoch; 0 if it was not heard of.
    pub(super) fn version(&self, peer: usize, slot: u32) -> u64 {
        self.heard[peer].slots.get(&slot).map_or(0, |(version, _)| *version)
    }

    pub(super) fn is_advertised(&self, art: Art) -> bool {
        self.heard.iter().any(|heard| heard.holds(art))
    }

    fn nearest(&self, art: Art) -> Option<u8> {
        let entries = self.heard.iter().flat_map(Heard::entries);
        entries.filter(|(held, _)| *held == art).map(|(_, hops)| hops).min()
    }

    pub(super) fn own_slot(&self, art: Art) -> Option<u32> {
        self.own.iter().find(|(_, (held, _))| *held == art).map(|(slot, _)| *slot)
    }

    fn dormant(&self, art: Art) -> Option<usize> {
        self.dormant.iter().position(|(_, (held, _))| *held == art)
    }

    /// Whether an artifact is in a slot, advertised or not.
    pub(super) fn has_slot(&self, art: Art) -> bool {
        self.own_slot(art).is_some() || self.dormant(art).is_some()
    }

    /// A relay is of all of the artifact, or only of a part.
    pub(super) fn set_is_part(&mut self, art: Art, is_part: bool) {
        match is_part {
            true => self.parts.insert(art),
            false => self.parts.remove(&art),
        };
    }

    // What a peer says.

    /// Whether an update is newer than its slot, and names an artifact that another slot held or will
    /// hold in a version too near for both to be true.
    pub(super) fn is_in_two_slots(&self, peer: usize, slot: u32, version: u64, art: Art) -> bool {
        let other = self.version_of(peer, art).filter(|(other, _)| *other != slot);
        let is_near = other.is_some_and(|(_, other)| other.abs_diff(version) < 2);
        self.version(peer, slot) < version && is_near
    }

    /// The slot of a peer that holds an artifact, as heard in the present epoch, and its version.
    fn version_of(&self, peer: usize, art: Art) -> Option<(u32, u64)> {
        let mut slots = self.heard[peer].slots.iter();
        let holds = |held: &Held| held.is_some_and(|(held, _)| held == art);
        slots.find(|(_, (_, held))| holds(held)).map(|(slot, (version, _))| (*slot, *version))
    }

    /// A member has an artifact in one slot at a time: the newest that it named.
    fn move_here(&mut self, peer: usize, slot: u32, version: u64, content: Held) -> Held {
        let (art, _) = content?;
        let heard = &mut self.heard[peer];
        heard.stale.retain(|_, (held, _)| *held != art);
        match self.version_of(peer, art) {
            Some((other, newer)) if other != slot && newer > version => return None,
            Some((other, older)) if other != slot => {
                self.heard[peer].slots.insert(other, (older, None));
            }
            _ => {}
        }
        content
    }

    /// A slot of a peer holds `content` now.
    pub(super) fn update(
        &mut self,
        peer: usize,
        slot: u32,
        version: u64,
        content: Option<Content>,
        decide: impl Fn(Art) -> Decision,
    ) {
        if self.version(peer, slot) >= version {
            return;
        }
        let before = self.held_by(peer);
        let was_advertised =
            content.as_ref().is_some_and(|content| self.is_advertised(content.art));
        let held = content.as_ref().map(|content| (content.art, content.hops));
        let held = self.move_here(peer, slot, version, held);
        let heard = &mut self.heard[peer];
        heard.slots.insert(slot, (version, held));
        if let Some(content) = content.as_ref().filter(|_| held.is_some()) {
            heard.set_part(content.art, content.have.clone());
        }
        if let Some(awaited) = &mut self.heard[peer].awaited {
            awaited.remove(&slot);
        }
        if let Some(Content { art, pushed, .. }) = content {
            let is_own = self.has_slot(art);
            let step = if is_own { Step::Done } else { Step::of(decide(art)) };
            let born =
                || Known { step, delivered: false, expiry_due: false, withdrawn: BTreeSet::new() };
            let known = self.known.entry(art).or_insert_with(born);
            if known.delivered && !was_advertised {
                (known.step, known.delivered, known.expiry_due) = (step, false, true);
                known.withdrawn.clear();
            }
            known.withdrawn.remove(&peer);
            if let Some(from) = pushed
                && known.step == Step::Wanted
            {
                self.ready(art, from);
            }
        }
        self.confirm(peer);
        self.settle(peer, &before, true);
    }

    pub(super) fn snapshot(&mut self, peer: usize, live: impl Iterator<Item = u32>) {
        let before = self.held_by(peer);
        let heard = &mut self.heard[peer];
        let unheard = live.filter(|slot| !heard.slots.contains_key(slot)).collect();
        heard.awaited = Some(unheard);
        self.confirm(peer);
        self.settle(peer, &before, true);
    }

    pub(super) fn has_snapshot(&self, peer: usize) -> bool {
        self.heard[peer].awaited.is_some()
    }

    /// What an earlier epoch left counts no more, once all that was live has been heard of.
    fn confirm(&mut self, peer: usize) {
        if self.heard[peer].awaited.as_ref().is_some_and(BTreeSet::is_empty) {
            self.heard[peer].stale.clear();
        }
    }

    /// A new epoch: what was heard is stale, and replaces what was stale in slots heard of.
    pub(super) fn begin_epoch(&mut self, peer: usize) {
        let before = self.held_by(peer);
        let heard = &mut self.heard[peer];
        heard.awaited = None;
        for (slot, (_, held)) in core::mem::take(&mut heard.slots) {
            match held {
                Some(held) => heard.stale.insert(slot, held),
                None => heard.stale.remove(&slot),
            };
        }
        self.settle(peer, &before, true);
    }

    pub(super) fn remove_peer(&mut self, peer: usize) {
        let before = self.held_by(peer);
        self.heard[peer] = Heard::default();
        self.settle(peer, &before, false);
        self.known.values_mut().for_each(|known| {
            known.withdrawn.remove(&peer);
        });
    }

    /// Each artifact is in one slot: in the order of these, what is stale last.
    fn held_by(&self, peer: usize) -> Vec<Art> {
        self.heard[peer].entries().map(|(art, _)| art).collect()
    }

    /// What follows from a peer's holding less than `before`.
    fn settle(&mut self, peer: usize, before: &[Art], is_member: bool) {
        self.heard[peer].forget_parts();
        let after = self.held_by(peer);
        let gone: Vec<Art> = before.iter().filter(|art| !after.contains(art)).copied().collect();
        for art in &gone {
            let known = self.known.get_mut(art).expect("held until now");
            let is_held = self.heard.iter().any(|heard| heard.holds(*art));
            if known.delivered && !is_held {
                known.withdrawn.clear();
            } else if known.delivered && is_member {
                known.withdrawn.insert(peer);
            }
            if known.delivered || is_held {
                continue;
            }
            if known.expiry_due {
                (known.step, known.delivered, known.expiry_due) = (Step::Done, true, false);
            } else {
                self.known.remove(art);
            }
        }
        after.into_iter().chain(gone).for_each(|art| self.check_relay(art));
    }

    /// A relay is advertised only as long as a holder nearer to the publisher does. As long as any does, a
    /// whole one waits for that.
    fn check_relay(&mut self, art: Art) {
        let nearest = self.nearest(art);
        let is_near = |hops: u8| nearest.is_some_and(|nearest| nearest < hops);
        if let Some(slot) = self.own_slot(art)
            && let (_, hops) = self.own[&slot]
            && hops > 0
            && !is_near(hops)
        {
            self.own.remove(&slot);
            let waits = self.waits.entry(art).or_default();
            if nearest.is_some() && !self.parts.remove(&art) && *waits < WAITS_MAX {
                *waits += 1;
                self.dormant.push((slot, (art, hops)));
            }
        } else if let Some(at) = self.dormant(art) {
            let (slot, (_, hops)) = self.dormant[at];
            if is_near(hops) || nearest.is_none() {
                self.dormant.remove(at);
            }
            if is_near(hops) {
                self.own.insert(slot, (art, hops));
            }
        }
    }

    // What happens here.

    /// The bytes of a wanted artifact are there.
    pub(super) fn ready(&mut self, art: Art, from: NodeId) {
        self.known.get_mut(&art).expect("advertised").step = Step::Ready(from);
        self.parts.remove(&art);
        if self.config.relay == Relay::Automatic {
            let _ = self.relay(art);
        }
    }

    pub(super) fn publish(&mut self, art: Art) -> Result<(), PublishError> {
        if pool::len(art) > self.config.artifact_bytes_max {
            return Err(PublishError::Artifact(ArtifactError::TooLong));
        }
        let published = self.own.values().filter(|(_, hops)| *hops == 0).count() as u32;
        let is_full = published == self.config.publish_slots_max();
        if let Some(at) = self.dormant(art).filter(|_| !is_full) {
            let (slot, _) = self.dormant.remove(at);
            self.own.insert(slot, (art, 0));
            return Ok(());
        }
        if self.dormant(art).is_some() {
            return Err(PublishError::OutboxFull);
        }
        if let Some(slot) = self.own_slot(art) {
            let hops = &mut self.own.get_mut(&slot).expect("by slot").1;
            if *hops > 0 && is_full {
                return Err(PublishError::OutboxFull);
            }
            *hops = 0;
            self.parts.remove(&art);
            return Ok(());
        }
        if is_full {
            return Err(PublishError::OutboxFull);
        }
        if !self.has_room(art) {
            return Err(PublishError::ActiveBytesExceeded);
        }
        self.occupy(art, 0);
        self.own(art);
        Ok(())
    }

    /// Publishes an artifact in place of what has its key and the name.
    pub(super) fn publish_keyed(&mut self, name: u32, art: Art) -> Result<(), PublishError> {
        let Some(key) = pool::key(art) else { return Err(PublishError::NoKey) };
        if pool::len(art) > self.config.artifact_bytes_max {
            return Err(PublishError::Artifact(ArtifactError::TooLong));
        }
        let has_place = |(_, (held, hops)): &(&u32, &(Art, u8))| {
            let has_key = *hops == 0 && pool::key(*held) == Some(key);
            has_key && *held != art && self.names.get(held) == Some(&name)
        };
        let former = self.own.iter().find(has_place).map(|(slot, (held, _))| (*slot, *held));
        match former {
            Some((slot, former)) if !self.has_slot(art) => {
                self.abort(former);
                self.own.insert(slot, (art, 0));
                self.waits.remove(&art);
                self.own(art);
            }
            former => {
                if let Some((_, former)) = former {
                    self.abort(former);
                }
                self.publish(art)?;
            }
        }
        self.names.insert(art, name);
        Ok(())
    }

    pub(super) fn abort_below(&mut self, key: u64) -> usize {
        let is_below = |(art, hops): &&(Art, u8)| {
            *hops == 0 && pool::key(*art).is_some_and(|of_art| of_art < key)
        };
        let below: Vec<Art> = self.own.values().filter(is_below).map(|(art, _)| *art).collect();
        below.iter().filter(|art| self.abort(**art)).count()
    }

    /// This node has an artifact of its own accord.
    pub(super) fn own(&mut self, art: Art) {
        if let Some(known) = self.known.get_mut(&art) {
            known.step = Step::Done;
        }
    }

    pub(super) fn relay(&mut self, art: Art) -> Result<(), RelayError> {
        let hops = self.nearest(art).map_or(u8::MAX, |hops| hops.saturating_add(1));
        if hops > self.config.relay_hops_max {
            return Err(RelayError::NotAdvertised);
        }
        if self.own_slot(art).is_some() {
            return Ok(());
        }
        // It may be relayed from further away than it was.
        if let Some(at) = self.dormant(art) {
            self.dormant.remove(at);
        }
        let relayed = self.own.values().filter(|(_, hops)| *hops > 0).count() as u32;
        if relayed == self.config.relay_slots_max || !self.has_room(art) {
            return Err(RelayError::OutboxFull);
        }
        // What waits gives way.
        if relayed + self.dormant.len() as u32 == self.config.relay_slots_max {
            self.dormant.remove(0);
        }
        self.occupy(art, hops);
        Ok(())
    }

    fn has_room(&self, art: Art) -> bool {
        let active: u64 = self.own.values().map(|(art, _)| pool::len(*art)).sum();
        active + pool::len(art) <= self.config.active_bytes_max
    }

    fn occupy(&mut self, art: Art, hops: u8) {
        let is_taken = |slot: u32| {
            self.own.contains_key(&slot) || self.dormant.iter().any(|(taken, _)| *taken == slot)
        };
        let slot = (0..).find(|slot| !is_taken(*slot)).expect("the lowest free");
        self.own.insert(slot, (art, hops));
        self.waits.remove(&art);
    }

    pub(super) fn abort(&mut self, art: Art) -> bool {
        self.parts.remove(&art);
        self.names.remove(&art);
        if let Some(at) = self.dormant(art) {
            self.dormant.remove(at);
            return true;
        }
        self.own_slot(art).is_some_and(|slot| self.own.remove(&slot).is_some())
    }

    pub(super) fn reconsider(&mut self, decide: impl Fn(Art) -> Decision) {
        for (art, known) in &mut self.known {
            if matches!(known.step, Step::Later | Step::Wanted) {
                known.step = Step::of(decide(*art));
            }
        }
    }

    /// An event was given: it must be possible now.
    pub(super) fn event(&mut self, event: &Event, node_of: impl Fn(usize) -> Option<NodeId>) {
        match event {
            Event::Delivered { artifact, from } => {
                let art = pool::art(&artifact.id());
                assert_eq!(artifact, pool::artifact(art), "invariant 6");
                let known = self.known.get_mut(&art).expect("invariant 5");
                assert_eq!(known.step, Step::Ready(*from), "invariant 7");
                assert!(!known.delivered && !known.expiry_due, "invariant 7");
                (known.step, known.delivered) = (Step::Done, true);
                assert!(self.is_advertised(art), "invariant 5");
            }
            Event::Withdrawn { id, by } => {
                let art = pool::art(id);
                let by = (0..PEERS).find(|peer| node_of(*peer) == Some(*by)).expect("a member");
                assert!(!self.heard[by].holds(art));
                let known = self.known.get_mut(&art).expect("delivered");
                let was_delivered = known.delivered || known.expiry_due;
                assert!(was_delivered && known.withdrawn.remove(&by));
            }
            Event::Expired { id } => {
                let art = pool::art(id);
                let known = self.known.get_mut(&art).expect("delivered");
                assert!(known.withdrawn.is_empty());
                if !core::mem::take(&mut known.expiry_due) {
                    assert!(known.delivered);
                    self.known.remove(&art);
                    assert!(!self.is_advertised(art), "invariant 5");
                }
            }
            event => panic!("not known here: {event:?}"),
        }
    }

    /// Whether the application has to be told anything.
    pub(super) fn has_event(&self) -> bool {
        self.known.iter().any(|(art, known)| {
            matches!(known.step, Step::Ready(_))
                || known.expiry_due
                || known.delivered && (!known.withdrawn.is_empty() || !self.is_advertised(*art))
        })
    }

    /// What a peer's table must show, as `peer_slots` gives it.
    pub(super) fn peer_slots(&self, peer: usize) -> Vec<(Slot, Art)> {
        let filled =
            |(slot, (_, held)): (&u32, &(u64, Held))| held.map(|(art, _)| (Slot(*slot), art));
        self.heard[peer].slots.iter().filter_map(filled).collect()
    }
}

impl Step {
    fn of(decision: Decision) -> Self {
        match decision {
            Decision::Fetch(_) => Self::Wanted,
            Decision::Later => Self::Later,
            Decision::Drop => Self::Dropped,
        }
    }
}
