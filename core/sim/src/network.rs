//! The network between participants: latency, bandwidth, queues, and what goes wrong in it.
//!
//! A datagram passes the uplink of its sender, then the link between the two, then the downlink of
//! its receiver. What happens to it on the first two is decided when it is sent, and at the downlink
//! when it gets there, since datagrams of several senders meet in its queue. The seed and the order
//! of sending decide, and nothing else. Knows nothing of what is in a datagram.

use core::time::Duration;
use std::collections::BTreeMap;

use super::bottleneck::{Bottleneck, Queue};
use super::fault::{FaultCounts, FaultKind};
use slotcast::internals::Random;
use slotcast::node::Ecn;
use slotcast::time::Time;

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
    /// Arriving more than once.
    pub duplicate: Chance,
    /// How often those arrive.
    pub copies: u32,
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
            copies: 2,
            corrupt: Chance::NEVER,
            mtu: 65_507,
        }
    }

    fn bottleneck(&self) -> Bottleneck {
        let Self { bytes_per_second, queue_bytes_max, .. } = *self;
        Bottleneck { bytes_per_second, queue_bytes_max }
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
    queue: Queue,
}

/// What connects a participant with the network, in one direction.
#[derive(Clone, Copy, Debug, Default)]
struct Access {
    bottleneck: Bottleneck,
    queue: Queue,
}

impl Access {
    fn pass(&mut self, now: Time, length: usize) -> Option<Time> {
        self.queue.pass(now, &self.bottleneck, length)
    }
}

/// What a datagram on its way comes to next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Hop {
    /// The end of the link, and so the receiver's downlink.
    Downlink,
    /// The receiver.
    Receiver,
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
    /// By participant.
    uplinks: Vec<Access>,
    downlinks: Vec<Access>,
    in_flight: BTreeMap<(Time, u64), (Hop, Datagram)>,
    sequence: u64,
    random: Random,
    faults: FaultCounts,
}

impl Network {
    /// `count` participants with the same link in every direction, and no bounds on what they send
    /// and receive.
    pub(crate) fn new(count: usize, link: Link, seed: u64) -> Self {
        let way = Way { link, cut: Cut::None, is_bad: false, queue: Queue::default() };
        Self {
            count,
            ways: std::vec![way; count * count],
            uplinks: std::vec![Access::default(); count],
            downlinks: std::vec![Access::default(); count],
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

    /// The uplink of a participant: what it sends to all others passes here first.
    pub fn uplink(&mut self, at: usize) -> &mut Bottleneck {
        &mut self.uplinks[at].bottleneck
    }

    /// The downlink of a participant: what all others send to it passes here last.
    pub fn downlink(&mut self, at: usize) -> &mut Bottleneck {
        &mut self.downlinks[at].bottleneck
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
        let Self { count, ways, uplinks, random, faults, .. } = self;
        let way = &mut ways[from * *count + to];
        let Some(sent_at) = uplinks[from].pass(now, bytes.len()) else {
            return faults.note(FaultKind::QueueDrop);
        };
        if let Some(fault) = way.loses(bytes.len(), random) {
            return faults.note(fault);
        }
        let link = way.link;
        let Some(leaves_at) = way.queue.pass(sent_at, &link.bottleneck(), bytes.len()) else {
            return faults.note(FaultKind::QueueDrop);
        };
        let mut copies = 1;
        if link.duplicate.happens(random) {
            faults.note(FaultKind::Duplicate);
            copies = link.copies;
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
            self.in_flight.insert((arrives_at, self.sequence), (Hop::Downlink, datagram));
        }
    }

    /// When the next datagram arrives, or comes to its receiver's downlink.
    pub(crate) fn next_at(&self) -> Time {
        self.in_flight.first_key_value().map_or(Time::NEVER, |((at, _), _)| *at)
    }

    /// A datagram that has arrived by now.
    pub(crate) fn arrived(&mut self, now: Time) -> Option<Datagram> {
        loop {
            let entry = self.in_flight.first_entry()?;
            let ((at, _), (hop, datagram)) =
                (entry.key().0 <= now).then(|| entry.remove_entry())?;
            if hop == Hop::Receiver {
                return Some(datagram);
            }
            match self.downlinks[datagram.to].pass(at, datagram.bytes.len()) {
                Some(leaves_at) if leaves_at == at => return Some(datagram),
                Some(leaves_at) => {
                    self.sequence += 1;
                    let next = (Hop::Receiver, datagram);
                    self.in_flight.insert((leaves_at, self.sequence), next);
                }
                None => self.faults.note(FaultKind::QueueDrop),
            }
        }
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
mod tests;
