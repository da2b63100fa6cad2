//! Which members keep connections to each other.
//!
//! In a regular overlay the members stand on several cycles, on each in another order, and keep
//! connections to those beside them. So it is connected by construction; both ends know of an edge
//! from the members' ids alone; and who joins or leaves moves the edges beside its own positions only:
//! three on each cycle. (Expanders from random Hamiltonian cycles: Law and Siu, "Distributed
//! construction of random expander networks", INFOCOM 2003.)

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use sha2::{Digest, Sha256};

use crate::id::NodeId;

/// Separates these hashes from all others. All members must agree on it: it is part of the protocol.
const DOMAIN: &[u8] = b"slotcast/1 overlay";

/// Positions on cycles that one hash gives: eight bytes each.
const POSITIONS: usize = 4;

/// Which members keep connections to each other. All must have the same overlay.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Overlay {
    /// Each to all others.
    #[default]
    FullMesh,
    /// Each to few, and what is published has to be [relayed](crate::config::Relay). For 500 members
    /// a degree of 8 gives paths of 3.3 hops in the mean, and 5 at most. A member that is
    /// surrounded by as many hostile ones as the degree is cut off, and who chooses its key has a
    /// say in whose neighbour it is: the degree is to be above what faults the subnet is to survive,
    /// or the members' keys are not to be their own choice.
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

/// A position on a cycle: what is equal by chance is told apart by the id.
type Position = (u64, NodeId);

/// Who stands beside a node on one cycle.
struct Beside {
    own: Position,
    /// The nearest position before and behind, if any.
    before: Option<Position>,
    behind: Option<Position>,
    /// The ends of the line that is closed to a cycle.
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
        let hash = Sha256::new().chain_update(DOMAIN).chain_update((first as u64).to_be_bytes());
        let hash = hash.chain_update(node.0).finalize();
        for (cycle, bytes) in (first..cycles).zip(hash.chunks_exact(8)) {
            visit(cycle, (u64::from_be_bytes(bytes.try_into().expect("eight bytes")), node));
        }
    }
}
