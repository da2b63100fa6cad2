//! What waits for room in a budget: peers take turns, and nothing is passed without end.

use super::ledger::Ledger;
use super::turns::Turns;
use crate::id::PeerIndex;

/// How often something that waits for room in the budget of all peers may be passed by what needs less
/// of it. Then nothing else is granted room until there is enough for it. Some may pass, so that a
/// budget is used while a long body waits.
const PASSED_MAX: u32 = 16;

/// The first item that lacked room in the budget of all peers.
#[derive(Debug)]
struct Passed {
    peer: PeerIndex,
    item: u32,
    /// How often it has been passed since.
    count: u32,
}

/// Calls or requests, by their indices, that wait for room.
#[derive(Debug)]
pub(super) struct RoomQueue {
    waiting: Turns<u32>,
    passed: Option<Passed>,
}

impl RoomQueue {
    pub(super) const fn new() -> Self {
        Self { waiting: Turns::new(), passed: None }
    }

    pub(super) fn push(&mut self, peer: PeerIndex, item: u32) {
        self.waiting.push(peer, item);
    }

    /// Removes an item, at any position.
    pub(super) fn remove(&mut self, peer: PeerIndex, item: u32) {
        self.waiting.remove(peer, |other| *other == item);
        self.passed.take_if(|passed| passed.item == item);
    }

    /// Takes the first item of a peer out, room or not.
    pub(super) fn pop_any(&mut self) -> Option<u32> {
        self.passed = None;
        self.waiting.pop(|_, _| true)
    }

    /// The next item for which there is room in a ledger, in turns of the peers that `may` have more.
    pub(super) fn pop(
        &mut self,
        ledger: &Ledger,
        bytes: impl Fn(u32) -> u64,
        may: impl Fn(PeerIndex) -> bool,
    ) -> Option<u32> {
        let has_share = |peer, item| may(peer) && ledger.has_share(peer, bytes(item));
        let mut keeps_room = false;
        if let Some(Passed { peer, item, count }) = self.passed
            && has_share(peer, item)
        {
            if ledger.has_room(bytes(item)) {
                self.remove(peer, item);
                return Some(item);
            }
            keeps_room = count >= PASSED_MAX;
        }
        let mut lacking = None;
        let next = self.waiting.pop(|peer, item| {
            if !has_share(peer, *item) {
                return false;
            }
            let has_room = ledger.has_room(bytes(*item));
            if !has_room && lacking.is_none() {
                lacking = Some(Passed { peer, item: *item, count: 0 });
            }
            has_room && (!keeps_room || bytes(*item) == 0)
        });
        if self.passed.is_none() {
            self.passed = lacking;
        }
        if let (Some(passed), Some(_)) = (&mut self.passed, next) {
            passed.count = (passed.count + 1).min(PASSED_MAX);
        }
        next
    }

    /// Items of all peers.
    pub(super) const fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Items of a peer.
    pub(super) fn count(&self, peer: PeerIndex) -> usize {
        self.waiting.count(peer)
    }
}
