//! The changes of a channel in the order of their keys, for [`Order::HighestKeyFirst`](crate::config::Order).
//!
//! There is one for all peers: a treap (C. R. Aragon and R. G. Seidel, "Randomized search trees", Algorithmica 16,
//! 1996) of the slots, each at its [`Position`]. Each node knows the newest version below it, so that the highest
//! change that is newer than a version is found in O(log slots).
//!
//! What a peer has been served of it are a few [steps](Passed): up to a version, everything from a position on.
//! When highest keys are served first, newer changes are served from a higher position on than older ones.

use alloc::vec::Vec;

use crate::arena::grow_by_quarter;
use crate::id::Slot;
use crate::random::Random;

/// Steps that are told apart. Each comes about when changes come in while others wait.
const STEPS_MAX: usize = 8;

/// Where a change stands: by its rank, and by its version among those of the same rank. What is published
/// under a key has this as its rank, and without one the lowest. Clears go first: they are short, and a peer
/// needs not go on with what was cleared.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Position {
    pub(super) rank: u64,
    pub(super) version: u64,
}

const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Node {
    left: u32,
    right: u32,
    /// Orders the nodes from the root down. It is not known to others, who could make the tree deep.
    priority: u32,
    position: Position,
    /// The highest version among this one and those below.
    newest: u64,
}

/// See the module's head.
#[derive(Debug)]
pub(super) struct KeyOrder {
    /// By slot.
    nodes: Vec<Node>,
    root: u32,
    /// The changes up to this version are in it.
    pub(super) until: u64,
    random: Random,
}

impl KeyOrder {
    pub(super) const fn new(seed: u64) -> Self {
        Self { nodes: Vec::new(), root: NONE, until: 0, random: Random::new(seed) }
    }

    /// A slot has changed.
    pub(super) fn insert(&mut self, slot: Slot, position: Position) {
        let at = slot.0 as usize;
        if at < self.nodes.len() && self.nodes[at].newest > 0 {
            self.remove(slot);
        }
        let vacant = Node { left: NONE, right: NONE, priority: 0, position, newest: 0 };
        while self.nodes.len() <= at {
            grow_by_quarter(&mut self.nodes);
            self.nodes.push(vacant);
        }
        let priority = self.random.bits() as u32;
        self.nodes[at] = Node { priority, newest: position.version, ..vacant };
        let (lower, higher) = self.split(self.root, position);
        let lower = self.merge(lower, slot.0);
        self.root = self.merge(lower, higher);
    }

    fn remove(&mut self, slot: Slot) {
        let position = self.nodes[slot.0 as usize].position;
        let next = Position { version: position.version + 1, ..position };
        let (lower, higher) = self.split(self.root, position);
        let (only, higher) = self.split(higher, next);
        assert_eq!(only, slot.0, "each change has a position of its own");
        self.root = self.merge(lower, higher);
    }

    /// Of the changes below a position, the highest that is newer than a version.
    pub(super) fn highest(&self, below: Option<Position>, after: u64) -> Option<(Position, Slot)> {
        self.highest_in(self.root, below, after)
    }

    fn highest_in(&self, at: u32, below: Option<Position>, after: u64) -> Option<(Position, Slot)> {
        let node = self.nodes.get(at as usize).filter(|node| node.newest > after)?;
        if below.is_some_and(|below| node.position >= below) {
            return self.highest_in(node.left, below, after);
        }
        let own = || (node.position.version > after).then_some((node.position, Slot(at)));
        let right = self.highest_in(node.right, below, after);
        right.or_else(own).or_else(|| self.highest_in(node.left, below, after))
    }

    /// The trees of what is below a position, and of the others.
    fn split(&mut self, at: u32, position: Position) -> (u32, u32) {
        let Some(Node { left, right, position: own, .. }) = self.nodes.get(at as usize).copied()
        else {
            return (NONE, NONE);
        };
        let parts = if own < position {
            let (lower, higher) = self.split(right, position);
            self.nodes[at as usize].right = lower;
            (at, higher)
        } else {
            let (lower, higher) = self.split(left, position);
            self.nodes[at as usize].left = higher;
            (lower, at)
        };
        self.refresh(at);
        parts
    }

    /// One tree of two, all of the first of which is below all of the other.
    fn merge(&mut self, lower: u32, higher: u32) -> u32 {
        if lower == NONE || higher == NONE {
            return lower.min(higher);
        }
        let (low, high) = (self.nodes[lower as usize], self.nodes[higher as usize]);
        let root = if low.priority > high.priority {
            self.nodes[lower as usize].right = self.merge(low.right, higher);
            lower
        } else {
            self.nodes[higher as usize].left = self.merge(lower, high.left);
            higher
        };
        self.refresh(root);
        root
    }

    fn refresh(&mut self, at: u32) {
        let Node { left, right, position, .. } = self.nodes[at as usize];
        let below = |at: u32| self.nodes.get(at as usize).map_or(0, |node| node.newest);
        self.nodes[at as usize].newest = position.version.max(below(left)).max(below(right));
    }
}

/// Everything up to `version` from a position on was served, or need not be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Step {
    version: u64,
    from: Position,
}

/// What a peer has been served in the order of keys. There are few steps: when there would be too many, one is
/// forgotten, and what was served in it is looked at again, as it is known what the peer was last sent of each slot.
#[derive(Debug, Default)]
pub(super) struct Passed {
    /// From the highest position and the newest version down. A capacity of [`STEPS_MAX`] at most.
    steps: Vec<Step>,
}

impl Passed {
    /// The highest change that was not passed, and is newer than `floor`.
    pub(super) fn next(&self, order: &KeyOrder, floor: u64) -> Option<(Position, Slot)> {
        let mut below = None;
        for step in self.steps.iter().filter(|step| step.version > floor) {
            let next = order.highest(below, step.version);
            if next.is_some_and(|(position, _)| position >= step.from) {
                return next;
            }
            below = Some(step.from);
        }
        order.highest(below, floor)
    }

    /// Everything up to `version`, which is the latest, was passed from a position on.
    pub(super) fn pass(&mut self, version: u64, from: Position, floor: u64) {
        self.steps.retain(|step| step.from < from && step.version > floor);
        if self.steps.len() == STEPS_MAX {
            let until = |at: usize| self.steps.get(at + 1).map_or(floor, |step| step.version);
            let again = |at: &usize| self.steps[*at].version - until(*at);
            let at = (0..STEPS_MAX).min_by_key(again).expect("there are some");
            self.steps.remove(at);
        }
        self.steps.reserve_exact(STEPS_MAX - self.steps.len());
        self.steps.insert(0, Step { version, from });
    }

    pub(super) fn clear(&mut self) {
        self.steps.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use alloc::collections::BTreeMap;

    /// Whether a change was passed.
    fn is_passed(Passed { steps }: &Passed, position: Position) -> bool {
        let covers = |step: &Step| step.from <= position && position.version <= step.version;
        steps.iter().any(covers)
    }

    struct World {
        order: KeyOrder,
        random: Random,
        version: u64,
        /// By slot.
        changes: BTreeMap<u32, Position>,
    }

    impl World {
        fn new(seed: u64) -> Self {
            let (order, random) = (KeyOrder::new(seed), Random::new(seed));
            Self { order, random, version: 0, changes: BTreeMap::new() }
        }

        fn change(&mut self, slot: u32, rank: u64) {
            self.version += 1;
            let position = Position { rank, version: self.version };
            self.order.insert(Slot(slot), position);
            self.changes.insert(slot, position);
        }

        fn depth(&self, at: u32) -> usize {
            let node = self.order.nodes.get(at as usize);
            node.map_or(0, |node| 1 + self.depth(node.left).max(self.depth(node.right)))
        }

        /// The highest version at a node and below, which each of them is to know.
        fn newest(&self, at: u32) -> u64 {
            let Some(node) = self.order.nodes.get(at as usize) else { return 0 };
            let newest = node.position.version.max(self.newest(node.left));
            let newest = newest.max(self.newest(node.right));
            assert_eq!(node.newest, newest);
            newest
        }
    }

    /// Whatever the order of the keys is.
    #[test]
    fn the_tree_is_flat() {
        for key in [|n: u64| n, |n: u64| u64::MAX - n, |n: u64| n % 7, |n: u64| n ^ 0x5555] {
            let mut world = World::new(1);
            (0..30_000).for_each(|n| world.change(n as u32 % 20_000, key(n)));
            assert!(world.depth(world.order.root) < 60);
        }
    }

    #[test]
    fn the_highest_newer_change_is_found() {
        for seed in 0..200 {
            let mut world = World::new(seed);
            for _ in 0..200 {
                let (slot, rank) = (world.random.below(40) as u32, world.random.below(30));
                world.change(slot, rank);
                let after = world.random.below(world.version + 1);
                let version = world.random.below(world.version + 1);
                let below = Position { rank: world.random.below(31), version };
                let found = world.order.highest(Some(below), after);
                let changes = world.changes.iter().map(|(slot, at)| (*at, Slot(*slot)));
                let fits = |(at, _): &(Position, Slot)| *at < below && at.version > after;
                assert_eq!(found, changes.filter(fits).max_by_key(|(at, _)| *at));
                assert_eq!(world.newest(world.order.root), world.version);
            }
        }
    }

    /// Against a plain set: the highest is always the next, but for what was passed before steps were forgotten.
    /// Some are served oldest first.
    #[test]
    fn what_was_not_passed_comes_in_the_order_of_keys() {
        for seed in 0..200 {
            let mut world = World::new(seed);
            let (mut passed, mut open) = (Passed::default(), BTreeMap::new());
            let mut floor = 0;
            for _ in 0..300 {
                for _ in 0..world.random.below(6) {
                    // In every other run, later ones have higher keys.
                    let rank = world.random.below(100) + seed % 2 * world.version;
                    let is_clear = world.random.below(20) == 0;
                    let rank = if is_clear { u64::MAX } else { rank };
                    let slot = world.random.below(200) as u32;
                    world.change(slot, rank);
                    open.insert(slot, world.changes[&slot]);
                }
                let oldest = open.iter().min_by_key(|(_, at): &(_, &Position)| at.version);
                let oldest = oldest.map(|(slot, at)| (*slot, at.version));
                if let Some((slot, version)) = oldest.filter(|_| world.random.below(4) == 0) {
                    open.remove(&slot);
                    floor = version;
                }
                for _ in 0..world.random.below(4) {
                    let highest = open.iter().map(|(slot, at)| (*at, Slot(*slot))).max();
                    let Some((position, slot)) = passed.next(&world.order, floor) else {
                        assert_eq!(highest, None);
                        break;
                    };
                    assert!(position.version > floor);
                    if open.contains_key(&slot.0) {
                        assert_eq!(Some((position, slot)), highest);
                    }
                    assert!(highest.is_none_or(|highest| (position, slot) >= highest));
                    passed.pass(world.version, position, floor);
                    open.remove(&slot.0);
                    assert!(is_passed(&passed, position));
                    assert!(
                        passed
                            .steps
                            .is_sorted_by(|a, b| { a.from > b.from && a.version > b.version })
                    );
                }
                assert!(open.values().all(|at| at.version > floor && !is_passed(&passed, *at)));
            }
        }
    }

    /// An old backlog is told apart from what bursts leave behind.
    #[test]
    fn what_is_looked_at_again_is_little() {
        let mut world = World::new(1);
        (0..1000).for_each(|key| world.change(key as u32, key));
        let mut passed = Passed::default();
        let mut looked_at = 0;
        let mut serve = |world: &World, passed: &mut Passed, count: usize| {
            for _ in 0..count {
                let next = passed.next(&world.order, 0);
                let Some((position, _)) = next else { break };
                passed.pass(world.version, position, 0);
                looked_at += 1;
            }
        };
        serve(&world, &mut passed, 500);
        for burst in 0..50 {
            (0..10).for_each(|n| {
                world.change(1000 + burst * 10 + n, u64::from(1000 + burst * 10 + n))
            });
            serve(&world, &mut passed, 7);
        }
        serve(&world, &mut passed, usize::MAX);
        assert!((1500..1500 + 350).contains(&looked_at), "{looked_at}");
    }
}
