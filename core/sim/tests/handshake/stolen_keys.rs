//! Real TLS against those who do not have the key whose name they claim.

use std::sync::Arc;

use quinn_proto::{ClientConfig, ConnectionIdGenerator, crypto};
use slotcast::id::NodeId;
use slotcast::internals::{HandshakeCrypto, Members, Provider, Tls};
use slotcast::node::{NodeKey, TlsSettings};
use slotcast_sim::Crypto;
use slotcast_testkit::tls::{self, ALPN, Credentials};

use crate::pair::{Pair, assert_refused, key, members, provider};

// TLS alerts (RFC 8446, section 6): what a refused peer gets to see.
const HANDSHAKE_FAILURE: u8 = 40;
const DECRYPT_ERROR: u8 = 51;
const CERTIFICATE_REQUIRED: u8 = 116;

/// Lets one with these credentials dial `server`, which expects `member`.
fn dialled_by(credentials: &Credentials, server: &NodeKey, member: &NodeKey) -> Pair {
    let client = ClientConfig::new(Arc::new(tls::client(credentials, ALPN)));
    let server = provider(Crypto::Tls, server);
    let config = server.server_config(members(&[member]));
    Pair::new(&provider(Crypto::Tls, member), client, &server, config)
}

/// A server that shows the key of another one.
struct Impostor {
    shown: NodeKey,
    key: NodeKey,
}

impl HandshakeCrypto for Impostor {
    fn server(&self, _: Arc<Members>) -> Arc<dyn crypto::ServerConfig> {
        Arc::new(tls::server(&self.shown, &self.key))
    }

    fn client(&self, _: &[NodeId]) -> Arc<dyn crypto::ClientConfig> {
        unreachable!("it does not dial")
    }

    fn cids(&self, key: u64) -> Box<dyn ConnectionIdGenerator> {
        Tls::new(&self.key, &TlsSettings::default()).cids(key)
    }
}

#[test]
fn the_client_refuses_a_server_which_copied_the_expected_key() {
    let (client, impostor, expected) = (key(1), key(2), key(3));
    let crypto = Impostor { shown: expected.clone(), key: impostor.clone() };
    let impostor = Provider::new(&impostor, Arc::new(crypto));
    let config = impostor.server_config(members(&[&client]));
    let client = provider(Crypto::Tls, &client);
    let pair = Pair::new(&client, client.client_config(&[expected.id()]), &impostor, config);
    assert_refused(&pair.client, &pair.server, DECRYPT_ERROR);
    assert!(!pair.server.connected);
}

#[test]
fn the_server_refuses_a_client_which_copied_a_members_key() {
    let (impostor, server, member) = (key(1), key(2), key(3));
    let stolen = Credentials::Stolen { shown: member.clone(), key: impostor };
    let pair = dialled_by(&stolen, &server, &member);
    assert_refused(&pair.server, &pair.client, DECRYPT_ERROR);
}

#[test]
fn the_server_refuses_a_client_without_key() {
    for (keyless, alert) in
        [(Credentials::None, HANDSHAKE_FAILURE), (Credentials::NoneOfRaw, CERTIFICATE_REQUIRED)]
    {
        let pair = dialled_by(&keyless, &key(2), &key(1));
        assert_refused(&pair.server, &pair.client, alert);
    }
}
