//! A whole node without a socket: QUIC, identity, connections, and the machines for broadcast and
//! calls.
//!
//! Inputs are [`Node::handle_datagrams`] and the commands; then [`Node::poll`] is called until it
//! gives [`Output::Idle`], and again at the time it names. Outputs for the application are taken
//! with [`Node::poll_event`], [`Node::poll_request`], [`Node::poll_outcome`], [`Node::poll_flushed`] and
//! [`Node::poll_node_event`], at any time: the node does not wait for it. [`Node::poll`] itself may
//! produce such outputs, until it returns `Idle`: see [`Node::has_output`].
//!
//! What belongs to one connection is a `Link`. `events` deals with what happens to links, and
//! `egress` decides which of them sends next; `ready` is the queue of those that have something to
//! send, `uplink` the rate at which the node does. Nothing here walks all links. Invariants 9, 11, 18.
//!
//! Of two members that are not connected, both dial, since it may be that only one of them can
//! reach the other. The member with the lower id dials at once and then with backoff. The other one
//! dials after its start, if it has not been dialled by then, and at a slow rate afterwards. Several
//! addresses of a member are raced (RFC 8305): see `peers`. Both
//! sides prove their keys in the handshake (RFC 7250, RFC 9001). The key determines the member
//! ([`crate::membership`]). A peer is up once its hello has been read. Of several connections to
//! one member, one is kept: see `handshake`. Invariant 10.

mod address;
mod buffers;
mod calls;
mod closing;
mod congestion;
#[cfg_attr(not(feature = "internals"), allow(unreachable_pub, reason = "public in `internals`"))]
pub(crate) mod crypto;
mod disconnect;
mod egress;
mod endpoint_keys;
mod events;
mod faults;
mod flush;
mod handshake;
mod incarnations;
#[cfg(feature = "internals")]
mod inspect;
mod key;
mod link;
mod losses;
mod members;
mod occurrence;
mod peers;
mod progress;
mod publishing;
mod qlog;
#[cfg_attr(not(feature = "internals"), allow(unreachable_pub, reason = "public in `internals`"))]
pub(crate) mod quic;
mod ready;
mod report;
mod share;
mod snapshot;
mod socket;
mod transmit;
mod uplink;
mod usage;
mod window_pool;

#[cfg_attr(not(feature = "driver"), allow(unused_imports, reason = "for drivers"))]
pub(crate) use calls::HeldRequest;
pub use calls::Request;
pub use crypto::{TlsError, TlsSettings};
pub use flush::{FLUSHES_MAX, FlushId};
pub use incarnations::TWIN_INTERVAL;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub use inspect::OpenConnection;
pub use key::{KeyError, NodeKey, Signer, SignerError};
pub use occurrence::Occurrence;
#[cfg(feature = "qlog")]
pub use qlog::{QLOG_BYTES_MAX, QlogWriter, RecordedConnection};
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
use quinn_proto::{ConnectionHandle, DatagramEvent, Endpoint, ServerConfig, VarInt};

use crate::broadcast::{Broadcast, Event, Output as MachineOutput, SendBuffer, Wake};
use crate::config::{ChannelConfig, Config};
use crate::deadlines::Deadlines;
use crate::id::{Arrival, ChannelId, NodeId, PeerIndex};
use crate::membership::{Membership, Topology};
use crate::random::Random;
use crate::rpc::Rpc;
use crate::sched::{Level, Schedule};
use crate::time::Time;
use crate::trace;
use crate::wire::{ChannelHello, Hello, MINOR};
use buffers::Buffers;
use closing::Closing;
use crypto::{HandshakeCrypto, Members, Provider, Tls};
use flush::Flushes;
use link::{Link, Notice, quota_hello};
use peers::Peers;
use ready::ReadyLinks;
use share::{Turns, cost};
use uplink::Uplink;
use window_pool::WindowPool;

/// Application error codes of CONNECTION_CLOSE.
const SHUTDOWN: VarInt = VarInt::from_u32(0);
const SUPERSEDED: VarInt = VarInt::from_u32(1);
const NO_MEMBER: VarInt = VarInt::from_u32(2);
const FAULTS: VarInt = VarInt::from_u32(3);
const NO_HELLO: VarInt = VarInt::from_u32(4);
const DISCONNECTED: VarInt = VarInt::from_u32(5);
const TWIN: VarInt = VarInt::from_u32(6);

/// The number of responses without a connection (refusals, retries, resets) that are held until
/// they are sent. Further ones are dropped: whoever they were for tries again.
const RESPONSES_MAX: usize = 64;

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
    peers: Peers,
    /// The present input.
    arrival: Arrival,
    /// By connection handle. Each is alive, or what has come on it is still to be read.
    links: Vec<Option<Box<Link>>>,
    /// Links to which something happened, each once. Empty between inputs.
    touched: Vec<ConnectionHandle>,
    /// Links that may send.
    ready: ReadyLinks,
    turns: Turns,
    /// Of links.
    deadlines: Deadlines,
    /// Links of dialling peers that are on their way to be up. At most `handshakes_max`.
    accepting: Vec<ConnectionHandle>,
    /// What is left of links that have ended.
    closing: Closing,
    uplink: Uplink,
    window_pool: WindowPool,
    qlog: qlog::Qlog,
    responses: Vec<(quinn_proto::Transmit, Vec<u8>)>,
    /// What a link's schedule is at first. The flows of the broadcast machine come first, then
    /// those of calls.
    schedule: Schedule,
    broadcast_flows: usize,
    /// Something has happened in this poll, so that there may be more to do.
    has_changed: bool,
    out: SendBuffer,
    /// For what was encoded, until it is acknowledged.
    encoded: Buffers,
    /// For datagrams that have come.
    received: Buffers,
    notices: Vec<Notice>,
    flushes: Flushes,
    closing_since: Option<Time>,
    stats: NodeStats,
    /// The counts in the last report of refusals, and the earliest time of the next one.
    refused_told: (u64, u64),
    refused_due: Time,
    trouble: socket::Trouble,
    #[cfg(feature = "internals")]
    incarnation: u64,
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
    /// If the configuration is invalid.
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
        Self::with_tls(config, key, topology, seed, start, &TlsSettings::default())
    }

    /// The same with these algorithms in handshakes.
    ///
    /// # Errors
    /// If the configuration is invalid.
    ///
    /// # Panics
    /// As [`Node::new`].
    pub fn with_tls(
        config: Config,
        key: NodeKey,
        topology: Topology,
        seed: [u8; 32],
        start: Instant,
        tls: &TlsSettings,
    ) -> Result<Self, NodeError> {
        let crypto = Arc::new(Tls::new(&key, tls));
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
        let machine = Broadcast::new(&config, key.id(), word(0))?;
        let rpc = Rpc::new(&config)?;
        let provider = Provider::new(&key, crypto);
        let members = Arc::new(Members::default());
        let server = Arc::new(quic::server_config(&config.transport, &provider, members.clone()));
        let endpoint = quic::endpoint_config(&config.transport, &provider, seed);
        let endpoint = Endpoint::new(Arc::new(endpoint), Some(server.clone()), true, None);
        let mut hello = Vec::new();
        let channels = config.channels.iter().map(channel_hello).collect();
        let routes = config.routes.iter().map(calls::route_hello).collect();
        let quotas = config.channels.iter().filter_map(quota_hello).collect();
        Hello { minor: MINOR, incarnation: word(1), channels, routes, quotas }.encode(&mut hello);
        let uplink = Uplink::new(config.transport.uplink);
        let mut node = Self {
            peers: Peers::new(
                key.id(),
                Random::new(word(2)),
                config.channels.iter().map(|channel| channel.id).collect(),
            ),
            window_pool: WindowPool::new(&config),
            arrival: Arrival::default(),
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
            schedule: Schedule::new(machine.flows().chain(rpc.flows().map(Level::from))),
            broadcast_flows: machine.flows().count(),
            machine,
            rpc,
            links: Vec::new(),
            touched: Vec::new(),
            ready: ReadyLinks::default(),
            turns: Turns::new(),
            deadlines: Deadlines::new(),
            accepting: Vec::new(),
            closing: Closing::new(),
            uplink,
            qlog: qlog::Qlog::default(),
            responses: Vec::new(),
            has_changed: false,
            out: SendBuffer::new(),
            encoded: Buffers::encoded(),
            received: Buffers::received(),
            notices: Vec::new(),
            flushes: Flushes::default(),
            closing_since: None,
            stats: NodeStats::default(),
            refused_told: (0, 0),
            refused_due: Time::ZERO,
            trouble: socket::Trouble::default(),
            #[cfg(feature = "internals")]
            incarnation: word(1),
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

    /// By how much turns, and polls of the driver, are to be shorter than usual: see [`share`].
    pub(crate) fn shortened_by(&self) -> u32 {
        self.turns.shortened_by(self.now, self.peers.len())
    }

    /// How often it has changed which members are connected.
    #[cfg_attr(not(feature = "driver"), allow(dead_code, reason = "for drivers"))]
    pub(crate) const fn peers_changes(&self) -> u64 {
        self.peers.changes()
    }

    /// Whether it has shut down: there is nothing more to do.
    pub fn is_closed(&self) -> bool {
        let waited = |since: Time| self.now.since(since) >= self.config.transport.shutdown_timeout;
        self.closing_since.is_some_and(|since| waited(since) || self.closing.is_done())
    }

    fn instant(&self, now: Time) -> Instant {
        self.start + Duration::from_nanos(now.0)
    }

    /// Clamps `now`, so that the node's time never goes backwards.
    pub(crate) fn clamp(&mut self, now: Time) -> Time {
        self.now = self.machine.clamp(self.now.max(now));
        self.rpc.clamp(self.now);
        self.begin_input();
        self.now
    }

    /// What becomes known from now on is by another input than what became known before.
    fn begin_input(&mut self) {
        self.arrival.0 += 1;
        self.machine.begin_input(self.arrival);
        self.rpc.begin_input(self.arrival);
        self.peers.arrival = self.arrival;
    }

    // Commands. Those of channels are in `publishing`, those of the membership in `members`.

    /// Closes all connections and accepts no new ones. Peers are notified. What has not been sent is lost:
    /// see [`Node::shutdown_within`]. Continue to poll until [`Node::is_closed`], which takes half a second
    /// at most.
    pub fn shutdown(&mut self, now: Time) {
        let now = self.clamp(now);
        if self.closing_since.is_some() {
            return;
        }
        self.closing_since = Some(now);
        trace::shutdown();
        self.flushes.close();
        self.endpoint.set_server_config(None);
        for at in 0..self.links.len() {
            if self.links[at].is_some() {
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
        let from = address::canonical(from);
        self.stats.work +=
            u64::from(cost::DATAGRAM) * datagrams.len().div_ceil(stride.max(1)) as u64;
        self.stats.received_bytes += datagrams.len() as u64;
        self.stats.received_batches += 1;
        let stride = stride.max(1);
        for datagram in datagrams.chunks(stride) {
            let datagram = self.received.copy(datagram);
            self.handle_datagram(now, from, to, ecn, datagram);
        }
        // Before the next batch, so that what came first is reported first. Invariant 18.
        self.handle_touched(now);
    }

    /// Whether further datagrams wait in the socket when [`Node::poll`] is called next: they are to be handed over
    /// before what peers have sent beyond their [share](crate::config::WorkConfig) is read. A caller that always
    /// hands over all of them need not say so.
    pub fn set_input_waits(&mut self, input_waits: bool) {
        self.turns.set_input_waits(input_waits);
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
        let (ecn, bytes) = (ecn.map(Ecn::to_quic), datagram.len());
        match self.endpoint.handle(instant, from, to, ecn, datagram, &mut response) {
            Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                if self.closing.handle_datagram(handle, from, bytes) {
                    return;
                }
                if let Some(link) = self.link(handle) {
                    link.note_heard(now, from);
                    link.effort.note_datagram();
                    link.quic.handle_event(event);
                    self.touch(handle);
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

    fn link(&mut self, handle: ConnectionHandle) -> Option<&mut Link> {
        self.links.get_mut(handle.0)?.as_deref_mut()
    }

    fn link_to(&mut self, peer: PeerIndex) -> Option<&mut Link> {
        let handle = self.peers.peer(peer).connection?;
        self.link(handle)
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
                let transmit = Transmit::from_quic(transmit);
                self.uplink.charge(now, transmit.size, transmit.datagrams());
                return self.transmit(transmit);
            }
            self.has_changed = false;
            self.advance(now);
            if let Some(transmit) = self.poll_links(now, segments_max, buffer) {
                return self.transmit(transmit);
            }
            if !self.has_changed {
                let waits = !self.ready.is_empty() || self.closing.has_packets();
                let free_at = if waits { self.uplink.free_at() } else { Time::NEVER };
                return self.idle(free_at);
            }
        }
    }

    /// The same as [`Node::poll`] for a socket that accepts no datagrams at the moment. Received
    /// data is processed and deadlines expire, so that calls and a shutdown end in time, but
    /// nothing is handed out for sending. Returns when to call again, unless the socket becomes
    /// writable before.
    pub fn poll_blocked(&mut self, now: Time) -> Time {
        let now = self.clamp(now);
        self.advance(now);
        let Output::Idle { wake_at, .. } = self.idle(Time::NEVER) else {
            unreachable!("nothing is sent")
        };
        wake_at
    }

    /// Whether there is anything to take: events of channels or about peers, outcomes of calls, ends of
    /// flushes, requests on routes that are [served](Node::serve), and cancellations of requests. It is true
    /// until all of that has been taken: a loop that waits only without output takes every kind.
    pub fn has_output(&self) -> bool {
        let has_ended = self.has_node_events() || self.flushes.has_ended();
        has_ended || self.machine.has_any_event() || self.rpc.has_output()
    }

    /// Processes everything that is due, except sending.
    fn advance(&mut self, now: Time) {
        self.expire(now);
        if self.closing_since.is_none() {
            while let Some((peer, address)) = self.next_dial(now) {
                self.dial(now, peer, address);
            }
        }
        loop {
            self.handle_touched(now);
            self.poll_machine(now);
            self.poll_rpc(now);
            self.advance_flushes(now);
            if self.touched.is_empty() {
                return;
            }
        }
    }

    fn transmit(&mut self, transmit: Transmit) -> Output {
        self.stats.sent_bytes += transmit.size as u64;
        self.stats.sent_datagrams += transmit.datagrams() as u64;
        self.stats.work += u64::from(cost::DATAGRAM) * transmit.datagrams() as u64;
        if self.turns.note_batch() {
            self.machine.resume_deferred();
            self.read_waiting(self.now);
        }
        Output::Transmit(transmit)
    }

    fn next_dial(&mut self, now: Time) -> Option<(PeerIndex, SocketAddr)> {
        let links = &self.links;
        // A peer that dials itself need not be dialled.
        self.peers.next_dial(now, &self.config.transport, |handles| {
            let mut links = handles.iter().filter_map(|handle| links[handle.0].as_deref());
            links.any(|link| !link.is_client && link.is_coming_up())
        })
    }

    /// When to poll again: at `free_at` at the latest, and at once if the next turn goes on with what this one has left.
    fn idle(&mut self, free_at: Time) -> Output {
        self.turns.end();
        let goes_on = self.machine.resume_deferred() || self.turns.has_waiting();
        let MachineOutput::Idle { wake_at: machine_at, why } = self.machine.poll(self.now) else {
            unreachable!("drained before");
        };
        let call_at = self.rpc.next_deadline();
        let (machine_at, why) =
            if call_at < machine_at { (call_at, Wake::Call) } else { (machine_at, why) };
        let wake_at = match self.closing_since {
            Some(since) => since + self.config.transport.shutdown_timeout,
            None => self.peers.dial_at(),
        };
        let flush_at = self.flushes.next_deadline();
        let (machine_at, why) =
            if flush_at < machine_at { (flush_at, Wake::Flush) } else { (machine_at, why) };
        let wake_at = wake_at.min(free_at).min(self.deadlines.earliest());
        let wake_at = wake_at.min(self.closing.next_deadline());
        let wake_at = wake_at.min(self.trouble.report_at(self.now)).min(self.refused_at());
        let wake_at = if goes_on { self.now } else { wake_at };
        let why = if machine_at <= wake_at { why } else { Wake::Connection };
        // Only now that all else is done. What comes of it is the next turn's.
        self.read_waiting(self.now);
        Output::Idle { wake_at: wake_at.min(machine_at), why }
    }

    /// Whether [`Node::poll_event`] may have an event of a channel.
    pub fn has_events(&self, channel: ChannelId) -> bool {
        self.machine.has_events(channel)
    }

    /// Takes the next event of a channel. Call [`Node::poll`] afterwards: there may be room for
    /// more to be fetched.
    pub fn poll_event(&mut self, channel: ChannelId) -> Option<Event> {
        self.machine.poll_event(channel)
    }

    /// The channels of which [`Node::poll_event`] may have an event, as indices in the
    /// configuration.
    pub fn channels_with_events(&self) -> impl Iterator<Item = usize> + use<> {
        self.machine.channels_with_events()
    }

    /// Takes the next event of any channel. Artifacts come in the order in which the datagrams
    /// arrived that made them complete, whichever members sent them: what was published because of
    /// another artifact comes after it. Call [`Node::poll`] afterwards. Invariant 18.
    pub fn poll_any_event(&mut self) -> Option<(ChannelId, Event)> {
        self.machine.poll_any_event()
    }

    /// The same by the channel's index, with the input that made it known.
    #[cfg(feature = "driver")]
    pub(crate) fn poll_event_at(&mut self, channel_index: usize) -> Option<(Arrival, Event)> {
        self.machine.poll_event_at(channel_index as u16)
    }

    /// Whether [`Node::poll_node_event`] may have an event.
    pub fn has_node_events(&self) -> bool {
        self.peers.has_events() || self.has_refused() || self.trouble.has_event(self.now)
    }

    fn has_refused(&self) -> bool {
        self.has_unreported_refusals() && self.refused_due <= self.now
    }

    fn has_unreported_refusals(&self) -> bool {
        (self.stats.refused, self.stats.strangers) != self.refused_told
    }

    /// When the next report of refusals will be due. One that is due already is left out, so that a
    /// caller that has no room for it is not woken for it again and again.
    fn refused_at(&self) -> Time {
        let is_waiting = self.has_unreported_refusals() && self.refused_due > self.now;
        if is_waiting { self.refused_due } else { Time::NEVER }
    }

    /// Takes the next event about peers.
    pub fn poll_node_event(&mut self) -> Option<NodeEvent> {
        self.poll_node_event_at().map(|(_, event)| event)
    }

    /// The same with the input that made it known. Reports of the socket and of strangers, which are due by
    /// the clock, come last.
    pub(crate) fn poll_node_event_at(&mut self) -> Option<(Arrival, NodeEvent)> {
        if let Some(event) = self.peers.next_event() {
            return Some(event);
        }
        Some((self.arrival, self.poll_report()?))
    }

    fn poll_report(&mut self) -> Option<NodeEvent> {
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
        sender_matters: config.sender_matters,
    }
}
