//! Artifacts that are slow for a known reason: the snapshot and the trace name it.

use slotcast::broadcast::{Candidate, Decision, Priority};
use slotcast::id::NodeId;
use slotcast::snapshot::Snapshot;
use slotcast_sim::Setup;
use slotcast_testkit::machines::{CHANNEL, artifact, config, ms, small};

use crate::collector::{Lines, by, enter};
use crate::subnet::{Recorded, Subnet, limit, of};

fn traced(setup: Setup) -> Subnet {
    let mut subnet = of(setup);
    subnet.set_scope(enter);
    subnet.connect();
    subnet
}

fn snapshot(subnet: &mut Subnet, at: usize) -> Snapshot {
    subnet.with(at, |node| node.snapshot(node.now()))
}

/// Bytes that were missing and have come from this member.
fn useful(snapshot: &Snapshot, of: NodeId) -> u64 {
    snapshot.peers.iter().find(|peer| peer.id == of).expect("a member").received.useful
}

#[test]
fn a_holder_that_crawls_is_named() {
    let (lines, _guard) = Lines::begin();
    let mut subnet = traced(Setup::new(&config(|_| {}), 3));
    let block = artifact(1, 1 << 20);
    // The receiver has heard of it from the holder that crawls before another one has it.
    limit(subnet.network.link(0, 2), 10_000);
    subnet.publish(0, &block);
    subnet.elapse(ms(500));
    let before = snapshot(&mut subnet, 2);
    assert_eq!(before.channels[0].known.fetching, 1);
    // Two snapshots tell how fast it is: at most the rate of its path.
    subnet.elapse(ms(4000));
    let later = snapshot(&mut subnet, 2);
    assert_eq!(later.channels[0].known.fetching, 1);
    let crawled = useful(&later, subnet.id(0)) - useful(&before, subnet.id(0));
    assert!((1..=40_000).contains(&crawled), "{crawled} bytes in 4 s");
    assert_eq!(useful(&later, subnet.id(1)), 0);
    subnet.publish(1, &block);
    subnet.run_until("it has it from the other", ms(30_000), |subnet| subnet.has(2, &block));

    let (id, crawler) = (block.id().to_string(), format!("peer={}", subnet.id(0)));
    let other = format!("peer={}", subnet.id(1));
    let asked = lines.of(2, &["asked", &id, &crawler]).len();
    assert!(asked > 0, "{:#?}", lines.all());
    assert!(!lines.of(2, &["overdue", &id, &crawler]).is_empty(), "{:#?}", lines.all());
    assert!(lines.of(2, &["overdue", &id, &other]).is_empty(), "{:#?}", lines.all());
    assert!(!lines.of(2, &["asked", &id, &other]).is_empty(), "{:#?}", lines.all());
    // The snapshot tells who has sent what was missing.
    let after = snapshot(&mut subnet, 2);
    let [slow, fast] = [0, 1].map(|at| useful(&after, subnet.id(at)));
    assert!(fast > 10 * slow, "{slow} and {fast}");
}

#[test]
fn a_full_window_is_named() {
    let (lines, _guard) = Lines::begin();
    let mut subnet = traced(Setup::new(&config(|_| {}), 2));
    limit(subnet.network.link(0, 1), 20_000);
    subnet.publish(0, &artifact(1, 4 << 20));
    subnet.elapse(ms(2000));
    // What comes then has to wait for room.
    (2..200).for_each(|number| subnet.publish(0, &artifact(number, 10_000)));
    subnet.elapse(ms(1000));
    let peer = format!("peer={}", subnet.id(1));
    // Once, and not at each acknowledgement.
    assert_eq!(lines.of(0, &["window full", &peer]).len(), 1, "{:#?}", lines.all());
    let snapshot = snapshot(&mut subnet, 0);
    let [peer] = &snapshot.peers[..] else { panic!("one peer") };
    let link = peer.link.expect("it is up");
    assert!(peer.backlog.updates > 0 && peer.backlog.age >= ms(500), "{:?}", peer.backlog);
    assert!(2 * link.in_flight_bytes >= link.congestion_window, "{link:?}");
}

#[test]
fn a_filter_that_says_later_is_named() {
    let (lines, _guard) = Lines::begin();
    let mut subnet = traced(Setup::new(&config(|_| {}), 2));
    let later = |_: &Candidate<'_>| Decision::Later;
    assert!(subnet.with(1, |node| node.set_filter(CHANNEL, Box::new(later))));
    let block = small(1);
    subnet.publish(0, &block);
    subnet.settle();
    let id = block.id().to_string();
    assert_eq!(lines.of(1, &["first told", &id, "decision=Later"]).len(), 1);
    assert_eq!(snapshot(&mut subnet, 1).channels[0].known.postponed, 1);

    let fetch = |_: &Candidate<'_>| Decision::Fetch(Priority::Normal);
    by(1, || {
        subnet.with(1, |node| {
            node.set_filter(CHANNEL, Box::new(fetch));
            node.reconsider(node.now(), CHANNEL)
        })
    });
    subnet.settle();
    assert_eq!(lines.of(1, &["decided again", &id, "decision=Fetch"]).len(), 1);
    assert!(subnet.has(1, &block));
    assert_eq!(snapshot(&mut subnet, 1).channels[0].known.postponed, 0);
}

/// F11: a channel that is inert is told, and why.
#[test]
fn f11_a_channel_that_is_inert_is_named_with_the_value_that_does_not_suit() {
    let (lines, _guard) = Lines::begin();
    let narrow = config(|channel| channel.artifact_bytes_max -= 1);
    let mut subnet = traced(Setup::with_configs(vec![config(|_| {}), narrow, config(|_| {})]));
    subnet.publish(0, &small(1));
    subnet.settle();
    assert!(!subnet.has(1, &small(1)) && subnet.has(2, &small(1)));
    let peer = format!("peer={}", subnet.id(1));
    let inert = lines.of(0, &["inert channel", &peer]);
    assert_eq!(inert.len(), 1, "{:#?}", lines.all());
    let told = "silent=\"this node\" value=\"artifact_bytes_max\"";
    assert!(inert[0].contains(told), "{inert:?}");
    assert_eq!(lines.of(1, &["inert channel", "silent=\"the peer\""]).len(), 2);
    let silent = |snapshot: Snapshot| {
        let links = snapshot.peers.into_iter().map(|peer| peer.link.expect("it is up"));
        links.map(|link| link.silent_channels).sum::<u64>()
    };
    let counts = [0, 1, 2].map(|at| silent(snapshot(&mut subnet, at)));
    assert_eq!(counts, [1, 2, 1]);
}
