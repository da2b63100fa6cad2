//! What is staged for the application: so much and no more, and what there was no room for follows as
//! soon as some was taken.

use slotcast::broadcast::Event;

use crate::subnet::{Subnet, config, ms};

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
        taken.extend(std::iter::from_fn(|| server.try_next()));
        assert!(taken.len() > before, "no request was staged after {counts:?}");
        counts.push(taken.len() - before);
        // No time passes: taking them is what wakes the driver.
        subnet.settle();
    }
    assert!(counts.len() > 2, "{counts:?}");
    drop((taken, calls));
}
