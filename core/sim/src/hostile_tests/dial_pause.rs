//! A listener that comes up and does not stay.

use std::time::Duration;
use std::vec::Vec;

use quinn_proto::TransportConfig as QuicTransport;

use super::arena::{Arena, LISTENER};
use super::{config, hello, ms};

/// Connections that came up are dialled again at once only if they stayed up for a while.
#[test]
fn who_greets_and_closes_is_dialled_ever_more_seldom() {
    let longest = config().transport.dial_pause_max;
    let mut arena = Arena::with(LISTENER, QuicTransport::default());
    let mut times = Vec::new();
    let end = arena.now() + 12 * longest;
    while arena.run(end, |arena| arena.has_met()) {
        times.push(arena.now());
        let line = arena.hostile().line();
        let stream = arena.open().expect("stream credit");
        arena.write_to(stream, &hello(), true);
        arena.elapse(ms(30));
        let now = arena.now();
        let mut hostile = arena.hostile_mut();
        hostile.bare.close(now, line);
        hostile.forget();
    }
    let gaps = times.windows(2).map(|two| two[1].since(two[0]));
    let gaps: Vec<Duration> = gaps.collect();
    assert!(gaps.len() > 8 && gaps[0] < longest / 8, "{gaps:?}");
    // With jitter, a pause is half as long at least.
    assert!(gaps[gaps.len() - 3..].iter().all(|gap| *gap >= longest / 2), "{gaps:?}");
    assert_eq!(arena.stats().connections as usize, 1 + times.len(), "all of them came up");
}
