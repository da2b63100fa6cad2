//! UDP with segmentation offload in both directions, through quinn-udp. The socket itself stays
//! with the adapter, whose runtime knows when it is ready.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::vec;
use std::vec::Vec;

use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSockRef, UdpSocketState};

use crate::node::{EcnCodepoint, Transmit};

/// Bytes that one message can hold: the longest datagram, or a batch that the kernel has joined.
const MESSAGE_BYTES: usize = 65_536;

/// Kernel buffers of the socket, each way, in bytes. Default sizes (about 200 KiB) overflow within
/// a millisecond of a gigabit; the kernel grants what its limits allow.
const SOCKET_BUFFER: usize = 4 << 20;

/// Datagrams received together.
#[derive(Debug)]
pub struct Received<'a> {
    /// Who sent them.
    pub from: SocketAddr,
    /// The own address they were sent to, if known.
    pub to: Option<IpAddr>,
    /// The congestion mark (RFC 3168).
    pub ecn: Option<EcnCodepoint>,
    /// Bytes in each datagram but the last, which may be shorter.
    pub stride: usize,
    /// The datagrams, one after the other.
    pub datagrams: &'a [u8],
}

/// The state of a socket beside the socket: what the kernel can do, and buffers.
pub struct Udp {
    state: UdpSocketState,
    buffer: Vec<u8>,
    metas: [RecvMeta; BATCH_SIZE],
    filled: usize,
}

impl std::fmt::Debug for Udp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Udp").field("state", &self.state).finish_non_exhaustive()
    }
}

impl Udp {
    /// Sets up a socket: non-blocking, offloads, congestion marks, larger kernel buffers.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn new<S>(socket: &S) -> io::Result<Self>
    where
        for<'s> UdpSockRef<'s>: From<&'s S>,
    {
        let state = UdpSocketState::new(socket.into())?;
        // Best effort: a smaller buffer only means more loss under load.
        let _ = state.set_send_buffer_size(socket.into(), SOCKET_BUFFER);
        let _ = state.set_recv_buffer_size(socket.into(), SOCKET_BUFFER);
        Ok(Self {
            state,
            buffer: vec![0; MESSAGE_BYTES * BATCH_SIZE],
            metas: [RecvMeta::default(); BATCH_SIZE],
            filled: 0,
        })
    }

    /// Datagrams that one send can hold.
    pub fn segments_max(&self) -> usize {
        self.state.max_gso_segments()
    }

    /// Receives what is there, without waiting; [`Udp::received`] gives it.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if nothing is there, or the socket's error.
    pub fn receive<S>(&mut self, socket: &S) -> io::Result<()>
    where
        for<'s> UdpSockRef<'s>: From<&'s S>,
    {
        self.filled = 0;
        let mut messages = self.buffer.chunks_mut(MESSAGE_BYTES).map(IoSliceMut::new);
        let mut messages: [IoSliceMut<'_>; BATCH_SIZE] =
            std::array::from_fn(|_| messages.next().expect("as many as a batch has"));
        loop {
            match self.state.recv(socket.into(), &mut messages, &mut self.metas) {
                Ok(filled) => {
                    self.filled = filled;
                    return Ok(());
                }
                // An earlier datagram bounced (ICMP): nothing that concerns the socket.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// What the last [`Udp::receive`] brought.
    pub fn received(&mut self) -> impl Iterator<Item = Received<'_>> {
        let filled = std::mem::take(&mut self.filled);
        let messages = self.buffer.chunks(MESSAGE_BYTES).zip(&self.metas).take(filled);
        messages.map(|(message, meta)| Received {
            from: meta.addr,
            to: meta.dst_ip,
            ecn: meta.ecn.and_then(|ecn| EcnCodepoint::from_bits(ecn as u8)),
            stride: meta.stride,
            datagrams: &message[..meta.len],
        })
    }

    /// Sends datagrams, without waiting. Datagrams that the network does not take are lost, which
    /// QUIC repairs.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if the socket's buffer is full, or the socket's error.
    pub fn send<S>(&self, socket: &S, transmit: &Transmit, datagrams: &[u8]) -> io::Result<()>
    where
        for<'s> UdpSockRef<'s>: From<&'s S>,
    {
        let ecn = transmit.ecn.and_then(|ecn| quinn_udp::EcnCodepoint::from_bits(ecn as u8));
        let transmit = quinn_udp::Transmit {
            destination: transmit.destination,
            ecn,
            contents: datagrams,
            segment_size: transmit.segment_size,
            src_ip: transmit.src_ip,
        };
        self.state.send(socket.into(), &transmit)
    }
}
