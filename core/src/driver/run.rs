//! The loop of one node.
//!
//! The driver takes turns: execute commands, receive datagrams, process them and send datagrams,
//! stage events. Each turn is bounded in time, and so is each poll of the driver, so that other
//! tasks of the runtime run in between, and no direction waits for the end of another one's
//! backlog. What one turn does not finish is continued in the next one.
//!
//! A socket that accepts no datagrams stops sending, and nothing else (invariant 19). After a pause
//! of the process, what waits in the socket is read before any deadline may pass: see
//! [`PAUSE_MIN`].

use std::fmt;
use std::future::Future;
use std::io;
use std::ops::ControlFlow;
use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::string::String;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use std::vec::Vec;

use super::Io;
use super::calls::CallTable;
use super::node_handle::DriverError;
use super::questions::Answers;
use super::shared::{Shared, Staged};
use crate::id::NodeId;
use crate::node::{Node, Output, Transmit};
use crate::snapshot::{DriverSnapshot, Histogram, Snapshot};
use crate::time::Time;
use crate::trace::NodeSpan;

/// Further bounds of a poll, since a runtime's clock may stand still: turns in a poll, slices
/// received in a turn, and batches sent in a turn. They are higher than what the time bounds allow, by
/// default.
const TURNS_MAX: usize = 16;
const SLICES_MAX: usize = 64;
const SENDS_MAX: usize = 64;

/// What is received before the driver looks at the clock again: messages of the socket, and bytes in
/// them. Some tens of microseconds.
const SLICE_MESSAGES_MAX: usize = 8;
const SLICE_BYTES_MAX: usize = 16 << 10;

/// When the driver has not run for so long, whatever the reason (it had nothing to do, its runtime
/// was busy, the process was stopped), the socket is read to its end before the node looks at its
/// deadlines: a connection does not time out while datagrams wait that show it to be alive.
/// Shorter pauses change no deadline by more than this.
const PAUSE_MIN: Duration = Duration::from_millis(50);

/// Reading the socket to its end stops after so many times the bytes that its buffer was asked to hold, or
/// does hold, which is more than there are in it: a peer that sends without end must not hold up deadlines. Nor must a
/// socket that gives errors, or nothing, without end: a slice counts as some bytes at least.
const PAUSE_BUFFERS_MAX: usize = 4;
const PAUSE_SLICE_BYTES_MIN: usize = 1 << 10;

/// The number of successive errors, of kinds that are not known to be transient, after which the
/// driver ends.
const RECEIVE_ERRORS_MAX: u32 = 64;

/// Errors with a longer time in between are not in succession: a socket that is of no use any more
/// fails at once, and one that waits for datagrams may draw an error now and then for weeks.
const RECEIVE_ERRORS_GAP: Duration = Duration::from_secs(1);

/// After so many successive calls of [`Io::poll_receive`] that were ready and handed over nothing, as
/// when the interface of the socket is down, the socket is left alone for [`RECEIVE_RETRY`]. So many
/// calls take about 100 us, which is then one percent of a processor. A few errors that come between
/// datagrams delay nothing.
const FRUITLESS_MAX: u32 = 64;

/// Short beside every deadline, and a socket's buffer holds what arrives meanwhile. Shorter than
/// [`PAUSE_MIN`], so that the driver's own wait is no pause.
const RECEIVE_RETRY: Duration = Duration::from_millis(10);

/// How long the driver waits for [`Io::poll_close`]. An [`Io`] that can close sooner does.
pub const CLOSE_MAX: Duration = Duration::from_millis(500);

/// The loop of one node: a future that ends when the node has shut down.
#[must_use = "a node does nothing until its driver is polled"]
pub struct Driver<I> {
    node: Node,
    /// Names the node in what is traced.
    span: NodeSpan,
    shared: Arc<Shared>,
    call_table: CallTable,
    answers: Answers,
    /// The instant of [`Time::ZERO`].
    start: Instant,
    buffer: Vec<u8>,
    /// Datagrams in `buffer` that the socket did not take yet.
    unsent: Option<Transmit>,
    /// When the last turn ended.
    last_turn: Time,
    /// How long polls took.
    polls: Histogram,
    /// After a pause: the number of bytes that may still be received before deadlines are checked.
    pause_bytes: usize,
    /// Errors of the socket in succession, and when the last one came.
    receive_errors: u32,
    receive_failed_at: Time,
    /// Calls of [`Io::poll_receive`] in succession that were ready and handed over nothing.
    fruitless: u32,
    /// When the socket is asked again, after too many of them.
    receive_at: Option<Time>,
    phase: Phase<I>,
    /// The message of a panic.
    panic: Option<Arc<str>>,
}

enum Phase<I> {
    Running(I),
    /// The node has ended, or the socket has failed; the socket is being closed until `deadline`.
    Closing {
        io: I,
        deadline: Instant,
        result: Result<(), DriverError>,
    },
    Ended,
}

/// How a turn has ended.
enum Next {
    /// There may be more to do.
    Again,
    /// There is nothing to do until something wakes the driver.
    Sleep,
    /// The node has shut down.
    End,
}

/// What has become of what the node had to send.
enum Sent {
    /// There is more.
    Part,
    /// Everything has been sent, or the socket accepts nothing. The time at which the node has to
    /// be polled again.
    Until(Time),
}

impl<I> fmt::Debug for Driver<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("node", &self.node).finish_non_exhaustive()
    }
}

impl<I: Io> Driver<I> {
    pub(super) fn new(node: Node, shared: Arc<Shared>, io: I, start: Instant) -> Self {
        Self {
            span: NodeSpan::new(node.key_id()),
            node,
            shared,
            call_table: CallTable::default(),
            answers: Answers::default(),
            start,
            buffer: Vec::new(),
            unsent: None,
            last_turn: Time::ZERO,
            polls: Histogram::default(),
            pause_bytes: 0,
            receive_errors: 0,
            receive_failed_at: Time::ZERO,
            fruitless: 0,
            receive_at: None,
            phase: Phase::Running(io),
            panic: None,
        }
    }

    /// The public half of the node's key.
    pub fn id(&self) -> NodeId {
        self.node.key_id()
    }

    fn poll_max(&self) -> Duration {
        self.node.config().driver.poll_max / self.node.shortened_by()
    }

    fn time(&self, io: &I) -> Time {
        Time::ZERO + io.now().saturating_duration_since(self.start)
    }

    /// Takes turns until there is nothing to do or the time of the poll is used up. Returns how the
    /// node has ended, if it has.
    fn run(&mut self, io: &mut I, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let began = self.time(io);
        let until = began + self.poll_max();
        let span = self.span.clone();
        let result = span.run(|| self.take_turns(io, cx, until));
        self.polls.note(self.last_turn.since(began));
        result
    }

    fn take_turns(
        &mut self,
        io: &mut I,
        cx: &mut Context<'_>,
        until: Time,
    ) -> Poll<io::Result<()>> {
        let mut may_have_commands = true;
        for _ in 0..TURNS_MAX {
            let next = self.turn(io, cx, &mut may_have_commands);
            self.last_turn = self.time(io);
            match next {
                Ok(Next::Again) => {}
                Ok(Next::Sleep) => return Poll::Pending,
                Ok(Next::End) => return Poll::Ready(Ok(())),
                Err(error) => return Poll::Ready(Err(error)),
            }
            if self.last_turn >= until {
                break;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// What the node knows of itself, and what this driver does.
    fn snapshot(&self, now: Time) -> Snapshot {
        let mut snapshot = self.node.snapshot(now);
        snapshot.node.driver = Some(DriverSnapshot { polls: self.polls, commands: 0 });
        snapshot
    }

    fn turn(
        &mut self,
        io: &mut I,
        cx: &mut Context<'_>,
        may_have_commands: &mut bool,
    ) -> io::Result<Next> {
        let now = self.time(io);
        if now.since(self.last_turn) >= PAUSE_MIN {
            let asked = self.node.config().driver.socket_buffer_bytes as usize;
            let granted = io.socket_buffers().map_or(0, |buffers| buffers.receive);
            self.pause_bytes = PAUSE_BUFFERS_MAX * asked.max(granted);
        }
        if *may_have_commands {
            let Self { node, call_table, answers, .. } = self;
            let waker = cx.waker();
            *may_have_commands = !self.shared.take_commands(now, node, call_table, answers, waker);
        }
        let is_drained = self.receive(io, cx, now + self.poll_max() / 2)?;
        self.node.set_input_waits(!is_drained);
        if self.pause_bytes > 0 && !is_drained {
            return Ok(Next::Again);
        }
        self.pause_bytes = 0;
        // What this node tells itself comes before all that it sends.
        let Self { node, call_table, answers, .. } = self;
        let has_told = node.has_loopback()
            && self.shared.stage_events(now, self.start, node, call_table, answers).has_staged;
        let sent = self.send(io, cx, now + self.poll_max());
        let now = self.time(io);
        let Self { node, call_table, answers, .. } = self;
        let Staged { has_staged, may_have_commands: is_commanded, stage_at, snapshot_wanted } =
            self.shared.stage_events(now, self.start, node, call_table, answers);
        *may_have_commands |= is_commanded;
        let has_staged = has_told | has_staged;
        if let Some(requested) = snapshot_wanted {
            self.shared.answer_snapshot(requested, self.snapshot(now));
        }
        if self.node.is_closed() {
            return Ok(Next::End);
        }
        let is_idle = match sent {
            Sent::Part => false,
            Sent::Until(wake_at) => {
                let wake_at = self.receive_at.map_or(wake_at, |at| at.min(wake_at)).min(stage_at);
                let deadline = || self.start + Duration::from_nanos(wake_at.0);
                io.poll_timer(cx, (wake_at < Time::NEVER).then(deadline)).is_pending()
            }
        };
        let is_asleep = is_idle && !*may_have_commands && is_drained && !has_staged;
        Ok(if is_asleep { Next::Sleep } else { Next::Again })
    }

    /// Receives until there is nothing more, or until `until`. Whether there is nothing more for
    /// now.
    fn receive(&mut self, io: &mut I, cx: &mut Context<'_>, until: Time) -> io::Result<bool> {
        if self.receive_at.is_some_and(|at| self.time(io) < at) {
            return Ok(true);
        }
        self.receive_at = None;
        for _ in 0..SLICES_MAX {
            let now = self.time(io);
            let (mut messages, mut bytes) = (0, 0);
            let node = &mut self.node;
            let result = io.poll_receive(cx, &mut |received| {
                let super::Received { from, to, ecn, stride, datagrams } = received;
                node.handle_datagrams(now, from, to, ecn, stride, datagrams);
                messages += 1;
                bytes += datagrams.len();
                match messages < SLICE_MESSAGES_MAX && bytes < SLICE_BYTES_MAX {
                    true => ControlFlow::Continue(()),
                    false => ControlFlow::Break(()),
                }
            });
            self.pause_bytes = self.pause_bytes.saturating_sub(bytes.max(PAUSE_SLICE_BYTES_MIN));
            match result {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => self.receive_failed(now, error)?,
                Poll::Pending => {
                    self.fruitless = 0;
                    return Ok(true);
                }
            }
            if messages > 0 {
                (self.receive_errors, self.fruitless) = (0, 0);
            } else {
                self.fruitless += 1;
            }
            // After a pause, errors do not keep the driver from the datagrams behind them.
            if self.fruitless >= FRUITLESS_MAX && self.pause_bytes == 0 {
                self.fruitless = 0;
                self.receive_at = Some(now + RECEIVE_RETRY);
                return Ok(true);
            }
            if self.time(io) >= until {
                break;
            }
        }
        Ok(false)
    }

    /// Counts an error of the socket, if it may pass.
    fn receive_failed(&mut self, now: Time, error: io::Error) -> io::Result<()> {
        let kind = error.kind();
        if now.since(self.receive_failed_at) >= RECEIVE_ERRORS_GAP {
            self.receive_errors = 0;
        }
        self.receive_failed_at = now;
        if !passes(kind) {
            self.receive_errors += 1;
        }
        if is_final(kind) || self.receive_errors >= RECEIVE_ERRORS_MAX {
            return Err(error);
        }
        self.node.handle_receive_error(now, kind);
        Ok(())
    }

    /// Sends until the node has nothing more, the socket accepts nothing more, or `until` has
    /// passed.
    fn send(&mut self, io: &mut I, cx: &mut Context<'_>, until: Time) -> Sent {
        for _ in 0..SENDS_MAX {
            let now = self.time(io);
            let transmit = match self.unsent.take() {
                Some(transmit) => transmit,
                None => match self.node.poll(now, io.segments_max().max(1), &mut self.buffer) {
                    Output::Transmit(transmit) => transmit,
                    Output::Idle { wake_at, .. } => return Sent::Until(wake_at),
                },
            };
            match io.poll_send(cx, &transmit, &mut self.buffer) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => {
                    self.node.handle_send_error(now, error.kind(), transmit.datagrams());
                }
                Poll::Pending => {
                    self.unsent = Some(transmit);
                    return Sent::Until(self.node.poll_blocked(now));
                }
            }
            if self.time(io) >= until {
                break;
            }
        }
        Sent::Part
    }
}

/// Whether an error on receiving means that the socket cannot receive any more.
fn is_final(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{BrokenPipe, InvalidInput, NotConnected, UnexpectedEof, Unsupported};
    matches!(kind, InvalidInput | NotConnected | BrokenPipe | UnexpectedEof | Unsupported)
}

/// Whether an error concerns a peer, the path or a transient condition, and not the socket itself,
/// however often it occurs. For example, an ICMP message may report that an earlier datagram was
/// not delivered.
fn passes(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable, Interrupted,
        NetworkDown, NetworkUnreachable, OutOfMemory, TimedOut,
    };
    let of_path = matches!(
        kind,
        ConnectionAborted
            | ConnectionRefused
            | ConnectionReset
            | HostUnreachable
            | NetworkUnreachable
    );
    of_path || matches!(kind, Interrupted | NetworkDown | OutOfMemory | TimedOut)
}

impl<I: Io> Driver<I> {
    /// Goes on to the next phase, as far as it can.
    fn poll_phase(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), DriverError>> {
        // Taken out of the driver while it runs, so that a panic (for example in a filter) drops
        // it.
        let mut phase = std::mem::replace(&mut self.phase, Phase::Ended);
        if let Phase::Running(mut io) = phase {
            let Poll::Ready(result) = self.run(&mut io, cx) else {
                self.phase = Phase::Running(io);
                return Poll::Pending;
            };
            // Nothing more is taken from the application.
            self.shared.begin_end();
            let deadline = io.now() + CLOSE_MAX;
            let result = result.map_err(|error| DriverError::Socket(Arc::new(error)));
            phase = Phase::Closing { io, deadline, result };
        }
        let Phase::Closing { mut io, deadline, result } = phase else {
            panic!("a driver is not polled after its end");
        };
        if io.poll_close(cx).is_pending() && io.poll_timer(cx, Some(deadline)).is_pending() {
            self.phase = Phase::Closing { io, deadline, result };
            return Poll::Pending;
        }
        // The socket is dropped before the end is reported, since the application may bind the
        // address again at that time.
        drop(io);
        self.shared.close(result.clone());
        Poll::Ready(result)
    }
}

impl<I: Io> Future for Driver<I> {
    type Output = Result<(), DriverError>;

    /// If this panics, the handles are told when the driver is dropped, after its socket.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let poll = AssertUnwindSafe(|| this.poll_phase(cx));
        panic::catch_unwind(poll).unwrap_or_else(|payload| {
            let text = payload.downcast_ref::<&str>().copied();
            let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
            this.panic = Some(text.unwrap_or("no message").into());
            panic::resume_unwind(payload)
        })
    }
}

impl<I> Drop for Driver<I> {
    /// If the runtime drops the driver, or it has panicked, all waiting handles are woken.
    fn drop(&mut self) {
        let phase = std::mem::replace(&mut self.phase, Phase::Ended);
        let end = match (self.panic.take(), phase) {
            (Some(text), _) => Err(DriverError::Panic(text)),
            // It was over already, but for the socket.
            (None, Phase::Closing { io, result, .. }) => {
                drop(io);
                result
            }
            (None, _) => Err(DriverError::Dropped),
        };
        self.shared.close(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_that_passes_is_not_final() {
        use io::ErrorKind::*;
        for kind in [ConnectionReset, ConnectionRefused, HostUnreachable, NetworkDown, OutOfMemory]
        {
            assert!(passes(kind) && !is_final(kind), "{kind:?}");
        }
        for kind in [InvalidInput, NotConnected, BrokenPipe, UnexpectedEof, Unsupported] {
            assert!(is_final(kind) && !passes(kind), "{kind:?}");
        }
        assert!(!passes(Other) && !is_final(Other), "given up when it comes again and again");
    }
}
