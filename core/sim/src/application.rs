//! The application of all nodes of a simulated subnet.

use bytes::Bytes;
use std::net::SocketAddr;
use std::time::Duration;

use super::trace::{Trace, What};
use slotcast::artifact::Artifact;
use slotcast::broadcast::{Event, Threshold};
use slotcast::error::{AnswerError, CallError, PublishError, RelayError};
use slotcast::id::{ArtifactId, ChannelId, NodeId, RouteId};
use slotcast::node::{Node, NodeEvent, Request};
use slotcast::rpc::{CallId, Outcome, Refusal, RequestId};
use slotcast::time::Time;

/// What the replicas do with what they are told. One object for all nodes: it holds what each
/// replica knows, by place, and may check at any time what must hold between them.
pub trait Application {
    /// A node was started, or started again. What it should have after a restart is to be published
    /// here.
    fn start(&mut self, node: &mut Context<'_>) {
        let _ = node;
    }

    /// A node has something to say about a channel.
    fn handle_event(&mut self, node: &mut Context<'_>, channel: ChannelId, event: Event);

    /// Whether a node's application takes requests of a route now. Those that it does not take wait,
    /// and are asked about again when the node is next polled.
    fn takes_requests(&self, at: usize, route: RouteId) -> bool {
        let _ = (at, route);
        true
    }

    /// A node has a request of a member. Until it is answered or refused, it counts as in flight.
    fn handle_request(&mut self, node: &mut Context<'_>, route: RouteId, request: Request) {
        let _ = (route, node.refuse(request.id, Refusal::Dropped));
    }

    /// For the answer to a request that was handed over, nobody waits any more. It is still to be
    /// let go of.
    fn handle_cancelled(&mut self, node: &mut Context<'_>, request: RequestId) {
        node.refuse(request, Refusal::Dropped);
    }

    /// There is room now for the answer to a request, for which [`Context::reserve`] waited.
    fn handle_reserved(&mut self, node: &mut Context<'_>, request: RequestId) {
        let _ = (node, request);
    }

    /// A call of a node has come to its end.
    fn handle_outcome(&mut self, node: &mut Context<'_>, outcome: Outcome) {
        let _ = (node, outcome);
    }

    /// A node has something to say about a peer.
    fn handle_node_event(&mut self, node: &mut Context<'_>, event: NodeEvent) {
        let _ = (node, event);
    }

    /// The time has come that was asked for with [`Context::wake_at`].
    fn wake(&mut self, node: &mut Context<'_>) {
        let _ = node;
    }

    /// Whether [`Application::handle_written`] is to be called.
    fn watches_written(&self) -> bool {
        false
    }

    /// A node has handed its connection what is to be sent next: frames of one stream, readable
    /// with real TLS, too. From here on it can only be reset.
    fn handle_written(&mut self, written: &Sent<'_>) {
        let _ = written;
    }

    /// A node has sent a datagram; whether it arrives is another question.
    fn handle_sent(&mut self, sent: &Sent<'_>) {
        let _ = sent;
    }

    /// A datagram comes out of a participant's socket. It was not lost, but may be corrupted, or be
    /// there for the second time. Its `time` is that of now.
    fn handle_received(&mut self, received: &Sent<'_>) {
        let _ = received;
    }
}

/// Bytes that one participant sends to another.
#[derive(Clone, Copy, Debug)]
pub struct Sent<'a> {
    /// The simulator's time.
    pub time: Time,
    /// The place of who sends them.
    pub from: usize,
    /// The place of who they are for.
    pub to: usize,
    /// The bytes. A datagram is readable with [`Crypto::Null`](super::Crypto::Null) only.
    pub bytes: &'a [u8],
}

/// A node, as its application sees it.
#[derive(Debug)]
pub struct Context<'a> {
    pub(crate) at: usize,
    pub(crate) time: Time,
    pub(crate) clock: Time,
    pub(crate) node: &'a mut Node,
    pub(crate) ids: &'a [NodeId],
    pub(crate) trace: &'a mut Trace,
    pub(crate) wake_at: &'a mut Time,
    pub(crate) touched: &'a mut bool,
}

impl Context<'_> {
    /// The node's place.
    pub fn at(&self) -> usize {
        self.at
    }

    /// What the node's clock shows.
    pub fn now(&self) -> Time {
        self.clock
    }

    /// The simulator's time, for checks.
    pub fn time(&self) -> Time {
        self.time
    }

    /// The node, to look at.
    pub fn node(&self) -> &Node {
        self.node
    }

    /// The node, for what has no method here. It is polled afterwards.
    pub fn node_mut(&mut self) -> &mut Node {
        *self.touched = true;
        self.node
    }

    /// See [`Node::publish`].
    ///
    /// # Errors
    /// If the channel has no room for it; nothing has changed then.
    pub fn publish(&mut self, channel: ChannelId, artifact: Artifact) -> Result<(), PublishError> {
        let id = artifact.id();
        self.node_mut().publish(channel, artifact)?;
        self.trace.note(self.time, self.at, What::Published(channel, id));
        Ok(())
    }

    /// See [`Node::publish_keyed`].
    ///
    /// # Errors
    /// If it has no key, or the channel has no room for it; nothing has changed then.
    pub fn publish_keyed(
        &mut self,
        channel: ChannelId,
        name: u32,
        artifact: Artifact,
    ) -> Result<(), PublishError> {
        let id = artifact.id();
        self.node_mut().publish_keyed(channel, name, artifact)?;
        self.trace.note(self.time, self.at, What::Published(channel, id));
        Ok(())
    }

    /// See [`Node::publish_covered`].
    ///
    /// # Errors
    /// As [`Node::publish`].
    pub fn publish_covered(
        &mut self,
        channel: ChannelId,
        artifact: Artifact,
        threshold: Threshold,
    ) -> Result<(), PublishError> {
        let id = artifact.id();
        self.node_mut().publish_covered(channel, artifact, threshold)?;
        self.trace.note(self.time, self.at, What::Published(channel, id));
        Ok(())
    }

    /// See [`Node::abort_below`].
    pub fn abort_below(&mut self, channel: ChannelId, key: u64) -> usize {
        let count = self.node_mut().abort_below(channel, key);
        if count > 0 {
            self.trace.note(self.time, self.at, What::AbortedBelow(channel, key));
        }
        count
    }

    /// See [`Node::abort`].
    pub fn abort(&mut self, channel: ChannelId, id: &ArtifactId) -> bool {
        let was_active = self.node_mut().abort(channel, id);
        if was_active {
            self.trace.note(self.time, self.at, What::Aborted(channel, *id));
        }
        was_active
    }

    /// See [`Node::relay`].
    ///
    /// # Errors
    /// If nobody near enough advertises it, or there is no room; nothing has changed then.
    pub fn relay(&mut self, channel: ChannelId, artifact: &Artifact) -> Result<(), RelayError> {
        self.node_mut().relay(channel, artifact)
    }

    /// See [`Node::reconsider`].
    pub fn reconsider(&mut self, channel: ChannelId) -> bool {
        let now = self.clock;
        self.node_mut().reconsider(now, channel)
    }

    /// Calls another participant, by its place. See [`Node::call`].
    ///
    /// # Errors
    /// If the call cannot be made; nothing has changed then.
    pub fn call(
        &mut self,
        to: usize,
        route: RouteId,
        body: Bytes,
        timeout: Option<Duration>,
    ) -> Result<CallId, CallError> {
        let (now, peer) = (self.clock, self.ids[to]);
        self.node_mut().call(now, &peer, route, body, timeout, true)
    }

    /// See [`Node::reserve`].
    ///
    /// # Errors
    /// If such an answer is too long, or nobody waits for it any more.
    pub fn reserve(&mut self, request: RequestId, bytes: u32) -> Result<(), AnswerError> {
        let now = self.clock;
        self.node_mut().reserve(now, request, bytes)
    }

    /// See [`Node::answer`].
    ///
    /// # Errors
    /// If the answer is too long, there is no room for it, or nobody waits for it any more.
    pub fn answer(&mut self, request: RequestId, body: Bytes) -> Result<(), AnswerError> {
        let now = self.clock;
        self.node_mut().answer(now, request, body)
    }

    /// See [`Node::refuse`].
    pub fn refuse(&mut self, request: RequestId, refusal: Refusal) -> bool {
        let now = self.clock;
        self.node_mut().refuse(now, request, refusal)
    }

    /// See [`Node::serve`].
    pub fn serve(&mut self, route: RouteId, is_wanted: bool) -> bool {
        let now = self.clock;
        self.node_mut().serve(now, route, is_wanted)
    }

    /// Has [`Application::wake`] called when the node's clock shows `at`, instead of any time asked
    /// for before.
    pub fn wake_at(&mut self, at: Time) {
        *self.wake_at = at;
    }
}

/// Where the participant at a place listens: 10.x.y.z with the place in the last three bytes.
pub fn address(at: usize) -> SocketAddr {
    let [_, a, b, c] = (at as u32 + 1).to_be_bytes();
    ([10, a, b, c], 4000).into()
}

/// The place of an address.
pub(crate) fn place(address: SocketAddr) -> Option<usize> {
    match address {
        SocketAddr::V4(address) if address.port() == 4000 => {
            let [ten, a, b, c] = address.ip().octets();
            let place = u32::from_be_bytes([0, a, b, c]) as usize;
            (ten == 10 && place > 0).then(|| place - 1)
        }
        _ => None,
    }
}
