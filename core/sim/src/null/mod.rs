//! The handshake of a simulated network: it has the shape and the sizes of that of
//! TLS, so that timelines are alike, but no secrets, and a seed decides every byte.
//!
//! **For tests only.** A node is whoever it says it is, and who can read packets can forge them.
//!
//! Each side has one message for each level of protection (RFC 9001, section 4.1.4), as long as all
//! that TLS sends there.
//!
//! | message | level | says |
//! | --- | --- | --- |
//! | client hello | Initial | random, transport parameters |
//! | server hello | Initial | random |
//! | server identity | Handshake | id, transport parameters |
//! | client identity | Handshake | id |
//!
//! Invariants:
//! 1. What arrives is taken or makes an error, but never a panic; after an error, nothing more is
//!    taken. Of an unfinished message no more is held than the longest could be.
//! 2. Nothing here reads a clock, or draws a random number but from a [`Source`].

mod forge;
mod protection;
#[cfg(test)]
mod replay_tests;
mod source;
#[cfg(test)]
mod tests;

use std::any::Any;
use std::collections::VecDeque;
use std::io::Cursor;
use std::sync::Arc;

use quinn_proto::crypto::rustls::HandshakeData;
use quinn_proto::crypto::{
    self, ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey, UnsupportedVersion,
};
use quinn_proto::transport_parameters::TransportParameters;
use quinn_proto::{
    ClientConfig, ConnectError, ConnectionId, ConnectionIdGenerator, ServerConfig, Side,
    TransportError, TransportErrorCode,
};

pub(super) use forge::Forger;
use protection::{Secret, initial_keys, retry_tag};
use slotcast::id::NodeId;
use slotcast::internals::{ALPN, HandshakeCrypto, Members, spki};
use source::{Cids, Source};

// Alerts (RFC 8446, section 6), for the reasons that TLS has them for.
const UNEXPECTED_MESSAGE: u8 = 10;
const ACCESS_DENIED: u8 = 49;
const DECODE_ERROR: u8 = 50;
const NO_APPLICATION_PROTOCOL: u8 = 120;

/// Begins each message. The last byte is the version.
const PROTOCOL: [u8; 6] = *b"null/1";

/// Protocol, kind, and length of the transport parameters.
const HEAD_BYTES: usize = PROTOCOL.len() + 3;

/// A random or an id.
const VALUE_BYTES: usize = 32;

/// Transport parameters take some 100 bytes.
const PARAMETERS_BYTES_MAX: usize = 1024;

/// As much as TLS can export: 255 times the length of the hash (RFC 5869, section 2.3).
const EXPORT_BYTES_MAX: usize = 255 * 32;

/// Says to be this node.
pub(super) struct Null {
    id: NodeId,
    source: Arc<Source>,
}

impl Null {
    /// Equal names and seeds make equal bytes.
    pub(super) fn new(id: NodeId, seed: &[u8; 32]) -> Self {
        Self { id, source: Arc::new(Source::new(id, seed)) }
    }
}

impl HandshakeCrypto for Null {
    fn server(&self, members: Arc<Members>) -> Arc<dyn crypto::ServerConfig> {
        Arc::new(Server { id: self.id, members, source: self.source.clone() })
    }

    fn client(&self, expected: &[NodeId]) -> Arc<dyn crypto::ClientConfig> {
        Arc::new(Client { id: self.id, expected: expected.into(), source: self.source.clone() })
    }

    fn cids(&self, key: u64) -> Box<dyn ConnectionIdGenerator> {
        Box::new(Cids::new(key, self.source.clone()))
    }

    fn configure_server(&self, server: &mut ServerConfig) {
        source::stop_clock(server);
    }

    fn configure_client(&self, client: &mut ClientConfig) {
        self.source.clone().give_cids(client);
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
        // Which versions there are, the endpoint has checked.
        Ok(initial_keys(version, dst_cid, Side::Server))
    }

    fn retry_tag(&self, version: u32, orig_dst_cid: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        retry_tag(version, orig_dst_cid, packet)
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
    expected: Vec<NodeId>,
    source: Arc<Source>,
}

impl crypto::ClientConfig for Client {
    fn start_session(
        self: Arc<Self>,
        version: u32,
        _server_name: &str,
        params: &TransportParameters,
    ) -> Result<Box<dyn crypto::Session>, ConnectError> {
        let accepted = Accepted::Only(self.expected.clone());
        Ok(Box::new(Session::new(version, self.id, accepted, &self.source, params)))
    }
}

/// Whose claim is good; which also tells the sides apart, as a client dials one node.
enum Accepted {
    Only(Vec<NodeId>),
    AnyOf(Arc<Members>),
}

impl Accepted {
    fn check(&self, id: NodeId) -> Result<(), TransportError> {
        let is_accepted = match self {
            Self::Only(expected) => expected.contains(&id),
            Self::AnyOf(members) => members.contains(id),
        };
        if is_accepted { Ok(()) } else { Err(alert(ACCESS_DENIED, "not the node, or no member")) }
    }
}

fn alert(code: u8, reason: &str) -> TransportError {
    TransportError { code: TransportErrorCode::crypto(code), frame: None, reason: reason.into() }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    ClientHello = 1,
    ServerHello,
    ServerIdentity,
    ClientIdentity,
}

impl Kind {
    /// Length without the transport parameters: what TLS takes with raw keys and X25519.
    const fn bytes(self) -> usize {
        match self {
            Self::ClientHello => 174,
            Self::ServerHello => 90,
            // Extensions, request, key, signature and finished.
            Self::ServerIdentity => 217,
            // Key, signature and finished.
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
        assert!(parameters.len() <= self.parameters_bytes_max());
        let mut message = PROTOCOL.to_vec();
        message.push(self as u8);
        message.extend_from_slice(&(parameters.len() as u16).to_be_bytes());
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
    /// The message, which has to be a `kind`, once it is complete.
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
            return Err(alert(UNEXPECTED_MESSAGE, "not the message that is due"));
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
        let (value, rest) = message[HEAD_BYTES..].split_first_chunk().expect("of full length");
        let (parameters, padding) = rest.split_at(parameters);
        if padding.iter().any(|byte| *byte != 0) {
            return Err(alert(DECODE_ERROR, "padding that says something"));
        }
        Ok(Some(Message { value: *value, parameters: parameters.into() }))
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
    /// The message that the peer has to send next; `None` after the last, or an error.
    due: Option<Kind>,
    assembly: Assembly,
    /// What is to be sent, and the keys that come into use after it. At most two.
    flights: VecDeque<(Vec<u8>, Option<Level>)>,
    /// What both randoms make, from the peer's hello on.
    secret: Option<Secret>,
    /// How many 1-RTT keys were made.
    generations: u64,
    /// Who the peer is, once it is known and accepted.
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
        let mut session = Self {
            version,
            id,
            accepted,
            random: source.draw(),
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
            let hello = Kind::ClientHello.encode(session.random, &session.parameters);
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
        match kind {
            Kind::ClientHello => {
                self.peer_parameters = Some(parameters);
                self.secret = Some(Secret::of_connection(&value, &self.random));
                let hello = Kind::ServerHello.encode(self.random, &[]);
                let identity = Kind::ServerIdentity.encode(self.id.0, &self.parameters);
                self.flights.push_back((hello, Some(Level::Handshake)));
                self.flights.push_back((identity, Some(Level::OneRtt)));
                self.due = Some(Kind::ClientIdentity);
            }
            Kind::ServerHello => {
                self.secret = Some(Secret::of_connection(&self.random, &value));
                self.flights.push_back((Vec::new(), Some(Level::Handshake)));
                self.due = Some(Kind::ServerIdentity);
            }
            Kind::ServerIdentity => {
                self.accepted.check(NodeId(value))?;
                self.peer = Some(NodeId(value));
                self.peer_parameters = Some(parameters);
                let identity = Kind::ClientIdentity.encode(self.id.0, &[]);
                self.flights.push_back((identity, Some(Level::OneRtt)));
            }
            Kind::ClientIdentity => {
                self.accepted.check(NodeId(value))?;
                self.peer = Some(NodeId(value));
            }
        }
        Ok(())
    }

    /// What protects 1-RTT packets, at first or after one more key update.
    fn next_generation(&mut self) -> Option<Secret> {
        let secret = self.secret?.of_generation(self.generations);
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

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        None
    }

    fn early_data_accepted(&self) -> Option<bool> {
        self.side().is_client().then_some(false)
    }

    fn is_handshaking(&self) -> bool {
        self.peer.is_none()
    }

    fn read_handshake(&mut self, buf: &[u8]) -> Result<bool, TransportError> {
        // What comes before our flights are out was sent ahead of the keys that should protect it.
        let due = self.due.take().filter(|_| self.flights.is_empty());
        let kind = due.ok_or_else(|| alert(UNEXPECTED_MESSAGE, "no message is due"))?;
        let had_data = self.peer_parameters.is_some();
        match self.assembly.take(kind, buf)? {
            Some(message) => self.handle(kind, message)?,
            None => self.due = Some(kind),
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
            Level::Handshake => self.secret?.of_handshake(),
            Level::OneRtt => self.next_generation()?,
        };
        Some(secret.keys(self.side()))
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        // The first come with the handshake.
        let is_after_handshake = self.generations > 0;
        let secret = is_after_handshake.then(|| self.next_generation())??;
        Some(secret.packet_keys(self.side()))
    }

    fn is_valid_retry(&self, orig_dst_cid: &ConnectionId, header: &[u8], payload: &[u8]) -> bool {
        let Some((token, tag)) = payload.split_last_chunk() else { return false };
        let packet = [header, token].concat();
        retry_tag(self.version, orig_dst_cid, &packet) == *tag
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
        match label {
            forge::LABEL => output.copy_from_slice(&secret.to_bytes()[..output.len()]),
            _ => secret.of_export(label, context).expand(output),
        }
        Ok(())
    }
}
