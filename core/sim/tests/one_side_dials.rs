//! Two members of which only one can reach the other find each other, whichever it is.

use std::net::SocketAddr;
use std::time::Duration;

use slotcast::broadcast::Event;
use slotcast::config::{ChannelConfig, Config};
use slotcast::id::ChannelId;
use slotcast::membership::Topology;
use slotcast_sim::{Application, Context, FaultKind, Setup, Subnet, address};

#[derive(Debug)]
struct Nothing;

impl Application for Nothing {
    fn handle_event(&mut self, _: &mut Context<'_>, _: ChannelId, _: Event) {}
}

const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// A dial that has just failed to arrive ends after `hello_timeout`, 5 s; then there is a pause of 3 s.
const DIAL_AND_PAUSE_MAX: Duration = secs(9);

fn config() -> Config {
    let mut config = Config::new([ChannelConfig::new(ChannelId(1))]);
    config.transport.filter_addresses = false;
    config
}

/// Two members, of which the one at `blind` looks for the other where nobody is. The other one knows
/// where it is, and does not run yet.
fn subnet(blind: usize) -> Subnet<Nothing> {
    let sees = 1 - blind;
    let mut subnet = Subnet::new(Setup::new(&config(), 2).strangers(1), Nothing);
    let mut members = [(subnet.id(0), vec![address(0)]), (subnet.id(1), vec![address(1)])];
    members[sees].1 = vec![address(2)];
    subnet.crash(sees, FaultKind::CrashAndForget);
    subnet.follow(blind, &Topology::new(9, members).unwrap());
    subnet.elapse(secs(15));
    subnet
}

fn is_up(subnet: &mut Subnet<Nothing>) -> bool {
    subnet.is_up(0, 1)
}

#[test]
fn f2_w9_after_outages_members_of_which_one_cannot_reach_the_other_are_connected_again() {
    for blind in [0, 1] {
        let mut subnet = subnet(blind);
        subnet.start(1 - blind);
        subnet.run_until("connected", secs(1), is_up);
        for outage in [1, 9, 30, 600] {
            subnet.cut(&[0], &[1]);
            subnet.elapse(secs(outage));
            assert!(outage < 20 || !subnet.is_up(0, 1), "it was noticed");
            subnet.heal();
            // One that was not noticed may be now: with the idle timeout, up to 13 s after its start.
            let max = DIAL_AND_PAUSE_MAX + secs(13_u64.saturating_sub(outage));
            subnet.run_until("connected again", max, is_up);
            subnet.elapse(secs(20));
            assert!(subnet.is_up(0, 1), "it stays");
        }
    }
}

#[test]
fn f2_w9_an_outage_at_the_start_does_not_keep_them_apart() {
    for blind in [0, 1] {
        for outage in [1, 9, 30] {
            let mut subnet = subnet(blind);
            subnet.cut(&[0], &[1]);
            subnet.start(1 - blind);
            subnet.elapse(secs(outage));
            subnet.heal();
            subnet.run_until("connected", DIAL_AND_PAUSE_MAX, is_up);
        }
    }
}

/// Where both can reach each other, the member with the higher name leaves it to the other one.
#[test]
fn f2_after_an_outage_of_both_ways_dials_seldom_cross_and_one_connection_comes_of_them() {
    let mut subnet = Subnet::new(Setup::new(&config(), 7), Nothing);
    let is_mesh = |subnet: &mut Subnet<Nothing>| {
        (0..7).all(|at| subnet.node(at).is_some_and(|node| node.peers_up().count() == 6))
    };
    subnet.run_until("connected", secs(5), is_mesh);
    for _ in 0..5 {
        let count = |subnet: &Subnet<Nothing>| -> u64 {
            (0..7).map(|at| subnet.node(at).expect("it runs").stats().connections).sum()
        };
        let before = count(&subnet);
        subnet.cut(&[0, 1, 2], &[3, 4, 5, 6]);
        subnet.elapse(secs(20));
        subnet.heal();
        subnet.run_until("connected", DIAL_AND_PAUSE_MAX, is_mesh);
        subnet.elapse(secs(10));
        assert!(is_mesh(&mut subnet));
        // 12 pairs, two sides of each.
        let made = count(&subnet) - before;
        assert!((24..=30).contains(&made), "{made}");
    }
}

/// The first address of each is one that nothing can be sent to.
#[test]
fn f2_after_an_address_that_cannot_be_the_next_one_is_dialled() {
    let mut subnet = Subnet::new(Setup::new(&config(), 2), Nothing);
    subnet.run_until("connected", secs(5), is_up);
    subnet.cut(&[0], &[1]);
    subnet.elapse(secs(20));
    let both = |at| vec![SocketAddr::new(address(at).ip(), 0), address(at)];
    let members = [0, 1].map(|at| (subnet.id(at), both(at)));
    let topology = Topology::new(9, members).unwrap();
    (0..2).for_each(|at| subnet.follow(at, &topology));
    // Dials of before have ended by then.
    subnet.elapse(secs(20));
    subnet.heal();
    subnet.run_until("connected again", DIAL_AND_PAUSE_MAX, is_up);
}

#[test]
fn f2_the_higher_name_dials_a_member_that_is_not_there_once_in_a_few_seconds() {
    let mut subnet = Subnet::new(Setup::new(&config(), 2), Nothing);
    subnet.crash(0, FaultKind::CrashAndForget);
    subnet.elapse(secs(20));
    let sent = |subnet: &Subnet<Nothing>| subnet.node(1).expect("it runs").stats().sent_datagrams;
    let before = sent(&subnet);
    subnet.elapse(secs(100));
    // A dial is given up after 5 s, in which it sends a handful of datagrams, and a pause follows.
    let spent = sent(&subnet) - before;
    assert!((10..=16 * 8).contains(&spent), "{spent}");
}

/// The lower name is given time to dial first, whoever made the connection that was lost.
#[test]
fn f2_the_higher_name_does_not_dial_at_once_after_a_connection_that_the_lower_one_made() {
    let mut subnet = Subnet::new(Setup::new(&config(), 2), Nothing);
    subnet.run_until("connected", secs(1), is_up);
    subnet.elapse(secs(10));
    subnet.crash(0, FaultKind::CrashAndForget);
    let node = |subnet: &Subnet<Nothing>| subnet.node(1).expect("it runs").stats();
    let is_down = |subnet: &mut Subnet<Nothing>| {
        subnet.node(1).is_some_and(|node| node.peers_up().count() == 0)
    };
    subnet.run_until("it is noticed", secs(15), is_down);
    let before = node(&subnet).sent_datagrams;
    subnet.elapse(Duration::from_millis(1400));
    assert_eq!(node(&subnet).sent_datagrams, before);
    subnet.elapse(Duration::from_millis(1700));
    assert!(node(&subnet).sent_datagrams > before);
}

/// Where the first addresses of a member are of no use, the others are tried meanwhile.
#[test]
fn w9_two_dead_addresses_first_cost_half_a_second() {
    let mut subnet = Subnet::stopped(Setup::new(&config(), 2).strangers(2), Nothing);
    let places = |at| vec![address(2), address(3), address(at)];
    let members = [0, 1].map(|at| (subnet.id(at), places(at)));
    let topology = Topology::new(9, members).unwrap();
    for at in 0..2 {
        subnet.follow(at, &topology);
        subnet.start(at);
    }
    let took = subnet.run_until("connected", secs(5), is_up);
    let (min, max) = (Duration::from_millis(500), Duration::from_millis(700));
    assert!(took >= min && took <= max, "{took:?}");
    // The attempts that were in vain leave nothing.
    subnet.elapse(secs(20));
    let connections = |at: usize| subnet.node(at).expect("it runs").stats().connections;
    assert_eq!([connections(0), connections(1)], [1, 1]);
}
