//! A member as a holder of chunks: the requests to it, what waits to be asked of it, and how soon it
//! can be expected to send more.

use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;
use core::time::Duration;

use super::backlog::Backlog;
use super::chunk_set::ChunkSet;
use super::offer::PlaceChain;
use super::queue::Queue;
use super::{CLASSES, RequestId};
use crate::broadcast::Priority;
use crate::sched::Ends;
use crate::shortest::Floor;
use crate::time::Time;
use crate::wire::Ranges;

/// What is expected of a holder that has not been measured yet, in bytes per second.
const RATE_DEFAULT: u64 = 16 << 20;

/// The least that is expected of a holder, in bytes per second, and the most.
const RATE_FLOOR: u64 = 1 << 10;
const RATE_LIMIT: u64 = u32::MAX as u64;

/// The round trip to a holder that has not answered yet.
const ROUND_TRIP_DEFAULT: Duration = Duration::from_millis(200);

/// The shortest time over which a rate is measured: below it, the gaps between datagrams count.
const INTERVAL_MIN: Duration = Duration::from_millis(10);

/// The least that is asked of a holder ahead of what has come, and the most, in bytes. The least is
/// more than QUIC sends in its first round trips.
const WINDOW_MIN: u64 = 256 << 10;
const WINDOW_MAX: u64 = 64 << 20;

/// What is asked of a holder ahead of what has come, in multiples of what it sends in a round trip: more
/// than two, so that it is not what keeps QUIC from doubling its rate.
const WINDOW_ROUND_TRIPS: u64 = 4;

/// When more is wanted than it sends, it is asked ahead for what it sends in so many round trips: enough for it
/// to go on while a request is on the way, and for times in which its rate is measured too low.
const OVERLOADED_ROUND_TRIPS: u64 = 3;

/// The shortest time until a request is reviewed, and between two reviews: above what a busy host may
/// take for a turn.
pub(super) const PATIENCE_MIN: Duration = Duration::from_millis(100);

/// The shortest time until a holder is reviewed that has not been measured yet.
const PATIENCE_FIRST: Duration = Duration::from_millis(250);

/// By how much the expected rate of a holder is divided for each request that it fails, so that a
/// failing holder is soon chosen last.
const FAILURE_COST: u64 = 4;

/// The time that a holder takes of which nothing can be expected, in microseconds.
pub(super) const NEVER: u64 = u64::MAX;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    Free,
    /// The request is still to be sent.
    Unsent,
    /// The answer is awaited.
    Sent,
    /// All chunks come unasked, behind an advert.
    Streamed,
    /// Some chunks do; which ones is seen when they are here.
    Open,
    /// Given up; the cancellation is still to be sent.
    Cancelled,
}

#[derive(Debug)]
pub(super) struct Request {
    /// Tells requests in the same place apart.
    pub(super) generation: u32,
    pub(super) phase: Phase,
    pub(super) transfer: u32,
    pub(super) offer: u32,
    /// While [`Phase::Unsent`].
    pub(super) ranges: Ranges,
    /// The chunks that are still to come in the answer.
    pub(super) expected: ChunkSet,
    /// Bytes of these, less what has come of a chunk that has not come whole.
    pub(super) left: u64,
    /// Bytes that have come of a chunk that has not come whole.
    partial: u64,
    pub(super) begun: Time,
    /// Bytes that have come.
    pub(super) received: u64,
    /// When it is to be reviewed next.
    pub(super) review_at: Time,
    /// Its chunks are expected in time, and are not asked of others. Neither holds for what is overdue,
    /// nor in [`Phase::Open`].
    pub(super) is_counted_on: bool,
    /// Chunks that had come already.
    pub(super) repeated: u8,
    /// Its chunks belong to this node's stripe: it is to pass them on.
    pub(super) is_stripe: bool,
    is_short: bool,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            generation: 0,
            phase: Phase::Free,
            transfer: u32::MAX,
            offer: u32::MAX,
            ranges: Ranges::new(),
            expected: ChunkSet::default(),
            left: 0,
            partial: 0,
            begun: Time::ZERO,
            received: 0,
            review_at: Time::NEVER,
            is_counted_on: true,
            repeated: 0,
            is_stripe: false,
            is_short: false,
        }
    }
}

impl Request {
    /// Its place is free for another one.
    fn release(&mut self) {
        let expected = core::mem::take(&mut self.expected);
        let generation = self.generation.wrapping_add(1);
        *self = Self { generation, expected, ..Self::default() };
    }

    /// Whether it is under way, or to be.
    pub(super) fn is_live(&self) -> bool {
        !matches!(self.phase, Phase::Free | Phase::Cancelled)
    }

    pub(super) fn is_live_for(&self, transfer: u32) -> bool {
        self.is_live() && self.transfer == transfer
    }
}

impl RequestId {
    pub(super) fn new(at: usize, generation: u32) -> Self {
        Self(u64::from(generation) << 16 | at as u64)
    }

    pub(super) fn parts(self) -> (usize, u64) {
        ((self.0 & 0xffff) as usize, self.0 >> 16)
    }
}

/// What cannot begin before others that a holder is answerable for have ended.
#[derive(Debug, Default)]
pub(super) struct HeldBack {
    pub(super) offers: Backlog<PlaceChain>,
    pub(super) ends: Ends,
}

#[derive(Debug)]
pub(super) struct Holder {
    pub(super) up: bool,
    /// So many for each class.
    pub(super) requests: Vec<Request>,
    /// By class, then by priority.
    pub(super) queues: [[Queue; Priority::ALL.len()]; CLASSES],
    /// By channel.
    pub(super) held_back: Vec<HeldBack>,
    /// By channel: bytes of room taken for what it is answerable for.
    pub(super) answerable: Vec<u64>,
    /// Bytes asked of it that have not come, and those of short requests among them.
    pub(super) outstanding: u64,
    outstanding_short: u64,
    meter: Meter,
    /// The round trip on the connection, if it is known.
    path: Option<Duration>,
    /// Without the queues on it.
    path_floor: Floor,
    /// It may have to be asked for more.
    pub(super) is_due: bool,
    /// Requests for normal data that yields, in succession, while bulk data waited.
    pub(super) bulk_left_out: u8,
}

/// What a holder has been seen to do.
#[derive(Debug)]
struct Meter {
    round_trip: Duration,
    /// In bytes per second.
    rate: u64,
    /// Bytes that it may be asked for ahead of what has come.
    window: u64,
    /// Bytes that have come in answers, in all epochs.
    received: u64,
    /// When something has come last, or it was asked with nothing outstanding.
    heard_at: Time,
    /// Nothing has come since then.
    is_waiting: bool,
    is_measured: bool,
    interval_at: Time,
    interval_received: u64,
}

impl Meter {
    fn note_bytes(&mut self, now: Time, bytes: u64) {
        if core::mem::take(&mut self.is_waiting) {
            let round_trip = now.since(self.heard_at).max(Duration::from_micros(1));
            self.round_trip = match self.is_measured {
                true => round_trip.min(self.round_trip + self.round_trip / 8),
                false => round_trip,
            };
            self.begin_interval(now);
        }
        self.received += bytes;
        self.heard_at = now;
        let span = now.since(self.interval_at);
        if span >= self.round_trip.max(INTERVAL_MIN) {
            self.measure(rate(self.received - self.interval_received, micros(span)));
            self.begin_interval(now);
        }
    }

    fn begin_interval(&mut self, now: Time) {
        (self.interval_at, self.interval_received) = (now, self.received);
    }

    fn measure(&mut self, rate: u64) {
        let is_slower = self.is_measured && rate < self.rate;
        self.rate = if is_slower { (3 * self.rate + rate) / 4 } else { rate };
        self.is_measured = true;
        let round_trip = micros(self.round_trip.max(INTERVAL_MIN));
        let window = rate.saturating_mul(round_trip) / 1_000_000 * WINDOW_ROUND_TRIPS;
        self.window = window.max(self.window / 8 * 7).clamp(WINDOW_MIN, WINDOW_MAX);
    }
}

impl Holder {
    pub(super) fn new(channels: usize) -> Self {
        Self {
            up: false,
            requests: Vec::new(),
            queues: Default::default(),
            held_back: (0..channels).map(|_| HeldBack::default()).collect(),
            answerable: vec![0; channels],
            outstanding: 0,
            outstanding_short: 0,
            meter: Meter {
                round_trip: ROUND_TRIP_DEFAULT,
                rate: RATE_DEFAULT,
                window: WINDOW_MIN,
                received: 0,
                heard_at: Time::ZERO,
                is_waiting: false,
                is_measured: false,
                interval_at: Time::ZERO,
                interval_received: 0,
            },
            path: None,
            path_floor: Floor::new(Time::ZERO),
            is_due: false,
            bulk_left_out: 0,
        }
    }

    pub(super) fn note_round_trip(&mut self, now: Time, round_trip: Duration) {
        self.path = Some(round_trip);
        self.path_floor.note(now, round_trip);
        if !self.meter.is_measured {
            self.meter.round_trip = round_trip;
        }
        // The holder's own is measured only when it is asked with nothing outstanding. Queues do not count:
        // the more is asked for, the longer they are.
        self.meter.round_trip = self.meter.round_trip.max(self.path_floor.get());
    }

    /// The round trip on the connection.
    pub(super) fn round_trip(&self) -> Duration {
        self.path.unwrap_or(ROUND_TRIP_DEFAULT)
    }

    /// An offer that is in a list of this holder.
    pub(super) fn first_placed(&self) -> Option<u32> {
        let queued = self.queues.iter().flatten().find_map(Queue::first);
        let mut held_back = self.held_back.iter().map(|held_back| &held_back.offers);
        queued.or_else(|| held_back.find_map(Backlog::oldest))
    }

    /// What has not come is counted as the requests say.
    pub(super) fn assert_outstanding(&self) {
        let left = |requests: &mut dyn Iterator<Item = &Request>| {
            requests.map(|request| if request.is_live() { request.left } else { 0 }).sum::<u64>()
        };
        assert_eq!(self.outstanding, left(&mut self.requests.iter()));
        let mut short = self.requests.iter().filter(|request| request.is_short);
        assert_eq!(self.outstanding_short, left(&mut short));
    }

    /// When it can be expected to have sent `more` bytes behind all it is to send already, in
    /// microseconds from now.
    pub(super) fn expected(&self, more: u64) -> u64 {
        let sending = (self.outstanding + more).saturating_mul(1_000_000) / self.meter.rate;
        sending.saturating_add(micros(self.meter.round_trip))
    }

    /// Whether nothing has come for so long, although it was asked.
    pub(super) fn is_silent(&self, now: Time, timeout: Duration) -> bool {
        self.outstanding > 0 && now.since(self.meter.heard_at) >= timeout
    }

    /// Whether its rate is known.
    pub(super) fn is_measured(&self) -> bool {
        self.meter.is_measured
    }

    /// Whether it may be asked for more of what is under way.
    pub(super) fn has_room(&self) -> bool {
        self.outstanding <= self.meter.window / 2
    }

    /// Whether it may be asked for another artifact, of so many bytes. A short one does not wait for long ones.
    pub(super) fn has_room_for(&self, bytes: u64) -> bool {
        match self.is_short(bytes) {
            true => self.outstanding_short <= self.meter.window / 2,
            false => self.outstanding < self.meter.window,
        }
    }

    /// The same, while more is wanted than it sends. What it was asked for long ago is too old when it comes,
    /// so that it is asked no earlier than it takes for it to go on at once.
    pub(super) fn has_room_when_overloaded(&self, bytes: u64) -> bool {
        let sending = micros(self.meter.round_trip).saturating_mul(OVERLOADED_ROUND_TRIPS);
        let ahead = self.meter.rate.saturating_mul(sending) / 1_000_000;
        let outstanding = match self.is_short(bytes) {
            true => self.outstanding_short,
            false => self.outstanding,
        };
        outstanding <= ahead.min(self.meter.window / 2)
    }

    /// Whether requests for so many bytes are short.
    pub(super) fn is_short(&self, bytes: u64) -> bool {
        bytes <= self.meter.window / 4
    }

    /// Whether it was asked for something of a class, for which it may have so many requests.
    pub(super) fn is_asked(&self, class: usize, max: usize) -> bool {
        let requests = self.requests.iter().skip(class * max).take(max);
        requests.into_iter().any(Request::is_live)
    }

    /// Bytes that it may be asked for now, if it may be asked at all.
    pub(super) fn request_bytes(&self) -> u64 {
        self.meter.window.saturating_sub(self.outstanding).max(self.meter.window / 4)
    }

    /// Word `word` of the set of chunks of a transfer that it has been asked for, overdue ones too.
    pub(super) fn asked_word(&self, transfer: u32, word: usize) -> u64 {
        let requests = self.requests.iter().filter(|request| request.is_live_for(transfer));
        let requests = requests.filter(|request| request.phase != Phase::Open);
        requests.fold(0, |asked, request| asked | request.expected.word(word))
    }

    /// Whether there is something of a class that it may be asked for.
    pub(super) fn has_queued(&self, class: usize) -> bool {
        self.queues[class].iter().any(|queue| queue.first().is_some())
    }

    /// The index of a free request of a class, of which there may be so many.
    pub(super) fn free_request(&self, class: usize, max: usize) -> Option<usize> {
        self.free_place(class * max..(class + 1) * max)
    }

    /// The index of a free place for what it sends unasked without saying what it is. These come behind
    /// all requests, of which there may be so many of each class.
    pub(super) fn free_stream(&self, requests_max: usize, max: usize) -> Option<usize> {
        let first = CLASSES * requests_max;
        self.free_place(first..first + max)
    }

    fn free_place(&self, mut places: Range<usize>) -> Option<usize> {
        places.find(|at| self.requests.get(*at).is_none_or(|r| r.phase == Phase::Free))
    }

    /// The time until the first review of a request, if the holder keeps up.
    fn patience(&self, timeout: Duration) -> Duration {
        if !self.meter.is_measured {
            let first = |round_trip: Duration| (4 * round_trip).max(PATIENCE_FIRST);
            return self.path.map_or(timeout, first).min(timeout);
        }
        let expected = Duration::from_micros(2 * self.expected(0).min(NEVER / 4));
        (expected + self.meter.round_trip).max(PATIENCE_MIN).min(timeout)
    }

    /// Takes the free request at `at` into use; its chunks are yet to be put in.
    pub(super) fn begin(
        &mut self,
        (now, timeout): (Time, Duration),
        at: usize,
        phase: Phase,
        (transfer, offer): (u32, u32),
        chunks: u32,
    ) -> &mut Request {
        if self.requests.len() <= at {
            self.requests.resize_with(at + 1, Request::default);
        }
        let request = &mut self.requests[at];
        request.expected.reset(chunks);
        (request.phase, request.transfer, request.offer) = (phase, transfer, offer);
        (request.begun, request.review_at) = (now, now + timeout);
        request
    }

    /// The chunks of a request have been put in.
    pub(super) fn note_asked(&mut self, (now, timeout): (Time, Duration), at: usize) -> Time {
        let request = &self.requests[at];
        if self.outstanding == 0 {
            // What comes unasked says nothing about the round trip.
            self.meter.heard_at = now;
            self.meter.is_waiting = request.phase == Phase::Unsent;
            self.meter.begin_interval(now);
        }
        let left = request.left;
        self.outstanding += left;
        let is_short = self.is_short(left);
        if is_short {
            self.outstanding_short += left;
        }
        let review_at = now + self.patience(timeout);
        let request = &mut self.requests[at];
        (request.review_at, request.is_short) = (review_at, is_short);
        review_at
    }

    /// A request goes out: its holder's time begins now, since it does not pay for our wait.
    pub(super) fn note_sent(&mut self, at: usize, now: Time) {
        let request = &mut self.requests[at];
        let patience = request.review_at.since(request.begun);
        (request.phase, request.begun, request.review_at) = (Phase::Sent, now, now + patience);
        if self.meter.is_waiting {
            self.meter.heard_at = now;
        }
    }

    /// So many bytes have come of the next chunk of an answer; how many of these are new.
    pub(super) fn note_partial(&mut self, now: Time, at: usize, bytes: u64) -> u64 {
        let request = &mut self.requests[at];
        let news = bytes.saturating_sub(request.partial).min(request.left);
        if news > 0 {
            request.partial += news;
            request.received += news;
            self.settle(at, news);
            self.meter.note_bytes(now, news);
        }
        news
    }

    /// A chunk of an answer has come whole: a new one, or again.
    pub(super) fn note_chunk(
        &mut self,
        now: Time,
        at: usize,
        chunk: u32,
        bytes: u64,
        is_new: bool,
    ) {
        self.note_partial(now, at, bytes);
        let request = &mut self.requests[at];
        request.partial = 0;
        request.expected.remove(chunk);
        request.repeated = request.repeated.saturating_add(u8::from(!is_new));
    }

    /// So many bytes of a request are not awaited any more.
    fn settle(&mut self, at: usize, bytes: u64) {
        let request = &mut self.requests[at];
        request.left -= bytes;
        self.outstanding -= bytes;
        if request.is_short {
            self.outstanding_short -= bytes;
        }
    }

    /// A request has ended: nothing more comes, or is awaited.
    pub(super) fn end(&mut self, at: usize) {
        self.settle(at, self.requests[at].left);
        self.requests[at].release();
    }

    /// A request is given up, and the holder is to be told.
    pub(super) fn give_up(&mut self, at: usize) {
        self.settle(at, self.requests[at].left);
        self.requests[at].phase = Phase::Cancelled;
    }

    /// It has failed a request.
    pub(super) fn note_failure(&mut self) {
        self.meter.rate = (self.meter.rate / FAILURE_COST).max(RATE_FLOOR);
    }

    /// When the rest of an answer can be expected, in microseconds from now, as far as what has come of
    /// it says, or [`NEVER`].
    pub(super) fn pace(&self, at: usize, now: Time) -> u64 {
        let request = &self.requests[at];
        let span = micros(now.since(request.begun));
        // It answers others first. That may take as long again as it has taken so far.
        let unheard = if self.meter.heard_at <= request.begun { NEVER } else { span };
        request.left.saturating_mul(span).checked_div(request.received).unwrap_or(unheard)
    }
}

pub(super) fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX).max(1)
}

/// Bytes per second, within the bounds of what is expected of a holder.
fn rate(bytes: u64, micros: u64) -> u64 {
    (bytes.saturating_mul(1_000_000) / micros).clamp(RATE_FLOOR, RATE_LIMIT)
}
