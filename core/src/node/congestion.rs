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
use std::time::Instant;

use quinn_proto::RttEstimator;
use quinn_proto::congestion::{Controller, ControllerFactory, ControllerMetrics, CubicConfig};

use super::losses::Losses;

/// Header, connection id, frame headers and tag of a packet, in bytes: an overestimate, so that
/// this node rather waits than sends too much.
pub(super) const PACKET_OVERHEAD: u64 = 48;

/// Below this many bytes, a packet may hold nothing but acknowledgements.
const ACKS_MAX: u64 = 400;

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
    is_closing: AtomicBool,
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
        let (losses, peak) = (Losses::new(), Peak::new(now));
        Box::new(Metered { inner, losses, peak, meter: self.meter.clone() })
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

    /// A packet was acknowledged that was sent at `sent`.
    fn note_acked(&mut self, now: Instant, sent: Instant, in_flight: u64) {
        if sent >= self.round_began {
            self.bytes = [in_flight, self.bytes[0]];
            self.round_began = now;
        }
    }

    fn bytes(&self) -> u64 {
        self.bytes[0].max(self.bytes[1])
    }
}

struct Metered {
    inner: Box<dyn Controller>,
    losses: Losses,
    peak: Peak,
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
        self.losses.note_acked(now, sent, bytes, rtt.min());
        let (window, in_flight) = (self.inner.window(), self.meter.in_flight.load(Relaxed));
        self.peak.note_acked(now, sent, in_flight);
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
        if app_limited {
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
        if is_marked || self.losses.note_lost(lost_bytes) || is_persistent_congestion {
            self.inner.on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
        }
        let rest = self.meter.in_flight.load(Relaxed).saturating_sub(lost_bytes);
        self.meter.in_flight.store(rest, Relaxed);
        self.meter.pending.fetch_add(lost_bytes, Relaxed);
        self.meter.lost.fetch_add(lost_bytes, Relaxed);
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
        let (inner, losses, peak) = (self.inner.clone_box(), self.losses, self.peak);
        Box::new(Self { inner, losses, peak, meter: self.meter.clone() })
    }

    fn initial_window(&self) -> u64 {
        self.inner.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
