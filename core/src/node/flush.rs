//! Waiting until what was published has come to those who are connected, and the end that waits for it.

use std::boxed::Box;
use std::collections::VecDeque;
use std::time::Duration;
use std::vec::Vec;

use super::Node;
use crate::error::FlushError;
use crate::id::Version;
use crate::time::Time;

/// Flushes that may be in progress, or whose ends are not taken, at a time. Each looks at the oldest thing
/// it waits for whenever the node is polled.
pub const FLUSHES_MAX: usize = 64;

/// A flush that was begun.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FlushId(u64);

struct Flush {
    deadline: Time,
    /// By channel, up to which version it waits.
    marks: Box<[Version]>,
}

#[derive(Default)]
pub(super) struct Flushes {
    pending: Vec<(FlushId, Flush)>,
    ended: VecDeque<(FlushId, Result<(), FlushError>)>,
    last: u64,
    /// What the node ends after.
    last_flush: Option<Flush>,
}

impl Flushes {
    /// Whether the node ends once it has flushed.
    pub(super) fn is_ending(&self) -> bool {
        self.last_flush.is_some()
    }

    pub(super) fn has_ended(&self) -> bool {
        !self.ended.is_empty()
    }

    /// The earliest deadline.
    pub(super) fn next_deadline(&self) -> Time {
        let pending = self.pending.iter().map(|(_, flush)| flush).chain(&self.last_flush);
        pending.map(|flush| flush.deadline).min().unwrap_or(Time::NEVER)
    }

    /// The node shuts down.
    pub(super) fn close(&mut self) {
        self.last_flush = None;
        let pending = self.pending.drain(..);
        self.ended.extend(pending.map(|(id, _)| (id, Err(FlushError::Closed))));
    }
}

impl Node {
    /// Waits until everything that is published now has been received by all members that are connected
    /// then: until each has acknowledged or declined it, see
    /// [`Coverage`](crate::broadcast::Coverage), or it was aborted. The end is told by
    /// [`Node::poll_flushed`], at the latest after `timeout`. Members that are not connected are not
    /// waited for; those that connect meanwhile are.
    ///
    /// # Errors
    /// [`FlushError::TooMany`] if there are [`FLUSHES_MAX`], [`FlushError::Closed`] if the node has shut
    /// down.
    pub fn flush(&mut self, now: Time, timeout: Duration) -> Result<FlushId, FlushError> {
        let now = self.clamp(now);
        if self.closing_since.is_some() {
            return Err(FlushError::Closed);
        }
        if self.flushes.pending.len() + self.flushes.ended.len() >= FLUSHES_MAX {
            return Err(FlushError::TooMany);
        }
        self.flushes.last += 1;
        let id = FlushId(self.flushes.last);
        let flush = Flush { deadline: now + timeout, marks: self.machine.marks() };
        self.flushes.pending.push((id, flush));
        Ok(id)
    }

    /// Gives up a flush: its end is not told, and there is room for another one. False if its end has been
    /// taken.
    pub fn cancel_flush(&mut self, flush: FlushId) -> bool {
        let Flushes { pending, ended, .. } = &mut self.flushes;
        let before = pending.len() + ended.len();
        pending.retain(|(id, _)| *id != flush);
        ended.retain(|(id, _)| *id != flush);
        pending.len() + ended.len() < before
    }

    /// Takes the end of a flush: [`FlushError::DeadlinePassed`] if something was still on its way.
    pub fn poll_flushed(&mut self) -> Option<(FlushId, Result<(), FlushError>)> {
        self.flushes.ended.pop_front()
    }

    /// Shuts down in order: [flushes](Node::flush), waits until all calls and requests are over, and then
    /// does as [`Node::shutdown`], at the latest after `timeout`. Meanwhile new calls are refused, on both
    /// sides; requests that the application has taken can still be answered.
    pub fn shutdown_within(&mut self, now: Time, timeout: Duration) {
        let now = self.clamp(now);
        if self.closing_since.is_some() {
            return;
        }
        let deadline = now + timeout;
        if let Some(flush) = &mut self.flushes.last_flush {
            flush.deadline = flush.deadline.min(deadline);
            return;
        }
        self.flushes.last_flush = Some(Flush { deadline, marks: self.machine.marks() });
        for route in &self.config.routes {
            self.rpc.serve(now, route.id, false);
        }
    }

    /// Ends flushes that are complete or too late, and then the node itself, if that waits for it.
    pub(super) fn advance_flushes(&mut self, now: Time) {
        let Self { flushes, machine, .. } = self;
        let mut at = 0;
        while let Some((id, flush)) = flushes.pending.get_mut(at) {
            let result = match machine.is_flushed(&flush.marks) {
                true => Ok(()),
                false if flush.deadline <= now => Err(FlushError::DeadlinePassed),
                false => {
                    at += 1;
                    continue;
                }
            };
            flushes.ended.push_back((*id, result));
            flushes.pending.remove(at);
        }
        if let Some(last) = &mut flushes.last_flush
            && (last.deadline <= now || self.rpc.is_empty() && machine.is_flushed(&last.marks))
        {
            self.shutdown(now);
        }
    }
}
