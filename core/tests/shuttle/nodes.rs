//! Nodes whose drivers are tasks of shuttle, over sockets in memory. Time stands still once they are connected.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use shuttle::future::{JoinHandle, block_on, spawn};
use shuttle::thread;
use slotcast::config::{ChannelConfig, Config, RouteConfig};
use slotcast::driver::{
    Channel, Driver, DriverError, Io, NodeHandle, Receive, Received, Route, Setup, start,
};
use slotcast::id::{ChannelId, NodeId, RouteId};
use slotcast::membership::Topology;
use slotcast::node::{Ecn, NodeKey, Transmit};

const CHANNEL: ChannelId = ChannelId(1);
const ROUTE: RouteId = RouteId(1);

struct Datagrams {
    from: SocketAddr,
    ecn: Option<Ecn>,
    stride: usize,
    bytes: Vec<u8>,
}

#[derive(Default)]
struct Inbox {
    datagrams: VecDeque<Datagrams>,
    waker: Option<Waker>,
}

/// Its locks are held by nobody who is overtaken, so shuttle need not see them.
struct Network {
    now: Mutex<Instant>,
    inboxes: Vec<Mutex<Inbox>>,
}

impl Network {
    fn new(sockets: usize) -> Arc<Self> {
        #[allow(clippy::disallowed_methods, reason = "any instant will do to count from")]
        let now = Mutex::new(Instant::now());
        Arc::new(Self { now, inboxes: (0..sockets).map(|_| Mutex::default()).collect() })
    }
}

fn address(at: usize) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 1000 + at as u16))
}

pub(crate) struct MemoryIo {
    network: Arc<Network>,
    at: usize,
}

impl Io for MemoryIo {
    fn now(&self) -> Instant {
        *self.network.now.lock().expect("nobody panics")
    }

    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        receive: &mut Receive<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut inbox = self.network.inboxes[self.at].lock().expect("nobody panics");
            let Some(datagrams) = inbox.datagrams.pop_front() else {
                inbox.waker = Some(cx.waker().clone());
                return Poll::Pending;
            };
            drop(inbox);
            let Datagrams { from, ecn, stride, bytes } = datagrams;
            let received = Received { from, to: None, ecn, stride, datagrams: &bytes };
            if let ControlFlow::Break(()) = receive(received) {
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn poll_send(
        &mut self,
        _: &mut Context<'_>,
        transmit: &Transmit,
        buffer: &mut Vec<u8>,
    ) -> Poll<io::Result<()>> {
        let to = usize::from(transmit.destination.port()) - 1000;
        let mut inbox = self.network.inboxes[to].lock().expect("nobody panics");
        inbox.datagrams.push_back(Datagrams {
            from: address(self.at),
            ecn: transmit.ecn,
            stride: transmit.datagram_size(),
            bytes: buffer[..transmit.size].to_vec(),
        });
        let waker = inbox.waker.take();
        drop(inbox);
        waker.into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(()))
    }

    fn poll_timer(&mut self, _: &mut Context<'_>, deadline: Option<Instant>) -> Poll<()> {
        if deadline.is_some_and(|at| at <= self.now()) { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// A node and the task that drives it, which is dropped with this.
pub(crate) struct Node {
    pub(crate) handle: NodeHandle,
    driver: JoinHandle<Result<(), DriverError>>,
}

impl Node {
    pub(crate) fn id(&self) -> NodeId {
        self.handle.key_id()
    }

    pub(crate) fn channel(&self) -> Channel {
        self.handle.channel(CHANNEL).expect("configured")
    }

    pub(crate) fn route(&self) -> Route {
        self.handle.route(ROUTE).expect("configured")
    }

    /// As when the runtime drops its tasks.
    pub(crate) fn drop_driver(&self) {
        self.driver.abort();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.drop_driver();
    }
}

pub(crate) fn channel_config() -> ChannelConfig {
    ChannelConfig::new(CHANNEL)
}

pub(crate) fn route_config() -> RouteConfig {
    RouteConfig::new(ROUTE, "route")
}

fn make(nodes: usize, config: &Config) -> (Arc<Network>, Vec<(NodeHandle, Driver<MemoryIo>)>) {
    let network = Network::new(nodes);
    let keys: Vec<_> = (1..=nodes).map(|n| NodeKey::from_seed([n as u8; 32])).collect();
    let members = keys.iter().enumerate().map(|(at, key)| (key.id(), vec![address(at)]));
    let topology = Topology::new(1, members).expect("each once");
    let made = keys.into_iter().enumerate().map(|(at, key)| {
        let setup = Setup::new(key, config.clone(), topology.clone()).seed([at as u8; 32]);
        let setup = if nodes == 1 { setup.loopback() } else { setup };
        let io = MemoryIo { network: network.clone(), at };
        start(setup, io, address(at)).expect("a sound setup")
    });
    let made = made.collect();
    (network, made)
}

fn run((handle, driver): (NodeHandle, Driver<MemoryIo>)) -> Node {
    Node { handle, driver: spawn(driver) }
}

/// A node that tells itself of its own artifacts.
pub(crate) fn solo(channel: ChannelConfig) -> Node {
    solo_of(&Config::new([channel]))
}

/// The same with room for so many events between the driver and those who take them.
pub(crate) fn solo_staging(events: u32, channel: ChannelConfig) -> Node {
    let mut config = Config::new([channel]);
    config.driver.staged_events_max = events;
    solo_of(&config)
}

fn solo_of(config: &Config) -> Node {
    let (_, mut made) = make(1, config);
    run(made.pop().expect("one"))
}

/// Two nodes that are connected.
pub(crate) fn pair(route: RouteConfig) -> [Node; 2] {
    let (network, mut made) = make(2, &Config::new([channel_config()]).routes([route]));
    while made.iter().any(|(node, _)| node.peers_up().is_empty()) {
        for (_, driver) in &mut made {
            assert!(pin!(driver).poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        *network.now.lock().expect("nobody panics") += Duration::from_millis(1);
    }
    let second = made.pop().expect("two");
    [run(made.pop().expect("two")), run(second)]
}

/// Polls a future twice, with others in between, and drops it. What it gave, if it did.
pub(crate) fn poll_twice<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    for _ in 0..2 {
        let polled = block_on(poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))));
        if let Poll::Ready(output) = polled {
            return Some(output);
        }
        thread::yield_now();
    }
    None
}
