//! Artifacts, their adverts ([`Advert`]), and how they are cut into chunks. Each chunk can be verified
//! alone, whoever sent it: by the tree in `merkle.rs`.
//!
//! An artifact may have a *key*, a number by which its application orders what it publishes, such as a round
//! or a height. It is part of the id and of the advert, and costs nothing where it is absent.
//!
//! The length alone decides how an artifact is cut ([`Advert::chunk_size`]), and it is part of the id.
//! Up to [`SINGLE_CHUNK_BYTES_MAX`] it is one chunk. An artifact without bytes has one empty chunk.
//! Invariant 6 rests on this folder.

mod blocks;
mod merkle;
mod sha256;

use alloc::sync::Arc;
use bytes::Bytes;
use core::fmt;

use crate::id::{ArtifactId, NodeId};
pub(crate) use blocks::{BLOCKS_BYTES_MAX, Blocks};
pub(crate) use merkle::PartialTree;
pub(crate) use sha256::sha256;

/// An artifact of up to so many bytes is a single chunk: spreading or asking for parts of it would
/// cost more than it saves.
pub const SINGLE_CHUNK_BYTES_MAX: usize = 64 << 10;

/// The least number of bytes in a chunk of an artifact that has several, the last one aside: it keeps
/// the proof below 2 % of the chunk.
pub const CHUNK_BYTES_MIN: usize = 16 << 10;

/// Bytes in the longest chunk: hashed in less than a millisecond.
pub const CHUNK_BYTES_MAX: usize = 1 << 20;

/// Artifacts are cut into at most so many chunks, unless those would be longer than
/// [`CHUNK_BYTES_MAX`]: artifacts above 256 MiB have more.
pub const CHUNKS_PREFERRED_MAX: u32 = 256;

/// Bytes of application metadata that an artifact may carry.
pub const METADATA_BYTES_MAX: usize = 128;

/// Hashes in the longest proof: enough for 2^20 chunks, an artifact of 1 TiB.
pub const PROOF_HASHES_MAX: usize = 20;

/// Bytes in the longest artifact that the tree can carry; channels set a lower limit.
pub const ARTIFACT_BYTES_LIMIT: u64 = (CHUNK_BYTES_MAX as u64) << PROOF_HASHES_MAX;

/// A SHA-256 value.
pub type Hash = [u8; 32];

/// Application metadata: height, kind, name, ... (a small byte string, seen by filters).
pub type Metadata = heapless::Vec<u8, METADATA_BYTES_MAX>;

/// What proves a chunk: the siblings on its way up the tree, from the leaf.
pub type Proof = heapless::Vec<Hash, PROOF_HASHES_MAX>;

/// One for each sort of id, so that none is an id of another sort: without a key, with a key; the same with a
/// publisher.
const DOMAINS: [&[u8; 20]; 4] = [
    b"slotcast artifact 1\n",
    b"slotcast artifact 2\n",
    b"slotcast artifact 3\n",
    b"slotcast artifact 4\n",
];

/// What is known of an artifact before its bytes: enough to compute the id, to filter, and to fetch
/// it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Advert {
    /// Bytes in the artifact.
    pub length: u64,
    /// The application's key, if it has one: its round or height.
    pub key: Option<u64>,
    /// The key of the node that publishes it, in channels where that
    /// [matters](crate::config::ChannelConfig::sender_matters). It is not told, but known from the
    /// connection.
    pub publisher: Option<NodeId>,
    /// The application's metadata.
    pub metadata: Metadata,
    /// The root of the Merkle tree over the chunks.
    pub root: Hash,
}

impl Advert {
    /// SHA-256 over domain, key (8 bytes, big endian), publisher, length (8 bytes, big endian), metadata
    /// length (1 byte), metadata, root: none of these can be forged for an id. The domain says whether
    /// there are a key and a publisher.
    pub fn id(&self) -> ArtifactId {
        id(self.length, self.key, self.publisher.as_ref(), &self.metadata, &self.root)
    }

    /// Bytes in each chunk but the last, which may be shorter: [`SINGLE_CHUNK_BYTES_MAX`], if that is
    /// the whole artifact; else the smallest power of two that makes at most
    /// [`CHUNKS_PREFERRED_MAX`] chunks, between [`CHUNK_BYTES_MIN`] and [`CHUNK_BYTES_MAX`].
    pub fn chunk_size(&self) -> usize {
        chunk_size(self.length)
    }

    /// Number of chunks, at least one.
    pub fn chunks(&self) -> u32 {
        debug_assert!(self.length <= ARTIFACT_BYTES_LIMIT);
        self.length.div_ceil(self.chunk_size() as u64).max(1) as u32
    }

    /// Bytes in chunk `index`, which must be below [`Advert::chunks`].
    pub fn chunk_bytes(&self, index: u32) -> usize {
        let size = self.chunk_size() as u64;
        (self.length - u64::from(index) * size).min(size) as usize
    }

    /// Whether `chunk` is the one at `index` of this artifact.
    pub fn check_chunk(&self, index: u32, proof: &[Hash], chunk: &[u8]) -> bool {
        let chunks = self.chunks();
        index < chunks
            && chunk.len() == self.chunk_bytes(index)
            && merkle::root(merkle::leaf(chunk), chunks, index, proof) == Some(self.root)
    }
}

/// See [`Advert::id`].
pub(crate) fn id(
    length: u64,
    key: Option<u64>,
    publisher: Option<&NodeId>,
    metadata: &[u8],
    root: &Hash,
) -> ArtifactId {
    let domain = DOMAINS[usize::from(key.is_some()) + 2 * usize::from(publisher.is_some())];
    let key = key.map(u64::to_be_bytes);
    let key = key.as_ref().map_or(&[][..], |key| key);
    let publisher = publisher.map_or(&[][..], |publisher| &publisher.0);
    let (length, metadata_length) = (length.to_be_bytes(), [metadata.len() as u8]);
    ArtifactId(sha256(&[domain, key, publisher, &length, &metadata_length, metadata, root]))
}

/// The root of an artifact of a single chunk.
///
/// # Panics
/// If `bytes` are longer than [`SINGLE_CHUNK_BYTES_MAX`] (the callers' bound).
pub(crate) fn root_of_chunk(bytes: &[u8]) -> Hash {
    assert!(bytes.len() <= SINGLE_CHUNK_BYTES_MAX, "one chunk");
    merkle::leaf(bytes)
}

/// See [`Advert::chunk_size`].
fn chunk_size(length: u64) -> usize {
    if length <= SINGLE_CHUNK_BYTES_MAX as u64 {
        return SINGLE_CHUNK_BYTES_MAX;
    }
    let size = length.div_ceil(CHUNKS_PREFERRED_MAX.into()).next_power_of_two();
    size.clamp(CHUNK_BYTES_MIN as u64, CHUNK_BYTES_MAX as u64) as usize
}

/// Bytes in the longest chunk of any artifact of up to `length` bytes.
pub(crate) fn longest_chunk_bytes(length: u64) -> usize {
    let longest = chunk_size(length).max(SINGLE_CHUNK_BYTES_MAX);
    (longest as u64).min(length) as usize
}

/// Why bytes cannot be an artifact.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArtifactError {
    /// More than [`METADATA_BYTES_MAX`] bytes of metadata.
    #[error("metadata is longer than {METADATA_BYTES_MAX} bytes")]
    MetadataTooLong,
    /// More than [`ARTIFACT_BYTES_LIMIT`] bytes.
    #[error(
        "the artifact is longer than its channel's artifact_bytes_max, or than {ARTIFACT_BYTES_LIMIT} bytes"
    )]
    TooLong,
}

/// Bytes in the longest artifact that is kept in one piece with what is known of it. Up to here, copying
/// is cheaper than one allocation more.
const SHORT_BYTES_MAX: usize = 1 << 10;

/// An artifact whose bytes are here and known to match its id. Cheap to clone and to move.
///
/// Short ones, up to 1 KiB, that were received, or published from their bytes, share buffers of 16 KiB
/// with others: whoever keeps one for long, and many do not matter any more, is better off with a copy of its bytes.
#[derive(Clone)]
pub struct Artifact {
    id: ArtifactId,
    content: Content,
}

#[derive(Clone)]
enum Content {
    /// See [`with_short_parts`].
    Short(Bytes),
    Long(Arc<Long>),
}

struct Long {
    advert: Advert,
    bytes: Bytes,
    /// The Merkle levels from the leaves up, one after the other, without the root; empty for a
    /// single chunk, whose leaf is the root.
    tree: Option<Arc<[Hash]>>,
}

/// Where the lengths of key, publisher and metadata stand in a short artifact.
const SHORT_LENGTHS: usize = size_of::<Hash>();

/// Where its key begins, if it has one.
const SHORT_KEY: usize = SHORT_LENGTHS + 3;

/// A short artifact: the root, the lengths of key, publisher and metadata (1 byte each), the key (big
/// endian), the publisher, the metadata and the bytes, in this order.
fn with_short_parts<T>(
    root: &Hash,
    key: Option<u64>,
    publisher: Option<&NodeId>,
    metadata: &[u8],
    bytes: &[u8],
    join: impl FnOnce(&[&[u8]]) -> T,
) -> T {
    debug_assert!(bytes.len() <= SHORT_BYTES_MAX);
    let key = key.map(u64::to_be_bytes);
    let key = key.as_ref().map_or(&[][..], |key| key);
    let publisher = publisher.map_or(&[][..], |publisher| &publisher.0);
    let lengths = [key.len() as u8, publisher.len() as u8, metadata.len() as u8];
    join(&[root, &lengths, key, publisher, metadata, bytes])
}

impl Artifact {
    /// Hashes `bytes` (about 0.6 ms for a megabyte on a processor with instructions for SHA-256). Above 1 KiB they are taken as they are, without a copy.
    ///
    /// # Errors
    /// If the metadata or the bytes exceed what the format carries.
    pub fn new(bytes: Bytes, metadata: &[u8]) -> Result<Self, ArtifactError> {
        Self::keyed(None, bytes, metadata)
    }

    /// The same with a key, which is part of its identity: the same bytes under another key, or without
    /// one (`None`), are another artifact.
    ///
    /// # Errors
    /// As for [`Artifact::new`].
    pub fn keyed(
        key: impl Into<Option<u64>>,
        bytes: Bytes,
        metadata: &[u8],
    ) -> Result<Self, ArtifactError> {
        Self::joined(key.into(), None, bytes, metadata, blocks::join)
    }

    /// The same as a publisher's own, if it matters, with what makes one buffer of the parts of a short one.
    pub(crate) fn joined(
        key: Option<u64>,
        publisher: Option<NodeId>,
        bytes: Bytes,
        metadata: &[u8],
        join: impl FnOnce(&[&[u8]]) -> Bytes,
    ) -> Result<Self, ArtifactError> {
        let metadata =
            Metadata::from_slice(metadata).map_err(|_| ArtifactError::MetadataTooLong)?;
        if bytes.len() as u64 > ARTIFACT_BYTES_LIMIT {
            return Err(ArtifactError::TooLong);
        }
        let length = bytes.len() as u64;
        if bytes.len() <= SINGLE_CHUNK_BYTES_MAX {
            let advert = Advert { length, key, publisher, metadata, root: merkle::leaf(&bytes) };
            return Ok(Self::of_parts(advert.id(), advert, bytes, None, join));
        }
        let leaves = bytes.chunks(chunk_size(length)).map(merkle::leaf).collect();
        let (root, tree) = merkle::grow(leaves);
        let advert = Advert { length, key, publisher, metadata, root };
        Ok(Self::of_parts(advert.id(), advert, bytes, Some(tree), join))
    }

    fn of_parts(
        id: ArtifactId,
        advert: Advert,
        bytes: Bytes,
        tree: Option<Arc<[Hash]>>,
        join: impl FnOnce(&[&[u8]]) -> Bytes,
    ) -> Self {
        debug_assert_eq!(advert.length, bytes.len() as u64);
        let Advert { key, publisher, metadata, root, .. } = &advert;
        let content = if bytes.len() <= SHORT_BYTES_MAX {
            let publisher = publisher.as_ref();
            Content::Short(with_short_parts(root, *key, publisher, metadata, &bytes, join))
        } else {
            Content::Long(Arc::new(Long { advert, bytes, tree }))
        };
        Self { id, content }
    }

    /// A copy of an artifact of a single chunk, which came with its bytes. Short ones go into `blocks`.
    pub(crate) fn of_push(
        id: ArtifactId,
        root: &Hash,
        key: Option<u64>,
        publisher: Option<NodeId>,
        metadata: &[u8],
        bytes: &[u8],
        blocks: &mut Blocks,
    ) -> Self {
        if bytes.len() > SHORT_BYTES_MAX {
            let metadata = Metadata::from_slice(metadata).expect("checked when it was decoded");
            let (length, root) = (bytes.len() as u64, *root);
            let advert = Advert { length, key, publisher, metadata, root };
            return Self::of_parts(id, advert, Bytes::copy_from_slice(bytes), None, blocks::join);
        }
        let copy = |parts: &[&[u8]]| blocks.copy(parts);
        let content = with_short_parts(root, key, publisher.as_ref(), metadata, bytes, copy);
        Self { id, content: Content::Short(content) }
    }

    /// An artifact all of whose chunks were checked by `tree`.
    pub(crate) fn of_checked_chunks(
        id: ArtifactId,
        advert: Advert,
        bytes: Bytes,
        tree: PartialTree,
    ) -> Self {
        Self::of_parts(id, advert, bytes, tree.into_levels(), blocks::join)
    }

    /// The id.
    pub fn id(&self) -> ArtifactId {
        self.id
    }

    /// Its advert.
    pub fn advert(&self) -> Advert {
        match &self.content {
            Content::Short(content) => Advert {
                length: self.bytes().len() as u64,
                key: self.key(),
                publisher: self.publisher(),
                metadata: Metadata::from_slice(self.metadata()).expect("it has been one"),
                root: *content.first_chunk().expect("it begins with the root"),
            },
            Content::Long(long) => long.advert.clone(),
        }
    }

    /// The application's key, if it has one.
    pub fn key(&self) -> Option<u64> {
        match &self.content {
            Content::Short(content) => {
                let key = &content[SHORT_KEY..start_of_publisher(content)];
                key.try_into().ok().map(u64::from_be_bytes)
            }
            Content::Long(long) => long.advert.key,
        }
    }

    /// The key of the node that publishes it, if that is part of its id: see [`Artifact::by`].
    pub fn publisher(&self) -> Option<NodeId> {
        match &self.content {
            Content::Short(content) => {
                let publisher = &content[start_of_publisher(content)..start_of_metadata(content)];
                publisher.try_into().ok().map(NodeId)
            }
            Content::Long(long) => long.advert.publisher,
        }
    }

    /// The same artifact as `publisher`'s own: what is published in channels where the sender
    /// [matters](crate::config::ChannelConfig::sender_matters). Its id is another one. The bytes are not
    /// hashed again.
    #[must_use]
    pub fn by(&self, publisher: NodeId) -> Self {
        let advert = Advert { publisher: Some(publisher), ..self.advert() };
        Self::of_parts(advert.id(), advert, self.to_bytes(), self.tree(), blocks::join)
    }

    /// The application's metadata.
    pub fn metadata(&self) -> &[u8] {
        match &self.content {
            Content::Short(content) => {
                &content[start_of_metadata(content)..start_of_bytes(content)]
            }
            Content::Long(long) => &long.advert.metadata,
        }
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        match &self.content {
            Content::Short(content) => &content[start_of_bytes(content)..],
            Content::Long(long) => &long.bytes,
        }
    }

    /// A handle to the bytes, without a copy.
    pub fn to_bytes(&self) -> Bytes {
        match &self.content {
            Content::Short(content) => content.slice(start_of_bytes(content)..),
            Content::Long(long) => long.bytes.clone(),
        }
    }

    fn tree(&self) -> Option<Arc<[Hash]>> {
        match &self.content {
            Content::Short(_) => None,
            Content::Long(long) => long.tree.clone(),
        }
    }

    /// Number of chunks, at least one.
    pub(crate) fn chunks(&self) -> u32 {
        match &self.content {
            Content::Short(_) => 1,
            Content::Long(long) => long.advert.chunks(),
        }
    }

    /// Chunk `index`, which must be below [`Advert::chunks`], and its proof.
    pub fn chunk(&self, index: u32) -> (Bytes, Proof) {
        let Content::Long(long) = &self.content else { return (self.to_bytes(), Proof::new()) };
        let start = index as usize * long.advert.chunk_size();
        let chunk = long.bytes.slice(start..start + long.advert.chunk_bytes(index));
        let nodes = long.tree.as_deref().unwrap_or_default();
        (chunk, merkle::proof(nodes, long.advert.chunks(), index))
    }
}

/// Where the publisher of a short artifact begins, if it has one.
fn start_of_publisher(content: &[u8]) -> usize {
    SHORT_KEY + usize::from(content[SHORT_LENGTHS])
}

/// Where its metadata begins.
fn start_of_metadata(content: &[u8]) -> usize {
    start_of_publisher(content) + usize::from(content[SHORT_LENGTHS + 1])
}

/// Where its bytes begin.
fn start_of_bytes(content: &[u8]) -> usize {
    start_of_metadata(content) + usize::from(content[SHORT_LENGTHS + 2])
}

/// Of two artifacts with one id, all is equal.
impl PartialEq for Artifact {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Artifact {}

impl fmt::Debug for Artifact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Artifact({:#}, {} bytes)", self.id, self.bytes().len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;

    fn sample(length: usize) -> Artifact {
        let bytes: Vec<u8> = (0..length).map(|at| (at / 7 + at / CHUNK_BYTES_MIN) as u8).collect();
        Artifact::new(bytes.into(), b"height 7").unwrap()
    }

    #[test]
    fn the_length_decides_how_an_artifact_is_cut() {
        const KIB: u64 = 1 << 10;
        const MIB: u64 = 1 << 20;
        for (length, size, chunks, last) in [
            (0, 64 * KIB, 1, 0),
            (64 * KIB, 64 * KIB, 1, 64 * KIB),
            (64 * KIB + 1, 16 * KIB, 5, 1),
            (4 * MIB, 16 * KIB, 256, 16 * KIB),
            (4 * MIB + 1, 32 * KIB, 129, 1),
            (16 * MIB, 64 * KIB, 256, 64 * KIB),
            (128 * MIB + 1, MIB, 129, 1),
            (256 * MIB, MIB, 256, MIB),
            (256 * MIB + 1, MIB, 257, 1),
            (ARTIFACT_BYTES_LIMIT, MIB, 1 << 20, MIB),
        ] {
            let advert = Advert { length, ..sample(0).advert() };
            let cut = (advert.chunk_size() as u64, advert.chunks());
            assert_eq!((cut, advert.chunk_bytes(chunks - 1) as u64), ((size, chunks), last));
            let longest = size.max(64 * KIB).min(length);
            assert_eq!(longest_chunk_bytes(length) as u64, longest);
        }
    }

    /// Two hashes of a short one: of its bytes, and of what makes the id.
    #[test]
    fn a_publishers_own_is_hashed_once() {
        let publisher = NodeId([7; 32]);
        for length in [0, 100, 2000, 5 * CHUNK_BYTES_MIN] {
            let bytes = Bytes::from(vec![1; length]);
            let hashed = |publisher| {
                let (before, mut joined) = (sha256::COUNT.get(), 0);
                let join = |parts: &[&[u8]]| {
                    joined += 1;
                    blocks::join(parts)
                };
                let artifact = Artifact::joined(Some(9), publisher, bytes.clone(), b"height", join);
                (artifact.expect("within the limits"), sha256::COUNT.get() - before, joined)
            };
            let (plain, count, joined) = hashed(None);
            let (own, own_count, own_joined) = hashed(Some(publisher));
            assert_eq!((own_count, own_joined), (count, joined));
            assert!(length > SINGLE_CHUNK_BYTES_MAX || count == 2);
            assert_eq!(own.id(), plain.by(publisher).id());
            assert_eq!(
                (own.publisher(), own.advert()),
                (Some(publisher), plain.by(publisher).advert())
            );
        }
    }

    #[test]
    fn each_chunk_proves_itself() {
        for chunks in 5..=17 {
            for length in [chunks * CHUNK_BYTES_MIN, (chunks - 1) * CHUNK_BYTES_MIN + 1] {
                let artifact = sample(length);
                assert_eq!(artifact.advert().chunks() as usize, chunks);
                for index in 0..chunks as u32 {
                    let (chunk, proof) = artifact.chunk(index);
                    assert!(artifact.advert().check_chunk(index, &proof, &chunk));
                }
            }
        }
    }

    #[test]
    fn an_artifact_without_bytes_has_one_empty_chunk() {
        let artifact = sample(0);
        assert_eq!(artifact.advert().chunks(), 1);
        let (chunk, proof) = artifact.chunk(0);
        assert!(chunk.is_empty() && proof.is_empty());
        assert!(artifact.advert().check_chunk(0, &[], &[]));
    }

    #[test]
    fn l17_a_lie_about_chunk_place_or_proof_is_seen() {
        let artifact = sample(5 * CHUNK_BYTES_MIN);
        let advert = artifact.advert();
        for index in 0..5 {
            let (chunk, proof) = artifact.chunk(index);
            let mut flipped = chunk.to_vec();
            flipped[9] ^= 1;
            assert!(!advert.check_chunk(index, &proof, &flipped));
            assert!(!advert.check_chunk((index + 1) % 5, &proof, &chunk));
            assert!(!advert.check_chunk(index, &proof[1..], &chunk));
            assert!(!advert.check_chunk(index, &proof, &chunk[1..]));
            let mut longer = proof.clone();
            longer.push([0; 32]).unwrap();
            assert!(!advert.check_chunk(index, &longer, &chunk));
            for level in 0..proof.len() {
                let mut forged = proof.clone();
                forged[level][0] ^= 1;
                assert!(!advert.check_chunk(index, &forged, &chunk));
            }
        }
        assert!(!advert.check_chunk(5, &[], &[]));
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
    fn keys_are_part_of_the_id_and_survive_in_short_and_long_artifacts() {
        for length in [0, 5, SHORT_BYTES_MAX, SHORT_BYTES_MAX + 1, 5 * CHUNK_BYTES_MIN] {
            let plain = sample(length);
            let keyed = |key| Artifact::keyed(key, plain.to_bytes(), plain.metadata()).unwrap();
            for key in [0, 7, u64::MAX] {
                let artifact = keyed(key);
                assert_eq!((artifact.key(), artifact.advert().key), (Some(key), Some(key)));
                assert_eq!(
                    (artifact.metadata(), artifact.bytes()),
                    (&b"height 7"[..], plain.bytes())
                );
                assert_eq!(artifact.advert().id(), artifact.id());
            }
            let node = |byte| NodeId([byte; 32]);
            for artifact in [&plain, &keyed(7)] {
                let own = artifact.by(node(9));
                assert_eq!((own.publisher(), own.key()), (Some(node(9)), artifact.key()));
                assert_eq!((own.metadata(), own.bytes()), (artifact.metadata(), artifact.bytes()));
                assert_eq!((own.advert().id(), own.by(node(8))), (own.id(), artifact.by(node(8))));
                let chunk = own.advert().chunks() - 1;
                assert_eq!(own.chunk(chunk), artifact.chunk(chunk));
            }
            let of_nodes =
                [8, 9].map(|byte| [plain.by(node(byte)).id(), keyed(7).by(node(byte)).id()]);
            let ids = [plain.id(), keyed(0).id(), keyed(7).id(), keyed(u64::MAX).id()];
            let ids = [&ids[..], &of_nodes.concat()].concat();
            assert!((0..ids.len()).all(|at| !ids[..at].contains(&ids[at])));
            assert_eq!((plain.key(), plain.publisher()), (None, None));
        }
        assert!(size_of::<Artifact>() <= 64);
    }

    #[test]
    fn too_long_metadata_is_refused() {
        let metadata = vec![0; METADATA_BYTES_MAX + 1];
        assert_eq!(Artifact::new(Bytes::new(), &metadata), Err(ArtifactError::MetadataTooLong));
    }
}
