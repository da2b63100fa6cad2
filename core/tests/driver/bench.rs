//! Nodes with their drivers, and the executor that polls who was woken.

use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use slotcast::config::{ChannelConfig, Config, RouteConfig};
use slotcast::driver::{Channel, Driver, NodeHandle, Route, Server, Setup, start};
use slotcast::id::{ChannelId, NodeId, RouteId};
use slotcast::membership::Topology;
use slotcast::node::NodeKey;

use crate::io::{MemoryIo, Network};

pub(crate) const CHANNEL: ChannelId = ChannelId(1);
pub(crate) const ROUTE: RouteId = RouteId(7);

/// Turns of an executor at one point in time, beyond which something spins.
const TURNS_MAX: usize = 1_000_000;

pub(crate) const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// One channel and one route.
pub(crate) fn config() -> Config {
    Config::new([ChannelConfig::new(CHANNEL)]).routes([RouteConfig::new(ROUTE, "route")])
}

/// Whether somebody was woken.
pub(crate) struct Flag(AtomicBool);

impl Flag {
    pub(crate) fn raised() -> Arc<Self> {
        Arc::new(Self(AtomicBool::new(true)))
    }

    pub(crate) fn lower(&self) -> bool {
        self.0.swap(false, SeqCst)
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, SeqCst);
    }
}

struct Running {
    driver: Option<Pin<Box<Driver<MemoryIo>>>>,
    flag: Arc<Flag>,
}

/// Nodes that are members to each other.
pub(crate) struct Bench {
    pub(crate) network: Arc<Mutex<Network>>,
    pub(crate) nodes: Vec<Option<NodeHandle>>,
    ids: Vec<NodeId>,
    drivers: Vec<Running>,
}

impl Bench {
    /// So many nodes that are connected.
    pub(crate) fn new(nodes: usize, config: &Config) -> Self {
        let network = Network::new(nodes);
        let keys: Vec<_> = (1..=nodes).map(|n| NodeKey::from_seed([n as u8; 32])).collect();
        let ports = network.lock().unwrap().ports.iter().map(|port| port.address).collect();
        let ports: Vec<std::net::SocketAddr> = ports;
        let members = keys.iter().zip(&ports).map(|(key, at)| (key.id(), vec![*at]));
        let topology = Topology::new(1, members).expect("each once");
        let mut bench = Self {
            network: network.clone(),
            nodes: Vec::new(),
            ids: keys.iter().map(NodeKey::id).collect(),
            drivers: Vec::new(),
        };
        for (at, key) in keys.iter().enumerate() {
            let (io, udp, address) = MemoryIo::new(&network, at);
            let setup = Setup::new(key.clone(), config.clone(), topology.clone());
            let setup = setup.seed([at as u8; 32]);
            let (handle, driver) = start(setup, io, udp, address).expect("a sound setup");
            bench.nodes.push(Some(handle));
            bench.drivers.push(Running { driver: Some(Box::pin(driver)), flag: Flag::raised() });
        }
        bench.until("all are connected", |bench| {
            (0..nodes).all(|at| bench.node(at).peers_up().len() == nodes - 1)
        });
        bench
    }

    pub(crate) fn node(&self, at: usize) -> &NodeHandle {
        self.nodes[at].as_ref().expect("not dropped")
    }

    pub(crate) fn id(&self, at: usize) -> NodeId {
        self.ids[at]
    }

    pub(crate) fn channel(&self, at: usize) -> Channel {
        self.node(at).channel(CHANNEL).expect("configured")
    }

    pub(crate) fn route(&self, at: usize) -> Route {
        self.node(at).route(ROUTE).expect("configured")
    }

    pub(crate) fn serve(&self, at: usize) -> Server {
        self.route(at).serve().expect("it serves")
    }

    pub(crate) fn has_ended(&self, at: usize) -> bool {
        self.drivers[at].driver.is_none()
    }

    /// The runtime drops a driver.
    pub(crate) fn drop_driver(&mut self, at: usize) {
        self.drivers[at].driver = None;
    }

    /// Polls those who were woken once. False if nobody was.
    pub(crate) fn turn(&mut self) -> bool {
        let mut any = false;
        for Running { driver, flag } in &mut self.drivers {
            let Some(running) = driver.as_mut().filter(|_| flag.lower()) else { continue };
            any = true;
            let waker = Waker::from(flag.clone());
            if let Poll::Ready(end) = running.as_mut().poll(&mut Context::from_waker(&waker)) {
                end.expect("no socket is broken");
                *driver = None;
            }
        }
        any
    }

    /// Polls whoever was woken, until nobody is. Time stands still.
    pub(crate) fn settle(&mut self) {
        let is_settled = (0..TURNS_MAX).any(|_| !self.turn());
        assert!(is_settled, "somebody is woken for ever");
    }

    /// Lets so much time pass.
    pub(crate) fn elapse(&mut self, span: Duration) {
        let end = self.network.lock().unwrap().now + span;
        while self.step(end) {}
    }

    /// Settles, and goes on to the next deadline. False at the end.
    fn step(&mut self, end: Duration) -> bool {
        self.settle();
        let mut network = self.network.lock().unwrap();
        let now = network.now;
        let next = network.next_deadline().map_or(end, |next| next.clamp(now, end));
        network.set_now(next);
        now < end
    }

    /// Lets time pass until it is done, which has to be within ten seconds.
    pub(crate) fn until(&mut self, what: &str, is_done: impl Fn(&Self) -> bool) {
        let end = self.network.lock().unwrap().now + ms(10_000);
        while !is_done(self) {
            assert!(self.step(end), "not within 10 s: {what}");
        }
    }

    /// Polls a future when it was woken, and lets time pass, ten seconds at most.
    pub(crate) fn run<F: Future>(&mut self, future: F) -> F::Output {
        let mut future = pin!(future);
        let flag = Flag::raised();
        let waker = Waker::from(flag.clone());
        let end = self.network.lock().unwrap().now + ms(10_000);
        loop {
            if flag.lower()
                && let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker))
            {
                return output;
            }
            assert!(self.step(end), "not within 10 s");
        }
    }
}

/// A future that somebody waits for elsewhere.
pub(crate) struct Waiting<F> {
    future: Pin<Box<F>>,
    flag: Arc<Flag>,
}

impl<F: Future> Waiting<F> {
    pub(crate) fn new(future: F) -> Self {
        Self { future: Box::pin(future), flag: Flag::raised() }
    }

    /// Its output, if it was woken for it.
    pub(crate) fn poll(&mut self) -> Option<F::Output> {
        if !self.flag.lower() {
            return None;
        }
        let waker = Waker::from(self.flag.clone());
        match self.future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }
}
