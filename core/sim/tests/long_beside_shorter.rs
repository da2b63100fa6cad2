//! What is begun to be fetched goes on, however many shorter artifacts come meanwhile, none of which waits too long.

use std::collections::BTreeSet;
use std::time::Duration;

use slotcast::artifact::Artifact;
use slotcast::broadcast::Event;
use slotcast::config::{ChannelConfig, Config};
use slotcast::id::{ArtifactId, ChannelId};
use slotcast_sim::{Application, Context, Link, Setup, Subnet};

const CHANNEL: ChannelId = ChannelId(1);
const RATE: u64 = 2_000_000;
const LONG: usize = 4_000_000;

#[derive(Default)]
struct Log {
    /// Arrived, and to be aborted.
    arrived: BTreeSet<ArtifactId>,
}

impl Application for Log {
    fn handle_event(&mut self, _: &mut Context<'_>, _: ChannelId, event: Event) {
        if let Event::Delivered { artifact, .. } = event {
            self.arrived.insert(artifact.id());
        }
    }
}

fn artifact(number: u64, bytes: usize) -> Artifact {
    let mut content = vec![0; bytes];
    content[..8].copy_from_slice(&number.to_be_bytes());
    Artifact::new(content.into(), &[]).expect("within the limits")
}

/// The time until a long artifact has come, beside shorter ones of which so many are active at any time.
fn time_of_long(bytes: usize, at_a_time: usize) -> Option<Duration> {
    let mut channel = ChannelConfig::new(CHANNEL);
    (channel.slots_max, channel.active_bytes_max) = (1 << 12, 256 << 20);
    let setup = Setup::new(&Config::new([channel]), 2).link(Link::new(Duration::from_millis(10)));
    let mut subnet = Subnet::new(setup.seed(4), Log::default());
    subnet.run_until("connected", Duration::from_secs(10), |subnet| subnet.is_up(0, 1));
    subnet.network.each_link(|_, _, link| {
        (link.bytes_per_second, link.queue_bytes_max) = (RATE, RATE / 20);
    });
    let publish = |subnet: &mut Subnet<Log>, artifact: Artifact| {
        let id = artifact.id();
        let published = subnet.command(0, |_, node| node.publish(CHANNEL, artifact));
        published.expect("it runs").expect("there is room");
        id
    };
    let begun = subnet.now();
    let long = publish(&mut subnet, artifact(0, LONG));
    subnet.elapse(Duration::from_millis(200));
    let (mut open, mut count) = (Vec::new(), 0);
    while subnet.now().since(begun) < Duration::from_secs(60) {
        let arrived = std::mem::take(&mut subnet.application.arrived);
        if arrived.contains(&long) {
            return Some(subnet.now().since(begun));
        }
        for id in &arrived {
            subnet.command(0, |_, node| node.abort(CHANNEL, id)).expect("it runs");
        }
        open.retain(|id| !arrived.contains(id));
        while open.len() < at_a_time {
            count += 1;
            open.push(publish(&mut subnet, artifact(count, bytes)));
        }
        subnet.elapse(Duration::from_millis(1));
    }
    None
}

/// As many as are asked for ahead, and fewer, and more.
#[test]
fn a_long_artifact_comes_beside_shorter_ones() {
    for (bytes, at_a_time) in [(25_000, 8), (25_000, 16), (60_000, 8), (60_000, 16), (400_000, 2)] {
        let time = time_of_long(bytes, at_a_time);
        let time = time.unwrap_or_else(|| panic!("{at_a_time} x {bytes} B: it never comes"));
        assert!(time < Duration::from_secs(30), "{at_a_time} x {bytes} B: {time:?}");
    }
}
