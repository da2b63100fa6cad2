//! Loopback, by handles.

use slotcast::broadcast::{Candidate, Decision, Event};
use slotcast::driver::Setup;

use crate::network::Network;
use crate::subnet::{CHANNEL, Subnet, config};

#[test]
fn a_node_tells_itself_of_its_own_artifacts_as_of_those_of_others() {
    let network = Network::new(2);
    let mut subnet = Subnet::with(&network, &config(), |_, key, config, topology| {
        Setup::new(key, config, topology).loopback()
    });
    subnet.until("they are connected", |subnet| {
        (0..2).all(|at| subnet.node(at).peers_up().len() == 1)
    });
    let (channel, inbox) = (subnet.channel(0), subnet.channel(1));
    let id = channel.publish("x", b"").expect("there is room");
    subnet.poll(0);
    assert!(inbox.try_event().is_none());
    let Some(Event::Delivered { artifact, from }) = channel.try_event() else { panic!("told") };
    assert_eq!((artifact.id(), from), (id, subnet.id(0)));
    let received = subnet.run(inbox.next_event());
    assert!(matches!(received, Some(Event::Delivered { from, .. }) if from == subnet.id(0)));
    assert!(channel.abort(&id));
    assert_eq!(subnet.run(channel.next_event()), Some(Event::Expired { id }));
    assert_eq!(subnet.run(inbox.next_event()), Some(Event::Expired { id }));
}

/// [`Setup::loopback`]: filters are not asked about one's own.
#[test]
fn a_filter_does_not_keep_a_nodes_own_artifacts_from_it() {
    let network = Network::new(1);
    let mut subnet = Subnet::with(&network, &config(), |_, key, config, topology| {
        let setup = Setup::new(key, config, topology).loopback();
        setup.filter(CHANNEL, |_: &Candidate<'_>| -> Decision { panic!("it is not asked") })
    });
    let channel = subnet.channel(0);
    channel.publish("x", b"").expect("there is room");
    let told = subnet.run(channel.next_event());
    assert!(matches!(told, Some(Event::Delivered { .. })), "{told:?}");
}
