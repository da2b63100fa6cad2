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
    CertificateError, CipherSuite, ClientConfig, DigitallySignedStruct, DistinguishedName, Error,
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

/// The algorithms of handshakes, in order of preference. All configurations share them: a client needs a
/// new one for each dial.
///
/// By default those of aws-lc-rs: AES-128-GCM, AES-256-GCM and ChaCha20-Poly1305, and X25519.
#[derive(Clone, Debug)]
pub struct TlsSettings(Arc<CryptoProvider>);

/// Why a provider of cryptography does not do.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// It has no cipher suite or no key exchange for TLS 1.3.
    #[error("the provider cannot do TLS 1.3")]
    NoTls13(#[source] Error),
    /// A cipher suite for TLS 1.3 is not one for QUIC.
    #[error("the provider's cipher suite {0:?} is not for QUIC")]
    NotForQuic(CipherSuite),
    /// It cannot verify signatures of Ed25519, which all keys are.
    #[error("the provider does not verify Ed25519 signatures")]
    NoEd25519,
}

static DEFAULT: LazyLock<TlsSettings> = LazyLock::new(|| {
    TlsSettings(Arc::new(CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        // A post-quantum share does not fit beside the rest into one Initial: it costs a datagram
        // each way.
        kx_groups: vec![kx_group::X25519],
        ..aws_lc_rs::default_provider()
    }))
});

impl Default for TlsSettings {
    fn default() -> Self {
        DEFAULT.clone()
    }
}

impl TlsSettings {
    /// With the algorithms of this provider, in its order. Cipher suites for TLS 1.2 are passed over. What
    /// the members of a subnet have must overlap.
    ///
    /// # Errors
    /// If it cannot make connections of this protocol.
    pub fn with_provider(provider: CryptoProvider) -> Result<Self, TlsError> {
        let provider = Arc::new(provider);
        let builder = ServerConfig::builder_with_provider(provider.clone());
        builder.with_protocol_versions(&[&TLS13]).map_err(TlsError::NoTls13)?;
        let suites = provider.cipher_suites.iter();
        let of_tls13 = suites.filter_map(|suite| suite.tls13());
        let mut not_for_quic = of_tls13.filter(|suite| suite.quic_suite().is_none());
        if let Some(suite) = not_for_quic.next() {
            return Err(TlsError::NotForQuic(suite.common.suite));
        }
        let mut schemes = provider.signature_verification_algorithms.mapping.iter();
        if !schemes.any(|(scheme, _)| *scheme == SignatureScheme::ED25519) {
            return Err(TlsError::NoEd25519);
        }
        Ok(Self(provider))
    }

    /// The same with the hybrid key exchange X25519MLKEM768 (draft-ietf-tls-ecdhe-mlkem) of aws-lc-rs before
    /// all others: what is recorded today stays secret even if X25519 is broken later. It costs 1.2 KB and a
    /// datagram each way per handshake, and is used if both sides have it. Signatures stay Ed25519.
    #[must_use]
    pub fn hybrid(&self) -> Self {
        let mut provider = CryptoProvider::clone(&self.0);
        let hybrid = kx_group::X25519MLKEM768;
        provider.kx_groups.retain(|group| group.name() != hybrid.name());
        provider.kx_groups.insert(0, hybrid);
        Self(Arc::new(provider))
    }
}

/// What protects Initial packets, whatever suite the handshake chooses (RFC 9001, section 5.2).
static INITIAL: LazyLock<Suite> = LazyLock::new(|| {
    let suite = cipher_suite::TLS13_AES_128_GCM_SHA256.tls13();
    suite.and_then(Tls13CipherSuite::quic_suite).expect("the suite of the name is one for QUIC")
});

/// What every network has that is not simulated.
pub struct Tls {
    key: NodeKey,
    settings: TlsSettings,
}

impl Tls {
    /// Proves to be `key`.
    pub fn new(key: &NodeKey, settings: &TlsSettings) -> Self {
        Self { key: key.clone(), settings: settings.clone() }
    }
}

/// # Panics
/// If the TLS provider lacks what QUIC needs, which would be a broken build.
impl HandshakeCrypto for Tls {
    fn server(&self, members: Arc<Members>) -> Arc<dyn crypto::ServerConfig> {
        server_with(&self.settings, credentials(self.key.id(), &self.key), members)
            .expect("the TLS provider serves QUIC")
    }

    fn client(&self, expected: &[NodeId]) -> Arc<dyn crypto::ClientConfig> {
        let credentials = credentials(self.key.id(), &self.key);
        let resolver = Arc::new(AlwaysResolvesClientRawPublicKeys::new(credentials));
        client_with(&self.settings, resolver, expected).expect("the TLS provider serves QUIC")
    }

    fn cids(&self, key: u64) -> Box<dyn ConnectionIdGenerator> {
        Box::new(HashedConnectionIdGenerator::from_key(key))
    }
}

fn server_with(
    TlsSettings(provider): &TlsSettings,
    credentials: Arc<CertifiedKey>,
    members: Arc<Members>,
) -> Result<Arc<QuicServerConfig>, Error> {
    let accepted = Accepted { keys: Keys::AnyOf(members), provider: provider.clone() };
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(accepted))
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
    TlsSettings(provider): &TlsSettings,
    resolver: Arc<dyn ResolvesClientCert>,
    expected: &[NodeId],
) -> Result<Arc<QuicClientConfig>, Error> {
    let accepted = Accepted { keys: Keys::Only(expected.into()), provider: provider.clone() };
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(accepted))
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
        // The peer is told this text.
        self.0.sign(message).map_err(|_| Error::General("cannot sign".into()))
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ED25519
    }
}

/// The keys that are accepted.
#[derive(Debug)]
enum Keys {
    Only(Vec<NodeId>),
    AnyOf(Arc<Members>),
}

/// The verifier of both sides.
#[derive(Debug)]
struct Accepted {
    keys: Keys,
    provider: Arc<CryptoProvider>,
}

impl Accepted {
    fn check(&self, key: &CertificateDer<'_>, others: &[CertificateDer<'_>]) -> Result<(), Error> {
        let id =
            parse_spki(key).filter(|_| others.is_empty()).ok_or(CertificateError::BadEncoding)?;
        let accepted = match &self.keys {
            Keys::Only(expected) => expected.contains(&id),
            Keys::AnyOf(members) => members.contains(id),
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
            let algorithms = &self.provider.signature_verification_algorithms;
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

impl ServerCertVerifier for Accepted {
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

impl ClientCertVerifier for Accepted {
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
