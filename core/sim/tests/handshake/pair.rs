//! Two QUIC endpoints and the path between them, for the tests of every kind of handshake.

use core::{net::SocketAddr, time::Duration};
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use quinn_proto::{
    ClientConfig, Connection, ConnectionError, ConnectionHandle, DatagramEvent, Endpoint, Event,
    ServerConfig, Side, TransportErrorCode,
};

use slotcast::id::NodeId;
use slotcast::internals::{Members, Provider, SERVER_NAME, peer_id};
use slotcast::node::NodeKey;
use slotcast_sim::Crypto;

/// The TLS alert (RFC 8446, section 6) that a peer gets to see which is not welcome.
pub(crate) const ACCESS_DENIED: u8 = 49;

/// One way.
const LATENCY: Duration = Duration::from_millis(1);

pub(crate) fn key(seed: u8) -> NodeKey {
    NodeKey::from_seed([seed; 32])
}

pub(crate) fn members(ids: &[&NodeKey]) -> Arc<Members> {
    let members = Members::default();
    members.set(ids.iter().map(|key| key.id()));
    Arc::new(members)
}

/// What `key` has to do with handshakes in these tests.
pub(crate) fn provider(crypto: Crypto, key: &NodeKey) -> Provider {
    Provider::new(key, crypto.of_node(key, &[7; 32]))
}

/// An endpoint with at most one connection, and what was seen of it.
pub(crate) struct Peer {
    endpoint: Endpoint,
    address: SocketAddr,
    pub(crate) connection: Option<(ConnectionHandle, Connection)>,
    pub(crate) connected: bool,
    pub(crate) lost: Option<ConnectionError>,
    /// Has clients prove their address before anything else.
    pub(crate) retries: bool,
    sent: Vec<BytesMut>,
}

impl Peer {
    pub(crate) fn new(provider: &Provider, port: u16, server: Option<ServerConfig>) -> Self {
        let mut config = provider.endpoint_config();
        config.rng_seed(Some([port as u8; 32]));
        Self {
            endpoint: Endpoint::new(Arc::new(config), server.map(Arc::new), false, None),
            address: ([127, 0, 0, 1], port).into(),
            connection: None,
            connected: false,
            lost: None,
            retries: false,
            sent: Vec::new(),
        }
    }

    pub(crate) fn quic(&mut self) -> &mut Connection {
        &mut self.connection.as_mut().expect("dialled").1
    }

    /// What the connection says about its peer.
    pub(crate) fn sees(&self) -> Option<NodeId> {
        peer_id(&self.connection.as_ref()?.1)
    }

    fn send(&mut self, size: usize, buf: &mut Vec<u8>, segment: Option<usize>) {
        self.sent.extend(buf[..size].chunks(segment.unwrap_or(size)).map(BytesMut::from));
        buf.clear();
    }

    fn receive(&mut self, now: Instant, from: SocketAddr, datagram: BytesMut) {
        let mut buf = Vec::new();
        match self.endpoint.handle(now, from, None, None, datagram, &mut buf) {
            Some(DatagramEvent::NewConnection(incoming))
                if self.retries && !incoming.remote_address_validated() =>
            {
                let response = self.endpoint.retry(incoming, &mut buf).unwrap();
                self.send(response.size, &mut buf, response.segment_size);
            }
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

/// A datagram on the wire: when it was sent, by which side, and what.
pub(crate) type Sighting = (Duration, Side, Vec<u8>);

pub(crate) struct Pair {
    start: Instant,
    now: Instant,
    pub(crate) client: Peer,
    pub(crate) server: Peer,
    /// All datagrams so far.
    pub(crate) wire: Vec<Sighting>,
}

impl Pair {
    /// Lets the client dial the server, and waits until nothing moves any more.
    pub(crate) fn new(
        client: &Provider,
        client_config: ClientConfig,
        server: &Provider,
        server_config: ServerConfig,
    ) -> Self {
        let mut pair = Self::before(client, client_config, server, server_config);
        pair.run();
        pair
    }

    /// The same before anything was sent.
    fn before(
        client: &Provider,
        client_config: ClientConfig,
        server: &Provider,
        server_config: ServerConfig,
    ) -> Self {
        #[allow(
            clippy::disallowed_methods,
            reason = "an arbitrary origin: only differences are looked at"
        )]
        let now = Instant::now();
        let mut pair = Self {
            start: now,
            now,
            client: Peer::new(client, 1, None),
            server: Peer::new(server, 2, Some(server_config)),
            wire: Vec::new(),
        };
        let address = pair.server.address;
        let dialled = pair.client.endpoint.connect(now, client_config, address, SERVER_NAME);
        pair.client.connection = Some(dialled.unwrap());
        pair
    }

    /// Lets `client`, which expects `expected`, dial `server`, which accepts `members`. Both are
    /// who they say.
    pub(crate) fn dial(
        crypto: Crypto,
        client: &NodeKey,
        expected: NodeId,
        server: &NodeKey,
        members: Arc<Members>,
    ) -> Self {
        let mut pair = Self::undialled(crypto, client, expected, server, members);
        pair.run();
        pair
    }

    fn undialled(
        crypto: Crypto,
        client: &NodeKey,
        expected: NodeId,
        server: &NodeKey,
        members: Arc<Members>,
    ) -> Self {
        let (client, server) = (provider(crypto, client), provider(crypto, server));
        let client_config = client.client_config(&[expected]);
        Self::before(&client, client_config, &server, server.server_config(members))
    }

    /// Two that are welcome to each other.
    pub(crate) fn connected(crypto: Crypto, client: &NodeKey, server: &NodeKey) -> Self {
        let mut pair = Self::undialled(crypto, client, server.id(), server, members(&[client]));
        pair.run();
        pair.assert_connected();
        pair
    }

    /// The same, but the server wants to see the client's address proven.
    pub(crate) fn connected_after_retry(
        crypto: Crypto,
        client: &NodeKey,
        server: &NodeKey,
    ) -> Self {
        let mut pair = Self::undialled(crypto, client, server.id(), server, members(&[client]));
        pair.server.retries = true;
        pair.run();
        pair.assert_connected();
        pair
    }

    pub(crate) fn assert_connected(&self) {
        assert!(self.client.connected && self.server.connected);
        assert_eq!((&self.client.lost, &self.server.lost), (&None, &None));
    }

    /// What the client has to send now, which is taken off the wire.
    pub(crate) fn intercept(&mut self) -> Vec<BytesMut> {
        self.client.poll(self.now);
        self.client.sent.split_off(0)
    }

    /// Puts a datagram on the wire to the server, and lets the answers through.
    pub(crate) fn inject(&mut self, datagram: &[u8]) {
        self.server.receive(self.now, self.client.address, BytesMut::from(datagram));
        self.server.poll(self.now);
        for answer in self.server.sent.split_off(0) {
            self.client.receive(self.now, self.server.address, answer);
        }
        self.client.poll(self.now);
    }

    pub(crate) fn run(&mut self) {
        // Far more than a handshake takes, and less than the idle timeout of 30 s.
        let end = self.now + Duration::from_secs(10);
        while self.now < end {
            self.client.poll(self.now);
            self.server.poll(self.now);
            let (to_server, to_client) =
                (self.client.sent.split_off(0), self.server.sent.split_off(0));
            if to_server.is_empty() && to_client.is_empty() {
                let wake_at = self.client.wake_at().into_iter().chain(self.server.wake_at()).min();
                self.now = wake_at.unwrap_or(end).clamp(self.now, end);
                continue;
            }
            let at = self.now - self.start;
            self.now += LATENCY;
            for datagram in to_server {
                self.wire.push((at, Side::Client, datagram.to_vec()));
                self.server.receive(self.now, self.client.address, datagram);
            }
            for datagram in to_client {
                self.wire.push((at, Side::Server, datagram.to_vec()));
                self.client.receive(self.now, self.server.address, datagram);
            }
        }
    }
}

/// `by` has closed the connection with `alert`, without having been connected; `other` was told.
pub(crate) fn assert_refused(by: &Peer, other: &Peer, alert: u8) {
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
