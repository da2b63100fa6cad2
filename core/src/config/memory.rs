//! The memory bound that follows from a configuration.

#[cfg(doc)]
use super::TransportConfig;
use super::{ChannelConfig, Config, Order, Relay, RouteConfig};
use crate::artifact::BLOCKS_BYTES_MAX;
use crate::wire::EAGER_BYTES_MAX;

/// Bytes of datagrams that QUIC keeps of a handshake before the node has accepted it.
pub(crate) const INCOMING_BYTES: u64 = 64 << 10;

/// Bytes in the buffers for datagrams that a node uses again, a ninth of them for each power of two: 28 buffers for
/// packets of up to 2 KiB. Further datagrams get an allocation each.
pub(crate) const RECEIVED_BYTES: u64 = 512 << 10;

/// The same for what it has encoded: the batches under way to some tens of members.
pub(crate) const ENCODED_BYTES: u64 = 1 << 20;

/// The most pieces that quinn-proto keeps of a stream: with more, it joins them or gives the connection
/// up (`COMPACT_THRESHOLD` in its `assembler.rs`).
const PIECES_MAX: u64 = 2048;

/// Bytes in its list for a piece. The list keeps its length when the stream ends, for a later stream.
const PIECE_BYTES: u64 = 56;

/// Bytes of a datagram around a piece of a stream that quinn-proto does not count: header, tag, and the
/// counter of references to the datagram.
const AROUND_PIECE_BYTES: u64 = 72;

/// Bytes that quinn-proto keeps of a stream's datagrams, more than the stream's own bytes, before it copies
/// these: so many, or one and a half times the stream's own bytes.
const UNUSED_BYTES_MAX: u64 = 32 << 10;

/// Bytes that QUIC keeps of a stream beside what a window counts, when its pieces come out of order.
/// Whoever sends many little pieces reaches it in all streams.
const STREAM_BYTES: u64 = PIECES_MAX * (PIECE_BYTES + AROUND_PIECE_BYTES) + UNUSED_BYTES_MAX;

/// The windows that each link has for itself, in bytes, if those of the configuration are not smaller:
/// a link with a round trip of 100 ms can use 2.5 MB/s. They hold two of the longest chunks in any case.
const WINDOW_LEAST: u64 = 256 << 10;

/// Streams that each peer may have open in any case.
const STREAMS_LEAST: u64 = 8;

/// Unidirectional streams that a peer may have open before its hello has been read: that of the hello, and two more, so
/// that what it sends first need not wait for a round trip.
#[cfg(feature = "quic")]
pub(crate) const EARLY_STREAMS: u32 = 3;

/// Bytes that a peer may send ahead of what was read before its hello has been read: two of the longest hellos.
#[cfg(feature = "quic")]
pub(crate) const EARLY_BYTES: u32 = 32 << 10;

/// Bytes that QUIC and TLS keep of an accepted handshake: less than 48 KiB in any case (the simulator
/// measures 36 KiB, and does not see what cryptography in C allocates), and a stream of handshake data
/// for each of the two levels of encryption, of which quinn-proto takes 16 KiB out of order.
const HANDSHAKE_BYTES: u64 = (48 << 10) + 2 * ((16 << 10) + (192 << 10));

/// The number of connections with one member that are over, and of which something is kept until QUIC expects no more
/// of them (RFC 9000, section 10.2). If a member reconnects more often, the oldest are forgotten at once.
pub(crate) const CLOSED_PER_PEER_MAX: usize = 2;

/// The same for all connections that never came up, or whose peer is no member any more: enough for the datagrams
/// that are still on their way to them.
pub(crate) const CLOSED_UNKNOWN_MAX: usize = 32;

/// Bytes that are kept of each of them beside its last datagram: its identifiers, and what has come since.
const CLOSED_BYTES: u64 = 2 << 10;

/// What is noted of a channel for a peer that has told its quota, and when what waits for that goes on.
pub(crate) const PACED_BYTES: u64 = 104;

/// What is noted of a peer in a channel that has a quota: how much has come, and which streams wait.
pub(crate) const QUOTA_BYTES: u64 = 272;

/// How much may be under way on a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Windows {
    /// Bytes that the peer may send ahead of what was read.
    pub(crate) receive: u64,
    /// Bytes that may be unacknowledged to the peer.
    pub(crate) send: u64,
    /// Unidirectional streams that the peer may have open.
    pub(crate) streams: u64,
}

impl Windows {
    /// The memory that so much of a receive window can take: the bytes themselves, and one and a half
    /// times as many around them, before quinn-proto copies them.
    pub(crate) fn receive_bytes(window: u64) -> u64 {
        window * 5 / 2
    }

    /// The memory that so much of a send window can take: what QUIC holds, and what waits for the credit
    /// of its stream.
    pub(crate) fn send_bytes(window: u64) -> u64 {
        2 * window
    }

    /// The memory that all of it can take, with so many bytes for a stream.
    fn bytes(&self, stream_bytes: u64) -> u64 {
        Self::receive_bytes(self.receive)
            + Self::send_bytes(self.send)
            + self.streams * stream_bytes
    }
}

impl Config {
    /// What each link has for itself.
    pub(crate) fn least_windows(&self) -> Windows {
        let most = self.most_windows();
        let least = WINDOW_LEAST.max(2 * self.chunk_bytes_max() as u64);
        Windows {
            receive: most.receive.min(least),
            send: most.send.min(least),
            streams: most.streams.min(STREAMS_LEAST),
        }
    }

    /// What no link has more of.
    pub(crate) fn most_windows(&self) -> Windows {
        let transport = &self.transport;
        Windows {
            receive: transport.receive_window.into(),
            send: transport.send_window.into(),
            streams: transport.streams_max.into(),
        }
    }

    /// The memory that a stream of a peer can take beside its part of the receive window: what QUIC keeps
    /// of it, and an unfinished frame.
    pub(crate) fn stream_bytes(&self) -> u64 {
        STREAM_BYTES + self.frame_bytes_max() as u64
    }

    /// An upper bound of the heap bytes that a node holds, whatever its peers do, by a configuration
    /// that passes [`Config::check`] (the sum of others may overflow): 8 MiB (socket
    /// buffers; blocks that short artifacts share, received and published ones; buffers for datagrams and for what is
    /// encoded; small things) + base + peers x budgets. Base is what this
    /// node published, fetches and has not handed to the application, handshakes, and what links share; a
    /// peer's budget is its tables, what it is being told, and what QUIC holds for it in any case.
    ///
    /// | term | bytes |
    /// | --- | --- |
    /// | outbox, per channel | `active_bytes_max` (twice with relaying) `+ 2496 x slots_max`: slots, how far each has come, indices, what the node tells itself of them; with [`Order::HighestKeyFirst`] `+ 96 x slots_max` |
    /// | inbox, per channel | `2 x inbox_bytes_max`: waiting for the application, being fetched |
    /// | chunks and their Merkle trees, per channel | a 128th of those bytes of outbox and inbox |
    /// | events staged by the driver, per channel | `1 MiB + artifact_bytes_max` |
    /// | handshakes | `handshakes_max x (464 KiB + 64 KiB)`: in progress, and not accepted yet |
    /// | connections that are over | `(2 x peers_max + 32) x (mtu_max + 2 KiB)`: the last datagram of each, until QUIC expects nothing more from the peer |
    /// | tables, per peer and channel | `(2 x 56 + 16 + 8 + 16 + 4 + 2 x 2048) x slots_max`: entries and artifacts of two epochs, what is told of them and fetched, what was and is to be sent, which pushes are in one stream, receipts, what it was sent of each that it asked for |
    /// | quotas, per peer and channel | `104`: what the peer takes, and what it was sent; with a [`quota`](ChannelConfig::quota) `+ 272`: what it has sent |
    /// | requests, per peer | `512 x (3 x fetches_per_peer_max + serves_per_peer_max + 2 x streamed_per_peer_max) + 16 KiB`: in each class, in both directions, and what is sent unasked; refusals |
    /// | bodies, per route | `4 x body_bytes_max`: requests and answers, coming and going |
    /// | calls, per peer and route | `1 KiB x 2 x in_flight_max + 17 KiB x (in_flight_max + waiting_max)`: requests in flight and unread; calls in flight and waiting, with short answers |
    /// | QUIC, per peer | `2.5 x receive + 2 x send + 8 x stream + 64 KiB`, where `receive` and `send` are the windows that each link has for itself: 256 KiB, or two of the longest chunks; and for calls, `2.5 x 16,448 + 288 KiB` for each of `2 x in_flight_max` of the routes that this node serves: unread requests, and what QUIC keeps of their pieces when these came out of order; and `288 KiB` for each of `in_flight_max` of all routes, likewise for answers |
    /// | QUIC, shared | [`window_pool`](TransportConfig::window_pool), or what is missing at all peers together to `2.5 x receive_window + 2 x send_window + streams_max x stream`, if that is less |
    /// | `stream` | `288 KiB +` longest frame of any channel: what QUIC keeps of pieces that came out of order, and an unfinished frame, mostly a chunk of the longest artifact with its proof |
    ///
    /// Of a receive window QUIC may keep 2.5 times its bytes: it copies what it has of a stream when the
    /// datagrams around take one and a half times the memory of the stream's own bytes, and 32 KiB. It
    /// keeps 2,048 pieces of a stream, with 128 bytes each. What was allocated for a stream's pieces is
    /// used for later streams, and not freed.
    pub fn memory_bound(&self) -> u64 {
        // Less than two hashes of 32 bytes for each chunk of 16 KiB, and where it is: 32 bytes.
        let with_tree = |bytes: u64| bytes + bytes / 128;
        let sum =
            |bytes: &dyn Fn(&ChannelConfig) -> u64| self.channels.iter().map(bytes).sum::<u64>();
        let outbox = sum(&|c| {
            let shares = if c.relay == Relay::Off { 1 } else { 2 };
            let order = if c.order == Order::HighestKeyFirst { 96 } else { 0 };
            with_tree(shares * c.active_bytes_max) + (2496 + order) * u64::from(c.slots_max)
        });
        let inbox = sum(&|c| with_tree(2 * c.inbox_bytes_max) + c.artifact_bytes_max + (1 << 20));
        let tables = sum(&|c| (2 * 56 + 16 + 8 + 16 + 4 + 2 * 2048) * u64::from(c.slots_max));
        let quotas = sum(&|c| PACED_BYTES + c.quota.map_or(0, |_| QUOTA_BYTES));
        let t = &self.transport;
        let (least, most) = (self.least_windows(), self.most_windows());
        let least = least.bytes(self.stream_bytes());
        let missing = most.bytes(self.stream_bytes()) - least;
        let shared = t.window_pool.min(u64::from(self.peers_max) * missing);
        let answers = self.routes.iter().map(|route| u64::from(route.in_flight_max)).sum::<u64>();
        let call_streams = STREAM_BYTES * (u64::from(self.calls_max()) + answers);
        let quic = least + 5 * self.unread_bytes_max() / 2 + call_streams + (64 << 10);
        let bodies = self.routes.iter().map(|route| 4 * route.body_bytes_max).sum::<u64>();
        let calls = |route: &RouteConfig| {
            let (flying, waiting) = (u64::from(route.in_flight_max), u64::from(route.waiting_max));
            1024 * 2 * flying + (1024 + EAGER_BYTES_MAX as u64) * (flying + waiting)
        };
        let calls = self.routes.iter().map(calls).sum::<u64>();
        let (asked, streamed) = (self.fetches_per_peer_max, self.streamed_per_peer_max);
        let requests = 3 * u64::from(asked) + 2 * u64::from(streamed);
        let requests = 512 * (requests + u64::from(self.serves_per_peer_max)) + (16 << 10);
        let peer = tables + quotas + requests + calls + quic;
        let handshakes = u64::from(t.handshakes_max) * (HANDSHAKE_BYTES + INCOMING_BYTES);
        let closed = CLOSED_UNKNOWN_MAX + CLOSED_PER_PEER_MAX * usize::from(self.peers_max);
        let closed = closed as u64 * (u64::from(t.mtu_max) + CLOSED_BYTES);
        let base = outbox + inbox + bodies + handshakes + closed + shared;
        let shared_buffers = BLOCKS_BYTES_MAX + RECEIVED_BYTES + ENCODED_BYTES;
        (4 << 20) + shared_buffers + base + u64::from(self.peers_max) * peer
    }
}
