//! Keys that are kept elsewhere, and algorithms of handshakes, in whole nodes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use ::aws_lc_rs::signature::Ed25519KeyPair;
use rustls::crypto::aws_lc_rs;
use rustls::crypto::aws_lc_rs::cipher_suite::{
    TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
};
use slotcast::driver::Setup;
use slotcast::id::NodeId;
use slotcast::node::{NodeKey, Signer, SignerError, TlsError, TlsSettings};

use crate::network::Network;
use crate::subnet::{Subnet, config, ms};

/// A module that signs, and counts how often; or fails.
struct Module {
    pair: Ed25519KeyPair,
    id: NodeId,
    signed: Arc<AtomicUsize>,
    is_broken: bool,
}

impl Signer for Module {
    fn id(&self) -> NodeId {
        self.id
    }

    fn sign(&self, message: &[u8]) -> Result<[u8; 64], SignerError> {
        self.signed.fetch_add(1, SeqCst);
        if self.is_broken {
            return Err("the module is locked".into());
        }
        Ok(self.pair.sign(message).as_ref().try_into()?)
    }
}

/// Two nodes, the first of which has its key in a module, and how often that has signed.
fn with_module(is_broken: bool) -> (Subnet, Arc<AtomicUsize>) {
    let signed = Arc::new(AtomicUsize::new(0));
    let subnet = Subnet::with(&Network::new(2), &config(), |at, key, config, topology| {
        if at > 0 {
            return Setup::new(key, config, topology);
        }
        let pair = Ed25519KeyPair::from_seed_unchecked(key.seed().expect("made of one")).unwrap();
        let module = Module { pair, id: key.id(), signed: signed.clone(), is_broken };
        Setup::new(NodeKey::from_signer(module, [9; 32]), config, topology)
    });
    (subnet, signed)
}

/// Two nodes with these settings.
fn with_tls(tls: impl Fn(usize) -> TlsSettings) -> Subnet {
    Subnet::with(&Network::new(2), &config(), |at, key, config, topology| {
        Setup::new(key, config, topology).tls(tls(at))
    })
}

fn are_connected(subnet: &Subnet) -> bool {
    (0..2).all(|at| subnet.node(at).peers_up().len() == 1)
}

#[test]
fn a_signer_signs_the_handshakes_of_a_node() {
    let (mut subnet, signed) = with_module(false);
    subnet.until("connected", are_connected);
    assert!(signed.load(SeqCst) > 0);
    assert_eq!(subnet.node(1).peers_up(), [subnet.id(0)]);
}

#[test]
fn a_signer_that_fails_lets_no_connection_come_up_and_is_asked_again() {
    let (mut subnet, signed) = with_module(true);
    subnet.elapse(ms(20_000));
    assert!(signed.load(SeqCst) > 1);
    assert_eq!((subnet.node(0).peers_up(), subnet.node(1).peers_up()), (vec![], vec![]));
}

#[test]
fn nodes_with_the_hybrid_key_exchange_connect_to_all() {
    let sent_bytes = |is_hybrid: [bool; 2]| {
        let tls = |at: usize| {
            let tls = TlsSettings::default();
            if is_hybrid[at] { tls.hybrid() } else { tls }
        };
        let mut subnet = with_tls(tls);
        subnet.until("connected", are_connected);
        [0, 1].map(|at| subnet.network.socket(at).sent_bytes).iter().sum::<usize>()
    };
    let plain = sent_bytes([false, false]);
    let one_side = sent_bytes([true, false]).max(sent_bytes([false, true]));
    let hybrid = sent_bytes([true, true]);
    // A share each way, of 1,184 and 1,088 bytes, beside those of X25519.
    assert!(hybrid > one_side + 1000 && one_side > plain + 1000, "{plain}, {one_side}, {hybrid}");
}

#[test]
fn algorithms_that_do_not_overlap_do_not_connect() {
    let only = |suite| {
        let mut provider = aws_lc_rs::default_provider();
        provider.cipher_suites = vec![suite];
        TlsSettings::with_provider(provider).expect("it has what is needed")
    };
    let suites = [TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256];
    let subnet = |second: usize| with_tls(|at| only(suites[if at == 0 { 0 } else { second }]));
    subnet(0).until("connected", are_connected);
    let mut apart = subnet(1);
    apart.elapse(ms(5000));
    assert!(!are_connected(&apart));
}

#[test]
fn a_provider_that_does_not_do_is_refused() {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites.clear();
    let refused = TlsSettings::with_provider(provider);
    assert!(matches!(refused, Err(TlsError::NoTls13(_))), "{refused:?}");
    let mut provider = aws_lc_rs::default_provider();
    provider.signature_verification_algorithms.mapping = &[];
    let refused = TlsSettings::with_provider(provider);
    assert!(matches!(refused, Err(TlsError::NoEd25519)), "{refused:?}");
}
