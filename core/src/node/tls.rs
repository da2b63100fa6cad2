//! The TLS 1.3 handshake inside QUIC: who may connect to whom, proven by the key itself.
//!
//! Both sides present a raw Ed25519 public key (RFC 7250) instead of a certificate, and sign the
//! handshake with it. The dialling side pins the one key that it means to reach; the listening side
//! accepts the keys in [`Members`]. Nothing else of TLS is in use: one key exchange, no tickets, no
//! resumption, no early data, no server name on the wire.
//!
//! This module may not know why a node is a member, nor anything about addresses, connections in
//! progress or the protocol above the handshake.
//!
//! Invariants:
//! 1. If [`peer_id`] names a node, then the peer has signed this very handshake with that node's
//!    key, and the key was pinned (client) or a member (server) when the handshake was verified.
//! 2. A change of [`Members`] applies to later handshakes only. Whoever removes a member closes its
//!    connections.
//! 3. A client is connected *before* the server has judged its key: being connected does not mean
//!    being accepted.

use std::{
    boxed::Box,
    collections::BTreeSet,
    sync::{Arc, LazyLock, PoisonError, RwLock},
    vec,
    vec::Vec,
};

use quinn_proto::{
    Connection,
    crypto::rustls::{NoInitialCipherSuite, QuicClientConfig, QuicServerConfig},
};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error,
    PeerIncompatible, ServerConfig, SignatureAlgorithm, SignatureScheme,
    client::{
        AlwaysResolvesClientRawPublicKeys, ResolvesClientCert, Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{
        CryptoProvider,
        aws_lc_rs::{self, cipher_suite, kx_group},
        verify_tls13_signature_with_raw_key,
    },
    pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime},
    server::{
        AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::{CertifiedKey, Signer, SigningKey},
    version::TLS13,
};

use super::key::NodeKey;
use crate::id::NodeId;

/// The protocol name that both sides must agree on (RFC 7301). The number changes whenever the wire
/// format does.
const ALPN: &[u8] = b"slotcast/1";

/// A server name for `Endpoint::connect`, which insists on one. It is neither sent nor checked: the
/// key is the name.
pub(crate) const SERVER_NAME: &str = "slotcast";

/// What precedes the 32 key bytes in the DER `SubjectPublicKeyInfo` of an Ed25519 key (RFC 8410,
/// section 4).
const SPKI_PREFIX: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// The algorithms, in order of preference. Shared by all configurations: a client needs a new one
/// for each dial.
static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    Arc::new(CryptoProvider {
        // QUIC itself needs the first one, to protect Initial packets (RFC 9001, section 5.2).
        cipher_suites: vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        // A post-quantum share does not fit beside the rest into one Initial: it costs a datagram
        // each way.
        kx_groups: vec![kx_group::X25519],
        ..aws_lc_rs::default_provider()
    })
});

/// The nodes whose connections the server side accepts. Empty at first, so that nobody is.
#[derive(Debug, Default)]
pub(crate) struct Members(RwLock<BTreeSet<NodeId>>);

impl Members {
    /// Replaces the whole set, for the handshakes to come (invariant 2).
    pub(crate) fn set(&self, ids: impl IntoIterator<Item = NodeId>) {
        // Collected first: foreign code does not run under the lock. What is written is complete,
        // so that a poisoned lock guards a good set all the same; likewise below.
        let ids = ids.into_iter().collect();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = ids;
    }

    /// Whether `id` is in the set now.
    pub(crate) fn contains(&self, id: NodeId) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains(&id)
    }
}

/// The server side: proves to be `key`, and accepts whoever is in `members` at the time of the
/// handshake.
pub(crate) fn server_crypto(
    key: &NodeKey,
    members: Arc<Members>,
) -> Result<Arc<QuicServerConfig>, Error> {
    server_with(credentials(key.id(), key), members)
}

/// The client side of one dial: proves to be `key`, and accepts no server but `expected`.
///
/// Cheap next to a handshake; meant to be called for each dial.
pub(crate) fn client_crypto(
    key: &NodeKey,
    expected: NodeId,
) -> Result<Arc<QuicClientConfig>, Error> {
    client_with(
        Arc::new(AlwaysResolvesClientRawPublicKeys::new(credentials(key.id(), key))),
        expected,
    )
}

/// Who is at the other end, once the handshake is over (invariant 1); `None` before, or if it
/// failed.
pub(crate) fn peer_id(connection: &Connection) -> Option<NodeId> {
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

fn server_with(
    credentials: Arc<CertifiedKey>,
    members: Arc<Members>,
) -> Result<Arc<QuicServerConfig>, Error> {
    let mut config = ServerConfig::builder_with_provider(PROVIDER.clone())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(Accept::AnyOf(members)))
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(credentials)));
    config.alpn_protocols = vec![ALPN.to_vec()];
    // A resumed session would skip the look at `Members`; a ticket would only be 80 bytes for
    // nothing.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.max_early_data_size = 0;
    Ok(Arc::new(config.try_into().map_err(no_initial_suite)?))
}

fn client_with(
    resolver: Arc<dyn ResolvesClientCert>,
    expected: NodeId,
) -> Result<Arc<QuicClientConfig>, Error> {
    let mut config = ClientConfig::builder_with_provider(PROVIDER.clone())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Accept::Only(expected)))
        .with_client_cert_resolver(resolver);
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    config.enable_early_data = false;
    Ok(Arc::new(config.try_into().map_err(no_initial_suite)?))
}

/// Cannot happen with our provider, but the conversion is fallible.
fn no_initial_suite(error: NoInitialCipherSuite) -> Error {
    Error::Other(rustls::OtherError(Arc::new(error)))
}

/// The "certificate" which claims to be `id`, with `key` to prove it. They belong together, except
/// in tests.
fn credentials(id: NodeId, key: &NodeKey) -> Arc<CertifiedKey> {
    let mut spki = SPKI_PREFIX.to_vec();
    spki.extend_from_slice(&id.0);
    Arc::new(CertifiedKey::new(vec![spki.into()], Arc::new(HandshakeKey(key.clone()))))
}

/// The key in an Ed25519 `SubjectPublicKeyInfo`. DER has one encoding for it, so comparing bytes is
/// parsing.
fn parse_spki(spki: &[u8]) -> Option<NodeId> {
    let key = spki.strip_prefix(&SPKI_PREFIX)?;
    Some(NodeId(key.try_into().ok()?))
}

/// A [`NodeKey`] as rustls wants it. Not implemented on `NodeKey`, so that rustls stays out of our
/// public interface.
#[derive(Clone, Debug)]
struct HandshakeKey(NodeKey);

impl SigningKey for HandshakeKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered
            .contains(&SignatureScheme::ED25519)
            .then(|| Box::new(self.clone()) as Box<dyn Signer>)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ED25519
    }
}

impl Signer for HandshakeKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        self.0.sign(message).map_err(|_| Error::General("Ed25519 signing failed".into()))
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ED25519
    }
}

/// Whose key is good: the verifier of both sides.
#[derive(Debug)]
enum Accept {
    Only(NodeId),
    AnyOf(Arc<Members>),
}

impl Accept {
    fn check(&self, key: &CertificateDer<'_>, others: &[CertificateDer<'_>]) -> Result<(), Error> {
        let id =
            parse_spki(key).filter(|_| others.is_empty()).ok_or(CertificateError::BadEncoding)?;
        let accepted = match self {
            Self::Only(expected) => id == *expected,
            Self::AnyOf(members) => members.contains(id),
        };
        // Reaches the peer as the alert `access_denied`.
        if accepted { Ok(()) } else { Err(CertificateError::ApplicationVerificationFailure.into()) }
    }
}

/// What the verifier traits of the two sides have in common: raw keys, and Ed25519 signatures by
/// them.
macro_rules! raw_ed25519_signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            _message: &[u8],
            _cert: &CertificateDer<'_>,
            _dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            // QUIC has no TLS 1.2 (RFC 9001, section 4.2), but the traits do.
            Err(PeerIncompatible::Tls12NotOffered.into())
        }

        // Proof of possession: without it, `check` would accept whoever can copy a public key.
        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            let key = SubjectPublicKeyInfoDer::from(cert.as_ref());
            let algorithms = &PROVIDER.signature_verification_algorithms;
            verify_tls13_signature_with_raw_key(message, &key, dss, algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            vec![SignatureScheme::ED25519]
        }

        fn requires_raw_public_keys(&self) -> bool {
            true
        }
    };
}

impl ServerCertVerifier for Accept {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(end_entity, intermediates).map(|()| ServerCertVerified::assertion())
    }

    raw_ed25519_signatures!();
}

impl ClientCertVerifier for Accept {
    // A client without a key is refused: `client_auth_mandatory` is true unless overridden.

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(end_entity, intermediates).map(|()| ClientCertVerified::assertion())
    }

    raw_ed25519_signatures!();
}

#[cfg(test)]
mod tests {
    use core::{net::SocketAddr, time::Duration};
    use std::time::Instant;

    use bytes::BytesMut;
    use quinn_proto::{
        ConnectionError, ConnectionHandle, DatagramEvent, Endpoint, EndpointConfig, Event,
        HashedConnectionIdGenerator, TransportErrorCode,
    };

    use super::*;

    // TLS alerts (RFC 8446, section 6): what a refused peer gets to see.
    const HANDSHAKE_FAILURE: u8 = 40;
    const ACCESS_DENIED: u8 = 49;
    const DECRYPT_ERROR: u8 = 51;
    const CERTIFICATE_REQUIRED: u8 = 116;

    fn key(seed: u8) -> NodeKey {
        NodeKey::from_seed([seed; 32])
    }

    fn members(ids: &[&NodeKey]) -> Arc<Members> {
        let members = Members::default();
        members.set(ids.iter().map(|key| key.id()));
        Arc::new(members)
    }

    /// An endpoint with at most one connection, and what was seen of it.
    struct Peer {
        endpoint: Endpoint,
        address: SocketAddr,
        connection: Option<(ConnectionHandle, Connection)>,
        connected: bool,
        lost: Option<ConnectionError>,
        sent: Vec<BytesMut>,
    }

    impl Peer {
        fn new(key: &NodeKey, port: u16, server: Option<Arc<QuicServerConfig>>) -> Self {
            let cid_key = key.cid_key();
            let mut config = EndpointConfig::new(key.reset_key());
            config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(cid_key)));
            config.rng_seed(Some([port as u8; 32]));
            let server = server
                .map(|crypto| Arc::new(quinn_proto::ServerConfig::new(crypto, key.token_key())));
            Self {
                endpoint: Endpoint::new(Arc::new(config), server, false, None),
                address: ([127, 0, 0, 1], port).into(),
                connection: None,
                connected: false,
                lost: None,
                sent: Vec::new(),
            }
        }

        /// What the connection says about its peer.
        fn sees(&self) -> Option<NodeId> {
            peer_id(&self.connection.as_ref()?.1)
        }

        fn send(&mut self, size: usize, buf: &mut Vec<u8>, segment: Option<usize>) {
            self.sent.extend(buf[..size].chunks(segment.unwrap_or(size)).map(BytesMut::from));
            buf.clear();
        }

        fn receive(&mut self, now: Instant, from: SocketAddr, datagram: BytesMut) {
            let mut buf = Vec::new();
            match self.endpoint.handle(now, from, None, None, datagram, &mut buf) {
                Some(DatagramEvent::NewConnection(incoming)) => {
                    match self.endpoint.accept(incoming, now, &mut buf, None) {
                        Ok(accepted) => self.connection = Some(accepted),
                        Err(error) => {
                            self.lost = Some(error.cause);
                            let response = error.response.unwrap();
                            self.send(response.size, &mut buf, response.segment_size);
                        }
                    }
                }
                Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                    let (own, connection) = self.connection.as_mut().unwrap();
                    assert_eq!(*own, handle);
                    connection.handle_event(event);
                }
                Some(DatagramEvent::Response(response)) => {
                    self.send(response.size, &mut buf, response.segment_size)
                }
                None => {}
            }
        }

        /// Drains the connection of events and datagrams.
        fn poll(&mut self, now: Instant) {
            let Some((handle, mut connection)) = self.connection.take() else { return };
            let mut buf = Vec::new();
            connection.handle_timeout(now);
            while let Some(event) = connection.poll_endpoint_events() {
                if let Some(event) = self.endpoint.handle_event(handle, event) {
                    connection.handle_event(event);
                }
            }
            while let Some(transmit) = connection.poll_transmit(now, 1, &mut buf) {
                self.send(transmit.size, &mut buf, transmit.segment_size);
            }
            while let Some(event) = connection.poll() {
                match event {
                    Event::Connected => {
                        assert!(peer_id(&connection).is_some());
                        self.connected = true;
                    }
                    Event::ConnectionLost { reason } => self.lost = Some(reason),
                    _ => {}
                }
            }
            self.connection = Some((handle, connection));
        }

        fn wake_at(&mut self) -> Option<Instant> {
            self.connection.as_mut()?.1.poll_timeout()
        }
    }

    struct Pair {
        now: Instant,
        client: Peer,
        server: Peer,
    }

    impl Pair {
        /// Lets `client_crypto` dial `server_crypto` and waits until nothing moves any more.
        fn new(
            client_crypto: Arc<QuicClientConfig>,
            server: &NodeKey,
            server_crypto: Arc<QuicServerConfig>,
        ) -> Self {
            #[allow(
                clippy::disallowed_methods,
                reason = "an arbitrary origin: only differences are looked at"
            )]
            let now = Instant::now();
            // What the client's endpoint derives from its key is of no interest here.
            let mut pair = Self {
                now,
                client: Peer::new(&key(0), 1, None),
                server: Peer::new(server, 2, Some(server_crypto)),
            };
            let config = quinn_proto::ClientConfig::new(client_crypto);
            let connection = pair
                .client
                .endpoint
                .connect(now, config, pair.server.address, SERVER_NAME)
                .unwrap();
            pair.client.connection = Some(connection);
            pair.run();
            pair
        }

        fn run(&mut self) {
            // Far more than a handshake takes, and less than the idle timeout of 30 s.
            let end = self.now + Duration::from_secs(10);
            while self.now < end {
                self.client.poll(self.now);
                self.server.poll(self.now);
                let (to_server, to_client) =
                    (self.client.sent.split_off(0), self.server.sent.split_off(0));
                if to_server.is_empty() && to_client.is_empty() {
                    let wake_at =
                        self.client.wake_at().into_iter().chain(self.server.wake_at()).min();
                    self.now = wake_at.unwrap_or(end).max(self.now);
                    continue;
                }
                self.now += Duration::from_millis(1);
                for datagram in to_server {
                    self.server.receive(self.now, self.client.address, datagram);
                }
                for datagram in to_client {
                    self.client.receive(self.now, self.server.address, datagram);
                }
            }
        }
    }

    /// `by` has closed the connection with `alert`, without having been connected; `other` was
    /// told.
    fn assert_refused(by: &Peer, other: &Peer, alert: u8) {
        let code = TransportErrorCode::crypto(alert);
        assert!(!by.connected);
        assert_eq!(by.sees(), None);
        match (&by.lost, &other.lost) {
            (
                Some(ConnectionError::TransportError(error)),
                Some(ConnectionError::ConnectionClosed(close)),
            ) => assert_eq!((error.code, close.error_code), (code, code)),
            lost => panic!("{lost:?}"),
        }
    }

    fn connected(client: &NodeKey, server: &NodeKey) -> Pair {
        let crypto = server_crypto(server, members(&[client])).unwrap();
        let pair = Pair::new(client_crypto(client, server.id()).unwrap(), server, crypto);
        assert!(pair.client.connected && pair.server.connected);
        assert_eq!((&pair.client.lost, &pair.server.lost), (&None, &None));
        pair
    }

    #[test]
    fn each_side_learns_who_the_other_is() {
        let (client, server) = (key(1), key(2));
        let pair = connected(&client, &server);
        assert_eq!(pair.client.sees(), Some(server.id()));
        assert_eq!(pair.server.sees(), Some(client.id()));
    }

    #[test]
    fn the_client_refuses_a_server_it_did_not_dial() {
        let (client, server, expected) = (key(1), key(2), key(3));
        let crypto = server_crypto(&server, members(&[&client])).unwrap();
        let pair = Pair::new(client_crypto(&client, expected.id()).unwrap(), &server, crypto);
        assert_refused(&pair.client, &pair.server, ACCESS_DENIED);
        assert!(!pair.server.connected);
    }

    #[test]
    fn the_client_refuses_a_server_which_copied_the_expected_key() {
        let (client, impostor, expected) = (key(1), key(2), key(3));
        let crypto =
            server_with(credentials(expected.id(), &impostor), members(&[&client])).unwrap();
        let pair = Pair::new(client_crypto(&client, expected.id()).unwrap(), &impostor, crypto);
        assert_refused(&pair.client, &pair.server, DECRYPT_ERROR);
        assert!(!pair.server.connected);
    }

    #[test]
    fn the_server_refuses_a_stranger_until_it_is_a_member() {
        let (client, server, members) = (key(1), key(2), members(&[&key(3)]));
        let crypto = server_crypto(&server, members.clone()).unwrap();
        let pair = Pair::new(client_crypto(&client, server.id()).unwrap(), &server, crypto.clone());
        assert_refused(&pair.server, &pair.client, ACCESS_DENIED);
        assert!(pair.client.connected, "invariant 3");

        members.set([client.id()]);
        assert!(members.contains(client.id()) && !members.contains(key(3).id()));
        let pair = Pair::new(client_crypto(&client, server.id()).unwrap(), &server, crypto);
        assert_eq!(pair.server.sees(), Some(client.id()));
    }

    #[test]
    fn the_server_refuses_a_client_which_copied_a_members_key() {
        let (impostor, server, member) = (key(1), key(2), key(3));
        let stolen = AlwaysResolvesClientRawPublicKeys::new(credentials(member.id(), &impostor));
        let crypto = server_crypto(&server, members(&[&member])).unwrap();
        let pair = Pair::new(client_with(Arc::new(stolen), server.id()).unwrap(), &server, crypto);
        assert_refused(&pair.server, &pair.client, DECRYPT_ERROR);
    }

    /// A client without a key, which may still claim to speak RFC 7250.
    #[derive(Debug)]
    struct Keyless {
        claims_raw_key: bool,
    }

    impl ResolvesClientCert for Keyless {
        fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
            None
        }

        fn only_raw_public_keys(&self) -> bool {
            self.claims_raw_key
        }

        fn has_certs(&self) -> bool {
            self.claims_raw_key
        }
    }

    #[test]
    fn the_server_refuses_a_client_without_key() {
        let server = key(2);
        for (claims_raw_key, alert) in [(false, HANDSHAKE_FAILURE), (true, CERTIFICATE_REQUIRED)] {
            let crypto = server_crypto(&server, members(&[&key(1)])).unwrap();
            let client = client_with(Arc::new(Keyless { claims_raw_key }), server.id()).unwrap();
            let pair = Pair::new(client, &server, crypto);
            assert_refused(&pair.server, &pair.client, alert);
        }
    }

    #[test]
    fn a_restarted_server_resets_the_connections_it_forgot() {
        let (client, server) = (key(1), key(2));
        let mut pair = connected(&client, &server);
        let crypto = server_crypto(&server, members(&[&client])).unwrap();
        pair.server = Peer::new(&server, 2, Some(crypto));
        let (_, connection) = pair.client.connection.as_mut().unwrap();
        connection.ping();
        pair.run();
        assert_eq!(pair.client.lost, Some(ConnectionError::Reset));
    }
}
