//! What handles ask the node: so much at a time, and waiting for the room costs nothing.

use crate::subnet::{Subnet, Waiting, config};

/// As the driver has it.
const QUESTIONS_MAX: usize = 1024;

#[test]
fn who_waits_for_room_to_ask_is_woken_when_there_is_some() {
    let mut subnet = Subnet::connected(2, &config());
    let channel = subnet.channel(0);
    let id = channel.publish("x", b"").expect("there is room");
    subnet.settle();
    let ask = || {
        let channel = channel.clone();
        let mut asking = Waiting::new(async move { channel.coverage(&id).await.is_some() });
        assert_eq!(asking.poll(), None);
        asking
    };
    // Their answers are not taken.
    let mut held = Vec::new();
    while held.len() < QUESTIONS_MAX {
        held.push(ask());
        subnet.settle();
    }
    let mut late = [ask(), ask()];
    let mut wakes = 0;
    for _ in 0..100 {
        subnet.settle();
        wakes += late.iter().filter(|asking| asking.is_woken()).count();
        assert_eq!(late.each_mut().map(Waiting::poll), [None, None]);
    }
    assert_eq!(wakes, 0, "there is no room");
    drop(held.pop());
    assert_eq!(late.each_ref().map(|asking| asking.is_woken()), [true, false], "room for one");
    assert_eq!(late[0].poll(), None);
    subnet.settle();
    assert_eq!(late.each_mut().map(Waiting::poll), [Some(true), None]);
    // Its answer is taken, which made room for the next.
    subnet.settle();
    assert_eq!(late[1].poll(), Some(true));
}
