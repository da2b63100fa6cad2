//! Decoders on any bytes.

use slotcast::internals::{FrameReader, kind};
use slotcast::wire::{
    CALL_FRAME_MAX, CallHead, Chunk, Hello, Item, Malformed, Reply, Request, StreamDecoder,
    StreamHead, Update,
};

/// An item that outlives its input.
#[derive(PartialEq, Eq, Debug)]
enum Owned {
    Head(StreamHead),
    Frame(u64, Vec<u8>),
}

/// The first byte says how long bodies may be and how the rest is cut.
pub(super) fn wire(data: &[u8]) {
    let Some((how, stream)) = data.split_first() else { return };
    let body_max = [0, 40, 300, 1 << 17][usize::from(how & 3)];
    let whole = decode(body_max, vec![stream]);
    let mut pieces = Vec::new();
    let (mut rest, mut seed) = (stream, u32::from(how >> 2));
    while !rest.is_empty() {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // Mostly short pieces, some long, some empty.
        let length = (seed >> 24) as usize >> (seed >> 20 & 7);
        let (piece, more) = rest.split_at(length.min(rest.len()));
        pieces.push(piece);
        rest = more;
    }
    let call = frames(vec![stream]);
    assert_eq!(frames(pieces.clone()), call, "indifferent to cuts");
    call.0.iter().for_each(|(kind, body)| call_frame(*kind, body));
    assert_eq!(decode(body_max, pieces), whole, "indifferent to cuts");
    let mut hello = Hello::default();
    for item in &whole.0 {
        match item {
            Owned::Head(head) => {
                let mut bytes = Vec::new();
                head.encode(&mut bytes);
                assert_eq!(decode(0, vec![&bytes]).0, [Owned::Head(*head)]);
            }
            Owned::Frame(kind, body) => {
                let _ = hello.decode_field(*kind, body);
                frame(*kind, body);
            }
        }
    }
    let mut bytes = Vec::new();
    hello.encode(&mut bytes);
    let mut again = Hello::default();
    for item in decode(1 << 17, vec![&bytes]).0 {
        if let Owned::Frame(kind, body) = item {
            again.decode_field(kind, &body).expect("encoded");
        }
    }
    assert_eq!(again, hello);
}

/// What pieces hold, and how the stream ends.
fn decode(body_max: usize, pieces: Vec<&[u8]>) -> (Vec<Owned>, Result<(), Malformed>) {
    let (mut decoder, mut items) = (StreamDecoder::new(body_max), Vec::new());
    for mut piece in pieces {
        loop {
            match decoder.next(&mut piece) {
                Ok(Some(Item::Head(head))) => items.push(Owned::Head(head)),
                Ok(Some(Item::Frame { kind, body })) => {
                    assert!(body.len() <= body_max);
                    items.push(Owned::Frame(kind, body.to_vec()));
                }
                Ok(None) => break,
                Err(malformed) => return (items, Err(malformed)),
            }
        }
        assert!(piece.is_empty());
        assert!(decoder.held_bytes() <= body_max + 16, "no more than one frame is held");
    }
    (items, decoder.finish())
}

/// What can be decoded can be encoded, and is the same then.
fn frame(kind: u64, body: &[u8]) {
    let update = Update::decode(kind, body).ok().flatten();
    // Of an artifact with a key that is told of in an unknown way, that is all that is left.
    let is_rest = |update: &Update<'_>| matches!(update, Update::Unknown { kind: kind::KEYED, .. });
    if let Some(update) = update.filter(|update| !is_rest(update)) {
        if let Update::Snapshot { live, .. } = &update {
            assert!(live.iter().all(|slot| (slot.0 as usize) < 8 * live.0.len()));
        }
        if let Update::Partial { advert, have, .. } = &update {
            assert!(have.iter().all(|chunk| chunk < advert.chunks()));
        }
        same(kind, &|out| update.encode(out), &|kind, body| {
            assert_eq!(Update::decode(kind, body), Ok(Some(update.clone())));
        });
    }
    if let Ok(Some(request)) = Request::decode(kind, body) {
        same(kind, &|out| request.encode(out), &|kind, body| {
            assert_eq!(Request::decode(kind, body), Ok(Some(request.clone())));
        });
    }
    if let Ok(Some(chunk)) = Chunk::decode(kind, body) {
        same(kind, &|out| chunk.encode(out), &|kind, body| {
            assert_eq!(Chunk::decode(kind, body), Ok(Some(chunk.clone())));
        });
    }
}

/// The frames that a direction of a call would begin with, and why there are no more.
fn frames(pieces: Vec<&[u8]>) -> (Vec<(u64, Vec<u8>)>, Option<Malformed>) {
    let (mut reader, mut frames) = (FrameReader::default(), Vec::new());
    for mut piece in pieces {
        while !piece.is_empty() {
            let missing = match reader.missing() {
                Ok(missing) => missing,
                Err(malformed) => return (frames, Some(malformed)),
            };
            assert!(0 < missing && missing <= CALL_FRAME_MAX);
            let (taken, rest) = piece.split_at(missing.min(piece.len()));
            reader.push(taken).expect("no more than is missing");
            piece = rest;
            if reader.missing() == Ok(0) {
                let (kind, body) = reader.frame();
                frames.push((kind, body.to_vec()));
                reader.clear();
            }
        }
    }
    (frames, reader.missing().err())
}

/// What can be decoded can be encoded, and is the same then.
fn call_frame(kind: u64, body: &[u8]) {
    let mut bytes = heapless::Vec::<u8, CALL_FRAME_MAX>::new();
    if let Ok(head) = CallHead::decode(kind, body) {
        head.encode(&mut bytes);
        let (again, _) = frames(vec![&bytes]);
        assert_eq!(CallHead::decode(again[0].0, &again[0].1), Ok(head));
    } else if let Ok(reply) = Reply::decode(kind, body) {
        reply.encode(&mut bytes);
        let (again, _) = frames(vec![&bytes]);
        assert_eq!(Reply::decode(again[0].0, &again[0].1), Ok(reply));
    }
}

fn same(kind: u64, encode: &dyn Fn(&mut Vec<u8>), check: &dyn Fn(u64, &[u8])) {
    let mut bytes = Vec::new();
    StreamHead::Requests.encode(&mut bytes);
    encode(&mut bytes);
    let (items, end) = decode(1 << 17, vec![&bytes]);
    assert_eq!(end, Ok(()));
    let [Owned::Head(_), Owned::Frame(again, body)] = &items[..] else { panic!("one frame") };
    assert_eq!(*again, kind);
    check(kind, body);
}
