//! The keys that a QUIC endpoint keeps across restarts, in the form that quinn-proto takes.
//!
//! quinn-proto implements its traits for the types of one crypto library only, and which one that is
//! depends on features that any other crate of the application may enable: with `ring`, which is the
//! default of quinn, it is not ours. So the traits are implemented here, on our own types.
//!
//! The computations are those of quinn-proto's own implementation, byte for byte: what a node has
//! issued before an update is recognised after it.

use std::{boxed::Box, vec::Vec};

use aws_lc_rs::{
    aead::{self, Aad, LessSafeKey, Nonce, UnboundKey},
    hkdf, hmac,
};
use quinn_proto::crypto::{AeadKey, CryptoError, HandshakeTokenKey, HmacKey};

/// Signs connection IDs: the first bytes of a signature are a stateless reset token (RFC 9000,
/// section 10.3.2).
pub(super) struct ResetKey(pub(super) hmac::Key);

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        signature_out.copy_from_slice(hmac::sign(&self.0, data).as_ref());
    }

    fn signature_len(&self) -> usize {
        self.0.algorithm().tag_len()
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        // Takes the same time wherever the first difference is.
        hmac::verify(&self.0, data, signature).map_err(|_| CryptoError)
    }
}

/// Makes a key for each address validation token (RFC 9000, section 8.1.4).
pub(super) struct TokenKey(pub(super) hkdf::Prk);

impl HandshakeTokenKey for TokenKey {
    fn aead_from_hkdf(&self, random_bytes: &[u8]) -> Box<dyn AeadKey> {
        let info = [random_bytes];
        let okm = self.0.expand(&info, &aead::AES_256_GCM);
        let okm = okm.expect("32 bytes are far below the limit of HKDF");
        Box::new(OneTokenKey(LessSafeKey::new(UnboundKey::from(okm))))
    }
}

/// Seals and opens one token. The random bytes in the token make the key, so that a key seals
/// once, and its nonce need not vary.
struct OneTokenKey(LessSafeKey);

impl OneTokenKey {
    fn nonce() -> Nonce {
        Nonce::assume_unique_for_key([0; aead::NONCE_LEN])
    }
}

impl AeadKey for OneTokenKey {
    fn seal(&self, data: &mut Vec<u8>, additional_data: &[u8]) -> Result<(), CryptoError> {
        let aad = Aad::from(additional_data);
        self.0.seal_in_place_append_tag(Self::nonce(), aad, data).map_err(|_| CryptoError)
    }

    fn open<'a>(
        &self,
        data: &'a mut [u8],
        additional_data: &[u8],
    ) -> Result<&'a mut [u8], CryptoError> {
        let aad = Aad::from(additional_data);
        self.0.open_in_place(Self::nonce(), aad, data).map_err(|_| CryptoError)
    }
}
