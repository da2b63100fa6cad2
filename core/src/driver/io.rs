//! What the driver needs of a runtime: a clock, a timer, and a way to send and receive datagrams.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::ControlFlow;
use std::task::{Context, Poll};
use std::time::Instant;
use std::vec::Vec;

use crate::node::{Ecn, SocketBuffers, Transmit};

/// Datagrams that were received together, from one sender.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// Who sent them.
    pub from: SocketAddr,
    /// The own address they were sent to, if known.
    pub to: Option<IpAddr>,
    /// The congestion mark, if known.
    pub ecn: Option<Ecn>,
    /// Bytes in each datagram but the last, which may be shorter.
    pub stride: usize,
    /// The datagrams, one after the other.
    pub datagrams: &'a [u8],
}

/// The closure to which an [`Io`] passes received datagrams. After [`ControlFlow::Break`], the `Io`
/// keeps the rest for the next call.
pub type Receive<'a> = dyn FnMut(Received<'_>) -> ControlFlow<()> + 'a;

/// A runtime's socket, timer and clock, as the driver needs them.
///
/// `poll_*` methods follow the rule of [`Future::poll`]: when they are not ready, they have arranged
/// for a wake-up through `cx`. Only the driver's task calls them.
///
/// Two kinds of I/O are supported. If the operating system reports when a socket is *ready*, an
/// `Io` calls [`Udp::receive`](super::Udp::receive) and [`Udp::send`](super::Udp::send) at that
/// time. If it reports when an operation is *complete* (io_uring, IOCP), an `Io` owns the buffers
/// until then: it receives into buffers of its own and hands over their content, and to send, it
/// takes the buffer and leaves a free one.
pub trait Io: Unpin {
    /// The runtime's clock. It must not go backwards. All deadlines count on it, so that a clock that
    /// a test holds and advances decides when they pass.
    fn now(&self) -> Instant;

    /// Datagrams that one call of [`Io::poll_send`] takes (generic segmentation offload), at least 1.
    /// It may change.
    fn segments_max(&self) -> usize {
        1
    }

    /// What the kernel has granted, where there is a kernel: less than was asked for is reported as
    /// [`NodeEvent::SocketBuffers`](crate::node::NodeEvent::SocketBuffers).
    fn socket_buffers(&self) -> Option<SocketBuffers> {
        None
    }

    /// Hands what has arrived to `receive`. Ready when it has handed over something; pending only
    /// if there is nothing to hand over.
    ///
    /// Once the deadline of the last [`Io::poll_timer`] has passed, it must ask the socket itself,
    /// even if the runtime has not said that the socket is readable: after a pause of the process,
    /// a runtime may run its timers before it has polled its sockets, and a connection would time
    /// out although its datagrams have arrived.
    ///
    /// # Errors
    /// Any error of the socket. Transient errors are counted and reported
    /// ([`NodeEvent::SocketErrors`](crate::node::NodeEvent::SocketErrors)), and the driver goes on.
    /// It ends for [`InvalidInput`](io::ErrorKind::InvalidInput),
    /// [`NotConnected`](io::ErrorKind::NotConnected), [`BrokenPipe`](io::ErrorKind::BrokenPipe),
    /// [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) and
    /// [`Unsupported`](io::ErrorKind::Unsupported), which a socket does not recover from, and for 64
    /// errors of kinds that are not known to pass, with nothing received and less than a second
    /// between them. After 64 errors of any kind in succession, or calls that are ready and hand
    /// over nothing, the driver does not call for 10 ms, in which timers and sending go on.
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        receive: &mut Receive<'_>,
    ) -> Poll<io::Result<()>>;

    /// Sends the first [`Transmit::size`] bytes of `buffer`. It may take the buffer and leave another
    /// one in its place, whose content does not matter. Pending: nothing was taken, and the same is
    /// offered again.
    ///
    /// # Errors
    /// Any error of the socket: the datagrams are lost, as they may be in the network, and QUIC
    /// sends again what they held. Errors are counted and reported
    /// ([`NodeEvent::SocketErrors`](crate::node::NodeEvent::SocketErrors)). None of them ends the
    /// driver. An `Io` that knows the result of an operation only later returns the error of an
    /// earlier one when it takes the next datagrams. That a datagram is longer than the path takes
    /// is no error if it [may be a path MTU probe](Transmit::may_be_mtu_probe).
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        transmit: &Transmit,
        buffer: &mut Vec<u8>,
    ) -> Poll<io::Result<()>>;

    /// Ready once `deadline` has passed by [`Io::now`]; never, without one. It may be late by a
    /// timer's granularity. If it is early, the driver only checks its deadlines once more than
    /// needed. Each call replaces the deadline of the one before. When it has been ready, it is not
    /// polled again with that deadline unless the deadline is still to come.
    fn poll_timer(&mut self, cx: &mut Context<'_>, deadline: Option<Instant>) -> Poll<()>;

    /// Flushes the datagrams that were accepted for sending, and releases the socket's address.
    /// Nothing but [`Io::poll_timer`] is called afterwards. The application may bind the address
    /// again once this is ready and the `Io` is dropped. After [`CLOSE_MAX`](super::CLOSE_MAX) the
    /// driver waits no longer.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let _ = cx;
        Poll::Ready(())
    }
}
