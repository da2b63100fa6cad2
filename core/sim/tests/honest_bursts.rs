//! What honest members do that looks like work without progress stays far below what is a fault: whatever is late,
//! repeated or obsolete comes beside something that is new. (The drawn plans of `swarm` check the same.)

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use slotcast::artifact::Artifact;
use slotcast::broadcast::Event;
use slotcast::config::{ChannelConfig, Config, RouteConfig};
use slotcast::id::{ArtifactId, ChannelId, RouteId};
use slotcast::node::NodeEvent;
use slotcast_sim::{Application, Chance, Context, FaultKind, Latency, Link, Setup, Subnet};

const CHANNEL: ChannelId = ChannelId(1);
const ROUTE: RouteId = RouteId(1);

const A: usize = 0;
const B: usize = 1;

/// The most that is seen is at most one part in so many of the bound.
const MARGIN: u64 = 10;

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

#[derive(Default)]
struct Counts {
    delivered: u64,
    faults: Vec<NodeEvent>,
}

impl Application for Counts {
    fn handle_event(&mut self, _: &mut Context<'_>, _: ChannelId, event: Event) {
        self.delivered += u64::from(matches!(event, Event::Delivered { .. }));
    }

    fn handle_node_event(&mut self, _: &mut Context<'_>, event: NodeEvent) {
        if matches!(event, NodeEvent::Fault { .. }) {
            self.faults.push(event);
        }
    }
}

fn subnet(link: Link) -> Subnet<Counts> {
    subnet_of(link, |_| ())
}

fn subnet_of(link: Link, change: impl FnOnce(&mut Config)) -> Subnet<Counts> {
    let mut channel = ChannelConfig::new(CHANNEL);
    (channel.slots_max, channel.active_bytes_max) = (1 << 16, 256 << 20);
    let route = RouteConfig::new(ROUTE, "calls").bytes_max(128 << 10, 128 << 10);
    let mut config = Config::new([channel]).routes([route]);
    change(&mut config);
    let mut subnet = Subnet::new(Setup::new(&config, 2).link(link).seed(5), Counts::default());
    subnet.run_until("connected", ms(30_000), |subnet| subnet.is_up(A, B));
    subnet
}

/// A path on which one of a hundred datagrams is lost, five are overtaken, and ten come twice.
fn bad_path() -> Link {
    let mut link = Link::new(ms(20));
    link.latency = Latency::Jitter(ms(20), ms(10));
    link.bytes_per_second = 12_500_000;
    link.queue_bytes_max = 2 << 20;
    (link.loss, link.duplicate, link.reorder) =
        (Chance::percent(1), Chance::percent(10), Chance::percent(5));
    link.reorder_by = ms(40);
    link
}

fn artifact(number: u64, bytes: usize) -> Artifact {
    let mut content = vec![0; bytes];
    content[..8].copy_from_slice(&number.to_be_bytes());
    Artifact::new(content.into(), &[]).expect("within the limits")
}

/// Checks what either has noted of the other.
fn check(subnet: &mut Subnet<Counts>, what: &str) {
    assert!(subnet.application.faults.is_empty(), "{what}: {:?}", subnet.application.faults);
    for at in [A, B] {
        let node = subnet.node(at).expect("it runs");
        let bound = u64::from(node.config().work.fruitless_max);
        let peak = node.fruitless_peaks().map(|(_, peak)| peak).max().unwrap_or_default();
        println!("{what}: at {at} {peak} pieces of {bound}");
        assert!(peak * MARGIN <= bound, "{what}: {peak} at {at}");
    }
}

/// Publishes so many in a millisecond, each of which is aborted after `life`.
fn churn(subnet: &mut Subnet<Counts>, span: Duration, per_ms: u64, bytes: usize, life: Duration) {
    let mut open: VecDeque<(_, ArtifactId)> = VecDeque::new();
    for step in 0..span.as_millis() as u64 {
        let now = subnet.now();
        let ended = open.iter().take_while(|(at, _)| now.since(*at) >= life).count();
        let ended: Vec<_> = open.drain(..ended).map(|(_, id)| id).collect();
        let new: Vec<_> = (0..per_ms).map(|at| artifact(step * per_ms + at, bytes)).collect();
        open.extend(new.iter().map(|artifact| (now, artifact.id())));
        let done = subnet.command(A, move |_, node| {
            ended.iter().for_each(|id| assert!(node.abort(CHANNEL, id)));
            new.into_iter().for_each(|a| node.publish(CHANNEL, a).expect("there is room"));
        });
        done.expect("it runs");
        subnet.elapse(ms(1));
    }
}

#[test]
fn what_is_aborted_on_a_bad_path_is_no_fault() {
    for (per_ms, bytes, life) in [(20, 200, ms(1000)), (20, 16, ms(5)), (2, 25_000, ms(200))] {
        let mut subnet = subnet(bad_path());
        churn(&mut subnet, ms(3000), per_ms, bytes, life);
        check(&mut subnet, &format!("{bytes} B, aborted after {life:?}"));
        assert!(subnet.application.delivered > 0);
    }
}

#[test]
fn calls_that_are_given_up_are_no_fault() {
    let mut subnet = subnet(bad_path());
    call_and_cancel(&mut subnet, 5, 20);
    check(&mut subnet, "calls given up");
}

/// Makes so many calls in a millisecond, of which the last ones are open.
fn call_and_cancel(subnet: &mut Subnet<Counts>, per_ms: usize, open_max: usize) {
    let to = subnet.id(B);
    let mut open = VecDeque::new();
    for _ in 0..3000 {
        let given_up: Vec<_> = open.drain(..usize::saturating_sub(open.len(), open_max)).collect();
        let called = subnet.command(A, move |_, context| {
            let now = context.time();
            let node = context.node_mut();
            given_up.into_iter().for_each(|call| _ = node.cancel(call));
            let bodies = (0..per_ms).map(|at| if at % 5 == 4 { 5000 } else { 100 });
            let bodies = bodies.map(|bytes| Bytes::from(vec![7; bytes]));
            let calls = bodies.map(|body| node.call(now, &to, ROUTE, body, None, false));
            calls.filter_map(Result::ok).collect::<Vec<_>>()
        });
        open.extend(called.expect("it runs"));
        subnet.elapse(ms(1));
    }
}

fn awful_path() -> Link {
    let mut link = bad_path();
    (link.loss, link.duplicate) = (Chance::percent(30), Chance::percent(50));
    link
}

/// Each datagram comes hundreds of times: as on a path with a loop, or where somebody wants a member to be at fault.
fn repeating_path(latency: Duration) -> Link {
    let mut link = Link::new(latency);
    (link.duplicate, link.copies) = (Chance::percent(100), 300);
    link
}

/// As fast as an application may be, where a path lets it: 50,000 artifacts, or calls, in a second.
#[test]
fn what_is_given_up_at_once_is_no_fault() {
    let mut subnet = subnet(Link::new(ms(1)));
    churn(&mut subnet, ms(1000), 50, 16, ms(3));
    check(&mut subnet, "50,000 artifacts in a second");
    call_and_cancel(&mut subnet, 50, 20);
    check(&mut subnet, "50,000 calls in a second");
}

#[test]
fn a_path_that_loses_or_repeats_most_is_no_fault() {
    for (name, link) in [("loses", awful_path()), ("repeats", repeating_path(ms(20)))] {
        let mut subnet = subnet(link);
        churn(&mut subnet, ms(1500), 2, 1000, ms(100));
        check(&mut subnet, name);
        assert!(subnet.application.delivered > 0);
    }
}

/// Dozens of short streams in a packet, each in a frame of its own: of packets that are lost, all of them come again.
#[test]
fn packets_full_of_short_streams_are_no_fault() {
    let paths = [("good", Link::new(ms(1))), ("bad", bad_path()), ("loses", awful_path())];
    for (name, link) in paths {
        let mut subnet = subnet_of(link, |config| config.routes[0].in_flight_max = 512);
        let serve = |subnet: &mut Subnet<Counts>| {
            assert_eq!(subnet.command(B, |_, node| node.serve(ROUTE, true)), Some(true));
        };
        serve(&mut subnet);
        let sent =
            |subnet: &Subnet<Counts>| subnet.node(A).expect("it runs").stats().sent_datagrams;
        let mut calls = call_briefly(&mut subnet, 1000);
        // What was under way is lost, and comes again in few packets.
        subnet.cut(&[A], &[B]);
        let lost = call_briefly(&mut subnet, 500);
        subnet.elapse(ms(1_500));
        let before = sent(&subnet);
        subnet.heal();
        subnet.elapse(ms(1_500));
        let datagrams = sent(&subnet) - before;
        assert!(name != "good" || lost > 5 * datagrams, "{lost} in {datagrams}");
        calls += lost;
        calls += call_briefly(&mut subnet, 1000);
        subnet.crash(B, FaultKind::Crash);
        subnet.start(B);
        serve(&mut subnet);
        subnet.run_until("connected", ms(60_000), |subnet| subnet.is_up(A, B));
        calls += call_briefly(&mut subnet, 1000);
        check(&mut subnet, &format!("{calls} short calls, path {name}"));
    }
}

/// Makes calls of a few bytes for so long, as many at a time as there is credit for. Returns how many.
fn call_briefly(subnet: &mut Subnet<Counts>, span_ms: u64) -> u64 {
    let to = subnet.id(B);
    let mut calls = 0;
    for _ in 0..span_ms {
        let called = subnet.command(A, move |_, context| {
            let now = context.time();
            let node = context.node_mut();
            let mut call = || node.call(now, &to, ROUTE, Bytes::from_static(&[7; 8]), None, false);
            (0..40).map_while(|_| call().ok()).count() as u64
        });
        calls += called.expect("it runs");
        subnet.elapse(ms(1));
    }
    calls
}

#[test]
fn little_windows_are_no_fault() {
    let little = |config: &mut Config| {
        let transport = &mut config.transport;
        (transport.stream_window, transport.receive_window) = (128 << 10, 128 << 10);
        transport.streams_max = 8;
        config.channels[0].artifact_bytes_max = 30_000;
    };
    let mut subnet = subnet_of(bad_path(), little);
    churn(&mut subnet, ms(1500), 20, 16, ms(5));
    check(&mut subnet, "little windows");
}

#[test]
fn a_snapshot_after_a_restart_or_an_outage_is_no_fault() {
    let mut subnet = subnet(bad_path());
    let all: Vec<_> = (0..20_000).map(|number| artifact(number, 100)).collect();
    for round in 0..3 {
        let all = all.clone();
        let published = subnet.command(A, move |_, node| {
            let results = all.into_iter().map(|a| node.publish(CHANNEL, a));
            results.filter(Result::is_err).count()
        });
        assert_eq!(published, Some(0));
        subnet.elapse(ms(8000));
        match round {
            0 => {
                subnet.crash(B, FaultKind::Crash);
                subnet.start(B);
            }
            1 => {
                subnet.cut(&[A], &[B]);
                subnet.elapse(ms(15_000));
                subnet.heal();
            }
            _ => {}
        }
        subnet.run_until("connected", ms(60_000), |subnet| subnet.is_up(A, B));
    }
    let has_all = |subnet: &mut Subnet<Counts>| subnet.application.delivered >= 20_000;
    subnet.run_until("all have come", ms(60_000), has_all);
    check(&mut subnet, "snapshots");
}
