//! What handles know of the node, so that they can answer at once: they say what it would say.

use slotcast::error::PublishError;
use slotcast::membership::{Topology, TopologyError};
use slotcast::node::NodeKey;

use crate::subnet::{Subnet, config, ms};

#[test]
fn what_is_aborted_takes_no_bytes_of_the_channel_any_more() {
    let mut config = config();
    let channel = &mut config.channels[0];
    (channel.artifact_bytes_max, channel.active_bytes_max) = (1000, 2500);
    let mut subnet = Subnet::connected(2, &config);
    let channel = subnet.channel(0);
    for round in 0..10 {
        let publish = |number: u8, length| channel.publish(vec![number; length], &[round]);
        let ids = [1, 2].map(|number| publish(number, 1000).expect("there is room"));
        assert_eq!(publish(3, 501), Err(PublishError::ActiveBytesExceeded));
        let rest = publish(4, 500).expect("it fits exactly");
        for id in ids.into_iter().chain([rest]) {
            assert!(channel.abort(&id) && !channel.abort(&id));
        }
        if round % 2 == 0 {
            subnet.elapse(ms(100));
        }
    }
}

#[test]
fn too_many_members_are_refused_at_the_handle_and_change_nothing() {
    let mut config = config();
    config.peers_max = 1;
    let mut subnet = Subnet::connected(2, &config);
    let before = subnet.node(0).membership();
    let members = (1..=3).map(|seed| {
        let address = crate::network::address(0);
        (NodeKey::from_seed([seed; 32]).id(), vec![address])
    });
    let three = Topology::new(2, members).expect("each once");
    let node = subnet.node(0).clone();
    assert_eq!(node.set_topology(three.clone()), Err(TopologyError::TooManyMembers));
    assert_eq!(node.add_topology(three), Err(TopologyError::TooManyMembers));
    assert_eq!(node.membership(), before);
    subnet.elapse(ms(100));
    assert!(!subnet.has_ended(0));
    assert_eq!(node.peers_up(), [subnet.id(1)]);
}
