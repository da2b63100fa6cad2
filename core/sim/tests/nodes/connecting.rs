//! Who gets connected to whom, and who does not.

use slotcast::membership::Topology;
use slotcast::node::{NodeEvent, NodeKey, REFUSED_INTERVAL};
use slotcast_sim::{Setup, address};

use crate::subnet::{Recorded, Subnet, connected, of, secured, started};
use slotcast_testkit::machines::{CHANNEL, config, ms, small};

#[test]
fn t1_two_nodes_play_ping_pong_whoever_dials() {
    let mut subnet = secured(&config(|_| {}), 2);
    // Both publish before they are connected.
    (0..2).for_each(|at| subnet.publish(at, &small(at as u64)));
    let both = |subnet: &mut Subnet| subnet.has(0, &small(1)) && subnet.has(1, &small(0));
    let took = subnet.run_until("both first balls", ms(1000), both);
    // Two round trips of 40 ms: handshake and Finished with hello; batch behind the hello.
    assert!(took <= ms(140), "{took:?}");
    for number in 2..42 {
        let (from, to) = (number as usize % 2, (number as usize + 1) % 2);
        subnet.abort(from, &small(number - 2));
        subnet.publish(from, &small(number));
        let took = subnet.run_until("the ball", ms(100), |subnet| subnet.has(to, &small(number)));
        assert_eq!(took, ms(20), "one way and no more, ball {number}");
    }
    subnet.settle();
    assert_eq!((subnet.delivered(0).len(), subnet.delivered(1).len()), (21, 21));
    assert_eq!(subnet.node_told(0), [subnet.up(1)]);
    assert_eq!(subnet.node_told(1), [subnet.up(0)]);
    subnet.assert_peace();
}

#[test]
fn i1_each_pair_of_a_mesh_has_one_connection_and_every_artifact_is_everywhere() {
    let mut subnet = secured(&config(|_| {}), 7);
    (0..7).for_each(|at| subnet.publish(at, &small(at as u64)));
    subnet.connect();
    for at in 0..7 {
        assert_eq!(subnet.stats(at).connections, 6);
        let mut expected: Vec<_> =
            (0..7).filter(|other| *other != at).map(|other| small(other as u64).id()).collect();
        let mut delivered = subnet.delivered(at);
        expected.sort();
        delivered.sort();
        assert_eq!(delivered, expected);
    }
    subnet.assert_peace();
}

#[test]
fn an_idle_connection_stays_and_costs_next_to_nothing() {
    let mut subnet = connected(&config(|_| {}), 2);
    subnet.elapse(ms(5000));
    let before = subnet.sent(0, 1) + subnet.sent(1, 0);
    subnet.elapse(ms(60_000));
    let spent = subnet.sent(0, 1) + subnet.sent(1, 0) - before;
    assert!(subnet.is_mesh() && spent < 10_000, "{spent}");
    assert_eq!(subnet.stats(0).connections, 1);
}

#[test]
fn a_member_that_cannot_be_reached_is_dialled_ever_more_seldom_until_it_can() {
    let mut subnet = started(&config(|_| {}), 2);
    subnet.kill(1);
    subnet.elapse(ms(120_000));
    // A dial ends after 5 s without hello; pauses grow to 5 s. Each costs a handful of datagrams.
    let sent = subnet.stats(0);
    assert!((10..40 * 8).contains(&sent.sent_datagrams), "{sent:?}");
    subnet.start(1);
    let took = subnet.run_until("connected", ms(10_000), Recorded::is_mesh);
    assert!(took <= ms(5200), "the longest pause and a handshake: {took:?}");
    assert_eq!(subnet.node_told(0), [subnet.up(1)]);
}

#[test]
fn at_a_members_address_only_the_members_key_will_do() {
    let members = Setup::new(&config(|_| {}), 2).ids();
    let impostor = |at: usize| {
        let mut keys = (100..).map(|seed| NodeKey::from_seed([seed; 32]));
        keys.find(|key| (key.id() < members[1 - at]) == (at == 0)).expect("about every other")
    };
    // In the place of the dialler, it dials; in the place of the listener, it is dialled.
    for (at, key) in [(0, impostor(0)), (1, impostor(1))] {
        let mut subnet = secured(&config(|_| {}), 2);
        subnet.connect();
        subnet.kill(at);
        subnet.start_as(at, key.clone());
        let members = [(key.id(), address(at)), (subnet.id(1 - at), address(1 - at))];
        let members = members.map(|(id, address)| (id, vec![address]));
        subnet.follow(at, &Topology::new(100, members).unwrap());
        subnet.publish(at, &small(1));
        subnet.publish(1 - at, &small(2));
        subnet.elapse(ms(20_000));
        assert_eq!((subnet.peers_up(0), subnet.peers_up(1)), (0, 0));
        assert_eq!((subnet.delivered(0), subnet.delivered(1)), (vec![], vec![]));
        let stats = subnet.stats(1);
        assert!(stats.refused > 0 && stats.faults == 0, "{stats:?}");
        assert_eq!(subnet.node_told(at), []);
        // Reported, but not each of them.
        let reports = &subnet.application.refused[1];
        // The impostor at 0 dials all the time; that at 1 makes itself known once, and is dialled when the
        // member that it replaced is silent.
        let expected = if at == 0 { 2..=3 } else { 1..=2 };
        assert!(expected.contains(&reports.len()), "once in 10 s: {reports:?}");
        assert!(reports.windows(2).all(|two| two[1].0.since(two[0].0) >= REFUSED_INTERVAL));
        let reported = reports.iter().map(|(_, event)| match event {
            NodeEvent::Refused { handshakes, .. } => *handshakes,
            _ => 0,
        });
        let reported = reported.sum::<u64>();
        assert!(reported > 0 && reported <= stats.refused, "{reports:?} of {stats:?}");

        let all = subnet.topology([0, 1]);
        subnet.kill(at);
        subnet.follow(at, &all);
        subnet.start(at);
        subnet.run_until("the member is welcome", ms(12_000), Recorded::is_mesh);
        subnet.settle();
        assert_eq!(subnet.delivered(at), [small(2).id()]);
    }
}

#[test]
fn t4_a_node_that_is_no_member_yet_is_refused_until_it_is() {
    let mut subnet = secured(&config(|_| {}), 2);
    // 1 listens, and does not know 0, which dials; then the other way round: nobody dials.
    let alone = subnet.topology([1]);
    subnet.follow(1, &alone);
    subnet.publish(0, &small(1));
    subnet.elapse(ms(3000));
    let stats = subnet.stats(1);
    // Its address is no member's, either.
    assert!(stats.strangers > 0 && stats.refused == 0, "{stats:?}");
    assert_eq!((subnet.peers_up(0), subnet.peers_up(1)), (0, 0));
    assert_eq!(subnet.node_told(0), []);

    let both = subnet.topology([0, 1]);
    subnet.follow(1, &both);
    subnet.run_until("connected", ms(12_000), Recorded::is_mesh);
    subnet.settle();
    assert_eq!(subnet.delivered(1), [small(1).id()]);
}

#[test]
fn t4_without_the_address_filter_the_key_decides() {
    let mut open = config(|_| {});
    open.transport.filter_addresses = false;
    let mut subnet = secured(&open, 2);
    let alone = subnet.topology([1]);
    subnet.follow(1, &alone);
    subnet.publish(0, &small(1));
    subnet.elapse(ms(3000));
    let stats = subnet.stats(1);
    assert!(stats.strangers == 0 && stats.refused > 0, "{stats:?}");
    assert_eq!((subnet.peers_up(0), subnet.peers_up(1)), (0, 0));
    // A refused client takes itself for connected before it is refused.
    assert_eq!((subnet.node_told(0), subnet.stats(0).connections), (vec![], 0));

    let both = subnet.topology([0, 1]);
    subnet.follow(1, &both);
    subnet.run_until("connected", ms(6000), Recorded::is_mesh);
    subnet.settle();
    assert_eq!(subnet.delivered(1), [small(1).id()]);
}

#[test]
fn handshake_datagrams_from_strange_addresses_are_not_answered() {
    let mut subnet = of(Setup::new(&config(|_| {}), 2).strangers(1).tls());
    subnet.connect();
    let before = subnet.stats(1);
    let mut initial = vec![0; 1200];
    initial[..6].copy_from_slice(&[0xc0, 0, 0, 0, 1, 8]);
    subnet.inject(2, 1, &initial);
    // An unknown version, which else would be answered with those that are known.
    initial[1] = 0xfa;
    subnet.inject(2, 1, &initial);
    subnet.settle();
    let stats = subnet.stats(1);
    assert_eq!((stats.strangers, stats.sent_datagrams), (2, before.sent_datagrams));
    assert!(subnet.is_mesh());
}

#[test]
fn datagrams_that_make_no_sense_change_nothing() {
    let mut subnet = secured(&config(|_| {}), 2);
    subnet.connect();
    for length in [1, 2, 7, 20, 21, 22, 60, 1200, 1500] {
        for first in [0, 0x40, 0x80, 0xc0, 0xff] {
            let mut bytes = vec![0x5a; length];
            bytes[0] = first;
            subnet.inject(0, 1, &bytes);
            subnet.inject(1, 0, &bytes);
        }
    }
    subnet.publish(0, &small(1));
    subnet.settle();
    assert_eq!(subnet.delivered(1), [small(1).id()]);
    assert_eq!(subnet.node_told(0), []);
    assert!(subnet.is_mesh());
}

#[test]
fn a_node_under_a_flood_of_handshakes_still_takes_members() {
    let mut tight = config(|_| {});
    tight.transport.handshakes_max = 2;
    let mut subnet = started(&tight, 6);
    // All dial 5 at once, which takes two at a time, and asks for proof of address first.
    subnet.run_until("all are connected", ms(10_000), Recorded::is_mesh);
    (0..6).for_each(|at| subnet.publish(at, &small(at as u64)));
    subnet.settle();
    assert!((0..6).all(|at| subnet.delivered(at).len() == 5));
    assert!(subnet.with(5, |node| node.abort(CHANNEL, &small(5).id())));
}
