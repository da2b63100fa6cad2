//! The bounds of a driver that can be chosen ([`DriverConfig`](slotcast::config::DriverConfig)).

use std::time::Duration;

use slotcast::error::PublishError;

use crate::subnet::{Subnet, config, ms};

#[test]
fn so_many_events_are_staged_as_the_configuration_says() {
    let mut config = config();
    config.driver.staged_events_max = 4;
    let mut subnet = Subnet::connected(2, &config);
    let (from, to) = (subnet.channel(0), subnet.channel(1));
    for number in 0..20_u8 {
        from.publish(vec![number], b"").expect("there is room");
    }
    subnet.elapse(ms(100));
    for taken in 0..5 {
        // No time passes: taking them is what wakes the driver.
        assert_eq!(std::iter::from_fn(|| to.try_event()).count(), 4, "after {taken}");
        subnet.settle();
    }
    assert_eq!(to.try_event(), None);
}

#[test]
fn so_many_bytes_are_staged_as_the_configuration_says() {
    let mut config = config();
    config.driver.staged_bytes_max = 1;
    let mut subnet = Subnet::connected(2, &config);
    let (from, to) = (subnet.channel(0), subnet.channel(1));
    from.publish(&b""[..], b"empty").expect("there is room");
    from.publish(&b"x"[..], b"").expect("there is room");
    subnet.elapse(ms(100));
    for _ in 0..2 {
        assert_eq!(std::iter::from_fn(|| to.try_event()).count(), 1, "an event takes bytes itself");
        subnet.settle();
    }
}

#[test]
fn so_many_commands_wait_as_the_configuration_says() {
    let mut config = config();
    config.driver.commands_max = 3;
    let mut subnet = Subnet::connected(2, &config);
    let channel = subnet.channel(0);
    for number in 0..3_u8 {
        channel.publish(vec![number], b"").expect("there is room");
    }
    assert_eq!(channel.publish(vec![3], b""), Err(PublishError::Busy));
    subnet.settle();
    channel.publish(vec![3], b"").expect("the driver has taken the others");
}

#[test]
fn a_poll_takes_as_long_as_the_configuration_says() {
    let longest = |poll_max| {
        let mut config = config();
        config.driver.poll_max = poll_max;
        let mut subnet = Subnet::connected(2, &config);
        subnet.stop(1);
        for _ in 0..100 {
            subnet.network.flood(0, 1, 10_000);
        }
        subnet.network.tick.set(Duration::from_micros(5));
        subnet.go_on(1);
        let mut longest = Duration::ZERO;
        while subnet.network.socket(1).waiting() > 0 {
            let begun = subnet.network.elapsed();
            subnet.poll(1);
            longest = longest.max(subnet.network.elapsed() - begun);
        }
        longest
    };
    let us = Duration::from_micros;
    let (short, long) = (longest(us(50)), longest(us(1000)));
    assert!(short < us(150), "{short:?}");
    assert!((us(500)..us(1500)).contains(&long), "{long:?}");
}

#[test]
fn a_node_that_shuts_down_waits_for_its_peers_as_long_as_the_configuration_says() {
    let until_ended = |shutdown_timeout| {
        let mut config = config();
        config.transport.shutdown_timeout = shutdown_timeout;
        let mut subnet = Subnet::connected(2, &config);
        subnet.stop(1);
        let begun = subnet.network.elapsed();
        drop(subnet.node(0).shutdown());
        subnet.until("ended", |subnet| subnet.has_ended(0));
        subnet.network.elapsed() - begun
    };
    let (short, long) = (until_ended(ms(1)), until_ended(ms(3000)));
    assert!(short <= ms(2) && long > ms(2), "{short:?} and {long:?}");
}
