//! The links that have work, by level.
//!
//! Within a level, links take turns by deficit round robin (Shreedhar and Varghese, 1996). What counts is what leaves:
//! also what was lost and is sent again, which may be far more than a piece, and whose peer decides about it.

use quinn_proto::ConnectionHandle;
use std::collections::VecDeque;

use super::link::Link;
use crate::sched::{Level, Levels};

/// Bytes that a link may send in its turn if others of its level wait: a piece of 64 KiB and the frame that exceeds it,
/// in packets.
const TURN_BYTES: i32 = 80 << 10;

/// Where a link stands in the queues of [`ReadyLinks`].
#[derive(Debug, Default)]
pub(super) struct Queued {
    /// Bit set: it is in the queue of this level.
    levels: u8,
    /// By level, bytes that it may send in its turn. What it has left counts in the next turn, but no backlog begins with
    /// it.
    deficits: [i32; Level::ALL.len()],
}

impl Queued {
    const fn is_in(&self, level: Level) -> bool {
        self.levels & (1 << level as u8) != 0
    }

    fn deficit(&mut self, level: Level) -> &mut i32 {
        &mut self.deficits[level as usize]
    }
}

/// Which link may send next: the one with the most urgent work. Links with work of one level take
/// turns. A link is in the queue of each level at most once.
#[derive(Debug, Default)]
pub(super) struct ReadyLinks {
    queues: [VecDeque<ConnectionHandle>; Level::ALL.len()],
    levels: Levels,
}

impl ReadyLinks {
    /// A link has work of this level.
    pub(super) fn push(&mut self, handle: ConnectionHandle, link: &mut Link, level: Level) {
        if !link.queued.is_in(level) {
            link.queued.levels |= 1 << level as u8;
            *link.queued.deficit(level) = TURN_BYTES;
            self.queues[level as usize].push_back(handle);
        }
    }

    /// The link whose turn it is, and the level of its work.
    pub(super) fn front(&mut self) -> Option<(ConnectionHandle, Level)> {
        let queues = &self.queues;
        let level = self.levels.next(|level| !queues[level as usize].is_empty())?;
        Some((*self.queues[level as usize].front()?, level))
    }

    /// The link whose turn it is has done its work of this level, for now.
    pub(super) fn pop(&mut self, link: &mut Link, level: Level) {
        link.queued.levels &= !(1 << level as u8);
        self.queues[level as usize].pop_front();
    }

    /// The turn of the link whose turn it is ends, and it has more work of this level.
    pub(super) fn end_turn(&mut self, link: &mut Link, level: Level) {
        let deficit = link.queued.deficit(level);
        *deficit = (*deficit + TURN_BYTES).min(2 * TURN_BYTES);
        self.queues[level as usize].rotate_left(1);
    }

    /// The link whose turn it is has sent so many bytes as work of this level. Whether that is all that it may send in
    /// this turn.
    pub(super) fn charge(&mut self, link: &mut Link, level: Level, bytes: usize) -> bool {
        self.levels.charge(level, bytes);
        let deficit = link.queued.deficit(level);
        *deficit -= bytes as i32;
        *deficit <= 0
    }

    /// Whether a link has data to send that is more urgent than `level`. Control is left out: a link waits
    /// there whenever QUIC may have something short to send, such as acknowledgements.
    pub(super) fn has_more_urgent(&self, level: Level) -> bool {
        let mut above = Level::ALL[1..].iter().take_while(|other| **other < level);
        above.any(|other| !self.queues[*other as usize].is_empty())
    }

    /// A link is being removed.
    pub(super) fn remove(&mut self, handle: ConnectionHandle, link: &Link) {
        for level in Level::ALL {
            if link.queued.is_in(level) {
                self.queues[level as usize].retain(|other| *other != handle);
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queues.iter().all(VecDeque::is_empty)
    }
}
