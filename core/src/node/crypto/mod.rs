//! The handshake, which decides who may connect to whom, and the keys that protect packets.
//!
//! The dialling side pins the one node that it means to reach, by the keys that it may have; the
//! listening side accepts the keys in [`Members`]. `tls` is how that is done, and proven by the key
//! itself. A simulated network has something else in its place ([`HandshakeCrypto`]): the same shape
//! and sizes without any secrecy, and with every byte decided by a seed.
//!
//! This module may not know why a node is a member, nor anything about addresses, connections in
//! progress or the protocol above the handshake.
//!
//! Invariants:
//! 1. If [`peer_id`] names a node, then the peer has claimed that name in this very handshake (and
//!    proven it, except in a simulated network), and it was pinned (client) or a member (server)
//!    when the handshake was verified.
//! 2. A change of [`Members`] applies to later handshakes only. Whoever removes a member closes its
//!    connections.
//! 3. A client is connected *before* the server has judged its key: being connected does not mean
//!    being accepted.
//! 4. Without `tls`, no random number and no clock of the system decides what is sent: equal seeds
//!    and inputs make equal bytes.

mod tls;

pub use tls::{Tls, TlsError, TlsSettings};

use std::boxed::Box;
use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};
use std::vec::Vec;

use quinn_proto::crypto::HandshakeTokenKey;
use quinn_proto::{
    ClientConfig, Connection, ConnectionId, ConnectionIdGenerator, EndpointConfig, ServerConfig,
    crypto,
};
use rustls::pki_types::CertificateDer;

use super::NodeKey;
use crate::id::NodeId;

/// The protocol name that both sides must agree on (RFC 7301). The number changes whenever the wire
/// format does in a way that an older node could not pass over; else the minor version in the hello grows.
pub const ALPN: &[u8] = b"slotcast/1";

/// A server name for `Endpoint::connect`, which insists on one. It is neither sent nor checked: the
/// key is the name.
pub const SERVER_NAME: &str = "slotcast";

/// What precedes the 32 key bytes in the DER `SubjectPublicKeyInfo` of an Ed25519 key (RFC 8410,
/// section 4).
const SPKI_PREFIX: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// The keys whose connections the server side accepts. Empty at first, so that no key is accepted.
#[derive(Debug, Default)]
pub struct Members(RwLock<BTreeSet<NodeId>>);

impl Members {
    /// Replaces the whole set, for the handshakes to come (invariant 2).
    pub fn set(&self, ids: impl IntoIterator<Item = NodeId>) {
        // Collected first: foreign code does not run under the lock. What is written is complete,
        // so that a poisoned lock guards a good set all the same; likewise below.
        let ids = ids.into_iter().collect();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = ids;
    }

    /// Whether `id` is in the set now.
    pub fn contains(&self, id: NodeId) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains(&id)
    }
}

/// What authenticates the connections of one node and protects their packets: TLS, or what a
/// simulated network has in its place.
pub trait HandshakeCrypto: Send + Sync {
    /// The server side of handshakes: accepts whoever is in `members` at that time.
    fn server(&self, members: Arc<Members>) -> Arc<dyn crypto::ServerConfig>;

    /// The client side of one handshake: accepts no server but one with a key in `expected`.
    ///
    /// Cheap next to a handshake; meant to be called for each dial.
    fn client(&self, expected: &[NodeId]) -> Arc<dyn crypto::ClientConfig>;

    /// Makes connection ids, and recognises those that were made with the same `key`.
    fn cids(&self, key: u64) -> Box<dyn ConnectionIdGenerator>;

    /// Changes further settings of the server side.
    fn configure_server(&self, _server: &mut ServerConfig) {}

    /// Changes further settings of one dial.
    fn configure_client(&self, _client: &mut ClientConfig) {}
}

/// One node's part in all handshakes.
pub struct Provider {
    key: NodeKey,
    crypto: Arc<dyn HandshakeCrypto>,
    /// Recognises the connection ids that this node has issued, before a restart, too.
    cids: Box<dyn ConnectionIdGenerator>,
}

impl Provider {
    /// That of the node with `key`, for which `crypto` has to speak.
    pub fn new(key: &NodeKey, crypto: Arc<dyn HandshakeCrypto>) -> Self {
        let cids = crypto.cids(key.cid_key());
        Self { key: key.clone(), crypto, cids }
    }

    /// Whether this node has issued a connection id. No handshake begins with such an id: a
    /// datagram that has one belongs to a connection that was removed.
    pub fn has_issued(&self, cid: &ConnectionId) -> bool {
        cid.len() == self.cids.cid_len() && self.cids.validate(cid).is_ok()
    }

    /// Settings of the endpoint which come from the key. Who restarts with the same key issues and
    /// recognises the same connection ids and resets.
    pub fn endpoint_config(&self) -> EndpointConfig {
        let mut endpoint = EndpointConfig::new(self.key.reset_key());
        let (crypto, key) = (self.crypto.clone(), self.key.cid_key());
        endpoint.cid_generator(move || crypto.cids(key));
        endpoint
    }

    /// What seals address tokens.
    pub fn token_key(&self) -> Arc<dyn HandshakeTokenKey> {
        self.key.token_key()
    }

    /// Settings of the server side, which accepts whoever is in `members` at the time.
    pub fn server_config(&self, members: Arc<Members>) -> ServerConfig {
        let mut server = ServerConfig::new(self.crypto.server(members), self.token_key());
        self.crypto.configure_server(&mut server);
        server
    }

    /// Settings of one dial, to a server with a key in `expected`.
    pub fn client_config(&self, expected: &[NodeId]) -> ClientConfig {
        let mut client = ClientConfig::new(self.crypto.client(expected));
        self.crypto.configure_client(&mut client);
        client
    }
}

/// The key at the other end, once the handshake is over (invariant 1); `None` before, or if it
/// failed.
pub fn peer_id(connection: &Connection) -> Option<NodeId> {
    if connection.is_handshaking() {
        return None;
    }
    let identity = connection.crypto_session().peer_identity()?;
    let keys = identity.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    match keys.as_slice() {
        [key] => parse_spki(key),
        _ => None,
    }
}

/// The `SubjectPublicKeyInfo` of the Ed25519 key that `id` is.
pub fn spki(id: NodeId) -> CertificateDer<'static> {
    let mut spki = SPKI_PREFIX.to_vec();
    spki.extend_from_slice(&id.0);
    spki.into()
}

/// The key in an Ed25519 `SubjectPublicKeyInfo`. DER has one encoding for it, so comparing bytes is
/// parsing.
fn parse_spki(spki: &[u8]) -> Option<NodeId> {
    let key = spki.strip_prefix(&SPKI_PREFIX)?;
    Some(NodeId(key.try_into().ok()?))
}
