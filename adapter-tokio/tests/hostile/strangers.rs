//! Who may not connect: other keys, no keys, other protocols, former members.

use quinn::ConnectionError;
use slotcast_testkit::foe::{ALPN, Credentials, Foe, Transport};
use slotcast_tokio::slotcast::node::{Closed, NodeEvent, NodeKey};

use crate::arena::{Arena, NO_MEMBER, SMOL, TOKIO, within};
use crate::words::hello;

/// TLS alerts (RFC 8446, section 6), as QUIC carries them (RFC 9001, section 4.8).
const HANDSHAKE_FAILURE: u64 = 0x100 + 40;
const BAD_CERTIFICATES: std::ops::RangeInclusive<u64> = 0x100 + 42..=0x100 + 49;
const NO_APPLICATION_PROTOCOL: u64 = 0x100 + 120;

const ATTEMPTS: u64 = 20;

/// Every attempt fails, as `is_right` of the code says; they are counted, and reported.
async fn turned_away(victim: usize, foe: impl Fn(&Arena) -> Foe, is_right: impl Fn(u64) -> bool) {
    let mut arena = Arena::start(victim).await;
    let foe = foe(&arena);
    for _ in 0..ATTEMPTS {
        let why = match within("a handshake", foe.connect(arena.address())).await {
            Err(why) => why,
            // A client is through with its handshake before the server has looked at its key.
            Ok(line) => {
                if let Some(mut stream) = line.try_open() {
                    let _ = stream.write_all(&hello()).await;
                }
                within("refused", line.0.closed()).await
            }
        };
        assert_refused(&why, &is_right);
    }
    arena.until("all are counted", |arena| arena.stats().refused == ATTEMPTS).await;
    assert!((1..=ATTEMPTS).contains(&arena.refused().await));
    assert_eq!(arena.reports_of_refusals().len(), 1, "once in ten seconds");
    assert!(!arena.is_up());
    let stats = arena.end().await;
    assert_eq!((stats.refused, stats.faults, stats.strangers), (ATTEMPTS, 0, 0));
}

fn assert_refused(why: &ConnectionError, is_right: impl Fn(u64) -> bool) {
    match why {
        ConnectionError::ConnectionClosed(close) => {
            assert!(
                is_right(close.error_code.into()),
                "{:#x}: {close}",
                u64::from(close.error_code)
            );
        }
        // See `Line::closed`.
        ConnectionError::Reset => {}
        other => panic!("not refused, but {other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_no_members() {
    let key = NodeKey::from_seed([9; 32]);
    let foe = |_: &Arena| Foe::new(Credentials::Raw(key.clone()), ALPN, Transport::default());
    turned_away(TOKIO, foe, |code| BAD_CERTIFICATES.contains(&code)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_key() {
    let foe = |_: &Arena| Foe::new(Credentials::None, ALPN, Transport::default());
    turned_away(SMOL, foe, |code| code == HANDSHAKE_FAILURE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_members_key_in_a_certificate() {
    let foe =
        |arena: &Arena| Foe::new(Credentials::X509(arena.foe_key()), ALPN, Transport::default());
    turned_away(TOKIO, foe, |code| code == HANDSHAKE_FAILURE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_with_another_protocol() {
    let foe = |arena: &Arena| {
        Foe::new(Credentials::Raw(arena.foe_key()), b"slotcast/2", Transport::default())
    };
    turned_away(SMOL, foe, |code| code == NO_APPLICATION_PROTOCOL).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_has_left() {
    let mut arena = Arena::start(TOKIO).await;
    let foe = arena.foe();
    let line = arena.greet(&foe).await;
    arena.drop_foe();
    within("dropped", line.closed(NO_MEMBER)).await;
    let down = NodeEvent::Down { peer: arena.foe_id(), why: Closed::Left };
    arena.told("it has left", |event| *event == down).await;
    for _ in 0..ATTEMPTS {
        let why = match within("a handshake", foe.connect(arena.address())).await {
            Err(why) => why,
            Ok(line) => within("refused", line.0.closed()).await,
        };
        assert_refused(&why, |code| BAD_CERTIFICATES.contains(&code));
    }
    arena.until("all are counted", |arena| arena.stats().refused == ATTEMPTS).await;
    arena.refused().await;
    assert_eq!(arena.end().await.faults, 0);
}
