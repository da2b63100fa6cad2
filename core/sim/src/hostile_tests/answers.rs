//! Holders that are asked for an artifact, and answer wrongly, late or not at all.

use super::arena::{Arena, HONEST};
use super::{CHANNEL, advert, artifact, ms, updates};
use crate::hostile::frames::{self, chunk, frame, stream};
use slotcast::artifact::{Artifact, CHUNK_BYTES_MIN};
use slotcast::error::Fault;
use slotcast::wire::{Malformed, Request, StreamHead};

/// What is answered by who is asked for one artifact, and has another one, too.
type Answer = fn(&Artifact, &Artifact) -> Vec<u8>;

/// An artifact that the hostile member advertises first and the honest one has, too; and the
/// victim's request to the hostile one.
fn asked(arena: &mut Arena) -> (Artifact, u64) {
    let block = artifact(1, 5 * CHUNK_BYTES_MIN);
    arena.write(&updates(&[&advert(0, &block)]));
    arena.until("it is asked", |arena| !arena.requests().is_empty());
    let Request::Fetch { request, channel, id, ref ranges } = arena.requests()[0] else {
        panic!("{:?}", arena.requests())
    };
    assert_eq!((channel, id, ranges), (CHANNEL, block.id(), &frames::ranges(0, 5)));
    arena.publish(HONEST, &block);
    arena.elapse(ms(100));
    assert_eq!(arena.bringer(&block), None, "one at a time is asked");
    (block, request)
}

#[test]
fn l17_a_wrong_answer_is_a_fault_and_the_next_holder_is_asked_at_once() {
    let other = artifact(9, 5 * CHUNK_BYTES_MIN);
    let wrong: [(&str, Answer, Fault); 4] = [
        ("another artifact's", |_, other| chunk(other, 0), Fault::WrongChunk),
        ("twice", |block, _| chunk(block, 0).repeat(2), Fault::UnrequestedChunk),
        (
            "right, then wrong",
            |block, other| [chunk(block, 0), chunk(other, 1)].concat(),
            Fault::WrongChunk,
        ),
        ("no chunk", |_, _| frame(16, &[0]), Fault::Malformed(Malformed::Truncated)),
    ];
    for (what, answer, fault) in wrong {
        let mut arena = Arena::greeted();
        let (block, request) = asked(&mut arena);
        arena.write(&stream(StreamHead::Chunks(request), &[&answer(&block, &other)]));
        let took = arena.until(what, |arena| arena.bringer(&block).is_some());
        assert_eq!(arena.bringer(&block), Some(arena.id(HONEST)), "{what}");
        assert!(took < ms(250), "{what}: {took:?}");
        assert_eq!(arena.take_told(), [arena.fault(fault)], "{what}");
        arena.assert_unharmed();
    }
}

#[test]
fn a_holder_that_does_not_answer_is_passed_over_without_a_fault() {
    // Nothing; a bit and nothing more; the end too soon; a reset.
    for way in 0..4 {
        let mut arena = Arena::greeted();
        let (block, request) = asked(&mut arena);
        let begun = arena.now();
        if way > 0 {
            let stream = arena.open().unwrap();
            let bytes = frames::stream(StreamHead::Chunks(request), &[&chunk(&block, 0)]);
            arena.write_to(stream, &bytes, way == 2);
            if way == 3 {
                arena.elapse(ms(50));
                arena.reset(stream);
            }
        }
        arena.until("delivered", |arena| arena.bringer(&block).is_some());
        let took = arena.now().since(begun);
        assert_eq!(arena.bringer(&block), Some(arena.id(HONEST)));
        match way {
            0 => assert!(took > ms(100) && took < ms(400), "{way} {took:?}"),
            // Something has come, and the other one is not known to be faster.
            1 => assert!(took > ms(1800) && took < ms(2200), "{way} {took:?}"),
            _ => assert!(took < ms(250), "{way} {took:?}"),
        }
        arena.assert_not_noticed("a holder need not answer");
        arena.elapse(ms(100));
        let cancel = Request::Cancel { request };
        assert!(way > 1 || arena.requests().contains(&cancel), "it need not go on");
    }
}

#[test]
fn what_is_never_served_is_not_waited_for_before_what_others_hold() {
    let mut arena = Arena::greeted();
    let block = artifact(1, 5 * CHUNK_BYTES_MIN);
    let never = |slot: u8| advert(slot.into(), &artifact(100 + slot, 1));
    let adverts: Vec<_> = (1..16).map(never).collect();
    let adverts: Vec<_> = adverts.iter().map(Vec::as_slice).collect();
    arena.write(&updates(&adverts));
    arena.elapse(ms(20));
    arena.write(&updates(&[&advert(0, &block)]));
    arena.elapse(ms(20));
    arena.publish(HONEST, &block);
    let took = arena.until("delivered", |arena| arena.bringer(&block).is_some());
    assert!(took < ms(2200), "{took:?}");
}

#[test]
fn an_answer_after_its_time_is_no_fault_and_not_taken() {
    let mut arena = Arena::greeted();
    let (block, request) = asked(&mut arena);
    arena.until("delivered", |arena| arena.bringer(&block).is_some());
    arena.write(&stream(StreamHead::Chunks(request), &[&chunk(&block, 0), &[0xff; 5000]]));
    arena.elapse(ms(200));
    arena.assert_not_noticed("an answer may be late");
    assert!(arena.is_taken_on());
}

#[test]
fn more_behind_a_complete_answer_is_stopped() {
    let mut arena = Arena::greeted();
    let (block, request) = asked(&mut arena);
    let all = (0..5).map(|at| chunk(&block, at)).collect::<Vec<_>>().concat();
    arena.write(&stream(StreamHead::Chunks(request), &[&all, &chunk(&block, 0)]));
    arena.elapse(ms(300));
    assert_eq!(arena.bringer(&block), Some(arena.hostile_id()));
    arena.assert_not_noticed("an answer may be too long");
}
