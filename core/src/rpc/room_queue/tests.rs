//! The queue under random schedules, against a model that looks at everything.

use alloc::vec::Vec;

use super::*;
use crate::random::Random;

const MAX: u64 = 100;
const SHARE: u64 = 70;
const PEERS: u64 = 6;

struct Item {
    peer: PeerIndex,
    bytes: u64,
    is_granted: bool,
    /// The step at which it became the first of its peer.
    first_since: Option<u64>,
    /// The step at which it was left, with a share, for lack of room.
    lacking_since: Option<u64>,
    /// How often it was passed by what became the first of its peer later than it lacked room.
    passed: u32,
    /// How often it was passed at all while it lacked room.
    passed_by_any: u32,
}

struct Model {
    queue: RoomQueue,
    ledger: Ledger,
    /// By index. `None`: gone.
    items: Vec<Option<Item>>,
    step: u64,
    most_passed: u32,
}

impl Model {
    fn new() -> Self {
        let mut ledger = Ledger::new(MAX, SHARE);
        (0..PEERS as u16).for_each(|at| ledger.add_peer(PeerIndex(at)));
        Self { queue: RoomQueue::new(), ledger, items: Vec::new(), step: 0, most_passed: 0 }
    }

    fn waiting(&self) -> impl Iterator<Item = (u32, &Item)> {
        let present = self.items.iter().enumerate();
        let present = present.filter_map(|(at, item)| Some((at as u32, item.as_ref()?)));
        present.filter(|(_, item)| !item.is_granted)
    }

    /// The first ones of the peers that have their share.
    fn eligible(&self) -> Vec<u32> {
        let mut first = [None; PEERS as usize];
        for (at, item) in self.waiting() {
            first[item.peer.at()].get_or_insert((at, item));
        }
        let has_share = |(_, item): &(u32, &Item)| self.ledger.has_share(item.peer, item.bytes);
        first.into_iter().flatten().filter(has_share).map(|(at, _)| at).collect()
    }

    fn item(&mut self, at: u32) -> &mut Item {
        self.items[at as usize].as_mut().expect("it is there")
    }

    fn lacks_room(&self, at: u32) -> bool {
        !self.ledger.has_room(self.items[at as usize].as_ref().expect("it is there").bytes)
    }

    fn push(&mut self, peer: u16, bytes: u64) -> u32 {
        let (peer, at) = (PeerIndex(peer), self.items.len() as u32);
        self.items.push(Some(Item {
            peer,
            bytes,
            is_granted: false,
            first_since: None,
            lacking_since: None,
            passed: 0,
            passed_by_any: 0,
        }));
        self.queue.push(peer, at);
        at
    }

    /// It is cancelled, its deadline has passed, or its body is done with.
    fn end(&mut self, at: u32) {
        let Some(item) = self.items[at as usize].take() else { return };
        match item.is_granted {
            true => self.ledger.give_back(item.peer, item.bytes),
            false => self.queue.remove(item.peer, at),
        }
    }

    /// Grants what can be granted, and looks at who was passed and who is left.
    fn grant(&mut self) {
        loop {
            self.step += 1;
            let step = self.step;
            for at in self.eligible() {
                self.item(at).first_since.get_or_insert(step);
            }
            let lacking: Vec<u32> =
                self.eligible().into_iter().filter(|at| self.lacks_room(*at)).collect();
            let items = &self.items;
            let bytes = |at: u32| items[at as usize].as_ref().expect("it waits").bytes;
            let Some(next) = self.queue.pop(&self.ledger, bytes, |_| true) else { break };
            let item = self.item(next);
            item.is_granted = true;
            let (peer, bytes, first_since) = (item.peer, item.bytes, item.first_since);
            assert!(self.ledger.take(peer, bytes), "there is room for what is granted");
            for at in lacking.into_iter().filter(|_| bytes > 0) {
                let item = self.item(at);
                item.passed_by_any += 1;
                if item.lacking_since < first_since && item.lacking_since.is_some() {
                    item.passed += 1;
                    assert!(item.passed <= PASSED_MAX, "{at} was passed too often");
                    self.most_passed = self.most_passed.max(self.item(at).passed);
                }
            }
        }
        let eligible = self.eligible();
        let lacking: Vec<u32> =
            eligible.iter().copied().filter(|at| self.lacks_room(*at)).collect();
        let is_kept = |at: &u32| {
            self.items[*at as usize].as_ref().expect("it waits").passed_by_any >= PASSED_MAX
        };
        assert!(
            eligible.len() == lacking.len() || lacking.iter().any(is_kept),
            "something sleeps though there is room, and nothing for which that is kept"
        );
        let step = self.step;
        for at in lacking {
            self.item(at).lacking_since.get_or_insert(step);
        }
        self.ledger.assert_invariants();
        assert_eq!(self.queue.len(), self.waiting().count());
    }

    /// Everything that was granted ends, until nothing waits.
    fn finish(&mut self) {
        while self.queue.len() > 0 {
            let granted: Vec<u32> = (0..self.items.len() as u32)
                .filter(|at| self.items[*at as usize].as_ref().is_some_and(|item| item.is_granted))
                .collect();
            let before = self.queue.len();
            granted.into_iter().for_each(|at| self.end(at));
            self.grant();
            assert!(self.queue.len() < before, "all credit is there, and nothing is granted");
        }
        (0..self.items.len() as u32).for_each(|at| self.end(at));
        assert_eq!(self.ledger.committed(), 0, "all credit is there in the end");
    }
}

#[test]
fn no_waiter_is_passed_too_often_or_sleeps_beside_its_credit() {
    let mut most_passed = 0;
    for seed in 0..30 {
        let mut random = Random::new(seed);
        let mut model = Model::new();
        for _ in 0..300 {
            let peer = random.below(PEERS) as u16;
            let any = random.below(model.items.len().max(1) as u64) as u32;
            match random.below(100) {
                0..5 => drop(model.push(peer, 0)),
                5..15 => drop(model.push(peer, SHARE - random.below(20))),
                15..50 => drop(model.push(peer, 1 + random.below(20))),
                50..95 if !model.items.is_empty() => {
                    // What was granted ends more often than what waits.
                    let len = model.items.len() as u32;
                    let is_granted = |at: &u32| {
                        model.items[*at as usize].as_ref().is_some_and(|item| item.is_granted)
                    };
                    let granted = (any..len).chain(0..any).find(is_granted);
                    let at = if random.below(8) == 0 { any } else { granted.unwrap_or(any) };
                    model.end(at);
                }
                95.. => {
                    // A peer goes away; what it was granted ends with it.
                    for at in 0..model.items.len() as u32 {
                        if model.items[at as usize].as_ref().is_some_and(|item| item.peer.0 == peer)
                        {
                            model.end(at);
                        }
                    }
                }
                _ => {}
            }
            model.grant();
        }
        model.finish();
        most_passed = most_passed.max(model.most_passed);
    }
    assert!(most_passed > PASSED_MAX / 2, "the schedules come near the bound: {most_passed}");
}

#[test]
fn what_is_cancelled_takes_no_count_of_others_with_it() {
    let mut model = Model::new();
    model.push(5, 50);
    model.grant();
    let (first, second) = (model.push(0, 60), model.push(1, 60));
    for _ in 0..PASSED_MAX {
        model.grant();
        let at = model.push(4, 10);
        model.grant();
        model.end(at);
    }
    model.end(first);
    let late = model.push(4, 10);
    model.grant();
    let is_granted = |model: &Model, at: u32| {
        model.items[at as usize].as_ref().is_some_and(|item| item.is_granted)
    };
    assert!(!is_granted(&model, late), "room is kept for the second");
    model.end(0);
    model.grant();
    assert!(is_granted(&model, second) && is_granted(&model, late));
    model.finish();
}
