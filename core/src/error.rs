//! Errors: faults of a peer ([`Fault`]), and those of commands (one enum for each). Our own broken
//! invariants are assertions.

use core::time::Duration;

use crate::artifact::ArtifactError;
use crate::wire::Malformed;

/// A rule that a peer provably broke. Nothing of the offending frame was applied.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// Bytes that the wire format does not allow.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// A slot at or beyond the channel's `slots_max`.
    #[error("a slot beyond the channel's bound")]
    SlotBeyondBound,
    /// An advert or push longer than the channel takes.
    #[error("an artifact longer than the channel takes")]
    ArtifactTooLong,
    /// An artifact pushed although longer than the channel takes pushes.
    #[error("a push longer than the channel takes")]
    PushTooLong,
    /// An artifact in two slots at once: the versions of the two updates leave no room for the change
    /// that took it out of one of them.
    #[error("an artifact in two slots at once")]
    ArtifactInTwoSlots,
    /// More than one snapshot of a channel in one epoch.
    #[error("a second snapshot in one epoch")]
    SnapshotRepeated,
    /// An advert relayed over more hops than the channel allows.
    #[error("an advert over too many hops")]
    HopsBeyondBound,
    /// A chunk that does not belong to the artifact: its bytes, index or proof are wrong.
    #[error("a chunk that is not the artifact's")]
    WrongChunk,
    /// A chunk that was not asked for.
    #[error("a chunk that was not asked for")]
    UnrequestedChunk,
    /// The first stream is not a hello, or a later one is.
    #[error("hello is not the first stream")]
    HelloMisplaced,
    /// A request longer than the route takes.
    #[error("a request longer than the route takes")]
    RequestTooLong,
    /// An answer longer than the route takes.
    #[error("an answer longer than the route takes")]
    AnswerTooLong,
    /// Far more datagrams, updates and streams that brought nothing than such that did: see
    /// [`WorkConfig::fruitless_max`](crate::config::WorkConfig::fruitless_max).
    #[error("much work without progress")]
    WorkWithoutProgress,
    /// A reply to a request that has not been sent completely, or a second one.
    #[error("a reply before the request was sent, or a second one")]
    ReplyMisplaced,
}

/// Why an artifact was not published. Nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The configuration has no such channel.
    #[error("no such channel in the configuration")]
    UnknownChannel,
    /// Longer than the channel's `artifact_bytes_max`, or than metadata may be.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// An artifact was to be published under a name, and has no key.
    #[error("the artifact has no key under which it could have a name")]
    NoKey,
    /// Who publishes matters in the channel, and the artifact is not [by](crate::artifact::Artifact::by) this
    /// node's key; or it does not, and the artifact is by somebody.
    #[error("the artifact is not by this node, where the sender matters, or is where it does not")]
    WrongPublisher,
    /// All of the channel's slots hold artifacts: abort some first.
    #[error("all slots of the channel are in use: abort artifacts first, or raise slots_max")]
    OutboxFull,
    /// The channel's active artifacts would exceed `active_bytes_max`: abort some first.
    #[error("active artifacts would exceed the channel's active_bytes_max: abort artifacts first")]
    ActiveBytesExceeded,
    /// The node has too many commands waiting: try again later.
    #[error("the node has to catch up with earlier commands: try again later")]
    Busy,
    /// The node has shut down.
    #[error("the node has shut down")]
    Closed,
}

/// Why a flush is not complete.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FlushError {
    /// The deadline has passed: not all who are connected have received everything.
    #[error("the deadline has passed: not all who are connected have received everything")]
    DeadlinePassed,
    /// Too many flushes are in progress.
    #[error("too many flushes are in progress")]
    TooMany,
    /// The node has shut down.
    #[error("the node has shut down")]
    Closed,
}

/// Why an artifact is not relayed. Nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RelayError {
    /// The configuration has no such channel.
    #[error("no such channel in the configuration")]
    UnknownChannel,
    /// No member near enough to the publisher advertises the artifact (any more).
    #[error("no member near enough to the publisher advertises the artifact")]
    NotAdvertised,
    /// The channel's `relay_slots_max` slots, or its `active_bytes_max`, are used up.
    #[error(
        "the channel's slots or bytes for relaying are used up: raise relay_slots_max or active_bytes_max"
    )]
    OutboxFull,
    /// The channel does not relay.
    #[error("the channel does not relay: its configuration has Relay::Off")]
    Off,
    /// The node has too many commands waiting: try again later.
    #[error("the node has to catch up with earlier commands: try again later")]
    Busy,
    /// The node has shut down.
    #[error("the node has shut down")]
    Closed,
}

/// Why a call has no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// This node's configuration has no such route.
    #[error("no such route in the configuration")]
    UnknownRoute,
    /// The peer does not serve the route (any more).
    #[error("the peer does not serve the route")]
    NotServed,
    /// The request is longer than this node's or the peer's `request_bytes_max`.
    #[error("the request is longer than the route's request_bytes_max, here or at the peer")]
    TooLong,
    /// The peer is no member.
    #[error("the peer is no member")]
    NotMember,
    /// The peer is not connected.
    #[error("the peer is not connected: try another, or later")]
    NotConnected,
    /// The peer's credit, and the room for calls that wait for it, are used up, because the peer
    /// does not keep up. Call another member, or try again later.
    #[error("the peer does not keep up with this node's calls: try another, or later")]
    Pushback,
    /// The deadline has passed.
    #[error("the deadline has passed")]
    DeadlinePassed,
    /// The connection was lost before the answer came. The request may have been dealt with.
    #[error("the connection was lost before the answer came: the request may have been dealt with")]
    Disconnected,
    /// The callee has too much to do.
    #[error("the peer is busy: try again in {retry_after:?}")]
    Busy {
        /// When the callee thinks that it is worth trying again.
        retry_after: Duration,
    },
    /// The callee works on no request of the route for longer than its `deadline_max`, which has
    /// passed before the call's own deadline.
    #[error("the peer works on no request of the route for so long: its deadline_max has passed")]
    DeadlineMaxPassed,
    /// The callee dropped the request without an answer.
    #[error("the peer dropped the request")]
    Dropped,
    /// The answer came more slowly than the route's `rate_min`, or the request than the callee's.
    #[error("the request or the answer came more slowly than the route's rate_min")]
    TooSlow,
    /// The peer broke the protocol: an event about the peer names the [`Fault`].
    #[error("the peer broke the protocol: an event about it names the rule")]
    Fault,
    /// The node has shut down.
    #[error("the node has shut down")]
    Closed,
}

/// Why an answer is not sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AnswerError {
    /// Longer than this node's or the caller's `response_bytes_max`. The request is still there.
    #[error("the answer is longer than the route's response_bytes_max, here or at the caller")]
    TooLong,
    /// The route's `body_bytes_max`, or the caller's share of it, has no room for it. Room can be waited for
    /// before. The request is still there.
    #[error(
        "the route's body_bytes_max has no room for the answer: wait for room before answering"
    )]
    NoRoom,
    /// Of a request that is read in parts, not all has arrived. The request is still there.
    #[error("the request has not been read to its end")]
    NotRead,
    /// The caller does not wait for it any more: it has given up, its deadline has passed, or the
    /// connection is gone.
    #[error("the caller does not wait for the answer any more")]
    Cancelled,
    /// This node's `deadline_max` has passed before the caller's deadline. The caller knows.
    #[error("the route's deadline_max has passed")]
    DeadlineMaxPassed,
    /// The request is a message, which wants no answer.
    #[error("the request is a message, which wants no answer")]
    NotWanted,
    /// The node has shut down.
    #[error("the node has shut down")]
    Closed,
}

/// Why a part of a body is not sent. Nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PartError {
    /// Longer than what is missing of the body, or than a part may be.
    #[error("the part is longer than what is missing of the body, or than a part may be")]
    TooLong,
    /// The part before it has not been sent.
    #[error("the part before it has not been sent")]
    NotYet,
    /// Nobody waits for it any more, or the body was given as a whole.
    #[error("nobody waits for it")]
    NotWanted,
}
