//! Peers that cost much: they take nothing, or begin much and end nothing.

use quinn_proto::{Dir, Side, StreamId, TransportConfig as QuicTransport};

use super::arena::{Arena, DIALLER, HONEST, VICTIM};
use super::{CHANNEL, artifact, cut, head, ms, push, updates};
use crate::hostile::frames::{frame, stream};
use slotcast::wire::StreamHead;

#[test]
fn l7_l20_a_peer_that_takes_nothing_is_given_nothing_more() {
    // Its credit: one stream; next to no bytes; or all there is, but it does not read.
    for way in 0..3 {
        let mut transport = QuicTransport::default();
        match way {
            0 => drop(transport.max_concurrent_uni_streams(1_u32.into())),
            1 => drop(transport.receive_window(300_u32.into())),
            _ => {}
        }
        let mut arena = Arena::with(DIALLER, transport);
        arena.hostile_mut().reads = false;
        arena.dial();
        arena.greet();
        for round in 0..100 {
            let blocks = (0..8).map(|at| artifact(round, 700 + at));
            blocks.clone().for_each(|block| arena.publish(VICTIM, &block));
            let begun = arena.delivered(HONEST).len();
            let took = arena.until("delivered", |arena| arena.delivered(HONEST).len() == begun + 8);
            assert!(took < ms(20), "{took:?}");
            for block in blocks {
                arena.abort(VICTIM, &block);
            }
        }
        assert!(arena.is_taken_on(), "it may be slow");
        arena.assert_unharmed();
    }
}

#[test]
fn l8_half_open_streams_are_bounded_and_bother_no_one() {
    let mut arena = Arena::greeted();
    let starts = [
        head(StreamHead::Updates(CHANNEL)),
        vec![1],
        cut(updates(&[&push(1, 1, &[1; 900])])),
        cut(stream(StreamHead::Requests, &[&frame(9, &[1])])),
    ];
    let mut starts = starts.iter().cycle();
    let mut open = Vec::new();
    // A few at once, and more as these are used.
    for _ in 0..10 {
        let before = open.len();
        while let Some(stream) = arena.open() {
            arena.write_to(stream, starts.next().expect("a cycle"), false);
            open.push(stream);
        }
        assert!(before > 0 || (4..=8).contains(&open.len()), "{}", open.len());
        arena.elapse(ms(100));
    }
    assert!((64..=128).contains(&open.len()), "{}", open.len());
    assert_eq!(arena.open(), None);
    arena.assert_unharmed();
    arena.assert_not_noticed("it is no fault");
    assert!(arena.is_taken_on());
}

#[test]
fn storms_of_resets_bother_no_one() {
    let mut arena = Arena::greeted();
    let starts = [
        updates(&[&push(1, 1, &[1; 900])]),
        stream(StreamHead::Requests, &[&frame(9, &[1])]),
        stream(StreamHead::Chunks(3), &[&[16, 0x80]]),
        stream(StreamHead::Unknown(9), &[&[7; 100]]),
    ];
    let mut resets = 0;
    for round in 0..100 {
        let mut streams = Vec::new();
        while let Some(stream) = arena.open() {
            arena.write_to(stream, &cut(starts[streams.len() % 4].clone()), false);
            streams.push(stream);
        }
        // Some before anything has left, some after.
        if round % 2 == 0 {
            arena.elapse(ms(7));
        }
        for stream in streams {
            arena.reset(stream);
            resets += 1;
        }
        arena.elapse(ms(13));
    }
    assert!(resets > 1000, "{resets}");
    arena.assert_unharmed();
    arena.assert_not_noticed("it is no fault");
    assert!(arena.is_taken_on());
}

/// The stream that the victim will write next is open already.
#[test]
fn a_stream_that_is_stopped_before_it_is_written_is_not_written() {
    let mut arena = Arena::greeted();
    for round in 0..5 {
        let last = arena.hostile().read.keys().copied().max().expect("the hello");
        arena.stop(StreamId::new(Side::Server, Dir::Uni, last.index() + 1));
        arena.elapse(ms(100));
        let block = artifact(round, 700);
        arena.publish(VICTIM, &block);
        arena.elapse(ms(100));
        let hostile = arena.hostile();
        let has = |bytes: &Vec<u8>| bytes.windows(700).any(|part| part == block.bytes());
        assert!(hostile.read.values().any(has), "round {round}");
    }
    assert!(arena.is_taken_on());
    arena.assert_unharmed();
}

/// When credit comes again, nothing is left that waited for it.
#[test]
fn a_peer_without_credit_is_sent_what_comes_after_what_was_aborted() {
    let mut transport = QuicTransport::default();
    transport.receive_window(2_000_u32.into());
    let mut arena = Arena::with(DIALLER, transport);
    arena.hostile_mut().reads = false;
    arena.dial();
    arena.greet();
    // The first ones use up the credit. Of the last one, nothing has been accepted.
    let blocks: Vec<_> = (0..4).map(|number| artifact(number, 900)).collect();
    for block in &blocks {
        arena.publish(VICTIM, block);
        arena.elapse(ms(100));
    }
    blocks.iter().for_each(|block| arena.abort(VICTIM, block));
    arena.elapse(ms(100));
    arena.hostile_mut().reads = true;
    arena.elapse(ms(1_000));
    let after = artifact(9, 900);
    arena.publish(VICTIM, &after);
    arena.elapse(ms(1_000));
    let has = |bytes: &Vec<u8>| bytes.windows(900).any(|part| part == after.bytes());
    assert!(arena.hostile().read.values().any(has));
    arena.assert_unharmed();
}
