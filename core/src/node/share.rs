//! The share that each peer has of this node's work: deficit round robin (Shreedhar and Varghese, "Efficient
//! fair queuing using deficit round robin", 1996) over what is read of links, by counted work.
//!
//! A *turn* is from one time at which the node has nothing to do to the next. In each turn, a link is given an
//! allowance. While it has some, what comes on it is read as it comes. What comes beyond that waits unread
//! ([`super::link`]), and one of the links that wait is read in each turn. No time is taken: a peer that is beyond
//! its share is read as fast as the node can, between what others send. Invariants 9, 11.

use std::collections::VecDeque;

use quinn_proto::ConnectionHandle;

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
/// with what they are given credit for, and others would wait in the socket. But if that never ends, one of them
/// is read in so many turns.
const TURNS_LEFT_OUT_MAX: u32 = 8;

/// The share of one link.
#[derive(Debug, Default)]
pub(super) struct Share {
    /// The work that it may cause in this turn; below zero, what it has caused beyond that.
    left: i64,
    /// The turn in which it was last given some.
    turn: u64,
    /// The work that it has caused since that was last taken.
    done: u64,
}

impl Share {
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
    waiting: VecDeque<ConnectionHandle>,
}

impl Turns {
    pub(super) const fn new() -> Self {
        // A link is given its first allowances when it comes.
        let now = TURNS_SAVED_MAX;
        Self {
            now,
            is_taken: false,
            input_waits: false,
            left_out: 0,
            batches: 0,
            waiting: VecDeque::new(),
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

    /// The link that is read in this turn, once.
    pub(super) fn next(&mut self) -> Option<ConnectionHandle> {
        if self.is_taken {
            return None;
        }
        self.is_taken = true;
        if self.input_waits && self.left_out < TURNS_LEFT_OUT_MAX {
            self.left_out += 1;
            return None;
        }
        self.left_out = 0;
        self.waiting.pop_front()
    }

    /// A link waits, which did not before.
    pub(super) fn wait(&mut self, handle: ConnectionHandle) {
        self.waiting.push_back(handle);
    }

    /// A link that waits is being removed.
    pub(super) fn remove(&mut self, handle: ConnectionHandle) {
        self.waiting.retain(|other| *other != handle);
    }

    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
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
    fn links_that_wait_are_read_in_turn() {
        let mut turns = Turns::new();
        (0..3).map(ConnectionHandle).for_each(|link| turns.wait(link));
        assert_eq!((turns.next(), turns.next()), (Some(ConnectionHandle(0)), None));
        turns.wait(ConnectionHandle(0));
        turns.remove(ConnectionHandle(1));
        for expected in [2, 0] {
            turns.end();
            assert_eq!(turns.next(), Some(ConnectionHandle(expected)));
        }
        assert!(!turns.has_waiting());
    }

    #[test]
    fn what_waits_in_the_socket_comes_first_but_not_for_ever() {
        let mut turns = Turns::new();
        turns.wait(ConnectionHandle(0));
        turns.wait(ConnectionHandle(1));
        turns.set_input_waits(true);
        for _ in 0..TURNS_LEFT_OUT_MAX {
            assert_eq!(turns.next(), None);
            turns.end();
        }
        assert_eq!(turns.next(), Some(ConnectionHandle(0)));
        turns.end();
        assert_eq!(turns.next(), None);
        turns.set_input_waits(false);
        turns.end();
        assert_eq!(turns.next(), Some(ConnectionHandle(1)));
    }

    /// There may always be something to send.
    #[test]
    fn a_turn_ends_even_if_the_node_is_never_idle() {
        let mut turns = Turns::new();
        turns.wait(ConnectionHandle(0));
        turns.wait(ConnectionHandle(1));
        assert!(turns.next().is_some());
        assert_eq!((0..BATCHES_PER_TURN).filter(|_| turns.note_batch()).count(), 1);
        assert!(turns.next().is_some());
    }
}
