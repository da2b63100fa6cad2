//! Members that send more in a channel than its quota.

use quinn_proto::TransportConfig as QuicTransport;

use super::arena::{Arena, DIALLER, VICTIM};
use super::{config, ms, push, updates};
use slotcast::config::Quota;
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

/// It has no effect, and breaks no rule.
#[test]
fn what_is_held_when_the_connection_ends_is_dropped() {
    let mut arena = arena();
    let pushes: Vec<Vec<u8>> = (1..=12).map(|at| push(at as u32, at, &[at as u8; 100])).collect();
    arena.write(&updates(&pushes.iter().map(Vec::as_slice).collect::<Vec<_>>()));
    arena.write(&updates(&[&push(13, 13, b"too much"), &push(16, 14, b"there is no such slot")]));
    arena.elapse(ms(50));
    assert_eq!((held(&arena).0, brought(&arena)), (1, 12));
    arena.hang_up();
    arena.elapse(ms(50));
    arena.assert_unharmed();
    assert_eq!((arena.take_told(), brought(&arena)), (vec![arena.down(Closed::Shutdown)], 12));
}

/// How it ends a connection before the next one.
#[derive(Clone, Copy, Debug)]
enum Leaving {
    /// It closes it.
    Closes,
    /// It connects beside it.
    Supersedes,
    /// It says nothing.
    Restarts,
}

/// Another burst with each connection, and all that was left unread at its end, would be many times as much.
#[test]
fn who_connects_again_and_again_brings_no_more_than_its_quota() {
    for leaving in [Leaving::Closes, Leaving::Supersedes, Leaving::Restarts] {
        let mut arena = arena();
        let begun = arena.now();
        let mut version = 0_u64;
        while arena.now().since(begun) < ms(5_000) {
            for _ in 0..4 {
                let pushes: Vec<Vec<u8>> = (0..8)
                    .map(|_| {
                        version += 1;
                        push(version as u32 % 16, version, &version.to_be_bytes())
                    })
                    .collect();
                arena.write(&updates(&pushes.iter().map(Vec::as_slice).collect::<Vec<_>>()));
            }
            arena.elapse(ms(50));
            match leaving {
                Leaving::Closes => {
                    arena.hang_up();
                    arena.until("it is down", |arena| !arena.is_taken_on());
                    arena.dial_again();
                }
                Leaving::Supersedes => arena.dial_again(),
                Leaving::Restarts => arena.dial(),
            }
            arena.greet();
            arena.elapse(ms(20));
        }
        let span = arena.now().since(begun).as_millis() as usize;
        // The burst, what has become due, and the rest of a stream that was begun.
        let (brought, due) = (brought(&arena), 10 + span / 100);
        let connections = arena.stats().connections;
        println!("{leaving:?}: {brought} over {connections} connections, {due} due");
        assert!(connections > 30, "{connections}");
        assert!((due * 3 / 4..=due + 8).contains(&brought), "{leaving:?}: {brought} of {due}");
        arena.assert_unharmed();
        assert_eq!(arena.stats().faults, 0);
    }
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
    config.transport.faults_max = 1;
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
    let breach = updates(&[&push(16, 13, b"there is no such slot")]);
    for bytes in [super::hello(), pushes, breach] {
        let bare = &mut arena.hostile_mut().bare;
        let stream = bare.open(first).expect("credit");
        bare.write(first, stream, bytes, true);
    }
    arena.elapse(ms(60));
    assert_eq!(arena.take_told().last(), Some(&arena.down(Closed::CutOff)));
    arena.assert_unharmed();
}
