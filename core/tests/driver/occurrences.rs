//! All that a node has to say in one order, and those who wait for it. Invariant 18.

#![allow(clippy::disallowed_methods, reason = "threads that wait are part of what is tested")]

use std::pin::Pin;
use std::sync::mpsc::RecvTimeoutError;
use std::task::Context;
use std::thread;

use futures_core::Stream;
use proptest::prelude::*;
use slotcast::broadcast::Event;
use slotcast::config::{ChannelConfig, Config, RouteConfig};
use slotcast::driver::{Occurrence, Occurrences, Select, SelectError, UnknownChannel};
use slotcast::id::{ChannelId, RouteId};
use slotcast::node::NodeEvent;

use crate::subnet::{CHANNEL, ROUTE, Subnet, Waiting, config, ms};

const OTHER: ChannelId = ChannelId(2);

/// Two channels and a route.
fn two_channels() -> Config {
    let channels = [CHANNEL, OTHER].map(ChannelConfig::new);
    Config::new(channels).routes([RouteConfig::new(ROUTE, "route").bytes_max(8, 8)])
}

fn all_of(subnet: &Subnet, at: usize) -> Occurrences {
    subnet.node(at).events(&Select::all()).expect("configured")
}

/// What a node is told of: the number that was sent.
fn number(occurrence: &Occurrence) -> Option<u16> {
    let bytes = match occurrence {
        Occurrence::Artifact { event: Event::Delivered { artifact, .. }, .. } => artifact.bytes(),
        Occurrence::Request { request, .. } => request.body(),
        _ => return None,
    };
    Some(u16::from_be_bytes(bytes[..].try_into().expect("two bytes")))
}

/// What a member does that a third one is told of.
#[derive(Clone, Copy, Debug)]
enum Act {
    Publish(ChannelId),
    Tell,
}

/// What is done while the third one stands still: not more than goes out without acknowledgements.
fn acts() -> impl Strategy<Value = Vec<(usize, Act)>> {
    let act = prop_oneof![Just(Act::Publish(CHANNEL)), Just(Act::Publish(OTHER)), Just(Act::Tell),];
    prop::collection::vec((0..2_usize, act), 1..5)
}

fn act(subnet: &Subnet, number: u16, (at, act): (usize, Act)) {
    let bytes = number.to_be_bytes().to_vec();
    match act {
        Act::Publish(channel) => {
            let channel = subnet.node(at).channel(channel).expect("configured");
            channel.publish(bytes, b"").expect("there is room");
        }
        Act::Tell => subnet.route(at).tell(subnet.id(2), bytes).expect("there is credit"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..Default::default() })]

    /// F14. Whoever did it, on whichever channel or route, and however little is staged.
    #[test]
    fn f14_all_that_a_node_is_told_comes_in_the_order_of_arrival(
        bursts in prop::collection::vec((acts(), 0..5_usize), 1..8), staged_max in 1..8_u32,
    ) {
        let mut config = two_channels();
        config.driver.staged_events_max = staged_max;
        let mut subnet = Subnet::connected(3, &config);
        let events = all_of(&subnet, 2);
        while events.try_next().is_some() {
            subnet.settle();
        }
        let (mut sent, mut told) = (0, Vec::new());
        for (acts, taken) in bursts {
            // It finds all of them in its socket.
            subnet.stop(2);
            for what in acts {
                act(&subnet, sent, what);
                sent += 1;
                subnet.elapse(ms(2));
            }
            subnet.go_on(2);
            subnet.elapse(ms(50));
            told.extend((0..taken).filter_map(|_| number(&events.try_next()?)));
        }
        while told.len() < usize::from(sent) {
            told.extend(number(&subnet.run(events.next_event()).expect("it runs")));
        }
        prop_assert_eq!(told, (0..sent).collect::<Vec<_>>());
    }
}

/// A member's messages, more than are staged, come before what another member publishes after them.
#[test]
fn f14_what_is_left_in_the_node_is_not_overtaken() {
    let mut subnet = Subnet::connected(3, &two_channels());
    let events = all_of(&subnet, 2);
    subnet.elapse(ms(100));
    while events.try_next().is_some() {
        subnet.settle();
    }
    (0..40).for_each(|number| act(&subnet, number, (0, Act::Tell)));
    subnet.elapse(ms(100));
    act(&subnet, 40, (1, Act::Publish(CHANNEL)));
    subnet.elapse(ms(100));
    let mut told = Vec::new();
    while told.len() < 41 {
        told.extend(number(&subnet.run(events.next_event()).expect("it runs")));
    }
    // What was unread when the artifact came is read, and so becomes known, later.
    let artifact = told.iter().position(|number| *number == 40).expect("told");
    assert!(artifact >= 32, "staged, and read ahead: {artifact}");
    told.remove(artifact);
    assert_eq!(told, (0..40).collect::<Vec<_>>());
}

#[test]
fn a_connection_is_told_before_what_comes_over_it() {
    let mut subnet = Subnet::new(&crate::network::Network::new(2), &two_channels());
    let events = all_of(&subnet, 1);
    act_early(&subnet);
    let mut order = Vec::new();
    while order.len() < 2 {
        match subnet.run(events.next_event()).expect("it runs") {
            Occurrence::Node(NodeEvent::Up { .. }) => order.push("up"),
            Occurrence::Artifact { .. } => order.push("artifact"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(order, ["up", "artifact"]);
}

fn act_early(subnet: &Subnet) {
    subnet.channel(0).publish("early", b"").expect("there is room");
}

#[test]
fn only_what_is_selected_is_taken() {
    let mut subnet = Subnet::connected(2, &two_channels());
    let select = Select::all().channels([OTHER]).routes([]).node_events(false);
    let events = subnet.node(1).events(&select).expect("configured");
    for channel in [CHANNEL, OTHER] {
        subnet.node(0).channel(channel).expect("configured").publish("x", b"").expect("room");
    }
    subnet.elapse(ms(100));
    assert!(matches!(
        events.try_next(),
        Some(Occurrence::Artifact { channel: OTHER, event: Event::Delivered { .. } })
    ));
    assert!(events.try_next().is_none());
    assert!(subnet.channel(1).try_event().is_some(), "it is left to others");
    let unknown = Select::all().channels([ChannelId(9)]);
    let error = subnet.node(1).events(&unknown).expect_err("it does not exist");
    assert_eq!(error, SelectError::Channel(UnknownChannel(ChannelId(9))));
    let unknown = Select::all().routes([RouteId(9)]);
    assert!(matches!(subnet.node(1).events(&unknown), Err(SelectError::Route(_))));
}

/// Futures of two takers, and of one that takes one channel only.
fn waiting<'a>(
    takers: &'a [Occurrences; 2],
    channel: &'a slotcast::driver::Channel,
) -> Vec<Waiting<Pin<Box<dyn Future<Output = bool> + 'a>>>> {
    let mut all: Vec<Pin<Box<dyn Future<Output = bool> + 'a>>> = Vec::new();
    for taker in takers {
        all.push(Box::pin(async { taker.next_event().await.is_some() }));
    }
    all.push(Box::pin(async { channel.next_event().await.is_some() }));
    let mut all: Vec<_> = all.into_iter().map(Waiting::new).collect();
    assert!(all.iter_mut().all(|one| one.poll().is_none()));
    all
}

fn woken<F: Future>(waiting: &[Waiting<F>]) -> Vec<usize> {
    (0..waiting.len()).filter(|at| waiting[*at].is_woken()).collect()
}

#[test]
fn one_event_wakes_one_of_those_who_could_take_it_and_another_if_that_one_is_dropped() {
    let mut subnet = Subnet::connected(2, &config());
    let (takers, channel) = ([(); 2].map(|()| all_of(&subnet, 1)), subnet.channel(1));
    while takers[0].try_next().is_some() {}
    let mut waiting = waiting(&takers, &channel);
    subnet.channel(0).publish("x", b"").expect("there is room");
    subnet.settle();
    for left in [2, 1, 0] {
        let woken = woken(&waiting);
        assert_eq!(woken.len(), 1, "of {}", left + 1);
        if left > 0 {
            drop(waiting.remove(woken[0]));
        }
    }
    assert_eq!(waiting[0].poll(), Some(true));
}

#[test]
fn as_many_are_woken_as_there_are_events_one_after_the_other() {
    let mut subnet = Subnet::connected(2, &config());
    let (takers, channel) = ([(); 2].map(|()| all_of(&subnet, 1)), subnet.channel(1));
    while takers[0].try_next().is_some() {}
    let mut waiting = waiting(&takers, &channel);
    for number in 0..3_u8 {
        subnet.channel(0).publish(vec![number], b"").expect("there is room");
    }
    subnet.settle();
    let mut taken = 0;
    while !woken(&waiting).is_empty() {
        taken += waiting.iter_mut().filter_map(Waiting::poll).count();
    }
    assert_eq!(taken, 3);
}

/// Who waits for things of which something else has a part is woken for the rest.
#[test]
fn a_taker_is_woken_though_others_wait_for_some_of_it() {
    let mut subnet = Subnet::connected(2, &two_channels());
    let (taker, channel) = (all_of(&subnet, 1), subnet.channel(1));
    while taker.try_next().is_some() {}
    let mut of_all = Waiting::new(async { taker.next_event().await.and_then(|it| number(&it)) });
    let mut of_one = Waiting::new(async { channel.next_event().await.is_some() });
    assert!(of_all.poll().is_none() && of_one.poll().is_none());
    for (number, channel) in [(1_u16, CHANNEL), (2, OTHER)] {
        let channel = subnet.node(0).channel(channel).expect("configured");
        channel.publish(number.to_be_bytes().to_vec(), b"").expect("there is room");
        subnet.elapse(ms(10));
    }
    assert!(of_all.is_woken() && of_one.is_woken());
    assert_eq!(of_one.poll(), Some(true));
    assert_eq!(of_all.poll(), Some(Some(2)));
}

#[test]
fn its_end_comes_after_what_is_staged() {
    let mut config = two_channels();
    config.driver.staged_events_max = 1;
    let mut subnet = Subnet::connected(2, &config);
    let mut events = all_of(&subnet, 1);
    while events.try_next().is_some() {
        subnet.settle();
    }
    for number in 0..3_u8 {
        subnet.channel(0).publish(vec![number], b"").expect("there is room");
    }
    subnet.elapse(ms(10));
    // Two events are left in the node for ever.
    subnet.drop_driver(1);
    assert!(matches!(subnet.run(events.next_event()), Some(Occurrence::Artifact { .. })));
    let mut cx = Context::from_waker(std::task::Waker::noop());
    loop {
        match Pin::new(&mut events).poll_next(&mut cx) {
            std::task::Poll::Ready(Some(Occurrence::Node(_))) => {}
            end => break assert!(matches!(end, std::task::Poll::Ready(None)), "{end:?}"),
        }
    }
    assert!(matches!(events.next_timeout(ms(1)), Err(RecvTimeoutError::Disconnected)));
}

/// On a thread that waits, as on a future.
#[test]
fn a_thread_waits_for_what_comes_next() {
    let mut subnet = Subnet::connected(2, &config());
    let events = all_of(&subnet, 1);
    while events.try_next().is_some() {}
    assert!(matches!(events.next_timeout(ms(1)), Err(RecvTimeoutError::Timeout)));
    let taker = thread::spawn(move || {
        let mut taken = 0;
        while let Ok(next) = events.next_timeout(ms(60_000)) {
            taken += usize::from(matches!(next, Occurrence::Artifact { .. }));
        }
        taken
    });
    for number in 0..200_u8 {
        subnet.channel(0).publish(vec![number], b"").expect("there is room");
        subnet.elapse(ms(1));
    }
    drop(subnet.node(1).shutdown());
    subnet.until("it has ended", |subnet| subnet.has_ended(1));
    assert_eq!(taker.join().expect("no panic"), 200);
}
