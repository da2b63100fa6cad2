//! The Merkle tree over the chunks of an artifact.
//!
//! It has the shape of RFC 6962, section 2.1 (certificate transparency): leaves are
//! `H(0x00 | chunk)`, inner nodes `H(0x01 | left | right)`, and a last node without a sibling is
//! promoted. Its nodes are kept level by level, from the leaves up and without the root; a promoted
//! node stands in each level that it belongs to. A tree of one leaf, which is the root, has no nodes.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use super::{Advert, Hash, PROOF_HASHES_MAX, Proof, sha256};

/// The hash of a leaf.
pub(super) fn leaf(chunk: &[u8]) -> Hash {
    sha256(&[&[0], chunk])
}

fn inner(left: &Hash, right: &Hash) -> Hash {
    sha256(&[&[1], left, right])
}

/// A node on the way from a leaf to the root, the root excluded.
#[derive(Clone, Copy, Debug)]
struct Step {
    /// Its index among the nodes.
    node: usize,
    /// The index of its sibling, unless it is promoted.
    sibling: Option<usize>,
    /// It is the left one of the two.
    is_left: bool,
}

impl Step {
    /// The hash of the parent.
    fn parent(self, node: &Hash, sibling: Option<&Hash>) -> Hash {
        match sibling {
            Some(sibling) if self.is_left => inner(node, sibling),
            Some(sibling) => inner(sibling, node),
            None => *node,
        }
    }
}

/// The way from the leaf at `index` to below the root, in a tree of `leaves`.
fn way_up(leaves: usize, index: usize) -> impl Iterator<Item = Step> {
    let (mut level, mut at, mut width) = (0, index, leaves);
    core::iter::from_fn(move || {
        let sibling = (at ^ 1 < width).then_some(level + (at ^ 1));
        let step = Step { node: level + at, sibling, is_left: at & 1 == 0 };
        let is_below_root = width > 1;
        level += width;
        at >>= 1;
        width = width.div_ceil(2);
        is_below_root.then_some(step)
    })
}

/// The number of nodes in a tree of `leaves`, without the root.
fn node_count(leaves: usize) -> usize {
    let (mut count, mut width) = (0, leaves);
    while width > 1 {
        count += width;
        width = width.div_ceil(2);
    }
    count
}

/// The root over `leaves`, and the nodes below it.
pub(super) fn grow(mut leaves: Vec<Hash>) -> (Hash, Arc<[Hash]>) {
    let (mut start, mut width) = (0, leaves.len());
    leaves.reserve_exact(node_count(width) + 1 - width);
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

/// The proof of the leaf at `index`, in a tree of `leaves` with these nodes.
pub(super) fn proof(nodes: &[Hash], leaves: u32, index: u32) -> Proof {
    let siblings = way_up(leaves as usize, index as usize).filter_map(|step| step.sibling);
    siblings.map(|sibling| nodes[sibling]).collect()
}

/// The root that a leaf and its proof lead to; `None` if the proof has the wrong length.
pub(super) fn root(leaf: Hash, leaves: u32, index: u32, proof: &[Hash]) -> Option<Hash> {
    let mut siblings = proof.iter();
    let mut node = leaf;
    for step in way_up(leaves as usize, index as usize) {
        let sibling = match step.sibling {
            Some(_) => Some(siblings.next()?),
            None => None,
        };
        node = step.parent(&node, sibling);
    }
    siblings.next().is_none().then_some(node)
}

/// The tree of an artifact of which only some chunks have come.
///
/// Invariant: with a node, its sibling and its parent are known. A node becomes known only in
/// [`PartialTree::check`], together with its sibling and all nodes above it up to one that is known.
#[derive(Debug)]
pub(crate) struct PartialTree {
    advert: Advert,
    nodes: Vec<Hash>,
    /// Bit `n % 64` of word `n / 64` says whether node `n` is known.
    known: Vec<u64>,
}

impl PartialTree {
    /// A tree of which only the root is known. Takes all the memory that it will ever need: 64 bytes
    /// for each chunk, and a few more.
    pub(crate) fn new(advert: &Advert) -> Self {
        let count = node_count(advert.chunks() as usize);
        let known = vec![0; count.div_ceil(64)];
        Self { advert: advert.clone(), nodes: vec![[0; 32]; count], known }
    }

    fn is_known(&self, node: usize) -> bool {
        self.known[node / 64] >> (node % 64) & 1 == 1
    }

    fn learn(&mut self, node: usize, hash: Hash) {
        self.known[node / 64] |= 1 << (node % 64);
        self.nodes[node] = hash;
    }

    /// Whether `chunk` is the one at `index` of the artifact. What proves it is kept.
    ///
    /// Nothing is hashed above the first node that is known already. The entries of the proof from
    /// there on are not looked at, but their number has to be right. A wrong proof changes nothing.
    pub(crate) fn check(&mut self, index: u32, proof: &[Hash], chunk: &[u8]) -> bool {
        if index >= self.advert.chunks() || chunk.len() != self.advert.chunk_bytes(index) {
            return false;
        }
        let way = || way_up(self.advert.chunks() as usize, index as usize);
        if way().filter(|step| step.sibling.is_some()).count() != proof.len() {
            return false;
        }
        let mut proven = heapless::Vec::<(Step, Hash), PROOF_HASHES_MAX>::new();
        let (mut node, mut siblings) = (leaf(chunk), proof.iter());
        let mut expected = &self.advert.root;
        for step in way() {
            if self.is_known(step.node) {
                expected = &self.nodes[step.node];
                break;
            }
            proven.push((step, node)).expect("as many levels as the length limit allows");
            node = step.parent(&node, step.sibling.and_then(|_| siblings.next()));
        }
        if node != *expected {
            return false;
        }
        let mut siblings = proof.iter();
        for (step, hash) in proven {
            self.learn(step.node, hash);
            if let Some(sibling) = step.sibling {
                self.learn(sibling, *siblings.next().expect("counted"));
            }
        }
        true
    }

    /// The proof of a chunk that was checked. With its leaf all nodes above are known, and with each
    /// of them its sibling (the invariant), so that nothing is missing from the proof.
    ///
    /// # Panics
    /// If neither the chunk at `index` nor its sibling was checked.
    pub(crate) fn proof(&self, index: u32) -> Proof {
        let chunks = self.advert.chunks();
        assert!(chunks == 1 || self.is_known(index as usize), "only checked chunks are proven");
        proof(&self.nodes, chunks, index)
    }

    /// The nodes, once every chunk was checked; `None` if there is only one.
    ///
    /// # Panics
    /// If a node is missing.
    pub(crate) fn into_levels(self) -> Option<Arc<[Hash]>> {
        let known: u32 = self.known.iter().map(|word| word.count_ones()).sum();
        assert_eq!(known as usize, self.nodes.len(), "every chunk was checked");
        (!self.nodes.is_empty()).then(|| self.nodes.into())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Artifact, CHUNK_BYTES_MIN, SINGLE_CHUNK_BYTES_MAX};
    use super::*;

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

    /// Adverts cannot have two to four chunks, so small trees are tested without an artifact.
    #[test]
    fn roots_and_proofs_are_those_of_rfc_6962() {
        for count in (1..=17).chain([255, 256, 257]) {
            let chunks: Vec<[u8; 2]> = (0..count).map(u16::to_be_bytes).collect();
            let slices: Vec<&[u8]> = chunks.iter().map(|chunk| &chunk[..]).collect();
            let leaves: Vec<Hash> = slices.iter().map(|chunk| leaf(chunk)).collect();
            let (top, nodes) = grow(leaves.clone());
            assert_eq!(top, rfc6962(&slices));
            assert_eq!(nodes.len(), node_count(leaves.len()));
            for index in 0..u32::from(count) {
                let proof = proof(&nodes, count.into(), index);
                let root_of =
                    |proof: &[Hash]| root(leaves[index as usize], count.into(), index, proof);
                assert_eq!(root_of(&proof), Some(top));
                assert_eq!(root_of(&[&proof[..], &[top]].concat()), None);
                if let Some(shorter) = proof.len().checked_sub(1) {
                    assert_eq!(root_of(&proof[..shorter]), None);
                }
            }
        }
    }

    fn sample(chunks: usize) -> Artifact {
        let length = (chunks - 1) * CHUNK_BYTES_MIN + 9;
        let artifact = Artifact::new((0..length).map(|at| (at / 99) as u8).collect(), b"").unwrap();
        let cut = if length <= SINGLE_CHUNK_BYTES_MAX { 1 } else { chunks };
        assert_eq!(artifact.advert().chunks() as usize, cut);
        artifact
    }

    /// The chunks in an order that `seed` decides.
    fn shuffled(artifact: &Artifact, seed: u64) -> Vec<u32> {
        let mut order: Vec<u32> = (0..artifact.advert().chunks()).collect();
        order.sort_by_key(|index| leaf(&(u64::from(*index) << 32 | seed).to_be_bytes()));
        order
    }

    #[test]
    fn chunks_that_come_in_any_order_make_the_whole_tree() {
        for chunks in [1].into_iter().chain(5..=17).chain([255, 256]) {
            let artifact = sample(chunks);
            for seed in 0..4 {
                let mut tree = PartialTree::new(&artifact.advert());
                let order = shuffled(&artifact, seed);
                for (count, index) in order.iter().enumerate() {
                    let (chunk, proof) = artifact.chunk(*index);
                    assert!(tree.check(*index, &proof, &chunk));
                    let checked = order[..=count].iter();
                    checked
                        .for_each(|index| assert_eq!(tree.proof(*index), artifact.chunk(*index).1));
                }
                assert_eq!(tree.into_levels(), artifact.tree());
            }
        }
    }

    fn state(tree: &PartialTree) -> (Vec<Hash>, Vec<u64>) {
        (tree.nodes.clone(), tree.known.clone())
    }

    #[test]
    fn l17_what_is_wrong_changes_nothing() {
        let artifact = sample(11);
        let mut tree = PartialTree::new(&artifact.advert());
        for index in shuffled(&artifact, 7) {
            let (chunk, proof) = artifact.chunk(index);
            let before = state(&tree);
            let known = way_up(11, index as usize).position(|step| tree.is_known(step.node));
            // The number of entries of the proof that are looked at.
            let below = way_up(11, index as usize).take(known.unwrap_or(usize::MAX));
            let used = below.filter(|step| step.sibling.is_some()).count();
            for level in 0..used {
                let mut forged = proof.clone();
                forged[level][0] ^= 1;
                assert!(!tree.check(index, &forged, &chunk));
            }
            let mut flipped = chunk.to_vec();
            flipped[3] ^= 1;
            assert!(!tree.check(index, &proof, &flipped));
            assert!(!tree.check(index, &proof, &chunk[1..]));
            assert!(!tree.check(index, &proof[1..], &chunk));
            assert!(!tree.check(index, &[&proof[..], &[[0; 32]]].concat(), &chunk));
            assert!(!tree.check(11, &proof, &chunk));
            assert_eq!(state(&tree), before);
            assert!(tree.check(index, &proof, &chunk));
        }
        assert_eq!(tree.into_levels(), artifact.tree());
    }

    #[test]
    fn a_proof_is_not_looked_at_above_a_known_node() {
        let artifact = sample(16);
        let mut tree = PartialTree::new(&artifact.advert());
        let (chunk, proof) = artifact.chunk(5);
        assert!(tree.check(5, &proof, &chunk));
        // Chunk 7 meets what chunk 5 proved at the parent of its own parent.
        let (chunk, mut proof) = artifact.chunk(7);
        proof[1..].fill([9; 32]);
        assert!(tree.check(7, &proof, &chunk));
        assert_eq!(tree.proof(7), artifact.chunk(7).1);
        assert_eq!(tree.proof(5), artifact.chunk(5).1);
        // Chunk 6 is the sibling of chunk 7: its leaf is known.
        let (chunk, mut proof) = artifact.chunk(6);
        proof.fill([9; 32]);
        assert!(tree.check(6, &proof, &chunk));
        // Chunk 3 meets them only below the root of the left half.
        let (chunk, mut proof) = artifact.chunk(3);
        proof[2..].fill([9; 32]);
        assert!(tree.check(3, &proof, &chunk));
        let (chunk, mut proof) = artifact.chunk(9);
        proof[2] = [9; 32];
        assert!(!tree.check(9, &proof, &chunk));
    }
}
