//! What a member can do within the rules of the wire, on purpose: be silent, never acknowledge, flap.

use slotcast::artifact::{Advert, Metadata};
use slotcast::broadcast::{RequestId, Taken};
use slotcast::config::{ChannelConfig, Relay};
use slotcast::id::{ArtifactId, Slot, Version};
use slotcast::wire::{Refusal, Update};
use slotcast_testkit::machines::{
    CHANNEL, Frame, LARGE_CHUNKS, Solo, Tap, artifact, config, large, ms, small,
};

/// Adverts of the longest artifacts, which nobody has.
fn advertise_in_vain(solo: &mut Solo, at: usize, count: u32) {
    for slot in 0..count {
        let (length, metadata) = (16 << 20, Metadata::new());
        let advert =
            Advert { length, key: None, publisher: None, metadata, root: [slot as u8; 32] };
        let (slot, version) = (Slot(slot), Version(u64::from(slot) + 1));
        let update =
            Update::Advert { slot, version, hops: 0, streamed: false, spread: false, advert };
        assert_eq!(solo.update(at, &update), Ok(Taken::Done));
    }
}

/// Invariant 11.
#[test]
fn l7_a_silent_holder_stops_neither_pushes_nor_what_others_hold() {
    let mut solo = Solo::new(&config(|_| {}), 2);
    advertise_in_vain(&mut solo, 0, 64);
    solo.sent(0);
    for round in 0..20_u32 {
        let (pushed, fetched) = (small(u64::from(round)), large(100 + u64::from(round)));
        let version = u64::from(round) * 4;
        solo.push(1, 0, version + 1, &pushed);
        solo.expect_delivered([&pushed]);
        solo.advert(1, 1, version + 2, &fetched);
        let chunks = 0..fetched.advert().chunks();
        let request = solo.asked(1, &fetched, chunks.clone());
        solo.chunks(1, request, &fetched, chunks);
        solo.expect_delivered([&fetched]);
        solo.clear(1, 0, version + 3);
        solo.clear(1, 1, version + 4);
        solo.events();
        // The silent one's requests fail, and are made again.
        solo.wake();
        solo.sent(0);
    }
}

/// Room for sixteen artifacts of [`large`] being fetched, two of them from one holder.
fn shared(channel: &mut ChannelConfig) {
    (channel.artifact_bytes_max, channel.inbox_bytes_max) = (1_000_000, 16 * 200_000);
}

/// Invariant 11: so many silent holders are needed to take all the room of a channel.
#[test]
fn a_holder_gets_its_share_of_the_channels_room() {
    let mut solo = Solo::new(&config(shared), 2);
    for number in 0..5 {
        solo.advert(0, number, 1 + u64::from(number), &large(number.into()));
        solo.advert(1, number, 1 + u64::from(number), &large(100 + u64::from(number)));
    }
    let asked = |solo: &mut Solo, at| -> Vec<(RequestId, ArtifactId)> {
        let fetch = |frame| match frame {
            Frame::Fetch { request, id, .. } => Some((RequestId(request), id)),
            _ => None,
        };
        solo.sent(at).into_iter().filter_map(fetch).collect()
    };
    let ids =
        |asked: &[(RequestId, ArtifactId)]| -> Vec<_> { asked.iter().map(|(_, id)| *id).collect() };
    let first = asked(&mut solo, 0);
    assert_eq!(ids(&first), [large(0).id(), large(1).id()]);
    assert_eq!(asked(&mut solo, 1).len(), 2, "one's share is not the other's loss");
    // What has arrived makes room, and so does what has failed.
    solo.chunks(0, first[0].0, &large(0), 0..LARGE_CHUNKS);
    let second = asked(&mut solo, 0);
    assert_eq!(ids(&second), [large(1).id()], "what is begun goes on first");
    for (request, _) in [&first[1..], &second].concat() {
        solo.refuse(0, request, Refusal::NotHeld);
    }
    let mut third = ids(&asked(&mut solo, 0));
    third.dedup();
    assert_eq!(third, [large(2).id(), large(3).id()], "each in one request or more");
}

#[test]
fn an_artifact_longer_than_its_holders_share_goes_alone() {
    let mut solo = Solo::new(&config(shared), 1);
    let long = artifact(1, 600_000);
    solo.advert(0, 0, 1, &long);
    solo.advert(0, 1, 2, &large(2));
    let mut left = 37;
    while left > 0 {
        for frame in solo.sent(0) {
            let Frame::Fetch { request, id, chunks } = frame else { panic!("{frame:?}") };
            assert_eq!(id, long.id());
            left -= chunks.len();
            for chunk in chunks {
                solo.chunk(0, RequestId(request), &long, chunk).expect("it is right");
            }
        }
    }
    solo.asked(0, &large(2), 0..LARGE_CHUNKS);
}

/// Invariant 11.
#[test]
fn a_holder_streams_no_more_unasked_than_it_would_be_asked_for() {
    let mut solo = Solo::new(
        &config(|channel| {
            shared(channel);
            channel.latency_sensitive = true;
        }),
        2,
    );
    let streamed =
        |solo: &mut Solo, at, slot: u32| solo.stream(at, slot, slot.into(), &large(slot.into()));
    let Taken::Chunks(first) = streamed(&mut solo, 0, 1) else { panic!("wanted") };
    assert!(matches!(streamed(&mut solo, 0, 2), Taken::Chunks(_)));
    assert_eq!(streamed(&mut solo, 0, 3), Taken::Unwanted);
    assert!(matches!(streamed(&mut solo, 1, 4), Taken::Chunks(_)));
    assert_eq!(solo.sent(0), [], "nor is it asked for");
    solo.chunks(0, first, &large(1), 0..LARGE_CHUNKS);
    // So much at first, with what is streamed beside it.
    solo.asked(0, &large(3), 0..4);
}

/// Invariant 8.
#[test]
fn l20_a_peer_that_acknowledges_nothing_gets_no_more_streams_than_the_limit() {
    // All are active: a stream of which nothing is current any more would be reset.
    let mut solo = Solo::new(&config(|channel| channel.slots_max = 5_001), 2);
    let mut places = 0;
    for number in 0..5_000 {
        solo.publish(&small(number));
        if let Some((send, _)) = solo.send(0, 1 << 16) {
            places = places.max(send.stream.expect("updates").index() + 1);
        }
        while let Some((send, _)) = solo.send(1, 1 << 16) {
            solo.acked(1, send.stream.expect("updates"));
        }
    }
    assert_eq!(places, 4096);
    assert!(
        !solo.machine.has_backlog(slotcast_testkit::machines::peer(0)),
        "nothing that can be sent"
    );
    assert!(solo.send(0, 1 << 16).is_none());
    // Back to normal with the next connection.
    solo.up(0);
    solo.publish(&small(5_000));
    assert!(solo.send(0, 1 << 16).is_some());
}

/// Invariant 2.
#[test]
fn a_relay_repeated_for_one_peer_is_no_news_to_the_others() {
    let relaying = config(|channel| *channel = channel.clone().relaying(Relay::Confirmed, 16));
    let mut solo = Solo::new(&relaying, 3);
    let block = small(1);
    solo.push(0, 0, 1, &block);
    solo.advert(1, 0, 1, &block);
    solo.expect_delivered([&block]);
    (0..3).for_each(|at| drop(solo.sent(at)));
    solo.machine.relay(CHANNEL, &block).unwrap();
    assert_eq!(solo.sent(1), [], "it has the artifact itself");
    assert!(matches!(solo.sent(2)[..], [Frame::Advert { .. }]));
    for round in 1..10 {
        solo.clear(1, 0, 2 * round);
        assert_eq!(solo.sent(1).iter().filter(|frame| frame.told() == Some(block.id())).count(), 1);
        assert_eq!(solo.sent(2), []);
        solo.advert(1, 0, 2 * round + 1, &block);
        solo.sent(1);
        solo.machine.abort(CHANNEL, &block.id());
        solo.machine.relay(CHANNEL, &block).unwrap();
        solo.sent(1);
        solo.sent(2);
    }
}

/// What this node relays, it need not tell a member that advertises it, too: until that takes it back. Others, who are
/// sent as much as is published, wait for the relay as for anything else. Invariant 11.
#[test]
fn who_takes_back_again_and_again_what_is_relayed_keeps_it_from_nobody() {
    let mut solo = Solo::new(&config(|c| *c = c.clone().relaying(Relay::Automatic, 200)), 3);
    let relayed = small(0);
    (1..11).for_each(|number| solo.publish(&small(number)));
    solo.push(0, 0, 1, &relayed);
    let mut told = false;
    for round in 0..20 {
        solo.push(1, 0, 2 * round + 1, &relayed);
        solo.clear(1, 0, 2 * round + 2);
        for number in 0..5 {
            solo.publish(&small(100 + 5 * round + number));
            let (_, bytes) = solo.send(2, 200).expect("it is behind");
            let frames = Tap::default().read(&bytes);
            told |= frames.iter().any(|frame| frame.told() == Some(relayed.id()));
        }
        solo.elapse(ms(20));
    }
    assert!(told);
}
