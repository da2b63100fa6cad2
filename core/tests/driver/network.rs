//! Sockets in plain memory that complete operations, as those of io_uring do: they own the buffers
//! they are given. The clock is moved by the test only. Nothing in here is `Send`.

use std::boxed::Box;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use std::vec::Vec;

use slotcast::driver::{Io, Receive, Received};
use slotcast::node::{Ecn, SocketBuffers, Transmit};

/// Operations that a socket has in hand at a time.
const IN_FLIGHT_MAX: usize = 128;

/// A batch of datagrams under way, in the buffer that it was sent from.
struct Batch {
    from: SocketAddr,
    to: SocketAddr,
    ecn: Option<Ecn>,
    size: usize,
    stride: usize,
    buffer: Vec<u8>,
}

#[derive(Default)]
pub(crate) struct Socket {
    inbox: VecDeque<Batch>,
    /// What it was given to send and has not completed.
    sending: Vec<Batch>,
    /// What it was given to send and did not take: it must be offered again.
    refused: Option<Vec<u8>>,
    /// Buffers of what it has completed.
    free: Vec<Vec<u8>>,
    deadline: Option<Instant>,
    waker: Option<Waker>,
    /// It takes nothing to send.
    pub(crate) is_full: bool,
    /// Told instead of the next operations' results.
    pub(crate) receive_errors: VecDeque<io::ErrorKind>,
    pub(crate) send_errors: VecDeque<io::ErrorKind>,
    pub(crate) buffers: Option<SocketBuffers>,
    /// Told for as long as it is set.
    pub(crate) receive_error: Option<io::ErrorKind>,
    /// It says that it has received, and hands over nothing.
    pub(crate) is_hollow: bool,
    /// How often it was asked for what it has received.
    pub(crate) receive_calls: usize,
    /// It does not complete [`Io::poll_close`].
    pub(crate) hangs_at_close: bool,
    pub(crate) close_was_polled: bool,
    pub(crate) is_dropped: bool,
    pub(crate) sent_bytes: usize,
    /// What another thread does just as a batch is received, after so many others.
    pub(crate) meanwhile: Option<(usize, Box<dyn FnOnce()>)>,
}

impl Socket {
    /// Takes something again.
    pub(crate) fn empty(&mut self) {
        self.is_full = false;
        self.wake();
    }

    /// Batches that have arrived and were not received.
    pub(crate) fn waiting(&self) -> usize {
        self.inbox.len()
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

pub(crate) struct Network {
    start: Instant,
    elapsed: Cell<Duration>,
    /// How far the clock moves whenever it is read: as if what is done in between took time.
    pub(crate) tick: Cell<Duration>,
    sockets: Vec<RefCell<Socket>>,
}

pub(crate) fn address(at: usize) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 1000 + at as u16))
}

impl Network {
    /// A network with so many sockets.
    pub(crate) fn new(sockets: usize) -> Rc<Self> {
        let sockets = (0..sockets).map(|_| RefCell::default()).collect();
        #[allow(clippy::disallowed_methods, reason = "any instant will do to count from")]
        let start = Instant::now();
        Rc::new(Self { start, elapsed: Cell::default(), tick: Cell::default(), sockets })
    }

    /// How many sockets there are.
    pub(crate) fn len(&self) -> usize {
        self.sockets.len()
    }

    pub(crate) fn socket(&self, at: usize) -> std::cell::RefMut<'_, Socket> {
        self.sockets[at].borrow_mut()
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.elapsed.get()
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.elapsed.set(self.elapsed.get() + by);
    }

    /// When the timer of a socket is due.
    pub(crate) fn deadline(&self, at: usize) -> Option<Duration> {
        let deadline = self.socket(at).deadline?;
        Some(deadline.saturating_duration_since(self.start))
    }

    /// Moves the clock on to `time`, and wakes those whose timers are due.
    pub(crate) fn go_on_to(&self, time: Duration) {
        self.elapsed.set(time.max(self.elapsed()));
        for at in 0..self.len() {
            if self.deadline(at).is_some_and(|deadline| deadline <= self.elapsed()) {
                let mut socket = self.socket(at);
                socket.deadline = None;
                socket.wake();
            }
        }
    }

    pub(crate) fn now(&self) -> Instant {
        self.advance(self.tick.get());
        self.start + self.elapsed.get()
    }

    /// Puts datagrams into an inbox that look like those of a connection and belong to none.
    pub(crate) fn flood(&self, from: usize, to: usize, bytes: usize) {
        const STRIDE: usize = 1_000;
        let datagrams = (0..bytes).map(|at| if at % STRIDE == 0 { 0x40 } else { 7 }).collect();
        let mut socket = self.socket(to);
        socket.inbox.push_back(Batch {
            from: address(from),
            to: address(to),
            ecn: None,
            size: bytes,
            stride: STRIDE,
            buffer: datagrams,
        });
        socket.wake();
    }

    /// Completes what sockets have been given: puts it into the inboxes.
    pub(crate) fn complete(&self) {
        for at in 0..self.sockets.len() {
            let mut sender = self.socket(at);
            let mut batches = std::mem::take(&mut sender.sending);
            if !batches.is_empty() {
                sender.wake();
            }
            drop(sender);
            for batch in batches.drain(..) {
                let to = usize::from(batch.to.port()) - 1000;
                let Some(socket) = self.sockets.get(to) else { continue };
                let mut socket = socket.borrow_mut();
                socket.inbox.push_back(batch);
                socket.wake();
            }
            // With its capacity.
            self.socket(at).sending = batches;
        }
    }
}

/// One socket of a [`Network`].
pub(crate) struct MemoryIo {
    network: Rc<Network>,
    at: usize,
}

impl MemoryIo {
    pub(crate) fn new(network: &Rc<Network>, at: usize) -> Self {
        Self { network: network.clone(), at }
    }
}

impl Io for MemoryIo {
    fn now(&self) -> Instant {
        self.network.now()
    }

    fn segments_max(&self) -> usize {
        10
    }

    fn socket_buffers(&self) -> Option<SocketBuffers> {
        self.network.socket(self.at).buffers
    }

    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        receive: &mut Receive<'_>,
    ) -> Poll<io::Result<()>> {
        let mut socket = self.network.socket(self.at);
        socket.receive_calls += 1;
        if let Some(kind) = socket.receive_errors.pop_front().or(socket.receive_error) {
            return Poll::Ready(Err(kind.into()));
        }
        if socket.is_hollow {
            return Poll::Ready(Ok(()));
        }
        if socket.inbox.is_empty() {
            socket.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        while let Some(batch) = socket.inbox.pop_front() {
            let meanwhile = socket.meanwhile.take_if(|(others, _)| {
                let is_due = *others == 0;
                *others = others.saturating_sub(1);
                is_due
            });
            if let Some((_, meanwhile)) = meanwhile {
                drop(socket);
                meanwhile();
                socket = self.network.socket(self.at);
            }
            let Batch { from, ecn, size, stride, buffer, .. } = batch;
            let received = Received { from, to: None, ecn, stride, datagrams: &buffer[..size] };
            let flow = receive(received);
            socket.free.push(buffer);
            if let ControlFlow::Break(()) = flow {
                break;
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        transmit: &Transmit,
        buffer: &mut Vec<u8>,
    ) -> Poll<io::Result<()>> {
        let mut socket = self.network.socket(self.at);
        if let Some(kind) = socket.send_errors.pop_front() {
            return Poll::Ready(Err(kind.into()));
        }
        let offered = &buffer[..transmit.size];
        assert!(socket.refused.take().is_none_or(|refused| refused == offered));
        if socket.is_full || socket.sending.len() >= IN_FLIGHT_MAX {
            socket.refused = Some(offered.to_vec());
            socket.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let free = socket.free.pop().unwrap_or_default();
        let buffer = std::mem::replace(buffer, free);
        socket.sent_bytes += transmit.size;
        socket.sending.push(Batch {
            from: address(self.at),
            to: transmit.destination,
            ecn: transmit.ecn,
            size: transmit.size,
            stride: transmit.datagram_size(),
            buffer,
        });
        Poll::Ready(Ok(()))
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>, deadline: Option<Instant>) -> Poll<()> {
        let mut socket = self.network.socket(self.at);
        socket.deadline = deadline;
        if deadline.is_some_and(|deadline| deadline <= self.network.start + self.network.elapsed())
        {
            return Poll::Ready(());
        }
        socket.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut socket = self.network.socket(self.at);
        socket.close_was_polled = true;
        match socket.sending.is_empty() && !socket.hangs_at_close {
            true => Poll::Ready(()),
            false => {
                socket.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for MemoryIo {
    fn drop(&mut self) {
        let mut socket = self.network.socket(self.at);
        assert!(socket.sending.is_empty() || socket.hangs_at_close || !socket.close_was_polled);
        socket.is_dropped = true;
    }
}
