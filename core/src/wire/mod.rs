//! Wire format, version 1: what travels in a QUIC stream between two nodes.
//!
//! Every stream is a *head* followed by *frames* until its end. A head is the stream's type and
//! what the type adds; a frame is `kind, length, body`. All numbers are variable-length integers
//! of RFC 9000, section 16.
//!
//! | stream | head | frames | direction |
//! | --- | --- | --- | --- |
//! | hello | `0` | [`Hello`] fields | the first stream each way |
//! | updates | `1, channel` | [`Update`]s, [`Chunk`]s behind a streamed advert | sender of a slot table |
//! | requests | `2` | [`Request`]s, [`Receipt`](Request::Receipt)s | both |
//! | chunks | `3, request` | [`Chunk`]s | answer to [`Request::Fetch`] |
//! | twin | `4` | none | to the process that is connected, of the other one that was refused |
//!
//! An update begins with its slot and version, a request with its number; the exceptions are
//! [`Update::Snapshot`] and [`Request::Receipt`]. A payload has its length before it.
//!
//! What is said of an artifact with a key is of a kind of its own: slot, version, the key (8 bytes, big
//! endian), the kind that it would be of without a key, and the fields of that kind behind slot and
//! version. The key is part of the artifact's id, so that who does not know the kind, or the one within,
//! must not take it for something else: to such a receiver the slot is clear. Minor version 1.
//!
//! Replicas of different ages form one subnet (scenario L12). What a later minor version adds is taken
//! like this:
//!
//! | what is not known | what becomes of it |
//! | --- | --- |
//! | fields behind the known ones, up to [`FURTHER_BYTES_MAX`] bytes | passed over, in every frame |
//! | a frame of kind 0 to 7, the updates | [`Update::Unknown`]: taken for a clear of its slot, whose earlier content is not current any more |
//! | a frame of kind 8 to 15, the requests | [`Request::Unknown`]: refused with [`Refusal::UnknownRequest`] |
//! | any other kind of frame | passed over, however long it is |
//! | a type of stream | the stream is stopped |
//!
//! All of these are unidirectional. A bidirectional stream is one call: each direction begins with
//! frames and goes on with a body, whose length a frame has said, until its end.
//!
//! | direction | frames | then |
//! | --- | --- | --- |
//! | caller to callee | a [`CallHead`] | the request |
//! | callee to caller | [`Reply`]s, the last of which is not `Continue` | the answer, if there is one |
//!
//! Decoders here know no state: what is well-formed but wrong (a slot beyond the bound, a chunk
//! that nobody asked for) is found by the machine that owns the state. They never allocate more
//! than the bound that they are given, and are indifferent to how the bytes are cut.

#[cfg_attr(not(feature = "internals"), allow(unreachable_pub, reason = "public in `internals`"))]
pub(crate) mod call;
mod fetch;
mod hello;
mod stream;
mod update;

pub(crate) use call::FrameReader;
pub use call::{CALL_FRAME_MAX, CallHead, CallRefusal, CallReset, EAGER_BYTES_MAX, Reply};
pub use fetch::{Chunk, ChunkRange, RANGES_MAX, Ranges, Refusal, Request};
pub(crate) use fetch::{count_chunks, put_chunk_start};
pub use hello::{
    CHANNELS_MAX, ChannelHello, HELLO_BYTES_MAX, Hello, MINOR, QuotaHello, ROUTES_MAX, RouteHello,
};
pub use stream::{Item, StreamDecoder, StreamHead};
pub use update::{CHUNK_BITS_MAX, ChunkBits, LiveSlots, Update};
pub(crate) use update::{Told, put_clear, put_push_start, put_snapshot_start, put_told};

use alloc::vec::Vec;

/// Bytes that the head, kind and fixed fields of a frame take at most, beside metadata, payload
/// and proof.
pub const FRAME_OVERHEAD_MAX: usize = 64;

/// Bytes of fields that a later minor version may have put behind the known ones of a frame, at most.
/// Calls have what [`CALL_FRAME_MAX`] leaves.
pub const FURTHER_BYTES_MAX: usize = 128;

/// Why bytes are not what the wire format allows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// The stream or frame ends in the middle of a field.
    #[error("malformed: ends in the middle of a field")]
    Truncated,
    /// A call has bytes behind its body.
    #[error("malformed: bytes behind the body")]
    Trailing,
    /// A field holds a number beyond its range.
    #[error("malformed: a number beyond its range")]
    OutOfRange,
    /// A frame of a known kind is longer than such a frame may be here.
    #[error("malformed: a frame longer than its kind may be")]
    FrameTooLong,
    /// A frame of a known kind stands in a stream where it has no meaning.
    #[error("malformed: a frame in a stream where it has no meaning")]
    Misplaced,
    /// A channel or route is named twice, or there are too many.
    #[error("malformed: a channel or route is named twice, or there are too many")]
    Repeated,
    /// A frame of unknown kind where it cannot be passed over.
    #[error("malformed: a frame of unknown kind where it cannot be passed over")]
    UnknownKind,
}

/// Frame kinds: one numbering for all streams.
#[allow(missing_docs, reason = "each is named after its frame")]
#[cfg_attr(not(feature = "internals"), allow(unreachable_pub, reason = "public in `internals`"))]
pub(crate) mod kind {
    pub const CLEAR: u64 = 0;
    pub const PUSH: u64 = 1;
    pub const ADVERT: u64 = 2;
    pub const PARTIAL: u64 = 3;
    pub const SNAPSHOT: u64 = 4;
    pub const KEYED: u64 = 5;
    // Up to 7: updates.
    pub const FETCH: u64 = 8;
    pub const CANCEL: u64 = 9;
    pub const REFUSE: u64 = 10;
    // Up to 15: requests.
    pub const CHUNK: u64 = 16;
    /// No request, so that a node that does not know it passes it over.
    pub const RECEIPT: u64 = 17;
    pub const HELLO_MINOR: u64 = 32;
    pub const HELLO_INCARNATION: u64 = 33;
    pub const HELLO_CHANNEL: u64 = 34;
    pub const HELLO_ROUTE: u64 = 35;
    pub const HELLO_SENDER_CHANNEL: u64 = 36;
    pub const HELLO_QUOTA: u64 = 37;
    pub const CALL: u64 = 48;
    pub const CONTINUE: u64 = 49;
    pub const ANSWER: u64 = 50;
    pub const BUSY: u64 = 51;
    pub const REFUSED: u64 = 52;
    pub const GRANT: u64 = 53;

    /// Whether this version gives the kind a meaning, so that a bound holds for its length.
    pub const fn is_known(kind: u64) -> bool {
        matches!(
            kind,
            CLEAR..=KEYED
                | FETCH..=REFUSE
                | CHUNK..=RECEIPT
                | HELLO_MINOR..=HELLO_QUOTA
                | CALL..=GRANT
        )
    }

    /// Whether the kind is one of updates, in this version or a later one.
    pub const fn is_update(kind: u64) -> bool {
        kind < FETCH
    }

    /// Whether the kind is one of requests, in this version or a later one.
    pub const fn is_request(kind: u64) -> bool {
        FETCH <= kind && kind < CHUNK
    }

    /// Whether it is known in which streams the kind may stand.
    pub const fn has_place(kind: u64) -> bool {
        is_known(kind) || is_update(kind) || is_request(kind)
    }
}

/// Bytes of `value` as a variable-length integer.
pub(crate) const fn varint_len(value: u64) -> usize {
    match value {
        0..0x40 => 1,
        0x40..0x4000 => 2,
        0x4000..0x4000_0000 => 4,
        _ => 8,
    }
}

/// Appends `value` in its shortest form; values end at 2^62 − 1.
pub(crate) fn put_varint(out: &mut Vec<u8>, value: u64) {
    debug_assert!(value < 1 << 62);
    match varint_len(value) {
        1 => out.push(value as u8),
        2 => out.extend_from_slice(&(value as u16 | 0x4000).to_be_bytes()),
        4 => out.extend_from_slice(&(value as u32 | 0x8000_0000).to_be_bytes()),
        _ => out.extend_from_slice(&(value | 0xc000_0000_0000_0000).to_be_bytes()),
    }
}

/// Appends what stands before a frame's body.
pub(crate) fn put_frame_start(out: &mut Vec<u8>, kind: u64, body: usize) {
    put_varint(out, kind);
    put_varint(out, body as u64);
}

/// The variable-length integer at the start of `input`, and its length; `None` if it is cut off.
pub(crate) fn peek_varint(input: &[u8]) -> Option<(u64, usize)> {
    let first = *input.first()?;
    let length = 1 << (first >> 6);
    let rest = input.get(1..length)?;
    let value =
        rest.iter().fold(u64::from(first & 0x3f), |value, byte| value << 8 | u64::from(*byte));
    Some((value, length))
}

/// The largest number that a variable-length integer holds.
pub(crate) const VARINT_MAX: u64 = (1 << 62) - 1;

/// Reads the fields of one complete frame body.
pub(crate) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) const fn new(body: &'a [u8]) -> Self {
        Self(body)
    }

    pub(crate) fn varint(&mut self) -> Result<u64, Malformed> {
        let (value, length) = peek_varint(self.0).ok_or(Malformed::Truncated)?;
        self.0 = &self.0[length..];
        Ok(value)
    }

    /// A number that older versions do not send, if it is there.
    pub(crate) fn varint_if_any(&mut self) -> Result<Option<u64>, Malformed> {
        if self.0.is_empty() { Ok(None) } else { self.varint().map(Some) }
    }

    pub(crate) fn small<T: TryFrom<u64>>(&mut self) -> Result<T, Malformed> {
        self.varint()?.try_into().map_err(|_| Malformed::OutOfRange)
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Malformed::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    /// Bytes behind their length.
    pub(crate) fn payload(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.small()?;
        self.bytes(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_are_those_of_rfc_9000_appendix_a() {
        for (value, text) in [
            (151_288_809_941_952_652, &[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c][..]),
            (494_878_333, &[0x9d, 0x7f, 0x3e, 0x7d]),
            (15_293, &[0x7b, 0xbd]),
            (37, &[0x25]),
        ] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!((&out[..], out.len()), (text, varint_len(value)));
            assert_eq!(peek_varint(text), Some((value, text.len())));
            assert_eq!(peek_varint(&text[..text.len() - 1]), None);
        }
        assert_eq!(peek_varint(&[0x40, 0x25]), Some((37, 2)), "longer forms are read, too");
    }
}
