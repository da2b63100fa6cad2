#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
// docs.rs says with each item which feature it needs.
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "topology-file")]
mod topology_file;

use std::future::Future;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use async_io::{Async, Timer};
use slotcast::config::DriverConfig;
use slotcast::driver::{Io, Receive, Udp, start};
use slotcast::node::{SocketBuffers, Transmit};

pub use slotcast;
pub use slotcast::driver::{
    Call, Channel, Driver, NodeHandle, Request, Route, Server, Setup, StartError,
};
#[cfg(feature = "topology-file")]
pub use topology_file::topology_file;

/// Starts a node that listens on `address`, or on the socket that was [set](Setup::socket), and spawns
/// its driver on smol's global executor.
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
    mut setup: Setup,
    address: SocketAddr,
) -> Result<(NodeHandle, Driver<SmolIo>), StartError> {
    let socket = setup.take_socket().map_or_else(|| UdpSocket::bind(address), Ok);
    let (socket, udp, local) = socket
        .and_then(|socket| open(socket, &setup.config().driver))
        .map_err(|error| StartError::Socket { address, error })?;
    start(
        setup,
        SmolIo { socket, udp, timer: Timer::never(), deadline: None, has_fired: false },
        local,
    )
}

fn open(
    socket: UdpSocket,
    config: &DriverConfig,
) -> io::Result<(Async<UdpSocket>, Udp, SocketAddr)> {
    let udp = Udp::new(&socket, config)?;
    let local = socket.local_addr()?;
    Ok((Async::new(socket)?, udp, local))
}

/// A socket and a timer of async-io, the reactor under smol.
#[derive(Debug)]
pub struct SmolIo {
    socket: Async<UdpSocket>,
    udp: Udp,
    timer: Timer,
    /// What the timer was last set to, and whether it has fired since.
    deadline: Option<Instant>,
    has_fired: bool,
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
            // After a pause of the process, the reactor may have run its timers before it has looked at
            // its sockets.
            let is_overdue = || self.deadline.is_some_and(|deadline| deadline <= Instant::now());
            if self.udp.is_drained() && self.socket.poll_readable(cx)?.is_pending() && !is_overdue()
            {
                return Poll::Pending;
            }
            match self.udp.receive(self.socket.get_ref(), receive) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.socket.poll_readable(cx))?;
                }
                result => return Poll::Ready(result),
            }
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
        if std::mem::replace(&mut self.deadline, deadline) != deadline {
            self.has_fired = false;
            deadline.into_iter().for_each(|deadline| self.timer.set_at(deadline));
        }
        if deadline.is_none() {
            return Poll::Pending;
        }
        // A timer of async-io fires once.
        self.has_fired |= Pin::new(&mut self.timer).poll(cx).is_ready();
        if self.has_fired { Poll::Ready(()) } else { Poll::Pending }
    }
}
