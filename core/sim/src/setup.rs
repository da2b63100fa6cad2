//! What a simulated subnet is made of.

use core::time::Duration;

use super::bottleneck::Bottleneck;
use super::network::Link;
use crate::Crypto;
use slotcast::config::Config;
use slotcast::id::NodeId;
use slotcast::node::NodeKey;

/// A subnet to be simulated.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Setup {
    /// The configuration of each member.
    pub configs: Vec<Config>,
    /// Participants beside the members, with the places behind theirs and no part in the topology.
    pub strangers: usize,
    /// The link in every direction, at first. Default 20 ms.
    pub link: Link,
    /// What each participant sends passes, whoever it is for. Default without a bound.
    pub uplink: Bottleneck,
    /// What is sent to each participant passes, whoever it is from. Default without a bound.
    pub downlink: Bottleneck,
    /// What everything is drawn from.
    pub seed: u64,
    /// How connections are protected. Default [`Crypto::Null`].
    pub crypto: Crypto,
}

impl Setup {
    /// `count` members with the same configuration.
    pub fn new(config: &Config, count: usize) -> Self {
        Self::with_configs(std::vec![config.clone(); count])
    }

    /// A member with each of these configurations.
    pub fn with_configs(configs: Vec<Config>) -> Self {
        Self {
            configs,
            strangers: 0,
            link: Link::new(Duration::from_millis(20)),
            uplink: Bottleneck::default(),
            downlink: Bottleneck::default(),
            seed: 1,
            crypto: Crypto::Null,
        }
    }

    /// The ids of all participants, by place.
    pub fn ids(&self) -> Vec<NodeId> {
        keys(self.configs.len(), self.strangers).iter().map(NodeKey::id).collect()
    }

    /// The same with another seed.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// The same with other links.
    #[must_use]
    pub fn link(self, link: Link) -> Self {
        Self { link, ..self }
    }

    /// The same with an uplink of this kind for each participant. See [`Network::uplink`] for one
    /// of them.
    ///
    /// [`Network::uplink`]: crate::Network::uplink
    #[must_use]
    pub fn uplink(self, uplink: Bottleneck) -> Self {
        Self { uplink, ..self }
    }

    /// The same with a downlink of this kind for each participant. See [`Network::downlink`] for
    /// one of them.
    ///
    /// [`Network::downlink`]: crate::Network::downlink
    #[must_use]
    pub fn downlink(self, downlink: Bottleneck) -> Self {
        Self { downlink, ..self }
    }

    /// The same with real TLS.
    #[must_use]
    pub fn tls(self) -> Self {
        Self { crypto: Crypto::Tls, ..self }
    }

    /// The same with so many participants that are no members.
    #[must_use]
    pub fn strangers(self, strangers: usize) -> Self {
        Self { strangers, ..self }
    }
}

/// Keys of so many participants. Those of the members come first, in the order of their ids: of two
/// members, the one at the lower place dials.
pub(super) fn keys(members: usize, strangers: usize) -> Vec<NodeKey> {
    let key = |at: usize| {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&(at as u64 + 1).to_le_bytes());
        NodeKey::from_seed(seed)
    };
    let mut keys: Vec<NodeKey> = (0..members + strangers).map(key).collect();
    keys[..members].sort_by_key(NodeKey::id);
    keys
}
