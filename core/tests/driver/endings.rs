//! The end of a node: who waits for anything is woken and told.

use slotcast::error::CallError;

use crate::bench::{Bench, Waiting, config, ms};

#[test]
fn whoever_waits_when_the_node_shuts_down_is_woken() {
    let mut bench = Bench::new(2, &config());
    let server = bench.serve(1);
    let route = bench.route(1);
    let incoming = bench.route(0).call(bench.id(1), "x");
    let request = bench.run(server.next()).expect("a request");
    let node = bench.node(1).clone();
    let channel = bench.channel(1);
    while node.try_event().is_some() {}

    let mut cancelled = Waiting::new(async { request.cancelled().await });
    let mut next = Waiting::new(async { server.next().await.is_none() });
    let mut event = Waiting::new(async { channel.next_event().await });
    let mut node_event = Waiting::new(async { node.next_event().await });
    let mut closed = Waiting::new(async { node.closed().await.is_ok() });
    let mut call = Waiting::new(route.call(bench.id(0), "x"));
    bench.elapse(ms(100));
    assert_eq!((cancelled.poll(), next.poll(), event.poll()), (None, None, None));
    assert_eq!((node_event.poll(), closed.poll(), call.poll()), (None, None, None));

    let mut shutdown = Waiting::new(async { node.shutdown().await.is_ok() });
    assert_eq!(shutdown.poll(), None);
    bench.until("it has ended", |bench| bench.has_ended(1));
    assert_eq!((shutdown.poll(), closed.poll()), (Some(true), Some(true)));
    assert_eq!((cancelled.poll(), next.poll(), event.poll()), (Some(()), Some(true), Some(None)));
    assert!(node_event.poll().is_some());
    assert!(matches!(call.poll(), Some(Err(CallError::Closed | CallError::Disconnected))));
    bench.elapse(ms(100));
    assert!(matches!(bench.run(incoming), Err(CallError::Disconnected)));
}

#[test]
fn a_node_ends_with_its_last_handle() {
    let mut bench = Bench::new(2, &config());
    let (channel, server) = (bench.channel(1), bench.serve(1));
    bench.nodes[1] = None;
    bench.elapse(ms(1000));
    assert!(!bench.has_ended(1), "a channel and a server are handles, too");
    drop(channel);
    bench.elapse(ms(1000));
    assert!(!bench.has_ended(1));
    drop(server);
    bench.until("it has ended", |bench| bench.has_ended(1));
    bench.until("its peer has heard of it", |bench| bench.node(0).peers_up().is_empty());
}

/// It may be dropped with its runtime, or panic in a filter.
#[test]
fn a_driver_that_is_dropped_leaves_no_handle_waiting() {
    let mut bench = Bench::new(2, &config());
    let server = bench.serve(1);
    let _unanswered = bench.route(0).call(bench.id(1), "x");
    let request = bench.run(server.next()).expect("a request");
    let (node, channel) = (bench.node(1).clone(), bench.channel(1));
    while node.try_event().is_some() {}

    let mut cancelled = Waiting::new(async { request.cancelled().await });
    let mut next = Waiting::new(async { server.next().await.is_none() });
    let mut event = Waiting::new(async { channel.next_event().await });
    let mut node_event = Waiting::new(async { node.next_event().await });
    let mut closed = Waiting::new(async { node.closed().await.is_ok() });
    let mut call = Waiting::new(bench.route(1).call(bench.id(0), "x"));
    bench.elapse(ms(100));
    assert_eq!((cancelled.poll(), next.poll(), event.poll()), (None, None, None));
    assert_eq!((node_event.poll(), closed.poll(), call.poll()), (None, None, None));

    bench.drop_driver(1);
    assert_eq!((cancelled.poll(), next.poll(), event.poll()), (Some(()), Some(true), Some(None)));
    assert_eq!((node_event.poll(), closed.poll()), (Some(None), Some(true)));
    assert_eq!(call.poll(), Some(Err(CallError::Closed)));
}
