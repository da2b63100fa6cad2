//! What goes on over one connection of a hostile member, and what of it takes long.

use std::time::Duration;

use bytes::Bytes;
use quinn_proto::StreamId;

use super::bare::LineId;
use super::byzantine::Byzantine;
use super::frames;
use super::heard::Ears;
use slotcast::artifact::Artifact;
use slotcast::id::NodeId;
use slotcast::time::Time;

/// Streams that are written byte by byte, or chunk by chunk, per connection.
const SLOW_MAX: usize = 4;

/// Bytes of a stream that are written one by one.
const DRIP_BYTES_MAX: usize = 1000;

/// Between two bytes.
const DRIP_PAUSE: Duration = Duration::from_secs(1);

/// Between two chunks: little enough not to be passed over as too slow.
const CRAWL_PAUSE: Duration = Duration::from_millis(350);

/// What is written into a stream little by little.
#[derive(Debug)]
struct Slow {
    stream: StreamId,
    /// What comes next, last first.
    rest: Vec<Bytes>,
    finish: bool,
    pause: Duration,
    at: Time,
}

/// What goes on over one connection.
#[derive(Debug)]
pub(super) struct Talk {
    pub(super) node: NodeId,
    /// It has said a hello that the peer can accept.
    pub(super) is_greeted: bool,
    pub(super) ears: Ears,
    slow: Vec<Slow>,
    /// Streams that are kept open, until they are reset.
    held: Vec<(Time, StreamId)>,
    /// Until then, nothing is read.
    pub(super) deaf_until: Time,
    /// Until then, no stream is read to its end.
    pub(super) endless_until: Time,
    /// Until then, all streams of the peer are stopped.
    pub(super) stopping_until: Time,
    requests: u64,
}

impl Talk {
    pub(super) fn new(node: NodeId) -> Self {
        Self {
            node,
            is_greeted: false,
            ears: Ears::default(),
            slow: Vec::new(),
            held: Vec::new(),
            deaf_until: Time::ZERO,
            endless_until: Time::ZERO,
            stopping_until: Time::ZERO,
            requests: 0,
        }
    }

    pub(super) fn next_request(&mut self) -> u64 {
        self.requests += 1;
        self.requests
    }

    /// Streams that are kept open.
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }
}

impl Byzantine {
    /// Writes the beginning of a stream and leaves it at that until then.
    pub(super) fn hold(&mut self, until: Time, line: LineId, bytes: Vec<u8>) -> bool {
        let Some(stream) = self.bare.open(line) else { return false };
        self.talk(line).held.push((until, stream));
        self.bare.write(line, stream, bytes, false)
    }

    /// Writes all of a stream but its last byte, and keeps it open for long.
    pub(super) fn all_but_last(&mut self, now: Time, line: LineId, mut bytes: Vec<u8>) -> bool {
        bytes.pop();
        let until = now + self.span(5_000, 30_000);
        self.hold(until, line, bytes)
    }

    /// Writes bytes one per second, into a new stream.
    pub(super) fn drip(&mut self, now: Time, line: LineId, bytes: Vec<u8>) -> bool {
        let bytes = Bytes::from(bytes);
        // Nobody will see the end of a long one.
        let count = bytes.len().min(DRIP_BYTES_MAX);
        let rest = (0..count).rev().map(|at| bytes.slice(at..at + 1)).collect();
        self.write_slowly(now, line, rest, count == bytes.len(), DRIP_PAUSE)
    }

    /// Writes the answer to a request at the slowest rate that is put up with.
    pub(super) fn crawl(
        &mut self,
        now: Time,
        line: LineId,
        head: Vec<u8>,
        artifact: &Artifact,
        asked: &[u32],
    ) -> bool {
        let chunks = artifact.advert().chunks();
        let chunks = asked.iter().copied().filter(|chunk| *chunk < chunks).rev();
        let mut rest: Vec<_> = chunks.map(|at| frames::chunk(artifact, at).into()).collect();
        rest.push(head.into());
        self.write_slowly(now, line, rest, true, CRAWL_PAUSE)
    }

    pub(super) fn write_slowly(
        &mut self,
        now: Time,
        line: LineId,
        rest: Vec<Bytes>,
        finish: bool,
        pause: Duration,
    ) -> bool {
        if self.talk(line).slow.len() >= SLOW_MAX || rest.is_empty() {
            return false;
        }
        let Some(stream) = self.bare.open(line) else { return false };
        self.talk(line).slow.push(Slow { stream, rest, finish, pause, at: now });
        true
    }

    /// Goes on with what takes long.
    pub(super) fn go_on(&mut self, now: Time) {
        for (line, talk) in &mut self.talks {
            for slow in talk.slow.iter_mut().filter(|slow| slow.at <= now) {
                let piece = slow.rest.pop().expect("not at its end");
                let is_last = slow.finish && slow.rest.is_empty();
                self.bare.write(*line, slow.stream, piece, is_last);
                slow.at = now + slow.pause;
            }
            talk.slow.retain(|slow| !slow.rest.is_empty());
            let is_over = |(until, _): &mut (Time, StreamId)| *until <= now;
            for (_, stream) in talk.held.extract_if(.., is_over) {
                self.bare.reset(*line, stream);
            }
        }
    }
}
