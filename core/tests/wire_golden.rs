//! Every wire type has a committed encoding (`golden/*.hex`): changing the wire is a visible act.
//! Decoders do not care how the bytes are cut, and end in a value or a typed error wherever the
//! bytes end.

use slotcast::artifact::{Advert, Artifact, CHUNK_BYTES_MIN, Metadata, Proof};
use slotcast::id::{ArtifactId, ChannelId, NodeId, RouteId, Slot, Version};
use slotcast::wire::{
    CHUNK_BITS_MAX, ChannelHello, Chunk, ChunkBits, ChunkRange, Hello, Item, LiveSlots, Malformed,
    QuotaHello, RANGES_MAX, Ranges, Refusal, Request, RouteHello, StreamDecoder, StreamHead,
    Update,
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
    Advert { length: 70_000, key: None, publisher: None, metadata, root: counting(0x80) }
}

/// The streams' heads.
fn heads() -> Vec<(Golden, StreamHead)> {
    vec![
        (golden!("head_hello"), StreamHead::Hello),
        (golden!("head_updates"), StreamHead::Updates(ChannelId(300))),
        (golden!("head_requests"), StreamHead::Requests),
        (golden!("head_chunks"), StreamHead::Chunks(5 << 16 | 3)),
        (golden!("head_twin"), StreamHead::Twin),
        (golden!("head_unknown"), StreamHead::Unknown(99)),
    ]
}

fn updates() -> Vec<(Golden, Update<'static>)> {
    let (slot, version) = (Slot(1000), Version(1 << 40));
    let advert_of = |hops, streamed, spread| {
        let advert = advert();
        Update::Advert { slot, version, hops, streamed, spread, advert }
    };
    let partial = |hops, streamed, spread, have| {
        let (advert, have) = (advert(), ChunkBits(have));
        Update::Partial { slot, version, hops, streamed, spread, advert, have }
    };
    let push = |hops, metadata, bytes| {
        let (slot, version) = (Slot(5), Version(70));
        Update::Push { slot, version, hops, key: None, metadata, bytes }
    };
    let keyed_push = |metadata, bytes| {
        let (slot, version) = (Slot(5), Version(70));
        Update::Push { slot, version, hops: 0, key: Some(u64::MAX - 1), metadata, bytes }
    };
    let advert = Advert { key: Some(7), ..advert() };
    let (have, streamed, spread) = (ChunkBits(&[0b1_0010]), true, true);
    let keyed_partial =
        Update::Partial { slot, version, hops: 0, streamed, spread, advert: advert.clone(), have };
    let (streamed, spread) = (false, false);
    let keyed_advert = Update::Advert { slot, version, hops: 3, streamed, spread, advert };
    let snapshot = |live| Update::Snapshot { version: Version(20_000), live: LiveSlots(live) };
    vec![
        (golden!("update_clear"), Update::Clear { slot: Slot(65_535), version: Version(1) }),
        (golden!("update_push"), push(0, b"m", b"payload")),
        (golden!("update_push_relayed"), push(2, b"m", b"payload")),
        (golden!("update_push_empty"), push(0, b"", b"")),
        (golden!("update_advert"), advert_of(0, false, false)),
        (golden!("update_advert_streamed"), advert_of(0, true, false)),
        (golden!("update_advert_relayed"), advert_of(3, false, false)),
        (golden!("update_advert_spread"), advert_of(0, true, true)),
        (golden!("update_partial"), partial(1, true, false, &[0b1_0010])),
        (golden!("update_partial_spread"), partial(0, true, true, &[0b101])),
        (golden!("update_partial_none"), partial(1, false, false, &[])),
        (golden!("update_keyed_push"), keyed_push(b"m", b"payload")),
        (golden!("update_keyed_push_empty"), keyed_push(b"", b"")),
        (golden!("update_keyed_advert"), keyed_advert),
        (golden!("update_keyed_partial"), keyed_partial),
        (golden!("update_snapshot"), snapshot(&[0x05, 0x00, 0x80])),
        (golden!("update_snapshot_empty"), snapshot(&[])),
    ]
}

fn requests() -> Vec<(Golden, Request)> {
    let id = ArtifactId(counting(0x20));
    let (channel, request) = (ChannelId(7), 1 << 16 | 2);
    let refuse = |refusal| Request::Refuse { request, refusal };
    let receipt = |is_declined| {
        let (slot, version) = (Slot(300), Version(70));
        Request::Receipt { channel, slot, version, is_declined }
    };
    let fetch = |ranges: &[(u32, u32)]| {
        let ranges =
            ranges.iter().map(|(first, count)| ChunkRange { first: *first, count: *count });
        Request::Fetch { request, channel, id, ranges: ranges.collect() }
    };
    vec![
        (golden!("request_fetch"), fetch(&[(3, 256)])),
        (golden!("request_fetch_ranges"), fetch(&[(70, 1), (0, 2), ((1 << 20) - 1, 1)])),
        (golden!("request_cancel"), Request::Cancel { request }),
        (golden!("request_refuse_not_held"), refuse(Refusal::NotHeld)),
        (golden!("request_refuse_busy"), refuse(Refusal::Busy)),
        (golden!("request_refuse_unknown"), refuse(Refusal::UnknownRequest)),
        (golden!("request_refuse_other"), refuse(Refusal::Other(17))),
        (golden!("request_receipt"), receipt(false)),
        (golden!("request_receipt_declined"), receipt(true)),
    ]
}

fn chunks() -> Vec<(Golden, Chunk<'static>)> {
    let proof = Proof::from_slice(&[counting(0x40), counting(0x60)]).unwrap();
    vec![
        (golden!("chunk"), Chunk { index: 0, proof: Proof::new(), bytes: b"a whole artifact" }),
        (golden!("chunk_proof"), Chunk { index: 2, proof, bytes: b"the third of three" }),
    ]
}

/// To an older node it says the same as one without.
#[test]
fn quotas_are_told_in_fields_of_their_own() {
    let mut hello = hello();
    hello.quotas.push(QuotaHello {
        channel: ChannelId(0),
        updates_per_second: 10_000,
        bytes_per_second: 16 << 20,
        burst_ms: 1000,
    });
    let bytes = encoded(|out| hello.encode(out));
    assert_golden(golden!("hello_quotas"), &bytes);
    let (items, _) = decode([&bytes[..]]).unwrap();
    let (mut decoded, mut decoded_without) = (Hello::default(), Hello::default());
    for item in &items[1..] {
        let Owned::Frame(kind, body) = item else { panic!("one head") };
        assert_eq!(decoded.decode_field(*kind, body), Ok(()));
        if *kind == 37 {
            assert_eq!(decoded.decode_field(*kind, body), Err(Malformed::Repeated));
            assert_eq!(Update::decode(*kind, body), Err(Malformed::Misplaced));
        } else {
            assert_eq!(decoded_without.decode_field(*kind, body), Ok(()));
        }
    }
    assert_eq!((decoded, decoded_without), (hello, self::hello()));
}

/// A hello with a channel where the sender matters.
#[test]
fn a_channel_where_the_sender_matters_is_of_a_kind_of_its_own() {
    let mut hello = hello();
    hello.channels[0].sender_matters = true;
    let bytes = encoded(|out| hello.encode(out));
    assert_golden(golden!("hello_sender_matters"), &bytes);
    let (items, _) = decode([&bytes[..]]).unwrap();
    let (mut decoded, mut decoded_by_minor_0) = (Hello::default(), Hello::default());
    for item in &items[1..] {
        let Owned::Frame(kind, body) = item else { panic!("one head") };
        assert_eq!(decoded.decode_field(*kind, body), Ok(()));
        // It passes over the kind.
        if *kind != 36 {
            assert_eq!(decoded_by_minor_0.decode_field(*kind, body), Ok(()));
        }
    }
    assert_eq!(decoded, hello);
    assert_eq!(decoded_by_minor_0.channels, hello.channels[1..]);
}

fn hello() -> Hello {
    let channel =
        |id, slots_max, artifact_bytes_max, push_bytes_max, relay_hops_max| ChannelHello {
            id: ChannelId(id),
            slots_max,
            artifact_bytes_max,
            push_bytes_max,
            relay_hops_max,
            sender_matters: false,
        };
    Hello {
        minor: 0,
        incarnation: 0x0102_0304_0506_0708,
        channels: vec![channel(0, 1024, 16 << 20, 16 << 10, 4), channel(300, 1, 10, 0, 255)],
        routes: Vec::new(),
        quotas: Vec::new(),
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
    let large = Artifact::new(bytes.clone().into(), b"height 7").unwrap();
    let keyed_small = Artifact::keyed(7, b"payload".to_vec().into(), b"m").unwrap();
    let by_publisher = small.by(NodeId(counting(0x40)));
    let keyed_by_publisher = keyed_small.by(NodeId(counting(0x40)));
    let keyed_large = Artifact::keyed(u64::MAX, bytes.into(), b"height 7").unwrap();
    for (golden, artifact) in [
        (golden!("id_small"), small),
        (golden!("id_large"), large),
        (golden!("id_keyed_small"), keyed_small),
        (golden!("id_keyed_large"), keyed_large),
        (golden!("id_by_publisher"), by_publisher),
        (golden!("id_keyed_by_publisher"), keyed_by_publisher),
    ] {
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
fn a_frame_cut_short_is_an_error() {
    let truncated = Err(Malformed::Truncated);
    for (golden, _) in updates() {
        let (kind, body) = frame(&bytes_of(golden));
        for length in 0..body.len() {
            assert_eq!(
                Update::decode(kind, &body[..length]).map(|_| ()),
                truncated,
                "{}",
                golden.0
            );
        }
    }
    for (golden, _) in requests() {
        let (kind, body) = frame(&bytes_of(golden));
        for length in 0..body.len() {
            assert_eq!(Request::decode(kind, &body[..length]).map(|_| ()), truncated);
        }
    }
    for (golden, _) in chunks() {
        let (kind, body) = frame(&bytes_of(golden));
        for length in 0..body.len() {
            assert_eq!(Chunk::decode(kind, &body[..length]).map(|_| ()), truncated);
        }
    }
    let (items, _) = decode([&bytes_of(golden!("hello"))[..]]).unwrap();
    for item in &items[1..] {
        let Owned::Frame(kind, body) = item else { panic!("one head") };
        for length in 0..body.len() {
            assert_eq!(Hello::default().decode_field(*kind, &body[..length]), truncated);
        }
    }
}

#[test]
fn l12_what_a_later_version_appends_to_any_frame_is_passed_over() {
    let and_more = |golden| {
        let (kind, body) = frame(&bytes_of(golden));
        (kind, [&body[..], &[0xff; 9]].concat())
    };
    for (golden, update) in updates() {
        let (kind, body) = and_more(golden);
        assert_eq!(Update::decode(kind, &body), Ok(Some(update)));
    }
    for (golden, request) in requests() {
        let (kind, body) = and_more(golden);
        assert_eq!(Request::decode(kind, &body), Ok(Some(request)));
    }
    for (golden, chunk) in chunks() {
        let (kind, body) = and_more(golden);
        assert_eq!(Chunk::decode(kind, &body), Ok(Some(chunk)));
    }
}

#[test]
fn l12_kinds_that_no_stream_is_known_to_hold_are_passed_over() {
    for kind in [18, 40, (1 << 62) - 1] {
        assert_eq!(Update::decode(kind, b"what a later version says"), Ok(None));
        assert_eq!(Request::decode(kind, b"what a later version says"), Ok(None));
        assert_eq!(Chunk::decode(kind, b"what a later version says"), Ok(None));
        let mut hello = hello();
        assert_eq!(hello.decode_field(kind, b"what a later version says"), Ok(()));
        assert_eq!(hello, self::hello());
    }
}

#[test]
fn l12_an_unknown_update_names_its_slot_and_an_unknown_request_its_number() {
    let (slot, version) = (Slot(9), Version(70));
    for kind in [6, 7] {
        let body = [9, 0x40, 70, 1, 2, 3];
        let unknown = Update::Unknown { kind, slot, version };
        assert_eq!(Update::decode(kind, &body), Ok(Some(unknown)));
        assert_eq!(Update::decode(kind, &body[..2]), Err(Malformed::Truncated));
        assert_eq!(Update::decode(kind, &[9, 0]), Err(Malformed::OutOfRange), "version 0");
        assert_eq!(Request::decode(kind, &body), Err(Malformed::Misplaced));
        assert_eq!(Chunk::decode(kind, &body), Err(Malformed::Misplaced));
    }
    for kind in 11..=15 {
        let unknown = Request::Unknown { kind, request: 300 };
        assert_eq!(Request::decode(kind, &[0x41, 44, 9, 9]), Ok(Some(unknown)));
        assert_eq!(Request::decode(kind, &[0x41]), Err(Malformed::Truncated));
        assert_eq!(Update::decode(kind, &[0x41, 44]), Err(Malformed::Misplaced));
    }
}

/// The frames of a committed stream, and of this version the kinds and fields that it knows.
fn frames_of(golden: Golden) -> Vec<(u64, Vec<u8>)> {
    let (items, is_whole) = decode([&bytes_of(golden)[..]]).expect("well-formed");
    assert!(is_whole);
    let frame = |item: &Owned| match item {
        Owned::Frame(kind, body) => (*kind, body.clone()),
        Owned::Head(head) => panic!("another head: {head:?}"),
    };
    items[1..].iter().map(frame).collect()
}

/// Updates as a later minor version might send them: an advert with a field more, a kind that does
/// not exist, another of it that is longer than what is held, a kind that no stream has, a clear.
#[test]
fn l12_of_updates_of_the_next_minor_version_the_known_part_is_read() {
    let frames = frames_of(golden!("updates_minor_2"));
    let update = |(kind, body): &(u64, Vec<u8>)| {
        Update::decode(*kind, body).expect("well-formed").map(|update| {
            let mut bytes = Vec::new();
            update.encode(&mut bytes);
            bytes
        })
    };
    let known = |update: Update<'_>| Some(encoded(|out| update.encode(out)));
    let (hops, streamed, spread) = (0, false, false);
    let (slot, version) = (Slot(4), Version(8));
    let unknown =
        |kind, slot, version| Update::Unknown { kind, slot: Slot(slot), version: Version(version) };
    let expected = [
        known(Update::Advert { slot, version, hops, streamed, spread, advert: advert() }),
        known(unknown(6, 4, 9)),
        known(unknown(7, 300, 10)),
        None,
        known(Update::Clear { slot: Slot(5), version: Version(11) }),
    ];
    assert_eq!(frames.iter().map(update).collect::<Vec<_>>(), expected);
}

/// A key is part of the id: whoever does not know what is said under it must not take it for something
/// else. Minor version 0 does not know the kind at all.
#[test]
fn l12_of_an_artifact_with_a_key_told_of_in_an_unknown_way_the_slot_is_read() {
    let (_, body) = frame(&bytes_of(golden!("update_keyed_advert")));
    let at_kind = 2 + 8 + 8;
    assert_eq!(body[at_kind], 2, "told of by an advert");
    for kind in [0, 4, 5, 6, 63] {
        let body = [&body[..at_kind], &[kind], &body[at_kind + 1..]].concat();
        let (slot, version) = (Slot(1000), Version(1 << 40));
        assert_eq!(Update::decode(5, &body), Ok(Some(Update::Unknown { kind: 5, slot, version })));
    }
}

#[test]
fn l12_of_requests_of_the_next_minor_version_the_unknown_are_named() {
    let frames = frames_of(golden!("requests_minor_2"));
    let request =
        |(kind, body): &(u64, Vec<u8>)| Request::decode(*kind, body).expect("well-formed");
    let expected = [
        Some(Request::Unknown { kind: 12, request: 77 }),
        Some(Request::Unknown { kind: 15, request: 300 }),
        None,
        Some(Request::Cancel { request: 5 }),
    ];
    assert_eq!(frames.iter().map(request).collect::<Vec<_>>(), expected);
}

/// The chunks of a part stand in one encoding, and are the artifact's.
#[test]
fn parts_have_no_chunks_beyond_the_artifact() {
    let part = |length, bits: &[u8]| {
        let advert = Advert { length, ..advert() };
        let (slot, version, have) = (Slot(1), Version(1), ChunkBits(bits));
        let (hops, streamed, spread) = (0, false, false);
        let part = Update::Partial { slot, version, hops, streamed, spread, advert, have };
        let (kind, body) = frame(&encoded(|out| part.encode(out)));
        let decoded = Update::decode(kind, &body).map(|decoded| decoded == Some(part));
        decoded.map(|is_same| assert!(is_same))
    };
    // Five chunks.
    assert_eq!(part(70_000, &[0b1_1111]), Ok(()));
    assert_eq!(part(70_000, &[0b10_0000]), Err(Malformed::OutOfRange));
    assert_eq!(part(70_000, &[0, 1]), Err(Malformed::OutOfRange));
    assert_eq!(part(70_000, &[1, 0]), Err(Malformed::OutOfRange), "not its one encoding");
    assert_eq!(part(70_000, &[0]), Err(Malformed::OutOfRange), "not its one encoding");
    // 256, and one more.
    let full = [0xff; CHUNK_BITS_MAX];
    assert_eq!(part(256 << 20, &full), Ok(()));
    assert_eq!(part((256 << 20) + 1, &full), Err(Malformed::OutOfRange));
    assert_eq!(part((256 << 20) + 1, &[]), Err(Malformed::OutOfRange));
    assert!(ChunkBits(&[0b1000_0001, 0b10]).iter().eq([0, 7, 9]));
}

/// A hello as a later minor version might send it: new fields, and more in the known ones.
#[test]
fn l12_of_a_hello_of_the_next_minor_version_the_known_part_is_read() {
    let mut hello = Hello::default();
    let (items, _) = decode([&bytes_of(golden!("hello_minor_2"))[..]]).expect("well-formed");
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
        in_flight_bytes_max: 16 << 20,
        knows_grants: true,
    };
    let (channels, routes) = (vec![channel], vec![route]);
    let incarnation = 0x0102_0304_0506_0708;
    let expected = Hello { minor: 2, incarnation, channels, routes, quotas: Vec::new() };
    assert_eq!(hello, expected);
    // Told again, only what is known is left.
    let mut told = Vec::new();
    hello.encode(&mut told);
    assert!(told.len() < bytes_of(golden!("hello_minor_2")).len());
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
        update(1, &[&[1, 1, 0, 0x40, 129][..], &[0; 129]].concat()),
        Some(Malformed::OutOfRange)
    );
    assert_eq!(update(1, &[1, 1, 0x41, 0, 0, 0]), Some(Malformed::OutOfRange), "256 hops");
    let hops = [&[1, 1, 0x41, 0, 0, 1, 0][..], &[0; 32]].concat();
    assert_eq!(update(2, &hops), Some(Malformed::OutOfRange), "256 hops");
    let length = [&[1, 1, 0, 0, 0xc0, 0, 1, 0, 0, 0, 0, 1, 0][..], &[0; 32]].concat();
    assert_eq!(update(2, &length), Some(Malformed::OutOfRange), "more than 1 TiB");
    let fetch = |ranges: &[u8]| Request::decode(8, &[&[1, 1][..], &[0; 32], ranges].concat());
    assert_eq!(fetch(&[0]), Err(Malformed::OutOfRange), "no ranges");
    assert_eq!(fetch(&[1, 3, 0]), Err(Malformed::OutOfRange), "no chunks");
    let most = [&[RANGES_MAX as u8][..], &[1; 2 * RANGES_MAX]].concat();
    let ranges = Ranges::from_iter([ChunkRange { first: 1, count: 1 }; RANGES_MAX]);
    let (request, channel, id) = (1, ChannelId(1), ArtifactId([0; 32]));
    assert_eq!(fetch(&most), Ok(Some(Request::Fetch { request, channel, id, ranges })));
    let more = [&[RANGES_MAX as u8 + 1][..], &[1; 2 * RANGES_MAX + 2]].concat();
    assert_eq!(fetch(&more), Err(Malformed::OutOfRange), "too many ranges");
    let proof = [&[0, 21][..], &[0; 21 * 32]].concat();
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
