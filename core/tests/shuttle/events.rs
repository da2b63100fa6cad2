//! Events of a channel, room in it, and the end.

use std::time::Duration;

use shuttle::future::block_on;
use shuttle::thread::{self, JoinHandle};
use slotcast::broadcast::Event;
use slotcast::config::ChannelConfig;
use slotcast::driver::{Channel, DriverError, Select};
use slotcast::error::PublishError;

use crate::check;
use crate::nodes::{Node, channel_config, poll_twice, solo, solo_staging};

const SCHEDULES: usize = 4_000;

/// A thread that takes one event, if there is one before the end.
fn taker(channel: &Channel) -> JoinHandle<Option<Event>> {
    let channel = channel.clone();
    thread::spawn(move || block_on(channel.next_event()))
}

fn is_delivered(event: &Option<Event>) -> bool {
    matches!(event, Some(Event::Delivered { .. }))
}

fn publish(channel: &Channel, names: &[&'static str]) {
    for name in names {
        channel.publish(*name, b"").expect("there is room");
    }
}

/// Room for one artifact.
fn narrow() -> ChannelConfig {
    let mut config = channel_config();
    config.slots_max = 1;
    config
}

pub(crate) fn two_events() {
    let node = solo(channel_config());
    let channel = node.channel();
    let takers = [taker(&channel), taker(&channel)];
    publish(&channel, &["a", "b"]);
    assert!(takers.into_iter().all(|taker| is_delivered(&taker.join().expect("no panic"))));
}

#[test]
fn two_takers_get_an_event_each() {
    check(SCHEDULES, two_events);
}

#[test]
fn a_taker_that_is_dropped_leaves_its_event_to_the_next() {
    check(SCHEDULES, || {
        let node = solo(channel_config());
        let channel = node.channel();
        let impatient = thread::spawn({
            let channel = channel.clone();
            move || poll_twice(channel.next_event()).is_some()
        });
        let patient = taker(&channel);
        publish(&channel, &["a"]);
        if impatient.join().expect("no panic") {
            publish(&channel, &["b"]);
        }
        assert!(is_delivered(&patient.join().expect("no panic")));
    });
}

#[test]
fn who_takes_all_in_one_order_and_who_takes_a_channel_get_an_event_each() {
    check(SCHEDULES, || {
        let node = solo(channel_config());
        let channel = node.channel();
        let events = node.handle.events(&Select::all()).expect("configured");
        let all = thread::spawn(move || block_on(events.next_event()).is_some());
        let one = taker(&channel);
        publish(&channel, &["a", "b"]);
        assert!(all.join().expect("no panic") && is_delivered(&one.join().expect("no panic")));
    });
}

#[test]
fn who_takes_all_in_one_order_and_is_dropped_leaves_its_event_to_the_next() {
    check(SCHEDULES, || {
        let node = solo(channel_config());
        let channel = node.channel();
        let events = node.handle.events(&Select::all()).expect("configured");
        let impatient = thread::spawn(move || poll_twice(events.next_event()).is_some());
        let patient = taker(&channel);
        publish(&channel, &["a"]);
        if impatient.join().expect("no panic") {
            publish(&channel, &["b"]);
        }
        assert!(is_delivered(&patient.join().expect("no panic")));
    });
}

/// The driver sleeps with events that have no room, until some are taken.
#[test]
fn who_takes_events_has_the_driver_stage_more() {
    check(SCHEDULES, || {
        let node = solo_staging(2, channel_config());
        let channel = node.channel();
        let takers = [taker(&channel), taker(&channel)];
        publish(&channel, &["a", "b", "c", "d", "e", "f"]);
        for _ in 0..4 {
            if channel.try_event().is_none() {
                assert!(is_delivered(&block_on(channel.next_event())));
            }
        }
        assert!(takers.into_iter().all(|taker| is_delivered(&taker.join().expect("no panic"))));
    });
}

fn end_with(end: fn(&Node), is_expected: fn(Result<(), DriverError>) -> bool) {
    check(SCHEDULES, move || {
        let node = solo(narrow());
        let channel = node.channel();
        channel.publish("a", b"").expect("there is room");
        assert!(is_delivered(&block_on(channel.next_event())));
        let events = node.handle.events(&Select::all()).expect("configured");
        let (narrow, handle, other) = (channel.clone(), node.handle.clone(), node.handle.clone());
        let threads = [
            thread::spawn(move || block_on(channel.next_event()).is_none()),
            thread::spawn(move || block_on(events.next_event()).is_none()),
            thread::spawn(move || block_on(narrow.room(1)) == Err(PublishError::Closed)),
            thread::spawn(move || block_on(handle.next_event()).is_none()),
            thread::spawn(move || is_expected(block_on(other.closed()))),
        ];
        end(&node);
        assert!(threads.into_iter().all(|thread| thread.join().expect("no panic")));
    });
}

#[test]
fn a_shutdown_is_told_to_all_who_wait() {
    end_with(|node| drop(node.handle.shutdown()), |end| end.is_ok());
}

#[test]
fn the_drop_of_the_driver_is_told_to_all_who_wait() {
    end_with(|node| node.drop_driver(), |end| matches!(end, Err(DriverError::Dropped)));
}

/// A thread that waits for room, takes it, and gives it back.
fn passes_on(channel: &Channel, name: &'static str) -> JoinHandle<()> {
    let channel = channel.clone();
    thread::spawn(move || {
        loop {
            block_on(channel.room(1)).expect("before the end");
            // Somebody else may have been faster.
            if let Ok(id) = channel.publish(name, b"") {
                assert!(channel.abort(&id));
                return;
            }
        }
    })
}

#[test]
fn who_waits_for_room_gets_it_one_after_the_other() {
    check(SCHEDULES, || {
        let node = solo(narrow());
        let channel = node.channel();
        let id = channel.publish("a", b"").expect("there is room");
        let waiting = [passes_on(&channel, "b"), passes_on(&channel, "c")];
        assert!(channel.abort(&id));
        waiting.into_iter().for_each(|thread| thread.join().expect("no panic"));
    });
}

#[test]
fn who_waits_for_room_and_is_dropped_leaves_it_to_the_next() {
    check(SCHEDULES, || {
        let node = solo(narrow());
        let channel = node.channel();
        channel.publish_keyed(1, 0, "a", b"").expect("there is room");
        let impatient = thread::spawn({
            let channel = channel.clone();
            move || {
                let _ = poll_twice(channel.room(1));
            }
        });
        let patient = passes_on(&channel, "b");
        assert_eq!(channel.abort_below(2), 1);
        [impatient, patient].into_iter().for_each(|thread| thread.join().expect("no panic"));
    });
}

/// It never passes.
const SPAN: Duration = Duration::from_secs(1);

#[test]
fn snapshots_and_flushes_end_though_others_give_theirs_up() {
    check(SCHEDULES, || {
        let node = solo(channel_config());
        let asks = [0, 1].map(|_| {
            let handle = node.handle.clone();
            thread::spawn(move || {
                let _ = poll_twice(handle.snapshot());
                let _ = poll_twice(handle.flush(SPAN));
                assert!(block_on(handle.snapshot()).is_some());
                block_on(handle.flush(SPAN))
            })
        });
        for thread in asks {
            assert_eq!(thread.join().expect("no panic"), Ok(()));
        }
    });
}
