//! What a member publishes in a channel beyond its quota waits until it is due, at that member. Its other channels go on
//! meanwhile, and members that stay below notice nothing. (Members that send it all the same are in `hostile_tests`.)
//! Invariant 11.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use slotcast::artifact::Artifact;
use slotcast::broadcast::Event;
use slotcast::config::{ChannelConfig, Config, Quota};
use slotcast::id::{ArtifactId, ChannelId, NodeId};
use slotcast::snapshot::{LinkSnapshot, PeerSnapshot};
use slotcast::time::Time;
use slotcast_sim::{Application, Context, FaultKind, Link, Setup, Subnet};

const LIMITED: ChannelId = ChannelId(1);
const OTHER: ChannelId = ChannelId(2);

/// Publishes too much in one channel.
const EAGER: usize = 0;
/// Looks at what comes.
const READER: usize = 1;
/// Publishes little in both channels.
const MODEST: usize = 2;

const UPDATES_PER_SECOND: u64 = 200;

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

#[derive(Default)]
struct Log {
    published: BTreeMap<ArtifactId, Time>,
    /// At the reader, by channel and publisher.
    ages: BTreeMap<(ChannelId, NodeId), Vec<Duration>>,
}

impl Application for Log {
    fn handle_event(&mut self, context: &mut Context<'_>, channel: ChannelId, event: Event) {
        if let Event::Delivered { artifact, from } = event
            && context.at() == READER
            && let Some(published) = self.published.get(&artifact.id())
        {
            self.ages.entry((channel, from)).or_default().push(context.now().since(*published));
        }
    }
}

/// Artifacts of one member in a channel, each of which is aborted after a while.
struct Source {
    at: usize,
    channel: ChannelId,
    every_ms: u64,
    each_time: u64,
    life: Duration,
    active: VecDeque<(Time, ArtifactId)>,
}

impl Source {
    fn new(at: usize, channel: ChannelId, every_ms: u64, each_time: u64, life: Duration) -> Self {
        Self { at, channel, every_ms, each_time, life, active: VecDeque::new() }
    }

    fn go_on(&mut self, subnet: &mut Subnet<Log>, step: u64) {
        let (now, channel) = (subnet.now(), self.channel);
        while let Some((published, id)) = self.active.front().copied()
            && now.since(published) >= self.life
        {
            self.active.pop_front();
            subnet.command(self.at, |_, node| node.abort(channel, &id)).expect("it runs");
        }
        if !step.is_multiple_of(self.every_ms) {
            return;
        }
        for number in 0..self.each_time {
            let content = format!("{} {channel:?} {step} {number}", self.at);
            let artifact = Artifact::new(content.into(), &[]).expect("within the limits");
            subnet.application.published.insert(artifact.id(), now);
            self.active.push_back((now, artifact.id()));
            let done = subnet.command(self.at, |_, node| node.publish(channel, artifact));
            done.expect("it runs").expect("there is room");
        }
    }
}

fn subnet(quota: Option<Quota>) -> Subnet<Log> {
    let mut limited = ChannelConfig::new(LIMITED);
    (limited.quota, limited.slots_max) = (quota, 1 << 14);
    let config = Config::new([limited, ChannelConfig::new(OTHER)]);
    let setup = Setup::new(&config, 3).link(Link::new(ms(5))).seed(3);
    let mut subnet = Subnet::new(setup, Log::default());
    subnet.network.each_link(|_, _, link| link.bytes_per_second = 12_500_000);
    let all_up =
        |subnet: &mut Subnet<Log>| subnet.is_up(EAGER, READER) && subnet.is_up(MODEST, READER);
    subnet.run_until("connected", ms(5_000), all_up);
    subnet.elapse(ms(1_000));
    subnet
}

fn quota() -> Quota {
    Quota::per_second(UPDATES_PER_SECOND as u32, 1 << 20)
}

/// What the reader knows of a member.
fn link(subnet: &Subnet<Log>, at: usize) -> LinkSnapshot {
    of_peer(subnet, READER, at).link.expect("it is up")
}

/// What a member knows of another one.
fn of_peer(subnet: &Subnet<Log>, at: usize, other: usize) -> PeerSnapshot {
    let other = subnet.id(other);
    let peers = subnet.node(at).expect("it runs").snapshot(Time::ZERO).peers;
    *peers.iter().find(|of| of.id == other).expect("a member")
}

fn p99(subnet: &Subnet<Log>, channel: ChannelId, at: usize) -> Duration {
    let mut ages = subnet.application.ages[&(channel, subnet.id(at))].clone();
    ages.sort();
    println!("{channel:?} of {at}: {} delivered, p50 {:?}", ages.len(), ages[ages.len() / 2]);
    ages[ages.len() * 99 / 100]
}

/// For so many seconds the eager one publishes so many times in a millisecond and aborts half a second later, which
/// is twice as many updates.
fn run(subnet: &mut Subnet<Log>, seconds: u64, eager_every_ms: u64) {
    let mut sources = [
        Source::new(EAGER, LIMITED, eager_every_ms, 1, ms(500)),
        Source::new(EAGER, OTHER, 20, 1, ms(500)),
        Source::new(MODEST, LIMITED, 20, 1, ms(500)),
        Source::new(MODEST, OTHER, 20, 1, ms(500)),
    ];
    for step in 0..seconds * 1000 {
        sources.iter_mut().for_each(|source| source.go_on(subnet, step));
        subnet.elapse(ms(1));
    }
}

#[test]
fn a_member_beyond_its_quota_waits_in_that_channel_only_and_nobody_else() {
    const SECONDS: u64 = 10;
    // It publishes less than half of its quota.
    let mut below = subnet(Some(quota()));
    run(&mut below, SECONDS, 20);
    let mut subnet = subnet(Some(quota()));
    run(&mut subnet, SECONDS, 1);
    assert_eq!(of_peer(&subnet, EAGER, READER).paced_channels, 1);
    assert_eq!(of_peer(&subnet, MODEST, READER).paced_channels, 0);
    // Nobody sends what is not read.
    for at in [EAGER, MODEST] {
        let link = link(&subnet, at);
        assert_eq!((link.held_channels, link.held_for), (0, Duration::ZERO));
    }
    // Up to half of the updates may be aborts.
    let delivered = subnet.application.ages[&(LIMITED, subnet.id(EAGER))].len() as u64;
    let due = UPDATES_PER_SECOND * SECONDS;
    assert!((due * 9 / 20..=due * 11 / 10).contains(&delivered), "{delivered}");
    for (channel, at) in [(LIMITED, MODEST), (OTHER, MODEST), (OTHER, EAGER)] {
        let (with, without) = (p99(&subnet, channel, at), p99(&below, channel, at));
        assert!(with <= without.mul_f64(1.2), "{channel:?} of {at}: {with:?}, {without:?}");
        let count = |of: &Subnet<Log>| of.application.ages[&(channel, of.id(at))].len();
        assert_eq!(count(&subnet), count(&below));
    }
}

#[test]
fn what_waits_is_what_is_present_when_it_is_due() {
    let mut subnet = subnet(Some(quota()));
    run(&mut subnet, 3, 1);
    subnet.elapse(ms(20_000));
    assert_eq!(of_peer(&subnet, EAGER, READER).paced_channels, 0);
    // All that is not aborted has come.
    let mut last = Source::new(EAGER, LIMITED, 1, 300, ms(60_000));
    last.go_on(&mut subnet, 0);
    let count = |of: &Subnet<Log>| of.application.ages[&(LIMITED, of.id(EAGER))].len();
    let before = count(&subnet);
    subnet.elapse(ms(100));
    // Half of the burst, and what has become due.
    assert!((100..=125).contains(&(count(&subnet) - before)), "{}", count(&subnet) - before);
    subnet.elapse(ms(1_100));
    assert_eq!(count(&subnet) - before, 300);
    assert_eq!(link(&subnet, EAGER).held_for, Duration::ZERO);
}

#[test]
fn without_a_quota_all_is_read() {
    let mut subnet = subnet(None);
    run(&mut subnet, 5, 1);
    let delivered = subnet.application.ages[&(LIMITED, subnet.id(EAGER))].len();
    assert!(delivered >= 4900, "{delivered}");
    assert_eq!(link(&subnet, EAGER).held_for, Duration::ZERO);
}

/// Publishes so many artifacts in the limited channel, which stay.
fn publish(subnet: &mut Subnet<Log>, count: u64) {
    let now = subnet.now();
    Source::new(EAGER, LIMITED, 1, count, ms(60_000)).go_on(subnet, now.0);
}

fn are_up(subnet: &mut Subnet<Log>) -> bool {
    subnet.is_up(EAGER, READER)
}

/// All that is active is told again each time. What was told before counts at both ends.
#[test]
fn a_member_that_is_disconnected_again_and_again_keeps_to_its_quota() {
    let mut subnet = subnet(Some(quota()));
    publish(&mut subnet, 60);
    subnet.elapse(ms(100));
    let reader = subnet.id(READER);
    let mut has_waited = false;
    for _ in 0..30 {
        let ended = subnet.command(EAGER, |_, node| {
            let now = node.now();
            node.node_mut().disconnect(now, &reader)
        });
        assert_eq!(ended, Some(true));
        subnet.run_until("connected again", ms(5_000), are_up);
        subnet.elapse(ms(50));
        has_waited |= of_peer(&subnet, EAGER, READER).paced_channels == 1;
        assert_eq!(link(&subnet, EAGER).held_for, Duration::ZERO);
    }
    assert!(has_waited, "it tells 60 artifacts more often than 200 in a second");
    subnet.elapse(ms(2_000));
    assert_eq!(of_peer(&subnet, EAGER, READER).paced_channels, 0);
    let delivered = subnet.application.ages[&(LIMITED, subnet.id(EAGER))].len();
    assert_eq!((delivered, of_peer(&subnet, READER, EAGER).faults), (60, 0));
    assert_eq!(link(&subnet, EAGER).held_for, Duration::ZERO);
}

/// It does not know what it has sent before. Half of the burst is for that, too.
#[test]
fn a_member_that_has_restarted_is_not_held_back() {
    let mut subnet = subnet(Some(quota()));
    publish(&mut subnet, 95);
    subnet.elapse(ms(100));
    subnet.crash(EAGER, FaultKind::Crash);
    subnet.start(EAGER);
    publish(&mut subnet, 95);
    subnet.run_until("connected again", ms(5_000), are_up);
    subnet.elapse(ms(200));
    let delivered = subnet.application.ages[&(LIMITED, subnet.id(EAGER))].len();
    assert_eq!(delivered, 2 * 95);
    assert_eq!(link(&subnet, EAGER).held_for, Duration::ZERO);
}

/// It counts anew what it is told, and so do those who tell it.
#[test]
fn a_reader_that_has_restarted_is_told_all_at_once() {
    let mut subnet = subnet(Some(quota()));
    publish(&mut subnet, 95);
    subnet.elapse(ms(100));
    subnet.crash(READER, FaultKind::Crash);
    subnet.start(READER);
    subnet.run_until("connected again", ms(5_000), are_up);
    subnet.elapse(ms(50));
    let delivered = subnet.application.ages[&(LIMITED, subnet.id(EAGER))].len();
    assert_eq!(delivered, 2 * 95);
    assert_eq!(link(&subnet, EAGER).held_for, Duration::ZERO);
}
