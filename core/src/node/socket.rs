//! Errors of the socket under a node: counted, and reported to the application at a limited rate.

use std::io::ErrorKind;
use std::time::Duration;

use super::{Node, NodeEvent};
use crate::time::Time;
use crate::trace;

/// The number of error kinds, sending and receiving together, that are counted separately. A socket
/// gives about ten; further kinds count as [`ErrorKind::Other`].
const KINDS_MAX: usize = 16;

/// An error of one kind is reported at once when it is the first in this time, and else at the end of
/// it, with the count of all in between: a socket can fail many times a second.
pub const SOCKET_ERRORS_INTERVAL: Duration = Duration::from_secs(10);

/// What a socket was asked to do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum SocketOperation {
    /// Sending: the datagrams are lost.
    Send,
    /// Receiving.
    Receive,
}

/// Bytes that the kernel holds for a socket in each direction, as it accounts for them: Linux counts
/// its own overhead, too, and doubles what is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SocketBuffers {
    /// What was asked for, each way.
    pub wanted: usize,
    /// What was granted for datagrams that wait to be sent.
    pub send: usize,
    /// What was granted for datagrams that wait to be received.
    pub receive: usize,
}

#[derive(Debug)]
struct Errors {
    operation: SocketOperation,
    kind: ErrorKind,
    /// Since the last report.
    count: u64,
    report_at: Time,
}

/// What is to be reported.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    /// Room for [`ErrorKind::Other`] of both operations beyond the separate kinds.
    errors: heapless::Vec<Errors, { KINDS_MAX + 2 }>,
    buffers: Option<SocketBuffers>,
}

impl Trouble {
    fn note(&mut self, operation: SocketOperation, kind: ErrorKind, count: u64) {
        let find = |kind| move |e: &Errors| (e.operation, e.kind) == (operation, kind);
        let is_separate = self.errors.len() < KINDS_MAX || self.errors.iter().any(find(kind));
        let kind = if is_separate { kind } else { ErrorKind::Other };
        match self.errors.iter().position(find(kind)) {
            Some(at) => self.errors[at].count += count,
            None => {
                let errors = Errors { operation, kind, count, report_at: Time::ZERO };
                self.errors.push(errors).expect("beyond the bound, one for each operation");
            }
        }
    }

    pub(super) fn has_event(&self, now: Time) -> bool {
        self.buffers.is_some() || self.errors.iter().any(|errors| errors.is_due(now))
    }

    pub(super) fn next_event(&mut self, now: Time) -> Option<NodeEvent> {
        if let Some(buffers) = self.buffers.take() {
            return Some(NodeEvent::SocketBuffers(buffers));
        }
        let errors = self.errors.iter_mut().find(|errors| errors.is_due(now))?;
        errors.report_at = now + SOCKET_ERRORS_INTERVAL;
        let count = std::mem::take(&mut errors.count);
        let Errors { operation, kind, .. } = *errors;
        Some(NodeEvent::SocketErrors { operation, kind, count })
    }

    /// When the next report will be due. Reports that are due already are left out, so that a caller
    /// that has no room for them is not woken for them again and again.
    pub(super) fn report_at(&self, now: Time) -> Time {
        let waiting = self.errors.iter().filter(|errors| errors.count > 0 && !errors.is_due(now));
        waiting.map(|errors| errors.report_at).min().unwrap_or(Time::NEVER)
    }
}

impl Errors {
    fn is_due(&self, now: Time) -> bool {
        self.count > 0 && self.report_at <= now
    }
}

impl Node {
    /// Sending has failed: a batch of `datagrams` is lost. QUIC sends again what they held, as if
    /// the network had lost them.
    pub fn handle_send_error(&mut self, now: Time, kind: ErrorKind, datagrams: usize) {
        self.clamp(now);
        self.stats.send_errors += 1;
        self.stats.unsent_datagrams += datagrams as u64;
        trace::socket_error(&SocketOperation::Send, &kind);
        self.trouble.note(SocketOperation::Send, kind, 1);
    }

    /// Receiving has failed, and may succeed again.
    pub fn handle_receive_error(&mut self, now: Time, kind: ErrorKind) {
        self.clamp(now);
        self.stats.receive_errors += 1;
        trace::socket_error(&SocketOperation::Receive, &kind);
        self.trouble.note(SocketOperation::Receive, kind, 1);
    }

    /// What the socket was granted by the kernel. Less than was wanted is reported once: under load
    /// datagrams will be lost here.
    pub fn handle_socket_buffers(&mut self, buffers: SocketBuffers) {
        let SocketBuffers { wanted, send, receive } = buffers;
        self.trouble.buffers = (send.min(receive) < wanted).then_some(buffers);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(event: Option<NodeEvent>) -> Option<(ErrorKind, u64)> {
        match event? {
            NodeEvent::SocketErrors { kind, count, .. } => Some((kind, count)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn errors_are_reported_at_once_and_then_together() {
        let mut trouble = Trouble::default();
        let (start, later) = (Time::ZERO, Time::ZERO + SOCKET_ERRORS_INTERVAL);
        let note = |trouble: &mut Trouble| {
            trouble.note(SocketOperation::Send, ErrorKind::NetworkDown, 1);
        };
        note(&mut trouble);
        assert_eq!(count(trouble.next_event(start)), Some((ErrorKind::NetworkDown, 1)));
        note(&mut trouble);
        note(&mut trouble);
        assert!(!trouble.has_event(start) && trouble.next_event(start).is_none());
        assert_eq!(trouble.report_at(start), later);
        assert!(trouble.has_event(later) && trouble.report_at(later) == Time::NEVER);
        assert_eq!(count(trouble.next_event(later)), Some((ErrorKind::NetworkDown, 2)));
        assert_eq!((trouble.next_event(later), trouble.report_at(later)), (None, Time::NEVER));
    }

    #[test]
    fn kinds_and_directions_are_told_apart() {
        let mut trouble = Trouble::default();
        trouble.note(SocketOperation::Send, ErrorKind::NetworkDown, 1);
        trouble.note(SocketOperation::Receive, ErrorKind::NetworkDown, 2);
        trouble.note(SocketOperation::Send, ErrorKind::PermissionDenied, 3);
        let events = std::iter::from_fn(|| count(trouble.next_event(Time::ZERO)));
        let counts: std::vec::Vec<u64> = events.map(|(_, count)| count).collect();
        assert_eq!(counts, [1, 2, 3]);
    }

    #[test]
    fn kinds_beyond_the_bound_count_as_other_by_operation() {
        use ErrorKind::*;
        let kinds = [
            NotFound,
            PermissionDenied,
            ConnectionRefused,
            ConnectionReset,
            HostUnreachable,
            NetworkUnreachable,
            ConnectionAborted,
            NotConnected,
            AddrInUse,
            AddrNotAvailable,
            NetworkDown,
            BrokenPipe,
            AlreadyExists,
            WouldBlock,
            InvalidInput,
            InvalidData,
        ];
        let mut trouble = Trouble::default();
        kinds.iter().for_each(|kind| trouble.note(SocketOperation::Send, *kind, 1));
        for (operation, kind, count) in [
            (SocketOperation::Receive, TimedOut, 10),
            (SocketOperation::Send, WriteZero, 100),
            (SocketOperation::Receive, StorageFull, 1_000),
            (SocketOperation::Send, Unsupported, 10_000),
            (SocketOperation::Send, InvalidData, 1),
        ] {
            trouble.note(operation, kind, count);
        }
        let mut expected: std::vec::Vec<_> =
            kinds.iter().map(|kind| (SocketOperation::Send, *kind, 1)).collect();
        expected[KINDS_MAX - 1].2 = 2;
        expected.push((SocketOperation::Receive, Other, 1_010));
        expected.push((SocketOperation::Send, Other, 10_100));
        let events = std::iter::from_fn(|| match trouble.next_event(Time::ZERO)? {
            NodeEvent::SocketErrors { operation, kind, count } => Some((operation, kind, count)),
            other => panic!("{other:?}"),
        });
        assert_eq!(events.collect::<std::vec::Vec<_>>(), expected);
    }
}
