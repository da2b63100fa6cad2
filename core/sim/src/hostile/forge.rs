//! Bytes that the wire format does not allow, and such as it allows for later versions.

use super::frames::{frame, put_varint, stream, updates};
use slotcast::config::ChannelConfig;
use slotcast::internals::{Random, kind};
use slotcast::wire::{CHANNELS_MAX, HELLO_BYTES_MAX, StreamHead};

/// The greatest number that can be written.
pub(super) const VARINT_MAX: u64 = (1 << 62) - 1;

/// Random bytes.
pub(super) fn garbage(random: &mut Random, length: usize) -> Vec<u8> {
    let words = core::iter::repeat_with(|| random.bits().to_le_bytes()).take(length.div_ceil(8));
    let mut bytes = words.flatten().collect::<Vec<_>>();
    bytes.truncate(length);
    bytes
}

/// A number of any magnitude.
pub(super) fn any_number(random: &mut Random) -> u64 {
    let bits = random.below(63);
    random.bits() & ((1 << bits) - 1)
}

/// A kind of frame that has no meaning.
pub(super) fn unknown_kind(random: &mut Random) -> u64 {
    loop {
        let kind = any_number(random);
        if !kind::is_known(kind) {
            return kind;
        }
    }
}

fn numbers(numbers: &[u64]) -> Vec<u8> {
    let mut bytes = Vec::new();
    numbers.iter().for_each(|number| put_varint(&mut bytes, *number));
    bytes
}

/// A whole stream that begins as any other and is malformed.
pub(super) fn malformed(random: &mut Random, config: &ChannelConfig) -> Vec<u8> {
    let updates = |kind: u64, body: &[u8]| updates(config.id, &[&frame(kind, body)]);
    let requests = |kind: u64, body: &[u8]| stream(StreamHead::Requests, &[&frame(kind, body)]);
    let hash = [random.bits() as u8; 32];
    let with_hash = |fields: &[u64]| [numbers(fields), hash.to_vec()].concat();
    match random.below(18) {
        0 => Vec::new(),
        1 => vec![1],
        2 => vec![1, 0x80, 1, 0, 0],
        // A length that the stream does not hold.
        3 => stream(StreamHead::Updates(config.id), &[&numbers(&[kind::PUSH, 50]), &[0, 1, 0, 9]]),
        // A length beyond every bound, of a kind that has one, and of one that has none.
        4 => stream(StreamHead::Updates(config.id), &[&numbers(&[kind::PUSH, VARINT_MAX])]),
        5 => stream(StreamHead::Updates(config.id), &[&numbers(&[99, VARINT_MAX]), &hash]),
        6 => updates(kind::CLEAR, &[0]),
        7 => updates(kind::CLEAR, &[0, 1, 1]),
        // More metadata than there may be, and than there is.
        8 => updates(kind::PUSH, &[numbers(&[0, 1, 129]), vec![0; 129]].concat()),
        9 => updates(kind::PUSH, &numbers(&[0, 1, 9, 1])),
        10 => updates(kind::ADVERT, &numbers(&[0, 1, 0, 0, 9, 0])),
        11 => updates(kind::ADVERT, &with_hash(&[0, 1, 0, 0, VARINT_MAX, 0])),
        12 => updates(kind::ADVERT, &with_hash(&[0, 1, 256, 0, 9, 0])),
        13 => updates(kind::FETCH, &with_hash(&[1, config.id.0.into(), 0, 1])),
        14 => updates(kind::HELLO_MINOR, &[0]),
        15 => requests(kind::FETCH, &with_hash(&[1, config.id.0.into(), 0, 0])),
        16 => requests(kind::FETCH, &numbers(&[1, config.id.0.into(), 0, 1])),
        _ => requests(kind::CANCEL, &[0; 200]),
    }
}

/// A whole stream of random bytes, mostly behind a head that is understood.
pub(super) fn garbage_stream(random: &mut Random, config: &ChannelConfig) -> Vec<u8> {
    let length = 1 + random.below(2000) as usize;
    let garbage = garbage(random, length);
    match random.below(8) {
        0 => garbage,
        1 | 2 => stream(StreamHead::Requests, &[&garbage]),
        3 => stream(StreamHead::Chunks(any_number(random)), &[&garbage]),
        _ => updates(config.id, &[&garbage]),
    }
}

/// A datagram that belongs to no connection: of no version, of an unknown one, the first of a
/// handshake with nothing in it, or one of a connection that does not exist.
pub(super) fn datagram(random: &mut Random) -> Vec<u8> {
    let length = 1 + random.below(1400) as usize;
    let mut datagram = garbage(random, length);
    let head: &[u8] = match random.below(5) {
        0 => &[0xc3, 0, 0, 0, 1, 8],
        1 => &[0xe3, 0, 0, 0, 1, 8],
        2 => &[0xc0, 0x1a, 0x2a, 0x3a, 0x4a, 8],
        3 => &[0x43],
        _ => &[],
    };
    // An unknown version is answered only if the datagram is long.
    if random.below(2) == 0 {
        datagram.resize(1200, 7);
    }
    datagram.iter_mut().zip(head).for_each(|(byte, head)| *byte = *head);
    datagram
}

/// A hello that no node accepts.
pub(super) fn hello(random: &mut Random, good: &[u8]) -> Vec<u8> {
    let hello = |frames: &[&[u8]]| stream(StreamHead::Hello, frames);
    let channel = |id: u64| frame(kind::HELLO_CHANNEL, &numbers(&[id, 16, 16, 16, 4]));
    match random.below(7) {
        0 => hello(&[&frame(unknown_kind(random), &[0; 1000]).repeat(HELLO_BYTES_MAX / 1000 + 1)]),
        1 => hello(&[&frame(kind::HELLO_CHANNEL, &[1; 1100])]),
        2 => hello(&[&(0..=CHANNELS_MAX as u64).map(channel).collect::<Vec<_>>().concat()]),
        3 => [good, &channel(1), &channel(1)].concat(),
        4 => good[..good.len() - 1].into(),
        5 => hello(&[&numbers(&[kind::HELLO_MINOR, 3]), &[0x80, 1, 1]]),
        _ => hello(&[&frame(kind::CLEAR, &[0, 1])]),
    }
}
