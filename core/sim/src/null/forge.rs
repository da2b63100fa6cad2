//! Packets that QUIC would not make. Whoever holds a connection knows its secret, and can give the packets that leave it
//! another content: as a hostile member can, with an implementation of its own, under TLS.

use quinn_proto::Side;

use super::protection::{Secret, TAG_BYTES};
use super::source::Cids;

/// For the export of a connection's secret.
pub(super) const LABEL: &[u8] = b"slotcast-sim forge";

/// The longest datagram that is made.
const DATAGRAM_BYTES_MAX: usize = 1452;

/// Begins a packet of the handshake (RFC 9000, section 17.2).
const LONG_HEADER: u8 = 0x80;

/// The key phase bit of a short header (RFC 9000, section 17.3.1).
const KEY_PHASE: u8 = 0x04;

/// Puts frames into the packets that one side of a connection sends. It has to be shown all of them, to know their
/// numbers and keys.
#[derive(Debug)]
pub(crate) struct Forger {
    secret: Secret,
    sender: Side,
    /// Key updates so far.
    generation: u64,
    /// The number that the next packet has at least.
    next_number: u64,
}

impl Forger {
    /// For a connection that is not protected, once its handshake is over; `None` before.
    pub(crate) fn new(quic: &quinn_proto::Connection) -> Option<Self> {
        let mut secret = [0; 16];
        quic.crypto_session().export_keying_material(&mut secret, LABEL, &[]).ok()?;
        let secret = Secret::from_bytes(secret);
        Some(Self { secret, sender: quic.side(), generation: 0, next_number: 0 })
    }

    /// The datagram with these frames before its own. `None` if there are none, or too many, or if the datagram is one of
    /// the handshake.
    pub(crate) fn insert(&mut self, datagram: &[u8], frames: &[u8]) -> Option<Vec<u8>> {
        let first = *datagram.first()?;
        if first & LONG_HEADER != 0 {
            return None;
        }
        let number_at = 1 + Cids::BYTES;
        let number_bytes = usize::from(first & 0x03) + 1;
        let (header, payload) = datagram.split_at_checked(number_at + number_bytes)?;
        let payload = payload.get(..payload.len().checked_sub(TAG_BYTES)?)?;
        let number = self.number(&header[number_at..]);
        self.next_number = number + 1;
        self.generation += u64::from((first & KEY_PHASE != 0) != (self.generation % 2 == 1));
        if frames.is_empty() || datagram.len() + frames.len() > DATAGRAM_BYTES_MAX {
            return None;
        }
        let mut forged = [header, frames, payload, &[0; TAG_BYTES]].concat();
        let key = self.secret.of_generation(self.generation).packet_keys(self.sender).local;
        key.encrypt(number, &mut forged, header.len());
        Some(forged)
    }

    /// The least number from `next_number` on that ends with these bytes.
    fn number(&self, truncated: &[u8]) -> u64 {
        let low = truncated.iter().fold(0, |low, byte| low << 8 | u64::from(*byte));
        let window = 1 << (8 * truncated.len());
        let number = self.next_number / window * window + low;
        if number < self.next_number { number + window } else { number }
    }
}
