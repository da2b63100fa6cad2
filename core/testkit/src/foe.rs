//! Who attacks: plain quinn with TLS of its own, which connects with any credentials and writes into
//! its streams whatever it is told to.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, RecvStream, SendStream};

use crate::tls;

pub use crate::tls::{ALPN, Credentials};
pub use quinn::TransportConfig as Transport;

/// An endpoint, which may have many connections.
#[derive(Clone)]
pub struct Foe {
    endpoint: Endpoint,
    config: ClientConfig,
}

impl Foe {
    pub fn new(credentials: Credentials, alpn: &[u8], transport: Transport) -> Self {
        let mut config = ClientConfig::new(Arc::new(tls::client(&credentials, alpn)));
        config.transport_config(Arc::new(transport));
        let endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).expect("a free port");
        Self { endpoint, config }
    }

    /// Handshake only. That it succeeds does not say that the other side likes the credentials.
    pub async fn connect(&self, to: SocketAddr) -> Result<Line, ConnectionError> {
        let connecting = self.endpoint.connect_with(self.config.clone(), to, "node");
        connecting.expect("an address").await.map(Line)
    }

    /// Begins a handshake, and leaves it at the first datagrams.
    pub fn knock(&self, at: SocketAddr) -> quinn::Connecting {
        self.endpoint.connect_with(self.config.clone(), at, "node").expect("an address")
    }
}

/// One connection.
#[derive(Clone)]
pub struct Line(pub Connection);

impl Line {
    /// Writes a whole stream. It may be stopped, or cut off, at any time.
    pub async fn write(&self, bytes: &[u8]) {
        let Ok(mut stream) = self.0.open_uni().await else { return };
        let _ = stream.write_all(bytes).await;
        let _ = stream.finish();
    }

    pub async fn open(&self) -> SendStream {
        self.0.open_uni().await.expect("connected")
    }

    /// A stream, if one may be opened right now.
    pub fn try_open(&self) -> Option<SendStream> {
        now(self.0.open_uni())?.ok()
    }

    /// Writes all that the caller of a request says.
    pub async fn ask(&self, bytes: &[u8]) -> (SendStream, RecvStream) {
        let (mut send, receive) = self.0.open_bi().await.expect("connected");
        let _ = send.write_all(bytes).await;
        let _ = send.finish();
        (send, receive)
    }

    /// A call's stream, if one may be opened right now.
    pub fn try_call(&self) -> Option<(SendStream, RecvStream)> {
        now(self.0.open_bi())?.ok()
    }

    /// The next stream of the victim, as far as it goes.
    pub async fn read(&self) -> Vec<u8> {
        let mut stream = self.0.accept_uni().await.expect("connected");
        stream.read_to_end(1 << 20).await.unwrap_or_default()
    }

    /// Waits until the victim closes the connection, with this code.
    pub async fn closed(&self, code: u64) {
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

    pub fn hang_up(&self) {
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
