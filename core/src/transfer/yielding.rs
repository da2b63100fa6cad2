//! Less urgent classes yield while what is more urgent is late.
//!
//! All that is asked for comes through the same downlink and the same processor, in whatever order it was sent: no
//! class helps it there. So what was asked of a lower class is in the way of a higher one. If a holder is late, it may
//! be the holder. But if more members are than can be faulty, it is this node that takes in no more. Then it asks for
//! little of lower classes: one short request at a time, of one member after the other.

use core::time::Duration;

use super::{CLASSES, Transfers};
use crate::broadcast::{PeerSet, RequestId};
use crate::config::Class;
use crate::id::PeerIndex;
use crate::membership::may_be_faulty;
use crate::time::Time;

const URGENT: usize = Class::Urgent as usize;
const NORMAL: usize = Class::Normal as usize;
pub(super) const BULK: usize = Class::Bulk as usize;

/// So many bytes of a class that yields are asked for at a time, or one chunk. In a round trip of 100 ms, it is a
/// sixteenth of 10 MB/s.
const BYTES_MAX: u64 = 64 << 10;

/// After so long, another member is asked although the one before has not answered: it may never do so.
const PATIENCE: Duration = Duration::from_millis(250);

/// While normal data yields, too, a holder is asked for so much of that before it is asked for bulk data: the part of
/// a lower class everywhere.
const BULK_LEFT_OUT_MAX: u8 = 15;

/// How much may be asked of a holder at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Portion {
    /// As much as is good for its rate.
    Full,
    /// Little, since the class yields.
    Little,
}

/// A request for something of a class that yields.
#[derive(Clone, Copy, Debug)]
struct Trickle {
    peer: PeerIndex,
    request: RequestId,
    until: Time,
}

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Yielding {
    /// By class: the members of which something of it is late that nobody was asked for yet. None yields to the last.
    late: [PeerSet; CLASSES - 1],
    /// Members that were not asked for something since its class yields.
    passed_over: PeerSet,
    /// The one of them whose turn it is.
    turn: Option<PeerIndex>,
    /// What was asked for last.
    last: Option<Trickle>,
}

impl Portion {
    pub(super) const fn bytes_max(self) -> u64 {
        match self {
            Self::Full => u64::MAX,
            Self::Little => BYTES_MAX,
        }
    }
}

impl Transfers {
    /// Whether something of a class is late at a holder, from now on.
    pub(super) fn note_late(&mut self, peer: PeerIndex, class: usize, is_late: bool) {
        let Some(late) = self.yielding.late.get_mut(class) else { return };
        match is_late {
            true => late.insert(peer),
            false => late.remove(peer),
        }
    }

    /// Something of a class need not be asked of a holder any more: it may not be late any more.
    pub(super) fn recheck_late(&mut self, peer: PeerIndex, class: usize) {
        if self.yielding.late.get(class).is_some_and(|late| late.contains(peer)) {
            self.note_due(peer);
        }
    }

    /// Whether a class yields.
    fn yields(&self, class: usize) -> bool {
        let late = &self.yielding.late[..class];
        let others = self.members_up as usize;
        late.iter().any(|late| !may_be_faulty(late.count() as usize, others))
    }

    /// The order in which a holder is asked for something of each class. Of all that yields, one request is under way at
    /// a time: if normal data went first each time, bulk data would starve.
    pub(super) fn class_order(&mut self, peer: PeerIndex) -> [usize; CLASSES] {
        let is_turn_of_bulk = self.holder(peer).bulk_left_out >= BULK_LEFT_OUT_MAX;
        if is_turn_of_bulk && self.yields(NORMAL) {
            [URGENT, BULK, NORMAL]
        } else {
            [URGENT, NORMAL, BULK]
        }
    }

    /// How much of a class may be asked of a holder at once. `None` if it is to be
    /// [passed over](Self::next_passed_over) for now.
    pub(super) fn portion(&mut self, now: Time, peer: PeerIndex, class: usize) -> Option<Portion> {
        if !self.yields(class) {
            return Some(Portion::Full);
        }
        // It comes behind those that wait already.
        let is_next = self.yielding.turn == Some(peer) || self.yielding.passed_over.is_empty();
        if is_next && !self.is_trickling(now) {
            return Some(Portion::Little);
        }
        self.yielding.passed_over.insert(peer);
        None
    }

    /// A holder was asked for [little](Portion::Little) of a class.
    pub(super) fn note_trickle(
        &mut self,
        now: Time,
        (peer, class): (PeerIndex, usize),
        request: RequestId,
    ) {
        self.yielding.last = Some(Trickle { peer, request, until: now + PATIENCE });
        let holder = self.holder(peer);
        let is_left_out = class == NORMAL && holder.has_queued(BULK);
        holder.bulk_left_out = if is_left_out { holder.bulk_left_out.saturating_add(1) } else { 0 };
    }

    /// Whether an answer of a class that yields is awaited.
    fn is_trickling(&self, now: Time) -> bool {
        let Some(Trickle { peer, request, until }) = self.yielding.last else { return false };
        let (at, generation) = request.parts();
        let holder = self.holders[peer.at()].as_ref();
        let request = holder.and_then(|holder| holder.requests.get(at));
        now < until
            && request.is_some_and(|request| {
                request.is_live() && u64::from(request.generation) == generation
            })
    }

    /// The next of the holders that were passed over, if it may be asked now: the turn of the one before is over.
    pub(super) fn next_passed_over(&mut self, now: Time) -> Option<PeerIndex> {
        self.yielding.turn = None;
        let waiting = &self.yielding.passed_over;
        let first = waiting.first()?;
        if self.yields(CLASSES - 1) && self.is_trickling(now) {
            return None;
        }
        let last = self.yielding.last.map(|last| last.peer);
        let next = waiting.iter().find(|peer| Some(*peer) > last).unwrap_or(first);
        self.yielding.passed_over.remove(next);
        self.yielding.turn = Some(next);
        Some(next)
    }

    /// When that is at the latest, if there is one.
    pub(super) fn next_turn_at(&self) -> Time {
        let last = self.yielding.last.filter(|_| !self.yielding.passed_over.is_empty());
        last.map_or(Time::NEVER, |last| last.until)
    }

    /// A member is down.
    pub(super) fn forget_late(&mut self, peer: PeerIndex) {
        self.yielding.passed_over.remove(peer);
        self.yielding.late.iter_mut().for_each(|late| late.remove(peer));
    }
}
