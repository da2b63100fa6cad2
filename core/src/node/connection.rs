//! One QUIC connection: its streams in both directions, between quinn-proto and the machines.
//! Broadcast uses the unidirectional streams, calls use the bidirectional ones.
//!
//! Until the peer's hello has been read, nothing else is read and only our own hello is sent. The
//! reason is that QUIC reports a client as connected before the server has verified its key.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;
use std::vec::Vec;

use bytes::Bytes;
use foldhash::quality::FixedState;
use hashbrown::HashMap;
use quinn_proto::{Dir, ReadError, ReadableError, StreamId, Streams, VarInt};

use super::congestion::Meter;
use crate::artifact::CHUNK_BYTES;
use crate::broadcast::{Broadcast, ChunkTaken, OutStream, RequestId, Send, SendBuffer, Taken};
use crate::config::{ChannelConfig, Class, Config};
use crate::error::Fault;
use crate::id::{ChannelId, NodeId, PeerIndex};
use crate::rpc::{CallStream, Piece, Rpc};
use crate::time::Time;
use crate::wire::{
    Chunk, HELLO_BYTES_MAX, Hello, Item, Malformed, Request, StreamDecoder, StreamHead, Update,
};

/// The number of finished decoders whose buffers are kept for later streams.
const SPARE_DECODERS_MAX: usize = 4;

/// Error codes of streams. Peers do not interpret them.
pub(super) const UNNEEDED: VarInt = VarInt::from_u32(1);
const BREACH: VarInt = VarInt::from_u32(2);

/// Stream ids are consecutive numbers, so a peer cannot choose ids that collide in the hash table.
type StreamMap<V> = HashMap<StreamId, V, FixedState>;

/// How many bytes of encoded data QUIC may hold unsent, in bytes: enough to fill the next datagrams
/// without a pause.
const SLACK: u64 = 16 * 1024;

/// Priorities that a class has. Within a class, QUIC sends in the order in which it was given the
/// bytes. If it took turns instead, all streams would complete late, and more of them would become
/// obsolete before they do. After 2^29 writes the counter saturates, and streams of a class share
/// the connection equally.
const TURNS: i32 = 1 << 29;

/// What a stream from the peer turned out to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Role {
    /// The head has not been read.
    Unknown,
    Hello,
    Updates(ChannelId),
    Requests,
    /// Chunks for a request, asked for or behind a streamed advert.
    Chunks(RequestId),
    /// The last chunk has been read. Only the end of the stream may follow.
    Answered,
}

#[derive(Debug)]
struct InStream {
    role: Role,
    decoder: StreamDecoder,
}

/// The result of reading from a stream.
enum Read {
    /// The stream continues.
    More,
    /// The stream has ended, or the rest of it is not needed.
    Over,
    /// The rest is not wanted.
    Stop,
}

/// A hello that is being read.
#[derive(Debug, Default)]
struct Greeting {
    hello: Hello,
    bytes: usize,
}

/// Encoded bytes that QUIC did not accept because the peer's flow control credit is used up.
#[derive(Debug)]
struct Unwritten {
    stream: StreamId,
    pieces: Vec<Bytes>,
    finish: bool,
}

pub(super) struct Connection {
    pub(super) quic: quinn_proto::Connection,
    /// Whether this node dialled.
    pub(super) is_client: bool,
    /// Its first datagram carried a valid token, which proves the peer's address.
    pub(super) is_proven: bool,
    /// The member. The dialling side knows it from the start, the accepting side after the
    /// handshake.
    pub(super) node: Option<NodeId>,
    /// The key that the peer has proven in the handshake; `None` before.
    pub(super) key: Option<NodeId>,
    /// The member, if this is the connection that is in use to it.
    pub(super) up: Option<PeerIndex>,
    pub(super) was_up: bool,
    /// This side has closed it. quinn-proto reports nothing more about it.
    pub(super) closing: bool,
    /// Its sequence number among the closed connections.
    pub(super) closed: Option<u64>,
    /// This node has said hello.
    pub(super) has_greeted: bool,
    /// The incarnation number from the peer's hello, which differs after a restart.
    pub(super) incarnation: Option<u64>,
    /// If no hello has been read by then, the connection is closed.
    pub(super) hello_deadline: Time,
    /// The connection may have events to read or datagrams to send, and is in the node's list
    /// `ready`.
    pub(super) is_ready: bool,
    /// When quinn-proto wants to be woken.
    pub(super) timeout: Option<Instant>,
    meter: Arc<Meter>,
    greeting: Option<Greeting>,
    /// Streams opened by the peer before it was up. At most `streams_max`.
    early: Vec<StreamId>,
    in_streams: StreamMap<InStream>,
    spare_decoders: Vec<StreamDecoder>,
    /// The next stream to be written, opened ahead so that the machine is asked only if there is
    /// one.
    next_stream: Option<StreamId>,
    /// The same for the next call.
    next_call: Option<StreamId>,
    /// Streams of the peer's calls that have been accepted.
    calls_accepted: u64,
    out_streams: StreamMap<OutStream>,
    by_index: Vec<Option<StreamId>>,
    /// The number of writes to QUIC so far, from which priorities within a class derive.
    turn: i32,
    unwritten: Option<Unwritten>,
    pieces: Vec<Bytes>,
}

/// What may be sent now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// The number of bytes that all machines together may write.
    pub(super) bytes: usize,
    /// There is a stream for the broadcast machine.
    pub(super) has_stream: bool,
    /// There is a stream for a call.
    pub(super) has_call_stream: bool,
}

fn stream_id(stream: CallStream) -> StreamId {
    VarInt::from_u64(stream.0).expect("it was one").into()
}

/// An event of the connection, for the node.
#[derive(Debug)]
pub(super) enum Notice {
    /// The peer's hello is complete.
    Hello(Hello),
    /// The peer broke a rule.
    Fault(Fault),
}

impl Connection {
    pub(super) fn new(
        quic: quinn_proto::Connection,
        node: Option<NodeId>,
        meter: Arc<Meter>,
        hello_deadline: Time,
    ) -> Self {
        Self {
            quic,
            is_client: node.is_some(),
            is_proven: false,
            node,
            key: None,
            up: None,
            was_up: false,
            closing: false,
            closed: None,
            has_greeted: false,
            incarnation: None,
            hello_deadline,
            is_ready: true,
            timeout: None,
            meter,
            greeting: Some(Greeting::default()),
            early: Vec::new(),
            in_streams: StreamMap::default(),
            spare_decoders: Vec::new(),
            next_stream: None,
            next_call: None,
            calls_accepted: 0,
            out_streams: StreamMap::default(),
            by_index: Vec::new(),
            turn: 0,
            unwritten: None,
            pieces: Vec::new(),
        }
    }

    /// The peer's current address.
    pub(super) fn address(&self) -> IpAddr {
        self.quic.remote_address().ip().to_canonical()
    }

    /// Whether neither side has closed it.
    pub(super) fn is_open(&self) -> bool {
        !self.closing && !self.quic.is_closed()
    }

    /// Closes the connection and notifies the peer.
    pub(super) fn close(&mut self, now: Instant, code: VarInt) {
        self.meter.close();
        self.quic.close(now, code, Bytes::new());
    }

    /// Sends our hello: the first stream. False if the peer allows no stream.
    pub(super) fn send_hello(&mut self, hello: &[u8]) -> bool {
        let Some(stream) = self.quic.streams().open(Dir::Uni) else { return false };
        self.has_greeted = true;
        let hello = Bytes::copy_from_slice(hello);
        self.unwritten = Some(Unwritten { stream, pieces: [hello].into(), finish: true });
        self.write_rest();
        true
    }

    // Receiving.

    /// Reads what the peer's new streams hold.
    pub(super) fn accept(
        &mut self,
        now: Time,
        machine: &mut Broadcast,
        channels: &[ChannelConfig],
        notices: &mut Vec<Notice>,
    ) {
        while let Some(stream) = self.quic.streams().accept(Dir::Uni) {
            if self.up.is_none() && stream.index() > 0 {
                self.early.push(stream);
            } else {
                self.read(now, stream, machine, channels, notices);
            }
        }
    }

    /// The peer is up: reads the streams that it opened before.
    pub(super) fn read_early(
        &mut self,
        now: Time,
        machine: &mut Broadcast,
        channels: &[ChannelConfig],
        notices: &mut Vec<Notice>,
    ) {
        for stream in std::mem::take(&mut self.early) {
            self.read(now, stream, machine, channels, notices);
        }
    }

    /// Reads what a stream holds.
    pub(super) fn read(
        &mut self,
        now: Time,
        stream: StreamId,
        machine: &mut Broadcast,
        channels: &[ChannelConfig],
        notices: &mut Vec<Notice>,
    ) {
        if self.early.contains(&stream) {
            return;
        }
        let mut state = match self.in_streams.remove(&stream) {
            Some(state) => state,
            None => {
                let decoder = match self.spare_decoders.pop() {
                    Some(spare) => StreamDecoder::reusing(spare, Request::ENCODED_MAX),
                    None => StreamDecoder::new(Request::ENCODED_MAX),
                };
                InStream { role: Role::Unknown, decoder }
            }
        };
        let read = self.read_all(now, stream, &mut state, machine, channels, notices);
        let read = read.unwrap_or_else(|fault| {
            notices.push(Notice::Fault(fault));
            self.give_up(now, &state, machine);
            let _ = self.quic.recv_stream(stream).stop(BREACH);
            Read::Over
        });
        match read {
            Read::More => {
                self.in_streams.insert(stream, state);
                return;
            }
            Read::Over => {}
            Read::Stop => {
                let _ = self.quic.recv_stream(stream).stop(UNNEEDED);
            }
        }
        if self.spare_decoders.len() < SPARE_DECODERS_MAX {
            self.spare_decoders.push(state.decoder);
        }
    }

    fn give_up(&mut self, now: Time, state: &InStream, machine: &mut Broadcast) {
        if let (Role::Chunks(request), Some(peer)) = (state.role, self.up) {
            machine.handle_answer_end(now, peer, request);
        }
    }

    fn read_all(
        &mut self,
        now: Time,
        stream: StreamId,
        state: &mut InStream,
        machine: &mut Broadcast,
        channels: &[ChannelConfig],
        notices: &mut Vec<Notice>,
    ) -> Result<Read, Fault> {
        let mut recv = self.quic.recv_stream(stream);
        let mut chunks = match recv.read(true) {
            Ok(chunks) => chunks,
            // The stream was stopped before, or has been read to its end.
            Err(ReadableError::ClosedStream | ReadableError::IllegalOrderedRead) => {
                return Ok(Read::Over);
            }
        };
        let result = loop {
            match chunks.next(usize::MAX) {
                Ok(Some(chunk)) => {
                    let mut input = &chunk.bytes[..];
                    let read = take(
                        now,
                        state,
                        &mut input,
                        self.up,
                        &mut self.greeting,
                        machine,
                        channels,
                    );
                    match read {
                        Ok(Read::More) => {}
                        over => break over,
                    }
                }
                Ok(None) => break state.decoder.finish().map(|()| Read::Over).map_err(Fault::from),
                Err(ReadError::Blocked) => break Ok(Read::More),
                // A reset hello stream cannot be retried. `hello_timeout` closes the connection.
                Err(ReadError::Reset(_)) if state.role == Role::Hello => break Ok(Read::Stop),
                Err(ReadError::Reset(_)) => break Ok(Read::Over),
            }
        };
        // Whether flow control credit must be sent is decided at the next transmit, which follows
        // every read.
        let _ = chunks.finalize();
        if let (Role::Chunks(request), Some(peer)) = (state.role, self.up) {
            machine.handle_partial_chunk(peer, request, state.decoder.partial_bytes());
        }
        match &result {
            Ok(Read::Over) => match state.role {
                Role::Hello => match self.greeting.take() {
                    Some(greeting) => notices.push(Notice::Hello(greeting.hello)),
                    None => return Err(Fault::HelloMisplaced),
                },
                _ => self.give_up(now, state, machine),
            },
            Ok(Read::More | Read::Stop) | Err(_) => {}
        }
        result
    }

    /// Stops the stream with the answer to a request, if it has begun.
    pub(super) fn stop_answer(&mut self, request: RequestId) {
        let answer = self.in_streams.iter().find(|(_, state)| state.role == Role::Chunks(request));
        if let Some(stream) = answer.map(|(stream, _)| *stream) {
            self.in_streams.remove(&stream);
            let _ = self.quic.recv_stream(stream).stop(UNNEEDED);
        }
    }

    // Sending.

    /// What the machines may encode now. A stream for a call is only opened if one `is_calling`.
    pub(super) fn room(&mut self, config: &Config, is_calling: bool) -> Room {
        const NONE: Room = Room { bytes: 0, has_stream: false, has_call_stream: false };
        if self.unwritten.is_some() {
            return NONE;
        }
        // Counts streams that the peer has not acknowledged, including reset ones. Whatever limit
        // the peer grants, this node keeps state of no more streams than the peer may open itself.
        // Streams that are open go on, since otherwise none of them might ever come to its end.
        let streams_max = (config.transport.streams_max + config.call_streams_max()) as usize;
        let can_open = |streams: &mut Streams<'_>| streams.send_streams() < streams_max;
        let mut streams = self.quic.streams();
        if self.next_stream.is_none() && can_open(&mut streams) {
            self.next_stream = streams.open(Dir::Uni);
        }
        if self.next_call.is_none() && is_calling && can_open(&mut streams) {
            self.next_call = streams.open(Dir::Bi);
        }
        let window = self.meter.window().min(config.transport.send_window.into());
        Room {
            bytes: (window + SLACK).saturating_sub(self.meter.unacked()) as usize,
            has_stream: self.next_stream.is_some(),
            has_call_stream: self.next_call.is_some(),
        }
    }

    /// Writes what the machine has encoded.
    pub(super) fn send(&mut self, send: Send, out: &mut SendBuffer) {
        let stream = match send.stream {
            Some(known) if !send.open => self.by_index[known.index()].expect("opened before"),
            known => {
                let stream = self.next_stream.take().expect("room was asked for");
                if let Some(known) = known {
                    self.out_streams.insert(stream, known);
                    if self.by_index.len() <= known.index() {
                        self.by_index.resize(known.index() + 1, None);
                    }
                    self.by_index[known.index()] = Some(stream);
                }
                stream
            }
        };
        self.set_priority(stream, send.class);
        self.meter.note_written(out.len() as u64);
        let mut pieces = std::mem::take(&mut self.pieces);
        out.take_pieces(&mut pieces);
        self.unwritten = Some(Unwritten { stream, pieces, finish: send.finish });
        self.write_rest();
    }

    /// A stream that continues is queued behind the streams of its class that were written in the
    /// meantime.
    fn set_priority(&mut self, stream: StreamId, class: Class) {
        self.turn = (self.turn + 1).min(TURNS - 1);
        let priority = i32::MAX - class as i32 * TURNS - self.turn;
        let _ = self.quic.send_stream(stream).set_priority(priority);
    }

    /// Writes the pending bytes that QUIC has not accepted yet.
    pub(super) fn write_rest(&mut self) {
        let Some(unwritten) = &mut self.unwritten else { return };
        let mut stream = self.quic.send_stream(unwritten.stream);
        while !unwritten.pieces.is_empty() {
            match stream.write_chunks(&mut unwritten.pieces) {
                Ok(written) => drop(unwritten.pieces.drain(..written.chunks)),
                // The peer's credit is used up; `Writable` follows.
                Err(quinn_proto::WriteError::Blocked) => return,
                // The peer has stopped the stream. The event follows, and the stream is reset then.
                Err(_) => break,
            }
        }
        if unwritten.finish && unwritten.pieces.is_empty() {
            let _ = stream.finish();
        }
        let Some(mut unwritten) = self.unwritten.take() else { return };
        unwritten.pieces.clear();
        self.pieces = unwritten.pieces;
    }

    /// Resets a stream of the machine.
    pub(super) fn reset(&mut self, stream: OutStream) {
        let stream = self.by_index.get_mut(stream.index()).and_then(Option::take);
        if let Some(stream) = stream {
            self.out_streams.remove(&stream);
            self.reset_stream(stream);
        }
    }

    fn reset_stream(&mut self, stream: StreamId) {
        if self.unwritten.as_ref().is_some_and(|unwritten| unwritten.stream == stream) {
            self.unwritten = None;
        }
        let _ = self.quic.send_stream(stream).reset(UNNEEDED);
    }

    /// The peer has stopped a stream. Returns the machine's stream, if it was one.
    pub(super) fn stopped(&mut self, stream: StreamId) -> Option<OutStream> {
        self.reset_stream(stream);
        self.ended(stream)
    }

    /// A stream was acknowledged completely. Returns the machine's stream, if it was one.
    pub(super) fn ended(&mut self, stream: StreamId) -> Option<OutStream> {
        let known = self.out_streams.remove(&stream)?;
        if self.by_index[known.index()] == Some(stream) {
            self.by_index[known.index()] = None;
        }
        Some(known)
    }

    // Calls.

    /// Reads what new calls of the peer hold, once it is up.
    pub(super) fn accept_calls(&mut self, now: Time, rpc: &mut Rpc, notices: &mut Vec<Notice>) {
        let Some(peer) = self.up else { return };
        while let Some(id) = self.quic.streams().accept(Dir::Bi) {
            self.calls_accepted = id.index() + 1;
            rpc.handle_opened(now, peer, CallStream(id.into()));
            self.read_call(now, id, rpc, notices);
            if self.quic.send_stream(id).stopped().is_ok_and(|reason| reason.is_some()) {
                self.call_stopped(id, rpc);
            }
        }
    }

    /// Reads as much of a call's stream as there is room for.
    pub(super) fn read_call(
        &mut self,
        now: Time,
        id: StreamId,
        rpc: &mut Rpc,
        notices: &mut Vec<Notice>,
    ) {
        let Some(peer) = self.up else { return };
        if let Err(fault) = self.read_wanted(now, peer, id, rpc) {
            notices.push(Notice::Fault(fault));
            self.close_stream(id, BREACH);
        }
    }

    fn read_wanted(
        &mut self,
        now: Time,
        peer: PeerIndex,
        id: StreamId,
        rpc: &mut Rpc,
    ) -> Result<(), Fault> {
        let stream = CallStream(id.into());
        let mut recv = self.quic.recv_stream(id);
        let mut wants = rpc.wants(peer, stream);
        if wants == 0 {
            if let Ok(Some(_)) = recv.received_reset() {
                rpc.handle_reset(now, peer, stream);
            }
            return Ok(());
        }
        let Ok(mut chunks) = recv.read(true) else { return Ok(()) };
        let mut result = Ok(());
        while wants > 0 && result.is_ok() {
            match chunks.next(wants) {
                Ok(Some(chunk)) => result = rpc.handle_data(now, peer, stream, &chunk.bytes),
                Ok(None) => {
                    result = rpc.handle_end(peer, stream);
                    break;
                }
                Err(ReadError::Blocked) => break,
                Err(ReadError::Reset(_)) => {
                    rpc.handle_reset(now, peer, stream);
                    break;
                }
            }
            wants = rpc.wants(peer, stream);
        }
        let _ = chunks.finalize();
        result
    }

    /// Reads more of a call's stream, for which there is room now.
    pub(super) fn read_more(
        &mut self,
        now: Time,
        stream: CallStream,
        rpc: &mut Rpc,
        notices: &mut Vec<Notice>,
    ) {
        self.read_call(now, stream_id(stream), rpc, notices);
    }

    /// Writes a piece of a call. Returns its stream and the number of bytes that QUIC accepted.
    pub(super) fn send_piece(&mut self, piece: Piece, out: &mut SendBuffer) -> (CallStream, usize) {
        let id = match piece.stream {
            Some(stream) => stream_id(stream),
            None => self.next_call.take().expect("room was asked for"),
        };
        self.set_priority(id, piece.class);
        let mut pieces = std::mem::take(&mut self.pieces);
        out.take_pieces(&mut pieces);
        let mut stream = self.quic.send_stream(id);
        let mut rest = &mut pieces[..];
        let mut bytes = 0;
        while !rest.is_empty() {
            // Blocked: `Writable` follows. Stopped by the peer: the event follows.
            let Ok(written) = stream.write_chunks(rest) else { break };
            bytes += written.bytes;
            rest = &mut rest[written.chunks..];
        }
        if rest.is_empty() && piece.finish {
            let _ = stream.finish();
        }
        self.meter.note_written(bytes as u64);
        pieces.clear();
        self.pieces = pieces;
        (CallStream(id.into()), bytes)
    }

    /// Nothing more is sent or read in a call's stream.
    pub(super) fn close_call(&mut self, stream: CallStream) {
        self.close_stream(stream_id(stream), UNNEEDED);
    }

    fn close_stream(&mut self, id: StreamId, code: VarInt) {
        let _ = self.quic.send_stream(id).reset(code);
        let _ = self.quic.recv_stream(id).stop(code);
    }

    /// Nothing more is read in a call's stream.
    pub(super) fn stop_call(&mut self, stream: CallStream) {
        let _ = self.quic.recv_stream(stream_id(stream)).stop(UNNEEDED);
    }

    /// The peer does not want the rest of what is sent in a call's stream. For a stream that has
    /// not been accepted yet, this is noticed when it is accepted, since quinn-proto does not count
    /// it before.
    pub(super) fn call_stopped(&mut self, id: StreamId, rpc: &mut Rpc) {
        let Some(peer) = self.up else { return };
        if id.initiator() != self.quic.side() && id.index() >= self.calls_accepted {
            return;
        }
        let _ = self.quic.send_stream(id).reset(UNNEEDED);
        rpc.handle_stopped(peer, CallStream(id.into()));
    }

    /// Drops the state of all streams, because the connection is no longer in use to its peer.
    pub(super) fn retire(&mut self) {
        self.up = None;
        self.in_streams.clear();
        self.early.clear();
        self.out_streams.clear();
        self.by_index.clear();
        self.unwritten = None;
    }
}

/// Takes what has arrived of a stream.
fn take(
    now: Time,
    state: &mut InStream,
    input: &mut &[u8],
    up: Option<PeerIndex>,
    greeting: &mut Option<Greeting>,
    machine: &mut Broadcast,
    channels: &[ChannelConfig],
) -> Result<Read, Fault> {
    if let (Role::Hello | Role::Unknown, Some(greeting)) = (state.role, greeting.as_mut()) {
        greeting.bytes += input.len();
        if greeting.bytes > HELLO_BYTES_MAX {
            return Err(Malformed::FrameTooLong.into());
        }
    }
    let InStream { role, decoder } = state;
    loop {
        let Some(item) = decoder.next(input)? else { return Ok(Read::More) };
        match (item, *role) {
            (Item::Head(head), _) => {
                let (found, body_max) = match head {
                    StreamHead::Hello if greeting.is_some() => (Role::Hello, 1024),
                    StreamHead::Hello => return Err(Fault::HelloMisplaced),
                    _ if greeting.is_some() => return Err(Fault::HelloMisplaced),
                    StreamHead::Requests => (Role::Requests, Request::ENCODED_MAX),
                    StreamHead::Updates(channel) => {
                        let config = channels.iter().find(|config| config.id == channel);
                        let Some(config) = config else { return Ok(Read::Stop) };
                        (Role::Updates(channel), config.update_bytes_max())
                    }
                    StreamHead::Chunks(request) => {
                        let request = RequestId(request);
                        if !up.is_some_and(|peer| machine.is_awaited(peer, request)) {
                            return Ok(Read::Stop);
                        }
                        (Role::Chunks(request), CHUNK_BYTES + Chunk::OVERHEAD_MAX)
                    }
                    StreamHead::Unknown(_) => return Ok(Read::Stop),
                };
                *role = found;
                decoder.set_body_max(body_max);
            }
            (Item::Frame { kind, body }, Role::Hello) => {
                let greeting = greeting.as_mut().ok_or(Fault::HelloMisplaced)?;
                greeting.hello.decode_field(kind, body)?;
            }
            (Item::Frame { kind, body }, role_now) => {
                let Some(peer) = up else { return Ok(Read::Stop) };
                match role_now {
                    Role::Updates(channel) => {
                        let Some(update) = Update::decode(kind, body)? else { continue };
                        match machine.handle_update(now, peer, channel, &update)? {
                            Taken::Done => {}
                            Taken::Unwanted => return Ok(Read::Stop),
                            Taken::Chunks(request) => {
                                *role = Role::Chunks(request);
                                decoder.set_body_max(CHUNK_BYTES + Chunk::OVERHEAD_MAX);
                            }
                        }
                    }
                    Role::Requests => {
                        if let Some(request) = Request::decode(kind, body)? {
                            machine.handle_request(now, peer, &request)?;
                        }
                    }
                    Role::Chunks(request) => {
                        let Some(chunk) = Chunk::decode(kind, body)? else { continue };
                        match machine.handle_chunk(now, peer, request, &chunk)? {
                            ChunkTaken::More => {}
                            ChunkTaken::Done => *role = Role::Answered,
                        }
                    }
                    Role::Answered => return Ok(Read::Stop),
                    Role::Unknown | Role::Hello => unreachable!("the head comes first"),
                }
            }
        }
    }
}
