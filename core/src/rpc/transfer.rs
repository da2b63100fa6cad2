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

/// Frames and a body, of which a part may be sent at once. Frames go before all of the body that has not
/// been sent.
#[derive(Debug, Default)]
pub(super) struct Sending {
    frames: heapless::Vec<u8, FRAMES_MAX>,
    /// Bytes of the frames that the transport has accepted.
    frames_sent: usize,
    /// What was given last of the body, up to `given`.
    body: Bytes,
    given: usize,
    body_length: usize,
    /// Bytes of the body that may be sent by now.
    allowed: usize,
    /// Bytes of the body that the transport has accepted.
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
    frames: usize,
    body: usize,
    pub(super) ends: bool,
}

impl Offer {
    pub(super) fn has_body(&self) -> bool {
        self.body > 0
    }
}

impl Sending {
    /// Appends a frame, before anything of the body has been sent or behind all of it.
    pub(super) fn frame(&mut self, encode: impl FnOnce(&mut heapless::Vec<u8, FRAMES_MAX>)) {
        assert!(!self.ends && (self.sent == 0 || self.sent == self.body_length));
        encode(&mut self.frames);
    }

    /// Whether there is room for another frame, beside a final one.
    pub(super) fn has_frame_room(&self) -> bool {
        self.frames.len() <= FRAMES_MAX / 2
    }

    /// Sets the body, which goes behind the frames. `allowed` bytes of it may be sent at once.
    pub(super) fn body(&mut self, body: Bytes, allowed: usize) {
        self.body_in_parts(body.len(), allowed);
        self.give(body);
    }

    /// The same for one of so many bytes that will be given in parts.
    pub(super) fn body_in_parts(&mut self, length: usize, allowed: usize) {
        self.allowed = allowed.min(length);
        self.body_length = length;
    }

    /// The next part of the body, after all that was given before has been sent.
    pub(super) fn give(&mut self, part: Bytes) {
        assert!(self.sent == self.given);
        self.given += part.len();
        assert!(self.given <= self.body_length);
        self.body = part;
    }

    /// Bytes of the body that have not been given.
    pub(super) fn wants(&self) -> usize {
        self.body_length - self.given
    }

    /// Whether all that was given of the body has been sent.
    pub(super) fn is_given(&self) -> bool {
        self.sent == self.given
    }

    /// Bytes of the whole body.
    pub(super) fn body_length(&self) -> u64 {
        self.body_length as u64
    }

    /// All of the body may be sent.
    pub(super) fn allow_all(&mut self) {
        self.allowed = self.body_length;
    }

    /// So many bytes of the body may be sent.
    pub(super) fn allow(&mut self, until: usize) {
        self.allowed = self.allowed.max(until.min(self.body_length));
    }

    /// The same. False if it is no more than before.
    pub(super) fn allow_more(&mut self, until: usize) -> bool {
        let before = self.allowed;
        self.allow(until);
        self.allowed > before
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

    /// Whether the transport has accepted all bytes, though perhaps not the end of the stream.
    pub(super) fn is_sent(&self) -> bool {
        self.frames_sent == self.frames.len() && self.sent == self.body_length
    }

    /// Whether the transport has accepted all bytes and the end of the stream.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Whether something can be sent now.
    pub(super) fn is_due(&self) -> bool {
        let has_bytes =
            self.frames_sent < self.frames.len() || self.sent < self.allowed.min(self.given);
        !self.blocked && !self.ended && (has_bytes || self.ends && self.is_sent())
    }

    /// What is to be sent next, up to `room` bytes.
    pub(super) fn offer(&self, room: usize, out: &mut SendBuffer) -> Offer {
        let room = room.min(PIECE_BYTES_MAX);
        let frames = &self.frames[self.frames_sent..];
        let frames = &frames[..frames.len().min(room)];
        out.inline.extend_from_slice(frames);
        let end = self.allowed.min(self.given).min(self.sent + (room - frames.len()));
        let body = end.saturating_sub(self.sent);
        if body > 0 {
            let start = self.sent - (self.given - self.body.len());
            let range = start..start + body;
            out.payload(&self.body[range.clone()], || self.body.slice(range));
        }
        let is_last = self.frames_sent + frames.len() == self.frames.len()
            && self.sent + body == self.body_length;
        Offer { frames: frames.len(), body, ends: self.ends && is_last }
    }

    /// The transport has accepted this many bytes of an offer.
    pub(super) fn written(&mut self, offer: Offer, bytes: usize) {
        let frames = bytes.min(offer.frames);
        self.frames_sent += frames;
        self.sent += bytes - frames;
        if bytes < offer.frames + offer.body {
            self.blocked = true;
        } else {
            self.ended = offer.ends;
        }
        if self.frames_sent == self.frames.len() {
            self.frames.clear();
            self.frames_sent = 0;
        }
        if self.sent == self.given {
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
    /// What has arrived and was not read before the end: nothing, unless the body is read in parts.
    body: Vec<u8>,
    /// Bytes that were read before.
    read: usize,
    /// When room was granted last, and the bytes that had been received by then.
    since: Time,
    base: usize,
    /// If it is read in parts, the bytes that may arrive ahead of the reader.
    ahead_max: Option<usize>,
    /// The reader waits for more.
    is_awaited: bool,
}

impl Receiving {
    pub(super) fn new(now: Time, length: usize, granted: usize) -> Self {
        let granted = granted.min(length);
        Self {
            length,
            granted,
            body: Vec::with_capacity(granted),
            read: 0,
            since: now,
            base: 0,
            ahead_max: None,
            is_awaited: false,
        }
    }

    /// The same for a body that is read in parts, of which so many bytes may arrive ahead of the reader.
    pub(super) fn in_parts(now: Time, length: usize, granted: usize, ahead_max: usize) -> Self {
        let new = Self::new(now, length, granted);
        Self { body: Vec::new(), ahead_max: Some(ahead_max), ..new }
    }

    /// There is room for all of it.
    pub(super) fn grant_all(&mut self, now: Time) {
        self.body.reserve_exact(self.length - self.received());
        self.grant(now, self.length);
    }

    fn grant(&mut self, now: Time, until: usize) {
        // Time in which it waited for room does not count against the sender.
        if self.received() == self.granted || self.ahead_max.is_none() {
            (self.since, self.base) = (now, self.received());
        }
        self.granted = until;
    }

    /// Of a body that is read in parts, grants what the reader has made room for, if it is worth a frame:
    /// up to which byte.
    pub(super) fn grant_more(&mut self, now: Time) -> Option<usize> {
        let ahead_max = self.ahead_max?;
        let until = self.length.min(self.read.saturating_add(ahead_max));
        let is_due =
            until > self.granted && (until == self.length || until - self.granted >= ahead_max / 2);
        is_due.then(|| {
            self.grant(now, until);
            until
        })
    }

    /// Takes what has arrived. If there is nothing, it is to be told when there is.
    pub(super) fn take(&mut self) -> Option<Bytes> {
        let mut part = core::mem::take(&mut self.body);
        part.shrink_to_fit();
        self.read += part.len();
        self.is_awaited = part.is_empty();
        (!part.is_empty()).then(|| part.into())
    }

    /// The reader waits for the first bytes.
    pub(super) fn await_more(&mut self) {
        self.is_awaited = true;
    }

    /// Bytes of room that it needs.
    pub(super) fn room(&self) -> u64 {
        match self.ahead_max {
            // So many arrive, and as many were read last.
            Some(ahead_max) => self.length.min(ahead_max.saturating_mul(2)) as u64,
            None => self.length as u64,
        }
    }

    /// Whether the reader waits, and is to be told that there is something.
    pub(super) fn wakes_reader(&mut self) -> bool {
        core::mem::take(&mut self.is_awaited)
    }

    pub(super) fn length(&self) -> usize {
        self.length
    }

    pub(super) fn is_in_parts(&self) -> bool {
        self.ahead_max.is_some()
    }

    fn received(&self) -> usize {
        self.read + self.body.len()
    }

    pub(super) fn is_complete(&self) -> bool {
        self.received() == self.length
    }

    /// The number of bytes that are accepted now: those for which there is room, and one byte
    /// behind the end, which is a fault of the peer.
    pub(super) fn wants(&self) -> usize {
        if self.is_complete() { 1 } else { self.granted - self.received() }
    }

    /// Takes bytes. False if they lie behind the end.
    pub(super) fn push(&mut self, bytes: &[u8]) -> bool {
        let is_within = bytes.len() <= self.granted - self.received();
        if is_within {
            if self.body.capacity() - self.body.len() < bytes.len() {
                // It grows by doubling, but not beyond what is granted.
                let more = bytes.len().max(self.body.len());
                self.body.reserve_exact(more.min(self.granted - self.received()));
            }
            self.body.extend_from_slice(bytes);
        }
        is_within
    }

    /// When it is too slow, if nothing more arrives. Never while it waits for room at this node.
    pub(super) fn overdue_at(&self, config: &RouteConfig) -> Time {
        if self.received() == self.granted {
            return Time::NEVER;
        }
        let received = (self.received() - self.base) as u64;
        let earned = Duration::from_millis(received * 1000 / u64::from(config.rate_min));
        self.since + RATE_GRACE + earned
    }

    pub(super) fn into_body(self) -> Bytes {
        self.body.into()
    }
}
