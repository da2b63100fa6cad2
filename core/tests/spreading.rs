//! Spreading: each member is sent another part of a long artifact, and passes it on while it comes. The
//! machines by themselves.

use slotcast::broadcast::{ChunkTaken, Decision, OutStream, Output, RequestId, Taken};
use std::ops::Range;

use slotcast::artifact::Artifact;
use slotcast::config::{ChannelConfig, Config, Relay};
use slotcast::error::Fault;
use slotcast::id::{Slot, Version};
use slotcast::wire::{ChunkBits, Refusal, Update};
use slotcast_testkit::machines::{
    CHANNEL, Frame, Net, Solo, Tap, artifact, config, large, ms, peer, steered,
};

/// Bytes of an artifact of 64 chunks.
const LONG: usize = 64 << 14;

fn spreading() -> Config {
    config(|channel: &mut ChannelConfig| *channel = channel.clone().relaying(Relay::Automatic, 16))
}

/// The chunks that a node has sent another one.
fn sent(net: &Net, from: usize, to: usize) -> Vec<u32> {
    let mut chunks = net.chunks(from, to);
    chunks.sort_unstable();
    chunks
}

#[test]
fn each_member_is_sent_another_part_and_passes_it_on_to_all_others() {
    let mut net = Net::new(spreading(), 5);
    let block = artifact(1, LONG);
    net.publish(0, &block);
    net.run();
    let stripes: Vec<Vec<u32>> = (1..5).map(|at| sent(&net, 0, at)).collect();
    assert!(stripes.iter().all(|stripe| stripe.len() == 16));
    let mut all = stripes.concat();
    all.sort_unstable();
    assert!(all.into_iter().eq(0..64), "the publisher sends each chunk once");
    for at in 1..5 {
        assert_eq!(net.delivered(at), [block.id()]);
        assert!(sent(&net, at, 0).is_empty(), "the publisher has it");
        for other in (1..5).filter(|other| *other != at) {
            assert_eq!(sent(&net, at, other), stripes[at - 1], "its stripe, and nothing else");
        }
    }
    let asked = |from, to| net.frames(from, to).iter().any(|f| matches!(f, Frame::Fetch { .. }));
    assert!((0..5).all(|from| (0..5).all(|to| !asked(from, to))), "nobody had to ask");
}

#[test]
fn what_is_short_is_not_spread() {
    let mut config = spreading();
    config.channels[0].spread_bytes_min = LONG as u64 + 1;
    let mut net = Net::new(config, 4);
    net.publish(0, &artifact(1, LONG));
    net.run();
    let streamed = |frame: &Frame| matches!(frame, Frame::Advert { streamed: true, .. });
    assert!((1..4).all(|to| !net.frames(0, to).iter().any(streamed)));
    assert!((1..4).all(|at| net.delivered(at) == [artifact(1, LONG).id()]));
}

#[test]
fn a_member_that_was_not_there_asks_for_it() {
    let mut net = Net::new(spreading(), 4);
    net.isolate(3);
    let block = artifact(1, LONG);
    net.publish(0, &block);
    net.run();
    (0..3).for_each(|at| net.connect(at, 3));
    net.run();
    assert_eq!(net.delivered(3), [block.id()]);
    let streamed = |frame: &Frame| matches!(frame, Frame::Advert { streamed: true, .. });
    assert!((0..3).all(|from| !net.frames(from, 3).iter().any(streamed)));
}

#[test]
fn a_member_that_does_not_want_it_costs_the_others_nothing_but_time() {
    let mut net = Net::new(spreading(), 4);
    net.nodes[3].set_filter(CHANNEL, steered(Decision::Drop).1);
    let block = artifact(1, LONG);
    net.publish(0, &block);
    net.run();
    assert!((0..3).all(|from| net.chunks(from, 3).len() <= 64 / 3 + 1), "one stripe at most");
    net.elapse(ms(1000));
    net.run();
    assert!([1, 2].iter().all(|at| net.delivered(*at) == [block.id()]), "the others repair it");
}

/// An advert of chunks, of a member that is so far from the publisher.
fn part<'a>(
    block: &Artifact,
    (version, hops): (u64, u8),
    streamed: bool,
    have: &'a [u8],
) -> Update<'a> {
    let (slot, version, advert) = (Slot(0), Version(version), block.advert());
    let have = ChunkBits(have);
    Update::Partial { slot, version, hops, streamed, spread: false, advert, have }
}

fn bring(solo: &mut Solo, at: usize, request: RequestId, block: &Artifact, chunks: Range<u32>) {
    for chunk in chunks {
        solo.chunk(at, request, block, chunk).expect("it is right");
    }
}

/// L18: it costs the time of a request.
#[test]
fn a_member_that_lies_about_its_chunks_is_asked_once_and_passed_over() {
    let mut solo = Solo::new(&config(|_| {}), 2);
    let block = large(1);
    assert_eq!(solo.update(0, &part(&block, (1, 1), false, &[0xff, 0x1f])), Ok(Taken::Done));
    let request = solo.asked(0, &block, 0..13);
    solo.refuse(0, request, Refusal::NotHeld);
    assert_eq!(solo.sent(0), [], "it rests");
    solo.advert(1, 0, 1, &block);
    let request = solo.asked(1, &block, 0..13);
    solo.chunks(1, request, &block, 0..13);
    solo.expect_delivered([&block]);
}

#[test]
fn a_holder_of_a_part_is_asked_for_nothing_else() {
    let mut solo = Solo::new(&config(|_| {}), 2);
    let block = large(1);
    assert_eq!(solo.update(0, &part(&block, (1, 1), false, &[0b110])), Ok(Taken::Done));
    let request = solo.asked(0, &block, 1..3);
    bring(&mut solo, 0, request, &block, 1..3);
    assert_eq!(solo.sent(0), []);
    // More of it.
    assert_eq!(solo.update(0, &part(&block, (2, 1), false, &[0b1110])), Ok(Taken::Done));
    solo.asked(0, &block, 3..4);
}

#[test]
fn what_comes_unasked_may_begin_anywhere_and_no_chunk_may_come_twice() {
    let mut solo = Solo::new(&config(|_| {}), 1);
    let block = large(1);
    let Ok(Taken::Chunks(stream)) = solo.update(0, &part(&block, (1, 1), true, &[])) else {
        panic!("wanted")
    };
    solo.chunks(0, stream, &block, 7..9);
    let again = solo.chunk(0, stream, &block, 7);
    assert_eq!(again, Err(Fault::UnrequestedChunk));
}

/// Members to which a publisher gave the same stripe are stopped.
#[test]
fn what_comes_again_and_again_is_stopped() {
    let mut solo = Solo::new(&config(|_| {}), 2);
    let block = large(1);
    let streams = [0, 1].map(|at| match solo.update(at, &part(&block, (1, 1), true, &[])) {
        Ok(Taken::Chunks(stream)) => stream,
        taken => panic!("{taken:?}"),
    });
    solo.chunks(0, streams[0], &block, 0..8);
    solo.chunks(1, streams[1], &block, 0..3);
    assert_eq!(solo.outputs, []);
    assert_eq!(solo.chunk(1, streams[1], &block, 3), Ok(ChunkTaken::Done));
    assert_eq!(solo.outputs, [Output::Stop { peer: peer(1), request: streams[1] }]);
}

/// Nothing is asked for while chunks come, and what is missing once none do.
#[test]
fn when_a_part_does_not_come_it_is_asked_for() {
    let mut solo = Solo::new(&config(|_| {}), 2);
    let block = large(1);
    let advert = block.advert();
    let (slot, version) = (Slot(0), Version(1));
    let told = Update::Advert { slot, version, hops: 0, streamed: true, spread: true, advert };
    let Ok(Taken::Chunks(stream)) = solo.update(0, &told) else { panic!("wanted") };
    let Ok(Taken::Chunks(other)) = solo.update(1, &part(&block, (1, 1), true, &[])) else {
        panic!("wanted")
    };
    solo.chunks(0, stream, &block, 0..6);
    solo.chunks(1, other, &block, 6..9);
    solo.elapse(ms(100));
    assert_eq!((solo.sent(0), solo.sent(1)), (vec![], vec![]));
    // The other member passes on nothing more. This one's part of what is missing goes first.
    solo.elapse(ms(300));
    let first = solo.asked(0, &block, 12..13);
    bring(&mut solo, 0, first, &block, 12..13);
    solo.elapse(ms(2000));
    let rest = solo.asked(0, &block, 9..12);
    bring(&mut solo, 0, rest, &block, 9..12);
    solo.expect_delivered([&block]);
}

/// The streams that a node sends a member: the chunks in each, and whether it ends.
fn streams(solo: &mut Solo, at: usize) -> Vec<(Vec<u32>, bool)> {
    let mut streams = Vec::new();
    let mut taps: Vec<(Option<OutStream>, Tap)> = Vec::new();
    while let Some((send, bytes)) = solo.send(at, 256 << 10) {
        if send.open {
            taps.push((send.stream, Tap::default()));
            streams.push((Vec::new(), false));
        }
        let place = taps.iter().rposition(|(stream, _)| *stream == send.stream).expect("open");
        let frames = taps[place].1.read(&bytes);
        streams[place].0.extend(frames.iter().filter_map(Frame::chunk));
        streams[place].1 = send.finish;
    }
    streams
}

/// A member allows so many streams: none waits for what may be passed on later.
#[test]
fn what_is_passed_on_ends_with_the_stripe_and_what_is_repaired_comes_in_another_stream() {
    let mut solo = Solo::new(&spreading(), 3);
    let block = large(1);
    let advert = block.advert();
    let (slot, version) = (Slot(0), Version(1));
    let told = Update::Advert { slot, version, hops: 0, streamed: true, spread: true, advert };
    let Ok(Taken::Chunks(stream)) = solo.update(0, &told) else { panic!("wanted") };
    let Ok(Taken::Chunks(other)) = solo.update(1, &part(&block, (1, 1), true, &[])) else {
        panic!("wanted")
    };
    solo.chunks(0, stream, &block, 0..6);
    solo.answer_end(0, stream);
    assert_eq!(streams(&mut solo, 2), [(vec![0, 1, 2, 3, 4, 5], true)]);
    solo.chunks(1, other, &block, 6..9);
    solo.elapse(ms(400));
    let [Frame::Fetch { request, chunks: repaired, .. }] = &solo.sent(0)[..] else {
        panic!("this node's part is repaired")
    };
    for chunk in repaired {
        solo.chunk(0, RequestId(*request), &block, *chunk).expect("it is right");
    }
    solo.settle();
    assert_eq!(streams(&mut solo, 2), [(repaired.clone(), true)]);
    // Who has heard of nothing so far is sent all at once.
    assert_eq!(streams(&mut solo, 1), [([&[0, 1, 2, 3, 4, 5], &repaired[..]].concat(), true)]);
}

#[test]
fn an_abort_ends_what_is_passed_on_at_once() {
    let mut net = Net::new(spreading(), 4);
    let block = artifact(1, LONG);
    net.publish(0, &block);
    net.run_until_chunk(1, 2);
    net.abort(0, &block);
    net.run();
    let pairs = || (0..4).flat_map(|from| (0..4).map(move |to| (from, to)));
    let chunks = |net: &Net| pairs().map(|(a, b)| net.chunks(a, b).len()).sum::<usize>();
    let sent = chunks(&net);
    net.elapse(ms(10_000));
    net.run();
    assert_eq!(chunks(&net), sent);
    assert!((1..4).all(|at| net.delivered(at).is_empty() && net.heard(at, 0).is_empty()));
    let others = |at: usize| (1..4).filter(move |of| *of != at);
    assert!((1..4).all(|at| others(at).all(|of| net.heard(at, of).is_empty())));
}

/// Invariant 12: nor does it come again and again.
#[test]
fn a_part_that_nobody_completes_keeps_nothing_else_from_its_holder() {
    let shared = config(|channel: &mut ChannelConfig| {
        (channel.artifact_bytes_max, channel.inbox_bytes_max) = (1_000_000, 3_200_000);
    });
    let mut solo = Solo::new(&shared, 1);
    let (torso, block) = (artifact(1, 19 << 14), large(2));
    assert_eq!(solo.update(0, &part(&torso, (1, 1), false, &[0b11])), Ok(Taken::Done));
    let request = solo.asked(0, &torso, 0..2);
    bring(&mut solo, 0, request, &torso, 0..2);
    // Both are more than a holder is answerable for.
    solo.advert(0, 1, 2, &block);
    assert_eq!(solo.sent(0), []);
    solo.elapse(ms(2000));
    let request = solo.asked(0, &block, 0..13);
    solo.chunks(0, request, &block, 0..13);
    solo.expect_delivered([&block]);
}
