//! A bare QUIC participant: a member's key, its dials and what it accepts, and nothing of our
//! protocol.
//!
//! Whoever drives it sees each connection come and go, and decides about each stream: what is
//! written, whether anything is read, and how it ends. Time, datagrams and a seed come in; nothing
//! else decides what goes out.
//!
//! Invariants:
//! 1. A [`LineId`] names one connection for ever: quinn-proto reuses its handles.
//! 2. At most `UNWRITTEN_MAX` bytes (and one piece) wait for credit in a connection, and at most
//!    `LINES_PER_MEMBER` connections exist for each member, hollow ones aside.

mod line;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use quinn_proto::{
    ConnectionHandle, DatagramEvent, Dir, Endpoint, EndpointEvent, Event as QuicEvent, Incoming,
    ServerConfig, StreamEvent, StreamId, TransportConfig as QuicTransport,
};

use crate::Crypto;
use line::{Line, Purpose};
use slotcast::config::TransportConfig;
use slotcast::id::NodeId;
use slotcast::internals::Random;
use slotcast::internals::{
    Members, Provider, SERVER_NAME, endpoint_config, peer_id, server_config,
};
use slotcast::membership::Topology;
use slotcast::node::{Ecn, NodeKey};
use slotcast::time::Time;

/// Connections per member, so that a peer which dials for ever costs no more.
const LINES_PER_MEMBER: usize = 8;

/// Handshakes that are begun only to be left alone, at once.
const HOLLOW_MAX: usize = 128;

/// For how long such a handshake is kept, to prove our address if that is asked for.
const HOLLOW_SPAN: Duration = Duration::from_secs(2);

/// Datagrams without a connection, until they are sent.
const RESPONSES_MAX: usize = 64;

/// Pauses before the next dial.
const DIAL_PAUSE_MIN: Duration = Duration::from_millis(50);
const DIAL_PAUSE_MAX: Duration = Duration::from_secs(1);

/// Names a connection; the later one is greater.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct LineId {
    generation: u64,
    at: usize,
}

/// What has happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BareEvent {
    /// The handshake is over. (A dialled member may still refuse the key.)
    Connected { line: LineId, node: NodeId },
    /// A connection, or an attempt at one, has ended, and not by [`BarePeer::close`].
    Lost { line: LineId },
    /// The peer does not want the rest of a stream.
    Stopped { line: LineId, stream: StreamId },
}

/// A member that is to be dialled, over and over.
#[derive(Clone, Copy, Debug)]
struct Dial {
    at: Time,
    pause: Duration,
}

/// The participant.
pub struct BarePeer {
    key: NodeKey,
    crypto: Crypto,
    start: Instant,
    config: TransportConfig,
    transport: Arc<QuicTransport>,
    members: Arc<Members>,
    addresses: BTreeMap<NodeId, SocketAddr>,
    dials: BTreeMap<NodeId, Dial>,
    /// Of the present start, as is the endpoint.
    provider: Provider,
    endpoint: Endpoint,
    random: Random,
    /// By connection handle.
    lines: Vec<Option<Line>>,
    generation: u64,
    events: VecDeque<BareEvent>,
    responses: Vec<(SocketAddr, Vec<u8>)>,
}

impl BarePeer {
    /// A participant that dials the members with higher ids, and accepts all members. `transport`
    /// is what QUIC tells the others: windows, stream credits, timeouts.
    pub fn new(
        key: NodeKey,
        topology: &Topology,
        config: &TransportConfig,
        transport: QuicTransport,
        crypto: Crypto,
        seed: u64,
        start: Instant,
    ) -> Self {
        let mut random = Random::new(seed);
        let others = topology.members().filter(|(node, _)| *node != key.id());
        let addresses: BTreeMap<_, _> = others.map(|(node, at)| (node, at[0])).collect();
        let members = Arc::new(Members::default());
        members.set(addresses.keys().copied());
        let dial = Dial { at: Time::ZERO, pause: Duration::ZERO };
        let higher = addresses.keys().filter(|node| **node > key.id());
        let dials = higher.map(|node| (*node, dial)).collect();
        let transport = Arc::new(transport);
        let seed = seed32(&mut random);
        let provider = Provider::new(&key, crypto.of_node(&key, &seed));
        let endpoint = endpoint(&provider, config, &transport, &members, seed);
        Self {
            key,
            crypto,
            start,
            config: config.clone(),
            transport,
            members,
            addresses,
            dials,
            provider,
            endpoint,
            random,
            lines: Vec::new(),
            generation: 0,
            events: VecDeque::new(),
            responses: Vec::new(),
        }
    }

    // Getters.

    /// Its id.
    pub fn id(&self) -> NodeId {
        self.key.id()
    }

    /// The other members.
    pub fn others(&self) -> impl Iterator<Item = NodeId> {
        self.addresses.keys().copied()
    }

    fn instant(&self, now: Time) -> Instant {
        self.start + Duration::from_nanos(now.0)
    }

    fn line(&mut self, id: LineId) -> Option<&mut Line> {
        let line = self.lines.get_mut(id.at)?.as_mut()?;
        (line.generation == id.generation && !line.is_over).then_some(line)
    }

    // Connections.

    /// Dials a member now, whatever connections to it there are.
    pub fn dial(&mut self, now: Time, node: NodeId) -> Option<LineId> {
        self.connect(now, node, Purpose::Talk)
    }

    /// Begins a handshake which is never brought to its end: the member is left waiting.
    pub fn dial_hollow(&mut self, now: Time, node: NodeId) -> Option<LineId> {
        let is_hollow = |line: &&Line| line.purpose == Purpose::Hollow;
        let hollow = self.lines.iter().flatten().filter(is_hollow).count();
        if hollow < HOLLOW_MAX { self.connect(now, node, Purpose::Hollow) } else { None }
    }

    /// Dials a member and hangs up before it has answered.
    pub fn ring(&mut self, now: Time, node: NodeId) -> bool {
        self.connect(now, node, Purpose::Ring).is_some()
    }

    fn connect(&mut self, now: Time, node: NodeId, purpose: Purpose) -> Option<LineId> {
        let address = *self.addresses.get(&node)?;
        let mut client = self.provider.client_config(&[node]);
        client.transport_config(self.transport.clone());
        let instant = self.instant(now);
        let dialled = self.endpoint.connect(instant, client, address, SERVER_NAME);
        let (handle, quic) = dialled.ok()?;
        Some(self.insert(now, handle, quic, Some(node), purpose))
    }

    fn insert(
        &mut self,
        now: Time,
        handle: ConnectionHandle,
        quic: quinn_proto::Connection,
        dialled: Option<NodeId>,
        purpose: Purpose,
    ) -> LineId {
        if self.lines.len() <= handle.0 {
            self.lines.resize_with(handle.0 + 1, || None);
        }
        self.generation += 1;
        self.lines[handle.0] = Some(Line::new(quic, self.generation, dialled, purpose, now));
        LineId { generation: self.generation, at: handle.0 }
    }

    /// Sends a member a datagram of no connection.
    pub fn throw(&mut self, node: NodeId, datagram: &[u8]) {
        if let Some(address) = self.addresses.get(&node).copied() {
            self.respond(address, datagram.len(), datagram);
        }
    }

    /// Closes a connection, and says so to the peer.
    pub fn close(&mut self, now: Time, id: LineId) {
        let instant = self.instant(now);
        let Some(line) = self.line(id) else { return };
        line.quic.close(instant, 0_u32.into(), Bytes::new());
        line.touched = true;
        self.over(now, id.at);
    }

    /// Leaves a connection without a word: what comes for it is answered with a reset.
    pub fn forget(&mut self, now: Time, id: LineId) {
        if self.line(id).is_some() {
            self.over(now, id.at);
            self.endpoint.handle_event(ConnectionHandle(id.at), EndpointEvent::drained());
            self.lines[id.at] = None;
        }
    }

    /// Forgets everything but its key, as a process that is killed and started again.
    pub fn restart(&mut self, now: Time) {
        let random = &mut self.random;
        let seed = seed32(random);
        self.provider = Provider::new(&self.key, self.crypto.of_node(&self.key, &seed));
        self.endpoint =
            endpoint(&self.provider, &self.config, &self.transport, &self.members, seed);
        self.lines.clear();
        self.events.clear();
        self.responses.clear();
        for dial in self.dials.values_mut() {
            *dial = Dial { at: now + random.duration_below(DIAL_PAUSE_MIN), pause: Duration::ZERO };
        }
    }

    /// Dials of its own accord no more.
    pub fn stop_dialling(&mut self) {
        self.dials.clear();
    }

    fn over(&mut self, now: Time, at: usize) {
        let Some(line) = &mut self.lines[at] else { return };
        if std::mem::replace(&mut line.is_over, true) {
            return;
        }
        line.forget_streams();
        let (was_short, purpose) = (now.since(line.begun) < DIAL_PAUSE_MAX, line.purpose);
        let Some(node) = line.dialled.filter(|_| purpose == Purpose::Talk) else { return };
        let Some(dial) = self.dials.get_mut(&node) else { return };
        dial.pause = match was_short {
            true => (2 * dial.pause).clamp(DIAL_PAUSE_MIN, DIAL_PAUSE_MAX),
            false => DIAL_PAUSE_MIN,
        };
        dial.at = now + dial.pause / 2 + self.random.duration_below(dial.pause / 2);
    }

    fn is_dialling(&self, node: NodeId) -> bool {
        let mut lines = self.lines.iter().flatten();
        lines.any(|line| {
            line.dialled == Some(node) && !line.is_over && line.purpose == Purpose::Talk
        })
    }

    // Streams.

    /// Opens a stream to the peer, if it allows one more.
    pub fn open(&mut self, id: LineId) -> Option<StreamId> {
        self.line(id)?.open(Dir::Uni)
    }

    /// Opens a stream for a call to the peer, if it allows one more.
    pub fn open_call(&mut self, id: LineId) -> Option<StreamId> {
        self.line(id)?.open(Dir::Bi)
    }

    /// Writes into a stream as credit comes, and ends it behind that if `finish` says so. False,
    /// and nothing is written, if too much is waiting already.
    pub fn write(
        &mut self,
        id: LineId,
        stream: StreamId,
        bytes: impl Into<Bytes>,
        finish: bool,
    ) -> bool {
        self.line(id).is_some_and(|line| line.write(stream, bytes.into(), finish))
    }

    /// Resets a stream to the peer.
    pub fn reset(&mut self, id: LineId, stream: StreamId) {
        if let Some(line) = self.line(id) {
            line.reset(stream);
        }
    }

    /// Asks the peer for a sign of life, in a packet with nothing else.
    pub fn ping(&mut self, id: LineId) {
        if let Some(line) = self.line(id) {
            line.ping();
        }
    }

    /// Begins each packet from now on with these frames (RFC 9000, section 19), as far as there is room, whatever QUIC
    /// would say of them. An empty slice ends that.
    ///
    /// # Panics
    /// If the handshake is not over, or packets are protected: see [`Crypto::Null`].
    pub fn insert_frames(&mut self, id: LineId, frames: impl Into<Bytes>) {
        if let Some(line) = self.line(id) {
            line.insert_frames(frames.into());
        }
    }

    /// Asks the peer to stop a stream.
    pub fn stop(&mut self, id: LineId, stream: StreamId) {
        if let Some(line) = self.line(id) {
            line.stop(stream);
        }
    }

    /// Reads what has arrived in the peer's streams and hands it to `take`: `None` is the end of
    /// the stream, or its reset. With a `limit` only so many bytes of each; without it, what earlier
    /// calls left, too. Who never calls this reads nothing.
    pub fn read(
        &mut self,
        id: LineId,
        limit: Option<usize>,
        take: impl FnMut(StreamId, Option<&[u8]>),
    ) {
        if let Some(line) = self.line(id) {
            line.read(limit, take);
        }
    }

    // Inputs and outputs.

    /// A datagram has arrived.
    pub fn handle_datagram(
        &mut self,
        now: Time,
        from: SocketAddr,
        ecn: Option<Ecn>,
        datagram: &[u8],
    ) {
        let instant = self.instant(now);
        let is_retry = datagram.first().is_some_and(|first| first & 0xf0 == 0xf0);
        let mut response = Vec::new();
        let datagram = BytesMut::from(datagram);
        let ecn = ecn.and_then(|ecn| quinn_proto::EcnCodepoint::from_bits(ecn.bits()));
        match self.endpoint.handle(instant, from, None, ecn, datagram, &mut response) {
            Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                if let Some(line) = self.lines.get_mut(handle.0).and_then(Option::as_mut)
                    && (is_retry || line.purpose != Purpose::Hollow)
                {
                    line.quic.handle_event(event);
                    line.touched = true;
                }
            }
            Some(DatagramEvent::NewConnection(incoming)) => self.accept(now, incoming),
            Some(DatagramEvent::Response(transmit)) => {
                self.respond(transmit.destination, transmit.size, &response);
            }
            None => {}
        }
    }

    fn respond(&mut self, to: SocketAddr, size: usize, response: &[u8]) {
        if self.responses.len() < RESPONSES_MAX {
            self.responses.push((to, response[..size].into()));
        }
    }

    fn accept(&mut self, now: Time, incoming: Incoming) {
        let mut response = Vec::new();
        // A late packet of a forgotten connection. Its header cannot be read without that one's keys:
        // whether it looks like a handshake depends on random bytes, and with TLS so would the run.
        if self.provider.has_issued(incoming.orig_dst_cid()) {
            return self.endpoint.ignore(incoming);
        }
        let accepted = self.lines.iter().flatten().filter(|line| line.dialled.is_none()).count();
        if accepted >= LINES_PER_MEMBER * self.addresses.len() {
            let transmit = self.endpoint.refuse(incoming, &mut response);
            return self.respond(transmit.destination, transmit.size, &response);
        }
        match self.endpoint.accept(incoming, self.instant(now), &mut response, None) {
            Ok((handle, quic)) => drop(self.insert(now, handle, quic, None, Purpose::Talk)),
            Err(error) => {
                if let Some(transmit) = error.response {
                    self.respond(transmit.destination, transmit.size, &response);
                }
            }
        }
    }

    /// Lets time pass: dials, and collects what has happened for [`BarePeer::next_event`].
    pub fn serve(&mut self, now: Time) {
        let instant = self.instant(now);
        for at in 0..self.lines.len() {
            let Some(line) = &mut self.lines[at] else { continue };
            if line.purpose == Purpose::Hollow {
                if line.begun + HOLLOW_SPAN <= now {
                    let id = LineId { generation: line.generation, at };
                    self.forget(now, id);
                }
                continue;
            }
            if line.timeout.is_some_and(|timeout| timeout <= instant) {
                line.timeout = None;
                line.quic.handle_timeout(instant);
                line.touched = true;
            }
            if line.touched {
                self.serve_line(now, at);
            }
        }
        let due: Vec<NodeId> = self.due(now).collect();
        for node in due {
            if self.dial(now, node).is_none() {
                let dial = self.dials.get_mut(&node).expect("due");
                dial.at = now + DIAL_PAUSE_MAX;
            }
        }
    }

    fn due(&self, now: Time) -> impl Iterator<Item = NodeId> {
        let due = self.dials.iter().filter(move |(_, dial)| dial.at <= now);
        due.map(|(node, _)| *node).filter(|node| !self.is_dialling(*node))
    }

    fn serve_line(&mut self, now: Time, at: usize) {
        let crypto = self.crypto;
        while let Some(line) = &mut self.lines[at]
            && let Some(event) = line.quic.poll()
        {
            let id = LineId { generation: line.generation, at };
            match event {
                _ if line.is_over => {}
                QuicEvent::Connected => {
                    line.meet(peer_id(&line.quic), crypto);
                    match line.node {
                        Some(node) => {
                            self.events.push_back(BareEvent::Connected { line: id, node })
                        }
                        None => self.close(now, id),
                    }
                }
                QuicEvent::ConnectionLost { .. } => {
                    self.over(now, at);
                    self.events.push_back(BareEvent::Lost { line: id });
                }
                // At once: one that was not accepted may not be reset.
                QuicEvent::Stream(StreamEvent::Opened { dir: Dir::Bi }) => line.accept(Dir::Bi),
                QuicEvent::Stream(StreamEvent::Readable { id }) => line.note_readable(id),
                QuicEvent::Stream(StreamEvent::Writable { .. }) => line.flush(),
                QuicEvent::Stream(StreamEvent::Stopped { id: stream, .. }) => {
                    line.reset(stream);
                    self.events.push_back(BareEvent::Stopped { line: id, stream });
                }
                _ => {}
            }
        }
        self.serve_endpoint(at);
    }

    /// Passes on what a connection has to tell its endpoint. Drained, its handle is free for another
    /// one.
    fn serve_endpoint(&mut self, at: usize) {
        while let Some(line) = &mut self.lines[at]
            && let Some(event) = line.quic.poll_endpoint_events()
        {
            let is_drained = event.is_drained();
            if let Some(event) = self.endpoint.handle_event(ConnectionHandle(at), event) {
                line.quic.handle_event(event);
                line.touched = true;
            }
            if is_drained {
                self.lines[at] = None;
            }
        }
    }

    /// Takes what has happened next.
    pub fn next_event(&mut self) -> Option<BareEvent> {
        self.events.pop_front()
    }

    /// Hands out what there is to be sent. True if something may have happened meanwhile: serve and
    /// transmit again.
    pub fn transmit(&mut self, now: Time, send: &mut dyn FnMut(SocketAddr, &[u8])) -> bool {
        let instant = self.instant(now);
        for (to, response) in self.responses.drain(..) {
            send(to, &response);
        }
        let mut buffer = Vec::new();
        for at in 0..self.lines.len() {
            let Some(line) = self.lines[at].as_mut().filter(|line| line.touched) else { continue };
            line.touched = false;
            line.transmit(instant, &mut buffer, send);
            if line.purpose == Purpose::Ring {
                line.quic.close(instant, 0_u32.into(), Bytes::new());
                line.transmit(instant, &mut buffer, send);
                let id = LineId { generation: line.generation, at };
                self.forget(now, id);
                continue;
            }
            line.timeout = line.quic.poll_timeout();
            self.serve_endpoint(at);
        }
        self.lines.iter().flatten().any(|line| line.touched)
    }

    /// When it has something to do without an input.
    pub fn wake_at(&self) -> Time {
        let idle = self.dials.iter().filter(|(node, _)| !self.is_dialling(**node));
        let dial_at = idle.map(|(_, dial)| dial.at).min().unwrap_or(Time::NEVER);
        let timeouts = self.lines.iter().flatten().map(|line| match line.timeout {
            _ if line.purpose == Purpose::Hollow => line.begun + HOLLOW_SPAN,
            Some(at) => Time::ZERO + at.saturating_duration_since(self.start),
            None => Time::NEVER,
        });
        timeouts.min().unwrap_or(Time::NEVER).min(dial_at)
    }
}

fn seed32(random: &mut Random) -> [u8; 32] {
    let mut seed = [0; 32];
    seed.as_chunks_mut().0.iter_mut().for_each(|word| *word = random.bits().to_le_bytes());
    seed
}

/// An endpoint with nothing in it. Its connection ids and resets are those of the key, so that a
/// restarted one can tell its peers that it knows nothing.
fn endpoint(
    provider: &Provider,
    config: &TransportConfig,
    transport: &Arc<QuicTransport>,
    members: &Arc<Members>,
    seed: [u8; 32],
) -> Endpoint {
    let endpoint = endpoint_config(config, provider, seed);
    let mut server: ServerConfig = server_config(config, provider, members.clone());
    server.transport_config(transport.clone());
    Endpoint::new(Arc::new(endpoint), Some(Arc::new(server)), true, None)
}
