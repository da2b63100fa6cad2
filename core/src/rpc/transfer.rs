//! The two directions of a call's stream, as their sender and their receiver have them.

use alloc::vec::Vec;
use bytes::Bytes;
use core::time::Duration;

use crate::config::RouteConfig;
use crate::send_buffer::SendBuffer;
use crate::time::Time;

/// Bytes of all frames of one direction: a `Continue` and the final reply, or a head.
pub(super) const FRAMES_MAX: usize = 64;

/// The number of bytes of one stream that are sent before it is another stream's turn.
const PIECE_BYTES_MAX: usize = 64 << 10;

/// The time that a body may lag behind `rate_min`, to begin and to recover from pauses. It covers
/// one or two packet losses at any round trip time on earth.
const RATE_GRACE: Duration = Duration::from_secs(5);

/// Frames and a body, of which a part may be sent at once.
#[derive(Debug, Default)]
pub(super) struct Sending {
    frames: heapless::Vec<u8, FRAMES_MAX>,
    body: Bytes,
    body_length: usize,
    /// Bytes of the body that may be sent by now.
    allowed: usize,
    /// Bytes of frames and body that the transport has accepted.
    sent: usize,
    /// The stream ends behind the body.
    ends: bool,
    ended: bool,
    /// The transport accepts no more until it reports the stream writable.
    blocked: bool,
    /// It is in the queue of its route.
    pub(super) is_queued: bool,
}

/// A piece of it that was offered to the transport.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Offer {
    bytes: usize,
    pub(super) ends: bool,
}

impl Sending {
    /// Appends a frame, before anything of the body has been sent.
    pub(super) fn frame(&mut self, encode: impl FnOnce(&mut heapless::Vec<u8, FRAMES_MAX>)) {
        assert!(self.sent <= self.frames.len() && !self.ends);
        encode(&mut self.frames);
    }

    /// Sets the body, which goes behind the frames. `allowed` bytes of it may be sent at once.
    pub(super) fn body(&mut self, body: Bytes, allowed: usize) {
        self.allowed = allowed.min(body.len());
        self.body_length = body.len();
        self.body = body;
    }

    /// Bytes of the whole body.
    pub(super) fn body_length(&self) -> u64 {
        self.body_length as u64
    }

    /// All of the body may be sent.
    pub(super) fn allow_all(&mut self) {
        self.allowed = self.body_length;
    }

    /// Whether the body is longer than what may be sent by now.
    pub(super) fn is_waiting(&self) -> bool {
        self.allowed < self.body_length
    }

    /// The receiver does not want the rest.
    pub(super) fn abandon(&mut self) {
        (self.body, self.ended) = (Bytes::new(), true);
    }

    /// The stream may end behind the body.
    pub(super) fn end(&mut self) {
        self.ends = true;
    }

    fn length(&self) -> usize {
        self.frames.len() + self.body_length
    }

    /// Whether the transport has accepted all bytes, though perhaps not the end of the stream.
    pub(super) fn is_sent(&self) -> bool {
        self.sent == self.length()
    }

    /// Whether the transport has accepted all bytes and the end of the stream.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Whether something can be sent now.
    pub(super) fn is_due(&self) -> bool {
        let is_allowed = self.sent < self.frames.len() + self.allowed;
        !self.blocked && !self.ended && (is_allowed || self.ends && self.is_sent())
    }

    /// What is to be sent next, up to `room` bytes.
    pub(super) fn offer(&self, room: usize, out: &mut SendBuffer) -> Offer {
        let start = self.sent;
        let end = (self.frames.len() + self.allowed).min(start + room.min(PIECE_BYTES_MAX));
        let frames = self.frames.len();
        out.inline.extend_from_slice(&self.frames[start.min(frames)..end.min(frames)]);
        let body = start.max(frames) - frames..end.max(frames) - frames;
        if !body.is_empty() {
            out.payload(&self.body[body.clone()], || self.body.slice(body));
        }
        Offer { bytes: end - start, ends: self.ends && end == self.length() }
    }

    /// The transport has accepted this many bytes of an offer.
    pub(super) fn written(&mut self, offer: Offer, bytes: usize) {
        self.sent += bytes;
        if bytes < offer.bytes {
            self.blocked = true;
        } else {
            self.ended = offer.ends;
        }
        if self.is_sent() {
            self.body = Bytes::new();
        }
    }

    pub(super) fn unblock(&mut self) {
        self.blocked = false;
    }
}

/// A body on its way in.
#[derive(Debug)]
pub(super) struct Receiving {
    length: usize,
    /// The number of bytes for which there is room. No more are accepted.
    granted: usize,
    body: Vec<u8>,
    /// When room was granted last, and the bytes that had been received by then.
    since: Time,
    base: usize,
}

impl Receiving {
    pub(super) fn new(now: Time, length: usize, granted: usize) -> Self {
        let granted = granted.min(length);
        Self { length, granted, body: Vec::with_capacity(granted), since: now, base: 0 }
    }

    /// There is room for all of it.
    pub(super) fn grant_all(&mut self, now: Time) {
        self.granted = self.length;
        self.body.reserve_exact(self.length - self.body.len());
        (self.since, self.base) = (now, self.body.len());
    }

    pub(super) fn length(&self) -> usize {
        self.length
    }

    pub(super) fn is_complete(&self) -> bool {
        self.body.len() == self.length
    }

    /// The number of bytes that are accepted now: those for which there is room, and one byte
    /// behind the end, which is a fault of the peer.
    pub(super) fn wants(&self) -> usize {
        if self.is_complete() { 1 } else { self.granted - self.body.len() }
    }

    /// Takes bytes. False if they lie behind the end.
    pub(super) fn push(&mut self, bytes: &[u8]) -> bool {
        let is_within = bytes.len() <= self.granted - self.body.len();
        if is_within {
            self.body.extend_from_slice(bytes);
        }
        is_within
    }

    /// When it is too slow, if nothing more arrives. Never while it waits for room at this node.
    pub(super) fn overdue_at(&self, config: &RouteConfig) -> Time {
        if self.body.len() == self.granted {
            return Time::NEVER;
        }
        let received = (self.body.len() - self.base) as u64;
        let earned = Duration::from_millis(received * 1000 / u64::from(config.rate_min));
        self.since + RATE_GRACE + earned
    }

    pub(super) fn into_body(self) -> Bytes {
        self.body.into()
    }
}
