//! Updates: how a sender tells of its slot table.

use alloc::vec::Vec;

use super::{Fields, Malformed, kind, put_frame_start, put_varint, varint_len};
use crate::artifact::{ARTIFACT_BYTES_LIMIT, Advert, Metadata};
use crate::id::{Slot, Version};

/// One change of a slot, or what a sender says of its table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Update<'a> {
    /// The slot is empty now.
    Clear {
        /// The slot.
        slot: Slot,
        /// The change's version.
        version: Version,
    },
    /// The slot holds this single-chunk artifact. Only the publisher pushes. Neither id nor root is
    /// sent: the receiver computes both from what it got, so a push cannot lie.
    Push {
        /// The slot.
        slot: Slot,
        /// The change's version.
        version: Version,
        /// The artifact's metadata.
        metadata: Metadata,
        /// The artifact's bytes.
        bytes: &'a [u8],
    },
    /// The slot holds this artifact, to be fetched by who wants it.
    Advert {
        /// The slot.
        slot: Slot,
        /// The change's version.
        version: Version,
        /// How far the sender is from the publisher: 0 is the publisher itself.
        hops: u8,
        /// Chunks from the first to the last follow in this very stream, unasked.
        streamed: bool,
        /// What is said of the artifact.
        advert: Advert,
    },
    /// First on each channel in each epoch: what else the receiver remembers of an earlier epoch is
    /// gone once it has heard of each of these slots.
    Snapshot {
        /// The channel's version when the snapshot was taken.
        version: Version,
        /// The slots that held an artifact then.
        live: LiveSlots<'a>,
    },
}

/// A set of slots: bit `s % 8` of byte `s / 8` says whether slot `s` is in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LiveSlots<'a>(pub &'a [u8]);

impl LiveSlots<'_> {
    /// The slots, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = Slot> {
        self.0.iter().enumerate().flat_map(|(at, byte)| {
            (0..8).filter(move |bit| byte >> bit & 1 == 1).map(move |bit| Slot(at as u32 * 8 + bit))
        })
    }
}

const STREAMED: u64 = 1;

impl<'a> Update<'a> {
    /// Appends the frame.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Clear { slot, version } => put_clear(out, *slot, *version),
            Self::Push { slot, version, metadata, bytes } => {
                put_push_start(out, *slot, *version, metadata, bytes.len());
                out.extend_from_slice(bytes);
            }
            Self::Advert { slot, version, hops, streamed, advert } => {
                put_advert(out, *slot, *version, *hops, *streamed, advert);
            }
            Self::Snapshot { version, live } => {
                put_snapshot_start(out, *version, live.0.len());
                out.extend_from_slice(live.0);
            }
        }
    }

    /// The update in a frame; `None` if the kind is not known.
    ///
    /// # Errors
    /// If the body is not one of this kind, or the kind belongs into another stream.
    pub fn decode(kind: u64, body: &'a [u8]) -> Result<Option<Self>, Malformed> {
        let mut fields = Fields::new(body);
        let update = match kind {
            kind::CLEAR => Self::Clear { slot: slot(&mut fields)?, version: version(&mut fields)? },
            kind::PUSH => Self::Push {
                slot: slot(&mut fields)?,
                version: version(&mut fields)?,
                metadata: metadata(&mut fields)?,
                bytes: fields.rest(),
            },
            kind::ADVERT => Self::Advert {
                slot: slot(&mut fields)?,
                version: version(&mut fields)?,
                hops: fields.small()?,
                streamed: fields.varint()? & STREAMED != 0,
                advert: Advert {
                    length: length(&mut fields)?,
                    metadata: metadata(&mut fields)?,
                    root: *fields.array()?,
                },
            },
            kind::SNAPSHOT => Self::Snapshot {
                version: Version(fields.varint()?),
                live: LiveSlots(fields.rest()),
            },
            _ if kind::is_known(kind) => return Err(Malformed::Misplaced),
            _ => return Ok(None),
        };
        fields.end()?;
        Ok(Some(update))
    }
}

fn slot(fields: &mut Fields<'_>) -> Result<Slot, Malformed> {
    fields.small().map(Slot)
}

/// Zero would be "before any change", which no change is.
fn version(fields: &mut Fields<'_>) -> Result<Version, Malformed> {
    match fields.varint()? {
        0 => Err(Malformed::OutOfRange),
        version => Ok(Version(version)),
    }
}

fn length(fields: &mut Fields<'_>) -> Result<u64, Malformed> {
    let length = fields.varint()?;
    if length <= ARTIFACT_BYTES_LIMIT { Ok(length) } else { Err(Malformed::OutOfRange) }
}

fn metadata(fields: &mut Fields<'_>) -> Result<Metadata, Malformed> {
    let length = fields.small()?;
    let bytes = fields.bytes(length)?;
    Metadata::from_slice(bytes).map_err(|_| Malformed::OutOfRange)
}

pub(crate) fn put_clear(out: &mut Vec<u8>, slot: Slot, version: Version) {
    put_frame_start(out, kind::CLEAR, varint_len(slot.0.into()) + varint_len(version.0));
    put_varint(out, slot.0.into());
    put_varint(out, version.0);
}

/// All of a push but its `payload` bytes, which follow.
pub(crate) fn put_push_start(
    out: &mut Vec<u8>,
    slot: Slot,
    version: Version,
    metadata: &[u8],
    payload: usize,
) {
    let fields =
        varint_len(slot.0.into()) + varint_len(version.0) + varint_len(metadata.len() as u64);
    put_frame_start(out, kind::PUSH, fields + metadata.len() + payload);
    put_varint(out, slot.0.into());
    put_varint(out, version.0);
    put_varint(out, metadata.len() as u64);
    out.extend_from_slice(metadata);
}

pub(crate) fn put_advert(
    out: &mut Vec<u8>,
    slot: Slot,
    version: Version,
    hops: u8,
    streamed: bool,
    advert: &Advert,
) {
    let numbers = [
        slot.0.into(),
        version.0,
        hops.into(),
        if streamed { STREAMED } else { 0 },
        advert.length,
        advert.metadata.len() as u64,
    ];
    let fields: usize = numbers.iter().map(|number| varint_len(*number)).sum();
    put_frame_start(out, kind::ADVERT, fields + advert.metadata.len() + advert.root.len());
    numbers.iter().for_each(|number| put_varint(out, *number));
    out.extend_from_slice(&advert.metadata);
    out.extend_from_slice(&advert.root);
}

/// All of a snapshot but the `bitmap` bytes, which follow.
pub(crate) fn put_snapshot_start(out: &mut Vec<u8>, version: Version, bitmap: usize) {
    put_frame_start(out, kind::SNAPSHOT, varint_len(version.0) + bitmap);
    put_varint(out, version.0);
}
