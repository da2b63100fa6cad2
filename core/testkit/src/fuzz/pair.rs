//! Two real machines that publish to each other through streams in memory: reordered, cut, lost
//! with their connection, reset by their sender. When all has arrived, each knows the other's slots.

use core::time::Duration;
use std::collections::BTreeSet;

use super::pool::{self, ARTS, Art};
use slotcast::broadcast::{
    Broadcast, ChunkTaken, Event, OutStream, Output, RequestId, SendBuffer, Taken,
};
use slotcast::config::{ChannelConfig, Config, Order};
use slotcast::id::{ChannelId, NodeId, PeerIndex, Slot};
use slotcast::time::Time;
use slotcast::wire::{Chunk, Item, Request, StreamDecoder, StreamHead, Update};

const CHANNEL: ChannelId = ChannelId(1);
const PEER: PeerIndex = PeerIndex(0);
const SLOTS: u32 = 6;

const fn node(at: usize) -> NodeId {
    NodeId([at as u8; 32])
}

/// One direction of one stream.
struct Stream {
    id: Option<OutStream>,
    /// Encoded, and not yet read.
    bytes: Vec<u8>,
    finished: bool,
    decoder: StreamDecoder,
    head: Option<StreamHead>,
    /// Chunks come under this request.
    request: Option<RequestId>,
}

struct Side {
    machine: Broadcast,
    /// Streams to the other side.
    streams: Vec<Stream>,
    /// What the application was told is there: invariants 5 to 7.
    delivered: BTreeSet<Art>,
    /// Published and not aborted.
    published: BTreeSet<Art>,
    ever_published: BTreeSet<Art>,
}

struct Pair {
    sides: [Side; 2],
    up: bool,
    now: Time,
}

impl Pair {
    fn new(latency_sensitive: bool, order: Order) -> Self {
        let mut channel = ChannelConfig::new(CHANNEL);
        channel.slots_max = SLOTS;
        channel.push_bytes_max = 8;
        (channel.latency_sensitive, channel.order) = (latency_sensitive, order);
        let mut config = Config::new([channel]);
        config.batch_bytes_max = 1024;
        config.fetches_per_peer_max = 2;
        let side = |at: usize| {
            let mut machine = Broadcast::new(&config, node(at), at as u64).expect("holds together");
            machine.add_peer(PEER, node(1 - at));
            Side {
                machine,
                streams: Vec::new(),
                delivered: BTreeSet::new(),
                published: BTreeSet::new(),
                ever_published: BTreeSet::new(),
            }
        };
        Self { sides: [side(0), side(1)], up: false, now: Time::ZERO }
    }

    /// Drains both machines' outputs.
    fn rest(&mut self) {
        for at in 0..2 {
            loop {
                match self.sides[at].machine.poll(self.now) {
                    Output::Idle { .. } => break,
                    Output::Reset { stream, .. } => {
                        let streams = &mut self.sides[at].streams;
                        let place = streams.iter().position(|other| other.id == Some(stream));
                        let stream = streams.swap_remove(place.expect("it has not ended"));
                        self.ended(1 - at, &stream);
                    }
                    Output::Stop { request, .. } => {
                        let streams = &mut self.sides[1 - at].streams;
                        let answers = |stream: &Stream| stream.request == Some(request);
                        if let Some(place) = streams.iter().position(answers) {
                            let stream = streams.swap_remove(place);
                            let id = stream.id.expect("chunks are followed");
                            self.sides[1 - at].machine.handle_stopped(PEER, id);
                        }
                    }
                }
            }
            self.sides[at].machine.assert_invariants();
        }
    }

    /// A stream to `at` has ended.
    fn ended(&mut self, at: usize, stream: &Stream) {
        if let Some(request) = stream.request {
            self.sides[at].machine.handle_answer_end(self.now, PEER, request);
        }
    }

    fn connect(&mut self) {
        self.up = true;
        for side in &mut self.sides {
            side.streams.clear();
            side.machine.peer_up(self.now, PEER, |_| true);
        }
        self.rest();
    }

    fn disconnect(&mut self) {
        self.up = false;
        for side in &mut self.sides {
            side.streams.clear();
            side.machine.peer_down(self.now, PEER);
        }
        self.rest();
    }

    /// The other side is removed from `at`'s members, and added again.
    fn replace(&mut self, at: usize) {
        self.disconnect();
        let machine = &mut self.sides[at].machine;
        machine.remove_peer(self.now, PEER);
        machine.add_peer(PEER, node(1 - at));
        self.rest();
    }

    /// A side encodes; false if there was nothing.
    fn send(&mut self, at: usize, room: usize) -> bool {
        let mut out = SendBuffer::new();
        let Some(send) = self.sides[at].machine.poll_send(self.now, PEER, room, &mut out) else {
            return false;
        };
        let streams = &mut self.sides[at].streams;
        if send.open {
            streams.push(Stream {
                id: send.stream,
                bytes: Vec::new(),
                finished: false,
                decoder: StreamDecoder::new(1 << 17),
                head: None,
                request: None,
            });
        }
        let stream = match send.open {
            true => streams.last_mut(),
            false => streams.iter_mut().find(|stream| stream.id == send.stream),
        };
        let stream = stream.expect("it has not ended");
        out.for_each_piece(|piece| stream.bytes.extend_from_slice(piece));
        stream.finished = send.finish;
        self.rest();
        true
    }

    /// The other side reads up to `limit` bytes of one of a side's streams; false if there is none.
    fn arrive(&mut self, at: usize, nth: usize, limit: usize) -> bool {
        let streams = &mut self.sides[at].streams;
        if streams.is_empty() {
            return false;
        }
        let mut stream = streams.swap_remove(nth % streams.len());
        let limit = limit.min(stream.bytes.len());
        let bytes: Vec<u8> = stream.bytes.drain(..limit).collect();
        let mut decoder = core::mem::replace(&mut stream.decoder, StreamDecoder::new(0));
        let mut input = &bytes[..];
        let mut wanted = true;
        while wanted && let Some(item) = decoder.next(&mut input).expect("well-formed") {
            match item {
                Item::Head(head) => {
                    if let StreamHead::Chunks(request) = head {
                        stream.request = Some(RequestId(request));
                    }
                    stream.head = Some(head);
                }
                Item::Frame { kind, body } => {
                    wanted = self.take(1 - at, &mut stream, kind, body);
                }
            }
        }
        stream.decoder = decoder;
        let is_over = stream.finished && stream.bytes.is_empty();
        let side = &mut self.sides[at];
        match stream.id {
            Some(id) if !wanted && !is_over => side.machine.handle_stopped(PEER, id),
            Some(id) if is_over => side.machine.handle_acked(PEER, id),
            None if is_over => {}
            _ => {
                side.streams.push(stream);
                self.rest();
                return true;
            }
        }
        self.ended(1 - at, &stream);
        self.rest();
        true
    }

    /// A side takes a frame; false if the rest of the stream is not wanted.
    fn take(&mut self, at: usize, stream: &mut Stream, kind: u64, body: &[u8]) -> bool {
        let machine = &mut self.sides[at].machine;
        match stream.head.expect("comes first") {
            StreamHead::Requests => {
                let request = Request::decode(kind, body).expect("well-formed").expect("known");
                machine.handle_request(self.now, PEER, &request).expect("no fault");
                true
            }
            StreamHead::Updates(channel) if stream.request.is_none() => {
                let update = Update::decode(kind, body).expect("well-formed").expect("known");
                let taken = machine.handle_update(self.now, PEER, channel, &update);
                match taken.expect("no fault") {
                    Taken::Done => true,
                    Taken::Unwanted => false,
                    Taken::Chunks(request) => {
                        stream.request = Some(request);
                        true
                    }
                }
            }
            _ => {
                let chunk = Chunk::decode(kind, body).expect("well-formed").expect("known");
                let request = stream.request.expect("of chunks");
                let taken = machine.handle_chunk(self.now, PEER, request, &chunk);
                taken.expect("no fault") == ChunkTaken::More
            }
        }
    }

    fn take_event(&mut self, at: usize) -> bool {
        let (side, node) = (&mut self.sides[at], node(1 - at));
        let Some(event) = side.machine.poll_event(CHANNEL) else { return false };
        match event {
            Event::Delivered { artifact, from } => {
                let art = pool::art(&artifact.id());
                assert_eq!(artifact, *pool::artifact(art), "invariant 6");
                assert_eq!(from, node);
                assert!(side.machine.is_advertised(CHANNEL, &artifact.id()), "invariant 5");
                assert!(side.delivered.insert(art), "invariant 7");
            }
            Event::Expired { id } => {
                // It may be advertised again by now.
                assert!(side.delivered.remove(&pool::art(&id)));
            }
            event => panic!("not known here: {event:?}"),
        }
        self.rest();
        true
    }

    /// Everything arrives: each side knows the other's slots and has what it is to have.
    fn drain(&mut self) {
        if !self.up {
            self.connect();
        }
        for _ in 0..20 {
            self.now = self.now + Duration::from_secs(1);
            self.rest();
            for at in [0, 1] {
                while self.send(at, 1 << 16) {}
                while self.arrive(at, 0, usize::MAX) {}
                while self.take_event(at) {}
            }
        }
        for at in [0, 1] {
            let [own, other] = [&self.sides[1 - at], &self.sides[at]];
            let own_slots = (0..SLOTS).map(Slot);
            let own_slots: Vec<_> = own_slots
                .filter_map(|slot| Some((slot, own.machine.own_slot(CHANNEL, slot)?)))
                .collect();
            let heard: Vec<_> = other.machine.peer_slots(PEER, CHANNEL).collect();
            assert_eq!(heard, own_slots);
            let held: BTreeSet<Art> = own_slots.iter().map(|(_, id)| pool::art(id)).collect();
            assert_eq!(held, own.published);
            assert!(other.delivered.is_subset(&held), "what is gone has expired");
            // What a side has published itself is not delivered to it.
            let missed = held.difference(&other.delivered);
            for art in missed {
                assert!(other.ever_published.contains(art), "{art} was not delivered");
            }
        }
    }

    fn publish(&mut self, at: usize, art: Art) {
        let side = &mut self.sides[at];
        if side.machine.publish(CHANNEL, pool::artifact(art).clone()).is_ok() {
            side.published.insert(art);
            side.ever_published.insert(art);
        }
        self.rest();
    }

    fn abort(&mut self, at: usize, art: Art) {
        let side = &mut self.sides[at];
        let aborted = side.machine.abort(CHANNEL, &pool::artifact(art).id());
        assert_eq!(aborted, side.published.remove(&art));
        self.rest();
    }
}

/// Bytes drive two machines: three to each operation.
pub(super) fn pair(data: &[u8]) {
    let mut pair =
        Pair::new(data.len() & 1 == 1, [Order::Age, Order::HighestKeyFirst][data.len() >> 1 & 1]);
    pair.connect();
    for op in data.chunks_exact(3) {
        let [at, first, second] = [op[0] >> 7, op[1], op[2]].map(usize::from);
        match op[0] & 31 {
            0..=5 => pair.publish(at, first % ARTS),
            6..=9 => pair.abort(at, first % ARTS),
            10..=14 => drop(pair.send(at, first * second)),
            15..=24 => drop(pair.arrive(at, first, 1 + second * second)),
            25..=27 => drop(pair.take_event(at)),
            28 => pair.now = pair.now + Duration::from_millis(20 * second as u64),
            29 if pair.up => pair.disconnect(),
            29 | 30 => pair.connect(),
            _ if first % 4 == 0 => pair.replace(at),
            _ => {}
        }
        pair.rest();
    }
    pair.drain();
}
