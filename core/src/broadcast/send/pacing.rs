//! Channels in which a peer takes only so much: what it is sent keeps to that. What goes beyond it would be left unread,
//! and would take streams and window of other channels.
//!
//! Updates wait here, where they can still change: those of a channel in which there is nothing left of the peer's
//! quota are passed over until there is. Chunks do not wait, since they were asked for, but count.
//!
//! What a peer was sent is the member's, not the connection's, as at the peer: who connects again does not begin anew.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use crate::config::{PACED_BYTES, Quota};
use crate::deadlines::Deadlines;
use crate::id::PeerIndex;
use crate::sched::QuotaMeter;
use crate::time::Time;

/// Of what may come at once, this part is used. The rest is for what a path delays, which comes together with what was
/// sent later.
const USED_PART: u32 = 2;

/// All takes this part longer than it may, in the long run: the peer's clock may be slower.
const SLOWER_PART: u64 = 128;

/// When nothing is left, updates go on when this part of what is used of a burst is: so they go in few streams, and
/// cost few timers.
const RESUMED_PART: u32 = 8;

/// With a long burst, they go on after so long: less than half of what a change may wait, by default, before it is late
/// ([`oldest_first_until`](crate::config::Freshness::oldest_first_until)).
const RESUMED_AFTER_MAX: Duration = Duration::from_millis(100);

#[derive(Debug)]
struct Paced {
    channel: u16,
    meter: QuotaMeter,
}

/// The tree of deadlines has up to four times for each, and half as many more while it grows.
const _: () = assert!(size_of::<Paced>() + 6 * size_of::<Time>() <= PACED_BYTES as usize);

impl Paced {
    /// What may be sent now is due by then at the latest.
    fn until(&self, now: Time) -> Time {
        now + self.meter.quota.burst / USED_PART
    }

    /// Since then, or from then on, something may be sent.
    fn open_at(&self) -> Time {
        let burst = self.meter.quota.burst / USED_PART;
        Time(self.meter.due().0.saturating_sub(burst.as_nanos() as u64))
    }

    /// When updates go on, none of which may be sent now: not before one may, and when everything is due at the latest.
    fn resume_at(&self, now: Time) -> Time {
        let part = self.meter.quota.burst / USED_PART / RESUMED_PART;
        let wait = part.min(RESUMED_AFTER_MAX).max(self.meter.update_span());
        (self.open_at().max(now) + wait).min(self.meter.due())
    }
}

/// What updates may be encoded at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Allowance {
    pub(super) updates: u64,
    pub(super) bytes: usize,
}

/// See the module's head.
#[derive(Debug)]
pub(in crate::broadcast) struct Pacing {
    channels_count: usize,
    /// By peer: those channels for which it has told a quota. At most all of them.
    peers: Vec<Box<[Paced]>>,
    /// When updates go on, by peer and channel.
    deadlines: Deadlines,
}

impl Pacing {
    pub(super) fn new(channels_count: usize) -> Self {
        Self { channels_count, peers: Vec::new(), deadlines: Deadlines::new() }
    }

    fn index(&self, peer: PeerIndex, channel: u16) -> usize {
        peer.at() * self.channels_count + usize::from(channel)
    }

    fn find(&mut self, peer: PeerIndex, channel: u16) -> Option<&mut Paced> {
        let paced = self.peers.get_mut(peer.at())?;
        paced.iter_mut().find(|paced| paced.channel == channel)
    }

    /// A peer takes so much in these channels from now on, and in others as much as there is. Where it `goes_on` to count,
    /// so does this node.
    pub(in crate::broadcast) fn set(
        &mut self,
        peer: PeerIndex,
        quotas: impl Iterator<Item = (u16, Quota)>,
        goes_on: bool,
    ) {
        if self.peers.len() <= peer.at() {
            self.peers.resize_with(peer.at() + 1, Box::default);
        }
        let before = core::mem::take(&mut self.peers[peer.at()]);
        let paced = quotas.map(|(channel, quota)| {
            let is_it = |other: &&Paced| other.channel == channel && other.meter.quota == quota;
            let known = before.iter().find(is_it).filter(|_| goes_on);
            let meter =
                known.map_or_else(|| QuotaMeter::slower(quota, SLOWER_PART), |known| known.meter);
            Paced { channel, meter }
        });
        self.peers[peer.at()] = paced.collect();
    }

    /// A peer's connection has ended: nothing waits for its quotas. What it was sent still counts.
    pub(super) fn pause(&mut self, peer: PeerIndex) {
        for at in 0..self.peers.get(peer.at()).map_or(0, |paced| paced.len()) {
            let index = self.index(peer, self.peers[peer.at()][at].channel);
            self.deadlines.set(index, Time::NEVER);
        }
    }

    /// A peer is no member any more.
    pub(super) fn remove(&mut self, peer: PeerIndex) {
        self.pause(peer);
        if let Some(paced) = self.peers.get_mut(peer.at()) {
            *paced = Box::default();
        }
    }

    /// What updates of a channel may be encoded for a peer now. `None` if none; they wait then.
    pub(super) fn allowance(
        &mut self,
        now: Time,
        peer: PeerIndex,
        channel: u16,
    ) -> Option<Allowance> {
        // Those that wait go on together, whatever is published meanwhile.
        let index = self.index(peer, channel);
        let resume_at = self.deadlines.get(index);
        if now < resume_at && resume_at < Time::NEVER {
            return None;
        }
        let Some(paced) = self.find(peer, channel) else {
            return Some(Allowance { updates: u64::MAX, bytes: usize::MAX });
        };
        let (updates, bytes) = paced.meter.allowance(now, paced.until(now));
        // At least one in any case, if nothing has been sent lately.
        if updates.min(bytes) > 0 || paced.meter.due() <= now {
            let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
            return Some(Allowance { updates: updates.max(1), bytes: bytes.max(1) });
        }
        let resume_at = paced.resume_at(now);
        self.deadlines.bring_forward(index, resume_at);
        None
    }

    /// So many updates and bytes of a channel were encoded for a peer.
    pub(super) fn charge(
        &mut self,
        now: Time,
        peer: PeerIndex,
        channel: u16,
        updates: u32,
        bytes: usize,
    ) {
        if let Some(paced) = self.find(peer, channel) {
            paced.meter.charge(now, updates, bytes);
        }
    }

    /// The next peer and channel whose updates have waited for long enough.
    pub(super) fn pop_due(&mut self, now: Time) -> Option<(PeerIndex, u16)> {
        let index = self.deadlines.due(now)?;
        self.deadlines.set(index, Time::NEVER);
        let (peer, channel) = (index / self.channels_count, index % self.channels_count);
        Some((PeerIndex(peer as u16), channel as u16))
    }

    /// When some updates have waited for long enough.
    pub(in crate::broadcast) fn earliest(&self) -> Time {
        self.deadlines.earliest()
    }

    /// Whether updates of a channel wait for a peer's quota.
    pub(super) fn is_waiting(&self, peer: PeerIndex, channel: u16) -> bool {
        self.deadlines.get(self.index(peer, channel)) < Time::NEVER
    }

    /// The number of channels whose updates wait for a peer's quota.
    #[cfg(any(test, feature = "quic"))]
    pub(in crate::broadcast) fn waiting(&self, peer: PeerIndex) -> u64 {
        let paced = self.peers.get(peer.at()).map_or(&[][..], |paced| &paced[..]);
        let waits = |paced: &&Paced| self.is_waiting(peer, paced.channel);
        paced.iter().filter(waits).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: PeerIndex = PeerIndex(3);
    const CHANNEL: u16 = 1;

    fn at(ms: u64) -> Time {
        Time::ZERO + Duration::from_millis(10_000 + ms)
    }

    fn pacing(quota: Quota) -> Pacing {
        let mut pacing = Pacing::new(2);
        pacing.set(PEER, [(CHANNEL, quota)].into_iter(), true);
        pacing
    }

    /// What is sent in a time, of as many updates of so many bytes as are allowed, and in how many batches.
    fn sent_in(pacing: &mut Pacing, bytes: usize, ms: u64) -> (u64, u32) {
        let (mut sent, mut batches, mut waits) = (0, 0, false);
        for now in (0..ms).map(at) {
            if let Some(due) = pacing.pop_due(now) {
                assert_eq!(due, (PEER, CHANNEL));
                waits = false;
            }
            while !waits {
                let Some(allowance) = pacing.allowance(now, PEER, CHANNEL) else {
                    waits = true;
                    assert!(pacing.earliest() > now && pacing.waiting(PEER) == 1);
                    continue;
                };
                let updates = allowance.updates.min((allowance.bytes / bytes).max(1) as u64);
                pacing.charge(now, PEER, CHANNEL, updates as u32, updates as usize * bytes);
                (sent, batches) = (sent + updates, batches + 1);
            }
        }
        (sent, batches)
    }

    #[test]
    fn what_is_sent_is_half_of_the_burst_and_the_rate() {
        let quota = Quota::per_second(1000, 100_000);
        for (bytes, per_second) in [(10, 1000), (1000, 100)] {
            let (sent, batches) = sent_in(&mut pacing(quota), bytes, 5_000);
            let most = per_second / 2 + per_second * 5;
            assert!((most * 97 / 100..=most + 1).contains(&sent), "{sent} of {bytes}");
            // An eighth of half a burst each, and what is left of the bytes may begin one more.
            assert!((70..170).contains(&batches), "{batches}");
        }
    }

    /// The peer's clock may be slower, whatever the rate is.
    #[test]
    fn in_the_long_run_less_is_sent_than_the_quota_allows() {
        for per_second in [10, 100, 1000] {
            let (sent, _) =
                sent_in(&mut pacing(Quota::per_second(per_second, 1 << 20)), 1, 129_000);
            let most = u64::from(per_second) * 128 + u64::from(per_second) / 2;
            assert!((most - most / 1000..=most + 1).contains(&sent), "{sent} of {most}");
        }
    }

    /// A flow is asked whenever something is published, and whenever a stream is opened for another one.
    #[test]
    fn what_waits_goes_on_together_whoever_asks_meanwhile() {
        let mut pacing = pacing(Quota::per_second(1000, 1 << 20));
        let (mut sent, mut batches) = (0, 0);
        for now in (0..5_000).map(at) {
            while pacing.pop_due(now).is_some() {}
            while let Some(allowance) = pacing.allowance(now, PEER, CHANNEL) {
                pacing.charge(now, PEER, CHANNEL, allowance.updates as u32, 0);
                (sent, batches) = (sent + allowance.updates, batches + 1);
            }
        }
        assert!((5_300..=5_501).contains(&sent), "{sent}");
        assert!((50..100).contains(&batches), "{batches}");
    }

    #[test]
    fn what_waits_goes_on_soon_however_long_the_burst_is() {
        let burst = Duration::from_secs(60);
        let mut pacing = pacing(Quota { burst, ..Quota::per_second(100, 1 << 20) });
        let all = pacing.allowance(at(0), PEER, CHANNEL).expect("nothing was sent").updates;
        pacing.charge(at(0), PEER, CHANNEL, all as u32, 0);
        assert_eq!(pacing.allowance(at(0), PEER, CHANNEL), None);
        assert_eq!(pacing.pop_due(at(99)), None);
        assert_eq!(pacing.pop_due(at(100)), Some((PEER, CHANNEL)));
        let next = pacing.allowance(at(100), PEER, CHANNEL).expect("they have waited").updates;
        assert!((9..=10).contains(&next), "{next}");
    }

    #[test]
    fn others_and_other_channels_have_no_bounds() {
        let mut pacing = pacing(Quota::per_second(1, 1024));
        pacing.charge(at(0), PEER, CHANNEL, 100, 100_000);
        let any = Allowance { updates: u64::MAX, bytes: usize::MAX };
        assert_eq!(pacing.allowance(at(0), PEER, 0), Some(any));
        assert_eq!(pacing.allowance(at(0), PeerIndex(9), CHANNEL), Some(any));
        assert_eq!(pacing.allowance(at(0), PEER, CHANNEL), None);
        assert_eq!((pacing.waiting(PEER), pacing.waiting(PeerIndex(9))), (1, 0));
    }

    /// A peer whose quota is used up connects again. What may be sent then.
    fn left_after(quota: Quota, goes_on: bool) -> Option<Allowance> {
        let mut pacing = pacing(Quota::per_second(10, 1024));
        pacing.charge(at(0), PEER, CHANNEL, 100, 0);
        assert_eq!(pacing.allowance(at(0), PEER, CHANNEL), None);
        pacing.pause(PEER);
        assert_eq!((pacing.earliest(), pacing.waiting(PEER)), (Time::NEVER, 0));
        pacing.set(PEER, [(CHANNEL, quota)].into_iter(), goes_on);
        pacing.allowance(at(0), PEER, CHANNEL)
    }

    #[test]
    fn what_was_sent_over_the_last_connection_counts_unless_the_peer_counts_anew() {
        let all = Some(Allowance { updates: 4, bytes: 508 });
        assert_eq!(left_after(Quota::per_second(10, 1024), true), None);
        assert_eq!(left_after(Quota::per_second(10, 1024), false), all);
        // It has another configuration, so it has restarted.
        assert_eq!(left_after(Quota::per_second(11, 1024), true).map(|now| now.bytes), Some(508));
    }

    #[test]
    fn nothing_is_left_of_a_former_member() {
        let mut pacing = pacing(Quota::per_second(1, 1024));
        pacing.charge(at(0), PEER, CHANNEL, 100, 0);
        assert_eq!(pacing.allowance(at(0), PEER, CHANNEL), None);
        pacing.remove(PEER);
        assert_eq!((pacing.earliest(), pacing.waiting(PEER)), (Time::NEVER, 0));
        assert!(pacing.peers[PEER.at()].is_empty());
        assert!(pacing.allowance(at(0), PEER, CHANNEL).is_some());
    }

    #[test]
    fn the_quotas_that_were_set_last_count() {
        let mut pacing = pacing(Quota::per_second(1, 1024));
        pacing.set(PEER, [(CHANNEL, Quota::per_second(1000, 1 << 20))].into_iter(), true);
        assert_eq!(pacing.peers[PEER.at()].len(), 1);
        assert!(pacing.allowance(at(0), PEER, CHANNEL).is_some_and(|now| now.updates > 100));
        pacing.set(PEER, [(0, Quota::per_second(1, 1024))].into_iter(), true);
        let any = Allowance { updates: u64::MAX, bytes: usize::MAX };
        assert_eq!(pacing.allowance(at(0), PEER, CHANNEL), Some(any));
    }

    /// Whatever a peer tells.
    #[test]
    fn a_quota_of_nothing_lets_one_update_through_at_a_time() {
        let burst = Duration::ZERO;
        let mut pacing = pacing(Quota { burst, ..Quota::per_second(1, 1) });
        let one = Allowance { updates: 1, bytes: 1 };
        assert_eq!(pacing.allowance(at(0), PEER, CHANNEL), Some(one));
        pacing.charge(at(0), PEER, CHANNEL, 1, 1);
        assert_eq!(pacing.allowance(at(999), PEER, CHANNEL), None);
        assert_eq!(pacing.pop_due(at(1007)), None);
        assert_eq!(pacing.pop_due(at(1008)), Some((PEER, CHANNEL)));
        assert_eq!(pacing.allowance(at(1008), PEER, CHANNEL), Some(one));
    }
}
