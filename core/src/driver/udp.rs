//! UDP with segmentation offload in both directions, through quinn-udp, for an [`Io`](super::Io)
//! that is told when its socket is ready.

use std::io::{self, IoSliceMut};
use std::ops::ControlFlow;
#[cfg(unix)]
use std::os::fd::AsFd as AsSocket;
#[cfg(windows)]
use std::os::windows::io::AsSocket;
use std::vec;
use std::vec::Vec;

use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSocketState};

use super::io::{Receive, Received};
use crate::config::DriverConfig;
use crate::node::{Ecn, SocketBuffers, Transmit};

/// Bytes that one message can hold: the longest datagram, or a batch that the kernel has joined.
const MESSAGE_BYTES: usize = 65_536;

/// The system hands over all messages that it has, up to [`BATCH_SIZE`].
const TAKES_BATCHES: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// The error of a datagram that is longer than the path takes (`EMSGSIZE`), for which
/// [`io::ErrorKind`] has no name.
const MESSAGE_TOO_LONG: i32 = match () {
    () if cfg!(windows) => 10_040,
    () if cfg!(any(target_os = "linux", target_os = "android")) => 90,
    () => 40,
};

/// The state of a socket beside the socket itself: what the kernel can do, and buffers.
///
/// The socket stays with the adapter, whose runtime knows when it is ready.
pub struct Udp {
    state: UdpSocketState,
    buffers: SocketBuffers,
    /// Room for [`BATCH_SIZE`] messages.
    buffer: Vec<u8>,
    metas: Vec<RecvMeta>,
    /// Messages of the last batch that are still to be handed over: from `next` to `filled`.
    next: usize,
    filled: usize,
}

impl std::fmt::Debug for Udp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Udp").field("state", &self.state).finish_non_exhaustive()
    }
}

impl Udp {
    /// Sets up a socket: non-blocking, offloads, congestion marks, and kernel buffers of
    /// [`socket_buffer_bytes`](DriverConfig::socket_buffer_bytes), unless they are larger.
    ///
    /// # Errors
    /// If the kernel refuses. Smaller buffers than asked for are no error:
    /// [`Udp::socket_buffers`] tells.
    pub fn new(socket: &impl AsSocket, config: &DriverConfig) -> io::Result<Self> {
        let wanted = config.socket_buffer_bytes as usize;
        let state = UdpSocketState::new(socket.into())?;
        // Best effort: a smaller buffer only means more loss under load.
        if state.send_buffer_size(socket.into())? < wanted {
            let _ = state.set_send_buffer_size(socket.into(), wanted);
        }
        if state.recv_buffer_size(socket.into())? < wanted {
            let _ = state.set_recv_buffer_size(socket.into(), wanted);
        }
        let buffers = SocketBuffers {
            wanted,
            send: state.send_buffer_size(socket.into())?,
            receive: state.recv_buffer_size(socket.into())?,
        };
        Ok(Self {
            state,
            buffers,
            buffer: vec![0; MESSAGE_BYTES * BATCH_SIZE],
            metas: vec![RecvMeta::default(); BATCH_SIZE],
            next: 0,
            filled: 0,
        })
    }

    /// Datagrams that one send can hold.
    pub fn segments_max(&self) -> usize {
        self.state.max_gso_segments()
    }

    /// What the kernel has granted.
    pub fn socket_buffers(&self) -> SocketBuffers {
        self.buffers
    }

    /// Whether the next [`Udp::receive`] has something to hand over without asking the socket.
    pub fn has_received(&self) -> bool {
        self.next < self.filled
    }

    /// Whether the socket is known to have had no more than what was received last, all of which is handed
    /// over: asking it again before it is readable gives nothing. Where the system hands over one message
    /// at a time, this is not known before it says that there is none.
    pub fn is_drained(&self) -> bool {
        !self.has_received() && self.filled < if TAKES_BATCHES { BATCH_SIZE } else { 1 }
    }

    /// Hands over what was received and not handed over yet, or else what the socket has, without
    /// waiting.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if there is nothing, or the socket's error.
    pub fn receive(&mut self, socket: &impl AsSocket, receive: &mut Receive<'_>) -> io::Result<()> {
        if !self.has_received() {
            self.fill(socket)?;
        }
        while self.has_received() {
            let at = self.next;
            self.next += 1;
            let meta = &self.metas[at];
            let received = Received {
                from: meta.addr,
                to: meta.dst_ip,
                ecn: meta.ecn.and_then(|ecn| Ecn::from_bits(ecn as u8)),
                stride: meta.stride,
                datagrams: &self.buffer[at * MESSAGE_BYTES..][..meta.len],
            };
            if let ControlFlow::Break(()) = receive(received) {
                break;
            }
        }
        Ok(())
    }

    fn fill(&mut self, socket: &impl AsSocket) -> io::Result<()> {
        let mut messages = self.buffer.chunks_mut(MESSAGE_BYTES).map(IoSliceMut::new);
        let mut messages: [IoSliceMut<'_>; BATCH_SIZE] =
            std::array::from_fn(|_| messages.next().expect("as many as a batch has"));
        loop {
            match self.state.recv(socket.into(), &mut messages, &mut self.metas) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    (self.next, self.filled) = (0, 0);
                    return Err(error);
                }
                Ok(filled) => {
                    (self.next, self.filled) = (0, filled);
                    return Ok(());
                }
            }
        }
    }

    /// Sends datagrams, without waiting. One that is longer than the path takes is dropped without an
    /// error if it [may be a path MTU probe](Transmit::may_be_mtu_probe). If it is none, QUIC notices
    /// the loss, and sends shorter ones.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if the socket's buffer is full. Otherwise the datagrams are
    /// lost: [`io::ErrorKind::InvalidInput`] if they are longer than the path takes, or the socket's
    /// error.
    pub fn send(
        &self,
        socket: &impl AsSocket,
        transmit: &Transmit,
        datagrams: &[u8],
    ) -> io::Result<()> {
        let is_probe = transmit.may_be_mtu_probe();
        let ecn = transmit.ecn.and_then(|ecn| quinn_udp::EcnCodepoint::from_bits(ecn.bits()));
        let transmit = quinn_udp::Transmit {
            destination: transmit.destination,
            ecn,
            contents: &datagrams[..transmit.size],
            segment_size: transmit.segment_size,
            src_ip: transmit.src_ip,
        };
        match self.state.try_send(socket.into(), &transmit) {
            Err(error) if error.raw_os_error() == Some(MESSAGE_TOO_LONG) => match is_probe {
                true => Ok(()),
                false => Err(io::Error::new(io::ErrorKind::InvalidInput, error)),
            },
            result => result,
        }
    }
}

// On Linux, loopback takes no datagrams beyond 64 KiB.
#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn datagrams_that_are_too_long_are_an_error_unless_they_may_be_a_probe() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let udp = Udp::new(&socket, &DriverConfig::default()).unwrap();
        let send = |size, segment_size| {
            let destination = socket.local_addr().unwrap();
            let transmit = Transmit { destination, size, segment_size, ecn: None, src_ip: None };
            udp.send(&socket, &transmit, &vec![7; size]).map_err(|error| error.kind())
        };
        assert_eq!(send(1200, None), Ok(()));
        assert_eq!(send(70_000, None), Ok(()), "it may be a probe");
        assert_eq!(send(70_000, Some(35_000)), Err(io::ErrorKind::InvalidInput));
    }

    #[test]
    fn the_kernel_is_asked_for_larger_buffers_only() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let granted = |bytes| {
            let config = DriverConfig { socket_buffer_bytes: bytes, ..DriverConfig::default() };
            Udp::new(&socket, &config).unwrap().socket_buffers()
        };
        let before = granted(64 << 10);
        assert_eq!(before.wanted, 64 << 10);
        assert!(before.send > 128 << 10 && before.receive > 128 << 10, "they stay: {before:?}");
        // Linux doubles what is asked for, up to a limit that is not below the default.
        let after = granted(before.receive as u32 + 1);
        assert!(after.receive > before.receive, "{before:?} {after:?}");
    }
}
