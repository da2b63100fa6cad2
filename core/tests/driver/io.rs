//! An [`Io`] in memory: datagrams stand in the receiver's queue as soon as they are sent, and time is
//! what the test says.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use slotcast::driver::{Io, Udp};
use slotcast::node::Transmit;

/// What all nodes of a test share.
pub(crate) struct Network {
    start: Instant,
    /// Since the start.
    pub(crate) now: Duration,
    pub(crate) ports: Vec<Port>,
}

/// The socket and the timer of one node.
pub(crate) struct Port {
    socket: Arc<UdpSocket>,
    pub(crate) address: SocketAddr,
    /// Datagrams that wait to be received, with their sender.
    inbox: VecDeque<(usize, Vec<u8>)>,
    reader: Option<Waker>,
    /// The socket takes nothing.
    pub(crate) is_full: bool,
    writer: Option<Waker>,
    deadline: Option<Instant>,
    sleeper: Option<Waker>,
    /// Bytes that the socket has taken.
    pub(crate) sent_bytes: u64,
    /// What another thread does just as a datagram is received, after so many others.
    pub(crate) meanwhile: Option<(usize, Box<dyn FnOnce() + Send>)>,
}

impl Network {
    pub(crate) fn new(nodes: usize) -> Arc<Mutex<Self>> {
        #[allow(clippy::disallowed_methods, reason = "an origin that nothing depends on")]
        let start = Instant::now();
        let port = |_| {
            let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback");
            Port {
                address: socket.local_addr().expect("bound"),
                socket: Arc::new(socket),
                inbox: VecDeque::new(),
                reader: None,
                is_full: false,
                writer: None,
                deadline: None,
                sleeper: None,
                sent_bytes: 0,
                meanwhile: None,
            }
        };
        let ports = (0..nodes).map(port).collect();
        Arc::new(Mutex::new(Self { start, now: Duration::ZERO, ports }))
    }

    /// When the next timer is due.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        let deadlines = self.ports.iter().filter_map(|port| port.deadline);
        deadlines.min().map(|deadline| deadline.saturating_duration_since(self.start))
    }

    /// Time passes: wakes those whose timers are due.
    pub(crate) fn set_now(&mut self, now: Duration) {
        self.now = now;
        let instant = self.start + now;
        for port in &mut self.ports {
            if port.deadline.is_some_and(|deadline| deadline <= instant) {
                port.deadline = None;
                port.sleeper.take().expect("set with the deadline").wake();
            }
        }
    }

    /// The socket takes datagrams, or none any more.
    pub(crate) fn set_full(&mut self, at: usize, is_full: bool) {
        self.ports[at].is_full = is_full;
        if !is_full && let Some(writer) = self.ports[at].writer.take() {
            writer.wake();
        }
    }
}

pub(crate) struct MemoryIo {
    pub(crate) network: Arc<Mutex<Network>>,
    pub(crate) at: usize,
}

impl MemoryIo {
    pub(crate) fn new(network: &Arc<Mutex<Network>>, at: usize) -> (Self, Udp, SocketAddr) {
        let port = &network.lock().unwrap().ports[at];
        let udp = Udp::new(&*port.socket).expect("a socket");
        (Self { network: network.clone(), at }, udp, port.address)
    }
}

impl Io for MemoryIo {
    fn now(&self) -> Instant {
        let network = self.network.lock().unwrap();
        network.start + network.now
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>, udp: &mut Udp) -> Poll<io::Result<()>> {
        let mut network = self.network.lock().unwrap();
        let port = &mut network.ports[self.at];
        let Some((from, datagram)) = port.inbox.pop_front() else {
            port.reader = Some(cx.waker().clone());
            return Poll::Pending;
        };
        // A `Udp` receives from sockets only: one datagram at a time takes a detour over them.
        let (socket, to) = (port.socket.clone(), port.address);
        let meanwhile = port.meanwhile.take_if(|(others, _)| {
            let is_due = *others == 0;
            *others = others.saturating_sub(1);
            is_due
        });
        network.ports[from].socket.send_to(&datagram, to)?;
        drop(network);
        if let Some((_, meanwhile)) = meanwhile {
            meanwhile();
        }
        loop {
            match udp.receive(&*socket) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
                result => return Poll::Ready(result),
            }
        }
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        _: &Udp,
        transmit: &Transmit,
        datagrams: &[u8],
    ) -> Poll<io::Result<()>> {
        let mut network = self.network.lock().unwrap();
        let port = &mut network.ports[self.at];
        if port.is_full {
            port.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        port.sent_bytes += datagrams.len() as u64;
        let to = network.ports.iter_mut().find(|port| port.address == transmit.destination);
        let Some(to) = to else { return Poll::Ready(Ok(())) };
        let stride = transmit.segment_size.unwrap_or(datagrams.len());
        let datagrams = datagrams.chunks(stride).map(|datagram| (self.at, datagram.to_vec()));
        to.inbox.extend(datagrams);
        if let Some(reader) = to.reader.take() {
            reader.wake();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>, deadline: Option<Instant>) -> Poll<()> {
        let mut network = self.network.lock().unwrap();
        let now = network.start + network.now;
        let port = &mut network.ports[self.at];
        if deadline.is_some_and(|deadline| deadline <= now) {
            return Poll::Ready(());
        }
        (port.deadline, port.sleeper) = (deadline, Some(cx.waker().clone()));
        Poll::Pending
    }
}
