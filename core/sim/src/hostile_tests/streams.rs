//! Streams behind the hello: those that break a rule, and those that only look like it.

use bytes::Bytes;

use super::arena::{Arena, VICTIM};
use super::{CHANNEL, artifact, cut, head, hello, ms, push, updates};
use crate::hostile::frames::{self, chunk, frame, requests, stream};
use slotcast::artifact::CHUNK_BYTES_MIN;
use slotcast::error::Fault;
use slotcast::id::ChannelId;
use slotcast::wire::{Malformed, Refusal, Request, StreamHead};

/// What is done wrong, as bytes of a stream, and the rule that it breaks.
type Breach = (&'static str, Vec<u8>, Fault);

fn request(request: &Request) -> Vec<u8> {
    let mut bytes = Vec::new();
    request.encode(&mut bytes);
    bytes
}

fn snapshot(live: &[u8]) -> Vec<u8> {
    frames::snapshot(1, live)
}

fn long_advert(length: u64, metadata: usize) -> Vec<u8> {
    let mut body = vec![0, 1, 0, 0];
    frames::put_varint(&mut body, length);
    frames::put_varint(&mut body, metadata as u64);
    body.resize(body.len() + metadata + 32, 7);
    frame(2, &body)
}

/// What breaks a rule in a stream after the hello.
fn breaches() -> Vec<Breach> {
    use Malformed::{FrameTooLong, Misplaced, OutOfRange, Truncated};
    let block = artifact(1, 5 * CHUNK_BYTES_MIN);
    let id = block.id();
    let fetch = Request::Fetch { request: 1, channel: CHANNEL, id, ranges: frames::ranges(0, 1) };
    let advert = |hops, streamed| frames::advert(0, 1, hops, streamed, &block.advert());
    let asking = |frame: &[u8]| stream(StreamHead::Requests, &[frame]);
    let malformed = Fault::Malformed;
    vec![
        ("another hello", hello(), Fault::HelloMisplaced),
        ("an empty stream", vec![], malformed(Truncated)),
        ("half a head", vec![1], malformed(Truncated)),
        ("a channel beyond 16 bits", vec![1, 0x80, 1, 0, 0], malformed(OutOfRange)),
        ("half a frame", cut(updates(&[&push(0, 1, &[1])])), malformed(Truncated)),
        ("a clear without version", updates(&[&frame(0, &[0])]), malformed(Truncated)),
        ("a clear of version 0", updates(&[&frame(0, &[0, 0])]), malformed(OutOfRange)),
        ("an unknown update without version", updates(&[&frame(5, &[0])]), malformed(Truncated)),
        ("an unknown request of no number", asking(&frame(12, &[])), malformed(Truncated)),
        (
            "a part of two chunks of one",
            updates(&[&frame(3, &[&[0, 1, 0, 0, 9, 0][..], &[7; 32], &[1, 3]].concat())]),
            malformed(OutOfRange),
        ),
        (
            "a push that is shorter than said",
            updates(&[&frame(1, &[0, 1, 0, 9, 1])]),
            malformed(Truncated),
        ),
        (
            "a push of long metadata",
            updates(&[&frame(1, &[[0, 1, 0, 0x40, 129].as_slice(), &[0; 200]].concat())]),
            malformed(OutOfRange),
        ),
        (
            "a push of less metadata than said",
            updates(&[&frame(1, &[0, 1, 0, 9, 1])]),
            malformed(Truncated),
        ),
        (
            "an advert without root",
            updates(&[&frame(2, &[0, 1, 0, 0, 9, 0])]),
            malformed(Truncated),
        ),
        (
            "an advert beyond a tebibyte",
            updates(&[&long_advert((1 << 40) + 1, 0)]),
            malformed(OutOfRange),
        ),
        ("an advert of long metadata", updates(&[&long_advert(9, 129)]), malformed(OutOfRange)),
        ("a frame too long", updates(&[&push(0, 1, &[1; 5000])]), malformed(FrameTooLong)),
        ("a request among updates", updates(&[&request(&fetch)]), malformed(Misplaced)),
        ("a chunk among updates", updates(&[&chunk(&block, 0)[..8]]), malformed(FrameTooLong)),
        ("a small chunk among updates", updates(&[&frame(16, &[0, 0, 0])]), malformed(Misplaced)),
        ("a field of hello among updates", updates(&[&frame(32, &[0])]), malformed(Misplaced)),
        ("an update among requests", asking(&frame(0, &[0, 1])), malformed(Misplaced)),
        (
            "a fetch of no chunk",
            asking(&frame(8, &[&[1, 1][..], &[0; 32], &[1, 0, 0]].concat())),
            malformed(OutOfRange),
        ),
        (
            "a fetch of no ranges",
            asking(&frame(8, &[&[1, 1][..], &[0; 32], &[0]].concat())),
            malformed(OutOfRange),
        ),
        ("a fetch without id", asking(&frame(8, &[1, 1, 0, 1])), malformed(Truncated)),
        ("a long request", asking(&frame(9, &[0; 400])), malformed(FrameTooLong)),
        ("a slot beyond the bound", updates(&[&push(16, 1, &[1])]), Fault::SlotBeyondBound),
        ("a clear beyond the bound", updates(&[&frame(0, &[16, 1])]), Fault::SlotBeyondBound),
        ("a snapshot beyond the bound", updates(&[&snapshot(&[0, 0, 1])]), Fault::SlotBeyondBound),
        ("a long push", updates(&[&push(0, 1, &[1; 1001])]), Fault::PushTooLong),
        ("a long artifact", updates(&[&long_advert((1 << 20) + 1, 0)]), Fault::ArtifactTooLong),
        (
            "a second snapshot",
            updates(&[&snapshot(&[0]), &snapshot(&[0])]),
            Fault::SnapshotRepeated,
        ),
        ("too many hops", updates(&[&advert(5, false)]), Fault::HopsBeyondBound),
        (
            "an artifact in two slots",
            updates(&[
                &frames::advert(0, 1, 0, false, &block.advert()),
                &frames::advert(1, 2, 0, false, &block.advert()),
            ]),
            Fault::ArtifactInTwoSlots,
        ),
        (
            "a streamed lie",
            updates(&[&advert(0, true), &chunk(&artifact(2, 5 * CHUNK_BYTES_MIN), 0)]),
            Fault::WrongChunk,
        ),
        (
            "a streamed chunk twice",
            updates(&[&advert(0, true), &chunk(&block, 1), &chunk(&block, 1)]),
            Fault::UnrequestedChunk,
        ),
    ]
}

#[test]
fn each_breach_is_one_fault_that_names_the_rule_and_harms_no_one() {
    for (what, bytes, fault) in breaches() {
        let mut arena = Arena::greeted();
        arena.write(&bytes);
        arena.elapse(ms(100));
        assert_eq!(arena.take_told(), [arena.fault(fault)], "{what}");
        assert_eq!(arena.stats().faults, 1, "{what}");
        // One is forgiven: what it sends afterwards counts.
        assert!(arena.is_taken_on(), "{what}");
        arena.write(&updates(&[&push(7, 99, b"all right")]));
        arena.elapse(ms(100));
        assert_eq!(arena.delivered(VICTIM).len(), 1, "{what}");
    }
    let mut arena = Arena::greeted();
    arena.write(&breaches()[4].1);
    arena.assert_unharmed();
}

#[test]
fn nothing_of_a_stream_after_the_breach_is_applied_and_all_before_it_is() {
    let mut arena = Arena::greeted();
    let bad = frame(0, &[0, 0]);
    arena.write(&updates(&[&push(1, 1, b"before"), &bad, &push(2, 2, b"after")]));
    arena.elapse(ms(100));
    let delivered: Vec<_> =
        arena.delivered(VICTIM).iter().map(|(artifact, _)| artifact.to_bytes()).collect();
    assert_eq!(delivered, [Bytes::from_static(b"before")]);
}

#[test]
fn l12_what_a_later_version_may_bring_is_passed_over() {
    let none = Request::Fetch {
        request: 1,
        channel: ChannelId(9),
        id: artifact(1, 10).id(),
        ranges: frames::ranges(0, 1),
    };
    let unknown = [frame(99, &[]), frame(1 << 40, &[1; 70_000])].concat();
    let update = [frame(6, &[2, 9, 1, 1]), frame(7, &[[3, 9].as_slice(), &[1; 70_000]].concat())];
    let request = [frame(11, &[8, 1]), frame(15, &[[9].as_slice(), &[1; 70_000]].concat())];
    let longer = |frame: Vec<u8>| {
        let [kind, length, body @ ..] = &frame[..] else { panic!("a short frame") };
        [&[*kind, length + 2], body, &[7, 7]].concat()
    };
    let harmless = [
        ("an unknown stream", stream(StreamHead::Unknown(77), &[&[0xff; 5000]])),
        ("unknown frames among updates", updates(&[&unknown, &push(1, 1, b"after")])),
        ("unknown frames among requests", stream(StreamHead::Requests, &[&unknown])),
        ("unknown updates", updates(&[&update.concat(), &push(4, 10, b"behind them")])),
        ("unknown requests", stream(StreamHead::Requests, &[&request.concat()])),
        ("a push and more", updates(&[&longer(push(5, 11, b"a longer one"))])),
        ("a clear and more", updates(&[&frame(0, &[6, 12, 1])])),
        (
            "a channel that there is not",
            stream(StreamHead::Updates(ChannelId(9)), &[&[0xff; 5000]]),
        ),
        (
            "chunks that nobody asked for",
            stream(StreamHead::Chunks(5), &[&chunk(&artifact(1, 10), 0)]),
        ),
        ("what is not held", requests(&[none])),
        ("the end of nothing", requests(&[Request::Cancel { request: 3 }])),
        ("no to nothing", requests(&[Request::Refuse { request: 3, refusal: Refusal::Other(50) }])),
        ("only a head", head(StreamHead::Updates(CHANNEL))),
        ("a clear of what never was", updates(&[&frame(0, &[3, 5])])),
    ];
    let mut arena = Arena::greeted();
    for (what, bytes) in harmless {
        arena.write(&bytes);
        arena.elapse(ms(100));
        arena.assert_not_noticed(what);
        assert!(arena.is_taken_on(), "{what}");
    }
    assert_eq!(arena.delivered(VICTIM).len(), 3, "behind the unknown frames, and with more");
    let refused = |request, refusal| Request::Refuse { request, refusal };
    assert_eq!(
        arena.requests(),
        [
            refused(9, Refusal::UnknownRequest),
            refused(8, Refusal::UnknownRequest),
            refused(1, Refusal::NotHeld)
        ]
    );
    arena.assert_unharmed();
}
