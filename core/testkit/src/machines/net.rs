//! A deterministic network of machines. Nothing happens but by a call of the test: `run` sends and
//! delivers until all is quiet at the present time, `wake` lets time jump to the next deadline.
//! Every machine is drained and its invariants checked after each input and command.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use slotcast::artifact::Artifact;
use slotcast::broadcast::{
    Broadcast, ChunkTaken, Event, OutStream, Output, RequestId, Send, SendBuffer, Taken,
};
use slotcast::config::Config;
use slotcast::error::Fault;
use slotcast::id::{ArtifactId, ChannelId};
use slotcast::time::Time;
use slotcast::wire::{Chunk, Item, Request, StreamDecoder, StreamHead, Update};

use super::{BODY_MAX, CHANNEL, Frame, Tap, bytes_of, node, peer};

pub type StreamId = usize;

/// The order in which streams with something to deliver get their turn.
#[derive(Clone, Copy, Debug)]
pub enum Order {
    /// The oldest stream first.
    Opened,
    /// The youngest first: everything overtakes what went before.
    Reversed,
    /// As this seed has it.
    Shuffled(u64),
}

/// What a stream's receiver makes of its frames.
#[derive(Clone, Copy, Debug)]
enum Reading {
    Head,
    Updates(ChannelId),
    Requests,
    Chunks(RequestId),
}

struct Stream {
    from: usize,
    to: usize,
    out: Option<OutStream>,
    tap: Tap,
    /// Sent and not yet delivered.
    bytes: Vec<u8>,
    finished: bool,
    reset: bool,
    decoder: StreamDecoder,
    reading: Reading,
}

impl Stream {
    fn has_arrived(&self) -> bool {
        self.finished && self.bytes.is_empty()
    }
}

pub struct Net {
    pub now: Time,
    pub nodes: Vec<Broadcast>,
    config: Config,
    links: BTreeSet<(usize, usize)>,
    streams: BTreeMap<StreamId, Stream>,
    next_stream: StreamId,
    /// All frames ever sent, with sender, receiver and stream.
    pub sent: Vec<(usize, usize, StreamId, Frame)>,
    /// All resets ever made, with sender and receiver.
    pub resets: Vec<(usize, usize)>,
    pub order: Order,
    /// Bytes delivered at once.
    pub cut: usize,
    /// Bytes asked of a machine at once.
    pub room: usize,
    held: BTreeSet<(usize, usize)>,
    choked: BTreeSet<(usize, usize)>,
    /// Acknowledgements stay away.
    pub hold_acks: bool,
    unacked: Vec<(usize, usize, OutStream)>,
    outputs: Vec<(usize, Output)>,
    wake_at: Vec<Time>,
}

impl Net {
    /// `count` nodes that are members to each other, not connected.
    pub fn apart(config: Config, count: usize) -> Self {
        let mut net = Self {
            now: Time::ZERO,
            nodes: Vec::new(),
            config,
            links: BTreeSet::new(),
            streams: BTreeMap::new(),
            next_stream: 0,
            sent: Vec::new(),
            resets: Vec::new(),
            order: Order::Opened,
            cut: usize::MAX,
            room: 256 << 10,
            held: BTreeSet::new(),
            choked: BTreeSet::new(),
            hold_acks: false,
            unacked: Vec::new(),
            outputs: Vec::new(),
            wake_at: vec![Time::NEVER; count],
        };
        net.nodes = (0..count).map(|at| net.machine(at, count)).collect();
        net
    }

    /// `count` nodes, all connected, with nothing left to say.
    pub fn new(config: Config, count: usize) -> Self {
        let mut net = Self::apart(config, count);
        for a in 0..count {
            (a + 1..count).for_each(|b| net.connect(a, b));
        }
        net.run();
        net.sent.clear();
        net
    }

    fn machine(&self, at: usize, count: usize) -> Broadcast {
        let mut machine =
            Broadcast::new(&self.config, node(at), at as u64).expect("a valid configuration");
        (0..count).filter(|other| *other != at).for_each(|other| {
            machine.add_peer(peer(other), node(other));
        });
        machine
    }

    // Connections.

    pub fn connect(&mut self, a: usize, b: usize) {
        assert!(self.links.insert((a.min(b), a.max(b))));
        for (at, other) in [(a, b), (b, a)] {
            self.nodes[at].peer_up(self.now, peer(other), |_| true);
            self.settle(at);
        }
    }

    /// What is under way between the two is lost.
    pub fn disconnect(&mut self, a: usize, b: usize) {
        assert!(self.links.remove(&(a.min(b), a.max(b))));
        let is_between = |from: usize, to: usize| (from, to) == (a, b) || (from, to) == (b, a);
        self.streams.retain(|_, stream| !is_between(stream.from, stream.to));
        self.unacked.retain(|(from, to, _)| !is_between(*from, *to));
        for (at, other) in [(a, b), (b, a)] {
            self.nodes[at].peer_down(self.now, peer(other));
            self.settle(at);
        }
    }

    pub fn is_connected(&self, a: usize, b: usize) -> bool {
        self.links.contains(&(a.min(b), a.max(b)))
    }

    pub fn isolate(&mut self, at: usize) {
        let others: Vec<usize> =
            (0..self.nodes.len()).filter(|other| self.is_connected(at, *other)).collect();
        others.into_iter().for_each(|other| self.disconnect(at, other));
    }

    /// The node loses its connections and all that it knew.
    pub fn restart(&mut self, at: usize) {
        self.isolate(at);
        self.nodes[at] = self.machine(at, self.nodes.len());
        self.wake_at[at] = Time::NEVER;
    }

    /// A member leaves, as seen by one node.
    pub fn remove(&mut self, at: usize, member: usize) {
        if self.is_connected(at, member) {
            self.disconnect(at, member);
        }
        self.nodes[at].remove_peer(self.now, peer(member));
        self.settle(at);
    }

    // Commands.

    pub fn publish(&mut self, at: usize, artifact: &Artifact) {
        self.nodes[at].publish(CHANNEL, artifact.clone()).expect("there is room");
        self.settle(at);
    }

    pub fn abort(&mut self, at: usize, artifact: &Artifact) {
        assert!(self.nodes[at].abort(CHANNEL, &artifact.id()), "it was active");
        self.settle(at);
    }

    pub fn reconsider(&mut self, at: usize) {
        assert!(self.nodes[at].reconsider(self.now, CHANNEL));
        self.settle(at);
    }

    pub fn relay(&mut self, at: usize, artifact: &Artifact) {
        self.nodes[at].relay(CHANNEL, artifact).expect("a holder and room");
        self.settle(at);
    }

    /// Takes all events of a node.
    pub fn events(&mut self, at: usize) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(event) = self.nodes[at].poll_event(CHANNEL) {
            events.push(event);
            self.settle(at);
        }
        events
    }

    /// Takes all events of a node, which must only be deliveries; their ids.
    pub fn delivered(&mut self, at: usize) -> Vec<ArtifactId> {
        let events = self.events(at);
        let ids = super::delivered(&events);
        assert_eq!(ids.len(), events.len(), "only deliveries: {events:?}");
        ids
    }

    /// Takes all events of a node; whether this artifact was delivered by them.
    pub fn delivered_at_last(&mut self, at: usize, artifact: &Artifact) -> bool {
        super::delivered(&self.events(at)).contains(&artifact.id())
    }

    // Sending.

    /// Bytes from one node to the other are sent, but not delivered.
    pub fn hold(&mut self, from: usize, to: usize) {
        self.held.insert((from, to));
    }

    pub fn release(&mut self, from: usize, to: usize) {
        self.held.remove(&(from, to));
    }

    /// The connection has no room for bytes from one node to the other.
    pub fn choke(&mut self, from: usize, to: usize) {
        self.choked.insert((from, to));
    }

    pub fn unchoke(&mut self, from: usize, to: usize) {
        self.choked.remove(&(from, to));
    }

    /// Lets one node send to the other, once.
    pub fn send(&mut self, from: usize, to: usize, room: usize) -> Option<(StreamId, Send)> {
        let mut out = SendBuffer::new();
        let send = self.nodes[from].poll_send(self.now, peer(to), room, &mut out);
        self.settle(from);
        let Some(send) = send else {
            assert!(out.is_empty(), "nothing to send, and nothing in the buffer");
            return None;
        };
        let bytes = bytes_of(&mut out);
        let is_continued = |(_, stream): &(&StreamId, &Stream)| {
            (stream.from, stream.to) == (from, to) && !stream.finished && stream.out == send.stream
        };
        let id = if send.open {
            let decoder = StreamDecoder::new(BODY_MAX);
            let (bytes, out) = (Vec::new(), send.stream);
            let (finished, reset, reading) = (false, false, Reading::Head);
            let stream = Stream {
                from,
                to,
                out,
                tap: Tap::default(),
                bytes,
                finished,
                reset,
                decoder,
                reading,
            };
            self.streams.insert(self.next_stream, stream);
            self.next_stream += 1;
            self.next_stream - 1
        } else {
            *self.streams.iter().find(is_continued).expect("an open stream").0
        };
        let stream = self.streams.get_mut(&id).expect("opened");
        assert!(!stream.finished && !stream.reset, "nothing follows the end of a stream");
        let frames = stream.tap.read(&bytes);
        self.sent.extend(frames.into_iter().map(|frame| (from, to, id, frame)));
        stream.bytes.extend_from_slice(&bytes);
        stream.finished = send.finish;
        Some((id, send))
    }

    fn send_all(&mut self) -> bool {
        let mut any = false;
        for from in 0..self.nodes.len() {
            for to in 0..self.nodes.len() {
                if from == to || !self.is_connected(from, to) || self.choked.contains(&(from, to)) {
                    continue;
                }
                while self.send(from, to, self.room).is_some() {
                    any = true;
                }
                assert!(!self.nodes[from].has_backlog(peer(to)), "all is sent");
            }
        }
        any
    }

    // Delivering.

    /// The streams from one node to the other that have not arrived, in the order of their opening.
    pub fn streams(&self, from: usize, to: usize) -> Vec<StreamId> {
        let is_meant = |stream: &Stream| (stream.from, stream.to) == (from, to);
        self.streams.iter().filter(|(_, stream)| is_meant(stream)).map(|(id, _)| *id).collect()
    }

    /// Delivers up to `length` bytes of a stream, and its end if that is reached.
    pub fn deliver(&mut self, id: StreamId, length: usize) {
        let mut stream = self.streams.remove(&id).expect("a stream under way");
        let (from, to) = (stream.from, stream.to);
        let rest = stream.bytes.split_off(length.min(stream.bytes.len()));
        let piece = std::mem::replace(&mut stream.bytes, rest);
        let wanted = !stream.reset && self.read(&mut stream, &piece);
        let is_over = stream.reset || stream.has_arrived();
        if wanted && !is_over {
            self.streams.insert(id, stream);
        } else if wanted || stream.reset {
            if let Reading::Chunks(request) = stream.reading {
                self.nodes[to].handle_answer_end(self.now, peer(from), request);
                self.drain(to);
            }
            if let Some(out) = stream.out
                && !stream.reset
            {
                assert_eq!(stream.decoder.finish(), Ok(()));
                self.unacked.push((from, to, out));
            }
        } else if let Some(out) = stream.out {
            self.stopped(from, to, out);
        }
        self.apply_outputs();
        if !self.hold_acks {
            self.ack();
        }
    }

    /// Acknowledges what has arrived.
    pub fn ack(&mut self) {
        for (from, to, out) in std::mem::take(&mut self.unacked) {
            self.nodes[from].handle_acked(peer(to), out);
            self.settle(from);
        }
    }

    fn stopped(&mut self, from: usize, to: usize, out: OutStream) {
        self.nodes[from].handle_stopped(peer(to), out);
        self.drain(from);
    }

    /// Hands bytes to the receiver's machine. False: the stream is to be stopped.
    fn read(&mut self, stream: &mut Stream, mut bytes: &[u8]) -> bool {
        let Stream { from, to, decoder, reading, .. } = stream;
        let (from, to) = (*from, *to);
        while let Some(item) = decoder.next(&mut bytes).expect("well-formed") {
            let machine = &mut self.nodes[to];
            let wanted = match (item, *reading) {
                (Item::Head(StreamHead::Updates(channel)), _) => {
                    *reading = Reading::Updates(channel);
                    Ok(true)
                }
                (Item::Head(StreamHead::Requests), _) => {
                    *reading = Reading::Requests;
                    Ok(true)
                }
                (Item::Head(StreamHead::Chunks(request)), _) => {
                    *reading = Reading::Chunks(RequestId(request));
                    Ok(machine.is_awaited(peer(from), RequestId(request)))
                }
                (Item::Head(head), _) => panic!("machines open no {head:?}"),
                (Item::Frame { .. }, Reading::Head) => panic!("the head comes first"),
                (Item::Frame { kind, body }, Reading::Updates(channel)) => {
                    let update = Update::decode(kind, body).expect("well-formed").expect("known");
                    let taken = machine.handle_update(self.now, peer(from), channel, &update);
                    if let Ok(Taken::Chunks(request)) = taken {
                        *reading = Reading::Chunks(request);
                    }
                    taken.map(|taken| taken != Taken::Unwanted)
                }
                (Item::Frame { kind, body }, Reading::Requests) => {
                    let request = Request::decode(kind, body).expect("well-formed").expect("known");
                    machine.handle_request(self.now, peer(from), &request).map(|()| true)
                }
                (Item::Frame { kind, body }, Reading::Chunks(request)) => {
                    let chunk = Chunk::decode(kind, body).expect("well-formed").expect("known");
                    let taken = machine.handle_chunk(self.now, peer(from), request, &chunk);
                    let is_last = bytes.is_empty() && stream.bytes.is_empty() && stream.finished;
                    taken.map(|taken| taken == ChunkTaken::More || is_last)
                }
            };
            self.drain(to);
            if !wanted.unwrap_or_else(|fault: Fault| panic!("{from} is honest: {fault}")) {
                return false;
            }
        }
        true
    }

    fn step(&mut self) -> bool {
        let is_ready = |(_, stream): &(&StreamId, &Stream)| {
            let is_held = self.held.contains(&(stream.from, stream.to));
            !is_held && (!stream.bytes.is_empty() || stream.finished || stream.reset)
        };
        let mut ready = self.streams.iter().filter(is_ready).map(|(id, _)| *id);
        let next = match &mut self.order {
            Order::Opened => ready.next(),
            Order::Reversed => ready.next_back(),
            Order::Shuffled(state) => {
                *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let ready: Vec<StreamId> = ready.collect();
                let at = (*state >> 33) as usize % ready.len().max(1);
                ready.get(at).copied()
            }
        };
        next.inspect(|id| self.deliver(*id, self.cut)).is_some()
    }

    /// Sends and delivers until all is quiet, without letting time pass.
    pub fn run(&mut self) {
        while self.send_all() | self.step() {}
        assert!(self.outputs.is_empty());
    }

    /// Runs until a first chunk from one node to the other was delivered.
    pub fn run_until_chunk(&mut self, from: usize, to: usize) {
        self.hold(from, to);
        loop {
            let next = self.streams(from, to).first().copied();
            next.inspect(|id| self.deliver(*id, usize::MAX));
            if !self.chunks(from, to).is_empty() {
                break;
            }
            self.choke(from, to);
            self.run();
            self.unchoke(from, to);
            self.send(from, to, 1000).expect("an update or a chunk");
        }
        let answer = *self.streams(from, to).first().expect("a chunk");
        self.deliver(answer, usize::MAX);
        self.release(from, to);
    }

    /// Lets time jump to the next deadline, then runs. False if no machine waits for one.
    pub fn wake(&mut self) -> bool {
        let Some(next) = self.wake_at.iter().min().filter(|next| **next != Time::NEVER) else {
            return false;
        };
        self.now = self.now.max(*next);
        self.elapse(Duration::ZERO);
        true
    }

    /// Lets time pass, then runs.
    pub fn elapse(&mut self, span: Duration) {
        self.now = self.now + span;
        (0..self.nodes.len()).for_each(|at| self.settle(at));
        self.run();
    }

    /// The time at which a node wants to be woken.
    pub fn wake_at(&self, at: usize) -> Time {
        self.wake_at[at]
    }

    // Draining.

    /// Drains a machine and does what it wants.
    pub fn settle(&mut self, at: usize) {
        self.drain(at);
        self.apply_outputs();
    }

    fn drain(&mut self, at: usize) {
        loop {
            match self.nodes[at].poll(self.now) {
                Output::Idle { wake_at, .. } => {
                    self.wake_at[at] = wake_at;
                    assert!(wake_at > self.now, "what is due is done");
                    break;
                }
                output => self.outputs.push((at, output)),
            }
        }
        self.nodes[at].assert_invariants();
    }

    fn apply_outputs(&mut self) {
        while !self.outputs.is_empty() {
            match self.outputs.remove(0) {
                (at, Output::Reset { peer, stream: out }) => {
                    let to = peer.0 as usize;
                    self.resets.push((at, to));
                    for stream in self.streams.values_mut() {
                        if (stream.from, stream.to, stream.out) == (at, to, Some(out)) {
                            stream.reset = true;
                            stream.bytes.clear();
                        }
                    }
                    self.unacked.retain(|unacked| *unacked != (at, to, out));
                }
                (at, Output::Stop { peer, request }) => {
                    let from = peer.0 as usize;
                    let is_meant = |stream: &Stream| {
                        (stream.from, stream.to) == (from, at)
                            && matches!(stream.reading, Reading::Chunks(of) if of == request)
                    };
                    let id = self.streams.iter().find(|(_, stream)| is_meant(stream));
                    if let Some(id) = id.map(|(id, _)| *id) {
                        let stream = self.streams.remove(&id).expect("found");
                        let out = stream.out.expect("answers have names");
                        if !stream.reset {
                            self.stopped(from, at, out);
                        }
                    }
                }
                (_, Output::Idle { .. }) => unreachable!("the end of a drain"),
            }
        }
    }

    // Looking.

    /// The frames sent from one node to the other since the last call of [`Net::forget_sent`].
    pub fn frames(&self, from: usize, to: usize) -> Vec<Frame> {
        let is_meant = |of: usize, at: usize| (of, at) == (from, to);
        let sent = self.sent.iter().filter(|(of, at, ..)| is_meant(*of, *at));
        sent.map(|(.., frame)| frame.clone()).collect()
    }

    /// Chunks sent from one node to the other, in their order.
    pub fn chunks(&self, from: usize, to: usize) -> Vec<u32> {
        self.frames(from, to).iter().filter_map(Frame::chunk).collect()
    }

    pub fn forget_sent(&mut self) {
        self.sent.clear();
        self.resets.clear();
    }

    /// What a node has heard that another one holds.
    pub fn heard(&self, at: usize, of: usize) -> Vec<(u32, ArtifactId)> {
        let slots = self.nodes[at].peer_slots(peer(of), CHANNEL);
        slots.map(|(slot, id)| (slot.0, id)).collect()
    }
}
