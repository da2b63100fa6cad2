//! Spans of time in configuration files: `"1500ms"`, `"10s"`, `"5min"`.
//!
//! A whole number and its unit, which is what this configuration has. Crates for the purpose need `std`, or
//! leave the unit to the reader. Formats that are not for people have seconds and nanoseconds.

use alloc::format;
use alloc::string::String;
use core::fmt;
use core::time::Duration;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Units, and their nanoseconds.
const UNITS: [(&str, u128); 7] = [
    ("d", 86_400 * 1_000_000_000),
    ("h", 3600 * 1_000_000_000),
    ("min", 60 * 1_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1000),
    ("ns", 1),
];

pub(super) fn serialize<S: Serializer>(span: &Duration, to: S) -> Result<S::Ok, S::Error> {
    if to.is_human_readable() { to.serialize_str(&text(*span)) } else { span.serialize(to) }
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    match from.is_human_readable() {
        true => from.deserialize_str(Text),
        false => Duration::deserialize(from),
    }
}

/// A span on its own, for fields that may be missing.
pub(super) struct Span(Duration);

impl From<Span> for Duration {
    fn from(span: Span) -> Self {
        span.0
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        deserialize(from).map(Self)
    }
}

/// The number of the largest unit of which it is a multiple.
fn text(span: Duration) -> String {
    let ns = span.as_nanos();
    let whole = UNITS.into_iter().find(|(_, unit)| ns >= *unit && ns.is_multiple_of(*unit));
    let (name, unit) = whole.unwrap_or(("s", 1));
    format!("{}{name}", ns / unit)
}

fn parse(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, name) = text.split_at(digits);
    let (_, unit) = UNITS.into_iter().find(|(unit, _)| *unit == name.trim_start())?;
    let ns = number.parse::<u128>().ok()?.checked_mul(unit)?;
    let seconds = u64::try_from(ns / 1_000_000_000).ok()?;
    Some(Duration::new(seconds, (ns % 1_000_000_000) as u32))
}

struct Text;

impl Visitor<'_> for Text {
    type Value = Duration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number and its unit (ns, us, ms, s, min, h, d), as \"1500ms\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
        parse(text).ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_survive_their_text() {
        let rows = [
            (Duration::ZERO, "0s"),
            (Duration::from_nanos(1), "1ns"),
            (Duration::from_micros(200), "200us"),
            (Duration::from_millis(1500), "1500ms"),
            (Duration::from_secs(10), "10s"),
            (Duration::from_secs(300), "5min"),
            (Duration::from_secs(86_400), "1d"),
            (Duration::MAX, "18446744073709551615999999999ns"),
        ];
        for (span, expected) in rows {
            assert_eq!(text(span), expected);
            assert_eq!(parse(expected), Some(span));
        }
        assert_eq!(parse("2 h"), Some(Duration::from_secs(7200)));
        for wrong in
            ["", "1", "s", "-1s", "1.5s", "1 fortnight", "99999999999999999999d", "\u{661}s"]
        {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
