//! Drivers over plain memory: sockets that complete operations as io_uring does, a clock that only
//! the test moves, and an executor that polls what was woken. Nothing in here is `Send`.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use slotcast::config::{ChannelConfig, Config, RouteConfig};
use slotcast::driver::{Driver, Io, NodeHandle, Receive, Received, Setup, start};
use slotcast::id::{ChannelId, NodeId, RouteId};
use slotcast::membership::Topology;
use slotcast::node::{Ecn, NodeKey, SocketBuffers, Transmit};

pub(crate) const CHANNEL: ChannelId = ChannelId(1);
pub(crate) const ROUTE: RouteId = RouteId(7);

/// Operations that a socket has in hand at a time.
const IN_FLIGHT_MAX: usize = 128;

pub(crate) fn config() -> Config {
    Config::new([ChannelConfig::new(CHANNEL)]).routes([RouteConfig::new(ROUTE, "route")])
}

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
    /// It does not complete [`Io::poll_close`].
    pub(crate) hangs_at_close: bool,
    pub(crate) close_was_polled: bool,
    pub(crate) is_dropped: bool,
    pub(crate) sent_bytes: usize,
    pub(crate) received_batches: usize,
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
    pub(crate) fn socket(&self, at: usize) -> std::cell::RefMut<'_, Socket> {
        self.sockets[at].borrow_mut()
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.elapsed.get()
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.elapsed.set(self.elapsed.get() + by);
    }

    fn now(&self) -> Instant {
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
            let batches = std::mem::take(&mut sender.sending);
            if !batches.is_empty() {
                sender.wake();
            }
            drop(sender);
            for batch in batches {
                let to = usize::from(batch.to.port()) - 1000;
                let Some(socket) = self.sockets.get(to) else { continue };
                let mut socket = socket.borrow_mut();
                socket.inbox.push_back(batch);
                socket.wake();
            }
        }
    }
}

/// One socket of a [`Network`].
pub(crate) struct MemoryIo {
    network: Rc<Network>,
    at: usize,
}

impl MemoryIo {
    /// A network with so many sockets.
    pub(crate) fn network(sockets: usize) -> Rc<Network> {
        let sockets = (0..sockets).map(|_| RefCell::default()).collect();
        #[allow(clippy::disallowed_methods, reason = "any instant will do to count from")]
        let start = Instant::now();
        Rc::new(Network { start, elapsed: Cell::default(), tick: Cell::default(), sockets })
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
        if let Some(kind) = socket.receive_errors.pop_front() {
            return Poll::Ready(Err(kind.into()));
        }
        if socket.inbox.is_empty() {
            socket.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        while let Some(batch) = socket.inbox.pop_front() {
            socket.received_batches += 1;
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

#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

struct Task {
    driver: Pin<Box<Driver<MemoryIo>>>,
    flag: Arc<Flag>,
    is_stopped: bool,
}

/// Nodes with their drivers.
pub(crate) struct Subnet {
    pub(crate) network: Rc<Network>,
    pub(crate) nodes: Vec<NodeHandle>,
    tasks: Vec<Option<Task>>,
    /// How the drivers have ended.
    pub(crate) results: Vec<Option<io::Result<()>>>,
}

impl Subnet {
    pub(crate) fn new(nodes: usize, config: &Config) -> Self {
        Self::over(MemoryIo::network(nodes), config)
    }

    /// Nodes over a network that was prepared.
    pub(crate) fn over(network: Rc<Network>, config: &Config) -> Self {
        let count = network.sockets.len();
        let key = |at: usize| NodeKey::from_seed([at as u8 + 1; 32]);
        let members = (0..count).map(|at| (key(at).id(), vec![address(at)]));
        let topology = Topology::new(1, members).unwrap();
        let (mut nodes, mut tasks) = (Vec::new(), Vec::new());
        for at in 0..count {
            let setup = Setup::new(key(at), config.clone(), topology.clone()).seed([at as u8; 32]);
            let io = MemoryIo { network: network.clone(), at };
            let (node, driver) = start(setup, io, address(at)).unwrap();
            let flag = Arc::new(Flag(AtomicBool::new(true)));
            nodes.push(node);
            tasks.push(Some(Task { driver: Box::pin(driver), flag, is_stopped: false }));
        }
        Self { network, nodes, tasks, results: (0..count).map(|_| None).collect() }
    }

    /// Two nodes that are connected.
    pub(crate) fn connected() -> Self {
        let mut subnet = Self::new(2, &config());
        subnet.run_until("connected", Duration::from_secs(5), |subnet| {
            subnet.nodes.iter().all(|node| node.peers_up().len() == 1)
        });
        subnet
    }

    pub(crate) fn id(&self, at: usize) -> NodeId {
        self.nodes[at].id()
    }

    /// A node whose process is stopped runs no more; datagrams still reach its socket.
    pub(crate) fn stop(&mut self, at: usize) {
        self.tasks[at].as_mut().unwrap().is_stopped = true;
    }

    pub(crate) fn go_on(&mut self, at: usize) {
        let task = self.tasks[at].as_mut().unwrap();
        task.is_stopped = false;
        task.flag.0.store(true, Ordering::SeqCst);
    }

    /// As a runtime does that ends.
    pub(crate) fn drop_driver(&mut self, at: usize) {
        self.tasks[at] = None;
    }

    /// Polls one driver once, whether it was woken or not. True if it wants to go on at once.
    pub(crate) fn poll(&mut self, at: usize) -> bool {
        let Some(task) = &mut self.tasks[at] else { return false };
        task.flag.0.store(false, Ordering::SeqCst);
        let waker = Waker::from(task.flag.clone());
        if let Poll::Ready(result) = task.driver.as_mut().poll(&mut Context::from_waker(&waker)) {
            self.results[at] = Some(result);
            self.tasks[at] = None;
            return false;
        }
        task.flag.0.load(Ordering::SeqCst)
    }

    /// Polls what was woken, and completes what sockets were given. True if there was anything.
    fn step(&mut self) -> bool {
        let mut any = false;
        for at in 0..self.tasks.len() {
            let is_woken = self.tasks[at]
                .as_ref()
                .is_some_and(|task| !task.is_stopped && task.flag.0.load(Ordering::SeqCst));
            if is_woken {
                self.poll(at);
                any = true;
            }
        }
        self.network.complete();
        any
    }

    /// The next deadline of a node that runs.
    fn deadline(&self) -> Option<Instant> {
        let running = self
            .tasks
            .iter()
            .enumerate()
            .filter(|(_, task)| task.as_ref().is_some_and(|task| !task.is_stopped));
        running.filter_map(|(at, _)| self.network.socket(at).deadline).min()
    }

    /// Lets everything happen, and time pass, until `is_done`.
    pub(crate) fn run_until(
        &mut self,
        what: &str,
        within: Duration,
        mut is_done: impl FnMut(&Self) -> bool,
    ) {
        let end = self.network.elapsed() + within;
        assert!(self.run(end, &mut is_done), "not {what} within {within:?}");
    }

    /// Lets everything happen for some time.
    pub(crate) fn elapse(&mut self, time: Duration) {
        let end = self.network.elapsed() + time;
        self.run(end, &mut |_| false);
    }

    fn run(&mut self, end: Duration, is_done: &mut dyn FnMut(&Self) -> bool) -> bool {
        loop {
            if is_done(self) {
                return true;
            }
            if self.step() {
                continue;
            }
            let now = self.network.elapsed();
            let deadline = self.deadline().map(|deadline| deadline - self.network.start);
            match deadline.filter(|deadline| *deadline <= end) {
                None => {
                    self.network.elapsed.set(now.max(end));
                    return false;
                }
                Some(deadline) => self.network.elapsed.set(now.max(deadline)),
            }
            for at in 0..self.tasks.len() {
                let mut socket = self.network.socket(at);
                if socket
                    .deadline
                    .is_some_and(|at| at - self.network.start <= now.max(deadline.unwrap()))
                {
                    socket.deadline = None;
                    socket.wake();
                }
            }
        }
    }
}

/// Asks a future whether it is ready.
pub(crate) fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}
