//! The key pair that is a node's identity.
//!
//! A [`NodeId`] is an Ed25519 public key, so there are no certificates and no registry: a process
//! that holds the secret is the node. Everything else that has to survive a restart is derived from
//! the same 32 secret bytes, so that they are all an operator has to store.
//!
//! This module knows nothing of TLS (`crypto` turns the key into credentials) nor of where a secret
//! is stored.
//!
//! Invariants:
//! 1. The secret leaves only through [`NodeKey::seed`]; `Debug` prints the public half.
//! 2. Each derived key depends on the secret and on its own label, and on nothing else: equal
//!    secrets give equal keys in every process, and no derived key tells anything about another or
//!    about the secret.

use core::fmt;
use std::{sync::Arc, vec::Vec};

use aws_lc_rs::{
    error::Unspecified,
    hkdf, hmac,
    signature::{Ed25519KeyPair, KeyPair},
};
use quinn_proto::crypto::{HandshakeTokenKey, HmacKey};

use super::endpoint_keys::{ResetKey, TokenKey};
use crate::id::NodeId;

/// Separates our derivations from those of any other program that is given the same secret.
const SALT: &[u8] = b"slotcast/1 node key";
const RESET_LABEL: &[u8] = b"stateless reset";
const TOKEN_LABEL: &[u8] = b"address token";
const CID_LABEL: &[u8] = b"connection id";

/// An Ed25519 key pair (RFC 8032): the identity of a node, and the root of the keys that it keeps
/// across restarts.
///
/// A clone is a reference to the same pair. Two *running* nodes must not share one: peers could not
/// tell them apart.
#[derive(Clone)]
pub struct NodeKey(Arc<Inner>);

struct Inner {
    id: NodeId,
    seed: [u8; 32],
    pair: Ed25519KeyPair,
    /// HKDF-Extract of the seed. The seed itself is never used as a key for anything but Ed25519.
    root: hkdf::Prk,
}

impl NodeKey {
    /// The key pair whose RFC 8032 private key is `seed`.
    ///
    /// Any 32 bytes are a valid private key; whether they are secret and uniformly random is up to
    /// the caller.
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed)
            .expect("any 32 bytes are an Ed25519 private key");
        let public = pair.public_key().as_ref();
        let id = NodeId(public.try_into().expect("an Ed25519 public key has 32 bytes"));
        let root = hkdf::Salt::new(hkdf::HKDF_SHA256, SALT).extract(&seed);
        Self(Arc::new(Inner { id, seed, pair, root }))
    }

    /// The public half, by which others know this node.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.0.id
    }

    /// The secret half, for storing: [`NodeKey::from_seed`] makes the same key of it again.
    #[must_use]
    pub fn seed(&self) -> &[u8; 32] {
        &self.0.seed
    }

    /// The 64-byte Ed25519 signature of `message`.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Unspecified> {
        Ok(self.0.pair.try_sign(message)?.as_ref().into())
    }

    /// Makes stateless reset tokens out of connection IDs (RFC 9000, section 10.3.2).
    ///
    /// Because it is the same after a restart, the restarted node can tell its peers at once that
    /// their connections are gone, instead of leaving them to the idle timeout. For this,
    /// [`NodeKey::cid_key`] is needed as well.
    pub(crate) fn reset_key(&self) -> Arc<dyn HmacKey> {
        Arc::new(ResetKey(self.derive(RESET_LABEL, hmac::HMAC_SHA256)))
    }

    /// Seals address validation tokens (RFC 9000, section 8.1), so that those from before a restart
    /// still open.
    pub(crate) fn token_key(&self) -> Arc<dyn HandshakeTokenKey> {
        Arc::new(TokenKey(self.derive(TOKEN_LABEL, hkdf::HKDF_SHA256)))
    }

    /// Key for [`quinn_proto::HashedConnectionIdGenerator::from_key`].
    ///
    /// The endpoint answers an unknown connection ID with a reset only if it recognises the ID as
    /// one of its own making. With the random key that is quinn's default it recognises none from
    /// before a restart, whatever the reset key.
    pub(crate) fn cid_key(&self) -> u64 {
        let key: hmac::Key = self.derive(CID_LABEL, hmac::HMAC_SHA256);
        let tag = hmac::sign(&key, b"");
        u64::from_le_bytes(*tag.as_ref().first_chunk().expect("a SHA-256 tag has 32 bytes"))
    }

    /// HKDF-Expand (RFC 5869) of the root for one purpose.
    fn derive<L, K>(&self, label: &[u8], algorithm: L) -> K
    where
        L: hkdf::KeyType,
        K: for<'a> From<hkdf::Okm<'a, L>>,
    {
        let info = [label];
        let okm = self.0.root.expand(&info, algorithm);
        okm.expect("one SHA-256 output is far below the limit of HKDF").into()
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeKey").field("id", &self.0.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{format, vec};

    use super::*;

    /// What the endpoint computes for one connection ID: the first 16 bytes are the token on the
    /// wire.
    fn reset_token(key: &NodeKey) -> [u8; 16] {
        let key = key.reset_key();
        let mut tag = [0; 32];
        assert_eq!(key.signature_len(), tag.len());
        key.sign(b"some cid", &mut tag);
        *tag.first_chunk().unwrap()
    }

    /// Whether `b` opens an address token which `a` sealed.
    fn opens_token_of(a: &NodeKey, b: &NodeKey) -> bool {
        let mut token = b"address".to_vec();
        a.token_key().aead_from_hkdf(&[7; 32]).seal(&mut token, b"").unwrap();
        b.token_key().aead_from_hkdf(&[7; 32]).open(&mut token, b"").is_ok()
    }

    #[test]
    fn the_id_is_the_rfc_8032_public_key() {
        // RFC 8032, section 7.1, test 1.
        let seed = *b"\x9d\x61\xb1\x9d\xef\xfd\x5a\x60\xba\x84\x4a\xf4\x92\xec\x2c\xc4\
            \x44\x49\xc5\x69\x7b\x32\x69\x19\x70\x3b\xac\x03\x1c\xae\x7f\x60";
        let public = *b"\xd7\x5a\x98\x01\x82\xb1\x0a\xb7\xd5\x4b\xfe\xd3\xc9\x64\x07\x3a\
            \x0e\xe1\x72\xf3\xda\xa6\x23\x25\xaf\x02\x1a\x68\xf7\x07\x51\x1a";
        let key = NodeKey::from_seed(seed);
        assert_eq!(key.id(), NodeId(public));
        assert_eq!(key.seed(), &seed);
    }

    #[test]
    fn derived_keys_depend_on_the_seed_alone() {
        let (a, restarted, other) =
            (NodeKey::from_seed([1; 32]), NodeKey::from_seed([1; 32]), NodeKey::from_seed([2; 32]));
        assert_eq!(reset_token(&a), reset_token(&restarted));
        assert_ne!(reset_token(&a), reset_token(&other));
        assert_eq!(a.cid_key(), restarted.cid_key());
        assert_ne!(a.cid_key(), other.cid_key());
        assert!(opens_token_of(&a, &restarted));
        assert!(!opens_token_of(&a, &other));
    }

    #[test]
    fn derivations_are_pinned() {
        // Computed with another implementation of HKDF. After a change here, a node that restarts
        // into the new release sends resets which its peers ignore: it has to be deliberate.
        let key = NodeKey::from_seed([1; 32]);
        assert_eq!(
            u128::from_be_bytes(reset_token(&key)),
            0x405b_2201_f2c0_c652_2a0c_6785_702d_6069
        );
        assert_eq!(key.cid_key(), 0xbdc4_8979_84bb_9f16);
        let mut token = b"address".to_vec();
        key.token_key().aead_from_hkdf(&[7; 32]).seal(&mut token, b"").unwrap();
        assert_eq!(
            token,
            b"\x32\x26\x7d\x53\x02\x8d\xd7\x04\x48\x99\x15\x3d\xce\x33\x69\x1e\
              \xd2\xb2\x67\x95\xf7\xb7\xf5"
        );
    }

    #[test]
    fn a_reset_key_verifies_what_it_has_signed_and_nothing_else() {
        let key = NodeKey::from_seed([1; 32]).reset_key();
        let mut tag = vec![0; key.signature_len()];
        key.sign(b"some cid", &mut tag);
        assert!(key.verify(b"some cid", &tag).is_ok());
        assert!(key.verify(b"another cid", &tag).is_err());
        assert!(key.verify(b"some cid", &tag[..16]).is_err());
        tag[31] ^= 1;
        assert!(key.verify(b"some cid", &tag).is_err());
    }

    #[test]
    fn an_address_token_that_was_changed_does_not_open() {
        let key = NodeKey::from_seed([1; 32]).token_key();
        let mut token = b"address".to_vec();
        key.aead_from_hkdf(&[7; 32]).seal(&mut token, b"context").unwrap();
        let opens = |mut token: Vec<u8>, random: [u8; 32], context: &[u8]| {
            let opened = key.aead_from_hkdf(&random);
            opened.open(&mut token, context).is_ok_and(|opened| opened == b"address")
        };
        assert!(opens(token.clone(), [7; 32], b"context"));
        assert!(!opens(token.clone(), [8; 32], b"context"));
        assert!(!opens(token.clone(), [7; 32], b"other"));
        token[0] ^= 1;
        assert!(!opens(token, [7; 32], b"context"));
    }

    #[test]
    fn debug_hides_the_secret() {
        let key = NodeKey::from_seed([0xa5; 32]);
        let text = format!("{key:?}");
        assert!(text.starts_with("NodeKey { id: "), "{text}");
        for secret in ["165, 165", "a5a5", "A5A5", "a5, a5", "seed"] {
            assert!(!text.contains(secret), "{text}");
        }
    }
}
