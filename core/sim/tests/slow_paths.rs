//! Whole nodes over slow, long, lossy and reordering paths: every artifact arrives, for little more
//! than its own bytes. Invariants 12 and 17.

use std::time::Duration;

use slotcast::artifact::Artifact;
use slotcast::broadcast::Event;
use slotcast::config::{ChannelConfig, Config};
use slotcast::id::{ArtifactId, ChannelId};
use slotcast_sim::{Application, Chance, Context, Latency, Link, Sent, Setup, Subnet};

const CHANNEL: ChannelId = ChannelId(1);

const KIB: u64 = 1 << 10;

/// Who has what, and the bytes that the publisher has sent.
#[derive(Default)]
struct Log {
    delivered: Vec<(usize, ArtifactId)>,
    sent: u64,
}

impl Application for Log {
    fn handle_event(&mut self, context: &mut Context<'_>, _: ChannelId, event: Event) {
        if let Event::Delivered { artifact, .. } = event {
            self.delivered.push((context.at(), artifact.id()));
        }
    }

    fn handle_sent(&mut self, sent: &Sent<'_>) {
        if sent.from == 0 {
            self.sent += sent.bytes.len() as u64;
        }
    }
}

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn artifact(number: u8, length: u64) -> Artifact {
    let bytes: Vec<u8> = (0..length).map(|at| ((at * 31) >> 3) as u8 ^ number).collect();
    Artifact::new(bytes.into(), &[number]).expect("within the format's limits")
}

/// A link of this rate, whose queue holds `queue` of time.
fn slow(bytes_per_second: u64, round_trip: Duration, queue: Duration) -> Link {
    let queue_bytes_max = bytes_per_second * queue.as_millis() as u64 / 1000;
    Link { bytes_per_second, queue_bytes_max, ..Link::new(round_trip / 2) }
}

fn lossy(link: Link, percent: u32) -> Link {
    Link { loss: Chance::percent(percent), ..link }
}

/// With a jitter as large as the latency.
fn reordering(link: Link, round_trip: Duration) -> Link {
    Link { latency: Latency::Jitter(round_trip / 4, round_trip / 2), ..link }
}

fn default_channel(_: &mut ChannelConfig) {}

fn connected(edit: impl FnOnce(&mut ChannelConfig), link: Link) -> Subnet<Log> {
    let mut channel = ChannelConfig::new(CHANNEL);
    edit(&mut channel);
    let mut config = Config::new([channel]);
    // As is said there of slow uplinks.
    config.transport.initial_window = 14_720;
    let setup = Setup::new(&config, 2).link(link).seed(4);
    let mut subnet = Subnet::new(setup, Log::default());
    subnet.run_until("connected", ms(60_000), |subnet| subnet.is_up(0, 1));
    subnet
}

fn publish(subnet: &mut Subnet<Log>, artifact: &Artifact) {
    let published = subnet.command(0, |_, node| node.publish(CHANNEL, artifact.clone()));
    published.expect("it runs").expect("there is room");
}

fn has(subnet: &Subnet<Log>, artifact: &Artifact) -> bool {
    subnet.application.delivered.contains(&(1, artifact.id()))
}

/// How many times its length was sent until an artifact was there.
fn times_sent(
    edit: impl FnOnce(&mut ChannelConfig),
    link: Link,
    length: u64,
    max: Duration,
) -> f64 {
    let mut subnet = connected(edit, link);
    let (block, before) = (artifact(0, length), subnet.application.sent);
    publish(&mut subnet, &block);
    subnet.run_until("delivered", max, |subnet| has(subnet, &block));
    (subnet.application.sent - before) as f64 / length as f64
}

/// How long so many bytes take at this rate, with half as much again for all else.
fn span(bytes: u64, rate: u64) -> Duration {
    ms(5_000 + bytes * 1500 / rate)
}

#[test]
fn f1_w1_every_size_arrives_at_any_rate() {
    for rate in [16 * KIB, 48 * KIB, 120 * KIB] {
        // The slow start overfills the queue once: that is a good part of what is short.
        for (length, times_max) in [(KIB, 3.0), (20 * KIB, 2.2), (64 * KIB, 2.0), (KIB * KIB, 1.3)]
        {
            for round_trip in [1, 40, 400].map(ms) {
                let link = slow(rate, round_trip, ms(500));
                let times = times_sent(default_channel, link, length, span(length, rate));
                let what = format!("{length} bytes at {rate} B/s over {round_trip:?}");
                assert!(times <= times_max, "{what}: {times:.2} times");
            }
        }
    }
    let times = times_sent(default_channel, slow(120 * KIB, ms(40), ms(100)), 8 << 20, ms(90_000));
    assert!(times <= 1.3, "{times:.2} times");
}

#[test]
fn f1_w1_long_and_lossy_paths_take_longer_and_not_more_bytes() {
    for (loss, times_max) in [(1, 1.3), (2, 1.3), (5, 1.5)] {
        for round_trip in [20, 200, 400].map(ms) {
            let link = lossy(Link::new(round_trip / 2), loss);
            let times = times_sent(default_channel, link, 1 << 20, ms(120_000));
            assert!(times <= times_max, "{loss} %, {round_trip:?}: {times:.2} times");
        }
    }
    let link = lossy(slow(16 * KIB, ms(400), ms(500)), 5);
    let times = times_sent(default_channel, link, 1 << 20, ms(120_000));
    assert!(times <= 1.5, "{times:.2} times");
}

/// Much of what comes late is taken for lost, so that the congestion window stays small.
#[test]
fn f1_w1_a_path_whose_jitter_is_as_large_as_its_latency_is_slow_and_delivers() {
    for (round_trip, rate) in [(80, 10 << 20), (400, 10 << 20), (80, 128 * KIB), (400, 16 * KIB)] {
        let round_trip = ms(round_trip);
        let link = reordering(slow(rate, round_trip, ms(500)), round_trip);
        let times = times_sent(default_channel, link, 1 << 20, ms(150_000));
        assert!(times <= 1.3, "{rate} B/s, {round_trip:?}: {times:.2} times");
    }
    let link = lossy(reordering(Link::new(ms(40)), ms(80)), 5);
    let times = times_sent(default_channel, link, 1 << 20, ms(60_000));
    assert!(times <= 1.5, "{times:.2} times");
}

/// A queue of sixteen seconds: longer than the idle timeout.
#[test]
fn f1_a_path_with_a_long_queue_delivers_and_stays_up() {
    let mut subnet = connected(default_channel, slow(16 * KIB, ms(40), ms(16_000)));
    let block = artifact(0, 1 << 20);
    publish(&mut subnet, &block);
    subnet.run_until("delivered", ms(150_000), |subnet| has(subnet, &block));
    assert_eq!(subnet.node(1).expect("it runs").stats().connections, 1);
}

#[test]
fn f1_many_artifacts_share_a_slow_link_and_each_is_sent_once() {
    let mut subnet = connected(default_channel, slow(16 * KIB, ms(40), ms(500)));
    let blocks: Vec<Artifact> = (0..24).map(|number| artifact(number, 64 * KIB)).collect();
    let before = subnet.application.sent;
    blocks.iter().for_each(|block| publish(&mut subnet, block));
    let all = 24 * 64 * KIB;
    let are_there = |subnet: &mut Subnet<Log>| blocks.iter().all(|block| has(subnet, block));
    subnet.run_until("delivered", span(all, 16 * KIB), are_there);
    let times = (subnet.application.sent - before) as f64 / all as f64;
    assert!(times <= 1.3, "{times:.2} times");
}

#[test]
fn f1_what_is_streamed_or_pushed_arrives_over_a_slow_link() {
    let link = slow(16 * KIB, ms(40), ms(500));
    let streams = |channel: &mut ChannelConfig| channel.latency_sensitive = true;
    let times = times_sent(streams, link, 1 << 20, span(1 << 20, 16 * KIB));
    assert!(times <= 1.3, "streamed: {times:.2} times");
    let pushes = |channel: &mut ChannelConfig| channel.push_bytes_max = 64 << 10;
    let times = times_sent(pushes, link, 64 * KIB, span(64 * KIB, 16 * KIB));
    assert!(times <= 2.0, "pushed: {times:.2} times");
}

/// Of what had come before the connection was lost, at most a chunk comes again.
#[test]
fn w3_over_a_slow_path_that_breaks_again_and_again_nothing_verified_is_fetched_twice() {
    for is_streamed in [false, true] {
        let channel = |channel: &mut ChannelConfig| channel.latency_sensitive = is_streamed;
        let mut subnet = connected(channel, slow(64 * KIB, ms(40), ms(100)));
        let (block, before) = (artifact(0, 2 << 20), subnet.application.sent);
        publish(&mut subnet, &block);
        for _ in 0..4 {
            subnet.elapse(ms(6_000));
            subnet.cut(&[0], &[1]);
            subnet.elapse(ms(20_000));
            assert!(!subnet.is_up(0, 1));
            subnet.heal();
            subnet.run_until("connected", ms(12_000), |subnet| subnet.is_up(0, 1));
        }
        subnet.run_until("delivered", ms(60_000), |subnet| has(subnet, &block));
        let times = (subnet.application.sent - before) as f64 / block.bytes().len() as f64;
        assert!(times <= 1.5, "streamed: {is_streamed}: {times:.2} times");
    }
}

/// A window that is a little too short for what is sent at a time would otherwise make the rest of it wait
/// for a round trip each time.
#[test]
fn the_window_comes_to_hold_what_is_sent_at_a_time() {
    let streams = |channel: &mut ChannelConfig| channel.latency_sensitive = true;
    let mut subnet = connected(streams, Link::new(ms(50)));
    let mut took = Duration::MAX;
    for number in 0..8 {
        let block = artifact(number, 120_000);
        let begun = subnet.now();
        publish(&mut subnet, &block);
        subnet.run_until("delivered", ms(5_000), |subnet| has(subnet, &block));
        took = subnet.now().since(begun);
        subnet.elapse(ms(1_000));
    }
    assert!(took < ms(100), "one way is 50 ms: {took:?}");
}
