//! `Order::HighestKeyFirst`: who is late is served, and asked for, the highest keys first, and the oldest in between.

use slotcast::artifact::Artifact;
use slotcast::broadcast::RequestId;
use slotcast::config::{ChannelConfig, Config, Order};
use slotcast::id::ArtifactId;
use slotcast_testkit::machines::{Frame, Net, Solo, artifact, config, ms};

fn keyed(key: u64, length: usize) -> Artifact {
    Artifact::keyed(key, artifact(key, length).to_bytes(), b"").expect("within the limits")
}

/// Everything that waits is late. The oldest have one percent of the bytes.
fn late(channel: &mut ChannelConfig) {
    channel.order = Order::HighestKeyFirst;
    channel.clear_delay = ms(0);
    channel.freshness.oldest_first_until = ms(0);
    channel.freshness.oldest_percent = 1;
}

/// The oldest have had more than their share.
fn net() -> Net {
    let mut net = Net::new(config(late), 2);
    net.publish(0, &keyed(900, 10_000));
    while net.send(0, 1, 60_000).is_some() {}
    net
}

fn publish(net: &mut Net, keys: &[u64]) {
    keys.iter().for_each(|key| net.publish(0, &keyed(*key, 200)));
    net.now = net.now + ms(1);
    net.settle(0);
}

/// The keys that were pushed since this was asked last, with room for so many at a time.
fn pushed(net: &mut Net, sends: usize, at_a_time: usize) -> Vec<u64> {
    let before = net.sent.len();
    for _ in 0..sends {
        net.send(0, 1, 250 * at_a_time);
    }
    let key = |frame: &Frame| match frame {
        Frame::Push { id, .. } => (0..1000).find(|key| keyed(*key, 200).id() == *id),
        _ => None,
    };
    net.sent[before..].iter().filter_map(|(.., frame)| key(frame)).collect()
}

#[test]
fn who_is_late_is_pushed_the_highest_keys_first() {
    let mut net = net();
    publish(&mut net, &[5, 1, 9, 3, 7, 2]);
    assert_eq!(pushed(&mut net, 2, 1), [9, 7]);
    // Higher and lower ones than those that were served, and than those that wait.
    publish(&mut net, &[4, 8, 6, 20]);
    assert_eq!(pushed(&mut net, 3, 2), [20, 8, 6, 5, 4, 3]);
    publish(&mut net, &[10]);
    assert_eq!(pushed(&mut net, 9, 9), [10, 2, 1]);
}

/// As long as all goes in time, the order is that of age.
#[test]
fn what_is_in_time_is_pushed_in_its_order() {
    let in_time = |channel: &mut ChannelConfig| channel.order = Order::HighestKeyFirst;
    let mut net = Net::new(config(in_time), 2);
    publish(&mut net, &[5, 1, 9]);
    assert_eq!(pushed(&mut net, 9, 1), [5, 1, 9]);
}

#[test]
fn the_oldest_have_their_share_beside_the_highest_keys() {
    let half = config(|channel| {
        late(channel);
        channel.freshness.oldest_percent = 50;
    });
    let mut net = Net::new(half, 2);
    publish(&mut net, &[1, 2, 3, 4, 5, 6]);
    assert_eq!(pushed(&mut net, 9, 1), [6, 1, 5, 2, 4, 3]);
}

/// Of what was aborted meanwhile nothing is sent, and what was sent is cleared first.
#[test]
fn an_abort_goes_before_the_highest_key() {
    let mut net = net();
    publish(&mut net, &[1, 2, 3, 4]);
    assert_eq!(pushed(&mut net, 2, 1), [4, 3]);
    net.abort(0, &keyed(4, 200));
    net.abort(0, &keyed(2, 200));
    publish(&mut net, &[9]);
    let before = net.sent.len();
    assert_eq!(pushed(&mut net, 9, 1), [9, 1]);
    let clears =
        net.sent[before..].iter().position(|(.., frame)| matches!(frame, Frame::Clear { .. }));
    assert_eq!(clears, Some(0));
}

/// A member that cannot ask for all asks for the highest keys first.
#[test]
fn the_highest_keys_are_asked_for_first() {
    let one_at_a_time = |order| {
        let mut config: Config = config(|channel| {
            late(channel);
            channel.order = order;
        });
        config.fetches_per_peer_max = 1;
        config
    };
    let order_of = |order| -> Vec<ArtifactId> {
        let mut solo = Solo::new(&one_at_a_time(order), 1);
        for (at, key) in [3, 5, 1, 9, 7].into_iter().enumerate() {
            solo.advert(0, at as u32, at as u64 + 1, &keyed(key, 20_000));
        }
        solo.now = solo.now + ms(1);
        let mut asked = Vec::new();
        for _ in 0..5 {
            let [Frame::Fetch { request, id, .. }] = &solo.sent(0)[..] else { panic!("a request") };
            asked.push(*id);
            let key = [1, 3, 5, 7, 9].into_iter().find(|key| keyed(*key, 20_000).id() == *id);
            let artifact = keyed(key.expect("advertised"), 20_000);
            solo.chunks(0, RequestId(*request), &artifact, 0..1);
        }
        asked
    };
    let ids = |keys: [u64; 5]| keys.map(|key| keyed(key, 20_000).id()).to_vec();
    // The first one is asked for at once.
    assert_eq!(order_of(Order::HighestKeyFirst), ids([3, 9, 7, 5, 1]));
    assert_eq!(order_of(Order::Age), ids([3, 7, 9, 1, 5]));
}
