//! Credit: as many calls are under way as the peer takes at once, further ones wait in order, and
//! what is beyond is pushed back.

use bytes::Bytes;
use slotcast::config::{ChannelConfig, Config, RouteConfig};
use slotcast::error::CallError;
use slotcast::id::{ChannelId, RouteId};

use crate::solo::{Solo, head_in};
use crate::web::{ROUTE, Web, body, config, peer};

/// Calls that a peer accepts at once, and that may wait.
fn granted(web: &Web, from: usize, to: usize) -> Option<(u16, u16)> {
    let credit = web.nodes[from].credit(peer(to), ROUTE)?;
    Some((credit.in_flight_max, credit.waiting_max))
}

#[test]
fn calls_beyond_the_credit_wait_in_order_and_further_ones_are_pushed_back() {
    let config = config(|route| (route.in_flight_max, route.waiting_max) = (2, 3));
    let mut web = Web::pair(&config);
    assert_eq!(granted(&web, 0, 1), Some((2, 3)));
    let calls: Vec<_> = (0..5).map(|n| web.call(0, 1, body(n))).collect();
    assert_eq!(web.try_call(0, 1, body(9), None, true), Err(CallError::Pushback));
    for (n, call) in calls.iter().enumerate() {
        web.run();
        let asked = web.request(1).expect("one at a time is answered");
        assert_eq!(asked.body.len(), n, "in order");
        web.answer(1, asked.id, body(n + 1));
        web.run();
        assert_eq!(web.nodes[1].len(), 2.min(4 - n), "those that were taken up");
        assert_eq!(web.result(0, *call), Ok(body(n + 1)));
    }
    web.assert_quiet();
}

#[test]
fn a_call_that_does_not_wait_needs_credit_at_once() {
    let config = config(|route| (route.in_flight_max, route.waiting_max) = (2, 3));
    let mut web = Web::pair(&config);
    let calls = [0, 1].map(|_| web.try_call(0, 1, body(1), None, false).expect("there is credit"));
    assert_eq!(web.try_call(0, 1, body(1), None, false), Err(CallError::Pushback));
    assert!(web.cancel(0, calls[0]), "before it was sent: the credit is back at once");
    let third = web.try_call(0, 1, body(1), None, false).expect("there is credit");
    web.run();
    assert_eq!(web.try_call(0, 1, body(1), None, false), Err(CallError::Pushback));
    assert!(web.cancel(0, third), "under way: the same");
    web.try_call(0, 1, body(1), None, false).expect("there is credit");
    assert_eq!(web.try_call(0, 1, body(1), None, false), Err(CallError::Pushback));
}

/// Outcomes that nobody takes are bounded like the calls.
#[test]
fn the_credit_of_a_call_is_back_once_its_outcome_was_taken() {
    let config = config(|route| (route.in_flight_max, route.waiting_max) = (1, 1));
    let mut web = Web::pair(&config);
    let calls = [0, 1].map(|_| web.call(0, 1, Bytes::new()));
    for _ in calls {
        web.run();
        let asked = web.request(1).expect("it has come");
        web.answer(1, asked.id, body(5));
    }
    web.run();
    assert_eq!(web.nodes[0].len(), 0, "both have ended");
    assert_eq!(web.try_call(0, 1, body(1), None, true), Err(CallError::Pushback));
    assert_eq!(web.result(0, calls[0]), Ok(body(5)));
    assert_eq!(web.try_call(0, 1, body(1), None, false), Err(CallError::Pushback));
    let third = web.try_call(0, 1, body(1), None, true).expect("it may wait");
    assert_eq!(web.try_call(0, 1, body(1), None, true), Err(CallError::Pushback));
    assert_eq!(web.result(0, calls[1]), Ok(body(5)));
    assert!(web.cancel(0, third));
    web.assert_quiet();
}

#[test]
fn a_caller_is_held_to_the_narrower_credit() {
    let [few, many] = [1, 3].map(|max| config(|route| route.in_flight_max = max));
    for configs in [[few.clone(), many.clone()], [many, few]] {
        let mut web = Web::new(&configs);
        assert_eq!(granted(&web, 0, 1), Some((1, 64)));
        for n in 0..4 {
            web.call(0, 1, body(n));
        }
        web.run();
        assert_eq!(web.nodes[1].len(), 1);
    }
}

/// Whatever a caller thinks that it may, the callee takes up no more than it said.
#[test]
fn a_callee_leaves_requests_beyond_its_bound_unread() {
    let config = config(|route| route.in_flight_max = 3);
    let mut solo = Solo::new(&config, 2);
    let streams: Vec<_> = (0..5).map(|_| solo.ask(0, 10)).collect();
    let wants: Vec<_> = streams.iter().map(|stream| solo.wants(0, *stream)).collect();
    assert_eq!(wants, [1, 1, 1, 0, 0], "nothing but the end may follow; nothing is read");
    assert!(solo.machine.awaits_budget());
    // Another peer's bound is its own.
    solo.asked(0, 10);
    let others = solo.ask(1, 10);
    assert_eq!(solo.wants(1, others), 1);
    assert_eq!(solo.outputs(), []);
}

#[test]
fn calls_wait_for_streams_of_the_transport() {
    let mut web = Web::pair(&config(|_| {}));
    web.streams_left = 2;
    let calls: Vec<_> = (0..4).map(|n| web.call(0, 1, body(n))).collect();
    web.run();
    assert_eq!(web.nodes[1].len(), 2);
    assert!(web.nodes[0].is_calling(peer(1), 0));
    assert!(!web.nodes[0].has_flow_backlog(peer(1), 0, false));
    web.streams_left = 1;
    web.run();
    assert_eq!(web.nodes[1].len(), 3);
    web.streams_left = 1;
    web.run();
    assert_eq!(web.nodes[1].len(), 4);
    assert!(!web.nodes[0].is_calling(peer(1), 0) && !web.nodes[0].has_backlog(peer(1)));
    for call in calls {
        let asked = web.request(1).expect("it has come");
        web.answer(1, asked.id, body(1));
        web.run();
        assert_eq!(web.result(0, call), Ok(body(1)));
    }
    web.assert_quiet();
}

/// Bodies that wait to be sent are bounded, too.
#[test]
fn requests_to_be_sent_are_bounded_in_bytes() {
    let config = config(|route| {
        route.request_bytes_max = 1000;
        (route.response_bytes_max, route.body_bytes_max) = (0, 16_000);
    });
    let mut web = Web::pair(&config);
    web.streams_left = 0;
    // A quarter of them for one peer: half of that under way, and half waiting.
    let calls = [(); 4].map(|()| web.call(0, 1, body(1000)));
    assert_eq!(web.nodes[0].body_bytes(), 4000);
    assert_eq!(web.try_call(0, 1, body(1), None, true), Err(CallError::Pushback));
    web.call(0, 1, Bytes::new());
    assert!(web.cancel(0, calls[0]));
    web.call(0, 1, body(1000));
    assert_eq!(web.try_call(0, 1, body(1), None, true), Err(CallError::Pushback));
    web.streams_left = usize::MAX;
    web.held.insert((0, 1));
    web.run();
    assert_eq!(
        web.nodes[0].body_bytes(),
        2000,
        "the transport has those for which there is credit"
    );
    web.call(0, 1, body(1000));
}

/// A callee has room for so many bytes of requests of one peer, and its callers know it.
#[test]
fn calls_wait_for_credit_of_bytes_in_order_and_are_pushed_back_before_they_are_queued() {
    // A share of 2,000.
    let callee = config(|route| {
        (route.request_bytes_max, route.response_bytes_max) = (1000, 0);
        route.body_bytes_max = 16_000;
    });
    let mut web = Web::new(&[config(|_| {}), callee]);
    assert_eq!(web.nodes[0].credit(peer(1), ROUTE).map(|credit| credit.bytes_max), Some(2000));
    let calls = [900, 900, 900, 100, 0].map(|length| web.call(0, 1, body(length)));
    for length in [200, 0] {
        let pushed_back = web.try_call(0, 1, body(length), None, false);
        assert_eq!(pushed_back, Err(CallError::Pushback), "others wait");
    }
    web.run();
    assert_eq!(web.nodes[1].len(), 2, "the third waits, and what is behind it");
    let lengths = [900, 900, 900, 100, 0];
    for (at, call) in calls.iter().enumerate().take(3) {
        let asked = web.request(1).expect("it has come");
        assert_eq!(asked.body.len(), lengths[at], "in order");
        web.answer(1, asked.id, Bytes::new());
        web.run();
        assert_eq!(web.result(0, *call), Ok(Bytes::new()));
    }
    assert_eq!(web.nodes[1].len(), 2, "the rest");
    web.try_call(0, 1, body(1000), None, false).expect("there is credit");
    web.try_call(0, 1, body(900), None, false).expect("there is credit to the byte");
    assert_eq!(web.try_call(0, 1, body(1), None, false), Err(CallError::Pushback));
    web.try_call(0, 1, Bytes::new(), None, false).expect("no bytes are needed");
}

#[test]
fn what_is_behind_a_call_that_waits_for_bytes_goes_on_when_that_is_given_up() {
    let config = config(|route| {
        (route.request_bytes_max, route.response_bytes_max) = (1000, 0);
        route.body_bytes_max = 1000;
    });
    let mut web = Web::pair(&config);
    let calls = [400, 600].map(|length| web.call(0, 1, body(length)));
    web.run();
    assert!(web.cancel(0, calls[1]));
    let long = web.call(0, 1, body(601));
    web.call(0, 1, body(100));
    web.run();
    assert_eq!(web.nodes[1].len(), 1);
    assert!(web.cancel(0, long));
    web.run();
    assert_eq!(web.nodes[1].len(), 2);
}

/// The defaults go together: the default number of calls is under way with bodies of any length that
/// the defaults allow, and as many wait.
#[test]
fn as_many_calls_as_the_documents_name_are_under_way_whatever_their_length() {
    let route = RouteConfig::new(ROUTE, "defaults");
    let (request, response) = (route.request_bytes_max as usize, route.response_bytes_max as usize);
    let config = Config::new([ChannelConfig::new(ChannelId(1))]).routes([route]);
    let mut solo = Solo::new(&config, 1);
    let longest = body(request);
    for n in 0..128 {
        let mut called = |waits| {
            let body = longest.clone();
            solo.machine.call(solo.now, peer(0), ROUTE, body, None, waits)
        };
        assert_eq!(called(false).is_ok(), n < 64, "after {n}");
        assert!(n < 64 || called(true).is_ok(), "after {n}");
    }
    let mut callee = Solo::new(&config, 1);
    let held: Vec<_> = (0..64)
        .map(|_| {
            callee.ask(0, request);
            let held = callee.machine.poll_request(ROUTE, |_| true).expect("there is room");
            callee.settle();
            held
        })
        .collect();
    let answer = body(response);
    for (asked, _) in &held {
        callee.machine.answer(callee.now, asked.id, answer.clone()).expect("it waits");
        callee.settle();
    }
}

#[test]
fn there_is_credit_only_where_a_peer_is_up_and_serves_the_route() {
    let served = config(|_| {});
    let mut web = Web::new(&[served, config(|route| route.serves = false)]);
    assert_eq!(web.nodes[0].credit(peer(1), ROUTE), None);
    assert_eq!(granted(&web, 1, 0), Some((64, 64)));
    assert_eq!(web.nodes[1].credit(peer(0), RouteId(8)), None);
    assert_eq!(web.nodes[1].credit(peer(9), ROUTE), None);
    let links = web.nodes[1].links();
    web.down(0, 1);
    assert_eq!(web.nodes[1].credit(peer(0), ROUTE), None);
    assert_ne!(web.nodes[1].links(), links, "it may have changed");
    web.up(0, 1);
    assert_ne!(web.nodes[1].links(), links);
}

#[test]
fn the_head_says_what_the_call_is() {
    for (response_bytes_max, prepaid, ends) in [(100, 100, true), (1 << 20, 16 << 10, false)] {
        let config = config(|route| route.response_bytes_max = response_bytes_max);
        let mut solo = Solo::new(&config, 1);
        let call = solo.machine.call(solo.now, peer(0), ROUTE, body(77), None, true);
        call.expect("there is credit");
        let [sent] = &solo.sent()[..] else { panic!("one stream") };
        let (head, rest) = head_in(&sent.bytes);
        assert_eq!((head.route, head.timeout_ms), (ROUTE, 10_000));
        assert_eq!((head.prepaid, head.length), (prepaid, 77));
        assert_eq!((rest, sent.finish), (&body(77)[..], ends), "all of an answer was prepaid");
    }
}

/// New calls and what has begun take turns: neither keeps the other from being sent.
#[test]
fn a_flood_of_new_calls_does_not_hold_up_what_has_begun() {
    let config = config(|route| (route.in_flight_max, route.waiting_max) = (64, 64));
    let mut solo = Solo::new(&config, 1);
    let (_, asked) = solo.asked(0, 10);
    for n in 0..20 {
        let called = solo.machine.call(solo.now, peer(0), ROUTE, body(n), None, true);
        called.expect("there is credit");
    }
    solo.machine.answer(solo.now, asked.id, body(100)).expect("somebody waits");
    solo.settle();
    let is_head = |bytes: &[u8]| bytes[0] == 0x30;
    let pieces: Vec<bool> = std::iter::from_fn(|| solo.send(0, 1 << 16, 1 << 16))
        .map(|sent| is_head(&sent.bytes))
        .collect();
    assert_eq!(pieces.len(), 21);
    let answer = pieces.iter().position(|is_head| !is_head).expect("the answer");
    assert!(answer <= 1, "behind {answer} calls");
}
