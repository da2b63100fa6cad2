//! Large artifacts: how long they take, what they cost, and what they do to others.

use std::collections::BTreeMap;
use std::time::Duration;

use slotcast::broadcast::Event;
use slotcast::config::{ChannelConfig, Class, Config};
use slotcast_sim::Setup;

use crate::subnet::{Recorded, Subnet, Told, connected, limit, of};
use slotcast_testkit::machines::{CHANNEL, OTHER, artifact, config, ms, small};

const MIB: usize = 1 << 20;

#[test]
fn i11_fifty_and_ten_megabytes_go_back_and_forth() {
    const LARGE: usize = 50_000_000;
    const SMALLER: usize = 10_000_000;
    let wide = config(|channel| {
        channel.latency_sensitive = true;
        channel.artifact_bytes_max = LARGE as u64;
        channel.inbox_bytes_max = 2 * LARGE as u64;
    });
    let mut subnet = connected(&wide, 2);
    let mut lengths = [0, 0];
    let balls = [(0, LARGE), (1, SMALLER), (1, LARGE), (0, SMALLER)];
    for (number, (from, length)) in (1..).zip(balls) {
        let block = artifact(number, length);
        subnet.publish(from, &block);
        // On links of 40 ms there and back, a window of 8 MiB has to open first.
        subnet.run_until("the ball", ms(1500), |subnet| subnet.has(1 - from, &block));
        let (_, delivered) = subnet.application.events[1 - from].pop().expect("just delivered");
        let Event::Delivered { artifact, .. } = delivered else { panic!("{delivered:?}") };
        assert!(artifact.bytes() == block.bytes());
        subnet.abort(from, &block);
        lengths[from] += length as u64;
    }
    for (from, length) in lengths.into_iter().enumerate() {
        let sent = subnet.sent(from, 1 - from);
        assert!(sent < length * 107 / 100, "{sent} bytes for {length}");
    }
    subnet.assert_peace();
}

#[test]
fn y5_twelve_nodes_fetch_from_one_holder_at_once() {
    let mut subnet = connected(&config(|_| {}), 13);
    subnet.network.each_link(|_, _, link| limit(link, 1_000_000));
    let block = artifact(1, 3 * MIB);
    subnet.publish(0, &block);
    // 3.15 s of it are the bytes.
    subnet.run_until("all have it", ms(3600), |subnet| (1..13).all(|at| subnet.has(at, &block)));
    for at in 1..13 {
        // Headers take 9 %, and proofs of 8 hashes for each chunk of 16 KiB another 1.6 %.
        let sent = subnet.sent(0, at);
        assert!(sent < 3 * MIB as u64 * 112 / 100, "{sent}");
    }
    subnet.settle();
    assert!((1..13).all(|at| subnet.told(at) == [Told::Delivered(block.id())]));
    subnet.assert_peace();
}

#[test]
fn y4_what_is_replaced_while_it_is_fetched_is_never_delivered_and_its_last_state_is() {
    let mut subnet = connected(&config(|_| {}), 3);
    subnet.network.each_link(|_, _, link| limit(link, 1_000_000));
    // Four seconds for each, of which it has two. Two nodes come to the same state at a time.
    let states: Vec<_> = (0..5).map(|number| artifact(number, 4 * MIB)).collect();
    for (number, state) in states.iter().enumerate() {
        for at in 0..2 {
            if number > 0 {
                subnet.abort(at, &states[number - 1]);
            }
            subnet.publish(at, state);
        }
        subnet.elapse(ms(2000));
    }
    let before = subnet.sent(0, 2) + subnet.sent(1, 2);
    subnet.run_until("the last one", ms(2600), |subnet| subnet.has(2, &states[4]));
    subnet.settle();
    assert_eq!(subnet.told(2), [Told::Delivered(states[4].id())]);
    // Two seconds' worth of each that was given up, from both nodes, once.
    assert!(before < 2 * 5 * 2_100_000, "{before}");
    subnet.assert_peace();
}

#[test]
fn y11_a_holder_that_is_removed_and_added_again_and_again_leaves_the_budget_whole() {
    let tight = config(|channel| {
        channel.artifact_bytes_max = MIB as u64;
        channel.inbox_bytes_max = 2 * MIB as u64;
    });
    let mut subnet = connected(&tight, 3);
    subnet.network.each_link(|_, _, link| limit(link, 4_000_000));
    let blocks: Vec<_> = (0..6).map(|number| artifact(number, MIB)).collect();
    blocks.iter().for_each(|block| subnet.publish(2, block));
    for round in 0..25 {
        let rest = subnet.topology([0, 1]);
        subnet.follow(0, &rest);
        subnet.elapse(ms(7 * round % 50));
        let all = subnet.topology([0, 1, 2]);
        subnet.follow(0, &all);
        subnet.elapse(ms(100 + 37 * round % 400));
    }
    let has_all = |subnet: &mut Subnet| blocks.iter().all(|block| subnet.has(0, block));
    subnet.run_until("all are delivered", ms(2500), has_all);
    // As many again, from another, as fast as ever.
    let more: Vec<_> = (10..16).map(|number| artifact(number, MIB)).collect();
    more.iter().for_each(|block| subnet.publish(1, block));
    let has_more = |subnet: &mut Subnet| more.iter().all(|block| subnet.has(0, block));
    subnet.run_until("those of another", ms(2500), has_more);
    // None came twice but after it had expired.
    let mut is_known = BTreeMap::new();
    for told in subnet.told(0) {
        let (id, is_delivered) = match told {
            Told::Delivered(id) => (id, true),
            Told::Expired(id) => (id, false),
            Told::Withdrawn(_) => panic!("{told:?}"),
        };
        let was_known = is_known.insert(id, is_delivered).unwrap_or(false);
        assert_ne!(was_known, is_delivered, "{told:?}");
    }
    // Who is removed while it dials is a stranger when it arrives.
    subnet.assert_no_faults();
}

/// The 99th of a hundred latencies of urgent artifacts: how long each took to the last of three
/// nodes, which send each other large ones in a channel of some class all the while, or do not.
fn urgent_p99(beside: Option<Class>) -> Duration {
    let urgent = ChannelConfig::new(CHANNEL).class(Class::Urgent);
    let bulk = ChannelConfig::new(OTHER).class(beside.unwrap_or_default());
    let mut subnet = of(Setup::new(&Config::new([urgent, bulk]), 3));
    subnet.connect();
    subnet.network.each_link(|_, _, link| {
        link.bytes_per_second = 2_000_000;
        link.queue_bytes_max = 80_000;
    });
    let mut latencies = Vec::new();
    for number in 0..100 {
        // 1.6 seconds' worth for each link.
        if beside.is_some() && number % 32 == 0 {
            for at in 0..3 {
                let block = artifact(1000 + 3 * number + at as u64, 3 * MIB);
                subnet.with(at, |node| node.publish(OTHER, block)).expect("room");
            }
        }
        let (from, block) = (number as usize % 3, small(number));
        subnet.publish(from, &block);
        let took = subnet.run_until("the urgent one", ms(5000), |subnet| {
            (0..3).all(|at| at == from || subnet.has(at, &block))
        });
        latencies.push(took);
        subnet.elapse(ms(50).saturating_sub(took));
    }
    subnet.assert_peace();
    latencies.sort_unstable();
    latencies[98]
}

#[test]
fn l11_urgent_artifacts_pass_a_bulk_transfer() {
    let alone = urgent_p99(None);
    assert!(alone <= ms(21), "{alone:?}");
    // The way of 20 ms, a full queue of 40 ms, a chunk of 33 ms that was written before. In its own
    // class a transfer has its turns.
    for (class, factor) in [(Class::Bulk, 6), (Class::Urgent, 12)] {
        let beside = urgent_p99(Some(class));
        assert!(beside <= factor * alone, "{beside:?} beside {class:?}, {alone:?} alone");
    }
}
