//! Several connections of one member: which of them stays, and that a cut-off is one of all.

use std::vec;
use std::vec::Vec;

use quinn_proto::TransportConfig as QuicTransport;

use super::arena::{Arena, DIALLER};
use super::{hello, ms, push, updates};
use crate::hostile::bare::LineId;
use slotcast::error::Fault;
use slotcast::node::Closed;

/// Says hello on one of its connections.
fn say_hello(arena: &mut Arena, line: LineId) {
    let bare = &mut arena.hostile_mut().bare;
    let stream = bare.open(line).expect("stream credit");
    bare.write(line, stream, hello(), true);
}

#[test]
fn a_cut_off_member_gets_nowhere_by_a_connection_that_it_has_opened_before() {
    let mut arena = Arena::greeted();
    let first = arena.hostile().line();
    arena.dial_again();
    for _ in 0..3 {
        say_hello(&mut arena, first);
        arena.elapse(ms(50));
    }
    assert_eq!(arena.take_told().last(), Some(&arena.down(Closed::CutOff)));
    assert!(!arena.is_lost(), "the other one has done nothing wrong");
    arena.write(&hello());
    arena.until("it is closed", Arena::is_lost);
    assert!(!arena.is_taken_on());
    assert_eq!(arena.take_told(), vec![]);
    arena.assert_unharmed();
}

#[test]
fn faults_over_side_connections_cut_off_the_one_that_is_up() {
    let mut arena = Arena::greeted();
    for _ in 0..3 {
        arena.dial_again();
        assert!(arena.is_taken_on());
        arena.write(&updates(&[&push(1, 1, b"before the hello")]));
        arena.until("it is closed", Arena::is_lost);
    }
    arena.elapse(ms(100));
    assert!(!arena.is_taken_on());
    let told = arena.take_told();
    assert_eq!(told.last(), Some(&arena.down(Closed::CutOff)));
    assert!(told.contains(&arena.fault(Fault::HelloMisplaced)), "{told:?}");
    arena.assert_unharmed();
}

/// Both sides have dialled, the victim to make itself known. The hellos of one process come on both
/// connections, one after the other, in either order: the one that the member with the lower name
/// dialled stays.
#[test]
fn of_two_that_dialled_each_other_the_connection_of_the_lower_one_stays() {
    for lower_first in [true, false] {
        let mut arena = Arena::with(DIALLER, QuicTransport::default());
        arena.until("it is dialled", Arena::has_met);
        let of_victim = arena.hostile().line();
        arena.dial_again();
        let own = arena.hostile().line();
        for line in if lower_first { [own, of_victim] } else { [of_victim, own] } {
            say_hello(&mut arena, line);
            arena.elapse(ms(100));
            assert!(arena.is_taken_on());
        }
        let peer = arena.hostile_id();
        let open = arena.victim().open_connections().filter(|c| c.node == Some(peer));
        let kinds: Vec<_> = open.map(|c| (c.is_dialled, c.is_up)).collect();
        assert_eq!(kinds, [(false, true)], "lower first: {lower_first}");
        arena.assert_unharmed();
    }
}
