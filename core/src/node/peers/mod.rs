//! The members beside this node: their addresses, and when to dial them. Which events about them have been reported is
//! in `reports`.

mod reports;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use std::vec::Vec;

use quinn_proto::ConnectionHandle;

use super::Closed;
use super::address::canonical;
use super::faults::FaultCount;
use super::incarnations::Incarnations;
use super::progress::FruitlessWork;
use super::usage::Usage;
use crate::config::TransportConfig;
use crate::deadlines::Deadlines;
use crate::error::Fault;
use crate::id::{Arrival, ChannelId, NodeId, PeerIndex};
use crate::membership::Membership;
use crate::random::Random;
use crate::time::Time;
use crate::trace;

/// The member with the higher id dials if it has not been dialled for this long after its start. A
/// peer that has not noticed the restart would otherwise notice it at its next keep-alive only. The
/// time is longer than almost any one-way delay, so that of two members that start together only
/// one dials.
const KNOCK_AFTER: Duration = Duration::from_millis(100);

/// The addresses of a peer are dialled one after the other with this time in between, until one attempt
/// succeeds: the recommended connection attempt delay (RFC 8305, section 5). So an address that does not
/// answer costs this time and no timeout, and one that answers within it is the only one to be dialled.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

pub(super) struct Peer {
    pub(super) node: NodeId,
    pub(super) addresses: Vec<SocketAddr>,
    /// The keys by which it may prove itself.
    pub(super) keys: Vec<NodeId>,
    /// The next address to be dialled.
    next_address: usize,
    /// The one link that is up.
    pub(super) connection: Option<ConnectionHandle>,
    /// All links with it, in the order in which they were made: at most one that is up, and one that the
    /// peer has made and one for each of its addresses that are coming up.
    pub(super) links: Vec<ConnectionHandle>,
    pub(super) up_since: Time,
    /// Dials of ours in progress. As many as it has addresses at most.
    dialling: usize,
    /// Addresses that were dialled in this round, which ends with a pause or a connection.
    attempts: usize,
    /// Whether this node has the lower id and dials at once. Otherwise it dials at a slow rate, in
    /// case the peer cannot reach it.
    dials: bool,
    /// Dials that are to be made beside the connection that is up, since the peer has moved or is silent.
    dials_beside: usize,
    /// When it was found silent, if they are made for that.
    silent_since: Option<Time>,
    /// When to dial next.
    dial_at: Time,
    pause: Duration,
    /// Of the processes that have used its key lately.
    pub(super) incarnations: Incarnations,
    /// A twin is to be reported.
    has_twin: bool,
    /// The next report of one is not due before.
    twin_due: Time,
    /// Rules broken since it was last cut off.
    faults: FaultCount,
    pub(super) fruitless: FruitlessWork,
    /// What it has used over connections that have ended. The link in use has it, if there is one.
    pub(super) used: Usage,
    /// Rules broken since it became a member.
    pub(super) faults_total: u64,
    /// No connection before this.
    pub(super) cut_off_until: Time,
    /// What is to be reported: the last fault, and how often there was one.
    fault: Option<(Fault, u32)>,
    /// The input since which it has something to report.
    reports_since: Option<Arrival>,
    reported_up: bool,
    last_close: Closed,
    /// The channels in which it is behind, and those in which it was reported to be: bit set.
    behind: u64,
    reported_behind: u64,
}

/// The effect of a change of members.
pub(super) struct Followed {
    /// Peers that left: their former indices, which are free again, and their links.
    pub(super) left: Vec<(PeerIndex, Vec<ConnectionHandle>)>,
    /// Peers that joined. Their indices may be those of peers that left.
    pub(super) came: Vec<PeerIndex>,
    /// Peers with other addresses or keys than before.
    pub(super) changed: Vec<PeerIndex>,
}

pub(super) struct Peers {
    /// This node's member id. Of two members, the one with the lower id dials at once.
    own: NodeId,
    by_index: Vec<Option<Peer>>,
    /// When to dial which peer.
    dials: Deadlines,
    by_node: BTreeMap<NodeId, PeerIndex>,
    by_key: BTreeMap<NodeId, PeerIndex>,
    /// The IP addresses from which handshakes are accepted, and whose they are.
    addresses: BTreeMap<IpAddr, Vec<PeerIndex>>,
    /// Peers with something to report, and the input since which there is; a peer is in it once.
    to_report: BTreeSet<(Arrival, u16)>,
    /// Former members that were reported as up, and the input since which they are none. Grows by the
    /// application's own topologies only.
    left: BTreeSet<(Arrival, NodeId)>,
    /// The first member that said that another process uses this node's key, until that is reported.
    own_twin: Option<(Arrival, NodeId)>,
    /// The report is not due before.
    own_twin_due: Time,
    /// The present input.
    pub(super) arrival: Arrival,
    /// How often it has changed who is connected.
    changes: u64,
    jitter: Random,
    channels: Vec<ChannelId>,
}

impl Peers {
    pub(super) fn new(own: NodeId, jitter: Random, channels: Vec<ChannelId>) -> Self {
        Self {
            own,
            channels,
            by_index: Vec::new(),
            dials: Deadlines::new(),
            by_node: BTreeMap::new(),
            by_key: BTreeMap::new(),
            addresses: BTreeMap::new(),
            to_report: BTreeSet::new(),
            left: BTreeSet::new(),
            arrival: Arrival::default(),
            own_twin: None,
            own_twin_due: Time::ZERO,
            changes: 0,
            jitter,
        }
    }

    /// Applies a change: this node, as member `own`, is to be connected to `nodes`. If its member
    /// id has changed, it is another member and drops all former peers.
    pub(super) fn follow(
        &mut self,
        now: Time,
        membership: &Membership,
        own: NodeId,
        nodes: &BTreeSet<NodeId>,
    ) -> Followed {
        let was_other = std::mem::replace(&mut self.own, own) != own;
        let gone = self.by_node.iter().filter(|(node, _)| was_other || !nodes.contains(node));
        let gone: Vec<(NodeId, PeerIndex)> = gone.map(|(node, peer)| (*node, *peer)).collect();
        let (mut left, mut came, mut changed) = (Vec::new(), Vec::new(), Vec::new());
        for (node, peer) in gone {
            self.by_node.remove(&node);
            let known = self.by_index[peer.at()].take().expect("by node");
            if let Some(arrival) = known.reports_since {
                self.to_report.remove(&(arrival, peer.0));
            }
            self.changes += u64::from(known.connection.is_some());
            if known.reported_up {
                self.left.insert((self.arrival, node));
            }
            self.dials.set(peer.at(), Time::NEVER);
            left.push((peer, known.links));
        }
        self.addresses.clear();
        self.by_key.clear();
        for node in nodes.iter().copied() {
            let addresses = membership.addresses(&node).expect("peers are members");
            let addresses: Vec<SocketAddr> = addresses.iter().copied().map(canonical).collect();
            let keys = membership.keys_of(&node).to_vec();
            let ips: Vec<IpAddr> = addresses.iter().map(SocketAddr::ip).collect();
            let peer = match self.find(&node) {
                Some(peer) => {
                    let known = self.peer_mut(peer);
                    if known.addresses != addresses || known.keys != keys {
                        (known.next_address, known.attempts) = (0, 0);
                        (known.addresses, known.keys) = (addresses, keys.clone());
                        changed.push(peer);
                    }
                    peer
                }
                None => {
                    let peer = self.add(now, node, addresses, keys.clone());
                    came.push(peer);
                    peer
                }
            };
            self.by_key.extend(keys.into_iter().map(|key| (key, peer)));
            ips.into_iter().for_each(|ip| self.addresses.entry(ip).or_default().push(peer));
        }
        Followed { left, came, changed }
    }

    fn add(
        &mut self,
        now: Time,
        node: NodeId,
        addresses: Vec<SocketAddr>,
        keys: Vec<NodeId>,
    ) -> PeerIndex {
        let dials = self.own < node;
        let index = self.by_index.iter().position(Option::is_none).unwrap_or(self.by_index.len());
        if index == self.by_index.len() {
            self.by_index.push(None);
        }
        self.by_index[index] = Some(Peer {
            node,
            addresses,
            keys,
            next_address: 0,
            connection: None,
            links: Vec::new(),
            up_since: Time::ZERO,
            dialling: 0,
            attempts: 0,
            dials,
            dials_beside: 0,
            silent_since: None,
            dial_at: if dials { now } else { now + KNOCK_AFTER },
            pause: Duration::ZERO,
            incarnations: Incarnations::default(),
            has_twin: false,
            twin_due: Time::ZERO,
            faults: FaultCount::new(),
            fruitless: FruitlessWork::new(),
            used: Usage::default(),
            faults_total: 0,
            cut_off_until: Time::ZERO,
            fault: None,
            reports_since: None,
            reported_up: false,
            behind: 0,
            reported_behind: 0,
            last_close: Closed::Lost,
        });
        let peer = PeerIndex(index as u16);
        self.by_node.insert(node, peer);
        self.set_dial(peer);
        peer
    }

    /// The peer that a key belongs to.
    pub(super) fn by_key(&self, key: &NodeId) -> Option<PeerIndex> {
        self.by_key.get(key).copied()
    }

    /// The keys of all peers.
    pub(super) fn keys(&self) -> impl Iterator<Item = NodeId> {
        self.by_key.keys().copied()
    }

    /// Dials a peer at once, if this node has the lower id.
    pub(super) fn redial(&mut self, now: Time, peer: PeerIndex) {
        let known = self.peer_mut(peer);
        if known.dials {
            known.dial_at = now;
            known.pause = Duration::ZERO;
            self.set_dial(peer);
        }
    }

    /// Dials the new addresses of a peer in addition to the connection that is up: once each, since
    /// the peer may still be reachable at the old ones.
    pub(super) fn redial_beside(&mut self, now: Time, peer: PeerIndex) {
        let known = self.peer_mut(peer);
        if known.dials {
            known.dials_beside = known.addresses.len();
            known.silent_since = None;
        }
        self.redial(now, peer);
    }

    /// Dials a peer in addition to the connection that is up, since that is silent, whichever side this
    /// node is: it may be that only one of them knows where the other one is.
    pub(super) fn probe(&mut self, now: Time, peer: PeerIndex) {
        let known = self.peer_mut(peer);
        if known.dials_beside > 0 || known.dialling > 0 {
            return;
        }
        known.dials_beside = known.addresses.len();
        known.silent_since = Some(now);
        (known.next_address, known.attempts) = (0, 0);
        known.dial_at = now;
        self.set_dial(peer);
    }

    /// The connection that was silent is heard again: no further address is dialled beside it.
    pub(super) fn end_probe(&mut self, peer: PeerIndex) {
        let known = self.peer_mut(peer);
        // Not those that are made since it has moved.
        if known.silent_since.take().is_some() {
            known.dials_beside = 0;
            self.set_dial(peer);
        }
    }

    pub(super) fn find(&self, node: &NodeId) -> Option<PeerIndex> {
        self.by_node.get(node).copied()
    }

    pub(super) fn is_address_of_member(&self, address: IpAddr) -> bool {
        self.addresses.contains_key(&address)
    }

    /// Whether the address is one of members that are cut off, and of no others.
    pub(super) fn is_address_cut_off(&self, now: Time, address: IpAddr) -> bool {
        // Up to the first one that is not: those are few that are cut off.
        let is_cut_off = |peer: &PeerIndex| self.peer(*peer).cut_off_until > now;
        self.addresses.get(&address).is_some_and(|peers| peers.iter().all(is_cut_off))
    }

    pub(super) fn peer(&self, peer: PeerIndex) -> &Peer {
        self.by_index[peer.at()].as_ref().expect("a member")
    }

    pub(super) fn peer_mut(&mut self, peer: PeerIndex) -> &mut Peer {
        self.by_index[peer.at()].as_mut().expect("a member")
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.by_node.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (PeerIndex, &Peer)> {
        let by_index = self.by_index.iter().enumerate();
        by_index.filter_map(|(at, peer)| Some((PeerIndex(at as u16), peer.as_ref()?)))
    }

    /// When the next peer is to be dialled.
    pub(super) fn dial_at(&self) -> Time {
        self.dials.earliest()
    }

    /// What decides when a peer is to be dialled has changed.
    fn set_dial(&mut self, peer: PeerIndex) {
        self.dials.set(peer.at(), self.peer(peer).dials_at());
    }

    /// There is a further link with a peer.
    pub(super) fn add_link(&mut self, peer: PeerIndex, handle: ConnectionHandle) {
        self.peer_mut(peer).links.push(handle);
    }

    /// A link with a peer has ended.
    pub(super) fn remove_link(&mut self, peer: PeerIndex, handle: ConnectionHandle) {
        self.peer_mut(peer).links.retain(|other| *other != handle);
    }

    /// A dial of this node's has come to an end, good or bad.
    pub(super) fn dial_ended(&mut self, peer: PeerIndex) {
        let known = self.peer_mut(peer);
        known.dialling = known.dialling.saturating_sub(1);
        self.set_dial(peer);
    }

    /// One of the dials to a peer has completed its handshake: no further addresses are dialled.
    pub(super) fn race_ended(&mut self, peer: PeerIndex) {
        let known = self.peer_mut(peer);
        known.attempts = known.addresses.len();
        self.set_dial(peer);
    }

    /// A peer that is to be dialled now, and its address. A peer for whose links `is_near` holds is
    /// dialling already, and is not dialled by the member with the higher id.
    pub(super) fn next_dial(
        &mut self,
        now: Time,
        config: &TransportConfig,
        is_near: impl Fn(&[ConnectionHandle]) -> bool,
    ) -> Option<(PeerIndex, SocketAddr)> {
        loop {
            let index = self.dials.due(now)?;
            let peer = self.by_index[index].as_mut().expect("its dials end with a peer");
            let index = PeerIndex(index as u16);
            if !peer.dials && is_near(&peer.links) {
                peer.dial_at = now + jittered(config.dial_pause_higher, &mut self.jitter);
                self.set_dial(index);
                continue;
            }
            peer.dialling += 1;
            peer.attempts += 1;
            peer.dial_at = now + ATTEMPT_DELAY;
            peer.dials_beside = peer.dials_beside.saturating_sub(1);
            let address = peer.addresses[peer.next_address % peer.addresses.len()];
            peer.next_address += 1;
            self.set_dial(index);
            return Some((index, address));
        }
    }

    /// A connection that was up, or an attempt of this node's at one, has ended. After a connection
    /// that was up for a while, the member with the lower id dials again at once. After a failed
    /// attempt, the next address is dialled at once, and after the last one there is a pause.
    pub(super) fn pause_dialling(
        &mut self,
        now: Time,
        peer: PeerIndex,
        was_up: bool,
        config: &TransportConfig,
    ) {
        let known = self.by_index[peer.at()].as_mut().expect("a member");
        if !was_up && known.dialling > 0 {
            return;
        }
        if !was_up && known.attempts < known.addresses.len() {
            known.dial_at = now;
            return self.set_dial(peer);
        }
        known.attempts = 0;
        if !known.dials {
            known.dial_at = now + jittered(config.dial_pause_higher, &mut self.jitter);
            return self.set_dial(peer);
        }
        known.pause = match known.pause {
            _ if was_up && now.since(known.up_since) >= config.dial_pause_max => Duration::ZERO,
            Duration::ZERO => config.dial_pause_min,
            pause => (2 * pause).min(config.dial_pause_max),
        };
        let jitter = self.jitter.duration_below(known.pause.max(config.dial_pause_min) / 2);
        known.dial_at = now + known.pause / 2 + jitter;
        self.set_dial(peer);
    }

    pub(super) fn up(&mut self, now: Time, peer: PeerIndex, connection: ConnectionHandle) {
        let known = self.peer_mut(peer);
        known.connection = Some(connection);
        (known.dials_beside, known.attempts) = (0, 0);
        known.silent_since = None;
        known.up_since = now;
        self.changes += 1;
        self.set_dial(peer);
        self.report(peer);
    }

    pub(super) fn down(&mut self, peer: PeerIndex, why: Closed) {
        let known = self.peer_mut(peer);
        known.connection = None;
        known.last_close = why;
        known.behind = 0;
        trace::down(known.node, &why);
        self.changes += 1;
        self.set_dial(peer);
        self.report(peer);
    }

    /// Counts a fault. True if the peer is to be cut off.
    pub(super) fn note_fault(
        &mut self,
        now: Time,
        peer: PeerIndex,
        fault: Fault,
        config: &TransportConfig,
    ) -> bool {
        self.report(peer);
        let known = self.peer_mut(peer);
        known.fault = Some((fault, known.fault.map_or(1, |(_, count)| count + 1)));
        known.faults_total += 1;
        trace::fault(known.node, &fault);
        let cut_off = known.faults.note(now, config.faults_max, config.fault_decay);
        if cut_off {
            known.cut_off_until = now + config.cut_off;
            trace::cut_off(known.node);
            self.set_dial(peer);
        }
        cut_off
    }

    pub(super) const fn changes(&self) -> u64 {
        self.changes
    }
}

impl Peer {
    /// Since when the connection that is up is silent, if the peer is dialled for that.
    pub(super) fn probes_since(&self) -> Option<Time> {
        self.silent_since.filter(|_| self.connection.is_some())
    }

    fn dials_at(&self) -> Time {
        let is_busy = match self.connection {
            Some(_) => self.dials_beside == 0 || self.dialling >= self.addresses.len(),
            None => self.dialling > 0 && self.attempts >= self.addresses.len(),
        };
        if is_busy { Time::NEVER } else { self.dial_at.max(self.cut_off_until) }
    }
}

/// A random time between half of `pause` and `pause`, so that nodes do not dial in step.
fn jittered(pause: Duration, jitter: &mut Random) -> Duration {
    pause / 2 + jitter.duration_below(pause / 2)
}

#[cfg(test)]
mod tests {
    use std::vec;

    use super::*;
    use crate::broadcast::Lag;
    use crate::membership::{Overlay, Topology};
    use crate::node::NodeEvent;

    const LOW: NodeId = NodeId([1; 32]);
    const HIGH: NodeId = NodeId([2; 32]);
    const PEER: PeerIndex = PeerIndex(0);
    const CHANNEL: ChannelId = ChannelId(5);

    /// The other member, as this one sees it, up since a moment ago.
    fn connected(own: NodeId) -> (Peers, Time) {
        connected_to(own, 1)
    }

    /// The same where both have so many addresses.
    fn connected_to(own: NodeId, addresses: u16) -> (Peers, Time) {
        let address =
            |at| (0..addresses).map(move |port| SocketAddr::from(([127, 0, 0, at], port)));
        let members = [(LOW, address(1).collect()), (HIGH, address(2).collect())];
        let topology = Topology::new(1, members).unwrap();
        let membership = Membership::new(topology);
        let nodes = membership.peers_of(&own, Overlay::FullMesh);
        let mut peers = Peers::new(own, Random::new(1), vec![CHANNEL]);
        let now = Time::ZERO + Duration::from_secs(100);
        peers.follow(now, &membership, own, &nodes);
        peers.up(now, PEER, ConnectionHandle(0));
        (peers, now + Duration::from_millis(1))
    }

    /// A connection that the peer made ends.
    fn lose(peers: &mut Peers, now: Time) {
        peers.down(PEER, Closed::Lost);
        peers.pause_dialling(now, PEER, true, &TransportConfig::default());
    }

    #[test]
    fn f2_both_sides_dial_and_the_higher_name_slowly() {
        let config = TransportConfig::default();
        let (mut low, now) = connected(LOW);
        assert_eq!(low.dial_at(), Time::NEVER);
        lose(&mut low, now);
        assert!(low.dial_at() <= now + config.dial_pause_min);
        let (mut high, now) = connected(HIGH);
        assert_eq!(high.dial_at(), Time::NEVER);
        lose(&mut high, now);
        let pause = high.dial_at().since(now);
        assert!(pause >= config.dial_pause_higher / 2 && pause <= config.dial_pause_higher);
        // Once more, and so on.
        let now = high.dial_at();
        assert!(high.next_dial(now, &config, |_| false).is_some());
        assert_eq!(high.dial_at(), Time::NEVER, "one at a time");
        high.dial_ended(PEER);
        high.pause_dialling(now, PEER, false, &config);
        assert!(high.dial_at().since(now) >= config.dial_pause_higher / 2);
    }

    #[test]
    fn who_is_down_is_not_behind_and_nothing_is_told_of_that() {
        let (mut peers, now) = connected(LOW);
        let (peer, channel, why) = (HIGH, CHANNEL, Closed::Lost);
        let told = |peers: &mut Peers| {
            let mut events = Vec::new();
            while peers.next_arrival().is_some() {
                events.extend(peers.next_event().map(|(_, event)| event));
            }
            events
        };
        assert_eq!(told(&mut peers), [NodeEvent::Up { peer }]);
        let lag = |is_behind| Lag { peer: PEER, channel: 0, is_behind };
        peers.note_lag(lag(true));
        assert_eq!(told(&mut peers), [NodeEvent::Behind { peer, channel }]);
        peers.note_lag(lag(false));
        peers.note_lag(lag(true));
        assert_eq!(told(&mut peers), []);
        peers.down(PEER, why);
        assert_eq!(told(&mut peers), [NodeEvent::Down { peer, why }]);
        peers.up(now, PEER, ConnectionHandle(0));
        assert_eq!(told(&mut peers), [NodeEvent::Up { peer }]);
        peers.note_lag(lag(true));
        assert_eq!(told(&mut peers), [NodeEvent::Behind { peer, channel }]);
    }

    /// The port of the address that is dialled next, and when.
    fn dial(peers: &mut Peers) -> (u16, Time) {
        let now = peers.dial_at();
        let (_, address) = peers.next_dial(now, &TransportConfig::default(), |_| false).unwrap();
        (address.port(), now)
    }

    #[test]
    fn w9_addresses_are_raced_and_then_there_is_a_pause() {
        let config = TransportConfig::default();
        for own in [LOW, HIGH] {
            let (mut peers, now) = connected_to(own, 3);
            lose(&mut peers, now);
            let begun = peers.dial_at();
            let dials = [(); 3].map(|()| dial(&mut peers));
            let at = |attempt| begun + attempt * ATTEMPT_DELAY;
            assert_eq!(dials, [(0, at(0)), (1, at(1)), (2, at(2))]);
            assert_eq!(peers.dial_at(), Time::NEVER, "one to each");
            // They end one after the other, in failure.
            let now = at(10);
            for _ in 0..2 {
                peers.dial_ended(PEER);
                peers.pause_dialling(now, PEER, false, &config);
                assert!(peers.dial_at() == Time::NEVER, "the others are in progress");
            }
            peers.dial_ended(PEER);
            peers.pause_dialling(now, PEER, false, &config);
            let pause = if own == LOW { config.dial_pause_min } else { config.dial_pause_higher };
            assert!(peers.dial_at() >= now + pause / 2 && peers.dial_at() < Time::NEVER);
            assert_eq!(dial(&mut peers).0, 0, "and then the next round");
        }
    }

    #[test]
    fn w9_after_a_failed_attempt_the_next_address_is_dialled_at_once() {
        let config = TransportConfig::default();
        let (mut peers, now) = connected_to(LOW, 3);
        lose(&mut peers, now);
        let (_, now) = dial(&mut peers);
        let now = now + Duration::from_millis(10);
        peers.dial_ended(PEER);
        peers.pause_dialling(now, PEER, false, &config);
        assert_eq!(dial(&mut peers), (1, now));
        // Once an attempt has succeeded so far, no other one is made.
        peers.race_ended(PEER);
        assert_eq!(peers.dial_at(), Time::NEVER);
        peers.up(now, PEER, ConnectionHandle(0));
        peers.dial_ended(PEER);
        assert_eq!(peers.dial_at(), Time::NEVER);
    }

    #[test]
    fn f2_the_higher_name_does_not_dial_while_the_peer_does() {
        let config = TransportConfig::default();
        for (own, dials) in [(LOW, true), (HIGH, false)] {
            let (mut peers, now) = connected(own);
            lose(&mut peers, now);
            let now = peers.dial_at();
            assert_eq!(peers.next_dial(now, &config, |_| true).is_some(), dials);
            assert!(peers.dial_at() > now + config.dial_pause_higher / 4);
        }
    }

    #[test]
    fn f2_connections_that_come_up_and_go_at_once_are_dialled_ever_more_slowly() {
        let config = TransportConfig::default();
        let (mut peers, mut now) = connected(LOW);
        for _ in 0..12 {
            lose(&mut peers, now);
            now = peers.dial_at();
            peers.up(now, PEER, ConnectionHandle(0));
        }
        lose(&mut peers, now);
        assert!(peers.dial_at().since(now) >= config.dial_pause_max / 2);
    }

    #[test]
    fn f2_a_peer_that_is_cut_off_is_not_dialled() {
        let config = TransportConfig::default();
        for own in [LOW, HIGH] {
            let (mut peers, now) = connected(own);
            let mut faults = 0..config.faults_max;
            assert!(faults.any(|_| peers.note_fault(now, PEER, Fault::WrongChunk, &config)));
            lose(&mut peers, now);
            peers.redial(now, PEER);
            assert_eq!(peers.dial_at(), now + config.cut_off);
            let before = now + config.cut_off - Duration::from_nanos(1);
            assert!(peers.next_dial(before, &config, |_| false).is_none());
            assert!(peers.next_dial(now + config.cut_off, &config, |_| false).is_some());
        }
    }
}
