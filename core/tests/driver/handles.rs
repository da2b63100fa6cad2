//! What handles offer beyond single events: room, streams, members that come up, calls that nobody awaits.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll};

use futures_core::Stream;
use slotcast::artifact::Artifact;
use slotcast::broadcast::{Candidate, Decision, Event, Priority};
use slotcast::config::{ChannelConfig, Relay};
use slotcast::driver::Setup;
use slotcast::error::{CallError, PublishError, RelayError};
use slotcast::id::ChannelId;

use crate::network::Network;
use crate::subnet::{CHANNEL, Subnet, Waiting, config, ms};

/// The next item of a stream.
struct Next<'a, S>(&'a mut S);

impl<S: Stream + Unpin> Future for Next<'_, S> {
    type Output = Option<S::Item>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut *self.0).poll_next(cx)
    }
}

#[test]
fn room_is_given_in_the_order_in_which_it_was_asked_for() {
    let mut config = config();
    config.channels[0].artifact_bytes_max = 1_000;
    config.channels[0].active_bytes_max = 1_000;
    let mut subnet = Subnet::connected(2, &config);
    let channel = subnet.channel(0);
    assert_eq!(subnet.run(channel.room(1_000)), Ok(()));
    let half = channel.publish(vec![1; 500], b"").expect("there is room");
    let rest = channel.publish(vec![2; 400], b"").expect("there is room");
    assert_eq!(channel.publish(vec![3; 101], b""), Err(PublishError::ActiveBytesExceeded));

    let mut long = Waiting::new(channel.room(1_000));
    let mut short = Waiting::new(channel.room(200));
    assert_eq!((long.poll(), short.poll()), (None, None));
    channel.abort(&half);
    // The first one is asked, and there is not enough for it.
    assert!(long.is_woken() && !short.is_woken());
    assert_eq!((long.poll(), short.poll()), (None, None));
    channel.abort(&rest);
    assert_eq!(long.poll(), Some(Ok(())));
    assert_eq!(short.poll(), Some(Ok(())), "there is room for it, too");
    assert!(matches!(subnet.run(channel.room(1_001)), Err(PublishError::Artifact(_))));
}

#[test]
fn who_gives_up_waiting_for_room_lets_the_next_one_go_on() {
    let mut config = config();
    config.channels[0].artifact_bytes_max = 1_000;
    config.channels[0].active_bytes_max = 1_000;
    let subnet = Subnet::connected(2, &config);
    let channel = subnet.channel(0);
    channel.publish(vec![1; 500], b"").expect("there is room");
    let mut long = Waiting::new(channel.room(1_000));
    assert_eq!(long.poll(), None);
    let mut other = Waiting::new(channel.room(501));
    assert_eq!(other.poll(), None);
    drop(long);
    assert!(other.is_woken(), "it is asked, since it is the first one now");
}

#[test]
fn who_waits_for_room_is_told_of_the_end() {
    let mut config = config();
    config.channels[0].slots_max = 1;
    let mut subnet = Subnet::connected(2, &config);
    let channel = subnet.channel(0);
    channel.publish("x", b"").expect("there is room");
    let mut room = Waiting::new(channel.room(1));
    assert_eq!(room.poll(), None);
    subnet.drop_driver(0);
    assert_eq!(room.poll(), Some(Err(PublishError::Closed)));
}

#[test]
fn an_artifact_that_was_made_before_is_published() {
    let mut subnet = Subnet::connected(2, &config());
    let artifact = Artifact::new("x".into(), b"height 7").expect("within the limits");
    subnet.channel(0).publish_artifact(&artifact).expect("there is room");
    subnet.channel(0).publish_artifact(&artifact).expect("it is published already");
    let inbox = subnet.channel(1);
    let event = subnet.run(inbox.next_event());
    assert!(matches!(event, Some(Event::Delivered { artifact: of, .. }) if of == artifact));
}

/// They share the events with the handles, and end with the node, which they do not keep running.
#[test]
fn events_and_requests_come_as_streams() {
    let mut subnet = Subnet::connected(2, &config());
    let mut events = subnet.channel(1).events();
    let mut node_events = subnet.node(1).node_events();
    let mut requests = subnet.serve(1).requests();
    while subnet.node(1).try_event().is_some() {}

    let mut next = Waiting::new(Next(&mut events));
    assert!(next.poll().is_none());
    subnet.channel(0).publish("x", b"").expect("there is room");
    subnet.settle();
    assert!(matches!(next.poll(), Some(Some(Event::Delivered { .. }))));
    drop(next);

    let call = subnet.route(0).call(subnet.id(1), "question");
    let request = subnet.run(Next(&mut requests)).expect("the node runs");
    request.answer("answer").expect("it is waited for");
    assert_eq!(subnet.run(call), Ok("answer".into()));

    // A server keeps the node running, as a handle does.
    drop(requests);
    subnet.nodes[1] = None;
    subnet.until("it has ended", |subnet| subnet.has_ended(1));
    assert_eq!(subnet.run(Next(&mut events)), None);
    while subnet.run(Next(&mut node_events)).is_some() {}
}

#[test]
fn who_waits_for_a_member_is_woken_when_it_is_connected() {
    let mut subnet = Subnet::new(&Network::new(2), &config());
    let (node, other) = (subnet.node(0).clone(), subnet.id(1));
    let mut connected = Waiting::new(async { node.connected(&other).await });
    assert_eq!(connected.poll(), None);
    subnet.until("connected", |_| connected.is_woken());
    assert_eq!(connected.poll(), Some(true));
    assert_eq!(node.peers_up(), [other]);

    let nobody = slotcast::id::NodeId([7; 32]);
    let mut never = Waiting::new(async { node.connected(&nobody).await });
    assert_eq!(never.poll(), None);
    drop(node.shutdown());
    subnet.until("it has ended", |subnet| subnet.has_ended(0));
    assert_eq!(never.poll(), Some(false));
}

#[test]
fn a_detached_call_goes_on_and_gives_its_credit_back() {
    let mut config = config();
    config.routes[0].in_flight_max = 1;
    config.routes[0].waiting_max = 1;
    let mut subnet = Subnet::connected(2, &config);
    let server = subnet.serve(1);
    let (route, callee) = (subnet.route(0), subnet.id(1));
    route.call(callee, "x").detach();
    let request = subnet.run(server.next_request()).expect("a request");
    subnet.elapse(ms(100));
    assert!(!request.is_cancelled());
    assert_eq!(route.try_call(callee, "y").err(), Some(CallError::Pushback));
    request.answer("answer").expect("the caller takes it, and drops it");
    subnet.elapse(ms(100));
    drop(route.try_call(callee, "y").expect("there is credit again"));
    // One that has ended before.
    let call = route.call(callee, "z");
    drop(subnet.run(server.next_request()));
    subnet.elapse(ms(100));
    call.detach();
}

/// [`Channel::publish_all`](slotcast::driver::Channel::publish_all).
#[test]
fn who_publishes_many_wakes_the_driver_once() {
    let mut subnet = Subnet::connected(2, &config());
    subnet.settle();
    let before = subnet.wakes(0);
    let made = |number: u8| Artifact::new(vec![number].into(), b"").expect("within the limits");
    let artifacts: Vec<Artifact> = (0..100).map(made).collect();
    subnet.channel(0).publish_all(&artifacts).expect("there is room");
    assert_eq!(subnet.wakes(0) - before, 1);
}

/// [`Channel::relay`](slotcast::driver::Channel::relay): what it refuses.
#[test]
fn what_cannot_be_relayed_is_refused() {
    let mut config = config();
    config.channels.push(ChannelConfig::new(ChannelId(2)));
    (config.channels[1].relay, config.channels[1].relay_slots_max) = (Relay::Confirmed, 8);
    config.driver.commands_max = 1;
    let mut subnet = Subnet::connected(2, &config);
    let artifact = Artifact::new("x".into(), b"").expect("within the limits");
    let relays = subnet.node(0).channel(ChannelId(2)).expect("configured");
    assert_eq!(subnet.channel(0).relay(&artifact), Err(RelayError::Off));
    // Nobody advertises it, so that it is not passed on. That is no mistake.
    relays.relay(&artifact).expect("it is passed on, if it can be");
    assert_eq!(relays.relay(&artifact), Err(RelayError::Busy));
    subnet.elapse(ms(100));
    assert_eq!(subnet.node(1).channel(ChannelId(2)).expect("configured").try_event(), None);
    subnet.drop_driver(0);
    assert_eq!(relays.relay(&artifact), Err(RelayError::Closed));
}

/// [`Channel::reconsider`](slotcast::driver::Channel::reconsider): of what was put off, and not of what was
/// dropped or delivered.
#[test]
fn a_filter_is_asked_again() {
    static IS_OPEN: AtomicBool = AtomicBool::new(false);
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let network = Network::new(2);
    let mut subnet = Subnet::with(&network, &config(), |_, key, config, topology| {
        Setup::new(key, config, topology).filter(CHANNEL, |candidate: &Candidate<'_>| {
            ASKED.fetch_add(1, SeqCst);
            match &candidate.advert.metadata[..] {
                b"never" => Decision::Drop,
                b"later" if !IS_OPEN.load(SeqCst) => Decision::Later,
                _ => Decision::Fetch(Priority::Normal),
            }
        })
    });
    subnet.until("connected", |subnet| subnet.node(0).peers_up().len() == 1);
    let (channel, inbox) = (subnet.channel(0), subnet.channel(1));
    for metadata in [&b"now"[..], b"later", b"never"] {
        channel.publish(metadata.to_vec(), metadata).expect("there is room");
    }
    subnet.elapse(ms(1_000));
    assert!(matches!(inbox.try_event(), Some(Event::Delivered { .. })));
    assert_eq!(inbox.try_event(), None);
    let before = ASKED.load(SeqCst);
    IS_OPEN.store(true, SeqCst);
    subnet.elapse(ms(1_000));
    assert_eq!(inbox.try_event(), None, "nothing polls");
    inbox.reconsider();
    let event = subnet.run(inbox.next_event());
    let Some(Event::Delivered { artifact, .. }) = event else { panic!("{event:?}") };
    assert_eq!(artifact.metadata(), b"later");
    assert_eq!(ASKED.load(SeqCst) - before, 1);
}
