//! Callees that break the rules, or take their time.

use quinn_proto::StreamId;

use super::arena::{Arena, VICTIM};
use super::{cut, ms, question, reply};
use crate::hostile::frames::frame;
use slotcast::error::{CallError, Fault};
use slotcast::rpc::CallId;
use slotcast::wire::{CallRefusal, Malformed, Reply};

const HOSTILE: usize = super::arena::DIALLER;

const fn malformed(what: Malformed) -> Fault {
    Fault::Malformed(what)
}

/// A call of the victim with a request of so many bytes, and its stream.
fn called(arena: &mut Arena, length: usize) -> (CallId, StreamId) {
    let before = arena.calls().len();
    let id = arena.ask(VICTIM, HOSTILE, question(10, length));
    arena.until("it is called", |arena| arena.calls().len() > before);
    arena.elapse(ms(20));
    (id, *arena.calls().last().expect("just now"))
}

const SMALL: usize = 100;
/// Of which only the beginning is sent unasked.
const LARGE: usize = 100_000;

/// What is wrong, the length of the request, what is answered, whether the stream ends there, and
/// what it is called.
fn breaches() -> Vec<(&'static str, usize, Vec<u8>, bool, Fault)> {
    use Malformed::{FrameTooLong, Misplaced, OutOfRange, Trailing, Truncated, UnknownKind};
    let answer =
        |length: u32, bytes: usize| [reply(Reply::Answer { length }), vec![1; bytes]].concat();
    let go_on = reply(Reply::Continue);
    let twice = [&go_on[..], &go_on[..]].concat();
    vec![
        ("nothing at all", SMALL, vec![], true, malformed(Truncated)),
        ("half a reply", SMALL, cut(answer(10, 0)), true, malformed(Truncated)),
        ("a short answer", SMALL, answer(10, 9), true, malformed(Truncated)),
        ("a byte behind the answer", SMALL, answer(10, 11), true, malformed(Trailing)),
        ("an answer of nothing and a byte", SMALL, answer(0, 1), false, malformed(Trailing)),
        (
            "another answer",
            SMALL,
            [answer(10, 10), answer(10, 10)].concat(),
            true,
            malformed(Trailing),
        ),
        ("a long answer", SMALL, answer((256 << 10) + 1, 0), false, Fault::AnswerTooLong),
        ("an answer to half a request", LARGE, answer(10, 10), true, Fault::ReplyMisplaced),
        ("go on, with nothing to go on with", SMALL, go_on.clone(), false, Fault::ReplyMisplaced),
        ("go on, twice", LARGE, twice, false, Fault::ReplyMisplaced),
        ("an end after go on", LARGE, go_on, true, malformed(Truncated)),
        ("an unknown kind", SMALL, frame(60, &[0]), false, malformed(UnknownKind)),
        ("a request", SMALL, frame(48, &[7, 9, 0, 0]), false, malformed(Misplaced)),
        ("an update", SMALL, frame(1, &[0, 1]), false, malformed(Misplaced)),
        ("a reply without fields", SMALL, frame(50, &[]), false, malformed(Truncated)),
        (
            "a number too large",
            SMALL,
            frame(51, &[0xc0, 0, 0, 1, 0, 0, 0, 0]),
            false,
            malformed(OutOfRange),
        ),
        ("a long reply", SMALL, frame(52, &[0; 100]), false, malformed(FrameTooLong)),
    ]
}

#[test]
fn each_breach_ends_the_call_and_is_one_fault_that_names_the_rule() {
    for (what, length, bytes, finish, fault) in breaches() {
        let mut arena = Arena::greeted();
        let (id, stream) = called(&mut arena, length);
        arena.write_to(stream, &bytes, finish);
        arena.elapse(ms(100));
        assert_eq!(arena.outcome(id), Some(&Err(CallError::Fault)), "{what}");
        assert_eq!(arena.take_told(), [arena.fault(fault)], "{what}");
        assert_eq!((arena.victim().calls(), arena.victim().body_bytes()), (0, 0), "{what}");
        // One is forgiven: the next call may go well.
        let (id, stream) = called(&mut arena, SMALL);
        arena.write_to(stream, &reply(Reply::Answer { length: 0 }), true);
        arena.elapse(ms(100));
        assert_eq!(arena.outcome(id), Some(&Ok(vec![].into())), "{what}");
        assert_eq!(arena.victim().calls(), 0, "{what}");
    }
}

#[test]
fn what_is_no_breach_is_what_it_says() {
    let mut arena = Arena::greeted();
    let retry_after = ms(77);
    let busy = reply(Reply::Busy { retry_after_ms: 77 });
    let answer = [reply(Reply::Answer { length: 100_000 }), vec![9; 100_000]].concat();
    for (what, length, bytes, finish, result) in [
        ("busy", SMALL, busy.clone(), true, Err(CallError::Busy { retry_after })),
        ("busy before the request", LARGE, busy, false, Err(CallError::Busy { retry_after })),
        (
            "a reason of a later version",
            LARGE,
            reply(Reply::Refused(CallRefusal::Other(1 << 60))),
            true,
            Err(CallError::Dropped),
        ),
        (
            "not served",
            SMALL,
            reply(Reply::Refused(CallRefusal::NotServed)),
            true,
            Err(CallError::NotServed),
        ),
        ("an answer sent before there is room", SMALL, answer, true, Ok(vec![9; 100_000].into())),
    ] {
        let (id, stream) = called(&mut arena, length);
        arena.write_to(stream, &bytes, finish);
        arena.elapse(ms(300));
        assert_eq!(arena.outcome(id), Some(&result), "{what}");
        arena.assert_not_noticed(what);
        assert_eq!((arena.victim().calls(), arena.victim().body_bytes()), (0, 0), "{what}");
    }
    for length in [SMALL, LARGE] {
        let (id, stream) = called(&mut arena, length);
        arena.reset(stream);
        arena.elapse(ms(100));
        assert_eq!(arena.outcome(id), Some(&Err(CallError::Dropped)), "reset");
    }
    arena.assert_not_noticed("resets");
    arena.assert_unharmed();
}

#[test]
fn an_answer_that_comes_too_slowly_is_given_up() {
    let mut arena = Arena::greeted();
    for length in [1_000, 100_000] {
        let (id, stream) = called(&mut arena, SMALL);
        arena.write_to(stream, &reply(Reply::Answer { length }), false);
        let begun = arena.now();
        while arena.outcome(id).is_none() {
            arena.write_to(stream, &[1], false);
            arena.elapse(ms(1_000));
            assert!(arena.now().since(begun) < ms(9_900), "before its deadline");
        }
        let ended = arena.application.outcomes.last().expect("it has ended");
        assert_eq!(ended.2, Err(CallError::TooSlow));
        let took = ended.1.since(begun);
        assert!((ms(5_000)..ms(5_100)).contains(&took), "{took:?}");
        assert_eq!((arena.victim().calls(), arena.victim().body_bytes()), (0, 0));
    }
    arena.assert_not_noticed("it may be the network");
    arena.assert_unharmed();
}

#[test]
fn a_callee_that_never_answers_costs_what_is_configured_until_the_deadline() {
    let mut arena = Arena::greeted();
    let (mut made, mut pushed_back) = (0, 0);
    for _ in 0..100 {
        let body = question(10, LARGE).into();
        let called = arena.command(VICTIM, |_, node| node.call(HOSTILE, super::ROUTE, body, None));
        match called.expect("it runs") {
            Ok(_) => made += 1,
            Err(CallError::Pushback) => pushed_back += 1,
            Err(error) => panic!("{error}"),
        }
    }
    // Twice an eighth of 16 MiB.
    assert_eq!((made, pushed_back), (41, 59));
    for _ in 0..5 {
        arena.elapse(ms(1_000));
        assert!(arena.victim().body_bytes() <= 4 << 20);
        arena.assert_unharmed();
    }
    arena.elapse(ms(5_000));
    assert_eq!((arena.victim().calls(), arena.victim().body_bytes()), (0, 0));
    arena.assert_not_noticed("it is no fault");
}
