//! A node uses the socket that it is given, with the options that it has.

use std::net::UdpSocket;
use std::time::Duration;

use slotcast_smol::slotcast::config::{ChannelConfig, Config};
use slotcast_smol::slotcast::id::ChannelId;
use slotcast_smol::slotcast::membership::Topology;
use slotcast_smol::slotcast::node::NodeKey;
use slotcast_smol::{NodeHandle, Setup, bind};

/// Nothing here takes a second; a loaded machine may be slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// An option that nobody else would set.
const TTL: u32 = 37;

/// Two members over sockets of the application, which keeps other handles to them.
fn pair() -> [(NodeHandle, UdpSocket); 2] {
    let keys = [1, 2].map(|n| NodeKey::from_seed([n; 32]));
    let sockets = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").expect("a free port"));
    let addresses = sockets.each_ref().map(|socket| socket.local_addr().expect("bound"));
    let members = [0, 1].map(|at: usize| (keys[at].id(), vec![addresses[at]]));
    let topology = Topology::new(1, members).expect("distinct keys");
    [0, 1].map(|at: usize| {
        let socket = sockets[at].try_clone().expect("a second handle");
        socket.set_ttl(TTL).expect("a valid option");
        let kept = socket.try_clone().expect("a third handle");
        let config = Config::new([ChannelConfig::new(ChannelId(1))]);
        let setup = Setup::new(keys[at].clone(), config, topology.clone()).socket(socket);
        // Binding this address again would fail.
        let node = bind(setup, addresses[at]).expect("nothing is bound");
        assert_eq!(node.local_address(), addresses[at]);
        (node, kept)
    })
}

#[test]
fn nodes_use_sockets_of_the_application_with_their_options() {
    let [(a, socket_of_a), (b, _)] = pair();
    let b_id = b.key_id();
    let patience = async {
        smol::Timer::after(PATIENCE).await;
        false
    };
    assert!(smol::block_on(smol::future::or(a.connected(&b_id), patience)));
    assert_eq!(socket_of_a.ttl().expect("an option"), TTL);
}
