//! Artifacts, their adverts ([`Advert`]), and the Merkle tree by which each chunk can be verified
//! alone, whoever sent it.
//!
//! The tree has the shape of RFC 6962, section 2.1 (certificate transparency): leaves are
//! `H(0x00 | chunk)`, inner nodes `H(0x01 | left | right)`, and a last node without a sibling is
//! promoted. An artifact without bytes has one empty chunk. Invariant 6 rests on this file.

use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::Bytes;
use core::fmt;
use sha2::{Digest, Sha256};

use crate::id::ArtifactId;

/// Bytes in a chunk; the last chunk of an artifact may be shorter. 64 KiB keeps the proof below
/// 1 % of the chunk and a chunk's hash below 50 microseconds.
pub const CHUNK_BYTES: usize = 64 * 1024;

/// Bytes of application metadata that an artifact may carry.
pub const METADATA_BYTES_MAX: usize = 128;

/// Hashes in the longest proof: enough for 2^24 chunks, an artifact of 1 TiB.
pub const PROOF_HASHES_MAX: usize = 24;

/// Bytes in the longest artifact that the tree can carry; channels set a lower limit.
pub const ARTIFACT_BYTES_LIMIT: u64 = (CHUNK_BYTES as u64) << PROOF_HASHES_MAX;

/// A SHA-256 value.
pub type Hash = [u8; 32];

/// Application metadata: height, kind, name, ... (a small byte string, seen by filters).
pub type Metadata = heapless::Vec<u8, METADATA_BYTES_MAX>;

/// What proves a chunk: the siblings on its way up the tree, from the leaf.
pub type Proof = heapless::Vec<Hash, PROOF_HASHES_MAX>;

const DOMAIN: &[u8] = b"slotcast artifact 1\n";

/// What is known of an artifact before its bytes: enough to compute the id, to filter, and to fetch
/// it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Advert {
    /// Bytes in the artifact.
    pub length: u64,
    /// The application's metadata.
    pub metadata: Metadata,
    /// The root of the Merkle tree over the chunks.
    pub root: Hash,
}

impl Advert {
    /// The advert of a single-chunk artifact.
    ///
    /// # Panics
    /// If `bytes` are longer than [`CHUNK_BYTES`] (the callers' bound).
    pub(crate) fn of_chunk(metadata: Metadata, bytes: &[u8]) -> Self {
        assert!(bytes.len() <= CHUNK_BYTES, "one chunk");
        Self { length: bytes.len() as u64, metadata, root: leaf(bytes) }
    }

    /// SHA-256 over domain, length (8 bytes, big endian), metadata length (1 byte), metadata, root:
    /// neither the length nor the metadata can be forged for an id.
    pub fn id(&self) -> ArtifactId {
        let mut hasher = Sha256::new();
        hasher.update(DOMAIN);
        hasher.update(self.length.to_be_bytes());
        hasher.update([self.metadata.len() as u8]);
        hasher.update(&self.metadata);
        hasher.update(self.root);
        ArtifactId(hasher.finalize().into())
    }

    /// Number of chunks, at least one.
    pub fn chunks(&self) -> u32 {
        chunks(self.length)
    }

    /// Bytes in chunk `index`, which must be below [`Advert::chunks`].
    pub fn chunk_bytes(&self, index: u32) -> usize {
        let start = u64::from(index) * CHUNK_BYTES as u64;
        (self.length - start).min(CHUNK_BYTES as u64) as usize
    }

    /// Whether `chunk` is the one at `index` of this artifact; its leaf hash if so.
    pub fn check_chunk(&self, index: u32, proof: &[Hash], chunk: &[u8]) -> Option<Hash> {
        if index >= self.chunks() || chunk.len() != self.chunk_bytes(index) {
            return None;
        }
        let leaf = leaf(chunk);
        let mut siblings = proof.iter();
        let (mut node, mut at, mut width) = (leaf, index, self.chunks());
        while width > 1 {
            if at ^ 1 < width {
                let sibling = siblings.next()?;
                node = if at & 1 == 0 { inner(&node, sibling) } else { inner(sibling, &node) };
            }
            at >>= 1;
            width = width.div_ceil(2);
        }
        (siblings.next().is_none() && node == self.root).then_some(leaf)
    }
}

fn chunks(length: u64) -> u32 {
    debug_assert!(length <= ARTIFACT_BYTES_LIMIT);
    length.div_ceil(CHUNK_BYTES as u64).max(1) as u32
}

fn leaf(chunk: &[u8]) -> Hash {
    Sha256::new_with_prefix([0]).chain_update(chunk).finalize().into()
}

fn inner(left: &Hash, right: &Hash) -> Hash {
    Sha256::new_with_prefix([1]).chain_update(left).chain_update(right).finalize().into()
}

/// Why bytes cannot be an artifact.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ArtifactError {
    /// More than [`METADATA_BYTES_MAX`] bytes of metadata.
    MetadataTooLong,
    /// More than [`ARTIFACT_BYTES_LIMIT`] bytes.
    TooLong,
}

impl fmt::Display for ArtifactError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MetadataTooLong => {
                write!(f, "metadata is longer than {METADATA_BYTES_MAX} bytes")
            }
            Self::TooLong => write!(f, "artifact is longer than {ARTIFACT_BYTES_LIMIT} bytes"),
        }
    }
}

impl core::error::Error for ArtifactError {}

/// An artifact whose bytes are here and known to match its id. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Artifact {
    id: ArtifactId,
    advert: Advert,
    bytes: Bytes,
    /// The Merkle levels from the leaves up, one after the other, without the root; empty for a
    /// single chunk, whose leaf is the root.
    tree: Option<Arc<[Hash]>>,
}

impl Artifact {
    /// Hashes `bytes` (about 0.6 ms for a megabyte) and takes them as they are, without a copy.
    ///
    /// # Errors
    /// If the metadata or the bytes exceed what the format carries.
    pub fn new(bytes: Bytes, metadata: &[u8]) -> Result<Self, ArtifactError> {
        let metadata =
            Metadata::from_slice(metadata).map_err(|_| ArtifactError::MetadataTooLong)?;
        if bytes.len() as u64 > ARTIFACT_BYTES_LIMIT {
            return Err(ArtifactError::TooLong);
        }
        let length = bytes.len() as u64;
        if bytes.len() <= CHUNK_BYTES {
            return Ok(Self::of_chunk(Advert::of_chunk(metadata, &bytes), bytes));
        }
        let leaves = bytes.chunks(CHUNK_BYTES).map(leaf).collect();
        let (root, tree) = grow(leaves);
        let advert = Advert { length, metadata, root };
        Ok(Self { id: advert.id(), advert, bytes, tree: Some(tree) })
    }

    /// A single-chunk artifact whose advert was made from `bytes`.
    pub(crate) fn of_chunk(advert: Advert, bytes: Bytes) -> Self {
        Self { id: advert.id(), advert, bytes, tree: None }
    }

    /// An artifact all of whose chunks were checked against `advert`; `leaves` in their order.
    pub(crate) fn of_checked_chunks(
        id: ArtifactId,
        advert: Advert,
        bytes: Bytes,
        leaves: Vec<Hash>,
    ) -> Self {
        debug_assert_eq!(advert.length, bytes.len() as u64);
        let tree = (leaves.len() > 1).then(|| {
            let (root, tree) = grow(leaves);
            assert_eq!(root, advert.root, "every chunk was checked");
            tree
        });
        Self { id, advert, bytes, tree }
    }

    /// The id.
    pub fn id(&self) -> ArtifactId {
        self.id
    }

    /// Its advert.
    pub fn advert(&self) -> &Advert {
        &self.advert
    }

    /// The application's metadata.
    pub fn metadata(&self) -> &[u8] {
        &self.advert.metadata
    }

    /// The bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The bytes alone.
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// Chunk `index`, which must be below [`Advert::chunks`], and its proof.
    pub fn chunk(&self, index: u32) -> (Bytes, Proof) {
        let start = index as usize * CHUNK_BYTES;
        let chunk = self.bytes.slice(start..start + self.advert.chunk_bytes(index));
        let mut proof = Proof::new();
        let tree = self.tree.as_deref().unwrap_or_default();
        let (mut level, mut at, mut width) = (0, index as usize, self.advert.chunks() as usize);
        while width > 1 {
            if at ^ 1 < width {
                proof
                    .push(tree[level + (at ^ 1)])
                    .expect("as many levels as the length limit allows");
            }
            level += width;
            at >>= 1;
            width = width.div_ceil(2);
        }
        (chunk, proof)
    }
}

impl fmt::Debug for Artifact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Artifact({:#}, {} bytes)", self.id, self.bytes.len())
    }
}

/// The root over `leaves`, and the levels below it.
fn grow(mut leaves: Vec<Hash>) -> (Hash, Arc<[Hash]>) {
    let (mut start, mut width) = (0, leaves.len());
    while width > 1 {
        for at in (start..start + width).step_by(2) {
            let parent = match leaves[at + 1..start + width].first() {
                Some(right) => inner(&leaves[at], right),
                None => leaves[at],
            };
            leaves.push(parent);
        }
        start += width;
        width = width.div_ceil(2);
    }
    let root = leaves.pop().expect("at least one leaf");
    (root, leaves.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn sample(length: usize) -> Artifact {
        let bytes: Vec<u8> = (0..length).map(|at| (at / 7 + at / CHUNK_BYTES) as u8).collect();
        Artifact::new(bytes.into(), b"height 7").unwrap()
    }

    /// RFC 6962, section 2.1, word by word: recursion at the largest power of two.
    fn rfc6962(chunks: &[&[u8]]) -> Hash {
        match chunks {
            [only] => leaf(only),
            _ => {
                let split = chunks.len().next_power_of_two() / 2;
                inner(&rfc6962(&chunks[..split]), &rfc6962(&chunks[split..]))
            }
        }
    }

    #[test]
    fn root_is_that_of_rfc_6962_and_each_chunk_proves_itself() {
        for chunks in 1..=17_usize {
            for length in [chunks * CHUNK_BYTES, (chunks - 1) * CHUNK_BYTES + 1] {
                let artifact = sample(length);
                let advert = artifact.advert();
                let cut: Vec<&[u8]> = artifact.bytes().chunks(CHUNK_BYTES).collect();
                assert_eq!(advert.root, rfc6962(&cut));
                let mut leaves = Vec::new();
                for index in 0..advert.chunks() {
                    let (chunk, proof) = artifact.chunk(index);
                    leaves.push(advert.check_chunk(index, &proof, &chunk).expect("own proof"));
                }
                let again = Artifact::of_checked_chunks(
                    artifact.id(),
                    advert.clone(),
                    artifact.bytes().clone(),
                    leaves,
                );
                assert_eq!(again, artifact);
            }
        }
    }

    #[test]
    fn an_artifact_without_bytes_has_one_empty_chunk() {
        let artifact = sample(0);
        assert_eq!(artifact.advert().chunks(), 1);
        let (chunk, proof) = artifact.chunk(0);
        assert!(chunk.is_empty() && proof.is_empty());
        assert!(artifact.advert().check_chunk(0, &[], &[]).is_some());
    }

    #[test]
    fn l17_a_lie_about_chunk_place_or_proof_is_seen() {
        let artifact = sample(5 * CHUNK_BYTES);
        let advert = artifact.advert();
        for index in 0..5 {
            let (chunk, proof) = artifact.chunk(index);
            let mut flipped = chunk.to_vec();
            flipped[9] ^= 1;
            assert_eq!(advert.check_chunk(index, &proof, &flipped), None);
            assert_eq!(advert.check_chunk((index + 1) % 5, &proof, &chunk), None);
            assert_eq!(advert.check_chunk(index, &proof[1..], &chunk), None);
            assert_eq!(advert.check_chunk(index, &proof, &chunk[1..]), None);
            let mut longer = proof.clone();
            longer.push([0; 32]).unwrap();
            assert_eq!(advert.check_chunk(index, &longer, &chunk), None);
            for level in 0..proof.len() {
                let mut forged = proof.clone();
                forged[level][0] ^= 1;
                assert_eq!(advert.check_chunk(index, &forged, &chunk), None);
            }
        }
        assert_eq!(advert.check_chunk(5, &[], &[]), None);
    }

    #[test]
    fn l16_length_and_metadata_are_part_of_the_id() {
        let advert = sample(100).advert().clone();
        let mut longer = advert.clone();
        longer.length += 1;
        let mut renamed = advert.clone();
        renamed.metadata[0] ^= 1;
        assert_ne!(longer.id(), advert.id());
        assert_ne!(renamed.id(), advert.id());
    }

    #[test]
    fn too_long_metadata_is_refused() {
        let metadata = vec![0; METADATA_BYTES_MAX + 1];
        assert_eq!(Artifact::new(Bytes::new(), &metadata), Err(ArtifactError::MetadataTooLong));
    }
}
