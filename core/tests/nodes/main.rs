//! Whole nodes, with real TLS and virtual time: connections, membership, restarts, broadcast over
//! QUIC, bad links, and the end. `subnet` is the network that they share.

#[path = "../common/mod.rs"]
mod common;

mod bad_links;
mod channels;
mod connecting;
mod delivery;
mod late_binding;
mod membership;
mod restart;
mod shutdown;
mod subnet;
