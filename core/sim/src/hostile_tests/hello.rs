//! The first stream of a connection: it must be a hello, whole, and soon.

use super::arena::{Arena, VICTIM};
use super::{cut, head, hello, ms, push, updates};
use crate::hostile::frames::{frame, put_varint, stream};
use slotcast::error::Fault;
use slotcast::wire::{HELLO_BYTES_MAX, Malformed, StreamHead};

/// What the hostile member does.
type Act = fn(&mut Arena);

#[test]
fn a_bad_first_stream_ends_the_connection_at_once() {
    use Malformed::{FrameTooLong, Misplaced, Repeated, Truncated};
    let malformed = Fault::Malformed;
    let field = |frames: &[&[u8]]| stream(StreamHead::Hello, frames);
    let channel = frame(34, &[1, 16, 16, 16, 4]);
    let many: Vec<_> = (0..65_u16)
        .map(|at| {
            let mut body = Vec::new();
            put_varint(&mut body, at.into());
            body.extend_from_slice(&[1, 1, 1, 1]);
            frame(34, &body)
        })
        .collect();
    let padding = frame(77, &[0; 1000]).repeat(HELLO_BYTES_MAX / 1000 + 1);
    for (what, bytes, fault) in [
        ("updates", updates(&[&push(0, 1, b"early")]), Fault::HelloMisplaced),
        ("requests", head(StreamHead::Requests), Fault::HelloMisplaced),
        ("chunks", head(StreamHead::Chunks(1)), Fault::HelloMisplaced),
        ("an unknown stream", vec![77, 1, 2, 3], Fault::HelloMisplaced),
        ("nothing", vec![], malformed(Truncated)),
        ("half a hello", cut(hello()), malformed(Truncated)),
        ("a huge hello", field(&[&padding]), malformed(FrameTooLong)),
        ("a huge field", field(&[&frame(34, &[1; 1100])]), malformed(FrameTooLong)),
        ("a channel twice", field(&[&channel, &channel]), malformed(Repeated)),
        ("65 channels", field(&[&many.concat()]), malformed(Repeated)),
        ("an update in it", field(&[&push(0, 1, b"")]), malformed(Misplaced)),
        ("half a number", field(&[&frame(32, &[0x40])]), malformed(Truncated)),
    ] {
        let mut arena = Arena::ungreeted();
        arena.dial();
        arena.write(&bytes);
        // What comes behind it is not looked at.
        arena.write(&updates(&[&push(1, 1, b"late")]));
        arena.until(what, Arena::is_lost);
        assert_eq!(arena.take_told(), [arena.fault(fault)], "{what}");
        assert_eq!((arena.stats().faults, arena.stats().refused), (1, 1), "{what}");
        assert_eq!(arena.delivered(VICTIM).len(), 0, "{what}");
        // It may try again, and do better.
        arena.dial();
        arena.greet();
    }
}

#[test]
fn l12_a_hello_of_the_next_minor_version_is_as_good() {
    let mut arena = Arena::ungreeted();
    arena.dial();
    let minor = frame(32, &[1]);
    arena.write(&[hello(), minor, frame(40, b"new"), frame(0xfff, &[])].concat());
    arena.until("taken on", Arena::is_taken_on);
    arena.write(&updates(&[&push(0, 1, b"as before")]));
    arena.elapse(ms(100));
    assert_eq!((arena.delivered(VICTIM).len(), arena.stats().faults), (1, 0));
}

#[test]
fn without_a_complete_hello_a_connection_ends_after_a_while() {
    let unfinished: [(&str, Act); 4] = [
        ("nothing at all", |_| {}),
        ("a hello without end", |arena| {
            let stream = arena.open().unwrap();
            arena.write_to(stream, &hello(), false);
        }),
        ("a hello that is reset", |arena| {
            let stream = arena.open().unwrap();
            arena.write_to(stream, &hello(), false);
            arena.elapse(ms(50));
            arena.reset(stream);
        }),
        ("everything but a hello", |arena| {
            let first = arena.open().unwrap();
            arena.write_to(first, &hello()[..3], false);
            while let Some(stream) = arena.open() {
                let frames = updates(&[&push(1, stream.index(), &[1; 900])]);
                arena.write_to(stream, &frames, true);
            }
        }),
    ];
    for (what, act) in unfinished {
        let mut arena = Arena::ungreeted();
        arena.dial();
        act(&mut arena);
        arena.assert_unharmed();
        let took = arena.until(what, Arena::is_lost);
        assert!(took > ms(4000) && took < ms(5100), "{what}: {took:?}");
        assert_eq!(arena.take_told(), [], "{what}");
        let stats = arena.stats();
        assert_eq!((stats.faults, stats.refused, stats.connections), (0, 1, 1), "{what}");
        assert!(arena.delivered(VICTIM).iter().all(|(artifact, _)| artifact.bytes().len() != 900));
    }
}

#[test]
fn streams_that_overtake_the_hello_are_read_after_it() {
    let mut arena = Arena::ungreeted();
    arena.dial();
    let first = arena.open().unwrap();
    arena.write(&updates(&[&push(1, 1, b"early")]));
    let open = arena.open().unwrap();
    arena.write_to(open, &updates(&[&push(2, 2, b"in pieces")])[..5], false);
    arena.elapse(ms(200));
    assert!(!arena.is_taken_on() && arena.delivered(VICTIM).is_empty());
    arena.write_to(open, &updates(&[&push(2, 2, b"in pieces")])[5..], true);
    arena.elapse(ms(200));
    arena.write_to(first, &hello(), true);
    arena.elapse(ms(100));
    assert!(arena.is_taken_on());
    assert_eq!((arena.delivered(VICTIM).len(), arena.stats().faults), (2, 0));
}
