//! Bounds of a channel that nodes tell each other: whose are wider than its peer's keeps silent.

use slotcast::config::ChannelConfig;
use slotcast_sim::Setup;

use crate::subnet::{Recorded, of};
use slotcast_testkit::machines::{config, ms, small};

#[test]
fn a_node_keeps_silent_whichever_of_its_bounds_the_peer_does_not_take() {
    let narrower: [fn(&mut ChannelConfig); 4] = [
        |channel| channel.slots_max -= 1,
        |channel| channel.artifact_bytes_max -= 1,
        |channel| channel.push_bytes_max -= 1,
        |channel| channel.relay_hops_max -= 1,
    ];
    for (number, narrow) in narrower.into_iter().enumerate() {
        let mut subnet = of(Setup::with_configs(vec![config(|_| {}), config(narrow)]));
        subnet.connect();
        for at in 0..2 {
            subnet.publish(at, &small(at as u64));
        }
        subnet.elapse(ms(1000));
        let delivered = [0, 1].map(|at| subnet.delivered(at).len());
        assert_eq!(delivered, [1, 0], "bound {number}");
        subnet.assert_peace();
    }
}
