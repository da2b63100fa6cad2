//! Calls over loopback: a node under tokio and one under smol, each of which calls and serves.

use std::future::{Future, poll_fn};
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::time::Duration;

use futures_core::Stream;
use slotcast_tokio::slotcast::broadcast::Event;
use slotcast_tokio::slotcast::config::{ChannelConfig, Config, RouteConfig};
use slotcast_tokio::slotcast::driver::{Occurrence, OnlyCalls, Select};
use slotcast_tokio::slotcast::error::{AnswerError, CallError};
use slotcast_tokio::slotcast::id::{ChannelId, NodeId, RouteId};
use slotcast_tokio::slotcast::membership::Topology;
use slotcast_tokio::slotcast::node::{NodeEvent, NodeKey};
use slotcast_tokio::{NodeHandle, Request, Route, Setup};

const ROUTE: RouteId = RouteId(7);

/// Nothing here takes a second; a loaded machine may be slow.
const PATIENCE: Duration = Duration::from_secs(60);

struct Pair {
    nodes: [NodeHandle; 2],
    ids: [NodeId; 2],
}

impl Pair {
    /// A node under tokio and one under smol, connected.
    async fn start(route: RouteConfig) -> Self {
        let keys = [1, 2].map(|n| NodeKey::from_seed([n; 32]));
        let sockets = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
        let addresses: [SocketAddr; 2] = sockets.each_ref().map(|s| s.local_addr().unwrap());
        drop(sockets);
        let members = [0, 1].map(|n: usize| (keys[n].id(), vec![addresses[n]]));
        let topology = Topology::new(1, members).unwrap();
        let setup = |n: usize| {
            let config = Config::new([ChannelConfig::new(ChannelId(1))]).routes([route.clone()]);
            Setup::new(keys[n].clone(), config, topology.clone())
        };
        let nodes = [
            slotcast_tokio::bind(setup(0), addresses[0]).unwrap(),
            slotcast_smol::bind(setup(1), addresses[1]).unwrap(),
        ];
        for node in &nodes {
            // What the kernel grants the socket may be told before.
            while !matches!(within(node.next_event()).await, Some(NodeEvent::Up { .. })) {}
        }
        Self { nodes, ids: keys.map(|key| key.id()) }
    }

    fn route(&self, at: usize) -> Route {
        self.nodes[at].route(ROUTE).expect("configured")
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("nothing takes so long")
}

/// A tokio node and a smol node take all that they are told from one source.
#[tokio::test(flavor = "multi_thread")]
async fn all_comes_in_one_order_under_both_runtimes() {
    let pair = Pair::start(RouteConfig::new(ROUTE, "numbers")).await;
    for [to, from] in [[0, 1], [1, 0]] {
        let mut events = pair.nodes[to].events(&Select::all()).expect("configured");
        let channel = pair.nodes[from].channel(ChannelId(1)).expect("configured");
        for number in 0..100_u8 {
            // Each has come before the next one is sent.
            let bytes = vec![from as u8, number];
            match number % 2 {
                0 => drop(channel.publish(bytes.clone(), b"").expect("there is room")),
                _ => pair.route(from).tell(pair.ids[to], bytes.clone()).expect("there is credit"),
            }
            let next = poll_fn(|cx| Pin::new(&mut events).poll_next(cx));
            let told = match within(next).await.expect("it runs") {
                Occurrence::Artifact { event: Event::Delivered { artifact, .. }, .. } => {
                    artifact.bytes().to_vec()
                }
                Occurrence::Request { request, route: ROUTE } => request.body().to_vec(),
                other => panic!("{other:?}"),
            };
            assert_eq!(told, bytes);
        }
    }
}

fn reversed(request: &Request) -> Vec<u8> {
    request.body().iter().rev().copied().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn both_nodes_call_each_other_with_bodies_of_every_size() {
    let pair = Pair::start(RouteConfig::new(ROUTE, "reverse").bytes_max(8 << 20, 8 << 20)).await;
    for at in [0, 1] {
        let server = pair.route(at).serve().expect("served");
        tokio::spawn(async move {
            while let Some(request) = server.next_request().await {
                let answer = reversed(&request);
                request.answer(answer).expect("it is waited for");
            }
        });
    }
    for length in [0, 1, 100, 16_384, 16_385, 1 << 20, 8 << 20] {
        let body: Vec<u8> = (0..length).map(|at| ((at * 7) >> 3) as u8).collect();
        let expected: Vec<u8> = body.iter().rev().copied().collect();
        let calls = [0, 1].map(|at| pair.route(at).call(pair.ids[1 - at], body.clone()));
        for call in calls {
            assert!(within(call).await.expect("answered") == expected, "{length}");
        }
    }
    let calls: Vec<_> = (0..64).map(|n| pair.route(0).call(pair.ids[1], vec![n; 100])).collect();
    for (n, call) in calls.into_iter().enumerate() {
        assert_eq!(within(call).await.expect("answered"), vec![n as u8; 100]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_call_is_told_to_the_callee_and_a_dropped_request_to_the_caller() {
    let pair = Pair::start(RouteConfig::new(ROUTE, "hold")).await;
    let server = pair.route(1).serve().expect("served");
    let call = pair.route(0).call(pair.ids[1], "one");
    let request = within(server.next_request()).await.expect("running");
    assert_eq!((request.from(), &request.body()[..]), (pair.ids[0], &b"one"[..]));
    assert!(!request.is_cancelled());
    drop(call);
    within(request.cancelled()).await;
    assert!(request.is_cancelled());
    assert_eq!(request.answer("late"), Err(AnswerError::Cancelled));

    let call = pair.route(0).call(pair.ids[1], "two");
    drop(within(server.next_request()).await.expect("running"));
    assert_eq!(within(call).await, Err(CallError::Dropped));

    let call = pair.route(0).call(pair.ids[1], "three");
    let retry_after = Duration::from_secs(3);
    within(server.next_request())
        .await
        .expect("running")
        .busy(retry_after)
        .expect("it is waited for");
    assert_eq!(within(call).await, Err(CallError::Busy { retry_after }));

    let call = pair.route(0).call(pair.ids[1], "four");
    let request = within(server.next_request()).await.expect("running");
    assert_eq!(request.answer(vec![0; (1 << 20) + 1]), Err(AnswerError::TooLong));
    assert_eq!(within(call).await, Err(CallError::Dropped));

    drop(server);
    assert_eq!(within(pair.route(0).call(pair.ids[1], "five")).await, Err(CallError::NotServed));
}

#[tokio::test(flavor = "multi_thread")]
async fn credit_is_used_up_and_comes_back() {
    let mut route = RouteConfig::new(ROUTE, "narrow");
    (route.in_flight_max, route.waiting_max) = (2, 1);
    let pair = Pair::start(route).await;
    let (to, caller) = (pair.ids[1], pair.route(0));
    let server = pair.route(1).serve().expect("served");
    let calls = [1, 2].map(|n| caller.try_call(to, vec![n]).expect("two may be under way"));
    assert_eq!(caller.try_call(to, "three").err(), Some(CallError::Pushback));
    let waiting = caller.call(to, "three");
    assert_eq!(within(caller.call(to, "four")).await, Err(CallError::Pushback));
    for _ in 0..3 {
        let request = within(server.next_request()).await.expect("running");
        let answer = reversed(&request);
        request.answer(answer).expect("it is waited for");
    }
    for (n, call) in calls.into_iter().enumerate() {
        assert_eq!(within(call).await, Ok(vec![n as u8 + 1].into()));
    }
    assert_eq!(within(waiting).await, Ok("eerht".into()));
    assert!(caller.try_call(to, "five").is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_only_calls_serves_nobody() {
    let mut route = RouteConfig::new(ROUTE, "one way");
    route.serves = false;
    let pair = Pair::start(route).await;
    assert_eq!(pair.route(0).serve().err(), Some(OnlyCalls(ROUTE)));
    assert_eq!(within(pair.route(0).call(pair.ids[1], "")).await, Err(CallError::NotServed));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_said_at_once() {
    let pair = Pair::start(RouteConfig::new(ROUTE, "small").bytes_max(20, 20)).await;
    let caller = pair.route(0);
    assert_eq!(within(caller.call(pair.ids[1], vec![0; 21])).await, Err(CallError::TooLong));
    let stranger = NodeKey::from_seed([9; 32]).id();
    assert_eq!(within(caller.call(stranger, "")).await, Err(CallError::NotConnected));
    assert!(pair.nodes[0].route(RouteId(8)).is_err());
    let timeout = Duration::from_millis(20);
    let call = caller.call_within(pair.ids[1], "nobody serves", timeout);
    assert_eq!(within(call).await, Err(CallError::DeadlinePassed));
    let call = caller.call(pair.ids[1], "nobody serves");
    within(pair.nodes[1].shutdown()).await.expect("the socket is sound");
    // If the connection went before the call was on its way, that is what is said.
    let ended = within(call).await;
    assert!(matches!(ended, Err(CallError::Disconnected | CallError::NotConnected)), "{ended:?}");
    let call = caller.call(pair.ids[1], "nobody there");
    within(pair.nodes[0].shutdown()).await.expect("the socket is sound");
    assert!(matches!(within(call).await, Err(CallError::NotConnected | CallError::Closed)));
    assert_eq!(within(caller.call(pair.ids[1], "over")).await, Err(CallError::Closed));
}
