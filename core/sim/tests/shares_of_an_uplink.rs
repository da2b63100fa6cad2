//! A shaped uplink that is full of urgent artifacts to one peer, and bulk to another.

use std::collections::VecDeque;
use std::time::Duration;

use slotcast::artifact::Artifact;
use slotcast::broadcast::Event;
use slotcast::config::{ChannelConfig, Class, Config};
use slotcast::id::ChannelId;
use slotcast_sim::{Application, Context, Link, Setup, Subnet};

const URGENT: ChannelId = ChannelId(1);
const BULK: ChannelId = ChannelId(2);

/// Bytes per second.
const RATE: u64 = 1_000_000;

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

struct Indifferent;

impl Application for Indifferent {
    fn handle_event(&mut self, _: &mut Context<'_>, _: ChannelId, _: Event) {}
}

fn publish(
    subnet: &mut Subnet<Indifferent>,
    channel: ChannelId,
    number: u32,
    length: usize,
) -> Artifact {
    let mut bytes = vec![0; length];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    let artifact = Artifact::new(bytes.into(), &[]).expect("within the format's limits");
    let published = subnet.command(0, |_, node| node.publish(channel, artifact.clone()));
    published.expect("it runs").expect("there is room");
    artifact
}

/// Of what is sent to others, too, a lower level gets one byte of each 17.
#[test]
fn l11_a_link_with_bulk_only_has_its_share_beside_one_with_urgent_only() {
    let urgent = ChannelConfig::new(URGENT).class(Class::Urgent);
    let bulk = ChannelConfig::new(BULK).class(Class::Bulk);
    let mut publisher = Config::new([urgent.clone(), bulk.clone()]);
    publisher.transport.uplink = Some(RATE);
    let configs = vec![publisher, Config::new([urgent]), Config::new([bulk])];
    let mut subnet = Subnet::new(Setup::with_configs(configs).link(Link::new(ms(10))), Indifferent);
    subnet.run_until("connected", ms(10_000), |subnet| subnet.is_up(0, 1) && subnet.is_up(0, 2));
    publish(&mut subnet, BULK, 0, 8 << 20);
    let mut live = VecDeque::new();
    let received = |subnet: &Subnet<Indifferent>| {
        [1, 2].map(|at| subnet.node(at).expect("it runs").stats().received_bytes)
    };
    let mut before = [0; 2];
    // Twice what the uplink takes.
    for number in 0..6_000 {
        if number == 1_000 {
            before = received(&subnet);
        }
        live.push_back(publish(&mut subnet, URGENT, number, 4_000));
        if live.len() > 200 {
            let oldest = live.pop_front().expect("some are live");
            subnet.command(0, |_, node| node.abort(URGENT, &oldest.id()));
        }
        subnet.elapse(ms(2));
    }
    let after = received(&subnet);
    let [urgent, bulk] = [0, 1].map(|at| (after[at] - before[at]) as f64 / (10 * RATE) as f64);
    println!("of the uplink, urgent ones have {urgent:.3} and bulk {bulk:.3}");
    assert!(urgent > 0.8, "{urgent}");
    assert!((0.04..0.12).contains(&bulk), "{bulk}");
}
