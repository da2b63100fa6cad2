//! Datagrams that are answered without a connection.

use super::arena::{Arena, DIALLER, VICTIM};
use super::ms;
use crate::address;
use slotcast::node::{Node, Output};

const RESPONSES_MAX: usize = Node::RESPONSES_MAX;

#[test]
fn responses_that_wait_to_be_sent_are_bounded() {
    let mut arena = Arena::ungreeted();
    // An unknown version of QUIC: it is answered with those that are known.
    let mut strange = vec![0; 1200];
    strange[..6].copy_from_slice(&[0xc0, 0xfa, 0xce, 0xb0, 0x0c, 8]);
    let (now, from) = (arena.now(), address(DIALLER));
    let sent = arena.command(VICTIM, |_, node| {
        let node = node.node_mut();
        for _ in 0..10 * RESPONSES_MAX {
            node.handle_datagrams(now, from, None, None, strange.len(), &strange);
        }
        let mut buffer = Vec::new();
        let mut sent = 0;
        while let Output::Transmit(transmit) = node.poll(now, 1, &mut buffer) {
            sent += usize::from(transmit.destination == from);
        }
        sent
    });
    assert_eq!(sent, Some(RESPONSES_MAX));
    arena.elapse(ms(100));
    arena.assert_unharmed();
}
