use super::*;
use slotcast::node::Ecn;

const LATENCY: Duration = Duration::from_millis(10);

/// Two of them, and what is on its way between them.
struct Pair {
    now: Time,
    peers: [BarePeer; 2],
    in_flight: BTreeMap<(Time, u64), (usize, Vec<u8>)>,
    sequence: u64,
    events: [Vec<BareEvent>; 2],
}

fn address(at: usize) -> SocketAddr {
    ([10, 0, 0, at as u8], 4000).into()
}

impl Pair {
    fn new(transport: impl Fn() -> QuicTransport) -> Self {
        #[allow(clippy::disallowed_methods, reason = "an arbitrary origin")]
        let start = Instant::now();
        let mut keys = [1, 2].map(|seed| NodeKey::from_seed([seed; 32]));
        keys.sort_by_key(NodeKey::id);
        let members = keys.iter().enumerate().map(|(at, key)| (key.id(), vec![address(at)]));
        let topology = Topology::new(1, members).unwrap();
        let config = TransportConfig::default();
        let peers = keys
            .map(|key| BarePeer::new(key, &topology, &config, transport(), Crypto::Null, 7, start));
        Self {
            now: Time::ZERO,
            peers,
            in_flight: BTreeMap::new(),
            sequence: 0,
            events: Default::default(),
        }
    }

    fn elapse(&mut self, span: Duration) {
        let end = self.now + span;
        while self.now <= end {
            while let Some(entry) = self.in_flight.first_entry()
                && entry.key().0 <= self.now
            {
                let (to, datagram) = entry.remove();
                let ecn: Option<Ecn> = None;
                self.peers[to].handle_datagram(self.now, address(1 - to), ecn, &datagram);
            }
            let mut next = Time::NEVER;
            for at in 0..2 {
                next = next.min(self.poll(at));
            }
            let arrival = self.in_flight.first_key_value().map_or(Time::NEVER, |(key, _)| key.0);
            self.now = next.min(arrival);
        }
        self.now = end;
    }

    fn poll(&mut self, at: usize) -> Time {
        loop {
            self.peers[at].serve(self.now);
            while let Some(event) = self.peers[at].next_event() {
                self.events[at].push(event);
            }
            let mut send = |to: SocketAddr, datagram: &[u8]| {
                assert_eq!(to, address(1 - at));
                self.sequence += 1;
                let arrival = (self.now + LATENCY, self.sequence);
                self.in_flight.insert(arrival, (1 - at, datagram.into()));
            };
            if !self.peers[at].transmit(self.now, &mut send) {
                return self.peers[at].wake_at();
            }
        }
    }

    /// The connections that each has had, in order.
    fn lines(&self, at: usize) -> Vec<LineId> {
        let connected = |event: &BareEvent| match event {
            BareEvent::Connected { line, .. } => Some(*line),
            _ => None,
        };
        self.events[at].iter().filter_map(connected).collect()
    }
}

#[test]
fn the_lower_one_dials_and_dials_again_and_ids_are_never_used_twice() {
    let mut pair = Pair::new(QuicTransport::default);
    pair.elapse(Duration::from_secs(1));
    let (dialled, accepted) = (pair.lines(0), pair.lines(1));
    assert_eq!((dialled.len(), accepted.len()), (1, 1));
    pair.peers[1].close(pair.now, accepted[0]);
    pair.elapse(Duration::from_secs(5));
    let (dialled, accepted) = (pair.lines(0), pair.lines(1));
    assert_eq!((dialled.len(), accepted.len()), (2, 2));
    // The same handle, but another connection.
    for (at, lines) in [(0, dialled), (1, accepted)] {
        assert_eq!(pair.peers[at].open(lines[0]), None);
        assert!(pair.peers[at].open(lines[1]).is_some());
        assert_ne!(lines[0], lines[1]);
    }
}

#[test]
fn who_is_forgotten_is_told_so_by_a_reset() {
    let mut pair = Pair::new(QuicTransport::default);
    pair.elapse(Duration::from_secs(1));
    let (dialled, accepted) = (pair.lines(0)[0], pair.lines(1)[0]);
    pair.peers[1].forget(pair.now, accepted);
    let stream = pair.peers[0].open(dialled).unwrap();
    pair.peers[0].write(dialled, stream, "anybody there?".as_bytes(), true);
    pair.elapse(Duration::from_millis(30));
    assert!(pair.events[0].contains(&BareEvent::Lost { line: dialled }), "{:?}", pair.events[0]);
    pair.elapse(Duration::from_secs(1));
    assert_eq!(pair.lines(0).len(), 2);
}

#[test]
fn what_the_peer_does_not_read_waits_here_up_to_a_bound() {
    let transport = || {
        let mut transport = QuicTransport::default();
        transport.receive_window(10_000_u32.into()).send_window(10_000);
        transport
    };
    let mut pair = Pair::new(transport);
    pair.elapse(Duration::from_secs(1));
    let (dialled, accepted) = (pair.lines(0)[0], pair.lines(1)[0]);
    let stream = pair.peers[0].open(dialled).unwrap();
    let mut written = 0;
    while pair.peers[0].write(dialled, stream, vec![written as u8; 100_000], false) {
        written += 1;
    }
    assert_eq!(written, 10, "a mebibyte");
    pair.elapse(Duration::from_secs(1));
    assert!(!pair.peers[0].write(dialled, stream, vec![0; 100_000], false), "no credit came");
    let mut read: Vec<u8> = Vec::new();
    for _ in 0..1000 {
        pair.peers[1].read(accepted, None, |_, bytes| read.extend(bytes.unwrap_or_default()));
        pair.elapse(Duration::from_millis(20));
    }
    assert_eq!(read.len(), 1_000_000);
    assert!(read.chunks(100_000).enumerate().all(|(at, piece)| piece == [at as u8; 100_000]));
    // Half of it only, and the rest later.
    pair.peers[0].write(dialled, stream, vec![1; 10], true);
    pair.elapse(Duration::from_millis(20));
    let mut heard = Vec::new();
    pair.peers[1].read(accepted, Some(4), |_, bytes| heard.push(bytes.map(<[u8]>::len)));
    pair.peers[1].read(accepted, Some(4), |_, bytes| heard.push(bytes.map(<[u8]>::len)));
    assert_eq!(heard, [Some(4)]);
    pair.peers[1].read(accepted, None, |_, bytes| heard.push(bytes.map(<[u8]>::len)));
    assert_eq!(heard, [Some(4), Some(6), None]);
}

#[test]
fn a_hollow_handshake_ends_by_itself() {
    let mut pair = Pair::new(QuicTransport::default);
    pair.elapse(Duration::from_secs(1));
    let node = pair.peers[1].id();
    for _ in 0..2 * HOLLOW_MAX {
        pair.peers[0].dial_hollow(pair.now, node);
    }
    let is_hollow = |line: &&Line| line.purpose == Purpose::Hollow;
    let hollow = |pair: &Pair| pair.peers[0].lines.iter().flatten().filter(is_hollow).count();
    assert_eq!(hollow(&pair), HOLLOW_MAX);
    pair.elapse(Duration::from_secs(3));
    assert_eq!((hollow(&pair), pair.lines(0).len()), (0, 1));
}
