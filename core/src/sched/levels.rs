//! The order of levels.

use super::QUANTUM;
use crate::config::Class;

/// A lower level is owed one byte for so many bytes of the levels above it.
const SHARE: i64 = 16;

/// How urgent it is to send something. The first is the most urgent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    /// What keeps the protocol going: hellos, requests for chunks and refusals. Small.
    Control,
    /// [`Class::Urgent`].
    Urgent,
    /// [`Class::Normal`].
    Normal,
    /// [`Class::Bulk`].
    Bulk,
}

impl Level {
    /// All, the most urgent first.
    pub const ALL: [Self; 4] = [Self::Control, Self::Urgent, Self::Normal, Self::Bulk];
}

impl From<Class> for Level {
    fn from(class: Class) -> Self {
        match class {
            Class::Urgent => Self::Urgent,
            Class::Normal => Self::Normal,
            Class::Bulk => Self::Bulk,
        }
    }
}

/// Which of several levels is served next.
#[derive(Clone, Copy, Debug, Default)]
pub struct Levels {
    /// What each level is owed for what went before it, in [`SHARE`]ths of a byte: a piece may have fewer bytes than
    /// [`SHARE`].
    owed: [i64; Level::ALL.len()],
}

impl Levels {
    /// The level to be served, of those for which something `waits`. What was owed to a level ends
    /// with its backlog.
    pub fn next(&mut self, waits: impl Fn(Level) -> bool) -> Option<Level> {
        let (mut first, mut owed) = (None, None);
        for level in Level::ALL {
            if !waits(level) {
                self.owed[level as usize] = 0;
                continue;
            }
            first = first.or(Some(level));
            if self.owed[level as usize] >= QUANTUM * SHARE {
                owed = Some(level);
            }
        }
        owed.or(first)
    }

    /// So many bytes of a level were sent.
    pub fn charge(&mut self, level: Level, bytes: usize) {
        let (level, bytes) = (level as usize, bytes as i64);
        self.owed[level] = (self.owed[level] - bytes * SHARE).max(0);
        for owed in &mut self.owed[level + 1..] {
            *owed = (*owed + bytes).min(2 * QUANTUM * SHARE);
        }
    }
}
