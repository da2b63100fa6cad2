//! Spans of time, counted by length.

use core::time::Duration;

/// Buckets of a [`Histogram`]: 23 with a bound, each twice as long as the one before, and one for what is
/// longer. They reach from 16 us, less than a round trip on one machine, to 69 s, more than the idle timeout
/// and most deadlines, at 200 bytes for each histogram.
pub const HISTOGRAM_BUCKETS: usize = 24;

/// The bound of the first bucket is two to the power of this, in nanoseconds: a power of two, so that the
/// bucket of a span is found without a division.
const FIRST_BITS: u32 = 14;

/// How many spans of time there were of which length. A node has two for each channel, two for each route,
/// and one for its driver: 257 at most, with 51 KB in all.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Histogram {
    counts: [u64; HISTOGRAM_BUCKETS],
    sum_ns: u64,
}

impl Histogram {
    /// One more span.
    pub(crate) fn note(&mut self, span: Duration) {
        let ns = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        let bits = u64::BITS - ns.saturating_sub(1).leading_zeros();
        let at = bits.saturating_sub(FIRST_BITS) as usize;
        self.counts[at.min(HISTOGRAM_BUCKETS - 1)] += 1;
        self.sum_ns = self.sum_ns.saturating_add(ns);
    }

    /// The number of spans.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Their sum. It stops growing at 584 years.
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum_ns)
    }

    /// The buckets, shortest first: the longest span that is in it, `None` in the last one, which has no
    /// bound, and the number of spans in this bucket alone.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<Duration>, u64)> + '_ {
        let bounds = (FIRST_BITS..).take(HISTOGRAM_BUCKETS - 1);
        let bounds = bounds.map(|bits| Some(Duration::from_nanos(1 << bits)));
        bounds.chain([None]).zip(self.counts)
    }

    /// The bound of the bucket in which the span lies that so many of a thousand do not exceed: an estimate
    /// from above, by a factor of two. `None` without spans, or if it is beyond all bounds.
    pub fn at_most(&self, per_thousand: u64) -> Option<Duration> {
        let wanted = (self.count() * per_thousand.min(1000)).div_ceil(1000).max(1);
        let mut count = 0;
        let mut buckets = self.buckets();
        let reached = buckets.find(|(_, more)| {
            count += more;
            count >= wanted
        });
        reached?.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_in_the_first_bucket_whose_bound_it_does_not_exceed() {
        let ns = Duration::from_nanos;
        let spans = [
            Duration::ZERO,
            ns(1),
            ns(1 << 14),
            ns((1 << 14) + 1),
            ns(1 << 20),
            Duration::from_secs(60),
            Duration::from_secs(70),
            Duration::MAX,
        ];
        for span in spans {
            let mut histogram = Histogram::default();
            histogram.note(span);
            let (bound, _) = histogram.buckets().find(|(_, count)| *count == 1).unwrap();
            let bounds = || histogram.buckets().filter_map(|(bound, _)| bound);
            assert_eq!(bound, bounds().find(|bound| span <= *bound), "{span:?}");
        }
        let empty = Histogram::default();
        let bounds = empty.buckets().filter_map(|(bound, _)| bound);
        assert_eq!(bounds.last(), Some(ns(1 << 36)));
    }

    #[test]
    fn quantiles_are_bounds_of_buckets() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.at_most(500), None);
        (0..99).for_each(|_| histogram.note(Duration::from_micros(100)));
        histogram.note(Duration::from_millis(10));
        assert_eq!(histogram.at_most(500), Some(Duration::from_nanos(1 << 17)));
        assert_eq!(histogram.at_most(990), Some(Duration::from_nanos(1 << 17)));
        assert_eq!(histogram.at_most(999), Some(Duration::from_nanos(1 << 24)));
        assert_eq!(histogram.count(), 100);
        assert_eq!(histogram.sum(), Duration::from_micros(19_900));
    }
}
