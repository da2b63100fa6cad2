//! The end of a node that waits for what it has published, and for its calls.

use std::collections::BTreeSet;

use slotcast::artifact::Artifact;
use slotcast::broadcast::{Event, Threshold};
use slotcast::error::{CallError, FlushError, PublishError};
use slotcast::node::FLUSHES_MAX;

use crate::subnet::{Subnet, Waiting, config, ms};

/// Lengths of what is pushed, and of what is fetched.
const LENGTHS: [usize; 2] = [1_000, 1_000_000];

#[test]
fn what_was_published_before_a_shutdown_within_a_time_is_delivered() {
    let mut subnet = Subnet::connected(3, &config());
    let ids = LENGTHS.map(|length| subnet.channel(0).publish(vec![7; length], b"").unwrap());
    let node = subnet.node(0).clone();
    let ended = subnet.run(node.shutdown_within(ms(5_000)));
    assert!(ended.is_ok());
    assert!(subnet.network.elapsed() < ms(5_000), "it does not wait for the deadline");
    for at in [1, 2] {
        let channel = subnet.channel(at);
        let mut delivered = Vec::new();
        while let Some(event) = channel.try_event() {
            if let Event::Delivered { artifact, .. } = event {
                delivered.push(artifact.id());
            }
        }
        assert_eq!(delivered, ids);
    }
}

#[test]
fn a_flush_is_done_when_all_who_are_connected_have_everything() {
    let mut subnet = Subnet::connected(3, &config());
    let channel = subnet.channel(0);
    let ids = LENGTHS.map(|length| channel.publish(vec![7; length], b"").unwrap());
    let node = subnet.node(0).clone();
    assert_eq!(subnet.run(node.flush(ms(5_000))), Ok(()));
    for id in ids {
        let coverage = subnet.run(channel.coverage(&id)).expect("it is active");
        assert_eq!((coverage.told, coverage.acknowledged, coverage.members), (2, 2, 2));
    }
    subnet.stop(2);
    let late = channel.publish("late", b"").unwrap();
    let before = subnet.network.elapsed();
    assert_eq!(subnet.run(node.flush(ms(200))), Err(FlushError::DeadlinePassed));
    assert_eq!(subnet.network.elapsed(), before + ms(200));
    let coverage = subnet.run(channel.coverage(&late)).expect("it is active");
    assert_eq!((coverage.told, coverage.acknowledged, coverage.members), (2, 1, 2));
    // What is not published any more is not waited for.
    let mut flush = Waiting::new(node.flush(ms(5_000)));
    assert_eq!(flush.poll(), None);
    subnet.elapse(ms(50));
    assert_eq!(flush.poll(), None);
    assert!(channel.abort(&late));
    subnet.settle();
    assert_eq!(flush.poll(), Some(Ok(())));
    assert_eq!(subnet.run(channel.coverage(&late)), None);
}

#[test]
fn flushes_are_bounded_and_end_with_the_node() {
    let mut subnet = Subnet::connected(2, &config());
    subnet.stop(1);
    let node = subnet.node(0).clone();
    subnet.channel(0).publish("x", b"").unwrap();
    let mut flushes: Vec<_> =
        (0..FLUSHES_MAX).map(|_| Waiting::new(node.flush(ms(5_000)))).collect();
    assert!(flushes.iter_mut().all(|flush| flush.poll().is_none()));
    assert_eq!(subnet.run(node.flush(ms(5_000))), Err(FlushError::TooMany));
    subnet.settle();
    drop(flushes.pop());
    let ended = subnet.run(node.shutdown());
    assert!(ended.is_ok());
    let ends: Vec<_> = flushes.iter_mut().map(Waiting::poll).collect();
    assert!(ends.iter().all(|end| *end == Some(Err(FlushError::Closed))), "{ends:?}");
    assert_eq!(subnet.run(node.flush(ms(5_000))), Err(FlushError::Closed));
}

#[test]
fn calls_under_way_are_finished_and_no_more_begin() {
    let mut subnet = Subnet::connected(2, &config());
    let (server, there) = (subnet.serve(0), subnet.serve(1));
    let mut outgoing = Waiting::new(subnet.route(0).call(subnet.id(1), "out"));
    let mut incoming = Waiting::new(subnet.route(1).call(subnet.id(0), "in"));
    assert!(outgoing.poll().is_none() && incoming.poll().is_none());
    let taken = subnet.run(server.next_request()).expect("a request");
    let asked = subnet.run(there.next_request()).expect("a request");
    let node = subnet.node(0).clone();
    let mut ended = Waiting::new(node.shutdown_within(ms(60_000)));
    assert!(ended.poll().is_none());
    subnet.elapse(ms(1_000));
    assert!(!subnet.has_ended(0));
    assert_eq!(subnet.channel(0).publish("x", b""), Err(PublishError::Closed));
    let refused = subnet.run(subnet.route(0).call(subnet.id(1), "late"));
    assert_eq!(refused, Err(CallError::Closed));
    let refused = subnet.run(subnet.route(1).call(subnet.id(0), "late"));
    assert_eq!(refused, Err(CallError::NotServed));
    taken.answer("there").expect("it waits");
    subnet.elapse(ms(100));
    assert!(!subnet.has_ended(0));
    asked.answer("here").expect("it waits");
    subnet.until("it has ended", |subnet| subnet.has_ended(0));
    assert_eq!(incoming.poll(), Some(Ok("there".into())));
    assert_eq!(outgoing.poll(), Some(Ok("here".into())));
    assert!(matches!(ended.poll(), Some(Ok(()))));
}

#[test]
fn a_shutdown_within_a_time_does_not_take_longer() {
    let mut subnet = Subnet::connected(2, &config());
    subnet.stop(1);
    let channel = subnet.channel(0);
    channel.publish("x", b"").unwrap();
    let node = subnet.node(0).clone();
    drop(node.shutdown_within(ms(1_000)));
    // Its end does not depend on handles.
    drop((channel, node));
    subnet.nodes[0] = None;
    subnet.elapse(ms(999));
    assert!(!subnet.has_ended(0));
    subnet.until_within(ms(1_001), "it has ended", |subnet| subnet.has_ended(0));
}

/// Nothing else wakes it, and its peer is told at once.
#[test]
fn a_shutdown_within_a_time_comes_when_the_time_is_over() {
    let mut subnet = Subnet::connected(2, &config());
    let server = subnet.serve(1);
    let mut call = Waiting::new(subnet.route(0).call(subnet.id(1), "never answered"));
    assert!(call.poll().is_none());
    let _asked = subnet.run(server.next_request()).expect("a request");
    drop(subnet.node(0).shutdown_within(ms(300)));
    subnet.elapse(ms(299));
    assert_eq!(subnet.node(1).peers_up(), [subnet.id(0)]);
    subnet.elapse(ms(1));
    assert!(subnet.node(1).peers_up().is_empty());
    subnet.until_within(ms(501), "it has ended", |subnet| subnet.has_ended(0));
    assert!(matches!(call.poll(), Some(Err(_))));
}

/// Whether the driver has taken the first or not.
#[test]
fn of_two_shutdowns_within_a_time_the_earlier_counts() {
    for (first, second) in [(300, 60_000), (60_000, 300)] {
        for is_taken in [false, true] {
            let mut subnet = Subnet::connected(2, &config());
            subnet.stop(1);
            subnet.channel(0).publish("x", b"").unwrap();
            let node = subnet.node(0).clone();
            drop(node.shutdown_within(ms(first)));
            if is_taken {
                subnet.settle();
            }
            drop(node.shutdown_within(ms(second)));
            subnet.until_within(ms(1_300), "it has ended", |subnet| subnet.has_ended(0));
        }
    }
}

/// That is more than the driver takes in a turn, and the last has to be fetched.
#[test]
fn all_that_was_published_before_a_shutdown_within_a_time_is_delivered() {
    let mut subnet = Subnet::connected(2, &config());
    let (channel, node) = (subnet.channel(0), subnet.node(0).clone());
    let short = (0..200_u32).map(|number| number.to_be_bytes().to_vec());
    let ids: BTreeSet<_> = short
        .chain([vec![7; 1_000_000]])
        .map(|bytes| channel.publish(bytes, b"").unwrap())
        .collect();
    assert!(subnet.run(node.shutdown_within(ms(5_000))).is_ok());
    let there = subnet.channel(1);
    let delivered = core::iter::from_fn(|| there.try_event()).filter_map(|event| match event {
        Event::Delivered { artifact, .. } => Some(artifact.id()),
        _ => None,
    });
    assert_eq!(delivered.collect::<BTreeSet<_>>(), ids);
}

#[test]
fn a_publisher_is_told_when_its_artifact_has_come_to_all() {
    let mut subnet = Subnet::connected(3, &config());
    let channel = subnet.channel(0);
    subnet.stop(2);
    let block = Artifact::new(vec![7; 1_000].into(), b"").unwrap();
    channel.publish_covered(&block, Threshold::All).unwrap();
    subnet.elapse(ms(500));
    assert_eq!(channel.try_event(), None);
    subnet.go_on(2);
    let (id, by) = (block.id(), 2);
    assert_eq!(subnet.run(channel.next_event()), Some(Event::Covered { id, by }));
    // It is published already.
    channel.publish_covered(&block, Threshold::Count(1)).unwrap();
    assert_eq!(subnet.run(channel.next_event()), Some(Event::Covered { id, by }));
}

#[test]
fn a_flush_that_is_dropped_frees_its_place() {
    let mut subnet = Subnet::connected(2, &config());
    subnet.stop(1);
    let node = subnet.node(0).clone();
    subnet.channel(0).publish("x", b"").unwrap();
    for is_begun in [false, true] {
        let mut flushes: Vec<_> =
            (0..FLUSHES_MAX).map(|_| Waiting::new(node.flush(ms(5_000)))).collect();
        assert!(flushes.iter_mut().all(|flush| flush.poll().is_none()));
        if is_begun {
            subnet.settle();
        }
        drop(flushes);
        assert_eq!(subnet.run(node.flush(ms(100))), Err(FlushError::DeadlinePassed));
    }
}

/// [`NodeHandle::shutdown_within`](slotcast::driver::NodeHandle::shutdown_within): a shutdown cuts it short. And
/// [`NodeHandle::shutdown`](slotcast::driver::NodeHandle::shutdown): a future that is dropped takes nothing back.
#[test]
fn a_shutdown_cuts_a_longer_one_short() {
    let mut subnet = Subnet::connected(2, &config());
    subnet.stop(1);
    subnet.channel(0).publish("x", b"").unwrap();
    let node = subnet.node(0).clone();
    drop(node.shutdown_within(ms(60_000)));
    subnet.elapse(ms(1_000));
    assert!(!subnet.has_ended(0));
    drop(node.shutdown());
    // As long as the peer does not say that it knows.
    subnet.until_within(ms(1_001), "it has ended", |subnet| subnet.has_ended(0));
    assert!(matches!(subnet.run(node.closed()), Ok(())));
}

/// [`Channel::publish_covered`](slotcast::driver::Channel::publish_covered): another threshold takes the place
/// of the first, and none is told after an abort. [`Channel::coverage`](slotcast::driver::Channel::coverage): of
/// what is not active there is none.
#[test]
fn a_threshold_takes_the_place_of_another_and_ends_with_its_artifact() {
    let mut subnet = Subnet::connected(3, &config());
    let (channel, node) = (subnet.channel(0), subnet.node(0).clone());
    subnet.stop(2);
    let block = Artifact::new(vec![7; 1_000].into(), b"").unwrap();
    channel.publish_covered(&block, Threshold::Count(1)).unwrap();
    channel.publish_covered(&block, Threshold::All).unwrap();
    subnet.elapse(ms(500));
    assert_eq!(channel.try_event(), None, "the first is not told any more");
    assert_eq!(subnet.run(channel.coverage(&block.id())).map(|c| c.acknowledged), Some(1));
    channel.abort(&block.id());
    subnet.go_on(2);
    subnet.elapse(ms(500));
    assert_eq!(channel.try_event(), None);
    assert_eq!(subnet.run(channel.coverage(&block.id())), None);
    channel.publish_artifact(&block).unwrap();
    drop(node.shutdown());
    subnet.until("it has ended", |subnet| subnet.has_ended(0));
    assert_eq!(subnet.run(channel.coverage(&block.id())), None);
}
