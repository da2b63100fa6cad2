//! A choice of how simulated connections are protected.

use std::sync::Arc;

use super::null::Null;
use slotcast::internals::{HandshakeCrypto, Tls};
use slotcast::node::{NodeKey, TlsSettings};

/// How connections are authenticated and protected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Crypto {
    /// As in every other network.
    Tls,
    /// The same with the key exchange X25519MLKEM768.
    HybridTls,
    /// Everybody is who it says, and a seed decides every byte.
    Null,
}

impl Crypto {
    /// That of the node with `key`. Under `Null`, `seed` takes the place of the system's random
    /// numbers: a node that restarts must have another one, as it would have other numbers.
    #[doc(hidden)]
    pub fn of_node(self, key: &NodeKey, seed: &[u8; 32]) -> Arc<dyn HandshakeCrypto> {
        match self {
            Self::Tls => Arc::new(Tls::new(key, &TlsSettings::default())),
            Self::HybridTls => Arc::new(Tls::new(key, &TlsSettings::default().hybrid())),
            Self::Null => Arc::new(Null::new(key.id(), seed)),
        }
    }
}
