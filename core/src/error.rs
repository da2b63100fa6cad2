//! What can go wrong: a peer's breach ([`Fault`]) and the caller's mistakes (one enum per command).
//! Our own broken invariants are assertions.

use core::fmt;

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
    /// More than one snapshot of a channel in one epoch.
    SnapshotRepeated,
    /// An advert relayed over more hops than the channel allows.
    HopsBeyondBound,
    /// A streamed advert of a node that is not the publisher.
    StreamedRelay,
    /// A chunk that does not belong to the artifact: its bytes, place or proof are wrong.
    WrongChunk,
    /// A chunk that was not asked for.
    UnrequestedChunk,
    /// The first stream is not a hello, or a later one is.
    HelloMisplaced,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed(malformed) => return write!(f, "malformed: {malformed}"),
            Self::SlotBeyondBound => "a slot beyond the channel's bound",
            Self::ArtifactTooLong => "an artifact longer than the channel takes",
            Self::PushTooLong => "a push longer than the channel takes",
            Self::SnapshotRepeated => "a second snapshot in one epoch",
            Self::HopsBeyondBound => "an advert over too many hops",
            Self::StreamedRelay => "a streamed advert of a relay",
            Self::WrongChunk => "a chunk that is not the artifact's",
            Self::UnrequestedChunk => "a chunk that was not asked for",
            Self::HelloMisplaced => "hello is not the first stream",
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
    /// The node has many commands to catch up with: try again later.
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
    /// The node has many commands to catch up with: try again later.
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
