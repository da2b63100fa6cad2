//! Connections of a member that have not come up yet, and those that ended before.

use super::arena::{Arena, DIALLER, VICTIM};
use super::{hello, ms};

#[test]
fn a_member_has_one_connection_that_is_coming_up() {
    let mut arena = Arena::ungreeted();
    for _ in 0..60 {
        arena.dial_again();
        arena.elapse(ms(20));
        let open = arena.victim().open_connections();
        assert!(open.count() <= 2, "one of the honest peer, and one that may come up");
    }
    arena.greet();
    arena.assert_unharmed();
}

#[test]
fn of_connections_that_never_came_up_two_are_kept() {
    let mut arena = Arena::ungreeted();
    for _ in 0..40 {
        arena.dial_again();
        let kept = arena.victim().connections();
        assert!(
            kept <= 5,
            "{kept}: one of the honest peer, one that may come up each way, and two that ended"
        );
    }
    arena.assert_unharmed();
}

/// Of a connection that has ended, nothing is decrypted, and who does not hear of the end is told ever more seldom.
#[test]
fn who_goes_on_on_a_connection_that_has_ended_is_answered_little() {
    let mut arena = Arena::greeted();
    let first = arena.hostile().line();
    arena.network.cut_one_way(VICTIM, DIALLER);
    for _ in 0..3 {
        arena.write(&hello());
    }
    arena.elapse(ms(100));
    assert!(!arena.is_taken_on());
    let sent = arena.stats().sent_datagrams;
    for _ in 0..600 {
        arena.hostile_mut().bare.ping(first);
        arena.elapse(ms(1));
    }
    let answers = arena.stats().sent_datagrams - sent;
    assert!((1..40).contains(&answers), "{answers}");
}
