//! Members that cost much: they begin much and end nothing, or take nothing.

use slotcast_testkit::foe::Transport;
use slotcast_tokio::slotcast::wire::StreamHead;

use crate::arena::{Arena, SMOL, TOKIO, within};
use crate::words::{CHANNELS, IN_FLIGHT_MAX, call, frame, push, stream, updates};

/// Starts of streams that are never ended.
fn starts() -> [Vec<u8>; 5] {
    let half = |mut bytes: Vec<u8>| {
        bytes.pop();
        bytes
    };
    [
        stream(StreamHead::Updates(CHANNELS[0]), &[]),
        vec![1],
        half(updates(&[&push(1, 1, &[1; 900])])),
        half(stream(StreamHead::Requests, &[&frame(9, &[1])])),
        stream(StreamHead::Unknown(77), &[&[7; 100]]),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_unfinished_streams_as_it_may_open() {
    let mut arena = Arena::start(SMOL).await;
    let line = arena.greet(&arena.foe()).await;
    let (mut streams, mut calls) = (Vec::new(), Vec::new());
    for start in starts().iter().cycle() {
        let Some(mut stream) = line.try_open() else { break };
        stream.write_all(start).await.expect("connected");
        streams.push(stream);
    }
    for start in [&call(100)[..], &call(100)[..3], &call(9), &[]].iter().cycle() {
        let Some((mut send, receive)) = line.try_call() else { break };
        send.write_all(start).await.expect("connected");
        calls.push((send, receive));
    }
    let streams_max = arena.config().transport.streams_max as usize;
    let open = streams.len();
    // Few in any case, and more as these are used.
    assert!((4..=streams_max).contains(&open), "{open}");
    assert_eq!(calls.len(), 2 * usize::from(IN_FLIGHT_MAX));
    arena.flows_for(20).await;
    assert!(arena.is_up());
    assert_eq!(arena.end().await.faults, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn storms_of_resets() {
    let mut arena = Arena::start(TOKIO).await;
    let line = arena.greet(&arena.foe()).await;
    let starts = starts();
    let storm = async {
        for n in 0..2000 {
            let mut stream = line.open().await;
            // Of an unknown type it is stopped.
            let _ = stream.write_all(&starts[n % starts.len()]).await;
            // Some before anything has left, some after.
            if n % 7 == 0 {
                tokio::task::yield_now().await;
            }
            let _ = stream.reset(7_u32.into());
        }
    };
    tokio::join!(arena.flows(), within("streams come back", storm));
    // All that was reset has given back what it took.
    line.write(&updates(&[&push(1, 1, b"after")])).await;
    arena.taken_is("what comes after", |taken| taken.contains(&b"after".to_vec())).await;
    assert!(arena.is_up());
    assert_eq!(arena.end().await.faults, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_nothing_is_given_nothing_more() {
    // Its credit: one stream; next to no bytes; all there is by default, but it does not read.
    for way in 0..3 {
        let mut transport = Transport::default();
        match way {
            0 => drop(transport.max_concurrent_uni_streams(1_u32.into())),
            1 => drop(transport.receive_window(300_u32.into())),
            _ => {}
        }
        let mut arena = Arena::start([TOKIO, SMOL][way % 2]).await;
        let line = arena.greet(&arena.foe_with(transport)).await;
        arena.flows_for(50).await;
        assert!(arena.is_up() && line.0.close_reason().is_none(), "it may be slow");
        assert_eq!(arena.end().await.faults, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_byte_at_a_time() {
    let mut arena = Arena::start(TOKIO).await;
    let line = arena.greet(&arena.foe()).await;
    let update = updates(&[&push(1, 1, b"slow")]);
    let request = [call(6), b"slower".to_vec()].concat();
    let mut stream = line.open().await;
    let (mut send, mut receive) = line.0.open_bi().await.expect("connected");
    for at in 0..update.len().max(request.len()) {
        for (stream, bytes) in [(&mut stream, &update), (&mut send, &request)] {
            if let Some(byte) = bytes.get(at) {
                stream.write_all(&[*byte]).await.expect("it is waited for");
            }
        }
        // What was written is complete with its last byte, and may be delivered at once.
        assert!(arena.taken().is_empty() || at + 1 >= update.len());
        arena.flows_for(1).await;
    }
    arena.taken_is("the update", |taken| taken == [b"slow"]).await;
    send.finish().expect("it is waited for");
    let answer = within("an answer", receive.read_to_end(100)).await.expect("it is answered");
    assert!(answer.ends_with(b"rewols"), "{answer:?}");
    assert_eq!(arena.end().await.faults, 0);
}
