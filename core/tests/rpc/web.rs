//! Machines joined by streams in memory: ordered bytes each way, which the test may cut, hold back,
//! block or lose with their connection. What an application holds is the test's to keep.

mod apps;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use slotcast::broadcast::SendBuffer;
use slotcast::config::{ChannelConfig, Config, RouteConfig};
use slotcast::error::Fault;
use slotcast::id::{ChannelId, PeerIndex, RouteId};
use slotcast::rpc::{CallStream, Output, Rpc};
use slotcast::time::Time;
use slotcast::wire::{CallReset, RouteHello};

pub(crate) const ROUTE: RouteId = RouteId(7);

pub(crate) fn peer(at: usize) -> PeerIndex {
    PeerIndex(at as u16)
}

/// A configuration with [`ROUTE`] as `change` has it.
pub(crate) fn config(change: impl FnOnce(&mut RouteConfig)) -> Config {
    let mut route = RouteConfig::new(ROUTE, "test").bytes_max(1 << 20, 1 << 20);
    change(&mut route);
    Config::new([ChannelConfig::new(ChannelId(1))]).routes([route])
}

pub(crate) fn hello(config: &Config) -> Vec<RouteHello> {
    let hello = |route: &RouteConfig| RouteHello {
        id: route.id,
        request_bytes_max: route.request_bytes_max,
        response_bytes_max: route.response_bytes_max,
        in_flight_max: if route.serves { route.in_flight_max } else { 0 },
        in_flight_bytes_max: route.request_bytes_share(),
        knows_grants: true,
    };
    config.routes.iter().map(hello).collect()
}

/// Bytes that tell their place, so that a mix-up shows.
pub(crate) fn body(length: usize) -> Bytes {
    (0..length).map(|at| (at ^ at >> 8 ^ length) as u8).collect::<Vec<u8>>().into()
}

pub(crate) const fn ms(span: u64) -> Duration {
    Duration::from_millis(span)
}

/// One direction of a stream.
#[derive(Debug, Default)]
struct Way {
    bytes: VecDeque<u8>,
    /// The sender has ended it, or taken it back.
    finished: bool,
    reset: Option<CallReset>,
    /// The reader has seen its end, or a reset.
    is_read: bool,
    /// The reader does not want the rest, whether or not the sender has heard of it.
    stopped: bool,
    /// The sender was told that there is no room.
    blocked: bool,
}

impl Way {
    /// Whether a transport may forget it: nobody waits for anything in it.
    fn is_over(&self) -> bool {
        self.is_read || self.reset.is_some() || self.stopped
    }
}

pub(crate) struct Web {
    pub(crate) nodes: Vec<Rpc>,
    pub(crate) now: Time,
    configs: Vec<Config>,
    /// By sender, reader and stream.
    ways: BTreeMap<(usize, usize, u64), Way>,
    /// Streams that the reader has been told of.
    opened: BTreeSet<(usize, usize, u64)>,
    streams: u64,
    /// Counts what was handed in.
    moves: u64,
    /// Directions between nodes in which nothing arrives for now.
    pub(crate) held: BTreeSet<(usize, usize)>,
    /// Bytes of one stream that may be unread.
    pub(crate) window: usize,
    /// Bytes that are read, and asked for, at once.
    pub(crate) cut: usize,
    pub(crate) room: usize,
    /// Streams that a node may open from now on.
    pub(crate) streams_left: usize,
    pub(crate) faults: Vec<(usize, Fault)>,
    /// Bytes that were handed in, by sender and reader.
    pub(crate) carried: BTreeMap<(usize, usize), usize>,
}

impl Web {
    /// Machines that are all connected, and serve what they can.
    pub(crate) fn new(configs: &[Config]) -> Self {
        let count = configs.len();
        let mut web = Self {
            nodes: configs.iter().map(|c| Rpc::new(c).expect("it holds together")).collect(),
            now: Time(1),
            configs: configs.to_vec(),
            ways: BTreeMap::new(),
            opened: BTreeSet::new(),
            streams: 0,
            moves: 0,
            held: BTreeSet::new(),
            window: usize::MAX,
            cut: usize::MAX,
            room: 64 << 10,
            streams_left: usize::MAX,
            faults: Vec::new(),
            carried: BTreeMap::new(),
        };
        for (a, b) in (0..count).flat_map(|a| (0..count).map(move |b| (a, b))) {
            if a != b {
                web.nodes[a].add_peer(peer(b));
            }
        }
        for (a, config) in configs.iter().enumerate() {
            for route in &config.routes {
                assert_eq!(web.nodes[a].serve(web.now, route.id, true), route.serves);
            }
            (0..a).for_each(|b| web.up(a, b));
        }
        web
    }

    pub(crate) fn pair(config: &Config) -> Self {
        Self::new(&[config.clone(), config.clone()])
    }

    // Connections and time.

    pub(crate) fn up(&mut self, a: usize, b: usize) {
        self.cut_streams(a, b);
        for (at, other) in [(a, b), (b, a)] {
            self.nodes[at].peer_up(peer(other), &hello(&self.configs[other]));
            self.settle(at);
        }
    }

    pub(crate) fn down(&mut self, a: usize, b: usize) {
        self.cut_streams(a, b);
        for (at, other) in [(a, b), (b, a)] {
            self.nodes[at].peer_down(peer(other));
            self.settle(at);
        }
    }

    fn cut_streams(&mut self, a: usize, b: usize) {
        let survives = |from: usize, to: usize| (from, to) != (a, b) && (from, to) != (b, a);
        self.ways.retain(|(from, to, _), _| survives(*from, *to));
        self.opened.retain(|(from, to, _)| survives(*from, *to));
    }

    /// Time passes, and what can move moves; machines are polled when they want to be.
    pub(crate) fn elapse(&mut self, span: Duration) {
        let end = self.now + span;
        self.run();
        loop {
            let wake_at = self.nodes.iter().map(Rpc::next_deadline).min().expect("some nodes");
            if wake_at > end {
                break;
            }
            self.now = self.now.max(wake_at);
            self.run();
        }
        self.now = end;
        self.run();
    }

    // What moves.

    /// Does what a machine wants done, and checks it.
    pub(crate) fn settle(&mut self, at: usize) {
        for _ in 0..10_000 {
            match self.nodes[at].poll(self.now) {
                Output::Idle { wake_at } => {
                    assert!(wake_at > self.now, "what is due is done");
                    self.nodes[at].assert_invariants();
                    return;
                }
                Output::Read { peer, stream } => self.read(at, peer.0.into(), stream.0),
                Output::Close { peer, stream, why } => {
                    self.close(at, peer.0.into(), stream.0, why);
                }
                Output::Stop { peer, stream } => self.stop(at, peer.0.into(), stream.0),
            }
        }
        panic!("the machine does not come to rest");
    }

    fn close(&mut self, at: usize, other: usize, stream: u64, why: CallReset) {
        if let Some(way) = self.ways.get_mut(&(at, other, stream))
            && !(way.finished && way.is_read)
        {
            way.reset = Some(why);
            way.bytes.clear();
        }
        self.stop(at, other, stream);
    }

    fn stop(&mut self, at: usize, other: usize, stream: u64) {
        if let Some(way) = self.ways.get_mut(&(other, at, stream)) {
            way.stopped = true;
            way.bytes.clear();
        }
    }

    /// One piece from a node to another; false if there is none.
    pub(crate) fn send_one(&mut self, from: usize, to: usize, flow: usize) -> bool {
        let mut out = SendBuffer::new();
        let can_open = self.streams_left > 0;
        let node = &mut self.nodes[from];
        let has_backlog = node.has_flow_backlog(peer(to), flow, can_open);
        let polled = node.poll_flow(self.now, peer(to), flow, self.room, can_open, &mut out);
        assert_eq!(has_backlog, polled.is_some());
        let Some(piece) = polled else { return false };
        let stream = piece.stream.unwrap_or_else(|| {
            self.streams_left -= 1;
            self.streams += 2;
            // Both ends see who has opened it.
            let stream = self.streams + u64::from(from > to);
            self.ways.insert((from, to, stream), Way::default());
            self.ways.insert((to, from, stream), Way::default());
            CallStream(stream)
        });
        let way = self.ways.get_mut(&(from, to, stream.0)).expect("a stream of this connection");
        assert!(!way.finished && way.reset.is_none(), "nothing is sent behind the end");
        let mut bytes = Vec::new();
        out.for_each_piece(|piece| bytes.extend_from_slice(piece));
        assert!(bytes.len() <= self.room);
        let taken = match way.stopped {
            true => 0,
            false => bytes.len().min(self.window.saturating_sub(way.bytes.len())),
        };
        way.bytes.extend(&bytes[..taken]);
        way.finished = piece.finish && taken == bytes.len();
        way.blocked = taken < bytes.len();
        let is_all = way.finished;
        *self.carried.entry((from, to)).or_default() += taken;
        self.nodes[from].handle_written(stream, taken);
        if is_all {
            self.nodes[from].handle_acked(peer(to), stream);
        }
        self.settle(from);
        true
    }

    /// Everything that a node has for others goes out.
    pub(crate) fn send(&mut self, from: usize) -> bool {
        let mut any = false;
        for to in (0..self.nodes.len()).filter(|to| *to != from) {
            for flow in 0..self.configs[from].routes.len() {
                while self.send_one(from, to, flow) {
                    any = true;
                }
            }
        }
        any
    }

    /// All that has come for a node in one stream, as far as it is wanted.
    fn read(&mut self, at: usize, from: usize, stream: u64) {
        let id = CallStream(stream);
        while !self.held.contains(&(from, at))
            && let Some(way) = self.ways.get_mut(&(from, at, stream))
            && !way.is_read
            && !way.stopped
        {
            let node = &mut self.nodes[at];
            let wants = node.wants(peer(from), id);
            let length = wants.min(self.cut).min(way.bytes.len());
            let mut result = Ok(());
            if let Some(why) = way.reset {
                way.is_read = true;
                node.handle_reset(self.now, peer(from), id, why);
            } else if length > 0 {
                let bytes: Vec<u8> = way.bytes.drain(..length).collect();
                result = node.handle_data(self.now, peer(from), id, &bytes);
            } else if wants > 0 && way.finished {
                way.is_read = true;
                result = node.handle_end(peer(from), id);
            } else {
                return;
            }
            self.moves += 1;
            if let Err(fault) = result {
                self.faults.push((at, fault));
                self.close(at, from, stream, CallReset::Unneeded);
            }
        }
    }

    /// What has come for a node is handed in; false if there was nothing.
    pub(crate) fn deliver(&mut self, at: usize) -> bool {
        let before = self.moves;
        let keys: Vec<_> = self.ways.keys().filter(|(_, to, _)| *to == at).copied().collect();
        for (from, to, stream) in keys {
            if self.held.contains(&(from, to)) {
                continue;
            }
            let id = CallStream(stream);
            let own = self.ways.get_mut(&(at, from, stream)).expect("both ways");
            if own.stopped && own.reset.is_none() && !(own.finished && own.is_read) {
                // The transport resets what the other side does not want.
                own.reset = Some(CallReset::Unneeded);
                own.is_read = true;
                self.moves += 1;
                self.nodes[at].handle_stopped(peer(from), id);
                self.settle(at);
            }
            let way = &self.ways[&(from, to, stream)];
            let has_something = !way.bytes.is_empty() || way.finished || way.reset.is_some();
            let is_theirs = (stream & 1 == 1) == (from > at);
            if has_something && is_theirs && self.opened.insert((from, at, stream)) {
                self.moves += 1;
                self.nodes[at].handle_opened(self.now, peer(from), id);
            }
            self.read(at, from, stream);
            self.settle(at);
            // Its sender has room again.
            let way = self.ways.get_mut(&(from, at, stream)).expect("both ways");
            if way.blocked && !way.stopped && way.bytes.len() < self.window {
                way.blocked = false;
                self.moves += 1;
                self.nodes[from].handle_writable(peer(at), id);
                self.settle(from);
            }
        }
        before != self.moves
    }

    /// All that can move does, until nothing can.
    pub(crate) fn run(&mut self) {
        for _ in 0..100_000 {
            let mut any = false;
            for at in 0..self.nodes.len() {
                self.settle(at);
                any |= self.send(at);
            }
            for at in 0..self.nodes.len() {
                any |= self.deliver(at);
            }
            if !any {
                return;
            }
        }
        panic!("there is no end of it");
    }
}
