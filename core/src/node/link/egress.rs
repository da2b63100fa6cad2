//! Writing: what may be encoded for a peer now, and the streams on which it goes.
//!
//! QUIC is given little at a time, since what it has been given cannot change any more. What it does
//! not take waits here, each stream for itself, and holds up no other flow.

use std::vec::Vec;

use bytes::Bytes;
use quinn_proto::{Dir, StreamId, WriteError};

use super::{BREACH, Link, StreamMap, UNNEEDED, stream_id};
use crate::broadcast::{OutStream, Send, SendBuffer};
use crate::config::Config;
use crate::node::buffers::Buffers;
use crate::node::congestion::PACKET_OVERHEAD;
use crate::rpc::{CallStream, Piece};
use crate::sched::{Level, Schedule};
use crate::wire::CallReset;

/// The most that is encoded and written at a time, give or take a frame: it cannot change any more.
const PIECE_BYTES_MAX: usize = 64 * 1024;

/// How many bytes of encoded data QUIC may hold unsent beyond the congestion window, in bytes:
/// enough to fill the next datagrams without a pause.
const SLACK: u64 = 16 * 1024;

/// So much more of urgent data, at most, and no more than the window again: it need not wait until QUIC has sent what is
/// less urgent, since QUIC sends it before that. On a slow path, more would be seconds of what cannot change any more.
const URGENT_SLACK: u64 = 112 * 1024;

/// Bulk data leaves so much of the congestion window free, or a sixteenth of it, so that there is room
/// for urgent data at any time and not only when the next acknowledgement comes. It is what a piece of
/// bulk data may exceed its room by. Of a short window it leaves an eighth free.
const BULK_RESERVE_BYTES: u64 = PIECE_BYTES_MAX as u64;

/// A stream of up to so many bytes, all of which is in packets, is not reset: that would take a packet, too.
const LEFT_BYTES_MAX: usize = 1 << 10;

/// With no more than so many packets in flight, QUIC does not hold any back to pace them: it lets ten go at
/// once.
const UNPACED_PACKETS: u64 = 8;

/// Priorities in QUIC that a level has. Within a level, QUIC sends in the order in which it was given
/// the data. If it took turns instead, all streams would complete late, and more of them would become
/// obsolete before they do.
const TURNS: i32 = 1 << 29;

/// Encoded bytes that QUIC did not accept because the credit of their stream is used up.
#[derive(Debug)]
struct Rest {
    level: Level,
    pieces: Vec<Bytes>,
    bytes: usize,
    finish: bool,
}

/// A stream of the broadcast machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Written {
    stream: StreamId,
    bytes: usize,
    /// It has come to its end.
    is_finished: bool,
}

pub(super) struct Egress {
    schedule: Schedule,
    /// The next stream to be written, opened ahead so that the machine is asked only if there is
    /// one.
    next_stream: Option<StreamId>,
    /// The one after it. Without one, the next is left to what is urgent, since a peer may allow few
    /// streams, and long transfers may keep all others.
    spare_stream: Option<StreamId>,
    /// The same for the next call.
    next_call: Option<StreamId>,
    /// A call waits for a stream.
    awaits_call: bool,
    out_streams: StreamMap<OutStream>,
    by_index: Vec<Option<Written>>,
    /// What QUIC did not accept, by stream.
    rests: StreamMap<Rest>,
    rest_bytes: usize,
    /// QUIC accepts nothing on any stream, since the credit of the whole connection is used up.
    is_blocked: bool,
    /// Bytes that QUIC holds unsent or has to send again, by level, estimated: it sends the most
    /// urgent first.
    unsent: [u64; Level::ALL.len()],
    /// All that was written is in packets, for certain.
    is_all_sent: bool,
    flight: Flight,
    /// Bytes that QUIC was given of streams that were reset.
    aborted_bytes: u64,
    pieces: Vec<Bytes>,
    /// Writes so far, from which the priorities within a level derive. When they are used up, nothing
    /// is written until all that was written is acknowledged, and they begin anew.
    turn: i32,
}

/// Bytes that were sent lately, by level, from which the levels of lost bytes are estimated: QUIC
/// tells how many were lost, but not of which streams.
#[derive(Debug, Default)]
struct Flight {
    /// Sent since `before` was set: at most about as many as are in flight.
    recent: [u64; Level::ALL.len()],
    /// About as many, which were sent before those.
    before: [u64; Level::ALL.len()],
}

impl Flight {
    fn note_sent(&mut self, level: Level, bytes: u64, in_flight: u64) {
        self.recent[level as usize] += bytes;
        if self.recent.iter().sum::<u64>() > in_flight {
            self.before = std::mem::take(&mut self.recent);
        }
    }

    /// How many of `lost` bytes are of which level, if QUIC sends the most urgent ones first.
    fn levels(&self, mut lost: u64) -> [u64; Level::ALL.len()] {
        Level::ALL.map(|level| {
            let bytes = lost.min(self.recent[level as usize] + self.before[level as usize]);
            lost -= bytes;
            bytes
        })
    }
}

/// What may be sent now.
#[derive(Clone, Copy, Debug)]
pub(in crate::node) struct Room {
    /// The number of bytes that may be written.
    pub(in crate::node) bytes: usize,
    /// There is a stream for the broadcast machine.
    pub(in crate::node) has_stream: bool,
    /// There is a stream for a call.
    pub(in crate::node) has_call_stream: bool,
}

impl Egress {
    pub(super) fn new(schedule: Schedule) -> Self {
        Self {
            schedule,
            next_stream: None,
            spare_stream: None,
            next_call: None,
            awaits_call: false,
            out_streams: StreamMap::default(),
            by_index: Vec::new(),
            rests: StreamMap::default(),
            rest_bytes: 0,
            is_blocked: false,
            unsent: [0; Level::ALL.len()],
            is_all_sent: false,
            flight: Flight::default(),
            aborted_bytes: 0,
            pieces: Vec::new(),
            turn: 0,
        }
    }
}

impl Link {
    /// Sends our hello: the first stream. False if the peer allows no stream.
    pub(in crate::node) fn send_whole(&mut self, bytes: &[u8]) -> bool {
        let Some(stream) = self.quic.streams().open(Dir::Uni) else { return false };
        let mut pieces = std::mem::take(&mut self.egress.pieces);
        pieces.push(Bytes::copy_from_slice(bytes));
        self.write((stream, true), pieces, true, Level::Control);
        true
    }

    pub(in crate::node) fn schedule(&mut self) -> &mut Schedule {
        &mut self.egress.schedule
    }

    /// The level of what is to be encoded next, if there is room for it.
    pub(in crate::node) fn next_level(&mut self, config: &Config) -> Option<Level> {
        // The first stream is for the hello.
        if !self.is_up() || !self.is_open() {
            return None;
        }
        if self.egress.turn == TURNS - 1 && self.meter.unacked() == 0 {
            self.egress.turn = 0;
        }
        self.open_streams(config);
        let Some(level) = self.egress.schedule.level() else {
            self.meter.set_held_back(false);
            return None;
        };
        (self.room_bytes() > 0).then_some(level)
    }

    /// What the machines may encode now.
    pub(in crate::node) fn room(&mut self) -> Room {
        let level = self.egress.schedule.most_urgent();
        let is_urgent = level.is_some_and(|level| level <= Level::Urgent);
        let allowed = if is_urgent { self.egress.next_stream } else { self.egress.spare_stream };
        Room {
            bytes: self.room_bytes().min(PIECE_BYTES_MAX),
            has_stream: allowed.is_some(),
            has_call_stream: self.egress.next_call.is_some(),
        }
    }

    fn room_bytes(&self) -> usize {
        let send_window = self.windows.send();
        let is_full = self.egress.rest_bytes as u64 >= send_window;
        if self.egress.is_blocked || is_full || self.egress.turn == TURNS - 1 {
            return 0;
        }
        let congestion = self.meter.window();
        let window = congestion.min(send_window);
        // A level that gets its share out of turn has the room of the one that it goes before.
        let level = self.egress.schedule.most_urgent();
        let limit = match level {
            None => return 0,
            Some(Level::Control | Level::Urgent) => window + SLACK + window.min(URGENT_SLACK),
            Some(Level::Normal) => window + SLACK,
            Some(Level::Bulk) => {
                let reserve = BULK_RESERVE_BYTES.min(congestion / 8).max(congestion / 16);
                // A peer may grant the last eighth of its credit late.
                let credit =
                    send_window - send_window / 8 - BULK_RESERVE_BYTES.min(send_window / 8);
                let held_back = (congestion - reserve).min(credit);
                self.meter.set_held_back(held_back <= self.meter.unacked());
                held_back.min(self.meter.bulk_window())
            }
        };
        limit.saturating_sub(self.meter.unacked()) as usize
    }

    /// Bytes that QUIC was given of streams that were reset.
    pub(super) fn aborted_bytes(&self) -> u64 {
        self.egress.aborted_bytes
    }

    /// How urgent it is to let QUIC send what it has.
    pub(in crate::node) fn pending_level(&mut self) -> Level {
        let lost = self.egress.flight.levels(self.meter.take_lost());
        for (unsent, lost) in self.egress.unsent.iter_mut().zip(lost) {
            *unsent += lost;
        }
        let waits = |level: &Level| self.egress.unsent[*level as usize] > 0;
        let first = Level::ALL.into_iter().find(waits).filter(|_| self.is_open());
        first.unwrap_or(Level::Control)
    }

    /// QUIC has sent so many datagrams with so many bytes in all.
    pub(in crate::node) fn note_sent(&mut self, bytes: usize, datagrams: usize) {
        let mut bytes = (bytes as u64).saturating_sub(datagrams as u64 * PACKET_OVERHEAD);
        let in_flight = self.meter.in_flight();
        for level in Level::ALL {
            let unsent = &mut self.egress.unsent[level as usize];
            let sent = bytes.min(*unsent);
            *unsent -= sent;
            bytes -= sent;
            self.egress.flight.note_sent(level, sent, in_flight);
        }
    }

    /// QUIC has nothing more that may be sent now.
    pub(in crate::node) fn note_drained(&mut self) {
        let (in_flight, mtu) = (self.meter.in_flight(), u64::from(self.quic.current_mtu()));
        let is_held_up = in_flight + mtu > self.meter.window();
        self.egress.is_all_sent = !is_held_up && in_flight <= UNPACED_PACKETS * mtu;
        if !self.meter.has_pending() {
            self.egress.unsent = [0; Level::ALL.len()];
        }
    }

    /// Opens the streams to be written next, as far as the peer and this node's own bound allow.
    fn open_streams(&mut self, config: &Config) {
        // Counts streams that the peer has not acknowledged, including reset ones. Whatever limit
        // the peer grants, this node keeps state of no more streams than the peer may open itself.
        // Streams that are open go on, since otherwise none of them might ever come to its end.
        let streams_max = (config.transport.streams_max + config.call_streams_max()) as usize;
        let Self { quic, egress, .. } = self;
        let mut streams = quic.streams();
        let mut is_new = false;
        if egress.next_stream.is_none() && streams.send_streams() < streams_max {
            egress.next_stream = streams.open(Dir::Uni);
            is_new |= egress.next_stream.is_some();
        }
        let has_next = egress.next_stream.is_some();
        if has_next && egress.spare_stream.is_none() && streams.send_streams() < streams_max {
            egress.spare_stream = streams.open(Dir::Uni);
            is_new |= egress.spare_stream.is_some();
        }
        if egress.awaits_call && streams.send_streams() < streams_max {
            egress.next_call = streams.open(Dir::Bi);
            egress.awaits_call = egress.next_call.is_none();
            is_new |= egress.next_call.is_some();
        }
        if is_new {
            egress.schedule.resume();
        }
    }

    /// A call to the peer is to be opened.
    pub(in crate::node) fn want_call_stream(&mut self, config: &Config) {
        self.egress.awaits_call |= self.egress.next_call.is_none();
        self.open_streams(config);
    }

    /// Writes what the broadcast machine has encoded. Returns the stream, if QUIC did not accept all
    /// of it and the stream goes on.
    pub(in crate::node) fn send(
        &mut self,
        send: Send,
        out: &mut SendBuffer,
        buffers: &mut Buffers,
    ) -> Option<OutStream> {
        // The machine has given the place of a stream away that it tells to reset only afterwards.
        if let Some(former) = send.stream.filter(|_| send.open).and_then(|known| self.at(known)) {
            self.reset(former);
        }
        let egress = &mut self.egress;
        let stream = match send.stream {
            Some(known) if !send.open => {
                let written = egress.by_index[known.index()].as_mut().expect("opened before");
                written.bytes += out.len();
                written.is_finished = send.finish;
                written.stream
            }
            known => {
                let stream = egress.next_stream.take().expect("room was asked for");
                egress.next_stream = egress.spare_stream.take();
                if let Some(known) = known {
                    egress.out_streams.insert(stream, known);
                    if egress.by_index.len() <= known.index() {
                        egress.by_index.resize(known.index() + 1, None);
                    }
                    let (bytes, is_finished) = (out.len(), send.finish);
                    egress.by_index[known.index()] = Some(Written { stream, bytes, is_finished });
                }
                stream
            }
        };
        let mut pieces = std::mem::take(&mut self.egress.pieces);
        out.take_pieces_in(&mut pieces, |bytes| buffers.copy(bytes).freeze());
        let level = self.level_now(send.level);
        let is_written = self.write((stream, send.open), pieces, send.finish, level);
        send.stream.filter(|_| !is_written && !send.finish)
    }

    /// The level at which QUIC is to send something that is written now. What gets its share out of
    /// turn must not wait in QUIC for what it went before.
    fn level_now(&self, level: Level) -> Level {
        self.egress.schedule.most_urgent().map_or(level, |first| first.min(level))
    }

    /// Writes as much as QUIC accepts, and keeps the rest. True if nothing is left.
    fn write(
        &mut self,
        (stream, is_new): (StreamId, bool),
        pieces: Vec<Bytes>,
        finish: bool,
        level: Level,
    ) -> bool {
        let bytes = pieces.iter().map(Bytes::len).sum();
        let mut rest = Rest { level, pieces, bytes, finish };
        self.set_priority(stream, level);
        let is_written = self.write_some(stream, &mut rest, level);
        if is_written {
            rest.pieces.clear();
            self.egress.pieces = rest.pieces;
        } else {
            // A stream that has just been opened has credit of its own.
            self.egress.is_blocked |= is_new && rest.bytes == bytes;
            self.egress.rest_bytes += rest.bytes;
            self.egress.rests.insert(stream, rest);
        }
        is_written
    }

    /// A stream that continues is queued behind the streams of its level that were written in the
    /// meantime.
    fn set_priority(&mut self, stream: StreamId, level: Level) {
        self.egress.turn = (self.egress.turn + 1).min(TURNS - 1);
        let priority = i32::MAX - level as i32 * TURNS - self.egress.turn;
        let _ = self.quic.send_stream(stream).set_priority(priority);
    }

    fn write_some(&mut self, stream: StreamId, rest: &mut Rest, level: Level) -> bool {
        let mut send = self.quic.send_stream(stream);
        while !rest.pieces.is_empty() {
            match send.write_chunks(&mut rest.pieces) {
                Ok(written) => {
                    rest.pieces.drain(..written.chunks);
                    rest.bytes -= written.bytes;
                    self.meter.note_written(written.bytes as u64);
                    self.egress.unsent[level as usize] += written.bytes as u64;
                    self.egress.is_all_sent = false;
                }
                // The peer's credit is used up; `Writable` follows.
                Err(WriteError::Blocked) => return false,
                // The peer has stopped the stream. The event follows, and the stream is reset then.
                Err(_) => return true,
            }
        }
        if rest.finish {
            let _ = send.finish();
        }
        true
    }

    /// QUIC accepts more of a stream. Returns the machine's stream, if it may go on.
    pub(in crate::node) fn write_rest(&mut self, stream: StreamId) -> Option<OutStream> {
        self.egress.is_blocked = false;
        let mut rest = self.egress.rests.remove(&stream)?;
        self.egress.rest_bytes -= rest.bytes;
        let level = rest.level;
        if self.write_some(stream, &mut rest, level) {
            return self.egress.out_streams.get(&stream).copied().filter(|_| !rest.finish);
        }
        self.egress.rest_bytes += rest.bytes;
        self.egress.rests.insert(stream, rest);
        None
    }

    /// Resets a stream of the machine, unless it is so short that a reset would cost as much as it saves,
    /// and all of it is in packets already.
    pub(in crate::node) fn reset(&mut self, stream: OutStream) {
        if self.at(stream) != Some(stream) {
            return;
        }
        let written = self.egress.by_index[stream.index()].take();
        let Written { stream, bytes, is_finished } = written.expect("it is there");
        self.egress.out_streams.remove(&stream);
        let is_whole = is_finished && !self.egress.rests.contains_key(&stream);
        if !(is_whole && bytes <= LEFT_BYTES_MAX && self.egress.is_all_sent) {
            self.reset_stream(stream, bytes);
        }
    }

    /// The stream of the machine that was written last in the same place as this one, if it has not ended.
    fn at(&self, stream: OutStream) -> Option<OutStream> {
        let written = (*self.egress.by_index.get(stream.index())?)?;
        self.egress.out_streams.get(&written.stream).copied()
    }

    /// Resets a stream for which so many bytes were encoded.
    fn reset_stream(&mut self, stream: StreamId, bytes: usize) {
        let mut written = bytes;
        if let Some(rest) = self.egress.rests.remove(&stream) {
            self.egress.rest_bytes -= rest.bytes;
            self.egress.is_blocked = false;
            written = written.saturating_sub(rest.bytes);
        }
        self.egress.aborted_bytes += written as u64;
        let _ = self.quic.send_stream(stream).reset(UNNEEDED);
    }

    /// A peer can stop a stream that was opened ahead and is not written yet. Another one is opened
    /// then, since what is written to a stopped stream is lost without any further event.
    pub(super) fn discard_unwritten(&mut self, stream: StreamId) {
        let egress = &mut self.egress;
        egress.spare_stream.take_if(|spare| *spare == stream);
        if egress.next_stream == Some(stream) {
            egress.next_stream = egress.spare_stream.take();
        }
        egress.awaits_call |= egress.next_call.take_if(|next| *next == stream).is_some();
    }

    /// The peer has stopped a stream. Returns the machine's stream, if it was one.
    pub(in crate::node) fn stopped(&mut self, stream: StreamId) -> Option<OutStream> {
        self.discard_unwritten(stream);
        let known = self.egress.out_streams.get(&stream);
        let written = known.and_then(|known| self.egress.by_index[known.index()]);
        let bytes = written.filter(|written| written.stream == stream).map_or(0, |of| of.bytes);
        self.reset_stream(stream, bytes);
        self.ended(stream)
    }

    /// A stream was acknowledged completely. Returns the machine's stream, if it was one.
    pub(in crate::node) fn ended(&mut self, stream: StreamId) -> Option<OutStream> {
        let known = self.egress.out_streams.remove(&stream)?;
        let place = &mut self.egress.by_index[known.index()];
        place.take_if(|written| written.stream == stream);
        Some(known)
    }

    /// Writes a piece of a call. Returns its stream and the number of bytes that QUIC accepted.
    pub(in crate::node) fn send_piece(
        &mut self,
        piece: Piece,
        out: &mut SendBuffer,
        buffers: &mut Buffers,
    ) -> (CallStream, usize) {
        let id = match piece.stream {
            Some(stream) => stream_id(stream),
            None => self.egress.next_call.take().expect("room was asked for"),
        };
        let level = self.level_now(piece.class.into());
        self.set_priority(id, level);
        let mut pieces = std::mem::take(&mut self.egress.pieces);
        out.take_pieces_in(&mut pieces, |bytes| buffers.copy(bytes).freeze());
        let all = pieces.iter().map(Bytes::len).sum();
        let mut rest = Rest { level, pieces, bytes: all, finish: piece.finish };
        // Blocked: `Writable` follows. Stopped by the peer: the event follows.
        self.write_some(id, &mut rest, level);
        let written = all - rest.bytes;
        rest.pieces.clear();
        self.egress.pieces = rest.pieces;
        (CallStream(id.into()), written)
    }

    /// Nothing more is sent or read in a call's stream. The peer is told why.
    pub(in crate::node) fn close_call(&mut self, stream: CallStream, why: CallReset) {
        let (id, code) = (stream_id(stream), why.code().into());
        let _ = self.quic.send_stream(id).reset(code);
        let _ = self.quic.recv_stream(id).stop(code);
    }

    /// The peer broke a rule in a call's stream.
    pub(super) fn break_off_call(&mut self, id: StreamId) {
        let _ = self.quic.send_stream(id).reset(BREACH);
        let _ = self.quic.recv_stream(id).stop(BREACH);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_bytes_are_of_the_levels_that_were_sent_lately() {
        let mut flight = Flight::default();
        flight.note_sent(Level::Urgent, 200, 10_000);
        for _ in 0..9 {
            flight.note_sent(Level::Bulk, 1_000, 10_000);
        }
        assert_eq!(flight.levels(100), [0, 100, 0, 0]);
        assert_eq!(flight.levels(5_000), [0, 200, 0, 4_800]);
        // What was sent two flights ago has arrived, or was lost and noticed.
        for _ in 0..20 {
            flight.note_sent(Level::Bulk, 1_100, 10_000);
        }
        assert_eq!(flight.levels(5_000), [0, 0, 0, 5_000]);
    }
}
