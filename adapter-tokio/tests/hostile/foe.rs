//! Who attacks: plain quinn with TLS of its own, which connects with any credentials and writes into
//! its streams whatever it is told to.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, RecvStream, SendStream};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, ResolvesClientCert};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{DigitallySignedStruct, SignatureScheme};
use slotcast_tokio::slotcast::node::NodeKey;

pub(crate) use quinn::TransportConfig as Transport;

pub(crate) const ALPN: &[u8] = b"slotcast/1";

/// What an attacker shows of itself.
pub(crate) enum Credentials {
    /// A raw key, as members have one.
    Raw(NodeKey),
    /// The same key in a certificate that it has signed itself.
    X509(NodeKey),
    /// Nothing.
    None,
}

/// An endpoint, which may have many connections.
#[derive(Clone)]
pub(crate) struct Foe {
    endpoint: Endpoint,
    config: ClientConfig,
}

impl Foe {
    pub(crate) fn new(credentials: Credentials, alpn: &[u8], transport: Transport) -> Self {
        let builder = rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the provider has a TLS 1.3 suite")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone));
        let mut tls = match credentials {
            Credentials::Raw(key) => {
                let key = signing_key(&key);
                let public = spki(&*key);
                let key = Arc::new(CertifiedKey::new(vec![public.into()], key));
                let key = AlwaysResolvesClientRawPublicKeys::new(key);
                builder.with_client_cert_resolver(Arc::new(key))
            }
            Credentials::X509(key) => {
                let key = signing_key(&key);
                let certificate = self_signed(&*key);
                let key = Arc::new(CertifiedKey::new(vec![certificate.into()], key));
                builder.with_client_cert_resolver(Arc::new(Certificate(key)))
            }
            Credentials::None => builder.with_no_client_auth(),
        };
        tls.resumption = rustls::client::Resumption::disabled();
        tls.enable_sni = false;
        tls.alpn_protocols = vec![alpn.to_vec()];
        let tls = quinn::crypto::rustls::QuicClientConfig::try_from(tls).expect("has AES-128-GCM");
        let mut config = ClientConfig::new(Arc::new(tls));
        config.transport_config(Arc::new(transport));
        let endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).expect("a free port");
        Self { endpoint, config }
    }

    /// Handshake only. That it succeeds does not say that the other side likes the credentials.
    pub(crate) async fn connect(&self, to: SocketAddr) -> Result<Line, ConnectionError> {
        let connecting = self.endpoint.connect_with(self.config.clone(), to, "node");
        connecting.expect("an address").await.map(Line)
    }

    /// Begins a handshake, and leaves it at the first datagrams.
    pub(crate) fn knock(&self, at: SocketAddr) -> quinn::Connecting {
        self.endpoint.connect_with(self.config.clone(), at, "node").expect("an address")
    }
}

/// One connection.
#[derive(Clone)]
pub(crate) struct Line(pub(crate) Connection);

impl Line {
    /// Writes a whole stream. It may be stopped, or cut off, at any time.
    pub(crate) async fn write(&self, bytes: &[u8]) {
        let Ok(mut stream) = self.0.open_uni().await else { return };
        let _ = stream.write_all(bytes).await;
        let _ = stream.finish();
    }

    pub(crate) async fn open(&self) -> SendStream {
        self.0.open_uni().await.expect("connected")
    }

    /// A stream, if one may be opened right now.
    pub(crate) fn try_open(&self) -> Option<SendStream> {
        now(self.0.open_uni())?.ok()
    }

    /// Writes all that the caller of a request says.
    pub(crate) async fn ask(&self, bytes: &[u8]) -> (SendStream, RecvStream) {
        let (mut send, receive) = self.0.open_bi().await.expect("connected");
        let _ = send.write_all(bytes).await;
        let _ = send.finish();
        (send, receive)
    }

    /// A call's stream, if one may be opened right now.
    pub(crate) fn try_call(&self) -> Option<(SendStream, RecvStream)> {
        now(self.0.open_bi())?.ok()
    }

    /// The next stream of the victim, as far as it goes.
    pub(crate) async fn read(&self) -> Vec<u8> {
        let mut stream = self.0.accept_uni().await.expect("connected");
        stream.read_to_end(1 << 20).await.unwrap_or_default()
    }

    /// Waits until the victim closes the connection, with this code.
    pub(crate) async fn closed(&self, code: u64) {
        match self.0.closed().await {
            ConnectionError::ApplicationClosed(close) => {
                assert_eq!(close.error_code.into_inner(), code);
            }
            // Of one that never came up the victim keeps nothing, and so answers what was on its way
            // to it with a reset. quinn tells of that one if both arrive together.
            ConnectionError::Reset => {}
            other => panic!("not closed, but {other}"),
        }
    }

    pub(crate) fn hang_up(&self) {
        self.0.close(0_u32.into(), b"");
    }
}

/// What a future has to say without any wait.
fn now<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256],
        kx_groups: vec![aws_lc_rs::kx_group::X25519],
        ..aws_lc_rs::default_provider()
    })
}

fn signing_key(key: &NodeKey) -> Arc<dyn SigningKey> {
    /// PKCS #8 version 1 with an Ed25519 private key of 32 bytes to follow (RFC 8410, section 7).
    const PREFIX: [u8; 16] =
        [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    let der = PrivatePkcs8KeyDer::from([&PREFIX[..], key.seed()].concat());
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

/// Takes any server for what it says it is.
#[derive(Debug)]
struct Anyone;

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
}
