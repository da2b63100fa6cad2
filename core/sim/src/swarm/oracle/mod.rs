//! The applications of a run's members, and what must hold between what they did and what they were
//! told. Each check names the invariant that it is for. What is checked is in the files `told`, `wire`, `coverage`,
//! `work` and `quotas` at any time, and in `converged` in the end.

mod converged;
mod coverage;
mod quotas;
mod told;
mod wire;
mod work;

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::calls::Calls;
use super::content::{self, Kind};
use super::plan::Plan;
use super::report::Bytes;
use crate::{Application, Context, Crypto, Sent};
use coverage::threshold;
use slotcast::artifact::Artifact;
use slotcast::broadcast::{Candidate, Event};
use slotcast::config::{ChannelConfig, Relay, RouteConfig};
use slotcast::error::PublishError;
use slotcast::id::{ArtifactId, ChannelId, NodeId, RouteId, Slot};
use slotcast::node::{Node, NodeEvent, Request};
use slotcast::rpc::{Outcome, RequestId};
use slotcast::time::Time;

/// Places in lists by invariant: 1 to 15, and 0 for what the run itself has to hold. (The sixteenth
/// is what the eleventh and twelfth see while calls are made.)
pub(super) const INVARIANTS: usize = 16;

type Name = (ChannelId, ArtifactId);

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

    /// Lets a member's view come to a height.
    pub(super) fn advance(&mut self, node: &mut Context<'_>, height: u32) {
        self.replicas[node.at()].height.fetch_max(height, Relaxed);
        for at in 0..self.channels.len() {
            node.reconsider(self.channels[at].id);
        }
    }

    // What must hold at any time.

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
