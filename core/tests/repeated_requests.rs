//! Members that ask for the same chunks again and again have them as bulk: DESIGN, sections 4 and 8.

use std::collections::BTreeMap;
use std::ops::Range;

use slotcast::config::{Class, Config};
use slotcast::sched::Level;
use slotcast::wire::Request;
use slotcast_testkit::machines::{
    CHANNEL, Frame, LARGE_CHUNKS, Solo, Tap, config, large, node, peer, range,
};

fn urgent() -> Config {
    config(|channel| channel.class = Class::Urgent)
}

/// A publisher of one artifact with several chunks, of which `peers` members have heard.
fn publisher(peers: usize) -> Solo {
    let mut solo = Solo::new(&urgent(), peers);
    solo.publish(&large(1));
    (0..peers).for_each(|at| assert_eq!(solo.sent(at).len(), 1, "an advert"));
    solo
}

fn ask(solo: &mut Solo, at: usize, request: u64, chunks: Range<u32>) {
    let (id, ranges) = (large(1).id(), range(chunks));
    solo.request(at, Request::Fetch { request, channel: CHANNEL, id, ranges });
}

/// The chunks that a member is sent next, in one stream, and at which levels.
fn answer(solo: &mut Solo, at: usize) -> (usize, Vec<Level>) {
    let (mut tap, mut chunks, mut levels) = (Tap::default(), 0, Vec::new());
    loop {
        let (send, bytes) = solo.send(at, 1).expect("there is an answer");
        chunks += tap.read(&bytes).iter().filter_map(Frame::chunk).count();
        levels.push(send.level);
        if send.finish {
            levels.dedup();
            solo.acked(at, send.stream.expect("an answer"));
            return (chunks, levels);
        }
    }
}

const ALL: Range<u32> = 0..LARGE_CHUNKS;
const WHOLE: usize = LARGE_CHUNKS as usize;

#[test]
fn the_third_copy_of_an_artifact_goes_as_bulk() {
    let mut solo = publisher(2);
    for (request, level) in
        [Level::Urgent, Level::Urgent, Level::Bulk, Level::Bulk].iter().enumerate()
    {
        ask(&mut solo, 0, request as u64, ALL);
        assert_eq!(answer(&mut solo, 0), (WHOLE, vec![*level]), "the answer {request}");
    }
    // Each for itself.
    ask(&mut solo, 1, 0, ALL);
    assert_eq!(answer(&mut solo, 1), (WHOLE, vec![Level::Urgent]));
}

#[test]
fn what_was_asked_for_before_counts_though_it_was_not_sent_yet() {
    let mut solo = publisher(1);
    (0..3).for_each(|request| ask(&mut solo, 0, request, ALL));
    let (mut levels, mut bytes) = (Vec::new(), BTreeMap::new());
    while let Some((send, piece)) = solo.send(0, 1) {
        levels.push(send.level);
        *bytes.entry(send.stream.expect("an answer").index()).or_insert(0) += piece.len();
    }
    levels.dedup();
    assert_eq!(levels, [Level::Urgent, Level::Bulk], "those of the channel go first");
    assert_eq!(bytes.len(), 3);
    assert!(bytes.values().all(|bytes| *bytes > large(1).bytes().len()), "{bytes:?}");
}

/// An answer was late, and what is left of it came from elsewhere.
#[test]
fn what_was_cancelled_before_it_was_sent_does_not_count() {
    let mut solo = publisher(1);
    for request in 0..10 {
        ask(&mut solo, 0, request, ALL);
        solo.request(0, Request::Cancel { request });
    }
    ask(&mut solo, 0, 10, ALL);
    assert_eq!(answer(&mut solo, 0), (WHOLE, vec![Level::Urgent]));
    // Of one chunk, it can have as many as of all.
    for request in 11..11 + LARGE_CHUNKS {
        ask(&mut solo, 0, request.into(), 3..4);
        assert_eq!(answer(&mut solo, 0), (1, vec![Level::Urgent]), "the answer {request}");
    }
    ask(&mut solo, 0, 100, 3..4);
    assert_eq!(answer(&mut solo, 0), (1, vec![Level::Bulk]));
}

#[test]
fn a_new_connection_is_no_new_beginning_but_a_new_member_or_artifact_is() {
    let mut solo = publisher(1);
    let repeats = |solo: &mut Solo| {
        for (request, level) in [Level::Urgent, Level::Urgent, Level::Bulk].into_iter().enumerate()
        {
            ask(solo, 0, request as u64, ALL);
            assert_eq!(answer(solo, 0), (WHOLE, vec![level]));
        }
    };
    repeats(&mut solo);
    solo.down(0);
    solo.up(0);
    solo.sent(0);
    ask(&mut solo, 0, 0, ALL);
    assert_eq!(answer(&mut solo, 0), (WHOLE, vec![Level::Bulk]));
    solo.abort(&large(1));
    solo.publish(&large(1));
    solo.sent(0);
    repeats(&mut solo);
    solo.remove(0);
    solo.machine.add_peer(peer(0), node(7));
    solo.up(0);
    solo.sent(0);
    repeats(&mut solo);
}

/// It is no more urgent than anything else that is bulk, and goes on when it can.
#[test]
fn repeats_are_a_flow_of_their_own() {
    let mut solo = publisher(1);
    let flows: Vec<Level> = solo.machine.flows().collect();
    assert_eq!(flows, [Level::Urgent, Level::Urgent, Level::Control, Level::Bulk]);
    solo.reported();
    for request in 0..2 {
        ask(&mut solo, 0, request, ALL);
        answer(&mut solo, 0);
    }
    solo.reported();
    ask(&mut solo, 0, 2, ALL);
    assert_eq!(solo.machine.poll_ready(), Some((peer(0), 3)));
    assert!(solo.machine.has_flow_backlog(peer(0), 3, true));
    assert!(!solo.machine.has_flow_backlog(peer(0), 1, true));
    let (send, _) = solo.send(0, 1).expect("the first chunk");
    let stream = send.stream.expect("an answer");
    solo.machine.handle_blocked(peer(0), stream);
    assert!(solo.send(0, 1).is_none());
    solo.machine.handle_writable(peer(0), stream);
    assert_eq!(solo.machine.poll_ready(), Some((peer(0), 3)));
    assert_eq!(solo.send(0, 1).map(|(send, _)| send.level), Some(Level::Bulk));
}
