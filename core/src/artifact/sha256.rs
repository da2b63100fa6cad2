//! SHA-256 (FIPS 180-4), by the fastest implementation that is linked.
//!
//! Nodes have aws-lc for TLS. Where the processor has no instructions for SHA-256, as on many x86-64 servers,
//! it takes about half the time of `sha2`'s portable code, and elsewhere about the same. Without `quic`, `sha2`
//! needs neither a C library nor std.

use super::Hash;

/// Up to so many bytes are copied to be hashed at once: that takes less time than the allocation of a hasher.
#[cfg(feature = "quic")]
const COPIED_MAX: usize = 512;

#[cfg(test)]
std::thread_local! {
    /// How often something was hashed.
    pub(super) static COUNT: core::cell::Cell<u64> = const { core::cell::Cell::new(0) };
}

/// The hash of `parts`, one behind the other.
#[cfg(feature = "quic")]
pub(crate) fn sha256(parts: &[&[u8]]) -> Hash {
    #[cfg(test)]
    COUNT.set(COUNT.get() + 1);
    use aws_lc_rs::digest::{Context, SHA256, digest};

    let length: usize = parts.iter().map(|part| part.len()).sum();
    let hash = if length <= COPIED_MAX {
        let mut input = [0; COPIED_MAX];
        let mut end = 0;
        for part in parts {
            input[end..][..part.len()].copy_from_slice(part);
            end += part.len();
        }
        digest(&SHA256, &input[..end])
    } else {
        let mut context = Context::new(&SHA256);
        parts.iter().for_each(|part| context.update(part));
        context.finish()
    };
    hash.as_ref().try_into().expect("32 bytes")
}

/// The hash of `parts`, one behind the other.
#[cfg(not(feature = "quic"))]
pub(crate) fn sha256(parts: &[&[u8]]) -> Hash {
    #[cfg(test)]
    COUNT.set(COUNT.get() + 1);
    sha2_256(parts)
}

#[cfg(any(not(feature = "quic"), test))]
fn sha2_256(parts: &[&[u8]]) -> Hash {
    use sha2::{Digest, Sha256};

    let mut hasher = Sha256::new();
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    /// The first vector is that of FIPS 180-4's examples, "abc".
    #[test]
    fn both_implementations_agree_however_the_input_is_cut() {
        let abc = [
            0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea, 0x41, 0x41, 0x40, 0xde, 0x5d, 0xae,
            0x22, 0x23, 0xb0, 0x03, 0x61, 0xa3, 0x96, 0x17, 0x7a, 0x9c, 0xb4, 0x10, 0xff, 0x61,
            0xf2, 0x00, 0x15, 0xad,
        ];
        assert_eq!(sha256(&[b"abc"]), abc);
        let input: Vec<u8> = (0..600_u16).map(|at| (at * 7) as u8).collect();
        for length in [0, 1, 55, 56, 63, 64, 65, 119, 120, 512, 513, 600] {
            let whole = &input[..length];
            let expected = sha2_256(&[whole]);
            assert_eq!(sha256(&[whole]), expected);
            for cut in [0, 1, length / 2, length] {
                let cut = cut.min(length);
                assert_eq!(sha256(&[&whole[..cut], &whole[cut..]]), expected, "{length}, {cut}");
            }
        }
    }
}
