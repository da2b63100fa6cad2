//! Calls between whole nodes in simulated subnets: real QUIC, lost datagrams, peers that stop,
//! crawl, lie or leave.

mod cancel;
mod crowd;
mod deaf;
mod ends;
mod full_budgets;
#[path = "../../examples/simulate/meter.rs"]
mod meter;
mod office;
mod shares;
mod simple;
mod storm;
mod unread_calls;
