//! Which processes have used the key of a member lately.
//!
//! A process draws its incarnation when it starts, and tells it in its hello. After a restart, the one before
//! is never told again. So whoever tells one that another has replaced uses the same key at the same time:
//! the two are twins.

use std::time::Duration;

/// Incarnations of a member that are remembered: enough for several processes that take turns. A process
/// that restarts again and again drives out the others, which then take its place once more each.
pub(super) const INCARNATIONS_MAX: usize = 4;

/// Twins are reported at most once per peer in this interval, since they try again for as long as they run.
pub const TWIN_INTERVAL: Duration = Duration::from_secs(10);

/// The last ones that a member has told, the latest last.
#[derive(Debug, Default)]
pub(super) struct Incarnations(heapless::Vec<u64, INCARNATIONS_MAX>);

impl Incarnations {
    /// Whether it has been told before.
    pub(super) fn has(&self, incarnation: u64) -> bool {
        self.0.contains(&incarnation)
    }

    /// It was told now.
    pub(super) fn note(&mut self, incarnation: u64) {
        self.0.retain(|known| *known != incarnation);
        if self.0.is_full() {
            self.0.remove(0);
        }
        self.0.push(incarnation).expect("there is room");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f11_the_last_few_incarnations_are_known() {
        let mut incarnations = Incarnations::default();
        (0..10).for_each(|number| incarnations.note(number));
        assert!((6..10).all(|number| incarnations.has(number)));
        assert!((0..6).all(|number| !incarnations.has(number)));
        // One that is told again and again stays, however many others come.
        for number in 10..20 {
            incarnations.note(6);
            incarnations.note(number);
        }
        assert!(incarnations.has(6) && !incarnations.has(7));
        assert_eq!(incarnations.0.len(), INCARNATIONS_MAX);
    }
}
