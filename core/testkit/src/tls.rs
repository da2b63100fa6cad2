//! TLS of those who break the rules: put together from rustls alone, so that it can show any
//! credentials, and takes any server for what it says it is.

use std::sync::Arc;

use quinn_proto::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, ResolvesClientCert};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::AlwaysResolvesServerRawPublicKeys;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::version::TLS13;
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme,
};
use slotcast::node::NodeKey;

/// The protocol name that nodes agree on.
pub const ALPN: &[u8] = b"slotcast/1";

/// What an attacker shows of itself.
#[derive(Debug)]
pub enum Credentials {
    /// A raw key, as members have one.
    Raw(NodeKey),
    /// The public half of `shown`, without the secret: signatures are those of `key`.
    Stolen {
        /// Whose name it claims.
        shown: NodeKey,
        /// What it has.
        key: NodeKey,
    },
    /// The same key in a certificate that it has signed itself.
    X509(NodeKey),
    /// Nothing.
    None,
    /// Nothing, but it says that it has a raw key.
    NoneOfRaw,
}

/// The client side of handshakes.
///
/// # Panics
/// If rustls does not know what QUIC needs, which would be a broken build; likewise below.
pub fn client(credentials: &Credentials, alpn: &[u8]) -> QuicClientConfig {
    let resolver: Arc<dyn ResolvesClientCert> = match credentials {
        Credentials::Raw(key) => {
            Arc::new(AlwaysResolvesClientRawPublicKeys::new(certified(key, key)))
        }
        Credentials::Stolen { shown, key } => {
            Arc::new(AlwaysResolvesClientRawPublicKeys::new(certified(shown, key)))
        }
        Credentials::X509(key) => {
            let key = signing_key(key);
            let certificate = self_signed(&*key);
            Arc::new(Certificate(Arc::new(CertifiedKey::new(vec![certificate.into()], key))))
        }
        Credentials::None => Arc::new(Keyless { claims_raw_key: false }),
        Credentials::NoneOfRaw => Arc::new(Keyless { claims_raw_key: true }),
    };
    let mut tls = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has a TLS 1.3 suite")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone))
        .with_client_cert_resolver(resolver);
    tls.resumption = rustls::client::Resumption::disabled();
    tls.enable_sni = false;
    tls.alpn_protocols = vec![alpn.to_vec()];
    tls.try_into().expect("has AES-128-GCM")
}

/// The server side of handshakes, which shows the public half of `shown`, signs with `key`, and
/// accepts any client with a raw key.
pub fn server(shown: &NodeKey, key: &NodeKey) -> QuicServerConfig {
    let resolver = AlwaysResolvesServerRawPublicKeys::new(certified(shown, key));
    let mut tls = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has a TLS 1.3 suite")
        .with_client_cert_verifier(Arc::new(Anyone))
        .with_cert_resolver(Arc::new(resolver));
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls.try_into().expect("has AES-128-GCM")
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256],
        kx_groups: vec![aws_lc_rs::kx_group::X25519],
        ..aws_lc_rs::default_provider()
    })
}

fn certified(shown: &NodeKey, key: &NodeKey) -> Arc<CertifiedKey> {
    let public = spki(&*signing_key(shown));
    Arc::new(CertifiedKey::new(vec![public.into()], signing_key(key)))
}

fn signing_key(key: &NodeKey) -> Arc<dyn SigningKey> {
    /// PKCS #8 version 1 with an Ed25519 private key of 32 bytes to follow (RFC 8410, section 7).
    const PREFIX: [u8; 16] =
        [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    let der = PrivatePkcs8KeyDer::from([&PREFIX[..], key.seed().expect("made of a seed")].concat());
    aws_lc_rs::sign::any_eddsa_type(&der).expect("a valid key")
}

fn spki(key: &dyn SigningKey) -> Vec<u8> {
    key.public_key().expect("an Ed25519 key knows its public half").to_vec()
}

/// Of an element shorter than 128 bytes, or of a long one in two bytes.
fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let length = body.len() as u16;
    let mut element = vec![tag];
    match length {
        0..0x80 => element.push(length as u8),
        _ => element.extend([&[0x82][..], &length.to_be_bytes()].concat()),
    }
    element.extend(body);
    element
}

/// A certificate of version 1 for "CN=node", from 2020 to 2049 (RFC 5280, section 4.1).
fn self_signed(key: &dyn SigningKey) -> Vec<u8> {
    const SEQUENCE: u8 = 0x30;
    let algorithm = der(SEQUENCE, &[&[6, 3, 0x2b, 0x65, 0x70]]);
    let common_name = der(SEQUENCE, &[&[6, 3, 0x55, 4, 3], &der(0x0c, &[b"node"])]);
    let name = der(SEQUENCE, &[&der(0x31, &[&common_name])]);
    let times = [b"200101000000Z", b"491231235959Z"].map(|time| der(0x17, &[time]));
    let validity = der(SEQUENCE, &[&times[0], &times[1]]);
    let parts = [&[2, 1, 1][..], &algorithm, &name, &validity, &name, &spki(key)];
    let content = der(SEQUENCE, &parts);
    let signer = key.choose_scheme(&[SignatureScheme::ED25519]).expect("an Ed25519 key");
    let signature = signer.sign(&content).expect("any message can be signed");
    der(SEQUENCE, &[&content, &algorithm, &der(3, &[&[0], &signature])])
}

#[derive(Debug)]
struct Certificate(Arc<CertifiedKey>);

impl ResolvesClientCert for Certificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
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

/// Takes anyone for what it says it is, as long as that is a raw key.
#[derive(Debug)]
struct Anyone;

/// What the verifier traits of the two sides have in common: no signature is looked at.
macro_rules! any_signature {
    () => {
        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Err(rustls::Error::General("TLS 1.3 only".into()))
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            vec![SignatureScheme::ED25519]
        }

        fn requires_raw_public_keys(&self) -> bool {
            true
        }
    };
}

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    any_signature!();
}

impl ClientCertVerifier for Anyone {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    any_signature!();
}
