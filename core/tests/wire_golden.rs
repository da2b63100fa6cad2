//! Every wire type has a committed encoding (`golden/*.hex`): changing the wire is a visible act.
//! Decoders do not care how the bytes are cut, and end in a value or a typed error wherever the
//! bytes end.

use slotcast::artifact::{Advert, Artifact, CHUNK_BYTES_MIN, Metadata, Proof};
use slotcast::id::{ArtifactId, ChannelId, RouteId, Slot, Version};
use slotcast::wire::{
    ChannelHello, Chunk, Hello, Item, LiveSlots, Malformed, Refusal, Request, RouteHello,
    StreamDecoder, StreamHead, Update,
};

/// Name and committed bytes.
type Golden = (&'static str, &'static str);

macro_rules! golden {
    ($name:literal) => {
        ($name, include_str!(concat!("golden/", $name, ".hex")))
    };
}

fn bytes_of((name, hex): Golden) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    assert!(!digits.is_empty() && digits.len().is_multiple_of(2), "{name}");
    let byte = |pair: &[u8]| {
        let pair = std::str::from_utf8(pair).expect("ASCII");
        u8::from_str_radix(pair, 16).unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    digits.chunks(2).map(byte).collect()
}

#[track_caller]
fn assert_golden(golden: Golden, encoded: &[u8]) {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(hex(encoded), hex(&bytes_of(golden)), "the encoding of {} has changed", golden.0);
}

fn counting<const N: usize>(start: u8) -> [u8; N] {
    std::array::from_fn(|at| start.wrapping_add(at as u8))
}

fn advert() -> Advert {
    let metadata = Metadata::from_slice(b"height 7").unwrap();
    Advert { length: 70_000, metadata, root: counting(0x80) }
}

/// The streams' heads.
fn heads() -> Vec<(Golden, StreamHead)> {
    vec![
        (golden!("head_hello"), StreamHead::Hello),
        (golden!("head_updates"), StreamHead::Updates(ChannelId(300))),
        (golden!("head_requests"), StreamHead::Requests),
        (golden!("head_chunks"), StreamHead::Chunks(5 << 16 | 3)),
        (golden!("head_unknown"), StreamHead::Unknown(99)),
    ]
}

fn updates() -> Vec<(Golden, Update<'static>)> {
    let advert_of = |hops, streamed| Update::Advert {
        slot: Slot(1000),
        version: Version(1 << 40),
        hops,
        streamed,
        advert: advert(),
    };
    let push = |metadata: &[u8], bytes| Update::Push {
        slot: Slot(5),
        version: Version(70),
        metadata: Metadata::from_slice(metadata).unwrap(),
        bytes,
    };
    let snapshot = |live| Update::Snapshot { version: Version(20_000), live: LiveSlots(live) };
    vec![
        (golden!("update_clear"), Update::Clear { slot: Slot(65_535), version: Version(1) }),
        (golden!("update_push"), push(b"m", b"payload")),
        (golden!("update_push_empty"), push(b"", b"")),
        (golden!("update_advert"), advert_of(0, false)),
        (golden!("update_advert_streamed"), advert_of(0, true)),
        (golden!("update_advert_relayed"), advert_of(3, false)),
        (golden!("update_snapshot"), snapshot(&[0x05, 0x00, 0x80])),
        (golden!("update_snapshot_empty"), snapshot(&[])),
    ]
}

fn requests() -> Vec<(Golden, Request)> {
    let id = ArtifactId(counting(0x20));
    let (channel, request) = (ChannelId(7), 1 << 16 | 2);
    let refuse = |refusal| Request::Refuse { request, refusal };
    vec![
        (golden!("request_fetch"), Request::Fetch { request, channel, id, first: 3, count: 256 }),
        (golden!("request_cancel"), Request::Cancel { request }),
        (golden!("request_refuse_not_held"), refuse(Refusal::NotHeld)),
        (golden!("request_refuse_busy"), refuse(Refusal::Busy)),
        (golden!("request_refuse_other"), refuse(Refusal::Other(17))),
    ]
}

fn chunks() -> Vec<(Golden, Chunk<'static>)> {
    let proof = Proof::from_slice(&[counting(0x40), counting(0x60)]).unwrap();
    vec![
        (golden!("chunk"), Chunk { index: 0, proof: Proof::new(), bytes: b"a whole artifact" }),
        (golden!("chunk_proof"), Chunk { index: 2, proof, bytes: b"the third of three" }),
    ]
}

fn hello() -> Hello {
    let channel =
        |id, slots_max, artifact_bytes_max, push_bytes_max, relay_hops_max| ChannelHello {
            id: ChannelId(id),
            slots_max,
            artifact_bytes_max,
            push_bytes_max,
            relay_hops_max,
        };
    Hello {
        minor: 0,
        incarnation: 0x0102_0304_0506_0708,
        channels: vec![channel(0, 1024, 16 << 20, 16 << 10, 4), channel(300, 1, 10, 0, 255)],
        routes: Vec::new(),
    }
}

/// An item that outlives its input.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Owned {
    Head(StreamHead),
    Frame(u64, Vec<u8>),
}

const BODY_MAX: usize = 1024;

fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<(Vec<Owned>, bool), Malformed> {
    let (mut decoder, mut items) = (StreamDecoder::new(BODY_MAX), Vec::new());
    for mut piece in pieces {
        while let Some(item) = decoder.next(&mut piece)? {
            items.push(match item {
                Item::Head(head) => Owned::Head(head),
                Item::Frame { kind, body } => Owned::Frame(kind, body.to_vec()),
            });
        }
        assert!(piece.is_empty(), "all input is taken");
        assert!(decoder.held_bytes() <= BODY_MAX + 16);
    }
    Ok((items, decoder.finish().is_ok()))
}

/// The one frame in `bytes`.
fn frame(bytes: &[u8]) -> (u64, Vec<u8>) {
    let mut stream = Vec::new();
    StreamHead::Requests.encode(&mut stream);
    stream.extend_from_slice(bytes);
    let (items, is_whole) = decode([&stream[..]]).unwrap();
    assert!(is_whole);
    let [Owned::Head(StreamHead::Requests), Owned::Frame(kind, body)] = &items[..] else {
        panic!("one frame: {items:?}")
    };
    (*kind, body.clone())
}

fn encoded(encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(&mut bytes);
    bytes
}

#[test]
fn heads_are_as_committed() {
    for (golden, head) in heads() {
        let bytes = encoded(|out| head.encode(out));
        assert_golden(golden, &bytes);
        assert_eq!(decode([&bytes[..]]), Ok((vec![Owned::Head(head)], true)));
    }
}

#[test]
fn updates_are_as_committed() {
    for (golden, update) in updates() {
        assert_golden(golden, &encoded(|out| update.encode(out)));
        let (kind, body) = frame(&bytes_of(golden));
        assert_eq!(Update::decode(kind, &body), Ok(Some(update)));
        assert_eq!(Request::decode(kind, &body), Err(Malformed::Misplaced));
        assert_eq!(Chunk::decode(kind, &body), Err(Malformed::Misplaced));
        assert_eq!(Hello::default().decode_field(kind, &body), Err(Malformed::Misplaced));
    }
}

#[test]
fn requests_are_as_committed() {
    for (golden, request) in requests() {
        assert_golden(golden, &encoded(|out| request.encode(out)));
        let (kind, body) = frame(&bytes_of(golden));
        assert_eq!(Request::decode(kind, &body), Ok(Some(request)));
        assert_eq!(Update::decode(kind, &body), Err(Malformed::Misplaced));
    }
}

#[test]
fn chunks_are_as_committed() {
    for (golden, chunk) in chunks() {
        assert_golden(golden, &encoded(|out| chunk.encode(out)));
        let (kind, body) = frame(&bytes_of(golden));
        assert_eq!(Chunk::decode(kind, &body), Ok(Some(chunk)));
        assert_eq!(Update::decode(kind, &body), Err(Malformed::Misplaced));
    }
}

#[test]
fn hello_is_as_committed() {
    let bytes = encoded(|out| hello().encode(out));
    assert_golden(golden!("hello"), &bytes);
    let (items, is_whole) = decode([&bytes[..]]).unwrap();
    assert!(is_whole);
    let mut decoded = Hello::default();
    for item in &items[1..] {
        let Owned::Frame(kind, body) = item else { panic!("one head") };
        assert_eq!(decoded.decode_field(*kind, body), Ok(()));
        assert_eq!(Update::decode(*kind, body), Err(Malformed::Misplaced));
    }
    assert_eq!((&items[0], decoded), (&Owned::Head(StreamHead::Hello), hello()));
}

/// Ids are on the wire, too: what goes into them is as fixed as the frames.
#[test]
fn ids_and_roots_are_as_committed() {
    let bytes: Vec<u8> = (0..12 * CHUNK_BYTES_MIN + 5).map(|at| (at / 251) as u8).collect();
    let small = Artifact::new(b"payload".to_vec().into(), b"m").unwrap();
    let large = Artifact::new(bytes.into(), b"height 7").unwrap();
    for (golden, artifact) in [(golden!("id_small"), small), (golden!("id_large"), large)] {
        assert_golden(golden, &[artifact.id().0, artifact.advert().root].concat());
    }
}

/// One stream of each type, with every frame that it may hold and unknown ones between.
fn streams() -> Vec<Vec<u8>> {
    let unknown = |out: &mut Vec<u8>| {
        out.extend_from_slice(&[40, 3, 1, 2, 3]);
        // Longer than what is held.
        out.extend_from_slice(&[41, 0x44, 0x10]);
        out.resize(out.len() + 0x410, 9);
    };
    let mut streams = vec![encoded(|out| {
        StreamHead::Updates(ChannelId(300)).encode(out);
        updates().iter().for_each(|(_, update)| update.encode(out));
        unknown(out);
        chunks().iter().for_each(|(_, chunk)| chunk.encode(out));
    })];
    streams.push(encoded(|out| {
        StreamHead::Requests.encode(out);
        unknown(out);
        requests().iter().for_each(|(_, request)| request.encode(out));
    }));
    streams.push(encoded(|out| {
        StreamHead::Chunks(1 << 40).encode(out);
        chunks().iter().for_each(|(_, chunk)| chunk.encode(out));
        unknown(out);
    }));
    streams.push(encoded(|out| {
        hello().encode(out);
        unknown(out);
    }));
    streams
}

#[test]
fn decoders_do_not_care_how_streams_are_cut() {
    for stream in streams() {
        let whole = decode([&stream[..]]);
        assert!(whole.as_ref().is_ok_and(|(items, is_whole)| *is_whole && items.len() > 2));
        for length in 1..70 {
            assert_eq!(decode(stream.chunks(length)), whole, "in pieces of {length}");
        }
        for cut in 0..=stream.len() {
            let (start, end) = stream.split_at(cut);
            assert_eq!(decode([start, end]), whole, "cut at {cut}");
            assert_eq!(decode([start, &[], end]), whole, "cut at {cut}, nothing between");
        }
    }
}

#[test]
fn a_stream_that_ends_early_holds_a_prefix_of_its_items() {
    for stream in streams() {
        let (whole, _) = decode([&stream[..]]).unwrap();
        let mut ends = 0;
        for length in 0..=stream.len() {
            let (items, is_whole) = decode([&stream[..length]]).unwrap();
            assert_eq!(items, whole[..items.len()]);
            ends += usize::from(is_whole);
        }
        // Between items, and behind the long unknown frame, which is none.
        assert_eq!(ends, whole.len() + 1);
    }
}

#[test]
fn a_frame_cut_short_is_an_error_or_a_shorter_value() {
    for (golden, update) in updates() {
        let (kind, body) = frame(&bytes_of(golden));
        for length in 0..body.len() {
            match (Update::decode(kind, &body[..length]), &update) {
                (Ok(Some(Update::Push { bytes: cut, .. })), Update::Push { bytes, .. }) => {
                    assert!(cut.len() < bytes.len() && bytes.starts_with(cut));
                }
                (Ok(Some(Update::Snapshot { live: cut, .. })), Update::Snapshot { live, .. }) => {
                    assert!(cut.0.len() < live.0.len() && live.0.starts_with(cut.0));
                }
                (Err(malformed), _) => assert_eq!(malformed, Malformed::Truncated),
                (decoded, _) => panic!("{}, {length}: {decoded:?}", golden.0),
            }
        }
    }
    for (golden, _) in requests() {
        let (kind, body) = frame(&bytes_of(golden));
        for length in 0..body.len() {
            assert_eq!(Request::decode(kind, &body[..length]), Err(Malformed::Truncated));
        }
    }
    for (golden, chunk) in chunks() {
        let (kind, body) = frame(&bytes_of(golden));
        for length in 0..body.len() {
            match Chunk::decode(kind, &body[..length]) {
                Ok(Some(cut)) => {
                    assert_eq!((cut.index, &cut.proof), (chunk.index, &chunk.proof));
                    assert!(chunk.bytes.starts_with(cut.bytes) && cut.bytes != chunk.bytes);
                }
                decoded => assert_eq!(decoded, Err(Malformed::Truncated)),
            }
        }
    }
    let (items, _) = decode([&bytes_of(golden!("hello"))[..]]).unwrap();
    for item in &items[1..] {
        let Owned::Frame(kind, body) = item else { panic!("one head") };
        for length in 0..body.len() {
            let decoded = Hello::default().decode_field(*kind, &body[..length]);
            assert_eq!(decoded, Err(Malformed::Truncated));
        }
    }
}

#[test]
fn a_frame_with_bytes_behind_its_last_field_is_an_error() {
    for (golden, update) in updates() {
        let (kind, mut body) = frame(&bytes_of(golden));
        body.push(0);
        let is_open = matches!(update, Update::Push { .. } | Update::Snapshot { .. });
        let decoded = Update::decode(kind, &body);
        assert!(if is_open { decoded.is_ok() } else { decoded == Err(Malformed::Trailing) });
    }
    for (golden, _) in requests() {
        let (kind, mut body) = frame(&bytes_of(golden));
        body.push(0);
        assert_eq!(Request::decode(kind, &body), Err(Malformed::Trailing));
    }
}

#[test]
fn l12_unknown_kinds_are_passed_over() {
    // 3 is reserved for `Partial`.
    for kind in [3, 5, 11, 17, 40, (1 << 62) - 1] {
        assert_eq!(Update::decode(kind, b"what a later version says"), Ok(None));
        assert_eq!(Request::decode(kind, b"what a later version says"), Ok(None));
        assert_eq!(Chunk::decode(kind, b"what a later version says"), Ok(None));
        let mut hello = hello();
        assert_eq!(hello.decode_field(kind, b"what a later version says"), Ok(()));
        assert_eq!(hello, self::hello());
    }
}

/// A hello as a later minor version might send it: new fields, and more in the known ones.
#[test]
fn l12_of_a_hello_of_the_next_minor_version_the_known_part_is_read() {
    let mut hello = Hello::default();
    let (items, _) = decode([&bytes_of(golden!("hello_minor_1"))[..]]).expect("well-formed");
    for item in &items[1..] {
        let Owned::Frame(kind, body) = item else { panic!("a frame") };
        hello.decode_field(*kind, body).expect("what is not known is passed over");
    }
    let channel = self::hello().channels[0];
    let route = RouteHello {
        id: RouteId(7),
        request_bytes_max: 1 << 20,
        response_bytes_max: 1 << 20,
        in_flight_max: 64,
    };
    let (channels, routes) = (vec![channel], vec![route]);
    assert_eq!(hello, Hello { minor: 1, incarnation: 0x0102_0304_0506_0708, channels, routes });
    // Told again, only what is known is left.
    let mut told = Vec::new();
    hello.encode(&mut told);
    assert!(told.len() < bytes_of(golden!("hello_minor_1")).len());
}

#[test]
fn l12_what_a_later_version_appends_to_a_hello_field_is_passed_over() {
    let (items, _) = decode([&bytes_of(golden!("hello"))[..]]).unwrap();
    let mut decoded = Hello::default();
    for item in &items[1..] {
        let Owned::Frame(kind, body) = item else { panic!("one head") };
        let body = [&body[..], b"more"].concat();
        assert_eq!(decoded.decode_field(*kind, &body), Ok(()));
    }
    assert_eq!(decoded, hello());
}

#[test]
fn numbers_beyond_their_range_are_refused() {
    let update = |kind, body: &[u8]| Update::decode(kind, body).err();
    assert_eq!(update(0, &[1, 0]), Some(Malformed::OutOfRange), "version 0");
    let slot = [0xc0, 0, 0, 1, 0, 0, 0, 0, 1];
    assert_eq!(update(0, &slot), Some(Malformed::OutOfRange), "a slot of 33 bits");
    assert_eq!(
        update(1, &[&[1, 1, 0x40, 129][..], &[0; 129]].concat()),
        Some(Malformed::OutOfRange)
    );
    let hops = [&[1, 1, 0x41, 0, 0, 1, 0][..], &[0; 32]].concat();
    assert_eq!(update(2, &hops), Some(Malformed::OutOfRange), "256 hops");
    let length = [&[1, 1, 0, 0, 0xc0, 0, 1, 0, 0, 0, 0, 1, 0][..], &[0; 32]].concat();
    assert_eq!(update(2, &length), Some(Malformed::OutOfRange), "more than 1 TiB");
    let fetch = [&[1, 1, 0, 0][..], &[0; 32]].concat();
    assert_eq!(Request::decode(8, &fetch), Err(Malformed::OutOfRange), "no chunks");
    let proof = [&[0, 25][..], &[0; 25 * 32]].concat();
    assert_eq!(Chunk::decode(16, &proof), Err(Malformed::OutOfRange), "a proof too long");
    assert_eq!(decode([&[1, 0x80, 1, 0, 0][..]]), Err(Malformed::OutOfRange), "channel 65,536");
}

#[test]
fn a_hello_names_a_channel_once_and_not_too_many() {
    let field = |id: u8| [&[0x40, id][..], &[1, 1, 1, 1]].concat();
    let mut hello = Hello::default();
    for id in 0..64 {
        assert_eq!(hello.decode_field(34, &field(id)), Ok(()));
        assert_eq!(hello.decode_field(34, &field(id)), Err(Malformed::Repeated));
    }
    assert_eq!(hello.decode_field(34, &field(64)), Err(Malformed::Repeated));
}
