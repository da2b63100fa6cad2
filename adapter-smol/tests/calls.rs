//! Two nodes under smol, which broadcast to each other and call each other, over loopback.

use std::future::Future;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use slotcast_smol::slotcast::broadcast::Event;
use slotcast_smol::slotcast::config::{ChannelConfig, Config, RouteConfig};
use slotcast_smol::slotcast::error::{AnswerError, CallError};
use slotcast_smol::slotcast::id::{ChannelId, NodeId, RouteId};
use slotcast_smol::slotcast::membership::Topology;
use slotcast_smol::slotcast::node::{NodeEvent, NodeKey};
use slotcast_smol::{NodeHandle, Setup, bind};

const CHANNEL: ChannelId = ChannelId(1);
const ROUTE: RouteId = RouteId(7);

/// Nothing here takes a second; a loaded machine may be slow.
const PATIENCE: Duration = Duration::from_secs(60);

async fn within<T>(future: impl Future<Output = T>) -> T {
    let patience = async {
        smol::Timer::after(PATIENCE).await;
        panic!("nothing takes so long")
    };
    smol::future::or(future, patience).await
}

async fn pair(route: RouteConfig) -> ([NodeHandle; 2], [NodeId; 2]) {
    let keys = [1, 2].map(|n| NodeKey::from_seed([n; 32]));
    let sockets = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").expect("a free port"));
    let addresses: [SocketAddr; 2] = sockets.each_ref().map(|s| s.local_addr().expect("bound"));
    drop(sockets);
    let members = [0, 1].map(|n: usize| (keys[n].id(), vec![addresses[n]]));
    let topology = Topology::new(1, members).expect("distinct keys");
    let nodes = [0, 1].map(|n: usize| {
        let config = Config::new([ChannelConfig::new(CHANNEL)]).routes([route.clone()]);
        bind(Setup::new(keys[n].clone(), config, topology.clone()), addresses[n]).expect("free")
    });
    for node in &nodes {
        // What the kernel grants the socket may be told before.
        while !matches!(within(node.next_event()).await, Some(NodeEvent::Up { .. })) {}
    }
    (nodes, keys.map(|key| key.id()))
}

#[test]
fn calls_are_answered_while_artifacts_are_broadcast() {
    smol::block_on(async {
        let route = RouteConfig::new(ROUTE, "reverse").bytes_max(4 << 20, 4 << 20);
        let (nodes, ids) = pair(route).await;
        let server = nodes[1].route(ROUTE).expect("configured").serve().expect("served");
        let serving = smol::spawn(async move {
            let mut served = 0;
            while let Some(request) = server.next_request().await {
                let answer: Vec<u8> = request.body().iter().rev().copied().collect();
                request.answer(answer).expect("it is waited for");
                served += 1;
            }
            served
        });
        let caller = nodes[0].route(ROUTE).expect("configured");
        let lengths = [0, 100, 16_384, 16_385, 4 << 20, 100];
        let bodies = lengths.map(|length| (0..length).map(|at| (at >> 4) as u8).collect());
        let calls = bodies.each_ref().map(|body: &Vec<u8>| caller.call(ids[1], body.clone()));
        let published = nodes[1].channel(CHANNEL).expect("configured");
        published.publish(vec![9; 300_000], b"meanwhile").expect("there is room");
        for (call, body) in calls.into_iter().zip(bodies) {
            let expected: Vec<u8> = body.into_iter().rev().collect();
            assert!(within(call).await.expect("answered") == expected);
        }
        let received = nodes[0].channel(CHANNEL).expect("configured");
        assert!(matches!(within(received.next_event()).await, Some(Event::Delivered { .. })));
        for node in &nodes {
            within(node.shutdown()).await.expect("the socket is sound");
        }
        assert_eq!(within(serving).await, lengths.len());
    });
}

#[test]
fn both_sides_learn_when_the_other_gives_up() {
    smol::block_on(async {
        let (nodes, ids) = pair(RouteConfig::new(ROUTE, "hold")).await;
        let caller = nodes[0].route(ROUTE).expect("configured");
        let server = nodes[1].route(ROUTE).expect("configured").serve().expect("served");
        let call = caller.call(ids[1], "one");
        let request = within(server.next_request()).await.expect("running");
        drop(call);
        within(request.cancelled()).await;
        assert_eq!(request.answer("late"), Err(AnswerError::Cancelled));

        let call = caller.call(ids[1], "two");
        drop(within(server.next_request()).await.expect("running"));
        assert_eq!(within(call).await, Err(CallError::Dropped));

        let call = caller.call(ids[1], "three");
        let request = within(server.next_request()).await.expect("running");
        within(nodes[1].shutdown()).await.expect("the socket is sound");
        assert_eq!(within(call).await, Err(CallError::Disconnected));
        assert_eq!(request.answer("too late"), Err(AnswerError::Closed));
    });
}
