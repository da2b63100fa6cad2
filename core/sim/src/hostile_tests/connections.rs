//! Who is let in, who is not, and who is cut off.

use quinn_proto::TransportConfig as QuicTransport;

use super::arena::{Arena, DIALLER, LISTENER, VICTIM};
use super::{config, hello, ms, push, updates};
use crate::hostile::frames;
use slotcast::error::Fault;
use slotcast::node::{Closed, NodeEvent};

#[test]
fn after_three_faults_a_member_is_cut_off_for_a_minute() {
    let mut arena = Arena::greeted();
    for _ in 0..2 {
        arena.write(&hello());
        arena.elapse(ms(100));
        assert_eq!(arena.take_told(), [arena.fault(Fault::HelloMisplaced)]);
    }
    arena.write(&hello());
    arena.elapse(ms(100));
    let expected = [arena.fault(Fault::HelloMisplaced), arena.down(Closed::CutOff)];
    assert_eq!(arena.take_told(), expected);
    assert_eq!((arena.stats().faults, arena.is_lost()), (3, true));
    arena.assert_unharmed();

    // It comes back at once, and again, and is refused as long as that, before there is a handshake.
    for _ in 0..5 {
        let before = arena.victim().connections();
        arena.knock();
        arena.elapse(ms(100));
        assert!(!arena.has_met() && arena.victim().connections() <= before);
        arena.elapse(ms(10_900));
    }
    assert_eq!((arena.take_told(), arena.stats().faults), (vec![], 3));
    assert_eq!(arena.stats().refused, 5);
    arena.elapse(ms(6000));
    arena.dial();
    arena.greet();
    assert_eq!(arena.take_told(), [NodeEvent::Up { peer: arena.hostile_id() }]);
    arena.write(&hello());
    arena.elapse(ms(100));
    assert!(arena.is_taken_on(), "the count begins anew");
}

#[test]
fn faults_in_one_burst_cut_off_once_and_are_not_held_against_it_afterwards() {
    let mut arena = Arena::greeted();
    for _ in 0..6 {
        arena.write(&hello());
    }
    arena.elapse(ms(100));
    let peer = arena.hostile_id();
    let fault = NodeEvent::Fault { peer, fault: Fault::HelloMisplaced, count: 3 };
    assert_eq!(arena.take_told(), [fault, arena.down(Closed::CutOff)]);
    assert_eq!(arena.stats().faults, 3);
    arena.elapse(ms(61_000));
    arena.dial();
    arena.greet();
    for _ in 0..2 {
        arena.write(&hello());
    }
    arena.elapse(ms(100));
    assert!(arena.is_taken_on());
}

#[test]
fn faults_over_one_connection_after_the_other_add_up() {
    let mut arena = Arena::greeted();
    for _ in 0..2 {
        arena.write(&hello());
        arena.elapse(ms(100));
        assert_eq!(arena.take_told(), [arena.fault(Fault::HelloMisplaced)]);
        arena.dial();
        arena.greet();
    }
    arena.write(&hello());
    arena.until("it is cut off", Arena::is_lost);
    let expected = [arena.fault(Fault::HelloMisplaced), arena.down(Closed::CutOff)];
    assert_eq!(arena.take_told(), expected);
    arena.assert_unharmed();
}

/// What is left unread when a connection ends is read then. What is wrong with it is the fault of that member, and of
/// no other.
#[test]
fn faults_before_the_end_of_a_connection_are_those_of_who_made_them() {
    let mut config = config();
    config.work.turn_max = 100;
    let mut arena = Arena::of(&config, DIALLER, QuicTransport::default());
    arena.dial();
    arena.greet();
    arena.elapse(ms(100));
    let peer = arena.hostile_id();
    assert_eq!(arena.take_told(), [NodeEvent::Up { peer }]);
    // It has much to read before.
    arena.stall(VICTIM, ms(50));
    let clears: Vec<_> = (1..1000).map(|version| frames::clear(1, version)).collect();
    arena.write(&updates(&clears.iter().map(Vec::as_slice).collect::<Vec<_>>()));
    (0..4).for_each(|_| arena.write(&hello()));
    arena.elapse(ms(1));
    arena.hang_up();
    arena.elapse(ms(100));
    let mut told = arena.take_told();
    assert_eq!(told.pop(), Some(arena.down(Closed::CutOff)));
    let count = |event: NodeEvent| match event {
        NodeEvent::Fault { peer: of, fault: Fault::HelloMisplaced, count } if of == peer => count,
        other => panic!("{other:?}"),
    };
    assert_eq!(told.into_iter().map(count).sum::<u32>(), 3);
    assert_eq!(arena.stats().faults, 3);
    arena.assert_unharmed();
}

#[test]
fn a_listener_that_was_cut_off_is_not_dialled_for_a_minute() {
    let mut arena = Arena::with(LISTENER, QuicTransport::default());
    arena.until("it is dialled", Arena::has_met);
    arena.greet();
    arena.elapse(ms(100));
    for _ in 0..3 {
        arena.write(&hello());
    }
    arena.until("it is cut off", Arena::is_lost);
    assert_eq!(arena.take_told().last(), Some(&arena.down(Closed::CutOff)));
    arena.hostile_mut().forget();
    arena.elapse(ms(59_000));
    assert!(!arena.has_met());
    arena.until("it is dialled again", Arena::has_met);
    arena.assert_unharmed();
}

/// Ten such connections more than flow off are no fault here.
#[test]
fn connecting_over_and_over_is_work_without_progress() {
    let mut config = config();
    (config.work.fruitless_per_second, config.work.fruitless_max) = (100, 1000);
    for pause in [ms(100), ms(1_100)] {
        let mut arena = Arena::of(&config, DIALLER, QuicTransport::default());
        let peer = arena.hostile_id();
        let is_fault = |event: &NodeEvent| {
            *event == NodeEvent::Fault { peer, fault: Fault::WorkWithoutProgress, count: 1 }
        };
        let is_found = (0..30).any(|_| {
            arena.dial_again();
            arena.write(&hello());
            arena.elapse(pause);
            arena.take_told().iter().any(is_fault)
        });
        assert_eq!(is_found, pause == ms(100));
        arena.assert_unharmed();
    }
}

#[test]
fn a_peer_that_allows_no_streams_is_not_taken_on() {
    let mut transport = QuicTransport::default();
    transport.max_concurrent_uni_streams(0_u32.into());
    let mut arena = Arena::with(DIALLER, transport);
    arena.dial();
    arena.until("it is refused", Arena::is_lost);
    assert_eq!((arena.take_told(), arena.stats().refused), (vec![], 1));
    arena.assert_unharmed();
}

#[test]
fn who_serves_nothing_allows_no_calls() {
    let mut without = config();
    without.routes[0].serves = false;
    for is_there in [true, false] {
        if !is_there {
            without.routes.clear();
        }
        let mut arena = Arena::of(&without, DIALLER, QuicTransport::default());
        arena.dial();
        arena.greet();
        assert_eq!(arena.open_call(), None);
    }
}

#[test]
fn who_dials_and_hangs_up_leaves_nothing_behind() {
    let mut arena = Arena::ungreeted();
    let victim = arena.id(VICTIM);
    let limit = usize::from(config().transport.handshakes_max);
    for _ in 0..100 {
        for _ in 0..10 {
            let now = arena.now();
            assert!(arena.hostile_mut().bare.ring(now, victim));
        }
        arena.elapse(ms(20));
        let held = arena.victim().connections();
        assert!(held <= 1 + limit, "{held} connections at {:?}", arena.now());
    }
    arena.assert_unharmed();
}

#[test]
fn a_member_with_many_connections_has_one() {
    let mut arena = Arena::greeted();
    for round in 0..20 {
        arena.dial_again();
        arena.write(&hello());
        let version = 1 + round;
        arena.write(&updates(&[&frames::snapshot(1, &[2]), &push(1, version, b"always the same")]));
        arena.elapse(ms(50));
        assert_eq!(arena.victim().peers_up().count(), 2);
    }
    assert_eq!(arena.delivered(VICTIM).len(), 1);
    assert_eq!(arena.stats().connections, 22);
    assert_eq!(arena.take_told(), []);
    arena.assert_unharmed();
    // Those that were closed are forgotten after a while.
    arena.elapse(ms(1000));
    assert_eq!(arena.victim().connections(), 2, "{:?}", arena.stats());
}
