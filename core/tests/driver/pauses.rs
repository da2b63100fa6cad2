//! F3: what waits in the socket is read before anything expires.

use std::io::ErrorKind;
use std::time::Duration;

use crate::subnet::{Subnet, config, ms};

/// As long as the idle timeout: without what waits in its socket, the stopped node would give up all
/// its connections.
#[test]
fn a_process_that_was_stopped_keeps_its_connections() {
    let mut config = config();
    // Peers send something all the time, so that they do not give it up either.
    config.transport.keep_alive = ms(1000);
    let idle_timeout = config.transport.idle_timeout;
    let mut subnet = Subnet::connected(3, &config);
    for round in 0..5 {
        subnet.stop(2);
        subnet.elapse(idle_timeout - ms(50 + 130 * round));
        // The next datagrams come late on their way to the process; they are in its socket.
        subnet.network.advance(ms(60 + 130 * round));
        subnet.go_on(2);
        subnet.elapse(ms(2000));
        for at in 0..3 {
            let node = subnet.node(at);
            assert_eq!((node.peers_up().len(), node.stats().connections), (2, 2), "round {round}");
        }
    }
}

/// There is more in the socket than one turn reads.
#[test]
fn all_that_waits_is_read_first() {
    let mut config = config();
    config.transport.keep_alive = ms(1000);
    let idle_timeout = config.transport.idle_timeout;
    let mut subnet = Subnet::connected(2, &config);
    subnet.stop(1);
    for _ in 0..200 {
        subnet.network.flood(0, 1, 10_000);
    }
    // What shows the peer to be alive comes behind it.
    subnet.elapse(idle_timeout - ms(100));
    assert!(subnet.network.socket(1).waiting() > 200);
    subnet.network.advance(ms(200));
    // The clock of the others stands still meanwhile, since they are not polled.
    subnet.network.tick.set(Duration::from_micros(30));
    subnet.go_on(1);
    let mut polls = 0;
    while subnet.network.socket(1).waiting() > 0 {
        subnet.poll(1);
        polls += 1;
        assert!(polls < 1000, "it reads");
    }
    assert!(polls > 1, "other tasks had their turn in between");
    assert_eq!(subnet.node(1).peers_up().len(), 1);
}

/// As many as make the driver leave the socket alone for a while at other times.
#[test]
fn what_waits_behind_errors_is_read_first() {
    let mut config = config();
    config.transport.keep_alive = ms(1000);
    let idle_timeout = config.transport.idle_timeout;
    let mut subnet = Subnet::connected(2, &config);
    subnet.stop(1);
    subnet.elapse(idle_timeout - ms(100));
    let bounced = std::iter::repeat_n(ErrorKind::ConnectionReset, 500);
    subnet.network.socket(1).receive_errors.extend(bounced);
    subnet.network.advance(ms(200));
    subnet.go_on(1);
    subnet.settle();
    assert_eq!(subnet.node(1).stats().receive_errors, 500);
    assert_eq!(subnet.node(1).peers_up().len(), 1);
}

/// A socket that says again and again that it has failed, or has something and hands over nothing.
#[test]
fn a_socket_that_gives_nothing_does_not_hold_up_deadlines() {
    for fails in [true, false] {
        let mut subnet = Subnet::connected(2, &config());
        subnet.elapse(ms(1000));
        match fails {
            true => {
                let bounced = std::iter::repeat_n(ErrorKind::ConnectionReset, 1_000_000);
                subnet.network.socket(0).receive_errors.extend(bounced);
            }
            false => subnet.network.socket(0).is_hollow = true,
        }
        drop(subnet.node(0).shutdown());
        subnet.network.tick.set(Duration::from_micros(1));
        let begun = subnet.network.elapsed();
        while !subnet.has_ended(0) {
            subnet.poll(0);
            subnet.network.complete();
            let took = subnet.network.elapsed() - begun;
            assert!(took < ms(600), "it goes on shutting down");
        }
    }
}
