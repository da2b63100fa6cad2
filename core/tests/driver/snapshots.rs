//! Snapshots: what a node says of itself, its peers, channels and routes is what has happened.

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;
use slotcast::broadcast::Event;
use slotcast::driver::NodeHandle;
use slotcast::error::CallError;
use slotcast::snapshot::{ChannelSnapshot, PeerSnapshot, RouteSnapshot, Snapshot};

use crate::network::Network;
use crate::subnet::{CHANNEL, ROUTE, Subnet, Waiting, config, ms};

/// Longer than a push.
const LONG: usize = 100_000;

fn snapshot(subnet: &mut Subnet, at: usize) -> Snapshot {
    let node = subnet.node(at).clone();
    subnet.run(node.snapshot()).expect("it runs")
}

fn peer(subnet: &mut Subnet, at: usize) -> PeerSnapshot {
    snapshot(subnet, at).peers[0]
}

fn channel(subnet: &mut Subnet, at: usize) -> ChannelSnapshot {
    snapshot(subnet, at).channels[0]
}

fn route(subnet: &mut Subnet, at: usize) -> RouteSnapshot {
    snapshot(subnet, at).routes.swap_remove(0)
}

/// Publishes at the first node, and has the second one take it.
fn deliver(subnet: &mut Subnet, bytes: usize) {
    subnet.channel(0).publish(vec![7; bytes], b"metadata").expect("there is room");
    let channel = subnet.channel(1);
    let event = subnet.run(channel.next_event());
    assert!(matches!(event, Some(Event::Delivered { .. })), "{event:?}");
}

#[test]
fn the_node_tells_of_its_socket_its_memory_and_its_driver() {
    let mut subnet = Subnet::connected(2, &config());
    deliver(&mut subnet, 1000);
    let snapshot = snapshot(&mut subnet, 0);
    let node = snapshot.node;
    assert_eq!(snapshot.uptime, subnet.network.elapsed());
    assert_eq!(node.stats, subnet.node(0).stats());
    assert!(node.stats.sent_datagrams > 0);
    assert_eq!(node.handshakes, 0);
    assert_eq!(node.memory.bound, config().memory_bound());
    assert_eq!(node.memory.budgeted, 1000, "the artifact that is active");
    assert!(node.driver.expect("it has one").polls.count() > 0);
    assert_eq!(snapshot.peers.len(), 1);
}

#[test]
fn bytes_of_a_peer_are_told_by_use() {
    let mut subnet = Subnet::connected(2, &config());
    for bytes in [1000, LONG] {
        deliver(&mut subnet, bytes);
    }
    let (sender, receiver) = (peer(&mut subnet, 0), peer(&mut subnet, 1));
    assert_eq!((sender.id, receiver.id), (subnet.id(1), subnet.id(0)));
    assert_eq!(sender.sent.content, (1000 + LONG) as u64);
    assert_eq!(receiver.received.useful, (1000 + LONG) as u64);
    assert_eq!((receiver.received.duplicate, receiver.received.aborted), (0, 0));
    // What was read is what was encoded, so the rest of both is the same.
    assert_eq!(receiver.received.control, sender.sent.control);
    assert_eq!(sender.received.control, receiver.sent.control);
    assert!(sender.sent.control > 0 && receiver.sent.control > 0, "adverts and requests");
}

#[test]
fn what_comes_twice_is_a_duplicate() {
    let mut subnet = Subnet::connected(3, &config());
    for publisher in [0, 1] {
        subnet.channel(publisher).publish(vec![7; 1000], b"same").expect("there is room");
        subnet.settle();
        subnet.elapse(ms(200));
    }
    let peers = snapshot(&mut subnet, 2).peers;
    let sum = |count: fn(&PeerSnapshot) -> u64| peers.iter().map(count).sum::<u64>();
    assert_eq!(sum(|peer| peer.received.useful), 1000);
    assert_eq!(sum(|peer| peer.received.duplicate + peer.received.aborted), 1000);
}

#[test]
fn a_link_tells_of_its_path() {
    let mut subnet = Subnet::connected(2, &config());
    let since = subnet.network.elapsed();
    subnet.elapse(ms(700));
    let link = peer(&mut subnet, 0).link.expect("it is up");
    assert!(link.uptime >= ms(700) && link.uptime <= ms(700) + since, "{link:?}");
    assert!(link.mtu >= 1200 && link.congestion_window > 0);
    assert!(link.sent_packets > 0 && link.sent_bytes > 0 && link.received_datagrams > 0);
    let node = subnet.node(1).clone();
    subnet.run(node.shutdown()).expect("it ends");
    subnet.elapse(ms(100));
    assert_eq!(peer(&mut subnet, 0).link, None);
}

#[test]
fn a_backlog_has_the_age_of_its_oldest_change() {
    let mut config = config();
    config.channels[0].push_bytes_max = 60_000;
    let mut subnet = Subnet::connected(2, &config);
    assert_eq!(peer(&mut subnet, 0).backlog, Default::default());
    subnet.stop(1);
    let channel = subnet.channel(0);
    // More than may be in flight. What is aborted is not in it, and what was never told of neither.
    let ids: Vec<_> = (0..20_u8)
        .map(|number| channel.publish(vec![number; 50_000], b"").expect("there is room"))
        .collect();
    subnet.elapse(ms(300));
    let before = peer(&mut subnet, 0).backlog;
    assert!(before.updates > 0 && before.updates < 20, "{before:?}");
    assert!(before.age >= ms(300) && before.age < ms(310), "{before:?}");
    assert!(channel.abort(&ids[19]));
    subnet.elapse(ms(100));
    let after = peer(&mut subnet, 0).backlog;
    assert_eq!(after.updates, before.updates - 1);
    assert_eq!(after.age, before.age + ms(100));
    subnet.go_on(1);
    subnet.elapse(ms(2000));
    assert_eq!(peer(&mut subnet, 0).backlog, Default::default());
}

#[test]
fn a_channel_tells_of_what_is_here_and_what_was_taken() {
    let mut subnet = Subnet::connected(2, &config());
    let publisher = subnet.channel(0);
    let id = publisher.publish(vec![1; 500], b"short").expect("there is room");
    publisher.publish(vec![2; LONG], b"long").expect("there is room");
    subnet.elapse(ms(500));
    let sender = channel(&mut subnet, 0);
    assert_eq!(sender.id, CHANNEL);
    assert_eq!((sender.outbox.active, sender.outbox.published_bytes), (2, 500 + LONG as u64));
    assert_eq!(sender.acknowledged.count(), 1, "one stream told of both");
    let receiver = channel(&mut subnet, 1);
    assert_eq!((receiver.known.all, receiver.known.fetching), (2, 0));
    assert_eq!((receiver.events.delivered, receiver.inbox.staged_events), (2, 2));
    assert_eq!(receiver.events.delivered_bytes, 500 + LONG as u64);
    assert!(receiver.inbox.staged_bytes > LONG as u64);
    assert_eq!(receiver.fetched.count(), 1, "the other one was pushed");
    publisher.abort(&id);
    subnet.elapse(ms(500));
    let receiver = channel(&mut subnet, 1);
    assert_eq!((receiver.known.all, receiver.events.expired), (1, 1));
}

#[test]
fn the_time_of_an_acknowledgement_counts_from_the_publication() {
    let mut subnet = Subnet::connected(2, &config());
    subnet.elapse(ms(500));
    subnet.stop(1);
    subnet.channel(0).publish(vec![1; 500], b"").expect("there is room");
    subnet.elapse(ms(200));
    assert_eq!(channel(&mut subnet, 0).acknowledged.count(), 0);
    subnet.go_on(1);
    subnet.elapse(ms(100));
    let acknowledged = channel(&mut subnet, 0).acknowledged;
    assert_eq!(acknowledged.count(), 1);
    assert!(acknowledged.sum() >= ms(200) && acknowledged.sum() < ms(300), "{acknowledged:?}");
}

#[test]
fn a_stage_that_is_full_leaves_artifacts_in_the_node_where_they_are_counted() {
    let mut config = config();
    config.driver.staged_events_max = 1;
    let mut subnet = Subnet::connected(2, &config);
    for number in 0..3_u8 {
        subnet.channel(0).publish(vec![number; 500], b"").expect("there is room");
    }
    subnet.elapse(ms(500));
    let receiver = channel(&mut subnet, 1);
    assert_eq!((receiver.known.waiting, receiver.inbox.waiting_bytes), (2, 1000));
    assert_eq!((receiver.events.delivered, receiver.inbox.staged_events), (1, 1));
}

#[test]
fn a_route_tells_of_calls_by_outcome() {
    let mut subnet = Subnet::connected(2, &config());
    let (server, caller) = (subnet.serve(1), subnet.route(0));
    let callee = subnet.id(1);
    let mut call = Waiting::new(caller.call(callee, b"first".to_vec()));
    assert!(call.poll().is_none());
    let request = subnet.run(server.next_request()).expect("it is served");
    let under_way = route(&mut subnet, 0);
    assert_eq!(under_way.id, ROUTE);
    assert_eq!((under_way.calls.counts.begun, under_way.calls.in_flight), (1, 1));
    assert_eq!(under_way.calls.credit, 64);
    assert_eq!(route(&mut subnet, 1).requests.in_flight, 1);
    subnet.elapse(ms(100));
    request.answer(b"answer".to_vec()).expect("it waits");
    subnet.settle();
    assert!(matches!(call.poll(), Some(Ok(_))));
    // One that is dropped by the callee, and one that the caller gives up.
    let mut call = Waiting::new(caller.call(callee, b"second".to_vec()));
    assert!(call.poll().is_none());
    drop(subnet.run(server.next_request()));
    subnet.settle();
    assert!(matches!(call.poll(), Some(Err(CallError::Dropped))));
    let mut call = Waiting::new(caller.call(callee, b"third".to_vec()));
    assert!(call.poll().is_none());
    let request = subnet.run(server.next_request()).expect("it is served");
    drop(call);
    subnet.elapse(ms(100));
    drop(request);
    subnet.settle();
    let (calls, requests) = (route(&mut subnet, 0).calls, route(&mut subnet, 1).requests);
    let counts = calls.counts;
    assert_eq!((counts.begun, counts.answered, counts.dropped, counts.cancelled), (3, 1, 1, 1));
    assert_eq!(counts.outcomes().iter().map(|(_, count)| count).sum::<u64>(), 3);
    assert_eq!((calls.in_flight, calls.waiting), (0, 0));
    for latencies in [calls.latencies, requests.latencies] {
        assert_eq!(latencies.count(), 1);
        assert!(latencies.sum() >= ms(100) && latencies.sum() < ms(150), "{latencies:?}");
    }
    let counts = requests.counts;
    assert_eq!((counts.taken, counts.answered, counts.refused, counts.cancelled), (3, 1, 1, 1));
}

#[test]
fn several_ask_at_once_and_nobody_waits_for_a_node_that_has_ended() {
    let mut subnet = Subnet::connected(2, &config());
    let node = subnet.node(0).clone();
    let ask = |node: &NodeHandle| {
        let node = node.clone();
        Waiting::new(async move { node.snapshot().await })
    };
    let mut asking = [ask(&node), ask(&node), ask(&node)];
    assert!(asking.iter_mut().all(|asking| asking.poll().is_none()));
    subnet.settle();
    assert!(asking.iter_mut().all(|asking| asking.poll().is_some_and(|it| it.is_some())));
    // Its driver is dropped while somebody waits.
    let mut late = ask(&node);
    assert!(late.poll().is_none());
    subnet.drop_driver(0);
    assert_eq!(late.poll(), Some(None));
    assert_eq!(ask(&node).poll(), Some(None));
}

#[test]
fn a_snapshot_that_was_asked_for_before_a_change_is_not_the_answer_after_it() {
    let mut subnet = Subnet::connected(2, &config());
    let first = channel(&mut subnet, 0);
    subnet.channel(0).publish(vec![1; 10], b"").expect("there is room");
    let second = channel(&mut subnet, 0);
    assert_eq!((first.outbox.active, second.outbox.active), (0, 1));
}

#[test]
fn snapshots_survive_formats() {
    #[track_caller]
    fn assert_survives<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) {
        let text = toml::to_string(value).expect("it can be written");
        assert_eq!(&toml::from_str::<T>(&text).expect("it can be read"), value, "{text}");
        let bytes = postcard::to_allocvec(value).expect("it can be written");
        assert_eq!(&postcard::from_bytes::<T>(&bytes).expect("it can be read"), value);
    }
    let mut subnet = Subnet::connected(2, &config());
    deliver(&mut subnet, LONG);
    // Time passes until the next one is acknowledged.
    subnet.stop(1);
    subnet.channel(0).publish(vec![1; 500], b"").expect("there is room");
    subnet.elapse(ms(50));
    subnet.go_on(1);
    subnet.elapse(ms(50));
    let snapshot = snapshot(&mut subnet, 0);
    assert!(snapshot.channels[0].acknowledged.sum() >= ms(50));
    assert_survives(&snapshot);
    let mut alone = Subnet::new(&Network::new(2), &config());
    alone.stop(1);
    let node = alone.node(0).clone();
    let snapshot = alone.run(node.snapshot()).expect("it runs");
    assert_survives(&snapshot);
    assert_eq!(snapshot.peers[0].link, None);
}
