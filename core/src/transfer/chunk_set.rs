//! Sets of chunks of one artifact, as bits.

use alloc::vec::Vec;

use crate::artifact::CHUNKS_PREFERRED_MAX;
use crate::bits::ones;
use crate::wire::{CHUNK_BITS_MAX, ChunkBits};

/// Chunks of an artifact that has at most [`CHUNKS_PREFERRED_MAX`], as adverts tell of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct ChunksTold([u64; CHUNKS_PREFERRED_MAX as usize / 64]);

impl ChunksTold {
    pub(crate) fn new(bits: ChunkBits<'_>) -> Self {
        let mut told = Self::default();
        bits.iter().for_each(|chunk| told.0[chunk as usize / 64] |= 1 << (chunk % 64));
        told
    }

    /// The encoding: so many bytes of these.
    pub(crate) fn encoded(&self) -> ([u8; CHUNK_BITS_MAX], usize) {
        let mut bytes = [0; CHUNK_BITS_MAX];
        let words = bytes.chunks_exact_mut(8).zip(self.0);
        words.for_each(|(bytes, word)| bytes.copy_from_slice(&word.to_le_bytes()));
        let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        (bytes, end)
    }

    pub(crate) fn word(&self, at: usize) -> u64 {
        self.0[at]
    }

    pub(crate) fn contains(&self, chunk: u32) -> bool {
        self.0[chunk as usize / 64] >> (chunk % 64) & 1 == 1
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// Takes the chunks of another set in.
    pub(crate) fn unite(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(own, other)| *own |= other);
    }
}

/// A set of chunks. Its memory is reused for the next artifact.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct ChunkSet {
    words: Vec<u64>,
}

/// Words of a set of so many chunks.
pub(crate) const fn words(chunks: u32) -> usize {
    chunks.div_ceil(64) as usize
}

/// Word `at` of the set of all of so many chunks.
pub(crate) const fn full_word(chunks: u32, at: usize) -> u64 {
    let left = chunks as usize - at * 64;
    if left >= 64 { u64::MAX } else { (1 << left) - 1 }
}

impl ChunkSet {
    /// The set becomes one of an artifact of so many chunks, without any of them.
    pub(crate) fn reset(&mut self, chunks: u32) {
        self.words.clear();
        self.words.resize(words(chunks), 0);
    }

    /// The set becomes that of all chunks of an artifact of so many.
    pub(crate) fn fill(&mut self, chunks: u32) {
        self.words.clear();
        self.words.extend((0..words(chunks)).map(|at| full_word(chunks, at)));
    }

    pub(crate) fn word(&self, at: usize) -> u64 {
        self.words[at]
    }

    /// The same as a set of an artifact that has at most [`CHUNKS_PREFERRED_MAX`] chunks.
    pub(crate) fn told(&self) -> ChunksTold {
        let mut told = ChunksTold::default();
        told.0.iter_mut().zip(&self.words).for_each(|(told, word)| *told = *word);
        told
    }

    /// Whether a chunk is in the set; an index that the artifact does not have is not.
    pub(crate) fn contains(&self, chunk: u32) -> bool {
        self.words.get(chunk as usize / 64).is_some_and(|word| word >> (chunk % 64) & 1 == 1)
    }

    pub(crate) fn insert(&mut self, chunk: u32) {
        self.words[chunk as usize / 64] |= 1 << (chunk % 64);
    }

    pub(crate) fn remove(&mut self, chunk: u32) {
        self.words[chunk as usize / 64] &= !(1 << (chunk % 64));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    pub(crate) fn count(&self) -> u32 {
        self.words.iter().map(|word| word.count_ones()).sum()
    }

    /// Whether all chunks of this set are in the other one, of the same artifact.
    pub(crate) fn is_subset(&self, other: &Self) -> bool {
        self.words.iter().zip(&other.words).all(|(own, other)| own & !other == 0)
    }

    /// The chunks, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> {
        let words = self.words.iter().enumerate();
        words.flat_map(|(at, word)| ones(*word).map(move |bit| (at * 64 + bit) as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_was_put_in() {
        let mut set = ChunkSet::default();
        set.reset(130);
        for chunk in [129, 0, 64, 63] {
            set.insert(chunk);
        }
        set.remove(64);
        assert!(set.iter().eq([0, 63, 129]));
        assert!(set.contains(129) && !set.contains(64) && !set.contains(5000));
        assert_eq!(set.count(), 3);
        let mut other = set.clone();
        other.insert(7);
        assert!(set.is_subset(&other) && !other.is_subset(&set));
        set.reset(1);
        assert!(set.is_empty());
    }

    #[test]
    fn the_last_word_of_all_chunks_ends_with_them() {
        assert_eq!(full_word(64, 0), u64::MAX);
        assert_eq!((full_word(65, 0), full_word(65, 1)), (u64::MAX, 1));
        assert_eq!((words(64), words(65)), (1, 2));
    }
}
