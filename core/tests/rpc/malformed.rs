//! Bad input: what a peer provably did wrong is a fault that names the rule, ends that call or
//! request, and leaves nothing behind; what is merely odd is not.

use std::time::Duration;

use slotcast::error::{AnswerError, CallError, Fault};
use slotcast::rpc::{CallStream, Output, Refusal};
use slotcast::wire::{CallHead, EAGER_BYTES_MAX, Malformed, Reply};

use crate::solo::{Solo, frame, head, head_of, reply};
use crate::web::{ROUTE, body, config, ms, peer};

const TRUNCATED: Fault = Fault::Malformed(Malformed::Truncated);
const TRAILING: Fault = Fault::Malformed(Malformed::Trailing);
const MISPLACED: Fault = Fault::Malformed(Malformed::Misplaced);
const UNKNOWN_KIND: Fault = Fault::Malformed(Malformed::UnknownKind);
const TOO_LONG: Fault = Fault::Malformed(Malformed::FrameTooLong);
const OUT_OF_RANGE: Fault = Fault::Malformed(Malformed::OutOfRange);

/// Frames that neither direction of a call may begin with, and why: nothing behind them is looked
/// at.
fn bad_frames() -> Vec<(Vec<u8>, Fault)> {
    let mut frames = vec![
        (vec![63, 0], UNKNOWN_KIND),
        (vec![3, 0], MISPLACED),
        (vec![6, 0], UNKNOWN_KIND),
        (vec![0xff; 8], UNKNOWN_KIND),
        // 65 bytes, and a number beyond all.
        (vec![48, 63], TOO_LONG),
        (vec![50, 63], TOO_LONG),
        (vec![1, 0xc0, 0, 0, 1, 0, 0, 0, 0], TOO_LONG),
        (vec![50, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], TOO_LONG),
    ];
    let elsewhere = [0, 1, 2, 4, 5, 8, 9, 10, 16, 17, 32, 33, 34, 35, 36];
    frames.extend(elsewhere.map(|kind| (vec![kind, 0], MISPLACED)));
    frames
}

/// A request that begins like this is a fault; how the bytes are cut does not matter.
#[track_caller]
fn assert_bad_request(bytes: &[u8], fault: Fault) {
    for cut in [1, usize::MAX] {
        let mut solo = Solo::new(&config(|_| {}), 1);
        let stream = solo.open(0);
        let handed = bytes.chunks(cut.min(bytes.len()));
        let results: Vec<_> = handed.map(|piece| solo.data(0, stream, piece)).collect();
        let faults: Vec<_> = results.into_iter().filter_map(Result::err).collect();
        assert_eq!(faults, [fault], "{bytes:?}");
        assert_eq!((solo.outputs(), solo.sent()), (vec![], vec![]), "who hands it in closes it");
        assert_eq!(solo.wants(0, stream), 0);
        solo.assert_quiet();
    }
}

/// The same of what is said to a call with a request of `length` bytes, of which all that may be
/// sent was.
#[track_caller]
fn assert_bad_reply(length: usize, bytes: &[u8], fault: Fault) {
    for cut in [1, usize::MAX] {
        let mut solo = Solo::new(&config(|_| {}), 1);
        let (call, stream) = solo.call(0, length);
        let handed = bytes.chunks(cut.min(bytes.len()));
        let results: Vec<_> = handed.map(|piece| solo.data(0, stream, piece)).collect();
        let faults: Vec<_> = results.into_iter().filter_map(Result::err).collect();
        assert_eq!(faults, [fault], "{bytes:?}");
        breach(&mut solo, call);
    }
}

/// The one call has ended for its peer's breach.
#[track_caller]
fn breach(solo: &mut Solo, call: slotcast::rpc::CallId) {
    let (outcome, permit) = solo.machine.poll_outcome().expect("it has ended");
    solo.machine.release(permit);
    assert_eq!((outcome.call, outcome.result), (call, Err(CallError::Fault)));
    assert!(solo.machine.poll_outcome().is_none());
    solo.assert_quiet();
}

#[test]
fn frames_that_have_no_place_in_a_call() {
    for (bytes, fault) in bad_frames() {
        assert_bad_request(&bytes, fault);
        assert_bad_reply(10, &bytes, fault);
    }
    for kind in 49..=53 {
        assert_bad_request(&[kind, 1, 0], MISPLACED);
    }
    assert_bad_reply(10, &head(5), MISPLACED);
}

#[test]
fn heads_that_are_cut_or_out_of_range() {
    let whole = head(100_000);
    for fields in 0..4 {
        assert_bad_request(
            &[&[48, fields], &whole[2..2 + usize::from(fields)]].concat(),
            TRUNCATED,
        );
    }
    let beyond = [0xc0, 0, 0, 1, 0, 0, 0, 0];
    for at in 0..4 {
        let mut fields = vec![vec![7]; 4];
        fields[at] = beyond.to_vec();
        assert_bad_request(&[vec![48, 11], fields.concat()].concat(), OUT_OF_RANGE);
    }
    assert_bad_request(&[48, 7, 0x80, 1, 0, 0, 1, 1, 1], OUT_OF_RANGE);
    // Nor in the replies.
    assert_bad_reply(10, &[50, 0], TRUNCATED);
    assert_bad_reply(10, &[51, 0], TRUNCATED);
    assert_bad_reply(10, &[52, 0], TRUNCATED);
    assert_bad_reply(10, &[52, 1, 0x40], TRUNCATED);
    assert_bad_reply(10, &[&[50, 8], &beyond[..]].concat(), OUT_OF_RANGE);
    assert_bad_reply(10, &[&[51, 8], &beyond[..]].concat(), OUT_OF_RANGE);
}

/// As long as a frame may be; what a later version appends is passed over.
#[test]
fn heads_and_replies_may_have_fields_that_are_not_known() {
    let longer = |frame: &[u8]| {
        let mut frame = frame.to_vec();
        frame.resize(64, 0xee);
        frame[1] = 62;
        frame
    };
    let mut solo = Solo::new(&config(|_| {}), 1);
    let stream = solo.open(0);
    let bytes = [longer(&head(5)), body(5).to_vec()].concat();
    assert_eq!(solo.data(0, stream, &bytes), Ok(bytes.len()));
    assert_eq!(solo.request().body, body(5));
    let (_, stream) = solo.call(0, 100_000);
    let bytes = longer(&reply(Reply::Continue));
    assert_eq!(solo.data(0, stream, &bytes), Ok(64));
    solo.sent();
    let bytes = [longer(&reply(Reply::Answer { length: 3 })), body(3).to_vec()].concat();
    assert_eq!(solo.data(0, stream, &bytes), Ok(67));
    solo.end(0, stream).expect("complete");
    assert_eq!(solo.machine.poll_outcome().expect("answered").0.result, Ok(body(3)));
}

#[test]
fn a_request_beyond_the_bound_is_a_fault_before_its_body_comes() {
    let longest = 1 << 20;
    assert_bad_request(&head(longest + 1), Fault::RequestTooLong);
    assert_bad_request(&head(u32::MAX as usize), Fault::RequestTooLong);
    let mut solo = Solo::new(&config(|_| {}), 1);
    let stream = solo.open(0);
    assert!(solo.data(0, stream, &head(longest)).is_ok());
}

/// Wherever it ends: in the head, behind it, in the body.
#[test]
fn a_request_that_ends_early_is_a_fault() {
    let whole = [head(100), body(100).to_vec()].concat();
    for length in 0..whole.len() {
        let mut solo = Solo::new(&config(|_| {}), 1);
        let stream = solo.open(0);
        assert_eq!(solo.data(0, stream, &whole[..length]), Ok(length));
        assert_eq!(solo.end(0, stream), Err(TRUNCATED), "after {length} bytes");
        solo.assert_quiet();
    }
}

/// Unread, an end is not seen; it is a fault once there is room.
#[test]
fn a_request_that_ends_early_while_it_waits_is_a_fault_later() {
    let mut solo = Solo::new(&config(|route| route.in_flight_max = 1), 1);
    let (_, first) = solo.asked(0, 1);
    let stream = solo.ask(0, 100);
    assert_eq!(solo.machine.handle_end(peer(0), stream), Ok(()));
    assert!(solo.machine.refuse(solo.now, first.id, Refusal::Dropped));
    solo.settle();
    assert_eq!(solo.wants(0, stream), 100);
    assert_eq!(solo.end(0, stream), Err(TRUNCATED));
    solo.sent();
    solo.assert_quiet();
}

#[test]
fn bytes_behind_a_request_are_a_fault_wherever_it_has_come_to() {
    // Complete; the application's; being answered.
    for phase in 0..3 {
        let mut solo = Solo::new(&config(|_| {}), 1);
        let stream = solo.ask(0, 10);
        let taken = (phase > 0).then(|| solo.request());
        if phase == 2 {
            let id = taken.as_ref().expect("taken").id;
            solo.machine.answer(solo.now, id, body(50_000)).expect("somebody waits");
            solo.settle();
            solo.send(0, 100, 100).expect("its start");
        }
        assert_eq!(solo.wants(0, stream), 1);
        assert_eq!(solo.data(0, stream, &[0]), Err(TRAILING));
        if phase == 1 {
            let id = taken.expect("taken").id;
            assert_eq!(solo.cancelled(), Some(id));
            let late = solo.machine.answer(solo.now, id, body(1));
            assert_eq!(late, Err(AnswerError::Cancelled));
            solo.settle();
        }
        assert_eq!(solo.cancelled(), None);
        assert_eq!(solo.outputs(), []);
        solo.assert_quiet();
    }
}

#[test]
fn an_answer_before_the_request_was_sent_is_a_fault() {
    let answer = reply(Reply::Answer { length: 1 });
    // Its rest waits for `Continue`.
    assert_bad_reply(EAGER_BYTES_MAX + 1, &answer, Fault::ReplyMisplaced);
    // The transport has not taken it.
    let mut solo = Solo::new(&config(|_| {}), 1);
    let call = solo.machine.call(solo.now, peer(0), ROUTE, body(10), None, true);
    let sent = solo.send(0, 1 << 16, head(10).len() + 9).expect("all but a byte");
    assert_eq!(solo.data(0, sent.stream, &answer), Err(Fault::ReplyMisplaced));
    breach(&mut solo, call.expect("there is credit"));
}

#[test]
fn a_continue_that_nothing_waits_for_is_a_fault() {
    let go_on = reply(Reply::Continue);
    assert_bad_reply(EAGER_BYTES_MAX, &go_on, Fault::ReplyMisplaced);
    assert_bad_reply(0, &go_on, Fault::ReplyMisplaced);
    assert_bad_reply(EAGER_BYTES_MAX + 1, &go_on.repeat(2), Fault::ReplyMisplaced);
    // One is due.
    let mut solo = Solo::new(&config(|_| {}), 1);
    let (_, stream) = solo.call(0, EAGER_BYTES_MAX + 1);
    assert_eq!(solo.data(0, stream, &go_on), Ok(go_on.len()));
    let [sent] = &solo.sent()[..] else { panic!("the rest") };
    assert_eq!(
        (&sent.bytes[..], sent.finish),
        (&body(EAGER_BYTES_MAX + 1)[EAGER_BYTES_MAX..], false)
    );
    assert_eq!(solo.data(0, stream, &go_on), Err(Fault::ReplyMisplaced));
}

#[test]
fn an_answer_beyond_the_bound_is_a_fault_before_it_comes() {
    for length in [(1 << 20) + 1, u32::MAX] {
        assert_bad_reply(10, &reply(Reply::Answer { length }), Fault::AnswerTooLong);
    }
}

#[test]
fn an_answer_that_ends_early_or_late_is_a_fault() {
    let whole = [reply(Reply::Answer { length: 100 }), body(100).to_vec()].concat();
    for length in 0..whole.len() {
        let mut solo = Solo::new(&config(|_| {}), 1);
        let (call, stream) = solo.call(0, 10);
        assert_eq!(solo.data(0, stream, &whole[..length]), Ok(length));
        assert_eq!(solo.end(0, stream), Err(TRUNCATED), "after {length} bytes");
        breach(&mut solo, call);
    }
    assert_bad_reply(10, &[&whole[..], &[0]].concat(), TRAILING);
    assert_bad_reply(10, &[reply(Reply::Answer { length: 0 }), vec![0]].concat(), TRAILING);
    // `Continue` is not the last word.
    let mut solo = Solo::new(&config(|_| {}), 1);
    let (call, stream) = solo.call(0, 100_000);
    solo.data(0, stream, &reply(Reply::Continue)).expect("no fault");
    assert_eq!(solo.end(0, stream), Err(TRUNCATED));
    breach(&mut solo, call);
}

/// An answer of which the peer has sent no more than was prepaid, and its end: seen once there is
/// room.
#[test]
fn an_answer_that_waits_for_room_and_has_ended_is_a_fault_later() {
    let mut solo = Solo::new(&config(|_| {}), 1);
    let (call, stream) = solo.call(0, 10);
    let start = [reply(Reply::Answer { length: 50_000 }), body(EAGER_BYTES_MAX).to_vec()].concat();
    assert_eq!(solo.data(0, stream, &start), Ok(start.len()));
    assert_eq!(solo.end(0, stream), Err(TRUNCATED));
    breach(&mut solo, call);
}

/// What a head promises beyond reason costs nothing.
#[test]
fn absurd_numbers_in_a_head_are_the_peers_own_business() {
    let mut solo = Solo::new(&config(|_| {}), 1);
    let stream = solo.open(0);
    let (timeout_ms, prepaid, length) = (u32::MAX, u32::MAX, 0);
    let head = CallHead { route: ROUTE, timeout_ms, prepaid, length, wants_answer: true };
    solo.data(0, stream, &frame(|out| head.encode(out))).expect("no fault");
    let asked = solo.request();
    assert_eq!(asked.deadline.since(solo.now), Duration::from_secs(300));
    solo.machine.answer(solo.now, asked.id, body(100_000)).expect("somebody waits");
    solo.settle();
    let [sent] = &solo.sent()[..] else { panic!("one stream") };
    assert!(sent.finish && sent.bytes.len() > 100_000, "all of it was prepaid");
    solo.end(0, stream).expect("no fault");
    solo.assert_quiet();
}

#[test]
fn a_number_may_be_used_again_once_its_stream_is_over() {
    let mut solo = Solo::new(&config(|_| {}), 1);
    let stream = solo.open(0);
    assert_eq!(solo.data(0, stream, &[63]), Err(UNKNOWN_KIND));
    solo.machine.handle_opened(solo.now, peer(0), stream);
    let bytes = [head(3), body(3).to_vec()].concat();
    assert_eq!(solo.data(0, stream, &bytes), Ok(bytes.len()));
    assert_eq!(solo.request().body, body(3));
}

/// Nothing but the head has come, or less: all are gone at their time, and nobody else is held up.
#[test]
fn a_thousand_streams_that_go_nowhere() {
    let bytes = [head_of(ROUTE, 20_000, 100), body(99).to_vec()].concat();
    for length in [0, 1, bytes.len() - 99, bytes.len()] {
        let mut solo = Solo::new(&config(|route| route.rate_min = 1), 2);
        let streams: Vec<CallStream> = (0..1000).map(|_| solo.open(0)).collect();
        for stream in &streams {
            solo.data(0, *stream, &bytes[..length]).expect("no fault");
        }
        assert_eq!(solo.machine.len(), 1000);
        assert!(solo.machine.body_bytes() <= 16 * (100 + (1 << 20)), "what is read ahead");
        let (_, asked) = solo.asked(1, 100_000);
        assert!(solo.machine.refuse(solo.now, asked.id, Refusal::Dropped));
        solo.settle();
        solo.sent();
        solo.outputs();
        // Without a head, after as long as a head may take; else, after their own deadline.
        let last = if length > 1 { 20_000 } else { 10_000 };
        solo.elapse(ms(last - 1));
        // What is read may be too slow before; of what is unread, some is read then.
        assert!(length > 1 || solo.outputs.is_empty());
        assert!(!solo.machine.is_empty());
        solo.elapse(ms(1));
        let outputs = solo.outputs();
        let is_close = |output: &&Output| matches!(output, Output::Close { .. });
        assert_eq!(outputs.iter().filter(is_close).count(), 1000);
        solo.assert_quiet();
    }
}
