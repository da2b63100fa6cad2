//! The handshake of a simulated network: its shape and its sizes are those of [`tls`](super::tls),
//! so that the timelines are, but there is no secret in it, and every byte follows from a seed.
//!
//! **For tests only.** A node is whoever it says, and whoever can read packets can make them.
//!
//! Payloads are plain text, so that who watches the network can read them, and headers are not
//! protected. What stands in for the AEAD is a checksum, keyed by what both sides drew at random:
//! packets that were damaged, or that belong to another connection, another direction or another
//! time, do not fit.
//!
//! There is one message for each flight of the handshake (RFC 9001, section 4.1.3), as long as what
//! TLS would send in its place:
//!
//! | message | level | with |
//! | --- | --- | --- |
//! | client hello | Initial | random, transport parameters |
//! | server hello | Initial | random |
//! | server identity | Handshake | id, transport parameters |
//! | client identity | Handshake | id |
//!
//! Invariants:
//! 1. What arrives makes an error or is taken, but never a panic, and of an unfinished message no
//!    more is held than the longest could be.
//! 2. Nothing here reads a clock or draws a random number, except from [`Source`].

use std::any::Any;
use std::boxed::Box;
use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher};
use std::io::Cursor;
use std::string::String;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::SystemTime;
use std::vec;
use std::vec::Vec;

use bytes::BytesMut;
use foldhash::quality::FixedState;
use quinn_proto::crypto::rustls::HandshakeData;
use quinn_proto::crypto::{
    self, CryptoError, ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, UnsupportedVersion,
};
use quinn_proto::transport_parameters::TransportParameters;
use quinn_proto::{
    ClientConfig, ConnectError, ConnectionId, ConnectionIdGenerator, InvalidCid, ServerConfig,
    Side, TimeSource, TransportError, TransportErrorCode,
};

use super::{ALPN, Members, spki};
use crate::id::NodeId;
use crate::node::NodeKey;

// Alerts (RFC 8446, section 6), for the reasons that TLS has them for.
const UNEXPECTED_MESSAGE: u8 = 10;
const ACCESS_DENIED: u8 = 49;
const DECODE_ERROR: u8 = 50;
const NO_APPLICATION_PROTOCOL: u8 = 120;

/// Begins each message; its last byte is the version.
const PROTOCOL: [u8; 6] = *b"null/1";

/// Protocol, kind, and length of the transport parameters.
const HEAD_BYTES: usize = PROTOCOL.len() + 3;

/// A random or an id.
const VALUE_BYTES: usize = 32;

/// Transport parameters take some 100 bytes.
const PARAMETERS_BYTES_MAX: usize = 1024;

/// As much as TLS can export (RFC 5869, section 2.3).
const EXPORT_BYTES_MAX: usize = 255 * 32;

/// The server side: says to be `key`, and accepts whoever is in `members` at the time of the
/// handshake.
pub(super) fn server_crypto(
    key: &NodeKey,
    members: Arc<Members>,
    source: Arc<Source>,
) -> Arc<dyn crypto::ServerConfig> {
    Arc::new(Server { id: key.id(), members, source })
}

/// The client side of one dial: says to be `key`, and accepts no server but `expected`.
pub(super) fn client_crypto(
    key: &NodeKey,
    expected: NodeId,
    source: Arc<Source>,
) -> Arc<dyn crypto::ClientConfig> {
    Arc::new(Client { id: key.id(), expected, source })
}

/// What a node has in place of the system's randomness.
pub(super) struct Source {
    secret: Secret,
    drawn: AtomicU64,
}

impl Source {
    pub(super) fn new(id: NodeId, seed: &[u8; 32]) -> Self {
        Self { secret: SOURCE.derive("node", &[&id.0, seed]), drawn: AtomicU64::new(0) }
    }

    fn draw<const N: usize>(&self) -> [u8; N] {
        let number = self.drawn.fetch_add(1, Relaxed);
        let mut drawn = [0; N];
        self.secret.derive("drawn", &[&number.to_le_bytes()]).expand(&mut drawn);
        drawn
    }

    /// A client sends its first packets to a random connection id (RFC 9000, section 7.2). These
    /// are as long as quinn-proto's own.
    pub(super) fn give_cids(self: Arc<Self>, mut client: ClientConfig) -> ClientConfig {
        client.initial_dst_cid_provider(Arc::new(move || ConnectionId::new(&self.draw::<20>())));
        client
    }
}

/// Connection ids like those of [`quinn_proto::HashedConnectionIdGenerator`], drawn from a
/// [`Source`].
pub(super) struct Cids {
    key: Secret,
    source: Arc<Source>,
}

impl Cids {
    const NONCE_BYTES: usize = 3;
    const BYTES: usize = 8;

    /// Makes generators which recognise the ids of all that were made with `key`.
    pub(super) fn factory(
        key: u64,
        source: Arc<Source>,
    ) -> impl Fn() -> Box<dyn ConnectionIdGenerator> + Send + Sync {
        let key = SOURCE.derive("cids", &[&key.to_le_bytes()]);
        move || Box::new(Self { key, source: source.clone() })
    }

    fn sign(&self, cid: &mut [u8; Self::BYTES]) {
        let (nonce, signature) = cid.split_at_mut(Self::NONCE_BYTES);
        self.key.derive("cid", &[nonce]).expand(signature);
    }
}

impl ConnectionIdGenerator for Cids {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut cid = self.source.draw();
        self.sign(&mut cid);
        ConnectionId::new(&cid)
    }

    fn validate(&self, cid: &ConnectionId) -> Result<(), InvalidCid> {
        let mut expected: [u8; Self::BYTES] = cid[..].try_into().map_err(|_| InvalidCid)?;
        self.sign(&mut expected);
        if expected == cid[..] { Ok(()) } else { Err(InvalidCid) }
    }

    fn cid_len(&self) -> usize {
        Self::BYTES
    }

    fn cid_lifetime(&self) -> Option<std::time::Duration> {
        None
    }
}

/// The clock that dates address tokens. Those of a simulated network do not age.
struct StoppedClock;

impl TimeSource for StoppedClock {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }
}

/// Takes the system's clock from what the server side is told.
pub(super) fn without_clock(mut server: ServerConfig) -> ServerConfig {
    server.time_source(Arc::new(StoppedClock));
    server
}

/// The root of what depends on nothing but the node; an arbitrary number, as the next.
const SOURCE: Secret = Secret([0x9e37_79b9_7f4a_7c15, 0xf39c_c060_5ced_c834]);

/// The root of all keys.
const KEYS: Secret = Secret([0xc2b2_ae3d_27d4_eb4f, 0x1656_67b1_9e37_79f9]);

/// The key of a checksum. Its halves are the keys of two 64-bit ones, which together make up 16
/// bytes as the tag of an AEAD does.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Secret([u64; 2]);

impl Secret {
    fn checksum(self, number: u64, parts: &[&[u8]]) -> [u64; 2] {
        self.0.map(|half| {
            let mut hasher = FixedState::with_seed(half).build_hasher();
            hasher.write_u64(number);
            for part in parts {
                hasher.write_u64(part.len() as u64);
                hasher.write(part);
            }
            hasher.finish()
        })
    }

    fn derive(self, label: &str, parts: &[&[u8]]) -> Self {
        Self(Self(self.checksum(0, &[label.as_bytes()])).checksum(1, parts))
    }

    fn expand(self, out: &mut [u8]) {
        for (number, block) in (0..).zip(out.chunks_mut(16)) {
            block.copy_from_slice(&self.tag(number, &[])[..block.len()]);
        }
    }

    fn tag(self, number: u64, parts: &[&[u8]]) -> [u8; 16] {
        let [low, high] = self.checksum(number, parts);
        (u128::from(low) | u128::from(high) << 64).to_le_bytes()
    }

    /// What protects the packets that `sender` sends.
    fn of(self, sender: Side) -> Self {
        self.derive(if sender.is_client() { "client" } else { "server" }, &[])
    }

    fn pair(self, side: Side) -> KeyPair<Box<dyn crypto::PacketKey>> {
        KeyPair { local: Box::new(self.of(side)), remote: Box::new(self.of(!side)) }
    }

    fn keys(self, side: Side) -> Keys {
        Keys {
            header: KeyPair { local: Box::new(Unprotected), remote: Box::new(Unprotected) },
            packet: self.pair(side),
        }
    }
}

fn initial_keys(version: u32, cid: &ConnectionId, side: Side) -> Keys {
    KEYS.derive("initial", &[&version.to_le_bytes(), cid]).keys(side)
}

fn retry_tag(version: u32, cid: &ConnectionId, header: &[u8], token: &[u8]) -> [u8; 16] {
    let mut packet = header.to_vec();
    packet.extend_from_slice(token);
    KEYS.derive("retry", &[]).tag(0, &[&version.to_le_bytes(), cid, &packet])
}

impl crypto::PacketKey for Secret {
    fn encrypt(&self, packet: u64, buf: &mut [u8], header_len: usize) {
        let (header, payload) = buf.split_at_mut(header_len);
        let (payload, tag) = payload.split_at_mut(payload.len() - self.tag_len());
        tag.copy_from_slice(&self.tag(packet, &[header, payload]));
    }

    fn decrypt(
        &self,
        packet: u64,
        header: &[u8],
        payload: &mut BytesMut,
    ) -> Result<(), CryptoError> {
        let length = payload.len().checked_sub(self.tag_len()).ok_or(CryptoError)?;
        let (text, tag) = payload.split_at(length);
        if self.tag(packet, &[header, text]) != tag {
            return Err(CryptoError);
        }
        payload.truncate(length);
        Ok(())
    }

    fn tag_len(&self) -> usize {
        16
    }

    // The limits are those of AES-128-GCM (RFC 9001, section 6.6), for the same timeline.

    fn confidentiality_limit(&self) -> u64 {
        1 << 23
    }

    fn integrity_limit(&self) -> u64 {
        1 << 52
    }
}

/// Header protection that does nothing.
struct Unprotected;

impl HeaderKey for Unprotected {
    fn decrypt(&self, _pn_offset: usize, _packet: &mut [u8]) {}

    fn encrypt(&self, _pn_offset: usize, _packet: &mut [u8]) {}

    fn sample_size(&self) -> usize {
        // Decides how far the smallest packets are padded.
        16
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    ClientHello = 1,
    ServerHello,
    ServerIdentity,
    ClientIdentity,
}

impl Kind {
    /// Length without transport parameters.
    const fn bytes(self) -> usize {
        match self {
            Self::ClientHello => 185,
            Self::ServerHello => 90,
            Self::ServerIdentity => 228,
            Self::ClientIdentity => 165,
        }
    }

    const fn parameters_bytes_max(self) -> usize {
        match self {
            Self::ClientHello | Self::ServerIdentity => PARAMETERS_BYTES_MAX,
            Self::ServerHello | Self::ClientIdentity => 0,
        }
    }

    fn encode(self, value: [u8; VALUE_BYTES], parameters: &[u8]) -> Vec<u8> {
        let length = u16::try_from(parameters.len()).expect("some 100 bytes");
        let mut message = PROTOCOL.to_vec();
        message.push(self as u8);
        message.extend_from_slice(&length.to_be_bytes());
        message.extend_from_slice(&value);
        message.extend_from_slice(parameters);
        message.resize(self.bytes() + parameters.len(), 0);
        message
    }
}

struct Message {
    value: [u8; VALUE_BYTES],
    parameters: Vec<u8>,
}

/// Puts a message together from the pieces in which it arrives.
#[derive(Default)]
struct Assembly(Vec<u8>);

impl Assembly {
    /// The message, which has to be a `kind`, once it is complete. At that point the sender waits:
    /// more than one message is an error.
    fn take(&mut self, kind: Kind, input: &[u8]) -> Result<Option<Message>, TransportError> {
        let missing = HEAD_BYTES.saturating_sub(self.0.len()).min(input.len());
        let (head, rest) = input.split_at(missing);
        self.0.extend_from_slice(head);
        let known = self.0.len().min(PROTOCOL.len());
        if self.0[..known] != PROTOCOL[..known] {
            return Err(alert(NO_APPLICATION_PROTOCOL, "another protocol or version"));
        }
        let Some(head) = self.0.first_chunk::<HEAD_BYTES>() else { return Ok(None) };
        let [.., found, high, low] = *head;
        if found != kind as u8 {
            return Err(alert(UNEXPECTED_MESSAGE, "another message is due"));
        }
        let parameters = usize::from(u16::from_be_bytes([high, low]));
        if parameters > kind.parameters_bytes_max() {
            return Err(alert(DECODE_ERROR, "too long"));
        }
        let length = kind.bytes() + parameters;
        if rest.len() > length - self.0.len() {
            return Err(alert(UNEXPECTED_MESSAGE, "more than was due"));
        }
        self.0.extend_from_slice(rest);
        if self.0.len() < length {
            return Ok(None);
        }
        let message = std::mem::take(&mut self.0);
        let (value, rest) = message[HEAD_BYTES..].split_first_chunk().expect("of this length");
        let (parameters, padding) = rest.split_at(parameters);
        if padding.iter().any(|byte| *byte != 0) {
            return Err(alert(DECODE_ERROR, "padding with content"));
        }
        Ok(Some(Message { value: *value, parameters: parameters.into() }))
    }
}

fn alert(code: u8, reason: &str) -> TransportError {
    TransportError {
        code: TransportErrorCode::crypto(code),
        frame: None,
        reason: String::from(reason),
    }
}

struct Server {
    id: NodeId,
    members: Arc<Members>,
    source: Arc<Source>,
}

impl crypto::ServerConfig for Server {
    fn initial_keys(
        &self,
        version: u32,
        dst_cid: &ConnectionId,
    ) -> Result<Keys, UnsupportedVersion> {
        Ok(initial_keys(version, dst_cid, Side::Server))
    }

    fn retry_tag(&self, version: u32, orig_dst_cid: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        retry_tag(version, orig_dst_cid, packet, &[])
    }

    fn start_session(
        self: Arc<Self>,
        version: u32,
        params: &TransportParameters,
    ) -> Box<dyn crypto::Session> {
        let accepted = Accepted::AnyOf(self.members.clone());
        Box::new(Session::new(version, self.id, accepted, &self.source, params))
    }
}

struct Client {
    id: NodeId,
    expected: NodeId,
    source: Arc<Source>,
}

impl crypto::ClientConfig for Client {
    fn start_session(
        self: Arc<Self>,
        version: u32,
        _server_name: &str,
        params: &TransportParameters,
    ) -> Result<Box<dyn crypto::Session>, ConnectError> {
        let accepted = Accepted::Only(self.expected);
        Ok(Box::new(Session::new(version, self.id, accepted, &self.source, params)))
    }
}

/// Whose claim is good, which also tells the side: a client dials one node.
enum Accepted {
    Only(NodeId),
    AnyOf(Arc<Members>),
}

impl Accepted {
    fn check(&self, id: NodeId) -> Result<(), TransportError> {
        let is_accepted = match self {
            Self::Only(expected) => id == *expected,
            Self::AnyOf(members) => members.contains(id),
        };
        if is_accepted { Ok(()) } else { Err(alert(ACCESS_DENIED, "not welcome")) }
    }
}

/// Which keys come into use.
#[derive(Clone, Copy)]
enum Level {
    Handshake,
    OneRtt,
}

struct Session {
    version: u32,
    id: NodeId,
    accepted: Accepted,
    random: [u8; VALUE_BYTES],
    parameters: Vec<u8>,
    /// The message that comes next from the peer; `None` if there is no more to come.
    due: Option<Kind>,
    assembly: Assembly,
    /// What is to be sent, and the keys that come into use after it. At most two.
    flights: VecDeque<(Vec<u8>, Option<Level>)>,
    /// What both randoms make: known from the peer's hello on.
    secret: Option<Secret>,
    /// 1-RTT keys made so far.
    generations: u64,
    peer: Option<NodeId>,
    peer_parameters: Option<Vec<u8>>,
}

impl Session {
    fn new(
        version: u32,
        id: NodeId,
        accepted: Accepted,
        source: &Source,
        parameters: &TransportParameters,
    ) -> Self {
        let random = source.draw();
        let mut session = Self {
            version,
            id,
            accepted,
            random,
            parameters: Vec::new(),
            due: Some(Kind::ClientHello),
            assembly: Assembly::default(),
            flights: VecDeque::new(),
            secret: None,
            generations: 0,
            peer: None,
            peer_parameters: None,
        };
        parameters.write(&mut session.parameters);
        if session.side().is_client() {
            let hello = Kind::ClientHello.encode(random, &session.parameters);
            session.flights.push_back((hello, None));
            session.due = Some(Kind::ServerHello);
        }
        session
    }

    fn side(&self) -> Side {
        match self.accepted {
            Accepted::Only(_) => Side::Client,
            Accepted::AnyOf(_) => Side::Server,
        }
    }

    fn handle(&mut self, kind: Kind, message: Message) -> Result<(), TransportError> {
        let Message { value, parameters } = message;
        self.due = match kind {
            Kind::ClientHello => {
                self.peer_parameters = Some(parameters);
                self.secret = Some(KEYS.derive("connection", &[&value, &self.random]));
                let hello = Kind::ServerHello.encode(self.random, &[]);
                let identity = Kind::ServerIdentity.encode(self.id.0, &self.parameters);
                self.flights.push_back((hello, Some(Level::Handshake)));
                self.flights.push_back((identity, Some(Level::OneRtt)));
                Some(Kind::ClientIdentity)
            }
            Kind::ServerHello => {
                self.secret = Some(KEYS.derive("connection", &[&self.random, &value]));
                self.flights.push_back((Vec::new(), Some(Level::Handshake)));
                Some(Kind::ServerIdentity)
            }
            Kind::ServerIdentity => {
                self.accepted.check(NodeId(value))?;
                self.peer = Some(NodeId(value));
                self.peer_parameters = Some(parameters);
                let identity = Kind::ClientIdentity.encode(self.id.0, &[]);
                self.flights.push_back((identity, Some(Level::OneRtt)));
                None
            }
            Kind::ClientIdentity => {
                self.accepted.check(NodeId(value))?;
                self.peer = Some(NodeId(value));
                None
            }
        };
        Ok(())
    }

    /// The 1-RTT keys that follow those made last (RFC 9001, section 6).
    fn next_secret(&mut self) -> Option<Secret> {
        let generation = self.generations.to_le_bytes();
        let secret = self.secret?.derive("1-rtt", &[&generation]);
        self.generations += 1;
        Some(secret)
    }
}

impl crypto::Session for Session {
    fn initial_keys(&self, dst_cid: &ConnectionId, side: Side) -> Keys {
        initial_keys(self.version, dst_cid, side)
    }

    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        self.peer_parameters.as_ref()?;
        Some(Box::new(HandshakeData { protocol: Some(ALPN.to_vec()), server_name: None }))
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        Some(Box::new(vec![spki(self.peer?)]))
    }

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn crypto::PacketKey>)> {
        None
    }

    fn early_data_accepted(&self) -> Option<bool> {
        self.side().is_client().then_some(false)
    }

    fn is_handshaking(&self) -> bool {
        self.peer.is_none()
    }

    fn read_handshake(&mut self, buf: &[u8]) -> Result<bool, TransportError> {
        // While there are keys to be taken, the peer cannot have sent anything under them.
        let due = self.due.filter(|_| self.flights.is_empty());
        let Some(kind) = due else { return Err(alert(UNEXPECTED_MESSAGE, "no message is due")) };
        let had_data = self.peer_parameters.is_some();
        if let Some(message) = self.assembly.take(kind, buf)? {
            self.handle(kind, message)?;
        }
        Ok(!had_data && self.peer_parameters.is_some())
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        let Some(parameters) = &self.peer_parameters else { return Ok(None) };
        Ok(Some(TransportParameters::read(self.side(), &mut Cursor::new(parameters))?))
    }

    fn write_handshake(&mut self, buf: &mut Vec<u8>) -> Option<Keys> {
        let (message, level) = self.flights.pop_front()?;
        buf.extend_from_slice(&message);
        let secret = match level? {
            Level::Handshake => self.secret?.derive("handshake", &[]),
            Level::OneRtt => self.next_secret()?,
        };
        Some(secret.keys(self.side()))
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn crypto::PacketKey>>> {
        // The first are for `write_handshake` to hand out.
        let secret = (self.generations > 0).then(|| self.next_secret())??;
        Some(secret.pair(self.side()))
    }

    fn is_valid_retry(&self, orig_dst_cid: &ConnectionId, header: &[u8], payload: &[u8]) -> bool {
        let Some((token, tag)) = payload.split_last_chunk() else { return false };
        retry_tag(self.version, orig_dst_cid, header, token) == *tag
    }

    fn export_keying_material(
        &self,
        output: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        let secret = self.secret.filter(|_| !self.is_handshaking());
        let secret = secret.filter(|_| output.len() <= EXPORT_BYTES_MAX);
        let secret = secret.ok_or(ExportKeyingMaterialError)?;
        secret.derive("export", &[label, context]).expand(output);
        Ok(())
    }
}
