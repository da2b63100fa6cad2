//! Artifacts whose bytes say which artifact they are, so that they are recognised on the wire.

use slotcast::artifact::Artifact;
use slotcast::broadcast::{Candidate, Decision, Priority};
use slotcast::id::ChannelId;

/// Begins each word of content. No accident looks like it.
const MARK: [u8; 8] = *b"\xf3slotCA\x9e";

/// Bytes of a word: mark, serial number, place, filling.
pub(super) const WORD: usize = 32;

/// What the applications think of an artifact. Its metadata says so to everyone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// Wanted by all.
    Wanted(Priority),
    /// Wanted by those whose view has come to this height.
    At(u32),
    /// Not wanted by the nodes at the places whose bits are set.
    NotAt(u16),
}

impl Kind {
    fn metadata(self, serial: u32) -> [u8; 9] {
        let (tag, number) = match self {
            Self::Wanted(Priority::Low) => (0, 0),
            Self::Wanted(Priority::Normal) => (1, 0),
            Self::Wanted(Priority::High) => (2, 0),
            Self::At(height) => (3, height),
            Self::NotAt(places) => (4, places.into()),
        };
        let mut metadata = [tag; 9];
        metadata[1..5].copy_from_slice(&number.to_le_bytes());
        metadata[5..].copy_from_slice(&serial.to_le_bytes());
        metadata
    }

    fn of(metadata: &[u8]) -> Option<Self> {
        let number = u32::from_le_bytes(*metadata.get(1..)?.first_chunk()?);
        Some(match metadata[0] {
            0 => Self::Wanted(Priority::Low),
            1 => Self::Wanted(Priority::Normal),
            2 => Self::Wanted(Priority::High),
            3 => Self::At(number),
            4 => Self::NotAt(number as u16),
            _ => return None,
        })
    }

    /// What a node decides whose view has come to `height`.
    pub(super) fn decision(self, at: usize, height: u32) -> Decision {
        match self {
            Self::Wanted(priority) => Decision::Fetch(priority),
            Self::At(needed) if needed <= height => Decision::Fetch(Priority::Normal),
            Self::At(_) => Decision::Later,
            Self::NotAt(places) if at < 16 && places >> at & 1 == 1 => Decision::Drop,
            Self::NotAt(_) => Decision::Fetch(Priority::Normal),
        }
    }
}

/// The decision about anything that is advertised, hostile inventions included.
pub(super) fn decide(candidate: &Candidate<'_>, at: usize, height: u32) -> Decision {
    let kind = Kind::of(&candidate.advert.metadata);
    kind.unwrap_or(Kind::Wanted(Priority::Normal)).decision(at, height)
}

/// The artifact with a serial number. The channel is part of its content: nothing is known twice. Two of three have a
/// key, which some have in common.
pub(super) fn artifact(channel: ChannelId, serial: u32, kind: Kind, length: usize) -> Artifact {
    let mut bytes = Vec::with_capacity(length + WORD);
    let mut place: u32 = 0;
    while bytes.len() < length {
        bytes.extend_from_slice(&MARK);
        bytes.extend_from_slice(&serial.to_le_bytes());
        bytes.extend_from_slice(&place.to_le_bytes());
        bytes.extend_from_slice(&u64::from(channel.0).to_le_bytes());
        bytes.extend_from_slice(&[place as u8; 8]);
        place += 1;
    }
    bytes.truncate(length);
    let key =
        (!serial.is_multiple_of(3)).then(|| u64::from(serial.wrapping_mul(0x9e37_79b9) >> 24));
    Artifact::keyed(key, bytes.into(), &kind.metadata(serial)).expect("short metadata")
}

/// The words of content in a datagram: serial numbers and places.
pub(super) fn words(datagram: &[u8]) -> impl Iterator<Item = (u32, u32)> {
    let mut rest = datagram;
    core::iter::from_fn(move || {
        loop {
            let at = rest.iter().position(|byte| *byte == MARK[0])?;
            rest = &rest[at..];
            if rest.len() < WORD {
                return None;
            }
            let (word, after) = rest.split_at(WORD);
            let number = |at: usize| {
                u32::from_le_bytes(*word[at..].first_chunk().expect("a word is longer"))
            };
            let (serial, place) = (number(8), number(12));
            // A word that is cut ends in something else.
            if word.starts_with(&MARK) && word[24..] == [place as u8; 8] {
                rest = after;
                return Some((serial, place));
            }
            rest = &rest[1..];
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use slotcast::id::NodeId;

    #[test]
    fn content_is_recognised_wherever_it_is_cut() {
        let made = artifact(ChannelId(3), 77, Kind::At(9), 100);
        assert_eq!(made.bytes().len(), 100);
        let found: Vec<_> = words(made.bytes()).collect();
        assert_eq!(found, [(77, 0), (77, 1), (77, 2)]);
        let mut torn = std::vec![0xf3; 7];
        torn.extend_from_slice(&made.bytes()[5..]);
        assert_eq!(words(&torn).collect::<Vec<_>>(), [(77, 1), (77, 2)]);
    }

    #[test]
    fn what_metadata_says_is_what_is_decided() {
        let decided = |kind: Kind, at, height| {
            let made = artifact(ChannelId(3), 77, kind, 10);
            let advert = &made.advert();
            let (id, from) = (made.id(), NodeId([0; 32]));
            decide(&Candidate { channel: ChannelId(3), id: &id, advert, from }, at, height)
        };
        let high = Kind::Wanted(Priority::High);
        assert_eq!(decided(high, 0, 0), Decision::Fetch(Priority::High));
        assert_eq!(decided(Kind::At(300), 0, 299), Decision::Later);
        assert_eq!(decided(Kind::At(300), 0, 300), Decision::Fetch(Priority::Normal));
        assert_eq!(decided(Kind::NotAt(0b100), 2, 0), Decision::Drop);
        assert_eq!(decided(Kind::NotAt(0b100), 1, 0), Decision::Fetch(Priority::Normal));
    }
}
