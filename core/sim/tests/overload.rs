//! Scenario W6: more is published than a link takes, and aborted after a second. What arrives before that is of
//! use, and what is not aborted arrives, too. In simulated time.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use slotcast::artifact::Artifact;
use slotcast::broadcast::Event;
use slotcast::config::{ChannelConfig, Class, Config, Order};
use slotcast::id::{ArtifactId, ChannelId};
use slotcast::node::NodeEvent;
use slotcast::time::Time;
use slotcast_sim::{Application, Context, Link, Setup, Subnet};

const CHANNEL: ChannelId = ChannelId(1);

const STEP: Duration = ms(2);
const STEPS_PER_SECOND: u64 = 500;

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// A link, with a queue that lasts for 100 ms.
#[derive(Clone, Copy, Debug)]
struct Path {
    bytes_per_second: u64,
    latency: Duration,
}

const SLOW: Path = Path { bytes_per_second: 500_000, latency: ms(10) };
const CRAWLING: Path = Path { bytes_per_second: 50_000, latency: ms(50) };
const LONG: Path = Path { bytes_per_second: 5_000_000, latency: ms(50) };

/// The keys of what is published.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Keys {
    No,
    Rising,
    Shuffled,
}

impl Keys {
    const END: u64 = 1 << 32;

    fn key(self, count: u64) -> Option<u64> {
        match self {
            Self::No => None,
            Self::Rising => Some(count),
            Self::Shuffled => Some(count.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32),
        }
    }
}

/// What is published.
#[derive(Clone, Copy, Debug)]
struct Load {
    class: Class,
    bytes: usize,
    keys: Keys,
    /// As a part of the link's rate.
    rate: f64,
    /// An artifact is aborted so long after it was published.
    life: Duration,
    /// Of these, one is not, until it has arrived.
    kept_every: u64,
    /// For so long, and half of it before.
    measured: Duration,
}

impl Load {
    fn of(bytes: usize) -> Self {
        let (class, keys, rate, life) = (Class::Normal, Keys::No, 1.0, ms(1000));
        Self { class, bytes, keys, rate, life, kept_every: 100, measured: ms(6000) }
    }
}

/// What is active, and when it was published.
#[derive(Default)]
struct Log {
    active: BTreeMap<ArtifactId, Time>,
    /// Of what arrived while it was active.
    ages: Vec<Duration>,
    /// The keys of these.
    keys: Vec<u64>,
    /// Arrived, and to be aborted.
    arrived: Vec<ArtifactId>,
    /// When node 1 came to be behind, and when it was not any more.
    lags: Vec<(bool, Time)>,
}

impl Application for Log {
    fn handle_event(&mut self, context: &mut Context<'_>, _: ChannelId, event: Event) {
        if let Event::Delivered { artifact, .. } = event
            && let Some(published) = self.active.get(&artifact.id())
        {
            self.ages.push(context.now().since(*published));
            self.keys.extend(artifact.key());
            self.arrived.push(artifact.id());
        }
    }

    fn handle_node_event(&mut self, context: &mut Context<'_>, event: NodeEvent) {
        match event {
            NodeEvent::Behind { channel: CHANNEL, .. } => self.lags.push((true, context.now())),
            NodeEvent::CaughtUp { channel: CHANNEL, .. } => self.lags.push((false, context.now())),
            _ => {}
        }
    }
}

#[derive(Debug)]
struct Outcome {
    /// What arrived while it was active, as a part of the link's rate.
    goodput: f64,
    median_age: Duration,
    /// Of what arrived, the part that would have if the highest keys had.
    highest: f64,
    /// The oldest at the end, of those that were not aborted.
    oldest: Duration,
}

fn run(path: Path, load: Load) -> Outcome {
    run_on(path, load).0
}

fn run_on(path: Path, load: Load) -> (Outcome, Subnet<Log>) {
    let Load { class, bytes, keys, rate, life, kept_every, measured } = load;
    let mut channel = ChannelConfig::new(CHANNEL).class(class);
    if keys != Keys::No {
        channel.order = Order::HighestKeyFirst;
    }
    (channel.slots_max, channel.active_bytes_max) = (1 << 15, 256 << 20);
    let setup = Setup::new(&Config::new([channel]), 2).link(Link::new(path.latency)).seed(4);
    let mut subnet = Subnet::new(setup, Log::default());
    subnet.network.each_link(|_, _, link| {
        link.bytes_per_second = path.bytes_per_second;
        link.queue_bytes_max = path.bytes_per_second / 10;
    });
    subnet.run_until("connected", ms(10_000), |subnet| subnet.is_up(0, 1));
    let abort = |subnet: &mut Subnet<Log>, id| {
        if subnet.application.active.remove(&id).is_some() {
            subnet.command(0, |_, node| node.abort(CHANNEL, &id)).expect("it runs");
        }
    };
    let measured = measured.div_duration_f64(STEP) as u64;
    let warm_up = measured / 2;
    let (mut open, mut count, mut due) = (VecDeque::new(), 0_u64, 0.0);
    for step in 0..warm_up + measured {
        if step == warm_up {
            subnet.application.ages.clear();
            subnet.application.keys.clear();
        }
        let now = subnet.now();
        while let Some((published, id)) = open.front().copied()
            && now.since(published) >= life
        {
            open.pop_front();
            abort(&mut subnet, id);
        }
        for id in std::mem::take(&mut subnet.application.arrived) {
            abort(&mut subnet, id);
        }
        due += rate * (path.bytes_per_second / STEPS_PER_SECOND) as f64 / bytes as f64;
        while due >= 1.0 {
            (due, count) = (due - 1.0, count + 1);
            let mut content = vec![0; bytes];
            content[..8].copy_from_slice(&count.to_be_bytes());
            let artifact = Artifact::keyed(keys.key(count), content.into(), &[]);
            let artifact = artifact.expect("within the limits");
            subnet.application.active.insert(artifact.id(), now);
            if !count.is_multiple_of(kept_every) {
                open.push_back((now, artifact.id()));
            }
            let published = subnet.command(0, |_, node| node.publish(CHANNEL, artifact));
            published.expect("it runs").expect("there is room");
        }
        subnet.elapse(STEP);
    }
    let now = subnet.now();
    let Log { active, ages, keys, .. } = &mut subnet.application;
    ages.sort();
    let arrived = (ages.len() * bytes) as f64 * STEPS_PER_SECOND as f64 / measured as f64;
    let goodput = arrived / path.bytes_per_second as f64;
    let lowest = (1.0 - goodput / rate) * Keys::END as f64;
    let highest = keys.iter().filter(|key| **key as f64 >= lowest).count();
    let outcome = Outcome {
        goodput,
        highest: highest as f64 / keys.len() as f64,
        median_age: ages.get(ages.len() / 2).copied().unwrap_or_default(),
        oldest: active.values().map(|published| now.since(*published)).max().unwrap_or_default(),
    };
    (outcome, subnet)
}

/// Whatever the load is. Headers of packets and updates take a part of the link, which makes a difference for
/// short artifacts.
fn check(path: Path, load: Load, goodput_min: f64, median_age_max: Duration) {
    for rate in [1.5, 3.0, 10.0] {
        check_at(path, Load { rate, ..load }, goodput_min, median_age_max);
    }
}

fn check_at(path: Path, load: Load, goodput_min: f64, median_age_max: Duration) -> Outcome {
    let outcome = run(path, load);
    println!("{path:?}, {load:?}: {outcome:.2?}");
    assert!(outcome.goodput >= goodput_min);
    assert!(outcome.median_age <= median_age_max);
    assert!(outcome.oldest <= 5 * load.life);
    outcome
}

/// With keys that rise, the highest are the newest: as without keys. With others, all but the share of the oldest
/// goes to the highest ones.
fn check_keys(path: Path, load: Load, goodput_min: f64, median_age_max: Duration) {
    check(path, Load { keys: Keys::Rising, ..load }, goodput_min, median_age_max);
    for rate in [1.5, 3.0, 10.0] {
        let load = Load { keys: Keys::Shuffled, rate, ..load };
        // Those that are just high enough wait for their turn.
        let outcome = check_at(path, load, goodput_min, 2 * median_age_max);
        assert!(outcome.highest >= 0.85);
    }
}

/// Of the link, 0.88 is theirs when nothing is in vain.
#[test]
fn w6_pushes_under_overload_are_of_use() {
    check(SLOW, Load::of(200), 0.9 * 0.88, ms(260));
}

#[test]
fn w6_fetches_under_overload_are_of_use() {
    check(SLOW, Load::of(25_000), 0.9, ms(250));
}

/// A request and its answer take 150 ms.
#[test]
fn w6_fetches_over_a_long_path_under_overload_are_of_use() {
    check(LONG, Load::of(25_000), 0.9, ms(300));
}

/// 0.9 of what is of use without keys.
#[test]
fn w6_under_overload_the_highest_keys_are_pushed() {
    check_keys(SLOW, Load::of(200), 0.9 * 0.9 * 0.88, ms(300));
}

#[test]
fn w6_under_overload_the_highest_keys_are_fetched() {
    check_keys(SLOW, Load::of(25_000), 0.9 * 0.9, ms(250));
}

/// Of what is urgent, QUIC is not given seconds of the link beyond its window.
#[test]
fn w6_on_a_crawling_link_what_is_urgent_is_not_older() {
    let load = Load { rate: 3.0, life: ms(2000), measured: ms(20_000), ..Load::of(1000) };
    let [urgent, normal] = [Class::Urgent, Class::Normal].map(|class| {
        let outcome = run(CRAWLING, Load { class, ..load });
        println!("{class:?}: {outcome:.2?}");
        outcome
    });
    assert!(urgent.goodput >= 0.9 * normal.goodput);
    assert!(urgent.median_age <= 2 * normal.median_age);
}

/// Artifacts that are just too long to be pushed do not wait for each other's round trips.
#[test]
fn w2_many_fetches_fill_a_long_path() {
    let outcome = run(LONG, Load { rate: 0.7, ..Load::of(25_000) });
    println!("{outcome:.2?}");
    assert!(outcome.goodput >= 0.69 && outcome.median_age <= ms(200));
}

/// Each takes more than a second of the link, and several requests: what is begun comes to its end. Of those that
/// are not aborted, the oldest have room for about as many as there are. Over two minutes, since one more or less is
/// a hundredth.
#[test]
fn w6_fetches_of_long_artifacts_under_overload_are_of_use() {
    let load = Load { life: ms(10_000), measured: ms(120_000), ..Load::of(600_000) };
    for (rate, kept_every) in [(1.5, 20), (3.0, 40), (10.0, 150)] {
        check_at(SLOW, Load { rate, kept_every, ..load }, 0.9, ms(4000));
    }
}

#[test]
fn a_member_that_falls_behind_for_good_is_told_and_its_end_too() {
    let (_, mut subnet) = run_on(SLOW, Load { rate: 1.5, ..Load::of(200) });
    let stopped = subnet.now();
    subnet.run_until("caught up", ms(10_000), |subnet| subnet.application.lags.len() == 2);
    let [(true, behind), (false, caught_up)] = subnet.application.lags[..] else {
        panic!("{:?}", subnet.application.lags)
    };
    let overloaded = stopped.since(behind);
    // It is late soon after the beginning, and behind five seconds later.
    assert!(ms(9000 - 5000 - 1500) < overloaded && overloaded < ms(9000 - 5000), "{overloaded:?}");
    println!("behind {overloaded:?} before the end, and {:?} behind it", caught_up.since(stopped));
    assert!(caught_up.since(stopped) < ms(2000));
}
