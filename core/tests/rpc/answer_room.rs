//! Room for answers: kept for short ones, taken when a longer one is given, or waited for.

use slotcast::config::Config;
use slotcast::error::AnswerError;
use slotcast::rpc::{ANSWER_BYTES_KEPT, CallStream, Refusal, Request};

use crate::solo::Solo;
use crate::web::{body, config, peer};

const KEPT: usize = ANSWER_BYTES_KEPT as usize;
const LONG: usize = 4 * KEPT;

/// Long answers, of which a peer may have two, and all peers together 16.
fn config_of_long() -> Config {
    config(|route| {
        (route.request_bytes_max, route.response_bytes_max) = (10, LONG as u32);
        route.body_bytes_max = 16 * LONG as u64;
    })
}

fn solo(peers: usize) -> Solo {
    let mut solo = Solo::new(&config_of_long(), peers);
    solo.holds_acks = true;
    solo
}

fn requests(solo: &mut Solo, at: usize, count: usize) -> Vec<(CallStream, Request)> {
    (0..count).map(|_| solo.asked(at, 0)).collect()
}

fn answer(solo: &mut Solo, request: &Request, length: usize) -> Result<(), AnswerError> {
    let answered = solo.machine.answer(solo.now, request.id, body(length));
    solo.settle();
    answered
}

fn reserve(solo: &mut Solo, request: &Request, length: usize) -> bool {
    let reserved = solo.machine.reserve(solo.now, request.id, length as u32);
    assert_eq!(reserved, Ok(()));
    solo.settle();
    solo.machine.poll_reserved() == Some(request.id)
}

/// The whole answer is sent, and arrives.
fn read(solo: &mut Solo, at: usize, stream: CallStream) {
    solo.sent();
    solo.end(at, stream).expect("no fault");
    solo.sent();
    solo.machine.handle_acked(peer(at), stream);
    solo.settle();
}

#[test]
fn requests_are_taken_up_though_not_all_of_them_could_have_the_longest_answer() {
    let mut solo = solo(1);
    let all = requests(&mut solo, 0, 8);
    assert_eq!(solo.machine.body_bytes(), 8 * KEPT as u64);
    let ninth = solo.ask(0, 0);
    assert_eq!(solo.wants(0, ninth), 0, "the share is used up");
    for (_, request) in &all {
        assert_eq!(answer(&mut solo, request, KEPT), Ok(()));
    }
    assert_eq!(solo.machine.body_bytes(), 8 * KEPT as u64);
}

#[test]
fn a_long_answer_takes_its_room_when_it_is_given() {
    let mut solo = solo(1);
    let all = requests(&mut solo, 0, 4);
    assert_eq!(answer(&mut solo, &all[0].1, LONG), Ok(()));
    assert_eq!(solo.machine.body_bytes(), (LONG + 3 * KEPT) as u64);
    assert_eq!(answer(&mut solo, &all[1].1, LONG), Err(AnswerError::NoRoom));
    assert_eq!(solo.machine.body_bytes(), (LONG + 3 * KEPT) as u64, "nothing has changed");
    read(&mut solo, 0, all[0].0);
    assert_eq!(answer(&mut solo, &all[1].1, LONG), Ok(()));
}

#[test]
fn room_is_waited_for_in_order_and_kept() {
    let mut solo = solo(1);
    let all = requests(&mut solo, 0, 4);
    assert_eq!(answer(&mut solo, &all[0].1, LONG), Ok(()));
    assert!(!reserve(&mut solo, &all[1].1, LONG) && !reserve(&mut solo, &all[2].1, LONG));
    let late = solo.ask(0, 0);
    assert_eq!(solo.wants(0, late), 0, "it would take room from those that wait");
    read(&mut solo, 0, all[0].0);
    assert_eq!(solo.machine.poll_reserved(), Some(all[1].1.id));
    assert_eq!(solo.machine.poll_reserved(), None);
    assert_eq!(answer(&mut solo, &all[3].1, LONG), Err(AnswerError::NoRoom), "it is kept");
    assert_eq!(answer(&mut solo, &all[1].1, LONG), Ok(()));
}

#[test]
fn the_room_of_a_request_that_ends_goes_to_those_that_wait() {
    let mut solo = solo(1);
    let all = requests(&mut solo, 0, 4);
    assert!(reserve(&mut solo, &all[0].1, LONG));
    assert!(!reserve(&mut solo, &all[1].1, LONG) && !reserve(&mut solo, &all[2].1, LONG));
    // One that waits, and the one that has it.
    solo.reset(0, all[1].0);
    assert_eq!(solo.machine.poll_reserved(), None);
    assert!(solo.machine.refuse(solo.now, all[0].1.id, Refusal::Dropped));
    solo.settle();
    assert_eq!(solo.machine.poll_reserved(), Some(all[2].1.id));
    assert_eq!(
        solo.machine.reserve(solo.now, all[1].1.id, LONG as u32),
        Err(AnswerError::Cancelled)
    );
}

#[test]
fn who_waits_for_the_share_of_a_slow_peer_holds_up_no_other() {
    let mut solo = solo(2);
    let slow = requests(&mut solo, 0, 2);
    assert_eq!(answer(&mut solo, &slow[0].1, LONG), Ok(()));
    let more = requests(&mut solo, 0, 1);
    assert!(!reserve(&mut solo, &more[0].1, LONG));
    let (_, other) = requests(&mut solo, 1, 1).remove(0);
    assert!(reserve(&mut solo, &other, LONG));
}

#[test]
fn new_requests_of_others_do_not_pass_an_answer_that_lacks_room_in_the_budget() {
    let mut solo = solo(10);
    let waits = requests(&mut solo, 9, 1);
    let held: Vec<_> = (0..8).flat_map(|at| requests(&mut solo, at, 2)).collect();
    for (_, request) in &held {
        // 16 of LONG are all that there is, and one keeps some already.
        let _ = answer(&mut solo, request, LONG);
    }
    let free = 16 * LONG as u64 - solo.machine.body_bytes();
    assert!(free < LONG as u64 - KEPT as u64);
    assert!(!reserve(&mut solo, &waits[0].1, LONG));
    let new = solo.ask(8, 0);
    assert_eq!(solo.wants(8, new), 0, "it would pass the answer");
    read(&mut solo, 0, held[0].0);
    assert_eq!(solo.machine.poll_reserved(), Some(waits[0].1.id));
}

#[test]
fn an_answer_that_nobody_accepts_is_not_waited_for() {
    let mut solo = solo(1);
    let all = requests(&mut solo, 0, 1);
    let too_long = solo.machine.reserve(solo.now, all[0].1.id, LONG as u32 + 1);
    assert_eq!(too_long, Err(AnswerError::TooLong));
}

#[test]
fn requests_that_wait_for_room_do_not_wait_for_each_other() {
    let mut solo = solo(1);
    let all = requests(&mut solo, 0, 8);
    assert_eq!(solo.machine.body_bytes(), 8 * KEPT as u64, "the share is used up");
    for (_, request) in &all {
        assert_eq!(solo.machine.reserve(solo.now, request.id, 2 * KEPT as u32), Ok(()));
        solo.settle();
    }
    for (stream, request) in &all {
        assert_eq!(solo.machine.poll_reserved(), Some(request.id), "in order");
        assert_eq!(answer(&mut solo, request, 2 * KEPT), Ok(()));
        read(&mut solo, 0, *stream);
    }
    solo.assert_quiet();
}

#[test]
fn what_waits_for_room_has_it_once_though_less_would_have_done() {
    let mut solo = solo(1);
    let all = requests(&mut solo, 0, 1);
    assert!(reserve(&mut solo, &all[0].1, KEPT), "it has it");
    assert!(reserve(&mut solo, &all[0].1, LONG) && reserve(&mut solo, &all[0].1, KEPT));
    assert_eq!(solo.machine.body_bytes(), LONG as u64);
}
