//! What is staged for the application: so much and no more, and what there was no room for follows as
//! soon as some was taken.

use slotcast::artifact::Artifact;
use slotcast::broadcast::Event;
use slotcast::error::PublishError;

use crate::subnet::{Subnet, Waiting, config, ms};

#[test]
fn events_beyond_the_stage_follow_as_soon_as_it_has_room() {
    let mut subnet = Subnet::connected(2, &config());
    let (from, to) = (subnet.channel(0), subnet.channel(1));
    for number in 0..1000_u32 {
        from.publish(number.to_be_bytes().to_vec(), b"").expect("there is room");
    }
    subnet.elapse(ms(1000));
    let mut counts = Vec::new();
    while counts.iter().sum::<usize>() < 1000 {
        let taken = std::iter::from_fn(|| to.try_event()).count();
        assert!(taken > 0, "no event was staged after {counts:?}");
        counts.push(taken);
        // No time passes: taking them is what wakes the driver.
        subnet.settle();
    }
    assert!(counts.len() > 2, "{counts:?}");
}

#[test]
fn who_takes_half_of_the_stage_has_it_filled_again() {
    let mut subnet = Subnet::connected(2, &config());
    let (from, to) = (subnet.channel(0), subnet.channel(1));
    for number in 0..1000_u32 {
        from.publish(number.to_be_bytes().to_vec(), b"").expect("there is room");
    }
    subnet.elapse(ms(1000));
    for _ in 0..1000 {
        let event = to.try_event();
        assert!(matches!(event, Some(Event::Delivered { .. })), "{event:?}");
        subnet.settle();
    }
    assert_eq!(to.try_event(), None);
}

#[test]
fn events_are_taken_all_at_once() {
    let mut subnet = Subnet::connected(2, &config());
    let (from, to) = (subnet.channel(0), subnet.channel(1));
    let made = |number: u32| Artifact::new(number.to_be_bytes().to_vec().into(), b"").unwrap();
    let artifacts: Vec<Artifact> = (0..1000).map(made).collect();
    from.publish_all(&artifacts).expect("there is room");
    subnet.elapse(ms(1000));
    let mut events = Vec::new();
    let mut counts = Vec::new();
    while events.len() < artifacts.len() {
        counts.push(subnet.run(to.next_events(&mut events)));
    }
    assert!((4..=8).contains(&counts.len()) && !counts.contains(&0), "{counts:?}");
    for (event, artifact) in events.iter().zip(&artifacts) {
        let Event::Delivered { artifact: delivered, .. } = event else { panic!("{event:?}") };
        assert_eq!(delivered, artifact, "in the order in which they were published");
    }
    subnet.settle();
    assert_eq!(to.try_events(&mut events), 0);
}

#[test]
fn publishing_many_does_all_or_nothing() {
    let mut config = config();
    config.channels[0].slots_max = 10;
    let mut subnet = Subnet::connected(2, &config);
    let (from, to) = (subnet.channel(0), subnet.channel(1));
    let made = |number: u8| Artifact::new(vec![number].into(), b"").unwrap();
    let artifacts: Vec<Artifact> = (0..11).map(made).collect();
    from.publish_all(&artifacts[..2]).expect("there is room");
    assert_eq!(from.publish_all(&artifacts), Err(PublishError::OutboxFull));
    assert!(!from.abort(&artifacts[2].id()), "nothing has changed");
    subnet.elapse(ms(100));
    let mut events = Vec::new();
    assert_eq!(to.try_events(&mut events), 2);
    // What is published already takes no room.
    from.publish_all(&artifacts[..10]).expect("there is room");
    subnet.elapse(ms(100));
    assert_eq!(to.try_events(&mut events), 8);
    assert!(from.abort(&artifacts[9].id()));
    from.publish_all(&artifacts[10..]).expect("one slot is free again");
}

#[test]
fn staged_events_are_bounded_by_their_bytes() {
    const MIB: usize = 1 << 20;
    let mut config = config();
    let channel = &mut config.channels[0];
    (channel.artifact_bytes_max, channel.inbox_bytes_max) = (MIB as u64, 2 * MIB as u64);
    let mut subnet = Subnet::connected(2, &config);
    let (from, to) = (subnet.channel(0), subnet.channel(1));
    for number in 0..40 {
        from.publish(vec![number; MIB], b"").expect("there is room");
    }
    subnet.elapse(ms(10_000));
    // One on the stage, and two in the inbox that it came from.
    let received = subnet.node(1).stats().received_bytes as usize;
    assert!((3 * MIB..5 * MIB).contains(&received), "{received}");
    for number in 0..40 {
        let event = subnet.run(to.next_event());
        assert!(matches!(event, Some(Event::Delivered { .. })), "{number}: {event:?}");
    }
}

#[test]
fn requests_beyond_the_stage_of_a_member_follow_as_soon_as_it_has_room() {
    // Answers are short: there is room for all of them.
    let mut config = config();
    (config.routes[0].request_bytes_max, config.routes[0].response_bytes_max) = (8, 1000);
    let mut subnet = Subnet::connected(2, &config);
    let server = subnet.serve(1);
    let (route, callee) = (subnet.route(0), subnet.id(1));
    let calls: Vec<_> = (0..60).map(|_| route.call(callee, "x")).collect();
    subnet.elapse(ms(500));
    let mut taken = Vec::new();
    let mut counts = Vec::new();
    while taken.len() < 60 {
        let before = taken.len();
        taken.extend(std::iter::from_fn(|| server.try_request()));
        assert!(taken.len() > before, "no request was staged after {counts:?}");
        counts.push(taken.len() - before);
        // No time passes: taking them is what wakes the driver.
        subnet.settle();
    }
    assert!(counts.len() > 2, "{counts:?}");
    drop((taken, calls));
}

/// [`Channel::abort_all`](slotcast::driver::Channel::abort_all).
#[test]
fn aborting_many_tells_how_many_were_active_and_wakes_the_driver_once() {
    let mut config = config();
    config.channels[0].slots_max = 10;
    let mut subnet = Subnet::connected(2, &config);
    let (from, to) = (subnet.channel(0), subnet.channel(1));
    let made = |number: u8| Artifact::new(vec![number].into(), b"").unwrap();
    let artifacts: Vec<Artifact> = (0..10).map(made).collect();
    from.publish_all(&artifacts).expect("there is room");
    subnet.elapse(ms(100));
    let mut events = Vec::new();
    assert_eq!(to.try_events(&mut events), 10);
    let mut room = Waiting::new(from.room(1));
    assert_eq!(room.poll(), None);
    let before = subnet.wakes(0);
    let ids: Vec<_> = artifacts[1..].iter().chain([&made(77)]).map(Artifact::id).collect();
    assert_eq!(from.abort_all(&ids), 9);
    assert_eq!(subnet.wakes(0) - before, 1);
    assert_eq!(room.poll(), Some(Ok(())));
    assert_eq!(from.abort_all(&ids), 0);
    subnet.elapse(ms(100));
    events.clear();
    assert_eq!(to.try_events(&mut events), 9);
    assert!(events.iter().all(|event| matches!(event, Event::Expired { .. })), "{events:?}");
    assert!(from.abort(&artifacts[0].id()));
}

/// [`Channel::room`](slotcast::driver::Channel::room).
#[test]
fn who_waits_for_room_waits_for_a_driver_that_is_behind_too() {
    let mut config = config();
    config.channels[0].slots_max = 4;
    config.driver.commands_max = 4;
    let mut subnet = Subnet::connected(2, &config);
    let channel = subnet.channel(0);
    let artifacts = [0, 1, 2, 3].map(|n: u8| Artifact::new(vec![n].into(), b"").unwrap());
    channel.publish_all(&artifacts).expect("there is room");
    subnet.settle();
    let mut rooms = [0; 2].map(|_| Waiting::new(channel.room(1)));
    assert!(rooms.iter_mut().all(|room| room.poll().is_none()));
    // The aborts fill the queue to the driver.
    assert_eq!(channel.abort_all(&artifacts.each_ref().map(Artifact::id)), 4);
    assert!(rooms.iter_mut().all(|room| room.poll().is_none()));
    let mut third = Waiting::new(channel.room(1));
    assert_eq!(third.poll(), None, "it would be busy");
    subnet.settle();
    assert!(rooms.iter_mut().chain([&mut third]).all(|room| room.poll() == Some(Ok(()))));
}
