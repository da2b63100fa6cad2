//! Calls between members as a pure state machine, for both ends: calls, requests, answers, bytes of
//! streams and time in; pieces of streams, outcomes and the next deadline out.
//!
//! A call is one bidirectional stream: a head and the request one way, replies and the answer the
//! other. What calls there are on [`Rpc`]:
//! - *inputs* are `handle_*`, and [`Rpc::peer_up`], [`Rpc::peer_down`];
//! - *commands* are verbs (`call`, `cancel`, `answer`, `refuse`, `serve`) and answer at once;
//! - *outputs* are drained with [`Rpc::poll`] after every input or command, until it gives
//!   [`Output::Idle`]; what may be large is pulled when there is room for it: pieces of streams with
//!   [`Rpc::poll_flow`], requests with [`Rpc::poll_request`], and outcomes with
//!   [`Rpc::poll_outcome`].
//!
//! Bytes are received only when there is room for them. A caller sends the first
//! [`EAGER_BYTES_MAX`](crate::wire::EAGER_BYTES_MAX) bytes of a request with its head. The callee reads
//! the head and leaves the rest in the stream until it is the request's turn and its length has been
//! reserved in the route's budget. If the request is longer than those first bytes, the callee then sends
//! `Continue`. Of an answer, the callee may send at once as many bytes as the caller has prepaid in
//! the head. The rest waits for the end of the caller's direction, by which the caller says that it
//! has reserved the length in its budget.
//!
//! Sent bytes count in the budget until they are acknowledged, since the transport keeps them until
//! then. A single unacknowledged byte keeps a whole body in memory.
//!
//! A callee that does not keep up leaves requests unread in their streams, so its memory does not
//! grow. Its callers use up their credit, and further calls fail with `Pushback`. Peers are served
//! round robin.
//!
//! The calls are in the files `peers` and `streams` (inputs), `commands`, `poll`, `flows` and `events` (outputs), and
//! `inspect`.
//!
//! Below them, `caller` has the calls of this node, `callee` the requests of its peers, and `shared` what both need.
//! `transfer` is one direction of a stream, `ledger` a budget, `room_queue` what waits for room in one, `turns` a round
//! robin of peers, and `arrivals` one that knows what came first. The module knows nothing of QUIC, sockets or clocks.
//! Invariants 8, 11, 13 to 16.

pub(crate) mod arrivals;
mod body;
mod callee;
mod caller;
mod commands;
mod credit;
mod events;
mod flows;
mod inspect;
mod ledger;
mod parts;
mod peers;
mod poll;
mod room_queue;
mod shared;
mod streams;
mod transfer;
pub(crate) mod turns;

pub use crate::send_buffer::SendBuffer;
pub use body::Body;
pub use callee::ANSWER_BYTES_KEPT;
#[cfg(feature = "driver")]
pub(crate) use caller::Manner;
pub use commands::Refusal;
pub use credit::Credit;
pub use events::{Cancelled, Outcome, Permit, Request};
pub use flows::Piece;
pub use parts::{PART_BYTES_MAX, Part, STREAM_BYTES_KEPT, Stream, StreamEvent};
pub use poll::Output;

use core::fmt;

use crate::config::{Config, ConfigError};
use crate::id::{Arrival, PeerIndex};
use crate::time::Time;
use callee::Callee;
use caller::Caller;
use shared::{SharedState, StreamOwner};
use transfer::Offer;

/// A bidirectional stream, as the transport numbers those of one connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CallStream(pub u64);

/// A call that this node has made.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CallId(pub(crate) u64);

/// A request that a peer has sent to this node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RequestId(pub(crate) u64);

/// The machine: all routes of one node, all peers, both ends.
pub struct Rpc {
    shared: SharedState,
    caller: Caller,
    callee: Callee,
    /// What was offered by the last [`Rpc::poll_flow`], and not yet written.
    offered: Option<(PeerIndex, u16, StreamOwner, Offer)>,
    now: Time,
}

impl fmt::Debug for Rpc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rpc").field("now", &self.now).finish_non_exhaustive()
    }
}

impl Rpc {
    /// A machine without peers.
    ///
    /// # Errors
    /// If the configuration is invalid.
    pub fn new(config: &Config) -> Result<Self, ConfigError> {
        config.check()?;
        Ok(Self {
            shared: SharedState::new(&config.routes),
            caller: Caller::new(&config.routes),
            callee: Callee::new(&config.routes),
            offered: None,
            now: Time::ZERO,
        })
    }

    /// Clamps `now`, so that the machine's time never goes backwards.
    pub(crate) fn clamp(&mut self, now: Time) -> Time {
        self.now = self.now.max(now);
        self.now
    }

    /// What becomes known from now on is by this input.
    #[cfg_attr(not(feature = "quic"), allow(dead_code, reason = "for nodes"))]
    pub(crate) fn begin_input(&mut self, arrival: Arrival) {
        self.callee.arrival = arrival;
    }
}
