//! A member as a holder of artifacts: the requests to it, what has come of their answers, and how
//! soon it can be expected to send more.

use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use super::catalogue::FetchChain;
use super::{Priority, RequestId};
use crate::arena::List;
use crate::time::Time;

/// What is expected of a holder that has not sent anything yet, in bytes per second.
const RATE_DEFAULT: u64 = 16 << 20;

/// The least that is expected of a holder, in bytes per second. One that sends less counts as silent:
/// nothing can be said about when it will have sent an artifact.
const RATE_FLOOR: u64 = 1 << 10;

/// The most that is expected of a holder, in bytes per second.
const RATE_LIMIT: u64 = u32::MAX as u64;

/// By how much the expected rate of a holder is divided for each request that it fails, so that a
/// failing holder is soon chosen last.
const FAILURE_COST: u64 = 4;

/// What each request costs that waits at a holder for others to be answered, in microseconds,
/// however short it is: part of a round trip. A silent holder's queue is long in this.
const WAITING_COST: u64 = 10_000;

/// Failures in a row beyond this one do not double the time given any more: with the default timeout,
/// that is 36 hours.
pub(super) const ROUNDS_MAX: u8 = 16;

/// The time that a holder takes of which nothing can be expected, in microseconds.
pub(super) const NEVER: u64 = u64::MAX;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    Free,
    /// The request is still to be sent.
    Unsent,
    /// The answer is awaited.
    Sent,
    /// The chunks come unasked, behind a streamed advert.
    Streamed,
    /// Given up; the cancellation is still to be sent.
    Cancelled,
}

/// What had come when a request was reviewed last.
#[derive(Clone, Copy, Debug)]
struct Mark {
    at: Time,
    /// In its answer.
    own: u64,
    /// In all answers of the holder.
    all: u64,
}

#[derive(Debug)]
pub(super) struct Request {
    /// Tells requests in the same place apart.
    pub(super) generation: u32,
    pub(super) phase: Phase,
    pub(super) known: u32,
    pub(super) next: u32,
    pub(super) end: u32,
    begun: Time,
    /// Bytes of the chunks that have come and were right.
    verified: u64,
    /// The most bytes that had come at any time, with those of a chunk that had not come whole.
    received: u64,
    mark: Mark,
    /// When it is to be reviewed next.
    pub(super) review_at: Time,
}

#[derive(Debug)]
pub(super) struct Holder {
    pub(super) up: bool,
    pub(super) requests: Vec<Request>,
    /// By channel, then by priority.
    pub(super) waiting: Vec<[List<FetchChain>; Priority::ALL.len()]>,
    pub(super) waiting_count: u32,
    /// Bytes waiting and under way.
    pub(super) load: u64,
    /// By channel: bytes under way.
    pub(super) under_way: Vec<u64>,
    /// Measured, in bytes per second.
    pub(super) rate: u64,
    /// The highest rate since what waits here was last queued anew.
    rate_promised: u64,
    /// When what waits here looks for another holder.
    requeue_at: Time,
    /// Bytes that have come in answers, in all epochs.
    received: u64,
    /// Next to nothing has come for a review's time, and nothing since.
    pub(super) is_silent: bool,
    /// How often it has fallen silent since it last kept up.
    silences: u8,
    /// From then on, one that is not asked for anything does not count as silent any more.
    trusted_at: Time,
    /// It takes no requests, so that what waits for it has failed then; never, while it takes some.
    pub(super) stuck_at: Time,
}

impl Holder {
    pub(super) fn new(channels: usize) -> Self {
        Self {
            up: false,
            requests: Vec::new(),
            waiting: (0..channels).map(|_| Default::default()).collect(),
            waiting_count: 0,
            load: 0,
            under_way: vec![0; channels],
            rate: RATE_DEFAULT,
            rate_promised: RATE_DEFAULT,
            requeue_at: Time::NEVER,
            received: 0,
            is_silent: false,
            silences: 0,
            trusted_at: Time::ZERO,
            stuck_at: Time::NEVER,
        }
    }

    /// When it can be expected to have sent `more` bytes behind all it is to send already, in
    /// microseconds from now. A silent one comes after all others.
    pub(super) fn expected(&self, more: u64) -> (bool, u64) {
        let sending = (self.load + more).saturating_mul(1_000_000) / self.rate;
        let waiting = u64::from(self.waiting_count) * WAITING_COST;
        (self.is_silent, sending.saturating_add(waiting))
    }

    /// Whether it is not even told which requests were given up, since it reads nothing.
    pub(super) fn is_stuck(&self, requests_max: u16) -> bool {
        let is_cancelled = |request: &Request| request.phase == Phase::Cancelled;
        self.requests.len() == usize::from(requests_max) && self.requests.iter().all(is_cancelled)
    }

    pub(super) fn first_waiting(&self) -> Option<u32> {
        self.waiting.iter().flatten().find_map(List::front)
    }

    /// Fills a free request, the one at `at`.
    pub(super) fn begin(
        &mut self,
        at: usize,
        (now, window): (Time, Duration),
        phase: Phase,
        known: u32,
        (next, end): (u32, u32),
    ) -> RequestId {
        if at == self.requests.len() {
            self.requests.push(Request::FREE);
        }
        let mark = Mark { at: now, own: 0, all: self.received };
        let request = &mut self.requests[at];
        let (generation, review_at) = (request.generation, now + window);
        *request = Request {
            generation,
            phase,
            known,
            next,
            end,
            begun: now,
            mark,
            review_at,
            ..Request::FREE
        };
        RequestId::new(at, generation)
    }

    /// A request goes out: its holder's time begins now, since it does not pay for our wait.
    pub(super) fn note_sent(&mut self, at: usize, now: Time) {
        let all = self.received;
        let request = &mut self.requests[at];
        let window = request.review_at.since(request.begun);
        request.phase = Phase::Sent;
        (request.begun, request.review_at) = (now, now + window);
        request.mark = Mark { at: now, own: 0, all };
    }

    /// A chunk of an answer was right; `window` is the time until the next review, at most. True if
    /// the holder was silent until now.
    pub(super) fn note_verified(
        &mut self,
        at: usize,
        bytes: u64,
        now: Time,
        window: Duration,
    ) -> bool {
        let request = &mut self.requests[at];
        request.next += 1;
        request.verified += bytes;
        request.review_at = request.review_at.min(now + window);
        self.note_partial(at, 0)
    }

    /// So many bytes have come of an answer's next chunk. True if the holder was silent until now.
    pub(super) fn note_partial(&mut self, at: usize, bytes: u64) -> bool {
        let request = &mut self.requests[at];
        let news = (request.verified + bytes).saturating_sub(request.received);
        request.received += news;
        self.received += news;
        self.is_silent && news > 0 && core::mem::take(&mut self.is_silent)
    }

    /// An answer is complete.
    pub(super) fn note_complete(&mut self, at: usize, now: Time) {
        let request = &mut self.requests[at];
        let rate = rate(request.verified.max(1), micros(now.since(request.begun)));
        self.rate = (7 * self.rate + rate) / 8;
        self.rate_promised = self.rate_promised.max(self.rate);
        request.release();
    }

    /// It has failed a request.
    pub(super) fn note_failure(&mut self) {
        self.rate = (self.rate / FAILURE_COST).max(RATE_FLOOR);
    }

    /// Measures what has come since the last review of a request, of whose artifact `rest` bytes are
    /// missing: when the holder can be expected to have sent them, in microseconds from now, or
    /// [`NEVER`].
    pub(super) fn review(&mut self, at: usize, now: Time, timeout: Duration, rest: u64) -> u64 {
        let request = &mut self.requests[at];
        let span = micros(now.since(request.mark.at));
        let own = request.received - request.mark.own;
        let all = self.received - request.mark.all;
        request.mark = Mark { at: now, own: request.received, all: self.received };
        let is_idle = |bytes: u64| bytes.saturating_mul(1_000_000) < RATE_FLOOR * span;
        let waited = micros(now.since(request.begun));
        self.note_rate(now, timeout, is_idle(all), rate(all, span));
        if !is_idle(own) {
            rest.saturating_mul(span) / own
        } else if self.is_silent {
            NEVER
        } else {
            // It answers others first. That may take as long again as it has taken so far.
            self.expected(0).1.max(waited)
        }
    }

    fn note_rate(&mut self, now: Time, timeout: Duration, is_silent: bool, rate: u64) {
        let was_silent = core::mem::replace(&mut self.is_silent, is_silent);
        if !is_silent {
            self.silences = 0;
        } else if !was_silent {
            self.silences = (self.silences + 1).min(ROUNDS_MAX);
            self.trusted_at = now + timeout.saturating_mul(1 << self.silences);
        }
        self.rate = rate;
        if is_silent || rate < self.rate_promised / 2 {
            self.requeue_at = self.requeue_at.min(now);
        }
        self.rate_promised = self.rate_promised.max(rate);
    }

    /// When what waits at the holder is to be queued anew.
    pub(super) fn requeue_at(&self) -> Time {
        if self.waiting_count > 0 { self.requeue_at } else { Time::NEVER }
    }

    /// What waits at the holder is being queued anew. Tells whether the holder is silent.
    pub(super) fn note_requeued(&mut self, now: Time, timeout: Duration) -> bool {
        self.rate_promised = self.rate;
        // One that is asked for nothing cannot show that it is there.
        let is_asked = self.requests.iter().any(Request::is_live);
        self.is_silent &= is_asked || now < self.trusted_at;
        self.requeue_at = if self.is_silent { now + timeout } else { Time::NEVER };
        self.is_silent
    }
}

impl Request {
    pub(super) const FREE: Self = Self {
        generation: 0,
        phase: Phase::Free,
        known: u32::MAX,
        next: 0,
        end: 0,
        begun: Time::ZERO,
        verified: 0,
        received: 0,
        mark: Mark { at: Time::ZERO, own: 0, all: 0 },
        review_at: Time::NEVER,
    };

    pub(super) fn release(&mut self) {
        if self.phase != Phase::Free {
            *self = Self { generation: self.generation.wrapping_add(1), ..Self::FREE };
        }
    }

    /// Whether it is under way, or to be.
    pub(super) fn is_live(&self) -> bool {
        !matches!(self.phase, Phase::Free | Phase::Cancelled)
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX).max(1)
}

/// Bytes per second, within the bounds of what is expected of a holder.
fn rate(bytes: u64, micros: u64) -> u64 {
    (bytes.saturating_mul(1_000_000) / micros).clamp(RATE_FLOOR, RATE_LIMIT)
}
