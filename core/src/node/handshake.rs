//! The life cycle of links: accepted or dialled, hello received, superseded, ended.
//!
//! Of two connections to one member, one is kept. If the member has restarted in between, which its
//! hello shows, the newer one is kept. If both sides have dialled at the same time, the one that
//! the member with the lower id dialled is kept, if it is heard. Otherwise the newer one is kept. Both
//! ends come to the same decision.
//!
//! A member restarts with another incarnation, and is never told one from before again. If it is, while the
//! one that has replaced it is heard, two processes use the member's key: see `incarnations`. The one that
//! has returned is refused, so that they do not throw each other out for ever, and all three are told.

use quinn_proto::{ConnectionHandle, EndpointEvent, Incoming, ServerConfig, VarInt};
use std::boxed::Box;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use std::vec::Vec;

use super::congestion::Meter;
use super::link::{Lane, Link, Phase, told_quota};
use super::{
    Closed, DISCONNECTED, FAULTS, NO_HELLO, NO_MEMBER, Node, SHUTDOWN, SUPERSEDED, TWIN,
    channel_hello, crypto, quic,
};
use crate::id::{NodeId, PeerIndex, Version};
use crate::time::Time;
use crate::trace;
use crate::wire::{ChannelHello, Hello, LiveSlots, StreamHead, Update};

/// What a connection that a member makes counts as, in pieces of work without progress: about as much as so many
/// datagrams with nothing in them. The handshake, and what is told anew on each connection, cost more than that brings,
/// unless there are few.
const HANDSHAKE_PIECES: i64 = 100;

/// So long a link that was dialled for the silence of another one is not used when the peer answers over it: a
/// few times what QUIC delays acknowledgements (RFC 9000, section 13.2.1).
const PROBE_PAUSE: Duration = Duration::from_millis(100);

impl Node {
    pub(super) fn accept(&mut self, now: Time, incoming: Incoming) {
        let limit = usize::from(self.config.transport.handshakes_max);
        let mut response = Vec::new();
        if self.provider.has_issued(incoming.orig_dst_cid()) {
            return self.endpoint.ignore(incoming);
        }
        if self.closing_since.is_some() {
            return self.refuse_incoming(incoming);
        }
        let remote = incoming.remote_address();
        let address = remote.ip().to_canonical();
        if self.peers.is_address_cut_off(now, address) {
            return self.refuse_incoming(incoming);
        }
        let share = self.config.transport.handshakes_per_address_max.into();
        let is_loaded =
            self.accepting.len() >= limit / 2 || self.accepting_from(address).count() >= share;
        if is_loaded && incoming.may_retry() {
            // Under load, an address has to be validated before any state is kept for it.
            let retry = self.endpoint.retry(incoming, &mut response);
            let transmit = retry.expect("may be retried");
            return self.respond(transmit, response);
        }
        let is_proven = incoming.remote_address_validated();
        if !self.make_room(now, address) {
            return self.refuse_incoming(incoming);
        }
        let meter = Arc::new(Meter::default());
        let mut server = ServerConfig::clone(&self.server);
        let transport = quic::transport_config(&self.config, &meter);
        let transport = self.qlog.begin(self.start, remote, false, transport);
        server.transport_config(Arc::new(transport));
        let instant = self.instant(now);
        match self.endpoint.accept(incoming, instant, &mut response, Some(Arc::new(server))) {
            Ok((handle, quic)) => {
                self.insert(now, handle, quic, None, meter);
                self.link(handle).expect("just inserted").is_proven = is_proven;
                self.accepting.push(handle);
            }
            Err(error) => {
                self.stats.refused += 1;
                if let Some(transmit) = error.response {
                    self.respond(transmit, response);
                }
            }
        }
    }

    fn refuse_incoming(&mut self, incoming: Incoming) {
        self.stats.refused += 1;
        let mut response = Vec::new();
        let transmit = self.endpoint.refuse(incoming, &mut response);
        self.respond(transmit, response);
    }

    fn accepting_link(&self, handle: ConnectionHandle) -> &Link {
        self.links[handle.0].as_deref().expect("it leaves the list when it ends")
    }

    /// Links of dialling peers at an address that are on their way to be up.
    fn accepting_from(&self, address: IpAddr) -> impl Iterator<Item = ConnectionHandle> {
        let accepting = self.accepting.iter().copied();
        accepting.filter(move |handle| self.accepting_link(*handle).address() == address)
    }

    /// Finds room for a handshake with an address, which may be at the cost of an address that has
    /// more of them in progress. An address that has reached its share was validated before this is
    /// called. It takes precedence over handshakes whose address may be forged. False if there is
    /// no room.
    fn make_room(&mut self, now: Time, address: IpAddr) -> bool {
        let transport = &self.config.transport;
        let (limit, share) = (transport.handshakes_max, transport.handshakes_per_address_max);
        let of_address = self.accepting_from(address).count();
        let deadline = |handle: &ConnectionHandle| self.accepting_link(*handle).hello_deadline;
        if of_address >= share.into() {
            // A peer that has completed the handshake has proven its address, too.
            let is_unproven = |handle: &ConnectionHandle| {
                let link = self.accepting_link(*handle);
                !link.is_proven && link.node.is_none()
            };
            let unproven = self.accepting_from(address).filter(is_unproven);
            let Some(oldest) = unproven.min_by_key(deadline) else { return false };
            self.close(now, oldest, NO_HELLO);
            return true;
        }
        if self.accepting.len() < limit.into() {
            return true;
        }
        let address_of = |handle: ConnectionHandle| self.accepting_link(handle).address();
        let weight = |handle: &&ConnectionHandle| self.accepting_from(address_of(**handle)).count();
        let Some(busiest) = self.accepting.iter().max_by_key(weight) else { return false };
        let busiest = address_of(*busiest);
        if self.accepting_from(busiest).count() <= of_address + 1 {
            return false;
        }
        let oldest = self.accepting_from(busiest).min_by_key(deadline).expect("the busiest");
        self.close(now, oldest, NO_HELLO);
        true
    }

    pub(super) fn dial(&mut self, now: Time, peer: PeerIndex, address: SocketAddr) {
        let known = self.peers.peer(peer);
        let node = known.node;
        let meter = Arc::new(Meter::default());
        let mut client = self.provider.client_config(&known.keys);
        let transport = quic::transport_config(&self.config, &meter);
        let transport = self.qlog.begin(self.start, address, true, transport);
        client.transport_config(Arc::new(transport));
        trace::dialling(node, &address);
        match self.endpoint.connect(self.instant(now), client, address, crypto::SERVER_NAME) {
            Ok((handle, quic)) => {
                let probes_since = known.probes_since();
                self.insert(now, handle, quic, Some(node), meter);
                self.link(handle).expect("just inserted").probes_since = probes_since;
                self.peers.add_link(peer, handle);
            }
            // The address cannot be dialled. Another address or a new topology may work.
            Err(_) => {
                self.peers.dial_ended(peer);
                self.peers.pause_dialling(now, peer, false, &self.config.transport);
            }
        }
    }

    fn insert(
        &mut self,
        now: Time,
        handle: ConnectionHandle,
        quic: quinn_proto::Connection,
        node: Option<NodeId>,
        meter: Arc<Meter>,
    ) {
        if self.links.len() <= handle.0 {
            self.links.resize_with(handle.0 + 1, || None);
        }
        let deadline = now + self.config.transport.hello_timeout;
        let (schedule, windows) = (self.schedule.clone(), self.window_pool.least());
        let link = Link::new(quic, node, meter, (now, deadline), schedule, windows);
        let former = self.links[handle.0].replace(Box::new(link));
        assert!(former.is_none(), "handles are unique");
        self.touch(handle);
    }

    pub(super) fn connected(&mut self, now: Time, handle: ConnectionHandle) {
        let link = self.links[handle.0].as_deref_mut().expect("just polled");
        link.key = crypto::peer_id(&link.quic);
        let (is_client, dialled) = (link.is_client, link.node);
        let peer = link.key.and_then(|key| self.peers.by_key(&key));
        // The member that was dialled may have another key by now.
        let is_it = |peer: &PeerIndex| {
            let node = self.peers.peer(*peer).node;
            dialled.is_none_or(|dialled| dialled == node)
        };
        let Some(peer) = peer.filter(is_it) else { return self.close(now, handle, NO_MEMBER) };
        if !is_client {
            link.node = Some(self.peers.peer(peer).node);
            self.peers.add_link(peer, handle);
        }
        if self.peers.peer(peer).cut_off_until > now || self.closing_since.is_some() {
            return self.close(now, handle, NO_MEMBER);
        }
        if !is_client {
            self.note_fruitless(now, handle, peer, HANDSHAKE_PIECES);
            if !self.links[handle.0].as_deref().is_some_and(Link::is_open) {
                return;
            }
        }
        if self.is_needless(handle, peer) {
            self.peers.end_probe(peer);
            return self.close(now, handle, SUPERSEDED);
        }
        if self.is_settled(handle, peer) {
            return self.close(now, handle, SUPERSEDED);
        }
        if is_client {
            self.peers.race_ended(peer);
        }
        let is_used = self.peers.peer(peer).connection.is_some();
        let link = self.links[handle.0].as_deref_mut().expect("just polled");
        let is_in_question = is_used && (!is_client || link.probes_since.is_some());
        if is_in_question && link.probes_since.is_some() {
            link.greet_at = now + PROBE_PAUSE;
        }
        link.phase = if is_in_question { Phase::Listening } else { Phase::Greeting };
        if !is_in_question && !link.send_whole(&self.hello) {
            return self.close(now, handle, NO_MEMBER);
        }
        // A member may have one link that is coming up in each direction, so that it cannot use up
        // the room for handshakes.
        self.supersede(now, handle, peer, |older| {
            older.is_client == is_client && older.is_coming_up()
        });
    }

    /// The peer answers over a link that was dialled for the silence of the one in use: it is used, unless that
    /// one has been heard as well. A peer that was paused answers over both.
    pub(super) fn greet(&mut self, now: Time, handle: ConnectionHandle) {
        let link = self.links[handle.0].as_deref_mut().expect("its time has come");
        link.greet_at = Time::NEVER;
        if link.phase != Phase::Listening {
            return;
        }
        let Some(peer) = link.node.and_then(|node| self.peers.find(&node)) else { return };
        if self.is_settled(handle, peer) || self.is_needless(handle, peer) {
            return self.close(now, handle, SUPERSEDED);
        }
        let link = self.links[handle.0].as_deref_mut().expect("just looked at");
        link.phase = Phase::Greeting;
        if !link.send_whole(&self.hello) {
            self.close(now, handle, NO_MEMBER);
        }
        self.touch(handle);
    }

    /// Closes those of a peer's other links for which it `is_due`.
    fn supersede(
        &mut self,
        now: Time,
        by: ConnectionHandle,
        peer: PeerIndex,
        is_due: impl Fn(&Link) -> bool,
    ) {
        for handle in self.peers.peer(peer).links.clone() {
            if handle != by && self.links[handle.0].as_deref().is_some_and(&is_due) {
                self.close(now, handle, SUPERSEDED);
            }
        }
    }

    /// Whether another connection to the same member is about to be used instead, or came into use
    /// since this one was dialled. The member with the lower id decides, by sending its hello on
    /// one of them only. (A connection that the peer dialled while another is up continues, since
    /// the peer's hello tells whether it has restarted.)
    fn is_settled(&self, handle: ConnectionHandle, peer: PeerIndex) -> bool {
        let link = self.links[handle.0].as_deref().expect("just polled");
        let known = self.peers.peer(peer);
        let others = known.links.iter().filter(|other| **other != handle);
        let others = others.filter_map(|other| self.links[other.0].as_deref());
        let is_used_instead = |other: &Link| {
            let has_greeted = matches!(other.phase, Phase::Greeting | Phase::Up { .. });
            match link.is_client {
                // Except if it was dialled in addition to that one, because the peer has new
                // addresses.
                true if other.is_up() => other.hello_deadline > link.hello_deadline,
                true => !other.is_client && has_greeted,
                false => !other.is_up() && other.is_client && has_greeted,
            }
        };
        self.member_id() < known.node && others.filter(|other| other.is_open()).any(is_used_instead)
    }

    /// Whether a link was dialled for the silence of the one in use, which has been heard since.
    fn is_needless(&self, handle: ConnectionHandle, peer: PeerIndex) -> bool {
        let link = self.links[handle.0].as_deref().expect("just polled");
        let used = self.peers.peer(peer).connection;
        let used = used.and_then(|used| self.links[used.0].as_deref());
        link.probes_since.is_some_and(|since| used.is_some_and(|used| used.heard_at() > since))
    }

    /// Of a connection to a peer that is over, nothing more is read if there is another one.
    fn end_ending(&mut self, now: Time, peer: PeerIndex) {
        if let Some(handle) = self.peers.peer(peer).connection
            && let Some(why) =
                self.link(handle).filter(|link| link.is_ending()).and_then(|link| link.lost)
        {
            self.ended(now, handle, why);
        }
    }

    /// The peer's hello has been read. From now on this connection is used for the peer.
    pub(super) fn on_hello(
        &mut self,
        now: Time,
        handle: ConnectionHandle,
        peer: PeerIndex,
        hello: &Hello,
    ) {
        // It may have been cut off over another connection since this one was made.
        if self.peers.peer(peer).cut_off_until > now {
            return self.close(now, handle, FAULTS);
        }
        self.end_ending(now, peer);
        if let Some(older) = self.peers.peer(peer).connection {
            let other = self.links[older.0].as_deref().expect("it is up");
            let is_client = self.links[handle.0].as_deref().expect("just read").is_client;
            let is_by_lower = other.is_client == (self.member_id() < self.peers.peer(peer).node);
            let is_same_peer = other.incarnation() == Some(hello.incarnation);
            // Unless that one does not work any more: an address has changed.
            let is_quiet = other.is_quiet(now, self.config.transport.keep_alive);
            if is_same_peer && other.is_client != is_client && is_by_lower && !is_quiet {
                return self.close(now, handle, SUPERSEDED);
            }
            let is_known = self.peers.peer(peer).incarnations.has(hello.incarnation);
            if !is_same_peer && is_known && !is_quiet {
                self.note_twin(now, peer, hello.incarnation);
                return self.close(now, handle, TWIN);
            }
            self.close(now, older, SUPERSEDED);
        }
        let link = self.links[handle.0].as_deref_mut().expect("just read");
        if link.phase == Phase::Listening && !link.send_whole(&self.hello) {
            return self.close(now, handle, NO_MEMBER);
        }
        let incarnations = &mut self.peers.peer_mut(peer).incarnations;
        let has_restarted = !incarnations.has(hello.incarnation);
        incarnations.note(hello.incarnation);
        let theirs = &hello.channels;
        // Attempts of this node that are still in the handshake are not needed any more. (After a
        // hello on one of them, the peer may already use that connection.)
        self.supersede(now, handle, peer, |other| {
            other.is_client && other.phase == Phase::Handshaking
        });
        if let Some(key) = self.links[handle.0].as_deref().and_then(|link| link.key) {
            self.machine.set_peer_key(peer, key);
        }
        self.machine.peer_up(now, peer, |ours| {
            theirs.iter().any(|theirs| theirs.takes_all_of(&channel_hello(ours)))
        });
        let quotas = hello.quotas.iter().map(|quota| (quota.channel, told_quota(quota)));
        self.machine.set_quotas(peer, quotas, has_restarted);
        for ours in &self.config.channels {
            let takes = |theirs: &ChannelHello| channel_hello(ours).takes_all_of(theirs);
            if !theirs.iter().any(takes) {
                // The peer will send nothing on this channel, which is treated as a snapshot
                // without live slots.
                let nothing = Update::Snapshot { version: Version(1), live: LiveSlots(&[]) };
                let taken = self.machine.handle_update(now, peer, ours.id, &nothing);
                taken.expect("the first of the epoch, and without slots");
            }
        }
        self.rpc.peer_up(peer, &hello.routes);
        self.peers.up(now, peer, handle);
        self.note_silent_channels(handle, peer, hello);
        self.stats.connections += 1;
        let link = self.links[handle.0].as_deref_mut().expect("just read");
        link.phase = Phase::Up { peer, incarnation: hello.incarnation };
        link.open_windows(&self.config);
        self.machine.handle_round_trip(now, peer, link.quic.rtt());
        if link.is_client {
            self.peers.dial_ended(peer);
        } else {
            self.accepting.retain(|other| *other != handle);
        }
        let used = std::mem::take(&mut self.peers.peer_mut(peer).used);
        link.set_used(&used, self.turns.now(), &self.config);
        link.note_early();
        self.read_unread(now, handle, Lane::First);
    }

    /// Counts the channels on which one side keeps silent, and traces why.
    fn note_silent_channels(&mut self, handle: ConnectionHandle, peer: PeerIndex, hello: &Hello) {
        let link = self.links[handle.0].as_deref_mut().expect("just read");
        let node = self.peers.peer(peer).node;
        trace::up(node, &link.quic.remote_address());
        link.silent_channels = 0;
        for ours in self.config.channels.iter().map(channel_hello) {
            let theirs = hello.channels.iter().find(|theirs| theirs.id == ours.id);
            let silent = match theirs {
                None => [Some(("both", "id")), None],
                Some(theirs) => [
                    theirs.obstacle(&ours).map(|value| ("this node", value)),
                    ours.obstacle(theirs).map(|value| ("the peer", value)),
                ],
            };
            link.silent_channels += u64::from(silent.iter().any(Option::is_some));
            for (who, value) in silent.into_iter().flatten() {
                trace::inert(node, ours.id, who, value);
            }
        }
    }

    /// A process of a member is refused, since another one is connected.
    fn note_twin(&mut self, now: Time, peer: PeerIndex, incarnation: u64) {
        self.stats.twins += 1;
        // So that it is not forgotten for others as long as it tries.
        self.peers.peer_mut(peer).incarnations.note(incarnation);
        if self.peers.note_twin(now, peer)
            && let Some(link) = self.link_to(peer)
        {
            let mut head = Vec::new();
            StreamHead::Twin.encode(&mut head);
            link.send_whole(&head);
            self.wake(peer);
        }
    }

    /// A link has been closed or lost, and nothing more is read of it. What is left of it is in [`Closing`].
    ///
    /// [`Closing`]: super::closing::Closing
    pub(super) fn ended(&mut self, now: Time, handle: ConnectionHandle, why: Closed) {
        let Some(mut link) = self.links[handle.0].take() else { return };
        // None, if it is no member any more.
        let peer = link.node.and_then(|node| self.peers.find(&node));
        let up = link.peer().filter(|_| peer.is_some());
        let (is_client, was_up) = (link.is_client, link.is_up());
        self.detach(now, handle, &mut link, peer, up);
        if !is_client {
            self.accepting.retain(|other| *other != handle);
        }
        if let Some(peer) = up {
            self.machine.peer_down(now, peer);
            self.rpc.peer_down(peer);
            self.peers.peer_mut(peer).used = link.end();
            self.peers.down(peer, why);
        } else if !is_client && !was_up && !matches!(why, Closed::Superseded | Closed::Twin) {
            self.stats.refused += 1;
        }
        if let Some(peer) = peer {
            if is_client {
                self.peers.dial_ended(peer);
            }
            if is_client || up.is_some() {
                self.peers.pause_dialling(now, peer, up.is_some(), &self.config.transport);
            }
        }
    }

    /// Removes a link that ends from all but the machines. Its handle stays in use for a while, unless nothing can
    /// come for it any more.
    fn detach(
        &mut self,
        now: Time,
        handle: ConnectionHandle,
        link: &mut Link,
        peer: Option<PeerIndex>,
        up: Option<PeerIndex>,
    ) {
        self.window_pool.give_back(link.held_of_pool());
        self.stats.work += link.take_work();
        self.deadlines.set(handle.0, Time::NEVER);
        self.ready.remove(handle, link);
        for lane in Lane::ALL {
            if link.reading(lane).is_waiting {
                self.turns.remove(handle, lane);
            }
        }
        if let Some(peer) = peer {
            self.peers.remove_link(peer, handle);
        }
        let Some(ends_at) = link.drained_at(self.start) else {
            let _ = self.endpoint.handle_event(handle, EndpointEvent::drained());
            return;
        };
        let packet = link.take_close_packet(self.instant(now));
        self.closing.insert(now, handle, up, packet, ends_at);
        self.forget_excess(up);
    }

    /// Forgets the oldest of the connections that are over, if there are too many of this peer, or of none.
    pub(super) fn forget_excess(&mut self, peer: Option<PeerIndex>) {
        while let Some(oldest) = self.closing.excess(peer) {
            self.forget(oldest);
        }
    }

    /// Forgets a connection that is over. Its handle is free for another one.
    pub(super) fn forget(&mut self, handle: ConnectionHandle) {
        self.closing.remove(handle);
        let _ = self.endpoint.handle_event(handle, EndpointEvent::drained());
    }

    pub(super) fn close(&mut self, now: Time, handle: ConnectionHandle, code: VarInt) {
        let instant = self.instant(now);
        let Some(link) = self.link(handle) else { return };
        if !link.quic.is_closed() {
            link.close(instant, code);
        }
        // quinn-proto reports nothing about a connection that we closed.
        let why = match code {
            SHUTDOWN => Closed::Shutdown,
            SUPERSEDED => Closed::Superseded,
            TWIN => Closed::Twin,
            FAULTS => Closed::CutOff,
            DISCONNECTED => Closed::Disconnected,
            _ => Closed::Lost,
        };
        self.ended(now, handle, why);
    }
}
