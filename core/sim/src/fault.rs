//! What can go wrong between and in nodes, and how often it did.

use std::fmt;

/// A kind of fault that the simulator knows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[non_exhaustive]
pub enum FaultKind {
    /// A datagram is lost, independently of others.
    Loss,
    /// A datagram is lost with its neighbours (Gilbert and Elliott's model).
    BurstLoss,
    /// A datagram finds the queue before a slow link, uplink or downlink full.
    QueueDrop,
    /// A datagram is held back, so that later ones overtake it.
    Reorder,
    /// A datagram arrives twice.
    Duplicate,
    /// A datagram arrives with some bits changed.
    Corrupt,
    /// A datagram is larger than the link takes.
    Mtu,
    /// A datagram is lost to a partition in its direction only.
    CutOneWay,
    /// A datagram is lost to a partition in both directions.
    Cut,
    /// A node ends without a word, and starts again with what its application knew.
    Crash,
    /// A node ends without a word, and starts again with nothing.
    CrashAndForget,
    /// A node does nothing for a while; what arrives waits in its socket.
    Stall,
    /// An application takes no events for a while.
    Deaf,
    /// A clock jumps forwards.
    ClockForward,
    /// A clock jumps backwards.
    ClockBack,
    /// A clock runs too fast or too slow.
    ClockDrift,
    /// A member leaves the topology, and comes back.
    Leave,
}

impl FaultKind {
    /// All kinds.
    pub const ALL: [Self; 17] = [
        Self::Loss,
        Self::BurstLoss,
        Self::QueueDrop,
        Self::Reorder,
        Self::Duplicate,
        Self::Corrupt,
        Self::Mtu,
        Self::CutOneWay,
        Self::Cut,
        Self::Crash,
        Self::CrashAndForget,
        Self::Stall,
        Self::Deaf,
        Self::ClockForward,
        Self::ClockBack,
        Self::ClockDrift,
        Self::Leave,
    ];

    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Loss => "loss",
            Self::BurstLoss => "burst_loss",
            Self::QueueDrop => "queue_drop",
            Self::Reorder => "reorder",
            Self::Duplicate => "duplicate",
            Self::Corrupt => "corrupt",
            Self::Mtu => "mtu",
            Self::CutOneWay => "cut_one_way",
            Self::Cut => "cut",
            Self::Crash => "crash",
            Self::CrashAndForget => "crash_and_forget",
            Self::Stall => "stall",
            Self::Deaf => "deaf",
            Self::ClockForward => "clock_forward",
            Self::ClockBack => "clock_back",
            Self::ClockDrift => "clock_drift",
            Self::Leave => "leave",
        }
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How often each kind of fault has acted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FaultCounts([u64; FaultKind::ALL.len()]);

impl FaultCounts {
    /// Counts one.
    pub const fn note(&mut self, fault: FaultKind) {
        self.0[fault as usize] += 1;
    }

    /// How often a kind has acted.
    pub const fn count(&self, fault: FaultKind) -> u64 {
        self.0[fault as usize]
    }

    /// All kinds with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (FaultKind, u64)> {
        FaultKind::ALL.into_iter().map(|fault| (fault, self.count(fault)))
    }

    /// Adds those of another run.
    pub fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(own, other)| *own += other);
    }
}
