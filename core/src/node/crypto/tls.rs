//! The handshake of TLS 1.3 inside QUIC, with raw keys.
//!
//! Both sides present a raw Ed25519 public key (RFC 7250) instead of a certificate, and sign the
//! handshake with it. Nothing else of TLS is in use: one key exchange, no tickets, no resumption,
//! no early data, no server name on the wire.
//!
//! Invariant, in addition to those of the parent: the other end has signed this handshake with the
//! key that it claims.

use std::{
    boxed::Box,
    sync::{Arc, LazyLock},
    vec,
    vec::Vec,
};

use quinn_proto::crypto::rustls::{NoInitialCipherSuite, QuicClientConfig, QuicServerConfig};
use quinn_proto::{ConnectionIdGenerator, HashedConnectionIdGenerator, crypto};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error,
    PeerIncompatible, ServerConfig, SignatureAlgorithm, SignatureScheme, Tls13CipherSuite,
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
    quic::Suite,
    server::{
        AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::{CertifiedKey, Signer, SigningKey},
    version::TLS13,
};

use super::{ALPN, HandshakeCrypto, Members, parse_spki, spki};
use crate::id::NodeId;
use crate::node::NodeKey;

/// The algorithms, in order of preference. Shared by all configurations: a client needs a new one
/// for each dial.
static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    Arc::new(CryptoProvider {
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

/// What protects Initial packets, whatever suite the handshake chooses (RFC 9001, section 5.2).
static INITIAL: LazyLock<Suite> = LazyLock::new(|| {
    let suite = cipher_suite::TLS13_AES_128_GCM_SHA256.tls13();
    suite.and_then(Tls13CipherSuite::quic_suite).expect("the suite of the name is one for QUIC")
});

/// What every network has that is not simulated.
pub struct Tls(NodeKey);

impl Tls {
    /// Proves to be `key`.
    pub fn new(key: &NodeKey) -> Self {
        Self(key.clone())
    }
}

/// # Panics
/// If the TLS provider lacks what QUIC needs, which would be a broken build.
impl HandshakeCrypto for Tls {
    fn server(&self, members: Arc<Members>) -> Arc<dyn crypto::ServerConfig> {
        server_with(credentials(self.0.id(), &self.0), members)
            .expect("the TLS provider serves QUIC")
    }

    fn client(&self, expected: &[NodeId]) -> Arc<dyn crypto::ClientConfig> {
        let credentials = credentials(self.0.id(), &self.0);
        client_with(Arc::new(AlwaysResolvesClientRawPublicKeys::new(credentials)), expected)
            .expect("the TLS provider serves QUIC")
    }

    fn cids(&self, key: u64) -> Box<dyn ConnectionIdGenerator> {
        Box::new(HashedConnectionIdGenerator::from_key(key))
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
    // A resumed session would skip the check against `Members`, so tickets are never used and would
    // only cost 80 bytes.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.max_early_data_size = 0;
    let config = QuicServerConfig::with_initial(Arc::new(config), *INITIAL);
    Ok(Arc::new(config.map_err(no_initial_suite)?))
}

fn client_with(
    resolver: Arc<dyn ResolvesClientCert>,
    expected: &[NodeId],
) -> Result<Arc<QuicClientConfig>, Error> {
    let mut config = ClientConfig::builder_with_provider(PROVIDER.clone())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Accept::Only(expected.into())))
        .with_client_cert_resolver(resolver);
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    config.enable_early_data = false;
    let config = QuicClientConfig::with_initial(Arc::new(config), *INITIAL);
    Ok(Arc::new(config.map_err(no_initial_suite)?))
}

/// Cannot happen with the suite above, but the constructors are fallible.
fn no_initial_suite(error: NoInitialCipherSuite) -> Error {
    Error::Other(rustls::OtherError(Arc::new(error)))
}

/// The "certificate" which claims to be `id`, with `key` to prove it. They belong together, except
/// in tests.
fn credentials(id: NodeId, key: &NodeKey) -> Arc<CertifiedKey> {
    Arc::new(CertifiedKey::new(vec![spki(id)], Arc::new(HandshakeKey(key.clone()))))
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

/// The keys that are accepted: the verifier of both sides.
#[derive(Debug)]
enum Accept {
    Only(Vec<NodeId>),
    AnyOf(Arc<Members>),
}

impl Accept {
    fn check(&self, key: &CertificateDer<'_>, others: &[CertificateDer<'_>]) -> Result<(), Error> {
        let id =
            parse_spki(key).filter(|_| others.is_empty()).ok_or(CertificateError::BadEncoding)?;
        let accepted = match self {
            Self::Only(expected) => expected.contains(&id),
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

        // Proof of possession: without it, `check` would accept anyone who has copied a public key.
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
