//! Strangers that flood a node with beginnings of handshakes.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use slotcast_testkit::flood::{Echo, Flood};
use slotcast_tokio::slotcast::config::Config;
use slotcast_tokio::slotcast::node::REFUSED_INTERVAL;

use crate::arena::{Arena, SMOL, TOKIO, within};

const COUNT: u64 = 20_000;
const PER_SECOND: u64 = 10_000;

/// The flood from such an address, while honest members go on.
async fn flooded(arena: &mut Arena, from: &str) -> Echo {
    let (socket, to) = (UdpSocket::bind(from).expect("loopback"), arena.address());
    let flood = within("its datagrams", Flood::new()).await;
    let sending = tokio::task::spawn_blocking(move || {
        (flood.run(&socket, to, COUNT, PER_SECOND, || true), socket)
    });
    arena.flows_for(20).await;
    let (mut echo, socket) = within("the flood", sending).await.expect("it does not panic");
    // What was on its way has been dealt with once the honest members went on behind it.
    arena.flows().await;
    echo.listen(&socket);
    assert_eq!(echo.sent, COUNT);
    assert!(echo.heard_bytes <= 3 * echo.sent_bytes, "{echo:?}");
    echo
}

/// Reports of refusals come at most once in an interval.
fn assert_few_reports(arena: &Arena, begun: Instant) {
    let reports = arena.reports_of_refusals().len() as u64;
    let most = 1 + begun.elapsed().as_secs() / REFUSED_INTERVAL.as_secs();
    assert!((1..=most).contains(&reports), "{reports} reports in {:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn from_no_members_address_it_begins_no_handshake() {
    let begun = Instant::now();
    let mut arena = Arena::start(TOKIO).await;
    let echo = flooded(&mut arena, "127.0.0.2:0").await;
    arena.refused().await;
    assert_few_reports(&arena, begun);
    assert!(echo.accepted.is_empty(), "{echo:?}");
    let stats = arena.end().await;
    // What the socket had no room for is not counted; short headers are not of handshakes.
    assert!((COUNT / 4..=COUNT).contains(&stats.strangers), "{stats:?}");
    assert_eq!((stats.refused, stats.faults), (0, 0));
}

/// Handshakes that do not go on keep their places longer than a test takes.
fn patient(config: &mut Config) {
    config.transport.hello_timeout = Duration::from_secs(60);
    config.transport.idle_timeout = Duration::from_secs(60);
}

#[tokio::test(flavor = "multi_thread")]
async fn from_anywhere_it_begins_no_more_handshakes_than_it_may() {
    let arena = Arena::with(SMOL, |config| {
        patient(config);
        config.transport.filter_addresses = false;
    });
    let mut arena = arena.await;
    let echo = flooded(&mut arena, "127.0.0.2:0").await;
    let most = usize::from(arena.config().transport.handshakes_per_address_max);
    assert!((1..=most).contains(&echo.accepted.len()), "{}", echo.accepted.len());
    let stats = arena.end().await;
    assert_eq!((stats.strangers, stats.faults), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_has_no_more_handshakes_than_its_share() {
    let begun = Instant::now();
    let arena = Arena::with(TOKIO, |config| {
        patient(config);
        config.transport.filter_addresses = false;
        config.transport.handshakes_max = 8;
        config.transport.handshakes_per_address_max = 3;
    });
    let mut arena = arena.await;
    let echo = flooded(&mut arena, "127.0.0.2:0").await;
    assert!((1..=3).contains(&echo.accepted.len()), "{}", echo.accepted.len());
    // The forged ones that came before it was used up.
    arena.refused().await;
    assert_few_reports(&arena, begun);
    let stats = arena.end().await;
    assert!(stats.refused > 0 && stats.strangers == 0 && stats.faults == 0, "{stats:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn from_a_members_address_it_keeps_out_no_member() {
    let mut arena = Arena::with(TOKIO, patient).await;
    flooded(&mut arena, "127.0.0.1:0").await;
    // The flood still holds all places that its address may have, for a minute.
    let line = arena.greet(&arena.foe()).await;
    line.hang_up();
    assert_eq!(arena.end().await.faults, 0);
}
