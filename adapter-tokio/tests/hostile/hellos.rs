//! Beginnings of connections: hellos that are none, and connections that come and go.

use std::time::Duration;

use slotcast_tokio::slotcast::error::Fault;
use slotcast_tokio::slotcast::wire::{HELLO_BYTES_MAX, Malformed, StreamHead};

use crate::arena::{Arena, FAULTS, NO_HELLO, NO_MEMBER, SMOL, TOKIO, within};
use crate::words::{frame, hello, stream};

#[tokio::test(flavor = "multi_thread")]
async fn huge_hellos_cut_off_their_sender() {
    let mut arena = Arena::start(TOKIO).await;
    let foe = arena.foe();
    let field = frame(77, &[7; 1000]);
    let huge = stream(StreamHead::Hello, &[&field.repeat(2 * HELLO_BYTES_MAX / 1000)]);
    for count in 1..=3 {
        let line = arena.dial(&foe).await;
        line.write(&huge).await;
        within("closed", line.closed(FAULTS)).await;
        arena.fault("a huge hello", count, Malformed::FrameTooLong.into()).await;
    }
    let again = arena.dial(&foe).await;
    within("not let in again", again.closed(NO_MEMBER)).await;
    arena.refused().await;
    let stats = arena.end().await;
    assert_eq!((stats.faults, stats.refused), (3, 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_say_hello_is_not_waited_for() {
    let timeout = Duration::from_millis(200);
    let mut arena = Arena::with(SMOL, |config| config.transport.hello_timeout = timeout).await;
    let foe = arena.foe();
    // Nothing; half of it; all but its end.
    for bytes in [&[][..], &hello()[..5], &hello()] {
        let line = arena.dial(&foe).await;
        let mut stream = line.open().await;
        stream.write_all(bytes).await.expect("connected");
        within("given up", line.closed(NO_HELLO)).await;
        assert!(!arena.is_up());
    }
    arena.refused().await;
    let stats = arena.end().await;
    assert_eq!((stats.faults, stats.refused), (0, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn hellos_after_the_first_cut_off_their_sender() {
    let mut arena = Arena::start(SMOL).await;
    let line = arena.greet(&arena.foe()).await;
    for count in 1..=3 {
        line.write(&hello()).await;
        arena.fault("hello again", count, Fault::HelloMisplaced).await;
    }
    arena.cut_off(&line).await;
    assert_eq!(arena.end().await.faults, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_comes_and_goes_two_hundred_times_bothers_no_one() {
    let mut arena = Arena::start(TOKIO).await;
    let before = arena.stats();
    let foe = arena.foe();
    let churn = async {
        for _ in 0..200 {
            let line = foe.connect(arena.address()).await.expect("it is a member");
            line.write(&hello()).await;
            // The victim's own hello, and what it says once it has read the other.
            for _ in 0..2 {
                within("the victim speaks", line.read()).await;
            }
            line.hang_up();
        }
    };
    churn.await;
    let line = arena.greet(&foe).await;
    let stats = arena.stats();
    assert!(arena.is_up());
    assert_eq!((stats.faults, stats.refused), (0, 0));
    // One of the honest members may have been replaced just after the start.
    let came = stats.connections - before.connections;
    assert!((201..=202).contains(&came), "{came}");
    line.hang_up();
    arena.end().await;
}
