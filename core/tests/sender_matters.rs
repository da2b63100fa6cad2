//! Channels where it matters who publishes: the same bytes from two members are two artifacts.

use slotcast::artifact::Artifact;
use slotcast::broadcast::{Event, Taken};
use slotcast::config::{Config, Relay};
use slotcast::error::{Fault, PublishError};
use slotcast::id::{NodeId, Slot, Version};
use slotcast::wire::Update;
use slotcast_testkit::machines::{
    CHANNEL, LARGE_CHUNKS, Net, Solo, advert, config, delivered, large, node, peer, small,
};

fn by_sender() -> Config {
    config(|channel| channel.sender_matters = true)
}

#[test]
fn the_same_bytes_from_two_members_are_two_artifacts() {
    for block in [small(1), large(1)] {
        let mut net = Net::new(by_sender(), 3);
        let own = [0, 1].map(|at| block.by(node(at)));
        for at in [0, 1] {
            net.publish(at, &own[at]);
        }
        net.run();
        let mut events = net.events(2);
        events.sort_by_key(
            |event| matches!(event, Event::Delivered { from, .. } if *from == node(1)),
        );
        assert_eq!(delivered(&events), own.each_ref().map(Artifact::id));
        for (at, event) in events.iter().enumerate() {
            let Event::Delivered { artifact, from } = event else { panic!("{event:?}") };
            assert_eq!((artifact.publisher(), *from), (Some(node(at)), node(at)));
            assert_eq!((artifact.bytes(), artifact.metadata()), (block.bytes(), block.metadata()));
        }
        // Who publishes the same is told of the other's.
        assert_eq!(net.delivered(0), [own[1].id()]);
        assert_eq!(net.delivered(1), [own[0].id()]);
        if block == large(1) {
            assert_eq!(net.chunks(0, 2).len(), LARGE_CHUNKS as usize, "each from its publisher");
            assert_eq!(net.chunks(1, 2).len(), LARGE_CHUNKS as usize, "each from its publisher");
        }
        net.abort(0, &own[0]);
        net.elapse(slotcast_testkit::machines::ms(200));
        assert_eq!(net.events(2), [Event::Expired { id: own[0].id() }]);
    }
}

#[test]
fn nobody_passes_on_what_another_publishes() {
    let mut solo = Solo::new(&by_sender(), 1);
    let block = small(1);
    let (slot, version, key) = (Slot(0), Version(1), None);
    let (metadata, bytes) = (block.metadata(), block.bytes());
    let relayed = Update::Push { slot, version, hops: 1, key, metadata, bytes };
    assert_eq!(solo.update(0, &relayed), Err(Fault::HopsBeyondBound));
    let relayed = advert(0, 1, 1, false, &large(1));
    assert_eq!(solo.update(0, &relayed), Err(Fault::HopsBeyondBound));
    assert_eq!((solo.machine.known_count(), solo.events()), (0, vec![]));
    let mut relaying = by_sender();
    relaying.channels[0] = relaying.channels[0].clone().relaying(Relay::Confirmed, 9);
    let error = relaying.check().expect_err("nobody could prove who has published");
    assert_eq!(error.field, "sender_matters");
}

#[test]
fn artifacts_are_published_by_this_node_where_that_matters_and_by_nobody_where_not() {
    const OWN: NodeId = NodeId([0xff; 32]);
    let mut solo = Solo::new(&by_sender(), 1);
    let mut publish = |artifact: Artifact| solo.machine.publish(CHANNEL, artifact);
    assert_eq!(publish(small(1)), Err(PublishError::WrongPublisher));
    assert_eq!(publish(small(1).by(node(0))), Err(PublishError::WrongPublisher));
    assert_eq!(publish(small(1).by(OWN)), Ok(()));
    let mut solo = Solo::new(&config(|_| {}), 1);
    let published = solo.machine.publish(CHANNEL, small(1).by(OWN));
    assert_eq!(published, Err(PublishError::WrongPublisher));
}

/// As after a change of its key.
#[test]
fn the_publisher_is_the_key_of_the_connection() {
    let mut solo = Solo::new(&by_sender(), 1);
    solo.push(0, 0, 1, &small(1));
    solo.expect_delivered([&small(1).by(node(0))]);
    solo.machine.set_peer_key(peer(0), node(7));
    let update = Update::Clear { slot: Slot(0), version: Version(2) };
    assert_eq!(solo.update(0, &update), Ok(Taken::Done));
    solo.push(0, 1, 3, &small(1));
    let events = solo.events();
    assert_eq!(delivered(&events), [small(1).by(node(7)).id()]);
    let Some(Event::Delivered { from, .. }) = events.last() else { panic!("{events:?}") };
    assert_eq!(*from, node(0), "the member is the same");
}
