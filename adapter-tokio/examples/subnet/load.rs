//! What is published: channels, artifacts, and what becomes of each. All of it follows from the
//! seed, so that a receiver can tell by itself what it should have got.

use std::time::Duration;

use slotcast::artifact::Artifact;
use slotcast::config::{ChannelConfig, Class, Config};
use slotcast::id::ChannelId;

use crate::catchup;
use crate::options::Options;

/// One channel of the subnet.
pub(crate) struct Lane {
    pub(crate) id: ChannelId,
    pub(crate) name: &'static str,
    class: Class,
    size: usize,
    /// One artifact of the channel for so many of the first one's.
    one_in: u32,
}

/// The channels. Elsewhere a channel is its place in here.
pub(crate) const LANES: [Lane; 3] = [
    Lane { id: ChannelId(1), name: "shares", class: Class::Urgent, size: 200, one_in: 1 },
    Lane { id: ChannelId(2), name: "ingress", class: Class::Normal, size: 64 << 10, one_in: 4 },
    Lane { id: ChannelId(3), name: "blocks", class: Class::Bulk, size: 4 << 20, one_in: 50 },
];

/// What a node keeps active on a channel: then it waits until something of it has been everywhere.
const ACTIVE_BYTES_MAX: u64 = 16 << 20;

/// Room for short artifacts until the application takes them.
const INBOX_BYTES_MIN: u64 = 8 << 20;

/// An artifact: the `number`th of a channel, by one life of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Name {
    pub(crate) life: usize,
    pub(crate) lane: usize,
    pub(crate) number: u32,
}

/// What is to become of an artifact.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    /// Stays active until the end.
    Kept,
    /// Aborted this long after it was published, wherever it has got by then.
    AbortedSoon(Duration),
    /// Aborted once all nodes have it.
    AbortedWhenDelivered,
}

/// The seeded load of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    seed: u64,
    size: Option<usize>,
    artifacts: u32,
    pub(crate) spread: Duration,
}

impl Load {
    /// The load that `options` ask for.
    pub(crate) fn new(options: &Options) -> Self {
        let Options { seed, size, artifacts, spread, .. } = *options;
        Self { seed, size, artifacts, spread }
    }

    /// Artifacts that each node publishes on a channel.
    pub(crate) fn count(&self, lane: usize) -> u32 {
        (self.artifacts / LANES[lane].one_in).max(1)
    }

    pub(crate) fn size(&self, lane: usize) -> usize {
        self.size.unwrap_or(LANES[lane].size)
    }

    /// When an artifact is published, from the beginning: evenly, but not in step with others.
    pub(crate) fn due(&self, name: Name) -> Duration {
        let within = self.random(name).next() as f64 / u64::MAX as f64;
        self.spread.mul_f64((f64::from(name.number) + within) / f64::from(self.count(name.lane)))
    }

    /// A configuration in which each channel has room for what a node keeps active, up to 16 MiB, and for what it
    /// fetches from f + 1 others at once, however long they keep it waiting.
    pub(crate) fn config(&self, nodes: usize) -> Config {
        let holders = (nodes as u64 - 1) / 3 + 1;
        let channels = LANES.iter().enumerate().map(|(lane, Lane { id, class, .. })| {
            let mut channel = ChannelConfig::new(*id).class(*class);
            channel.artifact_bytes_max = self.size(lane) as u64;
            channel.active_bytes_max = ACTIVE_BYTES_MAX.max(channel.artifact_bytes_max);
            channel.inbox_bytes_max = INBOX_BYTES_MIN.max(holders * channel.artifact_bytes_max);
            channel
        });
        let longest = (0..LANES.len()).map(|lane| self.size(lane)).max().unwrap_or(0);
        let mut config = Config::new(channels).routes(catchup::routes(longest));
        config.peers_max = nodes as u16 - 1;
        config
    }

    fn random(&self, name: Name) -> SplitMix {
        let place = (name.life as u64) << 48 | (name.lane as u64) << 32 | u64::from(name.number);
        SplitMix(SplitMix(self.seed).next() ^ SplitMix(!place).next())
    }

    /// The artifact's bytes, eight at a time, without end.
    fn words(&self, name: Name) -> impl Iterator<Item = [u8; 8]> {
        let mut random = self.random(name);
        std::iter::repeat_with(move || random.next().to_le_bytes())
    }

    /// Makes an artifact.
    pub(crate) fn artifact(&self, name: Name) -> Artifact {
        let size = self.size(name.lane);
        let mut bytes: Vec<u8> = self.words(name).take(size.div_ceil(8)).flatten().collect();
        bytes.truncate(size);
        // Tells artifacts apart that are too short to differ.
        let metadata = format!("{}/{}/{}", name.life, LANES[name.lane].name, name.number);
        Artifact::new(bytes.into(), metadata.as_bytes()).expect("within the limits of the format")
    }

    /// Whether these are the bytes of that artifact.
    pub(crate) fn is_genuine(&self, name: Name, bytes: &[u8]) -> bool {
        let (words, rest) = bytes.as_chunks();
        let mut genuine = self.words(name);
        bytes.len() == self.size(name.lane)
            && words.iter().all(|word| genuine.next().as_ref() == Some(word))
            && genuine.next().is_some_and(|word| *rest == word[..rest.len()])
    }

    /// Of ten artifacts two are aborted soon, and three when they are delivered.
    pub(crate) fn fate(&self, name: Name) -> Fate {
        let mut random = SplitMix(!self.random(name).next());
        match random.next() % 10 {
            0 => Fate::AbortedSoon(Duration::ZERO),
            1 => Fate::AbortedSoon(Duration::from_micros(random.next() % 10_000)),
            2..=4 => Fate::AbortedWhenDelivered,
            _ => Fate::Kept,
        }
    }
}

/// Sebastiano Vigna's splitmix64: any seed will do.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ word >> 31
    }
}
