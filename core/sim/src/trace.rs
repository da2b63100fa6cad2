//! What has happened, in order: a hash of all of it, and the last of it in words.

use std::collections::VecDeque;
use std::fmt;

use slotcast::error::Fault;
use slotcast::id::{ArtifactId, ChannelId};
use slotcast::time::Time;

/// Entries that are kept to be shown with a failure.
const LAST_MAX: usize = 40;

/// Something that happened to a participant. Others are named by their places.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum What {
    /// It was started, for the n-th time.
    Started(u32),
    /// It ended without a word.
    Crashed,
    /// It does nothing until then.
    Stalled(Time),
    /// Its application takes no events until then.
    Deaf(Time),
    /// Its clock jumped, by so many nanoseconds.
    ClockJumped(i64),
    /// Its clock runs by so many millionths faster than it should.
    ClockDrifts(i32),
    /// It has a connection to a peer.
    Up(u16),
    /// It has none any more.
    Down(u16),
    /// A peer broke a rule.
    Breach(u16, Fault),
    /// It published an artifact.
    Published(ChannelId, ArtifactId),
    /// It aborted an artifact.
    Aborted(ChannelId, ArtifactId),
    /// It aborted all artifacts under keys below this one.
    AbortedBelow(ChannelId, u64),
    /// It was brought an artifact by a peer.
    Delivered(ChannelId, ArtifactId, u16),
    /// So many peers have acknowledged its artifact.
    Covered(ChannelId, ArtifactId, u16),
    /// A peer does not advertise an artifact any more.
    Withdrawn(ChannelId, ArtifactId, u16),
    /// Nobody advertises an artifact any more.
    Expired(ChannelId, ArtifactId),
    /// It left the topology, or came back.
    Member(bool),
    /// The links between the participant and another are cut, one way or both; or all are whole.
    Cut(Option<(u16, bool)>),
}

/// A line of the trace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The simulator's time.
    pub time: Time,
    /// The participant's place.
    pub at: u16,
    /// What happened.
    pub what: What,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.time.0 as f64 / 1e9;
        write!(f, "{seconds:12.6} s  node {:<3} ", self.at)?;
        match self.what {
            What::Started(1) => write!(f, "started"),
            What::Started(count) => write!(f, "started again ({count})"),
            What::Crashed => write!(f, "crashed"),
            What::Stalled(until) => write!(f, "stalls until {:.6} s", until.0 as f64 / 1e9),
            What::Deaf(until) => write!(f, "takes no events until {:.6} s", until.0 as f64 / 1e9),
            What::ClockJumped(by) => write!(f, "clock jumps by {:.6} s", by as f64 / 1e9),
            What::ClockDrifts(by) => write!(f, "clock drifts by {by} ppm"),
            What::Up(peer) => write!(f, "up: {peer}"),
            What::Down(peer) => write!(f, "down: {peer}"),
            What::Breach(peer, fault) => write!(f, "breach by {peer}: {fault}"),
            What::Published(channel, id) => write!(f, "publishes {id:#} on {}", channel.0),
            What::Aborted(channel, id) => write!(f, "aborts {id:#} on {}", channel.0),
            What::AbortedBelow(channel, key) => {
                write!(f, "aborts what is below {key} on {}", channel.0)
            }
            What::Delivered(channel, id, from) => {
                write!(f, "is brought {id:#} on {} by {from}", channel.0)
            }
            What::Withdrawn(channel, id, by) => {
                write!(f, "is told that {by} withdrew {id:#} on {}", channel.0)
            }
            What::Expired(channel, id) => {
                write!(f, "is told that {id:#} expired on {}", channel.0)
            }
            What::Covered(channel, id, by) => {
                write!(f, "is told that {by} have {id:#} on {}", channel.0)
            }
            What::Member(true) => write!(f, "is a member"),
            What::Member(false) => write!(f, "is no member any more"),
            What::Cut(Some((peer, true))) => write!(f, "is cut off from {peer}"),
            What::Cut(Some((peer, false))) => write!(f, "does not get through to {peer}"),
            What::Cut(None) => write!(f, "all cuts are healed"),
        }
    }
}

/// The course of a run.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    hash: u64,
    last: VecDeque<Entry>,
    all: Option<Vec<Entry>>,
}

impl Trace {
    /// Keeps every entry from now on, to be drawn.
    pub fn keep_all(&mut self) {
        self.all.get_or_insert_default();
    }

    /// A hash of everything that happened, datagrams included: two runs with the same hash took
    /// the same course.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The last entries, oldest first.
    pub fn last(&self) -> impl Iterator<Item = &Entry> {
        self.last.iter()
    }

    /// All entries, if they were to be kept.
    pub fn all(&self) -> &[Entry] {
        self.all.as_deref().unwrap_or_default()
    }

    fn mix(&mut self, number: u64) {
        self.hash = (self.hash.rotate_left(5) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    /// A datagram was sent.
    pub(crate) fn note_datagram(&mut self, time: Time, from: usize, to: usize, length: usize) {
        self.mix(time.0);
        self.mix((from as u64) << 48 | (to as u64) << 32 | length as u64);
    }

    pub(crate) fn note(&mut self, time: Time, at: usize, what: What) {
        let entry = Entry { time, at: at as u16, what };
        self.mix(time.0);
        let id = |channel: ChannelId, id: ArtifactId| {
            let word = u64::from_le_bytes(*id.0.first_chunk().expect("32 bytes"));
            word ^ u64::from(channel.0)
        };
        let (kind, number) = match what {
            What::Started(count) => (0, count.into()),
            What::Crashed => (1, 0),
            What::Stalled(until) => (2, until.0),
            What::Deaf(until) => (3, until.0),
            What::ClockJumped(by) => (4, by as u64),
            What::ClockDrifts(by) => (5, by as u64),
            What::Up(peer) => (6, peer.into()),
            What::Down(peer) => (7, peer.into()),
            What::Breach(peer, _) => (8, peer.into()),
            What::Published(on, artifact) => (9, id(on, artifact)),
            What::Aborted(on, artifact) => (10, id(on, artifact)),
            What::AbortedBelow(on, key) => (16, key ^ u64::from(on.0) << 48),
            What::Delivered(on, artifact, from) => (11, id(on, artifact) ^ u64::from(from) << 32),
            What::Withdrawn(on, artifact, by) => (12, id(on, artifact) ^ u64::from(by) << 32),
            What::Expired(on, artifact) => (13, id(on, artifact)),
            What::Covered(on, artifact, by) => (16, id(on, artifact) ^ u64::from(by) << 32),
            What::Member(is_in) => (14, is_in.into()),
            What::Cut(cut) => {
                (15, cut.map_or(0, |(peer, both)| u64::from(peer) << 2 | u64::from(both) << 1 | 1))
            }
        };
        self.mix(kind << 32 | at as u64);
        self.mix(number);
        if self.last.len() == LAST_MAX {
            self.last.pop_front();
        }
        self.last.push_back(entry);
        if let Some(all) = &mut self.all {
            all.push(entry);
        }
    }
}
