//! What becomes of datagrams on links, uplinks and downlinks.

use super::*;

const MS: Duration = Duration::from_millis(1);

/// The times in ms at which `count` datagrams of `length` bytes arrive that are sent at once.
fn arrivals(link: Link, count: usize, length: usize) -> (Vec<u64>, Network) {
    let mut network = Network::new(2, link, 7);
    (0..count).for_each(|_| network.send(Time::ZERO, 0, 1, None, &std::vec![0; length]));
    let mut times = Vec::new();
    while network.next_at() < Time::NEVER {
        let at = network.next_at();
        network.arrived(at).expect("it is its time");
        times.push(at.0 / 1_000_000);
    }
    (times, network)
}

#[test]
fn a_slow_link_spreads_datagrams_and_drops_what_its_queue_does_not_hold() {
    let link = Link { bytes_per_second: 100_000, queue_bytes_max: 4_900, ..Link::new(5 * MS) };
    let (times, network) = arrivals(link, 10, 972);
    assert_eq!(times, [15, 25, 35, 45, 55]);
    assert_eq!(network.faults().count(FaultKind::QueueDrop), 5);
}

#[test]
fn chances_come_true_about_as_often_as_they_say() {
    let link = Link {
        loss: Chance::percent(10),
        duplicate: Chance::percent(20),
        corrupt: Chance::percent(30),
        reorder: Chance::percent(40),
        reorder_by: 20 * MS,
        ..Link::new(MS)
    };
    let (times, network) = arrivals(link, 10_000, 100);
    let near = |fault, expected: u64| {
        let count = network.faults().count(fault);
        assert!(count.abs_diff(expected) < expected / 10, "{fault}: {count}");
    };
    near(FaultKind::Loss, 1_000);
    near(FaultKind::Duplicate, 1_800);
    near(FaultKind::Corrupt, 3_240);
    near(FaultKind::Reorder, 4_320);
    assert_eq!(
        times.len() as u64,
        10_000 - network.faults().count(FaultKind::Loss)
            + network.faults().count(FaultKind::Duplicate)
    );
    assert!(times.iter().all(|time| (1..=21).contains(time)));
}

#[test]
fn bursts_lose_neighbours() {
    let bursts =
        Bursts { begin: Chance::percent(1), end: Chance::percent(10), loss: Chance(1_000_000) };
    let (times, network) = arrivals(Link { bursts: Some(bursts), ..Link::new(MS) }, 10_000, 10);
    let lost = 10_000 - times.len() as u64;
    assert_eq!(network.faults().count(FaultKind::BurstLoss), lost);
    assert!((600..1_300).contains(&lost), "about an eleventh: {lost}");
}

#[test]
fn cuts_and_sizes_lose_what_they_say_until_they_are_healed() {
    let mut network = Network::new(3, Link { mtu: 1_300, ..Link::new(MS) }, 7);
    let send = |network: &mut Network, from, to, length: usize| {
        network.send(Time::ZERO, from, to, None, &std::vec![0; length]);
        std::mem::take(&mut network.in_flight).len()
    };
    network.cut_one_way(0, 1);
    assert_eq!((send(&mut network, 0, 1, 9), send(&mut network, 1, 0, 9)), (0, 1));
    network.cut(&[0, 1], &[2]);
    assert_eq!((send(&mut network, 0, 2, 9), send(&mut network, 2, 1, 9)), (0, 0));
    network.heal();
    assert_eq!((send(&mut network, 0, 1, 9), send(&mut network, 2, 1, 9)), (1, 1));
    assert_eq!((send(&mut network, 0, 1, 1_300), send(&mut network, 0, 1, 1_301)), (1, 0));
    let counts =
        [FaultKind::CutOneWay, FaultKind::Cut, FaultKind::Mtu].map(|f| network.faults().count(f));
    assert_eq!(counts, [1, 2, 1]);
}

#[test]
fn tails_are_heavy() {
    let mut random = Random::new(1);
    let tail = Latency::HeavyTail(10 * MS, MS);
    let drawn: Vec<Duration> = (0..10_000).map(|_| tail.draw(&mut random)).collect();
    let above = |ms: u32| drawn.iter().filter(|latency| **latency >= ms * MS).count();
    assert!((4_500..5_500).contains(&above(11)), "{}", above(11));
    assert!((50..250).contains(&above(42)), "{}", above(42));
    assert_eq!(above(75), 0);
}

/// All that is on its way, in the order of arrival: when, in ms, from whom and to whom.
fn all_arrivals(network: &mut Network) -> Vec<(u64, usize, usize)> {
    let mut arrivals = Vec::new();
    while network.next_at() < Time::NEVER {
        let at = network.next_at();
        while let Some(datagram) = network.arrived(at) {
            arrivals.push((at.0 / 1_000_000, datagram.from, datagram.to));
        }
    }
    arrivals
}

/// A datagram that takes 10 ms at 100,000 bytes per second.
const DATAGRAM: [u8; 972] = [0; 972];

fn send(network: &mut Network, from: usize, to: usize) {
    network.send(Time::ZERO, from, to, None, &DATAGRAM);
}

#[test]
fn an_uplink_is_shared_by_all_links_of_its_sender() {
    let mut network = Network::new(3, Link::new(5 * MS), 7);
    *network.uplink(0) = Bottleneck::new(100_000, 40 * MS);
    for _ in 0..4 {
        send(&mut network, 0, 1);
        send(&mut network, 0, 2);
    }
    send(&mut network, 1, 2);
    let expected = [(5, 1, 2), (15, 0, 1), (25, 0, 2), (35, 0, 1), (45, 0, 2), (55, 0, 1)];
    assert_eq!(all_arrivals(&mut network), expected);
    assert_eq!(network.faults().count(FaultKind::QueueDrop), 3);
}

#[test]
fn a_downlink_is_shared_by_all_links_of_its_receiver_in_the_order_of_arrival() {
    let mut network = Network::new(4, Link::new(5 * MS), 7);
    *network.downlink(0) = Bottleneck::new(100_000, 20 * MS);
    network.link(1, 0).latency = Latency::Fixed(17 * MS);
    for _ in 0..2 {
        (1..4).for_each(|from| send(&mut network, from, 0));
    }
    send(&mut network, 2, 3);
    // At 5 ms it takes three of four; by 17 ms there is room for one more.
    let expected = [(5, 2, 3), (15, 2, 0), (25, 3, 0), (35, 2, 0), (45, 1, 0)];
    assert_eq!(all_arrivals(&mut network), expected);
    assert_eq!(network.faults().count(FaultKind::QueueDrop), 2);
}

#[test]
fn uplink_link_and_downlink_are_passed_one_after_the_other() {
    let slow = Link { bytes_per_second: 50_000, ..Link::new(5 * MS) };
    let mut network = Network::new(2, slow, 7);
    *network.uplink(0) = Bottleneck::new(100_000, 100 * MS);
    *network.downlink(1) = Bottleneck::new(200_000, 100 * MS);
    (0..3).for_each(|_| send(&mut network, 0, 1));
    // 10 ms, 20 ms, the way, 5 ms; the slowest is what sets the pace.
    assert_eq!(all_arrivals(&mut network), [(40, 0, 1), (60, 0, 1), (80, 0, 1)]);
}

#[test]
fn what_a_link_loses_has_passed_the_uplink_and_what_an_uplink_loses_comes_to_no_link() {
    let mut network = Network::new(3, Link::new(5 * MS), 7);
    *network.uplink(0) = Bottleneck::new(100_000, Duration::ZERO);
    network.cut_one_way(0, 1);
    send(&mut network, 0, 1);
    send(&mut network, 0, 2);
    let count = |fault| network.faults().count(fault);
    assert_eq!((count(FaultKind::CutOneWay), count(FaultKind::QueueDrop)), (1, 1));
    assert_eq!(all_arrivals(&mut network), []);
}
