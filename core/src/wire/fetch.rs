//! Fetching: requests for chunks, the chunks, and receipts.

use alloc::vec::Vec;

use super::{Fields, Malformed, kind, put_frame_start, put_varint, varint_len};
use crate::artifact::{Hash, PROOF_HASHES_MAX, Proof};
use crate::id::{ArtifactId, ChannelId, Slot, Version};

/// Ranges of chunks that a request may name.
pub const RANGES_MAX: usize = 8;

/// Consecutive chunks of an artifact.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChunkRange {
    /// The first chunk.
    pub first: u32,
    /// The number of chunks, at least one.
    pub count: u32,
}

impl ChunkRange {
    /// Whether an artifact of so many chunks has them all.
    pub fn is_within(self, chunks: u32) -> bool {
        self.first.checked_add(self.count).is_some_and(|end| end <= chunks)
    }

    /// The chunks.
    pub(crate) fn chunks(self) -> core::ops::Range<u32> {
        self.first..self.first.saturating_add(self.count)
    }
}

impl From<core::ops::Range<u32>> for ChunkRange {
    fn from(range: core::ops::Range<u32>) -> Self {
        Self { first: range.start, count: range.end - range.start }
    }
}

/// The ranges that a request names, at least one.
pub type Ranges = heapless::Vec<ChunkRange, RANGES_MAX>;

/// How many chunks they are.
pub(crate) fn count_chunks(ranges: &Ranges) -> u64 {
    ranges.iter().map(|range| u64::from(range.count)).sum()
}

/// What a node asks of a holder, the holder's refusal, or that nothing more is needed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// Send chunks of an artifact, in a stream of type `chunks` with this request's number.
    Fetch {
        /// Names the request; chosen by who asks, unique among its unanswered requests.
        request: u64,
        /// The channel.
        channel: ChannelId,
        /// The artifact.
        id: ArtifactId,
        /// The chunks, which are sent in this order.
        ranges: Ranges,
    },
    /// The answer to this request is not needed any more.
    Cancel {
        /// The request.
        request: u64,
    },
    /// No (further) chunks will come for this request.
    Refuse {
        /// The request.
        request: u64,
        /// Why not.
        refusal: Refusal,
    },
    /// A request that this version does not know. It is to be refused.
    Unknown {
        /// The kind of its frame.
        kind: u64,
        /// The request.
        request: u64,
    },
    /// The artifact that the receiver has advertised in a slot is complete here, or is not wanted. Sent
    /// to its publishers; not for what was pushed, which the transport acknowledges.
    Receipt {
        /// The channel.
        channel: ChannelId,
        /// The slot, in the table of who receives this.
        slot: Slot,
        /// The version of the update that advertised the artifact.
        version: Version,
        /// The filter does not want the artifact: it is not complete, and will not be.
        is_declined: bool,
    },
}

/// Bit of a receipt's flags.
const DECLINED: u64 = 1;

/// Why a holder does not serve a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The artifact is not advertised (any more), or has no such chunks.
    NotHeld,
    /// Too many requests of this peer are being served.
    Busy,
    /// The holder does not know this kind of request.
    UnknownRequest,
    /// A reason that this version does not know.
    Other(u64),
}

impl Refusal {
    const fn number(self) -> u64 {
        match self {
            Self::NotHeld => 0,
            Self::Busy => 1,
            Self::UnknownRequest => 2,
            Self::Other(number) => number,
        }
    }
}

impl Request {
    /// Bytes of the longest frame.
    pub(crate) const ENCODED_MAX: usize = 4 + 8 + 4 + 32 + 1 + RANGES_MAX * 16;

    /// Bytes of the longest body that is taken, of a later minor version, too.
    #[cfg_attr(not(feature = "quic"), allow(dead_code, reason = "for nodes"))]
    pub(crate) const BODY_MAX: usize = Self::ENCODED_MAX + super::FURTHER_BYTES_MAX;

    /// Appends the frame.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Self::Fetch { request, channel, id, ref ranges } => {
                let count = ranges.len() as u64;
                let pairs = || ranges.iter().flat_map(|range| [range.first, range.count]);
                let numbers = [request, channel.0.into(), count].into_iter();
                let numbers = numbers.chain(pairs().map(u64::from));
                let fields: usize = numbers.map(varint_len).sum();
                put_frame_start(out, kind::FETCH, fields + id.0.len());
                put_varint(out, request);
                put_varint(out, channel.0.into());
                out.extend_from_slice(&id.0);
                put_varint(out, count);
                pairs().for_each(|number| put_varint(out, number.into()));
            }
            Self::Cancel { request } => {
                put_frame_start(out, kind::CANCEL, varint_len(request));
                put_varint(out, request);
            }
            Self::Refuse { request, refusal } => {
                let reason = refusal.number();
                put_frame_start(out, kind::REFUSE, varint_len(request) + varint_len(reason));
                put_varint(out, request);
                put_varint(out, reason);
            }
            Self::Unknown { kind, request } => {
                put_frame_start(out, kind, varint_len(request));
                put_varint(out, request);
            }
            Self::Receipt { channel, slot, version, is_declined } => {
                let flags = u64::from(is_declined) * DECLINED;
                let numbers = [channel.0.into(), slot.0.into(), version.0, flags];
                put_frame_start(out, kind::RECEIPT, numbers.into_iter().map(varint_len).sum());
                numbers.into_iter().for_each(|number| put_varint(out, number));
            }
        }
    }

    /// The request in a frame; `None` if the kind is not known, and not one of requests.
    ///
    /// # Errors
    /// If the body is not one of this kind, or the kind belongs into another stream.
    pub fn decode(kind: u64, body: &[u8]) -> Result<Option<Self>, Malformed> {
        let mut fields = Fields::new(body);
        let request = match kind {
            kind::FETCH => {
                let request = fields.varint()?;
                let channel = ChannelId(fields.small()?);
                let id = ArtifactId(*fields.array()?);
                Self::Fetch { request, channel, id, ranges: ranges(&mut fields)? }
            }
            kind::CANCEL => Self::Cancel { request: fields.varint()? },
            kind::REFUSE => Self::Refuse {
                request: fields.varint()?,
                refusal: match fields.varint()? {
                    0 => Refusal::NotHeld,
                    1 => Refusal::Busy,
                    2 => Refusal::UnknownRequest,
                    number => Refusal::Other(number),
                },
            },
            kind::RECEIPT => Self::Receipt {
                channel: ChannelId(fields.small()?),
                slot: Slot(fields.small()?),
                version: Version(fields.varint()?),
                is_declined: fields.varint()? & DECLINED != 0,
            },
            _ if kind::is_request(kind) => Self::Unknown { kind, request: fields.varint()? },
            _ if kind::has_place(kind) => return Err(Malformed::Misplaced),
            _ => return Ok(None),
        };
        Ok(Some(request))
    }
}

fn ranges(fields: &mut Fields<'_>) -> Result<Ranges, Malformed> {
    let mut ranges = Ranges::new();
    for _ in 0..fields.small::<u32>()? {
        let range = ChunkRange { first: fields.small()?, count: fields.small()? };
        if range.count == 0 {
            return Err(Malformed::OutOfRange);
        }
        ranges.push(range).map_err(|_| Malformed::OutOfRange)?;
    }
    if ranges.is_empty() { Err(Malformed::OutOfRange) } else { Ok(ranges) }
}

/// One chunk of an artifact, with what proves it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chunk<'a> {
    /// The chunk's index in the artifact.
    pub index: u32,
    /// The siblings from the leaf up.
    pub proof: Proof,
    /// The chunk.
    pub bytes: &'a [u8],
}

impl<'a> Chunk<'a> {
    /// Bytes beside the chunk itself, at most.
    pub const OVERHEAD_MAX: usize =
        super::FRAME_OVERHEAD_MAX + 32 * PROOF_HASHES_MAX + super::FURTHER_BYTES_MAX;

    /// Appends the frame.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_chunk_start(out, self.index, &self.proof, self.bytes.len());
        out.extend_from_slice(self.bytes);
    }

    /// The chunk in a frame; `None` if the kind is not known.
    ///
    /// # Errors
    /// If the body is not a chunk, or the kind belongs into another stream.
    pub fn decode(kind: u64, body: &'a [u8]) -> Result<Option<Self>, Malformed> {
        if kind != kind::CHUNK {
            return if kind::has_place(kind) { Err(Malformed::Misplaced) } else { Ok(None) };
        }
        let mut fields = Fields::new(body);
        let index = fields.small()?;
        let mut proof = Proof::new();
        for _ in 0..fields.small::<u32>()? {
            let hash: &Hash = fields.array()?;
            proof.push(*hash).map_err(|_| Malformed::OutOfRange)?;
        }
        Ok(Some(Self { index, proof, bytes: fields.payload()? }))
    }
}

/// All of a chunk's frame but its `payload` bytes, which follow.
pub(crate) fn put_chunk_start(out: &mut Vec<u8>, index: u32, proof: &[Hash], payload: usize) {
    let numbers = [index.into(), proof.len() as u64, payload as u64];
    let fields: usize = numbers.into_iter().map(varint_len).sum();
    put_frame_start(out, kind::CHUNK, fields + 32 * proof.len() + payload);
    put_varint(out, index.into());
    put_varint(out, proof.len() as u64);
    proof.iter().for_each(|hash| out.extend_from_slice(hash));
    put_varint(out, payload as u64);
}
