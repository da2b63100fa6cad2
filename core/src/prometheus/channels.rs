//! Metrics of the channels.

use std::fmt;
use std::vec;

use super::family::{Families, Labels, Name, bytes, label, seconds, things};
use crate::snapshot::{ChannelSnapshot, Histogram};

/// A value of each channel.
fn of_all<T>(
    channels: &[ChannelSnapshot],
    value: impl Fn(&ChannelSnapshot) -> T,
) -> impl Iterator<Item = (Labels, T)> {
    channels.iter().map(move |channel| (vec![label("channel", channel.id.0)], value(channel)))
}

/// Some values of each channel, by `sort`.
fn sorted<const N: usize>(
    channels: &[ChannelSnapshot],
    sort: &'static str,
    values: impl Fn(&ChannelSnapshot) -> [(&'static str, u64); N],
) -> impl Iterator<Item = (Labels, u64)> {
    channels.iter().flat_map(move |channel| {
        values(channel)
            .map(|(name, value)| (vec![label("channel", channel.id.0), label(sort, name)], value))
    })
}

pub(super) fn encode(channels: &[ChannelSnapshot], families: &mut Families<'_>) -> fmt::Result {
    type OfChannel<T> = fn(&ChannelSnapshot) -> T;
    let gauges: [(Name<'_>, OfChannel<u64>); 7] = [
        (things("slotcast_channel_active_artifacts", "Artifacts that this node advertises"), |c| {
            c.outbox.active.into()
        }),
        (things("slotcast_channel_active_artifacts_max", "The bound of these"), |c| {
            c.outbox.active_max.into()
        }),
        (
            bytes("slotcast_channel_outbox_max", "The bound of published and of relayed bytes"),
            |c| c.outbox.bytes_max,
        ),
        (things("slotcast_channel_partial_artifacts", "Artifacts of which chunks are here"), |c| {
            c.known.partial
        }),
        (bytes("slotcast_channel_inbox_max", "The bound of waiting and of fetching bytes"), |c| {
            c.inbox.bytes_max
        }),
        (
            things("slotcast_channel_staged_events", "Events that the application has to take"),
            |c| c.inbox.staged_events,
        ),
        (bytes("slotcast_channel_staged", "Bytes of these events"), |c| c.inbox.staged_bytes),
    ];
    for (name, value) in gauges {
        families.gauges(name, of_all(channels, value))?;
    }
    let outbox = bytes("slotcast_channel_outbox", "Artifacts that this node advertises");
    families.gauges(
        outbox,
        sorted(channels, "kind", |c| {
            [("published", c.outbox.published_bytes), ("relayed", c.outbox.relayed_bytes)]
        }),
    )?;
    let known = things("slotcast_channel_known_artifacts", "Artifacts that peers advertise");
    families.gauges(
        known,
        sorted(channels, "state", |c| {
            let known = &c.known;
            let rest = [known.fetching, known.waiting, known.postponed, known.rejected];
            [
                ("fetching", known.fetching),
                ("waiting", known.waiting),
                ("postponed", known.postponed),
                ("rejected", known.rejected),
                ("done", known.all.saturating_sub(rest.iter().sum())),
            ]
        }),
    )?;
    let inbox = bytes("slotcast_channel_inbox", "Artifacts not taken, and room taken for them");
    families.gauges(
        inbox,
        sorted(channels, "state", |c| {
            [("waiting", c.inbox.waiting_bytes), ("fetching", c.inbox.fetching_bytes)]
        }),
    )?;
    let events = things("slotcast_channel_events", "Events that were taken");
    families.counters(
        events,
        sorted(channels, "event", |c| {
            let events = &c.events;
            [
                ("delivered", events.delivered),
                ("withdrawn", events.withdrawn),
                ("expired", events.expired),
            ]
        }),
    )?;
    let delivered = bytes("slotcast_channel_delivered", "Bytes of delivered artifacts");
    families.counters(delivered, of_all(channels, |channel| channel.events.delivered_bytes))?;
    let histograms: [(Name<'_>, OfChannel<Histogram>); 2] = [
        (
            seconds(
                "slotcast_channel_acknowledge",
                "From a publication until a peer has acknowledged it",
            ),
            |c| c.acknowledged,
        ),
        (
            seconds(
                "slotcast_channel_fetch",
                "From the first byte of a fetched artifact until it was complete",
            ),
            |c| c.fetched,
        ),
    ];
    for (name, value) in histograms {
        families.histograms(name, of_all(channels, value))?;
    }
    Ok(())
}
