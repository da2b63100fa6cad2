//! Two nodes over sockets that are not `Send` and keep the buffers that they send from.

use slotcast::broadcast::Event;
use slotcast::error::CallError;

use crate::subnet::{Subnet, Waiting, config, ms};

#[test]
fn artifacts_and_calls_go_both_ways() {
    let mut subnet = Subnet::connected(2, &config());
    for (from, to, bytes) in [(0, 1, 200), (1, 0, 300_000)] {
        let id = subnet.channel(from).publish(vec![7; bytes], b"metadata").unwrap();
        let inbox = subnet.channel(to);
        let event = subnet.run(inbox.next_event());
        let Some(Event::Delivered { artifact, from: sender }) = event else { panic!("{event:?}") };
        assert_eq!((artifact.id(), sender), (id, subnet.id(from)));

        let server = subnet.serve(to);
        let call = subnet.route(from).call(subnet.id(to), "question");
        let request = subnet.run(server.next_request()).unwrap();
        assert_eq!((request.from(), &request.body()[..]), (subnet.id(from), &b"question"[..]));
        request.answer("answer").unwrap();
        assert_eq!(subnet.run(call).unwrap(), "answer");
    }
}

/// F8: all deadlines count on the clock of the [`Io`](slotcast::driver::Io). The ten seconds here
/// take no time.
#[test]
fn deadlines_pass_by_the_runtimes_clock() {
    let mut subnet = Subnet::connected(2, &config());
    let _server = subnet.serve(1);
    let mut call = Waiting::new(subnet.route(0).call(subnet.id(1), "x"));
    assert_eq!(call.poll(), None);
    subnet.elapse(ms(9_900));
    assert_eq!(call.poll(), None);
    subnet.elapse(ms(200));
    assert_eq!(call.poll(), Some(Err(CallError::DeadlinePassed)));
}
