//! What waits for room in a budget: peers take turns, and nothing is passed without end.

use alloc::vec::Vec;

use super::ledger::Ledger;
use super::turns::Turns;
use crate::id::PeerIndex;

/// How often the first item of a peer, while it lacks room in the budget of all peers alone, may be passed
/// by items that did not lack it before. Then none of those is granted room until there is enough for it.
/// Some may pass, so that a budget is used while a long body waits.
const PASSED_MAX: u32 = 16;

/// The first item of a peer, which has lacked room in the budget of all peers.
#[derive(Debug)]
struct Lacking {
    peer: PeerIndex,
    item: u32,
    /// How often it has been passed since, when it was room in that budget that it lacked.
    passed: u32,
}

/// Calls or requests, by their indices, that wait for room.
#[derive(Debug)]
pub(super) struct RoomQueue {
    waiting: Turns<u32>,
    /// One of a peer at most, in the order in which they came to lack room. They come before all others.
    lacking: Vec<Lacking>,
    /// By peer: whether it is in `lacking`.
    is_lacking: Vec<bool>,
}

impl RoomQueue {
    pub(super) const fn new() -> Self {
        Self { waiting: Turns::new(), lacking: Vec::new(), is_lacking: Vec::new() }
    }

    pub(super) fn push(&mut self, peer: PeerIndex, item: u32) {
        if self.is_lacking.len() <= peer.at() {
            self.is_lacking.resize(peer.at() + 1, false);
        }
        self.waiting.push(peer, item);
    }

    /// Removes an item, at any position.
    pub(super) fn remove(&mut self, peer: PeerIndex, item: u32) {
        self.waiting.remove(peer, |other| *other == item);
        self.forget(peer, item);
    }

    /// An item does not wait any more.
    fn forget(&mut self, peer: PeerIndex, item: u32) {
        if self.is_lacking.get(peer.at()) == Some(&true)
            && let Some(at) = self.lacking.iter().position(|lacking| lacking.item == item)
        {
            self.lacking.remove(at);
            self.is_lacking[peer.at()] = false;
        }
    }

    /// Takes the first item of a peer out, room or not.
    pub(super) fn pop_any(&mut self) -> Option<u32> {
        let mut of = None;
        let item = self.waiting.pop(|peer, _| of.replace(peer).is_none());
        if let (Some(peer), Some(item)) = (of, item) {
            self.forget(peer, item);
        }
        item
    }

    /// The next item for which there is room in a ledger: of those that have lacked it the first one, then
    /// in turns of the peers. Only peers that `may` have more count, as far as they have a share.
    pub(super) fn pop(
        &mut self,
        ledger: &Ledger,
        bytes: impl Fn(u32) -> u64,
        may: impl Fn(PeerIndex) -> bool,
    ) -> Option<u32> {
        let has_share = |peer, item| may(peer) && ledger.has_share(peer, bytes(item));
        let mut keeps_room = false;
        for at in 0..self.lacking.len() {
            let Lacking { peer, item, passed } = self.lacking[at];
            if !has_share(peer, item) {
                continue;
            }
            if ledger.has_room(bytes(item)) {
                self.note_passed(at, has_share);
                self.remove(peer, item);
                return Some(item);
            }
            // Those before it were passed as often, unless it was their share that they lacked.
            keeps_room = passed >= PASSED_MAX;
            if keeps_room {
                break;
            }
        }
        let Self { waiting, lacking, is_lacking } = self;
        let next = waiting.pop(|peer, item| {
            if !has_share(peer, *item) {
                return false;
            }
            let has_room = ledger.has_room(bytes(*item));
            if !has_room && !is_lacking[peer.at()] {
                is_lacking[peer.at()] = true;
                lacking.push(Lacking { peer, item: *item, passed: 0 });
            }
            has_room && (!keeps_room || bytes(*item) == 0)
        })?;
        // What needs no room takes none from others.
        if bytes(next) > 0 {
            self.note_passed(self.lacking.len(), has_share);
        }
        Some(next)
    }

    /// Those before `end` that have a share lack room, which something else is granted.
    fn note_passed(&mut self, end: usize, has_share: impl Fn(PeerIndex, u32) -> bool) {
        for lacking in &mut self.lacking[..end] {
            lacking.passed += u32::from(has_share(lacking.peer, lacking.item));
        }
    }

    /// Whether something lacks room in the budget of all peers, and not in the share of its peer. It was
    /// so when it was last its turn.
    pub(super) fn is_lacking_room(&self, ledger: &Ledger, bytes: impl Fn(u32) -> u64) -> bool {
        self.lacking.iter().any(|lacking| ledger.has_share(lacking.peer, bytes(lacking.item)))
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

#[cfg(test)]
mod tests;
