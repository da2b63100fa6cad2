//! A poll of the driver ends after a while, whatever there is to do.

use std::time::Duration;

use crate::network::Network;
use crate::subnet::{Subnet, config};

/// The clock moves on by this whenever the driver looks at it.
const TICK: Duration = Duration::from_micros(20);

/// What a poll may take: its budget, and what is under way when that is over.
const POLL_MAX: Duration = Duration::from_micros(400);

#[test]
fn a_poll_ends_in_time_however_much_there_is_to_send() {
    let mut subnet = Subnet::connected(2, &config());
    let channel = subnet.channel(0);
    for at in 0..60 {
        channel.publish(vec![at; 1_000_000], b"").unwrap();
    }
    subnet.network.tick.set(TICK);
    let mut longest = Duration::ZERO;
    for _ in 0..2_000 {
        for at in [0, 1] {
            let begun = subnet.network.elapsed();
            subnet.poll(at);
            longest = longest.max(subnet.network.elapsed() - begun);
        }
        subnet.network.complete();
    }
    assert!(longest < POLL_MAX, "{longest:?}");
    let sent = subnet.network.socket(0).sent_bytes;
    assert!(sent > 10_000_000, "it was busy: {sent}");
}

#[test]
fn a_poll_ends_in_time_however_much_there_is_to_receive() {
    let mut subnet = Subnet::connected(2, &config());
    subnet.stop(1);
    for _ in 0..100 {
        subnet.network.flood(0, 1, 10_000);
    }
    subnet.network.tick.set(TICK);
    subnet.go_on(1);
    let mut polls = 0;
    while subnet.network.socket(1).waiting() > 0 {
        let begun = subnet.network.elapsed();
        let wants_more = subnet.poll(1);
        let took = subnet.network.elapsed() - begun;
        assert!(took < POLL_MAX, "{took:?}");
        assert!(wants_more || subnet.network.socket(1).waiting() == 0);
        polls += 1;
    }
    assert!(polls > 5, "{polls}");
}

/// The same by count, where the clock stands still.
#[test]
fn a_poll_ends_under_a_clock_that_stands_still() {
    let mut subnet = Subnet::connected(2, &config());
    subnet.stop(1);
    for _ in 0..10_000 {
        subnet.network.flood(0, 1, 100_000);
    }
    let waiting = subnet.network.socket(1).waiting();
    assert!(subnet.poll(1), "it wants to go on");
    assert!(subnet.network.socket(1).waiting() > waiting / 2);
}

/// Neither direction waits for the other one's end.
#[test]
fn receiving_does_not_hold_up_sending() {
    let mut subnet = Subnet::connected(2, &config());
    subnet.network.tick.set(TICK);
    subnet.channel(1).publish("in between", b"").unwrap();
    let sent = subnet.network.socket(1).sent_bytes;
    for _ in 0..1_000 {
        subnet.network.flood(0, 1, 10_000);
    }
    let mut polls = 0;
    while subnet.network.socket(1).sent_bytes == sent {
        subnet.poll(1);
        polls += 1;
        assert!(polls < 3, "it sends");
    }
    assert!(subnet.network.socket(1).waiting() > 100);
}

/// Commands are taken a part at a time, all of them without another wake-up.
#[test]
fn commands_are_all_taken_though_nothing_wakes_the_driver() {
    let mut subnet = Subnet::new(&Network::new(1), &config());
    let channel = subnet.channel(0);
    for at in 0..1_000_u32 {
        channel.publish(at.to_be_bytes().to_vec(), b"").unwrap();
    }
    // After the last command.
    drop(subnet.node(0).shutdown());
    subnet.settle();
    assert!(subnet.has_ended(0));
}

#[test]
fn commands_are_taken_in_turns_with_all_else() {
    let mut subnet = Subnet::connected(2, &config());
    let channel = subnet.channel(0);
    for at in 0..1_000_u32 {
        channel.publish(at.to_be_bytes().to_vec(), b"").unwrap();
    }
    let inbox = subnet.channel(1);
    let mut delivered = 0;
    subnet.until("all delivered", |_| {
        delivered += std::iter::from_fn(|| inbox.try_event()).count();
        delivered == 1_000
    });
}
