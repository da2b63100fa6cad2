//! How a node connects.

use core::time::Duration;

use super::{Rule, SPAN, SPAN_LIMIT, SPAN_MIN, first_broken, is_span};
use crate::artifact::SINGLE_CHUNK_BYTES_MAX;
use crate::membership::{Overlay, VERSIONS_MAX};

/// The least rate of an uplink, in bytes per second: 128 kbit/s. At a lower one, a single datagram takes
/// longer than a tenth of a second.
const UPLINK_MIN: u64 = 16_000;

/// The least initial window, in bytes (RFC 9002, section 7.2).
const INITIAL_WINDOW_MIN: u32 = 14_720;

/// How a node connects: used by [`Node`](crate::node) only.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct TransportConfig {
    /// Which members keep connections to each other: the same at all. Default the full mesh.
    pub overlay: Overlay,
    /// Largest UDP payload that path MTU discovery may find, in bytes. Default 1,452 (Ethernet,
    /// IPv6); 9,000 and loopback's 65,507 work, too. At least 1,200.
    pub mtu_max: u16,
    /// A peer silent for so long, and up to one `keep_alive` longer, is down. Default 10 s.
    pub idle_timeout: Duration,
    /// An idle connection is kept alive at this interval. Default 3 s.
    pub keep_alive: Duration,
    /// Streams that a peer may have open at once. Default 128: one batch each.
    pub streams_max: u32,
    /// Bytes of one stream that a peer may send ahead of what was read. Default 2 MiB: two of the
    /// longest chunks that there are.
    pub stream_window: u32,
    /// Bytes of all streams that a peer may send ahead of what was read. Default 8 MiB.
    pub receive_window: u32,
    /// Bytes that may be unacknowledged to one peer, whatever the congestion window. Default 8 MiB.
    pub send_window: u32,
    /// Bytes that may be in flight on a new connection before anything has been acknowledged. Default
    /// 48 KiB, 32 packets: the part of an artifact of 2 MB that each of 40 members is sent when it is
    /// spread. They are paced over a round trip. Where links are slower than 1 Mbit/s, use the 14,720
    /// bytes of RFC 9002, section 7.2: what is more than their queues hold is lost and sent again.
    pub initial_window: u32,
    /// The rate of this node's uplink, in bytes per second, headers of IPv6 and UDP included. With it,
    /// what leaves the node is shaped to the rate, so that it queues here, where what is urgent goes
    /// first and what became obsolete is dropped, and not in a router. It should be a few percent
    /// below the real rate. At least 16,000. Default none: as fast as QUIC's congestion control
    /// allows.
    pub uplink: Option<u64>,
    /// Handshakes of dialling peers in progress. Default 64.
    pub handshakes_max: u16,
    /// Of those, with one IP address. Default 32: half. When all are taken, the address with most of
    /// them makes room for one with fewer.
    pub handshakes_per_address_max: u16,
    /// Handshakes are only begun with IP addresses of members. Default true; false behind NAT.
    pub filter_addresses: bool,
    /// First pause of the member with the lower id before dialling a peer again. Default 50 ms;
    /// doubles, with jitter.
    pub dial_pause_min: Duration,
    /// Longest pause of the member with the lower id before dialling a peer again. Default 5 s.
    pub dial_pause_max: Duration,
    /// Pause of the member with the higher id before dialling a peer (again), less up to half of it
    /// as jitter. It dials only in case the other one cannot reach it. Default 3 s: the other one has
    /// dialled several times by then, so that connections seldom cross, and a member that only this
    /// one can reach is missed for a few seconds at most.
    pub dial_pause_higher: Duration,
    /// Faults of a peer until it is cut off. Default 3: one may be a broken build being replaced.
    pub faults_max: u32,
    /// How long a peer stays cut off. Default 60 s.
    pub cut_off: Duration,
    /// How long a connection may take from its first datagram to its hello. Default 5 s.
    pub hello_timeout: Duration,
}

impl Default for TransportConfig {
    fn default() -> Self {
        Self {
            overlay: Overlay::FullMesh,
            mtu_max: 1452,
            idle_timeout: Duration::from_secs(10),
            keep_alive: Duration::from_secs(3),
            streams_max: 128,
            stream_window: 2 << 20,
            receive_window: 8 << 20,
            send_window: 8 << 20,
            initial_window: 48 << 10,
            uplink: None,
            handshakes_max: 64,
            handshakes_per_address_max: 32,
            filter_addresses: true,
            dial_pause_min: Duration::from_millis(50),
            dial_pause_max: Duration::from_secs(5),
            dial_pause_higher: Duration::from_secs(3),
            faults_max: 3,
            cut_off: Duration::from_secs(60),
            hello_timeout: Duration::from_secs(5),
        }
    }
}

impl TransportConfig {
    pub(super) fn check(&self, peers_max: u16, chunk_bytes_max: usize) -> Result<(), Rule> {
        const SOME: &str = "must be at least 1";
        const CHUNKS: &str =
            "must hold two of the longest chunks of any channel, and 131,072 bytes";
        let chunks_min = 2 * chunk_bytes_max.max(SINGLE_CHUNK_BYTES_MAX) as u32;
        self.check_overlay(peers_max)?;
        let limits = first_broken([
            (
                (1200..=65_507).contains(&self.mtu_max),
                ("transport.mtu_max", "must lie between 1,200 and 65,507"),
            ),
            (
                self.initial_window >= INITIAL_WINDOW_MIN,
                ("transport.initial_window", "must be at least 14,720 bytes"),
            ),
            (
                (8..=4096).contains(&self.streams_max),
                ("transport.streams_max", "must lie between 8 and 4,096"),
            ),
            (self.stream_window >= chunks_min, ("transport.stream_window", CHUNKS)),
            (
                self.stream_window <= self.receive_window,
                ("transport.receive_window", "must not be below stream_window"),
            ),
            (self.send_window >= chunks_min, ("transport.send_window", CHUNKS)),
            (
                self.uplink.is_none_or(|rate| rate >= UPLINK_MIN),
                ("transport.uplink", "must be at least 16,000 bytes per second"),
            ),
            (self.handshakes_max > 0, ("transport.handshakes_max", SOME)),
            (self.handshakes_per_address_max > 0, ("transport.handshakes_per_address_max", SOME)),
            (self.faults_max > 0, ("transport.faults_max", SOME)),
        ]);
        limits.and_then(|()| self.check_spans())
    }

    fn check_overlay(&self, peers_max: u16) -> Result<(), Rule> {
        let Overlay::Regular { degree } = self.overlay else { return Ok(()) };
        first_broken([
            (
                degree >= 4 && degree % 2 == 0,
                ("transport.overlay", "must have an even degree of at least 4"),
            ),
            (
                usize::from(degree) * VERSIONS_MAX <= peers_max.into(),
                ("peers_max", "must be 8 times the overlay's degree, for 8 versions"),
            ),
        ])
    }

    fn check_spans(&self) -> Result<(), Rule> {
        first_broken([
            // QUIC takes less than a millisecond for none at all (RFC 9000, section 18.2).
            (is_span(self.idle_timeout), ("transport.idle_timeout", SPAN)),
            (
                (SPAN_MIN..self.idle_timeout).contains(&self.keep_alive),
                ("transport.keep_alive", "must be 1 ms at least, and shorter than idle_timeout"),
            ),
            (is_span(self.dial_pause_max), ("transport.dial_pause_max", SPAN)),
            (
                (SPAN_MIN..=self.dial_pause_max).contains(&self.dial_pause_min),
                ("transport.dial_pause_min", "must be 1 ms at least, and not above dial_pause_max"),
            ),
            (
                (self.dial_pause_min.saturating_mul(2)..=SPAN_LIMIT)
                    .contains(&self.dial_pause_higher),
                (
                    "transport.dial_pause_higher",
                    "must be twice dial_pause_min at least, and 49 days at most",
                ),
            ),
            (
                self.cut_off <= SPAN_LIMIT,
                ("transport.cut_off", "must not exceed 2^32 - 1 ms (49 days)"),
            ),
            (is_span(self.hello_timeout), ("transport.hello_timeout", SPAN)),
        ])
    }
}
