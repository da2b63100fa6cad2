//! How often a member is dialled that does not come up, and that it is left alone while cut off.

use std::net::SocketAddr;
use std::time::Duration;

use slotcast::config::Config;
use slotcast::membership::Topology;
use slotcast::node::{Closed, NodeEvent};
use slotcast_sim::{Byzantine, Setup, Trick, address};

use crate::subnet::{Recorded, Subnet, connected, of};
use slotcast_testkit::machines::{config, ms};

/// A member that listens refuses the dialler, which it does not know.
fn refusing() -> Subnet {
    let mut open = config(|_| {});
    open.transport.filter_addresses = false;
    let mut subnet = connected(&open, 2);
    let alone = Topology::new(1000, [(subnet.id(1), vec![address(1)])]).expect("one");
    subnet.follow(1, &alone);
    subnet
}

#[test]
fn pauses_between_dials_double_up_to_the_longest() {
    let pauses = config(|_| {}).transport;
    let mut subnet = refusing();
    // The pauses are over which are shorter than the longest.
    subnet.elapse(4 * pauses.dial_pause_max);
    let before = subnet.stats(1).refused;
    let span = 20 * pauses.dial_pause_max;
    subnet.elapse(span);
    let dials = subnet.stats(1).refused - before;
    // With jitter, a pause is half as long at least.
    assert!((20..=40).contains(&dials), "{dials} dials in {span:?}");
}

#[test]
fn the_first_pauses_are_short() {
    let pauses = config(|_| {}).transport;
    let mut subnet = refusing();
    let before = subnet.stats(1).refused;
    subnet.elapse(pauses.dial_pause_max);
    let dials = subnet.stats(1).refused - before;
    // 50 ms, 100 ms, ... 3,200 ms.
    assert!((5..=9).contains(&dials), "{dials}");
}

const CUT_OFF: Duration = Duration::from_secs(20);

/// The member at place 2 is cut off by the one at place 1, which dials it.
fn cut_off() -> Subnet {
    let mut config: Config = config(|_| {});
    (config.transport.faults_max, config.transport.cut_off) = (1, CUT_OFF);
    let mut subnet = of(Setup::new(&config, 3));
    let topology = subnet.node(2).expect("it runs").topology().clone();
    let (key, tricks) = (subnet.key(2).clone(), [Trick::SlotBeyondBound]);
    let (crypto, start) = (subnet.crypto(), subnet.start_instant());
    let breaker = Byzantine::new(key, &topology, &config, &tricks, crypto, 1, start);
    subnet.install(2, Box::new(breaker));
    let down = subnet.down(2, Closed::CutOff);
    subnet.run_until("it is cut off", ms(60_000), |subnet| {
        subnet.application.node_events[1].contains(&down)
    });
    // It may have to be told once more that the connection is closed.
    subnet.elapse(ms(500));
    subnet
}

/// Bytes that the member which was cut off is sent in nearly all of that time.
fn sent_in_between(mut subnet: Subnet, span: Duration) -> u64 {
    let before = subnet.sent(1, 2);
    subnet.elapse(span);
    let sent = subnet.sent(1, 2) - before;
    let up = NodeEvent::Up { peer: subnet.id(2) };
    subnet.application.node_events[1].clear();
    subnet
        .run_until("it is back", CUT_OFF, |subnet| subnet.application.node_events[1].contains(&up));
    sent
}

#[test]
fn a_member_that_was_cut_off_is_not_dialled_until_its_time_is_over() {
    // Less than a single dial.
    let sent = sent_in_between(cut_off(), CUT_OFF - ms(1000));
    assert!(sent < 1200, "{sent} bytes");
}

#[test]
fn nor_is_it_when_its_address_changes_meanwhile() {
    let mut subnet = cut_off();
    let elsewhere: SocketAddr = ([10, 9, 9, 9], 4000).into();
    let id = |at: usize| subnet.id(at);
    let members = |last: Vec<SocketAddr>| {
        [(id(0), vec![address(0)]), (id(1), vec![address(1)]), (id(2), last)]
    };
    let both = Topology::new(2000, members(vec![address(2), elsewhere])).expect("each once");
    subnet.follow(1, &both);
    let sent = sent_in_between(subnet, CUT_OFF - ms(1000));
    assert!(sent < 1200, "{sent} bytes");
}
