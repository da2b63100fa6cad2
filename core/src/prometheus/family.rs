//! Families of metrics: all values of one name, each with its labels.

use std::fmt;
use std::string::{String, ToString};
use std::time::Duration;
use std::vec::Vec;

use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::Unit;

use crate::snapshot::Histogram;

/// Name and value.
pub(super) type Labels = Vec<(&'static str, String)>;

/// A label.
pub(super) fn label(name: &'static str, value: impl ToString) -> (&'static str, String) {
    (name, value.to_string())
}

/// What a family is called, and what it means.
#[derive(Clone, Copy)]
pub(super) struct Name<'a> {
    /// Without unit and suffix.
    pub(super) name: &'a str,
    /// In a sentence, without its full stop.
    pub(super) help: &'a str,
    pub(super) unit: Option<&'a Unit>,
}

/// A count of things.
pub(super) const fn things<'a>(name: &'a str, help: &'a str) -> Name<'a> {
    Name { name, help, unit: None }
}

pub(super) const fn bytes<'a>(name: &'a str, help: &'a str) -> Name<'a> {
    Name { name, help, unit: Some(&Unit::Bytes) }
}

pub(super) const fn seconds<'a>(name: &'a str, help: &'a str) -> Name<'a> {
    Name { name, help, unit: Some(&Unit::Seconds) }
}

/// An encoder, family by family.
pub(super) struct Families<'a> {
    encoder: DescriptorEncoder<'a>,
}

impl<'a> Families<'a> {
    pub(super) fn new(encoder: DescriptorEncoder<'a>) -> Self {
        Self { encoder }
    }

    /// Values that only grow.
    pub(super) fn counters(
        &mut self,
        name: Name<'_>,
        rows: impl IntoIterator<Item = (Labels, u64)>,
    ) -> fmt::Result {
        self.family(name, MetricType::Counter, rows, |metric, count| {
            metric.encode_counter(&count, None::<&Exemplar<NoLabelSet, u64>>)
        })
    }

    /// Values that are what they are now.
    pub(super) fn gauges(
        &mut self,
        name: Name<'_>,
        rows: impl IntoIterator<Item = (Labels, u64)>,
    ) -> fmt::Result {
        self.family(name, MetricType::Gauge, rows, |metric, value| metric.encode_gauge(&value))
    }

    /// The same of spans of time.
    pub(super) fn spans(
        &mut self,
        name: Name<'_>,
        rows: impl IntoIterator<Item = (Labels, Duration)>,
    ) -> fmt::Result {
        self.family(name, MetricType::Gauge, rows, |metric, span| {
            metric.encode_gauge(&span.as_secs_f64())
        })
    }

    pub(super) fn histograms(
        &mut self,
        name: Name<'_>,
        rows: impl IntoIterator<Item = (Labels, Histogram)>,
    ) -> fmt::Result {
        self.family(name, MetricType::Histogram, rows, |metric, histogram| {
            let bound = |bound: Option<Duration>| bound.map_or(f64::INFINITY, |b| b.as_secs_f64());
            let buckets = histogram.buckets().map(|(longest, count)| (bound(longest), count));
            let buckets: Vec<(f64, u64)> = buckets.collect();
            let (sum, count) = (histogram.sum().as_secs_f64(), histogram.count());
            metric.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
        })
    }

    fn family<T>(
        &mut self,
        Name { name, help, unit }: Name<'_>,
        kind: MetricType,
        rows: impl IntoIterator<Item = (Labels, T)>,
        encode: impl Fn(&mut MetricEncoder<'_>, T) -> fmt::Result,
    ) -> fmt::Result {
        let help = std::format!("{help}.");
        let mut family = self.encoder.encode_descriptor(name, &help, unit, kind)?;
        for (labels, value) in rows {
            match labels.is_empty() {
                true => encode(&mut family, value)?,
                false => encode(&mut family.encode_family(&labels)?, value)?,
            }
        }
        Ok(())
    }
}
