//! Fetching: requests for chunks, and the chunks.

use alloc::vec::Vec;

use super::{Fields, Malformed, kind, put_frame_start, put_varint, varint_len};
use crate::artifact::{Hash, PROOF_HASHES_MAX, Proof};
use crate::id::{ArtifactId, ChannelId};

/// What a node asks of a holder, or the holder's refusal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request {
    /// Send chunks of an artifact, in a stream of type `chunks` with this request's number.
    Fetch {
        /// Names the request; chosen by who asks, unique among its unanswered requests.
        request: u64,
        /// The channel.
        channel: ChannelId,
        /// The artifact.
        id: ArtifactId,
        /// The first chunk.
        first: u32,
        /// The number of chunks, at least one.
        count: u32,
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
}

/// Why a holder does not serve a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The artifact is not advertised (any more), or has no such chunks.
    NotHeld,
    /// Too many requests of this peer are being served.
    Busy,
    /// A reason that this version does not know.
    Other(u64),
}

impl Refusal {
    const fn number(self) -> u64 {
        match self {
            Self::NotHeld => 0,
            Self::Busy => 1,
            Self::Other(number) => number,
        }
    }
}

impl Request {
    /// Bytes of the longest frame.
    pub(crate) const ENCODED_MAX: usize = 2 + 8 + 4 + 32 + 8 + 8;

    /// Appends the frame.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Self::Fetch { request, channel, id, first, count } => {
                let numbers = [request, channel.0.into(), first.into(), count.into()];
                let fields: usize = numbers.iter().map(|number| varint_len(*number)).sum();
                put_frame_start(out, kind::FETCH, fields + id.0.len());
                numbers.iter().for_each(|number| put_varint(out, *number));
                out.extend_from_slice(&id.0);
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
        }
    }

    /// The request in a frame; `None` if the kind is not known.
    ///
    /// # Errors
    /// If the body is not one of this kind, or the kind belongs into another stream.
    pub fn decode(kind: u64, body: &[u8]) -> Result<Option<Self>, Malformed> {
        let mut fields = Fields::new(body);
        let request = match kind {
            kind::FETCH => {
                let request = fields.varint()?;
                let channel = ChannelId(fields.small()?);
                let first = fields.small()?;
                let count = match fields.small()? {
                    0 => return Err(Malformed::OutOfRange),
                    count => count,
                };
                Self::Fetch { request, channel, id: ArtifactId(*fields.array()?), first, count }
            }
            kind::CANCEL => Self::Cancel { request: fields.varint()? },
            kind::REFUSE => Self::Refuse {
                request: fields.varint()?,
                refusal: match fields.varint()? {
                    0 => Refusal::NotHeld,
                    1 => Refusal::Busy,
                    number => Refusal::Other(number),
                },
            },
            _ if kind::is_known(kind) => return Err(Malformed::Misplaced),
            _ => return Ok(None),
        };
        fields.end()?;
        Ok(Some(request))
    }
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
    pub const OVERHEAD_MAX: usize = super::FRAME_OVERHEAD_MAX + 32 * PROOF_HASHES_MAX;

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
            return if kind::is_known(kind) { Err(Malformed::Misplaced) } else { Ok(None) };
        }
        let mut fields = Fields::new(body);
        let index = fields.small()?;
        let mut proof = Proof::new();
        for _ in 0..fields.small::<u32>()? {
            let hash: &Hash = fields.array()?;
            proof.push(*hash).map_err(|_| Malformed::OutOfRange)?;
        }
        Ok(Some(Self { index, proof, bytes: fields.rest() }))
    }
}

/// All of a chunk's frame but its `payload` bytes, which follow.
pub(crate) fn put_chunk_start(out: &mut Vec<u8>, index: u32, proof: &[Hash], payload: usize) {
    let fields = varint_len(index.into()) + varint_len(proof.len() as u64);
    put_frame_start(out, kind::CHUNK, fields + 32 * proof.len() + payload);
    put_varint(out, index.into());
    put_varint(out, proof.len() as u64);
    proof.iter().for_each(|hash| out.extend_from_slice(hash));
}
