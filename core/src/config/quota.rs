//! What a member may send in a channel.

use core::time::Duration;

use super::ConfigError;
use super::error::within;

/// How much each member may send in a channel: the most at once, and in the long run.
///
/// Members are told it in the hello, and keep to it: what a member has published beyond it waits at that member, where
/// it can still change, and its other channels go on ([`PeerSnapshot::paced_channels`](crate::snapshot::PeerSnapshot::paced_channels)
/// there). A member leaves half of a burst unused, for what the path delays, and takes a 128th more time than the rates
/// allow, for clocks that differ.
///
/// What comes beyond it all the same, from a member that does not know of quotas or does not keep to them, is left
/// unread until it is due, and QUIC pushes back. Streams that are left unread count among those that the member may
/// have open ([`streams_max`](super::TransportConfig::streams_max)) and use up some of its
/// [`receive_window`](super::TransportConfig::receive_window). So such a member is slowed down in its other channels,
/// too. Other members are not. What is left unread when the connection ends is dropped, although the member may have
/// counted it as received ([`Coverage`](crate::broadcast::Coverage)): over the next connection it tells what is still
/// active.
///
/// Both sides count for the member, not for the connection, until it leaves the topology: who connects again and again
/// has no more for it. After a connection begins, all that is published is told again, and counts, whichever side has
/// ended the one before. A member that has restarted does not know what it has sent; the half of a burst that is left
/// unused is enough for one restart in that time, and after more of them the member is held back for a while. A node
/// that has restarted itself counts anew, and its members do, too.
///
/// Chunks of long artifacts count, but are read in any case, since they were asked for: the member's next updates
/// wait longer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct Quota {
    /// Changes of slots in a second: an artifact that is published, and one that is aborted. Default 10,000. At
    /// least 1.
    pub updates_per_second: u32,
    /// Bytes in a second, of updates with pushed artifacts, and of chunks. Default 16 MiB. At least 1,024.
    pub bytes_per_second: u32,
    /// As much may come at once as in so much time. Default 1 s: take what all active artifacts of a member are
    /// told in, or members that were away are slow to catch up. Between 10 ms and 60 s.
    #[cfg_attr(feature = "serde", serde(with = "super::span"))]
    pub burst: Duration,
}

impl Quota {
    /// So much in a second, and in the first instant.
    pub const fn per_second(updates: u32, bytes: u32) -> Self {
        let burst = Duration::from_secs(1);
        Self { updates_per_second: updates, bytes_per_second: bytes, burst }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        within("quota.updates_per_second", self.updates_per_second, 1..=u32::MAX, "")?;
        within("quota.bytes_per_second", self.bytes_per_second, 1024..=u32::MAX, "")?;
        let burst = Duration::from_millis(10)..=Duration::from_secs(60);
        within("quota.burst", self.burst, burst, "")
    }
}

impl Default for Quota {
    fn default() -> Self {
        Self::per_second(10_000, 16 << 20)
    }
}
