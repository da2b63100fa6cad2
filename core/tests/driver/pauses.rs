//! F3: what waits in the socket is read before anything expires.

use std::time::Duration;

use slotcast::config::Config;

use crate::memory::{Subnet, config};

fn connected(config: &Config, nodes: usize) -> Subnet {
    let mut subnet = Subnet::new(nodes, config);
    subnet.run_until("connected", Duration::from_secs(5), |subnet| {
        subnet.nodes.iter().all(|node| node.peers_up().len() + 1 == nodes)
    });
    subnet
}

/// As long as the idle timeout: without what waits in its socket, the stopped node would give up all
/// its connections.
#[test]
fn a_process_that_was_stopped_keeps_its_connections() {
    let mut config = config();
    // Peers send something all the time, so that they do not give it up either.
    config.transport.keep_alive = Duration::from_secs(1);
    let idle_timeout = config.transport.idle_timeout;
    let mut subnet = connected(&config, 3);
    for round in 0..5 {
        subnet.stop(2);
        subnet.elapse(idle_timeout - Duration::from_millis(50 + 130 * round));
        // The next datagrams come late on their way to the process; they are in its socket.
        subnet.network.advance(Duration::from_millis(60 + 130 * round));
        subnet.go_on(2);
        subnet.elapse(Duration::from_secs(2));
        for node in &subnet.nodes {
            assert_eq!((node.peers_up().len(), node.stats().connections), (2, 2), "round {round}");
        }
    }
}

/// There is more in the socket than one turn reads.
#[test]
fn all_that_waits_is_read_first() {
    let mut config = config();
    config.transport.keep_alive = Duration::from_secs(1);
    let idle_timeout = config.transport.idle_timeout;
    let mut subnet = connected(&config, 2);
    subnet.stop(1);
    for _ in 0..200 {
        subnet.network.flood(0, 1, 10_000);
    }
    // What shows the peer to be alive comes behind it.
    subnet.elapse(idle_timeout - Duration::from_millis(100));
    assert!(subnet.network.socket(1).waiting() > 200);
    subnet.network.advance(Duration::from_millis(200));
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
    assert_eq!(subnet.nodes[1].peers_up().len(), 1);
}
