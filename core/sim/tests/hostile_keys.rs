//! What a member can do to others with keys, in a channel where the highest keys go first ([`Order::HighestKeyFirst`]):
//! it publishes three times what its links take, under the highest keys that there are. Honest members publish little,
//! under low keys. Their artifacts, and other channels, come as if the hostile member published nothing: keys are
//! compared among what one member offers, and for room, of which one member has an eighth. (Where members relay, what they
//! pass on of the hostile one takes a part of their links.) Invariant 11.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use slotcast::artifact::Artifact;
use slotcast::broadcast::Event;
use slotcast::config::{ChannelConfig, Config, Order};
use slotcast::id::{ArtifactId, ChannelId};
use slotcast::time::Time;
use slotcast_sim::{Application, Context, Link, Setup, Subnet};

const KEYED: ChannelId = ChannelId(1);
const OTHER: ChannelId = ChannelId(2);

const HOSTILE: usize = 0;
/// Looks at what comes.
const READER: usize = 1;
const MEMBERS: usize = 4;

/// Bytes in a second, from each member to each other one.
const LINK: u64 = 1_000_000;

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// The keys of the hostile member.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Keys {
    /// It publishes nothing.
    Silent,
    /// Above all others, and higher each time.
    Rising,
    /// The highest.
    Max,
    /// Above all others, and lower each time.
    Falling,
    /// Highest and lowest ones in turn, from both ends.
    Zigzag,
}

impl Keys {
    fn key(self, count: u64) -> Option<u64> {
        match self {
            Self::Silent => None,
            Self::Rising => Some((1 << 63) + count),
            Self::Max => Some(u64::MAX),
            Self::Falling => Some(u64::MAX - count),
            Self::Zigzag if count.is_multiple_of(2) => Some(u64::MAX - count),
            Self::Zigzag => Some(count),
        }
    }
}

#[derive(Default)]
struct Log {
    published: BTreeMap<ArtifactId, (usize, Time)>,
    /// At the reader, by channel and whether it is the hostile member's.
    ages: BTreeMap<(ChannelId, bool), Vec<Duration>>,
}

impl Application for Log {
    fn handle_event(&mut self, context: &mut Context<'_>, channel: ChannelId, event: Event) {
        if let Event::Delivered { artifact, .. } = event
            && context.at() == READER
            && let Some((by, published)) = self.published.get(&artifact.id()).copied()
        {
            let age = context.now().since(published);
            self.ages.entry((channel, by == HOSTILE)).or_default().push(age);
        }
    }
}

/// Artifacts of one member in a channel, each of which is aborted after a while.
struct Source {
    at: usize,
    channel: ChannelId,
    bytes: usize,
    /// In a hundred seconds.
    rate: u64,
    life: Duration,
    keys: Keys,
    count: u64,
    active: VecDeque<(Time, ArtifactId)>,
}

impl Source {
    fn new(at: usize, channel: ChannelId, bytes: usize, rate: u64) -> Self {
        let (life, keys) = (ms(1000), Keys::Zigzag);
        Self { at, channel, bytes, rate, life, keys, count: 0, active: VecDeque::new() }
    }

    fn go_on(&mut self, subnet: &mut Subnet<Log>, step: u64) {
        let (now, channel) = (subnet.now(), self.channel);
        while let Some((published, id)) = self.active.front().copied()
            && now.since(published) >= self.life
        {
            self.active.pop_front();
            subnet.command(self.at, |_, node| node.abort(channel, &id)).expect("it runs");
        }
        for _ in 0..(step + 1) * self.rate / 100_000 - step * self.rate / 100_000 {
            self.count += 1;
            let key = match self.at {
                HOSTILE => self.keys.key(self.count),
                _ => Some(self.count),
            };
            let mut content = format!("{} {channel:?} {}", self.at, self.count).into_bytes();
            content.resize(self.bytes, 0);
            let artifact = Artifact::keyed(key, content.into(), &[]).expect("within the limits");
            subnet.application.published.insert(artifact.id(), (self.at, now));
            self.active.push_back((now, artifact.id()));
            let done = subnet.command(self.at, |_, node| node.publish(channel, artifact));
            done.expect("it runs").expect("there is room");
        }
    }
}

/// p50 and p99 of what honest members publish in the two channels, and how many came of it.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Seen {
    came: usize,
    p50: Duration,
    p99: Duration,
}

fn seen(subnet: &Subnet<Log>, channel: ChannelId) -> Seen {
    let mut ages = subnet.application.ages[&(channel, false)].clone();
    ages.sort();
    Seen { came: ages.len(), p50: ages[ages.len() / 2], p99: ages[ages.len() * 99 / 100] }
}

/// What is published in the channel with keys.
#[derive(Clone, Copy, Debug)]
struct Load {
    bytes: usize,
    seconds: u64,
}

impl Load {
    fn of(bytes: usize) -> Self {
        Self { bytes, seconds: 6 }
    }
}

/// The hostile member publishes 300 % of what a link takes; honest ones publish 20 %.
fn run(keys: Keys, load: Load) -> [Seen; 2] {
    let Load { bytes, seconds } = load;
    let mut keyed = ChannelConfig::new(KEYED);
    (keyed.order, keyed.slots_max, keyed.active_bytes_max) =
        (Order::HighestKeyFirst, 1 << 14, 256 << 20);
    // Room for eight of them, far less than the hostile member has active.
    keyed.artifact_bytes_max = 500_000;
    keyed.inbox_bytes_max = 8 * keyed.artifact_bytes_max;
    let config = Config::new([keyed, ChannelConfig::new(OTHER)]);
    let setup = Setup::new(&config, MEMBERS).link(Link::new(ms(5))).seed(3);
    let mut subnet = Subnet::new(setup, Log::default());
    subnet.network.each_link(|_, _, link| {
        link.bytes_per_second = LINK;
        link.queue_bytes_max = LINK / 10;
    });
    let is_up = |subnet: &Subnet<Log>, at| at == READER || subnet.is_up(at, READER);
    let all_up = |subnet: &mut Subnet<Log>| (0..MEMBERS).all(|at| is_up(subnet, at));
    subnet.run_until("connected", ms(5_000), all_up);
    subnet.elapse(ms(1_000));
    let mut sources = Vec::new();
    for at in 0..MEMBERS {
        let percent = if at == HOSTILE { 300 } else { 20 };
        let rate = LINK * percent / bytes as u64;
        sources.push(Source { keys, ..Source::new(at, KEYED, bytes, rate) });
        sources.push(Source { keys, ..Source::new(at, OTHER, 200, 5_000) });
    }
    sources.retain(|source| source.at != HOSTILE || keys != Keys::Silent);
    for step in 0..seconds * 1_000 {
        sources.iter_mut().for_each(|source| source.go_on(&mut subnet, step));
        subnet.elapse(ms(1));
        if step == 2_000 {
            subnet.application.ages.clear();
        }
    }
    let of_hostile = subnet.application.ages.get(&(KEYED, true)).map_or(0, Vec::len);
    let seen = [KEYED, OTHER].map(|channel| seen(&subnet, channel));
    println!("{keys:?}, {load:?}: {of_hostile} of the hostile member, {seen:?}");
    seen
}

fn check(load: Load) {
    let undisturbed = run(Keys::Silent, load);
    for keys in [Keys::Rising, Keys::Max, Keys::Falling, Keys::Zigzag] {
        let disturbed = run(keys, load);
        for (with, without) in disturbed.into_iter().zip(undisturbed) {
            assert!(with.came * 100 >= without.came * 98, "{keys:?}: {with:?}, {without:?}");
            assert!(with.p50 <= without.p50.mul_f64(1.2), "{keys:?}: {with:?}, {without:?}");
            assert!(with.p99 <= without.p99.mul_f64(1.2), "{keys:?}: {with:?}, {without:?}");
        }
    }
}

#[test]
fn pushes_of_others_do_not_wait_for_the_highest_keys() {
    check(Load::of(500));
}

#[test]
fn fetches_of_others_do_not_wait_for_the_highest_keys() {
    check(Load::of(25_000));
}

/// They wait for room, too.
#[test]
fn long_fetches_of_others_do_not_wait_for_the_highest_keys() {
    check(Load { seconds: 22, ..Load::of(200_000) });
}
