//! Artifacts with keys, by handles: what they say at once is what the node does then.

use slotcast::artifact::Artifact;
use slotcast::broadcast::Event;
use slotcast::config::Config;
use slotcast::driver::Channel;
use slotcast::error::PublishError;

use crate::subnet::{Subnet, Waiting, config, ms};

fn narrow() -> Config {
    let mut config = config();
    config.channels[0].slots_max = 4;
    config.channels[0].artifact_bytes_max = 1000;
    config.channels[0].active_bytes_max = 1000;
    config
}

fn events(channel: &Channel) -> Vec<Event> {
    let mut events = Vec::new();
    channel.try_events(&mut events);
    events
}

#[test]
fn an_artifact_takes_the_place_of_what_has_its_key_and_name() {
    let mut subnet = Subnet::connected(2, &narrow());
    let (channel, inbox) = (subnet.channel(0), subnet.channel(1));
    let first = channel.publish_keyed(7, 0, vec![1; 600], b"first").expect("there is room");
    subnet.settle();
    let second = channel.publish_keyed(7, 0, vec![2; 1000], b"").expect("the first gives way");
    assert_eq!(channel.publish_keyed(7, 1, "x", b""), Err(PublishError::ActiveBytesExceeded));
    let third = channel.publish_keyed(7, 0, vec![3; 100], b"").expect("the second gives way");
    assert!(!channel.abort(&first) && !channel.abort(&second));
    subnet.settle();
    let told = events(&inbox);
    let [Event::Delivered { artifact: one, .. }, Event::Delivered { artifact: other, .. }, gone] =
        &told[..]
    else {
        panic!("{told:?}")
    };
    assert_eq!((one.id(), one.key(), other.id()), (first, Some(7), third));
    assert_eq!(*gone, Event::Expired { id: first });
    // The same one again, under that name and another one.
    assert_eq!(channel.publish_keyed(7, 0, vec![3; 100], b""), Ok(third));
    assert_eq!(channel.publish_keyed(7, 1, vec![3; 100], b""), Ok(third));
    channel.publish_keyed(7, 0, "new", b"").expect("nothing gives way");
    assert!(channel.abort(&third));
    subnet.elapse(ms(200));
    let last = [Event::Expired { id: third }];
    assert_eq!(events(&inbox)[1..], last);
}

#[test]
fn what_is_below_a_key_is_aborted_and_leaves_its_room() {
    let mut subnet = Subnet::connected(2, &narrow());
    let (channel, inbox) = (subnet.channel(0), subnet.channel(1));
    for key in [3, 1, 2] {
        channel.publish_keyed(key, 0, vec![key as u8; 200], b"").expect("there is room");
    }
    let plain = channel.publish(vec![9; 200], b"").expect("there is room");
    let keyed = Artifact::keyed(1, "by itself".into(), b"").expect("short");
    assert_eq!(channel.publish_artifact(&keyed), Err(PublishError::OutboxFull));
    subnet.settle();
    assert_eq!(events(&inbox).len(), 4);
    let mut rooms = [0; 2].map(|_| Waiting::new(channel.room(200)));
    assert!(rooms.iter_mut().all(|room| room.poll().is_none()));
    assert_eq!(channel.abort_below(1), 0);
    assert_eq!(channel.abort_below(3), 2);
    // Who waited for room is woken one after the other.
    assert!(rooms.iter_mut().all(|room| room.poll() == Some(Ok(()))));
    channel.publish_artifact(&keyed).expect("there is room");
    assert_eq!(channel.abort_below(u64::MAX), 2);
    subnet.elapse(ms(200));
    let expired = events(&inbox);
    assert!(expired.iter().all(|event| matches!(event, Event::Expired { id } if *id != plain)));
    assert_eq!(expired.len(), 3, "the last one was aborted before it was sent: {expired:?}");
    assert!(channel.abort(&plain));
    assert_eq!(channel.abort_below(u64::MAX), 0);
}

#[test]
fn a_shorter_artifact_in_place_of_a_longer_one_leaves_room() {
    let mut subnet = Subnet::connected(2, &narrow());
    let channel = subnet.channel(0);
    channel.publish_keyed(7, 0, vec![1; 900], b"").expect("there is room");
    subnet.settle();
    let mut room = Waiting::new(channel.room(500));
    assert_eq!(room.poll(), None);
    channel.publish_keyed(7, 0, vec![2; 10], b"").expect("there is room");
    assert_eq!(room.poll(), Some(Ok(())));
}
