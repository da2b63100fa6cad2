//! What a holder is asked for next.

use super::offer::{Offer, Place};
use super::wanted::Wanted;
use super::{Priority, Transfers};
use crate::id::PeerIndex;
use crate::sched::End;
use crate::time::Time;

/// What a holder is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Next {
    pub(super) offer: u32,
    /// Whose turn it is.
    pub(super) end: End,
    /// Nobody was asked for it before.
    pub(super) is_fresh: bool,
}

impl Transfers {
    /// What a holder is asked for next, in one class. It `is_overloaded` with something more urgent, which is
    /// not to wait for what is less urgent.
    pub(super) fn next_offer(
        &mut self,
        now: Time,
        peer: PeerIndex,
        class: usize,
        mut is_overloaded: bool,
    ) -> Option<Next> {
        (0..Priority::ALL.len()).rev().find_map(|priority| {
            let queue = (class, priority);
            let is_late = self.has_late(now, peer, queue);
            is_overloaded |= is_late;
            let has_waited = is_late || self.is_left_behind(now, peer, queue);
            let end = self.holder(peer).queues[class][priority].ends.turn(has_waited);
            let is_turn_of_oldest = has_waited && end == End::Oldest;
            let fresh = self.fresh_offer(peer, queue, if is_late { end } else { End::Oldest });
            let begun = self.begun_offer(peer, queue, is_turn_of_oldest);
            let is_begun_first = match (fresh, begun) {
                (Some(fresh), Some(begun)) => self.goes_first(begun, fresh, is_turn_of_oldest),
                _ => false,
            };
            // Where it goes second, it does not wait for the room of the other: unless both are long, or ever
            // more would be begun.
            let may_be_second = |fresh: &u32| !is_begun_first || self.is_short(*fresh);
            let fresh = fresh.filter(may_be_second);
            let fresh = fresh.filter(|fresh| self.may_begin(peer, *fresh, is_overloaded));
            let begun = begun.filter(|_| self.may_go_on(peer, class, is_overloaded));
            let offer = if is_begun_first { begun.or(fresh) } else { fresh.or(begun) }?;
            Some(Next { offer, end, is_fresh: Some(offer) == fresh })
        })
    }

    /// Whether what is begun goes before what nobody was asked for yet.
    fn goes_first(&mut self, begun: u32, fresh: u32, is_turn_of_oldest: bool) -> bool {
        let [since, fresh_since] = [begun, fresh].map(|offer| self.wanted_at(offer));
        if is_turn_of_oldest {
            return since <= fresh_since;
        }
        let left = |offer: u32| self.wanted[self.offers[offer].transfer].left();
        !self.is_short(fresh) && left(begun) <= left(fresh)
    }

    fn wanted_at(&self, offer: u32) -> Option<Time> {
        self.wanted[self.offers[offer].transfer].wanted_at
    }

    /// Whether the artifact is short, for its holder.
    fn is_short(&self, offer: u32) -> bool {
        let Offer { transfer, peer, .. } = self.offers[offer];
        let holder = self.holders[peer.at()].as_ref().expect("a member");
        holder.is_short(self.wanted[transfer].advert.length)
    }

    /// Whether the oldest of what nobody was asked for yet, in one queue of a holder, has waited too long.
    pub(super) fn has_late(&mut self, now: Time, peer: PeerIndex, queue: (usize, usize)) -> bool {
        let oldest = self.fresh_offer(peer, queue, End::Oldest);
        oldest.is_some_and(|offer| self.is_late(now, self.offers[offer].transfer))
    }

    /// Whether something that is begun has waited too long for its next request, in one queue of a holder: ever
    /// more may come of which fewer bytes are left, none of which is late itself.
    fn is_left_behind(
        &self,
        now: Time,
        peer: PeerIndex,
        (class, priority): (usize, usize),
    ) -> bool {
        let holder = self.holders[peer.at()].as_ref().expect("a member");
        holder.queues[class][priority].waiting().any(|offer| {
            let Wanted { channel, live, progress_at, .. } =
                self.wanted[self.offers[offer].transfer];
            live == 0 && self.rooms[usize::from(channel)].freshness.is_late(now, progress_at)
        })
    }

    /// Whether a holder may be asked for something that nobody was asked for yet. No class waits for another.
    fn may_begin(&self, peer: PeerIndex, offer: u32, is_overloaded: bool) -> bool {
        let wanted = &self.wanted[self.offers[offer].transfer];
        let (class, length) = (wanted.class, wanted.advert.length);
        let holder = self.holders[peer.at()].as_ref().expect("a member");
        let has_room = match is_overloaded {
            true => holder.has_room_when_overloaded(length),
            false => holder.has_room_for(length),
        };
        has_room || !holder.is_asked(class, self.requests_max)
    }

    /// Whether a holder may be asked for more of what is begun.
    fn may_go_on(&self, peer: PeerIndex, class: usize, is_overloaded: bool) -> bool {
        let max = self.requests_max;
        let holder = self.holders[peer.at()].as_ref().expect("a member");
        match is_overloaded {
            true => holder.has_room_when_overloaded(u64::MAX) || !holder.is_asked(class, max),
            false => holder.has_room(),
        }
    }

    /// At one end of a queue, what nobody was asked for yet.
    fn fresh_offer(&mut self, peer: PeerIndex, queue: (usize, usize), end: End) -> Option<u32> {
        loop {
            let holder = self.holders[peer.at()].as_ref().expect("a member");
            let fresh = &holder.queues[queue.0][queue.1].fresh;
            let offer = match end {
                End::Oldest => fresh.oldest(),
                End::Newest => fresh.first(&self.offers),
            }?;
            // Somebody else may have been asked first.
            if self.is_in_place(offer) {
                return Some(offer);
            }
        }
    }

    /// Of what is begun, what is to go on.
    fn begun_offer(
        &mut self,
        peer: PeerIndex,
        (class, priority): (usize, usize),
        is_turn_of_oldest: bool,
    ) -> Option<u32> {
        loop {
            let holder = self.holders[peer.at()].as_ref().expect("a member");
            let queue = &holder.queues[class][priority];
            let offer = match is_turn_of_oldest {
                true => queue.waiting().min_by_key(|offer| self.wanted_at(*offer)),
                false => queue.shortest(),
            }?;
            if self.is_in_place(offer) {
                return Some(offer);
            }
        }
    }

    /// Whether a queued offer is where it belongs. If not, it is from now on: others may have been asked for
    /// its artifact since, or not be expected to send it any more.
    fn is_in_place(&mut self, offer: u32) -> bool {
        let Offer { transfer, place, .. } = self.offers[offer];
        let Place::Queued { segment, .. } = place else { unreachable!("it is in a queue") };
        let is_in_place = segment == self.wanted[transfer].segment();
        if !is_in_place {
            self.displace(offer);
            self.queue(offer);
        }
        is_in_place
    }
}
