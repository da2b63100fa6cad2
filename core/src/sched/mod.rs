//! Egress: which flow may send next.
//!
//! A *flow* is what one channel or route has to send to one peer of one sort. The code that
//! composes machines numbers the flows of all of them. A machine reports a flow when the flow has
//! something more to send (`ReadyFlows`); the peer's [`Schedule`] keeps the flow until the machine
//! has nothing more. So nothing asks all flows, however many channels there are.
//!
//! [Levels](Level) are strict, except that every level below gets a small share of what the levels
//! above it send ([`Levels`]); inside a level, deficit round robin (Shreedhar and Varghese, 1996)
//! over the flows. The scheduler knows bytes and levels only.

mod ends;
mod levels;
mod quota_meter;
mod ready;
mod schedule;

pub(crate) use ends::{End, Ends};
pub use levels::{Level, Levels};
pub(crate) use quota_meter::QuotaMeter;
pub(crate) use ready::ReadyFlows;
pub use schedule::Schedule;

/// The number of bytes that a flow may send before it is the turn of the next flow of its level,
/// and that a lower level is owed before it is served out of turn.
const QUANTUM: i64 = 64 * 1024;
