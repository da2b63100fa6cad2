//! In a flood, handles and drivers take the lock that they share, and wake each other, once for many events.
//! Counted in unit tests only.

use std::collections::VecDeque;
use std::time::Duration;
use std::vec::Vec;
use std::{println, vec};

use super::Channel;
use crate::artifact::Artifact;
use crate::broadcast::Event;
use crate::id::ArtifactId;

#[allow(dead_code, reason = "tests of the driver use the rest")]
#[path = "../../tests/driver/network.rs"]
mod network;
#[allow(dead_code, reason = "tests of the driver use the rest")]
#[path = "../../tests/driver/subnet.rs"]
mod subnet;

use subnet::{Subnet, Waiting, config};

const NODES: usize = 4;

const BYTES: usize = 200;

/// Artifacts that are published and not yet delivered everywhere, at most. Each is aborted once it is.
const OUTSTANDING_MAX: usize = 1_000;

const EVENTS: usize = 50_000;

/// Locks and wake-ups, at most, for a delivered event, those of who publishes it included. With fewer nodes, or
/// polls that end after a few events, there are more.
const EACH_MAX: f64 = 0.1;

/// How events are taken.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Taking {
    /// By futures that are polled when they are woken.
    Next,
    /// By who looks after each turn of the drivers.
    Try,
}

#[derive(Default, Debug)]
struct Counts {
    /// Deliveries.
    events: usize,
    /// Locks of drivers, of those who take events, and of who publishes.
    of_drivers: u64,
    of_takers: u64,
    of_publisher: u64,
    /// Wake-ups of those who take events, and of drivers by handles.
    takers_woken: usize,
    drivers_woken: usize,
}

fn locks(subnet: &Subnet) -> u64 {
    subnet.nodes.iter().flatten().map(|node| node.shared().locks()).sum()
}

fn driver_wakes(subnet: &Subnet) -> usize {
    (0..subnet.nodes.len()).map(|at| subnet.wakes(at)).sum()
}

fn delivered(events: &[Event]) -> usize {
    events.iter().filter(|event| matches!(event, Event::Delivered { .. })).count()
}

/// What there is now, or soon: how many deliveries.
fn next(channel: &Channel) -> Waiting<impl Future<Output = usize> + use<>> {
    let channel = channel.clone();
    Waiting::new(async move {
        let mut events = Vec::new();
        channel.next_events(&mut events).await;
        delivered(&events)
    })
}

/// The first node publishes as much as it may, and all others take what comes. The clock moves on by `tick`
/// whenever a driver looks at it, which it does a few times in a turn: so turns are short or long.
fn flood(tick: Duration, taking: Taking) -> Counts {
    let mut subnet = Subnet::connected(NODES, &config());
    let publisher = subnet.channel(0);
    let channels: Vec<Channel> = (1..NODES).map(|at| subnet.channel(at)).collect();
    let mut takers: Vec<_> = channels.iter().map(next).collect();
    let mut taken = vec![0; channels.len()];
    let mut outstanding = VecDeque::new();
    let (mut published, mut counts) = (0_usize, Counts::default());
    subnet.network.tick.set(tick);
    for round in 0.. {
        if counts.events >= EVENTS {
            break;
        }
        assert!(round < EVENTS, "it does not go on: {counts:?}");
        let (before, wakes) = (locks(&subnet), driver_wakes(&subnet));
        let everywhere =
            taken.iter().min().expect("somebody takes") + outstanding.len() - published;
        let over: Vec<ArtifactId> = outstanding.drain(..everywhere).collect();
        if !over.is_empty() {
            assert_eq!(publisher.abort_all(&over), over.len());
        }
        let artifact = |number: usize| {
            let mut bytes = vec![0; BYTES];
            bytes[..8].copy_from_slice(&number.to_be_bytes());
            Artifact::new(bytes.into(), b"").expect("within the limits")
        };
        let end = published + OUTSTANDING_MAX - outstanding.len();
        let artifacts: Vec<Artifact> = (published..end).map(artifact).collect();
        if !artifacts.is_empty() {
            publisher.publish_all(&artifacts).expect("there is room");
        }
        outstanding.extend(artifacts.iter().map(Artifact::id));
        published = end;
        counts.of_publisher += locks(&subnet) - before;
        counts.drivers_woken += driver_wakes(&subnet) - wakes;

        let before = locks(&subnet);
        if !subnet.turn() {
            subnet.elapse(Duration::from_millis(1));
        }
        counts.of_drivers += locks(&subnet) - before;

        let (before, wakes) = (locks(&subnet), driver_wakes(&subnet));
        for (at, channel) in channels.iter().enumerate() {
            let count = match taking {
                Taking::Try => {
                    let mut events = Vec::new();
                    channel.try_events(&mut events);
                    delivered(&events)
                }
                Taking::Next => {
                    counts.takers_woken += usize::from(takers[at].is_woken());
                    let mut count = 0;
                    // Until it waits.
                    while let Some(more) = takers[at].poll() {
                        count += more;
                        takers[at] = next(channel);
                    }
                    count
                }
            };
            taken[at] += count;
            counts.events += count;
        }
        counts.of_takers += locks(&subnet) - before;
        counts.drivers_woken += driver_wakes(&subnet) - wakes;
    }
    counts
}

#[test]
fn locks_and_wake_ups_are_few_for_each_event_of_a_flood() {
    for (tick, taking) in [(0, Taking::Next), (20, Taking::Next), (20, Taking::Try)] {
        let counts = flood(Duration::from_micros(tick), taking);
        let locks = counts.of_drivers + counts.of_takers + counts.of_publisher;
        let wakes = counts.takers_woken + counts.drivers_woken;
        let each = |count: f64| count / counts.events as f64;
        let (locks, wakes) = (each(locks as f64), each(wakes as f64));
        println!("{tick} us, {taking:?}: {locks:.4} locks, {wakes:.4} wake-ups of {counts:?}");
        assert!(locks <= EACH_MAX && wakes <= EACH_MAX, "{locks} {wakes}");
    }
}
