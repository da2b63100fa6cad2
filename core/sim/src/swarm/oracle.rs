//! The applications of a run's members, and what must hold between what they did and what they were
//! told. Each check names the invariant that it is for.

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::calls::Calls;
use super::content::{self, Kind, WORD};
use super::plan::Plan;
use super::report::Bytes;
use crate::Crypto;
use crate::{Application, Context, Sent};
use slotcast::artifact::{Artifact, CHUNK_BYTES_MAX};
use slotcast::broadcast::{Candidate, Decision, Event, Threshold};
use slotcast::config::{ChannelConfig, Relay, RouteConfig};
use slotcast::error::PublishError;
use slotcast::id::{ArtifactId, ChannelId, NodeId, RouteId, Slot};
use slotcast::node::{Node, NodeEvent, Request};
use slotcast::rpc::{Outcome, RequestId};
use slotcast::time::Time;
use slotcast::wire::{Item, StreamDecoder, StreamHead, Update};

/// Places in lists by invariant: 1 to 15, and 0 for what the run itself has to hold. (The sixteenth
/// is what the eleventh and twelfth see while calls are made.)
pub(super) const INVARIANTS: usize = 16;

type Name = (ChannelId, ArtifactId);

/// Bytes of a frame that is looked into: longer than any update or chunk.
const FRAME_MAX: usize = 2 * CHUNK_BYTES_MAX;

/// Honest members cause at most one part in so many of the work without progress that is a fault.
const FRUITLESS_MARGIN: u64 = 10;

/// When the publisher of an artifact is to be told how far it has come.
const fn threshold(serial: u32) -> Option<Threshold> {
    match serial % 4 {
        0 => Some(Threshold::All),
        1 => Some(Threshold::AllBut(1)),
        2 => Some(Threshold::Count(1)),
        _ => None,
    }
}

/// After this time, members that were away have connected anew, or not at all.
const AWAY: Duration = Duration::from_secs(2);

/// A slot, as one member tells another of it: sender, receiver, channel.
type Place = (usize, usize, ChannelId, Slot);

/// An artifact that a member has made.
struct Made {
    channel: ChannelId,
    id: ArtifactId,
    kind: Kind,
    artifact: Artifact,
    /// Who published it first, and so never relayed it before.
    maker: usize,
    /// Once fetched, not pushed: an answer has a stream to itself, which ends with an abort.
    is_fetched: bool,
    publishers: BTreeSet<usize>,
    /// By sender and receiver: words sent since the sender was started, up to the furthest.
    sent: Vec<u32>,
    /// Who has aborted it, and has neither published it again nor been brought it to relay. Where
    /// nodes relay before they tell their applications, nobody knows who does.
    aborted_by: BTreeSet<usize>,
}

#[derive(Clone, Copy, Debug)]
struct Active {
    since: Time,
    /// It was active before, in the life of this process.
    again: bool,
}

/// What the application of one member knows.
#[derive(Default)]
struct Replica {
    is_hostile: bool,
    is_running: bool,
    active: BTreeMap<u32, Active>,
    /// Published since the node was started: need not be brought to it.
    owned: BTreeSet<u32>,
    /// Brought to it and not expired; by whom.
    live: BTreeMap<Name, NodeId>,
    /// When it was last told that its maker had withdrawn an artifact.
    withdrawn: BTreeMap<u32, Time>,
    /// Published, and told that it has come far enough.
    covered: BTreeSet<u32>,
    /// When it last aborted an artifact.
    ended: BTreeMap<u32, Time>,
    /// How far its view has come, which its filter goes by.
    height: Arc<AtomicU32>,
}

/// What was found wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Violation {
    pub(super) invariant: usize,
    pub(super) what: String,
    pub(super) time: Time,
}

/// What was counted.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    pub(super) checks: [u64; INVARIANTS],
    pub(super) published: u64,
    pub(super) aborted: u64,
    pub(super) delivered: u64,
    pub(super) duplicates: u64,
    /// Artifacts of which was compared what their publisher knows of a member with what is so.
    pub(super) covered: u64,
    /// Nanoseconds from the first publishing to a delivery.
    pub(super) latencies: Vec<u64>,
    pub(super) bytes: Bytes,
    /// The most pieces of work of an honest member at another one, at a time, that brought nothing.
    pub(super) fruitless_peak: u64,
}

pub(super) struct Oracle {
    ids: Vec<NodeId>,
    places: BTreeMap<NodeId, usize>,
    channels: Vec<ChannelConfig>,
    routes: Vec<RouteConfig>,
    filtered: bool,
    is_readable: bool,
    replicas: Vec<Replica>,
    made: Vec<Made>,
    serials: BTreeMap<Name, u32>,
    /// By two members: since when each has known the other without a restart or a leave.
    joined: Vec<Time>,
    /// What was last told of a slot, and when: what its sender has published.
    told: BTreeMap<Place, (u32, Time)>,
    pub(super) calls: Calls,
    pub(super) counts: Counts,
    pub(super) violation: Option<Violation>,
}

impl Oracle {
    pub(super) fn new(plan: &Plan, ids: Vec<NodeId>, hostile: &[usize]) -> Self {
        let count = ids.len();
        let replica = |at| Replica { is_hostile: hostile.contains(&at), ..Replica::default() };
        Self {
            places: ids.iter().enumerate().map(|(at, id)| (*id, at)).collect(),
            ids,
            channels: plan.config.channels.clone(),
            filtered: plan.workload.filtered,
            is_readable: plan.crypto == Crypto::Null,
            replicas: (0..count).map(replica).collect(),
            made: Vec::new(),
            serials: BTreeMap::new(),
            joined: std::vec![Time::ZERO; count * count],
            told: BTreeMap::new(),
            calls: Calls::default(),
            routes: plan.config.routes.clone(),
            counts: Counts::default(),
            violation: None,
        }
    }

    /// Counts a check; what is wrong ends the run.
    pub(super) fn check(
        &mut self,
        invariant: usize,
        time: Time,
        holds: bool,
        what: impl FnOnce() -> String,
    ) {
        self.counts.checks[invariant] += 1;
        if !holds && self.violation.is_none() {
            self.violation = Some(Violation { invariant, what: what(), time });
        }
    }

    fn config(&self, channel: ChannelId) -> &ChannelConfig {
        let config = self.channels.iter().find(|config| config.id == channel);
        config.expect("channels of the plan")
    }

    pub(super) fn honest(&self) -> impl Iterator<Item = usize> {
        (0..self.replicas.len()).filter(|at| !self.replicas[*at].is_hostile)
    }

    pub(super) fn running(&self) -> impl Iterator<Item = usize> {
        self.honest().filter(|at| self.replicas[*at].is_running)
    }

    /// Two members do not know each other any more, or anew.
    pub(super) fn part(&mut self, at: usize, time: Time) {
        let count = self.ids.len();
        for other in 0..count {
            self.joined[at * count + other] = time;
            self.joined[other * count + at] = time;
        }
    }

    fn joined(&self, a: usize, b: usize) -> Time {
        self.joined[a * self.ids.len() + b]
    }

    pub(super) fn crashed(&mut self, at: usize, forgets: bool) {
        let replica = &mut self.replicas[at];
        replica.is_running = false;
        if forgets {
            replica.active.clear();
        }
    }

    // What the applications do.

    /// Makes an artifact and publishes it.
    pub(super) fn publish_new(
        &mut self,
        node: &mut Context<'_>,
        channel: ChannelId,
        kind: Kind,
        length: usize,
    ) {
        let serial = self.made.len() as u32;
        let kind = if self.filtered { kind } else { Kind::Wanted(Default::default()) };
        let artifact = content::artifact(channel, serial, kind, length);
        let (id, count) = (artifact.id(), self.ids.len());
        let config = self.config(channel);
        self.made.push(Made {
            channel,
            id,
            kind,
            is_fetched: length > config.push_bytes_max as usize && !config.latency_sensitive,
            artifact,
            maker: node.at(),
            publishers: BTreeSet::new(),
            sent: std::vec![0; count * count],
            aborted_by: BTreeSet::new(),
        });
        self.serials.insert((channel, id), serial);
        self.publish(node, serial);
    }

    /// Publishes an artifact, and compares the answer with what must be answered (invariant 1).
    pub(super) fn publish(&mut self, node: &mut Context<'_>, serial: u32) {
        let (at, time) = (node.at(), node.time());
        let made = &self.made[serial as usize];
        let (channel, length) = (made.channel, made.artifact.bytes().len() as u64);
        let config = self.config(channel);
        let own = || {
            let active = self.replicas[at].active.keys();
            active.map(|serial| &self.made[*serial as usize]).filter(|own| own.channel == channel)
        };
        let bytes: u64 = own().map(|made| made.artifact.bytes().len() as u64).sum();
        let expected = if self.replicas[at].active.contains_key(&serial) {
            Ok(())
        } else if own().count() >= config.publish_slots_max() as usize {
            Err(PublishError::OutboxFull)
        } else if bytes + length > config.active_bytes_max {
            Err(PublishError::ActiveBytesExceeded)
        } else {
            Ok(())
        };
        let answer = match threshold(serial) {
            None => node.publish(channel, made.artifact.clone()),
            Some(threshold) => node.publish_covered(channel, made.artifact.clone(), threshold),
        };
        self.check(1, time, answer == expected, || {
            format!("publish at {at} answers {answer:?} instead of {expected:?}")
        });
        if answer.is_err() {
            return;
        }
        let made = &mut self.made[serial as usize];
        self.counts.published += u64::from(made.publishers.insert(at));
        made.aborted_by.remove(&at);
        let replica = &mut self.replicas[at];
        let again = replica.ended.contains_key(&serial);
        replica.active.entry(serial).or_insert(Active { since: time, again });
        // What was published already is told of once more.
        replica.covered.remove(&serial);
        replica.owned.insert(serial);
    }

    pub(super) fn abort(&mut self, node: &mut Context<'_>, serial: u32) {
        let (at, time) = (node.at(), node.time());
        let made = &self.made[serial as usize];
        let was_active = node.abort(made.channel, &made.id);
        self.check(1, time, was_active, || format!("abort at {at} finds nothing"));
        if self.config(self.made[serial as usize].channel).relay != Relay::Automatic {
            self.made[serial as usize].aborted_by.insert(at);
        }
        self.replicas[at].active.remove(&serial);
        self.replicas[at].covered.remove(&serial);
        self.replicas[at].ended.insert(serial, time);
        self.counts.aborted += 1;
    }

    /// What a member has active, in the order of making.
    pub(super) fn active(&self, at: usize) -> impl DoubleEndedIterator<Item = u32> {
        self.replicas[at].active.keys().copied()
    }

    /// Bytes of what is [`missing`](Self::missing), by sender and receiver.
    pub(super) fn missing_bytes(&self) -> BTreeMap<(usize, usize), u64> {
        let mut bytes = BTreeMap::new();
        for (receiver, sender, name) in self.missing() {
            let made = &self.made[self.serials[&name] as usize];
            *bytes.entry((sender, receiver)).or_default() += made.artifact.bytes().len() as u64;
        }
        bytes
    }

    /// Lets a member's view come to a height.
    pub(super) fn advance(&mut self, node: &mut Context<'_>, height: u32) {
        self.replicas[node.at()].height.fetch_max(height, Relaxed);
        for at in 0..self.channels.len() {
            node.reconsider(self.channels[at].id);
        }
    }

    // What they were told.

    fn delivered(
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

    fn withdrawn(&mut self, at: usize, time: Time, name: Name, by: &NodeId) {
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

    fn expired(&mut self, at: usize, time: Time, name: Name) {
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

    fn covered(&mut self, at: usize, time: Time, name: Name) {
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

    // What must hold at any time, and in the end.

    /// Looks at a node that has nothing to do at present.
    pub(super) fn inspect(&mut self, time: Time, at: usize, node: &Node, may_be_deaf: bool) {
        node.machine().assert_invariants();
        if !may_be_deaf {
            let advertised = |(channel, id): &&Name| !node.machine().is_advertised(*channel, id);
            let gone = self.replicas[at].live.keys().find(advertised).copied();
            self.check(5, time, gone.is_none(), || {
                format!("{at} was not told that {gone:?} expired")
            });
        }
        let members = node.membership();
        let stranger = node.peers_up().find(|peer| members.addresses(peer).is_none());
        self.check(10, time, stranger.is_none(), || format!("{at} is connected to {stranger:?}"));
        self.inspect_work(time, at, node);
    }

    /// Honest members stay far below what is a fault.
    fn inspect_work(&mut self, time: Time, at: usize, node: &Node) {
        let most = u64::from(node.config().work.fruitless_max) / FRUITLESS_MARGIN;
        for (peer, peak) in node.fruitless_peaks() {
            let place = self.places.get(&peer).copied();
            if place.is_some_and(|place| self.replicas[place].is_hostile) {
                continue;
            }
            self.counts.fruitless_peak = self.counts.fruitless_peak.max(peak);
            self.check(9, time, peak <= most, || {
                format!("{peak} pieces of work of {place:?} have brought nothing to {at}")
            });
        }
    }

    /// What honest members have active and another honest one should have been brought and was not:
    /// receiver, sender and artifact.
    pub(super) fn missing(&self) -> impl Iterator<Item = (usize, usize, Name)> {
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

    fn has_or_refuses(&self, at: usize, serial: u32) -> bool {
        let (made, replica) = (&self.made[serial as usize], &self.replicas[at]);
        let decision = made.kind.decision(at, replica.height.load(Relaxed));
        replica.live.contains_key(&(made.channel, made.id))
            || replica.owned.contains(&serial)
            || !matches!(decision, Decision::Fetch(_))
    }

    /// Deliveries that are due now.
    pub(super) fn due(&self) -> u64 {
        let active: usize = self.running().map(|at| self.replicas[at].active.len()).sum();
        (active * self.running().count().saturating_sub(1)) as u64
    }

    /// What members were brought that no honest one has active.
    pub(super) fn left_over(&self) -> impl Iterator<Item = (usize, Name)> {
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
    pub(super) fn table_difference(
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

    /// Whether a receiver has what its sender counts it as having received, or as not wanting, while they
    /// are connected, and neither has restarted, or was away lately. How many artifacts were compared, and what is wrong.
    pub(super) fn coverage_difference(
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

    /// Whether a node leaves something of a member unread for a quota.
    pub(super) fn is_held(&self, node: &Node, member: usize) -> bool {
        let peers = node.snapshot(Time::ZERO).peers;
        let of_member = peers.iter().filter(|peer| peer.id == self.ids[member]);
        of_member.filter_map(|peer| peer.link.as_ref()).any(|link| link.held_channels > 0)
    }

    /// Whether a node leaves something of an honest member unread for a quota, or keeps something back for the
    /// quota of one.
    pub(super) fn holds_up(&self, node: &Node) -> bool {
        node.snapshot(Time::ZERO).peers.iter().any(|peer| {
            let is_hostile = self.replicas[self.places[&peer.id]].is_hostile;
            let is_held = || peer.link.as_ref().is_some_and(|link| link.held_channels > 0);
            !is_hostile && (peer.paced_channels > 0 || is_held())
        })
    }

    /// Whether a receiver is counted as having received, or not wanting, all that a sender has published.
    pub(super) fn is_settled(&self, (sender, sending): (usize, &Node), receiver: usize) -> bool {
        let Some(peer) = sending.peer_index(&self.ids[receiver]) else { return true };
        self.replicas[sender].active.keys().all(|serial| {
            let made = &self.made[*serial as usize];
            let settled = sending.machine().is_settled_by(made.channel, &made.id, peer);
            settled.is_some_and(|sets| sets.contains(&true))
        })
    }

    /// What a receiver is not counted as having received, or as not wanting, although it has it, or does not
    /// want it.
    pub(super) fn coverage_missing(
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

    /// Updates of an honest member's table. In an epoch, which begins with a snapshot, a slot is told
    /// again only if it was aborted in between (invariant 2). Relays come and go unseen.
    fn check_updates(&mut self, written: &Sent<'_>) {
        let (from, to, time) = (written.from, written.to, written.time);
        let mut decoder = StreamDecoder::new(FRAME_MAX);
        let (mut bytes, mut channel) = (written.bytes, None);
        while let Ok(Some(item)) = decoder.next(&mut bytes) {
            let (kind, body, channel) = match (item, channel) {
                (Item::Head(StreamHead::Updates(of)), _) => {
                    channel = Some(of);
                    continue;
                }
                (Item::Frame { kind, body }, Some(channel)) => (kind, body, channel),
                _ => return,
            };
            let update = Update::decode(kind, body).ok().flatten();
            let (slot, id) = match &update {
                Some(Update::Snapshot { .. }) => {
                    let is_older =
                        |place: &Place| (place.0, place.1, place.2) == (from, to, channel);
                    self.told.retain(|place, _| !is_older(place));
                    continue;
                }
                Some(Update::Push { slot, hops: 0, key, metadata, bytes, .. }) => {
                    let artifact = Artifact::keyed(*key, bytes.to_vec().into(), metadata);
                    (*slot, Some(artifact.expect("within bounds").id()))
                }
                Some(Update::Advert { slot, hops: 0, advert, .. }) => (*slot, Some(advert.id())),
                Some(
                    Update::Clear { slot, .. }
                    | Update::Push { slot, .. }
                    | Update::Advert { slot, .. }
                    | Update::Partial { slot, .. }
                    | Update::Unknown { slot, .. },
                ) => (*slot, None),
                None => continue,
            };
            let place = (from, to, channel, slot);
            let was = self.told.remove(&place);
            let serial = id.and_then(|id| self.serials.get(&(channel, id)).copied());
            let Some(serial) = serial else { continue };
            self.told.insert(place, (serial, time));
            let ended = self.replicas[from].ended.get(&serial).copied();
            let again = was.filter(|(told, _)| *told == serial);
            let is_news = again.is_none_or(|(_, since)| ended.is_some_and(|end| end >= since));
            self.check(2, time, is_news, || {
                format!("{from} tells {to} again of {slot:?}, channel {}", channel.0)
            });
        }
    }

    /// A datagram of an honest member: whose bytes it carries. Those of a fetched artifact have a
    /// stream of their own, which ends with the abort.
    fn count_content(&mut self, sent: &Sent<'_>) {
        let (from, to) = (sent.from, sent.to);
        let mut content = 0;
        for (serial, word) in content::words(sent.bytes) {
            let Some(made) = self.made.get_mut(serial as usize) else { continue };
            content += WORD as u64;
            let progress = &mut made.sent[from * self.ids.len() + to];
            let is_new = word >= *progress;
            *progress = (*progress).max(word + 1);
            let bytes = &mut self.counts.bytes;
            if made.aborted_by.contains(&from) {
                bytes.aborted += WORD as u64;
                let (id, is_fetched) = (made.id, made.is_fetched);
                self.check(3, sent.time, !is_fetched, || {
                    format!("{from} sends {to} word {word} of {id:#}, which it has aborted")
                });
            } else if is_new {
                bytes.useful += WORD as u64;
            } else {
                bytes.duplicate += WORD as u64;
            }
        }
        self.counts.bytes.control += (sent.bytes.len() as u64).saturating_sub(content);
    }
}

impl Application for Oracle {
    fn start(&mut self, node: &mut Context<'_>) {
        let (at, time) = (node.at(), node.time());
        self.part(at, time);
        self.forget_calls(at);
        for route in &self.routes {
            node.serve(route.id, true);
        }
        let replica = &mut self.replicas[at];
        replica.is_running = true;
        replica.live.clear();
        replica.withdrawn.clear();
        replica.ended.clear();
        replica.covered.clear();
        replica.owned.clear();
        let height = replica.height.clone();
        let active = core::mem::take(&mut replica.active);
        for config in &self.channels {
            let height = height.clone();
            let filter = move |candidate: &Candidate<'_>| {
                content::decide(candidate, at, height.load(Relaxed))
            };
            node.node_mut().set_filter(config.id, Box::new(filter));
        }
        let count = self.ids.len();
        for made in &mut self.made {
            made.aborted_by.remove(&at);
            made.sent[at * count..][..count].fill(0);
        }
        // The application knows what it has to publish again.
        for serial in active.into_keys() {
            self.publish(node, serial);
        }
    }

    fn handle_event(&mut self, node: &mut Context<'_>, channel: ChannelId, event: Event) {
        let (at, time) = (node.at(), node.time());
        match event {
            Event::Delivered { artifact, from } => self.delivered(node, channel, artifact, from),
            Event::Withdrawn { id, by } => self.withdrawn(at, time, (channel, id), &by),
            Event::Expired { id } => self.expired(at, time, (channel, id)),
            Event::Covered { id, .. } => self.covered(at, time, (channel, id)),
            event => panic!("not known to these checks: {event:?}"),
        }
    }

    fn handle_request(&mut self, node: &mut Context<'_>, route: RouteId, request: Request) {
        let config = self.routes.iter().find(|config| config.id == route);
        let config = config.expect("routes of the plan").clone();
        self.requested(node, &config, request);
    }

    fn handle_cancelled(&mut self, node: &mut Context<'_>, request: RequestId) {
        self.request_cancelled(node, request);
    }

    fn handle_outcome(&mut self, node: &mut Context<'_>, outcome: Outcome) {
        self.call_ended(node, outcome);
    }

    fn handle_node_event(&mut self, node: &mut Context<'_>, event: NodeEvent) {
        let (at, time) = (node.at(), node.time());
        match event {
            NodeEvent::Fault { peer, fault, .. } => {
                let place = self.places.get(&peer).copied();
                let is_hostile = place.is_some_and(|place| self.replicas[place].is_hostile);
                self.check(8, time, is_hostile, || {
                    format!("{at} accuses {place:?}, which is honest: {fault}")
                });
            }
            // There are no sockets here.
            NodeEvent::SocketErrors { .. } | NodeEvent::SocketBuffers(_) => unreachable!(),
            NodeEvent::Up { .. }
            | NodeEvent::Down { .. }
            | NodeEvent::Behind { .. }
            | NodeEvent::CaughtUp { .. }
            | NodeEvent::Refused { .. } => {}
            // No two processes have the same key here, except as hostile members claim.
            NodeEvent::Twin { peer } | NodeEvent::KeyInUse { told_by: peer } => {
                let place = self.places.get(&peer).copied();
                let is_hostile = place.is_some_and(|place| self.replicas[place].is_hostile);
                self.check(10, time, is_hostile, || format!("{at} takes a restart for a twin"));
            }
            event => panic!("not known to these checks: {event:?}"),
        }
    }

    fn watches_written(&self) -> bool {
        true
    }

    fn handle_written(&mut self, written: &Sent<'_>) {
        let (from, to, time) = (written.from, written.to, written.time);
        self.check_updates(written);
        for (serial, _) in content::words(written.bytes) {
            let Some(made) = self.made.get(serial as usize) else { continue };
            let (id, is_current) = (made.id, !made.aborted_by.contains(&from));
            self.check(3, time, is_current, || {
                format!("{from} encodes {id:#} for {to}, which it has aborted")
            });
        }
    }

    fn handle_sent(&mut self, sent: &Sent<'_>) {
        let is_hostile = self.replicas.get(sent.from).is_none_or(|replica| replica.is_hostile);
        if is_hostile {
            self.counts.bytes.hostile += sent.bytes.len() as u64;
        } else if self.is_readable && sent.to < self.ids.len() {
            self.count_content(sent);
        } else {
            self.counts.bytes.control += sent.bytes.len() as u64;
        }
    }
}
