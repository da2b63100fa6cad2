//! Members that keep breaking rules are cut off. What counts as a fault is tested with a bare
//! endpoint (`hostile`, see README); here, what the application has chosen comes to pass.

use slotcast::node::{Closed, NodeEvent};
use slotcast_sim::{Byzantine, Setup, Trick};

use crate::subnet::{Recorded, Subnet, of};
use slotcast_testkit::machines::{config, ms, small};

/// Three nodes, of which the one at `place` breaks a rule now and then, and in no other way
/// misbehaves; the first of two members dials.
fn with_breaker(place: usize, faults_max: u32) -> Subnet {
    let mut config = config(|_| {});
    config.transport.faults_max = faults_max;
    config.transport.cut_off = ms(20_000);
    let mut subnet = of(Setup::new(&config, 3));
    let topology = subnet.node(place).expect("it runs").topology().clone();
    let (key, tricks) = (subnet.key(place).clone(), [Trick::SlotBeyondBound]);
    let (crypto, start) = (subnet.crypto(), subnet.start_instant());
    let breaker = Byzantine::new(key, &topology, &config, &tricks, crypto, 1, start);
    subnet.install(place, Box::new(breaker));
    subnet
}

#[test]
fn after_so_many_faults_a_member_is_cut_off_for_so_long() {
    for (place, faults_max) in [(0, 1), (2, 1), (0, 5), (2, 5)] {
        let mut subnet = with_breaker(place, faults_max);
        let (up, down) = (subnet.up(place), subnet.down(place, Closed::CutOff));
        let is_told = |subnet: &Subnet, event| subnet.application.node_events[1].contains(event);
        subnet.run_until("it is cut off", ms(60_000), |subnet| is_told(subnet, &down));
        let told = subnet.node_told(1);
        let count = |event: &NodeEvent| match event {
            NodeEvent::Fault { count, .. } => *count,
            _ => 0,
        };
        assert_eq!(told.iter().map(count).sum::<u32>(), faults_max, "{told:?}");
        assert_eq!(subnet.stats(1).faults, u64::from(faults_max));

        subnet.elapse(ms(19_900));
        assert_eq!(subnet.node_told(1), [], "not a word of it");
        let back = |subnet: &mut Subnet| is_told(subnet, &up);
        subnet.run_until("it is back", ms(6_000), back);
        // Nobody else has noticed.
        let honest = 2 - place;
        assert!(subnet.is_up(1, honest));
        subnet.publish(1, &small(1));
        subnet.run_until("delivered", ms(100), |subnet| subnet.has(honest, &small(1)));
    }
}
