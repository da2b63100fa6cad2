//! What calls put on the wire is committed (`../golden`), and does not depend on how it is cut.

use slotcast::id::{ChannelId, RouteId};
use slotcast::wire::{
    CallHead, CallRefusal, CallReset, ChannelHello, Hello, Item, Malformed, Reply, RouteHello,
    StreamDecoder,
};

use crate::solo::{Solo, frame, reply};
use crate::web::{ROUTE, body, config};

macro_rules! golden {
    ($name:literal) => {
        ($name, include_str!(concat!("../golden/", $name, ".hex")))
    };
}

/// Name and committed bytes.
type Golden = (&'static str, &'static str);

#[track_caller]
fn assert_golden((name, hex): Golden, encoded: &[u8]) {
    let encoded: String = encoded.iter().map(|byte| format!("{byte:02x}")).collect();
    let hex: String = hex.split_whitespace().collect();
    assert_eq!(encoded, hex, "the encoding of {name} has changed");
}

fn heads() -> Vec<(Golden, CallHead)> {
    let head = |route, timeout_ms, prepaid, length| CallHead {
        route: RouteId(route),
        timeout_ms,
        prepaid,
        length,
        wants_answer: true,
    };
    let tell = CallHead { wants_answer: false, ..head(7, 1000, 0, 5) };
    vec![
        (golden!("call_head"), head(300, 10_000, 16 << 10, 1_000_000)),
        (golden!("call_head_small"), head(7, 1, 0, 0)),
        (golden!("call_head_large"), head(u16::MAX, u32::MAX, u32::MAX, u32::MAX)),
        (golden!("call_head_tell"), tell),
    ]
}

fn replies() -> Vec<(Golden, Reply)> {
    vec![
        (golden!("reply_continue"), Reply::Continue),
        (golden!("reply_grant"), Reply::Grant { until: 1 << 18 }),
        (golden!("reply_answer"), Reply::Answer { length: 70_000 }),
        (golden!("reply_busy"), Reply::Busy { retry_after_ms: 1234 }),
        (golden!("reply_not_served"), Reply::Refused(CallRefusal::NotServed)),
        (golden!("reply_dropped"), Reply::Refused(CallRefusal::Dropped)),
        (golden!("reply_refused_other"), Reply::Refused(CallRefusal::Other(17))),
    ]
}

/// Kind and body of a frame whose kind and length are of one byte each.
fn parts(frame: &[u8]) -> (u64, &[u8]) {
    assert_eq!(usize::from(frame[1]), frame.len() - 2);
    (frame[0].into(), &frame[2..])
}

#[test]
fn heads_and_replies_are_as_committed() {
    for (golden, head) in heads() {
        let bytes = frame(|out| head.encode(out));
        assert_golden(golden, &bytes);
        let (kind, body) = parts(&bytes);
        assert_eq!(CallHead::decode(kind, body), Ok(head));
        assert_eq!(Reply::decode(kind, body), Err(Malformed::Misplaced));
    }
    for (golden, said) in replies() {
        let bytes = reply(said);
        assert_golden(golden, &bytes);
        let (kind, body) = parts(&bytes);
        assert_eq!(Reply::decode(kind, body), Ok(said));
        assert_eq!(CallHead::decode(kind, body), Err(Malformed::Misplaced));
    }
    assert_eq!(CallHead::decode(63, &[1, 1, 1, 1]), Err(Malformed::UnknownKind));
    assert_eq!(Reply::decode(63, &[]), Err(Malformed::UnknownKind));
}

#[test]
fn codes_of_resets_are_as_they_were() {
    for (why, code) in
        [(CallReset::Unneeded, 1), (CallReset::DeadlineMax, 3), (CallReset::TooSlow, 4)]
    {
        assert_eq!(why.code(), code);
        assert_eq!(CallReset::from_code(code.into()), why);
    }
    assert_eq!(CallReset::from_code(1 << 60), CallReset::Unneeded, "of a later version");
}

#[test]
fn a_hello_with_routes_is_as_committed() {
    let route = |id, request_bytes_max, response_bytes_max, in_flight| RouteHello {
        id: RouteId(id),
        request_bytes_max,
        response_bytes_max,
        in_flight_max: in_flight,
        in_flight_bytes_max: u64::from(in_flight) << 18,
        knows_grants: in_flight > 0,
    };
    let channel = ChannelHello {
        id: ChannelId(1),
        slots_max: 1024,
        artifact_bytes_max: 16 << 20,
        push_bytes_max: 16 << 10,
        relay_hops_max: 4,
        sender_matters: false,
    };
    let hello = Hello {
        minor: 0,
        incarnation: 0x0102_0304_0506_0708,
        channels: vec![channel],
        routes: vec![route(7, 1 << 20, 1 << 20, 64), route(300, 0, 128 << 20, 0)],
        quotas: Vec::new(),
    };
    let mut bytes = Vec::new();
    hello.encode(&mut bytes);
    assert_golden(golden!("hello_routes"), &bytes);
    let (mut decoder, mut decoded) = (StreamDecoder::new(64), Hello::default());
    let mut input = &bytes[..];
    while let Some(item) = decoder.next(&mut input).expect("well-formed") {
        let Item::Frame { kind, body } = item else { continue };
        assert_eq!(decoded.decode_field(kind, body), Ok(()));
        if kind == 35 {
            let mut later = Hello::default();
            assert_eq!(later.decode_field(kind, &[body, b"\0more"].concat()), Ok(()));
            assert_eq!(later.routes[..], decoded.routes[decoded.routes.len() - 1..]);
            assert_eq!(decoded.decode_field(kind, body), Err(Malformed::Repeated));
            let last = decoded.routes.last().expect("just decoded");
            // The bytes that may be in flight and, behind them, flags are fields that it may have.
            let with_bytes = body.len() - usize::from(last.knows_grants);
            let known = with_bytes - if last.in_flight_bytes_max == 0 { 1 } else { 4 };
            for length in 0..body.len() {
                let mut cut = Hello::default();
                let decoded = cut.decode_field(kind, &body[..length]);
                if length == known {
                    assert_eq!(decoded, Ok(()), "an older node does not say it");
                    let unknown = RouteHello { in_flight_bytes_max: (1 << 62) - 1, ..*last };
                    assert_eq!(cut.routes, [RouteHello { knows_grants: false, ..unknown }]);
                } else if length == with_bytes {
                    assert_eq!(decoded, Ok(()), "nor this");
                    assert_eq!(cut.routes, [RouteHello { knows_grants: false, ..*last }]);
                } else {
                    assert_eq!(decoded, Err(Malformed::Truncated));
                }
            }
        }
    }
    assert_eq!(decoded, hello);
}

#[test]
fn a_hello_names_a_route_once_and_not_too_many() {
    let field = |id: u8| [&[0x40, id][..], &[1, 1, 1]].concat();
    let mut hello = Hello::default();
    for id in 0..64 {
        assert_eq!(hello.decode_field(35, &field(id)), Ok(()));
        assert_eq!(hello.decode_field(35, &field(id)), Err(Malformed::Repeated));
    }
    assert_eq!(hello.decode_field(35, &field(64)), Err(Malformed::Repeated));
}

#[test]
fn a_frame_cut_short_is_an_error_and_one_with_more_behind_it_is_not() {
    let more = |body: &[u8]| [body, b"what a later version says"].concat();
    for (_, head) in heads() {
        let bytes = frame(|out| head.encode(out));
        let (kind, body) = parts(&bytes);
        // Flags are not there if there are none.
        let known = body.len() - usize::from(!head.wants_answer);
        for length in 0..body.len() {
            let decoded = CallHead::decode(kind, &body[..length]);
            let without_flags = Ok(CallHead { wants_answer: true, ..head });
            let cut = Err(Malformed::Truncated);
            assert_eq!(decoded, if length == known { without_flags } else { cut });
        }
        assert_eq!(CallHead::decode(kind, &more(body)), Ok(head));
    }
    for (_, said) in replies() {
        let bytes = reply(said);
        let (kind, body) = parts(&bytes);
        for length in 0..body.len() {
            assert_eq!(Reply::decode(kind, &body[..length]), Err(Malformed::Truncated));
        }
        assert_eq!(Reply::decode(kind, &more(body)), Ok(said));
    }
}

/// Through the machine, which gathers frames: cut in two anywhere, and in pieces of any length.
#[test]
fn a_machine_does_not_care_how_bytes_are_cut() {
    let head = CallHead {
        route: ROUTE,
        timeout_ms: 70_000,
        prepaid: 1 << 20,
        length: 40,
        wants_answer: true,
    };
    let request = [frame(|out| head.encode(out)), body(40).to_vec()].concat();
    let answer = [reply(Reply::Answer { length: 70 }), body(70).to_vec()].concat();
    let cuts = |whole: &[u8]| -> Vec<Vec<Vec<u8>>> {
        let halves = (0..=whole.len()).map(|at| vec![whole[..at].to_vec(), whole[at..].to_vec()]);
        let chunks = |length| whole.chunks(length).map(<[u8]>::to_vec).collect();
        halves.chain((1..9).map(chunks)).collect()
    };
    for pieces in cuts(&request) {
        let mut solo = Solo::new(&config(|_| {}), 1);
        let stream = solo.open(0);
        pieces.iter().for_each(|piece| assert_eq!(solo.data(0, stream, piece), Ok(piece.len())));
        assert_eq!(solo.request().body, body(40));
    }
    for pieces in cuts(&answer) {
        let mut solo = Solo::new(&config(|_| {}), 1);
        let (_, stream) = solo.call(0, 5);
        pieces.iter().for_each(|piece| assert_eq!(solo.data(0, stream, piece), Ok(piece.len())));
        solo.end(0, stream).expect("complete");
        assert_eq!(solo.machine.poll_outcome().expect("answered").0.result, Ok(body(70)));
    }
}
