//! A node whose budgets are all used at once: what it holds comes near the memory bound, and not
//! above it (invariant 8).

use std::time::Duration;

use slotcast::artifact::Artifact;
use slotcast::config::Config;
use slotcast_sim::Setup;

use crate::meter::{self, METER};
use crate::office::{
    CHANNEL, Manner, Subnet, answer, asking_for, call, config, connected, limited,
};

const FULL: usize = 0;
const PEERS: [usize; 2] = [1, 2];

const MIB: usize = 1 << 20;

/// An artifact or body of which each of two peers has one under way.
const LONG: usize = 8 * MIB;
const BODY: usize = 2 * MIB;
const PUSH: usize = 64 << 10;

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Little beside the budgets: small windows and tables, few handshakes, and room for no more peers than
/// there are.
fn tight() -> Config {
    let mut config = config(|route| {
        (route.request_bytes_max, route.response_bytes_max) = (BODY as u32, BODY as u32);
        (route.in_flight_max, route.waiting_max) = (4, 0);
        route.body_bytes_max = 2 * BODY as u64;
        (route.deadline, route.rate_min) = (Duration::from_secs(300), 1);
    });
    config.peers_max = PEERS.len() as u16;
    let channel = &mut config.channels[0];
    channel.slots_max = 2 * (LONG / PUSH) as u32;
    (channel.artifact_bytes_max, channel.push_bytes_max) = (LONG as u64, PUSH as u32);
    (channel.active_bytes_max, channel.inbox_bytes_max) = (2 * LONG as u64, 2 * LONG as u64);
    let transport = &mut config.transport;
    transport.streams_max = 8;
    (transport.stream_window, transport.receive_window) = (128 << 10, 128 << 10);
    transport.send_window = 128 << 10;
    transport.handshakes_max = 4;
    config
}

/// Memory of whom it is, whoever asks for it.
fn owned<T>(at: usize, make: impl FnOnce() -> T) -> T {
    (METER.enter)(Some(at));
    let made = make();
    (METER.enter)(None);
    made
}

fn publish(subnet: &mut Subnet, at: usize, number: usize, length: usize) {
    let content = || {
        let mut content = vec![number as u8; length];
        content[..8].copy_from_slice(&(number as u64).to_be_bytes());
        content[8..16].copy_from_slice(&(at as u64).to_be_bytes());
        Artifact::new(content.into(), &[0; 8]).expect("short metadata")
    };
    let artifact = owned(at, content);
    let published = subnet.command(at, |_, node| node.publish(CHANNEL, artifact));
    published.expect("it runs").expect("there is room");
}

/// Requests, answers and artifacts that its peers take slowly, or not at all.
fn fill_what_goes_out(subnet: &mut Subnet) {
    subnet.application.desks[FULL].manner = Manner::Keep;
    for peer in PEERS {
        call(subnet, peer, FULL, asking_for(BODY, 8));
    }
    subnet.run_until("it is asked", ms(1000), |subnet| {
        subnet.application.desks[FULL].kept.len() == PEERS.len()
    });
    for request in std::mem::take(&mut subnet.application.desks[FULL].kept) {
        owned(FULL, || answer(subnet, FULL, &request)).expect("the callers wait");
    }
    for (number, peer) in PEERS.into_iter().enumerate() {
        let body = owned(FULL, || asking_for(BODY, BODY - 16));
        call(subnet, FULL, peer, body);
        publish(subnet, FULL, number, LONG);
    }
}

/// Answers, requests and artifacts that its application does not take.
fn fill_what_comes_in(subnet: &mut Subnet) {
    subnet.deafen(FULL, Duration::from_secs(1000));
    PEERS.into_iter().for_each(|peer| publish(subnet, peer, peer, LONG));
    // They are being fetched, and have their room.
    subnet.elapse(ms(500));
    for peer in PEERS {
        for number in 0..LONG / PUSH {
            publish(subnet, peer, 1000 * peer + number, PUSH);
        }
        call(subnet, peer, FULL, asking_for(0, BODY - 16));
    }
}

#[test]
fn a_node_with_full_budgets_comes_near_its_bound_and_not_above_it() {
    meter::reset();
    let config = tight();
    let link = limited(ms(20), 2_000_000);
    let mut subnet = connected(Setup::new(&config, 1 + PEERS.len()).link(link));
    subnet.set_scope(METER.enter);
    fill_what_goes_out(&mut subnet);
    fill_what_comes_in(&mut subnet);
    let bound = config.memory_bound();
    let mut most = 0;
    for _ in 0..200 {
        subnet.elapse(ms(100));
        let held = (METER.held)(FULL);
        assert!(held <= bound, "{held} of {bound}");
        most = most.max(held);
    }
    let percent = 100 * most / bound;
    println!("{most} of {bound}: {percent} %");
    assert!(percent >= 60, "{most} of {bound}: {percent} %");
}
