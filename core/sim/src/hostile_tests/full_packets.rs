//! Packets with as many frames as there is room for, which QUIC puts in order, or answers, before anything of it is read.

use std::vec::Vec;

use quinn_proto::{StreamId, VarInt};

use super::arena::Arena;
use super::{config, ms};
use slotcast::error::Fault;
use slotcast::node::NodeEvent;

// Frames (RFC 9000, section 19).
const CRYPTO: u8 = 0x06;
const STREAM_WITH_OFFSET_AND_LENGTH: u8 = 0x0e;
const PATH_CHALLENGE: u8 = 0x1a;

/// Pieces of one byte in a packet, of 8 bytes each.
const PIECES: u16 = 150;

/// Of two bytes.
fn varint(value: u16) -> [u8; 2] {
    (value | 0x4000).to_be_bytes()
}

/// Pieces of a stream, or of handshake data, of one byte each with gaps between them, none of which is the first one.
fn pieces(of: &[u8]) -> Vec<u8> {
    let piece = |at: u16| [of, &varint(1 + 2 * at), &[1, 7]].concat();
    (0..PIECES).flat_map(piece).collect()
}

fn pieces_of_stream(stream: StreamId) -> Vec<u8> {
    let id = u16::try_from(VarInt::from(stream).into_inner()).expect("one of the first");
    pieces(&[&[STREAM_WITH_OFFSET_AND_LENGTH][..], &varint(id)].concat())
}

fn greeted() -> Arena {
    let mut config = config();
    (config.work.fruitless_per_second, config.work.fruitless_max) = (100, 1000);
    let mut arena = Arena::forging(&config);
    arena.dial();
    arena.greet();
    arena.take_told();
    arena
}

/// Whether it is a fault to send these frames in so many packets.
fn is_fault(arena: &mut Arena, frames: &[u8], packets: usize) -> bool {
    arena.send_frames(frames, packets);
    let is_fault = |event: &NodeEvent| {
        matches!(event, NodeEvent::Fault { fault: Fault::WorkWithoutProgress, .. })
    };
    arena.take_told().iter().any(is_fault)
}

#[test]
fn pieces_that_come_again_and_again_are_work_without_progress() {
    let mut arena = greeted();
    let stream = arena.open().expect("stream credit");
    // Once, it is new.
    let pieces = pieces_of_stream(stream);
    assert!(!is_fault(&mut arena, &pieces, 1));
    assert!(is_fault(&mut arena, &pieces, 200));
    arena.assert_unharmed();
}

/// A new byte in each packet hides nothing.
#[test]
fn pieces_that_come_again_beside_new_ones_are_work_without_progress() {
    let mut arena = greeted();
    let pieces = pieces_of_stream(arena.open().expect("stream credit"));
    let written = arena.open().expect("stream credit");
    let is_found = (0..200).any(|_| {
        arena.write_to(written, &[0x40], false);
        is_fault(&mut arena, &pieces, 1)
    });
    assert!(is_found);
    arena.assert_unharmed();
}

#[test]
fn pieces_of_handshake_data_are_work_without_progress() {
    let mut arena = greeted();
    assert!(is_fault(&mut arena, &pieces(&[CRYPTO]), 200));
    arena.assert_unharmed();
}

/// Each is answered by a datagram of 1,200 bytes, before all else.
#[test]
fn path_challenges_are_work_without_progress() {
    let mut arena = greeted();
    let challenge = [&[PATH_CHALLENGE][..], &[7; 8]].concat();
    assert!(is_fault(&mut arena, &challenge, 200));
    arena.assert_unharmed();
}

/// Nobody has said hello, so nobody is at fault.
#[test]
fn a_connection_with_much_of_it_before_its_hello_is_closed() {
    let mut arena = Arena::forging(&config());
    arena.dial();
    let is_coming_up = |arena: &Arena| {
        let id = arena.hostile_id();
        let mut open = arena.victim().open_connections();
        open.any(|connection| connection.node == Some(id) && !connection.is_dialled)
    };
    arena.elapse(ms(50));
    arena.send_frames(&pieces(&[CRYPTO]), 5);
    assert!(is_coming_up(&arena));
    arena.send_frames(&pieces(&[CRYPTO]), 200);
    assert!(!is_coming_up(&arena));
    arena.assert_not_noticed("it is no fault");
    arena.assert_unharmed();
}
