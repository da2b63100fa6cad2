//! Work that members cause each other without progress.

use super::Oracle;
use slotcast::node::Node;
use slotcast::time::Time;

/// Honest members cause at most one part in so many of the work without progress that is a fault.
const FRUITLESS_MARGIN: u64 = 10;

impl Oracle {
    /// Honest members stay far below what is a fault.
    pub(super) fn inspect_work(&mut self, time: Time, at: usize, node: &Node) {
        let most = u64::from(node.config().work.fruitless_max) / FRUITLESS_MARGIN;
        for (peer, peak) in node.fruitless_peaks() {
            let place = self.places.get(&peer).copied();
            if place.is_some_and(|place| self.replicas[place].is_hostile) {
                continue;
            }
            self.counts.fruitless_peak = self.counts.fruitless_peak.max(peak);
            self.check(9, time, peak <= most, || {
                format!("{peak} pieces of work of {place:?} have brought nothing to {at}")
            });
        }
    }
}
