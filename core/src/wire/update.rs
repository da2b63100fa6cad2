//! Updates: how a sender tells of its slot table.

use alloc::vec::Vec;

use super::{Fields, Malformed, kind, put_frame_start, put_varint, varint_len};
use crate::artifact::{
    ARTIFACT_BYTES_LIMIT, Advert, CHUNKS_PREFERRED_MAX, METADATA_BYTES_MAX, Metadata,
};
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
    /// The slot holds this single-chunk artifact. Neither id nor root is sent: the receiver computes
    /// both from what it got, so a push cannot lie.
    Push {
        /// The slot.
        slot: Slot,
        /// The change's version.
        version: Version,
        /// How far the sender is from the publisher: 0 is the publisher itself.
        hops: u8,
        /// The artifact's key.
        key: Option<u64>,
        /// The artifact's metadata: at most [`METADATA_BYTES_MAX`] bytes.
        metadata: &'a [u8],
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
        /// The receiver is to pass on what the sender has sent it.
        spread: bool,
        /// What is said of the artifact.
        advert: Advert,
    },
    /// The slot holds this artifact, of which the sender has some chunks so far. Artifacts of more
    /// than [`CHUNKS_PREFERRED_MAX`] chunks are never told of like this.
    Partial {
        /// The slot.
        slot: Slot,
        /// The change's version.
        version: Version,
        /// How far the sender is from the publisher.
        hops: u8,
        /// Chunks follow in this very stream, unasked.
        streamed: bool,
        /// The receiver is to pass on what the sender has sent it.
        spread: bool,
        /// What is said of the artifact.
        advert: Advert,
        /// The chunks that the sender has.
        have: ChunkBits<'a>,
    },
    /// A change of the slot to something that this version does not know: what the slot held before is
    /// not current any more.
    Unknown {
        /// The kind of the frame.
        kind: u64,
        /// The slot.
        slot: Slot,
        /// The change's version.
        version: Version,
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
        ones(self.0).map(Slot)
    }
}

/// Bytes in the longest set of chunks.
pub const CHUNK_BITS_MAX: usize = CHUNKS_PREFERRED_MAX as usize / 8;

/// A set of chunks: bit `c % 8` of byte `c / 8` says whether chunk `c` is in it. The last byte, if
/// there is one, is not 0. At most [`CHUNK_BITS_MAX`] bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChunkBits<'a>(pub &'a [u8]);

impl ChunkBits<'_> {
    /// The chunks, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        ones(self.0)
    }

    /// Whether it is a set of some of so many chunks, in its one encoding.
    fn is_of(self, chunks: u32) -> bool {
        let Some(last) = self.0.last() else { return chunks <= CHUNKS_PREFERRED_MAX };
        let end = 8 * self.0.len() as u32 - last.leading_zeros();
        *last != 0 && end <= chunks && chunks <= CHUNKS_PREFERRED_MAX
    }
}

/// The numbers whose bits are set, ascending.
fn ones(bits: &[u8]) -> impl Iterator<Item = u32> {
    bits.iter().enumerate().flat_map(|(at, byte)| {
        (0..8).filter(move |bit| byte >> bit & 1 == 1).map(move |bit| at as u32 * 8 + bit)
    })
}

const STREAMED: u64 = 1;
const SPREAD: u64 = 2;

impl<'a> Update<'a> {
    /// Appends the frame.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Clear { slot, version } => put_clear(out, *slot, *version),
            Self::Push { slot, version, hops, key, metadata, bytes } => {
                put_push_start(out, (*slot, *version), *hops, *key, metadata, bytes.len());
                out.extend_from_slice(bytes);
            }
            Self::Advert { slot, version, hops, streamed, spread, advert } => {
                let told = Told { hops: *hops, streamed: *streamed, spread: *spread };
                put_told(out, (*slot, *version), told, advert, None);
            }
            Self::Partial { slot, version, hops, streamed, spread, advert, have } => {
                let told = Told { hops: *hops, streamed: *streamed, spread: *spread };
                put_told(out, (*slot, *version), told, advert, Some(*have));
            }
            Self::Unknown { kind, slot, version } => put_change(out, *kind, *slot, *version),
            Self::Snapshot { version, live } => {
                put_snapshot_start(out, *version, live.0.len());
                out.extend_from_slice(live.0);
            }
        }
    }

    /// The update in a frame; `None` if the kind is not known, and not one of updates.
    ///
    /// # Errors
    /// If the body is not one of this kind, or the kind belongs into another stream.
    pub fn decode(kind: u64, body: &'a [u8]) -> Result<Option<Self>, Malformed> {
        let mut fields = Fields::new(body);
        let update = match kind {
            kind::CLEAR => Self::Clear { slot: slot(&mut fields)?, version: version(&mut fields)? },
            kind::PUSH | kind::ADVERT | kind::PARTIAL => {
                let at = (slot(&mut fields)?, version(&mut fields)?);
                content(kind, at, None, &mut fields)?
            }
            kind::KEYED => {
                let (slot, version) = (slot(&mut fields)?, version(&mut fields)?);
                let key = u64::from_be_bytes(*fields.array()?);
                match fields.varint()? {
                    within @ (kind::PUSH | kind::ADVERT | kind::PARTIAL) => {
                        content(within, (slot, version), Some(key), &mut fields)?
                    }
                    _ => Self::Unknown { kind, slot, version },
                }
            }
            kind::SNAPSHOT => Self::Snapshot {
                version: Version(fields.varint()?),
                live: LiveSlots(fields.payload()?),
            },
            _ if kind::is_update(kind) => {
                let (slot, version) = (slot(&mut fields)?, version(&mut fields)?);
                Self::Unknown { kind, slot, version }
            }
            _ if kind::has_place(kind) => return Err(Malformed::Misplaced),
            _ => return Ok(None),
        };
        Ok(Some(update))
    }
}

/// What a slot holds: a push, or an advert, alone or with the chunks that its sender has.
fn content<'a>(
    kind: u64,
    (slot, version): (Slot, Version),
    key: Option<u64>,
    fields: &mut Fields<'a>,
) -> Result<Update<'a>, Malformed> {
    let hops = fields.small()?;
    if kind == kind::PUSH {
        let (metadata, bytes) = (metadata(fields)?, fields.payload()?);
        return Ok(Update::Push { slot, version, hops, key, metadata, bytes });
    }
    let flags = fields.varint()?;
    let (streamed, spread) = (flags & STREAMED != 0, flags & SPREAD != 0);
    let (length, metadata) = (length(fields)?, metadata(fields)?);
    let metadata = Metadata::from_slice(metadata).expect("just checked");
    // Told by the connection, where it matters.
    let publisher = None;
    let advert = Advert { length, key, publisher, metadata, root: *fields.array()? };
    if kind == kind::ADVERT {
        return Ok(Update::Advert { slot, version, hops, streamed, spread, advert });
    }
    let have = ChunkBits(fields.payload()?);
    if !have.is_of(advert.chunks()) {
        return Err(Malformed::OutOfRange);
    }
    Ok(Update::Partial { slot, version, hops, streamed, spread, advert, have })
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

fn metadata<'a>(fields: &mut Fields<'a>) -> Result<&'a [u8], Malformed> {
    let length = fields.small()?;
    let metadata = fields.bytes(length)?;
    if metadata.len() <= METADATA_BYTES_MAX { Ok(metadata) } else { Err(Malformed::OutOfRange) }
}

pub(crate) fn put_clear(out: &mut Vec<u8>, slot: Slot, version: Version) {
    put_change(out, kind::CLEAR, slot, version);
}

/// A frame of slot and version alone.
fn put_change(out: &mut Vec<u8>, kind: u64, slot: Slot, version: Version) {
    put_frame_start(out, kind, varint_len(slot.0.into()) + varint_len(version.0));
    put_varint(out, slot.0.into());
    put_varint(out, version.0);
}

/// What stands before the `fields` bytes that say what a slot holds.
fn put_content_start(
    out: &mut Vec<u8>,
    kind: u64,
    (slot, version): (Slot, Version),
    key: Option<u64>,
    fields: usize,
) {
    let fields = varint_len(slot.0.into()) + varint_len(version.0) + fields;
    let of_key = key.map_or(0, |_| size_of::<u64>() + varint_len(kind));
    put_frame_start(out, key.map_or(kind, |_| kind::KEYED), of_key + fields);
    put_varint(out, slot.0.into());
    put_varint(out, version.0);
    if let Some(key) = key {
        out.extend_from_slice(&key.to_be_bytes());
        put_varint(out, kind);
    }
}

/// All of a push but its `payload` bytes, which follow.
pub(crate) fn put_push_start(
    out: &mut Vec<u8>,
    at: (Slot, Version),
    hops: u8,
    key: Option<u64>,
    metadata: &[u8],
    payload: usize,
) {
    let numbers = [hops.into(), metadata.len() as u64];
    let fields: usize = numbers.into_iter().map(varint_len).sum();
    let fields = fields + metadata.len() + varint_len(payload as u64);
    put_content_start(out, kind::PUSH, at, key, fields + payload);
    numbers.into_iter().for_each(|number| put_varint(out, number));
    out.extend_from_slice(metadata);
    put_varint(out, payload as u64);
}

/// What an advert says beside what it advertises.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Told {
    pub(crate) hops: u8,
    pub(crate) streamed: bool,
    pub(crate) spread: bool,
}

/// An advert, alone or with the chunks that its sender has.
pub(crate) fn put_told(
    out: &mut Vec<u8>,
    at: (Slot, Version),
    told: Told,
    advert: &Advert,
    have: Option<ChunkBits<'_>>,
) {
    let metadata = &advert.metadata;
    let flags = (u64::from(told.streamed) * STREAMED) | (u64::from(told.spread) * SPREAD);
    let (hops, length) = (told.hops.into(), metadata.len() as u64);
    let numbers = [hops, flags, advert.length, length];
    let fields: usize = numbers.into_iter().map(varint_len).sum();
    let bits = have.map_or(0, |have| varint_len(have.0.len() as u64) + have.0.len());
    let kind = if have.is_some() { kind::PARTIAL } else { kind::ADVERT };
    let fields = fields + metadata.len() + advert.root.len() + bits;
    put_content_start(out, kind, at, advert.key, fields);
    numbers.into_iter().for_each(|number| put_varint(out, number));
    out.extend_from_slice(metadata);
    out.extend_from_slice(&advert.root);
    if let Some(ChunkBits(bits)) = have {
        put_varint(out, bits.len() as u64);
        out.extend_from_slice(bits);
    }
}

/// All of a snapshot but the `bitmap` bytes, which follow.
pub(crate) fn put_snapshot_start(out: &mut Vec<u8>, version: Version, bitmap: usize) {
    let fields = varint_len(version.0) + varint_len(bitmap as u64);
    put_frame_start(out, kind::SNAPSHOT, fields + bitmap);
    put_varint(out, version.0);
    put_varint(out, bitmap as u64);
}
