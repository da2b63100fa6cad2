//! What stands in for the protection of packets: a checksum in place of the AEAD's tag, and nothing
//! in place of encryption, so that who watches a simulated network can read along.
//!
//! The checksum is keyed by what both sides drew at random, and by direction, level and generation:
//! a packet that was damaged, or that is from elsewhere, does not fit. It is not cryptographic, and
//! its values are those of little-endian machines with words of 64 bits.

use std::hash::{BuildHasher, Hasher};

use bytes::BytesMut;
use foldhash::quality::FixedState;
use quinn_proto::crypto::{CryptoError, HeaderKey, KeyPair, Keys, PacketKey};
use quinn_proto::{ConnectionId, Side};

/// As an AEAD of TLS has it.
pub(super) const TAG_BYTES: usize = 16;

/// What all else is derived from; arbitrary.
pub(super) const ROOT: Secret = Secret([0x9e37_79b9_7f4a_7c15, 0xf39c_c060_5ced_c834]);

/// The key of a checksum. Its halves are the keys of two of 64 bits, which make up one of the
/// length of a tag.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Secret([u64; 2]);

impl Secret {
    /// What both sides of a connection derive from what each has drawn.
    pub(super) fn of_connection(client: &[u8], server: &[u8]) -> Self {
        ROOT.derive("connection", &[client, server])
    }

    pub(super) fn of_handshake(self) -> Self {
        self.derive("handshake", &[])
    }

    /// After so many key updates.
    pub(super) fn of_generation(self, generation: u64) -> Self {
        self.derive("1-rtt", &[&generation.to_le_bytes()])
    }

    pub(super) fn of_export(self, label: &[u8], context: &[u8]) -> Self {
        self.derive("export", &[label, context])
    }

    /// Another one, which differs with the label and with each part.
    pub(super) fn derive(self, label: &str, parts: &[&[u8]]) -> Self {
        Self(Self(self.checksum(0, &[label.as_bytes()])).checksum(0, parts))
    }

    pub(super) fn to_bytes(self) -> [u8; 16] {
        let [low, high] = self.0;
        (u128::from(low) | u128::from(high) << 64).to_le_bytes()
    }

    pub(super) fn from_bytes(bytes: [u8; 16]) -> Self {
        let both = u128::from_le_bytes(bytes);
        Self([both as u64, (both >> 64) as u64])
    }

    /// Fills `out` with what looks random.
    pub(super) fn expand(self, out: &mut [u8]) {
        for (number, block) in (0..).zip(out.chunks_mut(TAG_BYTES)) {
            block.copy_from_slice(&self.tag(number, &[])[..block.len()]);
        }
    }

    fn checksum(self, number: u64, parts: &[&[u8]]) -> [u64; 2] {
        self.0.map(|half| {
            let mut hasher = FixedState::with_seed(half).build_hasher();
            hasher.write_u64(number);
            for part in parts {
                // A hasher need not tell where one part ends and the next begins.
                hasher.write_u64(part.len() as u64);
                hasher.write(part);
            }
            hasher.finish()
        })
    }

    fn tag(self, number: u64, parts: &[&[u8]]) -> [u8; TAG_BYTES] {
        let [low, high] = self.checksum(number, parts);
        (u128::from(low) | u128::from(high) << 64).to_le_bytes()
    }

    fn of_sender(self, sender: Side) -> Box<dyn PacketKey> {
        let label = if sender.is_client() { "client" } else { "server" };
        Box::new(self.derive(label, &[]))
    }

    pub(super) fn packet_keys(self, side: Side) -> KeyPair<Box<dyn PacketKey>> {
        KeyPair { local: self.of_sender(side), remote: self.of_sender(!side) }
    }

    pub(super) fn keys(self, side: Side) -> Keys {
        Keys {
            header: KeyPair { local: Box::new(Unprotected), remote: Box::new(Unprotected) },
            packet: self.packet_keys(side),
        }
    }
}

/// Keys that everybody can derive (RFC 9001, section 5.2).
pub(super) fn initial_keys(version: u32, dst_cid: &ConnectionId, side: Side) -> Keys {
    ROOT.derive("initial", &[&version.to_le_bytes(), dst_cid]).keys(side)
}

/// What a retry packet ends with (RFC 9001, section 5.8).
pub(super) fn retry_tag(
    version: u32,
    orig_dst_cid: &ConnectionId,
    packet: &[u8],
) -> [u8; TAG_BYTES] {
    ROOT.derive("retry", &[&version.to_le_bytes(), orig_dst_cid]).tag(0, &[packet])
}

impl PacketKey for Secret {
    fn encrypt(&self, packet: u64, buf: &mut [u8], header_len: usize) {
        let (header, payload) = buf.split_at_mut(header_len);
        let (payload, tag) = payload.split_last_chunk_mut().expect("room was left for the tag");
        *tag = self.tag(packet, &[header, payload]);
    }

    fn decrypt(
        &self,
        packet: u64,
        header: &[u8],
        payload: &mut BytesMut,
    ) -> Result<(), CryptoError> {
        let (plain, tag) = payload.split_last_chunk().ok_or(CryptoError)?;
        if *tag != self.tag(packet, &[header, plain]) {
            return Err(CryptoError);
        }
        payload.truncate(payload.len() - TAG_BYTES);
        Ok(())
    }

    fn tag_len(&self) -> usize {
        TAG_BYTES
    }

    // The limits are those of AES-128-GCM (RFC 9001, section 6.6), so that keys are updated when
    // they would be.

    fn confidentiality_limit(&self) -> u64 {
        1 << 23
    }

    fn integrity_limit(&self) -> u64 {
        1 << 52
    }
}

/// Header protection that does nothing.
struct Unprotected;

impl HeaderKey for Unprotected {
    fn decrypt(&self, _pn_offset: usize, _packet: &mut [u8]) {}

    fn encrypt(&self, _pn_offset: usize, _packet: &mut [u8]) {}

    // Nothing is sampled, but small packets are padded up to it.
    fn sample_size(&self) -> usize {
        16
    }
}
