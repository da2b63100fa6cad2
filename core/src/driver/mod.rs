//! What every adapter needs beside a socket and a timer: the loop that drives a
//! [`Node`](crate::node::Node), and the handles by which an application uses it from any thread.
//!
//! An adapter implements [`Io`] for its runtime's socket, timer and clock, calls [`start`], and
//! spawns the [`Driver`], which is a future. The loop decides nothing about the protocol: it moves
//! datagrams, commands and events, and asks the node what to do next.
//!
//! [`Io`] and with it the driver need be neither `Send` nor `'static`: thread-per-core runtimes fit.
//! The handles are `Send` and `Sync` in any case.

mod calls;
mod channel;
mod connected;
#[cfg(test)]
mod flood;
mod follow;
mod io;
mod node_handle;
mod occurrences;
mod questions;
mod run;
mod setup;
mod shared;
mod snapshots;
mod sync;
#[cfg(feature = "topology-file")]
mod topology_file;
mod udp;
mod waiters;

#[cfg(feature = "tower")]
pub use calls::Asked;
pub use calls::{
    AnswerInParts, Call, CallInParts, Member, OnlyCalls, Request, RequestParts, Requests, Route,
    RouteStats, Server, UnknownRoute,
};
pub use channel::{Channel, ChannelEvents};
pub use connected::{WaitError, Who};
pub use follow::{TopologySource, Unfollowed};
pub use io::{Io, Receive, Received};
pub use node_handle::{DriverError, NodeEvents, NodeHandle, UnknownChannel, WeakNodeHandle};
pub use occurrences::{Occurrence, Occurrences, Select, SelectError};
pub use run::{CLOSE_MAX, Driver};
pub use setup::{Setup, StartError, random_bytes, start};
#[cfg(feature = "topology-file")]
pub use topology_file::{LoadError, TOPOLOGY_POLL, TopologyFile, load_topology};
pub use udp::Udp;
