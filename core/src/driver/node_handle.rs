//! The handle of a node.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;
use std::vec::Vec;

use futures_core::Stream;

use super::channel::Channel;
use super::questions::{Answer, Question, ask};
use super::shared::{Shared, State};
use super::waiters::{Source, Waiting};
use crate::error::FlushError;
use crate::id::{ChannelId, NodeId};
use crate::membership::{Membership, Topology, TopologyError};
use crate::node::{NodeEvent, NodeStats};
use crate::snapshot::Snapshot;

/// The application has dropped its last handle: the node shuts down.
struct Owner(Arc<Shared>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.command(State::abandon);
    }
}

/// A running node. Clones are handles to the same node; it shuts down when the last handle, channel
/// handles included, is dropped.
///
/// Commands never wait and may be used from any thread. Awaiting works under any runtime.
///
/// ```
/// use std::time::Duration;
///
/// use slotcast::driver::{NodeHandle, Who};
/// use slotcast::id::ChannelId;
///
/// async fn run(node: &NodeHandle) -> Result<(), Box<dyn std::error::Error>> {
///     node.wait_connected(Who::All, Duration::from_secs(10)).await?;
///     node.channel(ChannelId(1))?.publish("a block", b"height 7")?;
///     // All who are connected have it, or the time is up.
///     node.flush(Duration::from_secs(5)).await?;
///     Ok(node.shutdown().await?)
/// }
/// ```
#[must_use = "a node shuts down when its last handle is dropped"]
#[derive(Clone)]
pub struct NodeHandle {
    owner: Arc<Owner>,
}

impl fmt::Debug for NodeHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeHandle").field("id", &self.key_id()).finish_non_exhaustive()
    }
}

/// The configuration has no such channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("channel {} is not configured", .0.0)]
pub struct UnknownChannel(pub ChannelId);

impl NodeHandle {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { owner: Arc::new(Owner(shared)) }
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.owner.0
    }

    /// The node, without keeping it running.
    pub(super) fn shared_arc(&self) -> Arc<Shared> {
        self.owner.0.clone()
    }

    /// The public half of the node's key.
    pub fn key_id(&self) -> NodeId {
        self.shared().id
    }

    /// The id of the member that the node is, which is the member that has its key. Equal to
    /// [`NodeHandle::key_id`] if no member has the key.
    pub fn member_id(&self) -> NodeId {
        let id = self.key_id();
        self.shared().lock().membership.owner(&id).unwrap_or(id)
    }

    /// The address that the node listens on.
    pub fn local_address(&self) -> SocketAddr {
        self.shared().local
    }

    /// A handle to one channel.
    ///
    /// # Errors
    /// If the configuration does not have it.
    pub fn channel(&self, id: ChannelId) -> Result<Channel, UnknownChannel> {
        let state = self.shared().lock();
        let index = state.channels.iter().position(|channel| channel.config.id == id);
        let index = index.ok_or(UnknownChannel(id))?;
        let artifact_bytes_max = state.channels[index].config.artifact_bytes_max;
        let publisher = state.channels[index].publisher;
        Ok(Channel { node: self.clone(), id, index, artifact_bytes_max, publisher })
    }

    /// Follows a new topology in place of all that are in use: connects to new members, and drops
    /// former ones at once. A node whose key belongs to no member of it keeps no connections. A
    /// topology with the version of the latest takes its place, even with other members.
    ///
    /// # Errors
    /// If its version is lower than the latest, or it has too many members; nothing has changed
    /// then.
    pub fn set_topology(&self, topology: Topology) -> Result<(), TopologyError> {
        self.shared().change_membership(|membership| membership.replace(topology))
    }

    /// Follows a topology in addition to those that are in use, and connects to new members. A
    /// member of any topology in use stays a member until that topology is
    /// [retired](NodeHandle::retire_topologies).
    ///
    /// # Errors
    /// As [`Membership::add`], or if there are too many members; nothing has changed then.
    pub fn add_topology(&self, topology: Topology) -> Result<(), TopologyError> {
        self.shared().change_membership(|membership| membership.add(topology))
    }

    /// Stops following topologies with a version below `oldest`, except for the latest. Former
    /// members are dropped at once.
    ///
    /// # Errors
    /// If the node has shut down.
    pub fn retire_topologies(&self, oldest: u64) -> Result<(), TopologyError> {
        self.shared().change_membership(|membership| {
            membership.retire(oldest);
            Ok(())
        })
    }

    /// The topologies in use, and the members by them.
    pub fn membership(&self) -> Membership {
        self.shared().lock().membership.clone()
    }

    /// The next event about peers; `None` once the node has shut down.
    pub async fn next_event(&self) -> Option<NodeEvent> {
        let mut waiting = Waiting::new(self.shared(), Source::Peers);
        poll_fn(|cx| waiting.poll_next(cx, State::take_node_event)).await
    }

    /// The same events as a stream, which does not keep the node running. It ends once the node has shut
    /// down and the events staged by then are taken.
    pub fn node_events(&self) -> NodeEvents {
        NodeEvents { waiting: Waiting::new(self.shared_arc(), Source::Peers) }
    }

    /// An event about peers, if there is one.
    pub fn try_event(&self) -> Option<NodeEvent> {
        self.shared().take(State::take_node_event)
    }

    /// The members that are connected; none once the node has shut down.
    pub fn peers_up(&self) -> Vec<NodeId> {
        self.shared().lock().peers_up.clone()
    }

    /// Ends the connection with a member. Both sides then dial by the usual rules, in most cases at
    /// once: [`NodeHandle::ban`] keeps a member away. False if it is not connected.
    pub fn disconnect(&self, member: &NodeId) -> bool {
        self.shared().command(|state| {
            let is_up = state.peers_up.contains(member);
            if is_up {
                state.disconnects.insert(*member);
            }
            is_up
        })
    }

    /// Bans a member: this node treats it as if it were none until [`NodeHandle::unban`]. Its
    /// connections are closed, what it advertised is dropped, it is not dialled, and when it dials it is
    /// refused as a stranger. A ban lasts through changes of the topology as long as the member is
    /// one; who has left and joins again is not banned. [`Membership::banned`] tells who is.
    ///
    /// # Errors
    /// If it is no member, or the node has shut down.
    pub fn ban(&self, member: NodeId) -> Result<(), TopologyError> {
        self.shared().change_membership(|membership| membership.ban(member).map(drop))
    }

    /// Lifts the ban of a member, which is dialled again.
    ///
    /// # Errors
    /// If there are too many members without the ban, or the node has shut down; nothing has changed then.
    pub fn unban(&self, member: &NodeId) -> Result<(), TopologyError> {
        self.shared().change_membership(|membership| {
            membership.unban(member);
            Ok(())
        })
    }

    /// What the node has counted so far.
    pub fn stats(&self) -> NodeStats {
        self.shared().lock().stats
    }

    /// What the node knows of itself, its peers, channels and routes, at the end of its driver's present or
    /// next turn. `None` once the node has shut down. It is made for this call, in a walk over all of the
    /// node's tables: for some times in a second at most. Several calls at once share one walk.
    pub async fn snapshot(&self) -> Option<Snapshot> {
        let ticket = self.shared().command(|state| state.snapshots.request());
        let mut waiting = Waiting::new(self.shared(), Source::Snapshot);
        let answer = poll_fn(|cx| {
            waiting.poll_next(cx, |state| Some((state.snapshots.answered(ticket)?, false)))
        });
        // Copied after the lock is released, as it may be long.
        answer.await.map(Arc::unwrap_or_clone)
    }

    /// Done when everything published so far has been received by all members that are connected: each has
    /// acknowledged or declined it, see [`Coverage`](crate::broadcast::Coverage), or it was aborted. Members
    /// that are not connected are not waited for: see [`NodeHandle::connected`]. Those that connect meanwhile
    /// are. Dropping the future gives up the flush, which makes room for another one.
    ///
    /// # Errors
    /// If that has not come to be within the span, the node has shut down, or
    /// [`FLUSHES_MAX`](crate::node::FLUSHES_MAX) flushes are in progress.
    pub async fn flush(&self, timeout: Duration) -> Result<(), FlushError> {
        match ask(self.shared(), Question::Flush(timeout)).await {
            Some(Answer::Flush(result)) => result,
            _ => Err(FlushError::Closed),
        }
    }

    /// Shuts the node down in order: [flushes](NodeHandle::flush), waits until calls and requests are over,
    /// and shuts down as [`NodeHandle::shutdown`] does, at the latest after `timeout`. From now on nothing
    /// is published or called, and no more requests are taken; those that were can be answered. Dropping the
    /// future, or all handles, does not take it back; [`NodeHandle::shutdown`] cuts it short.
    ///
    /// It does not tell whether all was received in time: to know that, flush before. Aborts are not waited for: one made
    /// less than [`clear_delay`](crate::config::ChannelConfig::clear_delay) and a round trip before the end may not be told.
    ///
    /// # Errors
    /// As [`NodeHandle::closed`].
    pub fn shutdown_within(
        &self,
        timeout: Duration,
    ) -> impl Future<Output = Result<(), DriverError>> + use<'_> {
        self.shared().command(|state| state.shut_down_within(timeout));
        self.closed()
    }

    /// Shuts the node down at once: peers are told, waiting calls end, and what has not been sent is lost.
    /// Done when the driver has ended: at the
    /// latest after [`TransportConfig::shutdown_timeout`], and [`CLOSE_MAX`](super::CLOSE_MAX) more if the
    /// socket takes that long to close. Dropping the future does not take the shutdown back.
    ///
    /// # Errors
    /// As [`NodeHandle::closed`].
    ///
    /// [`TransportConfig::shutdown_timeout`]: crate::config::TransportConfig::shutdown_timeout
    pub fn shutdown(&self) -> impl Future<Output = Result<(), DriverError>> + use<'_> {
        self.shared().command(|state| state.shutdown = true);
        self.closed()
    }

    /// Done when the driver has ended.
    ///
    /// # Errors
    /// If it has ended for another reason than a shutdown.
    pub async fn closed(&self) -> Result<(), DriverError> {
        let mut waiting = Waiting::new(self.shared(), Source::End);
        poll_fn(|cx| waiting.poll(cx, |state| Some((state.end.clone()?, false)))).await
    }

    /// A handle that does not keep the node running.
    pub fn downgrade(&self) -> WeakNodeHandle {
        WeakNodeHandle { owner: Arc::downgrade(&self.owner) }
    }
}

/// A handle that does not keep the node running: for tasks that are to end with the application's other
/// handles.
#[derive(Clone)]
#[must_use = "a handle does nothing by itself"]
pub struct WeakNodeHandle {
    owner: Weak<Owner>,
}

impl fmt::Debug for WeakNodeHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeakNodeHandle").finish_non_exhaustive()
    }
}

impl WeakNodeHandle {
    /// The node's handle, unless the last one has been dropped.
    pub fn upgrade(&self) -> Option<NodeHandle> {
        self.owner.upgrade().map(|owner| NodeHandle { owner })
    }
}

/// Why a driver has ended without a shutdown.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DriverError {
    /// The socket cannot be used any more.
    #[error("the socket has failed")]
    Socket(#[source] Arc<io::Error>),
    /// The driver has panicked, perhaps in a filter of the application.
    #[error("the driver has panicked: {0}")]
    Panic(Arc<str>),
    /// The driver was dropped before its end, as a runtime does with its tasks when it is dropped itself.
    #[error("the driver was dropped: its runtime has to outlive the node")]
    Dropped,
}

impl From<DriverError> for io::Error {
    fn from(error: DriverError) -> Self {
        let kind = match &error {
            DriverError::Socket(error) => error.kind(),
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

/// The events about peers: [`NodeHandle::node_events`].
#[must_use = "streams do nothing unless they are polled"]
pub struct NodeEvents {
    waiting: Waiting<Arc<Shared>>,
}

impl fmt::Debug for NodeEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeEvents").finish_non_exhaustive()
    }
}

impl Stream for NodeEvents {
    type Item = NodeEvent;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<NodeEvent>> {
        self.get_mut().waiting.poll_next(cx, State::take_node_event)
    }
}
