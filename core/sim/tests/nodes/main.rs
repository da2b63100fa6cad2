//! Whole nodes in simulated subnets: connections, membership, restarts, broadcast over QUIC, bad
//! links, and the end. What is about keys and handshakes runs with real TLS.

mod bad_links;
mod channels;
mod connecting;
mod cut_off;
mod delivery;
mod late_binding;
mod membership;
mod overlay;
mod restart;
mod shutdown;
mod subnet;
mod windows;
