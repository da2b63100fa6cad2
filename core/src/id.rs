//! Identifiers of nodes, artifacts, channels, routes, slots and versions.

use core::fmt;
use core::hash::{Hash, Hasher};
use core::str::FromStr;

/// A node: its Ed25519 public key (RFC 8032), which is also its TLS identity (RFC 7250).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub [u8; 32]);

/// An artifact: SHA-256 over domain, length, key, publisher where that matters, metadata and Merkle root, see
/// [`Advert::id`](crate::artifact::Advert::id).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ArtifactId(pub [u8; 32]);

/// By its first half: to find two artifacts that agree in that takes 2^64 hashes.
impl Hash for ArtifactId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let (words, _) = self.0.as_chunks::<8>();
        state.write_u64(u64::from_le_bytes(words[0]));
        state.write_u64(u64::from_le_bytes(words[1]));
    }
}

/// One protocol of the replica, with tables, priority class and budgets of its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ChannelId(pub u16);

/// One kind of request that the replica answers, with limits and priority class of its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct RouteId(pub u16);

/// An index into a sender's slot table of one channel.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Slot(pub u32);

/// Counts the changes of a sender's slot table of one channel, from 1 in each epoch of a process.
/// Zero is "before any change".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Version(pub u64);

/// Which of a node's inputs made something known: counts the inputs (datagrams, commands, deadlines) from
/// the node's start. What has a lower one came first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Arrival(pub u64);

/// A member's index in this node's tables: small, dense, and reused after the member has left.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PeerIndex(pub u16);

impl PeerIndex {
    pub(crate) const fn at(self) -> usize {
        self.0 as usize
    }
}

/// Why a text is not an id.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("an id is 64 hexadecimal digits")]
pub struct IdError;

fn from_hex(text: &str) -> Result<[u8; 32], IdError> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return Err(IdError);
    }
    let digit = |at: usize| (digits[at] as char).to_digit(16).ok_or(IdError);
    let mut bytes = [0; 32];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = (digit(2 * at)? * 16 + digit(2 * at + 1)?) as u8;
    }
    Ok(bytes)
}

/// Writes at most 32 bytes, at once: formatting each by itself is most of the cost of a traced event.
fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 64];
    let text = &mut text[..2 * bytes.len()];
    for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
        pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
    f.write_str(core::str::from_utf8(text).map_err(|_| fmt::Error)?)
}

macro_rules! hex_text {
    ($name:ident) => {
        impl fmt::Display for $name {
            /// All 64 hexadecimal digits; the first eight with `{:#}`.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let shown = if f.alternate() { &self.0[..4] } else { &self.0[..] };
                write_hex(f, shown)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:#})"), self)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                from_hex(text).map(Self)
            }
        }

        #[cfg(feature = "serde")]
        impl serde::Serialize for $name {
            /// Hexadecimal digits in formats for people, and otherwise 32 bytes.
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                if to.is_human_readable() {
                    to.collect_str(self)
                } else {
                    to.serialize_bytes(&self.0)
                }
            }
        }

        #[cfg(feature = "serde")]
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                match from.is_human_readable() {
                    true => from.deserialize_str(IdVisitor),
                    false => from.deserialize_bytes(IdVisitor),
                }
                .map(Self)
            }
        }
    };
}

/// Reads the 32 bytes of an id.
#[cfg(feature = "serde")]
struct IdVisitor;

#[cfg(feature = "serde")]
impl<'de> serde::de::Visitor<'de> for IdVisitor {
    type Value = [u8; 32];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("64 hexadecimal digits, or 32 bytes")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<[u8; 32], E> {
        from_hex(text).map_err(E::custom)
    }

    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<[u8; 32], E> {
        bytes.try_into().map_err(|_| E::invalid_length(bytes.len(), &self))
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut bytes: A) -> Result<[u8; 32], A::Error> {
        let mut id = [0; 32];
        for (at, byte) in id.iter_mut().enumerate() {
            let next = bytes.next_element()?;
            *byte = next.ok_or_else(|| serde::de::Error::invalid_length(at, &self))?;
        }
        Ok(id)
    }
}

hex_text!(NodeId);
hex_text!(ArtifactId);

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::{format, string::ToString};

    #[test]
    fn ids_survive_their_text() {
        let id = NodeId(core::array::from_fn(|at| at as u8 * 7));
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(format!("{id:#}"), "00070e15");
        assert_eq!("00".repeat(31).parse::<NodeId>(), Err(IdError));
        assert_eq!("zz".repeat(32).parse::<NodeId>(), Err(IdError));
        assert_eq!("é".repeat(32).parse::<NodeId>(), Err(IdError));
    }
}
