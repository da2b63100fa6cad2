//! The topology file: who belongs to the subnet, in TOML. Every complaint says where.
//!
//! ```toml
//! version = 1
//!
//! [[member]]
//! id = "<64 hexadecimal digits>"
//! address = "192.0.2.1:7001" # or: addresses = ["192.0.2.1:7001", "[2001:db8::1]:7001"]
//! ```

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use serde::Deserialize;
use slotcast_tokio::slotcast::config::PEERS_LIMIT;
use slotcast_tokio::slotcast::id::NodeId;
use slotcast_tokio::slotcast::membership::{ADDRESSES_MAX, Topology};
use toml::Spanned;

use crate::Failure;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u64,
    #[serde(default)]
    member: Vec<Spanned<Member>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Member {
    id: Spanned<String>,
    address: Option<Spanned<String>>,
    addresses: Option<Spanned<Vec<Spanned<String>>>>,
}

/// Something wrong, and at which byte of the file.
struct Wrong {
    at: usize,
    what: String,
}

fn wrong<T>(at: usize, what: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong { at, what: what.into() })
}

/// The topology in a file.
pub(crate) fn load(path: &Path) -> Result<Topology, Failure> {
    let shown = path.display();
    let bytes = std::fs::read(path)
        .map_err(|error| Failure::Start(format!("cannot read {shown}: {error}")))?;
    let topology = match str::from_utf8(&bytes) {
        Ok(text) => parse(text),
        Err(error) => wrong(error.valid_up_to(), "not UTF-8"),
    };
    topology.map_err(|Wrong { at, what }| {
        let before = &bytes[..at.min(bytes.len())];
        let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        let column = 1 + String::from_utf8_lossy(&before[line_start..]).chars().count();
        Failure::Start(format!("{shown}:{line}:{column}: {what}"))
    })
}

fn parse(text: &str) -> Result<Topology, Wrong> {
    let file: File = toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        Wrong { at, what: error.message().trim_end().replace('\n', ", ") }
    })?;
    if file.member.is_empty() {
        return wrong(text.len(), "no members: each needs a [[member]] with id and address");
    }
    let mut members = BTreeMap::new();
    for member in &file.member {
        let at = member.span().start;
        let Member { id, address, addresses } = member.get_ref();
        let node: NodeId = match id.get_ref().parse() {
            Ok(node) => node,
            Err(error) => return wrong(id.span().start, format!("`{}`: {error}", id.get_ref())),
        };
        let addresses = match (address, addresses) {
            (Some(one), None) => vec![parse_address(one)?],
            (None, Some(list)) if (1..=ADDRESSES_MAX).contains(&list.get_ref().len()) => {
                list.get_ref().iter().map(parse_address).collect::<Result<_, _>>()?
            }
            (None, Some(list)) => {
                return wrong(list.span().start, format!("give 1 to {ADDRESSES_MAX} addresses"));
            }
            (Some(_), Some(list)) => {
                return wrong(list.span().start, "give either `address` or `addresses`");
            }
            (None, None) => return wrong(at, format!("member {node:#} has no `address`")),
        };
        if members.len() > usize::from(PEERS_LIMIT) {
            return wrong(at, format!("more than {} members", PEERS_LIMIT + 1));
        }
        if members.insert(node, addresses).is_some() {
            return wrong(id.span().start, format!("member {node:#} is named twice"));
        }
    }
    Topology::new(file.version, members).or_else(|error| wrong(0, error.to_string()))
}

fn parse_address(text: &Spanned<String>) -> Result<SocketAddr, Wrong> {
    let at = text.span().start;
    let text = text.get_ref();
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() == 0 || address.ip().is_unspecified() => {
            wrong(at, format!("`{text}`: members cannot reach a node there"))
        }
        Ok(address) => Ok(address),
        Err(_) => wrong(at, format!("`{text}`: not an IP address and port, as 192.0.2.1:7001")),
    }
}
