//! A seeded generator: splitmix64 (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number
//! Generators", 2014). Not for secrets.

#[cfg(feature = "quic")]
use core::time::Duration;

/// A source of numbers that depend on its seed alone.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The source with this seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 bits.
    pub const fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`; 0 if that is 0.
    pub const fn below(&mut self, end: u64) -> u64 {
        ((self.bits() as u128 * end as u128) >> 64) as u64
    }

    /// A duration below `span`; zero if that is.
    #[cfg(feature = "quic")]
    pub fn duration_below(&mut self, span: Duration) -> Duration {
        Duration::from_nanos(self.below(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }
}
