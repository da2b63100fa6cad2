//! Bytes of a fuzzer, read as arguments.

/// Reads arguments off the data; zeros behind its end.
pub(super) struct Feed<'a>(pub(super) &'a [u8]);

impl Feed<'_> {
    pub(super) fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()) % end
    }
}
