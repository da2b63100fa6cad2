//! Artifacts whose bytes say where in which artifact they are, so that what comes twice is noticed.

use slotcast::artifact::Artifact;

/// Begins each word of content. No accident looks like it.
const MARK: [u8; 4] = *b"\xf3sC\x9e";

/// Bytes of a word: mark, number of the artifact, number of the word, and the last two again.
pub(crate) const WORD: usize = 20;

/// An artifact that differs from those with other numbers.
pub(crate) fn artifact(number: u32, length: usize) -> Artifact {
    let mut bytes = Vec::with_capacity(length + WORD);
    for word in 0..length.div_ceil(WORD) as u32 {
        bytes.extend_from_slice(&MARK);
        for part in [number, word, number, word] {
            bytes.extend_from_slice(&part.to_le_bytes());
        }
    }
    bytes.truncate(length);
    Artifact::new(bytes.into(), &number.to_be_bytes()).expect("within the format's limits")
}

/// The words of content in a datagram: numbers of artifacts and of words. Those that datagrams cut
/// are left out, which are about one in seventy.
pub(crate) fn words(datagram: &[u8]) -> impl Iterator<Item = (u32, u32)> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        loop {
            let at = rest.iter().position(|byte| *byte == MARK[0])?;
            rest = &rest[at..];
            if rest.len() < WORD {
                return None;
            }
            let number =
                |at: usize| u32::from_le_bytes(rest[at..at + 4].try_into().expect("four bytes"));
            let (of, word) = (number(4), number(8));
            let is_whole = rest.starts_with(&MARK) && (of, word) == (number(12), number(16));
            rest = &rest[if is_whole { WORD } else { 1 }..];
            if is_whole {
                return Some((of, word));
            }
        }
    })
}

/// Which words of one artifact a node has received, and how often it received one again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Words {
    seen: Vec<u64>,
    pub(crate) first: u64,
    pub(crate) again: u64,
}

impl Words {
    pub(crate) fn note(&mut self, word: u32) {
        let (place, bit) = (word as usize / 64, 1 << (word % 64));
        if place >= self.seen.len() {
            self.seen.resize(place + 1, 0);
        }
        let is_new = self.seen[place] & bit == 0;
        self.seen[place] |= bit;
        *(if is_new { &mut self.first } else { &mut self.again }) += 1;
    }
}
