//! Channels in which a peer may send so much: streams of updates beyond that are left unread until it is due.
//!
//! A stream is known to be of a channel when its head has been read, which is before anything else of it. What is
//! held is the streams, each once, of those that the peer may have open; QUIC keeps what is in them, within what the
//! peer was given credit for. They cannot be stopped instead: its peer counts what a stopped stream says as told.
//!
//! What is held when the connection ends is dropped: over the next one, the peer tells what is active. How much has come
//! is the member's (`node::usage`), so that nobody has more for connecting again and again.

use std::boxed::Box;
use std::collections::BTreeSet;
use std::time::Duration;

use quinn_proto::StreamId;

use crate::config::{ChannelConfig, QUOTA_BYTES, Quota};
use crate::id::ChannelId;
use crate::sched::QuotaMeter;
use crate::time::Time;
use crate::wire::QuotaHello;

/// What is held is read on when this part of the burst is due, so that it costs few timers.
const RELEASED_PARTS: u32 = 8;

#[derive(Debug)]
struct ChannelQuota {
    channel: ChannelId,
    meter: QuotaMeter,
    /// Streams that wait for `until`, in the order in which they were opened. At most `streams_max`.
    held: BTreeSet<StreamId>,
    until: Time,
    since: Time,
}

/// The first node of the set has room for 11 streams, and 16 bytes beside. The meter is copied when a connection begins.
const _: () = assert!(
    size_of::<ChannelQuota>() + size_of::<QuotaMeter>() + 13 * size_of::<StreamId>()
        <= QUOTA_BYTES as usize
);

impl ChannelQuota {
    fn is_over(&self, now: Time) -> bool {
        self.meter.due() > now + self.meter.quota.burst
    }

    fn holds(&self, now: Time) -> bool {
        self.is_over(now) || !self.held.is_empty() && now < self.until
    }

    fn hold(&mut self, now: Time, stream: StreamId) {
        if self.held.is_empty() {
            self.since = now;
            // Nothing of the burst is left now.
            let burst = self.meter.quota.burst;
            let part = burst / RELEASED_PARTS;
            let due = self.meter.due().max(now + burst);
            self.until = Time::ZERO + due.since(Time::ZERO + (burst - part));
        }
        self.held.insert(stream);
    }
}

/// The quotas of one peer.
#[derive(Debug, Default)]
pub(super) struct Quotas {
    /// Those channels that have one.
    channels: Box<[ChannelQuota]>,
    /// When something that is held is to be read.
    earliest: Time,
    /// How long channels were held that are not now.
    held_for: Duration,
}

impl Quotas {
    /// Of a connection that begins, to a peer of which so much has come `before`.
    pub(super) fn new(channels: &[ChannelConfig], before: &[QuotaMeter]) -> Self {
        let limited = channels.iter().filter_map(|channel| Some((channel.id, channel.quota?)));
        let channels = limited.enumerate().map(|(at, (channel, quota))| ChannelQuota {
            channel,
            meter: before.get(at).copied().unwrap_or(QuotaMeter::new(quota)),
            held: BTreeSet::new(),
            until: Time::NEVER,
            since: Time::ZERO,
        });
        let channels = channels.collect();
        Self { channels, earliest: Time::NEVER, held_for: Duration::ZERO }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.channels.is_empty()
    }

    /// The place of a channel among those that have a quota.
    pub(super) fn find(&self, channel: ChannelId) -> Option<u8> {
        let at = self.channels.iter().position(|quota| quota.channel == channel);
        at.map(|at| at as u8)
    }

    /// Whether what the peer sends in a channel is beyond its quota.
    pub(super) fn holds(&self, at: u8, now: Time) -> bool {
        self.channels[at as usize].holds(now)
    }

    /// So many updates have come, and so many bytes.
    pub(super) fn charge(&mut self, at: u8, now: Time, updates: u32, bytes: usize) {
        self.channels[at as usize].meter.charge(now, updates, bytes);
    }

    /// A stream waits until more is due.
    pub(super) fn hold(&mut self, at: u8, now: Time, stream: StreamId) {
        let channel = &mut self.channels[at as usize];
        channel.hold(now, stream);
        self.earliest = self.earliest.min(channel.until);
    }

    /// A stream that is held was reset.
    pub(super) fn forget(&mut self, at: u8, now: Time, stream: StreamId) {
        let channel = &mut self.channels[at as usize];
        if channel.held.remove(&stream) && channel.held.is_empty() {
            self.held_for += now.since(channel.since);
        }
    }

    /// When there is something to be [released](Quotas::release).
    pub(super) fn earliest(&self) -> Time {
        if self.channels.is_empty() { Time::NEVER } else { self.earliest }
    }

    /// Hands out the streams that are to be read by now.
    pub(super) fn release(&mut self, now: Time, mut read: impl FnMut(StreamId)) {
        self.earliest = Time::NEVER;
        for channel in &mut self.channels {
            if channel.held.is_empty() {
                continue;
            }
            if channel.until <= now {
                self.held_for += now.since(channel.since);
                std::mem::take(&mut channel.held).into_iter().for_each(&mut read);
            } else {
                self.earliest = self.earliest.min(channel.until);
            }
        }
    }

    /// The connection has ended: how much has come. Nothing is held any more.
    pub(super) fn end(&mut self) -> Box<[QuotaMeter]> {
        let channels = std::mem::take(self).channels;
        channels.into_iter().map(|channel| channel.meter).collect()
    }

    /// How many channels are held now, and how long channels were in all.
    pub(super) fn held(&self, now: Time) -> (u64, Duration) {
        let held = || self.channels.iter().filter(|channel| !channel.held.is_empty());
        let spans = held().map(|channel| now.since(channel.since));
        (held().count() as u64, self.held_for + spans.sum::<Duration>())
    }
}

/// What a node tells its peers of a channel's quota.
pub(in crate::node) fn quota_hello(config: &ChannelConfig) -> Option<QuotaHello> {
    let quota = config.quota?;
    Some(QuotaHello {
        channel: config.id,
        updates_per_second: quota.updates_per_second,
        bytes_per_second: quota.bytes_per_second,
        burst_ms: quota.burst.as_millis() as u32,
    })
}

/// A shorter burst than any configuration has would cost timers.
const TOLD_BURST_MIN: Duration = Duration::from_millis(10);

/// The quota that a peer has told.
pub(in crate::node) fn told_quota(told: &QuotaHello) -> Quota {
    Quota {
        updates_per_second: told.updates_per_second.max(1),
        bytes_per_second: told.bytes_per_second.max(1),
        burst: Duration::from_millis(told.burst_ms.into()).max(TOLD_BURST_MIN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quinn_proto::{Dir, Side};
    use std::vec::Vec;

    const CHANNEL: ChannelId = ChannelId(7);

    fn channels(quota: Quota) -> [ChannelConfig; 2] {
        let mut limited = ChannelConfig::new(CHANNEL);
        limited.quota = Some(quota);
        [ChannelConfig::new(ChannelId(1)), limited]
    }

    fn quotas(quota: Quota) -> Quotas {
        Quotas::new(&channels(quota), &[])
    }

    fn at(ms: u64) -> Time {
        Time::ZERO + Duration::from_millis(10_000 + ms)
    }

    /// How many of the updates of so many bytes that come each millisecond are read within a time.
    fn read_in(mut quotas: Quotas, bytes: usize, ms: u64) -> u32 {
        let quota = quotas.find(CHANNEL).expect("it has one");
        let stream = StreamId::new(Side::Client, Dir::Uni, 0);
        let (mut read, mut is_held) = (0, false);
        for now in (0..ms).map(at) {
            if quotas.earliest() <= now {
                quotas.release(now, |_| is_held = false);
            }
            for _ in 0..100 {
                match quotas.holds(quota, now) {
                    false => {
                        assert!(!is_held);
                        quotas.charge(quota, now, 1, bytes);
                        read += 1;
                    }
                    true if !std::mem::replace(&mut is_held, true) => {
                        quotas.hold(quota, now, stream);
                        assert!(quotas.earliest() > now);
                    }
                    true => {}
                }
            }
        }
        read
    }

    #[test]
    fn what_is_read_is_the_burst_and_the_rate() {
        let quota = Quota::per_second(1000, 100_000);
        for (bytes, expected) in [(10, 1000), (1000, 100)] {
            let read = read_in(quotas(quota), bytes, 5_000);
            let most = 6 * expected;
            assert!(read <= most + 1 && read >= most - expected / 4, "{read} of {bytes}");
        }
    }

    #[test]
    fn who_stays_below_is_never_held_and_other_channels_have_none() {
        let mut quotas = quotas(Quota::per_second(1000, 100_000));
        assert_eq!(quotas.find(ChannelId(1)), None);
        let quota = quotas.find(CHANNEL).expect("it has one");
        for now in (0..10_000).map(at) {
            assert!(!quotas.holds(quota, now));
            quotas.charge(quota, now, 1, 100);
        }
        assert_eq!((quotas.earliest(), quotas.held(at(10_000)).0), (Time::NEVER, 0));
    }

    #[test]
    fn what_is_held_is_told_and_handed_out_in_order() {
        let mut quotas = quotas(Quota::per_second(100, 100_000));
        quotas.charge(0, at(0), 200, 0);
        let streams = [2, 4, 9].map(|at| StreamId::new(Side::Client, Dir::Uni, at));
        streams.iter().rev().for_each(|stream| quotas.hold(0, at(0), *stream));
        // A second beyond the burst, and an eighth of that.
        assert_eq!(quotas.earliest(), at(1125));
        assert_eq!(quotas.held(at(500)), (1, Duration::from_millis(500)));
        let mut released = Vec::new();
        quotas.release(at(1124), |stream| released.push(stream));
        assert!(released.is_empty());
        quotas.release(at(1125), |stream| released.push(stream));
        assert_eq!(released, streams);
        assert_eq!(quotas.held(at(5000)), (0, Duration::from_millis(1125)));
        assert_eq!(quotas.earliest(), Time::NEVER);
    }

    #[test]
    fn what_came_over_the_last_connection_counts_and_what_was_held_is_dropped() {
        let quota = Quota::per_second(100, 100_000);
        let mut quotas = quotas(quota);
        quotas.charge(0, at(0), 200, 0);
        quotas.hold(0, at(0), StreamId::new(Side::Client, Dir::Uni, 0));
        let meters = quotas.end();
        assert!(quotas.is_empty() && quotas.held(at(500)) == (0, Duration::ZERO));
        assert_eq!(quotas.earliest(), Time::NEVER);
        let quotas = Quotas::new(&channels(quota), &meters);
        assert_eq!((quotas.earliest(), quotas.held(at(500)).0), (Time::NEVER, 0));
        assert!(quotas.holds(0, at(999)) && !quotas.holds(0, at(1000)));
    }

    #[test]
    fn what_is_reset_is_held_no_more() {
        let mut quotas = quotas(Quota::per_second(100, 100_000));
        quotas.charge(0, at(0), 200, 0);
        for stream in (0..1000).map(|at| StreamId::new(Side::Client, Dir::Uni, at)) {
            quotas.hold(0, at(0), stream);
            quotas.forget(0, at(100), stream);
            assert_eq!(quotas.held(at(100)).0, 0);
        }
        quotas.release(at(1125), |stream| panic!("{stream} is held"));
        assert_eq!(quotas.earliest(), Time::NEVER);
    }
}
