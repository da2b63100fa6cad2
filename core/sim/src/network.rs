//! The network between participants: latency, bandwidth, queues, and what goes wrong in it.
//!
//! Every datagram meets its fate when it is sent: what the seed and the order of sending say, and
//! nothing else. Knows nothing of what is in a datagram.

use core::time::Duration;
use std::collections::BTreeMap;

use super::fault::{FaultCounts, FaultKind};
use slotcast::internals::Random;
use slotcast::node::Ecn;
use slotcast::time::Time;

/// Overhead of IPv4 and UDP, which a link's bandwidth and MTU are spent on, too, in bytes.
const HEADERS: usize = 28;

/// How likely something is, in millionths.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Chance(pub u32);

impl Chance {
    /// Never.
    pub const NEVER: Self = Self(0);

    /// So many of a hundred.
    pub const fn percent(percent: u32) -> Self {
        Self(percent * 10_000)
    }

    /// Rolls the dice, if there is anything to be decided.
    pub(crate) fn happens(self, random: &mut Random) -> bool {
        self.0 > 0 && random.below(1_000_000) < u64::from(self.0)
    }
}

/// How long a datagram is on its way, queues aside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Latency {
    /// Always the same.
    Fixed(Duration),
    /// Anything from the first to the sum of both, so that datagrams overtake each other.
    Jitter(Duration, Duration),
    /// At least the first; the second more with a chance of a half, twice the second with a chance
    /// of a quarter, and so on to 64 times (a discrete Pareto distribution).
    HeavyTail(Duration, Duration),
}

impl Latency {
    fn draw(self, random: &mut Random) -> Duration {
        match self {
            Self::Fixed(base) => base,
            Self::Jitter(base, span) => base + random.duration_below(span),
            Self::HeavyTail(base, unit) => match random.bits().trailing_zeros() {
                0 => base,
                ones => base + unit * (1 << (ones - 1).min(6)),
            },
        }
    }
}

/// Loss in bursts (Gilbert and Elliott's model): a link changes between a good and a bad state with
/// each datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bursts {
    /// From good to bad.
    pub begin: Chance,
    /// From bad to good.
    pub end: Chance,
    /// Of a loss in the bad state.
    pub loss: Chance,
}

/// One direction between two participants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Link {
    /// How long a datagram is on its way.
    pub latency: Latency,
    /// Bytes per second, headers included; 0 for no bound.
    pub bytes_per_second: u64,
    /// Bytes that may wait for a link with such a bound; what comes then is lost (tail drop).
    pub queue_bytes_max: u64,
    /// Loss of single datagrams.
    pub loss: Chance,
    /// Loss in bursts.
    pub bursts: Option<Bursts>,
    /// Being held back by up to `reorder_by`.
    pub reorder: Chance,
    /// Longest time that a datagram is held back.
    pub reorder_by: Duration,
    /// Arriving twice.
    pub duplicate: Chance,
    /// Arriving with one to eight bits changed.
    pub corrupt: Chance,
    /// Largest datagram in bytes, headers aside; larger ones are lost.
    pub mtu: usize,
}

impl Link {
    /// A link on which nothing goes wrong.
    pub const fn new(latency: Duration) -> Self {
        Self {
            latency: Latency::Fixed(latency),
            bytes_per_second: 0,
            queue_bytes_max: 256 << 10,
            loss: Chance::NEVER,
            bursts: None,
            reorder: Chance::NEVER,
            reorder_by: Duration::ZERO,
            duplicate: Chance::NEVER,
            corrupt: Chance::NEVER,
            mtu: 65_507,
        }
    }
}

/// Whether anything gets through.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Cut {
    #[default]
    None,
    OneWay,
    Both,
}

#[derive(Clone, Debug)]
struct Way {
    link: Link,
    cut: Cut,
    /// In the bad state of bursts.
    is_bad: bool,
    /// When everything before has left.
    busy_until: Time,
}

/// A datagram on its way.
#[derive(Clone, Debug)]
pub(crate) struct Datagram {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) ecn: Option<Ecn>,
    pub(crate) bytes: Vec<u8>,
}

/// The links between all participants, and what is on its way.
#[derive(Debug)]
pub struct Network {
    count: usize,
    ways: Vec<Way>,
    in_flight: BTreeMap<(Time, u64), Datagram>,
    sequence: u64,
    random: Random,
    faults: FaultCounts,
}

impl Network {
    /// `count` participants with the same link in every direction.
    pub(crate) fn new(count: usize, link: Link, seed: u64) -> Self {
        let way = Way { link, cut: Cut::None, is_bad: false, busy_until: Time::ZERO };
        Self {
            count,
            ways: std::vec![way; count * count],
            in_flight: BTreeMap::new(),
            sequence: 0,
            random: Random::new(seed),
            faults: FaultCounts::default(),
        }
    }

    fn way(&mut self, from: usize, to: usize) -> &mut Way {
        assert!(from < self.count && to < self.count, "participants have places");
        &mut self.ways[from * self.count + to]
    }

    /// The link of one direction.
    pub fn link(&mut self, from: usize, to: usize) -> &mut Link {
        &mut self.way(from, to).link
    }

    /// Changes all links.
    pub fn each_link(&mut self, mut change: impl FnMut(usize, usize, &mut Link)) {
        let count = self.count;
        for (at, way) in self.ways.iter_mut().enumerate() {
            change(at / count, at % count, &mut way.link);
        }
    }

    /// Lets nothing through in one direction.
    pub fn cut_one_way(&mut self, from: usize, to: usize) {
        self.way(from, to).cut = Cut::OneWay;
    }

    /// Lets nothing through between two groups. What is cut already is cut as it was.
    pub fn cut(&mut self, a: &[usize], b: &[usize]) {
        for (a, b) in a.iter().flat_map(|a| b.iter().map(move |b| (*a, *b))) {
            for (from, to) in [(a, b), (b, a)] {
                let cut = &mut self.way(from, to).cut;
                *cut = if *cut == Cut::None { Cut::Both } else { *cut };
            }
        }
    }

    /// Takes all cuts back.
    pub fn heal(&mut self) {
        self.ways.iter_mut().for_each(|way| way.cut = Cut::None);
    }

    /// How often what has gone wrong.
    pub fn faults(&self) -> &FaultCounts {
        &self.faults
    }

    /// Datagrams on their way.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Puts a datagram on its way, or loses it.
    pub(crate) fn send(
        &mut self,
        now: Time,
        from: usize,
        to: usize,
        ecn: Option<Ecn>,
        bytes: &[u8],
    ) {
        let Self { count, ways, random, faults, .. } = self;
        let way = &mut ways[from * *count + to];
        if let Some(fault) = way.loses(bytes.len(), random) {
            return faults.note(fault);
        }
        let link = way.link;
        let mut leaves_at = now;
        if link.bytes_per_second > 0 {
            let span = |bytes: u64| {
                Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / link.bytes_per_second)
            };
            leaves_at = leaves_at.max(way.busy_until);
            if leaves_at.since(now) > span(link.queue_bytes_max) {
                return faults.note(FaultKind::QueueDrop);
            }
            leaves_at = leaves_at + span((bytes.len() + HEADERS) as u64);
            way.busy_until = leaves_at;
        }
        let mut copies = 1;
        if link.duplicate.happens(random) {
            faults.note(FaultKind::Duplicate);
            copies = 2;
        }
        for _ in 0..copies {
            let mut arrives_at = leaves_at + link.latency.draw(random);
            if link.reorder.happens(random) {
                faults.note(FaultKind::Reorder);
                arrives_at = arrives_at + random.duration_below(link.reorder_by);
            }
            let mut bytes = bytes.to_vec();
            if link.corrupt.happens(random) {
                faults.note(FaultKind::Corrupt);
                for _ in 0..=random.below(8) {
                    let bit = random.below(bytes.len() as u64 * 8);
                    bytes[bit as usize / 8] ^= 1 << (bit % 8);
                }
            }
            self.sequence += 1;
            let datagram = Datagram { from, to, ecn, bytes };
            self.in_flight.insert((arrives_at, self.sequence), datagram);
        }
    }

    /// When the next datagram arrives.
    pub(crate) fn next_at(&self) -> Time {
        self.in_flight.first_key_value().map_or(Time::NEVER, |((at, _), _)| *at)
    }

    /// A datagram that has arrived by now.
    pub(crate) fn arrived(&mut self, now: Time) -> Option<Datagram> {
        let entry = self.in_flight.first_entry()?;
        (entry.key().0 <= now).then(|| entry.remove())
    }
}

impl Way {
    /// What a datagram is lost to, if it is.
    fn loses(&mut self, length: usize, random: &mut Random) -> Option<FaultKind> {
        let link = &self.link;
        match self.cut {
            Cut::None => {}
            Cut::OneWay => return Some(FaultKind::CutOneWay),
            Cut::Both => return Some(FaultKind::Cut),
        }
        if length > link.mtu {
            return Some(FaultKind::Mtu);
        }
        if let Some(bursts) = link.bursts {
            let change = if self.is_bad { bursts.end } else { bursts.begin };
            self.is_bad ^= change.happens(random);
            if self.is_bad && bursts.loss.happens(random) {
                return Some(FaultKind::BurstLoss);
            }
        }
        link.loss.happens(random).then_some(FaultKind::Loss)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// The times in ms at which `count` datagrams of `length` bytes arrive that are sent at once.
    fn arrivals(link: Link, count: usize, length: usize) -> (Vec<u64>, Network) {
        let mut network = Network::new(2, link, 7);
        (0..count).for_each(|_| network.send(Time::ZERO, 0, 1, None, &std::vec![0; length]));
        let mut times = Vec::new();
        while network.next_at() < Time::NEVER {
            let at = network.next_at();
            network.arrived(at).expect("it is its time");
            times.push(at.0 / 1_000_000);
        }
        (times, network)
    }

    #[test]
    fn a_slow_link_spreads_datagrams_and_drops_what_its_queue_does_not_hold() {
        let link = Link { bytes_per_second: 100_000, queue_bytes_max: 4_900, ..Link::new(5 * MS) };
        let (times, network) = arrivals(link, 10, 972);
        assert_eq!(times, [15, 25, 35, 45, 55]);
        assert_eq!(network.faults().count(FaultKind::QueueDrop), 5);
    }

    #[test]
    fn chances_come_true_about_as_often_as_they_say() {
        let link = Link {
            loss: Chance::percent(10),
            duplicate: Chance::percent(20),
            corrupt: Chance::percent(30),
            reorder: Chance::percent(40),
            reorder_by: 20 * MS,
            ..Link::new(MS)
        };
        let (times, network) = arrivals(link, 10_000, 100);
        let near = |fault, expected: u64| {
            let count = network.faults().count(fault);
            assert!(count.abs_diff(expected) < expected / 10, "{fault}: {count}");
        };
        near(FaultKind::Loss, 1_000);
        near(FaultKind::Duplicate, 1_800);
        near(FaultKind::Corrupt, 3_240);
        near(FaultKind::Reorder, 4_320);
        assert_eq!(
            times.len() as u64,
            10_000 - network.faults().count(FaultKind::Loss)
                + network.faults().count(FaultKind::Duplicate)
        );
        assert!(times.iter().all(|time| (1..=21).contains(time)));
    }

    #[test]
    fn bursts_lose_neighbours() {
        let bursts =
            Bursts { begin: Chance::percent(1), end: Chance::percent(10), loss: Chance(1_000_000) };
        let (times, network) = arrivals(Link { bursts: Some(bursts), ..Link::new(MS) }, 10_000, 10);
        let lost = 10_000 - times.len() as u64;
        assert_eq!(network.faults().count(FaultKind::BurstLoss), lost);
        assert!((600..1_300).contains(&lost), "about an eleventh: {lost}");
    }

    #[test]
    fn cuts_and_sizes_lose_what_they_say_until_they_are_healed() {
        let mut network = Network::new(3, Link { mtu: 1_300, ..Link::new(MS) }, 7);
        let send = |network: &mut Network, from, to, length: usize| {
            network.send(Time::ZERO, from, to, None, &std::vec![0; length]);
            std::mem::take(&mut network.in_flight).len()
        };
        network.cut_one_way(0, 1);
        assert_eq!((send(&mut network, 0, 1, 9), send(&mut network, 1, 0, 9)), (0, 1));
        network.cut(&[0, 1], &[2]);
        assert_eq!((send(&mut network, 0, 2, 9), send(&mut network, 2, 1, 9)), (0, 0));
        network.heal();
        assert_eq!((send(&mut network, 0, 1, 9), send(&mut network, 2, 1, 9)), (1, 1));
        assert_eq!((send(&mut network, 0, 1, 1_300), send(&mut network, 0, 1, 1_301)), (1, 0));
        let counts = [FaultKind::CutOneWay, FaultKind::Cut, FaultKind::Mtu]
            .map(|f| network.faults().count(f));
        assert_eq!(counts, [1, 2, 1]);
    }

    #[test]
    fn tails_are_heavy() {
        let mut random = Random::new(1);
        let tail = Latency::HeavyTail(10 * MS, MS);
        let drawn: Vec<Duration> = (0..10_000).map(|_| tail.draw(&mut random)).collect();
        let above = |ms: u32| drawn.iter().filter(|latency| **latency >= ms * MS).count();
        assert!((4_500..5_500).contains(&above(11)), "{}", above(11));
        assert!((50..250).contains(&above(42)), "{}", above(42));
        assert_eq!(above(75), 0);
    }
}
