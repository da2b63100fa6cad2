//! Connections of a member that have not come up yet.

use super::arena::Arena;
use super::ms;

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
