//! Connections that are closed and not forgotten yet: each member hears the last word.

use slotcast::node::Closed;

use crate::subnet::{Recorded, connected};
use slotcast_testkit::machines::{config, ms};

#[test]
fn every_member_of_a_larger_subnet_hears_of_a_shutdown() {
    const NODES: usize = 6;
    for at in [0, 2, NODES - 1] {
        let mut subnet = connected(&config(|_| {}), NODES);
        let now = subnet.now();
        subnet.with(at, |node| node.shutdown(now));
        subnet.run_until("closed", ms(600), |subnet| subnet.is_closed(at));
        subnet.elapse(ms(100));
        for other in (0..NODES).filter(|other| *other != at) {
            assert_eq!(subnet.node_told(other), [subnet.down(at, Closed::Shutdown)], "{other}");
        }
    }
}
