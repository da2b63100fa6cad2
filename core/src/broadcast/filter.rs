//! What the application decides about artifacts that it has not seen.

use crate::artifact::Advert;
use crate::id::{ArtifactId, ChannelId, NodeId};

/// How urgently an artifact is to be fetched, among those of its channel's [`Class`](crate::config::Class).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Priority {
    /// When nothing else of the class is waiting at the same holder.
    Low,
    /// In the order in which artifacts were advertised, or that of [`Freshness`](crate::config::Freshness) and
    /// [`Order`](crate::config::Order) under overload.
    #[default]
    Normal,
    /// Before everything else of the class at the same holder.
    High,
}

impl Priority {
    pub(crate) const ALL: [Self; 3] = [Self::Low, Self::Normal, Self::High];
}

/// What is to be done about an artifact that became known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    /// Get the bytes and deliver them.
    Fetch(Priority),
    /// Remember it, and ask again at the next `reconsider`. Pushed bytes are dropped.
    Later,
    /// Never deliver it, as long as it is advertised.
    Drop,
}

/// An artifact about which a filter decides.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// The channel.
    pub channel: ChannelId,
    /// The artifact.
    pub id: &'a ArtifactId,
    /// Its length, key, metadata and root, and its publisher where that matters.
    pub advert: &'a Advert,
    /// A member that advertises it.
    pub from: NodeId,
}

/// Decides from an advert alone what becomes of an artifact. Called once when the artifact becomes
/// known, and again at each `reconsider` until it is delivered or dropped.
pub trait Filter: Send {
    /// Decides. Must not block: the node waits.
    fn decide(&mut self, candidate: &Candidate<'_>) -> Decision;
}

impl<F: FnMut(&Candidate<'_>) -> Decision + Send> Filter for F {
    fn decide(&mut self, candidate: &Candidate<'_>) -> Decision {
        self(candidate)
    }
}
