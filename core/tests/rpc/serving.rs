//! Routes: what is served, what is not (any more), and what nobody knows.

use bytes::Bytes;
use slotcast::config::{Class, Config, RouteConfig};
use slotcast::error::CallError;
use slotcast::id::RouteId;
use slotcast::rpc::{Output, Refusal, Rpc};
use slotcast::time::Time;
use slotcast::wire::{CallRefusal, Reply};

use crate::solo::{Solo, head, head_of, reply};
use crate::web::{ROUTE, Web, body, config, hello, peer};

const OTHER: RouteId = RouteId(300);

fn refused(why: CallRefusal) -> Vec<u8> {
    reply(Reply::Refused(why))
}

/// Everything in a stream is a refusal, and nothing more is read.
#[track_caller]
fn assert_not_served(solo: &mut Solo, stream: slotcast::rpc::CallStream) {
    assert_eq!(solo.wants(0, stream), 0);
    assert_eq!(solo.outputs(), [Output::Stop { peer: peer(0), stream }]);
    let [sent] = &solo.sent()[..] else { panic!("one stream") };
    assert_eq!((sent.stream, sent.finish), (stream, true));
    assert_eq!(sent.bytes, refused(CallRefusal::NotServed));
}

#[test]
fn a_request_for_an_unknown_route_is_refused() {
    let mut solo = Solo::new(&config(|_| {}), 1);
    let stream = solo.open(0);
    let head = head_of(OTHER, 1000, 1 << 30);
    assert_eq!(solo.data(0, stream, &[head.clone(), vec![0; 100]].concat()), Ok(head.len()));
    assert_not_served(&mut solo, stream);
    solo.assert_quiet();
}

#[test]
fn a_request_for_a_route_that_is_only_called_is_refused() {
    let config = config(|route| route.serves = false);
    let mut machine = Rpc::new(&config).expect("it holds together");
    assert!(!machine.serve(Time(1), ROUTE, true));
    assert!(!machine.serve(Time(1), OTHER, true));
    machine.add_peer(peer(0));
    machine.peer_up(peer(0), &hello(&config));
    let mut solo = Solo::of(machine, &config);
    let stream = solo.ask(0, 5);
    assert_not_served(&mut solo, stream);
    solo.assert_quiet();
}

#[test]
fn requests_wait_until_they_are_wanted() {
    let config = config(|_| {});
    let mut machine = Rpc::new(&config).expect("it holds together");
    machine.add_peer(peer(0));
    machine.peer_up(peer(0), &hello(&config));
    let mut solo = Solo::of(machine, &config);
    solo.ask(0, 5);
    assert_eq!((solo.outputs(), solo.sent()), (vec![], vec![]));
    assert!(solo.machine.serve(solo.now, ROUTE, true));
    solo.settle();
    assert_eq!(solo.request().body, body(5));
}

#[test]
fn the_caller_learns_that_requests_are_not_wanted_any_more() {
    let mut web = Web::pair(&config(|_| {}));
    for length in [0, 100_000] {
        let calls = [0; 20].map(|_| web.call(0, 1, body(length)));
        web.run();
        web.nodes[1].serve(web.now, ROUTE, false);
        web.run();
        for _ in calls {
            let outcome = web.outcome(0).expect("all of them");
            assert_eq!(outcome.result, Err(CallError::NotServed));
        }
        web.assert_quiet();
        web.nodes[1].serve(web.now, ROUTE, true);
    }
}

#[test]
fn routes_have_flows_classes_and_requests_of_their_own() {
    let mut config = config(|route| route.in_flight_max = 1);
    config.routes.push(RouteConfig::new(OTHER, "other").class(Class::Urgent));
    let mut solo = Solo::new(&config, 1);
    let (machine, now) = (&mut solo.machine, solo.now);
    assert_eq!(machine.flows().collect::<Vec<_>>(), [Class::Normal, Class::Urgent]);
    let has_backlog = |machine: &Rpc| [0, 1].map(|f| machine.has_flow_backlog(peer(0), f, true));
    assert_eq!(has_backlog(machine), [false, false]);
    machine.call(now, peer(0), OTHER, body(9), None, true).expect("there is credit");
    assert_eq!(has_backlog(machine), [false, true]);
    machine.call(now, peer(0), ROUTE, body(9), None, true).expect("there is credit");
    machine.call(now, peer(0), ROUTE, body(9), None, true).expect("it may wait");
    assert_eq!(has_backlog(machine), [true, true]);
    let mut out = slotcast::broadcast::SendBuffer::new();
    for (flow, class) in [(1, Class::Urgent), (0, Class::Normal)] {
        let piece = machine.poll_flow(now, peer(0), flow, 1 << 16, true, &mut out);
        let piece = piece.expect("a call");
        assert_eq!((piece.class, piece.stream), (class, None));
        machine.handle_written(slotcast::rpc::CallStream(flow as u64), out.len());
        assert!(machine.poll_flow(now, peer(0), flow, 1 << 16, true, &mut out).is_none());
        assert!(out.is_empty(), "no credit on one, no call on the other");
    }
    assert_eq!(has_backlog(machine), [false, false]);
    solo.settle();
    let stream = solo.open(0);
    let head = head_of(OTHER, 1000, 0);
    solo.data(0, stream, &head).expect("no fault");
    assert!(solo.machine.poll_request(ROUTE, |_| true).is_none());
    let (request, _) = solo.machine.poll_request(OTHER, |_| true).expect("it has come");
    assert!(solo.machine.poll_request(RouteId(5), |_| true).is_none());
    assert!(solo.machine.refuse(solo.now, request.id, Refusal::Dropped));
}

#[test]
fn without_room_or_a_connection_nothing_is_sent() {
    let mut solo = Solo::new(&config(|_| {}), 1);
    solo.machine.call(solo.now, peer(0), ROUTE, body(9), None, true).expect("there is credit");
    assert_eq!(solo.send(0, 0, 0), None);
    let sent = solo.send(0, 1, 1).expect("a byte");
    assert_eq!((sent.bytes.len(), sent.finish), (1, false));
    let rest = solo.send(0, 1 << 16, 1 << 16).expect("the rest");
    assert_eq!((rest.stream, rest.bytes.len()), (sent.stream, head(9).len() + 9 - 1));
    solo.down(0);
    assert_eq!(solo.send(0, 1 << 16, 1 << 16), None);
}

#[test]
fn a_machine_without_routes_has_none() {
    let config = Config::new(config(|_| {}).channels);
    let mut machine = Rpc::new(&config).expect("it holds together");
    machine.add_peer(peer(0));
    machine.peer_up(peer(0), &[]);
    let called = machine.call(Time(1), peer(0), ROUTE, Bytes::new(), None, true);
    assert_eq!(called, Err(CallError::UnknownRoute));
    assert!(!machine.has_backlog(peer(0)) && machine.flows().next().is_none());
    assert_eq!(machine.poll(Time(1)), Output::Idle { wake_at: Time::NEVER });
}

/// Unread, half-read, complete: what the application has not taken is refused, what it has is its
/// own; and so is what comes later, until requests are wanted again.
#[test]
fn once_requests_are_not_wanted_any_more_they_are_refused() {
    let config = config(|route| {
        (route.request_bytes_max, route.body_bytes_max) = (100, 300);
        (route.response_bytes_max, route.in_flight_max) = (0, 3);
    });
    let mut solo = Solo::new(&config, 1);
    let (_, taken) = solo.asked(0, 100);
    let half = solo.open(0);
    solo.data(0, half, &[head(60), vec![0; 30]].concat()).expect("no fault");
    let whole = solo.ask(0, 40);
    let unread = solo.ask(0, 100);
    assert_eq!([half, whole, unread].map(|stream| solo.wants(0, stream)), [30, 1, 0]);
    assert!(solo.machine.has_requests(ROUTE));
    assert!(solo.machine.serve(solo.now, ROUTE, false));
    solo.settle();
    assert!(!solo.machine.has_requests(ROUTE));
    assert!(solo.machine.poll_request(ROUTE, |_| true).is_none());
    let stop = |stream| Output::Stop { peer: peer(0), stream };
    let mut stopped = solo.outputs();
    stopped.sort_by_key(|output| format!("{output:?}"));
    assert_eq!(stopped, [half, whole, unread].map(stop));
    let mut sent = solo.sent();
    sent.sort_by_key(|sent| sent.stream);
    assert_eq!(sent.len(), 3);
    for (sent, stream) in sent.iter().zip([half, whole, unread]) {
        assert_eq!((sent.stream, sent.finish), (stream, true));
        assert_eq!(sent.bytes, refused(CallRefusal::NotServed));
    }
    assert_eq!((solo.machine.len(), solo.machine.body_bytes()), (1, 0));
    let late = solo.ask(0, 1);
    assert_not_served(&mut solo, late);
    solo.machine.answer(solo.now, taken.id, Bytes::new()).expect("somebody waits");
    assert!(solo.machine.serve(solo.now, ROUTE, true));
    solo.settle();
    let (_, again) = solo.asked(0, 7);
    assert_eq!(again.body, body(7));
}
