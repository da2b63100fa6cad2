//! Plain quinn on loopback, with the identities and the crypto that slotcast has: what the benches compare with.

use std::{
    io,
    net::{Ipv4Addr, UdpSocket},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use quinn::{
    AsyncUdpSocket, ClientConfig, Connection, Endpoint, EndpointConfig, IdleTimeout,
    MtuDiscoveryConfig, Runtime, ServerConfig, TransportConfig, UdpPoller, congestion::CubicConfig,
    udp,
};
use rustls::{
    DigitallySignedStruct, DistinguishedName, SignatureScheme,
    client::{
        AlwaysResolvesClientRawPublicKeys,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature_with_raw_key},
    pki_types::{
        CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer,
        UnixTime,
    },
    server::{
        AlwaysResolvesServerRawPublicKeys,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::CertifiedKey,
};

/// The protocol of the comparison.
pub const ALPN: &[u8] = b"reference";

/// So many that the publisher's limit is the one that binds: 1,000 updates and as many fetches fit, although quinn
/// returns stream credit only in lots of an eighth.
const STREAMS_MAX: u32 = 4_096;
/// One in each direction is all that [`one_stream`](crate::one_stream) needs.
const UNIDIRECTIONAL_STREAMS_MAX: u32 = 1;
const STREAM_WINDOW: u32 = 16 << 20;
const RECEIVE_WINDOW: u32 = 200_000_000;
const SEND_WINDOW: u64 = 100_000_000;
const INITIAL_WINDOW_MIN: u64 = 14_720;
/// As large as the system's own limit lets it be.
const SOCKET_BUFFER_BYTES: usize = 25_000_000;
/// What fits in one UDP send, segmented by the kernel or not.
const UDP_SEND_BYTES_MAX: usize = 65_507;
const KEEP_ALIVE: Duration = Duration::from_secs(5);
const IDLE_MAX: Duration = Duration::from_secs(60);

/// Which of `keys` the other end of a connection has.
pub fn peer_index(connection: &Connection, keys: &[Arc<CertifiedKey>]) -> usize {
    let identity = connection.peer_identity().expect("mutually authenticated");
    let identity =
        identity.downcast::<Vec<CertificateDer<'static>>>().expect("of the rustls session");
    keys.iter().position(|key| key.cert == *identity).expect("a member")
}

/// Settings of connections whose datagrams have `mtu` bytes of UDP payload from the start.
pub fn transport_config(mtu: u16) -> Arc<TransportConfig> {
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(mtu);
    // RFC 9002, section 7.2, for any datagram size: below one datagram quinn would never send the first.
    let mut congestion = CubicConfig::default();
    congestion.initial_window(INITIAL_WINDOW_MIN.max(2 * u64::from(mtu)));
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(STREAMS_MAX.into())
        .max_concurrent_uni_streams(UNIDIRECTIONAL_STREAMS_MAX.into())
        .stream_receive_window(STREAM_WINDOW.into())
        .receive_window(RECEIVE_WINDOW.into())
        .send_window(SEND_WINDOW)
        .datagram_receive_buffer_size(None)
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(Some(IdleTimeout::try_from(IDLE_MAX).expect("short enough")))
        .congestion_controller_factory(Arc::new(congestion))
        .initial_mtu(mtu)
        .mtu_discovery_config(Some(discovery))
        .enable_segmentation_offload(true);
    Arc::new(config)
}

/// An endpoint on loopback that connects with `key` and accepts `members`.
pub fn endpoint(
    key: &Arc<CertifiedKey>,
    members: &[Arc<CertifiedKey>],
    transport: &Arc<TransportConfig>,
    mtu: u16,
    runtime: Arc<dyn Runtime>,
) -> Endpoint {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port on loopback");
    let options = udp::UdpSocketState::new((&socket).into()).expect("a UDP socket");
    options
        .set_recv_buffer_size((&socket).into(), SOCKET_BUFFER_BYTES)
        .expect("clamped by the system");
    options
        .set_send_buffer_size((&socket).into(), SOCKET_BUFFER_BYTES)
        .expect("clamped by the system");
    let socket = SegmentLimit {
        inner: runtime.wrap_udp_socket(socket).expect("inside a runtime"),
        segments_max: (UDP_SEND_BYTES_MAX / usize::from(mtu)).max(1),
    };
    let mut config = EndpointConfig::default();
    config.max_udp_payload_size(mtu).expect("mtu of 1,200 or more");
    let server = server_config(key, members, transport);
    Endpoint::new_with_abstract_socket(config, Some(server), Arc::new(socket), runtime)
        .expect("inside a runtime")
}

/// Keeps a batch of segments below the longest UDP send. quinn always allows itself ten, and a longer batch would be
/// lost without a trace: that is what large MTUs would measure.
#[derive(Debug)]
struct SegmentLimit {
    inner: Arc<dyn AsyncUdpSocket>,
    segments_max: usize,
}

impl AsyncUdpSocket for SegmentLimit {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.inner.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &udp::Transmit<'_>) -> io::Result<()> {
        self.inner.try_send(transmit)
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [io::IoSliceMut<'_>],
        meta: &mut [udp::RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.inner.poll_recv(context, buffers, meta)
    }

    fn local_addr(&self) -> io::Result<std::net::SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments().min(self.segments_max)
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

/// AES-128-GCM and X25519 only.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256],
        kx_groups: vec![aws_lc_rs::kx_group::X25519],
        ..aws_lc_rs::default_provider()
    })
}

/// The Ed25519 key of a node, made from its index: good for a bench on loopback and for nothing else.
pub fn node_key(index: usize) -> Arc<CertifiedKey> {
    let mut seed = [7; 32];
    seed[..8].copy_from_slice(&(index as u64).to_be_bytes());
    certified_key(&seed)
}

/// The Ed25519 key whose RFC 8032 private key is `seed`, as rustls takes it.
pub fn certified_key(seed: &[u8; 32]) -> Arc<CertifiedKey> {
    /// PKCS #8 version 1 with an Ed25519 private key of 32 bytes to follow (RFC 8410, section 7).
    const PKCS8_PREFIX: [u8; 16] =
        [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    let der = PrivateKeyDer::from(PrivatePkcs8KeyDer::from([&PKCS8_PREFIX[..], seed].concat()));
    let key = aws_lc_rs::sign::any_eddsa_type(match &der {
        PrivateKeyDer::Pkcs8(pkcs8) => pkcs8,
        _ => unreachable!("made one line above"),
    })
    .expect("a valid key");
    let public =
        rustls::sign::SigningKey::public_key(&*key).expect("an Ed25519 key knows its public half");
    Arc::new(CertifiedKey::new(vec![CertificateDer::from(public.as_ref().to_vec())], key))
}

fn server_config(
    key: &Arc<CertifiedKey>,
    members: &[Arc<CertifiedKey>],
    transport: &Arc<TransportConfig>,
) -> ServerConfig {
    let provider = provider();
    let mut tls = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider has a TLS 1.3 suite")
        .with_client_cert_verifier(Arc::new(Members::new(members, provider)))
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(key.clone())));
    tls.send_tls13_tickets = 0;
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let tls = quinn::crypto::rustls::QuicServerConfig::try_from(tls).expect("has AES-128-GCM");
    let mut config = ServerConfig::with_crypto(Arc::new(tls));
    config.transport_config(transport.clone()).migration(false);
    config
}

/// Settings of a dial with `key` to any of `members`, where the protocol `alpn` is spoken.
pub fn client_config(
    key: &Arc<CertifiedKey>,
    members: &[Arc<CertifiedKey>],
    transport: &Arc<TransportConfig>,
    alpn: &[u8],
) -> ClientConfig {
    let provider = provider();
    let mut tls = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider has a TLS 1.3 suite")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Members::new(members, provider)))
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(key.clone())));
    tls.resumption = rustls::client::Resumption::disabled();
    tls.enable_sni = false;
    tls.alpn_protocols = vec![alpn.to_vec()];
    let tls = quinn::crypto::rustls::QuicClientConfig::try_from(tls).expect("has AES-128-GCM");
    let mut config = ClientConfig::new(Arc::new(tls));
    config.transport_config(transport.clone());
    config
}

/// Accepts the members' raw public keys (RFC 7250) and nothing else; [`peer_index`] tells which member it was.
#[derive(Debug)]
struct Members {
    keys: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl Members {
    fn new(members: &[Arc<CertifiedKey>], provider: Arc<CryptoProvider>) -> Self {
        Self { keys: members.iter().flat_map(|key| key.cert.iter().cloned()).collect(), provider }
    }

    fn check(&self, key: &CertificateDer<'_>) -> Result<(), rustls::Error> {
        if self.keys.contains(key) {
            Ok(())
        } else {
            Err(rustls::CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn check_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let key = SubjectPublicKeyInfoDer::from(key.as_ref());
        verify_tls13_signature_with_raw_key(
            message,
            &key,
            signed,
            &self.provider.signature_verification_algorithms,
        )
    }
}

fn tls12_refused() -> rustls::Error {
    rustls::Error::General("TLS 1.3 only".into())
}

impl ServerCertVerifier for Members {
    fn verify_server_cert(
        &self,
        key: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.check(key).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(tls12_refused())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.check_signature(message, key, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for Members {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        key: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.check(key).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(tls12_refused())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.check_signature(message, key, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
