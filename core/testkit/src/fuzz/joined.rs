//! Machines for calls, joined by streams in memory: bytes in order each way, cut anywhere, of which
//! any number may be under way; stops and resets overtake them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use slotcast::broadcast::SendBuffer;
use slotcast::config::{Config, RouteConfig};
use slotcast::id::PeerIndex;
use slotcast::rpc::{CallStream, Output, Rpc};
use slotcast::time::Time;
use slotcast::wire::{CallReset, RouteHello};

pub(super) const NODES: usize = 3;

/// How a node names another: not by its number, so that a mix-up shows.
pub(super) const fn index(node: usize) -> PeerIndex {
    PeerIndex(2 * node as u16 + 1)
}

pub(super) fn node(peer: PeerIndex) -> usize {
    usize::from(peer.0) / 2
}

/// One direction of a stream.
#[derive(Debug, Default)]
struct Way {
    bytes: VecDeque<u8>,
    /// Its sender has ended it, or taken it back.
    finished: bool,
    reset: Option<CallReset>,
    /// Its reader has seen that.
    is_read: bool,
    /// Its reader does not want the rest.
    stopped: bool,
    /// Its sender was told that there is no room.
    blocked: bool,
}

pub(super) struct Joined {
    pub(super) machines: [Rpc; NODES],
    pub(super) now: Time,
    configs: [Config; NODES],
    /// By sender, reader and stream.
    ways: BTreeMap<(usize, usize, u64), Way>,
    /// Streams that the reader has been told of.
    opened: BTreeSet<(usize, usize, u64)>,
    streams: u64,
    pub(super) up: BTreeSet<(usize, usize)>,
}

/// What one end of a connection says of a route. Nodes 1 and 2 take each other for older ones.
fn hello(config: &RouteConfig, (at, other): (usize, usize)) -> RouteHello {
    RouteHello {
        id: config.id,
        request_bytes_max: config.request_bytes_max,
        response_bytes_max: config.response_bytes_max,
        in_flight_max: if config.serves { config.in_flight_max } else { 0 },
        in_flight_bytes_max: config.request_bytes_share(),
        knows_grants: at.min(other) == 0,
    }
}

impl Joined {
    /// Machines that know each other, and are not connected.
    pub(super) fn new(configs: [Config; NODES]) -> Self {
        let mut machines = configs.each_ref().map(|c| Rpc::new(c).expect("holds together"));
        for (at, machine) in machines.iter_mut().enumerate() {
            (0..NODES).filter(|to| *to != at).for_each(|to| machine.add_peer(index(to)));
        }
        Self {
            machines,
            now: Time::ZERO,
            configs,
            ways: BTreeMap::new(),
            opened: BTreeSet::new(),
            streams: 0,
            up: BTreeSet::new(),
        }
    }

    // Connections.

    pub(super) fn is_up(&self, a: usize, b: usize) -> bool {
        self.up.contains(&(a.min(b), a.max(b)))
    }

    fn forget_streams(&mut self, a: usize, b: usize) {
        let survives = |from: usize, to: usize| (from, to) != (a, b) && (from, to) != (b, a);
        self.ways.retain(|(from, to, _), _| survives(*from, *to));
        self.opened.retain(|(from, to, _)| survives(*from, *to));
    }

    /// A connection, or one that supersedes another.
    pub(super) fn connect(&mut self, a: usize, b: usize) {
        self.forget_streams(a, b);
        self.up.insert((a.min(b), a.max(b)));
        for (at, other) in [(a, b), (b, a)] {
            let routes = self.configs[other].routes.iter();
            let routes: Vec<_> = routes.map(|route| hello(route, (at, other))).collect();
            self.machines[at].peer_up(index(other), &routes);
            self.settle(at);
        }
    }

    pub(super) fn disconnect(&mut self, a: usize, b: usize) {
        self.forget_streams(a, b);
        self.up.remove(&(a.min(b), a.max(b)));
        for (at, other) in [(a, b), (b, a)] {
            self.machines[at].peer_down(index(other));
            self.settle(at);
        }
    }

    /// A node takes another for a new member.
    pub(super) fn replace(&mut self, at: usize, other: usize) {
        self.disconnect(at, other);
        self.machines[at].remove_peer(index(other));
        self.settle(at);
        self.machines[at].add_peer(index(other));
        self.settle(at);
    }

    // What moves.

    /// Does what a machine wants done.
    pub(super) fn settle(&mut self, at: usize) {
        for _ in 0..10_000 {
            match self.machines[at].poll(self.now) {
                Output::Idle { wake_at } => {
                    assert!(wake_at > self.now, "what is due is done");
                    return self.machines[at].assert_invariants();
                }
                // What has come before is there to be read.
                Output::Read { peer, stream } => {
                    self.read(at, node(peer), stream.0, 0);
                }
                Output::Close { peer, stream, why } => {
                    let key = (at, node(peer), stream.0);
                    let way = self.ways.get_mut(&key).expect("a stream of this connection");
                    if !(way.finished && way.is_read) {
                        way.reset = Some(why);
                        way.bytes.clear();
                    }
                    self.stop(at, node(peer), stream.0);
                }
                Output::Stop { peer, stream } => self.stop(at, node(peer), stream.0),
            }
        }
        panic!("the machine does not come to rest");
    }

    fn stop(&mut self, at: usize, other: usize, stream: u64) {
        let way = self.ways.get_mut(&(other, at, stream)).expect("a stream of this connection");
        way.stopped = true;
        way.bytes.clear();
    }

    /// One piece of a flow, of which the transport takes up to `limit` bytes; false if there is none.
    pub(super) fn send(
        &mut self,
        (from, to, flow): (usize, usize, usize),
        room: usize,
        limit: usize,
        can_open: bool,
    ) -> bool {
        let mut out = SendBuffer::new();
        let machine = &mut self.machines[from];
        let has_backlog = machine.has_flow_backlog(index(to), flow, can_open);
        let polled = machine.poll_flow(self.now, index(to), flow, room, can_open, &mut out);
        assert_eq!(polled.is_some(), has_backlog && room > 0);
        let Some(piece) = polled else {
            assert!(out.is_empty());
            return false;
        };
        let stream = piece.stream.unwrap_or_else(|| {
            self.streams += 2;
            // Both ends see who has opened it.
            let stream = self.streams + u64::from(from > to);
            self.ways.insert((from, to, stream), Way::default());
            self.ways.insert((to, from, stream), Way::default());
            CallStream(stream)
        });
        let key = (from, to, stream.0);
        let way = self.ways.get_mut(&key).expect("a stream of this connection");
        assert!(!way.finished && way.reset.is_none(), "nothing is sent behind the end");
        assert!(!way.blocked, "the transport has not said that there is room");
        let mut bytes = Vec::new();
        out.for_each_piece(|piece| bytes.extend_from_slice(piece));
        assert!(bytes.len() <= room && (!bytes.is_empty() || piece.finish));
        let taken = if way.stopped { 0 } else { bytes.len().min(limit) };
        way.bytes.extend(&bytes[..taken]);
        way.blocked = taken < bytes.len();
        way.finished = piece.finish && !way.blocked;
        let is_all = way.finished;
        self.machines[from].handle_written(stream, taken);
        if is_all {
            self.machines[from].handle_acked(index(to), stream);
        }
        self.settle(from);
        true
    }

    /// Streams in which something may be under way.
    pub(super) fn streams(&self, from: usize, to: usize) -> Vec<u64> {
        let keys = self.ways.keys().filter(|(f, t, _)| (*f, *t) == (from, to));
        keys.map(|(_, _, stream)| *stream).collect()
    }

    /// What is under way in one stream is handed in, up to `limit` bytes; false if nothing was.
    pub(super) fn deliver(&mut self, from: usize, to: usize, stream: u64, limit: usize) -> bool {
        let id = CallStream(stream);
        let mut any = false;
        let own = self.ways.get_mut(&(to, from, stream)).expect("both ways");
        if own.stopped && own.reset.is_none() && !(own.finished && own.is_read) {
            // The transport resets what the other side does not want.
            (own.reset, own.is_read, any) = (Some(CallReset::Unneeded), true, true);
            self.machines[to].handle_stopped(index(from), id);
            self.settle(to);
        }
        let way = &self.ways[&(from, to, stream)];
        let has_something = !way.bytes.is_empty() || way.finished || way.reset.is_some();
        let is_theirs = (stream & 1 == 1) == (from > to);
        if has_something && is_theirs && self.opened.insert((from, to, stream)) {
            any = true;
            self.machines[to].handle_opened(self.now, index(from), id);
            self.settle(to);
        }
        any |= self.read(to, from, stream, limit);
        self.settle(to);
        let way = self.ways.get_mut(&(from, to, stream)).expect("both ways");
        if core::mem::take(&mut way.blocked) && !way.stopped {
            any = true;
            self.machines[from].handle_writable(index(to), id);
            self.settle(from);
        }
        any
    }

    /// A machine takes what it wants; false if there was nothing.
    fn read(&mut self, at: usize, from: usize, stream: u64, limit: usize) -> bool {
        let (mut left, mut any) = (limit, false);
        loop {
            let way = self.ways.get_mut(&(from, at, stream)).expect("both ways");
            if way.is_read || way.stopped {
                return any;
            }
            let (machine, peer, id) = (&mut self.machines[at], index(from), CallStream(stream));
            let wants = machine.wants(peer, id);
            let length = wants.min(left).min(way.bytes.len());
            if let Some(why) = way.reset {
                way.is_read = true;
                machine.handle_reset(self.now, peer, id, why);
            } else if length > 0 {
                let bytes: Vec<u8> = way.bytes.drain(..length).collect();
                left -= length;
                machine.handle_data(self.now, peer, id, &bytes).expect("no fault");
            } else if wants > 0 && way.finished && way.bytes.is_empty() {
                way.is_read = true;
                machine.handle_end(peer, id).expect("no fault");
            } else {
                return any;
            }
            any = true;
        }
    }

    /// All that can move does, until nothing can.
    pub(super) fn run(&mut self) {
        let pairs = || (0..NODES).flat_map(|a| (0..NODES).map(move |b| (a, b)));
        for _ in 0..10_000 {
            let mut any = false;
            (0..NODES).for_each(|at| self.settle(at));
            for (from, to) in pairs().filter(|(a, b)| a != b) {
                for flow in 0..self.configs[from].routes.len() {
                    while self.send((from, to, flow), 1 << 16, usize::MAX, true) {
                        any = true;
                    }
                }
                for stream in self.streams(from, to) {
                    any |= self.deliver(from, to, stream, usize::MAX);
                }
            }
            if !any {
                return;
            }
        }
        panic!("there is no end of it");
    }

    /// No transport has to keep anything for a stream.
    pub(super) fn assert_quiet(&self) {
        for (key, way) in &self.ways {
            assert!(way.is_read || way.reset.is_some() || way.stopped, "{key:?} is left: {way:?}");
        }
        for machine in &self.machines {
            assert!(machine.is_empty());
            assert_eq!((machine.len(), machine.body_bytes()), (0, 0));
            assert_eq!(machine.next_deadline(), Time::NEVER);
            assert!(!machine.awaits_budget());
            assert!((0..NODES).all(|to| !machine.has_backlog(index(to))));
        }
    }
}
