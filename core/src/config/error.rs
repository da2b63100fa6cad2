//! What is said of a value that is wrong, and how a value is held against its range.

use core::fmt;
use core::ops::RangeInclusive;
use core::time::Duration;

use super::{SPAN_LIMIT, SPAN_MIN};
use crate::id::{ChannelId, RouteId};

/// The value of a field, or an end of the range that it has to lie in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[non_exhaustive]
pub enum Value {
    /// A number, in the unit of the field: bytes, slots, requests, ...
    Number(u64),
    /// A span of time.
    Span(Duration),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Span(span) => write!(f, "{span:?}"),
        }
    }
}

macro_rules! numbers {
    ($($kind:ty)*) => {
        $(impl From<$kind> for Value {
            fn from(number: $kind) -> Self {
                Self::Number(number.into())
            }
        })*
    };
}

numbers!(u8 u16 u32 u64);

impl From<Duration> for Value {
    fn from(span: Duration) -> Self {
        Self::Span(span)
    }
}

/// An invalid value of the configuration. Its text names the field, its value and the range that is
/// allowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub struct ConfigError {
    /// The channel, if the field is one of a channel's.
    pub channel: Option<ChannelId>,
    /// The route, if the field is one of a route's.
    pub route: Option<RouteId>,
    /// The field's name.
    pub field: &'static str,
    /// Its value, or a number that tells what is wrong with it: how many, or which one.
    pub value: Value,
    /// The lowest and the highest value that it may have, with the other fields as they are. `None` if
    /// what is wrong is no matter of a range.
    pub allowed: Option<(Value, Value)>,
    /// Why, where the range does not tell; otherwise empty.
    pub why: &'static str,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, value, why, .. } = self;
        if let Some(channel) = self.channel {
            write!(f, "channel {}: ", channel.0)?;
        }
        if let Some(route) = self.route {
            write!(f, "route {}: ", route.0)?;
        }
        let Some((min, max)) = self.allowed else { return write!(f, "{field}: {value} {why}") };
        write!(f, "{field}: {value} does not lie between {min} and {max}")?;
        if why.is_empty() { Ok(()) } else { write!(f, " ({why})") }
    }
}

/// A value that is wrong for another reason than its range.
pub(super) fn invalid(
    field: &'static str,
    value: impl Into<Value>,
    why: &'static str,
) -> ConfigError {
    ConfigError { channel: None, route: None, field, value: value.into(), allowed: None, why }
}

/// Whether a value lies in its range.
pub(super) fn within<T>(
    field: &'static str,
    value: T,
    range: RangeInclusive<T>,
    why: &'static str,
) -> Result<(), ConfigError>
where
    T: Copy + PartialOrd + Into<Value>,
{
    if range.contains(&value) {
        return Ok(());
    }
    let allowed = Some(((*range.start()).into(), (*range.end()).into()));
    Err(ConfigError { allowed, ..invalid(field, value, why) })
}

/// Whether a timer can be set to a span, again and again.
pub(super) fn within_span(field: &'static str, span: Duration) -> Result<(), ConfigError> {
    within(field, span, SPAN_MIN..=SPAN_LIMIT, "")
}

/// Whether a count of requests is one: each has a place in a table, whose index has 16 bits.
pub(super) fn within_count(field: &'static str, count: u16) -> Result<(), ConfigError> {
    within(field, count, 1..=4096, "")
}
