//! A topology as a TOML file. Every error has a position.
//!
//! ```toml
//! version = 1
//!
//! [[member]]
//! id = "<64 hexadecimal digits>"
//! address = "192.0.2.1:7001" # or: addresses = ["192.0.2.1:7001", "[2001:db8::1]:7001"]
//! # keys = ["<64 hexadecimal digits>"] if the member proves itself by others than its id
//! ```

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::net::SocketAddr;

use serde::Deserialize;
use toml::Spanned;

use super::{ADDRESSES_MAX, KEYS_MAX, Topology};
use crate::config::PEERS_LIMIT;
use crate::id::NodeId;

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
    keys: Option<Spanned<Vec<Spanned<String>>>>,
}

/// An error in a file, with its position.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{line}:{column}: {what}")]
#[non_exhaustive]
pub struct FileError {
    /// The line, from 1.
    pub line: usize,
    /// The character in the line, from 1.
    pub column: usize,
    /// What is wrong.
    pub what: String,
}

/// Something wrong, and at which byte of the file.
struct Wrong {
    at: usize,
    what: String,
}

fn wrong<T>(at: usize, what: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong { at, what: what.into() })
}

impl Topology {
    /// The topology in a TOML file with these bytes.
    ///
    /// # Errors
    /// If it is none, with line and column.
    pub fn from_toml(bytes: &[u8]) -> Result<Self, FileError> {
        let topology = match str::from_utf8(bytes) {
            Ok(text) => parse(text),
            Err(error) => wrong(error.valid_up_to(), "not UTF-8"),
        };
        topology.map_err(|Wrong { at, what }| {
            let before = &bytes[..at.min(bytes.len())];
            let line_start =
                before.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
            let column = 1 + String::from_utf8_lossy(&before[line_start..]).chars().count();
            FileError { line, column, what }
        })
    }
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
    let mut keyed = Vec::new();
    for member in &file.member {
        let at = member.span().start;
        let Member { id, address, addresses, keys } = member.get_ref();
        let node = parse_id(id)?;
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
        if let Some(list) = keys {
            let at = list.span().start;
            if !(1..=KEYS_MAX).contains(&list.get_ref().len()) {
                return wrong(at, format!("give 1 to {KEYS_MAX} keys"));
            }
            let keys = list.get_ref().iter().map(parse_id).collect::<Result<Vec<_>, _>>()?;
            keyed.push((at, node, keys));
        }
        if members.len() > usize::from(PEERS_LIMIT) {
            return wrong(at, format!("more than {} members", PEERS_LIMIT + 1));
        }
        if members.insert(node, addresses).is_some() {
            return wrong(id.span().start, format!("member {node:#} is named twice"));
        }
    }
    let topology = Topology::new(file.version, members);
    let topology = topology.or_else(|error| wrong(0, error.to_string()))?;
    topology.with_keys(keyed).or_else(|(at, error)| wrong(at, error.to_string()))
}

fn parse_id(text: &Spanned<String>) -> Result<NodeId, Wrong> {
    let id = text.get_ref().parse();
    id.or_else(|error| wrong(text.span().start, format!("`{}`: {error}", text.get_ref())))
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

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn id(at: u8) -> NodeId {
        NodeId([at; 32])
    }

    fn member(at: u8, keys: &[u8]) -> String {
        let keys: Vec<String> = keys.iter().map(|key| format!("\"{}\"", id(*key))).collect();
        let keys = format!("keys = [{}]\n", keys.join(", "));
        let keys = if keys.contains('"') { keys } else { String::new() };
        format!("[[member]]\nid = \"{}\"\naddress = \"192.0.2.1:700{at}\"\n{keys}", id(at))
    }

    #[test]
    fn members_may_prove_themselves_by_other_keys_in_any_order() {
        let text = ["version = 7\n".into(), member(1, &[2]), member(2, &[3, 9])].concat();
        let topology = Topology::from_toml(text.as_bytes()).unwrap();
        let expected =
            [1, 2].map(|at| (id(at), vec![([192, 0, 2, 1], 7000 + u16::from(at)).into()]));
        let expected = Topology::new(7, expected).unwrap();
        let expected = expected.keys(id(2), [id(9), id(3)]).unwrap().keys(id(1), [id(2)]).unwrap();
        assert_eq!(topology, expected);
    }

    #[test]
    fn complaints_about_keys_say_where() {
        let error = |members: &[String]| {
            let text = format!("version = 7\n{}", members.concat());
            Topology::from_toml(text.as_bytes()).unwrap_err().to_string()
        };
        let taken = error(&[member(1, &[]), member(2, &[1])]);
        assert_eq!(taken, format!("8:8: key {} belongs to two members", id(1)));
        assert_eq!(error(&[member(1, &[2, 3, 4])]), "5:8: give 1 to 2 keys");
        assert!(error(&[member(1, &[2, 2])]).starts_with("5:8: 0101"));
        let short = member(1, &[2]).replace(&id(2).to_string(), "ff");
        assert_eq!(error(&[short]), "5:9: `ff`: an id is 64 hexadecimal digits");
        assert_eq!(Topology::from_toml(b"\xff").unwrap_err().to_string(), "1:1: not UTF-8");
    }
}
