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
        let mut inline = copy(&self.inline);
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
