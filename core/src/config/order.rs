//! In which order the newest of a channel go.

/// What goes first in a channel when a member cannot be served, or asked, as fast as the channel changes: of all that
/// does not fall to the [share of the oldest](super::Freshness::oldest_percent). As long as all goes in time, it goes
/// in the order in which it came. Members need not agree.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum Order {
    /// The newest.
    #[default]
    Age,
    /// What has the highest key ([`Artifact::keyed`](crate::artifact::Artifact::keyed)), such as the highest round;
    /// of equal keys the newest. What has no key counts as having the lowest. Such a channel takes 96 bytes more
    /// for each of its slots.
    ///
    /// Keys are their publisher's word. Whoever gives high ones to all that it publishes does not keep others waiting:
    /// keys decide among what one member offers, and about room to fetch into, of which one member has an eighth. But
    /// a relay that is late passes on the highest keys first, whoever has published them: where members relay, the
    /// filter is to drop what has a key that is not plausible.
    HighestKeyFirst,
}
