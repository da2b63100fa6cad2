//! Calls between whole nodes in simulated subnets: real QUIC, lost datagrams, peers that stop,
//! crawl, lie or leave.

mod office;
mod simple;
