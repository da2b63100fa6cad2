//! Bodies in parts: requests and answers that their senders give piece by piece, or their receivers read
//! while they arrive. A reader holds no more of one than [`STREAM_BYTES_KEPT`], a giver no more than two
//! parts of [`PART_BYTES_MAX`], however long it is.
//!
//! The length is said at the start, as for whole bodies, and the same bounds hold. On the wire there is no
//! difference but in the credit: who reads in parts grants room bit by bit, to a peer that knows
//! [`Reply::Grant`](crate::wire::Reply::Grant). For a body of another peer there is room as for a whole one.

use super::{CallId, RequestId};

/// Bytes of a body that may arrive ahead of its reader: 8 MB/s over 30 ms.
pub(super) const READ_AHEAD: usize = 256 << 10;

/// Bytes of the room that is kept for a body that is read in parts: what has arrived and was not read, and
/// the part that was read last.
pub const STREAM_BYTES_KEPT: u32 = 2 * READ_AHEAD as u32;

/// Bytes of a part that is given to be sent. There is room for two: for one that is being sent, and for the
/// one before it, of which the transport may keep some.
pub const PART_BYTES_MAX: usize = 128 << 10;

/// Room for a request of so many bytes that is given in parts.
pub(super) fn giving_room(length: u64) -> u64 {
    length.min(2 * PART_BYTES_MAX as u64)
}

const _: () = assert!(2 * PART_BYTES_MAX <= super::ANSWER_BYTES_KEPT as usize);

/// What is given or read in parts: the request of a call or the answer to it, as far as this node sends or
/// receives it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Stream {
    /// A call of this node: its request is given, its answer read.
    Call(CallId),
    /// A request of a peer: it is read, and its answer given.
    Request(RequestId),
}

/// What happens to a body in parts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StreamEvent {
    /// The transport has all that was given: another part may be.
    Writable(Stream),
    /// There is something to be read, after there was nothing.
    Readable(Stream),
    /// An answer that was given in parts is over: it has arrived, or it will not.
    Over {
        /// The request.
        request: RequestId,
        /// All of it was sent, and the caller has it or has ended the call itself.
        has_arrived: bool,
    },
}

/// What there is to be read of a body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Part {
    /// Nothing now: [`StreamEvent::Readable`] says when.
    None,
    /// The next bytes.
    Bytes(bytes::Bytes),
    /// All of it has been read; or there is no such body (any more).
    End,
}

/// Room for a body of so many bytes that is read in parts.
pub(super) fn reading_room(length: u32) -> u64 {
    length.min(STREAM_BYTES_KEPT).into()
}
