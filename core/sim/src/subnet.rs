//! Participants, their clocks and sockets, and the loop that moves all of them through time.

use core::time::Duration;
use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::time::Instant;

use super::application::{Application, Context, Sent, address, place};
use super::clock::Clock;
use super::fault::{FaultCounts, FaultKind};
use super::network::{Datagram, Network};
use super::process::Process;
use super::processor::{self, Processor};
use super::setup::{Setup, keys};
use super::trace::{Trace, What};
use crate::Crypto;
use slotcast::broadcast::Event;
use slotcast::config::Config;
use slotcast::id::{ChannelId, NodeId};
use slotcast::internals::Random;
use slotcast::membership::{Membership, Topology};
use slotcast::node::{Node, NodeEvent, NodeKey, Output};
use slotcast::time::Time;

/// Steps at one point in time beyond which something spins (invariant 9).
const STEPS_MAX: u32 = 50_000;

/// Bytes that the socket of a node that does nothing holds; what comes then is lost. As much as
/// systems give a UDP socket by default.
const SOCKET_BYTES_MAX: usize = 212_992;

/// Datagrams in a batch that a node hands to its socket.
const SEGMENTS_MAX: usize = 10;

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

    /// A participant does nothing for so long: what arrives waits in its socket.
    pub fn stall(&mut self, at: usize, span: Duration) {
        let until = self.now + span;
        self.faults.note(FaultKind::Stall);
        self.trace.note(self.now, at, What::Stalled(until));
        self.places[at].stalled_until = until;
        self.places[at].wake_at = until;
    }

    /// Has the work of a node take time from now on: so much for a thousand units, as
    /// [`WorkConfig`](slotcast::config::WorkConfig) counts them. Who takes part otherwise is as fast as ever.
    pub fn set_processor(&mut self, at: usize, per_thousand: Duration) {
        let mut processor = Processor::new(per_thousand);
        if let Some(node) = self.node(at) {
            processor.take(node);
        }
        self.places[at].processor = Some(processor);
    }

    /// A node's application takes no events for so long.
    pub fn deafen(&mut self, at: usize, span: Duration) {
        let until = self.now + span;
        self.faults.note(FaultKind::Deaf);
        self.trace.note(self.now, at, What::Deaf(until));
        self.places[at].deaf_until = until;
    }

    /// A node's application takes events again, before its time.
    pub fn undeafen(&mut self, at: usize) {
        self.places[at].deaf_until = self.now;
        self.trace.note(self.now, at, What::Deaf(self.now));
        self.wake(at);
    }

    /// A participant's clock jumps, forwards or backwards.
    pub fn jump_clock(&mut self, at: usize, nanoseconds: i64) {
        let (now, by) = (self.now, Duration::from_nanos(nanoseconds.unsigned_abs()));
        let clock = &mut self.places[at].clock;
        let kind = match nanoseconds >= 0 {
            true => FaultKind::ClockForward,
            false => FaultKind::ClockBack,
        };
        match nanoseconds >= 0 {
            true => clock.forward(now, by),
            false => clock.back(now, by),
        }
        self.faults.note(kind);
        self.trace.note(now, at, What::ClockJumped(nanoseconds));
        self.wake(at);
    }

    /// A participant's clock runs so many millionths faster, or slower, from now on.
    ///
    /// # Panics
    /// If it would run backwards.
    pub fn drift_clock(&mut self, at: usize, drift: i32) {
        let now = self.now;
        self.places[at].clock.drift(now, drift);
        if drift != 0 {
            self.faults.note(FaultKind::ClockDrift);
        }
        self.trace.note(now, at, What::ClockDrifts(drift));
        self.wake(at);
    }

    /// The NAT before a participant gives it another port: what it sends comes from there, and what is
    /// sent to the one before is lost. Topologies still name the first one.
    pub fn rebind(&mut self, at: usize) {
        self.places[at].port += 1;
    }

    /// Who is reached at an address.
    fn listener(&self, destination: SocketAddr) -> Option<usize> {
        let at = place(SocketAddr::new(destination.ip(), address(0).port()))?;
        let is_reached = self.places.get(at)?.port == destination.port();
        is_reached.then_some(at)
    }

    /// Cuts all links between two groups, in both directions.
    pub fn cut(&mut self, a: &[usize], b: &[usize]) {
        self.network.cut(a, b);
        for (a, b) in a.iter().flat_map(|a| b.iter().map(move |b| (*a, *b))) {
            self.trace.note(self.now, a, What::Cut(Some((b as u16, true))));
        }
    }

    /// Cuts one direction between two participants.
    pub fn cut_one_way(&mut self, from: usize, to: usize) {
        self.network.cut_one_way(from, to);
        self.trace.note(self.now, from, What::Cut(Some((to as u16, false))));
    }

    /// Takes all cuts back.
    pub fn heal(&mut self) {
        self.network.heal();
        self.trace.note(self.now, 0, What::Cut(None));
    }

    /// Puts a datagram on the wire in the name of the participant at `from`.
    pub fn inject(&mut self, from: usize, to: usize, datagram: &[u8]) {
        self.network.send(self.now, from, to, None, datagram);
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

    // Time.

    /// What the clock at a place shows.
    pub fn clock(&self, at: usize) -> Time {
        self.places[at].clock.at(self.now)
    }

    /// Lets things take their course until `is_done`, or `end`. Whether it is done.
    ///
    /// # Panics
    /// If a participant spins, so that time stands still.
    pub fn run(&mut self, end: Time, mut is_done: impl FnMut(&mut Self) -> bool) -> bool {
        let mut steps = 0;
        loop {
            self.step();
            if is_done(self) {
                return true;
            }
            let next = self.next_at();
            if next > end {
                self.now = self.now.max(end);
                return false;
            }
            steps = if next <= self.now { steps + 1 } else { 0 };
            assert!(steps < STEPS_MAX, "invariant 9: time stands still\n{}", self.state());
            self.now = self.now.max(next);
        }
    }

    /// Lets things take their course until `is_done`; the time that took.
    ///
    /// # Panics
    /// After `limit`, with the state of all nodes.
    pub fn run_until(
        &mut self,
        what: &str,
        limit: Duration,
        mut is_done: impl FnMut(&mut Self) -> bool,
    ) -> Duration {
        let begun = self.now;
        let in_time = self.run(begun + limit, &mut is_done);
        assert!(in_time, "not within {limit:?}: {what}\n{}", self.state());
        self.now.since(begun)
    }

    /// Lets so much time pass.
    pub fn elapse(&mut self, span: Duration) {
        self.run(self.now + span, |_| false);
    }

    fn next_at(&self) -> Time {
        let due = self.places.iter().map(|place| place.wake_at);
        due.fold(self.network.next_at(), Time::min)
    }

    /// Everything that is due by now.
    fn step(&mut self) {
        while let Some(datagram) = self.network.arrived(self.now) {
            let place = &mut self.places[datagram.to];
            let bytes_max = match place.processor {
                Some(_) => processor::SOCKET_BYTES_MAX,
                None => SOCKET_BYTES_MAX,
            };
            if place.stalled_until <= self.now && place.processor.is_none() {
                self.hand_over(datagram);
            } else if place.socket_bytes + datagram.bytes.len() <= bytes_max {
                let at = datagram.to;
                place.socket_bytes += datagram.bytes.len();
                place.socket.push_back(datagram);
                if self.places[at].processor.is_some() {
                    self.wake(at);
                }
            }
        }
        for at in 0..self.places.len() {
            if self.places[at].wake_at <= self.now {
                while !self.has_slice(at)
                    && let Some(datagram) = self.places[at].socket.pop_front()
                {
                    self.places[at].socket_bytes -= datagram.bytes.len();
                    self.hand_over(datagram);
                }
                let input_waits = !self.places[at].socket.is_empty();
                if let Resident::Node(node) = &mut self.places[at].resident {
                    node.set_input_waits(input_waits);
                }
                self.poll(at);
                self.take_time(at);
            }
        }
    }

    /// Whether a node with a processor has received as much as it does at a time.
    fn has_slice(&self, at: usize) -> bool {
        match (&self.places[at].processor, self.node(at)) {
            (Some(processor), Some(node)) => processor.has_slice(node),
            _ => false,
        }
    }

    /// What a node with a processor has done takes time.
    fn take_time(&mut self, at: usize) {
        let place = &mut self.places[at];
        let (Some(processor), Resident::Node(node)) = (&mut place.processor, &place.resident)
        else {
            return;
        };
        let free_at = self.now + processor.take(node);
        place.stalled_until = place.stalled_until.max(free_at);
        let wake_at = if place.socket.is_empty() { place.wake_at } else { self.now };
        place.wake_at = wake_at.max(place.stalled_until);
    }

    fn hand_over(&mut self, datagram: Datagram) {
        let Datagram { from, to, ecn, bytes } = datagram;
        self.application.handle_received(&Sent { time: self.now, from, to, bytes: &bytes });
        self.enter(Some(to));
        let source = SocketAddr::new(address(from).ip(), self.places[from].port);
        let now = self.clock(to);
        match &mut self.places[to].resident {
            Resident::Nobody => {}
            Resident::Node(node) => {
                node.handle_datagrams(now, source, None, ecn, bytes.len(), &bytes);
            }
            Resident::Other(process) => process.handle_datagram(now, source, ecn, &bytes),
        }
        self.enter(None);
        self.wake(to);
    }

    /// Has a participant polled at the next step, unless it does nothing. For who has something of
    /// a [`Process`] in hand, too, and has it act between steps.
    pub(crate) fn wake(&mut self, at: usize) {
        let place = &mut self.places[at];
        if !matches!(place.resident, Resident::Nobody) {
            place.wake_at = self.now.max(place.stalled_until);
        }
    }

    fn poll(&mut self, at: usize) {
        match self.places[at].resident {
            Resident::Nobody => self.places[at].wake_at = Time::NEVER,
            Resident::Node(_) => self.poll_node(at),
            Resident::Other(_) => self.poll_other(at),
        }
    }

    fn poll_other(&mut self, at: usize) {
        let now = self.clock(at);
        let Self { places, network, trace, application, .. } = self;
        let time = self.now;
        let Resident::Other(process) = &mut places[at].resident else { return };
        let wake_at = process.poll(now, &mut |destination, datagram| {
            let Some(to) = place(destination) else { return };
            trace.note_datagram(time, at, to, datagram.len());
            application.handle_sent(&Sent { time, from: at, to, bytes: datagram });
            network.send(time, at, to, None, datagram);
        });
        let place = &mut places[at];
        place.wake_at = place.clock.when(wake_at);
    }

    /// Polls a node to idle and takes its events.
    fn poll_node(&mut self, at: usize) {
        self.places[at].polls += 1;
        if self.places[at].application_at <= self.clock(at) {
            self.places[at].application_at = Time::NEVER;
            self.call(at, |application, context| application.wake(context));
        }
        loop {
            let idle_until = self.drain(at);
            let place = &mut self.places[at];
            place.wake_at = place.clock.when(idle_until.min(place.application_at));
            if place.deaf_until > self.now {
                place.wake_at = place.wake_at.min(place.deaf_until);
                return;
            }
            if !self.take_events(at) {
                return;
            }
            if self.places[at].processor.is_some() {
                // What has arrived meanwhile comes before what this leads to.
                self.places[at].wake_at = self.now;
                return;
            }
        }
    }

    /// Sends what a node has to send; when it is to be polled again, by its clock.
    fn drain(&mut self, at: usize) -> Time {
        let mut buffer = std::mem::take(&mut self.buffer);
        let now = self.clock(at);
        let wake_at = loop {
            self.enter(Some(at));
            let Resident::Node(node) = &mut self.places[at].resident else { break Time::NEVER };
            let output = node.poll(now, SEGMENTS_MAX, &mut buffer);
            let is_closed = node.is_closed();
            let written = node.take_written();
            self.enter(None);
            self.tell_written(at, written);
            match output {
                Output::Transmit(transmit) => {
                    assert_eq!(transmit.size, buffer.len(), "all that is in the buffer");
                    let Some(to) = self.listener(transmit.destination) else { continue };
                    for datagram in buffer.chunks(transmit.segment_size.unwrap_or(transmit.size)) {
                        self.trace.note_datagram(self.now, at, to, datagram.len());
                        let sent = Sent { time: self.now, from: at, to, bytes: datagram };
                        self.application.handle_sent(&sent);
                        self.network.send(self.now, at, to, transmit.ecn, datagram);
                    }
                }
                Output::Idle { .. } if is_closed => break Time::NEVER,
                Output::Idle { wake_at, .. } => break wake_at,
            }
        };
        self.buffer = buffer;
        wake_at
    }

    fn tell_written(&mut self, at: usize, written: Vec<(NodeId, Vec<u8>)>) {
        for (node, bytes) in written {
            if let Some(to) = self.place_of(&node) {
                let written = Sent { time: self.now, from: at, to, bytes: &bytes };
                self.application.handle_written(&written);
            }
        }
    }

    /// Hands the application all there is to be told. Whether that was anything, or led to
    /// commands.
    fn take_events(&mut self, at: usize) -> bool {
        let mut any = false;
        let channels = self.config(at).channels.len();
        for channel in 0..channels {
            let channel = self.config(at).channels[channel].id;
            while let Some(event) = self.next_event(at, channel) {
                any = true;
                self.note_event(at, channel, &event);
                self.call(at, |application, context| {
                    application.handle_event(context, channel, event);
                });
            }
        }
        any |= self.take_calls(at);
        while let Some(event) = self.next_node_event(at) {
            self.note_node_event(at, event);
            any |= self
                .call(at, |application, context| {
                    application.handle_node_event(context, event);
                    *context.touched
                })
                .unwrap_or(false);
        }
        any
    }

    /// Hands the application requests, and what became of calls. Whether there was anything.
    fn take_calls(&mut self, at: usize) -> bool {
        let mut any = false;
        for route in 0..self.config(at).routes.len() {
            let route = self.config(at).routes[route].id;
            while self.application.takes_requests(at, route)
                && let Some(request) = self.pull(at, |node| node.poll_request(route))
            {
                any = true;
                self.call(at, |application, context| {
                    application.handle_request(context, route, request);
                });
            }
        }
        while let Some(cancelled) = self.pull(at, Node::poll_cancelled) {
            any = true;
            self.call(at, |application, context| {
                application.handle_cancelled(context, cancelled.request);
            });
        }
        while let Some(request) = self.pull(at, Node::poll_reserved) {
            any = true;
            self.call(at, |application, context| application.handle_reserved(context, request));
        }
        while let Some(outcome) = self.pull(at, Node::poll_outcome) {
            any = true;
            self.call(at, |application, context| application.handle_outcome(context, outcome));
        }
        any
    }

    fn next_event(&mut self, at: usize, channel: ChannelId) -> Option<Event> {
        self.pull(at, |node| node.poll_event(channel))
    }

    fn next_node_event(&mut self, at: usize) -> Option<NodeEvent> {
        self.pull(at, Node::poll_node_event)
    }

    /// Takes something from a node that runs.
    fn pull<T>(&mut self, at: usize, pull: impl FnOnce(&mut Node) -> Option<T>) -> Option<T> {
        self.enter(Some(at));
        let pulled = match &mut self.places[at].resident {
            Resident::Node(node) => pull(node),
            _ => None,
        };
        self.enter(None);
        pulled
    }

    fn note_event(&mut self, at: usize, channel: ChannelId, event: &Event) {
        let place = |node: &NodeId| self.place_of(node).map_or(u16::MAX, |at| at as u16);
        let what = match event {
            Event::Delivered { artifact, from } => {
                What::Delivered(channel, artifact.id(), place(from))
            }
            Event::Withdrawn { id, by } => What::Withdrawn(channel, *id, place(by)),
            Event::Expired { id } => What::Expired(channel, *id),
            Event::Covered { id, by } => What::Covered(channel, *id, *by),
            event => panic!("not known to traces: {event:?}"),
        };
        self.trace.note(self.now, at, what);
    }

    fn note_node_event(&mut self, at: usize, event: NodeEvent) {
        let place = |node: &NodeId| self.place_of(node).map_or(u16::MAX, |at| at as u16);
        let what = match &event {
            NodeEvent::Up { peer } => What::Up(place(peer)),
            NodeEvent::Down { peer, .. } => What::Down(place(peer)),
            NodeEvent::Fault { peer, fault, .. } => What::Breach(place(peer), *fault),
            NodeEvent::Refused { .. }
            | NodeEvent::Behind { .. }
            | NodeEvent::CaughtUp { .. }
            | NodeEvent::Twin { .. }
            | NodeEvent::KeyInUse { .. } => {
                return;
            }
            event => panic!("not known to traces: {event:?}"),
        };
        self.trace.note(self.now, at, what);
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
