//! The memory bound that follows from a configuration.

use super::{ChannelConfig, Config, Relay, RouteConfig};
use crate::artifact::BLOCKS_BYTES_MAX;
use crate::wire::EAGER_BYTES_MAX;

/// Bytes of datagrams that QUIC keeps of a handshake before the node has accepted it.
pub(crate) const INCOMING_BYTES: u64 = 64 << 10;

/// Bytes that QUIC keeps of a stream beside the stream's own data, when its pieces come out of order:
/// of the datagrams around them, and for each piece.
const STREAM_BYTES: u64 = 192 << 10;

/// Bytes that QUIC and TLS keep of an accepted handshake: less than 48 KiB in any case (the simulator
/// measures 36 KiB, and does not see what cryptography in C allocates), and a stream of handshake data
/// for each of the two levels of encryption, of which quinn-proto takes 16 KiB out of order.
const HANDSHAKE_BYTES: u64 = (48 << 10) + 2 * ((16 << 10) + STREAM_BYTES);

impl Config {
    /// An upper bound of the heap bytes that a node holds, whatever its peers do, by a configuration
    /// that passes [`Config::check`] (the sum of others may overflow): 8 MiB (socket
    /// buffers, blocks that short artifacts share, small things) + base + peers x budgets. Base is what this node published, fetches
    /// and has not handed to the application, and handshakes; a peer's budget is its tables, what it
    /// is being told, and what QUIC holds for it.
    ///
    /// | term | bytes |
    /// | --- | --- |
    /// | outbox, per channel | `active_bytes_max` (twice with relaying) `+ 1536 x slots_max` |
    /// | inbox, per channel | `2 x inbox_bytes_max`: waiting for the application, being fetched |
    /// | chunks and their Merkle trees, per channel | a 128th of those bytes of outbox and inbox |
    /// | events staged by the driver, per channel | `1 MiB + artifact_bytes_max` |
    /// | handshakes | `handshakes_max x (464 KiB + 64 KiB)`: in progress, and not accepted yet |
    /// | tables, per peer and channel | `(2 x 56 + 8 + 2 x 2880) x slots_max`: entries and artifacts of two epochs, what is told of them and fetched, what was sent |
    /// | requests, per peer | `512 x (3 x fetches_per_peer_max + serves_per_peer_max + 2 x streamed_per_peer_max)`: in each class, in both directions, and what is sent unasked |
    /// | unfinished frames, per peer | `streams_max x` longest frame of any channel: mostly a chunk of its longest artifact, with its proof |
    /// | bodies, per route | `4 x body_bytes_max`: requests and answers, coming and going |
    /// | calls, per peer and route | `1 KiB x 2 x in_flight_max + 17 KiB x (in_flight_max + waiting_max)`: requests in flight and unread; calls in flight and waiting, with short answers |
    /// | QUIC, per peer | `receive_window + 2 x send_window + 192 KiB x streams_max + 64 KiB`: windows, and what pieces of a stream that came out of order keep of the datagrams around them; and for unread requests, `24 KiB` for each of `2 x in_flight_max` of all routes |
    pub fn memory_bound(&self) -> u64 {
        // Less than two hashes of 32 bytes for each chunk of 16 KiB, and where it is: 32 bytes.
        let with_tree = |bytes: u64| bytes + bytes / 128;
        let sum =
            |bytes: &dyn Fn(&ChannelConfig) -> u64| self.channels.iter().map(bytes).sum::<u64>();
        let outbox = sum(&|c| {
            let shares = if c.relay == Relay::Off { 1 } else { 2 };
            with_tree(shares * c.active_bytes_max) + 1536 * u64::from(c.slots_max)
        });
        let inbox = sum(&|c| with_tree(2 * c.inbox_bytes_max) + c.artifact_bytes_max + (1 << 20));
        let tables = sum(&|c| (2 * 56 + 8 + 2 * 2880) * u64::from(c.slots_max));
        let t = &self.transport;
        let frames = u64::from(t.streams_max) * self.frame_bytes_max() as u64;
        let quic = u64::from(t.receive_window)
            + 2 * u64::from(t.send_window)
            + STREAM_BYTES * u64::from(t.streams_max)
            + (24 << 10) * u64::from(self.calls_max())
            + (64 << 10);
        let bodies = self.routes.iter().map(|route| 4 * route.body_bytes_max).sum::<u64>();
        let calls = |route: &RouteConfig| {
            let (flying, waiting) = (u64::from(route.in_flight_max), u64::from(route.waiting_max));
            1024 * 2 * flying + (1024 + EAGER_BYTES_MAX as u64) * (flying + waiting)
        };
        let calls = self.routes.iter().map(calls).sum::<u64>();
        let (asked, streamed) = (self.fetches_per_peer_max, self.streamed_per_peer_max);
        let requests = 3 * u64::from(asked) + 2 * u64::from(streamed);
        let requests = 512 * (requests + u64::from(self.serves_per_peer_max));
        let peer = tables + requests + frames + calls + quic;
        let handshakes = u64::from(t.handshakes_max) * (HANDSHAKE_BYTES + INCOMING_BYTES);
        let base = outbox + inbox + bodies + handshakes;
        (4 << 20) + BLOCKS_BYTES_MAX + base + u64::from(self.peers_max) * peer
    }
}
