//! slotcast under smol: [`bind`] starts a node on smol's global executor.
//!
//! What a node does is decided in [`slotcast`]; here are the socket, the timer and the spawn. Nodes
//! of all adapters speak the same protocol and have the same handles.

#![forbid(unsafe_code)]

#[cfg(feature = "topology-file")]
mod topology_file;

use std::future::Future;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use async_io::{Async, Timer};
use slotcast::driver::{Io, Receive, Udp, start};
use slotcast::node::{SocketBuffers, Transmit};

pub use slotcast;
pub use slotcast::driver::{
    Call, Channel, Driver, NodeHandle, Request, Route, Server, Setup, StartError,
};
#[cfg(feature = "topology-file")]
pub use topology_file::topology_file;

/// Starts a node that listens on `address`, and spawns its driver on smol's global executor.
///
/// # Errors
/// If the address cannot be listened on, or the setup is not valid.
pub fn bind(setup: Setup, address: SocketAddr) -> Result<NodeHandle, StartError> {
    let (handle, driver) = bind_unspawned(setup, address)?;
    // How it ended is told by `NodeHandle::closed`.
    smol::spawn(driver).detach();
    Ok(handle)
}

/// Like [`bind`], but leaves it to the caller to spawn the driver, on an executor of its own
/// perhaps.
///
/// # Errors
/// If the address cannot be listened on, or the setup is not valid.
pub fn bind_unspawned(
    setup: Setup,
    address: SocketAddr,
) -> Result<(NodeHandle, Driver<SmolIo>), StartError> {
    let (socket, udp, local) =
        open(address).map_err(|error| StartError::Socket { address, error })?;
    start(setup, SmolIo { socket, udp, timer: Timer::never(), deadline: None }, local)
}

fn open(address: SocketAddr) -> io::Result<(Async<UdpSocket>, Udp, SocketAddr)> {
    let socket = UdpSocket::bind(address)?;
    let udp = Udp::new(&socket)?;
    let local = socket.local_addr()?;
    Ok((Async::new(socket)?, udp, local))
}

/// A socket and a timer of async-io, the reactor under smol.
#[derive(Debug)]
pub struct SmolIo {
    socket: Async<UdpSocket>,
    udp: Udp,
    timer: Timer,
    /// What the timer was last set to, until it has fired.
    deadline: Option<Instant>,
}

impl Io for SmolIo {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn segments_max(&self) -> usize {
        self.udp.segments_max()
    }

    fn socket_buffers(&self) -> Option<SocketBuffers> {
        Some(self.udp.socket_buffers())
    }

    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        receive: &mut Receive<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            match self.udp.receive(self.socket.get_ref(), receive) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
            ready!(self.socket.poll_readable(cx))?;
        }
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        transmit: &Transmit,
        buffer: &mut Vec<u8>,
    ) -> Poll<io::Result<()>> {
        loop {
            match self.udp.send(self.socket.get_ref(), transmit, buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
            ready!(self.socket.poll_writable(cx))?;
        }
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>, deadline: Option<Instant>) -> Poll<()> {
        let Some(deadline) = deadline else { return Poll::Pending };
        if self.deadline.replace(deadline) != Some(deadline) {
            self.timer.set_at(deadline);
        }
        let passed = Pin::new(&mut self.timer).poll(cx).map(drop);
        if passed.is_ready() {
            self.deadline = None;
        }
        passed
    }
}
