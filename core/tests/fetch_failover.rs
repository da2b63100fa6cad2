//! Fetching: from holder to holder until the bytes are here, without asking twice for what is.

use std::collections::BTreeSet;

use slotcast::artifact::{Artifact, Proof};
use slotcast::broadcast::{ChunkTaken, Decision, Event, Output, Priority, RequestId};
use slotcast::config::{FETCHES_LIMIT, Relay};
use slotcast::error::Fault;
use slotcast::time::Time;
use slotcast::wire::{Chunk, ChunkRange, Refusal, Request};
use slotcast_testkit::machines::{
    CHANNEL, Frame, LARGE_CHUNKS, Net, Solo, Tap, artifact, config, large, ms, node, peer, range,
    small, steered,
};

const FETCH: Decision = Decision::Fetch(Priority::Normal);

/// A machine that knows of a large artifact of so many holders, and has asked the first.
fn fetching(holders: usize) -> (Solo, RequestId) {
    let mut solo = Solo::new(&config(|_| {}), holders);
    (0..holders).for_each(|at| solo.advert(at, 0, 1, &large(1)));
    let request = solo.asked(0, &large(1), 0..LARGE_CHUNKS);
    (solo, request)
}

fn finish_from(solo: &mut Solo, at: usize, first: u32) {
    let request = solo.asked(at, &large(1), first..LARGE_CHUNKS);
    solo.chunks(at, request, &large(1), first..LARGE_CHUNKS);
    let events = solo.events();
    assert_eq!(events, [Event::Delivered { artifact: large(1), from: node(at) }]);
}

#[test]
fn a_refusal_moves_on_at_once() {
    let (mut solo, request) = fetching(2);
    solo.refuse(0, request, Refusal::Busy);
    finish_from(&mut solo, 1, 0);
}

#[test]
fn a_silent_holder_is_overdue_and_the_next_one_is_asked() {
    let (mut solo, request) = fetching(2);
    let asked_at = solo.now;
    solo.wake();
    assert_eq!(solo.now, asked_at + ms(2000));
    assert!(solo.machine.is_awaited(peer(0), request), "it may still come");
    finish_from(&mut solo, 1, 0);
    assert_eq!(solo.outputs, [Output::Stop { peer: peer(0), request }]);
    assert_eq!(solo.sent(0), [Frame::Cancel(request.0)]);
}

#[test]
fn a_holder_that_falls_silent_in_the_middle_is_replaced_and_nothing_is_fetched_twice() {
    let (mut solo, request) = fetching(2);
    solo.chunks(0, request, &large(1), 0..9);
    solo.elapse(ms(1999));
    assert_eq!(solo.sent(1), []);
    solo.elapse(ms(4000));
    finish_from(&mut solo, 1, 9);
    assert_eq!(solo.sent(0), [Frame::Cancel(request.0)]);
}

/// There is somewhere better to go than to a holder that brings a chunk per 1.9 s. What it does bring
/// is not asked of the other one.
#[test]
fn w7_while_a_holder_crawls_another_is_asked_and_what_comes_first_counts() {
    let block = artifact(1, 16 << 14);
    let mut solo = Solo::new(&config(|_| {}), 2);
    (0..2).for_each(|at| solo.advert(at, 0, 1, &block));
    let crawling = solo.asked(0, &block, 0..16);
    solo.chunks(0, crawling, &block, 0..1);
    solo.elapse(ms(1900));
    solo.chunks(0, crawling, &block, 1..2);
    solo.elapse(ms(1900));
    solo.chunks(0, crawling, &block, 2..3);
    let mut asked = BTreeSet::new();
    while !solo.machine.has_events(CHANNEL) {
        let frames = solo.sent(1);
        assert!(!frames.is_empty(), "{asked:?}");
        for frame in frames {
            let Frame::Fetch { request, chunks, .. } = frame else { panic!("{frame:?}") };
            for chunk in chunks {
                solo.chunk(1, RequestId(request), &block, chunk).expect("it is right");
                assert!(asked.insert(chunk));
            }
        }
    }
    assert!(asked.len() <= 14 && (3..16).all(|chunk| asked.contains(&chunk)), "{asked:?}");
    solo.expect_delivered([&block]);
    assert_eq!(solo.sent(0), [Frame::Cancel(crawling.0)]);
}

#[test]
fn a_holder_that_goes_down_is_replaced_and_nothing_is_fetched_twice() {
    let (mut solo, request) = fetching(2);
    solo.chunks(0, request, &large(1), 0..2);
    solo.down(0);
    finish_from(&mut solo, 1, 2);
}

#[test]
fn l21_a_holder_that_leaves_the_subnet_is_replaced_and_nothing_is_fetched_twice() {
    let (mut solo, request) = fetching(2);
    solo.chunks(0, request, &large(1), 0..2);
    solo.remove(0);
    finish_from(&mut solo, 1, 2);
}

#[test]
fn an_answer_that_ends_early_moves_on() {
    let (mut solo, request) = fetching(2);
    solo.chunks(0, request, &large(1), 0..3);
    solo.answer_end(0, request);
    finish_from(&mut solo, 1, 3);
}

#[test]
fn a3_a_wrong_chunk_is_a_fault_of_its_holder_and_costs_only_that_chunk() {
    let (mut solo, request) = fetching(2);
    solo.chunks(0, request, &large(1), 0..1);
    let (bytes, proof) = large(1).chunk(1);
    let mut wrong = bytes.to_vec();
    wrong[100] ^= 1;
    let wrong = Chunk { index: 1, proof, bytes: &wrong };
    assert_eq!(solo.raw_chunk(0, request, &wrong), Err(Fault::WrongChunk));
    assert!(!solo.machine.is_awaited(peer(0), request));
    finish_from(&mut solo, 1, 1);
}

#[test]
fn l17_chunks_with_wrong_proofs_places_or_artifacts_are_faults_and_nothing_is_kept() {
    let (right, other) = (large(1), large(2));
    let chunk_of = |block: &Artifact, index| block.chunk(index);
    let lies: [(u32, Proof, Vec<u8>, Fault); 4] = [
        (0, chunk_of(&right, 1).1, right.chunk(0).0.to_vec(), Fault::WrongChunk),
        (0, other.chunk(0).1, other.chunk(0).0.to_vec(), Fault::WrongChunk),
        (0, right.chunk(0).1, right.chunk(0).0[1..].to_vec(), Fault::WrongChunk),
        (13, right.chunk(1).1, right.chunk(1).0.to_vec(), Fault::UnrequestedChunk),
    ];
    for (index, proof, bytes, fault) in lies {
        let (mut solo, request) = fetching(2);
        let lie = Chunk { index, proof, bytes: &bytes };
        assert_eq!(solo.raw_chunk(0, request, &lie), Err(fault));
        solo.sent(0);
        finish_from(&mut solo, 1, 0);
    }
}

#[test]
fn chunks_of_a_request_that_was_given_up_change_nothing() {
    let (mut solo, request) = fetching(2);
    solo.refuse(0, request, Refusal::Busy);
    let taken = solo.chunk(0, request, &large(1), 0);
    assert_eq!(taken, Ok(ChunkTaken::Done));
    // Nor does another peer's.
    let request = solo.asked(1, &large(1), 0..LARGE_CHUNKS);
    assert!(solo.chunk(0, RequestId(request.0 + (1 << 16)), &large(1), 0).is_ok());
    solo.chunks(1, request, &large(1), 0..LARGE_CHUNKS);
    solo.expect_delivered([&large(1)]);
}

#[test]
fn when_all_holders_have_failed_they_are_asked_again_after_a_pause() {
    let (mut solo, request) = fetching(2);
    solo.refuse(0, request, Refusal::Busy);
    let request = solo.asked(1, &large(1), 0..LARGE_CHUNKS);
    solo.chunks(1, request, &large(1), 0..2);
    solo.answer_end(1, request);
    (0..2).for_each(|at| assert_eq!(solo.sent(at), []));
    let failed_at = solo.now;
    solo.wake();
    assert_eq!(solo.now, failed_at + ms(1000));
    // The part received is kept: nothing else needs its room.
    let asked = [solo.sent(0), solo.sent(1)].concat();
    let Some(Frame::Fetch { chunks, .. }) = asked.last() else { panic!("{asked:?}") };
    assert_eq!(chunks.len(), 11);
}

/// A reconsidering application must not push the retry further and further away.
#[test]
fn reconsidering_often_does_not_delay_the_retry() {
    let (mut solo, request) = fetching(1);
    solo.refuse(0, request, Refusal::Busy);
    solo.sent(0);
    let retry_at = solo.wake_at;
    for _ in 0..20 {
        solo.elapse(ms(100));
        solo.reconsider();
    }
    assert!(solo.now > retry_at);
    assert!(matches!(solo.sent(0)[..], [Frame::Fetch { .. }]));
}

#[test]
fn a_new_advert_of_a_failed_holder_is_a_reason_to_ask_it_again_at_once() {
    let (mut solo, request) = fetching(1);
    solo.refuse(0, request, Refusal::Busy);
    assert_eq!(solo.sent(0), []);
    solo.advert(0, 5, 3, &large(1));
    finish_from(&mut solo, 0, 0);
}

#[test]
fn w3_the_only_holder_is_asked_for_the_rest_when_it_is_back() {
    let (mut solo, request) = fetching(1);
    solo.chunks(0, request, &large(1), 0..2);
    solo.down(0);
    assert_eq!(solo.wake_at, Time::NEVER, "nobody to ask");
    solo.up(0);
    let frames = solo.sent(0);
    assert!(
        matches!(&frames[..], [Frame::Fetch { chunks, .. }, Frame::Snapshot(_)] if chunks.len() == 11),
        "{frames:?}"
    );
}

/// What was begun holds the channel's room: it must not wait behind what waits for that room.
#[test]
fn an_artifact_begun_is_continued_before_those_that_wait_for_its_room() {
    for waits_at in [1, 2] {
        let room = |channel: &mut slotcast::config::ChannelConfig| {
            (channel.artifact_bytes_max, channel.inbox_bytes_max) = (300_000, 300_000);
        };
        let mut solo = Solo::new(&config(room), 3);
        let (begun, waiting) = (large(1), large(2));
        solo.advert(0, 0, 1, &begun);
        let request = solo.asked(0, &begun, 0..LARGE_CHUNKS);
        solo.advert(waits_at, 0, 1, &waiting);
        solo.advert(1, 1, 2, &begun);
        assert_eq!(solo.sent(waits_at), [], "there is room for one at a time");
        solo.chunks(0, request, &begun, 0..2);
        solo.down(0);
        let request = solo.asked(1, &begun, 2..LARGE_CHUNKS);
        solo.chunks(1, request, &begun, 2..LARGE_CHUNKS);
        solo.expect_delivered([&begun]);
        let request = solo.asked(waits_at, &waiting, 0..LARGE_CHUNKS);
        solo.chunks(waits_at, request, &waiting, 0..LARGE_CHUNKS);
        solo.expect_delivered([&waiting]);
    }
}

#[test]
fn a10_a_holder_refuses_what_it_does_not_advertise_or_cannot_serve() {
    let mut solo = Solo::new(&config(|_| {}), 1);
    let block = large(1);
    solo.publish(&block);
    solo.sent(0);
    let asked = |request, id, ranges: &[(u32, u32)]| {
        let ranges =
            ranges.iter().map(|(first, count)| ChunkRange { first: *first, count: *count });
        Request::Fetch { request, channel: CHANNEL, id, ranges: ranges.collect() }
    };
    let ask = |request, id, first, count| asked(request, id, &[(first, count)]);
    let id = block.id();
    let refusals = [
        ask(1, small(9).id(), 0, 1),
        ask(2, id, LARGE_CHUNKS, 1),
        ask(3, id, 0, LARGE_CHUNKS + 1),
        ask(4, id, u32::MAX, u32::MAX),
        Request::Fetch {
            request: 5,
            channel: slotcast_testkit::machines::OTHER,
            id,
            ranges: range(0..1),
        },
        asked(6, id, &[(0, 1), (LARGE_CHUNKS - 1, 2)]),
    ];
    for (at, request) in refusals.into_iter().enumerate() {
        solo.request(0, request);
        assert_eq!(solo.sent(0), [Frame::Refuse(at as u64 + 1, Refusal::NotHeld)]);
    }
    solo.request(0, ask(7, id, 1, 2));
    assert_eq!(solo.sent(0), [Frame::Chunk(1), Frame::Chunk(2)]);
    // Ranges come in the order in which they are named.
    solo.request(0, asked(8, id, &[(LARGE_CHUNKS - 1, 1), (3, 2), (0, 1)]));
    assert_eq!(solo.sent(0), [LARGE_CHUNKS - 1, 3, 4, 0].map(Frame::Chunk));
    solo.request(0, Request::Unknown { kind: 13, request: 9 });
    assert_eq!(solo.sent(0), [Frame::Refuse(9, Refusal::UnknownRequest)]);
}

#[test]
fn a_peer_with_too_many_requests_is_told_that_the_holder_is_busy() {
    let mut config = config(|_| {});
    config.serves_per_peer_max = 2;
    let mut solo = Solo::new(&config, 1);
    let block = large(1);
    solo.publish(&block);
    solo.sent(0);
    for request in 1..=3 {
        let (channel, id) = (CHANNEL, block.id());
        solo.request(0, Request::Fetch { request, channel, id, ranges: range(0..1) });
    }
    let frames = solo.sent(0);
    assert_eq!(frames, [Frame::Refuse(3, Refusal::Busy), Frame::Chunk(0), Frame::Chunk(0)]);
}

/// Invariant 8: what a peer asks for costs no more than that, though it takes nothing.
#[test]
fn answers_and_refusals_that_a_peer_does_not_take_are_bounded() {
    let mut config = config(|_| {});
    config.serves_per_peer_max = 2;
    let mut solo = Solo::new(&config, 2);
    let block = large(1);
    solo.publish(&block);
    (0..2).for_each(|at| drop(solo.sent(at)));
    let ask = |solo: &mut Solo, at, request| {
        let (channel, id) = (CHANNEL, block.id());
        solo.request(at, Request::Fetch { request, channel, id, ranges: range(0..1) });
    };
    let busy = |request| Frame::Refuse(request, Refusal::Busy);
    // A peer may have so many requests in each of three classes.
    let refused_max = 3 * u64::from(FETCHES_LIMIT);
    (1..=refused_max + 9).for_each(|request| ask(&mut solo, 0, request));
    let (mut frames, mut answers) = (Vec::new(), Vec::new());
    while let Some((send, bytes)) = solo.send(0, 256 << 10) {
        frames.extend(Tap::default().read(&bytes));
        answers.extend(send.stream);
    }
    let mut expected: Vec<Frame> = (3..refused_max + 3).rev().map(busy).collect();
    expected.extend([Frame::Chunk(0), Frame::Chunk(0)]);
    assert_eq!(frames, expected);
    // An answer counts until it has arrived; what other peers ask for does not.
    ask(&mut solo, 0, 10);
    assert_eq!(solo.sent(0), [busy(10)]);
    ask(&mut solo, 1, 1);
    assert_eq!(solo.sent(1), [Frame::Chunk(0)]);
    // One that has arrived makes room for one, and no request is answered twice at a time.
    answers.into_iter().for_each(|answer| solo.acked(0, answer));
    ask(&mut solo, 0, 11);
    assert_eq!(solo.sent(0), [Frame::Chunk(0)]);
    ask(&mut solo, 0, 11);
    assert_eq!(solo.sent(0), [busy(11)]);
    ask(&mut solo, 0, 12);
    assert_eq!(solo.sent(0), [Frame::Chunk(0)]);
    ask(&mut solo, 0, 13);
    assert_eq!(solo.sent(0), [busy(13)]);
}

#[test]
fn a_cancellation_that_overtakes_its_request_is_made_up_for_by_the_stop() {
    let mut net = Net::new(config(|_| {}), 2);
    let (decision, filter) = steered(FETCH);
    net.nodes[1].set_filter(CHANNEL, filter);
    net.hold(1, 0);
    net.publish(0, &large(1));
    net.run();
    *decision.lock().unwrap() = Decision::Drop;
    net.reconsider(1);
    net.run();
    let [fetch, cancel] = net.streams(1, 0)[..] else { panic!("two streams") };
    net.deliver(cancel, usize::MAX);
    net.deliver(fetch, usize::MAX);
    net.room = 1000;
    let (answer, _) = net.send(0, 1, 1000).expect("the first chunk");
    net.deliver(answer, 10);
    net.run();
    assert_eq!(net.chunks(0, 1), [0], "stopped at its head");
}

#[test]
fn fetches_are_spread_over_the_holders() {
    let mut solo = Solo::new(&config(|_| {}), 4);
    let (decision, filter) = steered(Decision::Later);
    solo.machine.set_filter(CHANNEL, filter);
    for number in 0..8_u64 {
        for at in 0..4 {
            solo.advert(at, number as u32, number + 1, &large(number));
        }
    }
    *decision.lock().unwrap() = FETCH;
    solo.reconsider();
    for at in 0..4 {
        let chunks = |frame| match frame {
            Frame::Fetch { chunks, .. } => chunks.len(),
            frame => panic!("{frame:?}"),
        };
        let chunks: usize = solo.sent(at).into_iter().map(chunks).sum();
        assert!((12..=20).contains(&chunks), "all that it may be asked for ahead");
    }
}

/// They may tell each other of what they have then.
#[test]
fn y5_members_that_fetch_the_same_begin_with_different_chunks() {
    let relaying = config(|channel| *channel = channel.clone().relaying(Relay::Automatic, 16));
    let mut net = Net::new(relaying, 5);
    net.publish(0, &large(1));
    net.run();
    let first = |at: usize| {
        let frames = net.frames(at, 0);
        frames.into_iter().find_map(|frame| match frame {
            Frame::Fetch { chunks, .. } => chunks.first().copied(),
            _ => None,
        })
    };
    // Of 13 chunks; node 0 has the first part.
    assert_eq!([1, 2, 3, 4].map(first), [2, 5, 7, 10].map(Some));
}
