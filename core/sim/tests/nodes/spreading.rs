//! Spreading among whole nodes: what it costs, and what it does when members fail.

use slotcast::broadcast::{Candidate, Decision, Filter};
use slotcast::config::{ChannelConfig, Config, Relay};
use slotcast_sim::{Bottleneck, Setup};

use crate::subnet::{Recorded, Subnet, connected, limit, of};
use slotcast_testkit::machines::{CHANNEL, artifact, config, ms};

const LENGTH: usize = 1 << 20;

fn spreading() -> Config {
    config(|channel: &mut ChannelConfig| *channel = channel.clone().relaying(Relay::Automatic, 64))
}

/// One that passes nothing on.
fn silent() -> Config {
    config(|channel: &mut ChannelConfig| channel.slots_max += 64)
}

fn sent_by(subnet: &Subnet, at: usize) -> u64 {
    subnet.stats(at).sent_bytes
}

#[test]
fn everybody_sends_about_one_copy_and_it_takes_two_hops() {
    const NODES: usize = 13;
    let mut config = spreading();
    // It holds a stripe, so that nothing waits for acknowledgements.
    config.transport.initial_window = 128 << 10;
    let mut subnet = connected(&config, NODES);
    let before: Vec<u64> = (0..NODES).map(|at| sent_by(&subnet, at)).collect();
    let block = artifact(1, LENGTH);
    subnet.publish(0, &block);
    let took = subnet
        .run_until("all have it", ms(1000), |subnet| (1..NODES).all(|at| subnet.has(at, &block)));
    assert!(took <= ms(2 * 20 + 60), "{took:?}");
    subnet.settle();
    for (at, before) in before.into_iter().enumerate() {
        let sent = sent_by(&subnet, at) - before;
        assert!(sent <= LENGTH as u64 * 13 / 10, "{at} has sent {sent} bytes");
    }
    subnet.assert_peace();
}

/// The first chunks of many stand in the publisher's queue for several round trips, behind adverts that have
/// come to everybody. They must not be asked for again meanwhile.
#[test]
fn what_waits_in_the_publishers_queue_is_not_missed() {
    const NODES: usize = 40;
    let access = Bottleneck::new(12_500_000, ms(100));
    let setup = Setup::new(&spreading(), NODES).uplink(access).downlink(access);
    let mut subnet = of(setup);
    subnet.run_until("all are connected", ms(5000), Subnet::is_mesh);
    subnet.settle();
    let before = sent_by(&subnet, 0);
    let block = artifact(1, 2 * LENGTH);
    subnet.publish(0, &block);
    subnet.run_until("all have it", ms(1000), |subnet| (1..NODES).all(|at| subnet.has(at, &block)));
    subnet.settle();
    let sent = (sent_by(&subnet, 0) - before) as f64 / block.bytes().len() as f64;
    assert!(sent < 1.4, "{sent} copies");
}

#[test]
fn l18_members_that_pass_nothing_on_cost_one_more_round_trip() {
    const NODES: usize = 13;
    let configs = (0..NODES).map(|at| if at % 3 == 2 { silent() } else { spreading() });
    let mut subnet = of(Setup::with_configs(configs.collect()));
    subnet.connect();
    for number in 0..3 {
        let block = artifact(number, LENGTH);
        subnet.publish(0, &block);
        let took = subnet.run_until("all have it", ms(1000), |subnet| {
            (1..NODES).all(|at| subnet.has(at, &block))
        });
        assert!(took <= ms(7 * 20 + 60), "{took:?}");
    }
    subnet.assert_peace();
}

/// Within a round trip after the publisher's abort, nobody sends anything of it any more.
#[test]
fn an_abort_overtakes_what_is_being_passed_on() {
    const NODES: usize = 7;
    let mut subnet = connected(&spreading(), NODES);
    subnet.network.each_link(|_, _, link| limit(link, 500_000));
    let block = artifact(1, 4 * LENGTH);
    subnet.publish(0, &block);
    subnet.elapse(ms(500));
    let passed_on: u64 = (1..NODES).map(|at| subnet.sent(1, at)).sum();
    assert!(passed_on > 200_000, "{passed_on}");
    subnet.abort(0, &block);
    // The abort comes behind what waits in the routers, of which there is a tenth of a second.
    subnet.elapse(ms(250));
    let before: u64 = (0..NODES).map(|at| sent_by(&subnet, at)).sum();
    subnet.elapse(ms(5000));
    let after: u64 = (0..NODES).map(|at| sent_by(&subnet, at)).sum();
    assert!(after - before < 60_000, "acknowledgements, and keep-alives: {}", after - before);
    assert!((1..NODES).all(|at| !subnet.has(at, &block)));
    subnet.assert_peace();
}

struct Nothing;

impl Filter for Nothing {
    fn decide(&mut self, _: &Candidate<'_>) -> Decision {
        Decision::Drop
    }
}

#[test]
fn who_does_not_want_it_stops_all_streams() {
    const NODES: usize = 7;
    let mut subnet = connected(&spreading(), NODES);
    subnet.with(3, |node| assert!(node.set_filter(CHANNEL, Box::new(Nothing))));
    subnet.network.each_link(|_, _, link| limit(link, 1_000_000));
    let sent = |subnet: &Subnet| (0..NODES).map(|from| subnet.sent(from, 3)).sum::<u64>();
    let before = sent(&subnet);
    let block = artifact(1, 4 * LENGTH);
    subnet.publish(0, &block);
    subnet.run_until("the others have it", ms(5000), |subnet| {
        (1..NODES).filter(|at| *at != 3).all(|at| subnet.has(at, &block))
    });
    let cost = sent(&subnet) - before;
    assert!(cost < LENGTH as u64, "{cost}");
    subnet.assert_peace();
}
