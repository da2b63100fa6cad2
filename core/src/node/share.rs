//! The share that each peer has of this node's work: deficit round robin (Shreedhar and Varghese, "Efficient
//! fair queuing using deficit round robin", 1996) over what is read of links, by counted work.
//!
//! What comes on a link is read in several [lanes](super::link::Lane), each with a share of its own: chunks of long
//! artifacts take most of the work, and hold up nothing else. What is said of a link here holds for each of its lanes.
//!
//! A *turn* is from one time at which the node has nothing to do to the next. In each turn, a link is given an
//! allowance. While it has some, what comes on it is read as it comes. What comes beyond that waits unread
//! ([`super::link`]), and one of the links that wait is read at the end of each turn, when all else is done. No
//! time is taken: a peer that is beyond its share is read as fast as the node can, between what others send. While
//! others do send, turns are short, since what is just read of it is what others wait for. Invariants 9, 11.

use std::collections::VecDeque;
use std::time::Duration;
use std::vec::Vec;

use quinn_proto::ConnectionHandle;

use super::link::Lane;
use crate::membership::may_be_faulty;
use crate::time::Time;

/// What is counted, in units of [`WorkConfig`](crate::config::WorkConfig).
pub(super) mod cost {
    /// A datagram is decrypted and acknowledged, or encrypted and sent.
    pub(in crate::node) const DATAGRAM: u32 = 30;
    /// A stream is looked up and read.
    pub(in crate::node) const STREAM: u32 = 10;
    /// A frame is decoded, and what it says is done.
    pub(in crate::node) const FRAME: u32 = 5;
    /// Bytes are copied or hashed.
    pub(in crate::node) const KIB: u32 = 5;
}

/// A link that was quiet for some turns may have the allowances of so many at once.
const TURNS_SAVED_MAX: u64 = 4;

/// A turn may not end while there is always something to send: so many batches are one, too.
const BATCHES_PER_TURN: u32 = 64;

/// While datagrams wait in the socket, none of the links that wait is read, or what is received could not keep up
/// with what they are given credit for, and others would wait in the socket. While turns are short, the same holds while
/// the application has something to take. But if that never ends, one of them is read in so many turns.
const TURNS_LEFT_OUT_MAX: u32 = 8;

/// So many turns go to others while chunks of bulk wait: the part of a lower class everywhere.
const BULK_LEFT_OUT_MAX: u32 = 15;

/// So much shorter are turns, and the polls of a driver, while as few as may be faulty are beyond their share, and others
/// send something, too. Beside a flood that takes all of a processor, artifacts and calls then take about as long as
/// without it, and the flood is read at about a tenth of the rate (bench `hostile`).
const SHORTENED_BY: u32 = 4;

/// Whoever sends something while others are beyond their share is taken to go on for so long: ten artifacts a second are
/// few. If nobody does, as when a member catches up, long turns are for nobody's harm.
const BESIDE: Duration = Duration::from_millis(100);

/// The share of one link, and of its peer when that connects again.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Share {
    /// The work that it may cause in this turn; below zero, what it has caused beyond that.
    left: i64,
    /// The turn in which it was last given some.
    turn: u64,
    /// The work that it has caused since that was last taken.
    done: u64,
}

impl Share {
    /// The link is in use to its peer from now on, which had so much `left` of an earlier one.
    pub(super) fn go_on(&mut self, mut left: Self, turn: u64, turn_max: u32) {
        self.begin(turn, turn_max);
        left.begin(turn, turn_max);
        self.left += left.left - i64::from(turn_max) * TURNS_SAVED_MAX as i64;
    }

    /// What its peer has left when the link is not in use any more.
    pub(super) const fn remainder(&self) -> Self {
        Self { done: 0, ..*self }
    }

    /// Has the link given what it is due by this turn.
    pub(super) fn begin(&mut self, turn: u64, turn_max: u32) {
        let turns = (turn - self.turn).min(TURNS_SAVED_MAX) as i64;
        let most = i64::from(turn_max) * TURNS_SAVED_MAX as i64;
        self.left = self.left.saturating_add(turns * i64::from(turn_max)).min(most);
        self.turn = turn;
    }

    /// The link has waited for its turn, which has come.
    pub(super) fn resume(&mut self, turn: u64, turn_max: u32) {
        self.left = (self.left + i64::from(turn_max)).min(turn_max.into());
        self.turn = turn;
    }

    pub(super) fn is_spent(&self) -> bool {
        self.left <= 0
    }

    pub(super) fn charge(&mut self, work: u32) {
        self.left -= i64::from(work);
        self.done += u64::from(work);
    }

    /// The work since the last call.
    pub(super) fn take_done(&mut self) -> u64 {
        std::mem::take(&mut self.done)
    }
}

/// Links that wait for their turns in some lanes.
#[derive(Debug, Default)]
struct Waiting {
    queue: VecDeque<(ConnectionHandle, Lane)>,
    /// By handle, in how many of the lanes.
    lanes: Vec<u8>,
    /// Those that wait in any.
    links: usize,
}

impl Waiting {
    fn push(&mut self, handle: ConnectionHandle, lane: Lane) {
        if self.lanes.len() <= handle.0 {
            self.lanes.resize(handle.0 + 1, 0);
        }
        self.lanes[handle.0] += 1;
        self.links += usize::from(self.lanes[handle.0] == 1);
        self.queue.push_back((handle, lane));
    }

    fn pop(&mut self) -> Option<(ConnectionHandle, Lane)> {
        let next = self.queue.pop_front()?;
        self.note_removed(next.0);
        Some(next)
    }

    fn remove(&mut self, handle: ConnectionHandle, lane: Lane) {
        let at = self.queue.iter().position(|other| *other == (handle, lane));
        self.queue.remove(at.expect("it waits"));
        self.note_removed(handle);
    }

    fn note_removed(&mut self, handle: ConnectionHandle) {
        self.lanes[handle.0] -= 1;
        self.links -= usize::from(self.lanes[handle.0] == 0);
    }

    fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

/// The turns of a node, and the links that wait for theirs.
#[derive(Debug)]
pub(super) struct Turns {
    now: u64,
    /// One of those that wait has had this turn.
    is_taken: bool,
    /// Datagrams wait in the socket.
    input_waits: bool,
    /// Turns in succession in which none was read for that.
    left_out: u32,
    batches: u32,
    /// Those that wait in the lanes but that of bulk, and in that.
    waiting: [Waiting; 2],
    /// Turns in succession in which bulk waited, and something else was read.
    bulk_left_out: u32,
    /// Until then, others are taken to send something, too.
    beside_until: Time,
}

impl Turns {
    pub(super) fn new() -> Self {
        // A link is given its first allowances when it comes.
        let now = TURNS_SAVED_MAX;
        Self {
            now,
            is_taken: false,
            input_waits: false,
            left_out: 0,
            batches: 0,
            waiting: Default::default(),
            bulk_left_out: 0,
            beside_until: Time::ZERO,
        }
    }

    pub(super) fn now(&self) -> u64 {
        self.now
    }

    /// The node has nothing else to do.
    pub(super) fn end(&mut self) {
        self.now += 1;
        (self.is_taken, self.batches) = (false, 0);
    }

    /// Whether datagrams wait in the socket.
    pub(super) fn set_input_waits(&mut self, input_waits: bool) {
        self.input_waits = input_waits;
    }

    /// The node has sent a batch of datagrams. Whether the turn ends with it.
    pub(super) fn note_batch(&mut self) -> bool {
        self.batches += 1;
        let is_last = self.batches >= BATCHES_PER_TURN;
        if is_last {
            self.end();
        }
        is_last
    }

    /// The link that is read in this turn, once, and the lane. Others may wait for what the application does about what
    /// they sent.
    pub(super) fn next(&mut self, others_wait: bool) -> Option<(ConnectionHandle, Lane)> {
        if self.is_taken {
            return None;
        }
        self.is_taken = true;
        if (self.input_waits || others_wait) && self.left_out < TURNS_LEFT_OUT_MAX {
            self.left_out += 1;
            return None;
        }
        self.left_out = 0;
        let [others, bulk] = &mut self.waiting;
        if bulk.is_empty() || !others.is_empty() && self.bulk_left_out < BULK_LEFT_OUT_MAX {
            self.bulk_left_out += u32::from(!bulk.is_empty());
            return others.pop();
        }
        self.bulk_left_out = 0;
        bulk.pop()
    }

    fn waiting(&mut self, lane: Lane) -> &mut Waiting {
        &mut self.waiting[usize::from(lane == Lane::Bulk)]
    }

    /// A lane of a link waits, which did not before.
    pub(super) fn wait(&mut self, handle: ConnectionHandle, lane: Lane) {
        self.waiting(lane).push(handle, lane);
    }

    /// A link of which a lane waits is being removed.
    pub(super) fn remove(&mut self, handle: ConnectionHandle, lane: Lane) {
        self.waiting(lane).remove(handle, lane);
    }

    /// Something has come on a link that does not wait.
    pub(super) fn note_within(&mut self, now: Time) {
        if self.has_waiting() {
            self.beside_until = now + BESIDE;
        }
    }

    /// By how much turns are to be shorter than usual, if there are so many members.
    pub(super) fn shortened_by(&self, now: Time, members: usize) -> u32 {
        let beyond = self.waiting.iter().map(|waiting| waiting.links).max().unwrap_or(0);
        // If there are more, it is load, which long turns serve best.
        let is_few = beyond > 0 && may_be_faulty(beyond, members);
        let is_shortened = is_few && now < self.beside_until;
        if is_shortened { SHORTENED_BY } else { 1 }
    }

    pub(super) fn has_waiting(&self) -> bool {
        self.waiting.iter().any(|waiting| !waiting.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_has_its_allowance_of_each_turn_and_pays_what_it_was_beyond_it() {
        let mut share = Share::default();
        share.begin(100, 1000);
        share.charge(4000);
        assert!(share.is_spent());
        share.begin(101, 1000);
        share.charge(2500);
        share.begin(102, 1000);
        assert!(share.is_spent());
        share.begin(103, 1000);
        assert!(!share.is_spent());
        assert_eq!(share.take_done(), 6500);
    }

    #[test]
    fn who_connects_again_goes_on_with_what_it_had_left() {
        let most = i64::from(1000 * TURNS_SAVED_MAX as u32);
        let mut share = Share::default();
        share.begin(100, 1000);
        share.charge(9000);
        let mut next = Share::default();
        next.begin(100, 1000);
        next.charge(70);
        next.go_on(share.remainder(), 100, 1000);
        assert_eq!((next.left, next.take_done()), (most - 9000 - 70, 70));
        // What it is due has come meanwhile.
        let mut next = Share::default();
        next.go_on(share.remainder(), 102, 1000);
        assert_eq!(next.left, most - 9000 + 2000);
        // And who is new has used nothing.
        let mut first = Share::default();
        first.begin(100, 1000);
        first.go_on(Share::default(), 100, 1000);
        assert_eq!(first.left, most);
    }

    #[test]
    fn a_link_that_was_quiet_has_the_allowances_of_a_few_turns_and_no_more() {
        let mut share = Share::default();
        // However often it is looked at, and however long it was quiet.
        for turn in (0..100).chain([1_000_000]) {
            share.begin(turn, 1000);
        }
        share.charge(1000 * TURNS_SAVED_MAX as u32 - 1);
        assert!(!share.is_spent());
        share.charge(1);
        assert!(share.is_spent());
    }

    /// What a link has caused beyond its allowance is not forgotten when it is quiet.
    #[test]
    fn a_pause_pays_for_a_few_turns_and_no_more() {
        let mut share = Share::default();
        share.begin(100, 1000);
        share.charge(10_000);
        share.begin(1_000_000, 1000);
        assert!(share.is_spent());
    }

    #[test]
    fn who_has_waited_for_a_turn_has_one_allowance() {
        let mut share = Share::default();
        share.begin(100, 1000);
        share.charge(4000);
        share.resume(110, 1000);
        share.charge(1000);
        share.begin(110, 1000);
        assert!(share.is_spent(), "it has had what it was due by this turn");
    }

    #[test]
    fn links_that_wait_are_read_in_turn() {
        let mut turns = Turns::new();
        (0..3).map(ConnectionHandle).for_each(|link| turns.wait(link, Lane::First));
        assert_eq!(
            (turns.next(false), turns.next(false)),
            (Some((ConnectionHandle(0), Lane::First)), None)
        );
        turns.wait(ConnectionHandle(0), Lane::First);
        turns.remove(ConnectionHandle(1), Lane::First);
        for expected in [2, 0] {
            turns.end();
            assert_eq!(turns.next(false), Some((ConnectionHandle(expected), Lane::First)));
        }
        assert!(!turns.has_waiting());
    }

    #[test]
    fn chunks_of_bulk_wait_for_others_but_not_for_ever() {
        let mut turns = Turns::new();
        turns.wait(ConnectionHandle(0), Lane::Bulk);
        for turn in 0..=BULK_LEFT_OUT_MAX as usize {
            turns.wait(ConnectionHandle(1), if turn % 2 == 0 { Lane::First } else { Lane::Chunks });
            let expected = if turn < BULK_LEFT_OUT_MAX as usize { 1 } else { 0 };
            assert_eq!(turns.next(false).map(|(link, _)| link), Some(ConnectionHandle(expected)));
            turns.end();
        }
        assert!(turns.has_waiting());
        turns.remove(ConnectionHandle(1), Lane::Chunks);
        assert!(!turns.has_waiting());
    }

    #[test]
    fn what_waits_in_the_socket_comes_first_but_not_for_ever() {
        let mut turns = Turns::new();
        turns.wait(ConnectionHandle(0), Lane::First);
        turns.wait(ConnectionHandle(1), Lane::First);
        turns.set_input_waits(true);
        for _ in 0..TURNS_LEFT_OUT_MAX {
            assert_eq!(turns.next(false), None);
            turns.end();
        }
        assert_eq!(turns.next(false), Some((ConnectionHandle(0), Lane::First)));
        turns.end();
        assert_eq!(turns.next(false), None);
        turns.set_input_waits(false);
        turns.end();
        assert_eq!(turns.next(false), Some((ConnectionHandle(1), Lane::First)));
    }

    #[test]
    fn turns_are_shorter_while_a_few_are_beyond_their_share_and_others_send() {
        let mut turns = Turns::new();
        let at = |ms| Time::ZERO + Duration::from_millis(ms);
        let is_shorter = |turns: &Turns, ms| turns.shortened_by(at(ms), 12) > 1;
        turns.note_within(at(1));
        for link in 0..12 {
            turns.wait(ConnectionHandle(link), Lane::First);
            assert!(!is_shorter(&turns, 1), "nobody else sends");
        }
        turns.note_within(at(1));
        assert!(!is_shorter(&turns, 1), "all send much");
        (4..12).map(ConnectionHandle).for_each(|link| turns.remove(link, Lane::First));
        assert!(is_shorter(&turns, 1) && is_shorter(&turns, 100) && !is_shorter(&turns, 101));
        (0..4).map(ConnectionHandle).for_each(|link| turns.remove(link, Lane::First));
        assert!(!is_shorter(&turns, 1));
    }

    /// One of three, which is no load.
    #[test]
    fn a_link_that_waits_in_several_lanes_is_one() {
        let mut turns = Turns::new();
        let link = ConnectionHandle(5);
        Lane::ALL.into_iter().for_each(|lane| turns.wait(link, lane));
        turns.note_within(Time::ZERO);
        assert_eq!(turns.shortened_by(Time::ZERO, 3), SHORTENED_BY);
        turns.wait(ConnectionHandle(2), Lane::Chunks);
        assert_eq!(turns.shortened_by(Time::ZERO, 3), 1);
        assert_eq!(turns.next(false), Some((link, Lane::First)));
        assert_eq!(turns.shortened_by(Time::ZERO, 3), 1, "it still waits in another lane");
        turns.remove(link, Lane::Chunks);
        assert_eq!(turns.shortened_by(Time::ZERO, 3), SHORTENED_BY);
        turns.remove(link, Lane::Bulk);
        turns.remove(ConnectionHandle(2), Lane::Chunks);
        assert!(!turns.has_waiting());
    }

    #[test]
    fn what_others_wait_for_comes_first_but_not_for_ever() {
        let mut turns = Turns::new();
        turns.wait(ConnectionHandle(0), Lane::First);
        for _ in 0..TURNS_LEFT_OUT_MAX {
            assert_eq!(turns.next(true), None);
            turns.end();
        }
        assert_eq!(turns.next(true), Some((ConnectionHandle(0), Lane::First)));
    }

    /// There may always be something to send.
    #[test]
    fn a_turn_ends_even_if_the_node_is_never_idle() {
        let mut turns = Turns::new();
        turns.wait(ConnectionHandle(0), Lane::First);
        turns.wait(ConnectionHandle(1), Lane::First);
        for is_first in [true, false] {
            assert!(turns.next(false).is_some());
            assert_eq!((0..BATCHES_PER_TURN).filter(|_| turns.note_batch()).count(), 1);
            assert_eq!(turns.now(), TURNS_SAVED_MAX + if is_first { 1 } else { 2 });
        }
    }
}
