//! Clears that nobody waits for go along with something else.

use std::time::Duration;

use crate::subnet::{Recorded, Subnet, Told, connected};
use slotcast_testkit::machines::{config, ms, small};

const NODES: usize = 7;

/// Datagrams per delivery, if each node publishes every 50 ms, and aborts what it published once all
/// have it.
fn datagrams_each(clear_delay: Duration) -> f64 {
    const ROUNDS: usize = 40;
    let mut subnet = connected(&config(|channel| channel.clear_delay = clear_delay), NODES);
    let sent =
        |subnet: &Subnet| -> u64 { (0..NODES).map(|at| subnet.stats(at).sent_datagrams).sum() };
    let before = sent(&subnet);
    for round in 0..ROUNDS {
        for at in 0..NODES {
            let block = small((round * NODES + at) as u64);
            subnet.publish(at, &block);
            subnet.elapse(ms(3));
            subnet.abort(at, &block);
            subnet.elapse(Duration::from_micros(50_000 / NODES as u64 - 3_000));
        }
    }
    (sent(&subnet) - before) as f64 / (ROUNDS * NODES * (NODES - 1)) as f64
}

#[test]
fn clears_cost_hardly_a_datagram() {
    let [at_once, held] = [Duration::ZERO, ms(100)].map(datagrams_each);
    println!("{at_once:.2} datagrams per delivery if clears are sent at once, {held:.2} if held");
    assert!(held < 0.75 * at_once, "{held} datagrams per delivery, {at_once} without");
}

#[test]
fn a_clear_comes_when_it_is_due_if_nothing_else_does() {
    let mut subnet = connected(&config(|channel| channel.clear_delay = ms(100)), 2);
    subnet.publish(0, &small(1));
    subnet.settle();
    assert_eq!(subnet.told(1), [Told::Delivered(small(1).id())]);
    subnet.abort(0, &small(1));
    subnet.elapse(ms(45));
    assert_eq!(subnet.told(1), []);
    subnet.elapse(ms(60));
    assert_eq!(subnet.told(1), [Told::Expired(small(1).id())]);
}
