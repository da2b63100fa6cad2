//! How a node connects.

use core::time::Duration;

use super::error::{invalid, within, within_span};
use super::{BUDGET_BYTES_LIMIT, ConfigError, PEERS_LIMIT, SPAN_LIMIT, SPAN_MIN};
use crate::artifact::SINGLE_CHUNK_BYTES_MAX;
use crate::membership::{Overlay, VERSIONS_MAX};

/// The least rate of an uplink, in bytes per second: 128 kbit/s. At a lower one, a single datagram takes
/// longer than a tenth of a second.
const UPLINK_MIN: u64 = 16_000;

/// The least initial window, in bytes (RFC 9002, section 7.2).
const INITIAL_WINDOW_MIN: u32 = 14_720;

/// The shortest interval of packets that keep an idle connection alive: more often, they would be a load
/// with many peers.
const KEEP_ALIVE_MIN: Duration = Duration::from_millis(10);

/// The least time until a silent peer counts as down: less, and a busy host would lose its peers.
const IDLE_TIMEOUT_MIN: Duration = Duration::from_millis(100);

/// The least time for a handshake and a hello, which take two round trips: less, and nobody connects.
const HELLO_TIMEOUT_MIN: Duration = Duration::from_millis(100);

/// How a node connects: used by [`Node`](crate::node) only.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct TransportConfig {
    /// Which members keep connections to each other: the same at all. Default the full mesh.
    pub overlay: Overlay,
    /// Largest UDP payload that path MTU discovery may find, in bytes. Default 1,452 (Ethernet,
    /// IPv6); 9,000 and loopback's 65,507 work, too. At least 1,200.
    pub mtu_max: u16,
    /// A peer silent for so long, and up to one `keep_alive` longer, is down. Default 10 s, at least
    /// 100 ms.
    #[cfg_attr(feature = "serde", serde(with = "super::span"))]
    pub idle_timeout: Duration,
    /// An idle connection is kept alive at this interval. A peer that does not answer within half a second
    /// and three round trips is dialled beside the connection. Default 1 s: where an address has changed
    /// without the node's knowledge, behind a NAT that rebinds, another connection is up within two seconds.
    /// An idle connection costs each side a datagram of 39 bytes per interval, measured. At least 10 ms.
    #[cfg_attr(feature = "serde", serde(with = "super::span"))]
    pub keep_alive: Duration,
    /// Unidirectional streams that a peer may have open at once, as far as `window_pool` allows: 8 in any
    /// case. Default 128: one batch each.
    pub streams_max: u32,
    /// Bytes of one stream that a peer may send ahead of what was read. Default 2 MiB: two of the
    /// longest chunks that there are.
    pub stream_window: u32,
    /// Bytes of all streams that a peer may send ahead of what was read, as far as `window_pool` allows:
    /// 256 KiB in any case, or two of the longest chunks. Default 8 MiB.
    pub receive_window: u32,
    /// Bytes that may be unacknowledged to one peer, whatever the congestion window, as far as
    /// `window_pool` allows: 256 KiB in any case, or two of the longest chunks. Default 8 MiB.
    pub send_window: u32,
    /// Bytes of memory that links share for streams and windows beyond those that each has in any case. A
    /// link begins with the least, takes more as it uses it, and holds at most half of what is still free.
    /// A byte of a receive window counts as 2.5, one of a send window as 2, a stream as 288 KiB and an
    /// unfinished frame (see [`Config::memory_bound`](super::Config::memory_bound)). Default 110 MiB: a link
    /// that is busy alone has windows of several megabytes; with it, the memory bound of a node with 64
    /// peers and one channel is below 1 GiB. Where dozens of members publish what is
    /// [spread](super::ChannelConfig::spread_bytes_min) at the same time, streams are short: 31 that publish
    /// 500 kB each, at 60 % of downlinks of 300 Mbit/s, wait 1.1 s for it at the median, and 0.4 s with 256 MiB.
    pub window_pool: u64,
    /// Bytes that may be in flight on a new connection before anything has been acknowledged. Default
    /// 48 KiB, 32 packets: the part of an artifact of 2 MB that each of 40 members is sent when it is
    /// spread. They are paced over a round trip. Where links are slower than 1 Mbit/s, use the 14,720
    /// bytes of RFC 9002, section 7.2: what is more than their queues hold is lost and sent again.
    pub initial_window: u32,
    /// The rate of this node's uplink, in bytes per second, headers of IPv6 and UDP included. With it,
    /// what leaves the node is shaped to the rate, so that it queues here, where what is urgent goes
    /// first and what became obsolete is dropped, and not in a router. It should be a few percent
    /// below the real rate. At least 16,000. Default none: as fast as QUIC's congestion control
    /// allows. That overfills the queue of a near router when a node sends to many at once: where 13 members
    /// are a fraction of a millisecond apart, links of 100 Mbit/s have queues of 50 ms, and one spreads 4 MiB,
    /// the last has it after 1.52 times what the link would take, and with this after 1.15.
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
    #[cfg_attr(feature = "serde", serde(with = "super::span"))]
    pub dial_pause_min: Duration,
    /// Longest pause of the member with the lower id before dialling a peer again. Default 5 s.
    #[cfg_attr(feature = "serde", serde(with = "super::span"))]
    pub dial_pause_max: Duration,
    /// Pause of the member with the higher id before dialling a peer (again), less up to half of it
    /// as jitter. It dials only in case the other one cannot reach it. Default 3 s: the other one has
    /// dialled several times by then, so that connections seldom cross, and a member that only this
    /// one can reach is missed for a few seconds at most.
    #[cfg_attr(feature = "serde", serde(with = "super::span"))]
    pub dial_pause_higher: Duration,
    /// Faults of a peer until it is cut off. Default 3: one may be a broken build being replaced.
    pub faults_max: u32,
    /// One fault of a peer is forgiven in each such time. Default 10 min: with `faults_max`, who breaks a
    /// rule every few minutes is cut off, and who does so once in a while over months is not.
    #[cfg_attr(feature = "serde", serde(with = "super::span"))]
    pub fault_decay: Duration,
    /// How long a peer stays cut off. Default 60 s.
    #[cfg_attr(feature = "serde", serde(with = "super::span"))]
    pub cut_off: Duration,
    /// How long a connection may take from its first datagram to its hello. Default 5 s, at least
    /// 100 ms.
    #[cfg_attr(feature = "serde", serde(with = "super::span"))]
    pub hello_timeout: Duration,
    /// How long a node that shuts down waits until its peers have been told. Default 500 ms: a few round
    /// trips, so that one may be lost. Who was not told notices it by `idle_timeout`.
    #[cfg_attr(feature = "serde", serde(with = "super::span"))]
    pub shutdown_timeout: Duration,
}

impl Default for TransportConfig {
    fn default() -> Self {
        Self {
            overlay: Overlay::FullMesh,
            mtu_max: 1452,
            idle_timeout: Duration::from_secs(10),
            keep_alive: Duration::from_secs(1),
            streams_max: 128,
            stream_window: 2 << 20,
            receive_window: 8 << 20,
            send_window: 8 << 20,
            window_pool: 110 << 20,
            initial_window: 48 << 10,
            uplink: None,
            handshakes_max: 64,
            handshakes_per_address_max: 32,
            filter_addresses: true,
            dial_pause_min: Duration::from_millis(50),
            dial_pause_max: Duration::from_secs(5),
            dial_pause_higher: Duration::from_secs(3),
            faults_max: 3,
            fault_decay: Duration::from_secs(600),
            cut_off: Duration::from_secs(60),
            hello_timeout: Duration::from_secs(5),
            shutdown_timeout: Duration::from_millis(500),
        }
    }
}

impl TransportConfig {
    pub(super) fn check(&self, peers_max: u16, chunk_bytes_max: usize) -> Result<(), ConfigError> {
        const CHUNKS: &str = "it has to hold two of the longest chunks of any channel";
        const STREAM: &str = "it has to hold stream_window";
        let chunks_min = 2 * chunk_bytes_max.max(SINGLE_CHUNK_BYTES_MAX) as u32;
        let window = chunks_min..=u32::MAX;
        self.check_overlay(peers_max)?;
        within("transport.mtu_max", self.mtu_max, 1200..=65_507, "")?;
        let initial = INITIAL_WINDOW_MIN..=u32::MAX;
        within("transport.initial_window", self.initial_window, initial, "")?;
        within("transport.streams_max", self.streams_max, 8..=4096, "")?;
        within("transport.stream_window", self.stream_window, window.clone(), CHUNKS)?;
        let receive = self.stream_window..=u32::MAX;
        within("transport.receive_window", self.receive_window, receive, STREAM)?;
        within("transport.send_window", self.send_window, window, CHUNKS)?;
        within("transport.window_pool", self.window_pool, 0..=BUDGET_BYTES_LIMIT, "")?;
        if let Some(rate) = self.uplink {
            within("transport.uplink", rate, UPLINK_MIN..=u64::MAX, "")?;
        }
        let of_address = self.handshakes_per_address_max;
        within("transport.handshakes_max", self.handshakes_max, 1..=u16::MAX, "")?;
        within("transport.handshakes_per_address_max", of_address, 1..=u16::MAX, "")?;
        within("transport.faults_max", self.faults_max, 1..=u32::MAX, "")?;
        self.check_spans()
    }

    fn check_overlay(&self, peers_max: u16) -> Result<(), ConfigError> {
        const VERSIONS: &str = "the overlays of 8 versions may all be in use";
        let Overlay::Regular { degree } = self.overlay else { return Ok(()) };
        within("transport.overlay", degree, 4..=PEERS_LIMIT / VERSIONS_MAX as u16, "")?;
        if degree % 2 != 0 {
            return Err(invalid("transport.overlay", degree, "is no even degree"));
        }
        let peers = degree * VERSIONS_MAX as u16..=PEERS_LIMIT;
        within("peers_max", peers_max, peers, VERSIONS)
    }

    fn check_spans(&self) -> Result<(), ConfigError> {
        const NS: Duration = Duration::from_nanos(1);
        const IDLE: &str = "it has to be shorter than idle_timeout";
        const LONGEST: &str = "it grows to dial_pause_max";
        const HIGHER: &str = "it is twice dial_pause_min at least";
        let keep_alive = KEEP_ALIVE_MIN..=self.idle_timeout.saturating_sub(NS);
        let lower = SPAN_MIN..=self.dial_pause_max;
        // Refused as dial_pause_min, or else within the limit.
        let higher = self.dial_pause_min.saturating_mul(2).min(SPAN_LIMIT)..=SPAN_LIMIT;
        let idle = IDLE_TIMEOUT_MIN..=SPAN_LIMIT;
        within("transport.idle_timeout", self.idle_timeout, idle, "")?;
        within("transport.keep_alive", self.keep_alive, keep_alive, IDLE)?;
        within_span("transport.dial_pause_max", self.dial_pause_max)?;
        within("transport.dial_pause_min", self.dial_pause_min, lower, LONGEST)?;
        within("transport.dial_pause_higher", self.dial_pause_higher, higher, HIGHER)?;
        within_span("transport.fault_decay", self.fault_decay)?;
        within("transport.cut_off", self.cut_off, Duration::ZERO..=SPAN_LIMIT, "")?;
        let hello = HELLO_TIMEOUT_MIN..=SPAN_LIMIT;
        within("transport.hello_timeout", self.hello_timeout, hello, "")?;
        within_span("transport.shutdown_timeout", self.shutdown_timeout)
    }
}
