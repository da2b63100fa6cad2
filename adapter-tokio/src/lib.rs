//! slotcast under tokio: [`bind`] starts a node on the current runtime.
//!
//! What a node does is decided in [`slotcast`]; here are the socket, the timer and the spawn. Nodes
//! of all adapters speak the same protocol and have the same handles.

#![forbid(unsafe_code)]

#[cfg(feature = "topology-file")]
mod topology_file;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use slotcast::driver::{Io, Udp, start};
use slotcast::node::Transmit;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::time::{Sleep, sleep_until};

pub use slotcast;
pub use slotcast::driver::{
    Call, Channel, Driver, NodeHandle, Request, Route, Server, Setup, StartError,
};
#[cfg(feature = "topology-file")]
pub use topology_file::topology_file;

/// Starts a node that listens on `address`, and spawns its driver on the current runtime, which
/// must have its I/O and time drivers enabled.
///
/// # Errors
/// If the address cannot be listened on, or the setup does not hold together.
///
/// # Panics
/// Outside of a tokio runtime.
pub fn bind(setup: Setup, address: SocketAddr) -> Result<NodeHandle, StartError> {
    let (handle, driver) = bind_unspawned(setup, address)?;
    // How it ended is told by `NodeHandle::closed`.
    drop(tokio::spawn(driver));
    Ok(handle)
}

/// Like [`bind`], but leaves it to the caller to spawn the driver, on a runtime of its own perhaps.
///
/// # Errors
/// If the address cannot be listened on, or the setup does not hold together.
///
/// # Panics
/// Outside of a tokio runtime.
pub fn bind_unspawned(
    setup: Setup,
    address: SocketAddr,
) -> Result<(NodeHandle, Driver<TokioIo>), StartError> {
    let open = || {
        let socket = std::net::UdpSocket::bind(address)?;
        let udp = Udp::new(&socket)?;
        socket.set_nonblocking(true)?;
        let local = socket.local_addr()?;
        Ok((UdpSocket::from_std(socket)?, udp, local))
    };
    let (socket, udp, local) = open().map_err(|error| StartError::Socket { address, error })?;
    let timer = Box::pin(sleep_until(Instant::now().into()));
    start(setup, TokioIo { socket, timer }, udp, local)
}

/// A tokio socket and timer.
#[derive(Debug)]
pub struct TokioIo {
    socket: UdpSocket,
    timer: Pin<Box<Sleep>>,
}

impl Io for TokioIo {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>, udp: &mut Udp) -> Poll<io::Result<()>> {
        loop {
            ready!(self.socket.poll_recv_ready(cx))?;
            match self.socket.try_io(Interest::READABLE, || udp.receive(&self.socket)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        udp: &Udp,
        transmit: &Transmit,
        datagrams: &[u8],
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.socket.poll_send_ready(cx))?;
            let send = || udp.send(&self.socket, transmit, datagrams);
            match self.socket.try_io(Interest::WRITABLE, send) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>, deadline: Option<Instant>) -> Poll<()> {
        let Some(deadline) = deadline else { return Poll::Pending };
        if self.timer.deadline() != deadline.into() {
            self.timer.as_mut().reset(deadline.into());
        }
        self.timer.as_mut().poll(cx)
    }
}

/// The README's example is compiled and run as a test.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
