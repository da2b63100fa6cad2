//! Metrics for Prometheus: names, units, and what the dashboard asks for.

use std::collections::{BTreeMap, BTreeSet};

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use slotcast::prometheus::Metrics;

use crate::subnet::{Subnet, Waiting, config, ms};

/// Names and types of all metrics. Dashboards and alerts of users depend on them.
const NAMES: &str = include_str!("../golden/metrics.txt");

/// Beside the sources of the metrics, for Grafana.
const DASHBOARD: &str = include_str!("../../grafana/dashboard.json");

fn scrape(subnet: &mut Subnet, registry: &Registry, metrics: &Metrics) -> String {
    assert!(subnet.run(metrics.refresh()));
    let mut text = String::new();
    encode(&mut text, registry).expect("a string takes everything");
    text
}

/// The metrics of a node with a channel, a route and a peer, all of which have been used.
fn scraped() -> String {
    let mut subnet = Subnet::connected(2, &config());
    let (server, caller) = (subnet.serve(1), subnet.route(0));
    let mut call = Waiting::new(caller.call(subnet.id(1), b"question".to_vec()));
    assert!(call.poll().is_none());
    let request = subnet.run(server.next_request()).expect("it is served");
    request.answer(b"answer".to_vec()).expect("it waits");
    subnet.channel(0).publish(vec![1; 100_000], b"").expect("there is room");
    subnet.elapse(ms(500));
    let metrics = Metrics::new(subnet.node(0));
    let mut registry = Registry::default();
    registry.register_collector(Box::new(metrics.clone()));
    scrape(&mut subnet, &registry, &metrics)
}

/// Lines that begin with this, by the name that follows.
fn told<'a>(text: &'a str, what: &str) -> BTreeMap<&'a str, &'a str> {
    let lines = text.lines().filter_map(|line| line.strip_prefix(what)?.split_once(' '));
    lines.collect()
}

/// Names of samples, without their labels, and values.
fn samples(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let (name, value) = line.rsplit_once(' ').expect("name and value");
        (name.split('{').next().expect("a name"), value)
    })
}

#[test]
fn names_are_as_prometheus_wants_them_and_as_they_were() {
    let text = scraped();
    let (types, units) = (told(&text, "# TYPE "), told(&text, "# UNIT "));
    let mut names = String::new();
    for (name, kind) in &types {
        assert!(name.starts_with("slotcast_"), "{name}");
        let unit = units.get(name).copied();
        assert!(matches!(unit, None | Some("bytes" | "seconds")), "{name}: base units");
        assert_eq!(unit, ["bytes", "seconds"].into_iter().find(|unit| name.ends_with(unit)));
        assert!(*kind != "histogram" || unit == Some("seconds"), "{name}");
        names.push_str(&format!("{name} {kind}\n"));
    }
    for (name, _) in samples(&text) {
        let family = |suffix: &str| name.strip_suffix(suffix).and_then(|name| types.get(name));
        let is_known = match (types.get(name), family("_total")) {
            (Some(kind), _) => *kind == "gauge",
            (None, Some(kind)) => *kind == "counter",
            (None, None) => {
                ["_bucket", "_sum", "_count"].iter().any(|end| family(end) == Some(&"histogram"))
            }
        };
        assert!(is_known, "{name}");
    }
    assert!(text.ends_with("# EOF\n"));
    assert_eq!(names, NAMES, "whoever asks for a metric by its name will miss it");
}

#[test]
fn values_have_their_labels_and_their_units() {
    let text = scraped();
    let value = |name: &str| -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse().expect("a number")
    };
    assert_eq!(value("slotcast_uptime_seconds").floor(), 0.0);
    assert_eq!(value("slotcast_memory_bound_bytes"), config().memory_bound() as f64);
    let of_route = r#"{route="7",name="route""#;
    let calls = format!("slotcast_route_calls_total{of_route},outcome=\"answered\"}}");
    assert_eq!(value(&calls), 1.0);
    let outbox = r#"slotcast_channel_outbox_bytes{channel="1",kind="published"}"#;
    assert_eq!(value(outbox), 100_000.0);
    // Buckets are cumulative.
    let bucket = r#"slotcast_route_call_seconds_bucket{le="+Inf",route="7",name="route"}"#;
    assert_eq!(value(bucket), 1.0);
    let count = format!("slotcast_route_call_seconds_count{of_route}}}");
    assert_eq!(value(&count), 1.0);
    let peer = Subnet::connected(2, &config()).id(1);
    assert_eq!(value(&format!("slotcast_peer_up{{peer=\"{peer}\"}}")), 1.0);
    let useful = format!("slotcast_peer_broadcast_encoded_bytes_total{{peer=\"{peer}\"");
    assert_eq!(value(&format!("{useful},use=\"content\"}}")), 100_000.0);
}

#[test]
fn a_node_that_has_ended_shows_nothing() {
    let mut subnet = Subnet::connected(2, &config());
    let metrics = Metrics::new(subnet.node(0));
    let mut registry = Registry::default();
    registry.register_collector(Box::new(metrics.clone()));
    assert!(scrape(&mut subnet, &registry, &metrics).contains("slotcast_peer_up"));
    let node = subnet.node(0).clone();
    subnet.run(node.shutdown()).expect("it ends");
    assert!(!subnet.run(metrics.refresh()));
    let mut text = String::new();
    encode(&mut text, &registry).expect("a string takes everything");
    assert_eq!(text, "# EOF\n");
}

#[test]
fn every_query_of_the_dashboard_names_metrics_that_there_are() {
    let text = scraped();
    let known: BTreeSet<&str> = samples(&text).map(|(name, _)| name).collect();
    let dashboard: serde_json::Value = serde_json::from_str(DASHBOARD).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let queries = targets.map(|target| target["expr"].as_str().expect("a query"));
    let queries: Vec<&str> = queries.collect();
    assert!(queries.len() >= 30, "{}", queries.len());
    for query in queries {
        let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let names: Vec<&str> = words.filter(|word| word.starts_with("slotcast_")).collect();
        assert!(!names.is_empty(), "{query}");
        for name in names {
            assert!(known.contains(name), "{name} in {query}");
        }
    }
}
