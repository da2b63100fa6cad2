//! Callers that break the rules, and such that take much and give nothing.

use quinn_proto::TransportConfig as QuicTransport;

use super::arena::{Arena, DIALLER, VICTIM};
use super::{ROUTE, asking_for, asks, cut, ms, reply};
use crate::hostile::frames::frame;
use slotcast::error::Fault;
use slotcast::wire::{Malformed, Reply};

/// What one peer may have in flight: its share of the room for answers, by the longest one.
const IN_FLIGHT: usize = 8;

/// Streams for calls that the victim grants.
const STREAMS: usize = 1024;

const fn malformed(what: Malformed) -> Fault {
    Fault::Malformed(what)
}

/// What is wrong, what is written for it, whether the stream ends there, and what it is called.
fn breaches() -> Vec<(&'static str, Vec<u8>, bool, Fault)> {
    use Malformed::{FrameTooLong, Misplaced, OutOfRange, Trailing, Truncated, UnknownKind};
    let asks = |length| asks(length, ms(10_000));
    let whole = asking_for(100, 100, ms(10_000));
    // Numbers of 8 bytes, each 2^32.
    let large = [0xc0, 0, 0, 1, 0, 0, 0, 0].repeat(4);
    vec![
        ("nothing at all", vec![], true, malformed(Truncated)),
        ("half a head", cut(asks(100)), true, malformed(Truncated)),
        ("a head without fields", frame(48, &[]), false, malformed(Truncated)),
        ("a head of three fields", frame(48, &[7, 9, 0]), false, malformed(Truncated)),
        ("a head with numbers too large", frame(48, &large), false, malformed(OutOfRange)),
        ("a long head", frame(48, &[0; 100]), false, malformed(FrameTooLong)),
        (
            "a very long head",
            vec![48, 0xff, 255, 255, 255, 255, 255, 255, 255],
            false,
            malformed(FrameTooLong),
        ),
        ("an unknown kind", frame(99, &[0; 4]), false, malformed(UnknownKind)),
        ("a kind of 2^62 - 1", vec![0xff; 8], false, malformed(UnknownKind)),
        ("an update", frame(0, &[0, 1]), false, malformed(Misplaced)),
        ("a reply", reply(Reply::Answer { length: 0 }), false, malformed(Misplaced)),
        ("a request longer than may be", asks((1 << 20) + 1), false, Fault::RequestTooLong),
        ("a request of 4 GiB", asks(u32::MAX), false, Fault::RequestTooLong),
        ("a body that ends too early", cut(whole.clone()), true, malformed(Truncated)),
        ("no body", asks(100), true, malformed(Truncated)),
        ("a byte behind the body", [&whole[..], &[0]].concat(), true, malformed(Trailing)),
        (
            "another request in the stream",
            [&whole[..], &whole[..]].concat(),
            false,
            malformed(Trailing),
        ),
    ]
}

#[test]
fn each_breach_is_one_fault_that_names_the_rule_and_harms_no_one() {
    for (what, bytes, finish, fault) in breaches() {
        for keeps in [false, true] {
            let mut arena = Arena::greeted();
            arena.application.keeps = keeps;
            let stream = arena.open_call().expect("credit");
            arena.write_to(stream, &bytes, finish);
            arena.elapse(ms(100));
            assert_eq!(arena.take_told(), [arena.fault(fault)], "{what}");
            assert!(arena.is_taken_on(), "{what}: one is forgiven");
            assert_eq!((arena.victim().calls(), arena.victim().body_bytes()), (0, 0), "{what}");
            // What it asks afterwards is answered.
            arena.application.keeps = false;
            let stream = arena.write_call(&asking_for(10, 100, ms(1_000)), true);
            arena.elapse(ms(100));
            let answer = [reply(Reply::Answer { length: 10 }), vec![7; 10]].concat();
            assert_eq!(arena.arrived(stream), answer, "{what}");
            assert_eq!(arena.victim().calls(), 0, "{what}");
        }
    }
}

#[test]
fn a_caller_that_goes_on_breaking_rules_is_cut_off_and_its_requests_with_it() {
    let mut arena = Arena::greeted();
    arena.application.keeps = true;
    for _ in 0..5 {
        arena.write_call(&asking_for(10, 100, ms(10_000)), true);
    }
    arena.elapse(ms(50));
    assert_eq!(arena.application.requests[VICTIM].len(), 5);
    for _ in 0..3 {
        arena.write_call(&frame(99, &[]), true);
    }
    arena.elapse(ms(100));
    assert!(!arena.is_taken_on());
    assert_eq!((arena.victim().calls(), arena.application.cancelled), (0, 5));
    arena.assert_unharmed();
}

#[test]
fn what_is_no_breach_is_not_one() {
    let mut arena = Arena::greeted();
    let whole = asking_for(10, 100, ms(1_000));
    let mut other_route = whole.clone();
    assert_eq!(u16::from(other_route[2]), ROUTE.0);
    other_route[2] = 9;
    let longer_head = frame(48, &[&[7, 0x43, 0xe8, 0, 8, 0][..], &[1; 20]].concat());
    let longer_head = [longer_head, 10_u64.to_be_bytes().to_vec()].concat();
    let refused = reply(Reply::Refused(slotcast::wire::CallRefusal::NotServed));
    let answer = |length: u32| reply(Reply::Answer { length });
    for (what, bytes, finish, answer) in [
        ("a route that there is not", other_route, true, refused),
        ("a head of a later version, nothing prepaid", longer_head, false, answer(10)),
        ("no time left", asking_for(10, 100, ms(0)), true, vec![]),
        ("nothing", vec![], false, vec![]),
    ] {
        let stream = arena.write_call(&bytes, finish);
        arena.elapse(ms(100));
        assert_eq!(arena.arrived(stream), answer, "{what}");
        arena.assert_not_noticed(what);
    }
    // Streams that are reset at any point.
    for length in 0..whole.len() {
        let stream = arena.write_call(&whole[..length], false);
        arena.elapse(ms(if length % 2 == 0 { 0 } else { 15 }));
        arena.reset(stream);
    }
    arena.elapse(ms(11_000));
    arena.assert_not_noticed("resets");
    assert_eq!((arena.victim().calls(), arena.victim().body_bytes()), (0, 0));
    arena.assert_unharmed();
}

#[test]
fn before_its_hello_a_peer_has_no_credit_for_calls() {
    let mut arena = Arena::ungreeted();
    arena.dial();
    arena.elapse(ms(1_000));
    assert_eq!(arena.open_call(), None);
    arena.greet();
    arena.elapse(ms(100));
    let stream = arena.write_call(&asking_for(10, 100, ms(10_000)), true);
    arena.elapse(ms(100));
    assert_eq!(arena.arrived(stream).len(), 3 + 10);
    assert_eq!(arena.application.requests[VICTIM].len(), 1);
    arena.assert_unharmed();
}

#[test]
fn streams_that_are_opened_and_not_ended_are_bounded_and_go_with_their_time() {
    let patience = ms(8_000);
    let starts = [
        vec![48],
        cut(asks(100, patience)),
        asks(100, patience),
        asks(1 << 20, patience),
        cut(asking_for(10, 16_000, patience)),
        asking_for(10, 100, patience),
        [asks(1 << 20, patience), vec![1; 16 << 10]].concat(),
    ];
    for keeps in [false, true] {
        let mut arena = Arena::greeted();
        arena.application.keeps = keeps;
        let mut open = 0;
        for start in starts.iter().cycle() {
            let Some(stream) = arena.open_call() else { break };
            arena.write_to(stream, start, false);
            open += 1;
        }
        assert_eq!(open, STREAMS);
        for _ in 0..6 {
            arena.elapse(ms(500));
            assert!(arena.victim().calls() <= STREAMS);
            // Its shares of the rooms for requests and for answers.
            assert!(arena.victim().body_bytes() <= 4 << 20, "{}", arena.victim().body_bytes());
            arena.assert_unharmed();
        }
        arena.elapse(ms(10_000));
        let handed_over = arena.application.requests[VICTIM].len();
        assert!(handed_over > 0, "some were whole");
        assert_eq!((arena.victim().calls(), arena.victim().body_bytes()), (0, 0));
        arena.assert_not_noticed("it is no fault");
        assert!(arena.open_call().is_some(), "all is as before");
        arena.assert_unharmed();
    }
}

#[test]
fn a_caller_that_does_not_read_its_answers_is_given_no_more_than_its_share() {
    // It grants the victim next to nothing, or reads nothing of what it granted.
    for window in [300_u32, 100_000] {
        let mut transport = QuicTransport::default();
        transport.stream_receive_window(window.into()).receive_window((4 * window).into());
        let mut arena = Arena::with(DIALLER, transport);
        arena.hostile_mut().reads = false;
        arena.dial();
        arena.greet();
        arena.elapse(ms(100));
        arena.take_told();
        let asked = arena.application.requests[VICTIM].len();
        for _ in 0..500 {
            arena.write_call(&asking_for(256 << 10, 100, ms(20_000)), true);
        }
        for _ in 0..8 {
            arena.elapse(ms(1_500));
            arena.assert_unharmed();
            assert!(arena.victim().body_bytes() <= 4 << 20, "{}", arena.victim().body_bytes());
        }
        let of_hostile = |arena: &Arena| {
            let id = arena.hostile_id();
            arena.application.requests[VICTIM][asked..].iter().filter(|r| r.from == id).count()
        };
        assert_eq!(of_hostile(&arena), IN_FLIGHT, "no more than what it may have in flight");
        arena.elapse(ms(10_000));
        assert_eq!((arena.victim().calls(), arena.victim().body_bytes()), (0, 0));
        // Some were handed over when the first had come to their ends, moments before their own.
        assert!(of_hostile(&arena) < 100, "most came to their ends unread");
        arena.assert_not_noticed("it is no fault");
        arena.assert_unharmed();
    }
}

#[test]
fn a_request_that_comes_too_slowly_is_given_up() {
    let mut arena = Arena::greeted();
    let begun = arena.now();
    let streams: Vec<_> =
        (0..20).map(|_| arena.write_call(&asks(100_000, ms(60_000)), false)).collect();
    arena.elapse(ms(100));
    let room = arena.victim().body_bytes();
    assert!(room > 8 * 100_000, "{room}");
    while arena.victim().calls() > 12 {
        for stream in &streams {
            arena.write_to(*stream, &[1], false);
        }
        arena.elapse(ms(1_000));
        arena.assert_unharmed();
        assert!(arena.now().since(begun) < ms(60_000));
    }
    // Five seconds' grace; those behind them are read then, and begin anew.
    let took = arena.now().since(begun);
    assert!((ms(5_000)..ms(9_000)).contains(&took), "{took:?}");
    arena.elapse(ms(20_000));
    assert_eq!((arena.victim().calls(), arena.victim().body_bytes()), (0, 0));
    arena.assert_not_noticed("it may be the network");
}

#[test]
fn another_connection_ends_the_calls_of_the_one_before() {
    let mut arena = Arena::greeted();
    arena.application.keeps = true;
    for round in 0..3 {
        for length in [8, 20_000] {
            arena.write_call(&asking_for(10, length, ms(60_000)), true);
        }
        // Of this one, only half comes.
        arena.write_call(&cut(asking_for(10, 10_000, ms(60_000))), false);
        arena.elapse(ms(200));
        assert_eq!(arena.victim().calls(), 3);
        assert_eq!(arena.application.requests[VICTIM].len(), 2 * (round + 1));
        // Streams have the same numbers there.
        arena.dial_again();
        arena.greet();
        arena.elapse(ms(100));
        assert_eq!((arena.victim().calls(), arena.victim().body_bytes()), (0, 0));
        assert_eq!(arena.application.cancelled, 2 * (round + 1));
    }
    arena.application.keeps = false;
    let stream = arena.write_call(&asking_for(10, 100, ms(1_000)), true);
    arena.elapse(ms(100));
    assert_eq!(arena.arrived(stream).len(), 3 + 10);
    arena.assert_unharmed();
}
