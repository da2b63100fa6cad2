//! Streams: the head, and frames cut out of bytes that arrive in any pieces.

use alloc::vec::Vec;

use super::{Malformed, kind, peek_varint, put_varint};
use crate::id::ChannelId;

/// How a stream begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StreamHead {
    /// Fields of a [`Hello`](super::Hello).
    Hello,
    /// [`Update`](super::Update)s of one channel.
    Updates(ChannelId),
    /// [`Request`](super::Request)s.
    Requests,
    /// [`Chunk`](super::Chunk)s that answer the fetch request of this number.
    Chunks(u64),
    /// Nothing follows: another process uses the receiver's key, and was refused.
    Twin,
    /// A type that this version does not know: stop the stream.
    Unknown(u64),
}

/// Bytes of the longest head, and of what stands before the longest body: two numbers.
const HEADER_MAX: usize = 16;

/// Of an unknown update or request that is longer than the bound, so many bytes of the body are handed
/// out: two numbers.
const START_BYTES: usize = 16;

const HELLO: u64 = 0;
const UPDATES: u64 = 1;
const REQUESTS: u64 = 2;
const CHUNKS: u64 = 3;
const TWIN: u64 = 4;

impl StreamHead {
    /// Appends the head.
    pub fn encode(self, out: &mut Vec<u8>) {
        match self {
            Self::Hello => put_varint(out, HELLO),
            Self::Updates(channel) => {
                put_varint(out, UPDATES);
                put_varint(out, channel.0.into());
            }
            Self::Requests => put_varint(out, REQUESTS),
            Self::Chunks(request) => {
                put_varint(out, CHUNKS);
                put_varint(out, request);
            }
            Self::Twin => put_varint(out, TWIN),
            Self::Unknown(number) => put_varint(out, number),
        }
    }

    /// The head at the start of `input` and its length; `None` if it is cut off.
    fn decode(input: &[u8]) -> Result<Option<(Self, usize)>, Malformed> {
        let Some((number, length)) = peek_varint(input) else { return Ok(None) };
        let argument = || peek_varint(&input[length..]).map(|(value, more)| (value, length + more));
        Ok(match number {
            HELLO => Some((Self::Hello, length)),
            REQUESTS => Some((Self::Requests, length)),
            UPDATES => match argument() {
                Some((channel, length)) => {
                    let channel = u16::try_from(channel).map_err(|_| Malformed::OutOfRange)?;
                    Some((Self::Updates(ChannelId(channel)), length))
                }
                None => None,
            },
            TWIN => Some((Self::Twin, length)),
            CHUNKS => argument().map(|(request, length)| (Self::Chunks(request), length)),
            _ => Some((Self::Unknown(number), length)),
        })
    }
}

/// What a stream holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Item<'a> {
    /// The head: the first item of each stream.
    Head(StreamHead),
    /// A frame. The body is not looked into yet. It is complete, unless the kind is an unknown one of
    /// updates or requests and the body longer than the bound: of such a body only the start is here,
    /// with the slot and version or the request's number.
    Frame {
        /// The frame's kind.
        kind: u64,
        /// The frame's body.
        body: &'a [u8],
    },
}

/// Cuts one stream into its head and frames.
///
/// Holds at most one unfinished frame, no longer than the bound given; frames that are complete in
/// the input are handed out in place, without a copy.
#[derive(Debug)]
pub struct StreamDecoder {
    body_max: usize,
    head_seen: bool,
    /// The start of a head or frame that the input cut off.
    partial: Vec<u8>,
    /// `partial` was handed out as a whole by the last call.
    partial_spent: bool,
    /// Bytes still to pass over: the rest of a long frame of unknown kind.
    skip: u64,
}

/// The head or frame at the start of some bytes.
enum Unit {
    Head(StreamHead, usize),
    Frame {
        kind: u64,
        start: usize,
        end: usize,
        /// Bytes of the body that are passed over behind `end`.
        skip: u64,
    },
    /// A frame of unknown kind that is longer than what is held: its header and its body.
    Skip(usize, u64),
    /// Cut off; at least this many bytes are needed to say more.
    Needs(usize),
}

impl StreamDecoder {
    /// A decoder at the start of a stream, for frames with bodies of up to `body_max` bytes.
    pub const fn new(body_max: usize) -> Self {
        Self { body_max, head_seen: false, partial: Vec::new(), partial_spent: false, skip: 0 }
    }

    /// A decoder that uses the buffer of one that has ended.
    pub fn reusing(mut ended: Self, body_max: usize) -> Self {
        ended.partial.clear();
        Self { partial: ended.partial, ..Self::new(body_max) }
    }

    /// Changes the bound for the frames to come.
    pub fn set_body_max(&mut self, body_max: usize) {
        self.body_max = body_max;
    }

    /// Bytes of heap that the decoder holds: at most one frame of the longest body.
    pub fn held_bytes(&self) -> usize {
        self.partial.capacity()
    }

    /// Bytes that are held of a unit that the input cut off.
    pub fn partial_bytes(&self) -> usize {
        if self.partial_spent { 0 } else { self.partial.len() }
    }

    /// The next item; `None` once `input` is used up.
    ///
    /// # Errors
    /// If a frame of a known kind exceeds the bound. The stream makes no sense from there on.
    pub fn next<'a, 'i: 'a>(
        &'a mut self,
        input: &mut &'i [u8],
    ) -> Result<Option<Item<'a>>, Malformed> {
        if core::mem::take(&mut self.partial_spent) {
            self.partial.clear();
        }
        loop {
            if self.skip > 0 {
                let passed = usize::try_from(self.skip).unwrap_or(usize::MAX).min(input.len());
                *input = &input[passed..];
                self.skip -= passed as u64;
                if self.skip > 0 {
                    return Ok(None);
                }
            }
            if self.partial.is_empty() {
                match self.unit(input)? {
                    Unit::Head(head, end) => {
                        *input = &input[end..];
                        self.head_seen = true;
                        return Ok(Some(Item::Head(head)));
                    }
                    Unit::Frame { kind, start, end, skip } => {
                        self.skip = skip;
                        let (unit, rest) = input.split_at(end);
                        *input = rest;
                        return Ok(Some(Item::Frame { kind, body: &unit[start..] }));
                    }
                    Unit::Skip(header, body) => {
                        *input = &input[header..];
                        self.skip = body;
                    }
                    Unit::Needs(_) => {
                        self.hold(input);
                        *input = &[];
                        return Ok(None);
                    }
                }
            } else {
                match self.unit(&self.partial)? {
                    Unit::Head(head, end) => {
                        debug_assert_eq!(end, self.partial.len());
                        self.head_seen = true;
                        self.partial_spent = true;
                        return Ok(Some(Item::Head(head)));
                    }
                    Unit::Frame { kind, start, end, skip } => {
                        self.skip = skip;
                        debug_assert_eq!(end, self.partial.len());
                        self.partial_spent = true;
                        return Ok(Some(Item::Frame { kind, body: &self.partial[start..] }));
                    }
                    Unit::Skip(header, body) => {
                        debug_assert_eq!(header, self.partial.len());
                        self.partial.clear();
                        self.skip = body;
                    }
                    Unit::Needs(length) => {
                        if input.is_empty() {
                            return Ok(None);
                        }
                        let missing = (length - self.partial.len()).min(input.len());
                        self.hold(&input[..missing]);
                        *input = &input[missing..];
                    }
                }
            }
        }
    }

    /// Keeps bytes of a cut-off unit. The buffer grows with what has come, not with what was
    /// announced, and never beyond the longest unit.
    fn hold(&mut self, bytes: &[u8]) {
        let needed = self.partial.len() + bytes.len();
        if needed > self.partial.capacity() {
            let longest = self.body_max.saturating_add(HEADER_MAX).max(needed);
            let capacity = (2 * self.partial.capacity()).clamp(needed, longest);
            self.partial.reserve_exact(capacity - self.partial.len());
        }
        self.partial.extend_from_slice(bytes);
    }

    /// Call at the end of the stream.
    ///
    /// # Errors
    /// If the stream ends before its head, or in the middle of a frame.
    pub fn finish(&self) -> Result<(), Malformed> {
        let between = self.partial.is_empty() || self.partial_spent;
        if self.head_seen && between && self.skip == 0 { Ok(()) } else { Err(Malformed::Truncated) }
    }

    fn unit(&self, bytes: &[u8]) -> Result<Unit, Malformed> {
        let cut_off = Unit::Needs(bytes.len() + 1);
        if !self.head_seen {
            return Ok(
                StreamHead::decode(bytes)?.map_or(cut_off, |(head, end)| Unit::Head(head, end))
            );
        }
        let Some((kind, kind_len)) = peek_varint(bytes) else { return Ok(cut_off) };
        let Some((body, body_len)) = peek_varint(&bytes[kind_len..]) else { return Ok(cut_off) };
        let start = kind_len + body_len;
        let is_long = body > self.body_max as u64;
        let taken = match is_long {
            true if kind::is_known(kind) => return Err(Malformed::FrameTooLong),
            true if !kind::has_place(kind) => return Ok(Unit::Skip(start, body)),
            true => START_BYTES.min(self.body_max),
            false => body as usize,
        };
        let (end, skip) = (start + taken, body - taken as u64);
        let is_here = bytes.len() >= end;
        Ok(if is_here { Unit::Frame { kind, start, end, skip } } else { Unit::Needs(end) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn l12_long_frames_of_unknown_kind_are_passed_over_and_not_held() {
        let mut bytes = Vec::new();
        StreamHead::Requests.encode(&mut bytes);
        put_varint(&mut bytes, 99);
        put_varint(&mut bytes, 10_000);
        bytes.resize(bytes.len() + 10_000, 7);
        bytes.extend_from_slice(&[63, 1, 42]);
        for cut in [1, 3, 4096, usize::MAX] {
            let mut decoder = StreamDecoder::new(100);
            let mut seen = vec![];
            for mut piece in bytes.chunks(cut) {
                while let Some(item) = decoder.next(&mut piece).unwrap() {
                    seen.push(match item {
                        Item::Head(head) => (Some(head), 0, vec![]),
                        Item::Frame { kind, body } => (None, kind, body.to_vec()),
                    });
                }
            }
            assert_eq!(seen, [(Some(StreamHead::Requests), 0, vec![]), (None, 63, vec![42])]);
            assert!(decoder.held_bytes() <= 100);
            assert_eq!(decoder.finish(), Ok(()));
        }
    }

    #[test]
    fn l12_of_a_long_unknown_update_or_request_the_start_is_handed_out() {
        for kind in [7, 15] {
            let mut bytes = vec![REQUESTS as u8, kind, 0x80, 0, 39, 16];
            bytes.extend((0..10_000).map(|at| at as u8));
            bytes.extend_from_slice(&[63, 1, 42]);
            for cut in [1, 3, 19, 4096, usize::MAX] {
                let mut decoder = StreamDecoder::new(100);
                let mut seen = vec![];
                for mut piece in bytes.chunks(cut) {
                    while let Some(item) = decoder.next(&mut piece).unwrap() {
                        if let Item::Frame { kind, body } = item {
                            seen.push((kind, body.to_vec()));
                        }
                    }
                    assert!(piece.is_empty() && decoder.held_bytes() <= 100);
                }
                let start = (0..START_BYTES as u8).collect();
                assert_eq!(seen, [(kind.into(), start), (63, vec![42])], "in pieces of {cut}");
                assert_eq!(decoder.finish(), Ok(()));
            }
        }
    }

    #[test]
    fn frames_of_known_kind_beyond_the_bound_are_refused() {
        let mut decoder = StreamDecoder::new(100);
        let bytes = [REQUESTS as u8, kind::FETCH as u8, 0x40, 101];
        let mut input = &bytes[..];
        assert_eq!(decoder.next(&mut input), Ok(Some(Item::Head(StreamHead::Requests))));
        assert_eq!(decoder.next(&mut input), Err(Malformed::FrameTooLong));
    }

    #[test]
    fn a_stream_may_not_end_in_the_middle() {
        let bytes = [REQUESTS as u8, 63, 2, 1, 1];
        for length in 0..=bytes.len() {
            let mut decoder = StreamDecoder::new(100);
            let mut input = &bytes[..length];
            while decoder.next(&mut input).unwrap().is_some() {}
            assert_eq!(decoder.finish().is_ok(), length == 1 || length == bytes.len(), "{length}");
        }
    }
}
