//! Calls of a member, and its answers: too many, cut short, cancelled, untrue.

use slotcast_tokio::slotcast::error::{CallError, Fault};
use slotcast_tokio::slotcast::id::RouteId;
use slotcast_tokio::slotcast::wire::{CallRefusal, Malformed, Reply};

use crate::arena::{Arena, SMOL, TOKIO, within};
use crate::words::{BODY_MAX, IN_FLIGHT_MAX, call, call_to, frame, reply};

#[tokio::test(flavor = "multi_thread")]
async fn heads_without_bodies_take_no_more_than_credit() {
    let mut arena = Arena::start(TOKIO).await;
    let line = arena.greet(&arena.foe()).await;
    // Of every length that may be: most of them would need room that is set aside.
    let mut calls = Vec::new();
    for length in [1, 100, 20_000, BODY_MAX].into_iter().cycle() {
        let Some((mut send, receive)) = line.try_call() else { break };
        send.write_all(&call(length)).await.expect("connected");
        calls.push((send, receive));
    }
    assert_eq!(calls.len(), 2 * usize::from(IN_FLIGHT_MAX));
    arena.flows_for(20).await;
    assert!(line.try_call().is_none(), "none is given up so soon");
    // They end without a word: all credit comes back.
    for (mut send, mut receive) in calls {
        let _ = send.reset(0_u32.into());
        let _ = receive.stop(0_u32.into());
    }
    for _ in 0..3 * IN_FLIGHT_MAX {
        let (_, mut answer) = line.ask(&[call(1), vec![1]].concat()).await;
        within("an answer", answer.read_to_end(100)).await.expect("it is answered");
    }
    assert!(arena.is_up());
    assert_eq!(arena.end().await.faults, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn lengths_that_lie_cut_off_their_sender() {
    let lies = [
        ("too long", call(BODY_MAX + 1), Fault::RequestTooLong),
        ("less than said", [call(10), vec![1; 9]].concat(), Malformed::Truncated.into()),
        ("more than said", [call(10), vec![1; 11]].concat(), Malformed::Trailing.into()),
    ];
    let mut arena = Arena::start(SMOL).await;
    let line = arena.greet(&arena.foe()).await;
    for (count, (what, bytes, fault)) in (1..).zip(lies) {
        // Dropped, it would be cancelled.
        let _streams = line.ask(&bytes).await;
        arena.fault(what, count, fault).await;
    }
    arena.cut_off(&line).await;
    assert_eq!(arena.end().await.faults, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_are_cancelled_at_once() {
    let mut arena = Arena::start(TOKIO).await;
    let line = arena.greet(&arena.foe()).await;
    let request = [call(10), vec![1; 10]].concat();
    let storm = async {
        for n in 0..1000 {
            let (mut send, mut receive) = line.0.open_bi().await.expect("connected");
            let _ = send.write_all(&request).await;
            match n % 3 {
                0 => {}
                1 => tokio::task::yield_now().await,
                _ => drop(within("an answer", receive.read_chunk(1, true)).await),
            }
            let _ = send.reset(0_u32.into());
            let _ = receive.stop(0_u32.into());
        }
    };
    tokio::join!(arena.flows(), within("streams come back", storm));
    let (_, mut answer) = line.ask(&request).await;
    let answer = within("an answer", answer.read_to_end(100)).await.expect("it is answered");
    assert!(answer.ends_with(&[1; 10]));
    assert!(arena.is_up());
    assert_eq!(arena.end().await.faults, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_calls_than_credit_are_answered_in_turn() {
    let mut arena = Arena::start(SMOL).await;
    let line = arena.greet(&arena.foe()).await;
    let flood = async {
        let answers = (0..1000_u32).map(|number| {
            let line = line.clone();
            tokio::spawn(async move {
                let body = number.to_be_bytes();
                let (_, mut answer) = line.ask(&[&call(4)[..], &body].concat()).await;
                let answer = answer.read_to_end(100).await.expect("it is answered");
                assert!(answer.ends_with(&number.to_le_bytes()), "{number}");
            })
        });
        for answer in answers.collect::<Vec<_>>() {
            within("an answer", answer).await.expect("it is answered");
        }
    };
    tokio::join!(arena.flows(), flood);
    // What is not served is said to be so, as often as that.
    let refused = reply(Reply::Refused(CallRefusal::NotServed));
    for _ in 0..100 {
        let (_, mut answer) = line.ask(&[call_to(RouteId(9), 3), vec![1; 3]].concat()).await;
        let answer = within("a refusal", answer.read_to_end(100)).await.expect("it is told");
        assert_eq!(answer, refused);
    }
    assert!(arena.is_up());
    assert_eq!(arena.end().await.faults, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_that_lie_cut_off_their_sender() {
    let long = vec![7; 20_000];
    let lies: [(&str, &[u8], Vec<u8>, Fault); 4] = [
        ("unknown", b"what?", frame(99, &[1]), Malformed::UnknownKind.into()),
        ("an answer too long", b"what?", answer(BODY_MAX + 1), Fault::AnswerTooLong),
        ("before the request", &long, answer(1), Fault::ReplyMisplaced),
        ("go on, with nothing", b"what?", reply(Reply::Continue), Fault::ReplyMisplaced),
    ];
    let faults_max = lies.len() as u32;
    let mut arena = Arena::with(TOKIO, |config| config.transport.faults_max = faults_max).await;
    let line = arena.greet(&arena.foe()).await;
    for (count, (what, body, bytes, fault)) in (1..).zip(lies) {
        let asked = arena.ask_foe(body);
        let (mut send, _receive) = within("a call", line.0.accept_bi()).await.expect("connected");
        send.write_all(&bytes).await.expect("it is waited for");
        assert_eq!(within(what, asked).await, Err(CallError::Fault), "{what}");
        arena.fault(what, count, fault).await;
    }
    arena.cut_off(&line).await;
    assert_eq!(arena.end().await.faults, u64::from(faults_max));
}

fn answer(length: u32) -> Vec<u8> {
    reply(Reply::Answer { length })
}
