//! Bodies in parts, as plainly as possible: what their giver may do, and what their reader has to get.

use bytes::Bytes;

use slotcast::error::PartError;
use slotcast::rpc::{PART_BYTES_MAX, Part, STREAM_BYTES_KEPT, Stream};

/// A body that an application gives.
pub(super) struct Giver {
    pub(super) at: usize,
    pub(super) stream: Stream,
    body: Bytes,
    given: usize,
    /// There is nothing under way of what was given last.
    may_give: bool,
    /// Parts without bytes, of which the event has not come.
    empty: usize,
    /// It was told that no more is wanted.
    pub(super) is_unwanted: bool,
}

impl Giver {
    pub(super) fn new(at: usize, stream: Stream, body: Bytes) -> Self {
        Self { at, stream, body, given: 0, may_give: true, empty: 0, is_unwanted: false }
    }

    pub(super) fn is_done(&self) -> bool {
        self.given == self.body.len()
    }

    /// Whether the application has reason to give more.
    pub(super) fn wants_to_give(&self) -> bool {
        self.may_give && !self.is_done() && !self.is_unwanted
    }

    /// Bytes in the longest part that may be given.
    pub(super) fn next_length(&self) -> usize {
        PART_BYTES_MAX.min(self.body.len() - self.given)
    }

    /// The next part, of so many bytes. Behind the end there are others.
    pub(super) fn part(&self, length: usize) -> Bytes {
        let left = self.body.slice(self.given..);
        if length <= left.len() { left.slice(..length) } else { vec![7; length].into() }
    }

    /// What came of giving a part.
    pub(super) fn gave(&mut self, length: usize, result: Result<(), PartError>) {
        let left = self.body.len() - self.given;
        if self.is_unwanted || result == Err(PartError::NotWanted) {
            assert_eq!(result, Err(PartError::NotWanted), "it stays so");
            self.is_unwanted = true;
            return;
        }
        if self.is_done() && length > 0 {
            // Whether the last part has been sent, nobody tells.
            assert!(matches!(result, Err(PartError::NotYet | PartError::TooLong)));
            return;
        }
        let expected = match () {
            () if !self.may_give && !self.is_done() => Err(PartError::NotYet),
            () if length > left.min(PART_BYTES_MAX) => Err(PartError::TooLong),
            () => Ok(()),
        };
        if self.is_done() && result == Err(PartError::NotYet) {
            return;
        }
        assert_eq!(result, expected);
        match (result, length) {
            (Ok(()), 0) => self.empty += 1,
            (Ok(()), _) => {
                self.given += length;
                self.may_give = false;
            }
            (Err(_), _) => {}
        }
    }

    /// It was told that there is room for another part.
    pub(super) fn writable(&mut self) {
        match self.empty {
            0 => {
                assert!(!self.may_give && !self.is_done(), "told once, for a part that was given");
                self.may_give = true;
            }
            _ => self.empty -= 1,
        }
    }
}

/// A body that an application reads.
pub(super) struct Reader {
    pub(super) at: usize,
    pub(super) stream: Stream,
    pub(super) got: Vec<u8>,
    /// There was nothing, and it has not been told of more since.
    waits: bool,
    pub(super) has_ended: bool,
}

impl Reader {
    pub(super) fn new(at: usize, stream: Stream) -> Self {
        Self { at, stream, got: Vec::new(), waits: false, has_ended: false }
    }

    /// Whether the application has reason to read.
    pub(super) fn wants_to_read(&self) -> bool {
        !self.waits && !self.has_ended
    }

    /// What there was to be read.
    pub(super) fn read(&mut self, part: Part) {
        match part {
            Part::Bytes(part) => {
                assert!(!part.is_empty() && !self.has_ended);
                assert!(!self.waits, "it would have been told");
                assert!(part.len() <= STREAM_BYTES_KEPT as usize, "invariant 8");
                self.got.extend_from_slice(&part);
            }
            Part::None => {
                assert!(!self.has_ended, "the end stays the end");
                self.waits = true;
            }
            Part::End => (self.waits, self.has_ended) = (false, true),
        }
    }

    /// It was told that there is something.
    pub(super) fn readable(&mut self) {
        assert!(core::mem::take(&mut self.waits), "only who waits is told, and once");
    }
}
