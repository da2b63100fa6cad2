//! Large artifacts on latency-sensitive channels: pushed chunk by chunk behind their advert.

use slotcast::artifact::CHUNK_BYTES_MIN;
use slotcast::broadcast::{Broadcast, ChunkTaken, OutStream, SendBuffer, Taken};
use slotcast::config::{ChannelConfig, Config};
use slotcast::error::Fault;
use slotcast::time::Time;
use slotcast::wire::{Chunk, Request};
use slotcast_testkit::machines::{
    CHANNEL, Frame, LARGE_CHUNKS, Net, Solo, artifact, config, large, node, peer, range, small,
};

const LENGTH: usize = 100_000_000;

const CHUNKS_OF_LARGE: usize = LARGE_CHUNKS as usize;

/// The flows of the one channel.
const UPDATES: usize = 0;
const CHUNKS: usize = 1;

fn sensitive() -> Config {
    config(|channel: &mut ChannelConfig| {
        channel.latency_sensitive = true;
        channel.artifact_bytes_max = LENGTH as u64;
        channel.active_bytes_max = 2 * LENGTH as u64;
        channel.inbox_bytes_max = 2 * LENGTH as u64;
    })
}

#[test]
fn r12_an_artifact_of_100_megabytes_is_pushed() {
    let mut net = Net::new(sensitive(), 2);
    let block = artifact(1, LENGTH);
    net.publish(0, &block);
    net.run();
    assert_eq!(net.delivered(1), [block.id()]);
    assert_eq!(net.chunks(0, 1).len(), block.advert().chunks() as usize);
    assert_eq!(net.frames(1, 0), [], "nothing was asked for");
}

#[test]
fn i11_large_artifacts_go_back_and_forth() {
    let mut net = Net::new(sensitive(), 2);
    for round in 0..6 {
        let from = round as usize % 2;
        let block = artifact(round, [5_000_000, 1_000_000][from]);
        net.publish(from, &block);
        net.run();
        assert_eq!(net.delivered(1 - from), [block.id()]);
        net.abort(from, &block);
        net.run();
        assert_eq!(net.events(1 - from).len(), 1);
    }
    assert!(
        net.frames(0, 1)
            .iter()
            .chain(&net.frames(1, 0))
            .all(|frame| { !matches!(frame, Frame::Fetch { .. }) })
    );
}

#[test]
fn l5_an_abort_in_the_middle_of_a_push_ends_it_at_once() {
    let mut net = Net::new(sensitive(), 2);
    net.room = 1000;
    let block = artifact(1, 20 * CHUNK_BYTES_MIN);
    net.publish(0, &block);
    for _ in 0..6 {
        let (id, send) = net.send(0, 1, 1000).expect("more chunks");
        assert!(!send.finish);
        net.deliver(id, usize::MAX);
    }
    assert_eq!(net.chunks(0, 1), [0, 1, 2, 3, 4]);
    net.abort(0, &block);
    assert_eq!(net.resets, [(0, 1)], "once");
    net.run();
    assert_eq!(net.chunks(0, 1).len(), 5);
    assert_eq!(net.frames(0, 1).last(), Some(&Frame::Clear { slot: 0, version: 2 }));
    assert_eq!(net.events(1), []);
    assert_eq!(net.nodes[1].known_count(), 0);
}

#[test]
fn a_push_whose_connection_breaks_is_completed_by_the_next() {
    let mut net = Net::new(sensitive(), 2);
    net.publish(0, &large(1));
    for _ in 0..3 {
        let (id, _) = net.send(0, 1, 1000).expect("advert or chunk");
        net.deliver(id, usize::MAX);
    }
    net.disconnect(0, 1);
    net.connect(0, 1);
    net.run();
    assert_eq!(net.delivered(1), [large(1).id()]);
}

#[test]
fn a_stream_that_ends_too_early_is_made_up_for_by_a_fetch() {
    let mut solo = Solo::new(&sensitive(), 2);
    solo.advert(1, 0, 1, &large(1));
    let first = solo.asked(1, &large(1), 0..LARGE_CHUNKS);
    // A second holder's stream is not needed.
    assert_eq!(solo.stream(0, 0, 1, &large(1)), Taken::Unwanted);
    let Taken::Chunks(request) = solo.stream(0, 1, 2, &large(2)) else { panic!("wanted") };
    solo.chunks(0, request, &large(2), 0..2);
    solo.advert(1, 1, 2, &large(2));
    solo.chunks(1, first, &large(1), 0..LARGE_CHUNKS);
    solo.answer_end(0, request);
    let request = solo.asked(1, &large(2), 2..LARGE_CHUNKS);
    solo.chunks(1, request, &large(2), 2..LARGE_CHUNKS);
    solo.expect_delivered([&large(1), &large(2)]);
}

#[test]
fn a_wrong_chunk_in_a_stream_is_a_fault_and_the_artifact_is_fetched_elsewhere() {
    let mut solo = Solo::new(&sensitive(), 2);
    let Taken::Chunks(request) = solo.stream(0, 0, 1, &large(1)) else { panic!("wanted") };
    solo.advert(1, 0, 1, &large(1));
    solo.chunks(0, request, &large(1), 0..1);
    let (bytes, proof) = large(2).chunk(1);
    let wrong = Chunk { index: 1, proof, bytes: &bytes };
    assert_eq!(solo.raw_chunk(0, request, &wrong), Err(Fault::WrongChunk));
    assert_eq!(solo.chunk(0, request, &large(1), 1), Ok(ChunkTaken::Done));
    solo.asked(1, &large(1), 1..LARGE_CHUNKS);
}

#[test]
fn more_large_artifacts_than_streams_allowed_are_advertised_and_fetched() {
    let mut config = sensitive();
    config.streamed_per_peer_max = 2;
    let mut net = Net::new(config, 2);
    net.hold_acks = true;
    let blocks: Vec<_> = (0..5).map(large).collect();
    blocks.iter().for_each(|block| net.publish(0, block));
    net.run();
    net.ack();
    net.run();
    let mut seen = net.delivered(1);
    seen.sort();
    let mut ids: Vec<_> = blocks.iter().map(|block| block.id()).collect();
    ids.sort();
    assert_eq!(seen, ids);
    let streamed = |frame: &&Frame| matches!(frame, Frame::Advert { streamed: true, .. });
    assert_eq!(net.frames(0, 1).iter().filter(streamed).count(), 2);
    assert_eq!(net.chunks(0, 1).len(), 5 * CHUNKS_OF_LARGE, "each chunk once");
}

/// The streams of the pieces that a machine sends without opening one, until there are no more.
fn continued(solo: &mut Solo) -> Vec<OutStream> {
    let mut streams = Vec::new();
    let mut out = SendBuffer::new();
    assert!(!solo.machine.has_flow_backlog(peer(0), UPDATES, false));
    assert!(solo.machine.poll_flow(peer(0), UPDATES, 1000, false, &mut out).is_none());
    while solo.machine.has_flow_backlog(peer(0), CHUNKS, false) {
        let send = solo.machine.poll_flow(peer(0), CHUNKS, 1000, false, &mut out);
        let send = send.expect("it has a backlog");
        assert!(!send.open && !out.is_empty());
        streams.extend(send.stream);
        solo.settle();
    }
    assert!(solo.machine.poll_flow(peer(0), CHUNKS, 1000, false, &mut out).is_none());
    streams
}

/// All streams that a peer allows may be pushes whose chunks have not been sent yet: they must come
/// to their ends, or there is never another stream.
#[test]
fn while_no_stream_can_be_opened_those_that_are_open_go_on() {
    let mut solo = Solo::new(&sensitive(), 1);
    let blocks: Vec<_> = (0..4).map(large).collect();
    let publish = |solo: &mut Solo, block| solo.machine.publish(CHANNEL, block).expect("room");
    blocks[..2].iter().for_each(|block| publish(&mut solo, block.clone()));
    // Asked for before the pushes begin, so that this one has its turn first.
    let (id, request) = (blocks[0].id(), 1);
    solo.request(
        0,
        Request::Fetch { request, channel: CHANNEL, id, ranges: range(0..LARGE_CHUNKS) },
    );
    let mut out = SendBuffer::new();
    let mut open = Vec::new();
    for _ in 0..2 {
        let send = solo.machine.poll_flow(peer(0), UPDATES, 1000, true, &mut out);
        open.extend(send.expect("an advert").stream);
    }
    blocks[2..].iter().for_each(|block| publish(&mut solo, block.clone()));

    let streams = continued(&mut solo);
    let all_of =
        |stream: &OutStream| streams.iter().filter(|of| *of == stream).count() == CHUNKS_OF_LARGE;
    let count = streams.len();
    assert!(open.len() == 2 && count == 2 * CHUNKS_OF_LARGE && open.iter().all(all_of));
    // One of them has arrived, so that another can be opened: for the request, then for an advert.
    let send = solo.machine.poll_flow(peer(0), CHUNKS, 1000, true, &mut out).expect("the answer");
    assert!(send.open && !open.contains(&send.stream.expect("to be continued")));
    assert_eq!(continued(&mut solo).len(), CHUNKS_OF_LARGE - 1);
    let send = solo.machine.poll_flow(peer(0), UPDATES, 1000, true, &mut out).expect("an advert");
    assert!(send.open && !send.finish);
    assert_eq!(continued(&mut solo).len(), CHUNKS_OF_LARGE);
}

/// The same, when it is this side that would have to remember too many streams.
#[test]
fn with_as_many_streams_unacknowledged_as_can_be_those_that_are_open_go_on() {
    const LIMIT: usize = 4096;
    let mut config = sensitive();
    config.channels[0].slots_max = 2 * LIMIT as u32;
    let mut machine = Broadcast::new(&config, node(9), 7).expect("a valid configuration");
    machine.add_peer(peer(0), node(0));
    machine.peer_up(Time(1), peer(0), |_| true);
    let mut out = SendBuffer::new();
    machine.publish(CHANNEL, large(0)).expect("room");
    let mut open = 0;
    while let Some(send) = machine.poll_flow(peer(0), UPDATES, 1000, true, &mut out) {
        assert!(send.open && send.stream.is_some());
        open += 1;
        machine.publish(CHANNEL, small(1 + open as u64)).expect("room");
    }
    assert_eq!(open, LIMIT);
    for chunk in 0..LARGE_CHUNKS {
        assert!(machine.has_backlog(peer(0)), "chunk {chunk}");
        let send = machine.poll_send(Time(1), peer(0), 1000, &mut out).expect("a chunk");
        assert_eq!((send.open, send.finish), (false, chunk + 1 == LARGE_CHUNKS));
    }
    assert!(!machine.has_backlog(peer(0)));
    assert!(machine.poll_send(Time(1), peer(0), 1000, &mut out).is_none());
}
