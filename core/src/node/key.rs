//! The key pair that is a node's identity.
//!
//! A [`NodeId`] is an Ed25519 public key, so there are no certificates and no registry: a process
//! that holds the secret is the node. Everything else that has to survive a restart is derived from
//! the same 32 secret bytes, so that they are all an operator has to store. Where the key is kept
//! elsewhere ([`Signer`]), it is derived from 32 other secret bytes.
//!
//! This module knows nothing of TLS (`crypto` turns the key into credentials) nor of where a secret
//! is stored.
//!
//! Invariants:
//! 1. The secret leaves only through [`NodeKey::seed`]; `Debug` prints the public half. The memory
//!    of the key itself is zeroed when it is dropped.
//! 2. Each derived key depends on the secret and on its own label, and on nothing else: equal
//!    secrets give equal keys in every process, and no derived key tells anything about another or
//!    about the secret.

use core::fmt;
use std::boxed::Box;
use std::error::Error;
use std::string::ToString;
use std::{sync::Arc, vec::Vec};

use aws_lc_rs::encoding::AsBigEndian;
use aws_lc_rs::{
    hkdf, hmac,
    signature::{Ed25519KeyPair, KeyPair},
};
use quinn_proto::crypto::{HandshakeTokenKey, HmacKey};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use zeroize::{Zeroize, Zeroizing};

use super::endpoint_keys::{ResetKey, TokenKey};
use crate::id::NodeId;

/// Separates our derivations from those of any other program that is given the same secret.
const SALT: &[u8] = b"slotcast/1 node key";
const RESET_LABEL: &[u8] = b"stateless reset";
const TOKEN_LABEL: &[u8] = b"address token";
const CID_LABEL: &[u8] = b"connection id";

/// The tag with which a DER structure begins.
const SEQUENCE: u8 = 0x30;

/// An Ed25519 key pair (RFC 8032): the identity of a node, and the root of the keys that it keeps
/// across restarts.
///
/// A clone is a reference to the same pair. Two *running* nodes must not share one: peers could not
/// tell them apart.
#[derive(Clone)]
pub struct NodeKey(Arc<Inner>);

struct Inner {
    id: NodeId,
    secret: Secret,
    /// HKDF-Extract of the seed. The seed itself is never used as a key for anything but Ed25519.
    root: hkdf::Prk,
}

enum Secret {
    Here { seed: Zeroizing<[u8; 32]>, pair: Ed25519KeyPair },
    Elsewhere(Box<dyn Signer>),
}

/// Signs with an Ed25519 key that is kept elsewhere: in a hardware module, or by an agent.
pub trait Signer: Send + Sync {
    /// The public half of the key.
    fn id(&self) -> NodeId;

    /// The signature of a message: Ed25519 without a prehash or context (RFC 8032, section 5.1). The
    /// messages are those of TLS handshakes (RFC 8446, section 4.4.3), which begin with 64 spaces and
    /// what they are for.
    ///
    /// There is one for each connection that is made, and the node does nothing else meanwhile: it should
    /// take no more than a few milliseconds. Each waits for the one before, so that a signer that takes
    /// 10 ms allows 100 handshakes in a second.
    ///
    /// # Errors
    /// The handshake fails, and is begun again later. The peer is told that, and not the error.
    fn sign(&self, message: &[u8]) -> Result<[u8; 64], SignerError>;
}

/// Why a [`Signer`] did not sign.
pub type SignerError = Box<dyn Error + Send + Sync>;

/// Why a text or file is not the private key of a node.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// It is encrypted with a password.
    #[error("the private key is encrypted: decrypt it first, as with `openssl pkey`")]
    Encrypted,
    /// The text has no section `PRIVATE KEY`.
    #[error("no PKCS#8 private key in the text: it has no section `PRIVATE KEY`")]
    NoKey,
    /// The section is not PEM (RFC 7468): its lines are not those that were written, or it does not end.
    #[error("the section `PRIVATE KEY` is not PEM: are the line breaks those that were written?")]
    Pem,
    /// The bytes are not a PKCS#8 structure (RFC 5958).
    #[error("the private key is not PKCS#8 in DER")]
    NotPkcs8,
    /// The key is one for another algorithm than Ed25519.
    #[error(
        "the private key is not for Ed25519: make one with `openssl genpkey -algorithm ed25519`"
    )]
    NotEd25519,
}

impl NodeKey {
    /// The key pair whose RFC 8032 private key is `seed`.
    ///
    /// Any 32 bytes are a valid private key; whether they are secret and uniformly random is up to
    /// the caller.
    #[must_use]
    pub fn from_seed(mut seed: [u8; 32]) -> Self {
        let own = Zeroizing::new(seed);
        seed.zeroize();
        let pair = Ed25519KeyPair::from_seed_unchecked(&*own)
            .expect("any 32 bytes are an Ed25519 private key");
        let public = pair.public_key().as_ref();
        let id = NodeId(public.try_into().expect("an Ed25519 public key has 32 bytes"));
        let root = root(&own);
        Self(Arc::new(Inner { id, secret: Secret::Here { seed: own, pair }, root }))
    }

    /// The key pair in a PKCS#8 file (RFC 8410), as `openssl genpkey -algorithm ed25519` makes it: PEM, or
    /// DER. The key is in `PRIVATE KEY`, the first such section.
    ///
    /// The caller's copy stays the caller's to erase.
    ///
    /// # Errors
    /// If it is none, and what is wrong.
    pub fn from_pkcs8(file: &[u8]) -> Result<Self, KeyError> {
        let has = |label: &str| {
            let begin = ["-----BEGIN ", label, "PRIVATE KEY-----"].concat();
            file.windows(begin.len()).any(|window| window == begin.as_bytes())
        };
        if !has("") {
            return match file.first() {
                _ if has("ENCRYPTED ") => Err(KeyError::Encrypted),
                Some(&SEQUENCE) => Self::from_der(file),
                _ => Err(KeyError::NoKey),
            };
        }
        match PrivatePkcs8KeyDer::from_pem_slice(file) {
            Ok(mut key) => {
                let made = Self::from_der(key.secret_pkcs8_der());
                key.zeroize();
                made
            }
            // Its text quotes the key.
            Err(_) => Err(KeyError::Pem),
        }
    }

    fn from_der(der: &[u8]) -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map_err(|rejected| {
            match rejected.to_string().as_str() {
                "WrongAlgorithm" => KeyError::NotEd25519,
                _ => KeyError::NotPkcs8,
            }
        })?;
        let seed = pair.seed().map_err(|_| KeyError::NotPkcs8)?;
        let seed = seed.as_be_bytes().map_err(|_| KeyError::NotPkcs8)?;
        Ok(Self::from_seed(seed.as_ref().try_into().map_err(|_| KeyError::NotPkcs8)?))
    }

    /// The key pair of a signer, which alone has its secret.
    ///
    /// `restart_secret` are 32 bytes that nobody else knows: what a node issues before a restart and has to
    /// recognise after it derives from them (stateless resets, connection ids, address tokens). With the same
    /// ones after each restart, peers notice it at once; with new ones, after the idle timeout. They do not
    /// derive from a signature, since not every signer gives the same one twice, and since a signer should
    /// sign handshakes only. Who learns them can end connections of this node, and not be this node.
    #[must_use]
    pub fn from_signer(signer: impl Signer + 'static, mut restart_secret: [u8; 32]) -> Self {
        let root = root(&restart_secret);
        restart_secret.zeroize();
        let id = signer.id();
        Self(Arc::new(Inner { id, secret: Secret::Elsewhere(Box::new(signer)), root }))
    }

    /// The public half, by which others know this node.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.0.id
    }

    /// The secret half, for storing: [`NodeKey::from_seed`] makes the same key of it again. `None` if a
    /// [`Signer`] has it.
    #[must_use]
    pub fn seed(&self) -> Option<&[u8; 32]> {
        match &self.0.secret {
            Secret::Here { seed, .. } => Some(seed),
            Secret::Elsewhere(_) => None,
        }
    }

    /// The 64-byte Ed25519 signature of `message`.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignerError> {
        match &self.0.secret {
            Secret::Here { pair, .. } => Ok(pair.try_sign(message)?.as_ref().into()),
            Secret::Elsewhere(signer) => signer.sign(message).map(Into::into),
        }
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

/// HKDF-Extract (RFC 5869) of what the keys of an endpoint derive from.
fn root(secret: &[u8; 32]) -> hkdf::Prk {
    hkdf::Salt::new(hkdf::HKDF_SHA256, SALT).extract(secret)
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
        assert_eq!(key.seed(), Some(&seed));
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

    /// RFC 8410, section 10.3: the key of the RFC's example, without attributes.
    const PEM: &str = "-----BEGIN PRIVATE KEY-----\n\
        MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
        -----END PRIVATE KEY-----\n";
    const PUBLIC: &str = "19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1";

    #[test]
    fn keys_are_read_from_pkcs8() {
        let id: NodeId = PUBLIC.parse().unwrap();
        let key = NodeKey::from_pkcs8(PEM.as_bytes()).unwrap();
        assert_eq!(key.id(), id);
        assert_eq!(NodeKey::from_seed(*key.seed().unwrap()).id(), id);
        let der = PrivatePkcs8KeyDer::from_pem_slice(PEM.as_bytes()).unwrap();
        assert_eq!(NodeKey::from_pkcs8(der.secret_pkcs8_der()).unwrap().id(), id);
    }

    #[test]
    fn what_is_no_key_is_refused_by_what_is_wrong() {
        let error = |file: &str| NodeKey::from_pkcs8(file.as_bytes()).unwrap_err();
        assert_eq!(error(""), KeyError::NoKey);
        assert_eq!(error(&"ab".repeat(32)), KeyError::NoKey);
        assert_eq!(error(&PEM.replace("PRIVATE", "EC PRIVATE")), KeyError::NoKey);
        assert_eq!(error(&PEM.replace("PRIVATE", "ENCRYPTED PRIVATE")), KeyError::Encrypted);
        assert_eq!(error(&PEM.replace("MC4C", "M?4C")), KeyError::Pem);
        assert_eq!(error(&PEM.replace("-----END", "")), KeyError::Pem);
        let one_line = error(&PEM.replace("\n", ""));
        assert_eq!(one_line, KeyError::Pem, "and nothing of the key is in it");
        let remark = format!("0 {PEM}");
        assert!(NodeKey::from_pkcs8(remark.replacen("0 ", "0 is no DER\n", 1).as_bytes()).is_ok());
        assert_eq!(error(&PEM.replace("MC4C", "MC5C")), KeyError::NotPkcs8);
        assert_eq!(error("0 is how DER begins"), KeyError::NotPkcs8);
        // X25519, whose number is one less than that of Ed25519 by two.
        assert_eq!(error(&PEM.replace("YDK2Vw", "YDK2Vu")), KeyError::NotEd25519);
    }

    struct Module(NodeKey);

    impl Signer for Module {
        fn id(&self) -> NodeId {
            self.0.id()
        }

        fn sign(&self, message: &[u8]) -> Result<[u8; 64], SignerError> {
            Ok(self.0.sign(message)?.try_into().expect("64 bytes"))
        }
    }

    #[test]
    fn a_signer_signs_and_what_is_to_survive_derives_from_another_secret() {
        let key = NodeKey::from_seed([1; 32]);
        let of_signer = |secret| NodeKey::from_signer(Module(key.clone()), [secret; 32]);
        let (a, restarted, other) = (of_signer(7), of_signer(7), of_signer(8));
        assert_eq!((a.id(), a.seed()), (key.id(), None));
        assert_eq!(a.sign(b"message").unwrap(), key.sign(b"message").unwrap());
        assert_eq!(reset_token(&a), reset_token(&restarted));
        assert_ne!(reset_token(&a), reset_token(&other));
        assert_ne!(reset_token(&a), reset_token(&key));
        assert_eq!(a.cid_key(), restarted.cid_key());
        assert!(opens_token_of(&a, &restarted) && !opens_token_of(&a, &other));
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
