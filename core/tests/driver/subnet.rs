//! Nodes with their drivers on one thread, and the executor that polls who was woken.

use std::boxed::Box;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;
use std::vec;
use std::vec::Vec;

use slotcast::config::{ChannelConfig, Config, RouteConfig};
use slotcast::driver::{Channel, Driver, DriverError, NodeHandle, Route, Server, Setup, start};
use slotcast::id::{ChannelId, NodeId, RouteId};
use slotcast::membership::Topology;
use slotcast::node::NodeKey;

use super::network::{MemoryIo, Network, address};

pub(crate) const CHANNEL: ChannelId = ChannelId(1);
pub(crate) const ROUTE: RouteId = RouteId(7);

/// Turns of the executor at one point in time, beyond which something spins.
const TURNS_MAX: usize = 1_000_000;

pub(crate) const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// One channel and one route.
pub(crate) fn config() -> Config {
    Config::new([ChannelConfig::new(CHANNEL)]).routes([RouteConfig::new(ROUTE, "route")])
}

/// Whether somebody was woken, and how often so far.
struct Flag(AtomicBool, AtomicUsize);

impl Flag {
    fn raised() -> Arc<Self> {
        Arc::new(Self(AtomicBool::new(true), AtomicUsize::default()))
    }

    fn lower(&self) -> bool {
        self.0.swap(false, SeqCst)
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, SeqCst);
        self.1.fetch_add(1, SeqCst);
    }
}

struct Task {
    driver: Option<Pin<Box<Driver<MemoryIo>>>>,
    flag: Arc<Flag>,
    is_stopped: bool,
    /// How the driver has ended.
    result: Option<Result<(), DriverError>>,
}

/// Nodes that are members to each other.
pub(crate) struct Subnet {
    pub(crate) network: Rc<Network>,
    pub(crate) nodes: Vec<Option<NodeHandle>>,
    ids: Vec<NodeId>,
    tasks: Vec<Task>,
}

impl Subnet {
    /// Nodes over a network, one for each socket, that have not run yet.
    pub(crate) fn new(network: &Rc<Network>, config: &Config) -> Self {
        Self::with(network, config, |_, key, config, topology| Setup::new(key, config, topology))
    }

    /// The same with what `setup` makes of each.
    pub(crate) fn with(
        network: &Rc<Network>,
        config: &Config,
        setup: impl Fn(usize, NodeKey, Config, Topology) -> Setup,
    ) -> Self {
        let count = network.len();
        let keys: Vec<_> = (1..=count).map(|n| NodeKey::from_seed([n as u8; 32])).collect();
        let ids: Vec<NodeId> = keys.iter().map(NodeKey::id).collect();
        let members = ids.iter().enumerate().map(|(at, id)| (*id, vec![address(at)]));
        let topology = Topology::new(1, members).expect("each once");
        let (mut nodes, mut tasks) = (Vec::new(), Vec::new());
        for (at, key) in keys.into_iter().enumerate() {
            let setup = setup(at, key, config.clone(), topology.clone()).seed([at as u8; 32]);
            let io = MemoryIo::new(network, at);
            let (node, driver) = start(setup, io, address(at)).expect("a sound setup");
            let driver = Some(Box::pin(driver));
            nodes.push(Some(node));
            tasks.push(Task { driver, flag: Flag::raised(), is_stopped: false, result: None });
        }
        Self { network: network.clone(), nodes, ids, tasks }
    }

    /// So many nodes that are connected.
    pub(crate) fn connected(nodes: usize, config: &Config) -> Self {
        let mut subnet = Self::new(&Network::new(nodes), config);
        subnet.until("all are connected", |subnet| {
            (0..nodes).all(|at| subnet.node(at).peers_up().len() == nodes - 1)
        });
        subnet
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
        self.tasks[at].driver.is_none()
    }

    /// How a driver has ended, if it has come to its end.
    pub(crate) fn result(&self, at: usize) -> Option<&Result<(), DriverError>> {
        self.tasks[at].result.as_ref()
    }

    /// The runtime drops a driver.
    pub(crate) fn drop_driver(&mut self, at: usize) {
        self.tasks[at].driver = None;
    }

    /// A node whose process is stopped runs no more; datagrams still reach its socket.
    pub(crate) fn stop(&mut self, at: usize) {
        self.tasks[at].is_stopped = true;
    }

    pub(crate) fn go_on(&mut self, at: usize) {
        self.tasks[at].is_stopped = false;
        self.tasks[at].flag.clone().wake();
    }

    /// How often a driver was woken.
    pub(crate) fn wakes(&self, at: usize) -> usize {
        self.tasks[at].flag.1.load(SeqCst)
    }

    /// Polls one driver once, whether it was woken or not. True if it wants to go on at once.
    pub(crate) fn poll(&mut self, at: usize) -> bool {
        let task = &mut self.tasks[at];
        let Some(driver) = &mut task.driver else { return false };
        task.flag.lower();
        let waker = Waker::from(task.flag.clone());
        if let Poll::Ready(result) = driver.as_mut().poll(&mut Context::from_waker(&waker)) {
            task.result = Some(result);
            task.driver = None;
            return false;
        }
        task.flag.0.load(SeqCst)
    }

    /// Polls those who were woken once, and completes what sockets were given. False if nobody was
    /// woken.
    pub(crate) fn turn(&mut self) -> bool {
        let mut any = false;
        for at in 0..self.tasks.len() {
            let task = &self.tasks[at];
            if task.driver.is_some() && !task.is_stopped && task.flag.lower() {
                any = true;
                self.poll(at);
            }
        }
        self.network.complete();
        any
    }

    /// Polls whoever was woken, until nobody is. Time stands still.
    pub(crate) fn settle(&mut self) {
        let is_settled = (0..TURNS_MAX).any(|_| !self.turn());
        assert!(is_settled, "somebody is woken for ever");
    }

    /// Settles; unless somebody is woken for it, goes on to the next deadline of a node that runs, and
    /// settles again. False at the end.
    fn step(&mut self, end: Duration, is_woken: impl Fn() -> bool) -> bool {
        self.settle();
        let now = self.network.elapsed();
        if is_woken() || now >= end {
            return is_woken();
        }
        let runs = |at: &usize| !self.tasks[*at].is_stopped && self.tasks[*at].driver.is_some();
        let deadlines = (0..self.tasks.len()).filter(runs);
        let next = deadlines.filter_map(|at| self.network.deadline(at)).min();
        self.network.go_on_to(next.map_or(end, |next| next.min(end)));
        self.settle();
        true
    }

    /// Lets so much time pass.
    pub(crate) fn elapse(&mut self, span: Duration) {
        let end = self.network.elapsed() + span;
        while self.step(end, || false) {}
    }

    /// Lets time pass until it is done, which has to be within a span.
    pub(crate) fn until_within(
        &mut self,
        span: Duration,
        what: &str,
        mut is_done: impl FnMut(&Self) -> bool,
    ) {
        let end = self.network.elapsed() + span;
        self.settle();
        while !is_done(self) {
            assert!(self.step(end, || false), "not within {span:?}: {what}");
        }
    }

    /// Lets time pass until it is done, ten seconds at most.
    pub(crate) fn until(&mut self, what: &str, is_done: impl FnMut(&Self) -> bool) {
        self.until_within(ms(10_000), what, is_done);
    }

    /// Polls a future when it was woken, and lets time pass, ten seconds at most.
    pub(crate) fn run<F: Future>(&mut self, future: F) -> F::Output {
        let mut future = pin!(future);
        let flag = Flag::raised();
        let waker = Waker::from(flag.clone());
        let end = self.network.elapsed() + ms(10_000);
        loop {
            if flag.lower()
                && let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker))
            {
                return output;
            }
            assert!(self.step(end, || flag.0.load(SeqCst)), "not within 10 s");
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

    pub(crate) fn is_woken(&self) -> bool {
        self.flag.0.load(SeqCst)
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
