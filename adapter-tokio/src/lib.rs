#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
// docs.rs says with each item which feature it needs.
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "topology-file")]
mod topology_file;

use std::future::Future;
use std::io;
use std::net::{self, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use slotcast::config::DriverConfig;
use slotcast::driver::{Io, Receive, Udp, start};
use slotcast::node::{SocketBuffers, Transmit};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::time::{Instant, Sleep, sleep_until};

pub use slotcast;
pub use slotcast::driver::{
    Call, Channel, Driver, NodeHandle, Request, Route, Server, Setup, StartError,
};
#[cfg(feature = "topology-file")]
pub use topology_file::topology_file;

/// Starts a node that listens on `address`, or on the socket that was [set](Setup::socket), and spawns
/// its driver on the current runtime, which must have its I/O and time drivers enabled.
///
/// # Errors
/// If the address cannot be listened on, or the setup is not valid.
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
/// If the address cannot be listened on, or the setup is not valid.
///
/// # Panics
/// Outside of a tokio runtime.
pub fn bind_unspawned(
    mut setup: Setup,
    address: SocketAddr,
) -> Result<(NodeHandle, Driver<TokioIo>), StartError> {
    let socket = setup.take_socket().map_or_else(|| net::UdpSocket::bind(address), Ok);
    let (socket, udp, local) = socket
        .and_then(|socket| open(socket, &setup.config().driver))
        .map_err(|error| StartError::Socket { address, error })?;
    let timer = Box::pin(sleep_until(Instant::now()));
    start(setup, TokioIo { socket, udp, timer, deadline: None }, local)
}

fn open(socket: net::UdpSocket, config: &DriverConfig) -> io::Result<(UdpSocket, Udp, SocketAddr)> {
    let udp = Udp::new(&socket, config)?;
    let local = socket.local_addr()?;
    Ok((UdpSocket::from_std(socket)?, udp, local))
}

/// A tokio socket and timer.
#[derive(Debug)]
pub struct TokioIo {
    socket: UdpSocket,
    udp: Udp,
    timer: Pin<Box<Sleep>>,
    /// What the timer was last set to.
    deadline: Option<Instant>,
}

impl Io for TokioIo {
    fn now(&self) -> std::time::Instant {
        Instant::now().into_std()
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
        let Self { socket, udp, deadline, .. } = self;
        if udp.has_received() {
            return Poll::Ready(udp.receive(socket, receive));
        }
        loop {
            let is_ready = socket.poll_recv_ready(cx)?.is_ready();
            // After a pause of the process, tokio runs timers before it has looked at its sockets:
            // what it remembers of them is not to be trusted then.
            let is_overdue = || deadline.is_some_and(|deadline| deadline <= Instant::now());
            let result = match is_ready {
                true => receive_ready(socket, udp, receive),
                false if is_overdue() => udp.receive(socket, receive),
                false => return Poll::Pending,
            };
            match result {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !is_ready {
                        return Poll::Pending;
                    }
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
        let Self { socket, udp, .. } = self;
        loop {
            ready!(socket.poll_send_ready(cx))?;
            match socket.try_io(Interest::WRITABLE, || udp.send(socket, transmit, buffer)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    fn poll_timer(
        &mut self,
        cx: &mut Context<'_>,
        deadline: Option<std::time::Instant>,
    ) -> Poll<()> {
        let deadline = deadline.map(Instant::from_std);
        let is_set = std::mem::replace(&mut self.deadline, deadline) == deadline;
        let Some(deadline) = deadline else { return Poll::Pending };
        if !is_set {
            self.timer.as_mut().reset(deadline);
        }
        self.timer.as_mut().poll(cx)
    }
}

/// Receives from a socket that tokio takes to be readable, and tells tokio if it is not any more. A batch
/// that is not full says so, too, without another call that would give nothing.
fn receive_ready(socket: &UdpSocket, udp: &mut Udp, receive: &mut Receive<'_>) -> io::Result<()> {
    let mut result = Err(io::ErrorKind::WouldBlock.into());
    let _ = socket.try_io(Interest::READABLE, || {
        result = udp.receive(socket, receive);
        let is_blocked = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock;
        match &result {
            Ok(()) if udp.is_drained() => Err(io::ErrorKind::WouldBlock.into()),
            Err(error) if is_blocked(error) => Err(io::ErrorKind::WouldBlock.into()),
            _ => Ok(()),
        }
    });
    result
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::ops::ControlFlow;
    use std::time::Duration;

    use super::*;

    /// F3: as after a pause of the process, when tokio has looked at its timers and not at its
    /// sockets. Nothing is awaited after the datagram was sent, so that tokio knows nothing of it.
    #[tokio::test]
    async fn the_socket_is_asked_once_a_deadline_has_passed() {
        let socket = net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let (socket, udp, local) = open(socket, &DriverConfig::default()).unwrap();
        let timer = Box::pin(sleep_until(Instant::now()));
        let mut io = TokioIo { socket, udp, timer, deadline: None };
        let receive = |io: &mut TokioIo, cx: &mut Context<'_>| {
            let mut bytes = 0;
            let ready = io.poll_receive(cx, &mut |received| {
                bytes += received.datagrams.len();
                ControlFlow::Continue(())
            });
            ready.map(|result| result.map(|()| bytes).unwrap())
        };
        poll_fn(|cx| {
            assert!(receive(&mut io, cx).is_pending());
            let now = std::time::Instant::now();
            let later = Some(now + Duration::from_secs(3600));
            assert!(io.poll_timer(cx, later).is_pending());
            let sender = net::UdpSocket::bind("127.0.0.1:0").unwrap();
            sender.send_to(b"a datagram", local).unwrap();
            assert!(receive(&mut io, cx).is_pending(), "tokio knows nothing of it");
            let _ = io.poll_timer(cx, Some(now));
            assert_eq!(receive(&mut io, cx), Poll::Ready(10));
            assert!(receive(&mut io, cx).is_pending());
            Poll::Ready(())
        })
        .await;
    }
}

/// The README's example is compiled and run as a test.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
