//! What goes first while not everything can be served in time.

use core::time::Duration;

use super::error::within;
use super::{ConfigError, SPAN_LIMIT};
use crate::time::Time;

/// What goes first when a member cannot be served as fast as a channel changes: the changes that it is to be
/// told, and at the receiving end what it is asked for. The newest, so that what arrives is of use; and with
/// a guaranteed share the oldest, so that nothing that stays active starves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct Freshness {
    /// While the oldest has waited no longer than this, everything is served in the order in which it came.
    /// Default 250 ms: longer than the queues of most links, which do not mean that less comes through than
    /// is asked for.
    #[cfg_attr(feature = "serde", serde(with = "super::span"))]
    pub oldest_first_until: Duration,
    /// Beyond that, the part of the bytes that the oldest have, in percent. Default 12, about an eighth.
    pub oldest_percent: u8,
    /// A member for which the oldest change has waited too long, for so long without a break, is
    /// [behind](crate::broadcast::Lag): the application is told at that time. So the earliest is `oldest_first_until` (or
    /// [`clear_delay`](super::ChannelConfig::clear_delay), if that is longer) and this after a change, or after the
    /// member came up. Default 5 s: longer than what passes by itself, such as a burst, or a path that is cut for a
    /// moment.
    #[cfg_attr(feature = "serde", serde(with = "super::span"))]
    pub behind_after: Duration,
}

impl Freshness {
    /// The defaults.
    pub const DEFAULT: Self = Self {
        oldest_first_until: Duration::from_millis(250),
        oldest_percent: 12,
        behind_after: Duration::from_secs(5),
    };

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        const BOTH: &str = "the oldest and the newest both go on";
        let Self { oldest_first_until, oldest_percent, behind_after } = *self;
        let span = Duration::ZERO..=SPAN_LIMIT;
        within("freshness.oldest_first_until", oldest_first_until, span.clone(), "")?;
        within("freshness.oldest_percent", oldest_percent, 1..=50, BOTH)?;
        within("freshness.behind_after", behind_after, span, "")
    }

    /// Whether what has waited since then is too old for all to be served in the order in which they came.
    pub(crate) fn is_late(&self, now: Time, since: Time) -> bool {
        now.since(since) > self.oldest_first_until
    }
}

impl Default for Freshness {
    fn default() -> Self {
        Self::DEFAULT
    }
}
