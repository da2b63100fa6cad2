//! Which members keep connections to each other.
//!
//! In a regular overlay the members form several cycles, each in another order, and keep
//! connections to their neighbours on each cycle. The overlay is connected by construction. Both
//! ends derive an edge from the members' ids alone. A member that joins or leaves changes only the
//! edges next to its own positions: three on each cycle. (Expanders from random Hamiltonian cycles:
//! Law and Siu, "Distributed construction of random expander networks", INFOCOM 2003.)

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use crate::artifact::sha256;
use crate::id::NodeId;

/// Separates these hashes from all others. All members must agree on it: it is part of the protocol.
const DOMAIN: &[u8] = b"slotcast/1 overlay";

/// Positions on cycles that one hash gives: eight bytes each.
const POSITIONS: usize = 4;

/// Which members keep connections to each other. All must have the same overlay.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum Overlay {
    /// Each to all others.
    #[default]
    FullMesh,
    /// Each to few, and what is published has to be [relayed](crate::config::Relay). For 500
    /// members a degree of 8 gives paths of 3.3 hops in the mean, and 5 at most. Artifacts of up to
    /// 4 KiB are pushed on by relays, half a round trip per hop; longer ones are advertised. A member whose
    /// neighbours are all hostile is cut off, and a member that can choose its key can influence
    /// whose neighbour it is. So the degree has to be above the number of faulty members that the
    /// subnet is to survive, or members must not be able to choose their keys.
    Regular {
        /// Neighbours of a member, at most: even, at least 4, and
        /// [`VERSIONS_MAX`](super::VERSIONS_MAX) times as many must fit `peers_max`.
        degree: u16,
    },
}

impl Overlay {
    /// The neighbours of `own` among `members`, which it is one of; else it has none.
    pub fn neighbours(
        self,
        own: NodeId,
        members: impl IntoIterator<Item = NodeId>,
    ) -> BTreeSet<NodeId> {
        let members = members.into_iter();
        match self {
            Self::FullMesh => {
                let mut others: BTreeSet<_> = members.collect();
                if others.remove(&own) { others } else { BTreeSet::new() }
            }
            Self::Regular { degree } => on_cycles(usize::from(degree / 2), own, members),
        }
    }
}

/// A position on a cycle. Positions that are equal by chance are ordered by the id.
type Position = (u64, NodeId);

/// The neighbours of a node on one cycle.
struct Beside {
    own: Position,
    /// The nearest position before and behind, if any.
    before: Option<Position>,
    behind: Option<Position>,
    /// The lowest and the highest position, which are neighbours on the cycle.
    first: Position,
    last: Position,
}

impl Beside {
    fn new(own: Position) -> Self {
        Self { own, before: None, behind: None, first: own, last: own }
    }

    fn pass(&mut self, other: Position) {
        self.first = self.first.min(other);
        self.last = self.last.max(other);
        if other < self.own {
            self.before = self.before.max(Some(other));
        } else {
            self.behind = Some(self.behind.map_or(other, |nearest| nearest.min(other)));
        }
    }

    fn both(&self) -> [NodeId; 2] {
        [self.before.unwrap_or(self.last).1, self.behind.unwrap_or(self.first).1]
    }
}

fn on_cycles(
    cycles: usize,
    own: NodeId,
    members: impl Iterator<Item = NodeId>,
) -> BTreeSet<NodeId> {
    let mut is_member = false;
    let mut beside: Vec<Beside> = Vec::with_capacity(cycles);
    each_position(own, cycles, |_, position| beside.push(Beside::new(position)));
    for node in members {
        if node == own {
            is_member = true;
        } else {
            each_position(node, cycles, |cycle, position| beside[cycle].pass(position));
        }
    }
    let neighbours = beside.iter().filter(|_| is_member).flat_map(Beside::both);
    neighbours.filter(|node| *node != own).collect()
}

/// The positions of a node on all cycles.
fn each_position(node: NodeId, cycles: usize, mut visit: impl FnMut(usize, Position)) {
    for first in (0..cycles).step_by(POSITIONS) {
        let hash = sha256(&[DOMAIN, &(first as u64).to_be_bytes(), &node.0]);
        for (cycle, bytes) in (first..cycles).zip(hash.chunks_exact(8)) {
            visit(cycle, (u64::from_be_bytes(bytes.try_into().expect("eight bytes")), node));
        }
    }
}
