//! Reading: what arrives on the streams of a link goes to the machines, in the order in which it
//! arrives.

use std::vec::Vec;

use quinn_proto::{Dir, ReadError, ReadableError, StreamId};

use super::quota::Quotas;
use super::unread::{Lane, Reading, UnreadQueue};
use super::{BREACH, Link, StreamMap, UNNEEDED, Unread, stream_id};
use crate::broadcast::{Broadcast, ChunkTaken, RequestId, Taken};
use crate::config::ChannelConfig;
use crate::error::Fault;
use crate::id::{ChannelId, PeerIndex};
use crate::node::share::cost;
use crate::rpc::{CallStream, Rpc};
use crate::time::Time;
use crate::wire::{
    CallReset, Chunk, HELLO_BYTES_MAX, Hello, Item, Malformed, Request, StreamDecoder, StreamHead,
    Update, kind,
};

/// The number of finished decoders whose buffers are kept for later streams.
const SPARE_DECODERS_MAX: usize = 4;

/// Bytes that are read at a time, between which it is looked whether the peer has had its share: a few hundred
/// updates of the shortest kind.
const PIECE_BYTES_MAX: usize = 2 << 10;

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
    /// The peer knows a twin of this node.
    Twin,
}

#[derive(Debug)]
struct InStream {
    role: Role,
    lane: Lane,
    decoder: StreamDecoder,
    /// Frames taken since that was last looked at.
    frames: u32,
    /// The quota of its channel.
    quota: Option<u8>,
    /// It waits until more is due of that.
    is_held: bool,
}

/// The result of reading from a stream.
enum Read {
    /// The stream continues.
    More,
    /// The stream has ended, or the rest of it is not needed.
    Over,
    /// The rest is not wanted.
    Stop,
    /// The same of chunks that are not asked for (any more).
    Unawaited,
}

/// A hello that is being read.
#[derive(Debug, Default)]
struct Greeting {
    hello: Hello,
    bytes: usize,
}

pub(super) struct Ingress {
    /// The peer's hello, until it has been read.
    greeting: Option<Greeting>,
    /// Streams opened by the peer before it was up. At most `streams_max`.
    early: Vec<StreamId>,
    in_streams: StreamMap<InStream>,
    spare_decoders: Vec<StreamDecoder>,
    /// Streams of the peer's calls that have been accepted.
    calls_accepted: u64,
}

impl Default for Ingress {
    fn default() -> Self {
        Self {
            greeting: Some(Greeting::default()),
            early: Vec::new(),
            in_streams: StreamMap::default(),
            spare_decoders: Vec::new(),
            calls_accepted: 0,
        }
    }
}

impl Ingress {
    /// The number of the peer's streams that have not ended.
    pub(super) fn open_streams(&self) -> usize {
        self.in_streams.len() + self.early.len()
    }
}

/// An event of a link, for the node.
#[derive(Debug)]
pub(in crate::node) enum Notice {
    /// The peer's hello is complete.
    Hello(Hello),
    /// The peer broke a rule.
    Fault(Fault),
    /// The peer has refused another process that uses this node's key.
    Twin,
}

impl Link {
    /// Something has come. It is to be read with [`Link::read_next`] in its lane.
    pub(in crate::node) fn note_unread(&mut self, unread: Unread) -> Lane {
        let lane = match unread {
            Unread::More(stream) => {
                self.ingress.in_streams.get(&stream).map_or(Lane::First, |state| state.lane)
            }
            Unread::Opened(_) => Lane::First,
        };
        self.unread(lane).push(unread);
        lane
    }

    fn unread(&mut self, lane: Lane) -> &mut UnreadQueue {
        &mut self.readings[lane as usize].unread
    }

    pub(in crate::node) fn reading(&mut self, lane: Lane) -> &mut Reading {
        &mut self.readings[lane as usize]
    }

    pub(in crate::node) fn has_unread(&self) -> bool {
        self.readings.iter().any(|reading| !reading.unread.is_empty())
    }

    /// The work that was done for it since the last call.
    pub(in crate::node) fn take_work(&mut self) -> u64 {
        self.readings.iter_mut().map(|reading| reading.share.take_done()).sum()
    }

    /// Reads what waits longest in a lane, as far as the peer's share goes. False if there is nothing, or the share is
    /// spent.
    pub(in crate::node) fn read_next(
        &mut self,
        now: Time,
        lane: Lane,
        machine: &mut Broadcast,
        channels: &[ChannelConfig],
        rpc: &mut Rpc,
        notices: &mut Vec<Notice>,
    ) -> bool {
        let reading = &mut self.readings[lane as usize];
        if reading.share.is_spent() {
            return false;
        }
        let Some(unread) = reading.unread.pop() else { return false };
        match unread {
            Unread::Opened(Dir::Uni) => self.accept(now, machine, channels, notices),
            Unread::Opened(Dir::Bi) => self.accept_calls(now, rpc, notices),
            Unread::More(id) if id.dir() == Dir::Bi => self.read_call(now, id, rpc, notices),
            Unread::More(id) => self.read(now, id, machine, channels, notices),
        }
        true
    }

    /// Reads what the next of the peer's new streams holds.
    fn accept(
        &mut self,
        now: Time,
        machine: &mut Broadcast,
        channels: &[ChannelConfig],
        notices: &mut Vec<Notice>,
    ) {
        let Some(stream) = self.quic.streams().accept(Dir::Uni) else { return };
        // There may be more, which come behind what this read leaves of the first one.
        self.unread(Lane::First).put_back(Unread::Opened(Dir::Uni));
        self.windows.note_opened();
        if self.peer().is_none() && stream.index() > 0 {
            self.ingress.early.push(stream);
        } else {
            self.read(now, stream, machine, channels, notices);
        }
    }

    /// The peer is up: the streams that it opened before are to be read, first of all and in their order.
    pub(in crate::node) fn note_early(&mut self) {
        let early = std::mem::take(&mut self.ingress.early);
        let unread = self.unread(Lane::First);
        unread.push(Unread::Opened(Dir::Bi));
        early.into_iter().rev().for_each(|stream| unread.put_back(Unread::More(stream)));
    }

    /// What was held for quotas is to be read as far as it is due by now. False if there is nothing.
    pub(in crate::node) fn release_held(&mut self, now: Time) -> bool {
        if self.quotas.earliest() > now {
            return false;
        }
        let unread = &mut self.readings[Lane::First as usize].unread;
        let streams = &mut self.ingress.in_streams;
        self.quotas.release(now, |stream| release(stream, streams, unread));
        true
    }

    /// Reads what a stream holds.
    fn read(
        &mut self,
        now: Time,
        stream: StreamId,
        machine: &mut Broadcast,
        channels: &[ChannelConfig],
        notices: &mut Vec<Notice>,
    ) {
        if self.ingress.early.contains(&stream) {
            return;
        }
        let mut state = match self.ingress.in_streams.remove(&stream) {
            Some(state) => state,
            None => {
                let decoder = match self.ingress.spare_decoders.pop() {
                    Some(spare) => StreamDecoder::reusing(spare, Request::BODY_MAX),
                    None => StreamDecoder::new(Request::BODY_MAX),
                };
                let (role, lane) = (Role::Unknown, Lane::First);
                InStream { role, lane, decoder, frames: 0, quota: None, is_held: false }
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
                self.ingress.in_streams.insert(stream, state);
                return;
            }
            Read::Over => {}
            Read::Stop | Read::Unawaited => {
                let _ = self.quic.recv_stream(stream).stop(UNNEEDED);
            }
        }
        if self.ingress.spare_decoders.len() < SPARE_DECODERS_MAX {
            self.ingress.spare_decoders.push(state.decoder);
        }
    }

    fn give_up(&mut self, now: Time, state: &InStream, machine: &mut Broadcast) {
        if let (Role::Chunks(request), Some(peer)) = (state.role, self.peer()) {
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
        let up = self.peer();
        let mut bytes = 0;
        let lane = state.lane;
        let Reading { share, unread, .. } = &mut self.readings[lane as usize];
        share.charge(cost::STREAM);
        if let Some(at) = holding_quota(now, stream, state, &mut self.quotas) {
            return Ok(self.read_reset(now, stream, at));
        }
        let mut recv = self.quic.recv_stream(stream);
        let mut chunks = match recv.read(true) {
            Ok(chunks) => chunks,
            // The stream was stopped before, or has been read to its end.
            Err(ReadableError::ClosedStream | ReadableError::IllegalOrderedRead) => {
                return Ok(Read::Over);
            }
        };
        let result = loop {
            if share.is_spent() {
                unread.put_back(Unread::More(stream));
                break Ok(Read::More);
            }
            if state.lane != lane {
                self.readings[state.lane as usize].unread.push(Unread::More(stream));
                break Ok(Read::More);
            }
            if holding_quota(now, stream, state, &mut self.quotas).is_some() {
                break Ok(Read::More);
            }
            // No more than the head is read before it is known to which channel the stream belongs.
            let reads_head = state.role == Role::Unknown && !self.quotas.is_empty();
            match chunks.next(if reads_head { 1 } else { PIECE_BYTES_MAX }) {
                Ok(Some(chunk)) => {
                    let mut input = &chunk.bytes[..];
                    let is_of_updates = matches!(state.role, Role::Updates(_));
                    self.windows.note_read(input.len());
                    bytes += input.len() as u64;
                    share.charge(bytes_cost(input.len()));
                    // The rest of the frame that the head is in is counted.
                    if !reads_head {
                        self.effort.note_read(input.len());
                    }
                    let read = take(
                        now,
                        state,
                        &mut input,
                        up,
                        &mut self.ingress.greeting,
                        machine,
                        channels,
                    );
                    let frames = std::mem::take(&mut state.frames);
                    share.charge(cost::FRAME * frames);
                    if reads_head {
                        state.quota = quota_of(&state.role, up, &self.quotas, machine);
                    } else if let Some(at) = state.quota {
                        let updates = if is_of_updates { frames } else { 0 };
                        self.quotas.charge(at, now, updates, chunk.bytes.len());
                    }
                    match read {
                        Ok(Read::More) => {}
                        over => break over,
                    }
                }
                Ok(None) => {
                    if bytes == 0 {
                        self.effort.note_end();
                    }
                    break state.decoder.finish().map(|()| Read::Over).map_err(Fault::from);
                }
                Err(ReadError::Blocked) => break Ok(Read::More),
                // A reset hello stream cannot be retried. `hello_timeout` closes the connection.
                Err(ReadError::Reset(_)) if state.role == Role::Hello => break Ok(Read::Stop),
                Err(ReadError::Reset(_)) => {
                    self.effort.note_fruitless(1);
                    break Ok(Read::Over);
                }
            }
        };
        // Whether flow control credit must be sent is decided at the next transmit, which follows
        // every read.
        let _ = chunks.finalize();
        if matches!(result, Ok(Read::Unawaited)) {
            self.effort.note_fruitless(1);
        }
        if let Some(peer) = up {
            let is_chunk = matches!(state.role, Role::Chunks(_) | Role::Answered);
            let is_cut = is_chunk && !matches!(result, Ok(Read::More));
            let aborted = if is_cut { state.decoder.partial_bytes() } else { 0 };
            machine.note_read(peer, bytes, aborted as u64);
        }
        if let (Role::Chunks(request), Some(peer)) = (state.role, self.peer()) {
            machine.handle_round_trip(now, peer, self.quic.rtt());
            machine.handle_partial_chunk(now, peer, request, state.decoder.partial_bytes());
        }
        match &result {
            Ok(Read::Over) => match state.role {
                Role::Hello => match self.ingress.greeting.take() {
                    Some(greeting) => notices.push(Notice::Hello(greeting.hello)),
                    None => return Err(Fault::HelloMisplaced),
                },
                Role::Twin => notices.push(Notice::Twin),
                _ => self.give_up(now, state, machine),
            },
            Ok(Read::More | Read::Stop | Read::Unawaited) | Err(_) => {}
        }
        result
    }

    /// Reads nothing of a stream that is held but that it was reset.
    fn read_reset(&mut self, now: Time, stream: StreamId, quota: u8) -> Read {
        let Ok(Some(_)) = self.quic.recv_stream(stream).received_reset() else {
            return Read::More;
        };
        self.quotas.forget(quota, now, stream);
        self.effort.note_fruitless(1);
        Read::Over
    }

    /// Stops the stream with the answer to a request, if it has begun. Returns the bytes that have come of a
    /// chunk that was not complete.
    pub(in crate::node) fn stop_answer(&mut self, request: RequestId) -> u64 {
        let answer =
            self.ingress.in_streams.iter().find(|(_, state)| state.role == Role::Chunks(request));
        let Some(stream) = answer.map(|(stream, _)| *stream) else { return 0 };
        let state = self.ingress.in_streams.remove(&stream).expect("just found");
        let _ = self.quic.recv_stream(stream).stop(UNNEEDED);
        state.decoder.partial_bytes() as u64
    }

    // Calls.

    /// Reads what the next new call of the peer holds, once it is up.
    fn accept_calls(&mut self, now: Time, rpc: &mut Rpc, notices: &mut Vec<Notice>) {
        let Some(peer) = self.peer() else { return };
        let Some(id) = self.quic.streams().accept(Dir::Bi) else { return };
        // There may be more, which come behind what this read leaves of the first one.
        self.unread(Lane::First).put_back(Unread::Opened(Dir::Bi));
        self.ingress.calls_accepted = id.index() + 1;
        rpc.handle_opened(now, peer, CallStream(id.into()));
        self.read_call(now, id, rpc, notices);
        if self.quic.send_stream(id).stopped().is_ok_and(|reason| reason.is_some()) {
            self.call_stopped(id, rpc);
        }
    }

    /// Reads as much of a call's stream as there is room for.
    fn read_call(&mut self, now: Time, id: StreamId, rpc: &mut Rpc, notices: &mut Vec<Notice>) {
        let Some(peer) = self.peer() else { return };
        if let Err(fault) = self.read_wanted(now, peer, id, rpc) {
            notices.push(Notice::Fault(fault));
            self.break_off_call(id);
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
        let Reading { share, unread, .. } = &mut self.readings[Lane::First as usize];
        share.charge(cost::STREAM);
        // A callee resets what it does not answer, and it is the caller who has caused that.
        let is_of_peer = id.initiator() != self.quic.side();
        let mut recv = self.quic.recv_stream(id);
        let mut wants = rpc.wants(peer, stream);
        if wants == 0 {
            if let Ok(Some(code)) = recv.received_reset() {
                self.effort.note_fruitless(is_of_peer.into());
                rpc.handle_reset(now, peer, stream, CallReset::from_code(code.into()));
            }
            return Ok(());
        }
        let Ok(mut chunks) = recv.read(true) else { return Ok(()) };
        let (mut result, mut has_read) = (Ok(()), false);
        while wants > 0 && result.is_ok() {
            if share.is_spent() {
                unread.put_back(Unread::More(id));
                break;
            }
            match chunks.next(wants) {
                Ok(Some(chunk)) => {
                    share.charge(cost::FRAME + bytes_cost(chunk.bytes.len()));
                    self.effort.note_read(chunk.bytes.len());
                    has_read = true;
                    result = rpc.handle_data(now, peer, stream, &chunk.bytes);
                }
                Ok(None) => {
                    if !has_read {
                        self.effort.note_end();
                    }
                    result = rpc.handle_end(peer, stream);
                    break;
                }
                Err(ReadError::Blocked) => break,
                Err(ReadError::Reset(code)) => {
                    self.effort.note_fruitless(is_of_peer.into());
                    rpc.handle_reset(now, peer, stream, CallReset::from_code(code.into()));
                    break;
                }
            }
            wants = rpc.wants(peer, stream);
        }
        let _ = chunks.finalize();
        result
    }

    /// Nothing more is read in a call's stream.
    pub(in crate::node) fn stop_call(&mut self, stream: CallStream) {
        let _ = self.quic.recv_stream(stream_id(stream)).stop(UNNEEDED);
    }

    /// The peer does not want the rest of what is sent in a call's stream. For a stream that has
    /// not been accepted yet, this is noticed when it is accepted, since quinn-proto does not count
    /// it before.
    pub(in crate::node) fn call_stopped(&mut self, id: StreamId, rpc: &mut Rpc) {
        let Some(peer) = self.peer() else { return };
        if id.initiator() != self.quic.side() && id.index() >= self.ingress.calls_accepted {
            return;
        }
        self.discard_unwritten(id);
        let _ = self.quic.send_stream(id).reset(UNNEEDED);
        rpc.handle_stopped(peer, CallStream(id.into()));
    }
}

/// The quota of a stream of updates that is beyond it. The stream is held then.
fn holding_quota(
    now: Time,
    stream: StreamId,
    state: &mut InStream,
    quotas: &mut Quotas,
) -> Option<u8> {
    let at = state.quota.filter(|_| matches!(state.role, Role::Updates(_)))?;
    if !state.is_held && quotas.holds(at, now) {
        quotas.hold(at, now, stream);
        state.is_held = true;
    }
    state.is_held.then_some(at)
}

/// A stream that was held is to be read, unless it has ended.
fn release(stream: StreamId, streams: &mut StreamMap<InStream>, unread: &mut UnreadQueue) {
    if let Some(state) = streams.get_mut(&stream) {
        state.is_held = false;
        unread.push(Unread::More(stream));
    }
}

/// The quota of the channel of a stream, once its head has been read.
fn quota_of(
    role: &Role,
    up: Option<PeerIndex>,
    quotas: &Quotas,
    machine: &Broadcast,
) -> Option<u8> {
    match role {
        Role::Updates(channel) => quotas.find(*channel),
        Role::Chunks(request) => quotas.find(machine.channel_of(up?, *request)?),
        _ => None,
    }
}

/// The lane of a stream with chunks of a channel.
fn lane_of_chunks(channel: Option<ChannelId>, channels: &[ChannelConfig]) -> Lane {
    let config = channels.iter().find(|config| Some(config.id) == channel);
    config.map_or(Lane::First, |config| Lane::of_chunks(config.class))
}

/// What a piece of so many bytes costs: the shortest one something, too, since each is taken from QUIC by itself.
const fn bytes_cost(bytes: usize) -> u32 {
    (bytes as u32 * cost::KIB).div_ceil(1024)
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
    let InStream { role, lane, decoder, frames, .. } = state;
    loop {
        let Some(item) = decoder.next(input)? else { return Ok(Read::More) };
        *frames += 1;
        match (item, *role) {
            (Item::Head(head), _) => {
                let (found, body_max) = match head {
                    StreamHead::Hello if greeting.is_some() => (Role::Hello, 1024),
                    StreamHead::Hello => return Err(Fault::HelloMisplaced),
                    _ if greeting.is_some() => return Err(Fault::HelloMisplaced),
                    StreamHead::Requests => (Role::Requests, Request::BODY_MAX),
                    StreamHead::Updates(channel) => {
                        let config = channels.iter().find(|config| config.id == channel);
                        let Some(config) = config else { return Ok(Read::Stop) };
                        (Role::Updates(channel), config.update_bytes_max())
                    }
                    StreamHead::Chunks(request) => {
                        let request = RequestId(request);
                        let longest = up.and_then(|peer| machine.chunk_bytes_max(peer, request));
                        let Some(longest) = longest else { return Ok(Read::Unawaited) };
                        let channel = up.and_then(|peer| machine.channel_of(peer, request));
                        *lane = lane_of_chunks(channel, channels);
                        (Role::Chunks(request), longest + Chunk::OVERHEAD_MAX)
                    }
                    StreamHead::Twin => (Role::Twin, 0),
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
                                *lane = lane_of_chunks(Some(channel), channels);
                                let longest = machine.chunk_bytes_max(peer, request);
                                let longest = longest.expect("it has just begun");
                                decoder.set_body_max(longest + Chunk::OVERHEAD_MAX);
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
                    Role::Twin if kind::has_place(kind) => return Err(Malformed::Misplaced.into()),
                    // What a later minor version may say beside it.
                    Role::Twin => {}
                    Role::Answered => return Ok(Read::Stop),
                    Role::Unknown | Role::Hello => unreachable!("the head comes first"),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_piece_costs_something() {
        assert_eq!([1, 204, 205, 1024].map(bytes_cost), [1, 1, 2, cost::KIB]);
    }
}
