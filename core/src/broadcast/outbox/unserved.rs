//! The changes that a peer has still to be served.
//!
//! While a peer is served oldest first, these are all behind one version. When it is served newest first,
//! *gaps* are left behind. There are few of them: when there would be too many, two neighbours become one, with
//! what was served between them. So a change in a gap may have been served; what the peer was last sent of the
//! slot tells. It is looked at again, so these are the two between which least was served.

use crate::sched::End;

/// Gaps that are told apart: more than are open at the newest end, where they come about, when changes come in
/// bursts.
const GAPS_MAX: usize = 8;

/// Versions behind `after`, up to `until`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Gap {
    pub(super) after: u64,
    pub(super) until: u64,
}

#[derive(Debug, Default)]
pub(super) struct Unserved {
    /// Ascending, and apart from each other.
    gaps: heapless::Vec<Gap, GAPS_MAX>,
    /// What is not in a gap was served up to this version, and not beyond.
    end: u64,
}

impl Unserved {
    /// Whether there is none, of the changes up to this version.
    pub(super) fn is_empty(&self, version: u64) -> bool {
        self.gaps.is_empty() && self.end >= version
    }

    /// Everything up to this version was served.
    pub(super) fn floor(&self) -> u64 {
        self.gaps.first().map_or(self.end, |gap| gap.after)
    }

    pub(super) fn contains(&self, version: u64) -> bool {
        version > self.end
            || self.gaps.iter().any(|gap| gap.after < version && version <= gap.until)
    }

    /// The gap at one end, of the changes up to `version`.
    pub(super) fn gap(&mut self, end: End, version: u64) -> Option<Gap> {
        match end {
            End::Oldest => {
                let newest = Gap { after: self.end, until: version };
                let newest = Some(newest).filter(|gap| gap.after < gap.until);
                self.gaps.first().copied().or(newest)
            }
            End::Newest => {
                self.close(version);
                self.gaps.last().copied()
            }
        }
    }

    /// What is beyond the end becomes a gap.
    fn close(&mut self, version: u64) {
        let after = core::mem::replace(&mut self.end, version);
        if after == version {
            return;
        }
        if let Some(last) = self.gaps.last_mut().filter(|last| last.until == after) {
            last.until = version;
            return;
        }
        if self.gaps.is_full() {
            self.join();
        }
        self.gaps.push(Gap { after, until: version }).expect("two were joined");
    }

    /// Two gaps become one.
    fn join(&mut self) {
        let served = |at: &usize| self.gaps[at + 1].after - self.gaps[*at].until;
        let at = (0..GAPS_MAX - 1).min_by_key(served).expect("there are several");
        let older = self.gaps.remove(at);
        self.gaps[at].after = older.after;
    }

    /// Everything up to this version has been served.
    pub(super) fn serve_up_to(&mut self, version: u64) {
        self.end = self.end.max(version);
        while let Some(first) = self.gaps.first_mut().filter(|first| first.after < version) {
            first.after = version.min(first.until);
            if first.after == first.until {
                self.gaps.remove(0);
            }
        }
    }

    /// Everything from this version on has been served, of what was known when the newest gap was taken.
    pub(super) fn serve_down_to(&mut self, version: u64) {
        while let Some(last) = self.gaps.last_mut().filter(|last| last.until >= version) {
            last.until = last.after.max(version - 1);
            if last.after == last.until {
                self.gaps.pop();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use alloc::collections::BTreeSet;

    /// An old gap far behind stays apart from those of bursts, or all that was served between would be looked at
    /// again.
    #[test]
    fn what_is_looked_at_again_is_little() {
        let mut unserved = Unserved::default();
        let gap = unserved.gap(End::Newest, 10_000).expect("all of it");
        assert_eq!((gap.after, gap.until), (0, 10_000));
        unserved.serve_down_to(101);
        for version in (10_010..10_500).step_by(10) {
            unserved.gap(End::Newest, version).expect("a burst");
            unserved.serve_down_to(version - 3);
        }
        assert_eq!(unserved.gaps[0], Gap { after: 0, until: 100 });
        assert!(!unserved.contains(5000));
    }

    /// Against a plain set: nothing unserved is ever missing, nothing served comes back before gaps are
    /// joined, and all comes to an end.
    #[test]
    fn gaps_hold_what_was_not_served() {
        for seed in 0..200 {
            let mut random = Random::new(seed);
            let (mut unserved, mut model) = (Unserved::default(), BTreeSet::new());
            let mut version = 0;
            for _ in 0..300 {
                for _ in 0..random.below(6) {
                    version += 1;
                    model.insert(version);
                }
                let end = [End::Oldest, End::Newest][random.below(2) as usize];
                for _ in 0..random.below(3) {
                    let Some(gap) = unserved.gap(end, version) else { break };
                    assert!(gap.after < gap.until && gap.until <= version);
                    let size = gap.until - gap.after;
                    let served = 1 + random.below(size);
                    match end {
                        End::Oldest => {
                            unserved.serve_up_to(gap.after + served);
                            model.retain(|at| *at > gap.after + served);
                        }
                        End::Newest => {
                            unserved.serve_down_to(gap.until + 1 - served);
                            model.retain(|at| *at <= gap.until - served || *at > gap.until);
                        }
                    }
                }
                assert!(model.iter().all(|at| unserved.contains(*at)));
                assert!(model.first().is_none_or(|first| unserved.floor() < *first));
                assert!(unserved.gaps.is_sorted_by(|a, b| a.until < b.after));
                assert!(!unserved.is_empty(version) || model.is_empty());
            }
            while let Some(gap) = unserved.gap(End::Newest, version) {
                unserved.serve_down_to(gap.after + 1);
            }
            assert!(unserved.is_empty(version) && unserved.floor() == version);
        }
    }
}
