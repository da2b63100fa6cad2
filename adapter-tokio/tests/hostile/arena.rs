//! Where they meet: a node under tokio and one under smol, which broadcast to and call each other
//! all the time, and a member that attacks one of them.

use std::future::Future;
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use slotcast_testkit::foe::{ALPN, Credentials, Foe, Line, Transport};
use slotcast_tokio::slotcast::config::Config;
use slotcast_tokio::slotcast::driver::DriverError;
use slotcast_tokio::slotcast::error::Fault;
use slotcast_tokio::slotcast::id::NodeId;
use slotcast_tokio::slotcast::membership::Topology;
use slotcast_tokio::slotcast::node::{Closed, NodeEvent, NodeKey, NodeStats};
use slotcast_tokio::{Call, NodeHandle, Setup};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::traffic::{serve, talk, watch_deliveries};
use crate::words::{ROUTE, config, hello};

/// Nothing here takes five seconds; a loaded machine may be slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// Rounds of each honest member that show that all goes on.
const ROUNDS: u64 = 3;

/// Codes with which connections are closed.
pub(crate) const NO_MEMBER: u64 = 2;
pub(crate) const FAULTS: u64 = 3;
pub(crate) const NO_HELLO: u64 = 4;

/// The nodes: either may be the one that is attacked.
pub(crate) const TOKIO: usize = 0;
pub(crate) const SMOL: usize = 1;

type DriverEnd = Pin<Box<dyn Future<Output = Result<(), DriverError>> + Send>>;

pub(crate) struct Arena {
    pub(crate) nodes: [NodeHandle; 2],
    pub(crate) victim: usize,
    config: Config,
    drivers: Vec<DriverEnd>,
    keys: [NodeKey; 2],
    foe_key: NodeKey,
    addresses: [SocketAddr; 2],
    /// Where the topology says that the foe is: nobody answers there.
    silence: UdpSocket,
    /// What the nodes have reported of others.
    told: [watch::Receiver<Vec<NodeEvent>>; 2],
    /// What of the foe has been delivered to the victim.
    taken: watch::Receiver<Vec<Vec<u8>>>,
    rounds: [watch::Receiver<u64>; 2],
    stop: Arc<AtomicBool>,
    traffic: Vec<JoinHandle<()>>,
}

pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(PATIENCE, future).await;
    waited.unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}"))
}

impl Arena {
    pub(crate) async fn start(victim: usize) -> Self {
        Self::with(victim, |_| ()).await
    }

    /// Two nodes, connected and at work.
    pub(crate) async fn with(victim: usize, change: impl FnOnce(&mut Config)) -> Self {
        // The foe's id is the lowest: it is not the others who dial it.
        let mut keys = [1, 2, 3].map(|n| NodeKey::from_seed([n; 32]));
        keys.sort_by_key(NodeKey::id);
        let [foe_key, keys @ ..] = keys;
        let mut config = config();
        change(&mut config);
        // Ports are known once they are bound, and so the topology comes after.
        let setup = |n: usize| Setup::new(keys[n].clone(), config.clone(), Topology::default());
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let bound = slotcast_tokio::bind_unspawned(setup(TOKIO), any);
        let (tokio_node, tokio_driver) = bound.expect("a free port");
        let bound = slotcast_smol::bind_unspawned(setup(SMOL), any);
        let (smol_node, smol_driver) = bound.expect("a free port");
        let silence = UdpSocket::bind(any).expect("a free port");
        let addresses = [tokio_node.local_address(), smol_node.local_address()];
        let nowhere = silence.local_addr().expect("bound");
        let members = [(&foe_key, nowhere), (&keys[0], addresses[0]), (&keys[1], addresses[1])];
        let topology = Topology::new(1, members.map(|(key, at)| (key.id(), vec![at])));
        let topology = topology.expect("distinct keys");
        let nodes = [tokio_node, smol_node];
        for node in &nodes {
            node.set_topology(topology.clone()).expect("the first one");
        }
        let on_smol = smol::spawn(smol_driver);
        let on_tokio = tokio::spawn(tokio_driver);
        // A driver that panics does so here, too.
        let drivers: Vec<DriverEnd> = vec![
            Box::pin(async { on_tokio.await.expect("drivers do not panic") }),
            Box::pin(on_smol),
        ];
        let mut told = nodes.each_ref().map(collect_events);
        for (at, told) in told.iter_mut().enumerate() {
            let up = NodeEvent::Up { peer: keys[1 - at].id() };
            let heard = within("connected", told.wait_for(|told| told.contains(&up))).await;
            heard.expect("the node runs");
        }
        let (taken_to, taken) = watch::channel(Vec::new());
        let stop = Arc::new(AtomicBool::new(false));
        let mut traffic = Vec::new();
        let rounds = [TOKIO, SMOL].map(|at| {
            let peer = keys[1 - at].id();
            let to_foe = (1 - at == victim).then(|| taken_to.clone());
            let seen = watch_deliveries(&nodes[1 - at], keys[at].id(), foe_key.id(), to_foe);
            let (told, rounds) = watch::channel(0);
            let stop = stop.clone();
            traffic.push(tokio::spawn(talk(nodes[at].clone(), peer, seen, told, stop)));
            rounds
        });
        for node in &nodes {
            serve(node);
        }
        let mut arena = Self {
            nodes,
            victim,
            config,
            drivers,
            keys,
            foe_key,
            addresses,
            silence,
            told,
            taken,
            rounds,
            stop,
            traffic,
        };
        arena.flows().await;
        arena
    }

    // Who attacks.

    pub(crate) fn foe_id(&self) -> NodeId {
        self.foe_key.id()
    }

    pub(crate) fn foe_key(&self) -> NodeKey {
        self.foe_key.clone()
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// The victim's address.
    pub(crate) fn address(&self) -> SocketAddr {
        self.addresses[self.victim]
    }

    pub(crate) fn foe(&self) -> Foe {
        self.foe_with(Transport::default())
    }

    /// The hostile member, with such bounds of its own.
    pub(crate) fn foe_with(&self, transport: Transport) -> Foe {
        Foe::new(Credentials::Raw(self.foe_key.clone()), ALPN, transport)
    }

    /// A connection of the hostile member to its victim, before any hello.
    pub(crate) async fn dial(&self, foe: &Foe) -> Line {
        within("a handshake", foe.connect(self.address())).await.expect("it is a member")
    }

    /// The same after the hellos: the victim has taken it on.
    pub(crate) async fn greet(&mut self, foe: &Foe) -> Line {
        let line = self.dial(foe).await;
        let ups = self.connections();
        line.write(&hello()).await;
        self.until("taken on", |arena| arena.connections() > ups).await;
        line
    }

    // What comes of it.

    pub(crate) fn stats(&self) -> NodeStats {
        self.nodes[self.victim].stats()
    }

    fn connections(&self) -> u64 {
        self.stats().connections
    }

    pub(crate) fn is_up(&self) -> bool {
        self.nodes[self.victim].peers_up().contains(&self.foe_id())
    }

    /// The honest members' broadcasts and calls go on.
    pub(crate) async fn flows(&mut self) {
        self.flows_for(ROUNDS).await;
    }

    pub(crate) async fn flows_for(&mut self, more: u64) {
        for rounds in &mut self.rounds {
            // The round that is under way does not count.
            let goal = *rounds.borrow() + 1 + more;
            let reached = within("honest members go on", rounds.wait_for(|n| *n >= goal)).await;
            reached.expect("honest members do not give up");
        }
    }

    /// Waits until it is so; looks after every round of the honest members.
    pub(crate) async fn until(&mut self, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        let wait = async {
            while !is_so(self) {
                self.flows_for(0).await;
            }
        };
        within(what, wait).await;
    }

    /// Waits for a report of the victim.
    pub(crate) async fn told(&mut self, what: &str, is_it: impl Fn(&NodeEvent) -> bool) {
        let told = &mut self.told[self.victim];
        let heard = within(what, told.wait_for(|told| told.iter().any(&is_it))).await;
        heard.expect("the node runs");
    }

    /// How often the foe broke a rule, as the victim has reported, and which one last.
    pub(crate) fn faults(&self) -> (u32, Option<Fault>) {
        let foe = self.foe_id();
        let told = self.told[self.victim].borrow();
        told.iter().fold((0, None), |(sum, last), event| match event {
            NodeEvent::Fault { peer, fault, count } if *peer == foe => (sum + count, Some(*fault)),
            _ => (sum, last),
        })
    }

    /// Waits for the report of the foe's `count`th breach, which is of this rule.
    pub(crate) async fn fault(&mut self, what: &str, count: u32, fault: Fault) {
        self.until(what, |arena| arena.faults().0 >= count).await;
        assert_eq!(self.faults(), (count, Some(fault)), "{what}");
    }

    /// Waits for the foe to be cut off, and shows that it is not let in again.
    pub(crate) async fn cut_off(&mut self, line: &Line) {
        within("cut off", line.closed(FAULTS)).await;
        let down = NodeEvent::Down { peer: self.foe_id(), why: Closed::CutOff };
        self.told("cut off", |event| *event == down).await;
        let again = self.dial(&self.foe()).await;
        again.write(&hello()).await;
        within("refused", again.closed(NO_MEMBER)).await;
        assert!(!self.is_up());
    }

    /// Waits for a report of refusals, and tells of how many handshakes.
    pub(crate) async fn refused(&mut self) -> u64 {
        self.told("refused", |event| matches!(event, NodeEvent::Refused { .. })).await;
        self.reports_of_refusals().iter().map(|(handshakes, _)| handshakes).sum()
    }

    /// What the victim has reported of strangers: handshakes and datagrams.
    pub(crate) fn reports_of_refusals(&self) -> Vec<(u64, u64)> {
        let told = self.told[self.victim].borrow();
        let refused = |event: &NodeEvent| match event {
            NodeEvent::Refused { handshakes, datagrams } => Some((*handshakes, *datagrams)),
            _ => None,
        };
        told.iter().filter_map(refused).collect()
    }

    /// What of the foe was delivered to the victim's application.
    pub(crate) fn taken(&self) -> Vec<Vec<u8>> {
        self.taken.borrow().clone()
    }

    pub(crate) async fn taken_is(&mut self, what: &str, is_it: impl Fn(&[Vec<u8>]) -> bool) {
        within(what, self.taken.wait_for(|taken| is_it(taken))).await.expect("the node runs");
    }

    /// The victim calls the foe.
    pub(crate) fn ask_foe(&self, body: &[u8]) -> Call {
        let route = self.nodes[self.victim].route(ROUTE).expect("configured");
        route.try_call(self.foe_id(), body.to_vec()).expect("it is connected")
    }

    /// The foe is no member any more.
    pub(crate) fn drop_foe(&self) {
        let members = [TOKIO, SMOL].map(|at| (self.keys[at].id(), vec![self.addresses[at]]));
        let topology = Topology::new(2, members).expect("distinct keys");
        for node in &self.nodes {
            node.set_topology(topology.clone()).expect("a newer one");
        }
    }

    /// All goes on to the end, and both nodes end well: without a panic, and without ever having
    /// lost each other.
    pub(crate) async fn end(mut self) -> NodeStats {
        self.flows().await;
        self.stop.store(true, Relaxed);
        for traffic in self.traffic {
            within("the end of a round", traffic).await.expect("all was answered and delivered");
        }
        let stats = self.nodes[self.victim].stats();
        for (at, driver) in self.drivers.into_iter().enumerate() {
            within("shutdown", self.nodes[at].shutdown()).await.expect("the socket is sound");
            within("closed", self.nodes[at].closed()).await.expect("the socket is sound");
            within("the driver's end", driver).await.expect("the socket is sound");
        }
        drop(self.silence);
        let foe = self.foe_key.id();
        for told in &self.told {
            let is_bad = |event: &&NodeEvent| match event {
                NodeEvent::Down { peer, why } => *peer != foe && *why != Closed::Shutdown,
                NodeEvent::Fault { peer, .. } => *peer != foe,
                _ => false,
            };
            assert_eq!(told.borrow().iter().find(is_bad), None, "of honest members");
        }
        stats
    }
}

fn collect_events(node: &NodeHandle) -> watch::Receiver<Vec<NodeEvent>> {
    let (told, receiver) = watch::channel(Vec::new());
    let node = node.clone();
    tokio::spawn(async move {
        while let Some(event) = node.next_event().await {
            told.send_modify(|told: &mut Vec<_>| told.push(event));
        }
    });
    receiver
}
