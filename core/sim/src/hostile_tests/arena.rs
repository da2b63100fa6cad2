//! A simulated subnet of three: the victim, an honest peer of it, and a hostile member that does
//! what the test says. The last two have nothing to do with each other.

use std::cell::{Ref, RefCell, RefMut};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use quinn_proto::{StreamId, TransportConfig as QuicTransport};

use super::{CHANNEL, ROUTE, artifact, config, hello, ms};
use crate::hostile::bare::{BareEvent, BarePeer, LineId};
use crate::{Application, Context, Link, Process, Setup, Subnet};
use slotcast::artifact::Artifact;
use slotcast::broadcast::Event;
use slotcast::config::Config;
use slotcast::error::{CallError, Fault};
use slotcast::id::{ChannelId, NodeId, RouteId};
use slotcast::node::{self, Closed, Ecn, Node, NodeEvent, NodeStats};
use slotcast::rpc::{CallId, Outcome, Refusal, RequestId};
use slotcast::time::Time;
use slotcast::wire::{Item, Request, StreamDecoder, StreamHead};

// Places. Of two members, the one at the lower place dials: a hostile member is at the first one or
// at the last.
pub(super) const DIALLER: usize = 0;
pub(super) const VICTIM: usize = 1;
pub(super) const HONEST: usize = 2;
pub(super) const LISTENER: usize = 3;

/// The subnet, with what tests of one hostile member want beside what the simulator offers.
pub(super) type Arena = Subnet<Witness>;

/// The member that breaks the rules. One connection at a time.
pub(super) struct Hostile {
    pub(super) bare: BarePeer,
    pub(super) place: usize,
    line: Option<LineId>,
    /// Of each stream of the victim, what has arrived.
    pub(super) read: BTreeMap<StreamId, Vec<u8>>,
    pub(super) reads: bool,
    is_lost: bool,
}

impl Hostile {
    /// Knows of no connection any more.
    pub(super) fn forget(&mut self) {
        self.line = None;
        self.read.clear();
        self.is_lost = false;
    }

    pub(super) fn line(&self) -> LineId {
        self.line.expect("connected")
    }
}

/// The simulator polls it, and the test acts through it.
impl Process for Rc<RefCell<Hostile>> {
    fn handle_datagram(&mut self, now: Time, from: SocketAddr, ecn: Option<Ecn>, datagram: &[u8]) {
        self.borrow_mut().bare.handle_datagram(now, from, ecn, datagram);
    }

    fn poll(&mut self, now: Time, send: &mut dyn FnMut(SocketAddr, &[u8])) -> Time {
        let hostile = &mut *self.borrow_mut();
        loop {
            hostile.bare.serve(now);
            while let Some(event) = hostile.bare.next_event() {
                match event {
                    BareEvent::Connected { line, .. } => {
                        hostile.forget();
                        hostile.line = Some(line);
                    }
                    BareEvent::Lost { line } => hostile.is_lost |= hostile.line == Some(line),
                    BareEvent::Stopped { .. } => {}
                }
            }
            if let Some(line) = hostile.line.filter(|_| hostile.reads) {
                hostile.bare.read(line, None, |stream, bytes| {
                    hostile.read.entry(stream).or_default().extend(bytes.unwrap_or_default());
                });
            }
            if !hostile.bare.transmit(now, send) {
                return hostile.bare.wake_at();
            }
        }
    }
}

/// What came of it.
pub(super) struct Witness {
    hostile: Option<Rc<RefCell<Hostile>>>,
    honest: NodeId,
    /// What the victim has reported of the hostile peer, since the test took it.
    told: Vec<NodeEvent>,
    /// Artifacts delivered to each place, with their senders.
    delivered: [Vec<(Artifact, NodeId)>; 4],
    /// Requests that were handed over to each place, with the sender; those of the hostile member
    /// are kept if it `keeps`, all others answered.
    pub(super) requests: [Vec<node::Request>; 4],
    pub(super) keeps: bool,
    pub(super) cancelled: usize,
    /// What became of calls.
    pub(super) outcomes: Vec<(CallId, Time, Result<Bytes, CallError>)>,
    /// Of the artifact published last to show that all is well.
    number: u8,
}

impl Application for Witness {
    fn start(&mut self, node: &mut Context<'_>) {
        node.serve(ROUTE, true);
    }

    fn handle_request(&mut self, node: &mut Context<'_>, _: RouteId, request: node::Request) {
        let at = node.at();
        if !self.keeps || at != VICTIM || request.from == self.honest {
            let asked = request.body.first_chunk().map_or(0, |first| u64::from_be_bytes(*first));
            let length = asked.min(request.answer_bytes_max.into()) as usize;
            node.answer(request.id, vec![7; length].into()).expect("within bounds");
        }
        self.requests[at].push(request);
    }

    fn handle_cancelled(&mut self, node: &mut Context<'_>, request: RequestId) {
        self.cancelled += 1;
        node.refuse(request, Refusal::Dropped);
    }

    fn handle_outcome(&mut self, node: &mut Context<'_>, outcome: Outcome) {
        self.outcomes.push((outcome.call, node.time(), outcome.result));
    }

    fn handle_event(&mut self, node: &mut Context<'_>, _: ChannelId, event: Event) {
        if let Event::Delivered { artifact, from } = event {
            self.delivered[node.at()].push((artifact, from));
        }
    }

    fn handle_node_event(&mut self, node: &mut Context<'_>, event: NodeEvent) {
        let is_of_members = !matches!(event, NodeEvent::Refused { .. });
        if node.at() == VICTIM && is_of_members && event != (NodeEvent::Up { peer: self.honest }) {
            self.told.push(event);
        }
    }
}

impl Arena {
    /// The honest ones know each other, and the hostile member has not shown itself: it is the one
    /// that dials, when the test says so.
    pub(super) fn ungreeted() -> Self {
        Self::with(DIALLER, QuicTransport::default())
    }

    /// The same with the hostile member at this place, telling the victim of these bounds.
    pub(super) fn with(place: usize, transport: QuicTransport) -> Self {
        Self::of(&config(), place, transport)
    }

    /// The same with another configuration.
    pub(super) fn of(config: &Config, place: usize, transport: QuicTransport) -> Self {
        Self::of_setup(Setup::new(config, 4).tls(), place, transport)
    }

    /// The same with packets that are not protected, so that the hostile member can put frames into them.
    pub(super) fn forging(config: &Config) -> Self {
        Self::of_setup(Setup::new(config, 4), DIALLER, QuicTransport::default())
    }

    fn of_setup(setup: Setup, place: usize, transport: QuicTransport) -> Self {
        let config = setup.configs[VICTIM].clone();
        let setup = setup.link(Link::new(ms(10)));
        let honest = setup.ids()[HONEST];
        let delivered = Default::default();
        let witness = Witness {
            hostile: None,
            honest,
            told: Vec::new(),
            delivered,
            requests: Default::default(),
            keeps: false,
            cancelled: 0,
            outcomes: Vec::new(),
            number: 200,
        };
        let mut arena = Self::stopped(setup, witness);
        let topology = arena.topology([VICTIM, HONEST, place]);
        let (key, settings) = (arena.key(place).clone(), &config.transport);
        let (crypto, start) = (arena.crypto(), arena.start_instant());
        let mut bare = BarePeer::new(key, &topology, settings, transport, crypto, 9, start);
        bare.stop_dialling();
        let read = BTreeMap::new();
        let hostile = Hostile { bare, place, line: None, read, reads: true, is_lost: false };
        let hostile = Rc::new(RefCell::new(hostile));
        arena.application.hostile = Some(hostile.clone());
        arena.install(place, Box::new(hostile));
        arena.network.cut(&[HONEST], &[place]);
        for at in [VICTIM, HONEST] {
            arena.follow(at, &topology);
            arena.start(at);
        }
        arena.until("the honest ones meet", |arena| arena.is_up(VICTIM, HONEST));
        arena
    }

    /// A connected hostile member that has said hello like any other, and nothing more.
    pub(super) fn greeted() -> Self {
        let mut arena = Self::ungreeted();
        arena.dial();
        arena.greet();
        arena.elapse(ms(100));
        assert_eq!(arena.take_told(), [NodeEvent::Up { peer: arena.hostile_id() }]);
        arena
    }

    // Time.

    /// Lets things take their course until `is_done`, which has to be within 10 s; the time it took.
    pub(super) fn until(&mut self, what: &str, is_done: impl Fn(&Self) -> bool) -> Duration {
        let begun = self.now();
        let in_time = self.run(begun + ms(10_000), |arena| is_done(arena));
        assert!(in_time, "not within 10 s: {what}, {:?}", self.application.told);
        self.now().since(begun)
    }

    // What the hostile member does.

    pub(super) fn hostile(&self) -> Ref<'_, Hostile> {
        self.application.hostile.as_ref().expect("installed").borrow()
    }

    /// To have it act: it will be polled.
    pub(super) fn hostile_mut(&mut self) -> RefMut<'_, Hostile> {
        let place = self.hostile().place;
        self.wake(place);
        self.application.hostile.as_ref().expect("installed").borrow_mut()
    }

    /// Dials as a restarted process would, without a word to the connection before.
    pub(super) fn dial(&mut self) {
        let now = self.now();
        self.hostile_mut().bare.restart(now);
        self.dial_again();
    }

    /// Makes one more connection, which is the one from then on.
    pub(super) fn dial_again(&mut self) {
        self.knock();
        self.until("the handshake is over", Self::has_met);
    }

    /// Dials, and does not wait for what comes of it.
    pub(super) fn knock(&mut self) {
        let (now, victim) = (self.now(), self.id(VICTIM));
        let mut hostile = self.hostile_mut();
        hostile.forget();
        hostile.bare.dial(now, victim).expect("a member");
    }

    /// Says hello, and is taken on.
    pub(super) fn greet(&mut self) {
        self.write(&hello());
        self.until("it is up", Self::is_taken_on);
    }

    pub(super) fn open(&mut self) -> Option<StreamId> {
        let hostile = &mut *self.hostile_mut();
        hostile.bare.open(hostile.line())
    }

    /// Writes into a stream, as far as credit goes, and ends it if that is wanted.
    pub(super) fn write_to(&mut self, stream: StreamId, bytes: &[u8], finish: bool) {
        let hostile = &mut *self.hostile_mut();
        hostile.bare.write(hostile.line(), stream, Bytes::copy_from_slice(bytes), finish);
    }

    /// Writes a whole stream.
    pub(super) fn write(&mut self, bytes: &[u8]) {
        let stream = self.open().expect("stream credit");
        self.write_to(stream, bytes, true);
    }

    pub(super) fn reset(&mut self, stream: StreamId) {
        let hostile = &mut *self.hostile_mut();
        hostile.bare.reset(hostile.line(), stream);
    }

    /// Sends a packet that begins with these frames, in each of so many milliseconds.
    pub(super) fn send_frames(&mut self, frames: &[u8], packets: usize) {
        let frames = Bytes::copy_from_slice(frames);
        for _ in 0..packets {
            let mut hostile = self.hostile_mut();
            let line = hostile.line();
            hostile.bare.insert_frames(line, frames.clone());
            hostile.bare.ping(line);
            drop(hostile);
            self.elapse(ms(1));
        }
    }

    /// Closes its connection.
    pub(super) fn hang_up(&mut self) {
        let now = self.now();
        let hostile = &mut *self.hostile_mut();
        hostile.bare.close(now, hostile.line());
    }

    /// Does not want the rest of a stream.
    pub(super) fn stop(&mut self, stream: StreamId) {
        let hostile = &mut *self.hostile_mut();
        hostile.bare.stop(hostile.line(), stream);
    }

    // What it sees.

    pub(super) fn hostile_id(&self) -> NodeId {
        self.hostile().bare.id()
    }

    /// Whether the handshake of its connection is over.
    pub(super) fn has_met(&self) -> bool {
        self.hostile().line.is_some()
    }

    /// Whether its connection has been ended by the victim.
    pub(super) fn is_lost(&self) -> bool {
        self.hostile().is_lost
    }

    /// The requests of the victim, in no particular order.
    pub(super) fn requests(&self) -> Vec<Request> {
        let mut requests = Vec::new();
        for mut bytes in self.hostile().read.values().map(Vec::as_slice) {
            let mut decoder = StreamDecoder::new(1 << 20);
            let mut is_requests = false;
            while let Some(item) = decoder.next(&mut bytes).unwrap() {
                match item {
                    Item::Head(head) => is_requests = head == StreamHead::Requests,
                    Item::Frame { kind, body } if is_requests => {
                        requests.extend(Request::decode(kind, body).unwrap());
                    }
                    Item::Frame { .. } => {}
                }
            }
        }
        requests
    }

    // What the victim and its honest peer do.

    pub(super) fn victim(&self) -> &Node {
        self.node(VICTIM).expect("it runs")
    }

    pub(super) fn stats(&self) -> NodeStats {
        self.victim().stats()
    }

    /// Whether the hostile member is a connected peer to the victim.
    pub(super) fn is_taken_on(&self) -> bool {
        let id = self.hostile_id();
        self.victim().peers_up().any(|peer| peer == id)
    }

    /// What the victim has reported of the hostile peer.
    pub(super) fn take_told(&mut self) -> Vec<NodeEvent> {
        std::mem::take(&mut self.application.told)
    }

    /// A report of one fault of the hostile peer.
    pub(super) fn fault(&self, fault: Fault) -> NodeEvent {
        NodeEvent::Fault { peer: self.hostile_id(), fault, count: 1 }
    }

    /// A report of the hostile peer's end.
    pub(super) fn down(&self, why: Closed) -> NodeEvent {
        NodeEvent::Down { peer: self.hostile_id(), why }
    }

    pub(super) fn publish(&mut self, at: usize, block: &Artifact) {
        let published = self.command(at, |_, node| node.publish(CHANNEL, block.clone()));
        published.expect("it runs").expect("there is room");
    }

    pub(super) fn abort(&mut self, at: usize, block: &Artifact) {
        let was_active = self.command(at, |_, node| node.abort(CHANNEL, &block.id()));
        assert!(was_active.expect("it runs"));
    }

    /// Artifacts delivered to the victim or its honest peer, with their senders.
    pub(super) fn delivered(&self, at: usize) -> &[(Artifact, NodeId)] {
        &self.application.delivered[at]
    }

    /// Whether the victim was brought the artifact, and by whom.
    pub(super) fn bringer(&self, block: &Artifact) -> Option<NodeId> {
        let mut delivered = self.delivered(VICTIM).iter();
        delivered.find(|(artifact, _)| artifact.id() == block.id()).map(|(_, from)| *from)
    }

    // Checks.

    /// The victim has seen nothing wrong, and the hostile peer neither came nor went.
    pub(super) fn assert_not_noticed(&mut self, what: &str) {
        assert_eq!((self.take_told(), self.stats().faults), (Vec::new(), 0), "{what}");
    }

    /// Victim and honest peer still do for each other what they are there for, at once.
    pub(super) fn assert_unharmed(&mut self) {
        for (from, to) in [(VICTIM, HONEST), (HONEST, VICTIM)] {
            self.application.number += 1;
            let number = self.application.number;
            for block in [artifact(number, 500), artifact(number, 200_000)] {
                self.publish(from, &block);
                let took = self.until("delivered", |arena| {
                    arena.delivered(to).iter().any(|(artifact, _)| artifact.id() == block.id())
                });
                assert!(took < ms(150), "{took:?}");
                self.abort(from, &block);
            }
        }
        self.assert_calls_unharmed();
        self.elapse(ms(100));
        let stats = self.node(HONEST).expect("it runs").stats();
        assert_eq!((stats.faults, stats.connections), (0, 1));
    }
}
