//! Loss, duplication, reordering, partitions: everything arrives, and once.

use slotcast::artifact::Artifact;
use slotcast_sim::{Chance, Latency, Link, Setup};

use crate::subnet::{Recorded, Subnet, Told, connected, of};
use slotcast_testkit::machines::{artifact, config, ms, small};

/// Two hundred small artifacts and a few of several chunks.
fn load(at: usize) -> Vec<Artifact> {
    let number = |count: u64| 1000 * at as u64 + count;
    let small = (0..200).map(|count| artifact(number(count), 150 + 7 * count as usize));
    small.chain((200..204).map(|count| artifact(number(count), 150_000))).collect()
}

fn assert_all_once(subnet: &Subnet) {
    let count = subnet.members();
    for at in 0..count {
        let others = (0..count).filter(|other| *other != at);
        let mut expected: Vec<_> = others.flat_map(load).map(|block| block.id()).collect();
        let mut delivered = subnet.delivered(at);
        expected.sort();
        delivered.sort();
        assert!(delivered == expected, "{} of {}", delivered.len(), expected.len());
    }
}

fn weather(seed: u64) -> Subnet {
    let link = Link {
        latency: Latency::Jitter(ms(10), ms(15)),
        loss: Chance::percent(5),
        duplicate: Chance::percent(5),
        ..Link::new(ms(10))
    };
    let mut subnet = of(Setup::new(&config(|_| {}), 3).seed(seed).link(link));
    for at in 0..3 {
        load(at).iter().for_each(|block| subnet.publish(at, block));
    }
    subnet.run_until("all have all", ms(120_000), |subnet| {
        subnet.application.delivered.iter().all(|delivered| delivered.len() >= 2 * 204)
    });
    subnet
}

#[test]
fn l14_lost_doubled_and_reordered_datagrams_change_nothing() {
    for seed in 1..=8 {
        let mut subnet = weather(seed);
        subnet.elapse(ms(2000));
        assert_all_once(&subnet);
        let faults: u64 = (0..3).map(|at| subnet.stats(at).faults).sum();
        assert_eq!(faults, 0, "seed {seed}");
    }
}

#[test]
fn the_same_seed_gives_the_same_course_of_things() {
    let run = |seed| {
        let subnet = weather(seed);
        let stats = [0, 1, 2].map(|at| subnet.stats(at));
        (subnet.trace().hash(), stats, [0, 1, 2].map(|at| subnet.delivered(at)))
    };
    assert_eq!(run(3), run(3));
    assert_ne!(run(3), run(4));
}

#[test]
fn i3_a_flapping_link_causes_no_second_download_and_no_second_delivery() {
    let mut subnet = connected(&config(|_| {}), 2);
    load(0).iter().for_each(|block| subnet.publish(0, block));
    subnet.run_until("delivered", ms(5000), |subnet| subnet.delivered(1).len() == 204);
    subnet.settle();
    let before = subnet.sent(0, 1);
    // Short ones are the transport's; over long ones connections end.
    for span in [500, 12_000, 3000, 30_000] {
        subnet.cut(&[0], &[1]);
        subnet.elapse(ms(span));
        subnet.heal();
        subnet.run_until("connected", ms(15_000), Recorded::is_mesh);
        subnet.elapse(ms(3000));
    }
    assert_eq!(subnet.delivered(1).len(), 204);
    let told = subnet.told(1);
    assert!(told.iter().all(|told| matches!(told, Told::Delivered(_))), "{told:?}");
    // Pushed ones are pushed anew with each connection: the sender has no memory. No chunk is.
    let pushed: u64 = load(0)[..200].iter().map(|block| block.bytes().len() as u64).sum();
    let spent = subnet.sent(0, 1) - before;
    assert!(spent < 3 * pushed + 60_000, "{spent}");
    subnet.assert_peace();
}

#[test]
fn i10_what_is_published_during_a_partition_arrives_after_it() {
    for span in [2000, 15_000] {
        let mut subnet = connected(&config(|_| {}), 3);
        subnet.cut(&[0], &[2]);
        subnet.publish(0, &small(1));
        let block = artifact(2, 200_000);
        subnet.publish(2, &block);
        subnet.elapse(ms(span));
        assert_eq!(subnet.delivered(1).len(), 2, "the third one has both meanwhile");
        assert_eq!((subnet.delivered(0), subnet.delivered(2)), (vec![], vec![]));
        subnet.heal();
        subnet.run_until("arrived", ms(12_000), |subnet| {
            subnet.has(2, &small(1)) && subnet.has(0, &block)
        });
        subnet.assert_peace();
    }
}

#[test]
fn t5_nodes_parted_into_four_find_each_other_again() {
    let mut subnet = connected(&config(|_| {}), 5);
    let groups: [&[usize]; 4] = [&[0], &[1], &[2], &[3, 4]];
    for (at, group) in groups.iter().enumerate() {
        groups[..at].iter().for_each(|other| subnet.cut(group, other));
    }
    (0..5).for_each(|at| subnet.publish(at, &small(at as u64)));
    subnet.elapse(ms(15_000));
    let ups: Vec<_> = (0..5).map(|at| subnet.peers_up(at)).collect();
    assert_eq!(ups, [0, 0, 0, 1, 1]);
    subnet.heal();
    subnet.run_until("all are connected", ms(12_000), Recorded::is_mesh);
    subnet.settle();
    assert!((0..5).all(|at| subnet.delivered(at).len() == 4));
    subnet.assert_peace();
}

#[test]
fn t6_who_is_removed_while_parted_stays_out() {
    let mut subnet = connected(&config(|_| {}), 3);
    subnet.cut(&[2], &[0, 1]);
    subnet.elapse(ms(3000));
    let rest = subnet.topology([0, 1]);
    (0..2).for_each(|at| subnet.follow(at, &rest));
    subnet.publish(0, &small(1));
    subnet.elapse(ms(3000));
    subnet.heal();
    subnet.elapse(ms(20_000));
    assert_eq!([0, 1, 2].map(|at| subnet.peers_up(at)), [1, 1, 0]);
    assert_eq!([1, 2].map(|at| subnet.delivered(at).len()), [1, 0]);
}

#[test]
fn a_link_that_is_dead_in_one_direction_is_down_on_both_sides_and_comes_back() {
    for way in [(0, 1), (1, 0)] {
        let mut subnet = connected(&config(|_| {}), 2);
        subnet.cut_one_way(way.0, way.1);
        subnet.elapse(ms(40_000));
        assert_eq!((subnet.peers_up(0), subnet.peers_up(1)), (0, 0));
        subnet.publish(0, &small(1));
        subnet.publish(1, &small(2));
        subnet.heal();
        subnet.run_until("delivered", ms(12_000), |subnet| {
            subnet.has(1, &small(1)) && subnet.has(0, &small(2))
        });
        assert!(subnet.is_mesh());
    }
}
