//! Room for the bytes of a channel's artifacts: which of those that are wanted may begin.
//!
//! Room is taken for a whole artifact, in the name of a member that offers it. That member is answerable
//! for an eighth of the channel's room at most (or for one artifact), so that so many silent holders are
//! needed to stop the others.

use super::backlog::Backlog;
use super::offer::{Offer, Place};
use super::wanted::{RoomChain, Stage, Wanted};
use super::{OFFERS_LOOKED_AT, Priority, Transfers};
use crate::arena::List;
use crate::broadcast::PeerSet;
use crate::config::{ChannelConfig, Freshness, Order, Relay};
use crate::id::PeerIndex;
use crate::sched::{End, Ends};
use crate::time::Time;

/// Of what has made no progress longest, so much is looked at to make room for one artifact.
const STALLED_LOOKED_AT: usize = 64;

/// Of a channel's room, one holder is answerable for this part, or for one artifact.
const HOLDER_SHARE: u64 = 8;

/// The room of a channel.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) class: usize,
    /// Members pass on what they have.
    pub(super) is_relaying: bool,
    pub(super) freshness: Freshness,
    pub(super) order: Order,
    max: u64,
    /// Bytes waiting for the application.
    ready: u64,
    /// Bytes taken for artifacts that are begun.
    pub(super) begun_bytes: u64,
    /// What is free is kept for an artifact that needs more.
    is_kept: bool,
    /// By priority: the artifacts that wait for room, and whose turn it is if the oldest has waited too long.
    pub(super) waiting: [Backlog<RoomChain>; Priority::ALL.len()],
    ends: [Ends; Priority::ALL.len()],
    /// Those that have room, in the order in which a chunk of them has come last.
    pub(super) begun: List<RoomChain>,
    /// The members that hold back some, and maybe others.
    pub(super) holding_back: PeerSet,
}

impl Room {
    pub(super) fn new(config: &ChannelConfig) -> Self {
        Self {
            class: config.class as usize,
            is_relaying: config.relay == Relay::Automatic,
            freshness: config.freshness,
            order: config.order,
            max: config.inbox_bytes_max,
            ready: 0,
            begun_bytes: 0,
            is_kept: false,
            waiting: Default::default(),
            ends: Default::default(),
            begun: List::default(),
            holding_back: PeerSet::default(),
        }
    }

    fn free(&self) -> u64 {
        self.max.saturating_sub(self.ready + self.begun_bytes)
    }
}

impl Transfers {
    /// Whether pushed bytes may be kept until the application takes them. Fetches must not keep pushes
    /// out: they can be made to last.
    pub(crate) fn can_push(&self, channel: u16, bytes: u64) -> bool {
        let room = &self.rooms[channel as usize];
        room.ready + bytes <= room.max
    }

    /// So many bytes wait for the application now.
    pub(crate) fn note_ready(&mut self, channel: u16, bytes: u64) {
        self.rooms[channel as usize].ready += bytes;
    }

    /// The application has taken so many bytes, or they have become obsolete.
    pub(crate) fn note_taken(&mut self, channel: u16, bytes: u64) {
        self.rooms[channel as usize].ready -= bytes;
        self.rooms_due |= 1 << channel;
    }

    /// Bytes of a channel that wait for the application, and those taken for artifacts that are begun.
    pub(crate) fn room_used(&self, channel: u16) -> (u64, u64) {
        let room = &self.rooms[channel as usize];
        (room.ready, room.begun_bytes)
    }

    pub(super) fn wait_for_room(&mut self, at: u32) {
        let wanted = &mut self.wanted[at];
        wanted.stage = Stage::Waiting;
        let (channel, priority) = (wanted.channel as usize, wanted.priority);
        self.rooms[channel].waiting[priority].push(&mut self.wanted, at);
        self.rooms_due |= 1 << channel;
    }

    /// Begins what waits for room, as far as there is some. What waits longest lets nothing overtake it,
    /// or long artifacts would starve; if it has [waited too long](crate::config::Freshness), all but its
    /// share goes to the newest.
    pub(super) fn begin_waiting(&mut self, now: Time, channel: usize) {
        self.rooms[channel].is_kept = false;
        self.date_waiting(now, channel);
        loop {
            let waiting = self.next_waiting(now, channel);
            let next = waiting.map(|(at, _)| at);
            let Some(at) = next.or_else(|| self.reopen_held_back(now, channel)) else { break };
            self.wanted[at].wanted_at.get_or_insert(now);
            match self.find_answerable(now, at) {
                Some(_) if !self.make_room(now, at) => {
                    self.rooms[channel].is_kept = true;
                    break;
                }
                Some(peer) => {
                    if let Some((_, end)) = waiting {
                        let Wanted { priority, ref advert, .. } = self.wanted[at];
                        let Room { ends, freshness, .. } = &mut self.rooms[channel];
                        ends[priority].note(end, advert.length as usize, freshness);
                    }
                    self.begin(now, at, peer);
                }
                None => self.leave_room(at),
            }
        }
    }

    /// What has come to wait since the time was told last waits from now on: the last ones, so that each is
    /// looked at once. Those before one that waits again are dated when they have their turn.
    fn date_waiting(&mut self, now: Time, channel: usize) {
        for waiting in &self.rooms[channel].waiting {
            let mut last = waiting.list.back();
            while let Some(at) = last.filter(|at| self.wanted[*at].wanted_at.is_none()) {
                self.wanted[at].wanted_at = Some(now);
                last = waiting.list.prev(&mut self.wanted, at);
            }
        }
    }

    /// What waits for room and has its turn, and at which end.
    fn next_waiting(&mut self, now: Time, channel: usize) -> Option<(u32, End)> {
        let waiting = self.rooms[channel].waiting.iter().enumerate().rev();
        let ends = |(priority, waiting): (usize, &Backlog<RoomChain>)| {
            Some((priority, waiting.oldest()?, waiting.first(&self.wanted)?))
        };
        let (priority, oldest, newest) = waiting.into_iter().find_map(ends)?;
        let is_late = self.is_late(now, oldest);
        let end = self.rooms[channel].ends[priority].turn(is_late);
        Some((if end == End::Newest { newest } else { oldest }, end))
    }

    /// Whether an artifact that nobody was asked for has waited too long for that.
    pub(super) fn is_late(&self, now: Time, at: u32) -> bool {
        let Wanted { channel, wanted_at, .. } = self.wanted[at];
        let freshness = &self.rooms[usize::from(channel)].freshness;
        wanted_at.is_some_and(|wanted_at| freshness.is_late(now, wanted_at))
    }

    /// A connected member in whose name room may be taken for an artifact. Others that offer it are put
    /// aside: until they are answerable for less, or for a while if they are silent, and room would have
    /// to be made for what they would not send.
    fn find_answerable(&mut self, now: Time, at: u32) -> Option<PeerIndex> {
        let (channel, length) = (self.wanted[at].channel as usize, self.wanted[at].advert.length);
        let is_full = self.rooms[channel].free() < length;
        let mut next = self.wanted[at].offers.front();
        while let Some(offer) = next {
            next = self.wanted[at].offers.next(&mut self.offers, offer);
            let Offer { peer, place, have, .. } = self.offers[offer];
            let timeout = self.timeout;
            let holder = self.holder(peer);
            let has_some = have.is_none_or(|have| !have.is_empty());
            if !holder.up || place != Place::Idle || !has_some {
                continue;
            }
            if is_full && holder.is_silent(now, timeout) {
                self.rest(now, offer);
            } else if !self.may_answer(peer, channel, length)
                && !self.reclaim(now, peer, channel, length)
            {
                self.offers[offer].place = Place::HeldBack;
                let holder = self.holders[peer.at()].as_mut().expect("a member");
                holder.held_back[channel].offers.push(&mut self.offers, offer);
                self.rooms[channel].holding_back.insert(peer);
            } else {
                return Some(peer);
            }
        }
        None
    }

    /// Whether room may be taken in a member's name for so many bytes.
    fn may_answer(&mut self, peer: PeerIndex, channel: usize, length: u64) -> bool {
        let share = self.rooms[channel].max / HOLDER_SHARE;
        let answerable = self.holder(peer).answerable[channel];
        answerable == 0 || answerable + length <= share
    }

    /// Gives up what a member is answerable for and what has made no progress for so long, if it may
    /// answer for so many bytes then. Otherwise nothing has changed.
    fn reclaim(&mut self, now: Time, peer: PeerIndex, channel: usize, length: u64) -> bool {
        let share = self.rooms[channel].max / HOLDER_SHARE;
        let mut left = self.holder(peer).answerable[channel];
        let is_enough = |left: u64| left == 0 || left + length <= share;
        let mut stalled = heapless::Vec::<u32, STALLED_LOOKED_AT>::new();
        let mut next = self.rooms[channel].begun.front();
        for _ in 0..STALLED_LOOKED_AT {
            let Some(begun) = next.filter(|_| !is_enough(left)) else { break };
            next = self.rooms[channel].begun.next(&mut self.wanted, begun);
            if self.wanted[begun].answerable != Some(peer) {
                continue;
            }
            let stalls_at = self.stalls_at(begun);
            if stalls_at > now {
                self.room_checks.bring_forward(channel, stalls_at);
            } else {
                left -= self.wanted[begun].advert.length;
                stalled.push(begun).expect("no more are looked at");
            }
        }
        if is_enough(left) {
            for begun in stalled {
                self.wanted[begun].losses = self.wanted[begun].losses.saturating_add(1);
                self.lose(begun);
            }
        }
        is_enough(left)
    }

    /// Makes room for an artifact, if need be from others that have made no progress for so long. False
    /// if that is not enough.
    fn make_room(&mut self, now: Time, at: u32) -> bool {
        let (channel, length) = (self.wanted[at].channel as usize, self.wanted[at].advert.length);
        let room = &self.rooms[channel];
        let (max, mut used) = (room.max, room.ready + room.begun_bytes);
        let mut stalled = heapless::Vec::<u32, STALLED_LOOKED_AT>::new();
        let mut next = self.rooms[channel].begun.front();
        let mut check_at = Time::NEVER;
        for _ in 0..STALLED_LOOKED_AT {
            let Some(begun) = next.filter(|_| used + length > max) else { break };
            let stalls_at = self.stalls_at(begun);
            if stalls_at <= now {
                used -= self.wanted[begun].advert.length;
                stalled.push(begun).expect("no more are looked at");
            } else {
                check_at = check_at.min(stalls_at);
            }
            next = self.rooms[channel].begun.next(&mut self.wanted, begun);
        }
        let is_enough = used + length <= max;
        // If so many do not suffice, others are looked at when these are gone.
        match is_enough || stalled.is_full() {
            true => {
                for begun in stalled {
                    self.wanted[begun].losses = self.wanted[begun].losses.saturating_add(1);
                    self.lose(begun);
                }
            }
            false => self.room_checks.bring_forward(channel, check_at),
        }
        is_enough
    }

    /// From then on, a begun artifact counts as making no progress: at once, if nobody is there to be
    /// asked for it.
    fn stalls_at(&mut self, at: u32) -> Time {
        let is_offered = self.wanted[at].offered > OFFERS_LOOKED_AT as u16
            || self.some_offer(at, |transfers, offer| {
                let peer = transfers.offers[offer].peer;
                transfers.holder(peer).up
            });
        if is_offered { self.wanted[at].stalls_at(self.timeout) } else { Time::ZERO }
    }

    /// Takes room for an artifact in the name of a member.
    pub(super) fn begin(&mut self, now: Time, at: u32, peer: PeerIndex) {
        self.leave_room(at);
        let wanted = &mut self.wanted[at];
        wanted.wanted_at.get_or_insert(now);
        wanted.begin(now, peer);
        let (channel, length) = (wanted.channel as usize, wanted.advert.length);
        let room = &mut self.rooms[channel];
        room.begun.push_back(&mut self.wanted, at);
        room.begun_bytes += length;
        self.holder(peer).answerable[channel] += length;
        self.queue_all(at);
    }

    /// Who was answerable for an artifact does not offer it any more: from now on somebody is that still
    /// does. If all have their share already, it gives up its room, unless something of it is here.
    pub(super) fn hand_over(&mut self, at: u32) {
        let (channel, length) = (self.wanted[at].channel as usize, self.wanted[at].advert.length);
        let (mut next, mut any) = (None, None);
        let mut offer = self.wanted[at].offers.front();
        while let Some(found) = offer.filter(|_| next.is_none()) {
            offer = self.wanted[at].offers.next(&mut self.offers, found);
            let peer = self.offers[found].peer;
            any = any.or(Some(peer));
            next = Some(peer).filter(|peer| self.may_answer(*peer, channel, length));
        }
        let Wanted { missing, ref advert, .. } = self.wanted[at];
        if next.is_none() && missing == advert.chunks() {
            return self.lose(at);
        }
        let next = next.or(any);
        let former = core::mem::replace(&mut self.wanted[at].answerable, next);
        if let Some(peer) = former {
            self.holder(peer).answerable[channel] -= length;
        }
        if let Some(peer) = next {
            self.holder(peer).answerable[channel] += length;
        }
        self.rooms_due |= 1 << channel;
    }

    /// Takes room for an artifact in the name of a member that sends it already, if there is some.
    pub(super) fn begin_at_once(&mut self, now: Time, at: u32, peer: PeerIndex) -> bool {
        let (channel, length) = (self.wanted[at].channel as usize, self.wanted[at].advert.length);
        let room = &self.rooms[channel];
        let is_free = !room.is_kept && length <= room.free();
        let has_room = is_free && self.may_answer(peer, channel, length);
        if has_room {
            self.begin(now, at, peer);
        }
        has_room
    }

    /// Gives up what has come of an artifact. It waits for room again, behind the others.
    pub(super) fn lose(&mut self, at: u32) {
        let mut next = self.wanted[at].offers.front();
        while let Some(offer) = next {
            next = self.wanted[at].offers.next(&mut self.offers, offer);
            self.cancel_all(offer);
            if let Place::Queued { .. } = self.offers[offer].place {
                self.displace(offer);
            }
        }
        self.leave_room(at);
        let wanted = &mut self.wanted[at];
        wanted.forget();
        if core::mem::take(&mut wanted.is_passed_on) {
            self.lost.push(wanted.known);
        }
        let mut next = self.wanted[at].offers.front();
        while let Some(offer) = next {
            next = self.wanted[at].offers.next(&mut self.offers, offer);
            self.open(offer);
        }
    }

    /// An artifact has no room any more, and does not wait for it.
    pub(super) fn leave_room(&mut self, at: u32) {
        self.end_spreading(at);
        let wanted = &mut self.wanted[at];
        let (channel, priority) = (wanted.channel as usize, wanted.priority);
        let (stage, length) = (wanted.stage, wanted.advert.length);
        wanted.stage = Stage::Unavailable;
        let answerable = wanted.answerable.take();
        let room = &mut self.rooms[channel];
        match stage {
            Stage::Unavailable => {}
            Stage::Waiting => {
                room.waiting[priority].remove(&mut self.wanted, at);
                self.rooms_due |= 1 << channel;
            }
            Stage::Begun => {
                room.begun.remove(&mut self.wanted, at);
                room.begun_bytes -= length;
                self.rooms_due |= 1 << channel;
                if let Some(peer) = answerable {
                    self.holder(peer).answerable[channel] -= length;
                }
            }
        }
    }

    /// Members hold back artifacts of a channel, and maybe need not any more: the one that can be begun,
    /// before all that have lost their room for it. Looks at the members that hold some back.
    fn reopen_held_back(&mut self, now: Time, channel: usize) -> Option<u32> {
        let holding_back = self.rooms[channel].holding_back;
        holding_back.iter().find_map(|peer| {
            let holder = self.holders[peer.at()].as_ref().expect("a member");
            let held_back = &holder.held_back[channel].offers;
            let (Some(oldest), Some(newest)) = (held_back.oldest(), held_back.first(&self.offers))
            else {
                self.rooms[channel].holding_back.remove(peer);
                return None;
            };
            let is_late = self.is_late(now, self.offers[oldest].transfer);
            let end = self.holder(peer).held_back[channel].ends.turn(is_late);
            let offer = if end == End::Newest { newest } else { oldest };
            let transfer = self.offers[offer].transfer;
            let length = self.wanted[transfer].advert.length;
            let may_begin =
                self.may_answer(peer, channel, length) || self.reclaim(now, peer, channel, length);
            may_begin.then(|| {
                let freshness = self.rooms[channel].freshness;
                let ends = &mut self.holder(peer).held_back[channel].ends;
                ends.note(end, length as usize, &freshness);
                self.displace(offer);
                self.open(offer);
                transfer
            })
        })
    }

    /// A chunk of an artifact has come.
    pub(super) fn note_progress(&mut self, at: u32) {
        let begun = &mut self.rooms[self.wanted[at].channel as usize].begun;
        begun.remove(&mut self.wanted, at);
        begun.push_back(&mut self.wanted, at);
    }
}
