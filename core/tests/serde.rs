//! Configurations, topologies and ids survive formats for people and others; what is not given has its
//! default, and what is unknown is refused.

use std::fmt::Debug;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use slotcast::config::{ChannelConfig, Class, Config, Order, Quota, Relay, RouteConfig};
use slotcast::id::{ArtifactId, ChannelId, NodeId, RouteId};
use slotcast::membership::{Overlay, Topology};

#[track_caller]
fn assert_survives<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) {
    let text = toml::to_string(value).expect("it can be written");
    assert_eq!(&toml::from_str::<T>(&text).expect("it can be read"), value, "{text}");
    let bytes = postcard::to_allocvec(value).expect("it can be written");
    assert_eq!(&postcard::from_bytes::<T>(&bytes).expect("it can be read"), value);
}

/// A configuration none of whose values is a default.
fn unusual() -> Config {
    let mut channel = ChannelConfig::new(ChannelId(7)).class(Class::Urgent);
    (channel.relay, channel.relay_slots_max, channel.relay_hops_max) = (Relay::Automatic, 9, 2);
    (channel.slots_max, channel.active_bytes_max) = (99, 1 << 30);
    (channel.artifact_bytes_max, channel.push_bytes_max) = (1 << 21, 5000);
    (channel.inbox_bytes_max, channel.spread_bytes_min) = (1 << 31, i64::MAX as u64);
    (channel.latency_sensitive, channel.tells_withdrawals) = (true, false);
    channel.quota = Some(Quota::per_second(300, 1 << 20));
    channel.clear_delay = Duration::from_micros(1500);
    channel.order = Order::HighestKeyFirst;
    let mut route = RouteConfig::new(RouteId(8), "sync").class(Class::Bulk).bytes_max(5, 6);
    (route.serves, route.in_flight_max, route.waiting_max) = (false, 3, 4);
    route.reads_in_parts = true;
    (route.deadline, route.deadline_max) = (Duration::from_nanos(7), Duration::from_secs(86_400));
    (route.body_bytes_max, route.rate_min) = (1 << 40, 77);
    let mut config = Config::new([channel]).routes([route]);
    (config.peers_max, config.batch_bytes_max) = (99, 2048);
    (config.fetches_per_peer_max, config.serves_per_peer_max) = (2, 3);
    config.streamed_per_peer_max = 5;
    (config.fetch_timeout, config.fetch_retry) = (Duration::from_secs(9), Duration::from_secs(8));
    let t = &mut config.transport;
    (t.overlay, t.uplink) = (Overlay::Regular { degree: 8 }, Some(1 << 30));
    (t.mtu_max, t.streams_max, t.stream_window) = (9000, 64, 3 << 20);
    t.idle_timeout = Duration::from_millis(4500);
    (t.filter_addresses, t.shutdown_timeout) = (false, Duration::from_secs(2));
    (config.driver.commands_max, config.driver.poll_max) = (77, Duration::from_micros(300));
    config
}

#[test]
fn configurations_survive() {
    assert_survives(&Config::new([ChannelConfig::new(ChannelId(1))]));
    assert_survives(&unusual());
}

#[test]
fn what_is_not_given_has_its_default() {
    let text = r#"
        [[channels]]
        id = 5
        clear_delay = "50ms"
        order = "highest-key-first"
        [[routes]]
        id = 6
        name = "blocks"
        [transport]
        overlay = { regular = { degree = 4 } }
    "#;
    let mut channel = ChannelConfig::new(ChannelId(5));
    channel.clear_delay = Duration::from_millis(50);
    channel.order = Order::HighestKeyFirst;
    let mut config = Config::new([channel]).routes([RouteConfig::new(RouteId(6), "blocks")]);
    config.transport.overlay = Overlay::Regular { degree: 4 };
    assert_eq!(toml::from_str::<Config>(text).unwrap(), config);
    assert_eq!(toml::from_str::<Config>("").unwrap(), Config::new([]));
}

#[test]
fn what_is_wrong_is_refused() {
    let error = |text: &str| toml::from_str::<Config>(text).unwrap_err().to_string();
    for (text, expected) in [
        ("peer_max = 5", "unknown field `peer_max`"),
        ("[transport]\nidle = \"1s\"", "unknown field `idle`"),
        ("[driver]\nidle = \"1s\"", "unknown field `idle`"),
        ("[[channels]]\nid = 5\nslot_max = 5", "unknown field `slot_max`"),
        ("[[channels]]\nslots_max = 5", "missing field `id`"),
        ("[[routes]]\nid = 5", "missing field `name`"),
        ("fetch_retry = 5", "a whole number and its unit"),
        ("fetch_retry = \"5\"", "a whole number and its unit"),
        ("[[channels]]\nid = 5\nclass = \"Urgent\"", "unknown variant `Urgent`"),
    ] {
        assert!(error(text).contains(expected), "{text}: {}", error(text));
    }
}

#[derive(Serialize, serde::Deserialize, PartialEq, Debug)]
struct Ids {
    node: NodeId,
    artifact: ArtifactId,
    channel: ChannelId,
    route: RouteId,
}

#[test]
fn ids_are_hexadecimal_digits_for_people_and_bytes_otherwise() {
    let node = NodeId([0xab; 32]);
    let ids = Ids { node, artifact: ArtifactId([7; 32]), channel: ChannelId(5), route: RouteId(6) };
    assert_survives(&ids);
    let text = toml::to_string(&ids).unwrap();
    assert!(text.contains(&format!("node = \"{}\"", "ab".repeat(32))), "{text}");
    let bytes = postcard::to_allocvec(&node).unwrap();
    assert_eq!(bytes, [vec![32], vec![0xab; 32]].concat(), "a length and the bytes");
    assert!(postcard::from_bytes::<NodeId>(&bytes[..32]).is_err());
    let long = postcard::to_allocvec(&vec![1_u8; 33]).unwrap();
    assert!(postcard::from_bytes::<NodeId>(&long).is_err());
}

fn topology() -> Topology {
    let address = |port| SocketAddr::from(([192, 0, 2, 1], port));
    let id = |at| NodeId([at; 32]);
    let members = [(id(1), vec![address(1), address(2)]), (id(2), vec![address(3)])];
    let topology = Topology::new(7, members).unwrap();
    // The first has the key that is the second one's id.
    topology.keys(id(2), [id(9), id(3)]).unwrap().keys(id(1), [id(2)]).unwrap()
}

#[test]
fn topologies_survive_and_are_topology_files() {
    assert_survives(&topology());
    assert_survives(&Topology::default());
    let text = toml::to_string(&topology()).unwrap();
    assert_eq!(Topology::from_toml(text.as_bytes()), Ok(topology()));
}

#[test]
fn topologies_are_checked() {
    let error = |text: &str| toml::from_str::<Topology>(text).unwrap_err().to_string();
    let member =
        format!("[[member]]\nid = \"{}\"\naddresses = [\"192.0.2.1:1\"]\n", NodeId([1; 32]));
    let twice = format!("version = 1\n{member}{member}");
    assert!(error(&twice).contains("is named twice"), "{}", error(&twice));
    let keyless = format!("version = 1\n{member}keys = []\n");
    assert!(error(&keyless).contains("needs 1 to 2 different keys"), "{}", error(&keyless));
    let unknown = format!("version = 1\n{member}key = []\n");
    assert!(error(&unknown).contains("unknown field `key`"), "{}", error(&unknown));
}
