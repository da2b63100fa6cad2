//! Buffers for datagrams that have come and for what was encoded, used again once QUIC has let go of them.
//!
//! QUIC may keep a part of a datagram for long, and with it the whole buffer, of which it counts the one datagram.
//! So no two contents share a buffer, and only so many buffers are longer than their contents: while all of
//! these are kept, each content has an allocation of its own length.

use std::collections::VecDeque;

use bytes::BytesMut;

use crate::config::{ENCODED_BYTES, RECEIVED_BYTES};

/// The shortest buffer is of 2 to this power bytes: a datagram with an acknowledgement.
const SHORTEST_LOG: u32 = 6;

/// The longest is of 2 to this power bytes: an allocation costs nothing beside what is longer.
const LONGEST_LOG: u32 = 14;

/// One for each power of two.
const LENGTHS: usize = (LONGEST_LOG - SHORTEST_LOG) as usize + 1;

/// So many buffers, those that were filled longest ago, are looked at for one that is free. Most become free in about
/// that order.
const LOOKED_AT: usize = 4;

#[derive(Debug)]
pub(super) struct Buffers {
    /// Bytes in the buffers of one length, at most.
    bytes_per_length: usize,
    /// By length, what is left of each buffer: nothing but the handle by which it is filled again.
    filled: [VecDeque<BytesMut>; LENGTHS],
}

impl Buffers {
    /// For datagrams that have come.
    pub(super) fn received() -> Self {
        Self::new(RECEIVED_BYTES)
    }

    /// For what was encoded.
    pub(super) fn encoded() -> Self {
        Self::new(ENCODED_BYTES)
    }

    fn new(bytes_max: u64) -> Self {
        Self { bytes_per_length: bytes_max as usize / LENGTHS, filled: Default::default() }
    }

    /// A copy of `bytes` that shares its buffer with nothing else.
    pub(super) fn copy(&mut self, bytes: &[u8]) -> BytesMut {
        let log = bytes.len().next_power_of_two().ilog2().max(SHORTEST_LOG);
        if log > LONGEST_LOG {
            return BytesMut::from(bytes);
        }
        let (filled, length) = (&mut self.filled[(log - SHORTEST_LOG) as usize], 1 << log);
        let most = self.bytes_per_length / length;
        let Some(mut buffer) = free_buffer(filled, length, most) else {
            return BytesMut::from(bytes);
        };
        buffer.extend_from_slice(bytes);
        let copy = buffer.split();
        filled.push_back(buffer);
        copy
    }
}

/// A buffer of this length that nobody has. `None` if there are `most` of them.
fn free_buffer(filled: &mut VecDeque<BytesMut>, length: usize, most: usize) -> Option<BytesMut> {
    for _ in 0..LOOKED_AT.min(filled.len()) {
        let mut oldest = filled.pop_front().expect("counted");
        if oldest.try_reclaim(length) {
            return Some(oldest);
        }
        filled.push_back(oldest);
    }
    (filled.len() < most).then(|| BytesMut::with_capacity(length))
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    #[test]
    fn a_buffer_is_used_again_once_nobody_has_a_part_of_it() {
        let mut buffers = Buffers::encoded();
        let first = buffers.copy(&[1; 1400]);
        let place = first.as_ptr();
        let kept = first.freeze().slice(7..8);
        for length in [1400, 2048, 1025] {
            assert_ne!(buffers.copy(&[2; 2048][..length]).as_ptr(), place, "somebody has it");
        }
        assert_eq!(kept, &[1][..]);
        drop(kept);
        let copies: Vec<BytesMut> = (0..3).map(|_| buffers.copy(&[3; 1390])).collect();
        assert!(copies.iter().any(|copy| copy.as_ptr() == place));
        assert!(copies.iter().all(|copy| copy == &[3; 1390][..]));
    }

    /// Others become free in their turn.
    #[test]
    fn a_part_that_is_kept_for_long_costs_one_buffer() {
        let mut buffers = Buffers::encoded();
        let kept = buffers.copy(&[1; 1000]);
        (0..100).for_each(|n| assert_eq!(buffers.copy(&[n; 1000]), &[n; 1000][..]));
        assert_eq!(kept, &[1; 1000][..]);
        assert_eq!(buffers.filled[(1024_usize.ilog2() - SHORTEST_LOG) as usize].len(), 2);
    }

    #[test]
    fn contents_of_all_lengths_are_copied() {
        let mut buffers = Buffers::encoded();
        let bytes: Vec<u8> = (0..3 << LONGEST_LOG).map(|n| n as u8).collect();
        let lengths = (0..300).chain([(1 << LONGEST_LOG) - 1, 1 << LONGEST_LOG, bytes.len()]);
        for length in lengths.clone().chain(lengths) {
            assert_eq!(buffers.copy(&bytes[..length]), &bytes[..length]);
        }
    }

    #[test]
    fn while_all_buffers_are_kept_contents_have_allocations_of_their_length() {
        let mut buffers = Buffers::encoded();
        let kept: Vec<BytesMut> = (0..500).map(|n| buffers.copy(&[n as u8; 1000])).collect();
        assert!(kept.iter().zip(0..).all(|(copy, n)| copy == &[n as u8; 1000][..]));
        let held = buffers.filled[(1024_usize.ilog2() - SHORTEST_LOG) as usize].len();
        assert_eq!(held, ENCODED_BYTES as usize / LENGTHS / 1024);
        assert!(kept[held..].iter().all(|copy| copy.capacity() == 1000));
    }
}
