//! Calls: the frames at the start of each direction of a bidirectional stream.

use heapless::Vec;

use super::{Fields, Malformed, kind, peek_varint};
use crate::id::RouteId;

/// Bytes of the longest frame of a call. A longer one is a fault.
pub const CALL_FRAME_MAX: usize = 64;

/// Of a body, so many bytes may be sent before the receiver has said that it has room. Above it, the
/// round trip that this takes costs less than the bytes; below, more.
pub const EAGER_BYTES_MAX: usize = 16 << 10;

/// The frame before a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CallHead {
    /// The route.
    pub route: RouteId,
    /// How long the caller waits from now on, in milliseconds.
    pub timeout_ms: u32,
    /// Bytes of the answer that may be sent at once. The rest waits for the end of this direction,
    /// which says that there is room for all of it.
    pub prepaid: u32,
    /// Bytes in the request.
    pub length: u32,
    /// Whether an answer is wanted. If not, the callee answers with none as soon as its application has
    /// the request; an older node takes it for any other request.
    pub wants_answer: bool,
}

/// The flag of a request that wants no answer.
const NO_ANSWER: u64 = 1;

/// What the callee says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reply {
    /// There is room for the rest of the request.
    Continue,
    /// There is room for the bytes of the request up to here; or, in the caller's direction behind the
    /// request, of the answer. Only for peers that [know it](super::RouteHello::knows_grants).
    Grant {
        /// Bytes of the body.
        until: u32,
    },
    /// The answer follows.
    Answer {
        /// Bytes in it.
        length: u32,
    },
    /// The callee has too much to do.
    Busy {
        /// When to try again, in milliseconds.
        retry_after_ms: u32,
    },
    /// There will be no answer.
    Refused(CallRefusal),
}

/// Why there will be no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CallRefusal {
    /// The callee does not serve the route.
    NotServed,
    /// The callee's application did not answer.
    Dropped,
    /// A reason that this version does not know.
    Other(u64),
}

/// Why an end takes its direction of a call's stream back, and stops the other's: the application
/// error code of RESET_STREAM and STOP_SENDING (RFC 9000, sections 19.4 and 19.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CallReset {
    /// The rest is of no use, for whatever reason: code 1, and any that this version does not know.
    Unneeded,
    /// The callee works on no request for longer than its `deadline_max`: code 3.
    DeadlineMax,
    /// The request came more slowly than the callee's `rate_min`: code 4.
    TooSlow,
}

impl CallReset {
    /// The code on the wire.
    pub const fn code(self) -> u32 {
        match self {
            Self::Unneeded => 1,
            // 2 is a fault of the peer.
            Self::DeadlineMax => 3,
            Self::TooSlow => 4,
        }
    }

    /// What a code says.
    pub const fn from_code(code: u64) -> Self {
        match code {
            3 => Self::DeadlineMax,
            4 => Self::TooSlow,
            _ => Self::Unneeded,
        }
    }
}

/// Frames of a call: small, so that they need no heap.
type Frame<const N: usize> = Vec<u8, N>;

fn put<const N: usize>(out: &mut Frame<N>, kind: u64, numbers: &[u64]) {
    let mut body = Frame::<CALL_FRAME_MAX>::new();
    numbers.iter().for_each(|number| put_number(&mut body, *number));
    put_number(out, kind);
    put_number(out, body.len() as u64);
    out.extend_from_slice(&body).expect(FITS);
}

/// What is appended here has numbers of 32 bits but for one, and is at most four frames.
const FITS: &str = "frames of a call are short";

fn put_number<const N: usize>(out: &mut Frame<N>, value: u64) {
    let bytes = value.to_be_bytes();
    let (length, mark) = match super::varint_len(value) {
        1 => (1, 0x00),
        2 => (2, 0x40),
        4 => (4, 0x80),
        _ => (8, 0xc0),
    };
    let at = out.len();
    out.extend_from_slice(&bytes[8 - length..]).expect(FITS);
    out[at] |= mark;
}

impl CallHead {
    /// Appends the frame.
    ///
    /// # Panics
    /// If `out` has no room for [`CALL_FRAME_MAX`] more bytes.
    pub fn encode<const N: usize>(&self, out: &mut Vec<u8, N>) {
        let Self { route, timeout_ms, prepaid, length, wants_answer } = *self;
        let numbers = [route.0.into(), timeout_ms.into(), prepaid.into(), length.into(), NO_ANSWER];
        // Flags are sent if there are any.
        let count = if wants_answer { 4 } else { 5 };
        put(out, kind::CALL, &numbers[..count]);
    }

    /// The head in a frame. What a later minor version appends is passed over.
    ///
    /// # Errors
    /// If the body is cut off, or the frame is of another kind.
    pub fn decode(kind: u64, body: &[u8]) -> Result<Self, Malformed> {
        if kind != kind::CALL {
            return Err(wrong_kind(kind));
        }
        let mut fields = Fields::new(body);
        Ok(Self {
            route: RouteId(fields.small()?),
            timeout_ms: fields.small()?,
            prepaid: fields.small()?,
            length: fields.small()?,
            wants_answer: fields.varint_if_any()?.unwrap_or(0) & NO_ANSWER == 0,
        })
    }
}

impl Reply {
    /// The first byte of a [`Reply::Grant`].
    pub(crate) const GRANT_KIND: u8 = kind::GRANT as u8;

    /// Appends the frame.
    ///
    /// # Panics
    /// If `out` has no room for [`CALL_FRAME_MAX`] more bytes.
    pub fn encode<const N: usize>(&self, out: &mut Vec<u8, N>) {
        match *self {
            Self::Continue => put(out, kind::CONTINUE, &[]),
            Self::Grant { until } => put(out, kind::GRANT, &[until.into()]),
            Self::Answer { length } => put(out, kind::ANSWER, &[length.into()]),
            Self::Busy { retry_after_ms } => put(out, kind::BUSY, &[retry_after_ms.into()]),
            Self::Refused(why) => {
                let why = match why {
                    CallRefusal::NotServed => 0,
                    CallRefusal::Dropped => 1,
                    CallRefusal::Other(why) => why,
                };
                put(out, kind::REFUSED, &[why]);
            }
        }
    }

    /// The reply in a frame. What a later minor version appends is passed over.
    ///
    /// # Errors
    /// If the body is cut off, or the frame is of another kind.
    pub fn decode(kind: u64, body: &[u8]) -> Result<Self, Malformed> {
        let mut fields = Fields::new(body);
        Ok(match kind {
            kind::CONTINUE => Self::Continue,
            kind::GRANT => Self::Grant { until: fields.small()? },
            kind::ANSWER => Self::Answer { length: fields.small()? },
            kind::BUSY => Self::Busy { retry_after_ms: fields.small()? },
            kind::REFUSED => Self::Refused(match fields.varint()? {
                0 => CallRefusal::NotServed,
                1 => CallRefusal::Dropped,
                why => CallRefusal::Other(why),
            }),
            _ => return Err(wrong_kind(kind)),
        })
    }
}

fn wrong_kind(kind: u64) -> Malformed {
    if kind::is_known(kind) { Malformed::Misplaced } else { Malformed::UnknownKind }
}

/// Gathers one frame, and not a byte of what follows it.
#[derive(Debug, Default)]
pub struct FrameReader {
    held: Vec<u8, CALL_FRAME_MAX>,
}

impl FrameReader {
    /// Bytes that are missing from the frame, as far as one can know.
    ///
    /// # Errors
    /// If the frame is too long, or of a kind that begins no direction of a call.
    pub fn missing(&self) -> Result<usize, Malformed> {
        let Some((kind, start)) = peek_varint(&self.held) else {
            // A kind and a length, of a byte each at least.
            return Ok(if self.held.is_empty() { 2 } else { 1 });
        };
        if !kind::is_known(kind) {
            return Err(Malformed::UnknownKind);
        }
        let Some((length, more)) = peek_varint(&self.held[start..]) else { return Ok(1) };
        let end = start as u64 + more as u64 + length;
        if end > CALL_FRAME_MAX as u64 {
            return Err(Malformed::FrameTooLong);
        }
        Ok(end as usize - self.held.len())
    }

    /// Takes bytes, no more than are missing.
    ///
    /// # Errors
    /// As for [`FrameReader::missing`].
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        self.held.extend_from_slice(bytes).map_err(|_| Malformed::FrameTooLong)
    }

    /// The frame's kind and body, once nothing is missing.
    pub fn frame(&self) -> (u64, &[u8]) {
        let (kind, start) = peek_varint(&self.held).expect("complete");
        let (_, more) = peek_varint(&self.held[start..]).expect("complete");
        (kind, &self.held[start + more..])
    }

    /// Whether nothing of a frame is there.
    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Begins another frame.
    pub fn clear(&mut self) {
        self.held.clear();
    }
}
