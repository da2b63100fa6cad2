//! Aborts of what a peer has no credit for.

use std::vec::Vec;

use quinn_proto::TransportConfig as QuicTransport;

use super::arena::{Arena, DIALLER, VICTIM};
use super::{artifact, ms};

/// A stream that is reset in the middle of a piece, for which there is no credit: what is written
/// after that goes out.
#[test]
fn an_abort_while_stream_credit_is_used_up_leaves_the_link_usable() {
    let mut transport = QuicTransport::default();
    transport.stream_receive_window(300_u32.into());
    let mut arena = Arena::with(DIALLER, transport);
    arena.hostile_mut().reads = false;
    arena.dial();
    arena.greet();
    let blocks: Vec<_> = (0..8).map(|at| artifact(1, 700 + at)).collect();
    blocks.iter().for_each(|block| arena.publish(VICTIM, block));
    arena.elapse(ms(200));
    blocks.iter().for_each(|block| arena.abort(VICTIM, block));
    arena.elapse(ms(200));
    arena.hostile_mut().reads = true;
    arena.elapse(ms(200));
    arena.publish(VICTIM, &artifact(9, 100));
    arena.until("it has come", |arena| {
        let hostile = arena.hostile();
        hostile.read.values().any(|bytes| bytes.windows(100).any(|run| run == [9; 100]))
    });
    arena.assert_unharmed();
}
