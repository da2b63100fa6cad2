//! Whether a loss is a sign of congestion. Cubic takes every loss for one. On a path of 100 ms that loses a
//! fiftieth of the packets for other reasons, it then sends 120 kB/s, whatever the path could carry.
//!
//! A queue is long before it overflows, and the round trips say so (the rule of TCP Veno: Fu and Liew, "TCP
//! Veno: TCP enhancement for transmission over wireless access networks", 2003). Where a queue is too short
//! for that, it loses much (a rule of BBRv2, draft-cardwell-iccrg-bbr-congestion-control-02, whose bound of
//! 2 % is lower). A loss that comes with neither sign leaves the congestion window as it is.
//!
//! A connection that begins while others keep a queue full takes its length for a part of the path, until
//! the queue has been shorter once: at the latest when it has lost a twelfth, and sends less.

use std::time::{Duration, Instant};

use crate::shortest::Shortest;

/// A round trip that is longer than the path's shortest one by more than this part of it is a sign of a
/// queue.
const QUEUE_SHARE: u32 = 8;

/// A shorter queue is no sign: timers, and the peer before it acknowledges, take as long.
const QUEUE_MIN: Duration = Duration::from_millis(2);

/// Round trips are looked at in blocks of so many: the shortest one of a block is hardly longer because of
/// jitter, and a queue that grows twice as long in each round trip is still noticed.
const BLOCK: u32 = 8;

/// If more than this part of the bytes is lost, that is a sign by itself.
const LOST_SHARE: u64 = 12;

/// Of so many bytes at least, about 80 packets: so that packets lost by chance are rarely a sign, and a
/// connection that has just begun on a path of a few kilobytes per second is not let send too much.
const COUNTED_BYTES: u64 = 96 << 10;

/// What a connection has seen of its path lately.
#[derive(Clone, Copy, Debug)]
pub(super) struct Losses {
    acked: u64,
    lost: u64,
    /// The shortest round trip in the blocks of late.
    shortest: Shortest,
    in_block: u32,
}

impl Losses {
    pub(super) const fn new() -> Self {
        Self { acked: 0, lost: 0, shortest: Shortest::new(), in_block: 0 }
    }

    /// A packet was acknowledged that was sent at `sent`.
    pub(super) fn note_acked(&mut self, now: Instant, sent: Instant, bytes: u64) {
        self.count(bytes, 0);
        if self.in_block == BLOCK {
            self.shortest.next_span();
            self.in_block = 0;
        }
        self.in_block += 1;
        self.shortest.note(now.saturating_duration_since(sent));
    }

    /// Packets of so many bytes were lost. Whether that is a sign of congestion on a path whose round trip
    /// is `floor` without a queue.
    pub(super) fn note_lost(&mut self, bytes: u64, floor: Duration) -> bool {
        self.count(0, bytes);
        let counted = (self.acked + self.lost).max(COUNTED_BYTES);
        self.lost > counted / LOST_SHARE || self.has_queue(floor)
    }

    /// The shortest round trip lately.
    pub(super) fn round_trip(&self) -> Duration {
        self.shortest.get()
    }

    /// Whether packets wait somewhere on the path. Before any was acknowledged, they may.
    fn has_queue(&self, floor: Duration) -> bool {
        let round_trip = self.round_trip();
        let queue = round_trip.saturating_sub(floor);
        round_trip == Duration::MAX || queue > (floor / QUEUE_SHARE).max(QUEUE_MIN)
    }

    /// What was long ago counts for less and less.
    fn count(&mut self, acked: u64, lost: u64) {
        self.acked += acked;
        self.lost += lost;
        if self.acked + self.lost > 2 * COUNTED_BYTES {
            (self.acked, self.lost) = (self.acked / 2, self.lost / 2);
        }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "an Instant begins somewhere")]
mod tests {
    use super::*;

    const BASE: Duration = Duration::from_millis(80);

    /// A path that acknowledged `count` packets, whose round trips were longer than the shortest by what
    /// `queue` says, in milliseconds.
    fn path(count: u64, queue: impl Fn(u64) -> u64) -> Losses {
        let mut losses = Losses::new();
        let sent = Instant::now();
        for at in 0..count {
            let now = sent + BASE + Duration::from_millis(queue(at));
            losses.note_acked(now, sent, 1_200);
        }
        losses
    }

    #[test]
    fn a_loss_is_a_sign_of_congestion_with_a_queue_only() {
        for (queue, is_sign) in [(0, false), (10, false), (11, true), (500, true)] {
            assert_eq!(path(100, |_| queue).note_lost(1_200, BASE), is_sign, "{queue} ms");
        }
    }

    #[test]
    fn jitter_is_no_queue() {
        assert!(!path(100, |at| at * 37 % 81).note_lost(1_200, BASE));
    }

    #[test]
    fn a_queue_that_has_just_grown_is_noticed() {
        assert!(path(100, |at| at.saturating_sub(50)).note_lost(1_200, BASE));
        assert!(
            !path(100, |at| 50_u64.saturating_sub(at)).note_lost(1_200, BASE),
            "one that has gone"
        );
    }

    #[test]
    fn before_anything_is_acknowledged_every_loss_is_a_sign() {
        assert!(Losses::new().note_lost(1_200, BASE));
    }

    #[test]
    fn what_loses_a_twelfth_is_congested_without_a_queue() {
        // Of 100,000 packets, of which each is lost with a chance in percent.
        let signs = |percent: u64| {
            let mut losses = path(100, |_| 0);
            let mut random = crate::random::Random::new(percent);
            let sent = Instant::now();
            let signs = (0..100_000).map(|_| {
                if random.below(100) < percent {
                    return losses.note_lost(1_200, BASE);
                }
                losses.note_acked(sent + BASE, sent, 1_200);
                false
            });
            signs.filter(|is_sign| *is_sign).count()
        };
        let [two, five, twelve] = [2, 5, 12].map(signs);
        assert!(two < 10 && five < 500 && twelve > 10_000, "{two}, {five}, {twelve}");
    }
}
