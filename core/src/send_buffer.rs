//! Bytes that a machine has encoded for one stream.

use alloc::vec::Vec;
use bytes::Bytes;

/// Payloads up to this many bytes are copied next to their headers: this is cheaper than passing a
/// reference through all layers. Longer ones are never copied.
const INLINE_BYTES_MAX: usize = 1024;

/// Encoded frames: small things in one buffer, large payloads by reference.
#[derive(Debug, Default)]
pub struct SendBuffer {
    pub(crate) inline: Vec<u8>,
    /// Payloads, each with the end of what goes before it in `inline`.
    shared: Vec<(usize, Bytes)>,
    shared_bytes: usize,
}

impl SendBuffer {
    /// An empty buffer.
    pub const fn new() -> Self {
        Self { inline: Vec::new(), shared: Vec::new(), shared_bytes: 0 }
    }

    pub(crate) fn clear(&mut self) {
        self.inline.clear();
        self.shared.clear();
        self.shared_bytes = 0;
    }

    /// Bytes in the buffer.
    pub fn len(&self) -> usize {
        self.inline.len() + self.shared_bytes
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends a payload, of which `shared` is a handle.
    pub(crate) fn payload(&mut self, bytes: &[u8], shared: impl FnOnce() -> Bytes) {
        if bytes.len() <= INLINE_BYTES_MAX {
            self.inline.extend_from_slice(bytes);
        } else {
            self.share(shared());
        }
    }

    /// Appends a payload by reference, however short.
    pub(crate) fn share(&mut self, bytes: Bytes) {
        self.shared_bytes += bytes.len();
        self.shared.push((self.inline.len(), bytes));
    }

    /// The bytes in order, in pieces. One allocation; payloads are not copied.
    pub fn take_pieces(&mut self, pieces: &mut Vec<Bytes>) {
        self.take_pieces_in(pieces, Bytes::copy_from_slice);
    }

    /// The same with a `copy` of what is not shared.
    pub(crate) fn take_pieces_in(
        &mut self,
        pieces: &mut Vec<Bytes>,
        copy: impl FnOnce(&[u8]) -> Bytes,
    ) {
        let mut inline = if self.inline.is_empty() { Bytes::new() } else { copy(&self.inline) };
        let mut start = 0;
        for (end, payload) in self.shared.drain(..) {
            if start < end {
                pieces.push(inline.split_to(end - start));
            }
            pieces.push(payload);
            start = end;
        }
        if !inline.is_empty() {
            pieces.push(inline);
        }
        self.clear();
    }

    /// Hands the bytes in order, in pieces, to `take`; nothing is allocated.
    pub fn for_each_piece(&self, mut take: impl FnMut(&[u8])) {
        let mut start = 0;
        for (end, payload) in &self.shared {
            take(&self.inline[start..*end]);
            take(payload);
            start = *end;
        }
        take(&self.inline[start..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often something is copied of a buffer with these parts, all of which come in order.
    fn copies(parts: &[(&[u8], bool)]) -> usize {
        let mut buffer = SendBuffer::new();
        for (bytes, is_shared) in parts {
            match is_shared {
                true => buffer.share(Bytes::copy_from_slice(bytes)),
                false => buffer.inline.extend_from_slice(bytes),
            }
        }
        let (mut pieces, mut copies) = (Vec::new(), 0);
        buffer.take_pieces_in(&mut pieces, |bytes| {
            copies += 1;
            Bytes::copy_from_slice(bytes)
        });
        assert!(pieces.iter().all(|piece| !piece.is_empty()) && buffer.is_empty());
        let all: Vec<&[u8]> = parts.iter().map(|(bytes, _)| *bytes).collect();
        assert_eq!(pieces.concat(), all.concat());
        copies
    }

    #[test]
    fn what_is_not_shared_is_copied_once_if_there_is_any() {
        assert_eq!(copies(&[]), 0);
        assert_eq!(copies(&[(b"long", true)]), 0, "a piece of a long body");
        assert_eq!(copies(&[(b"long", true), (b"long", true)]), 0);
        assert_eq!(copies(&[(b"head", false)]), 1);
        assert_eq!(copies(&[(b"head", false), (b"long", true), (b"head", false)]), 1);
    }
}
