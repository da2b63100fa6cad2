//! What every adapter needs beside a socket and a timer: the loop that drives a [`Node`], and the
//! handles by which an application uses it from any thread.
//!
//! An adapter implements [`Io`] for its runtime's socket and timer, calls [`start`], and spawns the
//! [`Driver`], which is a future. That is all. The loop decides nothing about the protocol: it moves
//! datagrams, commands and events, and asks the node what to do next.

mod calls;
mod follow;
mod handle;
#[cfg(feature = "topology-file")]
mod topology_file;
mod udp;

pub use calls::{Call, OnlyCalls, Request, Route, Server, UnknownRoute};
pub use follow::{TopologySource, Unfollowed};
pub use handle::{Channel, NodeHandle, UnknownChannel};
#[cfg(feature = "topology-file")]
pub use topology_file::{LoadError, TOPOLOGY_POLL, TopologyFile, load_topology};
pub use udp::{Received, Udp};

use std::boxed::Box;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use std::vec::Vec;

use crate::broadcast::Filter;
use crate::config::Config;
use crate::id::{ChannelId, NodeId};
use crate::membership::Topology;
use crate::node::{Node, NodeError, NodeKey, Output};
use crate::time::Time;
use calls::Driven;
use handle::Shared;

/// Datagram batches received before the driver looks at what they caused.
const RECEIVES_MAX: usize = 4;

/// Rounds of receiving and sending before the driver lets other tasks run.
const ROUNDS_MAX: usize = 16;

/// A runtime's socket and timer, as the driver needs them. Methods follow the rules of
/// [`Future::poll`]: when they are not ready, they have arranged for a wake-up.
pub trait Io: Send + Unpin + 'static {
    /// The runtime's clock.
    fn now(&self) -> Instant;

    /// Receives datagrams with [`Udp::receive`] when the socket is readable.
    ///
    /// # Errors
    /// If the socket is broken: the driver ends.
    fn poll_receive(&mut self, cx: &mut Context<'_>, udp: &mut Udp) -> Poll<io::Result<()>>;

    /// Sends `datagrams` with [`Udp::send`] when the socket is writable.
    ///
    /// # Errors
    /// If the socket is broken: the driver ends.
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        udp: &Udp,
        transmit: &crate::node::Transmit,
        datagrams: &[u8],
    ) -> Poll<io::Result<()>>;

    /// Ready once `deadline` has passed; never, without one. A later call replaces the deadline.
    fn poll_timer(&mut self, cx: &mut Context<'_>, deadline: Option<Instant>) -> Poll<()>;
}

/// The rule of [`Future::poll`].
const RUNNING: &str = "a driver is not polled after its end";

/// What a node is made of.
pub struct Setup {
    key: NodeKey,
    config: Config,
    topology: Topology,
    filters: Vec<(ChannelId, Box<dyn Filter>)>,
    seed: Option<[u8; 32]>,
}

impl Setup {
    /// A node with this key and configuration, in this subnet.
    pub fn new(key: NodeKey, config: Config, topology: Topology) -> Self {
        Self { key, config, topology, filters: Vec::new(), seed: None }
    }

    /// Sets what decides about a channel's artifacts. Without a filter, all are fetched.
    #[must_use]
    pub fn filter(mut self, channel: ChannelId, filter: impl Filter + 'static) -> Self {
        self.filters.push((channel, Box::new(filter)));
        self
    }

    /// Sets the seed of all randomness in the node, which is else drawn from the system. It must be
    /// unpredictable for others, and different in each process.
    #[must_use]
    pub fn seed(mut self, seed: [u8; 32]) -> Self {
        self.seed = Some(seed);
        self
    }
}

impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setup").field("key", &self.key).finish_non_exhaustive()
    }
}

/// Why a node could not be started.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// The socket could not be bound or set up.
    Socket {
        /// The address asked for.
        address: SocketAddr,
        /// Why not.
        error: io::Error,
    },
    /// The configuration or topology does not hold together.
    Node(NodeError),
    /// A filter was set for a channel that the configuration does not have.
    UnknownChannel(ChannelId),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket { address, error } => write!(f, "cannot listen on {address}: {error}"),
            Self::Node(error) => error.fmt(f),
            Self::UnknownChannel(channel) => {
                write!(f, "filter for channel {}, which is not configured", channel.0)
            }
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Socket { error, .. } => Some(error),
            Self::Node(error) => Some(error),
            Self::UnknownChannel(_) => None,
        }
    }
}

impl From<NodeError> for StartError {
    fn from(error: NodeError) -> Self {
        Self::Node(error)
    }
}

/// Thirty-two unpredictable bytes from the operating system: for a new [`NodeKey`], or a seed.
///
/// # Panics
/// If the operating system has none to give.
pub fn random_bytes() -> [u8; 32] {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).expect("the operating system has random bytes");
    bytes
}

/// Makes a node over a bound socket: its handle, and the driver, which is to be spawned. `local` is
/// the socket's address.
///
/// # Errors
/// If the setup does not hold together.
pub fn start<I: Io>(
    setup: Setup,
    io: I,
    udp: Udp,
    local: SocketAddr,
) -> Result<(NodeHandle, Driver<I>), StartError> {
    let start = io.now();
    let seed = setup.seed.unwrap_or_else(random_bytes);
    let mut node = Node::new(setup.config, setup.key, setup.topology, seed, start)?;
    for (channel, filter) in setup.filters {
        if !node.set_filter(channel, filter) {
            return Err(StartError::UnknownChannel(channel));
        }
    }
    let shared = Arc::new(Shared::new(&node, local));
    let handle = NodeHandle::new(shared.clone());
    let driver = Driver {
        node,
        shared,
        driven: Driven::default(),
        io: Some(io),
        udp,
        start,
        unsent: None,
        buffer: Vec::new(),
    };
    Ok((handle, driver))
}

/// The loop of one node: a future that ends when the node has shut down.
#[must_use = "a node does nothing until its driver is polled"]
pub struct Driver<I> {
    node: Node,
    shared: Arc<Shared>,
    driven: Driven,
    /// Until the end: who waits for it may want to bind the address again.
    io: Option<I>,
    udp: Udp,
    start: Instant,
    /// Datagrams in `buffer` that the socket did not take yet.
    unsent: Option<crate::node::Transmit>,
    buffer: Vec<u8>,
}

/// How a round has ended.
enum Next {
    /// There may be more to do.
    Again,
    /// There is nothing to do until something wakes the driver.
    Sleep,
    /// The node has shut down.
    End,
}

impl<I> fmt::Debug for Driver<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("node", &self.node).finish_non_exhaustive()
    }
}

impl<I: Io> Driver<I> {
    /// The node's id.
    pub fn id(&self) -> NodeId {
        self.node.id()
    }

    fn now(&self) -> Time {
        let io = self.io.as_ref().expect(RUNNING);
        Time::ZERO + io.now().saturating_duration_since(self.start)
    }

    /// One round: commands, datagrams in, datagrams out, events.
    fn round(&mut self, cx: &mut Context<'_>) -> io::Result<Next> {
        let mut now = self.now();
        self.shared.take_commands(now, &mut self.node, &mut self.driven, cx.waker());
        let mut next = Next::Sleep;
        for _ in 0..RECEIVES_MAX {
            match self.io.as_mut().expect(RUNNING).poll_receive(cx, &mut self.udp) {
                Poll::Ready(result) => result?,
                Poll::Pending => break,
            }
            next = Next::Again;
            now = self.now();
            for Received { from, to, ecn, stride, datagrams } in self.udp.received() {
                self.node.handle_datagrams(now, from, to, ecn, stride, datagrams);
            }
        }
        let sent = self.send_all(cx, now)?;
        if self.shared.stage_events(now, self.start, &mut self.node, &mut self.driven) {
            next = Next::Again;
        }
        if self.node.is_closed() {
            return Ok(Next::End);
        }
        // While the socket is full, timers can wait: they would only want to send.
        if let Poll::Ready(wake_at) = sent {
            let deadline = || self.start + Duration::from_nanos(wake_at.0);
            let deadline = (wake_at < Time::NEVER).then(deadline);
            if self.io.as_mut().expect(RUNNING).poll_timer(cx, deadline).is_ready() {
                next = Next::Again;
            }
        }
        Ok(next)
    }

    /// Sends until the node is idle; not ready while the socket takes no more.
    fn send_all(&mut self, cx: &mut Context<'_>, now: Time) -> io::Result<Poll<Time>> {
        loop {
            let transmit = match self.unsent.take() {
                Some(transmit) => transmit,
                None => match self.node.poll(now, self.udp.segments_max(), &mut self.buffer) {
                    Output::Transmit(transmit) => transmit,
                    Output::Idle { wake_at, .. } => return Ok(Poll::Ready(wake_at)),
                },
            };
            let datagrams = &self.buffer[..transmit.size];
            match self.io.as_mut().expect(RUNNING).poll_send(cx, &self.udp, &transmit, datagrams) {
                Poll::Ready(result) => result?,
                Poll::Pending => {
                    self.unsent = Some(transmit);
                    return Ok(Poll::Pending);
                }
            }
        }
    }
}

impl<I: Io> Future for Driver<I> {
    type Output = io::Result<()>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        for _ in 0..ROUNDS_MAX {
            let result = match this.round(cx) {
                Ok(Next::Again) => continue,
                Ok(Next::Sleep) => return Poll::Pending,
                Ok(Next::End) => Ok(()),
                Err(error) => Err(error),
            };
            this.io = None;
            this.shared.close(result.as_ref().err().map(io::Error::kind));
            return Poll::Ready(result);
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<I> Drop for Driver<I> {
    /// A driver that its runtime drops, or that panics, leaves no handle waiting.
    fn drop(&mut self) {
        self.io = None;
        self.shared.close(std::thread::panicking().then_some(io::ErrorKind::Other));
    }
}
