//! How many more bytes QUIC can send now. Backlogs stay in the outbox, where their content can
//! still change.
//!
//! quinn-proto does not say how many bytes are in flight, nor how many it holds unsent. A
//! congestion controller is told enough to know the first and to estimate the second. This one
//! counts, and passes everything on to Cubic (RFC 9438) but losses that are no sign of congestion.

use std::any::Any;
use std::boxed::Box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use quinn_proto::RttEstimator;
use quinn_proto::congestion::{Controller, ControllerFactory, ControllerMetrics, CubicConfig};

use super::losses::Losses;
use crate::shortest::Floor;
use crate::time::Time;

/// Header, connection id, frame headers and tag of a packet, in bytes: an overestimate, so that
/// this node rather waits than sends too much.
pub(super) const PACKET_OVERHEAD: u64 = 48;

/// Below this many bytes, a packet may hold nothing but acknowledgements.
const ACKS_MAX: u64 = 400;

/// Bulk data keeps about so much waiting in queues, on the path and at the peer: what is urgent waits
/// there, too, and no class helps it. Enough to keep a link of 100 Mbit/s busy for 2.5 ms.
const BULK_QUEUE_BYTES: u64 = 32 << 10;

/// The counts of one connection, shared with its controller. (The atomics are for the controller's
/// `Send + Sync`; one thread at a time uses them.)
#[derive(Debug, Default)]
pub(super) struct Meter {
    window: AtomicU64,
    in_flight: AtomicU64,
    /// Stream bytes that QUIC holds and has not sent yet, estimated.
    unsent: AtomicU64,
    /// The same and what it will send again, since it was lost.
    pending: AtomicU64,
    /// Bytes that were lost since this was last taken.
    lost: AtomicU64,
    /// Packets that were acknowledged since this was last taken.
    acked: AtomicU64,
    /// Some were lost since QUIC has sent anything: it has not run out of data, whatever it found when it sent last.
    is_repeat_due: AtomicBool,
    is_closing: AtomicBool,
    /// See [`BulkWindow`].
    bulk_window: AtomicU64,
    /// There is more to send than this node gives to QUIC.
    is_held_back: AtomicBool,
}

impl Meter {
    /// The congestion window, in bytes.
    pub(super) fn window(&self) -> u64 {
        self.window.load(Relaxed)
    }

    /// Stream bytes were handed to QUIC.
    pub(super) fn note_written(&self, bytes: u64) {
        self.unsent.fetch_add(bytes, Relaxed);
        self.pending.fetch_add(bytes, Relaxed);
    }

    /// As long as bulk data is sent, in bytes: less than the congestion window if it makes a queue.
    pub(super) fn bulk_window(&self) -> u64 {
        self.bulk_window.load(Relaxed)
    }

    /// The connection is being closed, so the window must not delay its last packet. quinn-proto
    /// would wait for room in the window, which does not become free any more, and the peer would
    /// not be notified.
    pub(super) fn close(&self) {
        self.is_closing.store(true, Relaxed);
    }

    /// This node holds data back although QUIC may run out of data to send. The window is to grow
    /// all the same, since the data is only held back in proportion to the window.
    pub(super) fn set_held_back(&self, is_held_back: bool) {
        self.is_held_back.store(is_held_back, Relaxed);
    }

    /// Whether QUIC holds stream bytes that it has not sent yet, or will send again, as far as is
    /// known.
    pub(super) fn has_pending(&self) -> bool {
        self.pending.load(Relaxed) > 0
    }

    /// The number of bytes that were lost since the last call. QUIC will send them again.
    pub(super) fn take_lost(&self) -> u64 {
        self.lost.swap(0, Relaxed)
    }

    /// The number of packets that were acknowledged since the last call.
    pub(super) fn take_acked(&self) -> u64 {
        self.acked.swap(0, Relaxed)
    }

    /// Bytes in packets that are neither acknowledged nor lost.
    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight.load(Relaxed)
    }

    /// Bytes that QUIC has still to send, or has sent and that are neither acknowledged nor lost.
    pub(super) fn unacked(&self) -> u64 {
        self.in_flight.load(Relaxed) + self.unsent.load(Relaxed)
    }
}

/// Makes the controller of one connection.
#[derive(Debug)]
pub(super) struct MeteredFactory {
    pub(super) meter: Arc<Meter>,
    /// Bytes that may be in flight at first.
    pub(super) initial_window: u64,
}

impl ControllerFactory for MeteredFactory {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        let mut cubic = CubicConfig::default();
        cubic.initial_window(self.initial_window);
        let inner = Arc::new(cubic).build(now, current_mtu);
        self.meter.window.store(inner.window(), Relaxed);
        self.meter.in_flight.store(0, Relaxed);
        self.meter.bulk_window.store(u64::MAX, Relaxed);
        let (losses, floor) = (Losses::new(), Floor::new(Time::ZERO));
        let (peak, bulk) = (Peak::new(now), BulkWindow::new());
        Box::new(Metered {
            inner,
            begun: now,
            losses,
            floor,
            peak,
            bulk,
            meter: self.meter.clone(),
        })
    }
}

/// The most bytes that were in flight lately: in slow start the window grows to twice as many, even if at
/// the end of what was sent there was nothing left that it held back. Otherwise a window that is a little
/// too short for what is sent at a time only comes nearer to it, and each time the rest waits for a round
/// trip. (As in Linux; RFC 9002, section 7.8 leaves it open.)
#[derive(Clone, Copy, Debug)]
struct Peak {
    /// In the present round trip, and in the one before.
    bytes: [u64; 2],
    round_began: Instant,
}

impl Peak {
    const fn new(now: Instant) -> Self {
        Self { bytes: [0; 2], round_began: now }
    }

    fn note(&mut self, in_flight: u64) {
        self.bytes[0] = self.bytes[0].max(in_flight);
    }

    /// A packet was acknowledged that was sent at `sent`. If it was the first one of a round trip, how many
    /// bytes were in flight at most when it was sent.
    fn note_acked(&mut self, now: Instant, sent: Instant, in_flight: u64) -> Option<u64> {
        let is_first = sent >= self.round_began;
        is_first.then(|| {
            self.bytes = [in_flight, self.bytes[0]];
            self.round_began = now;
            self.bytes[1]
        })
    }

    fn bytes(&self) -> u64 {
        self.bytes[0].max(self.bytes[1])
    }
}

/// So many round trips in succession have to be long before that is taken for the path: queues that
/// others have filled become shorter, too, when all send less.
const LONG_ROUNDS: u32 = 8;

/// How many bytes may be in flight while bulk data is sent. Cubic fills the queues of a path until they
/// overflow; this leaves about [`BULK_QUEUE_BYTES`] in them. What is in flight is in a queue for the part
/// of a round trip by which it is longer than the shortest one. (FAST TCP: Wei, Jin, Low and Hegde, "FAST TCP:
/// motivation, architecture, algorithms, performance", 2006.) So bulk data yields to what others
/// send over the same path.
///
/// Where a round trip stays long although hardly anything is in flight, the path has become longer, or waits
/// for others: it is not this connection's queue, and the shortest round trip is another one from then on.
#[derive(Clone, Copy, Debug)]
struct BulkWindow {
    bytes: u64,
    floor: Floor,
    /// Round trips in succession that were long with little in flight, and the shortest of them.
    long_rounds: u32,
    shortest_long: Duration,
}

impl BulkWindow {
    const fn new() -> Self {
        Self {
            bytes: u64::MAX,
            floor: Floor::new(Time::ZERO),
            long_rounds: 0,
            shortest_long: Duration::MAX,
        }
    }

    /// In the round trip that has ended now, so many bytes were in flight at most, and the last ones took
    /// so long.
    fn end_round(&mut self, in_flight: u64, round_trip: Duration) {
        let floor = self.floor.get().as_micros().max(1);
        let moving = u128::from(in_flight) * floor / round_trip.as_micros().max(floor);
        let moving = moving as u64;
        if in_flight - moving >= BULK_QUEUE_BYTES / 2 {
            self.bytes = moving + BULK_QUEUE_BYTES;
            self.note_long_round(round_trip);
            return;
        }
        self.long_rounds = 0;
        if in_flight * 2 > self.bytes {
            self.bytes = self.bytes.saturating_mul(2);
        }
    }

    /// A round trip was long. If it does not become shorter with less in flight, it is the path's.
    fn note_long_round(&mut self, round_trip: Duration) {
        if self.bytes > 2 * BULK_QUEUE_BYTES {
            self.long_rounds = 0;
            return;
        }
        let is_first = self.long_rounds == 0;
        self.shortest_long = if is_first { round_trip } else { self.shortest_long.min(round_trip) };
        self.long_rounds += 1;
        if self.long_rounds == LONG_ROUNDS {
            self.floor.raise(self.shortest_long);
            self.long_rounds = 0;
        }
    }
}

struct Metered {
    inner: Box<dyn Controller>,
    begun: Instant,
    losses: Losses,
    /// By which losses are judged. The bulk window has one of its own, which follows a longer path within a
    /// few round trips. Losses cannot be judged by that: where many connections share a full queue,
    /// each has little in flight and long round trips, and there a loss is a sign of congestion.
    floor: Floor,
    peak: Peak,
    bulk: BulkWindow,
    meter: Arc<Meter>,
}

impl Metered {
    fn note_window(&self) {
        self.meter.window.store(self.inner.window(), Relaxed);
    }
}

impl Controller for Metered {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.inner.on_sent(now, bytes, last_packet_number);
        self.meter.is_repeat_due.store(false, Relaxed);
        let unsent = self.meter.unsent.load(Relaxed);
        let carried = bytes.saturating_sub(PACKET_OVERHEAD).min(unsent);
        self.meter.unsent.store(unsent - carried, Relaxed);
        let pending = self.meter.pending.load(Relaxed);
        let rest = pending.saturating_sub(bytes.saturating_sub(PACKET_OVERHEAD));
        self.meter.pending.store(rest, Relaxed);
        // Packets with acknowledgements only are not acknowledged. If they were counted, those of a
        // node that only receives would add up to a full window.
        if carried > 0 || bytes >= ACKS_MAX {
            let in_flight = self.meter.in_flight.fetch_add(bytes, Relaxed) + bytes;
            self.peak.note(in_flight);
        }
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        rtt: &RttEstimator,
    ) {
        self.meter.acked.fetch_add(1, Relaxed);
        self.losses.note_acked(now, sent, bytes);
        let round_trip = self.losses.round_trip();
        let time = Time::ZERO + now.saturating_duration_since(self.begun);
        self.floor.note(time, round_trip);
        self.bulk.floor.note(time, round_trip);
        let (window, in_flight) = (self.inner.window(), self.meter.in_flight.load(Relaxed));
        if let Some(in_flight) = self.peak.note_acked(now, sent, in_flight) {
            self.bulk.end_round(in_flight, round_trip);
            self.meter.bulk_window.store(self.bulk.bytes, Relaxed);
        }
        let is_held_back = 2 * in_flight >= window && self.meter.is_held_back.load(Relaxed);
        let is_slow_start = || self.inner.metrics().ssthresh.is_some_and(|end| window < end);
        let is_used = || 2 * self.peak.bytes() > window && is_slow_start();
        let app_limited = app_limited && !is_held_back && !is_used();
        self.inner.on_ack(now, sent, bytes, app_limited, rtt);
        self.note_window();
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        largest_packet_num_acked: Option<u64>,
    ) {
        self.inner.on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
        self.meter.in_flight.store(in_flight, Relaxed);
        if app_limited && !self.meter.is_repeat_due.load(Relaxed) {
            // QUIC had nothing left to send.
            self.meter.unsent.store(0, Relaxed);
            self.meter.pending.store(0, Relaxed);
        }
        self.note_window();
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        // No bytes are lost if routers say that they are congested (RFC 9002, section 7.1).
        let is_marked = lost_bytes == 0;
        if is_marked
            || self.losses.note_lost(lost_bytes, self.floor.get())
            || is_persistent_congestion
        {
            self.inner.on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
        }
        let rest = self.meter.in_flight.load(Relaxed).saturating_sub(lost_bytes);
        self.meter.in_flight.store(rest, Relaxed);
        self.meter.pending.fetch_add(lost_bytes, Relaxed);
        self.meter.lost.fetch_add(lost_bytes, Relaxed);
        if !is_marked {
            self.meter.is_repeat_due.store(true, Relaxed);
        }
        self.note_window();
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.inner.on_mtu_update(new_mtu);
        self.note_window();
    }

    fn window(&self) -> u64 {
        if self.meter.is_closing.load(Relaxed) { u64::MAX } else { self.inner.window() }
    }

    fn metrics(&self) -> ControllerMetrics {
        self.inner.metrics()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        let Self { begun, losses, floor, peak, bulk, .. } = *self;
        let (inner, meter) = (self.inner.clone_box(), self.meter.clone());
        Box::new(Self { inner, begun, losses, floor, peak, bulk, meter })
    }

    fn initial_window(&self) -> u64 {
        self.inner.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "an Instant begins somewhere")]
mod tests {
    use super::*;

    const FLOOR: Duration = Duration::from_millis(100);

    /// A path that moves so many bytes per round trip, and queues what is beyond: the window after so many
    /// rounds in which it was used up.
    fn window_after(rounds: u32, moved: u64, mut bulk: BulkWindow) -> BulkWindow {
        for _ in 0..rounds {
            let in_flight = bulk.bytes.min(4 * moved);
            let round_trip = FLOOR * in_flight.max(moved) as u32 / moved as u32;
            bulk.end_round(in_flight, round_trip);
        }
        bulk
    }

    fn bulk_window() -> BulkWindow {
        let mut bulk = BulkWindow::new();
        bulk.floor.note(Time::ZERO, FLOOR);
        bulk
    }

    #[test]
    fn bulk_data_makes_a_short_queue() {
        let bulk = window_after(3, 1_000_000, bulk_window());
        let queued = bulk.bytes - 1_000_000;
        assert!(queued.abs_diff(BULK_QUEUE_BYTES) <= 100, "{queued}");
    }

    #[test]
    fn bulk_data_uses_a_path_that_has_become_faster_within_a_few_round_trips() {
        let slow = window_after(3, 100_000, bulk_window());
        let fast = window_after(6, 1_000_000, slow);
        assert!(fast.bytes >= 1_000_000, "{}", fast.bytes);
    }

    #[test]
    fn what_is_not_used_up_does_not_grow() {
        let mut bulk = window_after(3, 100_000, bulk_window());
        let before = bulk.bytes;
        bulk.end_round(before / 2, FLOOR);
        assert_eq!(bulk.bytes, before);
    }

    /// A path has become a longer one.
    #[test]
    fn bulk_data_uses_a_path_that_has_become_longer_within_two_dozen_round_trips() {
        let mut bulk = window_after(3, 200_000, bulk_window());
        for _ in 0..24 {
            // Now it moves a million bytes in 500 ms.
            let in_flight = bulk.bytes.min(4_000_000);
            let round_trip = 5 * FLOOR * in_flight.max(1_000_000) as u32 / 1_000_000;
            bulk.end_round(in_flight, round_trip);
        }
        assert!(bulk.bytes >= 1_000_000, "{}", bulk.bytes);
    }

    /// QUIC had nothing left when it sent last, and says so with the next acknowledgement, too.
    #[test]
    fn what_was_lost_is_pending_until_it_is_sent_again() {
        let meter = Arc::new(Meter::default());
        let factory = Arc::new(MeteredFactory { meter: meter.clone(), initial_window: 12_000 });
        let now = Instant::now();
        let mut controller = factory.build(now, 1_200);
        meter.note_written(10_000);
        controller.on_sent(now, 10_100, 1);
        controller.on_end_acks(now, 10_100, true, None);
        assert!(!meter.has_pending());
        controller.on_congestion_event(now, now, false, 5_000);
        controller.on_end_acks(now, 5_100, true, None);
        assert!(meter.has_pending());
        controller.on_sent(now, 4_000, 2);
        controller.on_end_acks(now, 4_000, false, None);
        assert!(meter.has_pending());
        controller.on_end_acks(now, 0, true, None);
        assert!(!meter.has_pending());
    }

    /// Clocks may be coarse, windows and round trips as long as the configuration allows.
    #[test]
    fn no_value_is_too_short_or_too_long() {
        let mut bulk = BulkWindow::new();
        bulk.floor.note(Time::ZERO, Duration::ZERO);
        for (in_flight, round_trip) in [
            (u64::from(u32::MAX), Duration::from_secs(100_000)),
            (0, Duration::ZERO),
            (1 << 20, Duration::ZERO),
            (1 << 20, Duration::from_nanos(1)),
        ] {
            bulk.end_round(in_flight, round_trip);
            assert!(bulk.bytes >= BULK_QUEUE_BYTES, "{}", bulk.bytes);
        }
    }
}
