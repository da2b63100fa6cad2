//! Whole nodes in simulated subnets: connections, membership, restarts, broadcast over QUIC, bad
//! links, and the end. What is about keys and handshakes runs with real TLS.

mod bad_links;
mod channels;
mod closed;
mod connecting;
mod cut_off;
mod delivery;
mod dial_pause;
mod held_clears;
mod idle_links;
mod inert_channels;
mod late_binding;
mod late_packets;
mod membership;
mod moved_members;
mod overlay;
mod restart;
mod shutdown;
mod spreading;
mod subnet;
mod twins;
mod windows;
