//! Channels: many over one connection, and those that do not suit each other.

use slotcast::config::{ChannelConfig, Config};
use slotcast::id::ChannelId;
use slotcast::wire::CHANNELS_MAX;
use slotcast_sim::Setup;

use crate::subnet::{Recorded, of, started};
use slotcast_testkit::machines::{CHANNEL, OTHER, artifact, config, ms, small};

#[test]
fn as_many_channels_as_there_may_be_share_one_connection() {
    let channels = || (0..CHANNELS_MAX).map(|at| ChannelConfig::new(ChannelId(at as u16 * 1021)));
    let mut subnet = started(&Config::new(channels()), 2);
    for (at, channel) in channels().enumerate() {
        for number in 0..20 {
            let number = number + 100 * at as u64;
            subnet.with(at % 2, |node| node.publish(channel.id, small(number))).unwrap();
        }
        let block = artifact(at as u64, 100_000);
        subnet.with(at % 2, |node| node.publish(channel.id, block)).unwrap();
    }
    subnet.run_until("all is delivered", ms(5000), |subnet| {
        (0..2).all(|at| subnet.delivered(at).len() == 21 * CHANNELS_MAX / 2)
    });
    subnet.settle();
    for at in 0..2 {
        for (place, channel) in channels().enumerate() {
            let of =
                subnet.application.events[at].iter().filter(|(id, _)| *id == channel.id).count();
            assert_eq!(of, if place % 2 == at { 0 } else { 21 });
        }
        assert_eq!(subnet.stats(at).connections, 1);
    }
    subnet.assert_peace();
}

#[test]
fn a_channel_that_only_one_side_has_is_inert() {
    let two = Config::new([ChannelConfig::new(CHANNEL), ChannelConfig::new(OTHER)]);
    let mut subnet = of(Setup::with_configs(vec![two.clone(), config(|_| {}), two]));
    subnet.connect();
    let before = subnet.sent(0, 1);
    for number in 0..100 {
        subnet.with(0, |node| node.publish(OTHER, artifact(number, 10_000))).unwrap();
    }
    subnet.publish(0, &small(1));
    subnet.settle();
    assert_eq!(subnet.delivered(1), [small(1).id()]);
    assert_eq!(subnet.delivered(2).len(), 101);
    assert!(subnet.sent(0, 1) - before < 2000, "{}", subnet.sent(0, 1) - before);
    subnet.assert_peace();
}

#[test]
fn a_channel_with_other_bounds_is_inert_in_the_direction_that_does_not_suit() {
    let wide = |channel: &mut ChannelConfig| {
        channel.slots_max = 10;
        channel.artifact_bytes_max = 1 << 20;
        channel.push_bytes_max = 1000;
    };
    let narrow = |at: usize| {
        move |channel: &mut ChannelConfig| {
            wide(channel);
            match at {
                0 => channel.slots_max = 9,
                1 => channel.artifact_bytes_max -= 1,
                _ => channel.push_bytes_max -= 1,
            }
        }
    };
    for bound in 0..3 {
        for wider in 0..2 {
            let mut configs = vec![config(wide), config(wide)];
            configs[1 - wider] = config(narrow(bound));
            let mut subnet = of(Setup::with_configs(configs));
            subnet.connect();
            for at in 0..2 {
                for number in 0..5 {
                    subnet.publish(at, &artifact(10 * at as u64 + number, 500 * number as usize));
                }
            }
            subnet.elapse(ms(3000));
            assert_eq!(subnet.delivered(wider).len(), 5, "what is narrow fits into what is wide");
            assert_eq!(subnet.delivered(1 - wider).len(), 0);
            subnet.assert_peace();
        }
    }
}
