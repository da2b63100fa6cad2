//! One machine with a call or a request in parts, and a peer that `data` plays: it grants room twice, for
//! nothing and for too much, and ends whenever it likes. What the machine sends is what its application has given
//! and the peer has granted, to the byte; what is read is what the peer has sent; room is granted no further
//! ahead of the reader than it may be; and what breaks a rule is the fault that names it.

use bytes::Bytes;

use super::feed::Feed;
use slotcast::broadcast::SendBuffer;
use slotcast::config::{ChannelConfig, Config, RouteConfig};
use slotcast::error::{Fault, PartError};
use slotcast::id::{ChannelId, PeerIndex, RouteId};
use slotcast::rpc::{
    Body, CallStream, Output, PART_BYTES_MAX, Part, Rpc, STREAM_BYTES_KEPT, Stream, StreamEvent,
};
use slotcast::time::Time;
use slotcast::wire::{CallHead, EAGER_BYTES_MAX, Malformed, Reply, RouteHello};

const PEER: PeerIndex = PeerIndex(0);
const ROUTE: RouteId = RouteId(7);
const STREAM: CallStream = CallStream(2);
const LONGEST: u32 = 1 << 20;
/// Bytes that arrive ahead of a reader.
const AHEAD: usize = STREAM_BYTES_KEPT as usize / 2;

/// Lengths of bodies, and what is granted of them: around the bounds.
const LENGTHS: [u32; 8] =
    [0, 100, EAGER_BYTES_MAX as u32, 20_000, AHEAD as u32, AHEAD as u32 + 1, 600_000, LONGEST];

/// Bytes of a body, which differ from place to place.
fn bytes(from: usize, to: usize) -> Vec<u8> {
    (from..to).map(|at| (at ^ at >> 8 ^ at >> 15) as u8).collect()
}

fn frame(encode: impl FnOnce(&mut heapless::Vec<u8, 64>)) -> Vec<u8> {
    let mut frame = heapless::Vec::new();
    encode(&mut frame);
    frame.to_vec()
}

fn is_grant(kind: u64) -> bool {
    kind == u64::from(frame(|out| Reply::Grant { until: 0 }.encode(out))[0])
}

/// The body that the machine sends.
#[derive(Default)]
struct Outgoing {
    length: usize,
    given: usize,
    /// The peer has granted room up to here.
    allowed: usize,
    sent: usize,
}

/// The body that the peer sends.
#[derive(Default)]
struct Incoming {
    length: usize,
    arrived: usize,
    read: usize,
    /// The machine has granted room up to here.
    granted: usize,
}

struct Run {
    machine: Rpc,
    now: Time,
    calls: bool,
    /// The call, or the request, once the application has it.
    stream: Option<Stream>,
    outgoing: Outgoing,
    incoming: Incoming,
    /// Bytes of the machine's body that are to follow.
    body_left: usize,
    /// The peer's body has begun; the application's has, too.
    has_incoming: bool,
    has_outgoing: bool,
    /// The machine's direction has ended.
    has_ended: bool,
    peer_has_ended: bool,
    /// The peer has room for so many bytes of an answer.
    said: u32,
    is_over: bool,
}

impl Run {
    /// A machine that calls, or is called.
    fn new(calls: bool) -> Self {
        let route = RouteConfig::new(ROUTE, "parts").bytes_max(LONGEST, LONGEST).reads_in_parts();
        let config = Config::new([ChannelConfig::new(ChannelId(1))]).routes([route]);
        let mut machine = Rpc::new(&config).expect("it holds together");
        machine.add_peer(PEER);
        let hello = RouteHello {
            id: ROUTE,
            request_bytes_max: LONGEST,
            response_bytes_max: LONGEST,
            in_flight_max: 4,
            in_flight_bytes_max: LONGEST.into(),
            knows_grants: true,
        };
        machine.peer_up(PEER, &[hello]);
        machine.serve(Time(1), ROUTE, true);
        Self {
            machine,
            now: Time(1),
            calls,
            stream: None,
            outgoing: Outgoing::default(),
            incoming: Incoming::default(),
            body_left: 0,
            has_incoming: false,
            has_outgoing: false,
            has_ended: false,
            peer_has_ended: false,
            said: 0,
            is_over: false,
        }
    }

    /// The machine calls with a request of so many bytes.
    fn call(&mut self, length: u32) {
        let body = Body::InParts(length);
        let call = self.machine.call(self.now, PEER, ROUTE, body, None, true);
        self.stream = Some(Stream::Call(call.expect("there is credit")));
        let allowed = EAGER_BYTES_MAX.min(length as usize);
        self.outgoing = Outgoing { length: length as usize, allowed, ..Outgoing::default() };
        self.has_outgoing = true;
        self.settle();
    }

    /// The peer asks with a request of so many bytes, and has room for some of the answer.
    fn ask(&mut self, length: u32, prepaid: u32) {
        self.machine.handle_opened(self.now, PEER, STREAM);
        let head =
            CallHead { route: ROUTE, timeout_ms: 60_000, prepaid, length, wants_answer: true };
        self.hand_in(&frame(|out| head.encode(out))).expect("a head");
        let length = length as usize;
        // Of so many bytes nothing need be granted.
        let granted = if length <= EAGER_BYTES_MAX { length } else { 0 };
        self.incoming = Incoming { length, granted, ..Incoming::default() };
        self.has_incoming = true;
        self.said = prepaid;
        self.settle();
        let (request, permit) = self.machine.poll_request(ROUTE, |_| true).expect("a request");
        self.machine.release(permit);
        assert_eq!(request.in_parts, Some(length as u32));
        self.stream = Some(Stream::Request(request.id));
    }

    /// Bytes of the peer, which the machine has to want.
    fn hand_in(&mut self, mut bytes: &[u8]) -> Result<(), Fault> {
        while !bytes.is_empty() {
            let wants = self.machine.wants(PEER, STREAM).min(bytes.len());
            assert!(wants > 0, "it reads frames to their ends");
            let (piece, rest) = bytes.split_at(wants);
            bytes = rest;
            self.machine.handle_data(self.now, PEER, STREAM, piece)?;
        }
        Ok(())
    }

    /// Does what the machine wants done. All that it sends goes at once.
    fn settle(&mut self) {
        while !matches!(self.machine.poll(self.now), Output::Idle { .. }) {}
        let (mut out, mut sent) = (SendBuffer::new(), Vec::new());
        while let Some(piece) =
            self.machine.poll_flow(self.now, PEER, 0, usize::MAX, true, &mut out)
        {
            assert!(!self.has_ended, "nothing is sent behind the end");
            let before = sent.len();
            out.for_each_piece(|piece| sent.extend_from_slice(piece));
            self.machine.handle_written(STREAM, sent.len() - before);
            self.has_ended = piece.finish;
        }
        self.take_sent(&sent);
        while let Some(event) = self.machine.poll_stream() {
            self.is_over |= matches!(event, StreamEvent::Over { .. });
        }
        self.machine.assert_invariants();
        if !self.is_over {
            let Outgoing { given, allowed, sent, .. } = self.outgoing;
            assert_eq!(sent, given.min(allowed), "all that may go, and no more");
            self.check_room();
        }
    }

    /// What the peer makes of what was sent.
    fn take_sent(&mut self, mut sent: &[u8]) {
        while !sent.is_empty() {
            if self.body_left > 0 {
                let count = self.body_left.min(sent.len());
                let (body, rest) = sent.split_at(count);
                let from = self.outgoing.sent;
                assert!(body == bytes(from, from + count), "as it was given");
                self.outgoing.sent += count;
                (self.body_left, sent) = (self.body_left - count, rest);
                continue;
            }
            // Kind and length are of one byte each.
            let (body, rest) = sent[2..].split_at(sent[1].into());
            let kind = sent[0].into();
            sent = rest;
            if self.calls && self.outgoing.sent == 0 && !self.has_incoming && !is_grant(kind) {
                let head = CallHead::decode(kind, body).expect("a head");
                self.body_left = head.length as usize;
                self.incoming.granted = head.prepaid as usize;
                continue;
            }
            match Reply::decode(kind, body).expect("a reply") {
                Reply::Continue => self.granted(self.incoming.length),
                Reply::Grant { until } => self.granted(until as usize),
                Reply::Answer { length } => self.body_left = length as usize,
                Reply::Busy { .. } | Reply::Refused(_) => self.is_over = true,
            }
        }
        // The end of the caller's direction says that there is room for all of the answer.
        if self.calls && self.has_ended && self.has_incoming {
            self.incoming.granted = self.incoming.length;
        }
    }

    /// The machine has room for more of what the peer sends.
    fn granted(&mut self, until: usize) {
        let Incoming { length, granted, .. } = self.incoming;
        assert!(until > granted && until <= length, "for more, and no more than there is");
        self.incoming.granted = until;
    }

    /// As many bytes are wanted as there is room for, and that is not far ahead of the reader.
    fn check_room(&self) {
        let Incoming { length, arrived, read, granted } = self.incoming;
        assert!(granted.min(length) <= read + AHEAD, "invariant 8");
        if self.has_incoming && arrived < length {
            assert_eq!(self.machine.wants(PEER, STREAM), granted.min(length) - arrived);
        }
    }

    // The application.

    fn give(&mut self, length: usize) {
        let Some(stream) = self.stream.filter(|_| self.has_outgoing) else { return };
        let Outgoing { length: all, given, sent, .. } = self.outgoing;
        let part: Bytes = bytes(given, given + length).into();
        let expected = match () {
            () if self.is_over || self.has_ended => Err(PartError::NotWanted),
            // It has the answer.
            () if self.calls && self.peer_has_ended => Err(PartError::NotWanted),
            () if sent < given => Err(PartError::NotYet),
            () if length > PART_BYTES_MAX.min(all - given) => Err(PartError::TooLong),
            () => Ok(()),
        };
        assert_eq!(self.machine.give(self.now, stream, part), expected);
        if expected.is_ok() {
            self.outgoing.given += length;
        }
        self.settle();
    }

    fn read(&mut self) {
        let Some(stream) = self.stream else { return };
        match self.machine.read(self.now, stream) {
            Part::Bytes(part) => {
                let Incoming { arrived, read, .. } = self.incoming;
                assert!(!self.is_over && part == bytes(read, arrived), "all that is there");
                self.incoming.read = arrived;
            }
            Part::None => {
                let Incoming { length, arrived, read, .. } = self.incoming;
                assert!(!self.is_over && read == arrived && (arrived < length || self.calls));
            }
            Part::End => {
                let Incoming { length, read, .. } = self.incoming;
                assert!(self.is_over || read == length || self.has_outgoing && !self.calls);
                self.is_over |= self.calls;
            }
        }
        self.settle();
    }

    fn answer(&mut self, length: u32) {
        let Some(Stream::Request(request)) = self.stream.filter(|_| !self.has_outgoing) else {
            return;
        };
        let answered = self.machine.answer(self.now, request, Body::InParts(length));
        let Incoming { length: asked, arrived, .. } = self.incoming;
        assert_eq!(answered.is_ok(), arrived == asked && !self.is_over);
        if answered.is_ok() {
            self.has_outgoing = true;
            let length = length as usize;
            let allowed = length.min(self.said as usize);
            self.outgoing = Outgoing { length, allowed, ..Outgoing::default() };
        }
        self.settle();
    }
}

/// What the peer does.
impl Run {
    /// It sends what it has been granted, up to so many bytes of its body.
    fn send(&mut self, limit: usize) {
        if !self.has_incoming || self.is_over {
            return;
        }
        let Incoming { length, arrived, granted, .. } = self.incoming;
        let end = granted.min(length).min(arrived.saturating_add(limit));
        if arrived < end {
            self.hand_in(&bytes(arrived, end)).expect("no fault");
            self.incoming.arrived = end;
        }
        self.settle();
    }

    /// Where a frame may follow: before its answer, or behind its request.
    fn is_between_frames(&self) -> bool {
        !self.is_over
            && match self.calls {
                true => !self.has_incoming,
                false => self.incoming.arrived == self.incoming.length && !self.peer_has_ended,
            }
    }

    /// It grants room for the body up to here: more than before, or it is a fault.
    fn grant(&mut self, until: u32) {
        if self.stream.is_none() || !self.is_between_frames() {
            return;
        }
        let result = self.hand_in(&frame(|out| Reply::Grant { until }.encode(out)));
        // A request is no longer than it is; of an answer, nobody knows.
        let length = self.outgoing.length;
        let is_more = match self.calls {
            true => length.min(until as usize) > self.outgoing.allowed,
            false => until > self.said,
        };
        assert_eq!(result, if is_more { Ok(()) } else { Err(Fault::ReplyMisplaced) });
        (self.said, self.is_over) = (until, !is_more);
        if is_more && self.has_outgoing {
            self.outgoing.allowed = length.min(until as usize);
        }
        self.settle();
    }

    /// It has room for all of the request.
    fn go_on(&mut self) {
        if !self.calls || !self.is_between_frames() {
            return;
        }
        let is_more = self.outgoing.allowed < self.outgoing.length;
        let result = self.hand_in(&frame(|out| Reply::Continue.encode(out)));
        assert_eq!(result, if is_more { Ok(()) } else { Err(Fault::ReplyMisplaced) });
        self.outgoing.allowed = self.outgoing.length;
        self.is_over = !is_more;
        self.settle();
    }

    /// It answers, when it has all of the request, or too early.
    fn reply(&mut self, length: u32) {
        if !self.calls || !self.is_between_frames() {
            return;
        }
        let is_due = self.outgoing.sent == self.outgoing.length;
        let result = self.hand_in(&frame(|out| Reply::Answer { length }.encode(out)));
        assert_eq!(result, if is_due { Ok(()) } else { Err(Fault::ReplyMisplaced) });
        self.is_over = !is_due;
        let Incoming { granted, .. } = self.incoming;
        self.incoming = Incoming { length: length as usize, granted, ..Incoming::default() };
        self.has_incoming = is_due;
        self.settle();
    }

    /// It ends its direction, where an end can be seen: behind its body, or too early.
    fn end(&mut self) {
        if self.is_over || self.peer_has_ended || self.machine.wants(PEER, STREAM) == 0 {
            return;
        }
        let is_due = self.has_incoming && self.incoming.arrived == self.incoming.length;
        let result = self.machine.handle_end(PEER, STREAM);
        assert_eq!(result.is_ok(), is_due, "{result:?}");
        self.peer_has_ended = true;
        self.is_over = !is_due;
        if !self.calls && is_due {
            // There is room for all of the answer.
            self.said = u32::MAX;
            self.outgoing.allowed = self.outgoing.length;
        }
        self.settle();
    }

    /// It sends something behind its body that nothing follows.
    fn overrun(&mut self) {
        let is_behind = self.has_incoming && self.incoming.arrived == self.incoming.length;
        if self.is_over || self.peer_has_ended || !is_behind {
            return;
        }
        assert_eq!(self.hand_in(&[7]), Err(Fault::Malformed(Malformed::Trailing)));
        self.is_over = true;
        self.settle();
    }
}

/// Bytes drive the application and the peer: each operation is a byte and its argument.
pub(super) fn grants(data: &[u8]) {
    let mut feed = Feed(data);
    let length = |feed: &mut Feed<'_>| LENGTHS[feed.below(LENGTHS.len())];
    let mut run = Run::new(feed.below(2) == 0);
    match run.calls {
        true => run.call(length(&mut feed)),
        false => {
            let asked = length(&mut feed);
            run.ask(asked, length(&mut feed));
        }
    }
    while !feed.0.is_empty() {
        match feed.below(16) {
            0..=2 => run.give(PART_BYTES_MAX.min(run.outgoing.length - run.outgoing.given)),
            3 => run.give(usize::from(feed.byte()).pow(2) * 3),
            4 | 5 => run.read(),
            6..=8 => run.send(usize::MAX),
            9 => run.send(usize::from(feed.byte()).pow(2)),
            10 => run.grant(length(&mut feed)),
            // A little more than before.
            11 => run.grant(
                (run.outgoing.allowed as u32).max(run.said).saturating_add(feed.byte().into()),
            ),
            12 => run.go_on(),
            13 => match run.calls {
                true => run.reply(length(&mut feed)),
                false => run.answer(length(&mut feed)),
            },
            14 if feed.byte() < 64 => run.overrun(),
            15 if feed.byte() < 64 => run.end(),
            _ => {}
        }
    }
}
