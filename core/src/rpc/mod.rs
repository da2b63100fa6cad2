//! Calls between members as a pure state machine, for both ends: calls, requests, answers, bytes of
//! streams and time in; pieces of streams, outcomes and the next deadline out.
//!
//! A call is one bidirectional stream: a head and the request one way, replies and the answer the
//! other. What calls there are on [`Rpc`]:
//! - *inputs* are `handle_*`, and [`Rpc::peer_up`], [`Rpc::peer_down`];
//! - *commands* are verbs (`call`, `cancel`, `answer`, `refuse`, `serve`) and answer at once;
//! - *outputs* are drained with [`Rpc::poll`] after every input or command, until it gives
//!   [`Output::Idle`]; what may be large is pulled when there is room for it: pieces of streams with
//!   [`Rpc::poll_flow`], requests with [`Rpc::poll_request`], and outcomes with
//!   [`Rpc::poll_outcome`].
//!
//! Bytes are received only when there is room for them. A caller sends the first
//! [`EAGER_BYTES_MAX`] bytes of a request with its head. The callee reads the head and leaves the
//! rest in the stream until it is the request's turn and its length has been reserved in the
//! route's budget. If the request is longer than those first bytes, the callee then sends
//! `Continue`. Of an answer, the callee may send at once as many bytes as the caller has prepaid in
//! the head. The rest waits for the end of the caller's direction, by which the caller says that it
//! has reserved the length in its budget.
//!
//! Sent bytes count in the budget until they are acknowledged, since the transport keeps them until
//! then. A single unacknowledged byte keeps a whole body in memory.
//!
//! A callee that does not keep up leaves requests unread in their streams, so its memory does not
//! grow. Its callers use up their credit, and further calls fail with `Pushback`. Peers are served
//! round robin.
//!
//! Inside, `caller` has the calls of this node and `callee` the requests of its peers. `transfer`
//! is one direction of a stream, `ledger` a budget, `room_queue` what waits for room in one,
//! `turns` a round robin of peers, and `arrivals` one that knows what came first. The module knows
//! nothing of QUIC, sockets or clocks. Invariants 8, 11, 13 to 16.

pub(crate) mod arrivals;
mod body;
mod callee;
mod caller;
mod ledger;
mod parts;
mod room_queue;
mod transfer;
pub(crate) mod turns;

pub use crate::send_buffer::SendBuffer;
pub use body::Body;
pub use callee::ANSWER_BYTES_KEPT;
pub use parts::{PART_BYTES_MAX, Part, STREAM_BYTES_KEPT, Stream, StreamEvent};

use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;
use core::fmt;
use core::time::Duration;
use foldhash::quality::FixedState;
use hashbrown::HashMap;

use crate::config::{Class, Config, ConfigError, RouteConfig};
use crate::error::{AnswerError, CallError, Fault, PartError};
use crate::id::{Arrival, PeerIndex, RouteId};
use crate::sched::ReadyFlows;
use crate::snapshot::RouteSnapshot;
use crate::time::Time;
use crate::wire::{CallReset, EAGER_BYTES_MAX, RouteHello};
use callee::Callee;
use caller::Caller;
pub(crate) use caller::Manner;
use transfer::{Offer, Sending};

/// A bidirectional stream, as the transport numbers those of one connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CallStream(pub u64);

/// A call that this node has made.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CallId(pub(crate) u64);

/// A request that a peer has sent to this node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RequestId(pub(crate) u64);

/// The low bits of an id, which hold the index of the call or request in its table. The bits above
/// hold a serial number, which distinguishes calls that had the same index.
const INDEX_BITS: u32 = 24;

/// A request for the application.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// The id by which it is answered.
    pub id: RequestId,
    /// Who asks.
    pub from: PeerIndex,
    /// What is asked; empty, if it is read in parts.
    pub body: Bytes,
    /// If it is [read in parts](RouteConfig::reads_in_parts), how many bytes it has.
    pub in_parts: Option<u32>,
    /// The time until which the caller waits.
    pub deadline: Time,
    /// The longest answer that is allowed, in bytes.
    pub answer_bytes_max: u32,
    /// Whether there is somebody who waits for an answer. If not, the request is over.
    pub wants_answer: bool,
}

/// How a call ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// The call.
    pub call: CallId,
    /// The answer.
    pub result: Result<Bytes, CallError>,
}

/// What a peer has room for on a route, and how many calls may wait for that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Credit {
    /// Calls under way at once.
    pub in_flight_max: u16,
    /// Bytes of requests under way at once, but for one request of any length that the peer accepts.
    pub bytes_max: u64,
    /// Bytes of one request.
    pub request_bytes_max: u32,
    /// Calls that may wait for credit.
    pub waiting_max: u16,
}

impl Credit {
    /// What this node would use at most.
    pub(crate) fn most(config: &RouteConfig) -> Self {
        Self {
            in_flight_max: config.in_flight_max,
            bytes_max: config.request_bytes_share(),
            request_bytes_max: config.request_bytes_max,
            waiting_max: config.waiting_max,
        }
    }

    /// Whether there is credit for one more call, beside so many, if their requests and its own have so
    /// many bytes. If it `waits`, it needs none yet.
    pub(crate) fn admits(&self, calls: u32, bytes: u64, waits: bool) -> bool {
        let in_flight_max = u32::from(self.in_flight_max);
        match waits {
            true => calls < in_flight_max + u32::from(self.waiting_max),
            false => calls < in_flight_max && bytes <= self.bytes_max,
        }
    }
}

/// Why a callee does not answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The callee is overloaded.
    Busy {
        /// How long the caller should wait before it tries again.
        retry_after: Duration,
    },
    /// No reason is given: the request is dropped.
    Dropped,
}

/// A request that the application has and that needs no answer any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cancelled {
    /// The request.
    pub request: RequestId,
    /// Why: what [`Rpc::answer`] would say.
    pub why: AnswerError,
}

/// Room in a budget that the body of a request or an answer occupies, until it is handed to the
/// application.
#[derive(Debug)]
#[must_use = "the room stays taken until it is given back with `Rpc::release`"]
pub struct Permit {
    route: u16,
    peer: PeerIndex,
    bytes: u64,
    of_answer: bool,
}

/// What the machine wants done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Output {
    /// There is room for more bytes of a stream: hand in as many as [`Rpc::wants`] says.
    Read {
        /// The peer.
        peer: PeerIndex,
        /// The stream.
        stream: CallStream,
    },
    /// Reset this node's direction of a stream and stop the peer's, as far as they have not ended.
    Close {
        /// The peer.
        peer: PeerIndex,
        /// The stream.
        stream: CallStream,
        /// Why, for the peer.
        why: CallReset,
    },
    /// Stop the peer's direction of a stream, if it has not ended.
    Stop {
        /// The peer.
        peer: PeerIndex,
        /// The stream.
        stream: CallStream,
    },
    /// Nothing more to do until the next input, or until `wake_at`.
    Idle {
        /// When to call [`Rpc::poll`] again, [`Time::NEVER`] if only for inputs.
        wake_at: Time,
    },
}

/// What to do with the bytes of a [`Rpc::poll_flow`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Piece {
    /// The stream. `None`: open a new one.
    pub stream: Option<CallStream>,
    /// This node's direction of the stream ends behind them.
    pub finish: bool,
    /// How urgent they are.
    pub class: Class,
}

/// What a stream belongs to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum StreamOwner {
    /// A call of this node, by its index.
    Call(u32),
    /// A request of a peer, by its index.
    Request(u32),
}

/// The state of a peer and of the connection to it.
#[derive(Debug)]
struct PeerLink {
    is_up: bool,
    /// Bounded by the calls that this node may have to the peer plus the streams that the peer may
    /// open.
    streams: HashMap<CallStream, StreamOwner, FixedState>,
    /// By route, the calls and requests that have something to send, each once.
    sendable: Vec<VecDeque<StreamOwner>>,
    /// By route, whether the last piece sent was the start of a call.
    has_begun: Vec<bool>,
}

/// The state that the caller and the callee side share.
#[derive(Debug)]
struct SharedState {
    routes: Vec<RouteConfig>,
    peer_links: Vec<Option<PeerLink>>,
    /// When to check which call or request. Each has one entry.
    timers: BTreeSet<(Time, StreamOwner)>,
    /// Bounded by the number of streams.
    outputs: VecDeque<Output>,
    /// What happens to bodies in parts. Bounded by the bodies that the application gives or reads so.
    stream_events: VecDeque<StreamEvent>,
    /// The flows with something to send. A flow is a route.
    ready: ReadyFlows,
    /// The number of calls and requests so far.
    serial: u64,
    /// The number of times that a connection came up or went down.
    links: u64,
}

impl SharedState {
    fn link(&self, peer: PeerIndex) -> Option<&PeerLink> {
        self.peer_links.get(peer.at())?.as_ref()
    }

    fn link_mut(&mut self, peer: PeerIndex) -> &mut PeerLink {
        self.peer_links[peer.at()].as_mut().expect("a member")
    }

    fn is_up(&self, peer: PeerIndex) -> bool {
        self.link(peer).is_some_and(|link| link.is_up)
    }

    fn route_index(&self, route: RouteId) -> Option<u16> {
        let index = self.routes.iter().position(|config| config.id == route)?;
        Some(index as u16)
    }

    /// A new id for the call or request with this index.
    fn next_id(&mut self, index: u32) -> u64 {
        assert!(index < 1 << INDEX_BITS, "bounded by the credit of all peers");
        self.serial += 1;
        self.serial << INDEX_BITS | u64::from(index)
    }

    /// Sets or moves a timer; what it was set to before, if it was, is in `timer`.
    fn set_timer(&mut self, owner: StreamOwner, timer: &mut Time, at: Time) {
        self.timers.remove(&(*timer, owner));
        self.timers.insert((at, owner));
        *timer = at;
    }

    /// Ensures that a timer fires at `at` or earlier. A timer that fires too early is set again.
    /// Timers are not moved to later times, since most are removed before they fire and moving them
    /// would be most of their cost.
    fn hasten_timer(&mut self, owner: StreamOwner, timer: &mut Time, at: Time) {
        if at < *timer {
            self.set_timer(owner, timer, at);
        }
    }

    /// Queues a call or request if it has something to send.
    fn note_due(&mut self, peer: PeerIndex, route: u16, owner: StreamOwner, sending: &mut Sending) {
        if sending.is_due() && !sending.is_queued {
            sending.is_queued = true;
            self.link_mut(peer).sendable[route as usize].push_back(owner);
            self.ready.mark(peer, route.into());
        }
    }

    /// Removes a call or request that has ended from the queue.
    fn unqueue(&mut self, peer: PeerIndex, route: u16, owner: StreamOwner, sending: &Sending) {
        if sending.is_queued
            && let Some(link) = &mut self.peer_links[peer.at()]
        {
            link.sendable[route as usize].retain(|other| *other != owner);
        }
    }
}

/// The machine: all routes of one node, all peers, both ends.
pub struct Rpc {
    shared: SharedState,
    caller: Caller,
    callee: Callee,
    /// What was offered by the last [`Rpc::poll_flow`], and not yet written.
    offered: Option<(PeerIndex, u16, StreamOwner, Offer)>,
    now: Time,
}

impl fmt::Debug for Rpc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rpc").field("now", &self.now).finish_non_exhaustive()
    }
}

impl Rpc {
    /// A machine without peers.
    ///
    /// # Errors
    /// If the configuration is invalid.
    pub fn new(config: &Config) -> Result<Self, ConfigError> {
        config.check()?;
        Ok(Self {
            shared: SharedState {
                routes: config.routes.clone(),
                peer_links: Vec::new(),
                timers: BTreeSet::new(),
                outputs: VecDeque::new(),
                stream_events: VecDeque::new(),
                ready: ReadyFlows::default(),
                serial: 0,
                links: 0,
            },
            caller: Caller::new(&config.routes),
            callee: Callee::new(&config.routes),
            offered: None,
            now: Time::ZERO,
        })
    }

    /// Clamps `now`, so that the machine's time never goes backwards.
    pub(crate) fn clamp(&mut self, now: Time) -> Time {
        self.now = self.now.max(now);
        self.now
    }

    // Members and connections.

    /// Makes room for a member. `peer` must be free.
    ///
    /// # Panics
    /// If it is not: the caller assigns the indices.
    pub fn add_peer(&mut self, peer: PeerIndex) {
        let peer_links = &mut self.shared.peer_links;
        if peer_links.len() <= peer.at() {
            peer_links.resize_with(peer.at() + 1, || None);
        }
        let routes = self.shared.routes.len();
        let sendable = (0..routes).map(|_| VecDeque::new()).collect();
        let streams = HashMap::with_hasher(FixedState::default());
        let before = peer_links[peer.at()].replace(PeerLink {
            is_up: false,
            streams,
            sendable,
            has_begun: vec![false; routes],
        });
        assert!(before.is_none(), "a peer is added once");
        self.shared.ready.add_peer(peer, routes);
        self.caller.add_peer(peer);
        self.callee.add_peer(peer);
    }

    /// Drops a former member. Calls to it end as if the connection had been lost.
    pub fn remove_peer(&mut self, peer: PeerIndex) {
        self.peer_down(peer);
        self.caller.remove_peer(&mut self.shared, peer);
        self.callee.remove_peer(&mut self.shared, peer);
        self.shared.peer_links[peer.at()] = None;
    }

    /// A connection to a member is ready; these are its routes.
    pub fn peer_up(&mut self, peer: PeerIndex, routes: &[RouteHello]) {
        self.peer_down(peer);
        self.shared.link_mut(peer).is_up = true;
        self.shared.links += 1;
        self.caller.peer_up(&mut self.shared, peer, routes);
        self.callee.peer_up(&self.shared.routes, peer, routes);
    }

    /// The connection is lost. All calls and requests over it have ended.
    pub fn peer_down(&mut self, peer: PeerIndex) {
        let link = self.shared.link_mut(peer);
        if !core::mem::replace(&mut link.is_up, false) {
            return;
        }
        self.shared.links += 1;
        let link = self.shared.link_mut(peer);
        link.streams.clear();
        link.sendable.iter_mut().for_each(VecDeque::clear);
        self.caller.peer_down(&mut self.shared, peer);
        self.callee.peer_down(&mut self.shared, peer);
        self.shared.ready.clear(peer);
        self.shared.outputs.retain(|output| match output {
            Output::Read { peer: of, .. }
            | Output::Close { peer: of, .. }
            | Output::Stop { peer: of, .. } => *of != peer,
            Output::Idle { .. } => true,
        });
    }

    // Commands.

    /// Calls a peer. Without a `timeout`, the route's deadline holds. If the peer's [`Credit`] of calls
    /// or of bytes is used up, the call waits for it, in order, unless it was not to: `waits`. The outcome of a
    /// call whose answer is read [in parts](Body::InParts) is empty once all of it has been read.
    ///
    /// # Errors
    /// If it cannot be made; nothing has changed then.
    pub fn call(
        &mut self,
        now: Time,
        peer: PeerIndex,
        route: RouteId,
        body: impl Into<Body>,
        timeout: Option<Duration>,
        waits: bool,
    ) -> Result<CallId, CallError> {
        let now = self.clamp(now);
        let manner = if waits { Manner::Wait } else { Manner::Try };
        self.caller.call(&mut self.shared, now, peer, route, body.into(), timeout, manner)
    }

    /// Sends a peer a message. It waits for a connection and for credit, in order with calls, and its
    /// outcome is empty once the peer's application has it. When the deadline passes before, or the
    /// connection is lost when it has been sent, it is not sent again, and its outcome says so.
    ///
    /// # Errors
    /// If it cannot be sent; nothing has changed then.
    pub fn tell(
        &mut self,
        now: Time,
        peer: PeerIndex,
        route: RouteId,
        body: Bytes,
        timeout: Option<Duration>,
    ) -> Result<CallId, CallError> {
        let now = self.clamp(now);
        self.caller.call(&mut self.shared, now, peer, route, body.into(), timeout, Manner::Tell)
    }

    /// Gives a call up. False if it has ended: its outcome is, or was, to be had.
    pub fn cancel(&mut self, call: CallId) -> bool {
        self.caller.cancel(&mut self.shared, call)
    }

    /// Answers a request. For an answer that is given [in parts](Body::InParts) there is room in any case, and
    /// [`StreamEvent::Over`] says when it has arrived, or will not.
    ///
    /// # Errors
    /// If the answer is too long, the request is read in parts and has not been read to its end, there is no room for it (that for [`ANSWER_BYTES_KEPT`] is kept, and
    /// [`Rpc::reserve`] waits for more), or the caller does not wait for it any more. In the last case the
    /// request is removed, in the others nothing has changed.
    pub fn answer(
        &mut self,
        now: Time,
        request: RequestId,
        body: impl Into<Body>,
    ) -> Result<(), AnswerError> {
        let now = self.clamp(now);
        self.callee.answer(&mut self.shared, now, request, body.into())
    }

    /// Breaks off an answer that was given in parts: the caller is told that there is none. False if it was
    /// over.
    pub fn break_off(&mut self, request: RequestId) -> bool {
        self.callee.break_off(&mut self.shared, request)
    }

    /// Gives the next part of a request or an answer, of up to [`PART_BYTES_MAX`] bytes: the first one at
    /// once, the others each after [`StreamEvent::Writable`].
    ///
    /// # Errors
    /// If it cannot be sent; nothing has changed then.
    pub fn give(&mut self, now: Time, stream: Stream, part: Bytes) -> Result<(), PartError> {
        self.clamp(now);
        let (owner, peer, route, sending) = match stream {
            Stream::Call(call) => self.caller.giving(call),
            Stream::Request(request) => self.callee.giving(request),
        }
        .ok_or(PartError::NotWanted)?;
        if sending.has_ended() {
            return Err(PartError::NotWanted);
        }
        if !sending.is_given() {
            return Err(PartError::NotYet);
        }
        if part.len() > sending.wants().min(PART_BYTES_MAX) {
            return Err(PartError::TooLong);
        }
        if part.is_empty() {
            self.shared.stream_events.push_back(StreamEvent::Writable(stream));
            return Ok(());
        }
        sending.give(part);
        // Of a call without a stream, the flow is marked when there is credit for it.
        if let Some(owner) = owner {
            self.shared.note_due(peer, route, owner, sending);
        }
        Ok(())
    }

    /// Takes what has arrived of a request or an answer that is read in parts. For what is taken, there is
    /// room for more.
    pub fn read(&mut self, now: Time, stream: Stream) -> Part {
        let now = self.clamp(now);
        match stream {
            Stream::Call(call) => self.caller.read(&mut self.shared, now, call),
            Stream::Request(request) => self.callee.read(&mut self.shared, now, request),
        }
    }

    /// What has happened to a body that is given or read in parts.
    pub fn poll_stream(&mut self) -> Option<StreamEvent> {
        self.shared.stream_events.pop_front()
    }

    /// Waits for room for an answer of so many bytes, which the request then keeps: [`Rpc::poll_reserved`]
    /// says when. It replaces what was waited for before. Unless it has so much already, it keeps no room while
    /// it waits, so that no requests wait for each other; and no more requests of the peer on the
    /// route are taken up.
    ///
    /// # Errors
    /// As for [`Rpc::answer`]; nothing has changed then.
    pub fn reserve(
        &mut self,
        now: Time,
        request: RequestId,
        bytes: u32,
    ) -> Result<(), AnswerError> {
        self.clamp(now);
        self.callee.reserve(request, bytes)
    }

    /// Ends a request without an answer. False if the caller did not wait for it any more.
    pub fn refuse(&mut self, now: Time, request: RequestId, refusal: Refusal) -> bool {
        self.clamp(now);
        self.callee.refuse(&mut self.shared, request, refusal)
    }

    /// Says whether requests of a route are wanted. At first they wait until they are; once they are
    /// not any more, they are refused. False if there is no such route.
    pub fn serve(&mut self, now: Time, route: RouteId, is_wanted: bool) -> bool {
        self.clamp(now);
        self.callee.serve(&mut self.shared, route, is_wanted)
    }

    /// The application has taken what a permit was for.
    pub fn release(&mut self, permit: Permit) {
        match permit.of_answer {
            true => self.caller.release(permit),
            false => self.callee.release(permit),
        }
    }

    // Inputs.

    /// A peer that is up has opened a stream: a request begins.
    ///
    /// # Panics
    /// If there are no routes: a peer may open no streams then.
    pub fn handle_opened(&mut self, now: Time, peer: PeerIndex, stream: CallStream) {
        let now = self.clamp(now);
        assert!(!self.shared.routes.is_empty() && self.shared.is_up(peer));
        self.callee.open(&mut self.shared, now, peer, stream);
    }

    /// How many bytes of a stream the machine accepts now. Further bytes have to stay in the
    /// stream.
    pub fn wants(&self, peer: PeerIndex, stream: CallStream) -> usize {
        match self.owner_of(peer, stream) {
            Some(StreamOwner::Call(index)) => self.caller.wants(index),
            Some(StreamOwner::Request(index)) => self.callee.wants(index),
            None => 0,
        }
    }

    fn owner_of(&self, peer: PeerIndex, stream: CallStream) -> Option<StreamOwner> {
        self.shared.link(peer)?.streams.get(&stream).copied()
    }

    /// Bytes of a stream, no more than it [wants](Rpc::wants).
    ///
    /// # Errors
    /// If the peer broke a rule. The call or request is over then, and the stream is to be closed.
    pub fn handle_data(
        &mut self,
        now: Time,
        peer: PeerIndex,
        stream: CallStream,
        bytes: &[u8],
    ) -> Result<(), Fault> {
        let now = self.clamp(now);
        match self.owner_of(peer, stream) {
            Some(StreamOwner::Call(index)) => {
                self.caller.handle_data(&mut self.shared, now, index, bytes)
            }
            Some(StreamOwner::Request(index)) => {
                self.callee.handle_data(&mut self.shared, now, index, bytes)
            }
            None => Ok(()),
        }
    }

    /// The peer's direction of a stream has come to its end.
    ///
    /// # Errors
    /// If the peer broke a rule. The call or request is over then, and the stream is to be closed.
    pub fn handle_end(&mut self, peer: PeerIndex, stream: CallStream) -> Result<(), Fault> {
        let now = self.now;
        match self.owner_of(peer, stream) {
            Some(StreamOwner::Call(index)) => self.caller.handle_end(&mut self.shared, now, index),
            Some(StreamOwner::Request(index)) => self.callee.handle_end(&mut self.shared, index),
            None => Ok(()),
        }
    }

    /// The peer has reset its direction of a stream, and says why.
    pub fn handle_reset(&mut self, now: Time, peer: PeerIndex, stream: CallStream, why: CallReset) {
        let now = self.clamp(now);
        match self.owner_of(peer, stream) {
            Some(StreamOwner::Call(index)) => {
                self.caller.handle_reset(&mut self.shared, now, index, why)
            }
            Some(StreamOwner::Request(index)) => {
                self.callee.ended_by_caller(&mut self.shared, index);
            }
            None => {}
        }
    }

    /// The peer does not want the rest of what this node sends in a stream; the transport resets it.
    pub fn handle_stopped(&mut self, peer: PeerIndex, stream: CallStream) {
        match self.owner_of(peer, stream) {
            // The reason follows in the callee's direction.
            Some(StreamOwner::Call(index)) => self.caller.stopped(&mut self.shared, index),
            Some(StreamOwner::Request(index)) => {
                self.callee.ended_by_caller(&mut self.shared, index);
            }
            None => {}
        }
    }

    /// All that this node has sent in a stream has arrived, its end included: the transport keeps none
    /// of it any more.
    pub fn handle_acked(&mut self, peer: PeerIndex, stream: CallStream) {
        match self.owner_of(peer, stream) {
            Some(StreamOwner::Call(index)) => self.caller.acked(index),
            Some(StreamOwner::Request(index)) => self.callee.acked(&mut self.shared, index),
            None => {}
        }
    }

    /// The transport accepts more bytes of this node's direction of a stream.
    pub fn handle_writable(&mut self, peer: PeerIndex, stream: CallStream) {
        let Some(owner) = self.owner_of(peer, stream) else { return };
        let (route, sending) = match owner {
            StreamOwner::Call(index) => self.caller.sending(index),
            StreamOwner::Request(index) => self.callee.sending(index),
        };
        sending.unblock();
        self.shared.note_due(peer, route, owner, sending);
    }

    // Outputs.

    /// What is to be done next. Call after every input and command, and at `wake_at`, until it is
    /// [`Output::Idle`].
    pub fn poll(&mut self, now: Time) -> Output {
        let now = self.clamp(now);
        while let Some((at, owner)) = self.shared.timers.first().copied()
            && at <= now
        {
            match owner {
                StreamOwner::Call(index) => self.caller.expire(&mut self.shared, now, index),
                StreamOwner::Request(index) => self.callee.expire(&mut self.shared, now, index),
            }
        }
        self.caller.grant_all(&mut self.shared, now);
        self.callee.grant_all(&mut self.shared, now);
        let wake_at = self.next_deadline();
        self.shared.outputs.pop_front().unwrap_or(Output::Idle { wake_at })
    }

    /// The next time at which a call or request has to be checked if nothing happens before.
    pub fn next_deadline(&self) -> Time {
        self.shared.timers.first().map_or(Time::NEVER, |(at, _)| *at)
    }

    /// The classes of this machine's flows, one for each route.
    pub fn flows(&self) -> impl Iterator<Item = Class> {
        self.shared.routes.iter().map(|route| route.class)
    }

    /// The next flow of a peer that has something more to send. It has to be polled with
    /// [`Rpc::poll_flow`] until it is not [ready](Rpc::is_ready) any more.
    pub fn poll_ready(&mut self) -> Option<(PeerIndex, usize)> {
        self.shared.ready.pop()
    }

    /// Whether a flow that was reported may have more to send.
    pub fn is_ready(&self, peer: PeerIndex, flow: usize) -> bool {
        self.shared.ready.is_ready(peer, flow)
    }

    /// Whether [`Rpc::poll_flow`] has something for a peer. `can_open`, if the transport can open
    /// another stream to it.
    pub fn has_flow_backlog(&self, peer: PeerIndex, flow: usize, can_open: bool) -> bool {
        self.shared.link(peer).is_some_and(|link| {
            let opens = || can_open && self.caller.can_open(peer, flow as u16);
            link.is_up && (!link.sendable[flow].is_empty() || opens())
        })
    }

    /// Whether there may be something for a peer.
    pub fn has_backlog(&self, peer: PeerIndex) -> bool {
        (0..self.shared.routes.len()).any(|flow| self.has_flow_backlog(peer, flow, true))
    }

    /// Whether a call to a peer on the route of a flow could be opened, were there a stream.
    pub fn is_calling(&self, peer: PeerIndex, flow: usize) -> bool {
        self.shared.is_up(peer) && self.caller.can_open(peer, flow as u16)
    }

    /// What a flow has for a peer, up to `room` bytes. `None`, and nothing in `out`, if there is
    /// nothing to send or no room. The caller reports the result with [`Rpc::handle_written`]
    /// before any other call.
    pub fn poll_flow(
        &mut self,
        now: Time,
        peer: PeerIndex,
        flow: usize,
        room: usize,
        can_open: bool,
        out: &mut SendBuffer,
    ) -> Option<Piece> {
        let now = self.clamp(now);
        assert!(self.offered.is_none(), "the last piece comes first");
        out.clear();
        if room == 0 || !self.shared.is_up(peer) {
            return None;
        }
        if !self.has_flow_backlog(peer, flow, true) {
            self.shared.ready.settle(peer, flow);
            return None;
        }
        let route = flow as u16;
        // New calls alternate with calls and requests that have begun, so that a small call does
        // not wait for large ones, nor an answer for a flood of calls. Among those that have begun,
        // each goes to the end of the queue after it has sent a piece.
        let link = self.shared.link_mut(peer);
        let can_open = can_open && (!link.has_begun[flow] || link.sendable[flow].is_empty());
        let opened = can_open.then(|| self.caller.open(&self.shared, now, peer, route)).flatten();
        self.shared.link_mut(peer).has_begun[flow] = opened.is_some();
        let owner = match opened {
            Some(index) => StreamOwner::Call(index),
            None => self.shared.link_mut(peer).sendable[flow].pop_front()?,
        };
        let (stream, sending) = match owner {
            StreamOwner::Call(index) => (self.caller.stream(index), self.caller.sending(index).1),
            StreamOwner::Request(index) => {
                (Some(self.callee.stream(index)), self.callee.sending(index).1)
            }
        };
        sending.is_queued = false;
        let offer = sending.offer(room, out);
        self.offered = Some((peer, route, owner, offer));
        let class = self.shared.routes[flow].class;
        Some(Piece { stream, finish: offer.ends, class })
    }

    /// The transport has taken so many bytes of the last piece, and its end, if they are all. `stream`
    /// is the piece's, or was opened for it.
    ///
    /// # Panics
    /// If there was no piece.
    pub fn handle_written(&mut self, stream: CallStream, bytes: usize) {
        let (peer, route, owner, offer) = self.offered.take().expect("a piece was polled");
        let (stream_of, sending) = match owner {
            StreamOwner::Call(index) => {
                (Stream::Call(self.caller.id(index)), self.caller.sending(index).1)
            }
            StreamOwner::Request(index) => {
                (Stream::Request(self.callee.id(index)), self.callee.sending(index).1)
            }
        };
        sending.written(offer, bytes);
        if offer.has_body() && sending.is_given() && sending.wants() > 0 {
            self.shared.stream_events.push_back(StreamEvent::Writable(stream_of));
        }
        self.shared.note_due(peer, route, owner, sending);
        match owner {
            StreamOwner::Call(index) => {
                self.caller.written(&mut self.shared, self.now, index, stream);
            }
            StreamOwner::Request(index) => {
                self.callee.grant_part(&mut self.shared, self.now, index);
                self.callee.written(&mut self.shared, index);
            }
        }
        if !self.has_flow_backlog(peer, route.into(), true) {
            self.shared.ready.settle(peer, route.into());
        }
    }

    /// The next outcome of a call, and the room that an answer takes until it is
    /// [released](Rpc::release).
    pub fn poll_outcome(&mut self) -> Option<(Outcome, Permit)> {
        self.caller.poll_outcome()
    }

    /// The next request of a route, peers taking turns, of a peer that `suits`; and the room that it
    /// takes until it is [released](Rpc::release).
    pub fn poll_request(
        &mut self,
        route: RouteId,
        suits: impl FnMut(PeerIndex) -> bool,
    ) -> Option<(Request, Permit)> {
        let (_, request, permit) = self.poll_request_at(route, suits)?;
        Some((request, permit))
    }

    /// The same with the input that made the request complete.
    pub(crate) fn poll_request_at(
        &mut self,
        route: RouteId,
        suits: impl FnMut(PeerIndex) -> bool,
    ) -> Option<(Arrival, Request, Permit)> {
        self.callee.poll_request(&mut self.shared, self.now, route, suits)
    }

    /// The request that was complete first, and its route, of routes whose requests are
    /// [wanted](Rpc::serve).
    #[cfg_attr(not(feature = "quic"), allow(dead_code, reason = "for nodes"))]
    pub(crate) fn poll_first_request(&mut self) -> Option<(RouteId, Request, Permit)> {
        let (_, at) = self.callee.next_arrival()?;
        let route = self.shared.routes[at as usize].id;
        let (_, request, permit) =
            self.callee.poll_first_request(&mut self.shared, self.now, at)?;
        Some((route, request, permit))
    }

    /// The input that made the request complete that [`Rpc::poll_first_request`] gives.
    #[cfg_attr(not(feature = "quic"), allow(dead_code, reason = "for nodes"))]
    pub(crate) fn next_arrival(&self) -> Option<Arrival> {
        self.callee.next_arrival().map(|(arrival, _)| arrival)
    }

    /// What becomes known from now on is by this input.
    #[cfg_attr(not(feature = "quic"), allow(dead_code, reason = "for nodes"))]
    pub(crate) fn begin_input(&mut self, arrival: Arrival) {
        self.callee.arrival = arrival;
    }

    /// The next request that the application has and whose caller does not wait any more. The
    /// application still has to end it with [`Rpc::refuse`].
    pub fn poll_cancelled(&mut self) -> Option<Cancelled> {
        self.callee.poll_cancelled()
    }

    /// The next request that has got the room for its answer for which it waited ([`Rpc::reserve`]).
    pub fn poll_reserved(&mut self) -> Option<RequestId> {
        self.callee.poll_reserved()
    }

    // Getters.

    /// What a peer accepts over its connection. `None` if it does not serve the route.
    pub fn credit(&self, peer: PeerIndex, route: RouteId) -> Option<Credit> {
        let route = self.shared.route_index(route)?;
        self.shared.is_up(peer).then(|| self.caller.credit(peer, route))?
    }

    /// Bytes of this node's requests on a route, to all peers, that have not arrived.
    #[cfg_attr(not(feature = "driver"), allow(dead_code, reason = "for drivers"))]
    pub(crate) fn request_bytes(&self, route: usize) -> u64 {
        self.caller.request_bytes(route)
    }

    /// Whether [`Rpc::poll_request`] may have a request.
    pub fn has_requests(&self, route: RouteId) -> bool {
        self.shared.route_index(route).is_some_and(|route| self.callee.has_requests(route))
    }

    /// Whether there is an outcome or a cancellation to be taken, or a request on a route whose
    /// requests are [wanted](Rpc::serve).
    pub fn has_output(&self) -> bool {
        let has_events = !self.shared.stream_events.is_empty();
        has_events || self.caller.has_outcomes() || self.callee.has_output()
    }

    /// Whether a request or an answer waits for room, so that it matters when some is released.
    pub fn awaits_budget(&self) -> bool {
        self.caller.awaits_budget() || self.callee.awaits_budget()
    }

    /// Changes whenever a connection has come up or gone down, and with it [`Rpc::credit`].
    pub fn links(&self) -> u64 {
        self.shared.links
    }

    /// The routes, in the order of the configuration. Walks through all peers of each.
    pub fn route_snapshots(&self) -> Vec<RouteSnapshot> {
        let routes = self.shared.routes.iter().enumerate();
        let route = |(at, config): (usize, &RouteConfig)| RouteSnapshot {
            id: config.id,
            name: config.name.clone().into_owned(),
            calls: self.caller.snapshot(at),
            requests: self.callee.snapshot(at),
            body_bytes_max: config.body_bytes_max,
        };
        routes.map(route).collect()
    }

    /// Bytes of bodies, coming and going, of all peers: at most four times the sum of all routes'
    /// `body_bytes_max`.
    pub fn body_bytes(&self) -> u64 {
        self.caller.body_bytes() + self.callee.body_bytes()
    }

    /// Calls that have not ended and requests that are not over.
    pub fn len(&self) -> usize {
        self.caller.len() + self.callee.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Checks all state and panics if it is inconsistent. For tests and fuzzing.
    #[doc(hidden)]
    pub fn assert_invariants(&self) {
        self.caller.assert_invariants(&self.shared);
        self.callee.assert_invariants(&self.shared);
        let streams = self.shared.peer_links.iter().flatten().map(|link| link.streams.len());
        assert!(streams.sum::<usize>() <= self.len());
        assert_eq!(self.shared.timers.len(), self.len(), "one timer each");
        for link in self.shared.peer_links.iter().flatten().filter(|link| !link.is_up) {
            assert!(link.streams.is_empty() && link.sendable.iter().all(VecDeque::is_empty));
        }
    }
}

const _: () = assert!(EAGER_BYTES_MAX <= u32::MAX as usize);
