//! What quinn-proto is told: endpoint, server and transport settings.

use std::sync::Arc;

use quinn_proto::{
    EndpointConfig, IdleTimeout, MtuDiscoveryConfig, ServerConfig,
    TransportConfig as QuicTransport, VarInt,
};

use super::congestion::{Meter, MeteredFactory};
use super::crypto::{Members, Provider};
use crate::config::{Config, TransportConfig};

/// A packet counts as lost when one that was sent so many packets later is acknowledged: in effect,
/// the time decides alone, as in RACK (RFC 8985). With the three of RFC 9002, section 6.1.1, each
/// packet that a path delays by more than its neighbours is sent twice, and the congestion window
/// falls to its minimum.
const REORDERING_PACKETS: u32 = 1000;

/// A packet counts as lost when a later one is acknowledged so many round trips after it was sent.
/// RFC 9002, section 6.1.2, recommends 9/8. This carries a path whose jitter is as large as its
/// latency: 1 MiB at a round trip of 80 ms takes 0.8 s there, with 9/8 it takes 21 s. In return a
/// loss is noticed up to 5/8 of a round trip later, the first overflow of a queue, too.
const REORDERING_ROUND_TRIPS: f32 = 1.75;

/// Bytes that a handshake may send before it is looked at.
const INCOMING_BYTES: u64 = 64 << 10;

pub(crate) fn endpoint_config(
    config: &TransportConfig,
    provider: &Provider,
    seed: [u8; 32],
) -> EndpointConfig {
    let mut endpoint = provider.endpoint_config();
    endpoint.rng_seed(Some(seed));
    // Probes for the path MTU arrive with more than the path may carry in the end.
    let payload = config.mtu_max.max(1472);
    endpoint.max_udp_payload_size(payload).expect("checked with the configuration");
    endpoint
}

pub(crate) fn server_config(
    config: &TransportConfig,
    provider: &Provider,
    members: Arc<Members>,
) -> ServerConfig {
    let mut server = provider.server_config(members);
    server.max_incoming(config.handshakes_max.into());
    server.incoming_buffer_size(INCOMING_BYTES);
    server.incoming_buffer_size_total(u64::from(config.handshakes_max) * INCOMING_BYTES);
    server.migration(false);
    server
}

/// The settings of one connection, whose controller fills `meter`.
pub(super) fn transport_config(config: &Config, meter: &Arc<Meter>) -> QuicTransport {
    let receive_window = u64::from(config.transport.receive_window) + config.unread_bytes_max();
    let calls_max = config.calls_max();
    let config = &config.transport;
    let mut transport = QuicTransport::default();
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(config.mtu_max);
    let idle = IdleTimeout::try_from(config.idle_timeout).unwrap_or(VarInt::MAX.into());
    let factory = MeteredFactory {
        meter: meter.clone(),
        // RFC 9002, section 7.2, for the largest datagram there may come to be.
        initial_window: 14_720.max(2 * u64::from(config.mtu_max)),
    };
    transport
        .max_concurrent_bidi_streams(calls_max.into())
        .max_concurrent_uni_streams(config.streams_max.into())
        .stream_receive_window(config.stream_window.into())
        .receive_window(VarInt::from_u64(receive_window).unwrap_or(VarInt::MAX))
        .send_window(config.send_window.into())
        // Without it, a stream that has begun goes first until it has no more to send, whatever the
        // priorities of others: a bulk transfer would hold up everything else.
        .send_fairness(true)
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(Some(config.keep_alive))
        .mtu_discovery_config((config.mtu_max > 1200).then_some(discovery))
        .datagram_receive_buffer_size(None)
        .packet_threshold(REORDERING_PACKETS)
        .time_threshold(REORDERING_ROUND_TRIPS)
        .congestion_controller_factory(Arc::new(factory));
    transport
}
