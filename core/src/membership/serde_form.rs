//! Topologies in formats of serde: as in a topology file, with all addresses and keys of each member.

use alloc::vec::Vec;
use core::net::SocketAddr;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Topology;
use crate::id::NodeId;

#[derive(Serialize, Deserialize)]
#[serde(rename = "Topology", deny_unknown_fields)]
struct Form {
    version: u64,
    member: Vec<MemberForm>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename = "Member", deny_unknown_fields)]
struct MemberForm {
    id: NodeId,
    addresses: Vec<SocketAddr>,
    /// Only the id where they are missing.
    #[serde(default)]
    keys: Option<Vec<NodeId>>,
}

impl Serialize for Topology {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let form = |(id, member): &(NodeId, super::Member)| MemberForm {
            id: *id,
            addresses: member.addresses.clone(),
            keys: Some(member.keys.clone()),
        };
        let member = self.members.iter().map(form).collect();
        Form { version: self.version, member }.serialize(to)
    }
}

impl<'de> Deserialize<'de> for Topology {
    /// Checked as in [`Topology::new`] and [`Topology::keys`].
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let Form { version, member } = Form::deserialize(from)?;
        let mut keyed = Vec::new();
        let addresses = |MemberForm { id, addresses, keys }| {
            keyed.extend(keys.map(|keys| ((), id, keys)));
            (id, addresses)
        };
        let members: Vec<_> = member.into_iter().map(addresses).collect();
        let topology = Self::new(version, members).map_err(D::Error::custom)?;
        topology.with_keys(keyed).map_err(|((), error)| D::Error::custom(error))
    }
}
