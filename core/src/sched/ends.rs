//! The two ends of a queue that is not served as fast as it grows.

use crate::config::Freshness;

/// Which end of a queue is served next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    Oldest,
    Newest,
}

/// Takes care of the share that the oldest have.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ends {
    /// Bytes that the oldest are owed, in percents of one; negative, if they have had more.
    owed: i64,
}

impl Ends {
    /// The end that is served next, of a queue whose oldest is late or not. When it is not any more, what the
    /// oldest were owed, or had beyond their share, is settled.
    pub(crate) fn turn(&mut self, is_late: bool) -> End {
        if !is_late {
            self.owed = 0;
        }
        if is_late && self.owed <= 0 { End::Newest } else { End::Oldest }
    }

    /// So many bytes were served from an end.
    pub(crate) fn note(&mut self, end: End, bytes: usize, freshness: &Freshness) {
        let share = i64::from(freshness.oldest_percent);
        let part = match end {
            End::Newest => share,
            End::Oldest => share - 100,
        };
        self.owed = self.owed.saturating_add(part.saturating_mul(bytes as i64));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_have_their_share_of_the_bytes() {
        let freshness = Freshness { oldest_percent: 20, ..Freshness::DEFAULT };
        let (mut ends, mut served) = (Ends::default(), [0; 2]);
        for round in 0..1000 {
            let (end, bytes) = (ends.turn(true), 100 + round % 7 * 300);
            served[end as usize] += bytes;
            ends.note(end, bytes, &freshness);
        }
        let [oldest, newest] = served;
        assert!((19..=21).contains(&(oldest * 100 / (oldest + newest))), "{served:?}");
    }
}
