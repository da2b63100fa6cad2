//! Egress: which of a peer's flows may send next.
//!
//! Classes are strict, except that every class below gets a small share of what the classes above
//! it send; inside a class, deficit round robin (Shreedhar and Varghese, 1996) over the flows. A
//! flow is what one channel or route has to send of one sort; the code that composes machines
//! numbers the flows of all of them. The scheduler knows bytes and classes only.

use alloc::vec;
use alloc::vec::Vec;

use crate::config::Class;

/// The number of bytes that a flow may send before it is the turn of the next flow of its class.
const QUANTUM: i64 = 64 * 1024;

/// A lower class is owed one byte for so many bytes of the classes above it.
const SHARE: i64 = 16;

/// The schedule of one peer.
#[derive(Debug)]
pub struct Schedule {
    classes: Vec<Class>,
    deficits: Vec<i64>,
    /// The flow that was served last.
    last: usize,
    /// Bytes owed to each class for what went before it.
    owed: [i64; Class::ALL.len()],
}

impl Schedule {
    /// A schedule of flows with these classes.
    pub fn new(classes: impl IntoIterator<Item = Class>) -> Self {
        let classes: Vec<Class> = classes.into_iter().collect();
        Self { deficits: vec![0; classes.len()], classes, last: 0, owed: [0; Class::ALL.len()] }
    }

    /// The flow that may send next, of those with something to send.
    pub fn next(&mut self, has_backlog: impl Fn(usize) -> bool) -> Option<usize> {
        let waits = |class: Class| {
            (0..self.classes.len()).any(|f| self.classes[f] == class && has_backlog(f))
        };
        let waiting = Class::ALL.map(waits);
        let owed = (0..Class::ALL.len()).rev().find(|c| waiting[*c] && self.owed[*c] >= QUANTUM);
        let class = owed.or_else(|| (0..Class::ALL.len()).find(|c| waiting[*c]))?;
        for (owed, waiting) in self.owed.iter_mut().zip(waiting) {
            if !waiting {
                *owed = 0;
            }
        }
        let flows = self.classes.len();
        let waits = |flow: &usize| self.classes[*flow] == Class::ALL[class] && has_backlog(*flow);
        // The flow served last goes on until its deficit is used up, then the next one.
        let turn = |from: usize| (from..flows).chain(0..from).filter(waits);
        if let Some(flow) = turn(self.last).find(|flow| self.deficits[*flow] > 0) {
            self.last = flow;
            return Some(flow);
        }
        let first = turn((self.last + 1) % flows).next()?;
        // A frame may be longer than a quantum, so that one round need not be enough.
        while self.deficits[first] <= 0 {
            for flow in (0..flows).filter(waits) {
                self.deficits[flow] += QUANTUM;
            }
        }
        self.last = first;
        Some(first)
    }

    /// A flow has sent so many bytes; `is_empty`, if it had nothing to send after all.
    pub fn charge(&mut self, flow: usize, bytes: usize, is_empty: bool) {
        let bytes = bytes as i64;
        self.deficits[flow] = if is_empty { 0 } else { self.deficits[flow] - bytes };
        let class = self.classes[flow] as usize;
        self.owed[class] = (self.owed[class] - bytes).max(0);
        for owed in &mut self.owed[class + 1..] {
            *owed = (*owed + bytes / SHARE).min(2 * QUANTUM);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(schedule: &mut Schedule, sizes: &[usize], rounds: usize) -> Vec<usize> {
        let mut bytes = vec![0; sizes.len()];
        for _ in 0..rounds {
            let flow = schedule.next(|flow| sizes[flow] > 0).unwrap();
            schedule.charge(flow, sizes[flow], false);
            bytes[flow] += sizes[flow];
        }
        bytes
    }

    #[test]
    fn flows_of_a_class_share_by_bytes_not_by_turns() {
        let mut schedule = Schedule::new([Class::Normal; 3]);
        let bytes = served(&mut schedule, &[1_000, 60_000, 0], 50_000);
        let ratio = bytes[0] as f64 / bytes[1] as f64;
        assert!((0.95..1.05).contains(&ratio), "{bytes:?}");
        assert_eq!(bytes[2], 0);
    }

    #[test]
    fn l11_lower_classes_get_their_share_and_no_more() {
        let mut schedule = Schedule::new([Class::Bulk, Class::Urgent, Class::Normal]);
        let bytes = served(&mut schedule, &[50_000, 50_000, 50_000], 50_000);
        let urgent = bytes[1] as f64;
        for lower in [bytes[0], bytes[2]] {
            assert!((0.04..0.09).contains(&(lower as f64 / urgent)), "{bytes:?}");
        }
    }

    #[test]
    fn nothing_is_owed_to_a_class_that_had_nothing_to_send() {
        let mut schedule = Schedule::new([Class::Urgent, Class::Bulk]);
        served(&mut schedule, &[50_000, 0], 10_000);
        assert_eq!(schedule.next(|_| true), Some(0));
    }
}
