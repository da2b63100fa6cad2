//! Members that send more in a channel than its quota.

use quinn_proto::TransportConfig as QuicTransport;

use super::arena::{Arena, DIALLER, VICTIM};
use super::{config, ms, push, updates};
use slotcast::config::Quota;
use slotcast::error::Fault;
use slotcast::node::Closed;
use slotcast::time::Time;

/// Ten updates at once, and ten in a second.
fn arena() -> Arena {
    let mut config = config();
    config.channels[0].quota = Some(Quota::per_second(10, 1 << 20));
    let mut arena = Arena::of(&config, DIALLER, QuicTransport::default());
    arena.dial();
    arena.greet();
    arena.elapse(ms(100));
    arena.take_told();
    arena
}

/// Artifacts that the hostile member has brought to the victim.
fn brought(arena: &Arena) -> usize {
    let hostile = arena.hostile_id();
    arena.delivered(VICTIM).iter().filter(|(_, from)| *from == hostile).count()
}

/// The channels in which the victim holds the hostile member back, and for how long it did.
fn held(arena: &Arena) -> (u64, core::time::Duration) {
    let hostile = arena.hostile_id();
    let peers = arena.victim().snapshot(Time::ZERO).peers;
    let link = peers.iter().find(|peer| peer.id == hostile).and_then(|peer| peer.link);
    link.map_or_else(Default::default, |link| (link.held_channels, link.held_for))
}

/// It has been told the quota, and sends what it likes.
#[test]
fn what_is_sent_beyond_a_quota_is_read_when_it_is_due() {
    let mut arena = arena();
    let begun = arena.now();
    let (mut version, mut was_held) = (0, false);
    while brought(&arena) < 40 {
        // As far as there is credit: what is held takes streams.
        while version < 40
            && let Some(stream) = arena.open()
        {
            version += 1;
            let push = push(version as u32 % 16, version, &[version as u8; 100]);
            arena.write_to(stream, &updates(&[&push]), true);
        }
        if held(&arena).0 == 1 && !std::mem::replace(&mut was_held, true) {
            arena.assert_unharmed();
        }
        arena.elapse(ms(20));
        let due = 11 + arena.now().since(begun).as_millis() as usize / 100;
        assert!(brought(&arena) <= due, "{} of {due}", brought(&arena));
    }
    let took = arena.now().since(begun);
    assert!((ms(2800)..ms(3800)).contains(&took), "{took:?}");
    arena.elapse(ms(200));
    let (channels, span) = held(&arena);
    assert!(channels == 0 && span > ms(1500) && span < took, "{channels}, {span:?}");
    arena.assert_not_noticed("it is no fault");
}

/// What was left unread is read when the connection ends. Whose it was is known.
#[test]
fn a_breach_that_is_held_counts_when_the_connection_ends() {
    let mut arena = arena();
    let pushes: Vec<Vec<u8>> = (1..=12).map(|at| push(at as u32, at, &[at as u8; 100])).collect();
    arena.write(&updates(&pushes.iter().map(Vec::as_slice).collect::<Vec<_>>()));
    arena.write(&updates(&[&push(16, 13, b"there is no such slot")]));
    arena.elapse(ms(50));
    assert_eq!(held(&arena).0, 1);
    arena.assert_not_noticed("it has not been read");
    let (now, line) = (arena.now(), arena.hostile().line());
    arena.hostile_mut().bare.close(now, line);
    arena.elapse(ms(50));
    // What the honest one does next is not blamed on it.
    arena.assert_unharmed();
    let told = arena.take_told();
    for expected in [arena.down(Closed::Shutdown), arena.fault(Fault::SlotBeyondBound)] {
        assert!(told.contains(&expected), "{told:?}");
    }
    assert_eq!(told.len(), 2, "{told:?}");
}

/// Both are due at once when a node has stood still.
#[test]
fn a_connection_may_be_lost_when_what_is_held_is_due() {
    let mut arena = arena();
    for count in [12, 1] {
        let pushes: Vec<Vec<u8>> =
            (1..=count).map(|at| push(at as u32, at + 20 / count, &[at as u8; 100])).collect();
        arena.write(&updates(&pushes.iter().map(Vec::as_slice).collect::<Vec<_>>()));
        arena.elapse(ms(20));
    }
    assert_eq!(held(&arena).0, 1);
    arena.network.cut(&[VICTIM], &[DIALLER]);
    arena.stall(VICTIM, ms(60_000));
    arena.elapse(ms(61_000));
    assert!(!arena.is_taken_on());
    let told = arena.take_told();
    assert!(told.contains(&arena.down(Closed::Lost)), "{told:?}");
}

/// Of the connections that have ended, the oldest is forgotten first: that may be the one in hand.
#[test]
fn who_is_cut_off_for_what_was_held_may_be_forgotten_at_once() {
    let mut config = config();
    let mut quota = Quota::per_second(1000, 1 << 20);
    quota.burst = ms(10);
    config.channels[0].quota = Some(quota);
    let mut arena = Arena::of(&config, DIALLER, QuicTransport::default());
    arena.until("it is dialled", Arena::has_met);
    let first = arena.hostile().line();
    for _ in 0..2 {
        arena.dial_again();
        arena.greet();
        arena.hang_up();
        arena.until("it is down", |arena| !arena.is_taken_on());
    }
    let pushes: Vec<Vec<u8>> = (1..=12).map(|at| push(at as u32, at, &[at as u8; 9])).collect();
    let pushes = updates(&pushes.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let mut streams = vec![super::hello(), pushes];
    streams.extend((13..16).map(|at| updates(&[&push(16, at, b"there is no such slot")])));
    for bytes in streams {
        let bare = &mut arena.hostile_mut().bare;
        let stream = bare.open(first).expect("credit");
        bare.write(first, stream, bytes, true);
    }
    arena.elapse(ms(60));
    assert_eq!(arena.take_told().last(), Some(&arena.down(Closed::CutOff)));
    arena.assert_unharmed();
}
