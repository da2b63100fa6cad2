//! A socket that takes nothing for a while.

use slotcast::broadcast::Event;

use crate::bench::{Bench, config, ms};

/// Without loss: what the node has handed out once, it takes for sent.
#[test]
fn what_a_full_socket_did_not_take_is_sent_when_it_has_room() {
    let mut bench = Bench::new(2, &config());
    bench.elapse(ms(1000));
    bench.network.lock().unwrap().set_full(0, true);
    let (from, to) = (bench.channel(0), bench.channel(1));
    from.publish("to be sent", b"").expect("there is room");
    bench.settle();
    assert_eq!(to.try_event(), None);
    bench.network.lock().unwrap().set_full(0, false);
    // No time passes in which it could be sent again.
    bench.settle();
    assert!(matches!(to.try_event(), Some(Event::Delivered { .. })));
    bench.elapse(ms(1000));
    let sent = bench.network.lock().unwrap().ports[0].sent_bytes;
    assert_eq!(sent, bench.node(0).stats().sent_bytes);
}
