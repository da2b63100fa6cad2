//! A relay that is much slower than the others holds up nobody else: its stripe is repaired as soon as the
//! rest shows the pace. In simulated time.

use std::time::Duration;

use slotcast::artifact::Artifact;
use slotcast::broadcast::Event;
use slotcast::config::{ChannelConfig, Config, Relay};
use slotcast::id::ChannelId;
use slotcast_sim::{Application, Bottleneck, Context, Link, Sent, Setup, Subnet};

const CHANNEL: ChannelId = ChannelId(1);

/// Of an uplink and a downlink, in bytes per second. Nodes know the rate of their uplink.
const RATE: u64 = 2_000_000;

const LENGTH: usize = 3 << 20;

#[derive(Default)]
struct Log {
    delivered: Vec<usize>,
    /// Bytes that the publisher has sent.
    sent: usize,
}

impl Application for Log {
    fn handle_event(&mut self, context: &mut Context<'_>, _: ChannelId, event: Event) {
        if let Event::Delivered { .. } = event {
            self.delivered.push(context.at());
        }
    }

    fn handle_sent(&mut self, sent: &Sent<'_>) {
        if sent.from == 0 {
            self.sent += sent.bytes.len();
        }
    }
}

/// How members crawl: so many of them, with an uplink of this rate, and perhaps a downlink as slow.
#[derive(Clone, Copy, Debug)]
struct Crawling {
    members: usize,
    rate: u64,
    both_ways: bool,
}

const NOBODY: Crawling = Crawling { members: 0, rate: RATE, both_ways: false };

/// The time until all others have what member 0 publishes, and how many copies of it that one sends.
fn spread(nodes: usize, crawling: Crawling) -> (Duration, f64) {
    let first = nodes - crawling.members;
    let access = |rate| Bottleneck::new(rate, Duration::from_millis(100));
    let configs = (0..nodes).map(|at| {
        let mut config = Config::new([ChannelConfig::new(CHANNEL).relaying(Relay::Automatic, 8)]);
        config.transport.uplink = Some(if at < first { RATE } else { crawling.rate });
        config
    });
    let setup = Setup::with_configs(configs.collect()).link(Link::new(Duration::from_millis(5)));
    let setup = setup.uplink(access(RATE)).downlink(access(RATE));
    let mut subnet = Subnet::new(setup, Log::default());
    subnet.run_until("connected", Duration::from_secs(60), |subnet| {
        let is_up = |at| subnet.node(at).is_some_and(|node| node.peers_up().count() == nodes - 1);
        (0..nodes).all(is_up)
    });
    for at in first..nodes {
        *subnet.network.uplink(at) = access(crawling.rate);
        if crawling.both_ways {
            *subnet.network.downlink(at) = access(crawling.rate);
        }
    }
    subnet.elapse(Duration::from_millis(500));
    let bytes: Vec<u8> = (0..LENGTH).map(|at| ((at * 31) >> 3) as u8).collect();
    let block = Artifact::new(bytes.into(), &[]).expect("within the format's limits");
    let (begun, before) = (subnet.now(), subnet.application.sent);
    let published = subnet.command(0, |_, node| node.publish(CHANNEL, block));
    published.expect("it runs").expect("there is room");
    subnet.run_until("delivered", Duration::from_secs(60), |subnet| {
        subnet.application.delivered.iter().filter(|at| **at < first).count() == first - 1
    });
    let sent = subnet.application.sent - before;
    (subnet.now().since(begun), sent as f64 / LENGTH as f64)
}

#[test]
fn one_member_that_crawls_holds_up_nobody_else() {
    for (nodes, rates) in [(5, &[50_000, 100_000, 200_000][..]), (13, &[100_000])] {
        let (alone, copies) = spread(nodes, NOBODY);
        assert!(alone.as_secs_f64() < 1.25 * LENGTH as f64 / RATE as f64, "{nodes}: {alone:?}");
        assert!(copies < 1.15, "{nodes}: {copies:.2} copies");
        for &rate in rates {
            for both_ways in [true, false] {
                let crawling = Crawling { members: 1, rate, both_ways };
                let (took, copies) = spread(nodes, crawling);
                let times = took.as_secs_f64() / alone.as_secs_f64();
                let what =
                    format!("{nodes} nodes, {crawling:?}: {times:.2} times, {copies:.2} copies");
                println!("{what}");
                assert!(times <= 1.3, "{what}");
                // Its stripe once more, at most.
                assert!(copies <= 1.1 + 1.0 / (nodes - 1) as f64, "{what}");
            }
        }
    }
}

#[test]
fn a_third_that_crawls_costs_the_others_little_more_than_as_long_again() {
    let (alone, _) = spread(13, NOBODY);
    for both_ways in [true, false] {
        let crawling = Crawling { members: 4, rate: 100_000, both_ways };
        let (took, copies) = spread(13, crawling);
        let times = took.as_secs_f64() / alone.as_secs_f64();
        println!("{crawling:?}: {times:.2} times, {copies:.2} copies");
        assert!(times <= 2.25, "{crawling:?}: {times:.2} times");
    }
}
