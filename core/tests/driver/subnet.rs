//! Two nodes over sockets that are not `Send` and keep the buffers that they send from.

use std::time::Duration;

use slotcast::broadcast::Event;
use slotcast::error::CallError;

use crate::memory::{CHANNEL, ROUTE, Subnet, poll_once};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn artifacts_and_calls_go_both_ways() {
    let mut subnet = Subnet::connected();
    for (from, to, bytes) in [(0, 1, 200), (1, 0, 300_000)] {
        let channel = subnet.nodes[from].channel(CHANNEL).unwrap();
        let id = channel.publish(vec![7; bytes], b"metadata").unwrap();
        let inbox = subnet.nodes[to].channel(CHANNEL).unwrap();
        let mut event = None;
        subnet.run_until("delivered", SECOND, |_| {
            event = inbox.try_event();
            event.is_some()
        });
        let Some(Event::Delivered { artifact, from: sender }) = event else { panic!("{event:?}") };
        assert_eq!((artifact.id(), sender), (id, subnet.id(from)));

        let server = subnet.nodes[to].route(ROUTE).unwrap().serve().unwrap();
        let mut call = subnet.nodes[from].route(ROUTE).unwrap().call(subnet.id(to), "question");
        subnet.run_until("asked", SECOND, |_| {
            server.try_next().is_some_and(|request| request.answer("answer").is_ok())
        });
        let mut answer = None;
        subnet.run_until("answered", SECOND, |_| {
            if let std::task::Poll::Ready(result) = poll_once(&mut call) {
                answer = Some(result);
            }
            answer.is_some()
        });
        assert_eq!(answer.unwrap().unwrap(), "answer");
    }
}

/// F8: all deadlines count on the clock of the [`Io`](slotcast::driver::Io). It is 10 s later after
/// these 10 s, which take no time.
#[test]
fn deadlines_pass_by_the_runtimes_clock() {
    let mut subnet = Subnet::connected();
    let _server = subnet.nodes[1].route(ROUTE).unwrap().serve().unwrap();
    let mut call = subnet.nodes[0].route(ROUTE).unwrap().call(subnet.id(1), "x");
    subnet.elapse(Duration::from_millis(9_900));
    assert!(poll_once(&mut call).is_pending());
    subnet.elapse(Duration::from_millis(200));
    assert_eq!(poll_once(&mut call), std::task::Poll::Ready(Err(CallError::DeadlinePassed)));
}
