//! Errors: faults of a peer ([`Fault`]), and those of commands (one enum for each). Our own broken
//! invariants are assertions.

use core::fmt;
use core::time::Duration;

use crate::artifact::ArtifactError;
use crate::wire::Malformed;

/// A rule that a peer provably broke. Nothing of the offending frame was applied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Fault {
    /// Bytes that the wire format does not allow.
    Malformed(Malformed),
    /// A slot at or beyond the channel's `slots_max`.
    SlotBeyondBound,
    /// An advert or push longer than the channel takes.
    ArtifactTooLong,
    /// An artifact pushed although longer than the channel takes pushes.
    PushTooLong,
    /// An artifact in two slots at once: the versions of the two updates leave no room for the change
    /// that took it out of one of them.
    ArtifactInTwoSlots,
    /// More than one snapshot of a channel in one epoch.
    SnapshotRepeated,
    /// An advert relayed over more hops than the channel allows.
    HopsBeyondBound,
    /// A chunk that does not belong to the artifact: its bytes, index or proof are wrong.
    WrongChunk,
    /// A chunk that was not asked for.
    UnrequestedChunk,
    /// The first stream is not a hello, or a later one is.
    HelloMisplaced,
    /// A request longer than the route takes.
    RequestTooLong,
    /// An answer longer than the route takes.
    AnswerTooLong,
    /// A reply to a request that has not been sent completely, or a second one.
    ReplyMisplaced,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed(malformed) => return write!(f, "malformed: {malformed}"),
            Self::SlotBeyondBound => "a slot beyond the channel's bound",
            Self::ArtifactTooLong => "an artifact longer than the channel takes",
            Self::PushTooLong => "a push longer than the channel takes",
            Self::ArtifactInTwoSlots => "an artifact in two slots at once",
            Self::SnapshotRepeated => "a second snapshot in one epoch",
            Self::HopsBeyondBound => "an advert over too many hops",
            Self::WrongChunk => "a chunk that is not the artifact's",
            Self::UnrequestedChunk => "a chunk that was not asked for",
            Self::HelloMisplaced => "hello is not the first stream",
            Self::RequestTooLong => "a request longer than the route takes",
            Self::AnswerTooLong => "an answer longer than the route takes",
            Self::ReplyMisplaced => "a reply before the request was sent, or a second one",
        })
    }
}

impl core::error::Error for Fault {}

impl From<Malformed> for Fault {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

/// Why an artifact was not published. Nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum PublishError {
    /// The configuration has no such channel.
    UnknownChannel,
    /// Longer than the channel's `artifact_bytes_max`, or than metadata may be.
    Artifact(ArtifactError),
    /// All of the channel's slots hold artifacts: abort some first.
    OutboxFull,
    /// The channel's active artifacts would exceed `active_bytes_max`: abort some first.
    ActiveBytesExceeded,
    /// The node has too many commands waiting: try again later.
    Busy,
    /// The node has shut down.
    Closed,
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownChannel => "no such channel in the configuration",
            Self::Artifact(ArtifactError::TooLong) => {
                "artifact is longer than the channel's artifact_bytes_max"
            }
            Self::Artifact(error) => return error.fmt(f),
            Self::OutboxFull => "all slots of the channel are in use: abort artifacts first",
            Self::ActiveBytesExceeded => {
                "active artifacts would exceed the channel's active_bytes_max: abort artifacts first"
            }
            Self::Busy => "the node has to catch up with earlier commands: try again later",
            Self::Closed => "the node has shut down",
        })
    }
}

impl core::error::Error for PublishError {}

impl From<ArtifactError> for PublishError {
    fn from(error: ArtifactError) -> Self {
        Self::Artifact(error)
    }
}

/// Why an artifact is not relayed. Nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum RelayError {
    /// The configuration has no such channel.
    UnknownChannel,
    /// No member near enough to the publisher advertises the artifact (any more).
    NotAdvertised,
    /// The channel's `relay_slots_max` slots, or its `active_bytes_max`, are used up.
    OutboxFull,
    /// The channel does not relay.
    Off,
    /// The node has too many commands waiting: try again later.
    Busy,
    /// The node has shut down.
    Closed,
}

impl fmt::Display for RelayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownChannel => "no such channel in the configuration",
            Self::NotAdvertised => "no member near enough to the publisher advertises the artifact",
            Self::OutboxFull => "the channel's slots or bytes for relaying are used up",
            Self::Off => "the channel does not relay",
            Self::Busy => "the node has to catch up with earlier commands: try again later",
            Self::Closed => "the node has shut down",
        })
    }
}

impl core::error::Error for RelayError {}

/// Why a call has no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum CallError {
    /// This node's configuration has no such route.
    UnknownRoute,
    /// The peer does not serve the route (any more).
    NotServed,
    /// The request is longer than this node's or the peer's `request_bytes_max`.
    TooLong,
    /// The peer is no member.
    NotMember,
    /// The peer is not connected.
    NotConnected,
    /// The peer's credit, and the room for calls that wait for it, are used up, because the peer
    /// does not keep up. Call another member, or try again later.
    Pushback,
    /// The deadline has passed.
    DeadlinePassed,
    /// The connection was lost before the answer came. The request may have been dealt with.
    Disconnected,
    /// The callee has too much to do.
    Busy {
        /// When the callee thinks that it is worth trying again.
        retry_after: Duration,
    },
    /// The callee dropped the request without an answer.
    Dropped,
    /// The answer came more slowly than the route's `rate_min`.
    TooSlow,
    /// The peer broke the protocol: an event about the peer names the [`Fault`].
    Fault,
    /// The node has shut down.
    Closed,
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownRoute => "no such route in the configuration",
            Self::NotServed => "the peer does not serve the route",
            Self::TooLong => "the request is longer than the route's request_bytes_max",
            Self::NotMember => "the peer is no member",
            Self::NotConnected => "the peer is not connected",
            Self::Pushback => {
                "the peer does not keep up with this node's calls: try another, or later"
            }
            Self::DeadlinePassed => "the deadline has passed",
            Self::Disconnected => "the connection was lost before the answer came",
            Self::Busy { retry_after } => {
                return write!(f, "the peer is busy: try again in {retry_after:?}");
            }
            Self::Dropped => "the peer dropped the request",
            Self::TooSlow => "the answer came more slowly than the route's rate_min",
            Self::Fault => "the peer broke the protocol",
            Self::Closed => "the node has shut down",
        })
    }
}

impl core::error::Error for CallError {}

/// Why an answer is not sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum AnswerError {
    /// Longer than this node's or the caller's `response_bytes_max`. The request is still there.
    TooLong,
    /// The caller does not wait for it any more: it has given up, its deadline has passed, or the
    /// connection is gone.
    Cancelled,
    /// The node has shut down.
    Closed,
}

impl fmt::Display for AnswerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "the answer is longer than the route's response_bytes_max",
            Self::Cancelled => "the caller does not wait for the answer any more",
            Self::Closed => "the node has shut down",
        })
    }
}

impl core::error::Error for AnswerError {}
