//! Broadcast over real connections: large artifacts, aborts in flight, and what they cost.

use std::sync::{Arc, Mutex};

use slotcast::broadcast::{Decision, Priority};
use slotcast_sim::Setup;

use crate::subnet::{Recorded, Subnet, Told, connected, limit, of, secured};
use slotcast_testkit::machines::{CHANNEL, artifact, config, large, ms, small, steered};

/// Four mebibytes: fetched, and far beyond the windows.
const LARGE: usize = 4 << 20;

#[test]
fn t7_artifacts_of_four_mebibytes_cross_and_arrive_whole() {
    let mut subnet = secured(&config(|_| {}), 3);
    subnet.connect();
    let blocks = [0, 1, 2].map(|at| artifact(at, LARGE));
    (0..3).for_each(|at| subnet.publish(at, &blocks[at]));
    subnet.run_until("all have all", ms(5000), |subnet| {
        (0..3).all(|at| subnet.delivered(at).len() == 2)
    });
    subnet.settle();
    for at in 0..3 {
        for (channel, event) in std::mem::take(&mut subnet.application.events[at]) {
            let slotcast::broadcast::Event::Delivered { artifact, from } = event else { panic!() };
            let place = blocks.iter().position(|block| block.id() == artifact.id()).unwrap();
            assert_eq!((channel, from), (CHANNEL, subnet.id(place)));
            assert!(artifact.bytes() == blocks[place].bytes());
        }
        // Each upload went out about twice, once to each member.
        let sent = subnet.stats(at).sent_bytes;
        assert!(sent < 2 * LARGE as u64 * 107 / 100, "{sent}");
    }
    subnet.assert_peace();
}

#[test]
fn i11_a_latency_sensitive_artifact_is_pushed_without_a_round_trip() {
    let eager = config(|channel| channel.latency_sensitive = true);
    let mut subnet = connected(&eager, 2);
    let block = artifact(1, 20_000);
    subnet.publish(0, &block);
    let took = subnet.run_until("delivered", ms(1000), |subnet| subnet.has(1, &block));
    assert!(took < ms(80), "one way and a round trip for the window's sake at most: {took:?}");
    let block = artifact(2, LARGE);
    subnet.publish(0, &block);
    subnet.run_until("delivered", ms(3000), |subnet| subnet.has(1, &block));
    assert!(subnet.sent(0, 1) < LARGE as u64 * 107 / 100);
    subnet.assert_peace();
}

/// Pushes take all streams that the peer allows, or all that this node keeps track of, before the
/// first chunk is sent. Nothing but their chunks makes any of them free again.
#[test]
fn pushes_that_take_all_streams_come_to_their_ends() {
    for streams_max in [[128, 8], [8, 128], [8, 8]] {
        let configs = streams_max.map(|streams_max| {
            let mut config = config(|channel| channel.latency_sensitive = true);
            config.transport.streams_max = streams_max;
            config.fetches_per_peer_max = 16;
            // Nothing is given up and asked for again meanwhile.
            config.fetch_timeout = ms(60_000);
            config
        });
        let mut subnet = of(Setup::with_configs(configs.to_vec()));
        subnet.connect();
        let blocks: Vec<_> = (0..40).map(large).collect();
        for (number, block) in blocks.iter().enumerate() {
            subnet.publish(number % 2, block);
        }
        let took = subnet.run_until("all have all", ms(10_000), |subnet| {
            (0..2).all(|at| subnet.delivered(at).len() == blocks.len() / 2)
        });
        assert!(took < ms(5000), "{streams_max:?}: {took:?}");
        subnet.assert_peace();
    }
}

/// The bytes that leave after `act` is called in the middle of a transfer of [`LARGE`] bytes from
/// 0 to 1, once all is quiet.
fn sent_after(subnet: &mut Subnet, act: impl FnOnce(&mut Subnet)) -> u64 {
    let before = subnet.sent(0, 1);
    subnet.publish(0, &artifact(1, LARGE));
    subnet
        .run_until("a mebibyte has left", ms(5000), |subnet| subnet.sent(0, 1) - before > 1 << 20);
    let begun = subnet.sent(0, 1);
    assert!(begun - before < 3 << 20);
    act(subnet);
    subnet.settle();
    assert_eq!(subnet.delivered(1), []);
    subnet.sent(0, 1) - begun
}

#[test]
fn l5_an_abort_in_flight_stops_the_bytes_of_a_fetch_and_of_a_push() {
    for latency_sensitive in [false, true] {
        let config = config(|channel| channel.latency_sensitive = latency_sensitive);
        let mut subnet = connected(&config, 2);
        let sent = sent_after(&mut subnet, |subnet| subnet.abort(0, &artifact(1, LARGE)));
        // A reset, a clear, acknowledgements.
        assert!(sent < 1500, "{sent}");
        assert_eq!(subnet.told(1), []);
        // The connection is as good as before.
        let block = artifact(2, LARGE);
        subnet.publish(0, &block);
        subnet.run_until("delivered", ms(3000), |subnet| subnet.has(1, &block));
        subnet.assert_peace();
    }
}

#[test]
fn what_the_receiver_does_not_want_any_more_stops_within_a_round_trip() {
    let mut subnet = connected(&config(|_| {}), 2);
    let (decision, filter) = steered(Decision::Fetch(Priority::Normal));
    subnet.with(1, |node| node.set_filter(CHANNEL, filter));
    // On a link of 8 Mbit/s: what the window has let out is bounded by the path.
    subnet.network.each_link(|_, _, link| limit(link, 1_000_000));
    let sent = sent_after(&mut subnet, |subnet| {
        *decision.lock().unwrap() = Decision::Drop;
        let now = subnet.now();
        subnet.with(1, |node| node.reconsider(now, CHANNEL));
    });
    assert!(sent < 300_000, "{sent}");
    subnet.publish(0, &small(2));
    subnet.settle();
    assert_eq!(subnet.delivered(1), [], "the filter still says so");
    *decision.lock().unwrap() = Decision::Fetch(Priority::High);
    subnet.publish(0, &small(3));
    subnet.settle();
    assert_eq!(subnet.delivered(1), [small(3).id()]);
    subnet.assert_peace();
}

#[test]
fn filters_see_each_artifact_once_and_from_whom() {
    let mut subnet = connected(&config(|_| {}), 2);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let filter = move |candidate: &slotcast::broadcast::Candidate<'_>| {
        log.lock().unwrap().push((*candidate.id, candidate.from));
        Decision::Fetch(Priority::Normal)
    };
    subnet.with(1, |node| node.set_filter(CHANNEL, Box::new(filter)));
    let blocks = [small(1), artifact(2, LARGE)];
    blocks.iter().for_each(|block| subnet.publish(0, block));
    subnet.elapse(ms(3000));
    assert_eq!(*seen.lock().unwrap(), blocks.map(|block| (block.id(), subnet.id(0))));
    assert_eq!(subnet.delivered(1).len(), 2);
}

#[test]
fn an_aborted_artifact_is_withdrawn_by_each_and_expires_with_the_last() {
    let mut subnet = connected(&config(|_| {}), 3);
    (0..2).for_each(|at| subnet.publish(at, &small(1)));
    subnet.settle();
    assert_eq!(subnet.told(2), [Told::Delivered(small(1).id())]);
    subnet.abort(0, &small(1));
    subnet.settle();
    assert_eq!(subnet.told(2), [Told::Withdrawn(small(1).id())]);
    subnet.abort(1, &small(1));
    subnet.settle();
    let told = subnet.told(2);
    assert_eq!(told.last(), Some(&Told::Expired(small(1).id())), "{told:?}");
    subnet.publish(1, &small(1));
    subnet.settle();
    assert_eq!(subnet.told(2), [Told::Delivered(small(1).id())], "active again, delivered again");
}

#[test]
fn a_node_that_has_only_listened_speaks_as_fast_as_any() {
    // More than a window of acknowledgements goes back from 1, which has nothing else to say: its
    // receive windows are so large that it does not even renew credit.
    let mut wide = config(|_| {});
    (wide.transport.stream_window, wide.transport.receive_window) = (64 << 20, 64 << 20);
    let mut subnet = connected(&wide, 2);
    subnet.network.each_link(|_, _, link| limit(link, 10_000_000));
    let block = artifact(1, 7 << 20);
    subnet.publish(0, &block);
    subnet.run_until("delivered", ms(5000), |subnet| subnet.has(1, &block));
    assert!(subnet.sent(1, 0) > 50_000, "{}", subnet.sent(1, 0));
    subnet.publish(1, &small(2));
    let took = subnet.run_until("heard", ms(5000), |subnet| subnet.has(0, &small(2)));
    assert!(took <= ms(21), "one way: {took:?}");
    subnet.assert_peace();
}

#[test]
fn l22_an_application_that_takes_no_events_gets_the_rest_when_it_does() {
    let mut subnet = connected(&config(|channel| channel.inbox_bytes_max = 16 << 20), 2);
    subnet.deafen(1, ms(600_000));
    // More than the inbox holds, and what is withdrawn before anybody has looked.
    (0..8).for_each(|number| subnet.publish(0, &artifact(number, LARGE)));
    subnet.elapse(ms(6000));
    assert!(subnet.sent(0, 1) < 5 * LARGE as u64, "{}", subnet.sent(0, 1));
    subnet.abort(0, &artifact(0, LARGE));
    subnet.settle();
    subnet.undeafen(1);
    subnet.run_until("delivered", ms(6000), |subnet| subnet.delivered(1).len() == 7);
    assert!(!subnet.has(1, &artifact(0, LARGE)));
    subnet.assert_peace();
}
