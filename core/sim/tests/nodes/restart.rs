//! Crashes and restarts under the same key: who notices, how fast, and what is left over.

use slotcast::node::Closed;
use slotcast_sim::{Link, Setup};

use crate::subnet::{Recorded, Subnet, Told, connected, of, secured};
use slotcast_testkit::machines::{config, large, ms, small};

/// A crash and a restart at once, seen from the other side: the time until it is back.
fn restart(subnet: &mut Subnet, at: usize) -> std::time::Duration {
    let connections = subnet.stats(1 - at).connections;
    subnet.kill(at);
    subnet.start(at);
    subnet.run_until("connected anew", ms(15_000), |subnet| {
        subnet.is_up(0, 1) && subnet.stats(1 - at).connections > connections
    })
}

#[test]
fn t2_a_dialler_that_restarts_is_back_after_a_handshake() {
    let mut subnet = secured(&config(|_| {}), 2);
    subnet.connect();
    // Round trip and a half; the other side takes the new connection in place of the old.
    let took = restart(&mut subnet, 0);
    assert!(took <= ms(100), "{took:?}");
    subnet.settle();
    assert_eq!(subnet.node_told(1), [], "down and up again while nobody looked");
    assert_eq!(subnet.node_told(0), [subnet.up(1)]);
    subnet.assert_peace();
}

#[test]
fn t2_a_listener_that_restarts_is_found_out_by_the_next_datagram() {
    // Stateless reset: without it this would take the idle timeout of 10 s.
    let mut subnet = secured(&config(|_| {}), 2);
    subnet.connect();
    subnet.kill(1);
    subnet.start(1);
    subnet.publish(0, &small(1));
    let took = subnet
        .run_until("down", ms(10_000), |subnet| !subnet.application.node_events[0].is_empty());
    assert_eq!(took, ms(40), "there and back");
    assert_eq!(subnet.node_told(0), [subnet.down(1, Closed::Reset)]);
    let took = subnet.run_until("delivered", ms(10_000), |subnet| subnet.has(1, &small(1)));
    assert!(took <= ms(200), "a short pause, a handshake, hello, push: {took:?}");
    assert_eq!(subnet.node_told(0), [subnet.up(1)]);
    subnet.settle();
    subnet.assert_peace();
}

#[test]
fn t2_an_idle_listener_that_restarts_makes_itself_known() {
    // Without it, the next keep-alive, 1 s later, would find out.
    let mut subnet = connected(&config(|_| {}), 2);
    let took = restart(&mut subnet, 1);
    assert!(took <= ms(200), "a pause of 100 ms and a handshake: {took:?}");
    subnet.settle();
    assert_eq!(subnet.node_told(0), [], "down and up again while nobody looked");
    assert_eq!(subnet.node_told(1), [subnet.up(0)]);
}

#[test]
fn t2_an_idle_listener_that_cannot_make_itself_known_is_found_out_by_the_next_keep_alive() {
    let mut subnet = connected(&config(|_| {}), 2);
    subnet.kill(1);
    subnet.start(1);
    subnet.cut_one_way(1, 0);
    subnet.elapse(ms(200));
    subnet.heal();
    // What it lost it repeats after a second; within that, the peer's next datagram.
    subnet.publish(0, &small(1));
    subnet.run_until("down", ms(100), |subnet| !subnet.application.node_events[0].is_empty());
    assert_eq!(subnet.node_told(0), [subnet.down(1, Closed::Reset)]);
    subnet.run_until("back", ms(1_000), Recorded::is_mesh);
}

#[test]
fn of_connections_that_were_superseded_nothing_stays() {
    for restarting in 0..2 {
        let mut subnet = connected(&config(|_| {}), 3);
        for _ in 0..10 {
            subnet.kill(restarting);
            subnet.start(restarting);
            subnet.run_until("back", ms(5_000), Recorded::is_mesh);
            for at in 0..3 {
                // Of each peer the one that is up, two that are closed, and one that is on its way.
                let held = subnet.node(at).expect("it runs").connections();
                assert!(held <= 2 * (1 + 2 + 1), "{held} at {at}");
            }
        }
        subnet.elapse(ms(5_000));
        for at in 0..3 {
            assert_eq!(subnet.node(at).expect("it runs").connections(), 2);
        }
        subnet.assert_peace();
    }
}

#[test]
fn l19_both_ends_dial_at_the_same_time_and_keep_one_connection() {
    // Each starts when the other's first datagram would still be on its way for long.
    for latency in [60, 120, 250] {
        let setup = Setup::new(&config(|_| {}), 4).link(Link::new(ms(latency)));
        let mut subnet = of(setup);
        subnet.run_until("a mesh", ms(5_000), Recorded::is_mesh);
        subnet.elapse(ms(3_000));
        for at in 0..4 {
            assert_eq!(subnet.peers_up(at), 3);
            let told = subnet.node_told(at);
            assert!(told.len() <= 3 + 2, "{latency}: {told:?}");
            subnet.publish(at, &small(at as u64));
        }
        subnet.run_until("delivered", ms(1_000), |subnet| {
            (0..4).all(|at| (0..4).all(|from| from == at || subnet.has(at, &small(from as u64))))
        });
        subnet.assert_peace();
    }
}

/// The dialler gives one of them up, which is no refusal, even if the handshake is not complete.
#[test]
fn l19_of_connections_dialled_at_the_same_time_none_counts_as_refused() {
    // With 60 ms, the handshake of the connection that is kept ends while that of the other one goes on.
    for latency in [1, 60, 120] {
        let mut subnet = of(Setup::new(&config(|_| {}), 4).link(Link::new(ms(latency))).tls());
        subnet.run_until("a mesh", ms(5_000), Recorded::is_mesh);
        subnet.elapse(ms(12_000));
        let refused = [0, 1, 2, 3].map(|at| subnet.stats(at).refused);
        assert_eq!(refused, [0; 4], "{latency} ms");
    }
}

#[test]
fn t2_a_node_that_stays_away_is_down_after_the_idle_timeout() {
    for gone in 0..2 {
        let mut subnet = connected(&config(|_| {}), 2);
        subnet.kill(gone);
        let took = subnet.run_until("down", ms(15_000), |subnet| subnet.peers_up(1 - gone) == 0);
        assert!(took > ms(9000) && took <= ms(13_100), "from the last keep-alive on: {took:?}");
        assert_eq!(subnet.node_told(1 - gone), [subnet.down(gone, Closed::Lost)]);
        subnet.start(gone);
        subnet.run_until("back", ms(12_000), Recorded::is_mesh);
        assert_eq!(subnet.node_told(1 - gone), [subnet.up(gone)]);
    }
}

#[test]
fn i9_a_restarted_node_receives_what_is_active_and_the_others_nothing() {
    for restarted in 0..3 {
        let mut subnet = connected(&config(|_| {}), 3);
        for (at, block) in [(0, small(1)), (0, large(2)), (1, small(3)), (2, large(4))] {
            subnet.publish(at, &block);
        }
        subnet.settle();
        subnet.settle();
        let before: Vec<_> = (0..3).map(|at| subnet.told(at)).collect();
        subnet.kill(restarted);
        subnet.start(restarted);
        subnet.run_until("connected anew", ms(15_000), Recorded::is_mesh);
        subnet.elapse(ms(5000));
        let own = [[small(1), large(2)].to_vec(), vec![small(3)], vec![large(4)]];
        for (at, before) in before.iter().enumerate() {
            let mut told = subnet.told(at);
            let key = |told: &Told| format!("{told:?}");
            if at == restarted {
                let mut expected = before.clone();
                expected.sort_by_key(key);
                told.sort_by_key(key);
                assert_eq!(told, expected);
            } else {
                // It came back with nothing, and has published nothing since.
                let mut expected: Vec<_> =
                    own[restarted].iter().map(|block| Told::Expired(block.id())).collect();
                expected.sort_by_key(key);
                told.sort_by_key(key);
                assert_eq!(told, expected, "{at} after a restart of {restarted}");
            }
        }
        subnet.assert_peace();
    }
}

#[test]
fn l3_a_node_that_restarts_with_less_leaves_nothing_stale_and_repeats_nothing() {
    for restarted in 0..2 {
        let mut subnet = connected(&config(|_| {}), 2);
        let other = 1 - restarted;
        [small(1), large(2), small(3)].iter().for_each(|block| subnet.publish(restarted, block));
        subnet.settle();
        assert_eq!(subnet.told(other).len(), 3);
        subnet.kill(restarted);
        subnet.start(restarted);
        subnet.publish(restarted, &large(2));
        subnet.elapse(ms(5000));
        let mut told = subnet.told(other);
        let key = |told: &Told| format!("{told:?}");
        let mut expected = [small(1), small(3)].map(|block| Told::Expired(block.id()));
        expected.sort_by_key(key);
        told.sort_by_key(key);
        assert_eq!(told, expected);
        assert_eq!((subnet.peers_up(0), subnet.peers_up(1)), (1, 1));
        assert_eq!(subnet.stats(other).connections, 2);
        subnet.assert_peace();
    }
}

#[test]
fn a_node_that_restarts_again_and_again_has_one_connection_in_the_end() {
    let mut subnet = connected(&config(|_| {}), 2);
    let mut now = 0;
    for round in 0..20 {
        // In the middle of handshakes, hellos and pauses.
        subnet.kill(round % 2);
        subnet.start(round % 2);
        now += 13 * round as u64 % 97;
        subnet.elapse(ms(now % 97));
    }
    (0..2).for_each(|at| subnet.publish(at, &small(at as u64)));
    subnet.run_until("delivered", ms(10_000), |subnet| {
        subnet.has(0, &small(1)) && subnet.has(1, &small(0))
    });
    subnet.elapse(ms(15_000));
    assert_eq!((subnet.peers_up(0), subnet.peers_up(1)), (1, 1));
    let (a, b) = (subnet.node_told(0), subnet.node_told(1));
    assert_eq!((a.last(), b.last()), (Some(&subnet.up(1)), Some(&subnet.up(0))));
}

#[test]
fn ups_and_downs_that_nobody_looks_at_become_one_event_or_none() {
    let mut subnet = connected(&config(|_| {}), 2);
    subnet.deafen(1, ms(600_000));
    for _ in 0..5 {
        restart(&mut subnet, 0);
        subnet.settle();
    }
    subnet.undeafen(1);
    subnet.settle();
    assert_eq!(subnet.node_told(1), []);

    subnet.deafen(1, ms(600_000));
    restart(&mut subnet, 0);
    subnet.kill(0);
    subnet.elapse(ms(15_000));
    subnet.undeafen(1);
    subnet.settle();
    assert_eq!(subnet.node_told(1), [subnet.down(0, Closed::Lost)]);
}
