//! Chunks that are to be sent to a peer from a slot.

use super::OutStream;
use crate::broadcast::outbox::{Active, Outbox};
use crate::broadcast::spread::Passing;
use crate::id::{PeerIndex, Slot};
use crate::wire::{Ranges, count_chunks};

/// The chunks that a [`Job`] has still to send.
#[derive(Debug)]
pub(super) enum Source {
    /// These. When there are none, the job lasts until its stream has been acknowledged.
    Ranges(Ranges),
    /// Those that its slot [passes on](crate::broadcast::spread).
    Passed(Passing),
}

/// Chunks to be sent from a slot: the answer to a request, or what follows a streamed advert.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) channel: u16,
    pub(super) slot: Slot,
    /// The flow that it is part of.
    pub(super) flow: usize,
    /// The request that it answers.
    pub(super) request: Option<u64>,
    pub(super) stream: Option<OutStream>,
    pub(super) source: Source,
    /// When it or another one of its slot had its turn last, or it was begun.
    pub(super) turn: u64,
    /// The transport takes no more of its stream for now.
    pub(super) is_blocked: bool,
}

impl Job {
    /// Takes the chunk that is to be sent next. Of those that are passed on, what the peer `has` is left
    /// out.
    pub(super) fn next_chunk(&mut self, active: &Active, has: impl Fn(u32) -> bool) -> Option<u32> {
        match &mut self.source {
            Source::Ranges(ranges) => {
                let range = ranges.first_mut()?;
                let chunk = range.first;
                (range.first, range.count) = (range.first + 1, range.count - 1);
                if range.count == 0 {
                    ranges.remove(0);
                }
                Some(chunk)
            }
            Source::Passed(passing) => {
                let spread = active.spread.as_ref().expect("it passes chunks on");
                loop {
                    let chunk = spread.take_next(passing)?;
                    if !has(chunk) {
                        return Some(chunk);
                    }
                }
            }
        }
    }

    /// Whether its stream ends here. From then on it has nothing more to send.
    pub(super) fn take_end(&mut self, active: &Active) -> bool {
        let is_over = match &self.source {
            Source::Ranges(ranges) => ranges.is_empty(),
            Source::Passed(passing) => {
                active.spread.as_ref().expect("it passes chunks on").is_finished(*passing)
            }
        };
        if is_over {
            self.source = Source::Ranges(Ranges::new());
        }
        is_over
    }

    /// Whether chunks can be sent for it in a flow, or the end of its stream: its stream is open, or can be
    /// opened.
    pub(super) fn is_sendable(&self, flow: usize, can_open: bool, outboxes: &[Outbox]) -> bool {
        let has_stream = can_open || self.stream.is_some();
        let outbox = &outboxes[self.channel as usize];
        self.flow == flow && has_stream && !self.is_blocked && self.has_more(outbox)
    }

    /// Chunks that it has still to send, of those that it was begun with.
    pub(super) fn chunks_left(&self) -> u64 {
        match &self.source {
            Source::Ranges(ranges) => count_chunks(ranges),
            Source::Passed(_) => 0,
        }
    }

    pub(super) fn has_more(&self, outbox: &Outbox) -> bool {
        match &self.source {
            Source::Ranges(ranges) => !ranges.is_empty(),
            Source::Passed(passing) => {
                let active = outbox.active(self.slot).expect("jobs end with their slot");
                let spread = active.spread.as_ref().expect("it passes chunks on");
                spread.is_finished(*passing) || spread.next(*passing).is_some()
            }
        }
    }

    pub(super) fn is_of(&self, channel: u16, slot: Slot) -> bool {
        (self.channel, self.slot) == (channel, slot)
    }

    /// It was the last job of its peer and slot.
    pub(super) fn end(self, peer: PeerIndex, outboxes: &mut [Outbox]) {
        let active = outboxes[self.channel as usize].active_mut(self.slot);
        active.expect("jobs end with their slot").serving.remove(peer);
    }
}
