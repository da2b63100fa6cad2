//! A path that has become a longer one is used as before, within a minute. What is beyond its shortest round
//! trip of late is taken for queues: losses count as congestion then, bulk data holds back, and no more is
//! asked of a holder. In simulated time.

use std::collections::BTreeSet;
use std::time::Duration;

use slotcast::artifact::Artifact;
use slotcast::broadcast::Event;
use slotcast::config::{ChannelConfig, Class, Config};
use slotcast::id::{ArtifactId, ChannelId};
use slotcast_sim::{Application, Chance, Context, Latency, Link, Setup, Subnet};

const CHANNEL: ChannelId = ChannelId(1);

/// Of the path, in bytes per second. Its queue lasts for 100 ms.
const RATE: u64 = 6_000_000;

const BYTES: usize = 4 << 20;
const AT_ONCE: usize = 3;

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

#[derive(Default)]
struct Log(BTreeSet<ArtifactId>);

impl Application for Log {
    fn handle_event(&mut self, _: &mut Context<'_>, _: ChannelId, event: Event) {
        if let Event::Delivered { artifact, .. } = event {
            self.0.insert(artifact.id());
        }
    }
}

/// Node 0 always publishes some artifacts for node 1.
struct Run {
    subnet: Subnet<Log>,
    open: Vec<ArtifactId>,
    count: u64,
}

impl Run {
    fn new(class: Class) -> Self {
        let config = Config::new([ChannelConfig::new(CHANNEL).class(class)]);
        let setup = Setup::new(&config, 2).link(Link::new(ms(10))).seed(4);
        let mut subnet = Subnet::new(setup, Log::default());
        subnet.network.each_link(|_, _, link| {
            link.bytes_per_second = RATE;
            link.queue_bytes_max = RATE / 10;
        });
        subnet.run_until("connected", ms(10_000), |subnet| subnet.is_up(0, 1));
        Self { subnet, open: Vec::new(), count: 0 }
    }

    fn keep_up(&mut self) {
        for id in std::mem::take(&mut self.open) {
            match self.subnet.application.0.contains(&id) {
                true => drop(self.subnet.command(0, |_, node| node.abort(CHANNEL, &id))),
                false => self.open.push(id),
            }
        }
        while self.open.len() < AT_ONCE {
            self.count += 1;
            let mut bytes = vec![0; BYTES];
            bytes[..8].copy_from_slice(&self.count.to_be_bytes());
            let artifact = Artifact::new(bytes.into(), &[]).expect("within the format's limits");
            self.open.push(artifact.id());
            let published = self.subnet.command(0, |_, node| node.publish(CHANNEL, artifact));
            published.expect("it runs").expect("there is room");
        }
    }

    /// The rate at which node 1 receives within the next seconds, as a part of the path's.
    fn rate(&mut self, seconds: u64) -> f64 {
        let received = |run: &Self| run.subnet.node(1).expect("it runs").stats().received_bytes;
        let before = received(self);
        for _ in 0..seconds * 20 {
            self.keep_up();
            self.subnet.elapse(ms(50));
        }
        (received(self) - before) as f64 / (seconds * RATE) as f64
    }
}

/// What is used of a path that has become longer, when its former round trip is forgotten: a minute later.
fn used(class: Class, loss_percent: u32) -> [f64; 2] {
    let mut run = Run::new(class);
    run.subnet.network.each_link(|_, _, link| link.loss = Chance::percent(loss_percent));
    run.rate(2);
    let before = run.rate(5);
    run.subnet.network.each_link(|_, _, link| link.latency = Latency::Fixed(ms(75)));
    run.rate(65);
    let after = run.rate(5);
    println!("{class:?}, {loss_percent} %: {before:.2} of the path's rate, then {after:.2}");
    [before, after]
}

#[test]
fn a_path_that_has_become_longer_is_used() {
    for class in [Class::Normal, Class::Bulk] {
        let [before, after] = used(class, 0);
        assert!(before >= 0.9 && after >= 0.8, "{class:?}: {before:.2}, {after:.2}");
    }
}

/// Before, each loss counts as congestion.
#[test]
fn a_path_that_has_become_longer_and_loses_packets_by_chance_is_used() {
    let [before, after] = used(Class::Normal, 2);
    assert!(before >= 0.8 && after >= 0.7, "{before:.2}, {after:.2}");
}
