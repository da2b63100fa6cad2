//! Filters: what becomes of an artifact before its bytes are here, and when the application's view
//! moves.

use slotcast::broadcast::{Candidate, Decision, Output, Priority, Taken};
use slotcast_testkit::machines::{
    CHANNEL, Frame, LARGE_CHUNKS, Net, Solo, config, delivered, large, small, steered,
};
use std::sync::{Arc, Mutex};

const FETCH: Decision = Decision::Fetch(Priority::Normal);

#[test]
fn a1_later_then_wanted_is_fetched() {
    let mut net = Net::new(config(|_| {}), 2);
    let (decision, filter) = steered(Decision::Later);
    net.nodes[1].set_filter(CHANNEL, filter);
    let blocks = [small(1), large(2)];
    blocks.iter().for_each(|block| net.publish(0, block));
    net.run();
    net.reconsider(1);
    net.run();
    assert_eq!(net.delivered(1), []);
    assert_eq!(net.frames(1, 0), [], "nothing is asked for");
    *decision.lock().unwrap() = FETCH;
    net.reconsider(1);
    net.run();
    // The pushed bytes were dropped, so that both are fetched.
    assert_eq!(net.delivered(1), blocks.map(|block| block.id()));
    assert_eq!(net.chunks(0, 1).len() as u32, 1 + LARGE_CHUNKS);
}

#[test]
fn a2_wanted_then_later_is_cancelled_on_the_wire_and_fetched_when_wanted_again() {
    let mut net = Net::new(config(|_| {}), 2);
    let (decision, filter) = steered(FETCH);
    net.nodes[1].set_filter(CHANNEL, filter);
    net.room = 1000;
    net.publish(0, &large(1));
    net.run_until_chunk(0, 1);
    *decision.lock().unwrap() = Decision::Later;
    net.reconsider(1);
    net.run();
    let frames = net.frames(1, 0);
    assert!(matches!(frames[..], [Frame::Fetch { .. }, Frame::Cancel(_)]), "{frames:?}");
    assert!(net.chunks(0, 1).len() <= 2, "the rest is not sent");
    assert_eq!(net.delivered(1), []);
    *decision.lock().unwrap() = FETCH;
    net.reconsider(1);
    net.run();
    assert_eq!(net.delivered(1), [large(1).id()]);
}

#[test]
fn a4_later_then_dropped_is_never_fetched() {
    let mut net = Net::new(config(|_| {}), 2);
    let (decision, filter) = steered(Decision::Later);
    net.nodes[1].set_filter(CHANNEL, filter);
    net.publish(0, &large(1));
    net.run();
    *decision.lock().unwrap() = Decision::Drop;
    net.reconsider(1);
    *decision.lock().unwrap() = FETCH;
    net.reconsider(1);
    net.run();
    assert_eq!((net.frames(1, 0), net.delivered(1)), (vec![], vec![]));
    net.abort(0, &large(1));
    net.run();
    assert_eq!(net.events(1), []);
    assert_eq!(net.nodes[1].known_count(), 0);
}

#[test]
fn a_request_that_was_not_sent_yet_is_withdrawn_without_a_trace() {
    let mut solo = Solo::new(&config(|_| {}), 1);
    let (decision, filter) = steered(FETCH);
    solo.machine.set_filter(CHANNEL, filter);
    solo.advert(0, 0, 1, &large(1));
    *decision.lock().unwrap() = Decision::Drop;
    solo.reconsider();
    assert_eq!((solo.sent(0), solo.outputs.len()), (vec![], 0));
}

#[test]
fn a_cancelled_answer_is_stopped() {
    let mut solo = Solo::new(&config(|_| {}), 1);
    let (decision, filter) = steered(FETCH);
    solo.machine.set_filter(CHANNEL, filter);
    solo.advert(0, 0, 1, &large(1));
    let request = solo.asked(0, &large(1), 0..LARGE_CHUNKS);
    solo.chunks(0, request, &large(1), 0..1);
    *decision.lock().unwrap() = Decision::Later;
    solo.reconsider();
    assert_eq!(solo.outputs, [Output::Stop { peer: slotcast_testkit::machines::peer(0), request }]);
    assert!(!solo.machine.is_awaited(slotcast_testkit::machines::peer(0), request));
    assert_eq!(solo.sent(0), [Frame::Cancel(request.0)]);
}

#[test]
fn a_streamed_push_that_is_not_wanted_is_stopped() {
    for decision in [Decision::Later, Decision::Drop] {
        let mut solo = Solo::new(&config(|channel| channel.latency_sensitive = true), 1);
        solo.machine.set_filter(CHANNEL, steered(decision).1);
        assert_eq!(solo.stream(0, 0, 1, &large(1)), Taken::Unwanted);
        assert_eq!(solo.sent(0), []);
    }
}

#[test]
fn the_filter_is_asked_once_per_artifact_and_reconsideration() {
    let mut solo = Solo::new(&config(|_| {}), 2);
    let asked = Arc::new(Mutex::new(Vec::new()));
    let record = asked.clone();
    let filter = move |candidate: &Candidate<'_>| {
        record.lock().unwrap().push((*candidate.id, candidate.from));
        assert_eq!(candidate.advert.id(), *candidate.id);
        Decision::Later
    };
    solo.machine.set_filter(CHANNEL, Box::new(filter));
    let block = small(1);
    solo.push(0, 0, 1, &block);
    solo.push(1, 0, 1, &block);
    solo.push(0, 1, 3, &block);
    assert_eq!(*asked.lock().unwrap(), [(block.id(), slotcast_testkit::machines::node(0))]);
    solo.reconsider();
    assert_eq!(asked.lock().unwrap().len(), 2);
}

#[test]
fn the_most_urgent_artifact_is_fetched_first() {
    let mut config = config(|channel| channel.push_bytes_max = 0);
    config.fetches_per_peer_max = 1;
    let mut solo = Solo::new(&config, 1);
    let (low, normal, high) = (small(1), small(2), small(3));
    let ids = [low.id(), normal.id(), high.id()];
    let priority = move |candidate: &Candidate<'_>| {
        let at = ids.iter().position(|id| id == candidate.id).unwrap_or(0);
        Decision::Fetch([Priority::Low, Priority::Normal, Priority::High][at])
    };
    solo.machine.set_filter(CHANNEL, Box::new(priority));
    // The first one goes out at once, and occupies the only request.
    let first = small(9);
    for (slot, block) in [&first, &low, &normal, &high].into_iter().enumerate() {
        solo.advert(0, slot as u32, slot as u64 + 1, block);
    }
    for block in [&first, &high, &normal, &low] {
        let request = solo.asked(0, block, 0..1);
        solo.chunks(0, request, block, 0..1);
    }
    let order: Vec<_> = [&first, &high, &normal, &low].map(|block| block.id()).to_vec();
    assert_eq!(delivered(&solo.events()), order);
}
