//! Channels where the sender matters, by handles.

use slotcast::artifact::Artifact;
use slotcast::broadcast::Event;
use slotcast::driver::Setup;
use slotcast::error::PublishError;

use crate::network::Network;
use crate::subnet::{Subnet, config, ms};

#[test]
fn members_that_publish_the_same_hear_of_each_others() {
    let mut config = config();
    config.channels[0].sender_matters = true;
    let mut subnet = Subnet::connected(2, &config);
    let channels = [0, 1].map(|at| subnet.channel(at));
    let vote = Artifact::new("yes".into(), b"").expect("short");
    assert_eq!(channels[0].publish_artifact(&vote), Err(PublishError::WrongPublisher));
    let ids = channels.each_ref().map(|channel| channel.publish("yes", b"").expect("room"));
    assert_eq!(ids, [0, 1].map(|at| vote.by(subnet.id(at)).id()));
    for (at, channel) in channels.iter().enumerate() {
        let event = subnet.run(channel.next_event());
        let Some(Event::Delivered { artifact, from }) = event else { panic!("{event:?}") };
        assert_eq!((artifact.id(), from), (ids[1 - at], subnet.id(1 - at)));
    }
    assert!(channels[0].abort(&ids[0]));
    assert_eq!(subnet.run(channels[1].next_event()), Some(Event::Expired { id: ids[0] }));
}

/// They would not agree on any id.
#[test]
fn members_that_do_not_agree_do_not_hear_each_other() {
    let network = Network::new(2);
    let mut subnet = Subnet::with(&network, &config(), |at, key, mut config, topology| {
        config.channels[0].sender_matters = at == 0;
        Setup::new(key, config, topology)
    });
    subnet.until("they are connected", |subnet| {
        (0..2).all(|at| subnet.node(at).peers_up().len() == 1)
    });
    for at in [0, 1] {
        subnet.channel(at).publish("x", b"").expect("there is room");
    }
    subnet.elapse(ms(1000));
    for at in [0, 1] {
        assert_eq!(subnet.channel(at).try_event(), None);
    }
}
