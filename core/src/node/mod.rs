//! A whole node without a socket: QUIC, identity, connections, and the machines for broadcast and
//! calls.
//!
//! Inputs are [`Node::handle_datagrams`] and the commands; then [`Node::poll`] is called until it
//! gives [`Output::Idle`], and again at the time it names. Outputs for the application are taken
//! with [`Node::poll_event`], [`Node::poll_request`], [`Node::poll_outcome`] and
//! [`Node::poll_node_event`], at any time: the node does not wait for it. [`Node::poll`] itself may
//! produce such outputs, until it returns `Idle`: see [`Node::has_output`].
//!
//! Of two members that are not connected, both dial, since it may be that only one of them can
//! reach the other. The member with the lower id dials at once and then with backoff. The other one
//! dials after its start, if it has not been dialled by then, and at a slow rate afterwards. Both
//! sides prove their keys in the handshake (RFC 7250, RFC 9001). The key determines the member
//! ([`crate::membership`]). A peer is up once its hello has been read. Of several connections to
//! one member, one is kept: see `handshake`. Invariant 10.

mod calls;
mod congestion;
mod connection;
#[cfg_attr(not(feature = "internals"), allow(unreachable_pub, reason = "public in `internals`"))]
pub(crate) mod crypto;
mod egress;
mod endpoint_keys;
mod handshake;
#[cfg(feature = "internals")]
mod inspect;
mod key;
mod peers;
#[cfg_attr(not(feature = "internals"), allow(unreachable_pub, reason = "public in `internals`"))]
pub(crate) mod quic;
mod report;
mod socket;
mod transmit;

pub use calls::Request;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub use inspect::OpenConnection;
pub use key::NodeKey;
pub use report::{Closed, NodeError, NodeEvent, NodeStats, REFUSED_INTERVAL};
pub use socket::{SOCKET_ERRORS_INTERVAL, SocketBuffers, SocketOperation};
pub use transmit::{Ecn, Transmit};

use std::boxed::Box;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::vec::Vec;

use bytes::BytesMut;
use quinn_proto::{
    ConnectionError, ConnectionHandle, DatagramEvent, Dir, Endpoint, Event as QuicEvent,
    ServerConfig, StreamEvent, VarInt,
};

use crate::artifact::Artifact;
use crate::broadcast::{Broadcast, Event, Filter, Output as MachineOutput, SendBuffer, Wake};
use crate::config::{ChannelConfig, Config};
use crate::error::{PublishError, RelayError};
use crate::id::{ArtifactId, ChannelId, NodeId, PeerIndex};
use crate::membership::{Membership, Topology, TopologyError};
use crate::random::Random;
use crate::rpc::{CallStream, Rpc};
use crate::time::Time;
use crate::wire::{ChannelHello, Hello, MINOR};
use connection::{Connection, Notice};
use crypto::{HandshakeCrypto, Members, Provider, Tls};
use egress::Egress;
use peers::{Followed, Peers};

/// Application error codes of CONNECTION_CLOSE.
const SHUTDOWN: VarInt = VarInt::from_u32(0);
const SUPERSEDED: VarInt = VarInt::from_u32(1);
const NO_MEMBER: VarInt = VarInt::from_u32(2);
const FAULTS: VarInt = VarInt::from_u32(3);
const NO_HELLO: VarInt = VarInt::from_u32(4);

/// The number of responses without a connection (refusals, retries, resets) that are held until
/// they are sent. Further ones are dropped.
const RESPONSES_MAX: usize = 64;

/// How long a node that shuts down waits until its peers have been notified.
const SHUTDOWN_MAX: Duration = Duration::from_millis(500);

/// Bytes of datagrams that share one allocation. QUIC may keep a part of one datagram for a long
/// time, and with it the whole allocation. One allocation for each datagram would be slower by a
/// tenth.
const SHARED_BYTES_MAX: usize = 8 * 1024;

/// The largest batch of datagrams that a socket accepts in one call, in bytes.
const BATCH_BYTES_MAX: usize = 65_507;

/// What the node wants done.
#[derive(Debug)]
pub enum Output {
    /// Send the datagrams in the buffer.
    Transmit(Transmit),
    /// Nothing more until the next input, or until `wake_at`.
    Idle {
        /// When to call [`Node::poll`] again.
        wake_at: Time,
        /// What is due then.
        why: Wake,
    },
}

/// A node, sans-IO.
pub struct Node {
    config: Config,
    provider: Provider,
    key: NodeKey,
    /// The instant of [`Time::ZERO`].
    start: Instant,
    now: Time,
    membership: Membership,
    members: Arc<Members>,
    endpoint: Endpoint,
    server: Arc<ServerConfig>,
    hello: Vec<u8>,
    machine: Broadcast,
    rpc: Rpc,
    egress: Egress,
    peers: Peers,
    /// By connection handle.
    connections: Vec<Option<Connection>>,
    /// Handles of connections that may have events or datagrams, each once.
    ready: Vec<ConnectionHandle>,
    responses: Vec<(quinn_proto::Transmit, Vec<u8>)>,
    /// The connection that may transmit next.
    turn: usize,
    /// Something happened, so that there may be something to send to a peer, or room for it.
    fill_due: bool,
    /// When a machine has to be polled even without an input.
    machine_at: Time,
    out: SendBuffer,
    notices: Vec<Notice>,
    closing_since: Option<Time>,
    /// The number of connections closed so far.
    closed: u64,
    stats: NodeStats,
    /// The counts in the last report of refusals, and the earliest time of the next one.
    refused_told: (u64, u64),
    refused_due: Time,
    trouble: socket::Trouble,
    #[cfg(feature = "internals")]
    written: inspect::Written,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("id", &self.key.id())
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}

impl Node {
    /// A node that will dial and accept the members of `topology`. `seed` must be unpredictable for
    /// the peers; `start` is the instant of [`Time::ZERO`], from which every `now` counts.
    ///
    /// # Errors
    /// If the configuration does not hold together.
    ///
    /// # Panics
    /// If the TLS provider lacks what QUIC needs, which would be a broken build.
    pub fn new(
        config: Config,
        key: NodeKey,
        topology: Topology,
        seed: [u8; 32],
        start: Instant,
    ) -> Result<Self, NodeError> {
        let crypto = Arc::new(Tls::new(&key));
        Self::with_crypto(config, key, topology, seed, start, crypto)
    }

    /// The same with a choice of the handshake, which has to speak for the same `key`.
    fn with_crypto(
        config: Config,
        key: NodeKey,
        topology: Topology,
        seed: [u8; 32],
        start: Instant,
        crypto: Arc<dyn HandshakeCrypto>,
    ) -> Result<Self, NodeError> {
        let word = |at: usize| u64::from_le_bytes(seed[at * 8..][..8].try_into().expect("8 bytes"));
        let machine = Broadcast::new(&config, word(0))?;
        let rpc = Rpc::new(&config)?;
        let provider = Provider::new(&key, crypto);
        let members = Arc::new(Members::default());
        let server = Arc::new(quic::server_config(&config.transport, &provider, members.clone()));
        let endpoint = quic::endpoint_config(&config.transport, &provider, seed);
        let endpoint = Endpoint::new(Arc::new(endpoint), Some(server.clone()), true, None);
        let mut hello = Vec::new();
        let channels = config.channels.iter().map(channel_hello).collect();
        let routes = config.routes.iter().map(calls::route_hello).collect();
        Hello { minor: MINOR, incarnation: word(1), channels, routes }.encode(&mut hello);
        let mut node = Self {
            peers: Peers::new(key.id(), Random::new(word(2))),
            config,
            provider,
            key,
            start,
            now: Time::ZERO,
            membership: Membership::new(topology.clone()),
            members,
            endpoint,
            server,
            hello,
            egress: Egress::new(&machine, &rpc),
            machine,
            rpc,
            connections: Vec::new(),
            ready: Vec::new(),
            responses: Vec::new(),
            turn: 0,
            fill_due: false,
            machine_at: Time::NEVER,
            out: SendBuffer::new(),
            notices: Vec::new(),
            closing_since: None,
            closed: 0,
            stats: NodeStats::default(),
            refused_told: (0, 0),
            refused_due: Time::ZERO,
            trouble: socket::Trouble::default(),
            #[cfg(feature = "internals")]
            written: inspect::Written::default(),
        };
        node.set_topology(Time::ZERO, topology)?;
        Ok(node)
    }

    // Getters.

    /// The public half of this node's key.
    pub fn key_id(&self) -> NodeId {
        self.key.id()
    }

    /// The id of the member that this node is, which is the member that has its key. Equal to
    /// [`Node::key_id`] if no member has the key.
    pub fn member_id(&self) -> NodeId {
        self.membership.owner(&self.key_id()).unwrap_or(self.key_id())
    }

    /// The configuration that it was created with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The latest topology in use.
    pub fn topology(&self) -> &Topology {
        self.membership.latest()
    }

    /// The topologies in use, and the members by them.
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// What it has counted.
    pub fn stats(&self) -> NodeStats {
        self.stats
    }

    /// The members that are connected.
    pub fn peers_up(&self) -> impl Iterator<Item = NodeId> {
        self.peers.iter().filter(|(_, peer)| peer.connection.is_some()).map(|(_, peer)| peer.node)
    }

    /// Whether it has shut down: there is nothing more to do.
    pub fn is_closed(&self) -> bool {
        let waited = |since: Time| self.now.since(since) >= SHUTDOWN_MAX;
        // Closing does not wait for connections that never came up.
        let mut connections = self.connections.iter().flatten();
        let is_drained = self.ready.is_empty() && connections.all(|c| !c.was_up);
        self.closing_since.is_some_and(|since| is_drained || waited(since))
    }

    fn instant(&self, now: Time) -> Instant {
        self.start + Duration::from_nanos(now.0)
    }

    fn clamp(&mut self, now: Time) -> Time {
        self.now = self.now.max(now);
        self.now
    }

    // Commands.

    /// Sets what decides about a channel's artifacts. Without a filter, all are fetched. False if
    /// there is no such channel.
    pub fn set_filter(&mut self, channel: ChannelId, filter: Box<dyn Filter>) -> bool {
        self.machine.set_filter(channel, filter)
    }

    /// See [`Broadcast::publish`].
    ///
    /// # Errors
    /// If the channel has no room for it; nothing has changed then.
    pub fn publish(&mut self, channel: ChannelId, artifact: Artifact) -> Result<(), PublishError> {
        self.fill_due = true;
        self.machine.publish(channel, artifact)
    }

    /// See [`Broadcast::abort`].
    pub fn abort(&mut self, channel: ChannelId, id: &ArtifactId) -> bool {
        self.fill_due = true;
        self.machine.abort(channel, id)
    }

    /// See [`Broadcast::relay`].
    ///
    /// # Errors
    /// If no member nearer to the publisher advertises it, or there is no room. Nothing has changed
    /// then.
    pub fn relay(&mut self, channel: ChannelId, artifact: &Artifact) -> Result<(), RelayError> {
        self.fill_due = true;
        self.machine.relay(channel, artifact)
    }

    /// See [`Broadcast::reconsider`].
    pub fn reconsider(&mut self, now: Time, channel: ChannelId) -> bool {
        let now = self.clamp(now);
        self.fill_due = true;
        self.machine.reconsider(now, channel)
    }

    /// Follows a new topology in place of all that are in use: connects to new members, and drops
    /// former ones at once. A node whose key belongs to no member of it keeps no connections.
    ///
    /// # Errors
    /// If its version is lower than the latest, or it has too many members; nothing has changed
    /// then.
    pub fn set_topology(&mut self, now: Time, topology: Topology) -> Result<(), TopologyError> {
        let mut membership = self.membership.clone();
        membership.replace(topology)?;
        self.set_membership(now, membership)
    }

    /// Follows a topology in addition to those that are in use, and connects to new members. A
    /// member of any topology in use stays a member until that topology is
    /// [retired](Node::retire_topologies).
    ///
    /// # Errors
    /// As [`Membership::add`], or if there are too many members; nothing has changed then.
    pub fn add_topology(&mut self, now: Time, topology: Topology) -> Result<(), TopologyError> {
        let mut membership = self.membership.clone();
        membership.add(topology)?;
        self.set_membership(now, membership)
    }

    /// Stops following topologies with a version below `oldest`, except for the latest. Former
    /// members are dropped at once, and connections under keys that no member has any more are
    /// closed.
    pub fn retire_topologies(&mut self, now: Time, oldest: u64) {
        let mut membership = self.membership.clone();
        membership.retire(oldest);
        self.set_membership(now, membership).expect("nobody comes");
    }

    pub(crate) fn set_membership(
        &mut self,
        now: Time,
        membership: Membership,
    ) -> Result<(), TopologyError> {
        let now = self.clamp(now);
        let nodes = membership.peers_of(&self.key_id(), self.config.transport.overlay);
        if nodes.len() > self.config.peers_max.into() {
            return Err(TopologyError::TooManyMembers);
        }
        self.membership = membership;
        let followed = self.peers.follow(now, &self.membership, self.member_id(), &nodes);
        self.members.set(self.peers.keys());
        let Followed { left, came, changed } = followed;
        for (peer, node) in left {
            self.machine.remove_peer(now, peer);
            self.rpc.remove_peer(peer);
            for at in 0..self.connections.len() {
                if let Some(connection) = &mut self.connections[at]
                    && connection.node == Some(node)
                {
                    connection.retire();
                    self.close(now, ConnectionHandle(at), NO_MEMBER);
                }
            }
        }
        for peer in came {
            let node = self.peers.peer(peer).node;
            self.machine.add_peer(peer, node);
            self.rpc.add_peer(peer);
            self.egress.add_peer(peer);
        }
        for peer in changed {
            self.reconnect(now, peer);
        }
        self.fill_due = true;
        Ok(())
    }

    /// A member has other addresses or keys than before. The connection to it may not be valid any
    /// more, and dial attempts that failed may now succeed.
    fn reconnect(&mut self, now: Time, peer: PeerIndex) {
        self.peers.redial(now, peer);
        for at in 0..self.connections.len() {
            let Some(connection) = &self.connections[at] else { continue };
            let known = self.peers.peer(peer);
            if connection.node != Some(known.node) || !connection.is_open() {
                continue;
            }
            let has_key = connection.key.is_none_or(|key| known.keys.contains(&key));
            let has_address = known.addresses.contains(&connection.quic.remote_address());
            let is_dial = connection.is_client && connection.up.is_none();
            if !has_key || is_dial && !has_address {
                self.close(now, ConnectionHandle(at), NO_MEMBER);
                self.peers.redial(now, peer);
            } else if connection.is_client && connection.up.is_some() && !has_address {
                self.peers.redial_beside(now, peer);
            }
        }
    }

    /// Closes all connections and accepts no new ones. Peers are notified. Continue to poll until
    /// [`Node::is_closed`], which takes half a second at most.
    pub fn shutdown(&mut self, now: Time) {
        let now = self.clamp(now);
        if self.closing_since.is_some() {
            return;
        }
        self.closing_since = Some(now);
        self.endpoint.set_server_config(None);
        for at in 0..self.connections.len() {
            if self.connections[at].is_some() {
                self.close(now, ConnectionHandle(at), SHUTDOWN);
            }
        }
    }

    // Inputs.

    /// Datagrams from `from`: one, or several of `stride` bytes (the last may be shorter), as the
    /// socket received them together. `to` is the own address they were sent to, if known.
    pub fn handle_datagrams(
        &mut self,
        now: Time,
        from: SocketAddr,
        to: Option<IpAddr>,
        ecn: Option<Ecn>,
        stride: usize,
        datagrams: &[u8],
    ) {
        let now = self.clamp(now);
        // A socket for both families names an IPv4 peer as an IPv6 address.
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        self.stats.received_bytes += datagrams.len() as u64;
        self.stats.received_batches += 1;
        let stride = stride.max(1);
        for group in datagrams.chunks(stride * (SHARED_BYTES_MAX / stride).max(1)) {
            let mut group = BytesMut::from(group);
            while !group.is_empty() {
                let datagram = group.split_to(stride.min(group.len()));
                self.handle_datagram(now, from, to, ecn, datagram);
            }
        }
    }

    fn handle_datagram(
        &mut self,
        now: Time,
        from: SocketAddr,
        to: Option<IpAddr>,
        ecn: Option<Ecn>,
        datagram: BytesMut,
    ) {
        // A long header begins a handshake, or belongs to one (RFC 9000, section 17.2).
        let is_long = datagram[0] & 0x80 != 0;
        let is_filtered = self.config.transport.filter_addresses;
        if is_long && is_filtered && !self.peers.is_address_of_member(from.ip()) {
            self.stats.strangers += 1;
            return;
        }
        let mut response = Vec::new();
        let instant = self.instant(now);
        let ecn = ecn.map(Ecn::to_quic);
        match self.endpoint.handle(instant, from, to, ecn, datagram, &mut response) {
            Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                if let Some(connection) = self.connection(handle) {
                    connection.quic.handle_event(event);
                    self.mark_ready(handle);
                }
            }
            Some(DatagramEvent::NewConnection(incoming)) => self.accept(now, incoming),
            Some(DatagramEvent::Response(transmit)) => self.respond(transmit, response),
            None => {}
        }
    }

    fn respond(&mut self, transmit: quinn_proto::Transmit, response: Vec<u8>) {
        if self.responses.len() < RESPONSES_MAX {
            self.responses.push((transmit, response));
        }
    }

    fn connection(&mut self, handle: ConnectionHandle) -> Option<&mut Connection> {
        self.connections.get_mut(handle.0)?.as_mut()
    }

    fn mark_ready(&mut self, handle: ConnectionHandle) {
        if let Some(connection) = self.connection(handle)
            && !std::mem::replace(&mut connection.is_ready, true)
        {
            self.ready.push(handle);
        }
    }

    // Outputs.

    /// What is to be done next; a transmit's datagrams are in `buffer`, at most `segments_max` of
    /// them. Call after inputs and commands, and at `wake_at`, until it is [`Output::Idle`].
    ///
    /// Received data is processed here, and deadlines expire here. So there may be new events,
    /// requests and outcomes afterwards: take them *after* the drain to [`Output::Idle`], and
    /// before waiting. [`Node::has_output`] says whether there are any.
    ///
    /// Hand over the datagrams that wait in the socket before calling this. Otherwise a deadline
    /// may expire here although its datagrams have arrived.
    pub fn poll(&mut self, now: Time, segments_max: usize, buffer: &mut Vec<u8>) -> Output {
        let now = self.clamp(now);
        loop {
            buffer.clear();
            if let Some((transmit, response)) = self.responses.pop() {
                buffer.extend_from_slice(&response);
                return self.transmit(Transmit::from_quic(transmit));
            }
            self.advance(now);
            if let Some(transmit) = self.poll_transmit(now, segments_max, buffer) {
                return self.transmit(transmit);
            }
            if self.ready.is_empty() && !self.fill_due && self.responses.is_empty() {
                return self.idle();
            }
        }
    }

    /// The same as [`Node::poll`] for a socket that accepts no datagrams at the moment. Received
    /// data is processed and deadlines expire, so that calls and a shutdown end in time, but
    /// nothing is handed out for sending. Returns when to call again, unless the socket becomes
    /// writable before.
    pub fn poll_blocked(&mut self, now: Time) -> Time {
        let now = self.clamp(now);
        loop {
            self.advance(now);
            if !self.fill_due {
                break;
            }
        }
        for at in 0..self.ready.len() {
            if let Some(connection) = self.connection(self.ready[at]) {
                connection.timeout = connection.quic.poll_timeout();
            }
        }
        let Output::Idle { wake_at, .. } = self.idle() else { unreachable!("nothing is sent") };
        wake_at
    }

    /// Whether there is anything to take: events of channels or about peers, outcomes of calls,
    /// requests on routes that are [served](Node::serve), and cancellations of requests. It is true
    /// until all of that has been taken: a loop that waits only without output takes every kind.
    pub fn has_output(&self) -> bool {
        let mut channels = self.config.channels.iter();
        self.has_node_events()
            || channels.any(|channel| self.has_events(channel.id))
            || self.rpc.has_output()
    }

    /// Processes everything that is due, except sending.
    fn advance(&mut self, now: Time) {
        self.fill_due |= self.machine_at <= now;
        self.expire(now);
        self.serve_touched(now);
        while let Some((peer, address)) = self.next_dial(now) {
            self.dial(now, peer, address);
        }
        self.poll_machine(now);
        self.poll_rpc(now);
        self.fill_send_buffers(now);
    }

    fn transmit(&mut self, transmit: Transmit) -> Output {
        self.stats.sent_bytes += transmit.size as u64;
        self.stats.sent_datagrams += transmit.datagrams() as u64;
        Output::Transmit(transmit)
    }

    fn next_dial(&mut self, now: Time) -> Option<(PeerIndex, SocketAddr)> {
        if self.closing_since.is_some() {
            return None;
        }
        let connections = &self.connections;
        // A peer whose connection is about to come up need not be dialled.
        self.peers.next_dial(now, &self.config.transport, |node| {
            connections.iter().flatten().any(|c| c.node == Some(*node) && c.is_open())
        })
    }

    /// Timers of connections, and hellos that did not come.
    fn expire(&mut self, now: Time) {
        let instant = self.instant(now);
        for at in 0..self.connections.len() {
            let Some(connection) = &mut self.connections[at] else { continue };
            if connection.timeout.is_some_and(|timeout| timeout <= instant) {
                connection.timeout = None;
                connection.quic.handle_timeout(instant);
                self.mark_ready(ConnectionHandle(at));
            }
            let Some(connection) = &self.connections[at] else { continue };
            if connection.up.is_none() && connection.is_open() && connection.hello_deadline <= now {
                self.close(now, ConnectionHandle(at), NO_HELLO);
            }
        }
    }

    /// Deals with what quinn-proto has to say about connections to which something happened.
    fn serve_touched(&mut self, now: Time) {
        let mut at = 0;
        while let Some(handle) = self.ready.get(at).copied() {
            at += 1;
            // Stream data and the reason for closing are reported before the end of a connection.
            while let Some(connection) = self.connection(handle)
                && let Some(event) = connection.quic.poll()
            {
                self.handle_quic_event(now, handle, event);
            }
            while let Some(connection) = self.connection(handle)
                && let Some(event) = connection.quic.poll_endpoint_events()
            {
                let is_drained = event.is_drained();
                if let Some(event) = self.endpoint.handle_event(handle, event) {
                    self.connection(handle).expect("just polled").quic.handle_event(event);
                }
                if is_drained {
                    // The handle is free for another connection from here on.
                    self.ended(now, handle, Closed::Lost);
                    self.connections[handle.0] = None;
                }
            }
            self.fill_due = true;
        }
        self.ready.retain(|handle| self.connections.get(handle.0).is_some_and(Option::is_some));
    }

    fn handle_quic_event(&mut self, now: Time, handle: ConnectionHandle, event: QuicEvent) {
        let connection = self.connections[handle.0].as_mut().expect("just polled");
        let (machine, channels) = (&mut self.machine, &self.config.channels);
        let (rpc, notices) = (&mut self.rpc, &mut self.notices);
        match event {
            QuicEvent::Connected => return self.connected(now, handle),
            QuicEvent::ConnectionLost { reason } => {
                let why = match reason {
                    ConnectionError::ApplicationClosed(close) if close.error_code == SHUTDOWN => {
                        Closed::Shutdown
                    }
                    ConnectionError::ApplicationClosed(close) if close.error_code == SUPERSEDED => {
                        Closed::Superseded
                    }
                    ConnectionError::ApplicationClosed(_)
                    | ConnectionError::ConnectionClosed(_) => Closed::ByPeer,
                    ConnectionError::Reset => Closed::Reset,
                    _ => Closed::Lost,
                };
                return self.ended(now, handle, why);
            }
            QuicEvent::Stream(event) if connection.is_open() => match event {
                StreamEvent::Opened { dir: Dir::Uni } => {
                    connection.accept(now, machine, channels, notices);
                }
                StreamEvent::Opened { dir: Dir::Bi } => connection.accept_calls(now, rpc, notices),
                StreamEvent::Readable { id } if id.dir() == Dir::Bi => {
                    connection.read_call(now, id, rpc, notices);
                }
                StreamEvent::Writable { id } if id.dir() == Dir::Bi => {
                    if let Some(peer) = connection.up {
                        rpc.handle_writable(peer, CallStream(id.into()));
                    }
                }
                StreamEvent::Stopped { id, .. } if id.dir() == Dir::Bi => {
                    connection.call_stopped(id, rpc);
                }
                StreamEvent::Readable { id } => {
                    connection.read(now, id, machine, channels, notices);
                }
                StreamEvent::Writable { .. } => connection.write_rest(),
                StreamEvent::Finished { id } if id.dir() == Dir::Bi => {
                    if let Some(peer) = connection.up {
                        rpc.handle_acked(peer, CallStream(id.into()));
                    }
                }
                StreamEvent::Finished { id } => {
                    if let (Some(stream), Some(peer)) = (connection.ended(id), connection.up) {
                        machine.handle_acked(peer, stream);
                    }
                }
                StreamEvent::Stopped { id, .. } => {
                    if let (Some(stream), Some(peer)) = (connection.stopped(id), connection.up) {
                        machine.handle_stopped(peer, stream);
                    }
                }
                StreamEvent::Available { .. } => {}
            },
            _ => {}
        }
        self.handle_notices(now, handle);
    }

    fn handle_notices(&mut self, now: Time, handle: ConnectionHandle) {
        while !self.notices.is_empty() {
            let notice = self.notices.remove(0);
            // Once a peer is cut off, further faults found in the same pass are not counted.
            let Some(connection) = self.connection(handle).filter(|c| c.is_open()) else {
                continue;
            };
            let Some(peer) = connection.node.and_then(|node| self.peers.find(&node)) else {
                continue;
            };
            match notice {
                Notice::Hello(hello) => self.on_hello(now, handle, peer, &hello),
                Notice::Fault(fault) => {
                    self.stats.faults += 1;
                    let is_up = self.connection(handle).is_some_and(|c| c.up.is_some());
                    let transport = &self.config.transport;
                    let is_cut_off = self.peers.note_fault(now, peer, fault, transport);
                    if is_cut_off || !is_up {
                        self.close(now, handle, FAULTS);
                    }
                    // It may have broken the rules over another connection than the one that is up.
                    if is_cut_off && let Some(other) = self.peers.peer(peer).connection {
                        self.close(now, other, FAULTS);
                    }
                }
            }
        }
    }

    fn poll_machine(&mut self, now: Time) {
        loop {
            match self.machine.poll(now) {
                MachineOutput::Reset { peer, stream } => {
                    if let Some(connection) = self.connection_to(peer) {
                        connection.reset(stream);
                        self.mark_peer_ready(peer);
                    }
                }
                MachineOutput::Stop { peer, request } => {
                    if let Some(connection) = self.connection_to(peer) {
                        connection.stop_answer(request);
                        self.mark_peer_ready(peer);
                    }
                }
                MachineOutput::Idle { .. } => return,
            }
        }
    }

    fn connection_to(&mut self, peer: PeerIndex) -> Option<&mut Connection> {
        let handle = self.peers.peer(peer).connection?;
        self.connection(handle)
    }

    fn mark_peer_ready(&mut self, peer: PeerIndex) {
        if let Some(handle) = self.peers.peer(peer).connection {
            self.mark_ready(handle);
        }
    }

    fn poll_transmit(
        &mut self,
        now: Time,
        segments_max: usize,
        buffer: &mut Vec<u8>,
    ) -> Option<Transmit> {
        let instant = self.instant(now);
        while !self.ready.is_empty() {
            let at = self.turn % self.ready.len();
            let handle = self.ready[at];
            // A connection that was removed is still in the list, and its handle may be in use
            // again.
            if let Some(connection) = self.connection(handle) {
                let fitting = BATCH_BYTES_MAX / usize::from(connection.quic.current_mtu());
                let segments = segments_max.min(fitting).max(1);
                buffer.clear();
                if let Some(transmit) = connection.quic.poll_transmit(instant, segments, buffer) {
                    self.turn = self.turn.wrapping_add(1);
                    return Some(Transmit::from_quic(transmit));
                }
                connection.timeout = connection.quic.poll_timeout();
                connection.is_ready = false;
            }
            self.ready.swap_remove(at);
        }
        None
    }

    fn idle(&mut self) -> Output {
        let MachineOutput::Idle { wake_at: machine_at, why } = self.machine.poll(self.now) else {
            unreachable!("drained before");
        };
        let call_at = self.rpc.next_deadline();
        let (machine_at, why) =
            if call_at < machine_at { (call_at, Wake::Call) } else { (machine_at, why) };
        let mut wake_at =
            if self.closing_since.is_some() { Time::NEVER } else { self.peers.dial_at() };
        if let Some(since) = self.closing_since {
            wake_at = since + SHUTDOWN_MAX;
        }
        wake_at = wake_at.min(self.trouble.report_at(self.now));
        for connection in self.connections.iter().flatten() {
            if let Some(timeout) = connection.timeout {
                let since_start = timeout.saturating_duration_since(self.start);
                wake_at = wake_at.min(Time::ZERO + since_start);
            }
            if connection.up.is_none() && connection.is_open() {
                wake_at = wake_at.min(connection.hello_deadline);
            }
        }
        self.machine_at = machine_at;
        let why = match machine_at <= wake_at {
            true => why,
            false => Wake::Connection,
        };
        Output::Idle { wake_at: wake_at.min(machine_at), why }
    }

    /// Whether [`Node::poll_event`] may have an event of a channel.
    pub fn has_events(&self, channel: ChannelId) -> bool {
        self.machine.has_events(channel)
    }

    /// Takes the next event of a channel. Call [`Node::poll`] afterwards: there may be room for
    /// more to be fetched.
    pub fn poll_event(&mut self, channel: ChannelId) -> Option<Event> {
        let event = self.machine.poll_event(channel);
        self.fill_due |= event.is_some();
        event
    }

    /// Whether [`Node::poll_node_event`] may have an event.
    pub fn has_node_events(&self) -> bool {
        self.peers.has_events() || self.has_refused() || self.trouble.has_event(self.now)
    }

    fn has_refused(&self) -> bool {
        let counts = (self.stats.refused, self.stats.strangers);
        counts != self.refused_told && self.refused_due <= self.now
    }

    /// Takes the next event about peers.
    pub fn poll_node_event(&mut self) -> Option<NodeEvent> {
        if let Some(event) = self.peers.next_event() {
            return Some(event);
        }
        if let Some(event) = self.trouble.next_event(self.now) {
            return Some(event);
        }
        if !self.has_refused() {
            return None;
        }
        let counts = (self.stats.refused, self.stats.strangers);
        let (handshakes, datagrams) = std::mem::replace(&mut self.refused_told, counts);
        self.refused_due = self.now + REFUSED_INTERVAL;
        Some(NodeEvent::Refused {
            handshakes: counts.0 - handshakes,
            datagrams: counts.1 - datagrams,
        })
    }
}

pub(crate) fn channel_hello(config: &ChannelConfig) -> ChannelHello {
    ChannelHello {
        id: config.id,
        slots_max: config.slots_max,
        artifact_bytes_max: config.artifact_bytes_max,
        push_bytes_max: config.push_bytes_max,
        relay_hops_max: config.relay_hops_max,
    }
}
