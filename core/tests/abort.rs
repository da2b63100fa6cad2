//! Abort: nothing leaves that has not left yet, and everybody learns of it.

use slotcast::broadcast::{Broadcast, Event, Output, SendBuffer, Wake};
use slotcast::config::{ChannelConfig, Config};
use slotcast::id::{ArtifactId, ChannelId};
use slotcast::time::Time;
use slotcast::wire::{Refusal, Request};
use slotcast_testkit::machines::{
    CHANNEL, Frame, LARGE_CHUNKS, Net, Solo, config, large, ms, node, peer, range, small,
};

#[test]
fn l4_an_abort_before_the_first_send_leaves_nothing_to_be_sent() {
    let mut net = Net::new(config(|_| {}), 2);
    net.choke(0, 1);
    for block in [small(1), large(2)] {
        net.publish(0, &block);
        net.abort(0, &block);
    }
    net.unchoke(0, 1);
    net.run();
    assert_eq!((net.frames(0, 1), net.resets.len()), (vec![], 0));
    assert_eq!(net.nodes[1].known_count(), 0);
}

#[test]
fn l5_an_abort_in_flight_resets_the_stream_and_clears_the_slot() {
    let mut net = Net::new(config(|_| {}), 2);
    net.hold(0, 1);
    let block = small(1);
    net.publish(0, &block);
    net.run();
    let push = net.streams(0, 1)[0];
    net.deliver(push, 50);
    net.abort(0, &block);
    assert_eq!(net.resets, [(0, 1)]);
    net.release(0, 1);
    net.run();
    let push = Frame::Push { slot: 0, version: 1, id: block.id() };
    assert_eq!(net.frames(0, 1), [push, Frame::Clear { slot: 0, version: 2 }]);
    assert_eq!(net.nodes[1].known_count(), 0);
    assert_eq!(net.events(1), []);
}

#[test]
fn a_batch_is_reset_only_when_all_in_it_is_obsolete() {
    let mut net = Net::new(config(|_| {}), 2);
    net.hold_acks = true;
    net.hold(0, 1);
    (1..=3).for_each(|number| net.publish(0, &small(number)));
    net.run();
    net.abort(0, &small(1));
    net.abort(0, &small(3));
    assert_eq!(net.resets, []);
    net.abort(0, &small(2));
    assert_eq!(net.resets, [(0, 1)]);
    net.release(0, 1);
    net.run();
    assert_eq!(net.nodes[1].known_count(), 0);
}

#[test]
fn acknowledged_streams_are_never_reset() {
    let mut net = Net::new(config(|_| {}), 2);
    for number in 1..3 {
        net.publish(0, &small(number));
        net.run();
        net.abort(0, &small(number));
        net.run();
    }
    assert_eq!(net.resets, []);
}

/// A clear is all that a peer hears of its slot, until something newer is encoded.
#[test]
fn a_clear_is_obsolete_when_what_follows_it_is_sent() {
    let mut solo = Solo::new(&config(|channel| channel.clear_delay = ms(0)), 1);
    let sent = |solo: &mut Solo| solo.send(0, 1000).expect("an update").0.stream;
    solo.publish(&small(1));
    let push = sent(&mut solo).expect("updates have names");
    solo.acked(0, push);
    solo.abort(&small(1));
    let clear = sent(&mut solo).expect("updates have names");
    solo.publish(&small(2));
    solo.abort(&small(2));
    assert!(solo.send(0, 1000).is_none(), "it is clear");
    solo.publish(&small(3));
    assert_eq!(solo.outputs, []);
    let push = sent(&mut solo).expect("updates have names");
    assert_eq!(solo.outputs, [Output::Reset { peer: peer(0), stream: clear }]);
    // If that does not come either, it must be cleared again.
    solo.outputs.clear();
    solo.abort(&small(3));
    assert_eq!(solo.outputs, [Output::Reset { peer: peer(0), stream: push }]);
    assert_eq!(solo.sent(0), [Frame::Clear { slot: 0, version: 6 }]);
}

/// Not so if something else in its stream is still current.
#[test]
fn a_batch_with_clears_is_reset_when_all_in_it_is_obsolete() {
    let mut net = Net::new(config(|_| {}), 2);
    (1..=2).for_each(|number| net.publish(0, &small(number)));
    net.run();
    net.hold_acks = true;
    net.hold(0, 1);
    net.choke(0, 1);
    net.abort(0, &small(1));
    net.publish(0, &small(3));
    net.abort(0, &small(2));
    net.unchoke(0, 1);
    net.run();
    // A push in the first slot, and a clear of the other one.
    net.publish(0, &small(4));
    net.run();
    assert_eq!(net.resets, []);
    net.abort(0, &small(3));
    assert_eq!(net.resets, [(0, 1)]);
    net.hold_acks = false;
    net.release(0, 1);
    net.run();
    assert!(net.delivered_at_last(1, &small(4)));
    assert_eq!(net.nodes[1].known_count(), 1);
}

/// The aborted artifact's stream was acknowledged long ago; its name has been given to many others
/// since, and is that of the last push now.
#[test]
fn an_abort_does_not_reset_the_stream_that_has_the_name_of_an_old_one() {
    let mut solo = Solo::new(&config(|_| {}), 1);
    let (old, passing, new) = (small(1), small(2), small(3));
    let round = |solo: &mut Solo| {
        let (send, _) = solo.send(0, 1000).expect("an update");
        solo.acked(0, send.stream.expect("updates have names"));
        send.stream
    };
    solo.publish(&old);
    let name = round(&mut solo);
    for _ in 0..(1 << 15) - 1 {
        solo.publish(&passing);
        assert_ne!(round(&mut solo), name);
        solo.abort(&passing);
        round(&mut solo);
    }
    solo.publish(&passing);
    round(&mut solo);
    solo.publish(&new);
    solo.send(0, 1000).expect("the push of the new one");
    solo.abort(&old);
    assert_eq!(solo.outputs, []);
}

#[test]
fn l5_an_abort_while_chunks_are_served_ends_the_answer_at_once() {
    let mut net = Net::new(config(|_| {}), 2);
    net.room = 1000;
    let block = large(1);
    net.hold(0, 1);
    net.publish(0, &block);
    net.run();
    net.deliver(net.streams(0, 1)[0], usize::MAX);
    net.choke(0, 1);
    net.run();
    let (answer, send) = net.send(0, 1, 1000).expect("the first chunk");
    assert!(!send.finish);
    net.abort(0, &block);
    assert_eq!(net.resets, [(0, 1)], "the answer");
    net.unchoke(0, 1);
    net.run();
    assert_eq!(net.chunks(0, 1), [0], "no chunk after the abort");
    assert_eq!(net.frames(0, 1).last(), Some(&Frame::Clear { slot: 0, version: 2 }));
    net.deliver(answer, usize::MAX);
    net.release(0, 1);
    net.run();
    assert_eq!(net.nodes[1].known_count(), 0);
    net.wake();
    assert!(!net.wake(), "nobody waits for anything");
}

#[test]
fn a_request_not_yet_answered_is_refused_when_its_artifact_is_aborted() {
    let mut solo = Solo::new(&config(|_| {}), 1);
    let block = large(1);
    solo.publish(&block);
    solo.sent(0);
    let id = block.id();
    solo.request(
        0,
        Request::Fetch { request: 77, channel: CHANNEL, id, ranges: range(0..LARGE_CHUNKS) },
    );
    solo.abort(&block);
    let refused = Frame::Refuse(77, Refusal::NotHeld);
    assert_eq!(solo.sent(0), [refused, Frame::Clear { slot: 0, version: 2 }]);
}

#[test]
fn an_abort_is_told_as_withdrawn_and_the_last_one_as_expired() {
    let mut net = Net::new(config(|_| {}), 3);
    let block = small(1);
    net.publish(0, &block);
    net.publish(1, &block);
    net.run();
    assert_eq!(net.delivered(2), [block.id()]);
    net.abort(0, &block);
    net.run();
    assert_eq!(net.events(2), [Event::Withdrawn { id: block.id(), by: node(0) }]);
    net.abort(1, &block);
    net.run();
    assert_eq!(net.events(2), [Event::Expired { id: block.id() }]);
    assert_eq!(net.events(0), [], "its own artifact was never delivered to it");
}

#[test]
fn a_channel_may_keep_withdrawals_to_itself() {
    let mut net = Net::new(config(|channel| channel.tells_withdrawals = false), 3);
    let block = small(1);
    for _ in 0..2 {
        (0..2).for_each(|at| net.publish(at, &block));
        net.run();
        assert_eq!(net.delivered(2), [block.id()], "again, once it was gone");
        for at in 0..2 {
            net.abort(at, &block);
            net.run();
            assert_eq!(net.events(2), []);
        }
        assert_eq!(net.nodes[2].known_count(), 0);
    }
}

#[test]
fn what_came_and_went_before_the_application_looked_is_not_reported() {
    let mut net = Net::new(config(|_| {}), 2);
    for block in [small(1), large(2)] {
        net.publish(0, &block);
        net.run();
        assert!(net.nodes[1].has_events(CHANNEL));
        net.abort(0, &block);
        net.run();
        assert_eq!(net.events(1), []);
    }
    assert_eq!(net.nodes[1].known_count(), 0);
}

#[test]
fn an_artifact_that_was_gone_for_a_while_expires_and_is_delivered_anew() {
    let mut solo = Solo::new(&config(|_| {}), 1);
    let block = small(1);
    solo.push(0, 0, 1, &block);
    solo.expect_delivered([&block]);
    solo.clear(0, 0, 2);
    solo.push(0, 3, 3, &block);
    let expired = Event::Expired { id: block.id() };
    let again = Event::Delivered { artifact: block.clone(), from: node(0) };
    assert_eq!(solo.events(), [expired.clone(), again]);
    // Before the second delivery is taken, only the first life is reported.
    solo.clear(0, 3, 4);
    solo.push(0, 4, 5, &block);
    solo.clear(0, 4, 6);
    assert_eq!(solo.events().last(), Some(&expired));
    assert_eq!(solo.machine.known_count(), 0);
}

/// Invariant 7: a second delivery, if the expiry was reported in between.
#[test]
fn an_artifact_that_expired_is_delivered_again_when_it_comes_back() {
    let mut solo = Solo::new(&config(|_| {}), 1);
    let (block, id) = (small(1), small(1).id());
    solo.push(0, 0, 1, &block);
    solo.expect_delivered([&block]);
    solo.clear(0, 0, 2);
    assert_eq!(solo.events(), [Event::Expired { id }]);
    solo.push(0, 0, 3, &block);
    solo.expect_delivered([&block]);
}

#[test]
fn a_stopped_batch_is_not_reset_later() {
    let mut solo = Solo::new(&config(|_| {}), 1);
    solo.publish(&small(1));
    let (send, _) = solo.send(0, 1000).expect("a push");
    solo.stopped(0, send.stream.expect("updates have names"));
    solo.abort(&small(1));
    assert_eq!(solo.outputs, []);
}

#[test]
fn a_connection_that_ends_takes_its_resets_along() {
    let mut solo = Solo::new(&config(|_| {}), 1);
    solo.publish(&small(1));
    solo.send(0, 1000).expect("a push");
    // Without a poll between the two.
    solo.machine.abort(CHANNEL, &small(1).id());
    solo.machine.peer_down(solo.now, peer(0));
    solo.settle();
    assert!(!solo.outputs.iter().any(|output| matches!(output, Output::Reset { .. })));
}

/// A machine with a peer that was pushed an artifact and has acknowledged it, and a time long after that.
fn pushed_long_ago(config: &Config) -> (Broadcast, ArtifactId, Time) {
    let mut machine = Broadcast::new(config, node(1), 1).unwrap();
    machine.add_peer(peer(0), node(0));
    machine.peer_up(Time(1), peer(0), |_| true);
    machine.publish(CHANNEL, small(1)).unwrap();
    let mut out = SendBuffer::new();
    while let Some((to, flow)) = machine.poll_ready() {
        while let Some(sent) = machine.poll_flow(to, flow, 1 << 16, true, &mut out) {
            machine.handle_acked(to, sent.stream.expect("updates"));
        }
    }
    (machine, small(1).id(), Time(1) + ms(10_000))
}

#[test]
fn a_clear_that_nobody_waits_for_is_sent_when_it_is_due() {
    let (mut machine, id, now) = pushed_long_ago(&config(|_| {}));
    let never = Output::Idle { wake_at: Time::NEVER, why: Wake::Input };
    assert_eq!(machine.poll(Time(2)), never);
    // The machine has not been told the time for a while.
    assert!(machine.abort(CHANNEL, &id));
    let due = now + ms(50);
    assert_eq!(machine.poll(now), Output::Idle { wake_at: due, why: Wake::Update });
    assert_eq!(machine.poll_ready(), None);
    // Unless it is sent, the peer is late after 250 ms, and behind after five seconds more.
    let wake_at = now + ms(250) + ms(5000);
    assert_eq!(machine.poll(due), Output::Idle { wake_at, why: Wake::Lag });
    let (to, flow) = machine.poll_ready().expect("it is due");
    assert!(machine.poll_flow(to, flow, 1 << 16, true, &mut SendBuffer::new()).is_some());
    assert_eq!(machine.poll_ready(), None);
}

#[test]
fn a_later_clear_has_a_deadline_of_its_own() {
    let (mut machine, id, now) = pushed_long_ago(&config(|_| {}));
    machine.publish(CHANNEL, small(2)).unwrap();
    let mut out = SendBuffer::new();
    let mut send = |machine: &mut Broadcast| {
        let (to, flow) = machine.poll_ready()?;
        let sent = machine.poll_flow(to, flow, 1 << 16, true, &mut out);
        assert!(machine.poll_flow(to, flow, 1 << 16, true, &mut out).is_none());
        sent
    };
    assert!(send(&mut machine).is_some());
    assert!(machine.abort(CHANNEL, &id));
    machine.poll(now);
    // It goes along with another artifact, whose clear comes just before the deadline of the first.
    machine.publish(CHANNEL, small(3)).unwrap();
    assert!(send(&mut machine).is_some());
    assert!(machine.abort(CHANNEL, &small(2).id()));
    machine.poll(now + ms(49));
    let due = now + ms(100);
    assert_eq!(machine.poll(now + ms(50)), Output::Idle { wake_at: due, why: Wake::Update });
    assert!(send(&mut machine).is_none());
    machine.poll(due);
    assert!(send(&mut machine).is_some());
}

#[test]
fn a_clear_goes_along_with_what_is_sent_anyway() {
    let (mut machine, id, now) = pushed_long_ago(&config(|_| {}));
    assert!(machine.abort(CHANNEL, &id));
    machine.poll(now);
    assert_eq!(machine.poll_ready(), None);
    machine.publish(CHANNEL, small(2)).unwrap();
    let (to, flow) = machine.poll_ready().expect("the other one");
    assert!(machine.poll_flow(to, flow, 1 << 16, true, &mut SendBuffer::new()).is_some());
    let never = Output::Idle { wake_at: Time::NEVER, why: Wake::Input };
    assert_eq!(machine.poll(now + ms(50)), never);
    assert_eq!(machine.poll_ready(), None, "nothing is left to be sent");
}

#[test]
fn a_clear_goes_along_with_what_another_channel_sends() {
    let mut config = config(|_| {});
    let other = ChannelId(CHANNEL.0 + 1);
    config.channels.push(ChannelConfig::new(other));
    let (mut machine, id, now) = pushed_long_ago(&config);
    assert!(machine.abort(CHANNEL, &id));
    machine.poll(now);
    assert_eq!(machine.poll_ready(), None);
    machine.publish(other, small(2)).unwrap();
    let mut out = SendBuffer::new();
    let (to, first) = machine.poll_ready().expect("the artifact");
    assert!(machine.poll_flow(to, first, 1 << 16, true, &mut out).is_some());
    let (to, flow) = machine.poll_ready().expect("the clear");
    assert_ne!(flow, first);
    assert!(machine.poll_flow(to, flow, 1 << 16, true, &mut out).is_some());
    assert_eq!(machine.poll_ready(), None);
}
