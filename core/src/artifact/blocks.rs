//! Buffers that short artifacts share, so that receiving one allocates nothing.
//!
//! The bytes of an artifact are needed until the last of those that have a handle to it drops it, in no
//! order and on any thread. So a block is used again when nothing but its own first byte, which stays
//! here, refers to it.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use bytes::{Bytes, BytesMut};

/// Bytes in a block: some tens of artifacts of 200 bytes. Who keeps one of them keeps the block.
const BLOCK_BYTES: usize = 16 << 10;

/// Blocks for what a node receives. If artifacts that are kept use all of them, further ones get a buffer each: what is
/// kept may cost at most this much more than its bytes.
const RECEIVED_MAX: usize = 128;

/// The same for what it publishes, which is less.
const PUBLISHED_MAX: usize = 32;

/// Bytes in all of them.
pub(crate) const BLOCKS_BYTES_MAX: u64 = ((RECEIVED_MAX + PUBLISHED_MAX) * BLOCK_BYTES) as u64;

/// So many blocks, those that were filled longest ago, are looked at for one that is free. Most artifacts
/// are dropped in about the order in which they came.
const LOOKED_AT: usize = 4;

#[derive(Debug)]
pub(crate) struct Blocks {
    max: usize,
    /// What is left of the block that is being filled.
    open: BytesMut,
    /// The first bytes of all blocks, in the order in which they were begun.
    begun: VecDeque<Bytes>,
}

impl Blocks {
    pub(crate) fn received() -> Self {
        Self::new(RECEIVED_MAX)
    }

    #[cfg(feature = "driver")]
    pub(crate) fn published() -> Self {
        Self::new(PUBLISHED_MAX)
    }

    fn new(max: usize) -> Self {
        Self { max, open: BytesMut::new(), begun: VecDeque::new() }
    }

    /// A copy of `parts`, one behind the other: at most [`BLOCK_BYTES`] less one.
    pub(crate) fn copy(&mut self, parts: &[&[u8]]) -> Bytes {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        debug_assert!(length < BLOCK_BYTES);
        if self.open.capacity() < length && !self.begin_block() {
            return join(parts);
        }
        parts.iter().for_each(|part| self.open.extend_from_slice(part));
        self.open.split().freeze()
    }

    /// False if all blocks are in use.
    fn begin_block(&mut self) -> bool {
        self.open = BytesMut::new();
        let mut block = None;
        for _ in 0..LOOKED_AT.min(self.begun.len()) {
            match self.begun.pop_front().expect("counted").try_into_mut() {
                Ok(free) => {
                    block = Some(free);
                    break;
                }
                Err(in_use) => self.begun.push_back(in_use),
            }
        }
        if block.is_none() && self.begun.len() >= self.max {
            return false;
        }
        let mut block = block.unwrap_or_else(|| BytesMut::with_capacity(BLOCK_BYTES));
        block.clear();
        block.extend_from_slice(&[0]);
        self.begun.push_back(block.split().freeze());
        self.open = block;
        true
    }
}

/// A copy of `parts`, one behind the other, in a buffer of its own.
pub(super) fn join(parts: &[&[u8]]) -> Bytes {
    let mut joined = Vec::with_capacity(parts.iter().map(|part| part.len()).sum());
    parts.iter().for_each(|part| joined.extend_from_slice(part));
    joined.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_used_again_once_nobody_needs_what_is_in_them() {
        let mut blocks = Blocks::received();
        let mut kept = VecDeque::new();
        for round in 0..10_000_usize {
            let part = [round as u8; 200];
            kept.push_back((part, blocks.copy(&[&part[..3], &part[3..]])));
            if kept.len() > 500 {
                kept.pop_front();
            }
            assert!(kept.iter().all(|(part, copy)| copy == &part[..]));
        }
        // 500 artifacts take seven blocks.
        assert!(blocks.begun.len() <= 7 + LOOKED_AT, "{} blocks", blocks.begun.len());
    }

    #[test]
    fn blocks_that_are_kept_are_bounded_in_number() {
        let mut blocks = Blocks::received();
        let part = [7; 1000];
        let keep = |_| blocks.copy(&[&part]);
        let kept: Vec<Bytes> = (0..2 * RECEIVED_MAX * BLOCK_BYTES / part.len()).map(keep).collect();
        assert_eq!(blocks.begun.len(), RECEIVED_MAX);
        drop(kept);
        let copy = blocks.copy(&[&part]);
        assert!(blocks.open.capacity() > 0, "in a block again");
        assert_eq!(copy, &part[..]);
        assert_eq!(blocks.begun.len(), RECEIVED_MAX);
    }
}
