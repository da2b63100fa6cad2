//! Settings for quinn-proto: endpoint, server and transport.

use std::sync::Arc;

use quinn_proto::{
    EndpointConfig, IdleTimeout, MtuDiscoveryConfig, ServerConfig,
    TransportConfig as QuicTransport, VarInt,
};

use super::congestion::{Meter, MeteredFactory};
use super::crypto::{Members, Provider};
use crate::config::{Config, EARLY_BYTES, EARLY_STREAMS, INCOMING_BYTES, TransportConfig};

/// Settings of a node's endpoint. `seed` is what it draws random numbers from.
pub fn endpoint_config(
    config: &TransportConfig,
    provider: &Provider,
    seed: [u8; 32],
) -> EndpointConfig {
    let mut endpoint = provider.endpoint_config();
    endpoint.rng_seed(Some(seed));
    // Path MTU probes may be longer than the path MTU that is found in the end.
    let payload = config.mtu_max.max(1472);
    endpoint.max_udp_payload_size(payload).expect("checked with the configuration");
    endpoint
}

/// Settings of its server side, which accepts whoever is in `members` at the time.
pub fn server_config(
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
    // More is given to a link that is in use, see `link/windows.rs`.
    let send_window = config.least_windows().send;
    let config = &config.transport;
    let mut transport = QuicTransport::default();
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(config.mtu_max);
    let idle = IdleTimeout::try_from(config.idle_timeout).unwrap_or(VarInt::MAX.into());
    let factory = MeteredFactory {
        meter: meter.clone(),
        // At least two datagrams (RFC 9002, section 7.2), however large they may come to be.
        initial_window: u64::from(config.initial_window).max(2 * u64::from(config.mtu_max)),
    };
    // What counts as lost is left at the 3 packets and 9/8 round trips of RFC 9002, section 6.1. A path
    // that reorders more is slow by that, since the congestion window stays at its minimum. But with
    // more than 8 packets, a queue that overflows is noticed so late that up to a sixth is sent twice,
    // and urgent artifacts wait behind a longer queue. quinn-proto cannot change it by path.
    transport
        .max_concurrent_bidi_streams(0_u32.into())
        .max_concurrent_uni_streams(EARLY_STREAMS.into())
        .stream_receive_window(config.stream_window.into())
        .receive_window(EARLY_BYTES.into())
        .send_window(send_window)
        // Without it, a stream that has begun is sent until it has no more data, whatever the
        // priorities of other streams, so a bulk transfer would delay everything else.
        .send_fairness(true)
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(Some(config.keep_alive))
        .mtu_discovery_config((config.mtu_max > 1200).then_some(discovery))
        .datagram_receive_buffer_size(None)
        .congestion_controller_factory(Arc::new(factory));
    transport
}
