//! Streams of a member that was taken on: slots, frames and epochs.

use slotcast_tokio::slotcast::error::{CallError, Fault};
use slotcast_tokio::slotcast::id::ChannelId;
use slotcast_tokio::slotcast::wire::{
    Malformed, Ranges, Refusal, Reply, Request, StreamDecoder, StreamHead,
};

use crate::arena::{Arena, FAULTS, SMOL, TOKIO, within};
use crate::words::{
    CHANNELS, SLOTS_MAX, artifact, call, clear, hello, push, reply, request, snapshot, stream,
    streamed, updates,
};

#[tokio::test(flavor = "multi_thread")]
async fn all_slots_of_all_channels_filled_over_and_over() {
    const ROUNDS: u64 = 50;
    let mut arena = Arena::start(TOKIO).await;
    let line = arena.greet(&arena.foe()).await;
    let content = |channel: ChannelId, round: u64, slot: u32| {
        let numbers = [channel.0.into(), round, u64::from(slot)];
        numbers.map(u64::to_be_bytes).concat()
    };
    let flood = async {
        for round in 1..=ROUNDS {
            for channel in CHANNELS {
                let slots = 0..SLOTS_MAX;
                let push = |slot| push(slot, round, &content(channel, round, slot));
                let pushes = slots.map(push).collect::<Vec<_>>().concat();
                line.write(&stream(StreamHead::Updates(channel), &[&pushes])).await;
            }
        }
    };
    tokio::join!(arena.flows(), flood);
    // The newest content of each slot arrives, whatever became of the rest.
    let newest = |channel: ChannelId| (0..SLOTS_MAX).map(move |slot| (channel, slot));
    let newest = CHANNELS.into_iter().flat_map(newest);
    let newest: Vec<_> = newest.map(|(channel, slot)| content(channel, ROUNDS, slot)).collect();
    let is_all = |taken: &[Vec<u8>]| newest.iter().all(|content| taken.contains(content));
    arena.taken_is("the last round", is_all).await;
    assert!(arena.is_up());
    assert_eq!(arena.end().await.faults, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_beyond_the_bound_cut_off_their_sender() {
    let mut arena = Arena::start(SMOL).await;
    let line = arena.greet(&arena.foe()).await;
    for (count, slot) in [SLOTS_MAX, SLOTS_MAX + 1, u32::MAX].into_iter().enumerate() {
        line.write(&updates(&[&push(slot, 1, b"too far")])).await;
        arena.fault("a slot", count as u32 + 1, Fault::SlotBeyondBound).await;
    }
    arena.cut_off(&line).await;
    assert_eq!(arena.taken(), Vec::<Vec<u8>>::new());
    assert_eq!(arena.end().await.faults, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_epoch_over_many_connections_is_delivered_once() {
    let mut arena = Arena::start(TOKIO).await;
    let foe = arena.foe();
    for number in 1..=50_u64 {
        let line = arena.greet(&foe).await;
        let marker = push(2, number, &number.to_be_bytes());
        line.write(&updates(&[&snapshot(1, &[0b110]), &push(1, 1, b"again"), &marker])).await;
        let is_there = |taken: &[Vec<u8>]| taken.contains(&number.to_be_bytes().to_vec());
        arena.taken_is("what is new in this epoch", is_there).await;
    }
    assert_eq!(arena.taken().iter().filter(|bytes| *bytes == b"again").count(), 1);
    assert_eq!((arena.taken().len(), arena.faults().0), (51, 0));
    // In one epoch, once is enough.
    let line = arena.greet(&foe).await;
    line.write(&updates(&[&snapshot(1, &[2])])).await;
    for count in 1..=3 {
        let again = updates(&[&snapshot(1, &[2]), &snapshot(1, &[2])]);
        line.write(&again).await;
        arena.fault("a snapshot again", count, Fault::SnapshotRepeated).await;
    }
    arena.cut_off(&line).await;
    assert_eq!(arena.end().await.faults, 3);
}

/// A stream, and the places where it may end.
type Frames = (&'static str, Vec<u8>, Vec<usize>);

/// Streams of all sorts, with a frame of each kind behind the hello.
fn streams() -> Vec<Frames> {
    let whole = |what, head: StreamHead, frame: &[u8]| {
        let ends = vec![stream(head, &[]).len(), stream(head, &[frame]).len()];
        (what, stream(head, &[frame]), ends)
    };
    let in_updates = StreamHead::Updates(CHANNELS[0]);
    let (channel, id) = (CHANNELS[0], artifact(1).id());
    let fetch =
        Request::Fetch { request: 1, channel, id, ranges: Ranges::from_iter([(0..1).into()]) };
    let refuse = Request::Refuse { request: 1, refusal: Refusal::NotHeld };
    vec![
        whole("clear", in_updates, &clear(1, 1)),
        whole("push", in_updates, &push(2, 1, b"cut me")),
        whole("snapshot", in_updates, &snapshot(1, &[4])),
        whole("fetch", StreamHead::Requests, &request(&fetch)),
        whole("cancel", StreamHead::Requests, &request(&Request::Cancel { request: 1 })),
        whole("refuse", StreamHead::Requests, &request(&refuse)),
    ]
}

/// Whether a stream may end here.
fn is_whole(mut bytes: &[u8]) -> bool {
    let mut decoder = StreamDecoder::new(1024);
    while decoder.next(&mut bytes).expect("only cut").is_some() {}
    decoder.finish().is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_frame_cut_at_every_place_is_one_fault() {
    let mut arena = Arena::with(TOKIO, |config| config.transport.faults_max = u32::MAX).await;
    let foe = arena.foe();
    let truncated = Fault::Malformed(Malformed::Truncated);
    let mut count = 0;
    let line = arena.greet(&foe).await;
    for (what, bytes, ends) in streams() {
        for cut in 0..bytes.len() {
            line.write(&bytes[..cut]).await;
            count += u32::from(!ends.contains(&cut));
        }
        arena.fault(what, count, truncated).await;
    }
    // An advert, and the chunk behind it: each of an artifact of its own, since those that were cut
    // are asked for afterwards.
    let number = |cut: usize| 100 + cut as u64;
    let [advert, chunk] = streamed(3, 1, &artifact(number(0)));
    let (head, length) = (updates(&[]).len(), updates(&[&advert, &chunk]).len());
    for cut in 0..length {
        let version = 2 * cut as u64 + 2;
        let frames = streamed(3, version, &artifact(number(cut)));
        let bytes = updates(&[&frames[0], &frames[1]]);
        line.write(&bytes[..bytes.len() - (length - cut)]).await;
        let is_end = cut == head || cut == head + advert.len();
        count += u32::from(!is_end);
        arena.until("an advert", |arena| arena.faults().0 >= count).await;
        line.write(&updates(&[&clear(3, version + 1)])).await;
    }
    arena.fault("adverts and chunks", count, truncated).await;
    assert!(arena.is_up());

    // A hello: each in a connection of its own.
    line.hang_up();
    arena.until("gone", |arena| !arena.is_up()).await;
    let bytes = hello();
    for cut in 0..bytes.len() {
        let line = arena.dial(&foe).await;
        line.write(&bytes[..cut]).await;
        if is_whole(&bytes[..cut]) {
            // A hello, if a poor one.
            arena.until("taken on", Arena::is_up).await;
            line.hang_up();
            arena.until("gone", |arena| !arena.is_up()).await;
        } else {
            within("closed", line.closed(FAULTS)).await;
            count += 1;
            arena.fault("a hello", count, truncated).await;
        }
    }
    let stats = arena.end().await;
    assert_eq!(stats.faults, u64::from(count));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_and_reply_cut_at_every_place_is_one_fault() {
    let mut arena = Arena::with(SMOL, |config| config.transport.faults_max = u32::MAX).await;
    let line = arena.greet(&arena.foe()).await;
    let truncated = Fault::Malformed(Malformed::Truncated);
    let mut count = 0;
    let bytes = [call(5), b"12345".to_vec()].concat();
    for cut in 0..bytes.len() {
        // Dropped, it would be cancelled.
        let _streams = line.ask(&bytes[..cut]).await;
        count += 1;
        arena.fault("a call", count, truncated).await;
    }
    let (_, mut answer) = line.ask(&bytes).await;
    let answer = within("an answer", answer.read_to_end(100)).await.expect("not reset");
    assert_eq!(answer, [reply(Reply::Answer { length: 5 }), b"54321".to_vec()].concat());

    let answer = [reply(Reply::Answer { length: 5 }), b"54321".to_vec()].concat();
    for bytes in [answer, reply(Reply::Busy { retry_after_ms: 5 })] {
        for cut in 0..bytes.len() {
            let asked = arena.ask_foe(b"what?");
            let (mut send, _receive) =
                within("a call", line.0.accept_bi()).await.expect("connected");
            send.write_all(&bytes[..cut]).await.expect("it is waited for");
            send.finish().expect("it is waited for");
            let error = within("the call's end", asked).await.expect_err("cut");
            assert_eq!(error, CallError::Fault);
            count += 1;
            arena.fault("a reply", count, truncated).await;
        }
    }
    assert!(arena.is_up());
    assert_eq!(arena.end().await.faults, u64::from(count));
}
