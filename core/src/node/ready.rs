//! The links that have work, by level.

use quinn_proto::ConnectionHandle;
use std::collections::VecDeque;

use super::link::Link;
use crate::sched::{Level, Levels};

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
        if link.queued & (1 << level as u8) == 0 {
            link.queued |= 1 << level as u8;
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
        link.queued &= !(1 << level as u8);
        self.queues[level as usize].pop_front();
    }

    /// So many bytes were sent as work of a level.
    pub(super) fn charge(&mut self, level: Level, bytes: usize) {
        self.levels.charge(level, bytes);
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
            if link.queued & (1 << level as u8) != 0 {
                self.queues[level as usize].retain(|other| *other != handle);
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queues.iter().all(VecDeque::is_empty)
    }
}
