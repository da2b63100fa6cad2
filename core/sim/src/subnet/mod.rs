//! Participants, their clocks and sockets. `run` moves all of them through time, `faults` is what happens to
//! them, and `events` takes what nodes have to say to the application.

mod events;
mod faults;
mod run;

use std::collections::VecDeque;
use std::fmt;
use std::time::Instant;

use crate::Crypto;
use crate::application::{Application, Context, address};
use crate::clock::Clock;
use crate::fault::{FaultCounts, FaultKind};
use crate::network::{Datagram, Network};
use crate::process::Process;
use crate::processor::Processor;
use crate::setup::{Setup, keys};
use crate::trace::{Trace, What};
use slotcast::config::Config;
use slotcast::id::NodeId;
use slotcast::internals::Random;
use slotcast::membership::{Membership, Topology};
use slotcast::node::{Node, NodeKey};
use slotcast::time::Time;

enum Resident {
    Nobody,
    Node(Box<Node>),
    Other(Box<dyn Process>),
}

struct Place {
    key: NodeKey,
    config: Option<Config>,
    membership: Membership,
    clock: Clock,
    /// The port that others see, and reach it by.
    port: u16,
    resident: Resident,
    starts: u32,
    /// When the resident is to be polled, by the simulator's time.
    wake_at: Time,
    /// When the application wants to be called, by the node's clock.
    application_at: Time,
    /// Does nothing before.
    stalled_until: Time,
    /// Its application takes no events before.
    deaf_until: Time,
    /// What arrived while it did nothing.
    socket: VecDeque<Datagram>,
    socket_bytes: usize,
    /// Without one, nothing takes time.
    processor: Option<Processor>,
    polls: u64,
}

/// A subnet of whole nodes, in virtual time.
///
/// Nothing happens but by a call: [`Subnet::run`] and its like deliver datagrams in the order of
/// their arrival and let time jump from one arrival or wake-up to the next. After each input and
/// command a node is polled until it is idle, and its application is told what there is to be told.
pub struct Subnet<A> {
    /// The application of all nodes.
    pub application: A,
    /// The network.
    pub network: Network,
    places: Vec<Place>,
    /// The ids of the participants, by place.
    ids: Vec<NodeId>,
    members: usize,
    now: Time,
    start: Instant,
    crypto: Crypto,
    random: Random,
    version: u64,
    trace: Trace,
    faults: FaultCounts,
    scope: Option<Box<dyn FnMut(Option<usize>)>>,
    buffer: Vec<u8>,
}

impl<A> fmt::Debug for Subnet<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subnet").field("now", &self.now).finish_non_exhaustive()
    }
}

impl<A: Application> Subnet<A> {
    /// All members, started at time zero.
    ///
    /// # Panics
    /// If a configuration does not hold together.
    pub fn new(setup: Setup, application: A) -> Self {
        let mut subnet = Self::stopped(setup, application);
        (0..subnet.members).for_each(|at| subnet.start(at));
        subnet
    }

    /// The same, before any of them is started.
    pub fn stopped(setup: Setup, application: A) -> Self {
        #[allow(clippy::disallowed_methods, reason = "an origin that nothing depends on")]
        let start = Instant::now();
        let mut random = Random::new(setup.seed);
        let (members, strangers) = (setup.configs.len(), setup.strangers);
        let mut configs = setup.configs.into_iter();
        let place = |key| Place {
            key,
            config: configs.next(),
            membership: Membership::new(Topology::default()),
            clock: Clock::default(),
            port: address(0).port(),
            resident: Resident::Nobody,
            starts: 0,
            wake_at: Time::NEVER,
            application_at: Time::NEVER,
            stalled_until: Time::ZERO,
            deaf_until: Time::ZERO,
            socket: VecDeque::new(),
            socket_bytes: 0,
            processor: None,
            polls: 0,
        };
        let keys = keys(members, strangers);
        let mut network = Network::new(keys.len(), setup.link, random.bits());
        for at in 0..keys.len() {
            *network.uplink(at) = setup.uplink;
            *network.downlink(at) = setup.downlink;
        }
        let mut subnet = Self {
            ids: keys.iter().map(NodeKey::id).collect(),
            application,
            network,
            places: keys.into_iter().map(place).collect(),
            members,
            now: Time::ZERO,
            start,
            crypto: setup.crypto,
            random,
            version: 0,
            trace: Trace::default(),
            faults: FaultCounts::default(),
            scope: None,
            buffer: Vec::new(),
        };
        let topology = subnet.topology(0..members);
        let membership = Membership::new(topology);
        subnet.places.iter_mut().for_each(|place| place.membership = membership.clone());
        subnet
    }

    /// Has `scope` called whenever the code of a node (at this place) is entered, and with `None`
    /// when it is left: a counting allocator can tell whose memory it is.
    pub fn set_scope(&mut self, scope: impl FnMut(Option<usize>) + 'static) {
        self.scope = Some(Box::new(scope));
    }

    // Getters.

    /// The simulator's time, which is that of no node in particular.
    pub fn now(&self) -> Time {
        self.now
    }

    /// How many members there are: their places come first.
    pub fn members(&self) -> usize {
        self.members
    }

    /// The key of the participant at a place.
    pub fn key(&self, at: usize) -> &NodeKey {
        &self.places[at].key
    }

    /// The id of the participant at a place.
    pub fn id(&self, at: usize) -> NodeId {
        self.places[at].key.id()
    }

    /// The place of a participant.
    pub fn place_of(&self, node: &NodeId) -> Option<usize> {
        self.places.iter().position(|place| place.key.id() == *node)
    }

    /// The node that runs at a place.
    pub fn node(&self, at: usize) -> Option<&Node> {
        match &self.places[at].resident {
            Resident::Node(node) => Some(node),
            _ => None,
        }
    }

    /// The configuration of a member.
    ///
    /// # Panics
    /// If the place is a stranger's.
    pub fn config(&self, at: usize) -> &Config {
        self.places[at].config.as_ref().expect("a member's place")
    }

    /// How connections are protected.
    pub fn crypto(&self) -> Crypto {
        self.crypto
    }

    /// The instant of [`Time::ZERO`] on every clock, for participants that talk to QUIC themselves.
    pub fn start_instant(&self) -> Instant {
        self.start
    }

    /// How often a node was polled: for a datagram, a command, an event taken, or its timer.
    pub fn polls(&self, at: usize) -> u64 {
        self.places[at].polls
    }

    /// Whether each of two nodes takes the other as connected.
    pub fn is_up(&self, a: usize, b: usize) -> bool {
        let sees = |a: usize, b: usize| {
            let id = self.id(b);
            self.node(a).is_some_and(|node| node.peers_up().any(|peer| peer == id))
        };
        sees(a, b) && sees(b, a)
    }

    /// How often each kind of fault has acted, in the network and in nodes.
    pub fn faults(&self) -> FaultCounts {
        let mut faults = self.faults;
        faults.add(self.network.faults());
        faults
    }

    /// What has happened.
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// What has happened, to have it kept.
    pub fn trace_mut(&mut self) -> &mut Trace {
        &mut self.trace
    }

    // Participants.

    /// A topology of these members, with the next version.
    ///
    /// # Panics
    /// If a place is named twice.
    pub fn topology(&mut self, members: impl IntoIterator<Item = usize>) -> Topology {
        self.version += 1;
        let member = |at: usize| (self.places[at].key.id(), std::vec![address(at)]);
        let members: Vec<_> = members.into_iter().map(member).collect();
        Topology::new(self.version, members).expect("each once, with an address")
    }

    /// Has a node follow a topology instead of those that it follows, now and after restarts.
    ///
    /// # Panics
    /// If the node runs and follows a later one, or its configuration does not allow so many members.
    pub fn follow(&mut self, at: usize, topology: &Topology) {
        let topology = topology.clone();
        let runs = self.node(at).is_some();
        self.change(at, |membership| match runs {
            true => membership.replace(topology).expect("no step backwards"),
            false => *membership = Membership::new(topology),
        });
    }

    /// Has a node follow a topology beside those that it follows, now and after restarts.
    ///
    /// # Panics
    /// If it cannot be added, or the node's configuration does not allow so many members.
    pub fn follow_too(&mut self, at: usize, topology: &Topology) {
        let topology = topology.clone();
        self.change(at, |membership| membership.add(topology).expect("a topology that fits"));
    }

    /// Has a node follow topologies below this version no longer.
    pub fn retire(&mut self, at: usize, oldest: u64) {
        self.change(at, |membership| membership.retire(oldest));
    }

    fn change(&mut self, at: usize, change: impl FnOnce(&mut Membership)) {
        let own = self.id(at);
        let mut membership = self.places[at].membership.clone();
        let was = membership.addresses(&own).is_some();
        change(&mut membership);
        let is = membership.addresses(&own).is_some();
        if was != is {
            self.trace.note(self.now, at, What::Member(is));
            if !is {
                self.faults.note(FaultKind::Leave);
            }
        }
        self.places[at].membership = membership.clone();
        let now = self.clock(at);
        self.with_node(at, |node| node.follow(now, membership).expect("one that fits"));
    }

    /// Starts a node at a member's place, instead of whatever is there.
    ///
    /// # Panics
    /// If its configuration does not hold together.
    pub fn start(&mut self, at: usize) {
        self.start_as(at, self.places[at].key.clone());
    }

    /// The same with another key than the place's: a member that has moved, or an impostor. All else
    /// knows the place by its own key.
    ///
    /// # Panics
    /// If its configuration does not hold together.
    pub fn start_as(&mut self, at: usize, key: NodeKey) {
        let mut seed = [0; 32];
        seed.chunks_mut(8).for_each(|word| word.copy_from_slice(&self.random.bits().to_le_bytes()));
        self.remove(at);
        let place = &mut self.places[at];
        let membership = place.membership.clone();
        let config = place.config.clone().expect("a member's place");
        place.starts += 1;
        let count = place.starts;
        self.enter(Some(at));
        let latest = membership.latest().clone();
        let crypto = self.crypto.of_node(&key, &seed);
        let node = Node::simulated(config, key, latest, seed, self.start, crypto);
        let mut node = Box::new(node.expect("a valid setup"));
        if membership.versions().len() > 1 {
            node.follow(Time::ZERO, membership).expect("one that fits");
        }
        if self.application.watches_written() {
            node.watch_written();
        }
        self.enter(None);
        self.trace.note(self.now, at, What::Started(count));
        self.places[at].resident = Resident::Node(node);
        self.places[at].wake_at = self.now;
        self.call(at, |application, context| application.start(context));
    }

    /// Puts a participant of another kind in a place, instead of whatever is there.
    pub fn install(&mut self, at: usize, process: Box<dyn Process>) {
        self.remove(at);
        self.places[at].resident = Resident::Other(process);
        self.places[at].wake_at = self.now;
    }

    /// Ends a node without a word, as the fault `kind`: the application may keep or forget what
    /// the node had.
    pub fn crash(&mut self, at: usize, kind: FaultKind) {
        self.trace.note(self.now, at, What::Crashed);
        self.faults.note(kind);
        self.remove(at);
    }

    fn remove(&mut self, at: usize) {
        self.enter(Some(at));
        self.places[at].resident = Resident::Nobody;
        self.enter(None);
        let place = &mut self.places[at];
        place.wake_at = Time::NEVER;
        place.application_at = Time::NEVER;
        place.stalled_until = Time::ZERO;
        place.deaf_until = Time::ZERO;
        place.socket.clear();
        place.socket_bytes = 0;
    }

    /// Gives commands to a node that runs. `None` if none does.
    pub fn command<T>(
        &mut self,
        at: usize,
        command: impl FnOnce(&mut A, &mut Context<'_>) -> T,
    ) -> Option<T> {
        self.wake(at);
        self.call(at, command)
    }

    /// Looks at a node that runs. `None` if none does.
    pub fn inspect<T>(&mut self, at: usize, look: impl FnOnce(&mut A, &Node) -> T) -> Option<T> {
        match &self.places[at].resident {
            Resident::Node(node) => Some(look(&mut self.application, node)),
            _ => None,
        }
    }

    fn with_node(&mut self, at: usize, command: impl FnOnce(&mut Node)) {
        self.enter(Some(at));
        if let Resident::Node(node) = &mut self.places[at].resident {
            command(node);
        }
        self.enter(None);
        self.wake(at);
    }

    /// Calls the application about a node that runs.
    fn call<T>(
        &mut self,
        at: usize,
        command: impl FnOnce(&mut A, &mut Context<'_>) -> T,
    ) -> Option<T> {
        let clock = self.clock(at);
        let place = &mut self.places[at];
        let Resident::Node(node) = &mut place.resident else { return None };
        let mut touched = false;
        let mut context = Context {
            at,
            time: self.now,
            clock,
            node,
            ids: &self.ids,
            trace: &mut self.trace,
            wake_at: &mut place.application_at,
            touched: &mut touched,
        };
        Some(command(&mut self.application, &mut context))
    }

    fn enter(&mut self, at: Option<usize>) {
        if let Some(scope) = &mut self.scope {
            scope(at);
        }
    }

    /// All nodes, in words.
    pub fn state(&self) -> String {
        let node = |(at, place): (usize, &Place)| {
            let wake_at = place.wake_at;
            match &place.resident {
                Resident::Nobody => format!("{at}: not running\n"),
                Resident::Other(_) => format!("{at}: not one of our nodes, wakes at {wake_at:?}\n"),
                Resident::Node(node) => {
                    let up = node.peers_up().count();
                    format!("{at}: {up} up, wakes at {wake_at:?}, {:?}\n", node.stats())
                }
            }
        };
        let nodes: String = self.places.iter().enumerate().map(node).collect();
        format!("{:?}, {} datagrams on their way\n{nodes}", self.now, self.network.in_flight())
    }
}
