//! The schedule of one peer's flows.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::{Level, Levels, QUANTUM};

/// Where a flow stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// It has nothing to send.
    Idle,
    /// It is in the queue of its level.
    Queued,
    /// What it has to send needs a stream, and none can be opened.
    Stalled,
}

#[derive(Clone, Copy, Debug)]
struct Flow {
    level: Level,
    place: Place,
    /// Bytes that it may send in its turn. Below zero, it has sent more than that.
    deficit: i64,
}

/// The flows of one peer that have something to send, and which of them is next.
#[derive(Clone, Debug)]
pub struct Schedule {
    flows: Vec<Flow>,
    levels: Levels,
    /// By level: the flow whose turn it is, and those behind it.
    queues: [VecDeque<u16>; Level::ALL.len()],
    stalled: Vec<u16>,
}

impl Schedule {
    /// A schedule of flows of these levels, none of which has anything to send.
    pub fn new<L: Into<Level>>(levels: impl IntoIterator<Item = L>) -> Self {
        let idle = |level: L| Flow { level: level.into(), place: Place::Idle, deficit: 0 };
        Self {
            flows: levels.into_iter().map(idle).collect(),
            levels: Levels::default(),
            queues: Default::default(),
            stalled: Vec::new(),
        }
    }

    /// A flow has something more to send.
    pub fn activate(&mut self, flow: usize) {
        match self.flows[flow].place {
            Place::Idle => self.flows[flow].deficit = QUANTUM,
            // It may need no stream for what is new.
            Place::Stalled => self.stalled.retain(|other| usize::from(*other) != flow),
            Place::Queued => return,
        }
        self.queue(flow);
    }

    fn queue(&mut self, flow: usize) {
        let state = &mut self.flows[flow];
        state.place = Place::Queued;
        self.queues[state.level as usize].push_back(flow as u16);
    }

    /// The level of the flow that is next.
    pub fn level(&mut self) -> Option<Level> {
        let queues = &self.queues;
        self.levels.next(|level| !queues[level as usize].is_empty())
    }

    /// The most urgent level of the flows that have something to send.
    pub fn most_urgent(&self) -> Option<Level> {
        let waits = |level: &Level| !self.queues[*level as usize].is_empty();
        Level::ALL.into_iter().find(waits)
    }

    /// The flow that is next. It stays next until it has sent its share, or has nothing more.
    pub fn next_flow(&mut self) -> Option<usize> {
        let level = self.level()?;
        let queue = &mut self.queues[level as usize];
        loop {
            let flow = *queue.front().expect("the level waits");
            let state = &mut self.flows[usize::from(flow)];
            if state.deficit > 0 {
                return Some(flow.into());
            }
            // One frame may be longer than a quantum, so that a flow may have to sit out a round.
            state.deficit += QUANTUM;
            queue.rotate_left(1);
        }
    }

    /// The flow that was [next](Self::next_flow) has sent so many bytes.
    pub fn charge(&mut self, flow: usize, bytes: usize) {
        self.flows[flow].deficit -= bytes as i64;
        self.levels.charge(self.flows[flow].level, bytes);
    }

    /// The flow that was [next](Self::next_flow) has nothing more to send. Its debt ends with its
    /// backlog.
    pub fn idle(&mut self, flow: usize) {
        self.take_out(flow);
        self.flows[flow].place = Place::Idle;
    }

    /// What the flow that was [next](Self::next_flow) has to send needs a stream, and none can be
    /// opened. It waits until [`Schedule::resume`].
    pub fn stall(&mut self, flow: usize) {
        self.take_out(flow);
        self.flows[flow].place = Place::Stalled;
        self.stalled.push(flow as u16);
    }

    fn take_out(&mut self, flow: usize) {
        let front = self.queues[self.flows[flow].level as usize].pop_front();
        assert_eq!(front, Some(flow as u16), "the flow that was next");
    }

    /// A stream can be opened again.
    pub fn resume(&mut self) {
        while let Some(flow) = self.stalled.pop() {
            self.queue(flow.into());
        }
    }

    /// Whether flows wait for a stream.
    pub fn is_stalled(&self) -> bool {
        !self.stalled.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Class;

    fn served(schedule: &mut Schedule, sizes: &[usize], rounds: usize) -> Vec<usize> {
        let mut bytes = alloc::vec![0; sizes.len()];
        for (flow, size) in sizes.iter().enumerate() {
            if *size > 0 {
                schedule.activate(flow);
            }
        }
        for _ in 0..rounds {
            let flow = schedule.next_flow().unwrap();
            schedule.charge(flow, sizes[flow]);
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

    /// An answer without a body has three bytes.
    #[test]
    fn lower_classes_get_their_share_of_short_pieces_too() {
        let mut schedule = Schedule::new([Class::Urgent, Class::Bulk]);
        let bytes = served(&mut schedule, &[3, 50_000], 3_000_000);
        let share = bytes[1] as f64 / bytes[0] as f64;
        assert!((0.04..0.09).contains(&share), "{bytes:?}");
    }

    #[test]
    fn nothing_is_owed_to_a_class_that_had_nothing_to_send() {
        let mut schedule = Schedule::new([Class::Urgent, Class::Bulk]);
        served(&mut schedule, &[50_000, 0], 10_000);
        schedule.activate(1);
        assert_eq!(schedule.next_flow(), Some(0));
    }

    #[test]
    fn control_goes_before_all_classes() {
        let mut schedule = Schedule::new([Level::Urgent, Level::Control]);
        schedule.activate(0);
        schedule.activate(1);
        assert_eq!((schedule.next_flow(), schedule.level()), (Some(1), Some(Level::Control)));
        schedule.idle(1);
        assert_eq!((schedule.next_flow(), schedule.level()), (Some(0), Some(Level::Urgent)));
    }

    #[test]
    fn a_flow_without_a_stream_waits_for_one_and_holds_up_no_other() {
        let mut schedule = Schedule::new([Class::Urgent, Class::Bulk]);
        schedule.activate(0);
        schedule.activate(1);
        schedule.stall(0);
        assert!(schedule.is_stalled());
        assert_eq!(schedule.next_flow(), Some(1));
        schedule.resume();
        assert_eq!(schedule.next_flow(), Some(0));
        schedule.stall(0);
        schedule.activate(0);
        assert_eq!(schedule.next_flow(), Some(0), "it may need no stream for what is new");
        assert!(!schedule.is_stalled());
    }
}
