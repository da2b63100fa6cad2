//! Blocks, what certifies them, and the messages that carry both.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub(crate) type Hash = [u8; 32];
pub(crate) type Signature = Vec<u8>;

/// A quorum of votes for a block.
#[derive(Clone, Serialize, Deserialize, Default)]
pub(crate) struct Certificate {
    pub(crate) view: u64,
    pub(crate) block: Hash,
    pub(crate) votes: BTreeMap<u8, Signature>,
}

/// Validators that gave up a view, each with the view of the highest certificate that it knew.
pub(crate) type Timeouts = BTreeMap<u8, (u64, Signature)>;

#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Header {
    pub(crate) view: u64,
    pub(crate) height: u64,
    /// How many validators vote on its children.
    pub(crate) validators: u8,
    /// The certificate of its parent.
    pub(crate) certificate: Certificate,
    /// A quorum that gave up the view before, if the parent is not of that view. Else empty.
    pub(crate) timeouts: Timeouts,
    pub(crate) payload: Hash,
}

#[derive(Clone)]
pub(crate) struct Block {
    pub(crate) header: Header,
    /// `None` for a final block whose payload is no longer kept.
    pub(crate) payload: Option<Bytes>,
}

/// A block's payload follows its message as it is.
#[derive(Serialize, Deserialize)]
pub(crate) enum Message {
    /// With the leader's vote.
    Block(Header, Signature),
    Vote {
        view: u64,
        block: Hash,
        by: u8,
        signature: Signature,
    },
    Timeout {
        view: u64,
        known: Certificate,
        by: u8,
        signature: Signature,
    },
}

impl Block {
    pub(crate) fn id(&self) -> Hash {
        hash(&encode(&self.header))
    }

    /// Whether its payload, if there is one, is what the header names.
    pub(crate) fn is_intact(&self) -> bool {
        self.payload.as_ref().is_none_or(|payload| hash(payload) == self.header.payload)
    }

    /// Appends it to an answer.
    pub(crate) fn write(&self, to: &mut Vec<u8>) {
        let length = self.payload.as_ref().map(Bytes::len);
        to.extend(encode(&(&self.header, length)));
        to.extend_from_slice(self.payload.as_deref().unwrap_or_default());
    }

    /// Takes the first one of an answer.
    pub(crate) fn read(from: &mut Bytes) -> Option<Self> {
        type Start = (Header, Option<usize>);
        let ((header, length), rest) = postcard::take_from_bytes::<Start>(from).ok()?;
        let payload = rest.get(..length.unwrap_or(0))?;
        let block = Self { header, payload: length.map(|_| from.slice_ref(payload)) };
        *from = from.slice_ref(&rest[payload.len()..]);
        Some(block)
    }
}

/// How many of the validators may be faulty.
pub(crate) fn faulty(validators: u8) -> usize {
    (usize::from(validators) - 1) / 3
}

pub(crate) fn quorum(validators: u8) -> usize {
    (usize::from(validators) + faulty(validators)) / 2 + 1
}

pub(crate) fn hash(bytes: &[u8]) -> Hash {
    digest(&SHA256, bytes).as_ref().try_into().expect("32 bytes")
}

pub(crate) fn encode(value: &impl Serialize) -> Vec<u8> {
    postcard::to_allocvec(value).expect("plain data")
}

pub(crate) fn vote_text(view: u64, block: &Hash) -> Vec<u8> {
    encode(&("engine vote", view, block))
}

pub(crate) fn timeout_text(view: u64, known: u64) -> Vec<u8> {
    encode(&("engine timeout", view, known))
}
