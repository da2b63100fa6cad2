//! What a hostile member does on purpose, and how often it did.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// One way of misbehaving. Those that break a rule of the protocol are faults at the member they
/// are played on ([`Trick::is_breach`]); the others are allowed, and must do no harm either.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum Trick {
    /// Different content in one slot and version to different members, and twice to one.
    EquivocatingAdverts,
    /// An artifact that another member advertises, with a forged length, metadata or root.
    ForgedAdvert,
    /// Chunks with wrong bytes, index or proof: of artifacts of its own, of other members'
    /// artifacts which it claims to hold, and behind streamed adverts.
    WrongChunks,
    /// Slots at and beyond the channel's bound.
    SlotBeyondBound,
    /// Versions that go back, version 0, the greatest version there is, and 1 after that.
    VersionRegress,
    /// Hundreds of pushes and clears of the same few slots at once.
    ClearPushChurn,
    /// As many streams as it may open, each with half a head or half a frame, not ended for long.
    HalfOpenStreams,
    /// One byte per second of an update, and of the answer to a fetch.
    OneBytePerSecond,
    /// Reads nothing for long, so that its peers' credit runs out.
    NeverRead,
    /// All but the last byte of what it was asked for, in a stream that does not end; and reads no
    /// stream to its end.
    AckNeverFinish,
    /// A hello that is too long, names a channel twice or too many, comes twice, or late.
    HugeHello,
    /// Streams and frames of types that nobody knows, of any length. Allowed: later versions will.
    UnknownKinds,
    /// Adverts of what it never serves: silence, refusals, or "busy" for ever.
    AdvertNeverServe,
    /// Serves artifacts of its own and of others, but as slowly as is put up with.
    CrawlingHolder,
    /// As many pushes of fresh artifacts as credit allows.
    Flood,
    /// Requests for all it has heard of, again and again, and for what does not exist.
    FetchFlood,
    /// Forgets everything without a word and dials again, several times per second.
    RestartLoop,
    /// Streams of random bytes.
    GarbageStreams,
    /// Frames with fields cut off, left over or out of range, and with lengths that lie.
    Malformed,
    /// A second snapshot in one epoch.
    RepeatedSnapshot,
    /// Streams that are reset before they make sense.
    ResetStorm,
    /// Stops every stream of its peers.
    StopEverything,
    /// Several connections to one member, each with a hello.
    ManyConnections,
    /// Handshakes, dozens at once, which it does not bring to their end, or ends at once.
    HandshakeFlood,
    /// Datagrams that are none of QUIC's, or of no connection.
    GarbageDatagrams,
    /// Tells of chunks that it does not have, of its own and others' artifacts: of all, of some, of
    /// others than before. Asked for them it is silent, refuses, or is "busy".
    FalsePartial,
    /// As the publisher of an artifact that is spread: gives the same stripe to all, half a stripe, or
    /// none to some members, or tells only some of them of it.
    WithholdStripes,
    /// As a relay: passes nothing on of the stripe that it was given, though it may say that it does,
    /// or passes it on a little at a time.
    WithholdRelay,
}

impl Trick {
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// All of them.
    pub const ALL: [Self; 28] = [
        Self::EquivocatingAdverts,
        Self::ForgedAdvert,
        Self::WrongChunks,
        Self::SlotBeyondBound,
        Self::VersionRegress,
        Self::ClearPushChurn,
        Self::HalfOpenStreams,
        Self::OneBytePerSecond,
        Self::NeverRead,
        Self::AckNeverFinish,
        Self::HugeHello,
        Self::UnknownKinds,
        Self::AdvertNeverServe,
        Self::CrawlingHolder,
        Self::Flood,
        Self::FetchFlood,
        Self::RestartLoop,
        Self::GarbageStreams,
        Self::Malformed,
        Self::RepeatedSnapshot,
        Self::ResetStorm,
        Self::StopEverything,
        Self::ManyConnections,
        Self::HandshakeFlood,
        Self::GarbageDatagrams,
        Self::FalsePartial,
        Self::WithholdStripes,
        Self::WithholdRelay,
    ];

    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::EquivocatingAdverts => "equivocating_adverts",
            Self::ForgedAdvert => "forged_advert",
            Self::WrongChunks => "wrong_chunks",
            Self::SlotBeyondBound => "slot_beyond_bound",
            Self::VersionRegress => "version_regress",
            Self::ClearPushChurn => "clear_push_churn",
            Self::HalfOpenStreams => "half_open_streams",
            Self::OneBytePerSecond => "one_byte_per_second",
            Self::NeverRead => "never_read",
            Self::AckNeverFinish => "ack_never_finish",
            Self::HugeHello => "huge_hello",
            Self::UnknownKinds => "unknown_kinds",
            Self::AdvertNeverServe => "advert_never_serve",
            Self::CrawlingHolder => "crawling_holder",
            Self::Flood => "flood",
            Self::FetchFlood => "fetch_flood",
            Self::RestartLoop => "restart_loop",
            Self::GarbageStreams => "garbage_streams",
            Self::Malformed => "malformed",
            Self::RepeatedSnapshot => "repeated_snapshot",
            Self::ResetStorm => "reset_storm",
            Self::StopEverything => "stop_everything",
            Self::ManyConnections => "many_connections",
            Self::HandshakeFlood => "handshake_flood",
            Self::GarbageDatagrams => "garbage_datagrams",
            Self::FalsePartial => "false_partial",
            Self::WithholdStripes => "withhold_stripes",
            Self::WithholdRelay => "withhold_relay",
        }
    }

    /// Whether it breaks a rule, so that the member it is played on sees a
    /// [`Fault`](slotcast::error::Fault).
    pub const fn is_breach(self) -> bool {
        matches!(
            self,
            Self::ForgedAdvert
                | Self::WrongChunks
                | Self::SlotBeyondBound
                | Self::VersionRegress
                | Self::HugeHello
                | Self::GarbageStreams
                | Self::Malformed
                | Self::RepeatedSnapshot
        )
    }
}

impl fmt::Display for Trick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How often each trick was played. Clones share the counts, so that they can be read while the
/// member is somewhere in a simulation, and afterwards.
#[derive(Clone, Debug, Default)]
pub struct Tally(Arc<[AtomicU64; Trick::COUNT]>);

impl Tally {
    /// How often `trick` was played.
    pub fn of(&self, trick: Trick) -> u64 {
        self.0[trick as usize].load(Relaxed)
    }

    /// All counts, in the order of [`Trick::ALL`].
    pub fn counts(&self) -> [u64; Trick::COUNT] {
        Trick::ALL.map(|trick| self.of(trick))
    }

    pub(super) fn note(&self, trick: Trick) {
        self.0[trick as usize].fetch_add(1, Relaxed);
    }
}

impl fmt::Display for Tally {
    /// The tricks that were played, and how often.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let played = Trick::ALL.into_iter().filter(|trick| self.of(*trick) > 0);
        for (at, trick) in played.enumerate() {
            let comma = if at > 0 { ", " } else { "" };
            write!(f, "{comma}{} {}", trick.name(), self.of(trick))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    #[test]
    fn all_tricks_are_in_their_places_and_have_names_of_their_own() {
        for (at, trick) in Trick::ALL.into_iter().enumerate() {
            assert_eq!(trick as usize, at);
            let words = trick.name().split('_');
            let capital = |word: &str| word[..1].to_uppercase() + &word[1..];
            assert_eq!(std::format!("{trick:?}"), words.map(capital).collect::<String>());
        }
    }
}
