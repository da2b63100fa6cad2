//! Whole nodes in a small network: what makes two runs equal, and what a run shows of TLS.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::super::Crypto;
use slotcast::artifact::Artifact;
use slotcast::broadcast::Event;
use slotcast::config::{ChannelConfig, Config};
use slotcast::id::ChannelId;
use slotcast::internals::Provider;
use slotcast::membership::Topology;
use slotcast::node::{Node, NodeEvent, NodeKey, Output};
use slotcast::time::Time;

const CHANNEL: ChannelId = ChannelId(1);
const LATENCY: Duration = Duration::from_millis(10);

/// A small network, and all that was ever sent in it.
struct Network {
    crypto: Crypto,
    start: Instant,
    now: Time,
    seed: u8,
    nodes: Vec<Node>,
    wake_at: Vec<Time>,
    /// Sender, receiver and datagram, by time of arrival.
    in_flight: BTreeMap<(Time, usize), (usize, usize, Vec<u8>)>,
    wire: Vec<(Time, usize, Vec<u8>)>,
    delivered: Vec<Artifact>,
    told: Vec<(usize, NodeEvent)>,
}

fn key(seed: u8) -> NodeKey {
    NodeKey::from_seed([seed; 32])
}

/// Of two nodes, the one with the lower id dials.
fn sorted_keys() -> [NodeKey; 3] {
    let mut keys = [1, 2, 3].map(key);
    keys.sort_by_key(NodeKey::id);
    keys
}

fn address(at: usize) -> SocketAddr {
    ([10, 0, 0, at as u8], 4000).into()
}

impl Network {
    fn new(crypto: Crypto, seed: u8) -> Self {
        #[allow(clippy::disallowed_methods, reason = "an arbitrary origin")]
        let start = Instant::now();
        let mut network = Self {
            crypto,
            start,
            now: Time::ZERO,
            seed,
            nodes: Vec::new(),
            wake_at: vec![Time::ZERO; 3],
            in_flight: BTreeMap::new(),
            wire: Vec::new(),
            delivered: Vec::new(),
            told: Vec::new(),
        };
        network.nodes = (0..3).map(|at| network.node(at)).collect();
        network
    }

    /// A node, started with a seed of its own.
    fn node(&mut self, at: usize) -> Node {
        let keys = sorted_keys();
        let mut channel = ChannelConfig::new(CHANNEL);
        channel.artifact_bytes_max = 1 << 20;
        channel.push_bytes_max = 1000;
        let mut config = Config::new([channel]);
        // Has every dialling node prove its address.
        config.transport.handshakes_max = 1;
        let members = keys.iter().enumerate().map(|(at, key)| (key.id(), vec![address(at)]));
        let topology = Topology::new(1, members).unwrap();
        self.seed += 1;
        let (key, seed) = (keys[at].clone(), [self.seed; 32]);
        let crypto = self.crypto.of_node(&key, &seed);
        Node::simulated(config, key, topology, seed, self.start, crypto).unwrap()
    }

    fn poll(&mut self, at: usize) {
        let mut buffer = Vec::new();
        loop {
            match self.nodes[at].poll(self.now, 8, &mut buffer) {
                Output::Transmit(transmit) => {
                    let to = (0..3).find(|to| address(*to) == transmit.destination).unwrap();
                    for datagram in buffer.chunks(transmit.segment_size.unwrap_or(buffer.len())) {
                        self.wire.push((self.now, at, datagram.to_vec()));
                        let number = self.wire.len();
                        if !number.is_multiple_of(17) {
                            let entry = (at, to, datagram.to_vec());
                            self.in_flight.insert((self.now + LATENCY, number), entry);
                        }
                    }
                }
                Output::Idle { wake_at, .. } => {
                    let is_closed = self.nodes[at].is_closed();
                    self.wake_at[at] = if is_closed { Time::NEVER } else { wake_at };
                    let Some(event) = self.nodes[at].poll_event(CHANNEL) else { break };
                    if let Event::Delivered { artifact, .. } = event {
                        self.delivered.push(artifact);
                    }
                }
            }
        }
        while let Some(event) = self.nodes[at].poll_node_event() {
            self.told.push((at, event));
        }
    }

    fn run(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            (0..3).for_each(|at| self.poll(at));
            let arrival = self.in_flight.first_key_value().map_or(Time::NEVER, |(key, _)| key.0);
            let wake_at = self.wake_at.iter().copied().min().unwrap();
            self.now = self.now.max(arrival.min(wake_at)).min(end);
            if self.now == end {
                return;
            }
            while let Some(entry) = self.in_flight.first_entry()
                && entry.key().0 <= self.now
            {
                let (from, to, datagram) = entry.remove();
                let (from, length) = (address(from), datagram.len());
                self.nodes[to].handle_datagrams(self.now, from, None, None, length, &datagram);
            }
        }
    }

    /// Connecting, pushing, fetching, and a crash, with one datagram in 17 lost.
    fn story(mut self) -> Self {
        let ms = Duration::from_millis;
        self.run(ms(1000));
        let pushed = Artifact::new(vec![b'p'; 800].into(), b"pushed").unwrap();
        let fetched = Artifact::new(vec![b'f'; 100_000].into(), b"fetched").unwrap();
        self.nodes[0].publish(CHANNEL, pushed).unwrap();
        self.nodes[1].publish(CHANNEL, fetched).unwrap();
        self.run(ms(2000));
        // The highest id: it is dialled by the others, and has to make itself known to them.
        self.nodes[2] = self.node(2);
        self.run(ms(6000));
        (0..3).for_each(|at| self.nodes[at].shutdown(self.now));
        self.run(ms(1000));
        self
    }
}

/// Whether the datagram begins with a retry packet (RFC 9000, section 17.2.5).
fn is_retry(datagram: &[u8]) -> bool {
    datagram[0] & 0xf0 == 0xf0
}

#[test]
fn equal_seeds_make_nodes_send_equal_bytes() {
    let [a, b] = [1, 1].map(|seed| Network::new(Crypto::Null, seed).story());
    let up = |told: &&(usize, NodeEvent)| matches!(told, (2, NodeEvent::Up { .. }));
    assert_eq!(a.told.iter().filter(up).count(), 4, "two peers in two lives: {:?}", a.told);
    assert_eq!(a.delivered.len(), 6, "to two nodes, and twice to that which crashed");
    assert!(a.wire.iter().filter(|(_, _, datagram)| is_retry(datagram)).count() > 3);
    assert!(a.wire.len() > 300);
    assert_eq!(a.wire, b.wire);
    assert_eq!(a.told, b.told);
}

#[test]
fn unequal_seeds_and_tls_make_unequal_bytes() {
    let wire = |crypto, seed| Network::new(crypto, seed).story().wire;
    assert_ne!(wire(Crypto::Null, 1)[0], wire(Crypto::Null, 4)[0]);
    assert_ne!(wire(Crypto::Tls, 1)[0], wire(Crypto::Tls, 1)[0]);
}

#[test]
fn the_timeline_is_that_of_tls() {
    for seed in [1, 11, 21, 31] {
        let [tls, null] = [Crypto::Tls, Crypto::Null].map(|crypto| {
            let wire = Network::new(crypto, seed).story().wire;
            let sizes = wire.into_iter().map(|(at, by, datagram)| (at, by, datagram.len()));
            sizes.collect::<Vec<_>>()
        });
        assert_eq!(tls, null, "{seed}");
    }
}

#[test]
fn address_tokens_do_not_tell_the_time() {
    let wire = Network::new(Crypto::Null, 1).story().wire;
    let (_, by, retry) = wire.iter().find(|(_, _, datagram)| is_retry(datagram)).unwrap();
    // First byte, version, two connection ids with their lengths; the token, which ends with its
    // nonce; and the packet's tag.
    let token = &retry[1 + 4 + 2 * (1 + 8)..retry.len() - 16];
    let (sealed, nonce) = token.split_last_chunk::<16>().unwrap();
    let mut sealed = sealed.to_vec();
    let key = &sorted_keys()[*by];
    let provider = Provider::new(key, Crypto::Null.of_node(key, &[0; 32]));
    let opened = provider.token_key().aead_from_hkdf(nonce).open(&mut sealed, b"").unwrap();
    assert!(opened.ends_with(&[0; 8]), "seconds of the epoch: {opened:?}");
}

#[test]
fn whoever_watches_can_read_along() {
    let says = |crypto, text: &[u8]| {
        let wire = Network::new(crypto, 1).story().wire;
        wire.iter().any(|(_, _, datagram)| datagram.windows(text.len()).any(|part| part == text))
    };
    assert!(says(Crypto::Null, &[b'p'; 800]));
    assert!(!says(Crypto::Tls, &[b'p'; 8]));
}
