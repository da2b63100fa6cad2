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
    /// The end that is served next while the oldest is late.
    pub(crate) fn next(&self) -> End {
        if self.owed > 0 { End::Oldest } else { End::Newest }
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

    /// Nothing is late any more: what the oldest were owed, or had beyond their share, is settled.
    pub(crate) fn settle(&mut self) {
        self.owed = 0;
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
            let (end, bytes) = (ends.next(), 100 + round % 7 * 300);
            served[end as usize] += bytes;
            ends.note(end, bytes, &freshness);
        }
        let [oldest, newest] = served;
        assert!((19..=21).contains(&(oldest * 100 / (oldest + newest))), "{served:?}");
    }
}
